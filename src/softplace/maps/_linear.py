"""What `_linear_rows` and `_linear_columns` share, the two orders of blocks for the loss of a linear head.

Axis legend: N tokens, R tokens of a block, E width of the hidden state, V classes (the vocabulary).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from softplace.maps._arguments import wide_type

PIECE = 1 << 20
"""Entries of a weight that are converted at a time."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the loss is, and in what its products are."""

    map: str
    smoothing: float
    z_loss: float
    soft_cap: float | None
    narrow: torch.dtype
    """Of the factors of products."""

    @property
    def wide(self) -> torch.dtype:
        """Of sums."""
        return wide_type(self.narrow)

    def product(self, device: torch.device) -> torch.dtype:
        """What products are computed in: the processor's float32 is quicker than a half that it does not have."""
        return self.wide if device.type == "cpu" and not has_instructions(self.narrow) else self.narrow

    def factor(self, values: Tensor) -> Tensor:
        """Rounded as a factor of products is."""
        return values.to(self.narrow).to(self.product(values.device))


class Gradients(NamedTuple):
    """Of the sum of the losses; None where it is not wanted."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None


class Wanted(NamedTuple):
    """Which gradients."""

    hidden: bool
    weight: bool
    bias: bool


class Rows(NamedTuple):
    """Per row: the loss, and without smoothing and z-loss; (N,), wide."""

    loss: Tensor
    plain: Tensor


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Where each type is as it is given."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


@cache
def has_instructions(dtype: torch.dtype) -> bool:
    """Whether the CPU multiplies matrices of this type itself."""
    if dtype == torch.bfloat16:
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if dtype == torch.float16:
        return torch.cpu._is_amx_fp16_supported()
    return True


def pieces(matrix: Tensor, options: Options) -> Iterator[tuple[slice, Tensor]]:
    """The rows of a matrix as factors of products; where that needs a copy, some rows at a time."""
    product = options.product(matrix.device)
    if matrix.dtype == options.narrow == product:
        yield slice(None), matrix
        return
    step = max(256, PIECE // max(matrix.shape[1], 1))
    for start in range(0, matrix.shape[0], step):
        some = slice(start, start + step)
        yield some, options.factor(matrix[some])


def into(out: Tensor, seen: Tensor, matrix: Tensor) -> None:
    """`seen matrix^T`, written to `out`, which may be of a wider type."""
    if out.dtype == seen.dtype:
        torch.mm(seen, matrix.mT, out=out)
    else:
        out.copy_(seen @ matrix.mT)


def cap(scores: Tensor, most: float | None, *, slope: bool) -> Tensor | None:
    """Makes the scores `most tanh(scores / most)`, in place; returns the derivative."""
    if most is None:
        return None
    scores.div_(most).tanh_()
    made = scores.square().neg_().add_(1.0) if slope else None
    scores.mul_(most)
    return made

"""The sparse maps as operators of `torch.compile`: at the speed of the kernel, with first derivatives."""

from typing import Any

import torch
from torch import Tensor

from softplace.maps import _kernel
from softplace.maps._derivatives import pull_back


def weigh(name: str, scores: Tensor, dim: int, temperature: float, extra: Tensor | None) -> Tensor:
    """As `_kernel.run`."""

    def first(moved: Tensor, number: Tensor | None) -> Tensor:
        weights: Tensor = _weigh(name, moved, temperature, number)[0]
        return weights

    return _kernel.along_last(first, scores, dim, extra)


@torch.library.custom_op("softplace::weigh", mutates_args=())
def _weigh(name: str, scores: Tensor, temperature: float, extra: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weights along the last axis, and which rows have a score of +inf, whose limit is a constant."""
    if _kernel.fits(name, scores, -1):
        weights, edge = _kernel.forward(name, scores, extra, temperature, 0)
    else:
        from softplace.maps import sparse

        plain = getattr(sparse, f"_{name}")
        weights = plain(scores, -1, temperature, *(() if extra is None else (extra,)))
        weights = weights.clone(memory_format=torch.contiguous_format)
        edge = True
    if edge:
        return weights, (scores == torch.inf).any(-1, keepdim=True)
    return weights, torch.zeros((*scores.shape[:-1], 1), dtype=torch.bool)


@_weigh.register_fake
def _(name: str, scores: Tensor, temperature: float, extra: Tensor | None) -> tuple[Tensor, Tensor]:
    like = torch.empty_like(scores, memory_format=torch.contiguous_format)
    return like, scores.new_empty((*scores.shape[:-1], 1), dtype=torch.bool)


@torch.library.custom_op("softplace::pull", mutates_args=())
def _pull(
    name: str, weights: Tensor, gradient: Tensor, temperature: float, extra: Tensor | None, infinite: Tensor
) -> tuple[Tensor, Tensor]:
    if _kernel.fits(name, weights, -1):
        pulled, made = _kernel.backward(name, weights, gradient, extra, temperature, learned=extra is not None)
    else:
        pulled, made = pull_back(name, weights, gradient, temperature, extra)
    pulled = _kernel.without(pulled, infinite if bool(infinite.any()) else None)
    return pulled.contiguous(), pulled.new_zeros(()) if made is None else made.contiguous()


@_pull.register_fake
def _(
    name: str, weights: Tensor, gradient: Tensor, temperature: float, extra: Tensor | None, infinite: Tensor
) -> tuple[Tensor, Tensor]:
    like = torch.empty_like(weights, memory_format=torch.contiguous_format)
    return like, weights.new_empty(()) if extra is None else torch.empty_like(
        extra, memory_format=torch.contiguous_format
    )


def _remember(ctx: Any, inputs: tuple[str, Tensor, float, Tensor | None], output: tuple[Tensor, Tensor]) -> None:
    ctx.name, _, ctx.temperature, extra = inputs
    ctx.save_for_backward(*output, extra)


def _backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[None, Tensor, None, Tensor | None]:
    weights, infinite, extra = ctx.saved_tensors
    pulled, made = _pull(ctx.name, weights, gradient, ctx.temperature, extra, infinite)
    return None, pulled, None, None if extra is None else made


_weigh.register_autograd(_backward, setup_context=_remember)

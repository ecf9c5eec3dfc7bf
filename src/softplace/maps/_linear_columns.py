"""The loss of a linear head and its gradients by columns: some logits of all tokens at a time, twice.

Axis legend: N tokens, E width of the hidden state, V classes (the vocabulary).

The gradient needs the normaliser of a whole row, so that logits are computed twice: four matrix products. But a
column's gradient is the sum of one of them, so that a weight in half precision needs no copy in float32, and a process
may hold some columns alone. Only the normaliser of softmax can be found so.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from softplace.maps._linear import Gradients, Options, Rows, Wanted, cap, into

TILE = (2048, 1 << 19)
"""Rows, and entries, of a block by columns: 2 MiB in float32 stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of the rows of logits, of all columns or of some; all (N,), wide."""

    top: Tensor
    """The largest, and at least the least finite number."""
    total: Tensor
    """The sum of `exp(s - top)`."""
    own: Tensor
    """The target's; 0 where it is in another part."""
    whole: Tensor
    """The sum of all, where smoothing needs it; else 0."""

    @property
    def normaliser(self) -> Tensor:
        """`log sum exp s`."""
        return self.top + self.total.log()

    def rows(self, options: Options, size: int) -> Rows:
        """The losses, where these are the statistics of all columns."""
        logarithm, e = self.total.log(), options.smoothing
        loss = plain = (self.top - self.own) + logarithm
        if e:
            loss = (1.0 - e) * plain + e * (self.top - self.whole / size + logarithm)
        if options.z_loss:
            loss = loss + options.z_loss * self.normaliser.square()
        return Rows(loss, plain)


def statistics(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, options: Options, first: int = 0
) -> Statistics:
    """Of logits by columns; `first`: the index of the first column, where they are a part of all."""
    wide, count = options.wide, hidden.shape[0]
    seen, buffer = options.factor(hidden), _buffer(count, weight.shape[0], hidden, wide)
    top = hidden.new_full((count,), torch.finfo(wide).min, dtype=wide)
    total, own, whole = (hidden.new_zeros(count, dtype=wide) for _ in range(3))
    for columns, matrix, row in _columns_of(weight, bias, options, count):
        for some in _tiles(count):
            scores = _block(seen[some], matrix, row, buffer)
            cap(scores, options.soft_cap, slope=False)
            inside, place = _inside(target[some], first + columns.start, scores.shape[1])
            own[some] = torch.where(inside, scores.gather(-1, place).squeeze(-1), own[some])
            if options.smoothing:
                whole[some] += scores.sum(-1)
            higher = torch.maximum(top[some], scores.amax(-1))
            part = scores.sub_(higher.unsqueeze(-1)).exp_().sum(-1)
            total[some] = total[some] * (top[some] - higher).exp_() + part
            top[some] = higher
    return Statistics(top=top, total=total, own=own, whole=whole)


def gradients(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    normaliser: Tensor,
    options: Options,
    wanted: Wanted,
    scale: Tensor | None,
    first: int = 0,
    size: int | None = None,
) -> Gradients:
    """By columns, from the rows' normalisers; `first` and `size`: the first column's index, and how many there are."""
    if not any(wanted):
        return Gradients(None, None, None)
    wide, count, e = options.wide, hidden.shape[0], options.smoothing
    size = weight.shape[0] if size is None else size
    seen, buffer = options.factor(hidden), _buffer(count, weight.shape[0], hidden, wide)
    of_hidden = hidden.new_zeros(hidden.shape, dtype=wide) if wanted.hidden else None
    of_weight = torch.empty_like(weight, memory_format=torch.contiguous_format) if wanted.weight else None
    of_bias = torch.empty_like(bias) if wanted.bias and bias is not None else None
    for columns, matrix, row in _columns_of(weight, bias, options, count):
        of_matrix = torch.zeros_like(matrix, dtype=wide) if of_weight is not None else None
        of_row = matrix.new_zeros(matrix.shape[0], dtype=wide) if of_bias is not None else None
        for some in _tiles(count):
            scores = _block(seen[some], matrix, row, buffer)
            slope = cap(scores, options.soft_cap, slope=True)
            shares = scores.sub_(normaliser[some].unsqueeze(-1)).exp_()
            if options.z_loss:
                shares.mul_((1.0 + 2.0 * options.z_loss * normaliser[some]).unsqueeze(-1))
            inside, place = _inside(target[some], first + columns.start, shares.shape[1])
            shares.scatter_add_(-1, place, inside.to(wide).mul_(e - 1.0).unsqueeze(-1))
            if e:
                shares.sub_(e / size)
            if slope is not None:
                shares.mul_(slope)
            if scale is not None:
                shares.mul_(scale if scale.dim() == 0 else scale[some].unsqueeze(-1))
            if of_row is not None:
                of_row.add_(shares.sum(0))
            shares = shares.to(seen.dtype)
            if of_hidden is not None:
                _plus(of_hidden[some], shares, matrix)
            if of_matrix is not None:
                _plus(of_matrix, shares.mT, seen[some])
        if of_weight is not None and of_matrix is not None:
            of_weight[columns] = of_matrix
        if of_bias is not None and of_row is not None:
            of_bias[columns] = of_row
    return Gradients(None if of_hidden is None else of_hidden.to(hidden.dtype), of_weight, of_bias)


def _columns_of(
    weight: Tensor, bias: Tensor | None, options: Options, count: int
) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
    """Blocks of columns, with their weights as factors and their biases."""
    step = _width_of_block(count)
    for start in range(0, weight.shape[0], step):
        columns = slice(start, min(start + step, weight.shape[0]))
        row = None if bias is None else bias[columns].to(options.narrow).to(options.wide)
        yield columns, options.factor(weight[columns]), row


def _width_of_block(count: int) -> int:
    return max(256, min(8192, TILE[1] // max(min(count, TILE[0]), 1)))


def _buffer(count: int, size: int, like: Tensor, wide: torch.dtype) -> Tensor:
    """For one block by columns."""
    return like.new_empty(min(count, TILE[0]) * min(size, _width_of_block(count)), dtype=wide)


def _tiles(count: int) -> Iterator[slice]:
    for start in range(0, count, TILE[0]):
        yield slice(start, min(start + TILE[0], count))


def _block(seen: Tensor, matrix: Tensor, row: Tensor | None, buffer: Tensor) -> Tensor:
    """Logits in the memory of the buffer."""
    rows, columns = seen.shape[0], matrix.shape[0]
    scores = buffer[: rows * columns].view(rows, columns)
    into(scores, seen, matrix)
    return scores if row is None else scores.add_(row)


def _plus(total: Tensor, shares: Tensor, matrix: Tensor) -> None:
    """`total += shares matrix`."""
    if total.dtype == matrix.dtype:
        total.addmm_(shares, matrix)
    else:
        total.add_(shares @ matrix)


def _inside(target: Tensor, first: int, size: int) -> tuple[Tensor, Tensor]:
    """Which targets are among these columns, (N,), and where, (N, 1), any place for the others."""
    place = target - first
    return (place >= 0) & (place < size), place.clamp(0, size - 1).unsqueeze(-1)

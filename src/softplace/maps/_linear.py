"""The loss of a linear head and its gradients, by blocks: at no time are all logits in memory.

Axis legend: N tokens, E width of the hidden state, V classes (the vocabulary).

Two orders. By rows: all logits of some tokens, from which the loss, any map and the gradients follow at once; three
matrix products, as the plain formula has. By columns: some logits of all tokens, twice, as the gradient needs the
normaliser of a whole row; four products, but a column's gradient is summed in one of them, so that a weight in half
precision needs no copy in float32. Only the normaliser of softmax can be found by columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from softplace.maps._arguments import can_look, wide_type
from softplace.maps.simplex import softmax
from softplace.maps.sparse import entmax15, sparsemax

MAPS = {"softmax": softmax, "sparsemax": sparsemax, "entmax15": entmax15}
BLOCK_BYTES = 24 << 20
"""Of a block by rows, where that is not too few or too many rows."""
ROWS = (128, 512)
"""At least and at most in a block on a CPU: fewer make a matrix product slow, more leave the processor's cache."""
DEVICE_ROWS = 1024
"""In a block by rows on another device."""
TILE = (2048, 1 << 19)
"""Rows, and entries, of a block by columns: 2 MiB in float32 stay in the processor's cache."""

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


@cache
def has_instructions(dtype: torch.dtype) -> bool:
    """Whether the CPU multiplies matrices of this type itself."""
    if dtype == torch.bfloat16:
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if dtype == torch.float16:
        return torch.cpu._is_amx_fp16_supported()
    return True


def losses(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    options: Options,
    wanted: Wanted,
    scale: Tensor | None = None,
) -> tuple[Rows, Gradients]:
    """Of rows that all count.

    Args:
        hidden: (N, E).
        weight: (V, E), V at least 1.
        bias: (V,) or None.
        target: Class indices (N,), or distributions (N, V).
        options: What the loss is.
        wanted: Which gradients to compute.
        scale: How much each row counts in the gradients, (N,) wide; or one number ().
    """
    half = options.narrow != options.wide and hidden.is_cpu
    if half and options.map == "softmax" and not target.is_floating_point():
        found = statistics(hidden, weight, bias, target, options)
        if not can_look(found.total) or bool(found.normaliser.isfinite().all()):
            made = gradients(hidden, weight, bias, target, found.normaliser, options, wanted, scale)
            return found.rows(options, weight.shape[0]), made
    return by_rows(hidden, weight, bias, target, options, wanted, scale)


def by_rows(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    options: Options,
    wanted: Wanted,
    scale: Tensor | None,
) -> tuple[Rows, Gradients]:
    """As `losses`, some rows at a time."""
    count, wide = hidden.shape[0], options.wide
    size = weight.shape[0]
    step = rows_of_block(size, wide, hidden.device, options.soft_cap is not None)
    buffer = hidden.new_empty(min(step, count), size, dtype=wide)
    loss, plain = (hidden.new_empty(count, dtype=wide) for _ in range(2))
    of_hidden = torch.empty_like(hidden, memory_format=torch.contiguous_format) if wanted.hidden else None
    of_weight = torch.zeros_like(weight, dtype=wide, memory_format=torch.contiguous_format) if wanted.weight else None
    of_bias = hidden.new_zeros(size, dtype=wide) if wanted.bias else None
    row = None if bias is None else bias.to(options.narrow).to(wide)
    uniform = scale if scale is not None and scale.dim() == 0 else None
    for start in range(0, count, step):
        some = slice(start, min(start + step, count))
        seen = options.factor(hidden[some])
        scores = _logits(seen, weight, row, options, buffer[: seen.shape[0]])
        slope = _cap(scores, options.soft_cap, slope=any(wanted))
        found, shares, columns = _row_losses(scores, target[some], options, learns=any(wanted))
        loss[some], plain[some] = found
        if not any(wanted):
            continue
        if slope is not None:
            shares.mul_(slope if columns is None else slope.index_select(1, columns))
        if scale is not None and uniform is None:
            shares.mul_(scale[some].unsqueeze(-1))
        _add(of_bias, columns, shares)
        matrix = weight if columns is None else weight.index_select(0, columns)
        if of_hidden is not None:
            made = _product(shares, matrix, options)
            of_hidden[some] = made if uniform is None else made.mul_(uniform)
        if of_weight is not None:
            _accumulate(of_weight, columns, shares, seen, options)
    if uniform is not None:
        for each in (of_weight, of_bias):
            if each is not None:
                each.mul_(uniform)
    return Rows(loss, plain), Gradients(
        of_hidden,
        None if of_weight is None else of_weight.to(weight.dtype),
        None if of_bias is None or bias is None else of_bias.to(bias.dtype),
    )


def rows_of_block(size: int, wide: torch.dtype, device: torch.device, twice: bool) -> int:
    """How many rows a block has; `twice`: it is held twice."""
    if device.type != "cpu":
        return DEVICE_ROWS
    fit = BLOCK_BYTES // (max(size, 1) * wide.itemsize * (2 if twice else 1))
    least, most = ROWS
    return max(least, min(most, fit // 64 * 64))


def _logits(seen: Tensor, weight: Tensor, row: Tensor | None, options: Options, out: Tensor) -> Tensor:
    """(R, V), wide, written to `out`."""
    for columns, matrix in _pieces(weight, options):
        _into(out[:, columns], seen, matrix)
    return out if row is None else out.add_(row)


def _pieces(matrix: Tensor, options: Options) -> Iterator[tuple[slice, Tensor]]:
    """The rows of a matrix as factors of products; where that needs a copy, some rows at a time."""
    product = options.product(matrix.device)
    if matrix.dtype == options.narrow == product:
        yield slice(None), matrix
        return
    step = max(256, PIECE // max(matrix.shape[1], 1))
    for start in range(0, matrix.shape[0], step):
        some = slice(start, start + step)
        yield some, options.factor(matrix[some])


def _into(out: Tensor, seen: Tensor, matrix: Tensor) -> None:
    """`seen matrix^T`, written to `out`, which may be of a wider type."""
    if out.dtype == seen.dtype:
        torch.mm(seen, matrix.mT, out=out)
    else:
        out.copy_(seen @ matrix.mT)


def _product(shares: Tensor, weight: Tensor, options: Options) -> Tensor:
    """`shares weight`, summed in the wide type."""
    total: Tensor | None = None
    for columns, matrix in _pieces(weight, options):
        made = shares[:, columns].to(matrix.dtype) @ matrix
        total = made.to(options.wide) if total is None else total.add_(made)
    return shares.new_zeros(shares.shape[0], weight.shape[1]) if total is None else total


def _accumulate(total: Tensor, columns: Tensor | None, shares: Tensor, seen: Tensor, options: Options) -> None:
    """`total += shares^T seen`."""
    if columns is not None:
        total.index_add_(0, columns, (shares.to(seen.dtype).mT @ seen).to(total.dtype))
    elif seen.dtype == total.dtype:
        total.addmm_(shares.mT, seen)
    else:
        step = max(256, PIECE // max(total.shape[1], 1))
        for start in range(0, total.shape[0], step):
            some = slice(start, start + step)
            total[some] += shares[:, some].to(seen.dtype).mT @ seen


def _add(total: Tensor | None, columns: Tensor | None, shares: Tensor) -> None:
    """`total += shares` summed over rows."""
    if total is not None:
        made = shares.sum(0)
        if columns is None:
            total.add_(made)
        else:
            total.index_add_(0, columns, made)


def _cap(scores: Tensor, cap: float | None, *, slope: bool) -> Tensor | None:
    """Makes the scores `cap tanh(scores / cap)`, in place; returns the derivative."""
    if cap is None:
        return None
    scores.div_(cap).tanh_()
    made = scores.square().neg_().add_(1.0) if slope else None
    scores.mul_(cap)
    return made


def _row_losses(
    scores: Tensor, target: Tensor, options: Options, *, learns: bool
) -> tuple[Rows, Tensor, Tensor | None]:
    """The losses of rows, and the gradients of the scores, in the memory of the scores.

    With `O*(s) = max_p <p, s> - O(p)` the loss is `O*(s) + O(y) - <y, s>`; O is as in `losses.py`, and O(y) of softmax
    is left out, so that it is the cross-entropy. O* follows from the largest score, the largest weight, and for the
    sparse maps a sum of powers of the weights.

    Returns:
        The losses; the gradients; which columns these are (None: all): those in which a weight is not 0.
    """
    size, e = scores.shape[-1], options.smoothing
    top = scores.amax(-1)
    soft = target.is_floating_point()
    if soft:
        y = target.to(scores.dtype)
        gaps = top.unsqueeze(-1) - scores
        own = torch.where(y == 0.0, 0.0, gaps.mul_(y)).sum(-1)
        mass = _powers(y, options.map)
    else:
        answer = target.unsqueeze(-1)
        given = scores.gather(-1, answer).squeeze(-1)
        own = torch.where(given == top, 0.0, top - given)  # not inf - inf
        own = torch.where(given.isnan(), given, own)
        mass = torch.ones_like(own)
    spread = top - scores.mean(-1) if e else own
    weights = MAPS[options.map](scores, out=scores)
    largest = weights.amax(-1)
    columns = None
    if options.map != "softmax":
        columns = _columns(weights, None if soft or e else answer)
        if columns is not None:
            weights = weights.index_select(1, columns)
    conjugate = _conjugate(options.map, largest, weights)
    plain = own + conjugate + _entropy(options.map, mass)
    loss = plain
    if e:
        if soft:
            mass = _powers((1.0 - e) * y + e / size, options.map)
        else:
            even = (size - 1) * (e / size) ** _power(options.map)
            mass = torch.full_like(own, (1.0 - e + e / size) ** _power(options.map) + even)
        loss = (1.0 - e) * own + e * spread + conjugate + _entropy(options.map, mass)
    if options.z_loss:
        normaliser = top + conjugate
        loss = loss + options.z_loss * normaliser.square()
    if options.map != "softmax":
        loss, plain = loss.clamp(min=0.0), plain.clamp(min=0.0)  # never negative but by rounding
    if not learns:
        return Rows(loss, plain), weights, columns
    if options.z_loss:
        weights.mul_((1.0 + 2.0 * options.z_loss * normaliser).unsqueeze(-1))
    if soft:
        weights.sub_(y, alpha=1.0 - e)
    else:
        place = answer if columns is None else torch.searchsorted(columns, answer)
        weights.scatter_add_(-1, place, weights.new_full(place.shape, e - 1.0))
    if e:
        weights.sub_(e / size)
    if options.map == "softmax":
        endless = own.isinf()
        if not can_look(own) or bool(endless.any()):
            weights.masked_fill_(endless.unsqueeze(-1), 0.0)
    return Rows(loss, plain), weights, columns


def _power(name: str) -> float:
    """The power of the weights in the map's negative entropy."""
    return {"softmax": 1.0, "sparsemax": 2.0, "entmax15": 1.5}[name]


def _powers(weights: Tensor, name: str) -> Tensor:
    """Per row the sum of powers of the weights."""
    if name == "softmax":
        return weights.sum(-1)
    some = torch.split(weights, 32)  # the memory of few rows
    if name == "sparsemax":
        return torch.cat([each.square().sum(-1) for each in some])
    return torch.cat([(each * each.sqrt()).sum(-1) for each in some])


def _conjugate(name: str, largest: Tensor, weights: Tensor) -> Tensor:
    """`O*(s) - max s`."""
    if name == "softmax":
        return 0.0 - largest.log()
    mass = _powers(weights, name)
    if name == "sparsemax":
        return 0.5 - largest + 0.5 * mass
    return (4.0 + 2.0 * mass) / 3.0 - 2.0 * largest.sqrt()


def _entropy(name: str, mass: Tensor) -> Tensor | float:
    """`O(y)` of the sum of powers, 0 of a one-hot; left out of softmax."""
    if name == "softmax":
        return 0.0
    power = _power(name)
    return (mass - 1.0) / (power * (power - 1.0))


def _columns(weights: Tensor, answer: Tensor | None) -> Tensor | None:
    """Which columns matter; None where that are most, or the target is everywhere."""
    if answer is None or not can_look(weights):
        return None
    used = weights.amax(0) != 0.0  # NaN too
    used[answer.flatten()] = True
    columns = used.nonzero().squeeze(-1)
    return columns if 2 * columns.shape[0] < weights.shape[1] else None


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
            _cap(scores, options.soft_cap, slope=False)
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
            slope = _cap(scores, options.soft_cap, slope=True)
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
    _into(scores, seen, matrix)
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

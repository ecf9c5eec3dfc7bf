"""The loss of a linear head and its gradients by rows: all logits of some tokens at a time.

Axis legend: N tokens, R tokens of a block, E width of the hidden state, V classes (the vocabulary).

From all logits of a token the loss, any map and the gradients follow at once: three matrix products, as the plain
formula has.
"""

import torch
from torch import Tensor

from softplace.maps._arguments import can_look
from softplace.maps._linear import PIECE, Gradients, Options, Rows, Wanted, cap, into, pieces
from softplace.maps.simplex import softmax
from softplace.maps.sparse import entmax15, sparsemax

MAPS = {"softmax": softmax, "sparsemax": sparsemax, "entmax15": entmax15}
BLOCK_BYTES = 24 << 20
"""Of a block, where that is not too few or too many rows."""
WEIGHT_SHARE = 3 / 8
"""Of the weight's gradient, which is in memory as well, a block may always have."""
ROWS = (192, 512)
"""At least and at most in a block on a CPU: fewer make a matrix product slow, more leave the processor's cache."""
DEVICE_ROWS = 1024
"""In a block by rows on another device."""


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
    step = rows_of_block(weight, wide, twice=options.soft_cap is not None)
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
        slope = cap(scores, options.soft_cap, slope=any(wanted))
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


def rows_of_block(weight: Tensor, wide: torch.dtype, *, twice: bool) -> int:
    """How many rows a block has; `twice`: it is held twice."""
    if weight.device.type != "cpu":
        return DEVICE_ROWS
    size, width = weight.shape
    fit = max(BLOCK_BYTES // (max(size, 1) * wide.itemsize), int(WEIGHT_SHARE * width)) // (2 if twice else 1)
    least, most = ROWS
    return max(least, min(most, fit // 64 * 64))


def _logits(seen: Tensor, weight: Tensor, row: Tensor | None, options: Options, out: Tensor) -> Tensor:
    """(R, V), wide, written to `out`."""
    for columns, matrix in pieces(weight, options):
        into(out[:, columns], seen, matrix)
    return out if row is None else out.add_(row)


def _product(shares: Tensor, weight: Tensor, options: Options) -> Tensor:
    """`shares weight`, summed in the wide type."""
    total: Tensor | None = None
    for columns, matrix in pieces(weight, options):
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
    spread = torch.where(top == torch.inf, top, top - scores.mean(-1)) if e else own  # not inf - inf
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

"""Sinkhorn's map: weights whose rows and columns both have fixed sums.

Axis legend: `dim` is the axis of the scores whose sums are 1, `other_dim` the other axis; the rest are batch axes.
"""

import math
from contextlib import nullcontext

import torch
from torch import Tensor

from softplace.maps._arguments import can_look, centred, kind, masked, prepare

# The most steps (some ten suffice for scores of an ordinary range); the range of logits that needs no
# scaling; and the least scale.
_SCALINGS, _EASY_SPAN, _LEAST_SCALE = 80, 4.0, 1e-6


def sinkhorn(
    scores: Tensor,
    dim: int = -1,
    *,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    other_dim: int | None = None,
    iterations: int | None = None,
) -> Tensor:
    """Sinkhorn's scaling, `p_ij = exp(s_ij / t + u_i + v_j)` with u and v such that rows and columns have equal sums.

    Along `dim` the weights sum to 1, along `other_dim` to the number of rows over that of columns: a square matrix
    becomes doubly stochastic. Rows and columns in which nothing takes part are zero and do not count.

    Args:
        other_dim: The axis that numbers the rows. By default (`None`) -2, or -1 where `dim` is that axis.
        iterations: Divide by the column sums and then by the row sums this often, and differentiate just that. By
            default (`None`) the scaling is found to rounding, by Newton's method on v, or by dividing where that is
            nearer; two more of its steps are differentiable, which makes the derivatives those of the exact scaling.

    Other Args, Returns and Raises: as `softmax`; also TypeError and ValueError for `other_dim` and `iterations`. Where
    what takes part admits no such matrix (three rows that share their only column), the rows still sum to 1. In a row
    with +inf only such entries take part. NaN makes its whole matrix NaN.

    Source: Sinkhorn 1964; as a map Mena et al. 2018 (arXiv:1802.08665), who start with the rows and stop early.

    >>> import torch
    >>> [[round(weight, 3) for weight in row] for row in sinkhorn(torch.tensor([[2.0, 1.0], [0.0, 1.0]])).tolist()]
    [[0.731, 0.269], [0.269, 0.731]]
    """
    scores, dim, mask = prepare("sinkhorn", scores, dim, mask, temperature)
    axis = _check_sinkhorn(scores, dim, other_dim, iterations)
    if scores.numel() == 0:
        return scores.clone()
    inside = masked(scores, mask).movedim((axis, dim), (-2, -1))
    difference, alive = centred(inside, -1, temperature)
    unknown = difference.detach().isnan().any(-1, keepdim=True).any(-2, keepdim=True)
    # So low that the weight is 0, and so far from overflow that a potential can be added.
    lowest = torch.finfo(difference.dtype).min / 4
    part = (difference > lowest) & ~unknown
    part = part if alive is None else part & alive
    logits = torch.where(part, difference, lowest)
    if iterations is None:
        weights = _exact_scaling(logits, part)
    else:
        # What centring took away: it does not change the limit of the iterations, but each of them. What is infinite
        # counts as the largest.
        top = inside.detach().amax(-1, keepdim=True).to(logits.dtype)
        largest = torch.where(top.isfinite(), top, lowest).amax(-2, keepdim=True)
        start = torch.where(top.isfinite(), top - largest, 0.0) / temperature
        weights = _repeated_scaling(logits, part, start, iterations)
    return torch.where(unknown, math.nan, weights).movedim((-2, -1), (axis, dim)).to(scores.dtype)


def _check_sinkhorn(scores: Tensor, dim: int, other_dim: int | None, iterations: int | None) -> int:
    """The axis of the rows, counted from the end."""
    axes = scores.dim()
    if axes < 2:
        raise ValueError(
            f"'scores' of sinkhorn must have rows and columns. Got the shape {tuple(scores.shape)}. Use softmax."
        )
    if other_dim is None:
        other_dim = -1 if dim == -2 else -2
    if not isinstance(other_dim, int) or isinstance(other_dim, bool):
        raise TypeError(f"'other_dim' of sinkhorn must be an integer or None. Got {kind(other_dim)}. Use None.")
    if not -axes <= other_dim < axes or (other_dim - dim) % axes == 0:
        raise ValueError(
            f"'other_dim' of sinkhorn must lie in [{-axes}, {axes - 1}] and differ from 'dim'. Got {other_dim}. "
            "Use None."
        )
    if iterations is not None and (not isinstance(iterations, int) or isinstance(iterations, bool)):
        raise TypeError(f"'iterations' of sinkhorn must be an integer or None. Got {kind(iterations)}. Use None.")
    if iterations is not None and iterations < 1:
        raise ValueError(f"'iterations' of sinkhorn must be at least 1. Got {iterations}. Use None for convergence.")
    return other_dim if other_dim < 0 else other_dim - axes


def _repeated_scaling(logits: Tensor, part: Tensor, ours: Tensor, iterations: int) -> Tensor:
    """The weights after so many iterations, from the potentials `ours` of the rows."""
    rows, columns = part.any(-1, keepdim=True), part.any(-2, keepdim=True)
    theirs = torch.zeros_like(logits[..., :1, :])
    for _ in range(iterations):
        theirs = torch.where(columns, -(logits + ours).logsumexp(-2, keepdim=True), 0.0)
        ours = torch.where(rows, -(logits + theirs).logsumexp(-1, keepdim=True), 0.0)
    return _rows_of_one(logits, part, theirs)


def _rows_of_one(logits: Tensor, part: Tensor, theirs: Tensor) -> Tensor:
    """The weights when the columns have the potentials `theirs` and each row is divided by its sum."""
    return torch.where(part, torch.softmax(logits + theirs, -1), 0.0)


def _exact_scaling(logits: Tensor, part: Tensor) -> Tensor:
    theirs = _column_potentials(logits.detach(), part)
    target, ridge = _column_sums(part, logits.dtype), _ridge(logits)
    for _ in range(2):
        theirs = _newton(_rows_of_one(logits, part, theirs), theirs, target, ridge)
    return _rows_of_one(logits, part, theirs)


def _column_sums(part: Tensor, dtype: torch.dtype) -> Tensor:
    """The sums that the columns should have, of shape (..., 1, columns)."""
    rows, columns = part.any(-1, keepdim=True), part.any(-2, keepdim=True)
    return torch.where(columns, rows.sum(-2, keepdim=True).to(dtype) / columns.sum(-1, keepdim=True), 0.0)


def _ridge(logits: Tensor) -> Tensor:
    """Moving all potentials of a block alike changes nothing, so Newton's matrix is singular; this makes it regular."""
    size: float = torch.finfo(logits.dtype).eps ** 0.75
    return size * torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device)


def _newton(weights: Tensor, theirs: Tensor, target: Tensor, ridge: Tensor) -> Tensor:
    """The columns' potentials after a step towards the column sums `target`."""
    sums = weights.sum(-2)
    # Autocast would round the product; there is none to switch off on the meta device.
    device = weights.device.type
    with nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
        # As large as the sums are: of many rows, a smaller one is lost in their rounding.
        size = sums.detach().amax(-1)[..., None, None].clamp(min=1.0)
        slopes = torch.diag_embed(sums) - weights.mT @ weights + ridge * size
    step = torch.linalg.solve_ex(slopes, sums.unsqueeze(-1) - target.mT)[0]
    moved: Tensor = theirs - step.mT
    return moved


@torch.library.custom_op("softplace::column_potentials", mutates_args=())
def _column_potentials(logits: Tensor, part: Tensor) -> Tensor:
    """The columns' potentials at which rows divided by their sums have the right column sums.

    Newton's method loses its way where the weights are near 0 and 1. So logits of a large range are first scaled down,
    and up again step by step, with the potentials.
    """
    target, ridge = _column_sums(part, logits.dtype), _ridge(logits)
    rounding = torch.finfo(logits.dtype).eps

    def excess(scaled: Tensor, theirs: Tensor) -> Tensor:
        return (_rows_of_one(scaled, part, theirs).sum(-2, keepdim=True) - target).abs()

    span = torch.where(part, -logits, 0.0).amax(-1, keepdim=True).amax(-2, keepdim=True)
    scale = (_EASY_SPAN / span.clamp(min=_EASY_SPAN)).clamp(min=_LEAST_SCALE)
    theirs = torch.zeros_like(logits[..., :1, :])
    for step in range(_SCALINGS):
        scaled = logits * scale
        weights = _rows_of_one(scaled, part, theirs)
        sums = weights.sum(-2, keepdim=True)
        if can_look(logits) and bool((((sums - target).abs() <= 4 * rounding * target) & (scale == 1.0)).all()):
            break
        divided = theirs - torch.where(target > 0, sums.clamp(min=rounding) / target, 1.0).log()
        solved = _newton(weights, theirs, target, ridge)
        nearer = excess(scaled, solved).amax(-1, keepdim=True) < excess(scaled, divided).amax(-1, keepdim=True)
        growth = torch.minimum(torch.full_like(scale, 1.5 if step < _SCALINGS - 20 else math.inf), 1 / scale)
        theirs, scale = torch.where(nearer, solved, divided) * growth, scale * growth
    return theirs


@_column_potentials.register_fake
def _(logits: Tensor, part: Tensor) -> Tensor:
    return torch.empty_like(logits[..., :1, :])


@_column_potentials.register_vmap
def _(info: object, in_dims: tuple[int | None, int | None], logits: Tensor, part: Tensor) -> tuple[Tensor, int]:
    first, second = (
        each.unsqueeze(0) if axis is None else each.movedim(axis, 0)
        for each, axis in zip((logits, part), in_dims, strict=True)
    )
    size = max(first.shape[0], second.shape[0])
    return _column_potentials(first.expand(size, *first.shape[1:]), second.expand(size, *second.shape[1:])), 0

"""Maps that select: the largest, the k largest, a subset of k, a matching. And `uniform`, which selects nothing.

Axis legend: `dim` is the axis of the scores; every other axis is a batch axis (of `sinkhorn`: all but `other_dim`).
"""

import math
from contextlib import nullcontext

import torch
from torch import Tensor

from softplace.maps._arguments import at_least, can_look, centred, kind, masked, prepare, wide_type
from softplace.maps.simplex import softmax

# Of `sinkhorn`: its most steps (some ten suffice for scores of an ordinary range); the range of logits that needs no
# scaling; and the least scale.
_SCALINGS, _EASY_SPAN, _LEAST_SCALE = 80, 4.0, 1e-6


def topk_softmax(
    scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0, k: int = 2
) -> Tensor:
    """Softmax of the k largest scores, `p_i = exp(s_i / t) / sum_(j in top k) exp(s_j / t)`; the others get 0.

    Of equal scores the earlier goes first. Where fewer than k take part, all of them are chosen. The gradient reaches
    the chosen scores only.

    Args:
        k: How many are chosen, from 1 to the size of the axis.

    Other Args, Returns and Raises: as `softmax`; also TypeError and ValueError for `k`.

    Source: Shazeer et al. 2017 (arXiv:1701.06538), eq. 3 and 5, without their noise.

    >>> import torch
    >>> [round(weight, 3) for weight in topk_softmax(torch.tensor([3.00, 2.0, 1.00, 0.10])).tolist()]
    [0.731, 0.269, 0.0, 0.0]
    """
    scores, dim, mask = prepare("topk_softmax", scores, dim, mask, temperature)
    _check_k("topk_softmax", k, scores, dim)
    if scores.numel() == 0:
        return scores.clone()
    inside = masked(scores, mask)
    values = inside.detach()
    least = values.topk(k, dim).values.amin(dim, keepdim=True)
    above, level = values > least, values == least
    chosen = above | (level & (level.cumsum(dim) <= k - above.sum(dim, keepdim=True)))
    # NaN is neither above nor level, but its row has to become NaN as a whole.
    chosen = chosen | values.isnan().any(dim, keepdim=True)
    return softmax(inside, dim, mask=chosen, temperature=temperature)


def hardmax(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """One for the largest score and 0 for the others, the limit of softmax as the temperature falls to 0.

    Equal largest scores share the weight equally. The gradient is zero. Args, Returns and Raises: as `softmax`; the
    temperature is checked, but divides all scores alike, so it changes nothing.

    >>> import torch
    >>> hardmax(torch.tensor([3.00, 2.0, 3.00, 0.10])).tolist()
    [0.5, 0.0, 0.5, 0.0]
    """
    scores, dim, mask = prepare("hardmax", scores, dim, mask, temperature)
    if scores.numel() == 0:
        return scores.clone()
    values = masked(scores.detach(), mask)
    top = values.amax(dim, keepdim=True)
    return _equal_shares(scores, (values == top) & (top != -math.inf), top.isnan(), dim)


def uniform(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """The same weight for all, `p_i = 1 / n`, where n counts those that take part: the baseline without a choice.

    The scores' values do not matter, so neither does the temperature, which is only checked; but -inf takes no part,
    +inf leaves no part to the others, and NaN makes its row NaN, as in every map of the simplex. The gradient is zero.
    Args, Returns and Raises: as `softmax`.

    >>> import torch
    >>> uniform(torch.tensor([3.00, 2.0, 1.00, 0.10])).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    scores, dim, mask = prepare("uniform", scores, dim, mask, temperature)
    if scores.numel() == 0:
        return scores.clone()
    values = masked(scores.detach(), mask)
    top = values.amax(dim, keepdim=True)
    share = torch.where(top == math.inf, values == math.inf, values != -math.inf)
    return _equal_shares(scores, share, top.isnan(), dim)


def _equal_shares(scores: Tensor, share: Tensor, unknown: Tensor, dim: int) -> Tensor:
    """One over their number for those that share, NaN in unknown rows; of the scores' dtype and in their graph."""
    parts = share.to(wide_type(scores.dtype))
    weights = torch.where(unknown, math.nan, parts / parts.sum(dim, keepdim=True).clamp(min=1.0)).to(scores.dtype)
    # A choice that is never taken: so the gradient is zero, and asking for it is not an error.
    return torch.where(torch.ones((), dtype=torch.bool, device=scores.device), weights, scores)


def k_subset(
    scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0, k: int = 2
) -> Tensor:
    """The nearest weights between 0 and 1 that sum to k, `p_i = clip(s_i / t - tau, 0, 1)` with `sum_i p_i = k`.

    Where no more than k take part, each gets 1. With k = 1 it is sparsemax.

    Args:
        k: The sum of the weights, an integer from 1 to the size of the axis.

    Other Args, Returns and Raises: as `softmax`; also TypeError and ValueError for `k`. A score of +inf gets 1 and
    leaves k - 1 to the others; more than k of them share k equally.

    The threshold tau lies at most 1 below the k-th largest score, which the scores are centred on: a larger one may be
    any number, infinity too. It is found by Newton's method in turn with bisection, and at last in closed form.

    Source: Santos et al. 2024 (arXiv:2402.13725) for k-subsets; `budget_bisect` of the package entmax.

    >>> import torch
    >>> [round(weight, 3) for weight in k_subset(torch.tensor([3.00, 2.0, 1.50, 0.10])).tolist()]
    [1.0, 0.75, 0.25, 0.0]
    """
    scores, dim, mask = prepare("k_subset", scores, dim, mask, temperature)
    _check_k("k_subset", k, scores, dim)
    if scores.numel() == 0:
        return scores.clone()
    wide = masked(scores.to(wide_type(scores.dtype)), mask)
    values = wide.detach()
    numbers = torch.finfo(wide.dtype)
    middle = values.topk(k, dim).values.amin(dim, keepdim=True)
    # In a row with k scores of +inf, these become 0 and the others the lowest number; so does one with less than k.
    finite = middle.clamp(min=numbers.min, max=numbers.max)
    bounded = ((wide.clamp(min=numbers.min) - finite) / temperature).clamp(-2.0, 2.0)
    bounded = torch.where((wide == math.inf) & (middle == math.inf), 0.0, bounded)
    threshold = _subset_threshold(bounded.detach(), dim, k)
    above = bounded.detach() - threshold
    inner, full = (above > 0.0) & (above < 1.0), above >= 1.0
    # On a fixed set of inner weights this is the exact threshold; where there are none, there is no gradient.
    count = inner.sum(dim, keepdim=True)
    total = torch.where(inner, bounded, 0.0).sum(dim, keepdim=True)
    exact = (total + (full.sum(dim, keepdim=True) - k)) / count.clamp(min=1)
    weights = torch.where(inner, (bounded - exact).clamp(0.0, 1.0), full.to(wide.dtype))
    weights = torch.where(middle == -math.inf, (values != -math.inf).to(wide.dtype), weights)
    return torch.where(values.isnan().any(dim, keepdim=True), math.nan, weights).to(scores.dtype)


# One operator to the compiler, which would unroll a hundred steps. What it finds has no gradient, so it needs none.
@torch.library.custom_op("softplace::subset_threshold", mutates_args=())
def _subset_threshold(values: Tensor, dim: int, k: int) -> Tensor:
    """The tau in [-1, 0] at which `clip(values - tau, 0, 1)` sums to k; the k-th largest value is 0."""
    rounding = torch.finfo(values.dtype).eps
    low = torch.full_like(values.amax(dim, keepdim=True), -1.0)
    high = torch.zeros_like(low)
    threshold = low
    # A bisection in every second step halves the bracket; in the last linear piece Newton's step is exact.
    for step in range(2 - 2 * round(math.log2(rounding))):
        above = values - threshold
        inner, full = (above > 0.0) & (above < 1.0), above >= 1.0
        # Whole numbers apart: they would round the few inner weights away.
        excess = torch.where(inner, above, 0.0).sum(dim, keepdim=True) + (full.sum(dim, keepdim=True) - k)
        low, high = torch.where(excess >= 0, threshold, low), torch.where(excess <= 0, threshold, high)
        newton = threshold + excess / inner.sum(dim, keepdim=True).clamp(min=1)
        if can_look(values) and not bool(((newton - threshold).abs() > rounding).any()):
            break
        inside = (newton > low) & (newton < high)
        threshold = torch.where(inside, newton, (low + high) / 2) if step % 2 == 0 else (low + high) / 2
        threshold = torch.where(low == high, low, threshold)
    return threshold


@_subset_threshold.register_fake
def _(values: Tensor, dim: int, k: int) -> Tensor:
    return values.sum(dim, keepdim=True)


@_subset_threshold.register_vmap
def _(info: object, in_dims: tuple[int, None, None], values: Tensor, dim: int, k: int) -> tuple[Tensor, int]:
    return _subset_threshold(values.movedim(in_dims[0], 0), dim, k), 0


def normmax(
    scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0, alpha: float = 2.0
) -> Tensor:
    """Normmax, the point p of the simplex with the largest `p . s / t - ||p||_alpha`.

    It is `p = u / sum(u)` with `u_i = max(s_i / t - tau, 0)^(1 / (alpha - 1))`, where tau makes the alpha-norm of u 1.
    Sparse; the smaller alpha, the nearer to hardmax; weights in the support become alike as alpha grows.

    Args:
        alpha: The order of the norm, above 1 and finite.

    Other Args, Returns and Raises: as `softmax`; also TypeError and ValueError for `alpha`.

    With v = max(s / t - tau, 0) and q = alpha / (alpha - 1), the q-norm of v is convex in tau and falls to 1: Newton's
    method from the left cannot overshoot (as in `sparsemax`). Two more of its steps are differentiable, which makes the
    derivatives up to the third exact.

    Source: Santos et al. 2024 (arXiv:2402.13725); Blondel, Martins and Niculae 2020 (arXiv:1901.02324), norm entropies.

    >>> import torch
    >>> [round(weight, 3) for weight in normmax(torch.tensor([3.00, 2.5, 1.00, 0.10])).tolist()]
    [0.689, 0.311, 0.0, 0.0]
    """
    scores, dim, mask = prepare("normmax", scores, dim, mask, temperature)
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool):
        raise TypeError(f"'alpha' of normmax must be a number. Got {kind(alpha)}. Use alpha=2.0.")
    if not (math.isfinite(alpha) and alpha > 1):
        raise ValueError(
            f"'alpha' of normmax must be above 1 and finite. Got {alpha}. Use alpha=2.0, or hardmax for 1."
        )
    if scores.numel() == 0:
        return scores.clone()
    difference, alive = centred(masked(scores, mask), dim, temperature)
    bounded = at_least(-2.0, difference)
    detached = bounded.detach()
    threshold = torch.zeros_like(detached.amax(dim, keepdim=True))
    size = scores.shape[dim] if scores.dim() else 1
    bits = 53 if detached.dtype == torch.float64 else 24
    for _ in range(math.ceil(math.log2(size) + bits / 2) if size > 1 else 0):
        before = threshold
        threshold = _normmax_step(detached, before, dim, alpha)[1]
        if can_look(threshold) and torch.equal(before, threshold):
            break
    for _ in range(2):
        threshold = _normmax_step(bounded, threshold, dim, alpha)[1]
    powers = _normmax_step(bounded, threshold, dim, alpha)[0]
    weights = powers / powers.sum(dim, keepdim=True)
    return (weights if alive is None else torch.where(alive, weights, 0.0)).to(scores.dtype)


def _normmax_step(scores: Tensor, threshold: Tensor, dim: int, alpha: float) -> tuple[Tensor, Tensor]:
    """The powers u at a threshold, and the threshold of Newton's next step. Thresholds count from -1.

    Counted from -1 a power is exp(log1p(s - tau) / (alpha - 1)): right for alpha near 1 too, where tau is near -1.
    """
    above = scores - threshold
    support = above > -1.0
    above = torch.where(support, above, 0.0)
    powers = torch.where(support, torch.exp(torch.log1p(above) / (alpha - 1)), 0.0)
    total = torch.where(support, powers * (1 + above), 0.0).sum(dim, keepdim=True)
    # The norm g = total^(1 - 1/alpha); (g - 1) / -g' with both multiplied by the same power of the total.
    excess = -total * torch.expm1(torch.log(total) * (1 / alpha - 1))
    return powers, threshold + excess / powers.sum(dim, keepdim=True)


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
        slopes = torch.diag_embed(sums) - weights.mT @ weights + ridge
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


def _check_k(name: str, k: int, scores: Tensor, dim: int) -> None:
    size = scores.shape[dim] if scores.dim() else 1
    if not isinstance(k, int) or isinstance(k, bool):
        raise TypeError(f"'k' of {name} must be an integer. Got {kind(k)}. Use k=2.")
    if k < 1 or (k > size and scores.numel() > 0):
        raise ValueError(f"'k' of {name} must lie in [1, {size}], the size of the axis. Got {k}. Use k=1.")

"""Maps that select: the largest, the k largest, a subset of k. And `uniform`, which selects nothing.

Axis legend: `dim` is the axis of the scores; every other axis is a batch axis.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from softplace.maps._arguments import at_least, can_look, centred, kind, masked, prepare, wide_type
from softplace.maps.simplex import softmax


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
    middle = wide.detach().topk(k, dim).values.amin(dim, keepdim=True)
    weights = clipped(wide, dim, middle, k, temperature, lambda values: _subset_threshold(values, dim, k))
    return weights.to(scores.dtype)


def clipped(
    wide: Tensor,
    dim: int,
    middle: Tensor,
    budget: int | Tensor,
    temperature: float,
    search: Callable[[Tensor], Tensor],
) -> Tensor:
    """`clip(s / t - tau, 0, 1)` with the sum `budget`; `search` finds tau in [-1, 0] of scores centred on `middle`.

    The middle is the largest score but `ceil(budget) - 1`. Where it is -inf, all that take part get 1.
    """
    values = wide.detach()
    numbers = torch.finfo(wide.dtype)
    finite = middle.clamp(min=numbers.min, max=numbers.max)
    bounded = ((wide.clamp(min=numbers.min) - finite) / temperature).clamp(-2.0, 2.0)
    # Infinite scores are equal to none that is finite, not to the last number of the dtype either.
    bounded = torch.where(values == -math.inf, -2.0, bounded)
    bounded = torch.where(middle == math.inf, torch.where(values == math.inf, 0.0, -2.0).to(wide.dtype), bounded)
    threshold = search(bounded.detach())
    above = bounded.detach() - threshold
    inner, full = (above > 0.0) & (above < 1.0), above >= 1.0
    # On a fixed set of inner weights this is the exact threshold; where there are none, there is no gradient.
    count = inner.sum(dim, keepdim=True)
    total = torch.where(inner, bounded, 0.0).sum(dim, keepdim=True)
    exact = (total + (full.sum(dim, keepdim=True) - budget)) / count.clamp(min=1)
    weights = torch.where(inner, (bounded - exact).clamp(0.0, 1.0), full.to(wide.dtype))
    weights = torch.where(middle == -math.inf, (values != -math.inf).to(wide.dtype), weights)
    return torch.where(values.isnan().any(dim, keepdim=True), math.nan, weights)


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
    moved = values.movedim(in_dims[0], 0)
    if moved.dim() == 1:  # scores without an axis: the only one there is that of the members
        return _subset_threshold(moved.unsqueeze(-1), dim, k).squeeze(-1), 0
    return _subset_threshold(moved, dim, k), 0


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


def _check_k(name: str, k: int, scores: Tensor, dim: int) -> None:
    size = scores.shape[dim] if scores.dim() else 1
    if not isinstance(k, int) or isinstance(k, bool):
        raise TypeError(f"'k' of {name} must be an integer. Got {kind(k)}. Use k=2.")
    if k < 1 or (k > size and scores.numel() > 0):
        raise ValueError(f"'k' of {name} must lie in [1, {size}], the size of the axis. Got {k}. Use k=1.")

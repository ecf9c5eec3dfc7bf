"""Sparse maps onto the simplex: sparsemax, 1.5-entmax and alpha-entmax, by Newton's method, without a sort.

Axis legend: `dim` is the axis of the scores; every other axis is a batch axis.

The plain path below is exact under every transform of PyTorch; on a CPU the kernel takes over where nothing but
autograd looks on.
"""

import math

import torch
from torch import Tensor

from softplace.maps import _kernel
from softplace.maps._arguments import at_least, can_look, centred, kind, masked, per_row, prepare
from softplace.maps.simplex import softmax


def sparsemax(
    scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0, out: Tensor | None = None
) -> Tensor:
    """Sparsemax, the Euclidean projection onto the simplex, `p_i = max(s_i / t - tau, 0)` with `sum_i p_i = 1`.

    Args, Returns and Raises: as `softmax`.

    The threshold tau is found by Newton's method on the convex, piecewise linear `sum_i max(s_i - tau, 0) = 1`, from
    the left, where it cannot overshoot: with slope g and value f, `f'/f + g'/g <= 1` from one step to the next, so f g
    falls at least four times per step and `log2(n) + bits / 2` steps reach rounding.

    Source: Martins and Astudillo 2016 (arXiv:1602.02068), eq. 2 and proposition 1 (which sorts).

    >>> import torch
    >>> sparsemax(torch.tensor([3.00, 2.5, 1.00, 0.10])).tolist()
    [0.75, 0.25, 0.0, 0.0]
    """
    scores, dim, mask = prepare("sparsemax", scores, dim, mask, temperature)
    return _kernel.run("sparsemax", _sparsemax, masked(scores, mask), dim, temperature, out=out)


def _sparsemax(scores: Tensor, dim: int, temperature: float) -> Tensor:
    z, alive = centred(scores, dim, temperature)
    # The threshold is at least -1, so whatever lies below -2 lies outside; -inf would make NaN of a product with zero.
    z = at_least(-2.0, z)
    fixed = z.detach()
    threshold = torch.full_like(fixed.amax(dim, keepdim=True), -1.0)
    for _ in range(_steps(z, dim)):
        excess = torch.relu(fixed - threshold)
        before = threshold
        threshold = before + (excess.sum(dim, keepdim=True) - 1.0) / excess.sign().sum(dim, keepdim=True)
        if can_look(threshold) and torch.equal(before, threshold):
            break
    support = torch.relu(fixed - threshold).sign()
    # One more step of the same iteration, now differentiable: on a fixed support it is the exact threshold.
    exact = ((z * support).sum(dim, keepdim=True) - 1.0) / support.sum(dim, keepdim=True)
    return _narrowed(torch.relu(z - exact), alive, scores)


def entmax15(
    scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0, out: Tensor | None = None
) -> Tensor:
    """1.5-entmax, `p_i = max(s_i / (2 t) - tau, 0)^2` with `sum_i p_i = 1`: between softmax and sparsemax.

    Args, Returns and Raises: as `softmax`.

    The threshold tau is found by Newton's method on the convex `||max(s / 2 - tau, 0)||_2 = 1`, from the left, where it
    cannot overshoot; on the support that this finds, the quadratic equation gives tau and its derivatives.

    Source: Peters, Niculae and Martins 2019 (arXiv:1905.05702), eq. 9 and algorithm 2 (which sorts).

    >>> import torch
    >>> [round(weight, 4) for weight in entmax15(torch.tensor([3.00, 2.5, 1.00, 0.10])).tolist()]
    [0.674, 0.326, 0.0, 0.0]
    """
    scores, dim, mask = prepare("entmax15", scores, dim, mask, temperature)
    return _kernel.run("entmax15", _entmax15, masked(scores, mask), dim, temperature, out=out)


def _entmax15(scores: Tensor, dim: int, temperature: float) -> Tensor:
    z, alive = centred(scores, dim, temperature)
    z = at_least(-2.0, 0.5 * z)
    fixed = z.detach()
    threshold = torch.full_like(fixed.amax(dim, keepdim=True), -1.0)
    for _ in range(_steps(z, dim)):
        excess = torch.relu(fixed - threshold)
        total = excess.square().sum(dim, keepdim=True)
        before = threshold
        threshold = before + (total - total.sqrt()) / excess.sum(dim, keepdim=True)
        if can_look(threshold) and torch.equal(before, threshold):
            break
    support = torch.relu(fixed - threshold).sign()
    size = support.sum(dim, keepdim=True)
    mean = (z * support).sum(dim, keepdim=True) / size
    spread = (support * (z - mean).square()).sum(dim, keepdim=True)
    exact = mean - ((1.0 - spread) / size).sqrt()
    return _narrowed(torch.relu(z - exact).square(), alive, scores)


def entmax(
    scores: Tensor,
    dim: int = -1,
    *,
    alpha: float | Tensor = 1.5,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    out: Tensor | None = None,
) -> Tensor:
    """alpha-entmax, `p_i = max((alpha - 1) s_i / t - tau, 0)^(1 / (alpha - 1))` with `sum_i p_i = 1`.

    alpha = 1 is softmax (the limit), 1.5 `entmax15`, 2 `sparsemax`; the larger, the sparser. We solve for n in
    `p_i = max(1 + (alpha - 1) (s_i / t - n), 0)^(1 / (alpha - 1))`, whose limit at alpha = 1 is `exp(s_i / t - n)`, so
    that values and both gradients are smooth there.

    Args:
        alpha: At least 1. A tensor (of one alpha, or one per row: it broadcasts to the scores, with size 1 along `dim`)
            may be learned: the gradient is that of Correia, Niculae and Martins 2019 (arXiv:1909.00015), proposition 1,
            written for p alone, with its limit at alpha = 1.
        scores, dim, mask, temperature, out: as `softmax`.

    Raises:
        TypeError: `alpha` is not a number or a floating-point tensor, or as `softmax`.
        ValueError: `alpha` is below 1, not finite, of a wrong shape or on another device, or as `softmax`.

    Source: Peters, Niculae and Martins 2019 (arXiv:1905.05702), eq. 8 and 10 (which is solved there by bisection).

    >>> import torch
    >>> [round(weight, 4) for weight in entmax(torch.tensor([3.00, 2.5, 1.00, 0.10]), alpha=1.25).tolist()]
    [0.631, 0.3448, 0.0234, 0.0008]
    """
    scores, dim, mask = prepare("entmax", scores, dim, mask, temperature)
    scores = masked(scores, mask)
    if not isinstance(alpha, Tensor):
        _check_number(alpha)
        if alpha == 1.0:
            return softmax(scores, dim, temperature=temperature, out=out)
        if alpha in (1.5, 2.0):
            name, plain = ("entmax15", _entmax15) if alpha == 1.5 else ("sparsemax", _sparsemax)
            return _kernel.run(name, plain, scores, dim, temperature, out=out)
        alpha = torch.tensor(alpha, dtype=scores.dtype if scores.dtype == torch.float64 else torch.float32)
        alpha = alpha.to(scores.device)
    else:
        per_row("alpha", "entmax", alpha, scores, dim)
        _check_values(alpha)
    return _kernel.run("entmax", _entmax, scores, dim, temperature, alpha, out=out)


def _check_number(alpha: float) -> None:
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool):
        raise TypeError(f"'alpha' of entmax must be a number or a tensor. Got {kind(alpha)}. Use e.g. 1.5.")
    if not (math.isfinite(alpha) and alpha >= 1):
        raise ValueError(f"'alpha' of entmax must be finite and at least 1 (softmax). Got {alpha}. Use e.g. 1.5.")


def _check_values(alpha: Tensor) -> None:
    if can_look(alpha) and not bool((alpha.isfinite() & (alpha >= 1.0)).all()):
        wrong = alpha.detach()[~(alpha.isfinite() & (alpha >= 1.0))].flatten()[0].item()
        raise ValueError(
            f"'alpha' of entmax must be finite and at least 1 (softmax) everywhere. Got {wrong}. "
            "Learn it as e.g. 1 + torch.nn.functional.softplus(free)."
        )


def _entmax(scores: Tensor, dim: int, temperature: float, alpha: Tensor) -> Tensor:
    z, alive = centred(scores, dim, temperature)
    z = at_least(torch.finfo(z.dtype).min, z)  # -inf would make NaN of a product with alpha - 1 = 0
    d = alpha.to(z.dtype) - 1.0
    fixed, fixed_d = z.detach(), d.detach()
    n = torch.zeros_like(fixed.amax(dim, keepdim=True)) * (1.0 + fixed_d)
    low, high = n, torch.full_like(n, math.inf)
    rounding = 4 * torch.finfo(z.dtype).eps
    for _ in range(2 * _steps(z, dim)):
        total, slope = _total(fixed, fixed_d, n, dim)
        logarithm = total.log()
        # Newton's method on ||.||_(1 / d), convex for alpha <= 2; halving where it leaves the bracket (alpha > 2).
        v = fixed_d * logarithm
        step = n + total * logarithm * torch.where(v == 0.0, 1.0, -torch.expm1(-v) / v) / slope
        low, high = torch.where(total > 1.0, n, low), torch.where(total > 1.0, high, n)
        halved = torch.where(high < math.inf, 0.5 * (low + high), step)
        step = torch.where((step > low) & (step < high), step, halved)
        done = ((total - 1.0).abs() <= rounding) | total.isnan()
        n = torch.where(done, n, step)
        if can_look(n) and bool(done.all()):
            break
    # Two more steps, now differentiable: each doubles the order up to which the derivatives are exact (here the third).
    for _ in range(2):
        total, slope = _total(z, d, n, dim)
        n = n + (total - 1.0) / slope
    return _narrowed(_power(z - n, d)[0], alive, scores)


def _total(z: Tensor, d: Tensor, n: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    p, q = _power(z - n, d)
    return p.sum(dim, keepdim=True), q.sum(dim, keepdim=True)


def _power(w: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """`p = max(1 + d w, 0)^(1 / d)`, and its derivative `p^(1 - d)`; at d = 0, `exp(w)` twice."""
    u = d * w
    outside = u <= -1.0
    u, w = torch.where(outside, 0.0, u), torch.where(outside, 0.0, w)
    p = torch.where(outside, 0.0, (w * _log1p_ratio(u)).exp())
    return p, p / (1.0 + u)


def _log1p_ratio(u: Tensor) -> Tensor:
    """`log(1 + u) / u`, smooth at 0."""
    small = u.abs() < 0.05
    series = torch.zeros_like(u)
    near = torch.where(small, u, 0.0)
    for power in range(13, 0, -1):  # 0.05^13 is rounding in float64
        series = 1.0 / power - near * series
    far = torch.where(small, 1.0, u)
    return torch.where(small, series, torch.log1p(far) / far)


def _steps(z: Tensor, dim: int) -> int:
    """Steps of Newton's method after which only rounding is left."""
    size = z.shape[dim] if z.dim() else 1
    bits = 53 if z.dtype == torch.float64 else 24
    return math.ceil(math.log2(size) + bits / 2) if size > 1 else 0


def _narrowed(weights: Tensor, alive: Tensor | None, scores: Tensor) -> Tensor:
    return (weights if alive is None else weights * alive).to(scores.dtype)

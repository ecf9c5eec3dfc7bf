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
from softplace.maps._search import power, search, total
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
    support = search("sparsemax", z, dim).sign()
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
    z = at_least(-4.0, z)
    support = search("entmax15", z, dim).sign()
    half, size = 0.5 * z, support.sum(dim, keepdim=True)
    mean = (half * support).sum(dim, keepdim=True) / size
    spread = (support * (half - mean).square()).sum(dim, keepdim=True)
    exact = mean - ((1.0 - spread) / size).sqrt()
    return _narrowed(torch.relu(half - exact).square(), alive, scores)


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

    alpha = 1 is softmax (the limit), 1.5 `entmax15`, 2 `sparsemax`; the larger, the sparser. With d = alpha - 1 and z
    the scores less their maximum, we solve for l, the logarithm of the largest weight, in
    `p_i = e^l max(1 + d e^(-d l) z_i / t, 0)^(1 / d)`, whose limit at alpha = 1 is `exp(l + z_i / t)`, so that values
    and both gradients are smooth there, and nothing cancels where alpha is large.

    Args:
        alpha: At least 1. A tensor (of one alpha, or one per row: it broadcasts to the scores, with size 1 along `dim`)
            may be learned: the gradient is that of Correia, Niculae and Martins 2019 (arXiv:1909.00015), proposition 1,
            written for p alone, with its limit at alpha = 1. Above 2 the map is steep where a weight is near 0, and
            rounding e of the scores moves such a weight by as much as `e^(1 / (alpha - 1))`.
        scores, dim, mask, temperature, out: as `softmax`.

    Raises:
        TypeError: `alpha` is not a number or a floating-point tensor, or as `softmax`.
        ValueError: `alpha` is below 1 or not finite (of a tensor this is looked at on a CPU, outside of transforms), of
            a wrong shape or on another device, or as `softmax`.

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
    if not (1.0 <= alpha < math.inf):
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
    lead = search("entmax", z, dim, alpha.to(z.dtype)).amax(dim, keepdim=True).log()
    # Two more steps, for their derivatives alone: each doubles the order up to which these are exact (here the third).
    for _ in range(2):
        mass, slope = total(z, lead, d, dim)
        step = mass * mass.log() / slope
        lead = lead - (step - step.detach())
    weights = power(z, lead, d)[0]
    return _narrowed(weights / weights.detach().sum(dim, keepdim=True), alive, scores)


def _narrowed(weights: Tensor, alive: Tensor | None, scores: Tensor) -> Tensor:
    return (weights if alive is None else weights * alive).to(scores.dtype)

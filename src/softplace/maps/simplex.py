"""Maps onto the probability simplex: softmax and sparsemax.

Axis legend: `dim` is the axis of the scores; every other axis is a batch axis.
"""

import math

import torch
from torch import Tensor

from softplace.maps._arguments import can_look, prepare


def softmax(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Softmax, `p_i = exp(s_i / t) / sum_j exp(s_j / t)`.

    Args:
        scores: Real scores, any shape.
        dim: Axis whose entries sum to one.
        mask: Boolean, broadcastable to `scores`; `True` = take part. An entry that is left out gets weight zero; a row
            in which nothing takes part gets all-zero weights and zero gradient.
        temperature: Positive divisor of the scores.

    Returns:
        Weights of the shape and dtype of `scores`.

    Raises:
        TypeError: `scores` is not a floating-point tensor, or `mask` is not boolean.
        ValueError: `temperature` is not positive and finite, or `mask` does not broadcast to `scores`.

    Source: Bridle 1990, eq. 5. We add the mask and the temperature.

    >>> import torch
    >>> weights = softmax(torch.tensor([3.00, 2.0, 1.00, 0.10]))
    >>> [round(weight, 3) for weight in weights.tolist()], round(weights.sum().item(), 6)
    ([0.642, 0.236, 0.087, 0.035], 1.0)
    """
    scores, mask = prepare("softmax", scores, mask, temperature)
    if mask is None:
        return torch.softmax(scores, dim)
    # The lowest finite number instead of -inf keeps a fully masked row finite; the product below makes it exactly zero.
    lowest = torch.finfo(scores.dtype).min
    return torch.softmax(scores.masked_fill(~mask, lowest), dim) * mask


def sparsemax(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Sparsemax, the Euclidean projection onto the simplex, `p_i = max(s_i / t - tau, 0)` with `sum_i p_i = 1`.

    Args, Returns and Raises: as `softmax`.

    The threshold tau is found by Newton's method on the convex, piecewise linear `sum_i max(s_i - tau, 0) = 1`, from
    the left, where it cannot overshoot: with slope g and value f, `f'/f + g'/g <= 1` from one step to the next, so f g
    falls at least four times per step and `log2(n) + bits / 2` steps reach rounding. No sort is needed, and the same
    program serves `vmap`, `torch.compile` and any order of derivative.

    Source: Martins and Astudillo 2016 (arXiv:1602.02068), eq. 2 and proposition 1 (which sorts).

    >>> import torch
    >>> sparsemax(torch.tensor([3.00, 2.5, 1.00, 0.10])).tolist()
    [0.75, 0.25, 0.0, 0.0]
    """
    scores, mask = prepare("sparsemax", scores, mask, temperature)
    size = scores.shape[dim]
    if size == 0:
        return scores
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    working = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
    working = working - working.detach().amax(dim, keepdim=True)
    bits = 53 if working.dtype == torch.float64 else 24
    # The threshold is at least -1, so whatever lies below -2 lies outside; -inf would make NaN of a product with zero.
    bounded = working.clamp(min=-2.0)
    detached = bounded.detach()
    threshold = torch.full_like(detached.narrow(dim, 0, 1), -1.0)
    for _ in range(math.ceil(math.log2(size) + bits / 2) if size > 1 else 0):
        excess = torch.relu(detached - threshold)
        before = threshold
        threshold = before + (excess.sum(dim, keepdim=True) - 1.0) / excess.sign().sum(dim, keepdim=True)
        if can_look(threshold) and torch.equal(before, threshold):
            break
    support = torch.relu(detached - threshold).sign()
    # One more step of the same iteration, now differentiable: on a fixed support it is the exact threshold.
    exact = ((bounded * support).sum(dim, keepdim=True) - 1.0) / support.sum(dim, keepdim=True)
    weights = torch.relu(bounded - exact)
    if mask is not None:
        weights = weights * mask
    return weights.to(scores.dtype)

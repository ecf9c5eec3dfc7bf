"""How evenly a gate uses its experts, as losses, and the bias that evens it out without a loss.

Axis legend: T tokens, E experts, K choices of a token.
"""

import math

import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.latent.experts_routing import Routing


def load_balancing_loss(probabilities: Tensor, counts: Tensor) -> Tensor:
    """`E sum_i f_i P_i`: f the shares of the choices, P the mean probabilities; 1 when all experts get the same.

    Its gradient goes through P alone, as counts have none.

    Args:
        probabilities: (T, E), of a `Routing`; rows that do not sum to 1 (sigmoid) are divided by their sum, rows of
            zeros do not count.
        counts: (E,), choices of each expert before any are dropped, as `count` gives them.

    Returns:
        A scalar; 0 where there is no token.

    Source: Fedus et al. 2022 (arXiv:2101.03961), eq. 4 to 6, without their factor alpha, which is the caller's. With K
    choices f is divided by K too, so that 1 stays the balance; transformers' Mixtral does not. The normalised rows are
    those of DeepSeek-V3 (arXiv:2412.19437), eq. 19.

    >>> load_balancing_loss(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([2, 0])).item()
    2.0
    """
    if counts.shape != probabilities.shape[-1:]:
        raise InputError(
            f"'counts' must have one number per expert, ({probabilities.shape[-1]},). Got {tuple(counts.shape)}. "
            "Use count(routing)."
        )
    total = probabilities.sum(-1, keepdim=True)
    shares = (probabilities / torch.where(total == 0.0, 1.0, total)).sum(0)
    mean = shares / torch.where(shares.sum() == 0.0, 1.0, shares.sum())
    return (mean * counts.to(mean.dtype) / counts.sum().clamp(min=1)).sum() * counts.shape[0]


def importance_loss(routing: Routing) -> Tensor:
    """The squared coefficient of variation of the experts' weights, summed over tokens: 0 when all are the same.

    Returns:
        A scalar: the variance (of the E sums, not an estimate from them) over the squared mean; 0 without a token.

    Source: Shazeer et al. 2017 (arXiv:1701.06538), eq. 6 and 7, without their factor.

    >>> from softplace.latent.experts_routing import route
    >>> importance_loss(route(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), top=1)).item()
    1.0
    """
    zeros = routing.weights.new_zeros(routing.probabilities.shape[-1])
    importance = zeros.scatter_add(0, routing.experts.flatten(), routing.weights.flatten())
    mean = importance.mean()
    return importance.var(correction=0) / torch.where(mean == 0.0, 1.0, mean.square())


def z_loss(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """`mean over tokens of log(sum_i exp(s_i))^2`: keeps the scores small, where low precision is exact.

    Args:
        scores: (T, E).
        mask: Boolean, broadcast to (T, E), True = may be chosen; a token that may choose nothing does not count.

    Returns:
        A scalar; 0 where there is no token. Half precisions are computed in float32.

    Source: Zoph et al. 2022 (arXiv:2202.08906), eq. 5.

    >>> round(z_loss(torch.zeros(3, 4)).item(), 4)
    1.9218
    """
    wide = scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
    if mask is None:
        return wide.logsumexp(-1).square().sum() / max(1, scores.shape[0])
    mask = mask.expand(scores.shape)
    some = mask.any(-1)
    values = wide.masked_fill(~mask & some[:, None], -math.inf).masked_fill(~some[:, None], 0.0).logsumexp(-1)
    return torch.where(some, values.square(), 0.0).sum() / some.sum().clamp(min=1)


def update_bias(bias: Tensor, counts: Tensor, rate: float = 1e-3) -> Tensor:
    """The bias for the next batch: `b_i + rate sign(mean of c - c_i)`, so experts with few tokens get more.

    Args:
        bias: (E,), for `route`. Keep it in float32: steps of `rate` are lost in half precision.
        counts: (E,), choices of each expert in the last batch, before any are dropped; over all devices.
        rate: The step; 0.001 in the paper.

    Returns:
        A new tensor.

    Source: Wang et al. 2024 (arXiv:2408.15664), algorithm 1; DeepSeek-V3 (arXiv:2412.19437), section 2.1.2.

    >>> update_bias(torch.zeros(3), torch.tensor([5, 3, 1]), 0.5).tolist()
    [-0.5, 0.0, 0.5]
    """
    if counts.shape != bias.shape:
        raise InputError(
            f"'counts' must have the shape of 'bias', {tuple(bias.shape)}. Got {tuple(counts.shape)}. "
            "Use the 'counts' of the record."
        )
    if not (isinstance(rate, (int, float)) and 0.0 < rate < math.inf):
        raise InputError(f"'rate' must be a positive number. Got {rate!r}. Use 0.001.")
    # Whole numbers: the sign of a difference of means would be that of a rounding error where all are the same.
    less = counts.sum() - counts.shape[0] * counts
    return bias + rate * less.sign().to(bias.dtype)

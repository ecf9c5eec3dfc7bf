"""ARSM and DisARM: differences of losses of coupled samples, without any gradient of the loss.

Axis legend: S samples, P permutations, *B batch, N categoricals, K classes.
"""

import torch
from torch import Tensor

from softplace import maps
from softplace.latent.estimators._parts import (
    Estimate,
    Loss,
    Source,
    attach,
    check,
    evaluate,
    exponential,
    hot,
    mean,
    mend,
    uniform,
    wide,
)


def arsm(logits: Tensor, loss: Loss, *, samples: int = 1, generator: Source = None) -> Estimate:
    """ARSM (augment, REINFORCE, swap, merge); with two classes it is ARM.

    With w uniform on the simplex, `x = argmin_k (log w_k - logits_k)` is a sample, and so is x^(cj), of w with entries
    c and j swapped (in all categoricals at once). The estimate for class c of categorical n is
    `sum_j (loss(x^(cj)) - mean_m loss(x^(mj))) (1/K - w_nj)`.

    Args:
        logits: (*B, N, K).
        loss: From samples (..., *B, N, K) to losses (..., *B); no gradient of it with respect to samples is needed.
        samples: Draws of w.
        generator: Of the random numbers, on the logits' device; without, PyTorch's own.

    Returns:
        `samples` and `losses` of the x, without those of swapped w: theirs are evaluated in a second call, without
        gradient, so that training the loss's parameters costs no more than with other estimators.

    Unbiased. 1 + K (K - 1) / 2 losses per sample.

    Raises:
        InputError: An argument that cannot be used.

    Source: Yin, Yue and Zhou 2019 (arXiv:1905.01413); ARM: Yin and Zhou 2019 (arXiv:1807.11143).
    """
    check("arsm", logits, loss, samples, generator)
    classes = logits.shape[-1]
    log_weights = maps.log_softmax(wide(logits.detach()), -1)
    noise = exponential(samples, log_weights, generator)
    logs = noise.log()
    swapped, pair = _swaps(classes, logits.device)
    chances = log_weights.unsqueeze(-2) - logs[..., swapped]  # (S, *B, N, P, K)
    index = chances.argmax(-1).movedim(-1, 0)
    every = hot(index, logits, log_weights.exp().sum(-1, keepdim=True))
    drawn = every[0]
    losses = evaluate("arsm", loss, drawn)
    others = losses.detach().unsqueeze(0)
    if classes > 1:
        with torch.no_grad():
            found = evaluate("arsm", loss, every[1:].flatten(0, 1))
        others = torch.cat([others, found.view(len(swapped) - 1, *losses.shape)])
    by_pair = wide(others)[pair]  # (K, K, S, *B), symmetric
    differences = (by_pair - by_pair.mean(0)).movedim((0, 1), (-2, -1))
    simplex = noise / noise.sum(-1, keepdim=True)
    direction = ((1.0 / classes - simplex) @ differences.mT).mean(0)
    return Estimate(attach(mean(losses), logits, direction), losses.detach(), drawn)


def _swaps(classes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The identity and all swaps of two classes, (P, K), and which of them swaps c and j, (K, K)."""
    rows, columns = torch.triu_indices(classes, classes, 1, device=device)
    number = torch.arange(1, len(rows) + 1, device=device)
    order = torch.arange(classes, device=device)
    swapped = torch.where(order == rows.unsqueeze(-1), columns.unsqueeze(-1), order)
    swapped = torch.where(order == columns.unsqueeze(-1), rows.unsqueeze(-1), swapped)
    pair = torch.zeros(classes, classes, dtype=torch.long, device=device)
    pair = pair.index_put((rows, columns), number).index_put((columns, rows), number)
    return torch.cat([order.unsqueeze(0), swapped]), pair


def disarm(logits: Tensor, loss: Loss, *, samples: int = 1, generator: Source = None) -> Estimate:
    """DisARM for categoricals by stick-breaking: pairs of antithetic samples, their losses' difference.

    A sample is the first class i whose bit `b_i ~ Bernoulli(sigmoid(a_i))` is 1, with
    `a_i = logit_i - log sum_{j > i} exp(logit_j)`. Of bits b = [u < sigmoid(a)] and b~ = [1 - u < sigmoid(a)],

        1/2 (loss(b) - loss(b~)) (-1)^(b~_i) [b_i != b~_i] sigmoid(|a_i|)

    is the estimate for a_i, and the chain rule gives that for the logits. Bits that neither sample came to are left
    out: their mean is 0. The order of the classes matters for the variance, not for the mean.

    Args:
        logits: (*B, N, K).
        loss: From samples (..., *B, N, K) to losses (..., *B); no gradient of it with respect to samples is needed.
        samples: Pairs.
        generator: Of the random numbers, on the logits' device; without, PyTorch's own.

    Returns:
        `samples` and `losses` of both of each pair: S is twice `samples`, first all b, then all b~.

    Unbiased. Both losses in one call.

    Raises:
        InputError: An argument that cannot be used.

    Source: Dong, Mnih and Tucker 2020 (arXiv:2006.10680), also found by Yin et al. 2020; categoricals by
    stick-breaking: Dong, Mnih and Tucker 2021 (arXiv:2106.08056).
    """
    check("disarm", logits, loss, samples, generator)
    weights = maps.softmax(wide(logits.detach()), -1)
    left = weights.flip(-1).cumsum(-1).flip(-1)
    after = torch.cat([left[..., 1:], torch.zeros_like(left[..., :1])], -1)
    chance = torch.where(left > 0, weights / left, 0.0)
    drawn_at = uniform(samples, weights, generator)
    first = drawn_at < chance
    second = 1.0 - drawn_at <= chance  # equal to what is below 1 - u: also where the chance is 0 or 1
    bits = torch.cat([first, second])
    unbroken = bits.cumsum(-1) == 0  # classes before the sample's
    one_hot = bits & torch.cat([torch.ones_like(bits[..., :1]), unbroken[..., :-1]], -1)
    drawn = mend(one_hot.to(logits.dtype), left[..., :1])
    losses = evaluate("disarm", loss, drawn)
    half = 0.5 * wide(losses.detach())
    difference = (half[:samples] - half[samples:])[..., None, None]
    came_to = torch.cat([torch.ones_like(first[..., :1]), (unbroken[:samples] | unbroken[samples:])[..., :-1]], -1)
    sign = first.to(weights.dtype) - second.to(weights.dtype)  # 0 where both bits are equal
    larger = torch.maximum(chance, torch.where(left > 0, after / left, 0.0))
    by_stick = (difference * sign * came_to * larger).mean(0)
    # d a_i / d logit_k is 1 at k = i and minus the share of k in what comes after i, at k > i.
    shares = torch.where(by_stick == 0, 0.0, by_stick / after)
    before = torch.cat([torch.zeros_like(shares[..., :1]), shares[..., :-1].cumsum(-1)], -1)
    return Estimate(attach(mean(losses), logits, by_stick - weights * before), losses.detach(), drawn)

"""Estimators through a relaxed sample: Gumbel-softmax and straight-through. Low variance, but biased.

Axis legend: S samples, I inner draws, *B batch, N categoricals, K classes.
"""

import math

import torch
from torch import Tensor

from softplace import maps
from softplace.errors import InputError
from softplace.latent.estimators._parts import (
    Estimate,
    Loss,
    Source,
    check,
    check_positive,
    draw,
    evaluate,
    exponential,
    hot,
    joined,
    mean,
    transformed,
    wide,
)
from softplace.maps._arguments import kind


def gumbel_softmax(
    logits: Tensor,
    loss: Loss,
    *,
    samples: int = 1,
    generator: Source = None,
    temperature: float = 1.0,
    hard: bool = False,
) -> Estimate:
    """Gumbel-softmax, `mean_s d loss(y_s) / d logits` with `y = softmax((logits + g) / t)`, g Gumbel noise.

    Args:
        logits: (*B, N, K).
        loss: From samples (..., *B, N, K) to losses (..., *B); it must be defined and differentiable inside the
            simplex.
        samples: S.
        generator: Of the random numbers, on the logits' device; without, PyTorch's own.
        temperature: t. Bias falls and variance grows as it falls; `anneal` is the usual schedule.
        hard: Straight through: the loss is of the one-hot of the largest entry of y, the gradient that of y.

    Returns:
        `samples` are those that the loss saw, relaxed unless `hard`, and so are `losses` and `surrogate`.

    Biased. Not `hard`, it is the gradient of the expected loss of relaxed samples, without bias.

    Raises:
        InputError: A temperature that is not positive, or an argument that cannot be used.

    Source: Jang, Gu and Poole 2017 (arXiv:1611.01144), eq. 2; Maddison, Mnih and Teh 2017.
    """
    check("gumbel_softmax", logits, loss, samples, generator)
    check_positive("gumbel_softmax", "temperature", temperature)
    if not isinstance(hard, bool):
        raise InputError(f"'hard' of gumbel_softmax must be True or False. Got {kind(hard)}.")
    scores = logits.expand(samples, *logits.shape)
    if transformed():  # the same logits for all that vmap goes over, which could not have noise of their own
        scores = scores + 0.0 * torch.rand((), dtype=logits.dtype, device=logits.device)
    if callable(generator):
        drawn = maps.softmax(scores - exponential(samples, logits, generator).log(), -1, temperature=temperature)
        if hard:
            one_hot = hot(drawn.argmax(-1), drawn, drawn.detach().sum(-1, keepdim=True))
            drawn = one_hot + (drawn - drawn.detach())
    else:
        drawn = maps.gumbel_softmax(scores, -1, hard=hard, temperature=temperature, generator=generator)
    losses = evaluate("gumbel_softmax", loss, drawn)
    return Estimate(joined(mean(losses), logits), losses.detach(), drawn.detach())


def gumbel_softmax_log_prob(sample: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Log-density of a Gumbel-softmax sample on the simplex, with respect to its first K - 1 coordinates.

    `log (K-1)! + (K-1) log t + sum_k (l_k - (t + 1) log y_k) - K log sum_k exp(l_k - t log y_k)`.

    Args:
        sample: (..., K), inside the simplex.
        logits: l, broadcast with `sample`.
        temperature: t.

    Returns:
        (...).

    Raises:
        InputError: Shapes that do not broadcast, or a temperature that is not positive.

    Source: Maddison, Mnih and Teh 2017 (arXiv:1611.00712), definition 1; Jang, Gu and Poole 2017, appendix B.

    >>> round(gumbel_softmax_log_prob(torch.tensor([0.3, 0.7]), torch.zeros(2), 1.0).exp().item(), 4)
    1.0
    """
    check_positive("gumbel_softmax_log_prob", "temperature", temperature)
    if sample.dim() < 1 or logits.dim() < 1 or sample.shape[-1] != logits.shape[-1]:
        raise InputError(
            f"'sample' and 'logits' must have the same number of classes on their last axis. "
            f"Got {tuple(sample.shape)} and {tuple(logits.shape)}. Give both as (..., K)."
        )
    classes, logs = sample.shape[-1], wide(sample).log()
    tilted = wide(logits) - temperature * logs
    constant = math.lgamma(classes) + (classes - 1) * math.log(temperature)
    return constant + (tilted - logs).sum(-1) - classes * tilted.logsumexp(-1)


def anneal(step: int, *, rate: float = 1e-4, least: float = 0.5, every: int = 1000) -> float:
    """The temperature of a step of a training, `max(least, exp(-rate * t))`, t the last multiple of `every`.

    Raises:
        InputError: A negative step or rate, `least` that is not positive, `every` below 1.

    Source: Jang, Gu and Poole 2017 (arXiv:1611.01144): rates 1e-5 and 1e-4, every 500 or 1000 steps.

    >>> anneal(999), round(anneal(1999), 4), anneal(100_000)
    (1.0, 0.9048, 0.5)
    """
    check_positive("anneal", "least", least)
    if step < 0 or rate < 0 or every < 1:
        raise InputError(
            f"'step' and 'rate' of anneal must be at least 0 and 'every' at least 1. "
            f"Got {step}, {rate} and {every}. Count steps from 0."
        )
    return max(least, math.exp(-rate * (step // every * every)))


def straight_through(logits: Tensor, loss: Loss, *, samples: int = 1, generator: Source = None) -> Estimate:
    """Straight-through, `mean_s loss'(x_s) d softmax(logits) / d logits`, x a one-hot sample.

    Args:
        logits: (*B, N, K).
        loss: From samples (..., *B, N, K) to losses (..., *B); differentiable at one-hot samples.
        samples: S.
        generator: Of the random numbers, on the logits' device; without, PyTorch's own.

    Biased, but for a loss that is linear in each sample, of one categorical or a sum over them.

    Raises:
        InputError: An argument that cannot be used.

    Source: Bengio, Leonard and Courville 2013 (arXiv:1308.3432), with softmax's slope in place of 1.
    """
    check("straight_through", logits, loss, samples, generator)
    weights = maps.softmax(wide(logits), -1)
    drawn = draw(weights.detach(), samples, generator, logits.dtype)
    losses = evaluate("straight_through", loss, drawn + (weights - weights.detach()).to(logits.dtype))
    return Estimate(joined(mean(losses), logits), losses.detach(), drawn)


def gapped_straight_through(
    logits: Tensor,
    loss: Loss,
    *,
    samples: int = 1,
    generator: Source = None,
    temperature: float = 1.0,
    gap: float = 1.0,
) -> Estimate:
    """Gapped straight-through, `mean_s loss'(x_s) d softmax((logits + m_s) / t) / d logits`.

    m moves logits, without gradient, so that x is their argmax by a gap: that of x up to the largest, and the others
    down to `gap` below it. It does what Gumbel noise does in straight-through Gumbel-softmax, without its variance.

    Args:
        logits: (*B, N, K).
        loss: From samples (..., *B, N, K) to losses (..., *B); differentiable at one-hot samples.
        samples: S.
        generator: Of the random numbers, on the logits' device; without, PyTorch's own.
        temperature: t.
        gap: By how much the logit of the sample shall be above the others.

    Biased.

    Raises:
        InputError: A temperature or gap that is not positive, or an argument that cannot be used.

    Source: Fan, Chi, Rudnicky and Ramadge 2022 (arXiv:2206.07235).
    """
    check("gapped_straight_through", logits, loss, samples, generator)
    check_positive("gapped_straight_through", "temperature", temperature)
    check_positive("gapped_straight_through", "gap", gap)
    log_weights = maps.log_softmax(wide(logits.detach()), -1)
    drawn = draw(log_weights.exp(), samples, generator, logits.dtype)
    top = log_weights.amax(-1, keepdim=True)
    scores = torch.where(drawn == 1, top, torch.minimum(log_weights, top - gap))
    relaxed = maps.softmax(scores + _still(logits), -1, temperature=temperature)
    losses = evaluate("gapped_straight_through", loss, drawn + (relaxed - relaxed.detach()).to(logits.dtype))
    return Estimate(joined(mean(losses), logits), losses.detach(), drawn)


def rao_blackwell_gumbel(
    logits: Tensor,
    loss: Loss,
    *,
    samples: int = 1,
    generator: Source = None,
    temperature: float = 1.0,
    inner: int = 10,
) -> Estimate:
    """Rao-Blackwellised straight-through Gumbel-softmax: the same mean as with `hard=True`, with less variance.

    `mean_s loss'(x_s) mean_i d softmax((logits + g_si) / t) / d logits`, g_si Gumbel noise given that x_s is its
    argmax. The loss is evaluated once per sample, whatever `inner` is.

    Args:
        logits: (*B, N, K).
        loss: From samples (..., *B, N, K) to losses (..., *B); differentiable at one-hot samples.
        samples: S.
        generator: Of the random numbers, on the logits' device; without, PyTorch's own.
        temperature: t.
        inner: I, draws of the noise given a sample.

    Biased, as `gumbel_softmax` with `hard=True`.

    Raises:
        InputError: A temperature that is not positive, `inner` below 1, or an argument that cannot be used.

    Source: Paulus, Maddison and Krause 2021 (arXiv:2010.04838).
    """
    check("rao_blackwell_gumbel", logits, loss, samples, generator)
    check_positive("rao_blackwell_gumbel", "temperature", temperature)
    if not isinstance(inner, int) or isinstance(inner, bool) or inner < 1:
        raise InputError(f"'inner' of rao_blackwell_gumbel must be an integer of at least 1. Got {inner}. Use 10.")
    weights = maps.softmax(wide(logits.detach()), -1)
    drawn = draw(weights, samples, generator, logits.dtype)
    scores = conditional_gumbel(weights, drawn, inner, generator)
    relaxed = maps.softmax(scores + _still(logits), -1, temperature=temperature).mean(0)
    losses = evaluate("rao_blackwell_gumbel", loss, drawn + (relaxed - relaxed.detach()).to(logits.dtype))
    return Estimate(joined(mean(losses), logits), losses.detach(), drawn)


def conditional_gumbel(weights: Tensor, samples: Tensor, inner: int, generator: Source) -> Tensor:
    """`log weights + g`, Gumbel noise g, given their argmax: the largest is Gumbel, the others lie below it.

    Args:
        weights: They sum to one, (*B, N, K).
        samples: One-hot, the argmax, (S, *B, N, K).
        inner: I.

    Returns:
        (I, S, *B, N, K).

    Source: Maddison, Tarlow and Minka 2014 (arXiv:1411.0030; truncated Gumbel variables).
    """
    noise = exponential(inner, weights.expand_as(samples), generator)
    top = (noise * samples).sum(-1, keepdim=True)
    return -torch.where(samples == 1, top, noise / weights + top).log()


def _still(logits: Tensor) -> Tensor:
    """Zeros with the gradient of the logits; of infinite ones, without."""
    finite = logits.masked_fill(logits.isinf(), 0.0)
    return wide(finite - finite.detach())

"""Estimators by the score function: the loss of a sample times the gradient of its log-probability.

Axis legend: S samples, *B batch, N categoricals, K classes.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from softplace import maps
from softplace.errors import InputError, nearest
from softplace.latent.estimators._parts import (
    Estimate,
    Loss,
    Source,
    attach,
    check,
    draw,
    evaluate,
    mean,
    per_element,
    score_direction,
    wide,
)


@dataclass(frozen=True, kw_only=True)
class MovingAverage:
    """A moving average of losses, for the baseline of `reinforce`: an average of all at first, then exponential.

    >>> average = MovingAverage()
    >>> average.update(torch.tensor([1.0, 2.0])).update(torch.tensor([4.5])).value
    tensor(3.)
    """

    value: float | Tensor = 0.0
    decay: float = 0.99
    """The share that the past keeps in one update."""
    updates: int = 0

    def __post_init__(self) -> None:
        _check_decay("MovingAverage", self.decay)

    def update(self, losses: Tensor) -> "MovingAverage":
        """The average after more losses, of any shape."""
        rate = max(1.0 - self.decay, 1.0 / (self.updates + 1))
        value = self.value + rate * (wide(losses.detach()).mean() - self.value)
        return replace(self, value=value, updates=self.updates + 1)


@dataclass(frozen=True, kw_only=True)
class SignalMoments:
    """Moving mean and variance of the learning signal of `nvil`, `loss - baseline`."""

    mean: float | Tensor = 0.0
    variance: float | Tensor = 1.0
    decay: float = 0.8

    def __post_init__(self) -> None:
        _check_decay("SignalMoments", self.decay)

    def update(self, signal: Tensor) -> "SignalMoments":
        """The moments after another `losses - baseline`, of any shape."""
        signal, rate = wide(signal.detach()), 1.0 - self.decay
        return replace(
            self,
            mean=self.mean + rate * (signal.mean() - self.mean),
            variance=self.variance + rate * (signal.var(correction=0) - self.variance),
        )


def _check_decay(name: str, decay: float) -> None:
    if not 0.0 <= decay < 1.0:
        raise InputError(f"'decay' of {name} must lie in [0, 1). Got {decay}. Use 0 to keep the last value alone.")


def reinforce(
    logits: Tensor,
    loss: Loss,
    *,
    samples: int = 1,
    generator: Source = None,
    baseline: str | float | Tensor | None = None,
) -> Estimate:
    """REINFORCE, `mean_s (loss(x_s) - baseline) (x_s - softmax(logits))`; unbiased.

    Args:
        logits: (*B, N, K).
        loss: From samples (..., *B, N, K) to losses (..., *B).
        samples: S.
        generator: Of the random numbers, on the logits' device; without, PyTorch's own.
        baseline: What is taken off the loss: None, nothing; "leave-one-out", the mean loss of the other samples; a
            number or a tensor that broadcasts to (*B), which must not depend on these samples. No gradient reaches it.
            For a moving average give `average.value`, and then `average = average.update(estimate.losses)`.

    Raises:
        InputError: "leave-one-out" with one sample, or an argument that cannot be used.

    Source: Williams 1992; "leave-one-out" is of Kool, van Hoof and Welling 2019 ("Buy 4 REINFORCE samples, get a
    baseline for free!").

    >>> cost = torch.tensor([1.0, 1.0])
    >>> logits = torch.zeros(1, 2, requires_grad=True)
    >>> estimate = reinforce(logits, lambda s: (s * cost).sum((-2, -1)), samples=2, baseline="leave-one-out")
    >>> torch.autograd.grad(estimate.surrogate, logits)[0].tolist()
    [[0.0, 0.0]]
    """
    check("reinforce", logits, loss, samples, generator)
    if isinstance(baseline, str):
        if baseline != "leave-one-out":
            raise InputError(f"Unknown baseline {baseline!r} of reinforce. {nearest(baseline, ['leave-one-out'])}")
        if samples < 2:
            raise InputError(
                f"'samples' of reinforce must be at least 2 for the baseline of the others, 'leave-one-out'. "
                f"Got {samples}. Use baseline=None, or a moving average."
            )
    elif baseline is not None:
        baseline = per_element("reinforce", "baseline", baseline, logits)
    weights = maps.softmax(wide(logits.detach()), -1)
    drawn = draw(weights, samples, generator, logits.dtype)
    losses = evaluate("reinforce", loss, drawn)
    signal = wide(losses.detach())
    if isinstance(baseline, str):
        signal = (signal - signal.mean(0)) * (samples / (samples - 1))
    elif baseline is not None:
        signal = signal - (baseline.detach() if isinstance(baseline, Tensor) else baseline)
    surrogate = attach(mean(losses), logits, score_direction(signal, drawn, weights))
    return Estimate(surrogate, losses.detach(), drawn)


def nvil(
    logits: Tensor,
    loss: Loss,
    *,
    samples: int = 1,
    generator: Source = None,
    baseline: Tensor | None = None,
    moments: SignalMoments | None = None,
) -> Estimate:
    """NVIL, `mean_s (loss(x_s) - baseline - mean) / max(1, sqrt(variance)) (x_s - softmax(logits))`.

    The surrogate trains the baseline too: its gradient with respect to `baseline` is minus the same normalised signal,
    which is half the gradient of the squared error of `baseline + mean` from the loss, divided by the same number. Its
    value is the mean loss still.

    Args:
        logits: (*B, N, K).
        loss: From samples (..., *B, N, K) to losses (..., *B).
        samples: S.
        generator: Of the random numbers, on the logits' device; without, PyTorch's own.
        baseline: (*B), computed from the input of each element, not from its samples. None: 0.
        moments: Moving mean and variance of the signal; None: 0 and 1. Afterwards
            `moments = moments.update(estimate.losses - baseline)`.

    Unbiased but for the number that it is divided by: the same for all components, and 1 where the variance is below 1.

    Raises:
        InputError: An argument that cannot be used.

    Source: Mnih and Gregor 2014 (arXiv:1402.0030), algorithm 1. There the moments hold the present samples too, which
    biases the estimate a little; here they hold the past alone.
    """
    check("nvil", logits, loss, samples, generator)
    if baseline is not None:
        baseline = wide(torch.as_tensor(per_element("nvil", "baseline", baseline, logits)))
    moments = SignalMoments() if moments is None else moments
    weights = maps.softmax(wide(logits.detach()), -1)
    drawn = draw(weights, samples, generator, logits.dtype)
    losses = evaluate("nvil", loss, drawn)
    signal = wide(losses.detach()) - moments.mean
    if baseline is not None:
        signal = signal - baseline.detach()
    signal = signal / torch.as_tensor(moments.variance, dtype=signal.dtype, device=signal.device).sqrt().clamp(min=1.0)
    surrogate = attach(mean(losses), logits, score_direction(signal, drawn, weights))
    if baseline is not None:
        surrogate = surrogate - (signal.mean(0) * (baseline - baseline.detach())).to(surrogate.dtype)
    return Estimate(surrogate, losses.detach(), drawn)

"""What every estimator is made of: its answer, its arguments' checks, its random numbers and its surrogate.

Axis legend: S samples, *B batch (any number of axes, or none), N categoricals, K classes.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.maps._arguments import can_look, kind, wide_type

Loss = Callable[[Tensor], Tensor]
"""From samples (..., *B, N, K), one-hot or relaxed, to losses (..., *B): leading axes are a batch."""

Source = torch.Generator | Callable[[tuple[int, ...]], Tensor] | None
"""Where random numbers are from: a generator on the logits' device, a function from a shape (S, ...) to numbers in
[0, 1), or, where it is None, PyTorch's own."""

FLOOR = -1e4
"""Scores below are raised to it before anything differentiable sees them: minus infinity times 0 would be NaN."""


class Estimate(NamedTuple):
    """A loss's expectation and the gradient of it, as estimated."""

    surrogate: Tensor
    """(*B): its value is the mean of the loss over the samples, its gradient with respect to the logits the estimate of
    the gradient of the expected loss, and with respect to all else that the loss depends on the ordinary gradient."""
    losses: Tensor
    """(S, *B), without gradient."""
    samples: Tensor
    """(S, *B, N, K), without gradient."""
    variance: Tensor | None = None
    """For estimators whose control learns: a scalar whose gradient, with respect to the control's parameters, is an
    unbiased estimate of the gradient of the estimate's variance, summed over components and batch."""


def check(name: str, logits: Tensor, loss: Loss, samples: int, generator: Source) -> None:
    """Raise `InputError` for arguments that no estimator can use."""
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise InputError(f"'logits' of {name} must be a floating-point tensor. Got {kind(logits)}. Use logits.float().")
    if logits.dim() < 2 or logits.shape[-1] < 1:
        raise InputError(
            f"'logits' of {name} must be (*batch, categoricals, classes) with one class or more. Got shape "
            f"{tuple(logits.shape)}. Add an axis for a single categorical: logits.unsqueeze(-2)."
        )
    if not callable(loss):
        raise InputError(
            f"'loss' of {name} must be a function of samples (..., N, K). Got {kind(loss)}. "
            "Give e.g. lambda sample: (sample * cost).sum((-2, -1))."
        )
    if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
        raise InputError(f"'samples' of {name} must be an integer of at least 1. Got {samples!r}. Use 1.")
    if generator is None or callable(generator):
        return
    if not isinstance(generator, torch.Generator) or generator.device.type != logits.device.type:
        got = generator.device if isinstance(generator, torch.Generator) else kind(generator)
        raise InputError(
            f"'generator' of {name} must be a torch.Generator on the logits' device, {logits.device}. Got {got}. "
            "Use torch.Generator(logits.device)."
        )


def check_positive(name: str, argument: str, value: float | Tensor) -> None:
    """Raise `InputError` unless `value` is a positive, finite number or a tensor of such."""
    if isinstance(value, Tensor):
        if not can_look(value) or bool(((value > 0) & value.isfinite()).all()):
            return
        raise InputError(f"'{argument}' of {name} must be positive and finite. Got {value.tolist()}. Use 1.0.")
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise InputError(f"'{argument}' of {name} must be a number. Got {kind(value)}. Use 1.0.")
    if not 0.0 < value < math.inf:
        raise InputError(f"'{argument}' of {name} must be positive and finite. Got {value}. Use 1.0.")


def per_element(name: str, argument: str, value: float | Tensor, logits: Tensor) -> float | Tensor:
    """A number as it is, a tensor checked: it must broadcast to (*B)."""
    if not isinstance(value, Tensor):
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise InputError(f"'{argument}' of {name} must be a number or a tensor. Got {kind(value)}. Use 0.0.")
        return value
    batch = logits.shape[:-2]
    try:
        value.expand(batch)
    except RuntimeError:
        raise InputError(
            f"'{argument}' of {name} must be a number or broadcast to the batch, {tuple(batch)}. "
            f"Got shape {tuple(value.shape)}. Give one number per batch element."
        ) from None
    return value


def evaluate(name: str, loss: Loss, samples: Tensor, batch: tuple[int, ...] | None = None) -> Tensor:
    """The losses of samples (S, *B, N, K), (S, *B); of (S, *1, N, K) where a batch shares them."""
    losses = loss(samples)
    wanted = samples.shape[:-2] if batch is None else (len(samples), *batch)
    if not isinstance(losses, Tensor) or losses.shape != wanted or not losses.is_floating_point():
        got = f"{losses.dtype} of shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else kind(losses)
        raise InputError(
            f"'loss' of {name} must return one number per sample, {tuple(wanted)} for samples "
            f"{tuple(samples.shape)}. Got {got}. Treat leading axes as batch: sum over the last two, (-2, -1), alone."
        )
    return losses


def wide(values: Tensor) -> Tensor:
    """In float32 or float64."""
    return values.to(wide_type(values.dtype))


def mean(losses: Tensor) -> Tensor:
    """Over samples; sums are not in half precision."""
    return wide(losses).mean(0).to(losses.dtype)


def transformed() -> bool:
    """Whether the compiler or a transform of `torch.func` looks on, so that no Python branch may look at values."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def uniform(samples: int, like: Tensor, generator: Source) -> Tensor:
    """(S, *like), in [0, 1)."""
    shape = (samples, *like.shape)
    if callable(generator):
        found = generator(shape)
        if tuple(found.shape) != shape:
            raise InputError(
                f"'generator' must give the shape that it is asked for, {shape}. Got {tuple(found.shape)}."
            )
        return found.to(like)
    if generator is None:  # the compiler takes no generator, not even None
        return torch.rand(shape, dtype=like.dtype, device=like.device)
    return torch.rand(shape, dtype=like.dtype, device=like.device, generator=generator)


def exponential(samples: int, like: Tensor, generator: Source) -> Tensor:
    """Exponential variables, (S, *like), above 0: minus their logarithms are standard Gumbel variables."""
    return (-torch.log1p(-uniform(samples, like, generator))).clamp(min=torch.finfo(like.dtype).tiny)


def mend(one_hot: Tensor, total: Tensor) -> Tensor:
    """One-hot vectors by the sum (..., 1) of their probabilities: zeros where no class has any, NaN where it is NaN."""
    if can_look(total) and bool((total > 0).all()):
        return one_hot
    return one_hot * torch.where(total == 0, total, total / total).to(one_hot.dtype)


def hot(index: Tensor, like: Tensor, total: Tensor) -> Tensor:
    """One-hot vectors (..., K) of classes (...), in the dtype of `like`, whose last axis is K. `total`: see `mend`."""
    classes = torch.arange(like.shape[-1], device=like.device)
    return mend((index.unsqueeze(-1) == classes).to(like.dtype), total)


def draw(weights: Tensor, samples: int, generator: Source, dtype: torch.dtype) -> Tensor:
    """One-hot samples (S, *B, N, K) by weights (*B, N, K), which sum to one; a class without weight is never drawn."""
    sums = weights.cumsum(-1)
    total = sums[..., -1:]
    # By the last sum: what rounding leaves below 1 would fall to the last class, which may have no weight.
    passed = uniform(samples, total, generator) >= sums[..., :-1] / total
    edge = passed.new_ones((*passed.shape[:-1], 1))
    one_hot = torch.cat([edge, passed], -1) ^ torch.cat([passed, ~edge], -1)
    return mend(one_hot.to(dtype), total)


def attach(value: Tensor, logits: Tensor, direction: Tensor) -> Tensor:
    """`value` (*B), whose gradient with respect to the logits is also `direction` (*B, N, K)."""
    finite = logits.masked_fill(logits.isinf(), 0.0)  # inf - inf would be NaN, and no gradient shall pass there
    return value + (direction.detach() * (finite - finite.detach())).sum((-2, -1)).to(value.dtype)


def joined(surrogate: Tensor, logits: Tensor) -> Tensor:
    """The surrogate, with a gradient of zero where the loss depends on nothing that has one."""
    if logits.requires_grad and not surrogate.requires_grad and torch.is_grad_enabled():
        return attach(surrogate, logits, torch.zeros_like(logits))
    return surrogate


def score_direction(signal: Tensor, samples: Tensor, weights: Tensor) -> Tensor:
    """Mean over samples of `signal * d log p(sample) / d logits`, (*B, N, K).

    Args:
        signal: (S, *B)
        samples: (S, *B, N, K), one-hot.
        weights: softmax of the logits, (*B, N, K).
    """
    signal = signal[..., None, None]
    return (signal * samples).mean(0) - signal.mean(0) * weights

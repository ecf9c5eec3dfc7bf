"""Losses, and the moments of an estimator over many draws."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softplace.latent import Loss, marginalise
from softplace.randomness import generator

DRAWS = 100_000
LOSSES = ("linear", "quadratic", "table")


def normal(*shape: int, label: str, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=generator(0, "latent", label), dtype=dtype)


def make_loss(kind: str, categoricals: int, classes: int, dtype: torch.dtype = torch.float32) -> Loss:
    """A sum over categoricals; its square; or any number for each configuration, multilinear in between."""
    cost = normal(categoricals, classes, label="cost", dtype=dtype)
    table = normal(*[classes] * categoricals, label="table", dtype=dtype)

    def linear(sample: Tensor) -> Tensor:
        return (sample * cost).sum((-2, -1))

    def quadratic(sample: Tensor) -> Tensor:
        return (linear(sample) - 0.4).square()

    def look_up(sample: Tensor) -> Tensor:
        found = table.expand(*sample.shape[:-2], *table.shape)
        for number in range(categoricals):
            weights = sample[..., number, :].reshape(*sample.shape[:-2], classes, *[1] * (categoricals - number - 1))
            found = (found * weights).sum(sample.dim() - 2)
        return found

    return {"linear": linear, "quadratic": quadratic, "table": look_up}[kind]


def gradient(function: Callable[..., Any], logits: Tensor, loss: Loss, **options: Any) -> Tensor:
    leaf = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(function(leaf, loss, **options).surrogate.sum(), leaf)
    return found


def exact_gradient(logits: Tensor, loss: Loss) -> Tensor:
    return gradient(marginalise, logits, loss).double()


class Moments(NamedTuple):
    mean: Tensor
    error: Tensor
    """Standard error of the mean."""
    variance: Tensor


def moments(
    function: Callable[..., Any], logits: Tensor, loss: Loss, *, repeats: int, label: str, **options: Any
) -> Moments:
    """Of the estimates (N, K), over `repeats` times `DRAWS` draws."""
    source = generator(0, "latent", "moments", label)
    total, squares = torch.zeros_like(logits, dtype=torch.double), torch.zeros_like(logits, dtype=torch.double)
    for _ in range(repeats):
        found = gradient(function, logits.expand(DRAWS, *logits.shape), loss, generator=source, **options)
        total += found.sum(0, dtype=torch.double)
        squares += found.double().square().sum(0)
    draws = repeats * DRAWS
    mean = total / draws
    variance = (squares / draws - mean.square()).clamp(min=0.0) * draws / (draws - 1)
    return Moments(mean, (variance / draws).sqrt(), variance)

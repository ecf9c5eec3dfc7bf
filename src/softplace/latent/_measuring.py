"""What is measured of an estimator, against the exact gradient.

Axis legend: D draws of an estimate, G groups of draws, M components of the gradient (batch x N x K).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from softplace.latent.estimators import Estimate, Estimator, Loss

GROUPS = 50
"""Groups of draws, by whose differences a bias is told from noise."""
ROOM = 1 << 21
"""Entries of samples that are drawn at a time."""
TIMED = 7
"""Estimates whose median time is reported."""
LEVEL = 1e-5
"""Probability below which what noise alone would do is called a bias."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of one estimator; lengths are Euclidean, over all components and batch elements."""

    name: str
    bias: float
    """Length of the mean estimate's distance from the exact gradient, less what noise alone adds to it."""
    bias_error: float
    """Standard error of `bias`; where `bias` is 0, the bias that would be seen with one standard error."""
    relative_bias: float | None
    """`bias` by the length of the exact gradient; None where that is 0."""
    biased: bool
    """Whether the bias is more than noise: of no bias, so much would be seen with a probability below `LEVEL`."""
    variance: float
    """Trace of the covariance of one estimate."""
    evaluations: float
    """Losses that one estimate takes."""
    rmse: float
    """Root of the mean squared error of the mean of as many estimates as `Diagnosis.budget` allows."""
    cosine: float | None
    """Mean cosine of the angle between one estimate and the exact gradient; None where that is 0."""
    seconds: float
    """Of one estimate and its backward pass, median."""
    unbiased: bool
    """Whether theory says so."""
    enumerates: bool
    """Whether it is exact, by enumeration."""

    @property
    def deviation(self) -> float:
        """Root of `variance`."""
        return math.sqrt(self.variance)


def gradient_of(
    function: Callable[..., Estimate], logits: Tensor, loss: Loss, **options: object
) -> tuple[Tensor, Tensor]:
    """The estimate, and the surrogate's value."""
    with torch.enable_grad():
        leaf = logits.detach().clone().requires_grad_()
        surrogate = function(leaf, loss, **options).surrogate
        if not surrogate.requires_grad:
            return torch.zeros_like(leaf), surrogate.detach()
        (gradient,) = torch.autograd.grad(surrogate.sum(), leaf, materialize_grads=True)
    return gradient, surrogate.detach()


def measure(
    estimator: Estimator,
    logits: Tensor,
    loss: Loss,
    exact: Tensor,
    expected: Tensor,
    samples: int,
    draws: int,
    generator: torch.Generator | None,
) -> Row:
    function: Callable[..., Estimate] = estimator.function
    if estimator.name == "nvil":
        function = partial(function, baseline=expected)
    count = 0

    def counted(sample: Tensor) -> Tensor:
        nonlocal count
        count += sample.numel() // max(logits.numel(), 1)
        return loss(sample)

    times = []
    for _ in range(TIMED):
        start, count = time.perf_counter(), 0
        gradient_of(function, logits, counted, samples=samples, generator=generator)
        if logits.device.type == "cuda":
            torch.cuda.synchronize(logits.device)
        times.append(time.perf_counter() - start)
    evaluations, seconds = count, sorted(times)[TIMED // 2]
    truth = exact.double().flatten()
    length = float(truth.norm())
    # An exact one needs no more than one draw per group: all are equal.
    per_group = 1 if estimator.needs_enumeration else draws // GROUPS
    at_a_time = max(1, ROOM // max(1, evaluations * logits.numel()))
    means, squares, cosine = [], torch.zeros((), dtype=torch.double, device=logits.device), 0.0
    # As many groups at a time as there is room for, or a group in parts.
    block = max(1, min(GROUPS, at_a_time // per_group))
    for start_group in range(0, GROUPS, block):
        groups = min(block, GROUPS - start_group)
        total = torch.zeros(groups, truth.numel(), dtype=torch.double, device=logits.device)
        part = per_group if groups > 1 or at_a_time >= per_group else at_a_time
        for first in range(0, per_group, part):
            size = groups, min(part, per_group - first)
            many = logits.expand(*size, *logits.shape)
            found = gradient_of(function, many, loss, samples=samples, generator=generator)[0]
            errors = found.flatten(2).double() - truth
            total += errors.sum(1)
            squares += errors.square().sum()
            if length:
                dots, lengths = (errors + truth) @ truth, (errors + truth).norm(dim=-1)
                cosine += float(torch.where(lengths > 0, dots / (lengths * length), 0.0).sum())
        means.append(total / per_group)
    drawn = GROUPS * per_group
    off = torch.cat(means)
    bias, error, biased = _bias(off, length, torch.finfo(exact.dtype).eps)
    mean_off = off.mean(0)
    variance = float(squares / drawn - mean_off.square().sum()) * drawn / (drawn - 1)
    return Row(
        name=estimator.name,
        bias=bias,
        bias_error=error,
        relative_bias=bias / length if length else None,
        biased=biased,
        variance=0.0 if estimator.needs_enumeration else max(variance, 0.0),
        evaluations=float(evaluations),
        rmse=math.nan,
        cosine=cosine / drawn if length else None,
        seconds=seconds,
        unbiased=estimator.unbiased,
        enumerates=estimator.needs_enumeration,
    )


def _bias(off: Tensor, length: float, precision: float) -> tuple[float, float, bool]:
    """Length of the mean of `off` (G, M), its standard error, and whether it is more than noise.

    The squared length is estimated without bias by products of different groups, and its error by their spread. Noise
    alone would make of the squared mean by the variance an F-distributed number, with as many degrees of freedom as
    components vary on their own, `(sum of the variance's eigenvalues)^2 / sum of their squares`.
    """
    from scipy import stats  # takes longer to import than all of this package

    groups = len(off)
    square, of_group, _ = _products(off)
    _, _, noise = _products(off - off.mean(0))
    spread = math.sqrt(2.0 * noise / (groups * (groups - 1)) + 4.0 * float(of_group.var()) / groups)
    bias = math.sqrt(max(square, 0.0))
    error = min(spread / (2.0 * bias), math.sqrt(spread)) if bias else math.sqrt(spread)
    rounding = (16.0 * precision * (length + float(off.abs().max()))) ** 2
    trace, whole = float(off.var(0).sum()), float(off.mean(0).square().sum())
    if whole <= rounding:
        return bias, error, False
    if trace <= rounding:
        return bias, error, True
    freedom = min(max(trace**2 / max(noise, 1e-300), 1.0), off.shape[1], groups - 1)
    p = float(stats.f.sf(groups * whole / trace, freedom, freedom * (groups - 1)))
    return bias, error, p < LEVEL


def _products(off: Tensor) -> tuple[float, Tensor, float]:
    """Of products of two different groups: the mean, the mean of each group, and the mean of the squares."""
    products = off @ off.mT
    products = products - torch.diag(products.diagonal())
    pairs = len(off) * (len(off) - 1)
    return float(products.sum()) / pairs, products.sum(1) / (len(off) - 1), float(products.square().sum()) / pairs

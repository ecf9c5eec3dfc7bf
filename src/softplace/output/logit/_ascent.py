"""Climbing a concave log-likelihood: L-BFGS with the information of some rows as its first metric.

Axis legend: L = K - 1 classes beside the base, P columns; everything in the columns inside (`_rows.Frame`).
A gradient costs two products with the rows, the information some L P / 8 times as much: so it is taken of a sample of
the rows, whose own maximum is also where the climb begins. L-BFGS mends what the sample has wrong.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from softplace.output.logit._rows import Level

DENSE_LIMIT = 4000
"""Up to so many coefficients their information matrix is kept."""
_MEMORY = 12
_DROP = 0.25
"""A step that leaves more than this of the distance is slow."""


class Metric(Protocol):
    """An approximation of the information that can be solved for."""

    def solve(self, gradient: Tensor) -> Tensor:
        """The step (L, P) for a gradient (L, P)."""

    def scaled(self, factor: float) -> "Metric":
        """That of so many times the rows."""


class Dense:
    """An information matrix."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        scale = matrix.diagonal().clamp_min(torch.finfo(torch.float64).tiny).rsqrt()
        self.scale = scale
        unit = matrix * scale * scale[:, None]
        # A ridge far below what matters keeps the triangle alive where classes are told apart.
        for ridge in (0.0, 1e-14, 1e-12, 1e-10, 1e-8):
            triangle, failed = torch.linalg.cholesky_ex(unit + ridge * torch.eye(len(unit), dtype=torch.float64))
            if not int(failed):
                break
        self.triangle = triangle

    def solve(self, gradient: Tensor) -> Tensor:
        """The step for a gradient."""
        flat = (gradient.flatten() * self.scale)[:, None]
        return (torch.cholesky_solve(flat, self.triangle)[:, 0] * self.scale).reshape(gradient.shape)

    def scaled(self, factor: float) -> Metric:
        """That of so many times the rows."""
        return Scaled(self, factor)


class Null:
    """The information where columns tell nothing and classes have their shares: `(diag(q) - q q^T) (x) W I + penalty`.

    With `coupling (x) quadratic` as the penalty both are made diagonal at once.
    """

    def __init__(self, among: Tensor, weight: float, coupling: Tensor | None, quadratic: Tensor | None) -> None:
        other = torch.zeros_like(among) if coupling is None else coupling
        values, vectors = scipy.linalg.eigh(other.numpy(), among.numpy())
        self.left = torch.from_numpy(vectors)
        if quadratic is None:
            self.right, spread = None, torch.zeros(1, dtype=torch.float64)
        else:
            spread, self.right = torch.linalg.eigh(quadratic)
        self.curvature = weight + torch.from_numpy(values)[:, None] * spread.clamp_min(0)

    def solve(self, gradient: Tensor) -> Tensor:
        """The step for a gradient."""
        turned = self.left.T @ gradient
        if self.right is None:
            return self.left @ (turned / self.curvature)
        found: Tensor = self.left @ ((turned @ self.right) / self.curvature) @ self.right.T
        return found

    def scaled(self, factor: float) -> Metric:
        """That of so many times the rows."""
        return Scaled(self, factor)


class Scaled:
    """A metric times a number."""

    def __init__(self, metric: Metric, factor: float) -> None:
        self.metric, self.factor = metric, factor

    def solve(self, gradient: Tensor) -> Tensor:
        """The step for a gradient."""
        return self.metric.solve(gradient) / self.factor

    def scaled(self, factor: float) -> Metric:
        """That of so many times the rows."""
        return Scaled(self.metric, self.factor * factor)


@dataclass(slots=True)
class Climb:
    """Where a climb is."""

    at: Tensor
    metric: Metric
    value: float = -np.inf
    gradient: Tensor = field(default_factory=lambda: torch.empty(0))
    distance: float = np.inf
    """Estimated distance to the top, in standard errors."""
    reached: bool = False
    last: Tensor | None = None
    """The last step."""
    steps: deque[tuple[Tensor, Tensor, float]] = field(default_factory=lambda: deque(maxlen=_MEMORY))

    def direction(self) -> Tensor:
        """The two-loop recursion of L-BFGS, with the metric in its middle."""
        left, shares = self.gradient, []
        for step, change, product in reversed(self.steps):
            share = float((step * left).sum()) / product
            shares.append(share)
            left = left - share * change
        found = self.metric.solve(left)
        if self.steps:
            _, change, product = self.steps[-1]
            found = found * (product / float((change * self.metric.solve(change)).sum()))
        for (step, change, product), share in zip(self.steps, reversed(shares), strict=True):
            found = found + step * (share - float((change * found).sum()) / product)
        return found

    def renew(self, metric: Metric) -> None:
        """Go on with another metric."""
        self.metric = metric
        self.steps.clear()


def climb(level: Level, start: Climb, *, tolerance: float, precise: bool, evaluations: int, renewing: bool) -> None:
    """Climb until the distance to the top is at most `tolerance` standard errors, or nothing more can be gained.

    Args:
        level: The rows.
        start: Where to begin; changed.
        tolerance: In standard errors: `sqrt(g . M^-1 g)`, M the metric.
        precise: Whether in float64.
        evaluations: At most so many of the level in all.
        renewing: Whether the information of all the level's rows may be taken when steps are slow.
    """
    state = start
    state.reached = False
    state.value, state.gradient = level.evaluate(state.at, precise)
    size = state.at.numel()
    patience, slow = max(2, size // 8), 0
    noise = 64 * torch.finfo(torch.float64 if precise or level.narrow is None else torch.float32).eps
    while True:
        direction = state.direction()
        slope = float((state.gradient * direction).sum())
        if not slope > 0 or not np.isfinite(slope):
            state.renew(state.metric)
            direction = state.direction()
            slope = float((state.gradient * direction).sum())
        distance = max(slope, 0.0) ** 0.5
        slow += distance > _DROP * state.distance
        state.distance = distance
        if distance <= tolerance:
            state.reached = True
            return
        if level.evaluations >= evaluations:
            return
        if renewing and slow >= patience and size <= DENSE_LIMIT:
            state.renew(information_metric(level, state.at, precise))
            slow = 0
            continue
        if not _step(level, state, direction, slope, precise, noise, evaluations):
            if not state.steps:
                return
            state.renew(state.metric)


def _step(
    level: Level, state: Climb, direction: Tensor, slope: float, precise: bool, noise: float, evaluations: int
) -> bool:
    """One step uphill, shortened until it does not pass the top by far; whether one was found."""
    length, low, high, steep = 1.0, 0.0, np.inf, slope
    allowed = noise * abs(state.value)
    while True:
        at = state.at + length * direction
        value, gradient = level.evaluate(at, precise)
        end = float((gradient * direction).sum())
        if not (np.isfinite(value) and value >= state.value - allowed and end >= -0.9 * slope):
            high = length
            share = min(max(steep / (steep - end), 0.1), 0.7) if np.isfinite(end) and end < 0 else 0.25
        elif high < np.inf and end > 0.5 * slope:
            # Far below the top still, and the top is between: where probabilities are 0 or 1 the slope tells little.
            low, steep, share = length, end, 0.5
        else:
            break
        if level.evaluations >= evaluations or high - low < 1e-8:
            return False
        length = low + share * (high - low)
    step, change = length * direction, state.gradient - gradient
    product = float((step * change).sum())
    if product > 1e-10 * float(step.norm() * change.norm()):
        state.steps.append((step, change, product))
    state.at, state.value, state.gradient, state.last = at, value, gradient, step
    return True


def information_metric(level: Level, at: Tensor, precise: bool) -> Dense:
    """The information of all the level's rows, with the penalty's."""
    matrix = level.information(at, precise)
    return Dense(matrix if level.penalty is None else matrix + level.penalty)

"""Multinomial logits with an L1 penalty: proximal Newton steps, and accelerated gradients where coefficients are many.

Axis legend: K classes, L = K - 1 beside the base, P columns, R rows of coefficients: K, or 1 with two classes.
The penalty counts the coefficients of every class, so all R rows are unknown; the likelihood knows their differences.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softplace.output.logit._ascent import DENSE_LIMIT
from softplace.output.logit._fit import Task, null_information, whole_level
from softplace.output.logit._rows import Level

Array = NDArray[np.float64]
_PATIENCE = 3
_SWEEPS = 300


@dataclass(frozen=True, kw_only=True)
class Elastic:
    """Where it ended."""

    rows: Tensor
    """(R, P)"""
    coefficients: Tensor
    """(L, P), of the columns as they came."""
    loglikelihood: float
    slope: float
    """Largest violation of the conditions of a maximum."""
    converged: bool
    evaluations: int
    level: Level


class _Problem:
    """The objective `-loglikelihood + l2 |r|^2 / 2 + l1 |r|` of flat rows, and the model of it near a point."""

    def __init__(self, task: Task, l2: float, l1: float, free: Tensor) -> None:
        self.task, self.level = task, whole_level(task)
        classes, columns = len(task.found.class_weight), len(free)
        self.shape = (1 if classes == 2 else classes, columns)
        self.differences = torch.ones(1, 1).double()
        if classes > 2:
            self.differences = torch.cat([-torch.ones(classes - 1, 1), torch.eye(classes - 1)], 1).double()
        counted = (~free).double().expand(self.shape).flatten().numpy()
        self.l2, self.l1 = l2 * counted, l1 * counted
        self.free = free

    def outside(self, rows: Array) -> Tensor:
        """Against the base."""
        return self.differences @ torch.from_numpy(rows.reshape(self.shape))

    def inside(self, rows: Array) -> Tensor:
        return self.outside(rows) @ self.level.frame.back.T

    def smooth(self, rows: Array, precise: bool) -> tuple[float, Array]:
        """The objective without the absolute values, and its gradient."""
        value, inside = self.level.loglikelihood(self.inside(rows), precise)
        gradient = (self.differences.T @ (inside @ self.level.frame.back)).flatten().numpy()
        return -value + 0.5 * float(self.l2 @ rows**2), self.l2 * rows - gradient

    def value(self, smooth: float, rows: Array) -> float:
        """The objective."""
        return smooth + float(self.l1 @ np.abs(rows))

    def curvature(self, rows: Array | None) -> Array:
        """Of the objective without the absolute values, at rows or where columns tell nothing."""
        classes, columns = len(self.differences), self.shape[1]
        if rows is None:
            products = torch.eye(columns, dtype=torch.float64) * self.level.weight
            inside = torch.kron(null_information(self.task.found), products)
        else:
            inside = self.level.information(self.inside(rows), self.level.narrow is None)
        matrix = self.level.frame.information(inside, classes).reshape(classes, columns, classes, columns)
        wide = torch.einsum("kr,kalb,ls->rasb", self.differences, matrix, self.differences)
        # The intercepts of all classes may move together, which nothing else holds.
        size = float(wide.diagonal(dim1=0, dim2=2).mean())
        for column in self.free.nonzero().flatten().tolist():
            if self.shape[0] > 1:
                wide[:, column, :, column] += size / self.shape[0]
        found: Array = wide.reshape(len(self.l1), -1).numpy()
        diagonal = found.diagonal()
        return found + np.diag(self.l2 + 1e-10 * np.max(diagonal))


def fit_elastic(task: Task, *, l2: float, l1: float, free: Tensor, tolerance: float, evaluations: int) -> Elastic:
    """The maximum: proximal Newton steps up to some thousand coefficients, else accelerated proximal gradients."""
    problem = _Problem(task, l2, l1, free)
    rows = np.zeros(len(problem.l1))
    if free.any() and task.found.constant is not None:
        column, value = task.found.constant
        start = torch.log(task.found.class_weight) / value
        start = start[1:] - start[0] if problem.shape[0] == 1 else start - start.mean()
        rows.reshape(problem.shape)[:, column] = start.numpy() if bool(free[column]) else 0.0
    climb = _newton if len(rows) <= DENSE_LIMIT else _accelerated
    rows, gradient, converged = climb(problem, rows, tolerance, evaluations)
    ended, _ = problem.level.loglikelihood(problem.inside(rows), True)
    return Elastic(
        rows=torch.from_numpy(rows.reshape(problem.shape)),
        coefficients=problem.outside(rows),
        loglikelihood=ended,
        slope=float(np.abs(_slope(rows, gradient, problem.l1)).max()),
        converged=converged,
        evaluations=problem.level.evaluations,
        level=problem.level,
    )


def _slope(rows: Array, gradient: Array, l1: Array) -> Array:
    """The subgradient of least size."""
    return np.where(rows != 0, gradient + l1 * np.sign(rows), np.sign(gradient) * np.maximum(np.abs(gradient) - l1, 0))


def _newton(problem: _Problem, rows: Array, tolerance: float, evaluations: int) -> tuple[Array, Array, bool]:
    """Steps to the minimum of the quadratic model with absolute values; the model is kept while steps are quick."""
    matrix = problem.curvature(None)
    smooth, gradient = problem.smooth(rows, True)
    before, slow = np.inf, 0
    while True:
        target = _minimum(matrix, gradient - matrix @ rows, problem.l1, rows)
        step = target - rows
        distance = max(float(step @ (matrix @ step)), 0.0) ** 0.5
        if distance <= tolerance or problem.level.evaluations >= evaluations:
            return rows, gradient, distance <= tolerance
        slow += distance > 0.25 * before
        before = distance
        if slow >= _PATIENCE:
            matrix, slow, before = problem.curvature(rows), 0, np.inf
            continue
        moved = _shortened(problem, rows, smooth, gradient, step, evaluations)
        if moved is None:
            return rows, gradient, False
        rows, smooth, gradient = moved


def _shortened(
    problem: _Problem, rows: Array, smooth: float, gradient: Array, step: Array, evaluations: int
) -> tuple[Array, float, Array] | None:
    value = problem.value(smooth, rows)
    gain = float(gradient @ step) + float(problem.l1 @ (np.abs(rows + step) - np.abs(rows)))
    length = 1.0
    while length > 1e-8 and problem.level.evaluations < evaluations:
        at = rows + length * step
        new, slope = problem.smooth(at, True)
        if problem.value(new, at) <= value + 1e-4 * length * gain + 1e-13 * abs(value):
            return at, new, slope
        length *= 0.5
    return None


def _minimum(matrix: Array, linear: Array, l1: Array, start: Array) -> Array:
    """Of `z^T matrix z / 2 + linear . z + l1 . |z|`: the best with these signs, then a sweep over others."""
    scale = 1 / np.sqrt(matrix.diagonal())
    matrix, linear, l1 = matrix * scale * scale[:, None], linear * scale, l1 * scale
    enough = 1e-10 * max(float(np.abs(linear).max()), 1e-300)
    z = start / scale
    for _ in range(_SWEEPS):
        z = _within_signs(matrix, linear, l1, z)
        gradient = matrix @ z + linear
        slopes = np.abs(_slope(z, gradient, l1))
        if float(slopes.max()) <= enough:
            break
        for i in np.flatnonzero(slopes > enough).tolist():
            new = z[i] - gradient[i]
            new = np.sign(new) * max(abs(new) - l1[i], 0.0)
            if (change := new - z[i]) != 0.0:
                gradient += change * matrix[i]
                z[i] = new
    return z * scale


def _within_signs(matrix: Array, linear: Array, l1: Array, z: Array) -> Array:
    """The minimum over z of these signs, zeros staying; on the way to it, what comes to 0 first stays there."""
    z = z.copy()
    while len(active := np.flatnonzero((z != 0) | (l1 == 0))):
        now, signs = z[active], np.sign(z[active])
        found = np.linalg.solve(matrix[np.ix_(active, active)], -linear[active] - l1[active] * signs)
        crossing = np.flatnonzero((l1[active] > 0) & (found * signs <= 0))
        if not len(crossing):
            z[active] = found
            break
        shares = now[crossing] / (now[crossing] - found[crossing])
        first = crossing[shares <= shares.min()]
        z[active] = now + shares.min() * (found - now)
        z[active[first]] = 0.0
    return z


def _accelerated(problem: _Problem, rows: Array, tolerance: float, evaluations: int) -> tuple[Array, Array, bool]:
    """Proximal gradients with momentum, begun anew where it leads uphill; columns are scaled to the same spread."""
    spread = torch.einsum("pa,pa->a", problem.level.frame.back, problem.level.frame.back).clamp_min(1e-300)
    scale = (1 / (spread * problem.level.weight).sqrt()).expand(problem.shape).flatten().numpy()
    l1 = problem.l1 * scale
    rough = float(torch.linalg.matrix_norm(problem.level.frame.back / spread.sqrt(), 2)) ** 2
    step = 1.0 / (rough * 0.5 + float((problem.l2 * scale**2).max()))
    at = ahead = rows / scale
    momentum = 1.0
    while True:
        _, gradient = problem.smooth(ahead * scale, True)
        moved = ahead - step * scale * gradient
        new = np.sign(moved) * np.maximum(np.abs(moved) - step * l1, 0.0)
        change = float(np.linalg.norm(new - ahead))
        if change <= 0.1 * tolerance or problem.level.evaluations >= evaluations:
            return new * scale, problem.smooth(new * scale, True)[1], change <= 0.1 * tolerance
        if float((ahead - new) @ (new - at)) > 0:
            momentum = 1.0
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / following * (new - at)
        at, momentum = new, following

"""The multinomial logit's solver: coefficients of largest likelihood, their information, scores of rows.

Axis legend: N rows, P columns, K classes; coefficients (K-1, P) against class 0, flat ones class-major.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A fitted multinomial logit."""

    coefficients: Array
    """(K-1, P) against class 0: `ln P(k) / P(0) = x . b_k`; row k-1 is class k."""
    loglikelihood: float
    """Without the penalty, with the weights, in nats."""
    converged: bool
    iterations: int
    gradient_norm: float
    """Largest absolute entry of the gradient (less the penalty's), per unit of weight."""
    information: Array | None
    """Minus the Hessian of the log-likelihood, ((K-1)P, (K-1)P), class-major; `None` where it was not asked for."""


def solve(
    X: Array,
    codes: NDArray[np.integer],
    classes: int,
    *,
    sample_weight: Array | None = None,
    offset: Array | None = None,
    information: bool = False,
    tolerance: float = 1e-6,
    max_iterations: int = 100,
) -> Solution:
    """The coefficients of largest likelihood.

    Args:
        X: (N, P), finite; a column of ones is the intercept.
        codes: (N,), 0..K-1; class 0 is the base.
        classes: K.
        sample_weight: (N,), not negative: row i counts as w_i rows.
        offset: (N, K), added to the scores `0, x . b_1, ...`.
        information: Whether the information matrix is wanted too.
        tolerance: Largest distance to the maximum, in standard errors.
        max_iterations: After so many it stops, not converged.
    """
    weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    b = np.zeros((classes - 1, X.shape[1]))
    answer = np.asarray(codes)[:, None] == np.arange(1, classes)
    converged, step = False, 0
    value = -np.inf
    direction = np.zeros_like(b)
    while True:
        p = _shares(X, b, offset)
        new = float(weight @ np.log(p[np.arange(len(X)), codes]))
        if new < value - 1e-9 * abs(value):
            direction /= 2
            b = b - direction
            step += 1
            if step >= max_iterations:
                break
            continue
        value = new
        gradient = ((answer - p[:, 1:]) * weight[:, None]).T @ X
        hessian = _information(X, p[:, 1:], weight)
        direction = np.linalg.lstsq(hessian, gradient.ravel(), rcond=None)[0].reshape(b.shape)
        converged = bool(np.sum(direction * gradient) <= tolerance**2)
        if converged or step >= max_iterations:
            break
        b = b + direction
        step += 1
    return Solution(
        coefficients=b,
        loglikelihood=value,
        converged=converged,
        iterations=step,
        gradient_norm=float(np.abs(gradient).max() / weight.sum()),
        information=hessian if information else None,
    )


def information(X: Array, coefficients: Array, sample_weight: Array | None = None, offset: Array | None = None) -> Array:
    """Minus the Hessian of the log-likelihood: `sum_i w_i (diag(p_i) - p_i p_i^T) (x) x_i x_i^T`, class-major."""
    weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    return _information(X, _shares(X, coefficients, offset)[:, 1:], weight)


def scores(
    X: Array,
    codes: NDArray[np.integer],
    coefficients: Array,
    sample_weight: Array | None = None,
    offset: Array | None = None,
) -> Array:
    """Each row's gradient of its log-likelihood, `w_i (y_i - p_i) (x) x_i`: (N, (K-1)P), class-major."""
    residual = (np.asarray(codes)[:, None] == np.arange(1, len(coefficients) + 1)) - _shares(X, coefficients, offset)[:, 1:]
    if sample_weight is not None:
        residual = residual * np.asarray(sample_weight)[:, None]
    return np.asarray((residual[:, :, None] * X[:, None, :]).reshape(len(X), -1))


def score_products(
    X: Array,
    codes: NDArray[np.integer],
    coefficients: Array,
    sample_weight: Array | None = None,
    offset: Array | None = None,
    groups: NDArray[np.integer] | None = None,
) -> Array:
    """The sandwich's filling, `sum_g s_g s_g^T`, s_g the sum of the (weighted) scores of group g's rows.

    Args:
        groups: (N,), the group of each row, 0..G-1; `None`: each row is one of its own.
    """
    rows = scores(X, codes, coefficients, sample_weight, offset)
    if groups is not None:
        sums = np.zeros((int(groups.max()) + 1, rows.shape[1]))
        np.add.at(sums, groups, rows)
        rows = sums
    return np.asarray(rows.T @ rows)


def probabilities(X: Array, coefficients: Array, offset: Array | None = None) -> Array:
    """(N, K)."""
    return _shares(X, coefficients, offset)


def _shares(X: Array, b: Array, offset: Array | None) -> Array:
    scores = np.zeros((len(X), len(b) + 1))
    np.matmul(X, b.T, out=scores[:, 1:])
    if offset is not None:
        scores += offset
    scores -= scores.max(1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(1, keepdims=True)
    return scores


def _information(X: Array, shares: Array, weight: Array) -> Array:
    k, p = shares.shape[1], X.shape[1]
    total = np.empty((k, p, k, p))
    for i in range(k):
        for j in range(i + 1):
            factor = weight * shares[:, i] * ((i == j) - shares[:, j])
            block = (X * factor[:, None]).T @ X
            total[i, :, j], total[j, :, i] = block, block.T
    return total.reshape(k * p, k * p)

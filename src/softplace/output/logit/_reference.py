"""The multinomial logit by the definition, in float64 and one row at a time or dense: the truth for tests.

Axis legend: N rows, P columns, K classes; coefficients (K-1, P) against class 0, flat ones class-major.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def probabilities(X: Array, coefficients: Array, offset: Array | None = None) -> Array:
    """P(k) = exp(s_k) / sum_j exp(s_j), s_0 = 0 and s_k = x . b_k: (N, K)."""
    scores = np.column_stack([np.zeros(len(X)), X @ coefficients.T])
    if offset is not None:
        scores = scores + offset
    shares = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))


def loglikelihood(
    X: Array, codes: NDArray[np.intp], coefficients: Array, weight: Array | None = None, offset: Array | None = None
) -> float:
    """sum_i w_i ln P_i(y_i)."""
    rows = np.log(probabilities(X, coefficients, offset)[np.arange(len(X)), codes])
    return float(rows.sum() if weight is None else weight @ rows)


def scores(X: Array, codes: NDArray[np.intp], coefficients: Array, weight: Array | None = None) -> Array:
    """Each row's gradient of its log-likelihood, `w_i (y_i - p_i) (x) x_i`: (N, (K-1)P)."""
    shares = probabilities(X, coefficients)[:, 1:]
    answer = codes[:, None] == np.arange(1, shares.shape[1] + 1)
    rows = ((answer - shares)[:, :, None] * X[:, None, :]).reshape(len(X), -1)
    return np.asarray(rows if weight is None else rows * weight[:, None])


def information(X: Array, coefficients: Array, weight: Array | None = None, offset: Array | None = None) -> Array:
    """Minus the Hessian, `sum_i w_i (diag(p_i) - p_i p_i^T) (x) x_i x_i^T`: ((K-1)P, (K-1)P)."""
    total = np.zeros((coefficients.size, coefficients.size))
    for i, (x, p) in enumerate(zip(X, probabilities(X, coefficients, offset)[:, 1:], strict=True)):
        total += (1.0 if weight is None else weight[i]) * np.kron(np.diag(p) - np.outer(p, p), np.outer(x, x))
    return total


def newton(X: Array, codes: NDArray[np.intp], classes: int, weight: Array | None = None, steps: int = 50) -> Array:
    """The coefficients of largest likelihood, by Newton's method with halved steps."""
    b = np.zeros((classes - 1, X.shape[1]))
    value = loglikelihood(X, codes, b, weight)
    for _ in range(steps):
        direction = np.linalg.solve(information(X, b, weight), scores(X, codes, b, weight).sum(0)).reshape(b.shape)
        size = 1.0
        while (new := loglikelihood(X, codes, b + size * direction, weight)) < value and size > 1e-6:
            size /= 2
        if new < value or np.abs(direction).max() < 1e-13:
            break
        b, value = b + size * direction, new
    return b

"""The likelihood by plain NumPy, without checks, for loops over effects and resamples.

Axis legend: N rows, P columns, K classes; coefficients (K-1, P) against class 0. Classes lie before rows, so that sums
over classes and products with columns run along rows.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def shares(X: Array, b: Array) -> Array:
    """(K, N), `softmax(0, x . b_1, ...)`."""
    scores = np.zeros((len(b) + 1, len(X)))
    np.matmul(b, X.T, out=scores[1:])
    scores -= scores.max(0)
    np.exp(scores, out=scores)
    scores /= scores.sum(0)
    return scores


def loglikelihood(p: Array, codes: NDArray[np.integer], weight: Array) -> float:
    """`sum_i w_i ln P_i(y_i)`; minus infinity where a probability is 0."""
    with np.errstate(divide="ignore"):
        return float(weight @ np.log(p[codes, np.arange(len(codes))]))


def gradient(X: Array, p: Array, codes: NDArray[np.integer], weight: Array) -> Array:
    """((K-1)P,), class-major."""
    residual = -p * weight
    residual[codes, np.arange(len(codes))] += weight
    return np.asarray((residual[1:] @ X).ravel())


def information(X: Array, p: Array, weight: Array) -> Array:
    """((K-1)P, (K-1)P), class-major."""
    free, columns = len(p) - 1, X.shape[1]
    whole = np.empty((free, columns, free, columns))
    for j in range(free):
        for k in range(j + 1):
            block = (X.T * (weight * p[j + 1] * ((j == k) - p[k + 1]))) @ X
            whole[j, :, k], whole[k, :, j] = block, block.T
    return whole.reshape(free * columns, free * columns)

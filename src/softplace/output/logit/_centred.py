"""Columns centred and scaled, so that inverses lose no digits, and the way back.

Axis legend: N rows, P columns, K classes, Q = (K-1)P parameters; coefficients (K-1, P), flat ones class-major.
A year or an income far from 0 makes the information matrix of the columns as they are singular in float64, though the
model is well determined. The likelihood of centred columns is the same, with `b = M b_centred` for each class.
"""

from dataclasses import dataclass

import numpy as np

from softplace.output.logit.inference import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Centred:
    """Columns of mean 0 (where there is an intercept) and largest distance 1.

    Args:
        X: (N, P).
        shift, scale: (P,), `X = (x - shift) / scale`.
        constant: The place of the intercept, or `None`: then nothing is shifted.
        level: The intercept's value.
    """

    X: Array
    shift: Array
    scale: Array
    constant: int | None
    level: float

    @classmethod
    def of(cls, X: Array) -> "Centred":
        """The columns of X."""
        low, high = X.min(0), X.max(0)
        (constants,) = np.nonzero((low == high) & (low != 0.0))
        constant = int(constants[0]) if len(constants) else None
        shift = np.zeros(X.shape[1])
        if constant is not None:
            shift = X.mean(0)
            shift[constants] = 0.0
        scale = np.maximum(high - shift, shift - low)
        scale[~(scale > 0.0)] = 1.0
        scale[constants] = 1.0
        level = 1.0 if constant is None else float(low[constant])
        return cls(X=(X - shift) / scale, shift=shift, scale=scale, constant=constant, level=level)

    @property
    def back(self) -> Array:
        """M, (P, P)."""
        found = np.diag(1.0 / self.scale)
        if self.constant is not None:
            found[self.constant] -= self.shift / self.scale / self.level
        return found

    def to_raw(self, coefficients: Array) -> Array:
        """(K-1, P) of the columns as they were."""
        return np.asarray(coefficients @ self.back.T)

    def from_raw(self, coefficients: Array) -> Array:
        """(K-1, P) of the centred columns."""
        found: Array = coefficients * self.scale
        if self.constant is not None:
            found[:, self.constant] += coefficients @ self.shift / self.level
        return found

    def covariance(self, spread: Array) -> Array:
        """(Q, Q) of the coefficients of the columns as they were."""
        whole = np.kron(np.eye(len(spread) // len(self.scale)), self.back)
        return np.asarray(whole @ spread @ whole.T)

    def draws(self, coefficients: Array) -> Array:
        """(B, Q) of the columns as they were."""
        rows = coefficients.reshape(len(coefficients), -1, len(self.scale))
        return np.asarray((rows @ self.back.T).reshape(len(coefficients), -1))

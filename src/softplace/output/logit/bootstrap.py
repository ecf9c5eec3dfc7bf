"""The bootstrap of pairs for the multinomial logit: refits to rows drawn with replacement, started at the fit.

Axis legend: N rows, P columns, K classes, Q = (K-1)P parameters, B resamples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softplace.output.logit import _dense
from softplace.output.logit.inference import Array, check_weights, quantile, row_count

_CLOSE = 1e-10  # square of the distance to the maximum, in standard errors
_CHORDS, _NEWTONS = 8, 15


@dataclass(frozen=True, kw_only=True, eq=False)
class Bootstrap:
    """Coefficients of resamples.

    Args:
        draws: (B, Q), those of the resamples that have a maximum, against class 0, class-major.
        failed: How many resamples have none: a class is absent, or columns separate the classes.
    """

    draws: Array
    failed: int

    @property
    def covariance(self) -> Array:
        """(Q, Q), of the draws."""
        return np.atleast_2d(np.cov(self.draws, rowvar=False))

    def conf_int(self, level: float = 0.95) -> Array:
        """(Q, 2), the percentile interval (Efron 1979): quantiles of the draws."""
        quantile(level)  # refuses what is no level
        low, high = np.quantile(self.draws, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0)
        return np.column_stack([low, high])


def bootstrap(
    X: Array,
    codes: NDArray[np.integer],
    coefficients: Array,
    *,
    resamples: int,
    seed: int = 0,
    sample_weight: Array | None = None,
    weights_are: str = "counts",
    groups: NDArray[np.integer] | None = None,
) -> Bootstrap:
    """Refit to resamples of the rows (or of whole groups).

    A refit starts at the fit and takes steps with the fit's information, which needs gradients alone; where these do
    not come near fast, Newton's steps. It has failed where `_NEWTONS` of them do not reach a maximum: columns then
    separate the classes of the resample, and its coefficients are infinite.

    Args:
        X: (N, P).
        codes: (N,), 0..K-1.
        coefficients: (K-1, P), where the likelihood is largest.
        resamples: How many, 2 or more.
        seed: Of the draws.
        sample_weight: (N,). "counts" are drawn from as so many rows (their sum is rounded); sampling weights go with
            their rows.
        weights_are: "counts" or "sampling".
        groups: (N,), 0..G-1: groups are drawn, not rows.

    Raises:
        ValueError: `resamples` is not 2 or more, or fewer than two resamples have a maximum.
    """
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 2:
        raise ValueError(f"'resamples' must be a whole number from 2. Got {resamples!r}. Use e.g. 500.")
    check_weights(weights_are, "bootstrap", weighted=sample_weight is not None)
    draws = np.random.default_rng(seed)
    weight: Array = np.ones(len(X)) if sample_weight is None else sample_weight
    information = _dense.information(X, _dense.shares(X, coefficients), weight)
    chord: Array = np.linalg.inv(information).astype(np.float64)
    present = np.bincount(codes, weights=weight) > 0
    found = []
    for _ in range(resamples):
        weights = _resample(draws, weight, weights_are, groups)
        used = np.flatnonzero(weights)
        if np.any((np.bincount(codes[used], minlength=len(present)) == 0) & present):
            continue
        fit = _refit(X[used], codes[used], coefficients, weights[used], chord)
        if fit is not None:
            found.append(fit.ravel())
    if len(found) < 2:
        raise ValueError(
            f"a bootstrap needs two resamples or more that have a maximum. Got {len(found)} of {resamples}: classes "
            "are absent from them, or separated by columns. Use 'observed' errors, or join rare classes."
        )
    return Bootstrap(draws=np.array(found), failed=resamples - len(found))


def _resample(draws: np.random.Generator, weight: Array, weights_are: str, groups: NDArray[np.integer] | None) -> Array:
    """The weights of the rows in a resample."""
    if groups is not None:
        count = int(groups.max()) + 1
        return np.asarray(weight * np.bincount(draws.integers(count, size=count), minlength=count)[groups])
    if weights_are == "counts":
        total = max(round(row_count(len(weight), weight, weights_are)), 1)
        if total == len(weight) and np.all(weight == 1.0):  # the same draws, without a product of N probabilities
            return np.bincount(draws.integers(total, size=total), minlength=total).astype(np.float64)
        return draws.multinomial(total, weight / weight.sum()).astype(np.float64)
    times = np.bincount(draws.integers(len(weight), size=len(weight)), minlength=len(weight))
    return np.asarray(weight * times)


def _refit(X: Array, codes: NDArray[np.integer], start: Array, weight: Array, chord: Array) -> Array | None:
    b, last = start, np.inf
    for _ in range(_CHORDS):
        gradient = _dense.gradient(X, _dense.shares(X, b), codes, weight)
        step = chord @ gradient
        decrement = float(step @ gradient)
        if decrement <= _CLOSE:
            return b
        if not decrement < 0.3 * last:
            break
        b, last = b + step.reshape(b.shape), decrement
    b, p = start, _dense.shares(X, start)
    value = _dense.loglikelihood(p, codes, weight)
    for _ in range(_NEWTONS):
        gradient = _dense.gradient(X, p, codes, weight)
        step = np.asarray(np.linalg.lstsq(_dense.information(X, p, weight), gradient)[0], dtype=np.float64)
        if float(step @ gradient) <= _CLOSE:
            return b
        size = 1.0
        while size > 1e-3:
            trial = b + size * step.reshape(b.shape)
            p = _dense.shares(X, trial)
            if (new := _dense.loglikelihood(p, codes, weight)) >= value:
                break
            size /= 2
        else:
            return None
        b, value = trial, new
    return None

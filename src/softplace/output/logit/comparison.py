"""Comparisons of models: likelihood-ratio, Wald and score tests, pseudo-R2, information criteria, confusion.

Axis legend: N rows, P columns, K classes, Q = (K-1)P parameters.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from softplace.output.logit import _dense
from softplace.output.logit.inference import Array, Estimates
from softplace.output.logit.tables import Table


@dataclass(frozen=True, kw_only=True)
class Test:
    """A test of a hypothesis.

    Args:
        name: Which test.
        hypothesis: What is tested, in words.
        statistic: Of a chi-squared distribution where the hypothesis holds.
        degrees: Of freedom.
        p: The probability of a statistic as large where the hypothesis holds; `None` where the statistic says nothing.
        note: What a reader must know.
    """

    __test__ = False  # no test of pytest

    name: str
    hypothesis: str
    statistic: float
    degrees: int
    p: float | None
    note: str = ""


def chi_squared(name: str, hypothesis: str, statistic: float, degrees: int, note: str = "") -> Test:
    """A test by the upper tail of a chi-squared distribution."""
    p = float(stats.chi2.sf(statistic, degrees)) if degrees else None
    return Test(name=name, hypothesis=hypothesis, statistic=statistic, degrees=degrees, p=p, note=note)


def table_of(tests: list[Test], title: str = "Tests") -> Table:
    """Tests as a table."""
    told = 6 if any(test.note for test in tests) else 5
    rows = [(test.hypothesis, test.name, test.statistic, test.degrees, test.p, test.note) for test in tests]
    columns = ("hypothesis", "test", "chi2", "df", "p", "note")
    return Table(title=title, columns=columns[:told], rows=tuple(row[:told] for row in rows))


def wald(estimates: Estimates, matrix: Array, values: Array, hypothesis: str) -> Test:
    """Wald test of `matrix @ parameters = values`: `d^T (R V R^T)^-1 d`, `d = R b - r`.

    The covariance may be any: the test is robust where it is.

    Raises:
        ValueError: Rows of the matrix depend on one another, or the covariance of R b is singular.
    """
    distance = matrix @ estimates.values - values
    spread = matrix @ estimates.covariance @ matrix.T
    if np.isnan(spread).any():
        return chi_squared("Wald", hypothesis, math.nan, len(matrix))
    scale = np.sqrt(np.diag(spread))
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.nan_to_num(spread / np.outer(scale, scale))
    rank = int(np.linalg.matrix_rank(scaled, tol=1e-10, hermitian=True))
    if rank < len(matrix):
        raise ValueError(
            f"the hypothesis {hypothesis!r} must be of {len(matrix)} independent equations. Got {rank}. Leave out "
            "those that follow from others."
        )
    statistic = float((distance / scale) @ np.linalg.solve(scaled, distance / scale))
    return chi_squared("Wald", hypothesis, statistic, len(matrix))


def likelihood_ratio(full: float, restricted: float, degrees: int, hypothesis: str) -> Test:
    """Likelihood-ratio test, `2 (l_full - l_restricted)`, of a model within another, by their log-likelihoods."""
    return chi_squared("likelihood ratio", hypothesis, max(2.0 * (full - restricted), 0.0), degrees)


def score(
    X: Array,
    codes: NDArray[np.integer],
    restricted: Array,
    degrees: int,
    hypothesis: str,
    weight: Array | None = None,
) -> Test:
    """Score (Lagrange multiplier) test, `g^T I^-1 g` at the restricted coefficients, in the columns of the full model.

    Args:
        X: (N, P) of the full model.
        codes: (N,).
        restricted: (K-1, P), the restricted model's coefficients in these columns.
        degrees: Of freedom.
        hypothesis: In words.
        weight: (N,), counts of rows.

    Source: Rao 1948.
    """
    counts = np.ones(len(X)) if weight is None else weight
    p = _dense.shares(X, restricted)
    gradient, information = _dense.gradient(X, p, codes, counts), _dense.information(X, p, counts)
    scale = np.sqrt(np.diag(information))
    solved = np.linalg.solve(information / np.outer(scale, scale), gradient / scale)
    return chi_squared("score", hypothesis, float(gradient / scale @ solved), degrees)


def within(X: Array, other: Array) -> Array | None:
    """The matrix A with `other = X A`, (P, P'): the columns of a model within another; `None` where it is not."""
    found: Array = np.linalg.lstsq(X, other, rcond=None)[0].astype(np.float64)
    found[np.abs(found) < 1e-9 * max(np.abs(found).max(initial=0.0), 1e-300)] = 0.0
    gap = np.abs(X @ found - other).max(axis=0, initial=0.0)
    return found if np.all(gap <= 1e-8 * np.abs(other).max(axis=0, initial=0.0)) else None


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How well a model fits.

    Args:
        rows: N, or the sum of the weights where they are counts.
        parameters: Q.
        loglikelihood: Of the model.
        null: Of the model with an intercept alone: `sum_k n_k ln(n_k / N)`.
        right: Rows (or counts) whose likeliest class is their own.
        largest: Rows (or counts) of the most frequent class.
    """

    rows: float
    parameters: int
    loglikelihood: float
    null: float
    right: float
    largest: float

    @property
    def aic(self) -> float:
        """`2 Q - 2 l`."""
        return 2.0 * self.parameters - 2.0 * self.loglikelihood

    @property
    def bic(self) -> float:
        """`Q ln N - 2 l`."""
        return self.parameters * math.log(self.rows) - 2.0 * self.loglikelihood

    @property
    def pseudo_r2(self) -> dict[str, float]:
        """Pseudo-R2 by the names of their authors.

        With l the log-likelihood and l_0 the null model's: McFadden `1 - l / l_0`; McFadden adjusted
        `1 - (l - Q) / l_0` (Q counts intercepts); Cox and Snell `1 - exp(2 (l_0 - l) / N)`; Nagelkerke: that over its
        largest value, `1 - exp(2 l_0 / N)`; Aldrich and Nelson `G / (G + N)`, `G = 2 (l - l_0)`; count: the share of
        rows whose likeliest class is their own; count adjusted: the share of those that the most frequent class misses.
        """
        ratio = 2.0 * (self.loglikelihood - self.null)
        cox_snell = -math.expm1(-ratio / self.rows)
        missed = self.rows - self.largest
        return {
            "McFadden": 1.0 - self.loglikelihood / self.null,
            "McFadden adjusted": 1.0 - (self.loglikelihood - self.parameters) / self.null,
            "Cox and Snell": cox_snell,
            "Nagelkerke": cox_snell / -math.expm1(2.0 * self.null / self.rows),
            "Aldrich and Nelson": ratio / (ratio + self.rows),
            "count": self.right / self.rows,
            "count adjusted": (self.right - self.largest) / missed if missed else math.nan,
        }

    def table(self) -> Table:
        """All measures."""
        rows: list[tuple[str, float]] = [
            ("log-likelihood", self.loglikelihood),
            ("log-likelihood, intercept alone", self.null),
            ("AIC", self.aic),
            ("BIC", self.bic),
            *((f"pseudo-R2, {name}", value) for name, value in self.pseudo_r2.items()),
        ]
        return Table(title="Fit", columns=("measure", "value"), rows=tuple(rows))


def fit_of(p: Array, codes: NDArray[np.integer], loglikelihood: float, parameters: int, weight: Array | None) -> Fit:
    """The fit of predicted probabilities (N, K)."""
    counts = np.bincount(codes, weights=weight, minlength=p.shape[1])
    shares = counts[counts > 0] / counts.sum()
    right = (p.argmax(1) == codes).astype(np.float64)
    return Fit(
        rows=float(counts.sum()),
        parameters=parameters,
        loglikelihood=loglikelihood,
        null=float(counts[counts > 0] @ np.log(shares)),
        right=float(right.sum() if weight is None else weight @ right),
        largest=float(counts.max()),
    )


def confusion(p: Array, codes: NDArray[np.integer], weight: Array | None = None) -> Array:
    """Rows (or counts) of each class (down) by the likeliest class (across): (K, K)."""
    classes = p.shape[1]
    pairs = np.asarray(codes) * classes + p.argmax(1)
    return np.bincount(pairs, weights=weight, minlength=classes * classes).reshape(classes, classes).astype(np.float64)

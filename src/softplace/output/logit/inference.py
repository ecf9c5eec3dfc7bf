"""Inference for the multinomial logit: covariances, standard errors, intervals, ratios, another reference class.

Axis legend: N rows, P columns, K classes, Q parameters; coefficients (K-1, P) against class 0, flat ones class-major.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from softplace.errors import nearest
from softplace.output.logit import solver
from softplace.output.logit.tables import Table

Array = NDArray[np.float64]

COVARIANCES = ("observed", "hc0", "hc1", "cluster")
"""Ways to estimate the covariance from one fit; the bootstrap is beside them (`bootstrap.py`)."""
WEIGHTS = ("counts", "sampling")
"""What weights may be: a row stands for w_i equal rows, or it was drawn with a probability that goes as 1 / w_i."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimates:
    """Parameters with their covariance.

    Args:
        values: (Q,).
        covariance: (Q, Q).
        names: The equation (a class; "" where there is one equation) and the column of each parameter.
        errors: How the covariance was estimated, in words.
        of: What equations are called.
    """

    values: Array
    covariance: Array
    names: tuple[tuple[str, str], ...]
    errors: str
    of: str = "class"

    @property
    def standard_errors(self) -> Array:
        """(Q,), the square roots of the covariance's diagonal."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.sqrt(np.diag(self.covariance)))

    @property
    def z(self) -> Array:
        """(Q,), value over standard error."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.values / self.standard_errors)

    @property
    def p_values(self) -> Array:
        """(Q,), two-sided, of the normal distribution: `2 (1 - Phi(|z|))`."""
        return np.asarray(2.0 * stats.norm.sf(np.abs(self.z)))

    def conf_int(self, level: float = 0.95) -> Array:
        """(Q, 2), `value -+ z_(1+level)/2 error`, of the normal distribution.

        Raises:
            ValueError: `level` is not between 0 and 1.
        """
        half = quantile(level) * self.standard_errors
        return np.column_stack([self.values - half, self.values + half])

    def linear(self, matrix: Array, names: tuple[tuple[str, str], ...]) -> "Estimates":
        """The parameters `matrix @ values`, with the covariance `matrix V matrix^T`."""
        return replace(self, values=matrix @ self.values, covariance=matrix @ self.covariance @ matrix.T, names=names)

    def table(self, level: float = 0.95, title: str = "Coefficients") -> Table:
        """Each parameter with its error, z, p and interval."""
        bounds = self.conf_int(level)
        figures = np.column_stack([self.values, self.standard_errors, self.z, self.p_values, bounds]).tolist()
        return self._table(title, ("coefficient", "error", "z", "p", *bound_names(level)), figures)

    def ratios(self, level: float = 0.95, title: str = "Odds ratios") -> Table:
        """exp of each parameter, with `exp` of its interval; the error is `exp(value) error`, by the delta method.

        In a multinomial logit it is the factor by which one more unit of the column changes `P(class) / P(reference)`,
        which Stata calls a relative-risk ratio.
        """
        with np.errstate(over="ignore"):
            ratio, bounds = np.exp(self.values), np.exp(self.conf_int(level))
            figures = np.column_stack([ratio, ratio * self.standard_errors, self.z, self.p_values, bounds]).tolist()
        return self._table(title, ("ratio", "error", "z", "p", *bound_names(level)), figures)

    def _table(self, title: str, columns: tuple[str, ...], figures: list[list[float]]) -> Table:
        several = any(equation for equation, _ in self.names)
        rows = [
            ((equation or "(all)", column) if several else (column,)) + tuple(row)
            for (equation, column), row in zip(self.names, figures, strict=True)
        ]
        head = (self.of, "column") if several else ("column",)
        return Table(title=title, columns=head + columns, rows=tuple(rows), note=f"Errors: {self.errors}.")


def quantile(level: float) -> float:
    """The standard normal's quantile that a two-sided interval of this level needs.

    >>> round(quantile(0.95), 4)
    1.96
    """
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0.0 < level < 1.0:
        raise ValueError(f"'level' must be a number between 0 and 1. Got {level!r}. Use e.g. 0.95.")
    return float(stats.norm.ppf((1.0 + level) / 2.0))


def bound_names(level: float) -> tuple[str, str]:
    """What the ends of an interval are called, e.g. "2.5 %" and "97.5 %"."""
    return f"{50.0 * (1.0 - level):.4g} %", f"{50.0 * (1.0 + level):.4g} %"


def covariance(
    X: Array,
    codes: NDArray[np.integer],
    coefficients: Array,
    *,
    kind: str = "observed",
    sample_weight: Array | None = None,
    weights_are: str = "counts",
    groups: NDArray[np.integer] | None = None,
    information: Array | None = None,
) -> Array:
    """Covariance of the coefficients of largest likelihood.

    With I the observed information (minus the Hessian; it equals the expected one), s_i the score of row i:

    - "observed": `I^-1`.
    - "hc0": the sandwich `I^-1 (sum_i s_i s_i^T) I^-1`, right for the coefficients nearest to the truth where the model
      is wrong (Huber 1967; White 1982).
    - "hc1": "hc0" times `N / (N - Q)`, the factor of small samples of linear regression (as R's `sandwich`).
    - "cluster": the sandwich with the scores summed within each group, times `G / (G - 1)`, G groups (as Stata's
      `mlogit, vce(cluster)` and R's `vcovCL`; statsmodels' has `(N - 1) / (N - Q)` besides).

    Args:
        X: (N, P).
        codes: (N,), 0..K-1.
        coefficients: (K-1, P), where the likelihood is largest.
        kind: As above.
        sample_weight: (N,), not negative.
        weights_are: "counts": row i counts as w_i rows, N is the sum of the weights, and a filling's term counts w_i
            times. "sampling": w_i is the inverse of a probability of being drawn, N is the number of rows with a
            weight, and a filling's term is `w_i^2 s_i s_i^T`; "observed" would be wrong and is refused.
        groups: (N,), 0..G-1, for "cluster".
        information: I where it is known.

    Returns:
        ((K-1)P, (K-1)P), class-major.

    Raises:
        ValueError: `kind` or `weights_are` is unknown or they do not fit, fewer than two groups, or I is singular.
    """
    if kind not in COVARIANCES:
        raise ValueError(f"Unknown 'kind' {kind!r}. {nearest(kind, COVARIANCES)}")
    check_weights(weights_are, kind, weighted=sample_weight is not None)
    if information is None:
        information = solver.information(X, coefficients, sample_weight)
    bread = inverse(information)
    if kind == "observed":
        return bread
    if kind == "cluster":
        if groups is None or (count := int(groups.max()) + 1) < 2:
            got = "none" if groups is None else "1"
            raise ValueError(f"'groups' must be two groups or more. Got {got}. Use 'hc0' where rows are independent.")
        filling = solver.score_products(X, codes, coefficients, sample_weight, groups=groups)
        factor = count / (count - 1)
    else:
        weight = sample_weight
        if weight is not None and weights_are == "counts":
            weight = np.sqrt(weight)
        filling = solver.score_products(X, codes, coefficients, weight)
        rows, free = row_count(len(X), sample_weight, weights_are), coefficients.size
        if kind == "hc1" and rows <= free:
            raise ValueError(f"'hc1' needs more rows than parameters. Got {rows:g} and {free}. Use 'hc0'.")
        factor = rows / (rows - free) if kind == "hc1" else 1.0
    return np.asarray(factor * (bread @ filling @ bread))


def check_weights(weights_are: str, kind: str, *, weighted: bool = True) -> None:
    """That this kind of weights goes with this kind of covariance; `weighted`: whether there are weights."""
    if weights_are not in WEIGHTS:
        raise ValueError(f"Unknown 'weights_are' {weights_are!r}. {nearest(str(weights_are), WEIGHTS)}")
    if weights_are == "sampling" and not weighted:
        raise ValueError("'weights_are' must be 'counts' without weights. Got 'sampling'. Give the weights too.")
    if weights_are == "sampling" and kind == "observed":
        raise ValueError(
            "errors of sampling weights must be robust, clustered or bootstrapped. Got 'observed', which takes each "
            "weight for a count of rows. Use 'hc1' or 'cluster'."
        )


def row_count(rows: int, weight: Array | None, weights_are: str) -> float:
    """How many rows the data stand for: the sum of counts; of sampling weights the rows that have one."""
    if weight is None:
        return float(rows)
    return float(weight.sum()) if weights_are == "counts" else float(np.count_nonzero(weight))


def inverse(information: Array) -> Array:
    """The inverse of a symmetric positive definite matrix, scaled to a diagonal of ones before.

    Raises:
        ValueError: It is not positive definite.
    """
    scale = np.sqrt(np.diag(information))
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = information / np.outer(scale, scale)
    if np.isnan(information).any():
        return np.full_like(information, np.nan)
    try:
        root = np.linalg.cholesky(scaled)
        least = float(np.diag(root).min()) ** 2
    except np.linalg.LinAlgError:
        least = 0.0
    if not least > len(scale) * np.finfo(np.float64).eps:
        raise ValueError(
            "the information matrix must be positive definite. Got a singular one. Drop columns that others determine, "
            "and look for classes that columns separate."
        )
    root_inverse = np.linalg.inv(root)
    return np.asarray(root_inverse.T @ root_inverse / np.outer(scale, scale))


def reference_map(classes: int, columns: int, reference: int) -> Array:
    """The linear map from coefficients against class 0 to those against another: ((K-1)P, (K-1)P), class-major.

    `b_k|r = b_k - b_r`, with b_0 = 0; the classes stay in their order, without r.

    >>> reference_map(3, 1, 1)
    array([[-1.,  0.],
           [-1.,  1.]])
    """
    full = np.vstack([np.zeros(classes - 1), np.eye(classes - 1)])
    rows = np.delete(full - full[reference], reference, axis=0)
    return np.kron(rows, np.eye(columns))

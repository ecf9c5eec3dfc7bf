"""The multinomial logit as a scikit-learn classifier.

Axis legend: N rows, P columns, K classes.
"""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin  # type: ignore[import-untyped]
from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
from sklearn.utils.multiclass import check_classification_targets  # type: ignore[import-untyped]
from sklearn.utils.validation import (  # type: ignore[import-untyped]
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from softplace.errors import nearest
from softplace.output.logit import problems
from softplace.output.logit.solver import Penalty, Solution, solve

if TYPE_CHECKING:
    from softplace.output.logit.result import LogitResult

Array = NDArray[np.floating]
_PENALTIES = ("none", "l2", "elasticnet")


class CollinearityWarning(UserWarning):
    """Columns depend on others and were given coefficients of 0."""


class MultinomialLogit(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Multinomial logit, `ln P(k) / P(reference) = intercept_k + x . coef_k`, by largest likelihood.

    Args:
        penalty: "none"; "l2", `sum coef^2 / (2 C)` is subtracted from the log-likelihood; "elasticnet",
            `(l1_ratio sum |coef| + (1 - l1_ratio) sum coef^2 / 2) / C`. Never of the intercept.
        C: Inverse strength of the penalty; as given, 1.0 where there is none.
        l1_ratio: Share of the absolute values in "elasticnet" (default 0.5); with no other penalty.
        fit_intercept: Whether there is an intercept.
        reference: The class whose coefficients are 0. Default: the first where there is no penalty; with one, no class:
            coefficients are those of scikit-learn's `LogisticRegression`, whose sums over classes are 0 (of an L1
            penalty, those that the penalty chooses). Predictions do not depend on it. With two classes `coef_` has one
            row, of the second class against the first.
        max_iter: Passes over all rows at most.
        tol: Distance to the maximum to stop at, in standard errors.

    Attributes:
        classes_: (K,), sorted.
        coef_: (K, P), or (1, P) with two classes.
        intercept_: (K,) or (1,).
        loglikelihood_: Without the penalty, in nats.
        n_iter_: Passes over all rows.
        n_features_in_, feature_names_in_: As in scikit-learn.
        solution_: The solver's `Solution`: coefficients against `solution_classes_[0]`, the intercept (if any) first.
        solution_classes_: The classes in the order of the solution: the reference, then the others, sorted.

    Raises:
        ValueError: a cell is missing or infinite (which), a weight is negative, a class has no row of positive weight,
            there is one class, or an option is none.

    Warns:
        `problems.SeparationWarning` where columns tell classes apart; `CollinearityWarning` where columns depend on
        others (they get 0, which changes no prediction); scikit-learn's `ConvergenceWarning`. Sparse X is refused.

    Differs from scikit-learn's `LogisticRegression` in the default, which has no penalty, in `tol`, and in `coef_`
    without a penalty, which is against a reference.

    >>> import numpy as np
    >>> X, y = np.array([[0.0], [0.0], [0.0], [1.0], [1.0], [1.0]]), ["a", "a", "b", "a", "b", "b"]
    >>> model = MultinomialLogit().fit(X, y)
    >>> model.predict_proba([[0.0], [1.0]]).round(6).tolist()
    [[0.666667, 0.333333], [0.333333, 0.666667]]
    """

    def __init__(
        self,
        penalty: str = "none",
        *,
        C: float = 1.0,
        l1_ratio: float | None = None,
        fit_intercept: bool = True,
        reference: Any = None,
        max_iter: int = 100,
        tol: float = 1e-6,
    ) -> None:
        self.penalty = penalty
        self.C = C
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.reference = reference
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> "MultinomialLogit":
        """Fit to X (N, P), finite, and labels y (N,); row i counts as `sample_weight[i]` rows."""
        l2, l1 = self._strengths()
        table, labels = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_all_finite=False)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"'y' must hold two classes or more. Got one class, {self.classes_[:1].tolist()[0]!r}.")
        names = getattr(self, "feature_names_in_", None)
        with np.errstate(over="ignore"):
            suspect = not np.isfinite(table.sum())
        if suspect:
            problems.raise_for_cells(table, names)
        weight: Array | None = None
        if sample_weight is not None:
            weight = np.asarray(_check_sample_weight(sample_weight, table, dtype=np.float64, ensure_non_negative=True))
            rows = np.bincount(codes[weight > 0], minlength=len(self.classes_))
            problems.check_classes(rows, self.classes_.tolist())
        order = self._order()
        design = np.column_stack([np.ones(len(table), table.dtype), table]) if self.fit_intercept else table
        columns = None if names is None else [*(["intercept"] if self.fit_intercept else []), *names]
        found = self._solve(design, np.argsort(order)[codes], weight, l2, l1, columns)
        self._keep(found, order)
        self._warn(found, columns)
        return self

    def decision_function(self, X: ArrayLike) -> Array:
        """Scores (N, K), or with two classes (N,): the log odds of the second."""
        check_is_fitted(self)
        table = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite=False, reset=False)
        scores = table @ self.coef_.T + self.intercept_
        if not np.isfinite(scores).all():
            problems.raise_for_cells(table, getattr(self, "feature_names_in_", None))
        return np.asarray(scores[:, 0] if len(self.classes_) == 2 else scores)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class of each row (N,)."""
        scores = self.decision_function(X)
        return np.asarray(self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)])

    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities (N, K), in the order of `classes_`."""
        return np.asarray(scipy.special.softmax(self._scores(X), 1))

    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Logarithms of the probabilities (N, K), also of those that are too small for a number."""
        return np.asarray(scipy.special.log_softmax(self._scores(X), 1))

    def inference(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        errors: str = "observed",
        weights_are: str = "counts",
        groups: ArrayLike | None = None,
        seed: int = 0,
    ) -> "LogitResult":
        """Standard errors, tests, marginal effects and a summary of this fit.

        Args:
            X, y, sample_weight: Those that were fitted: the classifier keeps no rows.
            errors, weights_are, groups, seed: As of `softplace.output.logit.fit_arrays`.

        Raises:
            ValueError: There is a penalty, which makes coefficients biased and their errors no errors of them, or
                these rows have another maximum; `InputError` (a ValueError) as `fit_arrays`.
        """
        from softplace.output.logit.fitting import fit_arrays

        check_is_fitted(self)
        if self.penalty != "none":
            raise ValueError(
                f"'penalty' must be 'none' for standard errors. Got {self.penalty!r}. Fit without a penalty."
            )
        names = getattr(self, "feature_names_in_", None)
        found = fit_arrays(
            X,
            y,
            columns=None if names is None else list(names),
            intercept=self.fit_intercept,
            reference=self.solution_classes_[0],
            errors=errors,
            sample_weight=sample_weight,
            weights_are=weights_are,
            groups=groups,
            seed=seed,
        )
        if not abs(found.loglikelihood - self.loglikelihood_) <= 1e-6 * abs(found.loglikelihood):
            raise ValueError(
                f"'X' and 'y' must be the rows that were fitted, with a log-likelihood of {self.loglikelihood_:.9g}. "
                f"Got rows with {found.loglikelihood:.9g}. Fit to these rows first."
            )
        return found

    def _scores(self, X: ArrayLike) -> Array:
        scores = self.decision_function(X)
        return np.column_stack([np.zeros_like(scores), scores]) if scores.ndim == 1 else scores

    def _strengths(self) -> tuple[float, float]:
        """Check the options; the penalty's factors of squares and absolute values."""
        if self.penalty not in _PENALTIES:
            raise ValueError(f"'penalty' must be one of {_PENALTIES}. Got {self.penalty!r}.")
        if not isinstance(self.C, float | int | np.number) or not 0 < self.C < np.inf:
            raise ValueError(f"'C' must be a positive number. Got {self.C!r}. Use penalty='none' for no penalty.")
        if not isinstance(self.tol, float | int | np.number) or not self.tol > 0:
            raise ValueError(f"'tol' must be a positive number. Got {self.tol!r}. Use e.g. 1e-6.")
        if not isinstance(self.max_iter, int | np.integer) or self.max_iter < 1:
            raise ValueError(f"'max_iter' must be a positive integer. Got {self.max_iter!r}. Use e.g. 100.")
        if self.fit_intercept not in (True, False):
            raise ValueError(f"'fit_intercept' must be true or false. Got {self.fit_intercept!r}. Use True.")
        if self.l1_ratio is not None and self.penalty != "elasticnet":
            raise ValueError(
                f"'l1_ratio' must be None with penalty={self.penalty!r}. Got {self.l1_ratio!r}. "
                "Use penalty='elasticnet'."
            )
        if self.penalty == "none":
            if self.C != 1.0:
                raise ValueError(f"'C' must be 1.0 with penalty='none'. Got {self.C!r}. Use penalty='l2'.")
            return 0.0, 0.0
        share = 0.0 if self.penalty == "l2" else 0.5 if self.l1_ratio is None else self.l1_ratio
        if not isinstance(share, float | int | np.number) or not 0 <= share <= 1:
            raise ValueError(f"'l1_ratio' must lie between 0 and 1. Got {share!r}. Use e.g. 0.5.")
        return (1 - share) / self.C, share / self.C

    def _order(self) -> NDArray[np.intp]:
        """The classes' places in `classes_`, the reference first."""
        if self.reference is None:
            return np.arange(len(self.classes_))
        (at,) = np.nonzero(self.classes_ == self.reference)
        if not len(at):
            raise ValueError(
                f"'reference' must be a class of 'y'. Got {self.reference!r}. "
                + nearest(str(self.reference), [str(label) for label in self.classes_])
            )
        return np.concatenate([at, np.delete(np.arange(len(self.classes_)), at)])

    def _solve(
        self,
        design: Array,
        codes: NDArray[np.intp],
        weight: Array | None,
        l2: float,
        l1: float,
        names: list[str] | None,
    ) -> Solution:
        penalty = Penalty(l2=l2, l1=l1, free=(0,) if self.fit_intercept else ()) if l1 or l2 else None

        def solved(columns: Array) -> Solution:
            return solve(
                columns,
                codes,
                len(self.classes_),
                sample_weight=weight,
                penalty=penalty,
                tolerance=self.tol,
                max_iterations=self.max_iter,
            )

        try:
            return solved(design)
        except problems.CollinearError as error:
            warnings.warn(
                f"{error.describe(names or self._column_names(design))} They get coefficients of 0.",
                CollinearityWarning,
                stacklevel=3,
            )
            kept = np.delete(np.arange(design.shape[1]), error.columns)
            if not len(kept):
                raise ValueError("'X' must have a column that is not 0, or an intercept. Got neither.") from None
            found = solved(np.ascontiguousarray(design[:, kept]))
            return found.spread(kept, design.shape[1])

    def _column_names(self, design: Array) -> list[str]:
        first = ["intercept"] if self.fit_intercept else []
        return [*first, *(f"column {column}" for column in range(design.shape[1] - len(first)))]

    def _keep(self, found: Solution, order: NDArray[np.intp]) -> None:
        rows = np.vstack([np.zeros(found.coefficients.shape[1]), found.coefficients])[np.argsort(order)]
        if found.symmetric is not None and len(rows) > 2 and self.reference is None:
            rows = found.symmetric
        if len(rows) == 2:
            rows = rows[1:] - rows[:1]
        first = int(self.fit_intercept)
        self.coef_ = rows[:, first:].copy()
        self.intercept_ = rows[:, 0].copy() if first else np.zeros(len(rows))
        self.loglikelihood_ = found.loglikelihood
        self.n_iter_ = found.iterations
        self.solution_ = found
        self.solution_classes_ = self.classes_[order]

    def _warn(self, found: Solution, names: list[str] | None) -> None:
        if found.separation is not None:
            said = found.separation.describe(names, list(self.solution_classes_))
            warnings.warn(said, problems.SeparationWarning, stacklevel=3)
        elif not found.converged:
            warnings.warn(
                f"'max_iter' must be large enough to converge. Got {self.max_iter}: after {found.iterations} passes "
                f"the largest slope is {found.gradient_norm:.2g} per row. Raise it, or 'tol' ({self.tol:g}).",
                ConvergenceWarning,
                stacklevel=3,
            )

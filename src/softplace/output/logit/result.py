"""A fitted multinomial logit with its statistics, of a formula on a table or of arrays.

Axis legend: N rows, P columns, K classes, Q = (K-1)P parameters; coefficients (K-1, P), flat ones class-major.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from softplace.errors import InputError, nearest
from softplace.output.logit import comparison, effects, independence, solver
from softplace.output.logit._centred import Centred
from softplace.output.logit._maximum import maximum
from softplace.output.logit.bootstrap import Bootstrap
from softplace.output.logit.comparison import Fit, Test
from softplace.output.logit.design import INTERCEPT, Design, FormulaDesign, checked_array, with_intercept
from softplace.output.logit.effects import At, Effects, Profile
from softplace.output.logit.error_kinds import Errors, estimated_covariance, parse_errors
from softplace.output.logit.formula import Prepared, evaluate, group_codes, reference_code
from softplace.output.logit.hypotheses import parse_hypothesis
from softplace.output.logit.inference import Array, Estimates, reference_map
from softplace.output.logit.reading import check_columns, complete_rows, quoted, read_table, require
from softplace.output.logit.solver import Solution

if TYPE_CHECKING:
    import pandas as pd

    from softplace.output.logit.tables import Table


@dataclass(frozen=True, kw_only=True, eq=False)
class LogitResult:
    """A multinomial logit that was fitted, and what can be asked of it.

    Args:
        formula: What was fitted; "" for arrays.
        choice: What the classes are called together.
        design: Of the rows.
        X: (N, P).
        codes: (N,).
        classes: Labels in order.
        weight: (N,) or `None`.
        weights_are: "counts" or "sampling".
        groups: (N,) or `None`.
        solution: Against class 0.
        reference: The label that the coefficients are against.
        errors: How the covariance was estimated.
        base_covariance: (Q, Q), of the coefficients against class 0.
        bootstrap: Where the errors are of it.
        seed: Of bootstrap and halves.
        dropped: Rows left out for missing cells.
        prepared: Of the formula.
    """

    formula: str
    choice: str
    design: Design
    X: Array
    codes: NDArray[np.intp]
    classes: tuple[Any, ...]
    weight: Array | None
    weights_are: str
    groups: NDArray[np.intp] | None
    solution: Solution
    reference: Any
    errors: Errors
    base_covariance: Array
    bootstrap: Bootstrap | None = None
    seed: int = 0
    dropped: int = 0
    prepared: Prepared | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes as words."""
        return tuple(str(label) for label in self.classes)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of X."""
        return self.design.columns

    @cached_property
    def estimates(self) -> Estimates:
        """Coefficients against the reference class, with their covariance, class by class."""
        base = reference_code(self.classes, self.reference)
        k, p = len(self.classes), len(self.columns)
        kept = [name for at, name in enumerate(self.class_names) if at != base]
        first = [(name, column) for name in self.class_names[1:] for column in self.columns]
        words = self.errors.words
        if self.bootstrap is not None and self.bootstrap.failed:
            words += f", {self.bootstrap.failed:,} of which have no maximum and were left out"
        estimates = Estimates(
            values=self.solution.coefficients.ravel(),
            covariance=self.base_covariance,
            names=tuple(first),
            errors=words,
        )
        if base == 0:
            return estimates
        return estimates.linear(
            reference_map(k, p, base), tuple((name, each) for name in kept for each in self.columns)
        )

    @property
    def coefficients(self) -> Array:
        """(K-1, P): `ln P(class) / P(reference) = x . b`; classes in order, without the reference."""
        return self.estimates.values.reshape(len(self.classes) - 1, -1)

    @property
    def standard_errors(self) -> Array:
        """(K-1, P)."""
        return self.estimates.standard_errors.reshape(len(self.classes) - 1, -1)

    @property
    def covariance(self) -> Array:
        """(Q, Q), class-major."""
        return self.estimates.covariance

    @property
    def loglikelihood(self) -> float:
        """In nats, with the weights."""
        return self.solution.loglikelihood

    def against(self, reference: Any) -> "LogitResult":
        """The same fit against another reference class: a linear map of coefficients and covariance, no new fit.

        Raises:
            InputError: It is no class.
        """
        return replace(self, reference=self.classes[reference_code(self.classes, reference)])

    def with_errors(self, errors: str) -> "LogitResult":
        """The same fit with errors of another kind.

        Raises:
            InputError: As `fit`. Groups are those of the fit: "cluster:COLUMN" finds others in its table.
        """
        chosen = parse_errors(errors)
        groups = self.groups
        if chosen.kind == "cluster":
            if self.prepared is None:
                raise InputError("'errors' of arrays take 'groups'. Got a column. Fit with groups=... and 'cluster'.")
            groups = group_codes(self.prepared, str(chosen.column))
        coefficients = self._centred.from_raw(self.solution.coefficients)
        spread, resampled = estimated_covariance(
            self._centred, self.codes, coefficients, chosen, self.weight, self.weights_are, groups, self.seed
        )
        return replace(self, errors=chosen, groups=groups, base_covariance=spread, bootstrap=resampled)

    def conf_int(self, level: float = 0.95) -> Array:
        """(K-1, P, 2)."""
        return self.estimates.conf_int(level).reshape(len(self.classes) - 1, -1, 2)

    def coefficient_table(self, level: float = 0.95) -> "Table":
        """Coefficients with error, z, p and interval."""
        return self.estimates.table(level, f"Log odds against {self.reference}")

    def odds_ratios(self, level: float = 0.95) -> "Table":
        """exp of the coefficients: the factor on `P(class) / P(reference)` of one more unit (relative-risk ratios)."""
        return self.estimates.ratios(level, f"Odds ratios against {self.reference}")

    def probabilities(self) -> Array:
        """(N, K), of the rows that were fitted."""
        return solver.probabilities(self.X, self.solution.coefficients)

    @cached_property
    def fit_measures(self) -> Fit:
        """Log-likelihood, AIC, BIC, pseudo-R2."""
        return comparison.fit_of(
            self.probabilities(), self.codes, self.loglikelihood, self.solution.coefficients.size, self.weight
        )

    def confusion(self) -> "Table":
        """Rows (or counts) of each class by the likeliest class."""
        from softplace.output.logit.tables import Table

        counts = comparison.confusion(self.probabilities(), self.codes, self.weight)
        whole = self.weight is None or bool(np.all(self.weight % 1 == 0))
        rows = [
            (name, *((int(count) if whole else float(count)) for count in row))
            for name, row in zip(self.class_names, counts, strict=True)
        ]
        return Table(
            title="Rows of each class by the likeliest class",
            columns=(f"{self.choice} \\ predicted", *self.class_names),
            rows=tuple(rows),
        )

    def marginal_effects(self, at: At = "average", variables: Sequence[str] | None = None) -> Effects:
        """How probabilities change with each variable; as `effects.marginal_effects`."""
        return effects.marginal_effects(self._model(), at, variables)

    def profile(self, variable: str, points: Sequence[Any] | None = None, at: At = "average") -> Profile:
        """Predicted probabilities over the values of a variable; as `effects.profile`."""
        return effects.profile(self._model(), variable, points, at)

    def test(self, hypothesis: str, by: str | None = None) -> list[Test]:
        """Tests of a hypothesis, or of a smaller model within this one.

        Args:
            hypothesis: Equations of columns, as "income = 0, age = 2 * education" (a term of several columns in
                `term = 0`), which hold for every class; "CLASS: income = 0" for one class against the reference. Or a
                formula: of a model within this one.
            by: "wald", "likelihood-ratio" or "score"; when not given all that there are. The last two are of formulas
                and of columns that are 0 for every class, and are not of sampling weights, which have no likelihood.

        Raises:
            InputError: The hypothesis cannot be read, is no model within this one, or has no such test.
        """
        if not isinstance(hypothesis, str):
            raise InputError(f"'hypothesis' must be a text. Got {type(hypothesis).__name__}. Write e.g. 'income = 0'.")
        known = ("wald", "likelihood-ratio", "score")
        if by is not None and by not in known:
            raise InputError(f"Unknown 'by' {by!r}. {nearest(str(by), known)}")
        if "~" in hypothesis:
            found = self._nested(*self._columns_of(hypothesis), hypothesis)
        else:
            found = self._linear(hypothesis)
        names = {"wald": "Wald", "likelihood-ratio": "likelihood ratio", "score": "score"}
        chosen = [test for test in found if by is None or test.name == names[by]]
        if not chosen:
            raise InputError(f"no {by} test of {quoted(hypothesis)}: it is of other hypotheses. Use {found[0].name}.")
        return chosen

    def term_test(self, term: str) -> Test:
        """Wald test that a term of the formula (or a column) has no effect on any class.

        Raises:
            InputError: There is no such term, or its covariance is singular.
        """
        if term not in self.design.terms:
            raise InputError(f"Unknown term {quoted(term)}. {nearest(term, list(self.design.terms))}")
        matrix = np.eye(len(self.columns))[list(self.design.terms[term])]
        return self._wald(matrix, np.zeros(len(matrix)), term)

    def independence(self) -> list[Test]:
        """Tests of independence of irrelevant alternatives: Hausman-McFadden, generalised Hausman, Small-Hsiao.

        Raises:
            InputError: There are only two classes, or sampling weights.
        """
        if len(self.classes) < 3:
            raise InputError("independence of irrelevant alternatives needs three classes or more. Got 2.")
        self._needs_likelihood("tests of independence of irrelevant alternatives")
        X, coefficients = self._centred.X, self._centred.from_raw(self.solution.coefficients)
        return independence.hausman_mcfadden(
            X, self.codes, coefficients, self.class_names, self.weight
        ) + independence.small_hsiao(X, self.codes, self.class_names, seed=self.seed, weight=self.weight)

    def predict(self, data: Any = None, *, drop_missing: bool = False) -> "pd.DataFrame":
        """Probabilities of each class for new rows, coded as the fitted ones.

        Args:
            data: A path, a data frame or a dict of columns; for a fit of arrays, an array with the columns that were
                given. The fitted rows when `None`.
            drop_missing: Leave rows with a missing cell out.

        Raises:
            InputError: A column is missing, a cell is, or a level was not fitted.
        """
        pandas = require("pandas")
        index = None
        if data is None:
            X = self.X
        elif isinstance(self.design, FormulaDesign):
            frame, name = read_table(data)
            needed = list(self.design.variables)
            check_columns(frame, needed, "new data")
            index = complete_rows(frame, needed, name, drop_missing=drop_missing) if needed else np.arange(len(frame))
            kept = frame.iloc[index].reset_index(drop=True)
            X = self.design.on(kept, lambda row: name(int(index[row]))).matrix({})
        else:
            X = with_intercept(checked_array(data, "data"), self.columns[:1] == (INTERCEPT,))
            if X.shape[1] != len(self.columns):
                given = len(self.columns) - (self.columns[:1] == (INTERCEPT,))
                raise InputError(f"'data' must have {given} columns. Got {np.shape(data)[-1]}.")
        shares = solver.probabilities(X, self.solution.coefficients)
        found: pd.DataFrame = pandas.DataFrame(shares, columns=list(self.class_names), index=index)
        return found

    def summary(self, level: float = 0.95) -> str:
        """What a terminal shows: how it was fitted, coefficients, odds ratios, fit."""
        from softplace.output.logit.summary import summary_text

        return summary_text(self, level)

    def to_latex(self, level: float = 0.95) -> str:
        """The tables of the summary in LaTeX."""
        from softplace.output.logit.summary import summary_tables

        return "\n\n".join(table.latex() for table in summary_tables(self, level))

    def to_html(self, level: float = 0.95) -> str:
        """The tables of the summary in HTML."""
        from softplace.output.logit.summary import summary_tables

        return "\n".join(table.html() for table in summary_tables(self, level))

    def to_json(self, level: float = 0.95) -> str:
        """All of the summary as JSON."""
        from softplace.output.logit.summary import summary_values
        from softplace.output.logit.tables import as_json

        return as_json(summary_values(self, level))

    def page(self, path: str | Path, *, command: str | None = None, at: At = "average", level: float = 0.95) -> None:
        """Write everything as one HTML page that needs no network.

        Raises:
            InputError: The folder cannot be written; an old page then stays as it was.
        """
        from softplace.output.logit.page import write_logit_page

        write_logit_page(Path(path), self, command=command, at=at, level=level)

    @cached_property
    def _centred(self) -> Centred:
        """The columns for what inverts matrices; statistics do not depend on it."""
        return Centred.of(self.X)

    def _model(self) -> effects.Model:
        return effects.Model(
            design=self.design,
            classes=self.class_names,
            coefficients=self.solution.coefficients,
            covariance=self.base_covariance,
            weight=self.weight,
        )

    def _needs_likelihood(self, what: str) -> None:
        if self.weights_are == "sampling" and self.weight is not None:
            raise InputError(f"{what} need a likelihood. Got sampling weights, which have none. Use a Wald test.")

    def _columns_of(self, formula: str) -> tuple[Array, list[str]]:
        if self.prepared is None:
            raise InputError(f"formula {quoted(formula)}: a fit of arrays has no formula. Write e.g. 'x1 = 0'.")
        return evaluate(formula, self.prepared)

    def _nested(self, smaller: Array, names: Sequence[str], hypothesis: str) -> list[Test]:
        """Likelihood-ratio, score and (where columns are left out) Wald tests of a model within this one."""
        self._needs_likelihood(f"tests of {quoted(hypothesis)}")
        smaller = Centred.of(smaller).X
        inside = comparison.within(self._centred.X, smaller)
        rank = int(np.linalg.matrix_rank(smaller)) if smaller.size else 0
        if inside is None or rank >= len(self.columns):
            raise InputError(
                f"hypothesis {quoted(hypothesis)}: expected a model within {quoted(self.formula or 'the fit')}. Got "
                "one with other columns or as many. Take terms away, and nothing else."
            )
        free = len(self.classes) - 1
        degrees = free * (len(self.columns) - rank)
        fit = maximum(smaller, self.codes, self.classes, names, self.weight)
        left_out = [at for at, row in enumerate(inside) if not np.any(row)]
        tests = []
        if len(left_out) == len(self.columns) - rank:
            tests.append(self._wald(np.eye(len(self.columns))[left_out], np.zeros(len(left_out)), hypothesis))
        tests.append(comparison.likelihood_ratio(self.loglikelihood, fit.loglikelihood, degrees, hypothesis))
        restricted = fit.coefficients @ inside.T
        tests.append(comparison.score(self._centred.X, self.codes, restricted, degrees, hypothesis, self.weight))
        return tests

    def _linear(self, hypothesis: str) -> list[Test]:
        head, mark, tail = hypothesis.partition(":")
        names = [name for at, name in enumerate(self.class_names) if at != reference_code(self.classes, self.reference)]
        one_class = head.strip() if mark and head.strip() in names else None
        text = tail if one_class is not None else hypothesis
        matrix, values = parse_hypothesis(text, self.columns, self.design.terms)
        if one_class is not None:
            return [self._wald(matrix, values, hypothesis, np.eye(len(names))[[names.index(one_class)]])]
        picks = np.abs(matrix).sum(1) == np.abs(matrix).max(1)
        left_out = sorted({int(at) for at in np.abs(matrix).argmax(1)})
        zeros = bool(np.all(picks)) and not np.any(values) and len(left_out) == len(matrix) < len(self.columns)
        if zeros and not (self.weights_are == "sampling" and self.weight is not None):
            names = [name for at, name in enumerate(self.columns) if at not in left_out]
            return self._nested(np.delete(self.X, left_out, axis=1), names, hypothesis)
        return [self._wald(matrix, values, hypothesis)]

    def _wald(self, matrix: Array, values: Array, hypothesis: str, classes: Array | None = None) -> Test:
        """Of every class, or of those that are rows of `classes`."""
        units: Array = np.eye(len(self.classes) - 1) if classes is None else classes
        try:
            return comparison.wald(
                self.estimates, np.kron(units, matrix).astype(np.float64), np.tile(values, len(units)), hypothesis
            )
        except ValueError as error:
            raise InputError(str(error)) from None

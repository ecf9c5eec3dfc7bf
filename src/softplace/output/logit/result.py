"""A fitted multinomial logit with its statistics, of a formula on a table or of arrays.

Axis legend: N rows, P columns, K classes, Q = (K-1)P parameters; coefficients (K-1, P), flat ones class-major.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softplace.errors import InputError, nearest
from softplace.output.logit import comparison, effects, independence, solver
from softplace.output.logit.bootstrap import Bootstrap, bootstrap
from softplace.output.logit.comparison import Fit, Test
from softplace.output.logit.design import INTERCEPT, ArrayDesign, Design, FormulaDesign
from softplace.output.logit.effects import At, Effects, Profile
from softplace.output.logit.formula import Prepared, checked_weights, evaluate, prepare, reference_code
from softplace.output.logit.hypotheses import parse_hypothesis
from softplace.output.logit.inference import Array, Estimates, check_weights, covariance, reference_map
from softplace.output.logit.reading import complete_rows, quoted, read_table
from softplace.output.logit.solver import Solution

if TYPE_CHECKING:
    import pandas as pd

    from softplace.output.logit.tables import Table

ERRORS = ("observed", "robust", "hc0", "hc1", "cluster:COLUMN", "bootstrap:N")


@dataclass(frozen=True, kw_only=True)
class Errors:
    """How standard errors are estimated.

    Args:
        kind: "observed", "hc0", "hc1", "cluster" or "bootstrap".
        column: Of the groups, for "cluster".
        resamples: For "bootstrap".
    """

    kind: str
    column: str | None = None
    resamples: int = 0

    @property
    def words(self) -> str:
        """In words."""
        return {
            "observed": "observed information",
            "hc0": "robust sandwich, HC0",
            "hc1": "robust sandwich, HC1",
            "cluster": f"sandwich clustered by {self.column}" if self.column else "clustered sandwich",
            "bootstrap": f"bootstrap of {self.resamples:,} resamples",
        }[self.kind]


def parse_errors(text: str) -> Errors:
    """What "observed", "robust" (HC1), "hc0", "hc1", "cluster:COLUMN" or "bootstrap:N" says.

    Raises:
        InputError: It is none of these.

    >>> parse_errors("robust").kind, parse_errors("cluster:village").column, parse_errors("bootstrap:200").resamples
    ('hc1', 'village', 200)
    """
    kind, _, rest = str(text).partition(":")
    if kind == "bootstrap" and rest.isdecimal() and 2 <= int(rest) <= 1_000_000:
        return Errors(kind="bootstrap", resamples=int(rest))
    if kind == "bootstrap":
        raise InputError(f"'errors' must name 2 to 1,000,000 resamples. Got {quoted(text)}. Use e.g. bootstrap:500.")
    if kind == "cluster" and rest:
        return Errors(kind="cluster", column=rest)
    if kind == "cluster":
        raise InputError(f"'errors' must name the column of the groups. Got {quoted(text)}. Use e.g. cluster:village.")
    if text in ("observed", "hc0", "hc1", "robust"):
        return Errors(kind="hc1" if text == "robust" else text)
    raise InputError(f"Unknown 'errors' {quoted(text)}. {nearest(str(text), ERRORS)}")


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
        return estimates.linear(reference_map(k, p, base), tuple((name, each) for name in kept for each in self.columns))

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
            groups = groups_of(self.prepared, str(chosen.column))
        spread, resampled = _covariance(
            self.X, self.codes, self.solution, chosen, self.weight, self.weights_are, groups, self.seed
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
        known = ("wald", "likelihood-ratio", "score")
        if by is not None and by not in known:
            raise InputError(f"Unknown 'by' {by!r}. {nearest(str(by), known)}")
        if "~" in hypothesis:
            found = self._nested(self._columns_of(hypothesis), hypothesis)
        else:
            found = self._linear(hypothesis)
        names = {"wald": "Wald", "likelihood-ratio": "likelihood ratio", "score": "score"}
        chosen = [test for test in found if by is None or test.name == names[by]]
        if not chosen:
            raise InputError(f"no {by} test of {quoted(hypothesis)}: it is of other hypotheses. Use {found[0].name}.")
        return chosen

    def independence(self) -> list[Test]:
        """Tests of independence of irrelevant alternatives: Hausman-McFadden, generalised Hausman, Small-Hsiao.

        Raises:
            InputError: There are only two classes, or sampling weights.
        """
        if len(self.classes) < 3:
            raise InputError("independence of irrelevant alternatives needs three classes or more. Got 2.")
        self._needs_likelihood("tests of independence of irrelevant alternatives")
        return independence.hausman_mcfadden(
            self.X, self.codes, self.solution.coefficients, self.class_names, self.weight
        ) + independence.small_hsiao(self.X, self.codes, self.class_names, seed=self.seed, weight=self.weight)

    def predict(self, data: Any = None, *, drop_missing: bool = False) -> "pd.DataFrame":
        """Probabilities of each class for new rows, coded as the fitted ones.

        Args:
            data: A path, a data frame or a dict of columns; for a fit of arrays, an array with the columns that were
                given. The fitted rows when `None`.
            drop_missing: Leave rows with a missing cell out.

        Raises:
            InputError: A column is missing, a cell is, or a level was not fitted.
        """
        from softplace.output.logit.reading import check_columns, require

        pd = require("pandas")
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
            X = _with_intercept(_array(data, "data"), self.columns[:1] == (INTERCEPT,))
            if X.shape[1] != len(self.columns):
                given = len(self.columns) - (self.columns[:1] == (INTERCEPT,))
                raise InputError(f"'data' must have {given} columns. Got {np.shape(data)[-1]}.")
        shares = solver.probabilities(X, self.solution.coefficients)
        frame = pd.DataFrame(shares, columns=list(self.class_names), index=index)
        return frame

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

    def page(self, path: str | Path, *, command: str | None = None, at: At = "average") -> None:
        """Write everything as one HTML page that needs no network.

        Raises:
            InputError: The folder cannot be written; an old page then stays as it was.
        """
        from softplace.output.logit.page import write_logit_page

        write_logit_page(Path(path), self, command=command, at=at)

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

    def _columns_of(self, formula: str) -> Array:
        if self.prepared is None:
            raise InputError(f"formula {quoted(formula)}: a fit of arrays has no formula. Write e.g. 'x1 = 0'.")
        return evaluate(formula, self.prepared)

    def _nested(self, smaller: Array, hypothesis: str) -> list[Test]:
        """Likelihood-ratio, score and (where columns are left out) Wald tests of a model within this one."""
        self._needs_likelihood(f"tests of {quoted(hypothesis)}")
        inside = comparison.within(self.X, smaller)
        rank = int(np.linalg.matrix_rank(smaller)) if smaller.size else 0
        if inside is None or rank >= len(self.columns):
            raise InputError(
                f"hypothesis {quoted(hypothesis)}: expected a model within {quoted(self.formula or 'the fit')}. Got "
                "one with other columns or as many. Take terms away, and nothing else."
            )
        free = len(self.classes) - 1
        degrees = free * (len(self.columns) - rank)
        fit = solver.solve(smaller, self.codes, len(self.classes), sample_weight=self.weight, tolerance=1e-8)
        left_out = [at for at, row in enumerate(inside) if not np.any(row)]
        tests = []
        if len(left_out) == len(self.columns) - rank:
            tests.append(self._wald(np.eye(len(self.columns))[left_out], np.zeros(len(left_out)), hypothesis))
        tests.append(comparison.likelihood_ratio(self.loglikelihood, fit.loglikelihood, degrees, hypothesis))
        restricted = fit.coefficients @ inside.T
        tests.append(comparison.score(self.X, self.codes, restricted, degrees, hypothesis, self.weight))
        return tests

    def _linear(self, hypothesis: str) -> list[Test]:
        head, mark, tail = hypothesis.partition(":")
        names = [name for at, name in enumerate(self.class_names) if at != reference_code(self.classes, self.reference)]
        one_class = head.strip() if mark and head.strip() in names else None
        text = tail if one_class is not None else hypothesis
        matrix, values = parse_hypothesis(text, self.columns, self.design.terms)
        if one_class is not None:
            unit = np.eye(len(names))[[names.index(one_class)]]
            return [comparison.wald(self.estimates, np.kron(unit, matrix), values, hypothesis)]
        picks = np.abs(matrix).sum(1) == np.abs(matrix).max(1)
        left_out = sorted({int(at) for at in np.abs(matrix).argmax(1)})
        zeros = bool(np.all(picks)) and not np.any(values) and len(left_out) == len(matrix) < len(self.columns)
        if zeros and not (self.weights_are == "sampling" and self.weight is not None):
            return self._nested(np.delete(self.X, left_out, axis=1), hypothesis)
        return [self._wald(matrix, values, hypothesis)]

    def _wald(self, matrix: Array, values: Array, hypothesis: str) -> Test:
        free = len(self.classes) - 1
        try:
            return comparison.wald(self.estimates, np.kron(np.eye(free), matrix), np.tile(values, free), hypothesis)
        except ValueError as error:
            raise InputError(str(error)) from None


def fit(
    formula: str,
    data: Any,
    *,
    reference: Any = None,
    errors: str = "observed",
    weights: str | None = None,
    weights_are: str = "counts",
    drop_missing: bool = False,
    seed: int = 0,
) -> LogitResult:
    """Fit a multinomial logit, `ln P(class) / P(reference) = x . b_class`, by maximum likelihood.

    Args:
        formula: E.g. "choice ~ income + age + C(region)"; as of `formula.prepare`.
        data: A path (.csv, .csv.gz, .tsv, .parquet), a pandas data frame, or a dict of columns.
        reference: The class that the others are compared with; the first in order when not given.
        errors: "observed", "robust" (HC1), "hc0", "hc1", "cluster:COLUMN" or "bootstrap:N"; as `inference.covariance`.
        weights: The column of the weights.
        weights_are: "counts" (a row is as many rows) or "sampling" (the inverse of its probability of being drawn).
        drop_missing: Leave rows with a missing cell out, rather than refuse them.
        seed: Of the bootstrap and of Small and Hsiao's halves.

    Raises:
        InputError: Anything that cannot be used: one line that says what, where, and the way out.

    >>> data = {"choice": [*"abcabcabcb"], "x": [1.0, 2.0, 3.0, 2.0, 1.0, 4.0, 0.0, 3.0, 2.0, 2.5]}
    >>> result = fit("choice ~ x", data, reference="b")
    >>> result.coefficients.shape, result.columns
    ((2, 2), ('Intercept', 'x'))
    """
    chosen = parse_errors(errors)
    prepared = prepare(formula, data, weights=weights, cluster=chosen.column, drop_missing=drop_missing)
    return _fitted(
        formula=formula,
        choice=prepared.choice,
        design=prepared.design,
        X=prepared.X,
        codes=prepared.codes,
        classes=prepared.classes,
        weight=prepared.weight,
        weights_are=weights_are,
        groups=prepared.groups,
        reference=reference,
        errors=chosen,
        seed=seed,
        dropped=prepared.dropped,
        prepared=prepared,
    )


def fit_arrays(
    X: ArrayLike,
    y: ArrayLike,
    *,
    columns: Sequence[str] | None = None,
    intercept: bool = True,
    reference: Any = None,
    errors: str = "observed",
    sample_weight: ArrayLike | None = None,
    weights_are: str = "counts",
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> LogitResult:
    """Fit a multinomial logit to arrays. As `fit`, without pandas and formulaic.

    Args:
        X: (N, P) numbers.
        y: (N,) labels.
        columns: Names of the columns; x1, x2, ... when not given.
        intercept: Whether a column of ones is put before.
        reference, weights_are, seed: As `fit`.
        errors: As `fit`, with "cluster" for `groups`.
        sample_weight: (N,), not negative.
        groups: (N,), labels of the groups.

    Raises:
        InputError: Anything that cannot be used.
    """
    values = _array(X, "X")
    labels = np.asarray(y)
    if labels.ndim != 1 or len(labels) != len(values):
        raise InputError(f"'y' must have the shape ({len(values)},). Got {labels.shape}. Give a label for each row.")
    names = [f"x{at + 1}" for at in range(values.shape[1])] if columns is None else [str(each) for each in columns]
    if len(names) != values.shape[1] or len(set(names)) != len(names):
        raise InputError(f"'columns' must be {values.shape[1]} different names. Got {len(names)}.")
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"'y' must hold two classes or more. Got one, {quoted(classes[0])}.")
    weight = None
    if sample_weight is not None:
        weight = np.asarray(sample_weight, dtype=np.float64)
        if weight.shape != labels.shape:
            raise InputError(f"'sample_weight' must have the shape {labels.shape}. Got {weight.shape}.")
        weight = checked_weights(weight, "sample_weight", lambda row: f"row {row}")
    group_codes = None
    if groups is not None:
        if np.shape(groups) != labels.shape:
            raise InputError(f"'groups' must have the shape {labels.shape}. Got {np.shape(groups)}.")
        group_codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    chosen = Errors(kind="cluster") if errors == "cluster" else parse_errors(errors)
    if (chosen.kind == "cluster") > (group_codes is not None) or chosen.column:
        raise InputError("'errors' of arrays: expected 'cluster' with 'groups'. Give groups=..., a label for each row.")
    design = ArrayDesign(_with_intercept(values, intercept), [INTERCEPT, *names] if intercept else names)
    return _fitted(
        formula="",
        choice="class",
        design=design,
        X=design.matrix({}),
        codes=codes,
        classes=tuple(classes.tolist()),
        weight=weight,
        weights_are=weights_are,
        groups=group_codes,
        reference=reference,
        errors=chosen,
        seed=seed,
    )


def groups_of(prepared: Prepared, column: str) -> NDArray[np.intp]:
    """The groups of a column of the table that was fitted."""
    from softplace.output.logit.reading import check_columns

    check_columns(prepared.frame, [column], "groups")
    complete_rows(prepared.frame, [column], prepared.name, drop_missing=False)
    return np.unique(prepared.frame[column].astype(str), return_inverse=True)[1]


def _fitted(*, weight: Array | None, reference: Any, errors: Errors, **parts: Any) -> LogitResult:
    X, codes, classes = parts["X"], parts["codes"], parts["classes"]
    base = reference_code(classes, reference)
    if weight is not None:
        _check(lambda: check_weights(parts["weights_are"], errors.kind))
    solution = solver.solve(X, codes, len(classes), sample_weight=weight, information=True)
    spread, resampled = _covariance(
        X, codes, solution, errors, weight, parts["weights_are"], parts["groups"], parts["seed"]
    )
    return LogitResult(
        solution=solution,
        weight=weight,
        reference=classes[base],
        errors=errors,
        base_covariance=spread,
        bootstrap=resampled,
        **parts,
    )


def _covariance(
    X: Array,
    codes: NDArray[np.intp],
    solution: Solution,
    errors: Errors,
    weight: Array | None,
    weights_are: str,
    groups: NDArray[np.intp] | None,
    seed: int,
) -> tuple[Array, Bootstrap | None]:
    try:
        if errors.kind == "bootstrap":
            resampled = bootstrap(
                X, codes, solution.coefficients, resamples=errors.resamples, seed=seed,
                sample_weight=weight, weights_are=weights_are, groups=groups,
            )  # fmt: skip
            return resampled.covariance, resampled
        spread = covariance(
            X, codes, solution.coefficients, kind=errors.kind, sample_weight=weight, weights_are=weights_are,
            groups=groups if errors.kind == "cluster" else None, information=solution.information,
        )  # fmt: skip
        return spread, None
    except ValueError as error:
        raise InputError(str(error)) from None


def _check(call: Any) -> None:
    try:
        call()
    except ValueError as error:
        raise InputError(str(error)) from None


def _array(X: ArrayLike, name: str) -> Array:
    try:
        values = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name!r} must be numbers, (rows, columns). Got others. Code words as numbers.") from None
    if values.ndim != 2 or not values.size:
        raise InputError(f"{name!r} must have the shape (rows, columns). Got {values.shape}.")
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            f"{name!r} must be finite. Got {values[row, column]} in row {row}, column {column} (from 0). Fix it or "
            "leave the row out."
        )
    return values


def _with_intercept(X: Array, intercept: bool) -> Array:
    return np.column_stack([np.ones(len(X)), X]) if intercept else X

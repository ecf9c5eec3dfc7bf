"""A fitted conditional logit with its statistics.

Axis legend: N choosers, R rows, Q parameters, J alternatives.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from softplace.errors import InputError, nearest
from softplace.output.logit import comparison
from softplace.output.logit.choices import Choices, Maximum, independent_columns, maximise, sandwich
from softplace.output.logit.comparison import Fit, Test
from softplace.output.logit.conditional import ConditionalData, columns_of, flat_name, prepare_choices
from softplace.output.logit.error_kinds import Errors, check_seed, parse_errors
from softplace.output.logit.hypotheses import parse_hypothesis
from softplace.output.logit.independence import hausman
from softplace.output.logit.inference import Array, Estimates, check_weights, inverse, row_count
from softplace.output.logit.reading import check_columns, complete_rows, quoted, read_table, require
from softplace.output.logit.tables import Table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, eq=False)
class ConditionalResult:
    """A conditional logit that was fitted, and what can be asked of it.

    Args:
        data: Of the choosers.
        maximum: Of the likelihood.
        estimates: The parameters with their covariance.
        errors: How that was estimated.
        weights_are: "counts" or "sampling".
        failed: Resamples of a bootstrap that have no maximum.
        options: What `fit_conditional` was given, for fits of other formulas.
    """

    data: ConditionalData
    maximum: Maximum
    estimates: Estimates
    errors: Errors
    weights_are: str
    failed: int
    options: dict[str, Any]

    @property
    def formula(self) -> str:
        """What was fitted."""
        return self.data.parts.formula

    @property
    def reference(self) -> Any:
        """The alternative whose constant is 0."""
        return self.data.alternatives[self.data.reference]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the parameters, as a hypothesis calls them."""
        return tuple(map(flat_name, self.data.names))

    @property
    def coefficients(self) -> Array:
        """(Q,)."""
        return self.estimates.values

    @property
    def standard_errors(self) -> Array:
        """(Q,)."""
        return self.estimates.standard_errors

    @property
    def loglikelihood(self) -> float:
        """In nats."""
        return self.maximum.loglikelihood

    def conf_int(self, level: float = 0.95) -> Array:
        """(Q, 2)."""
        return self.estimates.conf_int(level)

    def coefficient_table(self, level: float = 0.95) -> Table:
        """Coefficients with error, z, p and interval."""
        return self.estimates.table(level, "Coefficients")

    def odds_ratios(self, level: float = 0.95) -> Table:
        """exp of the coefficients: the factor on the odds of an alternative of one more unit of its column."""
        return self.estimates.ratios(level, "Odds ratios")

    @cached_property
    def equal_shares(self) -> float:
        """The log-likelihood where each chooser's alternatives are equally likely: `-sum_i w_i ln J_i`."""
        logs = -np.log(self.data.choices.sizes)
        return float(logs.sum() if self.data.choices.weight is None else self.data.choices.weight @ logs)

    @cached_property
    def constants_alone(self) -> float:
        """The log-likelihood of the model with constants alone."""
        codes, choices = self.data.codes, self.data.choices
        chosen = np.unique(codes[choices.chosen])
        Z = np.column_stack([codes == at for at in chosen[1:]] or [np.zeros(len(codes))]).astype(np.float64)
        allowed = np.isin(codes, chosen)
        return maximise(replace(choices, Z=Z).without(~allowed)).loglikelihood

    @cached_property
    def fit_measures(self) -> Fit:
        """Log-likelihood, AIC, BIC, pseudo-R2; the null model has constants alone."""
        choices = self.data.choices
        p = choices.probabilities(self.coefficients)
        best = np.maximum.reduceat(p, choices.starts)
        right = (p[choices.chosen] == best).astype(np.float64)
        weight = choices.weight
        counts = np.bincount(self.data.codes[choices.chosen], weights=weight)
        return Fit(
            rows=row_count(len(choices.starts), weight, "counts"),
            parameters=len(self.coefficients),
            loglikelihood=self.loglikelihood,
            null=self.constants_alone,
            right=float(right.sum() if weight is None else weight @ right),
            largest=float(counts.max()),
        )

    def test(self, hypothesis: str) -> list[Test]:
        """Tests of a hypothesis, or of a smaller model within this one.

        Args:
            hypothesis: Equations of parameters, "cost = 0", "Intercept[bus] = Intercept[train]"; a chooser's column
                stands for all alternatives in "income = 0". Or a formula of a model within this one.

        Raises:
            InputError: It cannot be read, or is no model within this one.
        """
        if "~" not in hypothesis:
            terms: dict[str, list[int]] = {}
            for at, (alternative, column) in enumerate(self.data.names):
                if alternative:
                    terms.setdefault(column, []).append(at)
            matrix, values = parse_hypothesis(hypothesis, self.columns, terms)
            try:
                return [comparison.wald(self.estimates, matrix, values, hypothesis)]
            except ValueError as error:
                raise InputError(str(error)) from None
        if self.weights_are == "sampling" and self.data.choices.weight is not None:
            raise InputError("tests of formulas need a likelihood. Got sampling weights. Use a Wald test.")
        smaller = prepare_choices(hypothesis, self.data.frame, **self.options)
        inside = comparison.within(self.data.choices.within(), smaller.choices.within())
        degrees = len(self.coefficients) - smaller.choices.Z.shape[1]
        if inside is None or degrees < 1 or len(smaller.choices.Z) != len(self.data.choices.Z):
            raise InputError(
                f"hypothesis {quoted(hypothesis)}: expected a model within {quoted(self.formula)} on the same rows. "
                "Take terms away, and nothing else."
            )
        found = maximise(smaller.choices)
        restricted = inside @ found.values
        gradient = self.data.choices.scores(restricted)
        weight = self.data.choices.weight
        total = gradient.sum(0) if weight is None else weight @ gradient
        statistic = float(total @ np.linalg.solve(self.data.choices.information(restricted), total))
        return [
            comparison.likelihood_ratio(self.loglikelihood, found.loglikelihood, degrees, hypothesis),
            comparison.chi_squared("score", hypothesis, statistic, degrees),
        ]

    def independence(self) -> list[Test]:
        """Leave each alternative out in turn, with those who chose it: Hausman and McFadden's test.

        Parameters that the remaining alternatives do not tell (the constant of the one left out) are not compared.

        Raises:
            InputError: There are only two alternatives.
        """
        if len(self.data.alternatives) < 3:
            raise InputError("independence of irrelevant alternatives needs three alternatives or more. Got 2.")
        bread = inverse(self.maximum.information)
        found = []
        for at, label in enumerate(self.data.alternatives):
            hypothesis = f"odds do not depend on {label}"
            part = self.data.choices.without(self.data.codes == at)
            untold = "too few choosers are left: nothing can be told"
            if len(part.starts) <= len(self.coefficients):
                found.append(_untold(hypothesis, untold))
                continue
            kept, how = independent_columns(part)
            fit = maximise(part.take(kept))
            if not fit.converged or not len(kept):
                found.append(_untold(hypothesis, "the remaining choosers have no maximum: nothing can be told"))
                continue
            difference = fit.values - how @ self.coefficients
            spread = inverse(fit.information) - how @ bread @ how.T
            found.append(hausman(difference, spread, hypothesis))
        return found

    def effects(self, column: str) -> Table:
        """How the probability of each alternative changes with a column of the same or of another one.

        `dP_j / dz_k = b P_j ([j = k] - P_k)`, the mean over the choosers that have both alternatives; with errors by
        the delta method.

        Raises:
            InputError: It is no column of the first part of the formula.
        """
        return self._responses(column, elastic=False)

    def elasticities(self, column: str) -> Table:
        """By how many percent the probability of each alternative changes with one percent more of a column.

        `b z_k ([j = k] - P_k)`, the mean over the choosers that have both alternatives; with errors by the delta
        method. Raises as `effects`.
        """
        return self._responses(column, elastic=True)

    def _responses(self, column: str, *, elastic: bool) -> Table:
        if ("", column) not in self.data.names:
            known = [name for alternative, name in self.data.names if not alternative]
            raise InputError(f"Unknown column {quoted(column)} of alternatives. {nearest(column, known)}")
        data, at = self.data.choices, self.data.names.index(("", column))
        labels = self.data.alternatives

        def means(b: Any) -> Any:
            """(J, J), of j down and k across; b may be complex, for derivatives without rounding."""
            scores = data.Z @ b
            shares = np.exp(scores - data.spread(np.maximum.reduceat(scores.real, data.starts)))
            p = shares / data.spread(np.add.reduceat(shares, data.starts))
            table = np.full((len(data.starts), len(labels)), np.nan, dtype=p.dtype)
            z = np.full((len(data.starts), len(labels)), np.nan)
            owner = np.repeat(np.arange(len(data.starts)), data.sizes)
            table[owner, self.data.codes], z[owner, self.data.codes] = p, data.Z[:, at]
            own = np.eye(len(labels))[None]
            each = b[at] * (own - table[:, None, :]) * (z[:, None, :] if elastic else table[:, :, None])
            both = ~np.isnan(table.real)[:, :, None] & ~np.isnan(table.real)[:, None, :]
            count = (both if data.weight is None else both * data.weight[:, None, None]).astype(np.float64)
            with np.errstate(invalid="ignore", divide="ignore"):
                return (np.where(both, each, 0.0) * count).sum(0) / count.sum(0)

        values = means(self.coefficients.astype(np.complex128)).real
        step = 1e-20
        jacobian = []
        for q in range(len(self.coefficients)):
            moved = self.coefficients.astype(np.complex128)
            moved[q] += step * 1j
            jacobian.append(means(moved).imag / step)
        slopes = np.array(jacobian)
        errors = np.sqrt(np.maximum(np.einsum("qjk,qr,rjk->jk", slopes, self.estimates.covariance, slopes), 0.0))
        what = "Elasticities" if elastic else "Effects"
        rows = [
            (str(labels[k]), str(labels[j]), float(values[j, k]), float(errors[j, k]))
            for k in range(len(labels))
            for j in range(len(labels))
        ]
        return Table(
            title=f"{what} of {column} on probabilities, averaged over the choosers",
            columns=(f"{column} of", "probability of", "elasticity" if elastic else "effect", "error"),
            rows=tuple(rows),
            note="Errors by the delta method.",
        )

    def predict(self, data: Any = None) -> "pd.DataFrame":
        """The probability of each row's alternative among those of its chooser, with both their columns.

        Args:
            data: Rows as those that were fitted, without the column of choices; these when `None`.

        Raises:
            InputError: A column is missing, a cell is, or an alternative was not fitted.
        """
        pandas = require("pandas")
        chooser, alternative = self.options["chooser"], self.options["alternative"]
        if data is None:
            frame, choices = self.data.frame, self.data.choices
            order = np.arange(len(frame))
        else:
            frame, name = read_table(data)
            needed = [chooser, alternative, *self.data.parts.wanted]
            check_columns(frame, needed, "new data")
            complete_rows(frame, needed, name, drop_missing=False)
            order = np.argsort(frame[chooser].factorize()[0], kind="stable")
            frame = frame.iloc[order].reset_index(drop=True)
            words = [str(label) for label in self.data.alternatives]
            plain = frame[alternative]
            if plain.dtype.kind == "f" and bool((plain % 1 == 0).all()):
                plain = plain.astype(np.int64)
            codes = pandas.Index(words).get_indexer(plain.astype(str))
            if np.any(codes < 0):
                row = int((codes < 0).argmax())
                raise InputError(
                    f"column {quoted(alternative)}: expected {', '.join(words)}. Got {quoted(plain.iloc[row])} in "
                    f"{name(int(order[row]))}."
                )
            owner = frame[chooser].factorize()[0]
            starts = np.flatnonzero(np.diff(owner, prepend=-1))
            Z = columns_of(self.data.parts, frame, lambda row: name(int(order[row])), codes, self.data)
            choices = Choices(Z=Z, starts=starts, chosen=starts)
        found: pd.DataFrame = frame[[chooser, alternative]].assign(probability=choices.probabilities(self.coefficients))
        return found.iloc[np.argsort(order)].reset_index(drop=True)

    def summary(self, level: float = 0.95) -> str:
        """What a terminal shows."""
        from softplace.output.logit.summary import conditional_text

        return conditional_text(self, level)

    def to_latex(self, level: float = 0.95) -> str:
        """The tables of the summary in LaTeX."""
        from softplace.output.logit.summary import conditional_tables

        return "\n\n".join(table.latex() for table in conditional_tables(self, level))

    def to_html(self, level: float = 0.95) -> str:
        """The tables of the summary in HTML."""
        from softplace.output.logit.summary import conditional_tables

        return "\n".join(table.html() for table in conditional_tables(self, level))

    def to_json(self, level: float = 0.95) -> str:
        """All of the summary as JSON."""
        from softplace.output.logit.summary import conditional_values
        from softplace.output.logit.tables import as_json

        return as_json(conditional_values(self, level))

    def page(self, path: str | Path, *, command: str | None = None, level: float = 0.95) -> None:
        """Write everything as one HTML page that needs no network.

        Raises:
            InputError: The folder cannot be written; an old page then stays as it was.
        """
        from softplace.output.logit.conditional_page import write_conditional_page

        write_conditional_page(Path(path), self, command=command, level=level)


def fit_conditional(
    formula: str,
    data: Any,
    *,
    chooser: str,
    alternative: str,
    reference: Any = None,
    errors: str = "observed",
    weights: str | None = None,
    weights_are: str = "counts",
    drop_missing: bool = False,
    seed: int = 0,
) -> ConditionalResult:
    """Fit a conditional logit (McFadden 1974) by maximum likelihood, to a table with a row for each alternative.

    Args:
        formula: "chosen ~ cost + time | income"; as of `conditional.prepare_choices`.
        data: As of `fit`.
        chooser, alternative, reference: As of `conditional.prepare_choices`.
        errors: As of `fit`; each chooser counts as one row.
        weights, weights_are, drop_missing, seed: As of `fit`.

    Raises:
        InputError: Anything that cannot be used, also where columns separate the chosen from the others.
    """
    chosen = parse_errors(errors)
    check_seed(seed)
    options = {
        "chooser": chooser, "alternative": alternative, "reference": reference, "weights": weights,
        "drop_missing": drop_missing,
    }  # fmt: skip
    prepared = prepare_choices(formula, data, cluster=chosen.column, **options)
    choices = prepared.choices
    try:
        check_weights(weights_are, chosen.kind, weighted=weights is not None)
        maximum = maximise(choices)
        if not maximum.converged or _separated(choices, maximum):
            raise InputError(
                "the likelihood has no maximum: columns tell the chosen alternatives from the others without error, so "
                f"that coefficients are infinite, e.g. that of {flat_name(prepared.names[_steepest(maximum)])}. Leave "
                "it out, or join alternatives."
            )
        covariance, failed = _covariance(choices, maximum, chosen, weights_are, prepared.groups, seed)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from None
    words = chosen.words + (f", {failed:,} of which have no maximum and were left out" if failed else "")
    estimates = Estimates(
        values=maximum.values,
        covariance=covariance,
        names=prepared.names,
        errors=words,
        of="alternative",
    )
    return ConditionalResult(
        data=prepared,
        maximum=maximum,
        estimates=estimates,
        errors=chosen,
        weights_are=weights_are,
        failed=failed,
        options=options,
    )


def _separated(choices: Choices, maximum: Maximum) -> bool:
    """Whether rows that could be chosen are fitted with probability 0 by a coefficient on its way to infinity."""
    scale = np.sqrt(np.diag(maximum.information))
    spread = np.abs(choices.within()).max(0)
    with np.errstate(divide="ignore"):
        return bool(np.any(spread / scale > 1e3 * np.maximum(1.0, spread * np.abs(maximum.values))))


def _steepest(maximum: Maximum) -> int:
    return int(np.argmin(np.diag(maximum.information) * np.maximum(maximum.values**2, 1e-300)))


def _covariance(
    choices: Choices, maximum: Maximum, errors: Errors, weights_are: str, groups: Any, seed: int
) -> tuple[Array, int]:
    if errors.kind == "observed":
        return inverse(maximum.information), 0
    if errors.kind == "bootstrap":
        return _bootstrap(choices, maximum, errors.resamples, weights_are, seed)
    if errors.kind == "cluster":
        count = int(groups.max()) + 1
        if count < 2:
            raise ValueError("groups must be two or more. Got 1. Use 'hc0' where choosers are independent.")
        return sandwich(choices, maximum, weights_are, groups) * (count / (count - 1)), 0
    spread = sandwich(choices, maximum, weights_are)
    if errors.kind == "hc0":
        return spread, 0
    rows, free = row_count(len(choices.starts), choices.weight, weights_are), len(maximum.values)
    if rows <= free:
        raise ValueError(f"'hc1' needs more choosers than parameters. Got {rows:g} and {free}. Use 'hc0'.")
    return spread * (rows / (rows - free)), 0


def _bootstrap(choices: Choices, maximum: Maximum, resamples: int, weights_are: str, seed: int) -> tuple[Array, int]:
    """Refits to choosers drawn with replacement."""
    draws = np.random.default_rng(seed)
    count = len(choices.starts)
    own = np.ones(count) if choices.weight is None else choices.weight
    found: list[Array] = []
    for _ in range(resamples):
        if weights_are == "counts" and choices.weight is not None:
            total = max(round(float(own.sum())), 1)
            weight = draws.multinomial(total, own / own.sum()).astype(np.float64)
        else:
            weight = own * np.bincount(draws.integers(count, size=count), minlength=count)
        fit = maximise(replace(choices, weight=weight), maximum.values, steps=15, close=1e-12)
        if fit.converged and fit.iterations < 15:
            found.append(fit.values)
    if len(found) < 2:
        raise ValueError(
            f"a bootstrap needs two resamples or more that have a maximum. Got {len(found)} of {resamples}. Use "
            "'observed' errors."
        )
    return np.atleast_2d(np.cov(np.array(found), rowvar=False)), resamples - len(found)


def _untold(hypothesis: str, note: str) -> Test:
    return Test(name="Hausman-McFadden", hypothesis=hypothesis, statistic=math.nan, degrees=0, p=None, note=note)

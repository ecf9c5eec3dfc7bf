"""The page of a conditional logit: odds ratios, elasticities, who is told to choose what, tests, tables.

Axis legend: N choosers, R rows, Q parameters, J alternatives.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import softplace
from softplace.output.logit.comparison import Test
from softplace.output.logit.design import INTERCEPT
from softplace.output.logit.page import MOST_COLUMNS, column_spread, fit_lines, listed, test_lines
from softplace.output.logit.summary import conditional_facts
from softplace.report.page import write_page
from softplace.report.records import Axis, Figure, PlaceReport, Report, Section, Value

if TYPE_CHECKING:
    from softplace.output.logit.conditional_result import ConditionalResult

MOST_RESPONSES = 6
"""Columns whose elasticities or effects are drawn: those with the largest |z|."""
ALL = "every alternative"


def write_conditional_page(
    path: Path,
    result: "ConditionalResult",
    *,
    command: str | None = None,
    tests: Sequence[Test] = (),
    level: float = 0.95,
) -> None:
    """Write `conditional_report(result)` as one HTML file, in one step.

    Raises:
        InputError: The folder cannot be written; an old page then stays as it was.
    """
    write_page(conditional_report(result, command=command, tests=tests, level=level), path)


def conditional_report(
    result: "ConditionalResult",
    *,
    command: str | None = None,
    tests: Sequence[Test] = (),
    level: float = 0.95,
) -> Report:
    """All that the page of a conditional logit says.

    Args:
        result: The fit.
        command: What made it, for "Do it again".
        tests: Tests to print.
        level: Of the intervals.
    """
    shares = _shares(result)
    sections = [
        Section(key="odds", title="Odds ratios", verdict=None, figures=_odds(result, level)),
        Section(key="responses", title="Elasticities and effects", verdict=None, figures=_responses(result)),
        Section(key="tests", title="Tests", verdict=None, text=test_lines(tests)),
        Section(
            key="fit", title="Fit", verdict=None, text=fit_lines(result.fit_measures, "constants"), figures=[shares]
        ),
    ]
    what, who = result.options["alternative"], result.options["chooser"]
    columns = list(dict.fromkeys(column for _, column in result.data.names if column != INTERCEPT))
    place = PlaceReport(
        place="output",
        question=f"How does {what} depend on {listed(columns)}?",
        answer=_answer(result),
        sections=[section for section in sections if section.figures or section.text],
        references=(),
        method=[
            "A conditional logit: the probability of an alternative is softmax, over the alternatives that a chooser "
            "has, of the sum of their columns times coefficients, which are those of largest likelihood.",
            f"Standard errors: {result.estimates.errors}. Intervals are of {100 * level:.4g} %, of the normal "
            "distribution.",
            f"The alternatives of a chooser are the rows with the same {who}.",
        ],
        facts={name[:1].upper() + name[1:]: value for name, value in conditional_facts(result).items()},
    )
    return Report(
        title=f"Conditional logit of {what}",
        places=(place,),
        pending=(),
        command=command or f"softplace.output.logit.fit_conditional({result.formula!r}, data, ...)",
        provenance={"softplace": softplace.__version__, "numpy": np.__version__},
        about="model",
    )


def _answer(result: "ConditionalResult") -> str:
    measures = result.fit_measures
    return (
        f"Of {measures.rows:,.0f} choosers, {measures.right / measures.rows:.1%} chose what is likeliest for them; the "
        f"most frequent alternative alone has {measures.largest / measures.rows:.1%}. McFadden's pseudo-R2 over "
        f"constants alone is {measures.pseudo_r2['McFadden']:.3f}."
    )


def _odds(result: "ConditionalResult", level: float) -> list[Figure]:
    estimates, bounds = result.estimates, result.conf_int(level)
    drawn = _strongest(result, [at for at, (_, column) in enumerate(result.data.names) if column != INTERCEPT])
    labels = [str(each) for each in result.data.alternatives]
    rows: list[dict[str, Value]] = []
    for at in sorted(drawn[:MOST_COLUMNS]):
        alternative, column = result.data.names[at]
        own = result.data.choices.Z[:, at]
        if alternative:
            own = own[result.data.codes == labels.index(alternative)]
        unit, words = column_spread(own, None)
        with np.errstate(over="ignore"):
            ratio, low, high = (float(np.exp(unit * value)) for value in (estimates.values[at], *bounds[at]))
        rows.append(
            {
                "column": column, "alternative": alternative or ALL, "odds ratio": ratio, "low": low, "high": high,
                "for": words, "coefficient": float(estimates.values[at]),
                "error": float(estimates.standard_errors[at]),
                "z": float(estimates.z[at]), "p": float(estimates.p_values[at]),
            }
        )  # fmt: skip
    if not rows:
        return []
    caption = (
        "The factor on the odds of an alternative of one standard deviation more of its column, or of 1 for 0; "
        f"where the coefficient is of one alternative, on its odds against {result.reference}. The numbers below have "
        "the coefficients of one unit too."
    )
    if len(drawn) > MOST_COLUMNS:
        caption += f" Drawn are the {MOST_COLUMNS} of {len(drawn)} parameters with the largest |z|."
    return [
        Figure(
            key="odds-ratios",
            kind="interval",
            title="Odds ratios",
            caption=caption,
            x=Axis(column="odds ratio", label="Odds ratio", scale="log"),
            y=Axis(column="column", label="Column", scale="category"),
            rows=rows,
            series="alternative",
            reference_line=1.0,
        )
    ]


def _responses(result: "ConditionalResult") -> list[Figure]:
    """Elasticities of what is a quantity; of what may be 0 for all or below 0, effects on probabilities."""
    figures = []
    own = _strongest(result, [at for at, (alternative, _) in enumerate(result.data.names) if not alternative])
    for number, at in enumerate(own[:MOST_RESPONSES]):
        column = result.data.names[at][1]
        values = result.data.choices.Z[:, at]
        elastic = bool(np.all(values >= 0.0)) and not np.all((values == 0.0) | (values == 1.0))
        table = result.elasticities(column) if elastic else result.effects(column)
        what = "elasticity" if elastic else "effect"
        figures.append(
            Figure(
                key=f"response-{number}",
                kind="heatmap",
                title=f"{'Elasticities' if elastic else 'Effects'} of {column}",
                caption=(
                    f"By how many percent the probability of an alternative changes with one percent more {column} of "
                    "the same or of another one"
                    if elastic
                    else f"How the probability of an alternative changes with one unit more {column} of the same or of "
                    "another one"
                )
                + "; the mean over the choosers that have both. Errors by the delta method.",
                x=Axis(column="of", label=f"{column} of", scale="category"),
                y=Axis(column="alternative", label="Probability of", scale="category"),
                rows=[
                    {"of": str(of), "alternative": str(name), "value": _number(value), "error": _number(error)}
                    for of, name, value, error in table.rows
                ],
                value_label=what.capitalize(),
            )
        )
    return figures


def _shares(result: "ConditionalResult") -> Figure:
    """What those who chose an alternative were told, in the mean."""
    data = result.data
    p = data.choices.probabilities(result.coefficients)
    owner = np.repeat(np.arange(len(data.choices.starts)), data.choices.sizes)
    weight = np.ones(len(data.choices.starts)) if data.choices.weight is None else data.choices.weight
    count = len(data.alternatives)
    chosen = data.codes[data.choices.chosen]
    sums = np.zeros((count, count))
    np.add.at(sums, (chosen[owner], data.codes), weight[owner] * p)
    totals = np.bincount(chosen, weights=weight, minlength=count)
    rows: list[dict[str, Value]] = [
        {
            "chose": str(label), "alternative": str(name),
            "value": float(sums[at, k] / totals[at]) if totals[at] else None, "choosers": float(totals[at]),
        }
        for at, label in enumerate(data.alternatives)
        for k, name in enumerate(data.alternatives)
    ]  # fmt: skip
    return Figure(
        key="shares",
        kind="heatmap",
        title="Mean probability of each alternative, by what was chosen",
        caption="On the choosers that were fitted, so that it is better than on new ones. A row sums to 1.",
        x=Axis(column="alternative", label="Alternative", scale="category"),
        y=Axis(column="chose", label="Chose", scale="category"),
        rows=rows,
        value_label="Mean probability",
    )


def _strongest(result: "ConditionalResult", places: list[int]) -> list[int]:
    z = np.abs(np.nan_to_num(result.estimates.z))
    return sorted(places, key=lambda at: -z[at])


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else None

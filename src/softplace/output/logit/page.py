"""The page of a multinomial logit: odds ratios, marginal effects, predicted probabilities, tests, tables.

Axis legend: P columns, K classes.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import softplace
from softplace.output.logit.comparison import Fit, Test
from softplace.output.logit.design import INTERCEPT
from softplace.output.logit.effects import At, Effects
from softplace.output.logit.inference import Array
from softplace.output.logit.summary import facts, term_tests
from softplace.output.logit.tables import show
from softplace.report.page import write_page
from softplace.report.records import Axis, Figure, PlaceReport, Report, Section, Value

if TYPE_CHECKING:
    from softplace.output.logit.result import LogitResult

MOST_COLUMNS = 40
"""Columns that are drawn: those with the largest |z|."""
MOST_PROFILES = 12
"""Variables whose predicted probabilities are drawn."""


def write_logit_page(
    path: Path,
    result: "LogitResult",
    *,
    command: str | None = None,
    at: At = "average",
    tests: Sequence[Test] = (),
    level: float = 0.95,
) -> None:
    """Write `logit_report(result)` as one HTML file, in one step.

    Raises:
        InputError: The folder cannot be written; an old page then stays as it was.
    """
    write_page(logit_report(result, command=command, at=at, tests=tests, level=level), path)


def logit_report(
    result: "LogitResult",
    *,
    command: str | None = None,
    at: At = "average",
    tests: Sequence[Test] = (),
    level: float = 0.95,
) -> Report:
    """All that the page of a multinomial logit says.

    Args:
        result: The fit.
        command: What made it, for "Do it again".
        at: Where effects are taken.
        tests: More tests to print.
        level: Of the intervals.
    """
    effects = result.marginal_effects(at) if result.design.variables else None
    sections = [
        Section(key="odds", title="Odds ratios", verdict=None, figures=_odds(result, level)),
        Section(key="effects", title="Marginal effects", verdict=None, figures=_effects(result, effects, level)),
        Section(key="profiles", title="Predicted probabilities", verdict=None, figures=_profiles(result, level)),
        Section(key="tests", title="Tests", verdict=None, text=test_lines([*term_tests(result), *tests])),
        Section(
            key="fit",
            title="Fit",
            verdict=None,
            text=fit_lines(result.fit_measures, "an intercept"),
            figures=[_confusion(result)],
        ),
    ]
    place = PlaceReport(
        place="output",
        question=f"How does {result.choice} depend on {listed(list(result.design.variables))}?",
        answer=_answer(result, effects),
        sections=[section for section in sections if section.figures or section.text],
        references=(),
        method=[
            "A multinomial logit: the logarithm of P(class) / P(reference) is a sum of the columns times coefficients, "
            "which are those of largest likelihood. It is softmax of linear scores, trained with cross-entropy.",
            f"Standard errors: {result.estimates.errors}. Intervals are of {100 * level:.4g} %, of the normal "
            "distribution; those of effects and probabilities by the delta method.",
            "An effect is the derivative of a probability by a number, or its change from a category's first level; "
            f"{'averaged over the rows' if effects is None else effects.at}.",
        ],
        facts={name[:1].upper() + name[1:]: value for name, value in facts(result).items()},
    )
    return Report(
        title=f"Multinomial logit of {result.choice}",
        places=(place,),
        pending=(),
        command=command or f"softplace.output.logit.fit({result.formula!r}, data)",
        provenance={"softplace": softplace.__version__, "numpy": np.__version__},
        about="model",
    )


def command_of(data: str, formula: str, options: Sequence[str]) -> str:
    """The command that makes a page again."""
    return f"softplace logit {shlex.join([data, formula, *options])}"


def _answer(result: "LogitResult", effects: Effects | None) -> str:
    measures = result.fit_measures
    start = (
        f"Of {len(result.X):,} rows, {measures.right / measures.rows:.1%} have the likeliest class; the most frequent "
        f"class alone has {measures.largest / measures.rows:.1%}. McFadden's pseudo-R2 is "
        f"{measures.pseudo_r2['McFadden']:.3f}."
    )
    if effects is None:
        return start
    spreads = np.array([_spread(result, name) for name, _ in effects.names])
    sizes = np.abs(effects.values) * spreads[:, None]
    clear = np.where(effects.p_values < 0.05, sizes, 0.0)
    if not np.any(clear > 0.0):
        return f"{start} No marginal effect differs from 0 at 5 %."
    v, k = np.unravel_index(int(np.argmax(clear)), clear.shape)
    (variable, change), name = effects.names[v], effects.classes[k]
    by = f"one standard deviation more of {variable}" if change == "d/dx" else f"{variable} {change}"
    about = "about " if change == "d/dx" else ""
    direction = "raises" if effects.values[v, k] > 0 else "lowers"
    return f"{start} The largest effect: {by} {direction} P({name}) by {about}{100 * sizes[v, k]:.1f} points."


def _spread(result: "LogitResult", variable: str) -> float:
    """What one unit of a figure is: a standard deviation of a number, 1 of a change of levels."""
    found = result.design.variables[variable]
    number = found.levels is None and not found.opaque
    return _deviation(result.design.values(variable), result.weight) if number else 1.0


def _deviation(values: Array, weight: Array | None) -> float:
    """The standard deviation of the rows, or of what they count."""
    mean = np.average(values, weights=weight)
    return float(np.sqrt(np.average((values - mean) ** 2, weights=weight)))


def column_spread(values: Array, weight: Array | None) -> tuple[float, str]:
    """What a factor is of, and in words: one standard deviation of a number, 1 for 0."""
    if np.all((values == 0.0) | (values == 1.0)):
        return 1.0, "1 for 0"
    spread = _deviation(values, weight)
    return (spread, f"one SD, {show(spread)}") if spread > 0 else (1.0, "1")


def _odds(result: "LogitResult", level: float) -> list[Figure]:
    estimates, bounds = result.estimates, result.estimates.conf_int(level)
    z = np.abs(np.nan_to_num(estimates.z)).reshape(len(result.classes) - 1, -1).max(0)
    ranked = [at for at in np.argsort(-z).tolist() if result.columns[at] != INTERCEPT]
    shown = {result.columns[at] for at in ranked[:MOST_COLUMNS]}
    units = {name: column_spread(result.X[:, at], result.weight) for at, name in enumerate(result.columns)}
    rows: list[dict[str, Value]] = []
    for at, (name, column) in enumerate(estimates.names):
        if column in shown:
            unit, words = units[column]
            with np.errstate(over="ignore"):
                ratio, low, high = (float(np.exp(unit * value)) for value in (estimates.values[at], *bounds[at]))
            rows.append(
                {
                    "column": column, "class": name, "odds ratio": ratio, "low": low, "high": high, "for": words,
                    "coefficient": float(estimates.values[at]), "error": float(estimates.standard_errors[at]),
                    "z": float(estimates.z[at]), "p": float(estimates.p_values[at]),
                }
            )  # fmt: skip
    if not rows:
        return []
    caption = (
        f"The factor on P(class) / P({result.reference}) of one standard deviation more of a number, or of 1 for 0. "
        "Right of the line: more likely. The numbers below have the coefficients of one unit too."
    )
    if len(ranked) > MOST_COLUMNS:
        caption += f" Drawn are the {MOST_COLUMNS} of {len(ranked)} columns with the largest |z|."
    return [
        Figure(
            key="odds-ratios",
            kind="interval",
            title=f"Odds ratios against {result.reference}",
            caption=caption,
            x=Axis(column="odds ratio", label=f"Odds ratio against {result.reference}", scale="log"),
            y=Axis(column="column", label="Column", scale="category"),
            rows=rows,
            series="class",
            reference_line=1.0,
        )
    ]


def _effects(result: "LogitResult", effects: Effects | None, level: float) -> list[Figure]:
    if effects is None:
        return []
    bounds = effects.conf_int(level)
    rows: list[dict[str, Value]] = []
    for v, (variable, change) in enumerate(effects.names[:MOST_COLUMNS]):
        unit = _spread(result, variable) if change == "d/dx" else 1.0
        label = f"{variable}, one SD ({show(unit)})" if change == "d/dx" else f"{variable}: {change}"
        for k, name in enumerate(effects.classes):
            value, low, high = (float(unit * each) for each in (effects.values[v, k], *bounds[v, k]))
            rows.append(
                {
                    "variable": label, "class": name, "change": value, "low": low, "high": high,
                    "effect of one unit": float(effects.values[v, k]),
                    "error": float(effects.standard_errors[v, k]),
                    "z": float(effects.z[v, k]), "p": float(effects.p_values[v, k]),
                }
            )  # fmt: skip
    caption = (
        f"How the probability of each class changes, {effects.at}: the derivative times one standard deviation of a "
        "number, or the change from one level to another. The changes of all classes sum to 0."
    )
    caption += "".join(f" No effect of {each}." for each in effects.left_out)
    return [
        Figure(
            key="marginal-effects",
            kind="interval",
            title="Marginal effects on probabilities",
            caption=caption,
            x=Axis(column="change", label="Change of the probability"),
            y=Axis(column="variable", label="Variable", scale="category"),
            rows=rows,
            series="class",
            reference_line=0.0,
        )
    ]


def _profiles(result: "LogitResult", level: float) -> list[Figure]:
    figures = []
    for variable in [each for each in result.design.variables.values() if not each.opaque][:MOST_PROFILES]:
        found = result.profile(variable.name)
        bounds = found.conf_int(level)
        number = variable.levels is None
        rows: list[dict[str, Value]] = [
            {
                variable.name: float(point) if number else str(point), "class": name,
                "probability": float(found.probabilities[t, k]),
                "low": float(bounds[t, k, 0]), "high": float(bounds[t, k, 1]),
            }
            for t, point in enumerate(found.points)
            for k, name in enumerate(found.classes)
        ]  # fmt: skip
        probability = Axis(column="probability", label="Predicted probability")
        own = Axis(column=variable.name, label=variable.name, scale="linear" if number else "category")
        figures.append(
            Figure(
                key=f"profile-{variable.name}",
                kind="curve" if number else "interval",
                title=f"Predicted probabilities over {variable.name}",
                caption=f"The mean over the rows with {variable.name} set to each value and all else as it is; with "
                f"intervals of {100 * level:.4g} %.",
                x=own if number else probability,
                y=probability if number else own,
                rows=rows,
                series="class",
            )
        )
    return figures


def _confusion(result: "LogitResult") -> Figure:
    table = result.confusion()
    rows: list[dict[str, Value]] = [
        {"class": str(row[0]), "predicted": name, "value": float(count) if isinstance(count, int | float) else None}
        for row in table.rows
        for name, count in zip(result.class_names, row[1:], strict=True)
    ]
    return Figure(
        key="confusion",
        kind="heatmap",
        title="Rows of each class by the likeliest class",
        caption="On the rows that were fitted, so that it is better than on new ones.",
        x=Axis(column="predicted", label="Likeliest class", scale="category"),
        y=Axis(column="class", label=f"{result.choice}", scale="category"),
        rows=rows,
        value_label="Rows",
    )


def test_lines(tests: Sequence[Test]) -> list[str]:
    """A line for each."""
    lines = []
    for test in tests:
        p = "no p" if test.p is None else f"p {show(test.p, 'p')}" if test.p < 1e-4 else f"p = {show(test.p, 'p')}"
        note = f" ({test.note})" if test.note else ""
        lines.append(f"{test.hypothesis}: {test.name}, chi2({test.degrees}) = {show(test.statistic)}, {p}{note}.")
    return lines


def fit_lines(measures: Fit, alone: str) -> list[str]:
    """Log-likelihood beside that of what it names, information criteria, pseudo-R2."""
    ratios = ", ".join(f"{name} {value:.4f}" for name, value in measures.pseudo_r2.items())
    return [
        f"Log-likelihood {measures.loglikelihood:.6g}, of {alone} alone {measures.null:.6g}; AIC "
        f"{measures.aic:.6g}, BIC {measures.bic:.6g}.",
        f"Pseudo-R2: {ratios}.",
    ]


def listed(names: list[str]) -> str:
    """As a sentence lists them."""
    if not names:
        return "nothing"
    shown = names[:6] + ([f"{len(names) - 6} more"] if len(names) > 6 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"

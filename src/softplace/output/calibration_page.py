"""What `softplace calibrate` says: in the terminal, as JSON, and as a page.

Axis legend: N rows, C classes.
"""

import json
import math
import shlex
from pathlib import Path
from typing import Any

import torch

import softplace
from softplace.output._bootstrap import Interval
from softplace.output.assessment import FOLDS, Assessment, SetsFound
from softplace.output.calibration import Calibrator, DirichletScaling, MatrixScaling, TemperatureScaling, VectorScaling
from softplace.output.isotonic import IsotonicScaling
from softplace.output.scores_file import Scores
from softplace.report.numbers import finite
from softplace.report.page import write_page
from softplace.report.records import Axis, Cell, Figure, PlaceReport, Reference, Report, Section, Value

PAGE = "calibration.html"
_SETS = {"lac": "LAC (smallest)", "aps": "APS (adaptive)", "raps": "RAPS (regularised)"}


def shown(found: Assessment, scores: Scores) -> str:
    """All that was found, as text for a terminal."""
    kind = {"logits": "logits", "probabilities": "probabilities (their logarithms are scaled)"}[scores.kind]
    lines = [f"{found.rows:,} rows, {found.classes} classes, {kind}"]
    lines += [f"Note: {note}." for note in (*scores.notes, *found.notes)]
    lines += ["", f"{'on rows left out':18}{'before':>26}{'after':>26}{'change':>28}"]
    before, after = found.tests
    for each in found.measures:
        cells = (
            _with_interval(each.before, each.before_interval),
            _with_interval(each.after, each.after_interval),
            _with_interval(each.change, each.change_interval, sign="+"),
        )
        lines.append(f"{each.name:18}{cells[0]:>26}{cells[1]:>26}{cells[2]:>28}")
        if each.name == "calibration error":
            lines.append(f"{'  by chance alone':18}{float(before.expected):>26.4f}{float(after.expected):>26.4f}")
            lines.append(f"{'  p':18}{float(before.p_value):>26.3g}{float(after.p_value):>26.3g}")
    lines += ["", describe(found.calibrator, found.penalty)]
    if found.sets:
        lines += ["", f"{'sets of classes':22}{'coverage':>26}{'mean size':>12}{'one class':>12}   least covered class"]
        for each_set in found.sets:
            covered = _with_interval(each_set.coverage, each_set.interval)
            worst = f"{_short(scores.classes[each_set.worst_class])}: {each_set.worst:.3f}"
            lines.append(
                f"{_SETS[each_set.score]:22}{covered:>26}{each_set.size:>12.3f}{each_set.single:>12.3f}   {worst}"
            )
        lines.append(f"Asked for: {1 - found.alpha:g}.")
    return "\n".join(lines)


def as_json(found: Assessment, scores: Scores) -> str:
    """The same as JSON, with the parameters of the calibrator that was fitted on all rows."""
    data = {
        "rows": found.rows,
        "classes": list(scores.classes),
        "kind": scores.kind,
        "notes": [*scores.notes, *found.notes],
        "fit": found.fit,
        "penalty": found.penalty,
        "parameters": parameters(found.calibrator),
        "measures": [
            {
                "name": each.name,
                "before": each.before,
                "before_interval": each.before_interval,
                "after": each.after,
                "after_interval": each.after_interval,
                "change": each.change,
                "change_interval": each.change_interval,
            }
            for each in found.measures
        ],
        "calibration_test": [
            {"error": float(each.error), "expected": float(each.expected), "p_value": float(each.p_value)}
            for each in found.tests
        ],
        "alpha": found.alpha,
        "sets": [
            {
                "score": each.score,
                "coverage": each.coverage,
                "interval": each.interval,
                "size": each.size,
                "single": each.single,
                "worst": each.worst,
                "worst_class": scores.classes[each.worst_class],
            }
            for each in found.sets
        ],
        "seed": found.seed,
    }
    return json.dumps(finite(data), indent=2, allow_nan=False)


def parameters(calibrator: Calibrator) -> dict[str, Any]:
    """A calibrator's numbers, as lists."""
    if isinstance(calibrator, TemperatureScaling):
        return {"temperature": calibrator.temperature}
    if isinstance(calibrator, VectorScaling | MatrixScaling | DirichletScaling):
        return {"weight": calibrator.weight.tolist(), "bias": calibrator.bias.tolist()}
    if isinstance(calibrator, IsotonicScaling):
        return {"steps": [{"from": points.tolist(), "to": heights.tolist()} for points, heights in calibrator.steps]}
    return {}


def command_of(source: str, **options: str | float | None) -> str:
    """What to type to do it again; an option that is `None` was not given."""
    words = ["softplace", "calibrate", source]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def describe(calibrator: Calibrator, penalty: float | None) -> str:
    """What to do with the calibrator, in a sentence."""
    if isinstance(calibrator, TemperatureScaling):
        temperature = calibrator.temperature
        sure = "too sure" if temperature > 1 else "not sure enough"
        return f"Divide the logits by a temperature of {temperature:.6g}: the classifier was {sure}."
    numbers = {
        VectorScaling: "a weight and a bias per class",
        MatrixScaling: "a matrix and a bias",
        DirichletScaling: "a matrix and a bias for the logarithms of probabilities",
        IsotonicScaling: "a rising function per class",
    }[type(calibrator)]
    chosen = "" if penalty is None else f", with a penalty of {penalty:g}"
    return f"The calibrator is {numbers}{chosen}; --json prints them."


def write_calibration_page(path: Path, found: Assessment, scores: Scores, source: str, command: str) -> None:
    """Write `calibration_report(...)` as one HTML file, in one step.

    Raises:
        InputError: The folder cannot be written; an old page then stays as it was.
    """
    write_page(calibration_report(found, scores, source, command), path)


def calibration_report(found: Assessment, scores: Scores, source: str, command: str) -> Report:
    """All that the page says of the file `source`; `command` is what to type to make it again."""
    name = Path(source).name
    error = found.measures[3]
    before, after = found.tests
    told = (
        f"The calibration error is {error.before:.3g} before and {error.after:.3g} after; a calibrated classifier "
        f"would get {float(before.expected):.3g} and {float(after.expected):.3g} by chance "
        f"(p = {float(before.p_value):.2g} and {float(after.p_value):.2g}). {describe(found.calibrator, found.penalty)}"
    )
    sections = [
        Section(
            key="reliability",
            title="Reliability: how often the predicted class is right",
            verdict=None,
            figures=[_diagram(found, side) for side in (0, 1)],
        ),
        Section(
            key="measures",
            title="Measures, before and after",
            verdict=None,
            figures=[_changes(found), _measures(found)],
        ),
        Section(key="confidence", title="How sure it is", verdict=None, figures=[_counts(found)]),
    ]
    if found.sets:
        sections.append(
            Section(
                key="sets",
                title=f"Sets of classes with a coverage of {1 - found.alpha:g}",
                verdict=None,
                figures=[_coverage(found), _sizes(found)],
                text=[_set_text(each, scores) for each in found.sets],
            )
        )
    place = PlaceReport(
        place="output",
        question=f"Are the probabilities of {name} right?",
        answer=told,
        sections=sections,
        references=_REFERENCES,
        method=[
            f"The rows are cut into {FOLDS} parts with every class spread evenly. Each part is measured with a "
            "calibrator fitted on three others; the threshold of its sets is from the fifth. No row is measured by "
            "what was fitted on it.",
            f"Calibration error: of the largest probability, {found.bins} bins of equal width. RMS "
            "error: the root of the mean squared gap of these bins, less what noise adds. Intervals: basic bootstrap "
            "over rows, 95 %. The p-value: how often labels drawn from the probabilities have an error as "
            "large. The band: where 95 % of the frequencies of a bin lie if the probabilities are right.",
        ],
        facts={
            "rows": found.rows,
            "classes": found.classes,
            "scores": scores.kind,
            "calibrator": found.fit,
            **({} if found.penalty is None else {"penalty": found.penalty}),
            **{f"note {number}": note for number, note in enumerate((*scores.notes, *found.notes), 1)},
        },
    )
    provenance: dict[str, Cell] = {"softplace": softplace.__version__, "torch": str(torch.__version__)}
    return Report(
        title=f"Calibration of {name}",
        places=(place,),
        pending=(),
        command=command,
        provenance=provenance,
        about="training",
    )


def _diagram(found: Assessment, side: int) -> Figure:
    word, diagram = ("before", "after")[side], found.diagrams[side]
    rows: list[dict[str, Value]] = []
    outside = 0
    for each in range(found.bins):
        count = int(diagram.count[each])
        if not count:
            continue
        at = float(diagram.probability[each])
        frequency = float(diagram.frequency[each])
        low, high = float(diagram.band_low[each]), float(diagram.band_high[each])
        outside += not low <= frequency <= high
        interval = f"{float(diagram.low[each]):.3f} to {float(diagram.high[each]):.3f}"
        for line, value, ends in (("measured", frequency, (None, None)), ("if it were right", at, (low, high))):
            row: dict[str, Value] = {"line": line, "probability": at, "frequency": value}
            row |= {"low": ends[0], "high": ends[1], "rows": count}
            rows.append(row | {"95 % interval": interval if line == "measured" else None})
    full = len(rows) // 2
    return Figure(
        key=f"reliability-{word}",
        kind="curve",
        title=f"Reliability {word} calibration",
        caption=f"{outside} of {full} bins lie outside of the band, of which chance puts 1 in 20 there.",
        x=Axis(column="probability", label="Mean probability of the predicted class"),
        y=Axis(column="frequency", label="How often it is right"),
        rows=sorted(rows, key=lambda row: str(row["line"])),
        series="line",
    )


def _changes(found: Assessment) -> Figure:
    rows: list[dict[str, Value]] = [
        {
            "measure": each.name,
            "change": each.change,
            "low": each.change_interval[0],
            "high": each.change_interval[1],
        }
        for each in found.measures
        if each.change_interval is not None
    ]
    return Figure(
        key="changes",
        kind="interval",
        title="What calibration changes",
        caption="After less before, on rows left out. Of all but the accuracy less is better.",
        x=Axis(column="change", label="Change"),
        y=Axis(column="measure", label="Measure", scale="category"),
        rows=rows,
        reference_line=0.0,
    )


def _measures(found: Assessment) -> Figure:
    rows: list[dict[str, Value]] = []
    for each in found.measures:
        for when, value, interval in (
            ("before", each.before, each.before_interval),
            ("after", each.after, each.after_interval),
        ):
            if math.isfinite(value):
                low, high = interval or (None, None)
                rows.append({"measure": each.name, "when": when, "value": value, "low": low, "high": high})
    return Figure(
        key="measures",
        kind="interval",
        title="Measures on rows left out",
        caption="With 95 % bootstrap intervals; the calibration error, which noise makes larger, has none.",
        x=Axis(column="value", label="Value"),
        y=Axis(column="measure", label="Measure", scale="category"),
        rows=rows,
        series="when",
    )


def _counts(found: Assessment) -> Figure:
    rows: list[dict[str, Value]] = []
    for word, diagram in zip(("before", "after"), found.diagrams, strict=True):
        for each in range(found.bins):
            middle = (each + 0.5) / found.bins
            rows.append({"when": word, "probability": middle, "rows": int(diagram.count[each])})
    return Figure(
        key="counts",
        kind="curve",
        title="Rows by the probability of the predicted class",
        caption="A point per bin, at its middle.",
        x=Axis(column="probability", label="Probability of the predicted class"),
        y=Axis(column="rows", label="Rows"),
        rows=rows,
        series="when",
    )


def _coverage(found: Assessment) -> Figure:
    rows: list[dict[str, Value]] = [
        {"sets": _SETS[each.score], "coverage": each.coverage, "low": each.interval[0], "high": each.interval[1]}
        for each in found.sets
    ]
    return Figure(
        key="coverage",
        kind="interval",
        title="How often the label is in the set",
        caption=f"The line is what was asked for, {1 - found.alpha:g}.",
        x=Axis(column="coverage", label="Coverage"),
        y=Axis(column="sets", label="Sets", scale="category"),
        rows=rows,
        reference_line=1 - found.alpha,
    )


def _sizes(found: Assessment) -> Figure:
    rows: list[dict[str, Value]] = [{"sets": _SETS[each.score], "size": each.size} for each in found.sets]
    return Figure(
        key="sizes",
        kind="bar",
        title="Mean size of a set",
        caption="At equal coverage smaller is better.",
        x=Axis(column="size", label="Classes in a set"),
        y=Axis(column="sets", label="Sets", scale="category"),
        rows=rows,
    )


def _set_text(each: SetsFound, scores: Scores) -> str:
    return (
        f"{_SETS[each.score]}: {each.single:.1%} of the sets have one class; of the labels of class "
        f"{scores.classes[each.worst_class]} {each.worst:.1%} are in theirs, the least of all classes."
    )


def _short(name: str) -> str:
    """A name of a class on a line, cut where it is long."""
    line = " ".join(name.split())
    return line if len(line) <= 24 else line[:23] + "…"


def _with_interval(value: float, interval: Interval, sign: str = "") -> str:
    if not math.isfinite(value):
        return str(value)
    ends = "" if interval is None else f" [{interval[0]:.4f}, {interval[1]:.4f}]"
    return f"{value:{sign}.4f}{ends}"


_REFERENCES = (
    Reference(
        key="guo2017",
        authors="Guo, Pleiss, Sun and Weinberger",
        title="On calibration of modern neural networks",
        year=2017,
        where="ICML",
        finding="",
        verified=False,
        bibtex="@inproceedings{guo2017calibration,\n  title={On calibration of modern neural networks},\n"
        "  author={Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.},\n  booktitle={ICML},\n"
        "  year={2017}\n}",
        url="https://arxiv.org/abs/1706.04599",
    ),
    Reference(
        key="brocker2007",
        authors="Bröcker and Smith",
        title="Increasing the reliability of reliability diagrams",
        year=2007,
        where="Weather and Forecasting 22",
        finding="",
        verified=False,
        bibtex="@article{brocker2007reliability,\n  title={Increasing the reliability of reliability diagrams},\n"
        '  author={Br{\\"o}cker, Jochen and Smith, Leonard A.},\n  journal={Weather and Forecasting},\n'
        "  volume={22},\n  pages={651--661},\n  year={2007}\n}",
        url=None,
    ),
)

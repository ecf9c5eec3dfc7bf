"""How the output contest is judged: each claim's verdict by its criterion, what is said of it, and its figures.

Axis legend: M members, C classes, B rows.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch

from softplace.report.records import Axis, Cell, Figure, PlaceReport, Section, Value
from softplace.study.contest import Task
from softplace.study.contests._learning_report import fine, measure_figure, training_rows
from softplace.study.contests._report import (
    SOFTMAX,
    Claim,
    counts,
    grids,
    has,
    judge,
    paired_differences,
    rates_figure,
)
from softplace.study.contests.output_arms import ARMS, DOUBLE, FLOOR, output_of
from softplace.study.contests.output_claims import CLAIMS, HIGHLIGHT, OTHERS
from softplace.study.contests.output_members import TRACED, gradients
from softplace.study.contests.output_references import REFERENCES
from softplace.study.plan import score
from softplace.study.results import Results
from softplace.study.store import MemberRecord

LEADS = (0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0)
FEWEST = 20
"""A bin of the reliability diagram with fewer test rows, of all seeds together, is left out."""


def report(results: Results) -> PlaceReport:
    """Judge every claim and draw its figures."""
    results = with_accuracy_lost(results)
    sections = [section for claim in (*CLAIMS, *OTHERS) if (section := _section(results, claim)) is not None]
    keys = dict.fromkeys(key for section in sections if section.verdict for key in section.verdict.references)
    return PlaceReport(
        place="output",
        question="Does softmax belong at the output?",
        answer=_answer(sections),
        sections=[*sections, _examples(results)],
        references=[REFERENCES[key] for key in (*keys, "bouthillier2021")],
        method=_method(results),
        facts=_facts(results),
    )


def with_accuracy_lost(results: Results) -> Results:
    """The results with `accuracy_lost` on every task with wrong labels: what they cost the same arm and seed.

    A network lacks it whose partner on the right labels diverged, so that it counts with the worst score.
    """
    members = dict(results.members)
    for clean, noisy in _pairs(results):
        members[noisy.name] = {
            arm: [_lost(one, other) for one, other in zip(members[clean.name][arm], records, strict=True)]
            for arm, records in members[noisy.name].items()
        }
    return replace(results, members=members)


def _pairs(results: Results) -> list[tuple[Task, Task]]:
    """Every task with wrong labels, behind the one that is the same without."""
    tasks = results.contest.tasks
    return [
        (clean, noisy)
        for noisy in tasks
        for clean in tasks
        if noisy.settings()["noise"] and dict(clean.settings()) == {**noisy.settings(), "noise": 0.0}
    ]


def _lost(clean: MemberRecord, noisy: MemberRecord) -> MemberRecord:
    before = score(clean, "test_accuracy", math.nan)
    after = score(noisy, "test_accuracy", math.nan)
    lost = before - after
    return replace(noisy, metrics={**noisy.metrics, "accuracy_lost": None if math.isnan(lost) else lost})


def headline(results: Results, metric: str) -> Task | None:
    """The task that a metric is judged on: the first that has it."""
    return next((task for task in results.contest.tasks if has(results, task, metric)), None)


def _section(results: Results, claim: Claim) -> Section | None:
    own = {arm.name for arm in ARMS}
    present = [arm.name for arm in results.arms if arm.name != SOFTMAX]
    against = [arm for arm in present if (arm in claim.against if claim.against else arm not in own)]
    task = headline(results, claim.metric)
    if task is None or not against:
        return None
    return judge(
        results,
        claim,
        task,
        against,
        highlight=HIGHLIGHT,
        tasks=results.contest.tasks,
        figures=_figures(results, claim, task),
        remarks=_remarks(claim, cast(Any, task)),
    )


def _remarks(claim: Claim, task: Any) -> list[str]:
    classes = len(task.table.class_names)
    if claim.key == "double-loss":
        least = math.log(1.0 + (classes - 1) / math.e)
        return [
            "These are the probabilities that the network returns. What its loss sees is their softmax, of which the "
            f"largest is e / (e + {classes - 1}) at most: the loss of a network that is right and certain is "
            f"ln(1 + {classes - 1} / e) = {least:.2f} nats."
        ]
    if claim.metric == "test_nll":
        return [f"A probability below {FLOOR:g} counts as {FLOOR:g}, which is {-math.log(FLOOR):.1f} nats."]
    return []


def _figures(results: Results, claim: Claim, task: Task) -> list[Figure]:
    """The figures that belong to one claim only."""
    if claim.key == "squared":
        return [rates_figure(results, task, highlight=HIGHLIGHT, scale=100.0, unit=" points")]
    if claim.key == "double-steps":
        return [_learning(results, task)]
    if claim.key == "calibration":
        return [_reliability(results, task)]
    if claim.key == "gradient":
        return [_by_lead(results, task)]
    if claim.key == "sparse":
        zero = "Share of test labels with probability 0"
        return [
            measure_figure(
                results,
                task,
                "zero_share",
                title=zero,
                caption="Labels to which the network gives no probability at all",
                label=zero,
                highlight=HIGHLIGHT,
            )
        ]
    if claim.key == "noise":
        return [_learning(results, task)]
    return []


def _learning(results: Results, task: Task) -> Figure:
    rows, final = training_rows(results, task, "validation_accuracy")
    told = ", ".join(f"{arm} {final[arm]:.3f}" for arm in sorted(final, key=lambda arm: -final[arm]))
    return Figure(
        key=f"{task.name}-learning",
        kind="curve",
        title=f"Learning, {task.label}: each arm at its best learning rate",
        caption=f"At the end: {told}." if told else "Of no arm two networks were left at the end.",
        x=Axis(column="step", label="Step"),
        y=Axis(column="validation_accuracy", label="Validation accuracy (mean, 95 % interval)"),
        rows=rows,
        series="arm",
        highlight=HIGHLIGHT,
    )


def _reliability(results: Results, task: Task) -> Figure:
    rows: list[dict[str, Cell]] = []
    told: dict[str, float] = {}
    for arm in results.arms:
        found = np.array(results.probes(task, arm.name, "bins"), dtype=np.float64)  # (n, bins, 3)
        if found.ndim != 3:
            continue
        number, confidence, right = found.sum(0).T
        told[arm.name] = float((confidence.sum() - right.sum()) / number.sum())
        rows += [
            {"arm": arm.name, "confidence": float(c / n), "accuracy": float(r / n), "rows": round(n)}
            for n, c, r in zip(number, confidence, right, strict=True)
            if n >= FEWEST
        ]
    said = ", ".join(
        f"{arm} {round(100 * gap, 1) + 0.0:+.1f}" for arm, gap in sorted(told.items(), key=lambda each: each[1])
    )
    return Figure(
        key=f"{task.name}-reliability",
        kind="curve",
        title="How often the class with the largest probability is the right one",
        caption="Calibrated is where accuracy equals probability. Test rows of all seeds, in 15 bins; bins of fewer "
        f"than {FEWEST} rows are left out. Mean largest probability minus accuracy, in points: {said}.",
        x=Axis(column="confidence", label="Largest probability (mean of the bin)"),
        y=Axis(column="accuracy", label="Test accuracy"),
        rows=rows,
        series="arm",
        highlight=HIGHLIGHT,
    )


def _by_lead(results: Results, task: Task) -> Figure:
    """The gradient of each arm's loss where a wrong class leads, at scores that are the same for all."""
    classes = len(cast(Any, task).table.class_names)
    leads = torch.tensor(LEADS, dtype=torch.float64)
    scores = torch.zeros(1, classes, len(LEADS), dtype=torch.float64)
    scores[:, 0], scores[:, 1] = -leads / 2, leads / 2
    labels = torch.zeros(1, len(LEADS), dtype=torch.long)
    rows: list[dict[str, Cell]] = []
    last: dict[str, float] = {}
    for arm in results.arms:
        lengths = torch.linalg.vector_norm(gradients(output_of(arm).loss, scores, labels), dim=1)[0].tolist()
        last[arm.name] = lengths[-1]
        rows += [
            {"arm": arm.name, "lead": lead, "gradient": length}
            for lead, length in zip(LEADS, lengths, strict=True)
            if length > 0.0 and math.isfinite(length)
        ]
    told = ", ".join(f"{arm} {value:.2g}" for arm, value in sorted(last.items(), key=lambda each: each[1]))
    return Figure(
        key="lead",
        kind="curve",
        title="Length of the gradient by the scores where a wrong class leads",
        caption=f"Scores of -lead / 2 for the right class, lead / 2 for a wrong one and 0 for the others, of "
        f"{classes}. At a lead of {LEADS[-1]:g}: {told}.",
        x=Axis(column="lead", label="Lead of the wrong class (difference of scores)"),
        y=Axis(column="gradient", label="Length of the gradient", scale="log"),
        rows=rows,
        series="arm",
        highlight=HIGHLIGHT,
    )


def _examples(results: Results) -> Section:
    """From scores to gradient, row by row: softmax, and beside it the arm that the reader chooses."""
    task = results.contest.tasks[0]
    traces = {
        arm.name: record.probes
        for arm in results.arms
        for record in results.members[task.name][arm.name]
        if record.seed == results.seeds[0] and "scores" in record.probes
    }
    names: Sequence[str] = cast(Any, task).table.class_names
    rows: list[dict[str, Value]] = []
    others = sorted((arm for arm in traces if arm != SOFTMAX), key=lambda arm: arm != DOUBLE)
    for arm in others if SOFTMAX in traces else ():
        shown = {"the label": [[float(each == k) for k in range(len(names))] for each in _labels(traces[arm])]}
        for who, trace in ((SOFTMAX, traces[SOFTMAX]), ("the arm", traces[arm])):
            for part, name in (("scores", "scores"), ("weights", "probabilities"), ("gradient", "gradient")):
                shown[f"{who}: {name}"] = cast("list[list[float]]", trace[part])
        rows += [
            {"example": example + 1, "panel": panel, "row": str(names[k]), "value": value, "arm": arm}
            for panel, values in shown.items()
            for example, each in enumerate(values)
            for k, value in enumerate(each)
        ]
    figure = Figure(
        key="examples",
        kind="steps",
        title="From scores to gradient, row by row",
        caption=f"Test rows of one seed, by trained networks: {TRACED} rows with their own label (examples 1 to "
        f"{TRACED}), then the same rows with a wrong one ({TRACED + 1} to {2 * TRACED}). The gradient is that of the "
        "loss by the scores, over its median length before training. Where it is 0 although the label is wrong, the "
        "network cannot learn from it.",
        x=Axis(column="example", label="Example"),
        y=Axis(column="row", label="Class"),
        rows=rows,
        series="arm",
        facet="panel",
        highlight=(f"{SOFTMAX}: probabilities", "the arm: probabilities"),
    )
    return Section(key="examples", title="The outputs at work", verdict=None, figures=[figure] if rows else [])


def _labels(trace: Any) -> list[int]:
    return cast("list[int]", trace["labels"])


def _answer(sections: Sequence[Section]) -> str:
    found = {section.key: section.verdict.sentence for section in sections if section.verdict is not None}
    said = [
        f"{where}: {found[key]}"
        for key, where in (
            ("squared", "Against squared error, in test accuracy"),
            ("double-steps", "Against a second softmax, in steps"),
        )
        if key in found
    ]
    return f"Measured here. {' '.join(said)}" if said else ""


def _method(results: Results) -> list[str]:
    first = cast(Any, results.contest.tasks[0])
    noise = max(cast(Any, task).noise for task in results.contest.tasks)
    return [
        f"Every network has one hidden layer of {first.width} units (ReLU) and a score for each class; per seed all "
        "arms have the same split, the same initial draw and the same order of batches. They differ in the loss that "
        "trains them and in the probabilities that are asked for.",
        "“softmax” is softmax with cross-entropy. “double softmax” has softmax at its end and is trained by a loss "
        "that has softmax inside, which takes its probabilities for scores. “sigmoids” are one for each class, with "
        "the sum of the binary cross-entropies. “sparsemax” and “entmax15” have their Fenchel-Young losses; “spherical "
        "softmax” and “Taylor softmax” the negative logarithm of the label's probability. “linear + squared error” "
        "fits the scores to 1 for the label and 0 for the others; “hinge” is that of Crammer and Singer. Any other map "
        f"has -ln(p + {FLOOR:g}), or its Fenchel-Young loss.",
        "Probabilities: of softmax with whatever loss, and of a double softmax, softmax of the scores; of sigmoids, "
        "these over their sum; of linear outputs, the distribution that is nearest to the scores; of the hinge, which "
        "has none, softmax of the scores. The class with the largest probability is what a network says.",
        f"In likelihoods a probability below {FLOOR:g} counts as {FLOOR:g}, for all arms alike. The Brier score has no "
        "such rule. The calibration error has 15 bins.",
        "“Confidently wrong”: test rows that a network names rightly, those with the largest probabilities (the half "
        "above the median), each with the label of another class. The measure is the median length of the gradient of "
        "their loss by the scores, over the median length at the scores of the same network before training with the "
        "right labels: 0 decades is as large as at the start.",
        f"Wrong labels: {100 * noise:g} % of the training rows have the label of another class, each of the others as "
        "likely; validation and test labels are right. The target of “steps to target” is the validation accuracy of "
        "the classifier of the nearest class mean of the right training labels; a network that never reaches it "
        "counts with the whole budget.",
        f"Optimizer Adam, batches of {first.batch} rows, {first.steps} steps. The learning rate of each arm and task "
        f"is the one with the best validation accuracy over {len(results.tune_seeds)} seeds; the other "
        f"{len(results.seeds)} seeds are judged, on test rows. Half of the seeds tune, so n more judged seeds are 2n "
        "more of --seeds.",
        "Every seed splits the same table anew, so test rows of one seed may be validation rows of another, also of "
        "one that tuned. The intervals speak of new splits, draws and orders on this table, not of new data.",
        grids(results),
        paired_differences("; so does the accuracy lost to wrong labels where the network without them diverged"),
    ]


def _facts(results: Results) -> dict[str, Cell]:
    facts = counts(results)
    tables: dict[str, Any] = {}
    for task in cast("Sequence[Any]", results.contest.tasks):
        tables[task.table.name] = task.table
        for name, label in (("test_accuracy", "test accuracy"), ("test_nll", "test NLL")):
            values = [cast(float, record.metrics[name]) for record in fine(results, task, SOFTMAX)]
            if values:
                facts[f"{task.label}: {label} with softmax, mean"] = float(f"{np.mean(values):.3g}")
    for table in tables.values():
        size = f"{len(table.labels)} rows, {table.features.shape[1]} features, {len(table.class_names)} classes"
        facts[f"data {table.name}"] = "; ".join((size, *table.notes))
    return facts

"""How the gate contest is judged: each claim's verdict by its criterion, what is said of it, and its figures."""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from softplace.report.records import Axis, Cell, Figure, PlaceReport, Section, Value
from softplace.study.contest import Task
from softplace.study.contests._learning_report import fine, judge_learning, learning_figure, measure_figure
from softplace.study.contests._report import (
    SOFTMAX,
    Claim,
    counts,
    grids,
    has,
    metric_of,
    paired_differences,
    rates_figure,
)
from softplace.study.contests.gate_arms import ARMS, BALANCE, TOP
from softplace.study.contests.gate_claims import CLAIMS, HIGHLIGHT
from softplace.study.contests.gate_references import REFERENCES
from softplace.study.results import Results


def report(results: Results) -> PlaceReport:
    """Judge every claim and draw its figures."""
    sections = [section for claim in CLAIMS if (section := _section(results, claim)) is not None]
    keys = dict.fromkeys(key for section in sections if section.verdict for key in section.verdict.references)
    return PlaceReport(
        place="latent",
        question="Does softmax belong in the gate of a mixture of experts?",
        answer=_answer(sections),
        sections=[*sections, _regions(results)],
        references=[REFERENCES[key] for key in (*keys, "bouthillier2021")],
        method=_method(results),
        facts=_facts(results),
    )


def _section(results: Results, claim: Claim) -> Section | None:
    task = next((each for each in results.contest.tasks if has(results, each, claim.metric)), None)
    return judge_learning(results, claim, task, highlight=HIGHLIGHT, figures=_figures)


def _figures(results: Results, claim: Claim, task: Task) -> list[Figure]:
    """The figures that belong to one claim only."""
    match claim.key:
        case "gate":
            label = "Nats of the validation (mean, 95 % interval)"
            y = Axis(column="loss", label=label)
            return [learning_figure(results, task, y=y, highlight=HIGHLIGHT), _measured(results, task, "error")]
        case "two":
            return [_measured(results, task, "entropy"), rates_figure(results, task, highlight=HIGHLIGHT, unit=" nats")]
        case "balance":
            return [_measured(results, task, "load")]
        case "dropped":
            return [_measured(results, task, "capped")]
    return []


def _measured(results: Results, task: Task, name: str) -> Figure:
    """A measure of every arm, the least first."""
    label = metric_of(task, name).label
    title = f"{label[0].upper()}{label[1:]}"
    return measure_figure(
        results,
        task,
        name,
        title=f"{title}, of every arm",
        caption="At the end of training, on the test images",
        label=title,
        highlight=HIGHLIGHT,
    )


def _regions(results: Results) -> Section:
    """Which experts see which disguise, of the best network of every arm, and how far the gates tell these apart."""
    rows: list[dict[str, Value]] = []
    for task in results.contest.tasks:
        for arm in results.arms:
            records = [record for record in fine(results, task, arm.name) if "regions" in record.probes]
            if not records:
                continue
            best = min(records, key=lambda record: cast(float, record.metrics["loss"]))
            shares = np.array(cast("list[list[float]]", best.probes["regions"]))
            order = np.lexsort((-shares.max(0), shares.argmax(0)))  # experts of the first disguise first
            rows += [
                {
                    "disguise": region + 1,
                    "panel": "share of the weight",
                    "row": place,
                    "value": float(value),
                    "arm": arm.name,
                }
                for region, row in enumerate(shares[:, order])
                for place, value in enumerate(row)
            ]
    figure = Figure(
        key="regions",
        kind="steps",
        title="Who sees what",
        caption="The share of each expert in the weights of each disguise, of each arm's best network, on test images. "
        "Experts are sorted by the disguise that they see most.",
        x=Axis(column="disguise", label="Disguise"),
        y=Axis(column="row", label="Expert"),
        rows=rows,
        series="arm",
        facet="panel",
    )
    task = results.contest.tasks[0]
    told = [_measured(results, task, "information")] if has(results, task, "information") else []
    return Section(key="regions", title="The experts", verdict=None, figures=[*([figure] if rows else []), *told])


def _answer(sections: Sequence[Section]) -> str:
    found = {section.key: section.verdict.sentence for section in sections if section.verdict is not None}
    said = [
        f"{where}: {found[key]}" for key, where in (("gate", "A gate or none"), ("two", "All or two")) if key in found
    ]
    return f"Measured here, in nats an image. {' '.join(said)}" if said else ""


def _method(results: Results) -> list[str]:
    task = cast(Any, results.contest.tasks[0])
    present = {arm.name for arm in results.arms}
    two = [arm.name for arm in ARMS if arm.name in present and "top" in arm.options]
    lines = [
        f"Every network is a mixture of {task.experts} experts and nothing else: networks of {task.hidden} hidden "
        "units (ReLU) between the 8 x 8 pixels of scikit-learn's digits and the ten classes. Scores of the experts are "
        "linear in the pixels, without a bias.",
        f"Every image is in one of {task.regions} disguises: orders of its pixels that each seed draws, and nobody "
        "says which. The test has every image in each of them. Per seed all arms have the same disguises, initial draw "
        "and images; the digits are in the same three parts for all seeds.",
        "With softmax, to map all scores, choose two and divide by their sum is the same as to choose two and map "
        "these alone: this is “softmax of top 2”; “top 2 of softmax” does not divide. “sigmoid” over all experts does "
        "not divide either. “Sinkhorn” weighs all images of a batch together (the test images too, as one batch) and "
        "then divides the largest two. The fixed gate keeps its first draw; without a gate all weights are the same.",
        "The balance loss (of “top 2 of softmax”, “softmax of top 2” and “top 2 of sigmoid”) has the factor "
        f"{BALANCE:g}: the usual 0.01 hardly balances in so few steps. The bias moves by 0.01 a step.",
        f"Experts of all arms have as many parameters. They do not compute as much: two of {task.experts} cost "
        f"{TOP / task.experts:.0%} of all. The contest does not weigh that.",
        "Variation is the deviation over the mean, of the experts of a network: of the images that each sees, or of "
        "its weights in sum. Capacity 1 is room for an even load: what is more is dropped, in the order of the test "
        "images, first choices first, in the measures only and not in training. An image without experts has no "
        "logits: a guess. Of a sparse map the choices are its weights that are not 0.",
        f"Optimizer Adam, {task.batch} images a step, {task.steps} steps. The learning rate of each arm is the one "
        f"with the fewest nats of the validation, mean over the budget, over {len(results.tune_seeds)} seeds; the "
        f"other {len(results.seeds)} seeds are judged, on test images. Half of the seeds tune, so n more judged seeds "
        "are 2n more of --seeds.",
        grids(results),
        paired_differences(),
    ]
    return lines if two else [lines[0], lines[1], *lines[5:]]


def _facts(results: Results) -> dict[str, Cell]:
    facts = counts(results)
    for task in results.contest.tasks:
        scores = results.scores(task, "error")
        median = math.nan if scores is None else float(np.median(scores[SOFTMAX]))
        facts[f"{task.label}: median test error with softmax (%)"] = (
            None if math.isnan(median) else round(100 * median, 1)
        )
    return facts

"""How the latent contest is judged: each claim's verdict by its criterion, what is said of it, and its figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
    judge,
    metric_of,
    paired_differences,
    rates_figure,
)
from softplace.study.contests.latent_arms import GAUSSIAN
from softplace.study.contests.latent_claims import CLAIMS, HIGHLIGHT, PRINTED, TABLE
from softplace.study.contests.latent_references import REFERENCES
from softplace.study.contests.latent_tasks import Encode
from softplace.study.results import Results


def report(results: Results) -> PlaceReport:
    """Judge every claim and draw its figures."""
    sections = [section for claim in CLAIMS if (section := _section(results, claim)) is not None]
    sections += [section for task in results.contest.tasks if (section := _table(results, task)) is not None]
    keys = dict.fromkeys(key for section in sections if section.verdict for key in section.verdict.references)
    return PlaceReport(
        place="latent",
        question="Does softmax belong inside a network where it models a choice?",
        answer=_answer(sections),
        sections=[*sections, _codes(results)],
        references=[REFERENCES[key] for key in (*keys, "bouthillier2021")],
        method=_method(results),
        facts=_facts(results),
    )


def _section(results: Results, claim: Claim) -> Section | None:
    task = next((each for each in results.contest.tasks if has(results, each, claim.metric)), None)
    return judge_learning(results, claim, task, highlight=HIGHLIGHT, figures=_figures)


def _table(results: Results, task: Task) -> Section | None:
    """One network of Table 1 again: the claim's verdict, and every arm's mean beside what was printed."""
    arms = {arm.name for arm in results.contest.arms_of(task)}
    claim = TABLE.get(task.name)
    if claim is None or claim.subject not in arms or not has(results, task, claim.metric):
        return None
    against = [arm for arm in claim.against if arm in arms]
    label = metric_of(task, claim.metric).label
    figure = measure_figure(
        results,
        task,
        claim.metric,
        title=f"Table 1 again, with intervals: {task.label}",
        caption=f"Nats of the test images, {len(results.seeds)} seeds, each arm at its best learning rate",
        label=f"{label[0].upper()}{label[1:]}",
        highlight=(claim.subject,),
    )
    figures = [_beside_print(task, claim, figure), rates_figure(results, task, highlight=HIGHLIGHT, unit=" nats")]
    if not against:
        return Section(key=claim.key, title=claim.title, verdict=None, figures=figures)
    return judge(results, claim, task, against, highlight=(claim.subject, *against), figures=figures)


def _beside_print(task: Any, claim: Claim, figure: Figure) -> Figure:
    """The figure with the printed numbers, where the images are those that they are of."""
    if task.table is None or task.pixels != 784 or "mnist" not in task.table.name.lower():
        return replace(figure, caption=f"{figure.caption} What was printed is of MNIST, and not beside these images.")
    printed: list[Mapping[str, Value]] = [
        {"arm": f"{arm}, printed", claim.metric: nats, "low": nats, "high": nats}
        for arm, nats in PRINTED[task.name].items()
    ]
    rows = sorted((*figure.rows, *printed), key=lambda row: cast(float, row[claim.metric]))
    return replace(figure, rows=rows, caption=f"{figure.caption} What was printed is of one run each.")


def _figures(results: Results, claim: Claim, task: Task) -> list[Figure]:
    """The figures that belong to one claim only."""
    if claim.key == "sampling":
        label = "Negative ELBO of the validation (nats, mean, 95 % interval)"
        return [learning_figure(results, task, y=Axis(column="loss", label=label), highlight=HIGHLIGHT)]
    if claim.key == "unbiased":
        return [_gradients(results, task, "deviation", "Deviation")]
    if claim.key == "biased":
        return [
            _gradients(results, task, "bias", "Bias"),
            rates_figure(results, task, highlight=HIGHLIGHT, unit=" nats"),
        ]
    return []


def _gradients(results: Results, task: Task, metric: str, name: str) -> Figure:
    """A measure of every arm's gradient, at its own trained networks."""
    return measure_figure(
        results,
        task,
        metric,
        title=f"{name} of the gradient by the logits, over the length of the exact gradient",
        caption="At trained networks of the arm itself, on 16 images; by 64 estimates, without their own noise",
        label=f"{name}, as a multiple of the gradient's length",
        highlight=HIGHLIGHT,
        without=(GAUSSIAN,),
    )


def _codes(results: Results) -> Section:
    """What some of the configurations say, of the best network of every arm."""
    rows: list[dict[str, Value]] = []
    for task in (each for each in results.contest.tasks if isinstance(each, Encode)):
        height, width = task.shape
        for arm in results.contest.arms_of(task):
            records = [record for record in fine(results, task, arm.name) if "codes" in record.probes]
            if not records:
                continue
            best = min(records, key=lambda record: cast(float, record.metrics["loss"]))
            for code, pixels in enumerate(cast("list[list[float]]", best.probes["codes"])):
                rows += [
                    {
                        "code": code + 1,
                        "panel": "what the decoder says",
                        "row": row,
                        "value": pixels[row * width : (row + 1) * width],
                        "arm": arm.name,
                    }
                    for row in range(height)
                ]
    figure = Figure(
        key="codes",
        kind="steps",
        title="What the latent variables mean",
        caption="The mean of the pixels for every fourth of the 64 choices, of each arm's best network. Step through.",
        x=Axis(column="code", label="Choice"),
        y=Axis(column="row", label="Row"),
        rows=rows,
        series="arm",
        facet="panel",
    )
    return Section(key="codes", title="The choices", verdict=None, figures=[figure] if rows else [])


def _answer(sections: Sequence[Section]) -> str:
    found = {section.key: section.verdict.sentence for section in sections if section.verdict is not None}
    said = [
        f"{where}: {found[key]}"
        for key, where in (("sampling", "Sampled or not"), ("sparse", "Sparse or not"))
        if key in found
    ]
    return f"Measured here, in nats an image. {' '.join(said)}" if said else ""


def _method(results: Results) -> list[str]:
    task = cast(Any, results.contest.tasks[0])
    return [
        f"Every network is the same autoencoder of {_pixels(task)}: "
        f"{task.hidden} hidden units, {task.variables} latent variables of {task.classes} classes, {task.hidden} "
        "hidden units, Bernoulli pixels, a uniform prior; per seed all have the same initial draw and the same images. "
        "The images are in the same three parts for all seeds.",
        f"There are {task.classes**task.variables} configurations, so the negative ELBO, the log-likelihood and the "
        "gradient are computed over all of them: measures have no sampling noise, whatever an arm was trained by. "
        "“softmax”, “sparsemax” and “entmax15” train by that exact gradient; the posterior of the sparse ones is the "
        "sparse weights themselves.",
        "The other arms train softmax by an estimate, with one sample an image (“leave-one-out”: two; ARSM and DisARM "
        "evaluate more losses). REINFORCE has one learned number as its baseline, NVIL a network (without variance "
        f"normalisation), RELAX a network as its control; Gumbel-softmax has a temperature of {task.temperature:g}.",
        "“no sampling” gives the decoder the weights themselves in training; it is judged, as all are, by the bound of "
        "the choice. “Gaussian” has half as many normal numbers as there are classes in all; its log-likelihood is an "
        "importance-weighted bound with 100 samples, so that the true one is better.",
        f"Optimizer Adam, {task.batch} images a step, {task.steps} steps. The learning rate of each arm is the one "
        f"with the fewest nats of the validation, mean over the budget, over {len(results.tune_seeds)} seeds; the "
        f"other {len(results.seeds)} seeds are judged, on test images. Half of the seeds tune, so n more judged seeds "
        "are 2n more of --seeds.",
        *_method_of_table(results),
        grids(results),
        paired_differences(),
    ]


def _method_of_table(results: Results) -> list[str]:
    tasks: list[Any] = [task for task in results.contest.tasks if task.name in TABLE]
    if not tasks:
        return []
    return [
        "Table 1 again: the networks of Jang et al. 2017, 20 variables of 10 classes (the autoencoder with 200 hidden "
        "units each way; the predictor with two layers of variables and no others), gradient descent with momentum "
        f"0.9, {tasks[0].batch} images a step, {tasks[0].steps:,} steps, their learning rates and the temperature "
        "max(0.5, exp(-0.0001 t)). Of the batch and the steps they say nothing, and theirs may be other test images. "
        "There are 10**20 configurations or more, so nothing is enumerated: no arm trains by the exact gradient, "
        "bounds are of one-hot samples with the exact divergence, and bias and variance of gradients are not "
        "measured. "
        + "; ".join(f"{task.name}: the importance-weighted bound is of {task.samples:,} samples" for task in tasks)
        + "."
    ]


def _pixels(task: Any) -> str:
    if task.table is None:
        return "scikit-learn's digits (8 x 8 pixels, above 1/2 or not)"
    return f"{task.table.name} ({task.pixels} columns, each above the middle of its range or not; missing: not)"


def _facts(results: Results) -> dict[str, Cell]:
    facts = counts(results)
    for task in (each for each in results.contest.tasks if isinstance(each, Encode)):
        scores = results.scores(task, "nll")
        median = math.nan if scores is None else float(np.median(scores[SOFTMAX]))
        facts[f"{task.label}: median negative log-likelihood with softmax"] = (
            None if math.isnan(median) else round(median, 2)
        )
    return facts

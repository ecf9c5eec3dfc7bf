"""How the memory contest is judged: each claim's verdict by its criterion, what is said of it, and its figures."""

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from softplace.memory.page import steps_figure
from softplace.report.records import Axis, Cell, Figure, PlaceReport, Section
from softplace.study.contest import Task
from softplace.study.contests._learning_report import (
    fine,
    headline_of,
    judge_learning,
    learning_figure,
    solved_figure,
    training_rows,
)
from softplace.study.contests._report import SOFTMAX, Claim, band, counts, grids, paired_differences, rates_figure
from softplace.study.contests.memory_claims import CLAIMS, HIGHLIGHT, kind_of
from softplace.study.contests.memory_references import REFERENCES
from softplace.study.results import Results
from softplace.study.store import MemberRecord


def report(results: Results) -> PlaceReport:
    """Judge every claim and draw its figures."""
    sections = [section for claim in CLAIMS if (section := _section(results, claim)) is not None]
    keys = dict.fromkeys(key for section in sections if section.verdict for key in section.verdict.references)
    return PlaceReport(
        place="memory",
        question="Is softmax the right map to address a memory?",
        answer=_answer(sections),
        sections=[*sections, _heads(results)],
        references=[REFERENCES[key] for key in (*keys, "collier2018", "bouthillier2021")],
        method=_method(results),
        facts=_facts(results),
    )


def headline(results: Results, claim: Claim) -> Task | None:
    """The task that a claim is judged on: the first of its kind that has its measure."""
    return headline_of(results, claim, kind_of(claim))


def _section(results: Results, claim: Claim) -> Section | None:
    everywhere = () if claim.metric == "steps_to_learn" else results.contest.tasks
    task = headline(results, claim)
    return judge_learning(results, claim, task, highlight=HIGHLIGHT, figures=_figures, tasks=everywhere)


def _figures(results: Results, claim: Claim, task: Task) -> list[Figure]:
    """The figures that belong to one claim only."""
    if claim.key == "addressing-copy":
        return [_learning(results, task), solved_figure(results, "1 bit per sequence")]
    if claim.key == "content-recall":
        return [_learning(results, task)]
    if claim.key.startswith("sparse"):
        return [rates_figure(results, task, highlight=HIGHLIGHT, unit=" bits")]
    if claim.key == "beyond":
        return [_by_size(results, each) for each in results.contest.tasks]
    if claim.key == "sharpness":
        return [*_sharpening(results, task), *_by_step(results, task)]
    return []


def _learning(results: Results, task: Task) -> Figure:
    label = "Bits per sequence at the longest training sequences (mean, 95 % interval)"
    return learning_figure(results, task, y=Axis(column="bits", label=label), highlight=HIGHLIGHT)


def _by_size(results: Results, task: Task) -> Figure:
    rows: list[dict[str, Cell]] = []
    longest = cast("list[int]", task.settings()["training"])[1]
    last: dict[str, float] = {}
    for arm in results.arms:
        found = cast("list[list[list[float]]]", results.probes(task, arm.name, "errors"))
        if len(found) < 2:
            continue
        for place, (size, _) in enumerate(found[0]):
            shares = [100.0 * each[place][1] for each in found]
            last[arm.name] = float(np.mean(shares))
            rows.append({"arm": arm.name, "size": size, "wrong": last[arm.name], **band(shares)})
    told = ", ".join(f"{arm} {value:.2g} %" for arm, value in sorted(last.items(), key=lambda each: each[1]))
    return Figure(
        key=f"{task.name}-sizes",
        kind="curve",
        title=f"Wrong bits by length, {task.label}",
        caption=f"Training ends at {longest}; 50 % is chance. At the longest: {told}.",
        x=Axis(column="size", label="Length of the sequence"),
        y=Axis(column="wrong", label="Wrong bits (%; mean, 95 % interval)"),
        rows=rows,
        series="arm",
        highlight=HIGHLIGHT,
    )


def _sharpening(results: Results, task: Task) -> list[Figure]:
    """How the reads of the last answer spread while a machine learns: two measures of it."""
    figures = []
    for column, label in (("entropy", "Entropy of the read weights (bits)"), ("sparsity", "Share of slots left out")):
        rows, final = training_rows(results, task, column)
        told = ", ".join(f"{arm} {value:.2g}" for arm, value in sorted(final.items(), key=lambda each: each[1]))
        figures.append(
            Figure(
                key=f"{task.name}-{column}",
                kind="curve",
                title=f"{label.split(' (')[0]} while the machine learns, {task.label}",
                caption=f"At the last answer of a sequence. At the end of training: {told}.",
                x=Axis(column="step", label="Step"),
                y=Axis(column=column, label=f"{label} (mean, 95 % interval)"),
                rows=rows,
                series="arm",
                highlight=HIGHLIGHT,
            )
        )
    return figures


def _by_step(results: Results, task: Task) -> list[Figure]:
    figures = []
    for head, name in enumerate(("read", "write")):
        rows: list[dict[str, Cell]] = []
        for arm in results.arms:
            found = np.array(results.probes(task, arm.name, "entropy_steps"), dtype=np.float64)  # (n, T, K)
            if found.ndim == 3 and len(found) > 1:
                rows += [
                    {"arm": arm.name, "step": step + 1, "entropy": float(values.mean()), **band(values.tolist())}
                    for step, values in enumerate(found[:, :, head].T)
                ]
        figures.append(
            Figure(
                key=f"{task.name}-{name}-steps",
                kind="curve",
                title=f"How a {name} spreads from step to step of a sequence, {task.label}",
                caption=f"Entropy of the {name} weights of trained machines, at the longest training sequences.",
                x=Axis(column="step", label="Step of the sequence"),
                y=Axis(column="entropy", label=f"Entropy of the {name} weights (bits; mean, 95 % interval)"),
                rows=rows,
                series="arm",
                highlight=HIGHLIGHT,
            )
        )
    return figures


def _heads(results: Results) -> Section:
    """Each arm's trained heads, step by step: its best machine on one sequence that is the same for all."""
    figures = []
    for task in results.contest.tasks:
        traces: dict[str, Any] = {}
        for arm in results.arms:
            records = [record for record in fine(results, task, arm.name) if "trace" in record.probes]
            if records:
                best = min(records, key=_mean_bits)
                fields = cast("dict[str, Any]", best.probes["trace"])
                traces[arm.name] = SimpleNamespace(**{name: torch.tensor(value) for name, value in fields.items()})
        if traces:
            episode = cast(Any, task).traced(1)
            figures.append(
                steps_figure(
                    traces,
                    episode,
                    key=f"{task.name}-heads",
                    title=f"The heads of trained machines, step by step: {task.label}",
                    caption="Of each arm the machine that learned fastest, all on the same sequence.",
                    series="arm",
                )
            )
    return Section(key="heads", title="The heads at work", verdict=None, figures=figures)


def _answer(sections: Sequence[Section]) -> str:
    found = {section.key: section.verdict.sentence for section in sections if section.verdict is not None}
    said = [
        f"{where}: {found[key]}"
        for key, where in (("sparse-copy", "To copy"), ("sparse-recall", "For associative recall"))
        if key in found
    ]
    return f"Measured here, in steps to learn. {' '.join(said)}" if said else ""


def _method(results: Results) -> list[str]:
    first = cast(Any, results.contest.tasks[0])
    sizes = "; ".join(
        f"{task.label}: {task.hidden_size} hidden units, {task.slots} slots of width {task.width}, {task.steps} steps"
        for task in cast("Sequence[Any]", results.contest.tasks)
    )
    return [
        f"Every machine is the same Neural Turing Machine ({first.controller} controller, one read and one write head, "
        "a memory of small constant values, heads that start on one slot), with one map or another in its look-up by "
        f"content; per seed all have the same initial draw and the same sequences. {sizes}.",
        "Weights of the look-up pass a gate, a shift and a sharpening that normalises them, so a head can find its way "
        "without content: “location only” has nothing else. “uniform” has no address at all: its heads start "
        "everywhere and stay so. The LSTM has no memory, and as many parameters as the machine or just more.",
        "“relu-normalised” divides by the number of slots, not by the sum, and “hardmax” has the gradient of softmax.",
        f"Optimizer Adam, {first.batch} fresh sequences a step, of one length, which is drawn anew every step for all "
        "seeds alike; gradients are clipped to a norm of 10 per network. A network stops when it is below "
        "0.05 bits at two evaluations together.",
        "The learning rate of each arm is the one with the fewest validation bits per sequence, mean over the budget, "
        f"over {len(results.tune_seeds)} seeds; the other {len(results.seeds)} seeds are judged, on new sequences. "
        "Half of the seeds tune, so n more judged seeds are 2n more of --seeds.",
        grids(results),
        paired_differences("; one that never gets below 1 bit per sequence counts with all steps of the budget"),
    ]


def _facts(results: Results) -> dict[str, Cell]:
    facts = counts(results)
    for task in cast("Sequence[Any]", results.contest.tasks):
        scores = results.scores(task, "steps_to_learn")
        median = math.nan if scores is None else float(np.median(scores[SOFTMAX]))
        facts[f"{task.label}: median steps to 1 bit with softmax"] = None if math.isnan(median) else round(median)
    return facts


def _mean_bits(record: MemberRecord) -> float:
    value = record.metrics["mean_bits"]
    return math.inf if value is None else value

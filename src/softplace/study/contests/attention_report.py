"""How the attention contest is judged: each claim's verdict by its criterion, what is said of it, and its figures."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from softplace.report.records import Axis, Cell, Figure, PlaceReport, Section
from softplace.study.contest import Task
from softplace.study.contests._learning_report import (
    headline_of,
    judge_learning,
    learning_figure,
    solved_figure,
)
from softplace.study.contests._report import SOFTMAX, Claim, band, counts, grids, has, paired_differences, rates_figure
from softplace.study.contests.attention_claims import CLAIMS, HIGHLIGHT, NETS, kind_of
from softplace.study.contests.attention_references import REFERENCES
from softplace.study.results import Results

if TYPE_CHECKING:
    from softplace.study.contests.attention import Translate


def report(results: Results) -> PlaceReport:
    """Judge every claim and draw its figures."""
    sections = [section for claim in CLAIMS if (section := _section(results, claim)) is not None]
    keys = dict.fromkeys(key for section in sections if section.verdict for key in section.verdict.references)
    return PlaceReport(
        place="attention",
        question="Is softmax the right map from scores to weights in attention?",
        answer=_answer(sections),
        sections=[*sections, _looks(results)],
        references=[REFERENCES[key] for key in (*keys, "bouthillier2021")],
        method=_method(results),
        facts=_facts(results),
    )


def _tasks(results: Results) -> "Sequence[Translate]":
    return cast("Sequence[Translate]", results.contest.tasks)


def headline(results: Results, claim: Claim) -> Task | None:
    """The task that a claim is judged on: the net it is of, where that has its measure."""
    return headline_of(results, claim, kind_of(claim))


def _section(results: Results, claim: Claim) -> Section | None:
    return judge_learning(results, claim, headline(results, claim), highlight=HIGHLIGHT, figures=_figures)


def _figures(results: Results, claim: Claim, judged: Task) -> list[Figure]:
    """The figures that belong to one claim only."""
    task = cast("Translate", judged)
    if claim.key.startswith("needed"):
        return [
            _learning(results, task),
            *([solved_figure(results, f"{task.learned:g} nats per target word")] * (task.name == "rnnsearch")),
        ]
    if claim.key.startswith("beyond"):
        return [_by_size(results, task)]
    if claim.key.startswith("sparse"):
        return [rates_figure(results, task, highlight=HIGHLIGHT, unit=" nats")]
    return []


def _learning(results: Results, task: Task) -> Figure:
    label = "Nats per target word on other pairs (mean, 95 % interval)"
    return learning_figure(results, task, y=Axis(column="loss", label=label, scale="log"), highlight=HIGHLIGHT)


def _by_size(results: Results, task: "Translate") -> Figure:
    rows: list[dict[str, Cell]] = []
    last: dict[str, float] = {}
    for arm in results.arms:
        found = cast("list[list[list[float]]]", results.probes(task, arm.name, "wrong"))
        if len(found) < 2:
            continue
        for place, (size, _) in enumerate(found[0]):
            shares = [100.0 * each[place][1] for each in found]
            last[arm.name] = float(np.mean(shares))
            rows.append({"arm": arm.name, "size": size, "wrong": last[arm.name], **band(shares)})
    told = ", ".join(f"{arm} {value:.2g} %" for arm, value in sorted(last.items(), key=lambda each: each[1]))
    return Figure(
        key=f"{task.name}-lengths",
        kind="curve",
        title=f"Wrong words by length, {task.label}",
        caption=f"Up to {task.longest} {task.unit} were trained on. At the longest: {told}. "
        "See figure 2 of Bahdanau et al. 2015.",
        x=Axis(column="size", label=f"{task.unit.capitalize()} of the source{' (at most)' * task.decoded}"),
        y=Axis(column="wrong", label="Wrong target words (%; mean, 95 % interval)"),
        rows=rows,
        series="arm",
        highlight=HIGHLIGHT,
    )


def _looks(results: Results) -> Section:
    """Each arm's weights on one pair that is the same for all: of the network that learned fastest."""
    figures = []
    for task in _tasks(results):
        source, target = task.shown()
        rows: list[dict[str, Cell]] = []
        for arm in results.arms:
            records = [
                record
                for record in results.members[task.name][arm.name]
                if record.status != "diverged" and "weights" in record.probes
            ]
            if not records:
                continue
            best = min(records, key=lambda record: _number(record.metrics["mean_loss"]))
            weights = cast("list[list[float]]", best.probes["weights"])
            rows += [
                {"arm": arm.name, "source": one, "target": other, "value": value}
                for other, row in zip(target, weights, strict=True)
                for one, value in zip(source, row, strict=True)
            ]
        if rows:
            figures.append(
                Figure(
                    key=f"{task.name}-weights",
                    kind="heatmap",
                    title=f"What trained networks look at: {task.label}",
                    caption="Of each arm the network that learned fastest, all on the same pair; rows are target words "
                    "in their order. Of a Transformer the mean of the heads.",
                    x=Axis(column="source", label="Source word", scale="category"),
                    y=Axis(column="target", label="Target word", scale="category"),
                    rows=rows,
                    facet="arm",
                    value_label="Weight",
                )
            )
    return Section(key="weights", title="The weights", verdict=None, figures=figures)


def _number(value: float | None) -> float:
    return math.inf if value is None else value


def _answer(sections: Sequence[Section]) -> str:
    found = {section.key: section.verdict.sentence for section in sections if section.verdict is not None}
    said = [
        f"{net[0].upper()}{net[1:]}: {found[f'sparse-{kind}']}"
        for kind, net in NETS.items()
        if f"sparse-{kind}" in found
    ]
    return f"Measured here, in steps to learn. {' '.join(said)}" if said else ""


def _method(results: Results) -> list[str]:
    first = _tasks(results)[0]
    widths = " and ".join(f"{each.width} ({each.label})" for each in _tasks(results))
    stops = f"A network stops when it is below {first.solved:g} nats at two evaluations together."
    return [
        first.about(),
        "Per seed all arms have the same pairs in the same order, and draw alike what they have in common. "
        f"Width {widths}; the Transformer has a layer a side and 2 heads, and the arm's map in all its attention: that "
        "of the encoder and of the decoder to themselves too.",
        "“uniform” gives every word the same weight. “no attention” is the encoder-decoder that RNNsearch was made "
        "against, and a Transformer whose decoder sees one vector, of the source's end. “sigmoid” has a bias of -log "
        "n, “relu-normalised” divides by n, and “hardmax” has the gradient of softmax.",
        f"Optimizer Adam, {first.batch} pairs a step; gradients are clipped to a norm of 1 per network. "
        + (stops if first.solved else "No network stops early."),
        "The learning rate of each arm is the one with the least validation loss, mean over the budget, over "
        f"{len(results.tune_seeds)} seeds; the other {len(results.seeds)} seeds are judged, on other pairs. "
        "Half of the seeds tune, so n more judged seeds are 2n more of --seeds.",
        grids(results),
        paired_differences(f"; one that never gets below {first.learned:g} nats counts with all steps of the budget"),
        first.caution,
    ]


def _facts(results: Results) -> dict[str, Cell]:
    facts = counts(results)
    for task in _tasks(results):
        scores = results.scores(task, "steps_to_learn")
        median = math.nan if scores is None else float(np.median(scores[SOFTMAX]))
        facts[f"{task.label}: median steps to learn with softmax"] = None if math.isnan(median) else round(median)
        for name, label in (("exact", "exact sentences"), ("bleu", "BLEU")):
            if task.decoded and has(results, task, name):
                for arm, values in (results.scores(task, name) or {}).items():
                    facts[f"{task.label}: {label} with {arm}, mean"] = float(f"{np.mean(values):.3g}")
    return facts

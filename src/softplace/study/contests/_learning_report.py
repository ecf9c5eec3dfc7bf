"""What the reports of contests share whose networks learn a task until it is solved.

No axes: members are records.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from softplace.report.records import Axis, Cell, Figure, Section, Value
from softplace.study.contest import Task
from softplace.study.contests._report import SOFTMAX, Claim, band, has, judge
from softplace.study.results import Results
from softplace.study.store import MemberRecord


def claim_for(claim: Claim, task: Task, learned: float) -> Claim:
    """The claim with its region in the unit of the task's measure.

    Args:
        learned: The share of the judged networks with softmax that learned the task. Below a half, most steps to learn
            are the budget, whatever the arm: then the region is 0, so that nothing counts as practically the same.
    """
    if claim.metric != "steps_to_learn":
        return claim
    return replace(claim, region=claim.region * task.steps if learned >= 0.5 else 0.0)


def headline_of(results: Results, claim: Claim, kind: str) -> Task | None:
    """The first task of a kind that has the claim's measure."""
    tasks = [task for task in results.contest.tasks if task.settings()["kind"] == kind]
    return next((task for task in tasks if has(results, task, claim.metric)), None)


def judge_learning(
    results: Results,
    claim: Claim,
    task: Task | None,
    *,
    highlight: Sequence[str],
    figures: Callable[[Results, Claim, Task], Sequence[Figure]],
    tasks: Sequence[Task] = (),
) -> Section | None:
    """The section of a claim with its verdict; None where its task or all its rivals are missing.

    Args:
        results, claim, task: What is judged.
        highlight, tasks: As of `judge`.
        figures: The figures that belong to the claim only.
    """
    present = {arm.name for arm in results.arms}
    against = [arm for arm in claim.against if arm in present]
    if task is None or not against:
        return None
    solved = results.scores(task, "solved") or {}
    learned = float(np.mean(solved.get(SOFTMAX, [0.0])))
    few = f"Only {learned:.0%} of the networks with softmax learned it in {task.steps:,} steps: most differences are 0."
    return judge(
        results,
        claim_for(claim, task, learned),
        task,
        against,
        highlight=highlight,
        tasks=tasks,
        figures=figures(results, claim, task),
        remarks=[few] if claim.metric == "steps_to_learn" and learned < 0.5 else [],
    )


def fine(results: Results, task: Task, arm: str) -> list[MemberRecord]:
    return [record for record in results.members[task.name][arm] if record.status != "diverged"]


def held(record: MemberRecord, column: str, steps: Sequence[float]) -> list[float]:
    """A column of a learning curve at some steps; a member that stopped early keeps its last value."""
    known = [value for value in record.curve[column] if value is not None]
    return [float(known[min(place, len(known) - 1)]) for place in range(len(steps))]


def training_rows(results: Results, task: Task, column: str) -> tuple[list[dict[str, Cell]], dict[str, float]]:
    """Rows of a curve over training (mean and interval of the seeds, by arm), and every arm's mean at the end."""
    steps = [float(step) for step in range(task.evaluate_every, task.steps + 1, task.evaluate_every)]
    rows: list[dict[str, Cell]] = []
    final: dict[str, float] = {}
    for arm in results.arms:
        records = [record for record in fine(results, task, arm.name) if column in record.curve]
        if len(records) < 2:
            continue
        values = np.array([held(record, column, steps) for record in records])
        for place, step in enumerate(steps):
            final[arm.name] = float(values[:, place].mean())
            rows.append({"arm": arm.name, "step": step, column: final[arm.name], **band(values[:, place].tolist())})
    return rows, final


def learning_figure(results: Results, task: Task, *, y: Axis, highlight: Sequence[str]) -> Figure:
    """A column of the learning curves, each arm at its best learning rate."""
    rows, final = training_rows(results, task, y.column)
    caption = "Of no arm two networks were left at the end."
    if final:
        caption = (
            "At the end: " + ", ".join(f"{arm} {final[arm]:.2g}" for arm in sorted(final, key=lambda a: final[a])) + "."
        )
    return Figure(
        key=f"{task.name}-learning",
        kind="curve",
        title=f"Learning, {task.label}: each arm at its best learning rate",
        caption=f"{caption} A network that has learned the task stops, and is drawn on at its last value.",
        x=Axis(column="step", label="Step"),
        y=y,
        rows=rows,
        series="arm",
        highlight=highlight,
    )


def measure_figure(
    results: Results,
    task: Task,
    metric: str,
    *,
    title: str,
    caption: str,
    label: str,
    highlight: Sequence[str],
    without: Sequence[str] = (),
) -> Figure:
    """A measure of every arm, the least first; `caption` is followed by the means."""
    scores = results.scores(task, metric) or {}
    rows: list[dict[str, Value]] = [
        {"arm": arm, metric: float(values.mean()), **band(values.tolist())}
        for arm, values in scores.items()
        if arm not in without and len(values) > 1
    ]
    rows.sort(key=lambda row: float(cast(float, row[metric])))
    told = ", ".join(f"{row['arm']} {row[metric]:.2g}" for row in rows)
    return Figure(
        key=f"{task.name}-{metric}",
        kind="interval",
        title=title,
        caption=f"{caption}: {told}.",
        x=Axis(column=metric, label=f"{label} (mean, 95 % interval)"),
        y=Axis(column="arm", label="Arm", scale="category"),
        rows=rows,
        highlight=highlight,
    )


def solved_figure(results: Results, what: str) -> Figure:
    """The share of networks of every arm that learned each task; `what` is below which they ended."""
    rows: list[dict[str, Cell]] = []
    told = []
    for task in results.contest.tasks:
        scores = results.scores(task, "solved") or {}
        for arm, values in scores.items():
            rows.append({"arm": arm, "task": task.label, "value": float(f"{values.mean():.3g}")})
        if SOFTMAX in scores:
            told.append(f"{task.label}: softmax {100 * float(scores[SOFTMAX].mean()):.0f} %")
    return Figure(
        key="solved",
        kind="heatmap",
        title="Share of networks that solve a task",
        caption=f"Below {what} at the end, of {len(results.seeds)} seeds each. {'; '.join(told)}.",
        x=Axis(column="task", label="Task", scale="category"),
        y=Axis(column="arm", label="Arm", scale="category"),
        rows=rows,
        value_label="Share of networks",
    )

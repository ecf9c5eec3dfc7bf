"""How a contest is judged: a claim's verdict by a rule fixed before any score is seen, in words, and its figures.

A contest says what it claims (`Claim`), of which task, against which arms; `judge` does the rest, by the rules of
`softplace.study.statistics`.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from softplace.report.records import Axis, Cell, Figure, Reference, Section, Verdict
from softplace.study import statistics
from softplace.study.contest import Metric, Task
from softplace.study.results import Results, Scores
from softplace.study.statistics import Contrast

SOFTMAX = "softmax"
Word = Literal["supported", "not supported", "opposite", "cannot tell"]
Side = Literal["worse", "better"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence about softmax, or another `subject`, and the measure in which it says that it is worse, or better.

    `against` are the arms it must be worse (`says`) than, of those that the study has; `region` is the half-width of
    practical equivalence; `scale`, `unit` and `decimals` are for the reader. `beside` are contrasts that do not decide,
    but say what the difference is made of. `without` are arms of which the measure says nothing.
    """

    key: str
    title: str
    text: str
    metric: str
    region: float
    references: tuple[str, ...]
    against: tuple[str, ...]
    says: Side = "worse"
    subject: str = SOFTMAX
    scale: float = 1.0
    unit: str = ""
    decimals: int = 2
    verb: str = "has"
    beside: tuple[tuple[str, str], ...] = ()
    without: tuple[str, ...] = ()


def decide(outcomes: Sequence[statistics.Outcome], says: Side = "worse") -> Word:
    """The verdict on "softmax is worse" (`says`) from its contrasts: all so, all the other way, undecided, or mixed."""
    other = "better" if says == "worse" else "worse"
    if all(outcome == says for outcome in outcomes):
        return "supported"
    if all(outcome == other for outcome in outcomes):
        return "opposite"
    if "cannot tell" in outcomes and set(outcomes) <= {"cannot tell", says}:
        return "cannot tell"
    return "not supported"


def judge(
    results: Results,
    claim: Claim,
    task: Task,
    against: Sequence[str],
    *,
    highlight: Sequence[str] = (),
    tasks: Sequence[Task] = (),
    figures: Sequence[Figure] = (),
    remarks: Sequence[str] = (),
) -> Section:
    """Judge a claim on a task that has its metric, against arms that the study has.

    Args:
        highlight: Arms that stand out in figures.
        tasks: Those on which the same rule is shown too, and decides nothing.
        figures, remarks: What follows the claim's own.
    """
    metric = metric_of(task, claim.metric)
    scores = _scores(results, claim, task)
    word, family, overall = _outcomes(claim, metric, scores, against)
    deciding = [each for each in family if each.reference in against]
    # Of one rival the contrast that decides, whose p is after Holm: its outcome agrees with the verdict.
    told = deciding[0] if len(deciding) == 1 else overall
    verdict = Verdict(
        place=results.contest.place,
        claim=claim.text,
        verdict=word,
        sentence=_upper(f"{_one_by_one(claim, deciding)}{_said(claim, told, judged=len(deciding) == 1)}"),
        criterion=_criterion(claim, metric, task, against, len(family), overall.n),
        measure=f"{metric.label}{', as a fraction' * (claim.scale == 100.0)} (95 % interval of the paired difference)",
        estimate=overall.estimate,
        interval=(overall.interval.low, overall.interval.high),
        p=overall.p,
        n=overall.n,
        arms=(claim.subject, *against),
        references=claim.references,
        contrasts=[_contrast_row(each) for each in family],
    )
    text = [_upper(_said(claim, each)) for each in deciding if len(deciding) > 1]
    drawn = [_differences(claim, metric, family, highlight), *_elsewhere(results, claim, task, tasks, against)]
    return Section(
        key=claim.key,
        title=claim.title,
        verdict=verdict,
        text=[*text, *_beside(claim, metric, scores), *remarks],
        figures=[*drawn, *figures],
    )


def metric_of(task: Task, name: str) -> Metric:
    """The metric of a name; the task must have it."""
    return next(each for each in task.metrics if each.name == name)


def _scores(results: Results, claim: Claim, task: Task) -> Scores:
    scores = results.scores(task, claim.metric)
    if scores is None:
        raise ValueError(f"task {task.name!r} has no scores of {claim.metric!r}")
    return {arm: values for arm, values in scores.items() if arm not in claim.without}


def _criterion(claim: Claim, metric: Metric, task: Task, against: Sequence[str], family: int, n: int) -> str:
    side = "lower" if metric.higher_is_better == (claim.says == "worse") else "higher"
    other = "better" if claim.says == "worse" else "worse"
    unit = claim.unit.removesuffix("s") if claim.region * claim.scale == 1.0 else claim.unit
    near = f"Practically the same: within {claim.region * claim.scale:g} {unit}"
    same = near if claim.region else "Nothing counts as practically the same"
    text = (
        f"Measure: {metric.label}, task “{task.label}”, n = {n} paired seeds that chose no learning rate. "
        f"Supported if {claim.subject} is {side} than {'each of ' * (len(against) > 1)}{', '.join(against)} (sign-flip "
        f"p ≤ 0.05 after Holm over {family} arms, and a 95 % interval without 0); opposite if it is {other} than "
        f"each; cannot tell while more seeds could still support it; else not supported. {same}"
    )
    return f"{text.rstrip()}."


def _about(claim: Claim, metric: Metric) -> dict[str, Any]:
    """What every contrast of a claim has in common."""
    return {"measure": metric.label, "region": claim.region, "higher_is_better": metric.higher_is_better}


def _outcomes(
    claim: Claim, metric: Metric, scores: Scores, against: Sequence[str]
) -> tuple[Word, list[Contrast], Contrast]:
    """The verdict on a claim from one task: the word, its arm against every other, and against the rivals' mean."""
    about = _about(claim, metric)
    family = list(
        statistics.contrasts(scores, [(claim.subject, arm) for arm in scores if arm != claim.subject], **about)
    )
    word = decide([each.outcome for each in family if each.reference in against], claim.says)
    name = against[0] if len(against) == 1 else f"the mean of {len(against)} others"
    rivals = np.mean([scores[arm] for arm in against], axis=0)
    return word, family, statistics.contrast(scores[claim.subject], rivals, arm=claim.subject, reference=name, **about)


def _said(claim: Claim, contrast: Contrast, *, judged: bool = True) -> str:
    """A contrast in the claim's words; not `judged`, without its outcome, which does not decide the claim."""
    sentence = contrast.sentence(unit=claim.unit, scale=claim.scale, decimals=claim.decimals, verb=claim.verb)
    if claim.verb in ("memorises", "needs", "lacks"):
        sentence = sentence.replace(" lower than", " fewer than").replace(" higher than", " more than")
    return sentence if judged else f"{sentence[: sentence.rindex('): ')]})."


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _one_by_one(claim: Claim, deciding: Sequence[Contrast]) -> str:
    """How the contrasts that decide a claim ended, where they are several."""
    if len(deciding) == 1:
        return ""
    groups: dict[str, list[str]] = {}
    for each in deciding:
        groups.setdefault(each.outcome, []).append(each.reference)
    joint = {"worse": "worse than", "better": "better than", "practically the same": "practically the same as"}
    said = [f"{joint.get(outcome, 'not told apart from')} {', '.join(names)}" for outcome, names in groups.items()]
    return f"{claim.subject} is {'; '.join(said)}. On the whole (this does not decide) "


def _beside(claim: Claim, metric: Metric, scores: Scores) -> list[str]:
    """What the difference is made of, in contrasts that do not decide the claim."""
    pairs = [pair for pair in claim.beside if all(arm in scores for arm in pair)]
    if not pairs:
        return []
    found = statistics.contrasts(scores, pairs, **_about(claim, metric))
    return [_upper(f"beside it, {_said(claim, each)}") for each in found]


def _elsewhere(
    results: Results, claim: Claim, judged: Task, tasks: Sequence[Task], against: Sequence[str]
) -> list[Figure]:
    """The same rule on every task that has the measure: whether the verdict is one of this task alone."""
    rows: list[dict[str, Cell]] = []
    for task in tasks:
        if not has(results, task, claim.metric):
            continue
        metric, scores = metric_of(task, claim.metric), _scores(results, claim, task)
        word, _, overall = _outcomes(claim, metric, scores, against)
        rows.append(
            {
                "task": f"{task.label}{' (judged)' * (task is judged)}",
                "difference": claim.scale * overall.estimate,
                "low": claim.scale * overall.interval.low,
                "high": claim.scale * overall.interval.high,
                "verdict": word,
                "n": overall.n,
            }
        )
    if len(rows) < 2:
        return []
    words = "; ".join(f"{row['task']}: {row['verdict']}" for row in rows)
    unit = f" ({claim.unit})" if claim.unit else ""
    return [
        Figure(
            key=f"{claim.key}-tasks",
            kind="interval",
            title="The same rule on each task",
            caption=f"Only the task marked “judged” was chosen beforehand; the others show how far it goes. {words}.",
            x=Axis(column="difference", label=f"{_upper(claim.subject)} minus the mean of its rivals{unit}"),
            y=Axis(column="task", label="Task", scale="category"),
            rows=rows,
            reference_line=0.0,
            band=(-claim.region * claim.scale, claim.region * claim.scale),
        )
    ]


def _contrast_row(contrast: Contrast) -> dict[str, object]:
    row = asdict(contrast)
    low, high = row.pop("interval")
    # All differences equal (everybody memorised everything): there is no standard deviation to divide by.
    row["effect_size"] = contrast.effect_size if math.isfinite(contrast.effect_size) else None
    kept = ("arm", "reference", "n", "estimate", "p", "p_adjusted", "probability_of_improvement", "effect_size")
    more = ("interquartile_mean", "outcome", "more_seeds")
    return {**{name: row[name] for name in kept}, "low": low, "high": high, **{name: row[name] for name in more}}


def _differences(claim: Claim, metric: Metric, family: Sequence[Contrast], highlight: Sequence[str]) -> Figure:
    scale, label = claim.scale, metric.label
    rows: list[dict[str, Cell]] = [
        {
            "arm": each.reference,
            "difference": -scale * each.estimate,
            "low": -scale * each.interval.high,
            "high": -scale * each.interval.low,
            f"{claim.subject} is": each.outcome,
        }
        for each in family
    ]
    counts = {
        word: sum(each.outcome == word for each in family) for word in ("worse", "better", "practically the same")
    }
    rest = len(family) - sum(counts.values())
    found = [
        f"{word} than {count}" if word in ("worse", "better") else f"{word} as {count}"
        for word, count in counts.items()
        if count
    ]
    found += [f"not told apart from {rest}"] * (rest > 0)
    unit = f" ({claim.unit})" if claim.unit else ""
    return Figure(
        key=f"{claim.key}-differences",
        kind="interval",
        title=f"{label[0].upper()}{label[1:]}: each arm minus {claim.subject}",
        caption=f"Of {len(family)} other arms, {claim.subject} is {', '.join(found)}. Right of the dashed line an arm "
        f"is higher than {claim.subject}; {'higher' if metric.higher_is_better else 'lower'} is better here.",
        x=Axis(column="difference", label=f"Difference in {label}{unit}, {family[0].n} paired seeds"),
        y=Axis(column="arm", label="Arm", scale="category"),
        rows=rows,
        reference_line=0.0,
        band=(-claim.region * scale, claim.region * scale),
        highlight=highlight,
    )


def band(values: Sequence[float]) -> dict[str, float]:
    """The 95 % interval of a mean, as the columns `low` and `high` of a curve."""
    low, high = statistics.mean_interval(values, resamples=999)
    return {"low": low, "high": high}


def rates_figure(
    results: Results, task: Task, *, highlight: Sequence[str], scale: float = 1.0, unit: str = ""
) -> Figure:
    """How good every arm was at each learning rate, by the validation score that chose among them."""
    tuning = results.tunings[task.name]
    rows: list[dict[str, Cell]] = [
        {"arm": arm, "rate": rate, "score": score}
        for arm, scores in tuning.scores.items()
        for rate, score in zip(tuning.grid, scores, strict=True)
    ]
    edge = tuning.on_edge()
    inside = "Every arm has its best rate inside the grid, so none was tuned less than another."
    outside = f"The best rate of {', '.join(edge)} is on the edge of the grid: a better one may lie outside."
    spread = [max(scores) - min(scores) for scores in tuning.scores.values()]
    return Figure(
        key=f"{task.name}-rates",
        kind="curve",
        title=f"{_upper(task.validation.label)} against the learning rate",
        caption=f"{outside if edge else inside} The rate moves an arm by up to {scale * max(spread):.0f}{unit}.",
        x=Axis(column="rate", label="Learning rate", scale="log"),
        y=Axis(column="score", label=f"{task.validation.label} (mean of {len(results.tune_seeds)} seeds)"),
        rows=rows,
        series="arm",
        highlight=highlight,
    )


def has(results: Results, task: Task, metric: str) -> bool:
    """Whether a task was measured in a metric."""
    return any(each.name == metric for each in task.metrics) and results.scores(task, metric) is not None


def unscored(results: Results) -> int:
    """Judged scores of networks that did not diverge, in a measure that others of their task have, that are NaN."""
    missing = 0
    for task in results.contest.tasks:
        records = [record for group in results.members[task.name].values() for record in group]
        for metric in task.metrics:
            if any(metric.name in record.metrics for record in records):
                fine = [record for record in records if record.status != "diverged"]
                missing += sum(record.metrics.get(metric.name) is None for record in fine)
    return missing


def counts(results: Results) -> dict[str, Cell]:
    """The facts of every contest: how many networks were trained, on what they ended, what it took."""
    members = sum(len(records) for groups in results.members.values() for records in groups.values())
    tuned = sum(len(each.grid) * len(each.scores) for each in results.tunings.values()) * len(results.tune_seeds)
    edges = sorted({arm for tuning in results.tunings.values() for arm in tuning.on_edge()})
    return {
        "networks trained": tuned + members,
        "of these judged": members,
        "judged networks that diverged": sum(sum(results.diverged(task).values()) for task in results.contest.tasks),
        "judged scores that are not a number and count as the worst": unscored(results),
        "compute (core minutes, measuring included)": round(results.seconds / 60, 1),
        "arms with the best learning rate on an edge": ", ".join(edges) or "none",
    }


def grids(results: Results) -> str:
    """A sentence on the grids of learning rates of all tasks."""
    found = {task.label: results.tunings[task.name].grid for task in results.contest.tasks}
    return (
        "Grids of learning rates, extended for every arm while the best of any lies on an edge: "
        + "; ".join(f"{label}: {grid[0]:.2g} to {grid[-1]:.2g}, {len(grid)} rates" for label, grid in found.items())
        + "."
    )


def paired_differences(more: str = "") -> str:
    """How differences are judged, in words; `more`: of the worst score, beside networks that diverged."""
    return (
        "Differences are paired by seed: BCa bootstrap intervals (95 %, expanded for small n), sign-flip permutation "
        "p-values, Holm over all arms of a measure (not over the claims). A network that diverged counts with the "
        f"worst score{more}."
    )


def reference(key: str, authors: str, title: str, year: int, where: str, finding: str, url: str | None) -> Reference:
    """A publication whose text or abstract was read: its finding is printed."""
    fields = {"author": authors.replace(", ", " and "), "title": title, "year": str(year), "howpublished": where}
    if url is not None:
        fields["url"] = url
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return Reference(
        key=key,
        authors=authors,
        title=title,
        year=year,
        where=where,
        finding=finding,
        verified=True,
        bibtex=f"@misc{{{key},\n{lines}}}",
        url=url,
    )


def arxiv(number: str) -> str:
    """The address of a preprint."""
    return f"https://arxiv.org/abs/{number}"

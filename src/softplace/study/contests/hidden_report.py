"""How the hidden contest is judged: each claim's criterion, fixed before any score is seen, its verdict and figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from softplace.study import statistics
from softplace.study.contest import Task
from softplace.study.contests.hidden_references import REFERENCES
from softplace.study.report import Axis, Cell, Figure, PlaceReport, Section, Verdict
from softplace.study.results import Results
from softplace.study.statistics import Contrast

SOFTMAX = "softmax"
CANDIDATES = ("sigmoid", "tanh", "ReLU", "sigmoid + BatchNorm", "tanh + BatchNorm", "ReLU + BatchNorm")
HIGHLIGHT = ("softmax", "softmax + BatchNorm", "ReLU", "ReLU + BatchNorm")
Word = Literal["supported", "not supported", "opposite", "cannot tell"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence about softmax, and the measure in which it says that softmax is worse.

    `against` are the arms it must be worse than (of those that the study has); `region` is the half-width of practical
    equivalence; `scale`, `unit` and `decimals` are for the reader.
    """

    key: str
    title: str
    text: str
    metric: str
    region: float
    references: tuple[str, ...]
    against: tuple[str, ...] = CANDIDATES
    scale: float = 1.0
    unit: str = ""
    decimals: int = 2
    verb: str = "has"


CLAIMS = (
    Claim(
        key="accuracy",
        title="Accuracy: does a hidden softmax cost test accuracy?",
        text="A network with softmax in its hidden layers is less accurate.",
        metric="test_accuracy",
        region=0.01,
        scale=100.0,
        unit="points",
        verb="scores",
        references=("mozejko2016", "shen2023", "csordas2023", "gu2024", "sukhbaatar2019"),
    ),
    Claim(
        key="dependence",
        title="1a. Dependence: do softmax units span fewer dimensions?",
        text="Softmax makes the hidden units linearly dependent: they use fewer dimensions.",
        metric="effective_rank",
        region=0.02,
        decimals=3,
        verb="has an effective rank / width",
        references=("mozejko2016", "yang2018"),
    ),
    Claim(
        key="correlation",
        title="1b. Correlation: are softmax units more correlated?",
        text="Softmax makes the hidden units more correlated with one another.",
        metric="correlation",
        region=0.02,
        decimals=3,
        verb="has a mean |correlation|",
        references=("mozejko2016", "shorten1994"),
    ),
    Claim(
        key="sparsity",
        title="1c. Sparsity: are softmax activations less sparse?",
        text="Softmax makes the hidden activations less sparse.",
        metric="sparsity",
        region=0.02,
        decimals=3,
        verb="has a Hoyer sparsity",
        references=("mozejko2016", "elhage2022"),
    ),
    Claim(
        key="generalisation",
        title="1d. Generalisation: is the gap to the training data wider?",
        text="A hidden softmax generalises worse: its gap between training and test accuracy is wider.",
        metric="gap",
        region=0.01,
        scale=100.0,
        unit="points",
        verb="has a gap",
        references=("mozejko2016", "bugmann1998", "lavoie2023"),
    ),
    Claim(
        key="coupling",
        title="2a. Coupling: does lowering one unit raise the others?",
        text="Softmax couples the hidden units: lowering one raises the rest.",
        metric="off_diagonal",
        region=0.02,
        decimals=3,
        verb="has an off-diagonal share of its Jacobian",
        references=("mozejko2016", "shorten1994"),
    ),
    Claim(
        key="gradient",
        title="2b. Gradients: does a hidden softmax shrink them?",
        text="A hidden softmax passes back a smaller gradient.",
        metric="gradient_gain",
        region=0.1,
        unit="decades",
        verb="has a gradient gain per layer",
        references=("nair2025", "wang2021"),
    ),
    Claim(
        key="memorise",
        title="3a. Expressive power: does softmax hold fewer facts?",
        text="The constraint costs expressive power: softmax memorises fewer random labels with the same budget.",
        metric="memorised",
        region=0.01,
        scale=100.0,
        unit="points",
        verb="memorises",
        references=("mozejko2016", "csordas2023", "gu2024"),
    ),
    Claim(
        key="functions",
        title="3b. Expressive power: does softmax fit functions worse?",
        text="The constraint costs expressive power: softmax fits functions worse with the same budget.",
        metric="error",
        region=0.01,
        decimals=3,
        verb="has an error (1 = constant)",
        references=("mozejko2016", "shorten1994", "bugmann1998"),
    ),
    Claim(
        key="batchnorm-accuracy",
        title="4a. Batch normalisation: is ReLU with it more accurate?",
        text="Batch normalisation does better what a hidden softmax is meant to do: higher accuracy.",
        metric="test_accuracy",
        region=0.01,
        scale=100.0,
        unit="points",
        verb="scores",
        against=("ReLU + BatchNorm",),
        references=("mozejko2016", "ioffe2015"),
    ),
    Claim(
        key="batchnorm-steps",
        title="4b. Batch normalisation: does ReLU with it learn faster?",
        text="Batch normalisation does better what a hidden softmax is meant to do: fewer steps to a target accuracy.",
        metric="steps_to_target",
        region=20.0,
        unit="steps",
        decimals=0,
        verb="needs",
        against=("ReLU + BatchNorm",),
        references=("mozejko2016", "ioffe2015"),
    ),
)


def decide(outcomes: Sequence[statistics.Outcome]) -> Word:
    """The verdict on "softmax is worse" from its contrasts: all worse, all better, undecided, or mixed."""
    if all(outcome == "worse" for outcome in outcomes):
        return "supported"
    if all(outcome == "better" for outcome in outcomes):
        return "opposite"
    if "cannot tell" in outcomes and set(outcomes) <= {"cannot tell", "worse"}:
        return "cannot tell"
    return "not supported"


def report(results: Results) -> PlaceReport:
    """Judge every claim and draw its figures."""
    sections = [section for claim in CLAIMS if (section := _section(results, claim)) is not None]
    keys = dict.fromkeys(key for section in sections if section.verdict for key in section.verdict.references)
    return PlaceReport(
        place="hidden",
        question="Does softmax belong in a hidden layer?",
        answer=_answer(sections),
        sections=sections,
        references=[REFERENCES[key] for key in (*keys, "bouthillier2021")],
        method=_method(results),
        facts=_facts(results),
    )


def headline(results: Results, metric: str) -> Task | None:
    """The task that a metric is judged on: the first data set's with two hidden layers, at the smallest width."""
    tasks = [task for task in results.contest.tasks if any(each.name == metric for each in task.metrics)]
    tasks = [task for task in tasks if results.scores(task, metric) is not None]
    return next((task for task in tasks if task.settings()["depth"] == 2), None)


def _section(results: Results, claim: Claim) -> Section | None:
    task = headline(results, claim.metric)
    scores = None if task is None else results.scores(task, claim.metric)
    others = [arm.name for arm in results.arms if arm.name != SOFTMAX]
    against = [arm for arm in claim.against if arm in others]
    if not against and claim.against == CANDIDATES:
        against = others
    if task is None or scores is None or not against:
        return None
    metric = next(each for each in task.metrics if each.name == claim.metric)
    family = statistics.contrasts(
        scores,
        [(SOFTMAX, other) for other in others],
        measure=metric.label,
        region=claim.region,
        higher_is_better=metric.higher_is_better,
    )
    deciding = [each for each in family if each.reference in against]
    word = decide([each.outcome for each in deciding])
    name = against[0] if len(against) == 1 else f"the mean of {len(against)} others"
    overall = statistics.contrast(
        scores[SOFTMAX],
        np.mean([scores[arm] for arm in against], axis=0),
        arm=SOFTMAX,
        reference=name,
        measure=metric.label,
        region=claim.region,
        higher_is_better=metric.higher_is_better,
    )
    sentence = overall.sentence(unit=claim.unit, scale=claim.scale, decimals=claim.decimals, verb=claim.verb)
    side = "lower" if metric.higher_is_better else "higher"
    criterion = (
        f"Measure: {metric.label}, task “{task.label}”, n = {overall.n} paired seeds that chose no learning rate. "
        f"Supported if softmax is {side} than each of {', '.join(against)} (sign-flip p ≤ 0.05 after Holm over "
        f"{len(family)} arms, and a 95 % interval without 0); opposite if it is better than each; cannot tell if more "
        f"seeds could make it supported; else not supported. Practically the same: within "
        f"{claim.region * claim.scale:g} {claim.unit}".rstrip()
        + "."
    )
    verdict = Verdict(
        place="hidden",
        claim=claim.text,
        verdict=word,
        sentence=f"{sentence[0].upper()}{sentence[1:]} {_one_by_one(deciding)}".rstrip(),
        criterion=criterion,
        measure=f"{metric.label} (95 % interval of the paired difference)",
        estimate=overall.estimate,
        interval=(overall.interval.low, overall.interval.high),
        p=overall.p,
        n=overall.n,
        arms=(SOFTMAX, *against),
        references=claim.references,
        contrasts=[_contrast_row(each) for each in family],
    )
    figures = [_differences(claim, family, metric.label), *_extra(results, claim, task)]
    text = [
        each.sentence(unit=claim.unit, scale=claim.scale, decimals=claim.decimals, verb=claim.verb) for each in deciding
    ]
    return Section(key=claim.key, title=claim.title, verdict=verdict, text=text, figures=figures)


def _one_by_one(deciding: Sequence[Contrast]) -> str:
    """How the contrasts that decide a claim ended, where they are several."""
    if len(deciding) == 1:
        return ""
    groups: dict[str, list[str]] = {}
    for each in deciding:
        groups.setdefault(each.outcome, []).append(each.reference)
    joint = {"worse": "worse than", "better": "better than", "practically the same": "practically the same as"}
    said = [f"{joint.get(outcome, 'not told apart from')} {', '.join(names)}" for outcome, names in groups.items()]
    return f"One by one: {'; '.join(said)}."


def _contrast_row(contrast: Contrast) -> dict[str, object]:
    row = asdict(contrast)
    low, high = row.pop("interval")
    # All differences equal (everybody memorised everything): there is no standard deviation to divide by.
    row["effect_size"] = contrast.effect_size if math.isfinite(contrast.effect_size) else None
    kept = ("arm", "reference", "n", "estimate", "p_adjusted", "probability_of_improvement", "effect_size")
    more = ("interquartile_mean", "outcome", "more_seeds")
    return {**{name: row[name] for name in kept}, "low": low, "high": high, **{name: row[name] for name in more}}


def _differences(claim: Claim, family: Sequence[Contrast], label: str) -> Figure:
    scale = claim.scale
    rows: list[dict[str, Cell]] = [
        {
            "arm": each.reference,
            "difference": -scale * each.estimate,
            "low": -scale * each.interval.high,
            "high": -scale * each.interval.low,
            "softmax is": each.outcome,
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
        title=f"{label[0].upper()}{label[1:]}: each arm minus softmax",
        caption=f"Of {len(family)} other arms, softmax is {', '.join(found)}.",
        x=Axis(column="difference", label=f"Difference in {label}{unit}, {family[0].n} paired seeds"),
        y=Axis(column="arm", label="Arm", scale="category"),
        rows=rows,
        reference_line=0.0,
        band=(-claim.region * scale, claim.region * scale),
        highlight=HIGHLIGHT,
    )


def _extra(results: Results, claim: Claim, task: Task) -> list[Figure]:
    """The figures that belong to one claim only."""
    present = {arm.name for arm in results.arms}
    four = [arm for arm in HIGHLIGHT if arm in present]
    pair = [SOFTMAX, *[arm for arm in ("ReLU", *CANDIDATES) if arm in present][:1]]
    if claim.key == "accuracy":
        return [_rates(results, task), _learning(results, task, "validation_accuracy", [a.name for a in results.arms])]
    if claim.key == "dependence":
        return [_spectra(results, task, four)]
    if claim.key == "correlation":
        title = "Correlation of the units of the last hidden layer (one network)"
        return _maps(results, task, pair, "correlations", "correlation", title, "Pearson correlation")
    if claim.key == "coupling":
        title = "Jacobian of the map, mean over training rows (one network)"
        return _maps(results, task, pair, "jacobian", "jacobian", title, "d activation / d pre-activation")
    if claim.key == "gradient":
        return [_gains(results, task)]
    if claim.key == "memorise":
        return [_learning(results, task, "memorised", [arm.name for arm in results.arms])]
    if claim.key == "functions":
        return [_functions(results, task)]
    if claim.key == "batchnorm-steps":
        return [_learning(results, task, "validation_accuracy", four)]
    return []


def _band(values: Sequence[float]) -> dict[str, float]:
    low, high = statistics.mean_interval(values, resamples=999)
    return {"low": low, "high": high}


def _rates(results: Results, task: Task) -> Figure:
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
        title=f"{task.validation.label.capitalize()} against the learning rate",
        caption=f"{outside if edge else inside} The rate moves an arm by up to {100 * max(spread):.0f} points.",
        x=Axis(column="rate", label="Learning rate", scale="log"),
        y=Axis(column="score", label=f"{task.validation.label} (mean of {len(results.tune_seeds)} seeds)"),
        rows=rows,
        series="arm",
        highlight=HIGHLIGHT,
    )


def _learning(results: Results, task: Task, column: str, arms: Sequence[str]) -> Figure:
    rows: list[dict[str, Cell]] = []
    final: dict[str, float] = {}
    for arm in arms:
        records = [record for record in results.members[task.name][arm] if record.status != "diverged"]
        if len(records) < 2:
            continue
        for point, step in enumerate(records[0].curve["step"]):
            values = [float(record.curve[column][point] or 0.0) for record in records]
            final[arm] = float(np.mean(values))
            rows.append({"arm": arm, "step": step, column: final[arm], **_band(values)})
    best = max(final, key=lambda arm: final[arm])
    label = column.replace("_", " ")
    return Figure(
        key=f"{task.name}-learning-{len(arms)}",
        kind="curve",
        title=f"{label.capitalize()} while learning, each arm at its best learning rate",
        caption=f"After the last step {best} is highest ({final[best]:.3f}) and softmax is at {final[SOFTMAX]:.3f}."
        if SOFTMAX in final
        else f"After the last step {best} is highest ({final[best]:.3f}); every softmax network diverged.",
        x=Axis(column="step", label="Step"),
        y=Axis(column=column, label=f"{label} (mean, 95 % interval)"),
        rows=rows,
        series="arm",
        highlight=HIGHLIGHT,
    )


def _spectra(results: Results, task: Task, arms: Sequence[str]) -> Figure:
    rows: list[dict[str, Cell]] = []
    for arm in arms:
        spectra = np.array(results.probes(task, arm, "singular_values"), dtype=np.float64)
        if spectra.ndim == 2:
            for index, value in enumerate(np.exp(np.log(np.maximum(spectra, 1e-9)).mean(0)), start=1):
                rows.append({"arm": arm, "index": index, "share": float(value)})
    lowest = min((float(row["share"] or 0) for row in rows if row["arm"] == SOFTMAX), default=math.nan)
    return Figure(
        key="spectra",
        kind="curve",
        title="Singular values of the centred activations of the last hidden layer",
        caption=f"Softmax units sum to one, so one dimension is lost exactly (smallest share {lowest:.0e}); what "
        "matters "
        "is how fast the others fall.",
        x=Axis(column="index", label="Index of the singular value"),
        y=Axis(column="share", label="Singular value / largest (geometric mean of the seeds)", scale="log"),
        rows=rows,
        series="arm",
        highlight=HIGHLIGHT,
    )


def _maps(
    results: Results, task: Task, arms: Sequence[str], name: str, key: str, title: str, label: str
) -> list[Figure]:
    rows: list[dict[str, Cell]] = []
    shares = {}
    for arm in arms:
        found = results.probes(task, arm, name)
        if not found:
            continue
        matrix = np.array(found[0], dtype=np.float64)[:32, :32]
        outside = matrix[~np.eye(len(matrix), dtype=bool)]
        shares[arm] = float(np.nanmean(np.abs(outside)))
        for (unit, other), value in np.ndenumerate(matrix):
            cell = None if math.isnan(value) else float(f"{value:.3g}")
            rows.append({"arm": arm, "unit": unit + 1, "other": other + 1, "value": cell})
    if not rows:
        return []
    said = ", ".join(f"{value:.2g} for {arm}" for arm, value in shares.items())
    return [
        Figure(
            key=key,
            kind="heatmap",
            title=title,
            caption=f"Mean absolute value off the diagonal: {said}.",
            x=Axis(column="other", label="Unit", scale="category"),
            y=Axis(column="unit", label="Unit", scale="category"),
            rows=rows,
            facet="arm",
            value_label=label,
        )
    ]


def _gains(results: Results, task: Task) -> Figure:
    rows: list[dict[str, Cell]] = []
    mean: dict[str, float] = {}
    for arm in results.arms:
        gains = np.array(results.probes(task, arm.name, "gains"), dtype=np.float64)
        if gains.ndim == 2:
            means = np.exp(np.log(np.maximum(gains, 1e-12)).mean(0))
            mean[arm.name] = float(np.exp(np.log(means).mean()))
            rows += [
                {"arm": arm.name, "layer": f"layer {layer}", "gain": float(value)}
                for layer, value in enumerate(means, start=1)
            ]
    caption = ", ".join(f"{arm} {value:.2g}" for arm, value in mean.items() if arm in HIGHLIGHT)
    return Figure(
        key="gains",
        kind="curve",
        title="Gradient gain of the map, layer by layer",
        caption=f"A gradient that passes a layer's map is multiplied by (geometric mean of layers): {caption}.",
        x=Axis(column="layer", label="Hidden layer", scale="category"),
        y=Axis(column="gain", label="Gain (root mean square)", scale="log"),
        rows=rows,
        series="arm",
        highlight=HIGHLIGHT,
    )


def _functions(results: Results, task: Task) -> Figure:
    rows: list[dict[str, Cell]] = []
    best: dict[str, tuple[float, str]] = {}
    for arm in results.arms:
        found: list[Mapping[str, float]] = results.probes(task, arm.name, "errors")
        for function in found[0] if found else ():
            value = float(np.mean([errors[function] for errors in found]))
            best[function] = min(best.get(function, (math.inf, "")), (value, arm.name))
            rows.append({"arm": arm.name, "function": function, "value": float(f"{value:.3g}")})
    wins = sum(arm == SOFTMAX for _, arm in best.values())
    return Figure(
        key="functions",
        kind="heatmap",
        title="Error on each function of the bank",
        caption=f"Softmax has the smallest error of all arms on {wins} of {len(best)} functions.",
        x=Axis(column="function", label="Function", scale="category"),
        y=Axis(column="arm", label="Arm", scale="category"),
        rows=rows,
        value_label="Mean squared error / variance",
    )


def _answer(sections: Sequence[Section]) -> str:
    verdicts = {section.key: section.verdict for section in sections if section.verdict is not None}
    words: dict[str, list[str]] = {}
    for section in sections:
        if section.verdict is not None and section.key != "accuracy":
            words.setdefault(section.verdict.verdict, []).append(section.title.split(":")[0])
    reasons = "; ".join(f"{word}: {', '.join(titles)}" for word, titles in words.items())
    accuracy = verdicts.get("accuracy")
    first = f"{accuracy.claim} {accuracy.verdict.capitalize()}: {accuracy.sentence} " if accuracy is not None else ""
    return f"{first}Of the reasons usually given, {reasons}."


def _method(results: Results) -> list[str]:
    first = results.contest.tasks[0]
    grids = {task.label: results.tunings[task.name].grid for task in results.contest.tasks}
    return [
        "Every arm has the same layers, the same parameters but the gains of batch normalisation, and per seed the "
        "same split, the same initial draw and the same order of batches.",
        f"Optimizer Adam, batches of 128 rows, {first.steps} steps. The learning rate of each arm is the one with the "
        f"best validation score over {len(results.tune_seeds)} seeds; the other {len(results.seeds)} seeds are judged, "
        "on test data (random labels and functions: on new labels and points).",
        "Grids of learning rates, extended for every arm while the best of any lies on an edge: "
        + "; ".join(f"{label}: {grid[0]:.2g} to {grid[-1]:.2g}, {len(grid)} rates" for label, grid in grids.items())
        + ".",
        "Differences are paired by seed: BCa bootstrap intervals (95 %, expanded for small n), sign-flip permutation "
        "p-values, Holm over all arms of a measure. A network that diverged counts with the worst score.",
        "The target of “steps to target” is the validation accuracy of the classifier of the nearest class mean; "
        "a network that never reaches it counts with the whole budget.",
    ]


def _facts(results: Results) -> dict[str, Cell]:
    members = sum(len(records) for groups in results.members.values() for records in groups.values())
    tuned = sum(len(each.grid) * len(each.scores) for each in results.tunings.values()) * len(results.tune_seeds)
    diverged = sum(sum(results.diverged(task).values()) for task in results.contest.tasks)
    edges = sorted({arm for tuning in results.tunings.values() for arm in tuning.on_edge()})
    facts: dict[str, Cell] = {
        "networks trained": tuned + members,
        "of these judged": members,
        "judged networks that diverged": diverged,
        "compute (core seconds in training)": round(results.seconds, 1),
        "arms with the best learning rate on an edge": ", ".join(edges) or "none",
    }
    task = headline(results, "test_accuracy")
    scores = None if task is None else results.scores(task, "test_accuracy")
    if scores is not None and "ReLU" in scores:
        spread = float(np.std(scores[SOFTMAX] - scores["ReLU"], ddof=1))
        least = statistics.minimum_detectable_difference(spread, len(results.seeds))
        facts["smallest accuracy difference found with power 0.8 (points)"] = round(100 * least, 2)
    tables: dict[str, Any] = {}
    for each in results.contest.tasks:
        if (table := getattr(each, "table", None)) is not None:
            tables[table.name] = table
    for table in tables.values():
        size = f"{len(table.labels)} rows, {table.features.shape[1]} features, {len(table.class_names)} classes"
        facts[f"data {table.name}"] = "; ".join((size, *table.notes))
    return facts

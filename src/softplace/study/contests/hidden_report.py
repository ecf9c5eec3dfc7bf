"""How the hidden contest is judged: each claim's verdict by its criterion, what is said of it, and its figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from softplace.study import statistics
from softplace.study.contest import Metric, Task
from softplace.study.contests.hidden_claims import CANDIDATES, CLAIMS, CONTROLS, HIGHLIGHT, SOFTMAX, Claim
from softplace.study.contests.hidden_references import REFERENCES
from softplace.study.report import Axis, Cell, Figure, PlaceReport, Section, Verdict
from softplace.study.results import Results, Scores
from softplace.study.statistics import Contrast

Word = Literal["supported", "not supported", "opposite", "cannot tell"]


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


def _rivals(results: Results, claim: Claim) -> list[str]:
    """The arms that softmax must be worse than, of those that the study has."""
    others = [arm.name for arm in results.arms if arm.name != SOFTMAX]
    return [arm for arm in claim.against if arm in others] or (others if claim.against == CANDIDATES else [])


def _about(claim: Claim, metric: Metric) -> dict[str, Any]:
    """What every contrast of a claim has in common."""
    return {"measure": metric.label, "region": claim.region, "higher_is_better": metric.higher_is_better}


def _judge(
    claim: Claim, metric: Metric, scores: Scores, against: Sequence[str]
) -> tuple[Word, list[Contrast], Contrast]:
    """The verdict on a claim from one task: the word, softmax against every other arm, and against the rivals' mean."""
    about = _about(claim, metric)
    family = list(statistics.contrasts(scores, [(SOFTMAX, arm) for arm in scores if arm != SOFTMAX], **about))
    word = decide([each.outcome for each in family if each.reference in against])
    name = against[0] if len(against) == 1 else f"the mean of {len(against)} others"
    rivals = np.mean([scores[arm] for arm in against], axis=0)
    return word, family, statistics.contrast(scores[SOFTMAX], rivals, arm=SOFTMAX, reference=name, **about)


def _section(results: Results, claim: Claim) -> Section | None:
    task = headline(results, claim.metric)
    scores = None if task is None else results.scores(task, claim.metric)
    against = _rivals(results, claim)
    if task is None or scores is None or not against:
        return None
    metric = next(each for each in task.metrics if each.name == claim.metric)
    word, family, overall = _judge(claim, metric, scores, against)
    deciding = [each for each in family if each.reference in against]
    side = "lower" if metric.higher_is_better else "higher"
    unit = claim.unit.removesuffix("s") if claim.region * claim.scale == 1.0 else claim.unit
    criterion = (
        f"Measure: {metric.label}, task “{task.label}”, n = {overall.n} paired seeds that chose no learning rate. "
        f"Supported if softmax is {side} than {'each of ' * (len(against) > 1)}{', '.join(against)} (sign-flip "
        f"p ≤ 0.05 after Holm over {len(family)} arms, and a 95 % interval without 0); opposite if it is better than "
        f"each; cannot tell while more seeds could still support it; else not supported. Practically the same: within "
        f"{claim.region * claim.scale:g} {unit}".rstrip()
        + "."
    )
    verdict = Verdict(
        place="hidden",
        claim=claim.text,
        verdict=word,
        sentence=_upper(f"{_one_by_one(deciding)}{_said(claim, overall, judged=len(deciding) == 1)}"),
        criterion=criterion,
        measure=f"{metric.label}{', as a fraction' * (claim.scale == 100.0)} (95 % interval of the paired difference)",
        estimate=overall.estimate,
        interval=(overall.interval.low, overall.interval.high),
        p=overall.p,
        n=overall.n,
        arms=(SOFTMAX, *against),
        references=claim.references,
        contrasts=[_contrast_row(each) for each in family],
    )
    figures = [
        _differences(claim, metric, family),
        *_elsewhere(results, claim, task, against),
        *_extra(results, claim, task),
    ]
    text = [_upper(_said(claim, each)) for each in deciding if len(deciding) > 1]
    return Section(
        key=claim.key,
        title=claim.title,
        verdict=verdict,
        text=[*text, *_beside(claim, metric, scores)],
        figures=figures,
    )


def _said(claim: Claim, contrast: Contrast, *, judged: bool = True) -> str:
    """A contrast in the claim's words; not `judged`, without its outcome, which does not decide the claim."""
    sentence = contrast.sentence(unit=claim.unit, scale=claim.scale, decimals=claim.decimals, verb=claim.verb)
    if claim.verb in ("memorises", "needs", "lacks"):
        sentence = sentence.replace(" lower than", " fewer than").replace(" higher than", " more than")
    return sentence if judged else f"{sentence[: sentence.rindex('): ')]})."


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _one_by_one(deciding: Sequence[Contrast]) -> str:
    """How the contrasts that decide a claim ended, where they are several."""
    if len(deciding) == 1:
        return ""
    groups: dict[str, list[str]] = {}
    for each in deciding:
        groups.setdefault(each.outcome, []).append(each.reference)
    joint = {"worse": "worse than", "better": "better than", "practically the same": "practically the same as"}
    said = [f"{joint.get(outcome, 'not told apart from')} {', '.join(names)}" for outcome, names in groups.items()]
    return f"softmax is {'; '.join(said)}. On the whole (this does not decide) "


def _beside(claim: Claim, metric: Metric, scores: Scores) -> list[str]:
    """What the difference is made of, in contrasts that do not decide the claim."""
    pairs = [pair for pair in claim.beside if all(arm in scores for arm in pair)]
    if not pairs:
        return []
    found = statistics.contrasts(scores, pairs, **_about(claim, metric))
    told = [_upper(f"beside it, {_said(claim, each)}") for each in found]
    if claim.beside == CONTROLS and "softmax × width" in scores:
        told.append(
            "Softmax × width can express what softmax can, since the next layer's weights undo the factor: where it is "
            "better, what is missing is scale and ease of training, not expressive power."
        )
    return told


def _elsewhere(results: Results, claim: Claim, judged: Task, against: Sequence[str]) -> list[Figure]:
    """The same rule on every task that has the measure: whether the verdict is one of this task alone."""
    rows: list[dict[str, Cell]] = []
    for task in results.contest.tasks:
        scores = (
            None if claim.metric not in {each.name for each in task.metrics} else results.scores(task, claim.metric)
        )
        if scores is None:
            continue
        metric = next(each for each in task.metrics if each.name == claim.metric)
        word, _, overall = _judge(claim, metric, scores, against)
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
            x=Axis(column="difference", label=f"Softmax minus the mean of its rivals{unit}"),
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


def _differences(claim: Claim, metric: Metric, family: Sequence[Contrast]) -> Figure:
    scale, label = claim.scale, metric.label
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
        caption=f"Of {len(family)} other arms, softmax is {', '.join(found)}. Right of the dashed line an arm is "
        f"higher than softmax; {'higher' if metric.higher_is_better else 'lower'} is better here.",
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
    label = column.replace("_", " ")
    caption = "Of no arm two networks were left at the end."
    if final:
        best = max(final, key=lambda arm: final[arm])
        caption = f"After the last step {best} is highest ({final[best]:.3f})"
        caption += f" and softmax is at {final[SOFTMAX]:.3f}." if SOFTMAX in final and best != SOFTMAX else "."
    return Figure(
        key=f"{task.name}-learning-{len(arms)}",
        kind="curve",
        title=f"{label.capitalize()} while learning, each arm at its best learning rate",
        caption=caption,
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
    return Figure(
        key="spectra",
        kind="curve",
        title="Singular values of the centred activations of the last hidden layer",
        caption="Softmax units sum to one, so their last singular value is 0 but for rounding (values below 10⁻⁹ are "
        "drawn there); what matters is how fast the others fall.",
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
            caption=f"Mean absolute value off the diagonal: {said}. A unit that never varies has no correlation (grey)."
            if key == "correlation"
            else f"Mean absolute value off the diagonal: {said}.",
            x=Axis(
                column="other", label="Unit" if key == "correlation" else "Pre-activation of unit", scale="category"
            ),
            y=Axis(column="unit", label="Unit" if key == "correlation" else "Activation of unit", scale="category"),
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
    verdict = next((section.verdict for section in sections if section.key == "accuracy"), None)
    return "" if verdict is None else f"Measured here, in test accuracy: {verdict.sentence}"


def _method(results: Results) -> list[str]:
    first = results.contest.tasks[0]
    grids = {task.label: results.tunings[task.name].grid for task in results.contest.tasks}
    return [
        "Every arm has the same layers, the same parameters but the gains of batch normalisation, and per seed the "
        "same split, the same initial draw and the same order of batches.",
        f"Optimizer Adam, batches of 128 rows, {first.steps} steps. The learning rate of each arm is the one with the "
        f"best validation score over {len(results.tune_seeds)} seeds; the other {len(results.seeds)} seeds are judged, "
        "on test data (random labels: on new labels; functions: on one grid, from new training points). Half of the "
        "seeds tune, so n more judged seeds are 2n more of --seeds.",
        "Every seed splits the same table anew, so test rows of one seed may be validation rows of another, also of "
        "one that tuned. The intervals speak of new splits, draws and orders on this table, not of new data.",
        "Grids of learning rates, extended for every arm while the best of any lies on an edge: "
        + "; ".join(f"{label}: {grid[0]:.2g} to {grid[-1]:.2g}, {len(grid)} rates" for label, grid in grids.items())
        + ".",
        "Differences are paired by seed: BCa bootstrap intervals (95 %, expanded for small n), sign-flip permutation "
        "p-values, Holm over all arms of a measure (not over the claims). A network that diverged, or whose measure is "
        "not a number (a Jacobian of zeros has no off-diagonal share), counts with the worst score.",
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
        "judged scores that are not a number and count as the worst": _unscored(results),
        "compute (core minutes, measuring included)": round(results.seconds / 60, 1),
        "arms with the best learning rate on an edge": ", ".join(edges) or "none",
    }
    task = headline(results, "test_accuracy")
    scores = None if task is None else results.scores(task, "test_accuracy")
    if scores is not None and "ReLU" in scores:
        spread = float(np.std(scores[SOFTMAX] - scores["ReLU"], ddof=1))
        alpha = 0.05 / (len(results.arms) - 1)  # what Holm asks of the smallest p
        least = statistics.minimum_detectable_difference(spread, len(results.seeds), alpha=alpha)
        if math.isfinite(least):
            facts["smallest accuracy difference found with power 0.8 after Holm (points)"] = round(100 * least, 2)
    tables: dict[str, Any] = {}
    for each in results.contest.tasks:
        if (table := getattr(each, "table", None)) is not None:
            tables[table.name] = table
    for table in tables.values():
        size = f"{len(table.labels)} rows, {table.features.shape[1]} features, {len(table.class_names)} classes"
        facts[f"data {table.name}"] = "; ".join((size, *table.notes))
    return facts


def _unscored(results: Results) -> int:
    """Judged scores of networks that did not diverge, in a measure that others of their task have, that are NaN."""
    missing = 0
    for task in results.contest.tasks:
        records = [record for group in results.members[task.name].values() for record in group]
        for metric in task.metrics:
            if any(metric.name in record.metrics for record in records):
                fine = [record for record in records if record.status != "diverged"]
                missing += sum(record.metrics.get(metric.name) is None for record in fine)
    return missing

"""How the hidden contest is judged: each claim's verdict by its criterion, what is said of it, and its figures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from softplace.report.records import Axis, Cell, Figure, PlaceReport, Section
from softplace.study import statistics
from softplace.study.contest import Task
from softplace.study.contests._report import SOFTMAX, Claim, band, counts, grids, judge, rates_figure
from softplace.study.contests.hidden_claims import CANDIDATES, CLAIMS, CONTROLS, HIGHLIGHT
from softplace.study.contests.hidden_references import REFERENCES
from softplace.study.results import Results

_EXPRESSES = (
    "Softmax × width can express what softmax can, since the next layer's weights undo the factor: where it is better, "
    "what is missing is scale and ease of training, not expressive power."
)


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


def _section(results: Results, claim: Claim) -> Section | None:
    task = headline(results, claim.metric)
    against = _rivals(results, claim)
    if task is None or not against:
        return None
    controlled = claim.beside == CONTROLS and any(arm.name == "softmax × width" for arm in results.arms)
    return judge(
        results,
        claim,
        task,
        against,
        highlight=HIGHLIGHT,
        tasks=results.contest.tasks,
        figures=_extra(results, claim, task),
        remarks=[_EXPRESSES] if controlled else [],
    )


def _extra(results: Results, claim: Claim, task: Task) -> list[Figure]:
    """The figures that belong to one claim only."""
    present = {arm.name for arm in results.arms}
    four = [arm for arm in HIGHLIGHT if arm in present]
    pair = [SOFTMAX, *[arm for arm in ("ReLU", *CANDIDATES) if arm in present][:1]]
    if claim.key == "accuracy":
        return [
            rates_figure(results, task, highlight=HIGHLIGHT, scale=100.0, unit=" points"),
            _learning(results, task, "validation_accuracy", [a.name for a in results.arms]),
        ]
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
            rows.append({"arm": arm, "step": step, column: final[arm], **band(values)})
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
    return [
        "Every arm has the same layers, the same parameters but the gains of batch normalisation, and per seed the "
        "same split, the same initial draw and the same order of batches.",
        f"Optimizer Adam, batches of 128 rows, {first.steps} steps. The learning rate of each arm is the one with the "
        f"best validation score over {len(results.tune_seeds)} seeds; the other {len(results.seeds)} seeds are judged, "
        "on test data (random labels: on new labels; functions: on one grid, from new training points). Half of the "
        "seeds tune, so n more judged seeds are 2n more of --seeds.",
        "Every seed splits the same table anew, so test rows of one seed may be validation rows of another, also of "
        "one that tuned. The intervals speak of new splits, draws and orders on this table, not of new data.",
        grids(results),
        "Differences are paired by seed: BCa bootstrap intervals (95 %, expanded for small n), sign-flip permutation "
        "p-values, Holm over all arms of a measure (not over the claims). A network that diverged, or whose measure is "
        "not a number (a Jacobian of zeros has no off-diagonal share), counts with the worst score.",
        "The target of “steps to target” is the validation accuracy of the classifier of the nearest class mean; "
        "a network that never reaches it counts with the whole budget.",
    ]


def _facts(results: Results) -> dict[str, Cell]:
    facts = counts(results)
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

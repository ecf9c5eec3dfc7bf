"""A report with every kind of figure, every verdict, fourteen arms and hostile names; its numbers are made up."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from softplace.report.records import Axis, Figure, PlaceReport, Reference, Report, Section, Verdict

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "{{7*7}} {% raw %}",
    "\"double\" 'single' `back` <!-- & &amp;",
    "\u202egnp.exe\u202c right to left",
    "🦊 emoji 👩‍🔬 naïve café",
    "__proto__",
    "a very long name of an arm that goes on and on " * 6 + "and ends here",
)
ARMS = ("softmax", "softmax + batch norm", "ReLU", "ReLU + batch norm", "tanh", "sigmoid", "identity", *HOSTILE)
HIGHLIGHT = ("softmax", "softmax + batch norm", "ReLU", "ReLU + batch norm")


def _interval(random_: random.Random) -> Figure:
    rows = []
    for index, arm in enumerate(ARMS):
        value = -0.02 * index + random_.gauss(0, 0.01)
        half = 0.005 + 0.02 * random_.random()
        rows.append({"arm": arm, "difference": value, "low": value - half, "high": value + half, "n": 12})
    return Figure(
        key="accuracy",
        kind="interval",
        title="Test accuracy of each arm minus that of ReLU",
        caption="Softmax in the hidden layer loses 9 points of accuracy against ReLU; no other arm loses more than 3.",
        x=Axis(column="difference", label="Difference in test accuracy (12 paired seeds)"),
        y=Axis(column="arm", label="Arm", scale="category"),
        rows=rows,
        series="arm",
        reference_line=0.0,
        band=(-0.01, 0.01),
        highlight=HIGHLIGHT,
    )


def _curves(random_: random.Random) -> Figure:
    rows = []
    for index, arm in enumerate(ARMS):
        for step in range(0, 1001, 50):
            loss = 2.3 * math.exp(-step / (120 + 45 * index)) + 0.05 + 0.02 * index + random_.gauss(0, 0.01)
            rows.append({"arm": arm, "step": step, "loss": loss, "low": loss * 0.9, "high": loss * 1.1})
    rows[7]["loss"] = float("nan")
    rows[9]["high"] = float("inf")
    return Figure(
        key="learning",
        kind="curve",
        title="Loss on the training data while learning",
        caption="Softmax leaves the plateau about 400 steps after ReLU.",
        x=Axis(column="step", label="Optimiser step"),
        y=Axis(column="loss", label="Cross-entropy (nats)", scale="log"),
        rows=rows,
        series="arm",
        highlight=HIGHLIGHT,
    )


def _rates(random_: random.Random) -> Figure:
    rows = []
    for index, arm in enumerate(ARMS[:5]):
        for exponent in range(-8, 2):
            rate = 10 ** (exponent / 2)
            value = 0.95 - 0.05 * (exponent / 2 + 1.5 - 0.4 * index) ** 2 + random_.gauss(0, 0.005)
            value = max(0.1, value)
            rows.append({"arm": arm, "rate": rate, "accuracy": value, "low": value - 0.02, "high": value + 0.02})
    return Figure(
        key="rates",
        kind="curve",
        title="Validation accuracy against the learning rate",
        caption="Every arm has its best rate inside the grid, so no arm was tuned less than another.",
        x=Axis(column="rate", label="Learning rate", scale="log"),
        y=Axis(column="accuracy", label="Validation accuracy"),
        rows=rows,
        series="arm",
    )


def _spectra(random_: random.Random) -> Figure:
    rows = []
    for arm in ARMS[:4]:
        for layer in ("first hidden layer", "second hidden layer", "third hidden layer"):
            decay = 2 + 14 * random_.random()
            for index in range(1, 33):
                value = math.exp(-index / decay) + 1e-7
                rows.append({"arm": arm, "layer": layer, "index": index, "share": value})
    return Figure(
        key="spectra",
        kind="curve",
        title="Singular values of the centred activations",
        caption="Softmax units always lack one dimension: the last singular value is zero.",
        x=Axis(column="index", label="Index of the singular value"),
        y=Axis(column="share", label="Singular value / largest", scale="log"),
        rows=rows,
        series="arm",
        facet="layer",
    )


def _correlation(random_: random.Random) -> Figure:
    rows = []
    for arm in ("softmax", "ReLU"):
        strength = 0.9 if arm == "softmax" else 0.3
        for row in range(32):
            for column in range(32):
                value = 1.0 if row == column else strength * math.sin(row * 0.7) * math.cos(column * 0.5)
                rows.append({"arm": arm, "unit": row, "other": column, "value": value})
    return Figure(
        key="correlation",
        kind="heatmap",
        title="Correlation of the hidden units over the test data",
        caption="Softmax units come in opposed groups; ReLU units are nearly uncorrelated.",
        x=Axis(column="other", label="Unit", scale="category"),
        y=Axis(column="unit", label="Unit", scale="category"),
        rows=rows,
        facet="arm",
        value_label="Pearson correlation",
    )


def _confusion(random_: random.Random) -> Figure:
    classes = ("zero", "one", "two", *HOSTILE)
    rows = [
        {"true class": true, "said": said, "value": 0.9 if true == said else round(0.02 * random_.random(), 3)}
        for true in classes
        for said in classes
    ]
    return Figure(
        key="confusion",
        kind="heatmap",
        title="What the softmax network says for each class",
        caption="Errors are spread evenly: no pair of classes is confused more than any other.",
        x=Axis(column="said", label="Said", scale="category"),
        y=Axis(column="true class", label="True class", scale="category"),
        rows=rows,
        value_label="Share of the true class",
    )


def _bars(random_: random.Random) -> Figure:
    rows = []
    for arm in ARMS[:4]:
        for split in ("train", "test"):
            value = 0.8 + 0.15 * random_.random()
            rows.append({"arm": arm, "split": split, "accuracy": value, "low": value - 0.02, "high": value + 0.02})
    return Figure(
        key="gap",
        kind="bar",
        title="Accuracy on the training and the test data",
        caption="The gap between training and test data is the same in all arms.",
        x=Axis(column="accuracy", label="Accuracy"),
        y=Axis(column="arm", label="Arm", scale="category"),
        rows=rows,
        series="split",
    )


def _pairs(random_: random.Random) -> Figure:
    rows = []
    for arm in ARMS[:6]:
        for task in ("digits", "two moons"):
            for probe in ("push-down", "gradient gain"):
                value = 10 ** random_.uniform(-3, 1)
                rows.append(
                    {"arm": arm, "task": task, "probe": probe, "ratio": value, "low": value / 2, "high": value * 2}
                )
    return Figure(
        key="pairs",
        kind="interval",
        title="Coupling of the units, relative to the identity",
        caption="Only softmax couples its units; the two probes agree on both tasks.",
        x=Axis(column="ratio", label="Ratio (log scale)", scale="log"),
        y=Axis(column="arm", label="Arm", scale="category"),
        rows=rows,
        series="probe",
        facet="task",
        reference_line=1.0,
        highlight=("softmax",),
    )


def odd() -> Report:
    """Figures that a study should not have and may: no series, no numbers, one row, wrong signs, too many of all."""
    random_ = random.Random(1)
    x, y = Axis(column="x", label="X"), Axis(column="y", label="Y")
    name = Axis(column="arm", label="Arm", scale="category")
    value = Axis(
        column="v", label="A label that is much longer than the axis that it stands under, so it has to be cut"
    )
    log_x, log_y = Axis(column="x", label="X", scale="log"), Axis(column="y", label="Y", scale="log")
    layer = Axis(column="x", label="Layer", scale="category")
    seconds = Axis(column="v", label="Seconds", scale="log")

    def figure(kind, key: str, x: Axis, y: Axis, rows: list[dict[str, Any]], **changes: Any) -> Figure:
        return Figure(kind=kind, key=key, title=key, caption=f"{key} it is.", x=x, y=y, rows=rows, **changes)

    def grid(rows: int, columns: int, cell: Callable[[int, int], float | None]) -> list[dict[str, Any]]:
        return [{"y": row, "x": column, "value": cell(row, column)} for row in range(rows) for column in range(columns)]

    def arms(values: Sequence[float | None]) -> list[dict[str, Any]]:
        return [{"arm": f"arm {index}", "v": value} for index, value in enumerate(values)]

    zeros = [(0, 1, 2), (1, 0, 1), (2, -3, 1), (3, 5, 9), (10, 50, 80)]
    lines = [{"s": f"line {line}", "x": x, "y": math.sin(x / 3 + line / 5)} for line in range(40) for x in range(20)]
    layers = [{"s": s, "x": f"layer {x} of the network", "y": random_.random()} for s in "ab" for x in range(12)]
    facets = [
        {"f": f"panel {f}", "s": s, "arm": arm, "v": random_.random(), "low": 0, "high": 1}
        for f in range(5)
        for s in "abc"
        for arm in ("softmax", "ReLU")
    ]
    figures = (
        figure("curve", "one point", x, y, [{"x": 1, "y": 2.0}]),
        figure("curve", "no number", x, y, [{"x": 1, "y": math.nan}, {"x": 2, "y": None}]),
        figure("curve", "log of zero", log_x, log_y, [{"x": a, "y": b, "low": b - 2, "high": c} for a, b, c in zeros]),
        figure("curve", "forty lines", x, y, lines, series="s"),
        figure("curve", "few of forty", x, y, lines, series="s", highlight=("line 3",)),
        figure("curve", "layers", layer, y, layers, series="s", reference_line=0.5, band=(0.4, 0.6)),
        figure("interval", "axes swapped", name, value, arms([1e-6, -2e-6, 3e-6])),
        figure("interval", "equal and large", value, name, arms([123456789.0] * 3)),
        figure("interval", "panels", value, name, facets, series="s", facet="f"),
        figure("bar", "bars of both signs", value, name, arms([-1, 0.5, None, -2.5]), reference_line=0.0),
        figure("bar", "bars below zero", value, name, arms([-1, -0.5])),
        figure("bar", "bars of seconds", seconds, name, arms([0.001, 0.5, 200]), series="arm"),
        figure("heatmap", "Jacobian", x, y, grid(64, 64, lambda i, j: 0.2 * (i == j) - 0.01 * random_.random())),
        figure("heatmap", "holes", x, y, grid(40, 5, lambda i, j: None if i == j else random_.random())),
        figure("heatmap", "constant", x, y, grid(3, 3, lambda i, j: 0.0)),
        figure("heatmap", "empty", x, y, []),
    )
    section = Section(key="odd", title="Odd figures", verdict=None, figures=figures)
    place = PlaceReport(place="odd", question="?", answer=".", sections=(section,), references=(), method=())
    return Report(title="Odd", places=(place,), pending=(), command="c", provenance={})


def _verdict(verdict, claim: str, sentence: str, **changes) -> Verdict:
    values = {
        "place": "hidden",
        "claim": claim,
        "verdict": verdict,
        "sentence": sentence,
        "criterion": "The interval of the paired difference lies wholly below -0.01 against every reference arm.",
        "measure": "difference in test accuracy, softmax minus ReLU",
        "estimate": -0.0913,
        "interval": (-0.104, -0.0788),
        "p": 0.000488,
        "n": 12,
        "arms": ("softmax", "ReLU", "tanh", HOSTILE[0]),
        "references": ("ioffe2015", "nair2025"),
        "contrasts": (
            {"arm": "softmax", "reference": "ReLU", "estimate": -0.0913, "interval": (-0.104, -0.0788), "p": 0.000488},
            {"arm": "softmax", "reference": HOSTILE[0], "estimate": -0.07, "interval": (-0.09, -0.05), "p": 0.001},
        ),
    } | changes
    return Verdict(**values)


def sample() -> Report:
    """The same report at every call."""
    random_ = random.Random(7)
    sections = (
        Section(
            key="dependence",
            title="Dependence between the units",
            verdict=_verdict(
                "supported",
                "Softmax makes the hidden units linearly dependent.",
                "The centred activations of softmax lack one dimension in every one of 12 networks, "
                "and their effective rank is 0.31 of the width against 0.74 for ReLU.",
                measure="effective rank / width, softmax minus ReLU",
                estimate=-0.43,
                interval=(-0.46, -0.39),
            ),
            text=("Softmax activations sum to one, so their centred matrix cannot have full rank.",),
            figures=(_spectra(random_), _correlation(random_), _confusion(random_)),
        ),
        Section(
            key="coupling",
            title="Coupling through the denominator",
            verdict=_verdict(
                "opposite",
                "Lowering one unit raises the others, and that hurts learning.",
                "The other units rise, but the loss falls rather than rises when they do.",
                estimate=0.0211,
                interval=(0.0102, 0.0334),
                p=0.0039,
                references=("unread2016", "not-in-the-list"),
            ),
            figures=(_pairs(random_),),
        ),
        Section(
            key="power",
            title="Expressive power",
            verdict=_verdict(
                "cannot tell",
                "Softmax costs expressive power.",
                "Six pairs are too few: the interval holds both no difference and a large one.",
                estimate=None,
                interval=None,
                p=None,
                n=6,
                contrasts=(),
                references=(),
            ),
            figures=(_bars(random_),),
        ),
        Section(
            key="normalisation",
            title="Batch normalisation",
            verdict=_verdict(
                "not supported",
                "Batch normalisation gives what softmax was meant to give, and more.",
                "With batch normalisation both arms reach the same accuracy to within a point.",
                estimate=0.0021,
                interval=(-0.004, 0.0081),
                p=0.41,
            ),
            figures=(_interval(random_), _curves(random_), _rates(random_)),
        ),
    )
    references = (
        Reference(
            key="ioffe2015",
            authors="Sergey Ioffe and Christian Szegedy",
            title="Batch normalization: accelerating deep network training by reducing internal covariate shift",
            year=2015,
            where="ICML; arXiv:1502.03167",
            finding="The same accuracy with 14 times fewer steps.",
            verified=True,
            bibtex="@inproceedings{ioffe2015,\n  author = {Ioffe, Sergey and Szegedy, Christian},\n  year = {2015}\n}",
            url="https://arxiv.org/abs/1502.03167",
        ),
        Reference(
            key="nair2025",
            authors="Pravin Nair",
            title="Softmax is 1/2-Lipschitz",
            year=2025,
            where="arXiv:2510.23012",
            finding="The norm of the Jacobian is at most 1/2.",
            verified=True,
            bibtex="@misc{nair2025,\n  author = {Nair, Pravin},\n  title = {Softmax is 1/2-{L}ipschitz}\n}",
        ),
        Reference(
            key="unread2016",
            authors="A. Nobody, B. Nobody, C. Nobody",
            title="A work of which only the title is known",
            year=2016,
            where="Proceedings of nothing",
            finding="THIS FINDING MUST NOT BE PRINTED",
            verified=False,
            bibtex="@misc{unread2016,\n  title = {</pre><script>alert(1)</script>}\n}",
            url="javascript:alert(1)",
        ),
    )
    place = PlaceReport(
        place="hidden",
        question="Why is softmax used in the output layer and not in hidden layers?",
        answer="Because as a hidden activation it costs nine points of accuracy here: it takes a dimension from every "
        "layer and shrinks the gradient. Coupling alone does no harm, and batch normalisation closes the gap.",
        sections=sections,
        references=references,
        method=(
            "Each arm was tuned on validation data over the same ten learning rates; half of the seeds chose the rate, "
            "the other half were judged.",
            "Differences are paired by seed; intervals are BCa bootstrap intervals, p-values are from sign-flip "
            "permutation tests with Holm's correction.",
        ),
        facts={"Data": "scikit-learn digits, 1,797 images", "Members trained": 1680, "Total compute": "1.9 core-hours"},
    )
    return Report(
        title="Does softmax belong in a hidden layer?",
        places=(place,),
        pending=("attention", "memory"),
        command="softplace study --places hidden --seeds 24",
        provenance={"softplace": "0.1.0", "torch": "2.13.0", "Python": "3.11.2", "Machine": "2 cores", "Seed": 0},
    )

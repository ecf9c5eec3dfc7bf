"""The hidden place: the same multilayer perceptron with one map or another between its layers.

Axis legend: M members, S different seeds among them, N rows, B batch, I inputs, W width, C outputs.

Tasks: classify a table; memorise random labels of some of its rows; fit a bank of functions of the plane. Every arm has
the same architecture, initial draw and order of batches per seed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from softplace import probes
from softplace.hidden import Layers, forward, initialise
from softplace.study.contest import Arm, Contest, Curve, Measurement, Members, Metric, Options, Task, generator
from softplace.study.contests import hidden_report
from softplace.study.contests._classify import (
    LARGEST_DATA,
    Rows,
    first_reached,
    fleet_size,
    measurements,
    nearest_mean_accuracy,
    rounded,
)
from softplace.study.contests.hidden_arms import ARMS, activation_of, check_arm, chosen_arms
from softplace.study.data import Part, Parts, Table, load, split
from softplace.study.store import JSON, Role

BATCH = 128
PROBE_ROWS = 512
JACOBIAN_ROWS = 32
PUSH_ROWS = 64
PUSH = 1.0
MEMORISED_ROWS = 256
MEMORISED_CLASSES = 10
GRID_POINTS = 33
_BLOCK = 32  # steps whose random points are drawn at once

_PI = math.pi
FUNCTIONS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "product": lambda x, y: x * y,
    "exclusive or": lambda x, y: torch.sign(x) * torch.sign(y),
    "plane wave": lambda x, y: torch.sin(2 * _PI * (x + 0.5 * y)),
    "egg box": lambda x, y: torch.sin(_PI * x) * torch.cos(_PI * y),
    "rings": lambda x, y: torch.cos(2 * _PI * torch.sqrt(x * x + y * y)),
    "bump": lambda x, y: torch.exp(-8 * ((x - 0.3) ** 2 + (y + 0.2) ** 2)),
    "ridge": lambda x, y: torch.abs(x - y),
    "step": lambda x, y: (x + 0.5 * y > 0.2).to(x.dtype),
}


class Networks(Members):
    """Multilayer perceptrons; what they train on is the subclass's."""

    def __init__(self, arm: Arm, widths: Sequence[int], seeds: Sequence[int], device: torch.device) -> None:
        self.activation = activation_of(arm)
        self.seeds = torch.tensor(seeds, device=device)
        parameters, buffers = initialise(widths, seeds, batch_norm=self.activation.batch_norm)
        self.parameters = {name: value.to(device) for name, value in parameters.items()}
        self.buffers = {name: value.to(device) for name, value in buffers.items()}

    def select(self, keep: Tensor) -> Self:
        chosen = super().select(keep)
        chosen.seeds = self.seeds[keep]
        return chosen

    def run(self, inputs: Tensor, *, training: bool = False) -> Layers:
        """(M, I, B) through every network."""
        return forward(self.activation, self.parameters, self.buffers, inputs, training=training)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(M, C, B), (M, B) -> (M,)."""
    return functional.nll_loss(functional.log_softmax(logits, 1), labels, reduction="none").mean(1)


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(1) == labels).float().mean(1)


class Classifiers(Networks):
    """Members that learn a table's classes, each on its own seed's split."""

    def __init__(self, task: "Classify", arm: Arm, seeds: Sequence[int], device: torch.device) -> None:
        table = task.table
        widths = (table.features.shape[1], *[task.width] * task.depth, len(table.class_names))
        super().__init__(arm, widths, seeds, device)
        parts: dict[int, Parts] = {seed: split(table, seed) for seed in sorted(set(seeds))}
        self.train = Rows(seeds, lambda seed: parts[seed].train, device, BATCH)
        self.validation = Rows(seeds, lambda seed: parts[seed].validation, device, BATCH)
        self.test = Rows(seeds, lambda seed: parts[seed].test, device, BATCH)
        targets = torch.tensor([nearest_mean_accuracy(parts[seed]) for seed in self.train.unique])
        self.budget = task.steps
        self.sets = self.train.of(self.seeds)
        self.targets = targets.to(device)

    def select(self, keep: Tensor) -> Self:
        chosen = super().select(keep)
        chosen.sets = self.sets[keep]
        return chosen

    def batch(self, step: int) -> tuple[Tensor, ...]:
        return self.train.at(step, self.sets)

    def losses(self, *batch: Tensor) -> Tensor:
        inputs, labels = batch
        return _cross_entropy(self.run(inputs, training=True).outputs, labels)

    def evaluate(self) -> dict[str, Tensor]:
        inputs, labels = self.validation.all(self.sets)
        logits = self.run(inputs).outputs
        return {"validation_nll": _cross_entropy(logits, labels), "validation_accuracy": _accuracy(logits, labels)}

    def measure(self, role: Role, curves: Sequence[Curve]) -> list[Measurement]:
        columns = {"validation_accuracy": torch.tensor([curve["validation_accuracy"][-1] for curve in curves])}
        figures: list[dict[str, JSON]] = [{} for _ in curves]
        if role == "judge":
            inputs, labels = self.test.all(self.sets)
            logits = self.run(inputs).outputs
            train_inputs, train_labels = self.train.all(self.sets)
            columns["test_accuracy"] = _accuracy(logits, labels)
            columns["test_nll"] = _cross_entropy(logits, labels)
            columns["train_accuracy"] = _accuracy(self.run(train_inputs).outputs, train_labels)
            columns["gap"] = columns["train_accuracy"] - columns["test_accuracy"]
            weights = torch.softmax(logits, 1).transpose(1, 2)
            columns["calibration_error"] = probes.expected_calibration_error(weights, labels)
            columns["steps_to_target"] = torch.tensor(
                [
                    first_reached(curve, target, self.budget)
                    for curve, target in zip(curves, self.targets[self.sets].tolist(), strict=True)
                ]
            )
            more, figures = self.probe()
            columns |= more
        return measurements(columns, figures)

    def probe(self) -> tuple[dict[str, Tensor], list[dict[str, JSON]]]:
        """Rank, coupling and gradients of the hidden layers, on training rows, in float64."""
        inputs, labels = self.train.all(self.sets, PROBE_ROWS)
        exact = self.select(torch.arange(len(self.seeds), device=self.seeds.device))
        exact.parameters = {name: value.double() for name, value in exact.parameters.items()}
        exact.buffers = {name: value.double() for name, value in exact.buffers.items()}
        layers = exact.run(inputs.double())
        activations = layers.activations[-1].transpose(1, 2)
        scores = layers.pre_activations[-1].transpose(1, 2)
        width = activations.shape[-1]
        depth = len(layers.activations)
        head, offset = exact.parameters[f"weight{depth}"], exact.parameters[f"bias{depth}"]

        def row_wise(values: Tensor) -> Tensor:
            return self.activation.after_normalisation(values, -1)

        def loss(values: Tensor) -> Tensor:
            logits = torch.baddbmm(offset, head, values.transpose(1, 2))
            return functional.cross_entropy(logits, labels[:, : values.shape[1]], reduction="none")

        jacobians = probes.jacobian(row_wise, scores[:, :JACOBIAN_ROWS])
        pushed = probes.push_down(row_wise, scores[:, :PUSH_ROWS], PUSH, loss)
        gains = [
            probes.gradient_gain(row_wise, each.transpose(1, 2)[:, :PUSH_ROWS]).mean(1)
            for each in layers.pre_activations
        ]
        spectrum = probes.singular_values(activations)
        columns = {
            "effective_rank": probes.effective_rank(activations) / width,
            "correlation": probes.pairwise_correlation(activations),
            "sparsity": probes.hoyer_sparsity(activations),
            "off_diagonal": probes.off_diagonal_share(jacobians).nanmean(1),
            "others_rise": pushed.others.mean(1) / pushed.own.mean(1).abs(),
            "share_rising": pushed.share_rising.mean(1),
            "image_dimension": probes.image_dimension(row_wise, scores[:, :JACOBIAN_ROWS]).mean(1),
            "gradient_gain": torch.stack(gains).clamp(min=1e-12).log10().mean(0),
        }
        if pushed.loss_change is not None:
            columns["push_loss_change"] = pushed.loss_change.mean(1)
        if activations.shape[1] > width:
            columns["rank_deficiency"] = probes.rank_deficiency(activations).double()
        figures: list[dict[str, JSON]] = []
        for member in range(len(activations)):
            figures.append(
                {
                    "singular_values": rounded(spectrum[member] / spectrum[member, 0]),
                    "gains": rounded(torch.stack(gains)[:, member]),
                }
            )
        # The heat maps show one network, the first: a matrix of every member would be megabytes.
        figures[0]["correlations"] = rounded(probes.correlation_matrix(activations[0]))
        figures[0]["jacobian"] = rounded(jacobians[0].mean(0))
        return columns, figures


@dataclass(frozen=True, kw_only=True)
class Classify(Task):
    """Learn the classes of a table. Validation chooses the learning rate, test rows judge."""

    table: Table
    width: int = 32
    depth: int = 2

    validation = Metric(name="validation_accuracy", label="validation accuracy", higher_is_better=True, worst=0.0)

    @property
    def metrics(self) -> Sequence[Metric]:
        worst_loss = 10.0 * math.log(len(self.table.class_names))
        return (
            Metric(name="test_accuracy", label="test accuracy", higher_is_better=True, worst=0.0),
            Metric(name="test_nll", label="test NLL", higher_is_better=False, worst=worst_loss),
            Metric(name="train_accuracy", label="training accuracy", higher_is_better=True, worst=0.0),
            Metric(name="gap", label="training - test accuracy", higher_is_better=False, worst=1.0),
            Metric(name="calibration_error", label="calibration error", higher_is_better=False, worst=1.0),
            Metric(name="steps_to_target", label="steps to target", higher_is_better=False, worst=float(self.steps)),
            Metric(name="effective_rank", label="effective rank / width", higher_is_better=True, worst=0.0),
            Metric(name="rank_deficiency", label="rank deficiency", higher_is_better=False, worst=float(self.width)),
            Metric(name="image_dimension", label="dimensions of the image", higher_is_better=True, worst=0.0),
            Metric(name="correlation", label="mean |correlation| of units", higher_is_better=False, worst=1.0),
            Metric(name="sparsity", label="Hoyer sparsity", higher_is_better=True, worst=0.0),
            Metric(name="off_diagonal", label="off-diagonal Jacobian share", higher_is_better=False, worst=1.0),
            Metric(name="others_rise", label="rise of the others per unit lowered", higher_is_better=False, worst=1.0),
            Metric(name="share_rising", label="share of other units that rise", higher_is_better=False, worst=1.0),
            Metric(
                name="push_loss_change",
                label="absolute change of the loss when one unit is lowered",
                higher_is_better=False,
                worst=worst_loss,
            ),
            Metric(name="gradient_gain", label="log10 gradient gain per layer", higher_is_better=True, worst=-12.0),
        )

    def settings(self) -> Mapping[str, JSON]:
        return {"table": self.table.fingerprint, "width": self.width, "depth": self.depth, "batch": BATCH}

    def members(self, arm: Arm, seeds: Sequence[int], device: torch.device) -> Members:
        return Classifiers(self, arm, seeds, device)


class Memorisers(Networks):
    """Members that learn random labels by heart: some rows of the table, with labels drawn per seed."""

    def __init__(self, task: "Memorise", arm: Arm, seeds: Sequence[int], device: torch.device) -> None:
        widths = (task.table.features.shape[1], *[task.width] * task.depth, MEMORISED_CLASSES)
        super().__init__(arm, widths, seeds, device)

        def draw(seed: int) -> Part:
            train = split(task.table, seed).train
            source = generator(seed, "random labels")
            rows = torch.randperm(len(train.labels), generator=source)[:MEMORISED_ROWS].numpy()
            labels = torch.randint(0, MEMORISED_CLASSES, (len(rows),), generator=source).numpy()
            return Part(features=train.features[rows], labels=labels, rows=train.rows[rows])

        self.train = Rows(seeds, draw, device, BATCH)
        self.sets = self.train.of(self.seeds)

    def select(self, keep: Tensor) -> Self:
        chosen = super().select(keep)
        chosen.sets = self.sets[keep]
        return chosen

    def batch(self, step: int) -> tuple[Tensor, ...]:
        return self.train.at(step, self.sets)

    def losses(self, *batch: Tensor) -> Tensor:
        inputs, labels = batch
        return _cross_entropy(self.run(inputs, training=True).outputs, labels)

    def evaluate(self) -> dict[str, Tensor]:
        inputs, labels = self.train.all(self.sets)
        logits = self.run(inputs).outputs
        return {"nll": _cross_entropy(logits, labels), "memorised": _accuracy(logits, labels)}

    def measure(self, role: Role, curves: Sequence[Curve]) -> list[Measurement]:
        return [Measurement(metrics={"memorised": curve["memorised"][-1]}) for curve in curves]


@dataclass(frozen=True, kw_only=True)
class Memorise(Task):
    """Learn random labels by heart: what is measured is how many of the training rows a network can hold.

    Source: Zhang et al. 2017 (arXiv:1611.03530), section 2, who randomise the labels of the whole training set.
    """

    table: Table
    width: int = 32
    depth: int = 2

    validation = Metric(name="memorised", label="random labels memorised", higher_is_better=True, worst=0.0)

    @property
    def metrics(self) -> Sequence[Metric]:
        return (self.validation,)

    def settings(self) -> Mapping[str, JSON]:
        drawn = {"rows": MEMORISED_ROWS, "classes": MEMORISED_CLASSES, "batch": BATCH}
        return {"table": self.table.fingerprint, "width": self.width, "depth": self.depth, **drawn}

    def members(self, arm: Arm, seeds: Sequence[int], device: torch.device) -> Members:
        return Memorisers(self, arm, seeds, device)


class Fitters(Networks):
    """Members that fit all functions of the bank at once, one output each, on fresh random points at every step."""

    def __init__(self, task: "FitFunctions", arm: Arm, seeds: Sequence[int], device: torch.device) -> None:
        super().__init__(arm, (2, *[task.width] * task.depth, len(FUNCTIONS)), seeds, device)
        self._seeds = tuple(seeds)
        self._block = -1
        self._points = torch.empty(0)
        axis = torch.linspace(-1.0, 1.0, GRID_POINTS)
        self.grid = torch.cartesian_prod(axis, axis).T.contiguous().to(device)
        values = _bank(self.grid)
        self.mean, self.deviation = values.mean(1, keepdim=True), values.std(1, keepdim=True)
        self.values = (values - self.mean) / self.deviation

    def select(self, keep: Tensor) -> Self:
        chosen = super().select(keep)
        chosen._seeds = tuple(chosen.seeds.tolist())
        chosen._block = -1
        return chosen

    def batch(self, step: int) -> tuple[Tensor, ...]:
        block, place = divmod(step, _BLOCK)
        if block != self._block:
            drawn = [torch.rand(_BLOCK, 2, BATCH, generator=generator(seed, "points", block)) for seed in self._seeds]
            self._points = (torch.stack(drawn, 1) * 2.0 - 1.0).to(self.grid.device)
            self._block = block
        points = self._points[place]
        return points, (_bank(points) - self.mean) / self.deviation

    def losses(self, *batch: Tensor) -> Tensor:
        points, targets = batch
        return (self.run(points, training=True).outputs - targets).square().mean((1, 2))

    def evaluate(self) -> dict[str, Tensor]:
        errors = self._errors()
        return {"error": errors.mean(1).clamp(max=1.0).where(errors.isfinite().all(1), math.nan)}

    def _errors(self) -> Tensor:
        """Mean squared error over the grid by function, in units of the function's variance, (M, functions)."""
        outputs = self.run(self.grid.expand(len(self.seeds), -1, -1)).outputs
        return (outputs - self.values).square().mean(2)

    def measure(self, role: Role, curves: Sequence[Curve]) -> list[Measurement]:
        errors = self._errors().clamp(max=1.0)
        return measurements(
            {"error": errors.mean(1)}, [{"errors": dict(zip(FUNCTIONS, rounded(row), strict=True))} for row in errors]
        )


@dataclass(frozen=True, kw_only=True)
class FitFunctions(Task):
    """Fit `FUNCTIONS` on the square [-1, 1]^2 from fresh points; 1 is the error of a constant (and counts at most)."""

    width: int = 32
    depth: int = 2

    validation = Metric(name="error", label="error on the function bank", higher_is_better=False, worst=1.0)

    @property
    def metrics(self) -> Sequence[Metric]:
        return (self.validation,)

    def settings(self) -> Mapping[str, JSON]:
        return {"functions": list(FUNCTIONS), "width": self.width, "depth": self.depth, "batch": BATCH}

    def members(self, arm: Arm, seeds: Sequence[int], device: torch.device) -> Members:
        return Fitters(self, arm, seeds, device)


def _bank(points: Tensor) -> Tensor:
    """(..., 2, B) -> (..., functions, B)."""
    x, y = points[..., 0, :], points[..., 1, :]
    return torch.stack([function(x, y) for function in FUNCTIONS.values()], -2)


def contest(options: Options) -> Contest:
    """The contest of the hidden place."""
    arms = chosen_arms(options.maps)
    quick = options.preset == "quick"
    names = ("digits",) if quick else ("digits", "wine", "breast_cancer")
    tables = [options.table] if options.table is not None else [load(name) for name in names]
    widths, depths = ((32,), (1, 2)) if quick else ((32, 128), (1, 2, 4))
    for width in widths:
        for arm in arms:
            if arm not in ARMS:
                check_arm(arm, width)
    budget: dict[str, Any] = {"steps": 400, "evaluate_every": 20} if quick else {"steps": 2000, "evaluate_every": 50}
    budget["compiled"] = not quick
    tasks: list[Task] = []
    for table in tables:
        inputs, classes = table.features.shape[1], len(table.class_names)
        several = f"{table.name}: " if len(tables) > 1 else ""
        most = max(1, LARGEST_DATA // table.features.nbytes)
        for width in widths:
            wide = "" if quick else f", width {width}"
            size: dict[str, Any] = {"table": table, "width": width, **budget}
            for depth in depths:
                layers = f"{depth} hidden layer{'s' * (depth > 1)}"
                name = f"classify {table.name} depth {depth} width {width}"
                label = f"{several}classify, {layers}{wide}"
                largest = min(most, fleet_size((inputs, *[width] * depth, classes), BATCH))
                tasks.append(Classify(name=name, label=label, depth=depth, largest_fleet=largest, **size))
            name = f"memorise {table.name} width {width}"
            label = f"{several}memorise random labels{wide}"
            largest = min(most, fleet_size((inputs, width, width, MEMORISED_CLASSES), BATCH))
            tasks.append(Memorise(name=name, label=label, largest_fleet=largest, **size))
    for width in widths:
        wide = "" if quick else f", width {width}"
        largest = fleet_size((2, width, width, len(FUNCTIONS)), BATCH)
        label = f"fit a bank of functions{wide}"
        tasks.append(
            FitFunctions(name=f"functions width {width}", label=label, width=width, largest_fleet=largest, **budget)
        )
    return Contest(
        place="hidden",
        name="hidden",
        arms=arms,
        tasks=tuple(tasks),
        report=hidden_report.report,
        code=(
            "softplace.maps",
            "softplace.hidden",
            "softplace.probes",
            "softplace.study.contests._classify",
            "softplace.study.contests.hidden",
            "softplace.study.contests.hidden_arms",
        ),
        uses=("preset", "maps", "table"),
    )

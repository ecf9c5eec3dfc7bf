"""The members of the output contest: classifiers with one output or another, stacked, and what is measured of them.

Axis legend: M members, C classes, B batch, N rows, I inputs, T traced rows.

A network is a multilayer perceptron with one hidden layer of ReLU; arms differ in what stands behind its scores.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from softplace import maps, probes
from softplace.hidden import Activation, forward, initialise
from softplace.study.contest import Arm, Curve, Measurement, Members, generator
from softplace.study.contests._classify import Rows, first_reached, measurements, nearest_mean_accuracy, rounded
from softplace.study.contests.output_arms import FLOOR, Loss, output_of
from softplace.study.data import Part, split
from softplace.study.store import JSON, Role

if TYPE_CHECKING:
    from softplace.study.contests.output import Classify

TRACED = 4
"""Test rows that are kept with their scores, each with its own label and with a wrong one."""
BINS = 15
SMALLEST = 1e-12
"""The least gradient that counts: its logarithm must be a number."""
_RELU = Activation(map=maps.relu)


class Classifiers(Members):
    """Networks of one arm, each with its own seed's split of a table, some of whose training labels may be wrong."""

    def __init__(self, task: "Classify", arm: Arm, seeds: Sequence[int], device: torch.device) -> None:
        self.task, self.output = task, output_of(arm)
        self.seeds = torch.tensor(seeds, device=device)
        self.parameters = {name: value.to(device) for name, value in initialise(task.widths, seeds)[0].items()}
        self.buffers = {}
        parts = {seed: split(task.table, seed) for seed in sorted(set(seeds))}
        classes = len(task.table.class_names)
        self.train = Rows(
            seeds, lambda seed: mislabelled(parts[seed].train, seed, task.noise, classes), device, task.batch
        )
        self.validation = Rows(seeds, lambda seed: parts[seed].validation, device, task.batch)
        self.test = Rows(seeds, lambda seed: parts[seed].test, device, task.batch)
        # Of the right labels: so the target is the same with wrong ones among them.
        self.targets = torch.tensor([nearest_mean_accuracy(parts[seed]) for seed in self.train.unique], device=device)
        self.sets = self.train.of(self.seeds)

    def select(self, keep: Tensor) -> Self:
        chosen = super().select(keep)
        chosen.seeds, chosen.sets = self.seeds[keep], self.sets[keep]
        return chosen

    def batch(self, step: int) -> tuple[Tensor, ...]:
        return self.train.at(step, self.sets)

    def scores(self, inputs: Tensor) -> Tensor:
        """(M, I, B) to (M, C, B)."""
        return forward(_RELU, self.parameters, self.buffers, inputs, training=False).outputs

    def losses(self, *batch: Tensor) -> Tensor:
        inputs, labels = batch
        return self.output.loss(self.scores(inputs), labels).mean(1)

    def evaluate(self) -> dict[str, Tensor]:
        inputs, labels = self.validation.all(self.sets)
        weights = self.output.probabilities(self.scores(inputs))
        accuracy = (weights.argmax(1) == labels).float().mean(1)
        return {"validation_nll": clipped_nll(weights, labels), "validation_accuracy": accuracy}

    def measure(self, role: Role, curves: Sequence[Curve]) -> list[Measurement]:
        columns = {"validation_accuracy": torch.tensor([curve["validation_accuracy"][-1] for curve in curves])}
        figures: list[dict[str, JSON]] = [{} for _ in curves]
        if role == "judge":
            more, figures = self.judged()
            targets = self.targets[self.sets].tolist()
            steps = [first_reached(curve, each, self.task.steps) for curve, each in zip(curves, targets, strict=True)]
            columns |= more | {"steps_to_target": torch.tensor(steps)}
        return measurements(columns, figures)

    def judged(self) -> tuple[dict[str, Tensor], list[dict[str, JSON]]]:
        """What is measured on test rows, in float64, and what the figures need of each member."""
        inputs, labels = self.test.all(self.sets)
        scores = self.scores(inputs).double()
        weights = self.output.probabilities(scores)
        probabilities = weights.transpose(1, 2)
        wrong = wrong_labels(labels, self.seeds, weights.shape[1])
        first = {name: value.to(inputs) for name, value in initialise(self.task.widths, self.seeds.tolist())[0].items()}
        start = start_gradient(
            self.output.loss, forward(_RELU, first, {}, inputs, training=False).outputs.double(), labels
        )
        columns = {
            "test_accuracy": probes.accuracy(probabilities, labels),
            "test_nll": clipped_nll(weights, labels),
            "zero_share": (_of(weights, labels) == 0.0).double().mean(1),
            "brier": probes.brier_score(probabilities, labels),
            "calibration_error": probes.expected_calibration_error(probabilities, labels, bins=BINS),
            "wrong_gradient": wrong_gradient(self.output.loss, scores, weights, labels, wrong, start),
        }
        return columns, self._figures(scores, weights, labels, wrong, start)

    def _figures(
        self, scores: Tensor, weights: Tensor, labels: Tensor, wrong: Tensor, start: Tensor
    ) -> list[dict[str, JSON]]:
        """The bins of a reliability diagram; scores, probabilities and gradients over that at the start of some rows.

        Nothing where any of these numbers is not finite.
        """
        shown = torch.cat([labels[:, :TRACED], wrong[:, :TRACED]], 1)
        scores, kept = (torch.cat([each[:, :, :TRACED]] * 2, 2) for each in (scores, weights))
        slopes = gradients(self.output.loss, scores, shown) / start.clamp(min=SMALLEST).view(-1, 1, 1)
        found = []
        for bins, one, its, slope, label in zip(reliability(weights, labels), scores, kept, slopes, shown, strict=True):
            drawn = {"bins": bins, "scores": one.T, "weights": its.T, "gradient": slope.T}
            finite = all(bool(values.isfinite().all()) for values in drawn.values())
            parts: dict[str, JSON] = {name: rounded(values) for name, values in drawn.items()}
            found.append(parts | {"labels": label.tolist()} if finite else {})
        return found


def mislabelled(part: Part, seed: int, share: float, classes: int) -> Part:
    """A part of which a share of rows has another class than its own, each of the others as likely.

    Which rows, and which classes, depends on the seed alone.
    """
    count = round(share * len(part.labels))
    if not count:
        return part
    source = generator(seed, "label noise")
    rows = torch.randperm(len(part.labels), generator=source)[:count].numpy()
    shifts = torch.randint(1, classes, (count,), generator=source).numpy()
    labels = part.labels.copy()
    labels[rows] = (labels[rows] + shifts) % classes
    return Part(features=part.features, labels=labels, rows=part.rows)


def wrong_labels(labels: Tensor, seeds: Tensor, classes: int) -> Tensor:
    """Another class than its own for every row, (M, N), drawn by the seed alone."""
    drawn = [
        torch.randint(1, classes, labels.shape[1:], generator=generator(seed, "wrong labels"))
        for seed in seeds.tolist()
    ]
    return (labels + torch.stack(drawn).to(labels.device)) % classes


def clipped_nll(weights: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood in nats, (M,), of (M, C, N): no probability counts as less than `FLOOR`."""
    return -_of(weights, labels).clamp(min=FLOOR).log().mean(1)


def gradients(loss: Loss, scores: Tensor, labels: Tensor) -> Tensor:
    """The gradient of every row's loss by its scores, (M, C, N)."""
    with torch.enable_grad():
        leaf = scores.detach().requires_grad_()
        (found,) = torch.autograd.grad(loss(leaf, labels).sum(), leaf)
    return found


def start_gradient(loss: Loss, scores: Tensor, labels: Tensor) -> Tensor:
    """The median length of the gradient by the scores, (M,), at the scores of networks as they were drawn."""
    lengths: Tensor = torch.linalg.vector_norm(gradients(loss, scores, labels), dim=1)
    return lengths.median(1).values


def wrong_gradient(loss: Loss, scores: Tensor, weights: Tensor, labels: Tensor, wrong: Tensor, start: Tensor) -> Tensor:
    """How large a gradient is where the network is wrong and sure of it, against what it began with: log10, (M,).

    The median length of the gradient by the scores over the rows that are named rightly with a largest probability that
    is not below the median of such rows, each with the label `wrong` in the place of its own.

    Args:
        loss: Of the arm.
        scores, weights: Of the trained network and their probabilities, (M, C, N).
        labels, wrong: (M, N).
        start: What `start_gradient` gives, (M,).

    Returns:
        Decades; NaN where no row is named rightly.
    """
    confidence, named = weights.max(1)
    sure = torch.where(named == labels, confidence, torch.nan)
    sure = sure >= sure.nanmedian(1, keepdim=True).values
    late = torch.linalg.vector_norm(gradients(loss, scores, wrong), dim=1)
    late = torch.where(sure, late, torch.nan).nanmedian(1).values
    return torch.log10((late / start.clamp(min=SMALLEST)).clamp(min=SMALLEST))


def reliability(weights: Tensor, labels: Tensor) -> Tensor:
    """By bins of the largest probability, (M, `BINS`, 3): rows, sum of probabilities, rows that were named rightly."""
    confidence, named = weights.max(1)
    edges = torch.arange(1, BINS, dtype=torch.float64, device=weights.device) / BINS
    places = torch.bucketize(confidence, edges)
    values = torch.stack([torch.ones_like(confidence), confidence, (named == labels).double()], -1)
    found = torch.zeros(len(weights), BINS, 3, dtype=values.dtype, device=weights.device)
    return found.scatter_add(1, places.unsqueeze(-1).expand_as(values), values)


def _of(values: Tensor, labels: Tensor) -> Tensor:
    """The values of the labels, (M, C, N) to (M, N)."""
    return values.gather(1, labels.unsqueeze(1)).squeeze(1)

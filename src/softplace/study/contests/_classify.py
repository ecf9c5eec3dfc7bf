"""What contests share whose networks learn the classes of a table: rows in a seed's order, a target, how to measure.

Axis legend: M members, S different seeds among them, N rows, B batch, I inputs.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from softplace.study.contest import Curve, Measurement, generator
from softplace.study.data import Part, Parts
from softplace.study.store import JSON

LARGEST_DATA = 1 << 28
"""Bytes of features that one fleet may hold."""
_CACHE = 6 << 20  # bytes that the members of one fleet may train in: about a core's share of the last-level cache


class Rows:
    """Rows with classes, a set of N per seed, and the order in which a member sees them.

    The order is a fresh permutation per seed and epoch, cut into whole batches; what is left over waits for the next
    permutation. It depends on the seed and the step alone.
    """

    def __init__(self, seeds: Sequence[int], draw: Callable[[int], Part], device: torch.device, batch: int) -> None:
        self.unique = sorted(set(seeds))
        parts = [draw(seed) for seed in self.unique]
        self.features = torch.from_numpy(np.stack([part.features for part in parts])).to(device)
        self.labels = torch.from_numpy(np.stack([part.labels for part in parts])).to(device)
        self.count = self.features.shape[1]
        self.batch = min(batch, self.count)
        self._epoch = -1
        self._orders = torch.empty(0)

    def of(self, seeds: Tensor) -> Tensor:
        """Where the set of each member's seed is, (M,)."""
        return torch.searchsorted(torch.tensor(self.unique, device=seeds.device), seeds)

    def at(self, step: int, sets: Tensor) -> tuple[Tensor, Tensor]:
        """The batches of a step: inputs (M, I, B) and labels (M, B)."""
        per_epoch = self.count // self.batch
        epoch, place = divmod(step, per_epoch)
        if epoch != self._epoch:
            orders = [torch.randperm(self.count, generator=generator(seed, "order", epoch)) for seed in self.unique]
            offsets = torch.arange(len(orders))[:, None] * self.count
            self._orders = (torch.stack(orders) + offsets).to(self.features.device)
            self._epoch = epoch
        index = self._orders[sets, place * self.batch : (place + 1) * self.batch].reshape(-1)
        inputs = self.features.flatten(0, 1).index_select(0, index).view(len(sets), self.batch, -1)
        return inputs.transpose(1, 2), self.labels.flatten().index_select(0, index).view(len(sets), self.batch)

    def all(self, sets: Tensor, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """The first rows of every member's set: inputs (M, I, N) and labels (M, N)."""
        return self.features[:, :limit][sets].transpose(1, 2), self.labels[:, :limit][sets]


def nearest_mean_accuracy(parts: Parts) -> float:
    """Validation accuracy of the classifier that names the class with the nearest mean: the target to reach."""
    train, validation = parts.train, parts.validation
    classes = np.unique(train.labels)
    means = np.stack([train.features[train.labels == each].mean(0) for each in classes])
    # |x - m|^2 without |x|^2, which is the same for all classes.
    distances = (means**2).sum(1) - 2.0 * validation.features @ means.T
    return float((classes[distances.argmin(1)] == validation.labels).mean())


def first_reached(curve: Curve, target: float, budget: int) -> float:
    """The first step at which the validation accuracy was at least the target; the budget where it never was."""
    pairs = zip(curve["step"], curve["validation_accuracy"], strict=True)
    return next((step for step, value in pairs if value >= target - 1e-6), float(budget))


def rounded(values: Tensor) -> JSON:
    """Four significant digits, as a figure shows them."""
    return np.vectorize(lambda value: float(f"{value:.4g}"))(values.double().cpu().numpy()).tolist()


def measurements(columns: Mapping[str, Tensor], figures: Sequence[Mapping[str, JSON]]) -> list[Measurement]:
    """Columns of numbers, each (M,), and what the figures need of every member, by member."""
    lists = {name: column.tolist() for name, column in columns.items()}
    return [
        Measurement(metrics={name: values[member] for name, values in lists.items()}, probes=figures[member])
        for member in range(len(figures))
    ]


def fleet_size(widths: Sequence[int], batch: int) -> int:
    """How many members of these widths train fastest as one program on a CPU core: as many as its cache holds.

    Measured for 64-W-W-10 and batches of 128: 8 at W = 128 and 32 at W = 32. Fewer than 8 do not earn back the cost of
    a call.
    """
    parameters = sum((fan_in + 1) * fan_out for fan_in, fan_out in itertools.pairwise(widths))
    units = widths[0] + 3 * sum(widths[1:])  # before the map, behind it, and a gradient
    return max(8, min(40, _CACHE // (4 * (4 * parameters + batch * units))))

"""What a study trains and measures: arms, tasks, and the members that a task makes of them.

Axis legend: M members.

A contest at a place is a small object: arms (maps with their options), tasks (what to train, on what, how it is
measured) and a report (criteria and figures). Another package adds one with an entry point of the group
`softplace.contests`, whose object is a function from `Options` to a `Contest`.
"""

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

import torch
from torch import Tensor

from softplace.maps import Map
from softplace.randomness import derive as derive
from softplace.randomness import generator as generator
from softplace.report.records import PlaceReport
from softplace.study.data import Table
from softplace.study.optimizer import Adam, Optimizer
from softplace.study.store import JSON, Role

if TYPE_CHECKING:
    from softplace.study.results import Results

Curve: TypeAlias = Mapping[str, Sequence[float]]
"""Columns of equal length: `step`, `training_loss`, and whatever `Members.evaluate` returns."""

HALF_DECADES = tuple(round(10.0 ** (k / 2), 7) for k in range(-7, 0))
"""3.2e-4 to 3.2e-1 by half decades: the seven learning rates that every arm is tuned over."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What a contest compares: a map with the options of its place.

    Args:
        name: What a reader sees; unique in the contest.
        map: A name of the registry, or a callable.
        options: What else tells this arm from the others, for the task that builds it. All of it is in the identity.
    """

    name: str
    map: str | Map
    options: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that every member ends with.

    `worst` is the value that counts for a member that diverged. `name` is the key in what `Members.measure` returns.
    """

    name: str
    label: str
    higher_is_better: bool
    worst: float


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What is known of one member at its end: numbers, and whatever JSON its probes leave for the figures."""

    metrics: Mapping[str, float]
    probes: Mapping[str, JSON] = field(default_factory=dict)


class Members(ABC):
    """Networks of one arm, stacked, each with its own data: what a fleet trains.

    `parameters` and `buffers` are dicts of tensors with a leading axis of members; the fleet moves the parameters by
    the gradient of `losses`, which must depend on the member's own slice alone. How `losses` computes is free: batched
    products, `torch.vmap`, or a loop (`looped`) where an operation cannot be batched. What depends on the step (which
    rows, fresh sequences) is in `batch`, so that `losses` is the same program at every step and can be compiled.

    Whatever is random must be a function of a member's seed and of the step (`generator`), so that a member can go on
    from a checkpoint, and so that all arms see the same numbers.
    """

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]

    @abstractmethod
    def batch(self, step: int) -> tuple[Tensor, ...]:
        """What every member trains on at a step (counted from 0): tensors with a leading axis of members."""

    @abstractmethod
    def losses(self, *batch: Tensor) -> Tensor:
        """The training loss of every member on a batch, (M,)."""

    @abstractmethod
    def evaluate(self) -> dict[str, Tensor]:
        """Columns of the learning curve now, each (M,). A member with a NaN or infinity in any has diverged."""

    def reached(self, curves: Sequence[Curve]) -> Sequence[bool]:
        """Which members need no more steps, by their curves so far (the last entry is of now). None, unless told."""
        return [False] * len(curves)

    @abstractmethod
    def measure(self, role: Role, curves: Sequence[Curve]) -> Sequence[Measurement]:
        """The final numbers of every member. "tune" needs the task's `validation` metric only; "judge" all of them."""

    def select(self, keep: Tensor) -> Self:
        """Some of the members (indices, in this order), as a new object. A subclass selects its own data too."""
        chosen = copy.copy(self)
        chosen.parameters = {name: value.detach()[keep] for name, value in self.parameters.items()}
        chosen.buffers = {name: value[keep] for name, value in self.buffers.items()}
        return chosen


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """What to train, on what, for how long. A member is known again by what `settings` says and by the fields below.

    Args:
        name: Key of the task in its contest.
        label: What a reader sees.
        steps: Budget of every member.
        evaluate_every: Steps between two points of the learning curve; divergence is noticed there.
        learning_rates: The grid, ascending, with equal ratios.
        optimizer: The same for all arms.
        largest_fleet: Most members trained as one program on a CPU (caches; and each holds its data).
        arms: Names of the contest's arms that it trains; `None`: all.
        compiled: Train by `torch.compile`. It takes 5 to 15 s per arm, once per machine, and a third off every step of
            a small network: worth it from some 200,000 steps of members per arm. Where there is no C++ compiler the
            same training runs uncompiled.
    """

    name: str
    label: str
    steps: int
    evaluate_every: int
    learning_rates: tuple[float, ...] = HALF_DECADES
    optimizer: Optimizer = field(default_factory=Adam)
    largest_fleet: int = 16
    arms: tuple[str, ...] | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        rates = self.learning_rates
        if self.steps < 1 or self.evaluate_every < 1 or self.largest_fleet < 1:
            raise ValueError(
                f"'steps', 'evaluate_every' and 'largest_fleet' of task {self.name!r} must be 1 or more. "
                f"Got {self.steps}, {self.evaluate_every} and {self.largest_fleet}."
            )
        if len(rates) < 2 or rates[0] <= 0 or any(low >= high for low, high in itertools.pairwise(rates)):
            raise ValueError(
                f"'learning_rates' of task {self.name!r} must be two or more positive numbers, ascending. Got {rates}."
            )

    @property
    @abstractmethod
    def validation(self) -> Metric:
        """The metric that the learning rate is chosen by."""

    @property
    @abstractmethod
    def metrics(self) -> Sequence[Metric]:
        """The metrics that are judged."""

    @abstractmethod
    def settings(self) -> Mapping[str, JSON]:
        """Everything that determines a member but its arm, seed, learning rate, steps and optimizer."""

    @abstractmethod
    def members(self, arm: Arm, seeds: Sequence[int], device: torch.device) -> Members:
        """Fresh members, one per seed. The draw depends on the seed, and on the arm in what it must only."""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Maps compared at one place: what is trained, and how it is judged.

    `code` are the modules whose source decides what a member's numbers are: a change there trains anew. `uses` are the
    fields of `Options` that the contest heeds; a study in which no contest heeds what a person chose is refused.
    """

    place: str
    name: str
    arms: tuple[Arm, ...]
    tasks: tuple[Task, ...]
    report: Callable[["Results"], PlaceReport]
    code: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind, each in (("arms", self.arms), ("tasks", self.tasks)):
            names = [one.name for one in each]
            if not names or len(set(names)) < len(names):
                raise ValueError(f"{kind!r} of contest {self.name!r} must be named, each differently. Got {names}.")

    def arms_of(self, task: Task) -> tuple[Arm, ...]:
        """Those that a task trains, in the contest's order."""
        return tuple(arm for arm in self.arms if task.arms is None or arm.name in task.arms)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a person chose for a study; a contest takes from it what it has use for.

    `table` and `text` (the files of a parallel text) are of `data` and `target`; there is one of them at most.
    """

    preset: Literal["quick", "full"] = "quick"
    maps: tuple[str | Map, ...] | None = None
    table: Table | None = None
    text: tuple[str, str] | None = None


def looped(function: Callable[..., Tensor], *arguments: Mapping[str, Tensor] | Tensor) -> Tensor:
    """Apply a function to each member's slice of the arguments and stack: `torch.vmap` for what cannot be batched."""
    first = arguments[0]
    count = len(first) if isinstance(first, Tensor) else len(next(iter(first.values())))
    results = []
    for member in range(count):
        slices = (
            each[member] if isinstance(each, Tensor) else {name: value[member] for name, value in each.items()}
            for each in arguments
        )
        results.append(function(*slices))
    return torch.stack(results)

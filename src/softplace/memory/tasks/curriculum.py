"""Which lesson comes next: from `Task.levels`, easy to hard.

A curriculum is a frozen dataclass. What changes while training is a `Progress`, a few plain numbers that a checkpoint
can hold: `lesson = curriculum.choose(progress, count, generator)`, then `progress = curriculum.record(...)`.

Lessons are counted from 0; `count` is how many the task has.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from softplace.errors import InputError, nearest
from softplace.memory.tasks.task import build_fields, whole


class Progress(NamedTuple):
    """How far a training has come.

    Fields:
        lesson: The hardest lesson reached.
        sequences: Trained on so far, of all lessons.
        measured: Of this lesson, since it began or was last judged.
        error: Sum of the errors of those.
    """

    lesson: int = 0
    sequences: int = 0
    measured: int = 0
    error: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Curriculum(ABC):
    """How lessons are chosen, and when the next one is reached."""

    name: ClassVar[str]

    @abstractmethod
    def choose(self, progress: Progress, count: int, generator: torch.Generator) -> int:
        """The lesson of the next batch, 0 .. count - 1."""

    def record(self, progress: Progress, count: int, lesson: int, sequences: int, error: float) -> Progress:
        """The progress after a batch.

        Args:
            progress: Before it.
            count: Lessons of the task.
            lesson: The one that was chosen.
            sequences: In the batch.
            error: The mean share of wrong answers of the batch, 0 to 1.
        """
        return progress._replace(sequences=progress.sequences + sequences)


@dataclass(frozen=True, kw_only=True)
class Uniform(Curriculum):
    """No lessons: the task as it is, every difficulty equally likely from the start, as in the NTM's paper."""

    name: ClassVar[str] = "uniform"

    def choose(self, progress: Progress, count: int, generator: torch.Generator) -> int:
        return count - 1


@dataclass(frozen=True, kw_only=True)
class Linear(Curriculum):
    """One lesson after the other, each for an equal share of `over` sequences; then the last one.

    Args:
        over: Sequences until the last lesson is done.
    """

    over: int = 100_000

    name: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        whole("over", self.over, 1)

    def choose(self, progress: Progress, count: int, generator: torch.Generator) -> int:
        return min(progress.sequences * count // self.over, count - 1)

    def record(self, progress: Progress, count: int, lesson: int, sequences: int, error: float) -> Progress:
        after = super().record(progress, count, lesson, sequences, error)
        return after._replace(lesson=min(after.sequences * count // self.over, count - 1))


@dataclass(frozen=True, kw_only=True)
class Advance(Curriculum):
    """The next lesson once the error of this one is low, with a share of earlier lessons (Graves et al. 2016, Methods).

    A share `earlier` of the batches is from a lesson before, all equally likely; the others are of the lesson reached.
    It is judged on the batches of its own alone, `window` sequences at a time.

    Args:
        threshold: The mean share of wrong answers below which the next lesson begins (the paper: 10 % wrong).
        earlier: Share of batches from lessons before (the paper: 10 %).
        window: Sequences that a judgement needs. The paper does not say.
    """

    threshold: float = 0.1
    earlier: float = 0.1
    window: int = 500

    name: ClassVar[str] = "advance"

    def __post_init__(self) -> None:
        _share("threshold", self.threshold)
        _share("earlier", self.earlier)
        whole("window", self.window, 1)

    def choose(self, progress: Progress, count: int, generator: torch.Generator) -> int:
        reached = min(progress.lesson, count - 1)
        if reached and _number(generator) < self.earlier:
            return int(_number(generator) * reached)
        return reached

    def record(self, progress: Progress, count: int, lesson: int, sequences: int, error: float) -> Progress:
        after = super().record(progress, count, lesson, sequences, error)
        return _judge(after, count, lesson == progress.lesson, sequences, error, self.threshold, self.window)


@dataclass(frozen=True, kw_only=True)
class Mixed(Curriculum):
    """Around the lesson reached, with some of all lessons (Zaremba and Sutskever 2015, the memory tasks' curriculum).

    A share `anywhere` of the batches is of any lesson; a share `below` of any up to C + e; the others of C + e, with C
    the lesson reached and e geometric (0 with probability 1/2, 1 with 1/4, ...), at most the last lesson.
    C rises as in `Advance`, on batches of lesson C or harder.

    Args:
        anywhere: Share of batches of any lesson (the paper: 10 %).
        below: Share of batches of a lesson up to C + e (the paper: 25 %).
        threshold: The mean share of wrong answers below which C rises (the paper: 20 %).
        window: Sequences that a judgement needs.
    """

    anywhere: float = 0.1
    below: float = 0.25
    threshold: float = 0.2
    window: int = 500

    name: ClassVar[str] = "mixed"

    def __post_init__(self) -> None:
        for each in ("anywhere", "below", "threshold"):
            _share(each, getattr(self, each))
        if self.anywhere + self.below > 1:
            raise InputError(
                f"'anywhere' and 'below' must be at most 1 together. Got {self.anywhere} and {self.below}. Lower one."
            )
        whole("window", self.window, 1)

    def choose(self, progress: Progress, count: int, generator: torch.Generator) -> int:
        kind, place = _number(generator), _number(generator)
        if kind < self.anywhere:
            return int(place * count)
        hardest = min(progress.lesson, count - 1)
        while hardest < count - 1 and _number(generator) < 0.5:
            hardest += 1
        return int(place * (hardest + 1)) if kind < self.anywhere + self.below else hardest

    def record(self, progress: Progress, count: int, lesson: int, sequences: int, error: float) -> Progress:
        after = super().record(progress, count, lesson, sequences, error)
        return _judge(after, count, lesson >= progress.lesson, sequences, error, self.threshold, self.window)


_KINDS: dict[str, type[Curriculum]] = {each.name: each for each in (Uniform, Linear, Advance, Mixed)}


def names() -> tuple[str, ...]:
    """The names that `get` knows."""
    return tuple(_KINDS)


def get(name: str, **options: float) -> Curriculum:
    """The curriculum of a name; `options` are the fields of its class.

    Raises:
        InputError: No such curriculum, no such option, or a value that it cannot have.

    >>> get("advance", threshold=0.05).window
    500
    """
    if name not in _KINDS:
        raise InputError(f"Unknown curriculum {name!r}. {nearest(str(name), names())}")
    return build_fields(_KINDS[name], f"Curriculum {name!r}", options)


def _judge(
    progress: Progress, count: int, counts: bool, sequences: int, error: float, threshold: float, window: int
) -> Progress:
    """Add a batch to what is measured of the lesson; at the end of a window go on, or measure again."""
    if not counts:
        return progress
    measured, total = progress.measured + sequences, progress.error + error * sequences
    if measured < window:
        return progress._replace(measured=measured, error=total)
    good = total / measured < threshold
    lesson = min(progress.lesson + good, count - 1)
    return progress._replace(lesson=lesson, measured=0, error=0.0)


def _number(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator, device=generator.device, dtype=torch.float64))


def _share(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(f"{name!r} must be a number from 0 to 1. Got {value!r}. Use for instance 0.1.")

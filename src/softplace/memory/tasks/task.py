"""What a memory task is: a generator of episodes that knows its loss, its measures and the papers' settings.

Axes: T time, B batch, I inputs, O outputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from softplace.errors import InputError, nearest

Span = int | tuple[int, int]
"""A whole number, or the least and the most (both included) of a uniform draw."""
Setting = int | float | str
"""A value of a preset."""


class Episode(NamedTuple):
    """A batch of sequences, the shorter ones padded at their end.

    Fields:
        inputs: (T, B, I).
        targets: (T, B, O) bits as floats, or (T, B) indices of words.
        mask: (T, B), True = the output of this step counts. False at padded steps.
        lengths: (B,), the number of steps that are no padding.
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor
    lengths: Tensor

    def to(self, device: torch.device | str) -> "Episode":
        """The same episode on another device."""
        return Episode(*(each.to(device) for each in self))


class Task(ABC):
    """A task: subclasses are frozen keyword-only dataclasses whose fields are its sizes and its difficulty.

    A subclass gives `name`, `difficulty` (which fields `sample` may override), `presets` (the papers' settings by
    model), `input_size`, `output_size`, `_draw`, `loss`, `errors`, and, where there are any, `longer` and `levels`.
    """

    name: ClassVar[str]
    difficulty: ClassVar[tuple[str, ...]] = ()
    presets: ClassVar[Mapping[str, Mapping[str, Setting]]] = {}

    @property
    @abstractmethod
    def input_size(self) -> int:
        """I, the width of an input."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """O, the number of logits of a step."""

    @abstractmethod
    def _draw(self, batch: int, generator: torch.Generator) -> Episode:
        """`sample` at the difficulty of this object."""

    @abstractmethod
    def loss(self, outputs: Tensor, episode: Episode) -> Tensor:
        """The cost of each sequence: logits (T, B, O) -> bits (B,), differentiable."""

    @abstractmethod
    def errors(self, outputs: Tensor, episode: Episode) -> dict[str, Tensor]:
        """The measures of the paper by name: logits (T, B, O) -> (B,) each."""

    @property
    def longer(self) -> Mapping[str, Mapping[str, Any]]:
        """What to evaluate beyond the range of training: a label -> overrides of `sample`."""
        return {}

    @property
    def levels(self) -> tuple[Mapping[str, Any], ...]:
        """Lessons of a curriculum, the easiest first, as overrides of `sample`; the last is the task itself."""
        return ({},)

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be said beside any number that comes from this task."""
        return ()

    def sample(self, batch: int, generator: torch.Generator, **difficulty: Any) -> Episode:
        """A batch of fresh episodes, on the device of the generator; equal generators draw equal episodes.

        Args:
            batch: B, 0 or more.
            generator: The only source of randomness.
            difficulty: Overrides of the fields that `self.difficulty` names, for instance `length=50`.

        Raises:
            InputError: No such difficulty, or a value that the task cannot have.
        """
        whole("batch", batch, 0)
        return self.harder(**difficulty)._draw(batch, generator)

    def harder(self, **difficulty: Any) -> Self:
        """This task at another difficulty; sizes stay, so that a trained net fits.

        Raises:
            InputError: No such difficulty, or a value that the task cannot have.
        """
        for each in difficulty:
            if each not in self.difficulty:
                known = nearest(each, self.difficulty) if self.difficulty else "It has none."
                raise InputError(f"Task {self.name!r} has no difficulty {each!r}. {known}")
        return replace(self, **difficulty) if difficulty else self  # type: ignore[type-var]

    def preset(self, model: str) -> dict[str, Setting]:
        """The papers' settings for a model: its keyword arguments, and `learning_rate` and `batch`.

        Models: "ntm" (LSTM controller), "ntm-feedforward", "dnc", "lstm".

        Raises:
            InputError: The papers have no such model on this task.
        """
        if model not in self.presets:
            known = nearest(model, tuple(self.presets)) if self.presets else "It has none."
            raise InputError(f"Task {self.name!r} has no preset for model {model!r}. {known}")
        return dict(self.presets[model])

    def check(self, outputs: Tensor, episode: Episode) -> None:
        """Outputs must be the logits of this episode.

        Raises:
            InputError: Another shape.
        """
        expected = (*episode.mask.shape, self.output_size)
        if outputs.shape != expected:
            raise InputError(
                f"'outputs' of task {self.name!r} must be logits (T, B, O) = {expected}. Got {tuple(outputs.shape)}. "
                f"Build the net with output_size={self.output_size} and time first."
            )


Kind = TypeVar("Kind")


def build_fields(kind: type[Kind], title: str, options: Mapping[str, Any]) -> Kind:
    """A dataclass from options by name, unknown ones refused.

    Raises:
        InputError: An option that it does not have, or a value that it cannot have.
    """
    known = tuple(each.name for each in fields(kind) if each.init and each.name != "name")  # type: ignore[arg-type]
    for each in options:
        if each not in known:
            hint = nearest(each, known) if known else "It has none."
            raise InputError(f"{title} has no option {each!r}. {hint}")
    return kind(**options)


def whole(name: str, value: object, least: int) -> int:
    """A whole number of at least `least`.

    Raises:
        InputError: It is another thing.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(
            f"{name!r} must be a whole number of at least {least}. Got {value!r}. Use for instance {least}."
        )
    return value


def span(name: str, value: object, least: int) -> tuple[int, int]:
    """A whole number or a pair (least, most) as a pair.

    Raises:
        InputError: It is another thing, below `least`, or the wrong way round.
    """
    pair = tuple(value) if isinstance(value, list | tuple) else (value, value)
    good = len(pair) == 2 and all(isinstance(each, int) and not isinstance(each, bool) for each in pair)
    if not good or not least <= pair[0] <= pair[1]:
        raise InputError(
            f"{name!r} must be a whole number of at least {least}, or a pair (least, most) of such. "
            f"Got {value!r}. Use for instance ({least}, {least + 9})."
        )
    return pair


def draw(between: tuple[int, int], batch: int, generator: torch.Generator, *, equal: bool = False) -> Tensor:
    """Uniform whole numbers (B,) between two that are both included; `equal` = one number for the whole batch."""
    low, high = between
    values = torch.randint(low, high + 1, (1 if equal else batch,), generator=generator, device=generator.device)
    return values.expand(batch) if equal else values

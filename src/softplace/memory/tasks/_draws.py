"""Random choices for tasks that build structures in Python, all from one `torch.Generator`."""

from collections.abc import Sequence
from typing import TypeVar

import torch

from softplace.errors import InputError
from softplace.memory.tasks.task import span

Item = TypeVar("Item")
_BLOCK = 256


class Draws:
    """Uniform choices. Numbers are drawn from the generator in blocks, as a call per number would be the whole cost."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._numbers: list[float] = []

    def number(self) -> float:
        """Uniform on [0, 1)."""
        if not self._numbers:
            generator = self._generator
            block = torch.rand(_BLOCK, dtype=torch.float64, generator=generator, device=generator.device)
            self._numbers = block.tolist()
        return self._numbers.pop()

    def below(self, count: int) -> int:
        """Uniform on 0 .. count - 1."""
        return int(self.number() * count)

    def within(self, between: tuple[int, int]) -> int:
        """Uniform, both ends included."""
        return between[0] + self.below(between[1] - between[0] + 1)

    def choice(self, items: Sequence[Item]) -> Item:
        return items[self.below(len(items))]

    def sample(self, items: Sequence[Item], count: int) -> list[Item]:
        """`count` different places of `items` in random order (the first steps of a Fisher-Yates shuffle)."""
        pool = list(items)
        for place in range(count):
            other = place + self.below(len(pool) - place)
            pool[place], pool[other] = pool[other], pool[place]
        return pool[:count]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        return self.sample(items, len(items))


def bounded(name: str, value: object, least: int, most: int) -> tuple[int, int]:
    """A difficulty as a pair, both ends within least .. most.

    Raises:
        InputError: It is another thing.

    >>> bounded("nodes", 5, 1, 10), bounded("nodes", (2, 4), 1, 10)
    ((5, 5), (2, 4))
    """
    pair = span(name, value, least)
    if pair[1] > most:
        raise InputError(f"{name!r} must be at most {most}. Got {value!r}. Use for instance ({least}, {most}).")
    return pair

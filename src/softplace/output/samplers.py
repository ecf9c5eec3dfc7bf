"""Where the classes of a sampled loss come from: proposal distributions over the vocabulary.

Axis legend: S samples, V classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.output._arguments import check_sizes, class_counts


class Sampler(Protocol):
    """Draws classes, with replacement."""

    @property
    def classes(self) -> int:
        """V."""

    def draw(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Class indices, (S,), on a CPU or on the generator's device."""

    def log_prob(self, index: Tensor) -> Tensor:
        """Logarithms of the probabilities of classes, in float32."""


@dataclass(frozen=True)
class Uniform:
    """All classes alike."""

    classes: int

    def __post_init__(self) -> None:
        check_sizes(classes=self.classes)

    def draw(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """As `Sampler`."""
        return torch.randint(self.classes, (count,), generator=generator, device=_device(generator))

    def log_prob(self, index: Tensor) -> Tensor:
        """As `Sampler`."""
        return torch.full(index.shape, -math.log(self.classes), device=index.device)


@dataclass(frozen=True)
class LogUniform:
    """`q(v) = log((v + 2) / (v + 1)) / log(V + 1)`: near Zipf's law where classes are in the order of their frequency.

    Source: the log-uniform candidate sampler of TensorFlow (`tf.random.log_uniform_candidate_sampler`).

    >>> sampler = LogUniform(1000)
    >>> round(sampler.log_prob(torch.arange(1000)).exp().sum().item(), 5)
    1.0
    """

    classes: int

    def __post_init__(self) -> None:
        check_sizes(classes=self.classes)

    def draw(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """As `Sampler`, by the inverse of the distribution function."""
        uniform = torch.rand(count, dtype=torch.float64, generator=generator, device=_device(generator))
        return ((uniform * math.log(self.classes + 1)).exp() - 1.0).long().clamp(max=self.classes - 1)

    def log_prob(self, index: Tensor) -> Tensor:
        """As `Sampler`."""
        return (torch.log1p(1.0 / (index.double() + 1.0)) / math.log(self.classes + 1)).log().float()


class Unigram:
    """`q(v)` as `count_v^power`, such that it sums to one.

    Args:
        counts: One per class, (V,), finite, not negative, and not all 0.
        power: 1 for the frequencies; 0.75 as Mikolov et al. 2013 (arXiv:1310.4546, section 2.2).

    Raises:
        InputError: Not such numbers. A class of count 0 is never drawn.

    >>> Unigram(torch.tensor([3.0, 1.0]), power=1.0).log_prob(torch.tensor([0, 1])).exp().tolist()
    [0.75, 0.25]
    """

    def __init__(self, counts: Tensor | Sequence[float], power: float = 1.0) -> None:
        numbers = class_counts(counts)
        if not bool(numbers.any()):
            raise InputError("'counts' must not all be 0. Got zeros alone. Add 1 to each.")
        if not isinstance(power, (int, float)) or not 0.0 <= power < math.inf:
            raise InputError(f"'power' must be finite and not negative. Got {power!r}. Use 1.0.")
        # Of the largest 1, so that a power of none overflows.
        mass = torch.where(numbers > 0.0, (numbers / numbers.max()) ** power, 0.0)
        self._sums = mass.cumsum(0)
        self._logs = (mass / mass.sum()).log().float()

    @property
    def classes(self) -> int:
        """V."""
        return len(self._logs)

    def draw(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """As `Sampler`, by the inverse of the distribution function."""
        device = _device(generator) if generator is not None else self._sums.device
        sums = self._sums.to(device)
        # Of a number in [0, total), the first sum above it: never a class of count 0.
        uniform = torch.rand(count, dtype=torch.float64, generator=generator, device=device) * sums[-1]
        return torch.searchsorted(sums, uniform, right=True).clamp(max=self.classes - 1)

    def log_prob(self, index: Tensor) -> Tensor:
        """As `Sampler`."""
        return self._logs.to(index.device)[index]


def _device(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device

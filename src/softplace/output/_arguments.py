"""Sizes, counts of classes and samplers, checked in one place.

Axis legend: V classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.maps._arguments import kind


def check_sizes(**sizes: int) -> None:
    """Raise `InputError` for a size that is no whole number from 1."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise InputError(f"{name!r} must be a whole number from 1. Got {size!r}. Use e.g. 8.")


def class_counts(counts: Tensor | Sequence[float], least: int = 1) -> Tensor:
    """The counts of so many classes or more, (V,) in float64: finite and not negative, else `InputError`."""
    numbers = counts.detach().double() if isinstance(counts, Tensor) and _holds_counts(counts) else None
    if numbers is None and _holds_numbers(counts):
        numbers = torch.tensor(counts, dtype=torch.float64)
    if numbers is None or len(numbers) < least or not bool((numbers.isfinite() & (numbers >= 0.0)).all()):
        raise InputError(
            f"'counts' must be {'one' if least == 1 else 'two'} or more finite numbers that are not negative, one per "
            f"class. Got {kind(counts) if numbers is None else numbers[:5].tolist()}. Use e.g. torch.bincount(targets, "
            "minlength=classes)."
        )
    return numbers


def check_sampler(sampler: object, prefix: str = "") -> None:
    """Raise TypeError unless it is one; `prefix`: " of NAME"."""
    if not all(hasattr(sampler, each) for each in ("classes", "draw", "log_prob")):
        raise TypeError(f"'sampler'{prefix} must draw classes. Got {kind(sampler)}. Use e.g. LogUniform(classes).")


def _holds_counts(counts: Tensor) -> bool:
    return counts.dim() == 1 and not counts.is_complex() and counts.dtype != torch.bool


def _holds_numbers(counts: object) -> bool:
    return isinstance(counts, Sequence) and all(isinstance(each, (int, float)) for each in counts)

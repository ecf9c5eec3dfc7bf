"""Probabilities and labels of a probe, checked.

Axis legend: `...` leading axes (members of a fleet, ...), N examples, C classes.
"""

import torch
from torch import Tensor

from softplace.probes._tensors import prepare


def check_range(probe: str, name: str, values: Tensor) -> None:
    """Refuse numbers that are no probabilities; NaN passes, and 1e-2 allows for the rounding of bfloat16."""
    if ((values < 0) | (values > 1.01)).any():
        numbers = values[~values.isnan()]
        smallest, largest = numbers.min().item(), numbers.max().item()
        raise ValueError(
            f"'{name}' of {probe} must lie between 0 and 1. Got numbers from {smallest:g} to {largest:g}. "
            "Apply softmax if these are logits."
        )


def distributions(probe: str, name: str, probabilities: Tensor) -> Tensor:
    values = prepare(probe, name, probabilities, "N, C")
    check_range(probe, name, values)
    error = (values.sum(-1) - 1).abs()
    if (error > 0.01).any():
        worst = values.sum(-1).flatten()[error.flatten().nan_to_num(0.0).argmax()].item()
        raise ValueError(
            f"'{name}' of {probe} must sum to 1 over the last axis. Got a row with the sum {worst:g}. "
            "Divide by the sum, or check which axis holds the classes."
        )
    return values


def classes_of(probe: str, labels: Tensor, values: Tensor) -> Tensor:
    """Check the labels and broadcast them to the leading axes of `values` (..., N, C)."""
    integer = isinstance(labels, Tensor) and not (
        labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool
    )
    if not integer:
        got = f"a tensor of {labels.dtype}" if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"'labels' of {probe} must be an integer tensor. Got {got}. Use labels.long().")
    try:
        classes = labels.long().expand(values.shape[:-1])
    except RuntimeError:
        raise ValueError(
            f"'labels' of {probe} must broadcast to {tuple(values.shape[:-1])}. Got {tuple(labels.shape)}. "
            "Give one class per example."
        ) from None
    count = values.shape[-1]
    if ((classes < 0) | (classes >= count)).any():
        raise ValueError(
            f"'labels' of {probe} must be classes from 0 to {count - 1}. Got labels from {int(classes.min())} to "
            f"{int(classes.max())}. Leave out the examples to ignore."
        )
    return classes

"""What is compared with what, and in which bins: probabilities of events against how often the events came true.

Axis legend: `...` leading axes (members of a fleet, ...), G groups with bins of their own, N examples, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softplace.errors import nearest
from softplace.probes._distributions import classes_of, distributions

KINDS = ("confidence", "top-label", "class")
BINNINGS = ("width", "mass")


@dataclass(frozen=True, kw_only=True)
class Events:
    """Probabilities of events, and whether they came true.

    Args:
        probability: (..., G, N) in float64.
        outcome: The same shape, boolean.
        member: Which examples a group has, the same shape; `None`: all of them.
        weight: What an example counts: 1, or 1 / G where it is in every group.
        broken: (...), where the probabilities hold a NaN.
    """

    probability: Tensor
    outcome: Tensor
    member: Tensor | None
    weight: float
    broken: Tensor

    def nan(self, result: Tensor, axes: int = 0) -> Tensor:
        """NaN in place of a result with so many axes of its own, where the probabilities hold one."""
        return torch.where(self.broken[(...,) + (None,) * axes], torch.nan, result)


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Sums over the bins of every group.

    Args:
        index: (..., G, N), the bin of an example; the number of bins where the group does not have it.
        count: (..., G, bins), examples.
        expected: Sum of their probabilities, the same shape.
        observed: How many of their events came true, the same shape.
    """

    index: Tensor
    count: Tensor
    expected: Tensor
    observed: Tensor

    def gap(self) -> Tensor:
        """Frequency less mean probability; 0 in an empty bin."""
        return (self.observed - self.expected) / self.count.clamp(min=1)


def events_of(probe: str, probabilities: Tensor, labels: Tensor, of: str) -> Events:
    """The events of a kind: that the largest probability is right (once, or apart for each class), or every class."""
    if not isinstance(of, str) or of not in KINDS:
        raise ValueError(f"'of' of {probe} must be one of the names below. Got {of!r}. {nearest(str(of), KINDS)}")
    values = distributions(probe, "probabilities", probabilities)
    classes = classes_of(probe, labels, values)
    broken = values.isnan().any(-1).any(-1)
    numbers = torch.arange(values.shape[-1], device=values.device)[:, None]
    if of == "class":
        outcome = classes[..., None, :] == numbers
        return Events(probability=values.mT, outcome=outcome, member=None, weight=1 / values.shape[-1], broken=broken)
    confidence, predicted = values.max(-1)
    right = (predicted == classes)[..., None, :]
    if of == "confidence":
        return Events(probability=confidence[..., None, :], outcome=right, member=None, weight=1.0, broken=broken)
    member = predicted[..., None, :] == numbers
    shape = member.shape
    return Events(
        probability=confidence[..., None, :].expand(shape),
        outcome=right.expand(shape),
        member=member,
        weight=1.0,
        broken=broken,
    )


def events_of_class(probe: str, probabilities: Tensor, labels: Tensor, number: int) -> Events:
    """The one event that an example is of a class."""
    values = distributions(probe, "probabilities", probabilities)
    classes = classes_of(probe, labels, values)
    if isinstance(number, bool) or not 0 <= number < values.shape[-1]:
        raise ValueError(
            f"'of' of {probe} must be 'confidence' or a class from 0 to {values.shape[-1] - 1}. Got {number!r}. "
            "Count classes from 0."
        )
    return Events(
        probability=values[..., None, :, number],
        outcome=(classes == number)[..., None, :],
        member=None,
        weight=1.0,
        broken=values.isnan().any(-1).any(-1),
    )


def check_bins(probe: str, bins: int, binning: str) -> None:
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ValueError(f"'bins' of {probe} must be a positive integer. Got {bins!r}. Use e.g. 15.")
    if not isinstance(binning, str) or binning not in BINNINGS:
        way = nearest(str(binning), BINNINGS)
        raise ValueError(f"'binning' of {probe} must be one of the names below. Got {binning!r}. {way}")


def bin_events(events: Events, bins: int, binning: str, dtype: torch.dtype) -> Bins:
    """Put the events into bins that are closed on the right.

    Args:
        dtype: Of the probabilities that the user gave: bins of equal width are found in it, so that a float32
            probability of 0.2 is not above 3/15.
    """
    values = events.probability.contiguous()
    if binning == "width":
        edges = torch.arange(1, bins, dtype=torch.float64, device=values.device) / bins
        index = torch.bucketize(values, edges.to(dtype).double())
    else:
        ordered, size = sort_members(events)
        # Bin m ends with example ceil(m n / bins); equal probabilities share the bin of the last edge below them.
        ends = -(-torch.arange(1, bins, device=values.device) * size[..., None] // bins)
        edges = ordered.gather(-1, (ends - 1).clamp(min=0))
        index = torch.searchsorted(edges, values)
    if events.member is not None:
        index = torch.where(events.member, index, bins)
    sums = [sum_by(index, each, bins) for each in (torch.ones_like(values), values, events.outcome.double())]
    return Bins(index=index, count=sums[0], expected=sums[1], observed=sums[2])


def sort_members(events: Events) -> tuple[Tensor, Tensor]:
    """The probabilities of each group in ascending order, others behind them, and how many the group has."""
    values = events.probability
    if events.member is None:
        return values.sort(-1).values, torch.full(values.shape[:-1], values.shape[-1], device=values.device)
    return torch.where(events.member, values, torch.inf).sort(-1).values, events.member.sum(-1)


def sum_by(index: Tensor, values: Tensor, bins: int) -> Tensor:
    """Sums of values (..., N) by bin, (..., bins); the bin of that number is left out."""
    sums = torch.zeros(*index.shape[:-1], bins + 1, dtype=torch.float64, device=values.device)
    return sums.scatter_add(-1, index, values)[..., :bins]

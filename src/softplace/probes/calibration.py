"""How far predicted probabilities are from how often they come true: calibration errors by several binnings.

Axis legend: `...` leading axes (members of a fleet, ...), G groups with bins of their own, N examples, C classes.
Everything is computed in float64 and carries no gradient; NaN in gives NaN for that leading index alone.
Labels may lack leading axes: (N,) serves all members of probabilities (M, N, C).
"""

import torch
from torch import Tensor

from softplace.errors import nearest
from softplace.probes._binning import Bins, Events, bin_events, check_bins, events_of


@torch.no_grad()
def expected_calibration_error(
    probabilities: Tensor, labels: Tensor, *, bins: int = 15, binning: str = "width", of: str = "confidence"
) -> Tensor:
    """Expected calibration error (ECE): the mean gap between probability and frequency.

    `sum_m |B_m| / N * |frequency(B_m) - probability(B_m)|`, B_m the examples of bin m.

    Args:
        probabilities: (..., N, C), each row sums to one.
        labels: Classes, integer, (..., N) or broadcastable to it.
        bins: Number of bins. They are closed on the right.
        binning: "width": `((m - 1) / bins, m / bins]`. "mass": as many examples in each, ties together in one bin.
        of: "confidence": the largest probability, and whether it is right. "top-label": the same with bins of their own
            for each predicted class. "class": every class against the rest, and the mean over classes.

    Returns:
        (...) in float64, between 0 and 1.

    Raises:
        TypeError: `probabilities` is not a floating-point tensor, or `labels` is not an integer one.
        ValueError: a tensor is empty or has the wrong shape; a label is not in 0..C-1; a row is not a distribution;
            `bins` is not a positive integer; `binning` or `of` is unknown.

    Source: Guo et al. 2017 (arXiv:1706.04599), eq. 3; 15 bins as in their table 1. "top-label": Gupta and Ramdas 2022
    (arXiv:2107.08353). "class": Kull et al. 2019 (arXiv:1910.12656). "mass": Nguyen and
    O'Connor 2015 (arXiv:1508.05154). We find the bin in the dtype of `probabilities`, so that a float32 probability of
    0.2 is not above 3/15, and compute the rest in float64.
    The estimate has a positive bias for few examples per bin: compare it at equal N, or see `calibration_test`, which
    says what a calibrated predictor would get.

    >>> import torch
    >>> probabilities = torch.tensor([[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [0.5, 0.5]])
    >>> expected_calibration_error(probabilities, torch.tensor([0, 0, 1, 1])).item()
    0.3125
    """
    events, found = _bins("expected_calibration_error", probabilities, labels, bins, binning, of)
    return events.nan(_mean(events, found, found.gap().abs()))


@torch.no_grad()
def maximum_calibration_error(
    probabilities: Tensor, labels: Tensor, *, bins: int = 15, binning: str = "width", of: str = "confidence"
) -> Tensor:
    """Maximum calibration error (MCE): the largest gap between probability and frequency of any bin with examples.

    `max_m |frequency(B_m) - probability(B_m)|`; of `of="class"` and "top-label" over the bins of all classes.

    Args, Returns, Raises: as `expected_calibration_error`.

    Source: Guo et al. 2017 (arXiv:1706.04599), eq. 5. A bin of one example decides it: use `binning="mass"`.

    >>> import torch
    >>> probabilities = torch.tensor([[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [0.5, 0.5]])
    >>> maximum_calibration_error(probabilities, torch.tensor([0, 0, 1, 1])).item()
    0.5
    """
    events, found = _bins("maximum_calibration_error", probabilities, labels, bins, binning, of)
    return events.nan(found.gap().abs().amax((-2, -1)))


@torch.no_grad()
def squared_calibration_error(
    probabilities: Tensor,
    labels: Tensor,
    *,
    bins: int = 15,
    binning: str = "mass",
    of: str = "confidence",
    debiased: bool = True,
) -> Tensor:
    """Squared calibration error: the mean squared gap between probability and frequency, less what noise adds to it.

    `sum_m |B_m| / N * ((f_m - p_m)^2 - f_m (1 - f_m) / (|B_m| - 1))`, f_m frequency and p_m mean probability of bin m.

    Args:
        probabilities, labels, bins, binning, of: as `expected_calibration_error`; bins have equal mass when not given.
        debiased: Subtract the second term. Without, the estimate is at least 0 and too large.

    Returns:
        (...) in float64. A debiased one may be below 0, and is then not told apart from 0; its root where it is
        positive compares with ECE.

    Raises:
        As `expected_calibration_error`; TypeError: `debiased` is not a bool.

    Source: Kumar, Liang and Ma 2019 (arXiv:1909.10155), section 5. As in their package, a bin of one example, which has
    no unbiased estimate, counts 0 when debiased. What is within a bin is not seen: of a predictor with continuous
    probabilities it is a lower bound (their proposition 3.3).

    >>> import torch
    >>> level = torch.tensor([[0.75, 0.25]]).expand(4, 2)
    >>> round(squared_calibration_error(level, torch.tensor([0, 1, 1, 0])).item(), 6)
    -0.020833
    """
    if not isinstance(debiased, bool):
        raise TypeError(
            f"'debiased' of squared_calibration_error must be True or False. Got {debiased!r}. Use True for the "
            "unbiased estimate."
        )
    events, found = _bins("squared_calibration_error", probabilities, labels, bins, binning, of)
    squares = found.gap().square()
    if debiased:
        squares = torch.where(found.count > 1, squares - noise(found), 0.0)
    return events.nan(_mean(events, found, squares))


@torch.no_grad()
def sweep_calibration_error(probabilities: Tensor, labels: Tensor, *, of: str = "confidence", norm: int = 1) -> Tensor:
    """ECE with as many bins of equal mass as keep the frequencies in order: no number of bins to choose.

    The largest b such that with 1, 2, ..., b bins the frequencies never fall from a bin to the next; then
    `(sum_m |B_m| / N * |f_m - p_m|^norm)^(1 / norm)` with b bins.

    Args:
        probabilities, labels: as `expected_calibration_error`.
        of: "confidence", or "class": every class against the rest, each with its own number of bins, and the mean.
        norm: 1, which compares with ECE, or 2.

    Returns:
        (...) in float64, between 0 and 1.

    Raises:
        As `expected_calibration_error`; ValueError: `norm` is not 1 or 2.

    Source: Roelofs et al. 2022 (arXiv:2012.08668), algorithm 1; its code takes norm 2 where none is given. Equal
    probabilities share a bin here, so that the order of the rows does not matter.

    >>> import torch
    >>> probabilities = torch.tensor([[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [0.5, 0.5]])
    >>> sweep_calibration_error(probabilities, torch.tensor([0, 0, 1, 1])).item()
    0.3125
    """
    probe = "sweep_calibration_error"
    if norm not in (1, 2) or isinstance(norm, bool):
        raise ValueError(f"'norm' of {probe} must be 1 or 2. Got {norm!r}. Use 1 to compare with ECE.")
    if of not in ("confidence", "class"):
        way = nearest(str(of), ("confidence", "class"))
        raise ValueError(f"'of' of {probe} must be one of the names below. Got {of!r}. {way}")
    events = events_of(probe, probabilities, labels, of)
    values, order = events.probability.sort(-1)
    flat = values.flatten(0, -2)
    gains = events.outcome.gather(-1, order).double().flatten(0, -2)
    gaps = _sweep(flat, gains, norm).view(values.shape[:-1])
    return events.nan(gaps.mean(-1))


def _sweep(values: Tensor, outcomes: Tensor, norm: int) -> Tensor:
    """The error of each row of sorted probabilities (R, N) with as many bins as keep the frequencies in order."""
    rows, size = values.shape
    # An edge may stand only where the next probability is another: at the end of a run of equal ones.
    ends = torch.searchsorted(values.contiguous(), values.contiguous(), right=True)
    zero = values.new_zeros(rows, 1)
    expected, observed = (torch.cat([zero, each.cumsum(-1)], -1) for each in (values, outcomes))

    def binned(at: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        last = -(-torch.arange(1, count + 1, device=values.device) * size // count)
        places = torch.cat([zero[at].long(), ends[at][:, last - 1]], -1)
        return (
            places.diff(dim=-1).double(),
            expected[at].gather(-1, places).diff(dim=-1),
            observed[at].gather(-1, places).diff(dim=-1),
        )

    best = torch.ones(rows, dtype=torch.long, device=values.device)
    going = torch.arange(rows, device=values.device)
    for count in range(2, size + 1):
        number, _, hits = binned(going, count)
        frequency = torch.where(number > 0, hits / number.clamp(min=1), -1.0)
        in_order = ((number == 0) | (frequency >= frequency.cummax(-1).values)).all(-1)
        going = going[in_order]
        if not len(going):
            break
        best[going] = count
    errors = torch.zeros(rows, dtype=torch.float64, device=values.device)
    for count in sorted(set(best.tolist())):
        at = (best == count).nonzero()[:, 0]
        number, sums, hits = binned(at, count)
        gap = (hits - sums).abs() / number.clamp(min=1)
        errors[at] = ((number / size) * gap**norm).sum(-1) ** (1 / norm)
    return errors


def noise(found: Bins) -> Tensor:
    """Unbiased estimate of the variance of each bin's frequency; 0 in a bin of fewer than two examples."""
    frequency = found.observed / found.count.clamp(min=1)
    return frequency * (1 - frequency) / (found.count - 1).clamp(min=1)


def _bins(probe: str, probabilities: Tensor, labels: Tensor, bins: int, binning: str, of: str) -> tuple[Events, Bins]:
    check_bins(probe, bins, binning)
    events = events_of(probe, probabilities, labels, of)
    return events, bin_events(events, bins, binning, probabilities.dtype)


def _mean(events: Events, found: Bins, values: Tensor) -> Tensor:
    """Mean of a value per bin over the examples."""
    size = events.probability.shape[-1]
    return (found.count * values).sum((-2, -1)) * events.weight / size

"""Brier score in parts, the reliability diagram with what chance allows, and a test of calibration.

Axis legend: `...` leading axes (members of a fleet, ...), N examples, C classes, R resamples.
Everything is computed in float64 and carries no gradient; NaN in gives NaN for that leading index alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softplace.probes._binning import Events, bin_events, check_bins, events_of, events_of_class
from softplace.probes.calibration import noise
from softplace.probes.scores import brier_score

_NUMBERS_AT_ONCE = 4_000_000
"""Random numbers that are held at a time."""


@dataclass(frozen=True, kw_only=True)
class BrierDecomposition:
    """The parts of a Brier score, (...) each in float64, summed over classes.

    `score = reliability - resolution + uncertainty + within_variance - within_covariance`.

    Args:
        score: Brier score of all classes, as `brier_score`.
        reliability: Mean squared gap between mean probability and frequency of a bin: 0 is calibrated.
        resolution: Mean squared distance of a bin's frequency from the base rate: more is better.
        uncertainty: Variance of the labels, which no predictor changes.
        within_variance: Variance of the probabilities within their bins.
        within_covariance: Twice the covariance of probabilities and labels within bins.
    """

    score: Tensor
    reliability: Tensor
    resolution: Tensor
    uncertainty: Tensor
    within_variance: Tensor
    within_covariance: Tensor


@torch.no_grad()
def brier_decomposition(
    probabilities: Tensor, labels: Tensor, *, bins: int = 15, binning: str = "width", bias_corrected: bool = False
) -> BrierDecomposition:
    """Brier score as reliability, resolution and uncertainty, with the two terms within bins, so that it sums exactly.

    Of a class with probability p, outcome o and bins k: `sum_k n_k / N (p_k - o_k)^2 - sum_k n_k / N (o_k - o)^2 +
    o (1 - o) + mean (p - p_k)^2 - 2 mean (p - p_k)(o - o_k)`, bars left out; summed over classes.

    Args:
        probabilities: (..., N, C), each row sums to one.
        labels: Classes, integer, (..., N) or broadcastable to it.
        bins, binning: as `expected_calibration_error`, for each class.
        bias_corrected: Move what noise adds from reliability and resolution, and what it takes from uncertainty. The
            sum stays. Reliability and resolution may then be below 0.

    Raises:
        As `expected_calibration_error`; TypeError: `bias_corrected` is not a bool. Correction needs N of at least 2
        (ValueError).

    Source: Murphy 1973, applied to each class against the rest; within bins: Stephenson, Coelho and Jolliffe
    2008; correction: Ferro and Fricker 2012, without the truncation to possible values that the R package
    SpecsVerification adds. For two classes every term is twice that of the one-probability form.

    >>> import torch
    >>> parts = brier_decomposition(torch.tensor([[0.75, 0.25]]).expand(4, 2), torch.tensor([0, 1, 1, 0]))
    >>> [round(value.item(), 4) for value in (parts.score, parts.reliability, parts.resolution, parts.uncertainty)]
    [0.625, 0.125, 0.0, 0.5]
    """
    probe = "brier_decomposition"
    check_bins(probe, bins, binning)
    if not isinstance(bias_corrected, bool):
        raise TypeError(
            f"'bias_corrected' of {probe} must be True or False. Got {bias_corrected!r}. Use True where bins have few "
            "examples."
        )
    events = events_of(probe, probabilities, labels, "class")
    found = bin_events(events, bins, binning, probabilities.dtype)
    size = events.probability.shape[-1]
    outcome, share, divisor = events.outcome.double(), found.count / size, found.count.clamp(min=1)
    rate, frequency = outcome.mean(-1, keepdim=True), found.observed / divisor
    mean = found.expected / divisor
    from_mean = events.probability - mean.gather(-1, found.index)
    reliability = (share * found.gap().square()).sum((-2, -1))
    resolution = (share * (frequency - rate).square()).sum((-2, -1))
    uncertainty = (rate * (1 - rate)).sum((-2, -1))
    if bias_corrected:
        if size < 2:
            raise ValueError(
                f"'probabilities' of {probe} must have 2 examples or more to correct the bias. Got 1. Give more, or "
                "leave bias_corrected out."
            )
        excess, missing = (share * noise(found)).sum((-2, -1)), uncertainty / (size - 1)
        reliability = reliability - excess
        resolution = resolution - excess + missing
        uncertainty = uncertainty + missing
    away = outcome - frequency.gather(-1, found.index)
    return BrierDecomposition(
        score=brier_score(probabilities, labels),
        reliability=events.nan(reliability),
        resolution=events.nan(resolution),
        uncertainty=events.nan(uncertainty),
        within_variance=events.nan(from_mean.square().sum((-2, -1)) / size),
        within_covariance=events.nan(2 * (from_mean * away).sum((-2, -1)) / size),
    )


@dataclass(frozen=True, kw_only=True)
class ReliabilityDiagram:
    """What a reliability diagram draws, (..., bins) each in float64; NaN where a bin is empty, but for `count`.

    Args:
        count: Examples of a bin.
        probability: Their mean probability.
        frequency: How often the event came true.
        low, high: Wilson's interval of the frequency.
        band_low, band_high: Where the frequency lies with the given level if the predictor is calibrated.
    """

    count: Tensor
    probability: Tensor
    frequency: Tensor
    low: Tensor
    high: Tensor
    band_low: Tensor
    band_high: Tensor


@torch.no_grad()
def reliability_diagram(
    probabilities: Tensor,
    labels: Tensor,
    *,
    bins: int = 15,
    binning: str = "width",
    of: str | int = "confidence",
    level: float = 0.95,
    resamples: int = 2000,
    generator: torch.Generator | None = None,
) -> ReliabilityDiagram:
    """The points of a reliability diagram, with an interval of each and the band in which a calibrated one would lie.

    Args:
        probabilities, labels, bins, binning: as `expected_calibration_error`.
        of: "confidence": the largest probability, and whether it is right; or a class, against the rest.
        level: Of intervals and band, each bin by itself, between 0 and 1.
        resamples: R, of the band.
        generator: Of the band, on a CPU. `None`: PyTorch's own.

    Raises:
        As `expected_calibration_error`; ValueError: `level` is not between 0 and 1, or `resamples` below 20.

    Source: bands: Bröcker and Smith 2007: examples are drawn with replacement, their labels from the
    predicted probabilities. Of what is drawn only each bin's count is needed, and given it the events of a bin are
    independent with the bin's mean probability, so a count per bin and a binomial number are drawn in their place: the
    same distribution at a cost without N. Intervals: Wilson 1927.

    >>> import torch
    >>> level = torch.tensor([[0.75, 0.25]]).expand(40, 2)
    >>> found = reliability_diagram(level, torch.arange(40) % 2, bins=2, generator=torch.Generator().manual_seed(0))
    >>> found.frequency.tolist(), [round(value, 3) for value in (found.low[1].item(), found.high[1].item())]
    ([nan, 0.5], [0.352, 0.648])
    >>> bool(found.band_low[1] > 0.5)
    True
    """
    probe = "reliability_diagram"
    check_bins(probe, bins, binning)
    _check_level(probe, level)
    _check_resamples(probe, resamples)
    if isinstance(of, int):
        events = events_of_class(probe, probabilities, labels, of)
    elif of == "confidence":
        events = events_of(probe, probabilities, labels, of)
    else:
        raise ValueError(
            f"'of' of {probe} must be 'confidence' or a class. Got {of!r}. Use e.g. 0 for the first class."
        )
    found = bin_events(events, bins, binning, probabilities.dtype)
    count, empty = found.count[..., 0, :], found.count[..., 0, :] == 0
    frequency, mean = (
        torch.where(empty, torch.nan, each[..., 0, :] / count.clamp(min=1)) for each in (found.observed, found.expected)
    )
    low, high = wilson_interval(frequency, count, level)
    band_low, band_high = _band(count, mean, level, resamples, generator)
    parts = {"probability": mean, "frequency": frequency, "low": low, "high": high}
    parts |= {"band_low": band_low, "band_high": band_high, "count": count}
    return ReliabilityDiagram(**{name: events.nan(each, axes=1) for name, each in parts.items()})


def wilson_interval(share: Tensor, count: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Wilson's score interval of a share of `count` cases, in float64.

    Source: Wilson 1927.
    """
    z = float(torch.special.ndtri(torch.tensor(0.5 + level / 2, dtype=torch.float64)))
    shrink = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / shrink
    half = z / shrink * (share * (1 - share) / count + (z / (2 * count)).square()).clamp(min=0).sqrt()
    return (centre - half).clamp(min=0), (centre + half).clamp(max=1)


def _band(
    count: Tensor, mean: Tensor, level: float, resamples: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Quantiles over resamples of each bin's frequency, (..., bins), as if probabilities were right."""
    counts, chance = count.cpu(), mean.cpu().nan_to_num(0.0).clamp(0, 1)
    left, behind = counts.sum(-1), counts.flip(-1).cumsum(-1).flip(-1)
    left = left.expand(resamples, *left.shape).contiguous()
    drawn = []
    for each in range(counts.shape[-1]):  # a multinomial number, bin after bin
        share = (counts[..., each] / behind[..., each].clamp(min=1)).expand_as(left)
        number = torch.binomial(left, share.contiguous(), generator=generator)
        left = left - number
        hits = torch.binomial(number, chance[..., each].expand_as(number).contiguous(), generator=generator)
        drawn.append(hits / number)  # NaN where nothing was drawn, which is left out
    frequency = torch.stack(drawn, -1).sort(0).values
    known = (~frequency.isnan()).sum(0, keepdim=True)
    tail = (1 - level) / 2
    ends = [
        frequency.gather(0, ((known - 1).clamp(min=0) * at).round().long())[0].to(count.device)
        for at in (tail, 1 - tail)
    ]
    return ends[0], ends[1]


@dataclass(frozen=True, kw_only=True)
class CalibrationTest:
    """A test of calibration, (...) each in float64.

    Args:
        error: The expected calibration error.
        expected: Its mean over resamples: what a calibrated predictor with the same probabilities gets.
        p_value: How often a resample has an error as large.
    """

    error: Tensor
    expected: Tensor
    p_value: Tensor


@torch.no_grad()
def calibration_test(
    probabilities: Tensor,
    labels: Tensor,
    *,
    bins: int = 15,
    binning: str = "mass",
    of: str = "confidence",
    resamples: int = 999,
    generator: torch.Generator | None = None,
) -> CalibrationTest:
    """Is the calibration error more than chance? Labels are drawn from the probabilities, R times.

    `p = (1 + #{r: ECE_r >= ECE}) / (R + 1)`, ECE_r with the same probabilities and bins and new labels.

    Args:
        probabilities, labels, bins, binning, of: as `expected_calibration_error`; bins have equal mass when not given.
        resamples: R, at least 20.
        generator: Of the draws, on a CPU. `None`: PyTorch's own.

    Raises:
        As `expected_calibration_error`; ValueError: `resamples` is below 20.

    Source: the hypothesis of Bröcker and Smith 2007, as a test of Vaicenavicius et al. 2019 (arXiv:1902.06977),
    who draw rows anew; here the rows stay, so that the p-value is exact: of calibrated probabilities it is
    at most `a` with a probability of at most `a`, for every a, N and number of bins. R times N numbers are drawn.

    >>> import torch
    >>> sure = torch.tensor([[0.99, 0.01]]).expand(50, 2)
    >>> found = calibration_test(sure, torch.arange(50) % 2, generator=torch.Generator().manual_seed(0))
    >>> round(found.error.item(), 2), round(found.p_value.item(), 3)
    (0.49, 0.001)
    """
    probe = "calibration_test"
    check_bins(probe, bins, binning)
    _check_resamples(probe, resamples)
    events = events_of(probe, probabilities, labels, of)
    found = bin_events(events, bins, binning, probabilities.dtype)
    scale = events.weight / probabilities.shape[-2]
    error = (found.observed - found.expected).abs().sum((-2, -1)) * scale
    draws = _class_draws if of == "class" else _hit_draws
    expected, index = found.expected.cpu(), found.index.cpu()
    step = max(1, _NUMBERS_AT_ONCE // max(1, probabilities[..., 0].numel()))
    errors = []
    for start in range(0, resamples, step):
        counts = draws(events, index, bins, min(step, resamples - start), generator)
        errors.append((counts - expected).abs().sum((-2, -1)) * scale)
    drawn = torch.cat(errors).to(error.device)
    # Errors that are equal but for rounding are equal.
    above = (drawn >= error * (1 - 1e-12)).sum(0)
    return CalibrationTest(
        error=events.nan(error),
        expected=events.nan(drawn.mean(0)),
        p_value=events.nan((above + 1).double() / (resamples + 1)),
    )


def _hit_draws(events: Events, index: Tensor, bins: int, count: int, generator: torch.Generator | None) -> Tensor:
    """How many predictions of each bin are right, drawn `count` times, (R, ..., G, bins)."""
    chance = events.probability[..., 0, :].cpu()  # every group has the same, and an example is in one group
    groups = torch.arange(index.shape[-2])[:, None]
    flat = torch.where(index < bins, index + groups * bins, 0).sum(-2)
    hits = torch.rand(count, *chance.shape, generator=generator) < chance
    return _sums(flat.expand(hits.shape), hits.double(), len(groups), bins)


def _class_draws(events: Events, index: Tensor, bins: int, count: int, generator: torch.Generator | None) -> Tensor:
    """How many examples of each bin are of its class, drawn `count` times, (R, ..., C, bins)."""
    edges = events.probability.cpu().mT.cumsum(-1)
    at = torch.rand(*edges.shape[:-1], count, generator=generator, dtype=torch.float64) * edges[..., -1:]
    label = torch.searchsorted(edges, at, right=True).clamp(max=edges.shape[-1] - 1)
    flat = (label * bins + index.mT.gather(-1, label)).movedim(-1, 0)
    return _sums(flat, torch.ones_like(flat, dtype=torch.float64), edges.shape[-1], bins)


def _sums(flat: Tensor, values: Tensor, groups: int, bins: int) -> Tensor:
    sums = torch.zeros(*flat.shape[:-1], groups * bins, dtype=torch.float64)
    return sums.scatter_add(-1, flat, values).view(*flat.shape[:-1], groups, bins)


def _check_level(probe: str, level: float) -> None:
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise ValueError(f"'level' of {probe} must be between 0 and 1. Got {level!r}. Use e.g. 0.95.")


def _check_resamples(probe: str, resamples: int) -> None:
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 20:
        raise ValueError(f"'resamples' of {probe} must be an integer of at least 20. Got {resamples!r}. Use e.g. 999.")

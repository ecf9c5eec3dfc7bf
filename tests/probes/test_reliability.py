"""Parts of the Brier score, reliability diagram and calibration test: exact sums, enumeration, scipy, simulation."""

import math

import numpy as np
import pytest
import scipy.stats
import sklearn.calibration
import torch
from torch import Tensor

from softplace import probes
from softplace.randomness import generator
from tests.probes.test_calibration import loop, sample


def total(parts: probes.BrierDecomposition) -> Tensor:
    within = parts.within_variance - parts.within_covariance
    return parts.reliability - parts.resolution + parts.uncertainty + within


@pytest.mark.parametrize("bias_corrected", [False, True])
@pytest.mark.parametrize("binning", ["width", "mass"])
@pytest.mark.parametrize("shape", [(200, 4), (7, 2), (2, 3, 50, 3)])
def test_parts_sum_to_the_brier_score(shape: tuple[int, ...], binning: str, bias_corrected: bool) -> None:
    probabilities, labels = sample(*shape, scale=3.0)
    parts = probes.brier_decomposition(probabilities, labels, binning=binning, bias_corrected=bias_corrected)
    score = probes.brier_score(probabilities, labels)
    torch.testing.assert_close(parts.score, score, rtol=0, atol=0)
    torch.testing.assert_close(total(parts), score, rtol=1e-13, atol=1e-15)


def test_parts_equal_a_loop() -> None:
    probabilities, labels = sample(200, 3, scale=2.0)
    expected = dict.fromkeys(("reliability", "resolution", "uncertainty"), 0.0)
    for number in range(3):
        outcome = labels == number
        rate = outcome.double().mean().item()
        for size, mean, frequency in loop(probabilities[:, number].tolist(), outcome.tolist(), 10, "width"):
            expected["reliability"] += size / 200 * (mean - frequency) ** 2
            expected["resolution"] += size / 200 * (frequency - rate) ** 2
        expected["uncertainty"] += rate * (1 - rate)
    parts = probes.brier_decomposition(probabilities, labels, bins=10)
    for name, value in expected.items():
        assert getattr(parts, name).item() == pytest.approx(value, rel=1e-12)


def test_corrected_parts_equal_the_r_package() -> None:
    """SpecsVerification 0.5-3, BrierDecomp(bias.corrected=TRUE), by the formulas of its source, of one class of two."""
    p = torch.tensor(
        [0.05, 0.15, 0.12, 0.35, 0.31, 0.38, 0.33, 0.55, 0.52, 0.85, 0.88, 0.95, 0.91], dtype=torch.float64
    )
    y = torch.tensor([0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 1, 1])
    parts = probes.brier_decomposition(torch.stack([1 - p, p], -1), y, bins=10, bias_corrected=True)
    count, hits, sums = np.zeros(10), np.zeros(10), np.zeros(10)
    for each, outcome in zip(p.tolist(), y.tolist(), strict=True):
        place = math.ceil(each * 10) - 1
        count[place], hits[place], sums[place] = count[place] + 1, hits[place] + outcome, sums[place] + each
    full, some, rate = count > 0, count > 1, 6 / 13
    excess = (hits * (count - hits))[some] / (count * (count - 1))[some]
    reliability = ((hits - sums)[full] ** 2 / count[full]).sum() / 13 - excess.sum() / 13
    resolution = (count[full] * (hits[full] / count[full] - rate) ** 2).sum() / 13 - excess.sum() / 13
    assert parts.reliability.item() == pytest.approx(2 * reliability, rel=1e-12)
    assert parts.resolution.item() == pytest.approx(2 * (resolution + rate * (1 - rate) / 12), rel=1e-12)
    assert parts.uncertainty.item() == pytest.approx(2 * rate * (1 - rate) * 13 / 12, rel=1e-12)


def test_corrected_reliability_is_unbiased() -> None:
    top = torch.tensor([0.6] * 4 + [0.9] * 4, dtype=torch.float64)
    truth = torch.tensor([0.7, 0.3], dtype=torch.float64).repeat_interleave(4)
    right = torch.cartesian_prod(*[torch.tensor([0, 1])] * 8)
    weight = torch.where(right == 1, truth, 1 - truth).prod(-1)
    probabilities = torch.stack([top, 1 - top], -1).expand(256, 8, 2)
    parts = probes.brier_decomposition(probabilities, 1 - right, bins=10, bias_corrected=True)
    assert (parts.reliability * weight).sum().item() == pytest.approx(0.1**2 + 0.6**2, rel=1e-12)


def test_the_diagram_equals_scikit_learn_and_scipy() -> None:
    probabilities, labels = sample(500, 2, scale=2.0)
    found = probes.reliability_diagram(probabilities, labels, bins=10, of=1, level=0.9, generator=generator(0))
    frequency, mean = sklearn.calibration.calibration_curve(labels.numpy(), probabilities[:, 1].numpy(), n_bins=10)
    full = found.count > 0
    np.testing.assert_allclose(found.frequency[full].numpy(), frequency, rtol=1e-12)
    np.testing.assert_allclose(found.probability[full].numpy(), mean, rtol=1e-12)
    for each in range(10):
        count = int(found.count[each])
        hits = round(float(found.frequency[each]) * count)
        interval = scipy.stats.binomtest(hits, count).proportion_ci(0.9, method="wilson")
        assert found.low[each].item() == pytest.approx(interval.low, abs=1e-12)
        assert found.high[each].item() == pytest.approx(interval.high, abs=1e-12)


def test_the_band_is_that_of_resampled_rows() -> None:
    """Against the method as it is written: rows with replacement, labels from their probabilities."""
    probabilities, labels = sample(300, 2)
    found = probes.reliability_diagram(
        probabilities, labels, bins=5, of=1, level=0.9, resamples=40_000, generator=generator(0)
    )
    source = np.random.default_rng(0)
    p = probabilities[:, 1].numpy()
    rows = source.integers(0, 300, (4000, 300))
    hit = source.random((4000, 300)) < p[rows]
    place = np.ceil(p[rows] * 5).astype(int) - 1
    for each in range(5):
        counts = (place == each).sum(1)
        shares = (hit & (place == each)).sum(1)[counts > 0] / counts[counts > 0]
        low, high = np.quantile(shares, [0.05, 0.95])
        assert found.band_low[each].item() == pytest.approx(low, abs=0.012)
        assert found.band_high[each].item() == pytest.approx(high, abs=0.012)


@pytest.mark.parametrize("binning", ["width", "mass"])
def test_a_calibrated_sample_is_within_the_band_as_often_as_the_level_says(binning: str) -> None:
    probabilities, labels = sample(400, 1000, 3)
    found = probes.reliability_diagram(
        probabilities, labels, bins=8, binning=binning, level=0.9, resamples=500, generator=generator(0)
    )
    known = found.count > 20  # a frequency of few examples has steps, and a band at least its level
    within = (found.frequency >= found.band_low) & (found.frequency <= found.band_high)
    share, size = within[known].double().mean().item(), int(known.sum())
    assert size > 1500
    # As rows are drawn anew, the band is wider than one for these very rows, by little.
    assert 0.9 - 4 * math.sqrt(0.09 / size) < share < 0.94
    unsure, labels = sample(400, 1000, 3, scale=2.0)
    found = probes.reliability_diagram(unsure, labels, bins=8, binning=binning, level=0.9, resamples=100)
    within = (found.frequency >= found.band_low) & (found.frequency <= found.band_high)
    assert within[found.count > 20].double().mean().item() < 0.4


def test_a_batch_of_diagrams_and_their_empty_bins() -> None:
    probabilities, labels = sample(2, 60, 3)
    together = probes.reliability_diagram(probabilities, labels, generator=generator(0))
    alone = probes.reliability_diagram(probabilities[1], labels[1], generator=generator(0))
    for name in ("count", "probability", "frequency", "low", "high"):
        torch.testing.assert_close(getattr(together, name)[1], getattr(alone, name), equal_nan=True)
    empty = alone.count == 0
    assert empty.any()
    for name in ("probability", "frequency", "low", "high", "band_low", "band_high"):
        assert getattr(alone, name).isnan().tolist() == empty.tolist()
    probabilities[0, 3] = math.nan
    broken = probes.reliability_diagram(probabilities, labels)
    assert broken.count.isnan().all(-1).tolist() == [True, False]
    assert broken.band_low[0].isnan().all()


@pytest.mark.parametrize("of", ["confidence", "top-label", "class"])
def test_p_values_of_calibrated_predictions_are_uniform(of: str) -> None:
    probabilities, labels = sample(400, 90, 3)
    found = probes.calibration_test(probabilities, labels, of=of, bins=6, resamples=199, generator=generator(1))
    assert scipy.stats.kstest(found.p_value.numpy() - 1 / 400, "uniform").pvalue > 0.001
    assert found.expected.mean().item() == pytest.approx(found.error.mean().item(), rel=0.05)
    assert found.error[3].item() == pytest.approx(
        probes.expected_calibration_error(probabilities[3], labels[3], of=of, bins=6, binning="mass").item(), rel=1e-12
    )
    unsure, labels = sample(50, 400, 3, scale=2.5)
    found = probes.calibration_test(unsure, labels, of=of, bins=6, resamples=199, generator=generator(2))
    assert (found.p_value < 0.01).double().mean().item() > 0.9


def test_what_is_drawn_in_parts_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, labels = sample(50, 3)
    monkeypatch.setattr("softplace.probes.reliability._NUMBERS_AT_ONCE", 170)
    found = probes.calibration_test(probabilities, labels, resamples=20, generator=generator(0))
    assert (found.p_value.item() * 21) == pytest.approx(round(found.p_value.item() * 21))
    probabilities[0, 0] = math.nan
    broken = probes.calibration_test(probabilities, labels, resamples=20)
    assert all(math.isnan(value) for value in (broken.error, broken.expected, broken.p_value))


def test_wrong_arguments_are_named() -> None:
    probabilities, labels = sample(4, 3)
    for options, says in (
        ({"of": 3}, r"'of' of reliability_diagram must be 'confidence' or a class from 0 to 2. Got 3"),
        ({"of": True}, r"must be 'confidence' or a class from 0 to 2. Got True"),
        ({"of": "class"}, r"must be 'confidence' or a class. Got 'class'"),
        ({"level": 1}, r"'level' of reliability_diagram must be between 0 and 1. Got 1"),
        ({"resamples": 3}, r"'resamples' of reliability_diagram must be an integer of at least 20. Got 3"),
    ):
        with pytest.raises(ValueError, match=says):
            probes.reliability_diagram(probabilities, labels, **options)
    with pytest.raises(ValueError, match=r"'resamples' of calibration_test must be an integer of at least 20. Got 19"):
        probes.calibration_test(probabilities, labels, resamples=19)
    with pytest.raises(TypeError, match=r"'bias_corrected' of brier_decomposition must be True or False. Got 1"):
        probes.brier_decomposition(probabilities, labels, bias_corrected=1)
    with pytest.raises(ValueError, match=r"2 examples or more to correct the bias. Got 1"):
        probes.brier_decomposition(probabilities[:1], labels[:1], bias_corrected=True)

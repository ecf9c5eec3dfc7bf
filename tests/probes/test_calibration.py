"""Calibration errors against hand-computed numbers, loops and the packages of the papers."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from softplace import probes


def sample(*shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Probabilities that are too sure by `scale`, and labels."""
    source = torch.Generator().manual_seed(seed)
    logits = torch.randn(*shape, generator=source, dtype=torch.float64)
    labels = torch.distributions.Categorical(logits=logits).probs
    drawn = torch.multinomial(labels.flatten(0, -2), 1, generator=source).view(shape[:-1])
    return torch.softmax(scale * logits, -1).to(dtype), drawn


def loop(values: list[float], outcomes: list[bool], bins: int, binning: str) -> list[tuple[int, float, float]]:
    """Size, mean probability and frequency of each bin that has examples; probabilities differ from one another."""
    order = np.argsort(values)
    index = [math.ceil(value * bins) - 1 for value in values]
    if binning == "mass":
        for rank, example in enumerate(order):
            index[example] = rank * bins // len(values)
    found = []
    for number in range(bins):
        inside = [n for n, each in enumerate(index) if each == number]
        if inside:
            found.append(
                (
                    len(inside),
                    sum(values[n] for n in inside) / len(inside),
                    sum(outcomes[n] for n in inside) / len(inside),
                )
            )
    return found


def groups(probabilities: Tensor, labels: Tensor, of: str) -> list[tuple[list[float], list[bool]]]:
    top, predicted = probabilities.max(-1)
    if of == "confidence":
        return [(top.tolist(), (predicted == labels).tolist())]
    classes = range(probabilities.shape[-1])
    if of == "class":
        return [(probabilities[:, c].tolist(), (labels == c).tolist()) for c in classes]
    return [(top[predicted == c].tolist(), (labels == c)[predicted == c].tolist()) for c in classes]


@pytest.mark.parametrize("of", ["confidence", "top-label", "class"])
@pytest.mark.parametrize("binning", ["width", "mass"])
@pytest.mark.parametrize("bins", [1, 4, 15])
def test_errors_equal_a_loop(of: str, binning: str, bins: int) -> None:
    probabilities, labels = sample(203, 4, scale=2.0)
    every = [part for group in groups(probabilities, labels, of) for part in loop(*group, bins, binning)]
    size = 203 * (4 if of == "class" else 1)
    options = {"bins": bins, "binning": binning, "of": of}
    ece = sum(n * abs(f - p) for n, p, f in every) / size
    mce = max(abs(f - p) for _, p, f in every)
    squares = sum(n * (f - p) ** 2 for n, p, f in every) / size
    less = sum(n * ((f - p) ** 2 - f * (1 - f) / (n - 1)) for n, p, f in every if n > 1) / size
    assert probes.expected_calibration_error(probabilities, labels, **options).item() == pytest.approx(ece, rel=1e-12)
    assert probes.maximum_calibration_error(probabilities, labels, **options).item() == pytest.approx(mce, rel=1e-12)
    biased = probes.squared_calibration_error(probabilities, labels, **options, debiased=False)
    assert biased.item() == pytest.approx(squares, rel=1e-12)
    debiased = probes.squared_calibration_error(probabilities, labels, **options)
    assert debiased.item() == pytest.approx(less, rel=1e-10, abs=1e-15)


# Of sample(200, 4, scale=2.0): printed by uncertainty-calibration 0.1.4 (get_ece, and unbiased_square_ce over 10 bins
# of equal mass, top-label and marginal), and by caltrain's em_ece_sweep of the commit 5b09c22 with norm 1 and 2.
PUBLISHED = {
    "ece": 0.1769027631467275,
    "kumar top": 0.025632493442185777,
    "kumar marginal": 0.006756730679858462,
    "sweep 1": 0.16921044995729845,
    "sweep 2": 0.1800285565164127,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_errors_equal_the_packages_of_the_papers(name: str) -> None:
    probabilities, labels = sample(200, 4, scale=2.0)
    found = {
        "ece": lambda: probes.expected_calibration_error(probabilities, labels),
        "kumar top": lambda: probes.squared_calibration_error(probabilities, labels, bins=10),
        "kumar marginal": lambda: probes.squared_calibration_error(probabilities, labels, bins=10, of="class"),
        "sweep 1": lambda: probes.sweep_calibration_error(probabilities, labels),
        "sweep 2": lambda: probes.sweep_calibration_error(probabilities, labels, norm=2),
    }[name]()
    assert found.item() == pytest.approx(PUBLISHED[name], rel=1e-9)


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_the_sweep_equals_a_loop(norm: int, seed: int) -> None:
    probabilities, labels = sample(60, 3, seed=seed)
    (values, outcomes), best = groups(probabilities, labels, "confidence")[0], []
    for bins in range(1, 61):
        found = loop(values, outcomes, bins, "mass")
        if any(after[2] < before[2] for before, after in itertools.pairwise(found)):
            break
        best = found
    expected = (sum(n * abs(f - p) ** norm for n, p, f in best) / 60) ** (1 / norm)
    measured = probes.sweep_calibration_error(probabilities, labels, norm=norm)
    assert measured.item() == pytest.approx(expected, rel=1e-12)


def test_the_sweep_at_the_edges() -> None:
    # In order to the end: 4 bins of one example each.
    top = torch.tensor([0.6, 0.7, 0.8, 0.9], dtype=torch.float64)
    probabilities = torch.stack([top, 1 - top], -1)
    assert probes.sweep_calibration_error(probabilities, torch.tensor([1, 1, 0, 0])).item() == pytest.approx(
        (0.6 + 0.7 + 0.2 + 0.1) / 4
    )
    assert probes.sweep_calibration_error(probabilities[:1], torch.tensor([1])).item() == pytest.approx(0.6)


@pytest.mark.parametrize("of", ["confidence", "class"])
def test_ties_share_a_bin_in_any_order(of: str) -> None:
    probabilities, labels = sample(300, 3)
    probabilities = (probabilities * 10).round() / 10
    probabilities[:, 2] = 1 - probabilities[:, :2].sum(-1)
    probabilities = probabilities.clamp(min=0).round(decimals=1)
    shuffled = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    for measure in (
        probes.sweep_calibration_error,
        lambda *given, **kind: probes.expected_calibration_error(*given, **kind, binning="mass"),
    ):
        before = measure(probabilities, labels, of=of)
        torch.testing.assert_close(
            measure(probabilities[shuffled], labels[shuffled], of=of), before, rtol=1e-12, atol=0
        )


def test_a_batch_equals_a_loop_for_every_kind() -> None:
    probabilities, labels = sample(2, 3, 40, 5)
    for of in ("top-label", "class"):
        for binning in ("width", "mass"):
            together = probes.expected_calibration_error(probabilities, labels, of=of, binning=binning)
            alone = probes.expected_calibration_error(probabilities[1, 2], labels[1, 2], of=of, binning=binning)
            torch.testing.assert_close(together[1, 2], alone)
    together = probes.sweep_calibration_error(probabilities, labels, of="class", norm=2)
    torch.testing.assert_close(
        together[0, 1], probes.sweep_calibration_error(probabilities[0, 1], labels[0, 1], of="class", norm=2)
    )


def test_debiasing_is_unbiased() -> None:
    """Four examples in each of two bins, all labellings: the mean is the squared error of the true frequencies."""
    top = torch.tensor([0.6] * 4 + [0.9] * 4, dtype=torch.float64)
    truth = torch.tensor([0.7, 0.3], dtype=torch.float64).repeat_interleave(4)
    right = torch.cartesian_prod(*[torch.tensor([0, 1])] * 8)
    weight = torch.where(right == 1, truth, 1 - truth).prod(-1)
    probabilities = torch.stack([top, 1 - top], -1).expand(256, 8, 2)
    found = probes.squared_calibration_error(probabilities, 1 - right, bins=2)
    assert (found * weight).sum().item() == pytest.approx((0.1**2 + 0.6**2) / 2, rel=1e-12)
    biased = probes.squared_calibration_error(probabilities, 1 - right, bins=2, debiased=False)
    assert (biased * weight).sum().item() == pytest.approx((0.1**2 + 0.6**2) / 2 + 0.21 / 4, rel=1e-12)


def test_wrong_options_are_named() -> None:
    probabilities, labels = sample(4, 3)
    with pytest.raises(
        ValueError, match=r"'binning' of maximum_calibration_error must .* Got 'masses'. Did you mean 'mass'"
    ):
        probes.maximum_calibration_error(probabilities, labels, binning="masses")
    with pytest.raises(
        ValueError, match=r"'of' of squared_calibration_error must be .* Got 'classes'. Did you mean 'class'"
    ):
        probes.squared_calibration_error(probabilities, labels, of="classes")
    with pytest.raises(TypeError, match=r"'debiased' of squared_calibration_error must be True or False. Got 2"):
        probes.squared_calibration_error(probabilities, labels, debiased=2)
    with pytest.raises(ValueError, match=r"'norm' of sweep_calibration_error must be 1 or 2. Got 3"):
        probes.sweep_calibration_error(probabilities, labels, norm=3)
    with pytest.raises(ValueError, match=r"'of' of sweep_calibration_error must be .* Known: confidence, class"):
        probes.sweep_calibration_error(probabilities, labels, of="top-label")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("edge", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_bins_are_closed_on_the_right(edge: float, dtype: torch.dtype) -> None:
    """A confidence on an edge shares its bin with the one below (their gaps cancel in part), not with the one above."""
    top = torch.tensor([edge, edge + 0.05], dtype=dtype)
    below = probes.expected_calibration_error(torch.stack([top, 1 - top], -1), torch.tensor([1, 0]), bins=10)
    assert below.item() == pytest.approx((edge + 1 - (edge + 0.05)) / 2, abs=1e-7)
    if edge > 0.5:
        top = torch.tensor([edge, edge - 0.05], dtype=dtype)
        above = probes.expected_calibration_error(torch.stack([top, 1 - top], -1), torch.tensor([1, 0]), bins=10)
        assert above.item() == pytest.approx(abs(edge - (1 - (edge - 0.05))) / 2, abs=1e-7)


def test_calibration_error_at_the_edges() -> None:
    sure = torch.eye(3)[torch.tensor([0, 1, 2, 0])]
    assert probes.expected_calibration_error(sure, torch.tensor([0, 1, 2, 0])).item() == 0
    assert probes.expected_calibration_error(sure, torch.tensor([1, 2, 0, 1])).item() == 1
    # 3 of 4 right at a confidence of 3/4: calibrated
    level = torch.tensor([[0.75, 0.25]]).expand(4, 2)
    assert probes.expected_calibration_error(level, torch.tensor([0, 0, 1, 0])).item() == 0
    for bins in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="'bins' of expected_calibration_error must be a positive integer"):
            probes.expected_calibration_error(sure, torch.tensor([0, 1, 2, 0]), bins=bins)

"""Scores of probabilities against hand-computed numbers, loops, scipy, scikit-learn and torch."""

import math
import re
from collections.abc import Callable

import pytest
import scipy.stats
import sklearn.metrics
import torch
from torch import Tensor

from softplace import probes
from softplace.maps import softmax

LABELLED = [
    probes.brier_score,
    probes.expected_calibration_error,
    probes.maximum_calibration_error,
    probes.squared_calibration_error,
    probes.sweep_calibration_error,
    probes.negative_log_likelihood,
    probes.accuracy,
]


def sample(*shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(*shape, generator=generator)
    labels = torch.randint(0, shape[-1], shape[:-1], generator=generator)
    return softmax(logits.double()).to(dtype), labels


@pytest.mark.parametrize("probe", LABELLED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_batch_equals_a_loop_and_comes_in_float64(probe: Callable[..., Tensor], dtype: torch.dtype) -> None:
    probabilities, labels = sample(2, 3, 40, 5, dtype=dtype)
    together = probe(probabilities, labels)
    assert together.dtype == torch.float64
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(together[i, j], probe(probabilities[i, j], labels[i, j]))
    shared = probe(probabilities, labels[0, 0])
    torch.testing.assert_close(shared[1, 2], probe(probabilities[1, 2], labels[0, 0]))


@pytest.mark.parametrize("probe", LABELLED)
def test_one_bad_member_is_nan_and_the_others_are_not(probe: Callable[..., Tensor]) -> None:
    probabilities, labels = sample(3, 40, 5)
    clean = probe(probabilities, labels)
    probabilities[1, 7, 2] = math.nan
    measured = probe(probabilities, labels)
    assert measured.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(measured[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize("probe", LABELLED)
def test_bad_arguments_are_named(probe: Callable[..., Tensor]) -> None:
    name, (probabilities, labels) = probe.__name__, sample(4, 3)
    with pytest.raises(TypeError, match=f"of {name} must be a floating-point tensor"):
        probe(probabilities.tolist(), labels)
    with pytest.raises(TypeError, match=f"'labels' of {name} must be an integer tensor. Got a tensor of torch.float32"):
        probe(probabilities, labels.float())
    with pytest.raises(TypeError, match=r"Got a tensor of torch.bool"):
        probe(probabilities, labels > 0)
    with pytest.raises(TypeError, match="Got list"):
        probe(probabilities, labels.tolist())
    with pytest.raises(ValueError, match=re.escape(f"'labels' of {name} must broadcast to (4,). Got (3,)")):
        probe(probabilities, labels[:3])
    with pytest.raises(ValueError, match=f"'labels' of {name} must be classes from 0 to 2. Got labels from 0 to 3"):
        probe(probabilities, torch.tensor([0, 1, 2, 3]))
    with pytest.raises(ValueError, match="Got labels from -100 to 2"):
        probe(probabilities, torch.tensor([0, 1, 2, -100]))
    with pytest.raises(ValueError, match="must not be empty"):
        probe(probabilities[:0], labels[:0])
    with pytest.raises(ValueError, match=re.escape("must have the shape (..., N, C). Got (3,)")):
        probe(probabilities[0], labels[0])


@pytest.mark.parametrize("probe", LABELLED[:5])
def test_what_is_no_distribution_is_refused(probe: Callable[..., Tensor]) -> None:
    probabilities, labels = sample(4, 3)
    with pytest.raises(ValueError, match=r"must lie between 0 and 1. Got numbers from -1 to .* Apply softmax"):
        probe(torch.cat([probabilities[:3], torch.tensor([[-1.0, 1.0, 1.0]])]), labels)
    with pytest.raises(ValueError, match=r"must sum to 1 over the last axis. Got a row with the sum 0.5"):
        probe(probabilities / 2, labels)


def test_brier_score_equals_scikit_learn() -> None:
    probabilities, labels = sample(60, 4, dtype=torch.float64)
    pytest.importorskip("sklearn", minversion="1.7", reason="older releases score two classes only")
    expected = sklearn.metrics.brier_score_loss(
        labels.numpy(), probabilities.numpy(), labels=[0, 1, 2, 3], scale_by_half=False
    )
    assert probes.brier_score(probabilities, labels).item() == pytest.approx(expected, rel=1e-12)
    assert probes.brier_score(torch.eye(3), torch.tensor([0, 1, 2])).item() == 0
    assert probes.brier_score(torch.eye(3), torch.tensor([1, 2, 0])).item() == 2


def test_likelihood_equals_torch_and_shifts() -> None:
    probabilities, labels = sample(60, 4, dtype=torch.float64)
    logits = 5 * probabilities.log()
    expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(probes.negative_log_likelihood(logits, labels), expected)
    torch.testing.assert_close(probes.negative_log_likelihood(logits + 1e3, labels), expected)
    certain = torch.tensor([[-1e4, 1e4]])
    assert probes.negative_log_likelihood(certain, torch.tensor([0])).item() == 2e4
    assert probes.negative_log_likelihood(certain, torch.tensor([1])).item() == 0
    excluded = torch.tensor([[0.0, 0.0, -math.inf]])
    assert probes.negative_log_likelihood(excluded, torch.tensor([0])).item() == pytest.approx(math.log(2))
    assert probes.negative_log_likelihood(excluded, torch.tensor([2])).item() == math.inf


def test_accuracy_equals_scikit_learn() -> None:
    probabilities, labels = sample(60, 4)
    expected = sklearn.metrics.accuracy_score(labels.numpy(), probabilities.argmax(-1).numpy())
    assert probes.accuracy(probabilities, labels).item() == pytest.approx(expected)
    assert probes.accuracy(torch.zeros(2, 3), torch.tensor([0, 1])).item() == 0.5  # of equal logits the first


@pytest.mark.parametrize("dim", [0, 1, -1, -3])
def test_entropy_equals_scipy(dim: int) -> None:
    weights = torch.softmax(torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)).double(), dim)
    expected = torch.from_numpy(scipy.stats.entropy(weights.numpy(), axis=dim))
    torch.testing.assert_close(probes.entropy(weights, dim), expected)


def test_entropy_at_the_edges() -> None:
    assert probes.entropy(torch.full((8,), 1 / 8)).item() == pytest.approx(math.log(8))
    assert probes.entropy(torch.tensor([[0.0, 1.0], [0.0, 0.0]])).tolist() == [0.0, 0.0]
    assert probes.entropy(torch.tensor([0.0, 1.0 + 1e-6])).item() == 0.0
    assert probes.entropy(torch.tensor([[0.5, math.nan], [0.5, 0.5]])).isnan().tolist() == [True, False]
    with pytest.raises(ValueError, match=r"'weights' of entropy must lie between 0 and 1. Got numbers from -2 to 3"):
        probes.entropy(torch.tensor([-2.0, 3.0]))
    with pytest.raises(ValueError, match=r"'dim' of entropy must be in -1..0"):
        probes.entropy(torch.tensor([0.5, 0.5]), dim=1)
    with pytest.raises(ValueError, match="must not be empty"):
        probes.entropy(torch.ones(3, 0))
    with pytest.raises(TypeError, match="floating-point"):
        probes.entropy(torch.ones(3, dtype=torch.int64))


def test_an_error_about_range_copes_with_nan() -> None:
    """Numbers out of range are refused even beside a NaN, and the message names finite numbers."""
    with pytest.raises(ValueError, match=r"Got numbers from -1 to 0.5"):
        probes.entropy(torch.tensor([-1.0, math.nan, 0.5]))

"""Softmax and sparsemax against hand-computed numbers and float64 loops."""

import pytest
import torch

from softplace import maps


def sparsemax_by_sorting(row: list[float]) -> list[float]:
    """Martins and Astudillo 2016, algorithm 1, one row in plain Python."""
    ordered, total, threshold = sorted(row, reverse=True), 0.0, 0.0
    for count, score in enumerate(ordered, start=1):
        total += score
        if 1 + count * score > total:
            threshold = (total - 1) / count
    return [max(score - threshold, 0.0) for score in row]


@pytest.mark.parametrize("size", [1, 2, 3, 17, 128])
@pytest.mark.parametrize("scale", [1e-5, 1e-2, 1.0, 10.0, 1e4])
def test_sparsemax_equals_the_sorting_algorithm(size: int, scale: float) -> None:
    scores = torch.randn(50, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size)) * scale
    expected = torch.tensor([sparsemax_by_sorting(row) for row in scores.tolist()], dtype=torch.float64)
    torch.testing.assert_close(maps.sparsemax(scores), expected, rtol=0, atol=1e-11 * max(scale, 1.0))


def test_sparsemax_reaches_the_threshold_on_geometric_scores() -> None:
    """Geometric spacing makes Newton's method drop few entries per step: the bound on the steps must still hold."""
    for ratio in (0.3, 0.5, 0.9, 0.99):
        scores = -torch.tensor([ratio**power for power in range(200)], dtype=torch.float64)
        expected = torch.tensor(sparsemax_by_sorting(scores.tolist()), dtype=torch.float64)
        torch.testing.assert_close(maps.sparsemax(scores), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["softmax", "sparsemax"])
def test_gradients_by_finite_differences(name: str) -> None:
    scores = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    function = getattr(maps, name)
    assert torch.autograd.gradcheck(function, (scores,))
    assert torch.autograd.gradgradcheck(function, (scores,))


@pytest.mark.parametrize("name", ["softmax", "sparsemax"])
def test_a_fully_masked_row_gets_zero_weights_and_zero_gradient(name: str) -> None:
    scores = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = torch.tensor([[True, False, True, True, False], [False] * 5])
    weights = getattr(maps, name)(scores, mask=mask)
    weights.square().sum().backward()
    assert scores.grad is not None
    assert weights[1].tolist() == [0.0] * 5
    assert scores.grad[1].tolist() == [0.0] * 5
    kept = getattr(maps, name)(scores[0][mask[0]])
    torch.testing.assert_close(weights[0][mask[0]], kept)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(
        TypeError, match=r"'scores' of softmax must be a floating-point tensor. Got a tensor of torch.int64"
    ):
        maps.softmax(torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"'temperature' of sparsemax must be positive and finite. Got 0"):
        maps.sparsemax(torch.tensor([1.0, 2.0]), temperature=0)
    with pytest.raises(ValueError, match=r"must broadcast to the scores' shape \(2,\). Got \(3,\)"):
        maps.softmax(torch.tensor([1.0, 2.0]), mask=torch.ones(3, dtype=torch.bool))

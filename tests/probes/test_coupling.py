"""Jacobians, coupling, push-down and gradient gain against finite differences, loops and closed forms."""

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from softplace import probes
from softplace.maps import softmax, sparsemax

ELEMENTWISE = [torch.relu, torch.tanh, torch.sigmoid, torch.nn.functional.gelu]
ON_FUNCTIONS = [
    probes.jacobian,
    probes.gradient_gain,
    probes.image_dimension,
    lambda function, points: torch.stack(probes.push_down(function, points, 1.0)[:3], -1),
]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def softmax_jacobian(point: Tensor) -> Tensor:
    """`diag(p) - p p^T`, entry by entry."""
    exponentials = [math.exp(score) for score in point.tolist()]
    weights = [value / sum(exponentials) for value in exponentials]
    rows = [[p * (1.0 if i == j else 0.0) - p * q for j, q in enumerate(weights)] for i, p in enumerate(weights)]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("probe", ON_FUNCTIONS)
@pytest.mark.parametrize("function", [softmax, sparsemax, torch.tanh])
def test_a_batch_equals_a_loop_and_comes_in_float64(
    probe: Callable[..., Tensor], function: Callable[[Tensor], Tensor]
) -> None:
    points = normal(2, 3, 5)
    together = probe(function, points)
    alone = torch.stack([torch.stack([probe(function, point) for point in group]) for group in points])
    assert together.dtype == torch.float64
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-14)
    vmapped = torch.func.vmap(lambda group: probe(function, group))(points)
    torch.testing.assert_close(vmapped, together, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("probe", ON_FUNCTIONS)
def test_one_bad_point_is_nan_and_the_others_are_not(probe: Callable[..., Tensor]) -> None:
    points = normal(3, 5)
    clean = probe(softmax, points)
    points[1, 2] = math.nan
    measured = probe(softmax, points)
    assert measured[1].isnan().all()
    torch.testing.assert_close(measured[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize("probe", ON_FUNCTIONS)
def test_bad_arguments_are_named(probe: Callable[..., Tensor]) -> None:
    with pytest.raises(TypeError, match=r"'points' of \w+ must be a floating-point tensor"):
        probe(softmax, torch.ones(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"'points' of \w+ must not be empty"):
        probe(softmax, torch.ones(0, 3))
    with pytest.raises(TypeError, match=r"'function' of \w+ must be a callable from a tensor to a tensor. Got str"):
        probe("softmax", torch.ones(3))
    with pytest.raises(TypeError, match=r"'function' of \w+ must return a floating-point tensor. Got tuple"):
        probe(lambda x: (x, x), torch.ones(3))
    with pytest.raises(ValueError, match=r"'function' of \w+ must keep the"):
        probe(lambda x: x.sum(0), torch.ones(2, 3))


def test_probes_carry_no_gradient_of_parameters() -> None:
    layer = torch.nn.Linear(5, 5).double()
    for probe in ON_FUNCTIONS:
        assert not probe(layer, normal(2, 5).requires_grad_()).requires_grad
    assert layer.weight.grad is None


def test_jacobian_of_softmax_equals_the_closed_form() -> None:
    points = normal(4, 6)
    measured = probes.jacobian(softmax, points)
    torch.testing.assert_close(measured, torch.stack([softmax_jacobian(point) for point in points]))
    torch.testing.assert_close(measured.sum(-1), torch.zeros(4, 6, dtype=torch.float64), rtol=0, atol=1e-15)
    torch.testing.assert_close(measured.sum(-2), torch.zeros(4, 6, dtype=torch.float64), rtol=0, atol=1e-15)


@pytest.mark.parametrize("function", [softmax, *ELEMENTWISE])
def test_jacobian_equals_jacrev_and_finite_differences(function: Callable[..., Tensor]) -> None:
    points = normal(7, 5, dtype=torch.float64)
    row = (lambda x: softmax(x)) if function is softmax else function
    measured = probes.jacobian(function, points)
    torch.testing.assert_close(measured, torch.func.vmap(torch.func.jacrev(row))(points))
    step = 1e-6 * torch.eye(5, dtype=torch.float64)
    columns = [(function(points + push) - function(points - push)) / 2e-6 for push in step]
    torch.testing.assert_close(measured, torch.stack(columns, -1), rtol=0, atol=1e-8)


def test_jacobian_of_a_fleet_of_layers_is_its_weights() -> None:
    weights = normal(4, 3, 5, dtype=torch.float64)  # (M, V, W)
    measured = probes.jacobian(lambda x: x @ weights.mT, normal(4, 6, 5))
    torch.testing.assert_close(measured, weights[:, None].expand(4, 6, 3, 5))


def test_softmax_at_equal_weights_has_closed_forms() -> None:
    for width in (2, 3, 32):
        matrix = probes.jacobian(softmax, torch.zeros(width))
        assert probes.off_diagonal_share(matrix).item() == pytest.approx(1 / math.sqrt(width))
        assert probes.spectral_norm(matrix).item() == pytest.approx(1 / width)
        gain = probes.gradient_gain(softmax, torch.zeros(width)).item()
        assert gain == pytest.approx(math.sqrt(width - 1) / width**1.5)


@pytest.mark.parametrize("function", ELEMENTWISE)
def test_elementwise_maps_are_not_coupled(function: Callable[[Tensor], Tensor]) -> None:
    points = normal(9, 6) + 1
    share = probes.off_diagonal_share(probes.jacobian(function, points))
    assert share.tolist() == [0.0] * 9
    pushed = probes.push_down(function, points, delta=0.5)
    assert pushed.others.tolist() == [0.0] * 9
    assert pushed.share_rising.tolist() == [0.0] * 9
    expected = (function(points.double() - 0.5) - function(points.double())).mean(-1)
    torch.testing.assert_close(pushed.own, expected)


def test_fixed_batch_normalisation_is_not_coupled() -> None:
    mean, deviation = normal(4, 1, 6), normal(4, 1, 6).abs() + 0.5
    points = normal(4, 9, 6)
    matrix = probes.jacobian(lambda x: torch.relu((x - mean) / deviation), points)
    assert not probes.off_diagonal_share(matrix).nan_to_num(0.0).any()


def test_off_diagonal_share_equals_a_loop() -> None:
    matrices = normal(5, 4, 4)
    for matrix, measured in zip(matrices.double().tolist(), probes.off_diagonal_share(matrices), strict=True):
        whole = sum(value**2 for row in matrix for value in row)
        outside = sum(value**2 for i, row in enumerate(matrix) for j, value in enumerate(row) if i != j)
        assert measured.item() == pytest.approx(math.sqrt(outside / whole), rel=1e-12)


def test_off_diagonal_share_at_the_edges() -> None:
    assert probes.off_diagonal_share(torch.zeros(3, 3)).isnan()
    assert probes.off_diagonal_share(torch.ones(3, 3) - torch.eye(3)).item() == 1.0
    assert probes.off_diagonal_share(torch.tensor([[1.0, math.nan], [0.0, 1.0]])).isnan()
    tiny = 1e-300 * torch.tensor([[0.0, 3.0], [0.0, 4.0]], dtype=torch.float64)
    assert probes.off_diagonal_share(tiny).item() == pytest.approx(0.6)
    # one ReLU point with all units off does not spoil the others
    assert probes.off_diagonal_share(torch.stack([torch.eye(2), torch.zeros(2, 2)])).isnan().tolist() == [False, True]
    with pytest.raises(ValueError, match=re.escape("must be square, (..., W, W). Got (2, 3)")):
        probes.off_diagonal_share(torch.ones(2, 3))
    with pytest.raises(ValueError, match="must have the shape"):
        probes.off_diagonal_share(torch.ones(2))


@pytest.mark.parametrize("delta", [1e-3, 1.0, 30.0])
def test_softmax_pushes_all_others_up(delta: float) -> None:
    points = normal(2, 7, 6)
    pushed = probes.push_down(softmax, points, delta)
    assert pushed.share_rising.tolist() == [[1.0] * 7] * 2
    assert (pushed.own < 0).all()
    torch.testing.assert_close(pushed.others, -pushed.own, rtol=1e-9, atol=1e-15)
    assert pushed.loss_change is None


@pytest.mark.parametrize("function", [softmax, sparsemax, torch.tanh])
def test_push_down_equals_a_loop(function: Callable[..., Tensor]) -> None:
    points, target = normal(4, 5, dtype=torch.float64), normal(4, 5, seed=1, dtype=torch.float64)

    def loss(activations: Tensor) -> Tensor:
        return (activations - target).square().sum(-1)

    pushed = probes.push_down(function, points, 0.7, loss)
    assert pushed.loss_change is not None
    for row, point in enumerate(points):
        own, others, rising, changes = 0.0, 0.0, 0, 0.0
        before = function(point).tolist()
        for unit in range(5):
            lowered = point.clone()
            lowered[unit] -= 0.7
            after = function(lowered).tolist()
            for other in range(5):
                change = after[other] - before[other]
                if other == unit:
                    own += change
                else:
                    others += change
                    rising += change > 0
            target_row = target[row].tolist()
            losses = [sum((a - t) ** 2 for a, t in zip(x, target_row, strict=True)) for x in (before, after)]
            changes += abs(losses[1] - losses[0])
        assert pushed.own[row].item() == pytest.approx(own / 5, rel=1e-9)
        assert pushed.others[row].item() == pytest.approx(others / 5, rel=1e-9, abs=1e-12)
        assert pushed.share_rising[row].item() == rising / 20
        assert pushed.loss_change[row].item() == pytest.approx(changes / 5, rel=1e-9)


def test_push_down_does_not_depend_on_the_order_of_units() -> None:
    points, shuffle = normal(4, 6), torch.randperm(6, generator=torch.Generator().manual_seed(0))
    for one, other in zip(
        probes.push_down(softmax, points, 1.0)[:3],
        probes.push_down(softmax, points[:, shuffle], 1.0)[:3],
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-15)


def test_push_down_bad_arguments() -> None:
    for delta in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="'delta' of push_down must be positive and finite"):
            probes.push_down(softmax, torch.ones(3), delta)
    with pytest.raises(ValueError, match="'points' of push_down must have at least 2 units"):
        probes.push_down(softmax, torch.ones(3, 1), 1.0)
    with pytest.raises(ValueError, match=r"'loss' of push_down must return one loss per point, \(2,\). Got \(\)"):
        probes.push_down(softmax, torch.ones(2, 3), 1.0, lambda activations: activations.sum())
    with pytest.raises(ValueError, match=r"'function' of push_down must keep the shape of the points, \(2, 3\)"):
        probes.push_down(lambda x: x[..., :2], torch.ones(2, 3), 1.0)


def test_gradient_gain_equals_the_gain_of_random_signals() -> None:
    points = normal(3, 8, dtype=torch.float64)
    weights = normal(5, 8, dtype=torch.float64)

    def function(x: Tensor) -> Tensor:
        return torch.tanh(x) @ weights.mT

    signals = normal(20_000, 3, 5, seed=1, dtype=torch.float64)
    backward = torch.einsum("nbv,bvw->nbw", signals, probes.jacobian(function, points))
    expected = (backward.square().sum(-1).mean(0) / signals.square().sum(-1).mean(0)).sqrt()
    torch.testing.assert_close(probes.gradient_gain(function, points), expected, rtol=0.02, atol=0)


def test_gradient_gain_of_known_maps() -> None:
    points = normal(4, 6)
    assert probes.gradient_gain(lambda x: 3 * x, points).tolist() == pytest.approx([3.0] * 4)
    rotation = torch.linalg.qr(normal(6, 6, dtype=torch.float64))[0]
    assert probes.gradient_gain(lambda x: x @ rotation, points).tolist() == pytest.approx([1.0] * 4)
    expected = (points > 0).double().mean(-1).sqrt()
    torch.testing.assert_close(probes.gradient_gain(torch.relu, points), expected)


def test_spectral_norm_equals_numpy() -> None:
    matrices = normal(3, 4, 6)
    expected = torch.tensor([np.linalg.norm(matrix.double().numpy(), 2) for matrix in matrices], dtype=torch.float64)
    torch.testing.assert_close(probes.spectral_norm(matrices), expected)
    matrices[1, 0, 0] = math.nan
    assert probes.spectral_norm(matrices).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_the_spectral_norm_of_softmax_is_at_most_one_half(scale: float) -> None:
    norms = probes.spectral_norm(probes.jacobian(softmax, scale * normal(200, 5)))
    assert norms.max() <= 0.5 + 1e-12
    assert probes.spectral_norm(probes.jacobian(softmax, torch.tensor([0.0, 0.0, -100.0]))).item() == pytest.approx(0.5)

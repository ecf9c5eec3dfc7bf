"""Rank probes against numpy, plain loops and what algebra says of softmax."""

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from softplace import probes
from softplace.maps import softmax
from softplace.probes.rank import ROUNDING

ON_ACTIVATIONS = [
    probes.singular_values,
    probes.effective_rank,
    probes.rank_deficiency,
    probes.correlation_matrix,
    probes.pairwise_correlation,
    probes.hoyer_sparsity,
]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def orthogonal(width: int) -> Tensor:
    return torch.linalg.qr(normal(width, width, seed=9, dtype=torch.float64))[0]


@pytest.mark.parametrize("probe", ON_ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_batch_equals_a_loop_and_comes_in_float64(probe: Callable[..., Tensor], dtype: torch.dtype) -> None:
    activations = softmax(normal(2, 3, 20, 6)).to(dtype)
    together = probe(activations)
    alone = torch.stack([torch.stack([probe(matrix) for matrix in group]) for group in activations])
    assert together.dtype == torch.float64
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(torch.func.vmap(probe)(activations), together, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("probe", ON_ACTIVATIONS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_member_is_nan_and_the_others_are_not(probe: Callable[..., Tensor], bad: float) -> None:
    activations = normal(3, 20, 6)
    clean = probe(activations)
    activations[1, 4, 2] = bad
    measured = probe(activations)
    assert measured[1].isnan().any()
    if measured.ndim < 3:
        assert measured[1].isnan().all()
    torch.testing.assert_close(measured[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize("probe", ON_ACTIVATIONS)
def test_bad_activations_are_named(probe: Callable[..., Tensor]) -> None:
    name = probe.__name__
    with pytest.raises(TypeError, match=f"'activations' of {name} must be a floating-point tensor. Got a tensor of"):
        probe(torch.ones(4, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"Got list"):
        probe([[1.0]])
    with pytest.raises(ValueError, match=re.escape(f"{name} must have the shape (..., B, W). Got (4,)")):
        probe(torch.ones(4))
    with pytest.raises(ValueError, match=r"must not be empty. Got the shape \(0, 4, 3\)"):
        probe(torch.ones(0, 4, 3))


def test_probes_carry_no_gradient_and_do_not_change_their_input() -> None:
    activations = normal(20, 6).requires_grad_()
    before = activations.detach().clone()
    for probe in ON_ACTIVATIONS:
        assert not probe(activations).requires_grad
    assert torch.equal(activations.detach(), before)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(("rows", "width"), [(30, 7), (5, 9), (2, 1)])
def test_singular_values_equal_numpy(rows: int, width: int, centred: bool) -> None:
    activations = normal(rows, width) + 3
    matrix = activations.double().numpy()
    expected = np.linalg.svd(matrix - matrix.mean(0) if centred else matrix, compute_uv=False)
    measured = probes.singular_values(activations, centred=centred)
    torch.testing.assert_close(measured, torch.from_numpy(expected), rtol=1e-12, atol=1e-12)


def test_centring_needs_two_rows() -> None:
    with pytest.raises(ValueError, match="'activations' of effective_rank must have at least 2 rows on axis -2"):
        probes.effective_rank(torch.ones(1, 4))
    assert probes.effective_rank(torch.ones(1, 4), centred=False).item() == pytest.approx(1.0)


@pytest.mark.parametrize("centred", [True, False])
def test_effective_rank_equals_the_entropy_of_scipy(centred: bool) -> None:
    activations = normal(40, 8) * torch.logspace(0, -3, 8) + 1
    matrix = activations.double().numpy()
    sigma = np.linalg.svd(matrix - matrix.mean(0) if centred else matrix, compute_uv=False)
    expected = math.exp(scipy.stats.entropy(sigma))
    assert probes.effective_rank(activations, centred=centred).item() == pytest.approx(expected, rel=1e-9)


def test_effective_rank_of_known_matrices() -> None:
    identity = torch.eye(16)
    assert probes.effective_rank(identity, centred=False).item() == pytest.approx(16)
    assert probes.effective_rank(identity).item() == pytest.approx(15)  # centring takes one dimension
    assert probes.effective_rank(torch.cat([identity, -identity])).item() == pytest.approx(16)
    line = normal(50, 1) * normal(1, 16, seed=1)
    assert probes.effective_rank(line).item() == pytest.approx(1, abs=1e-6)
    # two singular values in the ratio 3 : 1
    assert probes.effective_rank(torch.diag(torch.tensor([3.0, 1.0])), centred=False).item() == pytest.approx(
        math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4))
    )


def test_effective_rank_ignores_scale_order_and_rotation() -> None:
    activations = normal(60, 8, dtype=torch.float64) * torch.logspace(0, -2, 8, dtype=torch.float64)
    expected = probes.effective_rank(activations)
    shuffle = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    for same in (1e-6 * activations, 1e6 * activations, activations[:, shuffle], activations @ orthogonal(8)):
        torch.testing.assert_close(probes.effective_rank(same), expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(probes.effective_rank(activations.flip(0) + 5), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_constant_layer_has_effective_rank_zero(dtype: torch.dtype) -> None:
    constant = softmax(normal(7, dtype=torch.float64)).expand(33, 7).to(dtype)
    assert probes.effective_rank(constant).item() == 0
    assert probes.effective_rank(torch.zeros(33, 7, dtype=dtype), centred=False).item() == 0
    assert probes.rank_deficiency(constant).item() == 7
    # Noise of the size of rounding is not a signal, though its own rank is full.
    noisy = (constant.double() * (1 + torch.finfo(dtype).eps * normal(33, 7, dtype=torch.float64).sign())).to(dtype)
    assert probes.effective_rank(noisy).item() == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("width", "scale"), [(2, 1.0), (32, 0.01), (32, 1.0), (128, 0.1), (128, 1.0)])
def test_softmax_loses_exactly_one_dimension(width: int, scale: float, seed: int) -> None:
    scores = normal(3, 360, width, seed=seed) * scale
    assert probes.rank_deficiency(softmax(scores)).tolist() == [1.0] * 3
    assert probes.rank_deficiency(softmax(scores.double())).tolist() == [1.0] * 3
    assert probes.rank_deficiency(scores).tolist() == [0.0] * 3
    assert probes.rank_deficiency(torch.tanh(scores)).tolist() == [0.0] * 3


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("width", [2, 32, 128])
def test_the_tolerance_bounds_the_rounding_of_layers_and_maps(width: int, scale: float) -> None:
    """What a layer and a map in float32 add to their float64 values, from the same float32 inputs."""
    inputs, weights = normal(3, 360, 64).abs(), scale / 8 * normal(3, 64, width, seed=1)
    scores = inputs @ weights
    pairs = [(scores, inputs.double() @ weights.double())]
    pairs += [(function(scores), function(scores.double())) for function in (softmax, torch.tanh, torch.sigmoid)]
    for single, double in pairs:
        rms = double.square().mean((-2, -1)).sqrt()
        unit = torch.finfo(torch.float32).eps * rms * (math.sqrt(360) + math.sqrt(width))
        noise = torch.linalg.matrix_norm(single.double() - double, ord=2)
        assert (noise < ROUNDING * unit).all()


@pytest.mark.parametrize("rank", [1, 3, 7, 20])
def test_rank_deficiency_of_a_product_in_float32(rank: int) -> None:
    """The product is rounded to float32, after a large offset that centring takes away."""
    activations = normal(200, rank) @ normal(rank, 20, seed=1) + 100
    assert probes.rank_deficiency(activations).item() == 20 - rank
    centred = activations.double() - activations.double().mean(0)
    assert np.linalg.matrix_rank(centred.numpy(), rtol=1e-4) == rank
    assert probes.rank_deficiency(activations, rtol=1e-4).item() == 20 - rank


def test_rank_deficiency_counts_dead_and_repeated_units() -> None:
    activations = normal(50, 6)
    activations[:, 1] = 0
    activations[:, 4] = activations[:, 0]
    assert probes.rank_deficiency(activations).item() == 2
    assert probes.rank_deficiency(torch.zeros(50, 6)).item() == 6
    assert probes.rank_deficiency(torch.zeros(50, 6), rtol=1e-6).item() == 6


def test_rank_deficiency_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"more rows than units \(B > W\). Got B = 6, W = 6"):
        probes.rank_deficiency(normal(6, 6))
    for rtol in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="'rtol' of rank_deficiency must be finite and not negative"):
            probes.rank_deficiency(normal(9, 6), rtol=rtol)
        with pytest.raises(ValueError, match="'rtol' of image_dimension"):
            probes.image_dimension(softmax, normal(9, 6), rtol=rtol)


def test_correlation_equals_numpy() -> None:
    activations = normal(3, 40, 6) @ normal(6, 6, seed=1) + 10
    expected = torch.stack([torch.from_numpy(np.corrcoef(member.double().numpy().T)) for member in activations])
    torch.testing.assert_close(probes.correlation_matrix(activations), expected, rtol=0, atol=1e-12)
    pairs = [[abs(member[i, j]) for i in range(6) for j in range(i)] for member in expected]
    means = torch.tensor([sum(values) / 15 for values in pairs], dtype=torch.float64)
    torch.testing.assert_close(probes.pairwise_correlation(activations), means, rtol=0, atol=1e-12)


def test_correlation_leaves_dead_units_out() -> None:
    activations = normal(40, 6) + 2
    alive = probes.pairwise_correlation(activations)
    dead = torch.cat([activations, torch.full((40, 1), 0.1), torch.zeros(40, 1)], -1)
    torch.testing.assert_close(probes.pairwise_correlation(dead), alive, rtol=1e-12, atol=0)
    matrix = probes.correlation_matrix(dead)
    assert matrix[6:].isnan().all()
    assert matrix[:, 6:].isnan().all()
    assert not matrix[:6, :6].isnan().any()
    assert probes.pairwise_correlation(torch.ones(40, 6)).isnan()
    assert probes.pairwise_correlation(dead[:, 5:]).isnan()  # one unit that varies makes no pair
    tiny = activations * 1e-30
    torch.testing.assert_close(probes.pairwise_correlation(tiny), alive, rtol=1e-5, atol=0)


def test_two_softmax_units_are_perfectly_correlated() -> None:
    assert probes.pairwise_correlation(softmax(normal(50, 2))).item() == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(ValueError, match="'activations' of pairwise_correlation must have at least 2 units on axis -1"):
        probes.pairwise_correlation(normal(50, 1))


def test_hoyer_equals_a_loop() -> None:
    activations = normal(2, 12, 5) * torch.logspace(0, -2, 5)
    for member, measured in zip(activations, probes.hoyer_sparsity(activations), strict=True):
        total = 0.0
        for row in member.double().tolist():
            ratio = sum(abs(value) for value in row) / math.sqrt(sum(value * value for value in row))
            total += (math.sqrt(5) - ratio) / (math.sqrt(5) - 1)
        assert measured.item() == pytest.approx(total / 12, rel=1e-12)


def test_hoyer_of_known_rows() -> None:
    assert probes.hoyer_sparsity(torch.eye(8)).item() == pytest.approx(1.0)
    assert probes.hoyer_sparsity(-torch.ones(4, 8)).item() == pytest.approx(0.0, abs=1e-12)
    assert probes.hoyer_sparsity(torch.tensor([[3.0, 4.0]])).item() == pytest.approx((2**0.5 - 1.4) / (2**0.5 - 1))
    assert probes.hoyer_sparsity(torch.cat([torch.eye(8), torch.zeros(5, 8)])).item() == pytest.approx(1.0)
    assert probes.hoyer_sparsity(torch.zeros(5, 8)).isnan()
    assert probes.hoyer_sparsity(torch.eye(8, dtype=torch.float64) * 1e-300).item() == pytest.approx(1.0)
    with pytest.raises(ValueError, match="at least 2 units"):
        probes.hoyer_sparsity(torch.ones(5, 1))


def test_image_dimension_of_maps() -> None:
    points = normal(2, 5, 6)
    assert probes.image_dimension(softmax, points).tolist() == [[5.0] * 5] * 2
    assert probes.image_dimension(torch.tanh, points).tolist() == [[6.0] * 5] * 2
    on = (points > 0).double().sum(-1)
    assert torch.equal(probes.image_dimension(torch.relu, points), on)
    # softmax after ReLU: moving all scores together is lost only when all units are on
    expected = torch.where(on == 6, 5.0, on)
    assert torch.equal(probes.image_dimension(lambda x: softmax(torch.relu(x)), points), expected.double())


@pytest.mark.parametrize(("inputs", "middle", "outputs"), [(6, 2, 9), (6, 9, 4), (3, 3, 3)])
def test_image_dimension_of_linear_functions_equals_numpy(inputs: int, middle: int, outputs: int) -> None:
    product = normal(inputs, middle, dtype=torch.float64) @ normal(middle, outputs, seed=1, dtype=torch.float64)
    measured = probes.image_dimension(lambda x: x @ product, normal(4, inputs))
    assert measured.tolist() == [float(np.linalg.matrix_rank(product.numpy()))] * 4
    assert probes.image_dimension(lambda x: x @ product, normal(4, inputs), rtol=0.999).tolist() == [1.0] * 4


def test_image_dimension_of_nan_and_of_a_constant() -> None:
    points = torch.tensor([[0.0, 1.0], [math.nan, 1.0]])
    dimension = probes.image_dimension(softmax, points)
    assert dimension[0] == 1
    assert dimension[1].isnan()
    assert probes.image_dimension(lambda x: 0 * x, torch.ones(3, 2)).tolist() == [0.0] * 3

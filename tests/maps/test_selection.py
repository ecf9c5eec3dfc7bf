"""Maps that select: hand-computed numbers, the package entmax where it is right, and what only they have to keep to."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace import maps
from softplace.maps import _reference, selection, sinkhorn

INF, NAN = math.inf, math.nan
# PyTorch's forward mode uses a part of PyTorch that warns of its end.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def derivatives_are_right(function: Callable[[Tensor], Tensor], scores: Tensor) -> None:
    scores = scores.clone().requires_grad_()
    assert torch.autograd.gradcheck(function, scores, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, scores)


# topk_softmax


def test_of_equal_scores_the_earlier_is_chosen() -> None:
    assert selection.topk_softmax(torch.tensor([1.0, 2.0, 1.0, 1.0])).tolist()[2:] == [0.0, 0.0]
    assert selection.topk_softmax(torch.zeros(5), k=3).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0])
    many = torch.zeros(3, 1000)
    assert (selection.topk_softmax(many, k=10) > 0).sum(-1).tolist() == [10, 10, 10]


def test_fewer_than_k_that_take_part_are_all_chosen() -> None:
    mask = torch.tensor([True, False, True, False])
    weights = selection.topk_softmax(torch.tensor([0.0, 9.0, 0.0, 9.0]), mask=mask, k=3)
    assert weights.tolist() == [0.5, 0.0, 0.5, 0.0]
    assert selection.topk_softmax(torch.tensor([-INF, 1.0, -INF]), k=2).tolist() == [0.0, 1.0, 0.0]


def test_the_gradient_reaches_the_chosen_only() -> None:
    scores = torch.tensor([3.0, 2.0, 1.0, 0.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(selection.topk_softmax(scores)[0], scores)
    share = 1 / (1 + math.e)
    assert gradient.tolist() == pytest.approx([share * (1 - share), -share * (1 - share), 0.0, 0.0])


# hardmax and uniform


@pytest.mark.parametrize("function", [selection.hardmax, selection.uniform])
def test_a_map_without_gradient_leaves_the_rest_of_the_graph_alone(function: Callable[..., Tensor]) -> None:
    scores = normal(3, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(function(scores).sum(), scores)
    assert (gradient == 0).all()
    (gradient,) = torch.autograd.grad((function(scores) * scores).sum(), scores)
    assert torch.equal(gradient, function(scores).detach())
    derivatives_are_right(function, scores)


def test_hardmax_and_uniform_by_hand() -> None:
    scores = torch.tensor([[1.0, 4.0, 4.0], [-INF, 0.0, -INF], [INF, INF, 1.0], [-INF, -INF, -INF]])
    assert selection.hardmax(scores).tolist() == [[0, 0.5, 0.5], [0, 1, 0], [0.5, 0.5, 0], [0, 0, 0]]
    third = pytest.approx([1 / 3] * 3)
    assert selection.uniform(scores).tolist() == [third, [0, 1, 0], [0.5, 0.5, 0], [0, 0, 0]]
    mask = torch.tensor([True, False, True])
    assert selection.uniform(torch.tensor([1.0, NAN, 2.0]), mask=mask).tolist() == [0.5, 0.0, 0.5]
    assert selection.hardmax(torch.tensor([1.0, NAN, 2.0]), mask=mask).tolist() == [0.0, 0.0, 1.0]
    assert selection.hardmax(torch.tensor([1.0, NAN, 2.0])).isnan().all()


# k_subset


@pytest.mark.parametrize("scale", [1e-5, 0.3, 1.0, 10.0, 1e4, 1e8])
@pytest.mark.parametrize("size", [1, 2, 17, 200])
def test_k_subset_is_the_projection(size: int, scale: float) -> None:
    for k in sorted({1, (size + 1) // 2, size}):
        scores = normal(6, size, seed=k, scale=scale)
        weights = selection.k_subset(scores, k=k)
        expected = torch.tensor([_reference.k_subset(row, k=k) for row in scores.tolist()], dtype=torch.float64)
        torch.testing.assert_close(weights, expected, rtol=0, atol=1e-12 * max(scale * 1e-3, 1.0))
        torch.testing.assert_close(weights.sum(-1), torch.full((6,), float(k), dtype=torch.float64), rtol=1e-13, atol=0)
        single = selection.k_subset(scores.float(), k=k).double()
        torch.testing.assert_close(single, selection.k_subset(scores.float().double(), k=k), rtol=0, atol=3e-7)


def test_k_subset_and_normmax_equal_the_package_entmax() -> None:
    entmax = pytest.importorskip("entmax")
    scores = normal(20, 15, seed=3, scale=2.0)
    for k in (1, 3, 15):
        expected = entmax.budget_bisect(scores, budget=k, n_iter=100)
        torch.testing.assert_close(selection.k_subset(scores, k=k), expected, rtol=0, atol=1e-12)
    for alpha in (1.1, 1.5, 2, 3.0, 20.0):
        expected = entmax.normmax_bisect(scores, alpha=alpha, n_iter=100)
        torch.testing.assert_close(selection.normmax(scores, alpha=alpha), expected, rtol=0, atol=1e-11)


def test_k_subset_with_infinite_scores_is_the_limit() -> None:
    scores = torch.tensor([[INF, 1.0, 1.0, 0.0], [INF, INF, INF, 0.0], [-INF, 3.0, -INF, -INF], [-INF] * 4])
    expected = [[1.0, 0.5, 0.5, 0.0], pytest.approx([2 / 3] * 3 + [0.0]), [0, 1, 0, 0], [0, 0, 0, 0]]
    assert selection.k_subset(scores).tolist() == expected
    assert selection.k_subset(torch.tensor([3.0, 1.0, NAN])).isnan().all()
    mask = torch.tensor([True, False, True, False])
    assert selection.k_subset(torch.zeros(4), mask=mask, k=3).tolist() == [1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_k_subset_tells_infinity_from_the_last_numbers(dtype: torch.dtype) -> None:
    low, high = torch.finfo(dtype).min, torch.finfo(dtype).max
    weights = selection.k_subset(torch.full((8,), low, dtype=dtype), mask=torch.arange(8) < 3, k=2)
    torch.testing.assert_close(weights, torch.tensor([2 / 3] * 3 + [0.0] * 5, dtype=dtype))
    assert selection.k_subset(torch.tensor([low, -INF, -INF], dtype=dtype), k=1).tolist() == [1.0, 0.0, 0.0]
    assert selection.k_subset(torch.tensor([high, INF, INF], dtype=dtype), k=1).tolist() == [0.0, 0.5, 0.5]
    assert selection.k_subset(torch.tensor([high, INF, low], dtype=dtype), k=1).tolist() == [0.0, 1.0, 0.0]


def test_k_subset_of_scores_without_an_axis_under_vmap() -> None:
    members = torch.tensor([1.0, -INF, 3.0])
    assert torch.vmap(lambda score: selection.k_subset(score, k=1))(members).tolist() == [1.0, 0.0, 1.0]
    threshold = torch.vmap(lambda value: selection._subset_threshold(value, -1, 1))(torch.zeros(3))
    assert threshold.tolist() == [-1.0] * 3


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_derivatives_of_k_subset(k: int) -> None:
    derivatives_are_right(partial(selection.k_subset, k=k), normal(3, 9, seed=4))


# normmax


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2, 5.0, 1e3])
@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e4])
def test_normmax_is_where_its_objective_is_largest(alpha: float, scale: float) -> None:
    scores = normal(5, 30, seed=5, scale=scale)
    weights = selection.normmax(scores, alpha=alpha)
    torch.testing.assert_close(weights.sum(-1), torch.ones(5, dtype=torch.float64), rtol=1e-13, atol=0)
    largest = weights.amax(-1, keepdim=True)
    norm = largest * (weights / largest).pow(alpha).sum(-1, keepdim=True).pow(1 / alpha)
    # The gradient of the objective is equal on the support, and smaller beside it.
    slope = scores - (weights / norm).pow(alpha - 1)
    support = weights > 0
    common = torch.where(support, slope, INF).amin(-1, keepdim=True)
    assert ((slope - common)[support].abs() <= 1e-8 * max(scale, 1.0)).all()
    assert ((slope <= common + 1e-8 * max(scale, 1.0)) | support).all()


@pytest.mark.parametrize("alpha", [1.0000001, 1.001, 1e6])
def test_normmax_near_the_ends_of_alpha(alpha: float) -> None:
    scores = normal(6, 9, seed=15)
    weights = selection.normmax(scores, alpha=alpha)
    # Near 1 it is near hardmax; as alpha grows the norm becomes that of the largest weight.
    expected = [_reference.normmax(row, alpha=alpha) for row in scores.tolist()]
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-8)
    if alpha < 1.01:
        torch.testing.assert_close(weights, selection.hardmax(scores), rtol=0, atol=1e-6)


@pytest.mark.parametrize("alpha", [1.2, 2.0, 4.0])
def test_derivatives_of_normmax(alpha: float) -> None:
    derivatives_are_right(partial(selection.normmax, alpha=alpha), normal(3, 6, seed=6))


# sinkhorn


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (4, 6), (6, 3), (40, 40)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1000.0])
def test_sinkhorn_has_the_sums_it_should_have(shape: tuple[int, int], scale: float) -> None:
    weights = sinkhorn(normal(2, *shape, seed=7), temperature=1 / scale)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, shape[0], dtype=torch.float64), rtol=1e-13, atol=0)
    columns = torch.full((2, shape[1]), shape[0] / shape[1], dtype=torch.float64)
    torch.testing.assert_close(weights.sum(-2), columns, rtol=1e-12 * max(scale, 1.0), atol=0)


def test_sinkhorn_goes_to_the_best_matching() -> None:
    scipy_optimize = pytest.importorskip("scipy.optimize")
    scores = normal(8, 8, seed=8)
    rows, columns = scipy_optimize.linear_sum_assignment(scores.numpy(), maximize=True)
    weights = sinkhorn(scores, temperature=1e-3)
    assert weights[rows, columns].min().item() > 0.999


@pytest.mark.parametrize("iterations", [1, 7])
def test_so_many_iterations_are_as_many_divisions(iterations: int) -> None:
    scores = normal(4, 5, seed=9, scale=2.0)
    weights = scores.exp()
    for _ in range(iterations):
        weights = weights / weights.sum(0, keepdim=True)
        weights = weights / weights.sum(1, keepdim=True)
    torch.testing.assert_close(sinkhorn(scores, iterations=iterations), weights, rtol=1e-12, atol=0)
    derivatives_are_right(partial(sinkhorn, iterations=iterations), scores)


def test_many_iterations_and_convergence_agree() -> None:
    scores = normal(3, 5, 5, seed=10)
    torch.testing.assert_close(sinkhorn(scores), sinkhorn(scores, iterations=300), rtol=1e-12, atol=0)


PATTERN = torch.tensor([[1, 1, 0, 1, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [1, 0, 1, 1, 0], [0, 0, 0, 0, 0]]).bool()
BLOCKS = torch.block_diag(torch.ones(2, 2), torch.ones(3, 3)).bool()


@pytest.mark.parametrize("mask", [None, PATTERN, BLOCKS], ids=["all", "row and column left out", "two blocks"])
def test_derivatives_of_sinkhorn(mask: Tensor | None) -> None:
    derivatives_are_right(partial(sinkhorn, mask=mask), normal(5, 5, seed=11, scale=2.0))


def test_what_the_mask_leaves_out_of_a_matrix_does_not_count() -> None:
    scores = normal(5, 5, seed=12)
    kept = sinkhorn(scores[:4, :4], mask=PATTERN[:4, :4])
    scores[4], scores[:, 4] = NAN, INF
    scores.requires_grad_()
    weights = sinkhorn(scores, mask=PATTERN)
    torch.testing.assert_close(weights[:4, :4], kept, rtol=1e-12, atol=0)
    assert (weights[~PATTERN] == 0).all()
    (gradient,) = torch.autograd.grad((weights * normal(5, 5)).sum(), scores)
    assert gradient.isfinite().all()
    assert (gradient[~PATTERN] == 0).all()


def test_sinkhorn_of_bad_numbers() -> None:
    weights = sinkhorn(torch.tensor([[[INF, 1.0], [2.0, 3.0]], [[0.0, NAN], [0, 0]], [[-INF, -INF]] * 2]))
    torch.testing.assert_close(weights[0], torch.eye(2), rtol=0, atol=1e-5)
    assert weights[1].isnan().all()
    assert (weights[2] == 0).all()


def test_sinkhorn_along_any_pair_of_axes() -> None:
    scores = normal(3, 4, 5, seed=13)
    expected = sinkhorn(scores)
    for dim, other in ((0, 1), (1, 0), (2, 0), (0, 2), (-2, -1)):
        moved = scores.movedim((-2, -1), (other, dim))
        torch.testing.assert_close(sinkhorn(moved, dim, other_dim=other).movedim((other, dim), (-2, -1)), expected)
    torch.testing.assert_close(sinkhorn(scores.mT, -2).mT, expected)


def test_sinkhorn_under_vmap_with_one_mask_or_one_matrix_for_all() -> None:
    scores, masks = normal(3, 5, 5, seed=14), torch.stack([PATTERN, BLOCKS, torch.ones_like(BLOCKS)])
    each = torch.stack([sinkhorn(scores[0], mask=mask) for mask in masks])
    torch.testing.assert_close(torch.vmap(lambda mask: sinkhorn(scores[0], mask=mask))(masks), each)
    each = torch.stack([sinkhorn(one, mask=BLOCKS) for one in scores])
    along = torch.vmap(lambda one: sinkhorn(one, mask=BLOCKS), 1)(scores.transpose(0, 1))
    torch.testing.assert_close(along, each)


# Options


@pytest.mark.parametrize(
    ("name", "options", "error", "text"),
    [
        ("topk_softmax", {"k": 5}, ValueError, r"'k' of topk_softmax must lie in \[1, 4\], .* Got 5\. Use k=1\."),
        ("k_subset", {"k": 0}, ValueError, r"'k' of k_subset must lie in \[1, 4\]"),
        ("k_subset", {"k": 2.0}, TypeError, r"'k' of k_subset must be an integer\. Got float"),
        ("topk_softmax", {"k": True}, TypeError, r"'k' of topk_softmax must be an integer\. Got bool"),
        ("normmax", {"alpha": 1.0}, ValueError, r"'alpha' of normmax must be above 1 and finite\. Got 1\.0"),
        ("normmax", {"alpha": INF}, ValueError, r"'alpha' of normmax must be above 1 and finite\. Got inf"),
        ("normmax", {"alpha": NAN}, ValueError, r"'alpha' of normmax must be above 1 and finite\. Got nan"),
        ("normmax", {"alpha": torch.tensor(2.0)}, TypeError, r"'alpha' of normmax must be a number\. Got a tensor"),
        ("sinkhorn", {"iterations": 0}, ValueError, r"'iterations' of sinkhorn must be at least 1\. Got 0"),
        (
            "sinkhorn",
            {"iterations": 2.5},
            TypeError,
            r"'iterations' of sinkhorn must be an integer or None\. Got float",
        ),
        (
            "sinkhorn",
            {"other_dim": -1},
            ValueError,
            r"'other_dim' of sinkhorn must lie in \[-2, 1\] and differ .* Got -1",
        ),
        (
            "sinkhorn",
            {"other_dim": 2},
            ValueError,
            r"'other_dim' of sinkhorn must lie in \[-2, 1\] and differ .* Got 2",
        ),
        ("sinkhorn", {"other_dim": 0.0}, TypeError, r"'other_dim' of sinkhorn must be an integer or None\. Got float"),
    ],
)
def test_unusable_options_are_named(name: str, options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        getattr(maps, name)(torch.zeros(4, 4), **options)


def test_sinkhorn_needs_a_matrix() -> None:
    with pytest.raises(ValueError, match=r"'scores' of sinkhorn must have rows and columns\. Got the shape \(3,\)"):
        sinkhorn(torch.zeros(3))


@pytest.mark.parametrize("rows", [360, 1436, 20_000])
def test_sinkhorn_of_many_rows_is_finite(rows: int) -> None:
    """As in a gate of experts: the equations are singular but for a ridge, which the sums of a tall matrix swallow."""
    for seed in range(12):
        scores = torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed)).requires_grad_()
        weights = maps.sinkhorn(scores)
        exact = maps.sinkhorn(scores.detach().double())
        torch.testing.assert_close(weights.double(), exact, rtol=1e-4, atol=1e-6)
        (gradient,) = torch.autograd.grad(weights[:, 0].square().sum(), scores)
        assert gradient.isfinite().all()

"""Alternatives to softmax: their formulas, hand-computed numbers, and what only they have to keep to."""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace.maps import alternatives
from softplace.maps._reference import REFERENCE
from softplace.maps.simplex import softmax

INF, NAN = math.inf, math.nan
# PyTorch's forward mode uses a part of PyTorch that warns of its end.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
MAPS: dict[str, Callable[..., Tensor]] = {
    "sigsoftmax": alternatives.sigsoftmax,
    "taylor_softmax": alternatives.taylor_softmax,
    "taylor_softmax of order 6": partial(alternatives.taylor_softmax, order=6),
    "periodic": alternatives.periodic,
    "softpick": alternatives.softpick,
    "sigmoid_normalised": alternatives.sigmoid_normalised,
    "relu_normalised": alternatives.relu_normalised,
}
every_map = pytest.mark.parametrize("name", MAPS)


def normal(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigsoftmax": lambda z: z.exp() * z.sigmoid(),
    "taylor_softmax": lambda z: 1 + z + z**2 / 2,
    "taylor_softmax of order 6": lambda z: sum((z**n / math.factorial(n) for n in range(7)), torch.zeros_like(z)),
    "periodic": lambda z: (z + math.pi / 4).sin() ** 2,
    "sigmoid_normalised": lambda z: z.sigmoid(),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_the_formula_over_its_sum(name: str, dim: int) -> None:
    parts = FORMULAS[name](normal(3, 4, 5) / 0.7)
    weights = MAPS[name](normal(3, 4, 5), dim, temperature=0.7)
    torch.testing.assert_close(weights, parts / parts.sum(dim, keepdim=True), rtol=1e-12, atol=0)


@every_map
def test_derivatives(name: str) -> None:
    scores = normal(3, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(MAPS[name], scores, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(MAPS[name], scores)
    mask = torch.tensor([True, False, True, True, False])
    assert torch.autograd.gradcheck(lambda s: MAPS[name](s, mask=mask, temperature=0.5), scores)


@every_map
def test_vmap_equals_a_loop(name: str) -> None:
    scores = normal(3, 4, 5, seed=2)
    loop = torch.stack([MAPS[name](each, 0) for each in scores.unbind(1)], 1)
    torch.testing.assert_close(torch.vmap(lambda each: MAPS[name](each, 0), 1, 1)(scores), loop, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", [name for name in MAPS if name != "relu_normalised"])
def test_infinite_scores_and_nan(name: str) -> None:
    scores = torch.tensor([[INF, 1.0, INF], [NAN, 1.0, 2.0]], requires_grad=True)
    weights = MAPS[name](scores)
    assert weights[0].tolist() == [0.5, 0.0, 0.5]
    assert weights[1].isnan().all()
    (gradient,) = torch.autograd.grad((weights[0] * torch.arange(3.0)).sum(), scores)
    assert gradient[0].tolist() == [0.0, 0.0, 0.0]
    assert (MAPS[name](torch.full((2, 3), -INF)) == 0).all()
    mask = torch.tensor([[True, False, True], [False] * 3])
    weights = MAPS[name](torch.tensor([[1.0, NAN, 1.0]] * 2), mask=mask)
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.0, 0.5], [0.0] * 3]))


@every_map
def test_large_scores_do_not_overflow(name: str) -> None:
    for scale in (1e3, 1e20, 1e36):
        scores = normal(4, 6, seed=3, scale=scale).float()
        weights = MAPS[name](scores)
        assert weights.isfinite().all()
        if name != "relu_normalised":
            assert (weights.sum(-1) <= 1 + 1e-5).all()


# sigsoftmax


def test_sigsoftmax_is_softmax_far_above_0_and_that_of_twice_the_scores_far_below() -> None:
    scores = normal(3, 6, seed=4)
    torch.testing.assert_close(alternatives.sigsoftmax(scores + 100), softmax(scores), rtol=1e-12, atol=0)
    torch.testing.assert_close(alternatives.sigsoftmax(scores - 100), softmax(2 * scores), rtol=1e-11, atol=0)


def test_sigsoftmax_has_its_derivatives_at_0() -> None:
    scores = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    exact = torch.autograd.functional.hessian(lambda s: softmax(s + torch.log(torch.sigmoid(s)))[0, 0], scores)
    ours = torch.autograd.functional.hessian(lambda s: alternatives.sigsoftmax(s)[0, 0], scores)
    torch.testing.assert_close(ours, exact)


# taylor_softmax


def test_a_high_order_is_softmax() -> None:
    scores = normal(3, 6, seed=5, scale=1.0)
    torch.testing.assert_close(alternatives.taylor_softmax(scores, order=24), softmax(scores), rtol=1e-10, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("row", "order"), [([3, 2, 1, 0.1], 100), ([3, 2, 1, 0.1], 400), ([30, 2, 1], 40), ([1000, 990, -1], 30)]
)
def test_no_power_of_a_high_order_overflows(row: list[float], order: int, dtype: torch.dtype) -> None:
    parts = [sum(Fraction(score) ** n / math.factorial(n) for n in range(order + 1)) for score in row]
    expected = [float(part / sum(parts)) for part in parts]
    got = alternatives.taylor_softmax(torch.tensor(row, dtype=dtype), order=order)
    assert got.tolist() == pytest.approx(expected, rel=1e3 * torch.finfo(dtype).eps, abs=1e-37)


@pytest.mark.parametrize("order", [2, 40])
def test_the_taylor_polynomial_of_the_largest_scores_is_its_last_power(order: int) -> None:
    weights = alternatives.taylor_softmax(torch.tensor([2e38, -1e38, 1.0, 0.0]), order=order)
    assert weights.tolist() == pytest.approx([1 / (1 + 2.0**-order), 1 / (2.0**order + 1), 0, 0], rel=1e-5)


def test_the_taylor_polynomial_grows_below_too() -> None:
    assert alternatives.taylor_softmax(torch.tensor([-4.0, 0.0])).tolist() == pytest.approx([5 / 6, 1 / 6])


@pytest.mark.parametrize(
    ("order", "error", "text"),
    [
        (3, ValueError, r"'order' of taylor_softmax must be even and positive\. Got 3\. Use order=2\."),
        (0, ValueError, r"must be even and positive\. Got 0"),
        (-2, ValueError, r"must be even and positive\. Got -2"),
        (2.0, TypeError, r"'order' of taylor_softmax must be an integer\. Got float"),
        (True, TypeError, r"must be an integer\. Got bool"),
    ],
)
def test_an_unusable_order_is_named(order: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        alternatives.taylor_softmax(torch.zeros(3), order=order)


# softpick


def test_softpick_by_hand() -> None:
    e = math.e
    weights = alternatives.softpick(torch.tensor([1.0, 2.0, -1.0, 0.0, -INF], dtype=torch.float64))
    total = (e - 1) + (e**2 - 1) + (1 - 1 / e) + 1
    assert weights.tolist() == pytest.approx([(e - 1) / total, (e**2 - 1) / total, 0, 0, 0], rel=1e-14)
    assert alternatives.softpick(torch.zeros(3)).tolist() == [0.0] * 3
    assert alternatives.softpick(torch.tensor([-1.0, -2.0])).tolist() == [0.0, 0.0]


def test_softpick_keeps_its_digits_near_0_and_far_above() -> None:
    for row in ([1e-9, 3e-9, -2e-9], [1000.0, 999.0, -1000.0], [1e-300, 0.0, 1.0]):
        expected = REFERENCE["softpick"](row)
        got = alternatives.softpick(torch.tensor(row, dtype=torch.float64)).tolist()
        assert got == pytest.approx(expected, rel=1e-13, abs=0)


# sigmoid_normalised


def test_sigmoid_normalised_by_hand() -> None:
    third = math.log(2.0)  # sigmoid(log 2) = 2 / 3, sigmoid(-log 2) = 1 / 3, sigmoid(0) = 1 / 2
    weights = alternatives.sigmoid_normalised(torch.tensor([third, -third, 0.0, -INF], dtype=torch.float64))
    assert weights.tolist() == pytest.approx([4 / 9, 2 / 9, 3 / 9, 0.0], rel=1e-15)


def test_sigmoid_normalised_is_softmax_far_below_0_and_uniform_far_above() -> None:
    scores = normal(3, 6, seed=6)
    torch.testing.assert_close(alternatives.sigmoid_normalised(scores - 100), softmax(scores), rtol=1e-12, atol=0)
    sixth = torch.full_like(scores, 1 / 6)
    torch.testing.assert_close(alternatives.sigmoid_normalised(scores + 100), sixth, rtol=1e-12, atol=0)
    # Every sigmoid of the row underflows in float32, their quotients do not.
    low = torch.tensor([-300.0, -301.0, -400.0])
    torch.testing.assert_close(alternatives.sigmoid_normalised(low), softmax(low))


# relu_normalised


def test_relu_normalised_counts_what_takes_part() -> None:
    scores = torch.tensor([[4.0, 2.0, -1.0, 8.0], [INF, -INF, NAN, 1.0]])
    assert alternatives.relu_normalised(scores, temperature=2.0)[0].tolist() == [0.5, 0.25, 0.0, 1.0]
    second = alternatives.relu_normalised(scores)[1].tolist()
    assert second[:2] == [INF, 0.0]
    assert math.isnan(second[2])
    mask = torch.tensor([[True, False, True, False], [False, False, False, True]])
    assert alternatives.relu_normalised(scores, mask=mask).tolist() == [[2.0, 0, 0, 0], [0, 0, 0, 1.0]]
    assert alternatives.relu_normalised(scores, 0, mask=torch.zeros(4, dtype=torch.bool)).tolist() == [[0.0] * 4] * 2

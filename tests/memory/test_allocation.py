"""Retention, usage and allocation: hand-computed numbers, loops over the paper's equations, and invariants."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softplace import maps
from softplace.errors import InputError
from softplace.memory.allocation import allocate_heads, allocation, retention, usage

UNIT = st.one_of(st.sampled_from([0.0, 1.0, 0.5, 1e-300, 1e-17, 1 - 1e-16]), st.floats(0.0, 1.0))
ROWS = st.lists(UNIT, min_size=1, max_size=12)


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def loop(row: list[float]) -> list[float]:
    """The paper's equation, slot by slot."""
    weights, left = [0.0] * len(row), 1.0
    for slot in sorted(range(len(row)), key=lambda each: row[each]):
        weights[slot] = (1 - row[slot]) * left
        left *= row[slot]
    return weights


# Allocation


def test_allocation_by_hand() -> None:
    torch.testing.assert_close(allocation(double(0.5, 0.2, 0.9)), double(0.5 * 0.2, 0.8, 0.1 * 0.5 * 0.2))


@given(ROWS)
def test_allocation_is_that_of_the_loop(row: list[float]) -> None:
    values = double(*row)
    found = allocation(values)
    torch.testing.assert_close(found, double(*loop(row)), rtol=1e-13, atol=1e-300)
    assert (found >= 0).all()
    assert abs(found.sum() - (1 - values.prod())) <= 1e-12
    order = values.argsort(stable=True)
    assert (found[order].diff() <= 1e-16).all()  # the more used, the less
    if 0.0 in row:
        assert sorted(found.tolist()) == [0.0] * (len(row) - 1) + [1.0]
        assert row[int(found.argmax())] == 0.0


@pytest.mark.parametrize("slots", [1, 2, 3, 127, 128, 1000])
def test_allocation_sums_to_what_is_not_used(slots: int) -> None:
    torch.manual_seed(slots)
    values = torch.rand(20, slots, dtype=torch.float64) ** (1 / slots)  # products that do not vanish
    torch.testing.assert_close(allocation(values).sum(-1), 1 - values.prod(-1), rtol=0, atol=1e-12)
    single = allocation(values.float())
    assert (single >= 0).all()
    assert (single.sum(-1) <= 1 + 1e-6).all()


def test_allocation_of_a_full_and_of_an_empty_memory() -> None:
    assert (allocation(torch.ones(3, 4)) == 0).all()
    assert allocation(torch.zeros(3, 4)).tolist() == [[1.0, 0.0, 0.0, 0.0]] * 3  # of equals, the first


def test_allocation_follows_a_permutation() -> None:
    torch.manual_seed(1)
    values, order = torch.rand(5, 9, dtype=torch.float64), torch.randperm(9)
    torch.testing.assert_close(allocation(values[:, order]), allocation(values)[:, order])


@pytest.mark.parametrize(
    "row", [(0.3, 0.1, 0.7, 0.9), (0.3, 0.0, 0.7, 0.9), (0.3, 0.0, 0.7, 1.0), (0.4,), (0.0,), (1.0,), (1e-200, 0.5)]
)
def test_gradient_of_allocation(row: tuple[float, ...]) -> None:
    # At 0 and 1 too, where a step of 1e-6 leaves the order as it is.
    assert torch.autograd.gradcheck(allocation, double(*row).requires_grad_())
    assert torch.autograd.gradgradcheck(allocation, double(*row).requires_grad_())


def test_gradient_of_allocation_where_slots_tie() -> None:
    for value in (0.0, 0.5, 1.0):
        values = torch.full((3, 5), value, requires_grad=True)
        (gradient,) = torch.autograd.grad(allocation(values).square().sum(), values)
        assert gradient.isfinite().all()


def test_allocation_by_a_map() -> None:
    values = double(0.5, 0.2, 0.9)
    expected = torch.softmax(1 - values, -1)
    torch.testing.assert_close(allocation(values, map="softmax"), expected)
    torch.testing.assert_close(allocation(values, map=maps.softmax), expected)
    with pytest.raises(InputError, match="Did you mean 'softmax'"):
        allocation(values, map="sofmax")


# Several write heads


def test_one_head_gets_the_allocation() -> None:
    torch.manual_seed(2)
    values = torch.rand(4, 7)
    assert torch.equal(allocate_heads(values, torch.rand(4, 1)).squeeze(-2), allocation(values))


def test_heads_that_write_get_different_slots() -> None:
    found = allocate_heads(torch.zeros(2, 5), torch.ones(2, 3))
    assert found.argmax(-1).tolist() == [[0, 1, 2]] * 2
    assert (found.sum(-1) == 1).all()


def test_heads_by_hand() -> None:
    values, gates = double(0.5, 0.2), double(0.4, 0.7)
    first = double(0.1, 0.8)
    second = double(0.5 + 0.5 * 0.4 * 0.1, 0.2 + 0.8 * 0.4 * 0.8)  # 0.52, 0.456
    expected = torch.stack([first, double((1 - 0.52) * 0.456, 1 - 0.456)])
    torch.testing.assert_close(allocate_heads(values, gates), expected)
    torch.testing.assert_close(allocate_heads(values, gates, map="softmax")[1], torch.softmax(1 - _used(values), -1))
    assert second.argmin() == 1


def _used(values: Tensor) -> Tensor:
    """After the first head of `test_heads_by_hand` allocated by softmax."""
    return values + (1 - values) * 0.4 * torch.softmax(1 - values, -1)


def test_gradient_of_heads() -> None:
    torch.manual_seed(3)
    values = torch.rand(2, 5, dtype=torch.float64, requires_grad=True)
    gates = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(allocate_heads, (values, gates))


# Retention and usage


def test_retention_by_hand() -> None:
    weights = torch.tensor([[0.5, 0.0, 1.0], [0.2, 0.0, 1.0]], dtype=torch.float64)
    expected = double((1 - 0.4) * (1 - 0.1), 1.0, (1 - 0.8) * (1 - 0.5))
    torch.testing.assert_close(retention(double(0.8, 0.5), weights), expected)


def test_usage_by_hand() -> None:
    weights = torch.tensor([[0.5, 0.0, 1.0]], dtype=torch.float64)
    found = usage(double(0.2, 0.3, 0.4), weights, double(1.0, 0.5, 0.9))
    torch.testing.assert_close(found, double(0.6, 0.15, 0.9))
    both = usage(double(0.2, 0.3, 0.4), torch.cat([weights, weights]), double(1.0, 0.5, 0.9))
    torch.testing.assert_close(both, double(0.2 + 0.8 * 0.75, 0.15, 0.9))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("heads", [1, 3])
def test_usage_stays_in_the_unit_interval_to_the_last_bit(dtype: torch.dtype, heads: int) -> None:
    generator = torch.Generator().manual_seed(4)

    def near_the_ends(*shape: int) -> Tensor:
        tiny = torch.rand(shape, generator=generator, dtype=dtype) ** 20
        return torch.where(torch.rand(shape, generator=generator) < 0.5, tiny, 1 - tiny)

    found = usage(near_the_ends(100_000), near_the_ends(heads, 100_000), near_the_ends(100_000))
    assert (found >= 0).all()
    assert (found <= 1).all()


@pytest.mark.parametrize("steps", [1_500, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_usage_after_many_steps(dtype: torch.dtype, steps: int) -> None:
    torch.manual_seed(5)
    value, left = torch.zeros(4, 6, dtype=dtype), torch.ones(4, 6, dtype=torch.float64)
    keep = torch.ones(4, 6, dtype=dtype)
    for _ in range(steps):
        written = torch.rand(4, 2, 6, dtype=dtype) ** 40  # rarely near 1
        before, value = value, usage(value, written, keep)
        left = left * (1 - written.double()).prod(-2)
        assert (value >= before).all()
        assert (value <= 1).all()
    torch.testing.assert_close(value.double(), 1 - left, rtol=0, atol=1e-3 if dtype == torch.float32 else 1e-12)


def test_gradients_of_retention_and_usage() -> None:
    torch.manual_seed(6)
    gates, weights = double(0.3, 1.0, 0.0).requires_grad_(), torch.rand(3, 4, dtype=torch.float64)
    weights[0, 0] = 1.0
    assert torch.autograd.gradcheck(retention, (gates, weights.requires_grad_()))
    rest = [double(0.0, 1.0, 0.4, 0.5), double(1.0, 0.3, 0.0, 0.2)]
    assert torch.autograd.gradcheck(usage, (rest[0].requires_grad_(), weights, rest[1].requires_grad_()))


def test_batched_is_one_by_one() -> None:
    torch.manual_seed(7)
    values, gates, weights = torch.rand(3, 5), torch.rand(3, 2), torch.rand(3, 2, 5)
    for function, arguments in (
        (allocation, (values,)),
        (allocate_heads, (values, gates)),
        (retention, (gates, weights)),
        (usage, (values, weights, values)),
    ):
        batched = torch.vmap(function)(*arguments)
        alone = [function(*each) for each in zip(*arguments, strict=True)]
        torch.testing.assert_close(batched, torch.stack(alone), rtol=0, atol=0)

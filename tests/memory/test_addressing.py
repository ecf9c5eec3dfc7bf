"""Every stage of the addressing stays on the simplex, moves heads the right way, writes and reads what it should."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from softplace import maps
from softplace.errors import InputError
from softplace.memory.addressing import (
    EPSILON,
    TINY,
    Addressing,
    address,
    content,
    interpolate,
    inverse_norms,
    read,
    sharpen,
    shift,
    write,
)


def on_simplex(weights: Tensor, tolerance: float = 2e-6) -> None:
    assert bool((weights >= 0).all())
    torch.testing.assert_close(
        weights.sum(-1), torch.ones(weights.shape[:-1], dtype=weights.dtype), rtol=0, atol=tolerance
    )


def one_hot(slots: int, slot: int) -> Tensor:
    return torch.eye(slots, dtype=torch.float64)[slot].unsqueeze(0)


def simplex(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).softmax(-1)


def arguments(
    slots: int, width: int, heads: int, shifts: int = 3, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    drawn = {
        "memory": torch.randn(2, slots, width),
        "previous": torch.randn(2, heads, slots).to(dtype).softmax(-1),
        "keys": torch.randn(2, heads, width),
        "strengths": 10 * torch.rand(2, heads),
        "gates": torch.rand(2, heads),
        "shifts": torch.randn(2, heads, shifts).to(dtype).softmax(-1),
        "sharpness": 1 + 5 * torch.rand(2, heads),
    }
    return {name: value.to(dtype) for name, value in drawn.items()}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("memory", ["random", "zero", "equal", "tiny", "large"])
@pytest.mark.parametrize("key", ["random", "zero", "large"])
@pytest.mark.parametrize(("slots", "width"), [(1, 1), (1, 20), (2, 1), (128, 20), (1024, 3)])
def test_every_stage_stays_on_the_simplex_with_finite_gradients(memory: str, key: str, slots: int, width: int) -> None:
    memories = {
        "random": torch.randn(1, slots, width),
        "zero": torch.zeros(1, slots, width),
        "equal": torch.randn(1, 1, width).repeat(1, slots, 1),
        "tiny": torch.full((1, slots, width), 1e-6),
        "large": 1e10 * torch.randn(1, slots, width),
    }
    keys = {
        "random": torch.randn(1, 1, width),
        "zero": torch.zeros(1, 1, width),
        "large": torch.full((1, 1, width), 1e12),
    }
    # A head for each pair of extremes: strengths from 1e-3 to 1e4, sharpness from 1 to 100.
    extremes = torch.cartesian_prod(torch.tensor([1e-3, 1.0, 1e4]), torch.tensor([1.0, 9.0, 25.0, 100.0]))
    heads = len(extremes)
    leaves = {
        "memory": memories[memory],
        "previous": torch.cat(
            [torch.full((1, heads // 2, slots), 1 / slots), torch.eye(slots)[:1].expand(1, 6, -1)], 1
        ),
        "keys": keys[key].repeat(1, heads, 1),
        "strengths": extremes[:, 0].unsqueeze(0).clone(),
        "gates": torch.linspace(0, 1, heads).unsqueeze(0),
        "shifts": torch.randn(1, heads, 3).softmax(-1),
        "sharpness": extremes[:, 1].unsqueeze(0).clone(),
    }
    for value in leaves.values():
        value.requires_grad_()
    stages = address(**leaves)
    for stage in (stages.content.weights, stages.interpolated, stages.shifted, stages.weights):
        on_simplex(stage)
    assert bool((stages.content.similarity.abs() <= 1 + 1e-5).all())
    gradients = torch.autograd.grad((stages.weights * torch.randn_like(stages.weights)).sum(), list(leaves.values()))
    for name, gradient in zip(leaves, gradients, strict=True):
        assert bool(gradient.isfinite().all()), name


@pytest.mark.parametrize("map", ["softmax", "sparsemax", "entmax15", "hardmax"])
def test_the_map_is_that_of_the_name_or_the_callable(map: str) -> None:  # noqa: A002
    memory, keys, strengths = torch.randn(2, 7, 3), torch.randn(2, 4, 3), 5 * torch.rand(2, 4)
    found = content(memory, keys, strengths, map=map)
    torch.testing.assert_close(found.weights, maps.get(map)(found.scores, -1))
    torch.testing.assert_close(content(memory, keys, strengths, map=maps.get(map)).weights, found.weights)


def test_an_unknown_map_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"Unknown map 'sofmax'\. Did you mean 'softmax'"):
        content(torch.zeros(2, 2), torch.zeros(1, 2), torch.zeros(1), map="sofmax")


def test_similarity_is_the_cosine() -> None:
    memory = torch.tensor([[3.0, 4.0], [0.0, -2.0], [0.0, 0.0]], dtype=torch.float64)
    found = content(memory, torch.tensor([[0.0, 5.0]], dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64))
    expected = torch.tensor([[0.8, -1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(found.similarity, expected, rtol=0, atol=5e-7)
    powers = [math.exp(2 * each) for each in (0.8, -1.0, 0.0)]
    expected = torch.tensor([[each / sum(powers) for each in powers]], dtype=torch.float64)
    torch.testing.assert_close(found.weights, expected, rtol=0, atol=5e-7)


def test_look_up_at_strength_zero_and_of_equal_slots_is_uniform() -> None:
    memory, keys = torch.randn(2, 8, 3), torch.randn(2, 1, 3)
    torch.testing.assert_close(content(memory, keys, torch.zeros(2, 1)).weights, torch.full((2, 1, 8), 1 / 8))
    equal = memory[:, :1].expand(-1, 8, -1)
    assert content(equal, keys, torch.full((2, 1), 1e4)).weights.unique().tolist() == [1 / 8]


def test_look_up_does_not_see_lengths_but_permutations_and_picks_the_most_similar_in_the_end() -> None:
    memory, keys = torch.randn(2, 8, 3, dtype=torch.float64), torch.randn(2, 2, 3, dtype=torch.float64)
    strengths = 5 * torch.rand(2, 2, dtype=torch.float64)
    weights = content(memory, keys, strengths).weights
    scaled = content(memory * (1 + torch.rand(2, 8, 1)), 9 * keys, strengths).weights
    torch.testing.assert_close(scaled, weights, rtol=0, atol=1e-4)  # EPSILON is seen by vectors of length 0.1
    order = torch.randperm(8)
    torch.testing.assert_close(content(memory[:, order], keys, strengths).weights, weights[..., order])
    sharp = content(memory, keys, torch.full((2, 2), 1e6, dtype=torch.float64))
    assert torch.equal(sharp.weights.argmax(-1), sharp.similarity.argmax(-1))
    torch.testing.assert_close(sharp.weights.amax(-1), torch.ones(2, 2, dtype=torch.float64))


def test_norms_and_their_gradient_at_zero() -> None:
    zeros = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    found = inverse_norms(zeros)
    assert found.item() == pytest.approx(1 / math.sqrt(EPSILON))
    assert torch.autograd.grad(found.sum(), zeros)[0].tolist() == [[0.0, 0.0, 0.0]]
    memory, keys, strengths = torch.randn(2, 7, 3), torch.randn(2, 4, 3), torch.rand(2, 4)
    given, own = (content(memory, keys, strengths, memory_inverse_norms=each) for each in (inverse_norms(memory), None))
    assert torch.equal(given.weights, own.weights)


def test_masks_leave_columns_out_of_both_sides() -> None:
    memory, keys = torch.randn(2, 6, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    strengths, masks = torch.rand(2, 3, dtype=torch.float64), torch.rand(2, 3, 4, dtype=torch.float64)
    found = content(memory, keys, strengths, masks=masks).similarity
    for batch in range(2):
        for head in range(3):
            alone = content(
                memory[batch] * masks[batch, head], (keys * masks)[batch, head : head + 1], strengths[0, :1]
            )
            torch.testing.assert_close(found[batch, head], alone.similarity[0], rtol=0, atol=1e-12)
    keep = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64).expand(2, 3, 4)
    some = content(memory[..., ::2], keys[..., ::2], strengths)
    torch.testing.assert_close(content(memory, keys, strengths, masks=keep).weights, some.weights)
    ones = content(memory, keys, strengths, masks=torch.ones_like(keys))
    torch.testing.assert_close(ones.weights, content(memory, keys, strengths).weights)


def test_interpolation_is_exact_at_both_ends() -> None:
    found, previous = torch.rand(2, 3, 50).softmax(-1), torch.randn(2, 3, 50).softmax(-1)
    assert torch.equal(interpolate(found, previous, torch.zeros(2, 3)), previous)
    assert torch.equal(interpolate(found, previous, torch.ones(2, 3)), found)
    torch.testing.assert_close(interpolate(found, previous, torch.full((2, 3), 0.25)), 0.25 * found + 0.75 * previous)


def test_gate_zero_without_shift_and_sharpening_leaves_a_head_where_it_is() -> None:
    given = arguments(9, 4, 2, dtype=torch.float64)
    given |= {"gates": torch.zeros(2, 2, dtype=torch.float64), "sharpness": torch.ones(2, 2, dtype=torch.float64)}
    given["shifts"] = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).expand(2, 2, 3)
    stages = address(**given)
    assert torch.equal(stages.shifted, given["previous"])
    torch.testing.assert_close(stages.weights, given["previous"], rtol=1e-14, atol=0)
    given["gates"] = torch.ones(2, 2, dtype=torch.float64)
    elsewhere = address(**(given | {"previous": given["previous"].flip(-1)}))
    assert torch.equal(elsewhere.weights, address(**given).weights)


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("reach", [0, 1, 2, 3, 7])
def test_shift_moves_to_higher_slots_and_around(slots: int, reach: int) -> None:
    for index in range(2 * reach + 1):
        for slot in range(slots):
            moved = shift(one_hot(slots, slot), one_hot(2 * reach + 1, index))
            assert torch.equal(moved, one_hot(slots, (slot + index - reach) % slots))


@settings(deadline=None, max_examples=50)
@given(slots=st.integers(1, 12), reach=st.integers(0, 8), seed=st.integers(0, 2**31))
def test_shift_is_the_sum_over_slots(slots: int, reach: int, seed: int) -> None:
    torch.manual_seed(seed)
    weights, shifts = simplex(2, slots), simplex(2, 2 * reach + 1)
    expected = torch.zeros_like(weights)
    for slot in range(slots):
        for index in range(2 * reach + 1):
            expected[:, slot] += shifts[:, index] * weights[:, (slot - (index - reach)) % slots]
    moved = shift(weights, shifts)
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-14)
    on_simplex(moved, 1e-12)


def test_two_shifts_are_the_shift_by_their_convolution() -> None:
    weights, first, second = simplex(2, 7), simplex(2, 3), simplex(2, 3)
    both = torch.zeros(2, 5, dtype=torch.float64)
    for one in range(3):
        for other in range(3):
            both[:, one + other] += first[:, one] * second[:, other]
    torch.testing.assert_close(shift(shift(weights, first), second), shift(weights, both))


def test_rotating_memory_and_previous_weights_rotates_the_weights() -> None:
    given = arguments(9, 4, 3, shifts=5, dtype=torch.float64)
    rotated = given | {"memory": given["memory"].roll(4, 1), "previous": given["previous"].roll(4, -1)}
    for one, other in zip(address(**given)[1:], address(**rotated)[1:], strict=True):
        assert isinstance(one, Tensor)
        torch.testing.assert_close(other, one.roll(4, -1), rtol=0, atol=1e-14)


def test_sharpening() -> None:
    weights = simplex(5, 30)
    torch.testing.assert_close(sharpen(weights, torch.ones(5, dtype=torch.float64)), weights, rtol=1e-13, atol=0)
    powers = weights**3.5
    expected = powers / powers.sum(-1, keepdim=True)
    torch.testing.assert_close(sharpen(weights, torch.full((5,), 3.5, dtype=torch.float64)), expected)
    before = math.inf
    for sharpness in (1.0, 1.5, 3.0, 10.0, 100.0, 1e4):
        sharp = sharpen(weights, torch.full((5,), sharpness, dtype=torch.float64))
        entropy = float(torch.special.entr(sharp).sum())
        assert entropy <= before
        assert torch.equal(sharp.argmax(-1), weights.argmax(-1))
        before = entropy
    assert before < 1e-6


@pytest.mark.parametrize("sharpness", [1.0, 9.0, 12.0, 25.0, 100.0])
def test_sharpening_of_uniform_weights_leaves_them(sharpness: float) -> None:
    weights = torch.full((1, 1024), 1 / 1024)
    torch.testing.assert_close(sharpen(weights, torch.tensor([sharpness])), weights, rtol=1e-6, atol=0)


def test_sharpening_keeps_zeros() -> None:
    weights = torch.tensor(
        [[0.0, 0.5, 0.5, TINY / 2], [0.0, 0.0, 0.0, 0.0], [1e-10, 0.0, 0.0, 0.0]], requires_grad=True
    )
    sharpness = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    sharp = sharpen(weights, sharpness)
    assert sharp.tolist() == [[0.0, 0.5, 0.5, 0.0], [0.0] * 4, [1.0, 0.0, 0.0, 0.0]]
    to_weights, to_sharpness = torch.autograd.grad((sharp * torch.randn(3, 4)).sum(), (weights, sharpness))
    assert to_weights[weights <= TINY].abs().max() == 0
    assert bool(to_sharpness.isfinite().all())


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_a_one_hot_write_replaces_its_row_and_no_other(heads: int) -> None:
    memory = torch.randn(2, 6, 4)
    weights = torch.eye(6)[:heads].flip(0).expand(2, -1, -1)
    add = torch.randn(2, heads, 4)
    written = write(memory, weights, torch.ones(2, heads, 4), add)
    assert torch.equal(written[:, :heads], add.flip(1))
    assert torch.equal(written[:, heads:], memory[:, heads:])
    assert torch.equal(read(written, weights), add)


def test_all_heads_erase_then_all_add_in_any_order() -> None:
    memory, weights = torch.randn(2, 6, 4, dtype=torch.float64), simplex(2, 3, 6)
    erase, add = torch.rand(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    expected = memory.clone()
    for slot in range(6):
        for head in range(3):
            expected[:, slot] *= 1 - weights[:, head, slot, None] * erase[:, head]
        for head in range(3):
            expected[:, slot] += weights[:, head, slot, None] * add[:, head]
    found = write(memory, weights, erase, add)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    order = torch.tensor([2, 0, 1])
    again = write(memory, weights[:, order], erase[:, order], add[:, order])
    torch.testing.assert_close(again, found, rtol=0, atol=1e-14)


def test_a_write_of_nothing_leaves_the_memory_bit_for_bit() -> None:
    memory, weights, nothing = torch.randn(2, 6, 4), torch.rand(2, 2, 6), torch.zeros(2, 2, 4)
    assert torch.equal(write(memory, weights, nothing, nothing), memory)


def flat(stages: Addressing) -> list[Tensor]:
    return [*stages.content, *stages[1:]]


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_any_leading_axes(lead: tuple[int, ...]) -> None:
    def leading(value: Tensor) -> Tensor:
        return value[0].expand(*lead, *value.shape[1:])

    given = arguments(6, 4, 2, dtype=torch.float64)
    alone = address(**{name: value[0] for name, value in given.items()})
    for one, other in zip(
        flat(alone), flat(address(**{name: leading(value) for name, value in given.items()})), strict=True
    ):
        torch.testing.assert_close(other, one.expand(*lead, *one.shape))
    weights = alone.weights
    erase, add = torch.rand(2, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    written = write(given["memory"][0], weights, erase, add)
    parts = [each.expand(*lead, *each.shape) for each in (given["memory"][0], weights, erase, add)]
    torch.testing.assert_close(write(*parts), written.expand(*lead, 6, 4))
    torch.testing.assert_close(read(parts[0], parts[1]), read(given["memory"][0], weights).expand(*lead, 2, 4))


def test_gradients() -> None:
    given = arguments(5, 3, 2, shifts=5, dtype=torch.float64)
    names, values = list(given), [value.requires_grad_() for value in given.values()]
    masks = torch.rand(2, 2, 3, dtype=torch.float64, requires_grad=True)

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(flat(address(**dict(zip(names, values, strict=True)))))

    assert torch.autograd.gradcheck(run, values)
    assert torch.autograd.gradcheck(lambda *v: tuple(content(*v[:3], masks=v[3])), (*values[:1], *values[2:4], masks))
    erase, add = torch.rand(2, 2, 3, dtype=torch.float64), torch.randn(2, 2, 3, dtype=torch.float64)
    pieces = (given["memory"], given["previous"], erase.requires_grad_(), add.requires_grad_())
    assert torch.autograd.gradcheck(write, pieces)
    assert torch.autograd.gradcheck(read, pieces[:2])


def test_second_derivatives_at_an_empty_memory_are_finite() -> None:
    given = arguments(5, 3, 2, dtype=torch.float64) | {"memory": torch.zeros(2, 5, 3, dtype=torch.float64)}
    values = [value.requires_grad_() for value in given.values()]
    first = torch.autograd.grad(address(**given).weights.square().sum(), values, create_graph=True)
    second = torch.autograd.grad(sum(each.square().sum() for each in first), values)
    assert all(bool(each.isfinite().all()) for each in second)


def test_vmap_is_the_loop() -> None:
    given = {name: torch.stack([value, value.flip(1)]) for name, value in arguments(6, 4, 2).items()}
    batched = torch.vmap(lambda tensors: tuple(flat(address(**tensors))))(given)
    for member in range(2):
        alone = flat(address(**{name: value[member] for name, value in given.items()}))
        for one, other in zip(batched, alone, strict=True):
            torch.testing.assert_close(one[member], other)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes_are_kept(dtype: torch.dtype) -> None:
    given = arguments(16, 4, 2, dtype=dtype)
    stages = address(**given)
    for stage in flat(stages):
        assert stage.dtype == dtype
    on_simplex(stages.weights, 1e-12 if dtype == torch.float64 else 0.01)
    written = write(given["memory"], stages.weights, given["keys"].sigmoid(), given["keys"])
    assert written.dtype == read(written, stages.weights).dtype == dtype


def test_sharpening_of_half_precisions_is_that_of_float32() -> None:
    weights = torch.tensor([[0.5, 0.49, 0.01]]).bfloat16()
    expected = sharpen(weights.float(), torch.tensor([100.0])).bfloat16()
    assert torch.equal(sharpen(weights, torch.tensor([100.0]).bfloat16()), expected)

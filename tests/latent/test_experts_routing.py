"""Routing, capacity and balance against what is computed token by token."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace import maps
from softplace.errors import InputError
from softplace.latent.experts_balance import importance_loss, load_balancing_loss, update_bias, z_loss
from softplace.latent.experts_routing import Capacity, Order, Routing, count, limit, route

T, E = 40, 6
ORDERS: tuple[Order, ...] = ("map-top", "map-top-normalise", "top-map")
MAPS = ("softmax", "sigmoid", "sparsemax", "entmax15", "sigmoid_normalised", "topk_softmax")


def scores(dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return 2 * torch.randn(T, E, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def cubes(given: Tensor, dim: int) -> Tensor:
    """A map of a user, without a mask."""
    shares = given.exp() ** 3
    return shares / shares.sum(dim, keepdim=True)


def by_token(row: Tensor, chosen: Any, top: int, order: Order) -> dict[int, float]:
    """The weights of one token's experts, those of 0 left out."""
    keys = row.tolist() if order == "top-map" else chosen(row, dim=-1).tolist()
    first = sorted(range(len(keys)), key=lambda expert: (-keys[expert], expert))[:top]
    values = chosen(row[first], dim=-1).tolist() if order == "top-map" else [keys[expert] for expert in first]
    if order == "map-top-normalise":
        values = [value / sum(values) for value in values]
    return {expert: value for expert, value in zip(first, values, strict=True) if value}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("chosen", [*MAPS, cubes], ids=[*MAPS, "callable"])
@pytest.mark.parametrize("top", [2, 3, E])
def test_weights_are_those_of_each_token_alone(chosen: Any, order: Order, top: int) -> None:
    given = scores()
    made = route(given, map=chosen, top=top, order=order)
    for row, experts, weights in zip(given, made.experts.tolist(), made.weights.tolist(), strict=True):
        wanted = by_token(row, maps.get(chosen), top, order)
        found = {expert: weight for expert, weight in zip(experts, weights, strict=True) if weight}
        assert found == pytest.approx(wanted, abs=1e-12)
    torch.testing.assert_close(made.probabilities, maps.get(chosen)(given, dim=-1))


def test_softmax_before_and_after_choosing_agree() -> None:
    before, after = (route(scores(), order=order) for order in ("top-map", "map-top-normalise"))
    torch.testing.assert_close(before.weights, after.weights)
    wide = maps.topk_softmax(scores(), k=2)
    torch.testing.assert_close(before.weights, wide.gather(-1, before.experts))


def test_sinkhorn_gives_every_expert_the_same_weight_in_sum() -> None:
    made = route(scores(), map="sinkhorn", top=1, order="map-top")
    torch.testing.assert_close(made.probabilities.sum(0), torch.full((E,), T / E, dtype=torch.float64))
    plain, even = (count(route(scores(), map=name, top=1)) for name in ("softmax", "sinkhorn"))
    assert even.double().var() < plain.double().var()


@pytest.mark.parametrize("chosen", MAPS)
@pytest.mark.parametrize("priority", ["position", "weight"])
@pytest.mark.parametrize("capacity", [1, 5, 12, T])
def test_tokens_are_conserved_and_the_last_in_line_are_dropped(chosen: str, priority: Any, capacity: int) -> None:
    free = route(scores(), map=chosen, top=3, order="map-top")
    made = limit(free, capacity, priority=priority)
    counts, left = count(free), count(made)
    assert int(counts.sum()) == int((free.weights != 0).sum())
    assert torch.equal(left, counts.clamp(max=capacity))
    kept = made.weights != 0
    assert torch.equal(made.weights[kept], free.weights[kept])
    for expert in range(E):
        line = [(k, t) for k, t in itertools.product(range(3), range(T)) if free.experts[t, k] == expert]
        line = [(k, t) for k, t in line if free.weights[t, k] != 0]
        if priority == "weight":
            line.sort(key=lambda place: -float(free.weights[place[1], place[0]]))
        assert {(k, t) for k, t in line if kept[t, k]} == set(line[:capacity])


def test_what_is_dropped_has_no_gradient() -> None:
    given = scores().requires_grad_()
    made = limit(route(given, order="map-top"), 3)
    made.weights.sum().backward()
    gone = (made.weights == 0).all(-1)
    assert given.grad is not None
    assert bool(gone.any())
    assert bool((given.grad[gone] == 0).all())
    assert bool((given.grad[~gone] != 0).any(-1).all())


def test_gradients_are_those_of_finite_differences() -> None:
    given = scores()[:5].requires_grad_()
    for chosen, order, top in itertools.product(("softmax", "sigmoid", "sparsemax"), ORDERS, (2, None)):

        def losses(some: Tensor) -> tuple[Tensor, ...]:
            made = route(some, map=chosen, order=order, top=top)  # noqa: B023
            balance = load_balancing_loss(made.probabilities, count(made))
            return made.weights, balance, importance_loss(made), z_loss(some)

        assert torch.autograd.gradcheck(losses, (given,))


def test_the_bias_changes_the_choice_and_no_weight() -> None:
    bias = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 3.0])
    for order, chosen in itertools.product(ORDERS, ("softmax", "sigmoid")):
        plain = route(scores(), map=chosen, order=order, top=E)
        made = route(scores(), map=chosen, order="map-top" if order == "map-top-normalise" else order, bias=bias)
        assert int(count(made)[5]) > int(count(route(scores(), map=chosen, order=order))[5])
        if order == "map-top":
            assert bool((made.experts[:, 0] == 5).all())
            wide = torch.zeros(T, E, dtype=torch.float64).scatter(-1, plain.experts, plain.weights)
            torch.testing.assert_close(made.weights, wide.gather(-1, made.experts))


def test_steps_of_the_bias_make_the_counts_even() -> None:
    given = scores() + torch.tensor([2.0, 1.0, 0.0, 0.0, -1.0, -2.0])
    bias, spread = torch.zeros(E), []
    for _ in range(200):
        counts = count(route(given, map="sigmoid", bias=bias))
        spread.append(int(counts.max() - counts.min()))
        bias = update_bias(bias, counts, 0.01)
    assert spread[0] > 20
    assert max(spread[-50:]) <= spread[0] / 3
    assert torch.equal(update_bias(bias, torch.full((E,), 7)), bias)


def test_losses_are_their_formulas() -> None:
    made = route(scores(), top=1, order="map-top")
    shares, means = count(made).double() / T, made.probabilities.mean(0)
    torch.testing.assert_close(load_balancing_loss(made.probabilities, count(made)), E * (shares * means).sum())
    values = [math.log(sum(math.exp(score) for score in row)) ** 2 for row in scores().tolist()]
    assert float(z_loss(scores())) == pytest.approx(sum(values) / T)
    sums = [float(made.weights[made.experts == expert].sum()) for expert in range(E)]
    mean = sum(sums) / E
    wanted = sum((one - mean) ** 2 for one in sums) / E / mean**2
    assert float(importance_loss(made)) == pytest.approx(wanted)


def test_the_balance_of_sigmoids_is_of_their_shares() -> None:
    made = route(scores(), map="sigmoid")
    shares = made.probabilities / made.probabilities.sum(-1, keepdim=True)
    wanted = E * (count(made).double() / (2 * T) * shares.mean(0)).sum()
    torch.testing.assert_close(load_balancing_loss(made.probabilities, count(made)), wanted)


def test_even_use_has_the_least_balance_loss() -> None:
    even = route(torch.eye(E).repeat(4, 1) * 50, top=1)
    assert float(load_balancing_loss(even.probabilities, count(even))) == pytest.approx(1.0)
    for top in (1, 2, E, None):
        same = route(torch.zeros(T, E), map="sigmoid", top=top)
        assert float(load_balancing_loss(same.probabilities, count(same))) == pytest.approx(1.0)
    one = route(torch.tensor([[50.0] + [0.0] * (E - 1)]).repeat(T, 1), top=1)
    assert float(load_balancing_loss(one.probabilities, count(one))) == pytest.approx(E)


def test_what_the_mask_leaves_out_is_chosen_by_nobody() -> None:
    mask = torch.rand(T, E, generator=torch.Generator().manual_seed(1)) > 0.4
    mask[3], mask[4] = False, torch.arange(E) == 2
    spoilt = scores().masked_fill(~mask, math.nan)
    for chosen, order, top in itertools.product((*MAPS, cubes), ORDERS, (2, E, None)):
        if chosen is cubes:  # a map without a mask sees -inf there
            spoilt = scores()
        made = route(spoilt, map=chosen, order=order, top=top, mask=mask)
        sent = made.weights != 0
        assert bool(made.weights.isfinite().all())
        assert bool(mask.gather(-1, made.experts)[sent].all())
        assert not bool(sent[3].any())
        assert set(made.experts[4][sent[4]].tolist()) == {2}
    alone = route(scores()[mask.any(-1)], mask=mask[mask.any(-1)])
    made = route(scores(), mask=mask)
    for loss in (
        lambda some: load_balancing_loss(some.probabilities, count(some)),
        importance_loss,
    ):
        torch.testing.assert_close(loss(made), loss(alone))
    torch.testing.assert_close(z_loss(scores(), mask), z_loss(scores()[mask.any(-1)], mask[mask.any(-1)]))


def test_equal_and_extreme_scores() -> None:
    same = route(torch.zeros(T, E), top=3)
    assert torch.equal(same.experts, torch.arange(3).expand(T, 3))
    torch.testing.assert_close(same.weights, torch.full((T, 3), 1 / 3))
    for order in ORDERS:
        given = (1e4 * scores(torch.float32)).requires_grad_()
        made = route(given, order=order)
        assert torch.equal(made.experts[:, 0], given.argmax(-1))
        torch.testing.assert_close(made.weights.sum(-1), torch.ones(T))
        losses = made.weights.square().sum() + load_balancing_loss(made.probabilities, count(made)) + z_loss(given)
        losses.backward()
        assert given.grad is not None
        assert bool(given.grad.isfinite().all())


def test_zero_weights_of_sigmoid_stay_zero() -> None:
    made = route(torch.full((2, 3), -1e4), map="sigmoid")
    assert made.weights.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert count(made).tolist() == [0, 0, 0]


@pytest.mark.parametrize("order", ORDERS)
def test_nan_stays_in_its_token(order: Order) -> None:
    given = scores()
    given[7, 2] = math.nan
    made, plain = route(given, order=order), route(scores(), order=order)
    assert bool(made.weights[7].isnan().all())
    rest = torch.arange(T) != 7
    assert torch.equal(made.weights[rest], plain.weights[rest])


def test_half_precision_is_computed_in_float32() -> None:
    given = scores(torch.bfloat16)
    made, wide = route(given), route(given.float())
    assert made.weights.dtype == torch.float32
    assert torch.equal(made.weights, wide.weights)
    assert z_loss(given).dtype == torch.float32


@pytest.mark.parametrize("tokens", [0, 1])
@pytest.mark.parametrize("experts", [1, 3])
def test_few_tokens_and_one_expert(tokens: int, experts: int) -> None:
    made = limit(route(torch.randn(tokens, experts), top=1), 1, priority="weight")
    assert made.weights.shape == made.experts.shape == (tokens, 1)
    assert int(count(made).sum()) == tokens
    losses = load_balancing_loss(made.probabilities, count(made)), importance_loss(made), z_loss(torch.zeros(0, 2))
    assert all(bool(each.isfinite()) for each in losses)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"scores": torch.zeros(3, 0)}, r"'scores' must be .*with an expert or more. Got torch.float32 of shape \(3, 0\)"),
    ({"scores": torch.zeros(3)}, r"'scores' must be .*Got torch.float32 of shape \(3,\). Use scores.flatten"),
    ({"scores": torch.zeros(3, 4, dtype=torch.int64)}, "'scores' must be .*Got torch.int64"),
    ({"scores": [[1.0]]}, "'scores' must be .*Got list"),
    ({"top": 0}, "'top' must be a whole number from 1 to 4, the number of experts. Got 0. Use None for all."),
    ({"top": 5}, "'top' must be a whole number from 1 to 4, the number of experts. Got 5."),
    ({"top": 2.0}, "'top' must be .*Got 2.0"),
    ({"top": True}, "'top' must be .*Got True"),
    ({"map": "sofmax"}, "Unknown map 'sofmax'. Did you mean 'softmax'"),
    ({"order": "top_map"}, "'order' must be one of those known. Got 'top_map'. Did you mean 'top-map'"),
    ({"map": "sinkhorn", "order": "top-map"}, "'order' must be 'map-top' .*Got 'top-map'. Use 'map-top'."),
    ({"bias": torch.zeros(3)}, r"'bias' must have one number per expert, \(4,\). Got \(3,\). Use torch.zeros\(4\)."),
    ({"bias": 1.0}, "'bias' must have .*Got float"),
    ({"mask": torch.ones(3, 4)}, "'mask' must be a tensor of bool.*Got torch.float32. Use mask > 0."),
    ({"mask": torch.ones(3, dtype=torch.bool)}, r"'mask' must broadcast to \(3, 4\).*Got \(3,\).*mask\[:, None\]"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_what_cannot_be_routed_is_said(given: dict[str, Any], message: str) -> None:
    given = {"scores": torch.zeros(3, 4), **given}
    with pytest.raises(InputError, match=message):
        route(given.pop("scores"), **given)


@pytest.mark.parametrize("factor", [0, 0.0, -1.0, math.inf, math.nan, "1", True])
def test_a_factor_of_capacity_is_positive(factor: Any) -> None:
    with pytest.raises(InputError, match=r"'factor' of Capacity must be a positive number. Got .*Use e.g. 1.25"):
        Capacity(factor)


def test_wrong_numbers_are_said() -> None:
    made: Routing = route(torch.zeros(3, 4))
    with pytest.raises(InputError, match=r"'priority' must be one of those known. Got 'weigth'. Did you mean 'weight'"):
        Capacity(1.0, priority="weigth")  # type: ignore[arg-type]
    for capacity in (0, -1, 1.5):
        with pytest.raises(InputError, match=r"'capacity' must be a whole number from 1. Got"):
            limit(made, capacity)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"'priority' must be"):
        limit(made, 1, priority="first")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'counts' must have one number per expert"):
        load_balancing_loss(made.probabilities, torch.zeros(3))
    with pytest.raises(InputError, match=r"'counts' must have the shape of 'bias'"):
        update_bias(torch.zeros(4), torch.zeros(3))
    with pytest.raises(InputError, match=r"'rate' must be a positive number. Got 0"):
        update_bias(torch.zeros(4), torch.zeros(4), 0)
    assert Capacity(1.25).slots(tokens=10, top=2, experts=8) == 4

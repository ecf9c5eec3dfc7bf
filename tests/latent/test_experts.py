"""The mixture against a loop over tokens in float64, and a loop over experts as transformers has it."""

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn import functional

from softplace import maps
from softplace.errors import InputError
from softplace.latent.experts import Experts, MixtureRecord, all_experts, mixture_of_experts
from softplace.latent.experts_balance import load_balancing_loss, z_loss
from softplace.latent.experts_module import MixtureOfExperts
from softplace.latent.experts_routing import Capacity, Order, count, route
from tests.study.test_fleet import needs_compiler

T, D, H, E = 24, 8, 12, 5
WAYS: list[dict[str, Any]] = [
    {},
    {"top": 1, "order": "map-top", "bias": True, "activation": "relu"},
    {"map": "sigmoid", "shared": 2, "gated": True, "activation": "silu", "bias": True},
    {"map": "sparsemax", "top": E, "order": "map-top", "gated": True, "activation": "tanh"},
    {"map": "entmax15", "top": None, "shared": 1, "bias": True},
    {"map": "sinkhorn", "order": "map-top", "activation": "solu"},
    {"order": "top-map", "top": 3, "capacity": Capacity(1.0)},
    {"capacity": Capacity(0.5, "weight"), "shared": 1, "bias": True},
]
every_way = pytest.mark.parametrize("way", WAYS, ids=[str(number) for number in range(len(WAYS))])
ACTIVATIONS: dict[str, Any] = {
    "gelu": functional.gelu,
    "relu": torch.relu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    "solu": lambda values: values * values.softmax(-1),
}


def build(dtype: torch.dtype = torch.float64, width: int = D, **way: Any) -> MixtureOfExperts:
    torch.manual_seed(0)
    net = MixtureOfExperts(width, experts=E, hidden=H, dtype=dtype, **way)
    with torch.no_grad():
        net.gate.mul_(8)  # scores that differ
    return net


def tokens(dtype: torch.dtype = torch.float64, width: int = D) -> Tensor:
    return torch.randn(T, width, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()


def network(net: MixtureOfExperts, prefix: str, number: int, token: Tensor, activation: str) -> Tensor:
    """What one expert says of one token."""

    def part(name: str) -> Tensor | None:
        whole = getattr(net, prefix + name)
        return None if whole is None else whole[number]

    up, down = part("up"), part("down")
    assert up is not None
    assert down is not None
    hidden: Tensor = ACTIVATIONS[activation](functional.linear(token, up, part("up_bias")))
    linear = part("linear")
    hidden = hidden if linear is None else hidden * (linear @ token)
    return functional.linear(hidden, down, part("down_bias"))


def loop(net: MixtureOfExperts, given: Tensor, record: MixtureRecord, way: dict[str, Any]) -> Tensor:
    """The outputs, token by token and choice by choice."""
    activation, rows = way.get("activation", "gelu"), []
    for token, experts, weights in zip(given, record.experts, record.weights, strict=True):
        row = torch.zeros_like(token)
        for expert, weight in zip(experts.tolist(), weights, strict=True):
            row = row + weight * network(net, "", expert, token, activation)
        for expert in range(way.get("shared", 0)):
            row = row + network(net, "shared_", expert, token, activation)
        rows.append(row)
    return torch.stack(rows)


@every_way
def test_outputs_and_gradients_are_the_loop(way: dict[str, Any]) -> None:
    net, given = build(**way), tokens()
    outputs, record = net(given)
    wanted = loop(net, given, record, way)
    torch.testing.assert_close(outputs, wanted, rtol=0, atol=1e-12)
    leaves = (given, *net.parameters())
    found, hoped = (torch.autograd.grad(each.square().sum(), leaves, retain_graph=True) for each in (outputs, wanted))
    torch.testing.assert_close(found, hoped, rtol=0, atol=1e-10)


@every_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [D, 5])
def test_lower_precisions_are_float64_but_for_rounding(way: dict[str, Any], dtype: torch.dtype, width: int) -> None:
    net, given = build(dtype, width, **way), tokens(dtype, width)
    wide, exact = copy.deepcopy(net).double(), given.detach().double().requires_grad_()
    outputs, record = net(given)
    wanted = loop(wide, exact, record._replace(weights=record.weights.detach().double()), way)
    assert outputs.dtype == dtype
    assert record.weights.dtype == torch.float32
    rounding = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(outputs.double(), wanted, rtol=rounding, atol=rounding)
    outputs.float().square().sum().backward()
    wanted.square().sum().backward()
    for name, one in net.named_parameters():
        if name == "gate":  # the loop has the weights of the record, as numbers
            assert bool(one.grad.isfinite().all())  # type: ignore[union-attr]
            continue
        other = wide.get_parameter(name).grad
        assert one.grad is not None
        assert other is not None
        torch.testing.assert_close(one.grad.double(), other, rtol=8 * rounding, atol=8 * rounding)


@every_way
def test_gradients_are_those_of_finite_differences(way: dict[str, Any]) -> None:
    net, given = build(**way), tokens()[:5].detach().requires_grad_()
    names, leaves = zip(*net.named_parameters(), strict=True)

    def call(some: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        outputs, record = functional_call(net, dict(zip(names, parameters, strict=True)), (some,))
        return outputs, record.balance, record.z, record.weights

    assert torch.autograd.gradcheck(call, (given, *leaves), fast_mode=True)


def test_all_experts_with_softmax_is_the_dense_formula() -> None:
    given = tokens()
    for top in (None, E):
        net = build(top=top)
        outputs, record = net(given)
        shares = (given @ net.gate.mT).softmax(-1)
        said = torch.stack(
            [functional.gelu(given @ up.mT) @ down.mT for up, down in zip(net.up, net.down, strict=True)], 1
        )
        wanted = torch.einsum("te,teo->to", shares, said)
        torch.testing.assert_close(outputs, wanted, rtol=0, atol=1e-12)
        assert record.counts.tolist() == [T] * E
        leaves = (given, *net.parameters())
        found, hoped = (torch.autograd.grad(each.sin().sum(), leaves, retain_graph=True) for each in (outputs, wanted))
        torch.testing.assert_close(found, hoped, rtol=0, atol=1e-11)


def loop_over_experts(net: MixtureOfExperts, given: Tensor) -> Tensor:
    """The usual way: for each expert, take its tokens, and add what it says to theirs."""
    weights, chosen = (given @ net.gate.mT).softmax(-1, dtype=torch.float32).topk(2, -1)
    weights = (weights / weights.sum(-1, keepdim=True)).to(given.dtype)
    outputs = torch.zeros_like(given)
    for expert in range(E):
        token, place = torch.where(chosen == expert)
        said = functional.gelu(given[token] @ net.up[expert].mT) @ net.down[expert].mT
        outputs = outputs.index_add(0, token, said * weights[token, place, None])
    return outputs


def test_the_default_is_the_loop_over_experts() -> None:
    net, given = build(torch.float32), tokens(torch.float32)
    leaves = (given, *net.parameters())
    found, wanted = (
        torch.autograd.grad(each.square().sum(), leaves) for each in (net(given)[0], loop_over_experts(net, given))
    )
    torch.testing.assert_close(net(given)[0], loop_over_experts(net, given), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_record_is_of_the_routing() -> None:
    net, given = build(capacity=Capacity(0.75)), tokens()
    scores = given @ net.gate.mT
    free = route(scores)
    outputs, record = net(given)
    slots = math.ceil(0.75 * T * 2 / E)
    assert torch.equal(record.counts, count(free))
    assert torch.equal(record.dropped, (count(free) - slots).clamp(min=0))
    assert int(record.dropped.sum()) > 0
    sent = int((record.weights != 0).sum())
    assert sent + int(record.dropped.sum()) == int(record.counts.sum()) == 2 * T
    torch.testing.assert_close(record.balance, load_balancing_loss(free.probabilities, count(free)))
    torch.testing.assert_close(record.z, z_loss(scores))
    nowhere = (record.weights == 0).all(-1)
    assert bool((outputs[nowhere] == 0).all())


def test_more_axes_are_more_tokens() -> None:
    net, given = build(shared=1), tokens()
    outputs, record = net(given.view(2, 3, 4, D))
    flat, alone = net(given)
    torch.testing.assert_close(outputs, flat.view(2, 3, 4, D))
    torch.testing.assert_close(record.weights, alone.weights.view(2, 3, 4, 2))
    assert net(given[0])[0].shape == (D,)


@every_way
def test_permuted_tokens_have_permuted_outputs(way: dict[str, Any]) -> None:
    net, given = build(**way), tokens()
    order = torch.randperm(T, generator=torch.Generator().manual_seed(2))
    if way.get("capacity") is not None and way["capacity"].priority == "position":
        way = {**way, "capacity": Capacity(float(E))}
        net = build(**way)
    torch.testing.assert_close(net(given[order])[0], net(given)[0][order], rtol=0, atol=1e-12)


def test_the_bias_changes_the_choice_and_not_the_weights() -> None:
    net, given = build(order="map-top", map="sigmoid"), tokens()
    before = net(given)[1]
    for _ in range(400):
        net.update_bias(net(given)[1].counts, 0.01)
    after = net(given)[1]
    assert bool((net.balance_bias != 0).any())
    assert int(after.counts.max() - after.counts.min()) < int(before.counts.max() - before.counts.min())
    shares = torch.sigmoid(given @ net.gate.mT)
    torch.testing.assert_close(after.weights, shares.gather(-1, after.experts))
    assert "balance_bias" in net.state_dict()
    assert net.to(torch.bfloat16).balance_bias.dtype == torch.float32
    assert net.gate.dtype == torch.bfloat16


def test_nan_stays_in_its_token() -> None:
    for way in ({}, {"top": None}, {"map": "sparsemax", "top": E}, {"shared": 1}, {"order": "top-map"}):
        net, given = build(**way), tokens().detach()
        spoilt = given.clone()
        spoilt[3, 1] = math.nan
        outputs, rest = net(spoilt)[0], torch.arange(T) != 3
        assert bool(outputs[3].isnan().all())
        torch.testing.assert_close(outputs[rest], net(given)[0][rest], rtol=0, atol=1e-12)


def test_padding_goes_nowhere() -> None:
    mask = torch.arange(T) < 20
    for way in ({}, {"top": None}, {"capacity": Capacity(1.0)}, {"map": "sigmoid", "bias": True}):
        net, given = build(**way), tokens()
        spoilt = torch.where(mask[:, None], given, 1e30)
        outputs, record = net(spoilt.view(2, 12, D), mask=mask.view(2, 12, 1))
        assert bool((outputs.view(T, D)[~mask] == 0).all())
        assert int(record.counts.sum()) == 20 * record.weights.shape[-1]
        if "capacity" not in way:
            torch.testing.assert_close(outputs.view(T, D)[mask], net(given[mask])[0], rtol=0, atol=1e-12)
            torch.testing.assert_close(record.balance, net(given[mask])[1].balance)
            torch.testing.assert_close(record.z, net(given[mask])[1].z)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_extremes(dtype: torch.dtype) -> None:
    for way in WAYS:
        net = build(dtype, **way)
        empty, record = net(torch.zeros(3, 0, D, dtype=dtype))
        assert empty.shape == (3, 0, D)
        assert int(record.counts.sum()) == int(record.dropped.sum()) == 0
        (empty.sum() + record.balance + record.z).backward()
        with torch.no_grad():
            net.gate.mul_(1e4)
        outputs, record = net(tokens(dtype))
        assert bool(outputs.isfinite().all())
        with torch.no_grad():
            net.gate.zero_()
        outputs, record = net(tokens(dtype))
        assert bool(outputs.isfinite().all())
        assert float(record.balance.detach()) == pytest.approx(1.0, abs=0.01)
    one = MixtureOfExperts(D, experts=1, hidden=H, top=1, dtype=dtype)
    given = tokens(dtype)
    wanted = functional.gelu(given @ one.up[0].mT) @ one.down[0].mT
    torch.testing.assert_close(one(given)[0], wanted, rtol=0.01, atol=0.01 if dtype == torch.bfloat16 else 1e-6)


def test_a_map_that_learns_is_among_the_parameters() -> None:
    class Warm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heat = nn.Parameter(torch.ones(()))

        def forward(self, scores: Tensor, dim: int = -1) -> Tensor:
            return maps.softmax(scores * self.heat, dim)

    net = MixtureOfExperts(D, experts=E, hidden=H, map=Warm())
    net(tokens(torch.float32))[0].square().sum().backward()
    heat = net.get_parameter("map.heat").grad
    assert heat is not None
    assert float(heat) != 0.0
    assert "map='Warm'" in repr(net)


@pytest.mark.parametrize("way", [{"top": None}, {}, {"capacity": Capacity(1.0)}, {"map": "sparsemax", "top": 3}])
def test_members_of_a_fleet_are_the_nets_alone(way: dict[str, Any]) -> None:
    nets = [MixtureOfExperts(D, experts=E, hidden=H, shared=1, **way) for _ in range(3)]
    parameters, buffers = stack_module_state(nets)
    given = tokens(torch.float32)

    def one(own: dict[str, Tensor], kept: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        outputs, record = functional_call(nets[0], (own, kept), given)
        return outputs, record.balance

    def loss(own: dict[str, Tensor], kept: dict[str, Tensor]) -> Tensor:
        return one(own, kept)[0].square().sum()

    made, balance = torch.vmap(one)(parameters, buffers)
    slopes = torch.vmap(torch.func.grad(loss))(parameters, buffers)
    for number, net in enumerate(nets):
        outputs, record = net(given)
        torch.testing.assert_close(made[number], outputs, rtol=0, atol=1e-5)
        torch.testing.assert_close(balance[number], record.balance, rtol=0, atol=1e-5)
        outputs.square().sum().backward()
        for name, each in net.named_parameters():
            torch.testing.assert_close(slopes[name][number], each.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", [{}, {"map": "sparsemax", "top": E, "bias": True}, {"capacity": Capacity(0.5)}])
def test_where_nobody_may_look_what_is_not_sent_changes_nothing(way: dict[str, Any]) -> None:
    """Under vmap and the compiler rows that are sent nowhere stay among those that are multiplied."""
    net, mask = build(torch.float32, **way), (torch.arange(T) < 20)[:, None]
    given = torch.where(mask, tokens(torch.float32), 1e30).detach()
    parameters = dict(net.named_parameters())

    def loss(own: dict[str, Tensor], some: Tensor) -> tuple[Tensor, Tensor]:
        outputs, record = functional_call(net, own, (some,), {"mask": mask})
        return outputs.square().sum() + record.balance, outputs

    slopes, outputs = torch.vmap(torch.func.grad(loss, has_aux=True), in_dims=(None, 0))(parameters, given[None])
    total, wanted = loss(parameters, given)
    torch.testing.assert_close(outputs[0], wanted, rtol=1e-5, atol=1e-5)
    assert bool((outputs[0, 20:] == 0).all())
    for name, each in zip(parameters, torch.autograd.grad(total, list(parameters.values())), strict=True):
        torch.testing.assert_close(slopes[name][0], each, rtol=1e-4, atol=1e-4)


@needs_compiler
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # the compiler's own doing
@pytest.mark.parametrize(
    ("way", "backend"),
    [({"top": None}, "aot_eager"), ({"bias": True}, "aot_eager"), ({"capacity": Capacity(0.75)}, "inductor")],
    ids=["dense", "dropless", "capacity"],
)
def test_compiled_is_the_same(way: dict[str, Any], backend: str) -> None:
    net, given = build(torch.float32, **way), tokens(torch.float32)
    leaves = (given, *net.parameters())
    made = []
    for call in (net, torch.compile(net, fullgraph=True, backend=backend)):
        outputs, record = call(given)
        slopes = torch.autograd.grad(outputs.square().sum() + record.balance + record.z, leaves)
        made.append([outputs, record.weights, record.counts, record.dropped, *slopes])
    torch.testing.assert_close(*made, rtol=1e-4, atol=1e-4)


def test_autocast_trains() -> None:
    net, given = build(torch.float32, shared=1, bias=True), tokens(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, record = net(given)
    assert outputs.dtype == torch.bfloat16
    assert record.weights.dtype == torch.float32
    wanted, plain = net(given)
    torch.testing.assert_close(record.weights, plain.weights, rtol=0, atol=1e-6)  # the gate is in float32
    torch.testing.assert_close(outputs.float(), wanted, rtol=0.02, atol=0.02)
    outputs.float().square().sum().backward()
    assert all(bool(each.grad.isfinite().all()) for each in net.parameters() if each.grad is not None)


def parts() -> tuple[Tensor, Tensor, Experts]:
    return torch.zeros(3, D), torch.zeros(E, D), Experts(torch.zeros(E, H, D), torch.zeros(E, D, H))


WRONG: list[tuple[int, Any, str]] = [
    (0, torch.zeros(3, D, dtype=torch.int64), "'inputs' must be a floating-point tensor.*Got torch.int64"),
    (0, [1.0], "'inputs' must be .*Got list"),
    (0, torch.tensor(1.0), r"'inputs' must be .*shape \(\)"),
    (0, torch.zeros(3, D + 1), f"'inputs' must have the width of the gate, {D}. Got {D + 1}. Project"),
    (0, torch.zeros(3, D).double(), "'up' of experts must be torch.float64 as 'inputs' is. Got torch.float32. Convert"),
    (1, torch.zeros(0, D), r"'gate' must be .*with an expert or more. Got \(0, 8\)"),
    (1, torch.zeros(D), "'gate' must be a matrix"),
    (1, torch.zeros(E - 1, D), r"'up' of experts must have the shape \(4, 12, 8\). Got \(5, 12, 8\)"),
    (2, Experts(torch.zeros(E, H, D), torch.zeros(E, D, H + 1)), "'down' of experts must have the shape"),
    (2, Experts(torch.zeros(E, H), torch.zeros(E, D, H)), r"'up' of experts must have three axes.*Got \(5, 12\)"),
    (
        2,
        Experts(torch.zeros(E, H, D), torch.zeros(E, D, H), up_bias=torch.zeros(H)),
        r"'up_bias' of experts must have the shape \(5, 12\). Got \(12,\)",
    ),
]


@pytest.mark.parametrize(("place", "given", "message"), WRONG)
def test_what_no_mixture_can_use_is_said(place: int, given: Any, message: str) -> None:
    arguments: list[Any] = list(parts())
    arguments[place] = given
    with pytest.raises(InputError, match=message):
        mixture_of_experts(*arguments)


def test_choices_that_cannot_be_used_are_said() -> None:
    with pytest.raises(InputError, match=r"'capacity' must be a Capacity or None. Got 1.25. Use Capacity\(1.25\)"):
        mixture_of_experts(*parts(), capacity=1.25)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"'capacity' must be None where all experts see all tokens.*Use top=5"):
        mixture_of_experts(*parts(), capacity=Capacity(1.0), top=None)
    with pytest.raises(InputError, match=r"'mask' must be a tensor that broadcasts to \(3, 5\).*mask\[..., None\]"):
        mixture_of_experts(*parts(), mask=torch.ones(3, dtype=torch.bool))
    with pytest.raises(InputError, match="'mask' must be a tensor of bool"):
        mixture_of_experts(*parts(), mask=torch.ones(3, 1))
    with pytest.raises(InputError, match=r"Unknown map 'geluu'. Did you mean 'gelu'"):
        mixture_of_experts(*parts(), activation="geluu")
    with pytest.raises(InputError, match="'up' of shared must have the shape"):
        mixture_of_experts(*parts(), shared=Experts(torch.zeros(1, H, D + 1), torch.zeros(1, D, H)))


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ({"experts": 0}, "'experts' must be a whole number from 1. Got 0. Use e.g. 8."),
        ({"hidden": 0}, "'hidden' must be a whole number from 1. Got 0"),
        ({"width": -1}, "'width' must be a whole number from 1. Got -1"),
        ({"shared": -1}, "'shared' must be a whole number from 0. Got -1"),
        ({"top": 0}, "'top' must be a whole number from 1 to 5, the number of experts. Got 0"),
        ({"top": 6}, "'top' must be a whole number from 1 to 5, the number of experts. Got 6"),
        ({"map": "softmux"}, "Unknown map 'softmux'. Did you mean 'softmax'"),
        ({"order": "map"}, "'order' must be one of those known. Got 'map'"),
        ({"activation": "swish"}, "Unknown map 'swish'"),
        ({"capacity": 0}, "'capacity' must be a Capacity or None. Got 0"),
        ({"capacity": Capacity(1.0), "top": None}, "'capacity' must be None where all experts"),
    ],
)
def test_a_module_that_cannot_be_built_says_why(way: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MixtureOfExperts(**{"width": D, "experts": E, "hidden": H, **way})


def test_orders_of_small_things() -> None:
    """A mixture of constants: outputs are the weights themselves."""
    experts = Experts(torch.zeros(3, 1, 2), torch.zeros(3, 3, 1), down_bias=torch.eye(3))
    gate = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    orders: tuple[Order, ...] = ("map-top", "map-top-normalise", "top-map")
    for order, top in itertools.product(orders, (1, 2, 3, None)):
        outputs, record = mixture_of_experts(torch.tensor([[2.0, 1.0]]), gate, experts, order=order, top=top)
        wide = torch.zeros(1, 3).scatter(-1, record.experts, record.weights)
        torch.testing.assert_close(outputs, wide)
        torch.testing.assert_close(all_experts(torch.zeros(1, 2), wide, experts), wide)

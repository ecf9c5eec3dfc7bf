"""The C++ path is the plain path: values, states and gradients; where it serves, where it does not, what it keeps."""

import copy
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from softplace.memory import _fused
from softplace.memory.dnc import DNC, DNCState
from softplace.memory.hard import straight_through_hardmax
from softplace.memory.ntm import NTM, NTMState
from tests.study.test_fleet import needs_compiler

pytestmark = pytest.mark.skipif(_fused.library() is None, reason="there is no C++ compiler here")

Net = NTM | DNC
Options = dict[str, Any]
OPTIONS: dict[type[Net], Options] = {
    # Exact ties of similarity or usage are broken by rounding: no memory of equal slots, no heads at one slot.
    NTM: {"hidden_size": 7, "slots": 19, "width": 6, "initial_memory": "learned", "initial_weights": "random"},
    DNC: {"hidden_size": 7, "slots": 19, "width": 6, "initial_memory": "learned", "read_heads": 2},
}
MAPS = (*_fused._MAPS, straight_through_hardmax)
LENGTHS = [9, 0, 6]  # the kernel keeps the links of every fourth step
everything = {"masked": True, "deallocate": True, "sharpened": True, "detach_usage": True}
CASES: dict[str, tuple[type[Net], Options, Options]] = {
    **{
        f"{machine.__name__} {each if isinstance(each, str) else 'straight-through'}": (machine, {"map": each}, {})
        for machine in (NTM, DNC)
        for each in MAPS
    },
    "NTM feed-forward": (NTM, {"controller": "feedforward"}, {}),
    "NTM feed-forward, 2 layers": (NTM, {"controller": "feedforward", "layers": 2, "order": "read-write"}, {}),
    "NTM feed-forward, 3 layers": (NTM, {"controller": "feedforward", "layers": 3}, {"lengths": LENGTHS}),
    "NTM 3 layers, heads": (
        NTM,
        {"layers": 3, "read_heads": 2, "write_heads": 3, "shift_range": 2, "order": "read-write", "slots": 33},
        {},
    ),
    "NTM 2 layers, heads": (
        NTM,
        {"layers": 2, "read_heads": 3, "write_heads": 2, "shift_range": 0, "slots": 16, "hidden_size": 18},
        {"lengths": LENGTHS},
    ),
    "NTM more shifts than slots": (NTM, {"slots": 5, "shift_range": 7}, {}),
    "NTM lengths": (NTM, {"slots": 5}, {"lengths": LENGTHS}),
    "NTM read first, lengths": (NTM, {"order": "read-write", "slots": 16}, {"lengths": LENGTHS}),
    "NTM 13 sequences": (NTM, {"hidden_size": 33}, {"batch": 13}),
    "NTM one sequence, one step": (NTM, {}, {"batch": 1, "steps": 1}),
    "NTM two steps": (NTM, {}, {"steps": 2}),
    "NTM width 1": (NTM, {"width": 1}, {}),
    "NTM one slot": (NTM, {"slots": 1, "shift_range": 2}, {}),
    "NTM one of all": (NTM, {"slots": 1, "width": 1, "hidden_size": 1}, {"batch": 1}),
    "DNC feed-forward": (DNC, {"controller": "feedforward", "layers": 2}, {"lengths": LENGTHS}),
    "DNC 3 layers, 1 head": (DNC, {"layers": 3, "read_heads": 1, "hidden_size": 18}, {}),
    "DNC 3 heads": (DNC, {"read_heads": 3, "slots": 33}, {}),
    "DNC 4 heads": (DNC, {"read_heads": 4, "slots": 16}, {"lengths": LENGTHS}),
    "DNC 6 heads": (DNC, {"read_heads": 6, "layers": 2}, {}),
    "DNC no links": (DNC, {"links": "none"}, {"lengths": LENGTHS}),
    "DNC no links, masked, deallocate": (DNC, {"links": "none", "masked": True, "deallocate": True}, {}),
    "DNC masked": (DNC, {"masked": True}, {}),
    "DNC deallocate": (DNC, {"deallocate": True}, {}),
    "DNC sharpened": (DNC, {"sharpened": True}, {}),
    "DNC detached": (DNC, {"detach_usage": True}, {}),
    "DNC everything": (DNC, everything | {"read_heads": 6, "slots": 5, "layers": 2}, {"lengths": LENGTHS}),
    "DNC 13 sequences": (DNC, {"slots": 5}, {"batch": 13}),
    "DNC one sequence, one step": (DNC, {}, {"batch": 1, "steps": 1}),
    "DNC two steps": (DNC, everything, {"steps": 2}),
    "DNC width 1": (DNC, {"width": 1}, {}),
    "DNC one slot": (DNC, {"slots": 1}, {}),
    "DNC one of all": (DNC, {"slots": 1, "width": 1, "hidden_size": 1, "read_heads": 1}, {"batch": 1}),
    "DNC 600 slots": (DNC, {"slots": 600}, {"steps": 5}),
}
machines = pytest.mark.parametrize("machine", [NTM, DNC])
every_map = pytest.mark.parametrize("map", MAPS, ids=[*_fused._MAPS, "straight-through"])


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets the number of steps of each run of the kernel."""
    steps: list[int] = []
    run = _fused.run

    def spied(*arguments: Any) -> Any:
        steps.append(len(arguments[2]))
        return run(*arguments)

    monkeypatch.setattr(_fused, "run", spied)
    return steps


def build(machine: type[Net], **options: Any) -> Net:
    """A net whose parameters all matter."""
    net = machine(5, 4, **OPTIONS[machine] | options)
    for parameter in net.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return net


def plain(net: Net, dtype: torch.dtype = torch.float64) -> Net:
    twin = copy.deepcopy(net).to(dtype)
    twin.kernel = False
    return twin


def beside(net: Net, batch: int) -> list[Tensor]:
    """What can be added to the fields of an initial state so that it is one from the middle of a sequence."""
    start = net.initial_state(batch)
    made = {name: 0.5 * torch.randn_like(value) for name, value in zip(start._fields, start, strict=True)}
    for name in ("weights", "read_weights", "write_weights", "precedence", "links"):
        if name in made:
            made[name] = 0.5 * (4 * made[name]).softmax(-1)
    if "usage" in made:
        made["usage"] = torch.rand_like(made["usage"])
    if "links" in made and made["links"].numel():
        made["links"] *= 1 - torch.eye(net.config.slots)
    return list(made.values())


def moved(net: Net, added: list[Tensor], batch: int) -> Any:
    start = net.initial_state(batch)
    return type(start)(*(each + more for each, more in zip(start, added, strict=True)))


def differentiated(
    net: Net, inputs: Tensor, added: list[Tensor] | None, lengths: Tensor | None, upstream: list[Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs and fields of the last state; gradients of all parameters, the inputs and the fields of the first."""
    dtype = net.output_bias.dtype
    inputs = inputs.to(dtype).detach().requires_grad_()
    leaves = [] if added is None else [each.to(dtype).detach().requires_grad_() for each in added]
    state = None if added is None else moved(net, leaves, inputs.shape[1])
    outputs, last = net(inputs, state, lengths)
    values = {"outputs": outputs, **dict(zip(last._fields, last, strict=True))}
    loss = sum((value * up.to(dtype)).sum() for value, up in zip(values.values(), upstream, strict=True))
    names = ["inputs", *(f"first {name}" for name in last._fields[: len(leaves)]), *dict(net.named_parameters())]
    gradients = torch.autograd.grad(loss, [inputs, *leaves, *net.parameters()], materialize_grads=True)  # type: ignore[arg-type]
    return {n: v.detach() for n, v in values.items()}, dict(zip(names, gradients, strict=True))


def agree(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Within a part of the largest number of each tensor."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        scale = float(value.detach().abs().max()) if value.numel() else 0.0
        torch.testing.assert_close(
            found[name].to(value.dtype),
            value,
            rtol=0,
            atol=tolerance * scale + 1e-6,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def drawn_upstream(net: Net, inputs: Tensor) -> list[Tensor]:
    with torch.no_grad():
        outputs, last = net(inputs)
    return [torch.randn_like(each) for each in (outputs, *last)]


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_values_states_and_gradients_are_those_of_the_plain_path(
    case: tuple[type[Net], Options, Options], ran: list[int]
) -> None:
    machine, options, call = case
    net = build(machine, **options)
    inputs = torch.randn(call.get("steps", 9), call.get("batch", 3), 5)
    lengths = torch.tensor(call["lengths"]) if "lengths" in call else None
    upstream = drawn_upstream(net, inputs)
    starts = [None, beside(net, inputs.shape[1])]
    if machine is DNC and net.config.map == "uniform":
        del starts[0]  # slots that were never written are equally used, but for rounding
    for added in starts:
        ran.clear()
        found = differentiated(net, inputs, added, lengths, upstream)
        assert ran == [len(inputs)]
        expected = differentiated(plain(net), inputs, added, lengths, upstream)
        assert ran == [len(inputs)]
        agree(found[0], expected[0], 2e-5)
        agree(found[1], expected[1], 3e-4)


@machines
def test_steps_beyond_a_length_are_not_seen(machine: type[Net]) -> None:
    net, inputs, lengths = build(machine), torch.randn(9, 4, 5), torch.tensor([9, 0, 4, 1])
    added = beside(net, 4)
    inside = torch.arange(9).unsqueeze(-1) < lengths
    upstream = drawn_upstream(net, inputs)
    values, gradients = differentiated(net, inputs, added, lengths, upstream)
    spoilt = torch.where(inside.unsqueeze(-1), inputs, torch.nan)
    again, _ = differentiated(net, spoilt, added, lengths, upstream)
    for name, value in values.items():
        assert torch.equal(value, again[name]), name
    assert values["outputs"][~inside].abs().sum() == 0
    assert gradients["inputs"][~inside].abs().sum() == 0
    first = moved(net, added, 4)
    for name, field in zip(first._fields, first, strict=True):  # that of no step comes out as it went in
        axis = 1 if name in ("hidden", "cell") else 0
        assert torch.equal(values[name].select(axis, 1), field.select(axis, 1)), name


@machines
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32])
def test_lengths_may_be_of_any_kind_of_whole_number(machine: type[Net], dtype: torch.dtype) -> None:
    net, inputs, lengths = build(machine), torch.randn(9, 4, 5), torch.tensor([9, 0, 4, 1])
    assert torch.equal(net(inputs, lengths=lengths.to(dtype))[0], net(inputs, lengths=lengths)[0])


@machines
@pytest.mark.parametrize("options", [{}, {"controller": "feedforward", "layers": 2}], ids=["lstm", "feed-forward"])
def test_a_sequence_can_be_cut(machine: type[Net], options: Options, ran: list[int]) -> None:
    net, inputs = build(machine, **options), torch.randn(9, 3, 5)
    whole, last = net(inputs)
    head, middle = net(inputs[:4])
    tail, end = net(inputs[4:], middle)
    assert ran == [9, 4, 5]
    torch.testing.assert_close(torch.cat([head, tail]), whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(tuple(end), tuple(last), rtol=0, atol=1e-6)
    upstream = torch.randn_like(whole)
    parameters = list(net.parameters())
    expected = torch.autograd.grad((whole * upstream).sum(), parameters, materialize_grads=True)
    found = torch.autograd.grad((torch.cat([head, tail]) * upstream).sum(), parameters, materialize_grads=True)
    agree(dict(enumerate(found)), dict(enumerate(expected)), 1e-4)  # type: ignore[arg-type]


@machines
@pytest.mark.parametrize("lengths", [None, [9, 0, 2]])
def test_segments_change_nothing(machine: type[Net], lengths: list[int] | None, ran: list[int]) -> None:
    net, inputs = build(machine), torch.randn(9, 3, 5)
    taken = None if lengths is None else torch.tensor(lengths)
    added, upstream = beside(net, 3), drawn_upstream(net, inputs)
    expected = differentiated(net, inputs, added, taken, upstream)
    net.segments = 4
    ran.clear()
    found = differentiated(net, inputs, added, taken, upstream)
    assert ran == [3, 3, 3] * 2  # each once more in the backward pass
    agree(found[0], expected[0], 1e-6)
    agree(found[1], expected[1], 1e-4)


@machines
def test_no_steps_and_no_sequences(machine: type[Net]) -> None:
    net = build(machine)
    outputs, state = net(torch.randn(0, 3, 5))
    assert outputs.shape == (0, 3, 4)
    assert all(torch.equal(one, other) for one, other in zip(state, net.initial_state(3), strict=True))
    outputs, state = net(torch.randn(9, 0, 5))
    assert outputs.shape == (9, 0, 4)
    assert [each.shape for each in state] == [each.shape for each in net.initial_state(0)]
    outputs, state = net(torch.randn(9, 2, 5), lengths=torch.tensor([0, 0]))
    assert outputs.shape == (9, 2, 4)
    torch.testing.assert_close(tuple(state), tuple(net.initial_state(2)), rtol=0, atol=0)
    outputs.sum().backward()
    assert all(each.grad is None or each.grad.isfinite().all() for each in net.parameters())


@machines
def test_strides_do_not_matter(machine: type[Net], ran: list[int]) -> None:
    net, inputs, lengths = build(machine), torch.randn(9, 3, 5), torch.tensor([9, 4, 7])
    state = moved(net, beside(net, 3), 3)
    expected, after = net(inputs, state, lengths)

    def strided(value: Tensor) -> Tensor:
        wide = torch.stack([value, torch.full_like(value, 7)], -1).transpose(0, -2).contiguous().transpose(0, -2)
        assert value.numel() < 2 or not wide[..., 0].is_contiguous()
        return wide[..., 0]

    with torch.no_grad():
        for parameter in net.parameters():
            parameter.set_(strided(parameter))  # type: ignore[no-untyped-call]
    outputs, last = net(strided(inputs), type(state)(*(strided(each) for each in state)), strided(lengths))
    assert ran == [9, 9]
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(tuple(last), tuple(after), rtol=0, atol=1e-6)
    outputs.sum().backward()
    assert all(each.grad is not None for name, each in net.named_parameters() if not name.startswith("initial"))


def operator(net: Net, pre: Tensor, state: Any, lengths: Tensor | None) -> list[Tensor]:
    """What comes of the kernel alone, without the matrix products around it: values, and gradients of its inputs."""
    leaves = [each.detach().requires_grad_() for each in (pre, *state)]
    call: Any = _fused.ntm if isinstance(net, NTM) else _fused.dnc
    made = call(leaves[0], type(state)(*leaves[1:]), lengths, dict(net.named_parameters()), net.config)
    assert made is not None
    hidden, reads, last = made
    gradients = torch.autograd.grad((hidden * hidden).sum() + (reads * reads).sum() + last.memory.sum(), leaves)
    return [each.detach() for each in (hidden, reads, *last, *gradients)]


@machines
@pytest.mark.parametrize("batch", [1, 2, 5, 13])
def test_threads_change_nothing(machine: type[Net], batch: int) -> None:
    net, lengths = build(machine, layers=2), torch.tensor([9, 1, 4, 0, 7] * 3)[:batch]
    pre = torch.randn(9, batch, 2 * 4 * 7)
    state = moved(net, beside(net, batch), batch)
    found = []
    for threads in (1, 2, 3, 16):
        torch.set_num_threads(threads)
        found.append(operator(net, pre, state, lengths))
    for more in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], more, strict=True))


@machines
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_without_gradients_the_numbers_are_the_same(machine: type[Net], steps: int, ran: list[int]) -> None:
    net, inputs, lengths = build(machine), torch.randn(steps, 3, 5), torch.tensor([steps, 0, 1])
    with_gradients = [net(inputs), net(inputs, lengths=lengths)]
    assert with_gradients[0][0].requires_grad
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            without = [net(inputs), net(inputs, lengths=lengths)]
        for (outputs, state), (expected, after) in zip(without, with_gradients, strict=True):
            assert not outputs.requires_grad
            assert torch.equal(outputs, expected)
            assert all(torch.equal(one, other) for one, other in zip(state, after, strict=True))
    assert ran == [steps] * 6


@machines
def test_frozen_parameters_and_a_gradient_of_the_inputs_alone(machine: type[Net], ran: list[int]) -> None:
    net, inputs = build(machine), torch.randn(9, 3, 5)
    expected = differentiated(net, inputs, None, None, drawn_upstream(net, inputs))
    torch.manual_seed(0)
    net = build(machine).requires_grad_(False)
    inputs = torch.randn(9, 3, 5).requires_grad_()
    upstream = drawn_upstream(net, inputs)
    outputs, state = net(inputs)
    sum((v * u).sum() for v, u in zip((outputs, *state), upstream, strict=True)).backward()  # type: ignore[union-attr]
    assert inputs.grad is not None
    assert torch.equal(inputs.grad, expected[1]["inputs"])
    assert all(each.grad is None for each in net.parameters())


@machines
@every_map
def test_nan_stays_in_its_sequence(machine: type[Net], map: Any) -> None:  # noqa: A002
    net, inputs = build(machine, map=map), torch.randn(9, 3, 5)
    expected, after = net(inputs)
    spoilt = inputs.clone()
    spoilt[4, 1, 2] = torch.nan
    outputs, state = net(spoilt)
    assert torch.equal(outputs[:, [0, 2]], expected[:, [0, 2]])
    assert torch.equal(outputs[:4, 1], expected[:4, 1])
    assert outputs[4:, 1].isnan().all()
    for name, value, clean in zip(state._fields, state, after, strict=True):
        axis = 1 if name in ("hidden", "cell") else 0
        kept = torch.tensor([0, 2])
        assert torch.equal(value.index_select(axis, kept), clean.index_select(axis, kept)), name
    assert state.memory[1].isnan().any()
    assert state.reads[1].isnan().all()


@machines
@every_map
def test_nan_in_a_key_is_seen_in_what_is_read(machine: type[Net], map: Any) -> None:  # noqa: A002
    net, inputs = build(machine, map=map), torch.randn(1, 2, 5)
    net.interface_bias.data[0] = torch.nan  # of the first read head's key
    _, state = net(inputs)
    _, expected = plain(net, torch.float32)(inputs)
    assert torch.equal(state.reads.isnan(), expected.reads.isnan())
    assert state.memory.isfinite().all()


@pytest.mark.parametrize(
    ("machine", "options"),
    [
        (NTM, {}),
        (NTM, {"slots": 5, "shift_range": 7, "order": "read-write"}),
        (NTM, {"slots": 16, "shift_range": 0, "layers": 2}),
        (NTM, {"controller": "feedforward", "width": 1}),
        (DNC, {}),
        (DNC, everything | {"read_heads": 6}),
        (DNC, {"links": "none", "map": "sparsemax", "layers": 2}),
    ],
)
def test_nothing_is_left_of_an_earlier_net(machine: type[Net], options: Options) -> None:
    """The room for a thread's work is used again as it is."""
    net, inputs = build(machine, **options), torch.randn(9, 3, 5)
    upstream = drawn_upstream(net, inputs)
    found = []
    for value in (torch.nan, torch.inf, 0.0, 1e30):
        earlier = DNC(5, 4, hidden_size=200, slots=64, width=16)
        for parameter in earlier.parameters():
            parameter.data.fill_(value)
        earlier(torch.full((4, 8, 5), value))[0].sum().backward()
        values, gradients = differentiated(net, inputs, None, None, upstream)
        found.append({**{f"last {name}": each for name, each in values.items()}, **gradients})
    for more in found:
        for name, value in more.items():
            assert value.isfinite().all(), name
            assert torch.equal(value, found[0][name]), name


def columns(net: Net, name: str) -> slice:
    start = 0
    for each, (heads, size) in net.config.columns().items():
        if each == name:
            return slice(start, start + heads * size)
        start += heads * size
    raise AssertionError(name)


EXTREMES: list[tuple[type[Net], dict[str, float]]] = [
    (NTM, {"strengths": 1e4}),
    (NTM, {"strengths": 1e4, "sharpness": 100.0}),
    (NTM, {"sharpness": 100.0, "gates": 30.0}),
    (NTM, {"strengths": -1e4, "sharpness": -1e4, "gates": -1e4, "erase": 1e4}),
    (DNC, {"read_strengths": 1e4, "write_strengths": 1e4}),
    (DNC, {"read_strengths": 1e4, "forward_sharpness": 100.0, "backward_sharpness": 100.0}),
    (DNC, {"write_gates": 1e4, "allocation_gates": 1e4, "free_gates": 1e4}),
    (DNC, {"write_gates": -1e4, "allocation_gates": -1e4, "free_gates": -1e4, "read_masks": -1e4}),
]


@pytest.mark.parametrize("own", [False, True], ids=["empty memory", "learned memory"])
@pytest.mark.parametrize(
    ("machine", "biases"), EXTREMES, ids=[f"{machine.__name__} {', '.join(biases)}" for machine, biases in EXTREMES]
)
def test_extremes_keep_gradients_finite(machine: type[Net], biases: dict[str, float], own: bool) -> None:
    options = {"masked": True, "sharpened": True} if machine is DNC else {"initial_weights": "one-slot"}
    net = build(machine, **options | {"initial_memory": "learned" if own else "constant"})
    for name, bias in biases.items():
        net.interface_bias.data[columns(net, name)] += bias
    outputs, state = net(torch.randn(40, 3, 5))
    outputs.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    weights = state.weights if isinstance(state, NTMState) else state.read_weights
    assert weights.min() > -1e-6
    assert weights.sum(-1).max() < 1 + 1e-5
    if isinstance(state, NTMState):
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)), rtol=0, atol=1e-5)


# ---- vmap, compilation, and what else looks into the operator


@machines
@pytest.mark.parametrize("shared", [False, True], ids=["own inputs", "shared inputs"])
def test_vmap_is_the_loop(machine: type[Net], shared: bool, ran: list[int]) -> None:
    nets = [build(machine, layers=2) for _ in range(3)]
    parameters, buffers = stack_module_state(nets)  # type: ignore[arg-type]
    inputs = torch.randn(9, 2, 5) if shared else torch.randn(3, 9, 2, 5)
    lengths = torch.tensor([[9, 2], [0, 9], [4, 4]])

    def one(parameters: Any, inputs: Tensor, lengths: Tensor) -> Any:
        return functional_call(nets[0], (parameters, {}), (inputs, None, lengths))

    def loss(*arguments: Any) -> Tensor:
        outputs, state = one(*arguments)
        return outputs.square().sum() + state.memory.square().sum()

    assert not buffers
    axes = (0, None if shared else 0, 0)
    outputs, state = torch.vmap(one, axes)(parameters, inputs, lengths)
    assert ran == [9]
    total = outputs.square().sum() + state.memory.square().sum()
    gradients = torch.autograd.grad(total, list(parameters.values()), materialize_grads=True)
    detached = {name: value.detach() for name, value in parameters.items()}
    inside = torch.vmap(torch.func.grad(loss), axes)(detached, inputs, lengths)
    assert ran == [9]  # inside of `torch.func.grad` the plain path serves
    for member, net in enumerate(nets):
        alone, after = net(inputs if shared else inputs[member], None, lengths[member])
        torch.testing.assert_close(outputs[member], alone, rtol=0, atol=1e-6)
        torch.testing.assert_close(tuple(each[member] for each in state), tuple(after), rtol=0, atol=1e-6)
        own = torch.autograd.grad(
            alone.square().sum() + after.memory.square().sum(), list(net.parameters()), materialize_grads=True
        )
        expected = dict(zip(parameters, own, strict=True))
        agree({name: each[member] for name, each in zip(parameters, gradients, strict=True)}, expected, 1e-4)
        agree({name: each[member] for name, each in inside.items()}, expected, 3e-4)


@machines
def test_vmap_in_vmap_and_without_gradients(machine: type[Net], ran: list[int]) -> None:
    nets = [build(machine) for _ in range(2)]
    parameters, _ = stack_module_state(nets)  # type: ignore[arg-type]
    inputs = torch.randn(2, 3, 4, 2, 5)  # members, of which each has three batches

    def one(parameters: Any, inputs: Tensor) -> Tensor:
        found: Tensor = functional_call(nets[0], (parameters, {}), (inputs,))[0]
        return found

    with torch.no_grad():
        found = torch.vmap(torch.vmap(one, (None, 0)))(parameters, inputs)
        assert ran == [4]
        expected = [[net(each)[0] for each in own] for net, own in zip(nets, inputs, strict=True)]
    torch.testing.assert_close(found, torch.stack([torch.stack(each) for each in expected]), rtol=0, atol=1e-6)


def given(net: Net, inputs: Tensor, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    """What the operator gets for these inputs."""
    seen: list[tuple[Any, ...]] = []
    forward = _fused._forward
    monkeypatch.setattr(_fused, "_forward", lambda *arguments: seen.append(arguments) or forward(*arguments))
    net(inputs)
    return seen[0]


@machines
def test_the_operator_keeps_what_pytorch_asks_of_one(machine: type[Net], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = given(build(machine), torch.randn(4, 2, 5), monkeypatch)

    def leaf(value: Any) -> Any:
        if isinstance(value, list):
            return [leaf(each) for each in value]
        return value.detach().clone().requires_grad_() if isinstance(value, Tensor) else value

    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(_fused._sequence, tuple(map(leaf, arguments)), test_utils=checks)
    machine_number, sizes, _, pre, lengths, recurrent, weight, bias, _ = arguments
    with torch.no_grad():
        *made, tape = _fused._sequence(*arguments)
    upstream = [torch.randn_like(each) for each in made]
    inner = (machine_number, sizes, pre.detach(), lengths, [each.detach() for each in recurrent])
    rest = (weight.detach(), bias.detach(), upstream, tape)
    torch.library.opcheck(_fused._unsequence, (*inner, *rest), test_utils=("test_schema", "test_faketensor"))


def check_compiled(machine: type[Net], backend: str, **options: Any) -> None:
    torch._dynamo.reset()
    net, inputs, lengths = build(machine, **options), torch.randn(4, 3, 5), torch.tensor([4, 0, 2])
    compiled = torch.compile(net, fullgraph=True, backend=backend)
    parameters = list(net.parameters())
    found, state = compiled(inputs, lengths=lengths)
    expected, after = net(inputs, lengths=lengths)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(tuple(state), tuple(after), rtol=0, atol=1e-6)
    ours = torch.autograd.grad(found.square().sum(), parameters, materialize_grads=True)
    theirs = torch.autograd.grad(expected.square().sum(), parameters, materialize_grads=True)
    agree(dict(enumerate(ours)), dict(enumerate(theirs)), 1e-5)  # type: ignore[arg-type]
    with torch.no_grad():
        torch.testing.assert_close(compiled(inputs, lengths=lengths)[0], expected, rtol=0, atol=1e-6)
    torch._dynamo.reset()


class Calls:
    """A backend of `torch.compile` that runs the graph as it is, and knows what it calls."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        self.names += [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
        return graph.forward


@machines
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_compiled_net_calls_the_kernel_once(machine: type[Net]) -> None:
    calls = Calls()
    check_compiled(machine, calls)  # type: ignore[arg-type]
    # Once more for the call without gradients.
    assert [each for each in calls.names if "memory_sequence" in each] == ["softplace.memory_sequence.default"] * 2
    assert len(calls.names) < 150


@machines
@needs_compiler
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_it_is_the_same(backend: str, machine: type[Net]) -> None:
    check_compiled(machine, backend)


@machines
@needs_compiler
def test_compiled_members_are_the_same(machine: type[Net], ran: list[int]) -> None:
    torch._dynamo.reset()
    nets = [build(machine) for _ in range(2)]
    parameters, _ = stack_module_state(nets)  # type: ignore[arg-type]
    inputs, lengths = torch.randn(2, 4, 3, 5), torch.tensor([[4, 0, 2], [1, 4, 4]])

    def members(parameters: Any, inputs: Tensor, lengths: Tensor) -> Tensor:
        def one(parameters: Any, inputs: Tensor, lengths: Tensor) -> Tensor:
            found: Tensor = functional_call(nets[0], (parameters, {}), (inputs, None, lengths))[0]
            return found

        return torch.vmap(one)(parameters, inputs, lengths)

    arguments, leaves = (parameters, inputs, lengths), list(parameters.values())
    expected = members(*arguments)
    assert ran == [4]
    found = torch.compile(members, fullgraph=True, backend="aot_eager")(*arguments)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    ours = torch.autograd.grad(found.square().sum(), leaves, materialize_grads=True)
    theirs = torch.autograd.grad(expected.square().sum(), leaves, materialize_grads=True)
    agree(dict(enumerate(ours)), dict(enumerate(theirs)), 1e-5)  # type: ignore[arg-type]
    torch._dynamo.reset()


# ---- the backward pass and its tape


@machines
def test_a_second_backward_pass_gives_the_same(machine: type[Net]) -> None:
    net, inputs = build(machine), torch.randn(9, 3, 5)
    loss = net(inputs)[0].square().sum()
    passes = [torch.autograd.grad(loss, list(net.parameters()), retain_graph=True) for _ in range(2)]
    assert all(torch.equal(one, other) for one, other in zip(*passes, strict=True))


@machines
def test_runs_whose_gradients_are_still_to_come_do_not_share_a_tape(machine: type[Net]) -> None:
    net, pieces = build(machine), [torch.randn(9, 3, 5) for _ in range(4)]
    parameters = list(net.parameters())
    alone = [torch.autograd.grad(net(piece)[0].square().sum(), parameters) for piece in pieces]
    losses = [net(piece)[0].square().sum() for piece in pieces]
    with torch.no_grad():
        net(pieces[0])
    for loss, expected in zip(losses, alone, strict=True):
        found = torch.autograd.grad(loss, parameters)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@machines
def test_tapes_are_used_again(machine: type[Net], monkeypatch: pytest.MonkeyPatch) -> None:
    tapes = _fused._Tapes()
    monkeypatch.setattr(_fused, "_TAPES", tapes)
    net, inputs = build(machine), torch.randn(9, 3, 5)
    seen = set()
    for _ in range(5):
        net(inputs)[0].square().sum().backward()
        assert len(tapes._free) == 1
        seen.add(tapes._free[0].ctypes.data)
    assert len(seen) == 1
    several = [net(inputs)[0] for _ in range(5)]
    assert tapes._free == []
    del several
    gc.collect()
    assert len(tapes._free) == 2  # more are not kept
    net(inputs[:1, :1])  # does not hold a tape many times its size
    assert len(tapes._free) == 2


@machines
def test_there_are_no_second_derivatives(machine: type[Net]) -> None:
    net, inputs = build(machine), torch.randn(4, 2, 5).requires_grad_()
    (first,) = torch.autograd.grad(net(inputs)[0].square().sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        first.sum().backward()
    net.kernel = False
    (first,) = torch.autograd.grad(net(inputs)[0].square().sum(), inputs, create_graph=True)
    first.sum().backward()
    assert inputs.grad is not None


@machines
def test_there_are_no_second_derivatives_of_members(machine: type[Net]) -> None:
    net = build(machine)
    inputs = torch.randn(3, 4, 2, 5).requires_grad_()
    outputs = torch.vmap(lambda each: net(each)[0])(inputs)
    (first,) = torch.autograd.grad(outputs.square().sum(), inputs, create_graph=True)
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.autograd.grad(first.square().sum(), inputs)


# ---- where the plain path serves


def doubled(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.softmax(2 * scores, dim)


OUTSIDE: dict[str, tuple[type[Net], Options]] = {
    "NTM a function": (NTM, {"map": doubled}),
    "NTM another map": (NTM, {"map": "softmax1"}),
    "NTM float64": (NTM, {"dtype": torch.float64}),
    "NTM bfloat16": (NTM, {"dtype": torch.bfloat16}),
    "NTM nine layers": (NTM, {"layers": 9}),
    "DNC a function": (DNC, {"map": doubled}),
    "DNC float64": (DNC, {"dtype": torch.float64}),
    "DNC sparse links": (DNC, {"links": "sparse"}),
    "DNC two write heads": (DNC, {"write_heads": 2}),
    "DNC smooth allocation": (DNC, {"allocation": "softmax"}),
}


@pytest.mark.parametrize(("machine", "options"), OUTSIDE.values(), ids=list(OUTSIDE))
def test_what_the_kernel_does_not_know_takes_the_plain_path(
    machine: type[Net], options: Options, ran: list[int]
) -> None:
    net = build(machine, **options)
    inputs = torch.randn(4, 2, 5, dtype=net.output_bias.dtype)
    outputs, _ = net(inputs)
    assert ran == []
    assert torch.equal(outputs, plain(net, outputs.dtype)(inputs)[0])
    outputs.square().sum().backward()
    assert all(each.grad is not None for name, each in net.named_parameters() if not name.startswith("initial"))
    net = build(machine)
    net(inputs.float())
    assert ran == [4]


@machines
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of PyTorch's forward mode
def test_forward_mode_takes_the_plain_path(machine: type[Net], ran: list[int]) -> None:
    net, inputs, tangent = build(machine), torch.randn(4, 2, 5), torch.randn(4, 2, 5)
    reference = plain(net)
    expected, slope = torch.func.jvp(lambda x: reference(x)[0], (inputs.double(),), (tangent.double(),))
    found = [torch.func.jvp(lambda x: net(x)[0], (inputs,), (tangent,))]
    with torch.autograd.forward_ad.dual_level():
        dual = net(torch.autograd.forward_ad.make_dual(inputs, tangent))[0]
        found.append(tuple(torch.autograd.forward_ad.unpack_dual(dual)))
    assert ran == []
    for value, change in found:
        agree({"value": value.detach(), "slope": change.detach()}, {"value": expected, "slope": slope}, 1e-5)


@machines
def test_other_transforms_take_the_plain_path(machine: type[Net], ran: list[int]) -> None:
    net, inputs = build(machine), torch.randn(2, 1, 5)
    found = torch.func.jacrev(lambda x: net(x)[0])(inputs)
    assert ran == []
    expected = torch.autograd.functional.jacobian(lambda x: net(x)[0], inputs)
    assert ran == [2]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_it_can_be_turned_off(ran: list[int]) -> None:
    net, inputs = build(NTM), torch.randn(4, 2, 5)
    net.kernel = False
    net(inputs)
    assert ran == []


WITHOUT = """
import sys, torch
from softplace.memory import _fused
from softplace.memory.dnc import DNC
from softplace.memory.ntm import NTM
torch.manual_seed(0)
found = []
for net in (NTM(3, 2, slots=8, initial_memory="random"), DNC(3, 2, slots=8, initial_memory="random")):
    found.append(net(torch.linspace(-1, 1, 30).reshape(5, 2, 3))[0])
found[0].sum().backward()
torch.save([each.detach() for each in found], sys.argv[1])
print(_fused.library())
"""


def test_without_a_compiler_the_plain_path_serves(tmp_path: Any) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", WITHOUT, str(tmp_path / "found.pt")],
        env=os.environ | {"SOFTPLACE_KERNEL": "0"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (run.returncode, run.stdout) == (0, "None\n"), run.stderr
    torch.manual_seed(0)
    for machine, found in zip((NTM, DNC), torch.load(tmp_path / "found.pt"), strict=True):
        expected = machine(3, 2, slots=8, initial_memory="random")(torch.linspace(-1, 1, 30).reshape(5, 2, 3))[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_states_are_those_of_their_machine() -> None:
    assert isinstance(build(NTM)(torch.randn(2, 1, 5))[1], NTMState)
    assert isinstance(build(DNC)(torch.randn(2, 1, 5))[1], DNCState)

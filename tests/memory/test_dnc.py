"""The DNC: equal to loops over the paper's equations, its invariants, its gradients, and every way to run it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace import maps
from softplace.errors import InputError
from softplace.memory._reference_dnc import reference_dnc
from softplace.memory.dnc import DNC, DNCState, dnc
from softplace.memory.links import SparseLinks
from tests.study.test_fleet import needs_compiler

INPUTS, OUTPUTS = 3, 2
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "heads": {"read_heads": 3, "write_heads": 2},
    "layers": {"layers": 2, "read_heads": 2},
    "feed-forward": {"controller": "feedforward", "layers": 2},
    "masked": {"masked": True, "read_heads": 2, "write_heads": 2},
    "deallocate": {"deallocate": True, "read_heads": 2},
    "sharpened": {"sharpened": True, "read_heads": 2, "write_heads": 2},
    "all repairs": {"masked": True, "deallocate": True, "sharpened": True},
    "detached usage": {"detach_usage": True, "write_heads": 2},
    "smooth allocation": {"allocation": "softmax", "write_heads": 2},
    "other maps": {"map": "sparsemax", "allocation": maps.sparsemax},
    "no links": {"links": "none", "read_heads": 2, "write_heads": 2},
    "learned memory": {"initial_memory": "learned"},
    "random memory": {"initial_memory": "random"},
}
SPARSE: dict[str, Any] = {"links": "sparse", "sparse_links": 2, "read_heads": 2, "write_heads": 2}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def build(seed: int = 0, scale: float | None = 0.8, **options: Any) -> DNC:
    """A small net in float64; large random weights unless `scale` is None, at which heads do more than average."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 5, "slots": 5, "width": 3, "kernel": False, "dtype": torch.float64} | options
    net = DNC(INPUTS, OUTPUTS, **sizes)
    if scale is not None:
        with torch.no_grad():
            for values in net.parameters():
                values.copy_(scale * torch.randn_like(values))
    return net


def sequence(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, INPUTS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def tensors(state: DNCState) -> dict[str, Tensor]:
    """The fields of a state; sparse links as the matrix, since the order of equal entries means nothing."""
    fields = state._asdict()
    links = fields.pop("links")
    return fields | {"links": links.dense() if isinstance(links, SparseLinks) else links}


def same(found: DNCState, expected: DNCState, tolerance: float = 1e-12) -> None:
    for name, value in tensors(expected).items():
        torch.testing.assert_close(
            tensors(found)[name], value, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def gradients(net: DNC, outputs: Tensor, state: DNCState) -> dict[str, Tensor]:
    """Of a sum in which every output and every slot has its own weight."""
    weights = [torch.randn(each.shape, generator=torch.Generator().manual_seed(9)) for each in (outputs, state.memory)]
    total = (weights[0] * outputs).sum() + (weights[1] * state.memory).sum()
    names, values = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(total, values), strict=True))


def close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(1.0, float(value.abs().max()))
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=tolerance * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


# The equations


@every_option
def test_it_is_the_papers_equations(options: dict[str, Any]) -> None:
    net, inputs = build(**options), sequence(9, 2)
    outputs, state = net(inputs)
    expected, last = reference_dnc(inputs, net.initial_state(2), dict(net.named_parameters()), net.config)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-10)
    same(state, last, 1e-10)
    close(gradients(net, outputs, state), gradients(net, expected, last), 1e-10)


def test_it_is_the_papers_equations_from_a_state_in_the_middle() -> None:
    net, inputs = build(seed=3, read_heads=2), sequence(12, 2)
    _, middle = net(inputs[:6])
    outputs, state = net(inputs[6:], middle)
    expected, last = reference_dnc(inputs[6:], middle, dict(net.named_parameters()), net.config)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-10)
    same(state, last, 1e-10)


@pytest.mark.parametrize("entries", [5, 50])
def test_sparse_links_with_an_entry_for_every_slot_are_dense_links(entries: int) -> None:
    inputs = sequence(12, 2)
    heads = {"read_heads": 2, "write_heads": 2, "sharpened": True}
    dense, sparse = build(**heads), build(**heads, links="sparse", sparse_links=entries)
    (outputs, state), (found, other) = dense(inputs), sparse(inputs)
    torch.testing.assert_close(found, outputs, rtol=0, atol=1e-12)
    same(other, state)
    close(gradients(sparse, found, other), gradients(dense, outputs, state), 1e-11)


GRADCHECKED = {
    name: OPTIONS[name] for name in ("plain", "heads", "layers", "feed-forward", "all repairs", "learned memory")
} | {"sparse": SPARSE | {"read_heads": 1}}


@pytest.mark.parametrize("options", GRADCHECKED.values(), ids=GRADCHECKED)
def test_gradients_by_finite_differences_through_nine_steps(options: dict[str, Any]) -> None:
    net = build(seed=5, hidden_size=3, slots=4, width=2, **options)
    names, values = zip(*net.named_parameters(), strict=True)

    def run(inputs: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        outputs, state = torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), inputs)
        return outputs, state.memory

    inputs = sequence(9, 1, seed=6).requires_grad_()
    assert torch.autograd.gradcheck(run, (inputs, *values), fast_mode=True)


def test_what_was_read_is_an_input_of_the_controller() -> None:
    net, inputs = build(scale=None), sequence(4, 2)  # at the initial draw
    outputs, _ = net(inputs)
    (gradient,) = torch.autograd.grad(outputs[-1].sum(), net.get_parameter("recurrent_weight_0"))
    assert gradient[:, :3].abs().min() > 0  # the columns of the reads
    # And the other way round: the memory of a step changes the hidden units of the next, in every layer.
    net = build(layers=2, read_heads=2)
    start = net(inputs)[1].detach()
    memory = start.memory.clone().requires_grad_()
    _, after = net(inputs[:2], start._replace(memory=memory))
    for layer in after.hidden:
        assert torch.autograd.grad(layer.sum(), memory, retain_graph=True)[0].abs().max() > 0


# Invariants


def check_invariants(trace: Any, rounding: float) -> None:
    """Every bound of the equations, at every step."""
    for name in ("write_weights", "read_weights", "allocation", "forward", "backward", "precedence"):
        weights = getattr(trace, name)
        most = trace.write_gates if name == "write_weights" else 1.0
        assert (weights >= -rounding).all(), name
        assert (weights.sum(-1) <= most + rounding).all(), name
    for name in ("write_content", "read_content", "read_modes"):
        total = getattr(trace, name).sum(-1)
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=rounding, msg=name)
        assert (getattr(trace, name) >= 0).all(), name
    for name in ("usage", "retention"):
        assert (getattr(trace, name) >= 0).all(), name
        assert (getattr(trace, name) <= 1).all(), name
    torch.testing.assert_close(trace.allocation[..., 0, :].sum(-1), 1 - trace.usage.prod(-1), rtol=0, atol=rounding)
    left = (1 - trace.write_weights.sum(-1)).cumprod(0)
    torch.testing.assert_close(trace.precedence.sum(-1), 1 - left, rtol=0, atol=10 * rounding)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])  # 10: gates at 0 and 1, strengths in the tens
@pytest.mark.parametrize(
    "options", [{"read_heads": 2, "write_heads": 2}, {"sharpened": True, "masked": True, "deallocate": True}, SPARSE]
)
def test_invariants(dtype: torch.dtype, scale: float, options: dict[str, Any]) -> None:
    rounding = 3e-6 if dtype == torch.float32 else 1e-12
    net = build(seed=7, scale=scale, **options).to(dtype)
    with torch.no_grad():
        check_invariants(net.trace(sequence(60, 4, dtype=dtype)), rounding)
        links = tensors(net(sequence(60, 4, dtype=dtype))[1])["links"]
    assert (links >= -rounding).all()
    assert (links.sum(-1) <= 1 + rounding).all()
    assert (links.sum(-2) <= 1 + rounding).all()
    assert (links.diagonal(dim1=-2, dim2=-1) == 0).all()


@pytest.mark.parametrize("steps", [500, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_invariants_after_many_steps(dtype: torch.dtype, steps: int) -> None:
    net = build(seed=8, scale=2.0, slots=6).to(dtype)
    inputs = sequence(250, 3, dtype=dtype)
    state = None
    with torch.no_grad():
        for _ in range(steps // 250):  # the same inputs again, another state
            _, state = net(inputs, state)
    assert state is not None
    rounding = 3e-6 if dtype == torch.float32 else 1e-12
    for name in ("usage", "precedence", "links", "read_weights", "write_weights"):
        value = tensors(state)[name]
        assert (value >= -rounding).all(), name
        assert (value <= 1 + rounding).all(), name
    for rows in (state.links, state.links.mT, state.precedence, state.read_weights, state.write_weights):
        assert (rows.sum(-1) <= 1 + rounding).all()
    assert (state.links.diagonal(dim1=-2, dim2=-1) == 0).all()
    assert all(value.isfinite().all() for value in state)


def commanded(slots: int, **fixed: float) -> DNC:
    """A net whose controller says the same at every step: sharp gates, allocation only, unless told otherwise."""
    net = build(scale=0.0, slots=slots, width=2)
    says = {"free_gates": -60.0, "allocation_gates": 60.0, "write_gates": 60.0, "erase": 60.0} | fixed
    position = 0
    with torch.no_grad():
        for name, (heads, size) in net.config.columns().items():
            if name in says:
                net.interface_bias[position : position + heads * size] = says[name]
            position += heads * size
    return net


def test_allocated_writes_fill_the_memory_one_slot_after_another() -> None:
    net = commanded(4, write_vectors=1.0)
    trace = net.trace(sequence(6, 1))
    written = trace.write_weights[:, 0, 0]
    torch.testing.assert_close(written[:4], torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(written[4:], torch.zeros(2, 4, dtype=torch.float64), rtol=0, atol=1e-12)  # full
    torch.testing.assert_close(trace.memory[-1, 0], torch.ones(4, 2, dtype=torch.float64))
    _, state = net(sequence(6, 1))
    successors = torch.diag(torch.ones(3, dtype=torch.float64), -1)
    assert isinstance(state.links, Tensor)
    torch.testing.assert_close(state.links[0, 0], successors, rtol=0, atol=1e-12)


def test_a_closed_write_gate_changes_nothing() -> None:
    net = build(seed=9)
    _, state = net(sequence(5, 2))
    closed = commanded(5, write_gates=-1e9)
    _, after = closed(sequence(3, 2), state._replace(memory=state.memory[..., :2], reads=state.reads[..., :2]))
    for name in ("precedence", "links"):
        assert torch.equal(getattr(after, name), getattr(state, name)), name
    assert torch.equal(after.memory, state.memory[..., :2])


def test_a_slot_set_free_is_erased_only_where_asked() -> None:
    for deallocate in (False, True):
        net = build(deallocate=deallocate, slots=3)
        start = net.initial_state(1)
        memory = torch.ones(1, 3, 3, dtype=torch.float64)
        at = torch.tensor([[[0.0, 1.0, 0.0]]], dtype=torch.float64)
        with torch.no_grad():
            net.interface_weight.zero_()
            net.interface_bias.zero_()
            position = 0
            for name, (heads, size) in net.config.columns().items():
                if name in ("free_gates", "write_gates"):
                    net.interface_bias[position : position + heads * size] = 60.0 if name == "free_gates" else -1e9
                position += heads * size
        _, after = net(sequence(1, 1), start._replace(memory=memory, read_weights=at))
        rows = after.memory[0, :, 0].tolist()
        assert rows == pytest.approx([1.0, 0.0 if deallocate else 1.0, 1.0])


def test_detached_usage_has_another_gradient_and_the_same_value() -> None:
    attached, detached = build(), build(detach_usage=True)
    inputs = sequence(6, 2)
    found = [net(inputs) for net in (attached, detached)]
    assert torch.equal(found[0][0], found[1][0])
    one, other = (gradients(net, *each) for net, each in zip((attached, detached), found, strict=True))
    assert not torch.allclose(one["interface_weight"], other["interface_weight"])


def test_a_larger_memory_runs_with_the_same_parameters() -> None:
    small, large = build(slots=4), build(seed=99, slots=9)
    large.load_state_dict(small.state_dict())
    inputs = sequence(3, 2)
    assert large(inputs)[1].memory.shape == (2, 9, 3)
    # Where nothing is looked up by content, slots beyond those that are used make no difference.
    few, many = commanded(4, write_vectors=1.0), commanded(9, write_vectors=1.0)
    assert torch.equal(few.trace(inputs).write_weights, many.trace(inputs).write_weights[..., :4])


# Hard inputs


@pytest.mark.parametrize("options", [{}, SPARSE, {"masked": True, "deallocate": True, "sharpened": True}])
@pytest.mark.parametrize("sizes", [{"slots": 1}, {"width": 1}, {"slots": 1, "width": 1, "hidden_size": 1}, {}])
@pytest.mark.parametrize("steps", [1, 7])
def test_gradients_are_finite_from_an_empty_memory(steps: int, sizes: dict[str, int], options: dict[str, Any]) -> None:
    for scale in (0.0, 1.0, 30.0):  # 0: zero keys; 30: gates at exactly 0 and 1
        net = build(scale=scale, **sizes, **options)
        outputs, state = net(sequence(steps, 2))
        assert outputs.isfinite().all()
        found = gradients(net, outputs, state)
        assert all(value.isfinite().all() for value in found.values())


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_gradients_are_finite_at_usage_zero_and_one(level: float) -> None:
    net = build()
    start = net.initial_state(2)
    usage = torch.full_like(start.usage, level, requires_grad=True)
    outputs, state = net(sequence(4, 2), start._replace(usage=usage))
    (gradient,) = torch.autograd.grad(outputs.square().sum() + state.usage.sum(), usage)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_no_sequences_and_no_steps() -> None:
    for options in ({}, SPARSE, {"links": "none"}):
        net = build(**options)
        outputs, state = net(sequence(4, 0))
        assert outputs.shape == (4, 0, OUTPUTS)
        assert state.memory.shape == (0, 5, 3)
        start = net(sequence(4, 2))[1]
        outputs, state = net(sequence(0, 2), start)
        assert outputs.shape == (0, 2, OUTPUTS)
        same(state, start, 0.0)
        trace = net.trace(sequence(0, 2))
        assert trace.memory.shape == (0, 2, 5, 3)
        assert trace.outputs.shape == (0, 2, OUTPUTS)


# Ways to run it


WAYS = {"plain": {}, "sparse": SPARSE, "feed-forward": OPTIONS["feed-forward"], "no links": OPTIONS["no links"]}
every_way = pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)


@every_way
def test_in_two_parts_it_is_the_same(options: dict[str, Any]) -> None:
    net, inputs = build(**options), sequence(9, 2)
    outputs, state = net(inputs)
    first, middle = net(inputs[:4])
    second, last = net(inputs[4:], middle)
    torch.testing.assert_close(torch.cat([first, second]), outputs, rtol=0, atol=1e-13)
    same(last, state)


@every_way
@pytest.mark.parametrize("segments", [1, 3])
def test_sequences_of_unequal_lengths_are_those_alone(segments: int, options: dict[str, Any]) -> None:
    net, inputs, lengths = build(segments=segments, **options), sequence(7, 4), torch.tensor([3, 7, 0, 1])
    outputs, state = net(inputs, lengths=lengths)
    trace = net.trace(inputs, lengths=lengths)
    torch.testing.assert_close(trace.outputs, outputs)
    for index, length in enumerate(lengths.tolist()):
        alone, last = net(inputs[:length, index : index + 1])
        torch.testing.assert_close(outputs[:length, index : index + 1], alone, rtol=0, atol=1e-12)
        assert (outputs[length:, index] == 0).all()
        assert (trace.memory[length:, index] == 0).all()
        for name, value in tensors(last).items():
            rows = tensors(state)[name]
            own = rows[:, index : index + 1] if name in ("hidden", "cell") else rows[index : index + 1]
            torch.testing.assert_close(own, value, rtol=0, atol=1e-12, msg=name)
    # What stands in the padding does not matter, not even to gradients.
    padded = inputs.clone()
    padded[3:, 0] = 1e3
    close(gradients(net, *net(padded, lengths=lengths)), gradients(net, outputs, state), 1e-12)


@every_way
def test_the_trace_is_what_the_net_does(options: dict[str, Any]) -> None:
    net, inputs = build(**options), sequence(6, 2)
    outputs, state = net(inputs)
    trace = net.trace(inputs)
    torch.testing.assert_close(trace.outputs, outputs, rtol=0, atol=1e-14)
    for name in ("memory", "usage", "precedence", "read_weights", "write_weights", "reads"):
        assert torch.equal(getattr(trace, name)[-1], getattr(state, name)), name
    reads = torch.einsum("tbrn,tbnm->tbrm", trace.read_weights, trace.memory)
    torch.testing.assert_close(trace.reads, reads, rtol=0, atol=1e-13)
    ways = torch.cat([trace.backward, trace.read_content.unsqueeze(-2), trace.forward], -2)
    torch.testing.assert_close(trace.read_weights, torch.einsum("tbrk,tbrkn->tbrn", trace.read_modes, ways))
    share = trace.allocation_gates.unsqueeze(-1)
    mixed = share * trace.allocation + (1 - share) * trace.write_content
    torch.testing.assert_close(trace.write_weights, trace.write_gates.unsqueeze(-1) * mixed)


def test_batch_first() -> None:
    net, other = build(), build(batch_first=True)
    outputs, state = net(sequence(6, 2))
    found, same_state = other(sequence(6, 2).transpose(0, 1))
    assert torch.equal(found, outputs.transpose(0, 1))
    same(same_state, state, 0.0)
    assert torch.equal(other.trace(sequence(6, 2).transpose(0, 1)).outputs, outputs)


@every_way
@pytest.mark.parametrize("segments", [2, 3, 9, 20])
def test_segments_change_nothing_but_what_is_kept(segments: int, options: dict[str, Any]) -> None:
    whole, cut = build(**options), build(segments=segments, **options)
    kept: list[list[int]] = [[], []]
    found = []
    for net, sizes in zip((whole, cut), kept, strict=True):
        with torch.autograd.graph.saved_tensors_hooks(
            lambda value, s=sizes: s.append(value.numel()) or value, lambda v: v
        ):
            outputs, state = net(sequence(9, 2))
        found.append((outputs, state, gradients(net, outputs, state)))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-12, atol=1e-14)
    same(found[1][1], found[0][1], 1e-13)
    close(found[1][2], found[0][2], 1e-13)
    assert sum(kept[1]) < 0.2 * sum(kept[0])


def test_a_detached_state_ends_the_gradient() -> None:
    for options in ({}, SPARSE):
        net = build(**options)
        _, state = net(sequence(3, 2))
        cut = state.detach()
        same(cut, state, 0.0)
        assert not any(value.requires_grad for value in tensors(cut).values())


@every_way
def test_a_fleet_of_nets_is_each_alone(options: dict[str, Any]) -> None:
    nets, inputs = [build(seed=seed, **options) for seed in range(3)], sequence(3, 5, 2)
    stacked = {name: torch.stack([net.get_parameter(name) for net in nets]) for name, _ in nets[0].named_parameters()}

    def run(parameters: dict[str, Tensor], inputs: Tensor) -> tuple[Tensor, Tensor]:
        outputs, state = torch.func.functional_call(nets[0], parameters, inputs)
        return outputs, state.memory

    def loss(parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return run(parameters, inputs)[0].square().sum()

    outputs, memories = torch.vmap(run)(stacked, inputs)
    slopes = torch.vmap(torch.func.grad(loss))(stacked, inputs)
    for index, net in enumerate(nets):
        expected, state = net(inputs[index])
        torch.testing.assert_close(outputs[index], expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(memories[index], state.memory, rtol=0, atol=1e-12)
        names, values = zip(*net.named_parameters(), strict=True)
        alone = torch.autograd.grad(expected.square().sum(), values)
        close({name: slopes[name][index] for name in names}, dict(zip(names, alone, strict=True)), 1e-11)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@needs_compiler
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("options", [{}, pytest.param(SPARSE, marks=pytest.mark.slow)], ids=["dense", "sparse"])
def test_compiled_it_is_the_same(options: dict[str, Any]) -> None:
    net, inputs, lengths = build(**options), sequence(2, 2), torch.tensor([2, 1])
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    expected, found = net(inputs, lengths=lengths), compiled(inputs, lengths=lengths)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-12)
    same(found[1], expected[1])
    close(gradients(net, *found), gradients(net, *expected), 1e-12)


def test_the_function_is_the_module() -> None:
    net, inputs = build(read_heads=2), sequence(5, 2)
    outputs, state = net(inputs)
    parameters = {name: value.detach() for name, value in net.named_parameters()}
    found, last = dnc(inputs, net.initial_state(2), parameters, net.config)
    assert torch.equal(found, outputs)
    same(last, state, 0.0)


def test_equal_seeds_give_equal_nets() -> None:
    first, second, other = build(3, None), build(3, None), build(4, None)
    for name, value in first.named_parameters():
        assert torch.equal(value, second.get_parameter(name)), name
    assert not torch.equal(first.interface_weight, other.interface_weight)


def test_initial_parameters() -> None:
    net = DNC(3, 2, hidden_size=7, layers=2, slots=6, width=4, read_heads=2, kernel=False)
    shapes = {name: tuple(value.shape) for name, value in net.named_parameters()}
    interface = 2 * 4 + 2 + 4 + 1 + 4 + 4 + 2 + 1 + 1 + 2 * 3  # W R + 3 W + 5 R + 3
    assert shapes == {
        "input_weight": (56, 3),
        "input_bias": (56,),
        "recurrent_weight_0": (28, 15),
        "recurrent_weight_1": (28, 22),
        "interface_weight": (interface, 14),
        "interface_bias": (interface,),
        "output_weight": (2, 22),
        "output_bias": (2,),
    }
    assert net.input_bias.reshape(2, 4, 7)[:, 1].eq(1).all()  # the forget gates
    assert net.input_bias.sum() == 14
    assert 0.9 / 18**0.5 < net.get_parameter("recurrent_weight_0").abs().max() <= 1 / 18**0.5
    assert (net.initial_state(2).memory == 0).all()
    assert (DNC(3, 2, initial_memory="random", slots=6, width=4).initial_memory.abs() <= 10**-0.5).all()
    assert "initial_memory" in dict(DNC(3, 2, initial_memory="learned").named_parameters())


# Bad input


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"slots": 0}, "'slots' of DNC must be a whole number of at least 1. Got 0"),
        ({"width": 2.5}, "'width'"),
        ({"read_heads": True}, "'read_heads'"),
        ({"segments": 0}, "'segments'"),
        ({"controller": "gru"}, "Unknown 'controller' 'gru'.*Known: lstm, feedforward"),
        ({"links": "dens"}, "Did you mean 'dense'"),
        ({"initial_memory": "zeros"}, "Unknown 'initial_memory'"),
        ({"map": "sofmax"}, "Did you mean 'softmax'"),
        ({"allocation": "sort"}, "Unknown map 'sort'"),
        ({"links": "none", "sharpened": True}, "'sharpened' must be False"),
    ],
)
def test_bad_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        build(**options)


def test_bad_calls() -> None:
    net = build()
    with pytest.raises(InputError, match=r"'inputs' must be a tensor \(T, B, I\) with I = 3. Got \(4, 2, 5\)"):
        net(torch.zeros(4, 2, 5))
    with pytest.raises(InputError, match="batch axis of size 1"):
        net(torch.zeros(4, 3))
    inputs = sequence(4, 2)
    for lengths in (torch.tensor([1, 5]), torch.tensor([-1, 2]), torch.tensor([1]), torch.tensor([1.0, 2.0]), [1, 2]):
        with pytest.raises(InputError, match="'lengths' must be whole numbers from 0 to 4 of shape"):
            net(inputs, lengths=lengths)
    with pytest.raises(
        InputError,
        match=r"'memory' of the state must be torch.float64 of shape \(2, 5, 3\) on cpu. Got .* \(3, 5, 3\)",
    ):
        net(inputs, net.initial_state(3))
    with pytest.raises(InputError, match=r"'links' of the state must be Tensor. Got SparseLinks"):
        net(inputs, build(links="sparse").initial_state(2))
    with pytest.raises(InputError, match=r"'state' must be of class DNCState. Got tuple"):
        net(inputs, tuple(net.initial_state(2)))

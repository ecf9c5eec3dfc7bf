"""The machine is the slow reference, in every order and size; a batch is its sequences alone; nothing is hidden."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from softplace import maps
from softplace.errors import InputError
from softplace.memory._reference import reference_ntm
from softplace.memory.ntm import NTM, NTMConfig, NTMState, NTMTrace, ntm
from tests.study.test_fleet import needs_compiler

VARIANTS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "read first": {"order": "read-write"},
    "many heads": {"read_heads": 2, "write_heads": 3},
    "many heads, read first": {"read_heads": 3, "write_heads": 2, "order": "read-write"},
    "two layers": {"layers": 2},
    "feed-forward": {"controller": "feedforward"},
    "feed-forward, two layers, read first": {"controller": "feedforward", "layers": 2, "order": "read-write"},
    "no shifts": {"shift_range": 0},
    "more shifts than slots": {"shift_range": 6},
    "sparsemax": {"map": "sparsemax"},
    "entmax15, read first": {"map": "entmax15", "order": "read-write"},
    "a function": {"map": lambda scores, dim=-1: torch.softmax(2 * scores, dim)},
    "random memory": {"initial_memory": "random", "initial_weights": "random"},
    "learned memory": {"initial_memory": "learned", "initial_weights": "uniform"},
    "one slot": {"slots": 1, "write_heads": 2},
    "width one": {"width": 1},
    "one of all": {"slots": 1, "width": 1, "hidden_size": 1},
}
variants = pytest.mark.parametrize("options", VARIANTS.values(), ids=list(VARIANTS))
some = pytest.mark.parametrize(
    "options",
    [{}, {"order": "read-write", "read_heads": 2, "write_heads": 2, "layers": 2}, {"controller": "feedforward"}],
    ids=["as it comes", "read first, two layers", "feed-forward"],
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def drawn(**options: Any) -> NTM:
    """A small net in float64 whose parameters all matter."""
    sizes = {"hidden_size": 6, "slots": 5, "width": 4} | options
    net = NTM(3, 2, **sizes, kernel=False, dtype=torch.float64)
    for name, parameter in net.named_parameters():
        if name != "initial_memory":
            nn.init.normal_(parameter, std=0.7)
    return net


def random_inputs(steps: int = 9, batch: int = 3) -> Tensor:
    return torch.randn(steps, batch, 3, dtype=torch.float64)


def random_state(net: NTM, batch: int = 3) -> NTMState:
    state = net.initial_state(batch)
    return NTMState(*(torch.randn_like(each) for each in state))._replace(
        weights=torch.randn_like(state.weights).softmax(-1)
    )


def close(found: object, expected: object, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@variants
def test_values_and_gradients_are_those_of_the_reference(options: dict[str, Any]) -> None:
    net, inputs = drawn(**options), random_inputs(6, 2)
    for state in (net.initial_state(2), random_state(net, 2)):
        leaves = [*net.parameters(), *(each.requires_grad_() for each in state if each.is_leaf)]
        found = net(inputs, state)
        expected = reference_ntm(inputs, state, dict(net.named_parameters()), net.config)
        close(found[0], expected[0])
        close(tuple(found[1]), tuple(expected[1]))
        upstream = [torch.randn_like(each) for each in (expected[0], *expected[1])]
        gradients = [
            torch.autograd.grad(
                sum((u * v).sum() for u, v in zip(upstream, (outputs, *last), strict=True)),
                leaves,
                allow_unused=True,
                materialize_grads=True,
                retain_graph=True,
            )
            for outputs, last in (found, expected)
        ]
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@some
def test_gradients(options: dict[str, Any]) -> None:
    net, inputs = drawn(**options), random_inputs(9, 2)
    names = [name for name, _ in net.named_parameters() if not name.startswith("initial")]
    values = [net.get_parameter(name) for name in names]
    state = [each.requires_grad_() for each in random_state(net, 2)]

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        outputs, last = ntm(given[-1], NTMState(*given[:5]), dict(zip(names, given[5:-1], strict=True)), net.config)
        return outputs, *last

    assert torch.autograd.gradcheck(run, (*state, *values, inputs.requires_grad_()), fast_mode=True)


@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
def test_every_parameter_is_learned(controller: Any) -> None:
    net = drawn(controller=controller, initial_memory="learned")
    net(random_inputs())[0].sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name
    # What was read reaches the controller.
    assert net.recurrent_weight_0.grad[:, :4].abs().min() > 0  # type: ignore[union-attr]


@some
def test_unequal_lengths_are_each_sequence_alone(options: dict[str, Any]) -> None:
    net, inputs, lengths = drawn(**options), random_inputs(9, 4), torch.tensor([9, 0, 4, 1])
    start = random_state(net, 4)
    outputs, state = net(inputs, start, lengths)
    for index, length in enumerate(lengths.tolist()):
        own = slice(index, index + 1)
        alone, after = net(inputs[:length, own], part(start, own))
        close(outputs[:length, own], alone)
        assert outputs[length:, index].abs().sum() == 0
        close(tuple(part(state, own)), tuple(after))
    # Padded steps leave the state bit for bit, whatever is in them.
    assert all(torch.equal(one[1], other[1]) for one, other in zip(state[:3], start[:3], strict=True))
    padded = torch.where((torch.arange(9).unsqueeze(-1) < lengths).unsqueeze(-1), inputs, 1e6 * inputs)
    again = net(padded, start, lengths)
    assert torch.equal(again[0], outputs)
    assert all(torch.equal(one, other) for one, other in zip(again[1], state, strict=True))


def part(state: NTMState, batch: slice) -> NTMState:
    return NTMState(*(each[batch] for each in state[:3]), *(each[:, batch] for each in state[3:]))


@some
def test_a_sequence_can_be_cut(options: dict[str, Any]) -> None:
    net, inputs = drawn(**options), random_inputs()
    outputs, state = net(inputs)
    first, middle = net(inputs[:4])
    second, last = net(inputs[4:], middle)
    close(torch.cat([first, second]), outputs, 1e-14)
    close(tuple(last), tuple(state), 1e-14)
    assert middle.memory.requires_grad
    assert not any(each.requires_grad for each in middle.detach())


@some
def test_sequences_do_not_see_one_another(options: dict[str, Any]) -> None:
    net, inputs = drawn(**options), random_inputs().requires_grad_()
    outputs, _ = net(inputs)
    seen = torch.autograd.grad(outputs[:, 1].sum(), inputs)[0].abs().sum((0, 2))
    assert (seen > 0).tolist() == [False, True, False]


def reordered(net: NTM, heads: list[int]) -> dict[str, Tensor]:
    """The parameters of the same machine whose heads, reads among themselves and writes too, come in another order."""
    config, reads = net.config, net.config.read_heads
    rows, position = [], 0
    for count, size in config.columns().values():
        order = heads if count == config.heads else [head - reads for head in heads if head >= reads]
        rows += [position + head * size + column for head in order for column in range(size)]
        position += count * size
    columns = [head * config.width + column for head in heads if head < reads for column in range(config.width)]
    parameters = {name: value.detach().clone() for name, value in net.named_parameters()}
    for name in ("interface_weight", "interface_bias"):
        parameters[name] = parameters[name][rows]
    weight, units = parameters["recurrent_weight_0"], config.layers * config.hidden_size
    weight[:, : len(columns)] = weight[:, columns]
    parameters["output_weight"][:, units:] = parameters["output_weight"][:, [units + column for column in columns]]
    parameters["initial_weights"] = parameters["initial_weights"][heads]
    parameters["initial_reads"] = parameters["initial_reads"][[head for head in heads if head < reads]]
    return parameters


@pytest.mark.parametrize("order", ["write-read", "read-write"])
def test_the_order_of_the_heads_does_not_matter(order: Any) -> None:
    net, inputs = drawn(read_heads=2, write_heads=3, order=order), random_inputs()
    expected, state = net(inputs)
    found, other = functional_call(net, reordered(net, [1, 0, 4, 2, 3]), (inputs,))
    close(found, expected)
    close(other.weights[:, [1, 0, 3, 4, 2]], state.weights)
    close(other.memory, state.memory)


@pytest.mark.parametrize("order", ["write-read", "read-write"])
def test_what_is_read_is_of_after_or_before_the_write(order: Any) -> None:
    net, inputs = drawn(order=order), random_inputs()
    trace = net.trace(inputs)
    before = torch.cat([net.initial_state(3).memory.unsqueeze(0), trace.memory[:-1]])
    memory = trace.memory if order == "write-read" else before
    close(trace.reads, trace.weights[:, :, :1] @ memory, 1e-14)


@pytest.mark.parametrize("shift_range", [0, 1, 3])
@some
def test_a_trace_is_what_the_machine_does(options: dict[str, Any], shift_range: int) -> None:
    net, inputs, lengths = drawn(**options, shift_range=shift_range), random_inputs(), torch.tensor([9, 2, 0])
    outputs, state = net(inputs, lengths=lengths)
    trace = net.trace(inputs, lengths=lengths)
    assert torch.equal(trace.outputs, outputs)
    for name, whole in (("memory", state.memory), ("weights", state.weights), ("reads", state.reads)):
        assert torch.equal(getattr(trace, name)[8, 0], whole[0])
        assert torch.equal(getattr(trace, name)[1, 1], whole[1])
    for name, values in trace._asdict().items():
        assert values.shape[:2] == (9, 3), name
        assert values[2:, 1].abs().sum() == values[:, 2].abs().sum() == 0, name
    for name in ("content", "interpolated", "shifts", "shifted", "weights"):
        close(getattr(trace, name)[:, 0].sum(-1), torch.ones(9, net.config.heads, dtype=torch.float64), 1e-12)
    config, shapes = net.config, {name: tuple(each.shape[2:]) for name, each in trace._asdict().items()}
    heads = config.heads
    assert shapes == {
        "keys": (heads, 4), "strengths": (heads,), "similarity": (heads, 5), "content": (heads, 5), "gates": (heads,),
        "interpolated": (heads, 5), "shifts": (heads, config.shifts), "shifted": (heads, 5), "sharpness": (heads,),
        "weights": (heads, 5), "erase": (config.write_heads, 4), "add": (config.write_heads, 4), "memory": (5, 4),
        "reads": (config.read_heads, 4), "outputs": (2,),
    }  # fmt: skip
    nothing = net.trace(inputs[:0])
    assert {name: tuple(each.shape[2:]) for name, each in nothing._asdict().items()} == shapes
    assert {tuple(each.shape[:2]) for each in nothing} == {(0, 3)}
    assert all(each.shape[1] == 0 for each in net.trace(inputs[:, :0]))


def by_hand() -> NTM:
    """A machine that writes its input one slot further at each step: the write head begins at the last slot."""
    net = NTM(4, 4, hidden_size=4, slots=6, width=4, controller="feedforward", kernel=False, dtype=torch.float64)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.input_weight.copy_(torch.eye(4) * 1e-3)  # tanh is linear there
        columns, rows = net.config.columns(), {}
        position = 0
        for name, (heads, size) in columns.items():
            rows[name] = slice(position, position + heads * size)
            position += heads * size
        net.interface_bias[rows["gates"]] = -40.0
        net.interface_bias[rows["shifts"]] = torch.tensor([0.0, 0.0, 40.0] * 2, dtype=torch.float64)
        net.interface_bias[rows["erase"]] = 40.0
        net.interface_weight[rows["add"]] = torch.eye(4, dtype=torch.float64) * 1e3
        net.initial_weights[0, 2], net.initial_weights[1, 5] = 60.0, 60.0
        net.output_weight[:, 4:] = torch.eye(4)
    return net


def test_a_machine_made_by_hand_keeps_and_reads_a_list() -> None:
    net, inputs = by_hand(), torch.rand(7, 2, 4, dtype=torch.float64)
    trace = net.trace(inputs)
    assert trace.weights[:, 0, 1].argmax(-1).tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert trace.weights[:, 0, 0].argmax(-1).tolist() == [3, 4, 5, 0, 1, 2, 3]
    outputs, state = net(inputs)
    close(state.memory[:, :6], inputs[[6, 1, 2, 3, 4, 5]].transpose(0, 1), 1e-5)
    # Slots 0, 1, 2, 3 are read at steps 3 to 6, three steps after they were written.
    close(outputs[3:], inputs[:4], 1e-5)
    close(outputs[:3], torch.full((3, 2, 4), 1e-6, dtype=torch.float64), 1e-5)


def test_equal_slots_and_uniform_weights_stay_equal_for_ever() -> None:
    net = drawn(initial_weights="uniform", slots=7)
    nn.init.zeros_(net.initial_weights)
    _, state = net(random_inputs(60))
    close(state.memory, state.memory[:, :1].expand(-1, 7, -1), 1e-12)
    assert NTM(3, 2, slots=7).initial_weights.softmax(-1)[:, 0].min() > 0.99


@pytest.mark.parametrize("steps", [1, 2, 9])
@pytest.mark.parametrize("segments", [2, 3, 20])
def test_segments_change_nothing(segments: int, steps: int) -> None:
    net, inputs, lengths = drawn(), random_inputs(steps), torch.tensor([steps, 0, steps // 2])
    found = []
    for net.segments in (1, segments):
        outputs, state = net(inputs, lengths=lengths)
        loss = outputs.square().sum() + state.memory.square().sum()
        found.append((outputs, *state, *torch.autograd.grad(loss, list(net.parameters()), materialize_grads=True)))
    for one, other in zip(*found, strict=True):
        close(other, one, 1e-13)


def test_segments_keep_less() -> None:
    net, inputs = NTM(3, 2, slots=32, kernel=False), torch.randn(64, 1, 3)

    def kept() -> int:
        storages = {}

        def pack(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(inputs)
        return sum(storages.values())

    everything = kept()
    net.segments = 8
    assert kept() < everything / 5


def test_vmap_is_the_loop() -> None:
    nets = [drawn(read_heads=2), drawn(read_heads=2)]
    parameters, _ = stack_module_state(nets)  # type: ignore[arg-type]
    inputs, lengths = torch.stack([random_inputs(), random_inputs()]), torch.tensor([[9, 2, 5], [1, 9, 9]])

    def one(parameters: dict[str, Tensor], inputs: Tensor, lengths: Tensor) -> tuple[Tensor, NTMState]:
        found: tuple[Tensor, NTMState] = functional_call(nets[0], parameters, (inputs, None, lengths))
        return found

    def gradient(*given: Any) -> dict[str, Tensor]:
        return torch.func.grad(lambda *given: one(*given)[0].square().sum())(*given)  # type: ignore[no-any-return]

    outputs, state = torch.vmap(one)(parameters, inputs, lengths)
    gradients = torch.vmap(gradient)({n: p.detach() for n, p in parameters.items()}, inputs, lengths)
    for member, net in enumerate(nets):
        alone, after = net(inputs[member], lengths=lengths[member])
        close(outputs[member], alone)
        close(tuple(each[member] for each in state), tuple(after))
        alone.square().sum().backward()
        for name, parameter in net.named_parameters():
            close(gradients[name][member], parameter.grad, 1e-8)


@pytest.mark.parametrize("map", ["sparsemax", "entmax15", "hardmax", "relu_normalised", "uniform"])
def test_vmap_goes_through_other_maps(map: str) -> None:  # noqa: A002
    nets = [drawn(map=map), drawn(map=map)]
    parameters, _ = stack_module_state(nets)  # type: ignore[arg-type]
    inputs = random_inputs(4)
    outputs = torch.vmap(lambda each: functional_call(nets[0], each, (inputs,))[0])(parameters)
    close(outputs, torch.stack([net(inputs)[0] for net in nets]))


def check_compiled(backend: str) -> None:
    net, inputs = drawn(), random_inputs(2)
    outputs, state = torch.compile(net, fullgraph=True, backend=backend)(inputs)
    expected, after = net(inputs)
    close(outputs, expected)
    close(tuple(state), tuple(after))
    parameters = list(net.parameters())
    found = torch.autograd.grad(outputs.square().sum(), parameters, materialize_grads=True)
    close(found, torch.autograd.grad(expected.square().sum(), parameters, materialize_grads=True))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_compiled_without_code_is_the_same() -> None:
    check_compiled("aot_eager")


@pytest.mark.slow
@needs_compiler
def test_compiled_is_the_same() -> None:
    check_compiled("inductor")


@pytest.mark.parametrize("strength", [-30.0, 1e4])
@pytest.mark.parametrize("sharpness", [-30.0, 100.0])
@pytest.mark.parametrize("slots", [1, 128])
def test_extremes_keep_weights_on_the_simplex_and_gradients_finite(
    strength: float, sharpness: float, slots: int
) -> None:
    net = NTM(3, 2, slots=slots, read_heads=2, kernel=False)
    position = 0
    with torch.no_grad():
        for name, (heads, size) in net.config.columns().items():
            if name in ("strengths", "sharpness"):
                net.interface_bias[position : position + heads] = strength if name == "strengths" else sharpness
            position += heads * size
    outputs, state = net(torch.randn(50, 2, 3))
    sums = state.weights.sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=2e-6)
    assert bool((state.weights >= 0).all())
    outputs.square().sum().backward()
    assert all(bool(each.grad.isfinite().all()) for each in net.parameters() if each.grad is not None)


@pytest.mark.slow
def test_weights_stay_on_the_simplex_for_ten_thousand_steps() -> None:
    net = NTM(3, 2, slots=16, width=4, hidden_size=10, read_heads=2, kernel=False)
    with torch.no_grad():
        _, state = net(torch.randn(10_000, 2, 3))
    torch.testing.assert_close(state.weights.sum(-1), torch.ones(2, 3), rtol=0, atol=2e-6)
    assert all(bool(each.isfinite().all()) for each in state)


@some
def test_no_steps_and_no_sequences(options: dict[str, Any]) -> None:
    net, inputs = drawn(**options), random_inputs()
    start = random_state(net)
    outputs, state = net(inputs[:0], start)
    assert outputs.shape == (0, 3, 2)
    assert all(torch.equal(one, other) for one, other in zip(state, start, strict=True))
    outputs, state = net(inputs[:, :0], lengths=torch.zeros(0, dtype=torch.long))
    assert outputs.shape == (9, 0, 2)
    assert [each.shape for each in state] == [each.shape for each in net.initial_state(0)]
    (outputs.sum() + sum(each.sum() for each in state)).backward()


def test_batch_first() -> None:
    net, turned, inputs, lengths = drawn(), drawn(batch_first=True), random_inputs(), torch.tensor([9, 2, 4])
    turned.load_state_dict(net.state_dict())
    (one, state), (other, after) = net(inputs, lengths=lengths), turned(inputs.transpose(0, 1), lengths=lengths)
    assert torch.equal(other, one.transpose(0, 1))
    assert torch.equal(after.memory, state.memory)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes_are_kept(dtype: torch.dtype) -> None:
    net = NTM(3, 2, dtype=dtype, kernel=False)
    outputs, state = net(torch.zeros(4, 2, 3, dtype=dtype), lengths=torch.tensor([4, 2]))
    assert {outputs.dtype, *(each.dtype for each in state)} == {dtype}
    sums = state.weights.double().sum(-1)
    close(sums, torch.ones_like(sums), 1e-12 if dtype == torch.float64 else 0.02)
    outputs.sum().backward()
    assert {each.grad.dtype for each in net.parameters() if each.grad is not None} == {dtype}


def test_first_numbers() -> None:
    net = NTM(3, 2, hidden_size=50, slots=30, width=10, read_heads=2, layers=2)
    assert net.initial_memory.unique().tolist() == pytest.approx([1e-6])
    assert torch.equal(net.initial_weights, torch.tensor([10.0] + [0.0] * 29).expand(3, -1))
    bias = net.input_bias.reshape(2, 4, 50)
    assert bool((bias[:, 1] == 1).all())
    assert bias.abs().sum() == 100
    for name in ("interface_bias", "output_bias", "initial_reads", "initial_hidden", "initial_cell"):
        assert net.get_parameter(name).abs().sum() == 0
    fan_ins = {"recurrent_weight_0": 73, "recurrent_weight_1": 123, "interface_weight": 100, "output_weight": 120}
    for name, fan_in in fan_ins.items():
        assert 0.97 * fan_in**-0.5 < float(net.get_parameter(name).detach().abs().amax()) <= fan_in**-0.5, name
    random = NTM(3, 2, slots=30, width=10, initial_memory="random", initial_weights="random")
    assert "initial_memory" in dict(random.named_buffers())
    assert 0.97 * 40**-0.5 < float(random.initial_memory.abs().amax()) <= 40**-0.5
    assert 0.7 < float(random.initial_weights.detach().std()) < 1.3
    learned = NTM(3, 2, initial_memory="learned", controller="feedforward")
    assert "initial_memory" in dict(learned.named_parameters())
    assert "initial_hidden" not in dict(learned.named_parameters())


def test_the_state_dict_brings_the_machine_back() -> None:
    for memory in ("constant", "learned", "random"):
        net, other = (drawn(initial_memory=memory) for _ in range(2))
        other.load_state_dict(net.state_dict())
        inputs = random_inputs()
        assert torch.equal(net(inputs)[0], other(inputs)[0])


def test_a_map_that_learns_is_learned() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, scores: Tensor, dim: int = -1) -> Tensor:
            return torch.softmax(self.scale * scores, dim)

    net = drawn(map=Scaled())
    net(random_inputs())[0].sum().backward()
    gradient = net.get_parameter("map.scale").grad
    assert gradient is not None
    assert float(gradient.abs()) > 0


def test_trace_has_what_the_figures_read() -> None:
    assert {"weights", "gates", "erase", "memory", "outputs"} <= set(NTMTrace._fields)
    assert "slots=128" in repr(NTM(3, 2))


BAD_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"slots": 0}, r"'slots' of NTM must be a whole number of at least 1\. Got 0\. Use e\.g\. slots=1\."),
    ({"width": 2.0}, r"'width' of NTM .* Got 2\.0\."),
    ({"read_heads": True}, r"'read_heads' of NTM .* Got True\."),
    ({"shift_range": -1}, r"'shift_range' of NTM must be a whole number of at least 0\. Got -1\."),
    ({"segments": 0}, r"'segments' of NTM .* Got 0\."),
    ({"controller": "lstn"}, r"Unknown 'controller' 'lstn' of NTM\. Did you mean 'lstm'\? Known: lstm, feedforward\."),
    ({"order": "read"}, r"Unknown 'order' 'read' of NTM\. .*Known: write-read, read-write\."),
    ({"initial_memory": 0}, r"Unknown 'initial_memory' 0 of NTM\."),
    ({"initial_weights": "first"}, r"Unknown 'initial_weights' 'first' of NTM\."),
    ({"map": "sofmax"}, r"Unknown map 'sofmax'\. Did you mean 'softmax'\?"),
    ({"map": 3}, r"'map' must be a name or a callable\. Got int\."),
]


@pytest.mark.parametrize(("options", "message"), BAD_ARGUMENTS)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NTM(3, 2, **options)


def changed(state: NTMState, **fields: Tensor) -> NTMState:
    return state._replace(**fields)


BAD_CALLS: list[tuple[Callable[[NTM, NTMState], object], str]] = [
    (lambda net, _: net(torch.zeros(4, 2, 5)), r"'inputs' must be a tensor \(T, B, I\) with I = 3\. Got \(4, 2, 5\)\."),
    (lambda net, _: net(torch.zeros(4, 3)), r"'inputs' must be .* Got \(4, 3\)\. A single sequence needs a batch axis"),
    (lambda net, _: net([1.0]), r"'inputs' must be .* Got list\."),
    (lambda net, _: net(torch.zeros(4, 2, 3).long()), r"'inputs' must be torch\.float32 on cpu, .* Got torch\.int64"),
    (lambda net, _: net(torch.zeros(4, 2, 3).double()), r"'inputs' must be torch\.float32 .* Got torch\.float64"),
    (
        lambda net, _: net(torch.zeros(4, 2, 3), lengths=torch.tensor([5, 1])),
        r"'lengths' must be whole numbers from 0 to 4 of shape \(2,\)\. Got \[5, 1\]\. Pad the inputs",
    ),
    (lambda net, _: net(torch.zeros(4, 2, 3), lengths=torch.tensor([-1, 1])), r"Got \[-1, 1\]\."),
    (lambda net, _: net(torch.zeros(4, 2, 3), lengths=torch.tensor([1])), r"'lengths' .* of shape \(1,\)\."),
    (lambda net, _: net(torch.zeros(4, 2, 3), lengths=torch.ones(2)), r"'lengths' .* Got torch\.float32"),
    (lambda net, _: net(torch.zeros(4, 2, 3), lengths=torch.ones(2) > 0), r"'lengths' .* Got torch\.bool"),
    (lambda net, _: net(torch.zeros(4, 2, 3), lengths=[4, 4]), r"'lengths' .* Got \[4, 4\]\. Use torch\.tensor"),
    (lambda net, state: net(torch.zeros(4, 2, 3), tuple(state)), r"'state' must be of class NTMState\. Got tuple\."),
    (
        lambda net, state: net(torch.zeros(4, 2, 3), changed(state, memory=torch.zeros(2, 9, 20))),
        r"'memory' of the state must be .* shape \(2, 128, 20\) .* Got .* shape \(2, 9, 20\)",
    ),
    (lambda net, state: net(torch.zeros(4, 3, 3), state), r"'memory' of the state must be .* shape \(3, 128, 20\)"),
    (
        lambda net, state: net(torch.zeros(4, 2, 3), changed(state, cell=state.cell.double())),
        r"'cell' of the state must be torch\.float32 .* Got torch\.float64",
    ),
    (
        lambda net, state: net.trace(torch.zeros(4, 2, 3), changed(state, reads=None)),  # type: ignore[arg-type]
        r"'reads' of the state must be a tensor\. Got NoneType\.",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD_CALLS)
def test_bad_calls(call: Callable[[NTM, NTMState], object], message: str) -> None:
    net = NTM(3, 2)
    with pytest.raises(InputError, match=message):
        call(net, net.initial_state(2))


def test_config_knows_its_sizes() -> None:
    config = NTMConfig(width=20, read_heads=2, write_heads=1, shift_range=1)
    assert (config.heads, config.shifts, config.interface_size) == (3, 3, 3 * (20 + 1 + 1 + 3 + 1) + 40)
    assert NTMConfig(map=maps.sparsemax).map is maps.sparsemax
    assert math.isclose(NTM(3, 2).interface_weight.shape[0], NTMConfig().interface_size)

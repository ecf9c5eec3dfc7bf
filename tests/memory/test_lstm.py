"""The LSTM baseline is PyTorch's LSTM where that can be it, and a batch is its sequences alone."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from softplace.errors import InputError
from softplace.memory.lstm import LSTMBaseline, LSTMState, lstm


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def drawn(layers: int = 2, **options: bool) -> LSTMBaseline:
    """A small net in float64 whose parameters all matter."""
    net = LSTMBaseline(3, 2, hidden_size=5, layers=layers, dtype=torch.float64, **options)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.7)
    return net


def random_inputs(steps: int = 8, batch: int = 3) -> Tensor:
    return torch.randn(steps, batch, 3, dtype=torch.float64)


def test_one_layer_is_that_of_pytorch() -> None:
    net, peer = drawn(1), nn.LSTM(3, 5, dtype=torch.float64)
    with torch.no_grad():
        peer.weight_ih_l0.copy_(net.input_weight)
        peer.weight_hh_l0.copy_(net.recurrent_weight_0)
        peer.bias_ih_l0.copy_(net.input_bias)
        peer.bias_hh_l0.zero_()
    inputs = random_inputs()
    start = net.initial_state(3)
    hidden, (last, cell) = peer(inputs, (start.hidden.contiguous(), start.cell.contiguous()))
    outputs, state = net(inputs)
    torch.testing.assert_close(outputs, nn.functional.linear(hidden, net.output_weight, net.output_bias))
    torch.testing.assert_close(state, LSTMState(last, cell))


def test_layers_are_the_equations() -> None:
    net, inputs = drawn(3), random_inputs()
    hidden, cell = [net.initial_hidden[layer] for layer in range(3)], [net.initial_cell[layer] for layer in range(3)]
    expected = []
    for step_input in inputs[:, 1]:
        for layer in range(3):
            seen = [hidden[layer]] + ([hidden[layer - 1]] if layer else [])
            rows = slice(20 * layer, 20 * layer + 20)
            gates = net.input_weight[rows] @ step_input + net.input_bias[rows]
            gates = gates + net.get_parameter(f"recurrent_weight_{layer}") @ torch.cat(seen)
            entrance, forget, candidate, leave = gates.chunk(4)
            cell[layer] = forget.sigmoid() * cell[layer] + entrance.sigmoid() * candidate.tanh()
            hidden[layer] = leave.sigmoid() * cell[layer].tanh()
        expected.append(net.output_weight @ torch.cat(hidden) + net.output_bias)
    outputs, state = net(inputs)
    torch.testing.assert_close(outputs[:, 1], torch.stack(expected))
    torch.testing.assert_close(state.hidden[:, 1], torch.stack(hidden))
    torch.testing.assert_close(state.cell[:, 1], torch.stack(cell))


def test_unequal_lengths_are_each_sequence_alone() -> None:
    net, inputs, lengths = drawn(), random_inputs(8, 4), torch.tensor([8, 0, 3, 1])
    padded = torch.where((torch.arange(8).unsqueeze(-1) < lengths).unsqueeze(-1), inputs, torch.nan)
    outputs, state = net(inputs, lengths=lengths)
    for index, length in enumerate(lengths.tolist()):
        alone, after = net(inputs[:length, index : index + 1])
        torch.testing.assert_close(outputs[:length, index : index + 1], alone)
        assert outputs[length:, index].abs().sum() == 0
        torch.testing.assert_close(state.hidden[:, index : index + 1], after.hidden)
        torch.testing.assert_close(state.cell[:, index : index + 1], after.cell)
    assert torch.equal(net(padded, lengths=lengths)[0], outputs)


def test_a_sequence_can_be_cut() -> None:
    net, inputs = drawn(), random_inputs()
    outputs, state = net(inputs)
    first, middle = net(inputs[:3])
    second, last = net(inputs[3:], middle)
    torch.testing.assert_close(torch.cat([first, second]), outputs)
    torch.testing.assert_close(last, state)
    assert middle.hidden.requires_grad
    assert not any(each.requires_grad for each in middle.detach())


def test_batch_first_and_empty() -> None:
    net, turned, inputs = drawn(), drawn(batch_first=True), random_inputs()
    turned.load_state_dict(net.state_dict())
    torch.testing.assert_close(turned(inputs.transpose(0, 1))[0], net(inputs)[0].transpose(0, 1))
    outputs, state = net(inputs[:0])
    assert outputs.shape == (0, 3, 2)
    assert torch.equal(state.hidden, net.initial_state(3).hidden)
    outputs, state = net(inputs[:, :0])
    assert outputs.shape == (8, 0, 2)
    assert state.cell.shape == (2, 0, 5)


def test_gradients() -> None:
    net, inputs = drawn(), random_inputs(8, 2)
    names = [name for name, _ in net.named_parameters() if not name.startswith("initial")]
    values = [net.get_parameter(name) for name in names]
    state = LSTMState(*(each.detach().clone().requires_grad_() for each in net.initial_state(2)))

    def run(hidden: Tensor, cell: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        outputs, last = lstm(inputs, LSTMState(hidden, cell), dict(zip(names, values, strict=True)))
        return outputs, *last

    assert torch.autograd.gradcheck(run, (*state, *values), fast_mode=True)
    net(inputs)[0].sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())


def test_vmap_is_the_loop() -> None:
    nets = [drawn(), drawn()]
    parameters, _ = stack_module_state(nets)  # type: ignore[arg-type]
    inputs, lengths = torch.stack([random_inputs(), random_inputs()]), torch.tensor([[8, 2, 5], [1, 8, 8]])

    def one(parameters: dict[str, Tensor], inputs: Tensor, lengths: Tensor) -> Tensor:
        outputs: Tensor = functional_call(nets[0], parameters, (inputs, None, lengths))[0]
        return outputs

    stacked = torch.vmap(one)(parameters, inputs, lengths)
    for member, net in enumerate(nets):
        torch.testing.assert_close(stacked[member], net(inputs[member], lengths=lengths[member])[0])


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_compiled_is_the_same() -> None:
    net, inputs = drawn(), random_inputs(3)
    outputs, state = torch.compile(net, backend="aot_eager", fullgraph=True)(inputs)
    torch.testing.assert_close(outputs, net(inputs)[0])
    torch.testing.assert_close(tuple(state), tuple(net(inputs)[1]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes_are_kept(dtype: torch.dtype) -> None:
    net = LSTMBaseline(3, 2, dtype=dtype)
    outputs, state = net(torch.zeros(4, 1, 3, dtype=dtype))
    assert {outputs.dtype, state.hidden.dtype, state.cell.dtype} == {dtype}


def test_first_numbers() -> None:
    net = LSTMBaseline(3, 2, hidden_size=50, layers=2)
    bias = net.input_bias.reshape(2, 4, 50)
    assert bool((bias[:, 1] == 1).all())
    assert bias.abs().sum() == 100
    assert net.initial_hidden.abs().sum() == net.initial_cell.abs().sum() == net.output_bias.abs().sum() == 0
    for layer, fan_in in enumerate((53, 103)):
        for weight in (
            net.input_weight[200 * layer : 200 * layer + 200],
            net.get_parameter(f"recurrent_weight_{layer}"),
        ):
            assert 0.97 * fan_in**-0.5 < float(weight.detach().abs().amax()) <= fan_in**-0.5


def test_bad_inputs() -> None:
    net, inputs = LSTMBaseline(3, 2, hidden_size=5), torch.zeros(4, 2, 3)
    with pytest.raises(InputError, match=r"'layers' of LSTMBaseline must be a whole number of at least 1\. Got 0\."):
        LSTMBaseline(3, 2, layers=0)
    with pytest.raises(InputError, match=r"'inputs' must be a tensor \(T, B, I\) with I = 3\. Got \(4, 2, 5\)\."):
        net(torch.zeros(4, 2, 5))
    with pytest.raises(
        InputError, match=r"'lengths' must be whole numbers from 0 to 4 of shape \(2,\)\. Got \[5, 1\]\."
    ):
        net(inputs, lengths=torch.tensor([5, 1]))
    with pytest.raises(InputError, match=r"'state' must be of class LSTMState\. Got tuple\."):
        net(inputs, (torch.zeros(1, 2, 5), torch.zeros(1, 2, 5)))
    with pytest.raises(
        InputError, match=r"'cell' of the state must be .* shape \(1, 2, 5\) .* Got .* shape \(1, 1, 5\)"
    ):
        net(inputs, LSTMState(torch.zeros(1, 2, 5), torch.zeros(1, 1, 5)))

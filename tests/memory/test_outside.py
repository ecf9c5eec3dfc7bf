"""Our machines against programs of others by copied weights, where those follow the papers.

The programs are not part of this repository. SOFTPLACE_PEERS names a folder of their clones, as for
`python -m benchmarks memory`, which says how to get them; without it these tests are skipped.

RobertCsordas/dnc, `Models/DNC.py`: equal to ours, outputs and gradients, with every combination of its three repairs,
once its one constant 1e-6 (in the cosine, the usage and the sharpening) and ours are made to vanish. Where it differs
from Graves et al. 2016:
- The write weights are detached in the update of the usage. We do so with `detach_usage=True`.
- The norms of the cosine are multiplied and get 1e-6 added, outside of the root; an empty slot then has a gradient of
  the order 1e6.
- The usage is squeezed into [1e-6, 1] before it is sorted, so an empty memory does not get the whole allocation.
- Outputs of the controller for the interface are clipped to +-20 (off here).

loudinthecloud/pytorch-ntm: equal to ours, outputs and gradients, where its sharpening holds and all starts from its
weightings. Where it differs from Graves et al. 2014:
- Sharpening divides by sum + 1e-16, so weights vanish at a large exponent: see the test.
- The first weightings are zeros, not on the simplex; the initial memory and reads are fixed and random, not learned.
- Heads read before the write of the same step. We do so with `order="read-write"`.
- The shift is a cross-correlation: its first weight moves the head up by one slot, that of equation 8 moves it down.

ixaxaar/pytorch-dnc: not compared, since it is another network than Graves et al. 2016 describe:
- The reads of a step are not an input of the next: see the test. For layers above the first they are those below.
- The hidden state and the cell start from random numbers, the same for both, that every forward pass draws anew.
- Strengths are softplus (paper: 1 + softplus), keys and write vectors pass through tanh (paper: as they are).
- Only the last layer of the controller reaches interface and output, and the layers do not see the inputs again.
- `batch_first=True` takes (B, T, I) and gives (T, B, O).

Axes: T time, B batch, I inputs, O outputs, N slots, M width.
"""

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from benchmarks.memory_peers import package
from torch import Tensor, nn

from softplace.memory import addressing, links
from softplace.memory.dnc import DNC
from softplace.memory.ntm import NTM, NTMState

STEPS, BATCH, INPUTS, OUTPUTS = 9, 3, 4, 5
SLOTS, WIDTH = 7, 6
VANISHING = 1e-14

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("SOFTPLACE_PEERS"), reason="SOFTPLACE_PEERS names no folder of clones of other programs"
    ),
    # What PyTorch has renamed since they were written.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"),
]


def outside(folder: str, module: str) -> ModuleType:
    """A module of a clone."""
    path = Path(os.environ["SOFTPLACE_PEERS"]) / folder
    if not path.is_dir():
        pytest.skip(f"SOFTPLACE_PEERS holds no clone of {Path(folder).parts[0]}")
    return package(path, module)


@pytest.fixture(autouse=True)
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Float64 for what they allocate, and constants that vanish in it."""
    torch.manual_seed(0)
    monkeypatch.setattr(addressing, "EPSILON", VANISHING)
    monkeypatch.setattr(links, "OFFSET", VANISHING)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def enlarge(network: nn.Module) -> None:
    """Weights at which heads do more than average, and biases that are not zero."""
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(0.7 * torch.randn_like(weights))


def gates_of(theirs: Tensor, *order: int) -> Tensor:
    """Rows of a stack of four gates, reordered."""
    return torch.cat([theirs.chunk(4)[each] for each in order])


def equal(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = 1e-8) -> None:
    """Each relative to its largest entry."""
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert theirs[name].abs().max() > 0, name
        torch.testing.assert_close(
            value,
            theirs[name],
            rtol=0,
            atol=tolerance * float(theirs[name].abs().max()),
            msg=lambda said, n=name: f"{n}: {said}",
        )


def dnc_interface(theirs: Tensor, reads: int, *, masked: bool, sharpened: bool) -> Tensor:
    """Rows of Csordas' interface in our order; from [write head | read heads | sharpness]."""
    write = ([WIDTH] if masked else []) + [WIDTH] * 3 + [reads, 1, 1, 1]
    read = ([reads * WIDTH] if masked else []) + [reads * WIDTH, reads, 3 * reads]
    parts = list(theirs.split(write + read + ([reads, reads] if sharpened else [])))
    write_mask = parts.pop(0) if masked else None
    write_key, erase, write_vector, free, write_strength, allocation_gate, write_gate = parts[:7]
    parts = parts[7:]
    read_mask = parts.pop(0) if masked else None
    read_keys, read_strengths, modes = parts[:3]
    order = [read_keys, read_strengths, write_key, write_strength, erase, write_vector, free]
    order += [allocation_gate, write_gate, modes]
    if read_mask is not None and write_mask is not None:
        order += [read_mask, write_mask]
    return torch.cat(order + parts[3:])


def dnc_weights(network: Any, reads: int, *, of_gradients: bool, masked: bool, sharpened: bool) -> dict[str, Tensor]:
    """Csordas' weights, or their gradients, under our names and in our order."""

    def take(parameter: Tensor) -> Tensor:
        value = parameter.grad if of_gradients else parameter
        assert value is not None
        return value.detach()

    controller, order = network.controller, (1, 0, 3, 2)  # theirs: forget, input, output, cell
    found: dict[str, Tensor] = {}
    from_inputs, biases = [], []
    for layer, into in enumerate(controller.in_to_all):
        weight = gates_of(take(into.weight), *order)
        from_inputs.append(weight[:, :INPUTS])
        biases.append(gates_of(take(into.bias), *order))
        columns = [weight[:, INPUTS:], gates_of(take(controller.out_to_all[layer].weight), *order)]
        if layer:
            columns.append(gates_of(take(controller.prev_to_all[layer - 1].weight), *order))
        found[f"recurrent_weight_{layer}"] = torch.cat(columns, 1)
    found["input_weight"], found["input_bias"] = torch.cat(from_inputs), torch.cat(biases)
    interface = network.controller_to_controls
    options = {"masked": masked, "sharpened": sharpened}
    found["interface_weight"] = dnc_interface(take(interface.weight), reads, **options)
    found["interface_bias"] = dnc_interface(take(interface.bias), reads, **options)
    found["output_weight"] = torch.cat([take(network.controller_to_out.weight), take(network.read_to_out.weight)], 1)
    # Both of their biases are added to the outputs; each has the gradient of ours.
    both = take(network.controller_to_out.bias), take(network.read_to_out.bias)
    found["output_bias"] = both[0] if of_gradients else both[0] + both[1]
    return found


@pytest.mark.parametrize(("masked", "deallocate", "sharpened"), list(product((False, True), repeat=3)))
@pytest.mark.parametrize(("layers", "reads"), [(1, 1), (2, 3)])
def test_dnc_is_that_of_csordas(
    layers: int, reads: int, masked: bool, deallocate: bool, sharpened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = outside("dnc/Models", "DNC")
    monkeypatch.setattr(module, "_EPS", VANISHING)
    theirs = module.DNC(
        INPUTS,
        OUTPUTS,
        WIDTH,
        SLOTS,
        reads,
        module.LSTMController([8] * layers),
        clip_controller=None,
        mask=masked,
        mask_min=0.1,
        dealloc_content=deallocate,
        link_sharpness_control=sharpened,
    )
    enlarge(theirs)
    ours = DNC(
        INPUTS,
        OUTPUTS,
        hidden_size=8,
        layers=layers,
        slots=SLOTS,
        width=WIDTH,
        read_heads=reads,
        masked=masked,
        deallocate=deallocate,
        sharpened=sharpened,
        detach_usage=True,
        kernel=False,
    )
    options = {"masked": masked, "sharpened": sharpened}
    missing = ours.load_state_dict(dnc_weights(theirs, reads, of_gradients=False, **options), strict=False)
    assert set(missing.missing_keys) <= {"initial_memory"}
    assert not missing.unexpected_keys

    inputs, upstream = torch.randn(STEPS, BATCH, INPUTS), torch.randn(STEPS, BATCH, OUTPUTS)
    expected, (found, _) = theirs(inputs), ours(inputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    expected.backward(upstream)
    found.backward(upstream)
    gradients = {name: each.grad for name, each in ours.named_parameters() if each.grad is not None}
    equal(gradients, dnc_weights(theirs, reads, of_gradients=True, **options))


def ntm_interface(read: Tensor, write: Tensor) -> Tensor:
    """Rows of the interface of a read and a write head in our order, shifts from down to up."""
    common = [WIDTH, 1, 1, 3, 1]
    heads = read.split(common), write.split([*common, WIDTH, WIDTH])
    stages = [list(stage) for stage in zip(heads[0], heads[1][:5], strict=True)]
    stages[3] = [each.flip(0) for each in stages[3]]
    return torch.cat([row for stage in stages for row in stage] + list(heads[1][5:]))


def ntm_weights(network: Any, *, of_gradients: bool) -> dict[str, Tensor]:
    """pytorch-ntm's weights, or their gradients, under our names and in our order."""

    def take(parameter: Tensor) -> Tensor:
        value = parameter.grad if of_gradients else parameter
        assert value is not None
        return value.detach()

    lstm, (reader, writer) = network.controller.lstm, network.heads
    into = take(lstm.weight_ih_l0)
    return {
        "input_weight": into[:, :INPUTS],
        "input_bias": take(lstm.bias_ih_l0) if of_gradients else take(lstm.bias_ih_l0) + take(lstm.bias_hh_l0),
        "recurrent_weight_0": torch.cat([into[:, INPUTS:], take(lstm.weight_hh_l0)], 1),
        "interface_weight": ntm_interface(take(reader.fc_read.weight), take(writer.fc_write.weight)),
        "interface_bias": ntm_interface(take(reader.fc_read.bias), take(writer.fc_write.bias)),
        "output_weight": take(network.fc.weight),
        "output_bias": take(network.fc.bias),
        "initial_hidden": take(network.controller.lstm_h_bias)[:, 0],
        "initial_cell": take(network.controller.lstm_c_bias)[:, 0],
    }


def test_ntm_is_pytorch_ntm() -> None:
    wrapped = outside("pytorch-ntm/ntm", "aio").EncapsulatedNTM(INPUTS, OUTPUTS, 8, 1, 1, SLOTS, WIDTH)
    theirs = wrapped.ntm
    enlarge(theirs)
    ours = NTM(
        INPUTS, OUTPUTS, hidden_size=8, slots=SLOTS, width=WIDTH, order="read-write", kernel=False
    )  # fmt: skip
    missing = ours.load_state_dict(ntm_weights(theirs, of_gradients=False), strict=False)
    assert set(missing.missing_keys) == {"initial_memory", "initial_weights", "initial_reads"}
    assert not missing.unexpected_keys

    inputs, upstream = torch.randn(STEPS, BATCH, INPUTS), torch.randn(STEPS, BATCH, OUTPUTS)
    start = ours.initial_state(BATCH)
    state = NTMState(
        memory=theirs.memory.mem_bias.expand(BATCH, -1, -1).clone(),
        weights=torch.zeros(BATCH, 2, SLOTS),
        reads=theirs.read0_bias.expand(BATCH, -1).unsqueeze(1).clone(),
        hidden=start.hidden,
        cell=start.cell,
    )
    wrapped.init_sequence(BATCH)
    expected = torch.stack([wrapped(step)[0] for step in inputs])
    found = ours(inputs, state)[0].sigmoid()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    expected.backward(upstream)
    found.backward(upstream)
    gradients = {name: each.grad for name, each in ours.named_parameters() if each.grad is not None}
    equal(gradients, ntm_weights(theirs, of_gradients=True))


@pytest.mark.parametrize("slots", [1, 2, 3, 32])
def test_addressing_is_that_of_pytorch_ntm(slots: int) -> None:
    memory = outside("pytorch-ntm/ntm", "memory").NTMMemory(slots, WIDTH)
    memory.reset(BATCH)
    memory.memory = torch.randn(BATCH, slots, WIDTH)
    keys, previous = torch.randn(BATCH, 1, WIDTH), torch.rand(BATCH, 1, slots).softmax(-1)
    strengths, gates, sharpness = 5 * torch.rand(BATCH, 1), torch.rand(BATCH, 1), 1 + torch.rand(BATCH, 1)
    shifts = torch.randn(BATCH, 1, 3).softmax(-1)
    stages = addressing.address(memory.memory, previous, keys, strengths, gates, shifts, sharpness)
    expected = memory.address(keys[:, 0], strengths, gates, shifts[:, 0].flip(-1), sharpness, previous[:, 0])
    torch.testing.assert_close(stages.weights[:, 0], expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        stages.content.weights[:, 0], memory._similarity(keys[:, 0], strengths), rtol=0, atol=1e-10
    )


def test_sharpening_of_pytorch_ntm_leaves_the_simplex_and_ours_does_not() -> None:
    memory = outside("pytorch-ntm/ntm", "memory").NTMMemory(128, WIDTH)
    weights, sharpness = torch.full((1, 1, 128), 1 / 128), torch.tensor([[12.0]])
    assert memory._sharpen(weights[0], sharpness).sum() < 1e-6
    torch.testing.assert_close(addressing.sharpen(weights, sharpness), weights)


def test_reads_of_pytorch_dnc_do_not_reach_its_controller_and_ours_do() -> None:
    torch.set_default_dtype(torch.float32)  # it casts its states to it
    theirs = outside("pytorch-dnc/dnc", "dnc").DNC(
        INPUTS, 8, num_hidden_layers=1, nr_cells=SLOTS, cell_size=WIDTH, read_heads=1
    )
    inputs = torch.randn(BATCH, STEPS, INPUTS)
    theirs(inputs, (None, None, None), reset_experience=True)[0].square().sum().backward()
    assert theirs.rnns[0].weight_ih_l0.grad[:, :INPUTS].abs().max() > 0
    assert theirs.rnns[0].weight_ih_l0.grad[:, INPUTS:].abs().max() == 0

    ours = DNC(INPUTS, INPUTS, hidden_size=8, slots=SLOTS, width=WIDTH, kernel=False)
    ours(inputs.transpose(0, 1))[0].square().sum().backward()
    gradient = ours.get_parameter("recurrent_weight_0").grad
    assert gradient is not None
    assert gradient[:, :WIDTH].abs().max() > 0

"""Controllers of a memory as free functions, and what all recurrent nets of this package check of a sequence.

Axis legend: T time, B batch, I inputs, H hidden units, L layers, G gate rows of a layer (4 H for an LSTM, H for a
feed-forward layer), R read heads, M width.

The inputs' part of the gates is one matrix product for the whole sequence, outside of the time loop; what a step adds
is the product with what the step before left.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from softplace.errors import InputError, nearest
from softplace.maps._arguments import can_look

CONTROLLERS = ("lstm", "feedforward")
Layers = tuple[Tensor, ...]
"""One tensor (B, H) for each layer."""


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden units and cell of an LSTM: `c' = f c + i tanh(g)`, `h = o tanh(c')`; without peepholes.

    Args:
        gates: (..., 4 H) before squashing: input, forget, candidate, output.
        cell: (..., H).

    Source: Hochreiter and Schmidhuber 1997; Gers et al. 2000 for the forget gate.
    """
    entrance, forget, candidate, leave = gates.split_with_sizes([cell.shape[-1]] * 4, -1)
    kept = torch.sigmoid(forget) * cell
    cell = torch.addcmul(kept, torch.sigmoid(entrance), torch.tanh(candidate))
    return torch.sigmoid(leave) * torch.tanh(cell), cell


def advance(
    gates: Tensor, reads: Tensor, hidden: Layers, cell: Layers, weights: Sequence[Tensor]
) -> tuple[Layers, Layers, Layers]:
    """One step of the controller: units of each layer, then the hidden units and cells to carry on.

    Layer l sees the input, the reads, its own hidden units of the step before, and the layer below. A feed-forward
    layer is tanh of its sum and sees no step before but through the reads.

    Args:
        gates: (B, L * G), the inputs' part with the bias.
        reads: (B, R * M) of the step before.
        hidden, cell: One (B, H) for each layer; empty for a feed-forward controller.
        weights: `recurrent_weights`.

    Source: Graves et al. 2016 (Nature 538:471), Methods, "Controller network".
    """
    units: list[Tensor] = []
    cells: list[Tensor] = []
    recurrent = len(hidden) > 0
    own = gates.chunk(len(weights), dim=-1) if len(weights) > 1 else (gates,)
    for layer, weight in enumerate(weights):
        seen = [reads]
        if recurrent:
            seen.append(hidden[layer])
        if layer > 0:
            seen.append(units[layer - 1])
        total = torch.addmm(own[layer], torch.cat(seen, -1) if len(seen) > 1 else reads, weight)
        if recurrent:
            above, kept = lstm_cell(total, cell[layer])
            units.append(above)
            cells.append(kept)
        else:
            units.append(torch.tanh(total))
    return tuple(units), tuple(units) if recurrent else (), tuple(cells)


def recurrent_weights(parameters: Mapping[str, Tensor], layers: int) -> list[Tensor]:
    """The matrices of `advance`, (columns, G): those of `recurrent_weight_{l}`, transposed once for all steps."""
    return [parameters[f"recurrent_weight_{layer}"].t() for layer in range(layers)]


INITIALS = tuple(f"initial_{name}" for name in ("memory", "weights", "reads", "hidden", "cell"))


def add_controller(
    net: nn.Module,
    controller: str,
    input_size: int,
    hidden_size: int,
    layers: int,
    reads: int,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> None:
    """Give a net the parameters `input_weight`, `input_bias` and `recurrent_weight_{l}` of its controller.

    Weights are uniform within +-1/sqrt(fan-in) of PyTorch's global generator, biases 0, those of forget gates 1.

    Args:
        reads: R * M, or 0.
    """
    recurrent = controller == "lstm"
    rows = (4 if recurrent else 1) * hidden_size
    columns = [reads + (hidden_size if recurrent else 0) + (hidden_size if layer else 0) for layer in range(layers)]
    into = [drawn(rows, input_size, input_size + each, device, dtype) for each in columns]
    net.register_parameter("input_weight", nn.Parameter(torch.cat(into)))
    bias = torch.zeros(layers, rows, device=device, dtype=dtype)
    if recurrent:
        bias[:, hidden_size : 2 * hidden_size] = 1.0
    net.register_parameter("input_bias", nn.Parameter(bias.flatten()))
    for layer, each in enumerate(columns):
        weight = drawn(rows, each, input_size + each, device, dtype)
        net.register_parameter(f"recurrent_weight_{layer}", nn.Parameter(weight))


def weights_of(net: nn.Module, layers: int) -> dict[str, Tensor]:
    """The parameters of a net by name, as its attributes are: also where they are computed or shared."""
    recurrent = (f"recurrent_weight_{layer}" for layer in range(layers))
    names = ("input_weight", "input_bias", *recurrent, "interface_weight", "interface_bias")
    return _attributes(net, (*names, "output_weight", "output_bias"))


def initials(net: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a net that its first state is made of, by name."""
    return _attributes(net, INITIALS)


def _attributes(net: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Those that a net has. Most are plain parameters, which the attribute look-up of a module finds slowly."""
    own = net._parameters
    found = {name: own[name] if name in own else getattr(net, name, None) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def spread(values: Tensor, batch: int, axis: int) -> Tensor:
    """The same values for every sequence, along a new axis."""
    shape = list(values.unsqueeze(axis).shape)
    shape[axis] = batch
    return values.unsqueeze(axis).expand(shape)


def drawn(rows: int, columns: int, fan_in: int, device: torch.device | str | None, dtype: torch.dtype | None) -> Tensor:
    """A matrix of numbers uniform within +-1/sqrt(fan-in)."""
    bound = max(fan_in, 1) ** -0.5
    return torch.empty(rows, columns, device=device, dtype=dtype).uniform_(-bound, bound)


def alive(lengths: Tensor, steps: int) -> Tensor:
    """(T, B, 1): whether a step belongs to its sequence."""
    return (torch.arange(steps, device=lengths.device).unsqueeze(-1) < lengths).unsqueeze(-1)


def stacked(steps: Sequence[Mapping[str, Tensor]], lengths: Tensor | None, count: int) -> dict[str, Tensor]:
    """The stages (B, ...) of the first `count` steps as (T, B, ...), zero at steps beyond a sequence's length."""
    stages = {name: torch.stack([each[name] for each in steps])[:count] for name in steps[0]}
    if lengths is None:
        return stages
    taking = alive(lengths, count).squeeze(-1)
    return {
        name: torch.where(taking.reshape(*taking.shape, *[1] * (value.dim() - 2)), value, 0.0)
        for name, value in stages.items()
    }


def check_sizes(of: str, *, least: int = 1, **sizes: object) -> None:
    """Raise `InputError` for what is no whole number of at least `least`."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < least:
            wanted = f"{name!r} of {of} must be a whole number of at least {least}"
            raise InputError(f"{wanted}. Got {size!r}. Use e.g. {name}=1.")


def check_choice(of: str, name: str, value: object, known: tuple[str, ...]) -> None:
    """Raise `InputError` for what is none of the known names."""
    if value not in known:
        raise InputError(f"Unknown {name!r} {value!r} of {of}. {nearest(str(value), known)}")


def time_first(inputs: Tensor, like: Tensor, input_size: int, batch_first: bool) -> Tensor:
    """The inputs as (T, B, I).

    Args:
        like: A parameter, whose dtype and device the inputs must have.

    Raises:
        InputError: They are no tensor of three axes, of another width, dtype or device.
    """
    axes = "(B, T, I)" if batch_first else "(T, B, I)"
    if not isinstance(inputs, Tensor) or inputs.dim() != 3 or inputs.shape[-1] != input_size:
        got = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
        raise InputError(
            f"'inputs' must be a tensor {axes} with I = {input_size}. Got {got}. "
            "A single sequence needs a batch axis of size 1; another width needs another input_size."
        )
    if torch.is_autocast_enabled(like.device.type):
        inputs = inputs.to(like.dtype)
    if inputs.dtype != like.dtype or inputs.device != like.device:
        raise InputError(
            f"'inputs' must be {like.dtype} on {like.device}, as the parameters are. Got {inputs.dtype} on "
            f"{inputs.device}. Use inputs.to(parameter), or move the net."
        )
    return inputs.transpose(0, 1) if batch_first else inputs


def checked_lengths(lengths: Tensor | None, inputs: Tensor) -> Tensor | None:
    """The lengths of the sequences in inputs (T, B, I), on their device.

    Raises:
        InputError: No whole numbers, not one for each sequence, or (looked at on a CPU, outside of transforms) below 0
            or above T.
    """
    if lengths is None:
        return None
    steps, batch = inputs.shape[:2]
    wanted = f"'lengths' must be whole numbers from 0 to {steps} of shape ({batch},)"
    whole = isinstance(lengths, Tensor) and not (
        lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool
    )
    if not whole or lengths.shape != (batch,):
        got = f"{lengths.dtype} of shape {tuple(lengths.shape)}" if isinstance(lengths, Tensor) else repr(lengths)
        raise InputError(f"{wanted}. Got {got}. Use torch.tensor([...]), one number for each sequence.")
    if can_look(lengths) and bool(((lengths < 0) | (lengths > steps)).any()):
        raise InputError(f"{wanted}. Got {lengths.tolist()}. Pad the inputs to the longest sequence.")
    return lengths.to(inputs.device, torch.int64)


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """No autocast inside: sums over many steps in half precision would go astray, and the kernel has none."""
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def check_state(state: object, start: tuple[Tensor, ...]) -> None:
    """Raise `InputError` unless a state has the fields, shapes, dtype and device of `start`, a state that fits."""
    check_kind(state, start)
    for name, wanted in start._asdict().items():  # type: ignore[attr-defined]
        check_like(name, getattr(state, name), wanted)


def check_kind(state: object, start: object) -> None:
    """Raise `InputError` unless a state is of the class of `start`."""
    if not isinstance(state, type(start)):
        raise InputError(
            f"'state' must be of class {type(start).__name__}. Got {type(state).__name__}. "
            "Use net.initial_state(batch)."
        )


def check_like(name: str, got: object, wanted: Tensor) -> None:
    """Raise `InputError` unless a field of a state has the shape, dtype and device of the wanted."""
    if not isinstance(got, Tensor):
        raise InputError(
            f"{name!r} of the state must be a tensor. Got {type(got).__name__}. Use net.initial_state(batch)."
        )
    if (got.shape, got.dtype, got.device) != (wanted.shape, wanted.dtype, wanted.device):
        raise InputError(
            f"{name!r} of the state must be {wanted.dtype} of shape {tuple(wanted.shape)} on {wanted.device}. "
            f"Got {got.dtype} of shape {tuple(got.shape)} on {got.device}. "
            "Use the state of a net of the same sizes and batch, or net.initial_state(batch)."
        )


State = TypeVar("State")


def in_segments(
    part: Callable[[Tensor, State, Tensor | None], tuple[Tensor, Tensor, State]],
    inputs: Tensor,
    state: State,
    lengths: Tensor | None,
    segments: int,
) -> tuple[Tensor, Tensor, State]:
    """A sequence in so many parts, of which the backward pass keeps the states and computes the inside again.

    Args:
        part: From inputs (T, B, I), a state and lengths to hidden units, reads and the state after.
        inputs: (T, B, I).
        lengths: (B,), or None.
    """
    if segments == 1 or len(inputs) < 2:
        return part(inputs, state, lengths)
    size = -(-len(inputs) // segments)
    hiddens, readings = [], []
    for index, piece in enumerate(torch.split(inputs, size)):
        rest = None if lengths is None else lengths - index * size
        hidden, reads, state = checkpoint(part, piece, state, rest, use_reentrant=False)
        hiddens.append(hidden)
        readings.append(reads)
    return torch.cat(hiddens), torch.cat(readings), state


def answer(hidden: Tensor, reads: Tensor, lengths: Tensor | None, parameters: Mapping[str, Tensor]) -> Tensor:
    """The outputs of the whole sequence: linear in hidden units and reads, zero in padding."""
    outputs = affine(torch.cat([hidden, reads], -1), parameters["output_weight"], parameters["output_bias"])
    return outputs if lengths is None else torch.where(alive(lengths, len(outputs)), outputs, 0.0)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`x W^T + b`: x (..., I), W (O, I), b (O,), or each with a leading axis S."""
    if weight.dim() == 2:
        return linear(x, weight, bias)
    return torch.baddbmm(bias.unsqueeze(1), x.flatten(1, -2), weight.mT).view(*x.shape[:-1], -1)

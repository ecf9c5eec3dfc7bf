"""Neural Turing Machine: a controller with a memory whose heads it moves by content and by shifts.

Axis legend: T time, B batch, I inputs, O outputs, N slots, M width (of a slot), H hidden units, L controller layers,
G gate rows of a layer (4 H for an LSTM, H for a feed-forward layer), R read heads, W write heads, K heads in all (reads
first, then writes), S shifts, P interface.

Source: Graves, Wayne and Danihelka 2014 (arXiv:1410.5401); equation numbers are those of `addressing.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from softplace import maps
from softplace.memory import _fused
from softplace.memory.addressing import Addressing, address, inverse_norms, read, write
from softplace.memory.controller import (
    CONTROLLERS,
    Layers,
    add_controller,
    advance,
    answer,
    check_choice,
    check_sizes,
    check_state,
    checked_lengths,
    drawn,
    full_precision,
    in_segments,
    initials,
    recurrent_weights,
    spread,
    stacked,
    time_first,
    weights_of,
)

ORDERS = ("write-read", "read-write")
MEMORIES = ("constant", "learned", "random")
STARTS = ("one-slot", "random", "uniform")
CONSTANT = 1e-6
"""What every place of a constant initial memory holds."""
ONE_SLOT = 10.0
"""The logit of slot 0, beside zeros, where the heads start at one slot."""


@dataclass(frozen=True, kw_only=True)
class NTMConfig:
    """What an NTM computes, but for its parameters. `NTM` documents the fields.

    Raises:
        InputError: A size below 1, a negative `shift_range`, an unknown name.
    """

    slots: int = 128
    width: int = 20
    read_heads: int = 1
    write_heads: int = 1
    map: str | maps.Map = "softmax"
    controller: str = "lstm"
    layers: int = 1
    hidden_size: int = 100
    shift_range: int = 1
    order: str = "write-read"

    def __post_init__(self) -> None:
        check_sizes("NTM", slots=self.slots, width=self.width, read_heads=self.read_heads, layers=self.layers)
        check_sizes("NTM", write_heads=self.write_heads, hidden_size=self.hidden_size)
        check_sizes("NTM", least=0, shift_range=self.shift_range)
        check_choice("NTM", "controller", self.controller, CONTROLLERS)
        check_choice("NTM", "order", self.order, ORDERS)
        if not (isinstance(self.map, str) and self.map in maps.OWN):
            # Another package's map is looked up once; ours keep their names, by which the fused path knows them.
            object.__setattr__(self, "map", maps.get(self.map))

    @property
    def heads(self) -> int:
        """K."""
        return self.read_heads + self.write_heads

    @property
    def shifts(self) -> int:
        """S."""
        return 2 * self.shift_range + 1

    def columns(self) -> dict[str, tuple[int, int]]:
        """The parts of the interface in their order: heads, and columns of a head."""
        heads, writes, width = self.heads, self.write_heads, self.width
        return {
            "keys": (heads, width),
            "strengths": (heads, 1),
            "gates": (heads, 1),
            "shifts": (heads, self.shifts),
            "sharpness": (heads, 1),
            "erase": (writes, width),
            "add": (writes, width),
        }

    @property
    def interface_size(self) -> int:
        """P."""
        return sum(heads * size for heads, size in self.columns().values())


class NTMState(NamedTuple):
    """What an NTM carries from one step to the next."""

    memory: Tensor
    """(B, N, M)"""
    weights: Tensor
    """(B, K, N): read heads first."""
    reads: Tensor
    """(B, R, M)"""
    hidden: Tensor
    """(L, B, H); (0, B, H) for a feed-forward controller."""
    cell: Tensor
    """(L, B, H); (0, B, H) for a feed-forward controller."""

    def detach(self) -> "NTMState":
        """The same numbers without their past: for backpropagation through time that is cut here."""
        return NTMState(*(each.detach() for each in self))


class NTMTrace(NamedTuple):
    """Every stage of every step, (T, B, ...); zeros at steps beyond a sequence's length."""

    keys: Tensor
    """(T, B, K, M)"""
    strengths: Tensor
    """(T, B, K)"""
    similarity: Tensor
    """(T, B, K, N): of every slot to the key, eq. 6."""
    content: Tensor
    """(T, B, K, N): weights of the look-up by content, eq. 5."""
    gates: Tensor
    """(T, B, K): 1 for the look-up, 0 for where the head was."""
    interpolated: Tensor
    """(T, B, K, N), eq. 7."""
    shifts: Tensor
    """(T, B, K, S): the share that moves by -k, ..., k slots."""
    shifted: Tensor
    """(T, B, K, N), eq. 8."""
    sharpness: Tensor
    """(T, B, K)"""
    weights: Tensor
    """(T, B, K, N), eq. 9: where the heads are."""
    erase: Tensor
    """(T, B, W, M)"""
    add: Tensor
    """(T, B, W, M)"""
    memory: Tensor
    """(T, B, N, M), after the write."""
    reads: Tensor
    """(T, B, R, M)"""
    outputs: Tensor
    """(T, B, O)"""


class NTM(nn.Module):
    """A recurrent network with a Neural Turing Machine's memory.

    In each step: the controller sees the input and what was read in the step before; it says where the heads go and
    what the write heads write; the memory is written, then read. The outputs are linear in the controller's hidden
    units and the reads.

    Args:
        input_size: I.
        output_size: O.
        hidden_size: H, hidden units of each layer of the controller.
        slots: N.
        width: M, the size of a slot.
        read_heads: R.
        write_heads: W. All heads erase, then all add.
        map: Of the look-up by content: a name of `softplace.maps`, or a callable.
        controller: "lstm", or "feedforward" for tanh layers.
        layers: L. Each layer sees the input, the reads and the layer below; interface and outputs see all layers.
        shift_range: k: a step moves a head by at most so many slots either way.
        order: "write-read": write heads look into the memory as it was, it is written, and the read heads look into and
            read what it is now. "read-write": all heads look into the memory as it was, it is read, then written.
        initial_memory: "constant", 1e-6 everywhere; "learned", a parameter that begins so; "random", numbers within
            +-1/sqrt(N + M), drawn at construction and kept.
        initial_weights: Where heads start, learned: "one-slot", nearly all at slot 0; "random", softmax of normal
            numbers; "uniform". With a constant memory, uniform weights keep all slots equal for ever.
        batch_first: Inputs and outputs are (B, T, ...), not (T, B, ...). The state's axes stay as they are.
        segments: The sequence is cut into so many parts; the backward pass keeps their first states and computes the
            inside of each again, one at a time. PyTorch cannot do so under `torch.vmap`: use 1 there.
        kernel: Whether the fused path may be used where it fits; it gives the same numbers.
        device: Where the parameters lie.
        dtype: Of the parameters.

    Raises:
        InputError: A size below 1, or an unknown name.

    How we differ from the paper: norms in the look-up (see `addressing.content`); strengths and sharpness are softplus
    and 1 + softplus of the interface, gates and erase vectors sigmoid, shifts softmax, keys and add vectors as they
    are, all of which the paper leaves open; initial weights of the heads, first reads, hidden units and cells are
    learned. Weights are drawn uniform within +-1/sqrt(fan-in), biases 0, those of the forget gates 1.

    >>> net = NTM(3, 2, slots=8, width=4)
    >>> outputs, state = net(torch.zeros(5, 1, 3))
    >>> outputs.shape, state.memory.shape
    (torch.Size([5, 1, 2]), torch.Size([1, 8, 4]))
    """

    initial_memory: Tensor

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        hidden_size: int = 100,
        slots: int = 128,
        width: int = 20,
        read_heads: int = 1,
        write_heads: int = 1,
        map: str | maps.Map = "softmax",  # noqa: A002 - the word of the field
        controller: Literal["lstm", "feedforward"] = "lstm",
        layers: int = 1,
        shift_range: int = 1,
        order: Literal["write-read", "read-write"] = "write-read",
        initial_memory: Literal["constant", "learned", "random"] = "constant",
        initial_weights: Literal["one-slot", "random", "uniform"] = "one-slot",
        batch_first: bool = False,
        segments: int = 1,
        kernel: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes("NTM", input_size=input_size, output_size=output_size, segments=segments)
        check_choice("NTM", "initial_memory", initial_memory, MEMORIES)
        check_choice("NTM", "initial_weights", initial_weights, STARTS)
        self.config = NTMConfig(
            slots=slots,
            width=width,
            read_heads=read_heads,
            write_heads=write_heads,
            map=map,
            controller=controller,
            layers=layers,
            hidden_size=hidden_size,
            shift_range=shift_range,
            order=order,
        )
        self.input_size, self.output_size = input_size, output_size
        self.batch_first, self.segments, self.kernel = batch_first, segments, kernel
        if isinstance(map, nn.Module):
            self.map = map  # so that what it learns is among our parameters

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, device=device, dtype=dtype)

        reads, units = read_heads * width, layers * hidden_size
        add_controller(self, controller, input_size, hidden_size, layers, reads, device, dtype)
        self.interface_weight = nn.Parameter(drawn(self.config.interface_size, units, units, device, dtype))
        self.interface_bias = nn.Parameter(zeros(self.config.interface_size))
        self.output_weight = nn.Parameter(drawn(output_size, units + reads, units + reads, device, dtype))
        self.output_bias = nn.Parameter(zeros(output_size))
        if initial_memory == "random":
            self.register_buffer("initial_memory", drawn(slots, width, slots + width, device, dtype))
        elif initial_memory == "constant":
            self.register_buffer("initial_memory", zeros(slots, width) + CONSTANT)
        else:
            self.initial_memory = nn.Parameter(zeros(slots, width) + CONSTANT)
        start = zeros(self.config.heads, slots)
        if initial_weights == "one-slot":
            start[:, 0] = ONE_SLOT
        elif initial_weights == "random":
            start.normal_()
        self.initial_weights = nn.Parameter(start)
        self.initial_reads = nn.Parameter(zeros(read_heads, width))
        if controller == "lstm":
            self.initial_hidden = nn.Parameter(zeros(layers, hidden_size))
            self.initial_cell = nn.Parameter(zeros(layers, hidden_size))

    def initial_state(self, batch: int) -> NTMState:
        """The state before the first step, the same for every sequence.

        Args:
            batch: B.
        """
        return first_state(initials(self), self.config, batch)

    def forward(
        self, inputs: Tensor, state: NTMState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, NTMState]:
        """Outputs for a batch of sequences, and the state after each.

        Args:
            inputs: (T, B, I), or (B, T, I) with `batch_first`.
            state: What an earlier call returned; None for the initial one.
            lengths: (B,) whole numbers from 0 to T: of a sequence the first so many steps take part. None: all.

        Returns:
            Outputs (T, B, O), or (B, T, O), logits, zero at steps beyond a sequence's length; and the state at each
            sequence's length.

        Raises:
            InputError: Inputs, state or lengths of a wrong kind or shape, or (looked at on a CPU, outside of
                transforms) lengths out of range.
        """
        inputs, state, lengths = self._prepare(inputs, state, lengths)
        parameters, segments = weights_of(self, self.config.layers), self.segments
        with full_precision(inputs):
            outputs, state = ntm(
                inputs, state, parameters, self.config, lengths=lengths, segments=segments, kernel=self.kernel
            )
        return outputs.transpose(0, 1) if self.batch_first else outputs, state

    def trace(self, inputs: Tensor, state: NTMState | None = None, lengths: Tensor | None = None) -> NTMTrace:
        """Every stage of every step, time first; arguments as in a call. Always the plain path."""
        inputs, state, lengths = self._prepare(inputs, state, lengths)
        with full_precision(inputs):
            parameters = weights_of(self, self.config.layers)
            pre = linear(inputs, parameters["input_weight"], parameters["input_bias"])
            steps: list[dict[str, Tensor]] = []
            hidden, reads, _ = _sequence(pre, state, lengths, parameters, self.config, steps)
            outputs = answer(hidden, reads, lengths, parameters)
            if not steps:  # the shapes are those of one step beside the sequence
                _sequence(pre.new_zeros(1, *pre.shape[1:]), state, None, parameters, self.config, steps)
            return NTMTrace(**stacked(steps, lengths, len(pre)), outputs=outputs)

    def extra_repr(self) -> str:
        """What `print(net)` says."""
        config = self.config
        sizes = f"{self.input_size}, {self.output_size}, hidden_size={config.hidden_size}, slots={config.slots}"
        heads = f"width={config.width}, read_heads={config.read_heads}, write_heads={config.write_heads}"
        return f"{sizes}, {heads}, controller={config.controller!r}, order={config.order!r}"

    def _prepare(
        self, inputs: Tensor, state: NTMState | None, lengths: Tensor | None
    ) -> tuple[Tensor, NTMState, Tensor | None]:
        inputs = time_first(inputs, self.output_bias, self.input_size, self.batch_first)
        start = self.initial_state(inputs.shape[1])
        if state is not None:
            check_state(state, start)
        return inputs, start if state is None else state, checked_lengths(lengths, inputs)


def first_state(initial: Mapping[str, Tensor], config: NTMConfig, batch: int) -> NTMState:
    """The state before the first step, the same for every sequence.

    Args:
        initial: By the names of `NTM`'s parameters and buffers that begin with `initial_`; with a leading axis S, the
            state has one too.
    """
    memory, weights, reads = (initial[f"initial_{name}"] for name in ("memory", "weights", "reads"))
    if config.controller == "lstm":
        hidden, cell = spread(initial["initial_hidden"], batch, -2), spread(initial["initial_cell"], batch, -2)
    else:
        hidden = cell = reads.new_zeros(*reads.shape[:-2], 0, batch, config.hidden_size)
    weights = torch.softmax(weights, -1)
    return NTMState(spread(memory, batch, -3), spread(weights, batch, -3), spread(reads, batch, -3), hidden, cell)


def ntm(
    inputs: Tensor,
    state: NTMState,
    parameters: Mapping[str, Tensor],
    config: NTMConfig,
    *,
    lengths: Tensor | None = None,
    segments: int = 1,
    kernel: bool = True,
) -> tuple[Tensor, NTMState]:
    """What `NTM` computes, as a function of its parameters.

    Args:
        inputs: (T, B, I).
        state: Before the first step; `NTM.initial_state` gives one.
        parameters: By the names of `NTM.named_parameters`; those that begin with `initial_` are not needed.
        config: The rest.
        lengths: (B,) whole numbers from 0 to T, or None for T.
        segments, kernel: As of `NTM`.

    Returns:
        Outputs (T, B, O), zero in padding, and the state at each sequence's length.
    """

    def part(inputs: Tensor, state: NTMState, lengths: Tensor | None) -> tuple[Tensor, Tensor, NTMState]:
        pre = linear(inputs, parameters["input_weight"], parameters["input_bias"])
        fused = _fused.ntm(pre, state, lengths, parameters, config) if kernel else None
        return _sequence(pre, state, lengths, parameters, config) if fused is None else fused

    hidden, reads, state = in_segments(part, inputs, state, lengths, segments)
    return answer(hidden, reads, lengths, parameters), state


class _Carry(NamedTuple):
    """What the loop carries from step to step: the state in the form in which a step needs it."""

    memory: Tensor  # (B, N, M)
    inverse_norms: Tensor  # (B, N), of the slots; a step's read and the next one's write look into the same memory
    weights: Layers  # (B, K, N), or read and write heads apart where they are addressed apart
    reads: Tensor  # (B, R * M)
    hidden: Layers
    cell: Layers

    @classmethod
    def of(cls, state: NTMState, config: NTMConfig) -> "_Carry":
        weights = state.weights.split_with_sizes(_groups(config), -2)
        layers = state.hidden.unbind(0), state.cell.unbind(0)
        return cls(state.memory, inverse_norms(state.memory), weights, state.reads.flatten(-2), *layers)

    def state(self, config: NTMConfig) -> NTMState:
        batch = self.memory.shape[0]
        nothing = self.memory.new_zeros(0, batch, config.hidden_size)
        return NTMState(
            memory=self.memory,
            weights=torch.cat(self.weights, -2),
            reads=self.reads.reshape(batch, config.read_heads, config.width),
            hidden=torch.stack(self.hidden) if self.hidden else nothing,
            cell=torch.stack(self.cell) if self.cell else nothing,
        )

    def where(self, taking: Tensor, before: "_Carry") -> "_Carry":
        """For each sequence, (B, 1), this carry or the one before."""

        def layers(new: Layers, old: Layers) -> Layers:
            return tuple(torch.where(taking, *pair) for pair in zip(new, old, strict=True))

        wide = taking.unsqueeze(-1)
        return _Carry(
            torch.where(wide, self.memory, before.memory),
            self.inverse_norms,  # a sequence that has ended does not go on
            tuple(torch.where(wide, *pair) for pair in zip(self.weights, before.weights, strict=True)),
            torch.where(taking, self.reads, before.reads),
            layers(self.hidden, before.hidden),
            layers(self.cell, before.cell),
        )


class _Step(NamedTuple):
    """What is the same in every step of a sequence."""

    config: NTMConfig
    recurrent: Sequence[Tensor]
    interface_weight: Tensor  # (L * H, P), its parts in the order of `_PARTS`
    interface_bias: Tensor  # (P,)
    ones: Tensor  # (2 K,): what is added to strengths and sharpness after the softplus


_PARTS = (("keys",), ("strengths", "sharpness"), ("gates", "erase"), ("shifts",), ("add",))
"""Parts of the interface that go through one squashing function are brought beside one another, once for all steps."""


def _sequence(
    pre: Tensor,
    state: NTMState,
    lengths: Tensor | None,
    parameters: Mapping[str, Tensor],
    config: NTMConfig,
    record: list[dict[str, Tensor]] | None = None,
) -> tuple[Tensor, Tensor, NTMState]:
    """The time loop: hidden units (T, B, L * H), reads (T, B, R * M) and the last state.

    Args:
        pre: The inputs' part of the controller's gates, (T, B, L * G).
        lengths: May lie beyond either end of `pre`.
        record: Gets the stages of every step.
    """
    step, carry = _prepared(parameters, config), _Carry.of(state, config)
    hidden, reads = [], []
    for time, gates in enumerate(pre.unbind(0)):
        units, stages, after = _advanced(gates, carry, step)
        carry = after if lengths is None else after.where((lengths > time).unsqueeze(-1), carry)
        hidden.append(units)
        reads.append(carry.reads)
        if record is not None:
            record.append(_recorded(stages, after, config))
    if not hidden:
        batch = pre.shape[1]
        nothing = pre.new_zeros(0, batch, config.layers * config.hidden_size)
        return nothing, pre.new_zeros(0, batch, config.read_heads * config.width), state
    return torch.stack(hidden), torch.stack(reads), carry.state(config)


def _groups(config: NTMConfig) -> list[int]:
    """How many heads are addressed together, reads first."""
    return [config.heads] if config.order == "read-write" else [config.read_heads, config.write_heads]


def _prepared(parameters: Mapping[str, Tensor], config: NTMConfig) -> _Step:
    weight, bias = parameters["interface_weight"], parameters["interface_bias"]
    sizes = [heads * size for heads, size in config.columns().values()]
    rows = dict(zip(config.columns(), weight.split_with_sizes(sizes), strict=True))
    offsets = dict(zip(config.columns(), bias.split_with_sizes(sizes), strict=True))
    ones = weight.new_ones(2 * config.heads)
    ones[: config.heads] = 0.0
    return _Step(
        config,
        recurrent_weights(parameters, config.layers),
        torch.cat([rows[name] for part in _PARTS for name in part]).t(),
        torch.cat([offsets[name] for part in _PARTS for name in part]),
        ones,
    )


class _Stages(NamedTuple):
    """The stages of one step, for each group of heads that is addressed together."""

    heads: list[tuple[Tensor, ...]]
    addressing: list[Addressing]
    erase: Tensor
    add: Tensor


def _advanced(gates: Tensor, carry: _Carry, step: _Step) -> tuple[Tensor, _Stages, _Carry]:
    """One step: hidden units of all layers (B, L * H), the stages, and what is carried on."""
    config = step.config
    units, hidden, cell = advance(gates, carry.reads, carry.hidden, carry.cell, step.recurrent)
    seen = units[0] if len(units) == 1 else torch.cat(units, -1)
    heads, erase, add = _interface(torch.addmm(step.interface_bias, seen, step.interface_weight), step)

    def located(group: int, memory: Tensor, inverse: Tensor) -> Addressing:
        return address(memory, carry.weights[group], *heads[group], map=config.map, memory_inverse_norms=inverse)

    if config.order == "write-read":
        writing = located(1, carry.memory, carry.inverse_norms)
        memory = write(carry.memory, writing.weights, erase, add)
        inverse = inverse_norms(memory)
        reading = located(0, memory, inverse)
        reads = read(memory, reading.weights)
        stages = [reading, writing]
    else:
        stages = [located(0, carry.memory, carry.inverse_norms)]
        reading_weights, writing_weights = stages[0].weights.split_with_sizes(
            [config.read_heads, config.write_heads], -2
        )
        reads = read(carry.memory, reading_weights)
        memory = write(carry.memory, writing_weights, erase, add)
        inverse = inverse_norms(memory)
    weights = tuple(each.weights for each in stages)
    return seen, _Stages(heads, stages, erase, add), _Carry(memory, inverse, weights, reads.flatten(-2), hidden, cell)


def _interface(raw: Tensor, step: _Step) -> tuple[list[tuple[Tensor, ...]], Tensor, Tensor]:
    """Keys, strengths, gates, shifts and sharpness of each group of heads; erase and add vectors of the write heads."""
    config = step.config
    count, writes, width, groups = config.heads, config.write_heads, config.width, _groups(config)
    batch = raw.shape[0]
    sizes = [2 * count, count + writes * width, count * config.shifts, writes * width]
    *keys, positive, bounded, shifts, add = raw.split_with_sizes([*(each * width for each in groups), *sizes], -1)
    parted = (softplus(positive) + step.ones).split_with_sizes([*groups, *groups], -1)
    *gates, erase = torch.sigmoid(bounded).split_with_sizes([*groups, writes * width], -1)
    heads = zip(
        [each.reshape(batch, group, width) for each, group in zip(keys, groups, strict=True)],
        parted[: len(groups)],
        gates,
        torch.softmax(shifts.reshape(batch, count, config.shifts), -1).split_with_sizes(groups, -2),
        parted[len(groups) :],
        strict=True,
    )
    return list(heads), erase.reshape(batch, writes, width), add.reshape(batch, writes, width)


def _recorded(stages: _Stages, after: _Carry, config: NTMConfig) -> dict[str, Tensor]:
    """The stages of a step by the names of `NTMTrace`, all heads together."""

    def together(parts: Iterable[Tensor], axis: int = -2) -> Tensor:
        return torch.cat(list(parts), axis)

    found = stages.addressing
    keys, strengths, gates, shifts, sharpness = zip(*stages.heads, strict=True)
    return {
        "keys": together(keys),
        "strengths": together(strengths, -1),
        "similarity": together(each.content.similarity for each in found),
        "content": together(each.content.weights for each in found),
        "gates": together(gates, -1),
        "interpolated": together(each.interpolated for each in found),
        "shifts": together(shifts),
        "shifted": together(each.shifted for each in found),
        "sharpness": together(sharpness, -1),
        "weights": together(each.weights for each in found),
        "erase": stages.erase,
        "add": stages.add,
        "memory": after.memory,
        "reads": after.reads.reshape(len(after.reads), config.read_heads, config.width),
    }

"""Differentiable Neural Computer: a controller with a memory that it addresses by content, by free slots, and by order.

Axis legend: T time, B batch, I inputs, O outputs, N slots, M width (of a slot), H hidden units, L controller layers,
G gate rows of a layer (4 H for an LSTM, H for a feed-forward layer), R read heads, W write heads, P interface.

Source: Graves et al. 2016 (Nature 538:471), Methods; the letters in the comments are those of `_reference_dnc.py`.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from softplace import maps
from softplace.errors import InputError
from softplace.memory import _fused
from softplace.memory.addressing import content, read, write
from softplace.memory.allocation import allocate_heads, retention, usage
from softplace.memory.controller import (
    add_controller,
    advance,
    answer,
    check_choice,
    check_kind,
    check_like,
    check_sizes,
    checked_lengths,
    drawn,
    full_precision,
    in_segments,
    recurrent_weights,
    spread,
    stacked,
    time_first,
    weights_of,
)
from softplace.memory.dnc_interface import SORTED, DNCConfig, Interface, squashed
from softplace.memory.links import (
    Directions,
    SparseLinks,
    directional,
    link,
    no_sparse_links,
    precedence,
    sharpen_direction,
    sparse_directional,
    sparse_link,
)

MEMORIES = ("constant", "learned", "random")


class DNCState(NamedTuple):
    """What a DNC carries from one step to the next."""

    memory: Tensor
    """(B, N, M)"""
    usage: Tensor
    """(B, N)"""
    precedence: Tensor
    """(B, W, N); stays as it is with links "none"."""
    links: Tensor | SparseLinks
    """(B, W, N, N), sparse, or empty (B, 0, 0, 0) with links "none"."""
    read_weights: Tensor
    """(B, R, N)"""
    write_weights: Tensor
    """(B, W, N)"""
    reads: Tensor
    """(B, R, M)"""
    hidden: Tensor
    """(L, B, H); (0, B, H) for a feed-forward controller."""
    cell: Tensor
    """(L, B, H); (0, B, H) for a feed-forward controller."""

    def detach(self) -> "DNCState":
        """The same numbers without their past: for backpropagation through time that is cut here."""
        return _each(lambda _, value: value.detach(), self)


class DNCTrace(NamedTuple):
    """Every stage of every step, (T, B, ...); zeros at steps beyond a sequence's length."""

    read_strengths: Tensor
    """(T, B, R)"""
    write_strengths: Tensor
    """(T, B, W)"""
    erase: Tensor
    """(T, B, W, M)"""
    write_vectors: Tensor
    """(T, B, W, M)"""
    free_gates: Tensor
    """(T, B, R)"""
    allocation_gates: Tensor
    """(T, B, W)"""
    write_gates: Tensor
    """(T, B, W)"""
    read_modes: Tensor
    """(T, B, R, 1 + 2W): backward for each write head, content, forward for each; (T, B, R, 1) with links "none"."""
    retention: Tensor
    """(T, B, N)"""
    usage: Tensor
    """(T, B, N)"""
    allocation: Tensor
    """(T, B, W, N)"""
    write_content: Tensor
    """(T, B, W, N): weights of the content look-up."""
    write_weights: Tensor
    """(T, B, W, N)"""
    memory: Tensor
    """(T, B, N, M), after the write."""
    precedence: Tensor
    """(T, B, W, N)"""
    forward: Tensor
    """(T, B, R, W, N); (T, B, R, 0, N) with links "none"."""
    backward: Tensor
    """As `forward`."""
    read_content: Tensor
    """(T, B, R, N): weights of the content look-up."""
    read_weights: Tensor
    """(T, B, R, N)"""
    reads: Tensor
    """(T, B, R, M)"""
    outputs: Tensor
    """(T, B, O)"""


class DNC(nn.Module):
    """A recurrent network with a Differentiable Neural Computer's memory.

    In each step, in this order: the controller sees the input and what was read in the step before; usage from the
    weights of the step before; allocation, and content look-up in the memory as it was; the write; links with the
    precedence as it was; precedence; content look-up in the memory as it is now; the reads. The outputs are linear in
    the controller's hidden units and the reads.

    Args:
        input_size: I.
        output_size: O.
        hidden_size: H, hidden units of each layer of the controller.
        slots: N. No parameter depends on it, unless the initial memory is learned or random: `load_state_dict` of a
            net of fewer slots works.
        width: M, the size of a slot.
        read_heads: R.
        write_heads: W. All heads erase, then all add; each has its own links (as deepmind/dnc; the paper has one head).
        map: Of the content look-ups: a name of `softplace.maps`, or a callable.
        controller: "lstm", or "feedforward" for tanh layers.
        layers: L. Each layer sees the input, the reads and the layer below; the outputs see all layers.
        links: "dense"; "sparse" for work and memory that grow with N and not with N^2 (see `links.sparse_link`); "none"
            for reads by content alone, without read modes.
        sparse_links: Entries of each row of sparse links.
        allocation: "sorted" for the paper's, or a map of 1 - usage (see `allocation.allocation`).
        masked: Content look-ups of masked keys and slots, so that a key can leave columns open.
        deallocate: A slot that is set free is erased too, `M_{t-1}` times the retention.
        sharpened: Directions along the links are sharpened. These three: Csordas and Schmidhuber 2019
            (arXiv:1904.10278).
        detach_usage: No gradient through the write weights of the usage, as deepmind/dnc and Csordas; the paper has it.
        initial_memory: "constant" zeros, "learned", or "random" numbers of +-1/sqrt(N + M), drawn at construction.
        batch_first: Inputs and outputs are (B, T, ...), not (T, B, ...). The state's axes stay as they are.
        segments: The sequence is cut into so many parts; the backward pass keeps their first states and computes the
            inside of each again, one at a time.
        kernel: Whether the fused path may be used where it fits; it gives the same numbers.
        device: Where the parameters lie.
        dtype: Of the parameters.

    Raises:
        InputError: A size below 1, or an unknown name.

    How we differ from the paper: norms in the content look-up are `sqrt(|x|^2 + 1e-6)`; the outputs have a bias; see
    also the options above, which are off. Initial weights are uniform within +-1/sqrt(fan-in), biases 0, that of the
    forget gates 1.

    >>> net = DNC(3, 2, slots=8, width=4)
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
        links: Literal["dense", "sparse", "none"] = "dense",
        sparse_links: int = 8,
        allocation: str | maps.Map = SORTED,
        masked: bool = False,
        deallocate: bool = False,
        sharpened: bool = False,
        detach_usage: bool = False,
        initial_memory: Literal["constant", "learned", "random"] = "constant",
        batch_first: bool = False,
        segments: int = 1,
        kernel: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes("DNC", input_size=input_size, output_size=output_size, segments=segments)
        check_choice("DNC", "initial_memory", initial_memory, MEMORIES)
        self.input_size, self.output_size = input_size, output_size
        self.batch_first, self.segments, self.kernel = batch_first, segments, kernel
        self.config = DNCConfig(
            slots=slots,
            width=width,
            read_heads=read_heads,
            write_heads=write_heads,
            hidden_size=hidden_size,
            layers=layers,
            controller=controller,
            map=map,
            links=links,
            sparse_links=sparse_links,
            allocation=allocation,
            masked=masked,
            deallocate=deallocate,
            sharpened=sharpened,
            detach_usage=detach_usage,
        )

        if isinstance(map, nn.Module):
            self.map = map  # so that what it learns is among our parameters
        if isinstance(allocation, nn.Module):
            self.allocation = allocation

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, device=device, dtype=dtype)

        reads, units = read_heads * width, layers * hidden_size
        add_controller(self, controller, input_size, hidden_size, layers, reads, device, dtype)
        self.interface_weight = nn.Parameter(drawn(self.config.interface_size, units, units, device, dtype))
        self.interface_bias = nn.Parameter(zeros(self.config.interface_size))
        self.output_weight = nn.Parameter(drawn(output_size, units + reads, units + reads, device, dtype))
        self.output_bias = nn.Parameter(zeros(output_size))
        if initial_memory == "learned":
            self.initial_memory = nn.Parameter(zeros(slots, width))
        else:
            random = drawn(slots, width, slots + width, device, dtype)
            start = zeros(slots, width) if initial_memory == "constant" else random
            self.register_buffer("initial_memory", start, persistent=initial_memory == "random")

    def initial_state(self, batch: int) -> DNCState:
        """The state before the first step: everything zero but the memory.

        Args:
            batch: B.
        """
        return first_state({"initial_memory": self.initial_memory}, self.config, batch)

    def forward(
        self, inputs: Tensor, state: DNCState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, DNCState]:
        """Outputs for a batch of sequences, and the state after each.

        Args:
            inputs: (T, B, I), or (B, T, I) with `batch_first`.
            state: From a call before, or None for the initial state.
            lengths: (B,) whole numbers from 0 to T; None for T. Steps from a sequence's length on are padding.

        Returns:
            Outputs (T, B, O), or (B, T, O), not squashed, zero in padding; and the state at each sequence's length.

        Raises:
            InputError: A shape or a length that does not fit.
        """
        inputs, state, lengths = self._prepare(inputs, state, lengths)
        parameters, segments = weights_of(self, self.config.layers), self.segments
        with full_precision(inputs):
            outputs, state = dnc(
                inputs, state, parameters, self.config, lengths=lengths, segments=segments, kernel=self.kernel
            )
        return outputs.transpose(0, 1) if self.batch_first else outputs, state

    def trace(self, inputs: Tensor, state: DNCState | None = None, lengths: Tensor | None = None) -> DNCTrace:
        """Every stage of every step, time first; arguments as in a call. Always the plain path."""
        inputs, state, lengths = self._prepare(inputs, state, lengths)
        with full_precision(inputs):
            parameters = weights_of(self, self.config.layers)
            pre = linear(inputs, parameters["input_weight"], parameters["input_bias"])
            steps: list[dict[str, Tensor]] = []
            hidden, reads, _ = _sequence(pre, state, lengths, parameters, self.config, steps)
            outputs = answer(hidden, reads, lengths, parameters)
            # Without a step, the shapes are those of one beside the sequence.
            stages = steps or [_step(pre.new_zeros(pre.shape[1:]), state, parameters, self.config)[1]]
            return DNCTrace(**stacked(stages, lengths, len(steps)), outputs=outputs)

    def extra_repr(self) -> str:
        """What `print(net)` says."""
        config = self.config
        heads = f"read_heads={config.read_heads}, write_heads={config.write_heads}"
        sizes = f"{self.input_size}, {self.output_size}, hidden_size={config.hidden_size}, slots={config.slots}"
        return f"{sizes}, width={config.width}, {heads}, controller={config.controller!r}, links={config.links!r}"

    def _prepare(
        self, inputs: Tensor, state: DNCState | None, lengths: Tensor | None
    ) -> tuple[Tensor, DNCState, Tensor | None]:
        inputs = time_first(inputs, self.output_bias, self.input_size, self.batch_first)
        start = self.initial_state(inputs.shape[1])
        if state is not None:
            _check_state(state, start)
        return inputs, start if state is None else state, checked_lengths(lengths, inputs)


def first_state(initial: Mapping[str, Tensor], config: DNCConfig, batch: int) -> DNCState:
    """The state before the first step: everything zero but the memory.

    Args:
        initial: "initial_memory", (N, M); with a leading axis S, the state has one too.
    """
    memory = initial["initial_memory"]
    members, layers = memory.shape[:-2], config.layers if config.controller == "lstm" else 0

    def zeros(*shape: int) -> Tensor:
        return memory.new_zeros(*members, *shape)

    order = zeros(batch, config.write_heads, config.slots)
    links: Tensor | SparseLinks
    if config.links == "dense":
        links = zeros(*order.shape[-3:], config.slots)
    elif config.links == "sparse":
        links = no_sparse_links(order, config.sparse_links)
    else:
        links = zeros(batch, 0, 0, 0)
    return DNCState(
        memory=spread(memory, batch, -3),
        usage=zeros(batch, config.slots),
        precedence=order,
        links=links,
        read_weights=zeros(batch, config.read_heads, config.slots),
        write_weights=order,
        reads=zeros(batch, config.read_heads, config.width),
        hidden=zeros(layers, batch, config.hidden_size),
        cell=zeros(layers, batch, config.hidden_size),
    )


def dnc(
    inputs: Tensor,
    state: DNCState,
    parameters: Mapping[str, Tensor],
    config: DNCConfig,
    *,
    lengths: Tensor | None = None,
    segments: int = 1,
    kernel: bool = True,
) -> tuple[Tensor, DNCState]:
    """What `DNC` computes, as a function of its parameters.

    Args:
        inputs: (T, B, I).
        state: Before the first step; `DNC.initial_state` gives one.
        parameters: By the names of `DNC.named_parameters`; `initial_memory` is not needed.
        config: The rest.
        lengths: (B,) whole numbers from 0 to T, or None for T.
        segments, kernel: As of `DNC`.

    Returns:
        Outputs (T, B, O), zero in padding, and the state at each sequence's length.
    """

    def part(inputs: Tensor, state: DNCState, lengths: Tensor | None) -> tuple[Tensor, Tensor, DNCState]:
        pre = linear(inputs, parameters["input_weight"], parameters["input_bias"])
        fused = _fused.dnc(pre, state, lengths, parameters, config) if kernel else None
        return _sequence(pre, state, lengths, parameters, config) if fused is None else fused

    hidden, reads, state = in_segments(part, inputs, state, lengths, segments)
    return answer(hidden, reads, lengths, parameters), state


def _sequence(
    pre: Tensor,
    state: DNCState,
    lengths: Tensor | None,
    parameters: Mapping[str, Tensor],
    config: DNCConfig,
    record: list[dict[str, Tensor]] | None = None,
) -> tuple[Tensor, Tensor, DNCState]:
    """The time loop: hidden units (T, B, L * H), reads (T, B, R * M) and the last state.

    Args:
        pre: The inputs' part of the controller's gates, (T, B, L * G).
        lengths: May lie beyond either end of `pre`.
        record: Gets the stages of every step.
    """
    hidden, reads = [], []
    for time, gates in enumerate(pre.unbind(0)):
        units, stages, after = _step(gates, state, parameters, config)
        state = after if lengths is None else _where(lengths > time, after, state)
        hidden.append(units)
        reads.append(state.reads.flatten(-2))
        if record is not None:
            record.append(stages)
    if not hidden:
        batch = pre.shape[1]
        return (
            pre.new_zeros(0, batch, config.layers * config.hidden_size),
            pre.new_zeros(0, batch, config.read_heads * config.width),
            state,
        )
    return torch.stack(hidden), torch.stack(reads), state


def _step(
    gates: Tensor, state: DNCState, parameters: Mapping[str, Tensor], config: DNCConfig
) -> tuple[Tensor, dict[str, Tensor], DNCState]:
    """One step: hidden units of all layers (B, L * H), the stages, and the state after it."""
    weights = recurrent_weights(parameters, config.layers)
    layers, *carried = advance(gates, state.reads.flatten(-2), state.hidden.unbind(0), state.cell.unbind(0), weights)
    units = torch.cat(layers, -1)
    recurrent = config.controller == "lstm"
    hidden, cell = (torch.stack(each) for each in carried) if recurrent else (state.hidden, state.cell)
    interface = squashed(linear(units, parameters["interface_weight"], parameters["interface_bias"]), config)

    # (b), (c): usage, from the weights of the step before
    kept = retention(interface.free_gates, state.read_weights)
    written = state.write_weights.detach() if config.detach_usage else state.write_weights
    used = usage(state.usage, written, kept)

    # (d), (e): where to write, from the memory as it was
    gate, share = interface.write_gates, interface.allocation_gates
    free = allocate_heads(used, gate * share, map=None if config.allocation == SORTED else config.allocation)
    found = content(
        state.memory, interface.write_keys, interface.write_strengths, map=config.map, masks=interface.write_masks
    ).weights
    share = share.unsqueeze(-1)
    write_weights = gate.unsqueeze(-1) * (share * free + (1 - share) * found)

    # (f): the write
    memory = state.memory * kept.unsqueeze(-1) if config.deallocate else state.memory
    memory = write(memory, write_weights, interface.erase, interface.write_vectors)

    # (h), (g), (i): links with the precedence as it was, then precedence, then a step along the links
    links, order = state.links, state.precedence
    nowhere = state.read_weights.new_zeros(*state.read_weights.shape[:-1], 0, config.slots)
    along = Directions(nowhere, nowhere)
    if config.links != "none":
        if isinstance(links, SparseLinks):
            links = sparse_link(links, order, write_weights)
            along = sparse_directional(links, state.read_weights)
        else:
            links = link(links, order, write_weights)
            along = directional(links, state.read_weights)
        order = precedence(order, write_weights)
    if interface.forward_sharpness is not None and interface.backward_sharpness is not None:
        along = Directions(
            forward=sharpen_direction(along.forward, interface.forward_sharpness),
            backward=sharpen_direction(along.backward, interface.backward_sharpness),
        )

    # (j), (k): reads of the memory as it is now
    looked_up = content(
        memory, interface.read_keys, interface.read_strengths, map=config.map, masks=interface.read_masks
    ).weights
    ways = torch.cat([along.backward, looked_up.unsqueeze(-2), along.forward], -2)
    read_weights = (interface.read_modes.unsqueeze(-1) * ways).sum(-2)
    reads = read(memory, read_weights)

    stages = {name: getattr(interface, name) for name in DNCTrace._fields if name in Interface._fields} | {
        "retention": kept,
        "usage": used,
        "allocation": free,
        "write_content": found,
        "write_weights": write_weights,
        "memory": memory,
        "precedence": order,
        "forward": along.forward,
        "backward": along.backward,
        "read_content": looked_up,
        "read_weights": read_weights,
        "reads": reads,
    }
    return units, stages, DNCState(memory, used, order, links, read_weights, write_weights, reads, hidden, cell)


def _each(function: Callable[..., Tensor], *states: DNCState) -> DNCState:
    """A state whose fields are what `function(name, *fields)` makes of those of the states."""
    made: dict[str, Tensor | SparseLinks] = {}
    for name, fields in zip(DNCState._fields, zip(*states, strict=True), strict=True):
        if isinstance(fields[0], SparseLinks):
            made[name] = SparseLinks(*(function(name, *each) for each in zip(*fields, strict=True)))
        else:
            made[name] = function(name, *fields)
    return DNCState(**made)  # type: ignore[arg-type]


def _where(alive: Tensor, after: DNCState, before: DNCState) -> DNCState:
    """For each sequence (B,) the one state or the other."""

    def choose(name: str, new: Tensor, old: Tensor) -> Tensor:
        shape = [1] * new.dim()
        shape[1 if name in ("hidden", "cell") else 0] = -1
        return torch.where(alive.reshape(shape), new, old)

    return _each(choose, after, before)


def _check_state(state: object, start: DNCState) -> None:
    check_kind(state, start)
    for name, wanted in start._asdict().items():
        given = getattr(state, name)
        if type(given) is not type(wanted):
            got, kind = type(given).__name__, type(wanted).__name__
            raise InputError(f"{name!r} of the state must be {kind}. Got {got}. Use net.initial_state(batch).")
        for one, other in zip(_tensors(given), _tensors(wanted), strict=True):
            check_like(name, one, other)


def _tensors(value: Tensor | SparseLinks) -> tuple[Tensor, ...]:
    return (value.values, value.indices) if isinstance(value, SparseLinks) else (value,)

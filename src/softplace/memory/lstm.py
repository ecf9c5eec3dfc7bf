"""The LSTM without a memory that the machines are measured against, with the same interface.

Axis legend: T time, B batch, I inputs, O outputs, H hidden units, L layers.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from softplace.memory.controller import (
    add_controller,
    alive,
    check_sizes,
    check_state,
    checked_lengths,
    drawn,
    full_precision,
    lstm_cell,
    time_first,
    weights_of,
)


class LSTMState(NamedTuple):
    """What an LSTM carries from one step to the next."""

    hidden: Tensor
    """(L, B, H)"""
    cell: Tensor
    """(L, B, H)"""

    def detach(self) -> "LSTMState":
        """The same numbers without their past: for backpropagation through time that is cut here."""
        return LSTMState(*(each.detach() for each in self))


class LSTMBaseline(nn.Module):
    """A stack of LSTM layers, each of which sees the input and the layer below; the outputs see all layers.

    The controller of `NTM` and `DNC` without reads, with its parameters and their names. Unlike `torch.nn.LSTM` it goes
    through `torch.vmap`, its first state is learned, and its layers have skip connections as those of Graves 2013
    (arXiv:1308.0850, section 2), whose LSTM the machines' papers compare with.

    Args:
        input_size: I.
        output_size: O.
        hidden_size: H, hidden units of each layer.
        layers: L.
        batch_first: Inputs and outputs are (B, T, ...), not (T, B, ...). The state's axes stay as they are.
        device: Where the parameters lie.
        dtype: Of the parameters.

    Raises:
        InputError: A size below 1.

    >>> net = LSTMBaseline(3, 2, layers=2)
    >>> outputs, state = net(torch.zeros(5, 1, 3))
    >>> outputs.shape, state.hidden.shape
    (torch.Size([5, 1, 2]), torch.Size([2, 1, 100]))
    """

    input_weight: nn.Parameter
    input_bias: nn.Parameter

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        hidden_size: int = 100,
        layers: int = 1,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes("LSTMBaseline", input_size=input_size, output_size=output_size)
        check_sizes("LSTMBaseline", hidden_size=hidden_size, layers=layers)
        self.input_size, self.output_size, self.batch_first = input_size, output_size, batch_first
        self.hidden_size, self.layers = hidden_size, layers
        add_controller(self, "lstm", input_size, hidden_size, layers, 0, device, dtype)
        units = layers * hidden_size
        self.output_weight = nn.Parameter(drawn(output_size, units, units, device, dtype))
        self.output_bias = nn.Parameter(torch.zeros(output_size, device=device, dtype=dtype))
        self.initial_hidden = nn.Parameter(torch.zeros(layers, hidden_size, device=device, dtype=dtype))
        self.initial_cell = nn.Parameter(torch.zeros(layers, hidden_size, device=device, dtype=dtype))

    def initial_state(self, batch: int) -> LSTMState:
        """The state before the first step, the same for every sequence.

        Args:
            batch: B.
        """
        return LSTMState(
            *(each.unsqueeze(1).expand(-1, batch, -1) for each in (self.initial_hidden, self.initial_cell))
        )

    def forward(
        self, inputs: Tensor, state: LSTMState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, LSTMState]:
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
        inputs = time_first(inputs, self.output_bias, self.input_size, self.batch_first)
        start = self.initial_state(inputs.shape[1])
        if state is not None:
            check_state(state, start)
        lengths = checked_lengths(lengths, inputs)
        with full_precision(inputs):
            outputs, state = lstm(
                inputs, start if state is None else state, weights_of(self, self.layers), lengths=lengths
            )
        return outputs.transpose(0, 1) if self.batch_first else outputs, state

    def extra_repr(self) -> str:
        """What `print(net)` says."""
        return f"{self.input_size}, {self.output_size}, hidden_size={self.hidden_size}, layers={self.layers}"


def lstm(
    inputs: Tensor, state: LSTMState, parameters: Mapping[str, Tensor], *, lengths: Tensor | None = None
) -> tuple[Tensor, LSTMState]:
    """What `LSTMBaseline` computes, as a function of its parameters.

    A layer runs through the whole sequence before the next one begins, so that the loop has one small product only.

    Args:
        inputs: (T, B, I).
        state: Before the first step; `LSTMBaseline.initial_state` gives one.
        parameters: By the names of `LSTMBaseline.named_parameters`; those that begin with `initial_` are not needed.
        lengths: (B,) whole numbers from 0 to T, or None for T.

    Returns:
        Outputs (T, B, O), zero in padding, and the state at each sequence's length.
    """
    size, layers = state.hidden.shape[-1], len(state.hidden)
    pre = linear(inputs, parameters["input_weight"], parameters["input_bias"]).chunk(layers, -1)
    taking = None if lengths is None else alive(lengths, len(inputs)).unbind(0)
    units: list[Tensor] = []
    last: list[tuple[Tensor, Tensor]] = []
    for layer in range(layers):
        weight = parameters[f"recurrent_weight_{layer}"]
        gates = pre[layer] if layer == 0 else pre[layer] + linear(units[-1], weight[:, size:])
        own = weight[:, :size].t()
        hidden, cell = state.hidden[layer], state.cell[layer]
        over_time = []
        for time, each in enumerate(gates.unbind(0)):
            new_hidden, new_cell = lstm_cell(torch.addmm(each, hidden, own), cell)
            if taking is not None:
                new_hidden, new_cell = (
                    torch.where(taking[time], *pair) for pair in ((new_hidden, hidden), (new_cell, cell))
                )
            hidden, cell = new_hidden, new_cell
            over_time.append(hidden)
        units.append(torch.stack(over_time) if over_time else inputs.new_zeros(0, inputs.shape[1], size))
        last.append((hidden, cell))
    outputs = linear(torch.cat(units, -1), parameters["output_weight"], parameters["output_bias"])
    if lengths is not None:
        outputs = torch.where(alive(lengths, len(inputs)), outputs, 0.0)
    return outputs, LSTMState(*(torch.stack(each) for each in zip(*last, strict=True)))

"""The Neural Turing Machine as slow float64 loops over the paper's equations: the truth in tests.

One sequence after another, one head and one slot after another, in the order of Graves et al. 2014 (arXiv:1410.5401);
nothing is shared with `ntm.py` and `addressing.py` but the map of the look-up, the configuration and the state record.

Axis legend: T time, B batch, I inputs, O outputs, N slots, M width, H hidden units, L layers, R read heads, W write
heads, K heads (reads first), S shifts.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from softplace import maps
from softplace.memory.ntm import NTMConfig, NTMState

Vectors = list[Tensor]

EPSILON = 1e-6  # beside the squares of the norms in eq. 6, where the paper has nothing


def reference_ntm(
    inputs: Tensor, state: NTMState, parameters: Mapping[str, Tensor], config: NTMConfig
) -> tuple[Tensor, NTMState]:
    """Outputs (T, B, O) and last state for inputs (T, B, I), T and B at least 1; float64, differentiable."""
    sequences = [
        _sequence(inputs[:, index], [each[index] for each in _batch_first(state)], parameters, config)
        for index in range(inputs.shape[1])
    ]
    outputs = torch.stack([outputs for outputs, _ in sequences], dim=1)
    last = _batch_first(NTMState(*(torch.stack(field) for field in zip(*(last for _, last in sequences), strict=True))))
    return outputs, last


def _batch_first(state: NTMState) -> NTMState:
    """Hidden units and cells with the batch before the layers, or the other way round."""
    return state._replace(hidden=state.hidden.transpose(0, 1), cell=state.cell.transpose(0, 1))


def _sequence(
    inputs: Tensor, start: list[Tensor], parameters: Mapping[str, Tensor], config: NTMConfig
) -> tuple[Tensor, tuple[Tensor, ...]]:
    memory, weights, reads = (list(each) for each in start[:3])
    hidden, cell = list(start[3]), list(start[4])
    outputs = []
    for step_input in inputs:
        units, cell = _controller(step_input, reads, hidden, cell, parameters, config)
        hidden = units if config.controller == "lstm" else hidden
        heads = _heads(parameters["interface_weight"] @ torch.cat(units) + parameters["interface_bias"], config)
        readers, writers = range(config.read_heads), range(config.read_heads, len(heads))
        if config.order == "write-read":
            for head in writers:
                weights[head] = _address(memory, weights[head], heads[head], config)
            memory = _write(memory, [weights[head] for head in writers], [heads[head] for head in writers])
            for head in readers:
                weights[head] = _address(memory, weights[head], heads[head], config)
            reads = [_read(memory, weights[head]) for head in readers]
        else:
            for head in range(len(heads)):
                weights[head] = _address(memory, weights[head], heads[head], config)
            reads = [_read(memory, weights[head]) for head in readers]
            memory = _write(memory, [weights[head] for head in writers], [heads[head] for head in writers])
        outputs.append(parameters["output_weight"] @ torch.cat([*units, *reads]) + parameters["output_bias"])
    kept = (torch.stack(hidden), torch.stack(cell)) if config.controller == "lstm" else (start[3], start[4])
    return torch.stack(outputs), (torch.stack(memory), torch.stack(weights), torch.stack(reads), *kept)


def _controller(
    step_input: Tensor,
    reads: Vectors,
    hidden: Vectors,
    cell: Vectors,
    parameters: Mapping[str, Tensor],
    config: NTMConfig,
) -> tuple[Vectors, Vectors]:
    """Units and cells of each layer, which sees [x_t; r_{t-1}; h^l_{t-1}; h^{l-1}_t]."""
    units: Vectors = []
    cells: Vectors = []
    rows = config.hidden_size * (4 if config.controller == "lstm" else 1)
    for layer in range(config.layers):
        into = parameters["input_weight"][layer * rows : (layer + 1) * rows]
        bias = parameters["input_bias"][layer * rows : (layer + 1) * rows]
        seen = [*reads]
        if config.controller == "lstm":
            seen.append(hidden[layer])
        if layer > 0:
            seen.append(units[layer - 1])
        total = into @ step_input + bias + parameters[f"recurrent_weight_{layer}"] @ torch.cat(seen)
        if config.controller == "feedforward":
            units.append(torch.tanh(total))
            continue
        size = config.hidden_size
        entrance, forget = torch.sigmoid(total[:size]), torch.sigmoid(total[size : 2 * size])
        candidate, leave = torch.tanh(total[2 * size : 3 * size]), torch.sigmoid(total[3 * size :])
        cells.append(forget * cell[layer] + entrance * candidate)
        units.append(leave * torch.tanh(cells[layer]))
    return units, cells


def _heads(raw: Tensor, config: NTMConfig) -> list[dict[str, Tensor]]:
    """What the controller says to each head: k, beta, g, s, gamma of eq. 5 to 9, and to write heads e and a."""
    position = 0
    heads: list[dict[str, Tensor]] = [{} for _ in range(config.read_heads + config.write_heads)]

    def softplus(value: Tensor) -> Tensor:
        return torch.log(1 + torch.exp(value))

    squash: dict[str, Callable[[Tensor], Tensor]] = {
        "key": lambda value: value,
        "strength": lambda value: softplus(value[0]),
        "gate": lambda value: 1 / (1 + torch.exp(-value[0])),
        "shifts": lambda value: torch.exp(value) / torch.exp(value).sum(),
        "sharpness": lambda value: 1 + softplus(value[0]),
        "erase": lambda value: 1 / (1 + torch.exp(-value)),
        "add": lambda value: value,
    }
    sizes = {"key": config.width, "shifts": 2 * config.shift_range + 1, "erase": config.width, "add": config.width}
    for name, function in squash.items():
        size = sizes.get(name, 1)
        for head in heads[config.read_heads :] if name in ("erase", "add") else heads:
            head[name] = function(raw[position : position + size])
            position += size
    assert position == len(raw)
    return heads


def _address(memory: Vectors, previous: Tensor, head: dict[str, Tensor], config: NTMConfig) -> Tensor:
    """Eq. 5 to 9."""
    slots, reach = len(memory), config.shift_range
    # eq. 6
    key_norm = torch.sqrt(_sum_of(list(head["key"] ** 2)) + EPSILON)
    scores = []
    for row in memory:
        similarity = (head["key"] * row).sum() / (key_norm * torch.sqrt((row * row).sum() + EPSILON))
        scores.append(head["strength"] * similarity)
    # eq. 5
    found = maps.get(config.map)(torch.stack(scores), -1)
    # eq. 7
    gated = [head["gate"] * found[slot] + (1 - head["gate"]) * previous[slot] for slot in range(slots)]
    # eq. 8, s(d) for d from -k to k
    moved = [
        _sum_of([head["shifts"][reach + d] * gated[(slot - d) % slots] for d in range(-reach, reach + 1)])
        for slot in range(slots)
    ]
    # eq. 9
    powers = [each ** head["sharpness"] for each in moved]
    return torch.stack([each / _sum_of(powers) for each in powers])


def _read(memory: Vectors, weights: Tensor) -> Tensor:
    """Eq. 2."""
    return _sum_of([weights[slot] * row for slot, row in enumerate(memory)])


def _write(memory: Vectors, weights: Vectors, heads: list[dict[str, Tensor]]) -> Vectors:
    """Eq. 3 for every head, then eq. 4 for every head."""
    written = []
    for slot, row in enumerate(memory):
        for each, head in zip(weights, heads, strict=True):
            row = row * (1 - each[slot] * head["erase"])
        for each, head in zip(weights, heads, strict=True):
            row = row + each[slot] * head["add"]
        written.append(row)
    return written


def _sum_of(values: Vectors) -> Tensor:
    """The sum of tensors, one after another."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total

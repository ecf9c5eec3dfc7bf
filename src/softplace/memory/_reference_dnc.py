"""The Differentiable Neural Computer as slow float64 loops over the paper's equations: the truth in tests.

One sequence after another, one slot and one head after another, in the order of Graves et al. 2016 (Nature 538:471),
Methods; nothing is shared with `dnc.py` but the map of the content look-up, the configuration and the state record.
Equation letters are those of the comments below.

Axis legend: T time, B batch, I inputs, O outputs, N slots, M width, H hidden units, L layers, R read heads, W write
heads.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from softplace import maps
from softplace.memory.dnc import DNCState
from softplace.memory.dnc_interface import DNCConfig

Vectors = list[Tensor]

EPSILON = 1e-6  # under the roots of the norms of a content look-up, and beside a direction before it is sharpened


def reference_dnc(
    inputs: Tensor, state: DNCState, parameters: Mapping[str, Tensor], config: DNCConfig
) -> tuple[Tensor, DNCState]:
    """Outputs (T, B, O) and last state for inputs (T, B, I), links "dense" or "none"; float64, differentiable."""
    sequences = [
        _sequence(inputs[:, index], DNCState(*(each[index] for each in _batch_first(state))), parameters, config)
        for index in range(inputs.shape[1])
    ]
    outputs = torch.stack([each for each, _ in sequences], dim=1)
    last = DNCState(*(torch.stack(field) for field in zip(*(each for _, each in sequences), strict=True)))
    return outputs, last._replace(hidden=last.hidden.transpose(0, 1), cell=last.cell.transpose(0, 1))


def _batch_first(state: DNCState) -> list[Tensor]:
    assert isinstance(state.links, Tensor)
    moved = state._replace(hidden=state.hidden.transpose(0, 1), cell=state.cell.transpose(0, 1))
    return [each for each in moved if isinstance(each, Tensor)]


def _sequence(
    inputs: Tensor, state: DNCState, parameters: Mapping[str, Tensor], config: DNCConfig
) -> tuple[Tensor, DNCState]:
    outputs = []
    for step_input in inputs:
        hidden, cell = _controller(step_input, state, parameters, config)
        interface = _interface(
            parameters["interface_weight"] @ torch.cat(hidden) + parameters["interface_bias"], config
        )
        state = _memory(interface, state, config)
        state = state._replace(hidden=torch.stack(hidden) if cell else state.hidden)
        state = state._replace(cell=torch.stack(cell) if cell else state.cell)
        # y_t = W_y [h^1 .. h^L] + W_r [r^1 .. r^R]
        outputs.append(
            parameters["output_weight"] @ torch.cat([*hidden, state.reads.flatten()]) + parameters["output_bias"]
        )
    return torch.stack(outputs), state


def _controller(
    step_input: Tensor, state: DNCState, parameters: Mapping[str, Tensor], config: DNCConfig
) -> tuple[Vectors, Vectors]:
    """Hidden and cell vectors of each layer; chi_t = [x_t; r_{t-1}], then h^l_{t-1}, then h^{l-1}_t."""
    hidden: Vectors = []
    cell: Vectors = []
    rows = parameters["recurrent_weight_0"].shape[0]
    for layer in range(config.layers):
        own = slice(layer * rows, (layer + 1) * rows)
        seen = [state.reads.flatten()]
        if config.controller == "lstm":
            seen.append(state.hidden[layer])
        if layer > 0:
            seen.append(hidden[layer - 1])
        total = (
            parameters["input_weight"][own] @ step_input
            + parameters["input_bias"][own]
            + parameters[f"recurrent_weight_{layer}"] @ torch.cat(seen)
        )
        if config.controller == "feedforward":
            hidden.append(torch.tanh(total))
            continue
        entrance, forget, candidate, exit_gate = total.chunk(4)
        cell.append(
            torch.sigmoid(forget) * state.cell[layer] + torch.sigmoid(entrance) * torch.tanh(candidate),
        )
        hidden.append(torch.sigmoid(exit_gate) * torch.tanh(cell[layer]))
    return hidden, cell


def _interface(raw: Tensor, config: DNCConfig) -> dict[str, list[Tensor]]:
    """The parts of the interface vector, by name, one entry per head, after their squashing functions."""
    reads, writes, width = config.read_heads, config.write_heads, config.width
    position = 0

    def take(heads: int, size: int) -> Vectors:
        nonlocal position
        found = [raw[position + head * size : position + (head + 1) * size] for head in range(heads)]
        position += heads * size
        return found

    def oneplus(value: Tensor) -> Tensor:
        return 1 + torch.log1p(torch.exp(value))

    parts: dict[str, Vectors] = {
        "read key": take(reads, width),
        "read strength": [oneplus(each[0]) for each in take(reads, 1)],
        "write key": take(writes, width),
        "write strength": [oneplus(each[0]) for each in take(writes, 1)],
        "erase": [torch.sigmoid(each) for each in take(writes, width)],
        "write vector": take(writes, width),
        "free gate": [torch.sigmoid(each[0]) for each in take(reads, 1)],
        "allocation gate": [torch.sigmoid(each[0]) for each in take(writes, 1)],
        "write gate": [torch.sigmoid(each[0]) for each in take(writes, 1)],
        "read mode": [raw.new_ones(1)] * reads,
    }
    if config.links != "none":
        parts["read mode"] = [torch.exp(each) / torch.exp(each).sum() for each in take(reads, 1 + 2 * writes)]
    if config.masked:
        parts["read mask"] = [0.1 + 0.9 * torch.sigmoid(each) for each in take(reads, width)]
        parts["write mask"] = [0.1 + 0.9 * torch.sigmoid(each) for each in take(writes, width)]
    if config.sharpened:
        parts["forward sharpness"] = [oneplus(each) for each in take(reads, writes)]
        parts["backward sharpness"] = [oneplus(each) for each in take(reads, writes)]
    assert position == raw.shape[0]
    return parts


def _content(memory: Tensor, key: Tensor, strength: Tensor, mask: Tensor | None, config: DNCConfig) -> Tensor:
    """(a) C(M, k, beta)[i] = softmax_i(beta cos(k, M[i])); masked: cos(k o m, M[i] o m)."""
    factor = torch.ones_like(key) if mask is None else mask
    scores = []
    for row in memory:
        dot = (row * factor * key * factor).sum()
        norms = torch.sqrt(((key * factor) ** 2).sum() + EPSILON) * torch.sqrt(((row * factor) ** 2).sum() + EPSILON)
        scores.append(strength * dot / norms)
    return maps.get(config.map)(torch.stack(scores), -1)


def _allocation(usage: Tensor, config: DNCConfig) -> Tensor:
    """(d) phi = argsort ascending u, a[phi[j]] = (1 - u[phi[j]]) prod_{i<j} u[phi[i]]."""
    if config.allocation != "sorted":
        return maps.get(config.allocation)(1 - usage, -1)
    order = sorted(range(usage.shape[0]), key=lambda slot: usage[slot].item())
    weights: Vectors = [usage.new_zeros(())] * usage.shape[0]
    left = usage.new_ones(())
    for slot in order:
        weights[slot] = (1 - usage[slot]) * left
        left = left * usage[slot]
    return torch.stack(weights)


def _memory(parts: dict[str, Vectors], state: DNCState, config: DNCConfig) -> DNCState:
    slots, width = state.memory.shape
    reads, writes = range(config.read_heads), range(config.write_heads)
    memory = state.memory

    # (b) psi = prod_i (1 - f^i w^{r,i}_{t-1}); (c) u_t = (u + w^w - u o w^w) o psi, w^w = 1 - prod_h (1 - w_h)
    past = state.write_weights.detach() if config.detach_usage else state.write_weights
    kept: Vectors = []
    used: Vectors = []
    for slot in range(slots):
        psi = memory.new_ones(())
        for head in reads:
            psi = psi * (1 - parts["free gate"][head] * state.read_weights[head, slot])
        unwritten = memory.new_ones(())
        for head in writes:
            unwritten = unwritten * (1 - past[head, slot])
        written = 1 - unwritten
        kept.append(psi)
        used.append((state.usage[slot] + written - state.usage[slot] * written) * psi)
    usage = torch.stack(used)

    # (e) c^w = C(M_{t-1}, k^w, beta^w); w^w = g^w [g^a a + (1 - g^a) c^w]
    write_weights: Vectors = []
    simulated = usage
    for head in writes:
        gate, share = parts["write gate"][head], parts["allocation gate"][head]
        allocation = _allocation(simulated, config)
        simulated = simulated + (1 - simulated) * gate * share * allocation
        mask = parts["write mask"][head] if config.masked else None
        content = _content(memory, parts["write key"][head], parts["write strength"][head], mask, config)
        write_weights.append(gate * (share * allocation + (1 - share) * content))

    # (f) M_t = M_{t-1} o (E - w e^T) + w v^T, all heads erasing before any adds; de-allocation: M_{t-1} o psi 1^T
    rows: Vectors = []
    for slot in range(slots):
        row = memory[slot] * (kept[slot] if config.deallocate else 1)
        for head in writes:
            row = row * (1 - write_weights[head][slot] * parts["erase"][head])
        for head in writes:
            row = row + write_weights[head][slot] * parts["write vector"][head]
        rows.append(row)
    memory = torch.stack(rows).reshape(slots, width)

    links, precedence = state.links, state.precedence
    assert isinstance(links, Tensor)
    if config.links != "none":
        links = torch.stack([_link(links[head], precedence[head], write_weights[head]) for head in writes])
        # (g) p_t = (1 - sum_i w[i]) p_{t-1} + w
        precedence = torch.stack(
            [(1 - write_weights[head].sum()) * precedence[head] + write_weights[head] for head in writes]
        )

    # (j) c^{r,i} = C(M_t, k^{r,i}, beta^{r,i}); w^{r,i} = pi[1] b + pi[2] c + pi[3] f; (k) r^i = M_t^T w^{r,i}
    read_weights: Vectors = []
    for head in reads:
        mask = parts["read mask"][head] if config.masked else None
        content = _content(memory, parts["read key"][head], parts["read strength"][head], mask, config)
        modes = parts["read mode"][head]
        if config.links == "none":
            read_weights.append(modes[0] * content)
            continue
        weights = modes[config.write_heads] * content
        for writer in writes:
            # (i) f = L_t w^{r,i}_{t-1}, b = L_t^T w^{r,i}_{t-1}
            forward = links[writer] @ state.read_weights[head]
            backward = links[writer].T @ state.read_weights[head]
            if config.sharpened:
                forward = _sharpen(forward, parts["forward sharpness"][head][writer])
                backward = _sharpen(backward, parts["backward sharpness"][head][writer])
            weights = weights + modes[writer] * backward + modes[config.write_heads + 1 + writer] * forward
        read_weights.append(weights)
    stacked = torch.stack(read_weights)
    return state._replace(
        memory=memory,
        usage=usage,
        precedence=precedence,
        links=links,
        read_weights=stacked,
        write_weights=torch.stack(write_weights),
        reads=torch.stack([memory.T @ weights for weights in read_weights]),
    )


def _link(links: Tensor, precedence: Tensor, write: Tensor) -> Tensor:
    """(h) L_t[i, j] = (1 - w[i] - w[j]) L_{t-1}[i, j] + w[i] p_{t-1}[j], L_t[i, i] = 0."""
    slots = range(write.shape[0])
    zero = write.new_zeros(())
    return torch.stack(
        [
            torch.stack(
                [zero if i == j else (1 - write[i] - write[j]) * links[i, j] + write[i] * precedence[j] for j in slots]
            )
            for i in slots
        ]
    )


def _sharpen(direction: Tensor, sharpness: Tensor) -> Tensor:
    """((d + o) / max(d + o))^s, normalised."""
    shifted = direction + EPSILON
    powers = (shifted / shifted.max()) ** sharpness
    return powers / powers.sum()

"""A trained machine's trace as a figure to step through: what it saw, said, and where its heads were.

Axes: T time, B batch, I inputs, O outputs, N slots, M width, R read heads, W write heads, K heads (reads first).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from softplace.errors import InputError
from softplace.memory.tasks.task import Episode
from softplace.report.records import Axis, Figure

MOST_STEPS = 240
"""The most steps that are drawn."""
MOST_CHANNELS = 40
"""The most channels of an input or output that are drawn."""
MOST_NUMBERS = 65_000
"""The memory is drawn only where the whole figure then has no more: about 130 kB of the page."""
SMALL = 0.01
FEWEST_SLOTS = 8


class _Panel(NamedTuple):
    """A panel over time, (T, rows), or a matrix at every step, (T, rows, M), and what its rows are called."""

    name: str
    values: Tensor
    rows: Sequence[int | str]


def steps_figure(
    traces: object,
    episode: Episode,
    *,
    key: str = "steps",
    title: str = "The machine at work, step by step",
    caption: str | None = None,
    item: int = 0,
    series: str = "map",
    slots: int = 64,
    memory: bool | None = None,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> Figure:
    """The figure of kind "steps" of one sequence: inputs, targets, outputs, weights of every head, gates, memory.

    Outputs are shown as probabilities, targets only where they count. What is left out is said in the caption: slots
    that no head of any trace gives weight (those of the largest weights stay, at least eight and at most `slots`),
    channels beyond 40, steps beyond 240. Slots, channels and steps are counted from 1.

    Args:
        traces: What `net.trace` gives for `episode`, or a mapping of such by the name of their arm. Of an `NTMTrace`
            the figure reads `weights`, `gates`, `erase` (how many heads write), `memory` and `outputs`; of a `DNCTrace`
            `usage`, the weights, the gates, `read_modes`, `memory` and `outputs`. A record with these will do.
        episode: What the machines ran on.
        key, title, caption: Of the figure; a caption is followed by what was left out.
        item: Which sequence of the batch.
        series: What the names of `traces` are: "map", "arm".
        slots: The most slots that are shown.
        memory: Whether the memory after each step is shown; None: where the figure stays small (65,000 numbers).
        activation: Outputs (T, O) -> what is shown. None: softmax where the targets are indices, else sigmoid.

    Raises:
        InputError: No trace, no such item, or a trace of another length than the episode.
    """
    arms: dict[str, Any] = dict(traces) if isinstance(traces, Mapping) else {"": traces}
    _check(arms, episode, item, slots)
    length = int(episode.lengths[item])
    steps = min(length, MOST_STEPS)
    heads = {name: dict(_heads(trace, item, steps)) for name, trace in arms.items()}
    weights = [each for some in heads.values() for each in some.values()]
    total, shown = max(each.shape[-1] for each in weights), _kept(weights, slots)
    inputs, targets = _take(episode.inputs, item, steps), _targets(episode, item, steps, arms)
    answers = {name: _answers(trace, episode, item, steps, activation) for name, trace in arms.items()}
    seen, said = _used(inputs), _used(targets, *answers.values())
    panels = {
        name: [
            _channels("input", inputs, seen),
            _channels("target", targets, said),
            _channels("output", answers[name], said),
            *(_slots(head, each, shown) for head, each in heads[name].items()),
            *_inside(trace, item, steps, shown),
        ]
        for name, trace in arms.items()
    }
    matrices = {name: _slots("memory", _take(trace.memory, item, steps), shown) for name, trace in arms.items()}
    numbers = sum(each.values.numel() for some in panels.values() for each in some)
    numbers += sum(each.values.numel() for each in matrices.values())
    if whole := numbers <= MOST_NUMBERS if memory is None else memory:
        panels = {name: [*some, matrices[name]] for name, some in panels.items()}
    named = {name: {series: name} if isinstance(traces, Mapping) else {} for name in arms}
    left = max(inputs.shape[1] - len(seen), targets.shape[1] - len(said))
    notes = [
        "Every panel is at the same step; slots, channels and steps are counted from 1."
        if caption is None
        else caption,
        f"{total - len(shown):,} of {total:,} slots, those of the least weight, are left out." * (len(shown) < total),
        f"{left:,} channels, those that do least, are left out." * (left > 0),
        f"Only the first {steps} of {length:,} steps are shown." * (steps < length),
        "The memory itself is left out: it would be too much for a page." * (not whole and memory is None),
    ]
    return Figure(
        key=key,
        kind="steps",
        title=title,
        caption=" ".join(filter(None, notes)),
        x=Axis(column="step", label="Step"),
        y=Axis(column="row", label="slot"),
        rows=[row for name, some in panels.items() for panel in some for row in _rows(panel, named[name])],
        series=series if isinstance(traces, Mapping) else None,
        facet="panel",
        highlight=tuple(dict.fromkeys(head for some in heads.values() for head in some)),
    )


def _check(arms: Mapping[str, Any], episode: Episode, item: int, slots: int) -> None:
    if not arms:
        raise InputError("'traces' must be a trace, or one or more by name. Got none. Run net.trace(episode.inputs).")
    length, batch = episode.inputs.shape[:2]
    if not 0 <= item < batch:
        raise InputError(f"'item' must be from 0 to {batch - 1}, a sequence of the episode. Got {item}.")
    if slots < 1:
        raise InputError(f"'slots' must be 1 or more. Got {slots}. Leave it out for 64.")
    for name, trace in arms.items():
        got = tuple(trace.outputs.shape[:2])
        if got[0] != length or got[1] <= item:
            raise InputError(
                f"'traces' must be of this episode, (T, B) = {(length, batch)}. "
                f"Got {got}{f' for {name!r}' * bool(name)}. Run net.trace(episode.inputs)."
            )


def _take(values: Tensor, item: int, steps: int) -> Tensor:
    """(T, B, ...) -> (steps, ...) of one sequence."""
    return values[:steps, item].detach().float().cpu()


def _heads(trace: Any, item: int, steps: int) -> Iterator[tuple[str, Tensor]]:
    """The weights (T, N) of every head by name, the write heads first."""
    if hasattr(trace, "usage"):  # a DNC's
        write, read = trace.write_weights, trace.read_weights
    else:
        reads = trace.weights.shape[-2] - trace.erase.shape[-2]
        write, read = trace.weights[..., reads:, :], trace.weights[..., :reads, :]
    for what, weights in (("write", _take(write, item, steps)), ("read", _take(read, item, steps))):
        for head in range(weights.shape[-2]):
            yield f"{what} weights{_number(head, weights.shape[-2])}", weights[:, head]


def _number(index: int, count: int) -> str:
    return f" head {index + 1}" if count > 1 else ""


def _kept(weights: Sequence[Tensor], most: int) -> list[int]:
    """The slots that are shown, in their order: those of the largest weight at any step, in any trace."""
    largest = torch.zeros(max(each.shape[-1] for each in weights))
    for each in weights:
        if len(each):
            part = largest[: each.shape[-1]]
            part.copy_(torch.maximum(part, each.amax(0)))
    order = torch.sort(largest, descending=True, stable=True).indices[:most].tolist()
    return sorted(slot for rank, slot in enumerate(order) if rank < FEWEST_SLOTS or float(largest[slot]) >= SMALL)


def _targets(episode: Episode, item: int, steps: int, arms: Mapping[str, Any]) -> Tensor:
    """What was wanted, (T, O); no value where it does not count."""
    targets = _take(episode.targets, item, steps)
    if not episode.targets.is_floating_point():
        classes = max(trace.outputs.shape[-1] for trace in arms.values())
        targets = functional.one_hot(targets.long().clamp(0, classes - 1), classes).float()
    return torch.where(_take(episode.mask, item, steps)[:, None] > 0, targets, torch.nan)


def _answers(
    trace: Any, episode: Episode, item: int, steps: int, activation: Callable[[Tensor], Tensor] | None
) -> Tensor:
    outputs = _take(trace.outputs, item, steps)
    if activation is not None:
        return activation(outputs)
    return outputs.sigmoid() if episode.targets.is_floating_point() else outputs.softmax(-1)


def _used(*values: Tensor) -> list[int]:
    """The channels (T, channels) that are drawn: all, or where they are many those with the largest number."""
    count = max(each.shape[1] for each in values)
    if count <= MOST_CHANNELS:
        return list(range(count))
    largest = torch.cat([each.nan_to_num().abs() for each in values]).amax(0)
    return sorted(torch.sort(largest, descending=True, stable=True).indices[:MOST_CHANNELS].tolist())


def _channels(name: str, values: Tensor, channels: Sequence[int]) -> _Panel:
    return _Panel(name, values[:, channels], [channel + 1 for channel in channels])


def _slots(name: str, values: Tensor, shown: Sequence[int]) -> _Panel:
    kept = [slot for slot in shown if slot < values.shape[1]]
    return _Panel(name, values[:, kept], [slot + 1 for slot in kept])


def _inside(trace: Any, item: int, steps: int, shown: Sequence[int]) -> Iterator[_Panel]:
    """What else there is to a machine over time: an NTM's gates; a DNC's usage, gates and read modes."""
    if not hasattr(trace, "usage"):
        gates = _take(trace.gates, item, steps)  # reads first
        reads = trace.weights.shape[-2] - trace.erase.shape[-2]
        parts = {"write": gates[:, reads:], "read": gates[:, :reads]}
        yield _named("content gates", parts)
        return
    yield _slots("usage", _take(trace.usage, item, steps), shown)
    free, modes = _take(trace.free_gates, item, steps), _take(trace.read_modes, item, steps)
    parts = {
        "write": _take(trace.write_gates, item, steps),
        "allocation": _take(trace.allocation_gates, item, steps),
        "free": free,
    }
    yield _named("gates", parts)
    if modes.shape[-1] > 1:  # else all is by content
        heads = (modes.shape[-1] - 1) // 2
        parts = {
            "backward": modes[..., :heads].sum(-1),
            "content": modes[..., heads],
            "forward": modes[..., heads + 1 :].sum(-1),
        }
        yield _named("read modes", parts)


def _named(name: str, parts: Mapping[str, Tensor]) -> _Panel:
    """Gates (T, heads) by what they are of, as rows with names."""
    rows = [
        f"{what}{f' {head + 1}' * (each.shape[1] > 1)}" for what, each in parts.items() for head in range(each.shape[1])
    ]
    return _Panel(name, torch.cat(list(parts.values()), 1), rows)


def _rows(panel: _Panel, arm: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    values = panel.values.tolist()
    for index, row in enumerate(panel.rows):
        for step, column in enumerate(values):
            yield {**arm, "panel": panel.name, "row": row, "step": step + 1, "value": column[index]}

"""A whole sequence of a controller with a memory as one operator, where its C++ kernel takes it.

Axis legend: S members, T time, B batch, H hidden units, L layers, G gate rows of a layer, P interface, Q columns of a
layer's recurrent matrix, D the rest of a field of the state.

The kernel takes float32 on a CPU. It leaves a tape for the backward pass, which gives the gradients of the sums in the
controller and in the interface; those of the matrices are matrix products over the whole sequence. There are no second
derivatives and no forward mode: what needs them takes the plain path.
"""

import ctypes
import math
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from softplace import _compiler, maps
from softplace.errors import InputError
from softplace.maps import Map
from softplace.memory.hard import straight_through_hardmax

if TYPE_CHECKING:
    from softplace.memory.dnc import DNCState
    from softplace.memory.dnc_interface import DNCConfig
    from softplace.memory.ntm import NTMConfig, NTMState

_HERE = Path(__file__).parent
_SOURCES = (
    _HERE.parent / "maps" / "_vector.h",
    *(_HERE / name for name in ("_machine.h", "_job.h", "_ntm.h", "_dnc.h", "_sequence.cpp")),
)
_MAPS = ("softmax", "sparsemax", "entmax15", "sigmoid_normalised", "relu_normalised", "uniform", "hardmax")
_MOST_LAYERS, _MOST_WIDTH, _FIELDS = 8, 4096, 9
_SIZES = ("slots", "width", "reads", "writes", "hidden", "layers", "shifts", "map", "flags")
LSTM, READ_FIRST, MASKED, DEALLOCATE, DETACHED, LINKED, SHARPENED = (1 << bit for bit in range(7))
"""Flags, as `enum Flag` in `_job.h`."""
_POINTERS = ctypes.c_void_p * _FIELDS


class _Job(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("members", "steps", "batch", *_SIZES, "threads", "kept")),
        ("lengths", ctypes.c_void_p),
        ("pre", ctypes.c_void_p),
        ("recurrent", ctypes.c_void_p * _MOST_LAYERS),
        ("interface_weight", ctypes.c_void_p),
        ("interface_bias", ctypes.c_void_p),
        ("state", _POINTERS),
        ("hidden_out", ctypes.c_void_p),
        ("reads_out", ctypes.c_void_p),
        ("state_out", _POINTERS),
        ("tape", ctypes.c_void_p),
        ("dhidden_out", ctypes.c_void_p),
        ("dreads_out", ctypes.c_void_p),
        ("dstate_out", _POINTERS),
        ("dpre", ctypes.c_void_p),
        ("dinterface", ctypes.c_void_p),
        ("seen", ctypes.c_void_p * _MOST_LAYERS),
        ("dstate", _POINTERS),
    )


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernel, or `None` where it cannot be had."""
    loaded = _compiler.library(_SOURCES, "memories")
    if loaded is not None:
        for name in ("softplace_tape", "softplace_sequence", "softplace_unsequence"):
            getattr(loaded, name).argtypes = (ctypes.c_int, ctypes.c_void_p)
        loaded.softplace_tape.restype = ctypes.c_int64
    return loaded


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _available() -> bool:
    return library() is not None


def map_number(map: str | Map) -> int | None:  # noqa: A002 - the word of the field
    """The kernel's number of a map; `None` where it has none."""
    if map is straight_through_hardmax:
        return len(_MAPS)
    return next((number for number, name in enumerate(_MAPS) if map in (name, maps.OWN[name])), None)


def fits(map: str | Map, layers: int, width: int, *tensors: Tensor) -> bool:  # noqa: A002
    """Whether the kernel takes these tensors, outside of transforms that it does not know."""
    return (
        map_number(map) is not None
        and layers <= _MOST_LAYERS
        and width <= _MOST_WIDTH
        and all(each.dtype == torch.float32 and each.is_cpu for each in tensors)
        and tensors[0].numel() > 0
        and torch._C._get_tracing_state() is None
        and not torch.compiler.is_exporting()
        and not torch.utils._python_dispatch.is_in_torch_dispatch_mode()
        and (torch.compiler.is_compiling() or (_only_vmap() and forward_ad._current_level < 0 and not _lazy(tensors)))
        and _available()
    )


def _lazy(tensors: Sequence[Tensor]) -> bool:
    """Whether a tensor's memory holds the negative of its numbers."""
    return any(each.is_neg() for each in tensors)


def _only_vmap() -> bool:
    """Whether no other transform of `torch.func` is active."""
    stack = torch._C._functorch.get_interpreter_stack()
    return stack is None or all(each.key() == torch._C._functorch.TransformType.Vmap for each in stack)


def run(
    machine: int,
    sizes: Sequence[int],
    pre: Tensor,
    lengths: Tensor | None,
    recurrent: Sequence[Tensor],
    interface_weight: Tensor,
    interface_bias: Tensor,
    state: Sequence[Tensor | None],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Hidden units (T, B, L * H), reads (T, B, R * M) and the fields of the last state.

    All tensors may have a leading axis S: then so have the results.

    Args:
        machine: 0 for an NTM, 1 for a DNC.
        sizes: `_SIZES`.
        pre: (T, B, L * G).
        lengths: (B,), or `None`.
        recurrent: (G, Q) for each layer.
        interface_weight: (P, L * H).
        interface_bias: (P,).
        state: Six fields of the memory, `None` for those it has not; then reads (B, R * M), and hidden units and cells
            (L, B, H), empty for a feed-forward controller.
    """
    _check(sizes, pre, lengths, recurrent, interface_weight, interface_bias, state)
    members, batch = pre.shape[:-3], pre.shape[-2]
    rows = (members[0] if members else 1, batch)
    nothing = pre.new_zeros(*rows, 0)
    fields = [nothing if each is None else each for each in state]
    fields[-2:] = [each.transpose(-3, -2) for each in fields[-2:]]
    fields = [each.reshape(*rows, -1).contiguous() for each in fields]

    def given(each: Tensor) -> Tensor:
        return (each if members else each[None]).contiguous()

    pre, weights = given(pre), [given(each) for each in recurrent]
    interface = (given(interface_weight), given(interface_bias))
    tensors = [pre, *weights, *interface, *fields]
    transformed = torch._C._are_functorch_transforms_active()  # then no tensor tells whether it needs a gradient
    keep = torch.is_grad_enabled() and (transformed or any(each.requires_grad for each in tensors))
    first = (machine, list(sizes), keep, pre, None if lengths is None else given(lengths.to(torch.int64)))
    rest: Sequence[Tensor]
    if torch.compiler.is_compiling() or transformed:
        hidden, reads, *rest = _sequence(*first, weights, *interface, fields)
    else:  # as the operator, without its tenth of a millisecond
        hidden, reads, *rest = _Sequence.apply(*first, len(weights), *weights, *interface, *fields)  # type: ignore[no-untyped-call]
    after = []
    for number, (before, made) in enumerate(zip(state, rest[:_FIELDS], strict=True)):
        if before is not None:
            if number < _FIELDS - 2 or before.numel() == 0:
                made = made.reshape(before.shape)
            else:  # cells
                made = made.reshape(*members, batch, before.shape[-3], before.shape[-1]).transpose(-3, -2)
        after.append(made)
    return (hidden, reads, after) if members else (hidden[0], reads[0], after)


def _check(
    sizes: Sequence[int],
    pre: Tensor,
    lengths: Tensor | None,
    recurrent: Sequence[Tensor],
    interface_weight: Tensor,
    interface_bias: Tensor,
    state: Sequence[Tensor | None],
) -> None:
    """Raise `InputError` for a tensor of another shape than the sizes say: the kernel reads where it is told to."""
    slots, width, reads, writes, hidden, layers, _, _, flags = sizes
    members, batch, recurs = tuple(pre.shape[:-3]), pre.shape[-2], bool(flags & LSTM)
    gates, units = hidden * (4 if recurs else 1), layers * hidden
    interface = interface_bias.shape[-1]
    links = slots * slots if flags & LINKED else 0
    heads = (reads + writes) * slots
    dnc = state[2] is not None
    memory = [slots, slots, links, reads * slots, slots] if dnc else [heads]
    cells = units if recurs else 0
    wanted = [slots * width, *memory, reads * width, cells, cells]
    fields, rows = [each for each in state if each is not None], math.prod((*members, batch))
    seen = [reads * width + hidden * (recurs + (layer > 0)) for layer in range(layers)]
    shapes = [
        ("pre", pre.shape[-1:], (layers * gates,)),
        *(("lengths", lengths.shape, (*members, batch)) for lengths in ([] if lengths is None else [lengths])),
        *(("recurrent_weight", w.shape, (*members, gates, own)) for w, own in zip(recurrent, seen, strict=True)),
        ("interface_weight", interface_weight.shape, (*members, interface, units)),
        ("interface_bias", interface_bias.shape, (*members, interface)),
        *(("state", (each.numel(),), (rows * size,)) for each, size in zip(fields, wanted, strict=True)),
    ]
    for name, got, shape in shapes:
        if tuple(got) != tuple(shape):
            raise InputError(
                f"{name!r} must have shape {tuple(shape)} by the config. Got {tuple(got)}. "
                "Use parameters, a state and a config of one net."
            )


Twelve = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def _forward(
    machine: int,
    sizes: list[int],
    keep: bool,
    pre: Tensor,
    lengths: Tensor | None,
    recurrent: list[Tensor],
    interface_weight: Tensor,
    interface_bias: Tensor,
    state: list[Tensor],
) -> Twelve:
    job, made = _prepared(machine, sizes, keep, pre, lengths, recurrent, interface_weight, interface_bias, state)
    _check_memory(_loaded().softplace_sequence(machine, ctypes.byref(job)))
    return made


_sequence = torch.library.custom_op("softplace::memory_sequence", _forward, mutates_args=())


@_sequence.register_fake
def _(
    machine: int,
    sizes: list[int],
    keep: bool,
    pre: Tensor,
    lengths: Tensor | None,
    recurrent: list[Tensor],
    interface_weight: Tensor,
    interface_bias: Tensor,
    state: list[Tensor],
) -> Twelve:
    made = _outputs(sizes, pre, state)
    return (*made, pre.new_empty(_tape_size(machine, sizes, pre, keep)))  # type: ignore[return-value]


def _outputs(sizes: Sequence[int], pre: Tensor, state: Sequence[Tensor]) -> list[Tensor]:
    _, width, reads, _, hidden, layers, *_ = sizes
    rows = pre.shape[:3]
    return [
        pre.new_empty(*rows, layers * hidden),
        pre.new_empty(*rows, reads * width),
        *(torch.empty_like(each, memory_format=torch.contiguous_format) for each in state),
    ]


def _tape_size(machine: int, sizes: Sequence[int], pre: Tensor, keep: bool) -> int:
    """Numbers that a sequence leaves: for the gradient every step, else the last two."""
    members, steps, batch = pre.shape[:3]
    job = _Job(**dict(zip(_SIZES, sizes, strict=True)), batch=1, members=1, steps=steps, threads=1)
    job.kept = _kept(steps, keep)
    return int(members * batch * _loaded().softplace_tape(machine, ctypes.byref(job)))


def _kept(steps: int, keep: bool) -> int:
    return steps + 1 if keep else 2


def _prepared(
    machine: int,
    sizes: Sequence[int],
    keep: bool,
    pre: Tensor,
    lengths: Tensor | None,
    recurrent: Sequence[Tensor],
    interface_weight: Tensor,
    interface_bias: Tensor,
    state: Sequence[Tensor],
) -> tuple[_Job, Twelve]:
    made = _outputs(sizes, pre, state)
    tape = _TAPES.take(_tape_size(machine, sizes, pre, keep))
    job = _job(sizes, pre, lengths, recurrent, interface_weight, interface_bias)
    job.kept = _kept(pre.shape[1], keep)
    job.state = _POINTERS(*(each.data_ptr() for each in state))
    job.hidden_out, job.reads_out, job.tape = made[0].data_ptr(), made[1].data_ptr(), tape.data_ptr()
    job.state_out = _POINTERS(*(each.data_ptr() for each in made[2:]))
    return job, (*made, tape)  # type: ignore[return-value]


def _job(
    sizes: Sequence[int],
    pre: Tensor,
    lengths: Tensor | None,
    recurrent: Sequence[Tensor],
    interface_weight: Tensor,
    interface_bias: Tensor,
) -> _Job:
    members, steps, batch = pre.shape[:3]
    job = _Job(members, steps, batch, *sizes, torch.get_num_threads(), steps + 1)
    job.lengths = None if lengths is None else lengths.data_ptr()
    job.pre = pre.data_ptr()
    for layer, each in enumerate(recurrent):
        job.recurrent[layer] = each.data_ptr()
    job.interface_weight, job.interface_bias = interface_weight.data_ptr(), interface_bias.data_ptr()
    return job


def _backwards(
    machine: int,
    sizes: list[int],
    pre: Tensor,
    lengths: Tensor | None,
    recurrent: list[Tensor],
    interface_weight: Tensor,
    interface_bias: Tensor,
    gradients: list[Tensor],
    tape: Tensor,
) -> list[Tensor]:
    """Gradients of `pre`, of the interface, and of the state's fields; then what each recurrent matrix multiplied."""
    made = _gradients(sizes, pre, recurrent, interface_bias, gradients)
    job = _job(sizes, pre, lengths, recurrent, interface_weight, interface_bias)
    job.tape = tape.data_ptr()
    job.dhidden_out, job.dreads_out = gradients[0].data_ptr(), gradients[1].data_ptr()
    job.dstate_out = _POINTERS(*(each.data_ptr() for each in gradients[2:]))
    job.dpre, job.dinterface = made[0].data_ptr(), made[1].data_ptr()
    job.dstate = _POINTERS(*(each.data_ptr() for each in made[2 : 2 + _FIELDS]))
    for layer, each in enumerate(made[2 + _FIELDS :]):
        job.seen[layer] = each.data_ptr()
    _check_memory(_loaded().softplace_unsequence(machine, ctypes.byref(job)))
    return made


_unsequence = torch.library.custom_op("softplace::memory_unsequence", _backwards, mutates_args=())


@_unsequence.register_fake
def _(
    machine: int,
    sizes: list[int],
    pre: Tensor,
    lengths: Tensor | None,
    recurrent: list[Tensor],
    interface_weight: Tensor,
    interface_bias: Tensor,
    gradients: list[Tensor],
    tape: Tensor,
) -> list[Tensor]:
    return _gradients(sizes, pre, recurrent, interface_bias, gradients)


def _gradients(
    sizes: Sequence[int], pre: Tensor, recurrent: Sequence[Tensor], interface_bias: Tensor, gradients: Sequence[Tensor]
) -> list[Tensor]:
    rows = pre.shape[:3]
    return [
        torch.empty_like(pre),
        pre.new_empty(*rows, interface_bias.shape[-1]),
        *(torch.empty_like(each, memory_format=torch.contiguous_format) for each in gradients[2:]),
        *(pre.new_empty(*rows, each.shape[-1]) for each in recurrent),
    ]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Twelve) -> None:
    machine, sizes, _, pre, lengths, recurrent, interface_weight, interface_bias, _ = inputs
    ctx.machine, ctx.sizes, ctx.layers = machine, sizes, len(recurrent)
    ctx.set_materialize_grads(False)  # the tape's would be as large as the tape
    ctx.shapes = [each.shape for each in output[:-1]]
    ctx.save_for_backward(pre, lengths, interface_weight, interface_bias, output[0], output[-1], *recurrent)


def _backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
    return _pulled(_unsequence, ctx, *gradients)


def _pulled(operator: Callable[..., list[Tensor]], ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
    pre, lengths, interface_weight, interface_bias, hidden, tape, *recurrent = ctx.saved_tensors
    given = [
        pre.new_zeros(shape) if each is None else each.contiguous()
        for each, shape in zip(gradients[:-1], ctx.shapes, strict=True)
    ]
    dpre, dinterface, *rest = operator(
        ctx.machine, ctx.sizes, pre, lengths, recurrent, interface_weight, interface_bias, given, tape
    )
    dstate, seen = rest[:_FIELDS], rest[_FIELDS:]
    own = [each.contiguous() for each in dpre.chunk(ctx.layers, -1)] if ctx.layers > 1 else [dpre]
    return (
        None,
        None,
        None,
        dpre,
        None,
        [_outer(d, x) for d, x in zip(own, seen, strict=True)],
        _outer(dinterface, hidden),
        dinterface.sum((1, 2)),
        dstate,
    )


def _outer(gradient: Tensor, seen: Tensor) -> Tensor:
    """(S, T, B, rows) and (S, T, B, columns) -> (S, rows, columns), summed over time and batch."""
    return gradient.flatten(1, 2).transpose(1, 2) @ seen.flatten(1, 2)


_sequence.register_autograd(_backward, setup_context=_remember)


class _Sequence(torch.autograd.Function):
    """`_sequence` for eager tensors. The tape is an output, so that what it takes is known to be kept."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Twelve:
        machine, sizes, keep, pre, lengths, layers, *tensors = arguments
        recurrent, (interface_weight, interface_bias, *state) = tensors[:layers], tensors[layers:]
        inputs = (machine, sizes, keep, pre, lengths, recurrent, interface_weight, interface_bias, state)
        output = _forward(*inputs)
        ctx.mark_non_differentiable(output[-1])
        _remember(ctx, inputs, output)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        operator = _unsequence if torch._C._are_functorch_transforms_active() else _backwards  # a batch of gradients
        *first, recurrent, weight, bias, state = _pulled(operator, ctx, *gradients)
        return (*first, None, *recurrent, weight, bias, *state)


def _folded(operator: Callable[..., Any], tensors_from: int) -> Callable[..., Any]:
    """The rule of `vmap`: members of members are members."""

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        count: int = info.batch_size

        def fold(value: Any, dim: Any) -> Any:
            if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
                dims = dim if isinstance(dim, list | tuple) else [dim] * len(value)
                return [fold(*pair) for pair in zip(value, dims, strict=True)]
            if not isinstance(value, Tensor):
                return value
            value = value.expand(count, *value.shape) if dim is None else value.movedim(dim, 0)
            return value.flatten(0, 1).contiguous()

        plain, tensors = arguments[:tensors_from], arguments[tensors_from:]
        made = operator(*plain, *(fold(*pair) for pair in zip(tensors, in_dims[tensors_from:], strict=True)))
        unfolded = type(made)(each.unflatten(0, (count, -1)) for each in made)
        return unfolded, type(made)(0 for _ in made)

    return rule


torch.library.register_vmap("softplace::memory_sequence", _folded(_sequence, 3))
torch.library.register_vmap("softplace::memory_unsequence", _folded(_unsequence, 2))


def ntm(
    pre: Tensor, state: "NTMState", lengths: Tensor | None, parameters: Mapping[str, Tensor], config: "NTMConfig"
) -> tuple[Tensor, Tensor, "NTMState"] | None:
    """What `ntm._sequence` returns, by the kernel; `None` where that does not fit."""
    recurrent, weight, bias = _weights(parameters, config)
    if not fits(config.map, config.layers, config.width, pre, *recurrent, weight, bias, *state):
        return None
    flags = LSTM * (config.controller == "lstm") | READ_FIRST * (config.order == "read-write")
    hidden, reads, after = run(
        0,
        _sizes(config, config.shifts, flags),
        pre,
        lengths,
        recurrent,
        weight,
        bias,
        [state.memory, state.weights, None, None, None, None, state.reads, state.hidden, state.cell],
    )
    return hidden, reads, type(state)(after[0], after[1], *after[-3:])


def dnc(
    pre: Tensor, state: "DNCState", lengths: Tensor | None, parameters: Mapping[str, Tensor], config: "DNCConfig"
) -> tuple[Tensor, Tensor, "DNCState"] | None:
    """What `dnc._sequence` returns, by the kernel; `None` where that does not fit: it has one write head."""
    recurrent, weight, bias = _weights(parameters, config)
    if config.write_heads > 1 or config.links == "sparse" or config.allocation != "sorted":
        return None
    fields = [each for each in state if isinstance(each, Tensor)]
    if not fits(config.map, config.layers, config.width, pre, *recurrent, weight, bias, *fields):
        return None
    linked = config.links == "dense"
    flags = (
        LSTM * (config.controller == "lstm")
        | MASKED * config.masked
        | DEALLOCATE * config.deallocate
        | DETACHED * config.detach_usage
        | LINKED * linked
        | SHARPENED * config.sharpened
    )
    hidden, reads, after = run(1, _sizes(config, 1, flags), pre, lengths, recurrent, weight, bias, fields)
    return hidden, reads, type(state)(*after)


def _weights(parameters: Mapping[str, Tensor], config: "NTMConfig | DNCConfig") -> tuple[list[Tensor], Tensor, Tensor]:
    recurrent = [parameters[f"recurrent_weight_{layer}"] for layer in range(config.layers)]
    weight, bias = parameters["interface_weight"], parameters["interface_bias"]
    if bias.shape[-1] != config.interface_size:
        raise InputError(
            f"'interface_bias' must have {config.interface_size} numbers by the config. Got {bias.shape[-1]}. "
            "Use parameters and a config of one net."
        )
    return recurrent, weight, bias


def _sizes(config: "NTMConfig | DNCConfig", shifts: int, flags: int) -> list[int]:
    number = map_number(config.map)
    heads, controller = (config.read_heads, config.write_heads), (config.hidden_size, config.layers)
    return [config.slots, config.width, *heads, *controller, shifts, 0 if number is None else number, flags]


MOST_KEPT = 1 << 28
"""Bytes of the longest tape that is kept for the next call."""


class _Tapes:
    """Tapes that are written again: fresh memory of their size would be cleared by the system, page by page."""

    def __init__(self) -> None:
        self._free: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        self._lock = threading.RLock()  # a tape may come back in the midst of `take`

    def take(self, size: int) -> Tensor:
        """A tensor of so many numbers, any numbers. Its memory comes back when nobody holds it any more."""
        with self._lock:
            fitting = [each for each in self._free if size <= each.size <= 4 * size + 1024]
            whole = min(fitting, key=lambda each: each.size) if fitting else np.empty(size, np.float32)
            self._free = [each for each in self._free if each is not whole]
        lent = whole[:size]
        weakref.finalize(lent, self._give_back, whole)
        return torch.from_numpy(lent)

    def _give_back(self, whole: "np.ndarray[Any, np.dtype[np.float32]]") -> None:
        with self._lock:
            if whole.nbytes <= MOST_KEPT:
                self._free = [*self._free, whole][-2:]


_TAPES = _Tapes()


def _check_memory(enough: int) -> None:
    if not enough:
        raise MemoryError(
            "softplace: no memory for the work on a memory. Use fewer slots, or shorter parts: segments=."
        )


def _loaded() -> ctypes.CDLL:
    found = library()
    if found is None:
        raise RuntimeError("the kernel is gone")
    return found

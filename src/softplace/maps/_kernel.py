"""Where a map's kernel takes over from its plain path: eager tensors on a CPU on which nothing but autograd looks.

Under `torch.func`, `torch.compile`, `torch.export`, forward-mode differentiation or a dispatch mode, and on other
devices, the plain path runs, which has every derivative.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from softplace import _compiler
from softplace.maps._arguments import wide_type

MAPS = ("softmax", "log_softmax", "softmax1", "solu", "gumbel_softmax", "sparsemax", "entmax15", "entmax")
"""In the order of `enum Map` in `_kernel.cpp`."""
SMALLEST = {"sparsemax": 1, "entmax15": 1, "entmax": 1}
"""Entries from which on the kernel is quicker than the plain path (`benchmarks/maps.py`); 32 for the other maps."""
ONE_THREAD = 1 << 15
"""Entries below which a second thread costs more than it gains."""

_SOURCES = tuple(Path(__file__).with_name(name) for name in ("_vector.h", "_layout.h", "_kernel.cpp"))


class _Job(ctypes.Structure):
    _fields_ = (
        ("rows", ctypes.c_int64),
        ("size", ctypes.c_int64),
        ("extra", ctypes.c_void_p),
        ("extra_gradient", ctypes.c_void_p),
        ("key", ctypes.c_uint64),
        ("scale", ctypes.c_float),
        ("threads", ctypes.c_int),
    )


def run(
    name: str,
    plain: Callable[..., Tensor],
    scores: Tensor,
    dim: int,
    temperature: float,
    extra: Tensor | None = None,
    *,
    key: Callable[[], int] = lambda: 0,
    out: Tensor | None = None,
) -> Tensor:
    """`plain(scores, dim, temperature[, extra])`, by the kernel where that is quicker.

    Args:
        extra: One number per row (it broadcasts, with size 1 along `dim`): alpha, or a sink.
        key: Draws the key of the random numbers.
        out: Tensor of the shape, dtype and device of `scores` that takes the result.
    """
    if out is not None:
        _check_out(name, scores, extra, out)
    if scores.numel() == 0:
        result = scores.clone()
    elif fits(name, scores, dim, extra):
        result = _apply(name, scores, dim, temperature, extra, key(), out)
        if result is out:
            return result
    elif _is_compiled(name, scores):
        from softplace.maps import _operators

        result = _operators.weigh(name, scores, dim, temperature, extra)
    else:
        result = plain(scores, dim, temperature) if extra is None else plain(scores, dim, temperature, extra)
    return result if out is None else out.copy_(result)


def fits(name: str, scores: Tensor, dim: int, extra: Tensor | None = None) -> bool:
    """Whether the kernel takes these scores, and the number per row."""
    return (
        not torch.compiler.is_compiling()
        and scores.numel() >= SMALLEST.get(name, 32)
        and scores.is_cpu
        and scores.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and scores.layout is torch.strided
        and not scores.is_nested
        and (dim == -1 or name not in ("softmax", "log_softmax"))  # PyTorch is quicker than a transposed kernel
        and torch._C._get_tracing_state() is None
        and is_plain(scores)
        and (extra is None or is_plain(extra))
        and library() is not None
    )


def _is_compiled(name: str, scores: Tensor) -> bool:
    """Whether the map becomes one operator of a graph of `torch.compile`, which would unroll its search."""
    return (
        torch.compiler.is_compiling()
        and not torch.compiler.is_exporting()
        and name in ("sparsemax", "entmax15", "entmax")
        and scores.is_cpu
        and not torch._C._are_functorch_transforms_active()
    )


def _check_out(name: str, scores: Tensor, extra: Tensor | None, out: Tensor) -> None:
    expected = (tuple(scores.shape), scores.dtype, scores.device)
    if (
        not isinstance(out, Tensor)
        or out.layout is not torch.strided
        or (tuple(out.shape), out.dtype, out.device) != expected
    ):
        got = f"{tuple(out.shape)}, {out.dtype}, {out.device}" if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(
            f"'out' of {name} must be like the scores: {expected[0]}, {expected[1]}, {expected[2]}. Got {got}. "
            "Use torch.empty_like(scores)."
        )
    learned = scores.requires_grad or out.requires_grad or (extra is not None and extra.requires_grad)
    if learned and torch.is_grad_enabled():
        raise ValueError(
            f"'out' of {name} must not be given where gradients are recorded. Got tensors that require them. "
            "Call it under torch.no_grad(), or detach them."
        )


def _apply(
    name: str, scores: Tensor, dim: int, temperature: float, extra: Tensor | None, key: int, out: Tensor | None
) -> Tensor:
    def weigh(moved: Tensor, extra: Tensor | None) -> Tensor:
        if torch.is_grad_enabled() and (moved.requires_grad or (extra is not None and extra.requires_grad)):
            weights: Tensor = _Kernel.apply(moved, extra, name, temperature, key)  # type: ignore[no-untyped-call]
            return weights
        into = out if moved is scores and out is not None and _may_write(out, scores) else None
        weights, _ = forward(name, moved, extra, temperature, key, into)
        if into is not None:
            torch.autograd.graph.increment_version(into)
        return weights

    return along_last(weigh, scores, dim, extra)


def along_last(
    weigh: Callable[[Tensor, Tensor | None], Tensor], scores: Tensor, dim: int, extra: Tensor | None
) -> Tensor:
    """What `weigh` makes of scores with their axis at the end, in a dtype of the kernel, and of the number per row."""
    if scores.dtype == torch.float16:
        return along_last(weigh, scores.float(), dim, extra).to(scores.dtype)
    if scores.dim() == 0:
        return along_last(weigh, scores[None], -1, extra)[0]
    if extra is not None:
        rows = list(scores.shape)
        rows[dim] = 1
        extra = extra.to(wide_type(scores.dtype)).expand(rows).movedim(dim, -1)
    if dim == -1:
        return weigh(scores, extra)
    return weigh(scores.movedim(dim, -1), extra).movedim(-1, dim).contiguous()


def forward(
    name: str, scores: Tensor, extra: Tensor | None, temperature: float, key: int, out: Tensor | None = None
) -> tuple[Tensor, bool]:
    """Weights along the last axis, and whether some row had a maximum that is not finite."""
    scores = _memory(scores)
    extra = None if extra is None else _memory(extra)
    result = torch.empty_like(scores) if out is None else out
    job = _job(scores, temperature, extra, key)
    edge = _library().softplace_forward(*_common(name, scores), scores.data_ptr(), result.data_ptr(), ctypes.byref(job))
    _check_memory(edge)
    return result, bool(edge)


class _Kernel(torch.autograd.Function):
    """The kernel and its gradient, along the last axis."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, extra: Tensor | None, name: str, temperature: float, key: int) -> Tensor:
        result, edge = forward(name, scores, extra, temperature, key)
        # The limit at +inf is a constant, which the weights alone do not tell.
        ctx.infinite = scores.amax(-1, keepdim=True) == torch.inf if edge and name != "solu" else None
        ctx.save_for_backward(scores if name == "solu" else result, extra)
        ctx.name, ctx.temperature = name, temperature
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        kept, extra = ctx.saved_tensors
        if torch.is_grad_enabled() or not is_plain(gradient):
            from softplace.maps._derivatives import pull_back

            pulled, made = pull_back(ctx.name, kept, gradient, ctx.temperature, extra)
            return without(pulled, ctx.infinite), made, None, None, None
        half = kept.dtype == torch.bfloat16 and kept.shape[-1] >= 32
        # PyTorch is 1.15 times quicker
        if ctx.name == "softmax" and half and ctx.temperature == 1.0 and ctx.infinite is None:
            return torch._softmax_backward_data(gradient.contiguous(), kept, -1, kept.dtype), None, None, None, None
        pulled, made = backward(ctx.name, kept, gradient, extra, ctx.temperature, learned=ctx.needs_input_grad[1])
        return without(pulled, ctx.infinite), made, None, None, None


def backward(
    name: str, kept: Tensor, gradient: Tensor, extra: Tensor | None, temperature: float, *, learned: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients to the scores and, where it is `learned`, to the number per row, as `_derivatives.pull_back`."""
    kept, gradient, extra = _memory(kept), _memory(gradient), None if extra is None else _memory(extra)
    pulled = torch.empty_like(kept)
    made = torch.empty_like(extra) if learned and extra is not None else None
    job = _job(kept, temperature, extra, 0, made)
    found = _library().softplace_backward(
        *_common(name, kept), kept.data_ptr(), gradient.data_ptr(), pulled.data_ptr(), ctypes.byref(job)
    )
    _check_memory(found)
    return pulled, made


def _check_memory(found: int) -> None:
    if found & 2:
        raise MemoryError("softplace: no memory for one row of the scores. Use shorter rows.")


def _may_write(out: Tensor, scores: Tensor) -> bool:
    """Whether the kernel may write where the scores may still be read."""
    if not out.is_contiguous() or out.is_neg() or out._is_zerotensor():
        return False
    shares = out.untyped_storage().data_ptr() == scores.untyped_storage().data_ptr()
    return not shares or (out.data_ptr() == scores.data_ptr() and scores.is_contiguous())


def without(gradient: Tensor, rows: Tensor | None) -> Tensor:
    """The gradient with zeros in these rows."""
    return gradient if rows is None else gradient.masked_fill(rows, 0.0)


def is_plain(tensor: Tensor) -> bool:
    """Whether nothing but autograd looks on."""
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and not torch._C._are_functorch_transforms_active()
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._functorch.is_legacy_batchedtensor(tensor)  # autograd's own vmap, of is_grads_batched
        and not _has_tangent(tensor)
    )


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


def _memory(tensor: Tensor) -> Tensor:
    """As it lies in memory: contiguous, with nothing lazy about it."""
    return torch.zeros_like(tensor) + tensor if tensor._is_zerotensor() else tensor.resolve_neg().contiguous()


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernel, or `None` where it cannot be had."""
    loaded = _compiler.library(_SOURCES, "maps")
    if loaded is not None:
        pointer, number = ctypes.c_void_p, ctypes.c_int
        loaded.softplace_forward.argtypes = (number, number, pointer, pointer, pointer)
        loaded.softplace_backward.argtypes = (number, number, pointer, pointer, pointer, pointer)
    return loaded


def _library() -> ctypes.CDLL:
    loaded = library()
    if loaded is None:
        raise RuntimeError("the kernel is gone")
    return loaded


def _common(name: str, scores: Tensor) -> tuple[int, int]:
    return MAPS.index(name), int(scores.dtype == torch.bfloat16)


def _job(
    scores: Tensor, temperature: float, extra: Tensor | None, key: int, extra_gradient: Tensor | None = None
) -> _Job:
    size = scores.shape[-1]
    return _Job(
        scores.numel() // size,
        size,
        None if extra is None else extra.data_ptr(),
        None if extra_gradient is None else extra_gradient.data_ptr(),
        key,
        1.0 / temperature,
        torch.get_num_threads() if scores.numel() >= ONE_THREAD else 1,
    )

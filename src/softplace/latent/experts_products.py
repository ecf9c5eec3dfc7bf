"""Products of rows with the matrix of their group, all groups at once: what a mixture of experts spends its time on.

Axis legend: N rows, sorted by group, E groups (experts), I inputs, O outputs, A and B widths of an outer product.

`ends` (E,) says before which row each group ends. Rows behind the last end belong to no group: they give zeros.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

ALIGNED = 16
"""Bytes that PyTorch's grouped product wants every row to be a multiple of."""


def grouped_linear(rows: Tensor, weight: Tensor, bias: Tensor | None, group: Tensor, ends: Tensor) -> Tensor:
    """`x_n W_e^T + b_e`, e the group of row n: `torch.nn.functional.linear` with a matrix for each group.

    PyTorch's grouped product where it can be had: float32 and half precisions, rows of whole 16 bytes. Elsewhere
    (float64, odd widths) one batched product, every group padded to the largest. Both are one operator to the compiler,
    so how many rows a group has may differ from call to call.

    Args:
        rows: (N, I).
        weight: (E, O, I).
        bias: (E, O), or None.
        group: (N,), the group of each row; what it says of rows without a group does not matter.
        ends: (E,), int32.

    Returns:
        (N, O); a row without a group gets zeros (and the bias of some group).
    """
    kind = rows.device.type
    if torch.is_autocast_enabled(kind):
        narrow = torch.get_autocast_dtype(kind)
        rows, weight, bias = rows.to(narrow), weight.to(narrow), None if bias is None else bias.to(narrow)
    made: Tensor = _Product.apply(rows, weight, ends)  # type: ignore[no-untyped-call]
    return made if bias is None else made + bias.index_select(0, group.clamp(max=weight.shape[0] - 1))


# Operators of their own, as PyTorch's has no rule for vmap, and none for float32 in its compiler. The derivative of
# each is made of both, so derivatives of every order exist.
@torch.library.custom_op("softplace::grouped_product", mutates_args=())
def _product(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """`x_n W_e^T`: (N, I) and (E, O, I) to (N, O)."""
    if rows.numel() == 0 or weight.numel() == 0:
        return rows.new_zeros(rows.shape[0], weight.shape[1])
    rows = rows.contiguous()
    if _has_native(rows, weight):
        made = functional.grouped_mm(rows, weight.mT, offs=ends)
        if made.device.type == "cpu":
            made[int(ends[-1]) :] = 0.0
            return made
        return made.masked_fill_((torch.arange(made.shape[0], device=made.device) >= ends[-1])[:, None], 0.0)
    group, place, room = _places(rows.shape[0], ends)
    padded = torch.bmm(_padded(rows, group, place, room, len(weight)), weight.mT)
    made = rows.new_zeros(rows.shape[0], weight.shape[1])
    made[: len(group)] = padded[group, place]
    return made


@torch.library.custom_op("softplace::grouped_outer", mutates_args=())
def _outer(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    """`sum of l_n r_n^T` over the rows of each group: (N, A) and (N, B) to (E, A, B)."""
    if left.numel() == 0 or right.numel() == 0:
        return left.new_zeros(len(ends), left.shape[1], right.shape[1])
    left, right = left.contiguous(), right.contiguous()
    if _has_native(left, right):
        return functional.grouped_mm(left.mT, right, offs=ends)
    group, place, room = _places(left.shape[0], ends)
    one, other = (_padded(each, group, place, room, len(ends)) for each in (left, right))
    return torch.bmm(one.mT, other)


def _places(rows: int, ends: Tensor) -> tuple[Tensor, Tensor, int]:
    """The groups of the rows that have one, their places in their groups, and how many places there are."""
    counts = ends.diff(prepend=ends.new_zeros(1)).long()
    group = torch.repeat_interleave(counts)
    place = torch.arange(len(group), device=ends.device) - (ends - counts)[group]
    return group, place, int(counts.max())


def _padded(rows: Tensor, group: Tensor, place: Tensor, room: int, groups: int) -> Tensor:
    """(E, room, I), zeros where a group has fewer rows."""
    made = rows.new_zeros(groups, room, rows.shape[1])
    made[group, place] = rows[: len(group)]
    return made


def _has_native(*tensors: Tensor) -> bool:
    for each in tensors:
        steps = [step * each.element_size() for step in each.stride() if step != 1]
        if each.data_ptr() % ALIGNED or any(step % ALIGNED for step in steps) or min(each.stride()[-2:]) != 1:
            return False
        if any(size * each.element_size() % ALIGNED for size in each.shape[-1:]):
            return False
    return _native_works(tensors[0].device.type, tensors[0].dtype)


@cache
def _native_works(device: str, dtype: torch.dtype) -> bool:
    """Whether this PyTorch has the product for this device and type: asked once, with small matrices."""
    if dtype not in (torch.float32, torch.bfloat16, torch.float16) or not hasattr(functional, "grouped_mm"):
        return False
    rows = torch.ones(16, 16, device=device, dtype=dtype)
    ends = torch.tensor([16], device=device, dtype=torch.int32)
    try:
        both = functional.grouped_mm(rows, rows[None].mT, offs=ends), functional.grouped_mm(rows.mT, rows, offs=ends)
    except (RuntimeError, NotImplementedError):
        return False
    return all(bool((each == 16.0).all()) for each in both)


@_product.register_fake
def _(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], weight.shape[1])


@_outer.register_fake
def _(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    return left.new_empty(ends.shape[0], left.shape[1], right.shape[1])


class _Product(torch.autograd.Function):
    """The product with its derivative. Not `register_autograd`, which does not know `torch.func`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
        made: Tensor = _product(rows, weight, ends)
        return made

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, ends = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            _Product.apply(given, weight.mT, ends) if wanted[0] else None,  # type: ignore[no-untyped-call]
            _Outer.apply(given, rows, ends) if wanted[1] else None,  # type: ignore[no-untyped-call]
            None,
        )


class _Outer(torch.autograd.Function):
    """The outer product with its derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
        made: Tensor = _outer(left, right, ends)
        return made

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        left, right, ends = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            _Product.apply(right, given, ends) if wanted[0] else None,  # type: ignore[no-untyped-call]
            _Product.apply(left, given.mT, ends) if wanted[1] else None,  # type: ignore[no-untyped-call]
            None,
        )


def _one_by_one(operator: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, int]]:
    """The rule for vmap: the members one after the other, whose groups end at different rows."""

    def rule(info: object, in_dims: tuple[int | None, ...], *given: Tensor) -> tuple[Tensor, int]:
        number = next(each.shape[dim] for each, dim in zip(given, in_dims, strict=True) if dim is not None)

        def part(each: Tensor, dim: int | None, member: int) -> Tensor:
            return each if dim is None else each.select(dim, member)

        parts = ([part(*pair, member) for pair in zip(given, in_dims, strict=True)] for member in range(number))
        return torch.stack([operator(*part) for part in parts]), 0

    return rule


_product.register_vmap(_one_by_one(_product))
_outer.register_vmap(_one_by_one(_outer))

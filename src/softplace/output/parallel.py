"""Cross-entropy where each process holds a part of the vocabulary: no process ever has all logits of a token.

Axis legend: ... any leading axes, N tokens inside; E width of the hidden state, V classes of all processes, C classes
of this one.

All processes have the same tokens. Their parts follow one another in the order of their ranks and may differ in size,
so that any vocabulary is shared by any number of processes.
"""

from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from softplace.maps._arguments import kind
from softplace.maps._linear import Options, Wanted, without_autocast
from softplace.maps._linear_arguments import check_extras, check_head, check_range, check_target
from softplace.maps._linear_columns import Statistics, gradients, statistics
from softplace.maps.losses import check_options
from softplace.output._reduction import reduced

Group = dist.ProcessGroup | None


def vocabulary_part(classes: int, processes: int, rank: int) -> range:
    """The classes of a process: parts as equal as can be, the first ones larger by one where V is not divisible.

    Raises:
        TypeError: An argument is no whole number.
        ValueError: More processes than classes, or no such rank.

    >>> [vocabulary_part(10, 4, rank) for rank in range(4)]
    [range(0, 3), range(3, 6), range(6, 8), range(8, 10)]
    """
    for name, value in (("classes", classes), ("processes", processes), ("rank", rank)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name!r} of vocabulary_part must be a whole number. Got {kind(value)}. Use an int.")
    if processes < 1 or classes < processes:
        raise ValueError(
            f"'processes' of vocabulary_part must lie in [1, {classes}], the number of classes. Got {processes}. "
            "Each process holds a class or more."
        )
    if not 0 <= rank < processes:
        raise ValueError(f"'rank' of vocabulary_part must lie in [0, {processes - 1}]. Got {rank}. Count from 0.")
    least, more = divmod(classes, processes)
    start = rank * least + min(rank, more)
    return range(start, start + least + (rank < more))


def vocabulary_parallel_cross_entropy(
    scores: Tensor,
    target: Tensor,
    *,
    group: Group = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of scores of which each process holds some columns, along the last axis.

    Args:
        scores: This process's columns, (..., C).
        target: Class indices over all columns, (...), the same on all processes.
        group: The processes; None: all.
        ignore_index, label_smoothing, z_loss, reduction: as `linear_cross_entropy`.

    Returns:
        The same loss on all processes, in float32 or wider; NaN for a score of +inf. The gradient is that of this
        process's columns.

    Raises:
        TypeError, ValueError: As `linear_cross_entropy`, on all processes alike; a part has no column.
        RuntimeError: `torch.distributed` is not initialised.

    Each process must call it, and its backward pass where there is one. Source: Shoeybi et al. 2019 (arXiv:1909.08053),
    section 3.
    """
    name = "vocabulary_parallel_cross_entropy"
    _check_started(name)
    if not isinstance(scores, Tensor) or not scores.is_floating_point() or scores.dim() < 1:
        raise TypeError(
            f"'scores' of {name} must be a floating-point tensor (..., C). Got {kind(scores)}. Use .float()."
        )
    check_options(name, label_smoothing, ignore_index, reduction)
    check_extras(name, z_loss, None)
    check_target(name, scores, scores.shape[-1], target, ignore_index)
    first, size = _place(name, scores.shape[-1], scores.device, group)
    _check_indices(name, target, ignore_index, size)
    target = target.long()
    counts = target != ignore_index
    options = Options(
        map="softmax", smoothing=float(label_smoothing), z_loss=float(z_loss), soft_cap=None, narrow=scores.dtype
    )
    rows: Tensor = _Scores.apply(scores, target, counts, first, size, options, group)  # type: ignore[no-untyped-call]
    return reduced(rows, counts, reduction)


def vocabulary_parallel_linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    *,
    group: Group = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    soft_cap: float | None = None,
    reduction: str = "mean",
) -> Tensor:
    """`linear_cross_entropy` of a head of which each process holds some rows: no logits are kept, and none are sent.

    Args:
        hidden: (..., E), the same on all processes. Its gradient is summed over them, so that each has the whole.
        weight: This process's classes, (C, E).
        target: Class indices over all processes, (...), the same on all.
        bias: This process's, (C,).
        group: The processes; None: all.
        ignore_index, label_smoothing, z_loss, soft_cap, reduction: as `linear_cross_entropy`.

    Returns:
        The same loss on all processes, in float32 or wider.

    Raises:
        As `vocabulary_parallel_cross_entropy`.

    In the forward pass each process sends four numbers a token, in the backward pass the gradient of the hidden states.
    Logits are computed twice.
    """
    name = "vocabulary_parallel_linear_cross_entropy"
    _check_started(name)
    narrow = check_head(name, hidden, weight, bias)
    check_options(name, label_smoothing, ignore_index, reduction)
    check_extras(name, z_loss, soft_cap)
    check_target(name, hidden, weight.shape[0], target, ignore_index)
    first, size = _place(name, weight.shape[0], hidden.device, group)
    _check_indices(name, target, ignore_index, size)
    target = target.long()
    counts = target != ignore_index
    options = Options(
        map="softmax",
        smoothing=float(label_smoothing),
        z_loss=float(z_loss),
        soft_cap=None if soft_cap is None else float(soft_cap),
        narrow=narrow,
    )
    rows: Tensor = _Head.apply(hidden, weight, bias, target, counts, first, size, options, group)  # type: ignore[no-untyped-call]
    return reduced(rows, counts, reduction)


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, target: Tensor, counts: Tensor, first: int, size: int, options: Options, group: Group
    ) -> Tensor:
        wide = scores.to(options.wide)
        place = target - first
        inside = counts & (place >= 0) & (place < scores.shape[-1])
        place = place.clamp(0, scores.shape[-1] - 1).unsqueeze(-1)
        top = wide.amax(-1).clamp(min=torch.finfo(options.wide).min)
        found = Statistics(
            top=top,
            total=(wide - top.unsqueeze(-1)).exp_().sum(-1),
            own=torch.where(inside, wide.gather(-1, place).squeeze(-1), 0.0),
            whole=wide.sum(-1) if options.smoothing else torch.zeros_like(top),
        )
        found = _together(found, options, group)
        # As in one process, a row of infinite loss has no gradient.
        ctx.save_for_backward(scores, found.normaliser, inside, counts & (found.own != -torch.inf), place)
        ctx.options, ctx.size = options, size
        return torch.where(counts, found.rows(options, size).loss, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        scores, normaliser, inside, learns, place = ctx.saved_tensors
        options, e = ctx.options, ctx.options.smoothing
        shares = (scores.to(options.wide) - normaliser.unsqueeze(-1)).exp_()
        if options.z_loss:
            shares.mul_((1.0 + 2.0 * options.z_loss * normaliser).unsqueeze(-1))
        shares.scatter_add_(-1, place, inside.to(shares.dtype).mul_(e - 1.0).unsqueeze(-1))
        if e:
            shares.sub_(e / ctx.size)
        shares.mul_(upstream.unsqueeze(-1)).masked_fill_(~learns.unsqueeze(-1), 0.0)
        return shares.to(scores.dtype), None, None, None, None, None, None


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        counts: Tensor,
        first: int,
        size: int,
        options: Options,
        group: Group,
    ) -> Tensor:
        with without_autocast(hidden.device):
            taken = counts.flatten().nonzero().squeeze(-1)
            rows = hidden.reshape(counts.numel(), hidden.shape[-1])[taken]
            answers = target.flatten()[taken]
            found = _together(statistics(rows, weight, bias, answers, options, first), options, group)
            ctx.save_for_backward(hidden, weight, bias, found.normaliser, found.own == -torch.inf, answers, taken)
            ctx.rest = first, size, options, group
            losses = found.total.new_zeros(target.shape).flatten()
            return losses.index_copy_(0, taken, found.rows(options, size).loss).reshape(target.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, normaliser, endless, answers, taken = ctx.saved_tensors
        first, size, options, group = ctx.rest
        wanted = Wanted(*ctx.needs_input_grad[:3])
        with without_autocast(hidden.device):
            scale = upstream.to(options.wide).flatten()[taken].masked_fill_(endless, 0.0)
            # In the wide type until it is summed over processes.
            rows = hidden.reshape(upstream.numel(), hidden.shape[-1])[taken].to(options.wide)
            made = gradients(rows, weight, bias, answers, normaliser, options, wanted, scale, first=first, size=size)
            given = None
            if made.hidden is not None:
                dist.all_reduce(made.hidden, group=group)
                given = hidden.new_zeros(upstream.numel(), hidden.shape[-1])
                given = given.index_copy_(0, taken, made.hidden.to(hidden.dtype)).reshape(hidden.shape)
        return given, made.weight, made.bias, None, None, None, None, None, None


def _together(part: Statistics, options: Options, group: Group) -> Statistics:
    """Of the columns of all processes."""
    top = part.top.clone()
    dist.all_reduce(top, dist.ReduceOp.MAX, group=group)
    # A maximum over processes may lose a NaN; the sum has it.
    sums = torch.stack([part.total * (part.top - top).exp(), part.own, part.whole])
    dist.all_reduce(sums, group=group)
    total, own, whole = sums
    return replace(part, top=top, total=total, own=own, whole=whole)


def _place(name: str, columns: int, device: torch.device, group: Group) -> tuple[int, int]:
    """The first class of this process, and the number of all."""
    sizes = torch.zeros(dist.get_world_size(group), dtype=torch.long, device=device)
    rank = dist.get_rank(group)
    sizes[rank] = columns
    dist.all_reduce(sizes, group=group)
    each = sizes.tolist()
    if 0 in each:
        raise ValueError(
            f"Each process of {name} must hold a class or more. Got none on rank {each.index(0)}, of {sum(each)} on "
            f"{len(each)} processes. Use vocabulary_part, and no more processes than classes."
        )
    return sum(each[:rank]), sum(each)


def _check_started(name: str) -> None:
    if not dist.is_available() or not dist.is_initialized():
        raise RuntimeError(
            f"{name} needs torch.distributed. It is not initialised. "
            "Call torch.distributed.init_process_group first, or use linear_cross_entropy in one process."
        )


def _check_indices(name: str, target: Tensor, ignore_index: int, size: int) -> None:
    if target.is_floating_point():
        raise TypeError(
            f"'target' of {name} must be class indices (an integer tensor). Got a tensor of {target.dtype}. "
            "Use target.long()."
        )
    check_range(name, target, ignore_index, size)

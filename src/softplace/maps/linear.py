"""The loss of a linear head without its logits: linear layer and loss as one, in a fraction of the memory.

Axis legend: ... any leading axes, E width of the hidden state, V classes (the vocabulary). Inside, the leading axes are
one, N tokens.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softplace.maps import _kernel, _linear_columns, _linear_rows
from softplace.maps._arguments import can_look
from softplace.maps._linear import Gradients, Options, Rows, Wanted, without_autocast
from softplace.maps._linear_arguments import check_extras, check_head, check_target, check_values
from softplace.maps._linear_rows import MAPS
from softplace.maps.losses import check_options, cross_entropy, entmax15_loss, sparsemax_loss

LOSSES = {"softmax": cross_entropy, "sparsemax": sparsemax_loss, "entmax15": entmax15_loss}
NAME = "linear_cross_entropy"


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    *,
    map: str = "softmax",  # noqa: A002 - the word of the field
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    soft_cap: float | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The map's loss of the logits `s = W h + b`, which are never all in memory.

    It is `cross_entropy`, `sparsemax_loss` or `entmax15_loss` of `torch.nn.functional.linear(hidden, weight, bias)`,
    plus `z_loss (log sum_v exp s_v)^2` of each row that counts. Logits are made for a block of rows (or, in half
    precision on a CPU, of columns) at a time. With "mean" and "sum" the gradients are computed with the loss, while a
    block's logits are there; with "none" they are computed in the backward pass, from the logits once more. Under
    `torch.no_grad` there is the loss alone.

    Args:
        hidden: h, (..., E).
        weight: W, (V, E), as `torch.nn.Linear` has it.
        target: Class indices (integers, (...)), or distributions over the classes (floating point, (..., V)), which get
            no gradient.
        bias: b, (V,).
        map: "softmax", "sparsemax" or "entmax15": whose loss. The sparse ones multiply in the backward pass with the
            classes alone that have weight in some row of a block.
        ignore_index: Class index of rows that do not count: loss and gradient 0, whatever the hidden state. Not with
            distributions.
        label_smoothing: The share in [0, 1] of the target that is spread evenly over the classes.
        z_loss: Factor, not negative, of the squared log-normaliser (Chowdhery et al. 2022, arXiv:2204.02311, section
            5), which keeps it near 0. With softmax alone.
        soft_cap: Positive c: logits are `c tanh(s / c)` (Gemma Team 2024, arXiv:2408.00118, section 2), None for none.
        reduction: "none", "sum", or "mean": over the rows that count.

    Returns:
        The loss, in float32 or wider: () or (...). Where nothing counts, "mean" is 0 with zero gradient. Under autocast
        the factors of products are of its dtype; else of that of the arguments. Sums are in float32 or wider.

    Raises:
        TypeError: An argument is of a wrong kind, or dtypes differ outside autocast.
        ValueError: A shape or device does not fit, a class index is out of range or a distribution is none (looked at
            on a CPU outside transforms), or an option is out of range.

    Second derivatives, forward mode, `torch.func` and `torch.export` are right and take the memory of the plain
    formula. `torch.compile` breaks its graph here.

    >>> import torch
    >>> hidden, weight = torch.eye(3), torch.eye(3, requires_grad=True)
    >>> loss = linear_cross_entropy(hidden, weight, torch.tensor([0, 1, -100]))
    >>> round(loss.item(), 4), torch.autograd.grad(loss, weight)[0].diagonal().tolist()[2]
    (0.5514, 0.0)
    """
    others = (map, ignore_index, label_smoothing, z_loss, soft_cap, reduction)
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        from softplace.maps import _uncompiled

        loss: Tensor = _uncompiled.computed(hidden, weight, target, bias, *others).loss
        return loss
    return computed(hidden, weight, target, bias, *others).loss


class Sums(NamedTuple):
    """Over the rows that count."""

    loss: Tensor
    plain: Tensor
    """Without smoothing and z-loss; it has no gradient."""


def linear_cross_entropy_sums(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
) -> Sums:
    """Sums of `linear_cross_entropy` and of the loss without smoothing, from the same logits.

    Arguments and errors as of `linear_cross_entropy`.
    """
    return computed(hidden, weight, target, bias, "softmax", ignore_index, label_smoothing, 0.0, None, "sum")


def computed(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    chosen: str,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    soft_cap: float | None,
    reduction: str,
) -> Sums:
    """Checks all, and computes by blocks where nothing but autograd looks on, else by the plain formula."""
    options = _checked(hidden, weight, target, bias, chosen, ignore_index, label_smoothing, z_loss, soft_cap, reduction)
    check_values(NAME, target, ignore_index, weight.shape[0])
    target = target if target.is_floating_point() else target.long()
    given = (hidden, weight) if bias is None else (hidden, weight, bias)
    if torch.compiler.is_exporting() or hidden.is_meta or not all(_kernel.is_plain(each) for each in given):
        rest = (ignore_index, reduction)
        loss = _plain(hidden, weight, bias, target, options, *rest)
        bare = replace(options, smoothing=0.0, z_loss=0.0)
        plain = loss if bare == options else _plain(hidden, weight, bias, target, bare, *rest)
        return Sums(loss, plain.detach())
    loss, plain = _Fused.apply(hidden, weight, bias, target, options, ignore_index, reduction)  # type: ignore[no-untyped-call]
    return Sums(loss, plain)


def _plain(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    options: Options,
    ignore_index: int,
    reduction: str,
) -> Tensor:
    """The formula, with all logits: every transform and derivative of PyTorch."""
    with without_autocast(hidden.device):
        row = None if bias is None else bias.to(options.narrow)
        logits = torch.nn.functional.linear(hidden.to(options.narrow), weight.to(options.narrow), row).to(options.wide)
        if options.soft_cap is not None:
            logits = options.soft_cap * torch.tanh(logits / options.soft_cap)
        loss = LOSSES[options.map](
            logits, target, label_smoothing=options.smoothing, ignore_index=ignore_index, reduction=reduction
        )
        if not options.z_loss:
            return loss
        counts = torch.ones_like(logits[..., 0]) if target.is_floating_point() else target != ignore_index
        rows = options.z_loss * torch.where(counts != 0, torch.logsumexp(logits, -1), 0.0).square()
        if reduction == "none":
            return loss + rows
        return loss + (rows.sum() if reduction == "sum" else rows.sum() / counts.sum().clamp(min=1))


class _Fused(torch.autograd.Function):
    """By blocks. Gradients that the forward pass has made are handed out once, and made again when asked for again."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        options: Options,
        ignore_index: int,
        reduction: str,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(hidden, weight, bias, target)
        ctx.options, ctx.ignore_index, ctx.reduction = options, ignore_index, reduction
        learns = reduction != "none"
        wanted = Wanted(*(learns and each for each in ctx.needs_input_grad[:3]))
        loss, plain, ctx.made = _computed(hidden, weight, bias, target, options, ignore_index, reduction, wanted)
        ctx.mark_non_differentiable(plain)
        return loss, plain

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradient = upstream[0]
        hidden, weight, bias, target = ctx.saved_tensors
        wanted = Wanted(*ctx.needs_input_grad[:3])
        if torch.is_grad_enabled() or not _kernel.is_plain(gradient):
            with torch.enable_grad():
                own = hidden.view_as(hidden), weight.view_as(weight)  # they may be one tensor
                row = None if bias is None else bias.view_as(bias)
                loss = _plain(*own, row, target, ctx.options, ctx.ignore_index, ctx.reduction)
                leaves = [each for each, asked in zip((*own, row), wanted, strict=True) if asked and each is not None]
                found = iter(torch.autograd.grad(loss, leaves, gradient, create_graph=True))
            return *(next(found) if asked else None for asked in wanted), None, None, None, None
        made, ctx.made = ctx.made, None
        if ctx.reduction != "none" and made is not None:
            if not can_look(gradient) or float(gradient) != 1.0:
                for each in made:
                    if each is not None:
                        each.mul_(gradient)
        else:
            _, _, made = _computed(
                hidden, weight, bias, target, ctx.options, ctx.ignore_index, ctx.reduction, wanted, gradient
            )
        return *made, None, None, None, None


def _computed(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    options: Options,
    ignore_index: int,
    reduction: str,
    wanted: Wanted,
    upstream: Tensor | None = None,
) -> tuple[Tensor, Tensor, Gradients]:
    """The reduced loss, the plain one, and the gradients of the loss times `upstream`."""
    width, size = weight.shape[1], weight.shape[0]
    soft = target.is_floating_point()
    with without_autocast(hidden.device):
        count = hidden.shape[:-1].numel()
        rows = hidden.detach().reshape(count, width)
        answers = target.reshape(count, size) if soft else target.reshape(-1)
        taken = None
        if not soft:
            counts = answers != ignore_index
            if not bool(counts.all()):
                taken = counts.nonzero().squeeze(-1)
                rows, answers = rows.index_select(0, taken), answers.index_select(0, taken)
        number = rows.shape[0]
        scale = None if upstream is None else upstream.to(options.wide)
        if reduction == "none" and scale is not None:
            scale = scale.reshape(-1)
            scale = scale if taken is None else scale.index_select(0, taken)
        if reduction == "mean" and number:
            scale = (rows.new_ones((), dtype=options.wide) if scale is None else scale) / number
        matrix, row = weight.detach(), None if bias is None else bias.detach()
        if number and size:
            found, made = _by_blocks(rows, matrix, row, answers, options, wanted, scale)
        else:
            nothing = rows.new_zeros(number, dtype=options.wide)
            found = Rows(nothing, nothing)
            parts = (rows, matrix, row)
            made = Gradients(
                *(torch.zeros_like(p) if w and p is not None else None for p, w in zip(parts, wanted, strict=True))
            )
        loss, plain = (_reduced(each, taken, hidden.shape[:-1], reduction) for each in found)
        if made.hidden is not None:
            of_hidden = made.hidden
            if taken is not None:
                of_hidden = hidden.new_zeros(count, width).index_copy_(0, taken, of_hidden)
            made = made._replace(hidden=of_hidden.reshape(hidden.shape))
        return loss, plain, made


def _by_blocks(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    options: Options,
    wanted: Wanted,
    scale: Tensor | None = None,
) -> tuple[Rows, Gradients]:
    """Of rows that all count.

    Args:
        hidden: (N, E).
        weight: (V, E), V at least 1.
        bias: (V,) or None.
        target: Class indices (N,), or distributions (N, V).
        options: What the loss is.
        wanted: Which gradients to compute.
        scale: How much each row counts in the gradients, (N,) wide; or one number ().
    """
    half = options.narrow != options.wide and hidden.is_cpu
    if half and options.map == "softmax" and not target.is_floating_point():
        found = _linear_columns.statistics(hidden, weight, bias, target, options)
        lost = found.rows(options, weight.shape[0])
        if not can_look(found.total) or bool(lost.loss.isfinite().all()):
            made = _linear_columns.gradients(hidden, weight, bias, target, found.normaliser, options, wanted, scale)
            return lost, made
    return _linear_rows.by_rows(hidden, weight, bias, target, options, wanted, scale)


def _reduced(rows: Tensor, taken: Tensor | None, shape: torch.Size, reduction: str) -> Tensor:
    if reduction == "none":
        if taken is not None:
            rows = rows.new_zeros(shape.numel()).index_copy_(0, taken, rows)
        return rows.reshape(shape).clone()
    total = rows.sum()
    return total / max(rows.shape[0], 1) if reduction == "mean" else total


def _checked(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    chosen: str,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    soft_cap: float | None,
    reduction: str,
) -> Options:
    narrow = check_head(NAME, hidden, weight, bias)
    check_options(NAME, label_smoothing, ignore_index, reduction)
    if not isinstance(chosen, str) or chosen not in MAPS:
        raise ValueError(
            f"'map' of {NAME} must be one of {', '.join(MAPS)}. Got {chosen!r}. Apply others to the logits."
        )
    check_extras(NAME, z_loss, soft_cap)
    if z_loss and chosen != "softmax":
        raise ValueError(f"'z_loss' of {NAME} must be 0 with {chosen}, which has no log-normaliser. Got {z_loss}.")
    check_target(NAME, hidden, weight.shape[0], target, ignore_index)
    return Options(
        map=chosen,
        smoothing=float(label_smoothing),
        z_loss=float(z_loss),
        soft_cap=None if soft_cap is None else float(soft_cap),
        narrow=narrow,
    )

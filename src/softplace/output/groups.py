"""Softmax in two levels: over groups of classes, and over the classes of the target's group.

Axis legend: ... any leading axes, inside N tokens; E width of the hidden state, V classes, G groups.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from softplace.errors import InputError
from softplace.maps import cross_entropy, log_softmax
from softplace.maps._arguments import kind, wide_type
from softplace.maps._linear_arguments import check_head
from softplace.output._arguments import check_sizes, class_counts
from softplace.output._reduction import checked, reduced


class Groups(NamedTuple):
    """Which classes are together: each class in one group, in the order of the groups."""

    group: Tensor
    """(V,): the group of a class."""
    order: Tensor
    """(V,): the classes, group by group."""
    place: Tensor
    """(V,): where a class is in its group."""
    starts: list[int]
    """(G + 1): where a group starts in the order, and V."""


def grouped(group: Tensor) -> Groups:
    """From the group of each class, (V,), whole numbers from 0 of which none is left out.

    >>> grouped(torch.tensor([1, 0, 1])).order.tolist()
    [1, 0, 2]
    """
    if not isinstance(group, Tensor) or group.dim() != 1 or group.is_floating_point() or group.dtype == torch.bool:
        raise InputError(f"'group' must be a tensor of integers, one per class. Got {kind(group)}. Use torch.arange.")
    group = group.long()
    if not group.numel() or int(group.min()) < 0:
        got = "none" if not group.numel() else int(group.min())
        raise InputError(f"'group' must hold whole numbers from 0. Got {got}. Number the groups from 0.")
    # A group beyond the number of classes leaves another one empty, so that larger ones need not be counted.
    sizes = torch.bincount(group.clamp(max=len(group)))
    if bool((sizes == 0).any()):
        raise InputError(
            f"'group' must leave no group empty. Got none of group {int((sizes == 0).nonzero()[0])}, of "
            f"{int(group.max()) + 1}. Number them without gaps."
        )
    order = group.argsort(stable=True)
    starts = [0, *sizes.cumsum(0).tolist()]
    place = torch.empty_like(group)
    place[order] = (
        torch.arange(len(group), device=group.device) - torch.tensor(starts, device=group.device)[group[order]]
    )
    return Groups(group, order, place, starts)


def frequency_groups(counts: Tensor | Sequence[float], groups: int) -> Tensor:
    """The group of each class, (V,), such that groups have about the same count: frequent classes are among few.

    Args:
        counts: One number per class, (V,), not negative.
        groups: How many, from 1 to V; there are fewer where a class has the count of several.

    Raises:
        InputError: Not such numbers.

    Source: Mikolov et al. 2011 ("Extensions of recurrent neural network language model").

    >>> frequency_groups(torch.tensor([1, 6, 1, 1, 3]), 2).tolist()
    [1, 0, 1, 1, 1]
    """
    check_sizes(groups=groups)
    numbers = class_counts(counts)
    if groups > len(numbers):
        raise InputError(f"'groups' must be at most the number of classes, {len(numbers)}. Got {groups}. Use fewer.")
    order = numbers.argsort(descending=True, stable=True)
    total = numbers.sum()
    shares = (numbers[order].cumsum(0) - numbers[order]) / torch.where(total > 0.0, total, 1.0)
    found = (shares * groups).long().clamp(max=groups - 1)
    # A group that a frequent class has jumped over is not left empty.
    found = torch.unique_consecutive(found, return_inverse=True)[1]
    return torch.empty_like(found).scatter_(0, order, found)


def grouped_softmax(
    hidden: Tensor,
    group_weight: Tensor,
    weight: Tensor,
    target: Tensor,
    groups: Groups,
    group_bias: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of two softmaxes, `p(v) = softmax(U h + c)_g(v) softmax((W h + b) of group g(v))_v`.

    Tokens are sorted by their target's group: each group that occurs is one matrix product.

    Args:
        hidden: h, (..., E).
        group_weight: U, (G, E).
        weight: W, (V, E), in the order of the classes.
        target: Class indices (...).
        groups: As `grouped` makes it.
        group_bias: c, (G,).
        bias: b, (V,).
        ignore_index, reduction: as `linear_cross_entropy`.

    Returns:
        The loss, in float32 or wider: () or (...).

    Raises:
        TypeError, ValueError: As `linear_cross_entropy`; the groups do not fit the weights.

    Source: Goodman 2001 (arXiv:cs/0108006).

    >>> import torch
    >>> groups = grouped(torch.tensor([0, 0, 1]))
    >>> grouped_softmax(torch.zeros(1, 2), torch.zeros(2, 2), torch.zeros(3, 2), torch.tensor([1]), groups).exp().item()
    4.0
    """
    name = "grouped_softmax"
    _check_groups(name, hidden, group_weight, weight, groups, group_bias, bias)
    counts = checked(name, hidden, weight, target, bias, None, ignore_index, reduction)
    flat = counts.flatten()
    rows = hidden.reshape(len(flat), hidden.shape[-1])
    taken = flat.nonzero().squeeze(-1)
    answers = target.flatten()[taken].long()
    which = groups.group[answers]
    turn = which.argsort(stable=True)
    taken, answers, which = taken[turn], answers[turn], which[turn]
    given = rows[taken]
    losses = cross_entropy(_logits(given, group_weight, group_bias), which, reduction="none")
    present, sizes = torch.unique_consecutive(which, return_counts=True)
    # One selection and one split: the gradient of a selection is as large as the weight.
    lengths = [end - start for start, end in pairwise(groups.starts)]
    matrices = torch.split(weight.index_select(0, groups.order), lengths)
    rest = [None] * len(lengths) if bias is None else torch.split(bias.index_select(0, groups.order), lengths)
    parts = zip(present.tolist(), torch.split(given, sizes.tolist()), torch.split(answers, sizes.tolist()), strict=True)
    within = []
    for number, some, wanted in parts:
        logits = _logits(some, matrices[number], rest[number])
        within.append(cross_entropy(logits, groups.place[wanted], reduction="none"))
    losses = losses + torch.cat(within) if within else losses
    spread = losses.new_zeros(flat.shape).index_copy(0, taken, losses)
    return reduced(spread.reshape(target.shape), counts, reduction)


def grouped_log_softmax(
    hidden: Tensor,
    group_weight: Tensor,
    weight: Tensor,
    groups: Groups,
    group_bias: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Logarithms of the probabilities of all classes, (..., V), in float32 or wider.

    Arguments as of `grouped_softmax`.
    """
    _check_groups("grouped_log_softmax", hidden, group_weight, weight, groups, group_bias, bias)
    outer = log_softmax(_logits(hidden, group_weight, group_bias))
    logits = _logits(hidden, weight, bias)[..., groups.order]
    sizes = [end - start for start, end in pairwise(groups.starts)]
    inner = torch.cat([log_softmax(each) for each in torch.split(logits, sizes, -1)], -1)
    inverse = groups.order.argsort()
    return inner[..., inverse] + outer[..., groups.group]


class GroupedSoftmax(nn.Module):
    """Two levels of classes: see `grouped_softmax`.

    Args:
        width: E.
        group: The group of each class, (V,): `frequency_groups`, or what belongs together.
        bias: Whether logits have one.
        device, dtype: Of the parameters, which are drawn as `torch.nn.Linear` draws them.

    >>> net = GroupedSoftmax(16, torch.arange(100) // 10)
    >>> net(torch.zeros(3, 16), torch.tensor([5, 99, -100])).shape
    torch.Size([])
    """

    group: Tensor

    def __init__(
        self,
        width: int,
        group: Tensor,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes(width=width)
        groups = grouped(group)
        self.register_buffer("group", groups.group.to(device))
        self.outer = nn.Linear(width, len(groups.starts) - 1, bias=bias, device=device, dtype=dtype)
        self.inner = nn.Linear(width, len(groups.group), bias=bias, device=device, dtype=dtype)

    def forward(self, hidden: Tensor, target: Tensor, *, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
        """The loss, as `grouped_softmax`."""
        return grouped_softmax(
            hidden,
            self.outer.weight,
            self.inner.weight,
            target,
            grouped(self.group),
            self.outer.bias,
            self.inner.bias,
            ignore_index=ignore_index,
            reduction=reduction,
        )

    def log_prob(self, hidden: Tensor) -> Tensor:
        """As `grouped_log_softmax`."""
        outer, inner = self.outer, self.inner
        return grouped_log_softmax(hidden, outer.weight, inner.weight, grouped(self.group), outer.bias, inner.bias)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return linear(hidden, weight, bias).to(wide_type(hidden.dtype))


def _check_groups(
    name: str,
    hidden: Tensor,
    group_weight: Tensor,
    weight: Tensor,
    groups: Groups,
    group_bias: Tensor | None,
    bias: Tensor | None,
) -> None:
    check_head(name, hidden, group_weight, group_bias)
    check_head(name, hidden, weight, bias)
    if not isinstance(groups, Groups):
        raise TypeError(f"'groups' of {name} must be Groups. Got {kind(groups)}. Use grouped(group).")
    for argument, matrix, size in (
        ("group_weight", group_weight, len(groups.starts) - 1),
        ("weight", weight, len(groups.group)),
    ):
        if matrix.shape[0] != size:
            raise ValueError(
                f"{argument!r} of {name} must have {size} rows, as 'groups' says. Got {matrix.shape[0]}. "
                "The weight has a row per class, the group weight one per group."
            )

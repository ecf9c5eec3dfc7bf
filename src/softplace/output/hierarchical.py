"""Hierarchical softmax: a class is found by decisions, so that a loss costs a few of them and not all classes.

Axis legend: ... any leading axes, inside N tokens; E width of the hidden state, V classes, G groups, D depth.

Two hierarchies. Groups: one softmax over groups and one within the target's. A binary tree: a logistic decision at each
node on the way to the target. Either way the probabilities of all classes sum to one, by construction.
"""

import heapq
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid

from softplace.errors import InputError
from softplace.maps import cross_entropy, log_softmax
from softplace.maps._arguments import kind, wide_type
from softplace.maps.linear import check_head
from softplace.output._reduction import checked, reduced
from softplace.output.adaptive import check_sizes

ROWS = 256
"""Tokens whose nodes are gathered at a time."""


class Tree(NamedTuple):
    """A binary tree with a class at each leaf: the ways from the root."""

    nodes: Tensor
    """(V, D): the inner nodes on the way to a class, from the root; 0 beyond its end."""
    signs: Tensor
    """(V, D) of int8: 1 where the way goes right (the decision's logit is for it), -1 left, 0 beyond the end."""


def huffman_tree(counts: Tensor | Sequence[float]) -> Tree:
    """The tree of least mean depth for these counts of classes (Huffman 1952).

    Args:
        counts: One number per class, (V,), not negative, V at least 2.

    Raises:
        InputError: Not such numbers.

    >>> huffman_tree([5, 2, 1, 1]).signs.abs().sum(-1).tolist()
    [1, 2, 3, 3]
    """
    numbers = torch.as_tensor(counts, dtype=torch.float64).tolist() if _are_numbers(counts) else []
    if len(numbers) < 2 or not all(0.0 <= each < float("inf") for each in numbers):
        raise InputError(
            "'counts' must be two or more finite numbers that are not negative, one per class. "
            f"Got {kind(counts) if not numbers else numbers[:5]}. Use e.g. torch.bincount(targets, minlength=classes)."
        )
    size = len(numbers)
    heap = [(number, place) for place, number in enumerate(numbers)]
    heapq.heapify(heap)
    parent, side = [0] * (2 * size - 1), [0] * (2 * size - 1)
    for made in range(size, 2 * size - 1):
        left, right = heapq.heappop(heap), heapq.heappop(heap)
        for (_, child), sign in ((left, -1), (right, 1)):
            parent[child], side[child] = made, sign
        heapq.heappush(heap, (left[0] + right[0], made))
    return _ways(parent, side, size)


def balanced_tree(classes: int) -> Tree:
    """A tree of depth `ceil(log2 V)`: the classes in their order, halved again and again.

    >>> balanced_tree(4).nodes.tolist()
    [[0, 1], [0, 1], [0, 2], [0, 2]]
    """
    check_sizes(classes=classes)
    if classes < 2:
        raise InputError(f"'classes' must be at least 2. Got {classes}. One class needs no decision.")
    ways: list[list[tuple[int, int]]] = [[] for _ in range(classes)]
    waiting, number = [(0, classes)], 0
    for start, end in waiting:
        if end - start < 2:
            continue
        middle = (start + end + 1) // 2
        for place in range(start, end):
            ways[place].append((number, 1 if place >= middle else -1))
        number += 1
        waiting += [(start, middle), (middle, end)]
    return _padded(ways)


def hierarchical_softmax(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    tree: Tree,
    bias: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of decisions along a binary tree: `-log p(v) = -sum_d log sigmoid(sign_vd (w_n h + b_n))`.

    n is the node at depth d on the way to v. A loss costs D products of width E and not V.

    Args:
        hidden: h, (..., E).
        weight: w, (V - 1, E), one row per inner node.
        target: Class indices (...).
        tree: As `huffman_tree` or `balanced_tree` make it.
        bias: b, (V - 1,).
        ignore_index, reduction: as `linear_cross_entropy`.

    Returns:
        The loss, in float32 or wider: () or (...).

    Raises:
        TypeError, ValueError: As `linear_cross_entropy`; the tree does not fit the weight.

    Source: Morin and Bengio 2005, eq. 3; with Huffman's tree Mikolov et al. 2013 (arXiv:1310.4546), eq. 3.

    >>> import torch
    >>> tree = balanced_tree(4)
    >>> hierarchical_softmax(torch.zeros(1, 2), torch.zeros(3, 2), torch.tensor([3]), tree).exp().item()
    4.0
    """
    name = "hierarchical_softmax"
    size = _check_tree(name, hidden, weight, bias, tree)
    counts = checked(name, hidden, weight, target, bias, size, ignore_index, reduction)
    answers = torch.where(counts, target, 0).flatten()
    rows = hidden.reshape(-1, hidden.shape[-1])
    found = []
    for some, wanted in zip(torch.split(rows, ROWS), torch.split(answers, ROWS), strict=True):
        nodes, signs = tree.nodes[wanted], tree.signs[wanted]
        logits = torch.bmm(weight[nodes], some.unsqueeze(-1)).squeeze(-1).to(wide_type(hidden.dtype))
        if bias is not None:
            logits = logits + bias[nodes]
        found.append(-torch.where(signs == 0, 0.0, logsigmoid(signs * logits)).sum(-1))
    losses = torch.cat(found).reshape(target.shape)
    return reduced(torch.where(counts, losses, 0.0), counts, reduction)


def hierarchical_log_softmax(hidden: Tensor, weight: Tensor, tree: Tree, bias: Tensor | None = None) -> Tensor:
    """Logarithms of the probabilities of all classes, (..., V), in float32 or wider.

    Arguments as of `hierarchical_softmax`.

    >>> import torch
    >>> hierarchical_log_softmax(torch.ones(2), torch.zeros(2, 2), balanced_tree(3)).exp().tolist()
    [0.25, 0.25, 0.5]
    """
    _check_tree("hierarchical_log_softmax", hidden, weight, bias, tree)
    logits = linear(hidden, weight, bias).to(wide_type(hidden.dtype))
    left, right = logsigmoid(-logits), logsigmoid(logits)
    total = logits.new_zeros(*hidden.shape[:-1], tree.nodes.shape[0])
    for nodes, signs in zip(tree.nodes.T, tree.signs.T, strict=True):
        step = torch.where(signs > 0, right[..., nodes], left[..., nodes])
        total = total + torch.where(signs == 0, 0.0, step)
    return total


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
    sizes = torch.bincount(group)
    if bool((sizes == 0).any()):
        raise InputError(
            f"'group' must leave no group empty. Got none of group {int((sizes == 0).nonzero()[0])}, of "
            f"{len(sizes)}. Number them without gaps."
        )
    order = group.argsort(stable=True)
    starts = [0, *sizes.cumsum(0).tolist()]
    place = torch.empty_like(group)
    place[order] = (
        torch.arange(len(group), device=group.device) - torch.tensor(starts, device=group.device)[group[order]]
    )
    return Groups(group, order, place, starts)


def frequency_groups(counts: Tensor, groups: int) -> Tensor:
    """The group of each class, (V,), such that groups have about the same count: frequent classes are among few.

    Source: Mikolov et al. 2011 ("Extensions of recurrent neural network language model"), section 3.

    >>> frequency_groups(torch.tensor([1, 6, 1, 1, 3]), 2).tolist()
    [1, 0, 1, 1, 1]
    """
    check_sizes(groups=groups)
    if groups > len(counts):
        raise InputError(f"'groups' must be at most the number of classes, {len(counts)}. Got {groups}. Use fewer.")
    order = counts.argsort(descending=True, stable=True)
    shares = counts[order].double().cumsum(0) - counts[order].double()
    found = (shares / counts.sum().clamp(min=1) * groups).long().clamp(max=groups - 1)
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

    Source: Goodman 2001 (arXiv:cs/0108006), eq. 2.

    >>> import torch
    >>> groups = grouped(torch.tensor([0, 0, 1]))
    >>> grouped_softmax(torch.zeros(1, 2), torch.zeros(2, 2), torch.zeros(3, 2), torch.tensor([1]), groups).exp().item()
    4.0
    """
    name = "grouped_softmax"
    _check_groups(name, hidden, group_weight, weight, groups, group_bias, bias)
    counts = checked(name, hidden, weight, target, bias, weight.shape[0], ignore_index, reduction)
    flat, rows = counts.flatten(), hidden.reshape(-1, hidden.shape[-1])
    taken = flat.nonzero().squeeze(-1)
    answers = target.flatten()[taken]
    which = groups.group[answers]
    turn = which.argsort(stable=True)
    taken, answers, which = taken[turn], answers[turn], which[turn]
    given = rows[taken]
    losses = cross_entropy(_logits(given, group_weight, group_bias), which, reduction="none")
    present, sizes = torch.unique_consecutive(which, return_counts=True)
    parts = zip(present.tolist(), torch.split(given, sizes.tolist()), torch.split(answers, sizes.tolist()), strict=True)
    within = []
    for number, some, wanted in parts:
        members = groups.order[groups.starts[number] : groups.starts[number + 1]]
        logits = _logits(some, weight[members], None if bias is None else bias[members])
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


class HierarchicalSoftmax(nn.Module):
    """The nodes of a binary tree: see `hierarchical_softmax`.

    Args:
        width: E.
        tree: Of the classes; it is kept as buffers.
        bias: Whether decisions have one.
        device, dtype: Of the parameters, which start at zero: all decisions even.

    >>> net = HierarchicalSoftmax(16, huffman_tree([5, 2, 1, 1]))
    >>> net.log_prob(torch.zeros(16)).exp().tolist()
    [0.5, 0.25, 0.125, 0.125]
    """

    nodes: Tensor
    signs: Tensor

    def __init__(
        self,
        width: int,
        tree: Tree,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes(width=width)
        inner = tree.nodes.shape[0] - 1
        self.register_buffer("nodes", tree.nodes.to(device))
        self.register_buffer("signs", tree.signs.to(device))
        self.weight = nn.Parameter(torch.zeros(inner, width, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(inner, device=device, dtype=dtype)) if bias else None

    def forward(self, hidden: Tensor, target: Tensor, *, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
        """The loss, as `hierarchical_softmax`."""
        tree = Tree(self.nodes, self.signs)
        return hierarchical_softmax(
            hidden, self.weight, target, tree, self.bias, ignore_index=ignore_index, reduction=reduction
        )

    def log_prob(self, hidden: Tensor) -> Tensor:
        """As `hierarchical_log_softmax`."""
        return hierarchical_log_softmax(hidden, self.weight, Tree(self.nodes, self.signs), self.bias)


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


def _are_numbers(counts: object) -> bool:
    if isinstance(counts, Tensor):
        return counts.dim() == 1 and not counts.is_complex() and counts.dtype != torch.bool
    return isinstance(counts, Sequence) and all(isinstance(each, (int, float)) for each in counts)


def _ways(parent: list[int], side: list[int], size: int) -> Tree:
    """From the parents of nodes, of which the last is the root and the first are the classes."""
    root = 2 * size - 2
    ways: list[list[tuple[int, int]]] = [[] for _ in range(root + 1)]
    for node in range(root - 1, -1, -1):  # parents come after their children
        ways[node] = [*ways[parent[node]], (root - parent[node], side[node])]
    return _padded(ways[:size])


def _padded(ways: list[list[tuple[int, int]]]) -> Tree:
    depth = max(map(len, ways))
    padded = torch.tensor([way + [(0, 0)] * (depth - len(way)) for way in ways])
    return Tree(padded[..., 0].contiguous(), padded[..., 1].to(torch.int8))


def _check_tree(name: str, hidden: Tensor, weight: Tensor, bias: Tensor | None, tree: Tree) -> int:
    """The number of classes."""
    check_head(name, hidden, weight, bias)
    if not isinstance(tree, Tree) or tree.nodes.shape != tree.signs.shape or tree.nodes.dim() != 2:
        raise TypeError(f"'tree' of {name} must be a Tree. Got {kind(tree)}. Use huffman_tree(counts).")
    size = tree.nodes.shape[0]
    if weight.shape[0] != size - 1:
        raise ValueError(
            f"'weight' of {name} must have {size - 1} rows, one per inner node of a tree of {size} classes. "
            f"Got {weight.shape[0]}. A binary tree has one inner node less than leaves."
        )
    return size


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

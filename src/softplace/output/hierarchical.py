"""Hierarchical softmax: a class is found by decisions along a binary tree, so that a loss costs a few of them.

Axis legend: ... any leading axes, inside N tokens; E width of the hidden state, V classes, D depth.

At each node on the way to a class stands a logistic decision: the probabilities of all classes sum to one, by
construction.
"""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid

from softplace.errors import InputError
from softplace.maps._arguments import kind, wide_type
from softplace.maps._linear_arguments import check_head
from softplace.output._arguments import check_sizes, class_counts
from softplace.output._reduction import checked, reduced, without_ignored

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
    numbers = class_counts(counts, 2).tolist()
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

    Source: Morin and Bengio 2005; with Huffman's tree Mikolov et al. 2013 (arXiv:1310.4546), eq. 3.

    >>> import torch
    >>> tree = balanced_tree(4)
    >>> hierarchical_softmax(torch.zeros(1, 2), torch.zeros(3, 2), torch.tensor([3]), tree).exp().item()
    4.0
    """
    name = "hierarchical_softmax"
    size = _check_tree(name, hidden, weight, bias, tree)
    counts = checked(name, hidden, weight, target, bias, size, ignore_index, reduction)
    answers = torch.where(counts, target.long(), 0).flatten()
    rows = without_ignored(hidden, counts).reshape(len(answers), hidden.shape[-1])
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
        _check_kind("HierarchicalSoftmax", tree)
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
    _check_kind(name, tree)
    size = tree.nodes.shape[0]
    if weight.shape[0] != size - 1:
        raise ValueError(
            f"'weight' of {name} must have {size - 1} rows, one per inner node of a tree of {size} classes. "
            f"Got {weight.shape[0]}. A binary tree has one inner node less than leaves."
        )
    return size


def _check_kind(name: str, tree: object) -> None:
    if not isinstance(tree, Tree) or tree.nodes.shape != tree.signs.shape or tree.nodes.dim() != 2:
        raise TypeError(f"'tree' of {name} must be a Tree. Got {kind(tree)}. Use huffman_tree(counts).")

"""Hierarchical softmax against loops over words and decisions."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.output import (
    GroupedSoftmax,
    Groups,
    HierarchicalSoftmax,
    Tree,
    balanced_tree,
    frequency_groups,
    grouped,
    grouped_log_softmax,
    grouped_softmax,
    hierarchical,
    hierarchical_log_softmax,
    hierarchical_softmax,
    huffman_tree,
)

N, E, V, G = 50, 7, 23, 4
COUNTS = [int(1000 / (rank + 1)) for rank in range(V)]
TREES = {"Huffman": huffman_tree(COUNTS), "balanced": balanced_tree(V)}
every_tree = pytest.mark.parametrize("tree", TREES.values(), ids=TREES.keys())


def parts(rows: int = V - 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((N, E), (rows, E), (rows,))
    )
    return hidden, weight, bias, torch.cat([torch.arange(V), torch.randint(V, (N - V,))])


def by_decisions(hidden: list[float], weight: list[list[float]], bias: list[float], tree: Tree, word: int) -> float:
    """-log p of one word, by a loop."""
    loss = 0.0
    for node, sign in zip(tree.nodes[word].tolist(), tree.signs[word].tolist(), strict=True):
        if sign:
            logit = sum(w * h for w, h in zip(weight[node], hidden, strict=True)) + bias[node]
            loss += math.log1p(math.exp(-sign * logit))
    return loss


@every_tree
def test_losses_are_sums_over_decisions(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hierarchical, "ROWS", 16)
    hidden, weight, bias, target = parts()
    found = hierarchical_softmax(hidden, weight, target, tree, bias, reduction="none")
    rows, lists = hidden.tolist(), (weight.tolist(), bias.tolist())
    expected = [by_decisions(row, *lists, tree, word) for row, word in zip(rows, target.tolist(), strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@every_tree
def test_probabilities_of_a_tree_sum_to_one_and_are_those_of_the_loss(tree: Tree) -> None:
    hidden, weight, bias, target = parts()
    logs = hierarchical_log_softmax(hidden, weight, tree, bias)
    torch.testing.assert_close(logs.exp().sum(-1), torch.ones(N, dtype=torch.float64), rtol=0, atol=1e-14)
    found = hierarchical_softmax(hidden, weight, target, tree, bias)
    expected = -logs.gather(-1, target[:, None]).mean()
    torch.testing.assert_close(found, expected)
    leaves = (hidden, weight, bias)
    for one, other in zip(*(torch.autograd.grad(each, leaves) for each in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)
    assert torch.autograd.gradcheck(
        lambda *given: hierarchical_softmax(*given[:2], target[:2], tree, given[2]),
        (hidden[:2].detach().requires_grad_(), weight, bias),
    )


@every_tree
def test_a_tree_has_one_inner_node_less_than_classes_and_every_way_ends_elsewhere(tree: Tree) -> None:
    ways = {tuple(zip(n, s, strict=True)) for n, s in zip(tree.nodes.tolist(), tree.signs.tolist(), strict=True)}
    assert len(ways) == V
    used = tree.nodes[tree.signs != 0]
    assert sorted(set(used.tolist())) == list(range(V - 1))
    # Kraft: a full binary tree.
    assert float((0.5 ** tree.signs.abs().sum(-1).double()).sum()) == 1.0


def test_huffman_is_the_shortest() -> None:
    """Against the cost of merging (each merge adds its count once) and the bounds of entropy."""
    depth = TREES["Huffman"].signs.abs().sum(-1)
    heap = sorted(COUNTS)
    cost = 0
    while len(heap) > 1:
        merged = heap[0] + heap[1]
        cost += merged
        heap = sorted([merged, *heap[2:]])
    assert int((depth * torch.tensor(COUNTS)).sum()) == cost
    shares = torch.tensor(COUNTS).double() / sum(COUNTS)
    entropy = float(-(shares * shares.log2()).sum())
    assert entropy <= cost / sum(COUNTS) < entropy + 1
    assert huffman_tree(torch.tensor([0, 0])).signs.tolist() == [[-1], [1]]
    assert int(balanced_tree(V).signs.abs().sum(-1).max()) == math.ceil(math.log2(V))


def test_the_tree_as_a_module() -> None:
    net = HierarchicalSoftmax(E, TREES["Huffman"]).double()
    hidden, _, _, target = parts()
    depth = TREES["Huffman"].signs.abs().sum(-1).double()
    torch.testing.assert_close(net(hidden, target, reduction="none"), depth[target] * math.log(2))
    net.load_state_dict(net.state_dict())
    assert net.log_prob(hidden).shape == (N, V)


def by_words(hidden: Tensor, outer: Tensor, inner: Tensor, groups: Groups, word: int) -> Tensor:
    group = int(groups.group[word])
    members = [each for each in range(V) if int(groups.group[each]) == group]
    within = torch.stack([inner[each] @ hidden for each in members]).log_softmax(0)
    return (outer @ hidden).log_softmax(0)[group] + within[members.index(word)]


@pytest.mark.parametrize("kind", ["even", "mixed", "frequency"])
def test_two_levels(kind: str) -> None:
    assigned = {
        "even": torch.arange(V) * G // V,
        "mixed": torch.arange(V) % G,
        "frequency": frequency_groups(torch.tensor(COUNTS), G),
    }[kind]
    groups = grouped(assigned)
    hidden, inner, bias, target = parts(V)
    number = int(assigned.max()) + 1
    outer = torch.randn(number, E, dtype=torch.float64, requires_grad=True)
    found = grouped_softmax(hidden, outer, inner, target, groups, reduction="none")
    expected = [-by_words(row, outer, inner, groups, word) for row, word in zip(hidden, target.tolist(), strict=True)]
    torch.testing.assert_close(found, torch.stack(expected))
    logs = grouped_log_softmax(hidden, outer, inner, groups)
    torch.testing.assert_close(logs.exp().sum(-1), torch.ones(N, dtype=torch.float64))
    torch.testing.assert_close(-logs.gather(-1, target[:, None])[:, 0], found)
    leaves = (hidden, outer, inner)
    pairs = (torch.autograd.grad(each, leaves) for each in (found.mean(), torch.stack(expected).mean()))
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other)
    extra = torch.randn(number, dtype=torch.float64)
    biased = grouped_log_softmax(hidden, outer, inner, groups, extra, bias)
    found = grouped_softmax(hidden, outer, inner, target, groups, extra, bias, reduction="none")
    torch.testing.assert_close(-biased.gather(-1, target[:, None])[:, 0], found)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ignored_targets(reduction: str) -> None:
    nets = (HierarchicalSoftmax(E, TREES["balanced"]).double(), GroupedSoftmax(E, torch.arange(V) % G).double())
    hidden, _, _, target = parts()
    target[::3] = -1
    for net in nets:
        torch.nn.init.normal_(next(net.parameters()))
        found = net(hidden, target, ignore_index=-1, reduction=reduction)
        expected = net(hidden[target >= 0], target[target >= 0], reduction=reduction)
        torch.testing.assert_close(found[target >= 0] if reduction == "none" else found, expected)
        for some, wanted in ((hidden, torch.full_like(target, -1)), (hidden[:0], target[:0])):
            nothing = net(some, wanted, ignore_index=-1, reduction=reduction)
            assert not nothing.any()
            assert not torch.autograd.grad(nothing.sum(), hidden)[0].any()
        shaped = net(hidden.reshape(5, 10, E), target.reshape(5, 10), ignore_index=-1, reduction=reduction)
        torch.testing.assert_close(shaped.flatten(), found.flatten())


@pytest.mark.parametrize("counts", [[1.0], [], [1.0, -1.0], [1.0, math.inf], [1.0, math.nan], "ab", torch.ones(2, 2)])
def test_bad_counts(counts: Any) -> None:
    with pytest.raises(InputError, match="'counts' must be two or more finite numbers"):
        huffman_tree(counts)


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (torch.tensor([0, 2]), "leave no group empty. Got none of group 1, of 3"),
        (torch.tensor([-1, 0]), "whole numbers from 0. Got -1"),
        (torch.tensor([], dtype=torch.long), "whole numbers from 0. Got none"),
        (torch.tensor([0.0, 1.0]), r"tensor of integers, one per class. Got a tensor of torch\.float32"),
    ],
)
def test_bad_groups(group: Tensor, said: str) -> None:
    with pytest.raises(InputError, match=said):
        grouped(group)


def test_bad_calls() -> None:
    hidden, target = torch.zeros(2, 4), torch.tensor([0, 3])
    with pytest.raises(ValueError, match="'weight' of hierarchical_softmax must have 2 rows, one per inner node"):
        hierarchical_softmax(hidden, torch.zeros(3, 4), target, balanced_tree(3))
    with pytest.raises(ValueError, match=r"class indices in \[0, 2\]\. Got 3 at \(1,\)"):
        hierarchical_softmax(hidden, torch.zeros(2, 4), target, balanced_tree(3))
    with pytest.raises(TypeError, match=r"must be a Tree\. Got str"):
        hierarchical_softmax(hidden, torch.zeros(2, 4), target, "Huffman")  # type: ignore[arg-type]
    groups = grouped(torch.tensor([0, 0, 1]))
    with pytest.raises(ValueError, match=r"must have 2 rows, as 'groups' says\. Got 3"):
        grouped_softmax(hidden, torch.zeros(3, 4), torch.zeros(3, 4), target, groups)
    with pytest.raises(ValueError, match=r"class indices in \[0, 2\]\. Got 3 at \(1,\)"):
        grouped_softmax(hidden, torch.zeros(2, 4), torch.zeros(3, 4), target, groups)
    with pytest.raises(InputError, match=r"'classes' must be at least 2\. Got 1"):
        balanced_tree(1)
    with pytest.raises(TypeError, match=r"'tree' of HierarchicalSoftmax must be a Tree\. Got NoneType"):
        HierarchicalSoftmax(4, None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"'counts' must be one or more finite numbers .* Got \[1\.0, -2\.0\]"):
        frequency_groups(torch.tensor([1.0, -2.0]), 1)
    with pytest.raises(InputError, match=r"'counts' must be one or more finite numbers .* Got int"):
        frequency_groups(3, 1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"'groups' must be at most the number of classes, 2\. Got 3"):
        frequency_groups(torch.tensor([1, 1]), 3)

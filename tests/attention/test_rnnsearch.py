"""RNNsearch against a slow loop from the paper's equations, and against itself word by word."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace.attention import RNNEncDec, RNNSearch, greedy
from softplace.errors import InputError
from tests.attention.turning import learn

B, S, T, V = 3, 6, 5, 9
SIZES: dict[str, Any] = {"source_words": V, "target_words": V, "hidden": 7, "embedding": 4, "maxout": 5}
Net = RNNSearch | RNNEncDec
KINDS: list[Any] = [
    lambda: RNNSearch(**SIZES),
    lambda: RNNSearch(**SIZES, align=3, map="sparsemax"),
    lambda: RNNEncDec(**SIZES),
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=["search", "sparsemax", "encdec"])


def build(kind: Any) -> Any:
    """A net in float64 whose parameters all matter."""
    torch.manual_seed(0)
    net = kind().double()
    for parameter in net.parameters():
        parameter.data += 0.4 * torch.randn_like(parameter)
    return net


def sentences() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    mask = torch.arange(S) < torch.tensor([6, 3, 1])[:, None]
    return torch.randint(0, V, (B, S)), torch.randint(0, V, (B, T)), mask


def gru(cell: Any, seen: Tensor, hidden: Tensor) -> Tensor:
    """Equations of A.1.1 for one sentence, number by number."""
    size = len(hidden)
    sums = cell.seen_weight @ seen + cell.bias
    update, reset = (
        torch.sigmoid(sums[i * size : (i + 1) * size] + cell.gates_weight[i * size : (i + 1) * size] @ hidden)
        for i in range(2)
    )
    candidate = torch.tanh(sums[2 * size :] + cell.candidate_weight @ (reset * hidden))
    return (1 - update) * hidden + update * candidate


def by_the_paper(net: Any, source: list[int], target: list[int]) -> tuple[Tensor, Tensor]:
    """Logits and weights of one sentence with softmax, from the equations of appendix A."""
    size = net.start_weight.shape[0]
    hidden, onwards = torch.zeros(size).double(), []
    for word in source:
        hidden = gru(net.forwards, net.source_embedding[word], hidden)
        onwards.append(hidden)
    hidden, back = torch.zeros(size).double(), []
    for word in reversed(source):
        hidden = gru(net.backwards, net.source_embedding[word], hidden)
        back.insert(0, hidden)
    annotations = [torch.cat(pair) for pair in zip(onwards, back, strict=True)]
    state = torch.tanh(net.start_weight @ back[0] + net.start_bias)
    logits, alphas = [], []
    for word in target:
        energies = [
            float(net.direction @ torch.tanh(net.query_weight @ state + net.key_weight @ each)) for each in annotations
        ]
        shares = [math.exp(each) / sum(math.exp(other) for other in energies) for each in energies]
        context = torch.stack([share * each for share, each in zip(shares, annotations, strict=True)]).sum(0)
        embedded = net.target_embedding[word]
        sums = net.readout_weight @ torch.cat([state, embedded, context]) + net.readout_bias
        readout = torch.stack([torch.maximum(sums[2 * i], sums[2 * i + 1]) for i in range(len(sums) // 2)])
        logits.append(net.output_weight @ readout + net.output_bias)
        alphas.append(torch.tensor(shares).double())
        state = gru(net.decoder, torch.cat([embedded, context]), state)
    return torch.stack(logits), torch.stack(alphas)


@torch.no_grad()
def test_it_is_the_papers_equations() -> None:
    net = build(KINDS[0])
    source, target, mask = sentences()
    logits, weights = net(source, target, mask), net.attention(source, target, mask)
    for row, length in enumerate((6, 3, 1)):
        expected, shares = by_the_paper(net, source[row, :length].tolist(), target[row].tolist())
        torch.testing.assert_close(logits[row], expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(weights[row, :, :length], shares, rtol=0, atol=1e-7)
        assert not weights[row, :, length:].any()


@every_kind
def test_word_by_word_is_the_whole(kind: Any) -> None:
    net = build(kind)
    source, target, mask = sentences()
    whole, state, made = net(source, target, mask), net.start(source, mask), []
    for part in torch.split(target, [1, 3, 1], 1):
        logits, state, _ = net.decode(part, state)
        made.append(logits)
    torch.testing.assert_close(torch.cat(made, 1), whole, rtol=0, atol=1e-12)


@every_kind
def test_padding_neighbours_and_later_words_change_nothing(kind: Any) -> None:
    net = build(kind)
    source, target, mask = sentences()
    whole = net(source, target, mask)
    other = torch.where(mask, source, (source + 1) % V)
    torch.testing.assert_close(net(other, target, mask), whole, rtol=0, atol=1e-12)
    for row, length in enumerate((6, 3, 1)):
        alone = net(source[row : row + 1, :length], target[row : row + 1])
        torch.testing.assert_close(alone[0], whole[row], rtol=0, atol=1e-12)
    later = target.clone()
    later[:, 2:] = (later[:, 2:] + 1) % V
    torch.testing.assert_close(net(source, later, mask)[:, :2], whole[:, :2], rtol=0, atol=1e-12)
    rows = torch.tensor([2, 2, 0])
    state = net.decode(target[:, :2], net.start(source, mask))[1].select(rows.unsqueeze(-1))
    torch.testing.assert_close(net.decode(target[rows, 2:], state)[0], whole[rows, 2:], rtol=0, atol=1e-12)


def test_without_attention_the_context_is_one() -> None:
    net = build(KINDS[2])
    source, target, mask = sentences()
    state = net.start(source, mask)
    hidden = torch.zeros(7).double()
    for word in source[1, :3].tolist():
        hidden = gru(net.forwards, net.source_embedding[word], hidden)
    torch.testing.assert_close(state.encoded[1, 0], hidden, rtol=0, atol=1e-12)
    assert net.attention(source, target, mask).eq(1.0).all()


def test_parameters_begin_as_in_the_paper() -> None:
    torch.manual_seed(3)
    net = RNNSearch(source_words=200, target_words=200, hidden=100, embedding=60, maxout=50)
    assert not net.direction.any()
    assert float(net.query_weight.std().detach()) == pytest.approx(1e-3, rel=0.05)
    assert float(net.readout_weight.std().detach()) == pytest.approx(1e-2, rel=0.05)
    product = net.forwards.candidate_weight @ net.forwards.candidate_weight.T
    torch.testing.assert_close(product, torch.eye(100), rtol=0, atol=1e-5)


def test_it_learns_to_turn_a_sentence_round_by_looking_at_it_backwards() -> None:
    torch.manual_seed(4)
    net = RNNSearch(**SIZES | {"hidden": 32, "embedding": 16, "maxout": 16}, initial="glorot")
    loss, words = learn(net, words=V, steps=500, rate=1e-2)
    assert loss < 0.1  # a guess: log 8 = 2.1
    found = greedy(net, words, begin=0, end=0, longest=4)
    right = [list(each.words) == text.flip(0).tolist() for each, text in zip(found, words, strict=True)]
    assert sum(right) > 28


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden": 0}, "'hidden' must be a whole number of at least 1. Got 0"),
        ({"maxout": 2.5}, "'maxout' must be a whole number of at least 1. Got 2.5"),
        ({"map": "softmaxx"}, "Unknown map 'softmaxx'"),
    ],
)
def test_what_cannot_be_built_is_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        RNNSearch(**SIZES | change)
    assert said in str(caught.value)

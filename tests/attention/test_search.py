"""Search against the enumeration of every sentence of a small model."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace.attention import RNNEncDec, RNNSearch, Transformer
from softplace.attention.search import Hypothesis, beam_search, greedy, sample
from softplace.errors import InputError

BEGIN, END, V, LONGEST = 0, 1, 5, 4


class Table:
    """A model whose next word depends on the source and all words so far, in no simple way."""

    def __init__(self, seed: int, sharpness: float = 1.5) -> None:
        self.seed, self.sharpness = seed, sharpness

    def start(self, source: Tensor, source_mask: Tensor | None = None) -> Any:
        return Past(source.tolist(), [[] for _ in source])

    def decode(self, target: Tensor, state: Any) -> tuple[Tensor, Any, Any]:
        texts = [[*past, *new] for past, new in zip(state.texts, target.tolist(), strict=True)]
        logits = torch.stack([self.logits(*pair) for pair in zip(state.sources, texts, strict=True)])
        return logits.unsqueeze(1), Past(state.sources, texts), None

    def logits(self, source: list[int], text: list[int]) -> Tensor:
        generator = torch.Generator().manual_seed(hash((self.seed, tuple(source), tuple(text))) % 2**31)
        return self.sharpness * torch.randn(V, generator=generator, dtype=torch.float64)


class Past:
    def __init__(self, sources: list[list[int]], texts: list[list[int]]) -> None:
        self.sources, self.texts = sources, texts

    def select(self, rows: Tensor) -> "Past":
        return Past([self.sources[row] for row in rows.flatten()], [list(self.texts[row]) for row in rows.flatten()])


def every(model: Table, source: list[int], penalty: float) -> list[Hypothesis]:
    """All sentences of up to LONGEST words, the best first; those of LONGEST words are cut."""
    made = []
    others = [word for word in range(V) if word != END]
    for length in range(LONGEST + 1):
        for words in product(others, repeat=length):
            said = [*words, *([END] if length < LONGEST else [])]
            total = 0.0
            for place, word in enumerate(said):
                total += float(torch.log_softmax(model.logits(source, [BEGIN, *said[:place]]), -1)[word])
            made.append(Hypothesis(words, total, total / ((5 + len(said)) / 6) ** penalty, length < LONGEST))
    return sorted(made, key=lambda one: -one.score)


SOURCES = torch.tensor([[2, 3], [4, 4], [3, 2]])


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_the_best_of_all(seed: int, penalty: float) -> None:
    model = Table(seed)
    found = beam_search(model, SOURCES, begin=BEGIN, end=END, beam=V**LONGEST, longest=LONGEST, length_penalty=penalty)
    for source, best in zip(SOURCES.tolist(), found, strict=True):
        expected = every(model, source, penalty)
        assert len(best) == len(expected)
        for one, other in zip(best[:20], expected, strict=False):
            assert one.words == other.words
            assert one.ended == other.ended
            assert one.log_probability == pytest.approx(other.log_probability, abs=1e-5)
            assert one.score == pytest.approx(other.score, abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    model = Table(seed)
    by_beam = beam_search(model, SOURCES, begin=BEGIN, end=END, beam=1, longest=6, length_penalty=0.0)
    for one, other in zip(greedy(model, SOURCES, begin=BEGIN, end=END, longest=6), by_beam, strict=True):
        assert len(other) == 1
        assert one.words == other[0].words
        assert one.ended == other[0].ended
        assert one.log_probability == pytest.approx(other[0].log_probability, abs=1e-5)


class Sure(Table):
    """After every word the end has little probability, and the next number nearly all."""

    def logits(self, source: list[int], text: list[int]) -> Tensor:
        shares = torch.full((V,), 1e-3, dtype=torch.float64)
        last = len(text) == LONGEST
        shares[END if last else 2] = 1.0
        shares[END] = max(float(shares[END]), 0.01)
        return shares.log()


def test_unlikely_short_sentences_do_not_end_a_likely_long_one() -> None:
    for beam in (1, 2, 3):
        found = beam_search(Sure(0), SOURCES, begin=BEGIN, end=END, beam=beam, longest=9)
        assert {best[0].words for best in found} == {(2,) * (LONGEST - 1)}
        assert all(len(best) == beam for best in found)


def test_the_longest_sentence_is_by_its_own_source() -> None:
    """A model that never ends: 2 S + 10 words, whatever the neighbours' S is."""

    class Endless(Table):
        def logits(self, source: list[int], text: list[int]) -> Tensor:
            return torch.tensor([0.0, -1e9, 1.0, 0.0, 0.0], dtype=torch.float64)

    sources, mask = torch.tensor([[2, 3, 4], [2, 0, 0]]), torch.tensor([[True, True, True], [True, False, False]])
    model = Endless(0)
    for found in (
        greedy(model, sources, mask, begin=BEGIN, end=END),
        [each[0] for each in beam_search(model, sources, mask, begin=BEGIN, end=END, beam=3)],
        sample(model, sources, mask, begin=BEGIN, end=END),
    ):
        assert [len(each.words) for each in found] == [16, 12]
        assert not any(each.ended for each in found)
    assert len(greedy(model, sources, begin=BEGIN, end=END)[1].words) == 16


def test_greedy_takes_the_likeliest_word() -> None:
    model = Table(7)
    for source, found in zip(SOURCES.tolist(), greedy(model, SOURCES, begin=BEGIN, end=END, longest=6), strict=True):
        text, total = [BEGIN], 0.0
        while len(text) < 7:
            chances = torch.log_softmax(model.logits(source, text), -1)
            total += float(chances.max())
            if int(chances.argmax()) == END:
                break
            text.append(int(chances.argmax()))
        assert found.words == tuple(text[1:])
        assert found.log_probability == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("beam", [1, 2, 3, 7])
def test_neighbours_change_nothing(beam: int) -> None:
    model = Table(3)
    together = beam_search(model, SOURCES, begin=BEGIN, end=END, beam=beam, longest=5)
    for row, found in enumerate(together):
        assert beam_search(model, SOURCES[row : row + 1], begin=BEGIN, end=END, beam=beam, longest=5) == [found]
        assert 1 <= len(found) <= beam
        assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
        assert len({each.words for each in found}) == len(found)


def test_samples_are_drawn_by_probability() -> None:
    model = Table(1)
    source = SOURCES[:1].expand(20_000, -1)
    drawn = sample(
        model, source, begin=BEGIN, end=END, longest=1, temperature=2.0, generator=torch.Generator().manual_seed(0)
    )
    expected = torch.softmax(model.logits(SOURCES[0].tolist(), [BEGIN]) / 2.0, -1)
    for word in range(V):
        wanted = () if word == END else (word,)
        share = sum(each.words == wanted for each in drawn) / len(drawn)
        spread = math.sqrt(float(expected[word]) / len(drawn))
        assert abs(share - float(expected[word])) < 4 * spread


def test_a_transformer_is_searched_with_its_cache() -> None:
    torch.manual_seed(0)
    net = Transformer(source_words=9, target_words=9, width=16, heads=2, encoder_layers=1, decoder_layers=2, inner=32)
    for parameter in net.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    net.eval()
    source = torch.randint(2, 9, (4, 6))
    mask = torch.arange(6) < torch.tensor([6, 3, 1, 5])[:, None]
    for found in beam_search(net, source, mask, begin=BEGIN, end=END, beam=3, longest=8):
        assert found
    for row, one in enumerate(greedy(net, source, mask, begin=BEGIN, end=END, longest=8)):
        said = [*one.words, *([END] if one.ended else [])]
        logits = net(source[row : row + 1], torch.tensor([[BEGIN, *said[:-1]]]), mask[row : row + 1])[0]
        assert logits.argmax(-1).tolist() == said
        chances = torch.log_softmax(logits, -1)[torch.arange(len(said)), said].sum()
        assert one.log_probability == pytest.approx(float(chances.detach()), abs=1e-4)


@pytest.mark.parametrize("make", [Transformer, RNNSearch])
def test_nets_give_no_sentence_of_no_source(make: Any) -> None:
    net = make(source_words=9, target_words=9, **({"width": 8, "heads": 2} if make is Transformer else {"hidden": 4}))
    nothing = torch.empty(0, 3, dtype=torch.long)
    assert greedy(net.eval(), nothing, begin=BEGIN, end=END) == []
    assert beam_search(net, nothing, begin=BEGIN, end=END) == []


@pytest.mark.parametrize("make", [Transformer, RNNSearch, RNNEncDec])
@pytest.mark.parametrize(
    ("source", "mask", "said"),
    [
        (torch.zeros(2, 3), None, "'source' must be whole numbers of words, (B, S). Got torch.float32"),
        (torch.zeros(3, dtype=torch.long), None, "Got torch.int64 of shape (3,)"),
        (torch.tensor([[1, 9]]), None, "'source' must be numbers from 0 to 8, as many as there are words. Got 9"),
        (torch.tensor([[-1, 2]]), None, "Got -1"),
        (torch.zeros(2, 0, dtype=torch.long), None, "'source' must have a word or more"),
        (torch.tensor([[1, 2]]), torch.ones(1, 3, dtype=torch.bool), "'source_mask' must be bool of shape (1, 2)"),
        (torch.tensor([[1, 2]]), torch.ones(1, 2), "'source_mask' must be bool"),
    ],
)
def test_nets_say_what_words_they_cannot_read(make: Any, source: Tensor, mask: Any, said: str) -> None:
    net = make(source_words=9, target_words=9, **({"width": 8, "heads": 2} if make is Transformer else {"hidden": 4}))
    with pytest.raises(InputError) as caught:
        net(source, torch.tensor([[BEGIN]]), mask)
    assert said in str(caught.value)
    with pytest.raises(InputError, match=r"'target' must be numbers from 0 to 8, .* Got 9"):
        net(torch.tensor([[1, 2]]), torch.tensor([[9]]))


def test_no_source_gives_no_sentence() -> None:
    nothing = torch.empty(0, 3, dtype=torch.long)
    assert greedy(Table(0), nothing, begin=BEGIN, end=END) == []
    assert beam_search(Table(0), nothing, begin=BEGIN, end=END) == []


@pytest.mark.parametrize(
    ("search", "change", "said"),
    [
        (beam_search, {"beam": 0}, "'beam' must be a whole number from 1 to 1,000. Got 0"),
        (beam_search, {"beam": 10**12}, "'beam' must be a whole number from 1 to 1,000"),
        (beam_search, {"beam": 2.5}, "'beam' must be a whole number"),
        (beam_search, {"length_penalty": -1.0}, "'length_penalty' must lie in [0, 10]. Got -1.0"),
        (beam_search, {"length_penalty": 1e9}, "'length_penalty' must lie in [0, 10]"),
        (greedy, {"longest": 0}, "'longest' must be a whole number from 1"),
        (greedy, {"longest": 2.5}, "'longest' must be a whole number"),
        (sample, {"temperature": 0.0}, "'temperature' must be a number from 1e-6. Got 0.0"),
        (sample, {"temperature": 1e-45}, "'temperature' must be a number from 1e-6"),
        (sample, {"temperature": "x"}, "'temperature' must be a number from 1e-6. Got 'x'"),
    ],
)
def test_what_cannot_be_used_is_said(search: Any, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        search(Table(0), SOURCES, begin=BEGIN, end=END, **change)
    assert said in str(caught.value)

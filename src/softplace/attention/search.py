"""From a model to sentences: the likeliest word at a time, a beam, or by chance.

Axis legend: B sentences, K hypotheses of a beam, V words of the vocabulary, S source words.
"""

import math
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.training.arguments import whole

WIDEST, STRONGEST = 1000, 10
"""The widest beam, and the strongest length penalty."""


class State(Protocol):
    """What a model keeps of the words so far."""

    def select(self, rows: Tensor) -> Any:
        """The state of some hypotheses.

        Args:
            rows: (sources, hypotheses of each): which rows of the state, those of a line all of one source.
        """


class Model(Protocol):
    """What the search needs of a model."""

    def start(self, source: Tensor, source_mask: Tensor | None = None) -> Any:
        """The state before the first word."""

    def decode(self, target: Tensor, state: Any) -> tuple[Tensor, Any, Any]:
        """Logits (B, T, V) after each word of the target (B, T), the state after them, and anything."""


class Hypothesis(NamedTuple):
    """A sentence that was found.

    Fields:
        words: Without begin and end.
        log_probability: Of the words and the end, in nats; without the end where the sentence was cut.
        score: What the beam orders by.
        ended: Whether the model said the end, or the sentence was cut at the longest.
    """

    words: tuple[int, ...]
    log_probability: float
    score: float
    ended: bool


@torch.no_grad()
def greedy(
    model: Model,
    source: Tensor,
    source_mask: Tensor | None = None,
    *,
    begin: int,
    end: int,
    longest: int | None = None,
) -> list[Hypothesis]:
    """The likeliest word at every step: a beam of one. A score is the log-probability.

    Args:
        source: (B, S).
        source_mask: (B, S), True = a word.
        begin, end: The words around a sentence.
        longest: Most words of a sentence; None: twice those of its source, and 10.
    """
    return _one_each(model, source, source_mask, begin, end, longest, lambda logits: logits.argmax(-1))


@torch.no_grad()
def sample(
    model: Model,
    source: Tensor,
    source_mask: Tensor | None = None,
    *,
    begin: int,
    end: int,
    longest: int | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> list[Hypothesis]:
    """Every word drawn by its probability, of logits divided by `temperature`. A score is the log-probability.

    Args:
        source, source_mask, begin, end, longest: As of `greedy`.
        temperature: Above 0.
        generator: Of the draws; None: PyTorch's global one.
    """
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 1e-6 <= temperature < math.inf:
        raise InputError(
            f"'temperature' must be a number from 1e-6. Got {temperature!r}. Use greedy for the likeliest words."
        )

    def draw(logits: Tensor) -> Tensor:
        below = logits.float() - logits.amax(-1, keepdim=True)  # so that no quotient is infinite
        shares = torch.softmax(below / temperature, -1)
        return torch.multinomial(shares, 1, generator=generator).squeeze(-1)

    return _one_each(model, source, source_mask, begin, end, longest, draw)


def _one_each(
    model: Model, source: Tensor, source_mask: Tensor | None, begin: int, end: int, longest: int | None, choose: Any
) -> list[Hypothesis]:
    state, limits = model.start(source, source_mask), _limits(model, source, source_mask, longest)
    running = torch.arange(len(source), device=source.device)
    last = torch.full((len(source), 1), begin, device=source.device)
    totals = [0.0] * len(source)
    words: list[list[int]] = [[] for _ in totals]
    ended = [False] * len(source)
    for length in range(1, _most(limits) + 1):
        if not len(running):
            break
        logits, state, _ = model.decode(last, state)
        chosen = choose(logits[:, -1])
        gained = torch.log_softmax(logits[:, -1].float(), -1).gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        for row, word, gain in zip(running.tolist(), chosen.tolist(), gained.tolist(), strict=True):
            totals[row] += gain
            ended[row] = word == end
            if not ended[row]:
                words[row].append(word)
        going = ((chosen != end) & (limits[running] > length)).nonzero().squeeze(-1)
        if len(going) < len(running):
            state, running = state.select(going.unsqueeze(-1)), running[going]
        last = chosen[going].unsqueeze(-1)
    return [Hypothesis(tuple(each), total, total, done) for each, total, done in zip(words, totals, ended, strict=True)]


@torch.no_grad()
def beam_search(
    model: Model,
    source: Tensor,
    source_mask: Tensor | None = None,
    *,
    begin: int,
    end: int,
    beam: int = 5,
    longest: int | None = None,
    length_penalty: float = 0.6,
) -> list[list[Hypothesis]]:
    """The best sentences that a beam finds, the best first, at most K of each source.

    A score is `log p / ((5 + n) / 6)^length_penalty`, with n the words and the end (Wu et al. 2016, arXiv:1609.08144,
    eq. 14): 0 orders by probability, which favours short sentences.
    An end counts if it is among the K best steps from the K hypotheses. A source is done when K sentences have ended
    and the best of them has no lower score than the likeliest that goes on has so far: to stop at the K-th end alone
    loses a likely long sentence to K unlikely short ones.

    Args:
        source, source_mask, begin, end, longest: As of `greedy`.
        beam: K.
        length_penalty: From 0 to `STRONGEST`.

    Raises:
        InputError: A beam below 1 or above `WIDEST`, another penalty, or a `longest` below 1.
    """
    whole("beam", beam, 1, WIDEST)
    if not isinstance(length_penalty, int | float) or not 0.0 <= length_penalty <= STRONGEST:
        raise InputError(f"'length_penalty' must lie in [0, {STRONGEST}]. Got {length_penalty!r}. Use e.g. 0.6.")
    device, limits = source.device, _limits(model, source, source_mask, longest)
    found: list[list[Hypothesis]] = [[] for _ in range(len(source))]
    running = torch.arange(len(source), device=device)
    # One hypothesis to begin with: K equal ones would stay equal.
    state, width = model.start(source, source_mask), 1
    words = torch.full((len(source), 1, 1), begin, device=device)
    totals = torch.zeros(len(source), 1, device=device)
    for length in range(1, _most(limits) + 1):
        if not len(running):
            break
        logits, state, _ = model.decode(words[:, :, -1:].flatten(0, 1), state)
        logits = logits[:, -1].float()
        most = min(2 * beam, logits.shape[-1])  # beam ends at most, and as many that go on
        high, likely = logits.topk(most, -1)
        gains = (high - logits.logsumexp(-1, keepdim=True)).view(len(running), width, most)
        reached = (totals.unsqueeze(-1) + gains).flatten(1)
        best, places = reached.topk(min(2 * beam, reached.shape[-1]), -1)
        rows, chosen = places // most, likely.view(len(running), -1).gather(-1, places)
        over = chosen == end
        for place, sentence in enumerate(running.tolist()):
            for each in over[place, :beam].nonzero().squeeze(-1).tolist():
                total = float(best[place, each])
                text = tuple(words[place, rows[place, each], 1:].tolist())
                if total > -math.inf:
                    found[sentence].append(Hypothesis(text, total, total / _by_length(length, length_penalty), True))
        # Those that go on, in their order: an end sorts behind everything.
        width = min(beam, int((~over).sum(-1).min()))
        order = torch.sort(over.long(), dim=-1, stable=True).indices[:, :width]
        totals, rows, chosen = best.gather(-1, order), rows.gather(-1, order), chosen.gather(-1, order)
        kept = words.gather(1, rows.unsqueeze(-1).expand(-1, -1, words.shape[-1]))
        words = torch.cat([kept, chosen.unsqueeze(-1)], -1)
        unfinished = torch.zeros(len(running), dtype=torch.bool)
        if width:
            for place, (sentence, total) in enumerate(zip(running.tolist(), totals[:, 0].tolist(), strict=True)):
                ended, hope = found[sentence], total / _by_length(length, length_penalty)
                unfinished[place] = len(ended) < beam or max(each.score for each in ended) < hope
        cut = limits[running] <= length
        for place in (unfinished.to(device) & cut).nonzero().squeeze(-1).tolist():
            for text, total in zip(words[place, :, 1:].tolist(), totals[place].tolist(), strict=True):
                score = total / _by_length(length, length_penalty)
                if total > -math.inf or not found[int(running[place])]:
                    found[int(running[place])].append(Hypothesis(tuple(text), total, score, False))
        going = (unfinished.to(device) & ~cut).nonzero().squeeze(-1)
        before = reached.shape[-1] // most
        state = state.select((rows + before * torch.arange(len(running), device=device).unsqueeze(-1))[going])
        running, words, totals = running[going], words[going], totals[going]
    return [sorted(each, key=lambda one: -one.score)[:beam] for each in found]


def _by_length(words: int, penalty: float) -> float:
    return ((5 + words) / 6) ** penalty  # type: ignore[no-any-return]


def _limits(model: Model, source: Tensor, source_mask: Tensor | None, longest: int | None) -> Tensor:
    """The most words of every sentence, (B,): its own, so that its neighbours change nothing.

    A model that has so many positions alone says so by an attribute `most_words`.
    """
    if longest is not None:
        whole("longest", longest, 1)
    if longest is None:
        words = source.new_full((len(source),), source.shape[1]) if source_mask is None else source_mask.sum(1)
        limits = 2 * words + 10
    else:
        limits = source.new_full((len(source),), longest)
    able = getattr(model, "most_words", None)
    return limits if able is None else limits.clamp(max=able)


def _most(limits: Tensor) -> int:
    return int(limits.max()) if len(limits) else 0

"""RNNsearch, which learns to align and translate, and the encoder-decoder without attention that it was made against.

Axis legend: B batch, S source words, T target words, H hidden units of a direction, X numbers of a word's embedding,
A width of the additive score, M maxout units, V words of a vocabulary, C width of a context.

Source: Bahdanau, Cho and Bengio 2015 (arXiv:1409.0473), section 3 and appendix A; Cho et al. 2014 (arXiv:1406.1078).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from softplace.attention._dropout import drop
from softplace.attention._words import check_mask, check_words
from softplace.attention.functions import additive_attention, check_decoder_map, check_dropout
from softplace.errors import InputError, nearest
from softplace.maps import Map

INITIALS = ("paper", "glorot")


class RNNState(NamedTuple):
    """What a decoder keeps of the words so far, and of the source."""

    hidden: Tensor
    """(B K, H): of K hypotheses of every source, beside one another."""
    encoded: Tensor
    """(B, S, 2 H), or (B, 1, H) without attention: the one context."""
    projected: Tensor
    """(B, S, A): the encoded source as the score sees it."""
    source_mask: Tensor | None
    """(B, S), True = a word."""

    def select(self, rows: Tensor) -> "RNNState":
        """The state of some hypotheses.

        Args:
            rows: (sources, hypotheses of each): which rows of B K, those of a line all of one source.
        """
        hidden = self.hidden.index_select(0, rows.flatten())
        sources = rows[:, 0] // (len(self.hidden) // len(self.encoded))
        if torch.equal(sources, torch.arange(len(self.encoded), device=rows.device)):
            return self._replace(hidden=hidden)
        mask = None if self.source_mask is None else self.source_mask[sources]
        return RNNState(hidden, self.encoded[sources], self.projected[sources], mask)


class _GRU(nn.Module):
    """Gated hidden units as the paper has them (A.1.1): the reset comes before the product.

        z = sigmoid(x_z + U_z h), r = sigmoid(x_r + U_r h), h' = (1 - z) h + z tanh(x + U (r h))

    with x, x_z, x_r linear in what is seen. `torch.nn.GRU` resets after the product, and has 1 - z for z.
    """

    def __init__(self, seen: int, hidden: int) -> None:
        super().__init__()
        self.seen_weight = nn.Parameter(0.01 * torch.randn(3 * hidden, seen))
        self.bias = nn.Parameter(torch.zeros(3 * hidden))
        self.gates_weight = nn.Parameter(torch.cat([_orthogonal(hidden), _orthogonal(hidden)]))
        self.candidate_weight = nn.Parameter(_orthogonal(hidden))

    def project(self, seen: Tensor) -> Tensor:
        """(..., seen) -> (..., 3 H), for all steps at once."""
        return linear(seen, self.seen_weight, self.bias)

    def step(self, projected: Tensor, hidden: Tensor) -> Tensor:
        """(B, 3 H) and (B, H) -> (B, H)."""
        return _step(projected, hidden, self.gates_weight.mT, self.candidate_weight.mT)


def _step(projected: Tensor, hidden: Tensor, gates_weight: Tensor, candidate_weight: Tensor) -> Tensor:
    """A step of one cell, or of several: (..., B, 3 H) and (..., B, H), matrices (..., H, 2 H) and (..., H, H)."""
    size = hidden.shape[-1]
    to_gates, to_candidate = projected[..., : 2 * size], projected[..., 2 * size :]
    update, reset = torch.sigmoid(to_gates + hidden @ gates_weight).chunk(2, -1)
    candidate = torch.tanh(to_candidate + (reset * hidden) @ candidate_weight)
    return hidden + update * (candidate - hidden)


def _orthogonal(size: int) -> Tensor:
    return nn.init.orthogonal_(torch.empty(size, size))


class _Recurrent(nn.Module):
    """What both models have: an encoder that goes forwards, a decoder that sees a context, a maxout readout."""

    def __init__(
        self,
        *,
        source_words: int,
        target_words: int,
        hidden: int,
        embedding: int,
        maxout: int,
        dropout: float,
        context: int,
    ) -> None:
        super().__init__()
        check_dropout(dropout)
        self.dropout = dropout
        self.source_embedding, self.target_embedding = _drawn(source_words, embedding), _drawn(target_words, embedding)
        self.forwards = _GRU(embedding, hidden)
        self.start_weight, self.start_bias = _drawn(hidden, hidden), nn.Parameter(torch.zeros(hidden))
        self.decoder = _GRU(embedding + context, hidden)
        self.readout_weight = _drawn(2 * maxout, hidden + embedding + context)
        self.readout_bias = nn.Parameter(torch.zeros(2 * maxout))
        self.output_weight, self.output_bias = _drawn(target_words, maxout), nn.Parameter(torch.zeros(target_words))

    def _initialise(self, initial: str) -> None:
        """Draw anew what is not drawn as in the paper."""
        if initial not in INITIALS:
            raise InputError(f"Unknown 'initial' {initial!r}. {nearest(str(initial), INITIALS)}")
        for name, parameter in self.named_parameters() if initial == "glorot" else ():
            if name.endswith("embedding"):
                nn.init.normal_(parameter)
            elif name == "direction":
                nn.init.uniform_(parameter, -((3 / len(parameter)) ** 0.5), (3 / len(parameter)) ** 0.5)
            elif name.endswith("weight") and not name.endswith(("gates_weight", "candidate_weight")):
                nn.init.xavier_uniform_(parameter)

    def forward(self, source: Tensor, target: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) of the word after each of the target.

        Args:
            source: (B, S) words.
            target: (B, T) words, the first of which begins a sentence.
            source_mask: (B, S), True = a word, False = padding, at the end.
        """
        logits, _, _ = self.decode(target, self.start(source, source_mask))
        return logits

    def attention(self, source: Tensor, target: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """The weights (B, T, S) of every step, S = 1 without attention; arguments as of `forward`."""
        _, _, weights = self.decode(target, self.start(source, source_mask))
        return weights

    def start(self, source: Tensor, source_mask: Tensor | None = None) -> RNNState:
        """The state of a decoder that has said nothing of a source (B, S)."""
        raise NotImplementedError

    def decode(self, target: Tensor, state: RNNState) -> tuple[Tensor, RNNState, Tensor]:
        """Go on with some words: logits of the word after each, the state after them, and the weights (B, T, S).

        Args:
            target: (B, T) the next words.
            state: Of the words before.
        """
        features, state, weights = self.advance(target, state)
        return linear(features, self.output_weight, self.output_bias), state, weights

    def advance(self, target: Tensor, state: RNNState) -> tuple[Tensor, RNNState, Tensor]:
        """As `decode`, with the features (B, T, M) of the logits: `features output_weight^T + output_bias`."""
        check_words("target", target, len(self.target_embedding))
        words = self._embedded(target, self.target_embedding)
        embedding = words.shape[-1]
        # What does not recur is done for all steps at once: the words' part of the gates, and the readout.
        projected = linear(words, self.decoder.seen_weight[:, :embedding], self.decoder.bias)
        by_context = self.decoder.seen_weight[:, embedding:]
        hidden, befores, contexts, weights = state.hidden, [], [], []
        for each in projected.unbind(1):
            context, weight = self._look(hidden, state)
            befores.append(hidden)
            contexts.append(context)
            weights.append(weight)
            hidden = self.decoder.step(each + linear(context, by_context), hidden)
        seen = torch.cat([torch.stack(befores, 1), words, torch.stack(contexts, 1)], -1)
        sums = linear(seen, self.readout_weight, self.readout_bias)
        readout = sums.view(*sums.shape[:-1], -1, 2).amax(-1)
        return drop(readout, self.dropout, self.training), state._replace(hidden=hidden), torch.stack(weights, 1)

    def _check(self, source: Tensor, source_mask: Tensor | None) -> None:
        check_words("source", source, len(self.source_embedding))
        check_mask(source, source_mask)

    def _look(self, hidden: Tensor, state: RNNState) -> tuple[Tensor, Tensor]:
        """The context (B, C) and the weights (B, S) of a step."""
        raise NotImplementedError

    def _first(self, encoded: Tensor) -> Tensor:
        """s_0 (A.2.2)."""
        return torch.tanh(linear(encoded, self.start_weight, self.start_bias))

    def _embedded(self, words: Tensor, table: Tensor) -> Tensor:
        return drop(nn.functional.embedding(words, table), self.dropout, self.training)


class RNNSearch(_Recurrent):
    """A bidirectional encoder, additive attention with any map, a decoder with gated units, a maxout readout.

        e_ij = v . tanh(W_a s_{i-1} + U_a h_j), alpha_i = map(e_i), c_i = sum_j alpha_ij h_j
        s_i = GRU(E y_{i-1}, c_i; s_{i-1}), p(y_i) = softmax(W_o maxout(U_o s_{i-1} + V_o E y_{i-1} + C_o c_i))

    Args:
        source_words, target_words: V of each language.
        hidden: H.
        embedding: X.
        align: A; None: H.
        maxout: M.
        map: From scores to weights.
        initial: How parameters are drawn. "paper" (B.1): recurrent matrices orthogonal, those of the alignment normal
            with deviation 0.001, v and biases 0, all others normal with 0.01. "glorot": matrices that do not recur as
            Glorot and Bengio 2010 (uniform), embeddings normal with 1; with Adam it learns several times faster.
        dropout: Of embeddings and of the readout, while training; the paper has none.

    Raises:
        InputError: A size below 1, or an unknown map or way to draw.

    >>> net = RNNSearch(source_words=9, target_words=8, hidden=6, embedding=4, maxout=5, map="sparsemax")
    >>> net(torch.zeros(2, 5, dtype=torch.long), torch.zeros(2, 3, dtype=torch.long)).shape
    torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        *,
        source_words: int,
        target_words: int,
        hidden: int = 1000,
        embedding: int = 620,
        align: int | None = None,
        maxout: int = 500,
        map: str | Map = "softmax",  # noqa: A002 - the word of the field
        initial: Literal["paper", "glorot"] = "paper",
        dropout: float = 0.0,
    ) -> None:
        align = hidden if align is None else align
        sizes = {"hidden": hidden, "embedding": embedding, "maxout": maxout}
        words = {"source_words": source_words, "target_words": target_words}
        _check(**words, **sizes, align=align)
        check_decoder_map(map)
        super().__init__(**words, **sizes, dropout=dropout, context=2 * hidden)
        if isinstance(map, nn.Module):
            self.map = map  # so that what it learns is among our parameters
        self._map = map
        self.backwards = _GRU(embedding, hidden)
        self.query_weight, self.key_weight = _drawn(align, hidden, 1e-3), _drawn(align, 2 * hidden, 1e-3)
        self.direction = nn.Parameter(torch.zeros(align))
        self._initialise(initial)

    def start(self, source: Tensor, source_mask: Tensor | None = None) -> RNNState:
        """The state of a decoder that has said nothing of a source (B, S)."""
        self._check(source, source_mask)
        embedded = self._embedded(source, self.source_embedding)
        turned = None if source_mask is None else source_mask.flip(1)
        onwards, back = _run(
            (self.forwards, self.backwards), (embedded, embedded.flip(1)), (source_mask, turned)
        ).unbind(0)
        encoded = torch.cat([onwards, back.flip(1)], -1)
        return RNNState(self._first(back[:, -1]), encoded, linear(encoded, self.key_weight), source_mask)

    def _look(self, hidden: Tensor, state: RNNState) -> tuple[Tensor, Tensor]:
        mask = None if state.source_mask is None else state.source_mask.unsqueeze(1)
        query = linear(hidden, self.query_weight).view(len(state.encoded), -1, state.projected.shape[-1])
        context, weights = additive_attention(
            query, state.projected, state.encoded, self.direction, map=self._map, mask=mask, need_weights=True
        )
        return context.flatten(0, 1), weights.flatten(0, 1)


class RNNEncDec(_Recurrent):
    """The encoder-decoder without attention, RNNencdec: the last hidden units of a forward encoder are the one context.

    Args:
        source_words, target_words, hidden, embedding, maxout, initial, dropout: As of `RNNSearch`.

    Raises:
        InputError: A size below 1, or an unknown way to draw.

    How we differ from Cho et al. 2014: the context is h_S itself, not tanh(V h_S).
    """

    def __init__(
        self,
        *,
        source_words: int,
        target_words: int,
        hidden: int = 1000,
        embedding: int = 620,
        maxout: int = 500,
        initial: Literal["paper", "glorot"] = "paper",
        dropout: float = 0.0,
    ) -> None:
        sizes = {"hidden": hidden, "embedding": embedding, "maxout": maxout}
        words = {"source_words": source_words, "target_words": target_words}
        _check(**words, **sizes)
        super().__init__(**words, **sizes, dropout=dropout, context=hidden)
        self._initialise(initial)

    def start(self, source: Tensor, source_mask: Tensor | None = None) -> RNNState:
        """The state of a decoder that has said nothing of a source (B, S)."""
        self._check(source, source_mask)
        last = _run((self.forwards,), (self._embedded(source, self.source_embedding),), (source_mask,))[0, :, -1]
        return RNNState(self._first(last), last.unsqueeze(1), last.new_zeros(len(last), 1, 0), None)

    def _look(self, hidden: Tensor, state: RNNState) -> tuple[Tensor, Tensor]:
        context = state.encoded.expand(-1, len(hidden) // len(state.encoded), -1).flatten(0, 1)
        return context, context.new_ones(len(hidden), 1)


def _check(**sizes: int) -> None:
    """Raise `InputError` for what is no size."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise InputError(f"{name!r} must be a whole number of at least 1. Got {size!r}. Use e.g. {name}=1.")


def _drawn(rows: int, columns: int, deviation: float = 0.01) -> nn.Parameter:
    return nn.Parameter(deviation * torch.randn(rows, columns))


def _run(cells: Sequence[_GRU], embedded: Sequence[Tensor], masks: Sequence[Tensor | None]) -> Tensor:
    """The hidden units (cells, B, S, H) after every word, of all cells at once; padding leaves them as they were."""
    gates = torch.stack([cell.gates_weight.mT for cell in cells])
    candidate = torch.stack([cell.candidate_weight.mT for cell in cells])
    projected = torch.stack([cell.project(words) for cell, words in zip(cells, embedded, strict=True)])
    hidden = projected.new_zeros(len(cells), projected.shape[1], candidate.shape[-1])
    known = [mask for mask in masks if mask is not None]
    taking = torch.stack(known).unsqueeze(-1).unbind(2) if known else None
    made = []
    for time, now in enumerate(projected.unbind(2)):
        new = _step(now, hidden, gates, candidate)
        hidden = new if taking is None else torch.where(taking[time], new, hidden)
        made.append(hidden)
    return torch.stack(made, 2)

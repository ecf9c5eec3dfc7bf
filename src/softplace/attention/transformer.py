"""The attention-only Transformer, encoder and decoder, with any map in its attention.

Axis legend: B batch, S source words, T target words, E width, H heads, D width of a head, V words of a vocabulary.

Source: Vaswani et al. 2017 (arXiv:1706.03762), section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from softplace.attention._dropout import drop
from softplace.attention._words import check_mask, check_words
from softplace.attention.functions import check_decoder_map, check_dropout
from softplace.attention.modules import MultiHeadAttention
from softplace.attention.positions import rotated, sinusoids
from softplace.errors import InputError, nearest
from softplace.maps import Map

NORMS, POSITIONS, TIES = ("pre", "post"), ("sinusoidal", "learned", "rotary"), ("none", "target", "all")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """What a Transformer computes, but for its parameters. `Transformer` documents the fields.

    Raises:
        InputError: A size below 1, an unknown name, words that cannot be tied.
    """

    source_words: int
    target_words: int
    width: int = 512
    heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 6
    inner: int = 2048
    map: str | Map = "softmax"
    norm: str = "post"
    positions: str = "sinusoidal"
    longest: int = 1024
    tied: str = "all"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in (
            "source_words", "target_words", "width", "heads", "encoder_layers", "decoder_layers", "inner", "longest",
        ):  # fmt: skip
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise InputError(f"{name!r} must be a whole number of at least 1. Got {size!r}. Use e.g. {name}=1.")
        for name, known in (("norm", NORMS), ("positions", POSITIONS), ("tied", TIES)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"Unknown {name!r} {getattr(self, name)!r}. {nearest(str(getattr(self, name)), known)}"
                )
        if self.width % self.heads or (self.positions != "learned" and self.width // self.heads % 2):
            raise InputError(
                f"'width' must be a multiple of 'heads', the quotient even for positions that turn or swing. "
                f"Got {self.width} and {self.heads}. Use e.g. 64 and 4."
            )
        if self.tied == "all" and self.source_words != self.target_words:
            raise InputError(
                "'tied' must be 'target' or 'none' where the vocabularies differ. Got 'all' with "
                f"{self.source_words} and {self.target_words} words. Use one vocabulary for both, or tied='target'."
            )
        check_decoder_map(self.map)
        check_dropout(self.dropout)


class DecoderState(NamedTuple):
    """What a decoder keeps of the words so far; of every layer, keys and values.

    A source may have several hypotheses, K: what is of the source is kept once for all of them.
    """

    keys: tuple[Tensor, ...]
    """Of the target words so far, (B K, H, T, D) each: hypotheses of a source are beside one another."""
    values: tuple[Tensor, ...]
    source_keys: tuple[Tensor, ...]
    """Of the encoded source, (B, H, S, D) each."""
    source_values: tuple[Tensor, ...]
    source_mask: Tensor | None
    """(B, S), True = a word."""

    @property
    def length(self) -> int:
        """Target words so far."""
        return self.keys[0].shape[-2]

    @property
    def hypotheses(self) -> int:
        """K"""
        return self.keys[0].shape[0] // self.source_keys[0].shape[0]

    def select(self, rows: Tensor) -> "DecoderState":
        """The state of some hypotheses.

        Args:
            rows: (sources, hypotheses of each): which rows of B K, those of a line all of one source.
        """
        sources, hypotheses = rows[:, 0] // self.hypotheses, rows.flatten()
        same = torch.equal(sources, torch.arange(len(self.source_keys[0]), device=rows.device))

        def some(each: Sequence[Tensor], which: Tensor) -> tuple[Tensor, ...]:
            return tuple(one.index_select(0, which) for one in each)

        return DecoderState(
            some(self.keys, hypotheses),
            some(self.values, hypotheses),
            self.source_keys if same else some(self.source_keys, sources),
            self.source_values if same else some(self.source_values, sources),
            self.source_mask if same or self.source_mask is None else self.source_mask[sources],
        )


class Attended(NamedTuple):
    """Weights of every layer before dropout, (B, H, queries, keys) each."""

    encoder: tuple[Tensor, ...] = ()
    decoder: tuple[Tensor, ...] = ()
    source: tuple[Tensor, ...] = ()
    """Of the target words on the source words."""


class FeedForward(nn.Module):
    """`relu(x W1 + b1) W2 + b2` at every position (section 3.3)."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.into, self.out, self.dropout = nn.Linear(width, inner), nn.Linear(inner, width), dropout
        for layer in (self.into, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., E) -> (..., E)."""
        return self.out(drop(relu(self.into(x)), self.dropout, self.training))  # type: ignore[no-any-return]


class _Layer(nn.Module):
    """One layer of the encoder, or of the decoder (`source`): attention to itself, to the source, feed-forward."""

    def __init__(self, config: TransformerConfig, *, source: bool) -> None:
        super().__init__()

        def attention() -> MultiHeadAttention:
            return MultiHeadAttention(config.width, heads=config.heads, map=config.map, dropout=config.dropout)

        self.own, self.own_norm = attention(), nn.LayerNorm(config.width)
        if source:
            self.source, self.source_norm = attention(), nn.LayerNorm(config.width)
        self.feed, self.feed_norm = FeedForward(config.width, config.inner, config.dropout), nn.LayerNorm(config.width)
        self.pre, self.dropout = config.norm == "pre", config.dropout

    def before(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """What a sublayer sees."""
        return norm(x) if self.pre else x

    def after(self, x: Tensor, made: Tensor, norm: nn.LayerNorm) -> Tensor:
        """What follows a sublayer."""
        x = x + drop(made, self.dropout, self.training)
        return x if self.pre else norm(x)


def _layers(stack: nn.ModuleList) -> list[_Layer]:
    return cast(list[_Layer], list(stack))


class Transformer(nn.Module):
    """The encoder-decoder of Vaswani et al. 2017.

    Args:
        source_words, target_words: V of each language.
        width: E.
        heads: H.
        encoder_layers, decoder_layers: How many.
        inner: Units of the feed-forward sublayers.
        map: Of all attention, from scores to weights.
        norm: "post", after each sublayer, as the paper; "pre", before it, and once at the end of each stack (Xiong et
            al. 2020, arXiv:2002.04745), which trains without a warm-up.
        positions: "sinusoidal", as the paper; "learned"; "rotary", in the attention to themselves (Su et al. 2021,
            arXiv:2104.09864).
        longest: Most words of a sentence, where positions are learned.
        tied: Which matrices are one: "all" (both embeddings and the output, as the paper), "target" (target embedding
            and output), "none".
        dropout: Of embeddings, of sublayers, of weights, and inside the feed-forward sublayers.

    Raises:
        InputError: A config that cannot be.

    How we differ from the paper: dropout of weights and inside the feed-forward sublayers, as its code has; embeddings
    are drawn from normal numbers of deviation 1/sqrt(E), and multiplied by sqrt(E) where they are read.

    >>> net = Transformer(source_words=9, target_words=9, width=16, heads=2, inner=32)
    >>> net(torch.zeros(2, 5, dtype=torch.long), torch.zeros(2, 3, dtype=torch.long)).shape
    torch.Size([2, 3, 9])
    """

    def __init__(
        self,
        *,
        source_words: int,
        target_words: int,
        width: int = 512,
        heads: int = 8,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        inner: int = 2048,
        map: str | Map = "softmax",  # noqa: A002 - the word of the field
        norm: Literal["pre", "post"] = "post",
        positions: Literal["sinusoidal", "learned", "rotary"] = "sinusoidal",
        longest: int = 1024,
        tied: Literal["none", "target", "all"] = "all",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.config = TransformerConfig(
            source_words=source_words,
            target_words=target_words,
            width=width,
            heads=heads,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            inner=inner,
            map=map,
            norm=norm,
            positions=positions,
            longest=longest,
            tied=tied,
            dropout=dropout,
        )
        self.source_embedding = nn.Embedding(source_words, width)
        self.target_embedding = self.source_embedding if tied == "all" else nn.Embedding(target_words, width)
        self.output = nn.Linear(width, target_words)
        if tied != "none":
            self.output.weight = self.target_embedding.weight
        for each in dict.fromkeys((self.source_embedding, self.target_embedding)):  # in an order, for the draw
            nn.init.normal_(each.weight, std=width**-0.5)
        if tied == "none":
            nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        if positions == "learned":
            self.position_embedding = nn.Embedding(longest, width)
            nn.init.normal_(self.position_embedding.weight, std=width**-0.5)
        self.encoder = nn.ModuleList(_Layer(self.config, source=False) for _ in range(encoder_layers))
        self.decoder = nn.ModuleList(_Layer(self.config, source=True) for _ in range(decoder_layers))
        last = norm == "pre"
        self.encoder_norm = nn.LayerNorm(width) if last else nn.Identity()
        self.decoder_norm = nn.LayerNorm(width) if last else nn.Identity()

    def forward(self, source: Tensor, target: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) of the word after each of the target.

        Args:
            source: (B, S) words.
            target: (B, T) words, the first of which begins a sentence.
            source_mask: (B, S), True = a word, False = padding, at the end: positions are counted from the first
                column. Padding of the target needs no mask: it is at the end.
        """
        logits, _, _ = self.decode(target, self.start(source, source_mask))
        return logits

    def attention(self, source: Tensor, target: Tensor, source_mask: Tensor | None = None) -> Attended:
        """The weights of every layer; arguments as of `forward`."""
        encoded, of_encoder = self.encode(source, source_mask, need_weights=True)
        _, _, found = self.decode(target, self._state(encoded, source_mask), need_weights=True)
        return found._replace(encoder=of_encoder)

    def encode(
        self, source: Tensor, source_mask: Tensor | None = None, *, need_weights: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The encoded source (B, S, E), and the weights of every layer if they are asked for."""
        check_words("source", source, self.config.source_words)
        check_mask(source, source_mask)
        x = self._embedded(source, self.source_embedding, 0)
        mask = None if source_mask is None else source_mask[:, None, None]
        found = []
        for layer in _layers(self.encoder):
            seen = layer.before(x, layer.own_norm)
            queries, keys, values = self._own(layer, seen, 0)
            made, weights = layer.own.attend(queries, keys, values, mask=mask, need_weights=need_weights)
            x = layer.after(x, made, layer.own_norm)
            x = layer.after(x, layer.feed(layer.before(x, layer.feed_norm)), layer.feed_norm)
            found.append(weights)
        return self.encoder_norm(x), tuple(each for each in found if each is not None)

    @property
    def most_words(self) -> int | None:
        """Of a sentence, the end among them; None: any number."""
        return self.config.longest if self.config.positions == "learned" else None

    def start(self, source: Tensor, source_mask: Tensor | None = None) -> DecoderState:
        """The state of a decoder that has said nothing of a source (B, S)."""
        return self._state(self.encode(source, source_mask)[0], source_mask)

    def decode(
        self, target: Tensor, state: DecoderState, *, need_weights: bool = False
    ) -> tuple[Tensor, DecoderState, Attended]:
        """Go on with some words: logits of the word after each, the state after them, and weights if asked for.

        Args:
            target: (B, T) the next words.
            state: Of the words before.
        """
        features, state, found = self.advance(target, state, need_weights=need_weights)
        return linear(features, self.output_weight, self.output_bias), state, found

    def advance(
        self, target: Tensor, state: DecoderState, *, need_weights: bool = False
    ) -> tuple[Tensor, DecoderState, Attended]:
        """As `decode`, with the features (B, T, E) of the logits: `features output_weight^T + output_bias`."""
        check_words("target", target, self.config.target_words)
        x = self._embedded(target, self.target_embedding, state.length)
        mask = None if state.source_mask is None else state.source_mask[:, None, None]
        kept_keys, kept_values, own, of_source = [], [], [], []
        hypotheses = state.hypotheses
        for number, layer in enumerate(_layers(self.decoder)):
            queries, keys, values = self._own(layer, layer.before(x, layer.own_norm), state.length)
            keys = torch.cat([state.keys[number], keys], -2)
            values = torch.cat([state.values[number], values], -2)
            made, weights = layer.own.attend(queries, keys, values, causal=True, need_weights=need_weights)
            x = layer.after(x, made, layer.own_norm)
            seen = layer.before(x, layer.source_norm)
            if hypotheses > 1:  # those of a source ask it together
                seen = seen.view(-1, hypotheses * target.shape[1], seen.shape[-1])
            made, source_weights = layer.source.attend(
                layer.source.queries(seen), state.source_keys[number], state.source_values[number], mask=mask,
                need_weights=need_weights,
            )  # fmt: skip
            x = layer.after(x, made.view(x.shape), layer.source_norm)
            x = layer.after(x, layer.feed(layer.before(x, layer.feed_norm)), layer.feed_norm)
            kept_keys.append(keys)
            kept_values.append(values)
            if weights is not None and source_weights is not None:
                own.append(weights)
                if hypotheses > 1:
                    parts = source_weights.view(*source_weights.shape[:2], hypotheses, -1, source_weights.shape[-1])
                    source_weights = parts.transpose(1, 2).flatten(0, 1)
                of_source.append(source_weights)
        state = state._replace(keys=tuple(kept_keys), values=tuple(kept_values))
        return self.decoder_norm(x), state, Attended(decoder=tuple(own), source=tuple(of_source))

    @property
    def output_weight(self) -> Tensor:
        """(V, E)"""
        return self.output.weight

    @property
    def output_bias(self) -> Tensor:
        """(V,)"""
        return self.output.bias

    def _state(self, encoded: Tensor, source_mask: Tensor | None) -> DecoderState:
        pairs = [layer.source.keys_values(encoded) for layer in _layers(self.decoder)]
        shape = (len(encoded), self.config.heads, 0, self.config.width // self.config.heads)
        nothing = (pairs[0][0].new_zeros(shape),) * len(pairs)  # of the keys' dtype, which autocast may have changed
        keys, values = (tuple(one.contiguous() for one in each) for each in zip(*pairs, strict=True))
        return DecoderState(nothing, nothing, keys, values, source_mask)

    def _embedded(self, words: Tensor, embedding: nn.Embedding, start: int) -> Tensor:
        config = self.config
        x = embedding(words) * config.width**0.5
        end = start + words.shape[1]
        if config.positions == "sinusoidal":
            x = x + sinusoids(end, config.width, like=x)[start:]
        elif config.positions == "learned":
            if end > config.longest:
                raise InputError(
                    f"A sentence must have at most {config.longest} words, as many as there are positions. Got {end}. "
                    "Cut it, or train with a larger 'longest' or other 'positions'."
                )
            x = x + self.position_embedding.weight[start:end]
        return drop(x, config.dropout, self.training)

    def _own(self, layer: _Layer, x: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of attention to itself."""
        queries, (keys, values) = layer.own.queries(x), layer.own.keys_values(x)
        if self.config.positions == "rotary":
            queries, keys = rotated(queries, start), rotated(keys, start)
        return queries, keys, values

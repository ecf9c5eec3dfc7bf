"""A trained net with its vocabularies: sentences in, sentences out, and what was looked at.

Axis legend: B sentences, L layers, H heads, T target tokens and the end, S source tokens and the end.
"""

import copy
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from softplace.attention import tokens
from softplace.attention.alignment import Links, aligned
from softplace.attention.config import PRECISIONS, TranslationConfig
from softplace.attention.corpus import Example
from softplace.attention.models import construct
from softplace.attention.rnnsearch import RNNEncDec
from softplace.attention.scoring import scores
from softplace.attention.search import Hypothesis, beam_search, greedy, sample
from softplace.attention.text import BEGIN, END, UNKNOWN, batches, pad
from softplace.attention.tokens import Tokens
from softplace.attention.transformer import Transformer
from softplace.errors import InputError, nearest
from softplace.training.arguments import whole
from softplace.training.checkpoint import CHECKPOINT, CONFIG, FORMAT, fit, read, read_config, write
from softplace.training.folder import MODEL, TOKENS

CHUNK = 1000
"""Lines that are sorted by length together while translating."""


class Looks(NamedTuple):
    """What a translator looked at while it said a sentence.

    Fields:
        source, target: The tokens by name, the end last.
        weights: (L, H, T, S), before dropout. RNNsearch has one layer of one head.
        source_words, target_words: Which word of the sentence, by spaces, each token but the end is of.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    weights: Tensor
    source_words: tuple[int, ...]
    target_words: tuple[int, ...]

    def links(
        self,
        *,
        layer: int | None = None,
        head: int | None = None,
        shift: int = 0,
        threshold: float | None = None,
        by_words: bool = True,
    ) -> Links:
        """Which source is which target, the ends left out.

        Args:
            layer: Counted from 0, from the end if negative. None: the last but one, which aligns best in a Transformer
                (Garg et al. 2019, arXiv:1909.02074).
            head: One of them. None: the mean of all.
            shift, threshold: As of `aligned`.
            by_words: Words by spaces, which are linked where any of their tokens are; else tokens.

        Raises:
            InputError: No such layer or head.
        """
        matrix = self.matrix(layer=layer, head=head)
        rows = len(self.target_words)
        rest = matrix[max(shift, 0) : rows + shift] if shift >= 0 else matrix[:rows]
        found = aligned(rest, threshold=threshold, shift=min(shift, 0), source=len(self.source_words))
        found = frozenset((i, j) for i, j in found if j < rows)
        if not by_words:
            return found
        return frozenset((self.source_words[i], self.target_words[j]) for i, j in found)

    def matrix(self, *, layer: int | None = None, head: int | None = None) -> Tensor:
        """The weights (T, S) of a layer and a head, see `links`."""
        layers, heads = self.weights.shape[:2]
        layer = max(layers - 2, 0) if layer is None else layer
        if not -layers <= layer < layers or not (head is None or -heads <= head < heads):
            raise InputError(
                f"'layer' and 'head' must be below {layers} and {heads}, as many as there are. Got {layer} and {head}. "
                "They are counted from 0."
            )
        return self.weights[layer].mean(0) if head is None else self.weights[layer, head]


class Translation(NamedTuple):
    """A sentence that was translated.

    Fields:
        text: The sentence.
        log_probability: In nats.
        score: What the beam orders by.
        ended: Whether the net said the end, or was cut at the longest.
        numbers: The sentence as numbers, without the end.
    """

    text: str
    log_probability: float
    score: float
    ended: bool
    numbers: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Search:
    """How sentences are found.

    Args:
        beam: Hypotheses of a sentence; 1 = the likeliest word at a time.
        length_penalty: See `beam_search`.
        longest: Most tokens of a translation; None: twice those of the source, and 10.
        temperature: None: search. Else every word is drawn, see `sample`.
        precision: "float32" or "bfloat16", of the products.
        room: Source tokens in a batch, hypotheses counted.
        seed: Of the draws.
    """

    beam: int = 1
    length_penalty: float = 0.6
    longest: int | None = None
    temperature: float | None = None
    precision: str = "float32"
    room: int = 4096
    seed: int = 0


class Translator:
    """A net and its vocabularies: `load("trainings/mine").translate(["ein Satz"])`.

    Args:
        net: A `Transformer`, `RNNSearch` or `RNNEncDec`.
        source_tokens, target_tokens: How sentences are cut.
        device: Where the net is.
        alignment: What `Looks.links` should be asked with, as found on gold links.
    """

    def __init__(
        self,
        net: nn.Module,
        source_tokens: Tokens,
        target_tokens: Tokens,
        *,
        device: torch.device | str = "cpu",
        alignment: dict[str, int | None] | None = None,
    ) -> None:
        self.net, self.source_tokens, self.target_tokens = net, source_tokens, target_tokens
        self.device, self.alignment = torch.device(device), alignment or {}

    def translate(
        self, lines: Sequence[str], search: Search = Search(), *, longest: int | None = None
    ) -> list[Translation]:
        """The translation of every line, in their order; an empty line stays empty.

        Args:
            lines: Sentences.
            search: How.
            longest: Tokens of a line that are allowed; None: any number that the net can read.

        Raises:
            InputError: A longer line.
        """
        return [best for best, *_ in self.hypotheses(lines, search, longest=longest)]

    def hypotheses(
        self, lines: Sequence[str], search: Search, *, longest: int | None = None, before: int = 0
    ) -> list[list[Translation]]:
        """All hypotheses of every line's beam, the best first; as `translate`.

        Args:
            lines, search, longest: As of `translate`.
            before: Lines before these, for their numbers in messages.
        """
        _check(search)
        found: list[list[Translation]] = [[Translation("", 0.0, 0.0, True, ())] for _ in lines]
        places = [place for place, line in enumerate(lines) if line.strip()]
        encoded = [self.source_tokens.encode(lines[place]) for place in places]
        able = getattr(self.net, "most_words", None)
        for place, numbers in zip(places, encoded, strict=True):
            for most, way in (
                (longest, "Split it, or raise --longest"),
                (able, "The net has no more positions: split it"),
            ):
                if most is not None and len(numbers) > most:
                    raise InputError(
                        f"Line {before + place + 1:,} must have at most {most:,} tokens. Got {len(numbers):,}. "
                        f"Is it one sentence to a line? {way}."
                    )
        room = max(1, search.room // search.beam)
        draw = torch.Generator(self.device).manual_seed(search.seed + before)
        # A copy, and not autocast, which would convert the matrices at every word.
        net = copy.deepcopy(self.net).bfloat16() if search.precision == "bfloat16" else self.net
        for numbers in batches([(len(each), 0) for each in encoded], room=room):
            source, mask = pad([encoded[number] for number in numbers])
            made = self._found(net, source, None if bool(mask.all()) else mask, search, draw)
            for number, sentences in zip(numbers, made, strict=True):
                found[places[number]] = [
                    Translation(
                        self.target_tokens.decode(each.words), each.log_probability, each.score, each.ended, each.words
                    )
                    for each in sentences
                ]
        return found

    def _found(
        self, trained: nn.Module, source: Tensor, mask: Tensor | None, search: Search, draw: torch.Generator
    ) -> list[list[Hypothesis]]:
        net = cast(Transformer, trained)
        source, mask = source.to(self.device), None if mask is None else mask.to(self.device)
        before = net.training
        net.eval()
        try:
            with torch.inference_mode():
                if search.temperature is not None:
                    made = sample(
                        net, source, mask, begin=BEGIN, end=END, longest=search.longest,
                        temperature=search.temperature, generator=draw,
                    )  # fmt: skip
                    return [[each] for each in made]
                if search.beam == 1:
                    return [[each] for each in greedy(net, source, mask, begin=BEGIN, end=END, longest=search.longest)]
                return beam_search(
                    net, source, mask, begin=BEGIN, end=END, beam=search.beam, longest=search.longest,
                    length_penalty=search.length_penalty,
                )  # fmt: skip
        finally:
            net.train(before)

    def looks(self, pairs: Sequence[tuple[str, str | Sequence[int]]]) -> list[Looks]:
        """What the net looks at when it says each target, a sentence or its numbers, of each source."""
        if isinstance(self.net, RNNEncDec):
            raise InputError(
                "An RNNEncDec looks at nothing: it has no attention. Got a request for weights or links. "
                "Leave it out, or train --model rnnsearch or transformer."
            )
        encoded = [
            (
                self.source_tokens.encode(one),
                self.target_tokens.encode(other) if isinstance(other, str) else [*other, END],
            )
            for one, other in pairs
        ]
        found: list[Looks | None] = [None] * len(encoded)
        for numbers in batches([(len(one), len(other)) for one, other in encoded], room=2048):
            source, mask = pad([encoded[number][0] for number in numbers])
            given, _ = pad([[BEGIN, *encoded[number][1][:-1]] for number in numbers])
            weights = self._weights(source.to(self.device), given.to(self.device), mask.to(self.device)).float().cpu()
            for row, number in enumerate(numbers):
                one, other = encoded[number]
                text, said = pairs[number]
                found[number] = Looks(
                    tuple(self.source_tokens.names(one)),
                    tuple(self.target_tokens.names(other)),
                    weights[row, :, :, : len(other), : len(one)],
                    tuple(self.source_tokens.places(text)),
                    tuple(self.target_tokens.places(said) if isinstance(said, str) else self.target_tokens.words(said)),
                )
        return [each for each in found if each is not None]

    def _weights(self, source: Tensor, given: Tensor, mask: Tensor) -> Tensor:
        """(B, L, H, T, S)."""
        before = self.net.training
        self.net.eval()
        try:
            with torch.no_grad():
                if isinstance(self.net, Transformer):
                    return torch.stack(self.net.attention(source, given, mask).source, 1)
                weights = cast(Tensor, cast(Any, self.net).attention(source, given, mask))
                return weights[:, None, None]
        finally:
            self.net.train(before)

    def links(self, pairs: Sequence[tuple[str, str | Sequence[int]]], **options: Any) -> list[Links]:
        """Which word of each source is which of its target; options of `Looks.links`, else those of `alignment`."""
        chosen = {**self.alignment, **options}
        return [each.links(**chosen) for each in self.looks(pairs)]

    def quality(self, examples: Sequence[Example], *, precision: str = "float32") -> dict[str, float]:
        """The share of examples that are translated to the letter, and BLEU where sacrebleu is there."""
        said = [each.text for each in self.translate([one.source for one in examples], Search(precision=precision))]
        return self.scores(said, [each.target for each in examples])[0]

    def scores(self, said: Sequence[str], targets: Sequence[str]) -> tuple[dict[str, float], dict[str, str]]:
        """See `scoring.scores`; exact is what is said as these tokens spell the target."""
        encoded = [self.target_tokens.encode(each) for each in targets]
        spelled = [
            each if UNKNOWN in numbers else self.target_tokens.decode(numbers)
            for each, numbers in zip(targets, encoded, strict=True)
        ]
        return scores(said, targets, spelled)


def _check(search: Search) -> None:
    """Raise `InputError` for what no search can use."""
    for name, least in (("beam", 1), ("room", 1), ("seed", 0)):
        whole(name, getattr(search, name), least)
    if search.precision not in PRECISIONS:
        raise InputError(f"Unknown 'precision' {search.precision!r}. {nearest(str(search.precision), PRECISIONS)}")


def write_tokens(folder: Path, source: Tokens, target: Tokens) -> None:
    """Keep the vocabularies of a training in its folder."""
    content = {"format": f"{TranslationConfig.KIND} {FORMAT}", **_record(source, target)}
    write(folder / TOKENS, (json.dumps(content, ensure_ascii=False) + "\n").encode())


def _record(source: Tokens, target: Tokens) -> dict[str, Any]:
    return {"source": source.record(), "target": None if source is target else target.record()}


def digest_of_tokens(source: Tokens, target: Tokens) -> str:
    """Which vocabularies they are."""
    return hashlib.blake2b(json.dumps(_record(source, target)).encode(), digest_size=16).hexdigest()


def read_tokens(folder: Path) -> tuple[Tokens, Tokens] | None:
    """The vocabularies of a folder; None where it has none.

    Raises:
        InputError: They are damaged, or of another format.
    """
    path = folder / TOKENS
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{str(path)!r}: expected the vocabularies of a training. Got '{error}'. Restore it."
        ) from error
    if not isinstance(content, dict) or content.get("format") != f"{TranslationConfig.KIND} {FORMAT}":
        got = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise InputError(
            f"{str(path)!r}: expected vocabularies of format {FORMAT}. Got {got!r}. Use the softplace that wrote them."
        )
    try:
        source = tokens.restore(content["source"])
        return source, source if content["target"] is None else tokens.restore(content["target"])
    except (KeyError, InputError) as error:
        raise InputError(
            f"{str(path)!r}: expected the vocabularies of a training. Got damaged ones: {error}. Restore it."
        ) from error


def load(folder: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> Translator:
    """The translator of a folder: the finished one, or as far as its training is.

    Raises:
        InputError: There is none, or it is damaged or of another format.
    """
    path = Path(folder)
    config, known = read_config(path, TranslationConfig), read_tokens(path)
    found = None
    if config is not None:
        found = read(path, config, MODEL) or read(path, config)
    if config is None or known is None or found is None:
        missing = CONFIG if config is None else TOKENS if known is None else CHECKPOINT
        raise InputError(
            f"{str(path)!r}: expected the folder of a training. Got one without {missing}. "
            "Train one: softplace train attention."
        )
    if (got := digest_of_tokens(*known)) != config.vocabularies:
        raise InputError(
            f"{str(path / TOKENS)!r}: expected the vocabularies that the net was trained with, {config.vocabularies}. "
            f"Got others, {got}. Restore the file."
        )
    with torch.random.fork_rng(devices=[]):
        net = construct(config.model, config.source_words, config.target_words, config.sizes)
    fit(path, net, found)
    net.load_state_dict(found.part("net/"), strict=False)
    alignment = found.progress.get("alignment")
    return Translator(net.to(device).eval(), *known, device=device, alignment=alignment)

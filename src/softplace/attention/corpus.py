"""What a translator is trained on: sentence pairs as numbers, from parallel files or from number words.

Axis legend: B sentences, S source words, T target words.
"""

import hashlib
import os
import tempfile
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from softplace.attention import tokens
from softplace.attention.number_words import LANGUAGES, NumberWords, vocabulary
from softplace.attention.text import BEGIN, Vocabulary, pad, read_pairs, read_parallel
from softplace.attention.tokens import Tokens, WordTokens
from softplace.errors import InputError, nearest
from softplace.randomness import generator

EPOCH = 10_000
"""Pairs of number words that are drawn at a time."""
HELD = 1_000
"""Pairs of files that are held out for validation at most, and no more than one in twenty."""
TESTED = 500
"""Pairs of number words to validate on, and as many to test on."""
LONGEST_PAIR = 200
"""Tokens of a side of a pair of files at most, where nothing is said."""
_ONE_IN = 50  # lists of numbers are held out, every other one of them to test on
FEW = 1000
"""Lists of number words of which none are held out."""
_REPEATS = 100  # lists in a row that were drawn before: there are no others, or hardly any


class Example(NamedTuple):
    """A pair as text.

    Fields:
        source, target: Sentences.
        links: Which word is which, by spaces; None where nobody knows.
    """

    source: str
    target: str
    links: frozenset[tuple[int, int]] | None = None


class Batch(NamedTuple):
    """Pairs of like length as numbers."""

    source: Tensor
    """(B, S)"""
    source_mask: Tensor | None
    """(B, S), True = a word; None: all are."""
    given: Tensor
    """(B, T): begin, and the target's words."""
    wanted: Tensor
    """(B, T): the target's words, and the end; `PAD` after it."""

    def to(self, device: torch.device) -> "Batch":
        """It on a device."""
        return Batch(*(None if each is None else each.to(device) for each in self))  # type: ignore[arg-type]


class Corpus:
    """Pairs of lists of numbers, each side in one long array (in memory, or in a file).

    Args:
        words: All numbers, source and target of a pair one after the other.
        lengths: (pairs, 2) how many the sides have.
    """

    def __init__(self, words: "np.ndarray[Any, Any]", lengths: "np.ndarray[Any, Any]") -> None:
        self.words, self.lengths = words, lengths
        self._ends = np.cumsum(lengths.sum(-1))

    @classmethod
    def of(cls, pairs: Iterable[tuple[Sequence[int], Sequence[int]]]) -> "Corpus":
        """Pairs in memory."""
        known = list(pairs)
        words = np.fromiter((word for pair in known for side in pair for word in side), dtype=np.uint32)
        return cls(words, np.array([[len(one), len(other)] for one, other in known], dtype=np.int64).reshape(-1, 2))

    @classmethod
    def streamed(cls, pairs: Iterable[tuple[Sequence[int], Sequence[int]]], folder: Path) -> "Corpus":
        """Pairs in a file without a name, which is gone with the process: they may be more than memory holds."""
        lengths = array("I")  # 8 bytes a pair
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                for one, other in pairs:
                    file.write(np.asarray([*one, *other], dtype=np.uint32).tobytes())
                    lengths.extend((len(one), len(other)))
                file.flush()
                words = np.memmap(file, dtype=np.uint32, mode="r") if lengths else np.zeros(0, dtype=np.uint32)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(
                f"Cannot write the corpus to {str(folder)!r}: {reason}. Free space, or use another --out."
            ) from error
        return cls(words, np.frombuffer(lengths, dtype=np.uint32).astype(np.int64).reshape(-1, 2))

    def __len__(self) -> int:
        return len(self.lengths)

    def pair(self, number: int) -> tuple[list[int], list[int]]:
        """The numbers of a pair."""
        one, other = self.lengths[number]
        end = self._ends[number]
        return self.words[end - other - one : end - other].tolist(), self.words[end - other : end].tolist()

    def batch(self, numbers: Sequence[int]) -> Batch:
        """Some pairs."""
        return batch_of([self.pair(number) for number in numbers])


def batch_of(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Batch:
    """Pairs of numbers, each side with its end, as one batch."""
    source, mask = pad([one for one, _ in pairs])
    wanted, _ = pad([other for _, other in pairs])
    given, _ = pad([[BEGIN, *other[:-1]] for _, other in pairs])
    return Batch(source, None if bool(mask.all()) else mask, given, wanted)


class NumberWordsData:
    """Lists of numbers in words, fresh ones in every epoch; one list in fifty is never trained on.

    Half of these are for validation, the others for tests. Where there are fewer than `FEW` lists none are held out;
    nor are they of a length asked of `held` of which there are so few.

    Args:
        grammar: Which lists.
        seed: Of the draw.
    """

    def __init__(self, grammar: NumberWords, seed: int) -> None:
        self.grammar, self._seed = grammar, seed
        self.notes: list[str] = []
        self.source_tokens, self.target_tokens = (
            WordTokens(Vocabulary(vocabulary(language)), spaced=True) for language in (grammar.source, grammar.target)
        )
        self.validation = self.held("validation", TESTED)

    def prepare(self, folder: Path) -> None:
        """Nothing is needed."""

    def epoch(self, number: int) -> Corpus:
        """The pairs of an epoch."""
        drawn = self.drawn(generator(self._seed, "epoch", number), EPOCH)
        return Corpus.of((self.source_tokens.encode(one), self.target_tokens.encode(other)) for one, other, _ in drawn)

    def test(self) -> Sequence[Example]:
        """Other lists that are not trained on."""
        return self.held("test", TESTED)

    def drawn(self, draw: torch.Generator, count: int) -> Iterator[Example]:
        """So many lists to train on."""
        for _ in range(count):
            yield self._example(self.grammar, self._numbers(self.grammar, draw, lambda place: place % _ONE_IN != 0))

    def held(self, label: str, count: int, *, numbers: int | None = None) -> list[Example]:
        """So many lists that are not trained on, of the same numbers in every training.

        Args:
            label: "validation", or another purpose; lists of the others are never among those of the validation.
            count: How many; all different, where there are so many.
            numbers: How long a list. None: as in training.
        """
        grammar = self.grammar if numbers is None else NumberWords(
            source=self.grammar.source, target=self.grammar.target, count=(numbers, numbers), digits=self.grammar.digits
        )  # fmt: skip
        draw = generator(0, "number-words", label, numbers or 0)
        half = _ONE_IN * int(label != "validation")
        found: list[Example] = []
        seen: set[tuple[int, ...]] = set()
        repeats = 0
        while len(found) < count:
            chosen = self._numbers(grammar, draw, lambda place: place % (2 * _ONE_IN) == half)
            repeats = repeats + 1 if chosen in seen else 0
            if not repeats or repeats > _REPEATS:
                seen.add(chosen)
                found.append(self._example(grammar, chosen))
        return found

    def record(self) -> dict[str, Any]:
        """What determines the pairs."""
        grammar = self.grammar
        return {
            "kind": "number-words", "source": grammar.source, "target": grammar.target,
            "count": list(grammar.count), "digits": list(grammar.digits),
        }  # fmt: skip

    @staticmethod
    def _numbers(grammar: NumberWords, draw: torch.Generator, fits: Callable[[int], bool]) -> tuple[int, ...]:
        """A list whose place among all, by its checksum, fits."""
        while True:
            numbers = tuple(grammar.numbers(draw))
            if grammar.size < FEW or fits(zlib.crc32(repr(list(numbers)).encode())):
                return numbers

    @staticmethod
    def _example(grammar: NumberWords, numbers: tuple[int, ...]) -> Example:
        pair = grammar.pair(numbers)
        return Example(" ".join(pair.source), " ".join(pair.target), pair.links)


class FileData:
    """Two files of as many lines.

    Args:
        source, target: Files, plain or .gz.
        valid_source, valid_target: Files to validate on; None: some lines of the others, evenly spread, are held out.
        kind: Of tokens: "bpe", "words" or "characters".
        words: V at most of each language, or of both where they share; None: the usual.
        lower: Whether capitals are made small.
        shared: One vocabulary for both languages.
        longest: Numbers of a side; longer pairs are left out.
        known: Vocabularies of source and target that were learned before; None: learn them now.

    Raises:
        InputError: Files, or vocabularies, that cannot be used.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        valid_source: str | os.PathLike[str] | None,
        valid_target: str | os.PathLike[str] | None,
        kind: str,
        words: int | None,
        lower: bool,
        shared: bool,
        longest: int,
        known: tuple[Tokens, Tokens] | None,
    ) -> None:
        if (valid_source is None) != (valid_target is None):
            raise InputError(
                "'valid-source' and 'valid-target' must come together. Got one of them. Give both, or none."
            )
        for path in (source, target):
            if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
                raise InputError(
                    f"{os.fspath(path)!r} must be a file, which can be read more than once. Got a pipe or a device. "
                    "Write it to a file."
                )
        self._paths = source, target
        self.notes: list[str] = []
        self._longest = longest
        self._corpus: Corpus | None = None
        self._options: dict[str, Any] = {
            "tokens": kind, "words": words, "lower": lower, "shared": shared, "longest": longest,
        }  # fmt: skip
        pairs = empty = same = 0
        digest = hashlib.blake2b(digest_size=16)
        for one, other in read_pairs(source, target):
            if not one.strip() or not other.strip():
                empty += 1
                continue
            pairs += 1
            same += one == other
            digest.update(f"{one}\n{other}\n".encode())
        if empty:
            self.notes.append(f"{empty:,} pairs of which a side is empty are left out.")
        if same > pairs / 2:
            self.notes.append(
                f"{same:,} of {pairs:,} targets equal their sources: a net learns to copy. Are these the right files?"
            )
        if pairs < 2:
            raise InputError(
                f"{os.fspath(source)!r} and {os.fspath(target)!r} must have two pairs of lines or more that are not "
                f"empty. Got {pairs}. Give more text."
            )
        held = 0
        if valid_source is None or valid_target is None:
            held = min(HELD, max(1, pairs // 20))
            self._every = pairs // held
            self.validation = [Example(*pair) for pair in self._texts(held=True)]
        else:
            self._every = 0
            self.validation = [Example(*pair) for pair in read_parallel(valid_source, valid_target)]
            if not self.validation:
                raise InputError(
                    f"{os.fspath(valid_source)!r} must have lines that are not empty. Got none. Give some."
                )
        for example in self.validation:
            digest.update(f"{example.source}\n{example.target}\n".encode())
        self._digest = digest.hexdigest()
        if known is not None:
            self.source_tokens, self.target_tokens = known
        elif shared:
            both = (text for pair in self._texts() for text in pair)
            self.source_tokens = self.target_tokens = tokens.learn(kind, both, words, lower=lower)
        else:
            self.source_tokens, self.target_tokens = (
                tokens.learn(kind, (pair[side] for pair in self._texts()), words, lower=lower) for side in (0, 1)
            )
        fitting = [each for each in self.validation if self._encoded(each.source, each.target) is not None]
        if not fitting:
            raise InputError(
                f"'longest_pair' must leave a pair to validate on. Got {longest} tokens, less than any. Raise it."
            )
        if not any(self._encoded(*pair) for pair in self._texts()):
            raise InputError(
                f"'longest_pair' must leave a pair to train on. Got {longest} tokens, less than any. Raise it."
            )
        if left_out := len(self.validation) - len(fitting):
            self.notes.append(f"{left_out:,} pairs to validate on have more than {longest:,} tokens and are left out.")
        self.validation = fitting

    def prepare(self, folder: Path) -> None:
        """Write the pairs as numbers into the folder, but for those that are too long."""
        left_out = 0

        def encoded() -> Iterator[tuple[list[int], list[int]]]:
            nonlocal left_out
            for one, other in self._texts():
                pair = self._encoded(one, other)
                if pair is None:
                    left_out += 1
                else:
                    yield pair

        self._corpus = Corpus.streamed(encoded(), folder)
        if left_out:
            self.notes.append(f"{left_out:,} pairs of more than {self._longest:,} tokens are left out.")

    def _encoded(self, one: str, other: str) -> tuple[list[int], list[int]] | None:
        """A pair as numbers; None where a side is too long."""
        pair = self.source_tokens.encode(one), self.target_tokens.encode(other)
        return pair if max(map(len, pair)) <= self._longest else None

    def epoch(self, number: int) -> Corpus:
        """All pairs."""
        if self._corpus is None:
            raise RuntimeError("prepare must come before the first epoch")
        return self._corpus

    def test(self) -> Sequence[Example]:
        """There are no others than those of the validation."""
        return self.validation

    def record(self) -> dict[str, Any]:
        """What determines the pairs; the text itself by its digest."""
        return {"kind": "files", "digest": self._digest, "held": self._every > 0, **self._options}

    def _texts(self, *, held: bool = False) -> Iterator[tuple[str, str]]:
        """The pairs to train on, or those that are held out."""
        for number, pair in enumerate(read_parallel(*self._paths)):
            if (self._every > 0 and number % self._every == self._every // 2) == held:
                yield pair


Data = NumberWordsData | FileData
"""Where pairs come from. Both have vocabularies, pairs to validate and to test on, epochs of pairs to train on, and
notes that a person should read."""


def number_words(text: str, seed: int, options: Mapping[str, Any]) -> NumberWordsData:
    """The data of "number-words:en-de"; options: `count` and `digits` of `NumberWords`.

    Raises:
        InputError: Other text, or options.
    """
    kind, _, languages = text.partition(":")
    source, _, target = languages.partition("-")
    if kind != "number-words" or source not in LANGUAGES or target not in LANGUAGES:
        raise InputError(
            f"'data' must be number-words:SOURCE-TARGET. Got {text!r}. {nearest(source, LANGUAGES)} "
            "Use e.g. number-words:en-de, or --source and --target for files."
        )
    try:
        given = {name: tuple(value) for name, value in options.items()}
        return NumberWordsData(NumberWords(source=source, target=target, **given), seed)
    except TypeError as error:
        raise InputError(f"'option' must be count=[1,3] or digits=[1,6]. Got {dict(options)!r}.") from error

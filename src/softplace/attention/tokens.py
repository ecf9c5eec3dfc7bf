"""From a sentence to numbers and back: words, characters, or pieces of words that are learned (BPE).

No axes: lists of whole numbers.
"""

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from softplace.attention.text import BEGIN, END, PAD, SPECIAL, UNKNOWN, Vocabulary
from softplace.errors import InputError, nearest

KINDS = ("bpe", "words", "characters")
_SPACED, _MARKED = r"\S+", r"\w+|[^\w\s]"  # words: what spaces part, or punctuation too
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # what stands for a space in sentencepiece's pieces


class Tokens(Protocol):
    """A way to cut sentences, with what it learned."""

    def __len__(self) -> int:
        """V, the special ones among them."""

    def encode(self, text: str) -> list[int]:
        """The numbers of a sentence and of its end."""

    def decode(self, numbers: Iterable[int]) -> str:
        """The sentence of numbers up to the end."""

    def names(self, numbers: Iterable[int]) -> list[str]:
        """What each number is called, the end and the unknown too."""

    def words(self, numbers: Sequence[int]) -> list[int]:
        """Which word of `decode(numbers)`, by spaces, each number up to the end is of, counted from 0."""

    def places(self, text: str) -> list[int]:
        """Which word of a text, by spaces, each number of `encode(text)` but the end is of, counted from 0."""

    def record(self) -> dict[str, Any]:
        """It as JSON can hold it: `restore` makes it again."""


class WordTokens:
    """Words and punctuation marks, or only what spaces part.

    Args:
        vocabulary: The words.
        lower: Whether capitals are made small.
        spaced: Only spaces part words; else punctuation does too.
    """

    def __init__(self, vocabulary: Vocabulary, *, lower: bool = False, spaced: bool = False) -> None:
        self.vocabulary, self.lower, self.spaced = vocabulary, lower, spaced

    @classmethod
    def learn(cls, texts: Iterable[str], most: int | None, *, lower: bool) -> "WordTokens":
        """The most frequent words of texts."""
        return cls(Vocabulary.of((_cut(text, lower, False) for text in texts), most=_room(most)), lower=lower)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> list[int]:
        """The numbers of a sentence and of its end."""
        return self.vocabulary.encode(_cut(text, self.lower, self.spaced))

    def decode(self, numbers: Iterable[int]) -> str:
        """The sentence of numbers up to the end: words between spaces."""
        return " ".join(self.vocabulary.decode(numbers))

    def names(self, numbers: Iterable[int]) -> list[str]:
        """What each number is called."""
        known = (*SPECIAL, *self.vocabulary.words)
        return [known[number] for number in numbers]

    def words(self, numbers: Sequence[int]) -> list[int]:
        """Which word of `decode(numbers)` each number is of."""
        return _words_of(self, numbers)

    def places(self, text: str) -> list[int]:
        """Which word of the text, by spaces, each word or mark is of."""
        text = _low(text, self.lower)
        return _starts(text, [match.start() for match in re.finditer(_SPACED if self.spaced else _MARKED, text)])

    def record(self) -> dict[str, Any]:
        """It as JSON can hold it."""
        return {"kind": "words", "words": self.vocabulary.words, "lower": self.lower, "spaced": self.spaced}


class CharacterTokens:
    """Characters, the space among them."""

    def __init__(self, vocabulary: Vocabulary, *, lower: bool = False) -> None:
        self.vocabulary, self.lower = vocabulary, lower

    @classmethod
    def learn(cls, texts: Iterable[str], most: int | None, *, lower: bool) -> "CharacterTokens":
        """The most frequent characters of texts."""
        return cls(Vocabulary.of((_low(text, lower) for text in texts), most=_room(most)), lower=lower)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> list[int]:
        """The numbers of a sentence and of its end."""
        return self.vocabulary.encode(_low(text, self.lower))

    def decode(self, numbers: Iterable[int]) -> str:
        """The sentence of numbers up to the end."""
        return "".join(self.vocabulary.decode(numbers))

    def names(self, numbers: Iterable[int]) -> list[str]:
        """What each number is called."""
        known = (*SPECIAL, *self.vocabulary.words)
        return [known[number] for number in numbers]

    def words(self, numbers: Sequence[int]) -> list[int]:
        """Which word of `decode(numbers)` each character is of, a space of the word before it."""
        return _words_of(self, numbers)

    def places(self, text: str) -> list[int]:
        """Which word of the text, by spaces, each character is of, a space of the word before it."""
        text = _low(text, self.lower)
        return _starts(text, range(len(text)))

    def record(self) -> dict[str, Any]:
        """It as JSON can hold it."""
        return {"kind": "characters", "words": self.vocabulary.words, "lower": self.lower}


class PieceTokens:
    """Pieces of words by byte-pair encoding, from the package sentencepiece.

    Args:
        model: A sentencepiece model, serialised, whose special pieces have the numbers of `SPECIAL`.
        lower: Whether capitals are made small.

    Source: Sennrich, Haddow and Birch 2016 (arXiv:1508.07909); Kudo and Richardson 2018 (arXiv:1808.06226).
    """

    def __init__(self, model: bytes, *, lower: bool = False) -> None:
        self.lower, self._model = lower, model
        self._pieces = _sentencepiece().SentencePieceProcessor(model_proto=model)

    @classmethod
    def learn(cls, texts: Iterable[str], most: int | None, *, lower: bool) -> "PieceTokens":
        """Learn from texts so many pieces, the special ones counted. None: 8,000, or as many as there are."""
        wanted = 8000 if most is None else most
        written = io.BytesIO()
        kept = list(_sampled(_low(text, lower) for text in texts))
        try:
            _learn_pieces(kept, wanted, written)
        except RuntimeError as error:
            found = re.search(r"value <= (\d+)", str(error))
            if found is None or most is not None:
                raise _refused(wanted, found, str(error)) from error
            _learn_pieces(kept, int(found[1]), written)
        return cls(written.getvalue(), lower=lower)

    def __len__(self) -> int:
        return int(self._pieces.vocab_size())

    def encode(self, text: str) -> list[int]:
        """The numbers of a sentence and of its end."""
        return [*self._pieces.encode(_low(text, self.lower)), END]

    def decode(self, numbers: Iterable[int]) -> str:
        """The sentence of numbers up to the end."""
        return str(self._pieces.decode([each for each in _until_end(numbers) if each not in (PAD, BEGIN)]))

    def names(self, numbers: Iterable[int]) -> list[str]:
        """What each number is called."""
        return [self._pieces.id_to_piece(int(number)) for number in numbers]

    def words(self, numbers: Sequence[int]) -> list[int]:
        """Which word of `decode(numbers)` each piece is of."""
        return _words_of(self, numbers)

    def places(self, text: str) -> list[int]:
        """A piece that begins with a space begins a word."""
        return _word_places(self.names(self.encode(text)[:-1]))

    def record(self) -> dict[str, Any]:
        """It as JSON can hold it."""
        return {"kind": "bpe", "model": base64.b64encode(self._model).decode(), "lower": self.lower}


def learn(kind: str, texts: Iterable[str], most: int | None = None, *, lower: bool = False) -> Tokens:
    """Learn a way to cut sentences from texts.

    Args:
        kind: "bpe", "words" or "characters".
        texts: Sentences.
        most: V at most, the special ones among them. None: all (8,000 for bpe).
        lower: Whether capitals are made small.

    Raises:
        InputError: An unknown kind, a number that is too small, or a package that is missing.
    """
    known = {"bpe": PieceTokens, "words": WordTokens, "characters": CharacterTokens}
    if kind not in known:
        raise InputError(f"Unknown 'tokens' {kind!r}. {nearest(str(kind), KINDS)}")
    if most is not None and (not isinstance(most, int) or not len(SPECIAL) < most <= MOST):
        raise InputError(
            f"'words' must be above {len(SPECIAL)}, the special ones, and at most {MOST:,}. Got {most!r}. "
            "Leave it out for the usual."
        )
    return known[kind].learn(texts, most, lower=lower)  # type: ignore[no-any-return, attr-defined]


def restore(record: Mapping[str, Any]) -> Tokens:
    """What `Tokens.record` wrote.

    Raises:
        InputError: Something else.
    """
    try:
        if record["kind"] == "bpe":
            return PieceTokens(base64.b64decode(record["model"]), lower=bool(record["lower"]))
        if not all(isinstance(each, str) for each in record["words"]):
            raise TypeError("words that are no text")
        vocabulary = Vocabulary(tuple(record["words"]))
        if record["kind"] == "words":
            return WordTokens(vocabulary, lower=bool(record["lower"]), spaced=bool(record["spaced"]))
        if record["kind"] == "characters":
            return CharacterTokens(vocabulary, lower=bool(record["lower"]))
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"Expected a vocabulary that softplace wrote. Got another thing: {error!r}.") from error
    raise InputError(f"Expected a vocabulary of a known kind. Got {record['kind']!r}. {nearest('', KINDS)}")


def _sentencepiece() -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise InputError(
            "Pieces of words (bpe) need the package sentencepiece. Got none. "
            "Install softplace[attention], or use --tokens words or characters."
        ) from error
    return sentencepiece


def _learn_pieces(texts: Sequence[str], most: int, into: io.BytesIO) -> None:
    _sentencepiece().SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=into,
        model_type="bpe",
        vocab_size=most,
        character_coverage=1.0,
        pad_id=PAD,
        bos_id=BEGIN,
        eos_id=END,
        unk_id=UNKNOWN,
        max_sentence_length=1 << 20,
        num_threads=1,  # more give other pieces on other machines
        minloglevel=2,
    )


def _refused(wanted: int, found: re.Match[str] | None, text: str) -> InputError:
    if found is not None:
        return InputError(
            f"'words' must be at most {int(found[1]):,} for texts like these. Got {wanted:,}. Use fewer, or more text."
        )
    needed = re.search(r"vocabulary size is smaller than required_chars. (\d+) vs (\d+)", text, re.IGNORECASE)
    if needed is not None:
        return InputError(
            f"'words' must be at least {int(needed[2]):,}: the texts have so many characters. Got {wanted:,}. Use more."
        )
    return InputError(f"'words' must suit the texts. Got {wanted:,}, of which sentencepiece says: {text[:120]}.")


MOST = 10_000_000
"""Tokens of a vocabulary."""
SAMPLED = 1_000_000
"""Sentences that pieces are learned from at most, evenly spread."""


def _sampled(texts: Iterable[str]) -> Iterable[str]:
    """All texts; of more than `SAMPLED` every 2nd, 4th, ..., in memory for at most twice as many."""
    kept: list[str] = []
    stride = 1
    for number, text in enumerate(texts):
        if number % stride == 0:
            kept.append(text)
            if len(kept) > 2 * SAMPLED:
                kept, stride = kept[::2], 2 * stride
    return kept


def _room(most: int | None) -> int | None:
    return None if most is None else most - len(SPECIAL)


def _low(text: str, lower: bool) -> str:
    return text.lower() if lower else text


def _cut(text: str, lower: bool, spaced: bool) -> list[str]:
    return re.findall(_SPACED if spaced else _MARKED, _low(text, lower))


def _until_end(numbers: Iterable[int]) -> list[int]:
    found: list[int] = []
    for number in numbers:
        if number == END:
            break
        found.append(number)
    return found


def _words_of(tokens: Tokens, numbers: Sequence[int]) -> list[int]:
    """Which word each number ends in, by what is said up to it: as the whole sentence is spelled."""
    known = _until_end(numbers)
    return [max(0, len(tokens.decode(known[: end + 1]).split()) - 1) for end in range(len(known))]


def _starts(text: str, starts: Iterable[int]) -> list[int]:
    """Which word of a text, by spaces, the characters at some places are of, a space of the word before it."""
    places, word, inside = [], -1, False
    for letter in text:
        begins = not letter.isspace() and not inside
        word, inside = word + begins, not letter.isspace()
        places.append(max(0, word))
    return [places[start] for start in starts]


def _word_places(names: Sequence[str]) -> list[int]:
    """Which word each piece is of, where a piece that begins with a space begins one."""
    places, word = [], -1
    for name in names:
        if name.startswith(_SPACE) or word < 0:
            word += 1
        places.append(word)
    return places

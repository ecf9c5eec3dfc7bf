"""From lines of text to batches of numbers: parallel files, vocabularies, batches of like length.

Axis legend: B sentences, S words.
"""

import gzip
import os
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from softplace.errors import InputError

PAD, BEGIN, END, UNKNOWN = range(4)
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")


@dataclass(frozen=True)
class Vocabulary:
    """Words and their numbers: first `SPECIAL`, then `words` in their order.

    Args:
        words: Without the special ones, all different.

    Raises:
        InputError: A word twice, or a special one.
    """

    words: tuple[str, ...]
    _numbers: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers = {word: number for number, word in enumerate((*SPECIAL, *self.words))}
        if len(numbers) != len(SPECIAL) + len(self.words):
            twice = next(word for word, count in Counter((*SPECIAL, *self.words)).items() if count > 1)
            raise InputError(f"'words' must be different, and none of {', '.join(SPECIAL)}. Got {twice!r} twice.")
        object.__setattr__(self, "_numbers", numbers)

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]], *, most: int | None = None, least: int = 1) -> "Vocabulary":
        """The words of some sentences, the most frequent first; of equally frequent ones the first in the alphabet.

        Args:
            sentences: Each a sequence of words.
            most: How many words at most, the special ones not counted. None: all.
            least: A word must occur so often.
        """
        counts = Counter(word for sentence in sentences for word in sentence if word not in SPECIAL)
        ranked = sorted((word for word, count in counts.items() if count >= least), key=lambda w: (-counts[w], w))
        return cls(tuple(ranked[:most]))

    def __len__(self) -> int:
        return len(SPECIAL) + len(self.words)

    def encode(self, sentence: Sequence[str]) -> list[int]:
        """The numbers of a sentence's words and of its end; `UNKNOWN` for a word that is not here."""
        return [*(self._numbers.get(word, UNKNOWN) for word in sentence), END]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """The words of numbers up to the end, without padding and begin."""
        known = (*SPECIAL, *self.words)
        said = []
        for number in numbers:
            if number == END:
                break
            if number not in (PAD, BEGIN):
                said.append(known[number])
        return said


def pad(sentences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Sentences of numbers as one tensor (B, S), filled up with `PAD`, and its mask, True = a word."""
    longest = max((len(each) for each in sentences), default=0)
    numbers = torch.full((len(sentences), longest), PAD, dtype=torch.long)
    mask = torch.zeros(len(sentences), longest, dtype=torch.bool)
    for row, each in enumerate(sentences):
        numbers[row, : len(each)] = torch.tensor(each, dtype=torch.long)
        mask[row, : len(each)] = True
    return numbers, mask


def batches(
    lengths: ArrayLike, *, room: int, generator: torch.Generator | None = None, pool: int = 100
) -> Iterator[list[int]]:
    """The places of sentence pairs in batches, each pair once: with its padding a batch has at most `room` words.

    Args:
        lengths: Words of source and target of every pair, (pairs, 2).
        room: For the larger side: sentences times the longest of them. A longer pair is a batch of its own.
        generator: Shuffles the pairs before, and the batches after, they are sorted by length. None: no shuffle.
        pool: Batches, about, whose pairs are sorted together: more pad less, fewer mix more.

    Raises:
        InputError: `room` or `pool` below 1.
    """
    if room < 1 or pool < 1:
        raise InputError(f"'room' and 'pool' must be at least 1. Got {room} and {pool}. Use e.g. 4096 and 100.")
    sizes = np.asarray(lengths, dtype=np.int64).reshape(-1, 2)
    shuffled = generator is not None
    order = torch.randperm(len(sizes), generator=generator).numpy() if shuffled else np.arange(len(sizes))
    words = np.cumsum(sizes[order].max(-1))
    start = 0
    while start < len(order):
        before = words[start - 1] if start else 0
        end = int(np.searchsorted(words, before + pool * room)) + 1
        places = order[start:end]
        ranked = places[np.lexsort((places, sizes[places, 1], sizes[places, 0]))]
        made = list(_filled(ranked.tolist(), sizes[ranked].max(-1).tolist(), room))
        for number in torch.randperm(len(made), generator=generator).tolist() if shuffled else range(len(made)):
            yield made[number]
        start = end


def _filled(places: Sequence[int], longer: Sequence[int], room: int) -> Iterator[list[int]]:
    """The places in their order, cut where a batch is full; `longer`: words of the longer side of each."""
    batch: list[int] = []
    longest = 0
    for place, words in zip(places, longer, strict=True):
        longest = max(longest, words)
        if batch and longest * (len(batch) + 1) > room:
            yield batch
            batch, longest = [], words
        batch.append(place)
    if batch:
        yield batch


def read_lines(path: str | os.PathLike[str]) -> Iterator[str]:
    """The lines of a text in UTF-8, plain or .gz, one at a time, without their ends.

    Raises:
        InputError: No such file, or a line that is no UTF-8: its number is said.
    """
    path = Path(path)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield from _decoded(file, repr(str(path)))
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"{str(path)!r} must be a text file, plain or .gz. Got: {reason}. Check the path.") from error


def read_standard_input() -> Iterator[str]:
    """The lines of standard input, as `read_lines`."""
    if sys.stdin is None:  # as it is where the shell closed it
        raise InputError("standard input: expected sentences, one to a line. Got one that is closed. Name a file.")
    return _decoded(sys.stdin.buffer, "standard input")


def _decoded(file: Iterable[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{name} must be text in UTF-8. Got the byte 0x{error.object[error.start]:02x} in line {number}. "
                "Convert it, e.g. with iconv -t UTF-8."
            ) from error
        yield text.rstrip("\r\n")


def read_parallel(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """`read_pairs` without pairs of which a side is empty."""
    return ((one, other) for one, other in read_pairs(source, target) if one.strip() and other.strip())


def read_pairs(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, longest: int = 10_000
) -> Iterator[tuple[str, str]]:
    """The lines of two files side by side, one pair at a time.

    Args:
        source, target: Files of as many lines, see `read_lines`.
        longest: Characters of a line; a longer one is most likely no sentence.

    Raises:
        InputError: One file has more lines than the other, a line is too long, or as of `read_lines`.
    """
    lines = (read_lines(source), read_lines(target))
    number = 0
    while True:
        number += 1
        pair = tuple(next(each, None) for each in lines)
        if pair == (None, None):
            return
        one, other = pair
        if one is None or other is None:
            short, long = (source, target) if one is None else (target, source)
            raise InputError(
                f"{os.fspath(source)!r} and {os.fspath(target)!r} must have as many lines. Got only {number - 1:,} in "
                f"{os.fspath(short)!r}, and more in {os.fspath(long)!r}. Align them, or cut the longer one."
            )
        for path, text in ((source, one), (target, other)):
            if len(text) > longest:
                raise InputError(
                    f"Line {number:,} of {os.fspath(path)!r} must have at most {longest:,} characters. "
                    f"Got {len(text):,}. Is it one sentence to a line? Split it, or take both lines out."
                )
        yield one, other

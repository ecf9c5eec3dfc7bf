"""What `softplace translate` and `softplace align` print of a sentence.

Axis legend: L layers, H heads, T target tokens and the end, S source tokens and the end.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from softplace.attention.alignment import Links, alignment_error_rate, pharaoh, read_pharaoh
from softplace.attention.text import read_lines, read_pairs
from softplace.attention.translator import CHUNK, Looks, Search, Translation, Translator
from softplace.errors import InputError

SHADES = " ░▒▓█"
"""Of weights below 0.05, 0.25, 0.5, 0.75, and above."""
_LIMITS = (0.05, 0.25, 0.5, 0.75)
_MOST_NAME = 12


@dataclass(frozen=True, kw_only=True)
class Printing:
    """What is printed.

    Args:
        best: Hypotheses of each sentence.
        align: Links in the form of Pharaoh after the sentence.
        heat_map: A drawing of the weights below it.
        weights: All weights as JSON below it.
        by_words: Links of words by spaces, else of tokens.
        way: Arguments of `Looks.links`; those that are None are the translator's own.
    """

    best: int = 1
    align: bool = False
    heat_map: bool = False
    weights: bool = False
    by_words: bool = True
    way: Mapping[str, float | int | None]

    @property
    def looks(self) -> bool:
        """Whether weights are needed."""
        return self.align or self.heat_map or self.weights


def translations(
    translator: Translator, lines: Iterable[str], search: Search, printing: Printing, *, longest: int
) -> Iterator[str]:
    """What is printed of every line, in their order; in memory for `CHUNK` lines, or for one that a person types.

    Raises:
        InputError: A line that is too long, or an argument that cannot be used.
    """
    drawn = search.temperature is not None
    if not 1 <= printing.best <= (1 if drawn else max(search.beam, 1)):
        way = "Leave --temperature or --best out." if drawn else "Raise --beam."
        most = "1, as many as are drawn" if drawn else f"'beam', {search.beam}"
        raise InputError(f"'best' must lie between 1 and {most}. Got {printing.best}. {way}")
    _check_way(printing)
    waiting = iter(lines)
    before, size = 0, 1 if sys.stdin is not None and sys.stdin.isatty() else CHUNK
    while chunk := list(islice(waiting, size)):
        found = translator.hypotheses(chunk, search, longest=longest, before=before)
        before += len(chunk)
        said = [(line, each) for line, some in zip(chunk, found, strict=True) for each in _best(some, printing)]
        looks = _looks(translator, said) if printing.looks else [None] * len(said)
        for (_, each), look in zip(said, looks, strict=True):
            yield _one(translator, each, look, printing)


def alignments(translator: Translator, source: str, target: str, printing: Printing) -> Iterator[str]:
    """What is printed of every pair of lines of two files, in their order.

    Raises:
        InputError: Files that cannot be used, or an argument that cannot.
    """
    waiting = read_pairs(source, target)
    while chunk := list(islice(waiting, CHUNK)):
        places = [place for place, pair in enumerate(chunk) if all(each.strip() for each in pair)]
        by_place = dict(zip(places, translator.looks([chunk[place] for place in places]), strict=True))
        for place in range(len(chunk)):
            look = by_place.get(place)
            yield _with_looks(
                "" if look is None else pharaoh(_links(translator, look, printing)), translator, look, printing
            )


def error_rate(translator: Translator, source: str, target: str, gold: str, printing: Printing, *, first: int) -> str:
    """The alignment error rate against the links of a file, in words.

    Raises:
        InputError: Files that cannot be used, or of other lengths.
    """
    pairs = list(read_pairs(source, target))
    known = [read_pharaoh(line, first=first) for line in read_lines(gold)]
    if len(known) != len(pairs):
        raise InputError(
            f"{gold!r} must have as many lines as {source!r}, {len(pairs):,}. Got {len(known):,}. Align them."
        )
    places = [place for place, pair in enumerate(pairs) if all(each.strip() for each in pair)]
    looks = translator.looks([pairs[place] for place in places])
    found = [_links(translator, look, printing) for look in looks]
    rate = alignment_error_rate(found, [known[place][0] for place in places], [known[place][1] for place in places])
    return f"alignment error rate: {rate:.4f}, {len(places):,} sentences"


def _best(found: list[Translation], printing: Printing) -> list[Translation]:
    """The best hypotheses; an empty line has as many empty ones."""
    return found[: printing.best] if len(found) > 1 else found * printing.best


def _check_way(printing: Printing) -> None:
    """Raise `InputError` for what says how to look where nothing is looked at."""
    given = [name for name, value in printing.way.items() if value is not None]
    idle = [name for name in given if not printing.align and (name not in ("layer", "head") or not printing.heat_map)]
    idle += ["pieces"] * (not printing.by_words and not printing.align)
    if idle:
        raise InputError(f"{idle[0]!r} says how links are found. Got it without them. Add --align, or leave it out.")


def _way(translator: Translator, printing: Printing) -> dict[str, Any]:
    """Arguments of `Looks.links`: those given, else the translator's own."""
    return {**translator.alignment, **{name: value for name, value in printing.way.items() if value is not None}}


def _links(translator: Translator, look: Looks, printing: Printing) -> Links:
    return look.links(by_words=printing.by_words, **_way(translator, printing))


def _looks(translator: Translator, said: list[tuple[str, Translation]]) -> list[Looks | None]:
    """Of an empty line there are none."""
    places = [place for place, (line, _) in enumerate(said) if line.strip()]
    found = translator.looks([(said[place][0], said[place][1].numbers) for place in places])
    by_place = dict(zip(places, found, strict=True))
    return [by_place.get(place) for place in range(len(said))]


def _one(translator: Translator, said: Translation, look: Looks | None, printing: Printing) -> str:
    parts = [said.text]
    if printing.best > 1:
        parts.append(f"{said.score:.4f}")
    if printing.align:
        parts.append("" if look is None else pharaoh(_links(translator, look, printing)))
    return _with_looks(" ||| ".join(parts), translator, look, printing)


def _with_looks(text: str, translator: Translator, look: Looks | None, printing: Printing) -> str:
    """A line with what is drawn below it."""
    if look is None:
        return text
    way = _way(translator, printing)
    if printing.heat_map:
        text += "\n" + heat_map(look, layer=_whole(way.get("layer")), head=_whole(way.get("head")))
    if printing.weights:
        content = {"source": look.source, "target": look.target, "weights": look.weights.tolist()}
        text += "\n" + json.dumps(content, ensure_ascii=False)
    return text


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def heat_map(look: Looks, *, layer: int | None = None, head: int | None = None) -> str:
    """The weights of a layer and head as text: a row for every target token, darker where it looked.

    >>> import torch
    >>> look = Looks(("a", "b"), ("x", "y"), torch.eye(2)[None, None], (0,), (0,))
    >>> print("\\n".join(line.rstrip() for line in heat_map(look).splitlines()))
      a b
    x ██
    y   ██
    """
    matrix = look.matrix(layer=layer, head=head).tolist()
    names = [name[:_MOST_NAME] for name in look.source]
    width = max(len(name) for name in look.target)
    lines = []
    for row in range(max(map(len, names))):
        letters = (name[row] if row < len(name) else " " for name in names)
        lines.append(" " * (width + 1) + " ".join(letters))
    for name, weights in zip(look.target, matrix, strict=True):
        cells = (SHADES[sum(weight >= limit for limit in _LIMITS)] * 2 for weight in weights)
        lines.append(f"{name.rjust(width)} " + "".join(chain(cells)))
    return "\n".join(lines)

"""What `softplace translate` prints of a sentence.

Axis legend: L layers, H heads, T target tokens and the end, S source tokens and the end.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice

from softplace.attention.alignment import pharaoh
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
    if not 1 <= printing.best <= max(search.beam, 1):
        raise InputError(f"'best' must lie between 1 and 'beam', {search.beam}. Got {printing.best}. Raise --beam.")
    waiting = iter(lines)
    before, size = 0, 1 if sys.stdin is not None and sys.stdin.isatty() else CHUNK
    while chunk := list(islice(waiting, size)):
        found = translator.hypotheses(chunk, search, longest=longest, before=before)
        before += len(chunk)
        said = [(line, each) for line, some in zip(chunk, found, strict=True) for each in some[: printing.best]]
        looks = _looks(translator, said) if printing.looks else [None] * len(said)
        for (_, each), look in zip(said, looks, strict=True):
            yield _one(translator, each, look, printing)


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
    way = {**translator.alignment, **{name: value for name, value in printing.way.items() if value is not None}}
    if printing.align:
        links = frozenset() if look is None else look.links(by_words=printing.by_words, **way)  # type: ignore[arg-type]
        parts.append(pharaoh(links))
    text = " ||| ".join(parts)
    if look is None:
        return text
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

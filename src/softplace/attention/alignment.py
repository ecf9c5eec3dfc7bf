"""Which word of the target is which of the source: read from attention weights, written, and compared with gold.

Axis legend: T target words, S source words. A link (i, j) joins source word i and target word j, counted from 0.
"""

import re
from collections.abc import Iterable, Sequence

from torch import Tensor

from softplace.errors import InputError

Links = frozenset[tuple[int, int]]


def aligned(weights: Tensor, *, threshold: float | None = None, shift: int = 0, source: int | None = None) -> Links:
    """Links that attention weights say.

    Args:
        weights: (T, S) of a sentence: row j is what was looked at when target word j was said.
        threshold: Every weight of at least so much is a link. None: the largest of each row, if it is above 0.
        shift: Row j + shift counts for word j. 1: what was looked at when the word was read, one step after it was
            said, which aligns better in a Transformer (Chen et al. 2020, arXiv:2004.14837). Rows beyond are left out.
        source: Columns that are words; what follows (the end, padding) is left out, also as the largest. None: all.

    Raises:
        InputError: Weights of other than two axes, or a threshold that is not above 0.
    """
    if weights.dim() != 2:
        raise InputError(
            f"'weights' must be of one sentence and head, (T, S). Got {tuple(weights.shape)}. Take one, or a mean."
        )
    if threshold is not None and not threshold > 0.0:
        raise InputError(f"'threshold' must be above 0. Got {threshold}. Leave it out for the largest weight.")
    rows = weights[shift if shift > 0 else 0 :, :source]
    first = -shift if shift < 0 else 0
    if rows.numel() == 0:
        return frozenset()
    if threshold is None:
        best, place = rows.max(-1)
        pairs = zip(best.tolist(), place.tolist(), strict=True)
        return frozenset((i, first + j) for j, (weight, i) in enumerate(pairs) if weight > 0.0)
    return frozenset((i, first + j) for j, i in (rows >= threshold).nonzero().tolist())


def pharaoh(links: Iterable[tuple[int, int]]) -> str:
    """Links as `i-j`, by source word, then target word: the form of Moses, fast_align and most that came after."""
    return " ".join(f"{i}-{j}" for i, j in sorted(links))


def read_pharaoh(line: str, *, first: int = 0) -> tuple[Links, Links]:
    """The sure and the possible links of a line: `i-j` is sure, `i?j` and `ipj` are possible; the sure are among both.

    Args:
        line: Of a file.
        first: What the first word is called: 1 in some gold files.

    Raises:
        InputError: Something that is no link.

    >>> sure, possible = read_pharaoh("0-0 1p2")
    >>> sorted(sure), sorted(possible)
    ([(0, 0)], [(0, 0), (1, 2)])
    """
    sure, possible = set(), set()
    for text in line.split():
        match = re.fullmatch(r"(\d+)([-?p])(\d+)", text)
        if match is None or min(int(match[1]), int(match[3])) < first:
            raise InputError(
                f"A link must be two numbers from {first} with '-', '?' or 'p' between. Got {text!r}. "
                "See the form of Pharaoh: 0-0 1-2."
            )
        link = int(match[1]) - first, int(match[3]) - first
        possible.add(link)
        if match[2] == "-":
            sure.add(link)
    return frozenset(sure), frozenset(possible)


def alignment_error_rate(
    found: Sequence[Iterable[tuple[int, int]]],
    sure: Sequence[Iterable[tuple[int, int]]],
    possible: Sequence[Iterable[tuple[int, int]]] | None = None,
) -> float:
    """`1 - (|A & S| + |A & P|) / (|A| + |S|)` over all sentences: 0 is best.

    Args:
        found: A, the links of each sentence.
        sure: S, the gold links of each.
        possible: P; the sure links are taken as possible too. None: the sure ones alone.

    Returns:
        NaN where there is no link at all.

    Raises:
        InputError: Not as many sentences in each.

    Source: Och and Ney 2003, A systematic comparison of various statistical alignment models.
    """
    allowed = sure if possible is None else possible
    if not len(found) == len(sure) == len(allowed):
        raise InputError(
            f"'found', 'sure' and 'possible' must be as many sentences. Got {len(found)}, {len(sure)} and "
            f"{len(allowed)}. Give an empty set for a sentence without a link."
        )
    hits = total = 0
    for one, gold, more in zip(found, sure, allowed, strict=True):
        a, s = set(one), set(gold)
        hits += len(a & s) + len(a & (s | set(more)))
        total += len(a) + len(s)
    return 1.0 - hits / total if total else float("nan")

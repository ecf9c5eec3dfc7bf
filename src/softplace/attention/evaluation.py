"""What a finished translator is measured by: quality, quality by length, alignments, what its weights are like.

Axis legend: L layers, H heads, T target tokens and the end, S source tokens and the end.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from softplace.attention.alignment import alignment_error_rate
from softplace.attention.corpus import Data, Example, NumberWordsData
from softplace.attention.rnnsearch import RNNEncDec
from softplace.attention.scoring import scores
from softplace.attention.translator import Looks, Search, Translator

Score = Callable[[Sequence[str], Sequence[str]], tuple[dict[str, float], dict[str, str]]]
"""Scores and signatures of translations and references, see `scoring.scores`."""
BEAM = 5
BUCKETS = (5, 10, 15, 20, 25, 30, 40, 50)
"""Source words, by spaces, up to which sentences are of like length."""
LOOKED = 100
"""Pairs whose weights are looked at."""
LISTS = 6
"""Numbers in the longest list that is measured."""
EACH = 100
"""Lists of each length."""


def digest_of(examples: Sequence[Example]) -> str:
    """Which pairs they are."""
    total = hashlib.blake2b(digest_size=16)
    for each in examples:
        total.update(f"{each.source}\n{each.target}\n".encode())
    return total.hexdigest()


def evaluate(
    translator: Translator, examples: Sequence[Example], data: Data, *, precision: str = "float32"
) -> dict[str, Any]:
    """Measure a translator on pairs that it was not trained on.

    Args:
        translator: The finished one.
        examples: To translate.
        data: What it was trained on: number words have known links, and lists longer than any that was trained on.
        precision: Of the products.

    Returns:
        `test`: scores of a beam of `BEAM`, with `greedy_` those of one; `by_length`: the same by source words, or by
        numbers in a list; `alignment`: the error against the known links, and by which layer, head and shift, which
        were chosen on other pairs; `weights`: entropy in bits and support, the mean over target tokens.
    """
    lines = [each.source for each in examples]
    targets = [each.target for each in examples]
    start = time.perf_counter()
    greedy = [each.text for each in translator.translate(lines, Search(precision=precision))]
    middle = time.perf_counter()
    beam = [each.text for each in translator.translate(lines, Search(beam=BEAM, precision=precision))]
    end = time.perf_counter()
    test: dict[str, Any] = {f"greedy_{name}": value for name, value in translator.scores(greedy, targets)[0].items()}
    found, signatures = translator.scores(beam, targets)
    test |= found
    if signatures:
        test["signatures"] = signatures
    test |= {"sentences": len(lines), "greedy_seconds": round(middle - start, 3), "seconds": round(end - middle, 3)}
    if isinstance(data, NumberWordsData):
        by_length = [
            _of_length(
                translator.scores,
                str(count),
                count,
                *_translated(translator, data.held("length", EACH, numbers=count), precision),
            )
            for count in range(1, LISTS + 1)
        ]
    else:
        by_length = by_words(lines, beam, targets, translator.scores)
    return {
        "test": test,
        "by_length": by_length,
        "alignment": _alignment(translator, data.validation, examples),
        "weights": _weights(translator, examples[:LOOKED]),
    }


def by_words(
    lines: Sequence[str], said: Sequence[str], targets: Sequence[str], score: Score = scores
) -> list[dict[str, Any]]:
    """Scores of sentences of like length: Bahdanau et al. 2015, figure 2."""
    found = []
    low = 0
    for high in (*BUCKETS, math.inf):
        places = [place for place, line in enumerate(lines) if low < len(line.split()) <= high]
        if places:
            label = f"{low + 1}-{high}" if high < math.inf else f"{low + 1}+"
            middle = sum(len(lines[place].split()) for place in places) / len(places)
            found.append(_of_length(score, label, middle, [said[p] for p in places], [targets[p] for p in places]))
        low = int(min(high, 1 << 30))
    return found


def _of_length(score: Score, label: str, middle: float, said: Sequence[str], targets: Sequence[str]) -> dict[str, Any]:
    return {"label": label, "length": middle, "sentences": len(said), **score(said, targets)[0]}


def _translated(translator: Translator, examples: Sequence[Example], precision: str) -> tuple[list[str], list[str]]:
    search = Search(precision=precision)
    made = translator.translate([each.source for each in examples], search)
    return [each.text for each in made], [each.target for each in examples]


def _alignment(translator: Translator, validation: Sequence[Example], test: Sequence[Example]) -> dict[str, Any] | None:
    """The error against known links, by the layer, head and shift that have the least on the validation."""
    if isinstance(translator.net, RNNEncDec) or validation[0].links is None or test[0].links is None:
        return None
    choosing, judging = validation[:LOOKED], test
    looks = translator.looks([(each.source, each.target) for each in choosing])
    layers, heads = looks[0].weights.shape[:2]
    ways = [
        {"layer": layer, "head": head, "shift": shift}
        for layer in range(layers)
        for head in (None, *(range(heads) if heads > 1 else ()))
        for shift in (0, 1)
    ]
    best = min(ways, key=lambda way: _error(looks, choosing, way))
    judged = translator.looks([(each.source, each.target) for each in judging])
    return {"by": best, "error_rate": _error(judged, judging, best), "pairs": len(judging)}


def _error(looks: Sequence[Looks], examples: Sequence[Example], way: Mapping[str, Any]) -> float:
    """Links of target words that have no known link are left out: an *and* that nobody said looks somewhere too."""
    found, gold = [], []
    for look, each in zip(looks, examples, strict=True):
        known = each.links or frozenset()
        linked = {j for _, j in known}
        found.append({(i, j) for i, j in look.links(**way) if j in linked})
        gold.append(known)
    hits = sum(bool(one & other) for one, other in zip(found, gold, strict=True))
    return alignment_error_rate(found, gold) if hits else 1.0


def _weights(translator: Translator, examples: Sequence[Example]) -> dict[str, float] | None:
    if isinstance(translator.net, RNNEncDec):
        return None
    return weights_are(translator.looks([(each.source, each.target) for each in examples]))


def weights_are(looks: Sequence[Looks]) -> dict[str, float]:
    """Entropy in bits, and how many weights are above 0: means over target tokens, heads and layers."""
    entropy = support = count = 0.0
    for look in looks:
        weights = look.weights.double()
        total = weights.sum(-1, keepdim=True)
        shares = weights / total.clamp_min(1e-300)
        entropy += float(-(shares * shares.clamp_min(1e-300).log2()).sum())
        support += float((weights > 0).sum())
        count += weights[..., 0].numel()
    return {"entropy": entropy / count, "support": support / count}

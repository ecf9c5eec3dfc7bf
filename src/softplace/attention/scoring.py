"""How good translations are, by their references: exact ones, BLEU, chrF.

No axes: sentences are text.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from softplace.attention.text import read_lines
from softplace.errors import InputError


def scores(said: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
    """The share that is exact, by spaces; with sacrebleu BLEU and chrF, and BLEU of lower-cased words.

    An empty list of sentences has no score.
    """
    if not said:
        return {}
    exact = sum(one.split() == other.split() for one, other in zip(said, targets, strict=True))
    found = {"exact": exact / len(said)}
    metrics = _metrics()
    return found | {name: metric.corpus_score(list(said), [list(targets)]).score for name, metric in metrics.items()}


def signatures_of(said: Sequence[str], targets: Sequence[str]) -> dict[str, str] | None:
    """What sacrebleu calls the way it measured; None without sacrebleu."""
    metrics = _metrics()
    for metric in metrics.values():
        metric.corpus_score(list(said), [list(targets)])
    return {name: str(metric.get_signature()) for name, metric in metrics.items()} if metrics else None


def _metrics() -> Mapping[str, Any]:
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        return {}
    return {"bleu": BLEU(), "chrf": CHRF(), "bleu_lower": BLEU(lowercase=True)}


def score_files(translations: str, references: Sequence[str]) -> dict[str, Any]:
    """Scores of a file of translations against one or more files of references, with signatures.

    Raises:
        InputError: Files of other lengths, or sacrebleu is missing.
    """
    metrics = _metrics()
    if not metrics:
        raise InputError("Scores need the package sacrebleu. Got none. Install softplace[attention].")
    said = list(read_lines(translations))
    known = [list(read_lines(path)) for path in references]
    for path, lines in zip(references, known, strict=True):
        if len(lines) != len(said):
            raise InputError(
                f"{path!r} must have as many lines as {translations!r}, {len(said):,}. Got {len(lines):,}. Align them."
            )
    if not said:
        raise InputError(f"{translations!r} must have lines. Got none. Translate something first.")
    found = {name: metric.corpus_score(said, known).score for name, metric in metrics.items()}
    return {"sentences": len(said), **found, "signatures": {n: str(m.get_signature()) for n, m in metrics.items()}}


def shown(found: Mapping[str, Any], *, as_json: bool) -> str:
    """Scores as text."""
    if as_json:
        return json.dumps(found, indent=2)
    return "\n".join(
        f"{name}: {found[name]:.2f} ({signature}), {found['sentences']:,} sentences"
        for name, signature in found["signatures"].items()
    )

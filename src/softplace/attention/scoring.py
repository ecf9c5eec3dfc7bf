"""How good translations are, by their references: exact ones, BLEU, chrF.

No axes: sentences are text.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from softplace.attention.text import read_lines
from softplace.errors import InputError


def scores(
    said: Sequence[str], targets: Sequence[str], spelled: Sequence[str] | None = None
) -> tuple[dict[str, float], dict[str, str]]:
    """The share that is exact, by spaces; with sacrebleu BLEU and chrF, and BLEU of lower-cased words; and signatures.

    An empty list of sentences has no score.

    Args:
        said: Translations.
        targets: References.
        spelled: The references as a translator's tokens spell them, which is what it can say: for "exact". None: the
            references.

    Returns:
        The scores by name, and what sacrebleu calls the way it measured, by the same names.
    """
    if not said:
        return {}, {}
    exact = sum(one.split() == other.split() for one, other in zip(said, spelled or targets, strict=True))
    found, signatures = _corpus_scores(said, [targets])
    return {"exact": exact / len(said)} | found, signatures


def _corpus_scores(said: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[dict[str, float], dict[str, str]]:
    """Of every metric the score and the signature; nothing without sacrebleu."""
    metrics = _metrics()
    found = {
        name: metric.corpus_score(list(said), [list(each) for each in references]).score
        for name, metric in metrics.items()
    }
    return found, {name: str(metric.get_signature()) for name, metric in metrics.items()}


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
    if not _metrics():
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
    found, signatures = _corpus_scores(said, known)
    return {"sentences": len(said), **found, "signatures": signatures}


def shown(found: Mapping[str, Any], *, as_json: bool) -> str:
    """Scores as text."""
    if as_json:
        return json.dumps(found, indent=2)
    return "\n".join(
        f"{name}: {found[name]:.2f} ({signature}), {found['sentences']:,} sentences"
        for name, signature in found["signatures"].items()
    )

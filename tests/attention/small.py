"""A training that takes a second: lists of one or two digits in words, a net of a few units."""

from pathlib import Path
from typing import Any

import pytest

from softplace.attention import corpus, evaluation, page
from softplace.attention.training import TranslationResult, train

SIZES: dict[str, dict[str, Any]] = {
    "transformer": {"width": 8, "heads": 2, "encoder_layers": 1, "decoder_layers": 2, "inner": 8},
    "rnnsearch": {"hidden": 6, "embedding": 5, "maxout": 4},
    "rnnencdec": {"hidden": 6, "embedding": 5, "maxout": 4},
}


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Few pairs everywhere."""
    patch.setattr(corpus, "EPOCH", 60)
    patch.setattr(corpus, "TESTED", 12)
    patch.setattr(evaluation, "EACH", 3)
    patch.setattr(evaluation, "LISTS", 3)
    patch.setattr(page, "CANDIDATES", 3)


def small(out: Path, model: str = "transformer", **given: Any) -> TranslationResult:
    """Train it."""
    options: dict[str, Any] = {
        "options": {"count": (1, 2), "digits": (1, 2)}, "steps": 8, "room": 60, "validate_steps": 4, "curve_steps": 3,
        "average": 2, "device": "cpu",
    }  # fmt: skip
    if "source" in given:
        del options["options"]
    return train(model, out=out, **options | SIZES.get(model, {}) | given)

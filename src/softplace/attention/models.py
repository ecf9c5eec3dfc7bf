"""The translators by name, and what they are where nothing is said.

No axes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn

from softplace.attention.rnnsearch import RNNEncDec, RNNSearch
from softplace.attention.transformer import Transformer
from softplace.errors import InputError, nearest

MODELS: dict[str, type[nn.Module]] = {"transformer": Transformer, "rnnsearch": RNNSearch, "rnnencdec": RNNEncDec}
_FILES: dict[str, dict[str, Any]] = {
    "transformer": {
        "width": 256, "heads": 8, "encoder_layers": 3, "decoder_layers": 3, "inner": 1024, "map": "softmax",
        "norm": "pre", "positions": "sinusoidal", "longest": 1024, "dropout": 0.1,
    },
    "rnnsearch": {
        "hidden": 256, "embedding": 256, "align": None, "maxout": 256, "map": "softmax", "initial": "glorot",
        "dropout": 0.2,
    },
    "rnnencdec": {"hidden": 256, "embedding": 256, "maxout": 256, "initial": "glorot", "dropout": 0.2},
}  # fmt: skip
_NUMBER_WORDS: dict[str, dict[str, Any]] = {
    "transformer": {"width": 64, "heads": 4, "encoder_layers": 2, "decoder_layers": 2, "inner": 256, "dropout": 0.0},
    "rnnsearch": {"hidden": 128, "embedding": 64, "maxout": 64, "dropout": 0.0},
    "rnnencdec": {"hidden": 128, "embedding": 64, "maxout": 64, "dropout": 0.0},
}


LARGEST = 100_000
"""Of any size: beyond, a computer is only kept busy."""


def complete(model: str, data: str, shared: bool, given: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a model but for the vocabularies: those given, and the usual.

    Args:
        model: A name of `MODELS`.
        data: "files", or "number-words", whose usual sizes are smaller.
        shared: Whether both languages have one vocabulary: a Transformer then has one matrix of words.

    Raises:
        InputError: An unknown model, or an argument that it has not.
    """
    if model not in MODELS:
        raise InputError(f"Unknown model {model!r}. {nearest(str(model), tuple(MODELS))}")
    usual = dict(_FILES[model])
    if model == "transformer":
        usual["tied"] = "all" if shared else "target"
    if data == "number-words":
        usual |= _NUMBER_WORDS[model]
    for name in given:
        if name not in usual:
            raise InputError(f"A {model} has no {name!r}. {nearest(name, tuple(usual))}")
    for name, size in given.items():
        if isinstance(size, int) and size > LARGEST:
            raise InputError(f"{name!r} must be at most {LARGEST:,}. Got {size:,}. Leave it out for the usual.")
    if not isinstance(given.get("map", ""), str):
        raise InputError(
            f"'map' of a training must be a name, which a checkpoint can keep. Got {type(given['map']).__name__}. "
            "A map of one's own gets a name by an entry point, see softplace.maps.registry."
        )
    return usual | dict(given)


def construct(model: str, source_words: int, target_words: int, sizes: Mapping[str, Any]) -> nn.Module:
    """The net. Errors as its class."""
    return MODELS[model](source_words=source_words, target_words=target_words, **sizes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model learns, where nothing is said."""

    learning_rate: float
    warmup: int
    label_smoothing: float
    room: int
    steps: int
    validate_steps: int


def recipe(model: str, data: str) -> Recipe:
    """The usual way to train a model on a kind of data."""
    transformer = model == "transformer"
    if data == "number-words":
        return Recipe(
            learning_rate=2e-3 if transformer else 3e-3,
            warmup=200 if transformer else 0,
            label_smoothing=0.0,
            room=2048,
            steps=3000 if transformer else 1000,
            validate_steps=200,
        )
    return Recipe(
        learning_rate=2e-3 if transformer else 1e-3,
        warmup=1000 if transformer else 0,
        label_smoothing=0.1,
        room=4096,
        steps=10_000,
        validate_steps=250,
    )

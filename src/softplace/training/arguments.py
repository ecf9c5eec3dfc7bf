"""Checks of what a person gave for a training: each returns the value, or raises an InputError of one line.

No axes.
"""

import json
import math
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from softplace.errors import InputError, nearest

DEVICES = ("auto", "cpu", "cuda")
BUDGET = 100_000  # sequences, where nothing is said: what the papers' curves need to come down
MOST = 10**12
LARGEST = 1e38  # about the end of float32


def whole(name: str, value: Any, least: int, most: int = MOST) -> int:
    """A whole number between two others."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        rule = f"{name!r} must be a whole number from {least} to {most:,}"
        raise InputError(f"{rule}. Got {_shown(value)}. Leave it out for the usual.")
    return number


def whole_numbers(name: str, text: str) -> tuple[int, ...]:
    """Whole numbers with commas between.

    >>> whole_numbers("hidden", "200, 100")
    (200, 100)
    """
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise InputError(
            f"{name!r} must be whole numbers with commas between. Got {_shown(text)}. Use e.g. 200,100."
        ) from None


def positive(name: str, value: Any) -> float:
    """A number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < math.inf:
        raise InputError(f"{name!r} must be a number above 0. Got {_shown(value)}. Leave it out for the usual.")
    if value > LARGEST:
        raise InputError(f"{name!r} must be at most {LARGEST:g}. Got {_shown(value)}. Leave it out for the usual.")
    return float(value)


def clipping(value: Any) -> float | None:
    """The longest gradient: a number above 0; infinity and None mean that none is shortened."""
    return None if value is None or value == math.inf else positive("clip", value)


def budget(steps: int | None, sequences: int | None, batch: int) -> int:
    """How many steps to train."""
    if steps is not None and sequences is not None:
        raise InputError(f"'steps' and 'sequences' say the same thing: got {steps} and {sequences}. Leave one out.")
    if steps is not None:
        return whole("steps", steps, 1)
    return -(-whole("sequences", BUDGET if sequences is None else sequences, 1) // batch)


def place(name: str) -> torch.device:
    """The device of a name."""
    if name not in DEVICES:
        raise InputError(f"Unknown device {name!r}. {nearest(str(name), DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("'device' cuda: expected a GPU that PyTorch can use, got none. Use --device cpu.")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def folder(out: Any) -> Path:
    """The path of a folder."""
    text = os.fspath(out) if isinstance(out, str | os.PathLike) else ""
    if not isinstance(text, str) or not text or "\0" in text:
        raise InputError(f"'out' must be the path of a folder. Got {_shown(out)}. Use e.g. trainings/mine.")
    return Path(text)


def task_options(texts: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE of the command line; a value is JSON, or text where it is none.

    >>> task_options(["length=[1, 5]", "folder=en-10k"])
    {'length': [1, 5], 'folder': 'en-10k'}
    """
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals or name in options:
            raise InputError(f"'option' must be NAME=VALUE, each name once. Got {_shown(text)}. Use e.g. length=[1,5].")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def _shown(value: object) -> str:
    return " ".join(repr(value).split())[:80]

"""softplace: where does softmax belong in a neural network? Measure it on your data.

Importing this package does not import torch: attributes are loaded when they are first used (PEP 562).
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_LAZY = {"Study": "softplace.study.run", "StudyResult": "softplace.study.run"}
_PACKAGES = ("attention", "hidden", "latent", "maps", "memory", "output", "probes", "study")

__all__ = [
    "Study",
    "StudyResult",
    "__version__",
    "attention",
    "hidden",
    "latent",
    "maps",
    "memory",
    "output",
    "probes",
    "study",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"softplace.{name}")
    raise AttributeError(f"module 'softplace' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)

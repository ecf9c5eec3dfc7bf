"""The multinomial logit: a solver, a scikit-learn classifier, and the statistics."""

import importlib
from typing import Any

_LAZY: dict[str, str] = {
    "ConditionalResult": "softplace.output.logit.conditional_result",
    "Effects": "softplace.output.logit.effects",
    "Estimates": "softplace.output.logit.inference",
    "LogitResult": "softplace.output.logit.result",
    "Profile": "softplace.output.logit.effects",
    "Table": "softplace.output.logit.tables",
    "Test": "softplace.output.logit.comparison",
    "fit": "softplace.output.logit.fitting",
    "fit_arrays": "softplace.output.logit.fitting",
    "fit_conditional": "softplace.output.logit.conditional_result",
}

__all__ = [
    "ConditionalResult",
    "Effects",
    "Estimates",
    "LogitResult",
    "Profile",
    "Table",
    "Test",
    "fit",
    "fit_arrays",
    "fit_conditional",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'softplace.output.logit' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""Arithmetic of constants."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from softplace.check.values import UNKNOWN, Constant, Value

_FOLD: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def folded(kind: type[ast.operator], left: Any, right: Any) -> Value:
    """What a binary operation of two Python values gives; unknown when it may not be computed."""
    function = _FOLD.get(kind)
    if function is None or not isinstance(left, int | float | str) or not isinstance(right, int | float | str):
        return UNKNOWN
    if isinstance(left, str) != isinstance(right, str) or (isinstance(left, str) and kind is not ast.Add):
        return UNKNOWN
    if isinstance(left, str) and isinstance(right, str) and len(left) + len(right) > 10_000:
        return UNKNOWN
    try:
        return Constant(function(left, right))
    except (TypeError, ValueError, ArithmeticError):
        return UNKNOWN

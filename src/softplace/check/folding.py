"""Arithmetic of constants."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from softplace.check.values import UNKNOWN, Constant, Unknown, Value, constant

LONGEST_TEXT = 10_000
LONGEST_INTEGER = 1_000
"""Bits: a loop of products or sums can make numbers and texts that fill the memory."""
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
    if isinstance(left, str) and isinstance(right, str) and len(left) + len(right) > LONGEST_TEXT:
        return UNKNOWN
    if any(isinstance(each, int) and each.bit_length() > LONGEST_INTEGER for each in (left, right)):
        return UNKNOWN
    try:
        return Constant(function(left, right))
    except (TypeError, ValueError, ArithmeticError):
        return UNKNOWN


def beginning(value: Value) -> str:
    """How a text begins, when that is known."""
    if isinstance(value, Unknown):
        return value.begins
    found = constant(value)
    return found if isinstance(found, str) else ""

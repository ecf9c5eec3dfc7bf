"""Hypotheses in words: "income = 0, age = 2 * education" becomes a matrix R and values r of `R b = r`.

Axis legend: P columns, H equations.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from softplace.errors import InputError, nearest
from softplace.output.logit.inference import Array
from softplace.output.logit.reading import quoted

_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?(?![\w.])")
_WAY_OUT = "Write e.g. 'income = 0', 'income = 0, age = 0', or 'income = 2 * age'."


def parse_hypothesis(text: str, columns: Sequence[str], terms: Mapping[str, Sequence[int]]) -> tuple[Array, Array]:
    """R, (H, P), and r, (H,), of equations with commas between.

    Each equation has sums of columns, times numbers, on both sides. The name of a term with several columns may stand
    in `term = 0` alone, and stands for each of them. A name may be put in backticks.

    Args:
        text: The equations.
        columns: Names of the P columns.
        terms: Columns of the terms.

    Raises:
        InputError: The text has another form, or a name is no column.

    >>> parse_hypothesis("a = 0, b = 2 * c + 1", ["a", "b", "c"], {})[0].tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, -2.0]]
    """
    rows: list[Array] = []
    values: list[float] = []
    for equation in _split(text, ","):
        sides = _split(equation, "=")
        if len(sides) != 2:
            raise InputError(f"hypothesis {quoted(equation)}: expected one '='. {_WAY_OUT}")
        term, rest = sides[0].strip().strip("`"), sides[1].strip()
        if term not in columns and term in terms and _NUMBER.fullmatch(rest) and float(rest) == 0.0:
            rows += [np.eye(len(columns))[at] for at in terms[term]]
            values += [0.0] * len(terms[term])
            continue
        left, constant_left = _side(sides[0], equation, columns, terms)
        right, constant_right = _side(sides[1], equation, columns, terms)
        if not np.any(left - right):
            raise InputError(f"hypothesis {quoted(equation)}: expected a column in it. Got none. {_WAY_OUT}")
        rows.append(left - right)
        values.append(constant_right - constant_left)
    return np.array(rows), np.array(values)


def _split(text: str, mark: str) -> list[str]:
    """Parts between marks that stand in no brackets and no backticks."""
    parts, depth, quoted_name, start = [], 0, False, 0
    for at, letter in enumerate(text):
        if letter == "`":
            quoted_name = not quoted_name
        elif not quoted_name:
            depth += (letter in "([") - (letter in ")]")
            if letter == mark and depth == 0:
                parts.append(text[start:at])
                start = at + 1
    return [*parts, text[start:]]


def _side(text: str, equation: str, columns: Sequence[str], terms: Mapping[str, Sequence[int]]) -> tuple[Array, float]:
    """The coefficients of the columns in a sum, and its constant."""
    names = sorted(columns, key=len, reverse=True)
    row, constant = np.zeros(len(columns)), 0.0
    rest, sign, first = text.strip(), 1.0, True
    if not rest:
        raise InputError(f"hypothesis {quoted(equation)}: expected something on both sides of '='. {_WAY_OUT}")
    while rest:
        if rest[0] in "+-":
            sign, rest = (-1.0 if rest[0] == "-" else 1.0), rest[1:].lstrip()
        elif not first:
            raise InputError(f"hypothesis {quoted(equation)}: expected + or - before {quoted(rest)}. {_WAY_OUT}")
        first, factor, name = False, sign, None
        if (number := _NUMBER.match(rest)) and not any(rest.startswith(each) for each in names):
            factor *= float(number[0])
            rest = rest[number.end() :].lstrip()
            if not rest.startswith("*"):
                constant, sign = constant + factor, 1.0
                continue
            rest = rest[1:].lstrip()
        for each in names:
            if rest.startswith(f"`{each}`"):
                name, rest = each, rest[len(each) + 2 :].lstrip()
                break
            if rest.startswith(each) and not re.match(r"[\w.\[(]", rest[len(each) :]):
                name, rest = each, rest[len(each) :].lstrip()
                break
        if name is None:
            unknown = re.split(r"\s*[+*=]\s*|\s+-\s*", rest)[0].strip("` ") or rest
            if unknown in terms:
                raise InputError(
                    f"hypothesis {quoted(equation)}: {quoted(unknown)} has several columns, which can only all be 0: "
                    f"'{unknown} = 0'. Name one of {', '.join(columns[at] for at in terms[unknown])}."
                )
            raise InputError(f"hypothesis: no column {quoted(unknown)}. {nearest(unknown, list(columns)[:20])}")
        row[columns.index(name)] += factor
        sign = 1.0
    return row, constant

"""What can be wrong with rows for a multinomial logit, each in one clear line.

Axis legend: N rows, P columns, K classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]

from softplace.output.logit._rows import Moments, correlation, dependent_columns

_SHOWN = 5


class CollinearError(ValueError):
    """Columns that others give, so that no coefficients are best.

    Attributes:
        columns: Those that can be dropped: each is a sum of multiples of the columns before it.
        partners: Of each, the columns that it is made of (empty: it is 0 everywhere).
    """

    def __init__(self, columns: list[int], partners: list[list[int]], names: Sequence[str] | None = None) -> None:
        self.columns, self.partners = columns, partners
        super().__init__(self.describe(names))

    def describe(self, names: Sequence[str] | None = None) -> str:
        """One line, with the columns' names."""
        verb = "does" if len(self.columns) == 1 else "do"
        said = [
            f"{column_name(column, names)} is "
            + (f"made of {listed([column_name(other, names) for other in others])}" if others else "0 in every row")
            for column, others in zip(self.columns[:_SHOWN], self.partners, strict=False)
        ]
        more = len(self.columns) - len(said)
        return (
            f"Columns must not depend on one another. Got {len(self.columns)} that {verb}: "
            f"{'; '.join(said)}{f'; and {more} more' if more > 0 else ''}. "
            "Drop them, or use a penalty."
        )


class SeparationWarning(ConvergenceWarning):  # type: ignore[misc]
    """Columns tell classes apart, so that coefficients grow without end."""


def column_name(column: int, names: Sequence[str] | None) -> str:
    """Its name in quotes, or its number."""
    return f"column {column}" if names is None else repr(str(names[column]))


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`, `a, b, c, d, e and 3 more`."""
    shown = list(words[:_SHOWN])
    if len(words) > _SHOWN:
        return f"{', '.join(shown)} and {len(words) - _SHOWN} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def collinear(found: Moments) -> CollinearError:
    """Which columns depend on which, of the moments of the rows."""
    dependent = dependent_columns(found)
    order, related = correlation(found)
    scale = found.products.diagonal().sqrt()
    kept = [at for at, column in enumerate(order) if column not in dependent]
    partners: list[list[int]] = []
    for column in dependent:
        at = order.index(column)
        if not bool(related[at, at] > 0):
            partners.append([])
            continue
        before = [one for one in kept if one < at]
        shares = torch.linalg.solve(related[before][:, before], related[before, at])
        own = {order[one]: share for one, share in zip(before, shares.tolist(), strict=True)}
        if found.constant is not None:
            constant, value = found.constant
            moved = sum(share * scale[column] / scale[other] * found.shift[other] for other, share in own.items())
            far = (found.shift[column] - moved) / value * scale[constant] / scale[column]
            own[constant] = float(own[constant] + far)
        partners.append(sorted(other for other, share in own.items() if abs(share) > 1e-6))
    return CollinearError(dependent, partners)


def raise_for_cells(X: NDArray[np.floating], names: Sequence[str] | None = None, start: int = 0) -> None:
    """Name the first cell that is missing or infinite, or too large to square."""
    wrong = ~np.isfinite(X)
    for word, which in (("missing (NaN)", np.isnan(X)), ("infinite", wrong)):
        if which.any():
            row, column = np.argwhere(which)[0]
            rows = int(which.any(1).sum())
            raise ValueError(
                f"'X' must hold finite numbers. Got {'NaN' if word[0] == 'm' else 'an infinity'} in row {start + row}, "
                f"{column_name(column, names)} (counted from 0), and {rows} row{'s' if rows > 1 else ''} with {word} "
                "cells in all. Drop or fill these rows."
            )
    row, column = np.unravel_index(np.abs(X).argmax(), X.shape)
    if abs(float(X[row, column])) > (np.finfo(np.float64).max / len(X)) ** 0.5:
        raise ValueError(
            f"'X' must hold numbers whose squares can be summed. Got {X[row, column]:g} in row {start + row}, "
            f"{column_name(int(column), names)}. Use a larger unit."
        )


def check_classes(rows: NDArray[np.integer], names: Sequence[object] | None = None) -> None:
    """Every class needs a row of positive weight."""
    absent = [str(code if names is None else names[code]) for code in np.flatnonzero(rows == 0).tolist()]
    if absent:
        raise ValueError(
            f"Every class must have a row of positive weight. Got none of class {listed(absent)}. Leave the class out."
        )

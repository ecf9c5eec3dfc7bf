"""Do columns tell classes apart, so that coefficients of largest likelihood are infinite? Which columns, which classes.

Axis legend: N rows, M rows of a block, P columns, K classes, L = K - 1 classes beside the base; a direction is (L, P).
A direction separates where no row's own class loses by it, `x . (d_y - d_j) >= 0` for all j, and some gain: complete
where all rows gain against all classes, quasi-complete otherwise (Albert and Anderson 1984, Biometrika 71(1)).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray
from torch import Tensor

from softplace.output.logit._rows import Pieces
from softplace.output.logit.problems import column_name, listed

Array = NDArray[np.float64]
_LARGEST = 1500
"""Coefficients up to which a linear program is tried."""
_ROUNDS = 40
_ADDED = 1000
_TOLERANCE = 1e-7
_FEW, _NEARLY = 30, 0.95
"""Columns up to which those are left out that nearly all rows can do without."""


@dataclass(frozen=True, kw_only=True)
class Single:
    """One column that tells a class apart."""

    column: int
    code: int
    kind: str
    """"above", "below": of the class in all rows and only there, but for ties; "never": 0 in all rows of the class."""
    limit: float


@dataclass(frozen=True, kw_only=True)
class Separation:
    """Classes that columns tell apart."""

    complete: bool
    """Whether every row's class is told from all others."""
    rows: int
    """Rows whose class gains by the direction."""
    columns: tuple[int, ...]
    """Columns of the direction, the one that counts most first."""
    classes: tuple[int, ...]
    """Classes whose coefficients grow, against the base."""
    direction: Array
    """(L, P): coefficients grow along it without end."""
    singles: tuple[Single, ...]
    """Columns that do it alone, if any."""

    def renumbered(self, columns: NDArray[np.intp], direction: Array) -> "Separation":
        """The same of a table in which these columns were chosen."""
        return replace(
            self,
            columns=tuple(int(columns[column]) for column in self.columns),
            direction=direction,
            singles=tuple(replace(one, column=int(columns[one.column])) for one in self.singles),
        )

    def describe(self, names: Sequence[str] | None = None, labels: Sequence[object] | None = None) -> str:
        """One line, with names of columns and labels of classes."""

        def label(code: int) -> str:
            return f"class {code if labels is None else labels[code]}"

        if self.singles:
            said = []
            for one in self.singles[:3]:
                column = column_name(one.column, names)
                if one.kind == "never":
                    said.append(f"{column} is 0 in all rows of {label(one.code)}")
                else:
                    own, rest = ("least", "most") if one.kind == "above" else ("most", "least")
                    rows = f"in all rows of {label(one.code)} and at {rest} that in all others"
                    said.append(f"{column} is at {own} {one.limit:g} {rows}")
            reason = "; ".join(said) + (f"; and {len(self.singles) - 3} more" if len(self.singles) > 3 else "")
        else:
            columns = listed([column_name(column, names) for column in self.columns])
            reason = f"a combination of {columns} tells {listed([label(code) for code in self.classes])} apart"
        return (
            f"{'Perfect' if self.complete else 'Quasi-complete'} separation: {reason}. The largest likelihood is at "
            "infinite coefficients. Use a penalty, or leave these columns out or join classes."
        )


def find(
    pieces: Pieces, direction: Tensor, coefficients: Tensor, *, complete: bool, thoroughly: bool
) -> Separation | None:
    """Look whether rows are separated.

    Args:
        pieces: All rows.
        direction: (L, P), where the climb was heading: tried first.
        coefficients: (L, P), where it ended: rows that it predicts worst are looked at first.
        complete: Whether all rows were predicted with certainty.
        thoroughly: Whether a linear program may be solved where no column and neither direction tells.
    """
    ranges = _Ranges(pieces, len(coefficients) + 1)
    singles = ranges.singles()
    found = None
    for one in [*(ranges.direction(single) for single in singles[:1]), direction, coefficients]:
        size = float((one.abs() * ranges.scale).max())
        if found is None and 0 < size < np.inf:
            found = _certified(pieces, one / size)
    plain = found is not None and (bool(singles) or coefficients.shape[1] > _FEW)
    if not plain and thoroughly and coefficients.numel() <= _LARGEST:
        found = _fewer(pieces, coefficients, ranges) or found
    if found is None:
        return None
    separating, rows, certain = found
    strength = (separating.abs() * ranges.scale).numpy()
    strength[strength < 1e-6 * strength.max()] = 0.0
    ranked = np.argsort(-strength.max(0), kind="stable")
    columns = [int(column) for column in ranked if strength[:, column].any() and not ranges.is_constant(int(column))]
    return Separation(
        complete=complete or certain,
        rows=rows,
        columns=tuple(columns),
        classes=tuple(int(code) + 1 for code in np.flatnonzero(strength.any(1))),
        direction=separating.numpy(),
        singles=tuple(singles),
    )


def margins(X: Tensor, codes: Tensor, direction: Tensor) -> Tensor:
    """`x . (d_y - d_j)` of the classes j beside each row's own, which has infinity: (K, M)."""
    scores = torch.cat([X.new_zeros(1, len(X)), direction @ X.T])
    own = scores.gather(0, codes[None])
    return (own - scores).scatter_(0, codes[None], torch.inf)


def _certified(pieces: Pieces, direction: Tensor) -> tuple[Tensor, int, bool] | None:
    """The direction, how many rows gain by it and whether all do against all classes, if none loses."""
    gaining, certain = 0, True
    for piece in pieces():
        chosen = slice(None) if piece.weight is None else piece.weight > 0
        least = margins(piece.X[chosen].double(), piece.codes[chosen], direction)
        if bool((least < -_TOLERANCE).any()):
            return None
        gaining += int(((least > 1e-4) & least.isfinite()).any(0).sum())
        certain &= bool((least > _TOLERANCE).all())
    return (direction, gaining, certain) if gaining else None


def _fewer(pieces: Pieces, coefficients: Tensor, ranges: "_Ranges") -> tuple[Tensor, int, bool] | None:
    """By the linear program, with no more columns than it takes for nearly as many rows."""
    known = [_losing(pieces, coefficients, ranges.scale, -np.inf)]
    found = _program(pieces, coefficients, ranges, known, set())
    columns = coefficients.shape[1]
    if found is None or columns > _FEW:
        return found
    left: set[int] = set()
    for column in (found[0].abs() * ranges.scale).amax(0).argsort().tolist():
        if ranges.is_constant(column):
            continue
        without = _program(pieces, coefficients, ranges, known, left | {column})
        if without is not None and without[1] >= _NEARLY * found[1]:
            found, left = without, left | {column}
    return found


def _program(
    pieces: Pieces, coefficients: Tensor, ranges: "_Ranges", known: list[Array], without: set[int]
) -> tuple[Tensor, int, bool] | None:
    """The linear program: the direction by which all rows gain most in sum, rows that lose added until none does.

    `known` holds constraints that were met before, and gets those that are met here.
    """
    scale = ranges.scale
    goal = (ranges.goal() / scale).flatten().numpy()
    goal = goal / max(float(np.abs(goal).max()), 1e-300)
    limits = [(0, 0) if column in without else (-1, 1) for column in range(coefficients.shape[1])]
    for _ in range(_ROUNDS):
        constraints = np.concatenate(known)
        ended = scipy.optimize.linprog(
            -goal,
            A_ub=-constraints,
            b_ub=np.zeros(len(constraints)),
            bounds=limits * len(coefficients),
            method="highs",
            options={"time_limit": 20.0},
        )
        if ended.x is None or float(goal @ ended.x) <= 1e-9:
            return None
        direction = torch.from_numpy(ended.x).reshape(coefficients.shape) / scale
        worst = _losing(pieces, direction, scale, -_TOLERANCE)
        if not len(worst):
            return _certified(pieces, direction)
        known.append(worst)
    return None


def _losing(pieces: Pieces, direction: Tensor, scale: Tensor, limit: float) -> Array:
    """The constraints `x (x) (e_y - e_j)` that a direction breaks most (or holds by least, if the limit is -inf)."""
    kept: list[Tensor] = []
    sizes: list[Tensor] = []
    for piece in pieces():
        chosen = slice(None) if piece.weight is None else piece.weight > 0
        X, codes = piece.X[chosen].double(), piece.codes[chosen]
        least = margins(X, codes, direction)
        wanted = least < limit if limit > -np.inf else least.isfinite()
        other, row = wanted.nonzero(as_tuple=True)
        size = least[other, row]
        few = size.topk(min(_ADDED, len(size)), largest=False).indices
        other, row = other[few], row[few]
        rows = torch.zeros(len(few), len(direction) + 1, X.shape[1], dtype=torch.float64)
        index = torch.arange(len(few))
        rows[index, codes[row]] = X[row] / scale
        rows[index, other] = -X[row] / scale
        kept.append(rows[:, 1:].flatten(1))
        sizes.append(size[few])
        if len(kept) > 8:
            kept, sizes = _fewest(kept, sizes)
    kept, _ = _fewest(kept, sizes)
    return np.asarray(kept[0].numpy())


def _fewest(kept: list[Tensor], sizes: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    rows, size = torch.cat(kept), torch.cat(sizes)
    few = size.topk(min(_ADDED, len(size)), largest=False).indices
    return [rows[few]], [size[few]]


class _Ranges:
    """Smallest and largest value of each column in each class, and sums: one pass."""

    def __init__(self, pieces: Pieces, classes: int) -> None:
        low = high = sums = None
        rows = torch.zeros(classes, dtype=torch.float64)
        for piece in pieces():
            chosen = slice(None) if piece.weight is None else piece.weight > 0
            X, codes = piece.X[chosen].double(), piece.codes[chosen]
            if low is None or high is None or sums is None:
                low = torch.full((classes, X.shape[1]), torch.inf, dtype=torch.float64)
                high, sums = torch.full_like(low, -torch.inf), torch.zeros_like(low)
            for code in range(classes):
                own = X[codes == code]
                if not len(own):
                    continue
                low[code] = torch.minimum(low[code], own.amin(0))
                high[code] = torch.maximum(high[code], own.amax(0))
                sums[code] += own.sum(0)
                rows[code] += len(own)
        if low is None or high is None or sums is None:
            raise ValueError("There must be a row. Got none. Give rows.")
        self.low, self.high, self.sums, self.rows = low, high, sums, rows
        largest = torch.maximum(low.abs(), high.abs()).amax(0)
        self.scale = torch.where(largest > 0, largest, 1.0)

    def goal(self) -> Tensor:
        """`sum_i sum_j x (x) (e_y - e_j)` of the classes beside the base."""
        return (len(self.rows) * self.sums - self.sums.sum(0))[1:]

    def is_constant(self, column: int) -> bool:
        """Whether the column is the same in all rows."""
        return bool(self.low[:, column].min() == self.high[:, column].max())

    def direction(self, single: Single) -> Tensor:
        """Along which the column tells the class apart."""
        classes, columns = self.low.shape
        row = torch.zeros(columns, dtype=torch.float64)
        away = single.kind == "below" or (single.kind == "never" and float(self.high[:, single.column].max()) > 0)
        row[single.column] = -1.0 if away else 1.0
        constant = next((column for column in range(columns) if self.is_constant(column)), None)
        if constant is not None:
            row[constant] = -row[single.column] * single.limit / self.low[0, constant]
        found = torch.zeros(classes, columns, dtype=torch.float64)
        found[single.code] = row
        return (found - found[0])[1:]

    def singles(self) -> list[Single]:
        """Columns that tell a class apart alone."""
        found = []
        classes, columns = self.low.shape
        shifts = any(self.is_constant(column) for column in range(columns))
        lowest, highest = self.low.amin(0), self.high.amax(0)
        for column in range(columns):
            if self.is_constant(column):
                continue
            for code in range(1 if classes == 2 else 0, classes):
                others = [other for other in range(classes) if other != code]
                low, high = float(self.low[code, column]), float(self.high[code, column])
                rest_low, rest_high = float(self.low[others, column].min()), float(self.high[others, column].max())
                one_sided = float(lowest[column]) >= 0 or float(highest[column]) <= 0
                if low == high == 0 and one_sided:
                    found.append(Single(column=column, code=code, kind="never", limit=0.0))
                elif one_sided and (low == high == 0 or rest_low == rest_high == 0):
                    continue  # said of the other classes
                elif low >= rest_high and (shifts or low >= 0 >= rest_high):
                    found.append(Single(column=column, code=code, kind="above", limit=low))
                elif high <= rest_low and (shifts or high <= 0 <= rest_low):
                    found.append(Single(column=column, code=code, kind="below", limit=high))
        return found

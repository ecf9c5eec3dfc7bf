"""The rows that a multinomial logit is fitted to: what one pass over them tells, and the columns it works with.

Axis legend: N rows, M rows of a block, P columns, K classes, L = K - 1 classes beside class 0, the base.
Inside, columns are centred (where there is a constant column) and made orthogonal, `w = (x - shift) @ mix`, so that
sums in float32 are precise whatever the units of the columns, and every direction is as steep as another.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softplace.output.logit import _likelihood
from softplace.output.logit._likelihood import BLOCK, Block

Array = NDArray[np.float64]
_DEPENDENT = 1e-12
"""A column of which a smaller share of the variance is left beside the columns before it depends on them."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows as they come: X (M, P), codes (M,), weight (M,) or `None`, offset (M, K) or `None`."""

    X: Tensor
    codes: Tensor
    weight: Tensor | None
    offset: Tensor | None

    def block(self, X: Tensor) -> Block:
        """The rows, with other columns, in the type of those."""
        weight = None if self.weight is None else self.weight.to(X.dtype)
        offset = None
        if self.offset is not None:
            offset = (self.offset[:, 1:] - self.offset[:, :1]).T.to(X.dtype)
        return Block(X, weight, offset)


Pieces = Callable[[], Iterable[Piece]]
"""All rows, again and again."""


@dataclass(frozen=True, slots=True)
class Moments:
    """What one pass tells: sums of weights, of products of columns, and per class."""

    rows: int
    weight: float
    shift: Tensor
    """(P,), subtracted from X in `products`."""
    products: Tensor
    """`sum w (x - shift)(x - shift)^T`, (P, P)."""
    class_weight: Tensor
    """(K,)"""
    class_rows: Tensor
    """(K,), rows of positive weight."""
    class_sums: Tensor
    """`sum of w (x - shift)` per class, (K, P)."""
    offset: float
    """`sum of w (offset of the row's class - that of the base)`."""
    constant: tuple[int, float] | None
    """A column that is the same everywhere, and its value."""


def moments(pieces: Pieces, classes: int) -> Moments:
    """One pass over all rows (a second one where a column only began as constant)."""
    candidates: dict[int, float] | None = None
    while True:
        found = _moments(pieces, classes, candidates)
        if isinstance(found, Moments):
            return found
        candidates = found


def _moments(pieces: Pieces, classes: int, candidates: dict[int, float] | None) -> Moments | dict[int, float]:
    products = shift = sums = None
    rows, weight, offset = 0, 0.0, 0.0
    class_weight, class_rows = torch.zeros(classes, dtype=torch.float64), torch.zeros(classes, dtype=torch.int64)
    for piece in pieces():
        X, codes, w = piece.X.double(), piece.codes, piece.weight
        if shift is None or sums is None or products is None:
            if candidates is None:
                same = X.eq(X[0]).all(0) & (X[0] != 0)
                candidates = {j: float(X[0, j]) for j in same.nonzero().flatten().tolist()}
            columns = X.shape[1]
            shift = X.mean(0) if candidates else torch.zeros(columns, dtype=torch.float64)
            shift[list(candidates)] = 0.0
            products = torch.zeros(columns, columns, dtype=torch.float64)
            sums = torch.zeros(classes, columns, dtype=torch.float64)
        known = candidates or {}
        still = {j: value for j, value in known.items() if bool((X[:, j] == value).all())}
        if len(still) < len(known):
            return still
        moved = X - shift if candidates else X
        weighted = moved if w is None else moved * w[:, None]
        products += weighted.T @ moved
        sums.index_add_(0, codes, weighted)
        rows += len(X)
        class_weight += torch.bincount(codes, w, minlength=classes).double()
        class_rows += torch.bincount(codes if w is None else codes[w > 0], minlength=classes)
        if piece.offset is not None:
            own = piece.offset.gather(1, codes[:, None])[:, 0] - piece.offset[:, 0]
            offset += float(own.sum() if w is None else own @ w)
    if shift is None or sums is None or products is None or candidates is None:
        raise ValueError("'batches' must give at least one row. Got none. Give blocks (X, codes, weight) of rows.")
    weight = float(class_weight.sum())
    constant = next(iter(candidates.items()), None)
    return Moments(rows, weight, shift, products, class_weight, class_rows, sums, offset, constant)


@dataclass(frozen=True, slots=True)
class Frame:
    """The columns inside: `w = (x - shift) @ mix`, `mix` (P, P) triangular; `w = x @ whole`."""

    shift: Tensor
    mix: Tensor
    whole: Tensor
    back: Tensor
    """The inverse of `whole`."""

    def centred(self, X: Tensor) -> Tensor:
        """The columns less their shift: their sums lose nothing to a far origin."""
        return X.double() - self.shift

    def mixed(self, X: Tensor) -> Tensor:
        """The columns inside."""
        return self.centred(X) @ self.mix

    def narrow(self, X: Tensor) -> Tensor:
        """The columns inside, in float32."""
        return self.mixed(X).float()

    def to_columns(self, inside: Tensor) -> Tensor:
        """Coefficients of the columns as they came, of those inside."""
        return inside @ self.whole.T

    def to_centred(self, inside: Tensor) -> Tensor:
        """Coefficients of the centred columns, of those inside."""
        return inside @ self.mix.T

    def information(self, inside: Tensor, classes: int) -> Tensor:
        """The information matrix of the columns as they came."""
        columns = len(self.back)
        blocks = inside.reshape(classes, columns, classes, columns)
        found = torch.einsum("pa,kplq,qb->kalb", self.back, blocks, self.back)
        return found.reshape(classes * columns, classes * columns)


def dependent_columns(found: Moments) -> list[int]:
    """Columns that the columns before them give, constant ones first; empty where all are independent."""
    order, related = correlation(found)
    left, dependent = related.clone(), []
    for at, column in enumerate(order):
        pivot = float(left[at, at])
        if not pivot > _DEPENDENT:
            dependent.append(column)
            continue
        row = left[at, at + 1 :] / pivot
        left[at + 1 :, at + 1 :] -= torch.outer(row, left[at, at + 1 :])
    return sorted(dependent)


def correlation(found: Moments) -> tuple[list[int], Tensor]:
    """Columns in the order in which they are looked at, and their correlations (0 for a column of zeros)."""
    columns = len(found.shift)
    order = list(range(columns))
    products = found.products
    if found.constant is not None:
        order.remove(found.constant[0])
        order.insert(0, found.constant[0])
    scale = products.diagonal().sqrt()
    scale = torch.where(scale > 0, scale, torch.inf)
    return order, (products / scale / scale[:, None])[order][:, order]


def frame(found: Moments, *, singular: bool = False) -> Frame | None:
    """The columns to work with, or `None` where some depend on others; `singular`: those may."""
    order, related = correlation(found)
    if singular:
        related = related + 1e-6 * torch.eye(len(order), dtype=torch.float64)
    triangle, failed = torch.linalg.cholesky_ex(related)
    if int(failed) or not bool((triangle.diagonal().square() > _DEPENDENT).all()):
        return None
    eye = torch.eye(len(order), dtype=torch.float64)
    inverse = torch.linalg.solve_triangular(triangle, eye, upper=False).T
    scale = found.products.diagonal().sqrt()[order] / found.weight**0.5
    scale = torch.where(scale > 0, scale, 1.0)
    mix = torch.empty_like(inverse)
    mix[order] = inverse / scale[:, None]
    back = torch.empty_like(mix)
    back[:, order] = triangle.T * scale
    whole = mix.clone()
    if found.constant is not None:
        column, value = found.constant
        whole[column] -= found.shift @ mix / value
        # x = shift x_c / v + (w mix^-1): the constant column is the first inside.
        back = back + torch.outer(back[:, column] / value, found.shift)
    return Frame(found.shift, mix, whole, back)


class Level:
    """Rows to climb on: all of them, or some in memory; coefficients, gradients and information in the columns inside.

    `narrow` holds the rows in float32 where there is memory for them.
    """

    def __init__(
        self,
        pieces: Pieces,
        frame: Frame,
        *,
        sums: Tensor,
        weight: float,
        offset: float,
        narrow: list[Block] | None,
        penalty: Tensor | None,
    ) -> None:
        self.pieces, self.frame, self.narrow = pieces, frame, narrow
        self.sums = sums
        """`sum of w x` of each class beside the base, (L, P)."""
        self.weight, self.offset = weight, offset
        self.penalty = penalty
        """Of the quadratic penalty `c^T penalty c / 2` of flat coefficients, or `None`."""
        self.evaluations = 0

    def loglikelihood(self, inside: Tensor, precise: bool) -> tuple[float, Tensor]:
        """In nats, and its gradient (L, P); `precise`: in float64, else in float32 where it can."""
        self.evaluations += 1
        narrow = None if precise else self.narrow
        coefficients = self.frame.to_centred(inside) if narrow is None else inside
        total, expected = _likelihood.expected(narrow or self._wide(), coefficients)
        if not np.isfinite(total):
            total, expected = _likelihood.expected_safely(narrow or self._wide(), coefficients)
        gradient = self.sums - (expected @ self.frame.mix if narrow is None else expected)
        return float((inside * self.sums).sum()) + self.offset - total, gradient

    def evaluate(self, inside: Tensor, precise: bool) -> tuple[float, Tensor]:
        """The log-likelihood less the penalty, and its gradient."""
        value, gradient = self.loglikelihood(inside, precise)
        if self.penalty is not None:
            slope = (self.penalty @ inside.flatten()).reshape(inside.shape)
            value -= 0.5 * float((slope * inside).sum())
            gradient = gradient - slope
        return value, gradient

    def information(self, inside: Tensor, precise: bool) -> Tensor:
        """Minus the Hessian of the log-likelihood, (L P, L P)."""
        if self.narrow is not None and not precise:
            return _likelihood.information(self.narrow, inside)
        frame = self.frame
        mixed = (piece.block(frame.mixed(piece.X) if precise else frame.narrow(piece.X)) for piece in self.pieces())
        return _likelihood.information(mixed, inside)

    def largest(self, *inside: Tensor) -> list[float]:
        """The largest score (in absolute value) that each of several coefficients gives to a row."""
        rows = torch.cat(inside)
        coefficients = self.frame.to_centred(rows) if self.narrow is None else rows
        found = torch.stack([_likelihood.largest(block, coefficients) for block in self.narrow or self._wide()]).amax(0)
        return [float(part.max()) for part in found.chunk(len(inside))]

    def _wide(self) -> Iterator[Block]:
        return (piece.block(self.frame.centred(piece.X)) for piece in self.pieces())


def blocks_of(X: Tensor, codes: Tensor, weight: Tensor | None, offset: Tensor | None) -> Iterator[Piece]:
    """Rows in memory, in pieces that fit the cache."""
    for start in range(0, len(X), BLOCK):
        stop = start + BLOCK
        yield Piece(
            X[start:stop],
            codes[start:stop],
            None if weight is None else weight[start:stop],
            None if offset is None else offset[start:stop],
        )

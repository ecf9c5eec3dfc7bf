"""Rows that come in batches, again and again, and a sample of them that fits in memory.

Axis legend: N rows, M rows of a batch, P columns, K classes.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from softplace.output.logit import problems
from softplace.output.logit._arguments import Given, given
from softplace.output.logit._rows import Piece, blocks_of

Batch = tuple[ArrayLike, ArrayLike, ArrayLike | None]
"""X (M, P), codes (M,), weight (M,) or `None`."""
Batches = Callable[[], Iterable[Batch]] | Iterable[Batch]
"""What gives all batches, as often as it is called (or iterated over)."""
_SAMPLED = 65_536
"""Rows that are kept at least."""
_PER_COEFFICIENT = 100
"""Rows that are kept per coefficient."""


class Stream:
    """Checked batches; the first pass keeps rows at random."""

    def __init__(self, batches: Batches, classes: int) -> None:
        if not callable(batches) and iter(batches) is batches:
            raise TypeError(
                "'batches' must give its rows again and again. Got an iterator, which does so once. "
                "Give a function that makes one, or a list."
            )
        self.batches, self.classes = batches, classes
        self.rows: int | None = None
        self.kept: list[tuple[Tensor, Given]] = []

    def pieces(self) -> Iterator[Piece]:
        """All rows."""
        rows = 0
        for table in self._tables():
            rows += len(table.X)
            yield from blocks_of(table.X, table.codes, table.weight, None)
        if self.rows is not None and rows != self.rows:
            raise ValueError(
                f"'batches' must give the same rows each time. Got {self.rows} at first and {rows} later. "
                "Give a function that begins anew when it is called."
            )

    def first(self) -> Iterator[Piece]:
        """All rows, of which some are kept; begin it again and it forgets."""
        random = np.random.default_rng(0)
        self.kept, self.rows = [], None
        limit, rows, bound = _SAMPLED, 0, 1.0
        for table in self._tables():
            limit = max(_SAMPLED, _PER_COEFFICIENT * (self.classes - 1) * table.X.shape[1])
            rows += len(table.X)
            keys = torch.from_numpy(random.random(len(table.X)))
            chosen = (keys < bound).nonzero().flatten()
            self.kept.append((keys[chosen], _chosen(table, chosen)))
            if sum(len(each) for each, _ in self.kept) > 2 * limit:
                self._cut(limit)
                bound = float(self.kept[0][0].max())
            yield from blocks_of(table.X, table.codes, table.weight, None)
        self.rows = rows
        if self.kept:
            self._cut(limit)

    def sample(self, count: int) -> Piece:
        """So many of the rows that were kept, or all of these."""
        keys, table = self.kept[0]
        few = _chosen(table, keys.argsort()[:count])
        return Piece(few.X, few.codes, few.weight, None)

    def _cut(self, limit: int) -> None:
        keys = torch.cat([each for each, _ in self.kept])
        tables = [table for _, table in self.kept]
        weights = [
            torch.ones(len(table.X), dtype=torch.float64) if table.weight is None else table.weight for table in tables
        ]
        weighted = any(table.weight is not None for table in tables)
        whole = Given(
            torch.cat([table.X for table in tables]),
            torch.cat([table.codes for table in tables]),
            torch.cat(weights) if weighted else None,
            None,
        )
        order = keys.argsort()[:limit]
        self.kept = [(keys[order], _chosen(whole, order))]

    def _tables(self) -> Iterator[Given]:
        columns, start = None, 0
        for batch in self.batches() if callable(self.batches) else self.batches:
            if not isinstance(batch, tuple | list) or len(batch) != 3:
                raise TypeError(
                    "'batches' must give (X, codes, weight), the weight an array or None. "
                    f"Got {type(batch).__name__}. Give None for equal weights."
                )
            X, codes, weight = batch
            if weight is not None and not np.any(weight):
                start += len(np.asarray(X))
                continue
            table = given(X, codes, self.classes, weight, None)
            if columns is not None and table.X.shape[1] != columns:
                raise ValueError(
                    f"'batches' must give X of {columns} columns each time. Got {table.X.shape[1]}. "
                    "Give the same columns in each batch."
                )
            columns = table.X.shape[1]
            if not bool(table.X.sum().isfinite()):
                problems.raise_for_cells(table.X.numpy(), start=start)
            start += len(table.X)
            yield table


def _chosen(table: Given, index: Tensor) -> Given:
    weight = None if table.weight is None else table.weight[index]
    return Given(table.X[index], table.codes[index], weight, None)

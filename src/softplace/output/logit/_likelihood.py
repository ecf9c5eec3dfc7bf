"""Sums over rows of the multinomial logit: log-likelihood, gradient, information, one block of rows after another.

Axis legend: M rows of a block, P columns, K classes, L = K - 1 classes beside the base, whose score is 0.
Classes come first, (L, M): a softmax over the last axis of fewer than 16 classes is many times slower on a CPU, and
sums over the first axis run along memory. Blocks fit the cache; their sums are added in float64, whatever their type.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 8192
"""Rows of a block."""
_FEATURES = 5
"""From so many classes beside the base on, the information is computed from products of columns."""
_GROUP = 8


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows: X (M, P), weight (M,) or `None` for ones, offset (L, M) less that of the base, or `None` for zeros."""

    X: Tensor
    weight: Tensor | None = None
    offset: Tensor | None = None


def expected(blocks: Iterable[Block], coefficients: Tensor) -> tuple[float, Tensor]:
    """`sum_i w_i ln sum_k exp(s_ik)` and `sum_i w_i p_i (x) x_i` (L, P), in float64.

    The base's score is 0, so that exponentials cannot all vanish; they can overflow, and then the first is infinite:
    see `expected_safely`.
    """
    gradient = torch.zeros_like(coefficients)
    total = torch.zeros((), dtype=torch.float64)
    narrow = coefficients
    for block in blocks:
        narrow = narrow.to(block.X.dtype)
        shares = _scores(block, narrow).exp_()
        sums = shares.sum(0)
        sums += 1
        shares.div_(sums)
        logarithms = sums.log_()
        if block.weight is None:
            total += logarithms.sum(dtype=torch.float64)
        else:
            total += logarithms.double() @ block.weight.double()
            shares.mul_(block.weight)
        gradient += shares @ block.X
    return float(total), gradient


def expected_safely(blocks: Iterable[Block], coefficients: Tensor) -> tuple[float, Tensor]:
    """As `expected`, for scores of any size."""
    gradient = torch.zeros_like(coefficients)
    total = torch.zeros((), dtype=torch.float64)
    for block in blocks:
        shares, logarithms = shares_of(block, coefficients)
        weight = torch.ones_like(logarithms) if block.weight is None else block.weight
        total += logarithms.double() @ weight.double()
        gradient += shares.mul_(weight) @ block.X
    return float(total), gradient


def shares_of(block: Block, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities of the classes beside the base (L, M), and the logarithm of each row's sum (M,)."""
    shares = _scores(block, coefficients.to(block.X.dtype))
    top = shares.amax(0).clamp_min_(0)
    shares.sub_(top).exp_()
    sums = shares.sum(0).add_(torch.exp(-top))
    return shares.div_(sums), sums.log_().add_(top)


def largest(block: Block, coefficients: Tensor) -> Tensor:
    """The largest score of each class without the offset, in absolute value, of rows of positive weight: (L,)."""
    scores = coefficients.to(block.X.dtype) @ block.X.T
    if block.weight is not None:
        scores.mul_(block.weight > 0)
    low, high = scores.aminmax(dim=1)
    return torch.maximum(high, -low)


def _scores(block: Block, coefficients: Tensor) -> Tensor:
    scores = coefficients @ block.X.T
    return scores if block.offset is None else scores.add_(block.offset)


def information(blocks: Iterable[Block], coefficients: Tensor) -> Tensor:
    """`sum_i w_i (diag(p_i) - p_i p_i^T) (x) x_i x_i^T`, (L P, L P), class-major, in float64."""
    classes, columns = coefficients.shape
    sums = _ByFeatures(classes, columns) if classes >= _FEATURES else _ByPairs(classes, columns)
    for block in blocks:
        shares, _ = shares_of(block, coefficients)
        sums.add(block, shares)
    return sums.matrix()


class _ByPairs:
    """A weighted `X^T X` for each pair of classes."""

    def __init__(self, classes: int, columns: int) -> None:
        self.sums = torch.zeros(classes, columns, classes, columns, dtype=torch.float64)

    def add(self, block: Block, shares: Tensor) -> None:
        weighted = shares if block.weight is None else shares * block.weight
        for i in range(len(shares)):
            for j in range(i + 1):
                factor = weighted[i] * (1 - shares[i] if i == j else -shares[j])
                self.sums[i, :, j] += (block.X * factor[:, None]).T @ block.X

    def matrix(self) -> Tensor:
        classes, columns = self.sums.shape[:2]
        for i in range(classes):
            for j in range(i):
                self.sums[j, :, i] = self.sums[i, :, j].T
        return self.sums.reshape(classes * columns, classes * columns)


class _ByFeatures:
    """One product of all pairs of classes with all products of two columns: half the work, as it knows both symmetries.

    It pays where pairs are many, as the products of columns are made once for all. Columns go in groups: the products
    of a group with all columns up to its last are one operation.
    """

    def __init__(self, classes: int, columns: int) -> None:
        self.classes, self.columns = classes, columns
        self.pairs = torch.tril_indices(classes, classes)
        ends = [*range(_GROUP, columns, _GROUP), columns]
        self.groups = list(zip([0, *ends[:-1]], ends, strict=True))
        self.features = sum((stop - start) * stop for start, stop in self.groups)
        self.sums = torch.zeros(self.features, len(self.pairs[0]), dtype=torch.float64)
        # So few rows that the products stay in the cache until they are summed; and fewer where pairs are very many.
        self.rows = max(64, min(1024, (1 << 20) // (3 * self.features)))
        self.rows = max(1, min(self.rows, (1 << 24) // len(self.pairs[0])))

    def add(self, block: Block, shares: Tensor) -> None:
        first, second = self.pairs
        weighted = shares if block.weight is None else shares * block.weight
        own = (first == second).to(shares.dtype)[:, None]
        across = block.X.T.contiguous()
        products = across.new_empty(self.features * self.rows)
        total = across.new_zeros(self.sums.shape)
        for start in range(0, across.shape[1], self.rows):
            X = across[:, start : start + self.rows]
            at, rows = 0, X.shape[1]
            for low, high in self.groups:
                size = (high - low) * high * rows
                torch.mul(X[low:high, None], X[None, :high], out=products[at : at + size].view(high - low, high, rows))
                at += size
            # Of these rows alone: of a thousand classes, all pairs of all rows would take tens of gigabytes.
            here = slice(start, start + rows)
            factors = weighted[:, here][first] * (own - shares[:, here][second])
            total.addmm_(products[:at].view(self.features, rows), factors.T)
        self.sums += total

    def matrix(self) -> Tensor:
        square = torch.zeros(len(self.pairs[0]), self.columns, self.columns, dtype=torch.float64)
        at = 0
        for low, high in self.groups:
            part = self.sums[at : at + (high - low) * high].T.reshape(-1, high - low, high)
            square[:, low:high, :high] = part
            square[:, :high, low:high] = part.transpose(1, 2)
            at += (high - low) * high
        whole = torch.zeros(self.classes, self.columns, self.classes, self.columns, dtype=torch.float64)
        for (i, j), values in zip(self.pairs.T.tolist(), square, strict=True):
            whole[i, :, j] = whole[j, :, i] = values
        return whole.reshape(self.classes * self.columns, -1)

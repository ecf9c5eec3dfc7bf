"""The multinomial logit's solver: coefficients of largest likelihood, their information, scores of rows.

Axis legend: N rows, P columns, K classes, L = K - 1 classes beside class 0, the base; coefficients (L, P) against the
base, flat ones (L P) class-major: all columns of class 1, then of class 2, ...
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from softplace.output.logit import _likelihood, problems
from softplace.output.logit._arguments import coefficients as checked_coefficients
from softplace.output.logit._arguments import columns, given, tensor
from softplace.output.logit._elastic import fit_elastic
from softplace.output.logit._fit import Task, fit, null_information
from softplace.output.logit._rows import Moments, Piece, Pieces, blocks_of, frame, moments
from softplace.output.logit._stream import Batches, Stream
from softplace.output.logit.separation import Separation
from softplace.output.logit.separation import find as find_separation

Array = NDArray[np.float64]
_SLIGHT = 1e-6


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """What is subtracted from the log-likelihood: `sum_kj l2 b_kj^2 / 2 + l1 |b_kj|`, of the rows b_k of all K classes.

    The rows are those of `s_k = x . b_k`, none of them 0; with K = 2 there is one row, the difference. Columns in
    `free` (the intercept) do not count.
    """

    l2: float = 0.0
    l1: float = 0.0
    free: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A fitted multinomial logit."""

    coefficients: Array
    """(L, P) against class 0: `ln P(k) / P(0) = x . b_k`; row k - 1 is class k."""
    symmetric: Array | None
    """(K, P), or (1, P) with two classes: the rows that a penalty made; `None` without one. Sums over classes are 0
    where the penalty does not say otherwise."""
    loglikelihood: float
    """Without the penalty, with the weights, in nats."""
    converged: bool
    iterations: int
    """How often the log-likelihood of all rows was computed, with its gradient."""
    gradient_norm: float
    """Largest absolute entry of the gradient (less the penalty's), per unit of weight."""
    information: Array | None
    """Minus the Hessian of the log-likelihood, (L P, L P), class-major; `None` where it was not asked for."""
    separation: Separation | None = None
    """Where classes are told apart by the columns, so that no finite coefficients are best: then `converged` is False,
    and the coefficients are those of a slight penalty, a millionth of the information where columns tell nothing."""

    def spread(self, columns: NDArray[np.intp], width: int) -> "Solution":
        """The same with coefficients of 0 in all columns but these, of so many; without the information."""

        def wider(rows: Array) -> Array:
            found = np.zeros((len(rows), width))
            found[:, columns] = rows
            return found

        symmetric = None if self.symmetric is None else wider(self.symmetric)
        separation = None
        if self.separation is not None:
            separation = self.separation.renumbered(columns, wider(self.separation.direction))
        return replace(
            self,
            coefficients=wider(self.coefficients),
            symmetric=symmetric,
            information=None,
            separation=separation,
        )


def solve(
    X: ArrayLike,
    codes: ArrayLike,
    classes: int,
    *,
    sample_weight: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    penalty: Penalty | None = None,
    information: bool = False,
    tolerance: float = 1e-6,
    max_iterations: int = 100,
) -> Solution:
    """The coefficients of largest likelihood, `max_b sum_i w_i ln P_i(y_i) - penalty`.

    Args:
        X: (N, P), finite; a column of ones is the intercept.
        codes: (N,), integers 0..K-1; class 0 is the base.
        classes: K, at least 2.
        sample_weight: (N,), not negative: row i counts as w_i rows.
        offset: (N, K), added to the scores `0, x . b_1, ...`.
        penalty: What is subtracted; `None`: nothing.
        information: Whether the information matrix is wanted too.
        tolerance: Largest distance to the maximum, in standard errors: `sqrt(g . I^-1 g)`; of weights whose mean is
            below 1 or above a million, in those of weights with that mean.
        max_iterations: After so many passes over all rows it stops, not converged.

    Raises:
        TypeError: X, the codes, the weights or the offset are not numbers.
        ValueError: a cell is missing or infinite, a class has no rows, a weight is negative, all are 0, shapes do not
            fit; `problems.CollinearError` where columns depend on others and no penalty tells them apart.

    Beyond 2 million rows times coefficients, most is computed in float32 with centred, orthogonal columns, and the end
    in float64; this takes half the memory of X (in float64) again.

    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    >>> solve(X, [0, 0, 1, 0, 1, 1], 2).coefficients.round(6).tolist()  # ln 1/2, and ln 2 - ln 1/2
    [[-0.693147, 1.386294]]
    """
    _check_options(tolerance, max_iterations)
    rows = given(X, codes, classes, sample_weight, offset)

    def pieces() -> Iterator[Piece]:
        return blocks_of(rows.X, rows.codes, rows.weight, rows.offset)

    def sample(count: int) -> Piece:
        chosen = np.random.default_rng(0).choice(len(rows.X), count, replace=False, shuffle=False)
        index = torch.from_numpy(np.sort(chosen))
        weight = None if rows.weight is None else rows.weight[index]
        return Piece(rows.X[index], rows.codes[index], weight, None if rows.offset is None else rows.offset[index])

    found = moments(pieces, classes)
    if not bool(found.products.isfinite().all()):
        problems.raise_for_cells(rows.X.numpy())
    return _solved(pieces, sample, True, found, penalty, information, tolerance, max_iterations)


def stream(
    batches: Batches,
    classes: int,
    *,
    penalty: Penalty | None = None,
    information: bool = False,
    tolerance: float = 1e-6,
    max_iterations: int = 100,
) -> Solution:
    """As `solve`, of rows that are not in memory at once.

    Args:
        batches: A function without arguments that gives batches `(X, codes, weight or None)` of rows, the same rows
            each time it is called (or something that can be iterated over again and again, such as a list).
        classes, penalty, information, tolerance, max_iterations: as `solve`.

    Raises:
        As `solve`; TypeError where `batches` is an iterator; ValueError where its rows differ from pass to pass. An L1
            penalty needs all rows in memory.

    A batch, and a sample of the rows (65,536, or 100 for each coefficient where that is more), are in memory at a time.
    There is one pass for the moments, one for each iteration (some 10), and one for the information.
    """
    _check_options(tolerance, max_iterations)
    if penalty is not None and penalty.l1:
        raise ValueError(f"'penalty' of stream must have l1 = 0. Got {penalty.l1:g}. Use solve.")
    if isinstance(classes, bool) or not isinstance(classes, int | np.integer) or classes < 2:
        raise ValueError(f"'classes' must be an integer of 2 or more. Got {classes!r}. A choice needs two outcomes.")
    rows = Stream(batches, int(classes))
    found = moments(rows.first, int(classes))
    return _solved(rows.pieces, rows.sample, False, found, penalty, information, tolerance, max_iterations)


def _solved(
    pieces: Pieces,
    sample: Callable[[int], Piece],
    in_memory: bool,
    found: Moments,
    penalty: Penalty | None,
    information: bool,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    problems.check_classes(found.class_rows.numpy())
    tolerance *= _stretch(found.weight / found.rows)
    chosen = penalty if penalty is not None and (penalty.l1 or penalty.l2) else None
    framed = frame(found, singular=chosen is not None)
    if framed is None:
        raise problems.collinear(found)
    coupling = quadratic = None
    if chosen is not None:
        coupling, free = _coupling(len(found.class_weight)), _free(chosen, len(found.shift))
        quadratic = framed.whole.T @ ((chosen.l2 * ~free)[:, None] * framed.whole)
        if not float(quadratic.abs().max()) < 1e100 * found.weight:
            raise ValueError(
                f"'penalty' must leave the columns a part. Got l2 = {chosen.l2:g}, which is beyond all bounds "
                "beside them. Use a smaller one, or another unit of the columns."
            )
    task = Task(
        pieces=pieces,
        sample=sample,
        in_memory=in_memory,
        found=found,
        frame=framed,
        coupling=coupling,
        quadratic=quadratic,
    )
    if chosen is not None and chosen.l1:
        return _sparse(task, chosen, information, tolerance, max_iterations)
    ended = fit(task, information=information, tolerance=tolerance, evaluations=max_iterations)
    outside = framed.to_columns(ended.coefficients)
    separation = None
    if chosen is None and (ended.runs or ended.certain):
        heading = outside if ended.heading is None else framed.to_columns(ended.heading)
        complete = ended.loglikelihood > -1e-3 * found.weight
        separation = find_separation(pieces, heading, outside, complete=complete, thoroughly=ended.runs)
    if separation is not None:
        slight = replace(
            task,
            coupling=null_information(found),
            quadratic=_SLIGHT * found.weight * torch.eye(len(outside.T)).double(),
        )
        ended = fit(slight, information=information, tolerance=tolerance, evaluations=max_iterations)
        outside = framed.to_columns(ended.coefficients)
    matrix = None if ended.information is None else framed.information(ended.information, len(outside)).numpy()
    return Solution(
        coefficients=outside.numpy(),
        symmetric=None if chosen is None else _symmetric(outside).numpy(),
        loglikelihood=ended.loglikelihood,
        converged=ended.converged and separation is None,
        iterations=ended.evaluations,
        gradient_norm=float((ended.gradient @ framed.back).abs().max()) / found.weight,
        information=matrix,
        separation=separation,
    )


def _stretch(weight: float) -> float:
    """What the tolerance is multiplied by, for the mean weight of a row.

    Standard errors go as the root of the weights. With very small ones every place would be near enough to the maximum,
    and with very large ones none that float64 can tell: weights count as if their mean lay between 1 and a million.
    """
    return float(min(1.0, weight**0.5) * max(1.0, (weight / 1e6) ** 0.5))


def _sparse(task: Task, penalty: Penalty, information: bool, tolerance: float, evaluations: int) -> Solution:
    free = _free(penalty, len(task.found.shift))
    plain = replace(task, coupling=None, quadratic=None)
    ended = fit_elastic(plain, l2=penalty.l2, l1=penalty.l1, free=free, tolerance=tolerance, evaluations=evaluations)
    matrix = None
    if information:
        inside = ended.coefficients @ task.frame.back.T
        matrix = task.frame.information(ended.level.information(inside, True), len(inside)).numpy()
    return Solution(
        coefficients=ended.coefficients.numpy(),
        symmetric=ended.rows.numpy(),
        loglikelihood=min(ended.loglikelihood, 0.0),
        converged=ended.converged,
        iterations=ended.evaluations,
        gradient_norm=ended.slope / task.found.weight,
        information=matrix,
    )


def _coupling(classes: int) -> Tensor:
    """Of the sum of squares of the rows less their mean, in coefficients against the base; two classes have one row."""
    if classes == 2:
        return torch.ones(1, 1, dtype=torch.float64)
    return torch.eye(classes - 1, dtype=torch.float64) - 1.0 / classes


def _symmetric(outside: Tensor) -> Tensor:
    if len(outside) == 1:
        return outside
    rows = torch.cat([torch.zeros_like(outside[:1]), outside])
    return rows - rows.mean(0)


def _free(penalty: Penalty, columns: int) -> Tensor:
    for name, strength in (("l2", penalty.l2), ("l1", penalty.l1)):
        if not 0 <= strength < np.inf:
            raise ValueError(f"'{name}' of Penalty must be finite and not negative. Got {strength}. Use 0 for none.")
    free = torch.zeros(columns, dtype=torch.bool)
    for column in penalty.free:
        if not 0 <= column < columns:
            raise ValueError(
                f"'free' of Penalty must be columns from 0 to {columns - 1}. Got {column}. Name those of X."
            )
        free[column] = True
    return free


def _check_options(tolerance: float, max_iterations: int) -> None:
    if not isinstance(tolerance, float | int) or not tolerance > 0:
        raise ValueError(f"'tolerance' must be a positive number. Got {tolerance!r}. Use e.g. 1e-6.")
    if not isinstance(max_iterations, int | np.integer) or max_iterations < 1:
        raise ValueError(f"'max_iterations' must be a positive integer. Got {max_iterations!r}. Use e.g. 100.")


def information(
    X: ArrayLike,
    coefficients: ArrayLike,
    sample_weight: ArrayLike | None = None,
    offset: ArrayLike | None = None,
) -> Array:
    """Minus the Hessian of the log-likelihood, `sum_i w_i (diag(p_i) - p_i p_i^T) (x) x_i x_i^T`, in float64.

    Args:
        X, sample_weight, offset: as `solve`.
        coefficients: (L, P).

    Returns:
        (L P, L P), class-major.
    """
    rows, b = _evaluated(X, coefficients, sample_weight, offset)
    return _likelihood.information((piece.block(piece.X.double()) for piece in rows), b).numpy()


def probabilities(X: ArrayLike, coefficients: ArrayLike, offset: ArrayLike | None = None) -> Array:
    """`P_i(k) = exp(s_ik) / sum_j exp(s_ij)`, `s_i0 = 0` and `s_ik = x_i . b_k`, in float64: (N, K).

    >>> import numpy as np
    >>> probabilities(np.array([[1.0]]), np.log([[2.0], [5.0]])).round(6).tolist()
    [[0.125, 0.25, 0.625]]
    """
    rows, b = _evaluated(X, coefficients, None, offset)
    found = []
    for piece in rows:
        block = piece.block(piece.X.double())
        shares, logarithms = _likelihood.shares_of(block, b)
        found.append(torch.cat([torch.exp(-logarithms)[None], shares]).T)
    return torch.cat(found).numpy()


def scores(
    X: ArrayLike,
    codes: ArrayLike,
    coefficients: ArrayLike,
    sample_weight: ArrayLike | None = None,
    offset: ArrayLike | None = None,
) -> Array:
    """Each row's gradient of its log-likelihood, `w_i (y_i - p_i) (x) x_i`.

    Args:
        X, codes, sample_weight, offset: as `solve`.
        coefficients: (L, P).

    Returns:
        (N, L P), class-major. `score_products` sums their products without keeping them.
    """
    rows, b = _evaluated(X, coefficients, sample_weight, offset, codes)
    return torch.cat([_scores(piece, b) for piece in rows]).numpy()


def score_products(
    X: ArrayLike,
    codes: ArrayLike,
    coefficients: ArrayLike,
    sample_weight: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> Array:
    """The filling of the sandwich, `sum_g s_g s_g^T`, s_g the sum of the scores of group g's rows.

    Args:
        X, codes, sample_weight, offset: as `solve`. The scores hold the weights, so the products their squares: rows
            that stand for w_i equal ones need `sqrt(w_i)` here.
        coefficients: (L, P).
        groups: (N,), the group of each row, integers 0..G-1; `None`: each row is a group of its own.

    Returns:
        (L P, L P), class-major. A block of rows is in memory at a time, and with groups one sum for each.
    """
    rows, b = _evaluated(X, coefficients, sample_weight, offset, codes)
    if groups is None:
        total = torch.zeros(b.numel(), b.numel(), dtype=torch.float64)
        for piece in rows:
            some = _scores(piece, b)
            total += some.T @ some
        return total.numpy()
    labels = _groups(groups, sum(len(piece.X) for piece in rows))
    sums = torch.zeros(int(labels.max()) + 1, b.numel(), dtype=torch.float64)
    start = 0
    for piece in rows:
        stop = start + len(piece.X)
        sums.index_add_(0, labels[start:stop], _scores(piece, b))
        start = stop
    return (sums.T @ sums).numpy()


def _groups(groups: ArrayLike, rows: int) -> Tensor:
    labels = np.asarray(groups)
    if labels.dtype.kind not in "iu" or labels.shape != (rows,) or labels.min() < 0:
        raise ValueError(
            f"'groups' must be integers from 0 on, one per row, of shape ({rows},). Got {labels.dtype} of shape "
            f"{labels.shape}. Use numpy.unique(groups, return_inverse=True)."
        )
    return tensor(labels.astype(np.int64))


def _scores(piece: Piece, b: Tensor) -> Tensor:
    block = piece.block(piece.X.double())
    residual = -_likelihood.shares_of(block, b)[0]
    own = piece.codes > 0
    residual[piece.codes[own] - 1, own.nonzero().flatten()] += 1
    if block.weight is not None:
        residual *= block.weight
    return (residual.T[:, :, None] * block.X[:, None]).flatten(1)


def _evaluated(
    X: ArrayLike,
    coefficients: ArrayLike,
    sample_weight: ArrayLike | None,
    offset: ArrayLike | None,
    codes: ArrayLike | None = None,
) -> tuple[list[Piece], Tensor]:
    table = columns(X)
    b = checked_coefficients(coefficients, table.shape[1])
    known = np.zeros(len(table), dtype=np.int64) if codes is None else codes
    rows = given(table, known, len(b) + 1, sample_weight, offset)
    return list(blocks_of(rows.X, rows.codes, rows.weight, rows.offset)), b

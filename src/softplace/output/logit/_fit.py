"""A multinomial logit from nothing to its maximum: a pass for the moments, samples of the rows, all rows.

Axis legend: N rows, P columns, K classes, L = K - 1 classes beside the base.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from softplace.output.logit._ascent import DENSE_LIMIT, Climb, Dense, Null, climb, information_metric
from softplace.output.logit._likelihood import BLOCK, Block
from softplace.output.logit._rows import Frame, Level, Moments, Piece, Pieces, blocks_of

_SAMPLE = 25
"""Rows per coefficient of the smallest sample."""
_SMALL = 2_000_000
"""Rows times coefficients up to which everything is in float64."""
_PRIOR = 1e-3
"""Share of the null information that keeps the coefficients of a sample finite."""
_MOVED, _CERTAIN = 0.1, 30.0
_FAST_TOLERANCE = 1e-4
"""Standard errors to which one climbs in float32."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be fitted."""

    pieces: Pieces
    sample: Callable[[int], Piece]
    """So many rows at random."""
    in_memory: bool
    found: Moments
    frame: Frame
    coupling: Tensor | None
    """The penalty `coupling (x) quadratic`, of classes (L, L) and of columns inside (P, P); `None`: none."""
    quadratic: Tensor | None

    @property
    def size(self) -> int:
        """How many coefficients."""
        return (len(self.found.class_weight) - 1) * len(self.found.shift)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Where it ended, in the columns inside."""

    coefficients: Tensor
    loglikelihood: float
    gradient: Tensor
    converged: bool
    evaluations: int
    information: Tensor | None
    level: Level
    runs: bool
    """Whether it did not end, or the last step moved a row's score: coefficients may grow without end."""
    certain: bool
    """Whether a row's score is so large that its class is sure."""
    heading: Tensor | None
    """The last step."""


def fit(task: Task, *, information: bool, tolerance: float, evaluations: int) -> Fit:
    """Climb on samples of the rows, each from where the smaller one ended, then on all."""
    rows = task.found.rows
    top = whole_level(task)
    small = rows * task.size <= _SMALL
    state = _start(task, rows)
    if top.narrow is not None:
        fast = max(tolerance, _FAST_TOLERANCE)
        climb(top, state, tolerance=fast, precise=False, evaluations=evaluations - 1, renewing=True)
    matrix = None
    if information and state.distance <= 10 * _FAST_TOLERANCE and task.size <= DENSE_LIMIT:
        # So near the top it is the information already, and the best metric of the last steps.
        matrix = top.information(state.at, False)
        state.renew(Dense(matrix if top.penalty is None else matrix + top.penalty))
    climb(top, state, tolerance=tolerance, precise=True, evaluations=evaluations, renewing=True)
    if information and matrix is None:
        matrix = top.information(state.at, small)
    size, moved = top.largest(state.at, torch.zeros_like(state.at) if state.last is None else state.last)
    value = state.value
    if top.penalty is not None:
        flat = state.at.flatten()
        value += 0.5 * float(flat @ (top.penalty @ flat))
    return Fit(
        coefficients=state.at,
        loglikelihood=min(value, 0.0),
        gradient=state.gradient,
        converged=state.reached,
        evaluations=top.evaluations,
        information=matrix,
        level=top,
        runs=not state.reached or moved > _MOVED,
        certain=size > _CERTAIN,
        heading=state.last,
    )


def whole_level(task: Task) -> Level:
    """All rows, in float32 too where they are many and in memory."""
    narrow = None
    if task.in_memory and task.found.rows * task.size > _SMALL:
        narrow = [piece.block(task.frame.narrow(piece.X)) for piece in task.pieces()]
    return Level(
        task.pieces,
        task.frame,
        sums=task.found.class_sums[1:] @ task.frame.mix,
        weight=task.found.weight,
        offset=task.found.offset,
        narrow=narrow,
        penalty=_penalty(task),
    )


def _penalty(task: Task) -> Tensor | None:
    if task.coupling is None or task.quadratic is None:
        return None
    return torch.kron(task.coupling, task.quadratic)


def _start(task: Task, rows: int) -> Climb:
    """Where so many rows begin: at the maximum of a sample, or where columns tell nothing. The metric is of all."""
    found = task.found
    floor = max(2000, _SAMPLE * task.size)
    if rows > 4 * floor and task.size <= DENSE_LIMIT:
        return _climb_sample(task, max(floor, rows // 16))
    at = torch.zeros(len(found.class_weight) - 1, len(found.shift), dtype=torch.float64)
    if found.constant is not None:
        column, value = found.constant
        shares = torch.log(found.class_weight[1:] / found.class_weight[0])
        at += torch.outer(shares / value, task.frame.back[:, column])
    return Climb(at, Null(null_information(found), found.weight, task.coupling, task.quadratic))


def _climb_sample(task: Task, rows: int) -> Climb:
    """To the maximum of so many rows, roughly; the information there, for as many rows as there are."""
    state = _start(task, rows)
    level = _sample_level(task, rows)
    share = level.weight / task.found.weight
    state.metric = state.metric.scaled(share)
    enough = 0.1 * task.size**0.5
    climb(level, state, tolerance=10 * enough, precise=False, evaluations=60, renewing=False)
    metric = information_metric(level, state.at, False)
    state.renew(metric)
    climb(level, state, tolerance=enough, precise=False, evaluations=90, renewing=False)
    return Climb(state.at, metric.scaled(1 / share))


def null_information(found: Moments) -> Tensor:
    """Of a row, among classes, where columns tell nothing: `diag(q) - q q^T`, q their shares."""
    shares = found.class_weight[1:] / found.weight
    return torch.diag(shares) - torch.outer(shares, shares)


def _sample_level(task: Task, rows: int) -> Level:
    """Rows at random, with a little of the null information as a prior: they may tell classes apart that all do not."""
    piece = task.sample(rows)
    rows = len(piece.X)
    narrow = piece.block(task.frame.narrow(piece.X))
    weight = float(rows if piece.weight is None else piece.weight.sum())
    classes = len(task.found.class_weight)
    weighted = narrow.X if narrow.weight is None else narrow.X * narrow.weight[:, None]
    sums = torch.zeros(classes, narrow.X.shape[1]).index_add_(0, piece.codes, weighted)[1:].double()
    offset = 0.0
    if piece.offset is not None:
        base = piece.offset.gather(1, piece.codes[:, None])[:, 0] - piece.offset[:, 0]
        offset = float(base.sum() if piece.weight is None else base @ piece.weight)
    penalty = torch.kron(
        null_information(task.found), _PRIOR * weight * torch.eye(narrow.X.shape[1], dtype=torch.float64)
    )
    if (own := _penalty(task)) is not None:
        penalty += own * (weight / task.found.weight)
    return Level(
        lambda: blocks_of(piece.X, piece.codes, piece.weight, piece.offset),
        task.frame,
        sums=sums,
        weight=weight,
        offset=offset,
        narrow=[_part(narrow, start) for start in range(0, rows, BLOCK)],
        penalty=penalty,
    )


def _part(block: Block, start: int) -> Block:
    rows = slice(start, start + BLOCK)
    weight = None if block.weight is None else block.weight[rows]
    return Block(block.X[rows], weight, None if block.offset is None else block.offset[:, rows])

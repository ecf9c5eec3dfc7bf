"""Conditional logit: the likelihood of choosers among alternatives that have columns of their own.

Axis legend: N choosers, R rows (an alternative that a chooser may choose), Q parameters, J alternatives.
Rows of a chooser lie beside each other; choosers may have different alternatives.
`P_i(j) = exp(z_ij . b) / sum_k exp(z_ik . b)`, over the alternatives k that chooser i has.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from softplace.output.logit.inference import Array, inverse

Codes = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, eq=False)
class Choices:
    """Rows of choosers.

    Args:
        Z: (R, Q).
        starts: (N,), the first row of each chooser, rising from 0.
        chosen: (N,), the row that each chose.
        weight: (N,) or `None`.
    """

    Z: Array
    starts: Codes
    chosen: Codes
    weight: Array | None = None

    @property
    def sizes(self) -> Codes:
        """(N,), how many alternatives each has."""
        return np.diff(np.append(self.starts, len(self.Z)))

    def sums(self, rows: Array) -> Array:
        """Sums over the rows of each chooser."""
        return np.asarray(np.add.reduceat(rows, self.starts, axis=0))

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """A chooser's value for each of its rows."""
        return np.repeat(values, self.sizes, axis=0)

    def probabilities(self, b: Array) -> Array:
        """(R,), P_i(j)."""
        scores = self.Z @ b
        scores -= self.spread(np.maximum.reduceat(scores, self.starts))
        shares = np.exp(scores)
        return np.asarray(shares / self.spread(self.sums(shares)))

    def loglikelihood(self, b: Array) -> float:
        """`sum_i w_i ln P_i(chosen)`."""
        scores = self.Z @ b
        top = np.maximum.reduceat(scores, self.starts)
        logs = scores[self.chosen] - top - np.log(self.sums(np.exp(scores - self.spread(top))))
        return float(logs.sum() if self.weight is None else self.weight @ logs)

    def scores(self, b: Array) -> Array:
        """(N, Q), each chooser's gradient, `z_chosen - sum_j P_j z_j`, without the weights."""
        return self.Z[self.chosen] - self.sums(self.probabilities(b)[:, None] * self.Z)

    def information(self, b: Array) -> Array:
        """(Q, Q), minus the Hessian: `sum_i w_i sum_j P_j (z_j - z) (z_j - z)^T`, z the mean by P."""
        p = self.probabilities(b)
        centred = self.Z - self.spread(self.sums(p[:, None] * self.Z))
        share = p if self.weight is None else p * self.spread(self.weight)
        return np.asarray((centred * share[:, None]).T @ centred)

    def within(self) -> Array:
        """(R, Q), Z less each chooser's mean: what a likelihood sees of it."""
        return np.asarray(self.Z - self.spread(self.sums(self.Z) / self.sizes[:, None]))

    def take(self, columns: Codes) -> "Choices":
        """Some columns alone."""
        return replace(self, Z=np.ascontiguousarray(self.Z[:, columns]))

    def without(self, rows: NDArray[np.bool_]) -> "Choices":
        """Without some alternatives (R,), and without the choosers who chose one of them."""
        stays = ~rows[self.chosen]
        kept = self.spread(stays) & ~rows
        owner = np.repeat(np.arange(len(self.starts)), self.sizes)[kept]
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        place = np.cumsum(kept) - 1
        return Choices(
            Z=self.Z[kept],
            starts=starts,
            chosen=place[self.chosen[stays]],
            weight=None if self.weight is None else self.weight[stays],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Maximum:
    """Where a likelihood is largest.

    Args:
        values: (Q,).
        loglikelihood: There.
        information: (Q, Q).
        converged: Whether it was reached.
        iterations: Of Newton's method.
    """

    values: Array
    loglikelihood: float
    information: Array
    converged: bool
    iterations: int


def maximise(data: Choices, start: Array | None = None, *, steps: int = 50, close: float = 1e-16) -> Maximum:
    """Newton's method with halved steps; the log-likelihood is concave.

    Args:
        data: The choosers.
        start: (Q,); zeros when not given.
        steps: After so many it stops, not converged.
        close: The square of the distance to the maximum, in standard errors, at which it ends.
    """
    b = np.zeros(data.Z.shape[1]) if start is None else start
    value = data.loglikelihood(b)
    for step in range(steps + 1):
        gradient = data.scores(b)
        gradient = gradient.sum(0) if data.weight is None else data.weight @ gradient
        information = data.information(b)
        scale = np.sqrt(np.diag(information))
        scale[~(scale > 0)] = 1.0
        solved = np.linalg.lstsq(information / np.outer(scale, scale), gradient / scale, rcond=None)[0] / scale
        decrement = float(solved @ gradient)
        if decrement <= close * max(1.0, abs(value)) or step == steps:
            break
        size = 1.0
        while size > 1e-6 and not (new := data.loglikelihood(b + size * solved)) >= value:
            size /= 2
        if size <= 1e-6:  # no higher value that float64 can tell
            break
        b, value = b + size * solved, new
    return Maximum(
        values=b,
        loglikelihood=value,
        information=information,
        converged=bool(decrement <= 1e-8),
        iterations=step,
    )


def sandwich(data: Choices, found: Maximum, weights_are: str, groups: Codes | None = None) -> Array:
    """`I^-1 F I^-1`, F the sum of the products of the scores of choosers, or of their sums within groups."""
    bread, scores = inverse(found.information), data.scores(found.values)
    if groups is not None:
        scores = scores if data.weight is None else scores * data.weight[:, None]
        sums = np.zeros((int(groups.max()) + 1, scores.shape[1]))
        np.add.at(sums, groups, scores)
        scores = sums
    elif data.weight is not None:
        scores = scores * (np.sqrt(data.weight) if weights_are == "counts" else data.weight)[:, None]
    return np.asarray(bread @ (scores.T @ scores) @ bread)


def independent_columns(data: Choices) -> tuple[Codes, Array]:
    """Columns that determine all as far as a likelihood sees them, and how: `Z ~ Z[:, kept] A` within choosers.

    Returns:
        Places of the kept columns, in order, and A, (kept, Q).
    """
    within = data.within()
    norms = np.sqrt((within**2).sum(0))
    scaled = within / np.where(norms > 0, norms, 1.0)
    (root,) = qr(scaled, mode="r", check_finite=False)
    _, root, _places = qr(root[: scaled.shape[1]], mode="economic", pivoting=True, check_finite=False)
    sizes = np.abs(np.diag(root))
    rank = int((sizes > 1e-9).sum())
    # Columns are kept from the first on, so that a later one is named as that which others determine.
    kept: list[int] = []
    for at in range(scaled.shape[1]):
        if len(kept) == rank:
            break
        trial = scaled[:, [*kept, at]]
        gram = trial.T @ trial
        if float(np.linalg.eigvalsh(gram)[0]) > 1e-12:
            kept.append(at)
    chosen = np.array(kept, dtype=np.intp)
    return chosen, np.asarray(np.linalg.lstsq(within[:, chosen], within, rcond=None)[0])

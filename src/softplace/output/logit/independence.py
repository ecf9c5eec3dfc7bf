"""Independence of irrelevant alternatives: do the coefficients stay when a class is left out?

Axis legend: N rows, P columns, K classes; coefficients (K-1, P), flat ones class-major.
In a multinomial logit the odds of two classes do not depend on the others, so a fit to the rows of the remaining
classes estimates the same coefficients.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from softplace.output.logit import solver
from softplace.output.logit.comparison import Test
from softplace.output.logit.inference import Array, inverse, reference_map


def hausman(difference: Array, spread: Array, hypothesis: str) -> Test:
    """Hausman's test of estimates, `d^T (V_efficient_less)^- d`.

    Args:
        difference: d, (Q,), those of the smaller choice set less those of all.
        spread: The covariance of the smaller set's less that of all, (Q, Q). In finite samples it need not be positive
            definite; the statistic may then be negative, which is said, and no p is given.
        hypothesis: In words.

    Source: Hausman and McFadden 1984, Econometrica 52, eq. 1.5; the degrees are the rank of the spread.
    """
    scale = np.sqrt(np.abs(np.diag(spread)))
    scale[scale == 0.0] = 1.0
    roots, vectors = np.linalg.eigh(spread / np.outer(scale, scale))
    used = np.abs(roots) > 1e-10 * np.abs(roots).max()
    along = vectors[:, used].T @ (difference / scale)
    statistic, degrees = float(np.sum(along**2 / roots[used])), int(used.sum())
    if statistic < 0.0:
        note = "negative, as the difference of the covariances is not positive definite: it says nothing"
        return Test(
            name="Hausman-McFadden", hypothesis=hypothesis, statistic=statistic, degrees=degrees, p=None, note=note
        )
    note = "" if np.all(roots[used] > 0) else "the difference of the covariances is not positive definite"
    p = float(stats.chi2.sf(statistic, degrees))
    return Test(name="Hausman-McFadden", hypothesis=hypothesis, statistic=statistic, degrees=degrees, p=p, note=note)


def hausman_mcfadden(
    X: Array,
    codes: NDArray[np.integer],
    coefficients: Array,
    classes: tuple[str, ...],
    weight: Array | None = None,
) -> list[Test]:
    """Leave each class out in turn: Hausman and McFadden's test, and its generalised form.

    The generalised form takes the covariance of the difference from the scores of both fits (a sandwich), which is
    positive semi-definite, so that its statistic is never negative (as Stata's `suest` and `mlogtest`).

    Args:
        X: (N, P).
        codes: (N,).
        coefficients: (K-1, P) against class 0, where the likelihood is largest.
        classes: Names.
        weight: (N,), counts of rows.

    Returns:
        Two tests for each class; none for two classes, whose odds there are no others to depend on.
    """
    k = len(classes)
    if k < 3:
        return []
    columns = X.shape[1]
    bread = inverse(solver.information(X, coefficients, weight))
    scores = solver.scores(X, codes, coefficients)
    found = []
    for out in range(k):
        base = 1 if out == 0 else 0
        kept = [each for each in range(k) if each not in (out, base)]
        rows = np.flatnonzero(codes != out)
        place = np.full(k, -1)
        place[[base, *kept]] = np.arange(k - 1)
        some = None if weight is None else weight[rows]
        fit = solver.solve(X[rows], place[codes[rows]], k - 1, sample_weight=some, information=True, tolerance=1e-8)
        own = fit.information if fit.information is not None else solver.information(X[rows], fit.coefficients, some)
        own = inverse(own)
        # The full fit's coefficients against `base`, of the classes that are kept.
        against = reference_map(k, columns, base)
        others = [each for each in range(k) if each != base]
        picked = np.concatenate([np.arange(columns) + others.index(each) * columns for each in kept])
        full = (against @ coefficients.ravel())[picked]
        spread = (against @ bread @ against.T)[np.ix_(picked, picked)]
        difference = fit.coefficients.ravel() - full
        hypothesis = f"odds do not depend on {classes[out]}"
        found.append(hausman(difference, own - spread, hypothesis))
        influence = -(scores @ (against @ bread).T)[:, picked]
        influence[rows] += solver.scores(X[rows], place[codes[rows]], fit.coefficients) @ own
        product = influence if weight is None else influence * weight[:, None]
        found.append(_generalised(difference, influence.T @ product, hypothesis))
    return found


def _generalised(difference: Array, spread: Array, hypothesis: str) -> Test:
    scale = np.sqrt(np.diag(spread))
    scale[scale == 0.0] = 1.0
    roots, vectors = np.linalg.eigh(spread / np.outer(scale, scale))
    used = roots > 1e-10 * roots.max()
    statistic, degrees = float(np.sum((vectors[:, used].T @ (difference / scale)) ** 2 / roots[used])), int(used.sum())
    return Test(
        name="generalised Hausman",
        hypothesis=hypothesis,
        statistic=statistic,
        degrees=degrees,
        p=float(stats.chi2.sf(statistic, degrees)),
    )


def small_hsiao(
    X: Array,
    codes: NDArray[np.integer],
    classes: tuple[str, ...],
    *,
    seed: int = 0,
    weight: Array | None = None,
) -> list[Test]:
    """Leave each class out in turn: Small and Hsiao's test by two halves of the rows, drawn at random.

    With b_A and b_B the coefficients of the halves, `b_AB = b_A / sqrt(2) + (1 - 1 / sqrt(2)) b_B`; on the rows of B
    that did not choose the class, with l_B their log-likelihood among the remaining classes and b_r where it is
    largest, the statistic is `2 (l_B(b_r) - l_B(b_AB))`, with as many degrees as b_r has numbers.

    It depends on how the rows are halved: look at several seeds.

    Args:
        X: (N, P).
        codes: (N,).
        classes: Names.
        seed: Of the halves.
        weight: (N,), counts of rows.

    Returns:
        A test for each class; its p is `None` where a half has no rows of a class.

    Source: Small and Hsiao 1985, International Economic Review 26; in the form of Zhang and Hoffman 1993.
    """
    k, rows = len(classes), len(X)
    if k < 3:
        return []
    order = np.random.default_rng(seed).permutation(rows)
    first, second = order[: rows // 2], order[rows // 2 :]
    halves = []
    for half in (first, second):
        if len(np.unique(codes[half])) < k or len(half) <= X.shape[1]:
            return [_untold(f"odds do not depend on {name}") for name in classes]
        some = None if weight is None else weight[half]
        halves.append(solver.solve(X[half], codes[half], k, sample_weight=some).coefficients)
    mixed = halves[0] / math.sqrt(2.0) + (1.0 - 1.0 / math.sqrt(2.0)) * halves[1]
    full = np.vstack([np.zeros(X.shape[1]), mixed])
    found = []
    for out, name in enumerate(classes):
        part = second[codes[second] != out]
        kept = [each for each in range(k) if each != out]
        place = np.full(k, -1)
        place[kept] = np.arange(k - 1)
        own, some = place[codes[part]], None if weight is None else weight[part]
        fit = solver.solve(X[part], own, k - 1, sample_weight=some, tolerance=1e-8)
        start = full[kept[1:]] - full[kept[0]]
        rows_weight = np.ones(len(part)) if some is None else some
        at_mixed = float(rows_weight @ np.log(solver.probabilities(X[part], start)[np.arange(len(part)), own]))
        statistic, degrees = max(2.0 * (fit.loglikelihood - at_mixed), 0.0), fit.coefficients.size
        found.append(
            Test(
                name="Small-Hsiao",
                hypothesis=f"odds do not depend on {name}",
                statistic=statistic,
                degrees=degrees,
                p=float(stats.chi2.sf(statistic, degrees)),
            )
        )
    return found


def _untold(hypothesis: str) -> Test:
    note = "A half of the rows has none of a class, or too few rows: nothing can be told."
    return Test(name="Small-Hsiao", hypothesis=hypothesis, statistic=math.nan, degrees=0, p=None, note=note)

"""Independence of irrelevant alternatives: do the coefficients stay when a class is left out?

Axis legend: N rows, P columns, K classes; coefficients (K-1, P), flat ones class-major.
In a multinomial logit the odds of two classes do not depend on the others, so a fit to the rows of the remaining
classes estimates the same coefficients.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from softplace.output.logit import _dense, solver
from softplace.output.logit._maximum import TOLERANCE
from softplace.output.logit.comparison import Test
from softplace.output.logit.inference import Array, inverse, reference_map

_BLOCK = 1 << 16


def hausman(difference: Array, spread: Array, hypothesis: str) -> Test:
    """Hausman's test of two estimates of the same parameters, `d^T V^- d`.

    Args:
        difference: d, (Q,), those of the smaller choice set less those of all.
        spread: V, the covariance of the smaller set's estimates less that of all, (Q, Q). In finite samples it need not
            be positive definite; the statistic may then be negative, which is said, and no p is given.
        hypothesis: In words.

    Source: Hausman and McFadden 1984, Econometrica 52, 1219-1240; the degrees are the rank of the spread.
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
    p = float(stats.chi2.sf(statistic, degrees)) if degrees else None
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
    columns, counts = X.shape[1], np.ones(len(X)) if weight is None else weight
    bread = inverse(_dense.information(X, _dense.shares(X, coefficients), counts))
    found = []
    for out in range(k):
        hypothesis = f"odds do not depend on {classes[out]}"
        base = 1 if out == 0 else 0
        kept = [each for each in range(k) if each not in (out, base)]
        rows = np.flatnonzero(codes != out)
        place = np.full(k, -1)
        place[[base, *kept]] = np.arange(k - 1)
        fit = _fit(X[rows], place[codes[rows]], k - 1, counts[rows])
        if isinstance(fit, str):
            found += [_untold(name, hypothesis, fit) for name in ("Hausman-McFadden", "generalised Hausman")]
            continue
        own = inverse(_dense.information(X[rows], _dense.shares(X[rows], fit.coefficients), counts[rows]))
        # The full fit's coefficients against `base`, of the classes that are kept.
        against = reference_map(k, columns, base)
        others = [each for each in range(k) if each != base]
        picked = np.concatenate([np.arange(columns) + others.index(each) * columns for each in kept])
        full = (against @ coefficients.ravel())[picked]
        spread = (against @ bread @ against.T)[np.ix_(picked, picked)]
        difference = fit.coefficients.ravel() - full
        found.append(hausman(difference, own - spread, hypothesis))
        whole = np.zeros_like(own)
        for start in range(0, len(X), _BLOCK):
            part = slice(start, start + _BLOCK)
            influence = -(_scores(X[part], codes[part], coefficients) @ (against @ bread).T)[:, picked]
            stays = codes[part] != out
            influence[stays] += _scores(X[part][stays], place[codes[part][stays]], fit.coefficients) @ own
            whole += (influence.T * counts[part]) @ influence
        found.append(_generalised(difference, whole, hypothesis))
    return found


def _scores(X: Array, codes: NDArray[np.integer], coefficients: Array) -> Array:
    """(N, (K-1)P), each row's gradient without its weight."""
    residual = -_dense.shares(X, coefficients).T
    residual[np.arange(len(X)), codes] += 1.0
    return np.asarray((residual[:, 1:, None] * X[:, None, :]).reshape(len(X), -1))


def _fit(X: Array, codes: NDArray[np.integer], classes: int, weight: Array) -> solver.Solution | str:
    """The maximum of some of the rows, or why there is none."""
    try:
        found = solver.solve(X, codes, classes, sample_weight=weight, tolerance=TOLERANCE)
    except ValueError:
        return "the rows that are left do not tell the columns apart: nothing can be told"
    if found.separation is not None or not found.converged:
        return "columns separate the classes in the rows that are left: nothing can be told"
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
    counts = np.ones(rows) if weight is None else weight
    halves = []
    for half in (first, second):
        if len(np.unique(codes[half][counts[half] > 0])) < k:
            note = "a half of the rows lacks a class: nothing can be told"
            return [_untold("Small-Hsiao", f"odds do not depend on {name}", note) for name in classes]
        fit = _fit(X[half], codes[half], k, counts[half])
        if isinstance(fit, str):
            return [_untold("Small-Hsiao", f"odds do not depend on {name}", fit) for name in classes]
        halves.append(fit.coefficients)
    mixed = halves[0] / math.sqrt(2.0) + (1.0 - 1.0 / math.sqrt(2.0)) * halves[1]
    full = np.vstack([np.zeros(X.shape[1]), mixed])
    found = []
    for out, name in enumerate(classes):
        hypothesis = f"odds do not depend on {name}"
        part = second[codes[second] != out]
        kept = [each for each in range(k) if each != out]
        place = np.full(k, -1)
        place[kept] = np.arange(k - 1)
        own = place[codes[part]]
        fit = _fit(X[part], own, k - 1, counts[part])
        if isinstance(fit, str):
            found.append(_untold("Small-Hsiao", hypothesis, fit))
            continue
        start = full[kept[1:]] - full[kept[0]]
        at_mixed = _dense.loglikelihood(_dense.shares(X[part], start), own, counts[part])
        statistic, degrees = max(2.0 * (fit.loglikelihood - at_mixed), 0.0), fit.coefficients.size
        p = float(stats.chi2.sf(statistic, degrees))
        found.append(Test(name="Small-Hsiao", hypothesis=hypothesis, statistic=statistic, degrees=degrees, p=p))
    return found


def _untold(name: str, hypothesis: str, note: str) -> Test:
    return Test(name=name, hypothesis=hypothesis, statistic=math.nan, degrees=0, p=None, note=note)

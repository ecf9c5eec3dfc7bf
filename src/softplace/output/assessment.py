"""How well a classifier is calibrated before and after a calibrator, measured on rows that it was not fitted on.

Axis legend: N rows, C classes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from softplace import probes
from softplace.errors import InputError, nearest
from softplace.output._bootstrap import LEVEL, Measure, measures
from softplace.output.calibration import Calibrator, fit_dirichlet, fit_matrix, fit_temperature, fit_vector
from softplace.output.conformal import fit_sets
from softplace.output.isotonic import choose_penalty, fit_isotonic, parts_of
from softplace.randomness import generator

FITS: Mapping[str, Callable[..., Calibrator]] = {
    "temperature": fit_temperature,
    "vector": fit_vector,
    "matrix": fit_matrix,
    "dirichlet": fit_dirichlet,
    "isotonic": fit_isotonic,
}
FOLDS = 5
_FITTED = 3  # parts that a calibrator is fitted on
BINS = 15
SETS = ("lac", "aps", "raps")


@dataclass(frozen=True, kw_only=True)
class SetsFound:
    """Prediction sets by one score.

    Args:
        coverage: Share of rows with their label in the set, with Wilson's interval.
        size: Mean number of classes in a set.
        single: Share of sets of one class.
        worst: The least coverage of a class, and which class.
    """

    score: str
    coverage: float
    interval: tuple[float, float]
    size: float
    single: float
    worst: float
    worst_class: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Assessment:
    """What `softplace calibrate` found.

    Args:
        fit: Name of the calibrator.
        calibrator: Fitted on all rows: the one to use.
        penalty: Of matrix and Dirichlet scaling.
        measures: On rows left out.
        tests: The calibration test before and after.
        diagrams: The reliability diagrams before and after.
        sets: Prediction sets of calibrated probabilities; empty where there are too few rows.
        alpha: Of the sets.
        notes: What a reader must know.
        rows, classes: N, C.
        bins: Of diagrams and calibration error.
        seed: Of the parts and all draws.
    """

    fit: str
    calibrator: Calibrator
    penalty: float | None
    measures: tuple[Measure, ...]
    tests: tuple[probes.CalibrationTest, probes.CalibrationTest]
    diagrams: tuple[probes.ReliabilityDiagram, probes.ReliabilityDiagram]
    sets: tuple[SetsFound, ...]
    alpha: float
    notes: tuple[str, ...]
    rows: int
    classes: int
    bins: int
    seed: int


def assess(
    logits: Tensor,
    labels: Tensor,
    *,
    fit: str = "temperature",
    alpha: float = 0.1,
    bins: int = BINS,
    penalty: float | None = None,
    seed: int = 0,
) -> Assessment:
    """Measure calibration before and after a calibrator, and prediction sets, by cross-fitting.

    The rows are cut into 5 parts with every class spread evenly. Each part is measured with a calibrator that was
    fitted on three others; the threshold of its sets is from the fifth. So no row is measured by what was fitted on it.

    Args:
        logits: (N, C); labels: (N), integer.
        fit: "temperature", "vector", "matrix", "dirichlet" or "isotonic".
        alpha: The share of labels that may be outside of the sets.
        bins: Of the diagrams (equal width) and the calibration error.
        penalty: Of "matrix" and "dirichlet", for off-diagonal and intercept; chosen by cross-validation within the rows
            that are fitted on when not given.
        seed: Of the parts and all draws.

    Raises:
        InputError: An option is unknown, a penalty for what has none, fewer than 25 rows, or what the calibrator cannot
            be fitted on.
    """
    if fit not in FITS:
        raise InputError(f"Unknown calibrator {fit!r}. {nearest(fit, list(FITS))}")
    if penalty is not None and fit not in ("matrix", "dirichlet"):
        raise InputError(f"'penalty' is of matrix and dirichlet. Got {penalty!r} with {fit}. Leave it out.")
    if penalty is not None and not 0 <= penalty < math.inf:
        raise InputError(f"'penalty' must be a finite number of at least 0. Got {penalty!r}. Use e.g. 0.01.")
    if isinstance(bins, bool) or not 1 <= bins <= 1000:
        raise InputError(f"'bins' must be from 1 to 1000. Got {bins!r}. Use e.g. 15.")
    if not 0 < alpha < 1:
        raise InputError(f"'alpha' must be between 0 and 1. Got {alpha!r}. Use 0.1 for a coverage of 90 %.")
    if len(logits) < 5 * FOLDS:
        raise InputError(f"Expected {5 * FOLDS} rows or more, as they are cut into {FOLDS} parts. Got {len(logits)}.")
    counts = torch.bincount(labels, minlength=logits.shape[-1])
    if fit in ("vector", "matrix", "dirichlet") and int(counts.min()) < _FITTED:
        least = int(counts.argmin())
        raise InputError(
            f"{fit} scaling needs {_FITTED} rows of every class, so that each fit has some. Got {int(counts[least])} "
            f"of class {least} (the first is 0). Use --fit temperature, or give more rows."
        )
    part = parts_of(labels, FOLDS, generator(seed, "parts"))
    calibrators, after = [], torch.empty_like(logits)
    for each in range(FOLDS):
        used = (part != each) & (part != (each + 1) % FOLDS)
        fitted, _ = _fitted(fit, logits[used], labels[used], penalty, generator(seed, "penalty", each))
        after[part == each] = torch.log_softmax(fitted(logits[part == each]), -1)
        calibrators.append(fitted)
    sets, notes = _sets(calibrators, logits, labels, part, alpha, seed)
    before = torch.log_softmax(logits, -1)
    calibrator, chosen = _fitted(fit, logits, labels, penalty, generator(seed, "penalty"))
    return Assessment(
        fit=fit,
        calibrator=calibrator,
        penalty=chosen,
        measures=measures(before, after, labels, bins, generator(seed, "bootstrap")),
        tests=(
            _test(before, labels, bins, generator(seed, "test", "before")),
            _test(after, labels, bins, generator(seed, "test", "after")),
        ),
        diagrams=(
            probes.reliability_diagram(before.exp(), labels, bins=bins, generator=generator(seed, "band", "before")),
            probes.reliability_diagram(after.exp(), labels, bins=bins, generator=generator(seed, "band", "after")),
        ),
        sets=sets,
        alpha=alpha,
        notes=notes,
        rows=len(logits),
        classes=logits.shape[-1],
        bins=bins,
        seed=seed,
    )


def _test(logarithms: Tensor, labels: Tensor, bins: int, draws: torch.Generator) -> probes.CalibrationTest:
    return probes.calibration_test(logarithms.exp(), labels, bins=bins, binning="width", generator=draws)


def _fitted(
    fit: str, logits: Tensor, labels: Tensor, penalty: float | None, draws: torch.Generator
) -> tuple[Calibrator, float | None]:
    """A calibrator by name, and its penalty."""
    function = FITS[fit]
    if fit not in ("matrix", "dirichlet"):
        return function(logits, labels), None
    chosen = choose_penalty(function, logits, labels, generator=draws) if penalty is None else penalty
    return function(logits, labels, off_diagonal=chosen, intercept=chosen), chosen


def _sets(
    calibrators: list[Calibrator], logits: Tensor, labels: Tensor, part: Tensor, alpha: float, seed: int
) -> tuple[tuple[SetsFound, ...], tuple[str, ...]]:
    """Prediction sets of each part, by the threshold of the next, and notes."""
    needed = math.ceil(1 / alpha) - 1
    if int((part == FOLDS - 1).sum()) < needed:  # the smallest part
        return (), (f"no prediction sets: alpha = {alpha:g} needs {FOLDS * needed:,} rows, {needed:,} in each part",)
    found = []
    for name in SETS:
        inside = torch.zeros(logits.shape, dtype=torch.bool)
        for each, calibrator in enumerate(calibrators):
            here, held = part == each, part == (each + 1) % FOLDS
            draws = generator(seed, "sets", name, each)
            chance = torch.softmax(calibrator(logits[held]), -1)
            sets = fit_sets(chance, labels[held], alpha=alpha, score=name, generator=draws)
            inside[here] = sets(torch.softmax(calibrator(logits[here]), -1), generator=draws)
        found.append(_sets_found(name, inside, labels))
    return tuple(found), ()


def _sets_found(name: str, inside: Tensor, labels: Tensor) -> SetsFound:
    covered = inside.gather(-1, labels[:, None])[:, 0].double()
    share = covered.mean()
    low, high = probes.wilson_interval(share, torch.tensor(float(len(labels))), LEVEL)
    sizes, count = inside.sum(-1), inside.shape[-1]
    hits, rows = torch.bincount(labels, covered, count), torch.bincount(labels, minlength=count)
    by_class = torch.where(rows > 0, hits / rows.clamp(min=1), math.inf)
    return SetsFound(
        score=name,
        coverage=float(share),
        interval=(float(low), float(high)),
        size=float(sizes.double().mean()),
        single=float((sizes == 1).double().mean()),
        worst=float(by_class.min()),
        worst_class=int(by_class.argmin()),
    )

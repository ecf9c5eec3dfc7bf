"""The maximum of a likelihood for the statistics, or one line that says why there is none.

Axis legend: N rows, P columns, K classes.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]

from softplace.errors import InputError
from softplace.output.logit import solver
from softplace.output.logit.inference import Array
from softplace.output.logit.problems import CollinearError
from softplace.output.logit.reading import quoted

TOLERANCE = 1e-8
"""Standard errors to the maximum: less than the solver's own, as tests take differences of near equal fits."""


def maximum(
    X: Array,
    codes: NDArray[np.integer],
    classes: Sequence[Any],
    columns: Sequence[str],
    weight: Array | None,
    *,
    information: bool = False,
    raw: Array | None = None,
) -> solver.Solution:
    """The coefficients of largest likelihood.

    Args:
        X: (N, P).
        codes: (N,).
        classes, columns: Names.
        weight: (N,) or `None`.
        information: Whether it is wanted.
        raw: The columns as a person knows them, where X is of others, to name values of.

    Raises:
        InputError: A class has no weight, columns depend on others, or columns separate classes, so that coefficients
            are infinite and have no standard errors.

    Warns:
        ConvergenceWarning: The maximum was not reached.
    """
    counts = np.bincount(codes, weights=weight, minlength=len(classes))
    if not counts.all():
        raise InputError(
            f"class {quoted(classes[int(counts.argmin())])}: expected rows with a weight above 0. Got none. Leave its "
            "rows out."
        )
    try:
        found = solver.solve(X, codes, len(classes), sample_weight=weight, information=information, tolerance=TOLERANCE)
    except CollinearError as error:
        line = error.describe(columns).replace("Drop them, or use a penalty.", "Drop them.")
        raise InputError(f"collinear columns: {line[:1].lower()}{line[1:]}") from None
    except ValueError as error:
        raise InputError(str(error)) from None
    if found.separation is not None:
        told = found if raw is None else solver.solve(raw, codes, len(classes), sample_weight=weight)
        said = (told.separation or found.separation).describe(columns, classes)
        raise InputError(said.replace("Use a penalty, or leave", "Leave"))
    if not found.converged:
        warnings.warn(
            f"The maximum of the likelihood was not reached in {found.iterations} passes: the largest entry of the "
            f"gradient is {found.gradient_norm:.2g} per row. Take columns to similar scales.",
            ConvergenceWarning,
            stacklevel=3,
        )
    return found

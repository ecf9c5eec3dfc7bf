"""Fits of the multinomial logit: a formula on a table, or arrays.

Axis legend: N rows, P columns, K classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softplace.errors import InputError
from softplace.output.logit._centred import Centred
from softplace.output.logit._maximum import maximum
from softplace.output.logit.design import INTERCEPT, ArrayDesign, checked_array, with_intercept
from softplace.output.logit.error_kinds import Errors, check_seed, estimated_covariance, parse_errors
from softplace.output.logit.formula import check_few, checked_weights, prepare, reference_code
from softplace.output.logit.inference import Array
from softplace.output.logit.reading import quoted
from softplace.output.logit.result import LogitResult


def fit(
    formula: str,
    data: Any,
    *,
    reference: Any = None,
    errors: str = "observed",
    weights: str | None = None,
    weights_are: str = "counts",
    drop_missing: bool = False,
    seed: int = 0,
) -> LogitResult:
    """Fit a multinomial logit, `ln P(class) / P(reference) = x . b_class`, by maximum likelihood.

    Args:
        formula: E.g. "choice ~ income + age + C(region)"; as of `formula.prepare`.
        data: A path (.csv, .csv.gz, .tsv, .parquet), a pandas data frame, or a dict of columns.
        reference: The class that the others are compared with; the first in order when not given.
        errors: "observed", "robust" (HC1), "hc0", "hc1", "cluster:COLUMN" or "bootstrap:N"; as `inference.covariance`.
        weights: The column of the weights.
        weights_are: "counts" (a row is as many rows) or "sampling" (the inverse of its probability of being drawn).
        drop_missing: Leave rows with a missing cell out, rather than refuse them.
        seed: Of the bootstrap and of Small and Hsiao's halves.

    Raises:
        InputError: Anything that cannot be used: one line that says what, where, and the way out.

    >>> data = {"choice": [*"abcabcabcb"], "x": [1.0, 2.0, 3.0, 2.0, 1.0, 4.0, 0.0, 3.0, 2.0, 2.5]}
    >>> result = fit("choice ~ x", data, reference="b")
    >>> result.coefficients.shape, result.columns
    ((2, 2), ('Intercept', 'x'))
    """
    chosen = parse_errors(errors)
    check_seed(seed)
    prepared = prepare(formula, data, weights=weights, cluster=chosen.column, drop_missing=drop_missing)
    return _fitted(
        formula=formula,
        choice=prepared.choice,
        design=prepared.design,
        X=prepared.X,
        codes=prepared.codes,
        classes=prepared.classes,
        weight=prepared.weight,
        weights_are=weights_are,
        groups=prepared.groups,
        reference=reference,
        errors=chosen,
        seed=seed,
        dropped=prepared.dropped,
        prepared=prepared,
    )


def fit_arrays(
    X: ArrayLike,
    y: ArrayLike,
    *,
    columns: Sequence[str] | None = None,
    intercept: bool = True,
    reference: Any = None,
    errors: str = "observed",
    sample_weight: ArrayLike | None = None,
    weights_are: str = "counts",
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> LogitResult:
    """Fit a multinomial logit to arrays. As `fit`, without pandas and formulaic.

    Args:
        X: (N, P) numbers.
        y: (N,) labels.
        columns: Names of the columns; x1, x2, ... when not given.
        intercept: Whether a column of ones is put before.
        reference, weights_are, seed: As `fit`.
        errors: As `fit`, with "cluster" for `groups`.
        sample_weight: (N,), not negative.
        groups: (N,), labels of the groups.

    Raises:
        InputError: Anything that cannot be used.
    """
    check_seed(seed)
    values = checked_array(X, "X")
    labels = np.asarray(y)
    if labels.ndim != 1 or len(labels) != len(values):
        raise InputError(f"'y' must have the shape ({len(values)},). Got {labels.shape}. Give a label for each row.")
    names = [f"x{at + 1}" for at in range(values.shape[1])] if columns is None else [str(each) for each in columns]
    if len(names) != values.shape[1] or len(set(names)) != len(names):
        raise InputError(
            f"'columns' must be {values.shape[1]} different names. Got {len(names)}, of which {len(set(names))} differ."
        )
    if intercept and INTERCEPT in names:
        raise InputError(f"'columns' must not hold {INTERCEPT!r} beside the intercept. Got it. Rename it.")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        row = int((~np.isfinite(labels)).argmax())
        raise InputError(f"'y' must be finite. Got {labels[row]} in row {row} (from 0). Leave the row out.")
    classes, codes = _distinct("y", labels)
    check_few(classes.tolist(), len(labels), "'y'", numeric=labels.dtype.kind in "uif")
    if len(classes) < 2:
        raise InputError(f"'y' must hold two classes or more. Got one, {quoted(classes[0])}.")
    weight = None
    if sample_weight is not None:
        try:
            weight = np.asarray(sample_weight, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError("'sample_weight' must be numbers. Got others. Give a number for each row.") from None
        if weight.shape != labels.shape:
            raise InputError(f"'sample_weight' must have the shape {labels.shape}. Got {weight.shape}.")
        weight = checked_weights(weight, "sample_weight", lambda row: f"row {row}")
    group_codes = None
    if groups is not None:
        if np.shape(groups) != labels.shape:
            raise InputError(f"'groups' must have the shape {labels.shape}. Got {np.shape(groups)}.")
        group_codes = _distinct("groups", np.asarray(groups))[1]
    chosen = Errors(kind="cluster") if errors == "cluster" else parse_errors(errors)
    if (chosen.kind == "cluster") > (group_codes is not None) or chosen.column:
        raise InputError("'errors' of arrays: expected 'cluster' with 'groups'. Give groups=..., a label for each row.")
    design = ArrayDesign(with_intercept(values, intercept), [INTERCEPT, *names] if intercept else names)
    return _fitted(
        formula="",
        choice="class",
        design=design,
        X=design.matrix({}),
        codes=codes,
        classes=tuple(classes.tolist()),
        weight=weight,
        weights_are=weights_are,
        groups=group_codes,
        reference=reference,
        errors=chosen,
        seed=seed,
    )


def _distinct(name: str, labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The different labels in order, and which each row has."""
    try:
        found, codes = np.unique(labels, return_inverse=True)
    except TypeError:
        raise InputError(
            f"{name!r} must hold labels of one kind, none missing. Got some that have no order, such as None beside "
            "words. Fix them or leave the rows out."
        ) from None
    return found, codes


def _fitted(*, weight: Array | None, reference: Any, errors: Errors, **parts: Any) -> LogitResult:
    X, codes, classes = parts["X"], parts["codes"], parts["classes"]
    base = reference_code(classes, reference)
    centred = Centred.of(X)
    columns = parts["design"].columns
    for column, size in zip(columns, centred.scale, strict=True):
        if not 1e-150 < size < 1e150:
            raise InputError(
                f"column {quoted(column)}: expected numbers whose squares a computer can hold. Got some of {size:.0e}. "
                "Take another unit."
            )
    found = maximum(centred.X, codes, classes, columns, weight, information=True, raw=X)
    spread, resampled = estimated_covariance(
        centred,
        codes,
        found.coefficients,
        errors,
        weight,
        parts["weights_are"],
        parts["groups"],
        parts["seed"],
        found.information,
    )
    solution = replace(found, coefficients=centred.to_raw(found.coefficients), information=None)
    return LogitResult(
        solution=solution,
        weight=weight,
        reference=classes[base],
        errors=errors,
        base_covariance=spread,
        bootstrap=resampled,
        **parts,
    )

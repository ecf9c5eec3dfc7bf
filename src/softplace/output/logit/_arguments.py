"""What the solver is given, checked in one place: rows, codes, weights, offsets.

Axis legend: N rows, P columns, K classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

_WAY_OUT = "Code its levels as columns of numbers."


@dataclass(frozen=True, slots=True)
class Given:
    """Checked rows in memory: X (N, P) in float32 or float64, codes, weight and offset in float64."""

    X: Tensor
    codes: Tensor
    weight: Tensor | None
    offset: Tensor | None


def given(
    X: ArrayLike, codes: ArrayLike, classes: int, sample_weight: ArrayLike | None, offset: ArrayLike | None
) -> Given:
    """Check everything but the cells of X, of which the first pass tells whether they are finite."""
    if isinstance(classes, bool) or not isinstance(classes, (int, np.integer)) or classes < 2:
        raise ValueError(f"'classes' must be an integer of 2 or more. Got {classes!r}. A choice needs two outcomes.")
    table = columns(X)
    return Given(
        tensor(table),
        tensor(_codes(codes, len(table), classes)),
        None if sample_weight is None else tensor(weights(sample_weight, len(table))),
        None if offset is None else tensor(_offset(offset, (len(table), classes))),
    )


def columns(X: ArrayLike) -> NDArray[np.floating]:
    """X as (N, P) in float32 or float64."""
    table = numbers("X", X, _WAY_OUT)
    if table.ndim != 2 or not table.size:
        raise ValueError(
            f"'X' must be a table (rows, columns) with at least one of each. Got shape {table.shape}. "
            "Use X.reshape(-1, 1) for a single column."
        )
    return table if table.dtype in (np.float32, np.float64) else table.astype(np.float64)


def numbers(name: str, values: ArrayLike, way_out: str) -> NDArray[np.floating]:
    """An array of real numbers, as it is where it is one."""
    found = np.asarray(values)
    if found.dtype == object:
        try:
            found = found.astype(np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"'{name}' must hold numbers. Got a value that is none. {way_out}") from None
    if found.dtype.kind not in "fiub":
        raise TypeError(f"'{name}' must hold numbers. Got an array of {found.dtype}. {way_out}")
    return found


def weights(sample_weight: ArrayLike, rows: int) -> NDArray[np.float64]:
    """(N,) in float64, none negative, not all 0."""
    found = np.asarray(numbers("sample_weight", sample_weight, "Give one number per row."), dtype=np.float64)
    if found.shape != (rows,):
        raise ValueError(f"'sample_weight' must have shape ({rows},). Got {found.shape}. Give one number per row of X.")
    if not np.isfinite(found).all() or (found < 0).any():
        at = int(np.flatnonzero(~(np.isfinite(found) & (found >= 0)))[0])
        raise ValueError(
            f"'sample_weight' must be finite and not negative. Got {found[at]:g} in row {at} (the first is row 0). "
            "Leave the row out, or give it 0."
        )
    if not found.any():
        raise ValueError("'sample_weight' must have a positive weight. Got only zeros. Leave it out for equal weights.")
    if not 1e-100 < (top := float(found.max())) < 1e100:
        raise ValueError(
            f"'sample_weight' must be of a usual size, so that sums of products are numbers. Got up to {top:.0e}. "
            "Multiply all by one number."
        )
    return found


def _codes(codes: ArrayLike, rows: int, classes: int) -> NDArray[np.int64]:
    found = np.asarray(codes)
    if found.dtype.kind not in "iu":
        raise TypeError(
            f"'codes' must be integers from 0 to {classes - 1}. Got an array of {found.dtype}. "
            "Use numpy.unique(y, return_inverse=True)."
        )
    if found.shape != (rows,):
        raise ValueError(f"'codes' must have shape ({rows},). Got {found.shape}. Give one per row of X.")
    if found.min() < 0 or found.max() >= classes:
        at = int(np.flatnonzero((found < 0) | (found >= classes))[0])
        raise ValueError(
            f"'codes' must be integers from 0 to {classes - 1}. Got {found[at]} in row {at} (the first is row 0). "
            "Use numpy.unique(y, return_inverse=True)."
        )
    return found.astype(np.int64, copy=False)


def _offset(offset: ArrayLike, shape: tuple[int, int]) -> NDArray[np.float64]:
    found = np.asarray(numbers("offset", offset, "Give one number per row and class."), dtype=np.float64)
    if found.shape != shape:
        raise ValueError(f"'offset' must have shape {shape}. Got {found.shape}. Give one number per row and class.")
    if not np.isfinite(found).all():
        row, column = np.argwhere(~np.isfinite(found))[0]
        raise ValueError(
            f"'offset' must be finite. Got {found[row, column]:g} in row {row}, class {column}. Leave the row out."
        )
    return found


def coefficients(values: ArrayLike, width: int) -> Tensor:
    """(L, P) in float64."""
    found = np.asarray(numbers("coefficients", values, "Take those of a Solution."), dtype=np.float64)
    if found.ndim != 2 or not len(found) or found.shape[1] != width:
        raise ValueError(
            f"'coefficients' must have shape (classes - 1, {width}). Got {found.shape}. Take those of a Solution."
        )
    return tensor(found)


def tensor(values: NDArray[np.generic]) -> Tensor:
    """The same memory where it can be shared."""
    if not values.flags.writeable or any(stride < 0 for stride in values.strides):
        values = values.copy()
    if values.dtype.byteorder not in "=|" and not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    return torch.from_numpy(values)

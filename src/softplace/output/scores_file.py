"""Reads scores and labels that a classifier gave, from a CSV or an NPZ file, for `softplace calibrate`.

Axis legend: N rows, C classes.
"""

import csv
import gzip
import io
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softplace.errors import InputError, nearest

KINDS = ("logits", "probabilities")
_LABELS = ("label", "labels", "y", "y_true", "target", "class")
_ARRAYS = ("logits", "probabilities", "probs", "scores")
_MISSING = frozenset({"", "na", "n/a", "null", "nan", "?", "none"})
_TOLERANCE = 0.01
"""How far from 1 the sum of a row of probabilities may be: they are often rounded."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What a file holds.

    Args:
        logits: (N, C) in float64; of probabilities their logarithms.
        labels: (N), integer.
        classes: Names of the classes.
        kind: "logits" or "probabilities".
        notes: What was done to them.
    """

    logits: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    kind: str
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Numbers (N, columns) with their names, the labels as they stand, and how a row is called in a message."""

    where: str
    numbers: NDArray[np.float64]
    columns: tuple[str, ...]
    labels: Sequence[str]
    rows: Sequence[str]
    kind: str | None


def read_scores(
    path: str | os.PathLike[str],
    *,
    label: str | None = None,
    classes: Sequence[str] | None = None,
    kind: str | None = None,
) -> Scores:
    """Scores and labels of a file.

    Args:
        path: .csv or .csv.gz: a header, a column with the label and a column per class; or .npz: arrays named logits or
            probabilities (N, C), and labels (N). One column, or (N): the score of the second of two classes.
        label: Column (or array) of the labels: names of classes, or numbers from 0 on. Found by its name, such as label
            or y, when not given.
        classes: Columns of the scores; all others when not given.
        kind: "logits" or "probabilities". When not given, rows from 0 to 1 that sum to 1 are probabilities.

    Raises:
        InputError: No such file or column, a damaged file, a missing cell, a number that is not finite, a label out of
            range, one class only, probabilities that do not sum to 1.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(f"'kind' must be logits or probabilities. Got {kind!r}. {nearest(kind, KINDS)}")
    file = Path(path)
    if not file.is_file():
        what = "a folder" if file.is_dir() else "no file"
        raise InputError(f"{str(file)!r}: expected a file of scores, got {what}. Check the path.")
    name = file.name.lower()
    if name.endswith(".npz"):
        table = _npz(file, label, classes)
    elif name.endswith((".csv", ".csv.gz")):
        table = _csv(file, label, classes)
    else:
        raise InputError(f"{str(file)!r}: expected a name that ends in .csv, .csv.gz or .npz. Save it as one of these.")
    if not len(table.numbers):
        raise InputError(f"{table.where}: expected rows, got none. Give a file with data.")
    return _scores(table, kind)


def _scores(table: _Table, kind: str | None) -> Scores:
    numbers, notes = table.numbers, []
    bad = np.isnan(numbers) | (numbers == np.inf)
    if bad.any():
        row, column = (int(each) for each in np.argwhere(bad)[0])
        raise _error(table, row, column, "a number", f"{numbers[row, column]}", "Drop the row, or mend the cell.")
    known = kind or table.kind
    alone = numbers.shape[1] == 1
    sums = np.ones(len(numbers)) if alone else numbers.sum(1)
    within = np.logical_and.reduce((numbers >= 0) & (numbers <= 1 + _TOLERANCE), axis=1)
    right = within & (np.abs(sums - 1) <= _TOLERANCE)
    if known is None:
        # Rows from 0 to 1 that do not sum to 1 may be either: the error below says which row, and what to say.
        known = "probabilities" if within.all() else "logits"
    if known == "probabilities" and not right.all():
        row = int(np.argmin(right))
        if not within[row]:
            column = int(np.argmax((numbers[row] < 0) | (numbers[row] > 1)))
            got = f"{numbers[row, column]:g}"
            raise _error(table, row, column, "a probability from 0 to 1", got, "Say --kind logits if these are logits.")
        way = "Divide by the sum, or say --kind logits if these are logits."
        raise _error(table, row, None, "probabilities that sum to 1", f"the sum {sums[row]:.4g}", way)
    names = ("0", "1") if alone else table.columns
    labels = _numbered(table, names)
    if alone:
        second = numbers[:, 0]
        numbers = np.stack([1 - second if known == "probabilities" else 0 * second, second], 1)
    if known == "probabilities":
        numbers = numbers.clip(0, None) / numbers.clip(0, None).sum(1, keepdims=True)
        if (zeros := numbers == 0).any():
            least = float(numbers[~zeros].min())
            notes.append(f"{int(zeros.sum()):,} probabilities of 0 count as {least:.3g}, the smallest above 0")
            numbers = np.where(zeros, least, numbers)
        numbers = np.log(numbers)
    shut = numbers[np.arange(len(labels)), labels] == -np.inf
    if shut.any():
        row = int(shut.argmax())
        way = "Drop the row, or give it a number."
        raise _error(table, row, None, "a logit of the label that is a number", "-inf", way)
    present = np.unique(labels)
    if len(present) == 1:
        raise InputError(
            f"{table.where}: expected labels of two classes or more, got {names[present[0]]!r} in every row. Give rows "
            "of other classes too."
        )
    if missing := [name for number, name in enumerate(names) if number not in present]:
        some = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        notes.append(f"{len(missing)} of {len(names)} classes have no rows: {some}")
    return Scores(
        logits=torch.from_numpy(numbers),
        labels=torch.from_numpy(labels),
        classes=names,
        kind=known,
        notes=tuple(notes),
    )


def _numbered(table: _Table, names: Sequence[str]) -> NDArray[np.int64]:
    """Labels as numbers of classes: by the names of the columns where all are such, else as numbers from 0 on."""
    by_name = {name: number for number, name in enumerate(names)}
    texts = [text.strip() for text in table.labels]
    if all(text in by_name for text in texts):
        return np.array([by_name[text] for text in texts], np.int64)
    found = np.empty(len(texts), np.int64)
    for row, text in enumerate(texts):
        number = _whole(text)
        if number is None or not 0 <= number < len(names):
            got = "a missing cell" if text.lower() in _MISSING else repr(text[:40])
            some = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
            expected = f"a label that is a class ({some}) or a number from 0 to {len(names) - 1}"
            raise _error(table, row, None, expected, got, "Mend or drop the row.")
        found[row] = number
    return found


def _whole(text: str) -> int | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None


def _error(table: _Table, row: int, column: int | None, expected: str, got: str, way: str) -> InputError:
    where = "" if column is None or len(table.columns) <= column else f", column {table.columns[column]!r}"
    return InputError(f"{table.where}, {table.rows[row]}{where}: expected {expected}, got {got}. {way}")


def _csv(path: Path, label: str | None, classes: Sequence[str] | None) -> _Table:
    where = repr(str(path))
    try:
        with _binary(path) as binary, io.TextIOWrapper(binary, "utf-8-sig", newline="") as file:
            lines = [(number, cells) for number, cells in enumerate(csv.reader(file, strict=True), 1) if cells]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:120]
        raise InputError(f"{where}: expected a CSV file in UTF-8, got '{reason}'. Save it again.") from error
    if not lines:
        raise InputError(f"{where}: expected a header and rows, got an empty file. Give a file with data.")
    header = [cell.strip() for cell in lines[0][1]]
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        way = "Rename one, or add a header." if twice else "Name them."
        raise InputError(f"{where}: expected different column names, got {twice!r} more than once. {way}")
    target = _named(where, "column", label, header)
    columns = [name for name in header if name != target] if classes is None else list(classes)
    if len(set(columns)) < len(columns):
        again = next(name for name in columns if columns.count(name) > 1)
        raise InputError(f"{where}: expected different columns of scores, got {again!r} twice. Name each once.")
    for name in columns:
        if name not in header:
            raise InputError(f"{where}: expected a column {name!r}, got none. {nearest(name, header)}")
        if name == target:
            raise InputError(f"{where}: expected scores in column {name!r}, got the labels. Leave it out of --classes.")
    if not columns:
        raise InputError(f"{where}: expected a column of scores beside {target!r}, got none. Add one per class.")
    at, places = header.index(target), [header.index(name) for name in columns]
    numbers, labels, rows = np.empty((len(lines) - 1, len(columns))), [], []
    for index, (number, cells) in enumerate(lines[1:]):
        if len(cells) != len(header):
            raise InputError(
                f"{where}, row {number} (the header is row 1): expected {len(header)} cells, got {len(cells)}. Mend it."
            )
        for column, place in enumerate(places):
            numbers[index, column] = _cell(cells[place], where, number, columns[column])
        labels.append(cells[at])
        rows.append(f"row {number} (the header is row 1)")
    return _Table(where=where, numbers=numbers, columns=tuple(columns), labels=labels, rows=rows, kind=None)


def _binary(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb") if path.name.lower().endswith(".gz") else open(path, "rb"))


def _cell(text: str, where: str, row: int, column: str) -> float:
    try:
        if "_" in text:  # Python reads 1_000
            raise ValueError(text)
        return float(text)
    except ValueError:
        missing = text.strip().lower() in _MISSING
        got, way = ("a missing cell", "Drop the row.") if missing else (repr(text[:40]), "Mend it, or see --classes.")
        raise InputError(
            f"{where}, row {row} (the header is row 1), column {column!r}: expected a number, got {got}. {way}"
        ) from None


def _named(where: str, what: str, wanted: str | None, names: Sequence[str]) -> str:
    """The column or array of the labels."""
    if wanted is not None:
        if wanted not in names:
            raise InputError(f"{where}: expected a {what} {wanted!r}, got none. {nearest(wanted, list(names))}")
        return wanted
    found = [name for name in names if name.lower() in _LABELS]
    if len(found) != 1:
        got = f"{', '.join(map(repr, found))}" if found else "none"
        known = ", ".join(map(repr, names[:12])) + (", ..." if len(names) > 12 else "")
        raise InputError(
            f"{where}: expected one {what} named {', '.join(_LABELS[:-1])} or {_LABELS[-1]}, got {got}. Name it by "
            f"--label; there are {known}."
        )
    return found[0]


def _npz(path: Path, label: str | None, classes: Sequence[str] | None) -> _Table:
    where = repr(str(path))
    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise InputError(
                f"{where}: expected an NPZ file, got a single array. Save it by "
                "numpy.savez(path, logits=..., labels=...)."
            )
        with arrays:
            held: dict[str, NDArray[Any]] = {name: arrays[name] for name in arrays.files}
    except InputError:
        raise
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:120]
        raise InputError(f"{where}: expected an NPZ file of numbers, got '{reason}'. Save it again.") from error
    target = _named(where, "array", label, list(held))
    found = [name for name in _ARRAYS if name in held and name != target]
    if classes is not None or len(found) != 1:
        got = "--classes" if classes is not None else ", ".join(map(repr, found)) or "none"
        raise InputError(
            f"{where}: expected one array of scores named {', '.join(_ARRAYS)}, got {got}. Save it by "
            "numpy.savez(path, logits=..., labels=...)."
        )
    numbers, labels = held[found[0]], held[target]
    if numbers.dtype.kind not in "iuf" or numbers.ndim not in (1, 2):
        got = f"{numbers.dtype} of shape {numbers.shape}"
        raise InputError(f"{where}, array {found[0]!r}: expected numbers (rows, classes), got {got}. Save these.")
    if labels.ndim != 1 or len(labels) != len(numbers) or labels.dtype.kind not in "iufUb":
        got = f"{labels.dtype} of shape {labels.shape}"
        raise InputError(f"{where}, array {target!r}: expected {len(numbers)} labels, got {got}. Give one per row.")
    if not numbers.size and len(numbers):
        raise InputError(f"{where}, array {found[0]!r}: expected a class or more, got none. Save scores of each.")
    wide = np.atleast_2d(numbers.T).T.astype(np.float64)
    return _Table(
        where=where,
        numbers=wide,
        columns=tuple(map(str, range(wide.shape[1]))),
        labels=[str(int(each)) if labels.dtype.kind == "b" else str(each) for each in labels.tolist()],
        rows=[f"row {number} (the first is row 0)" for number in range(len(wide))],
        kind={"logits": "logits", "scores": None}.get(found[0], "probabilities"),
    )

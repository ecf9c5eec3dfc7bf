"""Data for a study: a table by name, from a file or from arrays, and its parts for a seed.

- *A name*: `digits`, `wine` or `breast_cancer`, which come with scikit-learn.
- *A CSV file* (`.csv`, `.csv.gz`; commas, UTF-8, a header). A cell is **missing** when it is empty, `NA`, `N/A`, `n/a`,
  `null`, `NULL` or `?`. A column is **numeric** when more than half of its other cells are numbers, and then every
  cell that is none, or is `NaN` or `inf`, is an error; the mean of the training part fills missing cells (in `split`,
  so that nothing leaks). Any other column holds **words**: it becomes a column of 0 and 1 for each level (sorted, at
  most 100), where missing cells and `NaN` are the level `(missing)`. A missing class is an error, and so is `inf`
  where the other classes are numbers. Spaces around a cell do not count. Rows are numbered as a spreadsheet does: the
  header is row 1; blank rows are skipped, but counted.
- *An NPZ file, or a pair (X, y)* of arrays, lists, tensors or data frames: NaN, infinity and missing values are errors.
  A file may have the arrays X and y, or, as copies of MNIST do, x_train and y_train (and x_test and y_test, whose rows
  follow those: the study splits for itself). Images (rows, height, width) in a file become rows of pixels.
  A data frame's columns of words follow the rule of a CSV file. Rows count from 0.

A CSV file is read in blocks, and a second time if it has columns of words. Measured on 2 shared CPU cores: 1,000,000
rows x 20 numeric columns (396 MB of text) take 13 s, and the memory grows by 1.4 times the 76 MiB of the result at its
peak; with words in 5 of the 20 columns, 15 s and 1.4 times.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softplace.errors import InputError, nearest
from softplace.study._csv import (
    LARGEST,
    MAXIMUM_CLASSES,
    MAXIMUM_LEVELS,
    Features,
    Labels,
    Levels,
    Numbers,
    at_most_20,
    input_error,
    known_names,
    load_csv,
    number_classes,
    one_hot,
    one_line,
    quote,
    some,
)

Fractions = tuple[float, float, float]

BUNDLED = ("digits", "wine", "breast_cancer")
_NOTHING = frozenset({"None", "<NA>", "NaT", "nan", "inf", "-inf"})
_ARRAY_ROW = "(the first is row 0)"
_ENDINGS = (".csv", ".csv.gz", ".npz")
_TRAINING = {"x_train", "y_train"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Rows with features and a class.

    `features` (rows, columns) is float32 with NaN where a value is missing; `labels` (rows,) is int64, an index into
    `class_names`; `fingerprint` is the SHA-256 of features and labels; `notes` are sentences that a report must print.
    """

    name: str
    features: Features
    labels: Labels
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Standardised `features` (n, columns), float32 without NaN, and int64 `labels` (n,) of the table's `rows` (n,)."""

    features: Features
    labels: Labels
    rows: Labels


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """What to train on, what to choose by, what to judge by."""

    train: Part
    validation: Part
    test: Part


def load(data: str | os.PathLike[str] | tuple[Any, Any], *, target: str | None = None) -> Table:
    """Read a table; the module's docstring has the rules.

    Args:
        data: "digits", "wine", "breast_cancer", a path to a .csv, .csv.gz or .npz file, or a pair (X, y).
        target: The column (CSV, required) or the array (NPZ, `y` if not given) that holds the class.

    Raises:
        InputError: The data cannot be used; one line says what, what was expected, what was got, and the way out.
    """
    if target is not None and not isinstance(target, str):
        raise input_error("'target'", "a name (text)", repr(target)[:80], "Use e.g. target='choice'.")
    if isinstance(data, str | os.PathLike):
        text = os.fspath(data)
        if not text:
            way = f"Give {', '.join(BUNDLED)} or a file."
            raise input_error("'data'", "a name or a path", "an empty text", way)
        if "://" in text:
            raise input_error("'data'", "a local file", f"the address {quote(text)}", "Download it first.")
        if text in BUNDLED:
            _refuse(target, text)
            return _load_bundled(text)
        path = Path(text)
        _check_file(path)
        return _load_npz(path, target) if path.suffix.lower() == ".npz" else _finish(path.name, *load_csv(path, target))
    pair: Any = data
    if isinstance(pair, tuple) and len(pair) == 2:
        _refuse(target, "a pair (X, y)")
        return _load_pair(*pair, name="arrays")
    way = "Split a table into a pair, e.g. (frame.drop(columns='choice'), frame['choice'])."
    raise input_error("'data'", f"a name ({', '.join(BUNDLED)}), a path or a pair (X, y)", type(data).__name__, way)


def parallel_text(data: Any, target: str | None) -> tuple[str, str] | None:
    """The files of a parallel text, where `data` is no table: a file of another kind, and `target` one too."""
    if target is None or not isinstance(data, str | os.PathLike):
        return None
    source = os.fspath(data)
    known = source in BUNDLED or not source or "://" in source or source.lower().endswith(_ENDINGS)
    return None if known or not os.path.isfile(target) else (source, target)


def split_indices(labels: Labels, seed: int, fractions: Fractions = (0.6, 0.2, 0.2)) -> tuple[Labels, Labels, Labels]:
    """Rows of the training, validation and test part: shuffled, stratified by class, every class in every part.

    Of the n rows of a class, max(1, round(n f)) go to the validation and to the test part and the rest to the training
    part, so the sizes are the same for every seed. `numpy.random.Generator(PCG64(seed))` draws the order.
    """
    if len(fractions) != 3 or not all(f > 0 for f in fractions) or not abs(sum(fractions) - 1) < 1e-9:
        raise input_error(
            "'fractions'", "three positive numbers with sum 1", repr(fractions), "Use e.g. (0.6, 0.2, 0.2)."
        )
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise input_error("'seed'", "an integer from 0", repr(seed), "Use e.g. 0.")
    counts = np.bincount(labels)
    validation, test = (np.maximum(1, np.rint(counts * f)).astype(np.int64) for f in fractions[1:])
    small = np.flatnonzero((counts > 0) & (counts - validation - test < 1))
    if len(small):
        got = f"{counts[small[0]]} rows of class {small[0]} for the fractions {fractions!r}"
        raise input_error(
            "'labels'", "rows of every class for every part", got, "Give the class more rows, or drop it."
        )
    shuffled = np.random.Generator(np.random.PCG64(seed)).permutation(len(labels))
    grouped = shuffled[np.argsort(labels[shuffled], kind="stable")]
    place = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    part = np.empty(len(labels), np.int8)
    per_row = labels[grouped]
    part[grouped] = (place < (validation + test)[per_row]).astype(np.int8) + (place < test[per_row])
    ordered = part[shuffled]
    return shuffled[ordered == 0], shuffled[ordered == 1], shuffled[ordered == 2]


def split(table: Table, seed: int, fractions: Fractions = (0.6, 0.2, 0.2)) -> Parts:
    """The parts of a table for a seed, standardised: (x - mean) / standard deviation, both of the training part.

    A missing value becomes 0, the mean. A column that is constant in the training part becomes 0 in every part, as no
    training part tells its unit. The arithmetic is float64. Rows: see `split_indices`.
    """
    indices = split_indices(table.labels, seed, fractions)
    train = table.features[indices[0]]
    # Subtracting the smallest value first makes a constant exactly 0 and keeps the digits of values far from 0.
    low = np.nan_to_num(np.fmin.reduce(train, axis=0)).astype(np.float64)
    shifted = train - low
    known = np.maximum(1, len(train) - np.isnan(shifted).sum(axis=0))
    mean = np.nansum(shifted, axis=0) / known
    shifted -= mean
    scale = np.sqrt(np.nansum(np.square(shifted, out=shifted), axis=0) / known)
    scale[scale == 0] = np.inf
    del shifted, train
    parts = []
    for rows in indices:
        scores = table.features[rows] - low
        scores -= mean
        scores /= scale
        # float32 holds any score: |x - mean| <= 2 * 3.4e38 in the training part, but elsewhere a score may be larger.
        features = np.nan_to_num(np.clip(scores, -LARGEST, LARGEST, out=scores), copy=False).astype(np.float32)
        parts.append(Part(features=features, labels=table.labels[rows], rows=rows))
    return Parts(train=parts[0], validation=parts[1], test=parts[2])


def _refuse(target: str | None, what: str) -> None:
    if target is not None:
        raise input_error("'target'", f"none with {what}, whose classes are known", quote(target), "Leave it out.")


def _check_file(path: Path) -> None:
    shown, known = repr(str(path)), path.name.lower().endswith(_ENDINGS)
    if os.path.isdir(path):
        raise input_error("'data'", "a file", f"the directory {shown}", "Give one .csv, .csv.gz or .npz file in it.")
    if not os.path.exists(path):
        if known or len(path.parts) > 1:
            raise input_error("'data'", "a file that exists", f"{shown}, which does not", "Check the path.")
        raise InputError(f"Unknown data {shown}. {nearest(str(path), BUNDLED)} Or give a .csv, .csv.gz or .npz file.")
    if not known:
        way = "Save it as CSV with a header; of sentences, give the file of their translations as target too."
        raise input_error("'data'", "a .csv, .csv.gz or .npz file", shown, way)
    if not os.path.isfile(path):
        raise input_error("'data'", "a regular file (it may be read twice)", shown, "Write it to a file first.")


def _load_bundled(name: str) -> Table:
    from sklearn import datasets  # type: ignore[import-untyped]

    bunch = getattr(datasets, f"load_{name}")()
    features, labels = np.array(bunch.data, np.float32, order="C"), np.array(bunch.target, np.int64)
    return _finish(name, features, list(map(str, bunch.feature_names)), labels, list(map(str, bunch.target_names)), [])


def _array(value: Any, name: str, dtype: type[np.object_] | None = None) -> NDArray[Any]:
    if hasattr(value, "toarray"):
        raise input_error(f"'{name}'", "a dense array", type(value).__name__, f"Use {name}.toarray().")
    if isinstance(value, np.ma.MaskedArray):
        raise input_error(f"'{name}'", "an array without a mask", "a masked array", "Fill it or drop the masked rows.")
    try:
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value, dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        got = f"{type(value).__name__} ({one_line(error)})"
        raise input_error(f"'{name}'", "an array of numbers", got, "Convert it with numpy.array.") from None


def _load_pair(x: Any, y: Any, name: str) -> Table:
    frame = hasattr(x, "columns")
    matrix = None if frame else _array(x, "X")
    shape = (len(x), len(x.columns)) if matrix is None else matrix.shape
    if len(shape) != 2 or 0 in shape:
        way = "Give at least one row and one column." if len(shape) == 2 else "Use X.reshape(len(X), -1)."
        raise input_error("'X'", "the shape (rows, columns)", str(shape), way)
    # numpy would turn the list [1, "a"] into two strings.
    classes = _array(y, "y", np.object_ if isinstance(y, list | tuple) else None)
    if classes.ndim != 1:
        raise input_error(
            "'y'", "the shape (rows,)", str(classes.shape), "Use y.ravel(), or y.argmax(1) if it is one-hot."
        )
    if shape[0] != len(classes):
        raise input_error("'X' and 'y'", "as many rows", f"{shape[0]} and {len(classes)}", "Drop what has no partner.")
    if matrix is None:
        flat, names, words = _read_frame(x)
    else:
        names, words = [f"x{j}" for j in range(shape[1])], {}
        flat = _finite(matrix, names).reshape(-1)
    features, names, notes = one_hot(flat, shape[0], names, words)
    return _finish(name, features, names, *_array_classes(classes), notes)


def _finite(values: NDArray[Any], names: Sequence[str]) -> Features:
    if values.dtype.kind not in "biuf":
        way = "Use X.astype(float), or give a data frame or a CSV file, whose words become numbers."
        raise input_error("'X'", "an array of numbers", f"an array of {values.dtype}", way)
    with np.errstate(over="ignore"):
        result = np.array(values, np.float32, order="C")
    if not np.isfinite(result).all():
        rows, columns = np.nonzero(~np.isfinite(result))
        row = int(rows[columns == columns[0]][0])
        counts = np.bincount(columns)
        got = f"{values[row, columns[0]]} in row {row} {_ARRAY_ROW} ({counts[columns[0]]} such values in the column, "
        got += f"{counts.sum()} in all)"
        where = f"column {quote(names[columns[0]])} of 'X'"
        raise input_error(where, "finite float32 numbers", got, "Fill or drop them first.")
    return result


def _check_missing(where: str, values: Sequence[Any]) -> None:
    if missing := [row for row, value in enumerate(values) if not isinstance(value, str) and str(value) in _NOTHING]:
        got = f"{len(missing)} missing, NaN or infinite values, the first in row {missing[0]} {_ARRAY_ROW}"
        raise input_error(where, "a value in every row", got, "Fill or drop these rows first.")


def _read_frame(frame: Any) -> tuple[Features, list[str], dict[int, Levels]]:
    names = [str(key) for key in frame.columns]
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise input_error("'X'", "different column names", f"{quote(name)} {times} times", "Rename them.")
    flat, words = np.empty(len(frame) * len(names), np.float32), {}
    matrix = flat.reshape(-1, len(names))
    for j, (key, name) in enumerate(zip(frame.columns, names, strict=True)):
        values = _array(frame[key], name)
        if values.dtype.kind in "biuf":
            matrix[:, j] = _finite(values[:, None], [name])[:, 0]
            continue
        if values.dtype.kind not in "OUT":
            raise input_error(
                f"column {quote(name)} of 'X'", "numbers or words", str(values.dtype), "Convert it to numbers."
            )
        _check_missing(f"column {quote(name)} of 'X'", values.tolist())
        cells, tally = list(map(str, values.tolist())), Numbers(name, _ARRAY_ROW)
        matrix[:, j] = tally.add(cells, range(len(cells)))
        if not tally.is_numeric():
            words[j] = Levels(name, MAXIMUM_LEVELS)
            words[j].add(cells, range(len(cells)))
    return flat, names, words


def _array_classes(y: NDArray[Any]) -> tuple[Labels, list[str]]:
    values = [value.item() if isinstance(value, np.generic) else value for value in y.tolist()]
    _check_missing("'y'", values)
    kinds = sorted({type(value).__name__ for value in values})
    if len(kinds) > 1 or kinds[0] not in ("bool", "int", "float", "str") or y.dtype.kind in "Mm":
        got = f"{y.dtype} with values of type {', '.join(kinds)}"
        raise input_error("'y'", "integers, strings or booleans (one of them)", got, "Convert them, e.g. to strings.")
    whole = kinds == ["float"] and all(value.is_integer() for value in values)
    codes: dict[Any, int] = {}
    numbers = np.fromiter((codes.setdefault(value, len(codes)) for value in values), np.int32, len(values))
    if len(codes) > MAXIMUM_CLASSES:
        way = "It looks like a measurement or an identifier: choose another, or group its values."
        raise input_error("'y'", f"at most {MAXIMUM_CLASSES} classes", f"{len(codes)} different values", way)
    return number_classes(numbers, [str(int(value) if whole else value) for value in codes])


def _load_npz(path: Path, target: str | None) -> Table:
    shown, label, way = repr(str(path)), target or "y", "Write it with numpy.savez(path, X=X, y=y)."
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise input_error(shown, "an NPZ archive", "a single array", way)
            if target is None and set(archive.files) >= _TRAINING and label not in archive.files:
                return _load_pair(*_images(archive), path.name)
            others = [name for name in archive.files if name != label]
            feature = others[0] if target and len(others) == 1 else "X"
            if label not in archive.files or feature not in others:
                got = known_names(label, archive.files) if archive.files else "none."
                way = f"{way[:-1]}, or name the array of the classes with target='...'."
                raise InputError(f"{shown}: expected the arrays {quote(feature)} and {quote(label)}. {got} {way}")
            x, y = _as_rows(archive[feature]), archive[label]
    except InputError:
        raise
    except Exception as error:  # whatever NumPy, zipfile and zlib make of bytes that are no archive
        raise input_error(shown, "an NPZ archive of arrays without objects", one_line(error), way) from None
    return _load_pair(x, y, path.name)


def _images(archive: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The training images with their classes, and the test images after them where there are some."""
    parts = [part for part in ("train", "test") if f"x_{part}" in archive and f"y_{part}" in archive]
    x, y = ([archive[f"{name}_{part}"] for part in parts] for name in "xy")
    return np.concatenate([_as_rows(each) for each in x]), np.concatenate(y)


def _as_rows(values: NDArray[Any]) -> NDArray[Any]:
    """Images (rows, height, width) as rows of pixels; anything else as it is."""
    return values.reshape(len(values), -1) if values.ndim == 3 else values


def _finish(
    name: str, features: Features, columns: list[str], labels: Labels, classes: list[str], notes: list[str]
) -> Table:
    """Add the notes that any table may need, and the fingerprint."""
    rows, low, high = len(features), np.fmin.reduce(features), np.fmax.reduce(features)
    gaps, close = [], []
    for column, values in zip(columns, features.T, strict=True):
        if missing := int(np.isnan(values).sum()):
            what = f"{missing} of {rows} rows have a missing value in column {quote(column)}"
            gaps.append(f"{what} (mean of the training part fills it)")
    notes += at_most_20(gaps, "have missing values (means of the training part fill them)")
    if constant := [columns[j] for j in np.flatnonzero(low == high)]:
        notes.append(f"{len(constant)} of {low.size} columns have one value in every row, used as 0: {some(constant)}")
    largest = np.maximum(np.abs(low), np.abs(high))
    coarse = 1000 * np.spacing(largest).astype(np.float64) > high.astype(np.float64) - low
    for j in np.flatnonzero(coarse & ((low != high) | (largest >= 2**24))):
        what = f"column {quote(columns[j])} reaches {largest[j]:.7g}, where float32 cannot tell its values apart"
        close.append(f"{what}: subtract a constant from it first")
    notes += at_most_20(close, "reach values that float32 cannot tell apart: subtract constants from them first")
    digest = hashlib.sha256(repr((features.shape, labels.shape)).encode())
    digest.update(np.ascontiguousarray(features, "<f4").data)
    digest.update(np.ascontiguousarray(labels, "<i8").data)
    return Table(
        name=name,
        features=features,
        labels=labels,
        feature_names=tuple(columns),
        class_names=tuple(classes),
        fingerprint=digest.hexdigest(),
        notes=tuple(notes),
    )

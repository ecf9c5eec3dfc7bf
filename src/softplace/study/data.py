"""Data for a study: a table by name, from a file or from arrays, and its parts for a seed.

- *A name*: `digits`, `wine` or `breast_cancer`, which come with scikit-learn.
- *A CSV file* (`.csv`, `.csv.gz`; commas, UTF-8, a header). A cell is **missing** when it is empty, `NA`, `N/A`, `n/a`,
  `null`, `NULL` or `?`. A column is **numeric** when more than half of its other cells are numbers, and then every
  cell that is none, or is `NaN` or `inf`, is an error; the mean of the training part fills missing cells (in `split`,
  so that nothing leaks). Any other column holds **words**: it becomes a column of 0 and 1 for each level (sorted, at
  most 100), where missing cells and `NaN` are the level `(missing)`. A missing class is an error. Spaces around a cell
  do not count. Rows are numbered as a spreadsheet does: the header is row 1; blank rows are skipped, but counted.
- *An NPZ file, or a pair (X, y)* of arrays, lists, tensors or data frames: NaN, infinity and missing values are errors.
  A data frame's columns of words follow the rule of a CSV file. Rows count from 0.

A CSV file is read in blocks, and a second time if it has columns of words. Measured on 2 shared CPU cores: 1,000,000
rows x 20 numeric columns (396 MB of text) take 13 s, and the memory grows by 1.4 times the 76 MiB of the result at its
peak; with words in 5 of the 20 columns, 15 s and 1.4 times.
"""

import contextlib
import csv
import difflib
import gzip
import hashlib
import io
import itertools
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from softplace.errors import InputError, nearest

Features = NDArray[np.float32]
Labels = NDArray[np.int64]
Fractions = tuple[float, float, float]

BUNDLED = ("digits", "wine", "breast_cancer")
MINIMUM_PER_CLASS = 5
"""The fewest rows that a class may have: three to train on, one to validate, one to test."""
MAXIMUM_LEVELS = 100
MAXIMUM_CLASSES = 10_000

_MISSING = frozenset({"", "NA", "N/A", "n/a", "null", "NULL", "?"})
_NOTHING = frozenset({"None", "<NA>", "NaT", "nan", "inf", "-inf"})
_MISSING_LEVEL = "(missing)"
_LARGEST = float(np.finfo(np.float32).max)
_CELLS_PER_BLOCK = 20_000
_CSV_ROW = "(the header is row 1)"
_ARRAY_ROW = "(the first is row 0)"
_ENDINGS = (".csv", ".csv.gz", ".npz")


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
    if isinstance(data, str | os.PathLike):
        text = os.fspath(data)
        if text in BUNDLED:
            _refuse(target, text)
            return _load_bundled(text)
        path = Path(text)
        _check_file(path)
        return _load_npz(path, target) if path.suffix.lower() == ".npz" else _load_csv(path, target)
    pair: Any = data
    if isinstance(pair, tuple) and len(pair) == 2:
        _refuse(target, "a pair (X, y)")
        return _load_pair(*pair, name="arrays")
    way = "Split a table into a pair, e.g. (frame.drop(columns='choice'), frame['choice'])."
    raise _error("'data'", f"a name ({', '.join(BUNDLED)}), a path or a pair (X, y)", type(data).__name__, way)


def split_indices(labels: Labels, seed: int, fractions: Fractions = (0.6, 0.2, 0.2)) -> tuple[Labels, Labels, Labels]:
    """Rows of the training, validation and test part: shuffled, stratified by class, every class in every part.

    Of the n rows of a class, max(1, round(n f)) go to the validation and to the test part and the rest to the training
    part, so the sizes are the same for every seed. `numpy.random.Generator(PCG64(seed))` draws the order.
    """
    if len(fractions) != 3 or not all(f > 0 for f in fractions) or not abs(sum(fractions) - 1) < 1e-9:
        raise _error("'fractions'", "three positive numbers with sum 1", repr(fractions), "Use e.g. (0.6, 0.2, 0.2).")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise _error("'seed'", "an integer from 0", repr(seed), "Use e.g. 0.")
    counts = np.bincount(labels)
    validation, test = (np.maximum(1, np.rint(counts * f)).astype(np.int64) for f in fractions[1:])
    small = np.flatnonzero((counts > 0) & (counts - validation - test < 1))
    if len(small):
        got = f"{counts[small[0]]} rows of class {small[0]} for the fractions {fractions!r}"
        raise _error("'labels'", "rows of every class for every part", got, "Give the class more rows, or drop it.")
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
        features = np.nan_to_num(np.clip(scores, -_LARGEST, _LARGEST, out=scores), copy=False).astype(np.float32)
        parts.append(Part(features=features, labels=table.labels[rows], rows=rows))
    return Parts(train=parts[0], validation=parts[1], test=parts[2])


def _error(what: str, expected: str, got: str, way_out: str) -> InputError:
    return InputError(f"{what}: expected {expected}, got {got}. {way_out}")


def _quote(text: str) -> str:
    """A name or cell for a message: quoted, on one line, cut where it is long."""
    return repr(text if len(text) <= 40 else text[:39] + "…")


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(_quote, names[:8])) + (", ..." if len(names) > 8 else "")


def _known(name: str, names: Sequence[str]) -> str:
    """The names on one line, at most 20, the nearest first."""
    near = difflib.get_close_matches(name, names, n=3)
    shown = list(dict.fromkeys([*near, *names]))[:20] if len(names) > 20 else names
    return nearest(name, [_quote(each)[1:-1] for each in shown] + ["..."] * (len(names) > len(shown)))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _refuse(target: str | None, what: str) -> None:
    if target is not None:
        raise _error("'target'", f"none with {what}, whose classes are known", _quote(target), "Leave it out.")


def _check_file(path: Path) -> None:
    shown, known = repr(str(path)), path.name.lower().endswith(_ENDINGS)
    if os.path.isdir(path):
        raise _error("'data'", "a file", f"the directory {shown}", "Give one .csv, .csv.gz or .npz file in it.")
    if not os.path.exists(path):
        if known or len(path.parts) > 1:
            raise _error("'data'", "a file that exists", f"{shown}, which does not", "Check the path.")
        raise InputError(f"Unknown data {shown}. {nearest(str(path), BUNDLED)} Or give a .csv, .csv.gz or .npz file.")
    if not known:
        raise _error("'data'", "a .csv, .csv.gz or .npz file", shown, "Save it as CSV with a header.")
    if not os.path.isfile(path):
        raise _error("'data'", "a regular file (it may be read twice)", shown, "Write it to a file first.")


def _load_bundled(name: str) -> Table:
    from sklearn import datasets  # type: ignore[import-untyped]

    bunch = getattr(datasets, f"load_{name}")()
    features, labels = np.array(bunch.data, np.float32, order="C"), np.array(bunch.target, np.int64)
    return _finish(name, features, list(map(str, bunch.feature_names)), labels, list(map(str, bunch.target_names)), [])


# --- CSV ---


def _binary(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb"))


def _blocks(path: Path) -> Iterator[tuple[Sequence[int], list[tuple[str, ...]]]]:
    """The columns of a CSV file in blocks of rows, with the rows' numbers. The first block is the header alone."""
    shown = repr(str(path))
    try:
        with _binary(path) as binary, io.TextIOWrapper(binary, "utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, None)
            if header is None:
                raise _error(shown, "a header and rows", "an empty file", "Give a file with data.")
            yield (1,), [(cell,) for cell in header]
            width, start = len(header), 2
            while block := list(itertools.islice(reader, max(32, _CELLS_PER_BLOCK // width))):
                rows: Sequence[int] = range(start, start + len(block))
                start += len(block)
                lengths = set(map(len, block))
                if 0 in lengths:
                    rows = [row for row, cells in zip(rows, block, strict=True) if cells]
                    block = [cells for cells in block if cells]
                if lengths - {0, width}:
                    k = next(k for k, cells in enumerate(block) if len(cells) != width)
                    way = "Fix the row; quote a cell that holds a comma."
                    raise _error(f"{shown}, row {rows[k]} {_CSV_ROW}", f"{width} cells", str(len(block[k])), way)
                if block:
                    yield rows, list(zip(*block, strict=True))
    except UnicodeDecodeError:
        raise _error(shown, "text in UTF-8", _bad_byte(path), "Save it as CSV in UTF-8.") from None
    except csv.Error as error:
        way = 'Check that every quote (") is closed and a comma follows it.'
        raise _error(f"{shown}, line {reader.line_num}", "cells in CSV form", _one_line(error), way) from None
    except (OSError, EOFError, zlib.error) as error:
        way = "Check that it may be read, or fetch it again."
        raise _error(shown, "a whole file that can be read", _one_line(error), way) from None


def _bad_byte(path: Path) -> str:
    """The first byte that is not UTF-8: a second reading, as the text layer tells no absolute position."""
    position = 0
    with contextlib.suppress(OSError, EOFError, zlib.error), _binary(path) as binary:
        for line in binary:
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"the byte 0x{line[error.start]:02x} at position {position + error.start}"
            position += len(line)
    return "other bytes"


def _parse(cell: str) -> tuple[float, str]:
    """The number that a cell holds (else NaN), and what the cell is."""
    text = cell.strip()
    if text in _MISSING:
        return np.nan, "missing"
    try:
        value = float(text.replace("_", "no"))  # float() reads the code '1_2' as 12
    except ValueError:
        return np.nan, "word"
    return (value, "number") if abs(value) <= _LARGEST else (np.nan, "not finite")


@dataclass
class _Numbers:
    """Turns the cells of a column into numbers, and counts what they are."""

    column: str
    row_rule: str
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, cells: Sequence[str], rows: Sequence[int]) -> NDArray[np.float64]:
        """The cells as numbers, NaN where a cell is none."""
        try:
            values = np.fromiter(map(float, cells), np.float64, len(cells))
            if np.abs(values).max() <= _LARGEST and "_" not in "".join(cells):  # false for NaN, infinity and 1e39
                self.counts["number"] += len(cells)
                return values
        except ValueError:
            pass
        table = {}
        for cell, count in Counter(cells).items():
            table[cell], kind = _parse(cell)
            self.counts[kind] += count
            if kind not in self.first:
                self.first[kind] = rows[cells.index(cell)], cell
        return np.fromiter(map(table.__getitem__, cells), np.float64, len(cells))

    def is_numeric(self) -> bool:
        """Whether the column holds numbers rather than words, by majority; an error where it holds both, or none."""
        numbers, words = self.counts["number"] + self.counts["not finite"], self.counts["word"]
        where = f"column {_quote(self.column)}"
        if not numbers + words:
            raise _error(where, "values", f"{self.counts['missing']} missing cells and no other", "Drop the column.")
        if words >= numbers:
            return False
        for kind, expected in (("word", "a number"), ("not finite", "a finite float32 number")):
            if count := self.counts[kind]:
                row, cell = self.first[kind]
                got = f"{_quote(cell)} ({count} such cells in the column)"
                way = "Fix the cell, leave it empty (the mean fills it), or drop the column."
                raise _error(f"{where}, row {row} {self.row_rule}", expected, got, way)
        return True


@dataclass
class _Levels:
    """Numbers the different words of a column as they come."""

    column: str
    limit: int
    levels: dict[str, int] = field(default_factory=dict)
    cells: dict[str, int] = field(default_factory=dict)
    blocks: list[NDArray[np.int32]] = field(default_factory=list)
    first_missing: int | None = None

    def add(self, cells: Sequence[str], rows: Sequence[int]) -> None:
        for cell in dict.fromkeys(cells):
            if cell not in self.cells:
                text = cell.strip()
                if text in _MISSING or text in ("NaN", "nan"):
                    text = _MISSING_LEVEL
                    self.first_missing = self.first_missing or rows[cells.index(cell)]
                self.cells[cell] = self.levels.setdefault(text, len(self.levels))
        if len(self.levels) > self.limit:
            got = f"more by row {rows[-1]}, e.g. {_some(list(self.levels)[:3])}"
            way = "It looks like a measurement or an identifier: choose another column, drop it, or group its values."
            raise _error(f"column {_quote(self.column)}", f"at most {self.limit} different values", got, way)
        self.blocks.append(np.fromiter(map(self.cells.__getitem__, cells), np.int32, len(cells)))

    def codes(self) -> NDArray[np.int32]:
        return np.concatenate(self.blocks)

    def missing(self) -> int:
        return int((self.codes() == self.levels.get(_MISSING_LEVEL, -1)).sum())


def _load_csv(path: Path, target: str | None) -> Table:
    shown, blocks = repr(str(path)), _blocks(path)
    header = [cell.strip() for (cell,) in next(blocks)[1]]
    _check_header(shown, header)
    if target is None or target not in header:
        way = f"{_known(target or '', header)} Give target='...' (--target on the command line)."
        raise _error(f"'target' for {shown}", "a column", "none" if target is None else _quote(target), way)
    at = header.index(target)
    tallies = [_Numbers(name, _CSV_ROW) for name in header if name != target]
    classes = _Levels(target, MAXIMUM_CLASSES)
    # The buffer grows in place (realloc moves pages, not bytes), so the peak stays near the size of the result.
    flat, count, width = np.empty(0, np.float32), 0, len(tallies)
    for rows, columns in blocks:
        end = count + len(rows)
        if end * width > flat.size:
            flat.resize(max(count + count // 8, end) * width, refcheck=False)
        classes.add(columns.pop(at), rows)
        block = flat[count * width : end * width].reshape(-1, width)
        for j, (tally, cells) in enumerate(zip(tallies, columns, strict=True)):
            block[:, j] = tally.add(cells, rows)
        count = end
    if not count:
        raise _error(shown, "rows below the header", "none", "Give a file with data.")
    if classes.first_missing is not None:
        got = f"{classes.missing()} missing cells, the first in row {classes.first_missing} {_CSV_ROW}"
        raise _error(f"column {_quote(target)} (the target)", "a class in every row", got, "Fill or drop these rows.")
    words = {j: _Levels(tally.column, MAXIMUM_LEVELS) for j, tally in enumerate(tallies) if not tally.is_numeric()}
    labels, class_names = _number_classes(classes.codes(), list(classes.levels))
    if words:
        for rows, columns in itertools.islice(_blocks(path), 1, None):
            for j, levels in words.items():
                levels.add(columns[j + (j >= at)], rows)
    features, names, notes = _one_hot(flat, count, [tally.column for tally in tallies], words)
    if all(_parse(name)[1] == "number" for name in header):
        notes.append("every column name is a number: is the first row of the file a header?")
    return _finish(path.name, features, names, labels, class_names, notes)


def _check_header(shown: str, header: Sequence[str]) -> None:
    if any("\0" in name for name in header):
        raise _error(shown, "text", "NUL bytes, as in a binary or UTF-16 file", "Save it as CSV in UTF-8.")
    if len(header) < 2:
        mark = next((mark for mark in (";", "\t", "|") if mark in "".join(header)), None)
        way = f"Is it separated by {mark!r}? Save it with commas." if mark else "No feature column is left: add one."
        raise _error(shown, "a column for the class and one or more features", f"only {len(header)} column", way)
    if "" in header:
        got = f"none for column {header.index('') + 1} of {len(header)}"
        way = "Name it or drop it (for an index that pandas wrote: to_csv(index=False))."
        raise _error(shown, "a name for every column", got, way)
    name, times = Counter(header).most_common(1)[0]
    if times > 1:
        way = "Rename them (or has the file no header?)."
        raise _error(shown, "different column names", f"{_quote(name)} {times} times", way)


def _one_hot(
    flat: Features, count: int, names: Sequence[str], words: dict[int, _Levels]
) -> tuple[Features, list[str], list[str]]:
    """Put columns of 0 and 1 in the place of the columns of words, in `flat` itself, from the last row to the first."""
    new_names: list[str] = []
    notes: list[str] = []
    numeric: list[tuple[int, int]] = []
    one_hot: list[tuple[int, NDArray[np.int32], NDArray[np.int32]]] = []
    for j, name in enumerate(names):
        if j not in words:
            numeric.append((j, len(new_names)))
            new_names.append(name)
            continue
        order, column = sorted(words[j].levels), _quote(name)
        codes = np.array([words[j].levels[level] for level in order], np.int32)
        one_hot.append((len(new_names), words[j].codes(), codes))
        new_names += [f"{name}={level}" for level in order]
        notes.append(f"column {column} holds words: one column of 0 and 1 for each of {len(order)} ({_some(order)})")
        if missing := words[j].missing():
            notes.append(f"{missing} of {count} rows have a missing value in column {column} (its level '(missing)')")
    old, new = len(names), len(new_names)
    flat.resize(count * new, refcheck=False)
    step = max(1, 1_000_000 // new)
    for start in reversed(range(0, count, step)) if words else ():
        stop = min(start + step, count)
        before = flat[start * old : stop * old].reshape(-1, old).copy()
        after = flat[start * new : stop * new].reshape(-1, new)
        for source, place in numeric:
            after[:, place] = before[:, source]
        for place, rows, codes in one_hot:
            after[:, place : place + len(codes)] = rows[start:stop, None] == codes
    return flat.reshape(count, new), new_names, notes


# --- arrays ---


def _array(value: Any, name: str, dtype: type[np.object_] | None = None) -> NDArray[Any]:
    if hasattr(value, "toarray"):
        raise _error(f"'{name}'", "a dense array", type(value).__name__, f"Use {name}.toarray().")
    if isinstance(value, np.ma.MaskedArray):
        raise _error(f"'{name}'", "an array without a mask", "a masked array", "Fill it or drop the masked rows.")
    try:
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value, dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        got = f"{type(value).__name__} ({_one_line(error)})"
        raise _error(f"'{name}'", "an array of numbers", got, "Convert it with numpy.array.") from None


def _load_pair(x: Any, y: Any, name: str) -> Table:
    frame = hasattr(x, "columns")
    matrix = None if frame else _array(x, "X")
    shape = (len(x), len(x.columns)) if matrix is None else matrix.shape
    if len(shape) != 2 or 0 in shape:
        way = "Give at least one row and one column." if len(shape) == 2 else "Use X.reshape(len(X), -1)."
        raise _error("'X'", "the shape (rows, columns)", str(shape), way)
    # numpy would turn the list [1, "a"] into two strings.
    classes = _array(y, "y", np.object_ if isinstance(y, list | tuple) else None)
    if classes.ndim != 1:
        raise _error("'y'", "the shape (rows,)", str(classes.shape), "Use y.ravel(), or y.argmax(1) if it is one-hot.")
    if shape[0] != len(classes):
        raise _error("'X' and 'y'", "as many rows", f"{shape[0]} and {len(classes)}", "Drop what has no partner.")
    if matrix is None:
        flat, names, words = _read_frame(x)
    else:
        names, words = [f"x{j}" for j in range(shape[1])], {}
        flat = _finite(matrix, names).reshape(-1)
    features, names, notes = _one_hot(flat, shape[0], names, words)
    return _finish(name, features, names, *_array_classes(classes), notes)


def _finite(values: NDArray[Any], names: Sequence[str]) -> Features:
    if values.dtype.kind not in "biuf":
        way = "Use X.astype(float), or give a data frame or a CSV file, whose words become numbers."
        raise _error("'X'", "an array of numbers", f"an array of {values.dtype}", way)
    with np.errstate(over="ignore"):
        result = np.array(values, np.float32, order="C")
    if not np.isfinite(result).all():
        rows, columns = np.nonzero(~np.isfinite(result))
        row = int(rows[columns == columns[0]][0])
        counts = np.bincount(columns)
        got = f"{values[row, columns[0]]} in row {row} {_ARRAY_ROW} ({counts[columns[0]]} such values in the column, "
        got += f"{counts.sum()} in all)"
        where = f"column {_quote(names[columns[0]])} of 'X'"
        raise _error(where, "finite float32 numbers", got, "Fill or drop them first.")
    return result


def _check_missing(where: str, values: Sequence[Any]) -> None:
    if missing := [row for row, value in enumerate(values) if not isinstance(value, str) and str(value) in _NOTHING]:
        got = f"{len(missing)} missing, NaN or infinite values, the first in row {missing[0]} {_ARRAY_ROW}"
        raise _error(where, "a value in every row", got, "Fill or drop these rows first.")


def _read_frame(frame: Any) -> tuple[Features, list[str], dict[int, _Levels]]:
    names = [str(key) for key in frame.columns]
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise _error("'X'", "different column names", f"{_quote(name)} {times} times", "Rename them.")
    flat, words = np.empty(len(frame) * len(names), np.float32), {}
    matrix = flat.reshape(-1, len(names))
    for j, (key, name) in enumerate(zip(frame.columns, names, strict=True)):
        values = _array(frame[key], name)
        if values.dtype.kind in "biuf":
            matrix[:, j] = _finite(values[:, None], [name])[:, 0]
            continue
        if values.dtype.kind not in "OUT":
            raise _error(
                f"column {_quote(name)} of 'X'", "numbers or words", str(values.dtype), "Convert it to numbers."
            )
        _check_missing(f"column {_quote(name)} of 'X'", values.tolist())
        cells, tally = list(map(str, values.tolist())), _Numbers(name, _ARRAY_ROW)
        matrix[:, j] = tally.add(cells, range(len(cells)))
        if not tally.is_numeric():
            words[j] = _Levels(name, MAXIMUM_LEVELS)
            words[j].add(cells, range(len(cells)))
    return flat, names, words


def _array_classes(y: NDArray[Any]) -> tuple[Labels, list[str]]:
    values = [value.item() if isinstance(value, np.generic) else value for value in y.tolist()]
    _check_missing("'y'", values)
    kinds = sorted({type(value).__name__ for value in values})
    if len(kinds) > 1 or kinds[0] not in ("bool", "int", "float", "str") or y.dtype.kind in "Mm":
        got = f"{y.dtype} with values of type {', '.join(kinds)}"
        raise _error("'y'", "integers, strings or booleans (one of them)", got, "Convert them, e.g. to strings.")
    whole = kinds == ["float"] and all(value.is_integer() for value in values)
    codes: dict[Any, int] = {}
    numbers = np.fromiter((codes.setdefault(value, len(codes)) for value in values), np.int32, len(values))
    if len(codes) > MAXIMUM_CLASSES:
        way = "It looks like a measurement or an identifier: choose another, or group its values."
        raise _error("'y'", f"at most {MAXIMUM_CLASSES} classes", f"{len(codes)} different values", way)
    return _number_classes(numbers, [str(int(value) if whole else value) for value in codes])


def _load_npz(path: Path, target: str | None) -> Table:
    shown, label, way = repr(str(path)), target or "y", "Write it with numpy.savez(path, X=X, y=y)."
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise _error(shown, "an NPZ archive", "a single array", way)
            others = [name for name in archive.files if name != label]
            feature = others[0] if target and len(others) == 1 else "X"
            if label not in archive.files or feature not in others:
                got = _known(label, archive.files) if archive.files else "none."
                way = f"{way[:-1]}, or name the array of the classes with target='...'."
                raise InputError(f"{shown}: expected the arrays {_quote(feature)} and {_quote(label)}. {got} {way}")
            x, y = archive[feature], archive[label]
    except InputError:
        raise
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        RuntimeError,
        MemoryError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise _error(shown, "an NPZ archive of arrays without objects", _one_line(error), way) from None
    return _load_pair(x, y, path.name)


# --- both ---


def _number_classes(codes: NDArray[np.int32], levels: Sequence[str]) -> tuple[Labels, list[str]]:
    """Labels, with the classes in the order of their values (all numbers) or names; errors where they are none."""
    rows, counts, total = len(codes), np.bincount(codes, minlength=len(levels)), len(levels)
    numeric = all(_parse(level)[1] == "number" for level in levels)
    order = sorted(range(total), key=lambda k: (float(levels[k]) if numeric else 0.0, levels[k]))
    names, few = [levels[k] for k in order], int(counts.argmin())
    if total == 1:
        raise _error("the target", "two classes or more", f"one, {_quote(names[0])}", "Choose another target.")
    if numeric and (same := [k for k in range(1, total) if float(names[k - 1]) == float(names[k])]):
        pair = f"{names[same[0] - 1]!r} and {names[same[0]]!r}"
        raise _error("the target", "one spelling of a class", pair, "Write them alike.")
    if numeric and total > 20 and (counts[few] < MINIMUM_PER_CLASS or any(float(name) % 1 for name in names)):
        got = f"{total} different numbers in {rows} rows, which looks like a measurement, not a class"
        raise _error("the target", "few classes", got, "Choose another target, or cut the numbers into classes.")
    if counts[few] < MINIMUM_PER_CLASS:
        expected = f"{MINIMUM_PER_CLASS} rows or more of every class (every part needs it)"
        got = f"{counts[few]} of {_quote(levels[few])} ({(counts < MINIMUM_PER_CLASS).sum()} of {total} have too few)"
        raise _error("the target", expected, got, "Join small classes or drop their rows.")
    rank = np.empty(total, np.int64)
    rank[order] = np.arange(total)
    return rank[codes], names


def _finish(
    name: str, features: Features, columns: list[str], labels: Labels, classes: list[str], notes: list[str]
) -> Table:
    """Add the notes that any table may need, and the fingerprint."""
    rows, low, high = len(features), np.fmin.reduce(features), np.fmax.reduce(features)
    for column, values in zip(columns, features.T, strict=True):
        if missing := int(np.isnan(values).sum()):
            what = f"{missing} of {rows} rows have a missing value in column {_quote(column)}"
            notes.append(f"{what} (mean of the training part fills it)")
    if constant := [columns[j] for j in np.flatnonzero(low == high)]:
        notes.append(f"{len(constant)} of {low.size} columns have one value in every row, used as 0: {_some(constant)}")
    largest = np.maximum(np.abs(low), np.abs(high))
    coarse = 1000 * np.spacing(largest).astype(np.float64) > high.astype(np.float64) - low
    for j in np.flatnonzero(coarse & ((low != high) | (largest >= 2**24))):
        what = f"column {_quote(columns[j])} reaches {largest[j]:.7g}, where float32 cannot tell its values apart"
        notes.append(f"{what}: subtract a constant from it first")
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

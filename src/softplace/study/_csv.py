"""How a CSV file becomes features and labels (the docstring of `softplace.study.data` has the rules).

What arrays and data frames share with it is here too: the error's form, columns of words, the numbering of the classes.
"""

import contextlib
import csv
import difflib
import gzip
import io
import itertools
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from softplace.errors import InputError, nearest

Features = NDArray[np.float32]
Labels = NDArray[np.int64]

MINIMUM_PER_CLASS = 5
"""The fewest rows that a class may have: three to train on, one to validate, one to test."""
MAXIMUM_LEVELS = 100
MAXIMUM_CLASSES = 10_000

LARGEST = float(np.finfo(np.float32).max)
"""The largest number that a feature may be."""

_MISSING = frozenset({"", "NA", "N/A", "n/a", "null", "NULL", "?"})
_MISSING_LEVEL = "(missing)"
_CELLS_PER_BLOCK = 20_000
_CSV_ROW = "(the header is row 1)"


def input_error(what: str, expected: str, got: str, way_out: str) -> InputError:
    return InputError(f"{what}: expected {expected}, got {got}. {way_out}")


def quote(text: str) -> str:
    """A name or cell for a message: quoted, on one line, cut where it is long."""
    return repr(text if len(text) <= 40 else text[:39] + "…")


def some(names: Sequence[str]) -> str:
    return ", ".join(map(quote, names[:8])) + (", ..." if len(names) > 8 else "")


def known_names(name: str, names: Sequence[str]) -> str:
    """The names on one line, at most 20, the nearest first."""
    near = difflib.get_close_matches(name, names, n=3)
    shown = list(dict.fromkeys([*near, *names]))[:20] if len(names) > 20 else names
    return nearest(name, [quote(each)[1:-1] for each in shown] + ["..."] * (len(names) > len(shown)))


def at_most_20(notes: list[str], more: str) -> list[str]:
    """Notes on single columns, for a report: of a wide table the first 20, and one line for the others."""
    return notes if len(notes) <= 20 else [*notes[:20], f"{len(notes) - 20} more columns {more}"]


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


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
                raise input_error(shown, "a header and rows", "an empty file", "Give a file with data.")
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
                    raise input_error(f"{shown}, row {rows[k]} {_CSV_ROW}", f"{width} cells", str(len(block[k])), way)
                if block:
                    yield rows, list(zip(*block, strict=True))
    except UnicodeDecodeError:
        raise input_error(shown, "text in UTF-8", _bad_byte(path), "Save it as CSV in UTF-8.") from None
    except csv.Error as error:
        way = 'Check that every quote (") is closed and a comma follows it.'
        if "field limit" in str(error):
            way = 'Shorten the cell, or close a quote (") that is open.'
        raise input_error(f"{shown}, line {reader.line_num}", "cells in CSV form", one_line(error), way) from None
    except (OSError, EOFError, zlib.error) as error:
        way = "Check that it may be read, or fetch it again."
        raise input_error(shown, "a whole file that can be read", one_line(error), way) from None


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


def parse(cell: str) -> tuple[float, str]:
    """The number that a cell holds (else NaN), and what the cell is."""
    text = cell.strip()
    if text in _MISSING:
        return np.nan, "missing"
    try:
        value = float(text.replace("_", "no"))  # float() reads the code '1_2' as 12
    except ValueError:
        return np.nan, "word"
    return (value, "number") if abs(value) <= LARGEST else (np.nan, "not finite")


@dataclass
class Numbers:
    """Turns the cells of a column into numbers, and counts what they are."""

    column: str
    row_rule: str
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, cells: Sequence[str], rows: Sequence[int]) -> NDArray[np.float64]:
        """The cells as numbers, NaN where a cell is none."""
        try:
            values = np.fromiter(map(float, cells), np.float64, len(cells))
            if np.abs(values).max() <= LARGEST and "_" not in "".join(cells):  # false for NaN, infinity and 1e39
                self.counts["number"] += len(cells)
                return values
        except ValueError:
            pass
        table = {}
        for cell, count in Counter(cells).items():
            table[cell], kind = parse(cell)
            self.counts[kind] += count
            if kind not in self.first:
                self.first[kind] = rows[cells.index(cell)], cell
        return np.fromiter(map(table.__getitem__, cells), np.float64, len(cells))

    def is_numeric(self) -> bool:
        """Whether the column holds numbers rather than words, by majority; an error where it holds both, or none."""
        numbers, words = self.counts["number"] + self.counts["not finite"], self.counts["word"]
        where = f"column {quote(self.column)}"
        if not numbers + words:
            raise input_error(
                where, "values", f"{self.counts['missing']} missing cells and no other", "Drop the column."
            )
        if words >= numbers:
            return False
        for kind, expected in (("word", "a number"), ("not finite", "a finite float32 number")):
            if count := self.counts[kind]:
                row, cell = self.first[kind]
                got = f"{quote(cell)} ({count} such cells in the column)"
                way = "Fix the cell, leave it empty (the mean fills it), or drop the column."
                raise input_error(f"{where}, row {row} {self.row_rule}", expected, got, way)
        return True


@dataclass
class Levels:
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
            got = f"more by row {rows[-1]}, e.g. {some(list(self.levels)[:3])}"
            way = "It looks like a measurement or an identifier: choose another column, drop it, or group its values."
            raise input_error(f"column {quote(self.column)}", f"at most {self.limit} different values", got, way)
        self.blocks.append(np.fromiter(map(self.cells.__getitem__, cells), np.int32, len(cells)))

    def codes(self) -> NDArray[np.int32]:
        return np.concatenate(self.blocks)

    def missing(self) -> int:
        return int((self.codes() == self.levels.get(_MISSING_LEVEL, -1)).sum())


def load_csv(path: Path, target: str | None) -> tuple[Features, list[str], Labels, list[str], list[str]]:
    """Features, their names, labels, class names and notes of a CSV file."""
    shown, blocks = repr(str(path)), _blocks(path)
    header = [cell.strip() for (cell,) in next(blocks)[1]]
    _check_header(shown, header)
    if target is None or target not in header:
        way = f"{known_names(target or '', header)} Give target='...' (--target on the command line)."
        raise input_error(f"'target' for {shown}", "a column", "none" if target is None else quote(target), way)
    at = header.index(target)
    tallies = [Numbers(name, _CSV_ROW) for name in header if name != target]
    classes = Levels(target, MAXIMUM_CLASSES)
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
        raise input_error(shown, "rows below the header", "none", "Give a file with data.")
    if classes.first_missing is not None:
        got = f"{classes.missing()} missing cells, the first in row {classes.first_missing} {_CSV_ROW}"
        raise input_error(
            f"column {quote(target)} (the target)", "a class in every row", got, "Fill or drop these rows."
        )
    words = {j: Levels(tally.column, MAXIMUM_LEVELS) for j, tally in enumerate(tallies) if not tally.is_numeric()}
    labels, class_names = number_classes(classes.codes(), list(classes.levels))
    if words:
        for rows, columns in itertools.islice(_blocks(path), 1, None):
            for j, levels in words.items():
                levels.add(columns[j + (j >= at)], rows)
    features, names, notes = one_hot(flat, count, [tally.column for tally in tallies], words)
    if all(parse(name)[1] == "number" for name in header):
        notes.append("every column name is a number: is the first row of the file a header?")
    return features, names, labels, class_names, notes


def _check_header(shown: str, header: Sequence[str]) -> None:
    if any("\0" in name for name in header):
        raise input_error(shown, "text", "NUL bytes, as in a binary or UTF-16 file", "Save it as CSV in UTF-8.")
    if not header:
        raise input_error(shown, "the names of the columns in row 1", "a blank row", "Start the file with its header.")
    if len(header) < 2:
        mark = next((mark for mark in (";", "\t", "|") if mark in "".join(header)), None)
        way = f"Is it separated by {mark!r}? Save it with commas." if mark else "No feature column is left: add one."
        raise input_error(shown, "a column for the class and one or more features", f"only {len(header)} column", way)
    if "" in header:
        got = f"none for column {header.index('') + 1} of {len(header)}"
        way = "Name it or drop it (for an index that pandas wrote: to_csv(index=False))."
        raise input_error(shown, "a name for every column", got, way)
    name, times = Counter(header).most_common(1)[0]
    if times > 1:
        way = "Rename them (or has the file no header?)."
        raise input_error(shown, "different column names", f"{quote(name)} {times} times", way)


def one_hot(
    flat: Features, count: int, names: Sequence[str], words: dict[int, Levels]
) -> tuple[Features, list[str], list[str]]:
    """Put columns of 0 and 1 in the place of the columns of words, in `flat` itself, from the last row to the first."""
    new_names: list[str] = []
    notes: list[str] = []
    gaps: list[str] = []
    numeric: list[tuple[int, int]] = []
    one_hot: list[tuple[int, NDArray[np.int32], NDArray[np.int32]]] = []
    for j, name in enumerate(names):
        if j not in words:
            numeric.append((j, len(new_names)))
            new_names.append(name)
            continue
        order, column = sorted(words[j].levels), quote(name)
        codes = np.array([words[j].levels[level] for level in order], np.int32)
        one_hot.append((len(new_names), words[j].codes(), codes))
        new_names += [f"{name}={level}" for level in order]
        notes.append(f"column {column} holds words: one column of 0 and 1 for each of {len(order)} ({some(order)})")
        if missing := words[j].missing():
            gaps.append(f"{missing} of {count} rows have a missing value in column {column} (its level '(missing)')")
    notes = at_most_20(notes, "hold words: one column of 0 and 1 for each word")
    notes += at_most_20(gaps, "of words have missing values (their level '(missing)')")
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


def _value(level: str) -> float | int:
    """The number that a class is, exactly: a float cannot tell whole numbers above 2**53 apart."""
    try:
        return int(level)
    except ValueError:
        return float(level)


def number_classes(codes: NDArray[np.int32], levels: Sequence[str]) -> tuple[Labels, list[str]]:
    """Labels, with the classes in the order of their values (all numbers) or names; errors where they are none."""
    rows, counts, total = len(codes), np.bincount(codes, minlength=len(levels)), len(levels)
    kinds = {parse(level)[1]: level for level in levels}
    if "not finite" in kinds and "word" not in kinds:
        got = quote(kinds["not finite"])
        raise input_error("the target", "classes that are finite numbers or words", got, "Fix or drop these rows.")
    numeric = kinds.keys() == {"number"}
    order = sorted(range(total), key=lambda k: (_value(levels[k]) if numeric else 0, levels[k]))
    names, few = [levels[k] for k in order], int(counts.argmin())
    if total == 1:
        raise input_error("the target", "two classes or more", f"one, {quote(names[0])}", "Choose another target.")
    if numeric and (same := [k for k in range(1, total) if _value(names[k - 1]) == _value(names[k])]):
        pair = f"{names[same[0] - 1]!r} and {names[same[0]]!r}"
        raise input_error("the target", "one spelling of a class", pair, "Write them alike.")
    if numeric and total > 20 and (counts[few] < MINIMUM_PER_CLASS or any(float(name) % 1 for name in names)):
        got = f"{total} different numbers in {rows} rows, which looks like a measurement, not a class"
        raise input_error("the target", "few classes", got, "Choose another target, or cut the numbers into classes.")
    if counts[few] < MINIMUM_PER_CLASS:
        expected = f"{MINIMUM_PER_CLASS} rows or more of every class (every part needs it)"
        got = f"{counts[few]} of {quote(levels[few])} ({(counts < MINIMUM_PER_CLASS).sum()} of {total} have too few)"
        raise input_error("the target", expected, got, "Join small classes or drop their rows.")
    rank = np.empty(total, np.int64)
    rank[order] = np.arange(total)
    return rank[codes], names

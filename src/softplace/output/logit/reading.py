"""Tables of a person: CSV and Parquet files, data frames, dicts of columns; missing and infinite cells named.

No axes. The packages of the extra `logit` are imported here, when they are used.
"""

import importlib
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from softplace.errors import InputError, nearest

if TYPE_CHECKING:
    import pandas as pd

RowName = Callable[[int], str]
"""What a row is called in a message."""
_SHOWN = 20


def require(name: str) -> ModuleType:
    """A package of the extra `logit`.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(
            f"tables and formulas need {name}, which is not installed. Install it: pip install 'softplace[logit]'."
        ) from None


def read_table(data: Any) -> "tuple[pd.DataFrame, RowName]":
    """The rows of a file or an object, and how they are called.

    Args:
        data: A path that ends in .csv, .csv.gz, .tsv, .parquet or .pq; a pandas data frame; a dict of columns.

    Raises:
        InputError: It cannot be read, has no rows, or names a column twice.
    """
    pd = require("pandas")
    if isinstance(data, str | os.PathLike):
        frame, name = _read_file(Path(data), pd)
    elif isinstance(data, pd.DataFrame):
        frame, labels = data.reset_index(drop=True), list(data.index)

        def name(row: int) -> str:
            return f"row {labels[row]!r}"
    elif isinstance(data, Mapping):
        try:
            frame = pd.DataFrame(dict(data))
        except ValueError as error:
            raise InputError(f"'data': expected columns of equal length. Got '{one_line(error)}'.") from None

        def name(row: int) -> str:
            return f"row {row} (the first is row 0)"
    else:
        raise InputError(
            f"'data' must be a path, a pandas data frame or a dict of columns. Got {type(data).__name__}. "
            "Give e.g. 'data.csv'."
        )
    frame.columns = [str(column) for column in frame.columns]
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise InputError(f"'data': expected different column names. Got {quoted(twice[0])} more than once. Rename one.")
    if not len(frame):
        raise InputError("'data': expected rows. Got none.")
    return frame, name


def _read_file(path: Path, pd: ModuleType) -> "tuple[pd.DataFrame, RowName]":
    shown = repr(str(path))
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = next((suffix for suffix in reversed(suffixes) if suffix != ".gz"), "")
    if kind not in (".csv", ".tsv", ".parquet", ".pq"):
        raise InputError(
            f"{shown}: expected a path that ends in .csv, .csv.gz, .tsv or .parquet. Got {kind or 'none'}."
        )
    if path.is_dir():
        raise InputError(f"{shown}: expected a file. Got a folder. Check the path.")
    try:
        if kind in (".parquet", ".pq"):
            require("pyarrow")
            return pd.read_parquet(path).reset_index(drop=True), lambda row: f"row {row} (the first is row 0)"
        mark = "\t" if kind == ".tsv" else ","
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header
            warnings.simplefilter("ignore", pd.errors.DtypeWarning)
            frame = pd.read_csv(path, sep=mark, index_col=False, low_memory=False, encoding="utf-8-sig")
        _check_header(path, list(frame.columns), mark, pd)
        return frame, lambda row: f"row {row + 2} (the header is row 1)"
    except (InputError, MemoryError):
        raise
    except FileNotFoundError:
        raise InputError(f"{shown}: expected a file. Got none. Check the path.") from None
    except pd.errors.EmptyDataError:
        raise InputError(f"{shown}: expected a header and rows. Got an empty file.") from None
    except UnicodeDecodeError:
        raise InputError(f"{shown}: expected text in UTF-8. Got other bytes. Save it as CSV in UTF-8.") from None
    except pd.errors.ParserWarning:
        raise InputError(
            f"{shown}: expected rows as long as the header. Got longer ones. Quote cells that hold a comma."
        ) from None
    except Exception as error:  # pyarrow and pandas have many
        what = "a Parquet file" if kind in (".parquet", ".pq") else "rows of cells with commas between"
        raise InputError(f"{shown}: expected {what}. Got '{one_line(error)}'.") from None


def _check_header(path: Path, columns: list[str], mark: str, pd: ModuleType) -> None:
    """That a header has the mark that is between its names, and no name twice: pandas renames the second in silence."""
    shown = repr(str(path))
    other = next((each for each in ";\t|," if each != mark and each in columns[0]), None)
    if len(columns) == 1 and other is not None:
        raise InputError(
            f"{shown}: expected names with {mark!r} between. Got {quoted(columns[0])}. Save it with {mark!r} "
            "between cells."
        )
    if any(re.fullmatch(r".*\.\d+", str(column)) for column in columns):  # as pandas renames
        first = pd.read_csv(path, sep=mark, header=None, nrows=1, dtype=str, index_col=False, encoding="utf-8-sig")
        names = first.iloc[0].dropna()
        twice = names[names.duplicated()]
        if len(twice):
            raise InputError(
                f"{shown}: expected different column names. Got {quoted(twice.iloc[0])} more than once. Rename one."
            )


def check_columns(frame: "pd.DataFrame", names: Iterable[str], where: str) -> None:
    """That the table has these columns."""
    columns = list(frame.columns)
    for name in names:
        if name not in columns:
            raise InputError(f"{where}: no column {quoted(name)} in the data. {nearest(name, _few(name, columns))}")


def _few(name: str, columns: list[str]) -> list[str]:
    """At most so many of the names, the nearest first."""
    import difflib

    if len(columns) <= _SHOWN:
        return columns
    close = difflib.get_close_matches(name, columns, n=3)
    return [*[*dict.fromkeys([*close, *columns])][:_SHOWN], "..."]


def complete_rows(
    frame: "pd.DataFrame", columns: Sequence[str], name: RowName, *, drop_missing: bool
) -> NDArray[np.intp]:
    """Positions of the rows with no missing cell in these columns.

    Raises:
        InputError: A cell is missing and `drop_missing` is not asked for, or every row has one, or a cell is infinite.
    """
    missing = np.column_stack([frame[column].isna().to_numpy(dtype=bool) for column in columns])
    gaps = np.asarray(missing.any(axis=1))
    if gaps.any() and not drop_missing:
        row = int(gaps.argmax())
        column = columns[int(missing[row].argmax())]
        raise InputError(
            f"missing cells: {name(row)}, column {quoted(column)} is the first of {int(missing.sum()):,} in "
            f"{int(gaps.sum()):,} of {len(gaps):,} rows. Fill them, or leave these rows out: drop_missing=True "
            "(--drop-missing)."
        )
    if gaps.all():
        raise InputError(f"missing cells: every row lacks one of {', '.join(map(quoted, columns))}. Nothing is left.")
    for column in columns:
        values = frame[column]
        if values.dtype.kind == "c":
            raise InputError(f"column {quoted(column)}: expected real numbers. Got complex ones. Take their parts.")
        if values.dtype.kind == "f":
            infinite = np.isinf(values.to_numpy())
            if infinite.any():
                row = int(infinite.argmax())
                raise InputError(
                    f"column {quoted(column)}: expected finite numbers. Got {values.iloc[row]} in {name(row)}. "
                    "Fix it or drop the row."
                )
    return np.flatnonzero(~gaps)


def numbers(frame: "pd.DataFrame", column: str, name: RowName) -> NDArray[np.float64]:
    """A column as numbers.

    Raises:
        InputError: It holds words.
    """
    values = frame[column]
    if values.dtype.kind in "biuf":
        return np.asarray(values.to_numpy(dtype=np.float64))
    try:
        return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError):
        row, cell = _first_word(values)
        raise InputError(
            f"column {quoted(column)}: expected numbers. Got {quoted(cell)} in {name(row)}. Choose another column."
        ) from None


def _first_word(values: "pd.Series[Any]") -> tuple[int, str]:
    for row, cell in enumerate(values):
        try:
            float(cell)
        except (TypeError, ValueError):
            return row, str(cell)
    return 0, str(values.iloc[0])


def check_levels(frame: "pd.DataFrame", column: str, name: RowName) -> None:
    """That a column of words does not look like numbers with a slip, or like an identifier.

    Raises:
        InputError: It does.
    """
    values = frame[column]
    if values.dtype.kind in "biufc":
        return
    levels = [level for level in values.unique().tolist() if level == level and level is not None]
    numeric = sum(_is_number(level) for level in levels)
    if len(levels) > 2 and numeric > len(levels) / 2 and numeric < len(levels) and values.dtype.name != "category":
        row, cell = _first_word(values)
        raise InputError(
            f"column {quoted(column)}: expected numbers, as most of its cells are. Got {quoted(cell)} in {name(row)}. "
            f"Fix the cell, or write C({column}) where they are names."
        )
    if len(levels) > max(20, len(frame) // 5):
        raise InputError(
            f"column {quoted(column)}: expected few levels or numbers. Got {len(levels):,} different words in "
            f"{len(frame):,} rows, e.g. {quoted(str(levels[0]))}. Leave it out, or group its levels."
        )


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def quoted(text: Any) -> str:
    """A name or cell for a message, cut where it is long."""
    text = str(text)
    return repr(text if len(text) <= 40 else text[:39] + "…")


def one_line(error: BaseException) -> str:
    """The text of an error on one line."""
    return " ".join(str(error).split())[:160] or type(error).__name__

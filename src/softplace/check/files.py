"""Source files: finding them, and reading Python and notebooks without trusting either.

A notebook's code cells are joined to one text; `locate` maps a line of it back to cell and line.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import stat
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from softplace.check import notebooks

SKIPPED_FOLDERS = frozenset(
    [
        ".git",
        ".hg",
        ".svn",
        "__pycache__",
        ".venv",
        "venv",
        ".env",
        "env",
        "node_modules",
        ".tox",
        ".nox",
        ".eggs",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        "site-packages",
        ".ipynb_checkpoints",
        "build",
        "dist",
        ".softplace_cache",
    ]
)
SUFFIXES = (".py", ".ipynb", ".pyw")
LARGEST = 4_000_000
"""Bytes: larger files are generated, and are reported instead of read."""
LARGEST_NOTEBOOK = 64_000_000
"""Bytes: notebooks hold images."""


class Unreadable(ValueError):  # noqa: N818 - says what the file is
    """A file cannot be checked; the text says why."""


@dataclass(slots=True)
class Source:
    """A file's text. `cells` holds (first line of the joined text, number of the cell) for notebooks."""

    path: str
    text: str
    cells: tuple[tuple[int, int], ...] = ()

    def locate(self, line: int) -> tuple[int | None, int]:
        """The cell (None when not a notebook) and the line in it."""
        found: tuple[int | None, int] = (None, line)
        for first, cell in self.cells:
            if line >= first:
                found = (cell, line - first + 1)
        return found

    def lines(self) -> list[str]:
        """The lines of the text."""
        return self.text.split("\n")

    def tree(self) -> ast.Module:
        """The parsed text; Unreadable when it is not Python 3."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(self.text)
        except SyntaxError as error:
            mixed_tabs = isinstance(error, TabError)  # which Python 2 took for up to eight spaces
            if not self.cells and (mixed_tabs or _is_python_2(self.text)):
                with (
                    warnings.catch_warnings(),
                    contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError),
                ):
                    warnings.simplefilter("ignore")
                    return ast.parse(_from_python_2(self.text))
            cell, line = self.locate(error.lineno or 1)
            where = f"line {line}" if cell is None else f"cell {cell}, line {line}"
            old = " It looks like Python 2." if _is_python_2(self.text) else ""
            raise Unreadable(f"{where}: not valid Python 3 ({error.msg}).{old}") from None
        except (ValueError, RecursionError, MemoryError, OverflowError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError | MemoryError) else str(error)
            raise Unreadable(f"it cannot be parsed ({reason}).") from None


def _is_python_2(text: str) -> bool:
    return bool(
        re.search(r"^\s*print\s+[\"'\w]|^\s*except\s+\w+\s*,\s*\w+\s*:|^\s*exec\s+[\"']|\bxrange\(", text, re.M)
    )


def _from_python_2(text: str) -> str:
    """Python 2 with its usual differences to 3 taken out, line by line, so that places stay true."""
    lines: list[str] = []
    for line in text.expandtabs(8).split("\n"):
        line = re.sub(r"^(\s*)print\b(?!\s*\().*[^\\,(\[{]$|^(\s*)print$", lambda m: f"{m[1] or m[2] or ''}pass", line)
        line = re.sub(r"(:\s+)print\s+(?![=(]).*$", r"\1pass", line)
        line = re.sub(r"\bexcept\s+([\w., ()]+?)\s*,\s*(\w+)\s*:", r"except \1 as \2:", line)
        line = re.sub(r"\braise\s+([\w.]+)\s*,.*$", r"raise \1", line)
        lines.append(re.sub(r"\b0(\d+)\b(?![.\w])", r"0o\1", line) if re.search(r"[=(,]\s*0\d+\b", line) else line)
    return "\n".join(lines)


def find(paths: list[str], excluded: tuple[str, ...], complain: dict[str, str]) -> Iterator[str]:
    """Python files and notebooks under the paths, sorted, each once; `complain` gets what cannot be read."""
    seen: set[str] = set()
    for path in paths:
        if os.path.isdir(path):
            yield from _walk(os.path.normpath(path), excluded, seen, complain)
        elif (real := os.path.realpath(path)) not in seen:
            seen.add(real)
            yield os.path.normpath(path)


def _walk(root: str, excluded: tuple[str, ...], seen: set[str], complain: dict[str, str]) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        complain[os.path.normpath(str(error.filename))] = f"cannot be read ({error.strerror})."

    def wanted(path: str) -> bool:
        return not any(fits(path, pattern) for pattern in excluded)

    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=False):
        folders[:] = sorted(
            name for name in folders if name not in SKIPPED_FOLDERS and wanted(os.path.join(folder, name))
        )
        for name in sorted(names):
            path = os.path.join(folder, name)
            if name.endswith(SUFFIXES) and wanted(path):
                real = os.path.realpath(path) if os.path.islink(path) else os.path.abspath(path)
                if real not in seen:
                    seen.add(real)
                    yield os.path.normpath(path)


def fits(path: str, pattern: str) -> bool:
    """Whether a path ends as a pattern says.

    >>> fits("a/tests", "tests/"), fits("a/b_old.py", "*_old.py"), fits("a/b.py", "b"), fits("a", ".")
    (True, True, False, False)
    """
    pattern = pattern.strip("/")
    return pattern not in ("", ".") and PurePath(path).match(pattern)


def read_bytes(path: str) -> bytes:
    """A file's bytes; Unreadable when that fails or there are too many."""
    most = LARGEST_NOTEBOOK if path.endswith(".ipynb") else LARGEST
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its writer
            raise Unreadable("not a regular file.")
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror}).") from None
    if len(data) > most:
        raise Unreadable(f"larger than {most // 1_000_000} MB: taken for generated and not checked.")
    return data


def decode(path: str, data: bytes) -> Source:
    """The source in these bytes; Unreadable when it is not text or not a notebook."""
    if path.endswith(".ipynb"):
        try:
            return Source(path, *notebooks.joined(data))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise Unreadable(f"it is not a notebook ({type(error).__name__}).") from None
    text, _ = decoded(data)
    if "\0" in text:
        raise Unreadable("it holds zero bytes: not Python source.")
    return Source(path, text.replace("\r\n", "\n").replace("\r", "\n"))


def decoded(data: bytes) -> tuple[str, str]:
    """Python source as text, and its encoding by mark or cookie."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding), encoding
    except (SyntaxError, LookupError, UnicodeError):
        # What is not UTF-8 is nearly always Latin-1 in comments; each byte is a letter there, so lines stay true.
        return data.decode("latin-1"), "latin-1"

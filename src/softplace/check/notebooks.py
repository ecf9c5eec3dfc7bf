"""Notebooks: the code of their cells as one text, and where the strings that hold it lie in the file."""

from __future__ import annotations

import ast
import json
import re
import warnings

# A line that starts with `%(` or `!=` goes on from the one above.
_MAGIC = re.compile(r"^(\s*)(%(?=[\w%])|!(?!=)|\?)(.*)$")
_ASSIGNED_MAGIC = re.compile(r"^(\s*)([\w., ]+=\s*)(%|!)(.*)$")
_PYTHON_CELL = re.compile(r"\s*%%(time|timeit|capture|prun)\b")
_LINE_END = re.compile(r"\r\n?")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}:,]|[^\s\[\]{}:,"]+', re.S)


def joined(data: bytes) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The code of all cells, and (its first line in that text, its number from 1) for each cell of code.

    What a notebook must not be raises ValueError, KeyError, TypeError, IndexError, AttributeError or RecursionError.
    """
    notebook = json.loads(data.decode("utf-8-sig", errors="replace"))
    cells = notebook["cells"] if "cells" in notebook else notebook["worksheets"][0]["cells"]
    kept: list[list[str]] = []
    starts: list[tuple[int, int]] = []
    count = 0
    for number, cell in enumerate(cells if _is_in_python(notebook) else [], 1):
        if cell.get("cell_type") != "code":
            continue
        source = cell.get("source", cell.get("input", ""))
        text = _LINE_END.sub("\n", source if isinstance(source, str) else "".join(source))
        if text.lstrip().startswith("%%") and not _PYTHON_CELL.match(text):
            continue
        starts.append((count + 1, number))
        lines = [_plain_line(line) for line in text.split("\n")]
        count += len(lines)
        kept.append(lines)
    whole = "\n".join(line for lines in kept for line in lines)
    if not _is_valid(whole):
        # A cell that is not Python becomes blank, so that the others are still read.
        whole = "\n".join(
            line for lines in kept for line in (lines if _is_valid("\n".join(lines)) else [""] * len(lines))
        )
    return whole + "\n", tuple(starts)


def _is_in_python(notebook: dict[str, object]) -> bool:
    """Whether a notebook is of Python: what says nothing is."""
    about = notebook.get("metadata")
    if isinstance(about, dict):
        for table, key in (("language_info", "name"), ("kernelspec", "language")):
            given = about.get(table)
            language = given.get(key) if isinstance(given, dict) else None
            if isinstance(language, str):
                return language.lower().startswith(("python", "ipython", "sage"))
    return True


def _plain_line(line: str) -> str:
    """Magics and shell commands become `pass`, in the same place."""
    if match := _MAGIC.match(line):
        return f"{match[1]}pass"
    if match := _ASSIGNED_MAGIC.match(line):
        return f"{match[1]}{match[2]}None"
    return f"pass  # {line}" if line.rstrip().endswith("?") and "#" not in line else line


def _is_valid(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def strings(text: str) -> dict[int, list[tuple[int, int]]]:
    """The spans, with their quotes, of the strings that make the source of each cell, by the cell's number.

    >>> text = '{"cells": [{"source": ["a", "b"]}, {"source": "c"}]}'
    >>> {cell: [text[start:end] for start, end in spans] for cell, spans in strings(text).items()}
    {1: ['"a"', '"b"'], 2: ['"c"']}
    """
    found: dict[int, list[tuple[int, int]]] = {}
    path: list[object] = []
    """The key or the place of what is read, in each object and list around it."""
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in "{[":
            path.append(0 if token == "[" else None)
        elif token in "}]":
            path.pop()
        elif token == ",":
            if isinstance(path[-1], int):
                path[-1] += 1
            else:
                path[-1] = None
        elif path and path[-1] is None:
            path[-1] = json.loads(token)
        elif token[0] == '"' and path[:1] == ["cells"] and path[2:3] == ["source"] and len(path) in (3, 4):
            cell = path[1]
            if isinstance(cell, int):
                found.setdefault(cell + 1, []).append(match.span())
    return found

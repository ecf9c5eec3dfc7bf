"""The source around a site: its statement, and the function that it stands in."""

from __future__ import annotations

import ast
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from softplace.check.project import Project
from softplace.check.values import Site

LONGEST = 6
"""Lines of a statement that are looked at."""


class Around(NamedTuple):
    """What stands around a site."""

    statement: str = ""
    function: str = ""


class Surroundings:
    """Answers by file, which are made when first asked."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._paths = {shown: path for path, shown in project.shown.items()}
        self._spans: dict[str, tuple[list[int], list[_Span]]] = {}
        self._lines: dict[str, list[str]] = {}

    def of(self, site: Site) -> Around:
        """What stands around a site; nothing when its file cannot be read."""
        if site.path not in self._spans:
            self._read(site.path)
        starts, spans = self._spans[site.path]
        lines = self._lines[site.path]
        statement = function = ""
        for span in spans[: bisect_right(starts, site.line)]:
            if span.last >= site.line:  # spans of outer nodes come first, so that the innermost stays
                if span.is_function:
                    function = "\n".join(lines[span.first - 1 : span.last])
                else:
                    shown = lines[span.first - 1 : span.last][:LONGEST]
                    statement = " ".join(line.split("#")[0].strip() for line in shown)
        return Around(statement, function)

    def _read(self, path: str) -> None:
        module = self.project.module(self._paths.get(path, path))
        spans: list[_Span] = []
        for node in _statements(module.tree) if module is not None else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                spans.append(_Span(node.lineno, node.end_lineno or node.lineno, True))
            else:
                body = getattr(node, "body", None)
                last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
                spans.append(_Span(node.lineno, max(node.lineno, last)))
        spans.sort(key=lambda span: (span.first, -span.last))
        self._spans[path] = [span.first for span in spans], spans
        self._lines[path] = [] if module is None else module.source.lines()


class _Span(NamedTuple):
    first: int
    last: int
    is_function: bool = False


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """All statements, without their expressions."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.stmt):
            yield node
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, name, None)
            if isinstance(inner, list):
                stack.extend(inner)

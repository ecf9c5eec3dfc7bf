"""The texts of a project's files for what is written about them, and where each character lies in its file.

Sites count lines from 1 and columns from 0 in bytes of UTF-8, as ast does; what is written counts both from 1, columns
in characters.
"""

from __future__ import annotations

import json
import os
import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

from softplace.check import notebooks
from softplace.check.files import Source, Unreadable, decode, decoded
from softplace.check.findings import Edit
from softplace.check.project import Project
from softplace.check.sites import Site

_LINE_END = re.compile(r"\r\n?|\n")
_CHARACTER = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.|.", re.S)


@dataclass(frozen=True, slots=True)
class Region:
    """A piece of a file: lines and columns in characters, both from 1."""

    line: int
    column: int
    end_line: int
    end_column: int


class Sources:
    """The texts of a project, each decoded once."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._sources: dict[str, Source | None] = {}
        self._lines: dict[str, list[str]] = {}
        self._layouts: dict[str, Layout] = {}

    def of(self, path: str) -> Source | None:
        """A file's source; None when it cannot be read."""
        if path not in self._sources:
            try:
                self._sources[path] = decode(path, self.project.content(os.path.abspath(path)))
            except Unreadable:
                self._sources[path] = None
        return self._sources[path]

    def lines(self, path: str) -> list[str]:
        """A file's lines; in a notebook those of its code."""
        if path not in self._lines:
            source = self.of(path)
            self._lines[path] = [] if source is None else source.lines()
        return self._lines[path]

    def layout(self, path: str) -> Layout | None:
        """Where the text of a source lies in its file; None when it cannot be read."""
        source = self.of(path)
        if source is not None and path not in self._layouts:
            self._layouts[path] = Layout(source, self.project.content(os.path.abspath(path)))
        return self._layouts.get(path)

    def cell(self, site: Site | Edit) -> int | None:
        """The number of a site's cell; None when its file is no notebook."""
        source = self.of(site.path)
        return None if source is None else source.locate(site.line)[0]

    def region(self, site: Site | Edit) -> Region:
        """A site's place in its file, or in its cell."""
        source = self.of(site.path)
        line = site.line if source is None else source.locate(site.line)[1]
        start, end = self._columns(site)
        return Region(line, start + 1, line + site.end_line - site.line, end + 1)

    def region_of_file(self, site: Site | Edit) -> Region:
        """A place in its file: in a notebook that of the JSON string, as other programs show the file."""
        layout = self.layout(site.path)
        if layout is None or not layout.source.cells:
            return self.region(site)
        start, end = self._columns(site)
        first, last = layout.span((site.line, start), (site.end_line, end))
        return Region(*layout.position(first), *layout.position(last))

    def _columns(self, site: Site | Edit) -> tuple[int, int]:
        lines = self.lines(site.path)
        return characters(lines, site.line, site.column), characters(lines, site.end_line, site.end_column)


def characters(lines: list[str], line: int, column: int) -> int:
    """The column in characters of one in bytes, both from 0."""
    text = lines[line - 1] if 0 < line <= len(lines) else ""
    return column if text.isascii() else len(text.encode("utf-8", "surrogatepass")[:column].decode("utf-8", "ignore"))


class Layout:
    """Where each character of a source's text lies in its file. Columns are characters from 0."""

    def __init__(self, source: Source, data: bytes) -> None:
        self.source = source
        self._cells: dict[int, _Cell] = {}
        self.raw, self.encoding = (data.decode("utf-8", errors="replace"), "utf-8") if source.cells else decoded(data)

    @cached_property
    def line_starts(self) -> list[int]:
        """Where each line of the file begins."""
        return [0, *(match.end() for match in _LINE_END.finditer(self.raw))]

    @cached_property
    def _strings(self) -> dict[int, list[tuple[int, int]]]:
        return notebooks.strings(self.raw)

    def _cell(self, number: int) -> _Cell:
        if number not in self._cells:
            self._cells[number] = _Cell(self.raw, self._strings.get(number, []))
        return self._cells[number]

    def span(self, start: tuple[int, int], end: tuple[int, int]) -> tuple[int, int]:
        """Offsets in the file of what lies between two places (line, column) of the text."""
        _, first = self._offsets(*start)
        last, _ = self._offsets(*end)
        return first, first if start == end else last

    def _offsets(self, line: int, column: int) -> tuple[int, int]:
        """Where the character before a place ends, and that after it begins: strings of a notebook lie apart."""
        cell, inside = self.source.locate(line)
        if cell is None:
            offset = self.line_starts[line - 1] + column
            return offset, offset
        found = self._cell(cell)
        at = min(found.line_starts[min(inside, len(found.line_starts)) - 1] + column, len(found.starts) - 1)
        return found.ends[at], found.starts[at]

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of the file, from 1."""
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def written(self, text: str) -> str:
        """Text without line ends as it stands in the file."""
        if not self.source.cells:
            return text
        return json.dumps(text, ensure_ascii=self.raw.isascii())[1:-1]


class _Cell:
    """The characters of a notebook's cell: for each place between them, where one ends and the next begins."""

    def __init__(self, raw: str, spans: list[tuple[int, int]]) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = [spans[0][0] + 1] if spans else [0]
        text: list[str] = []
        for start, end in spans:
            for match in _CHARACTER.finditer(raw, start + 1, end - 1):
                self.starts.append(match.start())
                self.ends.append(match.end())
                text.append(match[0] if len(match[0]) == 1 else json.loads(f'"{match[0]}"'))
        self.starts.append(self.ends[-1])
        self.line_starts = [0, *(match.end() for match in _LINE_END.finditer("".join(text)))]

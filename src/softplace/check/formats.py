"""How a report is written: full, concise, json, sarif or github."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import PurePath
from typing import Any

from softplace.check.findings import Edit, Finding, Fix, Level
from softplace.check.report import Report
from softplace.check.sarif import as_sarif
from softplace.check.sites import Site
from softplace.check.sources import Sources

VERSION = 1
WIDEST = 160
"""Characters of a source line that an excerpt shows: generated code has lines without end."""
_COLOURS = {"error": "1;31", "warning": "1;33", "note": "1;36", "bold": "1", "dim": "2"}


class Writer:
    """Writes one report."""

    def __init__(self, report: Report, sources: Sources, *, colour: bool = False) -> None:
        self.report = report
        self.sources = sources
        self.colour = colour

    def write(self, form: str) -> str:
        """The report in a format, without a line end."""
        if form == "json":
            return json.dumps(self.as_json(), indent=1, ensure_ascii=False)
        if form == "sarif":
            return json.dumps(as_sarif(self.report, self.sources), indent=1, ensure_ascii=False)
        if form == "github":
            return "\n".join(map(self._github, self.report.findings))
        if form == "concise":
            return "\n".join(map(self._concise, self.report.findings))
        return "\n\n".join(map(self._full, self.report.findings))

    def where(self, site: Site) -> str:
        """path:line:column, or path:cell N:line:column."""
        cell, region = self.sources.cell(site), self.sources.region(site)
        inside = "" if cell is None else f"cell {cell}:"
        return f"{printable(site.path)}:{inside}{region.line}:{region.column}"

    def paint(self, text: str, style: str) -> str:
        """Text in a colour, when the output has colours."""
        return f"\033[{_COLOURS[style]}m{text}\033[0m" if self.colour else text

    def summary(self) -> str:
        """One line: files, softmaxes by place, findings by level, what could not be resolved."""
        report = self.report
        places = Counter(each.place for each in report.softmaxes)
        by_place = ", ".join(f"{count} {place}" for place, count in places.most_common())
        levels = Counter(str(each.level) for each in report.findings)
        by_level = ", ".join(f"{levels[level]} {level}{_s(levels[level])}" for level in Level if levels[level])
        parts = [
            f"{report.files} file{_s(report.files)}",
            f"{len(report.softmaxes)} softmax{'es' if len(report.softmaxes) != 1 else ''}"
            + (f" ({by_place})" if by_place else ""),
            f"{len(report.findings)} finding{_s(len(report.findings))}" + (f" ({by_level})" if by_level else ""),
            f"{len(report.unresolved)} unresolved",
        ]
        if report.troubles:
            parts.append(f"{len(report.troubles)} not checked")
        return ", ".join(parts) + "."

    def _concise(self, finding: Finding) -> str:
        level = self.paint(str(finding.level), str(finding.level))
        return f"{self.where(finding.site)}: {level} {finding.code} {finding.message}"

    def _full(self, finding: Finding) -> str:
        head = (
            f"{self.paint(f'{finding.code} {finding.name}', str(finding.level))} ({finding.level}): {finding.message}"
        )
        parts = [head, self._excerpt(finding.site, finding.level, "")]
        parts += [self._excerpt(each.site, Level.NOTE, each.message) for each in finding.related]
        if finding.fix is not None:
            option = "--fix" if finding.fix.safe else "--unsafe-fixes"
            parts.append(f"  {self.paint('fix', 'bold')}: {finding.fix.message} ({option})")
        return "\n".join(parts)

    def _excerpt(self, site: Site, level: Level, message: str) -> str:
        lines = self.sources.lines(site.path)
        region = self.sources.region(site)
        rows = [f"  {self.paint('-->', 'dim')} {self.where(site)}"]
        if site.line <= len(lines):
            start = region.column - 1
            text = "".join(each if each.isprintable() else " " for each in lines[site.line - 1])
            end = region.end_column - 1 if site.end_line == site.line else len(text)
            first = max(0, start - WIDEST // 2) if len(text) > WIDEST else 0
            shown = text[first : first + WIDEST]
            mark = self.paint("^" * max(1, _width(text[start : min(end, first + WIDEST)])), str(level))
            gutter = " " * len(str(region.line))
            rows.append(f"  {region.line} | {shown}")
            rows.append(f"  {gutter} | {' ' * _width(text[first:start])}{mark}{' ' + message if message else ''}")
        elif message:
            rows.append(f"      {message}")
        return "\n".join(rows)

    def _github(self, finding: Finding) -> str:
        kind = {"error": "error", "warning": "warning", "note": "notice"}[str(finding.level)]
        cell, region = self.sources.cell(finding.site), self.sources.region_of_file(finding.site)
        inside = "" if cell is None else f"cell {cell}, line {self.sources.region(finding.site).line}: "
        text = inside + finding.message
        for each in finding.related:
            text += f"\n{self.where(each.site)}: {each.message}"
        properties = {
            "file": _posix(finding.site.path),
            "line": region.line,
            "endLine": region.end_line,
            "col": region.column,
            "title": f"{finding.code} {finding.name}",
        }
        place = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items())
        return f"::{kind} {place}::{_data(text)}"

    def as_json(self) -> dict[str, Any]:
        """The documented schema; see docs."""
        report = self.report
        return {
            "version": VERSION,
            "summary": {
                "files": report.files,
                "softmaxes": dict(Counter(each.place for each in report.softmaxes)),
                "findings": dict(Counter(each.code for each in report.findings)),
                "unresolved": len(report.unresolved),
                "not_checked": len(report.troubles),
            },
            "findings": [self._finding(each) for each in report.findings],
            "softmaxes": [
                {
                    "operation": each.operation,
                    "place": each.place,
                    **self._position(each.site),
                    "layer": None if layer is None else self._position(layer.site),
                }
                for layer, each in report.catalogue()
            ],
            "unresolved": [{**self._position(site), "reason": reason} for site, reason in report.unresolved],
            "not_checked": [{"path": _posix(path), "reason": text} for path, text in sorted(report.troubles.items())],
        }

    def _finding(self, finding: Finding) -> dict[str, Any]:
        return {
            "code": finding.code,
            "name": finding.name,
            "level": str(finding.level),
            **self._position(finding.site),
            "message": finding.message,
            "place": finding.place,
            "related": [{**self._position(each.site), "message": each.message} for each in finding.related],
            "fix": None if finding.fix is None else self._fix(finding.fix),
        }

    def _position(self, site: Site | Edit) -> dict[str, Any]:
        region, cell = self.sources.region(site), self.sources.cell(site)
        position: dict[str, Any] = {
            "path": _posix(site.path),
            "line": region.line,
            "column": region.column,
            "end_line": region.end_line,
            "end_column": region.end_column,
        }
        if cell is not None:
            position["cell"] = cell
        return position

    def _fix(self, fix: Fix) -> dict[str, Any]:
        edits = [{**self._position(each), "text": each.text} for each in fix.edits]
        return {"message": fix.message, "safe": fix.safe, "edits": edits}


def printable(path: str) -> str:
    """A path on one line that cannot steer a terminal."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in path)


def _width(text: str) -> int:
    """Columns of a terminal: the signs of some scripts are two wide."""
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _posix(path: str) -> str:
    return PurePath(path).as_posix()


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

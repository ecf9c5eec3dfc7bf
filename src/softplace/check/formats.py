"""How a report is written: full, concise, json, sarif or github."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from softplace.check.engine import Report
from softplace.check.findings import Finding, Fix, Level
from softplace.check.rules import rules
from softplace.check.values import Site

VERSION = 1
Locate = Callable[[Site], tuple[int | None, int]]
"""The cell (None when the file is no notebook) and the line of a site."""
LinesOf = Callable[[str], list[str]]
_COLOURS = {"error": "1;31", "warning": "1;33", "note": "1;36", "bold": "1", "dim": "2"}
_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


class Writer:
    """Writes one report."""

    def __init__(self, report: Report, locate: Locate, lines_of: LinesOf, *, colour: bool = False) -> None:
        self.report = report
        self.locate = locate
        self.lines_of = lines_of
        self.colour = colour

    def write(self, form: str) -> str:
        """The report in a format, without a line end."""
        if form == "json":
            return json.dumps(self.as_json(), indent=1, ensure_ascii=False)
        if form == "sarif":
            return json.dumps(self.as_sarif(), indent=1, ensure_ascii=False)
        if form == "github":
            return "\n".join(map(self._github, self.report.findings))
        if form == "concise":
            return "\n".join(map(self._concise, self.report.findings))
        return "\n\n".join(map(self._full, self.report.findings))

    def where(self, site: Site) -> str:
        """path:line:column, or path:cell N:line:column."""
        cell, line = self.locate(site)
        inside = "" if cell is None else f"cell {cell}:"
        return f"{site.path}:{inside}{line}:{site.column + 1}"

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
        lines = self.lines_of(site.path)
        _, line = self.locate(site)
        arrow = self.paint("-->", "dim")
        rows = [f"  {arrow} {self.where(site)}"]
        if site.line <= len(lines):
            text = lines[site.line - 1]
            start = len(text.encode()[: site.column].decode("utf-8", "ignore"))
            end = (
                len(text.encode()[: site.end_column].decode("utf-8", "ignore"))
                if site.end_line == site.line
                else len(text)
            )
            shown = text.replace("\t", " ")
            mark = self.paint("^" * max(1, end - start), str(level))
            gutter = " " * len(str(line))
            rows.append(f"  {line} | {shown}")
            rows.append(f"  {gutter} | {' ' * start}{mark}{' ' + message if message else ''}")
        elif message:
            rows.append(f"      {message}")
        return "\n".join(rows)

    def _github(self, finding: Finding) -> str:
        kind = {"error": "error", "warning": "warning", "note": "notice"}[str(finding.level)]
        cell, line = self.locate(finding.site)
        text = finding.message if cell is None else f"cell {cell}, line {line}: {finding.message}"
        for each in finding.related:
            text += f"\n{self.where(each.site)}: {each.message}"
        last = finding.site.end_line if cell is None else line
        place = (
            f"file={_property(finding.site.path)},line={line},endLine={max(last, line)},col={finding.site.column + 1}"
        )
        return f"::{kind} {place},title={_property(f'{finding.code} {finding.name}')}::{_data(text)}"

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
                    "calls": [self._position(call) for call in each.calls],
                }
                for each in report.softmaxes
            ],
            "unresolved": [{**self._position(site), "reason": reason} for site, reason in report.unresolved],
            "not_checked": [{"path": _posix(path), "reason": text} for path, text in sorted(report.troubles.items())],
        }

    def _finding(self, finding: Finding) -> dict[str, Any]:
        found: dict[str, Any] = {
            "code": finding.code,
            "name": finding.name,
            "level": str(finding.level),
            **self._position(finding.site),
            "message": finding.message,
            "place": finding.place,
            "related": [{**self._position(each.site), "message": each.message} for each in finding.related],
            "fix": None if finding.fix is None else _fix(finding.fix),
        }
        return found

    def _position(self, site: Site) -> dict[str, Any]:
        cell, line = self.locate(site)
        position: dict[str, Any] = {
            "path": _posix(site.path),
            "line": line,
            "column": site.column + 1,
            "end_line": line + site.end_line - site.line,
            "end_column": site.end_column + 1,
        }
        if cell is not None:
            position["cell"] = cell
        return position

    def as_sarif(self) -> dict[str, Any]:
        """SARIF 2.1.0 (OASIS)."""
        from softplace import __version__

        known = rules()
        order = {rule.code: at for at, rule in enumerate(known)}
        return {
            "$schema": _SARIF_SCHEMA,
            "version": "2.1.0",
            "runs": [
                {
                    "tool": {
                        "driver": {
                            "name": "softplace check",
                            "version": __version__,
                            "rules": [
                                {
                                    "id": rule.code,
                                    "name": "".join(word.capitalize() for word in rule.name.split("-")),
                                    "shortDescription": {"text": rule.name},
                                    "help": {"text": rule.page, "markdown": rule.page},
                                    "defaultConfiguration": {"level": str(rule.level)},
                                }
                                for rule in known
                            ],
                        }
                    },
                    "columnKind": "utf16CodeUnits",
                    "results": [
                        {
                            "ruleId": finding.code,
                            "ruleIndex": order[finding.code],
                            "level": str(finding.level),
                            "message": {"text": finding.message},
                            "locations": [self._location(finding.site)],
                            "relatedLocations": [
                                {"id": at, "message": {"text": each.message}, **self._location(each.site)}
                                for at, each in enumerate(finding.related)
                            ],
                            "properties": {"place": finding.place},
                        }
                        for finding in self.report.findings
                    ],
                    "invocations": [
                        {
                            "executionSuccessful": True,
                            "toolExecutionNotifications": [
                                {
                                    "level": "warning",
                                    "message": {"text": text},
                                    "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(path)}}}],
                                }
                                for path, text in sorted(self.report.troubles.items())
                            ],
                        }
                    ],
                }
            ],
        }

    def _location(self, site: Site) -> dict[str, Any]:
        cell, line = self.locate(site)
        lines = self.lines_of(site.path)
        region: dict[str, Any] = {
            "startLine": line,
            "startColumn": _utf16(lines, site.line, site.column),
            "endLine": line + site.end_line - site.line,
            "endColumn": _utf16(lines, site.end_line, site.end_column),
        }
        location: dict[str, Any] = {
            "physicalLocation": {"artifactLocation": {"uri": _uri(site.path)}, "region": region}
        }
        if cell is not None:
            location["logicalLocations"] = [{"name": f"cell {cell}", "kind": "module"}]
        return location


def _utf16(lines: list[str], line: int, column: int) -> int:
    """A column in bytes of UTF-8 from 0, as one in UTF-16 units from 1."""
    text = lines[line - 1] if 0 < line <= len(lines) else ""
    return len(text.encode()[:column].decode("utf-8", "ignore").encode("utf-16-le")) // 2 + 1


def _fix(fix: Fix) -> dict[str, Any]:
    return {"message": fix.message, "safe": fix.safe}


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _posix(path: str) -> str:
    return PurePath(path).as_posix()


def _uri(path: str) -> str:
    from urllib.parse import quote

    return quote(_posix(path))


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

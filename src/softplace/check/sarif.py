"""A report as SARIF 2.1.0 (OASIS), for code scanning and for viewers.

Lines and columns are those of the file, also in notebooks, where a place is that of the JSON string.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from softplace.check.findings import Edit, Finding, Fix, Rule
from softplace.check.report import Report
from softplace.check.rules import rules
from softplace.check.sites import Site
from softplace.check.sources import Sources

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ROOT = "%SRCROOT%"
"""The name that code scanning gives to the root of the source."""


def as_sarif(report: Report, sources: Sources) -> dict[str, Any]:
    """The log of one run."""
    from softplace import __version__

    known = rules()
    order = {rule.code: at for at, rule in enumerate(known)}
    driver = {"name": "softplace check", "version": __version__, "rules": [_rule(rule) for rule in known]}
    notices = [
        {
            "level": "warning",
            "message": {"text": text},
            "locations": [{"physicalLocation": {"artifactLocation": _artifact(path)}}],
        }
        for path, text in sorted(report.troubles.items())
    ]
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {_ROOT: {"description": {"text": "The folder that the command was run in."}}},
        "results": [_result(each, order[each.code], sources) for each in report.findings],
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notices}],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: Rule) -> dict[str, Any]:
    paragraph = rule.page.split("## What it finds\n", 1)[-1].split("\n\n", 1)[0]
    return {
        "id": rule.code,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": rule.name.replace("-", " ")},
        "fullDescription": {"text": " ".join(paragraph.split())},
        "help": {"text": rule.page, "markdown": rule.page},
        "defaultConfiguration": {"level": str(rule.level)},
    }


def _result(finding: Finding, rule: int, sources: Sources) -> dict[str, Any]:
    related = [
        {"id": at, "message": {"text": each.message}, **_location(each.site, sources)}
        for at, each in enumerate(finding.related)
    ]
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": str(finding.level),
        "message": {"text": finding.message},
        "locations": [_location(finding.site, sources)],
        "relatedLocations": related,
        "properties": {"place": finding.place},
    }
    if finding.fix is not None:
        result["fixes"] = [_fix(finding.fix, sources)]
    return result


def _location(site: Site, sources: Sources) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": _artifact(site.path), "region": _region(site, sources)}
    }
    cell = sources.cell(site)
    if cell is not None:
        location["logicalLocations"] = [{"name": f"cell {cell}", "kind": "module"}]
    return location


def _fix(fix: Fix, sources: Sources) -> dict[str, Any]:
    path = fix.edits[0].path
    layout = sources.layout(path)
    replacements = [
        {
            "deletedRegion": _region(each, sources),
            "insertedContent": {"text": each.text if layout is None else layout.written(each.text)},
        }
        for each in fix.edits
    ]
    change = {"artifactLocation": _artifact(path), "replacements": replacements}
    return {
        "description": {"text": fix.message},
        "artifactChanges": [change],
        "properties": {"safe": fix.safe},
    }


def _region(place: Site | Edit, sources: Sources) -> dict[str, int]:
    region = sources.region_of_file(place)
    return {
        "startLine": region.line,
        "startColumn": region.column,
        "endLine": region.end_line,
        "endColumn": region.end_column,
    }


def _artifact(path: str) -> dict[str, str]:
    if os.path.isabs(path):
        return {"uri": Path(path).as_uri()}
    return {"uri": quote(os.fsencode(PurePath(path).as_posix())), "uriBaseId": _ROOT}

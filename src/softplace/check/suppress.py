"""Comments that silence findings: `# softplace: ignore[SP101] reason`, and `ignore-file[SP301]` for a whole file."""

from __future__ import annotations

import re
from collections.abc import Callable

from softplace.check.findings import Finding
from softplace.check.sites import Site

_LINE = re.compile(r"#\s*softplace:\s*ignore\b(?!-file)\s*(?:\[([^\]]*)\])?")
_FILE = re.compile(r"#\s*softplace:\s*ignore-file\b\s*(?:\[([^\]]*)\])?")
LONGEST = 40
"""Lines of a finding that are looked through for a comment."""


def silenced(finding: Finding, lines_of: Callable[[str], list[str]]) -> bool:
    """Whether a comment silences a finding: on its lines, on those of the softmax that it reports, or for the file."""
    sites = [finding.site, *(each.site for each in finding.related[:1])]
    return any(_by_line(finding.code, site, lines_of(site.path)) for site in sites) or any(
        covers(match[1], finding.code) for line in lines_of(finding.site.path) for match in _FILE.finditer(line)
    )


def _by_line(code: str, site: Site, lines: list[str]) -> bool:
    for line in lines[site.line - 1 : min(site.end_line, site.line + LONGEST)]:
        match = _LINE.search(line)
        if match is not None and covers(match[1], code):
            return True
    return False


def covers(codes: str | None, code: str) -> bool:
    """Whether the codes in brackets hold this one; no brackets hold all.

    >>> covers("SP101, SP3", "SP301"), covers(None, "SP101"), covers("SP2", "SP101")
    (True, True, False)
    """
    if codes is None:
        return True
    return any(code.startswith(each.strip()) for each in codes.split(",") if each.strip())

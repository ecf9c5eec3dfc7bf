"""A baseline: findings that are known, so that only new ones are reported.

A finding is known by its code, file and the text of its line, not by the number of the line: code above may change.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from softplace.check.findings import Finding
from softplace.errors import InputError

VERSION = 1


def fingerprint(finding: Finding, lines_of: Callable[[str], list[str]]) -> str:
    """What a finding is known by."""
    lines = lines_of(finding.site.path)
    text = lines[finding.site.line - 1].strip() if finding.site.line <= len(lines) else ""
    return "|".join((finding.code, Path(finding.site.path).as_posix(), " ".join(text.split())))


def load(path: str) -> Counter[str]:
    """How often each finding is known; InputError when the file cannot be used."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        known = data["findings"]
        return Counter({str(name): int(count) for name, count in known.items()})
    except OSError as error:
        raise InputError(
            f"--baseline {path} cannot be read ({error.strerror}). Write it with --update-baseline."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"--baseline {path} is not a baseline. Write it anew with --update-baseline.") from None


def save(path: str, findings: list[Finding], lines_of: Callable[[str], list[str]]) -> None:
    """Write the findings as known."""
    known = Counter(fingerprint(each, lines_of) for each in findings)
    data = {"version": VERSION, "findings": dict(sorted(known.items()))}
    try:
        Path(path).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"--baseline {path} cannot be written ({error.strerror}). Name a file in a folder that exists."
        ) from None


def unknown(findings: list[Finding], known: Counter[str], lines_of: Callable[[str], list[str]]) -> list[Finding]:
    """The findings that the baseline does not know."""
    left = Counter(known)
    kept: list[Finding] = []
    for finding in findings:
        name = fingerprint(finding, lines_of)
        if left[name] > 0:
            left[name] -= 1
        else:
            kept.append(finding)
    return kept

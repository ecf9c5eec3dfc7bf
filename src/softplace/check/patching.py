"""Fixes made in the bytes of files: encodings, marks, line ends and the JSON of notebooks stay as they are."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections import defaultdict
from itertools import accumulate, pairwise

from softplace.check.files import Unreadable, decode, decoded
from softplace.check.findings import Edit, Finding, Fix
from softplace.check.project import Project
from softplace.check.sources import Layout, characters

Place = tuple[int, int]
"""A line from 1, and a column from 0 in characters."""


def mended(findings: list[Finding], project: Project, *, unsafe: bool) -> dict[str, tuple[bytes, int]]:
    """Of each file that fixes change, by absolute path, its new bytes and how many fixes were made.

    Of fixes that overlap or touch one is made; the others are for another run.
    """
    fixes: dict[str, set[Fix]] = defaultdict(set)
    for finding in findings:
        if finding.fix is not None and (finding.fix.safe or unsafe):
            fixes[finding.fix.edits[0].path].add(finding.fix)
    changed: dict[str, tuple[bytes, int]] = {}
    for path, found in fixes.items():
        place = os.path.abspath(path)
        patch = _Patch(path, project.content(place))
        made = sum(patch.make(fix) for fix in sorted(found, key=lambda each: min(each.edits), reverse=True))
        if made:
            changed[place] = patch.data, made
    return changed


class _Patch:
    """A file on which fixes are made from its end, so that what stands before is where it was."""

    def __init__(self, path: str, data: bytes) -> None:
        self.path, self.data = path, data
        source = decode(path, data)
        self.layout = Layout(source, data)
        self.text, self.raw = source.text, self.layout.raw
        self.lines = source.lines()
        self.starts = list(accumulate((len(line) + 1 for line in self.lines), initial=0))
        self.before = len(self.text) + 1

    def make(self, fix: Fix) -> bool:
        """Make a fix, when the file then is what was meant, and valid."""
        edits = sorted(fix.edits)
        places = [self._places(edit) for edit in edits]
        spans = [(self._offset(start), self._offset(end)) for start, end in places]
        if spans[-1][1] >= self.before or any(left[1] > right[0] for left, right in pairwise(spans)):
            return False
        text, raw = self.text, self.raw
        for edit, place, (start, end) in reversed(list(zip(edits, places, spans, strict=True))):
            text = text[:start] + edit.text + text[end:]
            first, last = self.layout.span(*place)
            raw = raw[:first] + self.layout.written(edit.text) + raw[last:]
        try:
            data = raw.encode(self.layout.encoding)
            source = decode(self.path, data)
            source.tree()
        except (UnicodeError, Unreadable):
            return False
        if source.text != text or self.raw.encode(self.layout.encoding) != self.data:
            return False
        self.text, self.raw, self.data, self.before = text, raw, data, spans[0][0]
        return True

    def _places(self, edit: Edit) -> tuple[Place, Place]:
        """An edit's start and end."""
        return (
            (edit.line, characters(self.lines, edit.line, edit.column)),
            (edit.end_line, characters(self.lines, edit.end_line, edit.end_column)),
        )

    def _offset(self, place: Place) -> int:
        return self.starts[place[0] - 1] + place[1]


def write(path: str, data: bytes, before: bytes) -> str | None:
    """Write a file as a whole or not at all; why it was not written."""
    real = os.path.realpath(path)
    scratch = f"{real}.{os.getpid()}.part"
    try:
        with open(real, "rb") as file:
            if file.read() != before:
                return "it was changed meanwhile, so that its fixes were not made."
        mode = stat.S_IMODE(os.stat(real).st_mode)
        if not mode & 0o222 or not os.access(real, os.W_OK):
            return "it is read-only, so that its fixes were not made."
        with open(scratch, "wb") as file:
            file.write(data)
        os.chmod(scratch, mode)
        os.replace(scratch, real)
    except OSError as error:
        if os.path.exists(scratch):
            os.unlink(scratch)
        return f"it cannot be written ({error.strerror}), so that its fixes were not made."
    return None


def difference(path: str, before: bytes, after: bytes) -> str:
    """What changes in a file, as a unified diff."""
    old, new = (re.findall(r"[^\n]*\n|[^\n]+", decoded(data)[0]) for data in (before, after))
    rows: list[str] = []
    for row in difflib.unified_diff(old, new, path, path):
        rows.append(row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n")
    return "".join(rows)

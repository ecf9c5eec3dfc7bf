"""Markdown fixtures: prose, and code blocks in which `# error: [SP101]` marks the line that must be reported.

A block is a project of one file, or of several where lines `# file: name.py` divide it. Every finding must be marked,
and every mark found; a block without marks is right code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from softplace.check.engine import Report, check
from softplace.check.files import find
from softplace.check.project import Project

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
_FILE = re.compile(r"^# file: (\S+)\n", re.M)
_MARK = re.compile(r"# error: \[([A-Z0-9, ]+)\]")
_HEADING = re.compile(r"^#+ (.*)$", re.M)


@dataclass(frozen=True)
class Block:
    """One code block of a fixture."""

    name: str
    files: dict[str, str]

    def expected(self) -> set[tuple[str, int, str]]:
        """File, line and code of each mark."""
        return {
            (name, number, code.strip())
            for name, text in self.files.items()
            for number, line in enumerate(text.split("\n"), 1)
            for match in _MARK.finditer(line)
            for code in match[1].split(",")
        }

    def checked(self, folder: Path) -> Report:
        """The report on the block, written to a folder."""
        for name, text in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return check(Project(list(find([str(folder)], (), {}))))


def blocks(path: Path) -> list[Block]:
    """The code blocks of a fixture, named by the heading above each."""
    text = path.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in _BLOCK.finditer(text):
        headings = _HEADING.findall(_BLOCK.sub("", text[: match.start()]))
        name = f"{path.stem}-{headings[-1] if headings else ''}-{len(found) + 1}".replace(" ", "-")
        parts = _FILE.split(match[1])
        files = {"code.py": match[1]} if len(parts) == 1 else dict(zip(parts[1::2], parts[2::2], strict=True))
        found.append(Block(name, files))
    return found


def found(report: Report, folder: Path) -> set[tuple[str, int, str]]:
    """File, line and code of each finding."""
    return {
        (Path(each.site.path).relative_to(folder).as_posix(), each.site.line, each.code) for each in report.findings
    }

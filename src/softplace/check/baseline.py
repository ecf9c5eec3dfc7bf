"""A baseline: findings that are known, so that only new ones are reported.

A finding is known by its code, file and the text of its line, not by the number of the line: code above may change.
Files are named from the baseline's folder, wherever the command is run.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from softplace.check.findings import Finding
from softplace.check.sources import Sources
from softplace.errors import InputError

VERSION = 1


class Baseline:
    """The known findings in a file."""

    def __init__(self, path: str, sources: Sources) -> None:
        self.path = path
        self.folder = os.path.dirname(os.path.abspath(path))
        self.sources = sources

    def update(self, findings: list[Finding]) -> None:
        """Write the findings as known; of files that were not checked, what was known and still exists stays."""
        checked = {self._file(path) for path in self.sources.project.shown}
        known = Counter(map(self._name, findings))
        if os.path.exists(self.path):
            for name, count in self._load().items():
                file = name.split("|", 2)[1]
                if file not in checked and os.path.exists(os.path.join(self.folder, file)):
                    known[name] = count
        data = {"version": VERSION, "findings": dict(sorted(known.items()))}
        place = Path(os.path.realpath(self.path))
        scratch = place.with_name(f"{place.name}.{os.getpid()}.part")
        try:
            scratch.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
            scratch.replace(place)
        except OSError as error:
            raise InputError(
                f"--baseline {self.path} cannot be written ({error.strerror}). Name a file in a folder that exists."
            ) from None

    def unknown(self, findings: list[Finding]) -> list[Finding]:
        """The findings that are not known; InputError when the file cannot be used."""
        left = self._load()
        kept: list[Finding] = []
        for finding in findings:
            name = self._name(finding)
            if left[name] > 0:
                left[name] -= 1
            else:
                kept.append(finding)
        return kept

    def _load(self) -> Counter[str]:
        try:
            data = json.loads(Path(self.path).read_text(encoding="utf-8"))
            known = Counter({name: int(count) for name, count in data["findings"].items()})
        except OSError as error:
            raise InputError(
                f"--baseline {self.path} cannot be read ({error.strerror}). Write it with --update-baseline."
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            known = Counter({"": 1})
        if any(name.count("|") < 2 for name in known):
            raise InputError(
                f"--baseline {self.path} is not a baseline. Remove it, and write it with --update-baseline."
            )
        return known

    def _name(self, finding: Finding) -> str:
        lines = self.sources.lines(finding.site.path)
        text = lines[finding.site.line - 1] if finding.site.line <= len(lines) else ""
        return "|".join((finding.code, self._file(finding.site.path), " ".join(text.split())))

    def _file(self, path: str) -> str:
        try:
            return Path(os.path.relpath(path, self.folder)).as_posix()
        except ValueError:  # another drive
            return Path(path).as_posix()

"""Classes by the names of their bases, read from the text: who may stand behind a parameter that says the base only."""

from __future__ import annotations

import re
from collections import defaultdict

from softplace.check.project import Project

_CLASS = re.compile(rb"^[ \t]*class[ \t]+(\w+)[ \t]*\(([^)]*)\)", re.M)
_NAME = re.compile(rb"\w+")


class Heirs:
    """An index that is made when first asked."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._found: dict[str, list[tuple[str, str]]] | None = None

    def of(self, base: str) -> list[tuple[str, str]]:
        """File and name of each class that names this one as a base."""
        if self._found is None:
            self._found = defaultdict(list)
            for path in self.project.shown:
                for match in _CLASS.finditer(self.project.content(path)) if path.endswith(".py") else ():
                    for name in set(_NAME.findall(match[2])):
                        self._found[name.decode()].append((path, match[1].decode()))
        return self._found.get(base, [])

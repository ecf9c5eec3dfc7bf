"""The modules of a project: which file an import means. Files are read and parsed when they are first needed."""

from __future__ import annotations

import ast
import os
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from softplace.check.files import Source, Unreadable, decode, read_bytes

if TYPE_CHECKING:
    from softplace.check.state import Frame

LEVELS_ABOVE = 6
"""How many folders above a file are looked through for what it imports."""


@dataclass(slots=True, eq=False)
class Module:
    """A file as a module. `frame` holds its names once it was interpreted."""

    path: str
    package: bool
    source: Source
    tree: ast.Module
    frame: Frame | None = None
    stars: list[Module] = field(default_factory=list)
    unknown_stars: bool = False


class Project:
    """All files, by absolute path; `shown` gives the path that the user typed.

    `whole`: folders were named, so that what is not listed of them was left out. Where only files were named, what
    they import is looked for everywhere around them.
    """

    def __init__(self, paths: list[str], contents: dict[str, bytes] | None = None, *, whole: bool = True) -> None:
        self.whole = whole
        self.shown: dict[str, str] = {os.path.abspath(path): path for path in paths}
        self.contents = contents or {}
        self.troubles: dict[str, str] = {}
        self.modules: dict[str, Module | None] = {}
        self.folders: set[str] = set()
        self.homes: dict[str, set[str]] = defaultdict(set)
        self._resolved: dict[tuple[str, str], str | None] = {}
        self.beside: dict[str, bool] = {}
        """Of files beside the listed ones that an import may mean, whether they exist."""
        for path in self.shown:
            folder = os.path.dirname(path)
            stem = os.path.basename(path)[:-3]
            if path.endswith(".py") and stem != "__init__":
                self.homes[stem].add(folder)
            while folder not in self.folders:
                self.folders.add(folder)
                parent = os.path.dirname(folder)
                self.homes[os.path.basename(folder)].add(parent)
                if parent == folder:
                    break
                folder = parent
        common = os.path.commonpath(list(self.shown)) if self.shown else ""
        self.root = common if common in self.folders else os.path.dirname(common)

    def module(self, path: str) -> Module | None:
        """The module of a file; None when it cannot be read (`troubles` says why)."""
        if path not in self.modules:
            shown = self.shown.get(path, os.path.relpath(path) if path.startswith(os.getcwd() + os.sep) else path)
            try:
                data = self.content(path)
                if path in self.modules:
                    return None
                source = decode(shown, data)
                self.modules[path] = Module(shown, path.endswith("__init__.py"), source, source.tree())
            except Unreadable as error:
                self.modules[path] = None
                if path in self.shown:
                    self.troubles[shown] = str(error)
        return self.modules[path]

    def forget(self) -> None:
        """Forget what interpreting gave the modules; what was read and parsed stays."""
        for module in self.modules.values():
            if module is not None:
                module.frame = None
                module.stars = []
                module.unknown_stars = False

    def content(self, path: str) -> bytes:
        """A file's bytes; none when it cannot be read."""
        data = self.contents.get(path)
        if data is None:
            try:
                data = read_bytes(path)
            except Unreadable as error:
                self.troubles[self.shown.get(path, path)] = str(error)
                self.modules[path] = None
                data = b""
            self.contents[path] = data
        return data

    def exists(self, path: str) -> bool:
        """Whether a file is of the project: listed, or beside a listed one."""
        if path in self.shown:
            return True
        # A folder above what the user named belongs to the project too, but is only looked at when it is imported.
        if "site-packages" in path or (self.whole and os.path.dirname(path).startswith(self.root + os.sep)):
            return False
        if path not in self.beside:
            self.beside[path] = os.path.isfile(path)
        return self.beside[path]

    def resolve(self, importer: Module, dotted: str, level: int) -> Module | None:
        """The module that an import in a file means (`level`: its leading dots); None when it is an outside one."""
        here = os.path.abspath(importer.path)
        folder = os.path.dirname(here)
        if level:
            for _ in range(level - 1):
                folder = os.path.dirname(folder)
            path = self._under(folder, dotted.split(".") if dotted else [])
            return self._module(path, here)
        where = (folder, dotted)
        if where not in self._resolved:
            self._resolved[where] = self._absolute(folder, dotted.split("."), here)
        return self._module(self._resolved[where], here)

    def inside(self, importer: Module, dotted: str) -> list[Module]:
        """The modules in a folder that is named as imports name it."""
        last = dotted.rsplit(".", 1)[-1]
        found: list[Module] = []
        for path in self.shown:
            folder, name = os.path.split(path)
            if os.path.basename(folder) == last and name.endswith(".py") and name != "__init__.py":
                module = self.resolve(importer, f"{dotted}.{name[:-3]}", 0)
                if module is not None and module is self.module(path):
                    found.append(module)
        return found

    def _module(self, path: str | None, importer: str) -> Module | None:
        return None if path is None or path == importer else self.module(path)

    def _absolute(self, folder: str, words: list[str], importer: str) -> str | None:
        from softplace.check.names import OUTSIDE  # slow to import, and not needed where nothing changed

        outside = words[0] in OUTSIDE
        above = folder
        for level in range(LEVELS_ABOVE):
            # A file named like a known package is that package only where Python would find it first: at a root.
            if not outside or level == 0 or not self.exists(os.path.join(above, "__init__.py")):
                path = self._under(above, words)
                if path is not None and path != importer:
                    return path
            if above == self.root and above not in self.folders:
                break
            parent = os.path.dirname(above)
            if parent == above:
                break
            above = parent
        if outside:
            return None
        near = sorted(
            self.homes.get(words[0], ()), key=lambda home: (-len(os.path.commonpath([home, folder])), len(home), home)
        )
        for home in near:
            path = self._under(home, words)
            if path is not None and path != importer:
                return path
        return None

    def _under(self, folder: str, words: list[str]) -> str | None:
        base = os.path.join(folder, *words)
        for path in (os.path.join(base, "__init__.py"), base + ".py"):
            if (words or path.endswith("__init__.py")) and self.exists(path):
                return path
        return None

    def is_folder(self, importer: Module, dotted: str, level: int) -> bool:
        """Whether a dotted name is a folder of the project without __init__.py."""
        folder = os.path.dirname(os.path.abspath(importer.path))
        words = dotted.split(".") if dotted else []
        if level:
            for _ in range(level - 1):
                folder = os.path.dirname(folder)
            return os.path.join(folder, *words) in self.folders
        while True:
            if os.path.join(folder, *words) in self.folders:
                return True
            parent = os.path.dirname(folder)
            if folder == self.root or parent == folder:
                return False
            folder = parent

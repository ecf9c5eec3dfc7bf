"""Import statements: which names they bring, from the project or from outside packages."""

from __future__ import annotations

import ast

from softplace.check.expressions import Expressions
from softplace.check.state import Frame, Lazy
from softplace.check.values import Entries, Library, ModuleValue, Value


class Imports(Expressions):
    """Running imports; what a name means is looked up when it is used."""

    def imports(self, node: ast.Import, frame: Frame) -> bool:
        for alias in node.names:
            if alias.asname is not None:
                frame.variables[alias.asname] = Lazy(alias.name, 0, None)
                continue
            first = alias.name.split(".")[0]
            old = frame.variables.get(first)
            if self.folder_import(alias.name.split("."), frame):
                continue
            if not isinstance(old, Lazy | Library):
                frame.variables[first] = Lazy(first, 0, None)
        return True

    def folder_import(self, words: list[str], frame: Frame) -> bool:
        """`import folder.file` of a folder without __init__.py: its name holds the files that were imported from it."""
        if len(words) < 2 or not self.project.is_folder(frame.module, words[0], 0):
            return False
        if self.project.resolve(frame.module, words[0], 0) is not None:
            return False
        module = self.project.resolve(frame.module, ".".join(words), 0)
        if module is None:
            return False
        held: Value = ModuleValue(module)
        for depth in range(len(words) - 1, 0, -1):
            old: Value | None = frame.variables.get(words[0])
            for word in words[1:depth]:
                old = old.entries.get(word) if isinstance(old, Entries) else None
            held = Entries((old.entries if isinstance(old, Entries) else {}) | {words[depth]: held})
        frame.variables[words[0]] = held
        return True

    def imports_from(self, node: ast.ImportFrom, frame: Frame) -> bool:
        dotted = node.module or ""
        for alias in node.names:
            if alias.name != "*":
                frame.variables[alias.asname or alias.name] = Lazy(dotted, node.level, alias.name)
                continue
            module = self.project.resolve(frame.module, dotted, node.level)
            if module is not None:
                frame.module.stars.append(module)
            elif dotted.split(".")[0] in ("torch", "tensorflow", "keras", "numpy"):
                frame.variables.update(self.starred_library(dotted))
            else:
                frame.module.unknown_stars = True
        return True

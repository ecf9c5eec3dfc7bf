"""Mending findings in the source: edits on exact positions, so that formatting and comments stay as they are.

Safe fixes keep what the program computes, up to rounding. Unsafe ones change what is trained (a softmax before
CrossEntropyLoss goes), and are only offered where nothing else is known to read the result.
"""

from __future__ import annotations

import ast
import os
from collections import defaultdict
from collections.abc import Callable

from softplace.check.engine import Placed
from softplace.check.files import Source
from softplace.check.findings import Edit, Finding, Fix
from softplace.check.project import Project
from softplace.check.values import Site

_READ_BY_LOSS = frozenset({"loss", "returned"})


class Fixer:
    """Plans the fixes of a report."""

    def __init__(self, softmaxes: list[Placed], source_of: Callable[[str], Source | None]) -> None:
        self.uses = {each.site: each.uses for each in softmaxes}
        self.source_of = source_of
        self._calls: dict[str, dict[tuple[int, int, int, int], ast.Call]] = {}

    def plan(self, finding: Finding) -> Fix | None:
        """How a finding can be mended; None when it cannot be by itself."""
        softmax = finding.related[0].site if finding.related else finding.site
        if finding.code == "SP201":
            return self._log_of_softmax(finding.site, softmax)
        if finding.code == "SP402" and finding.related and _inside(finding.site, finding.related[0].site):
            return self._dropped(finding.site, "Leave the softmax out.", safe=True)
        if finding.code == "SP102" and _inside(softmax, finding.site):
            return self._dropped(softmax, "Leave the log-softmax out: the loss takes it.", safe=True)
        if finding.code in ("SP101", "SP106", "SP107") and self._only_loss(softmax, finding.site):
            what = (
                "sigmoid" if finding.code == "SP107" else "softmax or sigmoid" if finding.code == "SP106" else "softmax"
            )
            return self._dropped(softmax, f"Drop the {what}: the loss wants raw scores.", safe=False)
        if finding.code in ("SP103", "SP104") and self._only_loss(softmax, finding.site):
            return self._renamed(softmax)
        return None

    def _only_loss(self, softmax: Site, loss: Site) -> bool:
        return _inside(softmax, loss) or self.uses.get(softmax, frozenset({"?"})) <= _READ_BY_LOSS

    def _call(self, site: Site) -> ast.Call | None:
        """The call at a site, when its file is Python (and no notebook)."""
        if site.path not in self._calls:
            source = self.source_of(site.path)
            found: dict[tuple[int, int, int, int], ast.Call] = {}
            if source is not None and not source.cells and site.path.endswith(".py"):
                for node in ast.walk(source.tree()):
                    if isinstance(node, ast.Call):
                        found[_position(node)] = node
            self._calls[site.path] = found
        return self._calls[site.path].get((site.line, site.column, site.end_line, site.end_column))

    def _text(self, site: Site, node: ast.expr) -> str | None:
        source = self.source_of(site.path)
        return None if source is None else ast.get_source_segment(source.text, node)

    def _log_of_softmax(self, log: Site, softmax: Site) -> Fix | None:
        outer, inner = self._call(log), self._call(softmax)
        if outer is None or inner is None or log.path != softmax.path or not isinstance(inner.func, ast.Attribute):
            return None
        direct = (outer.args == [inner] and not outer.keywords) or (
            isinstance(outer.func, ast.Attribute) and outer.func.value is inner and not outer.args
        )
        text = self._text(softmax, inner)
        name = inner.func
        if not direct or text is None or name.attr != "softmax" or _last(outer.func) != "log":
            return None
        head = self._text(softmax, name.value)
        if head is None or not text.startswith(head):
            return None
        mended = head + text[len(head) :].replace("softmax", "log_softmax", 1)
        return Fix(message="Use log_softmax.", edits=(_edit(log, mended),), safe=True)

    def _dropped(self, softmax: Site, message: str, *, safe: bool) -> Fix | None:
        call = self._call(softmax)
        if call is None:
            return None
        name = _last(call.func)
        if name in ("Softmax", "LogSoftmax", "Sigmoid"):
            if safe or not isinstance(call.func, ast.Attribute):
                return None
            head = self._text(softmax, call.func.value)
            return Fix(message=message, edits=(_edit(softmax, f"{head}.Identity()"),), safe=False)
        if name not in ("softmax", "log_softmax", "sigmoid"):
            return None
        given = self._given(call)
        text = None if given is None else self._text(softmax, given)
        if given is None or text is None:
            return None
        if not isinstance(given, ast.Name | ast.Attribute | ast.Call | ast.Subscript | ast.Constant):
            text = f"({text})"
        return Fix(message=message, edits=(_edit(softmax, text),), safe=safe)

    def _given(self, call: ast.Call) -> ast.expr | None:
        """What a softmax is of: its first argument, or its receiver when it is a method."""
        func = call.func
        if isinstance(func, ast.Name):
            return call.args[0] if call.args else None
        if isinstance(func, ast.Attribute):
            module = _last(func.value) in ("F", "torch", "functional", "nn", "special", "tf", "jax", "K")
            if module:
                named = next((each.value for each in call.keywords if each.arg in ("input", "logits", "x")), None)
                return call.args[0] if call.args else named
            takes_tensor = call.args and not (isinstance(call.args[0], ast.Constant | ast.UnaryOp))
            return None if takes_tensor else func.value
        return None

    def _renamed(self, softmax: Site) -> Fix | None:
        call = self._call(softmax)
        if call is None or not isinstance(call.func, ast.Attribute) or call.func.attr not in ("softmax", "Softmax"):
            return None
        text, head = self._text(softmax, call), self._text(softmax, call.func.value)
        if text is None or head is None or not text.startswith(head):
            return None
        old, new = ("softmax", "log_softmax") if call.func.attr == "softmax" else ("Softmax", "LogSoftmax")
        mended = head + text[len(head) :].replace(old, new, 1)
        return Fix(message=f"Use {new}.", edits=(_edit(softmax, mended),), safe=False)


def mend(findings: list[Finding], project: Project, *, unsafe: bool) -> int:
    """Write the fixes of findings to their files; how many were made."""
    edits: dict[str, set[Edit]] = defaultdict(set)
    for finding in findings:
        if finding.fix is not None and (finding.fix.safe or unsafe):
            for edit in finding.fix.edits:
                edits[edit.path].add(edit)
    return sum(_apply(path, sorted(found), project) for path, found in edits.items())


def _apply(path: str, edits: list[Edit], project: Project) -> int:
    """Make the edits of one file, from its end; overlapping ones are left for another run."""
    data = project.content(os.path.abspath(path))
    mark = b"\xef\xbb\xbf" if data.startswith(b"\xef\xbb\xbf") else b""
    try:
        text = data[len(mark) :].decode("utf-8")
    except UnicodeDecodeError:
        return 0
    lines = [line.encode() for line in text.split("\n")]
    made = 0
    before = (len(lines) + 1, 0)
    for edit in sorted(edits, reverse=True):
        if (edit.end_line, edit.end_column) > before:
            continue
        first, last = edit.line - 1, edit.end_line - 1
        head, tail = lines[first][: edit.column], lines[last][edit.end_column :]
        lines[first : last + 1] = (head + edit.text.encode() + tail).split(b"\n")
        before = (edit.line, edit.column)
        made += 1
    mended = b"\n".join(lines)
    try:
        ast.parse(mended)
    except (SyntaxError, ValueError):
        return 0
    scratch = f"{path}.{os.getpid()}.part"
    try:
        with open(scratch, "wb") as file:
            file.write(mark + mended)
        os.chmod(scratch, os.stat(path).st_mode & 0o7777)
        os.replace(scratch, path)
    except OSError:
        if os.path.exists(scratch):
            os.unlink(scratch)
        project.troubles[path] = "cannot be written, so that its fixes were not made."
        return 0
    return made


def _position(node: ast.Call) -> tuple[int, int, int, int]:
    return (node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0)


def _inside(inner: Site, outer: Site) -> bool:
    return (
        inner.path == outer.path
        and inner != outer
        and (outer.line, outer.column) <= (inner.line, inner.column)
        and (inner.end_line, inner.end_column) <= (outer.end_line, outer.end_column)
    )


def _edit(site: Site, text: str) -> Edit:
    return Edit(site.path, site.line, site.column, site.end_line, site.end_column, text)


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""

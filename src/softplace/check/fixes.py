"""Fixes of findings: edits of what must change and nothing else, so that formatting and comments stay as they are.

Safe fixes keep what the program computes, up to rounding. Unsafe ones change what is trained (a softmax before
CrossEntropyLoss goes), and are only offered where nothing else is known to read the result.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

from softplace.check.findings import Edit, Finding, Fix
from softplace.check.report import Placed
from softplace.check.rules.sp301_implicit_dim import implied_dim
from softplace.check.sites import Site
from softplace.check.sources import Sources

_READ_BY_LOSS = frozenset({"loss", "returned"})
_ATOMS = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant)
_MODULES = frozenset({"F", "torch", "functional", "nn", "special", "tf", "jax", "K"})
_DROPPED = {"SP101": "softmax", "SP106": "softmax or sigmoid", "SP107": "sigmoid"}
Place = tuple[int, int]
"""A line, and a column in bytes."""


class Fixer:
    """Plans the fixes of a report, in files that the user named."""

    def __init__(self, softmaxes: list[Placed], sources: Sources) -> None:
        self.uses = {each.site: each.uses for each in softmaxes}
        self.sources = sources
        self.shown = set(sources.project.shown.values())
        self._calls: dict[str, dict[tuple[Place, Place], ast.Call]] = {}
        self._assigned: dict[str, dict[int, ast.Assign]] = {}

    def plan(self, finding: Finding) -> Fix | None:
        """How a finding can be mended; None when it cannot be by itself, or a comment would be lost."""
        softmax = finding.related[0].site if finding.related else finding.site
        fix: Fix | None = None
        if finding.code == "SP201":
            fix = self._log_of_softmax(finding.site, softmax)
        elif finding.code == "SP402" and finding.related:
            softmax, argmax = finding.site, finding.related[0].site
            fix = self._dropped_before_argmax(softmax, argmax) if _inside(softmax, argmax) else None
        elif finding.code == "SP102" and _inside(softmax, finding.site):
            fix = self._dropped(
                softmax, "Leave the log-softmax out: the loss takes it.", safe=self._is_over_classes(softmax)
            )
        elif finding.code in _DROPPED and self._only_loss(softmax, finding.site):
            message = f"Drop the {_DROPPED[finding.code]}: the loss wants raw scores."
            fix = self._dropped(softmax, message, safe=False)
        elif finding.code in ("SP103", "SP104") and self._only_loss(softmax, finding.site):
            fix = self._renamed(softmax)
        elif finding.code == "SP301" and finding.rank is not None:
            fix = self._with_dim(finding.site, finding.rank)
        return None if fix is None or self._loses_a_comment(fix) else fix

    def _only_loss(self, softmax: Site, loss: Site) -> bool:
        return _inside(softmax, loss) or self.uses.get(softmax, frozenset({"?"})) <= _READ_BY_LOSS

    def _is_over_classes(self, softmax: Site) -> bool:
        """Whether a softmax does what a loss of torch does: over dim 1, and nothing else."""
        call = self._call(softmax)
        if call is None:
            return False
        dim = _dim(call, self._is_method(call))
        return dim is not None and _integer(dim) == 1 and {each.arg for each in call.keywords} <= {"dim", "input"}

    def _call(self, site: Site) -> ast.Call | None:
        """The call at a site."""
        if site.path not in self._calls:
            source = self.sources.of(site.path) if site.path in self.shown else None
            nodes = [] if source is None else list(ast.walk(source.tree()))
            self._calls[site.path] = {_span(node): node for node in nodes if isinstance(node, ast.Call)}
            self._assigned[site.path] = {id(each.value): each for node in nodes for each in _spare_assignments(node)}
        return self._calls[site.path].get(((site.line, site.column), (site.end_line, site.end_column)))

    def _text(self, path: str, start: Place, end: Place) -> str:
        lines = [line.encode() for line in self.sources.lines(path)[start[0] - 1 : end[0]]]
        lines[-1] = lines[-1][: end[1]]
        lines[0] = lines[0][start[1] :]
        return b"\n".join(lines).decode()

    def _loses_a_comment(self, fix: Fix) -> bool:
        """Whether a comment stands in what is replaced; no comment is ever in what replaces it."""
        return any(
            "#" in (text := self._text(edit.path, (edit.line, edit.column), (edit.end_line, edit.end_column)))
            and _has_comment(text)
            for edit in fix.edits
        )

    def _log_of_softmax(self, log: Site, softmax: Site) -> Fix | None:
        outer, inner = self._call(log), self._call(softmax)
        if outer is None or inner is None or log.path != softmax.path or not isinstance(inner.func, ast.Attribute):
            return None
        direct = (outer.args == [inner] and not outer.keywords) or (
            isinstance(outer.func, ast.Attribute) and outer.func.value is inner and not (outer.args or outer.keywords)
        )
        if not direct or inner.func.attr != "softmax" or _last(outer.func) != "log":
            return None
        if _owner(inner) == "K" or _owner(outer) in ("np", "numpy", "math"):  # no log_softmax there, or no tensor
            return None
        edits = (*self._kept(log.path, outer, inner), _rename(softmax.path, inner.func, "log_softmax"))
        return Fix(message="Use log_softmax.", edits=edits, safe=True)

    def _dropped(self, softmax: Site, message: str, *, safe: bool) -> Fix | None:
        call = self._call(softmax)
        if call is None:
            return None
        name = _last(call.func)
        if name in ("Softmax", "LogSoftmax", "Sigmoid"):
            if safe or not isinstance(call.func, ast.Attribute):
                return None
            return Fix(
                message=message,
                edits=(_edit(softmax.path, _end(call.func.value), _end(call), ".Identity()"),),
                safe=False,
            )
        given = self._given(call) if name in ("softmax", "log_softmax", "sigmoid") else None
        if given is None or isinstance(given, ast.Starred):
            return None
        whole = self._statement(softmax.path, call, given)
        if whole is not None:
            return Fix(message=message, edits=(whole,), safe=safe)
        return Fix(message=message, edits=self._kept(softmax.path, call, given), safe=safe)

    def _statement(self, path: str, call: ast.Call, given: ast.expr) -> Edit | None:
        """The edit that takes out `x = softmax(x)` on lines of its own, where its block has other statements."""
        statement = self._assigned[path].get(id(call))
        lines = self.sources.lines(path)
        if statement is None or ast.unparse(statement.targets[0]) != ast.unparse(given):
            return None
        last, column = statement.end_lineno or 0, statement.end_col_offset or 0
        alone = self._text(path, (statement.lineno, 0), (statement.lineno, statement.col_offset)).strip() == ""
        if not alone or self._text(path, (last, column), (last, len(lines[last - 1].encode()))).strip():
            return None
        return _edit(path, (statement.lineno, 0), (last + 1, 0), "") if last < len(lines) else None

    def _dropped_before_argmax(self, softmax: Site, argmax: Site) -> Fix | None:
        """An argmax is that of the scores when it is taken over the dim that was normalised."""
        inner, outer = self._call(softmax), self._call(argmax)
        if inner is None or outer is None:
            return None
        message = f"Leave the {_last(inner.func)} out."
        one = _dim(inner, self._is_method(inner))
        other = _dim(outer, isinstance(outer.func, ast.Attribute) and _holds(outer.func.value, inner))
        if one is None or other is None:
            return None
        if ast.dump(one) == ast.dump(other):
            return self._dropped(softmax, message, safe=True)
        first, second = _integer(one), _integer(other)
        if first is None or second is None or (first < 0) == (second < 0):
            return None
        return self._dropped(softmax, message, safe=False)  # counted from both ends, the two may be one dim

    def _kept(self, path: str, outer: ast.expr, inner: ast.expr) -> tuple[Edit, ...]:
        """Edits that leave of an expression one in it."""
        (start, end), (first, last) = _span(outer), _span(inner)
        alone = isinstance(inner, _ATOMS) and _stands_alone(self._text(path, first, last))
        opened, closed = ("", "") if alone else ("(", ")")
        return _edit(path, start, first, opened), _edit(path, last, end, closed)

    def _given(self, call: ast.Call) -> ast.expr | None:
        """What a softmax is of: its first argument, or its receiver when it is a method."""
        named = next((each.value for each in call.keywords if each.arg in ("input", "logits", "x")), None)
        if named is not None:
            return named
        if isinstance(call.func, ast.Name) or _owner(call) in _MODULES:
            return call.args[0] if call.args else None
        if isinstance(call.func, ast.Attribute) and all(_integer(each) is not None for each in call.args):
            return call.func.value
        return None

    def _is_method(self, call: ast.Call) -> bool:
        return isinstance(call.func, ast.Attribute) and self._given(call) is call.func.value

    def _renamed(self, softmax: Site) -> Fix | None:
        call = self._call(softmax)
        if call is None or not isinstance(call.func, ast.Attribute) or call.func.attr not in ("softmax", "Softmax"):
            return None
        new = "log_softmax" if call.func.attr == "softmax" else "LogSoftmax"
        return Fix(message=f"Use {new}.", edits=(_rename(softmax.path, call.func, new),), safe=False)

    def _with_dim(self, softmax: Site, rank: int) -> Fix | None:
        """The dim that torch takes, written out."""
        call = self._call(softmax)
        if call is None:
            return None
        layer = _last(call.func)[:1].isupper()
        given = [*call.args, *(each.value for each in call.keywords)]
        if (
            len(call.args) > (0 if layer else 1)
            or any(isinstance(each, ast.Starred) for each in call.args)
            or any(each.arg in ("dim", None) for each in call.keywords)
        ):
            return None
        dim = implied_dim(rank)
        end = _end(call)
        at, text = (end[0], end[1] - 1), f"dim={dim}"
        if given:
            at, text = max(map(_end, given)), f", {text}"
            rest = re.sub(r"#.*", "", self._text(softmax.path, at, end))
            if not re.fullmatch(r"\s*,?\s*\)", rest):  # the argument has brackets of its own
                return None
        # Other ranks are mostly those of convolutions, which take one dim fewer without a batch.
        return Fix(
            message=f"Write out the dim that torch takes: {dim}.",
            edits=(_edit(softmax.path, at, at, text),),
            safe=rank == 2,
        )


def _spare_assignments(node: ast.AST) -> Iterator[ast.Assign]:
    """The assignments to one name in the blocks of a statement that have other statements too."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list) and len(block) > 1:
            yield from (each for each in block if isinstance(each, ast.Assign) and len(each.targets) == 1)


def _inside(inner: Site, outer: Site) -> bool:
    return (
        inner.path == outer.path
        and inner != outer
        and (outer.line, outer.column) <= (inner.line, inner.column)
        and (inner.end_line, inner.end_column) <= (outer.end_line, outer.end_column)
    )


def _span(node: ast.expr) -> tuple[Place, Place]:
    return (node.lineno, node.col_offset), _end(node)


def _end(node: ast.expr) -> Place:
    return node.end_lineno or node.lineno, node.end_col_offset or node.col_offset


def _edit(path: str, start: Place, end: Place, text: str) -> Edit:
    return Edit(path, *start, *end, text)


def _rename(path: str, name: ast.Attribute, new: str) -> Edit:
    """The last word of a dotted name becomes another."""
    line, column = _end(name)
    return _edit(path, (line, column - len(name.attr)), (line, column), new)


def _stands_alone(text: str) -> bool:
    """Whether an expression needs no brackets where a line may end after it."""
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return True


def _has_comment(text: str) -> bool:
    try:
        return any(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):  # a piece of an expression ends within brackets
        return True


def _holds(outer: ast.expr, inner: ast.expr) -> bool:
    return any(node is inner for node in ast.walk(outer))


def _dim(call: ast.Call, method: bool) -> ast.expr | None:
    """The dim that a call names; a method's comes first."""
    named = next((each.value for each in call.keywords if each.arg in ("dim", "axis")), None)
    at = 0 if method else 1
    return named if named is not None or len(call.args) <= at else call.args[at]


def _integer(node: ast.expr) -> int | None:
    sign, number = (-1, node.operand) if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else (1, node)
    return sign * number.value if isinstance(number, ast.Constant) and isinstance(number.value, int) else None


def _owner(call: ast.Call) -> str:
    """The last word before the name of what is called."""
    return _last(call.func.value) if isinstance(call.func, ast.Attribute) else ""


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""

"""What the interpreter keeps while it runs: frames of names, the journal of attribute writes, and limits."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from softplace.check.events import Events, Gap, Used
from softplace.check.project import Module, Project
from softplace.check.relevance import Relevance
from softplace.check.values import (
    ClassValue,
    Constant,
    Instance,
    LibraryObject,
    Method,
    Site,
    Unknown,
    Value,
    join,
    key,
    tensors,
)

DEPTH = 24
"""How deep calls are followed."""
STEPS = 20_000
"""Statements that one function may cost, with all that it calls."""
ACTIVE = 2
"""How often a function may be under way at once."""
CONTEXTS = 6
"""With how many different arguments a function is followed, from one file."""

Owner = Instance | LibraryObject | ClassValue
Writes = dict[tuple[int, str], tuple[Owner, Value | None]]


_HOLDS_NO_TENSOR = (Unknown, Constant, Method, Instance, LibraryObject)


class Exhausted(Exception):  # noqa: N818 - a signal, not an error
    """A function costs more steps than it may."""


@dataclass(slots=True, eq=False)
class Lazy(Value):
    """An import that is resolved when its name is used."""

    dotted: str
    level: int
    name: str | None


@dataclass(slots=True, eq=False)
class Frame:
    """The names of a function, class or module while it is interpreted."""

    module: Module
    scope: str
    parent: Frame | None = None
    variables: dict[str, Value] = field(default_factory=dict)
    owner: ClassValue | None = None
    receiver: Value | None = None
    is_class: bool = False
    outer: set[str] = field(default_factory=set)
    returns: list[Value] = field(default_factory=list)
    yields: list[Value] = field(default_factory=list)
    leaving: list[tuple[list[dict[str, Value]], list[dict[str, Value]]]] = field(default_factory=list)
    nested: list[Any] = field(default_factory=list)


class State:
    """Shared by all parts of the interpreter."""

    def __init__(self, project: Project, relevance: Relevance) -> None:
        self.project = project
        self.events = Events()
        self.relevance = relevance
        self.visited: set[int] = set()
        self.journal: list[tuple[Owner, str, Value | None]] = []
        self.memory: dict[Any, Value] = {}
        self.kept: list[tuple[Value, ...]] = []
        self.running: set[Any] = set()
        self.active: Counter[int] = Counter()
        self.contexts: Counter[int] = Counter()
        self.depth = 0
        self.steps = 0
        self.limit = STEPS
        self.inference = 0
        self.discarding = 0
        self.choosing = 0
        self.constructing: set[int] = set()
        self.called: set[int] = set()
        self.made: list[Instance] = []
        self.likenesses: dict[Any, Instance] = {}
        self.budget_reported: set[str] = set()

    # What the parts of the interpreter ask of one another; each is in the part that its name says.

    def execute(self, body: list[ast.stmt], frame: Frame) -> bool:
        """Run statements; False when the path ends in them."""
        raise NotImplementedError

    def evaluate(self, node: ast.expr | None, frame: Frame) -> Value:
        """What an expression can be."""
        raise NotImplementedError

    def assign(self, target: ast.expr, value: Value, frame: Frame) -> None:
        """Bind a target to a value."""
        raise NotImplementedError

    def get_attribute(self, value: Value, name: str, site: Site) -> Value:
        """An attribute of a value."""
        raise NotImplementedError

    def run_module(self, module: Module) -> Frame:
        """The names of a module, after its top level was run once."""
        raise NotImplementedError

    def call(self, callee: Value, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        """What calling a value gives."""
        raise NotImplementedError

    def construct(self, cls: ClassValue, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        """A new object of a class."""
        raise NotImplementedError

    def generic(self, cls: ClassValue) -> Instance:
        """An object of a class, made with its defaults."""
        raise NotImplementedError

    def elements(self, value: Value) -> list[Value] | None:
        """All elements of a sequence, when known."""
        raise NotImplementedError

    def element(self, value: Value, site: Site) -> Value:
        """Any element of a value that is iterated over."""
        raise NotImplementedError

    def site(self, node: ast.AST, frame: Frame) -> Site:
        """Where a node stands."""
        known: Site | None = getattr(node, "softplace_site", None)
        if known is None:
            known = Site(
                frame.module.path,
                getattr(node, "lineno", 1),
                getattr(node, "col_offset", 0),
                getattr(node, "end_lineno", None) or 1,
                getattr(node, "end_col_offset", None) or 0,
                frame.scope,
            )
            node.softplace_site = known  # type: ignore[attr-defined]
        self.visited.add(id(node))
        return known

    def remember(self, where: Any, result: Value, named: tuple[Value, ...]) -> None:
        """Keep the result of a call, and what its key names by id: a later object must not get the same id."""
        self.memory[where] = result
        self.kept.append(named)

    def use(self, value: Value | None, how: str, site: Site) -> None:
        """Note what is done with the results of softmax in a value."""
        if isinstance(value, _HOLDS_NO_TENSOR):
            return
        for tensor in tensors(value):
            if tensor.origin is not None:
                self.events.add(Used(site, tensor.origin, how))
                if tensor.path and tensor.path[0] != tensor.origin:  # the call of the layer that was made at `origin`
                    self.events.add(Used(site, tensor.path[0], how))

    def gap(self, site: Site, reason: str) -> None:
        """Note something that could not be resolved."""
        self.events.add(Gap(site, reason))

    def write(self, owner: Owner, name: str, value: Value) -> None:
        """Set an attribute, so that it can be undone. Between methods the order is not known: old values stay."""
        old = owner.attributes.get(name)
        if old is not None:
            if isinstance(owner, Instance) and owner.generic and id(owner) not in self.constructing:
                value = join([old, value])
            if key(old) == key(value):
                return
        self.journal.append((owner, name, old))
        owner.attributes[name] = value
        if not isinstance(owner, ClassValue):
            owner.version += 1

    def undo(self, mark: int) -> Writes:
        """Take back all attribute writes since a mark; gives what they had set."""
        written: Writes = {}
        for owner, name, _ in self.journal[mark:]:
            written[id(owner), name] = (owner, owner.attributes.get(name))
        for owner, name, old in reversed(self.journal[mark:]):
            if old is None:
                owner.attributes.pop(name, None)
            else:
                owner.attributes[name] = old
        del self.journal[mark:]
        return written

    def branches(self, frame: Frame, paths: list[Callable[[], bool]]) -> bool:
        """Run several paths from the same state, and join where they end; False when none goes on."""
        before = frame.variables
        mark = len(self.journal)
        ends: list[dict[str, Value]] = []
        written: list[Writes] = []
        for path in paths:
            frame.variables = dict(before)
            if path():
                ends.append(frame.variables)
            written.append(self.undo(mark))
        frame.variables = merged(ends) if ends else before
        names: dict[tuple[int, str], Owner] = {}
        for writes in written:
            for where, (owner, _) in writes.items():
                names[where] = owner
        for where, owner in names.items():
            now = owner.attributes.get(where[1])
            found = [writes[where][1] if where in writes else now for writes in written]
            self.write(owner, where[1], join([each for each in found if each is not None] or [Unknown()]))
        return bool(ends)

    def discard(self, frame: Frame, path: Callable[[], bool]) -> None:
        """Run a path for its events alone: what it sets or returns is forgotten."""
        before, returns, mark = frame.variables, frame.returns, len(self.journal)
        frame.variables, frame.returns = dict(before), []
        self.discarding += 1
        try:
            path()
        finally:
            self.discarding -= 1
            frame.variables, frame.returns = before, returns
            self.undo(mark)


def merged(ends: list[dict[str, Value]]) -> dict[str, Value]:
    """The names after several paths."""
    if len(ends) == 1:
        return ends[0]
    result = dict(ends[0])
    for end in ends[1:]:
        for name, value in end.items():
            old = result.get(name)
            if old is None:
                result[name] = value
            elif old is not value:
                result[name] = join([old, value])
    return result

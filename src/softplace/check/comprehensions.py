"""Comprehensions, and what iterating over a value gives."""

from __future__ import annotations

import ast
from typing import Any

from softplace.check.attributes import Attributes
from softplace.check.state import Frame
from softplace.check.values import (
    UNKNOWN,
    Chain,
    ClassValue,
    Constant,
    Entries,
    Function,
    Instance,
    Items,
    Library,
    LibraryObject,
    Site,
    Tensor,
    Union,
    Unknown,
    Value,
    join,
    options,
)

_LONGEST = 12
"""Elements of a known sequence that a comprehension is run for, one by one."""


class Comprehensions(Attributes):
    """Running over the elements of a value."""

    def any_of(self, value: Entries | Items) -> Value:
        """One element of a collection, which one is not known."""
        found = list(value.entries.values()) if isinstance(value, Entries) else list(value.elements)
        if value.rest is not None:
            found.append(value.rest)
        parts = sum(isinstance(each, ClassValue | Function | Library | Instance | LibraryObject) for each in found)
        return join(found or [UNKNOWN], chosen=parts > 1)

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, frame: Frame) -> Value:
        inner = Frame(frame.module, frame.scope, frame, {}, None, None)
        if isinstance(node, ast.DictComp) and len(node.generators) == 1:
            generator = node.generators[0]
            iterated = self.evaluate(generator.iter, frame)
            chosen = isinstance(iterated, Union) and iterated.chosen
            made = [self.dict_comprehension(node, generator, each, frame, inner) for each in options(iterated)]
            return join(made, chosen=chosen)
        if len(node.generators) == 1 and not node.generators[0].ifs and not isinstance(node, ast.DictComp):
            generator = node.generators[0]
            iterated = self.evaluate(generator.iter, frame)
            known = self.elements(iterated)
            if known is not None and len(known) <= _LONGEST:
                found: list[Value] = []
                for each in known:
                    self.assign(generator.target, each, inner)
                    found.append(self.evaluate(node.elt, inner))
                return Items(tuple(found), None, True)
            self.assign(generator.target, self.element(iterated, self.site(generator.iter, frame)), inner)
        else:
            for generator in node.generators:
                iterated = self.evaluate(generator.iter, inner)
                self.assign(generator.target, self.element(iterated, self.site(generator.iter, frame)), inner)
                for test in generator.ifs:
                    self.evaluate(test, inner)
        if isinstance(node, ast.DictComp):
            self.evaluate(node.key, inner)
            return Entries({}, self.evaluate(node.value, inner))
        return Items((), self.evaluate(node.elt, inner), True)

    def dict_comprehension(
        self, node: ast.DictComp, generator: ast.comprehension, iterated: Value, frame: Frame, inner: Frame
    ) -> Value:
        """{k: v for k, v in d.items() if k != "aux"}: known keys stay known."""
        known = self.elements(iterated)
        each_alone = known is not None and len(known) <= _LONGEST
        entries: dict[Any, Value] = {}
        rest: Value | None = None
        for each in known or [] if each_alone else [self.element(iterated, self.site(generator.iter, frame))]:
            self.assign(generator.target, each, inner)
            if any(self.truth(self.evaluate(test, inner)) is False for test in generator.ifs):
                continue
            name, value = self.evaluate(node.key, inner), self.evaluate(node.value, inner)
            if each_alone and isinstance(name, Constant):
                entries[name.value] = value
            else:
                rest = value if rest is None else join([rest, value])
        return Entries(entries, rest)

    def elements(self, value: Value) -> list[Value] | None:
        """The elements of a sequence when all are known."""
        if isinstance(value, Items) and value.rest is None and value.elements:
            return list(value.elements)
        if isinstance(value, Chain):
            return list(value.parts)
        return None

    def element(self, value: Value, site: Site) -> Value:
        """What iterating over a value gives each time."""
        found: list[Value] = []
        for option in options(value):
            if isinstance(option, Items):
                found.append(self.any_of(option))
            elif isinstance(option, Entries):
                found.append(join([Constant(name) for name in option.entries] or [UNKNOWN]))
            elif isinstance(option, Tensor):
                found.append(self.indexed(option, UNKNOWN))
            elif isinstance(option, Chain):
                found.extend(option.parts)
            elif isinstance(option, Unknown) and option.reason.startswith("parameter"):
                found.append(option)  # an element of what a caller gives is given by it too
            elif isinstance(option, Instance) and self.is_module(option.cls) and option.cls.find("__iter__"):
                found.append(self.element(self.call(self.get_attribute(option, "__iter__", site), [], {}, site), site))
        return join(found) if found else UNKNOWN

"""What names and attributes mean: scopes, imports between the files of a project, methods and their receivers."""

from __future__ import annotations

import math
from typing import Any

from softplace.check.calls import TRAINING, Calls
from softplace.check.names import CUSTOMARY
from softplace.check.state import Frame, Lazy
from softplace.check.values import (
    UNKNOWN,
    Bound,
    Chain,
    ClassValue,
    Constant,
    Entries,
    Function,
    Instance,
    Items,
    Library,
    LibraryObject,
    Method,
    ModuleValue,
    Site,
    Super,
    Tensor,
    Union,
    Unknown,
    Value,
    join,
)


class Attributes(Calls):
    """Looking up names and attributes."""

    def lookup(self, name: str, frame: Frame) -> Value:
        """What a name means in a frame."""
        at: Frame | None = frame
        while at is not None:
            if (at is frame or not at.is_class) and name in at.variables:
                value = at.variables[name]
                if isinstance(value, Lazy):
                    value = at.variables[name] = self.imported(value, at)
                return value
            at = at.parent
        found = self.from_stars(name, frame)
        if found is None and name in CUSTOMARY:  # imported in another cell, or by the file that runs this one
            return Library(CUSTOMARY[name])
        return Unknown(f"name {name!r}") if found is None else found

    def from_stars(self, name: str, frame: Frame, depth: int = 6) -> Value | None:
        """A name that `from module import *` brings."""
        for module in frame.module.stars:
            found = self.module_name(module, name, depth - 1) if depth else None
            if found is not None:
                return found
        if frame.module.unknown_stars and name in CUSTOMARY:
            return Library(CUSTOMARY[name])
        return None

    def module_name(self, module: Any, name: str, depth: int = 6) -> Value | None:
        """A name of a module of the project; None when it has none."""
        frame = self.run_module(module)
        if name in frame.variables:
            value = frame.variables[name]
            if isinstance(value, Lazy):
                frame.variables[name] = UNKNOWN
                value = frame.variables[name] = self.imported(value, frame)
            return value
        return self.from_stars(name, frame, depth)

    def imported(self, lazy: Lazy, frame: Frame) -> Value:
        """What an import means."""
        module = self.project.resolve(frame.module, lazy.dotted, lazy.level)
        if module is not None:
            if lazy.name is None:
                return ModuleValue(module)
            found = self.module_name(module, lazy.name)
            if found is not None:
                return found
        if lazy.name is not None:
            dotted = f"{lazy.dotted}.{lazy.name}" if lazy.dotted else lazy.name
            inner = self.project.resolve(frame.module, dotted, lazy.level)
            if inner is not None:
                return ModuleValue(inner)
            if module is not None:
                return Unknown(f"name {lazy.name!r} of {module.path}")
            if lazy.level:
                return Unknown(f"module {dotted!r}, which is not in the project")
            return Library(dotted)
        return Library(lazy.dotted)

    def get_attribute(self, value: Value, name: str, site: Site) -> Value:
        """An attribute of a value."""
        kind = type(value)  # the commonest first: a chain of isinstance costs more than what it finds
        if kind is Unknown or kind is Method:
            return Unknown("a property of a tensor") if name == "shape" else Method(value, name)
        if isinstance(value, Instance):
            return self.instance_attribute(value, name, site)
        if isinstance(value, Library):
            if name in ("inf", "Inf", "infty"):
                return Constant(math.inf)
            return Library(f"{value.name}.{name}")
        if isinstance(value, ModuleValue):
            found = self.module_name(value.module, name)
            if found is None and value.module.package:
                inner = self.project.resolve(value.module, name, 1)
                found = None if inner is None else ModuleValue(inner)
            if found is None and name == "__dict__":
                return self.registry(value)
            return Unknown(f"name {name!r} of {value.module.path}") if found is None else found
        if isinstance(value, ClassValue):
            found = value.find(name)
            if isinstance(found, Function):
                return Bound(found, value) if "classmethod" in found.decorators else found
            if found is not None:
                return found
            return Constant(value.node.name) if name == "__name__" else Method(value, name)
        if isinstance(value, Super):
            return self.super_attribute(value, name)
        if isinstance(value, Union):
            parts = [option for option in value.options if not isinstance(option, Constant)]
            return join([self.get_attribute(part, name, site) for part in parts] or [UNKNOWN], chosen=value.chosen)
        if isinstance(value, LibraryObject) and name in value.attributes:
            return value.attributes[name]
        if isinstance(value, LibraryObject) and name == "__dict__":
            return Entries(dict(value.attributes), UNKNOWN)
        if isinstance(value, Items) and name in ("values", "indices") and len(value.elements) == 2:
            return value.elements[name == "indices"]
        if isinstance(value, Entries) and name in value.entries:
            return value.entries[name]
        if isinstance(value, Chain) and name in value.names:
            return value.parts[value.names.index(name)]
        if isinstance(value, Tensor):
            if name in ("T", "mT", "H"):
                return value.but(dim=None, sizes=())
            if name in ("data", "real"):
                return value
            if name in ("shape", "device", "dtype", "grad", "ndim", "is_cuda"):
                return Unknown("a property of a tensor")
            if name in ("values", "logits"):
                return value
        if isinstance(value, Function) and name == "__name__":
            return Constant(value.scope.rsplit(".", 1)[-1])
        if isinstance(value, LibraryObject | Chain | Instance) and name == "module":
            return value
        return Method(value, name)

    def instance_attribute(self, value: Instance, name: str, site: Site) -> Value:
        """An attribute of an object of the project."""
        found = value.attributes.get(name)
        if found is None:
            found = value.cls.find(name)
            if isinstance(found, Function):
                if "property" in found.decorators or "cached_property" in found.decorators:
                    return self.call_function(found, [value], {}, site)
                if "staticmethod" in found.decorators:
                    return found
                return Bound(found, value.cls if "classmethod" in found.decorators else value)
        if found is not None:
            return found
        if name == "training":
            return TRAINING
        if name == "__class__":
            return value.cls
        if name == "module":
            return value
        if name == "__dict__":
            return Entries(dict(value.attributes))
        return Method(value, name)

    def super_attribute(self, value: Super, name: str) -> Value:
        line = value.receiver.cls.line() if isinstance(value.receiver, Instance) else value.cls.line()
        after = line[line.index(value.cls) + 1 :] if value.cls in line else ()
        for each in after:
            if isinstance(each, ClassValue) and name in each.attributes:
                found = each.attributes[name]
                return Bound(found, value.receiver) if isinstance(found, Function) else found
        for each in after:
            if isinstance(each, Library):
                if name == "forward" and self.is_criterion(each.name):
                    return LibraryObject(each.name, (), {}, Site("", 1, 0, 1, 0))
                return Method(Super(value.cls, value.receiver), name)
        return Method(value, name)

    def registry(self, value: ModuleValue) -> Entries:
        """The names of a module as a dict: what `models.__dict__[name]` looks in."""
        names: dict[str, None] = {}
        modules = [value.module]
        for module in modules:
            names |= dict.fromkeys(self.run_module(module).variables)
            modules.extend(each for each in module.stars if each not in modules)
        found = {name: self.module_name(value.module, name) or UNKNOWN for name in names}
        parts: dict[Any, Value] = {
            name: each for name, each in found.items() if isinstance(each, ClassValue | Function)
        }
        return Entries(parts, None)

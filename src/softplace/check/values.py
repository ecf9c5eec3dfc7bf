"""What an expression can be known to be, without running it.

A value is a tensor with what is known of its numbers, a Python value, a part of the program (function, class, module),
or unknown. Values are never changed once made, apart from the attributes of instances, which the interpreter's journal
keeps. A union holds the values of several possible paths; what is not known is `Unknown` and never counts as wrong.
"""

from __future__ import annotations

import ast
from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from softplace.check.sites import Site as Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from softplace.check.project import Module

MOST_OPTIONS = 8
MOST_HOPS = 8
MOST_ELEMENTS = 256


class Kind(StrEnum):
    """What the numbers of a tensor are."""

    RAW = "raw scores"
    PROBABILITIES = "probabilities"
    LOG_PROBABILITIES = "log-probabilities"
    SIGMOID = "sigmoid probabilities"
    LOG_SIGMOID = "log-sigmoid"
    INDICES = "class indices"
    CONSTANT = "a constant"
    EXPONENTIAL = "an exponential"
    EXPONENTIAL_SUM = "a sum of exponentials"
    MAXIMUM = "a maximum"
    UNKNOWN = "a tensor"


NORMALISED = frozenset({Kind.PROBABILITIES, Kind.LOG_PROBABILITIES, Kind.SIGMOID, Kind.LOG_SIGMOID})
NO_TAGS: frozenset[str] = frozenset()


class Value:
    """Anything that an expression can be."""

    __slots__ = ()


@dataclass(slots=True, eq=False)
class Unknown(Value):
    """Not known, and why. `begins`: how a text begins of which the rest is not known."""

    reason: str = "not resolved"
    begins: str = ""


UNKNOWN = Unknown()


@dataclass(slots=True, eq=False)
class Tensor(Value):
    """A tensor: what its numbers are, who made them so, and what is known of its shape.

    `dim` is the normalised dim (None: not known or implicit), `rank` the number of dims, `sizes` known sizes by dim
    (negative dims count from the end), `tags` facts that rules ask for, `path` the places that the value went through.
    """

    kind: Kind
    origin: Site | None = None
    made_by: str = ""
    dim: int | None = None
    rank: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    tags: frozenset[str] = NO_TAGS
    path: tuple[Site, ...] = ()

    def but(self, **changed: Any) -> Tensor:
        """The same tensor with some facts changed."""
        made = copy(self)
        for name, value in changed.items():
            setattr(made, name, value)
        return made

    def tagged(self, *tags: str) -> Tensor:
        """The same tensor with tags added."""
        return self if self.tags.issuperset(tags) else self.but(tags=self.tags | frozenset(tags))

    def size(self, dim: int | None) -> int | None:
        """The size of a dim, when known."""
        if dim is None:
            return None
        for known, size in self.sizes:
            if known == dim or (self.rank is not None and known % self.rank == dim % self.rank):
                return size
        return None


@dataclass(slots=True, eq=False)
class Constant(Value):
    """A number, string, bool, bytes, Ellipsis or None."""

    value: Any


NONE = Constant(None)
TRUE = Constant(True)
FALSE = Constant(False)


@dataclass(slots=True, eq=False)
class Items(Value):
    """A tuple or list (also nn.ModuleList): the first elements, and what any further ones are."""

    elements: tuple[Value, ...]
    rest: Value | None = None
    mutable: bool = False


@dataclass(slots=True, eq=False)
class Entries(Value):
    """A dict, nn.ModuleDict or output record: values by constant key, and what any other key holds."""

    entries: dict[Any, Value]
    rest: Value | None = None


@dataclass(slots=True, eq=False)
class Slice(Value):
    """A slice of a subscript; `full` when it takes everything, `known` when its ends are."""

    full: bool
    start: int | None = None
    stop: int | None = None
    known: bool = False


@dataclass(slots=True, eq=False)
class Library(Value):
    """Something of an outside package, by its dotted name: `torch.nn.functional.softmax`."""

    name: str


@dataclass(slots=True, eq=False)
class LibraryObject(Value):
    """An object of an outside class: `nn.Linear(4, 2)`, `nn.CrossEntropyLoss()`, `torchvision.models.resnet18()`."""

    name: str
    arguments: tuple[Value, ...]
    keywords: dict[str, Value]
    site: Site
    attributes: dict[str, Value] = field(default_factory=dict)
    version: int = 0

    def argument(self, position: int, name: str) -> Value | None:
        """What was given at a position or by name, if anything was."""
        if name in self.keywords:
            return self.keywords[name]
        return self.arguments[position] if position < len(self.arguments) else None


@dataclass(slots=True, eq=False)
class Chain(Value):
    """Modules that are called one after the other: nn.Sequential, keras.Sequential."""

    parts: tuple[Value, ...]
    names: tuple[str, ...] = ()
    keras: bool = False


@dataclass(slots=True, eq=False)
class Function(Value):
    """A function or lambda of the project."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    module: Module
    scope: str
    closure: Any
    owner: ClassValue | None = None
    defaults: dict[str, Value] = field(default_factory=dict)
    decorators: frozenset[str] = NO_TAGS


@dataclass(slots=True, eq=False)
class Bound(Value):
    """A method with its receiver."""

    function: Function
    receiver: Value


@dataclass(slots=True, eq=False)
class Method(Value):
    """A method of something that is not of the project: `x.softmax`, `model.to`."""

    receiver: Value
    name: str


@dataclass(slots=True, eq=False)
class Partial(Value):
    """functools.partial."""

    function: Value
    arguments: tuple[Value, ...]
    keywords: dict[str, Value]


@dataclass(slots=True, eq=False)
class ClassValue(Value):
    """A class of the project."""

    node: ast.ClassDef
    module: Module
    scope: str
    bases: tuple[Value, ...]
    attributes: dict[str, Value] = field(default_factory=dict)
    generic: Instance | None = None
    lineage: tuple[Value, ...] = ()

    def line(self) -> tuple[Value, ...]:
        """This class and its ancestors, nearest first; outside ancestors as Library."""
        if not self.lineage:
            found: list[Value] = []
            _collect(self, found, 0)
            self.lineage = tuple(found)
        return self.lineage

    def find(self, name: str) -> Value | None:
        """A class attribute or method, from the nearest ancestor that has it."""
        for each in self.line():
            if isinstance(each, ClassValue) and name in each.attributes:
                return each.attributes[name]
        return None

    def outside(self) -> list[str]:
        """Dotted names of the ancestors outside the project."""
        return [each.name for each in self.line() if isinstance(each, Library)]


def _collect(cls: ClassValue, found: list[Value], depth: int) -> None:
    if cls in found or depth > 12:
        return
    found.append(cls)
    for base in cls.bases:
        for option in options(base):
            if isinstance(option, ClassValue):
                _collect(option, found, depth + 1)
            elif isinstance(option, Library):
                found.append(option)


@dataclass(slots=True, eq=False)
class Instance(Value):
    """An object of a class of the project. `made_with`: its version when made, and what it was given, roughly."""

    cls: ClassValue
    site: Site | None
    attributes: dict[str, Value] = field(default_factory=dict)
    version: int = 0
    generic: bool = False
    made_with: tuple[int, Any] = (-1, None)


@dataclass(slots=True, eq=False)
class Super(Value):
    """super(): the ancestors after a class, for an instance."""

    cls: ClassValue
    receiver: Value


@dataclass(slots=True, eq=False)
class ModuleValue(Value):
    """A module of the project."""

    module: Module


@dataclass(slots=True, eq=False)
class Union(Value):
    """One of several values. `chosen`: the choice is between parts of the program (which model), not between states."""

    options: tuple[Value, ...]
    chosen: bool = False


def options(value: Value | None) -> tuple[Value, ...]:
    """The values that this one can be."""
    if isinstance(value, Union):
        return value.options
    return () if value is None else (value,)


def tensors(value: Value | None, depth: int = 3) -> Iterator[Tensor]:
    """The tensors that this value is or holds."""
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, Union):
        for option in value.options:
            yield from tensors(option, depth - 1)
    elif depth and isinstance(value, Items):
        for element in value.elements[:32]:
            yield from tensors(element, depth - 1)
        yield from tensors(value.rest, depth - 1)
    elif depth and isinstance(value, Entries):
        for element in list(value.entries.values())[:32]:
            yield from tensors(element, depth - 1)


def key(value: Value | None, depth: int = 4) -> Any:
    """Equal for values of which the same is known."""
    method = _KEYS.get(type(value))
    return id(value) if method is None else method(value, depth)


def _nothing_key(value: Any, depth: int) -> Any:
    return None


def _tensor_key(value: Tensor, depth: int) -> Any:
    return ("tensor", value.kind, value.origin, value.dim, value.rank, value.sizes, value.tags)


def _constant_key(value: Constant, depth: int) -> Any:
    return (type(value.value).__name__, value.value)


def _library_key(value: Library, depth: int) -> Any:
    return value.name


def _object_key(value: Instance | LibraryObject, depth: int) -> Any:
    return (id(value), value.version)


def _items_key(value: Items, depth: int) -> Any:
    if not depth:
        return id(value)
    return ("items", tuple([key(each, depth - 1) for each in value.elements]), key(value.rest, depth - 1))


def _entries_key(value: Entries, depth: int) -> Any:
    if not depth:
        return id(value)
    return ("entries", tuple([(each, key(found, depth - 1)) for each, found in value.entries.items()]))


def _chain_key(value: Chain, depth: int) -> Any:
    return ("chain", tuple([key(each, depth - 1) for each in value.parts])) if depth else id(value)


def _union_key(value: Union, depth: int) -> Any:
    return ("union", frozenset([key(each, depth - 1) for each in value.options])) if depth else id(value)


def _bound_key(value: Bound, depth: int) -> Any:
    return ("bound", id(value.function.node), key(value.receiver, depth - 1)) if depth else id(value)


def _method_key(value: Method, depth: int) -> Any:
    return ("method", value.name, key(value.receiver, depth - 1)) if depth else id(value)


def _function_key(value: Function, depth: int) -> Any:
    return ("function", id(value.node), id(value.closure)) if depth else id(value)


def _class_key(value: ClassValue, depth: int) -> Any:
    return ("class", id(value.node)) if depth else id(value)


# By type: a chain of isinstance would cost a tenth of a run.
_KEYS: dict[type, Callable[[Any, int], Any]] = {
    type(None): _nothing_key,
    Unknown: _nothing_key,
    Tensor: _tensor_key,
    Constant: _constant_key,
    Library: _library_key,
    Instance: _object_key,
    LibraryObject: _object_key,
    Items: _items_key,
    Entries: _entries_key,
    Chain: _chain_key,
    Union: _union_key,
    Bound: _bound_key,
    Method: _method_key,
    Function: _function_key,
    ClassValue: _class_key,
}


def likeness(value: Value | None, depth: int = 5) -> Any:
    """Equal for values that differ in sizes alone: whole numbers above 3, which no dim and no size of one is."""
    if isinstance(value, Constant):
        number = value.value
        if isinstance(number, int | float) and not isinstance(number, bool) and abs(number) > 3:
            return "a size"
        return (type(number).__name__, number)
    if not depth:
        return key(value)
    if isinstance(value, Instance):
        held = tuple([(name, likeness(each, depth - 1)) for name, each in value.attributes.items()])
        return ("instance", id(value.cls.node), held)
    if isinstance(value, LibraryObject):
        named = tuple([(name, likeness(each, depth - 1)) for name, each in value.keywords.items()])
        held = tuple([(name, likeness(each, depth - 1)) for name, each in value.attributes.items()])
        return ("object", value.name, value.site, likenesses(value.arguments, depth - 1), named, held)
    if isinstance(value, Items):
        return ("items", likenesses(value.elements, depth - 1), likeness(value.rest, depth - 1))
    if isinstance(value, Entries):
        return ("entries", tuple([(name, likeness(each, depth - 1)) for name, each in value.entries.items()]))
    if isinstance(value, Chain):
        return ("chain", likenesses(value.parts, depth - 1))
    return key(value)


def likenesses(values: Iterable[Value], depth: int = 5) -> tuple[Any, ...]:
    """The likeness of each value."""
    return tuple([likeness(each, depth) for each in values])


def rough(arguments: list[Value], keywords: dict[str, Value]) -> Any:
    """Equal for arguments that differ in sizes alone, where what comes from outside may be any size."""
    return (
        tuple([_rough(each) for each in arguments]),
        frozenset([(name, _rough(each)) for name, each in keywords.items()]),
    )


def _rough(value: Value) -> Any:
    return "a size" if isinstance(value, Unknown | Method) else likeness(value)


def join(values: list[Value], *, chosen: bool = False) -> Value:
    """What a value is when it is one of these: equal ones become one; too many become unknown."""
    first = values[0] if values else UNKNOWN
    if not isinstance(first, Union) and all(value is first for value in values):
        return first
    if len(values) == 1:
        return first
    found: dict[Any, Value] = {}
    parts = [value for value in values if not isinstance(value, Constant)]
    chosen = chosen or (bool(parts) and all(isinstance(value, Union) and value.chosen for value in parts))
    for value in values:
        for option in options(value):
            found.setdefault(key(option), option)
    if not found:
        return UNKNOWN
    if len(found) == 1:
        return next(iter(found.values()))
    if len(found) > MOST_OPTIONS:
        return Unknown("too many possible values")
    return Union(tuple(found.values()), chosen)


def row(elements: list[Value] | tuple[Value, ...], rest: Value | None, mutable: bool) -> Items:
    """A tuple or list of these elements; of very many the later ones are only known as what any further one is."""
    if len(elements) <= MOST_ELEMENTS:
        return Items(tuple(elements), rest, mutable)
    further = [*elements[MOST_ELEMENTS:], *([] if rest is None else [rest])]
    return Items(tuple(elements[:MOST_ELEMENTS]), join(further), mutable)


def constant(value: Value | None) -> Any:
    """The Python constant that a value is; None when it is not one."""
    return value.value if isinstance(value, Constant) else None


def integer(value: Value | None) -> int | None:
    """The whole number that a value is, if it is one."""
    found = constant(value)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def is_parameter(value: Value) -> bool:
    """Whether a value is what an unknown caller gave, or a part or a sum of it."""
    return isinstance(value, Unknown) and value.reason.startswith("parameter")


def is_query(value: Value) -> bool:
    """Whether a value is a parameter that is named as the query of attention."""
    if not isinstance(value, Unknown):
        return False
    return value.reason.lower() in ("parameter 'q'", "parameter 'query'", "parameter 'queries'")

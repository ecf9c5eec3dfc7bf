"""Calls inside the project: functions, methods, classes and instances, with their arguments bound to parameters."""

from __future__ import annotations

import ast

from softplace.check.events import Normalised
from softplace.check.frameworks import is_skorch
from softplace.check.heirs import Heirs
from softplace.check.library import LibraryCalls
from softplace.check.relevance import interesting
from softplace.check.state import ACTIVE, CONTEXTS, DEPTH, Exhausted, Frame
from softplace.check.values import (
    FALSE,
    MOST_HOPS,
    NONE,
    NORMALISED,
    TRUE,
    UNKNOWN,
    Bound,
    Chain,
    ClassValue,
    Constant,
    Entries,
    Function,
    Instance,
    Items,
    Kind,
    Library,
    LibraryObject,
    Method,
    Partial,
    Site,
    Tensor,
    Union,
    Unknown,
    Value,
    join,
    key,
    options,
    rough,
    tensors,
)

Arguments = tuple[list[Value], dict[str, Value]]


class Calls(LibraryCalls):
    """Following calls."""

    heirs: Heirs | None = None

    def call(self, callee: Value, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        """What calling a value gives."""
        if isinstance(callee, Union):
            parts = [option for option in callee.options if not (isinstance(option, Constant | Unknown))]
            if not parts:
                return UNKNOWN
            # A loss that is one of several may be chosen by what the model returns.
            several = len({self.wanted_by(option) for option in parts}) > 1 and any(map(self.is_loss, parts))
            self.choosing += several
            try:
                results = [self.call(option, arguments, keywords, site) for option in parts]
            finally:
                self.choosing -= several
            # One of several networks is a choice that some run makes; one of several layers is an option of one.
            return join(results, chosen=len(parts) > 1 and not all(isinstance(p, LibraryObject) for p in parts))
        if isinstance(callee, Function | Bound):
            self.named_gumbel(callee, arguments, keywords, site)
        if isinstance(callee, Function):
            return self.call_function(callee, arguments, keywords, site)
        if isinstance(callee, Bound):
            return self.call_function(callee.function, [callee.receiver, *arguments], keywords, site)
        if isinstance(callee, ClassValue):
            return self.construct(callee, arguments, keywords, site)
        if isinstance(callee, Instance):
            return self.call_instance(callee, arguments, keywords, site)
        if isinstance(callee, Partial):
            return self.call(callee.function, [*callee.arguments, *arguments], callee.keywords | keywords, site)
        if isinstance(callee, Chain):
            value = arguments[0] if arguments else UNKNOWN
            for part in callee.parts:
                value = self.call(part, [value], {}, site)
            self.use(value, "returned", site)
            return value
        if isinstance(callee, LibraryObject):
            return self.call_object(callee, arguments, keywords, site)
        if isinstance(callee, Library):
            return self.call_library(callee.name, arguments, keywords, site)
        if isinstance(callee, Method):
            return self.call_method(callee, arguments, keywords, site)
        self.paired_by_framework(arguments, keywords, site)
        for value in (*arguments, *keywords.values()):
            self.escape(value, site)
        return Unknown(callee.reason if isinstance(callee, Unknown) else "a call that could not be resolved")

    def named_gumbel(
        self, callee: Function | Bound, arguments: list[Value], keywords: dict[str, Value], site: Site
    ) -> None:
        """A function of the project by the name of gumbel_softmax is taken at its word: it wants scores."""
        function = callee.function if isinstance(callee, Bound) else callee
        if arguments and function.scope.rsplit(".", 1)[-1] == "gumbel_softmax":
            result = Tensor(Kind.PROBABILITIES, site, "gumbel_softmax")
            self.events.add(
                Normalised(site, "gumbel_softmax", arguments[0], None, True, False, None, keywords, False, result)
            )

    def call_instance(self, called: Instance, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        """Calling an object calls its __call__, forward (torch) or call (Keras)."""
        own = called.attributes.get("forward")  # self.forward = self.forward_train
        if isinstance(own, Bound | Function):
            return self.call(own, arguments, keywords, site)
        for name in ("__call__", "forward", "call"):
            found = called.cls.find(name)
            if isinstance(found, Function):
                return self.call_function(found, [called, *arguments], keywords, site)
        chain = called.attributes.get("__main__chain")
        if isinstance(chain, Chain) and not chain.parts:  # filled by attributes: self.fc = ..., in their order
            kinds = (LibraryObject, Chain, Instance)
            chain = Chain(
                tuple(each for each in called.attributes.values() if each is not chain and isinstance(each, kinds))
            )
        if chain is not None:
            return self.call(chain, arguments, keywords, site)
        for base in called.cls.outside():
            if self.is_criterion(base):
                made = LibraryObject(base, (), {}, called.site or site, called.attributes)
                return self.call_object(made, arguments, keywords, site)
        return Unknown(f"{called.cls.node.name} has no forward in the project")

    def construct(self, cls: ClassValue, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        """A new object: its __init__ is run."""
        where = ("construct", id(cls.node), tuple(map(key, arguments)), tuple((n, key(v)) for n, v in keywords.items()))
        if where in self.memory:
            return self.memory[where]
        if where in self.running or self.depth > DEPTH:
            return Unknown("a class that builds itself")
        if "typing.NamedTuple" in cls.outside():
            names = fields(cls)
            return Entries(
                dict(zip(names, arguments, strict=False)) | {n: v for n, v in keywords.items() if n in names}
            )
        made = Instance(cls, site)
        self.running.add(where)
        self.constructing.add(id(made))
        self.called.add(id(cls.node))
        try:
            self.initialise(made, arguments, keywords, site)
        finally:
            self.running.discard(where)
            self.constructing.discard(id(made))
        self.remember(where, made, (cls, *arguments, *keywords.values()))
        made.made_with = made.version, rough(arguments, keywords)
        self.made.append(made)
        if any(is_skorch(base) for base in cls.outside()):
            found = cls.find("__init__")
            if isinstance(found, Function):
                keywords = self.bind(found, [made, *arguments], keywords)
                arguments = [keywords["module"]] if "module" in keywords else []
            self.skorch(arguments, keywords, site)
        return made

    def initialise(
        self, made: Instance, arguments: list[Value], keywords: dict[str, Value], site: Site, *, lenient: bool = False
    ) -> None:
        """Run __init__, or fill the fields of a dataclass."""
        found = made.cls.find("__init__")
        if isinstance(found, Function):
            self.call_function(found, [made, *arguments], keywords, site, lenient=lenient)
            return
        if any(name.endswith("Sequential") for name in made.cls.outside()):
            made.attributes["__main__chain"] = self.chain(arguments)
            return
        names = fields(made.cls)
        made.attributes.update(zip(names, arguments, strict=False))
        made.attributes.update({name: value for name, value in keywords.items() if name != "**"})

    def generic(self, cls: ClassValue) -> Instance:
        """An object of a class of which no construction is known: made with the defaults."""
        if cls.generic is None:
            node = cls.node
            site = Site(cls.module.path, node.lineno, node.col_offset, node.lineno, node.col_offset, cls.scope)
            cls.generic = made = Instance(cls, site, generic=True)
            self.constructing.add(id(made))
            try:
                self.initialise(made, [], {}, site, lenient=True)
            finally:
                self.constructing.discard(id(made))
        return cls.generic

    def bind(
        self, function: Function, arguments: list[Value], keywords: dict[str, Value], *, unknown_call: bool = False
    ) -> dict[str, Value]:
        """Parameters and their values; what is not given has its default, or is unknown."""
        spec = function.node.args
        bound: dict[str, Value] = {}
        positional = [*spec.posonlyargs, *spec.args]
        flat: list[Value] = []
        open_rest: Value | None = None
        for value in arguments:
            if value is STARRED:
                open_rest = UNKNOWN
                break
            flat.append(value)
        for parameter, value in zip(positional, flat, strict=False):
            bound[parameter.arg] = value
        if spec.vararg is not None:
            bound[spec.vararg.arg] = Items(tuple(flat[len(positional) :]), open_rest)
        names = {parameter.arg for parameter in (*positional, *spec.kwonlyargs)}
        extra = {name: value for name, value in keywords.items() if name not in names}
        bound.update({name: value for name, value in keywords.items() if name in names})
        if spec.kwarg is not None:
            bound[spec.kwarg.arg] = Entries(dict(extra), UNKNOWN if "**" in keywords or unknown_call else None)
        for parameter in (*positional, *spec.kwonlyargs):
            if parameter.arg not in bound:
                default = function.defaults.get(parameter.arg)
                if open_rest is not None or "**" in keywords:
                    default = UNKNOWN
                if unknown_call and isinstance(default, Constant) and not isinstance(default.value, str):
                    default = UNKNOWN
                bound[parameter.arg] = Unknown(f"parameter {parameter.arg!r}") if default is None else default
        return bound

    def call_function(
        self,
        function: Function,
        arguments: list[Value],
        keywords: dict[str, Value],
        site: Site,
        *,
        lenient: bool = False,
    ) -> Value:
        """Run a function's body with these arguments; equal calls are run once. `lenient`: arguments may be missing."""
        where = (
            id(function.node),
            id(function.closure),
            tuple(map(key, arguments)),
            tuple((name, key(value)) for name, value in keywords.items()),
        )
        known = self.memory.get(where)
        if known is None:
            if where in self.running:
                return Unknown("a function that calls itself")
            if self.depth > DEPTH:
                return Unknown("calls nested too deeply")
            node = id(function.node)
            if not self.relevance.followed(function, [*arguments, *keywords.values()]):
                for value in arguments:
                    self.escape(value, site)
                return Unknown(f"{function.scope}, which handles no model")
            if self.active[node] >= ACTIVE or self.contexts[node] >= CONTEXTS:
                return Unknown("a function that is called in too many ways")
            if not lenient and lacks(function, arguments, keywords):
                return Unknown("a call that lacks an argument")
            self.active[node] += 1
            self.contexts[node] += 1
            mark = len(self.journal)
            self.running.add(where)
            self.called.add(id(function.node))
            try:
                bound = self.bind(function, arguments, keywords)
                known = self.run(function, bound, arguments[0] if arguments else None)
            finally:
                self.running.discard(where)
                self.active[node] -= 1
            if len(self.journal) == mark or all(
                id(owner) not in _ids(arguments) for owner, _, _ in self.journal[mark:]
            ):
                self.remember(where, known, (function, *arguments, *keywords.values()))
        return self.passed(known, site)

    def run(self, function: Function, bound: dict[str, Value], receiver: Value | None) -> Value:
        """Interpret a body; what it returns."""
        frame = Frame(function.module, function.scope, function.closure, bound, function.owner, receiver)
        silent = bool(function.decorators & {"no_grad", "inference_mode"})
        self.depth += 1
        self.inference += silent
        try:
            if isinstance(function.node, ast.Lambda):
                return self.evaluate(function.node.body, frame)
            goes_on = self.execute(function.node.body, frame)
            self.finish(frame)
        finally:
            self.depth -= 1
            self.inference -= silent
        if frame.yields:
            return Items((), join(frame.yields))
        if goes_on and not frame.returns:
            return NONE
        if goes_on:
            frame.returns.append(NONE)
        return join(frame.returns)

    def finish(self, frame: Frame) -> None:
        """Run the functions that were defined in this frame and not called: others may call them."""
        for function in frame.nested:
            new = id(function.node) not in self.called and self.depth < DEPTH
            if new and self.relevance.strong(function.node, function.module):
                self.call_unknown(function)

    def call_unknown(self, function: Function, receiver: Value | None = None) -> Value:
        """Run a function as an unknown caller would: parameters are unknown, apart from what annotations say."""
        given = [] if receiver is None else [receiver]
        where = ("unknown", id(function.node), id(function.closure), *map(key, given))
        if where in self.running:
            return UNKNOWN
        if where in self.memory:
            return self.memory[where]
        self.running.add(where)
        self.called.add(id(function.node))
        try:
            bound = self.bind(function, given, {}, unknown_call=True)
            self.annotated(function, bound)
            self.namesakes(function, bound)
            if isinstance(receiver, Instance):
                self.held(receiver, bound)
            result = self.run(function, bound, receiver)
        finally:
            self.running.discard(where)
        self.remember(where, result, (function, *given))
        return result

    def annotated(self, function: Function, bound: dict[str, Value]) -> None:
        """A parameter whose annotation is a class of the project holds an object of it."""
        spec = function.node.args
        for parameter in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs):
            if parameter.annotation is None or not isinstance(bound.get(parameter.arg), Unknown):
                continue
            if isinstance(parameter.annotation, ast.Name | ast.Attribute):
                found = self.evaluate(parameter.annotation, function.closure)
                if isinstance(found, ClassValue) and self.is_module(found):
                    bound[parameter.arg] = self.any_heir(found) if is_abstract(found) else self.generic(found)
                elif isinstance(found, Library) and self.is_criterion(found.name):
                    bound[parameter.arg] = LibraryObject(found.name, (), {}, Site("", 1, 0, 1, 0))

    def held(self, receiver: Instance, bound: dict[str, Value]) -> None:
        """What a framework gives a method is taken for the attribute of that name: compute_loss(model) of a trainer."""
        for parameter, value in bound.items():
            found = receiver.attributes.get(parameter)
            if isinstance(value, Unknown) and found is not None and receiver.cls.outside() and interesting(found):
                bound[parameter] = found

    def any_heir(self, base: ClassValue) -> Value:
        """An object of one of the classes that fill in what a base leaves open."""
        if self.heirs is None:
            self.heirs = Heirs(self.project)
        found: list[Value] = []
        for path, name in self.heirs.of(base.node.name):
            module = self.project.module(path)
            cls = None if module is None else self.run_module(module).variables.get(name)
            if isinstance(cls, ClassValue) and base in cls.line() and not is_abstract(cls):
                found.append(self.generic(cls))
        return join(found, chosen=len(found) > 1) if found else self.generic(base)

    def namesakes(self, function: Function, bound: dict[str, Value]) -> None:
        """A parameter of a function that its file does not call is taken to be the network or loss of that name."""
        frame, name = function.module.frame, getattr(function.node, "name", "")
        if frame is None or function.owner is not None or function.module.source.text.count(f"{name}(") != 1:
            return
        for parameter, value in bound.items():
            found = frame.variables.get(parameter)
            if not isinstance(value, Unknown) or found is None:
                continue
            if self.is_loss(found) or (isinstance(found, Chain | Instance) and interesting(found)):
                bound[parameter] = found

    def passed(self, value: Value, site: Site) -> Value:
        """The value as the caller has it: the call is noted in its path."""
        if isinstance(value, Tensor):
            if value.kind in NORMALISED and len(value.path) < MOST_HOPS:
                return value.but(path=(*value.path, site))
        elif isinstance(value, Union):
            if any(True for _ in tensors(value)):
                return Union(tuple(self.passed(option, site) for option in value.options), value.chosen)
        elif isinstance(value, Items) and any(True for _ in tensors(value)):
            rest = None if value.rest is None else self.passed(value.rest, site)
            return Items(tuple(self.passed(each, site) for each in value.elements), rest, value.mutable)
        elif isinstance(value, Entries) and any(True for _ in tensors(value)):
            return Entries({name: self.passed(each, site) for name, each in value.entries.items()}, value.rest)
        return value

    def is_module(self, cls: ClassValue) -> bool:
        """Whether objects of a class can be called like a network."""
        return any(isinstance(cls.find(name), Function) for name in ("forward", "__call__", "call"))

    def check_budget(self) -> None:
        """Stop what has become too long."""
        self.steps += 1
        if self.steps > self.limit:
            raise Exhausted

    def truth(self, value: Value) -> bool | None:
        """Whether a value counts as true; None when that is not known."""
        if isinstance(value, Constant):
            return bool(value.value)
        if isinstance(value, LibraryObject):  # what a function of a package gives may be anything
            return True if value.name.rsplit(".", 1)[-1][:1].isupper() else None
        if isinstance(value, Function | Bound | ClassValue | Instance | Library | Chain | Partial):
            return True
        if isinstance(value, Items) and value.rest is None:
            return bool(value.elements)
        if isinstance(value, Union):
            found = {self.truth(option) for option in options(value)}
            return found.pop() if len(found) == 1 else None
        return None


STARRED = Unknown("*arguments")
TRAINING = Constant(True)
NOT_TRAINING = Constant(False)
_BOOLS = {True: TRUE, False: FALSE}


def boolean(value: bool) -> Constant:
    """True or False as a value."""
    return _BOOLS[value]


def fields(cls: ClassValue) -> list[str]:
    """The fields of a dataclass or NamedTuple, in order."""
    return [
        statement.target.id
        for statement in cls.node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    ]


def is_abstract(cls: ClassValue) -> bool:
    """Whether a class leaves its forward to those that inherit from it."""
    found = next((each for name in ("forward", "call") if (each := cls.find(name)) is not None), None)
    if not isinstance(found, Function) or isinstance(found.node, ast.Lambda):
        return False
    return "abstractmethod" in found.decorators or all(
        isinstance(each, ast.Pass | ast.Raise) or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
        for each in found.node.body
    )


def lacks(function: Function, arguments: list[Value], keywords: dict[str, Value]) -> bool:
    """Whether a call leaves out an argument that has no default: it would raise, so no run goes this way."""
    spec = function.node.args
    if "**" in keywords or any(value is STARRED for value in arguments):
        return False
    positional = [*spec.posonlyargs, *spec.args]
    needed = [each.arg for each in positional[len(arguments) : len(positional) - len(spec.defaults)]]
    return any(name not in keywords for name in needed)


def _ids(arguments: list[Value]) -> set[int]:
    found: set[int] = set()
    for value in arguments:
        for option in options(value):
            found.add(id(option))
            if isinstance(option, Instance):
                found.update(id(each) for each in option.attributes.values())
    return found

"""Abstract interpretation of whole files: statements, definitions, and which functions are run with what.

Each module's top level is run, then every function and method that could be called from elsewhere, with unknown
arguments; calls between them are followed with what is known of their arguments. Paths that may both be taken are both
followed and joined. Nothing of the checked code is ever executed.
"""

from __future__ import annotations

import ast
import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Any

from softplace.check.calls import NOT_TRAINING, TRAINING
from softplace.check.events import Constructed
from softplace.check.library import HEADS
from softplace.check.loops import Loops
from softplace.check.names import NAMESPACE, NORMALISER_LAYERS, NORMALISERS, SOFTMAX_NAMES
from softplace.check.project import Module
from softplace.check.relevance import CONSTRUCTORS, interesting
from softplace.check.state import STEPS, Exhausted, Frame
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
    Kind,
    LibraryObject,
    Method,
    Site,
    Tensor,
    Union,
    Unknown,
    Value,
    constant,
    join,
    key,
    likeness,
    options,
    tensors,
)
from softplace.check.words import words_of

_REGISTERING = re.compile(rb"^@[\w.]*regist", re.M | re.I)


class Interpreter(Loops):
    """Runs files for their events."""

    def prepare(self) -> None:
        """Run the files that put their models into registries, before a file that takes them from there."""
        for path in self.project.shown:
            if path.endswith(".py") and _REGISTERING.search(self.project.content(path)) and self.relevance.file(path):
                module = self.project.module(path)
                if module is not None:
                    self.guarded(module, lambda module=module: self.run_module(module))  # type: ignore[misc]

    def check_file(self, path: str) -> None:
        """Run all that a file holds."""
        module = self.project.module(path)
        if module is None:
            return
        self.contexts.clear()
        self.guarded(module, lambda: self.run_module(module))
        if module.frame is None:
            return
        for value in list(module.frame.variables.values()):
            if isinstance(value, ClassValue) and value.module is module:
                self.check_class(value)
            elif isinstance(value, Function) and value.module is module and self.is_open(value):
                self.guarded(module, lambda function=value: self.call_unknown(function), value.node.lineno)  # type: ignore[misc]
        for function in module.frame.nested:
            if self.is_open(function):
                self.guarded(module, lambda function=function: self.call_unknown(function), function.node.lineno)  # type: ignore[misc]
        self.check_made(module)
        self.sweep(module)

    def sweep(self, module: Module) -> None:
        """Note the softmaxes that no path led to, so that none is missing from the catalogue."""
        if "oftm" not in module.source.text:
            return
        named = [number for number, line in enumerate(module.source.lines(), 1) if "oftm" in line]
        stack: list[tuple[ast.AST, str]] = [(module.tree, "")]
        while stack:
            node, scope = stack.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                scope = f"{scope}.{node.name}" if scope else node.name
            if isinstance(node, ast.Call) and id(node) not in self.visited:
                self.unvisited(node, module, scope)
            for child in ast.iter_child_nodes(node):
                first, last = getattr(child, "lineno", 0), getattr(child, "end_lineno", None) or named[-1]
                if bisect_left(named, first) != bisect_right(named, last):
                    stack.append((child, scope))

    def unvisited(self, node: ast.Call, module: Module, scope: str) -> None:
        """Note one call that was not run, when its name is that of a softmax."""
        func = node.func
        if not isinstance(func, ast.Attribute):
            return
        home = getattr(func.value, "id", getattr(func.value, "attr", ""))
        of_layers = func.attr in NORMALISER_LAYERS and home == "nn"
        if not of_layers and not (func.attr in SOFTMAX_NAMES and home in ("F", "functional", "torch")):
            dims = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "dim")]
            numbers = [ast.unparse(each).lstrip("-").isdigit() for each in dims]
            if func.attr in ("softmax", "log_softmax") and numbers == [True]:  # x.softmax(-1)
                self.events.add(Constructed(self.site(node, Frame(module, scope)), func.attr, False))
            return
        operation, position = NORMALISER_LAYERS[func.attr] if of_layers else (func.attr, 1)
        if operation not in SOFTMAX_NAMES:
            return
        given = position is None or len(node.args) > position
        named = any(keyword.arg in ("dim", None) for keyword in node.keywords)
        implicit = NORMALISERS[operation].implicit and not given and not named and home != "torch"
        frame = Frame(module, scope)
        self.events.add(Constructed(self.site(node, frame), operation, implicit))

    def is_open(self, function: Function) -> bool:
        """Whether a function is worth running with unknown arguments, whatever it was called with before."""
        return self.relevance.strong(function.node, function.module) or self.relevance.starts(function)

    def check_class(self, cls: ClassValue) -> None:
        """Run every method of a class on an object made with the defaults, after all have set their attributes."""
        if not self.relevance.worth(cls):
            return
        self.guarded(cls.module, lambda: self.generic(cls), cls.node.lineno)
        if cls.generic is not None:
            self.check_methods(cls.generic)

    def check_methods(self, instance: Instance, *, rerun: bool = True) -> None:
        before = instance.version
        worth = self.relevance.methods(instance)
        seen: set[str] = set()
        for ancestor in instance.cls.line():
            if not isinstance(ancestor, ClassValue):
                continue
            for name, value in list(ancestor.attributes.items()):
                if isinstance(value, Function) and name not in seen and name not in CONSTRUCTORS:
                    seen.add(name)
                    if name not in worth or not self.relevance.strong(ancestor.node, ancestor.module):
                        continue
                    receiver: Value | None = instance
                    if "staticmethod" in value.decorators:
                        receiver = None
                    elif "classmethod" in value.decorators:
                        receiver = instance.cls
                    self.guarded(
                        value.module,
                        lambda function=value, receiver=receiver: self.call_unknown(function, receiver),  # type: ignore[misc]
                        value.node.lineno,
                    )
        if rerun and instance.version != before:
            self.check_methods(instance, rerun=False)

    def check_made(self, module: Module) -> None:
        """Objects that were given models or losses: a framework, or a file that is not here, may call their methods."""
        made, self.made = self.made, []
        for instance in made:
            held = list(instance.attributes.values())
            if instance.cls.outside():
                wanted = any(isinstance(value, Instance | LibraryObject | Chain | ClassValue) for value in held)
            else:
                wanted = any(map(self.is_loss, held)) and any(
                    interesting(value) and not self.is_loss(value) for value in held
                )
            if wanted:  # objects of a class that were given the same, but for sizes, are as one until they are changed
                same = instance.made_with[0] == instance.version
                alike = (id(instance.cls), instance.made_with) if same else likeness(instance)
                if alike not in self.likenesses:
                    self.likenesses[alike] = instance  # kept, since its parts are told apart by id
                    self.check_methods(instance, rerun=False)

    def guarded(self, module: Module, run: Callable[[], Any], line: int = 1) -> None:
        """Run something within the limits; what is given up is noted."""
        self.steps = 0
        self.limit = STEPS
        depth, inference, discarding, running = self.depth, self.inference, self.discarding, set(self.running)
        choosing, active = self.choosing, self.active.copy()
        try:
            run()
        except (Exhausted, RecursionError) as error:
            reason = "too long to follow" if isinstance(error, Exhausted) else "nested too deeply to follow"
            self.gap(Site(module.path, line, 0, line, 0), reason)
        finally:
            self.depth, self.inference, self.discarding, self.running = depth, inference, discarding, running
            self.choosing, self.active = choosing, active

    def run_module(self, module: Module) -> Frame:
        """The names of a module, after its top level was run once."""
        if module.frame is None:
            module.frame = Frame(module, "")
            module.frame.variables["__name__"] = Constant("__main__")
            steps, depth = self.steps, self.depth
            self.steps = self.depth = 0
            try:
                body = module.tree.body
                # An error that a cell of a notebook shows does not end the cells after it.
                for part in [[each] for each in body] if module.source.cells else [body]:
                    self.execute(part, module.frame)
            except (Exhausted, RecursionError):
                self.gap(Site(module.path, 1, 0, 1, 0), "its top level is too long to follow")
            finally:
                self.steps, self.depth = steps, depth
        return module.frame

    def execute(self, body: list[ast.stmt], frame: Frame) -> bool:
        """Run statements; False when the path ends in them."""
        for node in body:
            self.check_budget()
            method = _STATEMENTS.get(type(node))
            if method is not None and not method(self, node, frame):
                return False
        return True

    def expression(self, node: ast.Expr, frame: Frame) -> bool:
        call = node.value
        value = self.evaluate(call, frame)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            name, owner = call.func.attr, call.func.value
            if name.endswith("_") and not name.startswith("_") and isinstance(value, Tensor):
                if isinstance(owner, ast.Attribute) and owner.attr == "data":  # x.data.masked_fill_() changes x
                    owner = owner.value
                self.assign(owner, value, frame)
            elif name in _MUTATORS and isinstance(owner, ast.Name | ast.Attribute | ast.Subscript):
                self.mutate(call, name, owner, frame)
        return True

    def mutate(self, call: ast.Call, name: str, owner: ast.expr, frame: Frame) -> None:
        """`items.append(x)` and the like: the name gets a longer list."""
        old = self.evaluate(owner, frame)
        given = [self.evaluate(each, frame) for each in call.args if not isinstance(each, ast.Starred)]
        found: list[Value] = []
        for option in options(old):
            found.append(self.changed(option, name, given))
        new = join(found)
        if key(new) != key(old):
            self.change(owner, new, frame)

    def changed(self, old: Value, name: str, given: list[Value]) -> Value:
        if isinstance(old, Items) and given:
            if name in ("append", "add", "appendleft"):
                if len(old.elements) < 64:
                    middle = () if old.rest is None else (old.rest,)  # any number of elements, counted as one
                    return Items((*old.elements, *middle, given[0]), None, old.mutable)
                return Items(old.elements, join([given[0], old.rest or given[0]]), old.mutable)
            if name == "extend" and isinstance(given[0], Items):
                rest = given[0].rest if given[0].rest is not None else old.rest
                return Items((*old.elements, *given[0].elements)[:64], rest, old.mutable)
            if name == "insert" and len(given) == 2 and isinstance(constant(given[0]), int):
                at = constant(given[0])
                return Items((*old.elements[:at], given[1], *old.elements[at:]), old.rest, old.mutable)
        if isinstance(old, Chain) and given:
            if name == "add_module" and len(given) == 2:
                return Chain((*old.parts, given[1]), (*old.names, str(constant(given[0]))), old.keras)
            if name in ("add", "append"):
                return Chain((*old.parts, given[0]), (*old.names, str(len(old.parts))), old.keras)
        if name in ("add_module", "append") and given and isinstance(old, Method) and old.name in HEADS:
            return Chain((old, given[-1]), ("0", "1"))  # the head of an outside model gets a further layer
        if isinstance(old, Instance) and name in ("add_module", "register_module") and len(given) == 2:
            if isinstance(constant(given[0]), str):
                self.write(old, constant(given[0]), given[1])
            if "__main__chain" in old.attributes and isinstance(old.attributes["__main__chain"], Chain):
                chain = old.attributes["__main__chain"]
                self.write(
                    old, "__main__chain", Chain((*chain.parts, given[1]), (*chain.names, str(constant(given[0]))))
                )
        if isinstance(old, Entries) and name == "update" and given and isinstance(given[0], Entries):
            return Entries(old.entries | given[0].entries, given[0].rest or old.rest)
        return old

    def assignment(self, node: ast.Assign, frame: Frame) -> bool:
        value = self.evaluate(node.value, frame)
        for target in node.targets:
            self.assign(target, value, frame)
        return True

    def annotated_assignment(self, node: ast.AnnAssign, frame: Frame) -> bool:
        if node.value is not None:
            self.assign(node.target, self.evaluate(node.value, frame), frame)
        return True

    def augmented(self, node: ast.AugAssign, frame: Frame) -> bool:
        old, given = self.evaluate(node.target, frame), self.evaluate(node.value, frame)
        if isinstance(old, Items) and isinstance(given, Items) and isinstance(node.op, ast.Add):
            rest = given.rest if given.rest is not None else old.rest
            new: Value = Items((*old.elements, *given.elements)[:64], rest, old.mutable)
        else:
            new = self.combine(type(node.op), old, given, self.site(node, frame), node.target, node.value)
        self.assign(node.target, new, frame)
        return True

    def assign(self, target: ast.expr, value: Value, frame: Frame) -> None:
        """Bind a target to a value."""
        if isinstance(target, ast.Name):
            at = frame
            if target.id in frame.outer:
                while at.parent is not None and (at is frame or target.id not in at.variables):
                    at = at.parent
            at.variables[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            self.unpack(target.elts, value, frame)
        elif isinstance(target, ast.Attribute):
            for owner in options(self.evaluate(target.value, frame)):
                if isinstance(owner, Instance) and target.attr == "__dict__" and isinstance(value, Entries):
                    for name, each in value.entries.items():  # self.__dict__.update(keywords)
                        self.write(owner, str(name), each)
                elif isinstance(owner, LibraryObject) and owner.name == NAMESPACE and not interesting(value):
                    owner.attributes.pop(target.attr, None)  # args.lr = ...: none of the options matters here
                elif isinstance(owner, Instance | LibraryObject | ClassValue):
                    self.write(owner, target.attr, value)
                elif isinstance(owner, Method) and isinstance(owner.receiver, LibraryObject) and owner.name in HEADS:
                    self.write(owner.receiver, owner.name, value)  # model.heads.head = ...: its last layer
        elif isinstance(target, ast.Subscript):
            self.assign_item(target, value, frame)
        elif isinstance(target, ast.Starred):
            self.assign(target.value, value, frame)

    def unpack(self, targets: list[ast.expr], value: Value, frame: Frame) -> None:
        """Bind the targets of `a, b = value`."""
        starred = next((i for i, each in enumerate(targets) if isinstance(each, ast.Starred)), None)
        site = self.site(targets[0], frame) if targets else None
        for position, target in enumerate(targets):
            found: list[Value] = []
            for option in options(value):
                if isinstance(option, Items) and (starred is None or position < starred):
                    if position < len(option.elements):
                        found.append(option.elements[position])
                    elif option.rest is not None:
                        found.append(option.rest)
                elif isinstance(option, Entries) and option.rest is None and position < len(option.entries):
                    found.append(list(option.entries.values())[position])
                elif isinstance(option, Tensor) and site is not None:
                    found.append(self.indexed(option, Constant(0)))
                elif isinstance(option, Unknown):
                    found.append(option)
            discarded = isinstance(target, ast.Name) and set(target.id) == {"_"}
            chosen = isinstance(value, Union) and value.chosen
            element = join(found, chosen=chosen) if found else UNKNOWN
            for tensor in () if discarded or site is None else tensors(element, 1):
                if "of maximum" in tensor.tags and site is not None:
                    self.use(tensor, "value", site)
            self.assign(target, element, frame)

    def change(self, target: ast.expr, value: Value, frame: Frame) -> None:
        """Bind what a container has become to its name, where that name is: it may be of a frame further out."""
        at: Frame | None = frame
        if isinstance(target, ast.Name):
            while at is not None and (target.id not in at.variables or (at.is_class and at is not frame)):
                at = at.parent
        self.assign(target, value, frame if at is None else at)

    def assign_item(self, target: ast.Subscript, value: Value, frame: Frame) -> None:
        owner = self.evaluate(target.value, frame)
        index = self.index(target.slice, frame)
        if isinstance(owner, Entries):
            if isinstance(index, Constant):
                self.change(target.value, Entries(owner.entries | {index.value: value}, owner.rest), frame)
            else:
                rest = value if owner.rest is None else join([owner.rest, value], chosen=True)
                self.change(target.value, Entries(owner.entries, rest), frame)
        elif isinstance(owner, Chain | Items):
            position = constant(index)
            parts = list(owner.parts if isinstance(owner, Chain) else owner.elements)
            if isinstance(owner, Items) and owner.rest is not None and position == -1:
                # Any number of elements comes before the last, counted as one.
                self.assign(target.value, Items((*owner.elements, owner.rest, value), None, owner.mutable), frame)
            elif isinstance(position, int) and -len(parts) <= position < len(parts):
                parts[position] = value
                new: Value = (
                    Chain(tuple(parts), owner.names, owner.keras)
                    if isinstance(owner, Chain)
                    else Items(tuple(parts), owner.rest, owner.mutable)
                )
                self.assign(target.value, new, frame)
        elif isinstance(owner, LibraryObject):
            self.write(owner, "[]", value)
        elif isinstance(owner, Method) and isinstance(owner.receiver, LibraryObject) and owner.name in HEADS:
            self.write(owner.receiver, owner.name, value)  # model.classifier[6] = ...: its last layer
        elif isinstance(owner, Tensor) and isinstance(value, Tensor) and owner.kind in (Kind.CONSTANT, value.kind):
            # zeros that are filled piece by piece: all of it is of that kind
            self.change(target.value, value.but(rank=owner.rank, sizes=(), dim=None), frame)
        elif isinstance(owner, Tensor) and owner.kind == Kind.PROBABILITIES and isinstance(value, Constant):
            masked = (isinstance(index, Tensor) and "mask" in index.tags) or "mask" in words_of(target.slice)
            number = value.value
            if masked and isinstance(number, int | float) and (number == 0 or number < -1e3):
                self.use(owner, "masked after" if number == 0 else "filled after", self.site(target, frame))
            else:
                self.use(owner, "other", self.site(target, frame))
        elif isinstance(owner, Tensor):
            kept = owner.kind if owner.kind == Kind.RAW else Kind.UNKNOWN
            number = constant(value)
            if isinstance(number, int | float) and number < -1e3:  # scores[mask == 0] = -inf
                # By a bound on the scores themselves, as of the k best, never all of a row go.
                by_value = words_of(target.value) == words_of(target.slice)
                tags = {"masked", "masked infinite"} if number == -math.inf and not by_value else {"masked"}
                self.change(target.value, owner.tagged(*tags), frame)
                return
            self.assign(target.value, Tensor(kept, rank=owner.rank, tags=owner.tags - {"constant"}), frame)
        else:
            self.use(value, "stored", self.site(target, frame))

    def returned(self, node: ast.Return, frame: Frame) -> bool:
        value = self.evaluate(node.value, frame) if node.value is not None else Constant(None)
        frame.returns.append(value)
        self.use(value, "returned", self.site(node, frame))
        return False

    def conditional_statement(self, node: ast.If, frame: Frame) -> bool:
        test = self.evaluate(node.test, frame)
        if test is TRAINING or test is NOT_TRAINING:
            live, dead = (node.body, node.orelse) if test is TRAINING else (node.orelse, node.body)
            rest_dead = dead
            self.discard(frame, lambda: self.execute(rest_dead, frame))
            return self.execute(live, frame)
        known = self.truth(test)
        if known is not None:
            if is_switch(node.test, frame):
                other = node.orelse if known else node.body
                self.discard(frame, lambda: self.execute(other, frame))
            return self.execute(node.body if known else node.orelse, frame)
        return self.branches(frame, [lambda: self.execute(node.body, frame), lambda: self.execute(node.orelse, frame)])

    def raised(self, node: ast.Raise, frame: Frame) -> bool:
        self.evaluate(node.exc, frame)
        return False

    def with_block(self, node: ast.With | ast.AsyncWith, frame: Frame) -> bool:
        silent = 0
        for item in node.items:
            value = self.evaluate(item.context_expr, frame)
            if item.optional_vars is not None:
                self.assign(item.optional_vars, value, frame)
            text = ast.dump(item.context_expr) if isinstance(item.context_expr, ast.Call) else ""
            silent += "'no_grad'" in text or "'inference_mode'" in text
        self.inference += silent
        try:
            return self.execute(node.body, frame)
        finally:
            self.inference -= silent

    def attempt(self, node: ast.Try, frame: Frame) -> bool:
        paths: list[Callable[[], bool]] = [lambda: self.execute(node.body, frame) and self.execute(node.orelse, frame)]
        for handler in node.handlers:
            paths.append(lambda handler=handler: self.execute(handler.body, frame))  # type: ignore[misc]
        alive = self.branches(frame, paths) if node.handlers else paths[0]()
        return self.execute(node.finalbody, frame) and alive

    def match(self, node: ast.Match, frame: Frame) -> bool:
        subject = constant(self.evaluate(node.subject, frame))
        paths: list[Callable[[], bool]] = []
        open_end = True
        for case in node.cases:
            pattern = case.pattern
            if isinstance(pattern, ast.MatchValue) and isinstance(pattern.value, ast.Constant) and subject is not None:
                if pattern.value.value != subject:
                    continue
                return self.execute(case.body, frame)
            open_end = open_end and not (isinstance(pattern, ast.MatchAs) and pattern.pattern is None)
            paths.append(lambda case=case: self.execute(case.body, frame))  # type: ignore[misc]
        if open_end:
            paths.append(lambda: True)
        return self.branches(frame, paths)

    def definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef, frame: Frame) -> bool:
        decorators: set[str] = set()
        for decorator in node.decorator_list:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            decorators.add(called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", ""))
        scope = f"{frame.scope}.{node.name}" if frame.scope else node.name
        closure = frame.parent if frame.is_class else frame
        owner = frame.owner if frame.is_class else None
        made = Function(
            node, frame.module, scope, closure, owner, self.defaults(node.args, frame), frozenset(decorators)
        )
        if "setter" in decorators or "overload" in decorators:
            return True
        if not frame.is_class:
            frame.nested.append(made)
            self.registered(node, made, frame)
        frame.variables[node.name] = made
        return True

    def registered(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, made: Value, frame: Frame
    ) -> None:
        """Run the decorators that put a class or function into a registry; what they give back is taken to be it."""
        for decorator in node.decorator_list:
            if "regist" in words_of(decorator):
                found = self.evaluate(decorator, frame)
                if isinstance(found, Function | Bound):
                    self.call(found, [made], {}, self.site(decorator, frame))

    def class_definition(self, node: ast.ClassDef, frame: Frame) -> bool:
        scope = f"{frame.scope}.{node.name}" if frame.scope else node.name
        bases = tuple(self.evaluate(base, frame) for base in node.bases if not isinstance(base, ast.Starred))
        made = ClassValue(node, frame.module, scope, bases)
        inner = Frame(frame.module, scope, frame, {}, made, None, is_class=True)
        self.execute(node.body, inner)
        made.attributes = inner.variables
        frame.variables[node.name] = made
        self.registered(node, made, frame)
        if frame.parent is not None and not frame.is_class:
            self.check_class(made)
        return True

    def outer_names(self, node: ast.Global | ast.Nonlocal, frame: Frame) -> bool:
        frame.outer.update(node.names)
        return True

    def deletion(self, node: ast.Delete, frame: Frame) -> bool:
        for target in node.targets:
            if isinstance(target, ast.Name):
                frame.variables.pop(target.id, None)
        return True

    def assertion(self, node: ast.Assert, frame: Frame) -> bool:
        self.evaluate(node.test, frame)
        return True


def is_switch(test: ast.expr, frame: Frame) -> bool:
    """Whether a test is of a constant in capitals at the top of a file: its user sets it, so both ways are run.

    Where something else asks for it too, as a network and its loss do together, only the way that it says is run.
    """
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test = test.operand
    if not isinstance(test, ast.Name) or not test.id.isupper() or frame.module.frame is None:
        return False
    asked = len(re.findall(rf"\b{test.id}\b", frame.module.source.text)) - 1
    return asked == 1 and isinstance(constant(frame.module.frame.variables.get(test.id)), bool)


_MUTATORS = frozenset(["append", "add", "appendleft", "extend", "insert", "add_module", "register_module", "update"])
_STATEMENTS: dict[type[ast.stmt], Callable[[Any, Any, Frame], bool]] = {
    ast.Expr: Interpreter.expression,
    ast.Assign: Interpreter.assignment,
    ast.AnnAssign: Interpreter.annotated_assignment,
    ast.AugAssign: Interpreter.augmented,
    ast.Return: Interpreter.returned,
    ast.If: Interpreter.conditional_statement,
    ast.For: Interpreter.loop,
    ast.AsyncFor: Interpreter.loop,
    ast.While: Interpreter.while_loop,
    ast.Break: Interpreter.leave_loop,
    ast.Continue: Interpreter.next_round,
    ast.Raise: Interpreter.raised,
    ast.With: Interpreter.with_block,
    ast.AsyncWith: Interpreter.with_block,
    ast.Try: Interpreter.attempt,
    ast.TryStar: Interpreter.attempt,
    ast.Match: Interpreter.match,
    ast.FunctionDef: Interpreter.definition,
    ast.AsyncFunctionDef: Interpreter.definition,
    ast.ClassDef: Interpreter.class_definition,
    ast.Import: Interpreter.imports,
    ast.ImportFrom: Interpreter.imports_from,
    ast.Global: Interpreter.outer_names,
    ast.Nonlocal: Interpreter.outer_names,
    ast.Delete: Interpreter.deletion,
    ast.Assert: Interpreter.assertion,
}

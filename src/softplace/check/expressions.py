"""Expressions: what each can be."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

from softplace.check.calls import NOT_TRAINING, STARRED, TRAINING, boolean
from softplace.check.comprehensions import Comprehensions
from softplace.check.folding import LONGEST_INTEGER, LONGEST_TEXT
from softplace.check.state import Frame, Lazy
from softplace.check.values import (
    FALSE,
    NONE,
    TRUE,
    UNKNOWN,
    Chain,
    Constant,
    Entries,
    Function,
    Instance,
    Items,
    Kind,
    Library,
    LibraryObject,
    Method,
    ModuleValue,
    Site,
    Slice,
    Super,
    Tensor,
    Union,
    Unknown,
    Value,
    constant,
    integer,
    is_parameter,
    join,
    options,
    row,
)
from softplace.check.words import words_of

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
# Evidence that a head is smaller than all features: the size of one is named, or computed by dividing by their number.
_HEADS = re.compile(r"dim_head|head_dim|head_size|d_head|//\s*(?:self\.)?(?:num_|n_)?heads?\b")
WHOLE_SIZES = frozenset(
    [
        "dim",
        "d_model",
        "emb_size",
        "embed_size",
        "embed_dim",
        "emb_dim",
        "embedding_dim",
        "hidden_size",
        "hidden_dim",
        "n_embd",
        "feats",
        "model_dim",
        "c",
    ]
)
_BATCHES = frozenset(["b", "bs", "bsz", "batch", "batch_size", "batchsize", "n_batch", "num_batch", "nbatch"])


def _is_batch(node: ast.expr) -> bool:
    """Whether an expression is named as the number of examples."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):  # batch_size * heads
        return _is_batch(node.left) or _is_batch(node.right)
    return isinstance(node, ast.Name | ast.Attribute) and words_of(node).split()[-1] in _BATCHES


class Expressions(Comprehensions):
    """Evaluating expressions."""

    def evaluate(self, node: ast.expr | None, frame: Frame) -> Value:
        """What an expression can be."""
        if node is None:
            return UNKNOWN
        method = _METHODS.get(type(node))
        return UNKNOWN if method is None else method(self, node, frame)

    def name(self, node: ast.Name, frame: Frame) -> Value:
        found = self.lookup(node.id, frame)
        return Library("builtins." + node.id) if isinstance(found, Unknown) and node.id in _BUILTINS else found

    def attribute(self, node: ast.Attribute, frame: Frame) -> Value:
        return self.get_attribute(self.evaluate(node.value, frame), node.attr, self.site(node, frame))

    def call_node(self, node: ast.Call, frame: Frame) -> Value:
        site = self.site(node, frame)
        if isinstance(node.func, ast.Name):
            special = _SPECIAL.get(node.func.id)
            if special is not None and node.func.id not in frame.variables:
                found = special(self, node, frame, site)
                if found is not None:
                    return found
        callee = self.evaluate(node.func, frame)
        arguments: list[Value] = []
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                value = self.evaluate(argument.value, frame)
                if isinstance(value, Items):
                    arguments.extend(value.elements)
                    if value.rest is not None:
                        arguments.append(STARRED)
                elif isinstance(value, Union) and all(isinstance(option, Items) for option in value.options):
                    longest = max((o for o in value.options if isinstance(o, Items)), key=lambda o: len(o.elements))
                    arguments.extend(longest.elements)
                else:
                    arguments.append(STARRED)
            else:
                arguments.append(self.evaluate(argument, frame))
        keywords: dict[str, Value] = {}
        for keyword in node.keywords:
            value = self.evaluate(keyword.value, frame)
            if keyword.arg is not None:
                keywords[keyword.arg] = value
            elif isinstance(value, Entries) and value.rest is None:
                keywords.update({name: each for name, each in value.entries.items() if isinstance(name, str)})
            else:
                keywords["**"] = UNKNOWN
        if isinstance(callee, Method) and callee.name == "detach" and isinstance(node.func, ast.Attribute):
            drawn = callee.receiver if isinstance(node.func.value, ast.Call) else None
            if isinstance(drawn, Tensor) and drawn.made_by == "gumbel_softmax" and not self.inference:
                self.use(drawn, "detached", site)
        if isinstance(callee, Library) and callee.name.endswith("import_module") and arguments:
            named = constant(arguments[0])
            module = self.project.resolve(frame.module, named, 0) if isinstance(named, str) and named else None
            if module is not None:
                return ModuleValue(module)
            begins = arguments[0].begins if isinstance(arguments[0], Unknown) else ""
            if "." in begins:
                inside = self.project.inside(frame.module, begins.rpartition(".")[0].lstrip("."))
                return join([ModuleValue(each) for each in inside] or [UNKNOWN], chosen=True)
        if isinstance(callee, Library) and callee.name == "hydra.utils.instantiate" and arguments:
            given = arguments[0].entries if isinstance(arguments[0], Entries) else {}
            target = constant(given.get("_target_"))
            if isinstance(target, str):
                module_name, _, last = target.rpartition(".")
                callee = self.imported(Lazy(module_name, 0, last), frame)
                named_ones = {str(name): each for name, each in given.items() if not str(name).startswith("_")}
                arguments, keywords = [], named_ones | keywords
        if isinstance(callee, Library) and callee.name.endswith(".sqrt") and len(node.args) == 1:
            return self.root(arguments[0], node.args[0], frame, inverse=False)
        result = self.call(callee, arguments, keywords, site)
        if isinstance(callee, Method) and callee.name in ("view", "reshape") and isinstance(result, Tensor):
            at = [i for i, each in enumerate(node.args) if _is_batch(each)]
            return result.tagged(*(f"batch {i}" for i in at)) if result.rank == len(node.args) else result
        return result

    def super_call(self, node: ast.Call, frame: Frame, site: Site) -> Value | None:
        at: Frame | None = frame
        while at is not None and (at.owner is None or at.receiver is None):
            at = at.parent
        if at is None or at.owner is None or at.receiver is None:
            return UNKNOWN
        return Super(at.owner, at.receiver)

    def getattr_call(self, node: ast.Call, frame: Frame, site: Site) -> Value | None:
        if len(node.args) < 2:
            return None
        owner, name = self.evaluate(node.args[0], frame), constant(self.evaluate(node.args[1], frame))
        if isinstance(name, str):
            found = self.get_attribute(owner, name, site)
            missing = isinstance(found, Method) and isinstance(owner, Instance | Unknown)
            return self.evaluate(node.args[2], frame) if missing and len(node.args) > 2 else found
        if isinstance(owner, ModuleValue):
            return self.any_of(self.registry(owner))
        return UNKNOWN

    def setattr_call(self, node: ast.Call, frame: Frame, site: Site) -> Value | None:
        if len(node.args) == 3:
            owner, name = self.evaluate(node.args[0], frame), constant(self.evaluate(node.args[1], frame))
            value = self.evaluate(node.args[2], frame)
            if isinstance(owner, Instance | LibraryObject) and isinstance(name, str):
                self.write(owner, name, value)
        return NONE

    def hasattr_call(self, node: ast.Call, frame: Frame, site: Site) -> Value | None:
        if len(node.args) != 2:
            return None
        owner, name = self.evaluate(node.args[0], frame), constant(self.evaluate(node.args[1], frame))
        if isinstance(owner, Instance) and isinstance(name, str):
            return TRUE if name in owner.attributes or owner.cls.find(name) is not None else UNKNOWN
        return UNKNOWN

    def globals_call(self, node: ast.Call, frame: Frame, site: Site) -> Value | None:
        return self.registry(ModuleValue(frame.module)) if not node.args else None

    def eval_call(self, node: ast.Call, frame: Frame, site: Site) -> Value | None:
        """eval(name): one of the classes and functions that the file knows."""
        if len(node.args) != 1:
            return None
        name = constant(self.evaluate(node.args[0], frame))
        return (
            self.lookup(name, frame) if isinstance(name, str) else self.any_of(self.registry(ModuleValue(frame.module)))
        )

    def isinstance_call(self, node: ast.Call, frame: Frame, site: Site) -> Value | None:
        if len(node.args) != 2:
            return None
        value, cls = self.evaluate(node.args[0], frame), self.evaluate(node.args[1], frame)
        classes = list(cls.elements) if isinstance(cls, Items) else list(options(cls))
        names = {each.name.rsplit(".", 1)[-1] for each in classes if isinstance(each, Library)}
        if isinstance(value, Instance):
            if any(each in value.cls.line() for each in classes):
                return TRUE
            return FALSE if names and names <= {"tuple", "list", "dict", "str", "Tensor", "int", "float"} else UNKNOWN
        if isinstance(value, Tensor) and names:
            return boolean("Tensor" in names) if names <= {"tuple", "list", "dict", "Tensor", "str"} else UNKNOWN
        if isinstance(value, Items) and names:
            kind = "list" if value.mutable else "tuple"
            return boolean(kind in names) if names <= {"tuple", "list", "dict", "Tensor", "str"} else UNKNOWN
        if isinstance(value, Entries) and names:
            return boolean("dict" in names) if names <= {"tuple", "list", "dict", "Tensor", "str"} else UNKNOWN
        if isinstance(value, Constant) and names <= {"str", "int", "float", "bool", "list", "tuple", "dict"}:
            return boolean(type(value.value).__name__ in names)
        return UNKNOWN

    def constant(self, node: ast.Constant, frame: Frame) -> Value:
        value = node.value
        if isinstance(value, int) and value.bit_length() > LONGEST_INTEGER:  # it could not even be printed
            return UNKNOWN
        return NONE if value is None else Constant(value)

    def sequence(self, node: ast.Tuple | ast.List | ast.Set, frame: Frame) -> Value:
        elements: list[Value] = []
        rest: Value | None = None
        for each in node.elts:
            if isinstance(each, ast.Starred):
                value = self.evaluate(each.value, frame)
                if isinstance(value, Items):
                    elements.extend(value.elements)
                    rest = value.rest if value.rest is not None else rest
                else:
                    rest = UNKNOWN
            else:
                elements.append(self.evaluate(each, frame))
        return row(elements, rest, not isinstance(node, ast.Tuple))

    def mapping(self, node: ast.Dict, frame: Frame) -> Value:
        entries: dict[Any, Value] = {}
        rest: Value | None = None
        for name, each in zip(node.keys, node.values, strict=True):
            value = self.evaluate(each, frame)
            if name is None:
                if isinstance(value, Entries):
                    entries.update(value.entries)
                    rest = value.rest or rest
                else:
                    rest = UNKNOWN
                continue
            found = self.evaluate(name, frame)
            if isinstance(found, Constant):
                entries[found.value] = value
            else:
                rest = value if rest is None else join([rest, value])
        return Entries(entries, rest)

    def subscript(self, node: ast.Subscript, frame: Frame) -> Value:
        value = self.evaluate(node.value, frame)
        index = self.index(node.slice, frame)
        chosen = isinstance(value, Union) and value.chosen
        return join([self.item(option, index, self.site(node, frame)) for option in options(value)], chosen=chosen)

    def index(self, node: ast.expr, frame: Frame) -> Value:
        """The index of a subscript; slices as Slice."""
        if isinstance(node, ast.Slice):
            ends = [None if part is None else self.evaluate(part, frame) for part in (node.lower, node.upper)]
            self.evaluate(node.step, frame)
            start, stop = map(integer, ends)
            known = all(end is None or integer(end) is not None for end in ends) and node.step is None
            return Slice(node.lower is None and node.upper is None, start, stop, known)
        if isinstance(node, ast.Tuple):
            return Items(tuple(self.index(each, frame) for each in node.elts))
        return self.evaluate(node, frame)

    def item(self, value: Value, index: Value, site: Site) -> Value:
        """value[index]"""
        position = integer(index)
        if isinstance(value, Items):
            if position is not None and -len(value.elements) <= position < len(value.elements):
                if value.rest is None or position >= 0:
                    return value.elements[position]
                return self.any_of(value)
            if isinstance(index, Slice):
                if index.known and value.rest is None:
                    return Items(value.elements[index.start : index.stop], None, value.mutable)
                return value if index.full else Items((), self.any_of(value), value.mutable)
            return value.rest if position is not None and value.rest is not None else self.any_of(value)
        if isinstance(value, Entries):
            if isinstance(index, Constant):
                if index.value in value.entries:
                    return value.entries[index.value]
                if isinstance(index.value, int) and value.rest is None and value.entries:
                    values = list(value.entries.values())
                    return values[index.value] if -len(values) <= index.value < len(values) else UNKNOWN
                return UNKNOWN if value.rest is None else value.rest
            return self.any_of(value) if value.entries or value.rest is not None else UNKNOWN
        if isinstance(value, Chain):
            if position is not None and -len(value.parts) <= position < len(value.parts):
                return value.parts[position]
            if isinstance(index, Slice) and index.known:
                return Chain(value.parts[index.start : index.stop], value.names[index.start : index.stop], value.keras)
            return UNKNOWN
        if isinstance(value, Tensor):
            return self.indexed(value, index)
        if isinstance(value, Instance):
            found = value.cls.find("__getitem__")
            if isinstance(found, Function) and self.is_module(value.cls):
                return self.call_function(found, [value, index], {}, site)
        return value if is_parameter(value) and not isinstance(constant(index), str) else UNKNOWN

    def binary(self, node: ast.BinOp, frame: Frame) -> Value:
        left, right = self.evaluate(node.left, frame), self.evaluate(node.right, frame)
        if isinstance(node.op, ast.Pow) and constant(right) in (0.5, -0.5):
            return self.root(left, node.left, frame, inverse=constant(right) < 0)
        return self.combine(type(node.op), left, right, self.site(node, frame), node.left, node.right)

    def root(self, of: Value, node: ast.expr, frame: Frame, *, inverse: bool) -> Value:
        """The root of a size, as attention is scaled by. `whole root`: of all features, though heads share them."""
        if isinstance(of, Tensor):
            return Tensor(Kind.UNKNOWN, tags=of.tags & {"root", "inverse root"})
        tags = {"inverse root"} if inverse else {"root"}
        words = words_of(node).split()
        plain = isinstance(node, ast.Name | ast.Attribute) and words and words[-1] in WHOLE_SIZES
        owner = frame.owner
        # A name that was assigned anew (dim = dim // heads) is no longer the parameter.
        unchanged = isinstance(of, Unknown) and ("parameter" in of.reason or "property" in of.reason)
        if plain and unchanged and owner is not None and _HEADS.search(self.relevance.text(owner.node, owner.module)):
            tags.add("whole root")
        return Tensor(Kind.UNKNOWN, tags=frozenset(tags))

    def unary(self, node: ast.UnaryOp, frame: Frame) -> Value:
        value = self.evaluate(node.operand, frame)
        if isinstance(node.op, ast.Not):
            if value is TRAINING:
                return NOT_TRAINING
            if value is NOT_TRAINING:
                return TRAINING
            known = self.truth(value)
            return UNKNOWN if known is None else boolean(not known)
        if isinstance(value, Constant) and isinstance(value.value, int | float):
            if isinstance(node.op, ast.USub):
                return Constant(-value.value)
            return value
        if isinstance(value, Tensor):
            if isinstance(node.op, ast.USub):
                kind = Kind.RAW if value.kind == Kind.RAW else Kind.UNKNOWN
                self.use(value, "negated", self.site(node, frame))
                return Tensor(kind, rank=value.rank, sizes=value.sizes, tags=value.tags | {"negative"})
            return Tensor(Kind.UNKNOWN)
        if isinstance(node.op, ast.USub):
            return Tensor(Kind.UNKNOWN, tags=frozenset({"negative"}))
        return UNKNOWN

    def boolean_operation(self, node: ast.BoolOp, frame: Frame) -> Value:
        is_or = isinstance(node.op, ast.Or)
        found: list[Value] = []
        for each in node.values:
            value = self.evaluate(each, frame)
            known = self.truth(value)
            if known is is_or:
                return join([*found, value]) if found else value
            if known is None:
                found.append(value)
            last = value
        return join(found) if found else last

    def compare(self, node: ast.Compare, frame: Frame) -> Value:
        left = self.evaluate(node.left, frame)
        rights = [self.evaluate(each, frame) for each in node.comparators]
        right, kind = rights[0], node.ops[0]
        if len(rights) > 1:
            return UNKNOWN
        if isinstance(kind, ast.Is | ast.IsNot):
            if right is NONE and not isinstance(left, Unknown | Union | Method):
                return boolean((left is NONE) == isinstance(kind, ast.Is))
            if isinstance(left, Constant) and isinstance(right, Constant):
                return boolean((left.value is right.value) == isinstance(kind, ast.Is))
            return UNKNOWN
        if isinstance(kind, ast.In | ast.NotIn):
            known: list[Any] | None = None
            if isinstance(right, Items) and right.rest is None and all(isinstance(e, Constant) for e in right.elements):
                known = [constant(each) for each in right.elements]
            elif isinstance(right, Entries) and right.rest is None:
                known = list(right.entries)
            words = (constant(left), constant(right))
            if isinstance(words[0], str) and isinstance(words[1], str):
                return boolean((words[0] in words[1]) == isinstance(kind, ast.In))
            if isinstance(left, Constant) and known is not None:
                return boolean((left.value in known) == isinstance(kind, ast.In))
            return UNKNOWN
        if isinstance(left, Constant) and isinstance(right, Constant):
            try:
                return boolean(bool(_COMPARE[type(kind)](left.value, right.value)))
            except TypeError:
                return UNKNOWN
        if isinstance(left, Tensor) or isinstance(right, Tensor):
            self.use(left, "compared", self.site(node, frame))
            causal = left.tags & {"causal"} if isinstance(left, Tensor) else frozenset()
            return Tensor(Kind.UNKNOWN, tags=causal | {"mask"})
        return UNKNOWN

    def conditional(self, node: ast.IfExp, frame: Frame) -> Value:
        test = self.evaluate(node.test, frame)
        if test is TRAINING or test is NOT_TRAINING:
            live, dead = (node.body, node.orelse) if test is TRAINING else (node.orelse, node.body)
            self.discard(frame, lambda: bool(self.evaluate(dead, frame)))
            return self.evaluate(live, frame)
        known = self.truth(test)
        if known is not None:
            return self.evaluate(node.body if known else node.orelse, frame)
        return join([self.evaluate(node.body, frame), self.evaluate(node.orelse, frame)])

    def function_expression(self, node: ast.Lambda, frame: Frame) -> Value:
        defaults = self.defaults(node.args, frame)
        made = Function(node, frame.module, frame.scope, frame, frame.owner, defaults)
        frame.nested.append(made)
        return made

    def defaults(self, spec: ast.arguments, frame: Frame) -> dict[str, Value]:
        """Values of default arguments by parameter."""
        positional = [*spec.posonlyargs, *spec.args]
        found: dict[str, Value] = {}
        if spec.defaults:
            for parameter, default in zip(positional[-len(spec.defaults) :], spec.defaults, strict=True):
                found[parameter.arg] = self.evaluate(default, frame)
        for parameter, each in zip(spec.kwonlyargs, spec.kw_defaults, strict=True):
            if each is not None:
                found[parameter.arg] = self.evaluate(each, frame)
        return found

    def text(self, node: ast.JoinedStr, frame: Frame) -> Value:
        parts: list[str] = []
        for each in node.values:
            value = (
                self.evaluate(each.value, frame) if isinstance(each, ast.FormattedValue) else self.evaluate(each, frame)
            )
            self.use(value, "printed", self.site(node, frame))
            if not isinstance(value, Constant):
                return Unknown("a text", "".join(parts))
            parts.append(str(value.value))
        whole = "".join(parts)
        return Constant(whole) if parts and len(whole) <= LONGEST_TEXT else UNKNOWN

    def starred(self, node: ast.Starred, frame: Frame) -> Value:
        return self.evaluate(node.value, frame)

    def named(self, node: ast.NamedExpr, frame: Frame) -> Value:
        value = self.evaluate(node.value, frame)
        self.assign(node.target, value, frame)
        return value

    def awaited(self, node: ast.Await, frame: Frame) -> Value:
        return self.evaluate(node.value, frame)

    def yielded(self, node: ast.Yield | ast.YieldFrom, frame: Frame) -> Value:
        value = self.evaluate(node.value, frame)
        if isinstance(node, ast.YieldFrom):
            value = self.element(value, self.site(node, frame))
        frame.yields.append(value)
        return UNKNOWN


_METHODS: dict[type[ast.expr], Callable[[Any, Any, Frame], Value]] = {
    ast.Name: Expressions.name,
    ast.Attribute: Expressions.attribute,
    ast.Call: Expressions.call_node,
    ast.Constant: Expressions.constant,
    ast.Tuple: Expressions.sequence,
    ast.List: Expressions.sequence,
    ast.Set: Expressions.sequence,
    ast.Dict: Expressions.mapping,
    ast.Subscript: Expressions.subscript,
    ast.BinOp: Expressions.binary,
    ast.UnaryOp: Expressions.unary,
    ast.BoolOp: Expressions.boolean_operation,
    ast.Compare: Expressions.compare,
    ast.IfExp: Expressions.conditional,
    ast.Lambda: Expressions.function_expression,
    ast.ListComp: Expressions.comprehension,
    ast.SetComp: Expressions.comprehension,
    ast.GeneratorExp: Expressions.comprehension,
    ast.DictComp: Expressions.comprehension,
    ast.JoinedStr: Expressions.text,
    ast.Starred: Expressions.starred,
    ast.NamedExpr: Expressions.named,
    ast.Await: Expressions.awaited,
    ast.Yield: Expressions.yielded,
    ast.YieldFrom: Expressions.yielded,
}
_SPECIAL: dict[str, Callable[[Any, ast.Call, Frame, Site], Value | None]] = {
    "super": Expressions.super_call,
    "getattr": Expressions.getattr_call,
    "setattr": Expressions.setattr_call,
    "globals": Expressions.globals_call,
    "hasattr": Expressions.hasattr_call,
    "isinstance": Expressions.isinstance_call,
    "eval": Expressions.eval_call,
}
_BUILTINS = frozenset(
    [
        "abs",
        "all",
        "any",
        "bool",
        "bytes",
        "callable",
        "dict",
        "enumerate",
        "filter",
        "float",
        "frozenset",
        "getattr",
        "hasattr",
        "hash",
        "id",
        "int",
        "isinstance",
        "iter",
        "len",
        "list",
        "map",
        "max",
        "min",
        "next",
        "object",
        "open",
        "pow",
        "print",
        "range",
        "repr",
        "reversed",
        "round",
        "set",
        "setattr",
        "sorted",
        "staticmethod",
        "str",
        "sum",
        "super",
        "tuple",
        "type",
        "vars",
        "zip",
        "eval",
        "exec",
        "locals",
        "dir",
    ]
)

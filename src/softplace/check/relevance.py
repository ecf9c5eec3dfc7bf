"""What can matter at all: most code of a project neither holds a softmax nor leads one to a loss, and is not
interpreted.

Decided on the text, before and instead of interpreting: a function is run of its own accord when its text (for a
method: that of its class) holds a softmax or a loss, and followed into when it also might build or pass on a model.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from softplace.check.names import NORMALISER_LAYERS, NORMALISERS
from softplace.check.project import Module, Project
from softplace.check.values import (
    NORMALISED,
    Bound,
    Chain,
    ClassValue,
    Entries,
    Function,
    Instance,
    Items,
    Library,
    LibraryObject,
    ModuleValue,
    Partial,
    Tensor,
    Union,
    Value,
)

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef

# In lower case. Plain search for words is several times as fast as one regular expression of them.
STRONG = (
    "softm",
    "soft_m",
    "sigmoid",
    "crossentropy",
    "cross_entropy",
    "nll",
    "kl_div",
    "kldiv",
    "bce",
    "binary_cross",
    "criterion",
    "loss",
    "sparsemax",
    "entmax",
    "categorical",
    "exp(",
    "torch.log(",
    ".log()",
)
WEAK = (
    "model",
    "network",
    "net(",
    "net.",
    "net)",
    "net,",
    "backbone",
    "classifier",
    "encoder",
    "sequential",
    "getattr(f,",
)
_STRONG_BYTES = tuple(word.encode() for word in STRONG)
_MODEL = (b"model", b"network", b"net(", b"net =", b"net,", b"encoder", b"classifier")
_RUN = (b"train", b"fit(", b"run", b"main(", b"step(", b"learn")
_CLASS = re.compile(rb"^[ \t]*class[ \t]+(\w+)[ \t]*[(:]", re.M)
_USED = re.compile(r"([A-Za-z_]\w+)\s*[(,})\]]")
_ENTRY = re.compile(r"(main|train|run|fit)(_|$)")
_USED_BYTES = re.compile(_USED.pattern.encode())
_WORD = re.compile(r"[A-Za-z_]\w*")
_WRITTEN = re.compile(r"\bself\.(\w+)(?=(?:\s*:[^=\n]*)?(?:\s*,[^=\n(]*)?\s*[-+*/@|&]?=(?!=))")
_NO_NAMES: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
CONSTRUCTORS = ("__init__", "__post_init__")
ROUNDS = 4
_NETWORK_PACKAGES = (
    "torch.nn",
    "torchvision.models",
    "torch.hub",
    "timm",
    "transformers",
    "keras",
    "tensorflow",
    "optax",
    "flax",
    "kornia.losses",
    "segmentation_models",
)


class Relevance:
    """Answers, kept by node."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.noisy = frozenset(name.decode() for name in _noisy_classes(project))
        self._texts: dict[int, tuple[bool, bool]] = {}
        self._codes: dict[int, bool] = {}
        self._words: dict[int, tuple[frozenset[str], frozenset[str]]] = {}
        self._classes: dict[int, tuple[ClassValue, bool]] = {}
        self._lines: dict[str, list[str]] = {}

    def file(self, path: str) -> bool:
        """Whether a file is worth interpreting."""
        data = self.project.content(path).lower()
        if any(word in data for word in _STRONG_BYTES):
            return True
        return any(word in data for word in _MODEL) and any(word in data for word in _RUN)

    def strong(self, node: Definition, module: Module) -> bool:
        """Whether the text of a function or class holds a softmax or a loss."""
        return self._judge(node, module)[0]

    def starts(self, function: Function) -> bool:
        """Whether a function is an entry by its name, and builds what holds a softmax or a loss: main, train_model."""
        if _ENTRY.match(function.scope.rsplit(".", 1)[-1]) is None:
            return False
        return not self.noisy.isdisjoint(_USED.findall(self.text(function.node, function.module)))

    def worth(self, cls: ClassValue) -> bool:
        """Whether a class is worth running: it holds a softmax or a loss, or what it builds may meet that of a base."""
        strong, followed = self._judge(cls.node, cls.module)
        if strong or not followed:
            return strong
        bases = [each for each in cls.line()[1:] if isinstance(each, ClassValue)]
        texts = (self.text(each.node, each.module).lower() for each in bases if self.strong(each.node, each.module))
        return any(word in text for text in texts for word in ("loss", "criterion", "entropy"))

    def followed(self, function: Function, arguments: list[Value]) -> bool:
        """Whether a call of a function is worth following."""
        if self._judge(function.node, function.module)[1]:
            return True
        owner = function.owner
        if "compact" in function.decorators or "regist" in function.scope.lower():  # flax builds its layers there
            return True
        if owner is not None and function.scope.endswith((".forward", ".__call__", ".call", ".__init__")):
            receiver = arguments[0] if arguments else None
            line = receiver.cls.line() if isinstance(receiver, Instance) else (owner,)
            if any(isinstance(each, ClassValue) and self._judge(each.node, each.module)[1] for each in line):
                return True
        if owner is not None and arguments and isinstance(arguments[0], Instance):
            # A method of what holds a network or a loss, as trainers and wrappers do, may hand it on.
            holds = self.noisy_part if interesting(arguments[0]) else interesting
            if any(holds(value) for value in list(arguments[0].attributes.values())[:32]):
                return True
        first = 1 if owner is not None else 0
        return any(interesting(value) for value in arguments[first:])

    def noisy_part(self, value: Value, depth: int = 2) -> bool:
        """Whether a part of a network is worth following: a network whose text is, or layers with a softmax."""
        if isinstance(value, Instance):
            return self._followed_class(value.cls)
        if isinstance(value, LibraryObject | Library):
            last = value.name.rsplit(".", 1)[-1]
            return last in NORMALISER_LAYERS or last in NORMALISERS
        if depth and isinstance(value, Chain | Items):
            parts = value.parts if isinstance(value, Chain) else value.elements
            return any(self.noisy_part(each, depth - 1) for each in parts[:16])
        if depth and isinstance(value, Union):
            return any(self.noisy_part(each, depth - 1) for each in value.options)
        return False

    def _followed_class(self, cls: ClassValue) -> bool:
        """Whether a class or one of its ancestors is worth following."""
        known = self._classes.get(id(cls))
        if known is None:
            line = [each for each in cls.line() if isinstance(each, ClassValue)]
            known = self._classes[id(cls)] = (cls, any(self._judge(each.node, each.module)[1] for each in line))
        return known[1]

    def methods(self, instance: Instance) -> set[str]:
        """The methods of an object that are worth running of their own accord.

        Those that hold a softmax, a loss or a model; those that name such a method, or an attribute of the object that
        holds something of the kind; and those that set what these read.
        """
        named: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        found: set[str] = set()
        for ancestor in instance.cls.line():
            for name, value in ancestor.attributes.items() if isinstance(ancestor, ClassValue) else ():
                if not isinstance(value, Function) or name in CONSTRUCTORS:
                    continue
                words, written = named.get(name, _NO_NAMES)
                if name in named and "super" not in words:
                    continue
                more = self._names(value)
                named[name] = (words | more[0], written | more[1])
                if self._leads(value.node, value.module):
                    found.add(name)
        reached = found | {name for name, value in instance.attributes.items() if self.hot(value)}
        while reached:
            read = {word for name in reached if name in named for word in named[name][0]}
            reached = {
                name
                for name, (words, written) in named.items()
                if name not in found and not (words.isdisjoint(reached) and written.isdisjoint(read))
            }
            found |= reached
        return found

    def hot(self, value: Value, depth: int = 3) -> bool:
        """Whether a value is, holds or makes a softmax, a loss, or what they make."""
        if isinstance(value, Tensor):
            return value.kind in NORMALISED
        if isinstance(value, Library | LibraryObject):
            lowered = value.name.lower()
            if any(word in lowered for word in STRONG):
                return True
            if isinstance(value, Library) or value.name.startswith("torch.nn."):
                return isinstance(value, LibraryObject) and any(self.hot(each, depth - 1) for each in value.arguments)
            return value.name.startswith(_NETWORK_PACKAGES)
        if isinstance(value, Function):
            return self._leads(value.node, value.module)
        if isinstance(value, Instance | ClassValue):
            cls = value.cls if isinstance(value, Instance) else value
            if any(isinstance(each, ClassValue) and self._leads(each.node, each.module) for each in cls.line()):
                return True
        if depth == 0:
            return True
        return any(self.hot(part, depth - 1) for part in _parts(value))

    def _names(self, function: Function) -> tuple[frozenset[str], frozenset[str]]:
        """The names in the source of a function, and the attributes of the object that it may set.

        A call of the object itself is one of forward.
        """
        known = self._words.get(id(function.node))
        if known is None:
            text = self.code(function.node, function.module)
            words = frozenset(_WORD.findall(text))
            if "self(" in text:
                words |= {"forward", "__call__", "call"}
            known = self._words[id(function.node)] = (words, frozenset(_WRITTEN.findall(text)))
        return known

    def code(self, node: Definition, module: Module) -> str:
        """The source of a function or class without its documentation and lines of comment."""
        lines = self._lines_of(module)
        first = node.lineno
        kept: list[str] = []
        for start, end in _documentation(node):
            kept += lines[first - 1 : start - 1]
            first = end + 1
        kept += lines[first - 1 : node.end_lineno]
        return "\n".join(line for line in kept if not line.lstrip().startswith("#"))

    def text(self, node: object, module: Module) -> str:
        """The source of a function or class."""
        lines = self._lines_of(module)
        return "\n".join(lines[getattr(node, "lineno", 1) - 1 : getattr(node, "end_lineno", None) or 1])

    def _lines_of(self, module: Module) -> list[str]:
        lines = self._lines.get(module.path)
        if lines is None:
            lines = self._lines[module.path] = module.source.lines()
        return lines

    def _judge(self, node: Definition, module: Module) -> tuple[bool, bool]:
        known = self._texts.get(id(node))
        if known is None:
            known = self._texts[id(node)] = self._judged(self.text(node, module))
        return known

    def _leads(self, node: Definition, module: Module) -> bool:
        """Whether the code of a function or class, whatever its documentation says, holds a softmax, loss or model."""
        known = self._codes.get(id(node))
        if known is None:
            known = self._codes[id(node)] = self._judge(node, module)[1] and self._judged(self.code(node, module))[1]
        return known

    def _judged(self, text: str) -> tuple[bool, bool]:
        lowered = text.lower()
        strong = any(word in lowered for word in STRONG)
        followed = strong or any(word in lowered for word in WEAK)
        return strong, followed or not self.noisy.isdisjoint(_USED.findall(text))


def _documentation(node: Definition) -> Iterator[tuple[int, int]]:
    """First and last lines of the documentation of a function or class and of what is defined right in it."""
    if isinstance(node, ast.Lambda):
        return
    for position, each in enumerate(node.body):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _documentation(each)
        elif (
            position == 0
            and isinstance(each, ast.Expr)
            and isinstance(each.value, ast.Constant)
            and each.lineno > node.lineno
        ):
            yield each.lineno, each.end_lineno or each.lineno


def _noisy_classes(project: Project) -> set[bytes]:
    """Names of classes whose text holds a softmax or loss, or names such a class."""
    noisy: set[bytes] = set()
    rest: list[tuple[bytes, set[bytes]]] = []
    for path in project.shown:
        if path.endswith(".ipynb"):
            continue
        data = project.content(path)
        starts = [(match.start(), match[1]) for match in _CLASS.finditer(data)]
        for (start, name), end in zip(starts, [*(at for at, _ in starts[1:]), len(data)], strict=False):
            text = data[start:end]
            lowered = text.lower()
            if any(word in lowered for word in _STRONG_BYTES):
                noisy.add(name)
            else:
                rest.append((name, set(_USED_BYTES.findall(text))))
    for _ in range(ROUNDS):
        found = {name for name, words in rest if name not in noisy and not noisy.isdisjoint(words)}
        if not found:
            break
        noisy |= found
    return noisy


def _parts(value: Value) -> Iterable[Value]:
    """What a value holds."""
    if isinstance(value, Union):
        return value.options
    if isinstance(value, Items):
        return value.elements
    if isinstance(value, Entries):
        return value.entries.values()
    if isinstance(value, Chain):
        return value.parts
    if isinstance(value, Bound | Partial):
        return (value.function,)
    return value.attributes.values() if isinstance(value, Instance) else ()


def interesting(value: Value, depth: int = 2) -> bool:
    """Whether a value can take part in a finding: a normalised tensor, a network, a loss, a function."""
    if isinstance(value, Tensor):
        return value.kind in NORMALISED
    if isinstance(value, Chain | Function | Bound | Partial | ModuleValue):
        return True
    if isinstance(value, LibraryObject | Library):
        return value.name.startswith(_NETWORK_PACKAGES) or value.name.rsplit(".", 1)[-1] in NORMALISERS
    if isinstance(value, Instance | ClassValue):
        cls = value.cls if isinstance(value, Instance) else value
        return any(cls.find(name) is not None for name in ("forward", "__call__", "call"))
    if depth:
        if isinstance(value, Union):
            return any(interesting(option, depth - 1) for option in value.options)
        if isinstance(value, Items):
            return any(interesting(element, depth - 1) for element in value.elements[:8])
        if isinstance(value, Entries):
            return any(interesting(element, depth - 1) for element in list(value.entries.values())[:8])
    return False

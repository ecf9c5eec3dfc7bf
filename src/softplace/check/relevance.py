"""What can matter at all: most code of a project neither holds a softmax nor leads one to a loss, and is not
interpreted.

Decided on the text, before and instead of interpreting: a function is run of its own accord when its text (for a
method: that of its class) holds a softmax or a loss, and followed into when it also might build or pass on a model.
"""

from __future__ import annotations

import re

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
    Partial,
    Tensor,
    Union,
    Value,
)

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
_USED_BYTES = re.compile(_USED.pattern.encode())
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
        self._lines: dict[str, list[str]] = {}

    def file(self, path: str) -> bool:
        """Whether a file is worth interpreting."""
        data = self.project.content(path).lower()
        if any(word in data for word in _STRONG_BYTES):
            return True
        return any(word in data for word in _MODEL) and any(word in data for word in _RUN)

    def strong(self, node: object, module: Module) -> bool:
        """Whether the text of a function or class holds a softmax or a loss."""
        return self._judge(node, module)[0]

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
        if "regist" in function.scope.lower():
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
            return any(
                isinstance(each, ClassValue) and self._judge(each.node, each.module)[1] for each in value.cls.line()
            )
        if isinstance(value, LibraryObject | Library):
            last = value.name.rsplit(".", 1)[-1]
            return last in NORMALISER_LAYERS or last in NORMALISERS
        if depth and isinstance(value, Chain | Items):
            parts = value.parts if isinstance(value, Chain) else value.elements
            return any(self.noisy_part(each, depth - 1) for each in parts[:16])
        if depth and isinstance(value, Union):
            return any(self.noisy_part(each, depth - 1) for each in value.options)
        return False

    def text(self, node: object, module: Module) -> str:
        """The source of a function or class."""
        lines = self._lines.get(module.path)
        if lines is None:
            lines = self._lines[module.path] = module.source.lines()
        return "\n".join(lines[getattr(node, "lineno", 1) - 1 : getattr(node, "end_lineno", None) or 1])

    def _judge(self, node: object, module: Module) -> tuple[bool, bool]:
        known = self._texts.get(id(node))
        if known is None:
            text = self.text(node, module)
            lowered = text.lower()
            strong = any(word in lowered for word in STRONG)
            followed = strong or any(word in lowered for word in WEAK)
            if not followed:
                followed = not self.noisy.isdisjoint(_USED.findall(text))
            known = self._texts[id(node)] = (strong, followed)
        return known


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


def interesting(value: Value, depth: int = 2) -> bool:
    """Whether a value can take part in a finding: a normalised tensor, a network, a loss, a function."""
    if isinstance(value, Tensor):
        return value.kind in NORMALISED
    if isinstance(value, Chain | Function | Bound | Partial):
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

"""Calls of outside packages: layers, losses, distributions, wrappers, training frameworks and Keras models."""

from __future__ import annotations

from softplace.check.events import Constructed, Normalised
from softplace.check.frameworks import FUNCTIONAL_LAYERS, Frameworks, class_scores, is_skorch
from softplace.check.losses import LOSSES
from softplace.check.names import (
    ACTIVATIONS,
    BINARY_SAMPLERS,
    CALLERS,
    GRADIENTS,
    KEEPING_LAYERS,
    KERAS_LAYERS,
    LINEAR_LAYERS,
    MODEL_METHODS,
    NAMESPACE,
    NAMESPACES,
    NORMALISER_LAYERS,
    NORMALISERS,
    PASSING_METHODS,
    RECURRENT_LAYERS,
    SAMPLERS,
    TENSOR_PACKAGES,
    WRAPPERS,
    canonical,
)
from softplace.check.relevance import interesting
from softplace.check.values import (
    NONE,
    UNKNOWN,
    Chain,
    ClassValue,
    Constant,
    Entries,
    Instance,
    Items,
    Kind,
    Library,
    LibraryObject,
    Method,
    ModuleValue,
    Partial,
    Site,
    Super,
    Tensor,
    Unknown,
    Value,
    constant,
    integer,
    join,
    key,
    options,
)

HEADS = ("fc", "classifier", "head", "heads", "last_linear", "output", "_fc", "fc2", "[]")
"""Attributes of outside models that hold their last layer."""
_RANKS = {"Conv1d": 3, "Conv2d": 4, "Conv3d": 5, "ConvTranspose1d": 3, "ConvTranspose2d": 4, "ConvTranspose3d": 5}


_FIELDS = frozenset(["dataclasses.field", "pydantic.Field", "attr.ib", "attr.field", "attrs.field"])


class LibraryCalls(Frameworks):
    """Calls of what is not of the project."""

    def starred_library(self, dotted: str) -> dict[str, Value]:
        """Names that `from torch import *` and the like bring."""
        names = {
            "torch": ["nn", "optim", "softmax", "log_softmax", "sigmoid", "exp", "log", "matmul", "bmm", "sum", "max"],
            "torch.nn": [
                *NORMALISER_LAYERS,
                *LINEAR_LAYERS,
                *KEEPING_LAYERS,
                *(
                    name.rsplit(".", 1)[1]
                    for name, loss in LOSSES.items()
                    if name.startswith("torch.nn.") and loss.is_class
                ),
                "Module",
                "Sequential",
                "ModuleList",
                "functional",
            ],
            "torch.nn.functional": [
                "softmax",
                "log_softmax",
                "cross_entropy",
                "nll_loss",
                "kl_div",
                "binary_cross_entropy",
            ],
            "keras": ["layers", "models", "losses", "optimizers", "Sequential", "Model", "Input"],
            "keras.models": ["Sequential", "Model"],
            "keras.layers": list(KERAS_LAYERS),
        }
        return {name: Library(f"{dotted}.{name}") for name in names.get(canonical(dotted), [])}

    def chain(self, arguments: list[Value]) -> Chain:
        """nn.Sequential from its arguments."""
        parts: list[Value] = []
        names: list[str] = []
        for argument in arguments:
            if isinstance(argument, Entries):
                names.extend(str(name) for name in argument.entries)
                parts.extend(argument.entries.values())
            elif isinstance(argument, Items):
                parts.extend(argument.elements)
                names.extend(str(at) for at in range(len(names), len(parts)))
            else:
                names.append(str(len(parts)))
                parts.append(argument)
        return Chain(tuple(parts), tuple(names))

    def call_library(self, name: str, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        """A call of a function or class of an outside package."""
        name = canonical(name)
        package, _, _ = name.partition(".")
        last = name.rsplit(".", 1)[-1]
        if package == "builtins":
            return self.builtin(last, arguments, keywords, site)
        if name in WRAPPERS:
            return arguments[0] if arguments else keywords.get("module", keywords.get("model", UNKNOWN))
        loss = LOSSES.get(name)
        if loss is not None and not loss.is_class:
            return self.loss_called(loss, arguments, keywords, site, None)
        if name in CALLERS and arguments:
            inner = arguments[-1] if name.endswith("functional_call") else None
            given = list(inner.elements) if isinstance(inner, Items) else arguments[1:] if inner is None else [inner]
            return self.call(arguments[0], given, {}, site)
        if name in GRADIENTS and arguments:
            return LibraryObject(name, tuple(arguments), keywords, site)
        if last == "create" and "TrainState" in name:
            return Entries(dict(keywords), UNKNOWN)
        if name in _FIELDS and keywords.keys() & {"default_factory", "factory", "default"}:
            factory = keywords.get("default_factory", keywords.get("factory"))
            return keywords["default"] if factory is None else self.call(factory, [], {}, site)
        if name == "functools.partial" and arguments:
            return Partial(arguments[0], tuple(arguments[1:]), keywords)
        if last == "OrderedDict":
            return self.dictionary(arguments, keywords)
        if last == "Sequential" and package in ("torch", "keras"):
            given = arguments or list(keywords.values())[:1]
            made = self.chain(
                [part for each in given for part in (each.elements if isinstance(each, Items) else [each])]
            )
            return Chain(made.parts, made.names, package == "keras")
        if last == "ModuleList" and package == "torch":
            return (
                arguments[0]
                if arguments and isinstance(arguments[0], Items)
                else Items((), None if not arguments else UNKNOWN, True)
            )
        if last == "ModuleDict" and package == "torch":
            return self.dictionary(arguments, keywords)
        if last == "Parameter" and package == "torch":
            return Tensor(Kind.RAW, tags=frozenset({"parameter"}))
        if is_skorch(name) and (package == "skorch" or "criterion" in keywords):
            self.skorch(arguments, keywords, site)
            return LibraryObject(name, tuple(arguments), keywords, site)
        if last in SAMPLERS and package in ("torch", "tensorflow_probability", "pyro", "numpyro", "distrax"):
            return self.distribution(last, arguments, keywords, site)
        if last in BINARY_SAMPLERS:
            self.use(arguments[0] if arguments else keywords.get("probs"), "policy", site)
        is_class = last[:1].isupper()
        if name == "math.exp":
            return self.operate("exp", arguments, keywords, site)
        if last in NAMESPACES:
            return LibraryObject(NAMESPACE, (), {}, site, dict(keywords))
        if last in FUNCTIONAL_LAYERS and "layers" in name:
            return self.functional_layer(arguments, keywords, site)
        if (
            package in TENSOR_PACKAGES
            and not is_class
            and not name.startswith(("torch.optim", "torch.utils", "torch.hub", "keras.layers"))
        ):
            return self.operate(last, arguments, keywords, site, package)
        if last.endswith("Output") and keywords:
            return Entries(dict(keywords))
        if package == "collections" and last == "namedtuple":
            return LibraryObject("collections.namedtuple", tuple(arguments), keywords, site)
        if package == "torch" and last == "apply":
            return UNKNOWN
        if package == "torch" and last in NORMALISER_LAYERS:
            operation, position = NORMALISER_LAYERS[last]
            has_dim = position is None or len(arguments) > position or bool(keywords.keys() & {"dim", "axis", "**"})
            self.events.add(Constructed(site, operation, NORMALISERS[operation].implicit and not has_dim))
        for value in (*arguments, *keywords.values()):
            self.escape(value, site)
        self.paired_by_framework(arguments, keywords, site, package)
        built = LibraryObject(name, tuple(arguments), keywords, site)
        if loss is None:
            return built
        # A loss that is made anew in each round of a loop, with the same options, is one.
        where = (
            "loss",
            site,
            name,
            tuple(map(key, arguments)),
            tuple((word, key(each)) for word, each in keywords.items()),
        )
        return self.memory.setdefault(where, built)

    def builtin(self, name: str, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        """Python's own functions, as far as models need them."""
        given = arguments[0] if arguments else UNKNOWN
        if name == "float":
            number = constant(given)
            if isinstance(number, str):
                try:
                    return Constant(float(number))
                except ValueError:
                    return UNKNOWN
            return (
                Constant(float(number))
                if isinstance(number, int | float)
                else given
                if isinstance(given, Tensor)
                else UNKNOWN
            )
        if name in ("list", "tuple", "iter", "sorted", "set"):
            if not arguments:
                return Items((), None, name != "tuple")
            known = self.elements(given)
            if known is not None:
                return Items(tuple(known), None, name != "tuple")
            return given if isinstance(given, Tensor) else Items((), self.element(given, site), name != "tuple")
        if name == "reversed":
            known = self.elements(given)
            return Items(tuple(reversed(known))) if known is not None else Items((), self.element(given, site))
        if name == "enumerate":
            known = self.elements(given)
            if known is not None:
                return Items(tuple(Items((Constant(at), each)) for at, each in enumerate(known)))
            return Items((), Items((UNKNOWN, self.element(given, site))))
        if name == "zip":
            columns = [self.elements(argument) for argument in arguments]
            if columns and all(column is not None for column in columns):
                return Items(
                    tuple(Items(tuple(row)) for row in zip(*(c for c in columns if c is not None), strict=False))
                )
            return Items((), Items(tuple(self.element(argument, site) for argument in arguments)))
        if name == "range":
            numbers = [integer(argument) for argument in arguments]
            if 1 <= len(numbers) <= 3 and None not in numbers:
                found = range(*(n for n in numbers if n is not None)) if 0 not in numbers[2:] else range(0)
                found = found[:17]  # a longer one may be longer than len can say
                return Items(
                    tuple(map(Constant, found)) if len(found) <= 16 else (), None if len(found) <= 16 else UNKNOWN
                )
            return Items((), UNKNOWN)
        if name == "next":
            return self.element(given, site)
        if name == "dict":
            return self.dictionary(arguments, keywords)
        if name == "map" and len(arguments) == 2:
            return Items((), self.call(given, [self.element(arguments[1], site)], {}, site))
        if name in ("sum", "max", "abs"):
            return self.operate(name, arguments, keywords, site)
        if name == "type" and isinstance(given, Instance):
            return given.cls
        if name == "print":
            for value in arguments:
                self.use(value, "printed", site)
            return NONE
        if name == "str" and isinstance(given, Constant):
            return Constant(str(given.value))
        if name == "vars" and isinstance(given, Instance | ModuleValue | LibraryObject):
            return self.get_attribute(given, "__dict__", site)
        if name in ("int", "len", "repr", "bool", "round", "min", "any", "all", "id"):
            if name in ("int", "round") and isinstance(constant(given), int):
                return given
            self.use(given, "read", site)
            return UNKNOWN
        for value in (*arguments, *keywords.values()):
            self.escape(value, site)
        return UNKNOWN

    def dictionary(self, arguments: list[Value], keywords: dict[str, Value]) -> Value:
        """dict(...), OrderedDict(...), nn.ModuleDict(...)"""
        entries: dict[object, Value] = {}
        rest: Value | None = None
        for argument in arguments[:1]:
            if isinstance(argument, Entries):
                entries.update(argument.entries)
                rest = argument.rest
            elif isinstance(argument, Items):
                for element in argument.elements:
                    if (
                        isinstance(element, Items)
                        and len(element.elements) == 2
                        and isinstance(element.elements[0], Constant)
                    ):
                        entries[element.elements[0].value] = element.elements[1]
                if argument.rest is not None:
                    rest = UNKNOWN
            else:
                rest = UNKNOWN
        entries.update({name: value for name, value in keywords.items() if name != "**"})
        return Entries(entries, UNKNOWN if "**" in keywords else rest)

    def distribution(self, name: str, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        """Categorical(probs) or Categorical(logits=...)."""
        probabilities = arguments[0] if arguments else keywords.get("probs")
        self.use(probabilities, "policy", site)
        logits = keywords.get("logits", arguments[1] if len(arguments) > 1 else None)
        if logits is not None:
            self.use(logits, "policy", site)
            result = Tensor(Kind.PROBABILITIES, site, name)
            self.events.add(Normalised(site, f"{name}(logits=...)", logits, -1, True, False, None, {}, False, result))
        return LibraryObject(f"torch.distributions.{name}", tuple(arguments), keywords, site)

    def call_object(
        self, called: LibraryObject, arguments: list[Value], keywords: dict[str, Value], site: Site
    ) -> Value:
        """Calling an object of an outside class: a layer, a criterion, a model."""
        given = arguments[0] if arguments else keywords.get("input", keywords.get("x", UNKNOWN))
        loss = LOSSES.get(called.name)
        if loss is not None:
            return self.loss_called(loss, arguments, keywords, site, called)
        if called.name in GRADIENTS:
            value = self.call(called.arguments[0], arguments, keywords, site)
            return Items((value, UNKNOWN)) if called.name.endswith("value_and_grad") else UNKNOWN
        package, _, _ = called.name.partition(".")
        last = called.name.rsplit(".", 1)[-1]
        if package in ("torch", "entmax") and last in NORMALISER_LAYERS:
            operation, position = NORMALISER_LAYERS[last]
            dim = called.argument(position, "dim") if position is not None else None
            if last == "Softmax2d":
                dim = Constant(-3)
            implicit = NORMALISERS[operation].implicit and "**" not in called.keywords
            return self.normalise(operation, given, dim, site, called.site, called.keywords, implicit=implicit)
        if package == "torch" and called.name.startswith("torch.nn."):
            return self.layer(last, called, given, arguments, site)
        if package == "keras":
            return self.keras_layer(last, called, given, site)
        if called.name == "collections.namedtuple":
            return self.named_tuple(called, arguments, keywords)
        if package == "flax" and last in ("Dense", "Conv"):
            self.use(given, "linear", site)
            return Tensor(Kind.RAW)
        for head in HEADS:
            if head in called.attributes:
                return self.call(called.attributes[head], [Tensor(Kind.RAW, tags=frozenset({"batched"}))], {}, site)
        for attribute, value in called.attributes.items():
            if isinstance(value, LibraryObject) and value.attributes.get("[]") is not None and attribute in HEADS:
                return self.call(value.attributes["[]"], [Tensor(Kind.RAW)], {}, site)
        for value in (*arguments, *keywords.values()):
            self.escape(value, site)
        return class_scores(called, keywords) or Unknown(f"the output of {called.name}")

    def layer(self, last: str, called: LibraryObject, given: Value, arguments: list[Value], site: Site) -> Value:
        """A layer of torch.nn."""
        source = self.tensor(given)
        if last in KEEPING_LAYERS:
            if last == "Flatten":
                return join([
                    option.but(rank=2, sizes=(), tags=option.tags | {"batched"})
                    if isinstance(option, Tensor)
                    else Tensor(Kind.UNKNOWN, rank=2, tags=frozenset({"batched"}))
                    for option in options(given)
                ])  # fmt: skip
            if last.endswith(("AvgPool1d", "AvgPool2d")):
                return join([o.but(sizes=()) if isinstance(o, Tensor) else o for o in options(given)])
            return given
        if last in LINEAR_LAYERS:
            self.use(given, "linear", site)
            position, name = (0, "out_features") if last.startswith("Lazy") else (1, "out_features")
            if "Conv" in last:
                size = integer(called.argument(position, "out_channels"))
                rank = _RANKS.get(last)
                return Tensor(
                    Kind.RAW,
                    rank=rank,
                    sizes=() if size is None else ((1, size),),
                    tags=frozenset({"batched"}) if rank and rank > 3 else source.tags & {"batched"},
                )
            size = integer(called.argument(position, name))
            sizes = () if size is None else ((-1, size),)
            return Tensor(Kind.RAW, rank=source.rank, sizes=sizes, tags=source.tags & {"batched"} | {"projected"})
        if last in RECURRENT_LAYERS:
            self.use(given, "linear", site)
            return Items((Tensor(Kind.RAW), UNKNOWN))
        if last == "MultiheadAttention":
            for value in arguments:
                self.use(value, "linear", site)
            return Items((Tensor(Kind.RAW), Tensor(Kind.UNKNOWN)))
        if last in ("Hardtanh", "ReLU", "LeakyReLU", "ELU", "SELU", "CELU"):
            return join([
                self.activated(last, option, site) if isinstance(option, Tensor) else Tensor(Kind.RAW)
                for option in options(given)
            ])  # fmt: skip
        if last.lower() in ACTIVATIONS or "Norm" in last or "Pool" in last:
            self.use(given, "linear" if "Norm" in last else "activation", site)
            tags = source.tags & {"batched"} | ({"batched"} if last.startswith("BatchNorm") else set())
            return Tensor(Kind.RAW, rank=source.rank, sizes=source.sizes, tags=tags)
        if last in ("CosineSimilarity", "PairwiseDistance"):
            self.use(given, "other", site)
            return Tensor(Kind.UNKNOWN, tags=frozenset({"bounded"} if last == "CosineSimilarity" else ()))
        self.use(given, "other", site)
        return Tensor(Kind.RAW) if last not in _OTHER_LOSSES else Tensor(Kind.UNKNOWN, tags=frozenset({"loss"}))

    def named_tuple(self, called: LibraryObject, arguments: list[Value], keywords: dict[str, Value]) -> Value:
        fields = called.argument(1, "field_names")
        names: list[str] = []
        if isinstance(fields, Items):
            names = [str(constant(each)) for each in fields.elements]
        elif isinstance(constant(fields), str):
            names = constant(fields).replace(",", " ").split()
        return Entries(dict(zip(names, arguments, strict=False)) | keywords)

    def call_method(self, method: Method, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        """A call of a method of something that is not of the project."""
        receiver, name = method.receiver, method.name
        if isinstance(receiver, Super):
            return self.super_method(receiver, name, arguments, keywords, site)
        if isinstance(receiver, Method):
            receiver = UNKNOWN
        if isinstance(receiver, Instance | LibraryObject | Chain):
            return self.model_method(receiver, name, arguments, keywords, site)
        if isinstance(receiver, ClassValue):
            if name in ("load_from_checkpoint", "from_pretrained", "from_config", "from_name", "create", "load"):
                if name == "create" and any("TrainState" in base for base in receiver.outside()):
                    return Entries(dict(keywords), UNKNOWN)
                return self.generic(receiver)
            return UNKNOWN
        if isinstance(receiver, Entries):
            return self.dictionary_method(receiver, name, arguments)
        if isinstance(receiver, Items):
            if name in ("pop", "popleft"):
                return self.element(receiver, site)
            return receiver if name == "copy" else UNKNOWN
        if isinstance(receiver, Constant):
            if isinstance(receiver.value, str) and name in ("lower", "upper", "strip", "title"):
                return Constant(getattr(receiver.value, name)())
            if isinstance(receiver.value, str) and name == "format":
                return Unknown("a text", receiver.value.split("{")[0])
            return UNKNOWN
        if isinstance(receiver, Unknown) and name in NORMALISERS and arguments:
            functional = len(arguments) > 1 or keywords.keys() & {"dim", "axis"} or isinstance(arguments[0], Tensor)
            if functional and integer(arguments[0]) is None:
                return self.operate(name, arguments, keywords, site)
        if isinstance(receiver, Unknown) and name in PASSING_METHODS:
            return arguments[0] if len(arguments) == 1 else Items(tuple(arguments))
        if isinstance(receiver, Tensor | Unknown):
            if isinstance(receiver, Unknown) and name in ("train", "fit", "run"):
                self.paired_by_framework(arguments, keywords, site)
            return self.operate(_plain(name), [receiver, *arguments], keywords, site, "tensor")
        return UNKNOWN

    def super_method(
        self, receiver: Super, name: str, arguments: list[Value], keywords: dict[str, Value], site: Site
    ) -> Value:
        owner = receiver.receiver
        if isinstance(owner, Instance):
            outside = [canonical(each) for each in owner.cls.outside()]
            if name == "__init__" and "torch.nn.Sequential" in outside:
                owner.attributes["__main__chain"] = self.chain(arguments)
            if name in ("forward", "__call__") and "__main__chain" in owner.attributes:
                return self.call(owner.attributes["__main__chain"], arguments, keywords, site)
            if name == "__init__" and outside:  # kept by name, as far as a base that is not here can be guessed
                for word, value in keywords.items():
                    if word != "**" and (interesting(value) or any(self.is_criterion(each) for each in outside)):
                        owner.attributes.setdefault(word, value)
        return UNKNOWN

    def model_method(
        self,
        receiver: Instance | LibraryObject | Chain,
        name: str,
        arguments: list[Value],
        keywords: dict[str, Value],
        site: Site,
    ) -> Value:
        """A method that a framework gives to models."""
        if isinstance(receiver, LibraryObject):
            self.paired_by_framework(arguments, keywords, site)
        if isinstance(receiver, Instance) and not receiver.generic and receiver.cls.outside():
            for word, value in keywords.items():  # runner.train(model=..., criterion=...) keeps them by name
                if interesting(value):
                    self.write(receiver, word, value)
        if name in MODEL_METHODS and not (
            name == "apply" and arguments and isinstance(arguments[0], Entries | Unknown)
        ):
            return receiver
        if name in ("forward", "__call__", "predict", "predict_on_batch"):
            return self.call(receiver, arguments, keywords, site)
        if name in PASSING_METHODS:
            return arguments[0] if len(arguments) == 1 else Items(tuple(arguments))
        if name == "register_buffer" and isinstance(receiver, Instance) and len(arguments) > 1:
            if isinstance(constant(arguments[0]), str):
                self.write(receiver, constant(arguments[0]), arguments[1])
            return NONE
        if name == "compile":
            loss = keywords.get("loss", arguments[1] if len(arguments) > 1 else None)
            if loss is not None:
                self.keras_compiled(receiver, loss, site)
            return NONE
        if (
            name == "apply"
            and isinstance(receiver, Instance)
            and any("flax" in each for each in receiver.cls.outside())
        ):
            return self.call(receiver, arguments[1:], {}, site)
        if isinstance(receiver, Chain) and name in ("children", "modules"):
            return Items(receiver.parts)
        if isinstance(receiver, LibraryObject) and (
            receiver.name == "argparse.ArgumentParser" or name.startswith("parse")
        ):
            return LibraryObject(NAMESPACE, (), {}, site)
        for value in (*arguments, *keywords.values()):
            self.escape(value, site)
        return Unknown(f"method {name!r} of an outside class")

    def dictionary_method(self, receiver: Entries, name: str, arguments: list[Value]) -> Value:
        found = list(receiver.entries.values())
        every = join([*found, *([] if receiver.rest is None else [receiver.rest])] or [UNKNOWN], chosen=len(found) > 1)
        if name == "get" and arguments:
            if isinstance(arguments[0], Constant) and arguments[0].value in receiver.entries:
                return receiver.entries[arguments[0].value]
            default = arguments[1] if len(arguments) > 1 else NONE
            return default if isinstance(arguments[0], Constant) and receiver.rest is None else join([every, default])
        if name == "pop":
            return (
                every
                if not (arguments and isinstance(arguments[0], Constant))
                else receiver.entries.get(arguments[0].value, every)
            )
        if name == "values":
            return Items(tuple(found), receiver.rest)
        if name == "items":
            pairs = [Items((Constant(each), value)) for each, value in receiver.entries.items()]
            return Items(tuple(pairs), None if receiver.rest is None else Items((UNKNOWN, receiver.rest)))
        if name == "keys":
            return Items(tuple(map(Constant, receiver.entries)), None if receiver.rest is None else UNKNOWN)
        kept = ("copy", "to", "cuda", "train", "eval", "apply_gradients", "replace")  # the last two of flax' TrainState
        return receiver if name in kept else UNKNOWN


def _plain(name: str) -> str:
    return name[:-1] if name.endswith("_") and not name.startswith("_") else name


_OTHER_LOSSES = frozenset(
    [
        "MSELoss",
        "L1Loss",
        "SmoothL1Loss",
        "HuberLoss",
        "TripletMarginLoss",
        "CosineEmbeddingLoss",
        "MarginRankingLoss",
        "CTCLoss",
        "MultiMarginLoss",
        "MultiLabelMarginLoss",
        "GaussianNLLLoss",
        "PoissonNLLLoss",
        "HingeEmbeddingLoss",
    ]
)

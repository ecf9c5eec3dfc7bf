"""Where models meet losses: calls of losses, Keras' compile, skorch, and frameworks that are given both."""

from __future__ import annotations

from softplace.check.events import LossCalled
from softplace.check.losses import KERAS_STRINGS, LOSSES, Family, Loss
from softplace.check.names import (
    ACTIVATIONS,
    NORMALISERS,
    canonical,
)
from softplace.check.operations import Operations
from softplace.check.values import (
    NONE,
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
    Partial,
    Site,
    Tensor,
    Value,
    constant,
    integer,
    options,
)

_CRITERION_WORDS = ("criterion", "loss_fn", "loss_func", "loss", "loss_function")
FUNCTIONAL_LAYERS = frozenset(["dense", "conv1d", "conv2d", "conv3d", "fully_connected", "linear"])
"""Layers of TensorFlow 1 that are functions of `tf.layers`, `tf.contrib.layers` and the like."""
_SKORCH = tuple(f"NeuralNet{kind}" for kind in ("", "Classifier", "BinaryClassifier", "Regressor"))
_SEVERAL_OUTPUTS = frozenset(["detection", "segmentation", "video", "optical_flow", "inception_v3", "googlenet"])
_MODEL_WORDS = ("model", "module", "network", "net")


def class_scores(called: LibraryObject, keywords: dict[str, Value]) -> Value | None:
    """What a classifier of transformers or torchvision gives: scores of shape (batch, classes)."""
    words = called.name.split(".")
    scores = Tensor(Kind.RAW, rank=2, tags=frozenset({"batched"}))
    if words[0] == "transformers" and words[1].endswith(("ForSequenceClassification", "ForImageClassification")):
        first = {} if keywords.get("labels", NONE) is not NONE else {0: scores}
        return Entries({"logits": scores, **first}, UNKNOWN)
    of_classes = words[:2] == ["torchvision", "models"] and len(words) == 3 and words[2] not in _SEVERAL_OUTPUTS
    return scores if of_classes else None


class Frameworks(Operations):
    """Losses and the frameworks that call them."""

    def is_criterion(self, name: str) -> bool:
        """Whether a dotted name is a loss class."""
        loss = LOSSES.get(canonical(name))
        return loss is not None and loss.is_class

    def escape(self, value: Value, site: Site) -> None:
        """A value was given to something that is not known."""
        self.use(value, "escaped", site)

    def loss_called(
        self,
        loss: Loss,
        arguments: list[Value],
        keywords: dict[str, Value],
        site: Site,
        made: LibraryObject | None,
    ) -> Value:
        """A loss is called: what it is given is an event."""
        scores = next((keywords[name] for name in loss.names if name in keywords), None)
        if scores is None and loss.scores < len(arguments):
            scores = arguments[loss.scores]
        target = next((keywords[name] for name in loss.target_names if name in keywords), None)
        if target is None and loss.target < len(arguments):
            target = arguments[loss.target]
        family = self.family(loss, arguments, keywords, made)
        settings = dict(keywords)
        if made is not None:
            settings.update(made.keywords)
        if scores is not None and family is not None:
            self.use(scores, "loss", site)
            self.use(target, "target", site)
            where = made.site if made is not None and made.site.path else None
            self.events.add(LossCalled(site, loss, family, scores, target, settings, where, self.choosing > 0))
        return Tensor(Kind.UNKNOWN, tags=frozenset({"loss"}))

    def family(
        self, loss: Loss, arguments: list[Value], keywords: dict[str, Value], made: LibraryObject | None
    ) -> Family | None:
        """What the loss wants with these options; None when that is not known."""
        if not loss.switch:
            return loss.family
        given = (made.keywords if made is not None else keywords).get(loss.switch)
        if given is None and loss.switch_position is not None:
            positional = made.arguments if made is not None else tuple(arguments)
            given = positional[loss.switch_position] if loss.switch_position < len(positional) else None
        if given is None:
            return loss.switched
        if constant(given) is None:
            return None
        return loss.family if constant(given) else loss.switched

    def keras_layer(self, last: str, called: LibraryObject, given: Value, site: Site) -> Value:
        """A Keras layer or model; what a layer gives is known by the layer's name."""
        result = self.keras_result(last, called, given, site)
        name = constant(called.keywords.get("name"))
        return result.tagged(f"named {name}") if isinstance(result, Tensor) and isinstance(name, str) else result

    def keras_result(self, last: str, called: LibraryObject, given: Value, site: Site) -> Value:
        """What a Keras layer or model gives."""
        if last == "Model":
            outputs = called.argument(1, "outputs")
            if isinstance(outputs, Items) and len(outputs.elements) == 1 and outputs.rest is None:
                outputs = outputs.elements[0]
            self.use(outputs, "returned", site)
            return outputs if outputs is not None else UNKNOWN
        if last in ("Dropout", "Flatten", "Reshape", "InputLayer", "Lambda", "Permute", "RepeatVector"):
            return given
        if last == "Input":
            return Tensor(Kind.UNKNOWN)
        activation = called.argument(1, "activation")
        units = integer(called.argument(0, "units")) if last == "Dense" else None
        result: Value = Tensor(Kind.RAW, sizes=() if units is None else ((-1, units),))
        if last == "Softmax":
            return self.normalise("softmax", given, called.argument(0, "axis") or Constant(-1), site, called.site)
        if last == "Activation":
            result, activation = given, called.argument(0, "activation")
        else:
            self.use(given, "linear", site)
        if last in ("Conv2D", "Conv1D", "Conv2DTranspose", "LSTM", "GRU"):
            activation = called.keywords.get("activation")
        name = constant(activation)
        if isinstance(activation, Library):
            name = activation.name.rsplit(".", 1)[-1]
        if name in NORMALISERS:
            return self.normalise(str(name), result, Constant(-1), site, called.site)
        return Tensor(Kind.RAW) if name in (None, "linear") or name in ACTIVATIONS else UNKNOWN

    def functional_layer(self, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        """A layer of TensorFlow 1 that is a function: tf.layers.dense(x, 10, activation=tf.nn.softmax)."""
        self.use(arguments[0] if arguments else keywords.get("inputs"), "linear", site)
        activation = keywords.get("activation", keywords.get("activation_fn"))
        if isinstance(activation, Library):
            return self.call(activation, [Tensor(Kind.RAW)], {}, site)
        return Tensor(Kind.RAW) if activation is None or isinstance(activation, Constant) else UNKNOWN

    def paired_by_framework(
        self, arguments: list[Value], keywords: dict[str, Value], site: Site, package: str = ""
    ) -> None:
        """A model and a criterion that are given to a framework together meet there."""
        models = [keywords[name] for name in _MODEL_WORDS if name in keywords]
        criteria = [keywords[name] for name in _CRITERION_WORDS if name in keywords]
        if package == "poutyne":  # which takes the names of torch's functions too
            names = [f"torch.nn.functional.{constant(each)}" for each in (*arguments, *keywords.values())]
            criteria += [Library(each) for each in names if each in LOSSES]
        models += [each for each in arguments if isinstance(each, Chain) or _is_network(each)]
        criteria += [each for each in arguments if self.is_loss(each)]
        if len(models) == 1 and len(criteria) == 1 and self.is_loss(criteria[0]):
            self.pair(models[0], criteria[0], site)

    def is_loss(self, value: Value) -> bool:
        """Whether a value is a criterion of the table."""
        if isinstance(value, LibraryObject | Library):
            return canonical(value.name) in LOSSES
        return False

    def wanted_by(self, value: Value) -> Family | int:
        """What a loss wants; what is no loss differs from all others."""
        loss = LOSSES.get(canonical(value.name)) if isinstance(value, LibraryObject | Library) else None
        return id(value) if loss is None or loss.switch else loss.family

    def pair(self, model: Value, criterion: Value, site: Site) -> None:
        """The model's output goes into the criterion."""
        if not any(isinstance(each, Chain) or _is_network(each) for each in options(model)):
            return
        output = self.call(model, [Tensor(Kind.UNKNOWN)], {}, site)
        if isinstance(criterion, Library) and self.is_criterion(criterion.name):
            criterion = LibraryObject(canonical(criterion.name), (), {}, site)
        self.call(criterion, [output, UNKNOWN], {}, site)

    def keras_compiled(self, model: Value, loss: Value, site: Site) -> None:
        """model.compile(loss=...): by name, class or object."""
        output = self.call(model, [Tensor(Kind.UNKNOWN)], {}, site)
        for each, part in _by_output(loss, output):
            self.keras_loss(each, part, site)

    def keras_loss(self, loss: Value, output: Value, site: Site) -> None:
        """One loss of a Keras model, and the output that it is for."""
        name = constant(loss)
        if isinstance(name, str) and name in KERAS_STRINGS:
            self.loss_called(KERAS_STRINGS[name], [UNKNOWN, output], {}, site, None)
        elif isinstance(loss, LibraryObject | Function | Bound | Partial):
            self.call(loss, [UNKNOWN, output], {}, site)

    def skorch(self, arguments: list[Value], keywords: dict[str, Value], site: Site) -> None:
        """skorch's NeuralNetClassifier takes the log of the output itself for NLLLoss, and nothing for others."""
        module = arguments[0] if arguments else keywords.get("module", UNKNOWN)
        criterion = keywords.get("criterion", arguments[1] if len(arguments) > 1 else None)
        loss = LOSSES.get(canonical(criterion.name)) if isinstance(criterion, Library | LibraryObject) else None
        if loss is not None and loss.family != Family.LOG_PROBABILITIES:
            if isinstance(module, ClassValue):
                given = {name[8:]: value for name, value in keywords.items() if name.startswith("module__")}
                module = self.construct(module, [], given, site)
            if criterion is not None:
                self.pair(module, criterion, site)


def _by_output(loss: Value, output: Value) -> list[tuple[Value, Value]]:
    """Losses with their outputs: one of all, or one for each by its place or the name of its layer."""
    if not isinstance(loss, Items | Entries):
        return [(loss, output)]
    outputs = list(output.entries.values()) if isinstance(output, Entries) else [output]
    outputs = list(output.elements) if isinstance(output, Items) else outputs
    if isinstance(loss, Items):
        return list(zip(loss.elements, outputs, strict=False))
    named = dict(output.entries) if isinstance(output, Entries) else {}
    for each in outputs:
        tags = each.tags if isinstance(each, Tensor) else ()
        named.update({tag.removeprefix("named "): each for tag in tags if tag.startswith("named ")})
    return [(each, named[name]) for name, each in loss.entries.items() if name in named]


def is_skorch(name: str) -> bool:
    """Whether a dotted name is that of one of skorch's classes, or of a class that is named after one.

    >>> is_skorch("skorch.NeuralNetClassifier"), is_skorch("absent.MyNeuralNet"), is_skorch("absent.NeuralNetwork")
    (True, True, False)
    """
    return name.endswith(_SKORCH)


def _is_network(value: Value) -> bool:
    return isinstance(value, Instance) and any(value.cls.find(each) is not None for each in ("forward", "call"))

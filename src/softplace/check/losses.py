"""What each loss accepts, in one table. All pair rules derive from it.

A loss takes scores at a position (`scores`), under the keywords in `names`, and belongs to a family; the family says
which kinds of numbers are wrong there, and which rule reports each.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from softplace.check.values import Kind


class Family(StrEnum):
    """What a loss wants to be given."""

    LOGITS = "raw scores (it takes the log-softmax itself)"
    LOG_PROBABILITIES = "log-probabilities"
    DIVERGENCE = "log-probabilities (and by default probabilities as target)"
    PROBABILITY = "probabilities of independent classes (from a sigmoid)"
    BINARY_LOGITS = "raw scores (it takes the sigmoid itself)"
    CLASS_PROBABILITIES = "probabilities (from a softmax)"


CODES: dict[Family, dict[Kind, str]] = {
    Family.LOGITS: {
        Kind.PROBABILITIES: "SP101",
        Kind.LOG_PROBABILITIES: "SP102",
        Kind.SIGMOID: "SP107",
        Kind.LOG_SIGMOID: "SP107",
    },
    Family.LOG_PROBABILITIES: {Kind.PROBABILITIES: "SP103", Kind.SIGMOID: "SP103"},
    Family.DIVERGENCE: {Kind.PROBABILITIES: "SP104", Kind.SIGMOID: "SP104"},
    Family.PROBABILITY: {Kind.PROBABILITIES: "SP105", Kind.LOG_PROBABILITIES: "SP105"},
    Family.BINARY_LOGITS: {
        Kind.PROBABILITIES: "SP106",
        Kind.SIGMOID: "SP106",
        Kind.LOG_PROBABILITIES: "SP106",
        Kind.LOG_SIGMOID: "SP106",
    },
    Family.CLASS_PROBABILITIES: {Kind.LOG_PROBABILITIES: "SP105"},
}


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One loss: where its scores and target stand, and what it wants; `switch` is the option without which it
    wants `switched` instead."""

    name: str
    family: Family
    scores: int = 0
    names: tuple[str, ...] = ("input", "input_tensor", "logits", "pred", "inputs")
    target: int = 1
    target_names: tuple[str, ...] = ("target", "labels", "targets")
    switch: str = ""
    switch_position: int | None = None
    switched: Family | None = None
    is_class: bool = False


def _torch() -> dict[str, Loss]:
    families = {
        Family.LOGITS: ("CrossEntropyLoss", "cross_entropy"),
        Family.LOG_PROBABILITIES: ("NLLLoss NLLLoss2d", "nll_loss nll_loss2d"),
        Family.DIVERGENCE: ("KLDivLoss", "kl_div"),
        Family.PROBABILITY: ("BCELoss", "binary_cross_entropy"),
        Family.BINARY_LOGITS: (
            "BCEWithLogitsLoss MultiLabelSoftMarginLoss SoftMarginLoss",
            "binary_cross_entropy_with_logits multilabel_soft_margin_loss soft_margin_loss",
        ),
    }
    table: dict[str, Loss] = {}
    for family, (classes, functions) in families.items():
        for name in classes.split():
            table[f"torch.nn.{name}"] = Loss(name=name, family=family, is_class=True)
        for name in functions.split():
            for package in ("torch.nn.functional", "torch"):
                table[f"{package}.{name}"] = Loss(name=name, family=family)
    return table


def _keras() -> dict[str, Loss]:
    names, targets = ("y_pred", "output", "predictions"), ("y_true", "target")
    table: dict[str, Loss] = {}
    pairs = {
        "CategoricalCrossentropy": ("categorical_crossentropy", Family.CLASS_PROBABILITIES, Family.LOGITS),
        "SparseCategoricalCrossentropy": ("sparse_categorical_crossentropy", Family.CLASS_PROBABILITIES, Family.LOGITS),
        "BinaryCrossentropy": ("binary_crossentropy", Family.PROBABILITY, Family.BINARY_LOGITS),
    }
    for cls, (function, switched, family) in pairs.items():
        common = {"scores": 1, "names": names, "target": 0, "target_names": targets, "switch": "from_logits"}
        table[f"keras.losses.{cls}"] = Loss(
            name=cls,
            family=family,
            switched=switched,
            switch_position=0,
            is_class=True,
            **common,  # type: ignore[arg-type]
        )
        table[f"tensorflow.losses.{cls}"] = table[f"keras.losses.{cls}"]
        for package in ("keras.losses", "keras.metrics", "keras.backend"):
            table[f"{package}.{function}"] = Loss(
                name=function,
                family=family,
                switched=switched,
                switch_position=2,
                **common,  # type: ignore[arg-type]
            )
    return table


def _functions(package: str, names: str, family: Family, scores: int, target: int) -> dict[str, Loss]:
    return {
        f"{package}.{name}": Loss(name=name, family=family, scores=scores, target=target, names=("logits",))
        for name in names.split()
    }


LOSSES: dict[str, Loss] = {
    **_torch(),
    **_keras(),
    **_functions(
        "tensorflow.nn",
        "softmax_cross_entropy_with_logits sparse_softmax_cross_entropy_with_logits "
        "softmax_cross_entropy_with_logits_v2",
        Family.LOGITS,
        1,
        0,
    ),
    **_functions(
        "tensorflow.nn",
        "sigmoid_cross_entropy_with_logits weighted_cross_entropy_with_logits",
        Family.BINARY_LOGITS,
        1,
        0,
    ),
    **_functions("tensorflow.losses", "softmax_cross_entropy sparse_softmax_cross_entropy", Family.LOGITS, 1, 0),
    **_functions("tensorflow.losses", "sigmoid_cross_entropy", Family.BINARY_LOGITS, 1, 0),
    **_functions(
        "optax",
        "softmax_cross_entropy softmax_cross_entropy_with_integer_labels safe_softmax_cross_entropy",
        Family.LOGITS,
        0,
        1,
    ),
    **_functions("optax", "sigmoid_binary_cross_entropy sigmoid_focal_loss", Family.BINARY_LOGITS, 0, 1),
    **_functions(
        "optax.losses", "softmax_cross_entropy softmax_cross_entropy_with_integer_labels", Family.LOGITS, 0, 1
    ),
    **_functions("optax.losses", "sigmoid_binary_cross_entropy", Family.BINARY_LOGITS, 0, 1),
    "torchvision.ops.sigmoid_focal_loss": Loss(
        name="sigmoid_focal_loss", family=Family.BINARY_LOGITS, names=("inputs",)
    ),
    "torchvision.ops.focal_loss.sigmoid_focal_loss": Loss(
        name="sigmoid_focal_loss", family=Family.BINARY_LOGITS, names=("inputs",)
    ),
    **{
        f"timm.loss.{name}": Loss(name=name, family=Family.LOGITS, names=("x",), is_class=True)
        for name in ("LabelSmoothingCrossEntropy", "SoftTargetCrossEntropy")
    },
    "timm.loss.BinaryCrossEntropy": Loss(
        name="BinaryCrossEntropy", family=Family.BINARY_LOGITS, names=("x",), is_class=True
    ),
    "kornia.losses.focal_loss": Loss(name="focal_loss", family=Family.LOGITS, names=("pred",)),
    "kornia.losses.FocalLoss": Loss(name="FocalLoss", family=Family.LOGITS, names=("pred",), is_class=True),
}

# Keras losses may be named by a string.
KERAS_STRINGS = {
    name.rsplit(".", 1)[1]: loss
    for name, loss in LOSSES.items()
    if name.startswith("keras.losses.") and not loss.is_class
}

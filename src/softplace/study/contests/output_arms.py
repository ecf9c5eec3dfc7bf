"""The arms of the output contest: a loss to train by, and the probabilities that are asked for afterwards.

Axis legend: M members, C classes, B rows. Scores are (M, C, B), as the networks leave them, and labels (M, B).

| arm | loss of scores s and label y, with [i = y] as the target | probabilities |
|---|---|---|
| softmax | cross-entropy, -log softmax(s)_y | softmax(s) |
| double softmax | cross-entropy of softmax(s) in the place of s | softmax(s) |
| softmax + squared error | sum_i (softmax(s)_i - [i = y])^2 | softmax(s) |
| sigmoids | sum_i of the binary cross-entropies of sigmoid(s_i) | sigmoid(s) over its sum |
| sparsemax, entmax15 | their Fenchel-Young losses | the map |
| spherical softmax, Taylor softmax | -log p_y | the map |
| linear + squared error | sum_i (s_i - [i = y])^2 | the nearest distribution: sparsemax(s) |
| hinge | max_i (s_i + [i != y]) - s_y | softmax(s), as it has none of its own |
| any other map | -log(p_y + `FLOOR`); of entmax its Fenchel-Young loss | the map over its sum |

The double softmax is a network that ends in softmax, trained by a loss that has one inside, as PyTorch's has. Its
probabilities are those that it returns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from softplace import maps
from softplace.errors import InputError
from softplace.maps import Map
from softplace.study.contest import Arm
from softplace.study.contests._arms import choose

FLOOR = 1e-6
"""The least probability that counts in a logarithm: some maps give a class none at all."""
SPHERICAL_EPSILON = 1e-3
"""What spherical softmax adds to every squared score: a small constant."""

DOUBLE, SQUARED, SIGMOIDS = "double softmax", "softmax + squared error", "sigmoids"
SPARSEMAX, ENTMAX = "sparsemax", "entmax15"
SPHERICAL, TAYLOR = "spherical softmax", "Taylor softmax"
LINEAR, HINGE = "linear + squared error", "hinge"

Loss = Callable[[Tensor, Tensor], Tensor]
"""Scores (M, C, B) and labels (M, B) to the loss of every row, (M, B)."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """What stands behind the scores of a network."""

    loss: Loss
    probabilities: Callable[[Tensor], Tensor]
    """Scores (M, C, B) to probabilities of the same shape."""


def spherical_softmax(scores: Tensor, dim: int = -1) -> Tensor:
    """`p_i = (s_i^2 + e) / sum_j (s_j^2 + e)`, e = `SPHERICAL_EPSILON`.

    Source: de Brebisson and Vincent 2016 (arXiv:1511.05042).
    """
    squares = scores.square() + SPHERICAL_EPSILON
    return squares / squares.sum(dim, keepdim=True)


ARMS = (
    Arm(name="softmax", map="softmax", options={"loss": "cross-entropy"}),
    Arm(name=DOUBLE, map="softmax", options={"loss": "cross-entropy of softmax"}),
    Arm(name=SQUARED, map="softmax", options={"loss": "squared error"}),
    Arm(name=SIGMOIDS, map="sigmoid", options={"loss": "binary cross-entropies"}),
    Arm(name=SPARSEMAX, map="sparsemax", options={"loss": "sparsemax loss"}),
    Arm(name=ENTMAX, map="entmax15", options={"loss": "entmax15 loss"}),
    Arm(name=SPHERICAL, map=spherical_softmax, options={"loss": "likelihood"}),
    Arm(name=TAYLOR, map="taylor_softmax", options={"loss": "likelihood"}),
    Arm(name=LINEAR, map="identity", options={"loss": "squared error of scores"}),
    Arm(name=HINGE, map="identity", options={"loss": "hinge"}),
)


def chosen_arms(chosen: Sequence[str | Map] | None) -> tuple[Arm, ...]:
    """The arms of some maps, or all: see `choose`."""
    return choose(ARMS, chosen, place="output", example="sparsemax,sigmoid")


def output_of(arm: Arm) -> Output:
    """The loss and the probabilities of an arm; the head of this file has the table."""
    match arm.options.get("loss"):
        case "cross-entropy":
            return Output(loss=_cross_entropy, probabilities=_softmax)
        case "cross-entropy of softmax":
            return Output(loss=lambda scores, labels: _cross_entropy(_softmax(scores), labels), probabilities=_softmax)
        case "squared error":
            return Output(loss=lambda scores, labels: _squared_error(_softmax(scores), labels), probabilities=_softmax)
        case "binary cross-entropies":
            return Output(
                loss=lambda scores, labels: functional.softplus(scores).sum(1) - _of(scores, labels),
                probabilities=lambda scores: maps.sigmoid_normalised(scores, 1),
            )
        case "sparsemax loss":
            return Output(
                loss=lambda scores, labels: maps.sparsemax_loss(scores, labels, 1, reduction="none"),
                probabilities=lambda scores: maps.sparsemax(scores, 1),
            )
        case "entmax15 loss":
            return Output(
                loss=lambda scores, labels: maps.entmax15_loss(scores, labels, 1, reduction="none"),
                probabilities=lambda scores: maps.entmax15(scores, 1),
            )
        case "squared error of scores":
            return Output(loss=_squared_error, probabilities=lambda scores: maps.sparsemax(scores, 1))
        case "hinge":
            return Output(loss=_hinge, probabilities=_softmax)
        case "likelihood":
            function = maps.get(arm.map)
            return Output(
                loss=lambda scores, labels: -_of(function(scores, 1), labels).log(),
                probabilities=lambda scores: function(scores, 1),
            )
    return _other(maps.get(arm.map))


def _other(function: Map) -> Output:
    """A map that a person asks for."""

    def probabilities(scores: Tensor) -> Tensor:
        weights = function(scores, 1)
        total = weights.sum(1, keepdim=True)
        # Where no class has a weight, all are alike.
        return torch.where(total > 0.0, weights / torch.where(total > 0.0, total, 1.0), 1.0 / weights.shape[1])

    if function is maps.entmax:
        return Output(
            loss=lambda scores, labels: maps.entmax_loss(scores, labels, 1, reduction="none"),
            probabilities=probabilities,
        )
    return Output(
        loss=lambda scores, labels: -(_of(probabilities(scores), labels) + FLOOR).log(), probabilities=probabilities
    )


def _softmax(scores: Tensor) -> Tensor:
    return maps.softmax(scores, 1)


def _cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    return maps.cross_entropy(scores, labels, 1, reduction="none")


def _of(values: Tensor, labels: Tensor) -> Tensor:
    """The values of the labels, (M, C, B) to (M, B)."""
    return values.gather(1, labels.unsqueeze(1)).squeeze(1)


def _one_hot(values: Tensor, labels: Tensor) -> Tensor:
    classes = torch.arange(values.shape[1], device=values.device)
    return (labels.unsqueeze(1) == classes.view(1, -1, 1)).to(values.dtype)


def _squared_error(values: Tensor, labels: Tensor) -> Tensor:
    return (values - _one_hot(values, labels)).square().sum(1)


def _hinge(scores: Tensor, labels: Tensor) -> Tensor:
    """Source: Crammer and Singer 2001 (JMLR 2), of scores in the place of similarities."""
    return (scores + 1.0 - _one_hot(scores, labels)).amax(1) - _of(scores, labels)


def check_map(arm: Arm, classes: int) -> None:
    """Raise `InputError` unless a person's map can give the probabilities of classes.

    It must give weights of the scores' shape, finite and not negative, the same each time, and for every row alone.
    """
    try:
        fault = _fault(maps.get(arm.map), classes)
    except InputError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        fault = f"expected a function map(scores, dim) for scores of any shape, got {type(error).__name__}: {text}"
    if fault is not None:
        raise InputError(f"map {arm.name!r}: {fault}. Mend it, or leave it out with --maps.")


def _fault(function: Map, classes: int) -> str | None:
    scores = torch.randn(3, classes, 5, generator=torch.Generator().manual_seed(0))
    weights = function(scores, 1)
    got: object = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
    if got != tuple(scores.shape):
        return f"expected weights of the scores' shape {tuple(scores.shape)}, got {got}"
    if not weights.isfinite().all():
        return "expected finite weights for finite scores, got NaN or infinite ones"
    if (weights < 0.0).any():
        return f"expected weights of 0 or more, as probabilities have, got {float(weights.min()):.3g}"
    same = {
        "the same weights for the same scores": (function(scores, 1), weights),
        "the same weights whatever the other rows of a batch are": (function(scores[:, :, :2], 1), weights[:, :, :2]),
        "the same weights whatever the other networks of a batch are": (function(scores[:1], 1), weights[:1]),
    }
    for name, (mine, expected) in same.items():
        difference = float((mine - expected).detach().abs().max())
        if difference > 1e-3 * float(expected.detach().abs().max()):
            return f"expected {name}, got a difference of {difference:.2g}"
    return None

"""The arms of the hidden contest: ours, those a person asks for, and the check that a map can be trained and probed.

Axis legend: `dim` is the axis of the units of a layer.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from softplace import maps, probes
from softplace.errors import InputError
from softplace.hidden import Activation
from softplace.maps import Map
from softplace.study.contest import Arm
from softplace.study.contests._arms import choose

ARMS = (
    Arm(name="identity", map="identity"),
    Arm(name="softmax", map="softmax"),
    Arm(name="softmax × width", map="softmax", options={"scale": "width"}),
    Arm(name="softmax + LayerNorm", map="softmax", options={"layer_norm": True}),
    Arm(name="softmax + BatchNorm", map="softmax", options={"batch_norm": True}),
    Arm(name="sigmoid", map="sigmoid"),
    Arm(name="tanh", map="tanh"),
    Arm(name="ReLU", map="relu"),
    Arm(name="GELU", map="gelu"),
    Arm(name="SoLU", map="solu", options={"layer_norm": True}),
    Arm(name="sparsemax", map="sparsemax"),
    Arm(name="sigmoid + BatchNorm", map="sigmoid", options={"batch_norm": True}),
    Arm(name="tanh + BatchNorm", map="tanh", options={"batch_norm": True}),
    Arm(name="ReLU + BatchNorm", map="relu", options={"batch_norm": True}),
)


def activation_of(arm: Arm) -> Activation:
    """What the arm puts between two layers."""
    options: dict[str, Any] = dict(arm.options)
    return Activation(map=maps.get(arm.map), **options)


def chosen_arms(chosen: Sequence[str | Map] | None) -> tuple[Arm, ...]:
    """The arms of some maps, or all: see `choose`."""
    return choose(ARMS, chosen, place="hidden", example="relu,tanh")


def check_arm(arm: Arm, width: int) -> None:
    """Raise `InputError` unless the arm's map can be trained and probed.

    It must give finite weights of the scores' shape and dtype (in float32 and float64) with a finite gradient, the
    same each time, along whichever `dim`, for every row alone, and with the operations that the probes use.
    """
    try:
        fault = _fault(activation_of(arm), width)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        fault = (
            f"expected a function map(scores, dim) for float32 and float64 scores of any shape, that torch.func can "
            f"differentiate, got {type(error).__name__}: {text}"
        )
    if fault is not None:
        raise InputError(f"map {arm.name!r}: {fault}. Mend it, or leave it out with --maps.")


def _fault(activation: Activation, width: int) -> str | None:
    function = activation.map
    scores = torch.randn(3, width, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    shape, dtype = tuple(scores.shape), scores.dtype
    weights = function(scores, 1)
    got: object = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
    if got != shape:
        return f"expected weights of the scores' shape {shape}, got {got}"
    if not weights.requires_grad:
        return "expected a differentiable map of torch operations, got one without a gradient"
    gradients: tuple[Tensor | None, ...] = torch.autograd.grad(weights.square().sum(), scores, allow_unused=True)
    gradient = gradients[0]
    if gradient is None:
        return "expected weights that depend on the scores, got a gradient of none"
    scores = scores.detach()
    double = function(scores.double(), 1)
    for name, values, wanted in (("weights", weights, dtype), ("gradient", gradient, dtype), ("weights", double, None)):
        if not values.isfinite().all():
            bad = int((~values.isfinite()).sum())
            return f"expected finite {name} for finite scores, got {bad} NaN or infinite of {values.numel()}"
        if values.dtype != (wanted or torch.float64):
            return f"expected {name} of the scores' dtype {wanted or torch.float64}, got {values.dtype}"
    same = {
        "the same weights for the same scores (random numbers must come from a generator that is seeded in the map)": (
            function(scores, 1),
            weights,
        ),
        "the same weights in float64 as in float32": (double.float(), weights),
        "the same weights along dim=-1 of the transposed scores (is 'dim' ignored?)": (
            function(scores.transpose(1, 2).contiguous(), -1).transpose(1, 2),
            weights,
        ),
        "the same weights whatever the other networks of a batch are": (function(scores[:1], 1), weights[:1]),
        "the same weights whatever the other rows of a batch are": (function(scores[:, :, :2], 1), weights[:, :, :2]),
    }
    for name, (mine, expected) in same.items():
        difference = float((mine - expected).detach().abs().max())
        if difference > 1e-3 * float(expected.detach().abs().max()):
            return f"expected {name}, got a difference of {difference:.2g}"

    def row_wise(values: Tensor) -> Tensor:
        return activation.after_normalisation(values, -1)

    rows = scores.double().transpose(1, 2)
    probes.jacobian(row_wise, rows)
    probes.push_down(row_wise, rows, 1.0)
    probes.gradient_gain(row_wise, rows)
    return None

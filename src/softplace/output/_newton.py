"""Newton's method for softmax models whose logits are linear in the parameters: to the rounding of float64.

Axis legend: N rows, C classes, F features with the constant, P parameters.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_MOST_DIRECT = {"per_class": 1500, "full": 300}
"""Beyond so many parameters the Hessian is not formed: its products with vectors (conjugate gradients) take less."""
_ITERATIONS = 100
_SEPARATED = 25
"""Newton is done in about 10 iterations where there is a best; where there is none, a step never gets short."""
_NUMBERS_AT_ONCE = 8_000_000


@dataclass(frozen=True, kw_only=True)
class Model:
    """How parameters (P) make logits (N, C), and what they cost.

    Args:
        logits: Of parameters; linear.
        pull: Its transpose: of (N, C), (P).
        hessian: Of probabilities (N, C) and row weights (N), (P, P).
        curvature: Its diagonal.
        penalty: (P), the penalty is `sum_i penalty_i parameter_i^2`.
        direct: Whether the Hessian is formed and factored.
    """

    logits: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]
    hessian: Callable[[Tensor, Tensor], Tensor]
    curvature: Callable[[Tensor, Tensor], Tensor]
    penalty: Tensor
    direct: bool


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What Newton found. `separated`: there is no best, and the likelihood rises as the parameters grow."""

    parameters: Tensor
    loss: float
    separated: bool


def minimise(model: Model, labels: Tensor, weights: Tensor) -> Fit:
    """The parameters with the least `sum_n weight_n (-ln softmax(logits_n)_{label_n}) + penalty`, from 0 on.

    Args:
        labels: (N), integer.
        weights: (N), summing to one.
    """
    parameters = torch.zeros_like(model.penalty)
    truth = torch.zeros(len(labels), int(model.logits(parameters).shape[-1]), dtype=torch.float64)
    truth[torch.arange(len(labels)), labels] = 1.0
    scores = model.logits(parameters)
    loss = _loss(scores, labels, weights) + float(model.penalty @ parameters.square())
    for iteration in range(_ITERATIONS):
        probabilities = torch.softmax(scores, -1)
        gradient = model.pull(weights[:, None] * (probabilities - truth)) + 2 * model.penalty * parameters
        step = _direction(model, probabilities, weights, gradient)
        if step is None:
            break
        change = model.logits(step)
        change = change - change.mean(-1, keepdim=True)  # what is added to all classes alike is nothing
        slope = float(gradient @ step)
        length, fresh = 1.0, loss
        while length > 1e-10:
            after = parameters + length * step
            fresh = _loss(scores + length * change, labels, weights) + float(model.penalty @ after.square())
            if fresh <= loss + 1e-4 * length * slope + 1e-13 * abs(loss):
                break
            length /= 2
        parameters = parameters + length * step
        scores = model.logits(parameters)
        loss = fresh
        moved = length * float(change.abs().max())
        if moved < 1e-9 * max(1.0, float(scores.abs().max())):
            return Fit(parameters=parameters, loss=loss, separated=loss < 1e-12)
        if iteration >= _SEPARATED and moved > 0.3:
            break
    return Fit(parameters=parameters, loss=loss, separated=True)


def _loss(scores: Tensor, labels: Tensor, weights: Tensor) -> float:
    rows = torch.nn.functional.cross_entropy(scores, labels, reduction="none")
    return math.fsum((weights * rows).tolist()) if len(rows) < 1000 else float(weights @ rows)


def _direction(model: Model, probabilities: Tensor, weights: Tensor, gradient: Tensor) -> Tensor | None:
    """Newton's step, or none. Where nothing changes there is no gradient, so a tiny ridge does not move the end."""
    if model.direct:
        hessian = model.hessian(probabilities, weights)
        hessian.diagonal().add_(2 * model.penalty)
        scale = _scale(hessian.diagonal())
        hessian = hessian * scale * scale[:, None]
        hessian.diagonal().add_(1e-12)
        factor, failed = torch.linalg.cholesky_ex(hessian)
        if failed:
            hessian.diagonal().add_(1e-8)
            factor, failed = torch.linalg.cholesky_ex(hessian)
            if failed:  # probabilities are 0 and 1 to rounding, which has taken the curvature
                return None
        return -scale * torch.cholesky_solve((scale * gradient)[:, None], factor)[:, 0]
    scale = _scale(model.curvature(probabilities, weights) + 2 * model.penalty)

    def product(vector: Tensor) -> Tensor:
        scores = model.logits(scale * vector)
        inner = probabilities * (scores - (probabilities * scores).sum(-1, keepdim=True))
        return scale * (model.pull(weights[:, None] * inner) + 2 * model.penalty * scale * vector)

    return -scale * _conjugate_gradients(product, scale * gradient)


def _scale(curvature: Tensor) -> Tensor:
    """What brings every parameter's curvature to 1; a parameter without any stays."""
    return torch.where(curvature > 0, curvature.clamp(min=1e-300).rsqrt(), 1.0)


def _conjugate_gradients(product: Callable[[Tensor], Tensor], target: Tensor) -> Tensor:
    """Solve `product(x) = target`, the closer the shorter the target, so that Newton stays faster than linear."""
    solution, left = torch.zeros_like(target), target.clone()
    direction, size = left.clone(), float(left @ left)
    goal = size * min(0.01, math.sqrt(size)) ** 2
    for _ in range(min(len(target), 500)):
        if size <= goal:
            break
        image = product(direction)
        curvature = float(direction @ image)
        if curvature <= 0:
            break
        solution = solution + size / curvature * direction
        left = left - size / curvature * image
        before, size = size, float(left @ left)
        direction = left + size / before * direction
    return solution


def per_class(features: Tensor, penalty: Tensor) -> Model:
    """`logit_c = weight_c x_c + bias_c`; the parameters are all weights, then all biases."""
    count = features.shape[-1]

    def hessian(probabilities: Tensor, weights: Tensor) -> Tensor:
        both = torch.cat([probabilities * features, probabilities], -1)
        found = -(both * weights[:, None]).T @ both
        weighted = weights[:, None] * probabilities
        parts = (weighted * features.square(), weighted * features, weighted)
        squares, products, plain = (each.sum(0) for each in parts)
        found[:count, :count].diagonal().add_(squares)
        found[:count, count:].diagonal().add_(products)
        found[count:, :count].diagonal().add_(products)
        found[count:, count:].diagonal().add_(plain)
        return found

    def curvature(probabilities: Tensor, weights: Tensor) -> Tensor:
        spread = weights[:, None] * probabilities * (1 - probabilities)
        return torch.cat([(spread * features.square()).sum(0), spread.sum(0)])

    return Model(
        logits=lambda parameters: features * parameters[:count] + parameters[count:],
        pull=lambda values: torch.cat([(values * features).sum(0), values.sum(0)]),
        hessian=hessian,
        curvature=curvature,
        penalty=penalty,
        direct=len(penalty) <= _MOST_DIRECT["per_class"],
    )


def full(features: Tensor, penalty: Tensor) -> Model:
    """`logits = W x`, x (F) with the constant last; the parameters are W (C, F), row after row."""
    width = features.shape[-1]
    count = len(penalty) // width

    def hessian(probabilities: Tensor, weights: Tensor) -> Tensor:
        found = torch.zeros(len(penalty), len(penalty), dtype=torch.float64)
        step = max(1, _NUMBERS_AT_ONCE // len(penalty))
        for start in range(0, len(features), step):
            rows = slice(start, start + step)
            x, p, each = features[rows], probabilities[rows], weights[rows, None]
            flat = (p[:, :, None] * x[:, None, :]).flatten(1)
            found -= (flat * each).T @ flat
            for at in range(count):
                block = slice(at * width, (at + 1) * width)
                found[block, block] += (each * p[:, at : at + 1] * x).T @ x
        return found

    def curvature(probabilities: Tensor, weights: Tensor) -> Tensor:
        spread = weights[:, None] * probabilities * (1 - probabilities)
        return (spread.T @ features.square()).flatten()

    return Model(
        logits=lambda parameters: features @ parameters.view(count, width).T,
        pull=lambda values: (values.T @ features).flatten(),
        hessian=hessian,
        curvature=curvature,
        penalty=penalty,
        direct=len(penalty) <= _MOST_DIRECT["full"],
    )

"""What contests share whose networks learn a task until it is solved: measures of a curve, settings, a trial of an arm.

No axes: curves are lists.
"""

import math
from collections.abc import Mapping
from dataclasses import fields

import torch

from softplace.errors import InputError
from softplace.study.contest import Arm, Curve, Task
from softplace.study.store import JSON


def mean_over_budget(curve: Curve, column: str, budget: int) -> float:
    """The mean of a column over the budget: a low one is learned fast and well.

    Every evaluation stands for the steps since the one before; a member that stopped early keeps its last value.
    """
    total, before = 0.0, 0.0
    for step, value in zip(curve["step"], curve[column], strict=True):
        total += (step - before) * value
        before = step
    return (total + (budget - before) * curve[column][-1]) / budget


def first_below(curve: Curve, column: str, threshold: float, budget: int) -> float:
    """The first step at which a column was below a threshold; the budget where it never was."""
    pairs = zip(curve["step"], curve[column], strict=True)
    return next((step for step, value in pairs if value < threshold), float(budget))


def own_settings(task: Task, *, without: tuple[str, ...] = ()) -> Mapping[str, JSON]:
    """The fields that a task has beside those of every task, as JSON."""
    left = {each.name for each in fields(Task)} | set(without)
    own = {each.name: getattr(task, each.name) for each in fields(task) if each.name not in left}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in own.items()}


def check_arm(task: Task, arm: Arm, column: str) -> None:
    """Raise `InputError` unless networks with the arm's map can be trained: one step of two of them, and all measures.

    Args:
        task: To learn.
        arm: With the map.
        column: Of the learning curve, that `measure` looks at.

    Raises:
        InputError: The map fails, or weights or gradients are no numbers.
    """
    try:
        members = task.members(arm, (0, 1), torch.device("cpu"))
        leaves = [value.requires_grad_() for value in members.parameters.values()]
        losses = members.losses(*members.batch(0))
        gradients = torch.autograd.grad(losses.sum(), leaves, materialize_grads=True)
        bad = not all(math.isfinite(float(each.detach().sum())) for each in (losses, *gradients))
        with torch.no_grad():
            members.measure("judge", [{"step": [1.0], column: [1.0]}] * 2)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(
            f"map {arm.name!r}: expected a function map(scores, dim) for scores of any shape that torch.vmap and "
            f"autograd can go through, got {type(error).__name__}: {text}. Mend it, or leave it out with --maps."
        ) from error
    if bad:
        raise InputError(
            f"map {arm.name!r}: expected finite weights and gradients for finite scores, got NaN or infinite losses or "
            "gradients in the first step. Mend it, or leave it out with --maps."
        )

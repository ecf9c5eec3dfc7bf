"""Isotonic calibration of every class against the rest, and the choice of a penalty by cross-validation.

Axis legend: `...` leading axes, N rows, C classes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softplace.errors import InputError
from softplace.output.calibration import Calibrator, check_rows, classes_axis


@dataclass(frozen=True, kw_only=True, eq=False)
class IsotonicScaling:
    """A rising function of each class's probability, then divided by the sum of the row; logits in, logits out.

    Of two classes, one function for the second. A row whose numbers are all 0 gets equal probabilities. A probability
    of 0 is a logit of -inf, and the loss of its label infinite.

    Args:
        steps: Of each function the points (probability, calibrated), rising; straight between them, level beyond.
        classes: C.
        loss: Mean negative log-likelihood of the rows that it was fitted on, in nats.
    """

    steps: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]
    classes: int
    loss: float

    def __call__(self, logits: Tensor) -> Tensor:
        wide = classes_axis("IsotonicScaling", logits, self.classes)
        return _apply(self.steps, wide.detach()).log().to(logits.device, logits.dtype)


def fit_isotonic(logits: Tensor, labels: Tensor, *, weights: Tensor | None = None) -> IsotonicScaling:
    """Isotonic regression of every class against the rest. It needs many rows, some hundreds of each class.

    Args:
        logits: (N, C). -inf excludes a class.
        labels, weights: as `fit_temperature`.

    Raises:
        TypeError: A tensor is of the wrong type.
        InputError (a ValueError): A shape does not fit, a label is out of range or excluded, a number is not finite.

    Source: Zadrozny and Elkan 2002; as `CalibratedClassifierCV(method="isotonic")` of scikit-learn, whose
    isotonic regression it uses. The accuracy may change, as classes have functions of their own.

    >>> import torch
    >>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    >>> found = fit_isotonic(logits, torch.tensor([0, 0, 1, 1]))
    >>> [round(value, 4) for value in torch.softmax(found(logits), -1)[[0, 3], 1].tolist()]
    [0.3333, 1.0]
    """
    from sklearn.isotonic import IsotonicRegression  # type: ignore[import-untyped]

    scores, classes, shares = check_rows("fit_isotonic", logits, labels, weights, excludes=True)
    probabilities, count = torch.softmax(scores, -1).numpy(), scores.shape[-1]
    steps = []
    for number in range(count) if count > 2 else (1,):
        regression = IsotonicRegression(out_of_bounds="clip")
        regression.fit(probabilities[:, number], (classes == number).double().numpy(), sample_weight=shares.numpy())
        steps.append((np.asarray(regression.X_thresholds_), np.asarray(regression.y_thresholds_)))
    chance = _apply(tuple(steps), scores).gather(-1, classes[:, None])[:, 0]
    return IsotonicScaling(steps=tuple(steps), classes=count, loss=float(-(shares @ chance.log())))


def _apply(steps: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], logits: Tensor) -> Tensor:
    """Calibrated probabilities of logits (..., C), in float64 on the CPU."""
    probabilities = torch.softmax(logits.double().cpu(), -1)
    if len(steps) == 1:
        second = _between(probabilities[..., 1], *steps[0])
        return torch.stack([1 - second, second], -1)
    found = torch.stack([_between(probabilities[..., c], *each) for c, each in enumerate(steps)], -1)
    total = found.sum(-1, keepdim=True)
    return torch.where(total == 0, 1 / len(steps), found / torch.where(total == 0, 1.0, total))


def _between(values: Tensor, points: NDArray[np.float64], heights: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.asarray(np.interp(values.numpy(), points, heights)))


def choose_penalty(
    fit: Callable[..., Calibrator],
    logits: Tensor,
    labels: Tensor,
    *,
    penalties: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    folds: int = 3,
    generator: torch.Generator | None = None,
) -> float:
    """The penalty, of off-diagonal and intercept alike, with the least likelihood loss on rows left out.

    Args:
        fit: `fit_matrix` or `fit_dirichlet`.
        logits, labels: as `fit_matrix`.
        penalties: To choose from.
        folds: Parts of the rows, of which each is left out once; every part has a share of every class.
        generator: Of the parts. `None`: PyTorch's own.

    Returns:
        The best; of equals the largest.

    Raises:
        InputError: as `fit_matrix`; no penalties, or fewer than 2 folds.

    Source: Kull et al. 2019 (arXiv:1910.12656), who choose both apart, from a longer list.
    """
    scores, classes, _ = check_rows("choose_penalty", logits, labels, None)
    if not penalties or folds < 2:
        raise InputError(
            f"'penalties' and 'folds' of choose_penalty must be at least one number and two parts. Got {penalties!r} "
            f"and {folds!r}. Leave both out for the usual ones."
        )
    part = parts_of(classes, folds, generator)
    best, least = max(penalties), math.inf
    for penalty in sorted(penalties, reverse=True):
        loss = 0.0
        for each in range(folds):
            out = part == each
            found = fit(scores[~out], classes[~out], off_diagonal=penalty, intercept=penalty)
            loss += float(torch.nn.functional.cross_entropy(found(scores[out]), classes[out], reduction="sum"))
        if loss < least:
            best, least = penalty, loss
    return best


def parts_of(classes: Tensor, folds: int, generator: torch.Generator | None) -> Tensor:
    """The part of every row, 0 to folds - 1, (N): every class is spread evenly, and the parts are equal to one row."""
    order = torch.randperm(len(classes), generator=generator)
    order = order[classes[order].argsort(stable=True)]
    part = torch.empty_like(order)
    part[order] = torch.arange(len(classes)) % folds
    return part

"""Calibrators: maps from logits to better logits, fitted on rows that the network was not trained on.

Axis legend: `...` leading axes, N rows, C classes.
Each is fitted in float64 to the end: the best parameters of a convex loss, not where an optimiser stopped.
A score per row, of two classes, is `torch.stack([torch.zeros_like(score), score], -1)`.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.maps._arguments import kind, wide_type
from softplace.output import _newton


class Calibrator(Protocol):
    """Maps logits (..., C) to calibrated logits (..., C) of the same dtype: softmax of them is the probabilities."""

    @property
    def loss(self) -> float: ...

    def __call__(self, logits: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class TemperatureScaling:
    """`logits / temperature`: the order of the classes, and so the accuracy, stays.

    Args:
        temperature: Above 0. Above 1 the network was too sure.
        loss: Mean negative log-likelihood of the rows that it was fitted on, in nats.
    """

    temperature: float
    loss: float

    def __call__(self, logits: Tensor) -> Tensor:
        return _floating("TemperatureScaling", logits) / self.temperature


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorScaling:
    """`weight * logits + bias`, a number of each per class.

    Args:
        weight, bias: (C) in float64. The biases sum to 0.
        loss: Mean negative log-likelihood of the rows that it was fitted on, in nats.
    """

    weight: Tensor
    bias: Tensor
    loss: float

    def __call__(self, logits: Tensor) -> Tensor:
        wide = classes_axis("VectorScaling", logits, len(self.bias))
        return (wide * self.weight.to(wide) + self.bias.to(wide)).to(logits.dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class MatrixScaling:
    """`weight @ logits + bias`. A logit of -inf gives NaN.

    Args:
        weight: (C, C) in float64.
        bias: (C) in float64.
        loss: Mean negative log-likelihood of the rows that it was fitted on, in nats, without the penalty.
    """

    weight: Tensor
    bias: Tensor
    loss: float

    def __call__(self, logits: Tensor) -> Tensor:
        wide = classes_axis("MatrixScaling", logits, len(self.bias))
        return (wide @ self.weight.to(wide).T + self.bias.to(wide)).to(logits.dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class DirichletScaling:
    """`weight @ ln softmax(logits) + bias`. A probability of 0 gives NaN. Arguments as `MatrixScaling`."""

    weight: Tensor
    bias: Tensor
    loss: float

    def __call__(self, logits: Tensor) -> Tensor:
        wide = torch.log_softmax(classes_axis("DirichletScaling", logits, len(self.bias)), -1)
        return (wide @ self.weight.to(wide).T + self.bias.to(wide)).to(logits.dtype)


def fit_temperature(logits: Tensor, labels: Tensor, *, weights: Tensor | None = None) -> TemperatureScaling:
    """The temperature with the least negative log-likelihood, `min_t mean_n -ln softmax(l_n / t)_{y_n}`.

    Args:
        logits: (N, C) of a network that was not trained on these rows. -inf excludes a class. Of probabilities: their
            logarithms.
        labels: (N), integer.
        weights: (N), at least 0: what each row counts. `None`: all alike.

    Raises:
        TypeError: A tensor is of the wrong type.
        InputError (a ValueError): A shape does not fit, a label is out of range or excluded, a number is not finite; or
            there is no best temperature: every label has the largest logit (it runs to 0), the labels have no higher
            logits than others in the mean (it runs to infinity), or the logits of every row are equal.

    Source: Guo et al. 2017 (arXiv:1706.04599), section 4.2. They take gradient steps on t; the loss is convex in 1 / t,
    and Newton's method in it, kept between bounds, ends at the rounding of float64 in some 6 passes.

    >>> import torch
    >>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    >>> found = fit_temperature(logits, torch.tensor([0, 0, 1, 1]))
    >>> round(found.temperature, 6), round(found.loss, 6)  # 3 of 4 are right: e^(4 / t) = 3
    (3.640957, 0.562335)
    """
    scores, classes, shares = check_rows("fit_temperature", logits, labels, weights, excludes=True)
    top = scores.amax(-1, keepdim=True)
    scores = scores - top
    masked = scores == -math.inf
    finite = scores.masked_fill(masked, 0.0)
    target = finite.gather(-1, classes[:, None])[:, 0]
    least = float(finite.min())
    if least == 0.0:
        raise InputError(
            "'logits' of fit_temperature must differ within a row. Got equal logits in every row. No temperature "
            "changes them: look at what the network puts out."
        )
    if bool((target == 0).all()):
        raise InputError(
            f"'labels' of fit_temperature must not all have the largest logit. Got {len(scores)} rows that are all "
            "right, of which the temperature runs to 0. Give more rows that the network was not trained on."
        )
    mean = finite.sum(-1) / (~masked).sum(-1)
    if float(shares @ (mean - target)) >= 0:
        raise InputError(
            "'logits' of fit_temperature must be higher at the labels than at other classes in the mean. Got logits of "
            "which the temperature runs to infinity. Check that labels and classes are in the same order."
        )

    # Of the largest difference 1, so that no square of a logit overflows or vanishes.
    finite, target = finite / -least, target / -least
    squares = finite.square()

    def slopes(inverse: float) -> tuple[float, float]:
        """First and second derivative of the loss in 1 / t."""
        weight = torch.softmax((finite * inverse).masked_fill_(masked, -math.inf), -1)
        expected = torch.linalg.vecdot(weight, finite)
        spread = torch.linalg.vecdot(weight, squares) - expected.square()
        return float(shares @ (expected - target)), float(shares @ spread)

    inverse, low, high = 0.0, 0.0, math.inf
    for _ in range(200):
        slope, curvature = slopes(inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        after = inverse - slope / curvature if curvature > 0 else math.inf
        if abs(after - inverse) <= 1e-8 * inverse:  # the next step would be its square
            inverse = after
            break
        if not low < after < high:
            after = (low + high) / 2
        inverse = min(after, 10 * inverse) if inverse else after
    else:
        raise InputError(
            "'logits' of fit_temperature must have a best temperature. Got logits of which it runs to 0. Give more "
            "rows that the network was not trained on."
        )
    scaled = (finite * inverse).masked_fill(masked, -math.inf)
    loss = float(shares @ torch.nn.functional.cross_entropy(scaled, classes, reduction="none"))
    return TemperatureScaling(temperature=-least / inverse, loss=loss)


def fit_vector(logits: Tensor, labels: Tensor, *, weights: Tensor | None = None) -> VectorScaling:
    """A weight and a bias per class with the least negative log-likelihood.

    Args:
        logits: (N, C), finite. For two classes it is Platt scaling of the difference.
        labels, weights: as `fit_temperature`.

    Raises:
        As `fit_temperature`, where a class has no rows, and where the classes are separated: the likelihood then rises
        as the parameters grow.

    Source: Guo et al. 2017 (arXiv:1706.04599), section 4.2. Platt 1999 smooths the labels, which is not done here.

    >>> import torch
    >>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0], [0.0, 4.0], [0.0, 4.0]])
    >>> found = fit_vector(logits, torch.tensor([0, 0, 1, 1, 1, 0]))
    >>> [round(value, 4) for value in torch.softmax(found(logits), -1)[[0, 3], 0].tolist()]
    [0.6667, 0.3333]
    """
    scores, classes, shares = check_rows("fit_vector", logits, labels, weights)
    _need_all("fit_vector", classes, shares, scores.shape[-1])
    count = scores.shape[-1]
    centre = shares @ scores
    model = _newton.per_class(scores - centre, torch.zeros(2 * count, dtype=torch.float64))
    found = _newton.minimise(model, classes, shares)
    _need_best("fit_vector", found)
    weight = found.parameters[:count]
    bias = found.parameters[count:] - weight * centre
    return VectorScaling(weight=weight, bias=bias - bias.mean(), loss=found.loss)


def fit_matrix(
    logits: Tensor,
    labels: Tensor,
    *,
    off_diagonal: float = 0.01,
    intercept: float = 0.01,
    weights: Tensor | None = None,
) -> MatrixScaling:
    """A matrix and a bias with the least negative log-likelihood plus penalty (ODIR).

    `mean_n -ln softmax(W l_n + b)_{y_n} + off_diagonal / (C (C - 1)) sum_{i != j} W_ij^2 + intercept / C sum_i b_i^2`.

    Args:
        logits: (N, C), finite.
        labels, weights: as `fit_temperature`.
        off_diagonal: At least 0: the weight of what mixes classes.
        intercept: At least 0: the weight of the biases. `choose_penalty` finds one for both.

    Raises:
        As `fit_vector`, and where a penalty is negative or not finite.

    Source: Kull et al. 2019 (arXiv:1910.12656): matrix scaling of Guo et al. 2017 with off-diagonal and
    intercept regularisation.

    >>> import torch
    >>> source = torch.Generator().manual_seed(0)
    >>> logits = torch.randn(300, 3, generator=source)
    >>> labels = torch.multinomial(torch.softmax(logits, -1), 1, generator=source)[:, 0]
    >>> fit_matrix(3 * logits, labels).weight.shape
    torch.Size([3, 3])
    """
    scores, classes, shares = check_rows("fit_matrix", logits, labels, weights)
    weight, bias, loss = _full("fit_matrix", scores, classes, shares, off_diagonal, intercept)
    return MatrixScaling(weight=weight, bias=bias, loss=loss)


def fit_dirichlet(
    logits: Tensor,
    labels: Tensor,
    *,
    off_diagonal: float = 0.01,
    intercept: float = 0.01,
    weights: Tensor | None = None,
) -> DirichletScaling:
    """Dirichlet calibration: `fit_matrix` of the log-probabilities. Arguments and errors as there.

    Source: Kull et al. 2019 (arXiv:1910.12656), in the linear parametrisation.

    >>> import torch
    >>> source = torch.Generator().manual_seed(0)
    >>> logits = torch.randn(300, 3, generator=source)
    >>> labels = torch.multinomial(torch.softmax(logits, -1), 1, generator=source)[:, 0]
    >>> sharp, mended = 3 * logits, fit_dirichlet(3 * logits, labels)(3 * logits)
    >>> bool(torch.nn.functional.cross_entropy(mended, labels) < torch.nn.functional.cross_entropy(sharp, labels))
    True
    """
    scores, classes, shares = check_rows("fit_dirichlet", logits, labels, weights)
    scores = torch.log_softmax(scores, -1)
    weight, bias, loss = _full("fit_dirichlet", scores, classes, shares, off_diagonal, intercept)
    return DirichletScaling(weight=weight, bias=bias, loss=loss)


def _full(
    name: str, scores: Tensor, classes: Tensor, shares: Tensor, off_diagonal: float, intercept: float
) -> tuple[Tensor, Tensor, float]:
    for which, value in (("off_diagonal", off_diagonal), ("intercept", intercept)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise InputError(
                f"'{which}' of {name} must be a finite number of at least 0. Got {value!r}. Use e.g. 0.01."
            )
    count = scores.shape[-1]
    _need_all(name, classes, shares, count)
    features = torch.cat([scores, scores.new_ones(len(scores), 1)], -1)
    penalty = torch.full((count, count + 1), off_diagonal / (count * (count - 1)), dtype=torch.float64)
    penalty[:, -1] = intercept / count
    penalty[:, :-1].fill_diagonal_(0.0)
    found = _newton.minimise(_newton.full(features, penalty.flatten()), classes, shares)
    _need_best(name, found)
    parameters = found.parameters.view(count, count + 1)
    loss = found.loss - float((penalty * parameters.square()).sum())
    return parameters[:, :-1].clone(), parameters[:, -1].clone(), loss


def check_rows(
    name: str, logits: Tensor, labels: Tensor, weights: Tensor | None, *, excludes: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits in float64, labels, and what each row counts, summing to one; on the CPU, without rows of weight 0."""
    scores = _floating(name, logits).detach().double().cpu()
    if scores.ndim != 2 or scores.shape[0] < 1 or scores.shape[1] < 2:
        raise InputError(
            f"'logits' of {name} must have the shape (N, C) with a row and two classes or more. Got "
            f"{tuple(logits.shape)}. Of one score per row, stack zeros before it: torch.stack([0 * score, score], -1)."
        )
    whole = isinstance(labels, Tensor) and not (labels.is_floating_point() or labels.is_complex())
    if not whole or labels.dtype == torch.bool:
        raise TypeError(f"'labels' of {name} must be an integer tensor. Got {kind(labels)}. Use labels.long().")
    if labels.shape != scores.shape[:1]:
        raise InputError(
            f"'labels' of {name} must have the shape {tuple(scores.shape[:1])}. Got {tuple(labels.shape)}. "
            "Give one class per row."
        )
    classes = labels.detach().long().cpu()
    bad = (classes < 0) | (classes >= scores.shape[1])
    if bad.any():
        row = int(bad.nonzero()[0])
        raise InputError(
            f"'labels' of {name} must be classes from 0 to {scores.shape[1] - 1}. Got {int(classes[row])} in row "
            f"{row}. Leave out the rows to ignore."
        )
    fine = scores.isfinite() | (scores == -math.inf) if excludes else scores.isfinite()
    if not fine.all():
        row, column = (int(each) for each in (~fine).nonzero()[0])
        raise InputError(
            f"'logits' of {name} must be finite. Got {float(scores[row, column])} in row {row}, class {column}. "
            "Leave the row out, or find out where it comes from."
        )
    sizes = scores.abs().masked_fill(~scores.isfinite(), 0.0)
    if float(sizes.max()) > 1e150:
        row, column = divmod(int(sizes.argmax()), scores.shape[1])
        raise InputError(
            f"'logits' of {name} must be numbers whose squares a computer can hold. Got "
            f"{float(scores[row, column]):g} in row {row}, class {column}. Find out where it comes from."
        )
    shut = scores.gather(-1, classes[:, None])[:, 0] == -math.inf
    if shut.any():
        row = int(shut.nonzero()[0])
        raise InputError(
            f"'logits' of {name} must not exclude a label. Got -inf for the label {int(classes[row])} of row {row}. "
            "Leave the row out, or give probabilities of 0 a small one."
        )
    if weights is None:
        return scores, classes, torch.full((len(scores),), 1 / len(scores), dtype=torch.float64)
    shares = _floating(name, weights, "weights").detach().double().cpu()
    if shares.shape != classes.shape:
        raise InputError(
            f"'weights' of {name} must have the shape {tuple(classes.shape)}. Got {tuple(shares.shape)}. "
            "Give one number per row."
        )
    if not bool((shares.isfinite() & (shares >= 0)).all()) or float(shares.sum()) <= 0:
        raise InputError(
            f"'weights' of {name} must be finite, at least 0, and not all 0. Got numbers from {float(shares.min()):g} "
            f"to {float(shares.max()):g}. Leave weights out to count all rows alike."
        )
    kept = shares > 0
    shares = shares[kept] / shares.max()
    return scores[kept], classes[kept], shares / shares.sum()


def _need_all(name: str, classes: Tensor, shares: Tensor, count: int) -> None:
    missing = [str(each) for each in range(count) if not bool((classes == each).any())]
    if missing:
        more = ", ..." if len(missing) > 5 else ""
        raise InputError(
            f"'labels' of {name} must have rows of every class. Got none of class {', '.join(missing[:5])}{more}, "
            "whose bias runs to -infinity. Give rows of it, or use fit_temperature."
        )


def _need_best(name: str, found: _newton.Fit) -> None:
    if found.separated:
        raise InputError(
            f"'logits' of {name} must not separate the classes. Got rows of which the likelihood rises as the "
            "parameters grow without end. Give more rows that the network was not trained on, or use fit_temperature."
        )


def _floating(name: str, values: Tensor, what: str = "logits") -> Tensor:
    if not isinstance(values, Tensor) or not values.is_floating_point():
        raise TypeError(
            f"'{what}' of {name} must be a floating-point tensor. Got {kind(values)}. Convert it, e.g. {what}.float()."
        )
    return values


def classes_axis(name: str, logits: Tensor, count: int) -> Tensor:
    """The logits, in float32 or wider."""
    if _floating(name, logits).ndim < 1 or logits.shape[-1] != count:
        raise InputError(
            f"'logits' of {name} must have {count} classes on the last axis, as what it was fitted on. Got the shape "
            f"{tuple(logits.shape)}. Check which axis holds the classes."
        )
    return logits.to(wide_type(logits.dtype))

"""Conformal prediction sets: the classes that are not ruled out, with a coverage that holds for any network.

Axis legend: `...` leading axes, N rows, C classes.
Rows to calibrate on and rows to predict must be exchangeable, and the network trained on neither.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from softplace.errors import InputError, nearest
from softplace.maps._arguments import kind

Score = Callable[[Tensor, Tensor], Tensor]
"""Of probabilities (..., C) and a uniform number per row (..., 1): how strange each class is, (..., C)."""


def lac_score(probabilities: Tensor, uniform: Tensor | None = None) -> Tensor:
    """How strange each class is by itself, `1 - p_c`. The sets are the smallest on average, and may be empty.

    Source: Sadinle, Lei and Wasserman 2019 (arXiv:1609.00451), the least ambiguous classifier.
    """
    return 1 - probabilities


def aps_score(probabilities: Tensor, uniform: Tensor | None = None) -> Tensor:
    """How much probability is above a class, with the share `uniform` of its own: adaptive prediction sets (APS).

    `sum of p_j above c + u p_c`; of equal probabilities the first class is above. `uniform=None`: u = 0, none of its
    own, so that the likeliest class has 0 and is in every set.

    Args:
        probabilities: (..., C).
        uniform: Numbers from 0 to 1, (..., 1).

    Source: Romano, Sesia and Candès 2020 (arXiv:2006.02544).

    >>> import torch
    >>> [round(value, 3) for value in aps_score(torch.tensor([0.25, 0.625, 0.125])).tolist()]
    [0.625, 0.0, 0.875]
    """
    score, _ = _cumulative(probabilities, uniform)
    return score


def _cumulative(probabilities: Tensor, uniform: Tensor | None) -> tuple[Tensor, Tensor]:
    """The score of `aps_score`, and the rank of every class, the likeliest first, from 1."""
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    ranks = order.argsort(-1)
    above = (ordered.cumsum(-1) - ordered).gather(-1, ranks)
    return above + probabilities * (0.0 if uniform is None else uniform), ranks + 1


@dataclass(frozen=True, kw_only=True)
class RAPS:
    """`aps_score` plus `penalty * max(rank - free, 0)`: regularised adaptive sets, which have no long tails.

    Args:
        penalty: At least 0.
        free: Ranks without a penalty, at least 0.
        randomised: Whether a class counts the share `uniform` of its own probability, or none of it.

    Source: Angelopoulos et al. 2021 (arXiv:2009.14193); they choose `free` and `penalty` on rows of their own.
    """

    penalty: float = 0.01
    free: int = 5
    randomised: bool = True

    def __post_init__(self) -> None:
        number = isinstance(self.penalty, int | float) and 0 <= self.penalty < math.inf
        if not number or not isinstance(self.free, int) or isinstance(self.free, bool) or self.free < 0:
            raise InputError(
                f"'penalty' and 'free' of RAPS must be finite and at least 0. Got {self.penalty!r} and {self.free!r}. "
                "Use e.g. 0.01 and 5."
            )

    def __call__(self, probabilities: Tensor, uniform: Tensor) -> Tensor:
        score, ranks = _cumulative(probabilities, uniform if self.randomised else None)
        return score + self.penalty * (ranks - self.free).clamp(min=0)


SCORES: dict[str, Score] = {
    "lac": lac_score,
    "aps": aps_score,
    "aps-fixed": lambda probabilities, uniform: aps_score(probabilities),
    "raps": RAPS(),
}
"""By name: "aps-fixed" is APS without random numbers, whose sets are never empty."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionSets:
    """Maps probabilities (..., N, C) to sets of classes, boolean (..., N, C), `True` = in the set.

    Args:
        threshold: (..., 1) or, class-conditional, (..., C): a class with a score up to it is in the set.
        alpha: The share of labels that may be outside.
        score: How strange a class is.
        rows: How many rows the threshold is from; class-conditional: of each class.
    """

    threshold: Tensor
    alpha: float
    score: Score
    rows: tuple[int, ...]

    def __call__(self, probabilities: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """The sets.

        Args:
            probabilities: (..., N, C), each row sums to one. A row with a NaN has every class in its set.
            generator: Of the random numbers of a randomised score, on a CPU. `None`: PyTorch's own.
        """
        values = _probabilities("PredictionSets", probabilities)
        width = self.threshold.shape[-1]
        if width not in (1, values.shape[-1]):
            raise InputError(
                f"'probabilities' of PredictionSets must have {width} classes, as what it was fitted on. Got the shape "
                f"{tuple(values.shape)}. Check which axis holds the classes."
            )
        outside = self.score(values, _uniform(values, generator)) > self.threshold[..., None, :].to(values.device)
        # A comparison with NaN is false, so that nothing that is not known is ruled out.
        return ~outside | values.isnan().any(-1, keepdim=True)


def fit_sets(
    probabilities: Tensor,
    labels: Tensor,
    *,
    alpha: float = 0.1,
    score: str | Score = "lac",
    by_class: bool = False,
    generator: torch.Generator | None = None,
) -> PredictionSets:
    """Split conformal prediction: sets that have the label of a new row with a probability of at least `1 - alpha`.

    The threshold is the `ceil((N + 1)(1 - alpha))`-th smallest score of a label. Over rows to calibrate on, the share
    of new labels in the sets has a beta distribution with `N + 1 - l` and `l`, `l = floor((N + 1) alpha)`, where scores
    have no ties; with ties it is more.

    Args:
        probabilities: (..., N, C) of rows that the network was not trained on, each row sums to one.
        labels: Classes, integer, (..., N) or broadcastable to it.
        alpha: Between 0 and 1, read as the decimal number that it is written as.
        score: "lac" (the smallest sets), "aps" (sets that are larger where it is harder), "aps-fixed", "raps", or a
            callable from probabilities (..., C) and uniform numbers (..., 1) to scores (..., C), e.g. `RAPS(free=2)`.
        by_class: A threshold for each class, so that the coverage holds for the rows of each class (Mondrian).
        generator: Of the random numbers of a randomised score, on a CPU. `None`: PyTorch's own.

    Raises:
        TypeError: A tensor is of the wrong type.
        InputError (a ValueError): A shape does not fit, a row is not a distribution, a number is NaN, a label is out of
            range, `alpha` is not between 0 and 1, `score` is unknown; or there are fewer than `1 / alpha - 1` rows (of
            a class), of which only the set of all classes has the coverage.

    Source: Vovk, Gammerman and Shafer 2005; Lei et al. 2018 (arXiv:1604.04173); by class, and the distribution:
    Vovk 2012 (arXiv:1209.2673).

    >>> import torch
    >>> source = torch.Generator().manual_seed(0)
    >>> chance = torch.softmax(2 * torch.randn(2000, 4, generator=source), -1)
    >>> labels = torch.multinomial(chance, 1, generator=source)[:, 0]
    >>> sets = fit_sets(chance[:1000], labels[:1000], alpha=0.1)
    >>> found = sets(chance[1000:])
    >>> round(coverage(found, labels[1000:]).item(), 2), round(found.sum(-1).double().mean().item(), 1)
    (0.92, 1.8)
    """
    name = "fit_sets"
    values = _probabilities(name, probabilities)
    if values.isnan().any():
        row = int(values.isnan().any(-1).flatten().nonzero()[0])
        raise InputError(
            f"'probabilities' of {name} must be numbers. Got NaN in row {row}. Leave the row out, or find out where it "
            "comes from."
        )
    classes = _labels(name, labels, values)
    share = _share(name, alpha)
    chosen = _score(name, score)
    scores = chosen(values, _uniform(values, generator)).gather(-1, classes[..., None])[..., 0]
    if not by_class:
        threshold = _quantile(scores, share, "rows")[..., None]
        return PredictionSets(threshold=threshold, alpha=alpha, score=chosen, rows=(scores.shape[-1],))
    if values.ndim > 2:
        raise InputError(
            f"'probabilities' of {name} must have the shape (N, C) for thresholds by class. Got {tuple(values.shape)}. "
            "Call it for each."
        )
    thresholds = [_quantile(scores[classes == c], share, f"rows of class {c}") for c in range(values.shape[-1])]
    rows = tuple(torch.bincount(classes, minlength=values.shape[-1]).tolist())
    return PredictionSets(threshold=torch.stack(thresholds), alpha=alpha, score=chosen, rows=rows)


def coverage(sets: Tensor, labels: Tensor) -> Tensor:
    """The share of labels that are in their sets, (...) in float64.

    Args:
        sets: Boolean, (..., N, C).
        labels: Classes, integer, (..., N) or broadcastable to it.
    """
    if not isinstance(sets, Tensor) or sets.dtype != torch.bool or sets.ndim < 2 or sets.numel() == 0:
        got = f"the shape {tuple(sets.shape)} of {sets.dtype}" if isinstance(sets, Tensor) else kind(sets)
        raise InputError(
            f"'sets' of coverage must be boolean, (..., N, C), and not empty. Got {got}. Give what fit_sets(...) gives."
        )
    return sets.gather(-1, _labels("coverage", labels, sets)[..., None]).double().mean((-2, -1))


def _quantile(scores: Tensor, alpha: Fraction, what: str) -> Tensor:
    """The `ceil((n + 1)(1 - alpha))`-th smallest of the last axis."""
    count = scores.shape[-1]
    outside = math.floor((count + 1) * alpha)
    if outside < 1:
        least = math.ceil(1 / alpha) - 1
        raise InputError(
            f"'probabilities' of fit_sets must have {least} {what} or more for alpha = {float(alpha):g}. Got {count}, "
            "of which only the set of all classes has the coverage. Give more rows, or a larger alpha."
        )
    return scores.kthvalue(count + 1 - outside, dim=-1).values


def _share(name: str, alpha: float) -> Fraction:
    """The decimal number that alpha is written as: 0.1 and not the binary number near it, which may move a rank."""
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < 1:
        raise InputError(f"'alpha' of {name} must be between 0 and 1. Got {alpha!r}. Use 0.1 for a coverage of 90 %.")
    return Fraction(repr(float(alpha)))


def _score(name: str, score: str | Score) -> Score:
    if isinstance(score, str):
        if score not in SCORES:
            raise InputError(
                f"'score' of {name} must be a callable or a name. Got {score!r}. {nearest(score, [*SCORES])}"
            )
        return SCORES[score]
    if not callable(score):
        raise TypeError(f"'score' of {name} must be a callable or a name. Got {kind(score)}. Use e.g. 'aps'.")
    return score


def _uniform(values: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(*values.shape[:-1], 1, dtype=torch.float64, generator=generator).to(values.device)


def _probabilities(name: str, probabilities: Tensor) -> Tensor:
    if not isinstance(probabilities, Tensor) or not probabilities.is_floating_point():
        raise TypeError(
            f"'probabilities' of {name} must be a floating-point tensor. Got {kind(probabilities)}. Use "
            "probabilities.float()."
        )
    if probabilities.ndim < 2 or probabilities.shape[-1] < 1:
        raise InputError(
            f"'probabilities' of {name} must have the shape (..., N, C). Got {tuple(probabilities.shape)}. Add an axis "
            "with unsqueeze(0) for one row."
        )
    values = probabilities.detach().double()
    wrong = (values < 0) | ((values.sum(-1, keepdim=True) - 1).abs() > 0.01)
    if wrong.any():
        row = int(wrong.any(-1).flatten().nonzero()[0])
        numbers = values.flatten(0, -2)[row]
        raise InputError(
            f"'probabilities' of {name} must be at least 0 and sum to 1 over the last axis. Got the sum "
            f"{float(numbers.sum()):g} and the least number {float(numbers.min()):g} in row {row}. Apply softmax if "
            "these are logits."
        )
    return values


def _labels(name: str, labels: Tensor, values: Tensor) -> Tensor:
    whole = isinstance(labels, Tensor) and not (labels.is_floating_point() or labels.is_complex())
    if not whole or labels.dtype == torch.bool:
        raise TypeError(f"'labels' of {name} must be an integer tensor. Got {kind(labels)}. Use labels.long().")
    try:
        classes = labels.long().to(values.device).expand(values.shape[:-1])
    except RuntimeError:
        raise InputError(
            f"'labels' of {name} must broadcast to {tuple(values.shape[:-1])}. Got {tuple(labels.shape)}. Give one "
            "class per row."
        ) from None
    bad = (classes < 0) | (classes >= values.shape[-1])
    if bad.any():
        row = int(bad.flatten().nonzero()[0])
        raise InputError(
            f"'labels' of {name} must be classes from 0 to {values.shape[-1] - 1}. Got {int(classes.flatten()[row])} "
            f"in row {row}. Leave out the rows to ignore."
        )
    return classes

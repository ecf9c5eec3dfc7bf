"""Losses that belong to maps (Fenchel-Young): their gradient is `p - y`, the map's weights less the target.

Axis legend: `dim` is the axis of the classes (the last, where PyTorch's losses take the second); every other axis is a
batch axis. p weights, y target distribution, s scores, t temperature, n number of classes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from softplace.maps._arguments import (
    at_least,
    can_look,
    centred,
    check_device,
    kind,
    masked,
    per_row,
    prepare,
    wide_type,
)
from softplace.maps._search import power, total
from softplace.maps.simplex import log_softmax
from softplace.maps.sparse import entmax, entmax15, sparsemax

REDUCTIONS = ("mean", "sum", "none")


def cross_entropy(
    scores: Tensor,
    target: Tensor,
    dim: int = -1,
    *,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    mask: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Cross-entropy, `L = -sum_i y_i log softmax(s / t)_i`. Gradient in `s / t`: `softmax(s / t) - y`.

    Args:
        scores: Real scores, any shape.
        target: Class indices (integers, the shape of `scores` without `dim`), or a distribution over the classes
            (floating point, the shape of `scores`).
        dim: Axis of the classes.
        weight: One weight per class: y_i counts `weight_i` times.
        label_smoothing: The share e in [0, 1] of the target that is spread evenly over the classes that take part:
            `(1 - e) y + e / n`.
        ignore_index: Class index of rows that do not count: loss and gradient 0, whatever the scores. Not with
            distributions.
        reduction: "none", "sum", or "mean": the sum over the sum of the weights of the targets (of distributions: over
            the number of rows).
        mask: Boolean, broadcastable to `scores`; `True` = take part. A target that does not take part makes the loss
            infinite, as the limit does (here with zero gradient; the sparse losses keep `p - y`).
        temperature: Positive divisor of the scores.

    Returns:
        The loss in the dtype of `scores`; half precisions are computed in float32. Where nothing counts, or the weights
        sum to 0, "mean" is 0 with zero gradient.

    Raises:
        TypeError: `target` is boolean or complex, `weight` not floating point, `label_smoothing` or `ignore_index` not
            a number, or as `softmax`.
        ValueError: A shape, size or device does not fit, a class index is out of range (looked at on a CPU outside
            transforms; else as PyTorch's `scatter`), `label_smoothing` is outside [0, 1], `reduction` is unknown, or as
            `softmax`.

    Differs from `torch.nn.functional.cross_entropy` in `dim`, and where that gives NaN: in a mean over nothing, for
    `0 * -inf`, and where an ignored row or a class of weight 0 has an infinite loss.

    >>> import torch
    >>> round(cross_entropy(torch.tensor([[3.00, 2.0, 1.00, 0.10]]), torch.tensor([0])).item(), 4)
    0.4436
    """
    options = (weight, label_smoothing, ignore_index, reduction, mask, temperature)
    case = _case("cross_entropy", scores, target, dim, *options)
    logarithms = log_softmax(case.scores, case.dim, mask=case.mask, temperature=case.temperature)
    if case.is_one_hot:
        rows = 0.0 - logarithms.gather(case.dim, case.answer)  # not -0.0
        # A class of weight 0 may have an infinite loss, and an ignored row any.
        rows = torch.where(case.row_weight == 0.0, 0.0, rows) * case.row_weight
    else:
        y = case.target() * case.row_weight
        rows = 0.0 - (y * torch.where(y == 0.0, 0.0, logarithms)).sum(case.dim, keepdim=True)
    return case.reduced(rows)


def sparsemax_loss(
    scores: Tensor,
    target: Tensor,
    dim: int = -1,
    *,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    mask: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Sparsemax loss, `entmax_loss` at alpha = 2. Gradient in `s / t`: `sparsemax(s / t) - y`.

    It is 0 as soon as the target's score leads by t. Arguments and errors as `entmax_loss`.

    Source: Martins and Astudillo 2016 (arXiv:1602.02068), eq. 18 and 20.

    >>> import torch
    >>> sparsemax_loss(torch.tensor([[3.00, 2.5, 1.00, 0.10]]), torch.tensor([0])).item()
    0.0625
    """
    options = (weight, label_smoothing, ignore_index, reduction, mask, temperature)
    case = _case("sparsemax_loss", scores, target, dim, *options)
    return _fenchel_young("sparsemax_loss", case, 2.0)


def entmax15_loss(
    scores: Tensor,
    target: Tensor,
    dim: int = -1,
    *,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    mask: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """1.5-entmax loss, `entmax_loss` at alpha = 1.5. Gradient in `s / t`: `entmax15(s / t) - y`.

    It is 0 as soon as the target's score leads by 2 t. Arguments and errors as `entmax_loss`.

    Source: Peters, Niculae and Martins 2019 (arXiv:1905.05702), eq. 11.

    >>> import torch
    >>> round(entmax15_loss(torch.tensor([[3.00, 2.5, 1.00, 0.10]]), torch.tensor([0])).item(), 4)
    0.1844
    """
    options = (weight, label_smoothing, ignore_index, reduction, mask, temperature)
    case = _case("entmax15_loss", scores, target, dim, *options)
    return _fenchel_young("entmax15_loss", case, 1.5)


def entmax_loss(
    scores: Tensor,
    target: Tensor,
    dim: int = -1,
    *,
    alpha: float | Tensor = 1.5,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    mask: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """alpha-entmax loss, `L = max_p (<p, s / t> - O(p)) + O(y) - <y, s / t>`. Gradient: `entmax(s / t) - y`.

    O is Tsallis' negative entropy, `O(p) = (sum_i p_i^alpha - 1) / (alpha (alpha - 1))`, at alpha = 1
    `sum_i p_i log(p_i)`. So L is never negative, and 0 exactly where the weights are the target. Of class indices,
    alpha = 1 is the cross-entropy; of other targets it is the Kullback-Leibler divergence, which is less by the entropy
    of the target (0 for a one-hot) and has the same gradient.

    Args:
        alpha: At least 1, as of `entmax`; a tensor may be learned.
        target: As of `cross_entropy`; not negative. One whose sum W is not 1 counts as W times the loss of `y / W`.
        weight: One weight per class, not negative. They act on the target: L is W times the loss of the distribution
            `weight_i y_i / W`, W the sum. So the gradient is that of `cross_entropy` with the map's p, and a one-hot's
            loss is multiplied by the weight of its class.
        scores, dim, label_smoothing, ignore_index, reduction, mask, temperature: as `cross_entropy`.

    Raises:
        As `cross_entropy` and `entmax`; ValueError for a negative target or weight (looked at where class indices are).

    Source: Peters, Niculae and Martins 2019 (arXiv:1905.05702), eq. 11; Blondel, Martins and Niculae 2020
    (arXiv:1901.02324), definition 2.

    >>> import torch
    >>> scores, target = torch.tensor([[3.00, 2.0, 1.00, 0.10]]), torch.tensor([0])
    >>> [round(entmax_loss(scores, target, alpha=alpha).item(), 4) for alpha in (1.0, 1.5, 2.0)]
    [0.4436, 0.0617, 0.0]
    """
    options = (weight, label_smoothing, ignore_index, reduction, mask, temperature)
    case = _case("entmax_loss", scores, target, dim, *options)
    return _fenchel_young("entmax_loss", case, alpha)


@dataclass(frozen=True, kw_only=True)
class _Case:
    """Checked arguments of a loss. Rows keep `dim` with size 1."""

    scores: Tensor
    dtype: torch.dtype
    dim: int
    mask: Tensor | None
    answer: Tensor
    """Class indices, or distributions."""
    is_soft: bool
    weight: Tensor | None
    row_weight: Tensor
    """Of an ignored row 0; of a one-hot the weight of its class; else 1."""
    smoothing: float
    divisor: Tensor
    reduction: str
    temperature: float

    @property
    def is_one_hot(self) -> bool:
        return not self.is_soft and self.smoothing == 0.0

    def target(self) -> Tensor:
        """The target times the class weights where these are not in `row_weight`."""
        y = self.answer
        if not self.is_soft:
            y = torch.zeros_like(self.scores).scatter(self.dim, y, 1.0)
        if self.smoothing != 0.0:
            spread: float | Tensor = self.smoothing / self.scores.shape[self.dim]
            if self.mask is not None:
                count = self.mask.sum(self.dim, keepdim=True).clamp(min=1).to(y.dtype)
                spread = self.mask.to(y.dtype) * (self.smoothing / count)
            y = y * (1.0 - self.smoothing) + spread
        return y if self.weight is None or self.is_one_hot else y * self.weight

    def reduced(self, rows: Tensor) -> Tensor:
        if self.reduction == "none":
            return rows.squeeze(self.dim).to(self.dtype)
        total = rows.sum()
        if self.reduction == "mean":
            total = total / torch.where(self.divisor == 0.0, 1.0, self.divisor)
        return total.to(self.dtype)


def _case(
    name: str,
    scores: Tensor,
    target: Tensor,
    dim: int,
    weight: Tensor | None,
    label_smoothing: float,
    ignore_index: int,
    reduction: str,
    mask: Tensor | None,
    temperature: float,
) -> _Case:
    scores, dim, mask = prepare(name, scores, dim, mask, temperature)
    check_options(name, label_smoothing, ignore_index, reduction)
    if not isinstance(target, Tensor) or target.dtype == torch.bool or target.is_complex():
        raise TypeError(
            f"'target' of {name} must be class indices (an integer tensor) or distributions (a floating-point tensor). "
            f"Got {kind(target)}. Use target.long() or target.float()."
        )
    soft = target.is_floating_point()
    expected = list(scores.shape)
    if not soft and expected:
        del expected[dim]
    if list(target.shape) != expected:
        raise ValueError(
            f"'target' of {name} must have the shape {tuple(expected)} "
            f"({'that of the scores' if soft else 'that of the scores without dim'}). Got {tuple(target.shape)}. "
            "Give the axis of the classes by dim; it is the last one by default."
        )
    check_device("target", name, target, scores)
    dtype, size = scores.dtype, scores.shape[dim] if scores.dim() else 1
    if weight is not None:
        weight = _checked_weight(name, weight, scores, size).to(wide_type(dtype))
    if not soft:
        target = target.long()  # a number that a small type does not hold would be another
    ignored = target == ignore_index
    if not soft:
        _check_range(name, target, ignored, size)
    elif ignore_index != -100:
        raise ValueError(
            f"'ignore_index' of {name} must be left out where the target is distributions. Got {ignore_index}. "
            "Make the target of a row that shall not count all zeros."
        )
    scores = scores.to(wide_type(dtype))
    if scores.dim() == 0:
        scores, target = scores[None], target[None] if soft else target
        mask = None if mask is None else mask[None]
    if size == 0:  # as one class that does not take part
        scores, target, mask, weight = _one_masked_class(scores, target, dim)
    if soft:
        answer, row_weight = target.to(scores.dtype), torch.ones_like(scores.detach().narrow(dim, 0, 1))
        divisor = scores.new_tensor(float(row_weight.numel()))
    else:
        ignored = ignored.unsqueeze(dim)
        answer = torch.where(ignored, 0, target.unsqueeze(dim))
        scores = torch.where(ignored, 0.0, scores)
        counts = (~ignored).to(scores.dtype)
        row_weight = counts if weight is None else weight[answer] * counts
        divisor = row_weight.sum()
        if label_smoothing != 0.0:
            row_weight = counts  # the weights act on the target, as it is spread over several classes
    if weight is not None:
        weight = weight.reshape([-1] + [1] * (-dim - 1))
    return _Case(
        scores=scores,
        dtype=dtype,
        dim=dim,
        mask=mask,
        answer=answer,
        is_soft=soft,
        weight=weight,
        row_weight=row_weight,
        smoothing=float(label_smoothing),
        divisor=divisor,
        reduction=reduction,
        temperature=temperature,
    )


def _one_masked_class(scores: Tensor, target: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor, None]:
    shape = list(scores.shape)
    shape[dim] = 1
    scores = torch.cat([scores, scores.new_zeros(shape)], dim)
    soft = target.new_zeros(shape) if target.is_floating_point() else target
    return scores, soft, torch.zeros_like(scores, dtype=torch.bool), None


def _fenchel_young(name: str, case: _Case, alpha: float | Tensor) -> Tensor:
    """With `log_a(x) = (x^(a - 1) - 1) / (a - 1)`, `w_i = s_i - n` and n such that `p_i = max(1 + (a - 1) w_i, 0)^(1 /
    (a - 1))` sums to 1, the loss is the sum over i of `(p_i^a + y_i log_a(y_i) - y_i) / a - y_i w_i`, each term of
    which is at least 0 (Young's inequality). Its derivative in n is `1 - sum_i p_i = 0`: so n needs to be
    differentiable once less than the loss.
    """
    alpha = _checked_alpha(name, alpha, case)
    y, total = case.target(), case.row_weight
    for argument, values in (("target", case.answer if case.is_soft else None), ("weight", case.weight)):
        if values is not None and can_look(values) and bool((values < 0.0).any()):
            raise ValueError(
                f"'{argument}' of {name} must not be negative. Got {values.min().item():.6g}. "
                "cross_entropy takes negative numbers."
            )
    if not case.is_one_hot:
        y = y * case.row_weight
        total = y.sum(case.dim, keepdim=True)
        y = y / torch.where(total == 0.0, 1.0, total)
    if isinstance(alpha, float) and alpha == 1.0:
        w = log_softmax(case.scores, case.dim, mask=case.mask, temperature=case.temperature)
        power = w.exp()
    else:
        w, power = _weights(case, alpha)
    taken = y > 0.0
    entropy = 0.0 if case.is_one_hot else torch.where(taken, y * _tsallis_log(y, taken, alpha), 0.0)
    terms = (power + entropy - y) / alpha - y * torch.where(taken, w, 0.0)
    # Rounding may leave a term slightly below 0; the gradient is that of the term.
    rows = (terms + torch.relu(-terms).detach()).sum(case.dim, keepdim=True)
    return case.reduced(torch.where(total == 0.0, 0.0, rows) * total)


def _weights(case: _Case, alpha: float | Tensor) -> tuple[Tensor, Tensor]:
    """`w` and `p^alpha`."""
    z, alive = centred(masked(case.scores, case.mask), case.dim, case.temperature)
    if alive is not None:
        z = torch.where(alive, z, -math.inf)
    fixed = z.detach()
    if isinstance(alpha, float) and alpha in (1.5, 2.0):
        largest = (entmax15 if alpha == 1.5 else sparsemax)(fixed, case.dim).amax(case.dim, keepdim=True)
        n = (1.0 - largest.sqrt()) * 2.0 if alpha == 1.5 else 1.0 - largest
        d = alpha - 1.0
        # One differentiable step of Newton's method: the derivatives of the loss are exact to the third order.
        base = torch.relu(1.0 + d * (z - n))
        p, slope = (base, base.sign()) if d == 1.0 else (base.square(), base)
        slope = slope.sum(case.dim, keepdim=True)
        n = n + (p.sum(case.dim, keepdim=True) - 1.0) / torch.where(slope == 0.0, 1.0, slope)
        base = torch.relu(1.0 + d * (z - n))
        return z - n, base.square() if d == 1.0 else base.square() * base
    a = torch.as_tensor(alpha, dtype=z.dtype, device=z.device)
    largest = entmax(fixed, case.dim, alpha=a.detach()).amax(case.dim, keepdim=True)
    lead = torch.where(largest == 0.0, 1.0, largest).log()
    bounded, order = at_least(torch.finfo(z.dtype).min, z), a - 1.0
    mass, gain = total(bounded, lead, order, case.dim)
    mass = torch.where(gain == 0.0, 1.0, mass)
    step = mass * mass.log() / torch.where(gain == 0.0, 1.0, gain)
    lead = lead - (step - step.detach())  # the step, for its derivatives alone: its value is rounding
    share = (order * lead).exp()
    w = z + lead * _expm1_ratio(order * lead)
    return w, power(bounded, lead, order)[0] * torch.relu(share + order * bounded)


def _tsallis_log(x: Tensor, taken: Tensor, alpha: float | Tensor) -> Tensor:
    """`log_a(x) = (x^(a - 1) - 1) / (a - 1)` where taken, smooth at a = 1, where it is the logarithm."""
    logarithm = torch.where(taken, x, 1.0).log()
    return logarithm * _expm1_ratio((alpha - 1.0) * logarithm)


def _expm1_ratio(u: Tensor) -> Tensor:
    """`(exp(u) - 1) / u`, smooth at 0."""
    small = u.abs() < 0.25
    series = torch.ones_like(u)
    near = torch.where(small, u, 0.0)
    for order in range(13, 1, -1):  # 0.25^13 / 14! is rounding in float64
        series = 1.0 + near / order * series
    far = torch.where(small, 1.0, u)
    return torch.where(small, series, torch.expm1(far) / far)


def check_options(name: str, label_smoothing: float, ignore_index: int, reduction: str) -> None:
    if not isinstance(label_smoothing, (int, float)) or isinstance(label_smoothing, bool):
        raise TypeError(f"'label_smoothing' of {name} must be a number. Got {kind(label_smoothing)}. Use 0.0 for none.")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"'label_smoothing' of {name} must lie in [0, 1]. Got {label_smoothing}. Use 0.0 for none.")
    if not isinstance(ignore_index, int) or isinstance(ignore_index, bool):
        raise TypeError(f"'ignore_index' of {name} must be an integer. Got {kind(ignore_index)}. Use -100 for none.")
    if reduction not in REDUCTIONS:
        raise ValueError(f"'reduction' of {name} must be one of {', '.join(REDUCTIONS)}. Got {reduction!r}.")


def _checked_weight(name: str, weight: Tensor, scores: Tensor, size: int) -> Tensor:
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        raise TypeError(
            f"'weight' of {name} must be a floating-point tensor. Got {kind(weight)}. Use torch.tensor([1.0, ...])."
        )
    if list(weight.shape) != [size]:
        raise ValueError(
            f"'weight' of {name} must have the shape ({size},), one weight per class. Got {tuple(weight.shape)}. "
            "Give the axis of the classes by dim; it is the last one by default."
        )
    check_device("weight", name, weight, scores)
    return weight


def _check_range(name: str, target: Tensor, ignored: Tensor, size: int) -> None:
    if not can_look(target):
        return
    wrong = ~ignored & ((target < 0) | (target >= size))
    if bool(wrong.any()):
        raise ValueError(
            f"'target' of {name} must hold class indices in [0, {size - 1}]. Got {target[wrong][0].item()}. "
            "Use ignore_index for rows that shall not count."
        )


def _checked_alpha(name: str, alpha: float | Tensor, case: _Case) -> float | Tensor:
    if isinstance(alpha, Tensor):
        per_row("alpha", name, alpha, case.scores, case.dim)
        right = alpha.isfinite() & (alpha >= 1.0)
        if not can_look(alpha) or bool(right.all()):
            return alpha.to(case.scores.dtype)
        wrong = alpha.detach()[~right].flatten()[0].item()
    elif not isinstance(alpha, (int, float)) or isinstance(alpha, bool):
        raise TypeError(f"'alpha' of {name} must be a number or a tensor. Got {kind(alpha)}. Use e.g. 1.5.")
    elif 1.0 <= alpha < math.inf:  # torch.compile cannot trace math.isfinite of a number that varies
        return float(alpha)
    else:
        wrong = alpha
    raise ValueError(
        f"'alpha' of {name} must be finite and at least 1 (cross-entropy). Got {wrong}. "
        "Use e.g. 1.5; learn it as 1 + torch.nn.functional.softplus(free)."
    )

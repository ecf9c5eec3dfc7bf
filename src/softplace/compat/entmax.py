"""The public names and arguments of the package `entmax` (1.3, and `return_support_size` of 1.4.dev0).

    from softplace.compat.entmax import entmax15, entmax_bisect, SparsemaxLoss

Every result is exact, so arguments that choose the package's algorithm are checked and have no effect: `k` (how many
entries are sorted first), `n_iter` (steps of bisection; `None` too) and `ensure_sum_one`. Axis legend: `dim` is the
axis of the scores X; every other axis is a batch axis.

Where we differ from the package: a row that has only -inf gives zeros and one with NaN gives NaN; alpha = 1 is softmax;
alpha of a loss gets a gradient; per-row alphas work in losses; losses take X of any shape, with the classes in the last
axis, and the target -100 is ignored by default; a mean over nothing is 0. `softplace.maps` has the same maps and losses
with masks, temperatures, class weights, label smoothing and soft targets.
"""

import math
import operator
from collections.abc import Callable
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn

from softplace import maps
from softplace.maps._arguments import can_look, kind, per_row, prepare, wide_type
from softplace.maps.losses import _Case, _case
from softplace.maps.losses import entmax15_loss as _entmax15_loss
from softplace.maps.losses import entmax_loss as _entmax_loss
from softplace.maps.losses import sparsemax_loss as _sparsemax_loss
from softplace.maps.selection import clipped, k_subset, normmax
from softplace.maps.sparse import _entmax

Loss = Tensor | tuple[Tensor, Tensor]


def sparsemax(X: Tensor, dim: int = -1, k: int | None = None, return_support_size: bool = False) -> Loss:
    """`softplace.maps.sparsemax`; with `return_support_size` also the number of weights above 0, size 1 along `dim`.

    >>> import torch
    >>> sparsemax(torch.tensor([3.0, 2.5, 1.0]), return_support_size=True)
    (tensor([0.7500, 0.2500, 0.0000]), tensor([2]))
    """
    _check_count("k", "sparsemax", k)
    return _with_support(maps.sparsemax(X, dim), dim, return_support_size)


def entmax15(X: Tensor, dim: int = -1, k: int | None = None, return_support_size: bool = False) -> Loss:
    """`softplace.maps.entmax15`; with `return_support_size` also the number of weights above 0, size 1 along `dim`."""
    _check_count("k", "entmax15", k)
    return _with_support(maps.entmax15(X, dim), dim, return_support_size)


def sparsemax_bisect(X: Tensor, dim: int = -1, n_iter: int | None = 50, ensure_sum_one: bool = True) -> Tensor:
    """`softplace.maps.sparsemax`."""
    _check_bisection("sparsemax_bisect", n_iter, ensure_sum_one)
    X, dim, _ = prepare("sparsemax_bisect", X, dim, None, 1.0)
    return maps.sparsemax(X, dim)


def entmax_bisect(
    X: Tensor, alpha: float | Tensor = 1.5, dim: int = -1, n_iter: int | None = 50, ensure_sum_one: bool = True
) -> Tensor:
    """`softplace.maps.entmax`, and also alpha in (0, 1): the same formula, which has no weight of 0 there.

    >>> import torch
    >>> [round(weight, 3) for weight in entmax_bisect(torch.tensor([3.0, 2.5, 1.0]), alpha=0.5).tolist()]
    [0.482, 0.35, 0.168]
    """
    _check_bisection("entmax_bisect", n_iter, ensure_sum_one)
    X, dim, _ = prepare("entmax_bisect", X, dim, None, 1.0)
    if not isinstance(alpha, Tensor):
        _check_number("alpha", "entmax_bisect", alpha, "1.5")
        if alpha >= 1.0 and alpha != math.inf:
            return maps.entmax(X, dim, alpha=alpha)
    alpha = _one_per_row("alpha", "entmax_bisect", alpha, X, dim)
    _check_range("alpha", "entmax_bisect", alpha, alpha.isfinite() & (alpha > 0.0), "be finite and above 0", "1.5")
    if not can_look(alpha) or bool((alpha >= 1.0).all()):
        return maps.entmax(X, dim, alpha=alpha)
    return _dense_entmax(X, alpha, dim)


def _dense_entmax(X: Tensor, alpha: Tensor, dim: int) -> Tensor:
    # Below 1 the search halves its bracket where Newton's method would leave it. No score has weight 0 but -inf.
    return torch.where(X.isneginf(), 0.0, _entmax(X, dim, 1.0, alpha)) if X.numel() else X.clone()


def normmax_bisect(X: Tensor, alpha: float | Tensor = 2, dim: int = -1, n_iter: int | None = 50) -> Tensor:
    """`softplace.maps.normmax`; alpha may also be a tensor, one per row (its gradient is followed too).

    Of alpha in (0, 1), where the norm is none, it is the same formula with the threshold below all scores.
    """
    _check_bisection("normmax_bisect", n_iter, True)
    X, dim, _ = prepare("normmax_bisect", X, dim, None, 1.0)
    if not isinstance(alpha, Tensor):
        _check_number("alpha", "normmax_bisect", alpha, "2.0")
        if 1.0 < alpha < math.inf:
            return normmax(X, dim, alpha=alpha)
    alpha = _one_per_row("alpha", "normmax_bisect", alpha, X, dim)
    _check_range(
        "alpha",
        "normmax_bisect",
        alpha,
        alpha.isfinite() & (alpha > 0.0) & (alpha != 1.0),
        "be finite, above 0 and not 1",
        "2.0, or softplace.maps.hardmax for 1",
    )
    if X.numel() == 0:
        return X.clone()
    wide = X.to(wide_type(X.dtype))
    values, below = wide.detach(), alpha.detach() < 1.0
    top = values.amax(dim, keepdim=True)
    alive = top != -math.inf
    part = torch.where(top == math.inf, values == math.inf, values != -math.inf) | ~alive
    # The threshold is counted from the score that it is near to; infinite scores, and rows without any, are equals.
    centre = torch.where(below, torch.where(part, values, math.inf).amin(dim, keepdim=True), top)
    z = torch.where(top.isinf(), 0.0, wide - torch.where(centre.isinf(), 0.0, centre))
    z = torch.where(part, z, -math.inf)
    order = alpha / (alpha - 1.0)

    def excess(tau: Tensor, z: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """The logarithm of the sum of `max(z - tau, 0)^order`, which is to be 0, and its derivative."""
        above = torch.where(z > tau, z - tau, 1.0)
        powers = torch.where(z > tau, above**order, 0.0)
        total = powers.sum(dim, keepdim=True)
        return total.log(), -order * (powers / above).sum(dim, keepdim=True) / total

    # tau is -exp(u); with n equal scores u is the other end of the bracket.
    fixed, fixed_order = z.detach(), order.detach()
    end = (1.0 / alpha.detach() - 1.0) * math.log(X.shape[dim] if X.dim() else 1) + torch.zeros_like(top)
    sign = torch.where(below, 1.0, -1.0)
    found = _root(lambda u: sign * excess(-u.exp(), fixed, fixed_order)[0], end.clamp(max=0.0), end.clamp(min=0.0))
    tau = -found.exp()
    for _ in range(2):
        value, slope = excess(tau, z, order)
        tau = tau - value / slope
    above = torch.where(z > tau, z - tau, 1.0)
    powers = torch.where(z > tau, above ** (1.0 / (alpha - 1.0)), 0.0)
    weights = powers / powers.sum(dim, keepdim=True)
    return torch.where(alive, weights, 0.0).to(X.dtype)


def budget_bisect(X: Tensor, budget: float | Tensor = 2, dim: int = -1, n_iter: int | None = 50) -> Tensor:
    """`softplace.maps.k_subset`, `p_i = clip(x_i - tau, 0, 1)` with `sum_i p_i = budget`.

    The budget may also be 0, not whole, or a tensor, one per row (its gradient is followed too). It is at most the size
    of the axis.
    """
    _check_bisection("budget_bisect", n_iter, True)
    X, dim, _ = prepare("budget_bisect", X, dim, None, 1.0)
    size = X.shape[dim] if X.dim() else 1
    if not isinstance(budget, Tensor):
        _check_number("budget", "budget_bisect", budget, "2")
        if 1 <= budget <= size and float(budget).is_integer():
            return k_subset(X, dim, k=int(budget))
    budget = _one_per_row("budget", "budget_bisect", budget, X, dim)
    if X.numel() == 0:
        return X.clone()
    _check_range(
        "budget",
        "budget_bisect",
        budget,
        (budget >= 0.0) & (budget <= size),
        f"lie in [0, {size}], the size of the axis",
        "2",
    )
    wide = X.to(wide_type(X.dtype))
    fixed_budget = budget.detach()
    place = (fixed_budget.ceil().long() - 1).clamp(0, size - 1)
    ordered = wide.detach().sort(dim, descending=True).values
    middle = ordered.gather(dim, place.expand(ordered.narrow(dim, 0, 1).shape if X.dim() else ()))

    def search(values: Tensor) -> Tensor:
        high = torch.zeros_like(values.amax(dim, keepdim=True))
        return _root(lambda tau: (values - tau).clamp(0.0, 1.0).sum(dim, keepdim=True) - fixed_budget, high - 1.0, high)

    return clipped(wide, dim, middle, budget, 1.0, search).to(X.dtype)


def _root(function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Where a falling function is 0, by bisection: for what `softplace.maps` has no counterpart of."""
    for _ in range(100 if high.dtype == torch.float64 else 40):
        middle = low + 0.5 * (high - low)
        right = function(middle) > 0.0
        low, high = torch.where(right, middle, low), torch.where(right, high, middle)
    return low + 0.5 * (high - low)


def sparsemax_loss(X: Tensor, target: Tensor, k: int | None = None, return_support_size: bool = False) -> Loss:
    """`softplace.maps.sparsemax_loss` of each row; with `return_support_size` also that of `sparsemax`."""
    _check_count("k", "sparsemax_loss", k)
    return _loss_and_support(_sparsemax_loss(X, target, reduction="none"), X, maps.sparsemax, return_support_size)


def entmax15_loss(X: Tensor, target: Tensor, k: int | None = None, return_support_size: bool = False) -> Loss:
    """`softplace.maps.entmax15_loss` of each row; with `return_support_size` also that of `entmax15`."""
    _check_count("k", "entmax15_loss", k)
    return _loss_and_support(_entmax15_loss(X, target, reduction="none"), X, maps.entmax15, return_support_size)


def sparsemax_bisect_loss(X: Tensor, target: Tensor, n_iter: int | None = 50) -> Tensor:
    """`softplace.maps.sparsemax_loss` of each row."""
    _check_bisection("sparsemax_bisect_loss", n_iter, True)
    return _sparsemax_loss(X, target, reduction="none")


def entmax_bisect_loss(X: Tensor, target: Tensor, alpha: float | Tensor = 1.5, n_iter: int | None = 50) -> Tensor:
    """`softplace.maps.entmax_loss` of each row."""
    _check_bisection("entmax_bisect_loss", n_iter, True)
    return _entmax_loss(X, target, alpha=alpha, reduction="none")


def normmax_bisect_loss(X: Tensor, target: Tensor, alpha: float | Tensor = 2, n_iter: int | None = 50) -> Tensor:
    """`L = <p, x> + 1 - ||p||_alpha - x_target` of each row, p from `normmax_bisect`. Gradient: `p - y`.

    Source: Blondel, Martins and Niculae 2020 (arXiv:1901.02324), norm entropies.
    """
    _check_bisection("normmax_bisect_loss", n_iter, True)
    return _normmax_loss(X, target, alpha, -100, "none")


def _normmax_loss(X: Tensor, target: Tensor, alpha: float | Tensor, ignore_index: int, reduction: str) -> Tensor:
    case = _one_hot_case(X, target, ignore_index, reduction)
    z = case.scores - case.scores.detach().amax(case.dim, keepdim=True)
    p = normmax_bisect(z, alpha, case.dim)
    taken = p > 0.0
    norm = torch.where(taken, torch.where(taken, p, 1.0) ** alpha, 0.0).sum(case.dim, keepdim=True) ** (1.0 / alpha)
    product = (p * torch.where(taken | z.isnan(), z, 0.0)).sum(case.dim, keepdim=True)
    rows = product + 1.0 - norm - z.gather(case.dim, case.answer)
    # Rounding may leave it slightly below 0; the gradient is that of the formula.
    return case.reduced((rows + torch.relu(-rows).detach()) * case.row_weight)


def _one_hot_case(X: Tensor, target: Tensor, ignore_index: int, reduction: str) -> _Case:
    if isinstance(target, Tensor) and target.is_floating_point():
        raise TypeError(
            f"'target' of normmax_bisect_loss must be class indices. Got {kind(target)}. Use target.long()."
        )
    return _case("normmax_bisect_loss", X, target, -1, None, 0.0, ignore_index, reduction, None, 1.0)


class Sparsemax(nn.Module):
    """`sparsemax` as a module."""

    def __init__(self, dim: int = -1, k: int | None = None, return_support_size: bool = False) -> None:
        super().__init__()
        _check_count("k", "Sparsemax", k)
        self.dim, self.k, self.return_support_size = dim, k, return_support_size

    def forward(self, X: Tensor) -> Loss:
        return sparsemax(X, self.dim, self.k, self.return_support_size)


class Entmax15(nn.Module):
    """`entmax15` as a module."""

    def __init__(self, dim: int = -1, k: int | None = None, return_support_size: bool = False) -> None:
        super().__init__()
        _check_count("k", "Entmax15", k)
        self.dim, self.k, self.return_support_size = dim, k, return_support_size

    def forward(self, X: Tensor) -> Loss:
        return entmax15(X, self.dim, self.k, self.return_support_size)


class SparsemaxBisect(nn.Module):
    """`sparsemax_bisect` as a module."""

    def __init__(self, dim: int = -1, n_iter: int | None = None) -> None:
        super().__init__()
        _check_bisection("SparsemaxBisect", n_iter, True)
        self.dim, self.n_iter = dim, n_iter

    def forward(self, X: Tensor) -> Tensor:
        return sparsemax_bisect(X, self.dim, self.n_iter)


class EntmaxBisect(nn.Module):
    """`entmax_bisect` as a module; alpha may be an `nn.Parameter`."""

    def __init__(self, alpha: float | Tensor = 1.5, dim: int = -1, n_iter: int | None = 50) -> None:
        super().__init__()
        _check_bisection("EntmaxBisect", n_iter, True)
        self.alpha, self.dim, self.n_iter = alpha, dim, n_iter

    def forward(self, X: Tensor) -> Tensor:
        return entmax_bisect(X, self.alpha, self.dim, self.n_iter)


class NormmaxBisect(nn.Module):
    """`normmax_bisect` as a module."""

    def __init__(self, alpha: float | Tensor = 2, dim: int = -1, n_iter: int | None = 50) -> None:
        super().__init__()
        _check_bisection("NormmaxBisect", n_iter, True)
        self.alpha, self.dim, self.n_iter = alpha, dim, n_iter

    def forward(self, X: Tensor) -> Tensor:
        return normmax_bisect(X, self.alpha, self.dim, self.n_iter)


class BudgetBisect(nn.Module):
    """`budget_bisect` as a module."""

    def __init__(self, budget: float | Tensor = 2, dim: int = -1, n_iter: int | None = 50) -> None:
        super().__init__()
        _check_bisection("BudgetBisect", n_iter, True)
        self.budget, self.dim, self.n_iter = budget, dim, n_iter

    def forward(self, X: Tensor) -> Tensor:
        return budget_bisect(X, self.budget, self.dim, self.n_iter)


class _RowLoss(nn.Module):
    """A loss with an ignored class index, and the reduction "elementwise_mean" ("mean"), "sum" or "none"."""

    def __init__(self, ignore_index: SupportsIndex, reduction: str) -> None:
        super().__init__()
        if reduction not in ("elementwise_mean", "mean", "sum", "none"):
            raise ValueError(
                f"'reduction' of {type(self).__name__} must be one of elementwise_mean, mean, sum, none. "
                f"Got {reduction!r}."
            )
        try:
            self.ignore_index = operator.index(ignore_index)
        except TypeError:
            raise TypeError(
                f"'ignore_index' of {type(self).__name__} must be an integer. Got {kind(ignore_index)}. "
                "Use -100 for none."
            ) from None
        self.reduction = reduction

    @property
    def options(self) -> dict[str, Any]:
        reduction = "mean" if self.reduction == "elementwise_mean" else self.reduction
        return {"ignore_index": self.ignore_index, "reduction": reduction}


class SparsemaxLoss(_RowLoss):
    """`sparsemax_loss` as a module.

    >>> import torch
    >>> SparsemaxLoss()(torch.tensor([[3.0, 2.5, 1.0]]), torch.tensor([0]))
    tensor(0.0625)
    """

    def __init__(
        self,
        k: int | None = None,
        ignore_index: SupportsIndex = -100,
        reduction: str = "elementwise_mean",
        return_support_size: bool = False,
    ) -> None:
        super().__init__(ignore_index, reduction)
        _check_count("k", "SparsemaxLoss", k)
        self.k, self.return_support_size = k, return_support_size

    def forward(self, X: Tensor, target: Tensor) -> Loss:
        loss = _sparsemax_loss(X, target, **self.options)
        return _loss_and_support(loss, X, maps.sparsemax, self.return_support_size)


class Entmax15Loss(_RowLoss):
    """`entmax15_loss` as a module."""

    def __init__(
        self,
        k: int | None = 100,
        ignore_index: SupportsIndex = -100,
        reduction: str = "elementwise_mean",
        return_support_size: bool = False,
    ) -> None:
        super().__init__(ignore_index, reduction)
        _check_count("k", "Entmax15Loss", k)
        self.k, self.return_support_size = k, return_support_size

    def forward(self, X: Tensor, target: Tensor) -> Loss:
        loss = _entmax15_loss(X, target, **self.options)
        return _loss_and_support(loss, X, maps.entmax15, self.return_support_size)


class SparsemaxBisectLoss(_RowLoss):
    """`sparsemax_bisect_loss` as a module."""

    def __init__(
        self, n_iter: int | None = 50, ignore_index: SupportsIndex = -100, reduction: str = "elementwise_mean"
    ) -> None:
        super().__init__(ignore_index, reduction)
        _check_bisection("SparsemaxBisectLoss", n_iter, True)
        self.n_iter = n_iter

    def forward(self, X: Tensor, target: Tensor) -> Tensor:
        return _sparsemax_loss(X, target, **self.options)


class EntmaxBisectLoss(_RowLoss):
    """`entmax_bisect_loss` as a module; alpha may be an `nn.Parameter`."""

    def __init__(
        self,
        alpha: float | Tensor = 1.5,
        n_iter: int | None = 50,
        ignore_index: SupportsIndex = -100,
        reduction: str = "elementwise_mean",
    ) -> None:
        super().__init__(ignore_index, reduction)
        _check_bisection("EntmaxBisectLoss", n_iter, True)
        self.alpha, self.n_iter = alpha, n_iter

    def forward(self, X: Tensor, target: Tensor) -> Tensor:
        return _entmax_loss(X, target, alpha=self.alpha, **self.options)


class NormmaxBisectLoss(_RowLoss):
    """`normmax_bisect_loss` as a module."""

    def __init__(
        self,
        alpha: float | Tensor = 2,
        n_iter: int | None = 50,
        ignore_index: SupportsIndex = -100,
        reduction: str = "elementwise_mean",
    ) -> None:
        super().__init__(ignore_index, reduction)
        _check_bisection("NormmaxBisectLoss", n_iter, True)
        self.alpha, self.n_iter = alpha, n_iter

    def forward(self, X: Tensor, target: Tensor) -> Tensor:
        return _normmax_loss(X, target, self.alpha, **self.options)


def _sparsemax_threshold_and_support(X: Tensor, dim: int = -1, k: int | None = None) -> tuple[Tensor, Tensor]:
    """The tau of `sparsemax(X) = max(X - tau, 0)` and the number of weights above 0: the package's tests use it."""
    p = maps.sparsemax(X, dim)
    return X.amax(dim, keepdim=True) - p.amax(dim, keepdim=True), (p > 0).sum(dim, keepdim=True)


def _entmax_threshold_and_support(X: Tensor, dim: int = -1, k: int | None = None) -> tuple[Tensor, Tensor]:
    """The tau of `entmax15(2 X) = max(X - tau, 0)^2` and the number of weights above 0: the package's tests use it."""
    p = maps.entmax15(2.0 * X, dim)
    return X.amax(dim, keepdim=True) - p.amax(dim, keepdim=True).sqrt(), (p > 0).sum(dim, keepdim=True)


def _with_support(weights: Tensor, dim: int, wanted: bool) -> Loss:
    return (weights, (weights > 0).sum(dim, keepdim=True)) if wanted else weights


def _loss_and_support(loss: Tensor, X: Tensor, function: Callable[..., Tensor], wanted: bool) -> Loss:
    return (loss, (function(X.detach()) > 0).sum(-1, keepdim=True)) if wanted else loss


def _one_per_row(argument: str, name: str, value: float | Tensor, X: Tensor, dim: int) -> Tensor:
    """The option as a tensor of what sums of X are computed in."""
    dtype = wide_type(X.dtype)
    if not isinstance(value, Tensor):
        return torch.tensor(value, dtype=dtype, device=X.device)
    return per_row(argument, name, value if value.is_floating_point() else value.to(dtype), X, dim).to(dtype)


def _check_number(argument: str, name: str, value: float, way: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"'{argument}' of {name} must be a number or a tensor. Got {kind(value)}. Use {way}.")


def _check_range(argument: str, name: str, value: Tensor, right: Tensor, expected: str, way: str) -> None:
    if can_look(value) and not bool(right.all()):
        wrong = value.detach()[~right].flatten()[0].item()
        raise ValueError(f"'{argument}' of {name} must {expected}. Got {wrong}. Use {way}.")


def _check_count(argument: str, name: str, value: int | None) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise TypeError(f"'{argument}' of {name} must be an integer or None. Got {kind(value)}. Use None.")
    if value is not None and value < 1:
        raise ValueError(f"'{argument}' of {name} must be at least 1. Got {value}. Use None.")


def _check_bisection(name: str, n_iter: int | None, ensure_sum_one: bool) -> None:
    _check_count("n_iter", name, n_iter)
    if not isinstance(ensure_sum_one, bool):
        raise TypeError(f"'ensure_sum_one' of {name} must be True or False. Got {kind(ensure_sum_one)}. Use True.")

"""Maps that papers put in the place of softmax, by another function than the exponential.

Axis legend: `dim` is the axis of the scores; every other axis is a batch axis.
"""

import math

import torch
from torch import Tensor

from softplace.maps._arguments import kind, masked, prepare, wide_type
from softplace.maps.simplex import softmax


def sigsoftmax(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Sigsoftmax, `p_i = exp(z_i) sigmoid(z_i) / sum_j exp(z_j) sigmoid(z_j)` with `z = s / t`.

    Args, Returns and Raises: as `softmax`. Shifting all scores changes the weights.

    Source: Kanai et al. 2018 (arXiv:1805.10829). We add the mask and the temperature.

    >>> import torch
    >>> [round(weight, 3) for weight in sigsoftmax(torch.tensor([3.00, 2.0, 1.00, 0.10])).tolist()]
    [0.678, 0.231, 0.07, 0.021]
    """
    scores, dim, mask = prepare("sigsoftmax", scores, dim, mask, temperature)
    if scores.numel() == 0:
        return scores.clone()
    wide = masked(scores.to(wide_type(scores.dtype)), mask)
    top = wide.detach().amax(dim, keepdim=True)
    top = torch.where(top.isinf(), 0.0, top)
    # A softmax of log(exp(z) sigmoid(z)) = z + min(z, 0) - log(1 + exp(-|z|)), both z centred before the division: the
    # difference of two close numbers is exact.
    negative = wide < 0
    rest = torch.where(negative, wide, -wide) / temperature
    twice = torch.where(negative, wide - top.clamp(max=0.0), 0.0)
    return softmax(((wide - top) + twice) / temperature - rest.exp().log1p(), dim).to(scores.dtype)


def taylor_softmax(
    scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0, order: int = 2
) -> Tensor:
    """Taylor softmax, `p_i = f(s_i / t) / sum_j f(s_j / t)`, f the Taylor polynomial of exp, `f(z) = sum_n z^n / n!`.

    Args:
        order: The polynomial's degree, even and positive: then f is positive everywhere.

    Other Args, Returns and Raises: as `softmax`; also TypeError and ValueError for `order`. Shifting all scores changes
    the weights. The polynomial grows towards -inf too; -inf itself takes no part all the same, as in every map.
    Far below 0 the terms of a high order nearly cancel, so a row of such scores alone loses digits.

    Source: de Brebisson and Vincent 2016 (arXiv:1511.05042) for order 2; Banerjee et al. 2020 (arXiv:2011.11538) for
    higher orders.

    >>> import torch
    >>> [round(weight, 3) for weight in taylor_softmax(torch.tensor([2.0, 1.0, 0.0])).tolist()]
    [0.588, 0.294, 0.118]
    """
    scores, dim, mask = prepare("taylor_softmax", scores, dim, mask, temperature)
    if not isinstance(order, int) or isinstance(order, bool):
        raise TypeError(f"'order' of taylor_softmax must be an integer. Got {kind(order)}. Use order=2.")
    if order < 2 or order % 2:
        raise ValueError(f"'order' of taylor_softmax must be even and positive. Got {order}. Use order=2.")
    if scores.numel() == 0:
        return scores.clone()
    scaled, part = _taking_part(scores, dim, mask, temperature)
    # Horner's form 1 + z (1 + z / 2 (1 + z / 3 (...))), scaled in each step by what makes the factors at most 1: the
    # scale is that of the row, so it cancels in the quotient, and nothing overflows.
    largest = scaled.detach().abs().amax(dim, keepdim=True)
    value, unit = torch.ones_like(scaled), torch.ones_like(largest)
    for power in range(order, 0, -1):
        divisor = largest.clamp(min=power)
        unit = unit * (power / divisor)
        value = unit + scaled / divisor * value
    return _shares(value, part, dim).to(scores.dtype)


def periodic(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Sin2-max-shifted, `p_i = sin^2(s_i / t + pi / 4) / sum_j sin^2(s_j / t + pi / 4)`.

    Args, Returns and Raises: as `softmax`. Not in the order of the scores, except where all s / t lie in
    [-pi / 4, pi / 4]. A sine has no limit: -inf takes no part and +inf leaves no part to the others, as in every map.

    Source: Wang, Liu and Liu 2021 (arXiv:2108.07153). Of their periodic maps it is one of the two that their code
    advises to use without normalising the scores first (the other is the softmax of the sine).

    >>> import torch
    >>> [round(weight, 3) for weight in periodic(torch.tensor([0.6, 0.3, 0.0, -0.6])).tolist()]
    [0.423, 0.343, 0.219, 0.015]
    """
    scores, dim, mask = prepare("periodic", scores, dim, mask, temperature)
    if scores.numel() == 0:
        return scores.clone()
    scaled, part = _taking_part(scores, dim, mask, temperature)
    return _shares(torch.sin(scaled + math.pi / 4).square(), part, dim).to(scores.dtype)


def softpick(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Softpick, `p_i = max(exp(z_i) - 1, 0) / sum_j |exp(z_j) - 1|` with `z = s / t`: not on the simplex.

    Scores up to 0 get weight 0, but count in the sum, so the weights sum to at most 1; -inf is the limit, which adds 1
    to the sum. Args, Returns and Raises: as `softmax`.

    Source: Zuhri, Fuadi and Aji 2025 (arXiv:2504.20966), who add a small constant to the sum. We do not: a row of zeros
    gives zeros. Their code leaves infinite scores out of the sum.

    >>> import torch
    >>> [round(weight, 3) for weight in softpick(torch.tensor([3.00, 2.0, 1.00, -1.0])).tolist()]
    [0.686, 0.23, 0.062, 0.0]
    """
    scores, dim, mask = prepare("softpick", scores, dim, mask, temperature)
    if scores.numel() == 0:
        return scores.clone()
    wide = scores.to(wide_type(scores.dtype))
    inside = wide if mask is None else torch.where(mask, wide, 0.0)
    infinite = inside.detach().amax(dim, keepdim=True) == math.inf
    part = ~infinite | (inside == math.inf)
    part = part if mask is None else part & mask
    finite = torch.where(infinite, 1.0, inside)
    top = torch.relu(finite.detach().amax(dim, keepdim=True))
    # |exp(z) - 1| / exp(top): neither overflow nor the difference of two close numbers
    size = torch.exp((torch.relu(finite) - top) / temperature) * -torch.expm1(-finite.abs() / temperature)
    size = torch.where(part, size, 0.0)
    total = size.sum(dim, keepdim=True)
    return (torch.where(finite > 0, size, 0.0) / torch.where(total == 0, 1.0, total)).to(scores.dtype)


def sigmoid_normalised(
    scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0
) -> Tensor:
    """Sigmoids over their sum, `p_i = sigmoid(z_i) / sum_j sigmoid(z_j)` with `z = s / t`.

    Args, Returns and Raises: as `softmax`. Shifting all scores changes the weights: far below 0 they are those of
    softmax, far above 0 nearly equal. Infinity leaves no part to the others, as in every map of the simplex.

    Source: DeepSeek-AI 2024 (arXiv:2412.19437, section 2.1.2), there over the experts that were selected.

    >>> import torch
    >>> [round(weight, 3) for weight in sigmoid_normalised(torch.tensor([3.00, 2.0, 1.00, -1.0])).tolist()]
    [0.336, 0.311, 0.258, 0.095]
    """
    scores, dim, mask = prepare("sigmoid_normalised", scores, dim, mask, temperature)
    if scores.numel() == 0:
        return scores.clone()
    wide = masked(scores.to(wide_type(scores.dtype)), mask)
    top = wide.detach().amax(dim, keepdim=True)
    top = torch.where(top.isinf(), 0.0, top)
    # A softmax of log sigmoid(z) = min(z, 0) - log(1 + exp(-|z|)), the first part centred before the division: so no
    # row underflows as a whole, and the difference of two close numbers is exact. A row with +inf keeps its infinity.
    negative = wide < 0
    linear = torch.where(negative | (wide == math.inf), wide, 0.0) - top.clamp(max=0.0)
    rest = torch.where(negative, wide, -wide) / temperature
    return softmax(linear / temperature - rest.exp().log1p(), dim).to(scores.dtype)


def relu_normalised(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """ReLU over the length, `a_i = max(s_i / t, 0) / n`, n the number that take part along `dim`: not on the simplex.

    Args, Returns and Raises: as `softmax`. Each weight depends on its own score alone; infinity stays infinity.

    Source: Wortsman et al. 2023 (arXiv:2309.08586): `relu / seqlen`. We count what the mask lets take part.

    >>> import torch
    >>> relu_normalised(torch.tensor([3.00, 2.0, 1.00, -1.0])).tolist()
    [0.75, 0.5, 0.25, 0.0]
    """
    scores, dim, mask = prepare("relu_normalised", scores, dim, mask, temperature)
    wide = scores.to(wide_type(scores.dtype))
    if mask is None:
        count = scores.shape[dim] if scores.dim() else 1
        return (torch.relu(wide / temperature) / max(count, 1)).to(scores.dtype)
    weights = torch.relu(torch.where(mask, wide, 0.0) / temperature)
    return (weights / mask.sum(dim, keepdim=True).clamp(min=1)).to(scores.dtype)


def _taking_part(scores: Tensor, dim: int, mask: Tensor | None, temperature: float) -> tuple[Tensor, Tensor]:
    """The scores over the temperature, finite or NaN, in float32 or wider, and which of them take part.

    What takes no part is 0, so no derivative there is infinite. In a row with +inf only these take part, as equals.
    """
    wide = masked(scores.to(wide_type(scores.dtype)), mask)
    infinite = wide.detach().amax(dim, keepdim=True) == math.inf
    part = torch.where(infinite, wide == math.inf, wide != -math.inf)
    numbers = torch.finfo(wide.dtype)
    scaled = torch.where(part & ~infinite, wide, 0.0) / temperature
    return scaled.clamp(min=numbers.min, max=numbers.max), part


def _shares(values: Tensor, part: Tensor, dim: int) -> Tensor:
    values = torch.where(part, values, 0.0)
    total = values.sum(dim, keepdim=True)
    return values / torch.where(total == 0, 1.0, total)

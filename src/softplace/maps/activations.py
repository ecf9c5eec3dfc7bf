"""Maps of a hidden layer: from pre-activations to activations. All but SoLU act on each entry alone.

Axis legend: `dim` is the axis of the units. An elementwise map ignores which axis that is, but takes the argument, so
that every map can stand where any other stands.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from softplace.maps import _kernel
from softplace.maps._arguments import kind, masked, prepare, wide_type
from softplace.maps.simplex import softmax


def _elementwise(
    function: Callable[[Tensor], Tensor], scores: Tensor, mask: Tensor | None, temperature: float
) -> Tensor:
    wide = scores.to(wide_type(scores.dtype))
    if mask is None:
        return function(wide if temperature == 1.0 else wide / temperature).to(scores.dtype)
    # Zeros go in as well as out: the derivative at a left-out NaN or infinity is NaN, and NaN times 0 is NaN.
    return torch.where(mask, function(torch.where(mask, wide, 0.0) / temperature), 0.0).to(scores.dtype)


def identity(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Identity, `a_i = s_i / t`: no activation at all. Arguments and errors as `softmax`; left-out entries are 0."""
    scores, _, mask = prepare("identity", scores, dim, mask, temperature)
    return _elementwise(lambda scaled: scaled, scores, mask, temperature)


def sigmoid(
    scores: Tensor,
    dim: int = -1,
    *,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    bias: float | Literal["-log n"] = 0.0,
) -> Tensor:
    """Logistic sigmoid, `a_i = 1 / (1 + exp(-(s_i / t + b)))`.

    Args:
        bias: The b, a finite number, or "-log n", where n counts those that take part along `dim`: then weights of
            scores near 0 sum to about 1, as attention needs at the start.

    Other arguments and errors as `softmax`; also TypeError and ValueError for `bias`. Left-out entries are 0.

    Source: Ramapuram et al. 2024 (arXiv:2409.04431) for the bias -log n.

    >>> import torch
    >>> [round(weight, 3) for weight in sigmoid(torch.zeros(4), bias="-log n").tolist()]
    [0.2, 0.2, 0.2, 0.2]
    """
    scores, dim, mask = prepare("sigmoid", scores, dim, mask, temperature)
    if not isinstance(bias, (int, float, str)) or isinstance(bias, bool):
        raise TypeError(
            f"'bias' of sigmoid must be a number or '-log n'. Got {kind(bias)}. Add a tensor to the scores before."
        )
    if bias != "-log n" and not (isinstance(bias, (int, float)) and math.isfinite(bias)):
        raise ValueError(f"'bias' of sigmoid must be finite or '-log n'. Got {bias!r}. Use 0.0 for none.")
    shift: float | Tensor
    if bias != "-log n":
        shift = float(bias)
    elif mask is None:
        shift = -math.log(max(scores.shape[dim] if scores.dim() else 1, 1))
    else:
        shift = -mask.sum(dim, keepdim=True).clamp(min=1).to(wide_type(scores.dtype)).log()
    return _elementwise(lambda scaled: torch.sigmoid(scaled + shift), scores, mask, temperature)


def tanh(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Hyperbolic tangent, `a_i = tanh(s_i / t)`. Arguments and errors as `softmax`; left-out entries are 0."""
    scores, _, mask = prepare("tanh", scores, dim, mask, temperature)
    return _elementwise(torch.tanh, scores, mask, temperature)


def relu(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Rectifier, `a_i = max(s_i / t, 0)`. Arguments and errors as `softmax`; left-out entries are 0."""
    scores, _, mask = prepare("relu", scores, dim, mask, temperature)
    return _elementwise(torch.relu, scores, mask, temperature)


def gelu(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Gaussian error linear unit, `a_i = s_i / t * Phi(s_i / t)`, Phi the standard normal distribution function.

    Exact, not the tanh approximation. Arguments and errors as `softmax`; left-out entries are 0.

    Source: Hendrycks and Gimpel 2016 (arXiv:1606.08415).
    """
    scores, _, mask = prepare("gelu", scores, dim, mask, temperature)
    return _elementwise(_gelu, scores, mask, temperature)


def _gelu(scaled: Tensor) -> Tensor:
    # Beyond 40 Phi is 0 or 1 in every precision, but the square of an infinity, in the derivatives, makes NaN. The gelu
    # of PyTorch has Phi as 1 + erf, which leaves few digits far below 0.
    bounded = scaled.clamp(-40.0, 40.0)
    return torch.where(scaled > 40.0, scaled, 0.5 * bounded * torch.erfc(-math.sqrt(0.5) * bounded))


def solu(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Softmax linear unit, `a_i = (s_i / t) softmax(s / t)_i`.

    Arguments and errors as `softmax`; left-out entries are 0.

    Source: Elhage et al. 2022 (Softmax Linear Units), who put a LayerNorm behind it: that is the network's, not ours.

    >>> import torch
    >>> [round(value, 3) for value in solu(torch.tensor([2.0, 1.0, 0.0])).tolist()]
    [1.33, 0.245, 0.0]
    """
    scores, dim, mask = prepare("solu", scores, dim, mask, temperature)
    return _kernel.run("solu", _solu, masked(scores, mask), dim, temperature)


def _solu(scores: Tensor, dim: int, temperature: float) -> Tensor:
    wide = scores.to(wide_type(scores.dtype))
    weights = softmax(wide, dim, temperature=temperature)
    # A score of weight 0 may be infinite: the limit of the product is 0.
    return (weights * torch.where(weights == 0.0, 0.0, wide / temperature)).to(scores.dtype)

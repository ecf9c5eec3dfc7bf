"""Maps of a hidden layer: from pre-activations to activations. All but SoLU act on each entry alone.

Axis legend: `dim` is the axis of the units. An elementwise map ignores which axis that is, but takes the argument, so
that every map can stand where any other stands.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from softplace.maps._arguments import prepare
from softplace.maps.simplex import softmax


def _elementwise(function: Callable[[Tensor], Tensor], scores: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return function(scores)
    # Zeros go in as well as out: the derivative at a left-out NaN or infinity is NaN, and NaN times 0 is NaN.
    return torch.where(mask, function(torch.where(mask, scores, 0.0)), 0.0)


def identity(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Identity, `a_i = s_i / t`: no activation at all. Arguments and errors as `softmax`; left-out entries are 0."""
    scores, mask = prepare("identity", scores, mask, temperature)
    return scores if mask is None else torch.where(mask, scores, 0.0)


def sigmoid(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Logistic sigmoid, `a_i = 1 / (1 + exp(-s_i / t))`. Arguments and errors as `softmax`; left-out entries are 0."""
    scores, mask = prepare("sigmoid", scores, mask, temperature)
    return _elementwise(torch.sigmoid, scores, mask)


def tanh(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Hyperbolic tangent, `a_i = tanh(s_i / t)`. Arguments and errors as `softmax`; left-out entries are 0."""
    scores, mask = prepare("tanh", scores, mask, temperature)
    return _elementwise(torch.tanh, scores, mask)


def relu(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Rectifier, `a_i = max(s_i / t, 0)`. Arguments and errors as `softmax`; left-out entries are 0."""
    scores, mask = prepare("relu", scores, mask, temperature)
    return _elementwise(torch.relu, scores, mask)


def gelu(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Gaussian error linear unit, `a_i = s_i / t * Phi(s_i / t)`, Phi the standard normal distribution function.

    Exact, not the tanh approximation. Arguments and errors as `softmax`; left-out entries are 0.

    Source: Hendrycks and Gimpel 2016 (arXiv:1606.08415).
    """
    scores, mask = prepare("gelu", scores, mask, temperature)
    return _elementwise(torch.nn.functional.gelu, scores, mask)


def solu(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Softmax linear unit, `a_i = (s_i / t) softmax(s / t)_i`.

    Arguments and errors as `softmax`; left-out entries are 0.

    Source: Elhage et al. 2022 (Softmax Linear Units), who put a LayerNorm behind it: that is the network's, not ours.

    >>> import torch
    >>> [round(value, 3) for value in solu(torch.tensor([2.0, 1.0, 0.0])).tolist()]
    [1.33, 0.245, 0.0]
    """
    scores, mask = prepare("solu", scores, mask, temperature)
    weights = softmax(scores, dim, mask=mask)
    # A score of weight 0 may be infinite, or left out and anything at all: the limit of the product is 0.
    return weights * torch.where(weights == 0.0, 0.0, scores)

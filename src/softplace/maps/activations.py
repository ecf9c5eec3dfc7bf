"""Maps of a hidden layer: from pre-activations to activations. All but SoLU act on each entry alone.

Axis legend: `dim` is the axis of the units. An elementwise map ignores which axis that is, but takes the argument, so
that every map can stand where any other stands.
"""

import torch
from torch import Tensor

from softplace.maps._arguments import prepare
from softplace.maps.simplex import softmax


def _finish(weights: Tensor, mask: Tensor | None) -> Tensor:
    return weights if mask is None else torch.where(mask, weights, 0.0)


def identity(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Identity, `a_i = s_i / t`: no activation at all. Arguments and errors as `softmax`; left-out entries are 0."""
    scores, mask = prepare("identity", scores, mask, temperature)
    return _finish(scores, mask)


def sigmoid(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Logistic sigmoid, `a_i = 1 / (1 + exp(-s_i / t))`. Arguments and errors as `softmax`; left-out entries are 0."""
    scores, mask = prepare("sigmoid", scores, mask, temperature)
    return _finish(torch.sigmoid(scores), mask)


def tanh(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Hyperbolic tangent, `a_i = tanh(s_i / t)`. Arguments and errors as `softmax`; left-out entries are 0."""
    scores, mask = prepare("tanh", scores, mask, temperature)
    return _finish(torch.tanh(scores), mask)


def relu(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Rectifier, `a_i = max(s_i / t, 0)`. Arguments and errors as `softmax`; left-out entries are 0."""
    scores, mask = prepare("relu", scores, mask, temperature)
    return _finish(torch.relu(scores), mask)


def gelu(scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Gaussian error linear unit, `a_i = s_i / t * Phi(s_i / t)`, Phi the standard normal distribution function.

    Exact, not the tanh approximation. Arguments and errors as `softmax`; left-out entries are 0.

    Source: Hendrycks and Gimpel 2016 (arXiv:1606.08415).
    """
    scores, mask = prepare("gelu", scores, mask, temperature)
    return _finish(torch.nn.functional.gelu(scores), mask)


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
    return weights * scores if mask is None else weights * torch.where(mask, scores, 0.0)

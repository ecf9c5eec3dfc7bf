"""What does a map do to the size of a gradient that passes through it backwards?

Axis legend: `...` leading axes (members of a fleet, rows, ...), W units, V outputs of a function.
Everything is computed in float64 and carries no gradient; NaN in gives NaN out.
"""

import torch
from torch import Tensor

from softplace.probes._tensors import Function, jacobian_rows, prepare, singular_values_of


@torch.no_grad()
def gradient_gain(function: Function, points: Tensor) -> Tensor:
    """Root mean square gain of a random backward signal through a row-wise function, at each point.

    `sqrt(E|J^T g|^2 / E|g|^2) = |J|_F / sqrt(V)` for g of V independent entries of mean 0 and equal variance; V = W for
    a map. The identity has 1; below 1 the gradient shrinks, by the product over the layers.

    Args:
        function: From (..., W) to (..., V), row by row, as in `softplace.probes.jacobian`, which also says what to do
            with batch normalisation and with float32 parameters.
        points: (..., W), converted to float64. V backward passes; no Jacobian is stored, so all points can be measured.

    Returns:
        (...) in float64, without unit (outputs per input). Softmax at equal weights has `sqrt(W - 1) / W^1.5`, about
        1 / W; saturated softmax and dead ReLU have 0.

    Raises:
        TypeError: `points` is not a floating-point tensor, or `function` is not a callable that returns one.
        ValueError: `points` is empty, or `function` changes the leading axes.

    Source: the mean squared singular value of the Jacobian, as in Pennington, Schoenholz and Ganguli 2017
    (arXiv:1711.04735). We take its root, at each point, of the function alone or with its layer, as the caller passes.

    >>> import torch
    >>> gradient_gain(torch.nn.functional.relu, torch.tensor([1.0, -1.0, -1.0, -1.0])).item()
    0.5
    """
    values = prepare("gradient_gain", "points", points, "W")
    total, outputs = torch.zeros_like(values[..., 0]), 0
    for row in jacobian_rows("gradient_gain", function, values):
        total, outputs = total + row.double().square().sum(-1), outputs + 1
    return (total / outputs).sqrt()


@torch.no_grad()
def spectral_norm(jacobian: Tensor) -> Tensor:
    """Largest singular value of a Jacobian: the largest gain of any backward (or forward) signal.

    `max_g |J^T g| / |g|`.

    Args:
        jacobian: (..., V, W), e.g. from `softplace.probes.jacobian`.

    Returns:
        (...) in float64, without unit; NaN where the Jacobian is not finite. At most 1/2 for softmax.

    Raises:
        TypeError: `jacobian` is not a floating-point tensor.
        ValueError: it has fewer than two axes or is empty.

    >>> import torch
    >>> round(spectral_norm(torch.tensor([[0.25, -0.25], [-0.25, 0.25]])).item(), 12)
    0.5
    """
    return singular_values_of(prepare("spectral_norm", "jacobian", jacobian, "V, W"))[..., 0]

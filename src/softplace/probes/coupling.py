"""How much does one unit depend on the others? The map's Jacobian and the push-down test.

Axis legend: `...` leading axes (members of a fleet, rows, ...), W units, V outputs of a function.

A function is called with all points at once, (..., W), in float64, and must treat each row alone. So:

- a member's own parameters may broadcast over the leading axes, as a fleet has them;
- parameters must be float64 (`module.double()`), or PyTorch raises for mixed dtypes in a product;
- a function that mixes rows, such as batch normalisation in training, gives sums over rows and not Jacobians: pass the
  row-wise function, with the statistics fixed (`lambda x: (x - mean) / (variance + eps).sqrt()`, or `module.eval()`).

Nothing carries a gradient; NaN in gives NaN out.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from softplace.probes._tensors import Function, call, jacobian_rows, prepare, require_size, square


class PushDown(NamedTuple):
    """What one lowered pre-activation does, per point and averaged over the units that were lowered, one at a time.

    Every field is (...), float64, in the units of the activations unless said.
    """

    own: Tensor
    """Change of the unit's own activation."""
    others: Tensor
    """Change of the other activations, summed over them."""
    share_rising: Tensor
    """Share of the other activations that rise (change > 0), between 0 and 1."""
    loss_change: Tensor | None
    """Mean absolute change of the loss, in the units of the loss; `None` without a loss."""


@torch.no_grad()
def jacobian(function: Function, points: Tensor) -> Tensor:
    """Jacobian of a row-wise function at each point, `J_vw = d f_v / d x_w`.

    Args:
        function: From (..., W) to (..., V), row by row: the head of this file says what that asks for.
        points: (..., W), converted to float64.

    Returns:
        (..., V, W) in float64: 8 V W bytes per point, i.e. 13 MB for 100 points of width 128; take some tens of points.

    Raises:
        TypeError: `points` is not a floating-point tensor, or `function` is not a callable that returns one.
        ValueError: `points` is empty, or `function` changes the leading axes.

    >>> import torch
    >>> jacobian(lambda x: torch.softmax(x, -1), torch.zeros(2)).tolist()
    [[0.25, -0.25], [-0.25, 0.25]]
    """
    values = prepare("jacobian", "points", points, "W")
    return torch.stack(list(jacobian_rows("jacobian", function, values)), -2).double()


@torch.no_grad()
def off_diagonal_share(jacobian: Tensor) -> Tensor:
    """Share of a Jacobian's norm that is off the diagonal: 0 when each unit depends on itself alone.

    `|J - diag(J)|_F / |J|_F`, the norms themselves and not their squares.

    Args:
        jacobian: (..., W, W), e.g. from `jacobian`.

    Returns:
        (...) in float64, in [0, 1]; NaN where the Jacobian is zero (0 / 0: a ReLU point with all units off), so average
        with `nanmean` over points. Softmax at equal weights has `1 / sqrt(W)`, and more when it is decided:
        `sqrt(1/2)` when two weights share the mass.

    Raises:
        TypeError: `jacobian` is not a floating-point tensor.
        ValueError: it is empty or not square.

    >>> import torch
    >>> round(off_diagonal_share(torch.tensor([[0.25, -0.25], [-0.25, 0.25]])).item(), 6)
    0.707107
    """
    matrices = prepare("off_diagonal_share", "jacobian", jacobian, "W, W")
    if matrices.shape[-1] != matrices.shape[-2]:
        raise ValueError(
            f"'jacobian' of off_diagonal_share must be square, (..., W, W). Got {tuple(matrices.shape)}. "
            "Pass the Jacobian of the map alone, without a layer."
        )
    # Scaling first keeps the squares of a saturated map's tiny derivatives from underflowing.
    largest = matrices.abs().amax((-2, -1), keepdim=True)
    scaled = matrices / torch.where(largest == 0, torch.nan, largest)
    diagonal = torch.eye(scaled.shape[-1], dtype=torch.bool, device=scaled.device)
    outside = torch.linalg.matrix_norm(scaled.masked_fill(diagonal, 0.0))
    share: Tensor = outside / torch.linalg.matrix_norm(scaled)
    return share


@torch.no_grad()
def push_down(function: Function, points: Tensor, delta: float, loss: Function | None = None) -> PushDown:
    """Lower one pre-activation by `delta`: what do its own activation, the others and the loss do?

    With `d^u = f(x - delta e_u) - f(x)`: own `mean_u d^u_u`, others `mean_u sum_{v != u} d^u_v`, share rising
    `mean_{u, v != u} [d^u_v > 0]`, loss change `mean_u |loss(f(x - delta e_u)) - loss(f(x))|`.

    Args:
        function: From (..., W) to (..., W), row by row: the head of this file says what that asks for.
        points: (..., W) with W >= 2, converted to float64. The function is called W + 1 times, and so is the loss.
        delta: By how much, positive, in the units of the pre-activations.
        loss: From activations (..., W), i.e. the rest of the network and its loss, to one loss per point (...).

    Returns:
        `PushDown`. For softmax `others == -own`, as the sum is fixed, and all others rise: `share_rising` is 1, except
        where a weight is so small that its removal is lost in float64.

    Raises:
        TypeError: `points` is not a floating-point tensor; `function` or `loss` is not a callable that returns one.
        ValueError: `points` is empty or has one unit, `delta` is not positive and finite, or `function` or `loss`
            returns another shape.

    >>> import torch
    >>> pushed = push_down(lambda x: torch.softmax(x, -1), torch.zeros(4), delta=1.0)
    >>> [round(value.item(), 4) for value in pushed[:3]]
    [-0.1408, 0.1408, 1.0]
    >>> [value.item() for value in push_down(torch.nn.functional.relu, torch.ones(4), delta=0.5)[:3]]
    [-0.5, 0.0, 0.0]
    """
    values = prepare("push_down", "points", points, "W")
    require_size("push_down", "points", values, -1, 2, "units")
    if not (isinstance(delta, (int, float)) and math.isfinite(delta) and delta > 0):
        raise ValueError(f"'delta' of push_down must be positive and finite. Got {delta!r}. Use e.g. 1.0.")
    before = square("push_down", call("push_down", "function", function, values), values)
    loss_before = None if loss is None else _losses(loss, before)
    width = values.shape[-1]
    own = others = rising = loss_change = torch.zeros_like(values[..., 0])
    for unit, push in enumerate(delta * torch.eye(width, dtype=values.dtype, device=values.device)):
        after = square("push_down", call("push_down", "function", function, values - push), values)
        change = after - before
        own = own + change[..., unit]
        others = others + (change.sum(-1) - change[..., unit])  # exactly 0 where the others do not move
        rising = rising + ((change > 0).sum(-1) - (change[..., unit] > 0).long())
        if loss is not None and loss_before is not None:
            loss_change = loss_change + (_losses(loss, after) - loss_before).abs()
    return PushDown(
        own=own / width,
        others=others / width,
        share_rising=torch.where(others.isnan(), torch.nan, rising / (width * (width - 1))),
        loss_change=None if loss is None else loss_change / width,
    )


def _losses(loss: Function, activations: Tensor) -> Tensor:
    losses = call("push_down", "loss", loss, activations)
    if losses.shape != activations.shape[:-1]:
        raise ValueError(
            f"'loss' of push_down must return one loss per point, {tuple(activations.shape[:-1])}. Got "
            f"{tuple(losses.shape)}. Use reduction='none'."
        )
    return losses.double()

"""What every probe does to its arguments first, and the two primitives that several probes share.

Axis legend: `...` leading axes (members of a fleet, ...), W units, V outputs of a function.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


def prepare(probe: str, name: str, values: Tensor, axes: str) -> Tensor:
    """Check one tensor of a probe and give it in float64.

    Args:
        probe: The probe's name, for messages.
        name: The argument's name, for messages.
        values: The argument.
        axes: The names of its last axes, e.g. `"B, W"`.
    """
    if not isinstance(values, Tensor) or not values.is_floating_point():
        got = f"a tensor of {values.dtype}" if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(
            f"'{name}' of {probe} must be a floating-point tensor. Got {got}. Convert it, e.g. {name}.float()."
        )
    if values.ndim < len(axes.split(", ")):
        raise ValueError(
            f"'{name}' of {probe} must have the shape (..., {axes}). Got {tuple(values.shape)}. "
            "Add axes of size 1 with unsqueeze."
        )
    if values.numel() == 0:
        raise ValueError(
            f"'{name}' of {probe} must not be empty. Got the shape {tuple(values.shape)}. "
            "Leave empty batches out before you measure."
        )
    return values.double()


def require_size(probe: str, name: str, values: Tensor, axis: int, least: int, meaning: str) -> None:
    """Check that an axis has at least `least` entries."""
    if values.shape[axis] < least:
        raise ValueError(
            f"'{name}' of {probe} must have at least {least} {meaning} on axis {axis}. "
            f"Got the shape {tuple(values.shape)}. Give more, or leave this measurement out."
        )


def call(probe: str, name: str, function: Function, points: Tensor) -> Tensor:
    """Call a user's function on all points at once and check that it kept their rows."""
    if not callable(function):
        raise TypeError(
            f"'{name}' of {probe} must be a callable from a tensor to a tensor. Got {type(function).__name__}. "
            "Pass e.g. softplace.maps.softmax."
        )
    values = function(points)
    if not isinstance(values, Tensor) or not values.is_floating_point():
        got = f"a tensor of {values.dtype}" if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(
            f"'{name}' of {probe} must return a floating-point tensor. Got {got}. Return the activations only."
        )
    return values


def square(probe: str, outputs: Tensor, points: Tensor) -> Tensor:
    """Check that a function gave as many outputs as it has inputs."""
    if outputs.shape != points.shape:
        raise ValueError(
            f"'function' of {probe} must keep the shape of the points, {tuple(points.shape)}. Got "
            f"{tuple(outputs.shape)}. A unit and its own output are paired, so pass the map alone, without a layer."
        )
    return outputs.double()


def jacobian_rows(probe: str, function: Function, points: Tensor) -> Iterator[Tensor]:
    """The rows `d f_v / d x` of the Jacobians of all points, (..., W) each, one output v after another.

    One backward pass through the whole tensor of points serves all rows of the points, because they are independent.
    A loop over outputs, and not `vmap`, since it was as fast here (W = 128: 39 ms against 65 ms) and asks no batching
    rule of the function.
    """
    transformed = torch.func.vjp(lambda inputs: call(probe, "function", function, inputs), points)
    outputs, pullback = transformed[0], transformed[1]
    if outputs.ndim != points.ndim or outputs.shape[:-1] != points.shape[:-1]:
        raise ValueError(
            f"'function' of {probe} must keep the leading axes of the points, {tuple(points.shape[:-1])}. Got the "
            f"shape {tuple(outputs.shape)} from points of shape {tuple(points.shape)}. Act on the last axis only."
        )
    for row in torch.eye(outputs.shape[-1], dtype=outputs.dtype, device=outputs.device):
        yield pullback(row.expand_as(outputs))[0]


def singular_values_of(matrices: Tensor) -> Tensor:
    """Singular values in descending order; NaN for a matrix that is not finite, where LAPACK would raise."""
    finite = matrices.isfinite().all(-1).all(-1)
    usable = torch.where(finite[..., None, None], matrices, 0.0)
    return torch.where(finite[..., None], torch.linalg.svdvals(usable), torch.nan)

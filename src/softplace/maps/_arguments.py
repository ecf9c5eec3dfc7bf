"""The arguments that every map takes, checked in one place, and what every plain path does first."""

import math

import torch
from torch import Tensor

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def prepare(
    name: str, scores: Tensor, dim: int, mask: Tensor | None, temperature: float
) -> tuple[Tensor, int, Tensor | None]:
    """Check a map's arguments.

    Returns:
        The scores as they are; `dim` counted from the end, where the hidden axes of `vmap` do not count; and the mask
        broadcast to the shape of the scores (or `None`).
    """
    if not isinstance(scores, Tensor) or scores.dtype not in _DTYPES:
        raise TypeError(
            f"'scores' of {name} must be a floating-point tensor. Got {kind(scores)}. Convert it, e.g. scores.float()."
        )
    if scores.layout is not torch.strided or scores.is_nested:
        got = "a nested one" if scores.is_nested else f"one of layout {scores.layout}"
        raise TypeError(f"'scores' of {name} must be a dense tensor. Got {got}. Use scores.to_dense() or pad it.")
    axes = max(scores.dim(), 1)
    if not isinstance(dim, int) or isinstance(dim, bool):
        raise TypeError(f"'dim' of {name} must be an integer. Got {kind(dim)}. Use -1 for the last axis.")
    if not -axes <= dim < axes:
        raise ValueError(f"'dim' of {name} must lie in [{-axes}, {axes - 1}]. Got {dim}. Use -1 for the last axis.")
    if mask is not None:
        mask = _checked_mask(name, scores, mask)
    if not isinstance(temperature, float) or temperature != 1.0:
        _check_temperature(name, scores, temperature)
    return scores, dim if dim < 0 else dim - axes, mask


def kind(value: object) -> str:
    """What a wrong argument is, in words."""
    return f"a tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def _checked_mask(name: str, scores: Tensor, mask: Tensor) -> Tensor:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise TypeError(
            f"'mask' of {name} must be a boolean tensor (True = take part). Got {kind(mask)}. Use mask.bool()."
        )
    check_device("mask", name, mask, scores)
    try:
        return mask.to_dense().expand(scores.shape) if mask.layout is not torch.strided else mask.expand(scores.shape)
    except RuntimeError:
        raise ValueError(
            f"'mask' of {name} must broadcast to the scores' shape {tuple(scores.shape)}. Got {tuple(mask.shape)}. "
            "Add axes of size 1 with mask.unsqueeze(dim)."
        ) from None


def _check_temperature(name: str, scores: Tensor, temperature: float) -> None:
    if not isinstance(temperature, (int, float)) or isinstance(temperature, bool):
        raise TypeError(
            f"'temperature' of {name} must be a number. Got {kind(temperature)}. "
            "Divide the scores by a tensor before, e.g. scores / temperature."
        )
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"'temperature' of {name} must be positive and finite. Got {temperature}. Use 1.0 for none.")
    numbers = torch.finfo(wide_type(scores.dtype))
    if not numbers.tiny <= temperature <= 1 / numbers.tiny:
        raise ValueError(
            f"'temperature' of {name} must lie in [{numbers.tiny:.3g}, {1 / numbers.tiny:.3g}] to divide "
            f"{scores.dtype}. Got {temperature}. Convert the scores, e.g. scores.double()."
        )


def check_device(name: str, function: str, value: Tensor, scores: Tensor) -> None:
    """Check that a tensor lies where the scores lie."""
    if value.device != scores.device:
        raise ValueError(
            f"'{name}' of {function} must be on the scores' device, {scores.device}. Got {value.device}. "
            f"Use {name}.to(scores.device)."
        )


def per_row(name: str, function: str, value: Tensor, scores: Tensor, dim: int) -> Tensor:
    """Check a tensor that holds one number per row of the scores."""
    if not value.is_floating_point():
        raise TypeError(
            f"'{name}' of {function} must be a floating-point tensor. Got {kind(value)}. Use {name}.float()."
        )
    check_device(name, function, value, scores)
    rows = list(scores.shape)
    if rows:
        rows[dim] = 1
    try:
        value.expand(rows)
    except RuntimeError:
        raise ValueError(
            f"'{name}' of {function} must broadcast to one per row, {tuple(rows)}. Got {tuple(value.shape)}. "
            f"Add axes of size 1 with {name}.unsqueeze(dim)."
        ) from None
    return value


def wide_type(dtype: torch.dtype) -> torch.dtype:
    """What sums of this type are computed in."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    """The scores with -inf where nothing takes part: neither a NaN there nor a gradient passes."""
    return scores if mask is None else scores.masked_fill(~mask, -math.inf)


def centred(scores: Tensor, dim: int, temperature: float) -> tuple[Tensor, Tensor | None]:
    """The scores less their maximum, divided by the temperature, in float32 or wider.

    A row whose maximum is infinite gets what leads to the limit: 0 for entries of +inf, -inf for the others; a row of
    -inf gets zeros.

    Returns:
        The centred scores, and where rows have something that takes part (`None`: everywhere).
    """
    wide = scores.to(wide_type(scores.dtype))
    top = wide.detach().amax(dim, keepdim=True)
    alive = None
    if can_look(top) and bool(top.isfinite().all()):
        difference = wide - top
    else:
        alive = top != -math.inf
        difference = wide - torch.where(top.isinf(), 0.0, top)
        limit = torch.where(wide == math.inf, 0.0, -math.inf)
        difference = torch.where(top == math.inf, limit, torch.where(alive, difference, 0.0))
    return difference if temperature == 1.0 else difference / temperature, alive


def at_least(least: float, values: Tensor) -> Tensor:
    """The larger of both, as `clamp`, which would make the gradient of a NaN 0."""
    return torch.maximum(values, values.new_full((), least))


def can_look(values: Tensor) -> bool:
    """Whether a Python branch may depend on the values: not while tracing or batching, and not on a GPU (it waits)."""
    return (
        values.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(values)
    )

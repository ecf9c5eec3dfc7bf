"""The arguments that every map takes, checked in one place."""

import math

import torch
from torch import Tensor


def prepare(name: str, scores: Tensor, mask: Tensor | None, temperature: float) -> tuple[Tensor, Tensor | None]:
    """Check a map's arguments and divide the scores by the temperature.

    Returns:
        The scaled scores, and the mask broadcast to their shape (or `None`).
    """
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        got = f"a tensor of {scores.dtype}" if isinstance(scores, Tensor) else type(scores).__name__
        raise TypeError(
            f"'scores' of {name} must be a floating-point tensor. Got {got}. Convert it, e.g. scores.float()."
        )
    if mask is not None:
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            got = f"a tensor of {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
            raise TypeError(
                f"'mask' of {name} must be a boolean tensor (True = take part). Got {got}. Use mask.bool()."
            )
        try:
            mask = mask.expand(scores.shape)
        except RuntimeError:
            raise ValueError(
                f"'mask' of {name} must broadcast to the scores' shape {tuple(scores.shape)}. Got {tuple(mask.shape)}. "
                "Add axes of size 1 with mask.unsqueeze(dim)."
            ) from None
    if temperature == 1.0:
        return scores, mask
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"'temperature' of {name} must be positive and finite. Got {temperature}. Use 1.0 for none.")
    return scores / temperature, mask


def can_look(values: Tensor) -> bool:
    """Whether a Python branch may depend on the values: not while tracing or batching, and not on a GPU (it waits)."""
    return (
        values.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(values)
    )

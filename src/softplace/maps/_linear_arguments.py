"""The arguments of a linear head and its loss, checked in one place.

Axis legend: ... any leading axes, E width of the hidden state, V classes (the vocabulary).
"""

import math

import torch
from torch import Tensor

from softplace.maps._arguments import can_look, check_device, kind, wide_type


def check_head(name: str, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> torch.dtype:
    """Check the parts of a linear head; returns the type of the factors of its products."""
    for argument, value in (("hidden", hidden), ("weight", weight), ("bias", bias)):
        if argument == "bias" and value is None:
            continue
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise TypeError(f"{argument!r} of {name} must be a floating-point tensor. Got {kind(value)}. Use .float().")
        if value.layout is not torch.strided or value.is_nested:
            got = "a nested one" if value.is_nested else f"one of layout {value.layout}"
            raise TypeError(f"{argument!r} of {name} must be a dense tensor. Got {got}. Use .to_dense().")
    if weight.dim() != 2:
        raise ValueError(
            f"'weight' of {name} must have two axes, classes by width. Got {tuple(weight.shape)}. "
            "Use the weight of a torch.nn.Linear."
        )
    size, width = weight.shape
    if hidden.dim() < 1 or hidden.shape[-1] != width:
        raise ValueError(
            f"'hidden' of {name} must have the shape (..., {width}), the width of 'weight'. Got {tuple(hidden.shape)}. "
            "A weight is (classes, width)."
        )
    if bias is not None and tuple(bias.shape) != (size,):
        raise ValueError(
            f"'bias' of {name} must have the shape ({size},), one number per class. Got {tuple(bias.shape)}. "
            "Leave it out for none."
        )
    device = hidden.device.type
    autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    for argument, value in (("weight", weight), ("bias", bias)):
        if value is None:
            continue
        if value.device != hidden.device:
            raise ValueError(
                f"{argument!r} of {name} must be on the device of 'hidden', {hidden.device}. Got {value.device}. "
                f"Use {argument}.to(hidden.device)."
            )
        if value.dtype != hidden.dtype and not autocast:
            raise TypeError(
                f"{argument!r} of {name} must be {hidden.dtype} as 'hidden' is. Got {value.dtype}. "
                "Convert one of them, or use torch.autocast."
            )
    return torch.get_autocast_dtype(device) if autocast and hidden.dtype != torch.float64 else hidden.dtype


def check_extras(name: str, z_loss: float, soft_cap: float | None) -> None:
    """Check the options that PyTorch's loss does not have."""
    for argument, value in (("z_loss", z_loss), ("soft_cap", 1.0 if soft_cap is None else soft_cap)):
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise TypeError(f"{argument!r} of {name} must be a number. Got {kind(value)}. Leave it out for none.")
    if not 0.0 <= z_loss < math.inf:
        raise ValueError(f"'z_loss' of {name} must be finite and not negative. Got {z_loss}. Use e.g. 1e-4.")
    if soft_cap is not None and not 0.0 < soft_cap < torch.finfo(torch.float32).max:
        raise ValueError(f"'soft_cap' of {name} must be positive and finite. Got {soft_cap}. Use None for none.")


def check_target(name: str, hidden: Tensor, size: int, target: Tensor, ignore_index: int) -> None:
    """Check kind, shape and device of targets."""
    if not isinstance(target, Tensor) or target.dtype == torch.bool or target.is_complex():
        raise TypeError(
            f"'target' of {name} must be class indices (an integer tensor) or distributions (a floating-point tensor). "
            f"Got {kind(target)}. Use target.long() or target.float()."
        )
    soft = target.is_floating_point()
    expected = (*hidden.shape[:-1], size) if soft else tuple(hidden.shape[:-1])
    if tuple(target.shape) != expected:
        raise ValueError(
            f"'target' of {name} must have the shape {expected} "
            f"({'one distribution' if soft else 'one class index'} per hidden state). Got {tuple(target.shape)}. "
            f"{'Class indices are integers: target.long().' if soft else 'Flatten both alike.'}"
        )
    check_device("target", name, target, hidden)
    if soft and ignore_index != -100:
        raise ValueError(
            f"'ignore_index' of {name} must be left out where the target is distributions. Got {ignore_index}. "
            "Leave out the rows that shall not count."
        )
    if soft and target.requires_grad:
        raise ValueError(
            f"'target' of {name} gets no gradient. Got one that requires it. "
            "Use target.detach(), or cross_entropy on logits."
        )


def check_range(name: str, target: Tensor, ignore_index: int, size: int) -> None:
    """Check that class indices are in range, where values may be looked at."""
    if target.numel() == 0 or not can_look(target):
        return
    target = target.long()  # a number that a small type does not hold would be another
    wrong = (target != ignore_index) & ((target < 0) | (target >= size))
    if bool(wrong.any()):
        where = tuple(wrong.nonzero()[0].tolist())
        expected = f"in [0, {size - 1}]" if size else "of no class, as there is none"
        others = int(wrong.sum()) - 1
        raise ValueError(
            f"'target' of {name} must hold class indices {expected}. Got {target[where].item()} at {where}"
            f"{f', and {others} more' if others else ''}. "
            f"Use ignore_index (here {ignore_index}) for rows that shall not count."
        )


def check_values(name: str, target: Tensor, ignore_index: int, size: int) -> None:
    if not target.is_floating_point():
        check_range(name, target, ignore_index, size)
        return
    if not can_look(target) or not target.numel():
        return
    flat = target.reshape(target.shape[:-1].numel(), size)
    lowest = flat.amin(-1)
    mass = flat.sum(-1, dtype=wide_type(target.dtype))
    slack = 1e-4 if target.dtype in (torch.float32, torch.float64) else 2e-2
    wrong = (lowest < 0.0) | ((mass - 1.0).abs() > slack)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        said = f"a number of {lowest[row]:.6g}" if lowest[row] < 0.0 else f"a sum of {mass[row]:.6g}"
        raise ValueError(
            f"'target' of {name} must hold distributions: not negative, with sum 1. Got {said} in row {row}. "
            "Normalise it, e.g. torch.softmax(target, -1); class indices are integers: target.long()."
        )

"""RMSProp in the form that the memory papers train with: Graves 2013 (arXiv 1308.0850), equations 38 to 45.

No axes: every operation is element by element.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from softplace.errors import InputError

_STATE = ("average", "variance", "velocity")


class GravesRMSProp(Optimizer):
    """RMSProp, centred, with the damping inside the root and momentum on the step itself.

    With gradient g, averages n of g^2 and m of g:

        n <- a n + (1 - a) g^2,   m <- a m + (1 - a) g,   d <- b d - rate * g / sqrt(n - m^2 + damping),   w <- w + d

    a is `decay`, b is `momentum`. `torch.optim.RMSprop(centered=True)` adds its `eps` outside the root and multiplies
    the learning rate into the velocity later: another optimizer at the values that are used here.

    We keep the variance v = n - m^2 instead of n, which is the same in exact arithmetic,
    v <- a v + a (1 - a) (g - m)^2, never negative in any precision, and an operation less.

    Args:
        parameters: Tensors, or groups of them, as for every optimizer of PyTorch.
        learning_rate: Above 0. The papers use 3e-5 to 1e-4.
        decay: Of both averages, in [0, 1).
        momentum: In [0, 1).
        damping: Above 0.

    Raises:
        InputError: A number out of range.
        RuntimeError: A sparse gradient.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        learning_rate: float = 1e-4,
        *,
        decay: float = 0.95,
        momentum: float = 0.9,
        damping: float = 1e-4,
    ) -> None:
        if not 0.0 < learning_rate < math.inf:
            raise InputError(f"'learning_rate' must be a number above 0. Got {learning_rate}. Use e.g. 1e-4.")
        for name, value in (("decay", decay), ("momentum", momentum)):
            if not 0.0 <= value < 1.0:
                raise InputError(f"{name!r} must be at least 0 and below 1. Got {value}. Leave it out for the paper's.")
        if not 0.0 < damping < math.inf:
            raise InputError(f"'damping' must be a number above 0. Got {damping}. Leave it out for the paper's 1e-4.")
        # "lr" is the name that PyTorch's schedulers of the learning rate look for.
        self._buffers: dict[tuple[int, torch.device, torch.dtype], _Buffers] = {}
        super().__init__(parameters, {"lr": learning_rate, "decay": decay, "momentum": momentum, "damping": damping})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient. With a closure, evaluate it first and return its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for number, group in enumerate(self.param_groups):
            kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    kinds.setdefault((parameter.device, parameter.dtype), []).append(parameter)
            for (device, dtype), parameters in kinds.items():
                buffers = self._buffers.get((number, device, dtype))
                if buffers is None or not buffers.hold(parameters, self.state):
                    buffers = self._buffers[number, device, dtype] = _Buffers(parameters, self.state)
                buffers.move(group["lr"], group["decay"], group["momentum"], group["damping"])
        return loss

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As of every optimizer: this is how a state is loaded, copied and unpickled."""
        super().__setstate__(state)
        self._buffers = {}


class _Buffers:
    """Parameters of one device and dtype as one row of numbers: an operation is a call, not a call for each of them.

    The state of a parameter is a part of a row. For a small net that halves the time of a step.
    """

    def __init__(self, parameters: list[Tensor], state: Mapping[Tensor, dict[str, Tensor]]) -> None:
        self._parameters = parameters
        sizes = [parameter.numel() for parameter in parameters]
        self._gradient = parameters[0].new_empty(sum(sizes))
        self._scratch = torch.empty_like(self._gradient)
        self._rows = {name: torch.zeros_like(self._gradient) for name in _STATE}
        self._parts = {
            name: [
                part.view(parameter.shape) for part, parameter in zip(torch.split(row, sizes), parameters, strict=True)
            ]
            for name, row in self._rows.items()
        }
        for name, parts in self._parts.items():
            for part, parameter in zip(parts, parameters, strict=True):
                if name in state[parameter]:
                    part.copy_(state[parameter][name])
                state[parameter][name] = part

    def hold(self, parameters: list[Tensor], state: Mapping[Tensor, dict[str, Tensor]]) -> bool:
        """Whether these are the parameters, and the parts still their state."""
        return len(parameters) == len(self._parameters) and all(
            parameter is own and all(state[own].get(name) is self._parts[name][index] for name in _STATE)
            for index, (parameter, own) in enumerate(zip(parameters, self._parameters, strict=True))
        )

    def move(self, rate: float, decay: float, momentum: float, damping: float) -> None:
        gradients = []
        for parameter in self._parameters:
            if parameter.grad is None or parameter.grad.layout != torch.strided:
                raise RuntimeError("GravesRMSProp needs dense gradients: it averages every element at every step.")
            gradients.append(parameter.grad.reshape(-1))
        gradient, scratch = torch.cat(gradients, out=self._gradient), self._scratch
        average, variance, velocity = (self._rows[name] for name in _STATE)
        torch.sub(gradient, average, out=scratch)
        variance.mul_(decay).addcmul_(scratch, scratch, value=decay * (1.0 - decay))
        average.add_(scratch, alpha=1.0 - decay)
        torch.add(variance, damping, out=scratch).sqrt_()
        velocity.mul_(momentum).addcdiv_(gradient, scratch, value=-rate)
        torch._foreach_add_(self._parameters, self._parts["velocity"])

"""Several nets of one make at once, each with its own parameters and its own sequences.

Axis legend: S members, T time, B batch, I inputs, O outputs.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from softplace.memory import _fused, dnc, ntm
from softplace.memory.controller import affine, answer, initials, weights_of
from softplace.memory.dnc import DNC
from softplace.memory.lstm import LSTMBaseline
from softplace.memory.ntm import NTM


def together(net: NTM | DNC | LSTMBaseline, parameters: Mapping[str, Tensor], inputs: Tensor) -> tuple[Tensor, Any]:
    """What so many nets like `net` answer, and their states: `torch.vmap` of the net, without its cost where it can be.

    Args:
        net: What the members are copies of.
        parameters: By name, each stacked to (S, ...), as `torch.func.stack_module_state` does; what is not among them
            is the net's own, the same for all.
        inputs: (S, T, B, I), or (S, B, T, I) with `batch_first`.

    Returns:
        Outputs (S, T, B, O), or (S, B, T, O), and the state, whose fields have a leading axis S.
    """
    if not isinstance(net, LSTMBaseline) and net.kernel and not net.batch_first and net.segments == 1:
        made = _by_kernel(net, parameters, inputs)
        if made is not None:
            return made

    def one(own: Mapping[str, Tensor], sequences: Tensor) -> tuple[Tensor, Any]:
        outputs, state = functional_call(net, dict(own), (sequences,))
        return outputs, state

    return torch.vmap(one)(parameters, inputs)


def _by_kernel(net: NTM | DNC, parameters: Mapping[str, Tensor], inputs: Tensor) -> tuple[Tensor, Any] | None:
    """`together` by one call of the kernel; `None` where it does not fit."""
    members, _, batch, _ = inputs.shape
    own = weights_of(net, net.config.layers) | initials(net)
    if not parameters.keys() <= own.keys():  # such as a map that learns, or a parametrization
        return None
    every = {name: value.expand(members, *value.shape) for name, value in own.items()} | dict(parameters)
    pre = affine(inputs, every["input_weight"], every["input_bias"])
    made: Any
    if isinstance(net, NTM):
        made = _fused.ntm(pre, ntm.first_state(every, net.config, batch), None, every, net.config)
    else:
        made = _fused.dnc(pre, dnc.first_state(every, net.config, batch), None, every, net.config)
    if made is None:
        return None
    hidden, reads, after = made
    return answer(hidden, reads, None, every), after

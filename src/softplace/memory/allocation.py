"""Which slots of a memory are free: retention, usage and allocation of the Differentiable Neural Computer.

Axis legend: N slots, R read heads, W write heads; `...` any leading axes, the same in all arguments.

Source: Graves et al. 2016 (Nature 538:471), Methods, "Dynamic memory allocation"; several write heads as in the
program that its authors published (deepmind/dnc).
"""

from functools import reduce

import torch
from torch import Tensor

from softplace import maps


def retention(free_gates: Tensor, read_weights: Tensor) -> Tensor:
    """How much of each slot no read head sets free, `psi[i] = prod_r (1 - f_r w_r[i])`.

    Args:
        free_gates: f (..., R) in [0, 1].
        read_weights: Of the step before, w (..., R, N) in [0, 1].

    Returns:
        (..., N) in [0, 1].
    """
    return _complements(free_gates.unsqueeze(-1) * read_weights)


def usage(previous: Tensor, write_weights: Tensor, retention: Tensor) -> Tensor:
    """How much of each slot is in use, `u_t = (u + w - u w) psi`, with `w = 1 - prod_h (1 - w_h)` over write heads.

    Args:
        previous: u (..., N) in [0, 1] of the step before.
        write_weights: Of the step before, w_h (..., W, N) in [0, 1].
        retention: psi (..., N) of this step.

    Returns:
        (..., N) in [0, 1], without rounding beyond.
    """
    # With one write head w is that head's weights to the last bit, so small ones are not lost in 1 - (1 - w).
    heads = write_weights.unbind(-2)
    written = heads[0] if len(heads) == 1 else 1 - _complements(write_weights)
    # u + (1 - u) w never rounds above 1; u + w - u w does.
    return (previous + (1 - previous) * written) * retention


def allocation(usage: Tensor, *, map: str | maps.Map | None = None) -> Tensor:  # noqa: A002 - the word of the field
    """Weights on free slots: the freest slot gets most.

    `a[phi[j]] = (1 - u[phi[j]]) prod_{i<j} u[phi[i]]`, phi sorting the usage in ascending order. The sum is
    `1 - prod_i u[i]`; an unused slot gets everything that the slots before it left, a full memory gets nothing.
    The order is a constant of the gradient; equal usages keep their order. The gradient is exact at usage 0 and 1 too.

    Args:
        usage: u (..., N) in [0, 1].
        map: None for the formula above. A map, or its name, for `map(1 - u)` instead, the smooth alternative without
            a sort of Ben-Ari and Bekker 2017; its sum is 1 for a full memory too, and softmax of scores that lie in
            [0, 1] is close to uniform: pass a callable that scales them to make it sharper.

    Returns:
        (..., N), non-negative, sum at most 1.

    Raises:
        InputError: No map of this name.
    """
    if map is not None:
        return maps.get(map)(1 - usage, -1)
    ascending, order = usage.sort(dim=-1, stable=True)
    weights = (1 - ascending) * _products_before(ascending)
    return torch.zeros_like(weights).scatter(-1, order, weights)


def allocate_heads(usage: Tensor, gates: Tensor, *, map: str | maps.Map | None = None) -> Tensor:  # noqa: A002
    """Allocation of every write head, one after another: each sees the slots of those before it as used.

    `a_h = allocation(u_h)`, `u_{h+1} = u_h + (1 - u_h) gate_h a_h`.

    Args:
        usage: u (..., N) in [0, 1].
        gates: Allocation gate times write gate of each head (..., W) in [0, 1].
        map: As of `allocation`.

    Returns:
        (..., W, N).

    Source: deepmind/dnc, `write_allocation_weights`; the paper has one write head.
    """
    weights = [allocation(usage, map=map)]
    for gate in gates.unsqueeze(-1).unbind(-2)[:-1]:
        usage = usage + (1 - usage) * (gate * weights[-1])
        weights.append(allocation(usage, map=map))
    return torch.stack(weights, dim=-2)


def _complements(values: Tensor) -> Tensor:
    """`prod_h (1 - values[..., h, :])`, factor by factor: the gradient of torch.prod looks for zeros in the data."""
    return reduce(torch.mul, (1 - values).unbind(-2))


def _products_before(values: Tensor) -> Tensor:
    """`out[j] = prod_{i<j} values[i]` along the last axis, by doubling: log2(N) products, N log N work.

    The gradient of torch.cumprod divides by the values, so that a zero sends it to a loop that looks at the data.
    """
    products = torch.cat([torch.ones_like(values[..., :1]), values[..., :-1]], dim=-1)
    step = 1
    while step < values.shape[-1]:
        products = torch.cat([products[..., :step], products[..., step:] * products[..., :-step]], dim=-1)
        step *= 2
    return products

"""Mixture of experts: a gate chooses, by a map, which networks see a token, and weighs what they say.

Axis legend: ... any leading axes, T tokens (all leading axes together), D width of inputs, H hidden width, O width of
outputs, E experts, K choices of a token, S shared experts.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from softplace import maps
from softplace.errors import InputError
from softplace.latent.experts_balance import load_balancing_loss, z_loss
from softplace.latent.experts_products import grouped_linear
from softplace.latent.experts_routing import Capacity, Order, Routing, count, groups, limit, route
from softplace.maps import Map
from softplace.maps._arguments import can_look

FAST: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "relu": torch.relu,
    "silu": functional.silu,
    "tanh": torch.tanh,
}
"""Activations that are PyTorch's own; other names are those of `softplace.maps`."""


class Experts(NamedTuple):
    """The matrices of E networks of two layers, `y = down(act(up(x)))`, each as `linear` takes it."""

    up: Tensor
    """(E, H, D)"""
    down: Tensor
    """(E, O, H)"""
    linear: Tensor | None = None
    """(E, H, D), for gated units: `y = down(act(up(x)) * linear(x))`, SwiGLU with the activation "silu"; or None"""
    up_bias: Tensor | None = None
    """(E, H), or None"""
    down_bias: Tensor | None = None
    """(E, O), or None"""


class MixtureRecord(NamedTuple):
    """What a mixture did in one call."""

    experts: Tensor
    """(..., K) int64, the chosen experts, the first choice first; K is E where all are used"""
    weights: Tensor
    """(..., K), 0 where the token was not sent, or dropped"""
    counts: Tensor
    """(E,) int64, tokens for each expert, before any are dropped"""
    dropped: Tensor
    """(E,) int64, tokens that were over the capacity of each expert"""
    balance: Tensor
    """`load_balancing_loss`: add it to the loss with a factor, usually 0.01"""
    z: Tensor
    """`z_loss`: add it to the loss with a factor, usually 0.001"""


def mixture_of_experts(
    inputs: Tensor,
    gate: Tensor,
    experts: Experts,
    *,
    shared: Experts | None = None,
    activation: str | Map = "gelu",
    map: str | Map = "softmax",  # noqa: A002 - the word of the field
    top: int | None = 2,
    order: Order = "map-top-normalise",
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    capacity: Capacity | None = None,
) -> tuple[Tensor, MixtureRecord]:
    """`y = sum over the chosen experts e of p_e(x) f_e(x)`, with p a map of the scores `gate x`.

    Args:
        inputs: (..., D).
        gate: (E, D). Scores and weights are computed in float32 where the inputs are in half precision.
        experts: Their matrices.
        shared: Experts that see every token with the weight 1 (DeepSeekMoE, arXiv:2401.06066, eq. 9), or None.
        activation: Of the hidden layer: "gelu", "relu", "silu", "tanh", another name of `softplace.maps`, or a callable
            `activation(values, dim)`.
        map, top, order, bias: As of `route`. With `top=None` all experts see all tokens, as one product, even where
            the map gives 0; `top=E` skips those.
        mask: Boolean, broadcast to (..., E), True = may be chosen: for padding `mask[..., None]`. A token that may
            choose nothing gets zeros (and what the shared experts say).
        capacity: How many tokens an expert takes; None: all that are sent to it.

    Returns:
        (..., O), and the record. A token of which all choices are dropped gets zeros, to be carried by a residual
        connection around the mixture. NaN in a token makes that token's output NaN, no other's (but with `sinkhorn`).

    Raises:
        InputError: Shapes, dtypes or choices that cannot be used.

    Tokens are sorted by expert and multiplied by `grouped_linear`: nothing is padded, and there is no loop. On a CPU
    the products take most of the time, then fresh memory for the gradients of the stacked weights: an allocator that
    keeps what was freed saves a fifth (`python -m benchmarks experts`).

    >>> made = Experts(up=torch.ones(4, 3, 2), down=torch.ones(4, 2, 3))
    >>> outputs, record = mixture_of_experts(torch.ones(5, 2), torch.eye(4, 2), made, activation="relu")
    >>> outputs[0].tolist(), record.counts.tolist()
    ([6.0, 6.0], [5, 5, 0, 0])
    """
    _check(inputs, gate, experts, shared)
    check_capacity(capacity, top, gate.shape[0])
    lead, width = inputs.shape[:-1], inputs.shape[-1]
    tokens = inputs.reshape(-1, width)
    flat = None if mask is None else _flat(mask, (*lead, gate.shape[0]))
    with torch.autocast(inputs.device.type, enabled=False):
        wide = torch.promote_types(inputs.dtype, torch.float32)
        scores = functional.linear(tokens.to(wide), gate.to(wide))
        free = routing = route(scores, map=map, top=top, order=order, bias=bias, mask=flat)
    counts = left = count(free)
    if capacity is not None and tokens.shape[0] > 0:
        slots = capacity.slots(tokens.shape[0], free.experts.shape[-1], gate.shape[0])
        routing = limit(free, slots, priority=capacity.priority)
        left = count(routing)
    if top is None:
        outputs = all_experts(tokens, routing.weights, experts, activation=activation)
    else:
        outputs = chosen_experts(tokens, routing, experts, activation=activation)
    if shared is not None:
        ones = tokens.new_ones(tokens.shape[0], shared.up.shape[0])
        outputs = outputs + all_experts(tokens, ones, shared, activation=activation)
    record = MixtureRecord(
        experts=routing.experts.reshape(*lead, routing.experts.shape[-1]),
        weights=routing.weights.reshape(*lead, routing.weights.shape[-1]),
        counts=counts,
        dropped=counts - left,
        balance=load_balancing_loss(free.probabilities, counts),
        z=z_loss(scores, flat),
    )
    return outputs.reshape(*lead, outputs.shape[-1]), record


def all_experts(tokens: Tensor, weights: Tensor, experts: Experts, *, activation: str | Map = "gelu") -> Tensor:
    """`sum_e w_e f_e(x)` over all experts: two products, and what `torch.vmap` is fastest with.

    Args:
        tokens: (T, D).
        weights: (T, E).
        experts: Their matrices.
        activation: As of `mixture_of_experts`.

    Returns:
        (T, O).
    """
    number, inner, width = experts.up.shape

    def project(weight: Tensor, bias: Tensor | None) -> Tensor:
        flat = None if bias is None else bias.reshape(-1)
        return functional.linear(tokens, weight.reshape(number * inner, width), flat).view(-1, number, inner)

    hidden = _hidden(project, experts, activation)
    weights = weights.to(hidden.dtype)
    # Weighed before the second layer, so that one product sums over the experts too.
    outputs = torch.einsum("teh,eoh->to", hidden * weights.unsqueeze(-1), experts.down.to(hidden.dtype))
    return outputs if experts.down_bias is None else outputs + weights @ experts.down_bias.to(hidden.dtype)


def chosen_experts(tokens: Tensor, routing: Routing, experts: Experts, *, activation: str | Map = "gelu") -> Tensor:
    """`sum_k w_k f_(e_k)(x)` over the choices with a weight that is not 0, each expert on its own tokens alone.

    Args:
        tokens: (T, D).
        routing: As `route` or `limit` gives it.
        experts: Their matrices.
        activation: As of `mixture_of_experts`.

    Returns:
        (T, O); sums over the choices are in float32 or wider.
    """
    top = routing.experts.shape[-1]
    group = groups(routing).flatten()
    place = group.to(torch.int32).argsort(stable=True)
    ends = count(routing).cumsum(0).to(torch.int32)
    if can_look(group):
        place = place[: int(ends[-1])]  # the rest is sent nowhere
    group, token = group.index_select(0, place), place // top
    rows = tokens.index_select(0, token)
    hidden = _hidden(lambda weight, bias: grouped_linear(rows, weight, bias, group, ends), experts, activation)
    made = grouped_linear(hidden, experts.down, experts.down_bias, group, ends)
    weights = routing.weights.flatten().index_select(0, place)
    sums = weights.new_zeros(tokens.shape[0], made.shape[-1])
    return sums.index_add(0, token, made.to(weights.dtype) * weights.unsqueeze(-1)).to(made.dtype)


def _hidden(project: Callable[[Tensor, Tensor | None], Tensor], experts: Experts, activation: str | Map) -> Tensor:
    """The hidden layer, from what multiplies the inputs by a weight."""
    before = project(experts.up, experts.up_bias)
    hidden = activation_of(activation)(before)
    return hidden if experts.linear is None else hidden * project(experts.linear, None)


def activation_of(activation: str | Map) -> Callable[[Tensor], Tensor]:
    """The function of an activation's name, along the last axis.

    Raises:
        InputError: No such name.
    """
    if isinstance(activation, str) and activation in FAST:
        return FAST[activation]
    chosen = maps.get(activation)
    return lambda values: chosen(values, dim=-1)


def check_capacity(capacity: Capacity | None, top: int | None, experts: int) -> None:
    """Raise `InputError` for a capacity that is none, or that nothing could be dropped by."""
    if capacity is not None and not isinstance(capacity, Capacity):
        raise InputError(f"'capacity' must be a Capacity or None. Got {capacity!r}. Use Capacity(1.25).")
    if capacity is not None and top is None:
        raise InputError(
            "'capacity' must be None where all experts see all tokens (top=None). "
            f"Got {capacity}. Use top={experts} to limit them."
        )


def _flat(mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The mask of tokens by experts, (T, E)."""
    if isinstance(mask, Tensor) and mask.dim() <= len(shape):
        padded = (1,) * (len(shape) - mask.dim()) + tuple(mask.shape)
        if all(one in (1, whole) for one, whole in zip(padded, shape, strict=True)):
            return mask.expand(shape).reshape(-1, shape[-1])
    got = str(tuple(mask.shape)) if isinstance(mask, Tensor) else type(mask).__name__
    raise InputError(
        f"'mask' must be a tensor that broadcasts to {shape}, tokens by experts. Got {got}. "
        "A mask of tokens needs an axis for experts: mask[..., None]."
    )


def _check(inputs: Tensor, gate: Tensor, experts: Experts, shared: Experts | None) -> None:
    """Raise `InputError` for what no mixture can use."""
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or inputs.dim() < 1:
        got = f"{inputs.dtype} of shape {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else type(inputs).__name__
        raise InputError(
            f"'inputs' must be a floating-point tensor (..., D). Got {got}. Embed or convert it, e.g. inputs.float()."
        )
    if gate.dim() != 2 or gate.shape[0] < 1:
        raise InputError(
            f"'gate' must be a matrix of experts by width, (E, D), with an expert or more. Got {tuple(gate.shape)}."
        )
    width = gate.shape[1]
    if inputs.shape[-1] != width:
        raise InputError(
            f"'inputs' must have the width of the gate, {width}. Got {inputs.shape[-1]}. "
            "Project them, or build the mixture with their width."
        )
    for name, each in (("experts", experts), ("shared", shared)):
        if each is None:
            continue
        for field, matrix in (("up", each.up), ("down", each.down)):
            if matrix.dim() != 3:
                raise InputError(
                    f"'{field}' of {name} must have three axes, experts by outputs by inputs. "
                    f"Got {tuple(matrix.shape)}. Stack one matrix per expert."
                )
        number = gate.shape[0] if name == "experts" else each.up.shape[0]
        inner, outer = each.up.shape[1], each.down.shape[1]
        wanted = (
            (number, inner, width),
            (number, outer, inner),
            (number, inner, width),
            (number, inner),
            (number, outer),
        )
        for field, part, shape in zip(Experts._fields, each, wanted, strict=True):
            if part is not None and part.shape != shape:
                raise InputError(
                    f"'{field}' of {name} must have the shape {shape}. Got {tuple(part.shape)}. "
                    "Matrices are as torch.nn.functional.linear takes them, one per expert."
                )
            if part is not None and part.dtype != inputs.dtype and not torch.is_autocast_enabled(inputs.device.type):
                raise InputError(
                    f"'{field}' of {name} must be {inputs.dtype} as 'inputs' is. Got {part.dtype}. Convert one of them."
                )

"""Which experts each token goes to, and with what weights.

Axis legend: T tokens, E experts, K choices of a token (`top`).
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from softplace import maps
from softplace.errors import InputError, nearest
from softplace.maps import Map

Order = Literal["map-top", "map-top-normalise", "top-map"]
Priority = Literal["position", "weight"]


class Routing(NamedTuple):
    """Where tokens go. A weight of 0 means that the token is not sent to that expert."""

    experts: Tensor
    """(T, K) int64, the chosen experts, the first choice first"""
    weights: Tensor
    """(T, K), float32 where the scores are in half precision"""
    probabilities: Tensor
    """(T, E), what the map makes of all the scores, chosen or not: for the balance loss"""


@dataclass(frozen=True)
class Capacity:
    """How many tokens an expert takes, and which when there are more.

    Args:
        factor: Of the number of tokens that each expert had if all had as many, `T K / E`.
        priority: Whom an expert takes first: "position": those of whom it is the first choice, then the second, and so
            on, each in the order of the batch (GShard, algorithm 1); "weight": those with the largest weight.

    Raises:
        InputError: A factor that is not positive and finite, or an unknown priority.

    Source: Lepikhin et al. 2020 (arXiv:2006.16668), section 2.2; Fedus et al. 2022 (arXiv:2101.03961), eq. 3.
    """

    factor: float
    priority: Priority = "position"

    def __post_init__(self) -> None:
        """Raise `InputError` for what no expert can take."""
        known = isinstance(self.factor, (int, float)) and not isinstance(self.factor, bool)
        if not known or not 0.0 < self.factor < math.inf:
            raise InputError(
                f"'factor' of Capacity must be a positive number. Got {self.factor!r}. "
                "Use e.g. 1.25, or no capacity (None) to drop no token."
            )
        check_choice("priority", self.priority, get_args(Priority))

    def slots(self, tokens: int, top: int, experts: int) -> int:
        """Tokens that an expert takes, `ceil(factor T K / E)`."""
        return math.ceil(self.factor * tokens * top / experts)


def route(
    scores: Tensor,
    *,
    map: str | Map = "softmax",  # noqa: A002 - the word of the field
    top: int | None = 2,
    order: Order = "map-top-normalise",
    bias: Tensor | None = None,
    mask: Tensor | None = None,
) -> Routing:
    """Choose the experts of each token by its scores, and weigh them by a map.

    Args:
        scores: (T, E).
        map: From scores to weights: a name of `softplace.maps`, or a callable `map(scores, dim)`. Maps with zeros, as
            sparsemax, send a token to fewer than `top` experts. `sinkhorn` weighs all tokens of the batch together, so
            that all experts get the same weight in sum.
        top: K, how many experts are chosen, from 1 to E; None: all, in their order.
        order: "map-top": map all scores, then choose the largest weights and keep them as they are (Switch
            Transformer). "map-top-normalise": and divide them by their sum (GShard, Mixtral; DeepSeek-V3 with the map
            "sigmoid"); with `top=1` the only weight is then 1, which teaches the gate nothing. "top-map": choose the
            largest scores, then map these alone (Shazeer et al. 2017, eq. 3 and 5). For softmax the last two agree.
        bias: (E,), is added before choosing (to the weights, with "top-map" to the scores), and changes no weight: the
            balance without a loss of Wang et al. 2024 (arXiv:2408.15664), eq. 3. See `update_bias`.
        mask: Boolean, broadcast to (T, E), True = may be chosen. A token that may choose nothing is sent nowhere.

    Returns:
        `Routing`. Of equal scores the earlier expert goes first. Half precisions are computed in float32. NaN makes
        the weights of its token NaN (with `sinkhorn`, of all).

    Raises:
        InputError: Shapes, dtypes, `top`, `order`, map, bias or mask that cannot be used.

    >>> made = route(torch.tensor([[3.00, 2.0, 1.00, 0.10]]))
    >>> made.experts.tolist(), [round(weight, 3) for weight in made.weights[0].tolist()]
    ([[0, 1]], [0.731, 0.269])
    """
    chosen_map = maps.get(map)
    _check(scores, top, bias, mask)
    check_choice("order", order, get_args(Order))
    if order == "top-map" and chosen_map is maps.sinkhorn and top is not None:
        raise InputError(
            "'order' must be 'map-top' or 'map-top-normalise' with the map 'sinkhorn', which balances all experts. "
            "Got 'top-map'. Use 'map-top'."
        )
    if scores.dtype in (torch.bfloat16, torch.float16):
        scores = scores.float()
    mask = None if mask is None else mask.expand(scores.shape)
    probabilities = _weigh(scores, chosen_map, mask)
    experts = _choose(scores if order == "top-map" else probabilities, top, bias, mask)
    if order == "top-map" and top is not None:
        allowed = None if mask is None else mask.gather(-1, experts)
        return Routing(experts, _weigh(scores.gather(-1, experts), chosen_map, allowed), probabilities)
    weights = probabilities if top is None else probabilities.gather(-1, experts)
    if order == "map-top-normalise":
        total = weights.sum(-1, keepdim=True)
        weights = weights / torch.where(total == 0.0, 1.0, total)
    return Routing(experts, weights, probabilities)


def count(routing: Routing) -> Tensor:
    """How many tokens are sent to each expert, (E,) int64: weights that are not 0."""
    experts = routing.probabilities.shape[-1]
    group = groups(routing).flatten()
    zeros = torch.zeros(experts + 1, dtype=torch.int64, device=group.device)
    return zeros.scatter_add(0, group, torch.ones_like(group))[:experts]


def limit(routing: Routing, capacity: int, *, priority: Priority = "position") -> Routing:
    """The routing in which no expert gets more than `capacity` tokens: what is dropped gets the weight 0.

    Weights that stay are not changed. How many each expert dropped is `count(before) - count(after)`.

    Args:
        routing: As `route` gives it.
        capacity: Tokens that an expert takes, at least 1: `Capacity(1.25).slots(T, K, E)` is the usual number.
        priority: As of `Capacity`; equal weights in the order of "position".

    Raises:
        InputError: A capacity below 1, or an unknown priority.

    >>> scores = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0]])
    >>> limit(route(scores, top=1), 2).weights.flatten().tolist()
    [1.0, 1.0, 0.0]
    >>> limit(route(scores, top=1, order="map-top"), 2, priority="weight").weights.flatten().sign().tolist()
    [0.0, 1.0, 1.0]
    """
    if not isinstance(capacity, int) or isinstance(capacity, bool) or capacity < 1:
        raise InputError(f"'capacity' must be a whole number from 1. Got {capacity!r}. Use Capacity(1.25).slots(...).")
    check_choice("priority", priority, get_args(Priority))
    # Choice by choice, so that the place in the row is the priority by position.
    group, weights = groups(routing).mT.flatten(), routing.weights.mT.flatten()
    if priority == "weight":
        first = weights.detach().argsort(descending=True, stable=True)
        order = first.gather(0, group.gather(0, first).argsort(stable=True))
    else:
        order = group.argsort(stable=True)
    ends = torch.cat([count(routing).cumsum(0), group.new_full((1,), group.shape[0])])
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    place = torch.arange(group.shape[0], device=group.device) - starts.gather(0, group.gather(0, order))
    taken = torch.zeros_like(group, dtype=torch.bool).scatter(0, order, place < capacity)
    return routing._replace(weights=torch.where(taken.view(routing.weights.mT.shape).mT, routing.weights, 0.0))


def groups(routing: Routing) -> Tensor:
    """(T, K), the expert that each choice is sent to; E where it is not sent."""
    return torch.where(routing.weights != 0.0, routing.experts, routing.probabilities.shape[-1])


def check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    """Raise `InputError` for a value that is none of those known."""
    if value not in known:
        raise InputError(f"{name!r} must be one of those known. Got {value!r}. {nearest(str(value), known)}")


def _choose(keys: Tensor, top: int | None, bias: Tensor | None, mask: Tensor | None) -> Tensor:
    """(T, K), the experts with the largest keys."""
    if top is None:
        return torch.arange(keys.shape[-1], device=keys.device).expand(keys.shape)
    keys = keys.detach()
    if bias is not None:
        keys = keys + bias.detach()
    if mask is not None:
        keys = keys.masked_fill(~mask, -math.inf)
    return keys.argsort(dim=-1, descending=True, stable=True)[:, :top]


def _weigh(scores: Tensor, chosen: Map, mask: Tensor | None) -> Tensor:
    """The map along the last axis; zeros where the mask is False."""
    if mask is None:
        return chosen(scores, dim=-1)
    if chosen in maps.OWN.values():
        return chosen(scores, dim=-1, mask=mask)  # type: ignore[call-arg]
    some = mask.any(-1, keepdim=True)  # a row of -inf alone would be NaN to most maps
    return torch.where(mask, chosen(scores.masked_fill(~mask & some, -math.inf), dim=-1), 0.0)


def _check(scores: Tensor, top: int | None, bias: Tensor | None, mask: Tensor | None) -> None:
    """Raise `InputError` for what cannot be routed."""
    if not isinstance(scores, Tensor) or not scores.is_floating_point() or scores.dim() != 2 or scores.shape[1] < 1:
        got = f"{scores.dtype} of shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise InputError(
            f"'scores' must be a floating-point tensor of tokens by experts, (T, E), with an expert or more. "
            f"Got {got}. Use scores.flatten(0, -2) for more axes."
        )
    experts = scores.shape[1]
    check_top(top, experts)
    if bias is not None and (not isinstance(bias, Tensor) or bias.shape != (experts,)):
        got = str(tuple(bias.shape)) if isinstance(bias, Tensor) else type(bias).__name__
        raise InputError(
            f"'bias' must have one number per expert, ({experts},). Got {got}. Use torch.zeros({experts})."
        )
    if mask is not None:
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            got = str(mask.dtype) if isinstance(mask, Tensor) else type(mask).__name__
            raise InputError(f"'mask' must be a tensor of bool, True = may be chosen. Got {got}. Use mask > 0.")
        padded = (1,) * (2 - mask.dim()) + tuple(mask.shape)
        if mask.dim() > 2 or any(one not in (1, whole) for one, whole in zip(padded, scores.shape, strict=True)):
            raise InputError(
                f"'mask' must broadcast to {tuple(scores.shape)}, tokens by experts. Got {tuple(mask.shape)}. "
                "A mask of tokens needs an axis for experts: mask[:, None]."
            )


def check_top(top: int | None, experts: int) -> None:
    """Raise `InputError` for a number of choices that cannot be made."""
    if top is not None and (not isinstance(top, int) or isinstance(top, bool) or not 1 <= top <= experts):
        raise InputError(
            f"'top' must be a whole number from 1 to {experts}, the number of experts. Got {top!r}. Use None for all."
        )

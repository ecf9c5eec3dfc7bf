"""Attention with any map, as functions of tensors.

Axis legend: ... any leading axes (batch, heads), T queries, S keys, D width of a key, V width of a value, A width of
the additive score, H heads, E width of the model, B batch.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, cast, overload

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from softplace import maps
from softplace.attention._dropout import drop
from softplace.errors import InputError
from softplace.maps import Map
from softplace.maps._arguments import can_look
from softplace.maps.modules import Sinkhorn

ROOM = 1 << 22
"""Scores that are kept at a time: more are computed block by block of queries, and again in the backward pass."""

SHORT = 256
"""Keys up to which, on a CPU, our own path is faster than PyTorch's in half precision, with dropout, and
where there are few queries."""
FEW = 8
"""Queries."""


@overload
def dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    map: str | Map = ...,
    mask: Tensor | None = ...,
    causal: bool = ...,
    scale: float | None = ...,
    sink: Tensor | None = ...,
    dropout: float = ...,
    need_weights: Literal[False] = ...,
) -> Tensor: ...
@overload
def dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    map: str | Map = ...,
    mask: Tensor | None = ...,
    causal: bool = ...,
    scale: float | None = ...,
    sink: Tensor | None = ...,
    dropout: float = ...,
    need_weights: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    map: str | Map = "softmax",  # noqa: A002 - the word of the field
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    sink: Tensor | None = None,
    dropout: float = 0.0,
    need_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Scaled dot-product attention with any map: `map(scale Q K^T) V`.

    With softmax, and no weights or sink asked for, it is `torch.nn.functional.scaled_dot_product_attention` (but for
    short sentences on a CPU, where that takes up to ten times as long in bfloat16, and rounds scores less). With any
    other map no more than `ROOM` scores (or those of one query, where they are more) are in memory at a time, unless
    weights are asked for.

    Args:
        query: (..., T, D).
        key: (..., S, D).
        value: (..., S, V).
        map: From scores to weights: a name of `softplace.maps`, or a callable `map(scores, dim)`, which sees scores of
            -inf where the mask is False, and must treat every row alone. `sinkhorn`, which does not, sees all queries
            of a head together, and cannot be causal.
        mask: Broadcast to (..., T, S), True = may be attended to. A query that may attend to nothing gets zeros.
        causal: A query attends to no later key; the last query and the last key are of the same time.
        scale: Of the products; None: 1/sqrt(D).
        sink: Scores of one more key, whose value is zero: broadcast to (...), the leading axes. Weights then sum to
            less than 1.
        dropout: The share of weights that are set to zero, the others grow by 1/(1 - dropout).
        need_weights: Return the weights too.

    Returns:
        (..., T, V); with `need_weights` also the weights (..., T, S), before dropout.

    Raises:
        InputError: Shapes, dtypes, mask or a number that cannot be used.

    Source: Vaswani et al. 2017 (arXiv:1706.03762), eq. 1; for sinks Xiao et al. 2023 (arXiv:2309.17453), whose zero
    sink is a score of 0.

    >>> q = k = v = torch.eye(2)
    >>> dot_product_attention(q, k, v, map="sparsemax", scale=2.0)
    tensor([[1., 0.],
            [0., 1.]])
    """
    _check(query, key, value, mask, dropout, sink)
    if query.shape[-1] != key.shape[-1] or not query.shape[-1]:
        raise InputError(
            f"'query' and 'key' must be of the same width, 1 or more. Got {query.shape[-1]} and {key.shape[-1]}. "
            "Project one."
        )
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, int | float)):
        raise InputError(f"'scale' must be a number or None. Got {scale!r}. Leave it out for 1/sqrt(width).")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    causal = causal and query.shape[-2] > 1  # the last query may attend to every key
    plain = map == "softmax" or map is maps.softmax
    if plain and not need_weights and sink is None and not _better_here(query, key, dropout):
        square = causal and mask is None and query.shape[-2] == key.shape[-2]
        allowed = mask if square or not causal else _causal(query.shape[-2], key, mask, 0, query.shape[-2])
        return scaled_dot_product_attention(
            query, key, value, allowed, dropout_p=dropout, is_causal=square, scale=scale
        )

    def score(some: Tensor, keys: Tensor) -> Tensor:
        if some.dtype == torch.float16:  # whose products pass 65,504, the largest there is
            some, keys = some.float(), keys.float()
        return (some * scale) @ keys.mT

    return _attend(score, query, key, value, map, mask, causal, sink, dropout, need_weights)


@overload
def additive_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    direction: Tensor,
    *,
    map: str | Map = ...,
    mask: Tensor | None = ...,
    dropout: float = ...,
    need_weights: Literal[False] = ...,
) -> Tensor: ...
@overload
def additive_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    direction: Tensor,
    *,
    map: str | Map = ...,
    mask: Tensor | None = ...,
    dropout: float = ...,
    need_weights: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def additive_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    direction: Tensor,
    *,
    map: str | Map = "softmax",  # noqa: A002
    mask: Tensor | None = None,
    dropout: float = 0.0,
    need_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Additive attention with any map: `map_s(v . tanh(q_t + k_s)) V`.

    The paper's `W_a s_{i-1}` and `U_a h_j` are `query` and `key`: project them before, the keys once for all steps.

    Args:
        query: (..., T, A).
        key: (..., S, A).
        value: (..., S, V).
        direction: v, (A,).
        map, mask, dropout, need_weights: As of `dot_product_attention`.

    Returns:
        As `dot_product_attention`.

    Raises:
        InputError: Shapes, dtypes, mask or a number that cannot be used.

    Source: Bahdanau, Cho and Bengio 2015 (arXiv:1409.0473), section 3.1 and appendix A.1.2.
    """
    _check(query, key, value, mask, dropout)
    width = query.shape[-1]
    alike = isinstance(direction, Tensor) and direction.is_floating_point() and direction.device == query.device
    if not alike or key.shape[-1] != width or direction.shape != (width,):
        got = (
            f"{direction.dtype} {tuple(direction.shape)}" if isinstance(direction, Tensor) else type(direction).__name__
        )
        raise InputError(
            f"'key' and 'direction' must have the width of 'query', {width}, and its device. Got {key.shape[-1]} and "
            f"{got}. Project queries and keys to the width of the direction."
        )

    def score(some: Tensor, keys: Tensor) -> Tensor:
        return torch.tanh(some.unsqueeze(-2) + keys.unsqueeze(-3)) @ direction

    return _attend(score, query, key, value, map, mask, False, None, dropout, need_weights, wide=width)


class Projections(NamedTuple):
    """The matrices of `multi_head_attention`, as `torch.nn.functional.linear` takes them; biases may be None."""

    query_weight: Tensor
    """(E, E of the queries)"""
    key_weight: Tensor
    """(E, E of the keys)"""
    value_weight: Tensor
    """(E, E of the values)"""
    output_weight: Tensor
    """(E of the outputs, E)"""
    query_bias: Tensor | None = None
    key_bias: Tensor | None = None
    value_bias: Tensor | None = None
    output_bias: Tensor | None = None


def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    projections: Projections,
    *,
    heads: int,
    map: str | Map = "softmax",  # noqa: A002
    mask: Tensor | None = None,
    causal: bool = False,
    sink: Tensor | None = None,
    dropout: float = 0.0,
    need_weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention in several subspaces: `concat_h(attention(Q W_h, K W_h, V W_h)) W_o`.

    Args:
        query: (B, T, E).
        key: (B, S, E).
        value: (B, S, E).
        projections: The matrices.
        heads: H, divides E.
        mask: Broadcast to (B, H, T, S), True = may be attended to: of (B, S) for padding, use `mask[:, None, None]`.
        map, causal, dropout: As of `dot_product_attention`.
        sink: (H,), as of `dot_product_attention`.
        need_weights: Return the weights too.

    Returns:
        (B, T, E of the outputs), and the weights (B, H, T, S) before dropout, or None.

    Raises:
        InputError: `heads` does not divide E, or as of `dot_product_attention`.

    Source: Vaswani et al. 2017, section 3.2.2.
    """
    width = projections.query_weight.shape[0]
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise InputError(f"'heads' must divide the width {width} of the projections. Got {heads!r}. Use e.g. 1.")
    p = projections
    parts = (
        split_heads(linear(query, p.query_weight, p.query_bias), heads),
        split_heads(linear(key, p.key_weight, p.key_bias), heads),
        split_heads(linear(value, p.value_weight, p.value_bias), heads),
    )
    attended, weights = attend_heads(
        *parts, map=map, mask=mask, causal=causal, sink=sink, dropout=dropout, need_weights=need_weights
    )
    return linear(attended, p.output_weight, p.output_bias), weights


def attend_heads(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    map: str | Map,  # noqa: A002
    mask: Tensor | None,
    causal: bool,
    sink: Tensor | None,
    dropout: float,
    need_weights: bool,
) -> tuple[Tensor, Tensor | None]:
    """`dot_product_attention` of heads (B, H, ...), beside one another (B, T, H V), and the weights or None."""
    if not need_weights:
        attended = dot_product_attention(
            query, key, value, map=map, mask=mask, causal=causal, sink=sink, dropout=dropout
        )
        return join_heads(attended), None
    attended, weights = dot_product_attention(
        query, key, value, map=map, mask=mask, causal=causal, sink=sink, dropout=dropout, need_weights=True
    )
    return join_heads(attended), weights


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, E) -> (B, H, T, E / H)."""
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(-3, -2)


def join_heads(x: Tensor) -> Tensor:
    """(B, H, T, D) -> (B, T, H D)."""
    return x.transpose(-3, -2).flatten(-2)


class Part(NamedTuple):
    """The tensors of some of the leading axes, see `dot_product_attention`."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    sink: Tensor | None

    def split(self, size: int, axis: int, of: int) -> "list[Part]":
        """Cut along a leading axis, counted from the last one (-1), which has `of` rows.

        A tensor that the axis is broadcast over goes into every part. Not sliced but split: the gradients of the parts
        are joined once.
        """
        count = -(-of // size)

        def cut(tensor: Tensor | None, axis: int) -> Sequence[Tensor | None]:
            if tensor is None or tensor.dim() < -axis or tensor.shape[axis] == 1:
                return [tensor] * count
            return list(torch.split(tensor, size, axis))

        whole = (self.query, self.key, self.value, self.mask)
        cuts = [*(cut(each, axis - 2) for each in whole), cut(self.sink, axis)]
        return [Part(*each) for each in zip(*cuts, strict=True)]


def couples_queries(map: str | Map) -> bool:  # noqa: A002
    """Whether a map's weights of one query depend on other queries."""
    chosen = maps.get(map)
    return getattr(chosen, "func", chosen) is maps.sinkhorn or isinstance(chosen, Sinkhorn)


def check_decoder_map(map: str | Map) -> None:  # noqa: A002
    """Raise `InputError` for a map that no decoder can attend by: it has one query at a time."""
    chosen = maps.get(map)
    if couples_queries(map):
        raise InputError(
            "'map' must treat every query alone. Got sinkhorn, by which later words would change earlier ones. "
            "Use e.g. softmax."
        )
    if chosen is maps.log_softmax:
        raise InputError("'map' must give weights. Got log_softmax, which gives their logarithms. Use softmax.")


def _better_here(query: Tensor, key: Tensor, dropout: float) -> bool:
    """Whether our own path is faster than PyTorch's, as measured (`python -m benchmarks attention`)."""
    half = query.dtype == torch.bfloat16
    few = query.shape[-2] <= FEW
    stacked = torch._C._are_functorch_transforms_active()  # PyTorch's would go through the stack one by one
    return query.device.type == "cpu" and key.shape[-2] <= SHORT and (half or few or stacked or dropout > 0.0)


def _attend(
    score: Callable[[Tensor, Tensor], Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    map: str | Map,  # noqa: A002
    mask: Tensor | None,
    causal: bool,
    sink: Tensor | None,
    dropout: float,
    need_weights: bool,
    wide: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """Weigh and sum the values by the scores of all queries, in as many blocks as memory asks for.

    Args:
        score: From queries (..., some, width) and keys (..., S, width) to scores (..., some, S).
        wide: Numbers that a score is made of.
    """
    lead = _broadcast(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    queries, keys = query.shape[-2], key.shape[-2]
    whole = couples_queries(map)
    if whole and causal:
        raise InputError("'causal' needs a map that treats every query alone. Got sinkhorn. Use e.g. softmax.")

    def block(
        some: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, sink: Tensor | None, start: int
    ) -> tuple[Tensor, Tensor]:
        end = start + some.shape[-2]
        allowed = _causal(queries, key, mask, start, end) if causal else _rows(mask, start, end)
        weights = _weights(score(some, key), map, allowed, sink)
        if query.dtype == torch.float16:
            weights = weights.half()
        return drop(weights, dropout) @ value, weights

    if need_weights or math.prod(lead) * queries * keys * wide <= ROOM or torch._C._are_functorch_transforms_active():
        attended, weights = block(query, key, value, mask, sink, 0)
        return (attended, weights) if need_weights else attended

    def by_lead(part: Part, axis: int) -> Tensor:
        """The attended values of a part, which is cut along the leading axes from `axis` on, then along queries."""
        if axis == len(lead):
            return by_queries(part, queries if whole else max(1, ROOM // (keys * wide)))
        inner = math.prod(lead[axis + 1 :]) * queries * keys * wide
        some = max(1, ROOM // inner)
        parts = part.split(some, axis - len(lead), lead[axis])
        made = [by_queries(each, queries) if inner <= ROOM else by_lead(each, axis + 1) for each in parts]
        return torch.cat(made, axis - len(lead) - 2)

    def by_queries(part: Part, rows: int) -> Tensor:
        """So many queries at a time, whose scores are forgotten, and computed again in the backward pass."""
        # Copied into one tensor, not joined at the end: parts that stay would lie between the scores of one block and
        # the next, and the allocator could not use that room again.
        joined: Tensor | None = None
        for start in range(0, queries, rows):
            some = part.query[..., start : start + rows, :]
            # The state of the random numbers is kept for dropout, and for maps that draw.
            made = checkpoint(forgetful, some, *part[1:], start, use_reentrant=False)
            if rows >= queries:
                return cast(Tensor, made)
            if joined is None:
                joined = made.new_empty(*made.shape[:-2], queries, made.shape[-1])
            joined[..., start : start + rows, :] = made
        return cast(Tensor, joined)

    def forgetful(*arguments: Any) -> Tensor:
        return block(*arguments)[0]

    return by_lead(Part(query, key, value, mask, sink), 0)


def _weights(scores: Tensor, map: str | Map, mask: Tensor | None, sink: Tensor | None) -> Tensor:  # noqa: A002
    """The map along the last axis, with the sink as a key more; zeros where the mask is False."""
    if sink is not None:
        extra = sink[..., None, None].expand(*scores.shape[:-1], 1)
        scores = torch.cat([scores, extra.to(scores.dtype)], -1)
        if mask is not None:
            mask = mask.expand(*scores.shape[:-1], scores.shape[-1] - 1)
            mask = torch.cat([mask, mask.new_ones(()).expand_as(extra)], -1)
    chosen = maps.get(map)
    if chosen is maps.softmax:  # PyTorch's own, which needs no compiler
        weights = _softmax(scores, mask)
    elif mask is None:
        weights = chosen(scores, dim=-1)
    elif isinstance(map, str) or chosen in maps.OWN.values():
        weights = chosen(scores, dim=-1, mask=mask)  # type: ignore[call-arg]
    else:
        some = mask.any(-1, keepdim=True)  # a row of -inf alone would be NaN to most maps
        filled = scores.masked_fill(~mask & some, -torch.inf)
        weights = torch.where(mask, chosen(filled, dim=-1), 0.0)
    return weights if sink is None else weights[..., :-1]


def _softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return torch.softmax(scores, -1).to(scores.dtype)
    alive = mask.any(-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(~mask & alive, -torch.inf), -1).to(scores.dtype)
    return weights.masked_fill(~mask, 0.0) if not can_look(mask) or not bool(alive.all()) else weights


def _rows(mask: Tensor | None, start: int, end: int) -> Tensor | None:
    """The rows of a mask for the queries from `start` to `end`."""
    if mask is None or mask.dim() < 2 or mask.shape[-2] == 1:
        return mask
    return mask[..., start:end, :]


def _causal(queries: int, key: Tensor, mask: Tensor | None, start: int, end: int) -> Tensor:
    """Which keys the queries from `start` to `end` may attend to, of so many."""
    late = key.shape[-2] - queries
    times = torch.arange(start + late, end + late, device=key.device).unsqueeze(-1)
    past = torch.arange(key.shape[-2], device=key.device) <= times
    rows = _rows(mask, start, end)
    return past if rows is None else past & rows


def _broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    return tuple(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]


def check_dropout(dropout: float) -> None:
    """Raise `InputError` for what is no share to drop."""
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0.0 <= dropout < 1.0:
        raise InputError(f"'dropout' must lie in [0, 1). Got {dropout!r}. Use 0 for none.")


def _check(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, sink: Tensor | None = None
) -> None:
    """Raise `InputError` for what no attention can use."""
    for name, each in (("query", query), ("key", key), ("value", value)):
        if not isinstance(each, Tensor) or each.dim() < 2 or not each.is_floating_point():
            got = f"{each.dtype} of shape {tuple(each.shape)}" if isinstance(each, Tensor) else type(each).__name__
            raise InputError(
                f"{name!r} must be a floating-point tensor of two axes or more. Got {got}. Add axes, or convert it."
            )
        mixed = each.dtype != query.dtype and not torch.is_autocast_enabled(query.device.type)
        if mixed or each.device != query.device:
            raise InputError(
                f"{name!r} must be {query.dtype} on {query.device} as 'query' is. Got {each.dtype} on {each.device}. "
                "Convert it."
            )
    if key.shape[-2] != value.shape[-2]:
        raise InputError(
            f"'key' and 'value' must be as many. Got {key.shape[-2]} and {value.shape[-2]}. Each key has one value."
        )
    check_dropout(dropout)
    leads = {name: tuple(each.shape[:-2]) for name, each in (("query", query), ("key", key), ("value", value))}
    try:
        lead = _broadcast(*leads.values())
    except RuntimeError:
        got = ", ".join(f"{name} {axes}" for name, axes in leads.items())
        raise InputError(
            f"'query', 'key' and 'value' must have leading axes (batch, heads) that broadcast. Got {got}. "
            "Make them of one batch."
        ) from None
    if sink is not None:
        try:
            fits = isinstance(sink, Tensor) and _broadcast(sink.shape, lead) == lead
        except RuntimeError:
            fits = False
        if not fits:
            got = str(tuple(sink.shape)) if isinstance(sink, Tensor) else type(sink).__name__
            raise InputError(f"'sink' must be a tensor that broadcasts to the leading axes, {lead}. Got {got}.")
    if mask is not None:
        wanted = (*lead, query.shape[-2], key.shape[-2])
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.device != query.device:
            got = f"{mask.dtype} on {mask.device}" if isinstance(mask, Tensor) else type(mask).__name__
            raise InputError(
                f"'mask' must be a tensor of bool on {query.device}, True = may be attended to. Got {got}. "
                "Use mask > 0."
            )
        try:
            fits = _broadcast(mask.shape, wanted) == wanted
        except RuntimeError:
            fits = False
        if not fits:
            raise InputError(
                f"'mask' must broadcast to {wanted}, queries by keys. Got {tuple(mask.shape)}. "
                "A mask of keys alone, (B, S), needs axes for heads and queries: mask[:, None, None]."
            )

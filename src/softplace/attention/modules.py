"""Attention as modules: they hold parameters, `functions.py` has the rest.

Axis legend: B batch, T queries, S keys, E width of the model, A width of the additive score, H heads.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from softplace import maps
from softplace.attention.functions import additive_attention, attend_heads, check_dropout, split_heads
from softplace.errors import InputError
from softplace.maps import Map


class MultiHeadAttention(nn.Module):
    """Attention in several subspaces, with any map: see `multi_head_attention`.

    Args:
        width: E, of queries and outputs.
        heads: H, divides E.
        key_width: Of keys and values; None: E.
        map: From scores to weights.
        sink: Whether each head learns the score of a key without a value; it begins at 0.
        bias: Whether the projections have biases; they begin at 0.
        dropout: Of the weights, while training.
        device, dtype: Of the parameters.

    Matrices are drawn as Glorot and Bengio 2010 (uniform), those of queries, keys and values each by itself.

    >>> net = MultiHeadAttention(16, heads=4, map="entmax15")
    >>> outputs, weights = net(torch.zeros(2, 3, 16), torch.zeros(2, 5, 16), need_weights=True)
    >>> outputs.shape, weights.shape
    (torch.Size([2, 3, 16]), torch.Size([2, 4, 3, 5]))
    """

    query_weight: nn.Parameter
    key_weight: nn.Parameter
    value_weight: nn.Parameter
    output_weight: nn.Parameter
    query_bias: nn.Parameter | None
    key_bias: nn.Parameter | None
    value_bias: nn.Parameter | None
    output_bias: nn.Parameter | None
    sink: nn.Parameter | None

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        key_width: int | None = None,
        map: str | Map = "softmax",  # noqa: A002 - the word of the field
        sink: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(heads, int) or min(width, heads) < 1 or width % heads:
            raise InputError(f"'heads' must divide 'width', {width}. Got {heads}. Use e.g. 1.")
        maps.get(map)
        check_dropout(dropout)
        if isinstance(map, nn.Module):
            self.map = map  # so that what it learns is among our parameters
        self.heads, self.dropout, self._map = heads, dropout, map
        widths = {"query": width, "key": key_width or width, "value": key_width or width, "output": width}
        for name, each in widths.items():
            weight = nn.init.xavier_uniform_(torch.empty(width, each, device=device, dtype=dtype))
            self.register_parameter(f"{name}_weight", nn.Parameter(weight))
            zeros = nn.Parameter(torch.zeros(width, device=device, dtype=dtype)) if bias else None
            self.register_parameter(f"{name}_bias", zeros)
        self.register_parameter("sink", nn.Parameter(torch.zeros(heads, device=device, dtype=dtype)) if sink else None)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Outputs (B, T, E), and the weights (B, H, T, S) before dropout, or None.

        Args:
            query: (B, T, E).
            key: (B, S, key_width); None: the queries.
            value: (B, S, key_width); None: the keys.
            mask, causal, need_weights: As of `multi_head_attention`.
        """
        keys, values = self.keys_values(query if key is None else key, value)
        return self.attend(self.queries(query), keys, values, mask=mask, causal=causal, need_weights=need_weights)

    def queries(self, query: Tensor) -> Tensor:
        """Queries (B, T, E) as `attend` takes them, (B, H, T, D)."""
        return split_heads(linear(query, self.query_weight, self.query_bias), self.heads)

    def keys_values(self, key: Tensor, value: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values (B, S, key_width) as `attend` takes them, (B, H, S, D): once for many queries."""
        keys = split_heads(linear(key, self.key_weight, self.key_bias), self.heads)
        return keys, split_heads(
            linear(key if value is None else value, self.value_weight, self.value_bias), self.heads
        )

    def attend(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """What `forward` returns, from what `queries` and `keys_values` returned."""
        attended, weights = attend_heads(
            queries,
            keys,
            values,
            map=self._map,
            mask=mask,
            causal=causal,
            sink=self.sink,
            dropout=self.dropout if self.training else 0.0,
            need_weights=need_weights,
        )
        return linear(attended, self.output_weight, self.output_bias), weights

    @classmethod
    def of(cls, other: nn.MultiheadAttention, map: str | Map = "softmax") -> Self:  # noqa: A002
        """One with copies of the parameters of PyTorch's.

        Raises:
            InputError: It has what we have not.
        """
        if other.in_proj_weight is None or other.bias_k is not None or other.add_zero_attn:
            raise InputError(
                "'other' must have queries, keys and values of one width, and neither add_bias_kv nor add_zero_attn. "
                f"Got {other}. Build a MultiHeadAttention and copy its parameters."
            )
        weight, bias = other.in_proj_weight, other.in_proj_bias
        made = cls(
            other.embed_dim,
            heads=other.num_heads,
            map=map,
            bias=bias is not None,
            dropout=other.dropout,
            device=weight.device,
            dtype=weight.dtype,
        )
        with torch.no_grad():
            for name, part in zip(("query", "key", "value"), weight.chunk(3), strict=True):
                getattr(made, f"{name}_weight").copy_(part)
            made.get_parameter("output_weight").copy_(other.out_proj.weight)
            if bias is not None:
                for name, part in zip(("query", "key", "value"), bias.chunk(3), strict=True):
                    getattr(made, f"{name}_bias").copy_(part)
                made.get_parameter("output_bias").copy_(other.out_proj.bias)
        return made.train(other.training)

    def extra_repr(self) -> str:
        """What `print(net)` says."""
        name = self._map if isinstance(self._map, str) else type(self._map).__name__
        return f"{self.query_weight.shape[0]}, heads={self.heads}, map={name!r}, dropout={self.dropout}"


class AdditiveAttention(nn.Module):
    """Additive attention with its three matrices, and any map: see `additive_attention`.

    Args:
        query_width, key_width: Of queries, and of keys, which are the values too.
        width: A.
        map: From scores to weights.
        device, dtype: Of the parameters.

    Matrices are drawn from normal numbers of deviation 0.001, the direction is 0, as in the paper (appendix B.1).
    """

    def __init__(
        self,
        query_width: int,
        key_width: int,
        width: int,
        *,
        map: str | Map = "softmax",  # noqa: A002 - the word of the field
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        maps.get(map)
        if isinstance(map, nn.Module):
            self.map = map
        self._map = map
        self.query_weight = nn.Parameter(1e-3 * torch.randn(width, query_width, device=device, dtype=dtype))
        self.key_weight = nn.Parameter(1e-3 * torch.randn(width, key_width, device=device, dtype=dtype))
        self.direction = nn.Parameter(torch.zeros(width, device=device, dtype=dtype))

    def project(self, keys: Tensor) -> Tensor:
        """The keys (..., S, key_width) as `forward` takes them, (..., S, A): once for all steps."""
        return keys @ self.key_weight.mT

    def forward(
        self, query: Tensor, projected: Tensor, value: Tensor, *, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The contexts (..., T, V) and the weights (..., T, S).

        Args:
            query: (..., T, query_width).
            projected: What `project` gave, (..., S, A).
            value: (..., S, V).
            mask: Broadcast to (..., T, S), True = may be attended to.
        """
        return additive_attention(
            query @ self.query_weight.mT,
            projected,
            value,
            self.direction,
            map=self._map,
            mask=mask,
            need_weights=True,
        )

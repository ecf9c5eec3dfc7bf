"""The mixture of experts as a module: it holds parameters, `experts.py` has the rest.

Axis legend: ... any leading axes, D width, H hidden width, E experts, K choices of a token.
"""

import math
from collections.abc import Callable
from typing import Self, get_args

import torch
from torch import Tensor, nn

from softplace import maps
from softplace.errors import InputError
from softplace.latent.experts import Experts, MixtureRecord, activation_of, check_capacity, mixture_of_experts
from softplace.latent.experts_balance import update_bias
from softplace.latent.experts_routing import Capacity, Order, check_choice, check_top
from softplace.maps import Map


class MixtureOfExperts(nn.Module):
    """A layer of E small networks of which each token sees K: see `mixture_of_experts`.

    Args:
        width: D, of inputs and outputs.
        experts: E, how many there are.
        hidden: H, the hidden width of each.
        top: K, how many a token sees, from 1 to E; None: all.
        map: From the gate's scores to weights.
        order: As of `route`.
        capacity: How many tokens an expert takes; None: all that are sent to it.
        activation: Of the hidden layers.
        gated: Whether the hidden units are gated by a second matrix (Shazeer 2020, arXiv:2002.05202): SwiGLU with the
            activation "silu".
        shared: How many more experts see every token.
        bias: Whether the layers have biases.
        device, dtype: Of the parameters.

    Parameters are drawn as `torch.nn.Linear` draws them, each expert by itself. `balance_bias` (E,) is a buffer of
    float32 in a net of any dtype, zeros until you call `update_bias` with the record's counts after a step of training.

    Raises:
        InputError: A size below 1, or choices that cannot be used.

    >>> net = MixtureOfExperts(16, experts=8, hidden=32, map="sparsemax", capacity=Capacity(1.25))
    >>> outputs, record = net(torch.zeros(2, 5, 16))
    >>> outputs.shape, record.weights.shape, record.counts.sum().item()
    (torch.Size([2, 5, 16]), torch.Size([2, 5, 2]), 20)
    """

    gate: nn.Parameter
    up: nn.Parameter
    balance_bias: Tensor

    def __init__(
        self,
        width: int,
        *,
        experts: int,
        hidden: int,
        top: int | None = 2,
        map: str | Map = "softmax",  # noqa: A002 - the word of the field
        order: Order = "map-top-normalise",
        capacity: Capacity | None = None,
        activation: str | Map = "gelu",
        gated: bool = False,
        shared: int = 0,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = (("width", width, 1), ("experts", experts, 1), ("hidden", hidden, 1), ("shared", shared, 0))
        for name, size, least in sizes:
            if not isinstance(size, int) or isinstance(size, bool) or size < least:
                raise InputError(f"{name!r} must be a whole number from {least}. Got {size!r}. Use e.g. {least + 7}.")
        check_top(top, experts)
        check_choice("order", order, get_args(Order))
        check_capacity(capacity, top, experts)
        maps.get(map)
        activation_of(activation)
        self.top, self.order, self.capacity, self._map, self._activation = top, order, capacity, map, activation
        for name, each in (("map", map), ("activation", activation)):
            if isinstance(each, nn.Module):
                setattr(self, name, each)  # so that what it learns is among our parameters

        def draw(*shape: int, fan_in: int) -> nn.Parameter:
            bound = 1.0 / math.sqrt(fan_in)
            return nn.Parameter(torch.empty(*shape, device=device, dtype=dtype).uniform_(-bound, bound))

        self.gate = draw(experts, width, fan_in=width)
        for prefix, number in (("", experts), ("shared_", shared)):
            shapes: dict[str, tuple[int, ...]] = {"up": (hidden, width), "down": (width, hidden)}
            shapes |= {"linear": (hidden, width)} if gated else {}
            shapes |= {"up_bias": (hidden,), "down_bias": (width,)} if bias else {}
            for field in Experts._fields:
                fan_in = hidden if field.startswith("down") else width
                made = draw(number, *shapes[field], fan_in=fan_in) if number and field in shapes else None
                self.register_parameter(prefix + field, made)
        self.register_buffer("balance_bias", torch.zeros(experts, device=device, dtype=torch.float32))

    def forward(self, inputs: Tensor, *, mask: Tensor | None = None) -> tuple[Tensor, MixtureRecord]:
        """Outputs (..., D), and the record.

        Args:
            inputs: (..., D).
            mask: As of `mixture_of_experts`.
        """
        return mixture_of_experts(
            inputs,
            self.gate,
            self._experts(""),
            shared=self._experts("shared_") if self.shared_up is not None else None,
            activation=self._activation,
            map=self._map,
            top=self.top,
            order=self.order,
            bias=self.balance_bias,
            mask=mask,
            capacity=self.capacity,
        )

    @torch.no_grad()
    def update_bias(self, counts: Tensor, rate: float = 1e-3) -> None:
        """Move `balance_bias` one step towards even counts, in place: see the function `update_bias`.

        Args:
            counts: (E,), of the record of the last batch; with many devices, summed over them.
            rate: The step.
        """
        self.balance_bias.copy_(update_bias(self.balance_bias, counts, rate))

    def _experts(self, prefix: str) -> Experts:
        return Experts(*(getattr(self, prefix + field) for field in Experts._fields))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """`nn.Module`'s, but the bias stays in float32: half precision would lose its small steps."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.balance_bias = self.balance_bias.float()
        return self

    def extra_repr(self) -> str:
        """What `print(net)` says."""
        experts, hidden, width = self.up.shape
        name = self._map if isinstance(self._map, str) else type(self._map).__name__
        return (
            f"{width}, experts={experts}, hidden={hidden}, top={self.top}, map={name!r}, order={self.order!r}, "
            f"capacity={self.capacity}"
        )

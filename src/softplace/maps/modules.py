"""Every map as an `nn.Module`: it holds the options, and what is learned of them; the function does the rest.

>>> import torch
>>> attention = Entmax(dim=-1, alpha=1.25, learn=8)  # one alpha for each of 8 heads
>>> attention(torch.randn(2, 8, 5, 5)).shape, [name for name, _ in attention.named_parameters()]
(torch.Size([2, 8, 5, 5]), ['raw_alpha'])
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from softplace.maps import activations, alternatives, doubly_stochastic, selection, simplex, sparse
from softplace.maps._arguments import kind


class MapModule(nn.Module):
    """A map with its options: `module(scores, mask)` is `function(scores, dim, mask=mask, ...)`.

    Arguments are those of the function, which checks them where it is called.
    """

    function: ClassVar[Callable[..., Tensor]]
    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, dim: int = -1, *, temperature: float = 1.0) -> None:
        super().__init__()
        self.dim = dim
        self.temperature = temperature

    def __init_subclass__(cls) -> None:
        """A module without options of its own gets its own `__init__`, so that Python's errors name it."""
        super().__init_subclass__()
        if "__init__" not in vars(cls):

            def __init__(self: MapModule, dim: int = -1, *, temperature: float = 1.0) -> None:  # noqa: N807
                MapModule.__init__(self, dim, temperature=temperature)

            __init__.__qualname__ = f"{cls.__qualname__}.__init__"
            cls.__init__ = __init__  # type: ignore[method-assign]

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """The weights of the scores; `mask` is boolean, `True` = take part."""
        options = {name: getattr(self, name) for name in self.options}
        return type(self).function(scores, self.dim, mask=mask, temperature=self.temperature, **options)

    def extra_repr(self) -> str:
        """The dim, and what is not as it comes.

        >>> TopkSoftmax(k=3), Softmax(dim=1, temperature=0.5)
        (TopkSoftmax(dim=-1, k=3), Softmax(dim=1, temperature=0.5))
        """
        shown: dict[str, Any] = {"dim": self.dim}
        if self.temperature != 1.0:
            shown["temperature"] = self.temperature
        shown |= {name: getattr(self, name) for name in self.options}
        return ", ".join(f"{name}={_shown(value)}" for name, value in shown.items())


def _shown(value: object) -> str:
    if isinstance(value, Tensor):
        return f"learned of shape {tuple(value.shape)}" if value.requires_grad else f"tensor of {tuple(value.shape)}"
    return repr(value)


def _learned(
    module: str, option: str, start: float, switch: str, learn: bool | int | Sequence[int]
) -> tuple[float, tuple[int, ...]] | None:
    """Where to start and the shape of what is learned, both checked; `None` where nothing is.

    `True`: one number. An integer: one for each head, of scores `(..., heads, queries, keys)`. Else a shape.
    """
    if learn is False:
        return None
    shape = () if learn is True else (learn, 1, 1) if isinstance(learn, int) else learn
    if not isinstance(shape, Sequence) or not all(type(size) is int for size in shape):
        raise TypeError(
            f"'{switch}' of {module} must be True, False, a number of heads or a shape. Got {learn!r}. "
            f"Use True to learn one {option}."
        )
    if any(size < 1 for size in shape):
        raise ValueError(
            f"'{switch}' of {module} must be at least 1 where it is not True or False. Got {learn!r}. "
            f"Use True to learn one {option}, False for none."
        )
    if not isinstance(start, (int, float)) or isinstance(start, bool):
        raise TypeError(f"'{option}' of {module} must be a number to be learned. Got {kind(start)}. Use e.g. 1.5.")
    return start, tuple(shape)


class Softmax(MapModule):
    """`softplace.maps.softmax` as a module."""

    function = staticmethod(simplex.softmax)


class LogSoftmax(MapModule):
    """`softplace.maps.log_softmax` as a module."""

    function = staticmethod(simplex.log_softmax)


class Softmax1(MapModule):
    """`softplace.maps.softmax1` as a module, its sink fixed or learned.

    Args:
        dim, temperature, sink: as the function.
        learn_sink: Learn the sink, from `sink` on: `True` for one, the number of heads for one per head (of scores
            `(..., heads, queries, keys)`), or a shape that broadcasts to the scores with size 1 along `dim`.
    """

    function = staticmethod(simplex.softmax1)
    options = ("sink",)

    def __init__(
        self,
        dim: int = -1,
        *,
        temperature: float = 1.0,
        sink: float = 0.0,
        learn_sink: bool | int | Sequence[int] = False,
    ) -> None:
        super().__init__(dim, temperature=temperature)
        self.sink: float | nn.Parameter = sink
        if learned := _learned("Softmax1", "sink", sink, "learn_sink", learn_sink):
            start, shape = learned
            if not math.isfinite(start):
                raise ValueError(f"'sink' of Softmax1 must be finite to be learned. Got {start}. Use e.g. 0.0.")
            self.sink = nn.Parameter(torch.full(shape, float(start)))


class GumbelSoftmax(MapModule):
    """`softplace.maps.gumbel_softmax` as a module; it draws noise whether it is training or not."""

    function = staticmethod(simplex.gumbel_softmax)
    options = ("hard", "generator")

    def __init__(
        self,
        dim: int = -1,
        *,
        temperature: float = 1.0,
        hard: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(dim, temperature=temperature)
        self.hard = hard
        self.generator = generator


class Sparsemax(MapModule):
    """`softplace.maps.sparsemax` as a module."""

    function = staticmethod(sparse.sparsemax)


class Entmax15(MapModule):
    """`softplace.maps.entmax15` as a module."""

    function = staticmethod(sparse.entmax15)


class Entmax(MapModule):
    """`softplace.maps.entmax` as a module, its alpha fixed or learned.

    A learned alpha is `1 + softplus(raw_alpha)`: above 1 for every value of the parameter, with a gradient everywhere
    and no upper end. (Correia, Niculae and Martins 2019, arXiv:1909.00015, take `1 + sigmoid`, which ends at 2.)

    Args:
        dim, temperature, alpha: as the function.
        learn: Learn alpha, from `alpha` on, which must be above 1: `True` for one, the number of heads for one per head
            (of scores `(..., heads, queries, keys)`), or a shape that broadcasts to the scores with size 1 along `dim`.

    Raises:
        TypeError, ValueError: `alpha` is not a number above 1 and finite, and learned; `learn` is none of the above.
    """

    function = staticmethod(sparse.entmax)
    options = ("alpha",)

    def __init__(
        self,
        dim: int = -1,
        *,
        temperature: float = 1.0,
        alpha: float = 1.5,
        learn: bool | int | Sequence[int] = False,
    ) -> None:
        super().__init__(dim, temperature=temperature)
        self.raw_alpha: nn.Parameter | None = None
        self._alpha = alpha
        if learned := _learned("Entmax", "alpha", alpha, "learn", learn):
            alpha, shape = learned
            if not (math.isfinite(alpha) and alpha > 1):
                raise ValueError(
                    f"'alpha' of Entmax must be above 1 and finite to be learned. Got {alpha}. Use e.g. 1.5."
                )
            # The inverse of 1 + softplus, by a form that no alpha overflows.
            start = alpha - 1 + math.log(-math.expm1(1 - alpha))
            self.raw_alpha = nn.Parameter(torch.full(shape, start))

    @property
    def alpha(self) -> float | Tensor:
        """The alpha that the next call takes."""
        return self._alpha if self.raw_alpha is None else 1 + nn.functional.softplus(self.raw_alpha)


class Normmax(MapModule):
    """`softplace.maps.normmax` as a module."""

    function = staticmethod(selection.normmax)
    options = ("alpha",)

    def __init__(self, dim: int = -1, *, temperature: float = 1.0, alpha: float = 2.0) -> None:
        super().__init__(dim, temperature=temperature)
        self.alpha = alpha


class TopkSoftmax(MapModule):
    """`softplace.maps.topk_softmax` as a module."""

    function = staticmethod(selection.topk_softmax)
    options = ("k",)

    def __init__(self, dim: int = -1, *, temperature: float = 1.0, k: int = 2) -> None:
        super().__init__(dim, temperature=temperature)
        self.k = k


class Hardmax(MapModule):
    """`softplace.maps.hardmax` as a module."""

    function = staticmethod(selection.hardmax)


class Uniform(MapModule):
    """`softplace.maps.uniform` as a module."""

    function = staticmethod(selection.uniform)


class KSubset(MapModule):
    """`softplace.maps.k_subset` as a module."""

    function = staticmethod(selection.k_subset)
    options = ("k",)

    def __init__(self, dim: int = -1, *, temperature: float = 1.0, k: int = 2) -> None:
        super().__init__(dim, temperature=temperature)
        self.k = k


class Sinkhorn(MapModule):
    """`softplace.maps.sinkhorn` as a module."""

    function = staticmethod(doubly_stochastic.sinkhorn)
    options = ("other_dim", "iterations")

    def __init__(
        self,
        dim: int = -1,
        *,
        temperature: float = 1.0,
        other_dim: int | None = None,
        iterations: int | None = None,
    ) -> None:
        super().__init__(dim, temperature=temperature)
        self.other_dim = other_dim
        self.iterations = iterations


class Sigsoftmax(MapModule):
    """`softplace.maps.sigsoftmax` as a module."""

    function = staticmethod(alternatives.sigsoftmax)


class TaylorSoftmax(MapModule):
    """`softplace.maps.taylor_softmax` as a module."""

    function = staticmethod(alternatives.taylor_softmax)
    options = ("order",)

    def __init__(self, dim: int = -1, *, temperature: float = 1.0, order: int = 2) -> None:
        super().__init__(dim, temperature=temperature)
        self.order = order


class Softpick(MapModule):
    """`softplace.maps.softpick` as a module."""

    function = staticmethod(alternatives.softpick)


class Periodic(MapModule):
    """`softplace.maps.periodic` as a module."""

    function = staticmethod(alternatives.periodic)


class SigmoidNormalised(MapModule):
    """`softplace.maps.sigmoid_normalised` as a module."""

    function = staticmethod(alternatives.sigmoid_normalised)


class ReluNormalised(MapModule):
    """`softplace.maps.relu_normalised` as a module."""

    function = staticmethod(alternatives.relu_normalised)


class Identity(MapModule):
    """`softplace.maps.identity` as a module."""

    function = staticmethod(activations.identity)


class Sigmoid(MapModule):
    """`softplace.maps.sigmoid` as a module."""

    function = staticmethod(activations.sigmoid)
    options = ("bias",)

    def __init__(self, dim: int = -1, *, temperature: float = 1.0, bias: float | Literal["-log n"] = 0.0) -> None:
        super().__init__(dim, temperature=temperature)
        self.bias = bias


class Tanh(MapModule):
    """`softplace.maps.tanh` as a module."""

    function = staticmethod(activations.tanh)


class Relu(MapModule):
    """`softplace.maps.relu` as a module."""

    function = staticmethod(activations.relu)


class Gelu(MapModule):
    """`softplace.maps.gelu` as a module."""

    function = staticmethod(activations.gelu)


class Solu(MapModule):
    """`softplace.maps.solu` as a module."""

    function = staticmethod(activations.solu)

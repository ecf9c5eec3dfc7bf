"""Adaptive softmax: frequent classes in a head, rare ones in tails of less width behind one class of the head each.

Axis legend: ... any leading axes, E width of the hidden state, V classes, K tails, F classes of the head, S classes of
a tail, D width of a tail.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from softplace.errors import InputError
from softplace.maps import log_softmax
from softplace.maps._linear_arguments import check_head
from softplace.maps.linear import linear_cross_entropy
from softplace.output._arguments import check_sizes
from softplace.output._reduction import checked, reduced


class Tail(NamedTuple):
    """Rare classes."""

    project: Tensor
    """(D, E)."""
    weight: Tensor
    """(S, D)."""


class Adaptive(NamedTuple):
    """The matrices of an adaptive softmax. Classes are in the order of their frequency, the most frequent first."""

    head: Tensor
    """(F + K, E): the first F classes, then one per tail."""
    tails: tuple[Tail, ...]
    bias: Tensor | None = None
    """Of the head, (F + K,)."""

    @property
    def classes(self) -> int:
        """V."""
        return self.shortlist + sum(tail.weight.shape[0] for tail in self.tails)

    @property
    def shortlist(self) -> int:
        """F."""
        return self.head.shape[0] - len(self.tails)

    @property
    def starts(self) -> list[int]:
        """The first class of each tail, and V."""
        found = [self.shortlist]
        for tail in self.tails:
            found.append(found[-1] + tail.weight.shape[0])
        return found


def adaptive_softmax(
    hidden: Tensor, target: Tensor, parts: Adaptive, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy of an adaptive softmax.

        p(v) = softmax(H h)_v                                for v among the head's F classes
        p(v) = softmax(H h)_(F + k) softmax(W_k P_k h)_v      for v in tail k

    No logits are kept: head and tails are `linear_cross_entropy`, and a tail multiplies its own tokens alone.

    Args:
        hidden: h, (..., E).
        target: Class indices (...).
        parts: H, P and W.
        ignore_index, reduction: as `linear_cross_entropy`.

    Returns:
        The loss, in float32 or wider: () or (...).

    Raises:
        TypeError, ValueError: As `linear_cross_entropy`, with the class counted over head and tails.

    Source: Grave et al. 2017 (arXiv:1609.04309). The values are those of
    `torch.nn.AdaptiveLogSoftmaxWithLoss`, which takes one leading axis and has neither `ignore_index` nor `reduction`.

    >>> import torch
    >>> parts = Adaptive(torch.zeros(3, 4), (Tail(torch.zeros(2, 4), torch.zeros(5, 2)),))
    >>> [round(adaptive_softmax(torch.zeros(1, 4), torch.tensor([v]), parts).exp().item(), 4) for v in (0, 6)]
    [3.0, 15.0]
    """
    _check_parts("adaptive_softmax", hidden, parts)
    counts = checked("adaptive_softmax", hidden, parts.head, target, parts.bias, parts.classes, ignore_index, reduction)
    target, starts = target.long(), parts.starts
    inside = reduction if reduction == "none" else "sum"
    cluster = torch.bucketize(target, torch.tensor(starts[:-1], device=target.device), right=True)
    first = torch.where(cluster == 0, target, parts.shortlist - 1 + cluster)
    first = torch.where(counts, first, -100)
    rows = linear_cross_entropy(hidden, parts.head, first, parts.bias, reduction=inside)
    for number, (tail, start) in enumerate(zip(parts.tails, starts, strict=False)):
        rest = torch.where(counts & (cluster == number + 1), target - start, -100)
        rows = rows + linear_cross_entropy(linear(hidden, tail.project), tail.weight, rest, reduction=inside)
    return reduced(rows, counts, reduction)


def adaptive_log_softmax(hidden: Tensor, parts: Adaptive) -> Tensor:
    """Logarithms of the probabilities of all classes.

    Args:
        hidden: (..., E).
        parts: As of `adaptive_softmax`.

    Returns:
        (..., V), in the dtype of `hidden`.

    >>> import torch
    >>> parts = Adaptive(torch.zeros(3, 4), (Tail(torch.zeros(2, 4), torch.zeros(5, 2)),))
    >>> round(adaptive_log_softmax(torch.ones(4), parts).exp().sum().item(), 6)
    1.0
    """
    _check_parts("adaptive_log_softmax", hidden, parts)
    check_head("adaptive_log_softmax", hidden, parts.head, parts.bias)
    head = log_softmax(linear(hidden, parts.head, parts.bias))
    found = [head[..., : parts.shortlist]]
    for number, tail in enumerate(parts.tails):
        inner = log_softmax(linear(linear(hidden, tail.project), tail.weight))
        found.append(inner + head[..., parts.shortlist + number, None])
    return torch.cat(found, -1)


class AdaptiveSoftmax(nn.Module):
    """The head and the tails: see `adaptive_softmax`.

    Args:
        width: E.
        classes: V.
        cutoffs: The first class of each tail, increasing, from 1 to V - 1; none: one softmax of all.
        divisor: Tail k has width `E / divisor^k`, k from 1, and at least 1.
        bias: Whether the head has one.
        device, dtype: Of the parameters, which are drawn as `torch.nn.Linear` draws them.

    Raises:
        InputError: A size or a cutoff that cannot be used.

    >>> net = AdaptiveSoftmax(16, 1000, cutoffs=(100, 400))
    >>> net(torch.zeros(2, 5, 16), torch.full((2, 5), 999)).shape, net.log_prob(torch.zeros(16)).shape
    (torch.Size([]), torch.Size([1000]))
    """

    def __init__(
        self,
        width: int,
        classes: int,
        cutoffs: Sequence[int],
        *,
        divisor: float = 4.0,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes(width=width, classes=classes)
        edges = [*cutoffs, classes] if isinstance(cutoffs, Sequence) else []
        whole = bool(edges) and all(isinstance(each, int) and not isinstance(each, bool) for each in edges)
        if not whole or any(one >= other for one, other in zip([0, *edges], edges, strict=False)):
            raise InputError(
                f"'cutoffs' must be whole numbers that increase, from 1 to {classes - 1}. "
                f"Got {edges[:-1] or cutoffs!r}. Use e.g. {[max(1, classes // 10)]}."
            )
        if not isinstance(divisor, (int, float)) or not divisor >= 1.0:
            raise InputError(f"'divisor' must be at least 1. Got {divisor!r}. Use 4.0.")
        where = {"device": device, "dtype": dtype}
        self.head = nn.Linear(width, edges[0] + len(edges) - 1, bias=bias, **where)
        self.projects, self.tails = nn.ModuleList(), nn.ModuleList()
        for number, (start, end) in enumerate(pairwise(edges), start=1):
            narrow = max(1, int(width / divisor**number))
            self.projects.append(nn.Linear(width, narrow, bias=False, **where))
            self.tails.append(nn.Linear(narrow, end - start, bias=False, **where))

    @classmethod
    def of(cls, other: nn.AdaptiveLogSoftmaxWithLoss) -> Self:
        """A copy of PyTorch's."""
        head = other.head
        made = cls(
            other.in_features,
            other.n_classes,
            other.cutoffs[:-1],
            divisor=other.div_value,
            bias=head.bias is not None,
            device=head.weight.device,
            dtype=head.weight.dtype,
        )
        made.head.load_state_dict(head.state_dict())
        pairs = (cast(nn.Sequential, each) for each in other.tail)
        for project, tail, (first, second) in zip(made.projects, made.tails, pairs, strict=True):
            project.load_state_dict(first.state_dict())
            tail.load_state_dict(second.state_dict())
        return made

    @property
    def parts(self) -> Adaptive:
        """The matrices, as the functions take them."""
        pairs = zip(self.projects, self.tails, strict=True)
        tails = tuple(Tail(*(cast(nn.Linear, each).weight for each in pair)) for pair in pairs)
        return Adaptive(self.head.weight, tails, self.head.bias)

    def forward(self, hidden: Tensor, target: Tensor, *, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
        """The loss, as `adaptive_softmax`."""
        return adaptive_softmax(hidden, target, self.parts, ignore_index=ignore_index, reduction=reduction)

    def log_prob(self, hidden: Tensor) -> Tensor:
        """As `adaptive_log_softmax`."""
        return adaptive_log_softmax(hidden, self.parts)


def _check_parts(name: str, hidden: Tensor, parts: Adaptive) -> None:
    if not isinstance(parts, Adaptive):
        raise TypeError(
            f"'parts' of {name} must be an Adaptive. Got {type(parts).__name__}. Use AdaptiveSoftmax.parts."
        )
    check_head(name, hidden, parts.head, parts.bias)
    if parts.shortlist < 1:
        raise ValueError(
            f"'parts' of {name} must have a class of its own in the head. Got {parts.head.shape[0]} rows for "
            f"{len(parts.tails)} tails. The head has a row per class and one per tail."
        )
    for number, tail in enumerate(parts.tails):
        shapes = tuple(tail.project.shape), tuple(tail.weight.shape)
        if (
            any(len(shape) != 2 for shape in shapes)
            or shapes[0][1] != hidden.shape[-1]
            or shapes[1][1] != shapes[0][0]
            or shapes[1][0] < 1
        ):
            raise ValueError(
                f"Tail {number} of {name} must be (D, {hidden.shape[-1]}) and (S, D). Got {shapes[0]} and {shapes[1]}. "
                "A tail is a projection and its classes' weights."
            )

"""How losses per token become one loss, and which tokens count."""

import torch
from torch import Tensor

from softplace.maps._linear_arguments import check_head, check_range, check_target
from softplace.maps.losses import check_options


def checked(
    name: str,
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    size: int | None,
    ignore_index: int,
    reduction: str,
) -> Tensor:
    """Check the arguments of a loss of class indices; returns which tokens count.

    `size` is the number of classes; None: the rows of `weight`.
    """
    check_head(name, hidden, weight, bias)
    check_options(name, 0.0, ignore_index, reduction)
    size = weight.shape[0] if size is None else size
    if isinstance(target, Tensor) and target.is_floating_point():
        raise TypeError(
            f"'target' of {name} must be class indices (an integer tensor). Got a tensor of {target.dtype}. "
            "Use target.long(); distributions have no such loss."
        )
    check_target(name, hidden, size, target, ignore_index)
    check_range(name, target, ignore_index, size)
    return target.long() != ignore_index


def without_ignored(hidden: Tensor, counts: Tensor) -> Tensor:
    """Hidden states, 0 where a token does not count: what is not finite there is kept out of all gradients."""
    return torch.where(counts.unsqueeze(-1), hidden, 0.0)


def reduced(rows: Tensor, counts: Tensor, reduction: str) -> Tensor:
    """The losses of tokens, of which those that do not count are 0, as they are or their sum or mean; 0 of nothing."""
    if reduction == "none":
        return rows
    total = rows.sum()
    return total if reduction == "sum" else total / torch.clamp(counts.sum(), min=1)

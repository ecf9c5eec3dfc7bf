"""Maps of ragged rows: entries along axis 0 belong to segments, given by one index per entry, in any order.

Axis legend: N entries, K segments; scores have the shape (N, ...), and every other axis is a batch axis.
"""

import math

import torch
from torch import Tensor

from softplace.maps._arguments import can_look, check_device, kind, prepare, wide_type

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
# Each segment costs memory, empty ones too.
_MOST = 2**31 - 1


def segment_softmax(
    scores: Tensor,
    segments: Tensor,
    count: int | None = None,
    *,
    mask: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Softmax within segments, `p_i = exp(s_i / t) / sum_(j: segment of j = segment of i) exp(s_j / t)`.

    Args:
        scores: Real scores of shape (N, ...).
        segments: Integers of shape (N,), the segment of each entry: from 0 on, in any order; some may be empty.
        count: How many segments there are. By default one more than the largest of `segments`, which is read for it;
            give it under `torch.compile` and where reading waits for a GPU.
        mask, temperature: as `softmax`. A segment in which nothing takes part gets zeros.

    Returns:
        Weights of the shape and dtype of `scores`.

    Raises:
        TypeError: `segments` is not a tensor of integers, `count` is not an integer, or as `softmax`.
        ValueError: `segments` has another shape or device, a negative entry, or one that is `count` or more.

    >>> import torch
    >>> weights = segment_softmax(torch.tensor([3.00, 2.0, 1.00, 0.10]), torch.tensor([0, 1, 0, 1]))
    >>> [round(weight, 3) for weight in weights.tolist()]
    [0.881, 0.87, 0.119, 0.13]
    """
    scores, segments, mask, count = _prepare("segment_softmax", scores, segments, count, mask, temperature)
    if scores.numel() == 0:
        return scores.clone()
    difference, alive = _centred(scores, segments, count, mask, temperature)
    powers = torch.where(alive, difference.exp(), 0.0)
    total = _sum(powers, segments, count)
    return (powers / torch.where(total == 0, 1.0, total)[segments]).to(scores.dtype)


def segment_sparsemax(
    scores: Tensor,
    segments: Tensor,
    count: int | None = None,
    *,
    mask: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Sparsemax within segments, `p_i = max(s_i / t - tau, 0)`, one tau per segment, that of the entries' sum 1.

    Args, Returns and Raises: as `segment_softmax`. The method is that of `sparsemax`, with sums over segments, and pads
    nothing.

    >>> import torch
    >>> segment_sparsemax(torch.tensor([3.00, 2.0, 2.50, 0.10]), torch.tensor([0, 1, 0, 1])).tolist()
    [0.75, 1.0, 0.25, 0.0]
    """
    scores, segments, mask, count = _prepare("segment_sparsemax", scores, segments, count, mask, temperature)
    if scores.numel() == 0:
        return scores.clone()
    difference, alive = _centred(scores, segments, count, mask, temperature)
    # As in `sparsemax`; an entry that takes no part is far below any threshold.
    bounded = torch.where(alive, difference.clamp(min=-2.0), -2.0)
    detached = bounded.detach()
    threshold = torch.full((count, *scores.shape[1:]), -1.0, dtype=bounded.dtype, device=bounded.device)
    size = scores.shape[0]
    bits = 53 if bounded.dtype == torch.float64 else 24
    for _ in range(math.ceil(math.log2(size) + bits / 2) if size > 1 else 0):
        excess = torch.relu(detached - threshold[segments])
        before = threshold
        slope = _sum(excess.sign(), segments, count)
        threshold = before + torch.where(slope == 0, 0.0, (_sum(excess, segments, count) - 1.0) / slope.clamp(min=1.0))
        if can_look(threshold) and torch.equal(before, threshold):
            break
    support = torch.relu(detached - threshold[segments]).sign()
    exact = (_sum(bounded * support, segments, count) - 1.0) / _sum(support, segments, count).clamp(min=1.0)
    return torch.where(alive, torch.relu(bounded - exact[segments]), 0.0).to(scores.dtype)


def _prepare(
    name: str, scores: Tensor, segments: Tensor, count: int | None, mask: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor, Tensor | None, int]:
    scores, _, mask = prepare(name, scores, 0, mask, temperature)
    if scores.dim() == 0:
        raise ValueError(f"'scores' of {name} must have an axis of entries. Got the shape (). Use scores.unsqueeze(0).")
    if not isinstance(segments, Tensor) or segments.dtype not in _INTEGERS:
        raise TypeError(
            f"'segments' of {name} must be a tensor of integers. Got {kind(segments)}. Use segments.long()."
        )
    if segments.shape != scores.shape[:1]:
        raise ValueError(
            f"'segments' of {name} must have the shape {tuple(scores.shape[:1])}, one for each entry along axis 0. "
            f"Got {tuple(segments.shape)}. Move the axis of the entries to the front."
        )
    check_device("segments", name, segments, scores)
    if count is not None and (not isinstance(count, int) or isinstance(count, bool)):
        raise TypeError(f"'count' of {name} must be an integer or None. Got {kind(count)}. Use None.")
    if count is not None and count < 0:
        raise ValueError(f"'count' of {name} must not be negative. Got {count}. Use None.")
    if count is not None and count > _MOST:
        raise ValueError(f"'count' of {name} must be at most {_MOST}. Got {count}. Use None.")
    segments = segments.long()
    if count is None or can_look(segments):
        least, needed = (int(segments.min()), int(segments.max()) + 1) if segments.numel() else (0, 0)
        if least < 0:
            raise ValueError(
                f"'segments' of {name} must not be negative. Got {least}. Use the mask to leave entries out."
            )
        if needed > _MOST:
            raise ValueError(
                f"'segments' of {name} must be below {_MOST}. Got {needed - 1}. "
                "Number them from 0 on, e.g. by segments.unique(return_inverse=True)[1]."
            )
        if count is not None and count < needed:
            raise ValueError(
                f"'count' of {name} must be above every segment, at least {needed}. Got {count}. Use None."
            )
        count = needed if count is None else count
    return scores, segments, mask, count


def _sum(values: Tensor, segments: Tensor, count: int) -> Tensor:
    """The sum of each segment, of shape (K, ...)."""
    return torch.zeros((count, *values.shape[1:]), dtype=values.dtype, device=values.device).index_add(
        0, segments, values
    )


def _centred(
    scores: Tensor, segments: Tensor, count: int, mask: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """The scores less the maximum of their segment, over the temperature, and which of them take part.

    In a segment with +inf only these take part, and are 0. What takes no part is 0 as well, and has no derivative.
    """
    wide = scores.to(wide_type(scores.dtype))
    wide = wide if mask is None else wide.masked_fill(~mask, -math.inf)
    values = wide.detach()
    index = segments.view(-1, *[1] * (values.dim() - 1)).expand_as(values)
    lowest = torch.full((count, *values.shape[1:]), -math.inf, dtype=values.dtype, device=values.device)
    top = lowest.scatter_reduce(0, index, values, "amax")[segments]
    alive = torch.where(top == math.inf, values == math.inf, values != -math.inf)
    difference = torch.where(alive & (top != math.inf), wide, 0.0) - torch.where(top.isinf() | ~alive, 0.0, top)
    return difference / temperature, alive

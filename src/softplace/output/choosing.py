"""The best classes of a linear head, and samples from it: by blocks of classes, without all logits and without a sort.

Axis legend: ... any leading axes, inside N tokens; E width of the hidden state, V classes, K choices.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from softplace.maps._arguments import can_look, kind, wide_type
from softplace.maps._linear_arguments import check_extras, check_head

ENTRIES = 1 << 21
"""Logits in a block."""
FIRST = 256
"""Classes that are looked at first where probabilities decide how many are kept; sixteen times more where too few."""


class Choices(NamedTuple):
    """The best classes, the best first."""

    classes: Tensor
    """Their indices, (..., K)."""
    log_prob: Tensor
    """(..., K), in float32 or wider."""


class Draw(NamedTuple):
    """Sampled classes."""

    classes: Tensor
    """Their indices, (...)."""
    log_prob: Tensor
    """Under the distribution that was drawn from, after temperature and cuts; (...), in float32 or wider."""


def top_k(
    hidden: Tensor,
    weight: Tensor,
    k: int,
    bias: Tensor | None = None,
    *,
    temperature: float = 1.0,
    soft_cap: float | None = None,
) -> Choices:
    """The K classes of the largest `softmax((W h + b) / t)`, with logarithms of their probabilities.

    Args:
        hidden: h, (..., E). Gradients are not recorded.
        weight: W, (V, E).
        k: K, from 1 to V.
        bias: b, (V,).
        temperature: t, positive.
        soft_cap: As of `linear_cross_entropy`.

    Returns:
        The choices; among equals any order. A row with a NaN gives NaN.

    Raises:
        TypeError, ValueError: As `linear_cross_entropy`; K is out of range.

    >>> import torch
    >>> choices = top_k(torch.ones(1), torch.tensor([[0.0], [2.0], [1.0]]), 2)
    >>> choices.classes.tolist(), [round(each, 4) for each in choices.log_prob.exp().tolist()]
    ([1, 2], [0.6652, 0.2447])
    """
    _check("top_k", hidden, weight, bias, temperature, soft_cap)
    check_count("k", "top_k", k, weight.shape[0])
    with torch.no_grad():
        values, index, normaliser = _best(hidden, weight, bias, k, temperature, soft_cap)
    shape = (*hidden.shape[:-1], k)
    return Choices(index.reshape(shape), (values - normaliser.unsqueeze(-1)).reshape(shape))


def sample(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    soft_cap: float | None = None,
    generator: torch.Generator | None = None,
) -> Draw:
    """A class drawn from `softmax((W h + b) / t)`, perhaps cut, exactly.

    Cuts apply in this order, each to what the one before left and normalised: the K most likely; of these the smallest
    set of the most likely that holds probability P or more; of these the ones at least M times as likely as the
    likeliest. Without a cut a block of classes is drawn from at a time, and with one the classes that are left, by the
    argmax with Gumbel noise; they are selected, and not sorted out of all.

    Args:
        hidden: h, (..., E). Gradients are not recorded.
        weight: W, (V, E).
        bias: b, (V,).
        temperature: t, positive; for the limit 0 take `top_k(hidden, weight, 1)`.
        top_k: K, from 1 to V; None for no such cut.
        top_p: P, in (0, 1] (Holtzman et al. 2020, arXiv:1904.09751, section 3.1).
        min_p: M, in [0, 1] (Nguyen et al. 2024, arXiv:2407.01082, section 3).
        soft_cap: As of `linear_cross_entropy`.
        generator: Draws the noise.

    Returns:
        The classes, with logarithms of their probabilities under the distribution drawn from.

    Raises:
        TypeError, ValueError: As `linear_cross_entropy`; a cut is out of range; a row of logits holds a NaN or has
            nothing to draw from (looked at on a CPU).

    >>> import torch
    >>> hidden, weight = torch.ones(4, 1), torch.tensor([[0.0], [5.0], [1.0]])
    >>> sample(hidden, weight, top_p=0.9).classes.tolist()
    [1, 1, 1, 1]
    """
    _check("sample", hidden, weight, bias, temperature, soft_cap)
    if top_k is not None:
        check_count("top_k", "sample", top_k, weight.shape[0])
    for name, value in (("top_p", top_p), ("min_p", min_p)):
        right = value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1)
        if not right or (name == "top_p" and value == 0):
            raise ValueError(
                f"{name!r} of sample must be a probability, or None for no cut. Got {value!r}. Use e.g. 0.9."
            )
    if weight.shape[0] == 0:
        raise ValueError("'weight' of sample must have a class or more. Got none. There is nothing to draw from.")
    shape = hidden.shape[:-1]
    with torch.no_grad():
        if top_k is None and top_p in (None, 1) and not min_p:
            index, log_prob = _drawn(hidden, weight, bias, temperature, soft_cap, generator)
        else:
            values, classes = _kept(hidden, weight, bias, temperature, soft_cap, top_k, top_p, min_p)
            place = (values + _gumbel(values, generator)).argmax(-1, keepdim=True)
            index = classes.gather(-1, place).squeeze(-1)
            log_prob = values.log_softmax(-1).gather(-1, place).squeeze(-1)
    if can_look(log_prob) and not bool(log_prob.isfinite().all()):
        row = int((~log_prob.isfinite()).nonzero()[0])
        raise ValueError(
            f"'hidden' of sample must give logits of which the largest is finite. Got others in row {row}. "
            "Look for NaN and infinity in hidden, weight and bias."
        )
    return Draw(index.reshape(shape), log_prob.reshape(shape))


def check_count(argument: str, name: str, value: int, size: int) -> None:
    """Check a number of classes."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{argument!r} of {name} must be a whole number. Got {kind(value)}. Use e.g. 5.")
    if not 1 <= value <= size:
        raise ValueError(
            f"{argument!r} of {name} must lie in [1, {size}], the number of classes. Got {value}. Use e.g. 1."
        )


def _check(
    name: str, hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float, soft_cap: float | None
) -> None:
    check_head(name, hidden, weight, bias)
    check_extras(name, 0.0, soft_cap)
    if not isinstance(temperature, (int, float)) or isinstance(temperature, bool) or not 0.0 < temperature < math.inf:
        raise ValueError(
            f"'temperature' of {name} must be positive and finite. Got {temperature!r}. "
            "For the limit 0 take top_k(hidden, weight, 1)."
        )


def _blocks(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float, soft_cap: float | None
) -> Iterator[tuple[int, Tensor]]:
    """The first class of a block, and its scores: logits over the temperature, (N, classes), wide."""
    rows = hidden.reshape(hidden.shape[:-1].numel(), hidden.shape[-1])
    step = max(FIRST, ENTRIES // max(rows.shape[0], 1))
    for start in range(0, weight.shape[0], step):
        some = slice(start, start + step)
        logits = linear(rows, weight[some], None if bias is None else bias[some]).to(wide_type(hidden.dtype))
        if soft_cap is not None:
            logits = soft_cap * torch.tanh(logits / soft_cap)
        yield start, logits if temperature == 1.0 else logits / temperature


def _best(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, k: int, temperature: float, soft_cap: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The K largest scores in falling order, their classes, and the normaliser of all."""
    normaliser = values = index = torch.empty(0)
    for start, scores in _blocks(hidden, weight, bias, temperature, soft_cap):
        made = scores.logsumexp(-1)
        normaliser = torch.logaddexp(normaliser, made) if start else made
        best, place = scores.topk(min(k, scores.shape[-1]), -1)
        place = place + start
        if start:
            best, place = torch.cat([values, best], -1), torch.cat([index, place], -1)
            best, chosen = best.topk(min(k, best.shape[-1]), -1)
            place = place.gather(-1, chosen)
        values, index = best, place
    return values, index, normaliser


def _drawn(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    temperature: float,
    soft_cap: float | None,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Classes drawn from all, with logarithms of their probabilities.

    One class is drawn from each block by the inverse of its distribution function, and takes the place of the one drawn
    before with the block's share of what has been seen.
    """
    normaliser = index = own = torch.empty(0)
    for start, scores in _blocks(hidden, weight, bias, temperature, soft_cap):
        top = scores.amax(-1, keepdim=True)
        sums = (scores - torch.where(top == -math.inf, 0.0, top)).exp_().cumsum(-1, dtype=torch.float64)
        total, uniform = sums[:, -1:], torch.rand(2, len(sums), 1, **_where(sums, generator))
        place = torch.searchsorted(sums, uniform[0] * total, right=True).clamp_(max=scores.shape[-1] - 1)
        made, value = top.double() + total.log(), scores.gather(-1, place)
        if start:
            both = torch.logaddexp(normaliser, made)
            wins = uniform[1] < (made - both).exp()
            index, own = torch.where(wins, place + start, index), torch.where(wins, value, own)
            normaliser = both
        else:
            index, own, normaliser = place, value, made
    return index.squeeze(-1), (own - normaliser).to(own.dtype).squeeze(-1)


def _kept(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    temperature: float,
    soft_cap: float | None,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
) -> tuple[Tensor, Tensor]:
    """Scores of the classes that the cuts leave, -inf where a row leaves fewer, and these classes."""
    size = weight.shape[0]
    look = min(FIRST, size) if top_k is None else top_k
    while True:
        values, index, normaliser = _best(hidden, weight, bias, look, temperature, soft_cap)
        if top_k is not None:
            normaliser = values.logsumexp(-1)
        shares = (values - normaliser.unsqueeze(-1)).exp()
        before = shares.cumsum(-1) - shares
        inside = torch.ones_like(values, dtype=torch.bool)
        if top_p is not None:
            inside &= before < top_p
        if min_p:
            inside &= values >= values[:, :1] + math.log(min_p)
        inside[:, 0] = True
        # Where the last one looked at is inside, there may be more.
        if look == size or top_k is not None or not bool(inside[:, -1].any()):
            return values.masked_fill(~inside, -math.inf), index
        look = min(16 * look, size)


def _gumbel(scores: Tensor, generator: torch.Generator | None) -> Tensor:
    """Noise `-log(e)`, e exponential; in float64, where e is never 0."""
    noise = torch.empty(scores.shape, dtype=torch.float64, device=scores.device)
    return noise.exponential_(generator=generator).log_().neg_()


def _where(like: Tensor, generator: torch.Generator | None) -> dict[str, Any]:
    """The options of random numbers in float64."""
    return {"dtype": torch.float64, "device": like.device, "generator": generator}

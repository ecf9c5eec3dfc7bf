"""The expectation itself, by enumeration: for softmax, and for sparse maps, whose zeros need no evaluation.

Axis legend: S configurations (samples), C all K**N configurations, *B batch, N categoricals, K classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from softplace import maps
from softplace.errors import InputError
from softplace.latent.estimators._parts import Estimate, Loss, Source, check, evaluate, transformed, wide
from softplace.maps import Map

LIMIT = 4096
"""Configurations that `marginalise` enumerates at most."""


def marginalise(
    logits: Tensor,
    loss: Loss,
    *,
    samples: int = 1,
    generator: Source = None,
    map: str | Map = "softmax",  # noqa: A002 - the word of the field
    shared: bool = False,
) -> Estimate:
    """The exact expectation, `sum_c loss(c) prod_n p_n[c_n]` with `p_n = map(logits_n)`, and its exact gradient.

    Args:
        logits: (*B, N, K).
        loss: From samples (..., *B, N, K) to losses (..., *B).
        samples, generator: Every estimator takes them. Here nothing is drawn, and they change nothing.
        map: From logits to weights: a name of `softplace.maps` or a callable. With a sparse one (sparsemax, entmax15)
            configurations without weight are not evaluated when run eagerly: each batch element has its own, and S is
            the largest number of them in the batch. The gradient is exact still, as that of a zero weight is zero.
        shared: The loss takes (S, *1, N, K), samples that all elements of the batch share, to (S, *B): what it computes
            of a sample alone, as a decoder does, is then computed once. Of a sparse map they are the configurations
            that have weight anywhere in the batch.

    Returns:
        `surrogate` is the expectation; `samples` are the configurations, those of a sparse map sorted by weight unless
        `shared` (`losses` beside them are not weighted). Where an element of the batch has fewer, those left over count
        for 0.

    Raises:
        InputError: K**N is above `LIMIT`, or an argument that cannot be used.

    Source: Correia, Niculae, Aziz and Martins 2020 (arXiv:2007.01919), for sparse maps. We evaluate whole
    configurations of independent categoricals, each of which has a map of its own.

    >>> cost = torch.tensor([1.0, 2.0, 9.0])
    >>> marginalise(torch.tensor([[1.0, 1.0, -5.0]]), lambda s: (s * cost).sum((-2, -1)), map="sparsemax").surrogate
    tensor(1.5000)
    """
    check("marginalise", logits, loss, samples, generator)
    configurations = enumerate_configurations("marginalise", logits)
    chosen = maps.get(map)
    if chosen is maps.softmax:
        # In logarithms, which do not underflow before their sum does.
        parts = maps.log_softmax(wide(logits), -1)
        weights = _of_all(parts, torch.add).exp()
    else:
        parts = chosen(wide(logits), dim=-1)
        weights = _of_all(parts, torch.mul)
    weights = weights.movedim(-1, 0)
    batch = weights.shape[1:]
    if chosen is maps.softmax or transformed():
        rows = configurations.view(len(configurations), *[1] * len(batch), logits.shape[-2])
    elif shared:
        anywhere = (weights != 0).flatten(1).any(1)
        weights, rows = weights[anywhere], configurations[anywhere].view(-1, *[1] * len(batch), logits.shape[-2])
    else:
        most = int((weights != 0).sum(0).amax()) if weights.numel() else 1
        order = weights.detach().argsort(0, descending=True)[: max(most, 1)]
        weights, rows = weights.gather(0, order), configurations[order]
    classes = torch.arange(logits.shape[-1], device=logits.device)
    ways = (rows.unsqueeze(-1) == classes).to(logits.dtype)
    drawn = ways.expand(len(rows), *batch, *logits.shape[-2:])
    losses = evaluate("marginalise", loss, ways, batch) if shared else evaluate("marginalise", loss, drawn)
    counted = torch.where(weights == 0, 0.0, wide(losses))  # a loss of what cannot be may be infinite
    return Estimate((weights * counted).sum(0).to(losses.dtype), losses.detach(), drawn)


def enumerate_configurations(name: str, logits: Tensor) -> Tensor:
    """All classes of N categoricals, (K**N, N), the last one fastest.

    Raises:
        InputError: There are more than `LIMIT`.
    """
    categoricals, classes = logits.shape[-2:]
    if classes > 1 and (categoricals > LIMIT or classes**categoricals > LIMIT):
        raise InputError(
            f"{name} enumerates at most {LIMIT} configurations. Got {classes} classes ** {categoricals} categoricals. "
            "Use an estimator that samples, e.g. reinforce with baseline='leave-one-out', or fewer categoricals."
        )
    places = classes ** torch.arange(categoricals - 1, -1, -1, device=logits.device)
    return torch.arange(classes**categoricals, device=logits.device).unsqueeze(-1) // places % classes


def _of_all(parts: Tensor, joined: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Sums or products of the entries of the classes that each configuration has, (*B, C), of parts (*B, N, K)."""
    if parts.shape[-2] == 0:
        return parts.sum(-1).sum(-1, keepdim=True) + (joined is torch.mul)
    found, *others = parts.unbind(-2)
    for part in others:  # the last changes fastest, as in `enumerate_configurations`
        found = joined(found.unsqueeze(-1), part.unsqueeze(-2)).flatten(-2)
    return found

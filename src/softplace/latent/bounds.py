"""Bounds on the log-likelihood of a model with categorical latent variables, in nats.

Axis legend: S samples, B batch, N variables, K classes.
"""

import math

import torch
from torch import Tensor

from softplace import maps
from softplace.errors import InputError
from softplace.maps import Map
from softplace.maps._arguments import can_look


def categorical_kl(
    logits: Tensor,
    prior: Tensor | None = None,
    *,
    map: str | Map = "softmax",  # noqa: A002 - the word of the field
    free_bits: float = 0.0,
) -> Tensor:
    """The exact Kullback-Leibler divergence of independent categoricals from their prior, in nats.

    `KL(q || p) = sum_n sum_k q_nk (log q_nk - log p_nk)`, with `q = map(logits)`, `p = softmax(prior)`.

    Args:
        logits: (*B, N, K), of the posterior. A class of -inf has no probability and adds 0.
        prior: Logits that broadcast to (N, K); None: uniform, `p = 1/K`. A class that the prior excludes and the
            posterior does not makes the divergence infinite.
        map: From logits to the weights of the posterior.
        free_bits: Bits that each variable may hold for nothing: `max(KL_n, free_bits ln 2)` in place of `KL_n`, whose
            gradient is 0 below. Kingma et al. 2016, section 2.3 and equation 15 of arXiv:1606.04934 v2, take the mean
            over the batch before the maximum; this is per row.

    Returns:
        (*B).

    Raises:
        InputError: `free_bits` is negative or no number, or the shapes do not fit.
    """
    if not 0.0 <= free_bits < math.inf:
        raise InputError(f"'free_bits' must be a number from 0. Got {free_bits!r}. Use 0 for none.")
    if logits.ndim < 2 or logits.shape[-1] == 0:
        raise InputError(f"'logits' must be (*B, N, K) with K of 1 or more. Got shape {tuple(logits.shape)}.")
    weights, posterior = weights_of(logits, map)
    if prior is None:
        other: Tensor | float = -math.log(logits.shape[-1])
        finite = _all_above(posterior)
    else:
        if prior.shape[-2:] != logits.shape[-2:] and prior.shape != logits.shape[-1:]:
            raise InputError(
                f"'prior' must be (N, K) as the logits, {tuple(logits.shape[-2:])}. Got shape {tuple(prior.shape)}."
            )
        other = maps.log_softmax(prior, -1)
        finite = _all_above(posterior) and _all_above(other)
    if finite:
        terms = weights * (posterior - other)
    else:
        held = weights > 0  # what is not held adds 0, and has no gradient
        terms = torch.where(held | weights.isnan(), weights * (torch.where(held, posterior, 0.0) - other), 0.0)
    if not free_bits:
        return terms.sum((-2, -1))
    return terms.sum(-1).clamp(min=free_bits * math.log(2)).sum(-1)


def _all_above(logarithms: Tensor) -> bool:
    """Whether none is known to be minus infinity, or NaN."""
    return can_look(logarithms) and logarithms.numel() > 0 and bool(logarithms.amin() > -math.inf)


def weights_of(logits: Tensor, map: str | Map = "softmax") -> tuple[Tensor, Tensor]:  # noqa: A002
    """The weights of a map along the last axis, and their logarithms: of softmax without underflow."""
    chosen = maps.get(map)
    if chosen is maps.softmax:
        logarithms = maps.log_softmax(logits, -1)
        return logarithms.exp(), logarithms
    weights = chosen(logits, dim=-1)
    return weights, torch.where(weights > 0, weights, 1.0).log().masked_fill(weights == 0, -math.inf)


def check_choice(map: str | Map) -> None:  # noqa: A002
    """Raise `InputError` unless a map gives weights of 0 or more that sum to 1 in every row, as a choice has."""
    scores = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    weights = maps.get(map)(scores, dim=-1)
    sums = weights.sum(-1)
    if not bool(((sums - 1).abs() < 1e-3).all()) or bool((weights < 0).any()):
        name = map if isinstance(map, str) else getattr(map, "__name__", type(map).__name__)
        raise InputError(
            f"'map' must give weights of 0 or more that sum to 1, as a choice has. Got {name}, whose sums go from "
            f"{float(sums.min()):.3g} to {float(sums.max()):.3g}. Use e.g. softmax or entmax15."
        )


def iwae(log_weights: Tensor, *, dim: int = 0) -> Tensor:
    """The importance-weighted bound: `log 1/S sum_s w_s` (Burda et al. 2016, arXiv:1509.00519, equation 8).

    Args:
        log_weights: `log p(x, z_s) - log q(z_s | x)` of S samples of `q`, along `dim`. With one sample the mean of this
            bound is the ELBO; it rises with S to the log-likelihood (theorem 1 there).

    Returns:
        Without `dim`.
    """
    count = log_weights.shape[dim]
    if count < 1:
        raise InputError(f"'log_weights' must have a sample or more along dim {dim}. Got none.")
    return torch.logsumexp(log_weights, dim) - math.log(count)


def log_prob(sample: Tensor, logarithms: Tensor) -> Tensor:
    """The log-probability of one-hot samples (..., N, K) by logarithms of weights (N, K) or (*B, N, K): (...).

    A class without probability that was not drawn adds 0.
    """
    return torch.where(sample == 0, 0.0, sample * logarithms).sum((-2, -1))


def bernoulli_log_prob(pixels: Tensor, logits: Tensor) -> Tensor:
    """`log p(x | z) = sum_d x_d l_d - log(1 + exp l_d)` for the logits l of pixels from 0 to 1: (..., D) -> (...).

    Logits (S, 1, D) that all pixels (B, D) share give (S, B) by a matrix product.
    """
    if pixels.ndim == 2 and logits.ndim == 3 and logits.shape[1] == 1:
        return logits.squeeze(1) @ pixels.mT - torch.nn.functional.softplus(logits).sum(-1)
    return (pixels * logits - torch.nn.functional.softplus(logits)).sum(-1)

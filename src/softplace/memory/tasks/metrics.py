"""The measures of the papers: bits per sequence, wrong bits, wrong questions, failed tasks, the optimum of n-grams.

Axes: T time, B batch, O outputs, V words.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from softplace.errors import InputError

FAILED = 0.05
"""A bAbI task with a share of wrong questions above this is failed (Weston et al. 2015)."""


def bits_per_sequence(outputs: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of the counted bits of each sequence, in bits (Graves et al. 2014, section 4): nats / log 2.

    Args:
        outputs: Logits (T, B, O).
        targets: Bits (T, B, O).
        mask: (T, B), True = counts.

    Returns: (B,), the sum over the counted steps and the outputs.
    """
    nats = functional.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none")
    return torch.where(mask, nats.sum(-1), 0.0).sum(0) / math.log(2)


def wrong_bits(outputs: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """How many counted bits of each sequence are wrong when a logit above 0 reads as 1: (T, B, O) twice -> (B,)."""
    wrong = (outputs > 0) != (targets > 0.5)
    return (wrong & mask.unsqueeze(-1)).sum((0, 2)).to(outputs.dtype)


def counted_bits(targets: Tensor, mask: Tensor) -> Tensor:
    """How many bits of each sequence count: targets (T, B, O), mask (T, B) -> (B,)."""
    return mask.sum(0) * targets.shape[-1]


def contexts(bits: Tensor, context: int) -> Tensor:
    """The last `context` bits before each step, and after the last one, as a number: bits (T, B) -> (T + 1, B).

    The most recent bit is the lowest binary digit; what is before the first step reads as 0.
    """
    padded = torch.cat((bits.new_zeros(context, *bits.shape[1:]), bits)).long()
    number = torch.zeros(len(bits) + 1, *bits.shape[1:], dtype=torch.long, device=bits.device)
    for each in range(context):
        number = 2 * number + padded[each : each + len(bits) + 1]
    return number


def ngram_estimates(bits: Tensor, context: int) -> Tensor:
    """What the best predictor of an n-gram source says of each bit, having seen those before it.

        P(1) = (N1 + 1/2) / (N1 + N0 + 1)

    with N0 and N1 how often 0 and 1 followed this context; 1/2 while the context is not complete (Graves et al. 2014,
    eq. 10; Murphy 2012 for Beta(1/2, 1/2)).

    Args:
        bits: (T, B), 0 or 1.
        context: How many bits the next one depends on, 0 or more (the paper: 5).

    Returns: P(1) in float64, (T, B).
    """
    past = contexts(bits, context)
    counts = torch.full((*bits.shape[1:], 2**context, 2), 0.5, dtype=torch.float64, device=bits.device)
    rows = torch.arange(bits.shape[1], device=bits.device)
    estimates = torch.full(bits.shape, 0.5, dtype=torch.float64, device=bits.device)
    for step in range(context, len(bits)):
        seen = counts[rows, past[step]]
        estimates[step] = seen[:, 1] / seen.sum(-1)
        counts[rows, past[step], bits[step].long()] += 1
    return estimates


def ngram_optimum(bits: Tensor, context: int) -> Tensor:
    """The cost of the best predictor: -sum_t log2 P(bit_t), see `ngram_estimates`. bits (T, B) -> (B,) in float64."""
    estimates = ngram_estimates(bits, context)
    return -torch.where(bits > 0.5, estimates, 1 - estimates).log2().sum(0)


def word_bits(outputs: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of the counted words of each sequence, in bits: nats / log 2.

    Args:
        outputs: Logits (T, B, V).
        targets: Indices of words (T, B); any valid index where the mask is False.
        mask: (T, B), True = counts.

    Returns: (B,), the sum over the counted steps.
    """
    chosen = outputs[mask]  # few steps count, so that the softmax is taken of these alone
    nats = outputs.new_zeros(mask.shape)
    nats[mask] = functional.cross_entropy(chosen, targets[mask], reduction="none")
    return nats.sum(0) / math.log(2)


def questions(outputs: Tensor, targets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """How many questions of each sequence are answered wrongly, and how many there are.

    A question is a run of counted steps without a gap, and right if every word of it is (Graves et al. 2016, Methods).

    Args:
        outputs: Logits (T, B, V); the word said is the one of the highest.
        targets: Indices of words (T, B).
        mask: (T, B), True = a word of an answer.

    Returns: wrong (B,) and all (B,), whole numbers.
    """
    before = torch.cat((torch.zeros_like(mask[:1]), mask[:-1]))
    number = (mask & ~before).long().cumsum(0)
    wrong = mask & (outputs.argmax(-1) != targets) if outputs.shape[-1] else mask
    failed = torch.zeros(len(mask) + 1, mask.shape[1], dtype=torch.bool, device=mask.device)
    failed.scatter_reduce_(0, number, wrong, "amax")
    every = number[-1] if len(mask) else failed.sum(0)
    return failed.sum(0), every


def mean_error(errors: Mapping[int, float]) -> float:
    """The mean over tasks of their share of wrong questions, as the papers report it.

    >>> mean_error({1: 0.0, 2: 0.5})
    0.25
    """
    if not errors:
        raise InputError("'errors' must have a share for at least one task. Got none. Evaluate a task first.")
    return sum(errors.values()) / len(errors)


def failed_tasks(errors: Mapping[int, float]) -> tuple[int, ...]:
    """The tasks whose share of wrong questions is above 5 % (Weston et al. 2015).

    >>> failed_tasks({1: 0.05, 2: 0.051})
    (2,)
    """
    return tuple(task for task, error in errors.items() if error > FAILED)

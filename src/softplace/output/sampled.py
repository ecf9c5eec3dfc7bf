"""Losses from a few sampled classes instead of all: for training alone, where the vocabulary is very large.

Axis legend: ... any leading axes, E width of the hidden state, V classes, S sampled classes, shared by all tokens.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from softplace.errors import InputError
from softplace.maps import cross_entropy
from softplace.maps._arguments import can_look, check_device, kind, wide_type
from softplace.maps.linear import linear_cross_entropy
from softplace.output._arguments import check_sampler, check_sizes
from softplace.output._reduction import checked, reduced, without_ignored
from softplace.output.samplers import Sampler


def sampled_softmax(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    sampler: Sampler,
    count: int,
    bias: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Cross-entropy over the target and S sampled classes, whose logits are corrected by how often they are drawn.

        -log exp(s_y) / Z,   Z = exp(s_y) + sum over the samples v other than y of exp(s_v) / (S q(v))

    Z is an unbiased estimate of the full normaliser, so that loss and gradient tend to those of the full softmax as S
    grows; the loss of a finite S is less in the mean (Jensen). A sample that is the target is left out.

    Args:
        hidden: h, (..., E).
        weight: W, (V, E), of the logits `s = W h + b`.
        target: Class indices (...).
        sampler: q: `LogUniform`, `Unigram`, `Uniform`, or your own.
        count: S, from 1.
        bias: b, (V,).
        ignore_index, reduction: as `linear_cross_entropy`.
        generator: Draws the samples.

    Returns:
        The loss, in float32 or wider: () or (...).

    Raises:
        TypeError, ValueError: As `linear_cross_entropy`.
        InputError: The count is below 1, or the sampler is of another number of classes.

    Source: Bengio and Senecal 2008 (importance sampling); Blanc and Rendle 2018 (arXiv:1712.00527) for
    the correction. TensorFlow's `sampled_softmax_loss` corrects the target's logit too.

    >>> import torch
    >>> from softplace.output import Uniform
    >>> hidden, weight = torch.zeros(1, 2), torch.zeros(1000, 2)
    >>> loss = sampled_softmax(hidden, weight, torch.tensor([3]), Uniform(1000), 500)
    >>> abs(loss.item() - 6.9078) < 0.01
    True
    """
    name = "sampled_softmax"
    counts = _checked_samples(name, hidden, weight, target, sampler, count, bias, ignore_index, reduction)
    samples = sampler.draw(count, generator=generator).to(hidden.device)
    correction = sampler.log_prob(samples) + math.log(count)
    return _among(hidden, weight, target, samples, correction, bias, counts, reduction)


def candidate_softmax(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    candidates: Tensor,
    bias: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy over the target and given candidates alone, without a correction.

    With the targets of a part of the data as its candidates it is the approximation of Jean et al. 2015
    (arXiv:1412.2007), section 3: sampled softmax whose q is uniform over the part, so that the correction cancels.

    Args:
        candidates: Class indices, (S,); each counts once, and the target once.
        hidden, weight, target, bias, ignore_index, reduction: as `sampled_softmax`.

    Returns:
        The loss, in float32 or wider: () or (...). With all classes as candidates it is the full cross-entropy.

    Raises:
        As `sampled_softmax`; candidates are out of range.

    >>> import torch
    >>> hidden, weight = torch.zeros(1, 2), torch.zeros(1000, 2)
    >>> candidate_softmax(hidden, weight, torch.tensor([3]), torch.tensor([3, 5, 7, 9])).exp().item()
    4.0
    """
    name = "candidate_softmax"
    counts = checked(name, hidden, weight, target, bias, None, ignore_index, reduction)
    if not isinstance(candidates, Tensor) or candidates.dtype == torch.bool or candidates.is_floating_point():
        raise TypeError(f"'candidates' of {name} must be integers. Got {kind(candidates)}. Use candidates.long().")
    check_device("candidates", name, candidates, hidden)
    samples = torch.unique(candidates.long())
    if samples.numel() and can_look(samples) and not 0 <= int(samples[0]) <= int(samples[-1]) < weight.shape[0]:
        wrong = samples[0] if samples[0] < 0 else samples[-1]
        raise ValueError(
            f"'candidates' of {name} must hold class indices in [0, {weight.shape[0] - 1}]. Got {int(wrong)}. "
            "Leave out what is no class."
        )
    nothing = torch.zeros(samples.shape, device=hidden.device)
    return _among(hidden, weight, target, samples, nothing, bias, counts, reduction)


def nce(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    sampler: Sampler,
    count: int,
    bias: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Noise-contrastive estimation: is a class the target, or one of S samples of noise?

        -log sigmoid(s_y - log(S q(y))) - sum over samples v of log sigmoid(log(S q(v)) - s_v)

    The logits `s = W h + b` are taken as logarithms of probabilities, which they become as the loss falls: nothing is
    normalised. Samples that are the target stay, as they belong to the noise.

    Arguments, Returns and Raises: as `sampled_softmax`. ValueError where q(y) is 0 (looked at on a CPU).

    Source: Gutmann and Hyvarinen 2012 (with nu = S noise samples to one of data); for language models Mnih and
    Teh 2012 (arXiv:1206.6426).

    >>> import torch
    >>> from softplace.output import Uniform
    >>> hidden, weight = torch.zeros(1, 2), torch.zeros(4, 2)
    >>> round(nce(hidden, weight, torch.tensor([3]), Uniform(4), 4).item(), 4)
    3.4657
    """
    name = "nce"
    counts = _checked_samples(name, hidden, weight, target, sampler, count, bias, ignore_index, reduction)
    samples = sampler.draw(count, generator=generator).to(hidden.device)
    correction = sampler.log_prob(samples) + math.log(count)
    answers = torch.where(counts, target.long(), 0)
    expected = sampler.log_prob(answers) + math.log(count)
    if can_look(expected) and bool((counts & (expected == -math.inf)).any()):
        wrong = target[counts & (expected == -math.inf)][0].item()
        raise ValueError(
            f"'sampler' of {name} must be able to draw each target. Got the target {wrong}, of probability 0. "
            "Add 1 to each count."
        )
    own, others = _logits(without_ignored(hidden, counts), weight, answers, samples, bias)
    rows = softplus(expected.to(own.dtype) - own) + softplus(others - correction.to(own.dtype)).sum(-1)
    return reduced(torch.where(counts, rows, 0.0), counts, reduction)


class SampledSoftmax(nn.Module):
    """A linear head that is trained by `sampled_softmax` and measured by the full cross-entropy.

    Args:
        width: E.
        sampler: Of V classes.
        count: S.
        bias: Whether logits have one.
        device, dtype: Of the parameters, which are drawn as `torch.nn.Linear` draws them.

    >>> from softplace.output import LogUniform
    >>> net = SampledSoftmax(16, LogUniform(1000), count=100).eval()
    >>> net(torch.zeros(3, 16), torch.tensor([5, 99, -100])).shape
    torch.Size([])
    """

    def __init__(
        self,
        width: int,
        sampler: Sampler,
        count: int,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes(width=width, count=count)
        check_sampler(sampler)
        self.sampler, self.count = sampler, count
        self.linear = nn.Linear(width, sampler.classes, bias=bias, device=device, dtype=dtype)

    def forward(
        self,
        hidden: Tensor,
        target: Tensor,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The sampled loss in training, else the full one, which draws nothing."""
        weight, bias = self.linear.weight, self.linear.bias
        if not self.training:
            return linear_cross_entropy(hidden, weight, target, bias, ignore_index=ignore_index, reduction=reduction)
        return sampled_softmax(
            hidden,
            weight,
            target,
            self.sampler,
            self.count,
            bias,
            ignore_index=ignore_index,
            reduction=reduction,
            generator=generator,
        )


def _among(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    samples: Tensor,
    correction: Tensor,
    bias: Tensor | None,
    counts: Tensor,
    reduction: str,
) -> Tensor:
    """Cross-entropy over the target and the samples other than it, whose logits are less by the correction."""
    answers = torch.where(counts, target.long(), 0)
    own, others = _logits(without_ignored(hidden, counts), weight, answers, samples, bias)
    hits = answers.unsqueeze(-1) == samples
    others = (others - correction.to(others.dtype)).masked_fill(hits, -math.inf)
    logits = torch.cat([own.unsqueeze(-1), others], -1)
    rows = cross_entropy(logits, torch.zeros_like(answers), reduction="none")
    return reduced(torch.where(counts, rows, 0.0), counts, reduction)


def _logits(
    hidden: Tensor, weight: Tensor, answers: Tensor, samples: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Of the targets (...), and of the samples (..., S); wide."""
    wide = wide_type(hidden.dtype)
    own = (hidden.to(wide) * weight[answers]).sum(-1)
    others = linear(hidden, weight[samples], None if bias is None else bias[samples]).to(wide)
    return (own if bias is None else own + bias[answers]).to(wide), others


def _checked_samples(
    name: str,
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    sampler: Sampler,
    count: int,
    bias: Tensor | None,
    ignore_index: int,
    reduction: str,
) -> Tensor:
    counts = checked(name, hidden, weight, target, bias, None, ignore_index, reduction)
    check_sizes(count=count)
    check_sampler(sampler, f" of {name}")
    if sampler.classes != weight.shape[0]:
        raise InputError(
            f"'sampler' of {name} must be of {weight.shape[0]} classes, as 'weight' is. Got {sampler.classes}. "
            "A sampler draws from all classes."
        )
    return counts

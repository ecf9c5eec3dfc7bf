"""Sampled losses: their estimates of the full softmax, by loops over the samples and by many draws."""

import itertools
import math
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, logsigmoid

from softplace.errors import InputError
from softplace.output import (
    LogUniform,
    SampledSoftmax,
    Sampler,
    Uniform,
    Unigram,
    candidate_softmax,
    nce,
    sampled_softmax,
)

N, E, V = 20, 5, 12
COUNTS = torch.tensor([40.0, 20, 13, 10, 8, 7, 6, 5, 4, 4, 3, 0])
SAMPLERS: dict[str, Sampler] = {
    "uniform": Uniform(V),
    "log-uniform": LogUniform(V),
    "unigram": Unigram(COUNTS, power=0.75),
}
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())


def parts() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((N, E), (V, E), (V,))
    )
    return hidden, weight, bias, torch.arange(N) % (V - 1)


@every_sampler
def test_samples_follow_their_probabilities(sampler: Sampler) -> None:
    shares = sampler.log_prob(torch.arange(V)).double().exp()
    assert float(shares.sum()) == pytest.approx(1.0, abs=1e-6)
    drawn = sampler.draw(200_000, generator=torch.Generator().manual_seed(0))
    seen = torch.bincount(drawn, minlength=V)
    possible = shares > 0
    assert not seen[~possible].any()
    expected = (shares / shares.sum() * seen.sum())[possible]
    assert chisquare(seen[possible].numpy(), expected.numpy()).pvalue > 1e-4


def test_the_log_uniform_is_that_of_tensorflow() -> None:
    """By its formula, in a loop."""
    expected = [math.log((word + 2) / (word + 1)) / math.log(V + 1) for word in range(V)]
    torch.testing.assert_close(LogUniform(V).log_prob(torch.arange(V)).exp(), torch.tensor(expected))


@every_sampler
def test_sampled_losses_are_sums_over_samples(sampler: Sampler) -> None:
    hidden, weight, bias, target = parts()
    count = 15
    samples = sampler.draw(count, generator=torch.Generator().manual_seed(3)).tolist()
    shares = sampler.log_prob(torch.arange(V)).double().exp().tolist()
    scores = linear(hidden, weight, bias).tolist()
    sampled, contrastive = [], []
    for row, word in zip(scores, target.tolist(), strict=True):
        others = [math.exp(row[v]) / (count * shares[v]) for v in samples if v != word]
        sampled.append(math.log(math.exp(row[word]) + sum(others)) - row[word])
        odds = [math.exp(row[v]) / (count * shares[v]) for v in (word, *samples)]
        contrastive.append(math.log(1 + 1 / odds[0]) + sum(math.log(1 + each) for each in odds[1:]))
    for loss, expected in ((sampled_softmax, sampled), (nce, contrastive)):
        draw = torch.Generator().manual_seed(3)
        found = loss(hidden, weight, target, sampler, count, bias, reduction="none", generator=draw)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_the_estimate_of_the_normaliser_has_the_mean_of_all_pairs_of_samples() -> None:
    """Every pair of samples by its probability: exactly the full normaliser, hits left out."""
    hidden, weight, bias, target = parts()
    sampler = Unigram(torch.arange(1.0, V + 1))
    shares = sampler.log_prob(torch.arange(V)).double().exp()
    scores = linear(hidden, weight, bias)
    own = scores.gather(-1, target[:, None])[:, 0]

    class Fixed:
        classes = V

        def __init__(self, pair: tuple[int, int]) -> None:
            self.pair = torch.tensor(pair)

        def draw(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
            return self.pair

        def log_prob(self, index: Tensor) -> Tensor:
            return sampler.log_prob(index)

    total = torch.zeros(N, dtype=torch.float64)
    for pair in itertools.product(range(V), repeat=2):
        loss = sampled_softmax(hidden, weight, target, Fixed(pair), 2, bias, reduction="none")
        total += shares[pair[0]] * shares[pair[1]] * (loss + own).exp()
    torch.testing.assert_close(total, scores.exp().sum(-1), rtol=1e-6, atol=0)


@every_sampler
def test_loss_and_gradient_tend_to_the_full_ones(sampler: Sampler) -> None:
    hidden, weight, bias, target = parts()
    bias = bias.detach().clone()
    bias[-1] = -math.inf  # the class that the unigram never draws
    full = cross_entropy(linear(hidden, weight, bias), target)
    wanted = torch.autograd.grad(full, (hidden, weight))
    errors = []
    for count in (100, 100_000):
        draw = torch.Generator().manual_seed(1)
        found = sampled_softmax(hidden, weight, target, sampler, count, bias, generator=draw)
        made = torch.autograd.grad(found, (hidden, weight))
        gaps = [(found - full).abs(), *((a - b).norm() for a, b in zip(made, wanted, strict=True))]
        errors.append(torch.stack(gaps).detach())
    assert bool((errors[1] < 0.01).all())
    assert bool((errors[1] < errors[0]).all())


def test_contrast_is_least_at_the_logarithms_of_probabilities() -> None:
    """With the data's own probabilities as logits the mean gradient over data and noise is 0."""
    data, sampler, count = torch.softmax(torch.randn(V, dtype=torch.float64), 0), LogUniform(V), 4
    logits = data.log().requires_grad_()
    shares = sampler.log_prob(torch.arange(V)).double().exp()
    odds = logits - (count * shares).log()
    expected = -(data * logsigmoid(odds)).sum() - count * (shares * logsigmoid(-odds)).sum()
    assert float(torch.autograd.grad(expected, logits)[0].abs().max()) < 1e-7
    # And the loss of many targets drawn from the data is that mean.
    draw = torch.Generator().manual_seed(0)
    targets = torch.multinomial(data, 40_000, replacement=True, generator=draw)
    hidden, weight = torch.ones(len(targets), 1, dtype=torch.float64), logits.detach()[:, None]
    losses = torch.stack(
        [nce(hidden[:1000], weight, some, sampler, count, generator=draw) for some in torch.split(targets, 1000)]
    )
    error = float(losses.std()) / len(losses) ** 0.5
    assert abs(float(losses.mean() - expected.detach())) < 5 * error


def test_candidates() -> None:
    hidden, weight, bias, target = parts()
    scores = linear(hidden, weight, bias)
    full = candidate_softmax(hidden, weight, target, torch.arange(V), bias)
    torch.testing.assert_close(full, cross_entropy(scores, target))
    some = torch.tensor([3, 3, 7, 1])
    found = candidate_softmax(hidden, weight, target, some, bias, reduction="none")
    for row, word, loss in zip(scores, target.tolist(), found, strict=True):
        among = row[sorted({1, 3, 7, word})]
        torch.testing.assert_close(loss, among.logsumexp(0) - row[word])
    alone = candidate_softmax(hidden, weight, target, some[:0], bias)
    assert alone == 0.0


LOSSES = {
    "sampled": lambda *given, **options: sampled_softmax(*given, LogUniform(V), 5, **options),
    "nce": lambda *given, **options: nce(*given, LogUniform(V), 5, **options),
    "candidates": lambda *given, **options: candidate_softmax(*given, torch.tensor([2, 5]), **options),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ignored_targets(loss: Any, reduction: str) -> None:
    hidden, weight, _, target = parts()
    target[::3] = -1
    torch.manual_seed(1)
    found = loss(hidden.reshape(4, 5, E), weight, target.reshape(4, 5), ignore_index=-1, reduction=reduction)
    torch.manual_seed(1)
    expected = loss(hidden[target >= 0], weight, target[target >= 0], reduction=reduction)
    torch.testing.assert_close(found.flatten()[target >= 0] if reduction == "none" else found, expected)
    for some, wanted in ((hidden, torch.full_like(target, -1)), (hidden[:0], target[:0])):
        nothing = loss(some, weight, wanted, ignore_index=-1, reduction=reduction)
        assert not nothing.any()
        assert not torch.autograd.grad(nothing.sum(), hidden)[0].any()


def test_small_integers_as_targets() -> None:
    """156 is -100 in eight bits, and 300 classes are 44."""
    hidden, weight = torch.randn(2, E), torch.randn(300, E)
    target = torch.tensor([156, 250])
    expected = candidate_softmax(hidden, weight, target, torch.tensor([0]))
    found = candidate_softmax(hidden, weight, target.to(torch.uint8), torch.tensor([0], dtype=torch.uint8))
    torch.testing.assert_close(found, expected)


def test_the_module_measures_by_the_full_loss() -> None:
    net = SampledSoftmax(E, LogUniform(V), count=6).double()
    hidden, _, _, target = parts()
    one, other, again = (net(hidden, target, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1, 0))
    assert one == again != other
    torch.testing.assert_close(net.eval()(hidden, target), cross_entropy(net.linear(hidden), target))


def test_half_precision_is_summed_in_float32() -> None:
    hidden, weight, bias, target = parts()
    for loss in LOSSES.values():
        torch.manual_seed(0)
        found = loss(hidden.bfloat16(), weight.bfloat16(), target, bias=bias.bfloat16())
        torch.manual_seed(0)
        expected = loss(hidden.bfloat16().double(), weight.bfloat16().double(), target, bias=bias.bfloat16().double())
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=2e-2, atol=0)


def test_bad_calls() -> None:
    hidden, weight, target = torch.zeros(2, E), torch.zeros(V, E), torch.tensor([0, V])
    for loss in LOSSES.values():
        with pytest.raises(ValueError, match=r"class indices in \[0, 11\]\. Got 12 at \(1,\)"):
            loss(hidden, weight, target)
    target = torch.tensor([0, V - 1])
    with pytest.raises(InputError, match=r"'count' must be a whole number from 1\. Got 0"):
        sampled_softmax(hidden, weight, target, Uniform(V), 0)
    with pytest.raises(TypeError, match=r"'sampler' of nce must draw classes\. Got str"):
        nce(hidden, weight, target, "uniform", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"'sampler' must draw classes\. Got NoneType"):
        SampledSoftmax(E, None, 3)  # type: ignore[arg-type]
    for loss in (*LOSSES.values(), lambda *given: candidate_softmax(*given, torch.tensor([1]))):
        with pytest.raises(TypeError, match=r"'weight' of .* must be a floating-point tensor\. Got NoneType"):
            loss(hidden, None, target)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"'sampler' of nce must be of 12 classes, as 'weight' is\. Got 5"):
        nce(hidden, weight, target, Uniform(5), 3)
    with pytest.raises(ValueError, match=r"must be able to draw each target\. Got the target 11, of probability 0"):
        nce(hidden, weight, target, SAMPLERS["unigram"], 3)
    with pytest.raises(ValueError, match=r"'candidates' of candidate_softmax must hold class indices .* Got -1"):
        candidate_softmax(hidden, weight, target, torch.tensor([-1, 2]))
    with pytest.raises(TypeError, match="'candidates' of candidate_softmax must be integers"):
        candidate_softmax(hidden, weight, target, torch.tensor([1.0]))


@pytest.mark.parametrize(
    ("counts", "power", "said"),
    [
        ("12", 1.0, r"'counts' must be one or more finite numbers that are not negative, one per class\. Got str"),
        (torch.tensor([[1.0]]), 1.0, r"Got a tensor|Got Tensor"),
        (torch.tensor([1.0, -1.0]), 1.0, r"Got \[1\.0, -1\.0\]"),
        (torch.zeros(3), 1.0, r"'counts' must not all be 0\. Got zeros alone"),
        (torch.zeros(0), 1.0, r"Got \[\]"),
        ([1.0, math.nan], 1.0, r"Got \[1\.0, nan\]"),
        (torch.ones(3), -1.0, r"'power' must be finite and not negative\. Got -1\.0"),
    ],
)
def test_bad_counts(counts: Any, power: float, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Unigram(counts, power)

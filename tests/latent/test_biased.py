"""Biased estimators: the bias that the literature gives, and the distribution of their samples."""

import itertools
import math
from collections.abc import Callable
from functools import partial

import pytest
import scipy.stats
import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.latent import (
    Loss,
    anneal,
    gapped_straight_through,
    gumbel_softmax,
    gumbel_softmax_log_prob,
    rao_blackwell_gumbel,
    reinforce,
    straight_through,
)
from softplace.randomness import generator
from tests.latent.problems import exact_gradient, gradient, make_loss, moments, normal

# Straight through


def test_straight_through_is_exact_for_a_linear_loss() -> None:
    logits, loss = normal(2, 5, label="logits"), make_loss("linear", 2, 5)
    found = gradient(straight_through, logits.expand(100, 2, 5), loss)
    torch.testing.assert_close(found.double(), exact_gradient(logits, loss).expand(100, 2, 5), rtol=1e-5, atol=1e-6)


def mean_by_enumeration(logits: Tensor, loss: Loss, relax: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Of `loss'(x) d relax(x, logits) / d logits`, over one-hot x of two categoricals."""
    leaf = logits.clone().requires_grad_()
    weights, mean = torch.softmax(logits, -1), torch.zeros_like(logits)
    for first, second in itertools.product(range(logits.shape[-1]), repeat=2):
        sample = torch.eye(logits.shape[-1])[[first, second]].requires_grad_()
        (slope,) = torch.autograd.grad(loss(sample), sample)
        (pulled,) = torch.autograd.grad(relax(sample.detach(), leaf), leaf, slope)
        mean += weights[0, first] * weights[1, second] * pulled
    return mean


def test_the_bias_of_straight_through_on_a_quadratic_is_that_of_its_slope_at_the_samples() -> None:
    logits, loss = normal(2, 3, label="logits"), make_loss("quadratic", 2, 3)
    mean = mean_by_enumeration(logits, loss, lambda sample, leaf: torch.softmax(leaf, -1))
    found = moments(straight_through, logits, loss, repeats=10, label="straight-through")
    assert ((found.mean - mean).abs() <= 4.0 * found.error).all()
    assert ((found.mean - exact_gradient(logits, loss)).abs() > 50.0 * found.error).any()


def test_gapped_straight_through_is_the_slope_at_moved_logits() -> None:
    logits, loss = normal(2, 3, label="logits"), make_loss("quadratic", 2, 3)

    def relax(sample: Tensor, leaf: Tensor) -> Tensor:
        # The authors' code, in their order: up to the largest, the others down to the gap below it.
        largest = logits.amax(-1, keepdim=True)
        up = (largest - (logits * sample).sum(-1, keepdim=True)) * sample
        down = (logits - largest + 0.7).clamp(min=0.0) * (1 - sample)
        return torch.softmax((leaf + up - down) / 0.6, -1)

    mean = mean_by_enumeration(logits, loss, relax)
    function = partial(gapped_straight_through, temperature=0.6, gap=0.7)
    found = moments(function, logits, loss, repeats=10, label="gapped")
    assert ((found.mean - mean).abs() <= 4.0 * found.error).all()
    assert ((found.mean - exact_gradient(logits, loss)).abs() > 50.0 * found.error).any()
    with pytest.raises(InputError, match=r"'gap' of gapped_straight_through must be positive and finite. Got 0.0"):
        gapped_straight_through(logits, loss, gap=0.0)


# Gumbel-softmax


@pytest.mark.parametrize("hard", [False, True])
def test_bias_falls_and_variance_grows_as_the_temperature_falls(hard: bool) -> None:
    logits, loss = normal(2, 3, label="logits"), make_loss("quadratic", 2, 3)
    exact = exact_gradient(logits, loss)
    biases, variances = [], []
    for temperature in (2.0, 1.0, 0.5, 0.25):
        function = partial(gumbel_softmax, temperature=temperature, hard=hard)
        found = moments(function, logits, loss, repeats=2, label=f"{temperature}")
        biases.append(float((found.mean - exact).norm()))
        variances.append(float(found.variance.sum()))
        assert biases[-1] > 10 * float(found.error.norm())
    if not hard:  # straight through, it is another bias, which need not fall all the way
        assert biases == sorted(biases, reverse=True)
    assert variances == sorted(variances)


def test_soft_it_is_unbiased_for_the_loss_of_relaxed_samples() -> None:
    logits, temperature = torch.tensor([[0.6, -0.4]], dtype=torch.double), 0.7

    def loss(sample: Tensor) -> Tensor:
        return (sample[..., 0, 0] - 0.2).square() + sample[..., 0, 1].pow(3)

    leaf = logits.clone().requires_grad_()
    along = torch.linspace(-60, 60, 12001, dtype=torch.double)
    sample = torch.stack([torch.sigmoid(along), torch.sigmoid(-along)], -1)
    density = (gumbel_softmax_log_prob(sample, leaf, temperature) + sample.log().sum(-1)).exp()
    (wanted,) = torch.autograd.grad((density * loss(sample.unsqueeze(-2))).sum() * 0.01, leaf)
    found = moments(partial(gumbel_softmax, temperature=temperature), logits, loss, repeats=10, label="relaxed")
    assert ((found.mean - wanted).abs() <= 4.0 * found.error).all()


def test_rao_blackwell_has_the_mean_of_straight_through_gumbel_and_less_variance() -> None:
    logits, loss = normal(2, 3, label="logits"), make_loss("quadratic", 2, 3)
    plain = moments(partial(gumbel_softmax, hard=True), logits, loss, repeats=10, label="plain")
    errors = []
    for inner in (1, 10):
        found = moments(partial(rao_blackwell_gumbel, inner=inner), logits, loss, repeats=3, label=f"inner {inner}")
        assert ((found.mean - plain.mean).abs() <= 4.0 * (found.error.square() + plain.error.square()).sqrt()).all()
        errors.append(float(found.variance.sum() / plain.variance.sum()))
    assert errors[0] == pytest.approx(1.0, abs=0.02)
    assert errors[1] < 0.9


def test_hard_samples_are_one_hot_and_soft_ones_tend_to_them() -> None:
    logits = normal(500, 2, 4, label="logits")
    linear = make_loss("linear", 2, 4)
    hard = gumbel_softmax(logits, linear, hard=True).samples
    assert ((hard == 0) | (hard == 1)).all()
    assert (hard.sum(-1) == 1).all()
    far = [
        float((1.0 - gumbel_softmax(logits, linear, temperature=t, samples=10).samples.amax(-1)).mean())
        for t in (1.0, 0.1, 0.01, 0.001)
    ]
    assert far == sorted(far, reverse=True)
    assert far[-1] < 0.001


# Distributions


def chi_squared(samples: Tensor, weights: Tensor) -> float:
    """The p-value of counts of classes (..., K) against weights (K)."""
    counts = samples.flatten(0, -2).double().sum(0)
    return float(scipy.stats.chisquare(counts.numpy(), (counts.sum() * weights / weights.sum()).numpy()).pvalue)


@pytest.mark.parametrize("temperature", [0.001, 0.01, 1.0])
def test_the_largest_entry_of_a_relaxed_sample_is_a_sample(temperature: float) -> None:
    logits, source = normal(1, 5, label="logits"), generator(0, "latent", "chi-squared", str(temperature))
    linear = make_loss("linear", 1, 5)
    drawn = gumbel_softmax(logits, linear, samples=100_000, temperature=temperature, generator=source).samples
    weights = torch.softmax(logits.double(), -1)[0]
    assert chi_squared(torch.nn.functional.one_hot(drawn.argmax(-1), 5), weights) > 1e-4
    if temperature <= 0.01:
        sure = drawn[drawn.amax(-1) > 0.99]
        assert len(sure) > 0.9 * 100_000
    if temperature == 0.001:  # so close that the entries themselves are the counts
        assert chi_squared(drawn, weights) > 1e-4


def test_samples_are_of_the_categorical_distribution_of_pytorch() -> None:
    logits, source = normal(1, 5, label="logits"), generator(0, "latent", "chi-squared of samples")
    drawn = reinforce(logits, make_loss("linear", 1, 5), samples=200_000, generator=source).samples
    weights = torch.distributions.OneHotCategorical(logits=logits.double()).probs
    assert chi_squared(drawn, weights[0]) > 1e-4
    skewed = torch.tensor([[0.0, -math.inf, 3.0, -12.0, -math.inf]])
    drawn = reinforce(skewed, make_loss("linear", 1, 5), samples=200_000, generator=source).samples
    assert drawn[..., [1, 4]].sum() == 0
    assert chi_squared(drawn[..., [0, 2, 3]], torch.softmax(skewed[0, [0, 2, 3]].double(), -1)) > 1e-4


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_density_of_relaxed_samples_integrates_to_one(classes: int, temperature: float) -> None:
    logits = normal(classes, label="density", dtype=torch.double)
    # Over logarithms of ratios to the last entry, in which it is smooth; dy = prod(y) ds.
    line = torch.arange(-60.0, 60.0, 0.1, dtype=torch.double)
    ratios = torch.cartesian_prod(*[line] * (classes - 1)).view(-1, classes - 1)
    logs = torch.log_softmax(torch.cat([ratios, torch.zeros_like(ratios[:, :1])], -1), -1)
    inside = gumbel_softmax_log_prob(logs.exp(), logits, temperature) + logs.sum(-1)
    assert (inside.exp().sum() * 0.1 ** (classes - 1)).item() == pytest.approx(1.0, abs=1e-6)


def test_the_density_is_that_of_pytorch() -> None:
    logits = normal(4, 5, label="density", dtype=torch.double)
    theirs = torch.distributions.RelaxedOneHotCategorical(torch.tensor(0.7, dtype=torch.double), logits=logits)
    sample = theirs.sample((6,))
    torch.testing.assert_close(gumbel_softmax_log_prob(sample, logits, 0.7), theirs.log_prob(sample))


def test_the_schedule() -> None:
    assert [round(anneal(step, rate=1e-3, every=500), 4) for step in (0, 499, 500, 1e6)] == [1.0, 1.0, 0.6065, 0.5]
    for wrong in ({"step": -1}, {"step": 0, "every": 0}, {"step": 0, "rate": -1.0}, {"step": 0, "least": 0.0}):
        with pytest.raises(InputError, match="anneal"):
            anneal(**wrong)

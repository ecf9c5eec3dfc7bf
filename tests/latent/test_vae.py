"""Networks with latent variables against enumeration: bounds, likelihoods, gradients, and what they refuse."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.latent import bounds, vae
from softplace.latent.estimators._parts import draw
from softplace.latent.vae import CategoricalPredictor, CategoricalVAE, configurations, perplexity

N, K, D, B = 2, 3, 6, 5


def small(**options: Any) -> CategoricalVAE:
    torch.manual_seed(0)
    return CategoricalVAE(D, variables=N, classes=K, hidden=(4,), **options).double()


def pixels() -> Tensor:
    return (torch.rand(B, D, generator=torch.Generator().manual_seed(1)) > 0.5).double()


def by_loop(net: CategoricalVAE, x: Tensor, map: str = "softmax") -> tuple[float, float]:  # noqa: A002
    """The ELBO and the log-likelihood of an image, one configuration at a time."""
    weights, _ = bounds.weights_of(net.encode(x[None])[0].detach(), map)
    prior = (
        torch.full((N, K), 1 / K, dtype=torch.float64) if net.prior is None else torch.softmax(net.prior, -1).detach()
    )
    elbo, total = 0.0, 0.0
    for way in itertools.product(range(K), repeat=N):
        sample = torch.zeros(N, K).double()
        sample[range(N), list(way)] = 1.0
        chances = torch.sigmoid(net.decode(sample)).detach()
        likelihood = float((x * chances.log() + (1 - x) * (1 - chances).log()).sum())
        q = math.prod(float(weights[n, k]) for n, k in enumerate(way))
        p = math.prod(float(prior[n, k]) for n, k in enumerate(way))
        if q > 0:
            elbo += q * (likelihood + math.log(p) - math.log(q))
        total += p * math.exp(likelihood)
    return elbo, math.log(total)


@pytest.mark.parametrize("learned_prior", [False, True])
@pytest.mark.parametrize("map", ["softmax", "sparsemax", "entmax15"])
def test_bound_and_likelihood_are_those_of_all_configurations(map: str, learned_prior: bool) -> None:  # noqa: A002
    net, x = small(map=map, learned_prior=learned_prior), pixels()
    if net.prior is not None:
        torch.nn.init.normal_(net.prior)
    expected = [by_loop(net, row, map) for row in x]
    found = net.loss(x, "marginalise")
    torch.testing.assert_close(found.bound.tolist(), [elbo for elbo, _ in expected], rtol=0, atol=1e-10)
    torch.testing.assert_close(net.log_likelihood(x).tolist(), [total for _, total in expected], rtol=0, atol=1e-10)
    assert (found.bound < net.log_likelihood(x)).all()
    torch.testing.assert_close(found.surrogate.detach(), -found.bound, rtol=0, atol=0)


def test_bounds_rise_with_samples_to_the_likelihood() -> None:
    net, x = small(), pixels()
    exact = net.loss(x, "marginalise").bound
    draws = torch.Generator().manual_seed(2)
    rounds = 20_000  # side by side, so that the small rise from 5 samples to 50 is far above the noise
    rows = x.expand(rounds, B, D).flatten(0, 1)
    found = {count: net.bound(rows, samples=count, generator=draws).view(rounds, B) for count in (1, 5, 50)}
    means = {count: values.mean(0) for count, values in found.items()}
    error = found[1].std(0) / rounds**0.5
    assert ((means[1] - exact).abs() < 4 * error).all()
    assert (means[1] < means[5]).all()
    assert (means[5] < means[50]).all()
    slack = 4 * found[50].std(0) / rounds**0.5
    assert (means[50] < net.log_likelihood(x) + slack).all()
    elbo = net.elbo(x, samples=20_000, generator=draws)
    torch.testing.assert_close(elbo, exact, rtol=0, atol=0.02)


def test_gradients_are_right() -> None:
    net, x = small(), pixels()
    parameters = list(net.parameters())

    def loss(*values: Tensor) -> Tensor:
        named = dict(zip(dict(net.named_parameters()), values, strict=True))
        logits = torch.func.functional_call(net.encoder, _of(named, "encoder"), (x,)).view(B, N, K)
        ways = configurations(N, K, dtype=torch.float64)
        decoded = torch.func.functional_call(net.decoder, _of(named, "decoder"), (ways.flatten(1),))
        likelihood = bounds.bernoulli_log_prob(x.unsqueeze(1), decoded)
        weights = torch.einsum("bnk,cnk->bcn", torch.softmax(logits, -1), ways).prod(-1)
        return (-(weights * likelihood).sum(-1) + bounds.categorical_kl(logits)).sum()

    wanted = torch.autograd.grad(loss(*parameters), parameters)
    found = torch.autograd.grad(net.loss(x, "marginalise").surrogate.sum(), parameters)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11)


def _of(named: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in named.items() if name.startswith(prefix)}


def test_every_estimator_trains_an_autoencoder() -> None:
    from softplace.latent.controls import control_for
    from softplace.latent.estimators import ESTIMATORS

    x = pixels().float()
    for name, known in ESTIMATORS.items():
        net = small(map=known.map).float()
        control = control_for(name, D, N, K)
        options = {} if control is None else control.options(x)
        found = net.loss(x, name, samples=known.least_samples, **options)
        total = found.surrogate.mean() + (0.0 if found.estimate.variance is None else found.estimate.variance)
        total.backward()
        for part in (net, *([] if control is None else [control])):
            for parameter in part.parameters():
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name
        if control is not None:
            before = {key: value.clone() for key, value in control.named_buffers()}
            control.update(found.estimate, options)
            assert all(not torch.equal(value, before[key]) for key, value in control.named_buffers()), name


def test_free_bits_hold_the_gradient_back() -> None:
    logits = torch.tensor([[[0.1, 0.0], [5.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    plain = bounds.categorical_kl(logits)
    held = bounds.categorical_kl(logits, free_bits=0.5)
    own = [float(bounds.categorical_kl(logits[:, [n]]).detach()) for n in range(2)]
    assert float(held.detach()) == pytest.approx(0.5 * math.log(2) + own[1])
    assert float(held.detach()) > float(plain.detach())
    (gradient,) = torch.autograd.grad(held.sum(), logits)
    assert not gradient[0, 0].any()
    assert gradient[0, 1].any()


def test_divergence_by_hand() -> None:
    shares = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]], dtype=torch.float64)
    found = bounds.categorical_kl(shares.log())
    assert float(found) == pytest.approx((math.log(3) - 1.5 * math.log(2)) + math.log(3))
    torch.testing.assert_close(
        found,
        torch.distributions.kl_divergence(*map(torch.distributions.Categorical, (shares, torch.ones(2, 3)))).sum(),
    )
    assert float(bounds.categorical_kl(shares.log(), shares.log())) == pytest.approx(0.0)
    assert (
        bounds.categorical_kl(shares.log(), torch.tensor([[0.0, 0.0, 0.0], [-math.inf, 0.0, 0.0]]).double()) == math.inf
    )
    assert bounds.categorical_kl(torch.zeros(4, 0, 3)).tolist() == [0.0] * 4
    extreme = torch.tensor([[[1e4, -1e4, 0.0]]], requires_grad=True)
    for chosen in ("softmax", "sparsemax", "entmax15"):
        value = bounds.categorical_kl(extreme, map=chosen)
        assert float(value.detach()) == pytest.approx(math.log(3))
        assert torch.autograd.grad(value.sum(), extreme)[0].isfinite().all()
    assert bounds.categorical_kl(torch.full((1, 1, 2), math.nan)).isnan().all()


def test_the_importance_weighted_bound_by_hand() -> None:
    weights = torch.tensor([[0.5, 1.0], [1.5, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(bounds.iwae(weights.log()), torch.tensor([1.0, 2.0]).double().log())
    torch.testing.assert_close(bounds.iwae(weights.log().T, dim=1), torch.tensor([1.0, 2.0]).double().log())
    with pytest.raises(InputError, match=r"'log_weights' must have a sample or more along dim 0\. Got none"):
        bounds.iwae(torch.empty(0, 3))


def test_draws_are_by_the_weights() -> None:
    weights = torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]])
    found = draw(weights, 20_000, torch.Generator().manual_seed(3), weights.dtype)
    assert found.shape == (20_000, 2, 3)
    assert found.sum(-1).eq(1).all()
    error = (weights * (1 - weights) / 20_000).sqrt()
    assert ((found.mean(0) - weights).abs() <= 4 * error).all()


def test_configurations_and_perplexity() -> None:
    ways = configurations(2, 3)
    assert ways.argmax(-1).tolist() == [[a, b] for a in range(3) for b in range(3)]
    assert configurations(3, 1).tolist() == [[[1.0]] * 3]
    weights = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    torch.testing.assert_close(perplexity(weights), torch.tensor([1.0, 2.0], dtype=torch.float64))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_predictor_is_the_sum_over_its_layers(layers: int) -> None:
    torch.manual_seed(4)
    net = CategoricalPredictor(4, 3, variables=1, classes=K, layers=layers).double()
    x, y = torch.rand(B, 4).double(), (torch.rand(B, 3) > 0.5).double()
    chances = torch.softmax(net.logits(0, x), -1).squeeze(1)  # (B, K)
    hot = torch.eye(K).double()
    for layer in range(1, layers):
        chances = chances @ torch.softmax(net.logits(layer, hot), -1).squeeze(1)
    likelihood = bounds.bernoulli_log_prob(y.unsqueeze(1), net.readout(hot))  # (B, K)
    found = net.loss(x, y, "marginalise")
    torch.testing.assert_close(found.bound, (chances * likelihood).sum(-1), rtol=0, atol=1e-10)
    exact = torch.logsumexp(chances.log() + likelihood, -1)
    draws = torch.Generator().manual_seed(5)
    torch.testing.assert_close(net.bound(x, y, samples=20_000, generator=draws), exact, rtol=0, atol=0.02)
    for name in ("gumbel-softmax", "reinforce", "disarm", "straight-through"):
        net.zero_grad()
        net.loss(x, y, name).surrogate.mean().backward()
        assert all(each.grad is not None and each.grad.isfinite().all() for each in net.parameters())


def test_one_class_says_nothing() -> None:
    net = CategoricalVAE(D, variables=3, classes=1, hidden=())
    x = pixels().float()
    found = net.loss(x, "marginalise")
    torch.testing.assert_close(found.bound, net.log_likelihood(x))
    assert found.divergence.abs().max() < 1e-6
    assert net.sample(7).shape == (7, D)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: CategoricalVAE(0), "'pixels' must be a whole number of 1 or more. Got 0"),
        (lambda: CategoricalVAE(4, classes=0), "'classes' must be a whole number of 1 or more. Got 0"),
        (lambda: CategoricalVAE(4, hidden=(3, -1)), "'hidden[1]' must be a whole number of 1 or more. Got -1"),
        (lambda: CategoricalVAE(4, map="sofmax"), "Did you mean 'softmax'"),
        (
            lambda: CategoricalVAE(4, map="relu"),
            "'map' must give weights of 0 or more that sum to 1, as a choice has. Got relu",
        ),
        (lambda: CategoricalVAE(4, map="softmax1"), "Got softmax1, whose sums go from"),
        (lambda: CategoricalPredictor(4, 4, layers=0), "'layers' must be a whole number of 1 or more. Got 0"),
        (lambda: small().loss(pixels() * 255, "marginalise"), "'pixels' must be from 0 to 1, as Bernoulli pixels are"),
        (lambda: small().loss(pixels()[:, 1:], "marginalise"), "'pixels' must be (B, 6). Got shape (5, 5)"),
        (lambda: small().loss(pixels(), "gumbel"), "Did you mean 'gumbel-softmax'"),
        (
            lambda: small(map="sparsemax").loss(pixels(), "disarm"),
            "'estimator' must be exact for a posterior by sparsemax",
        ),
        (lambda: CategoricalVAE(D, variables=20).loss(pixels().float(), "marginalise"), "4096"),
        (lambda: CategoricalVAE(D, variables=20).log_likelihood(pixels().float()), "at most 1,048,576 configurations"),
        (lambda: small().bound(pixels(), samples=0), "'samples' must be 1 or more. Got 0"),
        (
            lambda: bounds.categorical_kl(torch.zeros(2, 3), free_bits=-1.0),
            "'free_bits' must be a number from 0. Got -1.0",
        ),
        (lambda: bounds.categorical_kl(torch.zeros(2, 3), torch.zeros(5, 3)), "'prior' must be (N, K)"),
    ],
)
def test_what_cannot_be_used_is_said(call: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pixels_that_are_no_numbers_are_seen_in_the_loss() -> None:
    x = pixels()
    x[0, 0] = math.nan
    found = small().loss(x, "marginalise")
    assert found.bound.isnan().tolist() == [True] + [False] * (B - 1)
    assert vae.ENUMERABLE == 2**20


def test_logits_that_all_images_share_are_those_of_each() -> None:
    pixels, logits = torch.rand(5, 7), torch.randn(3, 1, 7)
    wanted = bounds.bernoulli_log_prob(pixels, logits.expand(3, 5, 7))
    torch.testing.assert_close(bounds.bernoulli_log_prob(pixels, logits), wanted)

"""Categorical autoencoders of others that the latent place is timed against: a plain PyTorch loop, and Pyro.

Each is written as its user would, has the layers of ours and trains the same bound, the divergence exact where the
sample is relaxed. Where classes can be enumerated nobody decodes a configuration more than once a step.

Axis legend: B batch, D pixels, N variables, K classes, C configurations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, OneHotCategorical, RelaxedOneHotCategorical, kl_divergence
from torch.nn import functional

TEMPERATURE, RATE, DECAY = 0.5, 1e-3, 0.99
EXACT, RELAXED, STRAIGHT, SCORE = "marginalise", "gumbel-softmax", "straight-through-gumbel", "reinforce"


@dataclass(frozen=True, kw_only=True)
class Case:
    """The sizes of an autoencoder with one hidden layer on both sides, and of its batch."""

    pixels: int
    variables: int
    classes: int
    hidden: int
    batch: int

    def __str__(self) -> str:
        return (
            f"{self.pixels} pixels, {self.variables} variables of {self.classes} classes, hidden {self.hidden}, "
            f"batch {self.batch}"
        )

    def network(self) -> tuple[nn.Sequential, nn.Sequential]:
        """Encoder and decoder."""
        codes = self.variables * self.classes
        return (
            nn.Sequential(nn.Linear(self.pixels, self.hidden), nn.ReLU(), nn.Linear(self.hidden, codes)),
            nn.Sequential(nn.Linear(codes, self.hidden), nn.ReLU(), nn.Linear(self.hidden, self.pixels)),
        )


@dataclass(frozen=True)
class Trainer:
    """A network on its way: `step` trains on pixels (B, D), `loss` is the mean negative bound, as it would train on."""

    step: Callable[[Tensor], Any]
    loss: Callable[[Tensor], float]


Build = Callable[[Case, str, tuple[nn.Sequential, nn.Sequential]], Trainer]
"""Of a case, an estimator, and an encoder and a decoder, which are trained."""


def plain(
    case: Case,
    estimator: str,
    network: tuple[nn.Sequential, nn.Sequential],
    *,
    fused: bool = False,
    compiled: bool = False,
) -> Trainer:
    """torch.distributions and `torch.optim.Adam` as it comes, or fused; the loss as it comes, or compiled."""
    encoder, decoder = network
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=RATE, fused=fused or None)
    prior = OneHotCategorical(logits=torch.zeros(case.variables, case.classes))
    numbers = torch.cartesian_prod(*[torch.arange(case.classes)] * case.variables) if estimator == EXACT else None
    ways = None if numbers is None else functional.one_hot(numbers, case.classes).float()
    baseline = torch.zeros(())

    def likelihood(pixels: Tensor, sample: Tensor) -> Tensor:
        return Independent(Bernoulli(logits=decoder(sample.flatten(-2))), 1).log_prob(pixels)

    def negative_bound(pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What to differentiate, and its value as a bound."""
        logits = encoder(pixels).view(-1, case.variables, case.classes)
        posterior = OneHotCategorical(logits=logits)
        divergence = kl_divergence(posterior, prior).sum(-1)
        if ways is not None:
            weights = posterior.log_prob(ways.unsqueeze(1)).sum(-1).exp()  # (C, B)
            loss = (divergence - (weights * likelihood(pixels, ways.unsqueeze(1))).sum(0)).mean()
            return loss, loss
        if estimator == RELAXED:
            sample = Independent(RelaxedOneHotCategorical(torch.tensor(TEMPERATURE), logits=logits), 1).rsample()
        elif estimator == STRAIGHT:
            sample = functional.gumbel_softmax(logits, TEMPERATURE, hard=True)
        else:
            sample = posterior.sample()
        found = likelihood(pixels, sample)
        loss = (divergence - found).mean()
        if estimator != SCORE:
            return loss, loss
        signal = -found.detach() - baseline
        baseline.lerp_(signal.mean() + baseline, 1 - DECAY)
        return loss + (signal * posterior.log_prob(sample).sum(-1)).mean(), loss

    found = torch.compile(negative_bound) if compiled else negative_bound

    def step(pixels: Tensor) -> None:
        optimizer.zero_grad()
        found(pixels)[0].backward()
        optimizer.step()

    return Trainer(step, lambda pixels: float(found(pixels)[1].detach()))


def absent() -> str:
    """How to get the peer that is not installed; empty where it is."""
    return "" if find_spec("pyro") else "Not compared with Pyro: it is not installed. pip install 'softplace[bench]'"


def pyro(case: Case, estimator: str, network: tuple[nn.Sequential, nn.Sequential]) -> Trainer:
    """Pyro's SVI.

    `TraceEnum_ELBO` with every variable a site that is enumerated in parallel; `Trace_ELBO` with relaxed sites, whose
    densities are masked for the exact divergence; `TraceGraph_ELBO`, which has baselines, for REINFORCE.
    """
    import pyro as ppl
    import pyro.distributions as dist
    from pyro import poutine
    from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO

    ppl.clear_param_store()
    ppl.enable_validation(False)
    encoder, decoder = network
    uniform = torch.zeros(case.variables, case.classes)
    kinds = {RELAXED: dist.RelaxedOneHotCategorical, STRAIGHT: dist.RelaxedOneHotCategoricalStraightThrough}
    relaxed = kinds.get(estimator)
    temperature = torch.tensor(TEMPERATURE)
    baseline = {"baseline": {"use_decaying_avg_baseline": True, "baseline_beta": DECAY}} if estimator == SCORE else {}
    indices = range(case.variables)

    def encode(pixels: Tensor) -> Tensor:
        ppl.module("encoder", encoder)
        return encoder(pixels).view(-1, case.variables, case.classes)

    def observe(pixels: Tensor, flat: Tensor) -> None:
        ppl.sample("pixels", dist.Bernoulli(logits=decoder(flat)).to_event(1), obs=pixels)

    def model(pixels: Tensor) -> None:
        ppl.module("decoder", decoder)
        with ppl.plate("images", len(pixels)):
            if estimator == EXACT:
                sites = [ppl.sample(f"z{n}", dist.OneHotCategorical(logits=uniform[n])) for n in indices]
                observe(pixels, torch.cat(torch.broadcast_tensors(*sites), -1))
            elif relaxed is not None:
                with poutine.mask(mask=False):
                    sample = ppl.sample("z", relaxed(temperature, logits=uniform).to_event(1))
                observe(pixels, sample.flatten(-2))
            else:
                observe(pixels, ppl.sample("z", dist.OneHotCategorical(logits=uniform).to_event(1)).flatten(-2))

    def guide(pixels: Tensor) -> None:
        logits = encode(pixels)
        with ppl.plate("images", len(pixels)):
            if estimator == EXACT:
                for n in indices:
                    site = dist.OneHotCategorical(logits=logits[:, n])
                    ppl.sample(f"z{n}", site, infer={"enumerate": "parallel"})
            elif relaxed is not None:
                with poutine.mask(mask=False):
                    ppl.sample("z", relaxed(temperature, logits=logits).to_event(1))
                divergence = kl_divergence(OneHotCategorical(logits=logits), OneHotCategorical(logits=uniform)).sum(-1)
                ppl.factor("divergence", divergence, has_rsample=True)
            else:
                ppl.sample("z", dist.OneHotCategorical(logits=logits).to_event(1), infer=baseline)

    if estimator == EXACT:
        elbo: Any = TraceEnum_ELBO(max_plate_nesting=1)
    else:
        elbo = TraceGraph_ELBO() if estimator == SCORE else Trace_ELBO()

    def mean(function: Callable[[Tensor], None]) -> Callable[[Tensor], None]:
        return poutine.scale(function, scale=1 / case.batch)

    inference = SVI(mean(model), mean(guide), ppl.optim.Adam({"lr": RATE}), loss=elbo)
    return Trainer(inference.step, inference.evaluate_loss)


def floor(case: Case, estimator: str) -> Callable[[], None]:
    """The matrix products of a step, forward and backward, and nothing else."""
    codes, rows = case.variables * case.classes, case.batch
    decoded = case.classes**case.variables if estimator == EXACT else rows
    products = []
    for inputs, outputs, many in (
        (case.pixels, case.hidden, rows),
        (case.hidden, codes, rows),
        (codes, case.hidden, decoded),
        (case.hidden, case.pixels, decoded),
    ):
        before, weight, after = (torch.randn(shape) for shape in ((many, inputs), (outputs, inputs), (many, outputs)))
        products += [(before, weight.T), (after.T, before)]
        if inputs != case.pixels:  # the pixels have no gradient
            products.append((after, weight))

    def run() -> None:
        for one, other in products:
            torch.mm(one, other)

    return run

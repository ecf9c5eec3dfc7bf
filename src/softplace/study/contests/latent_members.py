"""The members of the latent contest that are measured exactly: autoencoders whose configurations are enumerated.

Axis legend: M members, S samples, B images, D pixels, H hidden units, N variables, K classes, C configurations.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from softplace.latent import bounds
from softplace.latent.estimators import Estimate
from softplace.latent.vae import configurations, perplexity
from softplace.study.contest import Arm, Curve, Measurement
from softplace.study.contests._learning import first_below, mean_over_budget
from softplace.study.contests.latent_arms import DETERMINISTIC, GAUSSIAN
from softplace.study.contests.latent_stacked import Noise, Stacked, baseline_layers, baseline_numbers
from softplace.study.store import JSON, Role

if TYPE_CHECKING:
    from softplace.study.contests.latent_tasks import Encode, EncodeSampled

REPEATS, LOOKED = 64, 16
"""Estimates of the gradient, and images that it is of, when its bias and variance are measured."""
GAUSSIAN_SAMPLES = 100


class Coders(Stacked):
    """Autoencoders: pixels, hidden units, latent variables, hidden units, pixels."""

    task: "Encode | EncodeSampled"

    def __init__(self, task: "Encode | EncodeSampled", arm: Arm, seeds: Sequence[int], device: torch.device) -> None:
        self.task = task
        codes = task.variables * task.classes
        latent = codes // 2 if arm.name == GAUSSIAN else codes
        layers: Mapping[str, tuple[int, int]] = {
            "encode": (task.pixels, task.hidden),
            "logits": (task.hidden, codes),
            "decode": (latent, task.hidden),
            "pixels": (task.hidden, task.pixels),
        } | baseline_layers(arm, task.pixels, codes)
        super().__init__(task, arm, seeds, device, layers, baseline_numbers(arm, task.chance))

    @property
    def gaussian(self) -> bool:
        return self.arm.name == GAUSSIAN

    def losses(self, *batch: Tensor) -> Tensor:
        """The negative bound in nats, the mean of its images, (M,); what an estimator learns beside adds to it."""
        pixels, step = batch[0], int(batch[1][0])
        if self.gaussian:
            return -self.gaussian_weights(pixels, self.noise("noise", step), 1).mean((0, 2))
        logits = self.encode(pixels)
        if self.estimator is None:
            return -self.bound(pixels, logits).mean(-1)
        found = self.estimated(pixels, logits, self.noise("noise", step), step)
        total = (found.surrogate + bounds.categorical_kl(logits)).mean(-1)
        if found.variance is None:
            return total
        return total + self.of_controls(found.variance) / self.task.batch**2

    def encode(self, pixels: Tensor) -> Tensor:
        """Logits (M, B, N, K)."""
        logits = self.layer("logits", torch.relu(self.layer("encode", pixels)))
        return logits.view(*logits.shape[:-1], self.task.variables, self.task.classes)

    def decode(self, flat: Tensor) -> Tensor:
        """Logits of pixels (..., M, R, D) of R latent vectors each, (..., M, R, N K)."""
        return self.layer("pixels", torch.relu(self.layer("decode", flat)))

    def bound(self, pixels: Tensor, logits: Tensor) -> Tensor:
        """What an arm without an estimator trains on, (M, B): with the weights in place of samples."""
        weights = torch.softmax(logits, -1).flatten(-2)
        return bounds.bernoulli_log_prob(pixels, self.decode(weights)) - bounds.categorical_kl(logits)

    def estimated(self, pixels: Tensor, logits: Tensor, noise: Noise, step: int) -> Estimate:
        """The estimate of the expected reconstruction, (M, B)."""

        def cost(sample: Tensor) -> Tensor:
            return -bounds.bernoulli_log_prob(pixels, self.decode(sample.flatten(-2)))

        return self.estimate(logits, cost, noise, self.task.temperature_at(step), pixels)

    def gaussian_weights(self, pixels: Tensor, noise: Noise, samples: int) -> Tensor:
        """`log p(x, z) - log q(z | x)`, (S, M, B), of N K / 2 normal variables `z = mean + exp(log_deviation) e`."""
        hidden = torch.relu(self.layer("encode", pixels))
        mean, log_deviation = self.layer("logits", hidden).chunk(2, -1)
        uniform = noise((samples, *mean.shape, 1)).squeeze(-1)
        drawn = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6)).to(mean)
        latent = mean + log_deviation.exp() * drawn
        likelihood = bounds.bernoulli_log_prob(pixels, self.decode(latent))
        # The constants of the two normal densities cancel.
        weights: Tensor = likelihood + (0.5 * (drawn.square() - latent.square()) + log_deviation).sum(-1)
        return weights


class Autoencoders(Coders):
    """Autoencoders of so few configurations that bound, likelihood and gradient are exact."""

    task: "Encode"

    def __init__(self, task: "Encode", arm: Arm, seeds: Sequence[int], device: torch.device) -> None:
        super().__init__(task, arm, seeds, device)
        self.ways = configurations(task.variables, task.classes).to(device)  # (C, N, K)

    def bound(self, pixels: Tensor, logits: Tensor) -> Tensor:
        """The ELBO of the arm's map (M, B), exact; of `DETERMINISTIC` with the weights in place of samples."""
        if self.arm.name == DETERMINISTIC:
            return super().bound(pixels, logits)
        return self._exact(logits, self._by_way(pixels))

    def _by_way(self, pixels: Tensor) -> Tensor:
        """`log p(x | z)` of every image by every configuration, (M, B, C): each is decoded once for all images."""
        logits = self.decode(self.ways.flatten(1).expand(len(pixels), -1, -1))
        return pixels @ logits.mT - torch.nn.functional.softplus(logits).sum(-1).unsqueeze(1)

    def _exact(self, logits: Tensor, by_way: Tensor) -> Tensor:
        """The ELBO of one-hot samples by all configurations, whatever the arm was trained with, (M, B)."""
        return (self._posterior(logits) * by_way).sum(-1) - bounds.categorical_kl(logits, map=self.arm.map)

    def _posterior(self, logits: Tensor) -> Tensor:
        """The weight of every configuration, (M, B, C)."""
        weights, _ = bounds.weights_of(logits, self.arm.map)
        found = weights[..., 0, :]
        for variable in range(1, weights.shape[-2]):  # the last changes fastest, as in `configurations`
            found = (found.unsqueeze(-1) * weights[..., variable, :].unsqueeze(-2)).flatten(-2)
        return found

    def evaluate(self) -> dict[str, Tensor]:
        """Negative ELBO of the validation in nats, exact where there are classes; at most that of a guess."""
        pixels = self.of("validation")
        if self.gaussian:
            loss = -self.gaussian_weights(pixels, self.noise("validation"), 4).mean((0, 2))
        else:
            loss = -self._exact(self.encode(pixels), self._by_way(pixels)).mean(-1)
        return {"loss": loss.clamp(max=self.task.chance).where(loss.isfinite(), math.nan)}

    def measure(self, role: Role, curves: Sequence[Curve]) -> list[Measurement]:
        budget = self.task.steps
        columns: dict[str, list[float]] = {"mean_loss": [mean_over_budget(curve, "loss", budget) for curve in curves]}
        figures: list[dict[str, JSON]] = [{} for _ in curves]
        if role == "judge":
            pixels = self.of("test")
            columns["steps_to_learn"] = [first_below(curve, "loss", self.task.learned, budget) for curve in curves]
            columns["solved"] = [float(curve["loss"][-1] < self.task.learned) for curve in curves]
            if self.gaussian:
                weights = self.gaussian_weights(pixels, self.noise("test"), GAUSSIAN_SAMPLES)
                columns["loss"] = (-weights.mean((0, 2))).tolist()
                columns["nll"] = (-bounds.iwae(weights).mean(-1)).tolist()
            else:
                logits, by_way = self.encode(pixels), self._by_way(pixels)
                columns["loss"] = (-self._exact(logits, by_way).mean(-1)).tolist()
                columns["nll"] = (math.log(len(self.ways)) - torch.logsumexp(by_way, -1).mean(-1)).tolist()
                weights, _ = bounds.weights_of(logits, self.arm.map)
                columns["perplexity"] = [float(perplexity(each).mean()) for each in weights]
                found = self._gradient_error()
                columns |= {name: values.tolist() for name, values in found.items()}
                ways = self.ways[:: self.task.shown].flatten(1).expand(len(curves), -1, -1)
                for figure, codes in zip(figures, torch.sigmoid(self.decode(ways)).tolist(), strict=True):
                    figure["codes"] = [[round(value, 2) for value in row] for row in codes]
        return [
            Measurement(metrics={name: values[member] for name, values in columns.items()}, probes=figures[member])
            for member in range(len(curves))
        ]

    def _gradient_error(self) -> dict[str, Tensor]:
        """Bias and deviation of the gradient by the logits, over the length of the exact one: both (M,).

        Of an arm that is exact both are 0. The square of the bias is less the variance of a mean of so many.
        """
        members = len(self.seeds)
        if self.estimator is None and self.arm.name != DETERMINISTIC:
            return {"bias": torch.zeros(members), "deviation": torch.zeros(members)}
        pixels = self.of("test")[:, :LOOKED]
        with torch.enable_grad():
            logits = self.encode(pixels).detach().requires_grad_()
            value = -(self._posterior(logits) * self._by_way(pixels)).sum()
            (exact,) = torch.autograd.grad(value, logits)
            if self.arm.name == DETERMINISTIC:
                loss = -bounds.bernoulli_log_prob(pixels, self.decode(torch.softmax(logits, -1).flatten(-2)))
                made = [torch.autograd.grad(loss.sum(), logits)[0]]
            else:
                noise = self.noise("gradient")
                made = [
                    torch.autograd.grad(self.estimated(pixels, logits, noise, self.task.steps).surrogate.sum(), logits)[
                        0
                    ]
                    for _ in range(REPEATS)
                ]
        found = torch.stack(made).flatten(2)
        length = exact.flatten(1).norm(dim=-1).clamp_min(1e-12)
        wrong = (found.mean(0) - exact.flatten(1)).square().sum(-1)
        if len(made) == 1:
            return {"bias": wrong.sqrt() / length, "deviation": torch.zeros(members)}
        spread = found.var(0).sum(-1)
        return {"bias": (wrong - spread / len(made)).clamp_min(0).sqrt() / length, "deviation": spread.sqrt() / length}

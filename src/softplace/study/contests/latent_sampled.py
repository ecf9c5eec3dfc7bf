"""The members of the latent contest that are measured by samples, as in Table 1 of Jang et al. 2017.

Axis legend: M members, S samples, B images, D pixels, N variables, K classes.

Images are looked at some at a time: a whole validation part by all members would not fit into memory.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from softplace.latent import bounds
from softplace.latent.estimators import Estimate
from softplace.latent.estimators._parts import draw
from softplace.latent.vae import perplexity
from softplace.study.contest import Arm, Curve, Measurement
from softplace.study.contests._learning import mean_over_budget
from softplace.study.contests.latent_arms import DETERMINISTIC
from softplace.study.contests.latent_members import Coders
from softplace.study.contests.latent_stacked import Stacked, baseline_layers, baseline_numbers, in_parts
from softplace.study.store import Role

if TYPE_CHECKING:
    from softplace.study.contests.latent_tasks import EncodeSampled, Predict

_ROOM = 2**24  # numbers of a decoder's output at a time


class SampledAutoencoders(Coders):
    """Autoencoders of too many configurations to enumerate."""

    task: "EncodeSampled"

    def evaluate(self) -> dict[str, Tensor]:
        """Negative ELBO of the validation in nats, one sample an image, the divergence exact; at most a guess's."""
        loss = -_mean(self._bounds("validation", "validation", 1)[0])
        return {"loss": loss.clamp(max=self.task.chance).where(loss.isfinite(), math.nan)}

    def measure(self, role: Role, curves: Sequence[Curve]) -> list[Measurement]:
        columns = {"mean_loss": [mean_over_budget(curve, "loss", self.task.steps) for curve in curves]}
        if role == "judge":
            elbo, likelihood, weights = self._bounds("test", "test", self.task.samples)
            columns["loss"] = (-_mean(elbo)).tolist()
            columns["nll"] = (-_mean(likelihood)).tolist()
            if weights:
                columns["perplexity"] = [float(perplexity(each).mean()) for each in torch.cat(weights, 1)]
        return _measurements(columns, len(curves))

    def _bounds(self, part: str, label: str, samples: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Of some images at a time, (M, B) each: ELBO, importance-weighted bound; and the weights of the classes."""
        images, noise = self.of(part), self.noise(label)
        found: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for some in in_parts(images.shape[1], _at_a_time(images, samples)):
            pixels = images[:, some]
            if self.gaussian:
                ratios = self.gaussian_weights(pixels, noise, samples)
                found[0].append(ratios.mean(0))
            else:
                logits = self.encode(pixels)
                weights, logarithms = bounds.weights_of(logits)
                drawn = draw(weights, samples, noise, weights.dtype)
                likelihood = bounds.bernoulli_log_prob(pixels, self.decode(drawn.flatten(-2)))
                prior = -self.task.variables * math.log(self.task.classes)
                ratios = likelihood + prior - bounds.log_prob(drawn, logarithms)
                found[0].append(likelihood.mean(0) - bounds.categorical_kl(logits))
                found[2].append(weights)
            found[1].append(bounds.iwae(ratios))
        return found


class Predictors(Stacked):
    """Networks that predict the lower half of an image by two layers of variables, `latent.CategoricalPredictor`."""

    task: "Predict"

    def __init__(self, task: "Predict", arm: Arm, seeds: Sequence[int], device: torch.device) -> None:
        self.task = task
        codes, given = task.variables * task.classes, task.pixels - task.predicted
        layers = {"first": (given, codes), "second": (codes, codes), "readout": (codes, task.predicted)}
        numbers: dict[str, float] = {}
        for at in ("first_", "second_"):
            layers |= baseline_layers(arm, given, codes, at)
            numbers |= baseline_numbers(arm, task.chance, at)
        super().__init__(task, arm, seeds, device, layers, numbers)

    def losses(self, *batch: Tensor) -> Tensor:
        """`-E log p(y | z)` in nats, the mean of its images, (M,)."""
        (given, wanted), step = self._halves(batch[0]), int(batch[1][0])
        if self.arm.name == DETERMINISTIC:
            first = torch.softmax(self.logits("first", given), -1).flatten(-2)
            second = torch.softmax(self.logits("second", first), -1).flatten(-2)
            return -bounds.bernoulli_log_prob(wanted, self.layer("readout", second)).mean(-1)
        noise, temperature = self.noise("noise", step), self.task.temperature_at(step)

        def second_estimate(sample: Tensor) -> Estimate:
            return self.estimate(
                self.logits("second", sample.flatten(-2)),
                lambda last: -bounds.bernoulli_log_prob(wanted, self.layer("readout", last.flatten(-2))),
                noise,
                temperature,
                given,
                "second_",
            )

        found = self.estimate(
            self.logits("first", given),
            lambda sample: second_estimate(sample).surrogate,
            noise,
            temperature,
            given,
            "first_",
        )
        return found.surrogate.mean(-1)

    def logits(self, layer: str, flat: Tensor) -> Tensor:
        """(..., M, B, I) -> (..., M, B, N, K)."""
        found = self.layer(layer, flat)
        return found.view(*found.shape[:-1], self.task.variables, self.task.classes)

    def _halves(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The upper half, and the lower."""
        given = self.task.pixels - self.task.predicted
        return pixels[..., :given], pixels[..., given:]

    def evaluate(self) -> dict[str, Tensor]:
        """Negative bound of the validation in nats, one sample an image; at most that of a guess."""
        loss = -_mean([each.mean(0) for each, _ in self._likelihoods("validation", 1)])
        return {"loss": loss.clamp(max=self.task.chance).where(loss.isfinite(), math.nan)}

    def measure(self, role: Role, curves: Sequence[Curve]) -> list[Measurement]:
        columns = {"mean_loss": [mean_over_budget(curve, "loss", self.task.steps) for curve in curves]}
        if role == "judge":
            found = self._likelihoods("test", self.task.samples)
            columns["loss"] = (-_mean([each.mean(0) for each, _ in found])).tolist()
            columns["nll"] = (-_mean([bounds.iwae(each) for each, _ in found])).tolist()
            weights = torch.cat([each for _, each in found], 1)
            columns["perplexity"] = [float(perplexity(each).mean()) for each in weights]
        return _measurements(columns, len(curves))

    def _likelihoods(self, part: str, samples: int) -> list[tuple[Tensor, Tensor]]:
        """Of some images at a time: `log p(y | z)` (S, M, B), and the weights of the first layer (M, B, N, K)."""
        images, noise = self.of(part), self.noise(part)
        found = []
        for some in in_parts(images.shape[1], _at_a_time(images, samples)):
            given, wanted = self._halves(images[:, some])
            weights = torch.softmax(self.logits("first", given), -1)
            first = draw(weights, samples, noise, weights.dtype).flatten(-2)
            last = draw(torch.softmax(self.logits("second", first), -1), 1, noise, weights.dtype)[0].flatten(-2)
            found.append((bounds.bernoulli_log_prob(wanted, self.layer("readout", last)), weights))
        return found


def _at_a_time(images: Tensor, samples: int) -> int:
    members, _, pixels = images.shape
    return max(1, _ROOM // (members * pixels * samples))


def _mean(parts: Sequence[Tensor]) -> Tensor:
    """Over all images, (M,)."""
    return torch.cat(list(parts), 1).mean(1)


def _measurements(columns: dict[str, list[float]], count: int) -> list[Measurement]:
    return [Measurement(metrics={name: values[member] for name, values in columns.items()}) for member in range(count)]

"""The members of the latent contest: autoencoders of one arm, stacked, and what is measured of them.

Axis legend: M members, S samples, B images, D pixels, H hidden units, N variables, K classes, C configurations.

A linear layer is a matrix (M, inputs, outputs): all members in one batched product.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from softplace.latent import bounds
from softplace.latent.estimators import Estimate, get
from softplace.latent.vae import configurations, perplexity
from softplace.study.contest import Arm, Curve, Measurement, Members, derive, generator
from softplace.study.contests._learning import first_below, mean_over_budget
from softplace.study.contests.latent_arms import DETERMINISTIC, GAUSSIAN
from softplace.study.store import JSON, Role

if TYPE_CHECKING:
    from softplace.study.contests.latent import Encode

REPEATS, LOOKED = 64, 16
"""Estimates of the gradient, and images that it is of, when its bias and variance are measured."""
GAUSSIAN_SAMPLES = 100
_HIDDEN = 16  # units of baselines and controls


class Autoencoders(Members):
    """Networks of one arm, stacked, each with the order of images and the noise of its seed."""

    def __init__(self, task: "Encode", arm: Arm, seeds: Sequence[int], device: torch.device) -> None:
        self.task, self.arm, self.device = task, arm, device
        self.seeds = torch.tensor(seeds, device=device)
        drawn = [_parameters(task, arm, seed) for seed in seeds]
        self.parameters = {name: torch.stack([each[name] for each in drawn]).to(device) for name in drawn[0]}
        self.buffers = {}
        self.images = {name: part.to(device) for name, part in task.images.items()}
        self.ways = configurations(task.variables, task.classes).to(device)  # (C, N, K)

    @property
    def gaussian(self) -> bool:
        return self.arm.name == GAUSSIAN

    @property
    def estimator(self) -> str | None:
        """Of the gradient; None where it is exact, or none is needed."""
        name = self.arm.options.get("estimator")
        return None if name is None else str(name)

    def select(self, keep: Tensor) -> Self:
        chosen = super().select(keep)
        chosen.seeds = self.seeds[keep]
        return chosen

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Other images for every seed, and the step, by which each draws its noise."""
        rows = self.task.images["train"]
        numbers = torch.stack([
            torch.randint(len(rows), (self.task.batch,), generator=generator(seed, "images", step))
            for seed in self.seeds.tolist()
        ])  # fmt: skip
        return self.images["train"][numbers.to(self.device)], torch.full((len(self.seeds),), step)

    def losses(self, *batch: Tensor) -> Tensor:
        """The negative bound in nats, the mean of its images, (M,); what an estimator learns beside adds to it."""
        pixels, steps = batch
        if self.gaussian:
            return -self._gaussian_bound(pixels, self._noise("noise", int(steps[0])), 1).mean(-1)
        logits = self.encode(pixels)
        if self.estimator is None:
            return -self._bound(pixels, logits).mean(-1)
        found = self._estimated(pixels, logits, self._noise("noise", int(steps[0])))
        total = (found.surrogate + bounds.categorical_kl(logits)).mean(-1)
        if found.variance is None:
            return total
        return total + self._by_member(found.variance) / self.task.batch**2

    def _by_member(self, variance: Tensor) -> Tensor:
        """Zeros (M,) whose gradients are those of a sum over all members, each by its own parameters alone."""
        control = ("control", "log_temperature", "eta")
        learned = [p for name, p in self.parameters.items() if name.startswith(control) and p.requires_grad]
        if not learned:
            return torch.zeros(len(self.seeds), device=self.device)
        slopes = torch.autograd.grad(variance, learned, retain_graph=True)
        parts = [(s * (p - p.detach())).reshape(len(p), -1).sum(-1) for s, p in zip(slopes, learned, strict=True)]
        return torch.stack(parts).sum(0)

    def encode(self, pixels: Tensor) -> Tensor:
        """Logits (M, B, N, K)."""
        hidden = torch.relu(self._layer("encode", pixels))
        logits = self._layer("logits", hidden)
        return logits.view(*logits.shape[:-1], self.task.variables, self.task.classes)

    def decode(self, flat: Tensor) -> Tensor:
        """Logits of pixels (M, R, D) of R latent vectors each, (M, R, N K)."""
        return self._layer("pixels", torch.relu(self._layer("decode", flat)))

    def _layer(self, name: str, inputs: Tensor) -> Tensor:
        return torch.baddbmm(self.parameters[f"{name}_bias"].unsqueeze(1), inputs, self.parameters[f"{name}_weight"])

    def _by_way(self, pixels: Tensor) -> Tensor:
        """`log p(x | z)` of every image by every configuration, (M, B, C): each is decoded once for all images."""
        members = len(pixels)
        logits = self.decode(self.ways.flatten(1).expand(members, -1, -1))
        return pixels @ logits.mT - torch.nn.functional.softplus(logits).sum(-1).unsqueeze(1)

    def _bound(self, pixels: Tensor, logits: Tensor) -> Tensor:
        """The ELBO of the arm's map (M, B), exact; of `DETERMINISTIC` with the weights in place of samples."""
        if self.arm.name == DETERMINISTIC:
            weights = torch.softmax(logits, -1).flatten(-2)
            return bounds.bernoulli_log_prob(pixels, self.decode(weights)) - bounds.categorical_kl(logits)
        return self._exact(logits, self._by_way(pixels))

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

    def _estimated(self, pixels: Tensor, logits: Tensor, noise: Callable[..., Tensor]) -> Estimate:
        """The estimate of the expected reconstruction, (M, B)."""
        members, images = pixels.shape[:2]

        def cost(sample: Tensor) -> Tensor:
            lead = sample.shape[:-4]
            flat = sample.flatten(-2).reshape(-1, members, images, sample.shape[-2] * sample.shape[-1])
            decoded = self.decode(flat.transpose(0, 1).flatten(1, 2)).view(members, -1, images, self.task.pixels)
            found = -bounds.bernoulli_log_prob(pixels.unsqueeze(1), decoded)
            return found.transpose(0, 1).reshape(*lead, members, images)

        known = get(str(self.estimator))
        options: dict[str, Any] = {"samples": int(str(self.arm.options["samples"])), "generator": noise}
        p = self.parameters
        if known.name == "reinforce":
            options["baseline"] = p["baseline"].detach().unsqueeze(-1)
        elif known.name == "nvil":
            hidden = torch.tanh(self._layer("baseline_in", pixels))
            options["baseline"] = self._layer("baseline_out", hidden).squeeze(-1)
        elif known.name == "rebar":
            options |= {"temperature": p["log_temperature"].exp().unsqueeze(-1), "eta": p["eta"].unsqueeze(-1)}
        elif known.name == "relax":
            options["control"] = self._control
        elif known.has_temperature:
            options["temperature"] = self.task.temperature
        found = known.function(logits, cost, **options)
        if known.name == "reinforce":  # the baseline goes to the mean loss, as a moving average does
            error = (found.losses.mean(0) - p["baseline"].unsqueeze(-1)).square()
            return found._replace(surrogate=found.surrogate + error - error.detach())
        return found

    def _control(self, scores: Tensor) -> Tensor:
        """A number of noisy scores (S, M, B, N, K), (S, M, B)."""
        samples, members, images = scores.shape[:3]
        flat = torch.softmax(scores, -1).flatten(-2).transpose(0, 1).flatten(1, 2)
        found = self._layer("control_out", torch.tanh(self._layer("control_in", flat)))
        return found.view(members, samples, images).transpose(0, 1)

    def _gaussian_bound(self, pixels: Tensor, noise: Callable[..., Tensor], samples: int) -> Tensor:
        """The ELBO (M, B) with samples `mean + exp(log_deviation) e` of N K / 2 normal variables."""
        weights = self._gaussian_weights(pixels, noise, samples)
        return weights.mean(0)

    def _gaussian_weights(self, pixels: Tensor, noise: Callable[..., Tensor], samples: int) -> Tensor:
        """`log p(x, z) - log q(z | x)`, (S, M, B)."""
        hidden = torch.relu(self._layer("encode", pixels))
        mean, log_deviation = self._layer("logits", hidden).chunk(2, -1)
        uniform = noise((samples, *mean.shape, 1)).squeeze(-1)
        drawn = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6)).to(mean)
        latent = mean + log_deviation.exp() * drawn
        flat = self.decode(latent.transpose(0, 1).flatten(1, 2))
        decoded = flat.view(len(pixels), samples, *pixels.shape[1:]).transpose(0, 1)
        likelihood = bounds.bernoulli_log_prob(pixels, decoded)
        # The constants of the two normal densities cancel.
        weights: Tensor = likelihood + (0.5 * (drawn.square() - latent.square()) + log_deviation).sum(-1)
        return weights

    def _noise(self, *labels: str | int) -> Callable[[tuple[int, ...]], Tensor]:
        """Uniform numbers for shapes (..., M, B, N, K): every seed's own, whoever else is in the fleet."""
        unique = sorted(set(self.seeds.tolist()))
        draws = {seed: generator(seed, *labels) for seed in unique}
        places = torch.tensor([unique.index(seed) for seed in self.seeds.tolist()])

        def drawn(shape: tuple[int, ...]) -> Tensor:
            lead, own = shape[:-4], shape[-3:]
            found = torch.stack([torch.rand(*lead, *own, generator=draws[seed]) for seed in unique], -4)
            return found.index_select(-4, places).to(self.device)

        return drawn

    def _of(self, part: str) -> Tensor:
        """A part's images for every member, (M, B, D)."""
        return self.images[part].expand(len(self.seeds), -1, -1)

    def evaluate(self) -> dict[str, Tensor]:
        """Negative ELBO of the validation in nats, exact where there are classes; at most that of a guess."""
        pixels = self._of("validation")
        if self.gaussian:
            loss = -self._gaussian_bound(pixels, self._noise("validation"), 4).mean(-1)
        else:
            loss = -self._exact(self.encode(pixels), self._by_way(pixels)).mean(-1)
        return {"loss": loss.clamp(max=self.task.chance).where(loss.isfinite(), math.nan)}

    def measure(self, role: Role, curves: Sequence[Curve]) -> list[Measurement]:
        budget = self.task.steps
        columns: dict[str, list[float]] = {"mean_loss": [mean_over_budget(curve, "loss", budget) for curve in curves]}
        figures: list[dict[str, JSON]] = [{} for _ in curves]
        if role == "judge":
            pixels = self._of("test")
            columns["steps_to_learn"] = [first_below(curve, "loss", self.task.learned, budget) for curve in curves]
            columns["solved"] = [float(curve["loss"][-1] < self.task.learned) for curve in curves]
            if self.gaussian:
                weights = self._gaussian_weights(pixels, self._noise("test"), GAUSSIAN_SAMPLES)
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
        pixels = self._of("test")[:, :LOOKED]
        with torch.enable_grad():
            logits = self.encode(pixels).detach().requires_grad_()
            value = -(self._posterior(logits) * self._by_way(pixels)).sum()
            (exact,) = torch.autograd.grad(value, logits)
            if self.arm.name == DETERMINISTIC:
                loss = -bounds.bernoulli_log_prob(pixels, self.decode(torch.softmax(logits, -1).flatten(-2)))
                made = [torch.autograd.grad(loss.sum(), logits)[0]]
            else:
                noise = self._noise("gradient")
                made = [
                    torch.autograd.grad(self._estimated(pixels, logits, noise).surrogate.sum(), logits)[0]
                    for _ in range(REPEATS)
                ]
        found = torch.stack(made).flatten(2)
        length = exact.flatten(1).norm(dim=-1).clamp_min(1e-12)
        wrong = (found.mean(0) - exact.flatten(1)).square().sum(-1)
        if len(made) == 1:
            return {"bias": wrong.sqrt() / length, "deviation": torch.zeros(members)}
        spread = found.var(0).sum(-1)
        return {"bias": (wrong - spread / len(made)).clamp_min(0).sqrt() / length, "deviation": spread.sqrt() / length}


def _parameters(task: "Encode", arm: Arm, seed: int) -> dict[str, Tensor]:
    """The initial parameters of a seed: what arms have in common is drawn alike, each layer by its own name."""
    codes = task.variables * task.classes
    latent = codes // 2 if arm.name == GAUSSIAN else codes
    layers = {
        "encode": (task.pixels, task.hidden),
        "logits": (task.hidden, codes),
        "decode": (latent, task.hidden),
        "pixels": (task.hidden, task.pixels),
    }
    extra: dict[str, Tensor] = {}
    match arm.options.get("estimator"):
        case "nvil":
            layers |= {"baseline_in": (task.pixels, _HIDDEN), "baseline_out": (_HIDDEN, 1)}
        case "relax":
            layers |= {"control_in": (codes, _HIDDEN), "control_out": (_HIDDEN, 1)}
        case "reinforce":
            extra = {"baseline": torch.tensor(task.chance)}
        case "rebar":
            extra = {"log_temperature": torch.tensor(0.5).log(), "eta": torch.tensor(1.0)}
    found: dict[str, Tensor] = {}
    for name, (inputs, outputs) in layers.items():
        draw = torch.Generator().manual_seed(derive(seed, "parameters", name))
        limit = inputs**-0.5
        found[f"{name}_weight"] = (2 * torch.rand(inputs, outputs, generator=draw) - 1) * limit
        found[f"{name}_bias"] = torch.zeros(outputs)
    return found | extra

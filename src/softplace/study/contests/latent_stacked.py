"""What the members of the latent contest have in common: stacked layers, their draws, and estimates of gradients.

Axis legend: M members, S samples, B images, D pixels, I and O inputs and outputs of a layer, N variables, K classes.

A linear layer is a matrix (M, I, O): all members in one batched product.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from softplace.latent.estimators import Estimate, get
from softplace.study.contest import Arm, Members, derive, generator

if TYPE_CHECKING:
    from softplace.study.contests.latent_tasks import Coded

HIDDEN = 16
"""Units of baselines and controls."""
Noise = Callable[[tuple[int, ...]], Tensor]


class Stacked(Members):
    """Networks of one arm, stacked, each with the order of images and the noise of its seed."""

    task: "Coded"

    def __init__(
        self,
        task: "Coded",
        arm: Arm,
        seeds: Sequence[int],
        device: torch.device,
        layers: Mapping[str, tuple[int, int]],
        numbers: Mapping[str, float],
    ) -> None:
        self.arm, self.device = arm, device
        self.seeds = torch.tensor(seeds, device=device)
        drawn = [_parameters(layers, numbers, seed) for seed in seeds]
        self.parameters = {name: torch.stack([each[name] for each in drawn]).to(device) for name in drawn[0]}
        self.buffers = {}
        self.images = {name: part.to(device) for name, part in task.images.items()}

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
        """Training images of a step, others for every seed, (M, B, D), and the step, by which each draws its noise."""
        numbers = torch.stack([
            torch.randint(len(self.images["train"]), (self.task.batch,), generator=generator(seed, "images", step))
            for seed in self.seeds.tolist()
        ])  # fmt: skip
        return self.images["train"][numbers.to(self.device)], torch.full((len(self.seeds),), step)

    def of(self, part: str) -> Tensor:
        """A part's images for every member, (M, B, D)."""
        return self.images[part].expand(len(self.seeds), -1, -1)

    def layer(self, name: str, inputs: Tensor) -> Tensor:
        """A linear layer: (*L, M, B, I) -> (*L, M, B, O)."""
        return self.each(
            lambda flat: torch.baddbmm(
                self.parameters[f"{name}_bias"].unsqueeze(1), flat, self.parameters[f"{name}_weight"]
            ),
            inputs,
        )

    @staticmethod
    def each(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """A function (M, R, I) -> (M, R, O) of rows that may have leading axes: (*L, M, B, I) -> (*L, M, B, O)."""
        if inputs.ndim == 3:
            return function(inputs)
        lead, (members, images, width) = inputs.shape[:-3], inputs.shape[-3:]
        made = function(inputs.reshape(-1, members, images, width).transpose(0, 1).flatten(1, 2))
        return made.view(members, -1, images, made.shape[-1]).transpose(0, 1).reshape(*lead, members, images, -1)

    def estimate(
        self,
        logits: Tensor,
        cost: Callable[[Tensor], Tensor],
        noise: Noise,
        temperature: float,
        pixels: Tensor,
        at: str = "",
    ) -> Estimate:
        """The estimate of an expected cost (*L, M, B) by the arm's estimator.

        Args:
            logits: (*L, M, B, N, K).
            cost: Of samples (..., *L, M, B, N, K), (..., *L, M, B).
            noise: See `noise`.
            temperature: Of estimators that have one.
            pixels: (M, B, I), what a network for a baseline sees.
            at: What the names of the layers of baselines and controls begin with.
        """
        known = get(str(self.estimator))
        options: dict[str, Any] = {"samples": int(str(self.arm.options["samples"])), "generator": noise}
        p = self.parameters
        if known.name == "reinforce":
            options["baseline"] = p[f"{at}baseline"].detach().unsqueeze(-1)
        elif known.name == "nvil":
            seen = torch.tanh(self.layer(f"{at}baseline_in", pixels))
            options["baseline"] = self.layer(f"{at}baseline_out", seen).squeeze(-1)
        elif known.name == "rebar":
            options |= {"temperature": p["log_temperature"].exp().unsqueeze(-1), "eta": p["eta"].unsqueeze(-1)}
        elif known.name == "relax":
            options["control"] = self._control
        elif known.has_temperature:
            options["temperature"] = temperature
        found = known.function(logits, cost, **options)
        if known.name == "reinforce":  # the baseline goes to the mean loss, as a moving average does
            error = (found.losses.mean(0) - p[f"{at}baseline"].unsqueeze(-1)).square()
            return found._replace(surrogate=found.surrogate + error - error.detach())
        return found

    def _control(self, scores: Tensor) -> Tensor:
        """A number of noisy scores (S, M, B, N, K), (S, M, B)."""
        seen = torch.tanh(self.layer("control_in", torch.softmax(scores, -1).flatten(-2)))
        return self.layer("control_out", seen).squeeze(-1)

    def of_controls(self, variance: Tensor) -> Tensor:
        """Zeros (M,) whose gradients are those of a sum over all members, each by its own parameters alone."""
        control = ("control", "log_temperature", "eta")
        learned = [p for name, p in self.parameters.items() if name.startswith(control) and p.requires_grad]
        if not learned:
            return torch.zeros(len(self.seeds), device=self.device)
        slopes = torch.autograd.grad(variance, learned, retain_graph=True)
        parts = [(s * (p - p.detach())).reshape(len(p), -1).sum(-1) for s, p in zip(slopes, learned, strict=True)]
        return torch.stack(parts).sum(0)

    def noise(self, *labels: str | int) -> Noise:
        """Uniform numbers for shapes (..., M, B, N, K): every seed's own, whoever else is in the fleet."""
        unique = sorted(set(self.seeds.tolist()))
        draws = {seed: generator(seed, *labels) for seed in unique}
        places = torch.tensor([unique.index(seed) for seed in self.seeds.tolist()])

        def drawn(shape: tuple[int, ...]) -> Tensor:
            lead, own = shape[:-4], shape[-3:]
            found = torch.stack([torch.rand(*lead, *own, generator=draws[seed]) for seed in unique], -4)
            return found.index_select(-4, places).to(self.device)

        return drawn


def baseline_layers(arm: Arm, pixels: int, codes: int, at: str = "") -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the layers that an arm's estimator learns beside; see `Stacked.estimate`."""
    match arm.options.get("estimator"):
        case "nvil":
            return {f"{at}baseline_in": (pixels, HIDDEN), f"{at}baseline_out": (HIDDEN, 1)}
        case "relax":
            return {"control_in": (codes, HIDDEN), "control_out": (HIDDEN, 1)}
    return {}


def baseline_numbers(arm: Arm, chance: float, at: str = "") -> dict[str, float]:
    """Numbers that an arm's estimator learns beside, at their start."""
    match arm.options.get("estimator"):
        case "reinforce":
            return {f"{at}baseline": chance}
        case "rebar":
            return {"log_temperature": math.log(0.5), "eta": 1.0}
    return {}


def in_parts(count: int, most: int) -> Iterator[slice]:
    """Slices of at most so many rows."""
    return (slice(first, first + most) for first in range(0, count, most))


def _parameters(layers: Mapping[str, tuple[int, int]], numbers: Mapping[str, float], seed: int) -> dict[str, Tensor]:
    """The initial parameters of a seed: what arms have in common is drawn alike, each layer by its own name."""
    found: dict[str, Tensor] = {}
    for name, (inputs, outputs) in layers.items():
        draw = torch.Generator().manual_seed(derive(seed, "parameters", name))
        limit = inputs**-0.5
        found[f"{name}_weight"] = (2 * torch.rand(inputs, outputs, generator=draw) - 1) * limit
        found[f"{name}_bias"] = torch.zeros(outputs)
    return found | {name: torch.tensor(value) for name, value in numbers.items()}

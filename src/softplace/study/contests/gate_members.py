"""The members of the gate contest: mixtures of experts with one gate, stacked, and what is measured of them.

Axis legend: M members, S seeds, B images, N images of a part, D pixels, E experts, H hidden units of each, K choices,
C classes, R regions.

A network is a mixture and nothing else: its outputs are the logits of the classes. All experts see all images, and
weights of 0 leave out what was not chosen: the same sums as those of `softplace.latent.mixture_of_experts`, for all
members in a few batched products. How weights are chosen is `softplace.latent.route` itself, mapped over members.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, cast

import torch
from torch import Tensor
from torch.nn import functional

from softplace.latent.experts_balance import load_balancing_loss, update_bias
from softplace.latent.experts_routing import Capacity, Order, Routing, count, limit, route
from softplace.study.contest import Arm, Curve, Measurement, Members, derive, generator
from softplace.study.contests._learning import first_below, mean_over_budget
from softplace.study.store import JSON, Role

if TYPE_CHECKING:
    from softplace.study.contests.gate import Classify

PARTS = ("train", "validation", "test")


class Mixtures(Members):
    """Networks of one arm, stacked, each with its own disguises of the digits, their order, and its own draw."""

    def __init__(self, task: "Classify", arm: Arm, seeds: Sequence[int], device: torch.device) -> None:
        self.task, self.arm, self.device = task, arm, device
        self.seeds = torch.tensor(seeds, device=device)
        drawn = [parameters_of(task, seed) for seed in seeds]
        self.parameters = {name: torch.stack([each[name] for each in drawn]).to(device) for name in drawn[0]}
        self.buffers = {"bias": torch.zeros(len(seeds), task.experts, device=device)} if self._rate else {}
        self.unique = sorted(set(seeds))
        orders = torch.stack([task.disguises(seed) for seed in self.unique])  # (S, R, D)
        # (S, N, R, D), the images of a part in every disguise: seeds have theirs, and members of a seed share them.
        self.pixels = {
            part: task.digits[part][0][:, orders].permute(1, 0, 2, 3).contiguous().to(device) for part in PARTS
        }
        self.labels = {part: task.digits[part][1].to(device) for part in PARTS}

    @property
    def _rate(self) -> float:
        """Of the bias that balances without a loss; 0: none."""
        return float(cast(float, self.arm.options.get("rate", 0.0)))

    @property
    def _top(self) -> int | None:
        return cast("int | None", self.arm.options.get("top"))

    def select(self, keep: Tensor) -> Self:
        chosen = super().select(keep)
        chosen.seeds = self.seeds[keep]
        return chosen

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Images (M, B, D) and labels (M, B), others for every seed; with a bias also that, (M, E).

        The bias of the next step is set here (algorithm 1 of Wang et al.), as the parameters are those that `losses`
        will use: so it is a buffer that a checkpoint keeps.
        """
        total = len(self.labels["train"])
        rows, regions = [], []
        for seed in self.seeds.tolist():
            draw = generator(seed, "images", step)
            rows.append(torch.randint(total, (self.task.batch,), generator=draw))
            regions.append(torch.randint(self.task.regions, (self.task.batch,), generator=draw))
        number, region = torch.stack(rows).to(self.device), torch.stack(regions).to(self.device)
        images = self._images("train", number * self.task.regions + region)
        if not self._rate:
            return images, self.labels["train"][number]
        bias = self.buffers["bias"]
        with torch.no_grad():
            counts = torch.vmap(count)(self.route(images, bias))
            self.buffers["bias"] = torch.vmap(lambda one, tokens: update_bias(one, tokens, self._rate))(bias, counts)
        return images, self.labels["train"][number], bias

    def _images(self, part: str, place: Tensor) -> Tensor:
        """Images (M, B, D) of places (M, B) in the N R of each member's seed."""
        of_seeds = self.pixels[part]
        each = of_seeds.shape[1] * of_seeds.shape[2]
        own = torch.searchsorted(torch.tensor(self.unique, device=self.device), self.seeds)
        flat = of_seeds.flatten(0, 2).index_select(0, (place + each * own.unsqueeze(-1)).flatten())
        return flat.view(*place.shape, -1)

    def part(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """A part's images, their labels and regions, (M, B): of the test each in every disguise, else in one."""
        total, regions = len(self.labels[name]), self.task.regions
        each = regions if name == "test" else 1
        number = torch.arange(total * each, device=self.device)
        region = (number % regions).expand(len(self.seeds), -1)
        images = self._images(name, number // each * regions + region)
        return images, self.labels[name][number // each].expand_as(region), region

    def route(self, images: Tensor, bias: Tensor | None = None) -> Routing:
        """Where images go: `route` of every member, with a leading axis of members."""
        if self.arm.options.get("gate") == "uniform":
            scores = images.new_zeros(*images.shape[:2], self.task.experts)
        else:
            gate = self.parameters["gate"]
            scores = images @ (gate.detach() if self.arm.options.get("gate") == "fixed" else gate).mT
        order = cast(Order, self.arm.options.get("order", "map-top"))
        bias = torch.zeros_like(scores[:, 0]) if bias is None else bias

        def one(own: Tensor, added: Tensor) -> Routing:
            return route(own, map=self.arm.map, top=self._top, order=order, bias=added)

        return torch.vmap(one)(scores, bias)

    def weights(self, routing: Routing) -> Tensor:
        """(M, B, E), 0 where an image is not sent."""
        return torch.zeros_like(routing.probabilities).scatter(-1, routing.experts, routing.weights)

    def logits(self, images: Tensor, weights: Tensor) -> Tensor:
        """The sum over experts of their weight times what they say, (M, B, C)."""
        p = self.parameters
        members, experts, hidden, pixels = p["up"].shape
        up, bias = p["up"].view(members, experts * hidden, pixels), p["up_bias"].view(members, 1, experts * hidden)
        inside = torch.relu(torch.baddbmm(bias, images, up.mT)).view(members, -1, experts, hidden)
        weighed = (inside * weights.unsqueeze(-1)).flatten(-2)
        down = p["down"].transpose(1, 2).flatten(-2)  # (M, C, E H)
        return weighed @ down.mT + weights @ p["down_bias"]

    def losses(self, *batch: Tensor) -> Tensor:
        """Cross-entropy in nats, the mean of the images, (M,), and the balance loss of arms that have one."""
        images, labels, *bias = batch
        routing = self.route(images, bias[0] if bias else None)
        found = self._cross_entropy(self.logits(images, self.weights(routing)), labels).mean(-1)
        factor = float(cast(float, self.arm.options.get("balance", 0.0)))
        if not factor:
            return found
        return found + factor * torch.vmap(lambda one: load_balancing_loss(one.probabilities, count(one)))(routing)

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(M, B)."""
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)

    def evaluate(self) -> dict[str, Tensor]:
        """Nats of the validation; at most those of a guess."""
        images, labels, _ = self.part("validation")
        weights = self.weights(self.route(images, self.buffers.get("bias")))
        loss = self._cross_entropy(self.logits(images, weights), labels).mean(-1)
        return {"loss": loss.clamp(max=self.task.chance).where(loss.isfinite(), math.nan)}

    def measure(self, role: Role, curves: Sequence[Curve]) -> list[Measurement]:
        budget = self.task.steps
        columns: dict[str, list[float]] = {"mean_loss": [mean_over_budget(curve, "loss", budget) for curve in curves]}
        figures: list[dict[str, JSON]] = [{} for _ in curves]
        if role == "judge":
            columns["steps_to_learn"] = [first_below(curve, "loss", self.task.learned, budget) for curve in curves]
            columns["solved"] = [float(curve["loss"][-1] < self.task.learned) for curve in curves]
            images, labels, region = self.part("test")
            routing = self.route(images, self.buffers.get("bias"))
            weights = self.weights(routing)
            logits = self.logits(images, weights)
            capped, dropped = self._capped(routing)
            columns["loss"] = self._cross_entropy(logits, labels).mean(-1).tolist()
            columns["error"] = (1.0 - (logits.argmax(-1) == labels).float().mean(-1)).tolist()
            columns["capped"] = self._cross_entropy(self.logits(images, capped), labels).mean(-1).tolist()
            columns["dropped"] = dropped
            columns["load"] = variation(torch.vmap(count)(routing).to(weights)).tolist()
            columns["importance"] = variation(weights.sum(1)).tolist()
            columns["entropy"] = entropy(weights).mean(-1).tolist()
            shares = by_region(weights, region, self.task.regions)
            columns["information"] = information(shares).tolist()
            for figure, each in zip(figures, shares.tolist(), strict=True):
                figure["regions"] = [[round(value, 3) for value in row] for row in each]
        return [
            Measurement(metrics={name: values[member] for name, values in columns.items()}, probes=figures[member])
            for member in range(len(curves))
        ]

    def _capped(self, routing: Routing) -> tuple[Tensor, list[float]]:
        """Weights (M, B, E) where an expert takes no more than if all had as many, and the share of choices dropped.

        The capacity is that of a factor of 1; where a map leaves some of its choices at 0, those do not count.
        """
        weights, dropped = [], []
        for one in (Routing(*parts) for parts in zip(*routing, strict=True)):
            sent = count(one)
            tokens, experts = one.probabilities.shape
            slots = math.ceil(int(sent.sum()) / experts)
            if self._top is not None:
                slots = Capacity(1.0).slots(tokens, self._top, experts)
            left = limit(one, max(1, slots))
            weights.append(self.weights(left))
            dropped.append(1.0 - int(count(left).sum()) / max(1, int(sent.sum())))
        return torch.stack(weights), dropped


def variation(loads: Tensor) -> Tensor:
    """The coefficient of variation of what experts got (M, E), deviation over mean, (M,): 0 where it is even."""
    return loads.std(-1, correction=0) / loads.mean(-1).clamp_min(torch.finfo(loads.dtype).tiny)


def entropy(weights: Tensor) -> Tensor:
    """In nats, of weights divided by their sum along the last axis."""
    shares = weights / weights.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    found: Tensor = torch.special.entr(shares).sum(-1)
    return found


def by_region(weights: Tensor, region: Tensor, regions: int) -> Tensor:
    """The mean weight of every expert in every region, as shares of the whole: (M, R, E), rows sum to 1."""
    inside = functional.one_hot(region, regions).to(weights)  # (M, B, R)
    sums = inside.mT @ weights
    return sums / sums.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)


def information(shares: Tensor) -> Tensor:
    """Nats that the expert says of the region, where all regions are as frequent: of (M, R, E), (M,)."""
    return entropy(shares.mean(-2)) - entropy(shares).mean(-1)


def parameters_of(task: "Classify", seed: int) -> dict[str, Tensor]:
    """The initial parameters of a seed, the same for all arms, each by its own name."""
    sizes = {
        "gate": ((task.experts, task.pixels), task.pixels),
        "up": ((task.experts, task.hidden, task.pixels), task.pixels),
        "down": ((task.experts, task.classes, task.hidden), task.hidden),
    }
    found: dict[str, Tensor] = {}
    for name, (shape, inputs) in sizes.items():
        draw = torch.Generator().manual_seed(derive(seed, "parameters", name))
        found[name] = (2 * torch.rand(shape, generator=draw) - 1) * inputs**-0.5
    found["up_bias"] = torch.zeros(task.experts, task.hidden)
    found["down_bias"] = torch.zeros(task.experts, task.classes)
    return found

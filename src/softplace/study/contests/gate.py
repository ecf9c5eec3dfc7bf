"""The gate of the latent place: a mixture of experts, all or two of them, that one map or another weighs.

Axis legend: N images, D pixels, R regions.

The task is one in which experts have something to share out. Plain digits are not: in a pilot (300 steps, seeds of its
own) a mixture without a gate, which is a plain network, did as well as any (0.14 nats; softmax 0.15). So every image
comes in one of a few disguises, orders of its pixels that each seed draws for itself: a digit looks otherwise in each,
and no expert is large enough for all. Which disguise an image is in, nobody says; the gate may find out. A network
without a gate may do without that too, so that the claim that a gate is needed can fail.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from softplace.study.contest import HALF_DECADES, Arm, Contest, Members, Metric, Options, Task, generator
from softplace.study.contests import gate_report
from softplace.study.contests._learning import check_arm, own_settings
from softplace.study.contests.gate_arms import ARMS, chosen_arms
from softplace.study.contests.gate_members import Mixtures
from softplace.study.optimizer import Adam
from softplace.study.store import JSON

_PARTS = (0.6, 0.8)  # training up to here, validation up to there, then test


@dataclass(frozen=True, kw_only=True)
class Classify(Task):
    """Learn to name digits in disguise by a mixture of experts.

    Args:
        regions: Disguises, R: orders of the pixels.
        experts: Networks of one hidden layer, E.
        hidden: Units of each.
        batch: Images in a step.
        learned: Nats below which a network has learned.
    """

    regions: int
    experts: int
    hidden: int
    batch: int
    learned: float

    @cached_property
    def digits(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """scikit-learn's digits, pixels (N, D) from 0 to 1 and labels (N,), in parts that all seeds share."""
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]

        values, names = load_digits(return_X_y=True)
        order = torch.randperm(len(names), generator=generator(0, "parts of digits"))
        pixels, labels = torch.from_numpy(values).float()[order] / 16.0, torch.from_numpy(names).long()[order]
        first, second = (round(part * len(order)) for part in _PARTS)
        cuts = {"train": slice(None, first), "validation": slice(first, second), "test": slice(second, None)}
        return {name: (pixels[cut], labels[cut]) for name, cut in cuts.items()}

    def disguises(self, seed: int) -> Tensor:
        """Orders of the pixels, (R, D)."""
        draw = generator(seed, "disguises")
        return torch.stack([torch.randperm(self.pixels, generator=draw) for _ in range(self.regions)])

    @property
    def pixels(self) -> int:
        """D."""
        return self.digits["train"][0].shape[1]

    @property
    def classes(self) -> int:
        return 10

    @property
    def chance(self) -> float:
        """Nats of a guess."""
        return math.log(self.classes)

    @property
    def validation(self) -> Metric:
        label = "nats an image, mean over the budget"
        return Metric(name="mean_loss", label=label, higher_is_better=False, worst=self.chance)

    @property
    def metrics(self) -> Sequence[Metric]:
        steps, uneven = f"steps to {self.learned:g} nats an image", math.sqrt(self.experts - 1)

        def low(name: str, label: str, worst: float) -> Metric:
            return Metric(name=name, label=label, higher_is_better=False, worst=worst)

        return (
            self.validation,
            low("steps_to_learn", steps, float(self.steps)),
            Metric(name="solved", label="share of networks that get there", higher_is_better=True, worst=0.0),
            low("loss", "test nats an image", self.chance),
            low("error", "test error", 1.0),
            low("capped", "test nats with a capacity of 1", self.chance),
            low("dropped", "share of choices dropped with a capacity of 1", 1.0),
            low("load", "variation of the experts' images", uneven),
            low("importance", "variation of the experts' weights", uneven),
            low("entropy", "entropy of an image's weights (nats)", math.log(self.experts)),
            Metric(
                name="information",
                label="what the expert says of the disguise (nats)",
                higher_is_better=True,
                worst=0.0,
            ),
        )

    def settings(self) -> Mapping[str, JSON]:
        return {"kind": "mixture"} | dict(own_settings(self))

    def members(self, arm: Arm, seeds: Sequence[int], device: torch.device) -> Members:
        return Mixtures(self, arm, seeds, device)


SIZES: dict[str, dict[str, Any]] = {
    "quick": {"hidden": 4, "batch": 32, "steps": 250, "evaluate_every": 25, "learned": 0.6},
    "full": {"hidden": 8, "batch": 64, "steps": 3_000, "evaluate_every": 100, "learned": 0.3},
}


def contest(options: Options) -> Contest:
    """The contest of the gate."""
    arms = chosen_arms(options.maps)
    task = Classify(
        name="mixture",
        label="digits in 4 disguises, 8 experts",
        regions=4,
        experts=8,
        learning_rates=HALF_DECADES[2:6] if options.preset == "quick" else HALF_DECADES,
        optimizer=Adam(),
        largest_fleet=60,
        **SIZES[options.preset],
    )
    for arm in arms:
        if arm not in ARMS:
            check_arm(task, arm, "loss")
    return Contest(
        place="latent",
        name="gate",
        arms=arms,
        tasks=(task,),
        report=gate_report.report,
        code=(
            "softplace.maps",
            "softplace.latent",
            "softplace.study.contests._learning",
            "softplace.study.contests.gate",
            "softplace.study.contests.gate_arms",
            "softplace.study.contests.gate_members",
        ),
        uses=("preset", "maps"),
    )

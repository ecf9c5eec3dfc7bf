"""The latent place: one autoencoder with a categorical latent variable, by one map or another, one gradient or another.

Axis legend: D pixels, N variables, K classes.

The classes are few enough to be enumerated, so that the bound, the likelihood and the gradient are known exactly, and
what an estimator gets wrong is measured. Every network has the same architecture, initial draw and images per seed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.latent import data as images_of
from softplace.latent.bounds import check_choice
from softplace.latent.data import binarise
from softplace.study.contest import HALF_DECADES, Arm, Contest, Members, Metric, Options, Task, generator
from softplace.study.contests import latent_report
from softplace.study.contests._learning import check_arm, own_settings
from softplace.study.contests.latent_arms import ARMS, chosen_arms
from softplace.study.contests.latent_members import Autoencoders
from softplace.study.data import Table
from softplace.study.optimizer import Adam
from softplace.study.store import JSON


@dataclass(frozen=True, kw_only=True)
class Encode(Task):
    """Learn to encode images by N variables of K classes each, and to decode them (see `latent.CategoricalVAE`).

    Args:
        variables, classes: N and K; K**N configurations are enumerated.
        hidden: Units between pixels and latent variables, and back.
        batch: Images in a step.
        temperature: Of the Gumbel-softmax estimators.
        share: The share of the nats of a guess below which a network has learned.
        shown: Every how many'th configuration is drawn.
        table: Whose columns are the pixels; None: scikit-learn's digits.
    """

    variables: int
    classes: int
    hidden: int
    batch: int
    temperature: float
    share: float
    shown: int
    table: Table | None = None

    @cached_property
    def images(self) -> Mapping[str, Tensor]:
        """Zeros and ones in three parts that are the same for all seeds.

        scikit-learn's digits above 1/2; of a table its columns above the middle of their range, missing cells as 0.
        """
        if self.table is None:
            loaded = images_of.load("digits")
        else:
            columns = self.table.features
            middle = (np.nanmin(columns, 0) + np.nanmax(columns, 0)) / 2
            loaded = images_of.in_parts((columns > middle).astype(np.float64))
        draw = generator(0, "binarised")
        return {
            part: binarise(getattr(loaded, part), "fixed", draw).contiguous()
            for part in ("train", "validation", "test")
        }

    @property
    def shape(self) -> tuple[int, int]:
        """Of an image as it is drawn: a square, where the pixels make one."""
        side = math.isqrt(self.pixels)
        return (side, side) if side**2 == self.pixels else (1, self.pixels)

    @property
    def learned(self) -> float:
        """Nats an image below which a network has learned."""
        return round(self.share * self.chance, 2)

    @property
    def pixels(self) -> int:
        """D."""
        return self.images["train"].shape[1]

    @property
    def chance(self) -> float:
        """Nats of a network that answers 1/2 for every pixel."""
        return self.pixels * math.log(2)

    @property
    def validation(self) -> Metric:
        label = "nats an image (negative ELBO), mean over the budget"
        return Metric(name="mean_loss", label=label, higher_is_better=False, worst=self.chance)

    @property
    def metrics(self) -> Sequence[Metric]:
        steps = f"steps to {self.learned:g} nats an image"
        most = float(self.classes)
        return (
            self.validation,
            Metric(name="steps_to_learn", label=steps, higher_is_better=False, worst=float(self.steps)),
            Metric(name="solved", label="share of networks that get there", higher_is_better=True, worst=0.0),
            Metric(name="loss", label="negative ELBO", higher_is_better=False, worst=self.chance),
            Metric(name="nll", label="negative log-likelihood", higher_is_better=False, worst=self.chance),
            Metric(name="perplexity", label=f"classes in use, of {most:g}", higher_is_better=True, worst=1.0),
            Metric(name="bias", label="bias of the gradient, over its length", higher_is_better=False, worst=10.0),
            Metric(
                name="deviation",
                label="deviation of the gradient, over its length",
                higher_is_better=False,
                worst=100.0,
            ),
        )

    def settings(self) -> Mapping[str, JSON]:
        known = None if self.table is None else self.table.fingerprint
        return {"kind": "vae", "table": known} | dict(own_settings(self, without=("table",)))

    def members(self, arm: Arm, seeds: Sequence[int], device: torch.device) -> Members:
        return Autoencoders(self, arm, seeds, device)


SIZES: dict[str, dict[str, Any]] = {
    "quick": {"hidden": 32, "batch": 50, "steps": 400, "evaluate_every": 40, "share": 0.54},
    "full": {"hidden": 128, "batch": 100, "steps": 10_000, "evaluate_every": 200, "share": 0.47},
}


def contest(options: Options) -> Contest:
    """The contest of the latent place."""
    arms = chosen_arms(options.maps)
    table = options.table
    if table is not None and len(table.features) < 10:
        raise InputError(
            f"'data' must have 10 rows or more for the place 'latent'. Got {len(table.features)}. Give more, or name "
            "other places."
        )
    task = Encode(
        name="vae",
        label=f"{'digits' if table is None else table.name}, 3 variables of 4 classes",
        table=table,
        variables=3,
        classes=4,
        temperature=0.5,
        shown=4,
        learning_rates=HALF_DECADES[:6] if options.preset == "quick" else HALF_DECADES,
        optimizer=Adam(),
        largest_fleet=60,
        **SIZES[options.preset],
    )
    for arm in arms:
        if arm not in ARMS:
            check_choice(arm.map)
            check_arm(task, arm, "loss")
    return Contest(
        place="latent",
        name="latent",
        arms=arms,
        tasks=(task,),
        report=latent_report.report,
        code=(
            "softplace.maps",
            "softplace.latent",
            "softplace.study.contests._learning",
            "softplace.study.contests.latent",
            "softplace.study.contests.latent_arms",
            "softplace.study.contests.latent_members",
        ),
        uses=("preset", "maps", "table"),
    )

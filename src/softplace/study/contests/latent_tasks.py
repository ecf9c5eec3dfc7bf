"""The tasks of the latent contest: to encode images by categorical variables, or to predict half of an image.

Axis legend: D pixels, N variables, K classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from softplace.latent import data as images_of
from softplace.latent.data import binarise
from softplace.latent.estimators import anneal
from softplace.study.contest import Arm, Members, Metric, Task, generator
from softplace.study.contests._learning import own_settings
from softplace.study.contests.latent_members import Autoencoders
from softplace.study.contests.latent_sampled import Predictors, SampledAutoencoders
from softplace.study.data import Table
from softplace.study.store import JSON


@dataclass(frozen=True, kw_only=True)
class Coded(Task):
    """A task of images of zeros and ones, whose networks have categorical latent variables.

    Args:
        variables, classes: N and K.
        batch: Images in a step.
        temperature: Of the Gumbel-softmax estimators.
        table: Whose columns are the pixels; None: scikit-learn's digits.
    """

    variables: int
    classes: int
    batch: int
    temperature: float
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

    def settings(self) -> Mapping[str, JSON]:
        known = None if self.table is None else self.table.fingerprint
        return {"kind": type(self).__name__, "table": known} | dict(own_settings(self, without=("table",)))

    def nats(self, name: str, label: str) -> Metric:
        return Metric(name=name, label=label, higher_is_better=False, worst=self.chance)

    def in_use(self) -> Metric:
        label = f"classes in use, of {self.classes}"
        return Metric(name="perplexity", label=label, higher_is_better=True, worst=1.0)


@dataclass(frozen=True, kw_only=True)
class Encode(Coded):
    """Learn to encode images and to decode them (see `latent.CategoricalVAE`); K**N configurations are enumerated.

    Args:
        hidden: Units between pixels and latent variables, and back.
        share: The share of the nats of a guess below which a network has learned.
        shown: Every how many'th configuration is drawn.
    """

    hidden: int
    share: float
    shown: int

    @property
    def shape(self) -> tuple[int, int]:
        """Of an image as it is drawn: a square, where the pixels make one."""
        side = math.isqrt(self.pixels)
        return (side, side) if side**2 == self.pixels else (1, self.pixels)

    @property
    def learned(self) -> float:
        """Nats an image below which a network has learned."""
        return round(self.share * self.chance, 2)

    def temperature_at(self, step: int) -> float:
        """Of the Gumbel-softmax estimators at a step of the training: always the same."""
        return self.temperature

    @property
    def metrics(self) -> Sequence[Metric]:
        steps = f"steps to {self.learned:g} nats an image"
        return (
            self.validation,
            Metric(name="steps_to_learn", label=steps, higher_is_better=False, worst=float(self.steps)),
            Metric(name="solved", label="share of networks that get there", higher_is_better=True, worst=0.0),
            self.nats("loss", "negative ELBO"),
            self.nats("nll", "negative log-likelihood"),
            self.in_use(),
            Metric(name="bias", label="bias of the gradient, over its length", higher_is_better=False, worst=10.0),
            Metric(
                name="deviation",
                label="deviation of the gradient, over its length",
                higher_is_better=False,
                worst=100.0,
            ),
        )

    def members(self, arm: Arm, seeds: Sequence[int], device: torch.device) -> Members:
        return Autoencoders(self, arm, seeds, device)


@dataclass(frozen=True, kw_only=True)
class _Sampled(Coded):
    """A task of more configurations than can be enumerated: bounds are of one-hot samples.

    Args:
        anneal_rate: Of the temperature of Gumbel-softmax estimators, from 1 down to `temperature` (see `anneal`).
        samples: Of the importance-weighted bound that stands for the log-likelihood.
    """

    anneal_rate: float
    samples: int

    def temperature_at(self, step: int) -> float:
        """Of the Gumbel-softmax estimators at a step of the training."""
        return anneal(step, rate=self.anneal_rate, least=self.temperature)

    @property
    def metrics(self) -> Sequence[Metric]:
        likelihood = f"negative log-likelihood, by a bound of {self.samples} samples"
        return (self.validation, self.nats("loss", "negative bound"), self.nats("nll", likelihood), self.in_use())


@dataclass(frozen=True, kw_only=True)
class EncodeSampled(_Sampled):
    """As `Encode`, by samples: the autoencoder of Jang et al. 2017, Table 1.

    Args:
        hidden: As of `Encode`.
    """

    hidden: int

    def members(self, arm: Arm, seeds: Sequence[int], device: torch.device) -> Members:
        return SampledAutoencoders(self, arm, seeds, device)


@dataclass(frozen=True, kw_only=True)
class Predict(_Sampled):
    """Predict the lower half of an image from the upper by two layers of variables (`latent.CategoricalPredictor`)."""

    @property
    def predicted(self) -> int:
        """Pixels of the lower half."""
        return self.pixels - self.pixels // 2

    @property
    def chance(self) -> float:
        return self.predicted * math.log(2)

    @property
    def validation(self) -> Metric:
        return self.nats("mean_loss", "nats a half image (negative bound), mean over the budget")

    def members(self, arm: Arm, seeds: Sequence[int], device: torch.device) -> Members:
        return Predictors(self, arm, seeds, device)

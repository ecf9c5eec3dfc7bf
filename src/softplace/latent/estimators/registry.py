"""Every estimator by name, with its usual options and what a user chooses by."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

from softplace.errors import InputError, nearest
from softplace.latent.estimators._parts import Estimate
from softplace.latent.estimators.control import rebar, relax
from softplace.latent.estimators.coupled import arsm, disarm
from softplace.latent.estimators.exact import marginalise
from softplace.latent.estimators.relaxed import (
    gapped_straight_through,
    gumbel_softmax,
    rao_blackwell_gumbel,
    straight_through,
)
from softplace.latent.estimators.score_function import nvil, reinforce


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """What is known of an estimator."""

    name: str
    function: Callable[..., Estimate]
    """`function(logits, loss, *, samples=1, generator=None)`, with its usual options."""
    unbiased: bool
    """For the gradient of the expected loss of one-hot samples, by the weights of `map`."""
    reference: str
    evaluations: str
    """Losses per sample, in words."""
    differentiates: bool
    """Whether it needs the loss's gradient with respect to the sample."""
    relaxes: bool = False
    """Whether the loss must be defined inside the simplex."""
    needs_enumeration: bool = False
    least_samples: int = 1
    map: str = "softmax"
    """From logits to the probabilities of the classes."""

    @cached_property
    def has_temperature(self) -> bool:
        """Whether a temperature is to be chosen; REBAR learns its own."""
        return "temperature" in inspect.signature(self.function).parameters and self.name != "rebar"


_ALL = "all K**N, once"

ESTIMATORS: dict[str, Estimator] = {
    each.name: each
    for each in (
        Estimator(
            name="marginalise",
            function=marginalise,
            unbiased=True,
            reference="enumeration",
            evaluations=_ALL,
            differentiates=False,
            needs_enumeration=True,
        ),
        Estimator(
            name="marginalise-sparsemax",
            function=partial(marginalise, map="sparsemax"),
            unbiased=True,
            reference="Correia et al. 2020",
            evaluations="those of non-zero weight, once",
            differentiates=False,
            needs_enumeration=True,
            map="sparsemax",
        ),
        Estimator(
            name="marginalise-entmax15",
            function=partial(marginalise, map="entmax15"),
            unbiased=True,
            reference="Correia et al. 2020",
            evaluations="those of non-zero weight, once",
            differentiates=False,
            needs_enumeration=True,
            map="entmax15",
        ),
        Estimator(
            name="reinforce",
            function=reinforce,
            unbiased=True,
            reference="Williams 1992",
            evaluations="1",
            differentiates=False,
        ),
        Estimator(
            name="reinforce-leave-one-out",
            function=partial(reinforce, baseline="leave-one-out"),
            unbiased=True,
            reference="Kool et al. 2019",
            evaluations="1",
            differentiates=False,
            least_samples=2,
        ),
        Estimator(
            name="nvil",
            function=nvil,
            unbiased=True,
            reference="Mnih and Gregor 2014",
            evaluations="1",
            differentiates=False,
        ),
        Estimator(
            name="rebar",
            function=rebar,
            unbiased=True,
            reference="Tucker et al. 2017",
            evaluations="2",
            differentiates=True,
            relaxes=True,
        ),
        Estimator(
            name="relax",
            function=relax,
            unbiased=True,
            reference="Grathwohl et al. 2018",
            evaluations="2; 1 with a control of its own",
            differentiates=True,
            relaxes=True,
        ),
        Estimator(
            name="arsm",
            function=arsm,
            unbiased=True,
            reference="Yin et al. 2019",
            evaluations="1 + K (K - 1) / 2",
            differentiates=False,
        ),
        Estimator(
            name="disarm",
            function=disarm,
            unbiased=True,
            reference="Dong et al. 2021",
            evaluations="2",
            differentiates=False,
        ),
        Estimator(
            name="straight-through",
            function=straight_through,
            unbiased=False,
            reference="Bengio et al. 2013",
            evaluations="1",
            differentiates=True,
        ),
        Estimator(
            name="gumbel-softmax",
            function=gumbel_softmax,
            unbiased=False,
            reference="Jang et al. 2017",
            evaluations="1",
            differentiates=True,
            relaxes=True,
        ),
        Estimator(
            name="straight-through-gumbel",
            function=partial(gumbel_softmax, hard=True),
            unbiased=False,
            reference="Jang et al. 2017",
            evaluations="1",
            differentiates=True,
        ),
        Estimator(
            name="gapped-straight-through",
            function=gapped_straight_through,
            unbiased=False,
            reference="Fan et al. 2022",
            evaluations="1",
            differentiates=True,
        ),
        Estimator(
            name="rao-blackwell-gumbel",
            function=rao_blackwell_gumbel,
            unbiased=False,
            reference="Paulus et al. 2021",
            evaluations="1",
            differentiates=True,
        ),
    )
}
"""In the order of a table: exact, unbiased, biased."""


def get(name: str) -> Estimator:
    """The estimator of a name.

    Raises:
        InputError: No such name.

    >>> get("disarm").unbiased
    True
    """
    if name not in ESTIMATORS:
        raise InputError(f"Unknown estimator {name!r}. {nearest(str(name), tuple(ESTIMATORS))}")
    return ESTIMATORS[name]

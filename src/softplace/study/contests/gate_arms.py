"""The arms of the gate contest: which experts see an input, and with what weights.

No axes.

With softmax, to map all scores, choose two and divide by their sum is the same function as to choose two and map these
alone (see `softplace.latent.route`): these are one arm, "softmax of top 2". "top 2 of softmax" does not divide.
"""

from collections.abc import Sequence

from softplace.maps import Map
from softplace.study.contest import Arm
from softplace.study.contests._arms import choose
from softplace.study.store import JSON

UNIFORM, FIXED = "no gate", "fixed gate"
SPARSEMAX, SIGMOID = "sparsemax", "sigmoid"
AFTER, BEFORE, SIGMOID_TOP, SINKHORN = "top 2 of softmax", "softmax of top 2", "top 2 of sigmoid", "Sinkhorn"
UNBALANCED, BIAS = "top 2, not balanced", "top 2, bias"
TOP = 2
BALANCE = 0.1
"""The factor of the balance loss. The usual 0.01 is for long training: in a pilot of 400 steps it left a variation of
the experts' images of 0.6 to 1.0 (0.1: 0.3 to 0.4; none: 1.3)."""


def _top(name: str, order: str, *, map: str = "softmax", **options: JSON) -> Arm:  # noqa: A002 - the word of the field
    return Arm(name=name, map=map, options={"top": TOP, "order": order, **options})


ARMS = (
    # All experts, by the weights of a map.
    Arm(name="softmax", map="softmax"),
    Arm(name=SPARSEMAX, map="sparsemax"),
    Arm(name=SIGMOID, map="sigmoid"),  # the weights do not sum to 1
    # Two experts, with the balance loss.
    _top(AFTER, "map-top", balance=BALANCE),
    _top(BEFORE, "top-map", balance=BALANCE),
    _top(SIGMOID_TOP, "map-top-normalise", map="sigmoid", balance=BALANCE),
    # Two experts, without it.
    _top(SINKHORN, "map-top-normalise", map="sinkhorn"),
    _top(UNBALANCED, "top-map"),
    _top(BIAS, "top-map", rate=0.01),
    # Nothing learns which. The map of the first is not used: the weights are all the same.
    Arm(name=UNIFORM, map="softmax", options={"gate": "uniform"}),
    _top(FIXED, "top-map", gate="fixed"),
)
TWO = (AFTER, BEFORE)
"""Softmax and two experts, balanced by a loss."""


def chosen_arms(chosen: Sequence[str | Map] | None) -> tuple[Arm, ...]:
    """The arms of some maps, or all: see `choose`. A map that is in no arm weighs all experts."""
    return choose(ARMS, chosen, place="latent", example="sparsemax,sigmoid")

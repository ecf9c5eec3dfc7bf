"""The arms of the memory contest: maps in the content look-up of one machine, and what is left without it.

Axis legend: N slots, along `dim`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from softplace import maps
from softplace.maps import Map
from softplace.study.contest import Arm
from softplace.study.contests._arms import choose


def straight_through_hardmax(scores: Tensor, dim: int = -1) -> Tensor:
    """One for the best slot and 0 for the others, with the gradient of softmax (`softplace.maps.hardmax` has none).

    `p = hardmax(s)`, and backward as if `p = softmax(s)`; equal best slots share the weight equally.

    Source: Bengio, Leonard and Courville 2013 (arXiv:1308.3432) for the estimator, of softmax as in Jang, Gu and Poole
    2017 (arXiv:1611.01144, section 2.2), here without noise.
    """
    soft = torch.softmax(scores, dim)
    return maps.hardmax(scores, dim).detach() + (soft - soft.detach())


LOCATION, NOWHERE, LSTM = "location only", "uniform", "LSTM"
ARMS = (
    Arm(name="softmax", map="softmax"),
    Arm(name="sparsemax", map="sparsemax"),
    Arm(name="entmax15", map="entmax15"),
    Arm(name="sigmoid-normalised", map="sigmoid_normalised"),
    Arm(name="relu-normalised", map="relu_normalised"),
    Arm(name="hardmax", map=straight_through_hardmax),
    # No look-up by content: the heads can only stay or shift, from where they start.
    Arm(name=LOCATION, map="uniform"),
    # No address at all: heads that start everywhere alike stay so, and all slots hold the same.
    Arm(name=NOWHERE, map="uniform", options={"start": "everywhere"}),
    # No memory; a network of as many parameters. Its map is not used.
    Arm(name=LSTM, map="uniform", options={"model": "lstm"}),
)


def chosen_arms(chosen: Sequence[str | Map] | None) -> tuple[Arm, ...]:
    """The arms of some maps, or all: see `choose`."""
    return choose(ARMS, chosen, place="memory", example="sparsemax,uniform")

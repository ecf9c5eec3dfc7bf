"""The arms of the memory contest: maps in the content look-up of one machine, and what is left without it.

Axis legend: N slots, along `dim`.
"""

from collections.abc import Sequence

from softplace.maps import Map
from softplace.memory.hard import straight_through_hardmax
from softplace.study.contest import Arm
from softplace.study.contests._arms import choose

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

"""The arms of the attention contest: maps from scores to weights in one translator, and what is left without them.

Axis legend: N keys, along `dim`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from softplace.maps import Map
from softplace.memory.hard import straight_through_hardmax
from softplace.study.contest import Arm
from softplace.study.contests._arms import choose


def sigmoid_attention(scores: Tensor, dim: int = -1) -> Tensor:
    """`sigmoid(s - log n)`, n the keys that may be attended to (Ramapuram et al. 2024, arXiv:2409.04431)."""
    count = scores.isfinite().sum(dim, keepdim=True).clamp_min(1)
    return torch.sigmoid(scores - count.to(scores.dtype).log())


UNIFORM, FIXED = "uniform", "no attention"
ARMS = (
    Arm(name="softmax", map="softmax"),
    Arm(name="softmax1", map="softmax1"),
    Arm(name="sparsemax", map="sparsemax"),
    Arm(name="entmax15", map="entmax15"),
    Arm(name="sigmoid", map=sigmoid_attention),
    Arm(name="relu-normalised", map="relu_normalised"),
    Arm(name="hardmax", map=straight_through_hardmax),
    # The mean of all that is encoded, the same at every step.
    Arm(name=UNIFORM, map="uniform"),
    # One vector is all that the decoder knows of the source: what is encoded at its end.
    Arm(name=FIXED, map="softmax", options={"source": "last"}),
)


def chosen_arms(chosen: Sequence[str | Map] | None) -> tuple[Arm, ...]:
    """The arms of some maps, or all: see `choose`."""
    return choose(ARMS, chosen, place="attention", example="sparsemax,uniform")

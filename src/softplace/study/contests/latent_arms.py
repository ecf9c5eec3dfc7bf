"""The arms of the latent contest: maps with their exact gradient, and ways to estimate the gradient of softmax.

No axes.
"""

from collections.abc import Sequence

from softplace.maps import Map
from softplace.study.contest import Arm
from softplace.study.contests._arms import choose

DETERMINISTIC, GAUSSIAN = "no sampling", "Gaussian"


def _estimated(name: str, estimator: str, samples: int = 1) -> Arm:
    return Arm(name=name, map="softmax", options={"estimator": estimator, "samples": samples})


ARMS = (
    # By all configurations: the gradient itself.
    Arm(name="softmax", map="softmax"),
    Arm(name="sparsemax", map="sparsemax"),
    Arm(name="entmax15", map="entmax15"),
    # Unbiased.
    _estimated("REINFORCE", "reinforce"),
    _estimated("leave-one-out", "reinforce-leave-one-out", 2),
    _estimated("NVIL", "nvil"),
    _estimated("REBAR", "rebar"),
    _estimated("RELAX", "relax"),
    _estimated("ARSM", "arsm"),
    _estimated("DisARM", "disarm"),
    # Biased.
    _estimated("straight-through", "straight-through"),
    _estimated("Gumbel-softmax", "gumbel-softmax"),
    _estimated("straight-through Gumbel", "straight-through-gumbel"),
    _estimated("gapped straight-through", "gapped-straight-through"),
    _estimated("Rao-Blackwell Gumbel", "rao-blackwell-gumbel"),
    # The decoder gets the weights themselves, and no sample of them.
    Arm(name=DETERMINISTIC, map="softmax", options={"latent": "weights"}),
    # As many normal variables as there are classes in all. The map is not used.
    Arm(name=GAUSSIAN, map="softmax", options={"latent": "gaussian"}),
)
UNBIASED = ("REINFORCE", "leave-one-out", "NVIL", "REBAR", "RELAX", "ARSM", "DisARM")
BIASED = (
    "straight-through",
    "Gumbel-softmax",
    "straight-through Gumbel",
    "gapped straight-through",
    "Rao-Blackwell Gumbel",
)

SAMPLED = (*(name for name in (*UNBIASED, *BIASED) if name != "ARSM"), DETERMINISTIC, GAUSSIAN)
"""Those that train where nothing can be enumerated. With 10 classes ARSM evaluates 46 losses a sample."""
SEVERAL_LAYERS = tuple(name for name in SAMPLED if name not in ("REBAR", "RELAX", GAUSSIAN))
"""Those for two layers of variables: the controls of REBAR and RELAX are of one layer."""


def chosen_arms(chosen: Sequence[str | Map] | None) -> tuple[Arm, ...]:
    """The arms of some maps, or all: see `choose`."""
    return choose(ARMS, chosen, place="latent", example="sparsemax,entmax15")

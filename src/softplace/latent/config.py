"""What determines the training of a network with latent variables.

No axes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from softplace.latent.estimators import anneal
from softplace.training.checkpoint import Settings

MODELS = ("vae", "predictor")


@dataclass(frozen=True, kw_only=True)
class LatentConfig(Settings):
    """What determines a training, but for its length and the machine. `train` documents the fields.

    Args:
        model: "vae" or "predictor".
        data: Name, binarisation and digest of the images.
        sizes: All arguments of the net.
    """

    KIND: ClassVar[str] = "softplace.latent"

    model: str
    data: Mapping[str, Any]
    sizes: Mapping[str, Any]
    estimator: str
    samples: int
    temperature: float | None
    anneal_rate: float
    free_bits: float
    batch: int
    learning_rate: float
    clip: float | None
    validate_steps: int
    seed: int

    def flat(self) -> dict[str, Any]:
        """Every setting by its name, those of the net and of the data among them."""
        own = {name: value for name, value in asdict(self).items() if name not in ("sizes", "data")}
        return own | {f"data's {name}": value for name, value in self.data.items()} | dict(self.sizes)

    def options(self, step: int) -> dict[str, Any]:
        """Of the estimator, at a step counted from 0: `samples`, and `temperature` where it has one."""
        found: dict[str, Any] = {"samples": self.samples}
        if self.temperature is not None:
            annealed = self.anneal_rate > 0
            found["temperature"] = (
                anneal(step, rate=self.anneal_rate, least=self.temperature) if annealed else self.temperature
            )
        return found

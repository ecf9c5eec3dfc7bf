"""What determines the training of a translator.

No axes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from softplace.training.checkpoint import Settings

SCHEDULES, PRECISIONS = ("noam", "constant"), ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class TranslationConfig(Settings):
    """What determines a training, but for its length and the machine. `train` documents the fields.

    Args:
        model: "transformer", "rnnsearch" or "rnnencdec".
        data: What the pairs are, see `Data.record`.
        vocabularies: Which they are, see `translator.digest_of_tokens`.
        source_words, target_words: V of each language.
        sizes: All other arguments of the net.
    """

    KIND: ClassVar[str] = "softplace.attention"

    model: str
    data: Mapping[str, Any]
    vocabularies: str
    source_words: int
    target_words: int
    sizes: Mapping[str, Any]
    learning_rate: float
    schedule: str
    warmup: int
    label_smoothing: float
    room: int
    accumulate: int
    processes: int
    clip: float | None
    precision: str
    validate_steps: int
    patience: int | None
    average: int
    seed: int

    def flat(self) -> dict[str, Any]:
        """Every setting by its name, those of the net and of the data among them."""
        own = {name: value for name, value in asdict(self).items() if name not in ("sizes", "data")}
        return own | {f"data's {name}": value for name, value in self.data.items()} | dict(self.sizes)

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1.

        `learning_rate min(1, step / warmup)` when constant; for "noam" (Vaswani et al. 2017, eq. 3, whose rate is
        highest at the end of the warm-up, and there `width^-1/2 warmup^-1/2`)
        `learning_rate min(step / warmup, sqrt(warmup / step))`.
        """
        warmup = max(1, self.warmup)
        fall = (warmup / step) ** 0.5 if self.schedule == "noam" else 1.0
        return self.learning_rate * min(step / warmup, 1.0 if step <= warmup else fall)

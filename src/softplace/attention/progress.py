"""What the training of a translator says of how far it is."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.progress_bar import ProgressBar
from rich.table import Table

from softplace.progress import time_left


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A moment of a training.

    Args:
        before: The step at which this run began.
        words: Target words that this run has seen, in `seconds`.
        loss: The latest mean of a word, if any.
        validation: The latest, if any.
    """

    model: str
    step: int
    steps: int
    before: int
    words: int
    seconds: float
    loss: float | None
    validation: Mapping[str, float] | None

    @property
    def tokens_per_second(self) -> float:
        """Target words and ends."""
        return self.words / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Until the last step."""
        made = self.step - self.before
        return (self.steps - self.step) * self.seconds / made if made > 0 else None

    def line(self) -> str:
        """It as one line."""
        loss = "" if self.loss is None else f"loss {self.loss:.4g}; "
        valid = "" if self.validation is None else f"validation {self.validation['validation_loss']:.4g}; "
        return (
            f"{self.model}: step {self.step:,} of {self.steps:,}; {loss}{valid}"
            f"{self.tokens_per_second:,.0f} target tokens/s; {time_left(self.seconds_left)}"
        )

    def table(self) -> Table:
        """It as a terminal shows it."""
        table = Table.grid(padding=(0, 2))
        table.add_row(ProgressBar(total=max(1, self.steps), completed=self.step, width=30), self.line())
        return table

"""What the training of a network with latent variables says of how far it is."""

from dataclasses import dataclass

from rich.progress_bar import ProgressBar
from rich.table import Table

from softplace.progress import time_left


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A moment of a training. `before` is the step at which this run began; `bound` is the latest mean, if any."""

    model: str
    estimator: str
    step: int
    steps: int
    before: int
    batch: int
    seconds: float
    bound: float | None

    @property
    def images_per_second(self) -> float:
        return (self.step - self.before) * self.batch / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        rate = self.images_per_second
        return (self.steps - self.step) * self.batch / rate if rate > 0 else None

    def line(self) -> str:
        """It as one line."""
        bound = "" if self.bound is None else f"bound {self.bound:.4g} nats; "
        return (
            f"{self.model} by {self.estimator}: step {self.step:,} of {self.steps:,}; {bound}"
            f"{self.images_per_second:,.0f} images/s; {time_left(self.seconds_left)}"
        )

    def table(self) -> Table:
        """It as a terminal shows it."""
        table = Table.grid(padding=(0, 2))
        table.add_row(ProgressBar(total=max(1, self.steps), completed=self.step, width=30), self.line())
        return table

"""What a training says of how far it is."""

from dataclasses import dataclass

from rich.progress_bar import ProgressBar
from rich.table import Table

from softplace.progress import time_left


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A moment of a training. `before` is the step at which this run began; `loss` is the latest mean, if any."""

    model: str
    task: str
    step: int
    steps: int
    before: int
    batch: int
    seconds: float
    loss: float | None
    lesson: str

    @property
    def sequences_per_second(self) -> float:
        return (self.step - self.before) * self.batch / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        rate = self.sequences_per_second
        return (self.steps - self.step) * self.batch / rate if rate > 0 else None

    def line(self) -> str:
        """It as one line."""
        loss = "" if self.loss is None else f"loss {self.loss:.4g}; "
        lesson = f"{self.lesson}; " if self.lesson else ""
        return (
            f"{self.model} on {self.task}: step {self.step:,} of {self.steps:,}; {lesson}{loss}"
            f"{self.sequences_per_second:,.0f} sequences/s; {time_left(self.seconds_left)}"
        )

    def table(self) -> Table:
        """It as a terminal shows it."""
        table = Table.grid(padding=(0, 2))
        table.add_row(ProgressBar(total=max(1, self.steps), completed=self.step, width=30), self.line())
        return table

"""What a study says of how far it is."""

from dataclasses import dataclass

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from softplace.progress import time_left


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A moment of a study. Members and their steps are counted over all tasks of the place.

    `planned` and `planned_steps` grow when a grid of learning rates does.
    """

    place: str
    task: str
    arm: str
    alive: int
    done: int
    diverged: int
    known: int
    planned: int
    steps: int
    planned_steps: int
    seconds: float

    @property
    def steps_per_second(self) -> float:
        return self.steps / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        left = self.planned_steps - self.steps
        return left / self.steps_per_second if self.steps_per_second > 0 else None

    def line(self) -> str:
        """It as one line."""
        speed = f"{self.steps_per_second:,.0f} steps/s; {time_left(self.seconds_left)}"
        return f"{self.place}: {self.task}, {self.arm}: {self._members()}; {speed}"

    def table(self) -> Table:
        """It as a terminal shows it."""
        table = Table.grid(padding=(0, 2))
        table.add_row(Text(f"place {self.place}"), Text(f"task {self.task}"), Text(f"arm {self.arm}"))
        table.add_row(
            ProgressBar(total=max(1, self.planned_steps), completed=self.steps, width=30),
            self._members(),
            f"{self.steps_per_second:,.0f} steps/s, {time_left(self.seconds_left)}",
        )
        return table

    def _members(self) -> str:
        done = self.done + self.known
        return f"{self.alive} alive, {done} done, {self.diverged} diverged of {self.planned} members"

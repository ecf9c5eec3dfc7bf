"""How far a study is: a live display in a terminal, plain lines elsewhere."""

import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text


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


class Display(Protocol):
    """What a study reports to."""

    def show(self, now: Snapshot) -> None: ...

    def say(self, text: str) -> None: ...


class Silent:
    """No display."""

    def show(self, now: Snapshot) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


class Lines:
    """A plain line every `every` seconds, for logs and pipes."""

    def __init__(self, console: Console, every: float = 10.0) -> None:
        self._console, self._every, self._last = console, every, time.monotonic()

    def show(self, now: Snapshot) -> None:
        """Print a line, if it is time."""
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self.say(describe(now))

    def say(self, text: str) -> None:
        """Print a line now; that nobody can read it does not stop a study."""
        with suppress(OSError):
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Terminal:
    """A display that is redrawn in place, from the first `show` on: `with Terminal(console) as display:`."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, now: Snapshot) -> None:
        """Redraw."""
        table = Table.grid(padding=(0, 2))
        table.add_row(Text(f"place {now.place}"), Text(f"task {now.task}"), Text(f"arm {now.arm}"))
        table.add_row(
            ProgressBar(total=max(1, now.planned_steps), completed=now.steps, width=30),
            f"{now.alive} alive, {now.done + now.known} done, {now.diverged} diverged of {now.planned} members",
            f"{now.steps_per_second:,.0f} steps/s, {_left(now)}",
        )
        self._live.update(table)
        self._live.start()  # not before training: bad input ends without a trace of a display

    def say(self, text: str) -> None:
        """Print a line above the display."""
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)


def describe(now: Snapshot) -> str:
    """A snapshot as one line."""
    return (
        f"{now.place}: {now.task}, {now.arm}: {now.alive} alive, {now.done + now.known} done, {now.diverged} diverged "
        f"of {now.planned} members; {now.steps_per_second:,.0f} steps/s; {_left(now)}"
    )


def _left(now: Snapshot) -> str:
    if now.seconds_left is None:
        return "time left unknown"
    minutes, seconds = divmod(round(now.seconds_left), 60)
    return f"{minutes} min {seconds:02d} s left"

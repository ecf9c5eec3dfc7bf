"""How far a training is: a live line in a terminal, plain lines elsewhere."""

import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table


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


class Display(Protocol):
    """What a training reports to."""

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
        """Print a line now; that nobody can read it does not stop a training."""
        with suppress(OSError):
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Terminal:
    """A line that is redrawn in place, from the first `show` on: `with Terminal(console) as display:`."""

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
        table.add_row(ProgressBar(total=max(1, now.steps), completed=now.step, width=30), describe(now))
        self._live.update(table)
        self._live.start()  # not before training: bad input ends without a trace of a display

    def say(self, text: str) -> None:
        """Print a line above the display."""
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)


def describe(now: Snapshot) -> str:
    """A snapshot as one line."""
    loss = "" if now.loss is None else f"loss {now.loss:.4g}; "
    lesson = f"{now.lesson}; " if now.lesson else ""
    return (
        f"{now.model} on {now.task}: step {now.step:,} of {now.steps:,}; {lesson}{loss}"
        f"{now.sequences_per_second:,.0f} sequences/s; {_left(now)}"
    )


def _left(now: Snapshot) -> str:
    if now.seconds_left is None:
        return "time left unknown"
    minutes, seconds = divmod(round(now.seconds_left), 60)
    return f"{minutes} min {seconds:02d} s left"

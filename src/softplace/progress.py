"""How far a long run is: a live display in a terminal, plain lines elsewhere."""

import time
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table


class Snapshot(Protocol):
    """A moment of a run."""

    def line(self) -> str:
        """It as one line."""

    def table(self) -> Table:
        """It as a terminal shows it."""


class Display(Protocol):
    """What a run reports to."""

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
            self.say(now.line())

    def say(self, text: str) -> None:
        """Print a line now; that nobody can read it does not stop the run."""
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
        self._live.update(now.table())
        self._live.start()  # not before training: bad input ends without a trace of a display

    def say(self, text: str) -> None:
        """Print a line above the display."""
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)


def time_left(seconds: float | None) -> str:
    """Seconds in words."""
    if seconds is None:
        return "time left unknown"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s left"

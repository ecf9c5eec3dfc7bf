"""How a training runs: it stops politely, and says when it has diverged."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from softplace.errors import InputError


class DivergenceError(InputError):
    """A training came to numbers from which it will not return. What was kept before stays as it was."""


@contextmanager
def politely() -> Iterator[threading.Event]:
    """Ctrl-C and a polite kill set the event, so that a step is finished and kept first; the second time they hit."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number: int, frame: object) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    before = {each: handler for each, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for each in before:
        signal.signal(each, stop)
    try:
        yield stopped
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def enough_memory(way: str) -> Iterator[None]:
    """Say in a line that there was not enough memory.

    Args:
        way: What to do about it, e.g. "Use a smaller --batch".
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = " ".join(str(error).split())
        if isinstance(error, RuntimeError) and not any(each in text for each in ("out of memory", "allocate memory")):
            raise
        raise InputError(f"memory: expected sizes that fit. Got '{text[:120]}'. {way}.") from error


@contextmanager
def flushed() -> Iterator[None]:
    """Numbers below 1e-38 become 0 while training: slots that are left alone decay to there, at ten times the cost."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)

"""A large project in parts, which several processes can interpret at once.

The parts depend on the project alone, and each starts afresh, so that what is found does not depend on how many
processes there are. They share what is read before: a process is a fork of this one, and gives back what it saw.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from softplace.check.events import Event

FILES_PER_PART = 64
"""Fewer files are not worth a part of their own."""
LARGE = 1_500
"""So many files are worth more than two parts: each repeats some of the work of the others."""
RUN_OF_FILES = 16
"""Neighbouring files share most, and large and small ones come in turns."""


@dataclass(slots=True)
class Seen:
    """What a part of a project gave: its events, what went wrong with files, and what was looked for beside them."""

    events: list[Event] = field(default_factory=list)
    troubles: dict[str, str] = field(default_factory=dict)
    beside: dict[str, bool] = field(default_factory=dict)


Interpret = Callable[[list[str]], Seen]


def parts(paths: list[str]) -> list[list[str]]:
    """The files of each part.

    >>> [len(part) for part in parts(["a.py"] * 100)], [len(part) for part in parts(["a.py"] * 130)]
    ([100], [66, 64])
    """
    count = 4 if len(paths) >= LARGE else 2 if len(paths) >= 2 * FILES_PER_PART else 1
    found: list[list[str]] = [[] for _ in range(count)]
    for number, start in enumerate(range(0, len(paths), RUN_OF_FILES)):
        found[number % count].extend(paths[start : start + RUN_OF_FILES])
    return found


def interpreted(work: list[list[str]], interpret: Interpret, jobs: int) -> list[Seen]:
    """What each part gave, in their order."""
    if jobs == 1 or not can_fork():
        return [interpret(part) for part in work]
    jobs = min(jobs, len(work))
    shares = [list(range(first, len(work), jobs)) for first in range(jobs)]
    helpers: list[_Helper] = []
    found: dict[int, Seen] = {}
    try:
        with suppress(OSError):  # no process is left: this one does the rest
            for share in shares[1:]:
                helpers.append(_Helper([work[number] for number in share], interpret))
        for number in shares[0]:
            found[number] = interpret(work[number])
        for helper, share in zip(helpers, shares[1:], strict=False):
            found.update(zip(share, helper.answer(), strict=False))
        for number in set(range(len(work))) - found.keys():
            found[number] = interpret(work[number])
    finally:
        for helper in helpers:
            helper.end()
    return [found[number] for number in range(len(work))]


def can_fork() -> bool:
    """Whether processes can be had: a fork beside threads may wait for ever, and libraries of macOS have theirs."""
    return hasattr(os, "fork") and sys.platform != "darwin" and threading.active_count() == 1


class _Helper:
    """A fork of this process that interprets parts."""

    def __init__(self, work: list[list[str]], interpret: Interpret) -> None:
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: there are none of Python
            try:
                self.process = os.fork()
            except OSError:
                os.close(reading)
                os.close(writing)
                raise
        if self.process == 0:
            _work(work, interpret, writing)
        os.close(writing)
        self.file: BinaryIO = os.fdopen(reading, "rb")
        self.running = True

    def answer(self) -> list[Seen]:
        """What the parts gave; nothing when the process was killed, or had no memory."""
        data = self.file.read()
        _, status = os.waitpid(self.process, 0)
        self.running = False
        if status != 0:
            return []
        found: list[Seen] = pickle.loads(data)
        return found

    def end(self) -> None:
        """Leave nothing behind."""
        self.file.close()
        if self.running:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)


def _work(work: list[list[str]], interpret: Interpret, writing: int) -> None:
    """What a helper does in its life. It ends without the clean-up of the process that it is a copy of."""
    code = 1
    try:
        with os.fdopen(writing, "wb") as file:
            pickle.dump([interpret(part) for part in work], file, protocol=pickle.HIGHEST_PROTOCOL)
        code = 0
    finally:
        os._exit(code)

"""Train fleets on all cores: one single-threaded process per core, or in this process on a GPU.

A worker keeps nothing between calls: it takes a fleet's state, trains for a few seconds, and returns the state or the
outcomes. So whatever happens to a worker, at most those seconds are lost.
"""

import ctypes
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass

import cloudpickle  # type: ignore[import-untyped]
import torch
from loky import ProcessPoolExecutor  # type: ignore[import-untyped]

from softplace import maps
from softplace.errors import InputError
from softplace.study.contest import Contest
from softplace.study.fleet import Fleet, Outcome
from softplace.study.plan import Shard
from softplace.study.store import Role

SLICE = 5.0  # seconds between two checkpoints of a fleet


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a slice of training came to: `state` is `None` when the fleet has ended.

    `member_steps` counts every step of every member from the fleet's start, `before` what it was before this slice.
    """

    state: bytes | None
    outcomes: list[Outcome]
    alive: int
    before: int
    member_steps: int


@dataclass(frozen=True, kw_only=True)
class _Job:
    contest: int
    task: int
    arm: int
    role: Role
    seeds: tuple[int, ...]
    learning_rates: tuple[float, ...]
    device: str


_contests: Sequence[Contest] = ()


def _start(contests: bytes, parent: int) -> None:
    global _contests
    # Ctrl-C goes to the whole process group; the main process decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    keep_memory()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    _contests = pickle.loads(contests)


def keep_memory() -> None:
    """Let this process keep the memory that it frees, where its C library is glibc.

    By default large blocks may go back to the system after every step, and come again page by page: seen to cost up to
    a fifth of a step.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_threshold, 1 << 25)


def _end_with(parent: int) -> None:
    """A worker whose parent was killed would wait for work for ever, and keep its memory and the terminal.

    The parent says its own number: it may be gone before a worker, busy importing, could ask who its parent is.
    """
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _advance(contests: Sequence[Contest], job: _Job, state: bytes | None) -> Progress:
    contest = contests[job.contest]
    task, arm = contest.tasks[job.task], contest.arms[job.arm]
    fleet = Fleet(task, arm, job.role, job.seeds, job.learning_rates, job.device)
    if state is not None:
        fleet.restore(state)
    before = fleet.member_steps
    try:
        fleet.train(SLICE)
    except Exception as error:
        if isinstance(arm.map, str) and arm.map in maps.OWN:
            raise
        text = " ".join(str(error).split())[:200]
        raise InputError(
            f"map {arm.name!r}: expected weights for every batch, got {type(error).__name__} in task "
            f"{task.label!r}: {text}. Mend it, or leave it out with --maps."
        ) from error
    return Progress(
        state=None if fleet.finished else fleet.state(),
        outcomes=fleet.outcomes,
        alive=fleet.alive,
        before=before,
        member_steps=fleet.member_steps,
    )


def _advance_in_worker(job: _Job, state: bytes | None) -> Progress:
    return _advance(_contests, job, state)


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in a worker, so that the numbers do not depend on how many workers there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """Train shards of some contests: `with Workers(contests, count, device) as workers: workers.submit(...)`.

    Args:
        contests: All that shards may come from.
        count: Processes; 1 trains in this process. A GPU is used from this process.
        device: "cpu" or "cuda".
    """

    def __init__(self, contests: Sequence[Contest], count: int, device: str) -> None:
        self._contests, self._device = tuple(contests), device
        self.count = 1 if device != "cpu" else count
        self._pool: ProcessPoolExecutor | None = None
        if self.count > 1:
            try:
                packed = cloudpickle.dumps(self._contests)
            except Exception as error:
                raise InputError(
                    f"contests: expected maps and data that can be sent to other processes, got "
                    f"{type(error).__name__}: {error}. Define the map at the top of a module, or use workers=1."
                ) from error
            self._pool = ProcessPoolExecutor(max_workers=self.count, initializer=_start, initargs=(packed, os.getpid()))

    def submit(self, shard: Shard, state: bytes | None) -> "Future[Progress]":
        """Train a shard for a few seconds, from its state or from the start."""
        first = shard.members[0]
        number, contest = next(
            (k, each) for k, each in enumerate(self._contests) if any(task is first.task for task in each.tasks)
        )
        job = _Job(
            contest=number,
            task=next(k for k, task in enumerate(contest.tasks) if task is first.task),
            arm=next(k for k, arm in enumerate(contest.arms) if arm is first.arm),
            role=first.role,
            seeds=tuple(member.seed for member in shard.members),
            learning_rates=tuple(member.learning_rate for member in shard.members),
            device=self._device,
        )
        if self._pool is not None:
            try:
                future: Future[Progress] = self._pool.submit(_advance_in_worker, job, state)
            except BrokenProcessPool as error:
                raise self._killed() from error
            return future
        done: Future[Progress] = Future()
        with _one_thread():
            done.set_result(_advance(self._contests, job, state))
        return done

    def result(self, future: "Future[Progress]") -> Progress:
        """What a submitted shard came to.

        Raises:
            InputError: A worker was killed, or the map of the arm failed.
        """
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise self._killed() from error

    def _killed(self) -> InputError:
        return InputError(
            f"workers: expected {self.count} processes to live, got one that was killed, as happens when memory "
            "runs out. Nothing that was finished is lost: free some memory and run the same command again."
        )

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._pool is None:
            return
        # An impatient second Ctrl-C must not interrupt the clean-up.
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
        try:
            self._pool.shutdown(wait=True, kill_workers=kind is not None)
        finally:
            if main:
                signal.signal(signal.SIGINT, before)

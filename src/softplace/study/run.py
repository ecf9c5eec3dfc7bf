"""A study: contests run to the end, stored as they go, judged and reported."""

import itertools
import json
import operator
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from softplace.errors import InputError, nearest
from softplace.maps import Map
from softplace.progress import Display, Silent
from softplace.report.page import write_page, write_text
from softplace.report.records import Cell, PlaceReport, Report, Verdict
from softplace.study.contest import Contest, Options, Task
from softplace.study.contests import build_all, places
from softplace.study.data import load, parallel_text
from softplace.study.execute import Progress, Workers, cores
from softplace.study.fleet import Outcome, compiler_missing
from softplace.study.plan import Member, Plan, Shard, shards
from softplace.study.progress import Snapshot
from softplace.study.results import Results
from softplace.study.store import FILE as STORE
from softplace.study.store import MemberRecord, Store

if TYPE_CHECKING:
    import pandas

PRESETS = ("quick", "full")
DEVICES = ("auto", "cpu", "cuda")
SEEDS = {"quick": 20, "full": 40}
PAGE, VERDICTS = "page.html", "verdicts.json"
MOST_SEEDS, MOST_WORKERS = 100_000, 4096


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """What a study found.

    Args:
        verdicts: One per claim, the places in their order.
        report: All that the page shows.
        rows: A flat dict per member: who it is, how it ended, its metrics.
    """

    verdicts: list[Verdict]
    report: Report
    rows: list[dict[str, str | float | None]]

    def frame(self) -> "pandas.DataFrame | list[dict[str, str | float | None]]":
        """The members as a pandas data frame; as a list of dicts where pandas is not installed."""
        try:
            import pandas
        except ImportError:
            return self.rows
        return pandas.DataFrame(self.rows)

    def page(self, path: str | os.PathLike[str]) -> Path:
        """Write the page (one HTML file that needs nothing else) and return its path."""
        write_page(self.report, Path(path))
        return Path(path)


class Study:
    """Contests of maps at one or more places: `Study("hidden", maps=["relu"], data=(X, y)).run()`.

    Args:
        place: A name of `softplace.study.contests.places()`, or several. `None`: every place.
        maps: Names of maps or arms, or callables `map(scores, dim)`; softmax is always compared. `None`: the contest's.
        data: "digits", "wine", "breast_cancer", a CSV or NPZ file, or a pair (X, y); of the place "attention" a text
            file, a sentence to a line. `None`: the contest's.
        target: The column of a CSV file (or array of an NPZ file) that holds the class; of a text file the file of the
            same lines, translated.
        preset: "quick" (minutes) or "full" (hours: what one would publish).
        seeds: How many, or which. Half of them tune, the others judge. `None`: 20 quick, 40 full.
        device: "auto" (a GPU if there is one), "cpu" or "cuda".
        out: The study folder, to go on from where it stopped. `None`: keep nothing on disk.
        fresh: Forget what the folder has of these places.
        workers: Processes on a CPU; `None`: one per core.
        display: Where progress is shown; `None`: nowhere.

    Raises:
        InputError: Something given cannot be used. Nothing has been written then.
    """

    def __init__(
        self,
        place: str | Sequence[str] | None = None,
        *,
        maps: Sequence[str | Map] | None = None,
        data: Any = None,
        target: str | None = None,
        preset: str = "quick",
        seeds: int | Sequence[int] | None = None,
        device: str = "auto",
        out: str | os.PathLike[str] | None = None,
        fresh: bool = False,
        workers: int | None = None,
        display: Display | None = None,
    ) -> None:
        names = places() if place is None else (place,) if isinstance(place, str) else _listed("place", place)
        for name in names:
            if name not in places():
                raise InputError(f"Unknown place {name!r}. {nearest(str(name), places())}")
        if preset not in PRESETS:
            raise InputError(f"Unknown preset {preset!r}. {nearest(str(preset), PRESETS)}")
        self.seeds = _seeds(SEEDS[preset] if seeds is None else seeds)
        self.device = _device(device)
        self._workers = cores() if workers is None else _whole("workers", workers, 1, MOST_WORKERS, "one per core")
        if maps is not None:
            maps = _listed("maps", maps)
        if target is not None and not isinstance(target, str):
            raise InputError(f"'target' must be the name of a column. Got {_shown(target)}. Use e.g. target='choice'.")
        if not isinstance(fresh, bool):
            raise InputError(f"'fresh' must be True or False. Got {_shown(fresh)}. Leave it out to go on.")
        if not all(callable(getattr(display or Silent(), name, None)) for name in ("show", "say")):
            raise InputError(
                f"'display' must have the methods show and say. Got {_shown(display)}. Leave it out for none."
            )
        self.out = None if out is None else _folder(out)
        if data is None and target is not None:
            raise InputError(f"'target' needs 'data': got target {target!r} alone. Give a CSV or NPZ file as data.")
        text = parallel_text(data, target)
        table = None if data is None or text else load(data, target=target)
        options = Options(
            preset="quick" if preset == "quick" else "full",
            maps=None if maps is None else tuple(maps),
            table=table,
            text=text,
        )
        self.contests = build_all(names, options)
        self._fresh = fresh
        self._display = display or Silent()
        self._notes = () if table is None else table.notes

    def run(self) -> StudyResult:
        """Train what is not known yet, judge, and (with a folder) write `verdicts.json` and `page.html`."""
        if self.out is not None:
            _check_targets(self.out)
            return self._run(self.out)
        with tempfile.TemporaryDirectory(prefix="softplace-") as folder:
            return self._run(Path(folder))

    def _run(self, folder: Path) -> StudyResult:
        reports: list[PlaceReport] = []
        rows: list[dict[str, str | float | None]] = []
        with Store.open(folder) as store:
            for note in self._notes:
                self._display.say(f"data: {note}")
            if self._fresh:
                for contest in self.contests:
                    store.clear(contest.place, contest.name)
            provenance = provenance_of(self.device)
            provenance_id = store.provenance(provenance)
            with Workers(self.contests, self._workers, self.device) as workers:
                compiled = any(task.compiled for contest in self.contests for task in contest.tasks)
                if compiled and (missing := compiler_missing(self.device)):
                    self._display.say(f"Training runs uncompiled, and takes about a quarter longer: {missing}.")
                for number, contest in enumerate(self.contests):
                    plan = Plan(contest, self.seeds, self.device)
                    known = self._train(store, plan, workers, provenance_id)
                    reports.append(contest.report(Results.of(plan, known)))
                    rows += [_row(record) for record in known.values()]
                    pending = [later.place for later in self.contests[number + 1 :]]
                    report = self._report(reports, pending, provenance)
                    _write_verdicts(verdicts_of(reports), folder / VERDICTS)
                    write_page(report, folder / PAGE)
        return StudyResult(verdicts=verdicts_of(reports), report=report, rows=rows)

    def _report(self, places: list[PlaceReport], pending: list[str], provenance: dict[str, Cell]) -> Report:
        title = "Where does softmax belong in a neural network?"
        command = str(provenance["command"])
        return Report(title=title, places=tuple(places), pending=pending, command=command, provenance=provenance)

    def _train(self, store: Store, plan: Plan, workers: Workers, provenance_id: int) -> dict[str, MemberRecord]:
        """Train every member of the plan that the store lacks; returns all that the plan used, by key."""
        contest = plan.contest
        known = {record.key: record for record in store.members(place=contest.place)}
        tally = _Tally(plan, known)
        waiting: deque[Shard] = deque()
        running: dict[Future[Progress], Shard] = {}

        def enqueue(task: Task) -> None:
            largest = task.largest_fleet if self.device == "cpu" else None
            waiting.extend(shards(plan.stage(task, known), known, largest))
            tally.plan(task, known)

        for task in contest.tasks:
            enqueue(task)
        while waiting or running:
            while waiting and len(running) < workers.count:
                shard = waiting.popleft()
                tally.start(shard)
                running[workers.submit(shard, store.load_checkpoint(shard.key))] = shard
            finished, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in finished:
                shard = running.pop(future)
                progress = workers.result(future)
                tally.advance(shard, progress)
                if progress.state is not None:
                    store.save_checkpoint(shard.key, progress.state, place=contest.place)
                    waiting.appendleft(shard)
                    continue
                outcomes = sorted(progress.outcomes, key=lambda outcome: outcome.index)
                members = [shard.members[outcome.index] for outcome in outcomes]
                pairs = zip(members, outcomes, strict=True)
                records = [_record(contest, member, outcome, provenance_id) for member, outcome in pairs]
                store.finish(shard.key, records)
                known |= {record.key: record for record in records}
                tally.end(records)
                task = shard.members[0].task
                if not any(other.members[0].task is task for other in (*waiting, *running.values())):
                    enqueue(task)
            self._display.show(tally.snapshot())
        used = {member.key for task in contest.tasks for member in plan.members(task, known)}
        return {key: record for key, record in known.items() if key in used}


class _Tally:
    """Counts for the display, in members and in steps of members."""

    def __init__(self, plan: Plan, known: Mapping[str, MemberRecord]) -> None:
        self._plan, self._start, self._before = plan, time.monotonic(), set(known)
        self._planned: dict[str, tuple[int, int, int]] = {}
        self._last = plan.contest.tasks[0].label, plan.contest.arms[0].name
        self._alive: dict[str, int] = {}
        self._resumed: dict[str, int] = {}
        self._steps = self._spared = self._done = self._diverged = 0

    def start(self, shard: Shard) -> None:
        """A fleet trains now."""
        first = shard.members[0]
        self._last = first.task.label, first.arm.name
        self._alive.setdefault(shard.key, len(shard.members))

    def advance(self, shard: Shard, progress: Progress) -> None:
        """A fleet has trained for a while."""
        self._resumed.setdefault(shard.key, progress.before)
        self._steps += progress.member_steps - progress.before
        self._alive[shard.key] = progress.alive
        if progress.state is None:  # its members may have stopped early, or have trained in an earlier run
            trained_here = progress.member_steps - self._resumed.pop(shard.key)
            self._spared += len(shard.members) * shard.members[0].task.steps - trained_here

    def plan(self, task: Task, known: Mapping[str, MemberRecord]) -> None:
        """Count what a task needs as far as it is planned now."""
        members = self._plan.members(task, known)
        total = len(members)
        if all(member.role == "tune" for member in members):
            total += len(self._plan.contest.arms_of(task)) * len(self._plan.judge_seeds)
        before = sum(member.key in self._before for member in members)
        self._planned[task.name] = total, before, task.steps

    def end(self, records: Sequence[MemberRecord]) -> None:
        """Count members that ended."""
        diverged = sum(record.status == "diverged" for record in records)
        self._diverged += diverged
        self._done += len(records) - diverged

    def snapshot(self) -> Snapshot:
        """The counts now."""
        planned = self._planned.values()
        return Snapshot(
            place=self._plan.contest.place,
            task=self._last[0],
            arm=self._last[1],
            alive=sum(self._alive.values()),
            done=self._done,
            diverged=self._diverged,
            known=sum(before for _, before, _ in planned),
            planned=sum(total for total, _, _ in planned),
            steps=self._steps,
            planned_steps=sum((total - before) * steps for total, before, steps in planned) - self._spared,
            seconds=time.monotonic() - self._start,
        )


def _record(contest: Contest, member: Member, outcome: Outcome, provenance_id: int) -> MemberRecord:
    return MemberRecord(
        key=member.key,
        place=contest.place,
        contest=contest.name,
        task=member.task.name,
        arm=member.arm.name,
        seed=member.seed,
        learning_rate=member.learning_rate,
        role=member.role,
        status=outcome.status,
        steps=outcome.steps,
        seconds=outcome.seconds,
        metrics=outcome.measurement.metrics,
        curve=outcome.curve,
        probes=outcome.measurement.probes,
        provenance_id=provenance_id,
    )


def _row(record: MemberRecord) -> dict[str, str | float | None]:
    fields = ("place", "contest", "task", "arm", "seed", "learning_rate", "role", "status", "steps", "seconds")
    return {name: getattr(record, name) for name in fields} | dict(record.metrics)


def verdicts_of(reports: Iterable[PlaceReport]) -> list[Verdict]:
    """The verdicts of all places, in their order."""
    return [section.verdict for report in reports for section in report.sections if section.verdict is not None]


def _write_verdicts(verdicts: Sequence[Verdict], path: Path) -> None:
    text = json.dumps([asdict(verdict) for verdict in verdicts], indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def provenance_of(device: str) -> dict[str, Cell]:
    """Versions, command, commit, hardware and time of this run."""
    packages = ("softplace", "torch", "numpy", "scipy", "scikit-learn")
    return {
        **{f"{name} version": version(name) for name in packages},
        "Python version": platform.python_version(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit() or "not a checkout",
        "system": platform.platform(),
        "processor": _processor(),
        "cores": cores(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, with "+" when files differ from it."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
        tracked = subprocess.run(
            ["git", "ls-files", "--error-unmatch", __file__], cwd=here, capture_output=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 and tracked.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _shown(value: object) -> str:
    return " ".join(repr(value).split())[:80]


def _whole(name: str, value: Any, least: int, most: int, default: str) -> int:
    """A whole number between two others."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        rule = f"{name!r} must be a whole number from {least} to {most:,}"
        raise InputError(f"{rule}. Got {_shown(value)}. Leave it out for {default}.")
    return number


def _listed(name: str, values: Any) -> tuple[Any, ...]:
    """A list of one or more."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InputError(f"{name!r} must be a list. Got {_shown(values)}. Put it into a list: [...].")
    chosen = tuple(values)
    if not chosen:
        raise InputError(f"{name!r} must name one or more. Got an empty list. Leave it out for all.")
    return chosen


def _folder(out: str | os.PathLike[str]) -> Path:
    text = os.fspath(out) if isinstance(out, str | os.PathLike) else ""
    if not text or "\0" in text:
        raise InputError(f"'out' must be the path of a folder. Got {_shown(out)}. Use e.g. studies/latest.")
    return Path(text)


def _check_targets(folder: Path) -> None:
    """What a study writes at its end must be writable at its start, and must not be somebody else's."""
    for path in map(str, (folder / PAGE, folder / VERDICTS)):
        if not os.path.lexists(path):
            continue
        if os.path.islink(path) or not os.path.isfile(path) or not os.access(path, os.W_OK):
            raise InputError(
                f"{path!r}: expected a file that can be written, or none. Got another thing. Move it away."
            )
        if not os.path.exists(folder / STORE):
            raise InputError(
                f"{path!r}: expected a folder that a study made, or one without this file. Got a file that is not "
                "of a study. Choose another folder."
            )


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    default = "20, or 40 in the full preset"
    if isinstance(seeds, Iterable) and not isinstance(seeds, str | bytes):
        few = itertools.islice(seeds, MOST_SEEDS + 1)
        chosen = tuple(_whole("seeds", seed, 0, 2**63 - 1, default) for seed in few)
        if not 4 <= len(chosen) <= MOST_SEEDS or len(set(chosen)) < len(chosen):
            got = f"{len(chosen):,} or more" if len(chosen) > MOST_SEEDS else _shown(list(chosen))
            raise InputError(f"'seeds' must be 4 to {MOST_SEEDS:,} different numbers. Got {got}. Use e.g. 20.")
        return chosen
    default += "; 20 are the fewest that can decide with all arms (10 judged pairs against 13 contrasts)"
    return tuple(range(_whole("seeds", seeds, 4, MOST_SEEDS, default)))


def _device(device: str) -> str:
    if device not in DEVICES:
        raise InputError(f"Unknown device {device!r}. {nearest(str(device), DEVICES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("'device' cuda: expected a GPU that PyTorch can use, got none. Use --device cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device

"""One run over a project: files in, findings and a catalogue of softmaxes out. Processes share large projects."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from softplace.check.events import Events
from softplace.check.findings import Finding
from softplace.check.interpret import Interpreter
from softplace.check.places import calls_of, softmaxes
from softplace.check.project import Project
from softplace.check.rules import rules
from softplace.check.rules._context import Context
from softplace.check.surroundings import Surroundings
from softplace.check.values import Site, Unknown, options

RECURSION = 6_000
FILES_PER_JOB = 150
"""Fewer files are not worth a process of their own."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A softmax of the catalogue. `calls`: where a layer that was constructed at `site` is called, and their places."""

    site: Site
    operation: str
    place: str
    uses: frozenset[str] = frozenset()
    calls: tuple[Placed, ...] = ()


@dataclass(slots=True)
class Report:
    """What a run found."""

    files: int = 0
    findings: list[Finding] = field(default_factory=list)
    softmaxes: list[Placed] = field(default_factory=list)
    unresolved: list[tuple[Site, str]] = field(default_factory=list)
    troubles: dict[str, str] = field(default_factory=dict)

    def catalogue(self) -> Iterator[tuple[Placed | None, Placed]]:
        """Every softmax, and every call of a layer with that layer."""
        for each in self.softmaxes:
            yield None, each
            for call in each.calls:
                yield each, call


def check(project: Project, *, jobs: int = 1) -> Report:
    """Check all files of a project."""
    paths = list(project.shown)
    jobs = max(1, min(jobs, len(paths) // FILES_PER_JOB))
    events = interpreted(project, paths) if jobs == 1 else _shared(project, paths, jobs)
    return judged(events, project)


def interpreted(project: Project, paths: Iterable[str]) -> Events:
    """What is seen when these files of a project are run, with all that they call."""
    before, enabled = sys.getrecursionlimit(), gc.isenabled()
    sys.setrecursionlimit(max(before, RECURSION))
    gc.disable()  # trees and values live as long as the run; collecting them costs a third of the time
    try:
        interpreter = Interpreter(project)
        interpreter.prepare()
        for path in paths:
            if not interpreter.relevance.file(path):
                continue
            try:
                interpreter.check_file(path)
            except Exception as error:  # a mistake of the checker itself costs one file, not the run
                shown = project.shown.get(path, path)
                project.troubles[shown] = f"could not be followed (internal error: {type(error).__name__}: {error})."
        return interpreter.events
    finally:
        sys.setrecursionlimit(before)
        if enabled:
            gc.enable()


def _shared(project: Project, paths: list[str], jobs: int) -> Events:
    """The same by several processes, each with a run of neighbouring files."""
    sizes = [len(project.content(path)) for path in paths]
    parts: list[list[str]] = [[] for _ in range(jobs)]
    share, filled = sum(sizes) / jobs, 0.0
    for path, size in zip(paths, sizes, strict=True):
        parts[min(int(filled / share), jobs - 1) if share else 0].append(path)
        filled += size
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for part in parts[1:]:
            # -P: without it, modules of the folder that the command runs in would be imported, and so run.
            command = [sys.executable, "-P", "-m", "softplace.check._worker"]
            workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            _ask(workers[-1], pickle.dumps((list(project.shown.values()), part)))
        events = interpreted(project, parts[0])
        for worker, part in zip(workers, parts[1:], strict=True):
            answer, _ = worker.communicate()
            if worker.returncode == 0:
                seen, troubles = pickle.loads(answer)
                events.merge(seen)
                project.troubles.update(troubles)
            else:
                events.merge(interpreted(project, part).slim())
        return events
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
                worker.communicate()


def _ask(worker: subprocess.Popen[bytes], question: bytes) -> None:
    """Give a process its work; it answers when it is done."""
    stdin, worker.stdin = worker.stdin, None
    if stdin is not None:
        with contextlib.suppress(BrokenPipeError), stdin:  # it ended early: its part is done here
            stdin.write(question)


def judged(events: Events, project: Project) -> Report:
    """What the rules say of the events."""
    surroundings = Surroundings(project)
    found = softmaxes(events, surroundings)
    context = Context(events=events, softmaxes=found)
    shown = set(project.shown.values())
    findings = [finding for rule in rules() for finding in rule.find(context)]
    kept = [each for each in findings if each.site.path in shown or any(r.site.path in shown for r in each.related)]
    unresolved: dict[Site, str] = {}
    resolved: set[Site] = set()
    for event in events.losses.values():
        reasons = [option.reason for option in options(event.scores) if isinstance(option, Unknown)]
        if reasons:
            unresolved.setdefault(event.site, f"what {event.loss.name} is given comes from {reasons[0]}")
        else:
            resolved.add(event.site)
    for gap in events.gaps.values():
        unresolved.setdefault(gap.site, gap.reason)
    return Report(
        len(project.shown),
        sorted(kept, key=lambda each: (each.site, each.code)),
        [
            Placed(
                each.site,
                each.operation,
                each.place,
                frozenset(each.uses),
                tuple(
                    Placed(call, each.operation, where)
                    for call, where in sorted(calls_of(each, events, surroundings).items())
                ),
            )
            for each in sorted(found.values(), key=lambda each: each.site)
            if each.site.path in shown
        ],
        sorted((site, reason) for site, reason in unresolved.items() if site not in resolved and site.path in shown),
        {os.fspath(path): text for path, text in project.troubles.items()},
    )

"""One run over a project: files in, findings and the catalogue of softmaxes out."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

from softplace.check.events import Events
from softplace.check.findings import Finding
from softplace.check.interpret import Interpreter
from softplace.check.places import Softmax, softmaxes
from softplace.check.project import Project
from softplace.check.rules import rules
from softplace.check.rules._context import Context
from softplace.check.values import Site, Unknown, options

RECURSION = 6_000
@dataclass(slots=True)
class Report:
    """What a run found."""

    files: int = 0
    findings: list[Finding] = field(default_factory=list)
    softmaxes: list[Softmax] = field(default_factory=list)
    unresolved: list[tuple[Site, str]] = field(default_factory=list)
    troubles: dict[str, str] = field(default_factory=dict)


def check(project: Project, entries: Iterable[str] | None = None) -> Report:
    """Check the files of a project (all, or those of `entries`)."""
    before = sys.getrecursionlimit()
    enabled = gc.isenabled()
    sys.setrecursionlimit(max(before, RECURSION))
    gc.disable()  # trees and values live as long as the run; collecting them costs a third of the time
    try:
        interpreter = Interpreter(project)
        paths = list(project.shown if entries is None else entries)
        for path in paths:
            if interpreter.relevance.file(path):
                interpreter.check_file(path)
        return judged(interpreter.events, project, len(paths))
    finally:
        sys.setrecursionlimit(before)
        if enabled:
            gc.enable()


def judged(events: Events, project: Project, files: int) -> Report:
    """What the rules say of the events."""
    found = softmaxes(events)
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
        files,
        sorted(kept, key=lambda each: (each.site, each.code)),
        sorted((each for each in found.values() if each.site.path in shown), key=lambda each: each.site),
        sorted((site, reason) for site, reason in unresolved.items() if site not in resolved),
        {os.fspath(path): text for path, text in project.troubles.items()},
    )

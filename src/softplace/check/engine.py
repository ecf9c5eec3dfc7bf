"""One run over a project: files in, findings and a catalogue of softmaxes out."""

from __future__ import annotations

import gc
import os
import sys

from softplace.check.events import Events
from softplace.check.interpret import Interpreter
from softplace.check.parts import Seen, interpreted, parts
from softplace.check.places import calls_of, softmaxes
from softplace.check.project import Project
from softplace.check.relevance import Relevance
from softplace.check.report import Placed, Report
from softplace.check.rules import rules
from softplace.check.rules._context import Context
from softplace.check.surroundings import Surroundings
from softplace.check.values import Site, Unknown, options

RECURSION = 6_000


def check(project: Project, *, jobs: int = 1) -> Report:
    """Check all files of a project."""
    relevance = Relevance(project)

    def interpret(part: list[str]) -> Seen:
        return interpret_part(project, relevance, part)

    before, enabled = sys.getrecursionlimit(), gc.isenabled()
    sys.setrecursionlimit(max(before, RECURSION))
    gc.disable()  # trees and values live as long as the run; collecting them costs a third of the time
    try:
        events = Events()
        for seen in interpreted(parts([path for path in project.shown if relevance.file(path)]), interpret, jobs):
            events.merge(seen.events)
            project.troubles.update(seen.troubles)
            project.beside.update(seen.beside)
        return judged(events, project)
    finally:
        sys.setrecursionlimit(before)
        if enabled:
            gc.freeze()  # and back: what is left counts as old, and is not looked through at once
            gc.unfreeze()
            gc.enable()


def interpret_part(project: Project, relevance: Relevance, part: list[str]) -> Seen:
    """What is seen when these files of a project are run, with all that they call."""
    project.forget()
    interpreter = Interpreter(project, relevance)
    interpreter.prepare()
    for path in part:
        try:
            interpreter.check_file(path)
        except Exception as error:  # a mistake of the checker itself costs one file, not the run
            shown = project.shown.get(path, path)
            project.troubles[shown] = f"could not be followed (internal error: {type(error).__name__}: {error})."
    return Seen(interpreter.events.slim(), project.troubles, project.beside)


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

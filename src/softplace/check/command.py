"""`softplace check` and `softplace rule`: options in, text and exit code out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TextIO

from softplace.check import baseline, config
from softplace.check import cache as results
from softplace.check.engine import Report, check
from softplace.check.files import Source, Unreadable, decode, find
from softplace.check.findings import Level
from softplace.check.fixes import Fixer, mend
from softplace.check.formats import Writer
from softplace.check.project import Project
from softplace.check.rules import rules
from softplace.check.suppress import silenced
from softplace.check.values import Site
from softplace.errors import InputError, nearest

MOST_JOBS = 8
FIX_ROUNDS = 5
"""A fix may uncover another: the mended files are checked again."""


class Run:
    """One run of the command over some paths."""

    def __init__(
        self, paths: list[str], settings: config.Config, *, jobs: int | None = None, cached: bool = True
    ) -> None:
        for path in paths:
            if not os.path.exists(path):
                raise InputError(f"'PATH' must be a file or folder that exists. Got {path}. Check the spelling.")
        self.settings = settings
        troubles: dict[str, str] = {}
        self.project = Project(list(find(paths, settings.exclude, troubles)))
        self.project.troubles.update(troubles)
        self.jobs = jobs if jobs is not None else min(os.cpu_count() or 1, MOST_JOBS)
        self._sources: dict[str, Source | None] = {}
        self.everything = self._checked(cached)

    def _checked(self, cached: bool) -> Report:
        if not cached:
            return check(self.project, jobs=self.jobs)
        name = results.fingerprint(self.project)
        report = results.load(name)
        if report is None:
            report = check(self.project, jobs=self.jobs)
            results.save(name, report)
        return report

    def report(self) -> Report:
        """What is to be reported: the selected rules, without what comments silence."""
        kept = [
            finding
            for finding in self.everything.findings
            if self.settings.wants(finding.code) and not silenced(finding, self.lines_of)
        ]
        fixer = Fixer(self.everything.softmaxes, self._source)
        return replace(self.everything, findings=[replace(each, fix=fixer.plan(each)) for each in kept])

    def locate(self, site: Site) -> tuple[int | None, int]:
        """Cell and line of a site."""
        source = self._source(site.path)
        return (None, site.line) if source is None else source.locate(site.line)

    def lines_of(self, path: str) -> list[str]:
        """A file's lines."""
        source = self._source(path)
        return [] if source is None else source.lines()

    def _source(self, path: str) -> Source | None:
        if path not in self._sources:
            try:
                self._sources[path] = decode(path, self.project.content(os.path.abspath(path)))
            except Unreadable:
                self._sources[path] = None
        return self._sources[path]


def check_command(
    paths: list[str],
    settings: config.Config,
    *,
    jobs: int | None = None,
    cached: bool = True,
    listed: bool = False,
    show_unresolved: bool = False,
    update_baseline: bool = False,
    fix: bool = False,
    unsafe_fixes: bool = False,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Check, print, and give the exit code: 0 clean, 1 findings."""
    out, err = out or sys.stdout, err or sys.stderr
    run = Run(paths, settings, jobs=jobs, cached=cached)
    report = run.report()
    if fix or unsafe_fixes:
        fixed = 0
        for _ in range(FIX_ROUNDS):
            made = mend(report.findings, run.project, unsafe=unsafe_fixes)
            if not made:
                break
            fixed += made
            run = Run(paths, settings, jobs=jobs, cached=cached)
            report = run.report()
        print(f"{fixed} fixed.", file=err)
    if settings.baseline is not None:
        if update_baseline:
            baseline.save(settings.baseline, report.findings, run.lines_of)
        known = baseline.load(settings.baseline)
        report = replace(report, findings=baseline.unknown(report.findings, known, run.lines_of))
    elif update_baseline:
        raise InputError("--update-baseline needs --baseline FILE: where to write what is known.")
    _print(run, report, listed=listed, show_unresolved=show_unresolved, out=out, err=err)
    return 1 if report.findings else 0


def _print(run: Run, report: Report, *, listed: bool, show_unresolved: bool, out: TextIO, err: TextIO) -> None:
    form = run.settings.format
    for path, text in sorted(report.troubles.items()):
        print(f"warning: {path}: {text}", file=err)
    colour = form in ("full", "concise") and out.isatty() and "NO_COLOR" not in os.environ
    writer = Writer(report, run.locate, run.lines_of, colour=colour)
    text = writer.write(form)
    if text:
        print(text, file=out)
    if form in ("json", "sarif"):
        return
    rows: list[str] = []
    if listed:
        rows += [f"{writer.where(each.site)}: {each.place:<9} {each.operation}" for each in report.softmaxes]
    if show_unresolved:
        rows += [f"{writer.where(site)}: unresolved: {reason}" for site, reason in report.unresolved]
    if rows:
        print("\n".join(rows), file=out)
    print(writer.summary(), file=err if form == "github" else out)


def rule_command(code: str | None, show: Callable[[str], None] = print) -> None:
    """Print the page of a rule, or a table of all."""
    known = rules()
    if code is None:
        width = max(len(rule.name) for rule in known)
        for rule in known:
            show(f"{rule.code}  {rule.name:<{width}}  {rule.level}")
        return
    for rule in known:
        if code.upper() == rule.code or code.lower() == rule.name:
            level = {Level.ERROR: "an error", Level.WARNING: "a warning", Level.NOTE: "a note"}[rule.level]
            show(f"{rule.page}\n\nLevel: {level}.")
            return
    raise InputError(f"There is no rule {code!r}. {nearest(code, [rule.code for rule in known])}")

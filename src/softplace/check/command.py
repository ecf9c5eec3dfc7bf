"""`softplace check` and `softplace rule`: options in, text and exit code out."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TextIO

from softplace.check import cache as results
from softplace.check import config
from softplace.check.baseline import Baseline
from softplace.check.config import Config
from softplace.check.files import find
from softplace.check.findings import Finding, Level
from softplace.check.formats import Writer, printable
from softplace.check.patching import difference, mended, write
from softplace.check.project import Project
from softplace.check.report import Report
from softplace.check.rules import rules
from softplace.check.sources import Sources
from softplace.check.suppress import silenced
from softplace.errors import InputError, nearest
from softplace.streams import reported

MOST_JOBS = 8
FIX_ROUNDS = 10
"""A fix may uncover another: the mended files are checked again."""
STDIN = "-"


class Run:
    """One run of the command over some paths. `contents`, by absolute path, stand in for what files hold."""

    def __init__(
        self,
        paths: list[str],
        settings: Config,
        *,
        jobs: int | None = None,
        cached: bool = True,
        contents: dict[str, bytes] | None = None,
    ) -> None:
        contents = contents or {}
        on_disk = [path for path in paths if os.path.abspath(path) not in contents]
        for path in on_disk:
            if not os.path.lexists(path):
                raise InputError(f"'PATH' must be a file or folder that exists. Got {path}. Check the spelling.")
        self.settings = settings
        troubles: dict[str, str] = {}
        given = [path for path in paths if path not in on_disk]
        found = find(on_disk, settings.exclude, troubles)
        self.project = Project([*given, *found], dict(contents), whole=any(map(os.path.isdir, on_disk)))
        self.project.troubles.update(troubles)
        self.sources = Sources(self.project)
        self.jobs = jobs if jobs is not None else min(os.cpu_count() or 1, MOST_JOBS)
        self.everything = self._checked(cached)

    def _checked(self, cached: bool) -> Report:
        name = results.fingerprint(self.project) if cached else ""
        known = results.load(name) if cached else None
        if known is not None:
            return known
        from softplace.check.engine import check  # not needed, and slow to import, where nothing changed
        from softplace.check.fixes import Fixer

        found = check(self.project, jobs=self.jobs)
        fixer = Fixer(found.softmaxes, self.sources)
        report = replace(found, findings=[replace(each, fix=fixer.plan(each)) for each in found.findings])
        if cached:
            results.save(name, report, self.project.beside)
        return report

    def report(self) -> Report:
        """What is to be reported: the selected rules, without what comments silence and what the baseline knows."""
        kept = self.wanted()
        if self.settings.baseline is not None:
            kept = Baseline(self.settings.baseline, self.sources).unknown(kept)
        return replace(self.everything, findings=kept)

    def wanted(self) -> list[Finding]:
        """The findings of the selected rules that no comment silences."""
        return [
            finding
            for finding in self.everything.findings
            if self.settings.wants(finding.code, finding.site.path) and not silenced(finding, self.sources.lines)
        ]


@contextmanager
def without_traceback() -> Iterator[None]:
    """A mistake of the checker itself is one line, which says where it is."""
    try:
        yield
    except (InputError, OSError):  # an OSError is that of the output, which the caller tells apart
        raise
    except Exception as error:
        import traceback  # slow to import

        last = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"internal error: {type(error).__name__}: {error} ({os.path.basename(last.filename)}:{last.lineno}). "
            "Please report it; --exclude leaves the file out that causes it."
        ) from error


def run(
    paths: list[str] | None = None,
    *,
    select: str | None = None,
    ignore: str | None = None,
    exclude: str | None = None,
    format: str | None = None,  # noqa: A002
    baseline: str | None = None,
    no_cache: bool = False,
    list_all: bool = False,
    stdin_filename: str | None = None,
    **more: Any,
) -> int:
    """`softplace check` with the options of the command line by their names; gives the exit code."""
    chosen = paths or ["."]
    code = 1  # where the reader of the output went before its end
    with reported(), without_traceback():
        settings = config.load(
            chosen[0] if stdin_filename is None else stdin_filename,
            select=config.split(select),
            ignore=config.split(ignore),
            exclude=config.split(exclude),
            format=format,
            baseline=baseline,
        )
        code = check_command(
            chosen, settings, cached=not no_cache, listed=list_all, stdin_filename=stdin_filename, **more
        )
    return code  # noqa: RET504


def check_command(
    paths: list[str],
    settings: Config,
    *,
    jobs: int | None = None,
    cached: bool = True,
    listed: bool = False,
    show_unresolved: bool = False,
    update_baseline: bool = False,
    fix: bool = False,
    unsafe_fixes: bool = False,
    diff: bool = False,
    quiet: bool = False,
    exit_zero: bool = False,
    stdin_filename: str | None = None,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Check, print, and give the exit code: 0 clean, 1 findings (with `diff`: fixes)."""
    out, err = out or sys.stdout or io.StringIO(), err or sys.stderr or io.StringIO()  # the shell may have closed them
    fixing = fix or unsafe_fixes or diff
    _refuse_what_does_not_go_together(
        {
            "--stdin-filename": stdin_filename is not None and paths != [STDIN] and "without '-' as the only path",
            "-": STDIN in paths and paths != [STDIN] and "beside other paths",
            "--fix": (fix or unsafe_fixes) and not diff and STDIN in paths and "of standard input: use --diff",
            "--update-baseline": update_baseline
            and ("without --baseline FILE" if settings.baseline is None else fixing and "together with fixes"),
            "--list and --show-unresolved": (listed or show_unresolved) and settings.format == "sarif" and "in SARIF",
        }
    )
    contents: dict[str, bytes] = {}
    if paths == [STDIN]:
        paths = [stdin_filename or STDIN]
        contents[os.path.abspath(paths[0])] = sys.stdin.buffer.read()
    run = Run(paths, settings, jobs=jobs, cached=cached, contents=contents)
    if update_baseline and settings.baseline is not None:
        Baseline(settings.baseline, run.sources).update(run.wanted())
    report = run.report()
    if fixing:
        run, report, fixed = _mended(run, report, paths, contents, unsafe=unsafe_fixes, cached=cached)
        if diff:
            for place, (before, _) in sorted(fixed.items()):
                print(difference(run.project.shown[place], before, run.project.content(place)), end="", file=out)
            count = sum(count for _, count in fixed.values())
            print(f"{count} fix{'' if count == 1 else 'es'} would be made.", file=err)
            return 1 if fixed and not exit_zero else 0
        failed = {}
        for place, (before, _) in fixed.items():
            trouble = write(place, run.project.content(place), before)
            if trouble is not None:
                failed[place] = trouble
        if failed:
            shown = run.project.shown
            run = Run(paths, settings, jobs=jobs, cached=cached)
            report = run.report()
            report.troubles.update({shown[place]: text for place, text in failed.items()})
        print(f"{sum(count for place, (_, count) in fixed.items() if place not in failed)} fixed.", file=err)
    _print(run, report, listed=listed, show_unresolved=show_unresolved, quiet=quiet, out=out, err=err)
    return 1 if report.findings and not exit_zero else 0


def _refuse_what_does_not_go_together(wrong: dict[str, str | bool]) -> None:
    for option, why in wrong.items():
        if why:
            raise InputError(f"{option} cannot be used {why}. See `softplace check --help`.")


def _mended(
    run: Run, report: Report, paths: list[str], contents: dict[str, bytes], *, unsafe: bool, cached: bool
) -> tuple[Run, Report, dict[str, tuple[bytes, int]]]:
    """The run over what fixes make of the files, its report, and of each file the bytes before and the fixes made."""
    contents, fixed = dict(contents), dict[str, tuple[bytes, int]]()
    for _ in range(FIX_ROUNDS):
        made = mended(report.findings, run.project, unsafe=unsafe)
        if not made:
            break
        for place, (data, count) in made.items():
            before, earlier = fixed.get(place, (run.project.content(place), 0))
            fixed[place] = before, earlier + count
            contents[place] = data
        run = Run(paths, run.settings, jobs=run.jobs, cached=cached, contents=contents)
        report = run.report()
    return run, report, fixed


def _print(
    run: Run, report: Report, *, listed: bool, show_unresolved: bool, quiet: bool, out: TextIO, err: TextIO
) -> None:
    form = run.settings.format
    for path, text in sorted(report.troubles.items()):
        print(f"warning: {printable(path)}: {text}", file=err)
    writer = Writer(report, run.sources, colour=form in ("full", "concise") and _has_colours(out))
    text = writer.write(form)
    if text:
        print(text, file=out)
    if form in ("json", "sarif"):
        return
    rows: list[str] = []
    if listed:
        rows += [f"{writer.where(each.site)}: {each.place:<9} {each.operation}" for _, each in report.catalogue()]
    if show_unresolved:
        rows += [f"{writer.where(site)}: unresolved: {reason}" for site, reason in report.unresolved]
    if rows:
        print("\n".join(rows), file=out)
    if not quiet:
        print(writer.summary(), file=err if form == "github" else out)


def _has_colours(out: TextIO) -> bool:
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def rule_command(code: str | None, form: str = "text", show: Callable[[str], None] = print) -> None:
    """Print the page of a rule, or a table of all; `form` is text or json."""
    if form not in ("text", "json"):
        raise InputError(f"'format' must be one of text, json. Got {form!r}.")
    known = rules()
    chosen = [rule for rule in known if code is None or code.upper() == rule.code or code.lower() == rule.name]
    if not chosen:
        by_code = str(code).upper().startswith("SP")
        names = [rule.code if by_code else rule.name for rule in known]
        raise InputError(f"There is no rule {code!r}. {nearest(str(code), names)}")
    if form == "json":
        pages = [{"code": rule.code, "name": rule.name, "level": str(rule.level), "page": rule.page} for rule in chosen]
        show(json.dumps(pages, indent=1, ensure_ascii=False))
    elif code is None:
        width = max(len(rule.name) for rule in known)
        for rule in known:
            show(f"{rule.code}  {rule.name:<{width}}  {rule.level}")
    else:
        level = {Level.ERROR: "an error", Level.WARNING: "a warning", Level.NOTE: "a note"}[chosen[0].level]
        show(f"{chosen[0].page}\n\nLevel: {level}.")

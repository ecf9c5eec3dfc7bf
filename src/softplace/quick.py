"""The `softplace` command. Where `softplace check` can be read without typer, it is: typer takes longer to import than
an unchanged project takes to check.

Only what is plainly right is read here. Help, mistakes and all other commands are left to `softplace.cli`, which says
what there is and what is wrong.
"""

import os
import sys
from typing import Any

from softplace.streams import ended

VALUES = ("--select", "--ignore", "--exclude", "--format", "--baseline", "--stdin-filename", "--jobs")
SWITCHES = {
    "--update-baseline": "update_baseline",
    "--fix": "fix",
    "--unsafe-fixes": "unsafe_fixes",
    "--diff": "diff",
    "--list": "list_all",
    "--show-unresolved": "show_unresolved",
    "--quiet": "quiet",
    "-q": "quiet",
    "--exit-zero": "exit_zero",
    "--no-cache": "no_cache",
}


def main() -> None:
    """The entry point of the `softplace` command."""
    found = read(sys.argv[2:]) if sys.argv[1:2] == ["check"] else None
    if found is None:
        from softplace.cli import main as whole

        whole()
    else:
        ended(lambda: _check(found))


def _check(options: dict[str, Any]) -> int:
    from softplace.check.command import run

    return run(**options)


def read(given: list[str]) -> dict[str, Any] | None:
    """The arguments of `softplace check` by name; None where they need a closer look.

    >>> read(["src", "--select", "SP1", "-q", "--jobs=2"])
    {'paths': ['src'], 'select': 'SP1', 'quiet': True, 'jobs': 2}
    >>> read(["--help"]), read(["--jobs", "0"]), read(["--selec", "SP1"]), read(["--select"])
    (None, None, None, None)
    """
    paths: list[str] = []
    found: dict[str, Any] = {"paths": paths}
    rest = iter(given)
    for each in rest:
        if each == "-" or not each.startswith("-"):
            if os.name == "nt" and not each.isidentifier():  # patterns are written out there
                return None
            paths.append(each)
        elif each in SWITCHES:
            found[SWITCHES[each]] = True
        else:
            name, equals, value = each.partition("=")
            value = value if equals else next(rest, "-")
            if name not in VALUES or value.startswith("-"):
                return None
            found[name[2:].replace("-", "_")] = value
    if "jobs" in found:
        if not (found["jobs"].isascii() and found["jobs"].isdigit() and int(found["jobs"][:9]) > 0):
            return None
        found["jobs"] = int(found["jobs"][:9])
    return found

"""The last result of a run, kept by the content of all files that it read: a run over unchanged files reads it back.

It lies in the user's cache folder. One that cannot be read, of another version or damaged, is as if it were not there.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from pathlib import Path

from softplace.check.project import Project
from softplace.check.report import Report

KEPT = 16
"""How many results are kept."""


def folder() -> Path:
    """Where results are kept: in what the variable SOFTPLACE_CACHE names, else in the user's cache folder."""
    named = os.environ.get("SOFTPLACE_CACHE")
    if named:
        return Path(named) / "check"
    base = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else os.environ.get("XDG_CACHE_HOME")
    return Path(base or Path.home() / ".cache") / "softplace" / "check"


def fingerprint(project: Project) -> str:
    """One name for the content of all files and of the checker itself."""
    digest = hashlib.blake2b(_own_version(), digest_size=20)
    digest.update(os.getcwd().encode())
    for path, shown in project.shown.items():
        content = project.content(path)
        digest.update(f"\0{path}\0{shown}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        digest.update(content)
    return digest.hexdigest()


def _own_version() -> bytes:
    here = Path(__file__).parent
    files = sorted(here.rglob("*.py"))
    return "\0".join(f"{each.name} {each.stat().st_mtime_ns} {each.stat().st_size}" for each in files).encode()


class _Reader(pickle.Unpickler):
    """Reads only what a result is made of, so that a file put there by someone else can run nothing."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("builtins", "frozenset"):
            return frozenset
        # A dotted name could go on into what our modules import, and a function could be called.
        if module.startswith("softplace.check.") and "." not in name:
            found: object = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise pickle.UnpicklingError(f"{module}.{name}")


def load(name: str) -> Report | None:
    """The result of this name, if there is one."""
    try:
        with open(folder() / f"{name}.pickle", "rb") as file:
            report = _Reader(file).load()
    except Exception:  # a damaged pickle raises anything; it is then made anew
        return None
    return report if isinstance(report, Report) else None


def save(name: str, report: Report) -> None:
    """Keep a result; when that fails, nothing is lost but time."""
    try:
        place = folder()
        place.mkdir(parents=True, exist_ok=True)
        scratch = place / f"{name}.{os.getpid()}.part"
        scratch.write_bytes(pickle.dumps(report, protocol=pickle.HIGHEST_PROTOCOL))
        scratch.replace(place / f"{name}.pickle")
        kept = sorted(place.glob("*.pickle"), key=lambda each: each.stat().st_mtime, reverse=True)
        for old in kept[KEPT:]:
            old.unlink(missing_ok=True)
    except OSError:
        return

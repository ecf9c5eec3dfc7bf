"""The last result of a run, kept by the content of all files that it read: a run over unchanged files reads it back.

It lies in the user's cache folder. One that cannot be read, of another version or damaged, is as if it were not there.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from softplace.check.files import Unreadable, read_bytes
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


@dataclass(slots=True)
class Kept:
    """What a file of the cache holds: a result, and the files beside the named ones that it was made with."""

    report: Report
    beside: dict[str, str]


def fingerprint(project: Project) -> str:
    """One name for the content of all files, of the checker itself, and of the Python that parses them."""
    digest = hashlib.blake2b(_own_version(), digest_size=20)
    digest.update(f"{sys.version_info[:2]}\0{project.whole}\0{os.getcwd()}".encode("utf-8", "surrogateescape"))
    for path, shown in project.shown.items():
        content = project.content(path)
        digest.update(f"\0{path}\0{shown}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        digest.update(content)
    return digest.hexdigest()


def _own_version() -> bytes:
    here = Path(__file__).parent
    files = sorted(here.rglob("*.py"))
    return "\0".join(f"{each.name} {each.stat().st_mtime_ns} {each.stat().st_size}" for each in files).encode()


def content_name(path: str) -> str:
    """A name for what a file holds; none where there is no file that can be read."""
    try:
        return hashlib.blake2b(read_bytes(path), digest_size=20).hexdigest()
    except Unreadable:
        return ""


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
    """The result of this name, if there is one, and what it imports from beside the named files is as it was."""
    try:
        with open(folder() / f"{name}.pickle", "rb") as file:
            kept = _Reader(file).load()
        if isinstance(kept, Kept) and all(content_name(path) == known for path, known in kept.beside.items()):
            return kept.report
    except Exception:  # a damaged pickle raises anything; it is then made anew
        return None
    return None


def save(name: str, report: Report, beside: Iterable[str]) -> None:
    """Keep a result, and which files beside the named ones were looked for; when that fails, only time is lost."""
    try:
        place = folder()
        place.mkdir(parents=True, exist_ok=True)
        scratch = place / f"{name}.{os.getpid()}.part"
        kept_with = Kept(report, {path: content_name(path) for path in sorted(beside)})
        scratch.write_bytes(pickle.dumps(kept_with, protocol=pickle.HIGHEST_PROTOCOL))
        scratch.replace(place / f"{name}.pickle")
        kept = sorted(place.glob("*.pickle"), key=lambda each: each.stat().st_mtime, reverse=True)
        for old in kept[KEPT:]:
            old.unlink(missing_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return

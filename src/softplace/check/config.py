"""Options of `softplace check`, from the command line over `[tool.softplace.check]` of the nearest pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from softplace.check.files import fits
from softplace.errors import InputError, nearest

FORMATS = ("full", "concise", "json", "sarif", "github")
PER_FILE = "per-file-ignores"
_KEYS: dict[str, type] = {
    "select": list,
    "ignore": list,
    PER_FILE: dict,
    "exclude": list,
    "baseline": str,
    "format": str,
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to check and what to report."""

    select: tuple[str, ...] = ("ALL",)
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    baseline: str | None = None
    format: str = "full"
    per_file_ignores: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Patterns of files, and the codes that are not reported in them."""

    def __post_init__(self) -> None:
        if not self.select:
            raise InputError("'select' must name a rule, or ALL. Got none, which would find nothing anywhere.")
        for name in ("select", "ignore"):
            for code in getattr(self, name):
                _check_code(name, code)
        for _, codes in self.per_file_ignores:
            for code in codes:
                _check_code(PER_FILE, code)
        if self.format not in FORMATS:
            raise InputError(
                f"'format' must be one of {', '.join(FORMATS)}. Got {self.format!r}. {nearest(self.format, FORMATS)}"
            )

    def wants(self, code: str, path: str = "") -> bool:
        """Whether findings of a rule are reported in a file: the longest prefix decides, ignore before select."""
        for pattern, codes in self.per_file_ignores:
            if any(_matches(each, code) for each in codes) and _covers(pattern, path):
                return False
        selected = max((len(each) for each in self.select if _matches(each, code)), default=-1)
        ignored = max((len(each) for each in self.ignore if _matches(each, code)), default=-1)
        return selected > ignored


def _covers(pattern: str, path: str) -> bool:
    """Whether a pattern fits a file or a folder that it is in."""
    pure = PurePath(path)
    if pure.is_relative_to(Path.cwd()):
        pure = pure.relative_to(Path.cwd())
    return any(fits(str(each), pattern) for each in (pure, *pure.parents))


def _matches(prefix: str, code: str) -> bool:
    return prefix == "ALL" or code.startswith(prefix)


def _check_code(option: str, code: str) -> None:
    if code == "ALL":
        return
    from softplace.check.rules import rules  # slow to import, and not needed by those who select nothing

    known = [rule.code for rule in rules()]
    if not (re.fullmatch(r"SP\d*", code) and any(each.startswith(code) for each in known)):
        raise InputError(
            f"'{option}' must hold rule codes or their beginnings (SP1, SP101), or ALL. Got {code!r}. "
            f"{nearest(code, known)}"
        )


def split(text: str | None) -> tuple[str, ...] | None:
    """The codes in a comma-separated option.

    >>> split("SP101, SP2")
    ('SP101', 'SP2')
    """
    return None if text is None else tuple(each.strip() for each in text.split(",") if each.strip())


def load(start: str, **given: Any) -> Config:
    """Options of the nearest pyproject.toml above a path, with those that were given in their place."""
    found = _table(Path(start).absolute())
    return Config(**(found | {name: value for name, value in given.items() if value is not None}))


def _table(start: Path) -> dict[str, Any]:
    for folder in [start, *start.parents]:
        path = folder / "pyproject.toml"
        if not path.is_file():
            continue
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}). Mend it, or check from another folder.") from None
        table: Any = data
        for name in ("tool", "softplace", "check"):
            table = table.get(name) if isinstance(table, dict) else None
        if isinstance(table, dict):
            return _validated(table, path)
        if table is not None:
            raise InputError(f"{path}: [tool.softplace.check] must be a table. Got {table!r}.")
    return {}


def _validated(table: dict[str, Any], path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in table.items():
        kind = _KEYS.get(name)
        if kind is None:
            raise InputError(f"{path}: [tool.softplace.check] has no option {name!r}. {nearest(name, list(_KEYS))}")
        if kind is list:
            found[name] = _strings(value, f"{path}: '{name}'")
        elif kind is dict:
            if not isinstance(value, dict):
                raise InputError(f"{path}: '{name}' must be a table of patterns and lists of codes. Got {value!r}.")
            codes = {pattern: _strings(each, f"{path}: '{name}' of {pattern!r}") for pattern, each in value.items()}
            found["per_file_ignores"] = tuple(codes.items())
        elif isinstance(value, str):
            found[name] = value
        else:
            raise InputError(f"{path}: '{name}' must be a string. Got {value!r}.")
    if "baseline" in found:
        found["baseline"] = str(path.parent / found["baseline"])
    return found


def _strings(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InputError(f"{name} must be a list of strings. Got {value!r}.")
    return tuple(value)

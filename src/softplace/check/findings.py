"""Findings: what a rule reports, and the level of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from softplace.check.sites import Site

if TYPE_CHECKING:
    from softplace.check.rules._context import Context


class Level(StrEnum):
    """error: the numbers are wrong; warning: very likely wrong or fragile; note: needless, or a matter of taste."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Edit(NamedTuple):
    """Replace a piece of a file; lines from 1, columns from 0 in bytes of UTF-8 as in ast."""

    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Fix:
    """Edits that mend a finding. Safe ones keep what the program computes, up to rounding."""

    message: str
    edits: tuple[Edit, ...]
    safe: bool


@dataclass(frozen=True, kw_only=True)
class Related:
    """Another place that belongs to a finding."""

    site: Site
    message: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong."""

    code: str
    name: str
    level: Level
    site: Site
    message: str
    place: str = "unknown"
    related: tuple[Related, ...] = ()
    rank: int | None = None
    """How many dims what is normalised has, where it is known and a fix needs it."""
    fix: Fix | None = None


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule: its code, name and level, and what finds it. The docstring of its file is its page."""

    code: str
    name: str
    level: Level
    find: Callable[[Context], Iterator[Finding]] = field(repr=False)
    page: str = field(repr=False, default="")

    def finding(
        self,
        site: Site,
        message: str,
        *,
        place: str = "unknown",
        related: tuple[Related, ...] = (),
        level: Level | None = None,
        rank: int | None = None,
    ) -> Finding:
        """A finding of this rule."""
        return Finding(
            code=self.code,
            name=self.name,
            level=level or self.level,
            site=site,
            message=message,
            place=place,
            related=related,
            rank=rank,
        )

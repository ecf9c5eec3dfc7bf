"""What a run found: findings, a catalogue of softmaxes, and what could not be followed or read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from softplace.check.findings import Finding
from softplace.check.sites import Site


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

"""What a page is made of: plain records of numbers and words, in the order in which a reader meets them.

A contest or a training returns these; `page.py` writes them; the browser draws `Figure.rows` and computes nothing but
layout.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Cell = str | float | int | bool | None
Value = Cell | Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of a figure: the column that it shows, its label with the unit, and its scale."""

    column: str
    label: str
    scale: Literal["linear", "log", "category"] = "linear"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One chart, its numbers and its finding.

    `rows` are what is drawn, tabulated and exported: dicts with the same keys. What each `kind` reads:

    - "interval": a dot with an interval per category (y): columns `x.column`, `low`, `high`; `series` colours.
      A vertical line stands at `reference_line`; `band` (low, high) is shaded (the region of practical equivalence).
    - "curve": a line per series over x with a band: columns `x.column`, `y.column`, `low`, `high`, `series`.
    - "heatmap": a cell per (x, y) coloured by column `value`; `value_label` names it beside the colour scale.
    - "bar": a bar per category.
    - "steps": panels over time with one cursor, to step through a machine at work. `x.column` is the step, `facet` the
      panel, `y.column` the row of the panel (a slot, a channel), `value` the colour. Where `value` is a number, the
      panel is drawn over time: a column per step. Where it is a sequence of numbers, the panel is a matrix at every
      step (a memory: slots by width) and is drawn at the current step only. `series` (an arm) is chosen by the reader.
      `highlight` names the panels whose largest cell is said at each step (the weights of a head); where such a panel
      has the rows of a matrix, its weights stand beside the matrix too. A panel that stays within 0 and 1 is coloured
      from 0 to 1, any other by its own range. The page carries 4,095 levels between a panel's least and largest value.
    """

    key: str
    kind: Literal["interval", "curve", "heatmap", "bar", "steps"]
    title: str
    caption: str
    x: Axis
    y: Axis
    rows: Sequence[Mapping[str, Value]]
    series: str | None = None
    facet: str | None = None
    reference_line: float | None = None
    band: tuple[float, float] | None = None
    highlight: Sequence[str] = ()
    value_label: str | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a study concludes: one claim at one place. `verdicts.json` is a list of these (docs/verdicts.md)."""

    place: str
    claim: str
    verdict: Literal["supported", "not supported", "opposite", "cannot tell"]
    sentence: str
    criterion: str
    measure: str
    estimate: float | None
    interval: tuple[float, float] | None
    p: float | None
    n: int
    arms: Sequence[str]
    references: Sequence[str]
    contrasts: Sequence[Mapping[str, object]] = ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """One claim on the page: the verdict, then figures, each with its numbers."""

    key: str
    title: str
    verdict: Verdict | None
    text: Sequence[str] = ()
    figures: Sequence[Figure] = ()


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A publication to quote. `finding` is printed only where `verified` (its text or abstract was read)."""

    key: str
    authors: str
    title: str
    year: int
    where: str
    finding: str
    verified: bool
    bibtex: str
    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class PlaceReport:
    """All that a study says of one place."""

    place: str
    question: str
    answer: str
    sections: Sequence[Section]
    references: Sequence[Reference]
    method: Sequence[str]
    facts: Mapping[str, Cell] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole page: the places in the order in which they ended, and how it was all measured.

    A page about a training or a fitted model (`about`) calls its parts so, has no verdicts, and shows the facts of each
    place first.
    """

    title: str
    places: Sequence[PlaceReport]
    pending: Sequence[str]
    command: str
    provenance: Mapping[str, Cell]
    about: Literal["study", "training", "model"] = "study"

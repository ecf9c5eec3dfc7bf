"""A figure of kind "steps" on the page: its panels, packed for the script, and the table of them.

A machine's trace has tens of thousands of numbers, so each is written as one of 4,095 levels between the least and the
largest of its panel, in two characters: finer than a colour can show, and than three digits of the largest.

The table, which is all there is without a script, has a row per step: of a panel that the figure highlights, the row
with the largest value; of any other, its values where they are few, else the row with the largest. What a matrix holds
at a step is not tabled; the CSV file has it.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from softplace.report.records import Figure

LEVELS = 4095
"""How many values a panel can tell apart; the code after the last is that of no value."""
MOST_STEPS = 200
"""The most steps that are tabled."""
FEW_ROWS = 16
"""A panel with no more rows is tabled whole."""

_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@dataclass(frozen=True)
class Panel:
    """A panel of one series: `values[row][step]` is a number, or where the panel is a matrix, a sequence of them."""

    series: object
    name: object
    rows: Sequence[object]
    steps: Sequence[object]
    values: Sequence[Sequence[Any]]
    width: int | None

    def numbers(self) -> list[float]:
        """All numbers, row after row, step after step; NaN is no value."""
        if self.width is None:
            return [_number(value) for line in self.values for value in line]
        return [
            _number(cells[column]) if column < len(cells) else math.nan
            for line in self.values
            for cells in line
            for column in range(self.width)
        ]


def step_panels(figure: Figure) -> list[Panel]:
    """The panels in the order in which the rows name them. Equal cells: the last counts."""
    grouped: dict[tuple[object, object], dict[tuple[object, object], Any]] = {}
    for row in figure.rows:
        key = (row.get(figure.series or ""), row.get(figure.facet or ""))
        grouped.setdefault(key, {})[row[figure.y.column], row[figure.x.column]] = row["value"]
    return [_panel(series, name, cells) for (series, name), cells in grouped.items()]


def _panel(series: object, name: object, cells: Mapping[tuple[object, object], Any]) -> Panel:
    rows = list(dict.fromkeys(row for row, _ in cells))
    steps = list(dict.fromkeys(step for _, step in cells))
    widths = [len(value) for value in cells.values() if _is_vector(value)]
    width = max(widths) if widths else None
    values = [[cells.get((row, step)) for step in steps] for row in rows]
    if width is not None:
        values = [[value if _is_vector(value) else [value] for value in line] for line in values]
    return Panel(series, name, rows, steps, values, width)


def pack_panels(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """The panels for the script, each with its numbers in two characters a number."""
    return [
        {
            "series": panel.series,
            "name": panel.name,
            "rows": list(panel.rows),
            "steps": list(panel.steps),
            "width": panel.width,
        }
        | _pack(panel.numbers())
        for panel in panels
    ]


def _pack(numbers: Sequence[float]) -> dict[str, Any]:
    known = [number for number in numbers if math.isfinite(number)]
    # The script reads six digits of the ends, so the levels are counted between what it reads.
    low, high = (float(f"{end:.6g}") for end in ((min(known), max(known)) if known else (0.0, 0.0)))
    scale = (LEVELS - 1) / (high - low) if high - low > LEVELS * sys.float_info.min else 0.0
    packed = []
    for number in numbers:
        code = min(max(round((number - low) * scale), 0), LEVELS - 1) if math.isfinite(number) else LEVELS
        packed.append(_DIGITS[code >> 6] + _DIGITS[code & 63])
    return {"low": low, "high": high, "missing": len(known) < len(numbers), "codes": "".join(packed)}


def step_tables(figure: Figure, panels: Sequence[Panel]) -> list[tuple[list[str], list[list[object]], str | None]]:
    """Head, rows and caption of a table for each series."""
    tables = []
    for series in dict.fromkeys(panel.series for panel in panels):
        shown = [panel for panel in panels if panel.series == series and panel.width is None]
        steps = list(dict.fromkeys(step for panel in shown for step in panel.steps))
        rows = [[step, *(_say(figure, panel, step) for panel in shown)] for step in steps[:MOST_STEPS]]
        parts = [] if figure.series is None else [str(series)]
        if len(steps) > MOST_STEPS:
            parts.append(f"the first {MOST_STEPS} of {len(steps):,} steps")
        head = [figure.x.label, *(str(panel.name) for panel in shown)]
        tables.append((head, rows, ", ".join(parts) or None))
    return tables


def _say(figure: Figure, panel: Panel, step: object) -> str:
    if step not in panel.steps:
        return "n/a"
    at = panel.steps.index(step)
    column = [_number(line[at]) for line in panel.values]
    known = [(number, row) for number, row in zip(column, panel.rows, strict=True) if math.isfinite(number)]
    if not known:
        return "n/a"
    if panel.name not in figure.highlight and len(panel.rows) <= FEW_ROWS:
        return " ".join(_short(number) for number in column)
    largest = max(number for number, _ in known)
    row = next(row for number, row in known if number == largest)
    return f"{row}: {_short(largest)}"


def _short(number: float) -> str:
    return f"{round(number, 2) + 0.0:.3g}" if math.isfinite(number) else "n/a"


def _is_vector(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) or callable(getattr(value, "item", None)) else math.nan

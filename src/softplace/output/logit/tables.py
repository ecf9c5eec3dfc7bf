"""Tables of results: rows of plain values, and how they look in a terminal, in LaTeX, in HTML and as JSON.

No axes.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Cell = str | float | int | bool | None

P_COLUMNS = ("p",)
"""Columns of probabilities of the null hypothesis: small ones are written as a bound."""
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Table:
    """A titled table.

    Args:
        title: What it says, in a line.
        columns: Names of the columns.
        rows: A value for each column; `None` where there is none.
        note: What a reader must know beside it.

    >>> print(Table(title="Odds", columns=("class", "ratio"), rows=(("bus", 1.25), ("car", None))).text())
    Odds
    class  ratio
    bus     1.25
    car
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def records(self) -> list[dict[str, Cell]]:
        """The rows as dicts."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def column(self, name: str) -> list[Cell]:
        """The values of one column."""
        return [row[self.columns.index(name)] for row in self.rows]

    def frame(self) -> "pd.DataFrame":
        """The rows as a pandas data frame (extra `logit`)."""
        from softplace.output.logit.reading import require

        frame: pd.DataFrame = require("pandas").DataFrame(list(self.rows), columns=list(self.columns))
        return frame

    def text(self) -> str:
        """For a terminal: columns of words to the left, of numbers to the right."""
        cells = [[show(value, name) for value, name in zip(row, self.columns, strict=True)] for row in self.rows]
        words = [any(isinstance(row[at], str) for row in self.rows) for at in range(len(self.columns))]
        widths = [max([len(name), *(len(row[at]) for row in cells)]) for at, name in enumerate(self.columns)]

        def line(values: Sequence[str]) -> str:
            padded = zip(values, widths, words, strict=True)
            return "  ".join(one.ljust(width) if word else one.rjust(width) for one, width, word in padded).rstrip()

        note = [self.note] if self.note else []
        return "\n".join([self.title, line(self.columns), *(line(row) for row in cells), *note])

    def latex(self) -> str:
        """A `tabular` with a caption, in a `table`; it needs the package booktabs."""
        words = [any(isinstance(row[at], str) for row in self.rows) for at in range(len(self.columns))]
        lines = [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{_latex(self.title)}}}",
            rf"\begin{{tabular}}{{{''.join('l' if word else 'r' for word in words)}}}",
            r"\toprule",
            " & ".join(map(_latex, self.columns)) + r" \\",
            r"\midrule",
        ]
        for row in self.rows:
            cells = (_latex_cell(value, name) for value, name in zip(row, self.columns, strict=True))
            lines.append(" & ".join(cells) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        if self.note:
            lines.append(rf"\par\smallskip {_latex(self.note)}")
        return "\n".join([*lines, r"\end{table}"])

    def html(self) -> str:
        """A `table` element; whatever a name holds is escaped."""
        head = "".join(f"<th scope=col>{escape(name)}</th>" for name in self.columns)
        lines = [f"<table>\n<caption>{escape(self.title)}</caption>", f"<thead><tr>{head}</tr></thead>", "<tbody>"]
        for row in self.rows:
            cells = "".join(
                f"<td>{escape(show(value, name))}</td>" for value, name in zip(row, self.columns, strict=True)
            )
            lines.append(f"<tr>{cells}</tr>")
        lines.append("</tbody>")
        if self.note:
            lines.append(f"<tfoot><tr><td colspan={len(self.columns)}>{escape(self.note)}</td></tr></tfoot>")
        return "\n".join([*lines, "</table>"])


def show(value: Cell, column: str = "", digits: int = 4) -> str:
    """A value as text: four significant digits; a small p as a bound.

    >>> show(0.00001, "p"), show(0.00001), show(123456.7), show(float("nan")), show(True)
    ('<0.0001', '1e-05', '1.235e+05', 'nan', 'yes')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else re.sub(r"\s+", " ", value)
    if column in P_COLUMNS and value < 1e-4:
        return "<0.0001"
    if column in P_COLUMNS and math.isfinite(value):
        return f"{value:.4f}"
    return f"{value:.{6 if column == 'value' else digits}g}"


def as_json(values: Mapping[str, Any]) -> str:
    """JSON of plain values, tables as lists of records; what is no finite number is null."""
    return json.dumps(_plain(values), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Table):
        return _plain(value.records())
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    item = getattr(value, "tolist", None)
    if callable(item):
        return _plain(item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _latex(text: str) -> str:
    return re.sub(r"[\\&%$#_{}~^<>]", lambda found: _LATEX[found[0]], text)


def _latex_cell(value: Cell, column: str) -> str:
    text = show(value, column)
    if isinstance(value, str):
        return _latex(text)
    exponent = re.fullmatch(r"(-?[\d.]+)e([+-])0*(\d+)", text)
    if exponent:
        sign = "-" if exponent[2] == "-" else ""
        return rf"${exponent[1]} \times 10^{{{sign}{exponent[3]}}}$"
    return text.replace("<", "$<$").replace("-", "$-$")

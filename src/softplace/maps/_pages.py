"""The catalogue for a reader: as docs/maps.md, as a table or a page of a terminal, and as JSON.

`python -m softplace.maps._pages > docs/maps.md` makes the first.
"""

import json
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from softplace.maps._catalogue import ENTRIES, PROPERTIES, Entry
from softplace.maps.registry import OWN, names

HEADS = ("map", "formula", *PROPERTIES.values(), "Lipschitz", "reference")

PREFACE = """\
# Maps

Every map is a function `map(scores, dim=-1, *, mask=None, temperature=1.0)` of `softplace.maps`, some with options of
their own; `softplace.maps.get(name)` gives it by name, and `softplace.maps.modules` holds one `nn.Module` for each.
`softplace maps` prints this table, `softplace maps NAME` what is known of one map.

*Simplex*: no weight is negative, and the weights of a row sum to 1. *Sparse*: some open set of finite scores gives
exact zeros. *Shift*: a constant added to a row changes nothing. *Order*: a larger score never gets a smaller weight.
*Lipschitz*: the smallest L with `||p(s) - p(s')|| <= L ||s - s'||` in the 2-norm, for rows of every size. All are those
of the map with its options as they come and a temperature of 1 (a temperature t divides L by t), and all are tried on
random scores by the tests.

Rows of unequal length that lie end to end have `segment_softmax` and `segment_sparsemax`, which take the number of the
row of each entry and have the properties of softmax and sparsemax.

This page is made from the data of `src/softplace/maps/_catalogue.py` by `python -m softplace.maps._pages`."""


def page() -> str:
    """docs/maps.md."""
    lines = [PREFACE, "", "| map | formula | simplex | sparse | shift | order | Lipschitz | reference |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for entry in ENTRIES:
        marks = " | ".join("yes" if getattr(entry, each) else "no" for each in PROPERTIES)
        lines.append(
            f"| [`{entry.name}`](#{entry.name}) | `{cell(entry.formula)}` | {marks} | {number(entry.lipschitz)} "
            f"| {entry.reference} |"
        )
    for entry in ENTRIES:
        lines += [
            "",
            f"## {entry.name}",
            "",
            "| | |",
            "|---|---|",
            f"| formula | `{cell(entry.formula)}` |",
            f"| image | {entry.image} |",
            f"| gradient | `{cell(entry.gradient)}` |",
            *(f"| {each.replace('_', ' ')} | {'yes' if getattr(entry, each) else 'no'} |" for each in PROPERTIES),
            f"| Lipschitz constant | {number(entry.lipschitz)}: {cell(entry.constant)} |",
            f"| module | `softplace.maps.modules.{entry.module}` |",
            f"| reference | {entry.reference} |",
        ]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """A text inside a Markdown table, where a bar would end the cell."""
    return text.replace("|", "\\|")


def number(lipschitz: float | None) -> str:
    """A Lipschitz constant in a table.

    >>> number(0.5), number(None)
    ('0.5', 'none')
    """
    return "none" if lipschitz is None else f"{lipschitz:.4g}"


def show(entry: Entry | None, *, as_json: bool) -> None:
    """Print what is known of one map, or (`None`) of all."""
    if as_json:
        print(json.dumps([each.facts() for each in ENTRIES] if entry is None else entry.facts(), indent=2))
    elif entry is None:
        _show_table([_row(each) for each in ENTRIES])
    else:
        _show_table([(head, _words(value)) for head, value in entry.facts().items()], heads=None)
    if entry is None and not as_json and (others := names()[len(OWN) :]):
        print(f"Of other packages: {', '.join(others)}")


def _row(entry: Entry) -> tuple[str, ...]:
    marks = ("yes" if getattr(entry, each) else "no" for each in PROPERTIES)
    return (entry.name, entry.formula, *marks, number(entry.lipschitz), entry.reference)


def _words(value: str | bool | float | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else number(value)


def _show_table(rows: list[tuple[str, ...]], heads: tuple[str, ...] | None = HEADS) -> None:
    if sys.stdout is not None and sys.stdout.isatty():  # None where the shell closed it
        console = Console()
        # Below its head a column has no use: then the terminal gets lines as a pipe does, and wraps them.
        least = [max(len(row[0]) for row in rows), 20] if heads is None else [len(head) for head in heads]
        if console.width >= sum(least) + 3 * len(least) + 1:
            console.print(_table(rows, heads))
            return
    lines = [*([] if heads is None else [heads]), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip())


def _table(rows: list[tuple[str, ...]], heads: tuple[str, ...] | None) -> Table:
    table = Table(show_header=heads is not None, show_lines=heads is not None)
    for head in heads or ("", ""):
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


if __name__ == "__main__":
    print(page(), end="")

"""Writes a report as one HTML file that needs no network: words and tables by jinja2, charts by a bundled script.

Everything that came from outside (names of arms, columns and classes) passes through jinja2's autoescape or through
`_json`; a strict content security policy lets in nothing but the package's own script and style, by their hashes.
The script and the style are built from `web/` and committed in `softplace/web/`.
"""

import base64
import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup, escape

from softplace.errors import InputError
from softplace.report.records import Figure, PlaceReport, Reference, Report, Verdict
from softplace.report.steps import pack_panels, step_panels, step_tables

_Rows = Sequence[Mapping[str, object]]
_WIDE = 24  # a matrix with more columns is printed on a page of its own, in landscape


def render(report: Report) -> str:
    """The page as text. Equal reports give equal pages."""
    names = _Names()
    places = [_place(place, names) for place in report.places]
    references: dict[str, Reference] = {}
    for place in report.places:
        for reference in place.references:
            references.setdefault(reference.key, reference)
    anchors = {key: names.take(f"reference-{key}") for key in references}
    script, style = _asset("report.js"), _asset("report.css")
    page = _template().render(
        report=report,
        places=places,
        references=[(anchors[key], reference) for key, reference in references.items()],
        cites={key: (anchors[key], _cite(reference)) for key, reference in references.items()},
        data=_json({"figures": [drawn["data"] for place in places for drawn in place["drawn"]]}),
        script=Markup(script),
        style=Markup(style),
        notices=_asset("THIRD_PARTY_NOTICES.txt"),
        policy=_policy(script, style),
    )
    # What HTML cannot hold (control characters, halves of surrogate pairs) is shown as the replacement character.
    return re.sub("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", "\ufffd", page)


def write_page(report: Report, path: Path) -> None:
    """Replace the page at `path` in one step: a reader sees the old page or the new one, never a half.

    Raises `InputError` where the folder cannot be written; the old page then stays as it was.
    """
    write_text(path, render(report))


def page_path(out: str, name: str) -> Path:
    """Where `--out` puts a page: that file where it ends in .html or .htm, else `name` in that folder.

    Raises:
        InputError: It is empty.

    >>> page_path("found/it.html", "page.html").as_posix(), page_path("found", "page.html").as_posix()
    ('found/it.html', 'found/page.html')
    """
    if not out.strip():
        raise InputError("'out' must be the path of a page or of a folder. Got ''. Use e.g. --out page.html.")
    path = Path(out)
    return path if path.suffix.lower() in (".html", ".htm") else path / name


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step, made with its folder where missing. Errors as `write_page`."""
    temporary = path.parent / f".{path.stem}-{secrets.token_hex(8)}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"Cannot write {str(path)!r}: {reason}. Choose a folder that can be written.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


class _Names:
    """Element ids and file names: readable, safe in a URL, each given once."""

    def __init__(self) -> None:
        self._taken: set[str] = {"data", "status", "verdicts", "publications", "method", "bibtex-tools"}

    def take(self, wanted: str) -> str:
        stem = re.sub(r"[^a-z0-9]+", "-", wanted.lower())[:60].strip("-") or "part"
        name, count = stem, 1
        while name in self._taken:
            count += 1
            name = f"{stem}-{count}"
        self._taken.add(name)
        return name


def _place(place: PlaceReport, names: _Names) -> dict[str, Any]:
    anchor = names.take(place.place)
    sections: list[dict[str, Any]] = [
        {
            "section": section,
            "anchor": names.take(f"{place.place}-{section.key}"),
            "short": section.title.split(": ")[0],
            "figures": [_figure(figure, anchor, names) for figure in section.figures],
            "contrasts": _records(section.verdict.contrasts) if section.verdict and section.verdict.contrasts else None,
        }
        for section in place.sections
    ]
    drawn = [figure for section in sections for figure in section["figures"]]
    return {"anchor": anchor, "report": place, "sections": sections, "tally": _tally(sections), "drawn": drawn}


def _tally(sections: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The sections that ended with each verdict; none where there are fewer than three, which need no summary."""
    groups: dict[str, list[dict[str, Any]]] = {word: [] for word in get_args(Verdict.__annotations__["verdict"])}
    for section in sections:
        if section["section"].verdict is not None:
            groups[section["section"].verdict.verdict].append(section)
    judged = [(word, group) for word, group in groups.items() if group]
    return judged if sum(len(group) for _, group in judged) > 2 else []


def _figure(figure: Figure, place: str, names: _Names) -> dict[str, Any]:
    anchor = names.take(f"{place}-{figure.key}")
    data = asdict(replace(figure, rows=())) | {"id": anchor, "place": place}
    if figure.kind == "steps":
        panels = step_panels(figure)
        data |= {"columns": [], "panels": pack_panels(panels)}
        tables = [_table(*table) for table in step_tables(figure, panels)]
    else:
        columns = {name: [_plain(row.get(name)) for row in figure.rows] for name in _columns(figure.rows)}
        data["columns"] = [_pack(name, values) for name, values in columns.items()]
        tables = _matrices(figure) or [_records(figure.rows)]
    wide = any(len(table["head"]) > _WIDE for table in tables)
    return {"anchor": anchor, "figure": figure, "data": data, "tables": tables, "wide": wide}


def _pack(name: str, values: list[Any]) -> dict[str, Any]:
    """A column for the script; words that repeat are written once."""
    levels = list(dict.fromkeys(value for value in values if isinstance(value, str)))
    if len(levels) * 2 < len(values) and all(isinstance(value, str) for value in values):
        codes = {level: code for code, level in enumerate(levels)}
        return {"name": name, "levels": levels, "codes": [codes[value] for value in values]}
    return {"name": name, "values": values}


def _matrices(figure: Figure) -> list[dict[str, Any]]:
    """A heat map's numbers as it is drawn, a table per panel; none where a cell has more than one number."""
    wanted = {figure.x.column, figure.y.column, "value"} | ({figure.facet} if figure.facet else set())
    if figure.kind != "heatmap" or not figure.rows or set(_columns(figure.rows)) != wanted:
        return []
    panels: dict[Any, dict[tuple[Any, Any], Any]] = {}
    for row in figure.rows:
        cells = panels.setdefault(row[figure.facet] if figure.facet else None, {})
        cell = (row[figure.y.column], row[figure.x.column])
        if cell in cells:
            return []
        cells[cell] = row["value"]
    tables = []
    for facet, cells in panels.items():
        across = list(dict.fromkeys(x for _, x in cells))
        rows = [[y, *(cells.get((y, x)) for x in across)] for y in dict.fromkeys(y for y, _ in cells)]
        head = [f"{figure.y.label} \\ {figure.x.label}", *map(_show, across)]
        tables.append(_table(head, rows, None if facet is None else _show(facet), digits=3))
    return tables


def _columns(rows: _Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _records(rows: _Rows) -> dict[str, Any]:
    columns = _columns(rows)
    return _table(columns, [[row.get(name) for name in columns] for row in rows])


def _table(
    head: Sequence[str], rows: list[list[object]], caption: str | None = None, digits: int = 4
) -> dict[str, Any]:
    """A table with its body written here: end tags that HTML does not need would be half of a page's bytes."""
    lines = []
    for first, *rest in rows:
        cells = [f"<td{' class=t' * isinstance(value, str)}>{escape(_show(value, digits))}" for value in rest]
        lines.append(f"<tr><th scope=row>{escape(_show(first, digits))}{''.join(cells)}")
    texts = [any(isinstance(row[index], str) for row in rows) for index in range(len(head))]
    return {
        "head": list(zip(head, texts, strict=True)),
        "body": Markup("\n".join(lines)),
        "caption": caption,
        "size": len(rows),
        "long": len(rows) > 60 and len(head) <= 6,  # printed in two columns
    }


def _plain(value: object) -> Any:
    """A value for JSON: six significant digits; what is no finite number is null."""
    item = getattr(value, "item", None)
    if callable(item):  # a numpy scalar
        value = item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if not isinstance(value, float):
        return str(value)
    short = float(f"{value:.6g}") if math.isfinite(value) else None
    return int(short) if short is not None and short.is_integer() and abs(short) < 1e15 else short


def _json(value: object) -> Markup:
    """JSON that can stand in a script element: no character in it can end the element or start a comment."""
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return Markup(
        text.translate({ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&"})
    )  # json has escaped U+2028, U+2029 and all else beyond ASCII


def _finite(value: object) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else _plain(value)


def _show(value: object, digits: int = 4) -> str:
    """A value for a table or a sentence."""
    value = _finite(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        numeric = value and all(isinstance(inner, int | float | None) for inner in value)
        text = ", ".join(_show(inner, digits) for inner in value)
        return f"[{text}]" if numeric else text
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_show(inner, digits)}" for key, inner in value.items())
    return f"{value:.{digits}g}" if isinstance(value, float) else "n/a" if value is None else str(value)


def _number(value: object, digits: int = 4) -> str:
    """A number in a sentence, with a true minus sign."""
    return _show(value, digits).replace("-", "−")


def _cite(reference: Reference) -> str:
    """How a publication is named in a sentence: "Guo et al. 2017"."""
    first, *others = re.split(r",|;| and | & |\bet al", reference.authors)
    alone = not others or re.fullmatch(r"[^,;&]+ and [^,;&]+", reference.authors)
    return f"{reference.authors if alone else f'{first.strip()} et al.'} {reference.year}"


def _policy(script: str, style: str) -> str:
    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"

    allowed = f"script-src {source(script)}; style-src {source(style)}; img-src data:"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


@cache
def _asset(name: str) -> str:
    return resources.files("softplace").joinpath("web", name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"show": _show, "number": _number}
    return environment.from_string(_asset("report.html.jinja"))

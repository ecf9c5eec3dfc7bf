"""The page of a real study, small, of a table whose names are hostile: what a browser shows, tabulates and saves.

`test_page.py` tests the page of a made-up report with every kind of figure; here the numbers come from training.
"""

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from sklearn.datasets import load_wine
from torch import Tensor

from softplace import Study
from softplace.report.records import Figure
from softplace.study.run import StudyResult
from tests.conftest import SHORTEN, Open, axe

MARKUP = "</script><img src=x onerror=alert(1)>"
LINK = "javascript:alert(document.domain)"
REVERSED = "\u202egnp.exe\u202c"
LONG = "a name that has no end " * 220  # 5 kB
FILE = "<b onmouseover=alert(1)>wine & {{7*7}}.csv"

pytestmark = pytest.mark.pages


def leaky(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.where(scores > 0, scores, 0.1 * scores)


def named(name: str) -> Callable[..., Tensor]:
    def hostile(scores: Tensor, dim: int = -1) -> Tensor:
        return leaky(scores, dim)

    hostile.__name__ = name
    return hostile


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="module")
def result(folder: Path) -> StudyResult:
    """Wine with four seeds and a sixth of the steps: all that a page shows, and nothing that it could decide."""
    features, labels = load_wine(return_X_y=True)
    columns: dict[str, Any] = {f"x{index}": features[:, index] for index in range(3)}
    columns |= {MARKUP: features[:, 3], LINK: 0.0, LONG: 1.0, REVERSED: np.where(features[:, 4] > 95, MARKUP, LINK)}
    columns["class"] = np.array([MARKUP, REVERSED, LONG])[labels]
    pandas.DataFrame(columns).to_csv(folder / FILE, index=False)
    maps = ["relu", *map(named, (MARKUP, REVERSED, LONG))]
    study = Study("hidden", maps=maps, data=folder / FILE, target="class", seeds=4, workers=1)
    [contest] = study.contests
    judged = [task for task in contest.tasks if task.settings()["depth"] == 2]
    short = tuple(replace(task, steps=60, learning_rates=(0.01, 0.1)) for task in judged)
    study.contests = [replace(contest, tasks=short)]
    return study.run()


@pytest.fixture(scope="module")
def page_file(folder: Path, result: StudyResult) -> Path:
    return result.page(folder / "page.html")


@pytest.fixture(scope="module")
def figures(result: StudyResult) -> list[Figure]:
    return [figure for section in result.report.places[0].sections for figure in section.figures]


def test_the_figures_are_those_of_the_issue_and_the_file_is_small(page_file: Path, figures: list[Figure]) -> None:
    assert {figure.kind for figure in figures} == {"interval", "curve", "heatmap"}
    keys = {figure.key for figure in figures}
    assert {"spectra", "correlation", "jacobian", "gains", "functions"} <= keys
    assert any(key.endswith("-rates") for key in keys)
    assert any("-learning-" in key for key in keys)
    assert len(page_file.read_bytes()) < 1_000_000


def test_hostile_names_are_shown_as_text(open_page: Open) -> None:
    page = open_page()
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true })")
    body = page.locator("main").inner_text()
    for name in (MARKUP, LINK, REVERSED, FILE):
        assert name in body
    assert LONG.strip() in re.sub(r"\s+", " ", body)
    assert page.locator("img, iframe, object, embed, form, b").count() == 0
    attributes = "[...document.querySelectorAll('*')].flatMap((one) => one.getAttributeNames())"
    assert not [name for name in page.evaluate(attributes) if name.startswith("on")]
    links = page.evaluate("[...document.querySelectorAll('a')].map((link) => link.getAttribute('href'))")
    assert {link.split(":")[0] for link in links if not link.startswith("#")} == {"https"}
    labels = page.locator(".chart svg text").all_text_contents()
    assert MARKUP in labels
    assert REVERSED in labels


def test_the_policy_stops_what_is_not_the_packages(browser: Any, page_file: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(page_file.as_uri())
    stopped = page.evaluate(
        """() => new Promise((resolve) => {
          const found = [];
          addEventListener("securitypolicyviolation", ({ effectiveDirective }) => {
            if (found.push(effectiveDirective) === 3) resolve(found.sort());
          });
          const add = (tag, values) => document.body.append(Object.assign(document.createElement(tag), values));
          add("script", { textContent: "document.title = 'run'" });
          add("style", { textContent: "body { display: none }" });
          add("img", { src: "https://example.org/x.png" });
        })"""
    )
    assert stopped == ["img-src", "script-src-elem", "style-src-elem"]
    assert page.title() != "run"
    context.close()


@pytest.mark.parametrize("width", [320, 1280])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_window(open_page: Open, width: int) -> None:
    page = open_page(width=width, bypass_csp=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe(page) == []
    for media, scheme in (("screen", "dark"), ("print", "light")) if width == 1280 else ():
        page.emulate_media(media=media, color_scheme=scheme)
        assert axe(page, "color-contrast") == []  # what a colour scheme and a medium change


def test_the_keyboard_opens_and_reaches_everything(open_page: Open) -> None:
    page = open_page(width=320)
    page.evaluate(SHORTEN)
    reach = "a[href], button, summary, [tabindex='0']"
    state = f"""() => {{
      const one = document.activeElement;
      const {{ outlineStyle, outlineWidth }} = getComputedStyle(one);
      const index = [...document.querySelectorAll("{reach}")].indexOf(one);
      return [index, `${{outlineStyle}} ${{outlineWidth}}`, one.tagName];
    }}"""
    wanted = page.locator(reach).count()
    seen: list[int] = []
    while len(seen) < wanted:
        page.keyboard.press("Tab")
        index, outline, tag = page.evaluate(state)
        assert outline == "solid 3px"
        seen.append(index)
        if tag == "SUMMARY":
            page.keyboard.press("Enter")
    assert seen == list(range(wanted))  # in reading order
    assert page.locator("details:not([open])").count() == 0


CHARTS = r"""() => [...document.querySelectorAll(".figure")].map((figure) => {
  const all = (selector) => [...figure.querySelectorAll(`.panel svg ${selector}`)];
  const numbers = (one, ...names) => names.map((name) => Number(one.getAttribute(name)));
  return {
    lines: all("g[fill=none] > path:not([transform])").map((path) => path.getAttribute("d"))
      .map((line) => line.match(/-?[\d.]+/g).map(Number)),
    dots: all("circle").map((dot) => numbers(dot, "cx", "cy")),
    ranges: all("g[stroke-linecap=round] line").map((line) => numbers(line, "x1", "x2")),
    cells: all("rect[fill*='var(--']").map((cell) => cell.getAttribute("fill")),
  };
})"""


def unit(values: Any, log: bool = False) -> Any:
    """Values on the scale from their least (0) to their largest (1): pixels and numbers must then agree."""
    scaled = np.log(np.array(values, float)) if log else np.array(values, float)
    return (scaled - scaled.min()) / (np.ptp(scaled) or 1.0)


def position(colour: str) -> float:
    """Where a cell's colour stands between the three stops of its scale, from 0 to 1."""
    first, percent = re.findall(r"-([12])\) ([\d.]+)%", colour)[0]
    return (int(first) - float(percent) / 100) / 2


def test_the_charts_draw_the_numbers_of_their_tables(open_page: Open, figures: list[Figure]) -> None:
    for figure, chart in zip(figures, open_page(width=1280).evaluate(CHARTS), strict=True):
        x, y = figure.x.column, figure.y.column
        if figure.kind == "interval":
            rows = sorted(figure.rows, key=lambda row: -row[x])
            by_height = sorted(chart["dots"], key=lambda dot: dot[1])
            ends = [row[end] for row in rows for end in ("low", "high")]
            drawn = [edge for pair in sorted(chart["ranges"], key=sum, reverse=True) for edge in pair]
            assert unit([dot for dot, _ in by_height]) == pytest.approx(unit([row[x] for row in rows]), abs=2e-3)
            assert sorted(unit(drawn)) == pytest.approx(sorted(unit(ends)), abs=2e-3)
        elif figure.kind == "curve":
            names = list(dict.fromkeys(row[x] for row in figure.rows))
            across = [names.index(row[x]) if figure.x.scale == "category" else row[x] for row in figure.rows]
            wanted = [
                unit(across, figure.x.scale == "log"),
                unit([row[y] for row in figure.rows], figure.y.scale == "log"),
            ]
            points = np.concatenate([np.reshape(line, (-1, 2)) for line in chart["lines"]])
            found = [unit(points[:, 0]), 1.0 - unit(points[:, 1])]
            assert in_order(found) == pytest.approx(in_order(wanted), abs=2e-3)
        else:
            cells = [
                (row["value"], position(colour))
                for row, colour in zip(figure.rows, chart["cells"], strict=True)
                if row["value"] is not None
            ]
            values, positions = np.array(cells).T
            slope, start = np.polyfit(values, positions, 1)
            assert slope > 0
            assert positions == pytest.approx(start + slope * values, abs=2e-3)


def in_order(columns: list[Any]) -> Any:
    """Points (x, y) by x, then y: series may be painted in any order."""
    x, y = (np.round(column, 3) for column in columns)
    order = np.lexsort((y, x))
    return np.column_stack([x[order], y[order]])


TABLE = """(figure) => [...figure.querySelectorAll("table")].map((table) => [...table.rows].map((row) =>
  [...row.cells].map((cell) => cell.textContent.trim())))"""


def shown(cell: str) -> float | str:
    """A cell of a table or a CSV file: a number, or words without the apostrophe that tells a spreadsheet so."""
    try:
        return float("nan") if cell in ("", "n/a") else float(cell)
    except ValueError:
        return cell.removeprefix("'").strip()


def test_every_sort_of_csv_has_the_numbers_of_its_table(open_page: Open, figures: list[Figure]) -> None:
    page = open_page(accept_downloads=True)
    sorts = {(figure.kind, *figure.rows[0]): (index, figure) for index, figure in enumerate(figures)}
    assert 5 <= len(sorts) <= 10  # Chromium drops what a page saves beyond ten files a second
    for index, figure in sorts.values():
        box = page.locator(".figure").nth(index)
        with page.expect_download() as saved:
            box.get_by_role("button", name="Save CSV").click()
        with Path(saved.value.path()).open(encoding="utf-8", newline="") as file:
            head, *rows = [[shown(cell) for cell in row] for row in csv.reader(file)]
        tables = [[[shown(cell) for cell in row] for row in table] for table in box.evaluate(TABLE)]
        if figure.kind == "heatmap":  # as it is drawn: a matrix for each panel
            value = head.index("value")
            long = [row[value] for row in rows]
            wide = [cell for table in tables for _, *cells in table[1:] for cell in cells]
            assert wide == pytest.approx(long, rel=6e-3, nan_ok=True)
        else:
            [table] = tables
            assert table[0] == head
            for row, cells in zip(rows, table[1:], strict=True):
                texts = [cell for cell in row if isinstance(cell, str)]
                assert [cell for cell in cells if isinstance(cell, str)] == texts
                numbers = [cell for cell in row if not isinstance(cell, str)]
                rest = [cell for cell in cells if not isinstance(cell, str)]
                assert rest == pytest.approx(numbers, rel=1e-3, nan_ok=True)

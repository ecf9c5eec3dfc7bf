"""The page: what it says, what it lets in, and what a real browser makes of it."""

import base64
import csv
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softplace.errors import InputError
from softplace.report.page import render, write_page
from softplace.report.records import Axis, Figure, PlaceReport, Report, Section
from tests.conftest import Open, axe, expect
from tests.report.sample_report import ARMS, HOSTILE, odd, sample

SCHEMES = ("light", "dark")


class Outline(HTMLParser):
    """The start tags of a page with their attributes, and the text of each script, style and heading."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {"script": [], "style": []}
        self._inside: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in self.text:
            self._inside = tag
            self.text[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is not None:
            self.text[self._inside][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def with_figures(*figures: Figure) -> Report:
    section = Section(key="only", title="Only", verdict=None, figures=figures)
    place = PlaceReport(place="p", question="q?", answer="a", sections=(section,), references=(), method=())
    return Report(title="t", places=(place,), pending=(), command="c", provenance={})


def heatmap(rows: list[dict[str, Any]], **changes: Any) -> Figure:
    values = {
        "key": "k",
        "kind": "heatmap",
        "title": "T",
        "caption": "C",
        "x": Axis(column="x", label="X", scale="category"),
        "y": Axis(column="y", label="Y", scale="category"),
        "rows": rows,
    }
    return Figure(**(values | changes))


def data_of(text: str) -> dict[str, Any]:
    script = Outline(text).text["script"]
    return dict(json.loads(script[0]))


def columns_of(figure: dict[str, Any]) -> dict[str, list[Any]]:
    def unpack(column: dict[str, Any]) -> list[Any]:
        return column["values"] if "values" in column else [column["levels"][code] for code in column["codes"]]

    return {column["name"]: unpack(column) for column in figure["columns"]}


@pytest.fixture(scope="module")
def text() -> str:
    return render(sample())


# What the file holds


def test_the_page_is_small_and_equal_reports_give_equal_pages(text: str) -> None:
    assert len(text.encode()) < 1_000_000
    assert render(sample()) == text


def test_the_policy_allows_only_the_script_and_the_style_of_the_package(text: str) -> None:
    outline = Outline(text)
    [policy] = [tag["content"] for tag in outline.named("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))

    def source(inner: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()}'"

    assert rules == {
        "default-src": "'none'",
        "script-src": source(outline.text["script"][1]),
        "style-src": source(outline.text["style"][0]),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert outline.tags.index(("meta", {"charset": "utf-8"})) < [tag for tag, _ in outline.tags].index("style")


def test_hostile_names_make_no_element_and_no_handler(text: str) -> None:
    outline = Outline(text)
    assert len(outline.named("script")) == 2
    assert not outline.named("img")
    assert not [name for _, attributes in outline.tags for name in attributes if name.startswith("on")]
    assert not [tag for tag, attributes in outline.tags if "style" in attributes]
    assert text.count("</script") == 2
    assert "{{7*7}}" in text
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;" in text


def test_nothing_is_loaded(text: str) -> None:
    outline = Outline(text)
    assert not [tag for tag, attributes in outline.tags if attributes.keys() & {"src", "srcset", "action", "data"}]
    assert [tag["href"] for tag in outline.named("link")] == ["data:,"]
    assert not re.search(r"@import|url\(", outline.text["style"][0])
    links = {str(tag["href"]) for tag in outline.named("a")}
    assert {link for link in links if not link.startswith("#")} == {"https://arxiv.org/abs/1502.03167"}


def test_ids_are_unique_links_within_the_page_lead_somewhere_and_headings_skip_no_level(text: str) -> None:
    outline = Outline(text)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(tag["href"])[1:] for tag in outline.named("a") if str(tag["href"]).startswith("#")} <= set(ids)
    assert {tag["aria-labelledby"] for _, tag in outline.tags if "aria-labelledby" in tag} <= set(ids)
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_claim_shows_its_verdict_with_estimate_interval_and_n(text: str) -> None:
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text.split("<script", 1)[0]))
    for section in sample().places[0].sections:
        verdict = section.verdict
        assert verdict is not None
        assert words.count(verdict.sentence) == 2  # on its card and beside its evidence
        assert verdict.verdict.capitalize() in words
        assert verdict.criterion in words
    assert "Estimate −0.43 Interval −0.46 to −0.39 n 12 p 0.00049" in words
    assert "Estimate n/a Interval n/a n 6 " in words
    assert words.index("Why is softmax used") < words.index("Contents") < words.index("Publications to quote")


def test_a_reference_that_was_not_read_prints_no_finding_and_says_so(text: str) -> None:
    assert "THIS FINDING MUST NOT BE PRINTED" not in text
    assert text.count("Not re-read for this study") == 1
    assert "The norm of the Jacobian is at most 1/2." in text
    assert "@misc{unread2016,\n  title = {&lt;/pre&gt;" in text


def test_the_numbers_are_in_the_data_and_in_the_table(text: str) -> None:
    figures = data_of(text)["figures"]
    drawn = [figure for section in sample().places[0].sections for figure in section.figures]
    assert [figure["title"] for figure in figures] == [figure.title for figure in drawn]
    for packed, figure in zip(figures, drawn, strict=True):
        columns = columns_of(packed)
        assert list(columns) == list(figure.rows[0])
        for name, values in columns.items():
            for value, row in zip(values, figure.rows, strict=True):
                expected = row[name]
                if isinstance(expected, float) and not np.isfinite(expected):
                    assert value is None
                elif isinstance(expected, float):
                    assert value == pytest.approx(expected, rel=1e-5)
                else:
                    assert value == expected
    assert text.count("<tr><th scope=row>softmax<td>0<td>") == 1  # the learning curve's first row
    assert text.count("<caption>softmax</caption>") == 1  # the correlation matrix of an arm


def test_numpy_scalars_and_numbers_that_are_not_finite_are_written() -> None:
    rows = [
        {"x": np.int64(1), "y": "a", "value": np.float32(0.25)},
        {"x": np.int64(2), "y": "a", "value": float("inf")},
        {"x": np.int64(3), "y": "a", "value": np.float64("nan")},
        {"x": np.int64(4), "y": "a", "value": None},
    ]
    page = render(with_figures(heatmap(rows)))
    columns = columns_of(data_of(page)["figures"][0])
    assert columns == {"x": [1, 2, 3, 4], "y": ["a"] * 4, "value": [0.25, None, None, None]}
    assert "<tr><th scope=row>a<td>0.25<td>n/a<td>n/a<td>n/a" in page


def test_a_heat_map_with_more_than_its_value_per_cell_has_a_row_per_cell() -> None:
    twice = [{"x": 0, "y": 0, "value": 0.5}, {"x": 0, "y": 0, "value": 0.75}]
    more = [{"x": 0, "y": 0, "value": 0.5, "n": 12}]
    assert "<tr><th scope=row>0<td>0<td>0.5\n<tr><th scope=row>0<td>0<td>0.75" in render(with_figures(heatmap(twice)))
    assert "<tr><th scope=row>0<td>0<td>0.5<td>12" in render(with_figures(heatmap(more)))


def test_a_report_with_nothing_in_it_is_a_page() -> None:
    empty = Report(title="Nothing", places=(), pending=("hidden",), command="c", provenance={})
    assert "Not finished when this page was written" in render(empty)
    assert "Nothing on this page speaks of it." in render(empty)
    assert "<h4" in render(with_figures(heatmap([])))


def test_two_places_with_equal_keys_have_their_own_ids() -> None:
    report = sample()
    page = render(replace(report, places=(report.places[0], replace(report.places[0], place="output"))))
    ids = [attributes["id"] for _, attributes in Outline(page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert page.count("@misc{nair2025") == 1


@settings(max_examples=40, deadline=None)
@given(name=st.text(max_size=30) | st.sampled_from(HOSTILE) | st.just("\ud800\x00\x1b]0;"))
def test_any_name_stays_text(name: str) -> None:
    figure = heatmap([{"x": name, "y": 0, "value": 1.0}], title=name, caption=name, key=name)
    page = render(replace(with_figures(figure), title=name, pending=(name,), provenance={name: name}))
    page.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", page)
    plain = render(with_figures(heatmap([{"x": "a", "y": 0, "value": 1.0}])))
    tags = [tag for tag, _ in Outline(page).tags]
    assert [tag for tag in tags if tag not in {"p", "strong", "dt", "dd"}] == [
        tag for tag, _ in Outline(plain).tags if tag not in {"p", "strong", "dt", "dd"}
    ]
    assert columns_of(data_of(page)["figures"][0])["x"] == [name]


def test_the_built_files_can_stand_inside_a_page() -> None:
    folder = resources.files("softplace").joinpath("web")
    for name in ("report.js", "report.css"):
        inner = folder.joinpath(name).read_bytes().decode()
        assert not re.search(r"</script|</style|<!--|[\x00-\x08\x0b-\x1f\x7f\ufeff\ufffd]", inner, re.IGNORECASE)
    assert "@observablehq/plot 0." in folder.joinpath("THIRD_PARTY_NOTICES.txt").read_text(encoding="utf-8")


def test_writing_a_page_needs_no_torch() -> None:
    code = "import sys, softplace.report.page; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# How the file is written


def test_write_page_makes_its_folder_and_leaves_only_the_page(tmp_path: Path, text: str) -> None:
    path = tmp_path / "new" / "folder" / "page.html"
    write_page(sample(), path)
    assert path.read_bytes() == text.encode()
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
    other = tmp_path / "other"
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_a_folder_that_cannot_be_made_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    path = tmp_path / "file" / "page.html"
    with pytest.raises(InputError, match=re.escape(str(path))):
        write_page(sample(), path)


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "page.html"
    path.write_text("the old page")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(InputError, match="No space left on device"):
        write_page(sample(), path)
    assert path.read_text() == "the old page"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


# What a browser makes of it


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(sample(), path)
    return path


@pytest.mark.pages
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_figure_is_drawn_and_named(open_page: Open, scheme: str) -> None:
    page = open_page(scheme=scheme)
    charts = page.locator(".chart[role=img]")
    figures = [figure for section in sample().places[0].sections for figure in section.figures]
    assert charts.count() == len(figures)
    for index, figure in enumerate(figures):
        chart = charts.nth(index)
        assert chart.get_attribute("aria-label") == f"Chart: {figure.title}. {figure.caption}"
        assert chart.locator("svg").count() > 0
        chart.locator("svg").last.hover(position={"x": 200, "y": 60})  # the tips pass the policy too
    assert page.locator(".chart-note").count() == 0
    assert page.locator("img").count() == 0
    body = page.locator("main").inner_text()
    assert "</script><img src=x onerror=alert(1)>" in body
    assert "{{7*7}}" in body
    assert "NaN" not in body
    assert "undefined" not in body
    names = page.locator("#hidden-accuracy tbody th").all_text_contents()
    assert names == list(ARMS)


@pytest.mark.pages
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing(open_page: Open, scheme: str) -> None:
    page = open_page(scheme=scheme, bypass_csp=True)
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true })")
    assert axe(page) == []


TEXTS = "document.querySelectorAll('.chart svg text').length"
OVERLAPS = """() => [...document.querySelectorAll('.chart svg')].flatMap((svg) => {
  const boxes = [...svg.querySelectorAll('text')]
    .filter((text) => text.textContent && !/rotate/.test(text.getAttribute('transform') ?? ''))
    .map((text) => [text.textContent, text.getBoundingClientRect()]);
  const edge = document.documentElement.clientWidth;
  const found = boxes.filter(([, box]) => box.left < 0 || box.right > edge).map(([text]) => `cut: ${text}`);
  for (const [index, [one, a]] of boxes.entries()) {
    for (const [other, b] of boxes.slice(index + 1)) {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const tall = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && tall > 4) found.push(`${one} | ${other}`);
    }
  }
  return found;
})"""


@pytest.mark.pages
@pytest.mark.parametrize("width", [360, 400, 800, 1400])
def test_nothing_overlaps_and_nothing_is_wider_than_the_window(open_page: Open, width: int) -> None:
    page = open_page(width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(TEXTS) > 150
    assert page.evaluate(OVERLAPS) == []


OUTSIDE = """() => [...document.querySelectorAll('.chart svg')].flatMap((svg) => {
  const frame = svg.getBoundingClientRect();
  const chart = svg.closest('.figure').id;
  return [...svg.querySelectorAll(':not(clipPath) > :is(rect, line, path, text)')]
    .map((mark) => [mark, mark.getBoundingClientRect()])
    .filter(([mark, box]) => box.left < frame.left - 16 || box.right > frame.right + 16
      || box.top < frame.top - 4 || box.bottom > frame.bottom + 4)
    .map(([mark]) => `${chart}: ${mark.outerHTML.slice(0, 120)}`);
})"""


@pytest.mark.pages
@pytest.mark.parametrize("width", [400, 1400])
def test_odd_figures_are_drawn_inside_their_frames_or_say_why_not(open_page: Open, tmp_path: Path, width: int) -> None:
    path = tmp_path / "odd.html"
    write_page(odd(), path)
    page = open_page(width=width, path=path)
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate(OVERLAPS) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    notes = {
        figure.get_attribute("id"): figure.locator(".chart-note").inner_text()
        for figure in page.locator(".figure:has(.chart-note)").all()
    }
    assert notes == {
        "odd-no-number": "No value here can be drawn; the table below says what was measured.",
        "odd-empty": "No numbers yet.",
    }
    assert (
        page.locator(".figure:not(:has(.chart-note)):has(svg.plot)").count() == len(page.locator(".figure").all()) - 2
    )


@pytest.mark.pages
def test_charts_follow_the_width_and_the_colour_scheme(open_page: Open) -> None:
    page = open_page(width=1200)
    chart = page.locator("#hidden-accuracy .chart svg").first
    wide = float(chart.get_attribute("width"))
    page.set_viewport_size({"width": 500, "height": 900})
    expect(chart).to_have_attribute("width", re.compile("^[34][0-9]{2}$"))
    assert wide > 800

    def colours() -> list[str]:
        script = """() => ['body', '.plot [stroke^="var(--series"]', '#hidden-correlation rect', '.plot text']
          .map((name) => getComputedStyle(document.querySelector(name)))
          .map((style) => [style.backgroundColor, style.stroke, style.fill].join())"""
        return list(page.evaluate(script))

    light = colours()
    page.emulate_media(color_scheme="dark")
    assert all(before != after for before, after in zip(light, colours(), strict=True))
    page.emulate_media(color_scheme="dark", media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert colours()[1:] == light[1:]


@pytest.mark.pages
def test_print_opens_every_table(open_page: Open) -> None:
    page = open_page()
    cell = page.locator("#hidden-accuracy tbody th").first
    assert not cell.is_visible()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert cell.is_visible()
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator("button").first.is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    assert len(page.pdf()) > 20_000


@pytest.mark.pages
def test_the_keyboard_reaches_everything(open_page: Open) -> None:
    page = open_page()
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true })")
    reach = "a[href], button, summary, [tabindex='0']"
    wanted = page.locator(reach).count()
    seen = []
    for _ in range(wanted):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("""() => {
              const one = document.activeElement;
              const { outlineStyle, outlineWidth } = getComputedStyle(one);
              const index = [...document.querySelectorAll("a[href], button, summary, [tabindex='0']")].indexOf(one);
              return [index, outlineStyle, outlineWidth];
            }""")
        )
    assert sorted(index for index, *_ in seen) == list(range(wanted))
    assert {tuple(outline) for _, *outline in seen} == {("solid", "3px")}


@pytest.mark.pages
def test_the_skip_link_leads_to_the_verdicts(open_page: Open) -> None:
    page = open_page()
    skip = page.locator(".skip")
    assert skip.bounding_box()["y"] < 0
    page.keyboard.press("Tab")
    assert skip.bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "verdicts"


@pytest.mark.pages
def test_the_numbers_can_be_saved_as_csv(open_page: Open) -> None:
    page = open_page(accept_downloads=True)
    with page.expect_download() as saved:
        page.locator("#hidden-accuracy").get_by_role("button", name="Save CSV").press("Enter")
    assert saved.value.suggested_filename == "hidden-accuracy.csv"
    with Path(saved.value.path()).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    [figure] = [figure for part in sample().places[0].sections for figure in part.figures if figure.key == "accuracy"]
    assert [row["arm"] for row in rows] == list(ARMS)
    assert [float(row["difference"]) for row in rows] == pytest.approx([row["difference"] for row in figure.rows], 1e-5)
    assert page.locator("#status").inner_text() == "hidden-accuracy.csv was saved."


@pytest.mark.pages
def test_bibtex_can_be_saved_and_copied(open_page: Open) -> None:
    page = open_page(accept_downloads=True)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save all 3 as BibTeX").click()
    text = Path(saved.value.path()).read_text(encoding="utf-8")
    assert text == "".join(f"{reference.bibtex}\n\n" for reference in sample().places[0].references)[:-1]
    page.locator("#reference-nair2025 summary").click()
    page.locator("#reference-nair2025").get_by_role("button", name="Copy").click()
    expect(page.locator("#status")).to_have_text(re.compile(r"^(Copied|Selected)\."))


@pytest.mark.pages
def test_the_page_can_be_read_without_scripts(open_page: Open) -> None:
    page = open_page(script=False)
    for section in sample().places[0].sections:
        assert page.get_by_text(section.verdict.sentence).first.is_visible()
    assert page.get_by_text("The chart is drawn by a script, which did not run here.").first.is_visible()
    page.locator("#hidden-accuracy summary").click()
    assert page.locator("#hidden-accuracy tbody th").first.is_visible()

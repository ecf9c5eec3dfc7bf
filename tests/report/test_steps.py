"""The figure to step through a machine: its packing, its table, and what a browser makes of it."""

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softplace.report.page import render, write_page
from softplace.report.records import Axis, Figure, PlaceReport, Report, Section
from softplace.report.steps import LEVELS, MOST_STEPS, pack_panels, step_panels, step_tables
from tests.conftest import Open, axe, expect

STEPS, SLOTS, WIDTH, ARMS = 12, 20, 5, ("softmax", "</script><img src=x onerror=alert(1)>")
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def weights(arm: int) -> Any:
    """A head that goes down a slot a step, sharply or less so: (T, N)."""
    slots, steps = np.arange(SLOTS), np.arange(STEPS)[:, None]
    scores = -(abs(slots - steps - arm) / (0.4 + arm))
    return np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


def memory(arm: int) -> Any:
    """(T, N, M), with numbers of both signs."""
    return np.random.default_rng(arm).normal(size=(STEPS, SLOTS, WIDTH)) * np.linspace(0, 1, STEPS)[:, None, None]


def bits() -> Any:
    """(T, channels); no value in the first half."""
    values = np.random.default_rng(7).integers(0, 2, (STEPS, 3)).astype(float)
    values[: STEPS // 2] = np.nan
    return values


def rows_of(arm: int) -> list[dict[str, Any]]:
    name = {"arm": ARMS[arm]}
    over_time = {"target": (bits(), ["a", "b", "c"]), "write weights": (weights(arm), range(1, SLOTS + 1))}
    rows = [
        {**name, "panel": panel, "row": row, "step": step + 1, "value": values[step, index]}
        for panel, (values, names) in over_time.items()
        for index, row in enumerate(names)
        for step in range(STEPS)
    ]
    return rows + [
        {**name, "panel": "memory", "row": slot + 1, "step": step + 1, "value": memory(arm)[step, slot].tolist()}
        for slot in range(SLOTS)
        for step in range(STEPS)
    ]


def steps(rows: list[dict[str, Any]], **changes: Any) -> Figure:
    values = {
        "key": "heads",
        "kind": "steps",
        "title": "Heads",
        "caption": "The head goes down.",
        "x": Axis(column="step", label="Step"),
        "y": Axis(column="row", label="slot"),
        "rows": rows,
        "series": "arm",
        "facet": "panel",
        "highlight": ("write weights",),
    }
    return Figure(**(values | changes))


def two_arms() -> Figure:
    return steps([*rows_of(0), *rows_of(1)])


def report(*figures: Figure, about: Any = "training") -> Report:
    section = Section(key="machine", title="Machine", verdict=None, figures=figures)
    place = PlaceReport(
        place="memory", question="q?", answer="a", sections=(section,), references=(), method=(), facts={"Fact": 1}
    )
    return Report(title="t", places=(place,), pending=(), command="c", provenance={}, about=about)


def unpacked(panel: dict[str, Any]) -> list[float]:
    pairs = zip(panel["codes"][::2], panel["codes"][1::2], strict=True)
    codes = [DIGITS.index(high) * 64 + DIGITS.index(low) for high, low in pairs]
    size = panel["high"] - panel["low"]
    return [panel["low"] + code / (LEVELS - 1) * size if code < LEVELS else math.nan for code in codes]


# How it is packed and tabled


NUMBERS = st.floats(-1e6, 1e6).filter(lambda value: value == 0.0 or abs(value) > 1e-290)  # nearer to 0 they count as 0


@settings(max_examples=100, deadline=None)
@given(values=st.lists(NUMBERS | st.sampled_from([math.nan, math.inf, None, 0.0, 1.0]), min_size=1))
def test_a_packed_number_is_off_by_half_a_level_at_most(values: list[float | None]) -> None:
    rows = [{"panel": "p", "row": 0, "step": step, "value": value} for step, value in enumerate(values)]
    [panel] = pack_panels(step_panels(steps(rows, series=None)))
    known = [value for value in values if value is not None and math.isfinite(value)]
    half = 0.5 * (panel["high"] - panel["low"]) / (LEVELS - 1)
    for value, found in zip(values, unpacked(panel), strict=True):
        if value is None or not math.isfinite(value):
            assert math.isnan(found)
        else:
            assert abs(found - value) <= half * (1 + 1e-6) + 1e-5 * max(map(abs, known))
    assert panel["missing"] == (len(known) < len(values))


def test_zero_and_one_are_exact_and_a_constant_is() -> None:
    rows = [{"panel": "p", "row": 0, "step": step, "value": value} for step, value in enumerate((0.0, 1.0, 0.5))]
    [panel] = pack_panels(step_panels(steps(rows, series=None)))
    assert unpacked(panel) == [0.0, 1.0, 0.5]
    flat = [{"panel": "p", "row": 0, "step": step, "value": 0.3} for step in range(3)]
    [panel] = pack_panels(step_panels(steps(flat, series=None)))
    assert unpacked(panel) == [0.3] * 3


def test_the_data_of_the_page_are_the_numbers_of_the_rows() -> None:
    page = render(report(two_arms()))
    [data] = re.findall(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)
    [figure] = json.loads(data)["figures"]
    assert [(panel["series"], panel["name"]) for panel in figure["panels"]] == [
        (arm, panel) for arm in ARMS for panel in ("target", "write weights", "memory")
    ]
    for index in range(2):
        target, head, state = figure["panels"][3 * index : 3 * index + 3]
        assert unpacked(target) == pytest.approx(bits().T.ravel().tolist(), nan_ok=True)
        assert unpacked(head) == pytest.approx(weights(index).T.ravel().tolist(), abs=2e-4)
        wanted = memory(index).transpose(1, 0, 2).ravel().tolist()
        assert unpacked(state) == pytest.approx(wanted, abs=np.ptp(memory(index)) / 8000)
        assert (target["rows"], head["rows"][-1], state["width"]) == (["a", "b", "c"], SLOTS, WIDTH)


def test_the_table_has_a_row_per_step_and_names_the_largest() -> None:
    figure = two_arms()
    tables = step_tables(figure, step_panels(figure))
    assert [caption for *_, caption in tables] == list(ARMS)
    head, rows, _ = tables[0]
    assert head == ["Step", "target", "write weights"]  # no matrix
    assert len(rows) == STEPS
    assert rows[0][:2] == [1, "n/a"]
    assert rows[-1] == [STEPS, " ".join(f"{bit:.0f}" for bit in bits()[-1]), f"12: {weights(0)[-1].max():.2g}"]


def test_long_sequences_and_wide_panels_make_no_long_table() -> None:
    rows = [
        {"panel": "p", "row": row, "step": step, "value": float(row == step % 30)}
        for row in range(30)
        for step in range(MOST_STEPS + 50)
    ]
    page = render(report(steps(rows, series=None, highlight=())))
    assert page.count("<tr><th scope=row>") == MOST_STEPS
    assert f"the first {MOST_STEPS} of {MOST_STEPS + 50} steps" in page
    assert "<tr><th scope=row>31<td class=t>1: 1" in page


def test_the_figure_of_a_machine_as_large_as_the_papers_is_small() -> None:
    time, slots, width = 42, 40, 20
    numbers = np.random.default_rng(0)
    rows: list[dict[str, Any]] = [
        {"panel": panel, "row": row, "step": step, "value": numbers.random()}
        for panel in ("write weights", "read weights")
        for row in range(slots)
        for step in range(time)
    ]
    rows += [
        {"panel": "memory", "row": row, "step": step, "value": numbers.normal(size=width).tolist()}
        for row in range(slots)
        for step in range(time)
    ]
    empty = len(render(report(steps([], series=None))).encode())
    assert len(render(report(steps(rows, series=None))).encode()) - empty < 150_000


def test_a_page_of_a_training_speaks_of_no_study_and_no_verdict() -> None:
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", render(report()).split("<script", 1)[0].split("<body>")[1]))
    assert "A softplace training" in words
    assert "How it was trained" in words
    assert "This command runs the training" in words
    assert words.count("Fact 1") == 1
    assert words.index("Fact 1") < words.index("Contents")
    assert not re.search("study|verdict|evidence", words, re.IGNORECASE)
    assert '<ul class="cards">' not in render(report())
    assert "A softplace study" in render(report(about="study"))


# What a browser makes of it


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("steps") / "page.html"
    one = steps(rows_of(0), key="alone", title="Alone", series=None)
    short = [{"panel": panel, "row": 1, "step": 1, "value": -0.5} for panel in ("write weights", "other")]
    short += [{"panel": "matrix", "row": 1, "step": 1, "value": [None, 2.0]}]
    figures = (
        two_arms(),
        one,
        steps([], key="empty", title="Empty"),
        steps(short, key="short", title="Short", series=None),
    )
    write_page(report(*figures), path)
    return path


BOX = "#memory-heads"
SHADES = """(panel) => [...panel.querySelectorAll(":scope > svg.plot > g[shape-rendering]")].map((group) => {
  const found = [];
  for (const path of group.querySelectorAll("path")) {
    for (const run of path.getAttribute("d").matchAll(/M(\\d+) (\\d+)h(\\d+)v1h-\\d+z/g)) {
      const [column, row, count] = run.slice(1).map(Number);
      for (let at = column; at < column + count; at += 1) found.push([row, at, Number(path.dataset.shade)]);
    }
  }
  return found;
})"""


def shades(page: Any, panel: str, box: str = BOX) -> list[Any]:
    """The grids of a panel, each (rows, columns), of shades from 0 to 63; -1 is no value."""
    grids = []
    title = page.locator(".panel-title", has_text=panel)
    for cells in page.locator(f"{box} .steps-panel").filter(has=title).evaluate(SHADES):
        grid = np.full(np.array(cells)[:, :2].max(0) + 1, -2)
        for row, column, shade in cells:
            grid[row, column] = shade
        grids.append(grid)
    return grids


@pytest.mark.pages
def test_the_panels_draw_the_numbers_of_every_step_and_arm(open_page: Open) -> None:
    page = open_page()
    largest = max(np.abs(memory(arm)).max() for arm in range(2))
    for arm in range(2):
        page.locator(f"{BOX} select").select_option(str(arm))
        expect(page.locator(f"{BOX} select option:checked")).to_have_text(ARMS[arm])
        for step in range(STEPS):
            page.locator(f"{BOX} input").fill(str(step))
            expect(page.locator(f"{BOX} .steps")).to_have_attribute("data-step", str(step))
            state, beside = shades(page, "memory")
            assert state == pytest.approx(63 * (memory(arm)[step] / largest + 1) / 2, abs=0.6)
            assert beside[:, 0] == pytest.approx(63 * weights(arm)[step], abs=0.6)
            best = int(weights(arm)[step].argmax()) + 1
            said = page.locator(f"{BOX} .steps-now").inner_text()
            assert said.startswith(f"Step {step + 1} of {STEPS}. Largest: write weights, slot {best} (0.")
            assert f"memory at step {step + 1}" in page.locator(f"{BOX} .steps-board").inner_text()
        [head] = shades(page, "write weights")
        assert head == pytest.approx(63 * weights(arm).T, abs=0.6)
        [target] = shades(page, "target")
        assert (target == np.nan_to_num(63 * bits().T, nan=-1)).all()


@pytest.mark.pages
def test_the_buttons_and_the_keys_lead_to_every_step(open_page: Open) -> None:
    page = open_page()
    box = page.locator(BOX)

    def at(step: int) -> None:
        expect(box.locator(".steps")).to_have_attribute("data-step", str(step))
        assert box.locator("input").input_value() == str(step)
        expect(box.locator("input")).to_have_attribute("aria-valuetext", f"Step {step + 1} of {STEPS}")

    def press(name: str) -> None:
        box.get_by_role("button", name=name, exact=True).click(force=True)  # Playwright does not click at aria-disabled

    at(0)
    assert box.get_by_role("button", name="Previous").get_attribute("aria-disabled") == "true"
    press("Previous")
    at(0)
    press("Next")
    at(1)
    press("Last")
    at(STEPS - 1)
    press("Previous")
    at(STEPS - 2)
    page.keyboard.press("ArrowRight")  # the focus is on a button
    at(STEPS - 1)
    page.keyboard.press("ArrowRight")
    at(STEPS - 1)
    page.keyboard.press("Home")
    at(0)
    box.locator("input").focus()
    page.keyboard.press("ArrowRight")
    at(1)  # once, not twice
    page.keyboard.press("End")
    at(STEPS - 1)
    box.locator("select").focus()
    page.keyboard.press("ArrowDown")
    at(STEPS - 1)  # another arm, the same step
    assert box.locator("select").input_value() == "1"
    assert page.locator("#memory-alone .steps").get_attribute("data-step") == "0"  # a figure moves alone
    assert page.locator("#memory-alone select").count() == 0


@pytest.mark.pages
@pytest.mark.parametrize(("motion", "pace"), [("no-preference", 500), ("reduce", 1500)])
def test_play_goes_to_the_end_and_stops_at_a_press(open_page: Open, motion: str, pace: int) -> None:
    page = open_page()
    page.emulate_media(reduced_motion=motion)
    page.clock.install()
    box = page.locator(BOX)
    steps_at, live = box.locator(".steps"), box.locator(".steps-now")
    page.clock.pause_at(page.evaluate("Date.now() + 1000"))
    assert steps_at.get_attribute("data-step") == "0"  # nothing moves by itself
    box.get_by_role("button", name="Play").click()
    assert live.get_attribute("aria-live") == "off"
    page.clock.run_for(2 * pace + 10)
    assert steps_at.get_attribute("data-step") == "2"
    box.get_by_role("button", name="Pause").click()
    assert live.get_attribute("aria-live") == "polite"
    page.clock.run_for(4 * pace)
    assert steps_at.get_attribute("data-step") == "2"
    box.get_by_role("button", name="Play").click()
    page.clock.run_for(STEPS * pace)
    assert steps_at.get_attribute("data-step") == str(STEPS - 1)
    assert box.get_by_role("button", name="Play").count() == 1  # it has stopped
    box.get_by_role("button", name="Play").click()
    assert steps_at.get_attribute("data-step") == "0"  # and starts over


@pytest.mark.pages
def test_the_pointer_says_a_cell_and_chooses_a_step(open_page: Open) -> None:
    page = open_page()
    panel = page.locator(f"{BOX} .steps-panel").filter(has_text="write weights").first.locator("svg.plot").last
    where = """(svg, [row, column]) => {
      const [x, y, wide, tall] = svg.querySelector("g[shape-rendering]").getAttribute("transform").match(/[\\d.]+/g);
      return {x: Number(x) + (column + 0.5) * wide, y: Number(y) + (row + 0.5) * tall};
    }"""
    panel.click(position=panel.evaluate(where, [3, 4]))
    expect(page.locator(f"{BOX} .steps")).to_have_attribute("data-step", "4")
    text = page.locator(f"{BOX} .steps-under").inner_text()
    place, value = text.split(": ")
    assert place == "write weights, Step 5, slot 4"
    assert float(value) == pytest.approx(weights(0)[4, 3], abs=6e-4)


@pytest.mark.pages
@pytest.mark.parametrize("width", [320, 1400])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_window(open_page: Open, width: int) -> None:
    page = open_page(width=width, bypass_csp=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Next").first.click()
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe(page) == []
    for media, scheme in (("screen", "dark"), ("print", "light")):
        page.emulate_media(media=media, color_scheme=scheme)
        assert axe(page, "color-contrast") == []


@pytest.mark.pages
def test_the_step_and_the_focus_stay_when_the_width_changes(open_page: Open) -> None:
    page = open_page(width=1200)
    box = page.locator(BOX)
    box.get_by_role("button", name="Next").click()
    chart = box.locator(".steps-panel").first.locator("svg").last
    before = chart.get_attribute("width")
    page.set_viewport_size({"width": 320, "height": 900})
    expect(chart).not_to_have_attribute("width", str(before))
    assert box.locator(".steps").get_attribute("data-step") == "1"
    assert page.evaluate("document.activeElement.textContent") == "Next"
    page.keyboard.press("ArrowRight")
    expect(box.locator(".steps")).to_have_attribute("data-step", "2")


@pytest.mark.pages
def test_print_has_the_panels_and_no_controls(open_page: Open) -> None:
    page = open_page()
    page.emulate_media(media="print")
    assert not page.locator(f"{BOX} .steps-controls").is_visible()
    assert page.locator(f"{BOX} .steps-now").is_visible()
    assert page.locator(f"{BOX} .steps-panel svg").last.is_visible()


@pytest.mark.pages
def test_every_number_is_in_the_csv_file(open_page: Open) -> None:
    page = open_page(accept_downloads=True)
    with page.expect_download() as saved:
        page.locator(BOX).get_by_role("button", name="Save CSV").click()
    with Path(saved.value.path()).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["arm", "panel", "row", "step", "column", "value"]
    assert len(rows) == 2 * STEPS * (3 + SLOTS + SLOTS * WIDTH)
    for row in rows:
        arm, step = ARMS.index(row["arm"]), int(row["step"]) - 1
        if row["panel"] == "target":
            wanted = bits()[step, "abc".index(row["row"])]
            assert row["column"] == ""
            assert (row["value"] == "") if np.isnan(wanted) else (float(row["value"]) == wanted)
        elif row["panel"] == "memory":
            wanted = memory(arm)[step, int(row["row"]) - 1, int(row["column"]) - 1]
            assert float(row["value"]) == pytest.approx(wanted, abs=2e-3)
        else:
            assert float(row["value"]) == pytest.approx(weights(arm)[step, int(row["row"]) - 1], abs=2e-4)


@pytest.mark.pages
def test_without_a_script_there_is_the_table(open_page: Open) -> None:
    page = open_page(script=False)
    page.locator(f"{BOX} summary").click()
    assert page.locator(f"{BOX} table").count() == 2
    assert page.locator(f"{BOX} tbody tr").count() == 2 * STEPS
    assert page.get_by_text("A row per step; of write weights").first.is_visible()
    assert page.locator("#memory-empty .chart-note").inner_text().startswith("The chart is drawn by a script")


@pytest.mark.pages
def test_one_step_of_constants_is_drawn(open_page: Open) -> None:
    page = open_page()
    box = page.locator("#memory-short")
    for name in ("Next", "Last", "Previous", "First"):
        box.get_by_role("button", name=name).click(force=True)
        assert box.locator(".steps-now").inner_text() == "Step 1 of 1. Largest: write weights, slot 1 (−0.5)."
    assert [grid.tolist() for grid in shades(page, "matrix", "#memory-short")] == [[[-1, 32]], [[32]]]


@pytest.mark.pages
def test_no_numbers_are_said(open_page: Open) -> None:
    assert open_page().locator("#memory-empty .chart-note").inner_text() == "No numbers yet."

"""The page of a multinomial logit: its figures hold the numbers, in a browser without network too."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softplace.output.logit import LogitResult, fit
from softplace.output.logit.page import MOST_COLUMNS, logit_report, write_logit_page
from softplace.report.records import Figure
from tests.conftest import Open, axe
from tests.output.logit.data import fitted
from tests.output.logit.test_effects import table


@pytest.fixture(scope="module")
def result() -> LogitResult:
    return fit("y ~ x + z + C(region)", table(), reference="b")


@pytest.fixture(scope="module")
def page_file(result: LogitResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logit") / "page.html"
    write_logit_page(path, result, tests=result.test("x = 0"))
    return path


def figures(result: LogitResult, **given: Any) -> dict[str, Figure]:
    report = logit_report(result, **given)
    return {figure.key: figure for section in report.places[0].sections for figure in section.figures}


def test_odds_ratios_of_one_standard_deviation(result: LogitResult) -> None:
    rows = figures(result)["odds-ratios"].rows
    assert len(rows) == 8  # without intercepts
    by_name = {(row["class"], row["column"]): row for row in rows}
    at = result.estimates.names.index(("a", "x"))
    value, spread = result.estimates.values[at], float(np.std(table().x))
    assert by_name["a", "x"]["odds ratio"] == pytest.approx(np.exp(spread * value))
    assert by_name["a", "x"]["coefficient"] == pytest.approx(value)
    dummy = result.estimates.values[result.estimates.names.index(("c", "z"))]
    assert by_name["c", "z"]["odds ratio"] == pytest.approx(np.exp(dummy))
    for row in rows:
        assert row["low"] < row["odds ratio"] < row["high"]  # type: ignore[operator]


def test_counts_are_repeated_rows_and_intervals_have_the_level_that_is_asked_for() -> None:
    data = table()
    counts = np.random.default_rng(0).integers(1, 4, len(data))
    weighted = logit_report(fit("y ~ x + z", data.assign(n=counts), weights="n"), level=0.8)
    repeated = fit("y ~ x + z", data.loc[np.repeat(data.index, counts)].reset_index(drop=True))
    assert sum("of 80 %" in line for line in weighted.places[0].method) == 1
    drawn = {each.key: each for section in weighted.places[0].sections for each in section.figures}
    ends = np.exp(np.std(np.repeat(data.x, counts)) * repeated.conf_int(0.8)[:, 1])
    found = [[row["low"], row["high"]] for row in drawn["odds-ratios"].rows if row["column"] == "x"]
    np.testing.assert_allclose(found, ends, rtol=1e-6)
    effects = repeated.marginal_effects().conf_int(0.8)[0] * np.std(np.repeat(data.x, counts))
    found = [[row["low"], row["high"]] for row in drawn["marginal-effects"].rows[:3]]
    np.testing.assert_allclose(found, effects, rtol=1e-4, atol=1e-7)
    assert "80 %" in drawn["profile-x"].caption
    found = [[row["low"], row["high"]] for row in drawn["profile-x"].rows]
    np.testing.assert_allclose(found, repeated.profile("x").conf_int(0.8).reshape(-1, 2), atol=1e-6)


def test_effects_and_profiles_are_those_of_the_result(result: LogitResult) -> None:
    drawn = figures(result, at="means")
    effects = result.marginal_effects("means")
    found = [row["effect of one unit"] for row in drawn["marginal-effects"].rows]
    assert found == pytest.approx(effects.values.ravel().tolist())
    assert "at the means" in drawn["marginal-effects"].caption
    assert (drawn["profile-x"].kind, drawn["profile-region"].kind, drawn["profile-z"].kind) == (
        "curve", "interval", "interval",
    )  # fmt: skip
    assert len(drawn["profile-x"].rows) == 75
    counts = sum(row["value"] for row in drawn["confusion"].rows)  # type: ignore[misc]
    assert counts == 300


def test_tests_are_said(result: LogitResult) -> None:
    sections = {section.key: section for section in logit_report(result, tests=result.test("x = 0")).places[0].sections}
    lines = sections["tests"].text
    assert len(lines) == 3 + 3
    assert lines[0].startswith("x: Wald, chi2(2) = ")
    assert lines[-1].startswith("x = 0: score, chi2(2) = ")


def test_many_columns_are_cut_and_said() -> None:
    wide = figures(fitted(rows=2000, width=45))["odds-ratios"]
    assert len({row["column"] for row in wide.rows}) == MOST_COLUMNS
    assert "the 40 of 45 columns" in wide.caption


def test_an_intercept_alone_has_a_page(tmp_path: Path) -> None:
    fit("y ~ 1", table()).page(tmp_path / "page.html")
    assert "depend on nothing" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.pages
def test_the_page_in_a_browser(open_page: Open) -> None:
    page = open_page(bypass_csp=True)
    assert page.locator("figure.figure").count() == 6
    assert page.locator("figure.figure svg").count() >= 6
    assert "Multinomial logit of y" in page.title()
    assert axe(page) == []

"""The page of a conditional logit: its figures hold the numbers, in a browser without network too."""

from pathlib import Path

import numpy as np
import pytest

from softplace.output.logit.conditional_page import conditional_report, write_conditional_page
from softplace.output.logit.conditional_result import ConditionalResult
from softplace.report.records import Figure
from tests.conftest import Open, axe
from tests.output.logit.data import travel_modes
from tests.output.logit.test_conditional import greene


@pytest.fixture(scope="module")
def result() -> ConditionalResult:
    return greene(travel_modes(), "choice ~ gc + ttme | hinc | invt")


@pytest.fixture(scope="module")
def page_file(result: ConditionalResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logit") / "page.html"
    write_conditional_page(path, result, tests=result.test("gc = 0"))
    return path


@pytest.fixture(scope="module")
def figures(result: ConditionalResult) -> dict[str, Figure]:
    (place,) = conditional_report(result).places
    return {figure.key: figure for section in place.sections for figure in section.figures}


def test_odds_ratios_are_of_one_standard_deviation_of_the_rows_concerned(
    result: ConditionalResult, figures: dict[str, Figure]
) -> None:
    data = travel_modes()
    found = {(row["alternative"], row["column"]): row["odds ratio"] for row in figures["odds-ratios"].rows}
    assert len(found) == 2 + 3 + 4  # without constants
    coefficients = dict(zip(result.data.names, result.coefficients, strict=True))
    expected = np.exp(coefficients["", "gc"] * np.std(data.gc))
    assert found["every alternative", "gc"] == pytest.approx(expected)
    bus = data[data["mode"] == "bus"]
    assert found["bus", "hinc"] == pytest.approx(np.exp(coefficients["bus", "hinc"] * np.std(bus.hinc)))
    assert found["bus", "invt"] == pytest.approx(np.exp(coefficients["bus", "invt"] * np.std(bus.invt)))


def test_elasticities_are_those_of_the_result(result: ConditionalResult, figures: dict[str, Figure]) -> None:
    drawn = {each.title: each for key, each in figures.items() if key.startswith("response")}
    assert set(drawn) == {"Elasticities of gc", "Elasticities of ttme"}
    found = {(row["of"], row["alternative"]): row["value"] for row in drawn["Elasticities of gc"].rows}
    assert found == {(of, name): value for of, name, value, _ in result.elasticities("gc").rows}


def test_what_may_be_negative_has_effects() -> None:
    centred = travel_modes().assign(gc=lambda frame: frame.gc - frame.gc.mean())
    result = greene(centred, "choice ~ gc")
    (place,) = conditional_report(result).places
    (figure,) = next(each.figures for each in place.sections if each.key == "responses")
    assert figure.title == "Effects of gc"
    assert [row["value"] for row in figure.rows] == [row[2] for row in result.effects("gc").rows]


def test_mean_probabilities_by_choice(result: ConditionalResult, figures: dict[str, Figure]) -> None:
    """With constants, the probabilities of an alternative sum to the choosers who chose it."""
    rows = figures["shares"].rows
    value = {(row["chose"], row["alternative"]): float(row["value"]) for row in rows}  # type: ignore[arg-type]
    count = {str(row["chose"]): float(row["choosers"]) for row in rows}  # type: ignore[arg-type]
    assert count == {"air": 58, "bus": 30, "car": 59, "train": 63}
    for one in count:
        assert sum(value[one, other] for other in count) == pytest.approx(1.0)
        assert sum(count[other] * value[other, one] for other in count) == pytest.approx(count[one], rel=1e-6)
    p = result.predict()["probability"].to_numpy()
    data = travel_modes()
    chose_bus = data.groupby("individual")["choice"].transform(lambda each: each.to_numpy()[2])
    mean = p[((data["mode"] == "bus") & (chose_bus == 1)).to_numpy()].mean()
    assert value["bus", "bus"] == pytest.approx(mean)


def test_constants_alone_have_a_page(tmp_path: Path) -> None:
    greene(travel_modes(), "choice ~ 1").page(tmp_path / "page.html")
    assert "depend on nothing" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.pages
def test_the_page_in_a_browser(open_page: Open) -> None:
    page = open_page(bypass_csp=True)
    assert page.locator("figure.figure").count() == 4
    assert page.locator("figure.figure svg").count() >= 4
    assert "Conditional logit of mode" in page.title()
    assert axe(page) == []

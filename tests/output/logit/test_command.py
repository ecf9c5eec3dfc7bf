"""`softplace logit`: what it prints in each form, the page, and how it refuses."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from softplace.output.logit import Table, fit
from softplace.output.logit.tables import as_json
from tests.command import Command
from tests.output.logit.data import fitted, travel_modes
from tests.output.logit.test_conditional import greene
from tests.output.logit.test_effects import table

FORMULA = "y ~ x + C(region)"


@pytest.fixture
def data(tmp_path: Path) -> str:
    table().to_csv(tmp_path / "table.csv", index=False)
    return "table.csv"


def test_the_summary_holds_the_numbers(command: Command, data: str) -> None:
    done = command("logit", data, FORMULA, "--reference", "b", "--effects", "means", "--test", "x = 0", "--iia")
    assert (done.code, done.err) == (0, "")
    result = fit(FORMULA, table(), reference="b")
    line = next(line for line in done.out.splitlines() if re.match(r"c\s+x ", line))
    at = result.estimates.names.index(("c", "x"))
    numbers = [result.coefficients.ravel()[at], result.standard_errors.ravel()[at], result.estimates.z[at]]
    assert line.split()[2:5] == [f"{number:.4g}" for number in numbers]
    for part in (
        "Odds ratios against b",
        "Tests that a term has no effect",
        "Marginal effects on probabilities, at the",
    ):
        assert part in done.out
    assert "Hausman-McFadden" in done.out
    assert "score" in done.out


def test_json_is_read_back(command: Command, data: str) -> None:
    done = command(
        "logit", data, FORMULA, "--format", "json", "--effects", "average", "--test", "x = 0", "--level", "0.9"
    )
    found = json.loads(done.out)
    result = fit(FORMULA, table())
    assert [row["coefficient"] for row in found["coefficients"]] == pytest.approx(result.estimates.values.tolist())
    assert found["coefficients"][1]["low"] == pytest.approx(result.estimates.conf_int(0.9)[1, 0])
    assert found["log-likelihood"] == pytest.approx(result.loglikelihood)
    assert found["pseudo-R2"]["Nagelkerke"] == pytest.approx(result.fit_measures.pseudo_r2["Nagelkerke"])
    np.testing.assert_allclose(found["covariance"], result.covariance)
    assert [row["test"] for row in found["tests"]] == ["Wald", "likelihood ratio", "score"]
    assert len(found["effects"]) == 9
    assert json.loads(result.to_json())["classes"] == "a, b, c"


def test_latex_and_html(command: Command, data: str) -> None:
    latex = command("logit", data, FORMULA, "--format", "latex").out
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 4
    assert r"C(region)[T.south]" in latex
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in rows[1:7]} == {7}
    html = command("logit", data, FORMULA, "--format", "html").out
    assert html.count("<table>") == html.count("</table>") == 4


def test_names_are_escaped_in_each_form() -> None:
    hostile = Table(title="a & b_c", columns=("x<y", "p"), rows=(("100% $x^2$ ~ {#} \\ <img>", 2e-7), ("n", 0.5)))
    assert r"100\% \$x\textasciicircum{}2\$ \textasciitilde{} \{\#\} \textbackslash{} \textless{}img\textgreater{}" in (
        hostile.latex()
    )
    assert r"a \& b\_c" in hostile.latex()
    assert "$<$0.0001" in hostile.latex()
    assert "&lt;img&gt;" in hostile.html()
    assert "<img" not in hostile.html()
    broken = Table(title="t", columns=("name", "n"), rows=(("two\nlines", 1),))
    assert broken.text().splitlines()[-1] == "two lines  1"


def test_values_that_are_no_numbers_are_null_in_json() -> None:
    assert json.loads(as_json({"a": float("nan"), "b": np.array([1.0, np.inf]), "c": None})) == {
        "a": None, "b": [1.0, None], "c": None,
    }  # fmt: skip


def test_a_page_is_written_and_can_be_made_again(command: Command, data: str, tmp_path: Path) -> None:
    done = command(
        "logit", data, FORMULA, "--reference", "c", "--errors", "robust", "--test", "x = 0", "--out", "pages"
    )
    path = tmp_path / "pages" / "logit.html"
    assert f"Page: {path}" in done.out
    page = path.read_text(encoding="utf-8")
    for part in ("A softplace model", "Odds ratios against c", "Predicted probabilities over region", "fits the model"):
        assert part in page
    assert (
        "softplace logit table.csv &#39;y ~ x + C(region)&#39; --reference c --errors robust --test &#39;x = 0&#39;"
        in page
    )
    named = command("logit", data, FORMULA, "--out", "one.html", "--format", "json", "--level", "0.9")
    assert "Intervals are of 90 %" in (again := (tmp_path / "one.html").read_text(encoding="utf-8"))
    assert "--level 0.9 --out one.html" in again
    assert (tmp_path / "one.html").is_file()
    json.loads(named.out)


def test_a_conditional_logit(command: Command, tmp_path: Path) -> None:
    travel = travel_modes()
    travel.to_csv(tmp_path / "travel.csv", index=False)
    options = ("--chooser", "individual", "--alternative", "mode", "--reference", "car", "--iia", "--test", "gc = 0")
    done = command("logit", "travel.csv", "choice ~ gc + ttme + hinc_air", *options)
    assert (done.code, done.err) == (0, "")
    assert "-199.128" in done.out
    assert re.search(r"odds do not depend on air\s+Hausman-McFadden\s+33\.34\s+4\s+<0\.0001", done.out)
    found = json.loads(
        command("logit", "travel.csv", "choice ~ gc + ttme + hinc_air", *options, "--format", "json").out
    )
    expected = greene(travel).coefficients.tolist()
    assert [row["coefficient"] for row in found["coefficients"]] == pytest.approx(expected)
    latex = command("logit", "travel.csv", "choice ~ gc + ttme + hinc_air", *options, "--format", "latex").out
    assert latex.count(r"\begin{tabular}") == 4
    refused = command.refused("logit", "travel.csv", "choice ~ gc", *options[:4], "--effects", "means")
    assert "'effects' are of a multinomial logit" in refused
    done = command("logit", "travel.csv", "choice ~ gc + ttme + hinc_air", *options, "--out", "pages")
    path = tmp_path / "pages" / "logit.html"
    assert f"Page: {path}" in done.out
    page = path.read_text(encoding="utf-8")
    assert "Conditional logit of mode" in page
    assert "--chooser individual --alternative mode --reference car --test &#39;gc = 0&#39; --iia --out pages" in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.csv", FORMULA], "expected a file. Got none"),
        (["table.csv", "y ~ x + regin"], "no column 'regin' in the data. Did you mean 'region'"),
        (["table.csv", "y ~ (x"], "formula 'y ~ (x'"),
        (["table.csv", FORMULA, "--reference", "d"], "Unknown reference class 'd'"),
        (["table.csv", FORMULA, "--errors", "bootstrap"], "'errors' must name 2 to 1,000,000 resamples"),
        (["table.csv", FORMULA, "--weights", "w"], "no column 'w'"),
        (["table.csv", FORMULA, "--weights-are", "wrong"], "Unknown 'weights_are' 'wrong'"),
        (["table.csv", FORMULA, "--effects", "mean"], "Unknown 'effects' 'mean'. Did you mean 'means'"),
        (["table.csv", FORMULA, "--test", "z = 0"], "no column 'z'"),
        (["table.csv", FORMULA, "--test", "y ~ z"], "expected a model within"),
        (["table.csv", FORMULA, "--level", "95"], "'level' must be a number between 0 and 1. Got 95.0"),
        (["table.csv", FORMULA, "--format", "xml"], "Unknown 'format' 'xml'"),
        (["table.csv", FORMULA, "--out", ""], "'out' must be the path of a page or of a folder"),
        (["table.csv", FORMULA, "--out", "table.csv/page.html"], "Cannot write"),
        (["table.csv", FORMULA, "--chooser", "x"], "needs both a chooser and an alternative column"),
        (["table.csv"], "Missing argument"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(arguments: list[str], said: str, command: Command, data: str) -> None:
    assert said in command.refused("logit", *arguments)


def test_separation_and_collinear_columns_are_refused(command: Command, tmp_path: Path) -> None:
    table().assign(twin=lambda frame: 3 * frame.x, told=lambda frame: (frame.y == "a") * 1).to_csv(tmp_path / "t.csv")
    assert "'twin' is made of 'x'" in command.refused("logit", "t.csv", "y ~ x + twin")
    assert "separation" in command.refused("logit", "t.csv", "y ~ x + told", "--out", "p.html")
    assert not (tmp_path / "p.html").exists()


def test_frames_hold_the_rows() -> None:
    found = fitted().coefficient_table()
    assert found.frame().shape == (8, 8)
    assert found.column("column")[:2] == ["Intercept", "x1"]

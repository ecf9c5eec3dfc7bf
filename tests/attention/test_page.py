"""The page of a translator: its figures are the net's numbers, and a browser shows them."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from softplace.attention.config import TranslationConfig
from softplace.attention.corpus import Example
from softplace.attention.page import translation_report
from softplace.attention.training import TranslationResult
from softplace.attention.translator import Search, Translator, load
from softplace.report.records import Figure, Report
from softplace.training.checkpoint import read_config
from softplace.training.folder import EVALUATION, PAGE, read_curve
from tests.attention.small import shrink, small
from tests.conftest import Open, axe

EXAMPLES = [Example("nine", "neun"), Example("twenty one , seven", "ein und zwanzig , sieben"), Example("", "")]


def report_of(folder: Path, translator: Translator, **changed: Any) -> Report:
    config = read_config(folder, TranslationConfig)
    assert config is not None
    evaluation = json.loads((folder / EVALUATION).read_bytes())
    given = {"curve": read_curve(folder), "evaluation": evaluation, "examples": EXAMPLES} | changed
    return translation_report(translator, config, **given)


def figures_of(report: Report) -> dict[str, Figure]:
    return {figure.key: figure for section in report.places[0].sections for figure in section.figures}


@pytest.mark.parametrize("model", ["transformer", "rnnsearch"])
def test_the_figures_have_the_nets_weights(model: str, folders: dict[str, Path]) -> None:
    translator = load(folders[model])
    figures = figures_of(report_of(folders[model], translator))
    said = translator.translate([EXAMPLES[1].source], Search())[0]
    look = translator.looks([(EXAMPLES[1].source, said.numbers)])[0]
    shown = figures["sentence-1"]  # the longest first
    way = translator.alignment
    matrix = look.matrix(layer=way.get("layer"), head=way.get("head"))
    # Figures look at all examples together: a processor may multiply batches of another size in another order.
    assert [row["value"] for row in shown.rows] == pytest.approx(matrix.flatten().tolist(), abs=6e-5)
    assert [row["source"] for row in shown.rows[:5]] == ["1 twenty", "2 one", "3 ,", "4 seven", "5 </s>"]
    assert ("heads" in figures) == (model == "transformer")
    if model == "transformer":
        heads = figures["heads"]
        assert {row["panel"] for row in heads.rows} == {f"layer {a}, head {b}" for a in (1, 2) for b in (1, 2)}
        values = [row["value"] for row in heads.rows if row["panel"] == "layer 2, head 1"]
        assert values == pytest.approx(look.weights[1, 0].flatten().tolist(), abs=1e-6)


def test_learning_and_lengths_are_those_of_the_folder(folders: dict[str, Path]) -> None:
    folder = folders["rnnencdec"]
    report = report_of(folder, load(folder))
    figures = figures_of(report)
    assert set(figures) == {"curve", "length-exact", "length-bleu"}
    curve = read_curve(folder)
    rows = figures["curve"].rows
    assert [row["loss"] for row in rows if row["of"] == "validation"] == [
        line["validation_loss"] for line in curve if "validation_loss" in line
    ]
    assert [row["loss"] for row in rows if row["of"] == "training"] == [
        line["plain_loss"] for line in curve if "plain_loss" in line
    ]
    assert [row["length"] for row in figures["length-exact"].rows] == [1, 2, 3]
    assert "no attention" in " ".join(report.places[0].sections[-1].text)


def test_the_command_trains_the_same(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page says to type has the settings of the training, and no others."""
    from softplace import cli
    from softplace.attention import training

    seen: dict[str, Any] = {}

    def spied(model: str, **given: Any) -> TranslationResult:
        seen.update(given, model=model)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", spied)
    for model, folder in folders.items():
        command = shlex.split(report_of(folder, load(folder)).command)
        assert command[0] == "softplace"
        monkeypatch.setattr("sys.argv", [*command, "--out", str(tmp_path / model)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 130
        config = read_config(folder, TranslationConfig)
        assert config is not None
        assert seen["model"] == model
        for name in ("steps", "room", "learning_rate", "validate_steps", "average"):
            expected = 8 if name == "steps" else getattr(config, name)
            assert seen[name] == pytest.approx(expected), name
        sizes = {name: value for name, value in config.sizes.items() if seen.get(name) is not None}
        assert all(seen[name] == value for name, value in sizes.items())
        assert seen["options"] == {"count": [1, 2], "digits": [1, 2]}


def test_a_page_of_files_names_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)
    for name, start in (("a", "Satz"), ("b", "<b>sentence</b>")):
        (tmp_path / name).write_text("".join(f"{start} {number} .\n" for number in range(50)))
    small(tmp_path / "out", source=tmp_path / "a", target=tmp_path / "b", tokens="words")
    text = (tmp_path / "out" / PAGE).read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert "<b>sentence" not in text
    command = re.search(r"softplace train attention [^<]*", text)
    assert command is not None
    assert "--source SOURCE --target TARGET --tokens words" in command.group()


def test_without_a_curve_there_is_no_figure_of_it(folders: dict[str, Path]) -> None:
    report = report_of(folders["rnnsearch"], load(folders["rnnsearch"]), curve=[])
    assert "curve" not in figures_of(report)


@pytest.fixture(scope="module")
def page_file(folders: dict[str, Path]) -> Path:
    return folders["transformer"] / PAGE


@pytest.mark.pages
def test_a_browser_shows_it(open_page: Open) -> None:
    page = open_page(bypass_csp=True)
    assert page.title().startswith("Transformer on number words")
    text = page.locator("main").inner_text()
    for said in ("Learning", "Quality by length", "What it looks at", "every head, word by word"):
        assert said.lower() in text.lower()
    assert page.locator("svg").count() >= 3
    assert axe(page) == []


@pytest.mark.pages
def test_a_narrow_screen_needs_no_scrolling_sideways(open_page: Open) -> None:
    page = open_page(width=360, scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

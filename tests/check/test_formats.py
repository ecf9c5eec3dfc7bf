"""What is written of a report: places that are those of the file, in formats that other programs read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from softplace.check.command import Run
from softplace.check.config import Config
from softplace.check.formats import Writer
from tests.command import Command

HEAD = "import torch\nimport torch.nn.functional as F\n"
WRONG = HEAD + "loss = F.cross_entropy(F.softmax(x, dim=1), y)\n"
UNICODE = HEAD + 's = "é😀\\"\\t"; p = torch.log(F.softmax(x, dim=1))\n'


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("SOFTPLACE_CACHE", str(tmp_path_factory.mktemp("cache")))


def files() -> None:
    """Findings of each kind: plain, in a notebook, over files, in odd names, and files that cannot be read."""
    cells = [
        {"cell_type": "markdown", "source": ["# a\n", "b"]},
        {"cell_type": "code", "source": UNICODE.splitlines(keepends=True)},
        {"cell_type": "code", "source": UNICODE},
    ]
    Path("sub dir").mkdir()
    Path("sub dir/n.ipynb").write_text(json.dumps({"cells": cells}, indent=1, ensure_ascii=False), encoding="utf-8")
    Path("ascii.ipynb").write_text(json.dumps({"cells": cells}))
    Path("é:#%.py").write_text(UNICODE, encoding="utf-8")
    Path("model.py").write_text(HEAD + "def net(x):\n    return F.softmax(x, dim=1)\n")
    Path("main.py").write_text(HEAD + "from model import net\nloss = F.cross_entropy(net(x), y)\n")
    Path("old.py").write_text("exec 'softmax'\n")
    os.symlink("nowhere", "broken.py")


def sarif(command: Command, *arguments: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(command("check", "--format", "sarif", *arguments).out)
    return data


def piece(place: dict[str, Any], key: str = "region") -> str:
    """The characters of a file that a SARIF place names."""
    path, region = unquote(place["artifactLocation"]["uri"]), place[key]
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    assert region["startLine"] == region["endLine"]
    return lines[region["startLine"] - 1][region["startColumn"] - 1 : region["endColumn"] - 1]


def test_places_of_sarif_are_those_of_the_files(command: Command) -> None:
    files()
    (run,) = sarif(command)["runs"]
    logs = [each for each in run["results"] if each["ruleId"] == "SP201"]
    assert len(logs) == 5
    for result in logs:
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert piece(place) == "torch.log(F.softmax(x, dim=1))"
        assert place["artifactLocation"]["uriBaseId"] == "%SRCROOT%"
        assert piece(result["relatedLocations"][0]["physicalLocation"]) == "F.softmax(x, dim=1)"
        (fix,) = result["fixes"]
        (change,) = fix["artifactChanges"]
        edits = [
            (piece({**change, "region": each["deletedRegion"]}), each["insertedContent"]["text"])
            for each in change["replacements"]
        ]
        assert edits == [("torch.log(", ""), (")", ""), ("softmax", "log_softmax")]
    cells = [result["locations"][0].get("logicalLocations") for result in logs if "ipynb" in str(result["locations"])]
    assert [names[0]["name"] for names in cells if names] == ["cell 2", "cell 3"] * 2
    uris = {result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in run["results"]}
    assert uris == {"sub%20dir/n.ipynb", "ascii.ipynb", "%C3%A9%3A%23%25.py", "main.py"}
    notices = run["invocations"][0]["toolExecutionNotifications"]
    names = [each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in notices]
    assert names == ["broken.py", "old.py"]


def test_a_path_from_the_root_is_an_address_of_a_file(command: Command, tmp_path: Path) -> None:
    (tmp_path / "a b.py").write_text(WRONG)
    (result,) = sarif(command, str(tmp_path / "a b.py"))["runs"][0]["results"]
    artifact = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact == {"uri": (tmp_path / "a b.py").as_uri()}


@pytest.mark.skipif("SARIF_SCHEMA" not in os.environ, reason="SARIF_SCHEMA names the file of the schema of OASIS")
def test_sarif_fits_its_schema(command: Command) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(Path(os.environ["SARIF_SCHEMA"]).read_text(encoding="utf-8"))
    checker = jsonschema.Draft4Validator(schema)
    assert list(checker.iter_errors(sarif(command))) == []
    files()
    found = sarif(command)
    assert found["runs"][0]["results"]
    assert list(checker.iter_errors(found)) == []


def test_github_annotations_of_a_notebook_are_on_its_lines(command: Command) -> None:
    files()
    text = Path("sub dir/n.ipynb").read_text(encoding="utf-8").split("\n")
    line = next(at for at, each in enumerate(text, 1) if "torch.log" in each)
    column = text[line - 1].index("torch.log") + 1
    out = command("check", "sub dir", "--format", "github").out
    assert out.startswith(f"::warning file=sub dir/n.ipynb,line={line},endLine={line},col={column},title=SP201")
    assert "::cell 2, line 3: The logarithm of softmax" in out.splitlines()[0]


def test_an_excerpt_fits_a_terminal_and_cannot_steer_it(command: Command) -> None:
    Path("a\x1b[31m.py").write_text(
        HEAD + 'x = "日本\x1b[31m\t"; p = torch.log(F.softmax(x, dim=1))\n', encoding="utf-8"
    )
    Path("long.py").write_text(
        f"{HEAD}x = [{'1, ' * 1000}]; p = torch.log(F.softmax(x, dim=1)); y = [{'1, ' * 1000}]\n"
    )
    out = command("check").out
    assert "\x1b" not in out
    assert "  --> a\\x1b[31m.py:3:21\n" in out
    lines = out.splitlines()
    assert max(map(len, lines)) < 200
    at = next(at for at, line in enumerate(lines) if "日本" in line)
    assert lines[at + 1].index("^") == lines[at].index("torch.log") + 2
    at = next(at for at, line in enumerate(lines) if "1, 1" in line)
    assert lines[at][lines[at + 1].index("^") :].startswith("torch.log(F.softmax(x, dim=1)); y")


@pytest.mark.parametrize(("variables", "colours"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)])
def test_colours_are_for_terminals(
    variables: dict[str, str], colours: bool, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from io import StringIO

    from softplace.check.command import check_command

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    Path("code.py").write_text(WRONG)
    out = Terminal()
    assert check_command(["."], Config(), out=out) == 1
    assert ("\x1b[1;31mSP101" in out.getvalue()) is colours
    assert "\x1b" not in command("check").out


def test_a_writer_needs_no_file_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text(WRONG)
    run = Run([str(path)], Config(), cached=False)
    report = run.report()
    run.project.contents.clear()
    run.sources.__init__(run.project)  # type: ignore[misc]
    path.unlink()
    for form in ("full", "concise", "json", "sarif", "github"):
        assert "SP101" in Writer(report, run.sources).write(form)

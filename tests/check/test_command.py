"""The commands `softplace check` and `softplace rule`: formats, options, comments, baselines, fixes and exit codes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from softplace.check import cache
from softplace.check.command import rule_command
from softplace.check.config import Config
from softplace.check.rules import rules
from tests.command import Command

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
WRONG = HEAD + "loss = F.cross_entropy(F.softmax(x, dim=1), y)\n"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SOFTPLACE_CACHE", str(folder))
    (folder / "check").mkdir()
    return folder / "check"


def test_exit_codes(command: Command) -> None:
    Path("good.py").write_text(HEAD)
    assert command("check", "good.py").code == 0
    Path("bad.py").write_text(WRONG)
    assert command("check", ".").code == 1
    done = command("check", "nowhere")
    assert done.code == 2
    assert done.err == "softplace: 'PATH' must be a file or folder that exists. Got nowhere. Check the spelling.\n"


def test_full_shows_both_sites_and_a_summary(command: Command) -> None:
    Path("bad.py").write_text(WRONG)
    out = command("check").out
    assert "SP101 softmax-into-cross-entropy (error)" in out
    assert "  --> bad.py:4:8\n  4 | loss = F.cross_entropy(F.softmax(x, dim=1), y)\n    |        ^^^^^" in out
    assert "  --> bad.py:4:24\n" in out
    assert out.endswith("1 file, 1 softmax (1 loss), 1 finding (1 error), 0 unresolved.\n")


def test_concise_is_a_line_each(command: Command) -> None:
    Path("bad.py").write_text(WRONG)
    first, _ = command("check", "--format", "concise").out.splitlines()
    assert first.startswith("bad.py:4:8: error SP101 cross_entropy is given probabilities of softmax")


def test_json_has_the_documented_schema(command: Command) -> None:
    Path("bad.py").write_text(WRONG)
    data = json.loads(command("check", "--format", "json").out)
    assert set(data) == {"version", "summary", "findings", "softmaxes", "unresolved", "not_checked"}
    (finding,) = data["findings"]
    assert {name: finding[name] for name in ("code", "name", "level", "path", "line", "column", "end_line")} == {
        "code": "SP101",
        "name": "softmax-into-cross-entropy",
        "level": "error",
        "path": "bad.py",
        "line": 4,
        "column": 8,
        "end_line": 4,
    }
    assert finding["place"] == "loss"
    assert finding["related"][0]["line"] == 4
    assert finding["related"][0]["column"] == 24
    fix = finding["fix"]
    assert (fix["message"], fix["safe"]) == ("Drop the softmax: the loss wants raw scores.", False)
    edits = [
        (each["line"], each["column"], each["end_line"], each["end_column"], each["text"]) for each in fix["edits"]
    ]
    assert edits == [(4, 24, 4, 34, ""), (4, 35, 4, 43, "")]
    (softmax,) = data["softmaxes"]
    assert (softmax["path"], softmax["line"], softmax["place"]) == ("bad.py", 4, "loss")
    assert data["summary"]["findings"] == {"SP101": 1}


def test_json_of_a_notebook_names_the_cell(command: Command) -> None:
    cells = [{"cell_type": "markdown", "source": ""}, {"cell_type": "code", "source": WRONG.splitlines(keepends=True)}]
    Path("n.ipynb").write_text(json.dumps({"cells": cells}))
    (finding,) = json.loads(command("check", "--format", "json").out)["findings"]
    assert (finding["cell"], finding["line"], finding["related"][0]["cell"]) == (2, 4, 2)


def test_sarif_has_the_form_of_2_1_0(command: Command) -> None:
    text = HEAD + 'naïve = "é𝄞"; loss = F.cross_entropy(F.softmax(x, dim=1), y)\n'
    Path("bad one.py").write_text(text, encoding="utf-8")
    Path("old.py").write_text("exec 'softmax'\n")
    data = json.loads(command("check", "--format", "sarif").out)
    assert data["version"] == "2.1.0"
    (run,) = data["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [rule.code for rule in rules()]
    (result,) = run["results"]
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "SP101"
    assert result["level"] in ("error", "warning", "note")
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "bad%20one.py"
    line = text.split("\n")[3]
    start = line.index("F.cross") + 1
    assert run["columnKind"] == "unicodeCodePoints"
    assert place["region"] == {"startLine": 4, "startColumn": start, "endLine": 4, "endColumn": line.index(", y)") + 5}
    assert result["relatedLocations"][0]["message"]["text"]
    (notice,) = run["invocations"][0]["toolExecutionNotifications"]
    assert "Python 2" in notice["message"]["text"]


def test_github_annotations_escape_what_they_must(command: Command) -> None:
    Path("a,b.py").write_text(WRONG)
    out = command("check", "--format", "github").out
    assert out.startswith("::error file=a%2Cb.py,line=4,endLine=4,col=8,title=SP101 softmax-into-cross-entropy::cross_")
    assert out.count("\n") == 1


@pytest.mark.parametrize(
    ("select", "ignore", "wanted"),
    [
        (("ALL",), (), True),
        (("SP2",), (), False),
        (("SP101",), ("SP1",), True),
        (("SP1",), ("SP101",), False),
        (("ALL",), ("ALL",), False),
    ],
)
def test_the_longest_prefix_decides(select: tuple[str, ...], ignore: tuple[str, ...], wanted: bool) -> None:
    assert Config(select=select, ignore=ignore).wants("SP101") is wanted


def test_configuration_is_read_from_pyproject_and_given_options_win(command: Command) -> None:
    Path("bad.py").write_text(WRONG)
    Path("pyproject.toml").write_text('[tool.softplace.check]\nignore = ["SP101"]\n')
    assert command("check").code == 0
    assert command("check", "--ignore", "SP2").code == 1
    Path("pyproject.toml").write_text('[tool.softplace.check]\nexclude = ["bad.py"]\n')
    assert "0 files" in command("check").out


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("selct = []", "[tool.softplace.check] has no option 'selct'. Did you mean 'select'?"),
        ('select = "SP1"', "'select' must be a list of strings. Got 'SP1'."),
        ('select = ["X"]', "'select' must hold rule codes or their beginnings (SP1, SP101), or ALL. Got 'X'."),
        ('format = "xml"', "'format' must be one of full, concise, json, sarif, github. Got 'xml'."),
        ("select = []", "'select' must name a rule, or ALL. Got none"),
        ("select = [", "pyproject.toml cannot be read"),
        ('per-file-ignores = ["a"]', "'per-file-ignores' must be a table of patterns and lists of codes. Got ['a']."),
        ('per-file-ignores = {a = "SP1"}', "'per-file-ignores' of 'a' must be a list of strings. Got 'SP1'."),
        ('per-file-ignores = {a = ["X"]}', "'per-file-ignores' must hold rule codes"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_one_line(table: str, message: str, command: Command) -> None:
    Path("pyproject.toml").write_text(f"[tool.softplace.check]\n{table}\n")
    done = command("check")
    Path("pyproject.toml").write_text("[tool.softplace]\ncheck = 3\n")
    assert "[tool.softplace.check] must be a table. Got 3." in command.refused("check")
    Path("pyproject.toml").write_text("tool = 3\n")
    assert command("check").code == 0
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_codes_can_be_ignored_per_file(command: Command) -> None:
    Path("tests").mkdir()
    Path("tests/bad.py").write_text(WRONG)
    Path("bad.py").write_text(WRONG)
    Path("pyproject.toml").write_text('[tool.softplace.check.per-file-ignores]\n"tests" = ["SP1"]\n"bad*" = ["SP3"]\n')
    out = command("check", "--format", "concise", "--quiet").out
    assert [line.split(":")[0] for line in out.splitlines()] == ["bad.py"]
    assert command("check", str(Path("tests/bad.py").absolute())).code == 0


def test_folders_above_what_is_checked_are_not_excluded(command: Command) -> None:
    Path("old/src/old").mkdir(parents=True)
    Path("old/src/bad.py").write_text(WRONG)
    Path("old/src/old/bad.py").write_text(WRONG)
    assert "1 file," in command("check", str(Path("old/src").absolute()), "--exclude", "old").out


def test_standard_input_is_a_file_of_its_folder(command: Command) -> None:
    Path("sub").mkdir()
    Path("sub/model.py").write_text(HEAD + "def net(x):\n    return F.softmax(x, dim=1)\n")
    text = (HEAD + "from model import net\nloss = F.cross_entropy(net(x), y)\n").encode()
    done = command("check", "-", "--stdin-filename", "sub/main.py", "--format", "concise", stdin=text)
    assert done.code == 1
    assert done.out.startswith("sub/main.py:5:8: error SP101")
    assert command("check", "-", stdin=text).code == 0
    assert (
        "+loss = F.cross_entropy(x, y)" in command("check", "-", "--diff", "--unsafe-fixes", stdin=WRONG.encode()).out
    )
    for options in (("-", "sub"), ("-", "--fix"), ("sub", "--stdin-filename", "x.py")):
        assert "cannot be used" in command.refused("check", *options, stdin=text)


def test_quiet_and_exit_zero(command: Command) -> None:
    Path("bad.py").write_text(WRONG)
    assert command("check", "--quiet", "--format", "concise").out.count("\n") == 1
    assert command("check", "--exit-zero").code == 0
    Path("bad.py").write_text(HEAD)
    assert command("check", "--quiet").out == ""


def test_a_mistake_of_the_checker_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("boo")

    monkeypatch.setattr("softplace.check.engine.softmaxes", broken)
    Path("bad.py").write_text(WRONG)
    assert "internal error: RuntimeError: boo (test_command.py:" in command.refused("check", "--no-cache")


@pytest.mark.parametrize(
    ("comment", "code"),
    [
        ("# softplace: ignore[SP101] it is a test", 0),
        ("# softplace: ignore", 0),
        ("# softplace: ignore[SP1, SP301]", 0),
        ("# softplace: ignore[SP301]", 1),
        ("# softplace: ignore [SP301]", 1),
        ("# softplace: ignored", 1),
        ("# softplace: ignore-file[SP1]", 0),
        ("# ignore", 1),
    ],
)
def test_comments_silence_findings(comment: str, code: int, command: Command) -> None:
    Path("bad.py").write_text(WRONG.rstrip("\n") + f"  {comment}\n")
    assert command("check").code == code


def test_a_baseline_reports_only_what_is_new(command: Command) -> None:
    Path("bad.py").write_text(WRONG)
    assert command("check", "--baseline", "known.json", "--update-baseline").code == 0
    Path("bad.py").write_text("# a line above\n" + WRONG)
    assert command("check", "--baseline", "known.json").code == 0
    Path("bad.py").write_text(WRONG + "F.nll_loss(F.softmax(x, dim=1), y)\n" + WRONG.splitlines()[-1] + "\n")
    out = command("check", "--baseline", "known.json", "--format", "concise").out
    assert [line.split(" ")[2] for line in out.splitlines()[:-1]] == ["SP103", "SP101"]


def test_a_baseline_holds_wherever_the_command_is_run(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        Path(name).mkdir()
        Path(name, "bad.py").write_text(WRONG)
    command("check", "--baseline", "known.json", "--update-baseline")
    known = json.loads(Path("known.json").read_text())["findings"]
    text = "loss = F.cross_entropy(F.softmax(x, dim=1), y)"
    assert known == {f"SP101|one/bad.py|{text}": 1, f"SP101|two/bad.py|{text}": 1}
    assert command("check", str(Path.cwd()), "--baseline", "known.json").code == 0
    monkeypatch.chdir("one")
    assert command("check", ".", "--baseline", "../known.json").code == 0
    Path("bad.py").write_text(HEAD)
    assert command("check", ".", "--baseline", "../known.json", "--update-baseline").code == 0
    assert set(json.loads(Path("../known.json").read_text())["findings"]) == {f"SP101|two/bad.py|{text}"}
    Path("../two/bad.py").unlink()
    command("check", ".", "--baseline", "../known.json", "--update-baseline")
    assert json.loads(Path("../known.json").read_text())["findings"] == {}


@pytest.mark.parametrize("text", ["", "[]", '{"findings": 3}', '{"findings": {"x": 1}}', None])
def test_a_baseline_that_cannot_be_read_is_one_line(text: str | None, command: Command) -> None:
    Path("bad.py").write_text(WRONG)
    if text is not None:
        Path("known.json").write_text(text)
    done = command("check", "--baseline", "known.json")
    assert done.code == 2
    assert done.err.startswith("softplace: --baseline known.json")
    assert command("check", "--update-baseline").code == 2


def test_results_are_kept_by_content(command: Command, own_cache: Path) -> None:
    Path("bad.py").write_text(WRONG)
    first = command("check", "--format", "json").out
    (kept,) = own_cache.glob("*.pickle")
    assert command("check", "--format", "json").out == first
    Path("bad.py").write_text(HEAD)
    assert command("check").code == 0
    for path in own_cache.glob("*.pickle"):
        path.write_bytes(b"damaged")
    Path("bad.py").write_text(WRONG)
    assert command("check", "--format", "json").out == first
    assert kept.read_bytes() != b"damaged"


def test_a_kept_result_is_not_that_of_other_imports(command: Command, own_cache: Path) -> None:
    # Only main.py is named, but what it imports from beside it is read too.
    Path("main.py").write_text(
        "import torch.nn as nn\nfrom model import Net\n\n\ndef step(x, y):\n"
        "    return nn.CrossEntropyLoss()(Net()(x), y)\n"
    )
    model = "import torch.nn as nn\n\n\nclass Net(nn.Module):\n    def forward(self, x):\n        return {}\n"
    Path("model.py").write_text(model.format("x.relu()"))
    assert [command("check", "main.py").code for _ in range(2)] == [0, 0]
    Path("model.py").write_text(model.format("x.softmax(1)"))
    assert "SP101" in command("check", "main.py").out
    Path("model").mkdir()
    Path("model", "__init__.py").write_text(model.format("x"))  # a package is found before a module of its name
    assert command("check", "main.py").code == 0
    kept = {each: each.stat().st_mtime_ns for each in own_cache.glob("*.pickle")}
    assert command("check", "main.py").code == 0
    assert kept == {each: each.stat().st_mtime_ns for each in own_cache.glob("*.pickle")}


def test_results_need_no_home(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("bad.py").write_text(WRONG)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("SOFTPLACE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert command("check").code == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there are names of folders any bytes")
def test_a_working_folder_may_have_any_name(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir(b"caf\xe9")
    monkeypatch.chdir(os.fsdecode(b"caf\xe9"))
    Path("bad.py").write_text(WRONG)
    assert command("check").code == 1


def test_a_result_that_someone_else_wrote_runs_nothing(own_cache: Path, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "made"),)

    (own_cache / "x.pickle").write_bytes(pickle.dumps(Evil()))
    assert cache.load("x") is None
    path = str(tmp_path / "made").encode()
    for module, name in ((b"softplace.check.cache", b"os.mkdir"), (b"softplace.check.cache", b"os")):
        reduce = b"\x80\x04\x8c" + bytes([len(module)]) + module + b"\x8c" + bytes([len(name)]) + name + b"\x93"
        (own_cache / "y.pickle").write_bytes(reduce + b"\x8c" + bytes([len(path)]) + path + b"\x85R.")
        assert cache.load("y") is None
        assert not (tmp_path / "made").exists()
    assert not (tmp_path / "made").exists()


def test_list_and_unresolved(command: Command) -> None:
    Path("code.py").write_text(
        HEAD + "def f(model, x, t):\n    F.softmax(x, dim=1)\n    return F.cross_entropy(model(x), t)\n"
    )
    out = command("check", "--list", "--show-unresolved").out
    assert "code.py:5:5: " in out
    assert "code.py:6:12: unresolved: what cross_entropy is given comes from parameter 'model'\n" in out
    assert "1 unresolved." in out


def test_rules_are_printed(command: Command) -> None:
    assert command("rule").out.startswith("SP101  softmax-into-cross-entropy")
    assert command("rule", "sp101").out.startswith("# SP101 softmax-into-cross-entropy\n")
    done = command("rule", "SP999")
    assert done.code == 2
    assert "There is no rule 'SP999'." in done.err
    assert [each["code"] for each in json.loads(command("rule", "--format", "json").out)] == [r.code for r in rules()]
    (page,) = json.loads(command("rule", "softmax-into-nll", "--format", "json").out)
    assert (page["code"], page["level"]) == ("SP103", "error")
    assert "'format' must be one of text, json." in command.refused("rule", "--format", "xml")
    shown: list[str] = []
    rule_command("kl-div-log-target", show=shown.append)
    assert shown[0].startswith("# SP109")

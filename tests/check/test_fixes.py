"""Fixes: what they change, what they leave as it is, and where there is none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.command import Command

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
WRONG = HEAD + "loss = F.cross_entropy(F.softmax(x, dim=1), y)\n"
LOG = "import torch\nimport torch.nn.functional as F\n"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("SOFTPLACE_CACHE", str(tmp_path_factory.mktemp("cache")))


FIXED = [
    ("y = torch.log(F.softmax(x, dim=1))  # why", "y = F.log_softmax(x, dim=1)  # why", True),
    ("y = torch.log(\n    x.softmax(-1)\n)", "y = x.log_softmax(-1)", True),
    ("y = F.softmax(x, 1).log()", "y = F.log_softmax(x, 1)", True),
    ("y = F.softmax(a + b, dim=1).argmax(1)", "y = (a + b).argmax(1)", True),
    ("y = torch.argmax(x.softmax(dim=1), dim=1)", "y = torch.argmax(x, dim=1)", True),
    ("y = F.cross_entropy(F.log_softmax(x, dim=1), t)", "y = F.cross_entropy(x, t)", True),
    ("y = F.cross_entropy(F.log_softmax(x, -1), t)", "y = F.cross_entropy(x, t)", False),
    ("y = F.cross_entropy(F.log_softmax(x, 1, dtype=torch.double), t)", "y = F.cross_entropy(x, t)", False),
    ("y = F.cross_entropy(F.softmax(x, dim=1), t)", "y = F.cross_entropy(x, t)", False),
    ("y = F.cross_entropy(F.softmax(dim=1, input=x), t)", "y = F.cross_entropy(x, t)", False),
    ("y = F.nll_loss(torch.softmax(x, 1), t)", "y = F.nll_loss(torch.log_softmax(x, 1), t)", False),
    (
        "n = nn.Sequential(nn.Linear(2, 2), nn.Softmax(dim=1))\nF.cross_entropy(n(x), t)",
        "n = nn.Sequential(nn.Linear(2, 2), nn.Identity())\nF.cross_entropy(n(x), t)",
        False,
    ),
]


@pytest.mark.parametrize(("before", "after", "safe"), FIXED)
def test_fixes_keep_the_rest_and_leave_nothing_to_fix(before: str, after: str, safe: bool, command: Command) -> None:
    for end in ("\n", "\r\n"):
        path = Path("code.py")
        path.write_bytes((HEAD + "# é\n" + before + "\n").replace("\n", end).encode())
        if not safe:
            assert "0 fixed." in command("check", "--fix").err
        done = command("check", "--fix" if safe else "--unsafe-fixes")
        assert "1 fixed." in done.err
        assert path.read_bytes().decode() == (HEAD + "# é\n" + after + "\n").replace("\n", end)
        assert command("check").code == 0
        assert "0 fixed." in command("check", "--unsafe-fixes").err


def test_a_softmax_that_something_else_reads_is_not_dropped(command: Command) -> None:
    text = HEAD + "p = F.softmax(x, dim=1)\nprint(p)\nF.cross_entropy(p, t)\n"
    Path("code.py").write_text(text)
    command("check", "--unsafe-fixes")
    assert Path("code.py").read_text() == text


TWO = "x = y.view(-1, 3)\n"
DIMS = [
    (TWO + "F.softmax(x)", TWO + "F.softmax(x, dim=1)"),
    (TWO + "F.log_softmax(x,)", TWO + "F.log_softmax(x, dim=1,)"),
    (TWO + "F.softmax(\n    x,  # the scores\n)", TWO + "F.softmax(\n    x, dim=1,  # the scores\n)"),
    (TWO + "F.softmax(input=x)", TWO + "F.softmax(input=x, dim=1)"),
    (TWO + "nn.Softmax()(x)", TWO + "nn.Softmax(dim=1)(x)"),
    (TWO + "m = nn.Softmax( )\nm(x), m(x)", TWO + "m = nn.Softmax( dim=1)\nm(x), m(x)"),
    (TWO + "F.softmax(F.softmax(x))", TWO + "F.softmax(F.softmax(x, dim=1), dim=1)"),
]


@pytest.mark.parametrize(("before", "after"), DIMS)
def test_the_dim_that_torch_takes_is_written_out(before: str, after: str, command: Command) -> None:
    path = Path("code.py")
    path.write_text(HEAD + before)
    command("check", "--fix")
    assert path.read_text() == HEAD + after
    assert "SP301" not in command("check", "--format", "concise").out


def test_a_statement_that_would_do_nothing_goes(command: Command) -> None:
    text = HEAD + (
        "def f(x, y, z):\n    if z:\n        x = F.softmax(x, dim=1)\n    else:\n        x = F.softmax(\n"
        "            x, dim=1\n        )\n        # kept\n        pass\n    return F.cross_entropy(x, y)\n"
    )
    Path("code.py").write_text(text)
    assert command("check", "--unsafe-fixes").err == "2 fixed.\n"
    assert Path("code.py").read_text() == HEAD + (
        "def f(x, y, z):\n    if z:\n        x = x\n    else:\n        # kept\n        pass\n"
        "    return F.cross_entropy(x, y)\n"
    )


@pytest.mark.parametrize(
    ("text", "safe", "unsafe"),
    [
        ("F.softmax(x, dim=1).argmax(dim=1)", True, True),
        ("F.softmax(x, k).argmax(axis=k)", True, True),
        ("F.softmax(x, dim=-1).argmax(1)", False, True),
        ("F.softmax(x, dim=0).argmax(1)", False, False),
        ("F.softmax(x, dim=1).argmax()", False, False),
        ("F.softmax(x, k).argmax(1)", False, False),
        ("F.softmax(x).argmax(1)", False, False),
    ],
)
def test_argmax_is_that_of_the_scores_over_the_same_dim_only(
    text: str, safe: bool, unsafe: bool, command: Command
) -> None:
    Path("code.py").write_text(f"{HEAD}z = {text}\n")
    found = json.loads(command("check", "--select", "SP402", "--format", "json").out)["findings"]
    fixes = [each["fix"] for each in found if each["fix"] is not None]
    assert [fix["safe"] for fix in fixes] == [safe] * unsafe


NOT_FIXED = [
    "F.softmax(x)",
    "F.softmax((y.view(-1, 3)))",
    "F.softmax(*[y.view(-1, 3)])",
    "m = nn.Softmax()\nm(y.view(-1, 3)), m(y)",
    "y = torch.log(  # why\n    F.softmax(x, dim=1))",
    "y = F.cross_entropy(F.log_softmax(  # why\n    x, dim=1), t)",
    "y = torch.log(F.softmax(x, dim=1) + 1e-9)",
    "import torch.nn.functional as other\ny = F.cross_entropy(other.softmax(-x, 1), t)",
]


@pytest.mark.parametrize("text", NOT_FIXED)
def test_what_is_not_known_or_would_lose_a_comment_is_not_fixed(text: str, command: Command) -> None:
    Path("code.py").write_text(HEAD + text)
    done = command("check", "--unsafe-fixes")
    assert (done.code, done.err) == (1, "0 fixed.\n")
    assert Path("code.py").read_text() == HEAD + text


KEPT = [
    ("z = (F.softmax(x, 1)).log()", "z = F.log_softmax(x, 1)"),
    ("z = torch.log(F\n  .softmax(x, 1))", "z = (F\n  .log_softmax(x, 1))"),
    ("z = F.softmax(lambda: 1, 1).argmax(1)", "z = (lambda: 1).argmax(1)"),
    ("z = torch.argmax((\n\t# keep\n\tF.softmax(x, dim=1)), dim=1)", "z = torch.argmax((\n\t# keep\n\tx), dim=1)"),
    ("z = F.softmax(x, 1).log(); w = torch.log(x.softmax(1))", "z = F.log_softmax(x, 1); w = x.log_softmax(1)"),
    ("z = torch.log(F.softmax(x[\n\t0  # one\n], 1))", "z = F.log_softmax(x[\n\t0  # one\n], 1)"),
]


@pytest.mark.parametrize(("before", "after"), KEPT)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_only_what_must_change_does(before: str, after: str, end: str, command: Command) -> None:
    for prefix, encoding in (
        ("", "utf-8"),
        ("\ufeff", "utf-8"),
        ("# coding: latin-1\n", "latin-1"),
        ("# \xe9\n", "latin-1"),
    ):
        path = Path("code.py")
        text = prefix + HEAD + "s = 'é'; "
        path.write_bytes((text + before).replace("\n", end).encode(encoding))
        assert command("check", "--fix").err in ("1 fixed.\n", "2 fixed.\n")
        assert path.read_bytes() == (text + after).replace("\n", end).encode(encoding)


def notebook(sources: list[str | list[str]]) -> dict[str, object]:
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": each} for each in sources]
    return {"cells": [{"cell_type": "markdown", "source": "softmax"}, *cells], "metadata": {}, "nbformat": 4}


@pytest.mark.parametrize("dump", [{"indent": 1}, {"indent": 2, "ensure_ascii": False}, {}, {"separators": (",", ":")}])
def test_a_notebook_keeps_its_form(dump: dict[str, object], command: Command) -> None:
    def text(first: list[str | list[str]]) -> str:
        return json.dumps(notebook(first), **dump) + "\n"  # type: ignore[arg-type]

    before = [
        "%matplotlib inline\nimport torch\nimport torch.nn.functional as F\n!ls",
        ['s = "é 😀\\t"; p = torch.log(F.softmax(x, dim=1))  # ü\n', "p = torch.log(\n", "    x.softmax(-1)\n", ")"],
        ["this is not python\n"],
        'print("\\u00e9")\r\nq = x.softmax(1).log()',
    ]
    after = [
        before[0],
        ['s = "é 😀\\t"; p = F.log_softmax(x, dim=1)  # ü\n', "p = x.log_softmax(-1)"],
        before[2],
        'print("\\u00e9")\r\nq = x.log_softmax(1)',
    ]
    path = Path("n.ipynb")
    path.write_text(text(before), encoding="utf-8", newline="")
    assert command("check", "--fix").err == "3 fixed.\n"
    if "indent" in dump or dump == {}:
        assert path.read_bytes().decode() == text(after)
    assert json.loads(path.read_text(encoding="utf-8")) == notebook(after)
    assert command("check").code == 0


def test_diff_shows_fixes_and_changes_nothing(command: Command) -> None:
    path = Path("code.py")
    path.write_text(HEAD + "z = torch.log(F.softmax(x, 1))")
    done = command("check", "--diff")
    assert (done.code, done.err) == (1, "1 fix would be made.\n")
    assert done.out == (
        "--- code.py\n+++ code.py\n@@ -1,4 +1,4 @@\n import torch\n import torch.nn as nn\n"
        " import torch.nn.functional as F\n-z = torch.log(F.softmax(x, 1))\n\\ No newline at end of file\n"
        "+z = F.log_softmax(x, 1)\n\\ No newline at end of file\n"
    )
    assert "torch.log" in path.read_text()
    path.write_text(WRONG)
    assert command("check", "--diff") == (0, "", "0 fixes would be made.\n")
    assert command("check", "--diff", "--unsafe-fixes").code == 1


def test_files_that_cannot_be_written_are_named_and_left(command: Command) -> None:
    path = Path("code.py")
    path.write_text(LOG + "z = torch.log(F.softmax(x, 1))\n")
    path.chmod(0o444)
    done = command("check", "--fix")
    assert done.code == 1
    assert done.err == "0 fixed.\nwarning: code.py: it is read-only, so that its fixes were not made.\n"
    assert os.listdir() == ["code.py"]


def test_a_link_stays_a_link_and_the_mode_stays(command: Command) -> None:
    Path("real").mkdir()
    Path("real/code.py").write_text(LOG + "z = torch.log(F.softmax(x, 1))\n")
    Path("real/code.py").chmod(0o755)
    os.symlink("real/code.py", "link.py")
    assert command("check", "link.py", "--fix").err == "1 fixed.\n"
    assert os.path.islink("link.py")
    assert Path("real/code.py").read_text().endswith("z = F.log_softmax(x, 1)\n")
    assert Path("real/code.py").stat().st_mode & 0o777 == 0o755


def test_files_that_were_not_named_are_not_changed(command: Command) -> None:
    model = HEAD + "def net(x):\n    return F.softmax(x, dim=1)\n"
    Path("model.py").write_text(model)
    Path("main.py").write_text(HEAD + "from model import net\nloss = F.cross_entropy(net(x), y)\n")
    assert command("check", "main.py", "--unsafe-fixes").err == "0 fixed.\n"
    assert Path("model.py").read_text() == model
    assert command("check", "--unsafe-fixes").err == "1 fixed.\n"
    assert Path("model.py").read_text() == model.replace("F.softmax(x, dim=1)", "x")


def test_known_findings_are_not_fixed(command: Command) -> None:
    Path("code.py").write_text(WRONG)
    command("check", "--baseline", "known.json", "--update-baseline")
    assert command("check", "--baseline", "known.json", "--unsafe-fixes").err == "0 fixed.\n"

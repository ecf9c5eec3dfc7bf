"""The command line: what it says, and how it refuses."""

import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "softplace", *arguments], capture_output=True, text=True, timeout=120)


def test_help_names_the_commands_and_options() -> None:
    assert "study" in run("--help").stdout
    text = run("study", "--help").stdout
    for option in ("--preset", "--maps", "--data", "--target", "--seeds", "--device", "--out", "--fresh"):
        assert option in text


@pytest.mark.parametrize("statement", ["import softplace", "import softplace.cli"])
def test_importing_does_not_import_torch(statement: str) -> None:
    code = f"{statement}; import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hiden"], "Did you mean 'hidden'?"),
        (["--maps", "sofmax"], "Did you mean 'softmax'?"),
        (["--preset", "quik"], "Did you mean 'quick'?"),
        (["--device", "gpu"], "Known: auto, cpu, cuda"),
        (["--seeds", "0"], "Got 0"),
        (["--seeds", "-3"], "Got -3"),
        (["--data", "nothing.csv"], "nothing.csv"),
        (["--target", "y"], "needs 'data'"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    out = tmp_path / "study"
    done = run("study", "--out", str(out), *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert done.stderr.startswith("softplace: ")
    assert done.stderr.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("a,y\n", "rows"),
        ("a,y\n" + "1,x\n" * 20, "two classes"),
        ("a,y\n" + "1,x\n2,z\n" * 2, "rows or more of every class"),
        ("a,y\n" + "1,x\n2,z\n" * 20 + "inf,x\n", "inf"),
        ("a,y\n" + "1,x\n2,z\n" * 20 + "q,x\n", "'q'"),
    ],
)
def test_bad_tables_end_with_one_line_and_code_2(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    done = run("study", "--data", str(path), "--target", "y", "--out", str(tmp_path / "study"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
    assert not (tmp_path / "study").exists()


def test_a_folder_that_holds_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "study.sqlite").write_text("mine")
    done = run("study", "--maps", "relu", "--seeds", "4", "--out", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["study.sqlite"]
    assert (tmp_path / "study.sqlite").read_text() == "mine"

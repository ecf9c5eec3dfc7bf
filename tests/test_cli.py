"""The command line: what it says, and how it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from softplace import cli
from tests.command import Command

COMMAND = [sys.executable, "-m", "softplace"]
FULL = Path("/dev/full")


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120)


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
        (["--data", ""], "an empty text"),
        (["--out", ""], "'out' must be the path of a folder. Got ''"),
        (["--seeds", "1000000000"], "20 are the fewest that can decide with all arms"),
        (["--seeds", "100000000000000000000"], "from 4 to 100,000"),
        (["--seeds", "abc"], "--seeds abc. See"),
        (["--seeds", "4.5"], "softplace study --help`"),
        (["--bogus"], "No such option: --bogus"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(
    arguments: list[str], said: str, command: Command, tmp_path: Path
) -> None:
    assert said in command.refused("study", "--out", "study", *arguments)
    assert not (tmp_path / "study").exists()


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
def test_bad_tables_end_with_one_line_and_code_2(text: str, said: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(text)
    assert said in command.refused("study", "--data", "table.csv", "--target", "y", "--out", "study")
    assert not (tmp_path / "study").exists()


def test_a_folder_that_holds_something_else_is_left_as_it_is(command: Command, tmp_path: Path) -> None:
    (tmp_path / "study.sqlite").write_text("mine")
    command.refused("study", "hidden", "--maps", "relu", "--seeds", "4", "--out", ".")
    assert [path.name for path in tmp_path.iterdir()] == ["study.sqlite"]
    assert (tmp_path / "study.sqlite").read_text() == "mine"


def test_an_unknown_command_ends_with_one_line_and_code_2() -> None:
    done = run("studdy")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "softplace: No such command 'studdy'. Did you mean 'study'? Got: studdy. See `python -m softplace --help`.\n"
    )


def test_without_arguments_it_shows_the_help() -> None:
    done = run()
    assert "study" in done.stdout
    assert done.stderr == ""


@pytest.mark.skipif(not FULL.exists(), reason="only where there is /dev/full")
def test_a_full_disk_behind_the_output() -> None:
    with FULL.open("w") as full:
        done = subprocess.run([*COMMAND, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith("softplace: standard output: expected one that can be written, got")
        assert done.stderr.count("\n") == 1
        assert subprocess.run([*COMMAND, "study", "--preset", "x"], stderr=full).returncode == 2


def test_a_reader_that_has_read_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        done = subprocess.run([*COMMAND, "--help"], stdout=gone, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


STUB = """
import sys
from types import SimpleNamespace
from softplace import cli
from tests.command import Command
from softplace.study import run

verdict = SimpleNamespace(place="hidden", claim="softmax \\u00d7 width", verdict="holds", sentence="So. " * 5000)
run.Study = lambda *_, **__: SimpleNamespace(run=lambda: SimpleNamespace(verdicts=[verdict]))
sys.argv = ["softplace", "study"]
cli.main()
"""


def test_verdicts_are_printed_where_only_ascii_can_be() -> None:
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    done = subprocess.run([sys.executable, "-c", STUB], capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"hidden: softmax \\xd7 width HOLDS. So." in done.stdout


def test_verdicts_whose_reader_is_gone_or_whose_disk_is_full() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        done = subprocess.run([sys.executable, "-c", STUB], stdout=gone, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    if FULL.exists():
        with FULL.open("w") as full:
            done = subprocess.run([sys.executable, "-c", STUB], stdout=full, stderr=subprocess.PIPE)
        assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)


def test_a_terminal_shows_no_display_before_training(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the output for a terminal then
    monkeypatch.setattr(sys, "argv", ["softplace", "study", "--maps", "x"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("softplace: Unknown map 'x'")
    assert err.count("\n") == 1

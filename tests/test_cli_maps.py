"""`softplace maps`: the table, the page of one map, JSON, and how it refuses."""

import json
import re
import subprocess
import sys

import pytest

from softplace.maps._catalogue import ENTRIES


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "softplace", "maps", *arguments], capture_output=True, text=True, timeout=120
    )


def test_a_pipe_gets_one_aligned_line_per_map() -> None:
    done = run()
    head, *lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert head.split() == ["map", "formula", "simplex", "sparse", "shift", "order", "Lipschitz", "reference"]
    assert [line.split()[0] for line in lines] == [each.name for each in ENTRIES]
    for start, each in [(head.index("formula"), "formula"), (head.index("reference"), "reference")]:
        assert [line[start:].startswith(getattr(entry, each)) for line, entry in zip(lines, ENTRIES, strict=True)]
    line = next(line for line in lines if line.startswith("entmax15"))
    assert line.split("  ")[-1].strip() == "Peters, Niculae and Martins 2019, arXiv:1905.05702"


def test_one_map_has_all_that_is_known() -> None:
    done = run("gelu")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Phi(s_i) + s_i phi(s_i)" in done.stdout
    assert "1.129" in done.stdout
    assert "arXiv:1606.08415" in done.stdout


def test_json_of_all_and_of_one() -> None:
    everything = json.loads(run("--json").stdout)
    assert [each["name"] for each in everything] == [each.name for each in ENTRIES]
    one = json.loads(run("log_softmax", "--json").stdout)
    assert one in everything
    assert (one["simplex"], one["lipschitz"], one["module"]) == (False, None, "LogSoftmax")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sparsmax"], "Unknown map 'sparsmax'. Did you mean 'sparsemax'? Known: softmax, "),
        (["--jsn"], "No such option: --jsn"),
        (["softmax", "relu"], "unexpected extra argument"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("softplace: ")
    assert said in done.stderr


def test_a_terminal_gets_a_table_that_folds_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from softplace.maps import _pages
    from softplace.maps.registry import entry

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    _pages.show(None, as_json=False)
    _pages.show(entry("gelu"), as_json=False)
    text = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert "[-0.170, infinity)" in text


@pytest.mark.parametrize("arguments", [[], ["gelu"], ["--json"]])
def test_a_closed_output_is_no_error(arguments: list[str]) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "softplace", "maps", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("columns", ["1", "20", "60"])
def test_a_terminal_too_small_for_the_table_gets_the_lines_of_a_pipe(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from softplace.maps import _pages

    _pages.show(None, as_json=False)
    piped = capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", columns)
    _pages.show(None, as_json=False)
    assert capsys.readouterr().out == piped


@pytest.mark.parametrize("columns", ["20", "44", "60"])
def test_a_small_terminal_gets_the_whole_page_of_one_map(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from softplace.maps import _pages
    from softplace.maps.registry import entry

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", columns)
    _pages.show(entry("gelu"), as_json=False)
    assert "[-0.170, infinity)" in re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)

"""The short way into the command line: it reads what typer reads, and leaves the rest to it. No axes."""

import subprocess
import sys
from typing import Any

import pytest
import typer.main

from softplace import quick
from softplace.cli import app


def declared() -> dict[str, Any]:
    """The options of `softplace check` by what is typed."""
    command: Any = typer.main.get_command(app)
    options = [each for each in command.commands["check"].params if each.param_type_name == "option"]
    return {name: each for each in options for name in each.opts if name != "--help"}


def test_the_options_are_those_of_the_whole_command_line() -> None:
    known = declared()
    assert {*quick.VALUES, *quick.SWITCHES} == set(known)
    for name, option in known.items():
        assert option.is_flag == (name in quick.SWITCHES)
        found = quick.read([name] if option.is_flag else [name, "1"])
        assert found is not None
        assert list(found) == ["paths", option.name]


@pytest.mark.parametrize(
    "given",
    [
        ["--help"],
        ["src", "--help"],
        ["--bogus"],
        ["-x"],
        ["-qq"],
        ["--fix=yes"],
        ["--select"],
        ["--select", "--fix"],
        ["--jobs", "0"],
        ["--jobs", "-1"],
        ["--jobs", "two"],
        ["--jobs", "²"],
        ["--jobs", ""],
        ["--", "src"],
        ["--show"],
    ],
)
def test_what_is_not_plainly_right_is_left_to_the_whole_command_line(given: list[str]) -> None:
    assert quick.read(given) is None


def test_paths_and_values_are_taken_as_they_are() -> None:
    assert quick.read([]) == {"paths": []}
    assert quick.read(["a", "-", "--format=json", "b c", "--format", "full", "--select", ""]) == {
        "paths": ["a", "-", "b c"],
        "format": "full",
        "select": "",
    }


def test_a_check_imports_no_typer() -> None:
    code = (
        "import sys; sys.argv = ['softplace', 'check', '-', '--no-cache', '-q']\n"
        "from softplace.quick import main\n"
        "try: main()\n"
        "except SystemExit as end: sys.exit(end.code or 'typer' in sys.modules or 'click' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], input=b"import torch\n", timeout=60).returncode == 0

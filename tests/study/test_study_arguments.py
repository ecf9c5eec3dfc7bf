"""What `Study` refuses, before anything is trained or written; and how progress is shown."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from softplace import Study
from softplace.errors import InputError
from softplace.progress import Lines, Terminal
from softplace.study.progress import Snapshot
from softplace.study.store import Store


def study(**changed: Any) -> Study:
    given: dict[str, Any] = {"place": "hidden", "maps": ["relu"], "seeds": 4, "workers": 1, "data": "wine"} | changed
    return Study(given.pop("place"), **given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[
            ("seeds", value)
            for value in (0, 3, 10**9, 10**20, 4.0, 1e9, float("nan"), True, "4", b"abcd", np.bool_(True))
        ],
        *[("seeds", value) for value in ([], [1, 1, 2, 3], [-1, 0, 1, 2], [2**63, 0, 1, 2], [0.0, 1.0, 2.0, 3.0])],
        *[("seeds", value) for value in ([True, False, 2, 3], [[1], [2], [3], [4]], range(10**12))],
        *[("place", value) for value in (3, b"hidden", [], [["hidden"]], "hiden")],
        *[("maps", value) for value in (3, b"relu", "relu", [], np.tanh)],
        *[("workers", value) for value in (0, -1, 1.5, "2", True, 10**6)],
        *[("out", value) for value in (3, b"study", "", "a\0b")],
        *[("target", value) for value in (4, b"t", ["t"])],
        ("display", 3),
        ("fresh", "no"),
    ],
)
def test_a_bad_argument_is_refused_in_one_line(name: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        study(**{name: value})
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 400
    assert f"'{name}'" in text or "Unknown place" in text


def test_the_fewest_seeds_that_decide_are_said() -> None:
    with pytest.raises(
        InputError, match=r"20 are the fewest that can decide with all arms \(10 judged pairs against 13"
    ):
        study(seeds=3)


@pytest.mark.parametrize("seeds", [4, np.int64(4), range(4), np.arange(4), (i for i in range(4))])
def test_seeds_may_be_numbers_of_numpy(seeds: Any) -> None:
    assert study(seeds=seeds).seeds == (0, 1, 2, 3)
    assert {type(seed) for seed in study(seeds=np.arange(4)).seeds} == {int}


def _keep(text: str) -> Any:
    return lambda path: path.write_text(text)


@pytest.mark.parametrize("name", ["page.html", "verdicts.json"])
@pytest.mark.parametrize(
    ("make", "own", "said"),
    [
        (os.mkdir, True, "expected a file that can be written, or none"),
        (lambda path: os.symlink("nowhere", path), True, "expected a file that can be written, or none"),
        (_keep("mine"), False, "Got a file that is not of a study. Choose another folder"),
    ],
)
def test_what_cannot_be_replaced_is_found_before_training(
    name: str, make: Any, own: bool, said: str, tmp_path: Path
) -> None:
    if own:
        Store.open(tmp_path).close()
    make(tmp_path / name)
    before = {path.name: path.lstat().st_mtime_ns for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=said) as caught:
        study(out=tmp_path).run()
    assert name in str(caught.value)
    assert {path.name: path.lstat().st_mtime_ns for path in tmp_path.iterdir()} == before


def snapshot(arm: str) -> Snapshot:
    counts = {"alive": 1, "done": 2, "diverged": 0, "known": 0, "planned": 4, "steps": 10, "planned_steps": 40}
    return Snapshot(place="hidden", task="digits", arm=arm, seconds=1.0, **counts)


def test_a_name_is_shown_as_it_is_and_nothing_is_before_training() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    assert isinstance(console.file, io.StringIO)
    with Terminal(console) as display:
        display.say("data: [/note]")
        assert console.file.getvalue() == "data: [/note]\n"
        display.show(snapshot("top[/k] [red]"))
        display.show(snapshot("top[/k] [red]"))
    assert "arm top[/k] [red]" in console.file.getvalue()


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_lines_that_cannot_be_written_do_not_stop_a_study() -> None:
    display = Lines(Console(file=Full()), every=0.0)
    display.show(snapshot("ReLU"))
    display.say("data: a note")

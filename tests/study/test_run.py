"""Studies from end to end: a contest and a map of another package, resuming, killing, bad maps."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_wine
from torch import Tensor

from softplace import Study
from softplace.errors import InputError
from softplace.report.page import render
from softplace.study.contests import places
from softplace.study.progress import Snapshot
from softplace.study.store import MemberRecord, Store

SCHEMA = {
    "place": str,
    "claim": str,
    "verdict": str,
    "sentence": str,
    "criterion": str,
    "measure": str,
    "estimate": float | int | None,
    "interval": list | None,
    "p": float | int | None,
    "n": int,
    "arms": list,
    "references": list,
    "contrasts": list,
}


class Recorder:
    def __init__(self) -> None:
        self.shown: list[Snapshot] = []

    def show(self, now: Snapshot) -> None:
        self.shown.append(now)

    def say(self, text: str) -> None:
        raise AssertionError(text)


@pytest.fixture
def another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution that adds the contest "toy" and the map "leaky" by entry points."""
    folder = tmp_path / "site"
    info = folder / "another-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: another\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[softplace.contests]\ntoy = toy_of_another:contest\n[softplace.maps]\nleaky = map_of_another:leaky\n"
    )
    source = Path(__file__).with_name("toy_contest.py").read_text(encoding="utf-8")
    (folder / "toy_of_another.py").write_text(source, encoding="utf-8")
    (folder / "map_of_another.py").write_text(
        "import torch\n\ndef leaky(scores, dim=-1):\n    return torch.where(scores > 0, scores, 0.1 * scores)\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    return folder


def members(folder: Path) -> list[MemberRecord]:
    with Store.read(folder) as store:
        return store.members()


def comparable(records: list[MemberRecord]) -> list[object]:
    return [(r.key, r.arm, r.seed, r.learning_rate, r.role, r.status, r.steps, r.metrics, r.curve) for r in records]


def test_a_contest_of_another_package_runs_and_resumes(another_package: Path, tmp_path: Path) -> None:
    assert places() == ("output", "hidden", "attention", "memory", "latent", "gate", "toy")
    out = tmp_path / "study"
    recorder = Recorder()
    result = Study("toy", seeds=6, out=out, workers=1, display=recorder).run()
    assert [verdict.place for verdict in result.verdicts] == ["toy"]
    first = members(out)
    assert {record.status for record in first} == {"done", "reached"}
    assert {record.role: record.seed % 2 for record in first} == {"tune": 0, "judge": 1}
    assert recorder.shown[-1].done == len(first) == recorder.shown[-1].planned
    assert "A figure of the contest" in (out / "page.html").read_text(encoding="utf-8")
    assert result.page(tmp_path / "other.html").read_text(encoding="utf-8") == render(result.report)
    assert len(result.frame()) == len(first)

    again = Recorder()
    Study("toy", seeds=6, out=out, workers=1, display=again).run()
    assert again.shown == []
    assert comparable(members(out)) == comparable(first)

    fresh = Recorder()
    Study("toy", seeds=6, out=out, workers=1, display=fresh, fresh=True).run()
    assert fresh.shown[-1].done == len(first)
    assert comparable(members(out)) == comparable(first)

    more = Recorder()
    Study("toy", seeds=8, out=out, workers=1, display=more).run()
    last = more.shown[-1]
    assert last.known >= 2 * 3 * 3  # arms, tuning seeds, rates: what chose the learning rate is not trained again
    assert last.known + last.done == last.planned
    assert len(members(out)) == len(first) + last.done


def test_the_numbers_do_not_depend_on_how_many_processes_train(another_package: Path, tmp_path: Path) -> None:
    Study("toy", seeds=6, out=tmp_path / "one", workers=1).run()
    Study("toy", seeds=6, out=tmp_path / "two", workers=2).run()
    assert comparable(members(tmp_path / "one")) == comparable(members(tmp_path / "two"))


def test_a_map_of_another_package_joins_the_hidden_contest(another_package: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    result = Study("hidden", maps=["leaky"], data=load_wine(return_X_y=True), seeds=4, out=out, workers=2).run()
    assert {row["arm"] for row in result.rows} == {"softmax", "leaky"}
    verdicts = json.loads((out / "verdicts.json").read_text(encoding="utf-8"))
    assert len(verdicts) == 14  # two of the sixteen need ReLU with batch normalisation
    for verdict in verdicts:
        assert list(verdict) == list(SCHEMA)
        assert all(isinstance(verdict[name], kind) for name, kind in SCHEMA.items())
        assert verdict["verdict"] in ("supported", "not supported", "opposite", "cannot tell")
        assert verdict["verdict"] == "cannot tell" or verdict["n"] >= 6  # two pairs can decide nothing
        low, high = verdict["interval"]
        assert low <= verdict["estimate"] <= high


@pytest.mark.slow
def test_a_study_that_is_killed_at_any_moment_ends_as_if_it_was_not(another_package: Path, tmp_path: Path) -> None:
    code = (
        "import sys, softplace; from sklearn.datasets import load_wine\n"
        "if __name__ == '__main__':\n"
        "    data = load_wine(return_X_y=True)\n"
        "    softplace.Study('hidden', maps=['tanh'], data=data, seeds=4, out=sys.argv[1]).run()\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(another_package)}

    def start(out: Path) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, script, out], env=environment, start_new_session=True)

    begin = time.monotonic()
    assert start(tmp_path / "whole").wait(timeout=300) == 0
    whole = time.monotonic() - begin
    source = random.Random(0)
    kills = 0
    for _ in range(30):
        process = start(tmp_path / "killed")
        try:
            code_of = process.wait(timeout=source.uniform(0.4, 0.9) * whole)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            time.sleep(0.2)
            continue
        assert code_of == 0
        break
    assert kills >= 1
    assert comparable(members(tmp_path / "killed")) == comparable(members(tmp_path / "whole"))


def _halved(scores: Tensor, dim: int = -1) -> Tensor:
    return scores.narrow(dim, 0, scores.shape[dim] // 2)


def _nan(scores: Tensor, dim: int = -1) -> Tensor:
    return scores / torch.zeros_like(scores) * 0.0


def _constant(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.ones_like(scores)


def _raising(scores: Tensor, dim: int = -1) -> Tensor:
    raise RuntimeError("no")


@pytest.mark.parametrize(
    ("map_", "said"),
    [(_halved, "shape"), (_nan, "finite"), (_constant, "differentiable"), (_raising, "RuntimeError: no")],
)
def test_a_map_that_cannot_be_trained_is_refused_before_anything_is_written(
    map_: object, said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        Study("hidden", maps=[map_], out=tmp_path / "study")  # type: ignore[list-item]
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "study").exists()

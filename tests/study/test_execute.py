"""Workers: one that is killed ends the study in one line, and none outlives the study."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from torch import Tensor

from softplace import Study
from softplace.errors import InputError
from softplace.study.contest import Arm, Options
from softplace.study.contests.hidden import contest
from softplace.study.data import load
from softplace.study.execute import Workers
from softplace.study.plan import Plan, shards
from softplace.study.progress import Snapshot
from softplace.study.store import Store


class Killer:
    """A display that kills one worker as soon as there are results."""

    def __init__(self) -> None:
        self.killed = False

    def show(self, now: Snapshot) -> None:
        if not self.killed and now.steps > 0:
            worker = multiprocessing.active_children()[0]  # and not another child: a browser, a resource tracker
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            self.killed = True

    def say(self, text: str) -> None:
        raise AssertionError(text)


@pytest.mark.filterwarnings("ignore:A worker stopped:UserWarning")
def test_a_killed_worker_ends_the_study_in_one_line_and_loses_nothing(tmp_path: Path) -> None:
    killer = Killer()
    study = Study("hidden", maps=["relu"], data="wine", seeds=4, workers=2, out=tmp_path, display=killer)
    with pytest.raises(InputError, match="run the same command again") as caught:
        study.run()
    assert killer.killed
    assert "\n" not in str(caught.value)
    with Store.read(tmp_path) as store:
        assert store.members()


@pytest.mark.parametrize("worked", [0.5, 3], ids=["while they import", "while they train"])
def test_workers_end_when_their_parent_is_killed(worked: float, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import softplace\n"
        "if __name__ == '__main__':\n"
        "    softplace.Study('hidden', data='wine', seeds=20, workers=2).run()\n"
    )
    parent = subprocess.Popen([sys.executable, script], env=os.environ | {"TMPDIR": str(tmp_path)})
    try:
        deadline = time.monotonic() + 60
        children: list[psutil.Process] = []
        while time.monotonic() < deadline and sum(each.cpu_times().user > worked for each in children) < 2:
            time.sleep(0.2)
            children = psutil.Process(parent.pid).children(recursive=True)
    finally:
        parent.send_signal(signal.SIGKILL)  # the parent alone, not its process group
        parent.wait()
    assert len(children) >= 2
    _, alive = psutil.wait_procs(children, timeout=60)  # a slow machine takes 20 s
    assert alive == []


class _FailsLater:
    """A map that works until it sees a whole batch."""

    __name__ = "late"

    def __call__(self, scores: Tensor, dim: int = -1) -> Tensor:
        if scores.shape[-1] > 100:
            raise RuntimeError("too many rows")
        return scores.relu()


def test_a_map_that_fails_in_training_is_named() -> None:
    options = Options(maps=(_FailsLater(),), table=load("digits"))
    late = contest(options)
    arm = next(each for each in late.arms if each.name == "late")
    assert isinstance(arm, Arm)
    plan = Plan(late, range(4), "cpu")
    shard = next(each for each in shards(plan.tune(late.tasks[0], [0.1]), {}, 8) if each.members[0].arm is arm)
    with Workers([late], 1, "cpu") as workers, pytest.raises(InputError, match=r"map 'late'.*too many rows"):
        workers.submit(shard, None)

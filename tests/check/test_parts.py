"""Parts of a project in processes: the same as in one, whatever happens to the processes. No axes."""

import os
import signal
from pathlib import Path

import pytest

from softplace.check.parts import Seen, can_fork, interpreted
from tests.check.test_engine import HEAD, report

WORK = [["a.py"], ["b.py", "c.py"], ["d.py"]]


def names(part: list[str]) -> Seen:
    return Seen([], dict.fromkeys(part, "read"))


def test_parts_come_back_in_their_order_from_any_number_of_processes() -> None:
    alone = interpreted(WORK, names, 1)
    assert [list(seen.troubles) for seen in alone] == WORK
    for jobs in (2, 3, 8):
        assert interpreted(WORK, names, jobs) == alone


def test_what_a_killed_or_failing_process_had_to_do_is_done_by_this_one() -> None:
    this = os.getpid()

    def killed(part: list[str]) -> Seen:
        if os.getpid() != this:
            os.kill(os.getpid(), signal.SIGKILL)
        return names(part)

    def failing(part: list[str]) -> Seen:
        if os.getpid() != this:
            raise MemoryError
        return names(part)

    for way in (killed, failing):
        assert interpreted(WORK, way, 2) == interpreted(WORK, names, 1)


def test_where_no_process_can_be_started_this_one_does_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", refused)
    assert interpreted(WORK, names, 3) == interpreted(WORK, names, 1)


def test_an_error_of_this_process_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    if not can_fork():
        pytest.skip("processes are not started here: of this system, or beside threads")
    started: list[int] = []
    this = os.getpid()

    def breaks(part: list[str]) -> Seen:
        if os.getpid() != this:
            signal.pause()
        raise KeyboardInterrupt

    real = os.fork

    def noted() -> int:
        found = real()
        if found:
            started.append(found)
        return found

    monkeypatch.setattr(os, "fork", noted)
    with pytest.raises(KeyboardInterrupt):
        interpreted(WORK, breaks, 2)
    assert len(started) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_methods_without_a_word_of_softmax_are_run_where_they_lead_to_one(tmp_path: Path) -> None:
    text = (
        HEAD
        + """
class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Softmax(dim=1)

    def through_an_attribute(self, x):
        return self.last(x)

    def scores(self, x):
        return x

    def step(self, x):
        '''A part of the loss.'''
        return torch.log(self.scores(x))


class Net(Base):
    def scores(self, x):
        return F.softmax(x, dim=1)

    def step(self, x):
        return super().step(x)
"""
    )
    (tmp_path / "code.py").write_text(text)
    lines = text.split("\n")
    found = report(tmp_path)
    calls = [lines[call.site.line - 1].strip() for softmax in found.softmaxes for call in softmax.calls]
    assert calls == ["return self.last(x)"]
    assert [lines[each.site.line - 1].strip() for each in found.findings] == ["return torch.log(self.scores(x))"]

"""A training: the same bits however often it is killed, stopped where it diverges, refusing what it cannot use."""

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from softplace.errors import InputError
from softplace.memory import tasks
from softplace.memory.checkpoint import load
from softplace.memory.progress import Snapshot
from softplace.memory.tasks import Episode, curriculum
from softplace.memory.tasks.algorithmic import Copy
from softplace.memory.tasks.curriculum import Linear
from softplace.memory.training import DivergenceError, TrainingResult, train
from softplace.progress import Silent
from softplace.training.checkpoint import CHECKPOINT, CONFIG
from softplace.training.folder import CURVE, EVALUATION, PAGE, TrainingFolder, read_curve

ROOT = Path(__file__).parents[2]
TINY: dict[str, Any] = {
    "batch": 2,
    "learning_rate": 1e-3,
    "hidden_size": 6,
    "slots": 8,
    "width": 4,
    "options": {"bits": 2, "length": (1, 3)},
    "curve_steps": 5,
    "evaluation_sequences": 2,
    "device": "cpu",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate on sequences that are but a little longer."""
    monkeypatch.setattr(Copy, "longer", property(lambda self: {"length 5": {"length": 5}}))


def tiny(out: Path, steps: int, model: str = "ntm", **changes: Any) -> TrainingResult:
    sizes = {name: value for name, value in TINY.items() if model != "lstm" or name not in ("slots", "width")}
    return train(model, "copy", out=out, steps=steps, **{**sizes, **changes})


def state(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / CHECKPOINT)


def timeless(folder: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in read_curve(folder)]


def evaluations(folder: Path) -> Any:
    return json.loads((folder / EVALUATION).read_text())["evaluations"]


def assert_equal(one: Path, other: Path) -> None:
    a, b = state(one), state(other)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert timeless(one) == timeless(other)
    assert evaluations(one) == evaluations(other)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


class Heard(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.shown: list[Snapshot] = []

    def show(self, now: Snapshot) -> None:
        self.shown.append(now)

    def say(self, text: str) -> None:
        self.said.append(text)


def test_a_training_leaves_everything_in_its_folder(tmp_path: Path) -> None:
    heard = Heard()
    result = tiny(tmp_path / "a", 12, display=heard)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {CONFIG, CHECKPOINT, CURVE, EVALUATION, PAGE}
    assert [row["step"] for row in result.curve] == [5, 10, 12]
    assert [row["sequences"] for row in result.curve] == [10, 20, 24]
    assert all(math.isfinite(value) for row in result.curve for value in row.values())
    assert [each.label for each in result.evaluations] == ["training range", "length 5"]
    assert {"bits", "wrong bits"} <= set(result.evaluations[0].measures)
    assert result.page == tmp_path / "a" / PAGE
    assert [each.step for each in heard.shown] == list(range(1, 13))
    config = json.loads((tmp_path / "a" / CONFIG).read_text())
    assert (config["model"], config["sizes"]["slots"], config["sizes"]["map"]) == ("ntm", 8, "softmax")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": "dnc"},
        {"model": "lstm", "optimizer": "adam"},
        {"map": "gumbel_softmax"},  # draws from PyTorch's own generator
        {"controller": "feedforward", "clip": None},
        {"curriculum": "mixed"},
    ],
)
def test_a_training_in_pieces_is_the_same_to_the_bit(changes: dict[str, Any], tmp_path: Path) -> None:
    tiny(tmp_path / "whole", 17, **changes)
    for steps in (4, 5, 12, 17):
        tiny(tmp_path / "pieces", steps, **changes)
    assert_equal(tmp_path / "whole", tmp_path / "pieces")


KILLED = """
import sys
from tests.memory.test_training import TINY
from softplace.memory.training import train
train("ntm", "copy", out=sys.argv[1], steps=10**6, checkpoint_seconds=0.02, **TINY)
"""


def changed(path: Path, before: bytes) -> bool:
    return path.exists() and path.read_bytes() != before


def wait_for(happened: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_training_killed_at_any_moment_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    out = tmp_path / "killed"
    for _ in range(2):
        before = (out / CHECKPOINT).read_bytes() if (out / CHECKPOINT).exists() else b""
        with subprocess.Popen([sys.executable, "-c", KILLED, str(out)], stderr=subprocess.PIPE, cwd=ROOT) as process:
            wait_for(partial(changed, out / CHECKPOINT, before), process)
            time.sleep(0.1)
            process.send_signal(signal.SIGKILL)
    with (out / CURVE).open("ab") as curve:
        curve.write(b'{"step": 1')  # as a killed process may leave it
    heard = Heard()
    steps = 5 * (read_curve(out)[-1]["step"] // 5 + 1) + 3
    tiny(out, steps, display=heard)
    assert heard.said[0].startswith("Goes on from step ")
    tiny(tmp_path / "whole", steps)
    assert_equal(tmp_path / "whole", out)


def test_a_polite_stop_loses_nothing(tmp_path: Path) -> None:
    class Impatient(Silent):
        def show(self, now: Snapshot) -> None:
            if now.step == 7:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        tiny(tmp_path / "stopped", 20, display=Impatient())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    heard = Heard()
    tiny(tmp_path / "stopped", 20, display=heard)
    assert heard.shown[0].step == 9  # the step that was under way was finished and kept
    tiny(tmp_path / "whole", 20)
    assert_equal(tmp_path / "whole", tmp_path / "stopped")


def test_a_finished_training_is_not_run_again(tmp_path: Path) -> None:
    first = tiny(tmp_path, 5)
    before = contents(tmp_path)
    heard = Heard()
    again = tiny(tmp_path, 5, display=heard)
    assert heard.shown == []
    assert contents(tmp_path) == before
    assert again.evaluations == first.evaluations
    assert again.step == 5


def test_a_lost_evaluation_is_made_again(tmp_path: Path) -> None:
    first = tiny(tmp_path, 5)
    (tmp_path / EVALUATION).write_text("{")
    assert tiny(tmp_path, 5).evaluations == first.evaluations
    assert evaluations(tmp_path)[0]["label"] == "training range"


def test_seeds_differ_and_equal_seeds_do_not(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        tiny(tmp_path / name, 5, seed=seed)
    assert_equal(tmp_path / "a", tmp_path / "b")
    assert timeless(tmp_path / "a") != timeless(tmp_path / "c")


def test_the_callers_random_numbers_and_switches_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    tiny(tmp_path, 2)
    load(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert float(torch.tensor(1e-40) * 1.0) > 0  # denormal numbers are numbers again


def test_what_is_loaded_answers_as_what_was_trained(tmp_path: Path) -> None:
    result = tiny(tmp_path, 5)
    net, config = load(tmp_path)
    assert config == result.config
    inputs = tasks.get("copy", **TINY["options"]).sample(3, torch.Generator().manual_seed(0)).inputs
    assert torch.equal(net(inputs)[0], result.net(inputs)[0])


def test_gradients_are_shortened_by_their_norm(tmp_path: Path) -> None:
    tiny(tmp_path / "short", 1, clip=0.25)
    averages = [value for name, value in state(tmp_path / "short").items() if name.endswith("/average")]
    # after one step the average is .05 of the gradient
    assert float(torch.cat([each.flatten() for each in averages]).norm()) == pytest.approx(0.05 * 0.25, rel=1e-4)
    assert read_curve(tmp_path / "short")[0]["clipped"] == 1.0
    tiny(tmp_path / "free", 1, clip=math.inf)
    row = read_curve(tmp_path / "free")[0]
    assert (row["clipped"], row["gradient_norm"] > 0.25) == (0.0, True)


def test_lessons_come_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[Any] = []
    good = Copy._draw

    def draw(task: Copy, batch: int, generator: torch.Generator) -> Episode:
        lengths.append(task.length)
        return good(task, batch, generator)

    monkeypatch.setattr(Copy, "_draw", draw)
    monkeypatch.setattr(curriculum, "get", lambda name: Linear(over=12))
    heard = Heard()
    tiny(tmp_path, 8, curriculum="linear", display=heard, evaluation_sequences=1)
    assert [most for _, most in lengths[:8]] == [1, 1, 2, 2, 3, 3, 3, 3]  # 12 sequences, 2 a step, 3 lessons
    assert [row["lesson"] for row in read_curve(tmp_path)] == [3, 3]
    assert heard.shown[0].lesson == "lesson 1 of 3"


def test_sequences_longer_than_the_memory_are_mentioned_once(tmp_path: Path) -> None:
    heard = Heard()
    tiny(tmp_path / "a", 5, slots=4, display=heard)
    assert sum("more steps" in text for text in heard.said) == 1
    heard = Heard()
    tiny(tmp_path / "b", 5, slots=12, display=heard)
    assert not any("more steps" in text for text in heard.said)


def test_a_divergence_is_recorded_and_leaves_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(tmp_path, 7)
    kept = (tmp_path / CHECKPOINT).read_bytes()
    good, calls = Copy.loss, iter(range(100))
    monkeypatch.setattr(Copy, "loss", lambda *given: good(*given) * (math.inf if next(calls) == 5 else 1.0))
    with pytest.raises(DivergenceError) as caught:
        tiny(tmp_path, 30, checkpoint_seconds=1e9)
    assert "got a loss of inf at step 13 with learning rate 0.001." in str(caught.value)
    assert "Use a smaller --learning-rate" in str(caught.value)
    assert (tmp_path / CHECKPOINT).read_bytes() == kept
    assert [row.get("diverged") for row in read_curve(tmp_path)] == [None, None, "a loss of inf"]
    monkeypatch.undo()
    tiny(tmp_path, 30)  # goes on from the checkpoint, without the line
    assert all("diverged" not in row for row in read_curve(tmp_path))


@pytest.mark.parametrize("learning_rate", [100.0, 1e38])
def test_a_learning_rate_that_diverges(learning_rate: float, tmp_path: Path) -> None:
    with pytest.raises(DivergenceError) as caught:
        tiny(tmp_path, 50, learning_rate=learning_rate)
    assert "There is no checkpoint yet" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "diverged" in read_curve(tmp_path)[-1]
    assert not (tmp_path / CHECKPOINT).exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "nmt"}, "Unknown model 'nmt'. Did you mean 'ntm'?"),
        ({"task": "copi"}, "Unknown task 'copi'. Did you mean 'copy'?"),
        ({"map": "sofmax"}, "Did you mean 'softmax'?"),
        ({"map": lambda scores, dim: scores}, "A map that is a function gets a name"),
        ({"optimizer": "sgd"}, "Unknown optimizer 'sgd'. Known: rmsprop, adam."),
        ({"device": "gpu"}, "Unknown device 'gpu'"),
        ({"steps": 0}, "'steps' must be a whole number from 1 to"),
        ({"steps": 2.5}, "Got 2.5"),
        ({"sequences": 5}, "'steps' and 'sequences' say the same thing"),
        ({"batch": 0}, "'batch' must be a whole number"),
        ({"learning_rate": 0.0}, "'learning_rate' must be a number above 0. Got 0.0."),
        ({"learning_rate": math.nan}, "Got nan."),
        ({"clip": -1.0}, "'clip' must be a number above 0. Got -1.0."),
        ({"seed": -1}, "'seed'"),
        ({"curriculum": "hard"}, "Unknown curriculum 'hard'."),
        ({"curriculum": "advance", "task": "n-grams", "options": {}}, "where a task has no lessons"),
        ({"segments": 0}, "'segments'"),
        ({"slots": 0}, "slots"),
        ({"slots": 10**30}, "at most 10,000,000"),
        ({"shots": 8}, "Model 'ntm' has no 'shots'. Did you mean 'slots'?"),
        ({"batch_first": True}, "Model 'ntm' has no 'batch_first'."),
        ({"model": "lstm"}, "Model 'lstm' has no 'slots'."),
        ({"controller": "gru"}, "gru"),
        ({"options": {"lenght": 3}}, "Task 'copy' has no option 'lenght'. Did you mean 'length'?"),
        ({"options": {"length": (3, 1)}}, "'length'"),
        ({"options": {"length": {1, 2}}}, "settings: expected numbers, names and lists"),
        ({"out": ""}, "'out' must be the path of a folder. Got ''"),
        ({"out": "a\0b"}, "'out' must be the path of a folder."),
        ({"curve_steps": 0}, "'curve_steps'"),
        ({"evaluation_sequences": 0}, "'evaluation_sequences'"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    given = {"model": "ntm", "task": "copy", "out": tmp_path / "a", "steps": 3, **TINY, **changes}
    with pytest.raises(InputError) as caught:
        train(given.pop("model"), given.pop("task"), **given)
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="expected a GPU"):
        tiny(tmp_path / "a", 1, device="cuda")


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)


def rewrite(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = path.read_bytes()
        assert old.encode() in content
        path.write_bytes(content.replace(old.encode(), new.encode()))

    return change


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        (CHECKPOINT, shorten, "Got a damaged one"),
        (CHECKPOINT, flip, "other numbers than were written"),
        (CHECKPOINT, lambda path: path.write_bytes(b""), "Got a damaged one"),
        (CHECKPOINT, lambda path: path.write_bytes(b"\xff" * 100), "Got a damaged one"),
        (CHECKPOINT, rewrite("softplace.memory 1", "softplace.memory 7"), "expected format 1. Got 7 of softplace"),
        (CHECKPOINT, rewrite("softplace.memory 1", "somebody else's 12"), "expected a file that softplace wrote"),
        (CONFIG, rewrite("softplace.memory 1", "softplace.memory 2"), "expected format 1. Got 2 of softplace"),
        (CONFIG, rewrite('"seed": 0', '"seed": 1'), "another seed (1 there, 0 here)"),
        (CONFIG, rewrite('"slots": 8', '"slots": 9'), "another slots (9 there, 8 here)"),
        (CONFIG, rewrite('"seed"', '"sead"'), "Differs in: sead, seed"),
        (CONFIG, lambda path: path.write_text("{"), "expected the settings of a training as JSON"),
        (CONFIG, lambda path: path.write_text("[]"), "expected a file that softplace wrote"),
        (CONFIG, lambda path: path.unlink(), "Got a file that is not of a training"),
        (CURVE, lambda path: path.write_bytes(b""), "bytes or more, as the checkpoint says. Got 0"),
    ],
)
def test_a_folder_that_cannot_be_gone_on_with_stays_as_it_is(
    name: str, damage: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    tiny(tmp_path, 6)
    damage(tmp_path / name)
    before = contents(tmp_path)
    with pytest.raises(InputError) as caught:
        tiny(tmp_path, 8)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_another_training_in_the_folder_stays_as_it_is_until_fresh(tmp_path: Path) -> None:
    tiny(tmp_path, 6)
    before = contents(tmp_path)
    with pytest.raises(InputError) as caught:
        tiny(tmp_path, 6, learning_rate=0.5, width=5)
    assert "another learning_rate (0.001 there, 0.5 here), another width (4 there, 5 here)" in str(caught.value)
    with pytest.raises(InputError, match="Got one of 6"):
        tiny(tmp_path, 3)
    assert contents(tmp_path) == before
    tiny(tmp_path, 3, seed=5, fresh=True)
    assert [row["step"] for row in read_curve(tmp_path)] == [3]
    assert load(tmp_path)[1].seed == 5


def test_fresh_forgets_a_damaged_checkpoint(tmp_path: Path) -> None:
    tiny(tmp_path / "a", 6)
    shorten(tmp_path / "a" / CHECKPOINT)
    tiny(tmp_path / "a", 6, fresh=True)
    tiny(tmp_path / "b", 6)
    assert_equal(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("name", [CONFIG, CHECKPOINT, CURVE, EVALUATION, PAGE])
@pytest.mark.parametrize("fresh", [False, True])
def test_somebody_elses_file_stays_as_it_is(name: str, fresh: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError):
        tiny(tmp_path, 2, fresh=fresh)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "mine"}


def test_other_files_in_the_folder_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    tiny(tmp_path, 2, fresh=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError) as caught:
            tiny(out, 2)
        assert "another --out" in str(caught.value)
    (tmp_path / "b" / PAGE).mkdir(parents=True)
    with pytest.raises(InputError, match="expected a file that can be written"):
        tiny(tmp_path / "b", 2)


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    config = tiny(tmp_path, 2).config
    with TrainingFolder.open(tmp_path, config, fresh=False), pytest.raises(InputError, match="a training runs in"):
        tiny(tmp_path, 4)
    tiny(tmp_path, 4)


def test_sizes_that_do_not_fit_into_memory_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes.\nMore")

    monkeypatch.setattr(Copy, "loss", fail)
    with pytest.raises(InputError, match="memory: expected sizes that fit"):
        tiny(tmp_path, 2)


@pytest.mark.slow
def test_short_copies_are_learnt(tmp_path: Path) -> None:
    result = train(
        "ntm", "copy", out=tmp_path, steps=2500, batch=16, learning_rate=5e-3, optimizer="adam", device="cpu",
        options={"bits": 3, "length": (1, 4)}, hidden_size=32, slots=16, width=8, evaluation_sequences=50,
    )  # fmt: skip
    first, last = result.curve[0]["loss"], result.curve[-1]["loss"]
    assert first > 3.0
    assert last < 0.5
    assert result.evaluations[0].measures["wrong bits"].mean < 0.1

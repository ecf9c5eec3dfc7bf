"""Training: that it goes on to the same bits, alone or by several processes, and refuses what it cannot use."""

import errno
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from softplace.attention import Transformer, _loop, training
from softplace.attention.config import TranslationConfig
from softplace.attention.training import DivergenceError, TranslationResult, summary
from softplace.attention.translator import load
from softplace.errors import InputError
from softplace.progress import Silent
from softplace.training.checkpoint import CHECKPOINT, CONFIG, Checkpoint, fit
from softplace.training.folder import CURVE, EVALUATION, MODEL, PAGE, TOKENS, read_curve
from tests.attention.small import shrink, small


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


class Stop(Silent):
    """A display that is where a training is killed."""

    def __init__(self, step: int) -> None:
        self.step = step

    def show(self, now: Any) -> None:
        if now.step == self.step:
            raise RuntimeError("killed")


def lines(folder: Path) -> list[dict[str, Any]]:
    """The curve without the times."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in read_curve(folder)]


def same(one: Path, other: Path) -> None:
    first, second = load(one).net.state_dict(), load(other).net.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert lines(one) == lines(other)
    assert [each.name for each in sorted(one.glob("snap*"))] == [each.name for each in sorted(other.glob("snap*"))]


@pytest.mark.parametrize("model", ["transformer", "rnnsearch"])
def test_a_training_that_was_killed_goes_on_to_the_same_bits(model: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"model": model, "dropout": 0.2}
    whole = small(tmp_path / "whole", **given)
    assert (whole.step, sorted(each["step"] for each in whole.curve)) == (8, [3, 4, 6, 8])
    for kill in (2, 7):  # before any checkpoint; and after one and a line of the curve
        with pytest.raises(RuntimeError, match="killed"):
            small(tmp_path / f"{kill}", display=Stop(kill), checkpoint_seconds=1e9, **given)
        small(tmp_path / f"{kill}", **given)
        same(tmp_path / "whole", tmp_path / f"{kill}")


def test_what_a_training_leaves_and_says(tmp_path: Path) -> None:
    result = small(tmp_path, model="rnnsearch", map="entmax15")
    names = {CONFIG, CHECKPOINT, CURVE, EVALUATION, PAGE, TOKENS, MODEL}
    snapshots = {"snapshot-00000004.safetensors", "snapshot-00000008.safetensors"}
    assert {each.name for each in tmp_path.iterdir()} == names | snapshots
    assert json.loads((tmp_path / EVALUATION).read_bytes()) == result.evaluation
    assert set(result.evaluation["validation_loss"]) == {"step 8", "step 4", "mean of steps 4 to 8"} or set(
        result.evaluation["validation_loss"]
    ) == {"step 8", "mean of steps 4 to 8"}
    best = min(result.evaluation["validation_loss"], key=result.evaluation["validation_loss"].get)
    assert result.evaluation["chosen"] == best
    text = summary(result)
    assert text.startswith("rnnsearch after 8 updates (")
    assert "Alignment error rate" in text
    assert text.endswith(str(tmp_path / PAGE))
    before = (tmp_path / EVALUATION).stat().st_mtime_ns
    again = small(tmp_path, model="rnnsearch", map="entmax15")
    assert (tmp_path / EVALUATION).stat().st_mtime_ns == before
    assert again.evaluation == result.evaluation


def test_a_kill_between_a_validation_and_its_checkpoint_loses_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"average": 1, "checkpoint_seconds": 1e6}
    small(tmp_path / "whole", steps=16, **given)
    keep = _loop.Loop._keep

    def killed(loop: _loop.Loop, folder: Any) -> None:
        if loop.step == 12:
            raise RuntimeError("killed")
        keep(loop, folder)

    with monkeypatch.context() as patch:
        patch.setattr(_loop.Loop, "_keep", killed)
        with pytest.raises(RuntimeError, match="killed"):
            small(tmp_path / "killed", steps=16, **given)
    shorter = small(Path(shutil.copytree(tmp_path / "killed", tmp_path / "shorter")), steps=10, **given)
    assert shorter.step == 10
    small(tmp_path / "killed", steps=16, **given)
    same(tmp_path / "killed", tmp_path / "whole")
    for path in (tmp_path / "killed").glob("snap*"):
        path.unlink()
    assert small(tmp_path / "killed", steps=18, **given).step == 18  # what somebody took away is not averaged


def test_tied_matrices_are_kept_once(tmp_path: Path) -> None:
    net = Transformer(source_words=9, target_words=9, width=8, heads=2, inner=8, tied="all")
    kept = Checkpoint.parameters(net, {})
    assert sum(each.numel() for each in kept.tensors.values()) == sum(each.numel() for each in net.parameters())
    other = Transformer(source_words=9, target_words=9, width=8, heads=2, inner=8, tied="all")
    fit(tmp_path, other, kept)
    other.load_state_dict(kept.part("net/"), strict=False)
    assert all(torch.equal(one, two) for one, two in zip(net.parameters(), other.parameters(), strict=True))


def test_the_mean_of_snapshots_is_their_mean(tmp_path: Path) -> None:
    result = small(tmp_path, steps=12, average=2, patience=None)
    config = result.config
    kept = [_loop.read_snapshot(tmp_path, config, step) for step in (8, 12)]
    if result.evaluation["chosen"] == "mean of steps 8 to 12":
        state = result.translator.net.state_dict()
        for name, value in state.items():
            torch.testing.assert_close(value, (kept[0][name] + kept[1][name]) / 2)
    losses = result.evaluation["validation_loss"]
    assert "mean of steps 8 to 12" in losses
    assert losses["step 12"] == pytest.approx(read_curve(tmp_path)[-1]["validation_loss"], abs=1e-6)


def test_accumulated_batches_are_one_large_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient is that of the mean over all words, not a mean of means."""
    seen = []
    original = torch._foreach_norm

    def spied(gradients: list[torch.Tensor]) -> Any:
        seen.append([each.clone() for each in gradients])
        return original(gradients)

    monkeypatch.setattr(torch, "_foreach_norm", spied)
    result = small(tmp_path, steps=1, accumulate=3, validate_steps=9, clip=None, learning_rate=1e-9, warmup=0)
    accumulated = seen[0]
    loop = _loop.Loop(
        result.translator.net,
        training.corpus.number_words(training.NUMBER_WORDS, 0, {"count": (1, 2), "digits": (1, 2)}),
        result.config,
        torch.device("cpu"),
        Silent(),
        1,
        _loop.Ranks(),
    )
    batches = [loop._next() for _ in range(3)]
    pairs = [corpus.pair(number) for corpus, numbers in batches for number in numbers]
    cost = _loop.Cost(result.translator.net, 0.0)
    loss, _ = cost(training.corpus.batch_of(pairs))
    words = sum(len(other) for _, other in pairs)
    whole = torch.autograd.grad(loss / words, list(result.translator.net.parameters()))
    for one, other in zip(accumulated, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    """torchrun with gloo: each process has every other batch; one process that accumulates two has all."""
    code = (
        "import sys, pytest\nfrom pathlib import Path\nimport torch\ntorch.set_num_threads(1)\n"
        "from tests.attention.small import shrink, small\nshrink(pytest.MonkeyPatch())\n"
        f"result = small(Path({str(tmp_path / 'two')!r}), dropout=0.2)\n"
        "print(result.step, result.translator.net.training, flush=True)\n"
    )
    (tmp_path / "run.py").write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(tmp_path / "run.py")], capture_output=True, text=True, env=environment, cwd=root, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(done.stdout.split()) == ["8", "8", "False", "False"]
    small(tmp_path / "one", dropout=0.2, accumulate=2)
    two, one = load(tmp_path / "two").net.state_dict(), load(tmp_path / "one").net.state_dict()
    for name in one:
        if not name.endswith("key_bias"):  # no score depends on it, so that its gradient is rounding
            torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)
    assert [row["words"] for row in lines(tmp_path / "two") if "words" in row] == [
        row["words"] for row in lines(tmp_path / "one") if "words" in row
    ]
    assert json.loads((tmp_path / "two" / CONFIG).read_bytes())["processes"] == 2


def test_patience_ends_a_training(tmp_path: Path) -> None:
    result = small(tmp_path, steps=40, validate_steps=2, patience=2, learning_rate=2.0, warmup=0, model="rnnsearch")
    losses = [row["validation_loss"] for row in result.curve if "validation_loss" in row]
    best = losses.index(min(losses))
    assert result.step < 40
    assert len(losses) == best + 3
    assert (
        small(tmp_path, steps=40, validate_steps=2, patience=2, learning_rate=2.0, warmup=0, model="rnnsearch").step
        == result.step
    )


def test_rates_by_hand(tmp_path: Path) -> None:
    config = small(tmp_path, steps=1, validate_steps=9).config
    changed = {**vars(config), "learning_rate": 0.1, "warmup": 4, "schedule": "noam"}
    noam = TranslationConfig(**changed)
    assert [noam.rate(step) for step in (1, 4, 16)] == pytest.approx([0.025, 0.1, 0.05])
    constant = TranslationConfig(**changed | {"schedule": "constant"})
    assert [constant.rate(step) for step in (1, 4, 16)] == pytest.approx([0.025, 0.1, 0.1])
    assert TranslationConfig(**changed | {"warmup": 0, "schedule": "constant"}).rate(1) == 0.1
    width, warmup = 512, 4000  # the paper's rate is ours with its own height
    paper = TranslationConfig(**changed | {"warmup": warmup, "learning_rate": (width * warmup) ** -0.5})
    for step in (1, 100, 4000, 90_000):
        assert paper.rate(step) == pytest.approx(width**-0.5 * min(step**-0.5, step * warmup**-1.5))


def test_files_bfloat16_and_a_test_of_its_own(tmp_path: Path) -> None:
    for name, start in (("a", "Satz"), ("b", "sentence")):
        (tmp_path / name).write_text("".join(f"{start} {number} .\n" for number in range(50)))
        (tmp_path / f"test.{name}").write_text(f"{start} 3 .\n{start} 99 .\n")
    given: dict[str, Any] = {
        "source": tmp_path / "a", "target": tmp_path / "b", "tokens": "characters", "precision": "bfloat16",
        "label_smoothing": 0.1, "test_source": tmp_path / "test.a", "test_target": tmp_path / "test.b",
    }  # fmt: skip
    result = small(tmp_path / "out", **given)
    assert result.evaluation["test"]["sentences"] == 2
    assert result.evaluation["alignment"] is None
    assert [each["label"] for each in result.evaluation["by_length"]] == ["1-5"]
    assert next(load(tmp_path / "out").net.parameters()).dtype == torch.float32
    again = small(tmp_path / "out", steps=10, **given)
    assert again.step == 10
    with (tmp_path / "a").open("a") as file:
        file.write("noch einer\n")
    with pytest.raises(InputError, match="must have as many lines"):
        small(tmp_path / "out", **given)
    with (tmp_path / "b").open("a") as file:
        file.write("one more\n")
    with pytest.raises(InputError, match=r"expected a training of the same settings\. Got another data's digest"):
        small(tmp_path / "out", **given)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(tmp_path, steps=4)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}

    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"Cannot write .*: No space left on device\. Free space"):
        small(tmp_path, steps=8)
    monkeypatch.undo()
    after = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert {name: after[name] for name in before if name != CURVE} == {
        name: before[name] for name in before if name != CURVE
    }
    assert set(after) == set(before)
    monkeypatch.undo()
    shrink(monkeypatch)
    assert small(tmp_path, steps=8).step == 8


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match=r"Training diverged: expected numbers that stay small, got a loss of"):
        small(tmp_path, learning_rate=1e30, warmup=0, clip=None, norm="post", validate_steps=99)
    assert "diverged" in lines(tmp_path)[-1]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"model": "transformers"}, "Unknown model 'transformers'. Did you mean 'transformer'"),
    "size": ({"hidden": 3}, "A transformer has no 'hidden'"),
    "heads": ({"heads": 3}, "'width' must be a multiple of 'heads'"),
    "map": ({"map": "sofmax"}, "Did you mean 'softmax'"),
    "schedule": ({"schedule": "cosine"}, "Unknown 'schedule' 'cosine'"),
    "precision": ({"precision": "half"}, "Unknown 'precision' 'half'"),
    "smoothing": ({"label_smoothing": 1.0}, r"'label_smoothing' must lie in \[0, 1\). Got 1.0"),
    "steps": ({"steps": 0}, "'steps' must be a whole number from 1"),
    "room": ({"room": 0}, "'room' must be a whole number from 1"),
    "rate": ({"learning_rate": -1.0}, "'learning_rate' must be a number above 0. Got -1.0"),
    "patience": ({"patience": 0}, "'patience' must be a whole number from 1"),
    "data": ({"data": "multi30k"}, "'data' must be number-words:SOURCE-TARGET"),
    "one file": ({"source": "a"}, "'source' and 'target' must come together"),
    "both": ({"data": "number-words:en-de", "source": "a", "target": "b"}, "exclude each other"),
    "no file": ({"source": "nowhere.de", "target": "nowhere.en"}, "'nowhere.de' must be a text file"),
    "one test file": ({"test_source": "a"}, "'test-source' is of files. Got 'a' and number words"),
    "tokens": ({"tokens": "words"}, "'tokens' is of files"),
    "separate": ({"shared": False}, "'separate' is of files"),
    "a function": ({"map": torch.softmax}, "'map' of a training must be a name"),
    "a row of one": ({"map": "topk_softmax"}, "'map' must take a row of one score"),
    "logarithms": ({"map": "log_softmax"}, "'map' must give weights"),
    "dropout": ({"dropout": 1.0}, r"'dropout' must lie in \[0, 1\). Got 1.0"),
    "no dropout": ({"dropout": math.nan}, r"'dropout' must lie in \[0, 1\). Got nan"),
    "no rnn dropout": ({"model": "rnnsearch", "dropout": -1.0}, r"'dropout' must lie in \[0, 1\). Got -1.0"),
    "too wide": ({"inner": 10**12}, "'inner' must be at most 100,000"),
    "accumulate": ({"accumulate": 10**12}, "'accumulate' must be a whole number from 1 to 10,000"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_leaves_no_trace(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        small(tmp_path / "out", **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def change(path: Path, old: str, new: str) -> None:
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode()))


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    done: TranslationResult = small(tmp_path / "done", steps=4)
    assert math.isfinite(done.evaluation["test"]["exact"])

    def copy(name: str) -> Path:
        return Path(shutil.copytree(tmp_path / "done", tmp_path / name))

    def refused(folder: Path, message: str, **given: Any) -> None:
        before = {each.name: each.read_bytes() for each in folder.iterdir()}
        with pytest.raises(InputError, match=message):
            small(folder, **given)
        assert {each.name: each.read_bytes() for each in folder.iterdir()} == before

    refused(tmp_path / "done", "Got another map \\('softmax' there, 'sparsemax' here\\)", map="sparsemax")
    refused(tmp_path / "done", "Got another data's count", options={"count": (1, 3), "digits": (1, 2)})
    change(copy("version") / CHECKPOINT, "softplace.attention 1", "softplace.attention 7")
    refused(tmp_path / "version", "expected format 1. Got 7 of softplace")
    change(copy("memory") / CONFIG, "softplace.attention 1", "softplace.memory 1")
    refused(tmp_path / "memory", "expected a file that softplace wrote")
    change(copy("tokens") / TOKENS, "softplace.attention 1", "softplace.attention 2")
    refused(tmp_path / "tokens", "expected vocabularies of format 1")
    content = (copy("damaged") / CHECKPOINT).read_bytes()
    (tmp_path / "damaged" / CHECKPOINT).write_bytes(content[: len(content) // 2])
    refused(tmp_path / "damaged", "expected a whole checkpoint. Got a damaged one")
    shutil.copy(copy("model") / MODEL, tmp_path / "model" / CHECKPOINT)
    refused(tmp_path / "model", "Got a damaged one: a file of another kind")
    change(copy("sizes") / CONFIG, '"sizes": {', '"sizes": "x", "more": {')
    refused(tmp_path / "sizes", "expected exactly the settings of a training")
    refused(copy("bad"), r"'dropout' must lie in", fresh=True, dropout=1.0)
    fresh = small(tmp_path / "damaged", steps=4, fresh=True, map="sparsemax")
    assert fresh.config.sizes["map"] == "sparsemax"

"""`softplace train latent`: that it goes on to the same bits, says what it measured, and refuses what it cannot use."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softplace.errors import InputError
from softplace.latent import training
from softplace.latent.training import DivergenceError, LatentResult, load, summary, train
from softplace.progress import Silent
from softplace.training.checkpoint import CHECKPOINT, CONFIG
from softplace.training.folder import EVALUATION, PAGE, read_curve
from tests.command import Command


def small(out: Path, **given: Any) -> LatentResult:
    usual: dict[str, Any] = {
        "out": out, "variables": 2, "classes": 3, "hidden": (8,), "steps": 12, "batch": 20, "validate_steps": 4,
        "curve_steps": 3, "checkpoint_seconds": 1e6, "device": "cpu",
    }  # fmt: skip
    return train(**usual | given)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "BOUNDS", (1, 10))


class Stop(Silent):
    """A display that is where a training is killed."""

    def __init__(self, step: int) -> None:
        self.step = step

    def show(self, now: Any) -> None:
        if now.step == self.step:
            raise RuntimeError("killed")


def lines(folder: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in read_curve(folder)]


@pytest.mark.parametrize("given", [
    {"estimator": "gumbel-softmax", "anneal_rate": 1e-2},
    {"estimator": "reinforce", "binarised": "sampled"},
    {"estimator": "nvil", "free_bits": 0.1},
    {"estimator": "relax"},
    {"estimator": "rebar", "clip": 1.0},
    {"estimator": "marginalise-sparsemax", "learned_prior": True},
    {"model": "predictor", "estimator": "disarm", "hidden": (200,)},
], ids=lambda given: given["estimator"])  # fmt: skip
def test_a_training_that_was_killed_goes_on_to_the_same_bits(given: dict[str, Any], tmp_path: Path) -> None:
    whole = small(tmp_path / "whole", **given)
    with pytest.raises(RuntimeError, match="killed"):
        small(tmp_path / "killed", **given, display=Stop(7), checkpoint_seconds=1e-9)
    small(tmp_path / "killed", **given)
    one, other = (load(tmp_path / name)[0].state_dict() for name in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert lines(tmp_path / "whole") == lines(tmp_path / "killed")
    assert (whole.step, whole.evaluation["images"]) == (12, 180)
    longer = small(tmp_path / "killed", **given | {"steps": 14})
    assert longer.step == 14
    with pytest.raises(InputError, match="expected a training of at most 12 steps"):
        small(tmp_path / "killed", **given)


def test_what_was_measured_is_said_and_written(tmp_path: Path) -> None:
    result = small(tmp_path, estimator="marginalise")
    found = json.loads((tmp_path / EVALUATION).read_bytes())
    assert found == result.evaluation
    bounds = found["bounds"]
    assert bounds["1"] < bounds["10"] < found["log_likelihood"] + 0.05
    assert found["configurations"] == 9
    assert 1.0 <= found["perplexity"] <= 3.0
    text = summary(result)
    assert f"10 samples {bounds['10']:.5g}" in text
    assert f"by all 9 configurations: {found['log_likelihood']:.5g}" in text
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "Categorical autoencoder" in page
    assert "softplace train latent --model vae --estimator marginalise" in page
    net, config = load(tmp_path)
    assert (config.estimator, config.sizes["classes"]) == ("marginalise", 3)
    assert torch.equal(net.state_dict()["encoder.0.weight"], result.net.state_dict()["encoder.0.weight"])


def test_learning_raises_the_bound(tmp_path: Path) -> None:
    result = small(tmp_path, estimator="marginalise", steps=300, learning_rate=1e-2, batch=50, variables=3)
    validated = [row["validation_bound"] for row in result.curve if "validation_bound" in row]
    assert validated[0] < -35
    assert validated[-1] > -26


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"model": "vea"}, "Unknown 'model' 'vea'. Did you mean 'vae'"),
    "estimator": ({"estimator": "gumbel"}, "Did you mean 'gumbel-softmax'"),
    "binarised": ({"binarised": "fix"}, "Unknown 'binarised' 'fix'. Did you mean 'fixed'"),
    "data": ({"data": "mnist"}, "Unknown data 'mnist'"),
    "classes": ({"classes": 0}, "'classes' must be a whole number from 1"),
    "too many": (
        {"estimator": "marginalise", "variables": 20, "classes": 10},
        r"'estimator' marginalise looks at all classes\*\*variables configurations, at most 4,096\. Got 10\*\*20",
    ),
    "samples": ({"estimator": "reinforce-leave-one-out", "samples": 1}, "must be 2 or more. Got 1"),
    "temperature": ({"temperature": 0.0}, "'temperature' must be a number above 0. Got 0.0"),
    "no temperature": ({"estimator": "disarm", "temperature": 1.0}, "are none of disarm's"),
    "rate": ({"anneal_rate": math.nan}, "'anneal_rate' must be a number from 0. Got nan"),
    "free bits": ({"free_bits": -1.0}, "'free_bits' must be a number from 0. Got -1.0"),
    "free predictor": ({"model": "predictor", "free_bits": 1.0}, "'free_bits' are of the vae"),
    "batch": ({"batch": 5000}, "'batch' must be a whole number from 1 to 1,438. Got 5000"),
    "too much": (
        {"samples": 100_000, "batch": 200},
        "'samples' and 'batch' must give at most 268,435,456 numbers a step",
    ),
    "steps": ({"steps": 0}, "'steps' must be a whole number from 1"),
    "learning rate": ({"learning_rate": -1.0}, "'learning_rate' must be a number above 0. Got -1.0"),
    "hidden": ({"hidden": (0,)}, "'hidden' must be a whole number from 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_leaves_no_trace(name: str, tmp_path: Path) -> None:
    given, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        small(tmp_path / "out", **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match="Training diverged: expected finite numbers"):
        small(tmp_path, learning_rate=1e30)
    assert "diverged" in lines(tmp_path)[-1]


def test_folders_of_others(tmp_path: Path) -> None:
    small(tmp_path / "a")
    with pytest.raises(InputError, match=r"Got another estimator \('gumbel-softmax' there, 'disarm' here\)"):
        small(tmp_path / "a", estimator="disarm")
    content = (tmp_path / "a" / CHECKPOINT).read_bytes()
    (tmp_path / "a" / CHECKPOINT).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="expected a whole checkpoint"):
        small(tmp_path / "a", steps=14)
    with pytest.raises(InputError, match="expected a whole checkpoint"):
        load(tmp_path / "a")
    with pytest.raises(InputError, match=r"expected the folder of a training\. Got one without config\.json"):
        load(tmp_path)
    assert small(tmp_path / "a", fresh=True, estimator="disarm").config.estimator == "disarm"
    (tmp_path / "a" / CONFIG).unlink()
    with pytest.raises(InputError, match=r"without config\.json"):
        load(tmp_path / "a")


def test_the_command(command: Command, tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", x=np.random.default_rng(0).integers(0, 2, (60, 4, 4)).astype(np.uint8) * 255)
    sizes = (
        "--variables",
        "2",
        "--classes",
        "3",
        "--hidden",
        "8,6",
        "--steps",
        "4",
        "--batch",
        "10",
        "--device",
        "cpu",
    )
    done = command("train", "latent", "--data", "images.npz", "--out", "a", *sizes)
    assert done.code == 0
    assert "vae by gumbel-softmax after 4 steps" in done.out
    assert (tmp_path / "a" / PAGE).exists()
    done = command(
        "train", "latent", "--model", "predictor", "--estimator", "arsm", "--out", "b", *sizes[:4], *sizes[6:]
    )
    assert "predictor by arsm after 4 steps" in done.out
    for arguments, said in (
        (["--hidden", "8,x"], "'hidden' must be whole numbers with commas between. Got '8,x'"),
        (["--estimator", "disram"], "Did you mean 'disarm'"),
        (["--data", "nowhere.npz"], "expected an NPZ file of numbers. Got 'No such file or directory'"),
    ):
        assert said in command.refused("train", "latent", "--out", "c", *sizes, *arguments)
        assert not (tmp_path / "c").exists()

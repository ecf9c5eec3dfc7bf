"""`softplace train memory`: what it says, and how it refuses."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import Command

TINY = ("train", "memory", "--model", "ntm", "--task", "copy", "--option", "bits=2", "--option", "length=[1, 2]",
        "--batch", "2", "--hidden", "4", "--slots", "150", "--width", "3", "--device", "cpu")  # fmt: skip


def test_help_names_the_options_and_does_not_import_torch() -> None:
    code = (
        "import sys; from softplace.cli import app\n"
        "try: app(['train', 'memory', '--help'], standalone_mode=False)\n"
        "finally: sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    for option in ("--model", "--task", "--map", "--steps", "--sequences", "--learning-rate", "--clip", "--slots",
                   "--read-heads", "--write-heads", "--data", "--fresh", "--out", "--device"):  # fmt: skip
        assert option in done.stdout


def test_a_training_from_start_to_page_and_on(command: Command, tmp_path: Path) -> None:
    first = command(*TINY, "--steps", "3")
    assert (first.code, first.err.count("more steps")) == (0, 1), first.err
    lines = first.out.splitlines()
    assert lines[0] == "ntm on copy after 3 steps (6 sequences), mean and standard error of a sequence:"
    assert lines[1].startswith("training range (200): bits ")
    assert lines[-1] == f"Page: {tmp_path / 'trainings' / 'memory-ntm-copy' / 'page.html'}"
    again = command(*TINY, "--sequences", "7")
    assert again.code == 0
    assert "Goes on from step 3 of 4" in again.err
    folder = tmp_path / "trainings" / "memory-ntm-copy"
    assert json.loads((folder / "evaluation.json").read_text())["step"] == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "nmt"], "Did you mean 'ntm'?"),
        (["--task", "copi"], "Did you mean 'copy'?"),
        (["--map", "sofmax"], "Did you mean 'softmax'?"),
        (["--steps", "0"], "'steps' must be a whole number from 1"),
        (["--steps", "abc"], "--steps abc. See"),
        (["--steps", "5", "--sequences", "5"], "say the same thing"),
        (["--learning-rate", "nan"], "'learning_rate' must be a number above 0. Got nan."),
        (["--clip", "0"], "'clip' must be a number above 0. Got 0.0."),
        (["--links", "dense"], "Model 'ntm' has no 'links'."),
        (["--option", "length"], "'option' must be NAME=VALUE"),
        (["--option", "lenght=2"], "Did you mean 'length'?"),
        (["--data", "nowhere"], "'data'"),
        (["--task", "babi", "--data", "nowhere"], "nowhere"),
        (["--device", "gpu"], "Known: auto, cpu, cuda"),
        (["--out", ""], "'out' must be the path of a folder. Got ''"),
        (["--bogus"], "No such option: --bogus"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(
    arguments: list[str], said: str, command: Command, tmp_path: Path
) -> None:
    assert said in command.refused("train", "memory", "--model", "ntm", "--task", "copy", "--out", "a", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_divergence_ends_with_one_line_and_code_2(command: Command, tmp_path: Path) -> None:
    done = command(*TINY, "--slots", "5", "--steps", "9", "--learning-rate", "1e38", "--out", "a")
    assert (done.code, done.out) == (2, "")
    last = done.err.splitlines()[-1]
    assert last.startswith("softplace: Training diverged: expected numbers that stay small, got ")
    assert "diverged" in (tmp_path / "a" / "curve.jsonl").read_text()


def test_ctrl_c_keeps_what_was_done(tmp_path: Path) -> None:
    out = tmp_path / "a"
    with subprocess.Popen(
        [sys.executable, "-m", "softplace", *TINY, "--steps", "1000000", "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        end = time.monotonic() + 60
        while not (out / "curve.jsonl").exists() or not (out / "curve.jsonl").stat().st_size:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("Stopped. Nothing that was finished is lost")
    assert (out / "checkpoint.safetensors").exists()

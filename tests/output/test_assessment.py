"""`softplace calibrate`: measured on rows left out, said in the terminal, as JSON and on a page."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from softplace import output, probes
from softplace.errors import InputError
from softplace.output._bootstrap import RESAMPLES, _interval, measures
from softplace.output.assessment import FITS, FOLDS, assess
from softplace.output.isotonic import parts_of
from softplace.randomness import generator
from tests.command import Command
from tests.conftest import Open, axe
from tests.output.test_calibration import sample

CLASSES = ("cat", "dog", "<owl>")


def write(path: Path, logits: Tensor, labels: Tensor) -> None:
    rows = [",".join(CLASSES) + ",label"]
    rows += [
        ",".join(map(repr, row)) + "," + CLASSES[label]
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def test_each_part_is_measured_by_what_was_fitted_on_others() -> None:
    logits, labels = sample(400, 3)
    found = assess(logits, labels, fit="vector", seed=5)
    part = parts_of(labels, FOLDS, generator(5, "parts"))
    after = torch.empty_like(logits)
    for each in range(FOLDS):
        used = (part != each) & (part != (each + 1) % FOLDS)
        after[part == each] = output.fit_vector(logits[used], labels[used])(logits[part == each])
    expected = {
        "accuracy": (probes.accuracy(logits, labels), probes.accuracy(after, labels)),
        "likelihood loss": [probes.negative_log_likelihood(each, labels) for each in (logits, after)],
        "Brier score": [probes.brier_score(torch.softmax(each, -1), labels) for each in (logits, after)],
        "calibration error": [
            probes.expected_calibration_error(torch.softmax(each, -1), labels) for each in (logits, after)
        ],
    }
    for measure in found.measures[:4]:
        before, then = (float(each) for each in expected[measure.name])
        assert (measure.before, measure.after) == (pytest.approx(before, rel=1e-12), pytest.approx(then, rel=1e-12))
        assert measure.change == pytest.approx(then - before, abs=1e-14)
    assert found.tests[1].error.item() == pytest.approx(found.measures[3].after, rel=1e-12)
    whole = output.fit_vector(logits, labels)
    assert isinstance(found.calibrator, output.VectorScaling)
    torch.testing.assert_close(found.calibrator.weight, whole.weight)


@pytest.mark.parametrize("fit", FITS)
def test_too_sure_scores_are_mended(fit: str) -> None:
    logits, labels = sample(1500, 3)
    penalty = 0.01 if fit in ("matrix", "dirichlet") else None
    found = assess(logits, labels, fit=fit, penalty=penalty)
    _, loss, brier, error, root = found.measures
    assert found.tests[0].p_value.item() < 0.002
    assert brier.change_interval is not None
    assert brier.change_interval[1] < 0
    assert error.after < error.before
    assert root.before_interval is not None
    assert root.before_interval[0] > root.after
    assert (loss.after_interval is None) == (not math.isfinite(loss.after))
    assert [each.score for each in found.sets] == ["lac", "aps", "raps"]
    for each in found.sets:
        # 4 standard deviations of the coverage of 1,500 rows with thresholds of 300
        assert abs(each.coverage - 0.9) < 4 * math.sqrt(0.09 / 1500 + 0.09 / 1500)
        assert each.worst <= each.coverage


def test_all_is_decided_by_the_seed() -> None:
    logits, labels = sample(200, 3)
    one, same, other = (assess(logits, labels, seed=seed) for seed in (3, 3, 4))
    assert one.measures == same.measures != other.measures
    assert one.sets == same.sets


def test_too_few_rows_for_sets_are_said() -> None:
    logits, labels = sample(60, 3)
    found = assess(logits, labels, alpha=0.05)
    assert found.sets == ()
    assert found.notes == ("no prediction sets: alpha = 0.05 needs 95 rows, 19 in each part",)
    logits, labels = sample(95, 3)
    assert len(assess(logits, labels, alpha=0.05).sets) == 3


def test_intervals_are_those_of_the_normal_law_for_means() -> None:
    logits, labels = sample(3000, 3)
    before = torch.log_softmax(logits, -1)
    found = measures(before, torch.log_softmax(logits / 2.5, -1), labels, 15, generator(0))
    losses = -before.gather(-1, labels[:, None])[:, 0]
    spread = 1.959964 * float(losses.std()) / math.sqrt(3000)
    low, high = found[1].before_interval or (0.0, 0.0)
    assert low == pytest.approx(float(losses.mean()) - spread, abs=0.2 * spread)
    assert high == pytest.approx(float(losses.mean()) + spread, abs=0.2 * spread)


@pytest.mark.parametrize("scale", [1.0, 1.7])
def test_the_interval_of_the_rms_error_covers_it(scale: float) -> None:
    """The true error within 15 bins is known by 400 times as many rows."""
    logits, labels = sample(400 * 500, 3, scale=scale)
    options = {"binning": "width", "debiased": True}
    truth = math.sqrt(max(0.0, float(probes.squared_calibration_error(logits.softmax(-1), labels, **options))))
    inside = 0
    for run in range(60):
        rows = slice(500 * run, 500 * (run + 1))
        logarithms = logits[rows].log_softmax(-1)
        found = measures(logarithms, logarithms, labels[rows], 15, generator(run))[4]
        low, high = found.before_interval or (1.0, 0.0)
        inside += low <= truth <= high
        probe = float(probes.squared_calibration_error(logits[rows].softmax(-1), labels[rows], **options))
        # The probe takes the noise of frequencies at fixed probabilities, this one that of rows drawn anew.
        assert found.before**2 == pytest.approx(max(0.0, probe), abs=3e-4)
    assert inside / 60 > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 60)


def test_an_interval_is_turned_about_the_estimate() -> None:
    errors = torch.linspace(-0.1, 0.3, RESAMPLES + 1, dtype=torch.float64)
    assert _interval(0.3, errors, 0.0, 1.0) == pytest.approx((0.01, 0.39), abs=1e-6)
    assert _interval(0.2, errors, 0.0, 1.0)[0] == 0.0


def test_the_command_says_it(command: Command, tmp_path: Path) -> None:
    logits, labels = sample(300, 3)
    write(tmp_path / "scores.csv", logits, labels)
    done = command("calibrate", "scores.csv")
    assert (done.code, done.err) == (0, "")
    assert "300 rows, 3 classes, logits" in done.out
    temperature = output.fit_temperature(logits, labels).temperature
    assert f"Divide the logits by a temperature of {temperature:.6g}: the classifier was too sure." in done.out
    assert "LAC (smallest)" in done.out
    assert max(map(len, done.out.splitlines())) <= 120
    told = json.loads(command("calibrate", "scores.csv", "--json").out)
    assert told["parameters"]["temperature"] == pytest.approx(temperature, rel=1e-12)
    assert told["classes"] == [*CLASSES]
    assert f"{told['measures'][3]['before']:.4f}" in done.out
    few = command("calibrate", "scores.csv", "--alpha", "0.001")
    assert "Note: no prediction sets: alpha = 0.001 needs 4,995 rows" in few.out
    assert "sets of classes" not in few.out


@pytest.mark.parametrize("fit", ["vector", "dirichlet", "isotonic"])
def test_json_has_the_parameters(command: Command, tmp_path: Path, fit: str) -> None:
    logits, labels = sample(300, 3)
    np.savez(tmp_path / "scores.npz", logits=logits.numpy(), labels=labels.numpy())
    told: dict[str, Any] = json.loads(command("calibrate", "scores.npz", "--fit", fit, "--json").out)
    if fit == "isotonic":
        assert len(told["parameters"]["steps"]) == 3
        assert told["measures"][1]["after"] is None or told["measures"][1]["after"] > 0
    else:
        assert np.shape(told["parameters"]["weight"]) == ((3,) if fit == "vector" else (3, 3))
    assert (told["penalty"] is None) == (fit != "dirichlet")


def test_the_command_refuses_in_one_line(command: Command, tmp_path: Path) -> None:
    logits, labels = sample(100, 3)
    write(tmp_path / "good.csv", logits, labels)
    write(tmp_path / "right.csv", logits, logits.argmax(-1))
    write(tmp_path / "few.csv", logits[:20], labels[:20])
    write(tmp_path / "rare.csv", logits, torch.tensor([0] * 50 + [1] * 2 + [2] * 48))
    (tmp_path / "bad.csv").write_text("a,b,label\n1,nan,0\n")
    (tmp_path / "page").write_text("")
    for words, says in (
        (("bad.csv",), "row 2 (the header is row 1), column 'b': expected a number, got nan"),
        (("no.csv",), "expected a file of scores, got no file"),
        (("right.csv",), "all right, of which the temperature runs to 0"),
        (("right.csv", "--fit", "vector"), "must not separate the classes"),
        (("rare.csv", "--fit", "vector"), "needs 3 rows of every class, so that each fit has some. Got 2 of class 1"),
        (("few.csv",), "Expected 25 rows or more, as they are cut into 5 parts. Got 20"),
        (("good.csv", "--fit", "vectro"), "Unknown calibrator 'vectro'. Did you mean 'vector'"),
        (("good.csv", "--alpha", "90"), "'alpha' must be between 0 and 1. Got 90"),
        (("good.csv", "--bins", "0"), "'bins' must be from 1 to 1000. Got 0"),
        (("good.csv", "--penalty", "1"), "'penalty' is of matrix and dirichlet. Got 1.0 with temperature"),
        (("good.csv", "--fit", "matrix", "--penalty", "-1"), "must be a finite number of at least 0. Got -1.0"),
        (("good.csv", "--kind", "probabilities"), "expected a probability from 0 to 1"),
        (("good.csv", "--classes", "cat"), "expected a label that is"),
        (("good.csv", "--out", "page/a.html"), "Cannot write"),
        (("good.csv", "--out", ""), "'out' must be the path of a page or of a folder"),
        ((), "Missing argument"),
    ):
        assert says in command.refused("calibrate", *words)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calibrate") / "page.html"


def test_the_page(command: Command, page_file: Path, tmp_path: Path, open_page: Open) -> None:
    write(tmp_path / "scores.csv", *sample(400, 3))
    done = command("calibrate", "scores.csv", "--fit", "vector", "--seed", "7", "--out", str(page_file))
    assert done.out.endswith(f"Page: {page_file}\n")
    text = page_file.read_text(encoding="utf-8")
    assert "softplace calibrate scores.csv --fit vector --alpha 0.1 --bins 15 --seed 7 --out " in text
    folder = command("calibrate", "scores.csv", "--out", "found")
    assert f"Page: {tmp_path / 'found' / 'calibration.html'}" in folder.out
    assert "<owl>" not in text
    page = open_page(bypass_csp=True)
    assert page.locator("figure svg").count() >= 7
    assert page.locator("h1").inner_text() == "Calibration of scores.csv"
    assert axe(page) == []


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; from softplace.cli import app\n"
        "try: app(['calibrate', '--help'], standalone_mode=False)\n"
        "finally: sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--alpha" in done.stdout


def test_unknown_options_are_refused_before_anything_is_fitted() -> None:
    logits, labels = sample(100, 3)
    with pytest.raises(InputError, match="Unknown calibrator"):
        assess(logits, labels, fit="platt")

"""Cross-entropy with a shared vocabulary: two processes of gloo against one without any, 11 classes as 6 and 5."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from softplace import maps
from softplace.output import (
    linear_cross_entropy,
    vocabulary_parallel_cross_entropy,
    vocabulary_parallel_linear_cross_entropy,
    vocabulary_part,
)
from tests.output.vocabulary_process import CASES, V, graded, parts

PROCESSES = 2


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process has computed."""
    folder = tmp_path_factory.mktemp("processes")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.output.vocabulary_process"]
    root = Path(__file__).parents[2]
    running = [
        subprocess.Popen([*command, str(rank), str(PROCESSES), str(folder)], env=environment, cwd=root)
        for rank in range(PROCESSES)
    ]
    try:
        assert [each.wait(120) for each in running] == [0] * PROCESSES
    finally:
        for each in running:
            each.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


def compare(found: list[dict[str, Any]], name: str, expected: list[Tensor], shared: int, **close: float) -> None:
    """The first `shared` results are the same on all processes, the rest are parts along the classes' axis."""
    for number, whole in enumerate(expected):
        each = [results[name][number] for results in found]
        if number < shared:
            for one in each:
                torch.testing.assert_close(one, whole, **close)
        else:
            axis = -1 if name.startswith("scores") else 0
            torch.testing.assert_close(torch.cat(each, axis), whole, **close)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_losses_and_gradients(found: list[dict[str, Any]], case: tuple[float, float, float | None, str]) -> None:
    smoothing, z_loss, cap, reduction = case
    options: dict[str, Any] = {"label_smoothing": smoothing, "z_loss": z_loss, "reduction": reduction}
    hidden, weight, bias, target = parts()
    leaves = [each.requires_grad_() for each in (hidden, weight, bias)]
    logits = linear(*leaves)
    logits.retain_grad()
    capped = logits if cap is None else cap * torch.tanh(logits / cap)
    loss = maps.cross_entropy(capped, target, label_smoothing=smoothing, reduction=reduction)
    squares = z_loss * torch.where(target != -100, capped.logsumexp(-1), 0.0).square()
    number = (target != -100).sum()
    loss = loss + {"none": squares, "sum": squares.sum(), "mean": squares.sum() / number}[reduction]
    compare(found, f"head {options} {cap}", graded(loss, leaves), 2, rtol=0, atol=1e-12)
    if cap is None:
        scores = linear(*leaves).detach().requires_grad_()
        loss = maps.cross_entropy(scores, target, label_smoothing=smoothing, reduction=reduction)
        squares = z_loss * torch.where(target != -100, scores.logsumexp(-1), 0.0).square()
        loss = loss + {"none": squares, "sum": squares.sum(), "mean": squares.sum() / number}[reduction]
        compare(found, f"scores {options}", graded(loss, [scores]), 1, rtol=0, atol=1e-12)


def test_half_precision_is_summed_in_float32(found: list[dict[str, Any]]) -> None:
    hidden, weight, bias, target = parts(torch.bfloat16)
    leaves = [each.requires_grad_() for each in (hidden, weight, bias)]
    expected = graded(linear_cross_entropy(*leaves[:2], target, leaves[2]), leaves)
    assert [each.dtype for each in found[0]["bfloat16"]] == [each.dtype for each in expected]
    compare(found, "bfloat16", expected, 2, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("name", ["ignored", "empty", "ignored scores", "empty scores"])
def test_nothing_that_counts_is_zero(found: list[dict[str, Any]], name: str) -> None:
    for results in found:
        assert all(not each.any() for each in results[name])


def test_bad_numbers(found: list[dict[str, Any]]) -> None:
    """A class without probability on one process, and a NaN."""
    hidden, weight, bias, target = parts()
    bias[0], hidden[1, 1] = -torch.inf, torch.nan
    expected = maps.cross_entropy(linear(hidden, weight, bias), target, reduction="none")
    for results in found:
        for each in results["bad numbers"]:
            torch.testing.assert_close(each, expected, equal_nan=True)


def test_an_infinite_loss_has_the_gradient_of_one_process(found: list[dict[str, Any]]) -> None:
    hidden, weight, bias, target = parts()
    bias[0], target[1, 0] = -torch.inf, 0
    leaves = [each.requires_grad_() for each in (hidden, weight)]
    loss = maps.cross_entropy(linear(*leaves, bias), target)
    compare(found, "infinite", graded(loss, leaves), 2, rtol=0, atol=1e-12)
    scores = linear(*leaves, bias).detach().requires_grad_()
    compare(found, "scores infinite", graded(maps.cross_entropy(scores, target), [scores]), 1, rtol=0, atol=1e-12)


def test_errors_are_the_same_on_all_processes(found: list[dict[str, Any]]) -> None:
    head, scores = "vocabulary_parallel_linear_cross_entropy", "vocabulary_parallel_cross_entropy"
    said = {
        "range": f"ValueError: 'target' of {head} must hold class indices in [0, 10]. Got",
        "range of scores": f"ValueError: 'target' of {scores} must hold class indices in [0, 10]. Got",
        "soft": f"ValueError: 'target' of {scores} must have the shape",
        "no class": f"ValueError: Each process of {head} must hold a class or more. Got none on rank 1, of 11 on 2",
        "shape": f"ValueError: 'target' of {head} must have the shape (2, 7)",
    }
    for name, start in said.items():
        texts = [results[name] for results in found]
        assert all(text.startswith(start) for text in texts), texts


@pytest.mark.parametrize(("classes", "processes"), [(11, 2), (12, 4), (5, 5), (7, 1), (128256, 24)])
def test_parts_cover_the_vocabulary_evenly(classes: int, processes: int) -> None:
    ranges = [vocabulary_part(classes, processes, rank) for rank in range(processes)]
    assert [each for one in ranges for each in one] == list(range(classes))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


def test_bad_calls() -> None:
    with pytest.raises(ValueError, match=r"'processes' of vocabulary_part must lie in \[1, 3\].* Got 4"):
        vocabulary_part(3, 4, 0)
    with pytest.raises(ValueError, match=r"'rank' of vocabulary_part must lie in \[0, 1\]\. Got 2"):
        vocabulary_part(3, 2, 2)
    with pytest.raises(TypeError, match=r"'processes' of vocabulary_part must be a whole number\. Got float"):
        vocabulary_part(5, 2.5, 0)  # type: ignore[arg-type]
    target = torch.zeros(2, dtype=torch.long)
    with pytest.raises(RuntimeError, match=r"needs torch\.distributed\. It is not initialised\. Call"):
        vocabulary_parallel_cross_entropy(torch.zeros(2, V), target)
    with pytest.raises(RuntimeError, match="or use linear_cross_entropy in one process"):
        vocabulary_parallel_linear_cross_entropy(torch.zeros(2, 3), torch.zeros(V, 3), target)

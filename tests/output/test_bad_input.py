"""Losses, samplers, calibrators and `softplace calibrate` with what no one should give them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.output import (
    LogUniform,
    Unigram,
    balanced_tree,
    candidate_softmax,
    fit_isotonic,
    fit_temperature,
    fit_vector,
    frequency_groups,
    grouped,
    hierarchical_softmax,
    linear_cross_entropy,
    nce,
    sampled_softmax,
)
from tests.command import Command

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
CLASSES = 8
LOSSES: dict[str, Loss] = {
    "hierarchical": lambda h, w, y: hierarchical_softmax(h, w[1:], y, balanced_tree(CLASSES)),
    "sampled": lambda h, w, y: sampled_softmax(h, w, y, LogUniform(CLASSES), 4, generator=seeded()),
    "candidates": lambda h, w, y: candidate_softmax(h, w, y, torch.arange(4)),
    "nce": lambda h, w, y: nce(h, w, y, LogUniform(CLASSES), 4, generator=seeded()),
}


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_ignored_reaches_no_gradient(loss: Loss, bad: float) -> None:
    source = seeded()
    hidden, weight = (torch.randn(rows, 3, generator=source, dtype=torch.float64) for rows in (5, CLASSES))
    target = torch.tensor([1, -100, 7, 0, -100])
    kept = target >= 0
    expected = torch.autograd.grad(
        loss(clean := hidden[kept].requires_grad_(), w := weight.requires_grad_(), target[kept]), (clean, w)
    )
    spoilt = torch.where(kept[:, None], hidden.detach(), bad).requires_grad_()
    found = torch.autograd.grad(loss(spoilt, weight, target), (spoilt, weight))
    torch.testing.assert_close(found[0][kept], expected[0])
    torch.testing.assert_close(found[1], expected[1])
    assert not found[0][~kept].any()


@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_powers_of_counts_of_any_size(size: float) -> None:
    counts = size * torch.tensor([1.0, 3.0, 0.0], dtype=torch.float64)
    found = Unigram(counts, power=2.0)
    torch.testing.assert_close(found.log_prob(torch.arange(3)).exp(), torch.tensor([0.1, 0.9, 0.0]))
    assert set(found.draw(100, generator=seeded()).tolist()) == {0, 1}


def test_a_group_far_beyond_the_classes_takes_no_memory() -> None:
    with pytest.raises(InputError, match=r"'group' must leave no group empty. Got none of group 1, of 10000000001"):
        grouped(torch.tensor([0, 10**10]))


BAD = (-1.0, float("nan"), float("inf"))


def test_groups_of_shares_are_those_of_counts() -> None:
    counts = torch.tensor([10.0, 20.0, 10.0, 5.0])
    assert frequency_groups(counts / 100, 2).tolist() == frequency_groups(counts, 2).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("counts", [torch.ones(1, 2), torch.tensor([True]), [], "12", *([1.0, bad] for bad in BAD)])
def test_counts_of_groups_that_are_no_counts(counts: Any) -> None:
    with pytest.raises(InputError, match=r"'counts' must be one or more finite numbers that are not negative"):
        frequency_groups(counts, 1)


def test_a_soft_cap_beyond_float32() -> None:
    with pytest.raises(
        ValueError, match=r"'soft_cap' of linear_cross_entropy must be positive and finite. Got 1e\+300"
    ):
        linear_cross_entropy(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), soft_cap=1e300)


def rows(seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    logits = torch.randn(200, 3, generator=source, dtype=torch.float64)
    return 3 * logits, torch.multinomial(torch.softmax(logits, -1), 1, generator=source)[:, 0]


@pytest.mark.parametrize("size", [1e-300, 1e-150, 1e140])
def test_a_temperature_of_any_size(size: float) -> None:
    logits, labels = rows()
    usual, found = fit_temperature(logits, labels), fit_temperature(size * logits, labels)
    assert found.temperature == pytest.approx(size * usual.temperature, rel=1e-9)
    assert found.loss == pytest.approx(usual.loss, rel=1e-12)


@pytest.mark.parametrize("fit", [fit_temperature, fit_vector, fit_isotonic])
def test_logits_too_large_to_square(fit: Callable[..., object]) -> None:
    logits, labels = rows()
    logits[7, 2] = -1e300
    with pytest.raises(InputError, match=r"numbers whose squares a computer can hold. Got -1e\+300 in row 7, class 2"):
        fit(logits, labels)


def scores(folder: Path, name: str = "scores.csv", label: str = "1,-inf,2,3") -> str:
    logits, labels = rows()
    lines = [
        f"{y},{','.join(f'{each:.6f}' for each in row)}"
        for row, y in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    (folder / name).write_text("\n".join(["label,0,1,2", *lines, label, ""]))
    return name


def test_a_page_never_takes_the_place_of_the_scores(command: Command, tmp_path: Path) -> None:
    name = scores(tmp_path)
    before = (tmp_path / name).read_bytes()
    assert "Cannot write 'scores.csv/calibration.html'" in command.refused("calibrate", name, "--out", name)
    assert (tmp_path / name).read_bytes() == before
    assert "'out' must be the path of a page or of a folder" in command.refused("calibrate", name, "--out", "")
    done = command("calibrate", name, "--out", "pages")
    assert done.code == 0
    assert (tmp_path / "pages" / "calibration.html").read_text().startswith("<!doctype html>")


def test_classes_named_twice(command: Command, tmp_path: Path) -> None:
    said = command.refused("calibrate", scores(tmp_path), "--classes", "0,0,1,2")
    assert "expected different columns of scores, got '0' twice" in said


def test_the_row_of_a_file_whose_label_is_excluded(command: Command, tmp_path: Path) -> None:
    said = command.refused("calibrate", scores(tmp_path, label="0,-inf,2,3"))
    assert "row 202 (the header is row 1): expected a logit of the label that is a number, got -inf" in said


def test_numbers_with_underscores(command: Command, tmp_path: Path) -> None:
    said = command.refused("calibrate", scores(tmp_path, label="0,1_0,2,3"))
    assert "row 202 (the header is row 1), column '0': expected a number, got '1_0'" in said


def test_a_single_array_with_the_name_of_many(command: Command, tmp_path: Path) -> None:
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.zeros((30, 3)))
    assert "expected an NPZ file, got a single array" in command.refused("calibrate", "one.npz")
    np.savez(tmp_path / "none.npz", logits=np.zeros((30, 0)), labels=np.zeros(30, int))
    assert "expected a class or more, got none" in command.refused("calibrate", "none.npz")


def test_penalties_by_their_own_name(command: Command, tmp_path: Path) -> None:
    said = command.refused("calibrate", scores(tmp_path), "--fit", "matrix", "--penalty", "-1")
    assert "'penalty' must be a finite number of at least 0. Got -1.0." in said

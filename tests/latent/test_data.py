"""Images: which rows are in which part, and files that cannot be used."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softplace.errors import InputError
from softplace.latent.data import binarise, load


def test_digits_are_scikit_learns() -> None:
    found = load("digits")
    assert [len(part) for part in (found.train, found.validation, found.test)] == [1438, 179, 180]
    assert found.shape == (8, 8)
    from sklearn.datasets import load_digits

    whole = torch.from_numpy(load_digits().images.reshape(-1, 64) / 16).float()
    assert torch.equal(torch.cat([found.train, found.validation, found.test]).sum(0), whole.sum(0))
    assert found.digest == load("digits").digest


def test_files_of_every_form(tmp_path: Path) -> None:
    whole = np.random.default_rng(0).integers(0, 256, (20, 3, 4), dtype=np.uint8)
    np.savez(tmp_path / "bytes.npz", x=whole)
    np.savez_compressed(tmp_path / "floats.npz", images=whole.reshape(20, 12) / 255.0)
    np.savez(tmp_path / "whole.npz", arr_0=whole.astype(np.int32))
    one, other, third = (load(tmp_path / name) for name in ("bytes.npz", "floats.npz", "whole.npz"))
    assert (one.shape, other.shape) == ((3, 4), (1, 12))
    torch.testing.assert_close(one.train, other.train)
    torch.testing.assert_close(third.train * whole.max() / 255, one.train)
    np.savez(tmp_path / "split.npz", x_train=whole, x_test=whole[:10])
    split = load(tmp_path / "split.npz")
    assert [len(part) for part in (split.train, split.validation, split.test)] == [18, 2, 10]
    torch.testing.assert_close(split.test, torch.from_numpy(whole[:10].reshape(10, 12) / 255.0).float())


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"y": np.zeros((20, 4))}, "expected an array named x, X, x_train"),
        ({"x": np.zeros(20)}, "expected 10 images or more"),
        ({"x": np.zeros((3, 4))}, "expected 10 images or more, (rows, pixels) or (rows, height, width). Got (3, 4)"),
        ({"x": np.full((20, 4), "a")}, "expected numbers"),
        ({"x": np.full((20, 4), 2.0)}, "expected pixels from 0 to 1. Got from 2 to 2"),
        ({"x": -np.ones((20, 4), dtype=np.int64)}, "expected pixels of 0 or more. Got -1"),
        ({"x": np.where(np.arange(80).reshape(20, 4) == 9, np.nan, 0.5)}, "Got nan in row 2 (the first is row 0)"),
        (
            {"x_train": np.zeros((20, 4)), "x_test": np.zeros((20, 5))},
            "test images: expected (4,) pixels each. Got (5,)",
        ),
    ],
)
def test_arrays_that_are_no_images_are_named(arrays: dict[str, Any], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError) as caught:
        load(tmp_path / "a.npz")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"no zip")
    (tmp_path / "b.npz").mkdir()
    np.savez(tmp_path / "c.npz", x=np.array([{}] * 20, dtype=object))
    for name in ("a.npz", "b.npz", "c.npz", "nowhere.npz"):
        with pytest.raises(InputError, match="expected an NPZ file of numbers"):
            load(tmp_path / name)
    with pytest.raises(InputError, match=r"Unknown data 'digit'\. Did you mean 'digits'"):
        load("digit")


def test_pixels_become_0_and_1() -> None:
    pixels = torch.tensor([0.0, 0.5, 0.51, 1.0])
    draw = torch.Generator().manual_seed(0)
    assert binarise(pixels, "fixed", draw).tolist() == [0.0, 0.0, 1.0, 1.0]
    assert binarise(pixels, "none", draw) is pixels
    sampled = torch.stack([binarise(pixels, "sampled", draw) for _ in range(2000)])
    assert set(sampled.flatten().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(sampled.mean(0), pixels, rtol=0, atol=0.05)

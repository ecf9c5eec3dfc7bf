"""Images as rows of pixels from 0 to 1, for networks with Bernoulli pixels: scikit-learn's digits, or an NPZ file.

Axis legend: R rows, D pixels.
"""

import hashlib
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softplace.errors import InputError, nearest
from softplace.randomness import generator

BINARISED = ("fixed", "sampled", "none")
_ARRAYS = ("x", "X", "x_train", "images", "data", "arr_0")
_PARTS = (0.8, 0.9)  # training up to here, validation up to there, then test


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """Rows of pixels, float32 from 0 to 1, and their parts.

    Args:
        train, validation, test: (R, D) each.
        shape: Of one image, height and width; (1, D) where the file does not say.
        digest: SHA-256 of all pixels.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    shape: tuple[int, int]
    digest: str


def load(data: str | os.PathLike[str] = "digits") -> Images:
    """The images of a name or of a file, in parts of 80, 10 and 10 %, drawn once for all seeds.

    Args:
        data: "digits" (1,797 of 8 x 8 pixels, with scikit-learn), or an .npz file with an array (R, D) or (R, height,
            width) named x, X, x_train, images or data; of several the first in this order. With an array of the same
            name and `test` for `train` (x_test), that is the test part. Whole numbers are divided by 255 where they are
            uint8, else by the largest; others must be from 0 to 1.

    Raises:
        InputError: No such name or file, a damaged file, other shapes, NaN, infinity, pixels beyond 0 and 1.
    """
    if os.fspath(data) == "digits":
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]

        return in_parts(load_digits().images / 16.0, None)
    path = Path(data)
    if path.suffix.lower() != ".npz":
        raise InputError(f"Unknown data {str(data)!r}. {nearest(str(data), ('digits', 'a path that ends in .npz'))}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            name = next((each for each in _ARRAYS if each in arrays), None)
            if name is None:
                raise InputError(
                    f"{str(path)!r}: expected an array named {', '.join(_ARRAYS)}. Got {', '.join(arrays) or 'none'}. "
                    "Save it by numpy.savez(path, x=images)."
                )
            other = name.replace("train", "test") if "train" in name else ""
            whole = arrays[name]
            test = arrays[other] if other and other in arrays else None
    except InputError:
        raise
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())[:120]
        raise InputError(f"{str(path)!r}: expected an NPZ file of numbers. Got '{reason}'.") from error
    return in_parts(_from_0_to_1(whole, path, name), None if test is None else _from_0_to_1(test, path, other))


def binarise(pixels: Tensor, how: str, draw: torch.Generator) -> Tensor:
    """Pixels of 0 and 1: "fixed" (above 1/2), "sampled" (Bernoulli with the pixel as its mean), or "none"."""
    if how == "fixed":
        return (pixels > 0.5).to(pixels.dtype)
    if how == "sampled":
        return torch.bernoulli(pixels, generator=draw)
    return pixels


def _from_0_to_1(values: np.ndarray, path: Path, name: str) -> np.ndarray:
    where = f"{str(path)!r}, array {name!r}"
    if values.ndim not in (2, 3) or values.shape[0] < 10 or min(values.shape[1:]) < 1:
        raise InputError(
            f"{where}: expected 10 images or more, (rows, pixels) or (rows, height, width). Got {values.shape}."
        )
    if values.dtype.kind not in "buif":
        raise InputError(f"{where}: expected numbers. Got {values.dtype}.")
    if values.dtype.kind in "bui":
        most = 255 if values.dtype == np.uint8 else max(1, int(values.max()))
        if values.dtype.kind == "i" and values.min() < 0:
            raise InputError(f"{where}: expected pixels of 0 or more. Got {values.min()}.")
        return values.astype(np.float64) / most
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.argwhere(bad)[0][0])
        raise InputError(f"{where}: expected finite pixels. Got {values[bad][0]} in row {row} (the first is row 0).")
    if values.min() < 0 or values.max() > 1:
        raise InputError(
            f"{where}: expected pixels from 0 to 1. Got from {values.min():g} to {values.max():g}. "
            "Divide by the largest, or save them as uint8."
        )
    return values.astype(np.float64)


def in_parts(whole: np.ndarray, test: np.ndarray | None = None) -> Images:
    """The images (rows, height, width) or (rows, pixels), from 0 to 1, in the parts of `load`."""
    shape = tuple(whole.shape[1:]) if whole.ndim == 3 else (1, whole.shape[1])
    rows = torch.from_numpy(whole.reshape(len(whole), -1)).float()
    rows = rows[torch.randperm(len(rows), generator=generator(0, "parts of images"))]
    first, second = (round(each * len(rows)) for each in _PARTS)
    if test is None:
        left = rows[second:]
    else:
        if test.shape[1:] != whole.shape[1:]:
            raise InputError(f"test images: expected {whole.shape[1:]} pixels each. Got {test.shape[1:]}.")
        left, first, second = torch.from_numpy(test.reshape(len(test), -1)).float(), second, len(rows)
    digest = hashlib.sha256(rows.numpy().tobytes() + left.numpy().tobytes()).hexdigest()
    return Images(
        train=rows[:first], validation=rows[first:second], test=left, shape=(shape[0], shape[1]), digest=digest
    )

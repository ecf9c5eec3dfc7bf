"""What the battery for every map is made of: names, options, scores, the reference, and when a result agrees with it.

A map that is added to OWN is tested by all of it without a line here, but for options of its own (`OPTIONS`). Axis
legend: unless a test says otherwise, rows lie along the last axis.

gumbel_softmax is random: `call` gives it a freshly seeded generator, so that what every map keeps to (shapes, dtypes,
layouts, gradients) is tested of it as of any other. Instead of its values, its law is tested.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace import maps
from softplace.maps._reference import REFERENCE
from softplace.maps.registry import entry

RANDOM = "gumbel_softmax"
NAMES = tuple(maps.OWN)
REPEATABLE = tuple(name for name in NAMES if name != RANDOM)
# Compared with the reference beside the defaults.
OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "softmax1": ({"sink": -1.5}, {"sink": 3.0}),
    "entmax": tuple({"alpha": alpha} for alpha in (1, 1.0001, 1.25, 1.75, 2.0, 2.5)),
    "normmax": ({"alpha": 1.5}, {"alpha": 5.0}),
    "topk_softmax": ({"k": 1}, {"k": 4}),
    "k_subset": ({"k": 1}, {"k": 4}),
    "taylor_softmax": ({"order": 4},),
    "sigmoid": ({"bias": -0.7}, {"bias": "-log n"}),
}
# The loop for sinkhorn cannot go on for ever: this many steps are compared, and the limit in a test of its own.
DEFAULTS = {"sinkhorn": {"iterations": 10}}
CASES = [(name, options) for name in REPEATABLE for options in (DEFAULTS.get(name, {}), *OPTIONS.get(name, ()))]
every_map = pytest.mark.parametrize("name", NAMES)
every_repeatable_map = pytest.mark.parametrize("name", REPEATABLE)
every_case = pytest.mark.parametrize(
    ("name", "options"),
    CASES,
    ids=["-".join([name, *(f"{key}={value}" for key, value in options.items())]) for name, options in CASES],
)

DOUBLE, SINGLE, HALVES = torch.float64, torch.float32, (torch.bfloat16, torch.float16)
# PyTorch's forward mode and compiler use parts of PyTorch that warn of their end.
forward_mode = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
every_dtype = pytest.mark.parametrize("dtype", [DOUBLE, SINGLE, *HALVES], ids=str)
SIZES = (1, 2, 3, 5, 10, 15, 16, 17, 31, 64, 65, 127, 128, 129, 1000)
INF, NAN = math.inf, math.nan
# Rows that hold what is no number, beside a good one that they must leave alone.
BAD_ROWS = [
    [0.5, 1.0, -0.7, 2.0, 0.1],
    [1.0, NAN, 2.0, -1.0, 0.3],
    [INF, 1.0, 2.0, -1.0, 0.3],
    [INF, 1.0, INF, -1.0, INF],
    [INF] * 5,
    [-INF, 1.0, 2.0, -1.0, 0.3],
    [-INF, -INF, -INF, -INF, 0.3],
    [-INF] * 5,
    [-INF, INF, 0.0, -1.0, 0.3],
    [NAN, INF, -INF, 0.0, 0.3],
    [NAN] * 5,
]


def normal(*shape: int, seed: int = 0, scale: float = 1.0, dtype: torch.dtype = DOUBLE) -> Tensor:
    return (scale * torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))).to(dtype)


def least(dtype: torch.dtype) -> float:
    """The smallest positive number, subnormal."""
    return torch.finfo(dtype).tiny * torch.finfo(dtype).eps


def call(name: str, scores: Tensor, dim: int = -1, **options: Any) -> Tensor:
    """The map, with what it needs beside its defaults to be called on any scores."""
    options = dict(options)
    if name == RANDOM and "generator" not in options:
        options["generator"] = torch.Generator().manual_seed(5)
    if name == "sinkhorn":  # its other axis: the last, or the one before
        options.setdefault("other_dim", -2 if dim % scores.dim() == scores.dim() - 1 else -1)
    if name in ("topk_softmax", "k_subset"):
        default = inspect.signature(maps.OWN[name]).parameters["k"].default
        options["k"] = min(options.get("k", default), scores.shape[dim] if scores.dim() else 1)
    return maps.OWN[name](scores, dim, **options)


def usual(name: str) -> Callable[[Tensor], Tensor]:
    return lambda scores: call(name, scores)


def exact(name: str, scores: Tensor, dim: int = -1, mask: Tensor | None = None, **options: Any) -> Tensor:
    """What the reference makes of these numbers, in float64."""
    part = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask.expand(scores.shape)
    axes = (-1,) if name != "sinkhorn" else (-2, -1)
    moved = (dim,) if name != "sinkhorn" else (-2 if dim % scores.dim() == scores.dim() - 1 else -1, dim)
    values, parts = scores.double().movedim(moved, axes), part.movedim(moved, axes)
    shape = values.shape
    rows, parts = (
        values.reshape(-1, *shape[len(shape) - len(axes) :]),
        parts.reshape(-1, *shape[len(shape) - len(axes) :]),
    )
    found = [
        REFERENCE[name](row.tolist(), mask=takes.tolist(), **options) for row, takes in zip(rows, parts, strict=True)
    ]
    return torch.tensor(found, dtype=DOUBLE).reshape(shape).movedim(axes, moved)


# What rounding cannot but do to a weight p is p (1 + |log p|) in units of the last place, as differences of scores are
# rounded before the exponential; and this beside it, where weights near 0 are differences of larger numbers.
ONE = dict.fromkeys(("log_softmax", "sparsemax", "entmax15", "entmax", "normmax", "k_subset"), 1.0)
OF_SCORE = {"gelu": 0.25, "solu": 1.0, "periodic": 1.0}
UNIT = {DOUBLE: 2e-14, SINGLE: 4 * 2.0**-23, torch.bfloat16: 1e-5, torch.float16: 4 * 2.0**-23}


def agree(
    name: str,
    got: Tensor,
    want: Tensor,
    scores: Tensor,
    temperature: float = 1.0,
    note: object = "",
    alpha: float = 1.5,
) -> None:
    """`got` is `want` within a few units in the last place; a half precision within one rounding of it."""
    size = want.abs()
    logarithm = torch.where((size > 0) & (size < INF), size, 1.0).log().abs()
    floor = ONE.get(name, 0.0) + OF_SCORE.get(name, 0.0) * scores.double().abs().clamp(max=1e6) / temperature
    if name in ("entmax", "normmax") and alpha > 2:  # a power below 1 is steep where its base is near 0
        floor = torch.maximum(size, torch.tensor(UNIT[got.dtype]) ** (1 / (alpha - 1))) ** (2 - alpha)
        if scores.dim():  # and what one weight gains the others of its row lose
            floor = torch.maximum(floor, torch.where(size > 0, floor, 0.0).amax(-1, keepdim=True))
    if name == "sinkhorn":  # every step rounds potentials, which are as large as the differences of the scores
        logarithm = logarithm + 4 * (scores.double().amax() - scores.double().amin()).clamp(max=1e6) / temperature
    if name == "periodic":  # few sines may all be small, and their sum is a divisor
        sines = (
            (scores.double() / temperature + math.pi / 4).sin().square().sum(-1 if scores.dim() else (), keepdim=True)
        )
        floor = (floor + 1.0) / sines.sqrt().clamp(max=1.0)
    bound = UNIT[got.dtype] * (size * (1 + logarithm) + floor)
    if got.dtype in HALVES:
        bound = bound + torch.finfo(got.dtype).eps / 2 * size
    # Below the normal numbers a result may become 0, but in float16, where those are not small.
    bound = bound + (least(got.dtype) / 2 if got.dtype == torch.float16 else torch.finfo(got.dtype).tiny)
    rounded, result = want.to(got.dtype).double(), got.double()
    fine = (result == rounded) | (result.isnan() & want.isnan()) | ((result - want).abs() <= bound)
    if not bool(fine.all()):
        at = tuple((~fine).nonzero()[0].tolist())
        raise AssertionError(
            f"{name} {note}: {int((~fine).sum())} of {fine.numel()} wrong, first at {at}: got {result[at].item()!r}, "
            f"expected {want[at].item()!r}, bound {bound.expand(want.shape)[at].item():.3g}"
        )


def alpha_of(options: dict[str, Any]) -> dict[str, float]:
    return {"alpha": options["alpha"]} if "alpha" in options else {}


def claims(name: str, word: str) -> bool:
    return bool(getattr(entry(name), word))


def sums_to_one(weights: Tensor, dim: int = -1) -> None:
    """Within what rounding each of the weights once can do to their sum."""
    number = torch.finfo(weights.dtype)
    slack = number.eps / 2 * 1.02 if weights.dtype in HALVES else 16 * number.eps
    slack += least(weights.dtype) / 2 * weights.shape[dim] if weights.dtype in HALVES else 0.0
    assert (weights.double().sum(dim) - 1).abs().max() <= slack
    assert (weights >= 0).all()
    assert (weights <= 1).all()

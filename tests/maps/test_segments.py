"""Segment maps against the maps of each row, with gaps, masks, bad numbers and every transform."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace.maps import segments, simplex, sparse

INF, NAN = math.inf, math.nan
# PyTorch's forward mode uses a part of PyTorch that warns of its end.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
PAIRS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "softmax": (segments.segment_softmax, simplex.softmax),
    "sparsemax": (segments.segment_sparsemax, sparse.sparsemax),
}
every_pair = pytest.mark.parametrize("name", PAIRS)
# Out of order, of sizes 1 to 4, and 3 is empty.
INDEX = torch.tensor([2, 0, 1, 2, 5, 0, 2, 4, 2, 4])


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def row_by_row(name: str, scores: Tensor, index: Tensor, mask: Tensor | None = None, **options: Any) -> Tensor:
    weights = torch.zeros_like(scores)
    for segment in index.unique():
        rows = index == segment
        weights[rows] = PAIRS[name][1](scores[rows], 0, mask=None if mask is None else mask[rows], **options)
    return weights


@every_pair
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 4)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_each_segment_is_a_row(name: str, shape: tuple[int, ...], scale: float) -> None:
    scores = normal(10, *shape, scale=scale)
    mask = normal(10, *shape, seed=1) > -0.5
    for each in (None, mask):
        got = PAIRS[name][0](scores, INDEX, mask=each, temperature=0.5)
        torch.testing.assert_close(got, row_by_row(name, scores, INDEX, each, temperature=0.5), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(PAIRS[name][0](scores, INDEX.int(), 9), row_by_row(name, scores, INDEX))


@every_pair
def test_many_segments_of_all_sizes(name: str) -> None:
    index = torch.randint(0, 300, (5000,), generator=torch.Generator().manual_seed(2)).square() // 300
    scores = normal(5000, seed=3, scale=2.0)
    torch.testing.assert_close(PAIRS[name][0](scores, index), row_by_row(name, scores, index), rtol=1e-12, atol=1e-14)


@every_pair
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype_is_kept_and_right_within_its_precision(name: str, dtype: torch.dtype) -> None:
    scores = normal(10, 3).to(dtype)
    got = PAIRS[name][0](scores, INDEX)
    assert got.dtype == dtype
    torch.testing.assert_close(
        got.double(), row_by_row(name, scores.double(), INDEX), rtol=0, atol=torch.finfo(dtype).eps
    )


@every_pair
def test_bad_numbers_stay_in_their_segment(name: str) -> None:
    scores = torch.tensor([INF, 1.0, NAN, 0.0, -INF, 2.0, INF, -INF, 3.0, -INF], requires_grad=True)
    index = torch.tensor([0, 0, 1, 1, 2, 2, 0, 3, 4, 3])
    weights = PAIRS[name][0](scores, index)
    assert weights[[0, 1, 6]].tolist() == [0.5, 0.0, 0.5]
    assert weights[[2, 3]].isnan().all()
    assert weights[[4, 5]].tolist() == [0.0, 1.0]
    assert weights[[7, 9, 8]].tolist() == [0.0, 0.0, 1.0]
    keep = torch.tensor([0, 1, 4, 5, 6, 7, 8, 9])
    (gradient,) = torch.autograd.grad((weights * torch.arange(10.0))[keep].sum(), scores)
    assert (gradient[keep] == 0).all()
    mask = ~scores.detach().isnan()
    assert PAIRS[name][0](scores, index, mask=mask)[[2, 3]].tolist() == [0.0, 1.0]


@every_pair
def test_derivatives(name: str) -> None:
    scores = normal(10, 2, seed=4).requires_grad_()
    mask = normal(10, 2, seed=5) > -0.5

    def function(values: Tensor) -> Tensor:
        return PAIRS[name][0](values, INDEX, mask=mask, temperature=0.7)

    assert torch.autograd.gradcheck(function, scores, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, scores)


@every_pair
def test_vmap_equals_a_loop(name: str) -> None:
    scores = normal(10, 4, seed=6)
    function = PAIRS[name][0]
    loop = torch.stack([function(each, INDEX) for each in scores.unbind(1)], 1)
    torch.testing.assert_close(torch.vmap(lambda each: function(each, INDEX), 1, 1)(scores), loop)
    indices = torch.stack([INDEX, INDEX.flip(0)])
    loop = torch.stack([function(scores, each, 6) for each in indices])
    torch.testing.assert_close(torch.vmap(lambda each: function(scores, each, 6))(indices), loop)


@every_pair
def test_empty(name: str) -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    assert PAIRS[name][0](torch.zeros(0), nothing).shape == (0,)
    assert PAIRS[name][0](torch.zeros(0, 3), nothing, 4).shape == (0, 3)
    assert PAIRS[name][0](torch.zeros(10, 0), INDEX).shape == (10, 0)


@every_pair
@pytest.mark.parametrize(
    ("index", "count", "error", "text"),
    [
        ([0, 1], None, TypeError, r"'segments' of segment_\w+ must be a tensor of integers\. Got list"),
        (torch.zeros(3), None, TypeError, r"must be a tensor of integers\. Got a tensor of torch\.float32"),
        (
            torch.zeros(3, dtype=torch.bool),
            None,
            TypeError,
            r"must be a tensor of integers\. Got a tensor of torch\.bool",
        ),
        (torch.zeros(2, dtype=torch.long), None, ValueError, r"must have the shape \(3,\), .* Got \(2,\)\."),
        (torch.zeros(3, 1, dtype=torch.long), None, ValueError, r"must have the shape \(3,\), .* Got \(3, 1\)\."),
        (
            torch.zeros(3, dtype=torch.long, device="meta"),
            1,
            ValueError,
            r"must be on the scores' device, cpu\. Got meta",
        ),
        (torch.tensor([0, -1, 0]), None, ValueError, r"'segments' of segment_\w+ must not be negative\. Got -1"),
        (
            torch.tensor([0, 4, 0]),
            4,
            ValueError,
            r"'count' of segment_\w+ must be above every segment, at least 5\. Got 4",
        ),
        (torch.tensor([0, 1, 0]), 2.0, TypeError, r"'count' of segment_\w+ must be an integer or None\. Got float"),
        (
            torch.tensor([0, 2**63 - 1, 0]),
            None,
            ValueError,
            r"'segments' of segment_\w+ must be below 2147483647\. Got 9223372036854775807\. Number them from 0",
        ),
        (torch.tensor([0, 1, 0]), 2**70, ValueError, r"'count' of segment_\w+ must be at most 2147483647\. Got 118"),
        (torch.tensor([0, 1, 0]), -1, ValueError, r"'count' of segment_\w+ must not be negative\. Got -1"),
    ],
)
def test_unusable_arguments_are_named(name: str, index: Any, count: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        PAIRS[name][0](torch.zeros(3, 2), index, count)


@every_pair
@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8, torch.uint8])
def test_segments_are_integers_of_any_size(name: str, dtype: torch.dtype) -> None:
    scores = normal(10, 3)
    assert torch.equal(PAIRS[name][0](scores, INDEX.to(dtype)), PAIRS[name][0](scores, INDEX))


@every_pair
def test_scores_need_an_axis_of_entries(name: str) -> None:
    with pytest.raises(ValueError, match=r"'scores' of segment_\w+ must have an axis of entries"):
        PAIRS[name][0](torch.tensor(1.0), torch.zeros(1, dtype=torch.long))

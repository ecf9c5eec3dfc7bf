"""The best classes and samples of a head by blocks, against all logits; draws by chi-squared tests."""

import math
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from torch.nn.functional import linear

from softplace.output import choosing, sample, top_k

N, E, V = 6, 4, 50


@pytest.fixture(params=[1 << 21, 8 * N])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "ENTRIES", request.param)
    monkeypatch.setattr(choosing, "FIRST", 8)


every_block = pytest.mark.usefixtures("_blocks")


def parts(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return tuple(torch.randn(*shape, dtype=torch.float64, generator=draw).to(dtype) for shape in ((N, E), (V, E), (V,)))


def cut(scores: Tensor, top_k: int | None, top_p: float | None, min_p: float | None) -> Tensor:
    """Probabilities after the cuts, by a sort of one row."""
    shares = scores.softmax(-1)
    found = torch.zeros_like(shares)
    for row, out in zip(shares.tolist(), found, strict=True):
        order = sorted(range(len(row)), key=lambda v: -row[v])[:top_k]
        left = [(v, row[v] / sum(row[u] for u in order)) for v in order]
        if top_p is not None:
            kept, total = [], 0.0
            for v, share in left:
                if total >= top_p:
                    break
                kept.append((v, share))
                total += share
            left = kept
        if min_p is not None:
            left = [(v, share) for v, share in left if share >= min_p * left[0][1]]
        whole = sum(share for _, share in left)
        for v, share in left:
            out[v] = share / whole
    return found


@every_block
@pytest.mark.parametrize("k", [1, 3, 20, V])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.3}, {"soft_cap": 1.5}])
def test_top_k_is_that_of_all_logits(k: int, options: dict[str, float]) -> None:
    hidden, weight, bias = parts()
    scores = linear(hidden, weight, bias)
    if "soft_cap" in options:
        scores = 1.5 * torch.tanh(scores / 1.5)
    logs = (scores / options.get("temperature", 1.0)).log_softmax(-1)
    found = top_k(hidden.reshape(2, 3, E), weight, k, bias, **options)
    expected = logs.topk(k)
    torch.testing.assert_close(found.log_prob.reshape(N, k), expected.values)
    assert torch.equal(found.classes.reshape(N, k), expected.indices)


@every_block
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 2.0},
        {"top_k": 5},
        {"top_p": 0.8},
        {"top_p": 0.99},
        {"min_p": 0.05},
        {"top_k": 12, "top_p": 0.7, "min_p": 0.2, "temperature": 1.5},
        {"top_p": 1.0, "min_p": 0.0},
    ],
    ids=str,
)
def test_draws_follow_their_probabilities(options: dict[str, Any]) -> None:
    hidden, weight, bias = parts()
    scores = linear(hidden, weight, bias) / options.get("temperature", 1.0)
    expected = cut(scores, options.get("top_k"), options.get("top_p"), options.get("min_p"))
    times = 2000
    many = hidden.repeat_interleave(times, 0)
    found = sample(many, weight, bias, generator=torch.Generator().manual_seed(0), **options)
    torch.testing.assert_close(
        found.log_prob, expected.repeat_interleave(times, 0).gather(-1, found.classes[:, None])[:, 0].log()
    )
    for drawn, shares in zip(found.classes.reshape(N, times), expected, strict=True):
        seen = torch.bincount(drawn, minlength=V)
        assert not seen[shares == 0].any()
        if int((shares > 0).sum()) == 1:
            continue
        often = shares * times >= 5
        pooled = torch.cat([seen[often], seen[~often].sum()[None]]).double()
        wanted = torch.cat([shares[often], shares[~often].sum()[None]]) * times
        if wanted[-1] < 5:
            pooled, wanted = pooled[:-1], wanted[:-1]
        wanted = wanted * pooled.sum() / wanted.sum()
        assert chisquare(pooled.numpy(), wanted.numpy()).pvalue > 1e-5


@every_block
def test_a_flat_distribution_is_looked_at_as_far_as_needed() -> None:
    hidden, weight = torch.ones(3, 1), torch.zeros(V, 1)
    found = sample(hidden.repeat(2000, 1), weight, top_p=0.9, generator=torch.Generator().manual_seed(0))
    assert len(found.classes.unique()) == math.ceil(0.9 * V)
    found = sample(hidden.repeat(2000, 1), weight, min_p=1.0, generator=torch.Generator().manual_seed(0))
    assert len(found.classes.unique()) == V


@every_block
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_precisions(dtype: torch.dtype) -> None:
    hidden, weight, bias = parts(dtype)
    logs = linear(hidden, weight, bias).float().log_softmax(-1)
    found = top_k(hidden, weight, 4, bias)
    assert found.log_prob.dtype == torch.float32
    torch.testing.assert_close(found.log_prob, logs.topk(4).values, rtol=1e-5, atol=1e-5)
    draw = sample(hidden, weight, bias)
    torch.testing.assert_close(draw.log_prob, logs.gather(-1, draw.classes[:, None])[:, 0], rtol=1e-5, atol=1e-5)


@every_block
def test_a_class_of_probability_zero_is_never_drawn() -> None:
    hidden, weight, bias = parts()
    bias[:] = -math.inf
    bias[[7, 31]] = 0.0
    for options in ({}, {"top_p": 0.9999}, {"top_k": 10}, {"min_p": 1e-9}):
        assert set(sample(hidden.repeat(50, 1), weight, bias, **options).classes.tolist()) <= {7, 31}
    found = top_k(hidden, weight, 3, bias)
    assert bool(found.log_prob[:, 2].eq(-math.inf).all())


def test_the_same_seed_draws_the_same() -> None:
    hidden, weight, bias = parts()
    for options in ({}, {"top_p": 0.9}):
        one, other = (
            sample(hidden.repeat(20, 1), weight, bias, generator=torch.Generator().manual_seed(1), **options)
            for _ in range(2)
        )
        assert torch.equal(one.classes, other.classes)


def test_no_tokens() -> None:
    hidden, weight, bias = parts()
    assert top_k(hidden[:0], weight, 3, bias).classes.shape == (0, 3)
    for options in ({}, {"top_p": 0.9}):
        assert sample(hidden[:0], weight, bias, **options).classes.shape == (0,)


@pytest.mark.parametrize("options", [{}, {"top_p": 0.9}, {"top_k": 3}])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_logits_that_are_no_numbers(options: dict[str, Any], wrong: float) -> None:
    hidden, weight, bias = parts()
    hidden[2] = wrong
    with pytest.raises(ValueError, match=r"largest is finite\. Got others in row 2\. Look for NaN"):
        sample(hidden, weight.abs(), bias, **options)
    assert bool(top_k(hidden, weight.abs(), 2, bias).log_prob[2].isnan().all())
    with pytest.raises(ValueError, match=r"Got others in row 0"):
        sample(hidden[:2], weight, torch.full((V,), -math.inf, dtype=torch.float64), **options)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"top_k": 0}, ValueError, r"'top_k' of sample must lie in \[1, 50\], the number of classes\. Got 0"),
        ({"top_k": V + 1}, ValueError, r"Got 51"),
        ({"top_k": 2.0}, TypeError, r"'top_k' of sample must be a whole number\. Got float"),
        ({"top_p": 0.0}, ValueError, r"'top_p' of sample must be a probability, or None for no cut\. Got 0\.0"),
        ({"top_p": 1.1}, ValueError, r"Got 1\.1"),
        ({"min_p": -0.1}, ValueError, r"'min_p' of sample must be a probability"),
        ({"min_p": "a"}, ValueError, r"Got 'a'"),
        ({"temperature": 0.0}, ValueError, r"'temperature' of sample must be positive and finite\. Got 0\.0\. For the"),
        ({"soft_cap": -1.0}, ValueError, r"'soft_cap' of sample must be positive"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: type[Exception], said: str) -> None:
    hidden, weight, bias = parts()
    with pytest.raises(error, match=said):
        sample(hidden, weight, bias, **options)

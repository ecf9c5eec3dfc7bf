"""Dropout: shares, growth, gradients, and that a seed decides it."""

import pytest
import torch
from torch import Tensor

from softplace.attention._dropout import drop


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_share_becomes_zero_and_the_others_grow(dtype: torch.dtype, share: float) -> None:
    torch.manual_seed(0)
    x = torch.full((1000, 101), 2.0, dtype=dtype)
    dropped = drop(x, share)
    kept = dropped != 0
    count = x.numel()
    deviation = (share * (1 - share) / count) ** 0.5
    assert abs(1 - float(kept.double().mean()) - share) < 5 * deviation
    expected = (x[0, 0] * torch.tensor(1 / (1 - share), dtype=dtype)).item()
    assert set(dropped[kept].unique().tolist()) == {expected}
    for rows in (kept.double().mean(0), kept.double().mean(1)):  # no row or column is favoured
        assert float((rows - 1 + share).abs().max()) < 6 * (share * (1 - share) / len(rows) * 9) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 1023])
def test_neighbours_are_independent_at_every_size(dtype: torch.dtype, count: int) -> None:
    torch.manual_seed(1)
    x = torch.ones(500, count, dtype=dtype)
    dropped = drop(x, 0.5)
    assert dropped.shape == x.shape
    kept = (dropped != 0).double()
    if count > 1:
        together = float((kept[:, :-1] * kept[:, 1:]).mean())
        assert abs(together - 0.25) < 6 * (0.25 * 0.75 / kept[:, 1:].numel()) ** 0.5


def test_the_gradient_is_that_of_the_kept() -> None:
    torch.manual_seed(2)
    x = torch.randn(50, requires_grad=True)
    dropped = drop(x, 0.3)
    (gradient,) = torch.autograd.grad(dropped.sum(), x)
    torch.testing.assert_close(gradient, (dropped / x).detach())


def test_a_seed_decides_and_nothing_is_dropped_without_need() -> None:
    x = torch.randn(64, 8)

    def again(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return drop(x, 0.4)

    assert torch.equal(again(3), again(3))
    assert not torch.equal(again(3), again(4))
    assert drop(x, 0.0) is x
    assert drop(x, 0.4, training=False) is x
    assert torch.equal(torch.vmap(lambda row: drop(row, 0.0))(x), x)

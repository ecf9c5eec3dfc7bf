"""The loss by blocks of words against PyTorch's on whole logits."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from softplace.attention import _loss
from softplace.attention._loss import linear_cross_entropy

N, E, V, IGNORED = 37, 6, 11, 0


def parts(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    features, weight, bias = (torch.randn(*shape, dtype=dtype, requires_grad=True) for shape in ((N, E), (V, E), (V,)))
    target = torch.randint(V, (N,))
    target[::5] = IGNORED
    return features, weight, bias, target


@pytest.mark.parametrize("block", [1, 7, 512])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_it_is_pytorchs(smoothing: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_loss, "BLOCK", block)
    *leaves, target = parts()

    def graded(loss: Tensor) -> tuple[Tensor, ...]:
        return loss.detach(), *torch.autograd.grad(3.0 * loss, leaves)

    logits = linear(*leaves)
    ours, plain = linear_cross_entropy(*leaves, target, smoothing=smoothing, ignored=IGNORED)
    options: dict[str, Any] = {"reduction": "sum", "ignore_index": IGNORED}
    theirs = cross_entropy(logits, target, label_smoothing=smoothing, **options)
    torch.testing.assert_close(graded(ours), graded(theirs), rtol=0, atol=1e-12)
    torch.testing.assert_close(plain, cross_entropy(logits, target, **options).detach(), rtol=0, atol=1e-12)
    assert not plain.requires_grad


def test_nothing_to_count_is_zero() -> None:
    *leaves, target = parts()
    loss, plain = linear_cross_entropy(*leaves, torch.full_like(target, IGNORED), ignored=IGNORED)
    assert (float(loss.detach()), float(plain)) == (0.0, 0.0)
    assert all(not each.any() for each in torch.autograd.grad(loss, leaves))


def test_extreme_logits_stay_finite() -> None:
    *leaves, target = parts()
    wide = [1e4 * leaves[0].detach(), *leaves[1:]]
    loss, _ = linear_cross_entropy(*wide, target, smoothing=0.1)
    expected = cross_entropy(linear(*wide), target, label_smoothing=0.1, reduction="sum")
    torch.testing.assert_close(loss, expected)
    assert all(bool(each.isfinite().all()) for each in torch.autograd.grad(loss, leaves[1:]))


def test_autocast_rounds_products_alone() -> None:
    *leaves, target = parts(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = linear_cross_entropy(*leaves, target, smoothing=0.1, ignored=IGNORED)
    made = torch.autograd.grad(loss, leaves)
    rounded = [each.detach().bfloat16().double().requires_grad_() for each in leaves]
    exact = linear_cross_entropy(*rounded, target, smoothing=0.1, ignored=IGNORED)[0]
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=5e-3)
    for one, other in zip(made, torch.autograd.grad(exact, rounded), strict=True):
        assert one.dtype == torch.float32
        assert float((one - other).norm() / other.norm()) < 1e-2


def test_without_gradient_none_is_computed() -> None:
    *leaves, target = parts()
    with torch.no_grad():
        loss, plain = linear_cross_entropy(*leaves, target)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, plain)

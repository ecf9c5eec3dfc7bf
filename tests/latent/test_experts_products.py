"""Grouped products against one product after the other, in every way that they can be computed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from softplace.latent import experts_products
from softplace.latent.experts_products import grouped_linear

ENDS = ([3, 3, 8, 9], [0, 0, 0, 0], [11, 11, 11, 11], [0, 0, 0, 5], [1, 2, 3, 4])
ROWS = 11


def parts(inputs: int, outputs: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((ROWS, inputs), (4, outputs, inputs), (4, outputs))
    drawn = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes)
    return tuple(each.to(dtype).requires_grad_() for each in drawn)  # type: ignore[return-value]


def group_of(ends: Tensor) -> Tensor:
    return torch.searchsorted(ends.contiguous(), torch.arange(ROWS, dtype=torch.int32), right=True)


def loop(rows: Tensor, weight: Tensor, bias: Tensor, ends: list[int]) -> Tensor:
    starts = [0, *ends[:-1]]
    made = [rows[a:b] @ weight[e].mT + bias[e] for e, (a, b) in enumerate(zip(starts, ends, strict=True))]
    return torch.cat(made)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(8, 16), (5, 3)])
@pytest.mark.parametrize("ends", ENDS, ids=str)
def test_product_and_gradients_are_the_loop(
    ends: list[int], shape: tuple[int, int], dtype: torch.dtype, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        monkeypatch.setattr(experts_products, "_has_native", lambda *tensors: False)
    leaves = parts(*shape, dtype)
    wide = [each.detach().double().requires_grad_() for each in leaves]
    stops = torch.tensor(ends, dtype=torch.int32)
    made = grouped_linear(*leaves, group_of(stops), stops)
    wanted = loop(*wide, ends)
    rounding = 8 * torch.finfo(dtype).eps
    sent = ends[-1]
    assert made.dtype == dtype
    torch.testing.assert_close(made[:sent].double(), wanted, rtol=rounding, atol=4 * rounding)
    some = torch.randn(made.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    some[sent:] = 0.0
    found = torch.autograd.grad(made, leaves, some.to(dtype))
    hoped = torch.autograd.grad(wanted, wide, some.to(dtype).double()[:sent])
    for one, other in zip(found, hoped, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=rounding, atol=8 * rounding)


@pytest.mark.parametrize("native", [True, False])
def test_rows_without_a_group_give_zeros(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        monkeypatch.setattr(experts_products, "_has_native", lambda *tensors: False)
    rows, weight, _ = parts(8, 16, torch.float32)
    spoilt = torch.where(torch.arange(ROWS)[:, None] >= 9, torch.nan, rows)
    ends = torch.tensor(ENDS[0], dtype=torch.int32)
    made = grouped_linear(spoilt, weight, None, group_of(ends), ends)
    assert bool((made[9:] == 0).all())
    found = torch.autograd.grad(made.square().sum(), (rows, weight))
    assert all(bool(each.isfinite().all()) for each in found)
    assert bool((found[0][9:] == 0).all())


def test_pytorchs_own_product_is_used_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    if not experts_products._native_works("cpu", torch.float32):
        pytest.skip("this PyTorch has no grouped product on CPU")
    called, own = [], functional.grouped_mm

    def spied(*given: Tensor, **more: Tensor) -> Tensor:
        called.append(given)
        return own(*given, **more)

    monkeypatch.setattr(functional, "grouped_mm", spied)
    ends = torch.tensor(ENDS[0], dtype=torch.int32)
    for dtype, inputs, times in ((torch.float32, 8, 3), (torch.bfloat16, 8, 3), (torch.float32, 5, 0)):
        called.clear()
        rows, weight, bias = parts(inputs, 16, dtype)
        grouped_linear(rows, weight, bias, group_of(ends), ends).sum().backward()
        assert len(called) == times
    whole = torch.randn(4 * 16 * 8 + 1)[1:].view(4, 16, 8)  # not where PyTorch wants it in memory
    called.clear()
    rows, _, bias = parts(8, 16, torch.float32)
    grouped_linear(rows, whole, bias, group_of(ends), ends)
    assert called == []


def test_without_pytorchs_product_there_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*given: Tensor, **more: Tensor) -> Tensor:
        raise RuntimeError("not here")

    monkeypatch.setattr(functional, "grouped_mm", missing)
    ask: Callable[[str, torch.dtype], bool] = experts_products._native_works.__wrapped__
    assert not ask("cpu", torch.float32)
    assert not ask("cpu", torch.float64)


def test_derivatives_of_second_order() -> None:
    rows, weight, bias = parts(5, 3, torch.float64)
    ends = torch.tensor(ENDS[0], dtype=torch.int32)

    def call(*given: Tensor) -> Tensor:
        return grouped_linear(*given, group_of(ends), ends).tanh()

    assert torch.autograd.gradcheck(call, (rows, weight, bias))
    assert torch.autograd.gradgradcheck(call, (rows, weight, bias))


def test_vmap_is_one_member_after_the_other() -> None:
    rows, weight, bias = parts(8, 16, torch.float32)
    ends = torch.tensor(ENDS, dtype=torch.int32)
    groups = torch.stack([group_of(each) for each in ends])
    made = torch.vmap(lambda group, end: grouped_linear(rows, weight, bias, group, end))(groups, ends)
    for one, group, end in zip(made, groups, ends, strict=True):
        torch.testing.assert_close(one, grouped_linear(rows, weight, bias, group, end))


def test_the_operators_keep_the_rules_of_pytorch() -> None:
    ends = torch.tensor(ENDS[0], dtype=torch.int32)
    rows, weight, _ = parts(8, 16, torch.float32)
    torch.library.opcheck(experts_products._product, (rows.detach(), weight.detach(), ends))
    torch.library.opcheck(experts_products._outer, (rows.detach(), rows.detach()[:, :4], ends))

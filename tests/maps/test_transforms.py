"""The battery of every map under the transforms of PyTorch: derivatives, torch.func, compiler, export, autocast."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.maps.battery import (
    DEFAULTS,
    DOUBLE,
    HALVES,
    NAMES,
    RANDOM,
    SINGLE,
    call,
    every_case,
    every_map,
    every_repeatable_map,
    forward_mode,
    normal,
    sums_to_one,
)
from tests.study.test_fleet import needs_compiler

# Transforms


@forward_mode
@every_case
def test_derivatives_by_finite_differences(name: str, options: dict[str, Any]) -> None:
    # Random scores lie far from a kink beside the step of 1e-6.
    scores, mask = normal(2, 5, seed=21, scale=1.3), torch.tensor([[True] * 5, [True, False, True, True, True]])

    def function(each: Tensor) -> Tensor:
        found = call(name, each, mask=mask, temperature=0.7, **options)
        return torch.where(mask, found, 0.0) if name == "log_softmax" else found

    scores.requires_grad_()
    assert torch.autograd.gradcheck(
        function, scores, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )
    assert torch.autograd.gradgradcheck(function, scores, check_fwd_over_rev=True, check_batched_grad=True)


def derivative(value: Tensor, leaf: Tensor, along: Tensor) -> Tensor:
    """Zeros where the value is constant, such as a slope of relu."""
    if not value.requires_grad:
        return torch.zeros_like(leaf)
    (found,) = torch.autograd.grad((value * along).sum(), leaf, materialize_grads=True)
    return found


@forward_mode
@every_repeatable_map
@pytest.mark.parametrize("shape", [(3, 4), (40, 500)], ids=str)
def test_functional_transforms_equal_plain_autograd(name: str, shape: tuple[int, int]) -> None:
    dtype = DOUBLE if shape[0] == 3 else SINGLE  # large ones in float32, where a kernel may have taken over
    close = {"rtol": 1e-11, "atol": 1e-13} if dtype == DOUBLE else {"rtol": 1e-4, "atol": 1e-5}
    scores, along = normal(*shape, seed=22, dtype=dtype), normal(*shape, seed=23, dtype=dtype)
    # The limit of sinkhorn solves equations in as many unknowns as there are columns: few, or this takes a minute.
    few = DEFAULTS.get(name, {}) if dtype == SINGLE else {}

    def function(each: Tensor) -> Tensor:
        return call(name, each, **few)

    batch = scores if name != "sinkhorn" else torch.stack([scores, along], 1)
    loop = torch.stack([function(each) for each in batch])
    torch.testing.assert_close(torch.vmap(function)(batch), loop, **close)
    last = torch.vmap(function, in_dims=1, out_dims=1)(batch.transpose(0, 1).contiguous())
    torch.testing.assert_close(last, loop.transpose(0, 1), **close)
    leaf = scores.clone().requires_grad_()
    value = function(leaf)
    (gradient,) = torch.autograd.grad(value, leaf, along, create_graph=True)
    second = derivative(gradient, leaf, along)
    pulled, pull = torch.func.vjp(function, scores)
    torch.testing.assert_close(pulled, value.detach(), **close)
    torch.testing.assert_close(pull(along)[0], gradient.detach(), **close)
    wide = scores.double().requires_grad_()
    (of_wide,) = torch.autograd.grad(function(wide), wide, along.double(), create_graph=True)
    torch.testing.assert_close(gradient.detach().double(), of_wide.detach(), **close)
    torch.testing.assert_close(second.double(), derivative(of_wide, wide, along.double()), **close)
    pushed = torch.func.jvp(function, (scores,), (along,))
    exactly = torch.func.jvp(function, (scores.double(),), (along.double(),))
    torch.testing.assert_close(pushed[1].double(), exactly[1], **close)
    assert (pushed[1] * along).sum().item() == pytest.approx((gradient * along).sum().item(), rel=1e-3, abs=1e-5)
    if dtype == SINGLE:
        return
    jacobian = torch.autograd.functional.jacobian(function, scores)
    torch.testing.assert_close(torch.func.jacrev(function)(scores), jacobian, **close)
    torch.testing.assert_close(torch.func.jacfwd(function)(scores), jacobian, **close)

    def scalar(each: Tensor) -> Tensor:
        return (function(each) * along).sum()

    hessian = torch.autograd.functional.hessian(scalar, scores)
    torch.testing.assert_close(torch.func.hessian(scalar)(scores), hessian, **close)
    if name != "sinkhorn":
        each_row = torch.vmap(torch.func.jacrev(function))(scores)
        torch.testing.assert_close(each_row, torch.stack([jacobian[row, :, row] for row in range(3)]), **close)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@needs_compiler
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    ("name", "limit"),
    [(name, False) for name in NAMES]
    + [pytest.param(name, True, marks=pytest.mark.slow) for name in NAMES if name in DEFAULTS],  # half a minute
)
def test_compiled_in_one_graph_it_is_the_same(name: str, limit: bool) -> None:
    scores, mask = normal(3, 6, seed=24), normal(3, 6, seed=25) > -1.0

    def function(each: Tensor, part: Tensor | None) -> Tensor:
        # A generator is an argument that the compiler refuses: without one, only the sum is known.
        extra = {"generator": None} if name == RANDOM else {} if limit else DEFAULTS.get(name, {})
        return call(name, each, mask=part, temperature=0.7, **extra)

    backend = "inductor" if name in ("softmax", "sparsemax", "entmax15", "entmax") else "aot_eager"
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    leaves = [scores.clone().requires_grad_() for _ in range(2)]
    want, got = function(leaves[0], mask), compiled(leaves[1], mask)
    if name == RANDOM:
        sums_to_one(got.detach())
        assert (got[~mask] == 0).all()
        return
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)
    upstream = normal(3, 6, seed=26)
    slopes = [
        torch.autograd.grad(torch.where(mask, each, 0.0), leaf, upstream)[0]
        for each, leaf in zip((want, got), leaves, strict=True)
    ]
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-12, atol=1e-14)


class Layer(torch.nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, scores: Tensor) -> Tensor:
        extra = {"generator": None} if self.name == RANDOM else {}
        return call(self.name, scores, **extra)


@every_map
def test_it_can_be_exported(name: str) -> None:
    scores = normal(3, 6, seed=27, dtype=SINGLE)
    got = torch.export.export(Layer(name), (scores,)).module()(scores)
    if name == RANDOM:
        sums_to_one(got)
    else:
        torch.testing.assert_close(got, call(name, scores), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [SINGLE, *HALVES], ids=str)
@every_map
def test_autocast_changes_nothing(name: str, dtype: torch.dtype) -> None:
    scores = normal(3, 6, seed=28, dtype=dtype)
    want = call(name, scores)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = call(name, scores)
    assert torch.equal(got, want)
    assert got.dtype == dtype

"""Attention under vmap, torch.compile and autocast."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from softplace.attention import RNNEncDec, RNNSearch, Transformer, dot_product_attention
from tests.study.test_fleet import needs_compiler

MAPS = ("softmax", "softmax1", "sparsemax", "entmax15")
SMALL: dict[str, Any] = {"source_words": 9, "target_words": 9}
NETS: list[Callable[[], Any]] = [
    lambda: Transformer(
        **SMALL,
        width=16,
        heads=2,
        inner=32,
        encoder_layers=1,
        decoder_layers=1,
        tied="none",
        dropout=0.0,
        map="sparsemax",
    ),
    lambda: RNNSearch(**SMALL, hidden=8, embedding=4, maxout=4, map="entmax15"),
    lambda: RNNEncDec(**SMALL, hidden=8, embedding=4, maxout=4),
]
every_net = pytest.mark.parametrize("make", NETS, ids=["transformer", "rnnsearch", "rnnencdec"])


def sentences() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    mask = torch.arange(5) < torch.tensor([5, 2])[:, None]
    return torch.randint(0, 9, (2, 5)), torch.randint(0, 9, (2, 4)), mask


def parts() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    mask = torch.rand(2, 3, 5, 7) > 0.4
    mask[0, :, 1] = False
    return torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 6), mask


@pytest.mark.parametrize("chosen", MAPS)
def test_vmap_of_the_function(chosen: str) -> None:
    def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        return dot_product_attention(query, key, value, map=chosen, mask=mask)

    given = parts()
    torch.testing.assert_close(torch.vmap(attend)(*given), attend(*given), rtol=0, atol=1e-6)


@needs_compiler
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("chosen", MAPS)
def test_compile_of_the_function(chosen: str) -> None:
    def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        return dot_product_attention(query, key, value, map=chosen, mask=mask, causal=True)

    given = parts()
    torch.testing.assert_close(torch.compile(attend, fullgraph=True)(*given), attend(*given), rtol=0, atol=1e-6)


@every_net
def test_members_of_a_fleet_are_the_nets_alone(make: Callable[[], Any]) -> None:
    torch.manual_seed(2)
    nets = [make() for _ in range(3)]
    parameters, _ = stack_module_state(nets)
    given = sentences()

    def one(own: dict[str, Tensor]) -> Tensor:
        return functional_call(nets[0], own, given)  # type: ignore[no-any-return]

    made = torch.vmap(one)(parameters)
    for number, net in enumerate(nets):
        torch.testing.assert_close(made[number], net(*given), rtol=0, atol=1e-5)


@every_net
def test_autocast_trains(make: Callable[[], Any]) -> None:
    torch.manual_seed(3)
    net, given = make(), sentences()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(*given)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), net(*given), rtol=0, atol=0.05)
    logits.float().square().sum().backward()
    assert all(bool(each.grad.isfinite().all()) for each in net.parameters() if each.grad is not None)

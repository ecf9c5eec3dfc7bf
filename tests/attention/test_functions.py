"""Attention against loops in float64, against PyTorch's, and against itself by blocks."""

import math
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from softplace import maps
from softplace.attention import (
    AdditiveAttention,
    MultiHeadAttention,
    RNNSearch,
    Transformer,
    additive_attention,
    dot_product_attention,
    functions,
)
from softplace.errors import InputError
from softplace.maps import Map
from softplace.maps.modules import Sinkhorn

B, H, T, S, D, V = 2, 3, 5, 7, 4, 6
SOME = ("softmax", "softmax1", "sparsemax", "entmax15", "sigmoid_normalised", "hardmax", "uniform")


def cubes(scores: Tensor, dim: int) -> Tensor:
    """A map of a user, without a mask."""
    shares = scores.exp() ** 3
    return shares / shares.sum(dim, keepdim=True)


EVERY: tuple[str | Map, ...] = (*SOME, cubes)
every_map = pytest.mark.parametrize("chosen", EVERY, ids=[*SOME, "callable"])


def parts(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return tuple(  # type: ignore[return-value]
        torch.randn(B, H, *shape, dtype=dtype).requires_grad_() for shape in ((T, D), (S, D), (S, V))
    )


def masks(rows: int = T) -> Tensor:
    """A mask with a query that may attend to nothing, and one that may attend to one key."""
    mask = torch.rand(B, 1, rows, S) > 0.4
    mask[0, 0, 1] = False
    mask[1, 0, 2] = torch.arange(S) == 3
    return mask


def loop(scores: Tensor, value: Tensor, chosen: str | Map, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attention one query at a time, the map on what may be attended to alone."""
    weights = torch.zeros_like(scores)
    for place in product(*(range(size) for size in scores.shape[:-1])):
        allowed = torch.ones(S, dtype=torch.bool) if mask is None else mask.expand(scores.shape)[place]
        if allowed.any():
            weights[place] = weights[place].masked_scatter(allowed, maps.get(chosen)(scores[place][allowed], dim=-1))
    return weights @ value, weights


@every_map
@pytest.mark.parametrize("masked", [False, True])
def test_dot_product_attention_is_the_loop(chosen: str | Map, masked: bool) -> None:
    query, key, value = parts()
    mask = masks() if masked else None
    expected, by_loop = loop(query @ key.mT / math.sqrt(D), value, chosen, mask)
    outputs, weights = dot_product_attention(query, key, value, map=chosen, mask=mask, need_weights=True)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(weights, by_loop, rtol=0, atol=1e-12)
    alone = dot_product_attention(query, key, value, map=chosen, mask=mask)
    torch.testing.assert_close(alone, expected, rtol=0, atol=1e-12)
    wanted = torch.autograd.grad(expected.square().sum(), (query, key, value), allow_unused=True, retain_graph=True)
    for made in (outputs, alone):
        found = torch.autograd.grad(
            made.square().sum(), (query, key, value), allow_unused=True, materialize_grads=True, retain_graph=True
        )
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, torch.zeros_like(one) if other is None else other, rtol=0, atol=1e-11)


@every_map
def test_additive_attention_is_the_loop(chosen: str | Map) -> None:
    torch.manual_seed(1)
    query, key, value = torch.randn(B, T, D).double(), torch.randn(B, S, D).double(), torch.randn(B, S, V).double()
    direction, mask = torch.randn(D).double(), masks()[:, 0]
    scores = torch.empty(B, T, S, dtype=torch.float64)
    for b, t, s in product(range(B), range(T), range(S)):
        scores[b, t, s] = sum(direction[a] * math.tanh(float(query[b, t, a] + key[b, s, a])) for a in range(D))
    expected, by_loop = loop(scores, value, chosen, mask)
    outputs, weights = additive_attention(query, key, value, direction, map=chosen, mask=mask, need_weights=True)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(weights, by_loop, rtol=0, atol=1e-12)


@every_map
@pytest.mark.parametrize("room", [1, S * 2, T * S, H * T * S + 1])
def test_blocks_change_nothing(chosen: str | Map, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = parts()
    sink, mask = torch.randn(H).double().requires_grad_(), masks()
    leaves = (query, key, value, sink)

    def run() -> list[Tensor]:
        made = [
            dot_product_attention(query, key, value, map=chosen, mask=mask, causal=True, sink=sink),
            dot_product_attention(query, key, value, map=chosen, mask=mask[..., :1, :], sink=sink),
            additive_attention(query, key, value, torch.ones(D).double(), map=chosen, mask=mask),
        ]
        total = torch.stack([each.square().sum() for each in made]).sum()
        return [*made, *torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)]

    whole = run()
    monkeypatch.setattr(functions, "ROOM", room)
    torch.testing.assert_close(run(), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("room", [1, 20, 100])
def test_blocks_of_broadcast_axes_change_nothing(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(6)
    query, key, value = (
        torch.randn(5, 1, T, D).double(),
        torch.randn(3, S, D).double(),
        torch.randn(1, 3, S, V).double(),
    )
    whole = dot_product_attention(query, key, value, map="entmax15")
    assert whole.shape == (5, 3, T, V)
    monkeypatch.setattr(functions, "ROOM", room)
    torch.testing.assert_close(dot_product_attention(query, key, value, map="entmax15"), whole, rtol=0, atol=1e-12)


def test_blocks_of_a_map_that_draws_have_the_gradient_of_what_they_drew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "ROOM", S * 2)
    query, key, value = parts()
    outputs = dot_product_attention(query, key, value, map="gumbel_softmax")
    (gradient,) = torch.autograd.grad(outputs.sum(), value)  # the output is linear in the values
    torch.testing.assert_close((value * gradient).sum(), outputs.sum(), rtol=0, atol=1e-12)


def test_sinkhorn_sees_all_queries_of_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = parts()
    whole = dot_product_attention(query, key, value, map="sinkhorn")
    torch.testing.assert_close(whole, maps.sinkhorn(query @ key.mT / math.sqrt(D)) @ value, rtol=0, atol=1e-12)
    monkeypatch.setattr(functions, "ROOM", 1)
    torch.testing.assert_close(dot_product_attention(query, key, value, map="sinkhorn"), whole, rtol=0, atol=1e-12)
    for chosen in ("sinkhorn", maps.sinkhorn, Sinkhorn(), partial(maps.sinkhorn, iterations=3)):
        with pytest.raises(InputError, match="'causal' needs a map that treats every query alone"):
            dot_product_attention(query, key, value, map=chosen, causal=True)
        for make in (Transformer, RNNSearch):
            with pytest.raises(InputError, match=r"'map' must treat every query alone\. Got sinkhorn"):
                make(source_words=9, target_words=9, map=chosen)


@pytest.mark.parametrize("chosen", ["softmax", "sparsemax", "entmax15"])
def test_scores_beyond_float16_are_finite(chosen: str) -> None:
    large = torch.full((1, 1, 9, 64), 100.0, dtype=torch.float16)  # products of 80,000 at a scale of 1/8
    assert dot_product_attention(large, large, large, map=chosen).eq(100).all()


def test_softmax_is_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[dict[str, Any]] = []

    def spied(*given: Tensor, **more: Any) -> Tensor:
        called.append(more)
        return scaled_dot_product_attention(*given, **more)

    monkeypatch.setattr(functions, "scaled_dot_product_attention", spied)
    monkeypatch.setattr(functions, "FEW", 0)
    query, key, value = parts()
    for chosen in ("softmax", maps.softmax):
        dot_product_attention(query, key, value, map=chosen, mask=masks())
        dot_product_attention(query, key, value, map=chosen, scale=0.3)
        dot_product_attention(query, query, query, map=chosen, causal=True)
    assert len(called) == 6
    assert called[2]["is_causal"]
    dot_product_attention(query, key, value, map="sparsemax")
    dot_product_attention(query, key, value, need_weights=True)
    assert len(called) == 6


@pytest.mark.parametrize("chosen", ["softmax", "sparsemax"])
@pytest.mark.parametrize("queries", [1, 3, S, S + 2])
def test_no_query_sees_a_later_key(chosen: str, queries: int) -> None:
    torch.manual_seed(2)
    query = torch.randn(1, queries, D).double()
    key, value = torch.randn(1, S, D).double().requires_grad_(), torch.randn(1, S, V).double().requires_grad_()
    outputs = dot_product_attention(query, key, value, map=chosen, causal=True, scale=0.1)
    for place in range(queries):
        time = place + S - queries
        gradients = torch.autograd.grad(outputs[0, place].sum(), (key, value), retain_graph=True)
        for each in gradients:
            assert not each[0, time + 1 :].any() if time >= 0 else not each.any()
        if time >= 1:
            assert bool(gradients[1][0, : time + 1].any())
    if queries > S:
        assert not outputs[0, : queries - S].any()


@pytest.mark.parametrize("chosen", ["softmax", "sparsemax", cubes])
def test_a_query_that_may_attend_to_nothing_gets_zeros(chosen: str | Map) -> None:
    leaves = parts(torch.float32)
    for mask in (torch.zeros(T, S, dtype=torch.bool), masks()):
        outputs = dot_product_attention(*leaves, map=chosen, mask=mask)
        assert not outputs[0, :, 1].any()
        gradients = torch.autograd.grad(outputs.square().sum(), leaves)
        assert all(bool(each.isfinite().all()) for each in gradients)
        assert not gradients[0][0, :, 1].any()


@pytest.mark.parametrize("shape", [(T, 1), (1, 1), (), (1, S)])
def test_a_sink_takes_every_mask_that_broadcasts(shape: tuple[int, ...]) -> None:
    query, key, value = parts()
    mask, sink = torch.rand(shape) > 0.3, torch.randn(H).double()
    whole = mask.expand(B, H, T, S)
    for chosen in ("softmax", "sparsemax"):
        found = dot_product_attention(query, key, value, map=chosen, mask=mask, sink=sink)
        expected = dot_product_attention(query, key, value, map=chosen, mask=whole, sink=sink)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_sink_is_a_key_without_a_value() -> None:
    query, key, value = parts()
    sink = torch.randn(H).double()
    scores = torch.cat([query @ key.mT / math.sqrt(D), sink[:, None, None].expand(B, H, T, 1)], -1)
    expected = torch.softmax(scores, -1)[..., :-1]
    outputs, weights = dot_product_attention(query, key, value, sink=sink, need_weights=True)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(outputs, expected @ value, rtol=0, atol=1e-12)
    zero = dot_product_attention(query, key, value, sink=torch.zeros(()).double())
    torch.testing.assert_close(zero, dot_product_attention(query, key, value, map="softmax1"), rtol=0, atol=1e-12)


@pytest.mark.parametrize("chosen", ["softmax", "entmax15"])
def test_dropout_keeps_the_mean_and_spares_the_weights(chosen: str) -> None:
    torch.manual_seed(3)
    query, key = torch.randn(1, 1, D), torch.randn(1, S, D)
    value = torch.eye(S)[None]
    mean = torch.stack([dot_product_attention(query, key, value, map=chosen, dropout=0.4) for _ in range(4000)]).mean(0)
    outputs, weights = dot_product_attention(query, key, value, map=chosen, dropout=0.4, need_weights=True)
    expected = dot_product_attention(query, key, value, map=chosen)
    torch.testing.assert_close(mean, expected, rtol=0, atol=0.05)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-6)
    dropped = outputs.abs() < 1e-6
    torch.testing.assert_close(outputs[~dropped], weights[~dropped] / 0.6, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chosen", SOME)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_dtypes(chosen: str, dtype: torch.dtype) -> None:
    exact, mask = parts(), masks()
    rounded = tuple(each.to(dtype) for each in exact)
    outputs = dot_product_attention(*rounded, map=chosen, mask=mask)
    assert outputs.dtype == dtype
    expected = dot_product_attention(*(each.double() for each in rounded), map=chosen, mask=mask)
    if chosen != "hardmax":  # whose choice may turn on a rounding
        torch.testing.assert_close(outputs.double(), expected, rtol=0, atol=10 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(0, T, S), (B, 0, S), (B, T, 0)])
@pytest.mark.parametrize("chosen", ["softmax", "sparsemax"])
def test_nothing_gives_nothing(shape: tuple[int, int, int], chosen: str) -> None:
    batch, queries, keys = shape
    outputs = dot_product_attention(
        torch.randn(batch, queries, D), torch.randn(batch, keys, D), torch.randn(batch, keys, V), map=chosen
    )
    assert outputs.shape == (batch, queries, V)
    assert not outputs.any() if keys == 0 else True


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("heads", [1, 4])
def test_multi_head_attention_is_pytorchs_by_copied_weights(bias: bool, heads: int) -> None:
    torch.manual_seed(4)
    theirs = nn.MultiheadAttention(8, heads, bias=bias, batch_first=True, dtype=torch.float64)
    if bias:
        nn.init.normal_(theirs.in_proj_bias)
        nn.init.normal_(theirs.out_proj.bias)
    ours = MultiHeadAttention.of(theirs)
    query, key, value = (torch.randn(B, size, 8).double() for size in (T, S, S))
    padding = torch.rand(B, S) > 0.3
    padding[:, 0] = True
    expected, each = theirs(query, key, value, key_padding_mask=~padding, average_attn_weights=False)
    outputs, weights = ours(query, key, value, mask=padding[:, None, None], need_weights=True)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(weights, each, rtol=0, atol=1e-12)
    alone, nothing = ours(query, key, value, mask=padding[:, None, None])
    assert nothing is None
    torch.testing.assert_close(alone, expected, rtol=0, atol=1e-12)
    late = torch.ones(T, T, dtype=torch.bool).triu(1)
    expected, _ = theirs(query, query, query, attn_mask=late)
    torch.testing.assert_close(ours(query, causal=True)[0], expected, rtol=0, atol=1e-12)


def test_additive_attention_begins_as_the_paper_and_learns() -> None:
    torch.manual_seed(5)
    net = AdditiveAttention(4, 6, 5, map="sparsemax")
    keys = torch.randn(B, S, 6)
    contexts, weights = net(torch.randn(B, T, 4), net.project(keys), keys)
    assert contexts.shape == (B, T, 6)
    torch.testing.assert_close(weights, torch.full((B, T, S), 1 / S))
    contexts.square().sum().backward()
    assert net.direction.grad is not None
    assert bool(net.direction.grad.any())


def test_a_map_that_learns_is_among_the_parameters() -> None:
    net = MultiHeadAttention(8, heads=2, map=nn.Softmax(-1), sink=True)
    assert "map" in dict(net.named_modules())
    assert "sink" in dict(net.named_parameters())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"query": torch.zeros(3)}, "'query' must be a floating-point tensor of two axes"),
        ({"key": torch.zeros(S, D + 1)}, "'query' and 'key' must be of the same width, 1 or more. Got 4 and 5"),
        ({"value": torch.zeros(S + 1, V)}, "'key' and 'value' must be as many. Got 7 and 8"),
        ({"value": torch.zeros(S, V).double()}, "'value' must be torch.float32"),
        ({"mask": torch.zeros(T, S)}, "'mask' must be a tensor of bool"),
        (
            {"mask": torch.zeros(B, S, dtype=torch.bool)},
            r"'mask' must broadcast to (5, 7), queries by keys. Got (2, 7)",
        ),
        ({"mask": torch.zeros(B, 1, S, dtype=torch.bool)}, "'mask' must broadcast"),
        ({"dropout": 1.0}, "'dropout' must lie in [0, 1). Got 1.0"),
        ({"map": "softmaxx"}, "Unknown map 'softmaxx'"),
        (
            {"query": torch.zeros(2, T, D), "key": torch.zeros(5, S, D)},
            "'query', 'key' and 'value' must have leading axes (batch, heads) that broadcast. Got query (2,), key (5,)",
        ),
        ({"value": torch.zeros(2, S, V), "query": torch.zeros(3, T, D)}, "must have leading axes"),
        ({"query": torch.zeros(2, T, D), "sink": torch.zeros(3)}, "'sink' must be a tensor that broadcasts to"),
    ],
)
def test_what_cannot_be_used_is_said(change: dict[str, Any], text: str) -> None:
    given: dict[str, Any] = {"query": torch.zeros(T, D), "key": torch.zeros(S, D), "value": torch.zeros(S, V)} | change
    with pytest.raises(InputError) as caught:
        dot_product_attention(**given)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(InputError, match=r"'heads' must divide 'width', 8\. Got 3"):
        MultiHeadAttention(8, heads=3)
    with pytest.raises(InputError, match="'other' must have queries, keys and values of one width"):
        MultiHeadAttention.of(nn.MultiheadAttention(8, 2, kdim=4))

"""The loss of a linear head by blocks against PyTorch's and ours on whole logits."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from torch.nn.functional import linear_cross_entropy as torch_linear_cross_entropy

from softplace import maps
from softplace.maps import _linear, _linear_columns, _linear_rows
from softplace.maps.linear import linear_cross_entropy, linear_cross_entropy_sums

N, E, V, IGNORED = 37, 6, 300, 0
LOSSES = {"softmax": maps.cross_entropy, "sparsemax": maps.sparsemax_loss, "entmax15": maps.entmax15_loss}
every_map = pytest.mark.parametrize("name", LOSSES)


def parts(dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    hidden, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, generator=draw).to(dtype).requires_grad_()
        for shape in ((N, E), (V, E), (V,))
    )
    target = torch.randint(V, (N,), generator=draw)
    target[::5] = IGNORED
    return hidden, weight, bias, target


def whole(
    leaves: list[Tensor],
    target: Tensor,
    name: str,
    options: dict[str, Any],
    z_loss: float = 0.0,
    cap: float | None = None,
) -> Tensor:
    """The loss from all logits, in PyTorch's operations alone."""
    logits = linear(*leaves)
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    loss = LOSSES[name](logits, target, **options)
    counts = torch.ones(N, dtype=torch.float64)
    if not target.is_floating_point():
        counts = (target != options["ignore_index"]).double()
    rows = z_loss * counts * logits.logsumexp(-1).square()
    if options["reduction"] == "none":
        return loss + rows
    return loss + rows.sum() / (counts.sum() if options["reduction"] == "mean" else 1.0)


def by_columns(
    hidden: Tensor, weight: Tensor, bias: Any, target: Tensor, options: Any, wanted: Any, scale: Any
) -> tuple[_linear.Rows, _linear.Gradients]:
    found = _linear_columns.statistics(hidden, weight, bias, target, options)
    made = _linear_columns.gradients(hidden, weight, bias, target, found.normaliser, options, wanted, scale)
    return found.rows(options, weight.shape[0]), made


@every_map
@pytest.mark.parametrize("order", ["rows", "columns"])
@pytest.mark.parametrize("soft", [False, True])
def test_values_and_gradients(name: str, order: str, soft: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if order == "columns":
        if soft or name != "softmax":
            pytest.skip("by rows alone")
        monkeypatch.setattr(_linear_rows, "by_rows", by_columns)
        monkeypatch.setattr(_linear_columns, "TILE", (16, 1 << 12))
    monkeypatch.setattr(_linear_rows, "ROWS", (16, 16))
    *leaves, target = parts()
    if soft:
        target = torch.softmax(2 * torch.randn(N, V, dtype=torch.float64), -1)
    cases = itertools.product((0.0, 0.1, 1.0), ("mean", "sum", "none"), (None, 2.0), (0.0, 0.01))
    for smoothing, reduction, cap, z_loss in cases:
        if z_loss and name != "softmax":
            continue
        options = {"label_smoothing": smoothing, "reduction": reduction} | ({} if soft else {"ignore_index": IGNORED})
        expected = whole(leaves, target, name, options, z_loss, cap)
        found = linear_cross_entropy(*leaves[:2], target, leaves[2], map=name, soft_cap=cap, z_loss=z_loss, **options)
        upstream = torch.randn_like(expected)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
        for one, other in zip(
            *(torch.autograd.grad(each, leaves, upstream) for each in (found, expected)), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_it_is_pytorchs_own() -> None:
    *leaves, target = parts()
    ours = linear_cross_entropy(*leaves[:2], target, leaves[2], label_smoothing=0.1, ignore_index=IGNORED)
    theirs = torch_linear_cross_entropy(
        *leaves[:2], target, linear_bias=leaves[2], label_smoothing=0.1, ignore_index=IGNORED
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


@every_map
def test_finite_differences(name: str) -> None:
    *leaves, target = parts()
    small = [leaves[0][:3, :2].detach(), leaves[1][:5, :2].detach(), leaves[2][:5].detach()]
    small = [each.requires_grad_() for each in small]
    few = target[1:4] % 5

    def loss(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear_cross_entropy(hidden, weight, few, bias, map=name, reduction="none", soft_cap=3.0)

    assert torch.autograd.gradcheck(loss, small)
    assert torch.autograd.gradgradcheck(loss, small)


def test_sums_with_and_without_smoothing() -> None:
    *leaves, target = parts()
    options: dict[str, Any] = {"reduction": "sum", "ignore_index": IGNORED}
    loss, plain = linear_cross_entropy_sums(*leaves[:2], target, leaves[2], label_smoothing=0.1, ignore_index=IGNORED)
    logits = linear(*leaves)
    torch.testing.assert_close(loss, cross_entropy(logits, target, label_smoothing=0.1, **options))
    torch.testing.assert_close(plain, cross_entropy(logits, target, **options).detach())
    assert not plain.requires_grad
    with torch.no_grad():
        loss, plain = linear_cross_entropy_sums(*leaves[:2], target, leaves[2])
    assert not loss.requires_grad
    torch.testing.assert_close(loss, plain)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradients_may_be_asked_for_twice(reduction: str) -> None:
    *leaves, target = parts()
    loss = linear_cross_entropy(*leaves[:2], target, leaves[2], reduction=reduction)
    upstream = torch.full_like(loss, 3.0)
    first = torch.autograd.grad(loss, leaves, upstream, retain_graph=True)
    kept = [each.clone() for each in first]
    second = torch.autograd.grad(loss, leaves, 2.0 * upstream)
    for one, copy, other in zip(first, kept, second, strict=True):
        assert torch.equal(one, copy)
        torch.testing.assert_close(2.0 * one, other)


def test_gradients_for_a_batch_of_upstreams() -> None:
    *leaves, target = parts()
    loss = linear_cross_entropy(*leaves[:2], target, leaves[2], reduction="none")
    upstream = torch.randn(3, N, dtype=torch.float64)
    found = torch.autograd.grad(loss, leaves, upstream, retain_graph=True, is_grads_batched=True)
    for n, each in enumerate(upstream):
        for one, other in zip(found, torch.autograd.grad(loss, leaves, each, retain_graph=True), strict=True):
            torch.testing.assert_close(one[n], other)


@every_map
def test_only_what_learns_gets_gradients(name: str) -> None:
    *leaves, target = parts()
    expected = torch.autograd.grad(linear_cross_entropy(*leaves[:2], target, leaves[2], map=name), leaves)
    for learns in itertools.product((False, True), repeat=3):
        some = [each.detach().requires_grad_(asked) for each, asked in zip(leaves, learns, strict=True)]
        loss = linear_cross_entropy(*some[:2], target, some[2], map=name)
        assert loss.requires_grad == any(learns)
        if any(learns):
            loss.backward()
        for one, other, asked in zip(some, expected, learns, strict=True):
            assert (one.grad is not None) == asked
            if one.grad is not None:
                torch.testing.assert_close(one.grad, other)


def test_the_hidden_state_may_be_the_weight() -> None:
    weight = parts()[1].detach()[:9].requires_grad_()
    target = torch.arange(9)
    expected = cross_entropy(weight @ weight.T, target)
    found = linear_cross_entropy(weight, weight, target)
    gradients = [torch.autograd.grad(each, weight, create_graph=True)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(*(torch.autograd.grad(each.square().sum(), weight)[0] for each in gradients))


@every_map
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("native", [False, True])
def test_half_precisions_sum_in_float32(
    name: str, dtype: torch.dtype, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_linear, "has_instructions", lambda _: native)
    for module in (_linear, _linear_rows):
        monkeypatch.setattr(module, "PIECE", 600)
    *leaves, target = parts(dtype)
    exact = [each.detach().double().requires_grad_() for each in leaves]
    expected = whole(exact, target, name, {"ignore_index": IGNORED, "reduction": "mean"})
    found = linear_cross_entropy(*leaves[:2], target, leaves[2], map=name, ignore_index=IGNORED)
    assert found.dtype == torch.float32
    rounding = torch.finfo(torch.float32).eps if not native or dtype == torch.float32 else torch.finfo(dtype).eps
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=4 * rounding)
    made, wanted = torch.autograd.grad(found, leaves), torch.autograd.grad(expected, exact)
    for one, other in zip(made, wanted, strict=True):
        assert one.dtype == dtype
        assert float((one.double() - other).norm() / other.norm()) < 2 * torch.finfo(dtype).eps + 2 * rounding


@pytest.mark.parametrize("native", [False, True])
def test_autocast_rounds_factors_of_products_alone(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_linear, "has_instructions", lambda _: native)
    *leaves, target = parts(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(leaves[0].bfloat16(), leaves[1], target, leaves[2], label_smoothing=0.1)
    made = torch.autograd.grad(loss, leaves)
    rounded = [each.detach().bfloat16().double().requires_grad_() for each in leaves]
    exact = linear_cross_entropy(*rounded[:2], target, rounded[2], label_smoothing=0.1)
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=5e-3)
    for one, other in zip(made, torch.autograd.grad(exact, rounded), strict=True):
        assert one.dtype == torch.float32
        assert float((one - other).norm() / other.norm()) < 1e-2


@every_map
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_nothing_that_counts_is_zero(name: str, reduction: str) -> None:
    *leaves, target = parts()
    for hidden, answers in ((leaves[0], torch.full_like(target, -100)), (leaves[0][:0], target[:0])):
        loss = linear_cross_entropy(hidden, leaves[1], answers, leaves[2], map=name, reduction=reduction)
        assert loss.shape == (answers.shape if reduction == "none" else ())
        assert not loss.any()
        assert all(not each.any() for each in torch.autograd.grad(loss.sum(), leaves))


def test_an_ignored_row_may_hold_anything() -> None:
    *leaves, target = parts()
    hidden = leaves[0].detach().clone()
    hidden[::5] = torch.nan
    loss = linear_cross_entropy(hidden.requires_grad_(), leaves[1], target, ignore_index=IGNORED)
    made = torch.autograd.grad(loss, (hidden, leaves[1]))
    assert bool(loss.isfinite())
    assert all(bool(each.isfinite().all()) for each in made)
    assert not made[0][::5].any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@every_map
def test_bad_numbers(name: str, dtype: torch.dtype) -> None:
    *leaves, target = parts(dtype)
    hidden, weight, bias = (each.detach().clone() for each in leaves)
    hidden[3] = torch.nan
    hidden.requires_grad_()
    bias[7] = -torch.inf
    bias[8] = torch.inf
    target[:3] = torch.tensor([8, 7, 9])
    rows = linear_cross_entropy(hidden, weight, target, bias, map=name, reduction="none")
    assert rows[0] == 0.0  # all weight on what is infinite
    assert bool(rows[[1, 2]].isinf().all())
    assert bool(rows[3].isnan())
    (made,) = torch.autograd.grad(rows[[0, 4]].sum(), hidden)
    assert bool(made[0].isfinite().all())
    bias[8] = 0.0
    rows = linear_cross_entropy(hidden, weight, target, bias, map=name, reduction="none")
    expected = LOSSES[name](linear(hidden, weight).to(rows.dtype) + bias.to(rows.dtype), target, reduction="none")
    torch.testing.assert_close(
        rows, expected, equal_nan=True, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-2
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_infinite_losses_have_the_gradient_of_the_plain_loss(dtype: torch.dtype) -> None:
    *leaves, target = parts(dtype)
    hidden, weight, bias = leaves[0], leaves[1].detach(), leaves[2].detach().clone()
    bias[7] = -torch.inf
    target[2] = 7
    loss = linear_cross_entropy(hidden, weight, target, bias, reduction="sum")
    (made,) = torch.autograd.grad(loss, hidden)
    plain = LOSSES["softmax"](linear(hidden, weight, bias).to(loss.dtype), target, reduction="sum")
    (expected,) = torch.autograd.grad(plain, hidden)
    assert loss == plain == torch.inf
    assert not made[2].any()
    torch.testing.assert_close(made, expected, rtol=3e-2 if dtype == torch.bfloat16 else 1e-4, atol=1e-2)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@every_map
def test_smoothing_with_a_score_of_plus_infinity(name: str, dtype: torch.dtype, smoothing: float) -> None:
    *leaves, target = parts(dtype)
    hidden, weight, bias = (each.detach().clone() for each in leaves)
    bias[8] = torch.inf
    target[:2] = torch.tensor([8, 7])
    rows = linear_cross_entropy(hidden, weight, target, bias, map=name, label_smoothing=smoothing, reduction="none")
    assert rows[0] == (torch.inf if smoothing else 0.0)
    assert rows[1] == torch.inf


@pytest.mark.parametrize("shift", [1e4, -1e4])
def test_large_logits(shift: float) -> None:
    *leaves, target = parts(torch.float32)
    bias = leaves[2].detach() + shift
    found = linear_cross_entropy(leaves[0], leaves[1], target, bias)
    expected = cross_entropy(linear(leaves[0], leaves[1], bias), target)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    wide = 1e4 * leaves[0].detach()
    torch.testing.assert_close(
        linear_cross_entropy(wide, leaves[1], target), cross_entropy(linear(wide, leaves[1]), target)
    )


@every_map
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_transforms(name: str) -> None:
    *leaves, target = parts()
    hidden, weight, bias = (each.detach() for each in leaves)

    def loss(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
        return linear_cross_entropy(hidden, weight, target, bias, map=name, z_loss=1e-3 if name == "softmax" else 0.0)

    expected = torch.autograd.grad(loss(*leaves[:2], target), leaves[:2])
    for one, other in zip(torch.func.grad(loss, (0, 1))(hidden, weight, target), expected, strict=True):
        torch.testing.assert_close(one, other)
    each = torch.func.vmap(loss, (0, None, 0))(hidden, weight, target)
    rows = torch.stack([loss(hidden[n], weight, target[n]) for n in range(N)])
    torch.testing.assert_close(each, rows)
    tangent = torch.randn_like(hidden)
    _, moved = torch.func.jvp(lambda given: loss(given, weight, target), (hidden,), (tangent,))
    torch.testing.assert_close(moved, (expected[0] * tangent).sum())


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of Dynamo, at any break of a graph
def test_compile_breaks_its_graph_and_is_right() -> None:
    *leaves, target = parts()

    def loss(hidden: Tensor, weight: Tensor) -> Tensor:
        return linear_cross_entropy(2.0 * hidden, weight, target).exp()

    found = torch.compile(loss, backend="eager")(*leaves[:2])
    expected = cross_entropy(linear(2.0 * leaves[0], leaves[1]), target).exp()
    torch.testing.assert_close(found, expected)
    for one, other in zip(*(torch.autograd.grad(each, leaves[:2]) for each in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)


def test_leading_axes_and_strides() -> None:
    *leaves, target = parts()
    hidden = leaves[0][:36].detach().reshape(E, 4, 9).permute(1, 2, 0).requires_grad_()
    answers = target[:36].reshape(4, 9)
    for reduction in ("mean", "none"):
        found = linear_cross_entropy(hidden, leaves[1], answers, reduction=reduction)
        expected = cross_entropy(linear(hidden, leaves[1]).movedim(-1, 1), answers, reduction=reduction)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(*(torch.autograd.grad(each.sum(), hidden)[0] for each in (found, expected)))


def test_sizes_that_are_nothing() -> None:
    target = torch.arange(3)
    flat = linear_cross_entropy(torch.zeros(3, 0), torch.zeros(V, 0), target)
    assert float(flat) == pytest.approx(math.log(V))
    assert linear_cross_entropy(torch.zeros(3, E), torch.zeros(0, E), torch.full_like(target, -100)) == 0.0
    for name in LOSSES:  # one class is certain
        hidden = torch.randn(3, E, requires_grad=True)
        loss = linear_cross_entropy(hidden, torch.randn(1, E), 0 * target, map=name)
        assert loss == 0.0
        assert not torch.autograd.grad(loss, hidden)[0].any()


def test_shapes_alone() -> None:
    hidden, weight = (torch.empty(size, E, device="meta") for size in (3, V))
    assert linear_cross_entropy(hidden, weight, torch.empty(3, dtype=torch.long, device="meta")).shape == ()


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_small_integers_as_targets(dtype: torch.dtype) -> None:
    """156 is -100 in eight bits, and 300 classes are 44."""
    *leaves, target = parts()
    target[:2] = torch.tensor([156, 250])
    target %= 256
    expected = linear_cross_entropy(*leaves[:2], target)
    torch.testing.assert_close(linear_cross_entropy(*leaves[:2], target.to(dtype)), expected)
    torch.testing.assert_close(maps.cross_entropy(linear(*leaves[:2]), target.to(dtype)), expected)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"target": torch.tensor([1, V, 2])}, ValueError, r"class indices in \[0, 299\]\. Got 300 at \(1,\)\. "),
    ({"target": torch.tensor([-1, V, 2])}, ValueError, r"Got -1 at \(0,\), and 1 more\. "),
    ({"target": torch.ones(3)}, ValueError, r"the shape \(3, 300\) .* Got \(3,\)"),
    ({"target": torch.ones(2, dtype=torch.long)}, ValueError, r"the shape \(3,\)"),
    ({"target": torch.ones(3, V)}, ValueError, r"sum 1\. Got a sum of 300 in row 0"),
    (
        {"target": torch.eye(3, V) * 3 - torch.eye(3, V, dtype=torch.float64).roll(1, 1) * 2},
        ValueError,
        "a number of -2",
    ),
    ({"target": torch.ones(3, dtype=torch.bool)}, TypeError, r"Got a tensor of torch\.bool"),
    ({"target": torch.eye(3, V).requires_grad_()}, ValueError, "gets no gradient"),
    ({"target": torch.eye(3, V), "ignore_index": 1}, ValueError, "'ignore_index' of linear_cross_entropy must be left"),
    ({"hidden": torch.ones(3, 5)}, ValueError, r"the shape \(\.\.\., 6\)"),
    ({"hidden": torch.ones(3, E, dtype=torch.long)}, TypeError, "'hidden' of linear_cross_entropy must be a floating"),
    ({"weight": torch.ones(V)}, ValueError, "'weight' of linear_cross_entropy must have two axes"),
    ({"weight": torch.ones(V, E).double()}, TypeError, r"must be torch\.float32 as 'hidden' is"),
    ({"bias": torch.ones(1)}, ValueError, r"the shape \(300,\)"),
    ({"weight": torch.ones(V, E, device="meta")}, ValueError, "on the device of 'hidden', cpu. Got meta"),
    ({"weight": torch.ones(V, E).to_sparse()}, TypeError, r"dense tensor\. Got one of layout torch\.sparse_coo"),
    ({"map": ["softmax"]}, ValueError, r"Got \['softmax'\]"),
    ({"map": "hardmax"}, ValueError, "must be one of softmax, sparsemax, entmax15. Got 'hardmax'"),
    ({"map": "sparsemax", "z_loss": 0.1}, ValueError, "'z_loss' of linear_cross_entropy must be 0 with sparsemax"),
    ({"z_loss": -1.0}, ValueError, "finite and not negative"),
    ({"soft_cap": 0.0}, ValueError, "positive and finite"),
    ({"soft_cap": "3"}, TypeError, "'soft_cap' of linear_cross_entropy must be a number"),
    ({"label_smoothing": 2.0}, ValueError, r"must lie in \[0, 1\]"),
    ({"reduction": "average"}, ValueError, "must be one of mean, sum, none"),
]


@pytest.mark.parametrize(("change", "error", "said"), BAD, ids=[said[:30] for _, _, said in BAD])
def test_bad_arguments(change: dict[str, Any], error: type[Exception], said: str) -> None:
    given = {
        "hidden": torch.ones(3, E),
        "weight": torch.ones(V, E),
        "target": torch.zeros(3, dtype=torch.long),
    } | change
    with pytest.raises(error, match=said):
        linear_cross_entropy(**given)

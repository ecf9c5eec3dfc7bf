"""Fenchel-Young losses against float64 loops, PyTorch, the package entmax and finite differences."""

import math
from collections.abc import Callable
from functools import partial

import entmax as package
import pytest
import torch
from torch import Tensor

from softplace import maps
from softplace.maps.losses import cross_entropy, entmax15_loss, entmax_loss, sparsemax_loss

Loss = Callable[..., Tensor]
LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "sparsemax": sparsemax_loss,
    "entmax15": entmax15_loss,
    "alpha 1": partial(entmax_loss, alpha=1.0),
    "alpha 1.3": partial(entmax_loss, alpha=1.3),
    "alpha 3": partial(entmax_loss, alpha=3.0),
    "tensor 1": partial(entmax_loss, alpha=torch.tensor(1.0, dtype=torch.float64)),
    "tensor 1.7": partial(entmax_loss, alpha=torch.tensor(1.7, dtype=torch.float64)),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def negative_entropy(p: list[float], alpha: float) -> float:
    if alpha == 1.0:
        return sum(x * math.log(x) for x in p if x > 0)
    return (sum(x**alpha for x in p) - 1) / (alpha * (alpha - 1))


@pytest.mark.parametrize("alpha", [1.0, 1.2, 1.5, 1.9, 2.0, 4.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_the_loss_is_the_gap_of_fenchel_and_young(alpha: float, scale: float) -> None:
    scores, target = random(20, 7) * scale, torch.softmax(random(20, 7, seed=1), -1)
    p = maps.entmax(scores, alpha=alpha)
    expected = [
        sum(a * s for a, s in zip(q, row, strict=True))
        - negative_entropy(q, alpha)
        + negative_entropy(y, alpha)
        - sum(b * s for b, s in zip(y, row, strict=True))
        for q, y, row in zip(p.tolist(), target.tolist(), scores.tolist(), strict=True)
    ]
    found = entmax_loss(scores, target, alpha=alpha, reduction="none")
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12 * scale)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_is_that_of_pytorch(soft: bool, weighted: bool, label_smoothing: float, reduction: str) -> None:
    scores = random(6, 5, 3).requires_grad_()
    target = random(6, 5, 3, seed=1).abs() if soft else random(6, 3, seed=2).abs().mul(2).long().clamp(max=4)
    weight = random(5, seed=3).abs() if weighted else None
    options = {"weight": weight, "label_smoothing": label_smoothing, "reduction": reduction}
    expected = torch.nn.functional.cross_entropy(scores, target, **options)
    found = cross_entropy(scores, target, 1, **options)
    torch.testing.assert_close(found, expected)
    gradient = torch.autograd.grad(expected.sum(), scores)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), scores), gradient)
    if not soft:
        ignored = {**options, "ignore_index": 1}
        expected = torch.nn.functional.cross_entropy(scores, target, **ignored)
        torch.testing.assert_close(cross_entropy(scores, target, 1, **ignored), expected)
    # The gradient at alpha = 1 is the same; of a one-hot the value too.
    found = entmax_loss(scores, target, 1, alpha=1.0, **options)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), scores), gradient)


def test_the_losses_are_those_of_the_package() -> None:
    scores, target = random(50, 9) * 2, torch.arange(50) % 9
    for ours, theirs in [(sparsemax_loss, package.sparsemax_loss), (entmax15_loss, package.entmax15_loss)]:
        torch.testing.assert_close(ours(scores, target, reduction="none"), theirs(scores, target))
    for alpha in (1.1, 1.5, 1.8, 2.0, 3.0):
        found = entmax_loss(scores, target, alpha=alpha, reduction="none")
        torch.testing.assert_close(found, package.entmax_bisect_loss(scores, target, alpha))


@every_loss
def test_derivatives_by_finite_differences(loss: Loss) -> None:
    scores, target = random(3, 5).requires_grad_(), torch.softmax(random(3, 5, seed=1), -1)
    weight = random(5, seed=2).abs()
    for options in ({}, {"weight": weight, "label_smoothing": 0.2, "temperature": 0.7}):
        for goal in (target, torch.tensor([0, 3, 1])):
            function = partial(loss, target=goal, **options)
            assert torch.autograd.gradcheck(function, (scores,))
            assert torch.autograd.gradgradcheck(function, (scores,))


@pytest.mark.parametrize("value", [1.0, 1.0 + 1e-6, 1.2, 1.5, 2.0, 2.6])
def test_the_derivative_in_alpha(value: float) -> None:
    scores, target = random(3, 5), torch.softmax(random(3, 5, seed=1), -1)
    alpha = torch.full((3, 1), value, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(entmax_loss(scores, target, alpha=alpha, reduction="sum"), alpha)
    step = 1e-4
    # One-sided, as alpha may not fall below 1; of second order.
    a, b, c = (entmax_loss(scores, target, alpha=value + k * step, reduction="none") for k in (0, 1, 2))
    torch.testing.assert_close(found.squeeze(-1), (4 * b - 3 * a - c) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("value", [1.0, 1.5, 2.0])
def test_the_loss_is_continuous_in_alpha(value: float) -> None:
    scores, target = random(30, 8) * 3, torch.arange(30) % 8
    at = entmax_loss(scores, target, alpha=value, reduction="none")
    for step in (1e-12, 1e-9, 1e-6):
        near = entmax_loss(scores, target, alpha=value + step, reduction="none")
        torch.testing.assert_close(near, at, rtol=0, atol=1e-13 + 100 * step)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_never_negative_and_zero_at_the_optimum(loss: Loss, dtype: torch.dtype) -> None:
    scores = (random(200, 6) * 5).to(dtype)
    values = loss(scores, scores.argmax(-1), reduction="none")
    assert values.dtype == dtype
    assert bool((values >= 0).all())
    lead = torch.tensor([[200.0, 0.0, -3.0]], dtype=dtype)
    assert loss(lead, torch.tensor([0])).item() == 0.0


@every_loss
def test_half_precision_is_computed_in_float32(loss: Loss) -> None:
    scores, target = random(20, 3000).bfloat16(), torch.arange(20)
    expected = loss(scores.double(), target, reduction="none")
    torch.testing.assert_close(loss(scores, target, reduction="none").double(), expected, rtol=2**-8, atol=0)


@every_loss
def test_masks_and_bad_numbers(loss: Loss) -> None:
    nan, inf = math.nan, math.inf
    none = partial(loss, reduction="none")
    mask = torch.tensor([[True, False, True]])
    scores = torch.tensor([[1.0, nan, 0.5]], requires_grad=True)
    kept = torch.tensor([[1.0, 0.5]], requires_grad=True)
    for smoothing in (0.0, 0.2):
        value = none(scores, torch.tensor([2]), mask=mask, label_smoothing=smoothing)
        expected = none(kept, torch.tensor([1]), label_smoothing=smoothing)
        torch.testing.assert_close(value, expected)
        (gradient,) = torch.autograd.grad(value.sum(), scores)
        assert gradient[0, 1] == 0.0
        torch.testing.assert_close(gradient[mask], torch.autograd.grad(expected.sum(), kept)[0][0])
    assert none(scores, torch.tensor([1]), mask=mask).item() == inf
    assert none(scores, torch.tensor([[0.5, 0.0, 0.5]]), mask=mask).isfinite().all()
    assert none(scores, torch.tensor([1]), mask=mask, weight=torch.tensor([1.0, 0.0, 1.0])).item() == 0.0
    assert none(scores, torch.tensor([0])).isnan().all()
    assert none(scores, torch.tensor([0]), mask=torch.tensor(False)).item() == inf
    assert none(torch.tensor([[1.0, inf, 0.5]]), torch.tensor([1])).item() == 0.0
    assert none(torch.tensor([[1.0, inf, 0.5]]), torch.tensor([0])).item() == inf
    torch.testing.assert_close(
        none(torch.tensor([[inf, inf, 0.5]]), torch.tensor([0])), none(torch.zeros(1, 2), torch.tensor([0]))
    )
    assert none(torch.tensor([[1.0, -inf, 0.5]]), torch.tensor([1])).item() == inf


@every_loss
def test_what_is_ignored_has_no_loss_and_no_gradient(loss: Loss) -> None:
    scores = torch.tensor([[1.0, math.nan], [0.3, 0.2]], requires_grad=True)
    value = loss(scores, torch.tensor([-100, 1]))
    value.backward()
    assert scores.grad is not None
    assert scores.grad[0].tolist() == [0.0, 0.0]
    torch.testing.assert_close(value, loss(scores[1:], torch.tensor([1])))
    (gradient,) = torch.autograd.grad(loss(scores, torch.tensor([7, 7]), ignore_index=7), scores)
    assert gradient.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)).item() == 0.0
    assert loss(torch.zeros(2, 0), torch.zeros(2, 0), reduction="none").tolist() == [0.0, 0.0]
    assert loss(torch.tensor(3.0), torch.tensor(0)).item() == 0.0


# PyTorch itself warns when forward mode is first used.
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@every_loss
def test_transforms(loss: Loss) -> None:
    scores, target, weight = random(4, 5), torch.tensor([0, 4, 2, 2]), random(5, seed=1).abs()
    one = partial(loss, weight=weight, reduction="sum")
    rows = torch.func.vmap(one)(scores, target)
    torch.testing.assert_close(rows, loss(scores, target, weight=weight, reduction="none"))
    torch.testing.assert_close(loss(scores.mT, target, 0, weight=weight, reduction="none"), rows)
    total = partial(loss, target=target, weight=weight)
    hessian = torch.func.hessian(total)(scores)
    torch.testing.assert_close(hessian, torch.autograd.functional.hessian(total, scores))
    gradient = torch.func.grad(total)(scores)
    direction = random(4, 5, seed=2)
    forward = torch.func.jvp(total, (scores,), (direction,))[1]
    torch.testing.assert_close(forward, (gradient * direction).sum())
    leaf = scores.clone().requires_grad_()
    value = torch.compile(total, fullgraph=True, backend="aot_eager")(leaf)
    value.backward()
    torch.testing.assert_close(leaf.grad, gradient)


BAD = [
    (
        {"target": torch.tensor([True])},
        TypeError,
        r"'target' of NAME must be class indices .* Got a tensor of torch.bool",
    ),
    ({"target": torch.tensor([[0]])}, ValueError, r"'target' of NAME must have the shape \(1,\).* Got \(1, 1\)"),
    ({"target": torch.zeros(1, 2)}, ValueError, r"'target' of NAME must have the shape \(1, 3\).* Got \(1, 2\)"),
    ({"target": torch.tensor([3])}, ValueError, r"'target' of NAME must hold class indices in \[0, 2\]. Got 3"),
    ({"target": torch.ones(1, 3), "ignore_index": 1}, ValueError, r"'ignore_index' of NAME must be left out"),
    ({"ignore_index": 1.0}, TypeError, r"'ignore_index' of NAME must be an integer. Got float"),
    ({"weight": torch.ones(2)}, ValueError, r"'weight' of NAME must have the shape \(3,\).* Got \(2,\)"),
    ({"weight": [1.0]}, TypeError, r"'weight' of NAME must be a floating-point tensor. Got list"),
    ({"label_smoothing": 1.5}, ValueError, r"'label_smoothing' of NAME must lie in \[0, 1\]. Got 1.5"),
    ({"label_smoothing": "a"}, TypeError, r"'label_smoothing' of NAME must be a number. Got str"),
    ({"reduction": "elementwise_mean"}, ValueError, r"'reduction' of NAME must be one of mean, sum, none. Got 'elem"),
    ({"temperature": 0.0}, ValueError, r"'temperature' of NAME must be positive"),
]


@pytest.mark.parametrize(("arguments", "error", "text"), BAD)
@pytest.mark.parametrize("loss", [cross_entropy, sparsemax_loss, entmax15_loss, entmax_loss])
def test_bad_arguments_are_named(loss: Loss, arguments: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text.replace("NAME", loss.__name__)):
        loss(torch.zeros(1, 3), **{"target": torch.tensor([0]), **arguments})


def test_bad_alphas_and_negative_targets_are_named() -> None:
    scores, target = torch.zeros(1, 3), torch.tensor([0])
    for alpha in (0.5, math.nan, math.inf, torch.tensor([[0.5]])):
        with pytest.raises(ValueError, match=r"'alpha' of entmax_loss must be finite and at least 1"):
            entmax_loss(scores, target, alpha=alpha)
    with pytest.raises(TypeError, match=r"'alpha' of entmax_loss must be a number or a tensor. Got str"):
        entmax_loss(scores, target, alpha="2")
    with pytest.raises(ValueError, match=r"'target' of sparsemax_loss must not be negative. Got -1"):
        sparsemax_loss(scores, torch.tensor([[-1.0, 1.0, 1.0]]))
    with pytest.raises(ValueError, match=r"'weight' of sparsemax_loss must not be negative. Got -1"):
        sparsemax_loss(scores, target, weight=torch.tensor([-1.0, 1.0, 1.0]))

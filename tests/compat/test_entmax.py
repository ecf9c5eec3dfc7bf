"""Every name of `softplace.compat.entmax` beside the package `entmax` 1.3, in float64, where that is right."""

import inspect
import math

import entmax as package
import pytest
import torch
from torch import Tensor

from softplace.compat import entmax as ours
from softplace.maps import _reference

MAPS = ["sparsemax", "entmax15", "sparsemax_bisect", "entmax_bisect", "normmax_bisect", "budget_bisect"]
LOSSES = ["sparsemax_loss", "entmax15_loss", "sparsemax_bisect_loss", "entmax_bisect_loss", "normmax_bisect_loss"]
MODULES = ["Sparsemax", "Entmax15", "SparsemaxBisect", "EntmaxBisect", "NormmaxBisect", "BudgetBisect"]
LOSS_MODULES = ["SparsemaxLoss", "Entmax15Loss", "SparsemaxBisectLoss", "EntmaxBisectLoss", "NormmaxBisectLoss"]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def same(name: str, *arguments: object, **options: object) -> None:
    """The same values and gradients."""
    found, expected = getattr(ours, name)(*arguments, **options), getattr(package, name)(*arguments, **options)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    scores = arguments[0]
    assert isinstance(scores, Tensor)
    weights = random(*found.shape, seed=9)
    gradients = [torch.autograd.grad((value * weights).sum(), scores)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-7)


def test_every_public_name_and_argument_is_there() -> None:
    public = [name for name, value in vars(package).items() if callable(value)]
    assert set(public) == {*MAPS, *LOSSES, *MODULES, *LOSS_MODULES}
    for name in public:
        theirs = inspect.signature(getattr(package, name)).parameters.values()
        mine = list(inspect.signature(getattr(ours, name)).parameters.values())[: len(theirs)]
        assert [(p.name, p.default) for p in mine] == [(p.name, p.default) for p in theirs], name


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_maps(name: str, dim: int) -> None:
    same(name, random(4, 5, 6).requires_grad_(), dim=dim)


@pytest.mark.parametrize("alpha", [0.3, 0.9, 1.1, 1.5, 1.8, 2, 3.5])
def test_entmax_of_every_alpha(alpha: float) -> None:
    scores = random(5, 7).requires_grad_()
    same("entmax_bisect", scores, alpha)
    same("entmax_bisect", scores, torch.full((5, 1), alpha, dtype=torch.float64))


def test_entmax_of_alphas_on_both_sides_of_one() -> None:
    scores, alpha = random(4, 7).requires_grad_(), torch.tensor([[0.4], [1.2], [2.0], [0.99]], dtype=torch.float64)
    same("entmax_bisect", scores, alpha)
    alpha.requires_grad_()
    gradients = [
        torch.autograd.grad((function(scores, alpha) * scores).sum(), alpha)[0]
        for function in (ours.entmax_bisect, package.entmax_bisect)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.entmax_bisect(scores, 1.0), torch.softmax(scores, -1))
    torch.testing.assert_close(ours.entmax_bisect(scores, 1 - 1e-10), torch.softmax(scores, -1))
    masked = torch.tensor([1.0, -math.inf, 0.0])
    assert ours.entmax_bisect(masked, 0.5)[1] == 0.0


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2, 5.0])
def test_normmax_of_every_alpha(alpha: float) -> None:
    scores = random(5, 7).requires_grad_()
    same("normmax_bisect", scores, alpha)
    same("normmax_bisect", scores, torch.full((5, 1), alpha, dtype=torch.float64))


def test_the_gradients_of_an_option_per_row() -> None:
    scores = random(3, 6).requires_grad_()
    for function, options in ((ours.normmax_bisect, [0.5, 1.4, 3.0]), (ours.budget_bisect, [0.5, 1.7, 3.2])):
        each = torch.tensor(options, dtype=torch.float64)[:, None].requires_grad_()
        assert torch.autograd.gradcheck(function, (scores, each))
        assert torch.autograd.gradgradcheck(function, (scores, each))


@pytest.mark.parametrize("budget", [0.5, 1, 1.7, 2, 6])
def test_budgets(budget: float) -> None:
    scores = random(5, 7).requires_grad_()
    same("budget_bisect", scores, budget)
    same("budget_bisect", scores, torch.full((5, 1), budget, dtype=torch.float64))


def test_budgets_of_nothing_and_of_everything() -> None:
    assert ours.budget_bisect(random(3, 4), 0).tolist() == [[0.0] * 4] * 3
    assert ours.budget_bisect(random(3, 4), torch.tensor(4.0)).tolist() == [[1.0] * 4] * 3
    assert ours.budget_bisect(random(3, 0)).shape == ours.budget_bisect(random(3, 0), 0.5).shape == (3, 0)
    assert torch.vmap(lambda score: ours.budget_bisect(score, 0.5))(random(3)).tolist() == [0.5] * 3


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.9])
def test_single_precision_of_an_alpha_below_one(alpha: float) -> None:
    scores = random(50, 200)
    single = ours.entmax_bisect(scores.float(), alpha).double()
    torch.testing.assert_close(single, ours.entmax_bisect(scores.float().double(), alpha), rtol=1e-4, atol=1e-7)
    few = scores[:3]
    exact = torch.tensor([_reference.entmax(row, alpha=alpha) for row in few.tolist()], dtype=torch.float64)
    torch.testing.assert_close(ours.entmax_bisect(few, alpha), exact, rtol=1e-11, atol=1e-15)


INF, NAN = math.inf, math.nan
BAD_ROWS = torch.tensor([[NAN, 1.0, 2.0], [INF, 1.0, 2.0], [-INF, -INF, 1.0], [INF, INF, 0.0], [-INF] * 3, [0.5] * 3])


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (1.5, [[1, 0, 0.5], [0, 0, 1], [0.75, 0.75, 0], [0, 0, 0], [0.5] * 3]),
        (2.0, [[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 0, 0], [2 / 3] * 3]),
        (0.6, [[0.6, 0, 0], [0, 0, 0.6], [0.3, 0.3, 0], [0, 0, 0], [0.2] * 3]),
    ],
)
def test_budgets_of_bad_numbers(budget: float, expected: list[list[float]]) -> None:
    for each in (budget, torch.tensor(budget), torch.full((6, 1), budget)):
        scores = BAD_ROWS.clone().requires_grad_()
        weights = ours.budget_bisect(scores, each)
        assert weights[0].isnan().all()
        torch.testing.assert_close(weights[1:].detach(), torch.tensor(expected), rtol=1e-6, atol=0)
        (gradient,) = torch.autograd.grad((weights[1:] * random(5, 3).float()).sum(), scores)
        assert gradient[1:].isfinite().all()
        assert (gradient[scores.isinf()] == 0).all()


@pytest.mark.parametrize("alpha", [0.5, 1.3, 2.0, 50.0])
def test_normmax_of_bad_numbers(alpha: float) -> None:
    expected = torch.tensor([[1, 0, 0], [0, 0, 1], [0.5, 0.5, 0], [0, 0, 0], [1 / 3] * 3])
    for option in (alpha, torch.tensor(alpha), torch.full((6, 1), alpha)):
        each = option.requires_grad_() if isinstance(option, Tensor) else option
        scores = BAD_ROWS.clone().requires_grad_()
        weights = ours.normmax_bisect(scores, each)
        assert weights[0].isnan().all()
        torch.testing.assert_close(weights[1:].detach(), expected, rtol=1e-6, atol=0)
        inputs = [scores, each] if isinstance(each, Tensor) else [scores]
        upstream = (weights[1:] * random(5, 3).float()).sum()
        if isinstance(each, Tensor) and each.dim() == 0:  # it is that of the row of NaN too
            scores = BAD_ROWS[1:].clone().requires_grad_()
            inputs, upstream = [scores, each], (ours.normmax_bisect(scores, each) * random(5, 3).float()).sum()
        gradients = torch.autograd.grad(upstream, inputs)
        assert all(gradient[-4:].isfinite().all() for gradient in gradients if gradient.dim())
        assert all(gradient.isfinite() for gradient in gradients if not gradient.dim())
        assert (gradients[0][scores.isinf()] == 0).all()


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_normmax_of_an_alpha_below_one(alpha: float) -> None:
    scores = random(5, 7)
    assert torch.equal(
        ours.normmax_bisect(scores, alpha), ours.normmax_bisect(scores, torch.tensor(alpha, dtype=torch.float64))
    )
    for scale in (1e-3, 1.0, 1e3):
        weights = ours.normmax_bisect(scale * scores, alpha)
        torch.testing.assert_close(weights.sum(-1), torch.ones(5, dtype=torch.float64))
        # u = p / ||p||_alpha, and u^(alpha - 1) = s - tau
        norm = weights.pow(alpha).sum(-1, keepdim=True).pow(1 / alpha)
        above = (weights / norm).pow(alpha - 1)
        spread = scale * (scores - scores[:, :1]) - (above - above[:, :1])
        assert (spread.abs() <= 1e-9 * above.amax(-1, keepdim=True)).all()
    assert ours.normmax_bisect(torch.tensor([1e30, 1e30, 2.0]), alpha).tolist()[2] >= 0.99
    single = scores.float().requires_grad_()
    assert torch.autograd.gradcheck(lambda each: ours.normmax_bisect(each, alpha), scores.requires_grad_())
    assert ours.normmax_bisect(single, alpha).isfinite().all()


@pytest.mark.parametrize("name", ["sparsemax_bisect", "entmax_bisect", "normmax_bisect", "budget_bisect"])
def test_errors_name_the_function_that_was_called(name: str) -> None:
    with pytest.raises(TypeError, match=rf"'scores' of {name} must be a floating-point tensor"):
        getattr(ours, name)(torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match=rf"'dim' of {name} must lie in"):
        getattr(ours, name)(torch.zeros(3), dim=4)
    if name in ("entmax_bisect", "normmax_bisect"):
        for wrong in (0.0, -1.0, INF, NAN):
            with pytest.raises(ValueError, match=rf"'alpha' of {name} must be finite.* above 0.* Got {wrong}\."):
                getattr(ours, name)(torch.zeros(3), wrong)
        with pytest.raises(TypeError, match=rf"'alpha' of {name} must be a number or a tensor\. Got str"):
            getattr(ours, name)(torch.zeros(3), "2")
    if name == "budget_bisect":
        for wrong in (4, -1, NAN):
            with pytest.raises(ValueError, match=rf"'budget' of budget_bisect must lie in \[0, 3\].* Got {wrong}"):
                ours.budget_bisect(torch.zeros(3), wrong)


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    scores, target = random(30, 6).requires_grad_(), torch.arange(30) % 6
    same(name, scores, target)
    if name in ("entmax_bisect_loss", "normmax_bisect_loss"):
        same(name, scores, target, 1.3)
        same(name, scores, target, alpha=2, n_iter=60)


@pytest.mark.parametrize("name", LOSS_MODULES)
@pytest.mark.parametrize("reduction", ["elementwise_mean", "sum", "none"])
@pytest.mark.parametrize("ignore_index", [-100, 2, torch.tensor(2)])
def test_loss_modules(name: str, reduction: str, ignore_index: int | Tensor) -> None:
    scores, target = random(30, 6), torch.arange(30) % 6
    options = {"reduction": reduction, "ignore_index": ignore_index}
    found, expected = (getattr(source, name)(**options)(scores, target) for source in (ours, package))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MODULES)
def test_modules(name: str) -> None:
    scores = random(4, 5, 6)
    found, expected = getattr(ours, name)(dim=1)(scores), getattr(package, name)(dim=1)
    reference = expected(scores) if name != "SparsemaxBisect" else package.sparsemax(scores, 1)
    torch.testing.assert_close(found, reference, rtol=1e-9, atol=1e-9)


def test_sizes_of_the_support() -> None:
    scores, target = torch.tensor([[3.0, 2.5, 1.0], [0.0, 0.0, 0.0]]), torch.tensor([0, 1])
    for function in (ours.sparsemax, ours.entmax15):
        assert function(scores, return_support_size=True)[1].tolist() == [[2], [3]]
    for loss in (ours.sparsemax_loss, ours.entmax15_loss):
        assert loss(scores, target, return_support_size=True)[1].tolist() == [[2], [3]]
    for module in (ours.SparsemaxLoss, ours.Entmax15Loss):
        assert module(return_support_size=True)(scores, target)[1].tolist() == [[2], [3]]


def test_a_parameter_is_learned() -> None:
    alpha = torch.nn.Parameter(torch.tensor(1.5))
    for module in (ours.EntmaxBisect(alpha), ours.EntmaxBisectLoss(alpha)):
        assert list(module.parameters()) == [alpha]


def test_bad_arguments_are_named() -> None:
    scores, target = torch.zeros(1, 3), torch.tensor([0])
    with pytest.raises(TypeError, match=r"'n_iter' of entmax_bisect must be an integer or None. Got float"):
        ours.entmax_bisect(scores, n_iter=2.0)
    with pytest.raises(ValueError, match=r"'k' of sparsemax must be at least 1. Got 0"):
        ours.sparsemax(scores, k=0)
    with pytest.raises(TypeError, match=r"'ensure_sum_one' of sparsemax_bisect must be True or False. Got int"):
        ours.sparsemax_bisect(scores, ensure_sum_one=1)
    with pytest.raises(ValueError, match=r"'alpha' of entmax_bisect must be finite and above 0. Got 0"):
        ours.entmax_bisect(scores, torch.tensor(0.0))
    with pytest.raises(ValueError, match=r"'alpha' of normmax_bisect must be finite, above 0 and not 1. Got 1"):
        ours.normmax_bisect(scores, torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"'budget' of budget_bisect must lie in \[0, 3\].* Got 3.5"):
        ours.budget_bisect(scores, 3.5)
    with pytest.raises(TypeError, match=r"'budget' of budget_bisect must be a number or a tensor. Got str"):
        ours.budget_bisect(scores, "2")
    with pytest.raises(ValueError, match=r"'reduction' of SparsemaxLoss must be one of elementwise_mean, .* Got 'avg'"):
        ours.SparsemaxLoss(reduction="avg")
    with pytest.raises(TypeError, match=r"'ignore_index' of SparsemaxLoss must be an integer. Got float"):
        ours.SparsemaxLoss(ignore_index=1.0)
    with pytest.raises(TypeError, match=r"'target' of normmax_bisect_loss must be class indices. Got a tensor of"):
        ours.normmax_bisect_loss(scores, torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"must hold class indices in \[0, 2\]. Got 3"):
        ours.sparsemax_loss(scores, target + 3)

"""Estimators without bias: the mean of a million estimates is the exact gradient, within four standard errors."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace.latent import (
    ESTIMATORS,
    SignalMoments,
    arsm,
    disarm,
    nvil,
    rebar,
    reinforce,
    relax,
)
from tests.latent.problems import LOSSES, exact_gradient, gradient, make_loss, moments, normal

REPEATS = 10


def odd_control(scores: Tensor) -> Tensor:
    """Nothing like the loss, and no function of softmax(scores) alone."""
    return (torch.sin(scores) * torch.arange(1.0, scores.shape[-1] + 1.0)).sum((-2, -1)) + scores[..., 0, 0]


CASES: dict[str, Any] = {
    "reinforce": reinforce,
    "reinforce with a baseline": partial(reinforce, baseline=torch.tensor(0.7)),
    "leave-one-out": partial(reinforce, baseline="leave-one-out", samples=2),
    "nvil": partial(nvil, baseline=torch.tensor(0.5), moments=SignalMoments(mean=-0.3, variance=0.6)),
    "rebar": rebar,
    "rebar, other numbers": partial(rebar, temperature=torch.tensor(1.7), eta=-0.6),
    "relax": relax,
    "relax with an odd control": partial(relax, control=odd_control),
    "arsm": arsm,
    "disarm": disarm,
}
QUICK = {(2, 2, "table"), (3, 1, "quadratic"), (5, 1, "linear"), (3, 2, "table")}
SIZES = [
    pytest.param(classes, categoricals, kind, marks=() if (classes, categoricals, kind) in QUICK else pytest.mark.slow)
    for classes in (2, 3, 5)
    for categoricals in (1, 2)
    for kind in LOSSES
]


@pytest.mark.parametrize(("classes", "categoricals", "kind"), SIZES)
@pytest.mark.parametrize("name", CASES)
def test_the_mean_of_a_million_estimates_is_the_exact_gradient(
    name: str, classes: int, categoricals: int, kind: str
) -> None:
    logits, loss = normal(categoricals, classes, label="logits"), make_loss(kind, categoricals, classes)
    found = moments(CASES[name], logits, loss, repeats=REPEATS, label=name)
    exact = exact_gradient(logits, loss)
    assert ((found.mean - exact).abs() <= 4.0 * found.error + 1e-6).all(), (found.mean - exact) / found.error
    assert found.error.amax() < 0.01  # or the test could not fail


def test_the_registry_says_which_are_unbiased() -> None:
    tested = {"marginalise", "marginalise-sparsemax", "marginalise-entmax15", "reinforce", "reinforce-leave-one-out"}
    tested |= {"nvil", "rebar", "relax", "arsm", "disarm"}
    assert {name for name, each in ESTIMATORS.items() if each.unbiased} == tested


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("name", ["reinforce", "rebar", "relax", "arsm", "disarm"])
def test_more_samples_have_the_same_mean_and_less_variance(name: str, samples: int) -> None:
    logits, loss = normal(2, 3, label="logits"), make_loss("quadratic", 2, 3)
    one = moments(CASES[name], logits, loss, repeats=1, label=f"{name} one")
    some = moments(CASES[name], logits, loss, repeats=1, label=f"{name} some", samples=samples)
    assert ((some.mean - exact_gradient(logits, loss)).abs() <= 4.5 * some.error + 1e-6).all()
    assert (some.variance.sum() * samples / one.variance.sum()).item() == pytest.approx(1.0, rel=0.05)


# Control variates


def test_controls_take_off_variance() -> None:
    logits, quadratic = normal(2, 3, label="logits"), make_loss("quadratic", 2, 3)

    def loss(sample: Tensor) -> Tensor:
        return quadratic(sample) + 5.0

    def variance(name: str, **options: Any) -> float:
        found = moments(CASES[name], logits, loss, repeats=1, label=name, **options)
        return float(found.variance.sum())

    plain = variance("reinforce")
    for name in ("leave-one-out", "rebar", "relax", "arsm", "disarm"):
        assert variance(name) < 0.4 * plain, name


def test_rebar_learns_its_numbers_by_the_variance() -> None:
    logits, loss = normal(4, 2, 3, label="logits", dtype=torch.double), make_loss("quadratic", 2, 3, torch.double)
    weight = torch.ones((), dtype=torch.double, requires_grad=True)

    def run(temperature: Tensor, eta: Tensor, leaf: Tensor | None = None) -> Any:
        source = torch.Generator().manual_seed(3)
        leaf = logits if leaf is None else leaf
        return rebar(
            leaf,
            lambda sample: weight * loss(sample),
            samples=3,
            temperature=temperature,
            eta=eta,
            generator=source,
        )

    leaf = logits.clone().requires_grad_()
    numbers = [torch.tensor(value, dtype=torch.double, requires_grad=True) for value in (0.8, 0.6)]
    found = run(*numbers, leaf)
    (slope,) = torch.autograd.grad(found.surrogate.sum(), leaf, retain_graph=True)
    assert found.variance.item() == pytest.approx(slope.square().sum().item(), rel=1e-12)
    learned = torch.autograd.grad(found.variance, numbers, retain_graph=True)
    others = torch.autograd.grad(found.variance, [leaf, weight], allow_unused=True)
    assert others == (None, None)
    step = 1e-6
    for number in range(2):
        moved = []
        for sign in (1, -1):
            values = [each.detach() + sign * step * (number == place) for place, each in enumerate(numbers)]
            moved.append(run(*values).variance.item())
        assert learned[number].item() == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-5)
    assert rebar(logits, loss).variance is None


def test_relax_trains_its_control_by_the_variance() -> None:
    logits, loss = normal(2, 3, label="logits"), make_loss("quadratic", 2, 3)
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Flatten(-2), torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1), torch.nn.Flatten(-2)
    )

    def control(scores: Tensor) -> Tensor:
        return net(scores)

    optimizer, source = torch.optim.Adam(net.parameters(), 0.02), torch.Generator().manual_seed(0)
    before = moments(partial(relax, control=control), logits, loss, repeats=1, label="before")
    for _ in range(150):
        optimizer.zero_grad()
        variance = relax(logits.expand(500, 2, 3), loss, control=control, generator=source).variance
        (variance / 500).backward()
        optimizer.step()
    after = moments(partial(relax, control=control), logits, loss, repeats=1, label="after")
    assert after.variance.sum() < 0.6 * before.variance.sum()
    assert ((after.mean - exact_gradient(logits, loss)).abs() <= 4.5 * after.error).all()


# Identities


def test_arsm_of_two_classes_is_arm() -> None:
    logits, loss = normal(50, 2, 2, label="logits", dtype=torch.double), make_loss("table", 2, 2, torch.double)
    found = gradient(arsm, logits, loss, generator=torch.Generator().manual_seed(1))
    drawn = torch.rand(1, 50, 2, 2, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    noise = -torch.log1p(-drawn[0])
    u = noise[..., 0] / noise.sum(-1)
    chance = torch.sigmoid(logits[..., 0] - logits[..., 1])

    def of(first: Tensor) -> Tensor:
        return loss(torch.stack([first, ~first], -1).double())

    # Yin and Zhou 2019, eq. 8: [f(1[u > sigmoid(-phi)]) - f(1[u < sigmoid(phi)])] (u - 1/2).
    arm = (of(u > 1 - chance) - of(u < chance)).unsqueeze(-1) * (u - 0.5)
    torch.testing.assert_close(found, torch.stack([arm, -arm], -1))


def test_arsm_is_a_loop_over_swaps() -> None:
    logits, loss = normal(2, 4, label="logits", dtype=torch.double), make_loss("table", 2, 4, torch.double)
    found = gradient(arsm, logits, loss, generator=torch.Generator().manual_seed(1))
    drawn = torch.rand(1, 2, 4, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    noise = -torch.log1p(-drawn[0])
    simplex = noise / noise.sum(-1, keepdim=True)

    def of(c: int, j: int) -> Tensor:
        swapped = simplex.clone()
        swapped[:, [c, j]] = simplex[:, [j, c]]
        return loss(torch.eye(4, dtype=torch.double)[(swapped.log() - logits).argmin(-1)])

    wanted = torch.zeros_like(logits)
    for j in range(4):
        mean = sum(of(m, j) for m in range(4)) / 4
        for c in range(4):
            wanted[:, c] += (of(c, j) - mean) * (0.25 - simplex[:, j])
    torch.testing.assert_close(found, wanted)
    assert (wanted != 0).any()


def test_disarm_of_two_classes_is_its_formula() -> None:
    logits, loss = normal(200, 2, 2, label="logits", dtype=torch.double), make_loss("table", 2, 2, torch.double)
    leaf = logits.clone().requires_grad_()
    estimate = disarm(leaf, loss, generator=torch.Generator().manual_seed(1))
    (found,) = torch.autograd.grad(estimate.surrogate.sum(), leaf)
    b, other = estimate.samples[0, ..., 0], estimate.samples[1, ..., 0]
    size = torch.sigmoid((logits[..., 0] - logits[..., 1]).abs())
    difference = (estimate.losses[0] - estimate.losses[1]).unsqueeze(-1)
    wanted = 0.5 * difference * torch.where(other == 1, -1.0, 1.0) * (b != other) * size
    torch.testing.assert_close(found, torch.stack([wanted, -wanted], -1))
    assert (b != other).any()
    assert (b == other).any()

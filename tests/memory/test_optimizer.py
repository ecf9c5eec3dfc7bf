"""Graves' RMSProp: against the equations as they are printed, number by number in float64."""

import copy
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.memory.optimizer import GravesRMSProp


def by_hand(start: float, gradients: list[float], rate: float, decay: float, momentum: float, damping: float) -> float:
    """Equations 38 to 45 of Graves 2013 with n and m as printed."""
    n = m = d = 0.0
    w = start
    for g in gradients:
        n = decay * n + (1 - decay) * g * g
        m = decay * m + (1 - decay) * g
        d = momentum * d - rate * g / math.sqrt(n - m * m + damping)
        w += d
    return w


def draws(shape: tuple[int, ...], count: int, scale: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(count)
    return [scale * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]


@pytest.mark.parametrize("scale", [1e-4, 1.0, 30.0])
@pytest.mark.parametrize(("decay", "momentum", "damping"), [(0.95, 0.9, 1e-4), (0.5, 0.0, 1e-2), (0.0, 0.3, 1.0)])
def test_it_is_the_printed_formula(scale: float, decay: float, momentum: float, damping: float) -> None:
    gradients = draws((3, 2), 30, scale)
    parameter = torch.linspace(-1, 1, 6, dtype=torch.float64).view(3, 2).requires_grad_()
    start = parameter.detach().clone()
    optimizer = GravesRMSProp([parameter], 0.01, decay=decay, momentum=momentum, damping=damping)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    for place in ((i, j) for i in range(3) for j in range(2)):
        series = [float(gradient[place]) for gradient in gradients]
        expected = by_hand(float(start[place]), series, 0.01, decay, momentum, damping)
        assert float(parameter.detach()[place]) == pytest.approx(expected, rel=1e-10)


def test_the_first_step_by_hand() -> None:
    parameter = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    parameter.grad = torch.full((1,), 2.0, dtype=torch.float64)
    GravesRMSProp([parameter], 0.1).step()
    # n = .05 * 4 = .2, m = .05 * 2 = .1: the step is -.1 * 2 / sqrt(.2 - .01 + .0001)
    assert float(parameter.detach()) == pytest.approx(-0.2 / math.sqrt(0.1901), rel=1e-12)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e6])
def test_a_constant_gradient_in_float32_stays_finite(scale: float) -> None:
    """n and m^2 become equal: their difference, taken in float32, would be below -damping at a scale of 1e6."""
    parameter = torch.zeros(4, requires_grad=True)
    optimizer = GravesRMSProp([parameter], 1e-4)
    for _ in range(300):
        parameter.grad = torch.full((4,), scale)
        optimizer.step()
    assert parameter.isfinite().all()
    assert (optimizer.state[parameter]["variance"] >= 0).all()


def test_it_is_not_pytorchs() -> None:
    """The damping is inside the root: PyTorch's form, with its `eps` outside, ends elsewhere."""
    ends = []
    for kind in (GravesRMSProp, lambda p, rate: torch.optim.RMSprop(p, rate, 0.95, 1e-4, momentum=0.9, centered=True)):
        parameter = torch.ones(5, dtype=torch.float64, requires_grad=True)
        optimizer = kind([parameter], 1e-2)
        for gradient in draws((5,), 10, 0.01):
            parameter.grad = gradient
            optimizer.step()
        ends.append(parameter.detach())
    assert (ends[0] - ends[1]).abs().max() > 1e-3


def descend(
    optimizer: torch.optim.Optimizer, parameters: list[Tensor], gradients: Iterator[Tensor], steps: int
) -> None:
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = next(gradients).to(parameter.dtype)
        optimizer.step()


def test_its_state_dict_goes_on_to_the_same_bits() -> None:
    gradients = draws((3,), 40, 1.0)
    whole = [torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)]
    descend(GravesRMSProp(whole), whole, iter(gradients), 20)

    half = [torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)]
    series = iter(gradients)
    first = GravesRMSProp(half)
    descend(first, half, series, 10)
    kept = copy.deepcopy(first.state_dict())
    second = GravesRMSProp(half, 7.0)
    second.load_state_dict(kept)
    descend(second, half, series, 10)
    assert second.param_groups[0]["lr"] == 1e-4
    assert all(torch.equal(a, b) for a, b in zip(whole, half, strict=True))


def test_groups_schedules_closures_and_parameters_without_gradient() -> None:
    fast, slow, still = (torch.zeros(2, requires_grad=True) for _ in range(3))
    optimizer = GravesRMSProp([{"params": [fast, still], "lr": 1e-2}, {"params": [slow]}], 1e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (fast.sum() - 1) ** 2 + (slow.sum() - 1) ** 2
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 2.0
    schedule.step()
    assert torch.allclose(fast, 100 * slow)
    assert (fast > 0).all()
    assert (still == 0).all()
    assert still not in optimizer.state
    assert [group["lr"] for group in optimizer.param_groups] == [5e-3, 5e-5]


def test_parameters_that_have_a_gradient_now_and_then_keep_their_state() -> None:
    always, rarely = torch.zeros(2, requires_grad=True), torch.zeros(2, dtype=torch.float64, requires_grad=True)
    sometimes = torch.zeros(2, requires_grad=True)
    optimizer = GravesRMSProp([always, sometimes, rarely], 0.01)
    gradients = [float(each[0]) for each in draws((1,), 12, 1.0)]
    for step, gradient in enumerate(gradients):
        for parameter, every in ((always, 1), (sometimes, 2), (rarely, 3)):
            parameter.grad = torch.full_like(parameter, gradient) if step % every == 0 else None
        optimizer.step()
    for parameter, every in ((always, 1), (sometimes, 2), (rarely, 3)):
        expected = by_hand(0.0, gradients[::every], 0.01, 0.95, 0.9, 1e-4)
        assert parameter.detach().tolist() == pytest.approx([expected, expected], rel=1e-5)


def test_a_state_that_is_put_in_from_outside_counts() -> None:
    parameter = torch.zeros(2, requires_grad=True)
    optimizer = GravesRMSProp([parameter], 0.01)
    parameter.grad = torch.zeros(2)
    optimizer.step()
    optimizer.state[parameter]["velocity"] = torch.tensor([1.0, 2.0])
    optimizer.step()
    assert torch.allclose(parameter, torch.tensor([0.9, 1.8]))
    optimizer.state[parameter]["velocity"].zero_()
    optimizer.step()
    assert torch.allclose(parameter, torch.tensor([0.9, 1.8]))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies_go_on_alike_and_apart(clone: Callable[[object], Any]) -> None:
    parameter = torch.zeros(3, requires_grad=True)
    optimizer = GravesRMSProp([parameter], 0.01)
    descend(optimizer, [parameter], iter(draws((3,), 4, 1.0)), 4)
    before = parameter.detach().clone()
    other = clone(optimizer)
    (twin,) = other.param_groups[0]["params"]
    descend(other, [twin], iter(draws((3,), 5, 1.0)), 5)
    assert torch.equal(parameter, before)
    descend(optimizer, [parameter], iter(draws((3,), 5, 1.0)), 5)
    assert torch.equal(parameter, twin)


def test_parameters_that_are_not_contiguous() -> None:
    transposed = torch.zeros(3, 2, dtype=torch.float64).T.requires_grad_()
    plain = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    gradients = draws((2, 3), 3, 1.0)
    for parameter in (transposed, plain):
        descend(GravesRMSProp([parameter], 0.01), [parameter], iter(gradients), 3)
    assert torch.equal(transposed, plain)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"learning_rate": 0.0}, "'learning_rate' must be a number above 0. Got 0.0."),
        ({"learning_rate": math.nan}, "Got nan."),
        ({"learning_rate": math.inf}, "Got inf."),
        ({"decay": 1.0}, "'decay' must be at least 0 and below 1. Got 1.0."),
        ({"momentum": -0.1}, "'momentum'"),
        ({"damping": 0.0}, "'damping' must be a number above 0."),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, float], said: str) -> None:
    with pytest.raises(InputError) as caught:
        GravesRMSProp([torch.zeros(1, requires_grad=True)], **arguments)
    assert said in str(caught.value)


def test_sparse_gradients_are_refused() -> None:
    parameter = torch.zeros(3, requires_grad=True)
    parameter.grad = torch.sparse_coo_tensor([[1]], [1.0], (3,), check_invariants=True)
    with pytest.raises(RuntimeError, match="dense gradients"):
        GravesRMSProp([parameter]).step()

"""The hidden contest: which maps it takes, and how large its fleets are."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.study.contest import Arm, Options
from softplace.study.contests._classify import fleet_size
from softplace.study.contests.hidden import BATCH, contest
from softplace.study.contests.hidden_arms import ARMS, check_arm, chosen_arms


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
@pytest.mark.parametrize("width", [32, 128])
def test_our_arms_pass_the_check(arm: Arm, width: int) -> None:
    check_arm(arm, width)


def only_one_dim(scores: Tensor, dim: int = -1) -> Tensor:
    if dim != 1:
        raise IndexError("no such dim")
    return scores.softmax(1)


def backward_fails(scores: Tensor, dim: int = -1) -> Tensor:
    weights = scores.exp()
    weights.add_(1.0)
    return weights


BAD: dict[str, tuple[Callable[..., object], str]] = {
    "float64": (lambda scores, dim: scores.double(), "dtype torch.float32, got torch.float64"),
    "float16": (lambda scores, dim: scores.half(), "dtype torch.float32, got torch.float16"),
    "float32 only": (lambda scores, dim: scores.float(), "dtype torch.float64, got torch.float32"),
    "one dim": (only_one_dim, "IndexError: no such dim"),
    "ignores dim": (lambda scores, dim: scores.softmax(-1), "dim=-1 of the transposed"),
    "random": (lambda scores, dim: torch.dropout(scores, 0.5, True), "the same weights for the same scores"),
    "mixes networks": (lambda scores, dim: scores - scores.mean(0, keepdim=True), "other networks"),
    "mixes rows": (lambda scores, dim: scores - scores.mean(3 - dim % 3, keepdim=True), "other rows"),
    "constant": (lambda scores, dim: torch.ones_like(scores), "without a gradient"),
    "no gradient": (lambda scores, dim: torch.ones_like(scores).requires_grad_() * 1.0, "depend on the scores"),
    "backward fails": (backward_fails, "RuntimeError: one of the variables needed for gradient"),
    "numpy": (lambda scores, dim: scores.detach().numpy(), "got ndarray"),
    "shape": (lambda scores, dim: scores.sum(dim), r"shape \(3, 32, 5\), got \(3, 5\)"),
    "NaN": (lambda scores, dim: scores.log(), "NaN or infinite of 480"),
    "NaN in float64": (lambda scores, dim: scores * (1.0 if scores.dtype == torch.float32 else torch.nan), "480 NaN"),
    "infinite gradient": (lambda scores, dim: torch.sqrt(scores * 0.0), "finite gradient"),
    "complex": (lambda scores, dim: scores.to(torch.complex64), "complex"),
    "sparse": (lambda scores, dim: scores.relu().to_sparse(), "Error"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_map_that_cannot_be_trained_is_named(name: str) -> None:
    function, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        check_arm(Arm(name=name, map=function), 32)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"map {name!r}: ")
    assert "\n" not in str(caught.value)


def test_two_callables_of_one_name_are_refused() -> None:
    first, second = (lambda scores, dim=-1: scores), (lambda scores, dim=-1: -scores)
    with pytest.raises(InputError, match="two that are called '<lambda>'"):
        chosen_arms([first, second])
    assert [arm.name for arm in chosen_arms([first, first])] == ["softmax", "<lambda>"]


def test_a_callable_without_a_name_goes_by_its_type() -> None:
    class Odd:
        __name__ = None

        def __call__(self, scores: Tensor, dim: int = -1) -> Tensor:
            return scores

    assert [arm.name for arm in chosen_arms([Odd()])] == ["softmax", "Odd"]


def test_fleets_fit_the_cache() -> None:
    # 64-128-128-10: 26,122 parameters, 64 + 3 * 266 units: 4 * (4 * 26122 + 128 * 862) = 859,296 bytes; 7 fit 6 MiB.
    assert fleet_size((64, 128, 128, 10), BATCH) == 8
    # 64-32-32-10: 3,466 parameters, 286 units: 201,888 bytes; 31 fit.
    assert fleet_size((64, 32, 32, 10), BATCH) == 31
    assert fleet_size((2, 4, 2), BATCH) == 40


def test_only_long_trainings_are_compiled() -> None:
    assert not any(task.compiled for task in contest(Options()).tasks)
    assert all(task.compiled for task in contest(Options(preset="full")).tasks)

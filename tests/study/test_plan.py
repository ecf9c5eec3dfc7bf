"""What tells a map from another: the same map is known again, one with other values or helpers is not."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from softplace.maps import Map
from softplace.study.contest import Arm, Contest
from softplace.study.contests.hidden import FitFunctions
from softplace.study.plan import map_code

SLOPE = 0.1


def helper(scores: Tensor) -> Tensor:
    return scores * SLOPE


def uses_a_helper(scores: Tensor, dim: int = -1) -> Tensor:
    return helper(scores)


def leaky(slope: float) -> Map:
    def leak(scores: Tensor, dim: int = -1) -> Tensor:
        return torch.where(scores > 0, scores, slope * scores)

    return leak


def scaled(factor: float, scores: Tensor, dim: int = -1) -> Tensor:
    return factor * scores


class Scaled:
    def __init__(self, factor: object) -> None:
        self.factor = factor

    def __call__(self, scores: Tensor, dim: int = -1) -> Tensor:
        return self.factor * scores  # type: ignore[operator,no-any-return]

    def method(self, scores: Tensor, dim: int = -1) -> Tensor:
        return self(scores)


MAKERS: dict[str, Callable[[float], object]] = {
    "closure": leaky,
    "partial": lambda value: functools.partial(scaled, value),
    "keyword of a partial": lambda value: functools.partial(scaled, factor=value),
    "attribute": Scaled,
    "attribute of a method's object": lambda value: Scaled(value).method,
    "tensor": lambda value: Scaled(torch.full((2, 3), value)),
    "array in a list in a dict": lambda value: Scaled({"a": [torch.full((3,), value).numpy()]}),
    "module": lambda value: nn.PReLU(init=value),
    "map in a map": lambda value: Scaled(leaky(value)),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_map_with_another_value_is_another_map(make: Callable[[float], Map]) -> None:
    assert map_code(make(0.25)) == map_code(make(0.25))
    assert map_code(make(0.25)) != map_code(make(0.5))


def test_a_map_whose_module_changes_is_another_map(monkeypatch: pytest.MonkeyPatch) -> None:
    before = map_code(uses_a_helper)
    assert map_code(uses_a_helper) == before
    monkeypatch.setitem(globals(), "SLOPE", 0.2)
    assert map_code(uses_a_helper) != before


def test_lambdas_differ_by_their_source() -> None:
    assert map_code(lambda scores, dim=-1: scores * 2.0) != map_code(lambda scores, dim=-1: scores * 3.0)


def test_a_map_that_holds_itself_ends() -> None:
    strange = Scaled(1.0)
    strange.factor = strange
    assert "Scaled" in map_code(strange)


def test_our_maps_go_by_their_names() -> None:
    assert map_code("softmax") == "softmax"
    assert map_code("relu") == "relu"


def test_a_contest_with_two_arms_or_tasks_of_one_name_is_refused() -> None:
    arm = Arm(name="softmax", map="softmax")
    task = FitFunctions(name="f", label="f", steps=1, evaluate_every=1)

    def report(results: object) -> None:
        raise AssertionError

    for arms, tasks in (((arm, arm), (task,)), ((arm,), (task, task)), ((arm,), ()), ((), (task,))):
        with pytest.raises(ValueError, match="named"):
            Contest(place="p", name="p", arms=arms, tasks=tasks, report=report)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"evaluate_every": 0},
        {"largest_fleet": 0},
        {"learning_rates": (0.1,)},
        {"learning_rates": (0.1, 0.1)},
        {"learning_rates": (0.0, 0.1)},
    ],
    ids=str,
)
def test_a_task_that_cannot_train_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        FitFunctions(**{"name": "f", "label": "f", "steps": 1, "evaluate_every": 1, **change})  # type: ignore[arg-type]

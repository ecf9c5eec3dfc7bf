"""The memory contest: its arms, sequences, members and measures, and a small study from end to end."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace import Study, maps
from softplace.errors import InputError
from softplace.memory.hard import straight_through_hardmax
from softplace.study.contest import Arm, Options
from softplace.study.contests._learning import check_arm, first_below, mean_over_budget
from softplace.study.contests.memory import (
    Learn,
    Machines,
    contest,
    entropy,
    left_out,
    parameter_count,
)
from softplace.study.contests.memory_arms import ARMS, LOCATION, LSTM, NOWHERE, chosen_arms
from softplace.study.fleet import Fleet
from softplace.study.optimizer import SGD, Adam, clipped

CPU = torch.device("cpu")
ARM = {arm.name: arm for arm in ARMS}
SIZES: dict[str, Any] = {
    "bits": 2, "hidden_size": 5, "slots": 4, "width": 3, "batch": 3, "steps": 6, "evaluate_every": 2,
    "learning_rates": (0.01, 0.1), "optimizer": Adam(clip=10.0),
}  # fmt: skip
COPY = Learn(name="copy", label="copy", kind="copy", training=(1, 3), beyond=5, tested=(2, 3, 5), **SIZES)
RECALL = Learn(
    name="recall",
    label="recall",
    kind="associative-recall",
    training=(2, 3),
    beyond=4,
    tested=(3, 4),
    vectors=2,
    **SIZES,
)


def machines(task: Learn, arm: str, *seeds: int) -> Machines:
    found = task.members(ARM[arm], seeds, CPU)
    assert isinstance(found, Machines)
    return found


# Measures


def test_entropy_by_hand() -> None:
    weights = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25] * 4, [0.5, 0.5, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0], [0.0] * 4])
    assert entropy(weights).tolist() == pytest.approx([0.0, 2.0, 1.0, 1.0, 2.0])
    assert left_out(weights).tolist() == [0.75, 0.0, 0.5, 0.5, 1.0]


def test_mean_bits_and_steps_by_hand() -> None:
    curve = {"step": [10.0, 20.0, 25.0], "bits": [4.0, 0.9, 0.1]}
    assert mean_over_budget(curve, "bits", 25) == pytest.approx((10 * 4.0 + 10 * 0.9 + 5 * 0.1) / 25)
    assert mean_over_budget(curve, "bits", 125) == pytest.approx((10 * 4.0 + 10 * 0.9 + 105 * 0.1) / 125)
    assert first_below(curve, "bits", 1.0, 125) == 20.0
    assert first_below(curve, "bits", 0.05, 125) == 125.0
    assert first_below({"step": [10.0], "bits": [1.0]}, "bits", 1.0, 10) == 10.0  # at the threshold is not below it


# Arms


def test_hardmax_is_straight_through() -> None:
    scores = torch.tensor([[1.0, 3.0, 2.0], [1.0, 1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    weights = straight_through_hardmax(scores)
    assert weights.tolist() == [[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]
    upstream = torch.randn(2, 3, dtype=torch.float64)
    (ours,) = torch.autograd.grad(weights, scores, upstream)
    (soft,) = torch.autograd.grad(torch.softmax(scores, -1), scores, upstream)
    torch.testing.assert_close(ours, soft)
    assert straight_through_hardmax(scores.T, 0).T.tolist() == weights.tolist()


def test_arms_are_found_by_name_and_by_map() -> None:
    def names(*chosen: Any) -> list[str]:
        return [arm.name for arm in chosen_arms(chosen)]

    assert chosen_arms(None) == ARMS
    assert names("sparsemax") == ["softmax", "sparsemax"]
    assert names("SIGMOID-normalised", "sigmoid_normalised") == ["softmax", "sigmoid-normalised"]
    assert names("lstm") == ["softmax", LSTM]
    assert names("uniform") == ["softmax", LOCATION, NOWHERE, LSTM]
    assert names("topk_softmax", "hardmax") == ["softmax", "hardmax", "topk_softmax"]
    assert chosen_arms(["hardmax"])[1].map is straight_through_hardmax
    with pytest.raises(InputError, match=r"Unknown map 'sparsemx' for the place 'memory'\. Did you mean 'sparsemax'"):
        names("sparsemx")
    with pytest.raises(InputError, match=r"Got none\. Use e\.g\. sparsemax"):
        names("softmax")


def raises(scores: Tensor, dim: int = -1) -> Tensor:
    raise RuntimeError("no\nscores")


BAD: dict[str, tuple[Callable[..., object], str]] = {
    "raises": (raises, "RuntimeError: no scores"),
    "reads numbers": (lambda scores, dim: scores * float(scores.sum()), "torch.vmap and autograd"),
    "NaN": (lambda scores, dim: scores * math.nan, "NaN or infinite"),
    "shape": (lambda scores, dim: scores.sum(dim), "torch.vmap and autograd"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_map_that_cannot_address_a_memory_is_named(name: str) -> None:
    function, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        check_arm(COPY, Arm(name=name, map=function), "bits")  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"map {name!r}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*ARM, "topk_softmax", "entmax", "softmax1"])
@pytest.mark.parametrize("task", [COPY, RECALL], ids=lambda task: task.name)
def test_arms_pass_the_check(task: Learn, name: str) -> None:
    check_arm(task, ARM.get(name, Arm(name=name, map=name)), "bits")


# Sequences


@pytest.mark.parametrize("task", [COPY, RECALL], ids=lambda task: task.name)
def test_sequences_depend_on_seed_and_step_alone(task: Learn) -> None:
    first, second = machines(task, "softmax", 3, 5, 3), machines(task, LSTM, 5, 3)
    assert {first.batch(step)[0].shape[1] for step in range(20)} == {
        task.traced(1).inputs.shape[0] - step * (2 if task is COPY else 3)
        for step in range(task.training[1] - task.training[0] + 1)
    }
    for step in (0, 1, 63, 64, 200):
        ours, theirs = first.batch(step), second.batch(step)
        for mine, other in zip(ours, theirs, strict=True):
            assert torch.equal(mine[[0, 1]], other[[1, 0]])
            assert torch.equal(mine[0], mine[2])
        assert not torch.equal(ours[0][0], ours[0][1])
        assert ours[0].shape[2] == task.batch
    again = machines(task, "softmax", 3, 5, 3).select(torch.tensor([1]))
    assert torch.equal(again.batch(200)[0][0], first.batch(200)[0][1])
    assert torch.equal(again.batch(1)[0][0], first.batch(1)[0][1])  # back again


# Members


@pytest.mark.parametrize("arm", ARM)
def test_a_member_is_the_network_that_it_would_be_alone(arm: str) -> None:
    several = machines(COPY, arm, 3, 5)
    batch = several.batch(7)
    net = COPY.net(ARM[arm])
    net.load_state_dict({name: value[1] for name, value in several.parameters.items()}, strict=False)
    episode = COPY.episodes.sample(0, torch.Generator())._replace(
        inputs=batch[0][1], targets=batch[1][1], mask=batch[2][1], lengths=batch[3][1]
    )
    alone = COPY.episodes.loss(net(episode.inputs)[0], episode).mean()
    torch.testing.assert_close(several.losses(*batch)[1], alone)
    # And its gradient is its own: that of the sum of all losses.
    leaves = {name: value.requires_grad_() for name, value in several.parameters.items()}
    together = torch.autograd.grad(several.losses(*batch).sum(), list(leaves.values()), materialize_grads=True)
    own = dict(net.named_parameters())
    apart = torch.autograd.grad(alone, [own[name] for name in leaves], materialize_grads=True)
    for mine, other in zip(together, apart, strict=True):
        torch.testing.assert_close(mine[1], other, rtol=1e-4, atol=1e-6)


def test_all_machines_start_alike() -> None:
    first = machines(COPY, "softmax", 3, 5).parameters
    lstm = {name: each[1] for name, each in machines(COPY, LSTM, 5, 3).parameters.items()}
    for arm in ("sparsemax", "hardmax", LOCATION):
        other = machines(COPY, arm, 5, 3).parameters
        assert all(torch.equal(value[0], other[name][1]) for name, value in first.items())
    assert not torch.equal(first["interface_weight"][0], first["interface_weight"][1])
    fresh = replace(COPY, name="again")  # nothing of it is cached yet
    assert all(torch.equal(each, machines(fresh, LSTM, 3).parameters[name][0]) for name, each in lstm.items())
    held = machines(COPY, NOWHERE, 3).parameters
    assert set(first) - set(held) == {"initial_weights"}
    assert all(torch.equal(value[0], first[name][0]) for name, value in held.items())


def test_without_an_address_all_slots_stay_alike() -> None:
    found = Fleet(replace(COPY, steps=20), ARM[NOWHERE], "judge", [3, 5], [0.1, 0.1])
    found.train()
    for outcome in found.outcomes:
        assert outcome.measurement.metrics["entropy"] == pytest.approx(2.0)  # of four slots
        assert outcome.measurement.metrics["sparsity"] == 0.0
    for arm, spread in ((NOWHERE, False), (LOCATION, True)):
        members = machines(COPY, arm, 3)
        weights = members._run(members.sequences.held_out("test", 1, 2, members.streams))[2]
        assert bool((weights.amax(-1) - weights.amin(-1) > 1e-6).any()) == spread


def test_the_lstm_is_the_smallest_that_is_no_smaller_than_the_machine() -> None:
    for task in (COPY, RECALL):
        machine, lstm = (parameter_count(task.net(ARM[arm])) for arm in ("softmax", LSTM))
        assert machine <= lstm
        smaller = type(task.net(ARM[LSTM]))(
            task.episodes.input_size, task.episodes.output_size, hidden_size=task.lstm_size - 1
        )
        assert parameter_count(smaller) < machine


def test_a_member_stops_when_it_has_solved_the_task_twice() -> None:
    members = machines(COPY, "softmax", 3)
    curves = [{"bits": bits} for bits in ([0.01], [0.01, 0.2], [0.2, 0.01], [3.0, 0.05, 0.01])]
    assert members.reached(curves) == [False, False, False, True]


@pytest.mark.parametrize("arm", ["softmax", LSTM])
@pytest.mark.parametrize("task", [COPY, RECALL], ids=lambda task: task.name)
def test_a_member_ends_with_every_metric(task: Learn, arm: str) -> None:
    found = {}
    for role in ("tune", "judge"):
        fleet = Fleet(task, ARM[arm], role, [3, 5], [0.01, 0.1])  # type: ignore[arg-type]
        fleet.train()
        found[role] = fleet.outcomes
    assert all(set(outcome.measurement.metrics) == {"mean_bits"} for outcome in found["tune"])
    wanted = {metric.name for metric in task.metrics} - ({"entropy", "sparsity"} if arm == LSTM else set())
    for outcome in found["judge"]:
        metrics = outcome.measurement.metrics
        assert set(metrics) == wanted
        assert all(math.isfinite(value) for value in metrics.values())
        assert metrics["mean_bits"] == pytest.approx(mean_over_budget(outcome.curve, "bits", task.steps))
        assert dict(outcome.measurement.probes["errors"])[task.beyond] == pytest.approx(
            metrics["error_beyond"], rel=1e-2
        )
        json.dumps(dict(outcome.measurement.probes), allow_nan=False)
    assert found["tune"][0].curve == found["judge"][0].curve


def test_solving_is_seen_where_it_happens() -> None:
    """Outputs that are right: by a network whose answers are the targets."""
    members = machines(COPY, LSTM, 3)
    episode = members.sequences.held_out("test", 3, 8, members.streams)
    errors = COPY.episodes.errors(
        torch.where(episode.targets[0] > 0, 20.0, -20.0), type(episode)(*(e[0] for e in episode))
    )
    assert errors["bits"].max() < 1e-6
    assert errors["wrong share"].max() == 0.0
    assert COPY.chance == 6.0  # two bits of three vectors
    assert RECALL.chance == 4.0  # two bits of two vectors
    guess = COPY.episodes.errors(torch.zeros_like(episode.targets[0]), type(episode)(*(e[0] for e in episode)))
    assert guess["bits"].tolist() == pytest.approx([COPY.chance] * 8)


# Clipping


def test_gradients_are_clipped_member_by_member() -> None:
    gradients = [torch.randn(3, 4, 2), torch.randn(3, 5)]
    gradients[0][1] *= 1e-3
    gradients[1][1] *= 1e-3
    found = clipped(gradients, 1.5)
    for member in range(3):
        own = [torch.nn.Parameter(each[member].clone()) for each in gradients]
        for each in own:
            each.grad = each.detach().clone()
        torch.nn.utils.clip_grad_norm_(own, 1.5)
        for mine, other in zip(found, own, strict=True):
            torch.testing.assert_close(mine[member], other.grad, rtol=1e-5, atol=1e-7)
    assert torch.equal(found[0][1], gradients[0][1])
    broken = clipped([torch.tensor([[math.inf, 1.0], [1.0, 1.0]])], 1.0)[0]
    assert broken[0, 0].isnan()
    assert broken[1].tolist() == pytest.approx([0.5**0.5] * 2)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(Adam(clip=0.1), torch.optim.Adam), (SGD(momentum=0.9, clip=0.1), lambda p, lr: torch.optim.SGD(p, lr, 0.9))],
    ids=["adam", "sgd"],
)
def test_a_clipped_member_moves_as_alone(ours: Adam | SGD, theirs: Callable[..., torch.optim.Optimizer]) -> None:
    start = torch.randn(2, 6, dtype=torch.float64)
    parameters, rates = [start.clone()], torch.tensor([0.1, 0.01], dtype=torch.float64)
    state = ours.start(parameters)
    alone = [torch.nn.Parameter(start[member].clone()) for member in range(2)]
    optimizers = [theirs([alone[member]], lr=float(rates[member])) for member in range(2)]
    for step in range(5):
        gradients = [parameters[0].detach() ** 3]
        ours.step(parameters, gradients, state, rates, torch.tensor(step, dtype=torch.float64))
        for member in range(2):
            alone[member].grad = alone[member].detach() ** 3
            torch.nn.utils.clip_grad_norm_([alone[member]], 0.1)
            optimizers[member].step()
    for member in range(2):
        torch.testing.assert_close(parameters[0][member], alone[member].detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", [Adam(), Adam(clip=0.1), SGD(momentum=0.9)], ids=str)
def test_a_gradient_that_lies_transposed_in_memory_moves_a_member_alike(optimizer: Adam | SGD) -> None:
    start, gradient = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    moved = []
    for given in (gradient, gradient.mT.contiguous().mT):
        parameters, step = [start.clone()], torch.tensor(0.0, dtype=torch.float64)
        optimizer.step(parameters, [given], optimizer.start(parameters), torch.tensor([0.1, 0.2]), step)
        moved.append(parameters[0])
    torch.testing.assert_close(moved[0], moved[1])


# The contest


def test_the_contest_is_the_issue() -> None:
    quick, full = contest(Options()), contest(Options(preset="full"))
    assert [task.name for task in quick.tasks] == [task.name for task in full.tasks] == ["copy", "recall"]
    assert set(quick.uses) == {"preset", "maps"}
    wanted = {"softmax", "sparsemax", "entmax15", "sigmoid-normalised", "relu-normalised", "hardmax", NOWHERE, LSTM}
    assert wanted <= {arm.name for arm in quick.arms}
    for task in (*quick.tasks, *full.tasks):
        assert isinstance(task, Learn)
        assert {task.training[1], task.beyond} <= set(task.tested)
        assert task.beyond <= task.slots  # or no memory could hold it
        assert task.steps % task.evaluate_every == 0
        json.dumps(dict(task.settings()))
    for arm in quick.arms:
        maps.get(arm.map)


def test_a_small_study_from_end_to_end(tmp_path: Any) -> None:
    study = Study("memory", maps=["sparsemax", "uniform"], seeds=4, workers=1)
    study.contests = [
        replace(study.contests[0], tasks=tuple(replace(task, steps=2, evaluate_every=1) for task in (COPY, RECALL)))
    ]
    result = study.run()
    assert {row["arm"] for row in result.rows} == {"softmax", "sparsemax", LOCATION, NOWHERE, LSTM}
    assert [verdict.place for verdict in result.verdicts] == ["memory"] * 7  # of eleven: four have no rival here
    assert {verdict.verdict for verdict in result.verdicts} == {"cannot tell"}  # two pairs can decide nothing
    [place] = result.report.places
    figures = [figure for section in place.sections for figure in section.figures]
    assert {"interval", "curve", "heatmap", "steps"} == {figure.kind for figure in figures}
    heads = [figure for figure in figures if figure.kind == "steps"]
    assert len(heads) == 2
    assert {row["arm"] for row in heads[0].rows} == {"softmax", "sparsemax", LOCATION, NOWHERE}
    page = result.page(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "The heads at work" in page

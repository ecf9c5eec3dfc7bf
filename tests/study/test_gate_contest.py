"""The gate contest: its arms, members and measures against the mixture of the place, and a study from end to end."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace import Study
from softplace.errors import InputError
from softplace.latent.experts import Experts, all_experts, mixture_of_experts
from softplace.latent.experts_balance import update_bias
from softplace.latent.experts_module import MixtureOfExperts
from softplace.latent.experts_routing import Capacity, Routing, count, limit, route
from softplace.study.contest import Arm, Options
from softplace.study.contests._learning import check_arm, mean_over_budget
from softplace.study.contests.gate import Classify, contest
from softplace.study.contests.gate_arms import (
    AFTER,
    ARMS,
    BEFORE,
    BIAS,
    FIXED,
    SIGMOID,
    SIGMOID_TOP,
    SINKHORN,
    SPARSEMAX,
    UNBALANCED,
    UNIFORM,
    chosen_arms,
)
from softplace.study.contests.gate_members import Mixtures, by_region, entropy, information, variation
from softplace.study.contests.latent import contest as latent_contest
from softplace.study.fleet import Fleet, train_step
from softplace.study.optimizer import Adam
from softplace.study.store import Store

CPU = torch.device("cpu")
ARM = {arm.name: arm for arm in ARMS}
LEARNED = [arm.name for arm in ARMS if "gate" not in arm.options]
TASK = Classify(
    name="mixture", label="digits", regions=3, experts=5, hidden=3, batch=12, learned=1.5,
    steps=6, evaluate_every=2, learning_rates=(0.01, 0.1), optimizer=Adam(),
)  # fmt: skip


def members(arm: str, *seeds: int, biases: bool = True) -> Mixtures:
    """Members whose biases are no zeros, so that a test sees them."""
    found = TASK.members(ARM[arm], seeds, CPU)
    assert isinstance(found, Mixtures)
    if biases:
        for name in ("up_bias", "down_bias"):
            shape = found.parameters[name].shape
            found.parameters[name] = 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(7))
    return found


def alone(several: Mixtures, member: int) -> tuple[Tensor, Experts]:
    """The gate and the experts of a member, as leaves of their own."""
    p = {name: value[member].detach().clone().requires_grad_() for name, value in several.parameters.items()}
    return p["gate"], Experts(p["up"], p["down"], up_bias=p["up_bias"], down_bias=p["down_bias"])


def options(arm: str) -> dict[str, Any]:
    chosen = ARM[arm]
    return {"map": chosen.map, "top": chosen.options.get("top"), "order": chosen.options.get("order", "map-top")}


@pytest.mark.parametrize("arm", LEARNED)
def test_a_member_is_the_mixture_of_the_place(arm: str) -> None:
    """Loss and every gradient, by the products of the place that compute the chosen experts alone."""
    several = members(arm, 3, 5)
    if arm == BIAS:
        several.buffers["bias"] = torch.tensor([[0.0] * 5, [1.0, -1.0, 0.5, 0.0, -0.5]])
    batch = several.batch(7)
    leaves = {name: value.detach().requires_grad_() for name, value in several.parameters.items()}
    several.parameters = leaves
    losses = several.losses(*batch)
    gate, experts = alone(several, 1)
    bias = batch[2][1] if arm == BIAS else None
    images, labels = batch[0][1], batch[1][1]
    outputs, record = mixture_of_experts(images, gate, experts, activation="relu", bias=bias, **options(arm))
    factor = float(str(ARM[arm].options.get("balance", 0.0)))
    assert (factor > 0) == (arm in (AFTER, BEFORE, SIGMOID_TOP))
    expected = torch.nn.functional.cross_entropy(outputs, labels) + factor * record.balance
    torch.testing.assert_close(losses[1], expected)
    ours = dict(zip(leaves, torch.autograd.grad(losses.sum(), list(leaves.values())), strict=True))
    theirs = {"gate": gate} | {name: getattr(experts, name) for name in ("up", "down", "up_bias", "down_bias")}
    for name, wanted in zip(theirs, torch.autograd.grad(expected, list(theirs.values())), strict=True):
        assert wanted.any(), name
        torch.testing.assert_close(ours[name][1], wanted, rtol=1e-4, atol=1e-6, msg=name)


def test_a_member_is_the_module_too() -> None:
    """`MixtureOfExperts` has as many outputs as inputs: of a square mixture, that of the module."""
    several = members(BEFORE, 3)
    net = MixtureOfExperts(64, experts=5, hidden=3, order="top-map", activation="relu", bias=True)
    with torch.no_grad():
        for name in ("gate", "up", "up_bias"):
            getattr(net, name).copy_(several.parameters[name][0])
        net.down[:, :10].copy_(several.parameters["down"][0])
        net.down_bias[:, :10].copy_(several.parameters["down_bias"][0])
    images = several.batch(0)[0]
    logits = several.logits(images, several.weights(several.route(images)))
    torch.testing.assert_close(logits[0], net(images[0])[0][:, :10])


@pytest.mark.parametrize("arm", [arm.name for arm in ARMS])
def test_the_weights_of_a_fleet_are_those_of_each_member(arm: str) -> None:
    several = members(arm, 3, 5, 8)
    images, _, _ = several.part("validation")
    routing = several.route(images)
    for member in range(3):
        gate = several.parameters["gate"][member]
        scores = torch.zeros(len(images[member]), 5) if arm == UNIFORM else images[member] @ gate.T
        wanted = route(scores, **options(arm))
        dense = torch.zeros_like(wanted.probabilities)
        for row in range(len(dense)):
            for expert, weight in zip(wanted.experts[row].tolist(), wanted.weights[row].tolist(), strict=True):
                dense[row, expert] = weight
        torch.testing.assert_close(several.weights(routing)[member], dense)


def test_what_is_chosen_after_softmax_and_before_it_is_the_same() -> None:
    scores = torch.randn(50, 8, dtype=torch.float64)
    before, after = (route(scores, top=2, order=order) for order in ("top-map", "map-top-normalise"))
    torch.testing.assert_close(before.weights, after.weights)
    assert torch.equal(before.experts, after.experts)
    assert not torch.allclose(route(scores, top=2, order="map-top").weights, before.weights)


def test_without_a_gate_all_experts_have_a_say() -> None:
    several = members(UNIFORM, 3)
    images = several.batch(0)[0]
    _, experts = alone(several, 0)
    wanted = sum(all_experts(images[0], torch.eye(5)[[e] * 12], experts, activation="relu") for e in range(5)) / 5
    torch.testing.assert_close(several.logits(images, several.weights(several.route(images)))[0], wanted)


@pytest.mark.parametrize(("arm", "moves"), [(UNIFORM, False), (FIXED, False), (UNBALANCED, True)])
def test_a_gate_that_does_not_learn_stays(arm: str, moves: bool) -> None:
    fleet = Fleet(TASK, ARM[arm], "tune", [3], [0.1])
    before = {name: value.detach().clone() for name, value in fleet._members.parameters.items()}
    fleet.train()
    after = fleet._members.parameters
    assert torch.equal(before["gate"], after["gate"]) != moves
    assert not torch.equal(before["up"], after["up"])


def test_the_bias_is_that_of_the_paper() -> None:
    """After every step by the counts of its batch, and only then; another seed's is another."""
    several = members(BIAS, 3, 5)
    expected = torch.zeros(2, 5)
    for step in range(3):
        images, _, bias = several.batch(step)
        torch.testing.assert_close(bias, expected)
        for member in range(2):
            scores = images[member] @ several.parameters["gate"][member].T
            made = route(scores, top=2, order="top-map", bias=expected[member])
            expected[member] = update_bias(expected[member], count(made), 0.01)
    assert expected.any()
    assert "bias" not in members(BEFORE, 3).buffers
    kept = several.select(torch.tensor([1]))
    torch.testing.assert_close(kept.buffers["bias"], expected[1:])


def test_a_fleet_with_a_bias_goes_on_from_a_checkpoint() -> None:
    whole, half = (Fleet(TASK, ARM[BIAS], "judge", [3, 5], [0.01, 0.1]) for _ in range(2))
    whole.train()
    for _ in range(3):
        half._one_step(train_step)
    half._loss.zero_()
    rest = Fleet(TASK, ARM[BIAS], "judge", [3, 5], [0.01, 0.1])
    rest.restore(half.state())
    rest.train()
    torch.testing.assert_close(rest._members.buffers["bias"], whole._members.buffers["bias"])
    torch.testing.assert_close(rest._members.parameters["gate"], whole._members.parameters["gate"])


@pytest.mark.parametrize("arm", ["softmax", SPARSEMAX, BEFORE, SIGMOID_TOP, SINKHORN])
def test_dropped_images_are_those_that_a_loop_drops(arm: str) -> None:
    several = members(arm, 3, 5)
    several.parameters["gate"] = 30 * several.parameters["gate"]  # so that some experts are crowded
    images, _, _ = several.part("test")
    routing = several.route(images)
    capped, dropped = several._capped(routing)
    top = ARM[arm].options.get("top")
    for member in range(2):
        one = Routing(*(part[member] for part in routing))
        tokens = len(one.weights)
        sent = int((one.weights != 0).sum())
        room = Capacity(1.0).slots(tokens, top, 5) if isinstance(top, int) else math.ceil(sent / 5)
        if isinstance(top, int):
            assert torch.equal(several.weights(limit(one, room)), several.weights(one) * (capped[member] != 0))
        taken = [0] * 5
        left = torch.zeros(tokens, 5)
        for choice in range(one.weights.shape[1]):
            for token in range(tokens):
                expert, weight = int(one.experts[token, choice]), float(one.weights[token, choice])
                if weight != 0 and taken[expert] < room:
                    taken[expert] += 1
                    left[token, expert] = weight
        torch.testing.assert_close(capped[member], left)
        assert dropped[member] == pytest.approx(1 - sum(taken) / sent)
        assert (dropped[member] > 0) == (arm != "softmax")


def test_measures_by_hand() -> None:
    assert variation(torch.tensor([[1.0, 3.0], [2.0, 2.0], [0.0, 0.0]])).tolist() == [0.5, 0.0, 0.0]
    assert float(variation(torch.tensor([[0.0, 0.0, 0.0, 7.0]]))) == pytest.approx(math.sqrt(3))
    found = entropy(torch.tensor([[2.0, 2.0], [0.0, 5.0], [0.0, 0.0]]))
    assert found.tolist() == pytest.approx([math.log(2), 0.0, 0.0])
    weights = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.5, 0.0]]])
    shares = by_region(weights, torch.tensor([[0, 1, 0, 1]]), 2)
    torch.testing.assert_close(shares, torch.tensor([[[0.75, 0.25], [1 / 3, 2 / 3]]]))
    assert information(torch.eye(3)[None]).tolist() == pytest.approx([math.log(3)])
    assert information(torch.full((1, 3, 4), 0.25)).tolist() == pytest.approx([0.0], abs=1e-6)


def test_measures_of_a_member_are_those_of_the_mixture() -> None:
    several = members(BEFORE, 3, 5)
    curves = [{"step": [2.0, 6.0], "loss": [2.0, value]} for value in (1.0, 1.8)]
    with torch.no_grad():
        found = [each.metrics for each in several.measure("judge", curves)]
    assert [each["solved"] for each in found] == [1.0, 0.0]
    assert [each["steps_to_learn"] for each in found] == [6.0, 6.0]
    images, labels, region = several.part("test")
    for member, metrics in enumerate(found):
        gate, experts = alone(several, member)
        given: dict[str, Any] = {"activation": "relu", **options(BEFORE)}
        with torch.no_grad():
            outputs, record = mixture_of_experts(images[member], gate, experts, capacity=Capacity(1.0), **given)
            free, _ = mixture_of_experts(images[member], gate, experts, **given)
        cross = torch.nn.functional.cross_entropy
        assert metrics["loss"] == pytest.approx(float(cross(free, labels[member])), abs=1e-5)
        assert metrics["capped"] == pytest.approx(float(cross(outputs, labels[member])), abs=1e-5)
        assert metrics["error"] == pytest.approx(float((free.argmax(-1) != labels[member]).float().mean()), abs=1e-6)
        assert metrics["dropped"] == pytest.approx(int(record.dropped.sum()) / int(record.counts.sum()))
        load = record.counts.double()
        assert metrics["load"] == pytest.approx(float(load.std(correction=0) / load.mean()), abs=1e-5)
        assert 0 < metrics["entropy"] < math.log(2) + 1e-6
        assert metrics["information"] > 0
    assert region[0].bincount().tolist() == [len(several.labels["test"])] * 3


def test_disguises_are_orders_of_the_pixels_that_a_seed_draws() -> None:
    several = members("softmax", 3, 5)
    images, labels, region = several.part("test")
    assert torch.equal(images.sort(-1).values[0], images.sort(-1).values[1])
    assert not torch.equal(images[0], images[1])
    order = TASK.disguises(5)[int(region[1, 4])]
    assert torch.equal(images[1, 4], TASK.digits["test"][0][1][order])  # 3 disguises of the first image come before
    assert int(labels[1, 4]) == int(TASK.digits["test"][1][1])
    parts = [TASK.digits[part][0] for part in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [1078, 360, 359]
    assert 0.0 == min(float(part.min()) for part in parts) < max(float(part.max()) for part in parts) == 1.0


def test_all_networks_start_and_see_alike() -> None:
    first = members("softmax", 3, 5, biases=False)
    for arm in ARM:
        other = members(arm, 5, 3, biases=False)
        assert all(torch.equal(value[0], other.parameters[name][1]) for name, value in first.parameters.items())
        one, theirs = first.batch(4), other.batch(4)
        assert all(torch.equal(one[part][0], theirs[part][1]) for part in (0, 1))
        assert not torch.equal(one[0][0], one[0][1])
    kept = first.select(torch.tensor([1]))
    assert torch.equal(kept.batch(4)[0][0], first.batch(4)[0][1])


@pytest.mark.parametrize("arm", [arm.name for arm in ARMS])
def test_a_member_ends_with_every_metric(arm: str) -> None:
    found = {}
    for role in ("tune", "judge"):
        fleet = Fleet(TASK, ARM[arm], role, [3, 5], [0.01, 0.1])  # type: ignore[arg-type]
        fleet.train()
        found[role] = fleet.outcomes
    assert all(set(outcome.measurement.metrics) == {"mean_loss"} for outcome in found["tune"])
    for outcome in found["judge"]:
        metrics = outcome.measurement.metrics
        assert set(metrics) == {each.name for each in TASK.metrics}
        assert all(math.isfinite(value) for value in metrics.values())
        assert metrics["mean_loss"] == pytest.approx(mean_over_budget(outcome.curve, "loss", TASK.steps))
        if arm in ("softmax", SIGMOID, UNIFORM):
            assert (metrics["dropped"], metrics["load"]) == (0.0, 0.0)
            assert metrics["capped"] == pytest.approx(metrics["loss"])
        for row in json.loads(json.dumps(outcome.measurement.probes, allow_nan=False))["regions"]:
            assert sum(row) == pytest.approx(1.0, abs=0.01)


def test_arms_are_found_by_name_and_by_map() -> None:
    def names(*chosen: Any) -> list[str]:
        return [arm.name for arm in chosen_arms(chosen)]

    assert chosen_arms(None) == ARMS
    assert names("sigmoid") == ["softmax", SIGMOID, SIGMOID_TOP]
    assert names("SINKHORN", "No Gate") == ["softmax", SINKHORN, UNIFORM]
    with pytest.raises(InputError, match=r"Unknown map 'sparsemx' for the place 'latent'\. Did you mean 'sparsemax'"):
        names("sparsemx")


def test_a_map_of_ones_own_is_tried_first() -> None:
    def broken(scores: Tensor, dim: int = -1) -> Tensor:
        return scores * math.nan

    with pytest.raises(InputError, match="map 'broken': expected finite weights"):
        check_arm(TASK, Arm(name="broken", map=broken), "loss")
    check_arm(TASK, Arm(name="softmax1", map="softmax1"), "loss")


def test_the_contest_is_the_issue() -> None:
    quick, full = contest(Options()), contest(Options(preset="full"))
    assert set(quick.uses) == {"preset", "maps"}
    for chosen in (quick, full):
        (task,) = chosen.tasks
        assert isinstance(task, Classify)
        assert task.steps % task.evaluate_every == 0
        json.dumps(dict(task.settings()))


def test_a_small_study_from_end_to_end(tmp_path: Path) -> None:
    study = Study("gate", maps=["sparsemax", "no gate", BEFORE], seeds=4, workers=1)
    study.contests = [replace(each, tasks=(TASK,)) for each in study.contests]
    result = study.run()
    assert {row["arm"] for row in result.rows} == {"softmax", SPARSEMAX, UNIFORM, BEFORE}
    assert {verdict.place for verdict in result.verdicts} == {"latent"}
    result.page(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Does softmax belong in the gate of a mixture of experts?" in text


def test_two_contests_of_the_latent_place_share_a_folder(tmp_path: Path) -> None:
    """Neither takes the other's members, even when one starts afresh, and the page has both."""
    small = replace(latent_contest(Options()).tasks[0], steps=4, evaluate_every=2, learning_rates=(0.01, 0.1))

    def study(*names: str, fresh: bool = False) -> Study:
        made = Study(names, maps=["sparsemax"], seeds=4, workers=1, out=tmp_path, fresh=fresh)
        tasks = {"latent": small, "gate": TASK}
        made.contests = [replace(each, tasks=(tasks[each.name],)) for each in made.contests]
        return made

    def known() -> dict[str, list[str]]:
        with Store.read(tmp_path) as store:
            found = store.members(place="latent")
        names = ("latent", "gate")
        return {name: sorted(f"{r.key} {r.provenance_id}" for r in found if r.contest == name) for name in names}

    first = study("latent", "gate").run()
    before = known()
    assert all(before.values())
    assert len(study("latent", "gate").run().rows) == len(first.rows)
    assert known() == before
    with Store.open(tmp_path) as store:
        assert store.clear("latent", "gate") == len(before["gate"])
    assert known() == {"latent": before["latent"], "gate": []}
    study("gate", fresh=True).run()
    assert known()["latent"] == before["latent"]
    study("latent", "gate").run()
    assert {row["task"] for row in first.rows} == {"vae", "mixture"}
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "in the gate of a mixture" in page
    assert "where it models a choice" in page

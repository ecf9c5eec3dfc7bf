"""The latent contest: its arms, members and measures against the parts of the place, and a study from end to end."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from softplace import Study
from softplace.errors import InputError
from softplace.latent import bounds, get
from softplace.latent.vae import CategoricalVAE, configurations, perplexity
from softplace.study.contest import Arm, Options
from softplace.study.contests._learning import check_arm, mean_over_budget
from softplace.study.contests.latent import contest
from softplace.study.contests.latent_arms import ARMS, BIASED, DETERMINISTIC, GAUSSIAN, UNBIASED, chosen_arms
from softplace.study.contests.latent_members import Autoencoders
from softplace.study.contests.latent_tasks import Encode, EncodeSampled, Predict
from softplace.study.data import load
from softplace.study.fleet import Fleet
from softplace.study.optimizer import Adam

CPU = torch.device("cpu")
ARM = {arm.name: arm for arm in ARMS}
TASK = Encode(
    name="vae", label="digits", variables=2, classes=3, hidden=5, batch=4, temperature=0.5, share=0.54, shown=2,
    steps=6, evaluate_every=2, learning_rates=(0.01, 0.1), optimizer=Adam(),
)  # fmt: skip


def members(arm: str, *seeds: int) -> Autoencoders:
    found = TASK.members(ARM[arm], seeds, CPU)
    assert isinstance(found, Autoencoders)
    return found


def alone(several: Autoencoders, member: int) -> CategoricalVAE:
    """A member as a `CategoricalVAE`."""
    chosen = several.arm.map
    assert isinstance(chosen, str)
    net = CategoricalVAE(64, variables=2, classes=3, hidden=(5,), map=chosen)
    names = {"encode": "encoder.0", "logits": "encoder.2", "decode": "decoder.0", "pixels": "decoder.2"}
    state = {}
    for ours, theirs in names.items():
        state[f"{theirs}.weight"] = several.parameters[f"{ours}_weight"][member].T
        state[f"{theirs}.bias"] = several.parameters[f"{ours}_bias"][member]
    net.load_state_dict(state)
    return net


@pytest.mark.parametrize("arm", ["softmax", "sparsemax", "entmax15"])
def test_a_member_by_the_exact_gradient_is_the_autoencoder_of_the_place(arm: str) -> None:
    several = members(arm, 3, 5)
    batch = several.batch(7)
    leaves = {name: value.requires_grad_() for name, value in several.parameters.items()}
    losses = several.losses(*batch)
    net = alone(several, 1)
    expected = net.loss(batch[0][1], "marginalise").surrogate.mean()
    torch.testing.assert_close(losses[1], expected)
    ours = torch.autograd.grad(losses.sum(), list(leaves.values()))
    theirs = torch.autograd.grad(expected, list(net.parameters()))
    by_name = dict(zip(leaves, ours, strict=True))
    for name, wanted in zip(
        [f"{layer}_{kind}" for layer in ("encode", "logits", "decode", "pixels") for kind in ("weight", "bias")],
        theirs,
        strict=True,
    ):
        found = by_name[name][1]
        torch.testing.assert_close(found.T if found.ndim == 2 else found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("arm", [*UNBIASED, *BIASED])
def test_the_estimate_of_a_member_is_that_of_the_place(arm: str) -> None:
    """By the same noise, in a fleet of two and alone; the gradient reaches its own parameters only."""
    several = members(arm, 3, 5)
    pixels, steps = several.batch(2)
    leaves = {name: value.requires_grad_() for name, value in several.parameters.items()}
    losses = several.losses(pixels, steps)
    gradients = dict(
        zip(
            leaves,
            torch.autograd.grad(losses[1], list(leaves.values()), retain_graph=True, allow_unused=True),
            strict=True,
        )
    )
    for name, gradient in gradients.items():
        assert gradient is None or not gradient[0].any(), name
        assert gradient is None or bool(gradient[1].isfinite().all()), name
    assert gradients["encode_weight"] is not None
    one = members(arm, 5)
    torch.testing.assert_close(one.losses(*one.batch(2))[0], losses[1].detach())
    known = get(str(ARM[arm].options["estimator"]))
    assert known.unbiased == (arm in UNBIASED)


def test_unbiased_arms_have_the_exact_gradient_in_the_mean() -> None:
    exact = members("softmax", 3)
    pixels = exact.batch(0)[0]
    weight = exact.parameters["encode_weight"].requires_grad_()
    (wanted,) = torch.autograd.grad(exact.losses(*exact.batch(0)).sum(), weight)
    for arm in ("leave-one-out", "DisARM", "ARSM", "REBAR"):
        several = members(arm, 3)
        weight = several.parameters["encode_weight"].requires_grad_()
        found = torch.stack([
            torch.autograd.grad(several.losses(pixels, torch.tensor([step])).sum(), weight)[0] for step in range(400)
        ])  # fmt: skip
        error = found.std(0) / 20
        far = (found.mean(0) - wanted).abs() > 4.5 * error + 1e-6
        assert not far.any(), arm


def test_without_samples_the_decoder_gets_the_weights() -> None:
    several = members(DETERMINISTIC, 3)
    pixels = several.batch(0)[0]
    net = alone(several, 0)
    logits = net.encode(pixels[0])
    likelihood = bounds.bernoulli_log_prob(pixels[0], net.decode(torch.softmax(logits, -1)))
    expected = (bounds.categorical_kl(logits) - likelihood).mean()
    torch.testing.assert_close(several.losses(*several.batch(0))[0], expected)
    torch.testing.assert_close(several.evaluate()["loss"], members("softmax", 3).evaluate()["loss"])


def test_the_gaussian_bound_is_that_of_the_densities() -> None:
    several = members(GAUSSIAN, 3)
    assert several.parameters["decode_weight"].shape == (1, 3, 5)
    pixels = several.images["test"][:7].expand(1, -1, -1)
    found = several.gaussian_weights(pixels, several.noise("x"), 50)
    p = {name: value[0] for name, value in several.parameters.items()}
    hidden = torch.relu(pixels[0] @ p["encode_weight"] + p["encode_bias"])
    mean, log_deviation = (hidden @ p["logits_weight"] + p["logits_bias"]).chunk(2, -1)
    q = torch.distributions.Normal(mean, log_deviation.exp())
    noise = several.noise("x")((50, 1, 7, 3, 1)).squeeze(-1).clamp(1e-6, 1 - 1e-6)
    z = mean + log_deviation.exp() * torch.special.ndtri(noise)[:, 0]
    decoded = torch.relu(z @ p["decode_weight"] + p["decode_bias"]) @ p["pixels_weight"] + p["pixels_bias"]
    expected = (
        bounds.bernoulli_log_prob(pixels[0], decoded)
        + torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        - q.log_prob(z).sum(-1)
    )
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-4, atol=1e-3)


def test_all_networks_start_and_see_alike() -> None:
    first = members("softmax", 3, 5)
    for arm in ("sparsemax", "NVIL", "RELAX", DETERMINISTIC):
        other = members(arm, 5, 3)
        assert all(torch.equal(value[0], other.parameters[name][1]) for name, value in first.parameters.items())
    gaussian = members(GAUSSIAN, 3).parameters
    assert torch.equal(gaussian["encode_weight"][0], first.parameters["encode_weight"][0])
    one, other = first.batch(4)[0], members("NVIL", 5, 3).batch(4)[0]
    assert torch.equal(one[0], other[1])
    assert not torch.equal(one[0], one[1])
    kept = first.select(torch.tensor([1]))
    assert torch.equal(kept.batch(4)[0][0], one[1])


@pytest.mark.parametrize("arm", ["softmax", "sparsemax", "DisARM", "RELAX", DETERMINISTIC, GAUSSIAN])
def test_a_member_ends_with_every_metric(arm: str) -> None:
    found = {}
    for role in ("tune", "judge"):
        fleet = Fleet(TASK, ARM[arm], role, [3, 5], [0.01, 0.1])  # type: ignore[arg-type]
        fleet.train()
        found[role] = fleet.outcomes
    assert all(set(outcome.measurement.metrics) == {"mean_loss"} for outcome in found["tune"])
    classes = set() if arm == GAUSSIAN else {"perplexity", "bias", "deviation"}
    for outcome in found["judge"]:
        metrics = outcome.measurement.metrics
        assert set(metrics) == {"mean_loss", "steps_to_learn", "solved", "loss", "nll"} | classes
        assert all(math.isfinite(value) for value in metrics.values())
        assert metrics["mean_loss"] == pytest.approx(mean_over_budget(outcome.curve, "loss", TASK.steps))
        assert metrics["nll"] <= metrics["loss"] + 1e-4
        if arm in ("softmax", "sparsemax"):
            assert (metrics["bias"], metrics["deviation"]) == (0.0, 0.0)
        if arm in ("DisARM", "RELAX"):
            assert metrics["deviation"] > 0.1
        json.dumps(dict(outcome.measurement.probes), allow_nan=False)


def test_measures_are_those_of_the_place() -> None:
    several = members("softmax", 3)
    found = several.measure("judge", [{"step": [2.0], "loss": [30.0]}])[0].metrics
    net, test = alone(several, 0), TASK.images["test"]
    assert found["loss"] == pytest.approx(-float(net.loss(test, "marginalise").bound.mean()), abs=1e-4)
    assert found["nll"] == pytest.approx(-float(net.log_likelihood(test).mean()), abs=1e-4)
    with torch.no_grad():
        shares = torch.softmax(net.encode(test), -1)
    assert found["perplexity"] == pytest.approx(float(perplexity(shares).mean()), abs=1e-5)
    assert len(configurations(2, 3)) == 9


def test_bias_is_seen_where_there_is_some() -> None:
    curve = [{"step": [2.0], "loss": [30.0]}]
    unbiased, biased = (members(arm, 3).measure("judge", curve)[0].metrics["bias"] for arm in ("ARSM", DETERMINISTIC))
    deviation = members("ARSM", 3).measure("judge", curve)[0].metrics["deviation"]
    assert unbiased < 3 * deviation / 8  # of 64 estimates
    assert biased > 0.01


def test_arms_are_found_by_name_and_by_map() -> None:
    def names(*chosen: Any) -> list[str]:
        return [arm.name for arm in chosen_arms(chosen)]

    assert chosen_arms(None) == ARMS
    assert names("sparsemax") == ["softmax", "sparsemax"]
    assert names("disarm", "gaussian") == ["softmax", "DisARM", GAUSSIAN]
    assert set(UNBIASED) | set(BIASED) <= set(ARM)
    with pytest.raises(InputError, match=r"Unknown map 'sparsemx' for the place 'latent'\. Did you mean 'sparsemax'"):
        names("sparsemx")


def test_a_map_of_ones_own_is_tried_first() -> None:
    def broken(scores: Tensor, dim: int = -1) -> Tensor:
        return scores * math.nan

    with pytest.raises(InputError, match="map 'broken': expected finite weights"):
        check_arm(TASK, Arm(name="broken", map=broken), "loss")
    check_arm(TASK, Arm(name="entmax", map="entmax"), "loss")
    with pytest.raises(InputError, match="'map' must give weights of 0 or more that sum to 1, as a choice has"):
        contest(Options(maps=("relu",)))


def test_the_contest_is_the_issue() -> None:
    quick, full = contest(Options()), contest(Options(preset="full"))
    assert set(quick.uses) == {"preset", "maps", "table"}
    assert [type(task) for task in quick.tasks] == [Encode]
    assert [type(task) for task in full.tasks] == [Encode, EncodeSampled, Predict]
    for task in (*quick.tasks, *full.tasks):
        assert task.steps % task.evaluate_every == 0
        json.dumps(dict(task.settings()))
    assert full.arms_of(full.tasks[0]) == full.arms
    sampled = set(ARM) - {"softmax", "sparsemax", "entmax15", "ARSM"}
    assert {arm.name for arm in full.arms_of(full.tasks[1])} == sampled
    assert {arm.name for arm in full.arms_of(full.tasks[2])} == sampled - {"REBAR", "RELAX", GAUSSIAN}
    few = contest(Options(preset="full", maps=("sparsemax",)))  # has no arm for the tasks of samples
    assert [type(task) for task in few.tasks] == [Encode]


def test_a_table_of_ones_own_becomes_pixels() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    rows[3, 2] = np.nan
    table = load((rows[~np.isnan(rows).any(1)], np.arange(29) % 2))
    table = replace(table, features=rows)  # as a CSV file with a missing cell
    (task,) = contest(Options(table=table)).tasks
    assert isinstance(task, Encode)
    assert [len(task.images[part]) for part in ("train", "validation", "test")] == [24, 3, 3]
    middle = (np.nanmin(rows, 0) + np.nanmax(rows, 0)) / 2
    expected = torch.from_numpy(rows > middle).float()
    assert sorted(map(tuple, torch.cat(list(task.images.values())).tolist())) == sorted(map(tuple, expected.tolist()))
    assert (task.shape, task.pixels) == ((1, 5), 5)
    assert task.learned == round(0.54 * 5 * math.log(2), 2)
    assert task.settings()["table"] == table.fingerprint
    fleet = Fleet(replace(task, steps=4, evaluate_every=2), ARM["softmax"], "judge", [3], [0.01])
    fleet.train()
    assert math.isfinite(fleet.outcomes[0].measurement.metrics["nll"])
    with pytest.raises(InputError, match=r"'data' must have 10 rows or more for the place 'latent'\. Got 9"):
        contest(Options(table=replace(table, features=rows[:9])))


def test_a_small_study_from_end_to_end(tmp_path: Path) -> None:
    study = Study("latent", maps=["sparsemax", "DisARM"], seeds=4, workers=1)
    study.contests = [replace(each, tasks=(TASK,)) for each in study.contests]
    result = study.run()
    assert {row["arm"] for row in result.rows} == {"softmax", "sparsemax", "DisARM"}
    assert {verdict.place for verdict in result.verdicts} == {"latent"}
    result.page(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Does softmax belong inside a network where it models a choice?" in text

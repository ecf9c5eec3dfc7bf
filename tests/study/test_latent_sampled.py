"""The latent contest's networks that are measured by samples, against the parts of the place: Table 1 in small."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace import Study
from softplace.latent import bounds
from softplace.latent.vae import CategoricalPredictor, CategoricalVAE, perplexity
from softplace.study.contest import Options
from softplace.study.contests import latent
from softplace.study.contests.latent_arms import ARMS, DETERMINISTIC, GAUSSIAN, SAMPLED, SEVERAL_LAYERS
from softplace.study.contests.latent_sampled import Predictors, SampledAutoencoders
from softplace.study.contests.latent_tasks import Encode, EncodeSampled, Predict
from softplace.study.fleet import Fleet
from softplace.study.optimizer import SGD

CPU = torch.device("cpu")
ARM = {arm.name: arm for arm in ARMS}
SMALL: dict[str, Any] = {
    "label": "digits", "variables": 2, "classes": 3, "batch": 4, "temperature": 0.5, "anneal_rate": 1e-4,
    "steps": 4, "evaluate_every": 2, "learning_rates": (1e-4, 1e-3), "optimizer": SGD(momentum=0.9),
}  # fmt: skip
ENCODE = EncodeSampled(name="autoencoder", hidden=5, samples=2000, arms=SAMPLED, **SMALL)
PREDICT = Predict(name="predictor", samples=2000, arms=SEVERAL_LAYERS, **SMALL)


def autoencoder(several: SampledAutoencoders, member: int) -> CategoricalVAE:
    net = CategoricalVAE(64, variables=2, classes=3, hidden=(5,))
    names = {"encode": "encoder.0", "logits": "encoder.2", "decode": "decoder.0", "pixels": "decoder.2"}
    return loaded(net, several.parameters, names, member)


def predictor(several: Predictors, member: int) -> CategoricalPredictor:
    net = CategoricalPredictor(32, 32, variables=2, classes=3)
    names = {"first": "layers.0", "second": "layers.1", "readout": "readout"}
    return loaded(net, several.parameters, names, member)


def loaded(net: Any, parameters: dict[str, Tensor], names: dict[str, str], member: int) -> Any:
    state = {f"{theirs}.weight": parameters[f"{ours}_weight"][member].T for ours, theirs in names.items()}
    net.load_state_dict(
        state | {f"{theirs}.bias": parameters[f"{ours}_bias"][member] for ours, theirs in names.items()}
    )
    return net


def trained(members: Any) -> Any:
    """Weights that are not near zero, so that classes have different weights."""
    for name, value in members.parameters.items():
        if name.endswith("weight"):
            value.mul_(4.0)
    return members


def test_bounds_are_those_of_the_autoencoder() -> None:
    several = ENCODE.members(ARM["leave-one-out"], (3, 5), CPU)
    several.parameters["logits_weight"].mul_(3.0)
    several.parameters["decode_weight"].mul_(3.0)
    assert isinstance(several, SampledAutoencoders)
    found = several.measure("judge", [{"step": [2.0], "loss": [30.0]}] * 2)[1].metrics
    net, test = autoencoder(several, 1), several.images["test"]
    with torch.no_grad():
        exact = -float(net.loss(test, "marginalise").bound.mean())
        shares = torch.softmax(net.encode(test), -1)
    assert found["loss"] == pytest.approx(exact, abs=0.05)  # 180 images by 2,000 samples
    assert found["nll"] == pytest.approx(-float(net.log_likelihood(test).mean()), abs=0.02)
    assert found["nll"] < found["loss"]
    assert found["perplexity"] == pytest.approx(float(perplexity(shares).mean()), abs=1e-5)


def test_the_gaussian_has_its_bound_by_samples_too() -> None:
    several = ENCODE.members(ARM[GAUSSIAN], (3,), CPU)
    assert isinstance(several, SampledAutoencoders)
    found = several.measure("judge", [{"step": [2.0], "loss": [30.0]}])[0].metrics
    with torch.no_grad():
        ratios = several.gaussian_weights(several.of("test"), several.noise("another"), 2000)
    assert found["loss"] == pytest.approx(-float(ratios.mean()), abs=0.1)
    assert found["nll"] == pytest.approx(-float(bounds.iwae(ratios).mean()), abs=0.1)
    assert set(found) == {"mean_loss", "loss", "nll"}


def test_bounds_are_those_of_the_predictor() -> None:
    several = trained(PREDICT.members(ARM["NVIL"], (3, 5), CPU))
    found = several.measure("judge", [{"step": [2.0], "loss": [30.0]}] * 2)[1].metrics
    net, test = predictor(several, 1), several.images["test"]
    exact, likelihood = enumerated(net, test[:, :32], test[:, 32:])
    assert found["loss"] == pytest.approx(-float(exact.mean()), abs=0.05)
    assert found["nll"] == pytest.approx(-float(likelihood.mean()), abs=0.02)


def enumerated(net: CategoricalPredictor, given: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """`E log p(y | z)` and `log p(y | x)` over all configurations of both layers, 9 each."""
    ways = torch.nn.functional.one_hot(torch.cartesian_prod(torch.arange(3), torch.arange(3)), 3).float()
    with torch.no_grad():
        first = bounds.log_prob(ways.unsqueeze(1), torch.log_softmax(net.logits(0, given), -1))  # (9, B)
        second = bounds.log_prob(ways.unsqueeze(1), torch.log_softmax(net.logits(1, ways.flatten(1)), -1))  # (9, 9)
        cost = bounds.bernoulli_log_prob(wanted, net.readout(ways.flatten(1)).unsqueeze(1))  # (9, B)
    last = torch.einsum("ab,la->lb", first.exp(), second.exp())
    return (last * cost).sum(0), torch.logsumexp(last.log() + cost, 0)


@pytest.mark.parametrize("arm", ["NVIL", "leave-one-out", "DisARM"])
def test_unbiased_gradients_of_two_layers_are_those_of_the_enumeration(arm: str) -> None:
    several = trained(PREDICT.members(ARM[arm], (3,), CPU))
    pixels = several.batch(0)[0]
    leaves = {name: several.parameters[f"{name}_weight"].requires_grad_() for name in ("first", "second", "readout")}
    given, wanted = pixels[0, :, :32], pixels[0, :, 32:]
    ways = torch.nn.functional.one_hot(torch.cartesian_prod(torch.arange(3), torch.arange(3)), 3).float()
    flat = ways.flatten(1)
    first = bounds.log_prob(ways.unsqueeze(1), torch.log_softmax(several.logits("first", given[None])[0], -1))
    second = bounds.log_prob(ways.unsqueeze(1), torch.log_softmax(several.logits("second", flat[None])[0], -1))
    cost = bounds.bernoulli_log_prob(wanted, several.layer("readout", flat[None])[0].unsqueeze(1))
    value = -(torch.einsum("ab,la->lb", first.exp(), second.exp()) * cost).sum(0).mean()
    exact = torch.autograd.grad(value, list(leaves.values()))
    made: list[list[Tensor]] = [[] for _ in leaves]
    for step in range(400):
        for kept, one in zip(
            made,
            torch.autograd.grad(several.losses(pixels, torch.tensor([step])).sum(), list(leaves.values())),
            strict=True,
        ):
            kept.append(one)
    for name, several_of, wanted_gradient in zip(leaves, made, exact, strict=True):
        found = torch.stack(several_of)
        far = (found.mean(0) - wanted_gradient).abs() > 4.5 * found.std(0) / 20 + 1e-6
        assert not far.any(), name


@pytest.mark.parametrize("task", [ENCODE, PREDICT], ids=["autoencoder", "predictor"])
def test_every_arm_trains_alone_as_in_a_fleet(task: EncodeSampled | Predict) -> None:
    for name in task.arms or ():
        several, one = (task.members(ARM[name], seeds, CPU) for seeds in ((3, 5), (5,)))
        for each in (several, one):
            for value in each.parameters.values():
                value.requires_grad_()
        losses, alone = several.losses(*several.batch(7)), one.losses(*one.batch(7))
        torch.testing.assert_close(losses[1], alone[0], rtol=1e-5, atol=1e-4)
        gradients = torch.autograd.grad(losses[1], list(several.parameters.values()), allow_unused=True)
        assert all(gradient is None or not gradient[0].any() for gradient in gradients), name


def test_the_temperature_falls() -> None:
    assert (ENCODE.temperature_at(0), ENCODE.temperature_at(10_000)) == (1.0, 0.5)
    assert ENCODE.temperature_at(3_000) == pytest.approx(math.exp(-0.3))


@pytest.mark.parametrize(
    ("task", "arm"), [(ENCODE, "RELAX"), (ENCODE, DETERMINISTIC), (PREDICT, DETERMINISTIC), (PREDICT, "NVIL")]
)
def test_a_member_ends_with_every_metric(task: EncodeSampled | Predict, arm: str) -> None:
    fleet = Fleet(replace(task, samples=3), ARM[arm], "judge", [3, 5], [1e-4, 1e-3])
    fleet.train()
    for outcome in fleet.outcomes:
        assert set(outcome.measurement.metrics) == {each.name for each in task.metrics}
        assert all(math.isfinite(value) for value in outcome.measurement.metrics.values())


def test_the_full_preset_from_end_to_end_in_small() -> None:
    study = Study("latent", maps=["DisARM", "NVIL", "gumbel-softmax"], seeds=4, workers=1, preset="full")
    (contest,) = study.contests
    first = contest.tasks[0]
    assert isinstance(first, Encode)
    short = replace(first, hidden=5, steps=4, evaluate_every=2, learning_rates=(0.01, 0.1))
    given = tuple(name for name in ("Gumbel-softmax", "NVIL", "DisARM"))
    tasks = (short, replace(ENCODE, samples=3, arms=given), replace(PREDICT, samples=3, arms=given))
    study.contests = [replace(contest, tasks=tasks)]
    result = study.run()
    assert {(row["task"], row["arm"]) for row in result.rows if row["arm"] == "softmax"} == {("vae", "softmax")}
    (page,) = result.report.places
    sections = {section.key: section for section in page.sections}
    for key, metric in (("table-autoencoder", "loss"), ("table-predictor", "nll")):
        verdict = sections[key].verdict
        assert verdict is not None
        assert verdict.arms == ("Gumbel-softmax", "NVIL")
        assert "Gumbel-softmax" in verdict.criterion
        figure = next(each for each in sections[key].figures if each.key.endswith(metric))
        assert {row["arm"] for row in figure.rows} == set(given)
        assert "not beside these images" in figure.caption
    assert any(line.startswith("Table 1 again") for line in page.method)
    json.dumps([dict(row) for row in result.rows])


def test_what_was_printed_stands_beside_mnist_only() -> None:
    from softplace.report.records import Axis, Figure
    from softplace.study.contests.latent_claims import TABLE
    from softplace.study.contests.latent_report import _beside_print
    from softplace.study.data import load

    rows = torch.rand(20, 784, generator=torch.Generator().manual_seed(0)).numpy()
    mnist = replace(load((rows, [0, 1] * 10)), name="mnist.npz")
    axis = Axis(column="nll", label="")
    own = {"arm": "Gumbel-softmax", "nll": 60.0, "low": 59.0, "high": 61.0}
    figure = Figure(key="x", kind="interval", title="", caption="", x=axis, y=axis, rows=[own])
    found = _beside_print(replace(PREDICT, table=mnist), TABLE["predictor"], figure)
    assert [(row["arm"], row["nll"]) for row in found.rows] == [
        ("Gumbel-softmax, printed", 59.0),
        ("straight-through Gumbel, printed", 59.7),
        ("Gumbel-softmax", 60.0),
        ("straight-through, printed", 61.8),
        ("NVIL, printed", 73.1),
    ]
    other = _beside_print(replace(PREDICT, table=replace(mnist, name="letters.npz")), TABLE["predictor"], figure)
    assert list(other.rows) == [own]
    assert latent.contest(Options(preset="full", table=mnist)).tasks[2].pixels == 784  # type: ignore[attr-defined]

"""The output contest: losses and probabilities against loops, members against a plain network, measures by hand."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from softplace import Study, maps
from softplace.errors import InputError
from softplace.study.contest import Arm, Options
from softplace.study.contests._classify import nearest_mean_accuracy
from softplace.study.contests.output import NOISE, Classify, contest
from softplace.study.contests.output_arms import (
    ARMS,
    DOUBLE,
    ENTMAX,
    FLOOR,
    HINGE,
    LINEAR,
    SIGMOIDS,
    SPARSEMAX,
    SPHERICAL,
    SPHERICAL_EPSILON,
    SQUARED,
    TAYLOR,
    check_map,
    chosen_arms,
    output_of,
)
from softplace.study.contests.output_members import (
    BINS,
    TRACED,
    Classifiers,
    clipped_nll,
    gradients,
    mislabelled,
    reliability,
    start_gradient,
    wrong_gradient,
    wrong_labels,
)
from softplace.study.data import load, split
from softplace.study.fleet import Fleet, train_step

CPU = torch.device("cpu")
ARM = {arm.name: arm for arm in ARMS}
WINE = load("wine")
TASK = Classify(
    name="noisy wine", label="wine", table=WINE, width=5, batch=16, noise=NOISE,
    steps=12, evaluate_every=4, learning_rates=(0.01, 0.1),
)  # fmt: skip


def members(arm: str | Arm, *seeds: int) -> Classifiers:
    found = TASK.members(ARM[arm] if isinstance(arm, str) else arm, seeds, CPU)
    assert isinstance(found, Classifiers)
    return found


# Naive formulas: one row of scores, floats, no tensors.


def softmax(s: Sequence[float]) -> list[float]:
    total = sum(math.exp(each) for each in s)
    return [math.exp(each) / total for each in s]


def entmax(s: Sequence[float], alpha: float) -> list[float]:
    """By bisection of the threshold."""
    low, high = (alpha - 1) * max(s) - 1, (alpha - 1) * max(s)
    for _ in range(200):
        middle = (low + high) / 2
        p = [max((alpha - 1) * each - middle, 0.0) ** (1 / (alpha - 1)) for each in s]
        low, high = (middle, high) if sum(p) > 1 else (low, middle)
    return [each / sum(p) for each in p]


def fenchel_young(s: Sequence[float], y: int, alpha: float) -> float:
    """max_p <p, s> - O(p), less <y, s>: O of a corner is 0."""
    p = entmax(s, alpha)
    entropy = (1 - sum(each**alpha for each in p)) / (alpha * (alpha - 1))
    return sum(a * b for a, b in zip(p, s, strict=True)) + entropy - s[y]


def spherical(s: Sequence[float]) -> list[float]:
    squares = [each * each + SPHERICAL_EPSILON for each in s]
    return [each / sum(squares) for each in squares]


def taylor(s: Sequence[float]) -> list[float]:
    values = [1 + each + each * each / 2 for each in s]
    return [each / sum(values) for each in values]


def squared(p: Sequence[float], y: int) -> float:
    return sum((each - (k == y)) ** 2 for k, each in enumerate(p))


def sigmoid(s: float) -> float:
    return 1 / (1 + math.exp(-s))


def shares(p: Sequence[float]) -> list[float]:
    return [each / sum(p) for each in p]


def binary(s: Sequence[float], y: int) -> float:
    return -sum(math.log(sigmoid(each) if k == y else 1 - sigmoid(each)) for k, each in enumerate(s))


NAIVE: dict[str, tuple[Callable[[Sequence[float], int], float], Callable[[Sequence[float]], list[float]]]] = {
    "softmax": (lambda s, y: -math.log(softmax(s)[y]), softmax),
    DOUBLE: (lambda s, y: -math.log(softmax(softmax(s))[y]), softmax),
    SQUARED: (lambda s, y: squared(softmax(s), y), softmax),
    SIGMOIDS: (binary, lambda s: shares([sigmoid(each) for each in s])),
    SPARSEMAX: (lambda s, y: fenchel_young(s, y, 2.0), lambda s: entmax(s, 2.0)),
    ENTMAX: (lambda s, y: fenchel_young(s, y, 1.5), lambda s: entmax(s, 1.5)),
    SPHERICAL: (lambda s, y: -math.log(spherical(s)[y]), spherical),
    TAYLOR: (lambda s, y: -math.log(taylor(s)[y]), taylor),
    LINEAR: (squared, lambda s: entmax(s, 2.0)),
    HINGE: (lambda s, y: max(each + (k != y) for k, each in enumerate(s)) - s[y], softmax),
}


@pytest.mark.parametrize("arm", ARM)
@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_losses_and_probabilities_are_those_of_a_loop(arm: str, scale: float) -> None:
    draw = torch.Generator().manual_seed(5)
    scores = scale * torch.randn(2, 4, 7, generator=draw, dtype=torch.float64)
    labels = torch.randint(0, 4, (2, 7), generator=draw)
    loss, weights = NAIVE[arm]
    output = output_of(ARM[arm])
    found, probabilities = output.loss(scores, labels), output.probabilities(scores)
    slopes = gradients(output.loss, scores, labels)
    for member in range(2):
        for row in range(7):
            s, y = scores[member, :, row].tolist(), int(labels[member, row])
            assert float(found[member, row]) == pytest.approx(loss(s, y), abs=1e-12)
            assert probabilities[member, :, row].tolist() == pytest.approx(weights(s), abs=1e-12)
            for k in range(4):
                step = [1e-6 * (k == j) for j in range(4)]
                up, down = ([a + sign * b for a, b in zip(s, step, strict=True)] for sign in (1, -1))
                slope = (loss(up, y) - loss(down, y)) / 2e-6
                assert float(slopes[member, k, row]) == pytest.approx(slope, abs=1e-6)


def test_every_arm_has_a_naive_formula() -> None:
    assert set(NAIVE) == set(ARM)


@pytest.mark.parametrize("arm", ARM)
def test_a_member_is_a_plain_network(arm: str) -> None:
    several = members(arm, 3, 5)
    leaves = {name: value.detach().clone().requires_grad_() for name, value in several.parameters.items()}
    several.parameters = leaves
    inputs, labels = several.batch(2)
    ours = dict(
        zip(leaves, torch.autograd.grad(several.losses(inputs, labels).sum(), list(leaves.values())), strict=True)
    )
    for member in range(2):
        net = nn.Sequential(nn.Linear(13, 5), nn.ReLU(), nn.Linear(5, 3))
        names = {"0.weight": "weight0", "0.bias": "bias0", "2.weight": "weight1", "2.bias": "bias1"}
        with torch.no_grad():
            for name, value in net.named_parameters():
                value.copy_(leaves[names[name]][member].view_as(value))
        scores = net(inputs[member].T)
        loss, _ = NAIVE[arm]
        wanted = np.mean([loss(row.tolist(), int(y)) for row, y in zip(scores.double(), labels[member], strict=True)])
        assert float(several.losses(inputs, labels)[member].detach()) == pytest.approx(wanted, rel=1e-5)
        output_of(ARM[arm]).loss(scores.T[None], labels[member][None]).mean().backward()
        for name, value in net.named_parameters():
            torch.testing.assert_close(ours[names[name]][member].view_as(value), value.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("arm", ["softmax", SPARSEMAX, HINGE])
def test_a_fleet_is_many_single_trainings(arm: str) -> None:
    whole = Fleet(TASK, ARM[arm], "judge", [3, 5, 8], [0.01, 0.1, 0.03])
    whole.train()
    alone = Fleet(TASK, ARM[arm], "judge", [5], [0.1])
    alone.train()
    kept = next(outcome for outcome in whole.outcomes if outcome.index == 1)
    for name, value in alone.outcomes[0].measurement.metrics.items():
        assert kept.measurement.metrics[name] == pytest.approx(value, abs=1e-4), name
    assert kept.curve["validation_nll"] == pytest.approx(alone.outcomes[0].curve["validation_nll"], abs=1e-4)
    for name, value in whole._members.parameters.items():
        torch.testing.assert_close(value[1], alone._members.parameters[name][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arm", ["softmax", TAYLOR])
def test_a_fleet_that_goes_on_is_one_that_never_stopped(arm: str) -> None:
    whole, half = (Fleet(TASK, ARM[arm], "judge", [3, 5], [0.01, 0.1]) for _ in range(2))
    whole.train()
    for _ in range(5):
        half._one_step(train_step)
        if half.step == 4:
            half._evaluate()
    rest = Fleet(TASK, ARM[arm], "judge", [3, 5], [0.01, 0.1])
    rest.restore(half.state())
    rest.train()
    for mine, theirs in zip(rest.outcomes, whole.outcomes, strict=True):
        assert mine.curve == theirs.curve
        assert mine.measurement == theirs.measurement


def test_all_networks_start_and_see_alike() -> None:
    first = members("softmax", 3, 5)
    for arm in ARM:
        other = members(arm, 5, 3)
        assert all(torch.equal(value[0], other.parameters[name][1]) for name, value in first.parameters.items())
        for mine, theirs in zip(first.batch(9), other.batch(9), strict=True):
            assert torch.equal(mine[0], theirs[1])
            assert not torch.equal(mine[0], mine[1])
    kept = first.select(torch.tensor([1]))
    assert torch.equal(kept.batch(9)[0][0], first.batch(9)[0][1])
    assert kept.seeds.tolist() == [5]


def test_wrong_labels_are_in_training_rows_only() -> None:
    several = members("softmax", 3, 5)
    for index, seed in enumerate((3, 5)):
        parts = split(WINE, seed)
        wrong = several.train.labels[index].numpy() != parts.train.labels
        assert wrong.sum() == round(NOISE * len(wrong)) == 21
        assert np.array_equal(several.train.features[index].numpy(), parts.train.features)
        assert np.array_equal(several.validation.labels[index].numpy(), parts.validation.labels)
        assert np.array_equal(several.test.labels[index].numpy(), parts.test.labels)
        assert float(several.targets[index]) == pytest.approx(nearest_mean_accuracy(parts))
    clean = replace(TASK, noise=0.0).members(ARM["softmax"], (3,), CPU)
    assert isinstance(clean, Classifiers)
    assert np.array_equal(clean.train.labels[0].numpy(), split(WINE, 3).train.labels)


def test_each_other_class_is_as_likely_to_be_the_wrong_one() -> None:
    part = replace(split(load("digits"), 0).train, labels=np.zeros(1077, np.int64))
    changed = mislabelled(part, 4, 0.999, 10).labels
    counts = np.bincount(changed, minlength=10)
    assert counts[0] == 1077 - round(0.999 * 1077) == 1
    expected = (1077 - 1) / 9
    assert sum((count - expected) ** 2 / expected for count in counts[1:]) < 26.1  # chi-square, 8 df, p = 0.001
    assert np.array_equal(part.labels, np.zeros(1077))
    assert np.array_equal(mislabelled(part, 4, 0.999, 10).labels, changed)
    assert not np.array_equal(mislabelled(part, 5, 0.999, 10).labels, changed)
    drawn = wrong_labels(torch.zeros(2, 900, dtype=torch.long), torch.tensor([4, 5]), 10)
    assert set(drawn.flatten().tolist()) == set(range(1, 10))
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(wrong_labels(torch.zeros(1, 900, dtype=torch.long), torch.tensor([5]), 10)[0], drawn[1])


def test_likelihoods_by_hand() -> None:
    weights = torch.tensor([[[0.5, 0.0, 1e-9], [0.5, 1.0, 1.0]]], dtype=torch.float64)  # (1, 2, 3)
    found = clipped_nll(weights, torch.tensor([[0, 0, 0]]))
    assert found.tolist() == pytest.approx([(math.log(2.0) - 2 * math.log(FLOOR)) / 3])
    assert clipped_nll(weights, torch.tensor([[1, 1, 1]])).tolist() == pytest.approx([math.log(2.0) / 3])


def test_gradients_where_wrong_and_sure_by_hand() -> None:
    """Cross-entropy: the gradient is p - y, its length sqrt(2) where the network is certain of another class."""
    begun = torch.zeros(1, 3, 4, dtype=torch.float64)
    scores = begun.clone()
    scores[0, 0] = torch.tensor([40.0, 50.0, 1.0, -1.0])  # the last is not named rightly, the third is less sure
    labels = torch.zeros(1, 4, dtype=torch.long)
    output = output_of(ARM["softmax"])
    start = start_gradient(output.loss, begun, labels)
    assert start.tolist() == pytest.approx([math.sqrt((2 / 3) ** 2 + 2 / 9)])
    wrong = torch.tensor([[1, 2, 1, 1]])
    found = wrong_gradient(output.loss, scores, output.probabilities(scores), labels, wrong, start)
    assert found.tolist() == pytest.approx([math.log10(math.sqrt(2) / float(start))])
    # Squared error behind softmax: 2 J (p - y), of size exp(-40) and less.
    output = output_of(ARM[SQUARED])
    gone = wrong_gradient(output.loss, scores, output.probabilities(scores), labels, wrong, start)
    assert gone.tolist() == [-12.0]
    never = torch.tensor([[[0.0] * 4, [1.0] * 4, [0.0] * 4]])
    assert wrong_gradient(output.loss, scores, never, labels, wrong, start).isnan().all()


def test_bins_of_a_reliability_diagram_by_hand() -> None:
    weights = torch.tensor([[[0.5, 0.9, 0.95, 1 / 3], [0.5, 0.1, 0.05, 2 / 3]]], dtype=torch.float64)
    found = reliability(weights, torch.tensor([[0, 0, 1, 1]]))[0]
    assert found.shape == (BINS, 3)
    filled = {k: row.tolist() for k, row in enumerate(found) if row[0] > 0}
    # The first of two equal ones is named; 2/3 = 10/15 is the right end of the tenth bin.
    wanted = {7: [1.0, 0.5, 1.0], 9: [1.0, 2 / 3, 1.0], 13: [1.0, 0.9, 1.0], 14: [1.0, 0.95, 0.0]}
    assert filled == {k: pytest.approx(row) for k, row in wanted.items()}


@pytest.mark.parametrize("arm", ARM)
def test_a_member_ends_with_every_metric(arm: str) -> None:
    found = {}
    for role in ("tune", "judge"):
        fleet = Fleet(TASK, ARM[arm], role, [3, 5], [0.01, 0.1])  # type: ignore[arg-type]
        fleet.train()
        found[role] = fleet.outcomes
    assert all(set(outcome.measurement.metrics) == {"validation_accuracy"} for outcome in found["tune"])
    for outcome in found["judge"]:
        metrics = outcome.measurement.metrics
        assert set(metrics) == {each.name for each in TASK.metrics} - {"accuracy_lost"} | {"validation_accuracy"}
        assert all(math.isfinite(value) for value in metrics.values())
        assert metrics["validation_accuracy"] == outcome.curve["validation_accuracy"][-1]
        probes: dict[str, Any] = json.loads(json.dumps(outcome.measurement.probes, allow_nan=False))
        for part in ("scores", "weights", "gradient"):
            assert np.shape(probes[part]) == (2 * TRACED, 3)
        assert np.sum(probes["weights"], 1) == pytest.approx(1.0, abs=1e-3)
        assert len(probes["labels"]) == 2 * TRACED
        assert not any(one == other for one, other in zip(probes["labels"][:4], probes["labels"][4:], strict=True))
        assert np.sum(probes["bins"], 0)[0] == 36
        assert np.sum(probes["bins"], 0)[2] / 36 == pytest.approx(metrics["test_accuracy"])


def test_a_network_whose_numbers_are_none_leaves_nothing_to_draw() -> None:
    several = members("softmax", 3, 5)
    several.parameters["bias1"][1, 0] = math.nan
    with torch.no_grad():
        fine, lost = several.measure("judge", [{"step": [12.0], "validation_accuracy": [0.5]}] * 2)
    assert set(fine.probes) == {"bins", "labels", "scores", "weights", "gradient"}
    assert lost.probes == {}
    assert all(math.isfinite(value) for value in fine.metrics.values())
    assert all(math.isnan(lost.metrics[name]) for name in ("test_accuracy", "test_nll", "brier", "calibration_error"))


@pytest.mark.parametrize("arm", [SPARSEMAX, SIGMOIDS, LINEAR])
def test_measures_of_a_member_are_those_of_its_test_rows(arm: str) -> None:
    fleet = Fleet(TASK, ARM[arm], "judge", [3], [0.1])
    fleet.train()
    metrics = fleet.outcomes[0].measurement.metrics
    several = fleet._members
    assert isinstance(several, Classifiers)
    part = split(WINE, 3).test
    with torch.no_grad():
        scores = several.scores(torch.from_numpy(part.features).T[None])[0].T.double()
    weights = [NAIVE[arm][1](row.tolist()) for row in scores]
    right = [row[int(y)] for row, y in zip(weights, part.labels, strict=True)]
    named = [int(np.argmax(row)) == y for row, y in zip(weights, part.labels, strict=True)]
    assert metrics["test_accuracy"] == pytest.approx(np.mean(named))
    assert metrics["test_nll"] == pytest.approx(np.mean([-math.log(max(p, FLOOR)) for p in right]), abs=1e-6)
    assert metrics["zero_share"] == pytest.approx(np.mean([p == 0.0 for p in right]))
    brier = [squared(row, int(y)) for row, y in zip(weights, part.labels, strict=True)]
    assert metrics["brier"] == pytest.approx(np.mean(brier), abs=1e-6)


def doubled(scores: Tensor, dim: int = -1) -> Tensor:
    return 2.0 * scores.softmax(dim)


def test_any_other_map_is_divided_by_its_sum_and_trained_by_its_logarithm() -> None:
    scores = torch.tensor([[[1.0, -1.0], [2.0, -2.0], [-1.0, -3.0]]], dtype=torch.float64)
    labels = torch.tensor([[2, 1]])
    output = output_of(Arm(name="doubled", map=doubled))
    torch.testing.assert_close(output.probabilities(scores), scores.softmax(1))
    wanted = -(scores.softmax(1).gather(1, labels[:, None])[:, 0] + FLOOR).log()
    torch.testing.assert_close(output.loss(scores, labels), wanted)
    relu = output_of(Arm(name="relu", map="relu"))
    found = relu.probabilities(scores)
    assert found[0, :, 0].tolist() == pytest.approx([1 / 3, 2 / 3, 0.0])
    assert found[0, :, 1].tolist() == pytest.approx([1 / 3] * 3)  # no class has a weight
    assert relu.loss(scores, labels)[0].tolist() == pytest.approx([-math.log(FLOOR), -math.log(1 / 3 + FLOOR)])
    assert gradients(relu.loss, scores, labels).isfinite().all()
    own = output_of(Arm(name="entmax", map="entmax"))
    torch.testing.assert_close(own.loss(scores, labels), maps.entmax_loss(scores, labels, 1, reduction="none"))


def test_arms_are_found_by_name_and_by_map() -> None:
    def names(*chosen: Any) -> list[str]:
        return [arm.name for arm in chosen_arms(chosen)]

    assert chosen_arms(None) == ARMS
    assert names("softmax") == ["softmax", DOUBLE, SQUARED]
    assert names("sigmoid", "identity") == ["softmax", SIGMOIDS, LINEAR, HINGE]
    assert names("DOUBLE SOFTMAX", "sigsoftmax", doubled) == ["softmax", DOUBLE, "sigsoftmax", "doubled"]
    with pytest.raises(InputError, match=r"Unknown map 'sparsemx' for the place 'output'\. Did you mean 'sparsemax'"):
        names("sparsemx")


BAD: dict[str, tuple[Callable[..., object], str]] = {
    "negative": (
        lambda scores, dim: scores.tanh(),
        r"expected weights of 0 or more, as probabilities have, got -0\.\d+",
    ),
    "shape": (lambda scores, dim: scores.sum(dim), r"expected weights of the scores' shape \(3, 4, 5\), got \(3, 5\)"),
    "no tensor": (lambda scores, dim: scores.tolist(), "got list"),
    "NaN": (lambda scores, dim: scores.log(), "expected finite weights"),
    "random": (lambda scores, dim: torch.rand_like(scores), "the same weights for the same scores"),
    "mixes rows": (lambda scores, dim: scores.softmax(2), "other rows"),
    "mixes networks": (lambda scores, dim: scores.softmax(0), "other networks"),
    "fails": (lambda scores: scores, "TypeError"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_map_without_probabilities_is_named(name: str) -> None:
    function, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        check_map(Arm(name=name, map=function), 4)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"map {name!r}: ")
    assert str(caught.value).endswith("Mend it, or leave it out with --maps.")
    assert "\n" not in str(caught.value)


def test_maps_of_the_registry_are_taken_or_named() -> None:
    refused = {"log_softmax", "gumbel_softmax", "sinkhorn", "tanh", "gelu", "solu"}
    for name in refused:
        with pytest.raises(InputError, match=rf"map '{name}': expected .*\. Mend it, or leave it out with --maps\."):
            contest(Options(maps=(name,), table=WINE))
    taken = [name for name in maps.names() if name not in refused]
    arms = {arm.map for arm in contest(Options(maps=tuple(taken), table=WINE)).arms}
    assert arms == set(taken)


def test_the_contest_is_the_issue() -> None:
    quick, full = contest(Options()), contest(Options(preset="full"))
    assert set(quick.uses) == {"preset", "maps", "table"}
    assert [task.name for task in quick.tasks] == ["clean digits", "noisy digits"]
    assert len(full.tasks) == 6
    for chosen in (quick, full):
        assert chosen.place == chosen.name == "output"
        for task in chosen.tasks:
            assert isinstance(task, Classify)
            assert task.steps % task.evaluate_every == 0
            assert task.noise == (NOISE if "wrong" in task.label else 0.0)
            assert ("accuracy_lost" in {each.name for each in task.metrics}) == (task.noise > 0)
            json.dumps(dict(task.settings()))
    own = contest(Options(table=WINE))
    assert [task.name for task in own.tasks] == ["clean wine", "noisy wine"]


def test_a_small_study_of_a_table_from_end_to_end(tmp_path: Path) -> None:
    file = tmp_path / "bottles.csv"
    lines = [
        ",".join([*map(str, row), f"kind {label}"])
        for row, label in zip(WINE.features[:, :4], WINE.labels, strict=True)
    ]
    file.write_text("\n".join(["a,b,c,d,kind", *lines]) + "\n", encoding="utf-8")
    given: dict[str, Any] = {"maps": [DOUBLE, SPARSEMAX, doubled], "data": file, "target": "kind", "seeds": 4}
    study = Study("output", workers=1, **given)
    (chosen,) = study.contests
    short = tuple(replace(task, steps=10, evaluate_every=5, learning_rates=(0.01, 0.1)) for task in chosen.tasks)
    study.contests = [replace(chosen, tasks=short)]
    result = study.run()
    assert {row["arm"] for row in result.rows} == {"softmax", DOUBLE, SPARSEMAX, "doubled"}
    assert {verdict.place for verdict in result.verdicts} == {"output"}
    assert len(result.verdicts) == 7  # three of the double softmax, gradients, sparsity, two of the other map
    result.page(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Does softmax belong at the output?" in text
    assert "classify bottles.csv, 20 % of the training labels wrong" in text

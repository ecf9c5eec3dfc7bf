"""The battery of every estimator: what it returns, transforms, dtypes, extremes, wrong arguments; moving records."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace import maps
from softplace.errors import InputError
from softplace.latent import (
    ESTIMATORS,
    Estimate,
    MovingAverage,
    SignalMoments,
    get,
    gumbel_softmax,
    gumbel_softmax_log_prob,
    nvil,
    rao_blackwell_gumbel,
    rebar,
    reinforce,
    relax,
)
from softplace.latent.estimators import _parts, coupled
from softplace.latent.estimators._parts import FLOOR
from tests.latent.problems import exact_gradient, make_loss, normal
from tests.study.test_fleet import needs_compiler

INF, NAN = math.inf, math.nan
every_estimator = pytest.mark.parametrize("name", ESTIMATORS)
TEMPERED = ("rebar", "gumbel-softmax", "straight-through-gumbel", "gapped-straight-through", "rao-blackwell-gumbel")
SOFTMAX = [name for name, each in ESTIMATORS.items() if each.map == "softmax"]


def loss(sample: Tensor) -> Tensor:
    """Of any shape and dtype."""
    size = sample.shape[-2] * sample.shape[-1]
    cost = torch.linspace(-1, 1, max(size, 1), dtype=sample.dtype)[:size].view(sample.shape[-2:])
    return ((sample * cost).sum((-2, -1)) - 0.3).square()


def run(name: str, logits: Tensor, function: Callable[[Tensor], Tensor] = loss, **options: Any) -> Estimate:
    return ESTIMATORS[name].function(logits, function, **{"samples": 3, **options})


def slope_of(name: str, logits: Tensor, **options: Any) -> tuple[Estimate, Tensor]:
    leaf = logits.clone().requires_grad_()
    found = run(name, leaf, **options)
    return found, torch.autograd.grad(found.surrogate.sum(), leaf, materialize_grads=True)[0]


# What it returns


@every_estimator
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_shapes_value_and_the_gradient_of_the_loss(name: str, batch: tuple[int, ...]) -> None:
    logits = normal(*batch, 2, 3, label="shapes").requires_grad_()
    cost = normal(2, 3, label="cost").requires_grad_()
    calls = 0

    def linear(sample: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return (sample * cost).sum((-2, -1))

    found = run(name, logits, linear, generator=torch.Generator().manual_seed(0))
    assert calls == (2 if name == "arsm" else 1)
    assert found.surrogate.shape == batch
    assert found.losses.shape == (len(found.samples), *batch)
    assert found.samples.shape[1:] == (*batch, 2, 3)
    assert not found.losses.requires_grad
    assert not found.samples.requires_grad
    torch.testing.assert_close(found.losses, linear(found.samples).detach())
    by_logits, by_cost = torch.autograd.grad(found.surrogate.sum(), [logits, cost])
    assert by_logits.isfinite().all()
    if get(name).needs_enumeration:
        weights = maps.get(get(name).map)(logits, -1).detach()
        torch.testing.assert_close(found.surrogate, (weights * cost).sum((-2, -1)))
        torch.testing.assert_close(by_cost, weights.view(-1, 2, 3).sum(0))
        return
    assert len(found.samples) == 3 * (2 if name == "disarm" else 1)
    torch.testing.assert_close(found.surrogate.detach(), found.losses.mean(0))
    torch.testing.assert_close(by_cost, found.samples.mean(0).view(-1, 2, 3).sum(0))
    again = run(name, logits, linear, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.surrogate, found.surrogate)
    if name != "gumbel-softmax":
        assert ((found.samples == 0) | (found.samples == 1)).all()
    torch.testing.assert_close(found.samples.sum(-1), torch.ones(found.samples.shape[:-1]))


@every_estimator
def test_without_gradient_it_gives_values(name: str) -> None:
    with torch.no_grad():
        found = run(name, normal(4, 2, 3, label="no gradient").requires_grad_())
    assert not found.surrogate.requires_grad
    assert found.surrogate.isfinite().all()


@every_estimator
def test_a_loss_that_depends_on_nothing_has_no_gradient_on_average(name: str) -> None:
    logits = normal(2000, 2, 3, label="constant")
    slope = slope_of(name, logits, function=lambda sample: sample.new_ones(sample.shape[:-2]))[1]
    assert (slope.mean(0).abs() <= 4.5 * slope.std(0) / math.sqrt(2000) + 1e-6).all()


# Transforms


@every_estimator
def test_under_vmap_each_member_has_noise_of_its_own(name: str) -> None:
    logits = normal(2, 3, label="vmap")

    def slope(each: Tensor) -> Tensor:
        return torch.func.grad(lambda leaf: run(name, leaf).surrogate)(each)

    found = torch.vmap(slope, randomness="different")(logits.expand(5, 2, 3).contiguous())
    assert found.shape == (5, 2, 3)
    assert found.isfinite().all()
    if not get(name).needs_enumeration:
        assert len(found.flatten(1).unique(dim=0)) > 1

    def member(cost: Tensor) -> Tensor:  # the same logits, another loss
        return run(name, logits, lambda sample: (sample * cost).sum((-2, -1))).surrogate

    found = torch.vmap(member, randomness="different")(torch.ones(5, 2, 3))
    torch.testing.assert_close(found, torch.full((5,), 2.0))


@pytest.mark.parametrize("name", SOFTMAX)
def test_under_vmap_the_mean_is_that_of_plain_autograd(name: str) -> None:
    logits, table = normal(2, 3, label="logits"), make_loss("table", 2, 3)

    def slope(each: Tensor) -> Tensor:
        return torch.func.grad(lambda leaf: run(name, leaf, table).surrogate)(each)

    torch.manual_seed(0)
    found = torch.vmap(slope, randomness="different")(logits.expand(20_000, 2, 3).contiguous()).double()
    plain = slope_of(name, logits.expand(20_000, 2, 3), function=table)[1].double()
    error = ((found.var(0) + plain.var(0)) / 20_000).sqrt()
    assert ((found.mean(0) - plain.mean(0)).abs() <= 4.5 * error + 1e-6).all()
    if get(name).unbiased:
        assert ((found.mean(0) - exact_gradient(logits, table)).abs() <= 4.5 * error + 1e-6).all()


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@needs_compiler
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@every_estimator
def test_compiled_in_one_graph_it_has_the_same_mean(name: str, backend: str) -> None:
    logits, table = normal(2, 3, label="logits").expand(20_000, 2, 3), make_loss("table", 2, 3)
    compiled = torch.compile(lambda each: run(name, each, table).surrogate, fullgraph=True, backend=backend)
    leaf = logits.clone().requires_grad_()
    torch.manual_seed(0)
    (found,) = torch.autograd.grad(compiled(leaf).sum(), leaf)
    plain = slope_of(name, logits, function=table)[1].double()
    error = ((found.double().var(0) + plain.var(0)) / 20_000).sqrt()
    assert ((found.double().mean(0) - plain.mean(0)).abs() <= 4.5 * error + 1e-6).all()


# Dtypes and extremes


@every_estimator
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_every_dtype_keeps_to_itself(name: str, dtype: torch.dtype) -> None:
    found, slope = slope_of(name, normal(50, 2, 3, label="dtypes").to(dtype))
    assert {found.surrogate.dtype, found.losses.dtype, found.samples.dtype, slope.dtype} == {dtype}
    assert found.surrogate.isfinite().all()
    assert slope.isfinite().all()
    assert (slope != 0).any()


@pytest.mark.parametrize("name", SOFTMAX)
def test_in_bfloat16_it_has_the_mean_of_float32(name: str) -> None:
    logits = normal(2, 3, label="dtypes").bfloat16().expand(20_000, 2, 3)
    found = slope_of(name, logits)[1].double()
    wide = slope_of(name, logits.float())[1].double()
    error = ((found.var(0) + wide.var(0)) / 20_000).sqrt()
    rounding = 0.05 * wide.abs().mean()  # losses are in bfloat16
    assert ((found.mean(0) - wide.mean(0)).abs() <= 4.5 * error + rounding).all()


@every_estimator
@pytest.mark.parametrize("shape", [(3, 0, 4), (3, 2, 1), (0, 2, 3)], ids=str)
def test_without_a_choice_the_gradient_is_zero(name: str, shape: tuple[int, ...]) -> None:
    found, slope = slope_of(name, normal(*shape, label="empty"))
    assert found.surrogate.shape == shape[:1]
    assert found.surrogate.isfinite().all()
    assert slope.shape == shape
    assert (slope == 0).all()


HARD = {
    "far": [[1e4, 0.0, -1e4], [0.0, 0.0, 0.0]],
    "very far": [[3e38, 0.0, -3e38], [1e30, 1e30, 0.0]],
    "no probability": [[0.0, -INF, 1.0], [1.0, 0.0, -INF]],
    "one is left": [[-INF, -INF, 1.0], [-INF, 0.0, -INF]],
    "sure": [[0.0, INF, 1.0], [1.0, 0.0, -1.0]],
}


@every_estimator
@pytest.mark.parametrize("case", HARD)
def test_extreme_logits(name: str, case: str) -> None:
    logits = torch.tensor(HARD[case]).expand(500, 2, 3)
    for options in ({}, {"temperature": 1e-3}) if name in TEMPERED else ({},):
        found, slope = slope_of(name, logits, **options)
        assert found.surrogate.isfinite().all()
        assert slope.isfinite().all()
        assert (slope[logits.isinf()] == 0).all()
        if not get(name).needs_enumeration:
            assert (found.samples[logits.expand_as(found.samples) == -INF] == 0).all()
            torch.testing.assert_close(found.samples.sum(-1), torch.ones(found.samples.shape[:-1]))


@every_estimator
def test_no_class_at_all_and_no_number(name: str) -> None:
    found, slope = slope_of(name, torch.full((1, 2, 3), -INF))
    assert (slope == 0).all()
    if not get(name).needs_enumeration:
        assert (found.samples == 0).all()
    logits = normal(2, 2, 3, label="NaN")
    logits[0, 1, 2] = NAN
    found, slope = slope_of(name, logits)
    assert found.surrogate[0].isnan()
    assert found.surrogate[1].isfinite()
    assert slope[0].isnan().any()
    assert slope[1].isfinite().all()


@pytest.mark.parametrize("drawn", [0.0, 1.0 - 2.0**-24])
def test_the_ends_of_the_random_numbers_draw_no_impossible_class(drawn: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def constantly(samples: int, like: Tensor, generator: object) -> Tensor:
        return torch.full((samples, *like.shape), drawn, dtype=like.dtype)

    for module in (_parts, coupled):
        monkeypatch.setattr(module, "uniform", constantly)
    logits = normal(5000, 2, 9, label="ends")
    logits[..., [0, 3, 8]] = -INF
    for name in ESTIMATORS:
        if not get(name).needs_enumeration and name != "gumbel-softmax" and name != "straight-through-gumbel":
            found, slope = slope_of(name, logits)
            assert found.samples[..., [0, 3, 8]].sum() == 0, name
            assert (found.samples.sum(-1) == 1).all(), name
            assert slope.isfinite().all(), name


def test_controls_see_no_infinite_score() -> None:
    def control(scores: Tensor) -> Tensor:
        assert (scores >= FLOOR).all()
        return (0.0 * scores).sum((-2, -1))

    assert slope_of("relax", torch.tensor([[0.0, -INF, 1.0]]), control=control)[1].isfinite().all()


# Moving records


def test_a_moving_average_is_a_mean_first_and_moves_then() -> None:
    average = MovingAverage(decay=0.75)
    for value in (1.0, 2.0, 3.0, 4.0):
        average = average.update(torch.full((2, 3), value))
    assert float(average.value) == pytest.approx(2.5)
    assert float(average.update(torch.tensor(6.5)).value) == pytest.approx(3.5)
    assert average.updates == 4


def test_moments_of_the_signal_move() -> None:
    found = SignalMoments(decay=0.5).update(torch.tensor([1.0, 3.0]))
    assert (float(found.mean), float(found.variance)) == (1.0, 1.0)
    found = SignalMoments(decay=0.0).update(torch.tensor([[1.0, 5.0]]))
    assert (float(found.mean), float(found.variance)) == (3.0, 4.0)
    for record in (MovingAverage, SignalMoments):
        with pytest.raises(InputError, match=r"'decay' of .* must lie in \[0, 1\)"):
            record(decay=1.0)


def test_a_constant_loss_with_its_average_as_baseline_has_no_variance() -> None:
    found, slope = slope_of("reinforce", normal(4, 2, 3, label="constant"), function=constant, baseline=5.0)
    assert (found.losses == 5.0).all()
    assert (slope == 0).all()


def constant(sample: Tensor) -> Tensor:
    return sample.new_full(sample.shape[:-2], 5.0)


def test_nvil_normalises_its_signal_and_trains_the_baseline() -> None:
    logits, baseline = normal(4, 2, 3, label="nvil").requires_grad_(), normal(4, label="baseline").requires_grad_()
    source = torch.Generator().manual_seed
    moments = SignalMoments(mean=0.25, variance=16.0)
    found = nvil(logits, loss, samples=5, generator=source(0), baseline=baseline, moments=moments)
    torch.testing.assert_close(found.surrogate, found.losses.mean(0))
    by_logits, by_baseline = torch.autograd.grad(found.surrogate.sum(), [logits, baseline])
    plain = reinforce(logits, loss, samples=5, generator=source(0), baseline=baseline + 0.25)
    torch.testing.assert_close(by_logits, torch.autograd.grad(plain.surrogate.sum(), logits)[0] / 4.0)
    error = 0.5 * (found.losses - 0.25 - baseline).square().mean(0).sum()
    torch.testing.assert_close(by_baseline, torch.autograd.grad(error, baseline)[0] / 4.0)
    small = nvil(logits, loss, samples=5, generator=source(0), moments=SignalMoments(variance=0.01))
    plain = reinforce(logits, loss, samples=5, generator=source(0))
    both = [torch.autograd.grad(each.surrogate.sum(), logits)[0] for each in (small, plain)]
    assert torch.equal(*both)


# Wrong arguments


@every_estimator
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"logits": torch.zeros(3)}, r"'logits' of \w+ must be \(\*batch, categoricals, classes\).* Got shape \(3,\)"),
        ({"logits": torch.zeros(2, 0)}, r"'logits' of \w+ .* with one class or more. Got shape \(2, 0\). Add"),
        ({"logits": torch.zeros(2, 3).long()}, "'logits' of .* must be a floating-point tensor. Got a tensor of torch"),
        ({"logits": [[0.0, 1.0]]}, "'logits' of .* must be a floating-point tensor. Got list. Use"),
        ({"loss": 3.0}, "'loss' of .* must be a function .* Got float"),
        ({"loss": lambda s: s.sum()}, r"'loss' of .* must return one number per sample, .* Got .* of shape \(\)"),
        ({"loss": lambda s: s.sum(-1)}, r"'loss' of .* must return one number per sample, .* Treat leading axes"),
        ({"loss": lambda s: 1.0}, "'loss' of .* Got float"),
        ({"samples": 0}, "'samples' of .* must be an integer of at least 1. Got 0. Use"),
        ({"samples": 1.5}, "'samples' of .* must be an integer of at least 1. Got 1.5"),
        ({"generator": 7}, "'generator' of .* must be a torch.Generator on the logits' device, cpu. Got int"),
    ],
)
def test_wrong_arguments(name: str, wrong: dict[str, Any], says: str) -> None:
    arguments = {"logits": torch.zeros(4, 2, 3), "loss": loss, "samples": 2, **wrong}
    with pytest.raises(InputError, match=says):
        ESTIMATORS[name].function(arguments.pop("logits"), arguments.pop("loss"), **arguments)


@pytest.mark.parametrize("name", TEMPERED)
@pytest.mark.parametrize("temperature", [0.0, -1.0, INF, NAN, "cold"])
def test_wrong_temperatures(name: str, temperature: Any) -> None:
    with pytest.raises(InputError, match=r"'temperature' of \w+ must be .* Got .* Use 1.0"):
        run(name, torch.zeros(2, 3), temperature=temperature)


def test_other_wrong_options() -> None:
    logits = torch.zeros(4, 2, 3)
    for function, options, says in (
        (reinforce, {"baseline": "leave-one-out"}, "'samples' of reinforce must be at least 2 .* Got 1. Use baseline"),
        (
            reinforce,
            {"baseline": "leave-one"},
            "Unknown baseline 'leave-one' of reinforce. Did you mean 'leave-one-out",
        ),
        (reinforce, {"baseline": torch.zeros(3)}, r"'baseline' of reinforce .* the batch, \(4,\). Got shape \(3,\)"),
        (reinforce, {"baseline": []}, "'baseline' of reinforce must be a number or a tensor. Got list"),
        (nvil, {"baseline": torch.zeros(4, 1)}, r"'baseline' of nvil .* Got shape \(4, 1\)"),
        (gumbel_softmax, {"hard": 1}, "'hard' of gumbel_softmax must be True or False. Got int"),
        (rebar, {"eta": "much"}, "'eta' of rebar must be a number or a tensor. Got str"),
        (rebar, {"temperature": torch.tensor(-1.0)}, "'temperature' of rebar must be positive and finite. Got -1.0"),
        (relax, {"control": 3}, "'control' of relax must be a function of scores"),
        (relax, {"control": lambda z: z}, r"'control' of relax must return one number per sample, \(1, 4\). Got shape"),
        (rao_blackwell_gumbel, {"inner": 0}, "'inner' of rao_blackwell_gumbel must be an integer of at least 1. Got 0"),
    ):
        with pytest.raises(InputError, match=says):
            function(logits, loss, **options)
    with pytest.raises(InputError, match="'sample' and 'logits' must have the same number of classes"):
        gumbel_softmax_log_prob(torch.ones(3), torch.ones(2), 1.0)


def test_unknown_names() -> None:
    with pytest.raises(InputError, match=r"Unknown estimator 'disarms'. Did you mean 'disarm'\? Known: marginalise"):
        get("disarms")
    assert all(name == each.name and each.reference and each.evaluations for name, each in ESTIMATORS.items())
    assert replace(get("rebar"), name="mine").name == "mine"


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if not ESTIMATORS[name].needs_enumeration])
def test_random_numbers_may_be_ones_own(name: str) -> None:
    """A function of a shape: the same numbers, the same estimate; and numbers of another shape are refused."""
    known = get(name)
    logits = torch.randn(3, 2, 4, dtype=torch.float64)
    cost = torch.randn(2, 4, dtype=torch.float64)
    asked: list[tuple[int, ...]] = []

    def run() -> Estimate:
        draw = torch.Generator().manual_seed(7)

        def numbers(shape: tuple[int, ...]) -> torch.Tensor:
            asked.append(shape)
            return torch.rand(shape, generator=draw, dtype=torch.float64)

        return known.function(
            logits, lambda s: (s * cost).sum((-2, -1)).square(), samples=known.least_samples, generator=numbers
        )

    one, other = run(), run()
    assert asked
    assert torch.equal(one.samples, other.samples)
    assert torch.equal(one.losses, other.losses)
    with pytest.raises(InputError, match="'generator' must give the shape that it is asked for"):
        known.function(
            logits,
            lambda s: (s * cost).sum((-2, -1)),
            samples=known.least_samples,
            generator=lambda shape: torch.rand(1),
        )

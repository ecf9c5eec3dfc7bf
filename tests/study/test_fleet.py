"""A member of a fleet is the same network trained alone in plain PyTorch; checkpoints and retirement change nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from softplace import maps
from softplace.hidden import initialise
from softplace.study.contest import Arm, Measurement, Members, Task, generator, looped
from softplace.study.contests.hidden import BATCH, Classifiers, Classify, FitFunctions, Memorise, Networks
from softplace.study.contests.hidden_arms import ARMS
from softplace.study.data import load, split
from softplace.study.fleet import Fleet, Outcome, compiler_missing
from softplace.study.optimizer import SGD, Adam, Optimizer


def needs_compiler(test: Callable[..., None]) -> Callable[..., None]:
    """Skip where nothing can be compiled; PyTorch's compiler uses parts of PyTorch that warn of their end."""
    skip = pytest.mark.skipif(compiler_missing("cpu") is not None, reason="no C++ compiler")
    return pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")(skip(test))


WIDTH = 16
STEPS = 60
SEEDS = (3, 5, 3)
RATES = (0.001, 0.01, 0.003)
OPTIMIZERS: dict[str, tuple[Optimizer, Callable[..., torch.optim.Optimizer]]] = {
    "adam": (Adam(), torch.optim.Adam),
    "adamw": (Adam(decoupled=True, weight_decay=0.1), lambda p, lr: torch.optim.AdamW(p, lr=lr, weight_decay=0.1)),
    "momentum": (SGD(momentum=0.9), lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)),
    "adam with decay": (Adam(weight_decay=0.1), lambda p, lr: torch.optim.Adam(p, lr=lr, weight_decay=0.1)),
    "sgd with decay": (SGD(weight_decay=0.1), lambda p, lr: torch.optim.SGD(p, lr=lr, weight_decay=0.1)),
}


class Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, values: Tensor) -> Tensor:
        return self.function(values)


PLAIN: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "softmax": lambda: nn.Softmax(-1),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "solu": lambda: Apply(lambda values: values * torch.softmax(values, -1)),
    "sparsemax": lambda: Apply(lambda values: maps.sparsemax(values, -1)),
}


def classify(optimizer: Optimizer | None = None, steps: int = STEPS) -> Classify:
    return Classify(
        name="t",
        label="t",
        table=load("digits"),
        steps=steps,
        evaluate_every=20,
        depth=2,
        width=WIDTH,
        optimizer=optimizer or Adam(),
    )


class InDouble(Classify):
    """The same members in float64, where 60 steps leave no room for rounding to grow."""

    def members(self, arm: Arm, seeds: Sequence[int], device: torch.device) -> Members:
        members = super().members(arm, seeds, device)
        assert isinstance(members, Classifiers)
        members.parameters = {name: value.double() for name, value in members.parameters.items()}
        members.buffers = {name: value.double() for name, value in members.buffers.items()}
        for rows in (members.train, members.validation, members.test):
            rows.features = rows.features.double()
        return members


def in_double(task: Classify) -> InDouble:
    return InDouble(**{name: getattr(task, name) for name in task.__dataclass_fields__})


def plain_network(arm: Arm, seed: int) -> nn.Sequential:
    """The arm's network in the modules of PyTorch, with the draw that the fleet starts from."""
    batch_norm = bool(arm.options.get("batch_norm"))
    parameters, _ = initialise((64, WIDTH, WIDTH, 10), [seed], batch_norm=batch_norm)
    layers: list[nn.Module] = []
    for layer, (fan_in, fan_out) in enumerate(((64, WIDTH), (WIDTH, WIDTH), (WIDTH, 10))):
        hidden = layer < 2
        linear = nn.Linear(fan_in, fan_out, bias=not (hidden and batch_norm))
        linear.weight.data = parameters[f"weight{layer}"][0].clone()
        bias = parameters[f"bias{layer}"][0, :, 0].clone()
        layers.append(linear)
        if hidden and batch_norm:
            normalise = nn.BatchNorm1d(fan_out)
            normalise.bias.data = bias
            layers.append(normalise)
        else:
            linear.bias.data = bias
        if hidden:
            layers.append(PLAIN[str(arm.map)]())
            if arm.options.get("scale") == "width":
                layers.append(Apply(lambda values: values * WIDTH))
            if arm.options.get("layer_norm"):
                layers.append(nn.LayerNorm(fan_out, elementwise_affine=False))
    return nn.Sequential(*layers)


def train_alone(
    arm: Arm, seed: int, rate: float, make: Callable[..., torch.optim.Optimizer], dtype: torch.dtype
) -> tuple[list[float], Tensor]:
    """Mean training loss of every 20 steps, and the logits of the validation rows after 60."""
    network = plain_network(arm, seed).to(dtype)
    optimizer = make(network.parameters(), lr=rate)
    parts = split(load("digits"), seed)
    features, labels = torch.from_numpy(parts.train.features).to(dtype), torch.from_numpy(parts.train.labels)
    per_epoch = len(labels) // BATCH
    losses = []
    for step in range(STEPS):
        epoch, place = divmod(step, per_epoch)
        order = torch.randperm(len(labels), generator=generator(seed, "order", epoch))
        rows = order[place * BATCH : (place + 1) * BATCH]
        loss = nn.functional.cross_entropy(network(features[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    network.eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(parts.validation.features).to(dtype))
    return [sum(losses[k : k + 20]) / 20 for k in (0, 20, 40)], logits


def largest_difference(
    arm: Arm,
    name: str,
    rates: tuple[float, ...] = RATES,
    dtype: torch.dtype = torch.float64,
    compiled: bool = False,
) -> float:
    """Between fleet and plain PyTorch, over losses and final validation NLL, in units of a loss."""
    ours, theirs = OPTIMIZERS[name]
    task = replace(classify(ours), compiled=compiled)
    fleet = Fleet(in_double(task) if dtype == torch.float64 else task, arm, "tune", SEEDS, rates)
    fleet.train()
    worst = 0.0
    for outcome, seed, rate in zip(sorted(fleet.outcomes, key=lambda each: each.index), SEEDS, RATES, strict=True):
        losses, logits = train_alone(arm, seed, rate, theirs, dtype)
        labels = torch.from_numpy(split(load("digits"), seed).validation.labels)
        nll = nn.functional.cross_entropy(logits, labels).item()
        pairs = [*zip(outcome.curve["training_loss"], losses, strict=True), (outcome.curve["validation_nll"][-1], nll)]
        worst = max(worst, *(abs(mine - plain) for mine, plain in pairs))
    return worst


@pytest.mark.parametrize("name", ["adam", "adamw", "momentum"])
@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_a_member_equals_the_same_network_trained_alone(arm: Arm, name: str) -> None:
    assert largest_difference(arm, name) < 1e-9


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_in_float32_it_equals_it_within_rounding(arm: Arm) -> None:
    # Adam is left out: it divides a gradient that is 0 but for rounding by its own size.
    assert largest_difference(arm, "momentum", dtype=torch.float32) < 1e-5


@needs_compiler
@pytest.mark.parametrize(
    ("arm", "name"),
    [(ARMS[1], "adam"), (ARMS[13], "adamw"), (ARMS[10], "momentum"), (ARMS[6], "adam with decay")],
    ids=lambda each: each if isinstance(each, str) else each.name,
)
def test_a_compiled_member_equals_it_too(arm: Arm, name: str) -> None:
    assert largest_difference(arm, name, compiled=True) < 1e-9


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "adamw", "momentum"])
@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_every_compiled_member_equals_it(arm: Arm, name: str) -> None:
    assert largest_difference(arm, name, compiled=True) < 1e-9


def test_without_a_compiler_the_same_training_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(device_type: str) -> str:
        return "no compiler"

    monkeypatch.setattr("softplace.study.fleet.compiler_missing", none)
    plain = Fleet(classify(), ARMS[1], "tune", SEEDS, RATES)
    plain.train()
    fallen = Fleet(replace(classify(), compiled=True), ARMS[1], "tune", SEEDS, RATES)
    fallen.train()
    assert repr(untimed(fallen.outcomes)) == repr(untimed(plain.outcomes))


def test_a_missing_compiler_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("/nowhere/g++",))
    assert "/nowhere/g++" in str(compiler_missing.__wrapped__("cpu"))


@pytest.mark.parametrize("name", ["adam with decay", "sgd with decay"])
def test_weight_decay_equals_that_of_pytorch(name: str) -> None:
    assert largest_difference(ARMS[6], name) < 1e-9


def test_the_comparison_notices_a_learning_rate_that_is_one_per_cent_off() -> None:
    assert largest_difference(ARMS[6], "adam", tuple(1.01 * rate for rate in RATES)) > 1e-4


def tasks() -> list[Task]:
    table = load("wine")
    return [
        replace(classify(), table=table),
        Memorise(name="m", label="m", table=table, steps=STEPS, evaluate_every=20, width=WIDTH),
        FitFunctions(name="f", label="f", steps=STEPS, evaluate_every=20, width=WIDTH),
    ]


def untimed(outcomes: list[Outcome]) -> list[Outcome]:
    return [replace(outcome, seconds=0.0) for outcome in sorted(outcomes, key=lambda each: each.index)]


@pytest.mark.parametrize("task", tasks(), ids=lambda task: task.name)
@pytest.mark.parametrize("arm", [ARMS[1], ARMS[-1]], ids=lambda arm: arm.name)
def test_a_fleet_goes_on_from_its_state_exactly(task: Task, arm: Arm) -> None:
    whole = Fleet(task, arm, "judge", SEEDS, RATES)
    whole.train()
    state = None
    slices = 0
    while True:
        fleet = Fleet(task, arm, "judge", SEEDS, RATES)
        if state is not None:
            fleet.restore(state)
        fleet.train(seconds=0.0)
        slices += 1
        if fleet.finished:
            break
        state = fleet.state()
    assert slices > 3
    assert repr(untimed(fleet.outcomes)) == repr(untimed(whole.outcomes))


def test_a_member_that_diverges_retires_and_disturbs_nobody() -> None:
    task = replace(classify(SGD()), steps=100)
    relu = next(arm for arm in ARMS if arm.name == "ReLU")
    calm = Fleet(task, relu, "tune", (1, 2, 3), (0.1, 0.1, 0.1))
    calm.train()
    wild = Fleet(task, relu, "tune", (1, 2, 3), (0.1, 1e30, 0.1))
    wild.train()
    ends = untimed(wild.outcomes)
    assert [outcome.status for outcome in ends] == ["done", "diverged", "done"]
    assert ends[1].steps == 20
    assert ends[1].measurement.metrics == {}
    for index in (0, 2):
        mine, other = ends[index].curve["validation_nll"], untimed(calm.outcomes)[index].curve["validation_nll"]
        assert mine == pytest.approx(other, abs=2e-5)


def test_shuffled_members_get_the_same_results() -> None:
    fleet = Fleet(classify(), ARMS[7], "tune", SEEDS, RATES)
    fleet.train()
    shuffled = Fleet(classify(), ARMS[7], "tune", SEEDS[::-1], RATES[::-1])
    shuffled.train()
    for mine, other in zip(untimed(fleet.outcomes), untimed(shuffled.outcomes)[::-1], strict=True):
        assert mine.curve["training_loss"] == pytest.approx(other.curve["training_loss"], abs=1e-5)


class Early(Networks):
    """Members that learn one number each and stop when they know it to 0.1; an operation that cannot be batched."""

    def __init__(self, seeds: tuple[int, ...]) -> None:
        self.seeds = torch.tensor(seeds)
        self.parameters = {"guess": torch.zeros(len(seeds), 1)}
        self.buffers = {}

    def batch(self, step: int) -> tuple[Tensor, ...]:
        return (self.seeds,)

    def losses(self, *batch: Tensor) -> Tensor:
        def loss(parameters: dict[str, Tensor], seed: Tensor) -> Tensor:
            return (parameters["guess"][0] - float(seed)) ** 2  # float() of a tensor: no vmap

        return looped(loss, self.parameters, *batch)

    def evaluate(self) -> dict[str, Tensor]:
        return {"distance": (self.parameters["guess"][:, 0] - self.seeds).abs()}

    def reached(self, curves):  # type: ignore[no-untyped-def]
        return [curve["distance"][-1] < 0.1 for curve in curves]

    def measure(self, role, curves):  # type: ignore[no-untyped-def]
        return [Measurement(metrics={"distance": curve["distance"][-1]}) for curve in curves]


class EarlyTask(Classify):
    def members(self, arm, seeds, device):  # type: ignore[no-untyped-def]
        return Early(tuple(seeds))


def test_members_that_reach_their_target_stop_early() -> None:
    base = classify(SGD(), steps=400)
    task = EarlyTask(**{field: getattr(base, field) for field in base.__dataclass_fields__})
    fleet = Fleet(task, ARMS[0], "tune", (1, 2, 3), (0.05, 1e-9, 0.01))
    fleet.train()
    ends = untimed(fleet.outcomes)
    assert [outcome.status for outcome in ends] == ["reached", "done", "reached"]
    # |guess - seed| = seed (1 - 2 rate)^steps: 0.9^20 = 0.12 and 0.9^40 = .01; 3 * 0.98^160 = .12, 3 * 0.98^180 = 0.08.
    assert [outcome.steps for outcome in ends] == [40, 400, 180]


def test_looped_equals_vmap() -> None:
    values = {"a": torch.randn(5, 3, generator=torch.Generator().manual_seed(0))}
    factors = torch.arange(5.0)

    def function(each: dict[str, Tensor], factor: Tensor) -> Tensor:
        return each["a"].cumsum(0) * factor

    assert torch.equal(looped(function, values, factors), torch.vmap(function)(values, factors))

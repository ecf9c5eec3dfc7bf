"""Training many small networks: the fleet against loops over PyTorch networks, skorch and scikit-learn.

Digits, batches of 128, Adam, ReLU, 64-W-W-10. Everyone uses all cores: one single-threaded process per core, but for
the default loop, which uses PyTorch's own threads. Everything runs in one call, and the accuracy stands beside the
speed. The floor is the time of the matrix products alone, of as many members at a time as the fleet takes. The compiled
fleet is timed with its steps in the compiler's cache; the first compilation is printed on a line of its own.
"""

import argparse
import math
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from loky import ProcessPoolExecutor
from torch import nn
from torch.nn import functional

from softplace.hidden import Activation, forward, initialise
from softplace.maps import relu
from softplace.study.contests._classify import fleet_size
from softplace.study.contests.hidden import BATCH, Classify
from softplace.study.contests.hidden_arms import ARMS
from softplace.study.data import load, split
from softplace.study.execute import cores, keep_memory
from softplace.study.fleet import Fleet

RATE = 0.003
Result = tuple[float, list[float]]
"""Seconds, and the test accuracy of each network."""


def _single() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_memory()


def members(width: int) -> int:
    """How many networks the fleet trains at once."""
    return fleet_size((64, width, width, 10), BATCH)


def fleet(width: int, steps: int, seeds: Sequence[int], *, compiled: bool = False) -> Result:
    """Ours, in fleets that fit the cache."""
    arm = next(arm for arm in ARMS if arm.name == "ReLU")
    start = time.perf_counter()
    task = Classify(
        name="b", label="b", table=load("digits"), steps=steps, evaluate_every=steps, width=width, depth=2,
        compiled=compiled,
    )  # fmt: skip
    accuracies: list[float] = []
    fleets = math.ceil(len(seeds) / members(width))
    for part in range(fleets):
        own = seeds[part * len(seeds) // fleets : (part + 1) * len(seeds) // fleets]
        whole = Fleet(task, arm, "tune", own, [RATE] * len(own))
        whole.train()
        accuracies += [outcome.measurement.metrics["validation_accuracy"] for outcome in whole.outcomes]
    return time.perf_counter() - start, accuracies


def compiled_fleet(width: int, steps: int, seeds: Sequence[int]) -> Result:
    """Ours, compiled."""
    return fleet(width, steps, seeds, compiled=True)


def _network(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def _loop(width: int, steps: int, seeds: Sequence[int], *, fused: bool, lightning: bool = False) -> Result:
    start = time.perf_counter()
    accuracies = []
    for seed in seeds:
        parts = split(load("digits"), seed)
        features, labels = torch.from_numpy(parts.train.features), torch.from_numpy(parts.train.labels)
        torch.manual_seed(seed)
        network = _network(width)
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE, fused=fused)
        if lightning:
            _train_with_loader(network, optimizer, features, labels, steps)
        else:
            order, place = torch.randperm(len(labels)), 0
            for _ in range(steps):
                if place + BATCH > len(labels):
                    order, place = torch.randperm(len(labels)), 0
                rows = order[place : place + BATCH]
                place += BATCH
                loss = functional.cross_entropy(network(features[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            said = network(torch.from_numpy(parts.validation.features)).argmax(1)
        accuracies.append(float((said == torch.from_numpy(parts.validation.labels)).float().mean()))
    return time.perf_counter() - start, accuracies


def _train_with_loader(
    network: nn.Module, optimizer: torch.optim.Optimizer, features: torch.Tensor, labels: torch.Tensor, steps: int
) -> None:
    """What a training framework does per step: a loader, hooks, a metric that is logged."""
    rows = torch.utils.data.TensorDataset(features, labels)
    loader = torch.utils.data.DataLoader(rows, batch_size=BATCH, shuffle=True, drop_last=True)
    logged: list[dict[str, float]] = []
    hooks: list[Callable[[], None]] = [lambda: None] * 8
    done = 0
    while done < steps:
        for inputs, targets in loader:
            for hook in hooks:
                hook()
            logits = network(inputs)
            loss = functional.cross_entropy(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            accuracy = (logits.argmax(1) == targets).float().mean()
            logged.append({"loss": loss.item(), "accuracy": accuracy.item()})
            done += 1
            if done == steps:
                break


def plain(width: int, steps: int, seeds: Sequence[int]) -> Result:
    """The best plain loop: eager, fused Adam."""
    return _loop(width, steps, seeds, fused=True)


def default(width: int, steps: int, seeds: Sequence[int]) -> Result:
    """The loop that one writes first: Adam as it comes."""
    return _loop(width, steps, seeds, fused=False)


def lightning_style(width: int, steps: int, seeds: Sequence[int]) -> Result:
    """A loop with a loader, hooks and logging."""
    return _loop(width, steps, seeds, fused=False, lightning=True)


def skorch(width: int, steps: int, seeds: Sequence[int]) -> Result:
    """skorch's NeuralNetClassifier, for as many steps in whole epochs."""
    from skorch import NeuralNetClassifier

    start = time.perf_counter()
    accuracies = []
    for seed in seeds:
        parts = split(load("digits"), seed)
        torch.manual_seed(seed)
        epochs = round(steps / (len(parts.train.labels) / BATCH))
        network = NeuralNetClassifier(
            _network(width),
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=RATE,
            max_epochs=epochs,
            batch_size=BATCH,
            train_split=None,
            verbose=0,
            iterator_train__shuffle=True,
        )
        network.fit(parts.train.features, parts.train.labels)
        accuracies.append(float(np.mean(network.predict(parts.validation.features) == parts.validation.labels)))
    return time.perf_counter() - start, accuracies


def scikit_learn(width: int, steps: int, seeds: Sequence[int]) -> Result:
    """scikit-learn's MLPClassifier, for as many steps in whole epochs."""
    from sklearn.neural_network import MLPClassifier

    start = time.perf_counter()
    accuracies = []
    for seed in seeds:
        parts = split(load("digits"), seed)
        epochs = round(steps / (len(parts.train.labels) / BATCH))
        network = MLPClassifier(
            (width, width), batch_size=BATCH, learning_rate_init=RATE, max_iter=epochs, random_state=seed, alpha=0.0,
            tol=0.0, n_iter_no_change=epochs,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network.fit(parts.train.features, parts.train.labels)
        accuracies.append(float(network.score(parts.validation.features, parts.validation.labels)))
    return time.perf_counter() - start, accuracies


def floor(width: int, steps: int, seeds: Sequence[int]) -> Result:
    """The matrix products of forward and backward passes alone."""
    count = min(members(width), len(seeds))
    inputs, hidden, outputs = (torch.randn(count, size, BATCH) for size in (64, width, 10))
    first, middle, last = (
        torch.randn(count, *shape) for shape in ((width, 64), (width, width), (10, width))
    )  # fmt: skip
    start = time.perf_counter()
    for _ in range(steps * len(seeds) // count):
        torch.bmm(first, inputs)
        torch.bmm(middle, hidden)
        torch.bmm(last, hidden)
        torch.bmm(outputs, hidden.transpose(1, 2))
        torch.bmm(last.transpose(1, 2), outputs)
        torch.bmm(hidden, hidden.transpose(1, 2))
        torch.bmm(middle.transpose(1, 2), hidden)
        torch.bmm(hidden, inputs.transpose(1, 2))
    return time.perf_counter() - start, []


def check() -> float:
    """Largest difference between a member's outputs in a stack and those of the same network of modules."""
    parameters, buffers = initialise((64, 32, 32, 10), [0, 1, 2])
    inputs = torch.randn(3, 64, BATCH)
    outputs = forward(Activation(map=relu), parameters, buffers, inputs, training=True).outputs
    worst = 0.0
    for member in range(3):
        network = _network(32)
        for layer in range(3):
            linear = network[2 * layer]
            assert isinstance(linear, nn.Linear)
            linear.weight.data = parameters[f"weight{layer}"][member]
            linear.bias.data = parameters[f"bias{layer}"][member, :, 0]
        difference = (network(inputs[member].T).T - outputs[member]).detach()
        worst = max(worst, float(difference.abs().max()))
    return worst


def _on_all_cores(
    pool: ProcessPoolExecutor, how: Callable[[int, int, Sequence[int]], Result], width: int, steps: int, seeds: int
) -> tuple[float, float]:
    """Microseconds of a core per step of a network, and the mean accuracy."""
    count = cores()
    shares = [list(range(part, seeds, count)) for part in range(count)]
    results = list(pool.map(how, [width] * count, [steps] * count, shares))
    accuracies = [value for _, values in results for value in values]
    slowest = max(seconds for seconds, _ in results)
    return 1e6 * slowest * count / (steps * seeds), float(np.mean(accuracies)) if accuracies else float("nan")


def main() -> None:
    """Print a table per width, then what was aimed at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=3, help="rounds; the best of each counts")
    arguments = parser.parse_args()
    difference = check()
    if not difference < 1e-5:
        raise SystemExit(f"a member's outputs differ from plain PyTorch by {difference:.1e}: no timing means anything")
    print(f"correctness: a member's outputs differ from plain PyTorch by at most {difference:.1e}")
    print("(training: tests/study/test_fleet.py compares 60 steps of every arm and optimizer, in float64 to 1e-9)")
    # Others train fewer networks: the time per step does not depend on how many there are.
    others: dict[str, Callable[[int, int, Sequence[int]], Result]] = {"best plain loop": plain}
    others |= {"Lightning-style loop": lightning_style, "skorch": skorch, "scikit-learn": scikit_learn}
    few = 2 * cores()
    for width in (128, 32):
        times: dict[str, tuple[float, float]] = {}
        with ProcessPoolExecutor(max_workers=cores(), initializer=_single) as pool:
            first, _ = _on_all_cores(pool, compiled_fleet, width, 2, arguments.seeds)
            for _ in range(arguments.repeat):
                rounds = {name: _on_all_cores(pool, how, width, arguments.steps, few) for name, how in others.items()}
                rounds["fleet"] = _on_all_cores(pool, fleet, width, arguments.steps, arguments.seeds)
                rounds["fleet, compiled"] = _on_all_cores(pool, compiled_fleet, width, arguments.steps, arguments.seeds)
                rounds["floor"] = _on_all_cores(pool, floor, width, arguments.steps, arguments.seeds)
                seconds, values = default(width, arguments.steps, [0])
                rounds["default loop"] = 1e6 * seconds * cores() / arguments.steps, float(np.mean(values))
                for name, found in rounds.items():
                    times[name] = min(times.get(name, found), found, key=lambda each: each[0])
        ours = times["fleet"][0]
        print(f"\n64-{width}-{width}-10, {arguments.seeds} networks of {arguments.steps} steps, {cores()} cores")
        print(
            f"first compiled steps: {first * 2 * arguments.seeds / cores() / 1e6:.1f} s (later runs find them cached)"
        )
        print(f"{'':22}{'networks / s':>14}{'us / step / core':>18}{'fleet is faster':>17}{'accuracy':>10}")
        for name, (micro, accuracy) in sorted(times.items(), key=lambda item: item[1][0]):
            speed = 1e6 * cores() / (micro * arguments.steps)
            print(f"{name:22}{speed:14.2f}{micro:18.1f}{micro / ours:16.2f}x{accuracy:10.4f}")
        aims = {
            "best plain loop": 1.8,
            "default loop": 6.0,
            "Lightning-style loop": 10.0,
            "skorch": 10.0,
            "floor": 0.85,
        }
        if width == 32:
            aims = {"best plain loop": 5.0, "floor": 0.85}
        for name, aim in aims.items():
            for mine in ("fleet", "fleet, compiled"):
                ratio = times[name][0] / times[mine][0]
                print(f"aim: {aim} of {name}: {mine} {ratio:.2f}, {'reached' if ratio >= aim else 'not reached'}")


if __name__ == "__main__":
    main()

"""Categorical autoencoders: training steps a second against Pyro and a plain loop, and many at once against one by one.

Pixels are drawn at random. The gate comes first: with the same parameters everyone has the same loss, to 1e-4 nats
where it is exact, elsewhere in the mean of many draws within 4 standard errors; where not, no speed is printed and the
exit code is 1. All take turns, the best of each counts. With one thread the time is the processor's, which other
programs disturb little, and with more the clock's. Rows:

- softplace: `CategoricalVAE.loss(...).surrogate.mean().backward()` and fused Adam, as `softplace train latent`.
- plain loop: torch.distributions and `torch.optim.Adam`, as it comes and fused.
- Pyro: `SVI` with `TraceEnum_ELBO` (parallel enumeration), `Trace_ELBO` (relaxed) or `TraceGraph_ELBO` (REINFORCE).
- matrix products: those of a step, forward and backward, and nothing else: what nobody can be faster than.

The second table trains 60 small networks, 15 seeds by 4 learning rates, on scikit-learn's digits: the fleet of the
contest `latent` as one program, against loops over networks (of which a few are timed: their speed is the same).
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import latent_peers as peers
from benchmarks.latent_peers import EXACT, RELAXED, SCORE, STRAIGHT, TEMPERATURE, Build, Case, Trainer
from softplace.latent.controls import control_for
from softplace.latent.vae import CategoricalVAE
from softplace.study.contest import Options
from softplace.study.contests.latent import Encode, contest
from softplace.study.contests.latent_arms import ARMS
from softplace.study.contests.latent_members import Autoencoders
from softplace.study.execute import cores, keep_memory
from softplace.study.fleet import compiler_missing, train_step

SMALL = Case(pixels=64, variables=3, classes=4, hidden=32, batch=50)
LARGE = Case(pixels=784, variables=20, classes=10, hidden=200, batch=100)
AIM, SEEDS, RATES, FEW = 3.0, 15, (3e-4, 1e-3, 3e-3, 1e-2), 4
FLEET_ARMS = {EXACT: "softmax", RELAXED: "Gumbel-softmax", STRAIGHT: "straight-through Gumbel", SCORE: "REINFORCE"}
Turn = Callable[[int], None]
"""Make so many steps."""


def ours(
    case: Case, estimator: str, network: tuple[nn.Sequential, nn.Sequential], *, compiled: bool = False
) -> Trainer:
    """softplace, as its training loop does it; `compiled`: the loss through `torch.compile`."""
    net = CategoricalVAE(case.pixels, variables=case.variables, classes=case.classes, hidden=(case.hidden,))
    net.encoder, net.decoder = network
    parameters = list(net.parameters())
    optimizer = torch.optim.Adam(parameters, lr=peers.RATE, fused=True)
    control = control_for(estimator, case.pixels, case.variables, case.classes)
    fixed = {"temperature": TEMPERATURE} if estimator in (RELAXED, STRAIGHT) else {}
    loss = torch.compile(net.loss) if compiled else net.loss

    def step(pixels: Tensor) -> None:
        moving = {} if control is None else control.options(pixels)
        found = loss(pixels, estimator, **fixed, **moving)
        for parameter in parameters:
            parameter.grad = None
        found.surrogate.mean().backward()
        optimizer.step()
        if control is not None:
            control.update(found.estimate, moving)

    return Trainer(step, lambda pixels: -float(loss(pixels, estimator, **fixed).bound.mean()))


def contestants(compiled: bool) -> dict[str, Build]:
    """By name, ours first."""
    found: dict[str, Build] = {
        "softplace": ours,
        "plain loop": peers.plain,
        "plain loop, fused Adam": partial(peers.plain, fused=True),
    }
    if compiled:
        found["softplace, compiled"] = partial(ours, compiled=True)
        found["plain loop, compiled"] = partial(peers.plain, fused=True, compiled=True)
    return found if peers.absent() else found | {"Pyro": peers.pyro}


def wrong(losses: Mapping[str, list[float]], exact: bool) -> str:
    """Whose loss is not that of the first, and by how much; empty where all agree."""
    first, *others = losses
    for name in others:
        one, other = losses[first], losses[name]
        allowed = 1e-4
        if not exact:
            allowed = 4 * math.hypot(*(statistics.stdev(each) / len(each) ** 0.5 for each in (one, other)))
        if not abs(off := statistics.fmean(other) - statistics.fmean(one)) <= allowed:
            return f"FAILED: the loss of {name} is {off:+.2g} nats from that of {first}, allowed {allowed:.1g}"
    return ""


def speeds(turns: Mapping[str, Turn], steps: Mapping[str, int], repeat: int, threads: int) -> dict[str, float]:
    """Steps a second of everyone's best turn; the first, shorter, warms."""
    clock = time.process_time if threads == 1 else time.perf_counter
    best = dict.fromkeys(turns, 0.0)
    for name, turn in turns.items():
        turn(max(1, steps[name] // 5))
    for _ in range(repeat):
        for name, turn in turns.items():
            start = clock()
            turn(steps[name])
            best[name] = max(best[name], steps[name] / (clock() - start))
    return best


def lines(best: Mapping[str, float], width: int = 24) -> None:
    """Print a line each."""
    first = next(iter(best.values()))
    for name, speed in best.items():
        print(f"{name:{width}}{speed:12.0f}{1e6 / speed:12.0f}{first / speed:14.2f}x", flush=True)


def aims(best: Mapping[str, float]) -> None:
    """Print what was aimed at."""
    first, *others = best
    for name in others:
        if name in ("plain loop", "Pyro"):
            ratio = best[first] / best[name]
            print(f"aim: {AIM:g} times {name}: {ratio:.2f}, {'reached' if ratio >= AIM else 'not reached'}")


def steps_table(case: Case, estimator: str, arguments: argparse.Namespace, threads: int) -> bool:
    """Print it, and say whether the gate held."""
    print(f"\n{estimator}: {case}, {threads} thread{'s' if threads > 1 else ''}")
    draw = torch.Generator().manual_seed(0)
    pixels = (torch.rand(case.batch, case.pixels, generator=draw) < 0.3).float()
    torch.manual_seed(1)
    state = [part.state_dict() for part in case.network()]
    trainers = {}
    for name, build in contestants(arguments.compile).items():
        network = case.network()
        for part, values in zip(network, state, strict=True):
            part.load_state_dict(values)
        trainers[name] = build(case, estimator, network)
    draws = 1 if estimator == EXACT else arguments.draws
    losses = {name: [each.loss(pixels) for _ in range(draws)] for name, each in trainers.items()}
    if said := wrong(losses, estimator == EXACT):
        print(said)
        return False

    def turn(step: Callable[[], object]) -> Turn:
        return lambda steps: [step() for _ in range(steps)] and None

    turns = {name: turn(partial(each.step, pixels)) for name, each in trainers.items()}
    turns["matrix products"] = turn(peers.floor(case, estimator))
    count = (50 if case is SMALL else 15) * (1 if arguments.quick else 2)
    best = speeds(turns, dict.fromkeys(turns, count), arguments.repeat, threads)
    print(f"{'':24}{'steps / s':>12}{'us / step':>12}{'ours is faster':>15}")
    lines(best)
    aims(best)
    if (limit := best["matrix products"] / best["plain loop"]) < 2 * AIM:
        print(f"bound: the matrix products alone are {limit:.2f} times as fast as the plain loop.")
    return True


def fleet(task: Encode, estimator: str) -> tuple[Autoencoders, Turn]:
    """Ours: 60 members and how to train them."""
    arm = next(each for each in ARMS if each.name == FLEET_ARMS[estimator])
    members = Autoencoders(task, arm, [seed for seed in range(SEEDS) for _ in RATES], torch.device("cpu"))
    members.parameters = {name: each.requires_grad_() for name, each in members.parameters.items()}
    leaves = list(members.parameters.values())
    state, total = task.optimizer.start(leaves), torch.zeros(SEEDS * len(RATES))
    rates = torch.tensor(RATES * SEEDS)
    made = 0

    def turn(steps: int) -> None:
        nonlocal made
        for _ in range(steps):
            step = torch.tensor(made, dtype=torch.float64)
            train_step(members, leaves, task.optimizer, state, rates, total, step, members.batch(made))
            made += 1

    return members, turn


def member(case: Case, parameters: Mapping[str, Tensor], which: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The encoder and the decoder of a member of the fleet."""
    network = case.network()
    for part, names in zip(network, (("encode", "logits"), ("decode", "pixels")), strict=True):
        for layer, name in zip((part[0], part[2]), names, strict=True):
            layer.weight.data = parameters[f"{name}_weight"][which].detach().T.contiguous()
            layer.bias.data = parameters[f"{name}_bias"][which].detach().clone()
    return network


def fleet_table(estimator: str, arguments: argparse.Namespace, threads: int) -> bool:
    """Print it, and say whether the gate held."""
    (task,) = contest(Options(preset="quick", maps=None)).tasks
    assert isinstance(task, Encode)
    case = Case(
        pixels=task.pixels, variables=task.variables, classes=task.classes, hidden=task.hidden, batch=task.batch
    )  # fmt: skip
    members, turn = fleet(task, estimator)
    count = SEEDS * len(RATES)
    print(f"\nfleet of {count}, {estimator}: {case}, {threads} thread{'s' if threads > 1 else ''}")
    images, draws = task.images["train"], 1 if estimator == EXACT else arguments.draws
    pixels = images[: task.batch]
    last = count - 1
    with torch.no_grad():
        several = [torch.full((count,), step) for step in range(draws)]
        losses = {"fleet": [float(members.losses(pixels.expand(count, -1, -1), each)[last]) for each in several]}
    turns: dict[str, Turn] = {"fleet": turn}
    for name, build in contestants(False).items():
        nets = [build(case, estimator, member(case, members.parameters, last - n)) for n in range(FEW)]
        losses[name] = [nets[0].loss(pixels) for _ in range(draws)]

        def loop(steps: int, nets: list[Trainer] = nets) -> None:
            for net in nets:
                for _ in range(steps // FEW):
                    net.step(images[torch.randint(len(images), (task.batch,))])

        turns[f"{name}, one by one" if name == "softplace" else name] = loop
    if said := wrong(losses, estimator == EXACT):
        print(said)
        return False
    steps = dict.fromkeys(turns, FEW * (15 if arguments.quick else 30)) | {"fleet": 5 if arguments.quick else 10}
    best = speeds(turns, steps, arguments.repeat, threads)
    best["fleet"] *= count
    print(f"{'':24}{'member-steps / s':>17}{'us / step':>10}{'fleet is faster':>16}")
    for name, speed in best.items():
        print(f"{name:24}{speed:17.0f}{1e6 / speed:10.0f}{best['fleet'] / speed:15.2f}x", flush=True)
    aims(best)
    return True


def main() -> int:
    """1 where a gate failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer turns and draws")
    parser.add_argument("--repeat", type=int, help="turns of each; the best counts (default 7, quick 2)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--compile", action="store_true", help="losses through torch.compile as well (minutes)")
    arguments = parser.parse_args()
    arguments.repeat = arguments.repeat or (2 if arguments.quick else 7)
    arguments.draws = 50 if arguments.quick else 200
    if arguments.compile and (missing := compiler_missing("cpu")):
        parser.error(f"--compile: {missing}.")
    print(f"{cores()} cores, torch {torch.__version__}, float32")
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"{load:.1f} other processes were running in the last minute: speeds vary.")
    if how := peers.absent():
        print(how)
    keep_memory()
    before, held = torch.get_num_threads(), True
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for case, estimators in ((SMALL, (EXACT, RELAXED, STRAIGHT, SCORE)), (LARGE, (RELAXED, STRAIGHT, SCORE))):
            for estimator in estimators:
                held &= steps_table(case, estimator, arguments, threads)
        for estimator in FLEET_ARMS:
            held &= fleet_table(estimator, arguments, threads)
    torch.set_num_threads(before)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())

"""NTM and DNC against pytorch-ntm, pytorch-dnc and RobertCsordas/dnc, on a CPU, all in one run, float32.

A training step is forward, backward, clipping of the norm and optimizer on whole sequences of a copy task; sizes,
batch, data, loss, clipping and optimizer are the same for all. All take turns, each with one thread and with two; the
best of the turns counts. Before anything is timed, the gradients of the kernel and of the plain path are compared with
those of the plain path in float64; where they are too far away the row says FAILED and the exit code is 1.

The floor is the arithmetic of a step (matrix products exactly, the rest about) at the rate at which a matrix product of
the controller runs at that batch: what nobody reaches who works step by step. Products of whole sequences, as in the
gradients of weights, can run faster than that, so a share above 1 is possible.

Then three tables more: fleets of members that train at once, what a backward pass through 1,000 steps keeps, and how
the time per step grows with the number of slots. The others come from a folder of their clones: `--peers`.
"""

import argparse
import math
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.func import stack_module_state
from torch.nn import functional

from benchmarks import memory_peers as peers
from benchmarks.memory_peers import Case, Network, dnc, ntm
from benchmarks.peak import peak_of
from softplace.maps import topk_softmax
from softplace.memory.dnc import DNC
from softplace.memory.members import together
from softplace.memory.ntm import NTM
from softplace.study.execute import cores

CASES = (
    ntm(1, 10, 40.0),
    ntm(1, 20, 40.0),
    ntm(16, 20, 20.0),
    ntm(32, 20, 20.0),
    dnc(128, 1, 10, 20.0),
    dnc(128, 16, 20, 6.0),
    dnc(64, 32, 10),
    dnc(16, 100, 4),
)
QUICK = (CASES[1], CASES[2], CASES[4], CASES[7])
ALLOWED = 1e-4
"""Largest relative error of a float32 gradient: some thousand roundings, which a sequence adds up."""
MEMBERS = 16
TURN = 0.25
"""Seconds of one turn of one network, at least."""
Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """The best seconds of a call, and with how many threads."""

    seconds: float
    threads: int


def ours(case: Case, *, kernel: bool, compiled: bool = False, **options: object) -> Network:
    """Our machine."""
    make: Callable[..., NTM | DNC] = NTM if case.machine == "NTM" else DNC
    module = make(
        case.inputs,
        case.outputs,
        hidden_size=case.hidden,
        layers=case.layers,
        slots=case.slots,
        width=case.width,
        read_heads=case.reads,
        kernel=kernel,
        **options,
    )
    call = torch.compile(module) if compiled else module
    return Network(module, lambda inputs: call(inputs)[0])


def copy_task(case: Case, *lead: int) -> tuple[Tensor, Tensor]:
    """Inputs (..., T, B, I) and targets (..., T, B, O), or the last of them where only the answer counts."""
    words = torch.randint(0, 2, (*lead, case.length, case.batch, case.bits)).float()
    inputs = torch.zeros(*lead, case.steps, case.batch, case.inputs)
    inputs[..., : case.length, :, : case.bits] = words
    inputs[..., case.length, :, case.bits] = 1.0
    if case.machine == "NTM":
        return inputs, words
    targets = torch.zeros(*lead, case.steps, case.batch, case.outputs)
    targets[..., case.length + 1 :, :, : case.bits] = words
    return inputs, targets


def optimizer_of(case: Case, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
    """That of pytorch-ntm's or of pytorch-dnc's copy task, in its fastest form."""
    if case.machine == "NTM":
        return torch.optim.RMSprop(parameters, lr=1e-4, momentum=0.9, alpha=0.95, foreach=True)
    return torch.optim.Adam(parameters, lr=1e-4, eps=1e-9, betas=(0.9, 0.98), fused=True)


def limit_of(case: Case) -> float:
    """Of the norm of the gradient."""
    return 10.0 if case.machine == "NTM" else 50.0


def training(network: Network, case: Case) -> Call:
    """One training step, to be repeated."""
    inputs, targets = copy_task(case)
    parameters = list(network.module.parameters())
    optimizer = optimizer_of(case, parameters)

    def step() -> None:
        optimizer.zero_grad()
        network.loss(network.forward(inputs)[-len(targets) :], targets).backward()
        torch.nn.utils.clip_grad_norm_(parameters, limit_of(case), foreach=True)
        optimizer.step()

    return step


def gradient_error(case: Case, *, kernel: bool) -> float:
    """Largest error of an entry of the gradient of a parameter, relative to its largest entry, against float64."""
    inputs, targets = copy_task(case)

    def gradients(network: Network, dtype: torch.dtype) -> dict[str, Tensor]:
        outputs = network.forward(inputs.to(dtype))
        network.loss(outputs[-len(targets) :], targets.to(dtype)).backward()
        return {name: each.grad.double() for name, each in network.module.named_parameters() if each.grad is not None}

    mine, truth = ours(case, kernel=kernel), ours(case, kernel=False)
    with torch.no_grad():
        for weights in mine.module.parameters():
            weights.add_(0.3 * torch.randn_like(weights) * weights.abs().mean())
    truth.module.load_state_dict(mine.module.state_dict())
    truth.module.double()
    expected, found = gradients(truth, torch.float64), gradients(mine, torch.float32)
    if expected.keys() != found.keys():
        return math.inf
    # What has no gradient but for rounding is measured with the smallest scale that counts.
    least = 1e-4 * max(float(each.abs().max()) for each in expected.values())
    errors = [
        float((found[name] - each).abs().max()) / max(float(each.abs().max()), least)
        for name, each in expected.items()
    ]  # fmt: skip
    return max(errors) if all(map(math.isfinite, errors)) else math.inf


def fastest(calls: dict[str, Call], arguments: argparse.Namespace) -> tuple[dict[str, Timing], dict[str, str]]:
    """The best of several turns of each, which alternate, with each number of threads; and what failed, and why."""
    best: dict[str, Timing] = {}
    failed: dict[str, str] = {}
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for turn in range(arguments.repeat + 1):  # the first is the warm-up
            for name, call in calls.items():
                if name in failed:
                    continue
                try:
                    seconds = min(_times(call, arguments.clock, TURN if turn else 0.0))
                except Exception as error:
                    failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
                    continue
                if turn and (name not in best or seconds < best[name].seconds):
                    best[name] = Timing(seconds, threads)
    torch.set_num_threads(arguments.threads[0])
    return {name: timing for name, timing in best.items() if name not in failed}, failed


def _times(call: Call, clock: Callable[[], float], seconds: float) -> list[float]:
    """Seconds of each of several calls."""
    times: list[float] = []
    while not times or sum(times) < seconds:
        start = clock()
        call()
        times.append(clock() - start)
    return times


def arithmetic(case: Case) -> float:
    """Floating-point operations of a training step without the optimizer's."""
    hidden, heads, cells = case.hidden, case.reads + 1, case.slots * case.width
    kept = case.layers * hidden
    read = case.reads * case.width
    interface = heads * case.width + 2 * case.width
    interface += 6 * heads if case.machine == "NTM" else 5 * case.reads + 3
    gates = sum(4 * hidden * (case.inputs + read + hidden + (hidden if layer else 0)) for layer in range(case.layers))
    products = gates + interface * kept + case.outputs * (kept + read) + cells * (heads + case.reads)
    # Element by element, about: norms, erasing and adding per cell; the stages of the addressing per slot and head.
    elements = 7 * cells + 30 * case.slots * heads
    if case.machine == "DNC":
        products += 2 * case.reads * case.slots**2
        elements += 5 * case.slots**2
    backward = 2 * products - 4 * hidden * case.inputs * case.layers  # inputs have no gradient
    return case.batch * case.steps * (2.0 * (products + backward) + 3.0 * elements)


def rate(case: Case, arguments: argparse.Namespace) -> float:
    """Floating-point operations per second of the product of the controller's first layer at this batch."""
    fan_in = case.inputs + case.reads * case.width + case.hidden
    inputs, weights = torch.randn(case.batch, fan_in), torch.randn(4 * case.hidden, fan_in)

    def call() -> None:
        for _ in range(50):
            functional.linear(inputs, weights)

    with torch.no_grad():
        timing = fastest({"": call}, arguments)[0][""]
    return 50 * 2.0 * inputs.numel() * len(weights) / timing.seconds


def speed_table(case: Case, others: dict[str, peers.Build], arguments: argparse.Namespace) -> bool:
    """Print one; whether our gradients are right."""
    torch.manual_seed(0)
    calls: dict[str, Call] = {}
    notes: dict[str, str] = {}
    right = True
    for name, kernel in (("kernel", True), ("plain", False)):
        error = gradient_error(case, kernel=kernel)
        right &= error <= ALLOWED
        notes[name] = f"{error:10.0e}{'' if error <= ALLOWED else '  FAILED'}"
        calls[name] = training(ours(case, kernel=kernel), case)
    if arguments.compile:
        calls["plain, compiled"] = training(ours(case, kernel=False, compiled=True), case)
    for name, build in others.items():
        calls[name] = training(build(case), case)
    best, failed = fastest(calls, arguments)
    floor = arithmetic(case) / rate(case, arguments)
    print(f"\n{case}. Floor {1e3 * floor:.2f} ms")
    print(f"{'':20}{'ms':>9}{'threads':>9}{'sequences/s':>13}{'kernel is':>11}{'of floor':>10}{'gradient':>10}")
    for name in calls:
        if name in failed:
            print(f"{name:20}FAILED: {failed[name]}")
            continue
        timing = best[name]
        ratio = f"{timing.seconds / best['kernel'].seconds:.1f}x" if name != "kernel" and "kernel" in best else ""
        line = f"{name:20}{1e3 * timing.seconds:9.2f}{timing.threads:9}{case.batch / timing.seconds:13.1f}{ratio:>11}"
        print(f"{line}{floor / timing.seconds:10.3f}{notes.get(name, ''):>10}", flush=True)
    rivals = [best[name].seconds for name in others if name in best]
    if case.aim and rivals and "kernel" in best:
        reached = min(rivals) / best["kernel"].seconds
        print(f"aim: {case.aim:g}x the faster of the others: {reached:.1f}x, {_judged(reached >= case.aim)}")
    return right and not {"kernel", "plain"} & failed.keys()


def _judged(reached: bool) -> str:
    return "reached" if reached else "not reached"


def fleet_step(case: Case, *, kernel: bool) -> Call:
    """A training step of all members at once: stacked parameters and `together`."""
    modules = [ours(case, kernel=kernel).module for _ in range(MEMBERS)]
    parameters, buffers = stack_module_state(modules)
    inputs, targets = copy_task(case, MEMBERS)
    optimizer = optimizer_of(case, list(parameters.values()))

    def step() -> None:
        optimizer.zero_grad()
        outputs = together(modules[0], {**parameters, **buffers}, inputs)[0][:, -targets.shape[1] :]
        losses = functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none").flatten(1).mean(1)
        losses.sum().backward()
        gradients = [each.grad for each in parameters.values() if each.grad is not None]
        norms = sum(each.flatten(1).square().sum(1) for each in gradients).sqrt()
        factors = (limit_of(case) / (norms + 1e-6)).clamp(max=1.0)
        for each in gradients:
            each.mul_(factors.view(-1, *[1] * (each.ndim - 1)))
        optimizer.step()

    return step


def one_after_another(steps: Sequence[Call]) -> Call:
    """All of them."""

    def run() -> None:
        for step in steps:
            step()

    return run


def fleet_table(case: Case, others: dict[str, peers.Build], arguments: argparse.Namespace) -> None:
    """Training steps of members per second."""
    torch.manual_seed(0)
    calls = {
        f"{name}, one after another": one_after_another(
            [training(ours(case, kernel=kernel), case) for _ in range(MEMBERS)]
        )
        for name, kernel in (("kernel", True), ("plain", False))
    }
    calls["kernel, all at once"] = fleet_step(case, kernel=True)
    calls["plain, all at once"] = fleet_step(case, kernel=False)
    for name, build in others.items():
        calls[f"{name}, one after another"] = one_after_another([training(build(case), case) for _ in range(MEMBERS)])
    best, failed = fastest(calls, arguments)
    floor = MEMBERS * arithmetic(case) / rate(case, arguments)
    print(f"\n{MEMBERS} members: {case}")
    print(f"{'':38}{'members/s':>10}{'threads':>9}{'ms each':>9}{'of floor':>10}")
    for name in calls:
        if name in failed:
            print(f"{name:38}FAILED: {failed[name]}")
            continue
        seconds = best[name].seconds
        line = f"{name:38}{MEMBERS / seconds:10.1f}{best[name].threads:9}{1e3 * seconds / MEMBERS:9.2f}"
        print(f"{line}{floor / seconds:10.3f}", flush=True)


def peak(case: Case, kernel: bool, segments: int, threads: int) -> tuple[float, float, float]:
    """Of one forward and backward pass: bytes that were added at the peak, seconds, and bytes of one state."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = ours(case, kernel=kernel, segments=segments)
    inputs, _ = copy_task(case)
    network.forward(inputs[: 2 * segments]).sum().backward()  # compiles and allocates what stays
    states = network.module.initial_state(case.batch)
    state = sum(each.numel() * each.element_size() for each in states if isinstance(each, Tensor))
    added, seconds = peak_of(lambda: network.forward(inputs).sum().backward())
    return added, seconds, state


def backward_table(case: Case, arguments: argparse.Namespace) -> None:
    """What a pass through a long sequence keeps, each in a process of its own."""
    print(f"\nBackward memory: {case}")
    print(f"{'':10}{'segments':>10}{'peak MB':>10}{'states + a segment':>20}{'seconds':>9}")
    for name, kernel in (("kernel", True), ("plain", False)):
        whole = 0.0
        for segments in (1, 8, 32):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                size, seconds, state = pool.apply(peak, (case, kernel, segments, arguments.threads[0]))
            whole = whole or size
            expected = segments * state + whole / segments
            line = f"{name:10}{segments:10}{size / 2**20:10.1f}{expected / 2**20:20.1f}{seconds:9.2f}"
            print(line, flush=True)


def slots_table(arguments: argparse.Namespace) -> None:
    """Milliseconds of a step forward and backward as the memory grows."""
    sizes = (256, 1024, 4096) if arguments.quick else tuple(2**power for power in range(8, 14))
    ways: dict[str, dict[str, object]] = {
        "sparse links, top-8 softmax": {"links": "sparse", "map": partial(topk_softmax, k=8)},
        "sparse links, softmax": {"links": "sparse"},
        "no links, softmax": {"links": "none"},
        "links of all, softmax": {},
    }
    dense = 1024 if arguments.quick else 2048
    length = 4
    print(f"\nDNC, width 20, LSTM 2 x 64, 4 + 1 heads, batch 1: ms per timestep of {2 * length + 1}, and the exponent")
    print(f"{'slots':34}" + "".join(f"{size:>9}" for size in sizes) + f"{'grows as':>12}")
    for name, options in ways.items():
        cells: list[float] = []
        for size in sizes:
            if not options and size > dense:
                break
            torch.manual_seed(0)
            case = dnc(size, 1, length)
            network, (inputs, targets) = ours(case, kernel=True, **options), copy_task(case)
            call = partial(_pass, network, inputs, targets)
            best, failed = fastest({name: call}, arguments)
            if failed:
                print(f"{name:34}FAILED: {failed[name]}")
                break
            cells.append(1e3 * best[name].seconds / case.steps)
        if len(cells) > 1:
            exponent = math.log(cells[-1] / cells[-2]) / math.log(sizes[1] / sizes[0])
            line = "".join(f"{cell:9.2f}" for cell in cells).ljust(9 * len(sizes))
            print(f"{name:34}{line}{f'N^{exponent:.2f}':>12}", flush=True)


def _pass(network: Network, inputs: Tensor, targets: Tensor) -> None:
    network.module.zero_grad()
    network.loss(network.forward(inputs), targets).backward()


PARTS = ("speed", "fleet", "backward", "slots")


def main() -> int:
    """Print the tables; 1 where a gradient of ours is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    named = os.environ.get("SOFTPLACE_PEERS")
    parser.add_argument(
        "--peers", type=Path, default=Path(named) if named else None,
        help="folder of the clones pytorch-ntm, pytorch-dnc and dnc (default: $SOFTPLACE_PEERS)",
    )  # fmt: skip
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="fewer sizes, fewer turns")
    parser.add_argument("--repeat", type=int, help="turns of each; the best counts (default 5, quick 2)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2][: cores()])
    parser.add_argument("--compile", action="store_true", help="the plain path through torch.compile as well (minutes)")
    parser.add_argument(
        "--processor-time", action="store_true",
        help="instead of time on the clock, for a machine that others use too; with one thread",
    )  # fmt: skip
    arguments = parser.parse_args()
    if arguments.processor_time and arguments.threads != [1]:
        parser.error("--processor-time needs --threads 1: threads that wait for one another use the processor too.")
    arguments.repeat = arguments.repeat or (2 if arguments.quick else 5)
    arguments.clock = time.process_time if arguments.processor_time else time.perf_counter
    if arguments.peers is not None and not arguments.peers.is_dir():
        parser.error(f"--peers: expected a folder, got {arguments.peers}.")
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", UserWarning)  # of the others: functions that PyTorch has renamed since
    warnings.simplefilter("ignore", FutureWarning)
    print(f"{cores()} cores, torch {torch.__version__}, threads {arguments.threads}, float32", end="")
    print(", processor time" if arguments.processor_time else "")
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"{load:.1f} other processes were running in the last minute: speeds mean little.")
    if how := peers.absent(arguments.peers):
        print(how)
    others = peers.load(arguments.peers)
    right = True
    if "speed" in arguments.parts:
        for case in QUICK if arguments.quick else CASES:
            right &= speed_table(case, others[case.machine], arguments)
    if "fleet" in arguments.parts:
        fleet_table(ntm(1, 20), others["NTM"], arguments)
        if not arguments.quick:
            fleet_table(dnc(128, 1, 10), others["DNC"], arguments)
    if "backward" in arguments.parts:
        length = 250 if arguments.quick else 1000
        backward_table(ntm(16, length // 2), arguments)
        backward_table(dnc(128, 1, length // 2), arguments)
    if "slots" in arguments.parts:
        slots_table(arguments)
    if not right:
        print("\nFAILED: a gradient of ours is not that of float64. No speed above means anything.")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())

"""Maps against torch, eager compositions and the package entmax, on a CPU, all in one run.

A table per shape and dtype: bytes that have to move (forward 2 N, forward and backward 5 N) per second, beside a copy
into a buffer that exists, which is the limit. Before anything is timed, values and gradients of some rows are compared
with float64; the largest error (relative to the largest value) and the largest |sum - 1| stand beside the speed. Where
they exceed the precision of the dtype the row says FAILED, and if it is ours, the exit code is 1. Best of the repeats
after a warm-up. What takes a second per call is timed once, and on an eighth of the rows (marked *), which flatters it:
more of them fit the cache.

Then two tables more: microseconds at small sizes, and the first call of a fresh process, with the folder of compiled
kernels empty and filled.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from softplace import maps

try:
    import entmax as package
except ImportError:
    package = None

Call = Callable[[Tensor], Tensor]
Truth = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From scores and the gradient of the weights, in float64, to the weights and the gradient of the scores."""
SHAPES = ((4096, 1024), (256, 32768), (64, 131072), (1_000_000, 10))
SMALL = ((1, 10), (32, 10), (128, 32), (1024, 64), (4096, 128))
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SLOW = 1.0
"""Seconds of a call from which on it is timed once, and on fewer rows."""
SECONDS = 0.5
"""Of repeats of one row of a table, at most."""


def softmax1_eager(scores: Tensor) -> Tensor:
    """As one writes it."""
    top = scores.amax(-1, keepdim=True).clamp(min=0)
    powers = (scores - top).exp()
    return powers / ((-top).exp() + powers.sum(-1, keepdim=True))


def solu_eager(scores: Tensor) -> Tensor:
    """As one writes it."""
    return scores * torch.softmax(scores, -1)


def differentiated(call: Call) -> Truth:
    """The truth of what float64 and autograd get right by themselves."""

    def truth(scores: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
        scores = scores.detach().requires_grad_()
        weights = call(scores)
        (gradient,) = torch.autograd.grad(weights, scores, upstream)
        return weights.detach(), gradient

    return truth


def bisected(alpha: float) -> Truth:
    """The truth of alpha-entmax: the threshold by bisection to the last bit, the gradient by its formula."""

    def truth(scores: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
        z = (alpha - 1) * (scores - scores.amax(-1, keepdim=True))
        low, high = torch.full_like(z[..., :1], -1.0), torch.zeros_like(z[..., :1])
        for _ in range(60):
            middle = (low + high) / 2
            above = (z - middle).clamp(min=0).pow(1 / (alpha - 1)).sum(-1, keepdim=True) >= 1
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        weights = (z - low).clamp(min=0).pow(1 / (alpha - 1))
        slope = torch.where(weights > 0, weights.pow(2 - alpha), 0.0)
        mean = (slope * upstream).sum(-1, keepdim=True) / slope.sum(-1, keepdim=True)
        return weights, slope * (upstream - mean)

    return truth


@dataclass(frozen=True, kw_only=True)
class Case:
    """A map of ours, those that do the same, and those that it is compared with only for speed."""

    ours: Call
    truth: Truth | None
    peers: dict[str, Call] = field(default_factory=dict)
    pace: dict[str, Call] = field(default_factory=dict)
    total: float | None = 1.0


def last(call: Callable[[Tensor, int], Tensor]) -> Call:
    """Along the last axis."""
    return lambda scores: call(scores, -1)


def alpha_learned(call: Callable[..., Tensor]) -> Call:
    """One alpha per row, with a gradient, which the time of the backward pass includes."""

    def learned(scores: Tensor) -> Tensor:
        alpha = torch.full((*scores.shape[:-1], 1), 1.25, requires_grad=scores.requires_grad, device=scores.device)
        return call(scores, alpha)

    return learned


def cases() -> dict[str, Case]:
    """By the name of the map."""
    softmax = last(torch.softmax)
    found = {
        "softmax": Case(ours=last(maps.softmax), truth=differentiated(softmax), peers={"torch": softmax}),
        "log_softmax": Case(
            ours=last(maps.log_softmax),
            truth=differentiated(last(torch.log_softmax)),
            peers={"torch": last(torch.log_softmax)},
            total=None,
        ),
        "softmax1": Case(
            ours=last(maps.softmax1),
            truth=differentiated(softmax1_eager),
            peers={"eager": softmax1_eager},
            total=None,
        ),
        "solu": Case(ours=last(maps.solu), truth=differentiated(solu_eager), peers={"eager": solu_eager}, total=None),
        "gumbel_softmax": Case(
            ours=last(maps.gumbel_softmax),
            truth=None,
            peers={"torch": lambda scores: functional.gumbel_softmax(scores)},
        ),
        "sparsemax": Case(ours=last(maps.sparsemax), truth=bisected(2.0), pace={"torch.softmax": softmax}),
        "entmax15": Case(ours=last(maps.entmax15), truth=bisected(1.5), pace={"torch.softmax": softmax}),
        "entmax": Case(ours=lambda scores: maps.entmax(scores, alpha=1.25), truth=bisected(1.25)),
        "entmax_learned": Case(
            ours=alpha_learned(lambda scores, alpha: maps.entmax(scores, alpha=alpha)), truth=bisected(1.25)
        ),
    }
    if package is not None:
        bisect = package.entmax_bisect
        found["sparsemax"].peers.update(
            {"entmax, exact": package.sparsemax, "entmax, bisect": package.sparsemax_bisect}
        )
        found["entmax15"].peers.update(
            {"entmax, exact": package.entmax15, "entmax, bisect": lambda scores: bisect(scores, alpha=1.5)}
        )
        found["entmax"].peers["entmax, bisect"] = lambda scores: bisect(scores, alpha=1.25)
        found["entmax_learned"].peers["entmax, bisect"] = alpha_learned(bisect)
    return found


@dataclass(frozen=True)
class Quality:
    """The largest error of values and of gradients, relative to the largest value, and the largest |sum - 1|."""

    value: float
    gradient: float
    total: float
    passed: bool


def quality(call: Call, case: Case, scores: Tensor, upstream: Tensor) -> Quality:
    """Of some rows, which are computed among all the others."""
    few = max(2, min(64, 2**16 // scores.shape[-1]))
    rows = torch.linspace(0, len(scores) - 1, min(few, len(scores))).long()
    inputs = scores.detach().requires_grad_()
    weights = call(inputs)
    gradient = torch.autograd.grad(weights, inputs, upstream)[0][rows].double()
    weights = weights.detach()[rows].double()
    precision = torch.finfo(scores.dtype).eps
    value = slope = total = 0.0
    if case.truth is not None:
        expected, expected_gradient = case.truth(scores.detach()[rows].double(), upstream[rows].double())
        value = ((weights - expected).abs().max() / expected.abs().max()).item()
        slope = ((gradient - expected_gradient).abs().max() / expected_gradient.abs().max()).item()
    if case.total is not None:
        total = (weights.sum(-1) - case.total).abs().max().item()
    # Half precisions: one rounding of each weight. Single: rounding of sums and of exp as well.
    allowed = precision * (1 if scores.dtype == torch.bfloat16 else 32)
    passed = value <= allowed and slope <= 4 * allowed and total <= allowed
    passed &= bool(weights.isfinite().all() and gradient.isfinite().all())
    return Quality(value, slope, total, passed)


def best(call: Callable[[], object], repeat: int) -> float:
    """Seconds of the best call after a warm-up."""
    times: list[float] = []
    while len(times) <= repeat and sum(times[1:]) < SECONDS:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def without_gradient(call: Call, scores: Tensor, repeat: int) -> float:
    """Seconds of the best forward pass."""
    with torch.no_grad():
        return best(lambda: call(scores), repeat)


def both(call: Call, scores: Tensor, upstream: Tensor) -> Callable[[], object]:
    """Forward and backward, to everything that has a gradient."""

    def run() -> None:
        scores.grad = None
        call(scores).backward(upstream)

    return run


def table(shape: tuple[int, int], dtype: str, chosen: dict[str, Case], arguments: argparse.Namespace) -> bool:
    """Print one; whether ours are right."""
    torch.manual_seed(0)
    scores = (arguments.scale * torch.randn(shape)).to(DTYPES[dtype])
    upstream = torch.randn(shape).to(DTYPES[dtype])
    size, right = scores.numel() * scores.element_size(), True
    buffer = torch.empty_like(scores)
    limit = 2 * size / best(lambda: buffer.copy_(scores), 4 * arguments.repeat) / 1e9
    print(f"\n{shape[0]} x {shape[1]}, {dtype}. A copy: {limit:.1f} GB/s")
    heads = f"{'forward':>9}{'ours is':>10}{'+backward':>11}{'ours is':>10}"
    print(f"{'':32}{heads}{'error':>10}{'gradient':>10}{'|sum-1|':>10}")
    for name, case in chosen.items():
        mine: tuple[float, float] | None = None
        for who, call in {"ours": case.ours, **case.peers, **case.pace}.items():
            part = 8 if who in case.peers else 1
            some, given, count = scores[: len(scores) // part], upstream[: len(scores) // part], arguments.repeat
            try:
                checked = None if who in case.pace else quality(call, case, some, given)
            except (RuntimeError, NotImplementedError, IndexError, ValueError, TypeError) as error:
                text = " ".join(str(error).split())[:60]
                print(f"{name:16}{who:16}FAILED: {type(error).__name__}: {text}")
                right &= who != "ours"
                continue
            forward = part * without_gradient(call, some, 1 if part > 1 else count)
            if part > 1 and forward < SLOW:
                some, given, part = scores, upstream, 1
                forward = without_gradient(call, some, count)
            inputs = some.detach().requires_grad_()
            backward = part * best(both(call, inputs, given), 1 if part > 1 else count)
            mine = mine or (forward, backward)
            speeds = (2 * size / forward / 1e9, 5 * size / backward / 1e9)
            ratios = ("", "") if who == "ours" else (f"{forward / mine[0]:.2f}x", f"{backward / mine[1]:.2f}x")
            line = f"{name:16}{who + '*' * (part > 1):16}{speeds[0]:9.2f}{ratios[0]:>10}"
            line += f"{speeds[1]:11.2f}{ratios[1]:>10}"
            if checked is not None:
                right &= checked.passed or who != "ours"
                exact = "".join(
                    f"{number:10.0e}" if number or case.truth else f"{'-':>10}"
                    for number in (checked.value, checked.gradient)
                )
                total = f"{'-':>10}" if case.total is None else f"{checked.total:10.0e}"
                line += f"{exact}{total}{'' if checked.passed else '  FAILED'}"
            print(line, flush=True)
    return right


def small_table(chosen: dict[str, Case]) -> None:
    """Microseconds per call where the calls count, not the bytes: float32, forward / forward and backward."""
    print("\nSmall sizes, float32: microseconds, forward / forward and backward")
    print(f"{'':32}" + "".join(f"{f'{rows} x {size}':>18}" for rows, size in SMALL))
    for name, case in chosen.items():
        fast = {who: call for who, call in {**case.peers, **case.pace}.items() if "bisect" not in who}
        for who, call in {"ours": case.ours, **fast}.items():
            cells = []
            for shape in SMALL:
                scores, upstream = torch.randn(shape), torch.randn(shape)
                inputs = scores.clone().requires_grad_()
                with torch.no_grad():
                    forward = best_of_many(lambda call=call, scores=scores: call(scores))
                cells.append(f"{1e6 * forward:.1f} / {1e6 * best_of_many(both(call, inputs, upstream)):.1f}")
            print(f"{name:16}{who:16}" + "".join(f"{text:>18}" for text in cells), flush=True)


def best_of_many(call: Callable[[], object]) -> float:
    """Seconds of one of many calls: the best of five loops of two milliseconds or more."""
    call()
    number = max(1, math.ceil(0.002 / max(best(call, 3), 1e-7)))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(number):
            call()
        times.append((time.perf_counter() - start) / number)
    return min(times)


FIRST = """
import time, torch
from softplace import maps
scores, times = torch.randn(4096, 1024), []
for _ in range(2):
    start = time.perf_counter()
    maps.sparsemax(scores)
    times.append(time.perf_counter() - start)
print(*times)
"""


def first_calls() -> None:
    """Seconds of the first call, where the kernel is compiled and where it is found."""
    print("\nsparsemax at 4096 x 1024 in a fresh process: the first call, and the second")
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("empty", "filled"):
            done = subprocess.run(
                [sys.executable, "-c", FIRST],
                env={**os.environ, "SOFTPLACE_CACHE": folder},
                capture_output=True,
                text=True,
                check=True,
            )
            first, second = map(float, done.stdout.split())
            print(f"cache {cache:8}{first:8.3f} s{1e3 * second:10.2f} ms")


def shape_of(text: str) -> tuple[int, int]:
    """`4096x1024`."""
    rows, size = text.split("x")
    return int(float(rows)), int(float(size))


def main() -> int:
    """Print all tables; the exit code."""
    known = cases()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="calls after the warm-up; the best counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="standard deviation of the scores")
    parser.add_argument("--maps", nargs="+", choices=known, default=list(known), metavar="MAP", help=", ".join(known))
    parser.add_argument(
        "--shapes", nargs="*", type=shape_of, default=SHAPES, metavar="ROWSxSIZE", help="none: no table"
    )
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--no-small", action="store_true", help="neither small sizes nor first calls")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    chosen = {name: known[name] for name in arguments.maps}
    print(f"torch {torch.__version__}, {arguments.threads} threads, scores of standard deviation {arguments.scale}")
    if package is None:
        print("The package entmax is not installed: its rows are left out. `make bench` installs it.")
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"{load:.1f} other processes were running in the last minute: speeds mean little.")
    start = time.perf_counter()
    maps.sparsemax(torch.zeros(64, 1024))  # so that no timing includes the compiler's time
    print(f"first call: {time.perf_counter() - start:.2f} s")
    right = True
    for shape in arguments.shapes:
        for dtype in arguments.dtypes:
            right &= table(shape, dtype, chosen, arguments)
    if not arguments.no_small:
        small_table(chosen)
        first_calls()
    if not right:
        print("\nFAILED: a map of ours differs from float64 by more than its precision. No speed above means anything.")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())

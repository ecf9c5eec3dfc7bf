"""The loss of a linear head with its gradients: time, memory and error of ours and of others, and of other heads.

Each row of the first tables is a process of its own. There, after a call that warms (and compiles), come one call for
the memory at the peak and `--repeat` calls for the time, all forward and backward with gradients for hidden states and
weight, which count as memory. Columns:

- seconds: the clock's, the best of all calls; CPU s: the processor's over the number of threads, which other programs
  disturb little.
- of floor: the time of the three matrix products alone, over this time (the processor's). In half precision the floor
  is the quicker of that type and float32: a processor may have no instructions for the type.
- MiB: what the process grows by at the peak.
- error: of the loss, and relative of both gradients, to float64 from the same values.

The gate: the loss of ours is within 1e-5 of float64's (bfloat16: of the same rounded values), and gradients within 1e-4
(bfloat16: 1e-2); where not the exit code is 1.

The last table has other heads, against what PyTorch has, or the full loss.
"""

import argparse
import ctypes
import gc
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import output_peers as peers
from benchmarks.output_peers import OURS
from benchmarks.peak import peak_of
from softplace import output
from softplace.study.fleet import compiler_missing

TOKENS, WIDTH = 2048, 512
VOCABULARIES, DTYPES = (32_000, 128_256), ("float32", "bfloat16")
SHARE = 8
"""Of eager's memory is ours at most one part of so many: the aim."""


def problem(vocabulary: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, weight and targets, such that logits are N(0, 1)."""
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=draw)
    weight = torch.randn(vocabulary, WIDTH, generator=draw) / math.sqrt(WIDTH)
    target = torch.randint(vocabulary, (TOKENS,), generator=draw)
    parts = (each.to(device, dtype).requires_grad_() for each in (hidden, weight))
    return *parts, target.to(device)


def timed(call: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Seconds of the clock, and of the processor over the threads; the best of each."""
    clock, cpu = math.inf, math.inf
    for _ in range(repeat):
        begun, worked = time.perf_counter(), time.process_time()
        call()
        clock = min(clock, time.perf_counter() - begun)
        cpu = min(cpu, time.process_time() - worked)
    return clock, cpu / torch.get_num_threads()


def give_memory_back() -> None:
    """To the operating system, so that the peak of the next call is seen."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def one(name: str, vocabulary: int, dtype: torch.dtype, repeat: int, errors: bool) -> dict[str, float]:
    """Figures of one row."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    hidden, weight, target = problem(vocabulary, dtype, device)
    if name.startswith("floor"):
        parts = (each.detach() if name == "floor" else each.detach().float() for each in (hidden, weight))
        products = peers.floor(*parts)
        products()
        clock, cpu = timed(products, repeat)
        return {"clock": clock, "cpu": cpu}
    if ":" in name:
        which, chosen = name.split(":")
        loss = peers.sparse(chosen) if which == OURS else peers.sparse_eager(chosen)
    else:
        loss = peers.losses(dtype, device, name.startswith("compiled"))[name]

    def call() -> None:
        hidden.grad = weight.grad = None
        loss(hidden, weight, target).backward()
        if device == "cuda":
            torch.cuda.synchronize()

    call()
    found: dict[str, float] = {}
    if errors:
        value = loss(hidden, weight, target).detach().double()
        wanted = [each.to(device) for each in peers.exact(*(each.detach().cpu() for each in (hidden, weight, target)))]
        found["error"] = abs(float(value - wanted[0]))
        found["gradients"] = max(
            float((each.grad.double() - exact).norm() / exact.norm())
            for each, exact in zip((hidden, weight), wanted[1:], strict=True)
        )
        del wanted
    hidden.grad = weight.grad = None
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        found["peak"] = torch.cuda.max_memory_allocated() - before
    else:
        give_memory_back()
        found["peak"] = peak_of(call)[0]
    found["clock"], found["cpu"] = timed(call, repeat)
    return found


def measured(name: str, vocabulary: int, dtype: str, arguments: argparse.Namespace) -> dict[str, float]:
    """`one` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.output", "--one", name, "--vocabulary", str(vocabulary)]
    command += ["--dtype", dtype, "--repeat", str(arguments.repeat), "--threads", str(arguments.threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(vocabulary: int, dtype: str, arguments: argparse.Namespace) -> bool:
    """Print it, and say whether the gate held."""
    print(f"\n{dtype}, vocabulary {vocabulary:,}: {TOKENS} tokens, width {WIDTH}")
    floors = {name: measured(name, vocabulary, dtype, arguments) for name in ("floor", "floor of float32")}
    if dtype == "float32":
        del floors["floor of float32"]
    least = min(each["cpu"] for each in floors.values())
    print(f"{'':26}{'seconds':>9}{'CPU s':>8}{'of floor':>10}{'MiB':>7}{'error':>9}{'gradients':>11}")
    for name, each in floors.items():
        said = "three products" + (", float32" if name != "floor" else "")
        print(f"{said:26}{each['clock']:9.2f}{each['cpu']:8.2f}{least / each['cpu']:9.0%}", flush=True)
    names = list(peers.losses(getattr(torch, dtype), arguments.device, arguments.compile))
    names += [f"{which}:{name}" for name in ("sparsemax", "entmax15") for which in (OURS, "eager")]
    rows: dict[str, dict[str, float]] = {}
    for name in names:
        row = rows[name] = measured(name, vocabulary, dtype, arguments)
        print(
            f"{name:26}{row['clock']:9.2f}{row['cpu']:8.2f}{least / row['cpu']:9.0%}{row['peak'] / 2**20:8.0f}"
            + (f"{row['error']:9.0e}{row['gradients']:11.0e}" if "error" in row else ""),
            flush=True,
        )
    aims(rows)
    bounds = (1e-5, 1e-4) if dtype == "float32" else (1e-5, 1e-2)
    right = rows[OURS]["error"] < bounds[0] and rows[OURS]["gradients"] < bounds[1]
    if not right:
        print(f"FAILED: the errors of {OURS} are not below {bounds[0]:g} and {bounds[1]:g}")
    return right


def aims(rows: dict[str, dict[str, float]]) -> None:
    """Print what was aimed at."""

    def said(what: str, ours: float, limit: float) -> None:
        print(f"aim: {what}: {ours:.3g} of {limit:.3g}, {'reached' if ours <= limit else 'not reached'}")

    plain = [name for name in rows if name.startswith(("eager", "compiled")) and ":" not in name]
    for name in plain:
        if name.startswith("eager"):
            said(f"1/{SHARE} of the memory of {name}", rows[OURS]["peak"] / 2**20, rows[name]["peak"] / 2**20 / SHARE)
    fastest = min(plain, key=lambda name: rows[name]["cpu"])
    said(f"as quick as {fastest}, the quicker of eager and compiled", rows[OURS]["cpu"], rows[fastest]["cpu"])


def heads(repeat: int) -> bool:
    """Print the table of other heads, and say whether values agreed."""
    vocabulary, held = 32_000, True
    hidden, weight, target = problem(vocabulary, torch.float32, "cpu")
    ranks = (target.double() ** 3 / vocabulary**2).long()  # frequent classes first
    theirs = nn.AdaptiveLogSoftmaxWithLoss(WIDTH, vocabulary, [2000, 10_000])
    ours = output.AdaptiveSoftmax.of(theirs)
    counts = 1.0 / torch.arange(1, vocabulary + 1)
    tree = output.HierarchicalSoftmax(WIDTH, output.huffman_tree(counts))
    groups = output.GroupedSoftmax(WIDTH, output.frequency_groups(counts, 180))
    sampler = output.LogUniform(vocabulary)

    def learn(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def call() -> None:
            loss().backward()
            hidden.grad = weight.grad = None

        return call

    def full_sample() -> Tensor:
        with torch.no_grad():
            return torch.multinomial(functional.linear(hidden, weight).softmax(-1), 1)

    def full_nucleus() -> Tensor:
        with torch.no_grad():
            values, order = functional.linear(hidden, weight).softmax(-1).sort(-1, descending=True)
            values = values.masked_fill(values.cumsum(-1) - values >= 0.9, 0.0)
            return order.gather(-1, torch.multinomial(values, 1))

    def full_best() -> Tensor:
        with torch.no_grad():
            return functional.linear(hidden, weight).log_softmax(-1).topk(10).values

    gaps = {
        "adaptive": (ours(hidden, ranks) - theirs(hidden, ranks).loss).abs().item(),
        "10 best": (output.top_k(hidden, weight, 10).log_prob - full_best()).abs().max().item(),
    }
    turns: dict[str, Callable[[], object]] = {
        "full loss, eager": learn(lambda: peers.eager(hidden, weight, ranks)),
        f"full loss, {OURS}": learn(lambda: output.linear_cross_entropy(hidden, weight, ranks)),
        "adaptive, torch": learn(lambda: theirs(hidden, ranks).loss),
        f"adaptive, {OURS}": learn(lambda: ours(hidden, ranks)),
        "180 groups": learn(lambda: groups(hidden, ranks)),
        "Huffman tree": learn(lambda: tree(hidden, ranks)),
        "sampled, 1000": learn(lambda: output.sampled_softmax(hidden, weight, ranks, sampler, 1000)),
        "NCE, 1000": learn(lambda: output.nce(hidden, weight, ranks, sampler, 1000)),
        "10 best, eager": full_best,
        f"10 best, {OURS}": lambda: output.top_k(hidden, weight, 10),
        "sample, eager": full_sample,
        f"sample, {OURS}": lambda: output.sample(hidden, weight),
        "top-p 0.9, eager sort": full_nucleus,
        f"top-p 0.9, {OURS}": lambda: output.sample(hidden, weight, top_p=0.9),
    }
    print(f"\nother heads: float32, vocabulary {vocabulary:,}, {TOKENS} tokens, width {WIDTH}")
    print(f"{'':26}{'seconds':>9}{'CPU s':>8}{'MiB':>8}")
    for name, call in turns.items():
        call()
        give_memory_back()
        peak = peak_of(call)[0]
        clock, cpu = timed(call, repeat)
        print(f"{name:26}{clock:9.3f}{cpu:8.3f}{peak / 2**20:8.0f}", flush=True)
    for name, gap in gaps.items():
        print(f"{name}: largest difference from PyTorch {gap:.1g}")
        held &= gap < 1e-4
    return held


def main() -> int:
    """1 where a gate failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smaller vocabulary, fewer calls, nothing compiled")
    parser.add_argument("--repeat", type=int, help="calls for the time; the best counts (default 5, quick 2)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--vocabulary", type=int, nargs="+", help=f"sizes (default {VOCABULARIES})")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.repeat = arguments.repeat or (2 if arguments.quick else 5)
    arguments.device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(arguments.threads)
    vocabularies = arguments.vocabulary or (VOCABULARIES[:1] if arguments.quick else VOCABULARIES)
    if arguments.one:
        dtype = getattr(torch, arguments.dtype[0])
        errors = ":" not in arguments.one
        print(json.dumps(one(arguments.one, vocabularies[0], dtype, arguments.repeat, errors)))
        return 0
    missing = compiler_missing(arguments.device)
    arguments.compile = not arguments.quick and not missing
    print(f"torch {torch.__version__}, {arguments.device}, {arguments.threads} threads")
    if missing:
        print(f"Nothing is compiled: {missing}.")
    for name in peers.GPU_PEERS:
        if how := peers.absent(name, arguments.device):
            print(how)
    held = True
    for vocabulary in vocabularies:
        for dtype in arguments.dtype:
            held &= table(vocabulary, dtype, arguments)
    held &= heads(arguments.repeat)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())

"""Attention over long sequences with every map, on a CPU, beside PyTorch's fused softmax, all in one run.

Forward and backward of `dot_product_attention` with 8 heads of width 64, each in a process of its own, the best of
several turns. The gate: outputs and gradients against the plain formula in float64, at 256 words; where they are too
far away the row says FAILED and the exit code is 1. A matrix of all queries by all keys is what the last column
compares the memory with.
"""

import argparse
import multiprocessing
import sys

import torch
from torch import Tensor

from benchmarks.peak import peak_of
from softplace import maps
from softplace.attention import dot_product_attention, functions

MAPS = ("softmax", "softmax1", "sparsemax", "entmax15", "sigmoid_normalised")
HEADS, WIDTH, ALLOWED = 8, 64, 2e-5


def parts(length: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Queries, keys and values, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(1, HEADS, length, WIDTH, generator=generator).to(dtype) for _ in range(3)]
    return [each.requires_grad_() for each in drawn]


def error(name: str) -> float:
    """The largest error of an output or a gradient, relative to the largest entry, block by block against float64."""
    functions.ROOM = HEADS * 256 * 100  # blocks of 100 queries
    made, leaves = [], (parts(256), parts(256, torch.float64))
    for query, key, value in leaves:
        if query.dtype == torch.float32:
            output = dot_product_attention(query, key, value, map=name)
        else:
            output = maps.get(name)(query @ key.mT / WIDTH**0.5, dim=-1) @ value
        made.append([output, *torch.autograd.grad(output.square().sum(), (query, key, value))])
    pairs = zip(*made, strict=True)
    return max(float(((one.double() - other).abs().max() / other.abs().max()).detach()) for one, other in pairs)


def run(name: str, length: int, threads: int, repeat: int) -> tuple[float, float]:
    """Seconds of the best turn, and MB that were added at the peak of one."""
    torch.set_num_threads(threads)
    leaves = parts(length)

    def step() -> None:
        dot_product_attention(*leaves, map=name).sum().backward()

    for each in leaves:
        each.grad = torch.zeros_like(each)
    dot_product_attention(*parts(64), map=name).sum().backward()  # compiles
    turns = [peak_of(step) for _ in range(repeat)]
    return min(seconds for _, seconds in turns), turns[0][0] / 1e6


def main() -> int:
    """1 where a gate failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--repeat", type=int, help="turns of each; the best counts (default 5, quick 2)")
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    arguments = parser.parse_args()
    repeat = arguments.repeat or (2 if arguments.quick else 5)
    failed = False
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for length in (512, 4096):
            print(f"\n{length} words, {HEADS} heads of width {WIDTH}, float32, forward and backward")
            print(f"{'':20}{'ms':>9}{'of softmax':>12}{'peak MB':>9}{'of a matrix':>13}{'error':>9}")
            softmax = 0.0
            for name in MAPS:
                wrong = pool.apply(error, (name,))
                if not wrong < ALLOWED:
                    print(f"{name:20}FAILED: error {wrong:.0e}, allowed {ALLOWED:.0e}")
                    failed = True
                    continue
                seconds, size = pool.apply(run, (name, length, arguments.threads[0], repeat))
                softmax = softmax or seconds
                matrix = HEADS * length**2 * 4 / 1e6
                line = f"{name:20}{1e3 * seconds:9.1f}{seconds / softmax:11.2f}x{size:9.0f}{size / matrix:13.2f}"
                print(f"{line}{wrong:9.0e}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""A mixture of experts against loops over its experts and a dense layer of equal FLOPs, on one thread, all in one run.

Forward and backward, gradients of inputs and parameters, of 64 experts of which each token sees 2. The gate: outputs
and gradients of 256 tokens against a loop in float64; where they are too far away the row says FAILED and the exit code
is 1. Rows:

- softplace: `MixtureOfExperts`.
- loop of modules: two `nn.Linear` per expert, `index_add_` of each expert's tokens, as transformers had it up to 4.
- loop, stacked: the same over slices of stacked weights, as the plain path of transformers 5 (one turn: the gradient
  of each slice is as large as all experts).
- dense: one network of two layers with as many FLOPs, which every token sees.

The seconds are of the processor, which other programs disturb little, the best of several turns that alternate. "Of the
peak" is the share of the fastest product of square matrices. The second table has an allocator that keeps what was
freed (glibc's, by MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_, as tcmalloc and jemalloc do): as it comes, glibc
gives every block above 32 MB back, and each gradient of the stacked weights costs the page faults of fresh memory.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from softplace.latent.experts_module import MixtureOfExperts

EXPERTS, TOP, WIDTH, HIDDEN, TOKENS = 64, 2, 512, 1024, 4096
FLOPS = 12 * TOKENS * TOP * WIDTH * HIDDEN  # of the experts: two products, and twice that backwards
ALLOWED = {torch.float32: 2e-5, torch.bfloat16: 0.03}
KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(1 << 33), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
Net = Callable[[Tensor], Tensor]


def linear(weight: Tensor) -> nn.Linear:
    """A layer without a bias that has this weight."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    made.weight = nn.Parameter(weight.detach().clone())
    return made


class Loop(nn.Module):
    """The experts of a mixture one after the other."""

    def __init__(self, net: MixtureOfExperts, stacked: bool) -> None:
        super().__init__()
        self.gate = nn.Parameter(net.gate.detach().clone())
        for name, weight in (("up", net.up), ("down", net.get_parameter("down"))):
            parts = nn.ModuleList(linear(each) for each in weight)
            setattr(self, name, nn.Parameter(weight.detach().clone()) if stacked else parts)
        self.stacked = stacked

    def forward(self, tokens: Tensor) -> Tensor:
        """(T, D) to (T, D)."""
        scores = functional.linear(
            tokens.to(torch.promote_types(tokens.dtype, torch.float32)),
            self.gate.to(torch.promote_types(tokens.dtype, torch.float32)),
        )
        weights, chosen = scores.softmax(-1).topk(TOP, -1)
        weights = (weights / weights.sum(-1, keepdim=True)).to(tokens.dtype)
        outputs = torch.zeros_like(tokens)
        sent = functional.one_hot(chosen, EXPERTS).permute(2, 1, 0)
        for expert in range(EXPERTS):
            place, token = torch.where(sent[expert])
            up, down = self.up[expert], self.down[expert]
            if self.stacked:
                said = functional.linear(functional.gelu(functional.linear(tokens[token], up)), down)
            else:
                said = down(functional.gelu(up(tokens[token])))
            outputs.index_add_(0, token, said * weights[token, place, None])
        return outputs


def contestants(dtype: torch.dtype) -> dict[str, Net]:
    """By name; the same parameters in the first three."""
    torch.manual_seed(0)
    net = MixtureOfExperts(WIDTH, experts=EXPERTS, hidden=HIDDEN, top=TOP, dtype=dtype)

    class Outputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, tokens: Tensor) -> Tensor:
            return net(tokens)[0]

    dense = nn.Sequential(
        nn.Linear(WIDTH, TOP * HIDDEN, bias=False, dtype=dtype),
        nn.GELU(),
        nn.Linear(TOP * HIDDEN, WIDTH, bias=False, dtype=dtype),
    )
    return {
        "softplace": Outputs(),
        "loop of modules": Loop(net, False),
        "loop, stacked": Loop(net, True),
        "dense": dense,
    }


def gradients(net: nn.Module) -> list[Tensor]:
    """Of gate, up and down, stacked by expert."""
    if isinstance(net, Loop) and not net.stacked:
        layers = [torch.stack([each.weight.grad for each in part]) for part in (net.up, net.down)]
        return [net.gate.grad, *layers]
    inner = net if isinstance(net, Loop) else net.net
    return [inner.gate.grad, inner.up.grad, inner.down.grad]


def error(net: nn.Module, reference: nn.Module, dtype: torch.dtype) -> float:
    """The largest error of an output or a gradient of 256 tokens, relative to the largest entry."""
    drawn, made = torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(1)).to(dtype), []
    for each, kind in ((net, dtype), (reference, torch.float64)):
        tokens = drawn.detach().to(kind).requires_grad_()
        outputs = each(tokens)
        outputs.square().sum().backward()
        made.append([outputs.detach(), tokens.grad, *gradients(each)])
        each.zero_grad()
    pairs = zip(*made, strict=True)
    return max(float((one.double() - other).abs().max() / other.abs().max()) for one, other in pairs)


def errors(dtype: torch.dtype) -> dict[str, float]:
    """Of every contestant that has one."""
    torch.set_num_threads(1)
    nets = contestants(dtype)
    first = nets["softplace"].net
    reference = Loop(first, False).double()
    return {name: error(net, reference, dtype) for name, net in nets.items() if name != "dense"}


def peak(dtype: torch.dtype, size: int = 2048) -> float:
    """FLOPs a second of the fastest of some products of square matrices."""
    one, other = torch.randn(2, size, size).to(dtype)
    turns = []
    for _ in range(5):
        start = time.process_time()
        one @ other
        turns.append(time.process_time() - start)
    return 2 * size**3 / min(turns)


def run(dtype: torch.dtype, repeat: int) -> tuple[dict[str, float], float, list[int]]:
    """Seconds of each contestant's best turn, the peak, and how many tokens the experts get at least and at most."""
    torch.set_num_threads(1)
    nets, best = contestants(dtype), {}
    generator = torch.Generator().manual_seed(2)
    tokens, slope = (torch.randn(TOKENS, WIDTH, generator=generator).to(dtype) for _ in range(2))
    highest = peak(dtype)
    for turn in range(1 + repeat):  # the first warms
        for name, net in nets.items():
            if name == "loop, stacked" and turn > 1:
                continue
            net.zero_grad()
            leaf = tokens.clone().requires_grad_()
            start = time.process_time()
            net(leaf).backward(slope)
            seconds = time.process_time() - start
            best[name] = min(seconds, best[name]) if turn > 1 else seconds
    counts = nets["softplace"].net(tokens)[1].counts
    return best, max(highest, peak(dtype)), [int(counts.min()), int(counts.max())]


def apply(kept: dict[str, str], call: Callable, *given: object) -> object:
    """What a call in a process of its own gives, with these variables in its environment."""
    before = {name: os.environ.get(name) for name in kept}
    os.environ.update(kept)
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(call, given)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def main() -> int:
    """1 where a gate failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--repeat", type=int, help="turns of each; the best counts (default 7, quick 2)")
    arguments = parser.parse_args()
    repeat, failed = arguments.repeat or (2 if arguments.quick else 7), False
    sizes = f"{EXPERTS} experts, top {TOP}, width {WIDTH}, hidden {HIDDEN}, {TOKENS} tokens, {FLOPS / 1e9:.1f} GFLOP"
    print(f"{sizes}, forward and backward, one thread")
    wrong = {dtype: apply({}, errors, dtype) for dtype in ALLOWED}
    for title, kept in (("memory as it comes", {}), ("memory kept", KEEPING)):
        for dtype, allowed in ALLOWED.items():
            best, highest, (least, most) = apply(kept, run, dtype, repeat)
            print(f"\n{str(dtype)[6:]}, {title}; {least} to {most} tokens an expert; peak {highest / 1e9:.0f} GFLOP/s")
            print(
                f"{'':18}{'ms':>8}{'tokens/s':>10}{'of softplace':>14}{'of dense':>10}{'of the peak':>13}{'error':>9}"
            )
            for name, seconds in best.items():
                found = wrong[dtype].get(name, 0.0)
                if not found <= allowed:
                    print(f"{name:18}FAILED: error {found:.0e}, allowed {allowed:.0e}")
                    failed = True
                    continue
                line = f"{name:18}{1e3 * seconds:8.0f}{TOKENS / seconds:10.0f}{best['softplace'] / seconds:13.2f}x"
                line += f"{best['dense'] / seconds:9.2f}x{FLOPS / seconds / highest:12.0%}"
                print(line + (f"{found:9.0e}" if name in wrong[dtype] else ""), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

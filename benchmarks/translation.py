"""Translators that learn and that translate, against others of the same sizes, on a CPU, all in one run.

Sentences are random words, of lengths like those of captions, in batches of like length of at most 4,096 positions.
Tables: target words per second of training (forward, backward, Adam; dropout 0.1, label smoothing 0.1); the same with
other maps in all attention; sentences per second of greedy search and of a beam of 5, all of 17 words, as a network of
random numbers says no end. All take turns; the best of the turns counts. The gate: our loss in bfloat16, and that of
our other path of attention, against float32; where they are too far away the row says FAILED and the exit code is 1.

"of products" is the share of the time that the products of the step would take at the rate of a product of 2,048
squared matrices in its dtype: what nobody can pass. The others come from a folder of their clones: `--peers`.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import translation_peers as peers
from benchmarks.translation_peers import Peer, Sizes
from softplace.attention import RNNSearch, Transformer, beam_search, greedy
from softplace.attention._loop import Cost
from softplace.attention.corpus import Batch, batch_of
from softplace.attention.text import BEGIN, END, PAD, batches, pad

SIZES = Sizes()
ROOM, STEPS, SENTENCES, TOGETHER = 4096, 17, 300, 100
MAPS = ("softmax", "softmax1", "sparsemax", "entmax15", "sigmoid_normalised", "relu_normalised")
ALLOWED = 2e-2
NETS = ("transformer", "rnnsearch")
Ours = Transformer | RNNSearch


def pairs(count: int) -> list[tuple[list[int], list[int]]]:
    """Sentences of random words: about 15 a side."""
    draw = torch.Generator().manual_seed(0)
    lengths = (15 + 4 * torch.randn(count, generator=draw)).round().clamp(4, 40).long()
    others = (lengths + 2 * torch.randn(count, generator=draw).round().long()).clamp(4, 42)

    def words(length: int) -> list[int]:
        return [*torch.randint(4, SIZES.words, (length,), generator=draw).tolist(), END]

    return [(words(one), words(other)) for one, other in zip(lengths.tolist(), others.tolist(), strict=True)]


def training_batches(count: int) -> list[Batch]:
    """So many, of all lengths."""
    known = pairs(3000)
    draw = torch.Generator().manual_seed(1)
    found = batches([(len(one), len(other)) for one, other in known], room=ROOM, generator=draw)
    return [batch_of([known[number] for number in numbers]) for numbers, _ in zip(found, range(count), strict=False)]


def ours(kind: str, map: str = "softmax", dropout: float = SIZES.dropout) -> Ours:  # noqa: A002 - the word of the field
    """Our net."""
    torch.manual_seed(0)
    words = {"source_words": SIZES.words, "target_words": SIZES.words}
    if kind == "transformer":
        return Transformer(
            **words, width=SIZES.width, heads=SIZES.heads, encoder_layers=SIZES.layers, decoder_layers=SIZES.layers,
            inner=SIZES.inner, dropout=dropout, tied="none", map=map,
        )  # fmt: skip
    return RNNSearch(**words, hidden=SIZES.width, embedding=SIZES.width, maxout=SIZES.width, dropout=dropout, map=map)


def our_peer(net: Ours, bfloat16: bool) -> Peer:
    """Our net as one of those that are timed."""
    cost = Cost(net, SIZES.smoothing)

    def loss(batch: Batch) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            total: Tensor = cost(batch)[0]
        return total

    return Peer(net, loss)


def step_of(peer: Peer, data: Sequence[Batch]) -> Callable[[], None]:
    """A pass over the batches."""
    optimizer = torch.optim.Adam(peer.module.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, fused=True)
    peer.module.train()

    def step() -> None:
        for batch in data:
            (peer.loss(batch) / 1000).backward()
            optimizer.step()
            optimizer.zero_grad()

    return step


def in_turns(calls: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """The best seconds of each call."""
    for call in calls.values():
        call()
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeat):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def rate_of(dtype: torch.dtype) -> float:
    """Multiplications and additions per second of a product of matrices."""
    one, other = torch.randn(2, 2048, 2048).to(dtype)
    return 2.0 * 2048**3 / in_turns({"": lambda: one @ other}, 5)[""]


def work_of(kind: str, data: Sequence[Batch]) -> float:
    """Multiplications and additions of the products of a pass, forward and backward, of words that are no padding."""
    d, inner, v = SIZES.width, SIZES.inner, SIZES.words
    total = 0.0
    for batch in data:
        s = float((batch.source != PAD).sum())
        t = float((batch.wanted != PAD).sum())
        mean_s, mean_t = s / len(batch.source), t / len(batch.source)
        if kind == "transformer":
            encoder = s * (4 * d * d + 2 * d * inner + 2 * d * mean_s)
            decoder = t * (6 * d * d + 2 * d * inner + 2 * d * (mean_t / 2 + mean_s)) + s * 2 * d * d
            total += SIZES.layers * (encoder + decoder) + t * d * v
        else:
            gru = 3 * d * 2 * d
            total += s * (2 * gru + 2 * d * d) + t * (3 * d * 4 * d + d * d + mean_s * 3 * d + 2 * d * 4 * d + d * v)
    return 6.0 * total  # a product is two operations; the backward pass has two of each


def gate(kind: str, data: Sequence[Batch]) -> float:
    """The largest relative error of the loss of a batch, in bfloat16 and by the plain path, against float32."""
    plain = our_peer(ours(kind, dropout=0.0), bfloat16=False).loss(data[0])
    made = [our_peer(ours(kind, dropout=0.0), bfloat16=True).loss(data[0])]
    return max(float((each - plain).abs() / plain) for each in made)


def report(name: str, speed: float, base: float | None, more: str = "") -> None:
    """A row."""
    ratio = "" if base is None else f"{speed / base:9.2f}x"
    print(f"  {name:34}{speed:9,.0f}{ratio:>10}{more}", flush=True)


def training_table(kind: str, others: dict[str, Peer], data: Sequence[Batch], repeat: int) -> bool:
    """Whether the gate held."""
    wrong = gate(kind, data)
    networks = {
        "ours, bfloat16": our_peer(ours(kind), bfloat16=True),
        "ours, float32": our_peer(ours(kind), bfloat16=False),
        **others,
    }
    words = float(sum((batch.wanted != PAD).sum() for batch in data))
    numbers = sum(each.numel() for each in ours(kind).parameters())
    print(f"\nTraining, {kind}: target words per second, {numbers:,} parameters")
    if not wrong < ALLOWED:
        print(f"  FAILED: the loss in bfloat16 is {wrong:.1e} away, allowed {ALLOWED:.0e}")
        return False
    best = in_turns({name: step_of(peer, data) for name, peer in networks.items()}, repeat)
    rates = {True: rate_of(torch.bfloat16), False: rate_of(torch.float32)}
    work = work_of(kind, data)
    base = words / best["Joey NMT"] if "Joey NMT" in best else None
    print(f"  {'':34}{'words/s':>9}{'of Joey':>10}{'of products':>13}")
    for name, seconds in best.items():
        share = work / rates["bfloat16" in name] / seconds
        report(name, words / seconds, base, f"{share:13.2f}")
    return True


def map_table(kind: str, data: Sequence[Batch], repeat: int) -> None:
    """What a map costs in all attention."""
    print(f"\nTraining, {kind}, bfloat16, by map: target words per second")
    peer = {name: our_peer(ours(kind, name), bfloat16=True) for name in MAPS}
    best = in_turns({name: step_of(each, data) for name, each in peer.items()}, repeat)
    words = float(sum((batch.wanted != PAD).sum() for batch in data))
    for name, seconds in best.items():
        report(name, words / seconds, words / best["softmax"])


def decoding_table(kind: str, others: dict[str, Peer], repeat: int) -> None:
    """Sentences per second."""
    known = sorted((one for one, _ in pairs(SENTENCES)), key=len)
    groups = [pad(known[first : first + TOGETHER]) for first in range(0, SENTENCES, TOGETHER)]
    net = ours(kind).eval()
    with torch.no_grad():
        net.output_bias[END] = -1e9
    half = ours(kind).eval()
    half.load_state_dict(net.state_dict())
    half = half.bfloat16()
    options = {"begin": BEGIN, "end": END, "longest": STEPS}
    print(f"\nTranslating, {kind}: sentences per second, {TOGETHER} of like length at a time, {STEPS} words each")
    for title, search, of_peer in (
        ("greedy", greedy, "greedy"),
        ("beam of 5", partial(beam_search, beam=5), "beam"),
    ):

        def all_of(translate: Callable[[Tensor, Tensor], object]) -> Callable[[], object]:
            return lambda: [translate(*group) for group in groups]

        calls = {
            "ours, float32": all_of(partial(search, net, **options)),  # type: ignore[arg-type]
            "ours, bfloat16": all_of(partial(search, half, **options)),  # type: ignore[arg-type]
        }
        for name, peer in others.items():
            peer.module.eval()
            calls[name] = all_of(getattr(peer, of_peer))
        best = in_turns(calls, repeat)
        base = SENTENCES / best["Joey NMT"] if "Joey NMT" in best else None
        print(f"  {title + ':':34}{'sent./s':>9}{'of Joey':>10}")
        for name, seconds in best.items():
            report(name, SENTENCES / seconds, base)


def main() -> int:
    """1 where a gate failed."""
    named = os.environ.get("SOFTPLACE_PEERS")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer turns and batches")
    parser.add_argument("--repeat", type=int, help="turns of each; the best counts (default 5, quick 2)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--nets", nargs="+", choices=NETS, default=NETS)
    parser.add_argument(
        "--peers", type=Path, default=Path(named) if named else None,
        help="folder of clones " + ", ".join(f"{name} ({where})" for name, where in peers.CLONES.items()),
    )  # fmt: skip
    arguments = parser.parse_args()
    if arguments.peers is not None and not arguments.peers.is_dir():
        parser.error(f"--peers: expected a folder, got {arguments.peers}.")
    repeat = arguments.repeat or (2 if arguments.quick else 5)
    modules = peers.load(arguments.peers)
    good = True
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        print(f"\n{threads} thread{'s' * (threads > 1)}, {torch.__version__}")
        data = training_batches(2 if arguments.quick else 6)
        for kind in arguments.nets:
            others: dict[str, Peer] = {}
            if "joeynmt.model" in modules:
                others["Joey NMT"] = peers.joey(modules, kind, SIZES, STEPS)
            decoders = dict(others)
            if kind == "transformer":
                if "annotated-transformer" in modules:
                    others["Annotated Transformer"] = peers.annotated(modules, SIZES)
                others["torch.nn.Transformer"] = peers.torchs(SIZES)
                if (made := peers.ctranslate2(replace(SIZES, dropout=0.0), STEPS, threads)) is not None:
                    decoders["CTranslate2, float32"] = made
            good &= training_table(kind, others, data, repeat)
            map_table(kind, data, repeat)
            with torch.inference_mode():
                decoding_table(kind, decoders, repeat)
    for name, where in peers.CLONES.items():
        if not any(each.startswith(name) for each in modules):
            print(f"\n{name} is absent: clone {where} into a folder, and give it with --peers.")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())

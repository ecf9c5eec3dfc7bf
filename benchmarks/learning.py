"""`python -m benchmarks.learning`: what the memories learn, from fixed seeds, as a table and as curves.

Every run is `softplace.memory.train` in a folder of its own, so that a run that was stopped goes on, and one that is
done is only read. Minutes each on one core. The table and the curves of docs/memory.md were made so.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from softplace.memory import train
from softplace.memory.training import TrainingResult

PANEL_WIDTH, PANEL_HEIGHT, COLUMNS = 300, 190, 3
LEFT, TOP, RIGHT, BOTTOM = 46, 30, 12, 34
COLOURS = ("#1f6fb4", "#d1603d", "#3c8d5a", "#8356a5", "#7a6a53")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training: arguments of `train`, and what the paper's figure shows, in bits per sequence."""

    title: str
    arguments: Mapping[str, Any]
    paper: str
    seeds: int = 3


ADAM = {"optimizer": "adam", "learning_rate": 1e-3, "batch": 16}
FORWARD = {"controller": "feedforward"}


def _run(title: str, model: str, task: str, sequences: int, paper: str, seeds: int = 2, **more: Any) -> Run:
    arguments = {"model": model, "task": task, "sequences": sequences, **more}
    return Run(title=title, arguments=arguments, paper=paper, seeds=seeds)


RUNS = {
    "ntm-copy": _run("NTM, copy", "ntm", "copy", 40_000, "about 0 well before 100,000", seeds=3),
    "ntm-repeat-copy": _run(
        "NTM, repeat copy", "ntm", "repeat-copy", 300_000, "about 0 by 50,000 to 100,000", **ADAM, **FORWARD
    ),
    "ntm-recall": _run(
        "NTM, associative recall",
        "ntm",
        "associative-recall",
        60_000,
        "about 0 within 30,000; below 1 at 15 items",
        **FORWARD,
    ),
    "ntm-n-grams": _run("NTM, n-grams", "ntm", "n-grams", 100_000, "0.5 to 1 above the optimum", **ADAM),
    "ntm-sort": _run("NTM, priority sort", "ntm", "priority-sort", 100_000, "about 20 at 1,000,000", seeds=1, **ADAM),
    "dnc-copy": _run("DNC, copy", "dnc", "copy", 64_000, "no figure", **ADAM),
    "dnc-repeat-copy": _run("DNC, repeat copy", "dnc", "repeat-copy", 100_000, "no figure", seeds=1, **ADAM),
}


def main() -> int:
    """0, or 2 for a run that is not known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help=f"of {', '.join(RUNS)}; all when none is named")
    parser.add_argument("--out", type=Path, default=Path("trainings/learning"), help="default: trainings/learning")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.runs if name not in RUNS]
    if unknown:
        print(f"Unknown run {unknown[0]!r}. Known: {', '.join(RUNS)}.", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    panels = []
    for name in arguments.runs or RUNS:
        run = RUNS[name]
        results = [
            train(out=arguments.out / f"{name}-{seed}", seed=seed, device="cpu", **run.arguments)
            for seed in range(run.seeds)
        ]
        print(*rows(run, results), sep="\n", flush=True)
        panels.append(panel(run, results))
    path = arguments.out / "curves.svg"
    path.write_text(figure(panels), encoding="utf-8")
    print(f"Curves: {path}")
    return 0


def rows(run: Run, results: Sequence[TrainingResult]) -> list[str]:
    """A line of the table for every difficulty: bits per sequence of each seed, share of wrong bits, the paper's."""
    lines = []
    for number, first in enumerate(results[0].evaluations):
        same = [result.evaluations[number].measures for result in results]
        bits = " / ".join(f"{each['bits'].mean:.3g}" for each in same)
        name = "wrong share" if "wrong share" in same[0] else "above optimum"
        mean = fmean(each[name].mean for each in same)
        wrong = f"{mean:.2%}" if name == "wrong share" else f"{mean:.2f} bits above the optimum"
        about = (run.title, f"{run.arguments['sequences']:,}", run.paper) if number == 0 else ("", "", "")
        lines.append(f"| {about[0]} | {about[1]} | {first.label} | {bits} | {wrong} | {about[2]} |")
    return lines


def panel(run: Run, results: Sequence[TrainingResult]) -> str:
    """Bits per sequence over thousands of sequences, a line for every seed."""
    curves = [smooth([(row["sequences"], row["loss"]) for row in result.curve]) for result in results]
    most = max(sequences for curve in curves for sequences, _ in curve)
    bits = [max(each, 1e-5) for curve in curves for _, each in curve]
    ticks = scale(min(bits), max(bits))
    form = math.log10 if ticks[0] * 10 <= ticks[-1] else float
    low, high = form(ticks[0]), form(ticks[-1])
    width, height = PANEL_WIDTH - LEFT - RIGHT, PANEL_HEIGHT - TOP - BOTTOM

    def x(sequences: float) -> float:
        return LEFT + width * sequences / most

    def y(each: float) -> float:
        return TOP + height * (high - form(max(each, 1e-5))) / (high - low)

    parts = [f'<text x="{LEFT}" y="18" class="title">{run.title}</text>']
    for tick in ticks:
        at = y(tick)
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + width}" y1="{at:.1f}" y2="{at:.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for share in (0.0, 0.5, 1.0):
        thousands = f"{most * share / 1000:,.0f}k"
        parts.append(f'<text x="{x(most * share):.1f}" y="{TOP + height + 18}" text-anchor="middle">{thousands}</text>')
    for curve, colour in zip(curves, COLOURS, strict=False):
        points = " ".join(f"{x(sequences):.1f},{y(each):.1f}" for sequences, each in curve)
        parts.append(f'<polyline points="{points}" stroke="{colour}" class="curve"/>')
    return "".join(parts)


def scale(low: float, high: float) -> list[float]:
    """Where the lines of the grid are: at powers of ten, or at tens where all lies within one."""
    if low * 10 <= high:
        return [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    step = 10.0 * math.ceil((high - low) / 50)
    start, end = math.floor(low / step), math.ceil(high / step)
    return [step * number for number in range(start, max(end, start + 1) + 1)]


def smooth(curve: Sequence[tuple[float, float]], points: int = 80) -> list[tuple[float, float]]:
    """At most so many points: means of neighbours."""
    size = -(-len(curve) // points)
    groups = [curve[start : start + size] for start in range(0, len(curve), size)]
    return [(group[-1][0], fmean(each for _, each in group)) for group in groups]


def figure(panels: Sequence[str]) -> str:
    """All panels in one SVG file."""
    lines = -(-len(panels) // COLUMNS)
    style = (
        "text{font:11px system-ui,sans-serif;fill:#444}.title{font-weight:600;font-size:12px;fill:#222}"
        ".grid{stroke:#ddd}.curve{fill:none;stroke-width:1.4}"
    )
    placed = "".join(
        f'<g transform="translate({number % COLUMNS * PANEL_WIDTH},{number // COLUMNS * PANEL_HEIGHT})">{each}</g>'
        for number, each in enumerate(panels)
    )
    wide, high = min(COLUMNS, len(panels)) * PANEL_WIDTH, lines * PANEL_HEIGHT
    size = f'width="{wide}" height="{high}" viewBox="0 0 {wide} {high}"'
    background = '<rect width="100%" height="100%" fill="#fff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style>{background}{placed}</svg>\n'


if __name__ == "__main__":
    sys.exit(main())

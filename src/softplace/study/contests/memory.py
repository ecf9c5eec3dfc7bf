"""The memory place: the same Neural Turing Machine with one map or another in its look-up by content.

Axis legend: M members, S different seeds among them, T time, B batch, I inputs, O outputs, K heads, N slots.

Tasks: copy, which needs an order of slots and no content; associative recall, which needs both. Every machine has the
same architecture, initial draw and sequences per seed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from softplace.memory import tasks
from softplace.memory.lstm import LSTMBaseline
from softplace.memory.members import together
from softplace.memory.ntm import NTM
from softplace.memory.tasks import Episode
from softplace.study.contest import (
    HALF_DECADES,
    Arm,
    Contest,
    Curve,
    Measurement,
    Members,
    Metric,
    Options,
    Task,
    derive,
    generator,
)
from softplace.study.contests import memory_report
from softplace.study.contests._learning import check_arm, first_below, mean_over_budget, own_settings
from softplace.study.contests.memory_arms import ARMS, chosen_arms
from softplace.study.optimizer import Adam
from softplace.study.store import JSON, Role

THRESHOLD = 1.0  # bits per sequence: the error at which a task counts as learned
SOLVED = 0.05  # bits per sequence at which a member needs no more steps, if it has them at two evaluations together
SMALL = 1e-3  # a slot with a smaller weight counts as left out
_BLOCK = 256  # steps whose sequences are drawn at once
_VALIDATION, _TEST, _TRACED = 16, 64, 16  # sequences
DRAWN = ("weights", "gates", "erase", "memory", "outputs")  # what a figure of the heads reads of a trace
_SIZES = {"copy": "length", "associative-recall": "items"}
"""The tasks, and what makes a sequence of each long."""


class Sequences:
    """Fresh training sequences, a stream per seed; all sequences of a step are equally long.

    How long is drawn per step, the same for all seeds, so that no step is spent on padding.
    """

    def __init__(self, task: "Learn", seeds: Sequence[int], device: torch.device) -> None:
        self.task, self.device = task, device
        self.unique = sorted(set(seeds))
        self._block = -1
        self._episodes: list[Episode] = []
        self._held_out: dict[tuple[str, int, int], Episode] = {}

    def of(self, seeds: Tensor) -> Tensor:
        """Where the stream of each member's seed is, (M,)."""
        return torch.searchsorted(torch.tensor(self.unique, device=seeds.device), seeds)

    def at(self, step: int, streams: Tensor) -> Episode:
        """What the members train on at a step: an episode with a leading axis of members."""
        block, place = divmod(step, _BLOCK)
        if block != self._block:
            self._episodes, self._block = self._draw(block), block
        return Episode(*(each[streams] for each in self._episodes[place]))

    def _draw(self, block: int) -> list[Episode]:
        """The episodes of a block's steps, each stacked over the seeds."""
        low, high = self.task.training
        sizes = torch.randint(low, high + 1, (_BLOCK,), generator=generator(0, "sizes", block)).tolist()
        found: dict[int, list[Episode]] = {}
        for size in sorted(set(sizes)):
            whole = self._sample(size, sizes.count(size) * self.task.batch, "sequences", block)
            parts = [torch.split(part, self.task.batch, -1 if part.ndim == 2 else 2) for part in whole]
            found[size] = [Episode(*each) for each in zip(*parts, strict=True)]
        return [found[size].pop() for size in sizes]

    def held_out(self, purpose: str, size: int, count: int, streams: Tensor) -> Episode:
        """New sequences for a purpose, the same at every call: an episode with a leading axis of members."""
        key = (purpose, size, count)
        if key not in self._held_out:
            self._held_out[key] = self._sample(size, count, purpose)
        return Episode(*(each[streams] for each in self._held_out[key]))

    def _sample(self, size: int, count: int, *labels: str | int) -> Episode:
        """Every seed's own sequences of one size, stacked: inputs are (S, T, count, I)."""
        drawn = [
            self.task.episodes.sample(count, generator(seed, *labels, size), **{self.task.size: size})
            for seed in self.unique
        ]
        return Episode(*(torch.stack(part).to(self.device) for part in zip(*drawn, strict=True)))


class Machines(Members):
    """Networks of one arm, stacked, each with the stream of sequences of its seed."""

    def __init__(self, task: "Learn", arm: Arm, seeds: Sequence[int], device: torch.device) -> None:
        self.task, self.arm, self.device = task, arm, device
        self.net = task.net(arm).requires_grad_(False).to(device)
        fixed = _fixed(arm)
        drawn = [_parameters(task, arm, seed) for seed in seeds]
        self.parameters = {
            name: torch.stack([each[name] for each in drawn]).to(device) for name in drawn[0] if name not in fixed
        }
        self.buffers = {}
        self.seeds = torch.tensor(seeds, device=device)
        self.sequences = Sequences(task, seeds, device)
        self.streams = self.sequences.of(self.seeds)

    @property
    def addresses(self) -> bool:
        """Whether there is a memory to address."""
        return not isinstance(self.net, LSTMBaseline)

    def select(self, keep: Tensor) -> Self:
        chosen = super().select(keep)
        chosen.seeds, chosen.streams = self.seeds[keep], self.streams[keep]
        return chosen

    def batch(self, step: int) -> tuple[Tensor, ...]:
        return tuple(self.sequences.at(step, self.streams))

    def losses(self, *batch: Tensor) -> Tensor:
        """Bits per sequence of every member, the mean of its batch, (M,)."""
        episode = Episode(*batch)
        outputs, _ = together(self.net, self.parameters, episode.inputs)
        bits = self.task.episodes.loss(_beside(outputs), Episode(*map(_beside, episode)))
        return bits.view(len(outputs), -1).mean(1)

    def _run(self, episode: Episode) -> tuple[Tensor, Tensor, Tensor]:
        """Every member on its own episode: bits per sequence, share of wrong bits, and the heads' last weights.

        (M,), (M,), (M, B, K, N); without a memory the last has K = N = 0.
        """
        outputs, state = together(self.net, self.parameters, episode.inputs)
        errors = self.task.episodes.errors(_beside(outputs), Episode(*map(_beside, episode)))
        bits, wrong = (errors[name].view(len(outputs), -1).mean(1) for name in ("bits", "wrong share"))
        return bits, wrong, state.weights if self.addresses else outputs.new_zeros(len(outputs), 1, 0, 0)

    def evaluate(self) -> dict[str, Tensor]:
        """Bits at the longest training sequences (at most those of a guess), and how the last reads spread."""
        bits, _, weights = self._run(
            self.sequences.held_out("validation", self.task.training[1], _VALIDATION, self.streams)
        )
        columns = {"bits": bits.clamp(max=self.task.chance).where(bits.isfinite(), math.nan)}
        if self.addresses:
            reads = weights[:, :, : self.task.reads]
            columns["entropy"], columns["sparsity"] = entropy(reads).mean((1, 2)), left_out(reads).mean((1, 2))
        return columns

    def reached(self, curves: Sequence[Curve]) -> list[bool]:
        return [len(curve["bits"]) > 1 and max(curve["bits"][-2:]) <= SOLVED for curve in curves]

    def measure(self, role: Role, curves: Sequence[Curve]) -> list[Measurement]:
        budget = self.task.steps
        columns = {"mean_bits": [mean_over_budget(curve, "bits", budget) for curve in curves]}
        figures: list[dict[str, JSON]] = [{} for _ in curves]
        if role == "judge":
            columns["steps_to_learn"] = [first_below(curve, "bits", THRESHOLD, budget) for curve in curves]
            columns["solved"] = [float(curve["bits"][-1] < THRESHOLD) for curve in curves]
            tested = {size: self.sequences.held_out("test", size, _TEST, self.streams) for size in self.task.tested}
            wrong = {size: self._run(episode)[1].tolist() for size, episode in tested.items()}
            within, beyond = self.task.training[1], self.task.beyond
            columns["error"], columns["error_beyond"] = wrong[within], wrong[beyond]
            for member, figure in enumerate(figures):
                figure["errors"] = [[size, _rounded(share[member])] for size, share in wrong.items()]
            if self.addresses:
                found = [self._addressing(member) for member in range(len(curves))]
                for name in ("entropy", "sparsity"):
                    columns[name] = [each[0][name] for each in found]
                figures = [figure | each[1] for figure, each in zip(figures, found, strict=True)]
        return [
            Measurement(metrics={name: values[member] for name, values in columns.items()}, probes=figures[member])
            for member in range(len(curves))
        ]

    def _addressing(self, member: int) -> tuple[dict[str, float], dict[str, JSON]]:
        """How one member addresses its memory, step by step, on sequences that are the same for all members."""
        episode = self.task.traced(_TRACED)
        net = self.task.net(self.arm)
        net.load_state_dict({name: value[member].cpu() for name, value in self.parameters.items()}, strict=False)
        with torch.no_grad():
            trace = net.trace(episode.inputs)
        weights = trace.weights.double()  # (T, B, K, N)
        by_step = entropy(weights).mean(1)  # (T, K)
        answers = weights[:, :, : self.task.reads][episode.mask]  # (answers, R, N)
        metrics = {"entropy": float(entropy(answers).mean()), "sparsity": float(left_out(answers).mean())}
        kept = {name: _rounded(getattr(trace, name)[:, :1]) for name in DRAWN}
        return metrics, {"entropy_steps": _rounded(by_step), "trace": kept}


def _beside(values: Tensor) -> Tensor:
    """The members' sequences beside one another: (M, T, B, ...) as (T, M B, ...); lengths (M, B) as (M B,)."""
    return values.flatten() if values.ndim == 2 else values.transpose(0, 1).flatten(1, 2)


def entropy(weights: Tensor) -> Tensor:
    """Entropy of weights over their sum along the last axis, in bits: `-sum p log2 p`, (..., N) -> (...).

    0: one slot. `log2 N`: all alike. Weights that are all 0 address nothing, and count as all alike.
    """
    total = weights.sum(-1, keepdim=True)
    shares = torch.where(total > 0, weights / torch.where(total > 0, total, 1.0), 1.0 / max(1, weights.shape[-1]))
    nats: Tensor = torch.special.entr(shares).sum(-1)
    return nats / math.log(2)


def left_out(weights: Tensor) -> Tensor:
    """The share of slots with (nearly) no weight, (..., N) -> (...)."""
    return (weights < SMALL).to(weights.dtype).mean(-1)


def _fixed(arm: Arm) -> tuple[str, ...]:
    """Parameters that stay as they start: heads that start everywhere may not learn to start somewhere."""
    return ("initial_weights",) if arm.options.get("start") == "everywhere" else ()


def _parameters(task: "Learn", arm: Arm, seed: int) -> dict[str, Tensor]:
    """The initial parameters of a seed: a network's own draw."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "parameters"))
        return {name: value.detach() for name, value in task.net(arm).named_parameters()}


def _rounded(values: Tensor | float) -> JSON:
    """Three significant digits, as a figure shows them."""
    if not isinstance(values, Tensor):
        return float(f"{values:.3g}")
    flat = [float(f"{value:.3g}") for value in values.double().flatten().tolist()]
    return torch.tensor(flat, dtype=torch.float64).reshape(values.shape).tolist()


@dataclass(frozen=True, kw_only=True)
class Learn(Task):
    """Learn copy or associative recall (Graves et al. 2014, sections 4.1 and 4.3) from fresh sequences.

    Args:
        kind: "copy" or "associative-recall".
        training: The shortest and the longest training sequence: vectors to copy, or items.
        beyond: The size beyond training that is judged.
        tested: The sizes that the error is shown for, `training[1]` and `beyond` among them.
        bits, vectors: The width of a vector, and (associative recall) the vectors of an item.
        controller, hidden_size, slots, width: Of the machine. The LSTM gets as many hidden units as make it as large.
        batch: Sequences per step.
    """

    kind: str
    training: tuple[int, int]
    beyond: int
    tested: tuple[int, ...]
    bits: int
    vectors: int = 1
    controller: Literal["lstm", "feedforward"] = "feedforward"
    hidden_size: int
    slots: int
    width: int
    batch: int = 8

    @cached_property
    def episodes(self) -> tasks.Task:
        """The generator of the sequences."""
        items = {"vectors": self.vectors} if self.kind == "associative-recall" else {}
        return tasks.get(self.kind, bits=self.bits, equal_lengths=True, **items, **{self.size: self.training})

    @property
    def size(self) -> str:
        """What makes a sequence long, as the generator calls it."""
        return _SIZES[self.kind]

    @property
    def reads(self) -> int:
        """R, read heads; they come before the write heads."""
        return 1

    @property
    def chance(self) -> float:
        """Bits per sequence of a network that answers 1/2 everywhere, at the longest training sequence."""
        return float(self.bits * (self.training[1] if self.kind == "copy" else self.vectors))

    @property
    def validation(self) -> Metric:
        label = f"bits per sequence at the longest training {self.size}, mean over the budget"
        return Metric(name="mean_bits", label=label, higher_is_better=False, worst=self.chance)

    @property
    def metrics(self) -> Sequence[Metric]:
        units = "vectors" if self.kind == "copy" else "items"
        most, longest = math.log2(self.slots), f"{self.training[1]} {units}"
        steps = f"steps to {THRESHOLD:g} bit per sequence"
        return (
            self.validation,
            Metric(name="steps_to_learn", label=steps, higher_is_better=False, worst=float(self.steps)),
            Metric(name="solved", label="share of networks that solve it", higher_is_better=True, worst=0.0),
            Metric(name="error", label=f"wrong bits at {longest}", higher_is_better=False, worst=0.5),
            Metric(
                name="error_beyond",
                label=f"wrong bits at {self.beyond} {units}, beyond training",
                higher_is_better=False,
                worst=0.5,
            ),
            Metric(name="entropy", label="entropy of the read weights (bits)", higher_is_better=False, worst=most),
            Metric(name="sparsity", label="slots left out of a read", higher_is_better=True, worst=0.0),
        )

    def settings(self) -> Mapping[str, JSON]:
        return own_settings(self)

    def net(self, arm: Arm) -> Any:
        """A network of an arm: its parameters are drawn from PyTorch's global generator."""
        inputs, outputs = self.episodes.input_size, self.episodes.output_size
        if arm.options.get("model") == "lstm":
            return LSTMBaseline(inputs, outputs, hidden_size=self.lstm_size)
        everywhere = arm.options.get("start") == "everywhere"
        return NTM(
            inputs,
            outputs,
            hidden_size=self.hidden_size,
            slots=self.slots,
            width=self.width,
            map=arm.map,
            controller=self.controller,
            initial_weights="uniform" if everywhere else "one-slot",
        )

    @cached_property
    def lstm_size(self) -> int:
        """The fewest hidden units with which the LSTM has no fewer parameters than the machine."""
        inputs, outputs = self.episodes.input_size, self.episodes.output_size
        with torch.random.fork_rng(devices=[]):  # these networks are counted only, and may use up no one's numbers
            machine = parameter_count(self.net(ARMS[0]))
            return next(
                size
                for size in range(1, machine)
                if parameter_count(LSTMBaseline(inputs, outputs, hidden_size=size)) >= machine
            )

    def traced(self, count: int) -> Episode:
        """The sequences, as long as the longest of training, that every member is looked at on."""
        return self.episodes.sample(count, generator(0, "traced"), **{self.size: self.training[1]})

    def members(self, arm: Arm, seeds: Sequence[int], device: torch.device) -> Members:
        return Machines(self, arm, seeds, device)


def parameter_count(net: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(each.numel() for each in net.parameters())


COPY: dict[str, dict[str, Any]] = {
    "quick": {
        "training": (4, 8), "beyond": 16, "tested": (2, 4, 8, 12, 16), "bits": 4,
        "hidden_size": 24, "slots": 16, "width": 8, "steps": 500, "evaluate_every": 25,
    },
    "full": {
        "training": (1, 20), "beyond": 40, "tested": (5, 10, 20, 30, 40, 80, 120), "bits": 8,
        "hidden_size": 100, "slots": 128, "width": 20, "steps": 20_000, "evaluate_every": 200,
    },
}  # fmt: skip
RECALL: dict[str, dict[str, Any]] = {
    "quick": {
        "training": (3, 3), "beyond": 5, "tested": (2, 3, 4, 5), "bits": 5, "vectors": 1,
        "hidden_size": 32, "slots": 16, "width": 10, "steps": 1150, "evaluate_every": 50,
    },
    "full": {
        "training": (2, 6), "beyond": 10, "tested": (2, 4, 6, 8, 10, 12, 15), "bits": 6, "vectors": 3,
        "hidden_size": 100, "slots": 128, "width": 20, "steps": 20_000, "evaluate_every": 200,
    },
}  # fmt: skip
"""Sizes by preset: small enough for minutes, and near those of the feed-forward machine of Graves et al. 2014 (sections
4.1 and 4.3, table 1), whose batches are of one, and whose associative recall has 4 heads and 256 hidden units."""


def contest(options: Options) -> Contest:
    """The contest of the memory place."""
    arms = chosen_arms(options.maps)
    quick = options.preset == "quick"
    about: dict[str, Any] = {
        "optimizer": Adam(clip=10.0),
        "largest_fleet": 60,  # a step costs a fleet about 2 ms before its members cost anything
    }
    rates = (HALF_DECADES[2:6], HALF_DECADES[:6]) if quick else (HALF_DECADES[:4],) * 2

    def learn(name: str, label: str, kind: str, rates: tuple[float, ...], sizes: dict[str, Any]) -> Learn:
        return Learn(name=name, label=label, kind=kind, learning_rates=rates, **sizes, **about)

    chosen = (
        learn("copy", "copy", "copy", rates[0], COPY[options.preset]),
        learn("recall", "associative recall", "associative-recall", rates[1], RECALL[options.preset]),
    )
    for arm in arms:
        if arm not in ARMS:
            check_arm(chosen[0], arm, "bits")
    return Contest(
        place="memory",
        name="memory",
        arms=arms,
        tasks=chosen,
        report=memory_report.report,
        code=(
            "softplace.maps",
            "softplace.memory",
            "softplace.study.contests._learning",
            "softplace.study.contests.memory",
            "softplace.study.contests.memory_arms",
        ),
        uses=("preset", "maps"),
    )

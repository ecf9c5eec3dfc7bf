"""How well a net does a task, in the range of its training and beyond it.

Axes: T time, B batch, I inputs, O outputs.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from softplace.errors import InputError
from softplace.memory.tasks import metrics
from softplace.memory.tasks.babi import Babi
from softplace.memory.tasks.task import Episode, Task
from softplace.randomness import generator

RANGE = "training range"
SEQUENCES = 200


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A mean over sequences and its standard error (None for one sequence)."""

    mean: float
    standard_error: float | None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a net did at one difficulty.

    Args:
        label: "training range", or the task's name of the difficulty.
        difficulty: What `Task.sample` was asked for.
        sequences: How many fresh ones were run.
        longest: Steps of the longest of them.
        measures: By the names of `Task.errors`, and "loss".
    """

    label: str
    difficulty: Mapping[str, Any]
    sequences: int
    longest: int
    measures: Mapping[str, Measure]


def answer(net: nn.Module, episode: Episode) -> Tensor:
    """The logits (T, B, O) of a net for an episode."""
    full = bool((episode.lengths == len(episode.inputs)).all())
    outputs, _ = net(episode.inputs, lengths=None if full else episode.lengths)
    return outputs  # type: ignore[no-any-return]


def evaluate(
    net: nn.Module,
    task: Task,
    *,
    sequences: int = SEQUENCES,
    batch: int = 20,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> list[Evaluation]:
    """Run a net on fresh sequences of the training range and of every difficulty in `task.longer`.

    Equal arguments draw equal sequences, other ones than a training draws, so that nets are compared on the same.
    Of bAbI everything that is held out for validation and test is run, once, as in the papers.

    Args:
        sequences: Of each difficulty that is drawn.
        batch: How many at a time; the result depends on it only through rounding and where the task says so.
        seed: Of the sequences.

    Raises:
        InputError: `sequences` or `batch` below 1.
    """
    for name, value in (("sequences", sequences), ("batch", batch)):
        if value < 1:
            raise InputError(f"{name!r} must be 1 or more. Got {value}. Leave it out.")
    difficulties = {RANGE: {}, **task.longer}
    with _evaluating(net):
        return [
            _evaluate(net, task, label, dict(difficulty), sequences, batch, seed, device)
            for label, difficulty in difficulties.items()
        ]


def _evaluate(
    net: nn.Module,
    task: Task,
    label: str,
    difficulty: dict[str, Any],
    sequences: int,
    batch: int,
    seed: int,
    device: str | torch.device,
) -> Evaluation:
    harder = task.harder(**difficulty)
    columns: dict[str, list[Tensor]] = {}
    longest = count = 0
    for episode in _episodes(harder, label, sequences, batch, seed):
        longest, count = max(longest, len(episode.inputs)), count + len(episode.lengths)
        there = episode.to(device)
        outputs = answer(net, there)
        for name, values in {"loss": harder.loss(outputs, there), **harder.errors(outputs, there)}.items():
            columns.setdefault(name, []).append(values.double().cpu())
    return Evaluation(
        label=label,
        difficulty=difficulty,
        sequences=count,
        longest=longest,
        measures={name: _measure(torch.cat(values)) for name, values in columns.items()},
    )


def _episodes(task: Task, label: str, sequences: int, batch: int, seed: int) -> Iterator[Episode]:
    if isinstance(task, Babi) and task.split != "train":
        yield from (episode for _, episode in task.batches(batch))
        return
    for first in range(0, sequences, batch):
        yield task.sample(min(batch, sequences - first), generator(seed, "evaluation", label, first))


def overall(task: Task, evaluations: Sequence[Evaluation]) -> dict[str, float]:
    """What the papers say of all of bAbI: the mean of its tasks' shares of wrong questions, and how many tasks fail.

    Nothing for another task.
    """
    if not isinstance(task, Babi):
        return {}
    errors = {}
    for each in evaluations:
        if each.difficulty.get("split") == "test":
            number = each.difficulty["tasks"]
            every = task.corpus.stories["test"][number].questions()  # stories have unequally many
            errors[number] = each.measures["wrong questions"].mean * each.sequences / every
    if not errors:
        return {}
    return {"mean error": metrics.mean_error(errors), "failed tasks": len(metrics.failed_tasks(errors))}


def _measure(values: Tensor) -> Measure:
    count = len(values)
    return Measure(
        mean=float(values.mean()), standard_error=float(values.std()) / math.sqrt(count) if count > 1 else None
    )


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    training = net.training
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        net.train(training)

"""Train a memory on a task, in a folder that can be gone on with: `train("ntm", "copy", out="trainings/mine")`.

Axes: T time, B batch, N slots.

Every step draws its own sequences from the seed and its number, and a checkpoint has all else that a step depends on.
So a training that was killed and one that ran through end with the same bits, on the same machine.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import softplace
from softplace.errors import InputError, nearest
from softplace.memory import models, tasks
from softplace.memory._loop import OPTIMIZERS, Loop
from softplace.memory.checkpoint import TrainingConfig
from softplace.memory.evaluation import SEQUENCES, Evaluation, Measure, evaluate, overall
from softplace.memory.tasks import curriculum as curricula
from softplace.memory.tasks.curriculum import Uniform
from softplace.memory.tasks.task import Task
from softplace.progress import Display, Silent
from softplace.randomness import derive
from softplace.report.numbers import finite
from softplace.training import checkpoint
from softplace.training.arguments import budget, clipping, place, positive, whole
from softplace.training.arguments import folder as folder_of
from softplace.training.folder import EVALUATION, PAGE, TrainingFolder
from softplace.training.running import DivergenceError as DivergenceError
from softplace.training.running import enough_memory

WAY = "Use fewer --slots, a smaller --batch, or --segments"
GRAPHS = ("traversal", "shortest-path", "inference")
"""Tasks whose data are a graph."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """A training that reached its last step.

    Args:
        net: Trained.
        config: What it was trained by.
        step: How many steps were made, in all runs together.
        curve: The lines of the learning curve, see `softplace.training.folder`.
        evaluations: In the range of training and beyond.
        overall: What the papers make of these, see `evaluation.overall`.
        notes: What must be said beside any of the numbers.
        page: The HTML page.
    """

    net: nn.Module
    config: TrainingConfig
    step: int
    curve: list[dict[str, Any]]
    evaluations: list[Evaluation]
    overall: Mapping[str, float]
    notes: tuple[str, ...]
    page: Path


def train(
    model: str,
    task: str,
    *,
    out: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    sequences: int | None = None,
    batch: int | None = None,
    learning_rate: float | None = None,
    optimizer: str = "rmsprop",
    clip: float | None = 10.0,
    curriculum: str = Uniform.name,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    data: str | os.PathLike[str] | None = None,
    device: str = "auto",
    segments: int | None = None,
    fresh: bool = False,
    display: Display | None = None,
    checkpoint_seconds: float = 15.0,
    curve_steps: int = 100,
    evaluation_sequences: int = SEQUENCES,
    **sizes: Any,
) -> TrainingResult:
    """Train a net on a task, or go on with it, then evaluate it and write its page.

    The loss is the mean over the batch of the task's cost of a sequence (`Task.loss`). The gradient of all parameters
    together is shortened to the norm `clip`; Graves et al. (2014) clip each number to [-10, 10] instead, which needs
    about twice as many sequences.

    Args:
        model: "ntm", "dnc" or "lstm".
        task: A name of `softplace.memory.tasks.names()`.
        out: Folder; one with the same training goes on. None: `trainings/memory-<model>-<task>`.
        steps: How many updates in all. More than before make a finished training longer.
        sequences: How many sequences in all, instead of `steps`. Neither: 100,000.
        batch, learning_rate: None: the paper's for this task.
        optimizer: "rmsprop" (as Graves 2013) or "adam".
        clip: Longest gradient; None = never shortened.
        curriculum: "uniform" (the task as it is), or how to go from easy to hard lessons (`Task.levels`): "linear",
            "advance" or "mixed", see `softplace.memory.tasks.curriculum`.
        seed: Of the parameters and the data.
        options: Of the task, see its class: `{"length": (1, 5)}`.
        data: Where the task's files are, for a task that has some.
        device: "auto" (a GPU if there is one), "cpu" or "cuda".
        segments: Recompute in so many segments, to save memory (see `NTM`). None: no.
        fresh: Forget what the folder has.
        display: Where progress is shown; None: nowhere.
        checkpoint_seconds: How much time a kill may lose.
        curve_steps: Steps between two lines of the curve.
        evaluation_sequences: How many to evaluate on, at each difficulty.
        sizes: Arguments of the net, `map` among them. Those not given are the paper's for this task.

    Raises:
        InputError: Something given, or found in the folder, cannot be used. Nothing has been overwritten then.
        DivergenceError: The loss or its gradient was not finite, or the mean loss 1,000 times the first. The last line
            of the curve says so.
        KeyboardInterrupt: Ctrl-C or a polite kill. Nothing is lost.
    """
    given = {} if data is None else {"graph" if task in GRAPHS else "data": os.fspath(data)}
    chosen = models.plain(options or {}) | given
    goal = tasks.get(task, **chosen)
    sizes = {name: value for name, value in sizes.items() if value is not None}
    paper = models.preset(model, goal, sizes.get("controller"))
    if optimizer not in OPTIMIZERS:
        raise InputError(f"Unknown optimizer {optimizer!r}. {nearest(str(optimizer), OPTIMIZERS)}")
    curricula.get(curriculum)
    if curriculum != Uniform.name and len(goal.levels) < 2:
        raise InputError(f"'curriculum' must be {Uniform.name!r} where a task has no lessons. Got {curriculum!r}.")
    config = TrainingConfig(
        model=model,
        task=task,
        options=chosen,
        input_size=goal.input_size,
        output_size=goal.output_size,
        sizes=models.plain(models.complete(model, goal, sizes)),
        optimizer=optimizer,
        learning_rate=positive("learning_rate", paper["learning_rate"] if learning_rate is None else learning_rate),
        batch=whole("batch", paper["batch"] if batch is None else batch, 1),
        clip=clipping(clip),
        curriculum=curriculum,
        seed=whole("seed", seed, 0, 2**63 - 1),
    )
    whole("curve_steps", curve_steps, 1)
    positive("checkpoint_seconds", checkpoint_seconds)
    whole("evaluation_sequences", evaluation_sequences, 1)
    total = budget(steps, sequences, config.batch)
    where = place(device)
    path = folder_of(f"trainings/memory-{model}-{task}" if out is None else out)
    shown = Silent() if display is None else display
    ways = {} if segments is None else {"segments": whole("segments", segments, 1)}
    with enough_memory(WAY), torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(derive(config.seed, "parameters"))
        net = models.construct(model, config.input_size, config.output_size, config.sizes, **ways).to(where)
        loop = Loop(net, goal, config, where, shown, curve_steps)
        with TrainingFolder.open(path, config, fresh=fresh) as folder:
            loop.resume(folder, total)
            loop.run(folder, total, checkpoint_seconds)
            evaluations = _evaluated(folder, loop, goal, evaluation_sequences, shown)
            page = _write_page(folder, loop, goal, evaluations)
            return TrainingResult(
                net=net,
                config=config,
                step=loop.step,
                curve=folder.curve(),
                evaluations=evaluations,
                overall=overall(goal, evaluations),
                notes=goal.notes,
                page=page,
            )


def summary(result: TrainingResult) -> str:
    """The evaluation in lines: mean and standard error of each measure at each difficulty."""
    lines = [
        f"{each.label} ({each.sequences:,}): "
        + ", ".join(f"{name} {_measured(measure)}" for name, measure in each.measures.items() if name != "loss")
        for each in result.evaluations
    ]
    head = (
        f"{result.config.model} on {result.config.task} after {result.step:,} steps "
        f"({result.step * result.config.batch:,} sequences), mean and standard error of a sequence:"
    )
    whole = [f"overall: {', '.join(f'{name} {value:.4g}' for name, value in result.overall.items())}"] * bool(
        result.overall
    )
    notes = [f"Note: {note}" for note in result.notes]
    return "\n".join([head, *lines, *whole, *notes, f"Page: {result.page.absolute()}"])


def _measured(measure: Measure) -> str:
    error = "" if measure.standard_error is None else f" ± {measure.standard_error:.2g}"
    return f"{measure.mean:.4g}{error}"


def _evaluated(folder: TrainingFolder, loop: Loop, task: Task, sequences: int, display: Display) -> list[Evaluation]:
    """The evaluation of the net as it is now: from the folder if it has it, else made and written there."""
    if (known := _known(folder.path / EVALUATION, loop.step, sequences)) is not None:
        return known
    display.say(f"Evaluates on {sequences:,} sequences in the range of training and beyond.")
    found = evaluate(loop.net, task, sequences=sequences, device=loop.device)
    loop.say_long(max(each.longest for each in found))
    content = {
        "softplace": softplace.__version__,
        "torch": str(torch.__version__),
        "device": _device_name(loop.device),
        "step": loop.step,
        "sequences": sequences,
        "seconds": round(loop.seconds, 3),
        "notes": list(task.notes),
        "overall": overall(task, found),
        "evaluations": [dataclasses.asdict(each) for each in found],
    }
    text = json.dumps(finite(content), indent=2, allow_nan=False)
    checkpoint.write(folder.path / EVALUATION, (text + "\n").encode())
    return found


def _known(path: Path, step: int, sequences: int) -> list[Evaluation] | None:
    """The evaluation that a file has, where it is of this step and of as many sequences."""
    try:
        content = json.loads(path.read_bytes())
        if (content["step"], content["sequences"]) != (step, sequences):
            return None
        return [
            Evaluation(
                label=each["label"],
                difficulty=each["difficulty"],
                sequences=each["sequences"],
                longest=each["longest"],
                measures={name: Measure(**_numbers(value)) for name, value in each["measures"].items()},
            )
            for each in content["evaluations"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # it is made again, from the checkpoint


def _numbers(measure: Mapping[str, float | None]) -> dict[str, Any]:
    return {**measure, "mean": math.nan if measure["mean"] is None else measure["mean"]}


def _write_page(folder: TrainingFolder, loop: Loop, task: Task, evaluations: list[Evaluation]) -> Path:
    from softplace.memory.page import write_training_page

    path = folder.path / PAGE
    write_training_page(
        path,
        loop.net,
        task,
        loop.config,
        step=loop.step,
        seconds=loop.seconds,
        curve=folder.curve(),
        evaluations=evaluations,
        device=_device_name(loop.device),
    )
    return path


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"

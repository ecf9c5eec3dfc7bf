"""The page of a training: what was trained, how it learned, how far it holds, and the machine step by step.

Axes: T time, B batch, O outputs.
"""

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import softplace
from softplace.memory import models
from softplace.memory._steps import steps_figure as steps_figure
from softplace.memory.checkpoint import TrainingConfig
from softplace.memory.evaluation import Evaluation, Measure
from softplace.memory.tasks.task import Task
from softplace.randomness import generator
from softplace.report.page import write_page
from softplace.report.records import Axis, Cell, Figure, PlaceReport, Report, Section

MOST_POINTS = 400
"""The most points of the learning curve that are drawn; each is then the mean of several lines."""
CANDIDATES = 8
"""The figure steps through the longest of so many sequences."""
_MODELS = {"ntm": "Neural Turing Machine", "dnc": "Differentiable Neural Computer", "lstm": "LSTM without a memory"}
_FLAGS = {"hidden_size": "hidden"}  # what the command line calls otherwise


def write_training_page(path: Path, net: nn.Module, task: Task, config: TrainingConfig, **measured: Any) -> None:
    """Write `training_report(net, task, config, **measured)` as one HTML file, in one step.

    Raises:
        InputError: The folder cannot be written; an old page then stays as it was.
    """
    write_page(training_report(net, task, config, **measured), path)


def training_report(
    net: nn.Module,
    task: Task,
    config: TrainingConfig,
    *,
    step: int,
    seconds: float,
    curve: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Evaluation],
    device: str = "CPU",
    command: str | None = None,
) -> Report:
    """All that the page of a training says.

    Args:
        net: Trained, as `config` says, on `task`.
        step: How many updates were made.
        seconds: How long they took.
        curve: The lines of the learning curve, see `softplace.training.folder`.
        evaluations: In the range of training and beyond.
        device: What it was trained on.
        command: What to type to do it again; None: made from `config`.
    """
    name = _MODELS[config.model]
    learning = Section(key="learning", title="Learning", verdict=None, figures=_learning(curve))
    reach = Section(
        key="reach",
        title="In the range of training and beyond",
        verdict=None,
        text=[f"Mean over {evaluations[0].sequences:,} fresh sequences at each difficulty."] if evaluations else [],
        figures=_reach(evaluations),
    )
    sections = [each for each in (learning, reach, _machine(net, task, config)) if each.figures or each.text]
    place = PlaceReport(
        place="memory",
        question=f"{name}: {config.task}",
        answer=_answer(config, step, evaluations),
        sections=sections,
        references=(),
        method=_method(task),
        facts=_facts(net, config, step, seconds, device),
    )
    provenance: dict[str, Cell] = {"softplace": softplace.__version__, "torch": str(torch.__version__)}
    return Report(
        title=f"{name} on {config.task}",
        places=(place,),
        pending=(),
        command=_command(task, config, step) if command is None else command,
        provenance=provenance,
        about="training",
    )


def _learning(curve: Sequence[Mapping[str, Any]]) -> list[Figure]:
    lines = [line for line in curve if _finite(line.get("loss"))]
    if not lines:
        return []
    several = math.ceil(len(lines) / MOST_POINTS)
    groups = [lines[first : first + several] for first in range(0, len(lines), several)]
    rows = [
        {"sequences": group[-1]["sequences"], "loss": sum(line["loss"] for line in group) / len(group)}
        for group in groups
    ]
    steps = lines[0]["step"] * several
    positive = all(row["loss"] > 0 for row in rows)
    return [
        Figure(
            key="curve",
            kind="curve",
            title="Cost of a sequence while learning",
            caption=f"Each point is the mean of {steps:,} updates. Every update sees fresh sequences, so this is the "
            "cost on data that the net was not trained on before.",
            x=Axis(column="sequences", label="Sequences seen"),
            y=Axis(column="loss", label="Bits per sequence", scale="log" if positive else "linear"),
            rows=rows,
        )
    ]


def _reach(evaluations: Sequence[Evaluation]) -> list[Figure]:
    measures = list(dict.fromkeys(name for each in evaluations for name in each.measures if name != "loss"))
    figures = []
    for name in measures:
        rows = [
            {"difficulty": each.label, "mean": each.measures[name].mean, **_interval(each.measures[name])}
            | {"sequences": each.sequences, "longest": each.longest}
            for each in evaluations
            if name in each.measures
        ]
        figures.append(
            Figure(
                key=f"reach-{name}",
                kind="interval",
                title=f"{name[:1].upper()}{name[1:]} at each difficulty",
                caption="Mean over the sequences and its 95 % interval (1.96 standard errors). "
                f"The longest sequence here has {max(each.longest for each in evaluations):,} steps.",
                x=Axis(column="mean", label=f"{name[:1].upper()}{name[1:]}, mean of a sequence"),
                y=Axis(column="difficulty", label="Difficulty", scale="category"),
                rows=rows,
            )
        )
    return figures


def _interval(measure: Measure) -> dict[str, float | None]:
    if measure.standard_error is None:
        return {"low": None, "high": None}
    half = 1.96 * measure.standard_error
    return {"low": max(0.0, measure.mean - half), "high": measure.mean + half}  # no measure is below zero


def _machine(net: nn.Module, task: Task, config: TrainingConfig) -> Section:
    """The machine on the longest of a few sequences of the training range."""
    title = "The machine at work"
    trace = getattr(net, "trace", None)
    if trace is None:
        text = ("An LSTM has no memory with slots, and so no heads to step through.",)
        return Section(key="machine", title=title, verdict=None, text=text)
    episode = task.sample(CANDIDATES, generator(config.seed, "page"))
    item = int(episode.lengths.argmax())
    device = next(net.parameters()).device
    with torch.no_grad():
        found = trace(episode.inputs.to(device), lengths=episode.lengths.to(device))
    figure = steps_figure(
        found, episode, title="The machine on one sequence, step by step", item=item, activation=_shown(task)
    )
    text = (
        "A sequence of the training range that the net was not trained on. At each step: what it was shown, what was "
        "wanted and what it answered (as probabilities), where its heads were, and what the memory held.",
    )
    return Section(key="machine", title=title, verdict=None, text=text, figures=(figure,))


def _shown(task: Task) -> Callable[[Tensor], Tensor] | None:
    """Logits -> probabilities, where the task's targets do not say how."""
    from softplace.memory.tasks._graph_task import GraphTask

    if isinstance(task, GraphTask):
        return lambda outputs: outputs.reshape(len(outputs), -1, 10).softmax(-1).flatten(1)  # a softmax a digit
    return None


def _answer(config: TrainingConfig, step: int, evaluations: Sequence[Evaluation]) -> str:
    head = f"After {step:,} updates ({step * config.batch:,} sequences)"
    if not evaluations:
        return f"{head}. It was not evaluated."
    said = [f"{each.label}: {_said(each)}" for each in evaluations]
    return f"{head}, mean and standard error of a sequence: {'. '.join(said)}."


def _said(evaluation: Evaluation) -> str:
    named = [(name, measure) for name, measure in evaluation.measures.items() if name != "loss"]
    return ", ".join(
        f"{name} {measure.mean:.3g}" + ("" if measure.standard_error is None else f" ± {measure.standard_error:.2g}")
        for name, measure in named[:2]
    )


def _facts(net: nn.Module, config: TrainingConfig, step: int, seconds: float, device: str) -> dict[str, Cell]:
    size = sum(each.numel() for each in net.parameters())
    sizes = {name: value for name, value in config.sizes.items() if name != "map"}
    facts: dict[str, Cell] = {"Model": _MODELS[config.model], "Task": config.task}
    if config.options:
        facts["Settings of the task"] = _listed(config.options)
    if "map" in config.sizes:
        facts["Map of the content look-up"] = str(config.sizes["map"])
    return facts | {
        "Parameters": f"{size:,}",
        "Updates": f"{step:,} of {config.batch} sequences",
        "Time": f"{seconds:,.1f} s on {device}",
        "Optimizer": f"{config.optimizer}, learning rate {config.learning_rate:g}",
        "Longest gradient": "any" if config.clip is None else f"{config.clip:g}, by norm",
        "Curriculum": config.curriculum,
        "Seed": config.seed,
        "Sizes": _listed(sizes),
    }


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " to ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _method(task: Task) -> list[str]:
    return [
        "Every update drew fresh sequences from the seed and its number; the cost is the mean over them.",
        "The evaluation drew other sequences, the same for every net.",
        "The step-through draws tensors that the net computed when this page was written; the page computes none.",
        *task.notes,
    ]


def _command(task: Task, config: TrainingConfig, step: int) -> str:
    """The command line that trains the same; what it has by itself is not in it."""
    usual = models.preset(config.model, task, config.sizes.get("controller"))
    chosen = {name: config.sizes[name] for name in ("controller",) if name in config.sizes}  # it decides the others
    default = models.complete(config.model, task, {})
    sizes = models.plain(models.complete(config.model, task, chosen)) | {name: default[name] for name in chosen}
    parts = ["softplace", "train", "memory", "--model", config.model, "--task", config.task, "--steps", str(step)]
    given = {name: value for name, value in config.sizes.items() if value != sizes.get(name)}
    for name, value in given.items():
        flag = f"--{_FLAGS.get(name, name).replace('_', '-')}"
        parts += [flag] * bool(value) if isinstance(value, bool) else [flag, str(value)]
    for name, value in config.options.items():
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        parts += ["--data", str(value)] if name == "data" else ["--option", f"{name}={text}"]
    clip = math.inf if config.clip is None else config.clip
    for name, number, usually in (
        ("batch", config.batch, usual["batch"]),
        ("learning-rate", config.learning_rate, usual["learning_rate"]),
        ("clip", clip, 10.0),
        ("seed", config.seed, 0),
    ):
        parts += [f"--{name}", f"{number:g}" if isinstance(number, float) else str(number)] * (number != usually)
    parts += ["--optimizer", config.optimizer] * (config.optimizer != "rmsprop")
    parts += ["--curriculum", config.curriculum] * (config.curriculum != "uniform")
    return shlex.join(parts)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)

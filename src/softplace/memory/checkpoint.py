"""What determines a training of a memory, and the trained net of its folder."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from softplace.errors import InputError
from softplace.memory.models import construct
from softplace.training.checkpoint import CHECKPOINT, CONFIG, Settings, fit, read, read_config


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Settings):
    """What determines a training, but for its length and the machine.

    Args:
        model: "ntm", "dnc" or "lstm".
        task: Name of the task.
        options: Of the task.
        input_size, output_size: Of the net.
        sizes: All other arguments of the net.
        optimizer: "rmsprop" (Graves 2013) or "adam".
        learning_rate: Above 0.
        batch: Sequences in a step.
        clip: Longest gradient, by norm; None = never shortened.
        curriculum: How lessons are chosen; "uniform" = the task as it is.
        seed: Of the parameters and the data.
    """

    KIND: ClassVar[str] = "softplace.memory"

    model: str
    task: str
    options: Mapping[str, Any]
    input_size: int
    output_size: int
    sizes: Mapping[str, Any]
    optimizer: str
    learning_rate: float
    batch: int
    clip: float | None
    curriculum: str
    seed: int

    def flat(self) -> dict[str, Any]:
        """Every setting by its name, those of the net and of the task among them."""
        own = {name: value for name, value in dataclasses.asdict(self).items() if name not in ("sizes", "options")}
        return own | {f"task's {name}": value for name, value in self.options.items()} | dict(self.sizes)


def load(folder: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> tuple[nn.Module, TrainingConfig]:
    """The trained net of a folder, and what it was trained by: `net, config = load("trainings/memory-ntm-copy")`.

    Raises:
        InputError: There is none, or it is damaged or of another format.
    """
    path = Path(folder)
    config = read_config(path, TrainingConfig)
    checkpoint = None if config is None else read(path, config)
    if config is None or checkpoint is None:
        missing = CONFIG if config is None else CHECKPOINT
        raise InputError(
            f"{str(path)!r}: expected the folder of a training. Got one without {missing}. "
            "Train one: softplace train memory."
        )
    with torch.random.fork_rng(devices=[]):  # the draw of parameters that are replaced at once leaves no trace
        net = construct(config.model, config.input_size, config.output_size, config.sizes)
    fit(path, net, checkpoint)
    net.load_state_dict(checkpoint.part("net/"))
    return net.to(device), config

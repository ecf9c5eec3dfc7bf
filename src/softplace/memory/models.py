"""The models by name, in the sizes that the papers used for a task.

Axes: I inputs, O outputs.
"""

import inspect
import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from softplace import maps
from softplace.errors import InputError, nearest
from softplace.memory.tasks.task import Task

MODELS = ("ntm", "dnc", "lstm")
MOST = {"layers": 1000, "shift_range": 10_000, "read_heads": 10_000, "write_heads": 10_000, "segments": 10**9}
"""The largest of a size that is taken, 10 million of those that are not here: beyond, a computer is only kept busy."""
_GIVEN = ("input_size", "output_size", "batch_first")  # tasks are time first
_TRAINING = ("learning_rate", "batch")
_WAYS = ("segments", "kernel", "device", "dtype")
"""Arguments of the nets that say how to compute, not what."""


def kind(model: str) -> type[nn.Module]:
    """The class of a model.

    Raises:
        InputError: No such model.
    """
    if model == "ntm":
        from softplace.memory.ntm import NTM

        return NTM
    if model == "dnc":
        from softplace.memory.dnc import DNC

        return DNC
    if model == "lstm":
        from softplace.memory.lstm import LSTMBaseline

        return LSTMBaseline
    raise InputError(f"Unknown model {model!r}. {nearest(str(model), MODELS)}")


def preset(model: str, task: Task, controller: object = None) -> dict[str, Any]:
    """What the papers used on this task: `learning_rate`, `batch`, and sizes of the net. See `Task.presets`.

    Where a paper did not train this model on the task, what it trained decides: first the same model with an LSTM
    controller, then the DNC, then the NTM; of the sizes those that the model has.

    Raises:
        InputError: No such model.
    """
    known = set(inspect.signature(kind(model)).parameters)
    wanted = (f"{model}-{controller}", model, "dnc", "ntm")
    found = task.preset(next((name for name in wanted if name in task.presets), model))
    return {name: value for name, value in found.items() if name in known or name in _TRAINING}


def complete(model: str, task: Task, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of the net that decide what it computes: `sizes`, else the preset's, else the net's own defaults.

    Raises:
        InputError: An argument that this model does not have, or an unknown map.
    """
    parameters = inspect.signature(kind(model)).parameters
    known = tuple(name for name in parameters if name not in (*_GIVEN, *_WAYS))
    for name, value in sizes.items():
        if name not in known:
            raise InputError(f"Model {model!r} has no {name!r}. {nearest(name, known)}")
        most = MOST.get(name, 10**7)
        if isinstance(value, int) and abs(value) > most:
            raise InputError(f"{name!r} must be at most {most:,}. Got {value}. Leave it out for the paper's.")
    if "map" in sizes:
        maps.get(sizes["map"])
    paper = preset(model, task, sizes.get("controller"))
    defaults = {name: parameters[name].default for name in known}
    return defaults | {name: value for name, value in paper.items() if name not in _TRAINING} | dict(sizes)


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as a checkpoint can keep them, tuples as lists.

    Raises:
        InputError: A value that no JSON can hold.
    """
    try:
        return dict(json.loads(json.dumps(dict(values), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"settings: expected numbers, names and lists, which a checkpoint can keep. Got '{error}'. "
            "A map that is a function gets a name by an entry point, see softplace.maps.registry."
        ) from error


def construct(model: str, input_size: int, output_size: int, sizes: Mapping[str, Any], **ways: Any) -> nn.Module:
    """The net of these sizes, its parameters drawn from PyTorch's global generator.

    Args:
        ways: How to compute: `segments`, `kernel`, `device`, `dtype`.

    Raises:
        InputError: A size that the net cannot have, or a way that it does not know.
    """
    known = tuple(name for name in inspect.signature(kind(model)).parameters if name in _WAYS)
    for name in ways:
        if name not in known:
            raise InputError(f"Model {model!r} has no {name!r}. {nearest(name, known)}")
    return kind(model)(input_size, output_size, **sizes, **ways)


def build(model: str, task: Task, **sizes: Any) -> nn.Module:
    """The net for a task: `build("ntm", tasks.get("copy"), map="sparsemax", slots=64)`.

    Args:
        model: "ntm", "dnc" or "lstm".
        sizes: Arguments of the net; those not given are the paper's for this task (`Task.preset`). With
            `controller="feedforward"` they are those of the paper's feed-forward NTM.

    Raises:
        InputError: No such model, or an argument that it does not have, or a value that it cannot have.
    """
    ways = {name: value for name, value in sizes.items() if name in _WAYS}
    chosen = {name: value for name, value in sizes.items() if name not in _WAYS}
    return construct(model, task.input_size, task.output_size, complete(model, task, chosen), **ways)

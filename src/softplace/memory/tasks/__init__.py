"""Tasks for memories by name: what to learn, how it is counted, and the papers' settings.

>>> from softplace.memory import tasks
>>> task = tasks.get("copy", length=(1, 5))
>>> task.input_size, task.output_size
(10, 8)
"""

import importlib
from typing import Any, cast

from softplace.errors import InputError, nearest
from softplace.memory.tasks.task import Episode, Task, build_fields

# Where each task lives: a module is imported when a task of it is first asked for.
_PLACES = {
    "copy": "algorithmic:Copy",
    "repeat-copy": "algorithmic:RepeatCopy",
    "associative-recall": "algorithmic:AssociativeRecall",
    "n-grams": "algorithmic:NGrams",
    "priority-sort": "algorithmic:PrioritySort",
    "traversal": "graphs:Traversal",
    "shortest-path": "graphs:ShortestPath",
    "inference": "graphs:Inference",
    "mini-shrdlu": "shrdlu:MiniShrdlu",
    "babi": "babi:Babi",
}

__all__ = ["Episode", "Task", "get", "names"]


def names() -> tuple[str, ...]:
    """The names that `get` knows."""
    return tuple(_PLACES)


def get(name: str, **options: Any) -> Task:
    """The task of a name with the paper's settings; `options` are the fields of its class.

    Raises:
        InputError: No such task, no such option, or a value that the task cannot have.

    >>> get("associative-recall").name
    'associative-recall'
    """
    if name not in _PLACES:
        raise InputError(f"Unknown task {name!r}. {nearest(str(name), names())}")
    module, kind = _PLACES[name].split(":")
    found = getattr(importlib.import_module(f"softplace.memory.tasks.{module}"), kind)
    return cast(Task, build_fields(found, f"Task {name!r}", options))

"""Contests, one file per place; other packages add theirs with an entry point of the group `softplace.contests`."""

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import cast

from softplace.errors import InputError, nearest
from softplace.study.contest import Contest, Options

_OWN = ("hidden",)
_GROUP = "softplace.contests"


def places() -> tuple[str, ...]:
    """The contests that `build` knows, by name: ours are called by their place."""
    return (*_OWN, *sorted({point.name for point in entry_points(group=_GROUP)} - set(_OWN)))


def build(name: str, options: Options) -> Contest:
    """The contest of a name, with a person's options.

    Raises:
        InputError: No such contest, it cannot be loaded, or the options do not suit it.
    """
    if name in _OWN:
        return cast(Contest, importlib.import_module(f"{__name__}.{name}").contest(options))
    for point in entry_points(group=_GROUP):
        if point.name == name:
            try:
                builder: Callable[[Options], Contest] = point.load()
            except Exception as error:
                raise InputError(
                    f"Contest {name!r} of entry point {point.value!r} must be importable. "
                    f"Got {type(error).__name__}: {error}. Mend or uninstall that package."
                ) from error
            contest = builder(options)
            if not isinstance(contest, Contest):
                raise InputError(
                    f"Contest {name!r} of entry point {point.value!r} must return a softplace.study.contest.Contest. "
                    f"Got {type(contest).__name__}."
                )
            return contest
    raise InputError(f"Unknown place {name!r}. {nearest(name, places())}")

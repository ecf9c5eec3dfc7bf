"""Contests, one file per place; other packages add theirs with an entry point of the group `softplace.contests`."""

import importlib
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import cast

from softplace.errors import InputError, nearest
from softplace.study.contest import Contest, Options

_OWN = ("output", "hidden", "attention", "memory", "latent", "gate")
_GROUP = "softplace.contests"


def places() -> tuple[str, ...]:
    """The contests that `build` knows, by name: ours are called by their place, but for "gate" (latent)."""
    return (*_OWN, *sorted({point.name for point in entry_points(group=_GROUP)} - set(_OWN)))


def build_all(names: Sequence[str], options: Options) -> list[Contest]:
    """The contests of some names; what a person chose must be of use to at least one of them.

    Raises:
        InputError: As `build`, or an option that none of the contests heeds.
    """
    contests = [build(name, options) for name in dict.fromkeys(names)]
    used = {field for contest in contests for field in contest.uses}
    for option, field in (("maps", "maps"), ("data", "table"), ("data", "text"), ("preset", "preset")):
        if field not in used and getattr(options, field) != getattr(Options(), field):
            raise InputError(
                f"{option!r} must be left out: {', '.join(contest.name for contest in contests)} has no use for it. "
                f"Got a choice of {option}."
            )
    return contests


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

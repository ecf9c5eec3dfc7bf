"""Which arms of a contest a person asks for, by the names of arms or maps, or as callables."""

from collections.abc import Sequence

from softplace import maps
from softplace.errors import InputError, nearest
from softplace.maps import Map
from softplace.study.contest import Arm


def choose(arms: Sequence[Arm], chosen: Sequence[str | Map] | None, *, place: str, example: str) -> tuple[Arm, ...]:
    """The arms of some maps, or all: a name of an arm, or of a map (then all its arms), or a callable.

    Softmax is always among them: it is what the study asks about.

    Args:
        arms: Those of the contest, "softmax" among them.
        chosen: What the person asks for; `None`: all.
        place, example: For the texts of errors.

    Raises:
        InputError: An unknown name, two callables of one name, or nothing beside softmax.
    """
    if chosen is None:
        return tuple(arms)
    found: dict[str, Arm] = {arm.name: arm for arm in arms if arm.name == "softmax"}
    own = {arm.name.lower() for arm in arms}
    known = (*maps.names(), *(arm.name for arm in arms if arm.name not in maps.names()))
    for each in chosen:
        if not isinstance(each, str):
            given = getattr(each, "__name__", None)
            name = given if isinstance(given, str) else type(each).__name__
            if name.lower() in own:
                name += " (yours)"
            if name in found and found[name].map is not each:
                raise InputError(
                    f"'maps' must have different names. Got two that are called {name!r}. Set __name__ of one of them."
                )
            these = [Arm(name=name, map=maps.get(each))]
        else:
            name = each if each in maps.names() else each.lower()
            these = [arm for arm in arms if name in (arm.map, arm.name.lower()) or each.lower() == arm.name.lower()]
            if not these and name in maps.names():
                these = [Arm(name=name, map=name)]
            if not these:
                raise InputError(f"Unknown map {each!r} for the place {place!r}. {nearest(each, known)}")
        found |= {arm.name: arm for arm in these}
    if len(found) < 2:
        raise InputError(f"'maps' must name a map to compare softmax with. Got none. Use e.g. {example}.")
    order = [arm.name for arm in arms]
    return tuple(sorted(found.values(), key=lambda arm: order.index(arm.name) if arm.name in order else len(order)))

"""Maps by name: those of this package, and those that other packages add.

Another package adds a map with an entry point of the group `softplace.maps`:

    [project.entry-points."softplace.maps"]
    my_map = "my_package.my_module:my_map"

The object is a function with the signature of `softplace.maps.softmax`.
"""

from importlib.metadata import entry_points
from typing import Protocol

from torch import Tensor

from softplace.errors import InputError, nearest
from softplace.maps._catalogue import ENTRIES, Entry


class Map(Protocol):
    """From scores to weights along `dim`. `softplace.maps.softmax` documents the arguments."""

    def __call__(self, scores: Tensor, dim: int = -1) -> Tensor: ...


OWN: dict[str, Map] = {each.name: each.function for each in ENTRIES}


def names() -> tuple[str, ...]:
    """The names that `get` knows: ours first, then those of other packages in alphabetical order."""
    return (*OWN, *sorted({point.name for point in entry_points(group="softplace.maps")} - set(OWN)))


def entry(name: str) -> Entry:
    """What is known of one of our maps: formula, image, gradient, properties, Lipschitz constant, reference.

    Raises:
        InputError: We have no map of this name.

    >>> entry("sparsemax").sparse, entry("softmax").lipschitz
    (True, 0.5)
    """
    for each in ENTRIES:
        if each.name == name:
            return each
    if name in names():
        raise InputError(
            f"Map {name!r} must be one of softplace itself. Got one of another package, which says what it is. "
            f"Known: {', '.join(OWN)}."
        )
    raise InputError(f"Unknown map {name!r}. {nearest(name, tuple(OWN))}")


def get(map: str | Map) -> Map:  # noqa: A002 - "map" is the word of the field and of every part that takes one
    """The map of a name; a callable is returned as it is.

    Raises:
        InputError: No such name, or the entry point of that name cannot be loaded.

    >>> get("softmax").__name__
    'softmax'
    """
    if not isinstance(map, str):
        if not callable(map):
            raise InputError(
                f"'map' must be a name or a callable. Got {type(map).__name__}. Use one of {', '.join(names())}."
            )
        return map
    if map in OWN:
        return OWN[map]
    for point in entry_points(group="softplace.maps"):
        if point.name == map:
            try:
                loaded = point.load()
            except Exception as error:
                raise InputError(
                    f"Map {map!r} of entry point {point.value!r} must be importable. "
                    f"Got {type(error).__name__}: {error}. Mend or uninstall that package."
                ) from error
            if not callable(loaded):
                raise InputError(
                    f"Map {map!r} of entry point {point.value!r} must be callable. Got {type(loaded).__name__}."
                )
            return loaded  # type: ignore[no-any-return]
    raise InputError(f"Unknown map {map!r}. {nearest(map, names())}")

"""Where things stand in the source."""

from typing import NamedTuple


class Site(NamedTuple):
    """A piece of source: lines count from 1, columns from 0. `scope` is the function or class that it stands in."""

    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    scope: str = ""

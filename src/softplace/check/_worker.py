"""A process that interprets a part of a project's files: reads which from standard input, writes what it saw."""

from __future__ import annotations

import pickle
import sys

from softplace.check.engine import interpreted
from softplace.check.project import Project


def main() -> None:
    """Interpret the given files."""
    shown, part = pickle.loads(sys.stdin.buffer.read())
    project = Project(shown)
    events = interpreted(project, part).slim()
    sys.stdout.buffer.write(pickle.dumps((events, project.troubles), protocol=pickle.HIGHEST_PROTOCOL))


if __name__ == "__main__":
    main()

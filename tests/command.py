"""`softplace`, run in this process: a new one would import torch every time."""

import io
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from softplace import quick


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Command:
    """The command line in a folder: `command("train", "memory", ...)`, with what it says and its exit code."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self.patch, self.capsys = monkeypatch, capsys
        monkeypatch.chdir(folder)

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Done:
        self.patch.setattr(sys, "argv", ["softplace", *arguments])
        self.patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            quick.main()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, *self.capsys.readouterr())

    def refused(self, *arguments: str, stdin: bytes = b"") -> str:
        """What it says where it must end with one line and code 2, and nothing on standard output."""
        done = self(*arguments, stdin=stdin)
        assert (done.code, done.out) == (2, ""), done
        assert done.err.startswith("softplace: ")
        assert done.err.count("\n") == 1
        return done.err

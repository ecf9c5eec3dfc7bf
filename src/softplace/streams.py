"""What commands print: results on standard output, progress and complaints on standard error; either may be gone.

No axes.
"""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from io import TextIOWrapper
from typing import TYPE_CHECKING, NoReturn, TextIO

from softplace.errors import InputError

if TYPE_CHECKING:
    from softplace.progress import Display


@contextmanager
def progress(alone: bool = True) -> Iterator["Display"]:
    """Where progress is shown, on standard error; Ctrl-C says that nothing is lost, and ends with code 130.

    Args:
        alone: Whether no other process writes to the same terminal.
    """
    import typer
    from rich.console import Console

    from softplace.progress import Lines, Terminal

    console = Console(stderr=True)
    try:
        with Terminal(console) if console.is_terminal and alone else nullcontext(Lines(console)) as display:
            yield display
    except KeyboardInterrupt:
        complain("Stopped. Nothing that was finished is lost: the same command goes on from here.")
        raise typer.Exit(130) from None


@contextmanager
def reported() -> Iterator[None]:
    """What is printed here may lose its reader (`| head -1`), which is fine, or meet a full disk, which is not."""
    try:
        yield
        if sys.stdout is not None:  # as it is where the shell closed it
            sys.stdout.flush()
    except OSError as error:
        _forget(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise InputError(
                f"standard output: expected one that can be written, got '{error.strerror}'. "
                "Nothing that was finished is lost: send the output elsewhere."
            ) from error


def ended(command: Callable[[], int]) -> NoReturn:
    """Run a command, and end the process with its code: what a person can mend is one line, and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # where only ASCII can be written, a × is \xd7
            stream.reconfigure(errors="backslashreplace")
    code = 2
    try:
        code = command()
    except InputError as error:
        complain(f"softplace: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        code = 130
    gc.freeze()  # the process ends: looking for cycles in all that a command made could take seconds
    sys.exit(code)


def complain(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:  # nobody can be told, but the exit code stands
        _forget(sys.stderr)


def _forget(stream: TextIO) -> None:
    """Drop what a stream could not write: the interpreter would try again at its end, and change the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

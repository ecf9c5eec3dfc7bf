"""The command line: parses, calls, prints. Nothing heavy is imported before a command runs."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, TextIO, cast

import typer

from softplace.errors import InputError

app = typer.Typer(
    name="softplace",
    help="Where does softmax belong in a neural network? Measure it on your data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    """Where does softmax belong in a neural network? Measure it on your data."""


@app.command()
def study(
    place: Annotated[list[str] | None, typer.Argument(help="Places to study; all when none is named.")] = None,
    preset: Annotated[str, typer.Option(help="quick (minutes) or full (hours: what one would publish).")] = "quick",
    maps: Annotated[str | None, typer.Option(help="Maps to compare with softmax, e.g. relu,tanh.")] = None,
    data: Annotated[
        str | None, typer.Option(help="digits, wine, breast_cancer, or a .csv, .csv.gz or .npz file.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Column (or NPZ array) that holds the class.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Half of them tune, half judge. 20 quick, 40 full.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[
        str, typer.Option(help="Study folder; the same command goes on where it stopped.")
    ] = "studies/latest",
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: forget what the folder has.")] = False,
) -> None:
    """Train matched networks, judge them, and write one HTML page with the verdicts."""
    from rich.console import Console

    from softplace.study.progress import Lines, Terminal

    console = Console(stderr=True)
    chosen = None if maps is None else [name.strip() for name in maps.split(",") if name.strip()]
    try:
        from softplace.study.run import PAGE, Study

        with Terminal(console) if console.is_terminal else nullcontext(Lines(console)) as display:
            result = Study(
                place or None,
                maps=chosen,
                data=data,
                target=target,
                preset=preset,
                seeds=seeds,
                device=device,
                out=out,
                fresh=fresh,
                display=display,
            ).run()
    except KeyboardInterrupt:
        _complain("Stopped. Nothing that was finished is lost: the same command goes on from here.")
        raise typer.Exit(130) from None
    with _output():
        for verdict in result.verdicts:
            print(f"{verdict.place}: {verdict.claim} {verdict.verdict.upper()}. {verdict.sentence}")
        print(f"Page: {(Path(out) / PAGE).absolute()}")


@app.command()
def maps(
    name: Annotated[str | None, typer.Argument(help="All that is known of this map; a table of all when none.")] = None,
    json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """Print what is known of the maps: formula, properties, Lipschitz constant, reference."""
    from softplace.maps._pages import show
    from softplace.maps.registry import entry

    found = None if name is None else entry(name)
    with _output():
        show(found, as_json=json)


@contextmanager
def _output() -> Iterator[None]:
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


def _complain(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:  # nobody can be told, but the exit code stands
        _forget(sys.stderr)


def _forget(stream: TextIO) -> None:
    """Drop what a stream could not write: the interpreter would try again at its end, and change the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def main() -> None:
    """The entry point of the `softplace` command: what a person can mend is one line, and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # where only ASCII can be written, a × is \xd7
            stream.reconfigure(errors="backslashreplace")
    usage_error = cast(type[typer.BadParameter], typer.BadParameter.__bases__[0])
    code = 2
    try:
        with _output() if "--help" in sys.argv or len(sys.argv) == 1 else nullcontext():
            code = app(standalone_mode=False) or 0
    except InputError as error:
        _complain(f"softplace: {' '.join(str(error).split())}")
    except usage_error as error:
        if text := " ".join(error.format_message().split()):  # none where a bare `softplace` has printed its help
            command = error.ctx.command_path if error.ctx else "softplace"
            got = " ".join(shlex.join(sys.argv[1:]).split())[:200]
            _complain(f"softplace: {text}{'' if text[-1] in '.?' else '.'} Got: {got}. See `{command} --help`.")
    except SystemExit:  # typer's answer where the reader of the help is gone
        code = 0
    sys.exit(code)

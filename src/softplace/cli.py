"""The command line: parses, calls, prints. Nothing heavy is imported before a command runs."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

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
    out: Annotated[Path, typer.Option(help="Study folder; the same command goes on where it stopped.")] = Path(
        "studies/latest"
    ),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: forget what the folder has.")] = False,
) -> None:
    """Train matched networks, judge them, and write one HTML page with the verdicts."""
    from rich.console import Console

    from softplace.errors import InputError
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
    except InputError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("Stopped. Nothing that was finished is lost: the same command goes on from here.", file=sys.stderr)
        raise typer.Exit(130) from None
    for verdict in result.verdicts:
        print(f"{verdict.place}: {verdict.claim} {verdict.verdict.upper()}. {verdict.sentence}")
    print(f"Page: {(out / PAGE).absolute()}")


def _fail(text: str) -> None:
    print(f"softplace: {' '.join(text.split())}", file=sys.stderr)
    raise typer.Exit(2)


def main() -> None:
    """The entry point of the `softplace` command."""
    app()

"""The command line: parses, calls, prints. Nothing heavy is imported before a command runs."""

import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, cast

import typer

from softplace.cli_train import train
from softplace.streams import complain, ended, progress, reported

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
        str | None,
        typer.Option(
            help="digits, wine, breast_cancer, or a .csv, .csv.gz or .npz file; for attention a file of sentences."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Column (or NPZ array) that holds the class; or a file of the same lines, translated."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Half of them tune, half judge. 20 quick, 40 full.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[
        str, typer.Option(help="Study folder; the same command goes on where it stopped.")
    ] = "studies/latest",
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: forget what the folder has.")] = False,
) -> None:
    """Train matched networks, judge them, and write one HTML page with the verdicts."""
    chosen = None if maps is None else [name.strip() for name in maps.split(",") if name.strip()]
    with progress() as display:
        from softplace.study.run import PAGE, Study

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
    with reported():
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
    with reported():
        show(found, as_json=json)


@app.command()
def logit(
    data: Annotated[str, typer.Argument(help="A .csv, .csv.gz, .tsv or .parquet file with a header.")],
    formula: Annotated[str, typer.Argument(help="'choice ~ income + age + C(region)'; see docs/logit.md.")],
    reference: Annotated[str | None, typer.Option(help="Class that others are compared with; else the first.")] = None,
    errors: Annotated[
        str, typer.Option(help="observed, robust (HC1), hc0, hc1, cluster:COLUMN or bootstrap:N.")
    ] = "observed",
    weights: Annotated[str | None, typer.Option(help="Column of the rows' weights.")] = None,
    weights_are: Annotated[str, typer.Option(help="counts of rows, or sampling (1 / probability).")] = "counts",
    drop_missing: Annotated[bool, typer.Option("--drop-missing", help="Leave out rows with a missing cell.")] = False,
    chooser: Annotated[
        str | None, typer.Option(help="Conditional logit, a row for each alternative: column of who chose.")
    ] = None,
    alternative: Annotated[str | None, typer.Option(help="Conditional logit: column of the alternative.")] = None,
    effects: Annotated[str | None, typer.Option(help="Marginal effects: average (of the rows) or means.")] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="'income = 0, age = 0' or a smaller formula; may be repeated.")
    ] = None,
    iia: Annotated[bool, typer.Option("--iia", help="Test independence of irrelevant alternatives.")] = False,
    level: Annotated[float, typer.Option(help="Of the intervals, between 0 and 1.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and of Small and Hsiao's halves.")] = 0,
    out: Annotated[str | None, typer.Option(help="Page to write, or a folder for logit.html.")] = None,
    format: Annotated[str, typer.Option(help="What is printed: text, json, latex or html.")] = "text",  # noqa: A002
) -> None:
    """Fit a multinomial (or conditional) logit to a table: errors, odds ratios, effects, tests, one HTML page."""
    import warnings

    from softplace.output.logit.command import run

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            text = run(
                data,
                formula,
                reference=reference,
                errors=errors,
                weights=weights,
                weights_are=weights_are,
                drop_missing=drop_missing,
                chooser=chooser,
                alternative=alternative,
                effects=effects,
                tests=test or [],
                independence=iia,
                level=level,
                seed=seed,
                out=out,
                form=format,
            )
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    for said in dict.fromkeys(str(each.message) for each in caught if issubclass(each.category, UserWarning)):
        complain(f"softplace: warning: {' '.join(said.split())}")
    with reported():
        print(text)


@app.command()
def check(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Files and folders, or - for standard input; this folder when none is named."),
    ] = None,
    select: Annotated[str | None, typer.Option(help="Rules to report, e.g. SP1,SP301 or ALL.")] = None,
    ignore: Annotated[str | None, typer.Option(help="Rules not to report; the longer prefix wins.")] = None,
    exclude: Annotated[str | None, typer.Option(help="Folders and patterns to leave out, e.g. tests,*_old.py.")] = None,
    format: Annotated[str | None, typer.Option(help="full, concise, json, sarif or github.")] = None,  # noqa: A002
    baseline: Annotated[str | None, typer.Option(help="File of known findings: only new ones are reported.")] = None,
    update_baseline: Annotated[bool, typer.Option("--update-baseline", help="Write what is found to it.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be without a change of results.")] = False,
    unsafe_fixes: Annotated[bool, typer.Option("--unsafe-fixes", help="Mend also what changes training.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Print what fixes would change, and change nothing.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="List every softmax, with its place.")] = False,
    show_unresolved: Annotated[
        bool, typer.Option("--show-unresolved", help="List what could not be followed.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print findings, and no summary.")] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit code 0 also when there are findings.")] = False,
    stdin_filename: Annotated[
        str | None, typer.Option(help="What the path - (standard input) is called, to find what it imports.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; as many as cores when not given.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Do not use or keep the last result.")] = False,
) -> None:
    """Find misplaced softmaxes in code, without running it. Exit code 0: none, 1: findings, 2: an error."""
    from softplace.check.command import run

    code = run(
        paths,
        select=select,
        ignore=ignore,
        exclude=exclude,
        format=format,
        baseline=baseline,
        jobs=jobs,
        no_cache=no_cache,
        list_all=list_all,
        show_unresolved=show_unresolved,
        update_baseline=update_baseline,
        fix=fix,
        unsafe_fixes=unsafe_fixes,
        diff=diff,
        quiet=quiet,
        exit_zero=exit_zero,
        stdin_filename=stdin_filename,
    )
    raise typer.Exit(code)


@app.command()
def rule(
    code: Annotated[str | None, typer.Argument(help="SP101, or its name; a table of all when none.")] = None,
    format: Annotated[str, typer.Option(help="text or json.")] = "text",  # noqa: A002
) -> None:
    """Print the page of a rule of `softplace check`: what it finds, why, wrong and right code."""
    from softplace.check.command import rule_command

    with reported():
        rule_command(code, format)


app.add_typer(train)


@app.command()
def translate(
    folder: Annotated[str, typer.Argument(help="Of a training: softplace train attention.")],
    file: Annotated[str, typer.Argument(help="Sentences, one to a line, plain or .gz; - is standard input.")] = "-",
    beam: Annotated[int, typer.Option(help="Hypotheses of a sentence; 1: the likeliest word at a time.")] = 5,
    length_penalty: Annotated[float, typer.Option(help="0: short sentences win.")] = 0.6,
    best: Annotated[int, typer.Option(help="Hypotheses that are printed of each sentence.")] = 1,
    temperature: Annotated[float | None, typer.Option(help="Draw words instead, e.g. at 1.0.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    align: Annotated[
        bool, typer.Option("--align", help="Which word is which, by spaces: translation ||| 0-0 1-2.")
    ] = False,
    heat_map: Annotated[bool, typer.Option("--heat-map", help="Draw what was looked at, below each sentence.")] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="All weights as JSON, a line below each sentence.")
    ] = False,
    layer: Annotated[int | None, typer.Option(help="Whose weights; counted from 0.")] = None,
    head: Annotated[int | None, typer.Option(help="Whose weights; the mean of all when not given.")] = None,
    shift: Annotated[int | None, typer.Option(help="1: what was looked at a step after a word was said.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Least weight of a link; the largest when not given.")] = None,
    pieces: Annotated[bool, typer.Option("--pieces", help="Links of tokens, not of words by spaces.")] = False,
    longest: Annotated[int, typer.Option(help="Tokens of a line that are allowed.")] = 1000,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Translate sentences with a trained net, from a file or standard input to standard output."""
    from softplace.attention.text import read_lines, read_standard_input
    from softplace.attention.translating import Printing, translations
    from softplace.attention.translator import Search, load
    from softplace.training.arguments import place

    translator = load(folder, device=place(device))
    search = Search(beam=beam, length_penalty=length_penalty, temperature=temperature, precision=precision, seed=seed)
    way = {"layer": layer, "head": head, "shift": shift, "threshold": threshold}
    printing = Printing(best=best, align=align, heat_map=heat_map, weights=weights, by_words=not pieces, way=way)
    lines = read_standard_input() if file == "-" else read_lines(file)
    try:
        for text in translations(translator, lines, search, printing, longest=longest):
            with reported():
                print(text)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command()
def align(
    folder: Annotated[str, typer.Argument(help="Of a training: softplace train attention.")],
    source: Annotated[str, typer.Argument(help="Sentences, one to a line, plain or .gz.")],
    target: Annotated[str, typer.Argument(help="The same lines, translated by anyone.")],
    gold: Annotated[
        str | None, typer.Option(help="Known links of each line, i-j sure, i?j possible: print the error rate instead.")
    ] = None,
    first: Annotated[int, typer.Option(help="What the first word is called in the known links: 0 or 1.")] = 0,
    heat_map: Annotated[bool, typer.Option("--heat-map", help="Draw what was looked at, below each line.")] = False,
    weights: Annotated[bool, typer.Option("--weights", help="All weights as JSON, a line below each line.")] = False,
    layer: Annotated[int | None, typer.Option(help="Whose weights; counted from 0.")] = None,
    head: Annotated[int | None, typer.Option(help="Whose weights; the mean of all when not given.")] = None,
    shift: Annotated[int | None, typer.Option(help="1: what was looked at a step after a word was said.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Least weight of a link; the largest when not given.")] = None,
    pieces: Annotated[bool, typer.Option("--pieces", help="Links of tokens, not of words by spaces.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Print which word is which of sentences and their translations, as a trained net looks at them."""
    from softplace.attention.translating import Printing, alignments, error_rate
    from softplace.attention.translator import load
    from softplace.training.arguments import place

    translator = load(folder, device=place(device))
    way = {"layer": layer, "head": head, "shift": shift, "threshold": threshold}
    printing = Printing(align=True, heat_map=heat_map, weights=weights, by_words=not pieces, way=way)
    try:
        if gold is not None:
            found = error_rate(translator, source, target, gold, printing, first=first)
            with reported():
                print(found)
            return
        for text in alignments(translator, source, target, printing):
            with reported():
                print(text)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command()
def score(
    translations: Annotated[str, typer.Argument(help="File of translations, one to a line.")],
    references: Annotated[list[str], typer.Argument(help="File or files of the same lines, translated by people.")],
    json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """Print BLEU and chrF of translations, with the signatures of sacrebleu."""
    from softplace.attention.scoring import score_files, shown

    found = score_files(translations, references)
    with reported():
        print(shown(found, as_json=json))


@app.command()
def calibrate(
    scores: Annotated[str, typer.Argument(help="A .csv, .csv.gz or .npz file of logits or probabilities and labels.")],
    fit: Annotated[str, typer.Option(help="temperature, vector, matrix, dirichlet or isotonic.")] = "temperature",
    label: Annotated[str | None, typer.Option(help="Column of the labels; found by its name when not given.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Columns of the scores, separated by commas; all others when not given.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="logits or probabilities; seen from the numbers otherwise.")] = None,
    alpha: Annotated[float, typer.Option(help="Share of labels that may be outside of the prediction sets.")] = 0.1,
    bins: Annotated[int, typer.Option(help="Of the reliability diagram and the calibration error.")] = 15,
    penalty: Annotated[
        float | None, typer.Option(help="Of matrix and dirichlet; chosen by cross-validation when not given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the parts and all draws.")] = 0,
    out: Annotated[str | None, typer.Option(help="Page to write, or a folder for calibration.html.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, with the parameters of the calibrator.")] = False,
) -> None:
    """Are the probabilities right? Measure a classifier before and after calibration, and its prediction sets."""
    from softplace.output.assessment import assess
    from softplace.output.calibration_page import PAGE, as_json, command_of, shown, write_calibration_page
    from softplace.output.scores_file import read_scores
    from softplace.report.page import page_path

    chosen = None if classes is None else [name.strip() for name in classes.split(",") if name.strip()]
    path = None if out is None else page_path(out, PAGE)
    try:
        read = read_scores(scores, label=label, classes=chosen, kind=kind)
        found = assess(read.logits, read.labels, fit=fit, alpha=alpha, bins=bins, penalty=penalty, seed=seed)
        if path is not None:
            given = {"fit": fit, "label": label, "classes": classes, "kind": kind, "alpha": alpha, "bins": bins}
            command = command_of(scores, **given, penalty=penalty, seed=seed, out=out)
            write_calibration_page(path, found, read, scores, command)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    with reported():
        print(as_json(found, read) if json else shown(found, read))
        if path is not None and not json:
            print(f"Page: {path.absolute()}")


def main() -> None:
    """The `softplace` command, whatever its arguments; `softplace.quick` is a shorter way to some."""
    ended(_run)


def _run() -> int:
    usage_error = cast(type[typer.BadParameter], typer.BadParameter.__bases__[0])
    code = 2
    try:
        with reported() if "--help" in sys.argv or len(sys.argv) == 1 else nullcontext():
            code = app(standalone_mode=False) or 0
    except usage_error as error:
        if text := " ".join(error.format_message().split()):  # none where a bare `softplace` has printed its help
            command = error.ctx.command_path if error.ctx else "softplace"
            got = " ".join(shlex.join(sys.argv[1:]).split())[:200]
            complain(f"softplace: {text}{'' if text[-1] in '.?' else '.'} Got: {got}. See `{command} --help`.")
    except typer.Abort:  # typer's word for Ctrl-C
        code = 130
    except SystemExit:  # typer's answer where the reader of the help is gone
        code = 0
    return code

"""The command line: parses, calls, prints. Nothing heavy is imported before a command runs."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO, cast

import typer

from softplace.errors import InputError

if TYPE_CHECKING:
    from softplace.progress import Display

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
    with _progress() as display:
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
        _complain(f"softplace: warning: {' '.join(said.split())}")
    with _output():
        print(text)


@app.command()
def check(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Files and folders; this folder when none is named.")
    ] = None,
    select: Annotated[str | None, typer.Option(help="Rules to report, e.g. SP1,SP301 or ALL.")] = None,
    ignore: Annotated[str | None, typer.Option(help="Rules not to report; the longer prefix wins.")] = None,
    exclude: Annotated[str | None, typer.Option(help="Folders and patterns to leave out, e.g. tests,*_old.py.")] = None,
    format: Annotated[str | None, typer.Option(help="full, concise, json, sarif or github.")] = None,  # noqa: A002
    baseline: Annotated[str | None, typer.Option(help="File of known findings: only new ones are reported.")] = None,
    update_baseline: Annotated[bool, typer.Option("--update-baseline", help="Write what is found to it.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be without a change of results.")] = False,
    unsafe_fixes: Annotated[bool, typer.Option("--unsafe-fixes", help="Mend also what changes training.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="List every softmax, with its place.")] = False,
    show_unresolved: Annotated[
        bool, typer.Option("--show-unresolved", help="List what could not be followed.")
    ] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; as many as cores when not given.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Do not use or keep the last result.")] = False,
) -> None:
    """Find misplaced softmaxes in code, without running it. Exit code 0: none, 1: findings, 2: an error."""
    from softplace.check import config
    from softplace.check.command import check_command

    chosen = paths or ["."]
    settings = config.load(
        chosen[0],
        select=config.split(select),
        ignore=config.split(ignore),
        exclude=config.split(exclude),
        format=format,
        baseline=baseline,
    )
    code = 1  # where the reader of the output went before its end
    with _output():
        code = check_command(
            chosen,
            settings,
            jobs=jobs,
            cached=not no_cache,
            listed=list_all,
            show_unresolved=show_unresolved,
            update_baseline=update_baseline,
            fix=fix,
            unsafe_fixes=unsafe_fixes,
        )
    raise typer.Exit(code)


@app.command()
def rule(
    code: Annotated[str | None, typer.Argument(help="SP101, or its name; a table of all when none.")] = None,
) -> None:
    """Print the page of a rule of `softplace check`: what it finds, why, wrong and right code."""
    from softplace.check.command import rule_command

    with _output():
        rule_command(code)


train = typer.Typer(
    name="train", help="Train one network of a place; the same command goes on where it stopped.", no_args_is_help=True
)
app.add_typer(train)


@train.command()
def memory(
    model: Annotated[str, typer.Option(help="ntm, dnc or lstm.")],
    task: Annotated[str, typer.Option(help="copy, repeat-copy, associative-recall, n-grams, priority-sort, babi, ...")],
    map: Annotated[  # noqa: A002 - the word of the field
        str | None, typer.Option(help="What normalises the content look-up, e.g. sparsemax. See `softplace maps`.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder. trainings/memory-MODEL-TASK when not given.")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates in all; more make a finished training longer.")] = None,
    sequences: Annotated[
        int | None, typer.Option(help="Sequences in all, instead of steps. 100,000 when neither.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Sequences in an update. The paper's when not given.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Above 0. The paper's when not given.")] = None,
    optimizer: Annotated[str, typer.Option(help="rmsprop (in the form of Graves 2013) or adam.")] = "rmsprop",
    clip: Annotated[float, typer.Option(help="Longest gradient, by norm; inf for any.")] = 10.0,
    curriculum: Annotated[
        str, typer.Option(help="uniform, or from easy to hard: linear, advance or mixed.")
    ] = "uniform",
    seed: Annotated[int, typer.Option(help="Of the parameters and the data.")] = 0,
    hidden: Annotated[
        int | None, typer.Option(help="Units of the controller. All sizes: the paper's when not given.")
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Layers of the controller.")] = None,
    controller: Annotated[str | None, typer.Option(help="lstm or feedforward.")] = None,
    slots: Annotated[int | None, typer.Option(help="Rows of the memory.")] = None,
    width: Annotated[int | None, typer.Option(help="Numbers in a slot.")] = None,
    read_heads: Annotated[int | None, typer.Option(help="How many.")] = None,
    write_heads: Annotated[int | None, typer.Option(help="How many.")] = None,
    shift_range: Annotated[int | None, typer.Option(help="ntm: most slots that a head moves by.")] = None,
    order: Annotated[str | None, typer.Option(help="ntm: write-read or read-write.")] = None,
    initial_memory: Annotated[str | None, typer.Option(help="constant, learned or random.")] = None,
    initial_weights: Annotated[str | None, typer.Option(help="ntm: one-slot, random or uniform.")] = None,
    links: Annotated[str | None, typer.Option(help="dnc: dense, sparse or none.")] = None,
    sparse_links: Annotated[int | None, typer.Option(help="dnc: links kept per slot, when sparse.")] = None,
    allocation: Annotated[str | None, typer.Option(help="dnc: sorted, or a map of the unused share.")] = None,
    masked: Annotated[bool | None, typer.Option("--masked", help="dnc: keys with masks.")] = None,
    deallocate: Annotated[bool | None, typer.Option("--deallocate", help="dnc: freed slots are erased.")] = None,
    sharpened: Annotated[bool | None, typer.Option("--sharpened", help="dnc: sharpened links.")] = None,
    detach_usage: Annotated[
        bool | None, typer.Option("--detach-usage", help="dnc: no gradient through the usage of slots.")
    ] = None,
    segments: Annotated[int | None, typer.Option(help="Recompute in so many segments, to save memory.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Of the task, NAME=VALUE; may be repeated: length=[1,5].")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the task's files, for a task that has some.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: forget what the folder has.")] = False,
) -> None:
    """Train a Neural Turing Machine, a DNC or an LSTM on a task, evaluate it, and write a page."""
    with _progress() as display:
        from softplace.memory.training import summary
        from softplace.memory.training import train as run
        from softplace.training.arguments import task_options

        result = run(
            model,
            task,
            map=map,
            out=out,
            steps=steps,
            sequences=sequences,
            batch=batch,
            learning_rate=learning_rate,
            optimizer=optimizer,
            clip=clip,
            curriculum=curriculum,
            seed=seed,
            hidden_size=hidden,
            layers=layers,
            controller=controller,
            slots=slots,
            width=width,
            read_heads=read_heads,
            write_heads=write_heads,
            shift_range=shift_range,
            order=order,
            initial_memory=initial_memory,
            initial_weights=initial_weights,
            links=links,
            sparse_links=sparse_links,
            allocation=allocation,
            masked=masked,
            deallocate=deallocate,
            sharpened=sharpened,
            detach_usage=detach_usage,
            segments=segments,
            options=task_options(option or []),
            data=data,
            device=device,
            fresh=fresh,
            display=display,
        )
    with _output():
        print(summary(result))


@train.command()
def attention(
    model: Annotated[str, typer.Option(help="transformer, rnnsearch or rnnencdec.")],
    data: Annotated[
        str | None, typer.Option(help="number-words:SOURCE-TARGET, of en, de, fr, ja; en-de where there are no files.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="File to translate from, a sentence a line; may end in .gz.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="File of the same lines, translated.")] = None,
    valid_source: Annotated[str | None, typer.Option(help="To validate on; lines are held out when not given.")] = None,
    valid_target: Annotated[str | None, typer.Option(help="To validate on.")] = None,
    test_source: Annotated[str | None, typer.Option(help="To measure the end on; the validation's otherwise.")] = None,
    test_target: Annotated[str | None, typer.Option(help="To measure the end on.")] = None,
    map: Annotated[  # noqa: A002 - the word of the field
        str | None, typer.Option(help="From scores to weights, e.g. entmax15. See `softplace maps`.")
    ] = None,
    tokens: Annotated[str | None, typer.Option(help="Of files: bpe, words or characters. bpe when not given.")] = None,
    words: Annotated[int | None, typer.Option(help="Most tokens of a vocabulary. 8,000 for bpe, else all.")] = None,
    lower: Annotated[bool, typer.Option("--lower", help="Capitals are made small.")] = False,
    separate: Annotated[bool, typer.Option("--separate", help="A vocabulary for each language.")] = False,
    longest_pair: Annotated[int, typer.Option(help="Tokens of a side; longer pairs are left out.")] = 200,
    option: Annotated[
        list[str] | None, typer.Option(help="Of number words, NAME=VALUE; may be repeated: count=[1,3], digits=[1,6].")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder. trainings/attention-MODEL when not given.")] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Updates at most; more make a finished training longer. 1,000 to 3,000; files 10,000."),
    ] = None,
    room: Annotated[int | None, typer.Option(help="Tokens in a batch, padding counted. 2,048; of files 4,096.")] = None,
    accumulate: Annotated[int, typer.Option(help="Batches in an update.")] = 1,
    learning_rate: Annotated[float | None, typer.Option(help="The highest. The usual when not given.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="noam (rises, then falls) or constant after the warm-up.")
    ] = None,
    warmup: Annotated[int | None, typer.Option(help="Updates in which the learning rate rises.")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="Share of the target spread over all words.")] = None,
    clip: Annotated[float, typer.Option(help="Longest gradient, by norm; inf for any.")] = 1.0,
    precision: Annotated[str, typer.Option(help="float32, or bfloat16: about half the time.")] = "float32",
    validate_steps: Annotated[int | None, typer.Option(help="Updates between two validations.")] = None,
    patience: Annotated[int, typer.Option(help="Stop after so many validations that are no better; 0: never.")] = 10,
    average: Annotated[int, typer.Option(help="Validations, the last, whose parameters are averaged.")] = 5,
    seed: Annotated[int, typer.Option(help="Of parameters, order and dropout.")] = 0,
    width: Annotated[int | None, typer.Option(help="transformer: numbers of a word.")] = None,
    heads: Annotated[int | None, typer.Option(help="transformer: how many.")] = None,
    encoder_layers: Annotated[int | None, typer.Option(help="transformer: how many.")] = None,
    decoder_layers: Annotated[int | None, typer.Option(help="transformer: how many.")] = None,
    inner: Annotated[int | None, typer.Option(help="transformer: units of the feed-forward layers.")] = None,
    norm: Annotated[str | None, typer.Option(help="transformer: pre or post.")] = None,
    positions: Annotated[str | None, typer.Option(help="transformer: sinusoidal, learned or rotary.")] = None,
    tied: Annotated[
        str | None, typer.Option(help="transformer: matrices of words that are one: all, target, none.")
    ] = None,
    hidden: Annotated[int | None, typer.Option(help="rnn: hidden units.")] = None,
    embedding: Annotated[int | None, typer.Option(help="rnn: numbers of a word.")] = None,
    align: Annotated[int | None, typer.Option(help="rnnsearch: width of the score.")] = None,
    maxout: Annotated[int | None, typer.Option(help="rnn: units of the readout.")] = None,
    initial: Annotated[str | None, typer.Option(help="rnn: how parameters are drawn, glorot or paper.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Share, while training.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: forget what the folder has.")] = False,
) -> None:
    """Train a Transformer, an RNNsearch or one without attention to translate, evaluate it, and write a page.

    On several processes: torchrun --nproc-per-node N -m softplace train attention ...
    """
    with _progress("WORLD_SIZE" not in os.environ) as display:
        from softplace.attention.training import summary
        from softplace.attention.training import train as run
        from softplace.training.arguments import task_options

        result = run(
            model,
            data=data,
            source=source,
            target=target,
            valid_source=valid_source,
            valid_target=valid_target,
            test_source=test_source,
            test_target=test_target,
            map=map,
            tokens=tokens,
            words=words,
            lower=lower,
            shared=not separate,
            longest_pair=longest_pair,
            options=task_options(option or []),
            out=out,
            steps=steps,
            room=room,
            accumulate=accumulate,
            learning_rate=learning_rate,
            schedule=schedule,
            warmup=warmup,
            label_smoothing=label_smoothing,
            clip=clip,
            precision=precision,
            validate_steps=validate_steps,
            patience=patience or None,
            average=average,
            seed=seed,
            width=width,
            heads=heads,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            inner=inner,
            norm=norm,
            positions=positions,
            tied=tied,
            hidden=hidden,
            embedding=embedding,
            align=align,
            maxout=maxout,
            initial=initial,
            dropout=dropout,
            device=device,
            fresh=fresh,
            display=display,
        )
    if os.environ.get("RANK", "0") == "0":
        with _output():
            print(summary(result))


@train.command()
def latent(
    model: Annotated[str, typer.Option(help="vae, or predictor of the lower half of an image.")] = "vae",
    data: Annotated[str, typer.Option(help="digits, or an .npz file of images.")] = "digits",
    binarised: Annotated[
        str, typer.Option(help="Pixels become 0 and 1: fixed (above 1/2), sampled (anew at every step) or none.")
    ] = "fixed",
    estimator: Annotated[str, typer.Option(help="Of the gradient, e.g. gumbel-softmax, disarm, marginalise.")] = (
        "gumbel-softmax"
    ),
    samples: Annotated[int | None, typer.Option(help="Of the estimator; the fewest when not given.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of Gumbel-softmax; where it ends when it falls. 0.5 when not given.")
    ] = None,
    anneal_rate: Annotated[
        float, typer.Option(help="The temperature falls from 1 by exp(-rate step); 0: fixed.")
    ] = 0.0,
    free_bits: Annotated[float, typer.Option(help="vae: bits that a variable may hold for nothing.")] = 0.0,
    variables: Annotated[int, typer.Option(help="Latent variables, of each layer.")] = 20,
    classes: Annotated[int, typer.Option(help="Of each variable.")] = 10,
    hidden: Annotated[str, typer.Option(help="vae: units between pixels and variables, e.g. 200 or 200,100.")] = "200",
    layers: Annotated[int, typer.Option(help="predictor: layers of variables.")] = 2,
    learned_prior: Annotated[bool, typer.Option("--learned-prior", help="vae: not uniform.")] = False,
    out: Annotated[str | None, typer.Option(help="Folder. trainings/latent-MODEL when not given.")] = None,
    steps: Annotated[int, typer.Option(help="Updates in all; more make a finished training longer.")] = 10_000,
    batch: Annotated[int, typer.Option(help="Images in an update.")] = 100,
    learning_rate: Annotated[float, typer.Option(help="Above 0.")] = 1e-3,
    clip: Annotated[float, typer.Option(help="Longest gradient, by norm; inf for any.")] = float("inf"),
    validate_steps: Annotated[int, typer.Option(help="Updates between two validations.")] = 500,
    seed: Annotated[int, typer.Option(help="Of parameters, order and samples.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: forget what the folder has.")] = False,
) -> None:
    """Train a network with categorical latent variables, measure its bounds, and write a page."""
    with _progress() as display:
        from softplace.latent.training import summary
        from softplace.latent.training import train as run
        from softplace.training.arguments import whole_numbers

        result = run(
            model,
            data=data,
            binarised=binarised,
            out=out,
            estimator=estimator,
            samples=samples,
            temperature=temperature,
            anneal_rate=anneal_rate,
            free_bits=free_bits,
            variables=variables,
            classes=classes,
            hidden=whole_numbers("hidden", hidden),
            layers=layers,
            learned_prior=learned_prior,
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            clip=clip,
            validate_steps=validate_steps,
            seed=seed,
            device=device,
            fresh=fresh,
            display=display,
        )
    with _output():
        print(summary(result))


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
            with _output():
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
            with _output():
                print(found)
            return
        for text in alignments(translator, source, target, printing):
            with _output():
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
    with _output():
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
    from softplace.output.calibration_page import as_json, command_of, shown, write_calibration_page
    from softplace.output.scores_file import read_scores
    from softplace.report.page import page_path

    chosen = None if classes is None else [name.strip() for name in classes.split(",") if name.strip()]
    path = None if out is None else page_path(out, "calibration.html")
    try:
        read = read_scores(scores, label=label, classes=chosen, kind=kind)
        found = assess(read.logits, read.labels, fit=fit, alpha=alpha, bins=bins, penalty=penalty, seed=seed)
        if path is not None:
            given = {"fit": fit, "label": label, "classes": classes, "kind": kind, "alpha": alpha, "bins": bins}
            command = command_of(scores, **given, penalty=penalty, seed=seed, out=out)
            write_calibration_page(path, found, read, scores, command)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    with _output():
        print(as_json(found, read) if json else shown(found, read))
        if path is not None and not json:
            print(f"Page: {path.absolute()}")


@contextmanager
def _progress(alone: bool = True) -> Iterator["Display"]:
    """Where progress is shown, on standard error; Ctrl-C says that nothing is lost, and ends with code 130.

    Args:
        alone: Whether no other process writes to the same terminal.
    """
    from rich.console import Console

    from softplace.progress import Lines, Terminal

    console = Console(stderr=True)
    try:
        with Terminal(console) if console.is_terminal and alone else nullcontext(Lines(console)) as display:
            yield display
    except KeyboardInterrupt:
        _complain("Stopped. Nothing that was finished is lost: the same command goes on from here.")
        raise typer.Exit(130) from None


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

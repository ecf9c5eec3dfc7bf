"""`softplace train`: parses, calls, prints, as `cli.py`. Nothing heavy is imported before a command runs."""

import os
from typing import Annotated

import typer

from softplace.streams import progress, reported

train = typer.Typer(
    name="train", help="Train one network of a place; the same command goes on where it stopped.", no_args_is_help=True
)


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
    with progress() as display:
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
    with reported():
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
    with progress("WORLD_SIZE" not in os.environ) as display:
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
        with reported():
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
    with progress() as display:
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
    with reported():
        print(summary(result))

"""Train a translator in a folder that can be gone on with: `train("rnnsearch", out="trainings/mine")`.

No axes.

Every batch, and every draw of dropout, depends on the seed and on the step alone, and a checkpoint has all else. So a
training that was killed and one that ran through end with the same bits, on the same machine.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import softplace
from softplace import maps
from softplace.attention import corpus, models
from softplace.attention._loop import Loop, Ranks, write_model
from softplace.attention.config import PRECISIONS, SCHEDULES, TranslationConfig
from softplace.attention.corpus import LONGEST_PAIR, Data, Example, FileData
from softplace.attention.evaluation import digest_of, evaluate
from softplace.attention.text import read_parallel
from softplace.attention.translator import Translator, digest_of_tokens, load, read_tokens, write_tokens
from softplace.errors import InputError, nearest
from softplace.progress import Display, Silent
from softplace.randomness import derive
from softplace.training import checkpoint
from softplace.training.arguments import clipping, place, positive, whole
from softplace.training.arguments import folder as folder_of
from softplace.training.folder import EVALUATION, MODEL, PAGE, TrainingFolder, read_curve
from softplace.training.running import DivergenceError as DivergenceError
from softplace.training.running import enough_memory

NUMBER_WORDS = "number-words:en-de"


@dataclass(frozen=True, kw_only=True)
class TranslationResult:
    """A training that came to its end.

    Args:
        translator: Trained.
        config: What it was trained by.
        step: How many updates were made, in all runs together.
        curve: The lines of the learning curve, see `softplace.training.folder`.
        evaluation: What was measured at the end, see `softplace.attention.evaluation`.
        page: The HTML page.
    """

    translator: Translator
    config: TranslationConfig
    step: int
    curve: list[dict[str, Any]]
    evaluation: Mapping[str, Any]
    page: Path


def train(
    model: str,
    *,
    data: str | None = None,
    source: str | os.PathLike[str] | None = None,
    target: str | os.PathLike[str] | None = None,
    valid_source: str | os.PathLike[str] | None = None,
    valid_target: str | os.PathLike[str] | None = None,
    test_source: str | os.PathLike[str] | None = None,
    test_target: str | os.PathLike[str] | None = None,
    tokens: str | None = None,
    words: int | None = None,
    lower: bool = False,
    shared: bool = True,
    longest_pair: int = LONGEST_PAIR,
    options: Mapping[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    room: int | None = None,
    accumulate: int = 1,
    learning_rate: float | None = None,
    schedule: str | None = None,
    warmup: int | None = None,
    label_smoothing: float | None = None,
    clip: float | None = 1.0,
    precision: str = "float32",
    validate_steps: int | None = None,
    patience: int | None = 10,
    average: int = 5,
    seed: int = 0,
    device: str = "auto",
    fresh: bool = False,
    display: Display | None = None,
    checkpoint_seconds: float = 60.0,
    curve_steps: int = 50,
    **sizes: Any,
) -> TranslationResult:
    """Train a translator, or go on with one, then evaluate it and write its page.

    The loss is the mean over target tokens of the label-smoothed cross-entropy, in nats; the optimizer is Adam. Of the
    last net, the best at a validation, and the mean of the last few, the one with the best validation is kept. Started
    by torchrun, every process takes its share of the batches, and the first one writes.

    Args:
        model: "transformer", "rnnsearch" or "rnnencdec".
        data: "number-words:SOURCE-TARGET", of en, de, fr, ja. None: en-de, where no files are given.
        source, target: Files to train on instead, of as many lines, plain or .gz.
        valid_source, valid_target: Files to validate on. None: some pairs are held out.
        test_source, test_target: Files to evaluate the finished net on. None: those of the validation.
        tokens: Of files: "bpe", "words" or "characters". None: bpe.
        words: V at most. None: 8,000 for bpe, else all.
        lower: Whether capitals are made small.
        shared: Whether both languages have one vocabulary.
        longest_pair: Tokens of a side; longer pairs are neither trained nor validated on.
        options: Of number words: `{"count": (1, 3), "digits": (1, 6)}`.
        out: Folder; one with the same training goes on. None: `trainings/attention-<model>`.
        steps: Updates at most. None: 3,000 (a Transformer) or 1,000 on number words, 10,000 on files.
        room: Tokens in a batch, padding counted, of the longer side.
        accumulate: Batches in an update, of each process.
        learning_rate: The highest. None: see `models.recipe`, as for `warmup` and `label_smoothing`.
        schedule: "noam" (rises, then falls with the root of the step) or "constant" after the warm-up. None: "noam"
            for a Transformer, else "constant".
        warmup: Updates in which the rate rises.
        label_smoothing: The share of the target that is spread over all words, in [0, 1).
        clip: Longest gradient, by norm; None = never shortened.
        precision: "float32", or "bfloat16" of all products, which takes about half as long.
        validate_steps: Updates between two validations.
        patience: Stop after so many validations without a better loss. None: never.
        average: Validations, the last, whose parameters are averaged.
        seed: Of parameters, order and dropout.
        device: "auto" (a GPU if there is one), "cpu" or "cuda".
        fresh: Forget what the folder has.
        display: Where progress is shown; None: nowhere.
        checkpoint_seconds: How much time a kill may lose.
        curve_steps: Updates between two lines of the curve.
        sizes: Arguments of the net, `map` among them. Those not given are usual for this data.

    Raises:
        InputError: Something given, or found in the folder, cannot be used. Nothing has been overwritten then.
        DivergenceError: The loss or its gradient was not finite.
        KeyboardInterrupt: Ctrl-C or a polite kill. Nothing is lost.
    """
    files = _files_or_number_words(data, source, target)
    if files and options:
        raise InputError(f"'options' are of number words. Got {dict(options)!r} and a file. Leave one out.")
    of_files = {
        "tokens": tokens, "words": words, "lower": lower or None, "separate": None if shared else True,
        "valid-source": valid_source, "valid-target": valid_target,
        "test-source": test_source, "test-target": test_target,
        "longest-pair": None if longest_pair == LONGEST_PAIR else longest_pair,
    }  # fmt: skip
    for name, value in of_files.items():
        if not files and value is not None:
            raise InputError(f"{name!r} is of files. Got {value!r} and number words. Give --source and --target too.")
    sizes = {name: value for name, value in sizes.items() if value is not None}
    kind = "files" if files else "number-words"
    complete = models.complete(model, kind, files is not None and shared, sizes)
    if model == "transformer":
        _check_one_key(complete["map"])
    usual = models.recipe(model, kind)
    for name, value, known in (("schedule", schedule, SCHEDULES), ("precision", precision, PRECISIONS)):
        if value is not None and value not in known:
            raise InputError(f"Unknown {name!r} {value!r}. {nearest(str(value), known)}")
    smoothing = usual.label_smoothing if label_smoothing is None else label_smoothing
    if not isinstance(smoothing, int | float) or not 0.0 <= smoothing < 1.0:
        raise InputError(f"'label_smoothing' must lie in [0, 1). Got {smoothing!r}. Use 0 for none.")
    whole("curve_steps", curve_steps, 1)
    whole("longest_pair", longest_pair, 1)
    positive("checkpoint_seconds", checkpoint_seconds)
    total = whole("steps", usual.steps if steps is None else steps, 1)
    path = folder_of(f"trainings/attention-{model}" if out is None else out)
    shown = Silent() if display is None else display
    test = _test(test_source, test_target)
    with _processes(device) as (ranks, where):
        shown = shown if ranks.first else Silent()
        seed = whole("seed", seed, 0, 2**63 - 1)
        learned = None if fresh else read_tokens(path)
        pairs: Data = (
            FileData(
                *files,
                valid_source=valid_source,
                valid_target=valid_target,
                kind=tokens or "bpe",
                words=words,
                lower=lower,
                shared=shared,
                longest=longest_pair,
                known=learned,
            )
            if files
            else corpus.number_words(data or NUMBER_WORDS, seed, options or {})
        )
        config = TranslationConfig(
            model=model,
            data=pairs.record(),
            vocabularies=digest_of_tokens(pairs.source_tokens, pairs.target_tokens),
            source_words=len(pairs.source_tokens),
            target_words=len(pairs.target_tokens),
            sizes=complete,
            learning_rate=positive("learning_rate", usual.learning_rate if learning_rate is None else learning_rate),
            schedule=("noam" if model == "transformer" else "constant") if schedule is None else schedule,
            warmup=whole("warmup", usual.warmup if warmup is None else warmup, 0),
            label_smoothing=float(smoothing),
            room=whole("room", usual.room if room is None else room, 1),
            accumulate=whole("accumulate", accumulate, 1, 10_000),
            processes=ranks.processes,
            clip=clipping(clip),
            precision=precision,
            validate_steps=whole(
                "validate_steps", usual.validate_steps if validate_steps is None else validate_steps, 1
            ),
            patience=None if patience is None else whole("patience", patience, 1),
            average=whole("average", average, 1),
            seed=seed,
        )
        devices = [where] if where.type == "cuda" else []
        with enough_memory("Use a smaller --room or smaller sizes"), torch.random.fork_rng(devices=devices):
            torch.manual_seed(derive(config.seed, "parameters"))
            net = models.construct(model, config.source_words, config.target_words, config.sizes).to(where)
            loop = Loop(net, pairs, config, where, shown, curve_steps, ranks)
            if not ranks.first:
                return _follow(loop, pairs, path, total, checkpoint_seconds)
            with TrainingFolder.open(path, config, fresh=fresh) as folder:
                write_tokens(path, pairs.source_tokens, pairs.target_tokens)
                pairs.prepare(path)
                for note in pairs.notes:
                    shown.say(note)
                loop.resume(folder)
                ranks.wait()
                loop.run(folder, total, checkpoint_seconds)
                evaluation = _evaluated(folder, loop, pairs, test, shown)
                translator = load(path, device=where)
                page = _write_page(folder, loop, translator, evaluation, test or pairs.test())
                return TranslationResult(
                    translator=translator,
                    config=config,
                    step=loop.step,
                    curve=folder.curve(),
                    evaluation=evaluation,
                    page=page,
                )


def summary(result: TranslationResult) -> str:
    """What was measured, in lines."""
    found = result.evaluation
    quality = ", ".join(f"{name} {_measured(value)}" for name, value in found["test"].items() if name != "signatures")
    lines = [
        f"{result.config.model} after {result.step:,} updates ({found['words']:,} target tokens, "
        f"{found['seconds']:,.0f} s): {quality}.",
        f"Kept: {found['chosen']}, by the validation loss "
        f"({', '.join(f'{name}: {value:.4g}' for name, value in found['validation_loss'].items())}).",
    ]
    lines += [f"{name}: {signature}" for name, signature in found["test"].get("signatures", {}).items()]
    if found.get("alignment"):
        lines.append(f"Alignment error rate {found['alignment']['error_rate']:.4g} against the known links.")
    return "\n".join([*lines, f"Page: {result.page.absolute()}"])


def _measured(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _follow(loop: Loop, pairs: Data, path: Path, steps: int, seconds: float) -> TranslationResult:
    """What a process does that is not the first: it trains along, and ends when the first has evaluated."""
    loop.ranks.wait()
    pairs.prepare(path)
    loop.resume(path)
    loop.run(None, steps, seconds)
    loop.ranks.wait()
    return TranslationResult(
        translator=load(path, device=loop.device),
        config=loop.config,
        step=loop.step,
        curve=read_curve(path),
        evaluation=json.loads((path / EVALUATION).read_bytes()),
        page=path / PAGE,
    )


def _check_one_key(map: str) -> None:  # noqa: A002 - the word of the field
    """Raise `InputError` for a map that cannot decode with a cache, whose first word sees itself alone."""
    try:
        maps.get(map)(torch.zeros(1, 1), dim=-1)
    except ValueError as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(
            f"'map' must take a row of one score, as of a Transformer's first word. Got '{text}'. Use e.g. softmax."
        ) from error


def _files_or_number_words(data: str | None, source: Any, target: Any) -> tuple[Any, Any] | None:
    """The files to train on; None for number words."""
    if (source is None) != (target is None):
        raise InputError("'source' and 'target' must come together. Got one of them. Give both files.")
    if source is None:
        return None
    if data is not None:
        raise InputError(f"'data' and 'source' exclude each other. Got {data!r} and a file. Leave one out.")
    return source, target


def _test(source: Any, target: Any) -> Sequence[Example] | None:
    if (source is None) != (target is None):
        raise InputError("'test-source' and 'test-target' must come together. Got one of them. Give both, or none.")
    if source is None:
        return None
    found = [Example(*pair) for pair in read_parallel(source, target)]
    if not found:
        raise InputError(f"{os.fspath(source)!r} must have lines that are not empty. Got none. Give some.")
    return found


@contextmanager
def _processes(device: str) -> Iterator[tuple[Ranks, torch.device]]:
    """Which process this is, as torchrun says, and its device."""
    where = place(device)
    said = os.environ.get("WORLD_SIZE", "1")
    if not said.isdigit() or int(said) < 1 or (int(said) > 1 and "RANK" not in os.environ):
        raise InputError(f"WORLD_SIZE must be what torchrun sets, with RANK beside it. Got {said!r}. Unset it.")
    count = int(said)
    if count == 1:
        yield Ranks(), where
        return
    if where.type == "cuda":
        where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(where)
    ours = not dist.is_initialized()
    if ours:
        dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    ranks = Ranks(dist.get_rank(), dist.get_world_size())
    try:
        yield ranks, where
    except RuntimeError as error:
        if ranks.first or "onnection" not in str(error):
            raise
        raise InputError(
            f"process {ranks.rank}: expected the first one to go on. Got none: see what it said."
        ) from error
    finally:
        if ours:
            dist.destroy_process_group()


def _evaluated(
    folder: TrainingFolder, loop: Loop, data: Data, test: Sequence[Example] | None, display: Display
) -> dict[str, Any]:
    """The evaluation of the net as it is now, from the folder if it has it."""
    examples = data.test() if test is None else test
    digest = digest_of(examples)
    known = _known(folder.path / EVALUATION, loop.step, digest)
    if known is not None:
        loop.ranks.wait()
        return known
    chosen = loop.choose(folder)
    display.say(f"Evaluates on {len(examples):,} pairs.")
    found = evaluate(loop.translator, examples, data, precision=loop.config.precision)
    progress = {"step": loop.step, **chosen, "alignment": (found["alignment"] or {}).get("by")}
    write_model(folder.path, loop.config, loop.net, progress)
    content = {
        "softplace": softplace.__version__,
        "torch": str(torch.__version__),
        "step": loop.step,
        "words": loop.words,
        "seconds": round(loop.seconds, 3),
        "test_digest": digest,
        **chosen,
        **found,
    }
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    checkpoint.write(folder.path / EVALUATION, (text + "\n").encode())
    loop.ranks.wait()
    return content


def _known(path: Path, step: int, digest: str) -> dict[str, Any] | None:
    """The evaluation that a file has, where it is of this step and of the same pairs."""
    try:
        content = json.loads(path.read_bytes())
        fits = (content["step"], content["test_digest"]) == (step, digest) and (path.parent / MODEL).exists()
        return content if fits else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _write_page(
    folder: TrainingFolder,
    loop: Loop,
    translator: Translator,
    evaluation: Mapping[str, Any],
    examples: Sequence[Example],
) -> Path:
    from softplace.attention.page import write_translation_page

    path = folder.path / PAGE
    write_translation_page(
        path,
        translator,
        loop.config,
        curve=folder.curve(),
        evaluation=evaluation,
        examples=examples,
        device=torch.cuda.get_device_name(loop.device) if loop.device.type == "cuda" else "CPU",
    )
    return path

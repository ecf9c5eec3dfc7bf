"""The page of a translator: how it learned, how good it is by length, and what it looks at.

Axis legend: L layers, H heads, T target tokens and the end, S source tokens and the end.
"""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import softplace
from softplace.attention import models
from softplace.attention.config import TranslationConfig
from softplace.attention.corpus import LONGEST_PAIR, Example
from softplace.attention.rnnsearch import RNNEncDec
from softplace.attention.translator import Looks, Search, Translator
from softplace.report.page import write_page
from softplace.report.records import Axis, Cell, Figure, PlaceReport, Report, Section

SHOWN = 3
"""Sentences whose weights are drawn."""
CANDIDATES = 50
"""The longest of so many are drawn, of those that have at most `MOST` tokens a side."""
MOST = 30
MOST_POINTS = 400
_NAMES = {
    "transformer": "Transformer",
    "rnnsearch": "RNNsearch",
    "rnnencdec": "RNN encoder-decoder without attention",
}


def write_translation_page(path: Path, translator: Translator, config: TranslationConfig, **measured: Any) -> None:
    """Write `translation_report(translator, config, **measured)` as one HTML file, in one step.

    Raises:
        InputError: The folder cannot be written; an old page then stays as it was.
    """
    write_page(translation_report(translator, config, **measured), path)


def translation_report(
    translator: Translator,
    config: TranslationConfig,
    *,
    curve: Sequence[Mapping[str, Any]],
    evaluation: Mapping[str, Any],
    examples: Sequence[Example],
    device: str = "CPU",
) -> Report:
    """All that the page of a translator says.

    Args:
        translator: Trained, as `config` says.
        curve: The lines of the learning curve, see `softplace.training.folder`.
        evaluation: What was measured, see `softplace.attention.evaluation`.
        examples: Pairs to show some of.
        device: What it was trained on.
    """
    name = _NAMES[config.model]
    looks = _shown(translator, examples)
    sections = [
        Section(key="learning", title="Learning", verdict=None, figures=_learning(curve)),
        Section(key="length", title="Quality by length", verdict=None, figures=_by_length(config, evaluation)),
        Section(
            key="looks",
            title="What it looks at",
            verdict=None,
            text=_text_of_looks(translator, config, evaluation),
            figures=_looks(translator, looks) if config.model != "rnnencdec" else (),
        ),
    ]
    between = f"{config.data['source']} to {config.data['target']}" if _is_words(config) else "parallel text"
    place = PlaceReport(
        place="attention",
        question=f"{name}: {'number words, ' if _is_words(config) else ''}{between}",
        answer=_answer(evaluation),
        sections=sections,
        references=(),
        method=_method(config, evaluation),
        facts=_facts(translator, config, evaluation, device),
    )
    provenance: dict[str, Cell] = {"softplace": softplace.__version__, "torch": str(torch.__version__)}
    return Report(
        title=f"{name} on {'number words' if _is_words(config) else 'parallel text'}",
        places=(place,),
        pending=(),
        command=_command(config, int(evaluation["step"])),
        provenance=provenance,
        about="training",
    )


def _is_words(config: TranslationConfig) -> bool:
    return bool(config.data["kind"] == "number-words")


def _learning(curve: Sequence[Mapping[str, Any]]) -> list[Figure]:
    lines = [line for line in curve if "plain_loss" in line]
    several = max(1, math.ceil(len(lines) / MOST_POINTS))
    rows = []
    for first in range(0, len(lines), several):
        group = lines[first : first + several]
        mean = sum(line["plain_loss"] for line in group) / len(group)
        rows.append({"step": group[-1]["step"], "loss": mean, "of": "training"})
    valid = [line for line in curve if "validation_loss" in line]
    rows += [{"step": line["step"], "loss": line["validation_loss"], "of": "validation"} for line in valid]
    if not rows:
        return []
    return [
        Figure(
            key="curve",
            kind="curve",
            title="Cross-entropy of a target token while learning",
            caption="Of training: mean of the updates between two points, with dropout. Of validation: pairs that are "
            "not trained on, without dropout. Neither has label smoothing in it.",
            x=Axis(column="step", label="Updates"),
            y=Axis(
                column="loss", label="Nats per token", scale="log" if all(r["loss"] > 0 for r in rows) else "linear"
            ),
            rows=rows,
            series="of",
        )
    ]


def _by_length(config: TranslationConfig, evaluation: Mapping[str, Any]) -> list[Figure]:
    found = evaluation["by_length"]
    measures = {"exact": "Exact sentences, share", "bleu": "BLEU"}
    unit = "Numbers in a list" if _is_words(config) else "Source words, mean of a group"
    trained = (
        f" Lists of {config.data['count'][0]} to {config.data['count'][1]} were trained on."
        if _is_words(config)
        else ""
    )
    return [
        Figure(
            key=f"length-{measure}",
            kind="curve",
            title=f"{label.split(',')[0]} by length",
            caption=f"Pairs that are not trained on, {min(each['sentences'] for each in found):,} to "
            f"{max(each['sentences'] for each in found):,} a point.{trained} See figure 2 of Bahdanau et al. 2015.",
            x=Axis(column="length", label=unit),
            y=Axis(column=measure, label=label),
            rows=[{name: each[name] for name in ("length", measure, "sentences")} for each in found],
        )
        for measure, label in measures.items()
        if all(measure in each for each in found) and found
    ]


def _shown(translator: Translator, examples: Sequence[Example]) -> list[Looks]:
    """What was looked at while the translator said its own translation of some sentences."""
    if isinstance(translator.net, RNNEncDec):
        return []
    candidates = [each.source for each in examples[:CANDIDATES] if each.source.strip()]
    made = translator.translate(candidates, Search())
    looks = translator.looks(list(zip(candidates, (each.numbers for each in made), strict=True)))
    fitting = [each for each in looks if max(len(each.source), len(each.target)) <= MOST] or looks[:1]
    return sorted(fitting, key=lambda each: -len(each.source))[:SHOWN]


def _numbered(names: Sequence[str]) -> list[str]:
    """Names that differ: a token may come twice."""
    return [f"{number} {name}" for number, name in enumerate(names, 1)]


def _looks(translator: Translator, looks: Sequence[Looks]) -> list[Figure]:
    way = translator.alignment
    figures = []
    for number, look in enumerate(looks, 1):
        matrix = look.matrix(layer=way.get("layer"), head=way.get("head")).tolist()
        figures.append(
            Figure(
                key=f"sentence-{number}",
                kind="heatmap",
                title=f"Sentence {number}: what each word looked at",
                caption=f"Weights before dropout, {_which(look, way)}. Rows are what the net said, in its order.",
                x=Axis(column="source", label="Source token", scale="category"),
                y=Axis(column="target", label="Target token", scale="category"),
                rows=[
                    {"source": one, "target": other, "value": round(value, 4)}
                    for other, row in zip(_numbered(look.target), matrix, strict=True)
                    for one, value in zip(_numbered(look.source), row, strict=True)
                ],
                value_label="Weight",
            )
        )
    layers, heads = looks[0].weights.shape[:2]
    if layers * heads > 1:
        figures.append(_heads(looks[0], layers, heads))
    return figures


def _which(look: Looks, way: Mapping[str, Any]) -> str:
    layers, heads = look.weights.shape[:2]
    if layers * heads == 1:
        return "of the one layer and head"
    layer = way.get("layer")
    layer = max(layers - 2, 0) if layer is None else layer
    head = way.get("head")
    return f"layer {layer + 1} of {layers}, " + ("mean of the heads" if head is None else f"head {head + 1} of {heads}")


def _heads(look: Looks, layers: int, heads: int) -> Figure:
    """All layers and heads of a sentence, to step through."""
    names = {(layer, head): f"layer {layer + 1}, head {head + 1}" for layer in range(layers) for head in range(heads)}
    return Figure(
        key="heads",
        kind="steps",
        title="Sentence 1: every head, word by word",
        caption="At each step a word is said; a column is what a head of the decoder looked at in the source.",
        x=Axis(column="step", label="Word", scale="category"),
        y=Axis(column="row", label="Source token", scale="category"),
        rows=[
            {"step": step, "panel": name, "row": row, "value": float(look.weights[layer, head, j, i])}
            for (layer, head), name in names.items()
            for j, step in enumerate(_numbered(look.target))
            for i, row in enumerate(_numbered(look.source))
        ],
        facet="panel",
        highlight=tuple(names.values()),
        value_label="Weight",
    )


def _text_of_looks(translator: Translator, config: TranslationConfig, evaluation: Mapping[str, Any]) -> list[str]:
    if config.model == "rnnencdec":
        return ["It has no attention: one vector is all that its decoder knows of the source."]
    weights = evaluation["weights"]
    said = [
        f"A target token's weights have an entropy of {weights['entropy']:.2f} bits, and {weights['support']:.1f} of "
        "them are above 0: means over tokens, layers and heads."
    ]
    if evaluation["alignment"]:
        found = evaluation["alignment"]
        shift = " (one step after it was said)" if found["by"]["shift"] else ""
        said.append(
            f"The largest weight of each target word{shift} is another than a known link so that the alignment error "
            f"rate is {found['error_rate']:.3f}, over {found['pairs']:,} pairs; target words without a known link are "
            "left out. The layer, head and step were chosen on other pairs."
        )
    return said


def _answer(evaluation: Mapping[str, Any]) -> str:
    test = evaluation["test"]
    names = {"exact": "exact", "bleu": "BLEU", "chrf": "chrF", "bleu_lower": "BLEU of lower-cased words"}
    said = ", ".join(f"{label} {test[name]:.4g}" for name, label in names.items() if name in test)
    return (
        f"After {evaluation['step']:,} updates and {evaluation['words']:,} target tokens, on {test['sentences']:,} "
        f"sentences that were not trained on: {said}."
    )


def _method(config: TranslationConfig, evaluation: Mapping[str, Any]) -> list[str]:
    losses = ", ".join(f"{name}: {value:.4g}" for name, value in evaluation["validation_loss"].items())
    signatures = evaluation["test"].get("signatures", {})
    return [
        f"The net of {evaluation['chosen']} was kept: it has the least loss on the validation ({losses}).",
        "Translations are of a beam of 5, those by length of number words of a beam of 1.",
        *(f"{name}: {signature}." for name, signature in signatures.items()),
        "What is drawn was computed by the net when this page was written; the page computes nothing.",
    ]


def _facts(
    translator: Translator, config: TranslationConfig, evaluation: Mapping[str, Any], device: str
) -> dict[str, Cell]:
    sizes = {name: value for name, value in config.sizes.items() if name != "map"}
    facts: dict[str, Cell] = {"Model": _NAMES[config.model]}
    if "map" in config.sizes:
        facts["Map of the attention"] = str(config.sizes["map"])
    words, seconds = evaluation["words"], evaluation["seconds"]
    return facts | {
        "Data": ", ".join(f"{name} {value}" for name, value in config.data.items()),
        "Vocabularies": f"{config.source_words:,} and {config.target_words:,} tokens",
        "Parameters": f"{sum(each.numel() for each in translator.net.parameters()):,}",
        "Updates": f"{evaluation['step']:,} of {config.accumulate * config.processes} x {config.room:,} tokens at most",
        "Time": f"{seconds:,.0f} s on {device}, {words / max(seconds, 1e-9):,.0f} target tokens a second",
        "Optimizer": f"adam, learning rate {config.learning_rate:g}, {config.schedule}, warm-up {config.warmup:,}",
        "Label smoothing": config.label_smoothing,
        "Longest gradient": "any" if config.clip is None else f"{config.clip:g}, by norm",
        "Precision": config.precision,
        "Seed": config.seed,
        "Sizes": ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sizes.items()),
    }


def _command(config: TranslationConfig, step: int) -> str:
    """The command line that trains the same; what it has by itself is not in it."""
    kind = str(config.data["kind"])
    start = ["softplace"]
    if config.processes > 1:
        start = ["torchrun", "--nproc-per-node", str(config.processes), "-m", "softplace"]
    parts = [*start, "train", "attention", "--model", config.model, "--steps", str(step)]
    if _is_words(config):
        parts += ["--data", f"number-words:{config.data['source']}-{config.data['target']}"]
        for name, range_ in (("count", [1, 3]), ("digits", [1, 6])):
            given = list(config.data[name])
            parts += ["--option", f"{name}={json.dumps(given, separators=(',', ':'))}"] * (given != range_)
    else:
        parts += ["--source", "SOURCE", "--target", "TARGET", "--tokens", str(config.data["tokens"])]
        if not config.data["held"]:
            parts += ["--valid-source", "VALID_SOURCE", "--valid-target", "VALID_TARGET"]
        parts += ["--longest-pair", str(config.data["longest"])] * (config.data["longest"] != LONGEST_PAIR)
        parts += ["--words", str(config.data["words"])] * (config.data["words"] is not None)
        parts += ["--lower"] * bool(config.data["lower"]) + ["--separate"] * (not config.data["shared"])
    usual = models.complete(config.model, kind, bool(config.data.get("shared", False)), {})
    for name, value in config.sizes.items():
        parts += [f"--{name.replace('_', '-')}", str(value)] * (value != usual[name])
    known = models.recipe(config.model, kind)
    schedule = "noam" if config.model == "transformer" else "constant"
    clip = math.inf if config.clip is None else config.clip
    for name, value, usually in (
        ("learning-rate", config.learning_rate, known.learning_rate),
        ("schedule", config.schedule, schedule),
        ("warmup", config.warmup, known.warmup),
        ("label-smoothing", config.label_smoothing, known.label_smoothing),
        ("room", config.room, known.room),
        ("accumulate", config.accumulate, 1),
        ("clip", clip, 1.0),
        ("precision", config.precision, "float32"),
        ("validate-steps", config.validate_steps, known.validate_steps),
        ("patience", config.patience or 0, 10),
        ("average", config.average, 5),
        ("seed", config.seed, 0),
    ):
        parts += [f"--{name}", str(value)] * (value != usually)
    return shlex.join(parts)

"""The page of a training: how it learned, the bounds, and images as the latent variables see them, one by one.

Axis legend: B images, D pixels, N variables, K classes.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import softplace
from softplace.latent.bounds import weights_of
from softplace.latent.config import LatentConfig
from softplace.latent.estimators._parts import draw
from softplace.latent.vae import CategoricalVAE
from softplace.randomness import generator
from softplace.report.page import write_page
from softplace.report.records import Axis, Cell, Figure, PlaceReport, Report, Section, Value

if TYPE_CHECKING:
    from softplace.latent._loop import Loop

SHOWN = 12
"""Images that a reader steps through."""
_MOST_ROWS = 40
_NAMES = {"vae": "Categorical autoencoder", "predictor": "Categorical predictor"}
_OMITTED = ("digest", "pixels", "inputs", "outputs")


def write_training_page(
    path: Path, loop: "Loop", *, curve: Sequence[Mapping[str, Any]], evaluation: Mapping[str, Any]
) -> None:
    """Write the page of a training as one HTML file, in one step.

    Raises:
        InputError: The folder cannot be written; an old page then stays as it was.
    """
    write_page(training_report(loop, curve=curve, evaluation=evaluation), path)


def training_report(loop: "Loop", *, curve: Sequence[Mapping[str, Any]], evaluation: Mapping[str, Any]) -> Report:
    """All that the page of a training says."""
    config = loop.config
    sections = [
        Section(key="learning", title="Learning", verdict=None, figures=_learning(curve)),
        Section(key="bounds", title="Bounds on the log-likelihood", verdict=None, figures=[_bounds(evaluation)]),
        Section(key="codes", title="Images and their codes", verdict=None, figures=[_images(loop)]),
    ]
    name = _NAMES[config.model]
    place = PlaceReport(
        place="latent",
        question=f"{name}: {config.data['name']} by {config.estimator}",
        answer=_answer(config, evaluation),
        sections=[each for each in sections if each.figures],
        references=(),
        method=[
            "Bounds are importance-weighted, with one-hot samples of the trained network (Burda et al. 2016, equation "
            "8), on images that it was not trained on. Classes in use are exp of the entropy of a variable's mean "
            "weights over these images.",
        ],
        facts=_facts(loop, evaluation),
    )
    return Report(
        title=f"{name} on {config.data['name']}",
        places=(place,),
        pending=(),
        command=command_of(config, int(evaluation["step"])),
        provenance={"softplace": softplace.__version__, "torch": str(torch.__version__)},
        about="training",
    )


def _answer(config: LatentConfig, evaluation: Mapping[str, Any]) -> str:
    bounds = evaluation["bounds"]
    most = max(bounds, key=int)
    exact = evaluation["log_likelihood"]
    known = "" if exact is None else f", and the log-likelihood itself {exact:.5g}"
    return (
        f"After {evaluation['step']:,} steps the bound with {int(most):,} samples is {bounds[most]:.5g} nats an image"
        f"{known}; a variable uses {evaluation['perplexity']:.3g} of its {config.sizes['classes']} classes in the mean."
    )


def _learning(curve: Sequence[Mapping[str, Any]]) -> list[Figure]:
    figures = []
    for column, label in (("bound", "Bound on training images (nats)"), ("validation_bound", "Validation (nats)")):
        rows: list[dict[str, Value]] = [
            {"step": line["step"], column: line[column]} for line in curve if isinstance(line.get(column), float | int)
        ]
        if rows:
            figures.append(
                Figure(
                    key=column,
                    kind="curve",
                    title=f"{label.split(' (')[0]} while learning",
                    caption=f"At the end: {rows[-1][column]:.5g}. Higher is better.",
                    x=Axis(column="step", label="Step"),
                    y=Axis(column=column, label=label),
                    rows=rows,
                )
            )
    return figures


def _bounds(evaluation: Mapping[str, Any]) -> Figure:
    rows: list[dict[str, Value]] = [
        {"samples": f"{int(count):,} samples", "bound": value} for count, value in evaluation["bounds"].items()
    ]
    if evaluation["log_likelihood"] is not None:
        rows.append({"samples": "log-likelihood", "bound": evaluation["log_likelihood"]})
    return Figure(
        key="bounds",
        kind="bar",
        title="Bound by the number of samples",
        caption="With one sample it is the ELBO; more samples only raise it, to the log-likelihood.",
        x=Axis(column="bound", label="Nats an image"),
        y=Axis(column="samples", label="Samples", scale="category"),
        rows=rows,
    )


def _images(loop: "Loop") -> Figure:
    """Panels for an image: its pixels, the weights of its latent variables, what one sample of them says."""
    net, images = loop.net, loop.binary["test"][:SHOWN]
    draws = generator(loop.config.seed, "page")
    device = images.device
    with torch.no_grad():
        if isinstance(net, CategoricalVAE):
            weights = weights_of(net.encode(images), net.map)[0]
            told = torch.sigmoid(net.decode(draw(weights.cpu(), 1, draws, weights.dtype)[0].to(device)))
            other = net.sample(len(images)) if device.type != "cpu" else net.sample(len(images), generator=draws)
            fourth = ("a draw of the prior", other)
        else:
            upper = images[:, : net.inputs]
            weights = torch.softmax(net.logits(0, upper), -1)
            flat = upper
            for layer in range(len(net.layers)):
                shares = torch.softmax(net.logits(layer, flat), -1).cpu()
                flat = draw(shares, 1, draws, shares.dtype)[0].to(device).flatten(-2)
            told = torch.cat([upper, torch.sigmoid(net.readout(flat))], -1)
            fourth = ("upper half, given", torch.cat([upper, torch.zeros_like(images[:, net.inputs :])], -1))
    shape = loop.images.shape
    panels = (
        ("image", images.view(-1, *shape)),
        ("weights: a row a variable, a column a class", weights),
        ("what a sample of them says", told.view(-1, *shape)),
        (fourth[0], fourth[1].view(-1, *shape)),
    )
    rows: list[dict[str, Value]] = [
        {"image": number, "panel": name, "row": row, "value": _rounded(each)}
        for name, values in panels
        for number, matrix in enumerate(values)
        for row, each in enumerate(matrix[:_MOST_ROWS])
    ]
    return Figure(
        key="images",
        kind="steps",
        title="Test images, and what is known of them",
        caption=f"{len(images)} images that were not trained on. Step through them.",
        x=Axis(column="image", label="Image"),
        y=Axis(column="row", label="Row"),
        rows=rows,
        facet="panel",
    )


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 3) for value in values.double().tolist()]


def _facts(loop: "Loop", evaluation: Mapping[str, Any]) -> dict[str, Cell]:
    images = loop.images
    facts: dict[str, Cell] = {
        "parameters": sum(each.numel() for each in loop.net.parameters()),
        "images": f"{len(images.train):,} training, {len(images.validation):,} validation, {len(images.test):,} test",
        "seconds of training": evaluation["seconds"],
    }
    for name, value in loop.config.flat().items():
        if value is not None and name.removeprefix("data's ") not in _OMITTED:
            facts[name.replace("_", " ")] = value if isinstance(value, str | int | float | bool) else str(value)
    return facts


def command_of(config: LatentConfig, steps: int) -> str:
    """What to type to train it again."""
    words = ["softplace", "train", "latent", "--model", config.model, "--estimator", config.estimator]
    values: dict[str, Any] = {
        "data": config.data["name"],
        "binarised": config.data["binarised"],
        "samples": config.samples,
        "temperature": config.temperature,
        "anneal-rate": config.anneal_rate or None,
        "free-bits": config.free_bits or None,
        "variables": config.sizes["variables"],
        "classes": config.sizes["classes"],
        "layers": config.sizes.get("layers"),
        "hidden": ",".join(map(str, config.sizes["hidden"])) if "hidden" in config.sizes else None,
        "steps": steps,
        "batch": config.batch,
        "learning-rate": config.learning_rate,
        "clip": config.clip,
        "validate-steps": config.validate_steps,
        "seed": config.seed,
    }
    for name, value in values.items():
        if value is not None:
            words += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    if config.sizes.get("learned_prior"):
        words.append("--learned-prior")
    return shlex.join(words)

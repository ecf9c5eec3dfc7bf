"""Train a network with categorical latent variables, in a folder that can be gone on with: `train("vae", out="mine")`.

No axes.

Every step draws its images and its samples from the seed and its number, and a checkpoint has all else that a step
depends on. So a training that was killed and one that ran through end with the same bits, on the same machine.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import softplace
from softplace.errors import InputError, nearest
from softplace.latent import data as images_of
from softplace.latent._loop import Loop, Net
from softplace.latent.config import MODELS, LatentConfig
from softplace.latent.estimators import get
from softplace.latent.vae import ENUMERABLE, CategoricalPredictor, CategoricalVAE
from softplace.progress import Display, Silent
from softplace.randomness import derive
from softplace.training import checkpoint
from softplace.training.arguments import clipping, place, positive, whole
from softplace.training.arguments import folder as folder_of
from softplace.training.checkpoint import CHECKPOINT, CONFIG
from softplace.training.folder import EVALUATION, PAGE, TrainingFolder
from softplace.training.running import DivergenceError as DivergenceError
from softplace.training.running import enough_memory

LARGEST = 2**28
"""Numbers that the samples of a step may have: beyond, memory is filled."""
BOUNDS = (1, 10, 100, 1000)
"""Samples of the bounds that are measured at the end."""


@dataclass(frozen=True, kw_only=True)
class LatentResult:
    """A training that reached its last step.

    Args:
        net: Trained.
        config: What it was trained by.
        step: How many steps were made, in all runs together.
        curve: The lines of the learning curve.
        evaluation: What is in `evaluation.json`.
        page: The HTML page.
    """

    net: Net
    config: LatentConfig
    step: int
    curve: list[dict[str, Any]]
    evaluation: Mapping[str, Any]
    page: Path


def train(
    model: str = "vae",
    *,
    data: str | os.PathLike[str] = "digits",
    binarised: str = "fixed",
    out: str | os.PathLike[str] | None = None,
    estimator: str = "gumbel-softmax",
    samples: int | None = None,
    temperature: float | None = None,
    anneal_rate: float = 0.0,
    free_bits: float = 0.0,
    variables: int = 20,
    classes: int = 10,
    hidden: tuple[int, ...] = (200,),
    layers: int = 2,
    learned_prior: bool = False,
    steps: int = 10_000,
    batch: int = 100,
    learning_rate: float = 1e-3,
    clip: float | None = None,
    validate_steps: int = 500,
    seed: int = 0,
    device: str = "auto",
    fresh: bool = False,
    display: Display | None = None,
    checkpoint_seconds: float = 15.0,
    curve_steps: int = 100,
) -> LatentResult:
    """Train a network, or go on with it, then evaluate it and write its page.

    Args:
        model: "vae" (`CategoricalVAE`), or "predictor" (`CategoricalPredictor`) of the lower half of an image.
        data: "digits" or an .npz file, see `softplace.latent.data.load`.
        binarised: Pixels become 0 and 1: "fixed" (above 1/2), "sampled" (anew at every step), or "none".
        out: Folder; one with the same training goes on. None: `trainings/latent-<model>`.
        estimator: A name of `softplace.latent.estimators`.
        samples: Of the estimator. None: the fewest that it works with.
        temperature: Of Gumbel-softmax estimators; where `anneal_rate` is above 0, where it ends. None: 0.5.
        anneal_rate: The temperature falls from 1 by `exp(-rate step)`, see `estimators.anneal`; 0: it is fixed.
        free_bits: Of the VAE, per variable.
        variables, classes: N and K, of each layer.
        hidden, learned_prior: Of the VAE.
        layers: Of latent variables, of the predictor.
        steps: How many updates in all. More than before make a finished training longer.
        batch: Images in an update.
        learning_rate: Of Adam.
        clip: Longest gradient; None = never shortened.
        validate_steps: Updates between two validations.
        seed: Of the parameters, the order of the images and the samples.
        device: "auto" (a GPU if there is one), "cpu" or "cuda".
        fresh: Forget what the folder has.
        display: Where progress is shown; None: nowhere.
        checkpoint_seconds: How much time a kill may lose.
        curve_steps: Steps between two lines of the curve.

    Raises:
        InputError: Something given, or found in the folder, cannot be used. Nothing has been overwritten then.
        DivergenceError: A loss or gradient was not finite. The last line of the curve says so.
        KeyboardInterrupt: Ctrl-C or a polite kill. Nothing is lost.
    """
    for name, value, known in (("model", model, MODELS), ("binarised", binarised, images_of.BINARISED)):
        if value not in known:
            raise InputError(f"Unknown {name!r} {value!r}. {nearest(str(value), known)}")
    sizes = _sizes(model, variables=variables, classes=classes, hidden=hidden, layers=layers, prior=learned_prior)
    chosen = _estimator(model, estimator, samples, temperature, anneal_rate, sizes)
    if model == "predictor" and free_bits:
        raise InputError(f"'free_bits' are of the vae, which has a divergence. Got {free_bits!r}. Leave it out.")
    if isinstance(free_bits, bool) or not isinstance(free_bits, int | float) or not 0 <= free_bits < 1e6:
        raise InputError(f"'free_bits' must be a number from 0. Got {free_bits!r}. Use 0 for none.")
    images = images_of.load(data)
    config = LatentConfig(
        model=model,
        data={"name": _name(data), "binarised": binarised, "digest": images.digest},
        sizes=sizes | _widths(model, images) | ({"map": get(estimator).map} if model == "vae" else {}),
        **chosen,
        free_bits=float(free_bits),
        batch=whole("batch", batch, 1, len(images.train)),
        learning_rate=positive("learning_rate", learning_rate),
        clip=clipping(clip),
        validate_steps=whole("validate_steps", validate_steps, 1),
        seed=whole("seed", seed, 0, 2**63 - 1),
    )
    widest = max(images.train.shape[1], config.sizes["variables"] * config.sizes["classes"])
    if config.samples * config.batch * widest > LARGEST:
        raise InputError(
            f"'samples' and 'batch' must give at most {LARGEST:,} numbers a step. Got {config.samples:,} samples of "
            f"{config.batch:,} images of {widest:,}. Use fewer."
        )
    total = whole("steps", steps, 1)
    whole("curve_steps", curve_steps, 1)
    positive("checkpoint_seconds", checkpoint_seconds)
    where = place(device)
    path = folder_of(f"trainings/latent-{model}" if out is None else out)
    shown = Silent() if display is None else display
    devices = [where] if where.type == "cuda" else []
    way = "Use a smaller --batch, fewer --samples, --variables or --classes, or another --estimator"
    with enough_memory(way), torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(config.seed, "parameters"))
        net = construct(config)
        loop = Loop(net, images, config, where, shown, curve_steps)
        with TrainingFolder.open(path, config, fresh=fresh) as folder:
            loop.resume(folder, total)
            loop.run(folder, total, checkpoint_seconds)
            evaluation = _evaluated(folder, loop, shown)
            page = _write_page(folder, loop, evaluation)
            return LatentResult(
                net=net, config=config, step=loop.step, curve=folder.curve(), evaluation=evaluation, page=page
            )


def construct(config: LatentConfig) -> Net:
    """The net, its parameters drawn from PyTorch's global generator."""
    sizes: dict[str, Any] = dict(config.sizes)
    if config.model == "predictor":
        return CategoricalPredictor(**sizes)
    return CategoricalVAE(**sizes | {"hidden": tuple(sizes["hidden"])})


def load(folder: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> tuple[Net, LatentConfig]:
    """The trained net of a folder, and what it was trained by: `net, config = load("trainings/latent-vae")`.

    Raises:
        InputError: There is none, or it is damaged or of another format.
    """
    path = Path(folder)
    config = checkpoint.read_config(path, LatentConfig)
    found = None if config is None else checkpoint.read(path, config)
    if config is None or found is None:
        missing = CONFIG if config is None else CHECKPOINT
        raise InputError(
            f"{str(path)!r}: expected the folder of a training. Got one without {missing}. "
            "Train one: softplace train latent."
        )
    with torch.random.fork_rng(devices=[]):  # the draw of parameters that are replaced at once leaves no trace
        net = construct(config)
    own = {name.removeprefix("net."): value for name, value in found.part("net/").items() if name.startswith("net.")}
    expected = {name: value.shape for name, value in net.state_dict().items()}
    if {name: value.shape for name, value in own.items()} != expected:
        raise InputError(f"{str(path / CHECKPOINT)!r}: expected the parameters of this softplace's net. Got others.")
    net.load_state_dict(own)
    return net.to(device), config


def summary(result: LatentResult) -> str:
    """What was measured, in lines."""
    found, config = result.evaluation, result.config
    bounds = ", ".join(f"{count} samples {value:.5g}" for count, value in found["bounds"].items())
    lines = [
        f"{config.model} by {config.estimator} after {result.step:,} steps ({found['seconds']:,.0f} s): "
        f"bound on the log-likelihood of {found['images']:,} test images, in nats: {bounds}.",
    ]
    if found["log_likelihood"] is not None:
        lines.append(
            f"Log-likelihood, by all {found['configurations']:,} configurations: {found['log_likelihood']:.5g}."
        )
    lines.append(f"Classes in use: {found['perplexity']:.3g} of {config.sizes['classes']} a variable, in the mean.")
    return "\n".join([*lines, f"Page: {result.page.absolute()}"])


def _sizes(
    model: str, *, variables: int, classes: int, hidden: tuple[int, ...], layers: int, prior: bool
) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "variables": whole("variables", variables, 1, 100_000),
        "classes": whole("classes", classes, 1, 100_000),
    }
    if model == "vae":
        units = [whole("hidden", each, 1, 10**6) for each in hidden]
        return sizes | {"hidden": units, "learned_prior": bool(prior)}
    return sizes | {"layers": whole("layers", layers, 1, 1000)}


def _widths(model: str, images: images_of.Images) -> dict[str, int]:
    width = images.train.shape[1]
    if model == "vae":
        return {"pixels": width}
    if width < 2:
        raise InputError(f"'data' must have 2 pixels or more for a predictor. Got {width}. Use the vae.")
    rows = images.shape[0]
    upper = rows // 2 * images.shape[1] if rows > 1 else width // 2
    return {"inputs": upper, "outputs": width - upper}


def _estimator(
    model: str,
    name: str,
    samples: int | None,
    temperature: float | None,
    rate: float,
    sizes: Mapping[str, Any],
) -> dict[str, Any]:
    """The settings of the estimator."""
    known = get(name)
    count = whole("samples", known.least_samples if samples is None else samples, 1, 100_000)
    if count < known.least_samples:
        raise InputError(f"'samples' of {name} must be {known.least_samples} or more. Got {count}.")
    if known.needs_enumeration:
        ways = sizes["classes"] ** sizes["variables"]
        from softplace.latent.estimators import LIMIT

        if ways > LIMIT:
            raise InputError(
                f"'estimator' {name} looks at all classes**variables configurations, at most {LIMIT:,}. Got "
                f"{sizes['classes']}**{sizes['variables']}. Use fewer, or an estimator that samples, e.g. disarm."
            )
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1e6:
        raise InputError(f"'anneal_rate' must be a number from 0. Got {rate!r}. Use 0 for a fixed temperature.")
    if not known.has_temperature and (temperature is not None or rate):
        raise InputError(f"'temperature' and 'anneal_rate' are none of {name}'s. Leave them out.")
    warm = positive("temperature", 0.5 if temperature is None else temperature) if known.has_temperature else None
    return {
        "estimator": name,
        "samples": count,
        "temperature": warm,
        "anneal_rate": float(rate),
    }


def _name(data: str | os.PathLike[str]) -> str:
    return "digits" if os.fspath(data) == "digits" else Path(data).name


def _evaluated(folder: TrainingFolder, loop: Loop, display: Display) -> dict[str, Any]:
    """The evaluation of the net as it is now: from the folder if it has it, else made and written there."""
    try:
        known: dict[str, Any] = json.loads((folder.path / EVALUATION).read_bytes())
        if known["step"] == loop.step:
            return known
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # it is made again, from the checkpoint
    display.say(f"Evaluates on {len(loop.images.test):,} images.")
    sizes = loop.config.sizes
    ways = sizes["classes"] ** sizes["variables"]
    exact = None
    if isinstance(loop.net, CategoricalVAE) and ways <= ENUMERABLE:
        exact = float(loop.net.log_likelihood(loop.binary["test"]).double().mean())
    content = {
        "softplace": softplace.__version__,
        "torch": str(torch.__version__),
        "step": loop.step,
        "seconds": round(loop.seconds, 3),
        "images": len(loop.images.test),
        "bounds": {str(count): float(loop.bound("test", count).double().mean()) for count in BOUNDS},
        "log_likelihood": exact,
        "configurations": ways if exact is not None else None,
        "perplexity": float(loop.codes("test").mean()),
    }
    text = json.dumps(content, indent=2, allow_nan=False)
    checkpoint.write(folder.path / EVALUATION, (text + "\n").encode())
    return content


def _write_page(folder: TrainingFolder, loop: Loop, evaluation: Mapping[str, Any]) -> Path:
    from softplace.latent.training_page import write_training_page

    path = folder.path / PAGE
    write_training_page(path, loop, curve=folder.curve(), evaluation=evaluation)
    return path

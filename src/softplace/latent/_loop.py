"""The steps of a training, from wherever its folder was left to the last.

Axis legend: B batch, D pixels.
"""

import math
import time
from typing import Any

import torch
from torch import Tensor, nn

from softplace.errors import InputError
from softplace.latent.bounds import weights_of
from softplace.latent.config import LatentConfig
from softplace.latent.controls import control_for
from softplace.latent.data import Images, binarise
from softplace.latent.progress import Snapshot
from softplace.latent.vae import CategoricalPredictor, CategoricalVAE, LatentLoss, perplexity
from softplace.progress import Display
from softplace.randomness import derive, generator
from softplace.training import checkpoint
from softplace.training.checkpoint import CHECKPOINT, Checkpoint
from softplace.training.folder import CURVE, TrainingFolder
from softplace.training.running import DivergenceError, politely

Net = CategoricalVAE | CategoricalPredictor
VALIDATED = 10  # samples of the bound at a validation


class Trained(nn.Module):
    """The net with what its estimator learns: everything that a checkpoint has."""

    def __init__(self, net: Net, control: nn.Module | None) -> None:
        super().__init__()
        self.net, self.control = net, control


class Loop:
    """A network on its way: everything that changes from step to step."""

    def __init__(
        self, net: Net, images: Images, config: LatentConfig, device: torch.device, display: Display, every: int
    ) -> None:
        self.net, self.images, self.config, self.device = net, images, config, device
        self._display, self._every = display, every
        self._inputs = net.pixels if isinstance(net, CategoricalVAE) else net.inputs
        self._control = control_for(config.estimator, self._inputs, net.variables, net.classes)
        self._all = Trained(net, self._control).to(device)
        self._parameters = list(self._all.parameters())
        self._optimizer = torch.optim.Adam(self._parameters, config.learning_rate, fused=True)
        self.step, self._before = 0, 0
        self.seconds = 0.0
        self.validations: list[dict[str, float]] = []
        self._order: tuple[int, Tensor] | None = None
        self._sum, self._count, self._norm = 0.0, 0, 0.0
        self._latest: float | None = None
        self.binary = {name: self._fixed(name) for name in ("validation", "test")}

    def _fixed(self, part: str) -> Tensor:
        """A part to be measured on: sampled pixels are drawn once."""
        pixels: Tensor = getattr(self.images, part)
        return binarise(pixels, self.config.data["binarised"], generator(0, "binarised", part)).to(self.device)

    def resume(self, folder: TrainingFolder, steps: int) -> None:
        """Go to where the folder's checkpoint is, if it has one.

        Raises:
            InputError: The checkpoint cannot be used, or is beyond the last step.
        """
        found = checkpoint.read(folder.path, self.config)
        if found is None:
            folder.cut(0)
            return
        checkpoint.fit(folder.path, self._all, found)
        if (step := found.progress["step"]) > steps:
            raise InputError(
                f"{str(folder.path / CHECKPOINT)!r}: expected a training of at most {steps:,} steps, as asked for. "
                f"Got one of {step:,}. Ask for as many or more, or use another --out."
            )
        folder.cut(found.progress["curve"])
        found.restore(self._all, self._optimizer)
        self.step = self._before = step
        self.seconds, self._latest = found.progress["seconds"], found.progress["latest"]
        self.validations = list(found.progress["validations"])
        self._sum, self._count, self._norm = found.progress["tally"]
        self._display.say(f"Goes on from step {self.step:,} of {steps:,} in {folder.path}.")

    def run(self, folder: TrainingFolder, steps: int, checkpoint_seconds: float) -> None:
        """Train up to a step. Errors as `train`."""
        start = kept = time.monotonic()
        earlier, kept_step = self.seconds, self.step
        with politely() as stopped:
            while self.step < steps:
                self._one_step(folder)
                self.seconds = earlier + time.monotonic() - start
                if self.step % self._every == 0:
                    self._latest = self._sum / self._count
                    folder.append(self._row())
                    self._sum, self._count, self._norm = 0.0, 0, 0.0
                if self.step % self.config.validate_steps == 0:
                    self._validate(folder)
                if time.monotonic() - kept >= checkpoint_seconds or stopped.is_set():
                    self._keep(folder)
                    kept, kept_step = time.monotonic(), self.step
                if stopped.is_set():
                    raise KeyboardInterrupt
                self._display.show(self._snapshot(steps, time.monotonic() - start))
            if kept_step < self.step:
                self._keep(folder)

    def loss(self, pixels: Tensor, options: dict[str, Any]) -> LatentLoss:
        """Of a batch of binarised pixels."""
        config = self.config
        if isinstance(self.net, CategoricalVAE):
            return self.net.loss(pixels, config.estimator, free_bits=config.free_bits, **options)
        return self.net.loss(*halves(pixels, self.net.inputs), config.estimator, **options)

    def _one_step(self, folder: TrainingFolder) -> None:
        config = self.config
        pixels = self._next().to(self.device)
        torch.manual_seed(derive(config.seed, "samples", self.step))
        options = config.options(self.step)
        moving = {} if self._control is None else self._control.options(pixels[:, : self._inputs])
        found = self.loss(pixels, options | moving)
        total = found.surrogate.mean()
        variance = found.estimate.variance
        for parameter in self._parameters:
            parameter.grad = None
        (total if variance is None else total + variance).backward()  # type: ignore[no-untyped-call]
        gradients = [each.grad for each in self._parameters if each.grad is not None]
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
        bound = float(found.bound.mean())
        if not math.isfinite(bound) or not math.isfinite(norm):
            self._diverge(folder, f"a bound of {bound:.4g} and a gradient of norm {norm:.4g}")
        if config.clip is not None and norm > config.clip:
            torch._foreach_mul_(gradients, config.clip / norm)
        self._optimizer.step()
        if self._control is not None:
            self._control.update(found.estimate, moving)
        self._sum, self._count, self._norm = self._sum + bound, self._count + 1, self._norm + norm
        self.step += 1

    def _next(self) -> Tensor:
        """The binarised images of this step: every image once in an epoch, whose last batch is never a short one."""
        config, rows = self.config, len(self.images.train)
        epoch, place = divmod(self.step, max(1, rows // config.batch))
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, torch.randperm(rows, generator=generator(config.seed, "order", epoch))
        numbers = self._order[1][place * config.batch : (place + 1) * config.batch]
        return binarise(
            self.images.train[numbers], config.data["binarised"], generator(config.seed, "binarised", self.step)
        )

    def bound(self, part: str, samples: int) -> Tensor:
        """IWAE with so many samples on a part, of every image, in nats."""
        draw = torch.Generator(self.device).manual_seed(derive(0, "bound", part, samples))
        pixels = self.binary[part]
        found = []
        for rows in torch.split(pixels, max(1, 2**22 // (samples * pixels.shape[1]))):
            if isinstance(self.net, CategoricalVAE):
                found.append(self.net.bound(rows, samples=samples, generator=draw))
            else:
                found.append(self.net.bound(*halves(rows, self.net.inputs), samples=samples, generator=draw))
        return torch.cat(found)

    def codes(self, part: str) -> Tensor:
        """How many classes each variable (of the first layer) uses on a part, (N,)."""
        pixels = self.binary[part]
        with torch.no_grad():
            if isinstance(self.net, CategoricalVAE):
                return perplexity(weights_of(self.net.encode(pixels), self.net.map)[0])
            return perplexity(torch.softmax(self.net.logits(0, pixels[:, : self.net.inputs]), -1))

    def _validate(self, folder: TrainingFolder) -> None:
        bound = float(self.bound("validation", VALIDATED).mean())
        if not math.isfinite(bound):
            self._diverge(folder, f"a bound of {bound} on the validation")
        row = {"step": self.step, "validation_bound": bound, "perplexity": float(self.codes("validation").mean())}
        folder.append(row)
        self.validations.append(row)
        self._display.say(f"Step {self.step:,}: bound {bound:.5g} nats, {row['perplexity']:.3g} classes in use.")

    def _diverge(self, folder: TrainingFolder, what: str) -> None:
        folder.append({"step": self.step, "diverged": what})
        kept = f"{CHECKPOINT} is of before" if (folder.path / CHECKPOINT).exists() else "There is no checkpoint yet"
        raise DivergenceError(
            f"Training diverged: expected finite numbers, got {what} at step {self.step + 1:,} with learning rate "
            f"{self.config.learning_rate:g}. {kept}; {CURVE} in {str(folder.path)!r} has the way there. "
            "Use a smaller --learning-rate or --clip, more --samples or a higher --temperature, and another --out."
        )

    def _row(self) -> dict[str, Any]:
        row = {
            "step": self.step,
            "bound": self._sum / self._count,
            "gradient_norm": self._norm / self._count,
            "seconds": round(self.seconds, 3),
        }
        temperature = self.config.options(self.step).get("temperature")
        return row if temperature is None else row | {"temperature": temperature}

    def _keep(self, folder: TrainingFolder) -> None:
        if not all(bool(each.isfinite().all()) for each in self._parameters):
            self._diverge(folder, "parameters that are not finite")
        progress = {
            "step": self.step,
            "seconds": self.seconds,
            "curve": folder.position(),
            "latest": self._latest,
            "validations": self.validations,
            "tally": [self._sum, self._count, self._norm],
        }
        checkpoint.save(folder.path, self.config, Checkpoint.of(self._all, self._optimizer, progress))

    def _snapshot(self, steps: int, seconds: float) -> Snapshot:
        return Snapshot(
            model=self.config.model,
            estimator=self.config.estimator,
            step=self.step,
            steps=steps,
            before=self._before,
            batch=self.config.batch,
            seconds=seconds,
            bound=self._latest,
        )


def halves(pixels: Tensor, inputs: int) -> tuple[Tensor, Tensor]:
    """The upper part of the images, which is given, and the lower, which is predicted."""
    return pixels[:, :inputs], pixels[:, inputs:]

"""The steps of a training, from wherever its folder was left to the last.

Axes: T time, B batch.
"""

import math
import time
from typing import Any

import torch
from torch import Tensor, nn

from softplace.errors import InputError
from softplace.memory.checkpoint import TrainingConfig
from softplace.memory.evaluation import answer
from softplace.memory.optimizer import GravesRMSProp
from softplace.memory.progress import Snapshot
from softplace.memory.tasks import curriculum as curricula
from softplace.memory.tasks.curriculum import Progress, Uniform
from softplace.memory.tasks.task import Episode, Task
from softplace.progress import Display
from softplace.randomness import generator
from softplace.training import checkpoint
from softplace.training.checkpoint import CHECKPOINT, Checkpoint
from softplace.training.folder import CURVE, TrainingFolder
from softplace.training.running import DivergenceError, flushed, politely

OPTIMIZERS = ("rmsprop", "adam")
FAR_WORSE = 1000.0  # times the first loss: taken for a training that will not come back


class _Tally:
    """Sums since the last line of the curve."""

    def __init__(self) -> None:
        self.count, self.clipped = 0, 0
        self.loss = self.norm = self.longest = 0.0

    def add(self, loss: float, norm: float, clipped: bool) -> None:
        self.count += 1
        self.loss += loss
        self.norm += norm
        self.longest = max(self.longest, norm)
        self.clipped += clipped

    def row(self) -> dict[str, float]:
        return {
            "loss": self.loss / self.count,
            "gradient_norm": self.norm / self.count,
            "largest_gradient_norm": self.longest,
            "clipped": self.clipped / self.count,
        }


def wrong_share(task: Task, outputs: Tensor, episode: Episode) -> float:
    """What a curriculum judges by: the share of sequences with a mistake, else the share of wrong bits.

    Raises:
        InputError: The task measures neither.
    """
    with torch.no_grad():
        errors = task.errors(outputs, episode)
    for name in ("wrong sequence", "wrong share"):
        if name in errors:
            return float(errors[name].double().mean())
    raise InputError(
        f"'curriculum' needs a task that counts wrong answers. Got {task.name!r}, which measures "
        f"{', '.join(errors)}. Use {Uniform.name!r}."
    )


class Loop:
    """A net on its way: everything that changes from step to step."""

    def __init__(
        self, net: nn.Module, task: Task, config: TrainingConfig, device: torch.device, display: Display, every: int
    ) -> None:
        self.net, self._task, self.config, self.device = net, task, config, device
        self._display, self._every = display, every
        self._parameters = list(net.parameters())
        self._optimizer: torch.optim.Optimizer = (
            GravesRMSProp(self._parameters, config.learning_rate)
            if config.optimizer == "rmsprop"
            else torch.optim.Adam(self._parameters, config.learning_rate)
        )
        self.step, self._before = 0, 0
        self.seconds = 0.0
        self._tally = _Tally()
        self._curriculum = None if config.curriculum == Uniform.name else curricula.get(config.curriculum)
        self._lessons = [task.harder(**level) for level in task.levels] if self._curriculum else [task]
        self._progress = Progress()
        self._first: float | None = None
        self._latest: float | None = None
        self._said_long = False

    def resume(self, folder: TrainingFolder, steps: int) -> None:
        """Go to where the folder's checkpoint is, if it has one.

        Raises:
            InputError: The checkpoint cannot be used, or is beyond the last step.
        """
        found = checkpoint.read(folder.path, self.config)
        if found is not None:
            checkpoint.fit(folder.path, self.net, found)
            if (step := found.progress["step"]) > steps:
                raise InputError(
                    f"{str(folder.path / CHECKPOINT)!r}: expected a training of at most {steps:,} steps, as asked for. "
                    f"Got one of {step:,}. Ask for as many or more, or use another --out."
                )
            folder.cut(found.progress["curve"])
            found.restore(self.net, self._optimizer)
            self.step = self._before = found.progress["step"]
            self.seconds = found.progress["seconds"]
            vars(self._tally).update(found.progress["tally"])
            self._progress = Progress(*found.progress["curriculum"])
            self._first, self._latest = found.progress["first"], found.progress["latest"]
            self._display.say(f"Goes on from step {self.step:,} of {steps:,} in {folder.path}.")
        else:
            folder.cut(0)

    def run(self, folder: TrainingFolder, steps: int, checkpoint_seconds: float) -> None:
        """Train up to a step. Errors as `train`."""
        start = kept = time.monotonic()
        earlier, kept_step = self.seconds, self.step
        with flushed(), politely() as stopped:
            while self.step < steps:
                self._one_step(folder)
                now = time.monotonic()
                self.seconds = earlier + now - start
                due, keep = self.step % self._every == 0, now - kept >= checkpoint_seconds or stopped.is_set()
                if due or keep:
                    self._check(folder)
                if due:
                    self._latest = self._tally.row()["loss"]
                    folder.append(self._row())
                    self._tally = _Tally()
                if keep:
                    self._keep(folder)
                    kept, kept_step = time.monotonic(), self.step
                if stopped.is_set():
                    raise KeyboardInterrupt
                self._display.show(self._snapshot(steps, now - start))
            if kept_step < self.step:
                self._check(folder)
                self._keep(folder)
        if self._tally.count:  # after the checkpoint: a longer training writes this line at its own time instead
            folder.append(self._row())

    def _one_step(self, folder: TrainingFolder) -> None:
        number = self._lesson()
        task = self._lessons[number]
        episode = task.sample(self.config.batch, generator(self.config.seed, "data", self.step))
        self.say_long(len(episode.inputs))
        episode = episode.to(self.device)
        outputs = answer(self.net, episode)
        loss = task.loss(outputs, episode).mean()
        for parameter in self._parameters:  # `zero_grad` tells the profiler of itself, which takes longer
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [each.grad for each in self._parameters if each.grad is not None]
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
        value = float(loss.detach())
        if not math.isfinite(value):
            self._diverge(folder, f"a loss of {value}", self.step + 1)
        if not math.isfinite(norm):
            self._diverge(folder, f"a gradient of norm {norm}", self.step + 1)
        if self._first is None:
            self._first = value
        clip = self.config.clip
        if clip is not None and norm > clip:
            torch._foreach_mul_(gradients, clip / norm)
        self._optimizer.step()
        self._tally.add(value, norm, clip is not None and norm > clip)
        if self._curriculum is not None:
            error = wrong_share(task, outputs.detach(), episode)
            counts = len(self._lessons), number, self.config.batch
            self._progress = self._curriculum.record(self._progress, *counts, error)
        self.step += 1

    def _lesson(self) -> int:
        """Which lesson this step is of."""
        if self._curriculum is None:
            return 0
        return self._curriculum.choose(
            self._progress, len(self._lessons), generator(self.config.seed, "lesson", self.step)
        )

    def _check(self, folder: TrainingFolder) -> None:
        """A net that is far worse than it began has diverged too: saturated gates can keep its numbers finite."""
        first = 1.0 if self._first is None else max(self._first, 1.0)
        if self._tally.count and (mean := self._tally.loss / self._tally.count) > FAR_WORSE * first:
            self._diverge(folder, f"a mean loss of {mean:.3g} where the first was {first:.3g}", self.step)

    def _diverge(self, folder: TrainingFolder, what: str, step: int) -> None:
        folder.append({"step": step, "diverged": what})
        kept = f"{CHECKPOINT} is of before" if (folder.path / CHECKPOINT).exists() else "There is no checkpoint yet"
        raise DivergenceError(
            f"Training diverged: expected numbers that stay small, got {what} at step {step:,} with learning rate "
            f"{self.config.learning_rate:g}. {kept}; {CURVE} in {str(folder.path)!r} has the way there. "
            "Use a smaller --learning-rate or --clip, and another --out."
        )

    def _row(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "sequences": self.step * self.config.batch,
            **self._tally.row(),
            **({} if self._curriculum is None else {"lesson": self._progress.lesson + 1}),
            "seconds": round(self.seconds, 3),
        }

    def _keep(self, folder: TrainingFolder) -> None:
        if not all(bool(each.isfinite().all()) for each in self._parameters):
            self._diverge(folder, "parameters that are not finite", self.step)
        progress = {
            "step": self.step,
            "seconds": self.seconds,
            "curve": folder.position(),
            "tally": dict(vars(self._tally)),
            "curriculum": list(self._progress),
            "first": self._first,
            "latest": self._latest,
        }
        checkpoint.save(folder.path, self.config, Checkpoint.of(self.net, self._optimizer, progress))

    def _snapshot(self, steps: int, seconds: float) -> Snapshot:
        return Snapshot(
            model=self.config.model,
            task=self.config.task,
            step=self.step,
            steps=steps,
            before=self._before,
            batch=self.config.batch,
            seconds=seconds,
            loss=self._latest,
            lesson="" if self._curriculum is None else f"lesson {self._progress.lesson + 1} of {len(self._lessons)}",
        )

    def say_long(self, length: int) -> None:
        """Say once that a sequence of this length does not fit into the memory step by step."""
        slots = self.config.sizes.get("slots")
        if slots is not None and length > slots and not self._said_long:
            self._said_long = True
            self._display.say(
                f"{self.config.task}: there are sequences of more steps ({length:,}) than the memory has slots "
                f"({slots:,}). That is allowed: slots are used again."
            )

"""The steps of a training, from wherever its folder was left to the last, on one process or several.

Axis legend: B sentences, S source words, T target words, E width of a feature.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from softplace.attention.config import TranslationConfig
from softplace.attention.corpus import Batch, Corpus, Data
from softplace.attention.progress import Snapshot
from softplace.attention.rnnsearch import RNNSearch
from softplace.attention.text import PAD, batches
from softplace.attention.translator import Translator
from softplace.maps.linear import linear_cross_entropy_sums
from softplace.progress import Display
from softplace.randomness import derive, generator
from softplace.training import checkpoint
from softplace.training.checkpoint import CHECKPOINT, Checkpoint
from softplace.training.folder import CURVE, MODEL, SNAPSHOTS, TrainingFolder
from softplace.training.running import DivergenceError, politely

DECODED = 200
"""Sentences of the validation that are translated at every validation."""


class Ranks(NamedTuple):
    """Which process of how many this is."""

    rank: int = 0
    processes: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes."""
        return self.rank == 0

    def agree(self, number: float, device: torch.device) -> float:
        """What the first process says."""
        if self.processes == 1:
            return number
        said = torch.tensor(number, dtype=torch.float64, device=device)
        dist.broadcast(said, 0)
        return float(said)

    def wait(self) -> None:
        """Until all are here."""
        if self.processes > 1:
            dist.barrier()

    def summed(self, numbers: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.processes > 1:
            dist.all_reduce(numbers)
        return numbers


class Cost(nn.Module):
    """A net with its loss, in one call: what DistributedDataParallel wraps."""

    def __init__(self, net: nn.Module, smoothing: float) -> None:
        super().__init__()
        self.net, self._smoothing = net, smoothing

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The sums over the batch's words of the smoothed and of the plain loss."""
        net = cast(RNNSearch, self.net)  # or a Transformer
        features, _, _ = net.advance(batch.given, net.start(batch.source, batch.source_mask))
        return linear_cross_entropy_sums(
            features,
            net.output_weight,
            batch.wanted,
            net.output_bias,
            label_smoothing=self._smoothing if self.training else 0.0,
            ignore_index=PAD,
        )


class _Tally:
    """Sums since the last line of the curve."""

    def __init__(self) -> None:
        self.count, self.clipped, self.words = 0, 0, 0
        self.loss = self.plain = self.norm = self.longest = 0.0

    def add(self, loss: float, plain: float, words: int, norm: float, clipped: bool) -> None:
        self.count += 1
        self.words += words
        self.loss += loss
        self.plain += plain
        self.norm += norm
        self.longest = max(self.longest, norm)
        self.clipped += clipped

    def row(self) -> dict[str, float]:
        return {
            "loss": self.loss / self.words,
            "plain_loss": self.plain / self.words,
            "gradient_norm": self.norm / self.count,
            "largest_gradient_norm": self.longest,
            "clipped": self.clipped / self.count,
        }


class Loop:
    """A translator on its way: everything that changes from step to step."""

    def __init__(
        self,
        net: nn.Module,
        data: Data,
        config: TranslationConfig,
        device: torch.device,
        display: Display,
        every: int,
        ranks: Ranks,
    ) -> None:
        self.net, self._data, self.config, self.device = net, data, config, device
        self._display, self._every, self.ranks = display, every, ranks
        self._cost: nn.Module = Cost(net, config.label_smoothing)
        if ranks.processes > 1:
            self._cost = DistributedDataParallel(self._cost)
        self._parameters = list(net.parameters())
        transformer = config.model == "transformer"
        self._optimizer = torch.optim.Adam(
            self._parameters,
            config.learning_rate,
            betas=(0.9, 0.98) if transformer else (0.9, 0.999),
            eps=1e-9 if transformer else 1e-8,
            fused=True,
        )
        self.translator = Translator(net, data.source_tokens, data.target_tokens, device=device)
        self._validation = Corpus.of(
            (data.source_tokens.encode(each.source), data.target_tokens.encode(each.target)) for each in data.validation
        )
        self.step, self._before = 0, 0
        self.words, self._words_before = 0, 0
        self.seconds = 0.0
        self.stopped_early = False
        self.validations: list[dict[str, float]] = []
        self._epoch, self._place = 0, 0
        self._corpus: tuple[int, Corpus, Iterator[list[int]]] | None = None
        self._tally = _Tally()
        self._latest: float | None = None

    def resume(self, folder: TrainingFolder | Path) -> None:
        """Go to where the folder's checkpoint is, if it has one; the first process has it open.

        Raises:
            InputError: The checkpoint cannot be used.
        """
        path = folder if isinstance(folder, Path) else folder.path
        found = checkpoint.read(path, self.config)
        if found is not None:
            checkpoint.fit(path, self.net, found)
            if "validations" not in found.progress:
                raise checkpoint.damaged(path / CHECKPOINT, "a file of another kind, of the same training")
        if isinstance(folder, TrainingFolder):
            folder.cut(0 if found is None else found.progress["curve"])
        if found is None:
            return
        found.restore(self.net, self._optimizer)
        progress = found.progress
        self.step = self._before = progress["step"]
        self.words = self._words_before = progress["words"]
        self.seconds = progress["seconds"]
        self.validations = list(progress["validations"])
        self._epoch, self._place = progress["epoch"], progress["place"]
        vars(self._tally).update(progress["tally"])
        self._latest = progress["latest"]
        self.stopped_early = self._enough()
        self._display.say(f"Goes on from step {self.step:,} in {path}.")

    def run(self, folder: TrainingFolder | None, steps: int, checkpoint_seconds: float) -> None:
        """Train up to a step, or until the validation says that it is enough; `folder`: of the first process."""
        start = kept = time.monotonic()
        earlier, kept_step = self.seconds, self.step
        with politely() as stopped:
            while self.step < steps and not self.stopped_early:
                stop = self._one_step(folder, stopped.is_set())
                self.seconds = earlier + time.monotonic() - start
                if self.step % self._every == 0:
                    self._latest = self._tally.row()["plain_loss"]
                    if folder:
                        folder.append(self._row())
                    self._tally = _Tally()
                validates = self.step % self.config.validate_steps == 0
                if validates:
                    self._validate(folder)
                    self.seconds = earlier + time.monotonic() - start
                if folder and (validates or stop or time.monotonic() - kept >= checkpoint_seconds):
                    self._keep(folder)
                    kept, kept_step = time.monotonic(), self.step
                    if validates:  # not before: the old checkpoint needs others
                        _drop_snapshots(folder.path, self._kept())
                if stop:
                    raise KeyboardInterrupt
                self._display.show(self._snapshot(steps, time.monotonic() - start))
            if folder and kept_step < self.step:
                self._keep(folder)

    def _one_step(self, folder: TrainingFolder | None, stopping: bool) -> bool:
        """An update; whether any process was asked to stop."""
        config, ranks = self.config, self.ranks
        corpus_batches = [self._next() for _ in range(config.accumulate * ranks.processes)]
        words = sum(int(corpus.lengths[numbers, 1].sum()) for corpus, numbers in corpus_batches)
        for parameter in self._parameters:
            parameter.grad = None
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        sums[2] = float(stopping)
        mine = list(range(ranks.rank, len(corpus_batches), ranks.processes))
        for number in mine:
            corpus, numbers = corpus_batches[number]
            batch = corpus.batch(numbers).to(self.device)
            # Dropout depends on the step and the batch alone: not on which process has it, nor on what was before.
            torch.manual_seed(derive(config.seed, "dropout", self.step, number))
            with self._alone(number != mine[-1]):
                with self._precision():
                    loss, plain = self._cost(batch)
                (loss * (ranks.processes / words)).backward()  # DistributedDataParallel takes the mean over processes
            sums[0] += loss.detach()
            sums[1] += plain.detach()
        gradients = [each.grad for each in self._parameters if each.grad is not None]
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
        total, whole, stop = ranks.summed(sums).tolist()
        if not math.isfinite(total) or not math.isfinite(norm):
            self._diverge(folder, f"a loss of {total / words:.4g} and a gradient of norm {norm:.4g}")
        if config.clip is not None and norm > config.clip:
            torch._foreach_mul_(gradients, config.clip / norm)
        for group in self._optimizer.param_groups:
            group["lr"] = config.rate(self.step + 1)
        self._optimizer.step()
        self._tally.add(total, whole, words, norm, config.clip is not None and norm > config.clip)
        self.step += 1
        self.words += words
        return bool(stop > 0)

    def _next(self) -> tuple[Corpus, list[int]]:
        """The next batch: its corpus, and which pairs of it."""
        while True:
            if self._corpus is None or self._corpus[0] != self._epoch:
                corpus = self._data.epoch(self._epoch)
                order = generator(self.config.seed, "order", self._epoch)
                made = batches(corpus.lengths, room=self.config.room, generator=order)
                self._corpus = self._epoch, corpus, islice(made, self._place, None)
            _, corpus, waiting = self._corpus
            if (numbers := next(waiting, None)) is not None:
                self._place += 1
                return corpus, numbers
            self._epoch, self._place = self._epoch + 1, 0

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16")

    def _alone(self, alone: bool) -> AbstractContextManager[Any]:
        """Whether gradients wait for those of the next batch before processes share them."""
        return self._cost.no_sync() if alone and self.ranks.processes > 1 else nullcontext()  # type: ignore[operator]

    def validation_loss(self) -> float:
        """The plain loss of a word of the validation, in nats."""
        total, words = 0.0, 0
        cost = Cost(self.net, 0.0)
        with evaluating(self.net), torch.no_grad(), self._precision():
            for numbers in batches(self._validation.lengths, room=self.config.room):
                _, plain = cost(self._validation.batch(numbers).to(self.device))
                total += float(plain)
                words += int(self._validation.lengths[numbers, 1].sum())
        return total / words

    def _validate(self, folder: TrainingFolder | None) -> None:
        """Measure, keep the parameters for the average, and see whether it is enough."""
        row: dict[str, float] = {"step": self.step, "validation_loss": 0.0}
        if folder:
            row["validation_loss"] = self.validation_loss()
            if not math.isfinite(row["validation_loss"]):
                self._diverge(folder, f"a validation loss of {row['validation_loss']}")
            row |= self.translator.quality(self._data.validation[:DECODED], precision=self.config.precision)
            folder.append(row)
        self.validations.append(row)
        if folder:
            keep_snapshot(folder.path, self.config, self.net, row)
            said = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name not in ("step",))
            self._display.say(f"Step {self.step:,}: {said}.")
        self.stopped_early = bool(self.ranks.agree(float(self._enough()), self.device))

    def best(self) -> int:
        """The step of the best validation."""
        return int(min(self.validations, key=lambda row: row["validation_loss"])["step"])

    def _kept(self) -> set[int]:
        """Steps whose parameters are kept: the last of the average, and the best."""
        return {int(row["step"]) for row in self.validations[-self.config.average :]} | {self.best()}

    def _enough(self) -> bool:
        patience = self.config.patience
        if patience is None or not self.validations:
            return False
        return sum(row["step"] > self.best() for row in self.validations) >= patience

    def choose(self, folder: TrainingFolder) -> dict[str, Any]:
        """Put the net where the validation is best: at the last step, at the best, or in the mean of the last.

        Returns:
            What was compared, and which was chosen.
        """
        candidates: dict[str, dict[str, Tensor]] = {
            f"step {self.step}": {
                name: value.detach().clone() for name, value in checkpoint.own_tensors(self.net).items()
            }
        }
        if self.validations and (best := read_snapshot(folder.path, self.config, self.best())) is not None:
            candidates[f"step {self.best()}"] = best
        steps = [int(row["step"]) for row in self.validations[-self.config.average :]]
        kept = [each for step in steps if (each := read_snapshot(folder.path, self.config, step)) is not None]
        if len(kept) == len(steps) > 1:
            mean = {name: torch.stack([each[name].double() for each in kept]).mean(0) for name in kept[0]}
            candidates[f"mean of steps {steps[0]} to {steps[-1]}"] = {
                name: value.to(kept[0][name].dtype) for name, value in mean.items()
            }
        losses = {}
        for name, state in candidates.items():
            self.net.load_state_dict(state, strict=False)
            losses[name] = self.validation_loss()
        chosen = min(losses, key=losses.__getitem__)
        self.net.load_state_dict(candidates[chosen], strict=False)
        return {"validation_loss": losses, "chosen": chosen}

    def _diverge(self, folder: TrainingFolder | None, what: str) -> None:
        if folder:
            folder.append({"step": self.step, "diverged": what})
        where = str(folder.path) if folder else "the folder"
        raise DivergenceError(
            f"Training diverged: expected numbers that stay small, got {what} at step {self.step + 1:,} with learning "
            f"rate {self.config.rate(self.step + 1):g}. {CHECKPOINT} in {where!r}, if there is one, is of before; "
            f"{CURVE} has the way there. Use a smaller --learning-rate or --clip, and another --out."
        )

    def _row(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "words": self.words,
            **self._tally.row(),
            "learning_rate": self.config.rate(self.step),
            "seconds": round(self.seconds, 3),
        }

    def _keep(self, folder: TrainingFolder) -> None:
        progress = {
            "step": self.step,
            "words": self.words,
            "seconds": self.seconds,
            "curve": folder.position(),
            "tally": dict(vars(self._tally)),
            "validations": self.validations,
            "epoch": self._epoch,
            "place": self._place,
            "latest": self._latest,
        }
        checkpoint.save(folder.path, self.config, Checkpoint.of(self.net, self._optimizer, progress))

    def _snapshot(self, steps: int, seconds: float) -> Snapshot:
        return Snapshot(
            model=self.config.model,
            step=self.step,
            steps=steps,
            before=self._before,
            words=self.words - self._words_before,
            seconds=seconds,
            loss=self._latest,
            validation=self.validations[-1] if self.validations else None,
        )


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Without dropout."""
    before = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(before)


def _snapshot_name(step: int) -> str:
    return f"snapshot-{step:08d}.safetensors"


def keep_snapshot(folder: Path, config: TranslationConfig, net: nn.Module, row: dict[str, float]) -> None:
    """Write the parameters as they are now."""
    kept = Checkpoint.parameters(net, row)
    checkpoint.save(folder, config, kept, _snapshot_name(int(row["step"])))


def read_snapshot(folder: Path, config: TranslationConfig, step: int) -> dict[str, Tensor] | None:
    """Parameters that were kept; None where somebody took them away."""
    found = checkpoint.read(folder, config, _snapshot_name(step))
    return None if found is None else found.part("net/")


def _drop_snapshots(folder: Path, kept: Sequence[int] | set[int]) -> None:
    names = {_snapshot_name(step) for step in kept}
    for path in folder.glob(SNAPSHOTS):
        if path.name not in names:
            path.unlink(missing_ok=True)


def write_model(folder: Path, config: TranslationConfig, net: nn.Module, progress: dict[str, Any]) -> None:
    """Write the finished net."""
    checkpoint.save(folder, config, Checkpoint.parameters(net, progress), MODEL)

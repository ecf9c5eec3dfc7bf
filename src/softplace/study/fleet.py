"""A fleet: many members of one arm, trained at once as one batched program.

Axis legend: M members (alive). A member that diverged, reached its target or spent its budget retires: it is measured,
taken out of every tensor, and the others go on as before, to within rounding (matrix products of another batch size may
round otherwise).
"""

import dataclasses
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from softplace.study.contest import Arm, Measurement, Members, Task
from softplace.study.optimizer import Optimizer
from softplace.study.store import Role, Status

_CLOCK_EVERY = 10  # steps between two looks at the clock


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one member ended. `index` is its place in the fleet, `seconds` its share of the fleet's wall time."""

    index: int
    status: Status
    steps: int
    seconds: float
    measurement: Measurement
    curve: dict[str, list[float]]


def train_step(
    members: Members,
    leaves: Sequence[Tensor],
    optimizer: Optimizer,
    state: dict[str, list[Tensor]],
    rates: Tensor,
    total: Tensor,
    step: Tensor,
    batch: tuple[Tensor, ...],
) -> None:
    """One step of every member: moves the parameters (`leaves`) and the state, and adds the losses to `total`."""
    losses = members.losses(*batch)
    gradients = torch.autograd.grad(losses.sum(), leaves, materialize_grads=True)
    optimizer.step(leaves, gradients, state, rates, step)
    total += losses.detach()


@cache
def compiler_missing(device_type: str) -> str | None:
    """Why `torch.compile` cannot work here, in one line; `None` when it can."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch.utils._triton import has_triton

    if device_type != "cpu":
        return None if has_triton() else "Triton is not installed"
    try:
        get_cpp_compiler()
    except Exception as error:  # whatever is wrong with the compiler, training goes on without
        return " ".join(str(error).split()) or type(error).__name__
    return None


@cache
def _compiled_step() -> Callable[..., None]:
    return torch.compile(train_step)


@contextmanager
def _compilation() -> Iterator[None]:
    """PyTorch's settings while compiled steps run; a map that cannot be compiled runs as it is."""
    import torch._dynamo
    import torch._inductor.config

    # One program serves every arm and task in turn, each a compilation of its own; 8 is the default limit.
    settings: dict[str, Any] = {"recompile_limit": 1024, "accumulated_recompile_limit": 8192, "suppress_errors": True}
    if hasattr(torch._dynamo.config, "trace_autograd_ops"):  # gradient and optimizer in the same graph
        settings["trace_autograd_ops"] = True
    with torch._dynamo.config.patch(settings), torch._inductor.config.patch(compile_threads=1):
        yield


class Fleet:
    """The members of one arm, by seed and learning rate.

    Args:
        task: What to train. See `Task`.
        arm: Of the contest.
        role: "tune" or "judge".
        seeds, learning_rates: One of each per member.
        device: Where to train.
    """

    def __init__(
        self,
        task: Task,
        arm: Arm,
        role: Role,
        seeds: Sequence[int],
        learning_rates: Sequence[float],
        device: torch.device | str = "cpu",
    ) -> None:
        self.task, self.arm, self.role = task, arm, role
        self.device = torch.device(device)
        self._clock = time.perf_counter()
        self.step = self.member_steps = 0
        self.outcomes: list[Outcome] = []
        self._alive = list(range(len(seeds)))
        self._curves: list[dict[str, list[float]]] = [{} for _ in seeds]
        self._seconds = 0.0
        self._adopt(task.members(arm, seeds, self.device))
        dtype = self._leaves[0].dtype
        self._rates = torch.tensor(learning_rates, dtype=dtype, device=self.device)
        self._loss = torch.zeros(len(seeds), dtype=dtype, device=self.device)
        self._state = task.optimizer.start(self._leaves)
        self._compiled = task.compiled and compiler_missing(self.device.type) is None

    @property
    def finished(self) -> bool:
        """Whether every member has retired."""
        return not self._alive

    @property
    def alive(self) -> int:
        """How many members still train."""
        return len(self._alive)

    def train(self, seconds: float = math.inf) -> None:
        """Go on until every member has retired, or for about so many seconds of wall time."""
        with _compilation() if self._compiled else nullcontext():
            self._train(seconds)

    def _train(self, seconds: float) -> None:
        program = _compiled_step() if self._compiled else train_step
        start = time.perf_counter()
        while self._alive:
            self._one_step(program)
            due = self.step % self.task.evaluate_every == 0 or self.step == self.task.steps
            if due:
                self._evaluate()
            elif self.step % _CLOCK_EVERY == 0:
                self._share_time()
            if self._clock - start > seconds:
                break

    def _share_time(self) -> None:
        """Book the time since the last call on the members alive."""
        now = time.perf_counter()
        self._seconds += (now - self._clock) / len(self._alive)
        self._clock = now

    def _adopt(self, members: Members) -> None:
        members.parameters = {name: value.detach().requires_grad_() for name, value in members.parameters.items()}
        self._members = members
        self._leaves = list(members.parameters.values())

    def _one_step(self, program: Callable[..., None]) -> None:
        batch = self._members.batch(self.step)
        step = torch.tensor(self.step, dtype=torch.float64, device=self.device)
        program(self._members, self._leaves, self.task.optimizer, self._state, self._rates, self._loss, step, batch)
        self.step += 1
        self.member_steps += len(self._alive)

    @torch.no_grad()
    def _evaluate(self) -> None:
        since = (self.step - 1) % self.task.evaluate_every + 1
        columns = {"training_loss": self._loss / since, **self._members.evaluate()}
        self._loss.zero_()
        finite = torch.stack([column.isfinite() for column in columns.values()]).all(0).tolist()
        rows = {name: column.tolist() for name, column in columns.items()}
        for row, index in enumerate(self._alive):
            self._curves[index].setdefault("step", []).append(float(self.step))
            for name, values in rows.items():
                self._curves[index].setdefault(name, []).append(values[row])
        curves = [self._curves[index] for index in self._alive]
        reached = self._members.reached(curves)
        spent = self.step >= self.task.steps
        status: list[Status | None] = [
            "diverged" if not fine else "reached" if early else "done" if spent else None
            for fine, early in zip(finite, reached, strict=True)
        ]
        self._share_time()
        if any(status):
            self._retire(status)

    def _retire(self, status: Sequence[Status | None]) -> None:
        measured = [row for row, word in enumerate(status) if word in ("done", "reached")]
        measurements: dict[int, Measurement] = {}
        if measured:
            members = self._members.select(torch.tensor(measured, device=self.device))
            curves = [self._curves[self._alive[row]] for row in measured]
            measurements = dict(zip(measured, members.measure(self.role, curves), strict=True))
        now = time.perf_counter()
        measuring = (now - self._clock) / max(1, len(measured))
        self._clock = now
        for row, word in enumerate(status):
            if word is not None:
                index = self._alive[row]
                outcome = Outcome(
                    index=index,
                    status=word,
                    steps=self.step,
                    seconds=self._seconds + measuring * (row in measurements),
                    measurement=measurements.get(row, Measurement(metrics={})),
                    curve=self._curves[index],
                )
                self.outcomes.append(outcome)
        stay = [row for row, word in enumerate(status) if word is None]
        self._keep(stay)

    def _keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the members."""
        self._alive = [self._alive[row] for row in rows]
        if not rows:
            return
        keep = torch.tensor(rows, dtype=torch.long, device=self.device)
        self._rates, self._loss = self._rates[keep], self._loss[keep]
        self._state = {name: [each[keep] for each in tensors] for name, tensors in self._state.items()}
        self._adopt(self._members.select(keep))

    def state(self) -> bytes:
        """Everything that a fleet built with the same arguments needs to go on exactly from here."""
        file = io.BytesIO()
        outcomes = json.dumps([dataclasses.asdict(outcome) for outcome in self.outcomes])
        values = {
            "step": self.step,
            "member_steps": self.member_steps,
            "seconds": self._seconds,
            "alive": self._alive,
            "curves": self._curves,
            "outcomes": outcomes,
            "loss": self._loss,
            "parameters": {name: value.detach() for name, value in self._members.parameters.items()},
            "buffers": self._members.buffers,
            "optimizer": self._state,
        }
        torch.save(values, file)
        return file.getvalue()

    def restore(self, state: bytes) -> None:
        """Take over what `state` returned."""
        values = torch.load(io.BytesIO(state), map_location=self.device, weights_only=True)
        self._keep(values["alive"])
        self.step, self.member_steps, self._seconds = values["step"], values["member_steps"], values["seconds"]
        self._alive, self._curves, self._loss = values["alive"], values["curves"], values["loss"]
        self.outcomes = [
            Outcome(**{**outcome, "measurement": Measurement(**outcome["measurement"])})
            for outcome in json.loads(values["outcomes"])
        ]
        self._members.parameters = values["parameters"]
        self._members.buffers = values["buffers"]
        self._adopt(self._members)
        self._state = values["optimizer"]

"""A contest unlike the hidden one: fresh sequences at every step, an operation that vmap refuses, early stopping.

A member reads a sequence of 4 scores and 4 values and must return the value at the largest score, by weights = map(a
learned temperature times the scores).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softplace import maps
from softplace.report.records import Axis, Figure, PlaceReport, Section, Verdict
from softplace.study.contest import Arm, Contest, Curve, Measurement, Members, Metric, Options, Task, generator, looped
from softplace.study.optimizer import SGD
from softplace.study.results import Results
from softplace.study.store import JSON, Role

LENGTH, SEQUENCES = 4, 16


class Readers(Members):
    def __init__(self, arm: Arm, seeds: Sequence[int]) -> None:
        self.map = maps.get(arm.map)
        self.seeds = list(seeds)
        self.parameters = {"temperature": torch.full((len(seeds), 1), 0.1)}
        self.buffers = {}

    def select(self, keep: Tensor) -> "Readers":
        chosen = super().select(keep)
        chosen.seeds = [self.seeds[index] for index in keep.tolist()]
        return chosen

    def batch(self, step: int) -> tuple[Tensor, ...]:
        drawn = [torch.randn(SEQUENCES, 2, LENGTH, generator=generator(s, "sequences", step)) for s in self.seeds]
        return (torch.stack(drawn),)

    def losses(self, *batch: Tensor) -> Tensor:
        def loss(parameters: Mapping[str, Tensor], sequences: Tensor) -> Tensor:
            wanted = [row[1, int(row[0].argmax())] for row in sequences]  # int() of a tensor: vmap refuses it
            weights = self.map(parameters["temperature"] * sequences[:, 0], -1)
            return ((weights * sequences[:, 1]).sum(-1) - torch.stack(wanted)).square().mean()

        return looped(loss, self.parameters, *batch)

    def evaluate(self) -> dict[str, Tensor]:
        return {"error": self.losses(*self.batch(10**6))}

    def reached(self, curves: Sequence[Curve]) -> list[bool]:
        return [curve["error"][-1] < 0.15 for curve in curves]

    def measure(self, role: Role, curves: Sequence[Curve]) -> list[Measurement]:
        return [
            Measurement(
                metrics={"error": curve["error"][-1], "sequences": curve["step"][-1] * SEQUENCES},
                probes={"temperature": float(value)},
            )
            for curve, value in zip(curves, self.parameters["temperature"][:, 0], strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class Read(Task):
    validation = Metric(name="error", label="error", higher_is_better=False, worst=2.0)

    @property
    def metrics(self) -> Sequence[Metric]:
        sequences = Metric(name="sequences", label="sequences seen", higher_is_better=False, worst=1e6)
        return (self.validation, sequences)

    def settings(self) -> Mapping[str, JSON]:
        return {"length": LENGTH}

    def members(self, arm: Arm, seeds: Sequence[int], device: torch.device) -> Members:
        return Readers(arm, seeds)


def report(results: Results) -> PlaceReport:
    task = results.contest.tasks[0]
    scores = results.scores(task, "sequences")
    assert scores is not None
    mean = {arm: float(values.mean()) for arm, values in scores.items()}
    verdict = Verdict(
        place="toy",
        claim="Softmax reads with fewer sequences.",
        verdict="cannot tell",
        sentence=f"Softmax needs {mean['softmax']:.0f} sequences.",
        criterion="None: a toy.",
        measure="sequences",
        estimate=mean["softmax"] - mean["sigmoid"],
        interval=None,
        p=None,
        n=len(results.seeds),
        arms=tuple(mean),
        references=(),
    )
    rows = [{"arm": arm, "sequences": value} for arm, value in mean.items()]
    figure = Figure(
        key="sequences",
        kind="bar",
        title="Sequences until the error is 0.15",
        caption="A figure of the contest's own.",
        x=Axis(column="sequences", label="Sequences"),
        y=Axis(column="arm", label="Arm", scale="category"),
        rows=rows,
    )
    section = Section(key="read", title="Reading", verdict=verdict, figures=(figure,))
    return PlaceReport(
        place="toy", question="A toy?", answer="A toy.", sections=(section,), references=(), method=("A toy.",)
    )


def contest(options: Options) -> Contest:
    arms = (Arm(name="softmax", map="softmax"), Arm(name="sigmoid", map="sigmoid"))
    task = Read(
        name="read",
        label="read the largest",
        steps=60,
        evaluate_every=5,
        learning_rates=(0.1, 1.0, 10.0),
        optimizer=SGD(momentum=0.5),
        largest_fleet=4,
    )
    return Contest(place="toy", name="toy", arms=arms, tasks=(task,), report=report, code=(__name__,))

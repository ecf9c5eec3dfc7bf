"""What a report reads: the judged scores of a contest, by task, metric and arm, paired by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softplace.study.contest import Arm, Contest, Task
from softplace.study.plan import Plan, Tuning, score
from softplace.study.store import JSON, MemberRecord

Scores = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Results:
    """The finished members of a contest.

    `tunings` and `members` (judged, by arm, in the order of `seeds`) are by task name.
    """

    contest: Contest
    seeds: tuple[int, ...]
    tune_seeds: tuple[int, ...]
    tunings: Mapping[str, Tuning]
    members: Mapping[str, Mapping[str, Sequence[MemberRecord]]]
    seconds: float

    @classmethod
    def of(cls, plan: Plan, known: Mapping[str, MemberRecord]) -> "Results":
        """Collect them; every member of the plan must be known."""
        tunings: dict[str, Tuning] = {}
        members: dict[str, dict[str, list[MemberRecord]]] = {}
        seconds = 0.0
        for task in plan.contest.tasks:
            tuning = plan.tuning(task, known)
            if tuning is None:
                raise ValueError(f"task {task.name!r} is not complete")
            tunings[task.name] = tuning
            judged = plan.judge(task, tuning.best)
            members[task.name] = {
                arm.name: [known[member.key] for member in judged if member.arm.name == arm.name]
                for arm in plan.contest.arms_of(task)
            }
            seconds += sum(known[member.key].seconds for member in plan.members(task, known))
        return cls(
            contest=plan.contest,
            seeds=plan.judge_seeds,
            tune_seeds=plan.tune_seeds,
            tunings=tunings,
            members=members,
            seconds=seconds,
        )

    @property
    def arms(self) -> tuple[Arm, ...]:
        return self.contest.arms

    def scores(self, task: Task, metric: str) -> Scores | None:
        """One score per seed for each arm, a diverged member with the metric's worst; `None` if none has the metric."""
        chosen = next(each for each in task.metrics if each.name == metric)
        groups = self.members[task.name]
        if not any(metric in record.metrics for records in groups.values() for record in records):
            return None
        return {
            arm: np.array([score(record, metric, chosen.worst) for record in records])
            for arm, records in groups.items()
        }

    def probes(self, task: Task, arm: str, name: str) -> list[JSON]:
        """What the members of an arm left under a name, for those that have it."""
        return [record.probes[name] for record in self.members[task.name][arm] if name in record.probes]

    def diverged(self, task: Task) -> dict[str, int]:
        """How many judged members of each arm diverged."""
        groups = self.members[task.name]
        return {arm: sum(record.status == "diverged" for record in records) for arm, records in groups.items()}

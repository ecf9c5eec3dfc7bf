"""The output place: the same network with one loss and map or another behind its scores.

No axes: `output_members` has them.

Tasks: classify a table, and classify it after some of the training labels were made wrong. Every arm has the same
architecture, initial draw and order of batches per seed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from softplace.study.contest import HALF_DECADES, Arm, Contest, Members, Metric, Options, Task
from softplace.study.contests import output_report
from softplace.study.contests._classify import LARGEST_DATA, fleet_size
from softplace.study.contests._learning import check_arm
from softplace.study.contests.output_arms import ARMS, FLOOR, check_map, chosen_arms
from softplace.study.contests.output_members import SMALLEST, Classifiers
from softplace.study.data import Table, load
from softplace.study.store import JSON

NOISE = 0.2
"""The share of training labels that the second task makes wrong."""


@dataclass(frozen=True, kw_only=True)
class Classify(Task):
    """Learn the classes of a table. Validation rows choose the learning rate, test rows judge; their labels are right.

    Args:
        table: What to learn.
        width: Units of the hidden layer.
        batch: Rows in a step.
        noise: The share of training rows whose label is made wrong.
    """

    table: Table
    width: int
    batch: int
    noise: float = 0.0

    validation = Metric(name="validation_accuracy", label="validation accuracy", higher_is_better=True, worst=0.0)

    @property
    def widths(self) -> tuple[int, int, int]:
        """Inputs, hidden units, classes."""
        return self.table.features.shape[1], self.width, len(self.table.class_names)

    @property
    def metrics(self) -> Sequence[Metric]:
        def low(name: str, label: str, worst: float) -> Metric:
            return Metric(name=name, label=label, higher_is_better=False, worst=worst)

        judged = (
            Metric(name="test_accuracy", label="test accuracy", higher_is_better=True, worst=0.0),
            low("test_nll", "test NLL", -math.log(FLOOR)),
            low("zero_share", "share of test labels with probability 0", 1.0),
            low("brier", "Brier score", 2.0),
            low("calibration_error", "calibration error", 1.0),
            low("steps_to_target", "steps to target", float(self.steps)),
            Metric(
                name="wrong_gradient",
                label="log10 gradient where confidently wrong / at the start",
                higher_is_better=True,
                worst=math.log10(SMALLEST),
            ),
        )
        # The report computes this one: it takes a network of two tasks.
        lost = low("accuracy_lost", "test accuracy lost to wrong labels", 1.0)
        return (*judged, lost) if self.noise else judged

    def settings(self) -> Mapping[str, JSON]:
        return {
            "kind": "output",
            "table": self.table.fingerprint,
            "width": self.width,
            "batch": self.batch,
            "noise": self.noise,
        }

    def members(self, arm: Arm, seeds: Sequence[int], device: torch.device) -> Members:
        return Classifiers(self, arm, seeds, device)


SIZES: dict[str, dict[str, Any]] = {
    "quick": {"width": 32, "batch": 32, "steps": 200, "evaluate_every": 10, "learning_rates": HALF_DECADES[1:6]},
    "full": {"width": 128, "batch": 128, "steps": 2000, "evaluate_every": 50, "compiled": True},
}
_QUICK_FLEET = 60
"""So small are the networks of the quick preset that a step costs its calls: all of an arm train as one program."""


def contest(options: Options) -> Contest:
    """The contest of the output place."""
    arms = chosen_arms(options.maps)
    names = ("digits",) if options.preset == "quick" else ("digits", "wine", "breast_cancer")
    tables = [options.table] if options.table is not None else [load(name) for name in names]
    size = SIZES[options.preset]
    tasks: list[Classify] = []
    for table in tables:
        widths = (table.features.shape[1], size["width"], len(table.class_names))
        most = max(1, LARGEST_DATA // table.features.nbytes)
        largest = min(most, _QUICK_FLEET if options.preset == "quick" else fleet_size(widths, size["batch"]))
        for noise, key, label in (
            (0.0, "clean", ""),
            (NOISE, "noisy", f", {100 * NOISE:g} % of the training labels wrong"),
        ):
            name, shown = f"{key} {table.name}", f"classify {table.name}{label}"
            tasks.append(Classify(name=name, label=shown, table=table, noise=noise, largest_fleet=largest, **size))
    for arm in arms:
        if arm not in ARMS:
            check_map(arm, len(tables[0].class_names))
            check_arm(tasks[0], arm, "validation_accuracy")
    return Contest(
        place="output",
        name="output",
        arms=arms,
        tasks=tuple(tasks),
        report=output_report.report,
        code=(
            "softplace.maps",
            "softplace.hidden",
            "softplace.probes",
            "softplace.study.contests._classify",
            "softplace.study.contests.output",
            "softplace.study.contests.output_arms",
            "softplace.study.contests.output_members",
        ),
        uses=("preset", "maps", "table"),
    )

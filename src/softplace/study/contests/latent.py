"""The latent place: one autoencoder with a categorical latent variable, by one map or another, one gradient or another.

No axes.

The classes are few enough to be enumerated, so that the bound, the likelihood and the gradient are known exactly, and
what an estimator gets wrong is measured. Every network has the same architecture, initial draw and images per seed. The
full preset also has the two networks of Table 1 of Jang et al. 2017, whose 10**20 configurations nobody enumerates.
"""

from collections.abc import Sequence
from typing import Any

from softplace.errors import InputError
from softplace.latent.bounds import check_choice
from softplace.study.contest import HALF_DECADES, Arm, Contest, Options, Task
from softplace.study.contests import latent_report
from softplace.study.contests._learning import check_arm
from softplace.study.contests.latent_arms import ARMS, SAMPLED, SEVERAL_LAYERS, chosen_arms
from softplace.study.contests.latent_tasks import Encode, EncodeSampled, Predict
from softplace.study.optimizer import SGD, Adam

SIZES: dict[str, dict[str, Any]] = {
    "quick": {"hidden": 32, "batch": 50, "steps": 400, "evaluate_every": 40, "share": 0.54},
    "full": {"hidden": 128, "batch": 100, "steps": 10_000, "evaluate_every": 200, "share": 0.47},
}


TABLE: dict[str, Any] = {
    "variables": 20,
    "classes": 10,
    "batch": 100,
    "temperature": 0.5,
    "anneal_rate": 1e-4,
    "steps": 20_000,
    "evaluate_every": 1_000,
    "learning_rates": (1e-5, 3.16e-5, 1e-4, 3.16e-4, 1e-3, 3.16e-3),
    "optimizer": SGD(momentum=0.9),
    "largest_fleet": 10,
}
"""Jang et al. 2017, section 4: networks, rates (3 of theirs is the square root of 10 here), momentum and annealing; of
the batch and the steps they say nothing."""


def contest(options: Options) -> Contest:
    """The contest of the latent place."""
    arms = chosen_arms(options.maps)
    table = options.table
    if table is not None and len(table.features) < 10:
        raise InputError(
            f"'data' must have 10 rows or more for the place 'latent'. Got {len(table.features)}. Give more, or name "
            "other places."
        )
    data = "digits" if table is None else table.name
    task = Encode(
        name="vae",
        label=f"{data}, 3 variables of 4 classes",
        table=table,
        variables=3,
        classes=4,
        temperature=0.5,
        shown=4,
        learning_rates=HALF_DECADES[:6] if options.preset == "quick" else HALF_DECADES,
        optimizer=Adam(),
        largest_fleet=60,
        **SIZES[options.preset],
    )
    for arm in arms:
        if arm not in ARMS:
            check_choice(arm.map)
            check_arm(task, arm, "loss")
    return Contest(
        place="latent",
        name="latent",
        arms=arms,
        tasks=(task, *_table(data, task, arms)) if options.preset == "full" else (task,),
        report=latent_report.report,
        code=(
            "softplace.maps",
            "softplace.latent",
            "softplace.study.contests._learning",
            "softplace.study.contests.latent",
            "softplace.study.contests.latent_arms",
            "softplace.study.contests.latent_members",
            "softplace.study.contests.latent_sampled",
            "softplace.study.contests.latent_stacked",
            "softplace.study.contests.latent_tasks",
        ),
        uses=("preset", "maps", "table"),
    )


def _table(data: str, task: Encode, arms: Sequence[Arm]) -> list[Task]:
    """The tasks of Table 1, of the arms that they can have."""
    present = {arm.name for arm in arms}
    encoded, predicted = (tuple(name for name in names if name in present) for names in (SAMPLED, SEVERAL_LAYERS))
    made: list[Task] = []
    if encoded:
        label = f"{data}, 20 variables of 10 classes"
        made.append(
            EncodeSampled(
                name="autoencoder", label=label, table=task.table, arms=encoded, hidden=200, samples=100, **TABLE
            )
        )
    if predicted:
        label = f"{data}, lower half from upper, 2 layers of 20 variables of 10 classes"
        made.append(Predict(name="predictor", label=label, table=task.table, arms=predicted, samples=1000, **TABLE))
    return made

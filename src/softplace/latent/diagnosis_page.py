"""The page of a diagnosis: bias against standard deviation, and error at equal cost, of every estimator."""

from collections.abc import Sequence
from pathlib import Path

import torch

import softplace
from softplace.latent.diagnosis import Diagnosis
from softplace.report.page import write_page
from softplace.report.records import Axis, Cell, Figure, PlaceReport, Report, Section, Value


def write_diagnosis_page(path: Path, found: Diagnosis) -> None:
    """Write `diagnosis_report(found)` as one HTML file, in one step.

    Raises:
        InputError: The folder cannot be written; an old page then stays as it was.
    """
    write_page(diagnosis_report(found), path)


def diagnosis_report(found: Diagnosis) -> Report:
    """All that the page of a diagnosis says."""
    sampled = [row for row in found.rows if not row.enumerates]
    sections = [
        Section(key="bias", title="Bias and variance", verdict=None, figures=_figures(found)),
        Section(
            key="all",
            title="All that was measured",
            verdict=None,
            text=[
                f"{row.name}: {row.evaluations:g} losses, {1e3 * row.seconds:.3g} ms"
                + (f", cosine with the exact gradient {row.cosine:.3f}" if row.cosine is not None else "")
                + f"; {'unbiased' if row.unbiased else 'biased'} in theory."
                for row in found.rows
            ],
        ),
    ]
    place = PlaceReport(
        place="latent",
        question="Which gradient estimator for this loss?",
        answer=found.recommendation,
        sections=sections,
        references=(),
        method=[
            f"The exact gradient is that of all {found.configurations:,} configurations. Each of {len(sampled)} "
            f"estimators was drawn {found.draws:,} times, with {found.samples} samples an estimate.",
            "Bias is the length of the mean estimate's distance from the exact gradient, less what noise adds to it; "
            "one that noise alone would do more often than once in 100,000 counts as none in the error at equal cost.",
            f"Error at equal cost: of the mean of as many estimates as {found.budget:g} losses allow.",
        ],
        facts={
            "Logits": " x ".join(map(str, found.exact.shape)),
            "Configurations": found.configurations,
            "Expected loss": float(found.expected_loss.double().mean()),
            "Length of the exact gradient": float(found.exact.double().norm()),
        },
    )
    provenance: dict[str, Cell] = {"softplace": softplace.__version__, "torch": str(torch.__version__)}
    return Report(
        title="Gradient estimators for a categorical latent variable",
        places=(place,),
        pending=(),
        command="softplace.latent.diagnose(logits, loss)",
        provenance=provenance,
        about="training",
    )


def _figures(found: Diagnosis) -> Sequence[Figure]:
    rows: list[dict[str, Value]] = [
        {
            "estimator": row.name,
            "deviation": row.deviation,
            "bias": row.bias if row.biased else 0.0,
            "estimate": row.bias,
            "low": max(row.bias - 2 * row.bias_error, 0.0),
            "high": row.bias + 2 * row.bias_error,
            "rmse": row.rmse,
        }
        for row in found.rows
    ]
    name = Axis(column="estimator", label="Estimator", scale="category")
    return [
        Figure(
            key="bias-deviation",
            kind="curve",
            title="Bias against standard deviation",
            caption="A point per estimator, of one estimate: down and left is better. A bias that is not more than "
            "noise is drawn at 0.",
            x=Axis(column="deviation", label="Standard deviation of one estimate"),
            y=Axis(column="bias", label="Bias"),
            rows=[{key: each[key] for key in ("estimator", "deviation", "bias")} for each in rows],
            series="estimator",
        ),
        Figure(
            key="bias-interval",
            kind="interval",
            title="Bias, with its uncertainty",
            caption="Two standard errors to each side.",
            x=Axis(column="estimate", label="Bias"),
            y=name,
            rows=[{key: each[key] for key in ("estimator", "estimate", "low", "high")} for each in rows],
            reference_line=0.0,
        ),
        Figure(
            key="error",
            kind="bar",
            title=f"Root mean squared error at {found.budget:g} losses",
            caption="What takes fewer losses per estimate is averaged over more estimates.",
            x=Axis(column="rmse", label="Root mean squared error"),
            y=name,
            rows=[{"estimator": each["estimator"], "rmse": each["rmse"]} for each in rows],
        ),
    ]

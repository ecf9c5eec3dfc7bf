"""Which estimator to use for a loss: bias and variance of each against the exact gradient.

Axis legend: *B batch, N categoricals, K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.latent._measuring import GROUPS, Row, gradient_of, measure
from softplace.latent.estimators import ESTIMATORS, Estimator, Loss, get, marginalise
from softplace.latent.estimators._parts import check
from softplace.latent.estimators.exact import enumerate_configurations


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What `diagnose` found; `str(diagnosis)` is a table, `page(path)` a page with figures."""

    rows: tuple[Row, ...]
    exact: Tensor
    """The exact gradient, (*B, N, K)."""
    expected_loss: Tensor
    """(*B)"""
    configurations: int
    """K**N."""
    samples: int
    draws: int
    budget: float
    """Losses at which errors are compared: of the estimator here that takes the most, enumeration aside."""
    recommendation: str

    def __str__(self) -> str:
        return "\n".join([_table(self), "", self.recommendation])

    def page(self, path: str | Path) -> None:
        """Write all of it as one HTML file that needs no network.

        Raises:
            InputError: The folder cannot be written.
        """
        from softplace.latent.diagnosis_page import write_diagnosis_page  # jinja2 and more, for those who want a page

        write_diagnosis_page(Path(path), self)


def diagnose(
    logits: Tensor,
    loss: Loss,
    *,
    estimators: Sequence[str | Estimator] | None = None,
    samples: int = 2,
    draws: int = 10_000,
    generator: torch.Generator | None = None,
) -> Diagnosis:
    """Bias, variance, error at equal cost and time of estimators on one loss, against the exact gradient.

    Args:
        logits: (*B, N, K), of a small problem: all K**N configurations are enumerated.
        loss: From samples (..., *B, N, K) to losses (..., *B).
        estimators: Names, or records with options of one's own, `replace(get("rebar"), function=...)`. None: all whose
            classes have the probabilities softmax(logits), and that can do with so few samples.
        samples: Of each estimate. 1 leaves out the leave-one-out baseline.
        draws: Estimates of each estimator, from which bias and variance are computed.
        generator: Of the random numbers, on the logits' device; without, PyTorch's own.

    NVIL gets as its baseline what it would learn in the end: the expected loss of each batch element.

    Raises:
        InputError: K**N is above `LIMIT`, an unknown estimator, fewer than 100 draws, an estimator that needs more
            samples, or an argument that cannot be used.

    >>> cost = torch.tensor([1.0, 2.0, 4.0])
    >>> found = diagnose(torch.zeros(1, 3), lambda s: (s * cost).sum((-2, -1)), draws=1000)
    >>> [row.name for row in found.rows if row.biased]
    ['gumbel-softmax', 'straight-through-gumbel', 'gapped-straight-through', 'rao-blackwell-gumbel']
    """
    check("diagnose", logits, loss, samples, generator)
    if not isinstance(draws, int) or isinstance(draws, bool) or draws < 2 * GROUPS:
        raise InputError(f"'draws' of diagnose must be an integer of at least {2 * GROUPS}. Got {draws}. Use 10_000.")
    if logits.numel() == 0:
        raise InputError(f"'logits' of diagnose must not be empty. Got shape {tuple(logits.shape)}. Give one or more.")
    configurations = len(enumerate_configurations("diagnose", logits))
    chosen = _chosen(estimators, samples)
    logits = logits.detach()
    exact, expected = gradient_of(marginalise, logits, loss)
    if not bool(exact.isfinite().all()):
        raise InputError(
            "'loss' and 'logits' of diagnose must give a finite gradient. Got one that is infinite or not a number. "
            "Look at marginalise(logits, loss)."
        )
    measured = [measure(each, logits, loss, exact, expected, samples, draws, generator) for each in chosen]
    costs = [row.evaluations for row, each in zip(measured, chosen, strict=True) if not each.needs_enumeration]
    budget = max(costs, default=float(configurations))
    rows = tuple(_at(row, budget) for row in measured)
    return Diagnosis(
        rows=rows,
        exact=exact,
        expected_loss=expected,
        configurations=configurations,
        samples=samples,
        draws=draws,
        budget=budget,
        recommendation=recommend(rows, configurations, budget, float(exact.double().norm())),
    )


def recommend(rows: Sequence[Row], configurations: int, budget: float, length: float) -> str:
    """The sentence that says which of the estimators to use, by their numbers alone.

    Args:
        length: Of the exact gradient.
    """
    known = {row.name: row for row in rows}
    sampled = sorted((row for row in rows if not row.enumerates), key=lambda row: row.rmse)
    if "marginalise" in known and (configurations <= budget or not sampled):
        return (
            f"Use marginalise: it is exact, and takes {configurations} losses, no more than the {budget:g} at which "
            "the others were compared."
        )
    if not sampled:
        return f"Use {rows[0].name}: it is the only one that was measured." if rows else "Nothing was measured."
    best = sampled[0]
    share = f" ({100 * best.rmse / length:.3g} % of the gradient's length)" if length else ""
    said = [f"Use {best.name}: at {budget:g} losses its root mean squared error is the least, {best.rmse:.3g}{share}."]
    fair = [row for row in sampled if not row.biased]
    if best.biased and fair:
        other = fair[0]
        # Averages of n times as many losses: bias^2 + v / n against v' / n.
        crossing = (_variance_at(other, budget) - _variance_at(best, budget)) / best.bias**2
        said.append(
            f"It is biased by {best.bias:.3g} +- {best.bias_error:.2g}: where estimates are averaged over more than "
            f"{max(crossing, 1.0):.3g} times as many losses, use {other.name}, which has no bias here."
        )
    elif len(sampled) > 1:
        said.append(f"The next is {sampled[1].name}, {sampled[1].rmse:.3g}.")
    if "marginalise" in known:
        said.append(f"If {configurations} losses are within reach, marginalise is exact.")
    return " ".join(said)


def _variance_at(row: Row, budget: float) -> float:
    """Variance of the mean of as many estimates as the budget allows."""
    return row.variance * row.evaluations / budget


def _chosen(estimators: Sequence[str | Estimator] | None, samples: int) -> list[Estimator]:
    if estimators is None:
        return [each for each in ESTIMATORS.values() if each.map == "softmax" and each.least_samples <= samples]
    if isinstance(estimators, str):
        raise InputError(f"'estimators' of diagnose must be a list. Got {estimators!r}. Use [{estimators!r}].")
    chosen = [each if isinstance(each, Estimator) else get(each) for each in estimators]
    for each in chosen:
        if each.least_samples > samples:
            raise InputError(
                f"'samples' of diagnose must be at least {each.least_samples} for {each.name}. Got {samples}. "
                f"Use samples={each.least_samples}."
            )
        if each.map != "softmax":
            raise InputError(
                f"'estimators' of diagnose must estimate the gradient under softmax. Got {each.name}, under {each.map}."
                " Leave it out: it is exact for another distribution."
            )
    return chosen


def _at(row: Row, budget: float) -> Row:
    """The row with its error at the budget."""
    bias = row.bias if row.biased else 0.0
    return replace(row, rmse=math.sqrt(bias**2 + _variance_at(row, budget)))


def _table(found: Diagnosis) -> str:
    head = ["estimator", "bias", "+-", "rel. bias", "std", "losses", f"RMSE at {found.budget:g}", "cosine", "time"]
    lines = [head]
    for row in found.rows:
        lines.append(
            [
                row.name,
                f"{row.bias:.3g}" if row.biased else "none seen",
                f"{row.bias_error:.2g}",
                "-" if row.relative_bias is None or not row.biased else f"{100 * row.relative_bias:.3g} %",
                f"{row.deviation:.3g}",
                f"{row.evaluations:g}",
                f"{row.rmse:.3g}",
                "-" if row.cosine is None else f"{row.cosine:.3f}",
                f"{1e3 * row.seconds:.2f} ms",
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    title = (
        f"{len(found.rows)} estimators, {found.samples} samples each, {found.draws:,} draws; "
        f"exact gradient of {found.configurations:,} configurations, length {float(found.exact.double().norm()):.4g}"
    )
    return "\n".join(
        [title, ""]
        + [
            "  ".join(
                each.ljust(width) if number == 0 else each.rjust(width)
                for number, (each, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
    )

"""Summaries of fitted logits: what a terminal shows, the tables of LaTeX and HTML, the values of JSON.

No axes.
"""

from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from softplace.errors import InputError
from softplace.output.logit.comparison import Test, table_of
from softplace.output.logit.design import INTERCEPT
from softplace.output.logit.tables import Cell, Table, show

if TYPE_CHECKING:
    from softplace.output.logit.conditional_result import ConditionalResult
    from softplace.output.logit.result import LogitResult


def term_tests(result: "LogitResult") -> list[Test]:
    """Wald tests that a term has no effect on any class, with the errors of the fit."""
    found = []
    for term, columns in result.design.terms.items():
        if term != INTERCEPT and columns:
            try:
                found.append(result.term_test(term))
            except InputError:
                note = "the covariance, of few groups or resamples, has too low a rank to test it"
                found.append(Test(name="Wald", hypothesis=term, statistic=nan, degrees=0, p=None, note=note))
    return found


def summary_tables(result: "LogitResult", level: float = 0.95) -> list[Table]:
    """Coefficients, odds ratios, tests of terms, fit."""
    tables = [result.coefficient_table(level), result.odds_ratios(level)]
    terms = term_tests(result)
    if terms:
        tables.append(table_of(terms, "Tests that a term has no effect on any class"))
    return [*tables, result.fit_measures.table()]


def facts(result: "LogitResult") -> dict[str, Cell]:
    """How it was fitted."""
    rows = result.fit_measures.rows
    found: dict[str, Cell] = {
        "model": "multinomial logit",
        "formula": result.formula or None,
        "classes": ", ".join(result.class_names),
        "reference": str(result.reference),
        "rows": len(result.X),
        "rows left out for missing cells": result.dropped or None,
        "weights": None if result.weight is None else f"{result.weights_are}, sum {show(float(result.weight.sum()))}",
        "errors": result.estimates.errors,
        "log-likelihood": result.loglikelihood,
        "pseudo-R2 (McFadden)": result.fit_measures.pseudo_r2["McFadden"],
        "converged": result.solution.converged,
    }
    if result.weight is not None and result.weights_are == "counts":
        found["rows counted"] = rows
    return {name: value for name, value in found.items() if value is not None}


def summary_text(result: "LogitResult", level: float = 0.95) -> str:
    """Facts and tables for a terminal."""
    return "\n\n".join([_facts_text(facts(result)), *(table.text() for table in summary_tables(result, level))])


def summary_values(result: "LogitResult", level: float = 0.95) -> dict[str, Any]:
    """Facts and tables as plain values; the ends of intervals are called low and high."""
    measures = result.fit_measures
    return facts(result) | {
        "level": level,
        "coefficients": plain_records(result.coefficient_table(level)),
        "odds ratios": plain_records(result.odds_ratios(level)),
        "terms": plain_records(table_of(term_tests(result))),
        "aic": measures.aic,
        "bic": measures.bic,
        "null log-likelihood": measures.null,
        "pseudo-R2": measures.pseudo_r2,
        "confusion": result.confusion().records(),
        "columns": list(result.columns),
        "covariance": np.asarray(result.covariance).tolist(),
    }


def conditional_tables(result: "ConditionalResult", level: float = 0.95) -> list[Table]:
    """Coefficients, odds ratios, fit."""
    return [result.coefficient_table(level), result.odds_ratios(level), result.fit_measures.table()]


def conditional_facts(result: "ConditionalResult") -> dict[str, Cell]:
    """How it was fitted."""
    sizes = result.data.choices.sizes
    least, most = int(sizes.min()), int(sizes.max())
    found: dict[str, Cell] = {
        "model": "conditional logit",
        "formula": result.formula,
        "alternatives": ", ".join(map(str, result.data.alternatives)),
        "reference": str(result.reference),
        "choosers": len(sizes),
        "alternatives of a chooser": f"{least}" if least == most else f"{least} to {most}",
        "choosers with one alternative, who tell nothing": int((sizes == 1).sum()) or None,
        "rows": len(result.data.choices.Z),
        "rows left out for missing cells": result.data.dropped or None,
        "errors": result.estimates.errors,
        "log-likelihood": result.loglikelihood,
        "log-likelihood of equal shares": result.equal_shares,
        "pseudo-R2 (McFadden)": result.fit_measures.pseudo_r2["McFadden"],
        "converged": result.maximum.converged,
    }
    return {name: value for name, value in found.items() if value is not None}


def conditional_text(result: "ConditionalResult", level: float = 0.95) -> str:
    """Facts and tables for a terminal."""
    tables = (table.text() for table in conditional_tables(result, level))
    return "\n\n".join([_facts_text(conditional_facts(result)), *tables])


def conditional_values(result: "ConditionalResult", level: float = 0.95) -> dict[str, Any]:
    """Facts and tables as plain values."""
    measures = result.fit_measures
    return conditional_facts(result) | {
        "level": level,
        "coefficients": plain_records(result.coefficient_table(level)),
        "odds ratios": plain_records(result.odds_ratios(level)),
        "aic": measures.aic,
        "bic": measures.bic,
        "null log-likelihood": measures.null,
        "pseudo-R2": measures.pseudo_r2,
        "columns": list(result.columns),
        "covariance": np.asarray(result.estimates.covariance).tolist(),
    }


def plain_records(table: Table) -> list[dict[str, Cell]]:
    """The rows of a table, the ends of its interval called low and high."""
    ends = [name for name in table.columns if name.endswith(" %")]
    new = dict(zip(ends, ("low", "high"), strict=False))
    return [{new.get(name, name): value for name, value in row.items()} for row in table.records()]


def _facts_text(values: dict[str, Cell]) -> str:
    width = max(map(len, values))
    return "\n".join(f"{name.ljust(width)}  {show(value, digits=6)}" for name, value in values.items())

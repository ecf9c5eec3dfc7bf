"""`softplace logit`: fit, test, and say it as text, JSON or LaTeX, and as a page.

No axes.
"""

from collections.abc import Sequence
from typing import Any

from softplace.errors import InputError, nearest
from softplace.output.logit.comparison import Test, table_of
from softplace.output.logit.conditional_page import write_conditional_page
from softplace.output.logit.conditional_result import ConditionalResult, fit_conditional
from softplace.output.logit.fitting import fit
from softplace.output.logit.page import command_of, write_logit_page
from softplace.output.logit.result import LogitResult
from softplace.output.logit.summary import (
    conditional_tables,
    conditional_values,
    plain_records,
    summary_tables,
    summary_values,
)
from softplace.output.logit.tables import Table, as_json
from softplace.report.page import page_path

FORMATS = ("text", "json", "latex", "html")
PAGE = "logit.html"


def run(
    data: str,
    formula: str,
    *,
    reference: str | None = None,
    errors: str = "observed",
    weights: str | None = None,
    weights_are: str = "counts",
    drop_missing: bool = False,
    chooser: str | None = None,
    alternative: str | None = None,
    effects: str | None = None,
    tests: Sequence[str] = (),
    independence: bool = False,
    level: float = 0.95,
    seed: int = 0,
    out: str | None = None,
    form: str = "text",
) -> str:
    """What `softplace logit` prints; see its help for the arguments.

    Raises:
        InputError: Anything that cannot be used; then no page is written.
    """
    if form not in FORMATS:
        raise InputError(f"Unknown 'format' {form!r}. {nearest(form, FORMATS)}")
    if isinstance(level, bool) or not 0.0 < level < 1.0:
        raise InputError(f"'level' must be a number between 0 and 1. Got {level!r}. Use e.g. 0.95.")
    if effects is not None and effects not in ("average", "means"):
        raise InputError(f"Unknown 'effects' {effects!r}. {nearest(effects, ('average', 'means'))}")
    if (chooser is None) != (alternative is None):
        raise InputError("a conditional logit needs both a chooser and an alternative column. Got one of them.")
    common: dict[str, Any] = {
        "reference": reference, "errors": errors, "weights": weights, "weights_are": weights_are,
        "drop_missing": drop_missing, "seed": seed,
    }  # fmt: skip
    more = {"effects": effects, "tests": tests, "independence": independence, "level": level, "out": out}
    path = None if out is None else page_path(out, PAGE)
    if chooser is not None and alternative is not None:
        if effects is not None:
            raise InputError(
                "'effects' are of a multinomial logit. Got a chooser column, which asks for a conditional one. Its "
                "page (--out) has elasticities; softplace.output.logit.fit_conditional has tables of them."
            )
        given = {"chooser": chooser, "alternative": alternative} | common
        conditional = fit_conditional(formula, data, **given)
        found = _tests(conditional, tests, independence)
        text = _conditional(conditional, found, level, form)
        if path is not None:
            command = command_of(data, formula, _options(given | more))
            write_conditional_page(path, conditional, command=command, tests=found, level=level)
    else:
        result = fit(formula, data, **common)
        found = _tests(result, tests, independence)
        effect_table = None if effects is None else result.marginal_effects(effects).table(level)
        text = _multinomial(result, found, effect_table, level, form)
        if path is not None:
            command = command_of(data, formula, _options(common | more))
            write_logit_page(path, result, command=command, at=effects or "average", tests=found, level=level)
    return text if path is None or form != "text" else f"{text}\n\nPage: {path.absolute()}"


def _tests(result: LogitResult | ConditionalResult, tests: Sequence[str], independence: bool) -> list[Test]:
    found = [each for hypothesis in tests for each in result.test(hypothesis)]
    return found + (result.independence() if independence else [])


def _multinomial(result: LogitResult, tests: list[Test], effects: Table | None, level: float, form: str) -> str:
    more = ([table_of(tests)] if tests else []) + ([effects] if effects is not None else [])
    if form == "json":
        values = summary_values(result, level)
        if tests:
            values["tests"] = table_of(tests).records()
        if effects is not None:
            values["effects"] = plain_records(effects)
        return as_json(values)
    if form == "text":
        return "\n\n".join([result.summary(level), *(table.text() for table in more)])
    return _joined([*summary_tables(result, level), *more], form)


def _conditional(result: ConditionalResult, tests: list[Test], level: float, form: str) -> str:
    more = [table_of(tests)] if tests else []
    if form == "json":
        values = conditional_values(result, level)
        if tests:
            values["tests"] = table_of(tests).records()
        return as_json(values)
    if form == "text":
        return "\n\n".join([result.summary(level), *(table.text() for table in more)])
    return _joined([*conditional_tables(result, level), *more], form)


def _joined(tables: list[Table], form: str) -> str:
    return "\n\n".join(table.latex() if form == "latex" else table.html() for table in tables)


def _options(given: dict[str, Any]) -> list[str]:
    usual = {"errors": "observed", "weights_are": "counts", "seed": 0, "level": 0.95}
    words: list[str] = []
    for name, value in given.items():
        if value is None or value is False or value == usual.get(name) or value == ():
            continue
        option = {"tests": "--test", "independence": "--iia"}.get(name, f"--{name.replace('_', '-')}")
        if value is True:
            words.append(option)
        elif isinstance(value, list | tuple):
            words += [word for each in value for word in (option, str(each))]
        else:
            words += [option, str(value)]
    return words

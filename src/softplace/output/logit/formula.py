"""Formulas: "choice ~ income + age + C(region)" on a table becomes columns, classes, weights and groups.

Axis legend: N rows, P columns, K classes.
"""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from softplace.errors import InputError, nearest
from softplace.output.logit.design import FormulaDesign, model_matrix
from softplace.output.logit.inference import Array
from softplace.output.logit.reading import (
    RowName,
    check_columns,
    check_levels,
    complete_rows,
    numbers,
    quoted,
    read_table,
    require,
)

if TYPE_CHECKING:
    import pandas as pd

_EXAMPLE = "Write e.g. 'choice ~ income + age + C(region)'."
_MOST_CLASSES = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """What a formula and a table come to.

    Args:
        formula: As it was given.
        choice: The column of the classes.
        design: Of the rows that are used.
        X: (N, P).
        codes: (N,).
        classes: Labels in order.
        weight: (N,) or `None`.
        groups: (N,) or `None`.
        dropped: Rows left out for missing cells.
        frame: The rows that are used, all columns.
        name: What these rows are called.
    """

    formula: str
    choice: str
    design: FormulaDesign
    X: Array
    codes: NDArray[np.intp]
    classes: tuple[Any, ...]
    weight: Array | None
    groups: NDArray[np.intp] | None
    dropped: int
    frame: "pd.DataFrame"
    name: RowName


def prepare(
    formula: str,
    data: Any,
    *,
    weights: str | None = None,
    cluster: str | None = None,
    drop_missing: bool = False,
) -> Prepared:
    """Read the table and build the columns.

    Args:
        formula: As formulaic reads it (it runs what is called in it, so take none from strangers): one column, `~`, and
            terms. `C(x)` takes a number for a category, `a:b` is a
            product, `a*b` both and their product, `0 +` leaves the intercept out, `log(x)` and the like are functions;
            a name with blanks stands in backticks.
        data: As of `read_table`.
        weights: The column of the weights.
        cluster: The column of the groups.
        drop_missing: Leave rows with a missing cell out, rather than refuse them.

    Raises:
        InputError: Anything about the formula or the table that cannot be used.
    """
    frame, name = read_table(data)
    others = [column for column in (weights, cluster) if column is not None]
    check_columns(frame, others, "weights or groups")
    choice, right = parse(formula, frame, leave_out=others)
    wanted = variables(right, frame, formula)
    used = list(dict.fromkeys([choice, *wanted, *others]))
    kept = complete_rows(frame, used, name, drop_missing=drop_missing)
    for column in wanted:
        if f"C({column}" not in formula and f"C(`{column}`" not in formula:
            check_levels(frame, column, name)
    dropped = len(frame) - len(kept)
    if dropped:
        frame, all_rows = frame.iloc[kept].reset_index(drop=True), name

        def name(row: int) -> str:
            return all_rows(int(kept[row]))

    weight = None if weights is None else checked_weights(numbers(frame, weights, name), weights, name)
    codes, classes = class_codes(frame[choice], choice)
    X, spec = model_matrix(right, frame, name)
    groups = None if cluster is None else np.unique(frame[cluster].astype(str), return_inverse=True)[1]
    return Prepared(
        formula=formula,
        choice=choice,
        design=FormulaDesign(spec, frame[wanted], name, X),
        X=X,
        codes=codes,
        classes=classes,
        weight=weight,
        groups=groups,
        dropped=dropped,
        frame=frame,
        name=name,
    )


def parse(formula: str, frame: "pd.DataFrame", leave_out: Sequence[str] = ()) -> tuple[str, Any]:
    """The column of the classes, and formulaic's right side.

    Raises:
        InputError: The formula has another form, or its left side is no column.
    """
    formulaic = require("formulaic")
    shown = f"formula {quoted(formula)}"
    if not isinstance(formula, str) or formula.count("~") != 1 or not formula.split("~")[0].strip():
        raise InputError(f"{shown}: expected a column, '~' and terms. {_EXAMPLE}")
    left = formula.split("~")[0].strip().strip("`")
    if left not in frame.columns and left.isidentifier():
        check_columns(frame, [left], shown)
    check_names(formula)
    known = [column for column in frame.columns if column != left and column not in leave_out]
    try:
        parsed = formulaic.Formula(formula, _context={"__formulaic_variables_available__": known})
        terms = [str(term) for term in parsed.lhs]
    except Exception as error:  # of the parser, and of Python's for what it calls
        raise InputError(f"{shown}: {str(error).strip().splitlines()[0]} {_EXAMPLE}") from None
    if left not in frame.columns or terms not in ([left], [f"`{left}`"]):
        raise InputError(
            f"{shown}: expected one column on the left. Got {quoted(' + '.join(terms))}. Make the column of the "
            "classes first."
        )
    if isinstance(parsed.rhs, tuple):
        raise InputError(
            f"{shown}: expected one part on the right. Got {len(parsed.rhs)} with '|' between, as of a conditional "
            "logit. Give its chooser and alternative columns (--chooser, --alternative), or write '+'."
        )
    return left, parsed.rhs


def check_names(formula: str) -> None:
    """That no name in backticks is a number, which formulaic takes for one: `1` would be the intercept.

    Raises:
        InputError: One is.
    """
    for name in re.findall("`([^`]*)`", formula):
        if re.fullmatch(r"\s*[-+]?[\d.]+([eE][-+]?\d+)?\s*", name):
            raise InputError(
                f"formula {quoted(formula)}: expected names with a letter. Got {quoted(name)}, which is read as a "
                f"number. Rename the column, e.g. to {quoted('x' + name.strip())}."
            )


def variables(right: Any, frame: "pd.DataFrame", formula: str) -> list[str]:
    """The columns that the right side needs, in their order.

    Raises:
        InputError: A name is no column.
    """
    found: dict[str, None] = {}
    for term in right:
        for factor in term.factors:
            for name in _factor_names(factor, formula):
                if name not in frame.columns and name in ("contr", "np"):  # what formulaic knows beside functions
                    continue
                check_columns(frame, [name], f"formula {quoted(formula)}")
                found[name] = None
    if (left := formula.split("~")[0].strip().strip("`")) in found:
        raise InputError(f"formula {quoted(formula)}: {quoted(left)} stands on both sides. Leave it out of the right.")
    return list(found)


def _factor_names(factor: Any, formula: str) -> list[str]:
    """Names in a factor that stand for values: no functions, no modules (formulaic forgets those in scale(x))."""
    if factor.eval_method.value == "literal":
        return []
    if factor.eval_method.value == "lookup":
        return [str(factor.expr).strip("`")]
    blanks: list[str] = []

    def placeholder(match: re.Match[str]) -> str:
        blanks.append(match[1])
        return f"_blank_{len(blanks) - 1}"

    text = re.sub("`([^`]*)`", placeholder, str(factor.expr))
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        raise InputError(f"formula {quoted(formula)}: cannot read {quoted(factor.expr)}. {_EXAMPLE}") from None
    calls = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in calls]
    return [blanks[int(name[7:])] if name.startswith("_blank_") else name for name in names]


def class_codes(values: "pd.Series[Any]", column: str) -> tuple[NDArray[np.intp], tuple[Any, ...]]:
    """The class of each row, and the labels in order: that of a categorical column, else of numbers or of words.

    Raises:
        InputError: One class, a class with no rows, a measurement, or about as many classes as rows.
    """
    import pandas as pd

    what = f"column {quoted(column)} (the classes)"
    if isinstance(values.dtype, pd.CategoricalDtype):
        labels: list[Any] = values.cat.categories.tolist()
        codes = values.cat.codes.to_numpy().astype(np.intp)
        empty = [label for k, label in enumerate(labels) if not np.any(codes == k)]
        if empty:
            raise InputError(
                f"{what}: expected rows of every class. Got none of {quoted(empty[0])}. Take it away: "
                f"data[{column!r}].cat.remove_unused_categories()."
            )
    else:
        if values.dtype.kind not in "biuf":
            values = values.astype(str)
        elif values.dtype.kind == "f" and bool((values % 1 == 0).all()) and bool((values.abs() < 2**53).all()):
            values = values.astype(np.int64)
        found, codes = np.unique(values.to_numpy(), return_inverse=True)
        labels = found.tolist()
    if len(labels) < 2:
        raise InputError(f"{what}: expected two classes or more. Got one, {quoted(labels[0])}. Choose another column.")
    check_few(labels, len(values), what, numeric=values.dtype.kind in "uif")
    return codes, tuple(labels)


def check_few(labels: Sequence[Any], rows: int, what: str, *, numeric: bool) -> None:
    """That classes are no measurement and no identifier.

    Raises:
        InputError: They are.
    """
    if (numeric and len(labels) > _MOST_CLASSES) or (len(labels) > 2 and len(labels) > rows // 2):
        raise InputError(
            f"{what}: expected few classes with several rows each. Got {len(labels):,} different values in {rows:,} "
            "rows. Choose another column, or group its values."
        )


def checked_weights(weight: Array, column: str, name: RowName) -> Array:
    """Weights that are finite and not negative, and not all zero.

    Raises:
        InputError: They are.
    """
    bad = ~(weight >= 0) | np.isinf(weight)
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"weights {quoted(column)}: expected finite numbers of 0 or more. Got {weight[row]:g} in {name(row)}. "
            "Fix it or drop the row."
        )
    if not weight.any():
        raise InputError(f"weights {quoted(column)}: expected one above 0. Got zeros alone. Choose another column.")
    if not 1e-100 < (top := float(weight.max())) < 1e100:
        raise InputError(
            f"weights {quoted(column)}: expected numbers of a usual size. Got up to {top:.0e}. Multiply all by one "
            "number."
        )
    return weight


def reference_code(classes: Sequence[Any], reference: Any) -> int:
    """The place of the reference class; the first when `None`.

    Raises:
        InputError: It is no class.
    """
    if reference is None:
        return 0
    words = [str(label) for label in classes]
    if str(reference) not in words:
        raise InputError(f"Unknown reference class {quoted(reference)}. {nearest(str(reference), words)}")
    return words.index(str(reference))


def evaluate(formula: str, prepared: Prepared) -> tuple[Array, list[str]]:
    """The columns of another formula on the same rows, (N, P'), and their names.

    Raises:
        InputError: Its left side is another column, or as `prepare`.
    """
    choice, right = parse(formula, prepared.frame)
    if choice != prepared.choice:
        raise InputError(
            f"formula {quoted(formula)}: expected {quoted(prepared.choice)} on the left, as in the fit. Got "
            f"{quoted(choice)}."
        )
    wanted = variables(right, prepared.frame, formula)
    missing = [column for column in wanted if prepared.frame[column].isna().any()]
    if missing:
        raise InputError(
            f"formula {quoted(formula)}: column {quoted(missing[0])} has missing cells in rows of the fit. Both models "
            "must have the same rows: leave these rows out of the data."
        )
    X, spec = model_matrix(right, prepared.frame, prepared.name)
    return X, list(spec.column_names)


def group_codes(prepared: Prepared, column: str) -> NDArray[np.intp]:
    """The groups, (N,), of a column of the table that was fitted.

    Raises:
        InputError: There is no such column, or a cell of it is missing.
    """
    check_columns(prepared.frame, [column], "groups")
    complete_rows(prepared.frame, [column], prepared.name, drop_missing=False)
    return np.unique(prepared.frame[column].astype(str), return_inverse=True)[1]

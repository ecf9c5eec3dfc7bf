"""Designs: what turns the variables of a table into columns of X, again and again with variables changed.

Axis legend: N rows, P columns.
Effects and profiles ask a design for X with a variable set to other values, so that the columns which follow from it
(a polynomial, an interaction, the levels of a category) follow.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from softplace.errors import InputError, nearest
from softplace.output.logit.inference import Array
from softplace.output.logit.reading import RowName, one_line, quoted

if TYPE_CHECKING:
    import pandas as pd

INTERCEPT = "Intercept"


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A variable of a design.

    Args:
        name: Its name.
        levels: What it may be, the base first; `None` for a number.
        opaque: The part of a formula in which it stands so that no effect of it can be told; "" for none.
    """

    name: str
    levels: tuple[Any, ...] | None
    opaque: str = ""


class Design(Protocol):
    """What turns variables into columns."""

    columns: tuple[str, ...]
    terms: Mapping[str, tuple[int, ...]]
    """The columns of each term, by its name."""
    variables: Mapping[str, Variable]

    def matrix(self, changes: Mapping[str, Any]) -> Array:
        """X, (N, P), with variables set to one value each or to N values."""

    def values(self, variable: str) -> Array:
        """(N,), a number's values."""


class ArrayDesign(Design):
    """The columns of an array, each a variable of its own; columns of 0 and 1 have two levels.

    Args:
        X: (N, P).
        columns: Their names.
    """

    def __init__(self, X: Array, columns: Sequence[str]) -> None:
        self._X = X
        self.columns = tuple(columns)
        self.terms = {name: (at,) for at, name in enumerate(columns)}
        variables: dict[str, Variable] = {}
        for at, name in enumerate(columns):
            low, high = X[:, at].min(), X[:, at].max()
            if low == high:
                continue
            binary = low == 0.0 and high == 1.0 and bool(np.all((X[:, at] == 0.0) | (X[:, at] == 1.0)))
            variables[name] = Variable(name=name, levels=(0, 1) if binary else None)
        self.variables = variables

    def matrix(self, changes: Mapping[str, Any]) -> Array:
        """X with some columns set."""
        if not changes:
            return self._X
        X = self._X.copy()
        for name, value in changes.items():
            X[:, self.terms[name][0]] = value
        return X

    def values(self, variable: str) -> Array:
        """A column."""
        return np.asarray(self._X[:, self.terms[variable][0]])


class FormulaDesign(Design):
    """The right side of a formula on the rows of a table.

    Args:
        spec: formulaic's, of the rows that were fitted.
        frame: The rows, with the columns that the formula needs.
        name: What rows are called.
        X: The columns, where they are known.
    """

    def __init__(self, spec: Any, frame: "pd.DataFrame", name: RowName, X: Array | None = None) -> None:
        self._spec, self._frame, self._name, self._X = spec, frame, name, X
        self._parts: dict[tuple[str, ...], tuple[Any, list[int]]] = {}
        self.columns = tuple(spec.column_names)
        self.terms = {
            _term_name(term): tuple(range(place.start, place.stop)) for term, place in spec.term_slices.items()
        }
        self.variables = _variables(spec, frame)

    def matrix(self, changes: Mapping[str, Any]) -> Array:
        """The formula's columns, with some variables set."""
        if self._X is None:
            self._X = model_matrix(self._spec, self._frame, self._name)[0]
        spec, places = self._part(tuple(sorted(changes)))
        if not places:
            return self._X
        frame = self._frame.assign(**{name: self._as_column(name, value) for name, value in changes.items()})
        X = self._X.copy()
        X[:, places] = model_matrix(spec, frame, self._name)[0]
        return X

    def _part(self, names: tuple[str, ...]) -> tuple[Any, list[int]]:
        """What makes the columns that some variables are in, and their places."""
        if names not in self._parts:
            terms = [
                term for term, found in self._spec.term_variables.items() if {str(each) for each in found} & set(names)
            ]
            places = [at for term in terms for at in self._spec.term_indices[term]]
            self._parts[names] = (self._spec.subset(terms) if terms else None, places)
        return self._parts[names]

    def values(self, variable: str) -> Array:
        """A numeric column."""
        return self._frame[variable].to_numpy(dtype=np.float64)

    def on(self, frame: "pd.DataFrame", name: RowName) -> "FormulaDesign":
        """The same columns for other rows: levels and whatever else was learned of the first rows are kept.

        Raises:
            InputError: A level is none of the fitted ones.
        """
        for variable in self.variables.values():
            column = frame[variable.name]
            if variable.levels is None or column.dtype.kind in "biuf":
                continue
            unknown = ~column.isin(variable.levels).to_numpy()
            if unknown.any():
                row = int(unknown.argmax())
                known = [str(level) for level in variable.levels]
                raise InputError(
                    f"column {quoted(variable.name)}: expected a level that was fitted. Got "
                    f"{quoted(column.iloc[row])} in {name(row)}. {nearest(str(column.iloc[row]), known)}"
                )
        return FormulaDesign(self._spec, frame, name)

    def _as_column(self, name: str, value: Any) -> Any:
        """One level as a column of the kind that the table has, so that it is coded alike."""
        import pandas as pd

        column = self._frame[name]
        if np.ndim(value):
            return value
        if isinstance(column.dtype, pd.CategoricalDtype):
            return pd.Categorical([value] * len(column), dtype=column.dtype)
        kind = column.dtype if self.variables[name].levels is not None else np.float64
        return pd.Series([value] * len(column), dtype=kind, index=column.index)


def model_matrix(what: Any, frame: "pd.DataFrame", name: RowName) -> tuple[Array, Any]:
    """The columns of a formula (or of a spec that was learned) as an array, and their spec.

    Raises:
        InputError: The formula cannot be evaluated, or a column is not finite somewhere.
    """
    try:
        with np.errstate(all="ignore"):
            found = what.get_model_matrix(frame, na_action="ignore", context={})
    except InputError:
        raise
    except Exception as error:  # a formula runs functions, each with its own errors
        reason = one_line(error).replace("is not present in the dataset or evaluation context", "is no column")
        raise InputError(f"formula: {reason} Check its functions and columns.") from None
    _check_terms(found.model_spec)
    X = np.ascontiguousarray(found.to_numpy(dtype=np.float64))
    if not X.shape[1]:
        raise InputError("formula: expected a column or an intercept on the right. Got neither. Write e.g. 'y ~ x'.")
    bad = ~np.isfinite(X)
    if bad.any():
        row, at = (int(each) for each in np.argwhere(bad)[0])
        raise InputError(
            f"formula: column {quoted(found.columns[at])} is {X[row, at]} in {name(row)}. Check its functions there, "
            "or drop the row."
        )
    return X, found.model_spec


def _check_terms(spec: Any) -> None:
    """That columns have names of their own, and that no category has one level, which leaves no column of it."""
    names = list(spec.column_names)
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise InputError(
            f"formula: expected columns with different names. Got two called {quoted(twice)}. Rename that of the "
            "data, or leave the intercept out by '0 +'."
        )
    for term, place in spec.term_slices.items():
        if place.stop > place.start:
            continue
        for factor in map(str, term.factors):
            levels = spec.encoder_state.get(factor, (None, {}))[1].get("categories", ())
            if len(levels) == 1:
                raise InputError(
                    f"formula: expected two levels of {quoted(factor)} or more. Got {quoted(levels[0])} in every row. "
                    "Leave it out."
                )


def _term_name(term: Any) -> str:
    return INTERCEPT if str(term) == "1" else str(term)


def _variables(spec: Any, frame: "pd.DataFrame") -> dict[str, Variable]:
    """What kind of variable each column of the table is in the formula."""
    found: dict[str, Variable] = {}
    kinds = {str(expression): state for expression, state in spec.encoder_state.items()}
    for factor, names in spec.factor_variables.items():
        expression = str(factor)
        kind, state = kinds.get(expression, (None, {}))
        categories = state.get("categories") if getattr(kind, "value", "") == "categorical" else None
        for name in sorted(str(each) for each in names):
            if name not in frame.columns:
                continue
            before = found.get(name)
            if categories is None:
                found.setdefault(name, _number(name, frame))
            elif expression.strip("`") == name or re.match(rf"C\(\s*`?{re.escape(name)}`?\s*[,)]", expression):
                opaque = before.opaque if before is not None else ""
                found[name] = Variable(name=name, levels=_base_first(categories, state), opaque=opaque)
            else:
                levels = before.levels if before is not None else _number(name, frame).levels
                found[name] = Variable(name=name, levels=levels, opaque=expression)
    first = {str(name): min(places) for name, places in spec.variable_indices.items() if places}
    return {name: found[name] for name in sorted(found, key=lambda name: first.get(name, 0))}


def _number(name: str, frame: "pd.DataFrame") -> Variable:
    values = frame[name]
    if values.dtype.kind not in "biuf":
        return Variable(name=name, levels=None, opaque=name)
    binary = set(values.unique().tolist()) == {0, 1}
    return Variable(name=name, levels=(0, 1) if binary else None)


def _base_first(categories: Sequence[Any], state: Mapping[str, Any]) -> tuple[Any, ...]:
    levels = [getattr(level, "item", lambda level=level: level)() for level in categories]
    base = getattr(getattr(state.get("contrasts"), "contrasts", None), "base", None)
    if base in levels:
        levels = [base, *(level for level in levels if level != base)]
    return tuple(levels)


def checked_array(X: ArrayLike, name: str) -> Array:
    """Finite numbers, (rows, columns).

    Raises:
        InputError: They are not.
    """
    try:
        values = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name!r} must be numbers, (rows, columns). Got others. Code words as numbers.") from None
    if values.ndim != 2 or not values.size:
        raise InputError(f"{name!r} must have the shape (rows, columns). Got {values.shape}.")
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            f"{name!r} must be finite. Got {values[row, column]} in row {row}, column {column} (from 0). Fix it or "
            "leave the row out."
        )
    return values


def with_intercept(X: Array, intercept: bool) -> Array:
    """X with a column of ones before it, or as it is."""
    return np.column_stack([np.ones(len(X)), X]) if intercept else X

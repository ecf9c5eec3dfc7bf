"""Conditional logit by formula: "choice ~ cost + time | income" on a table with a row for each alternative.

Axis legend: N choosers, R rows, Q parameters, J alternatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from softplace.errors import InputError, nearest
from softplace.output.logit.choices import Choices, Codes, independent_columns
from softplace.output.logit.design import INTERCEPT, model_matrix
from softplace.output.logit.formula import check_names, checked_weights, variables
from softplace.output.logit.inference import Array
from softplace.output.logit.reading import (
    RowName,
    check_columns,
    complete_rows,
    numbers,
    quoted,
    read_table,
    require,
)

if TYPE_CHECKING:
    import pandas as pd

_EXAMPLE = "Write e.g. 'choice ~ cost + time | income'."


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """The right side of a conditional formula, learned of a table.

    Args:
        formula: As it was given.
        chosen: The column that marks what was chosen.
        specs: formulaic's for each part, or `None` where it has no columns.
        constants: Whether alternatives have constants.
        wanted: The columns of the table that are needed.
    """

    formula: str
    chosen: str
    specs: tuple[Any, ...]
    constants: bool
    wanted: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class ConditionalData:
    """What a conditional formula and a table come to.

    Args:
        parts: The formula.
        choices: (R, Q) and whose rows they are.
        names: The alternative ("" for all) and the column of each parameter.
        alternatives: Labels in order.
        reference: The place of the alternative whose constant is 0.
        codes: (R,), the alternative of each row.
        choosers: (N,), labels.
        groups: (N,) or `None`.
        frame: The rows, those of a chooser beside each other.
        name: What rows are called.
        dropped: Rows left out for missing cells.
    """

    parts: Parts
    choices: Choices
    names: tuple[tuple[str, str], ...]
    alternatives: tuple[Any, ...]
    reference: int
    codes: Codes
    choosers: tuple[Any, ...]
    groups: Codes | None
    frame: "pd.DataFrame"
    name: RowName
    dropped: int


def prepare_choices(
    formula: str,
    data: Any,
    *,
    chooser: str,
    alternative: str,
    reference: Any = None,
    weights: str | None = None,
    cluster: str | None = None,
    drop_missing: bool = False,
) -> ConditionalData:
    """Read a table with a row for each alternative that a chooser had, and build the columns.

    Args:
        formula: `chosen ~ part 1 | part 2 | part 3`, as R's mlogit: columns of the alternatives with one coefficient
            each; columns of the choosers, with a coefficient for every alternative but the reference; columns of the
            alternatives with a coefficient for every alternative. Constants belong to part 2: `| 0` leaves them out.
        data: As of `read_table`. The column `chosen` is 1 (or true) for the alternative that was chosen, else 0.
        chooser: The column that tells choosers apart.
        alternative: The column that names alternatives.
        reference: The alternative whose constant is 0; the first in order when not given.
        weights, cluster: Columns, the same in all rows of a chooser.
        drop_missing: Leave rows with a missing cell out: the chooser then had not that alternative.

    Raises:
        InputError: Anything that cannot be used.
    """
    frame, name = read_table(data)
    others = [column for column in (chooser, alternative, weights, cluster) if column is not None]
    check_columns(frame, others, "chooser, alternative, weights or groups")
    chosen, rights = _parse(formula, frame)
    wanted = list(dict.fromkeys(each for right in rights for each in variables(right, frame, formula)))
    used = list(dict.fromkeys([chosen, *others, *wanted]))
    kept = complete_rows(frame, used, name, drop_missing=drop_missing)
    dropped = len(frame) - len(kept)
    owner = frame[chooser].iloc[kept].factorize()[0]
    kept = kept[np.argsort(owner, kind="stable")]
    frame, all_rows = frame.iloc[kept].reset_index(drop=True), name

    def own_name(row: int) -> str:
        return all_rows(int(kept[row]))

    owner, labels = frame[chooser].factorize()
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    alternatives, codes = _alternatives(frame, alternative, chooser, owner, own_name)
    marks = _marks(frame, chosen, chooser, owner, labels, own_name)
    base = _place(alternatives, reference)
    matrices, specs, constants = _matrices(rights, frame, own_name)
    Z, names = _columns(matrices, constants, codes, alternatives, base)
    choices = Choices(Z=Z, starts=starts, chosen=np.flatnonzero(marks))
    if weights is not None:
        weight = checked_weights(numbers(frame, weights, own_name), weights, own_name)
        _check_same(weight, weights, owner, chooser, labels)
        choices = Choices(Z=Z, starts=starts, chosen=choices.chosen, weight=weight[starts])
    groups = None
    if cluster is not None:
        group_codes = frame[cluster].astype(str).factorize()[0]
        _check_same(group_codes, cluster, owner, chooser, labels)
        groups = np.asarray(group_codes[starts], dtype=np.intp)
    if matrices[1] is not None:
        for at, column in enumerate(matrices[1][1]):
            _check_same(matrices[1][0][:, at], column, owner, chooser, labels, "Put it before the first '|'.")
    _check_identified(choices, names, alternatives, codes)
    parts = Parts(formula=formula, chosen=chosen, specs=specs, constants=constants, wanted=tuple(wanted))
    return ConditionalData(
        parts=parts,
        choices=choices,
        names=names,
        alternatives=alternatives,
        reference=base,
        codes=codes,
        choosers=tuple(labels.tolist()),
        groups=groups,
        frame=frame,
        name=own_name,
        dropped=dropped,
    )


def columns_of(parts: Parts, frame: "pd.DataFrame", name: RowName, codes: Codes, data: ConditionalData) -> Array:
    """(R, Q) of other rows, coded alike."""
    matrices: list[tuple[Array, list[str]] | None] = []
    for spec in parts.specs:
        if spec is None:
            matrices.append(None)
        else:
            matrices.append((model_matrix(spec, frame, name)[0], list(spec.column_names)))
    plain = [None if each is None else _without_intercept(*each) for each in matrices]
    return _columns(plain, parts.constants, codes, data.alternatives, data.reference)[0]


def _parse(formula: str, frame: "pd.DataFrame") -> tuple[str, list[Any]]:
    formulaic = require("formulaic")
    shown = f"formula {quoted(formula)}"
    if not isinstance(formula, str) or formula.count("~") != 1 or not formula.split("~")[0].strip():
        raise InputError(f"{shown}: expected a column, '~' and terms. {_EXAMPLE}")
    left, right = (side.strip() for side in formula.split("~"))
    left = left.strip("`")
    check_columns(frame, [left], shown)
    check_names(formula)
    try:
        parsed = formulaic.Formula(f"{right} | 1" if "|" not in right else right)
    except Exception as error:
        raise InputError(f"{shown}: {str(error).strip().splitlines()[0]} {_EXAMPLE}") from None
    rights = list(parsed)
    if "|" not in right and "1" not in map(str, rights[0]):
        raise InputError(
            f"{shown}: expected constants to be left out by '| 0'. Got '0' (or '- 1') without '|'. Write e.g. "
            "'choice ~ cost + time | 0'."
        )
    if len(rights) > 3:
        raise InputError(f"{shown}: expected at most three parts with '|' between. Got {len(rights)}. {_EXAMPLE}")
    return left, rights


def _matrices(
    rights: Sequence[Any], frame: "pd.DataFrame", name: RowName
) -> tuple[list[tuple[Array, list[str]] | None], tuple[Any, ...], bool]:
    """For each of three parts its columns without an intercept and their names; and whether part 2 has one."""
    found: list[tuple[Array, list[str]] | None] = [None, None, None]
    specs: list[Any] = [None, None, None]
    constants = len(rights) < 2
    for at, right in enumerate(rights):
        if not len(right):
            continue
        X, specs[at] = model_matrix(right, frame, name)
        names = list(specs[at].column_names)
        if at == 1:
            constants = INTERCEPT in names
        found[at] = _without_intercept(X, names)
    return found, tuple(specs), constants


def _without_intercept(X: Array, names: list[str]) -> tuple[Array, list[str]] | None:
    kept = [at for at, each in enumerate(names) if each != INTERCEPT]
    return (X[:, kept], [names[at] for at in kept]) if kept else None


def _columns(
    matrices: Sequence[tuple[Array, list[str]] | None],
    constants: bool,
    codes: Codes,
    alternatives: Sequence[Any],
    base: int,
) -> tuple[Array, tuple[tuple[str, str], ...]]:
    """Z and the names of its columns, in the order of R's mlogit: constants, part 1, part 2, part 3."""
    columns: list[Array] = []
    names: list[tuple[str, str]] = []
    own = [(at, str(label)) for at, label in enumerate(alternatives)]
    if constants:
        for at, label in own:
            if at != base:
                columns.append((codes == at).astype(np.float64))
                names.append((label, INTERCEPT))
    first, second, third = matrices
    if first is not None:
        columns += list(first[0].T)
        names += [("", each) for each in first[1]]
    for part, left_out in ((second, base), (third, None)):
        if part is None:
            continue
        for column, each in zip(part[0].T, part[1], strict=True):
            for at, label in own:
                if at != left_out:
                    columns.append(np.where(codes == at, column, 0.0))
                    names.append((label, each))
    if not columns:
        raise InputError(f"formula: expected a column or constants. Got none. {_EXAMPLE}")
    return np.column_stack(columns), tuple(names)


def _alternatives(
    frame: "pd.DataFrame", alternative: str, chooser: str, owner: Codes, name: RowName
) -> tuple[tuple[Any, ...], Codes]:
    import pandas as pd

    values = frame[alternative]
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.cat.remove_unused_categories()
        labels, codes = values.cat.categories.tolist(), values.cat.codes.to_numpy().astype(np.intp)
    else:
        plain = values if values.dtype.kind in "biuf" else values.astype(str)
        if plain.dtype.kind == "f" and bool((plain % 1 == 0).all()):
            plain = plain.astype(np.int64)
        found, codes = np.unique(plain.to_numpy(), return_inverse=True)
        labels = found.tolist()
    if len(labels) < 2:
        raise InputError(f"column {quoted(alternative)}: expected two alternatives or more. Got {quoted(labels[0])}.")
    pairs = owner * len(labels) + codes
    order = np.argsort(pairs, kind="stable")
    again = np.flatnonzero(np.diff(pairs[order]) == 0)
    if len(again):
        row = int(order[again[0] + 1])
        raise InputError(
            f"column {quoted(alternative)}: expected an alternative once for each chooser. Got "
            f"{quoted(values.iloc[row])} again for {chooser} {quoted(frame[chooser].iloc[row])} in {name(row)}. "
            "Number the choices of a person apart."
        )
    return tuple(labels), codes


def _marks(
    frame: "pd.DataFrame", chosen: str, chooser: str, owner: Codes, labels: Any, name: RowName
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    values = numbers(frame, chosen, name)
    wrong = (values != 0.0) & (values != 1.0)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"column {quoted(chosen)}: expected 1 for what was chosen, else 0. Got {values[row]:g} in {name(row)}."
        )
    counts = np.bincount(owner, weights=values)
    if np.any(counts != 1):
        first = int((counts != 1).argmax())
        raise InputError(
            f"column {quoted(chosen)}: expected one choice of every chooser. Got {int(counts[first])} of {chooser} "
            f"{quoted(labels[first])} ({int((counts != 1).sum()):,} of {len(counts):,} choosers have none or several). "
            "Mark one row of each."
        )
    return np.asarray(values == 1.0)


def _place(alternatives: Sequence[Any], reference: Any) -> int:
    words = [str(label) for label in alternatives]
    if reference is None:
        return 0
    if str(reference) not in words:
        raise InputError(f"Unknown reference alternative {quoted(reference)}. {nearest(str(reference), words)}")
    return words.index(str(reference))


def _check_same(
    values: Any, column: str, owner: Codes, chooser: str, labels: Any, way_out: str = "Make it the same."
) -> None:
    """That a column is the same in all rows of a chooser."""
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    differs = values != values[first][owner]
    if np.any(differs):
        who = labels[owner[int(np.argmax(differs))]]
        raise InputError(
            f"column {quoted(column)}: expected one value for each chooser. Got several for {chooser} {quoted(who)}. "
            f"{way_out}"
        )


def _check_identified(
    choices: Choices, names: Sequence[tuple[str, str]], alternatives: Sequence[Any], codes: Codes
) -> None:
    """That each parameter can be told from the others."""
    sizes = np.abs(choices.Z).max(0)
    if not (sizes < 1e150).all():
        at = int((~(sizes < 1e150)).argmax())
        raise InputError(
            f"column {quoted(names[at][1])}: expected numbers whose squares a computer can hold. Got some of "
            f"{sizes[at]:.0e}. Take another unit."
        )
    within = choices.within()
    still = np.abs(within).max(0) <= 1e-12 * np.maximum(np.abs(choices.Z).max(0), 1e-300)
    if still.any():
        alternative, column = names[int(still.argmax())]
        what = f"column {quoted(column)}" + (f" of {alternative}" if alternative else "")
        way_out = f"Put a column of the choosers after '|', e.g. '... | {column}'."
        if alternative:
            way_out = "It is the same for every chooser who has that alternative: leave it out."
        raise InputError(
            f"{what}: expected values that differ among a chooser's alternatives. Got the same for every chooser, so "
            f"its coefficient cannot be told. {way_out}"
        )
    kept, _ = independent_columns(choices)
    if len(kept) < choices.Z.shape[1]:
        lost = next(at for at in range(choices.Z.shape[1]) if at not in set(kept.tolist()))
        raise InputError(
            f"collinear columns: {flat_name(names[lost])} follows from those before it among the alternatives of each "
            "chooser. Leave it out."
        )
    with_constants = {alternative for alternative, column in names if column == INTERCEPT}
    counts = np.bincount(codes[choices.chosen], minlength=len(alternatives))
    for at, label in enumerate(alternatives):
        if counts[at] == 0 and with_constants:
            raise InputError(
                f"alternative {quoted(label)}: expected one chooser or more. Got none, so its constant is minus "
                "infinity. Leave its rows out, or constants ('| 0')."
            )


def flat_name(name: tuple[str, str]) -> str:
    """What a parameter is called in a hypothesis: `column`, or `column[alternative]`."""
    alternative, column = name
    return f"{column}[{alternative}]" if alternative else column

"""Marginal effects and predicted probabilities, with errors by the delta method.

Axis legend: N rows, P columns, K classes, Q = (K-1)P parameters, V variables (or levels of them), T points.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import expit, logit

from softplace.errors import InputError, nearest
from softplace.output.logit import _dense
from softplace.output.logit.design import Design, Variable
from softplace.output.logit.inference import Array, bound_names, quantile
from softplace.output.logit.tables import Cell, Table

At = str | Mapping[str, Any]
"""Where effects are taken: "average" over the rows, at the "means", or with variables set to values."""
PLACES = ("average", "means")
_STEP = 1e-5


@dataclass(frozen=True, kw_only=True, eq=False)
class Effects:
    """Effects of variables on the probability of each class.

    Args:
        names: The variable of each effect, and the change it is of: "d/dx", or levels "from -> to".
        classes: Their names.
        values: (V, K). The effects on all classes sum to 0.
        standard_errors: (V, K).
        at: Where they were taken, in words.
        left_out: Variables whose effect cannot be told, with the reason.
    """

    names: tuple[tuple[str, str], ...]
    classes: tuple[str, ...]
    values: Array
    standard_errors: Array
    at: str
    left_out: tuple[str, ...] = ()

    @property
    def z(self) -> Array:
        """(V, K)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.values / self.standard_errors)

    @property
    def p_values(self) -> Array:
        """(V, K), two-sided."""
        return np.asarray(2.0 * stats.norm.sf(np.abs(self.z)))

    def conf_int(self, level: float = 0.95) -> Array:
        """(V, K, 2)."""
        half = quantile(level) * self.standard_errors
        return np.stack([self.values - half, self.values + half], axis=-1)

    def table(self, level: float = 0.95) -> Table:
        """Each effect with its error, z, p and interval."""
        bounds, z, p = self.conf_int(level), self.z, self.p_values
        figures = np.dstack([self.values, self.standard_errors, z, p, bounds]).tolist()
        rows: list[tuple[Cell, ...]] = [
            (variable, change, name, *figures[v][k])
            for v, (variable, change) in enumerate(self.names)
            for k, name in enumerate(self.classes)
        ]
        return Table(
            title=f"Marginal effects on probabilities, {self.at}",
            columns=("variable", "change", "class", "effect", "error", "z", "p", *bound_names(level)),
            rows=tuple(rows),
            note="Errors by the delta method." + "".join(f" No effect of {each}." for each in self.left_out),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile:
    """Predicted probabilities over the values of one variable.

    Args:
        variable: Its name.
        points: (T,) numbers, or levels.
        classes: Their names.
        probabilities: (T, K).
        standard_errors: (T, K).
        at: Where the other variables stand, in words.
    """

    variable: str
    points: tuple[Any, ...]
    classes: tuple[str, ...]
    probabilities: Array
    standard_errors: Array
    at: str

    def conf_int(self, level: float = 0.95) -> Array:
        """(T, K, 2), of the normal distribution on the scale of log odds, so that the ends lie between 0 and 1."""
        p = self.probabilities
        with np.errstate(divide="ignore", invalid="ignore"):
            half = quantile(level) * self.standard_errors / (p * (1.0 - p))
            ends = np.stack([expit(logit(p) - half), expit(logit(p) + half)], axis=-1)
        return np.where(((p == 0.0) | (p == 1.0))[..., None], p[..., None], ends)

    def table(self, level: float = 0.95) -> Table:
        """A row for each point and class."""
        bounds = self.conf_int(level)
        rows = [
            (point, name, float(self.probabilities[t, k]), float(self.standard_errors[t, k]), *map(float, bounds[t, k]))
            for t, point in enumerate(self.points)
            for k, name in enumerate(self.classes)
        ]
        return Table(
            title=f"Predicted probabilities over {self.variable}, {self.at}",
            columns=(self.variable, "class", "probability", "error", *bound_names(level)),
            rows=tuple(rows),
            note="Errors by the delta method; intervals on the scale of log odds.",
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """What effects are taken of.

    Args:
        design: Of the rows.
        classes: Their names, the base of the coefficients first.
        coefficients: (K-1, P) against the first class.
        covariance: (Q, Q), class-major.
        weight: (N,), what rows count, or `None`.
    """

    design: Design
    classes: tuple[str, ...]
    coefficients: Array
    covariance: Array
    weight: Array | None


def marginal_effects(model: Model, at: At = "average", variables: Sequence[str] | None = None) -> Effects:
    """How the probability of each class changes with each variable.

    - A number x: the derivative `dP_k/dx = P_k (u_k - sum_j P_j u_j)`, `u_k = b_k . dX/dx`, with all columns that
      follow from x (its powers, its products with others).
    - A category, or a number that is 0 or 1: the change `P_k(level) - P_k(base)` to each level from the first.

    Args:
        model: The fit.
        at: "average": the mean of the rows' effects. "means": the effects where every number is at its mean and every
            category at its shares (the mean of its columns). A mapping from variables to values: the mean of the rows'
            effects with these variables set.
        variables: Whose; all when not given.

    Returns:
        The effects with errors by the delta method, `J V J^T`, J the derivative of the effects by the coefficients.

    Raises:
        InputError: `at` or a variable is unknown, or a formula cannot be evaluated where it is asked.
    """
    fixed, collapsed, words = _placed(model, at)
    chosen = _chosen(model.design, variables)
    names: list[tuple[str, str]] = []
    values, errors, left_out = [], [], []
    for variable in chosen:
        if variable.opaque:
            left_out.append(f"{variable.name} (it stands in {variable.opaque})")
            continue
        if variable.levels is None:
            X, slope = _slope(model, variable, fixed)
            found = [_derivative(model, *_rows(model, collapsed, X, slope))]
            names.append((variable.name, "d/dx"))
        else:
            base = _at_level(model, variable, 0, fixed, collapsed)
            levels = range(1, len(variable.levels))
            found = [_difference(_at_level(model, variable, to, fixed, collapsed), base) for to in levels]
            names += [(variable.name, f"{variable.levels[0]} -> {variable.levels[to]}") for to in levels]
        for value, jacobian in found:
            values.append(value)
            errors.append(_delta(jacobian, model.covariance))
    if not names:
        raise InputError(
            "marginal effects need a variable whose effect can be told. Got "
            + ("; ".join(left_out) or "none: the model has only an intercept")
            + ". Put a column into the formula by its name."
        )
    return Effects(
        names=tuple(names),
        classes=model.classes,
        values=np.array(values),
        standard_errors=np.array(errors),
        at=words,
        left_out=tuple(left_out),
    )


def profile(model: Model, variable: str, points: Sequence[Any] | None = None, at: At = "average") -> Profile:
    """Predicted probabilities with one variable set to each of some values, the others as `at` says.

    Args:
        model: The fit.
        variable: Its name.
        points: Values; when not given 25 from the least to the largest of a number, or all levels.
        at: As of `marginal_effects`.

    Raises:
        InputError: As `marginal_effects`; a point is no level of the category.
    """
    fixed, collapsed, words = _placed(model, at)
    (found,) = _chosen(model.design, [variable])
    if found.opaque:
        raise InputError(f"no profile of {variable!r}: it stands in {found.opaque}. Put its column in by its name.")
    if points is None:
        if found.levels is None:
            own = model.design.values(variable)
            points = np.linspace(own.min(), own.max(), 25).tolist()
        else:
            points = found.levels
    elif found.levels is not None and not set(points) <= set(found.levels):
        wrong = next(point for point in points if point not in found.levels)
        raise InputError(f"Unknown level {wrong!r} of {variable!r}. {nearest(str(wrong), [*map(str, found.levels)])}")
    if not len(points):
        raise InputError(f"'points' of {variable!r} must be one value or more. Got none. Leave them out for the usual.")
    if found.levels is None and not all(isinstance(point, int | float | np.number) for point in points):
        raise InputError(
            f"'points' of {variable!r} must be numbers. Got {list(points)[:3]!r}. Leave them out for the usual."
        )
    shares, errors = [], []
    for point in points:
        X = model.design.matrix(fixed | {variable: point})
        (X, weight) = _rows(model, collapsed, X)
        value, jacobian = _probabilities(model, X, weight)
        shares.append(value)
        errors.append(_delta(jacobian, model.covariance))
    return Profile(
        variable=variable,
        points=tuple(points),
        classes=model.classes,
        probabilities=np.array(shares),
        standard_errors=np.array(errors),
        at=words,
    )


def _placed(model: Model, at: At) -> tuple[dict[str, Any], bool, str]:
    """Variables that are set, whether the rows become one (their mean), and the place in words."""
    variables = model.design.variables
    if isinstance(at, Mapping):
        _chosen(model.design, list(at))
        for name, value in at.items():
            levels = variables[name].levels
            if levels is not None and value not in levels:
                raise InputError(f"Unknown level {value!r} of {name!r}. {nearest(str(value), [*map(str, levels)])}")
            if levels is None and (isinstance(value, bool) or not isinstance(value, Real)):
                raise InputError(f"'at' of {name!r} must be a number. Got {value!r}.")
        words = ", ".join(f"{name} = {value}" for name, value in at.items())
        return dict(at), False, f"averaged over the rows with {words}" if words else "averaged over the rows"
    if at not in PLACES:
        raise InputError(f"Unknown 'at' {at!r}. {nearest(str(at), PLACES)}")
    if at == "average":
        return {}, False, "averaged over the rows"
    means = {
        name: float(np.average(model.design.values(name), weights=model.weight))
        for name, variable in variables.items()
        if variable.levels is None and not variable.opaque
    }
    return means, True, "at the means"


def _chosen(design: Design, names: Sequence[str] | None) -> list[Variable]:
    if names is None:
        return list(design.variables.values())
    for name in names:
        if name not in design.variables:
            raise InputError(f"Unknown variable {name!r}. {nearest(str(name), list(design.variables))}")
    return [design.variables[name] for name in names]


def _slope(model: Model, variable: Variable, fixed: Mapping[str, Any]) -> tuple[Array, Array]:
    """X and its derivative by a number, by central differences that stay within the values of the rows."""
    own = model.design.values(variable.name)
    low, high = float(own.min()), float(own.max())
    now = np.full(len(own), float(fixed[variable.name])) if variable.name in fixed else own
    low, high = min(low, float(now.min())), max(high, float(now.max()))
    step = _STEP * np.maximum(np.abs(now), 1e-3 * (high - low))
    above, below = np.minimum(now + step, high), np.maximum(now - step, low)
    X = model.design.matrix(fixed)
    difference = model.design.matrix({**fixed, variable.name: above})
    difference = difference - model.design.matrix({**fixed, variable.name: below})
    return X, difference / (above - below)[:, None]


def _at_level(
    model: Model, variable: Variable, level: int, fixed: Mapping[str, Any], collapsed: bool
) -> tuple[Array, Array]:
    levels = variable.levels or ()
    X, weight = _rows(model, collapsed, model.design.matrix({**fixed, variable.name: levels[level]}))
    return _probabilities(model, X, weight)


def _rows(model: Model, collapsed: bool, *matrices: Array) -> tuple[Array, ...]:
    """The matrices with the shares of their rows, or the mean row of each."""
    rows = len(matrices[0])
    weight: Array = np.full(rows, 1.0 / rows) if model.weight is None else model.weight / model.weight.sum()
    if collapsed:
        return (*(weight @ each[:, None] if each.ndim == 1 else (weight @ each)[None] for each in matrices), np.ones(1))
    return (*matrices, weight)


def _probabilities(model: Model, X: Array, weight: Array) -> tuple[Array, Array]:
    """The mean probabilities (K,), and their derivative by the coefficients (K, Q)."""
    p = _dense.shares(X, model.coefficients)
    return np.asarray(p @ weight), _jacobian(p, lambda k: p[k] * (_unit(p, k) - p), X, weight)


def _difference(one: tuple[Array, Array], base: tuple[Array, Array]) -> tuple[Array, Array]:
    return one[0] - base[0], one[1] - base[1]


def _derivative(model: Model, X: Array, slope: Array, weight: Array) -> tuple[Array, Array]:
    """The mean derivative of the probabilities along a direction of X, and its derivative by the coefficients."""
    p = _dense.shares(X, model.coefficients)
    u = np.zeros_like(p)
    u[1:] = model.coefficients @ slope.T
    centred: Array = u - (p * u).sum(0)
    flow = p * centred

    def along_x(k: int) -> Array:
        return np.asarray((_unit(p, k) - p) * flow[k] - p[k] * flow)

    jacobian = _jacobian(p, along_x, X, weight)
    jacobian += _jacobian(p, lambda k: p[k] * (_unit(p, k) - p), slope, weight)
    return np.asarray(flow @ weight), jacobian


def _jacobian(p: Array, factor: Callable[[int], Array], rows: Array, weight: Array) -> Array:
    """`sum_i w_i factor_k(m, i) rows_i` for every class k and m = 1..K-1: (K, Q). Classes lie before rows here."""
    return np.array([((factor(k)[1:] * weight) @ rows).ravel() for k in range(len(p))])


def _unit(p: Array, k: int) -> Array:
    column = np.zeros((len(p), 1))
    column[k] = 1.0
    return column


def _delta(jacobian: Array, covariance: Array) -> Array:
    """Standard errors of functions of the coefficients: (K,)."""
    variance = np.einsum("kq,qr,kr->k", jacobian, covariance, jacobian)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))

"""Marginal effects and profiles, against statsmodels and against differences of predictions."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.discrete.discrete_model import MNLogit
from statsmodels.tools import add_constant

from softplace.errors import InputError
from softplace.output.logit import _reference, fit, fit_arrays
from softplace.output.logit.result import LogitResult
from tests.output.logit.data import COLUMNS, anes, fitted


def table(rows: int = 300) -> pd.DataFrame:
    """A table with a number, a category, a dummy and a choice."""
    generator = np.random.default_rng(7)
    x, z = generator.uniform(1, 3, rows), generator.integers(0, 2, rows)
    region = generator.choice(["north", "south", "west"], rows)
    scores = np.column_stack([0.5 * x, 0.3 * z + (region == "west"), 0.2 * x**2]) + generator.gumbel(size=(rows, 3))
    return pd.DataFrame({"y": np.array(["a", "b", "c"])[scores.argmax(1)], "x": x, "z": z, "region": region})


@pytest.mark.parametrize(("at", "theirs"), [("average", "overall"), ("means", "mean")])
@pytest.mark.parametrize("way", ["formula", "arrays"])
def test_effects_and_errors_are_those_of_statsmodels(at: str, theirs: str, way: str) -> None:
    data = anes().assign(old=lambda frame: (frame.age > 50).astype(float))
    columns = [*COLUMNS, "old"]
    fitted_there = MNLogit(data.PID, add_constant(data[columns])).fit(method="newton", disp=0, tol=1e-12)
    expected = fitted_there.get_margeff(at=theirs, dummy=True)
    if way == "formula":
        result = fit("PID ~ " + " + ".join(columns), data)
    else:
        result = fit_arrays(data[columns], data.PID, columns=columns)
    found = result.marginal_effects(at)
    assert [name for name, _ in found.names] == columns
    assert found.names[-1][1] == "0 -> 1"
    np.testing.assert_allclose(found.values, expected.margeff, atol=1e-7)
    np.testing.assert_allclose(found.standard_errors, expected.margeff_se, atol=1e-8)
    np.testing.assert_allclose(found.values.sum(1), 0.0, atol=1e-12)


def by_differences(result: LogitResult, statistic: Any) -> tuple[np.ndarray, np.ndarray]:
    """A statistic of the coefficients, and its errors by the delta method with numerical derivatives."""
    base = result.solution.coefficients
    jacobian = []
    for at in range(base.size):
        step = np.zeros(base.size)
        step[at] = 1e-5
        up, down = (statistic(base + sign * step.reshape(base.shape)) for sign in (1, -1))
        jacobian.append((up - down) / 2e-5)
    slopes = np.array(jacobian)
    return statistic(base), np.sqrt(np.einsum("qk,qr,rk->k", slopes, result.base_covariance, slopes))


def test_effects_follow_powers_products_and_levels() -> None:
    data = table()
    result = fit("y ~ x + I(x**2) + x:z + z + C(region)", data, errors="robust")

    def probabilities(frame: pd.DataFrame, b: np.ndarray) -> np.ndarray:
        X = np.column_stack(
            [{
                "Intercept": np.ones(len(frame)), "x": frame.x, "I(x ** 2)": frame.x**2, "x:z": frame.x * frame.z,
                "z": frame.z, "C(region)[T.south]": frame.region == "south",
                "C(region)[T.west]": frame.region == "west",
            }[column.replace("x**2", "x ** 2")] for column in result.columns]
        )  # fmt: skip
        return _reference.probabilities(X.astype(float), b)

    def slope(b: np.ndarray) -> np.ndarray:
        up, down = data.assign(x=data.x + 1e-4), data.assign(x=data.x - 1e-4)
        return (probabilities(up, b) - probabilities(down, b)).mean(0) / 2e-4

    def west(b: np.ndarray) -> np.ndarray:
        return (probabilities(data.assign(region="west"), b) - probabilities(data.assign(region="north"), b)).mean(0)

    def dummy(b: np.ndarray) -> np.ndarray:
        return (probabilities(data.assign(z=1), b) - probabilities(data.assign(z=0), b)).mean(0)

    found = result.marginal_effects()
    place = {name: at for at, name in enumerate(found.names)}
    for name, statistic in ((("x", "d/dx"), slope), (("region", "north -> west"), west), (("z", "0 -> 1"), dummy)):
        values, errors = by_differences(result, statistic)
        np.testing.assert_allclose(found.values[place[name]], values, atol=1e-7)
        np.testing.assert_allclose(found.standard_errors[place[name]], errors, rtol=1e-4)


def test_effects_at_values_and_of_some_variables() -> None:
    data = table()
    result = fit("y ~ x + C(region)", data)
    found = result.marginal_effects({"x": 2.0}, ["x"])
    whole = fit("y ~ x + C(region)", data).predict(data.assign(x=2.0 + 1e-5)).mean().to_numpy()
    less = result.predict(data.assign(x=2.0 - 1e-5)).mean().to_numpy()
    np.testing.assert_allclose(found.values[0], (whole - less) / 2e-5, atol=1e-8)
    assert found.names == (("x", "d/dx"),)
    assert "with x = 2.0" in found.at


def test_a_fixed_base_is_where_levels_are_compared_from() -> None:
    data = table()
    result = fit("y ~ x + C(region, Treatment('west'))", data)
    names = result.marginal_effects(variables=["region"]).names
    assert names == (("region", "west -> north"), ("region", "west -> south"))


def test_profiles_are_means_of_predictions() -> None:
    data = table()
    result = fit("y ~ x + z + C(region)", data)
    found = result.profile("x", [1.5, 2.5])
    for point, row in zip(found.points, found.probabilities, strict=True):
        np.testing.assert_allclose(row, result.predict(data.assign(x=point)).mean().to_numpy(), atol=1e-12)
    values, errors = by_differences(
        result, lambda b: _reference.probabilities(result.design.matrix({"x": 1.5}), b).mean(0)
    )
    np.testing.assert_allclose(found.standard_errors[0], errors, rtol=1e-5)
    low, high = np.moveaxis(found.conf_int(), -1, 0)
    assert np.all((low > 0) & (low < found.probabilities) & (found.probabilities < high) & (high < 1))
    levels = result.profile("region")
    assert levels.points == ("north", "south", "west")
    usual = result.profile("x")
    assert (len(usual.points), usual.points[0], usual.points[-1]) == (25, data.x.min(), data.x.max())
    np.testing.assert_allclose(usual.probabilities.sum(1), 1.0)
    np.testing.assert_allclose(values, found.probabilities[0])


def test_weights_weigh_the_mean() -> None:
    data = table().assign(w=lambda frame: np.arange(len(frame)) % 3)
    weighted = fit("y ~ x + C(region)", data, weights="w")
    repeated = fit("y ~ x + C(region)", data.loc[data.index.repeat(data.w)].reset_index(drop=True))
    for at in ("average", "means"):
        one, other = weighted.marginal_effects(at), repeated.marginal_effects(at)
        np.testing.assert_allclose(one.values, other.values, atol=1e-8)
        np.testing.assert_allclose(one.standard_errors, other.standard_errors, rtol=1e-6)


def test_variables_whose_effect_cannot_be_told_are_said() -> None:
    result = fit("y ~ z + C(x > 2)", table())
    found = result.marginal_effects()
    assert [name for name, _ in found.names] == ["z"]
    assert "No effect of x (it stands in C(x > 2))" in found.table().note
    with pytest.raises(InputError, match=r"no profile of 'x': it stands in C\(x > 2\)"):
        result.profile("x")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda result: result.marginal_effects("mean"), "Unknown 'at' 'mean'. Did you mean 'means'"),
        (lambda result: result.marginal_effects(variables=["xx"]), "Unknown variable 'xx'. Did you mean 'x'"),
        (lambda result: result.marginal_effects({"region": "sout"}), "Unknown level 'sout' of 'region'. Did you mean"),
        (lambda result: result.marginal_effects({"x": "much"}), "'at' of 'x' must be a number. Got 'much'"),
        (lambda result: result.profile("region", ["east"]), "Unknown level 'east' of 'region'"),
        (lambda result: result.profile("income"), "Unknown variable 'income'"),
    ],
)
def test_what_cannot_be_asked(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(fit("y ~ x + C(region)", table()))


def test_an_intercept_alone_has_no_effects() -> None:
    with pytest.raises(InputError, match="the model has only an intercept"):
        fit("y ~ 1", table()).marginal_effects()


def test_tables_hold_the_numbers() -> None:
    result = fitted()
    effects = result.marginal_effects()
    records = effects.table().records()
    assert len(records) == 9
    assert records[4]["effect"] == pytest.approx(effects.values[1, 1])
    assert records[4]["97.5 %"] == pytest.approx(effects.values[1, 1] + 1.959964 * effects.standard_errors[1, 1])
    assert len(result.profile("x1").table().rows) == 75

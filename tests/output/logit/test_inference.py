"""Covariances, intervals and reference classes, against statsmodels, R's printed tables and hand formulas."""

from typing import Any

import numpy as np
import pytest
from statsmodels.discrete.discrete_model import MNLogit
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.tools import add_constant

from softplace.errors import InputError
from softplace.output.logit import fit, fit_arrays, solver
from softplace.output.logit.inference import covariance, inverse
from tests.output.logit import hsbdemo
from tests.output.logit.data import COLUMNS, anes, draws, fitted


@pytest.fixture(scope="module")
def statsmodels() -> Any:
    data = anes()
    return MNLogit(data.PID, add_constant(data[COLUMNS])).fit(method="newton", disp=0, tol=1e-12)


def test_the_observed_information_gives_the_errors_of_statsmodels(statsmodels: Any) -> None:
    result = fit("PID ~ " + " + ".join(COLUMNS), anes())
    np.testing.assert_allclose(result.coefficients, statsmodels.params.T, atol=1e-7)
    np.testing.assert_allclose(result.standard_errors, statsmodels.bse.T, rtol=1e-6)
    np.testing.assert_allclose(result.covariance, statsmodels.cov_params(), rtol=1e-5, atol=1e-10)
    np.testing.assert_allclose(result.estimates.p_values, statsmodels.pvalues.T.to_numpy().ravel(), atol=1e-7)
    bounds = statsmodels.conf_int(0.1).to_numpy().reshape(-1, 2)
    np.testing.assert_allclose(result.estimates.conf_int(0.9), bounds, atol=1e-7)


def test_tables_that_r_prints() -> None:
    result = fit(hsbdemo.FORMULA, hsbdemo.table(), reference="academic")
    place = [result.columns.index(column) for column in hsbdemo.COLUMNS]
    ratios = {(row["class"], row["column"]): row["ratio"] for row in result.odds_ratios().records()}
    for at, name in enumerate(("general", "vocation")):
        np.testing.assert_allclose(
            result.coefficients[at, place], hsbdemo.COEFFICIENTS[name], rtol=1e-4
        )  # nnet stops early
        np.testing.assert_allclose(result.standard_errors[at, place], hsbdemo.ERRORS[name], rtol=1e-4)
        p = result.estimates.p_values.reshape(2, -1)[at, place]
        np.testing.assert_allclose(p, hsbdemo.P_VALUES[name], rtol=2e-4)
        for column, ratio in zip(hsbdemo.COLUMNS, hsbdemo.RATIOS[name], strict=True):
            assert ratios[name, column] == pytest.approx(ratio, rel=1e-4)
    assert -2 * result.loglikelihood == pytest.approx(hsbdemo.DEVIANCE, abs=5e-5)
    assert result.fit_measures.aic == pytest.approx(hsbdemo.AIC, abs=5e-5)
    at_mean = result.profile("ses", at={"write": 52.775})
    assert list(at_mean.points) == ["low", "high", "middle"]
    for point, row in zip(at_mean.points, at_mean.probabilities, strict=True):
        np.testing.assert_allclose(row, hsbdemo.AT_MEAN_WRITING[point], atol=1e-5)


@pytest.mark.parametrize("reference", [1, 2])
def test_another_reference_is_the_fit_to_relabelled_classes(reference: int) -> None:
    X, y = draws()
    mapped = fit_arrays(X, y).against(reference)
    order = [reference, *(k for k in range(3) if k != reference)]
    refitted = fit_arrays(X, np.array([order.index(k) for k in y]))
    np.testing.assert_allclose(mapped.coefficients, refitted.coefficients, atol=1e-8)
    np.testing.assert_allclose(mapped.covariance, refitted.covariance, atol=1e-10)
    assert [name for name, _ in mapped.estimates.names[::4]] == [str(k) for k in order[1:]]
    back = mapped.against(0)
    np.testing.assert_allclose(back.coefficients, fit_arrays(X, y).coefficients, atol=1e-12)


def test_robust_errors_are_those_of_the_binary_case_of_statsmodels() -> None:
    X, y = draws(classes=2)
    glm = GLM(y, add_constant(X), family=Binomial())
    n, q = len(y), 4
    for kind, theirs, factor in (("hc0", "HC0", 1.0), ("hc1", "HC1", 1.0)):
        expected = glm.fit(cov_type=theirs, tol=1e-14).cov_params() * factor
        if theirs == "HC1" and np.allclose(expected, glm.fit(cov_type="HC0", tol=1e-14).cov_params()):
            expected = expected * n / (n - q)  # some versions return HC0 for both
        np.testing.assert_allclose(fit_arrays(X, y, errors=kind).covariance, expected, rtol=1e-6)


def test_hc0_and_hc1_differ_by_the_factor_and_robust_is_hc1() -> None:
    hc0, hc1, robust = (fitted(errors=kind).covariance for kind in ("hc0", "hc1", "robust"))
    np.testing.assert_allclose(hc1, hc0 * 400 / (400 - 8), rtol=1e-12)
    np.testing.assert_array_equal(hc1, robust)


def test_clustered_errors_by_hand_and_of_statsmodels() -> None:
    X, y = draws(classes=2)
    groups = np.arange(400) // 16
    result = fit_arrays(X, y, errors="cluster", groups=groups)
    theirs = GLM(y, add_constant(X), family=Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}, tol=1e-14
    )
    np.testing.assert_allclose(result.covariance, theirs.cov_params() * 25 / 24, rtol=1e-6)


def test_clusters_of_one_row_are_hc0_with_its_factor() -> None:
    X, y = draws()
    clustered = fit_arrays(X, y, errors="cluster", groups=np.arange(400)).covariance
    np.testing.assert_allclose(clustered, fit_arrays(X, y, errors="hc0").covariance * 400 / 399, rtol=1e-9)


@pytest.mark.parametrize("errors", ["observed", "hc0", "hc1"])
def test_counts_are_repeated_rows(errors: str) -> None:
    X, y = draws()
    counts = np.random.default_rng(1).integers(0, 4, 400)
    weighted = fit_arrays(X, y, sample_weight=counts, errors=errors)
    repeated = fit_arrays(np.repeat(X, counts, axis=0), np.repeat(y, counts), errors=errors)
    np.testing.assert_allclose(weighted.coefficients, repeated.coefficients, atol=1e-8)
    np.testing.assert_allclose(weighted.covariance, repeated.covariance, rtol=1e-7)
    assert weighted.fit_measures.bic == pytest.approx(repeated.fit_measures.bic)
    assert weighted.fit_measures.pseudo_r2 == pytest.approx(repeated.fit_measures.pseudo_r2)


def test_sampling_weights_have_the_sandwich_of_hand_and_no_scale() -> None:
    X, y = draws()
    weight = np.random.default_rng(1).uniform(0.2, 3.0, 400)
    result = fit_arrays(X, y, sample_weight=weight, weights_are="sampling", errors="hc0")
    design = np.column_stack([np.ones(400), X])
    scores = solver.scores(design, y, result.solution.coefficients) * weight[:, None]
    bread = np.linalg.inv(solver.information(design, result.solution.coefficients, weight))
    np.testing.assert_allclose(result.covariance, bread @ scores.T @ scores @ bread, rtol=1e-8)
    scaled = fit_arrays(X, y, sample_weight=7 * weight, weights_are="sampling", errors="hc0")
    np.testing.assert_allclose(scaled.covariance, result.covariance, rtol=1e-7)


@pytest.mark.parametrize(("shift", "scale"), [(2e3, 1.0), (-1e7, 1.0), (0.0, 1e-120), (1e5, 1e120)])
@pytest.mark.parametrize("errors", ["observed", "hc1", "bootstrap:5"])
def test_columns_far_from_0_lose_nothing(shift: float, scale: float, errors: str) -> None:
    X, y = draws()
    plain, moved = fit_arrays(X, y, errors=errors), fit_arrays((X + shift) * scale, y, errors=errors)
    np.testing.assert_allclose(moved.coefficients[:, 1:] * scale, plain.coefficients[:, 1:], rtol=1e-6)
    np.testing.assert_allclose(moved.standard_errors[:, 1:] * scale, plain.standard_errors[:, 1:], rtol=1e-6)
    intercept = moved.coefficients[:, 0] + shift * scale * moved.coefficients[:, 1:].sum(1)
    np.testing.assert_allclose(intercept, plain.coefficients[:, 0], atol=1e-6 * max(1.0, abs(shift)))
    one, other = moved.with_errors("hc0"), plain.with_errors("hc0")
    np.testing.assert_allclose(
        one.estimates.z.reshape(2, -1)[:, 1:], other.estimates.z.reshape(2, -1)[:, 1:], rtol=1e-5
    )
    for here, there in zip(moved.test("x2 = 0"), plain.test("x2 = 0"), strict=True):
        assert here.statistic == pytest.approx(there.statistic, rel=1e-5)


def test_nan_is_not_repaired() -> None:
    assert np.isnan(inverse(np.array([[1.0, np.nan], [np.nan, 1.0]]))).all()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "kind": ({"errors": "hc3"}, "Unknown 'errors' 'hc3'. Did you mean 'hc"),
    "resamples": ({"errors": "bootstrap:1"}, r"2 to 1,000,000 resamples\. Got 'bootstrap:1'"),
    "bootstrap": ({"errors": "bootstrap"}, "'errors' must name"),
    "column": ({"errors": "cluster:"}, "must name the column of the groups"),
    "groups": ({"errors": "cluster"}, "expected 'cluster' with 'groups'"),
    "one group": ({"errors": "cluster", "groups": np.zeros(400)}, r"two groups or more\. Got 1"),
    "reference": ({"reference": 9}, r"Unknown reference class '9'\. Known: 0, 1, 2\."),
    "weights are": ({"weights_are": "count"}, r"Unknown 'weights_are' 'count'\. Did you mean 'counts'"),
    "sampling": (
        {"weights_are": "sampling", "sample_weight": np.ones(400)},
        "must be robust, clustered or bootstrapped. Got 'observed'",
    ),
    "sampling alone": (
        {"weights_are": "sampling", "errors": "hc0"},
        "must be 'counts' without weights. Got 'sampling'",
    ),
    "resampling": ({"weights_are": "sampling", "errors": "bootstrap:5"}, "must be 'counts' without weights"),
    "negative": ({"sample_weight": -np.ones(400)}, r"weights 'sample_weight': .* Got -1 in row 0"),
    "zero": ({"sample_weight": np.zeros(400)}, r"expected one above 0\. Got zeros alone"),
    "shape": ({"sample_weight": np.ones(3)}, r"'sample_weight' must have the shape \(400,\)\. Got \(3,\)"),
    "columns": ({"columns": ["a", "a", "b"]}, "'columns' must be 3 different names"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_one_line(name: str) -> None:
    given, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        fitted(**given)
    assert "\n" not in str(caught.value)


def test_a_level_is_between_0_and_1() -> None:
    with pytest.raises(ValueError, match=r"'level' must be a number between 0 and 1\. Got 95"):
        fitted().conf_int(95)


def test_more_parameters_than_rows_have_no_hc1() -> None:
    X = np.random.default_rng(0).normal(size=(8, 1))
    y = np.array([0, 1, 2, 3, 0, 1, 2, 3])
    b = np.zeros((3, 3))
    wide = np.column_stack([np.ones(8), X, X**2])
    with pytest.raises(ValueError, match=r"more rows than parameters\. Got 8 and 9"):
        covariance(wide, y, b, kind="hc1")

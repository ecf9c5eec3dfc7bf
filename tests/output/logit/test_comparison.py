"""Tests of nested models, pseudo-R2, criteria, confusion, hypotheses in words."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.discrete.discrete_model import MNLogit
from statsmodels.tools import add_constant

from softplace.errors import InputError
from softplace.output.logit import fit, fit_arrays, solver
from softplace.output.logit.hypotheses import parse_hypothesis
from tests.output.logit.data import COLUMNS, anes, draws, fitted
from tests.output.logit.test_effects import table

FORMULA = "PID ~ " + " + ".join(COLUMNS)


def test_measures_are_those_of_statsmodels() -> None:
    data = anes()
    theirs = MNLogit(data.PID, add_constant(data[COLUMNS])).fit(method="newton", disp=0, tol=1e-12)
    measures = fit(FORMULA, data).fit_measures
    assert measures.loglikelihood == pytest.approx(theirs.llf, rel=1e-10)
    assert measures.null == pytest.approx(theirs.llnull, rel=1e-8)
    assert measures.aic == pytest.approx(theirs.aic, rel=1e-10)
    assert measures.bic == pytest.approx(theirs.bic, rel=1e-10)
    ratios = measures.pseudo_r2
    assert ratios["McFadden"] == pytest.approx(theirs.prsquared, rel=1e-7)
    n, l0, l1, q = 944, theirs.llnull, theirs.llf, 36
    assert ratios["McFadden adjusted"] == pytest.approx(1 - (l1 - q) / l0)
    assert ratios["Cox and Snell"] == pytest.approx(1 - np.exp(-theirs.llr / n))
    assert ratios["Nagelkerke"] == pytest.approx(ratios["Cox and Snell"] / (1 - np.exp(2 * l0 / n)))
    assert ratios["Aldrich and Nelson"] == pytest.approx(theirs.llr / (theirs.llr + n))
    predicted = theirs.predict().argmax(1)
    assert ratios["count"] == pytest.approx(np.mean(predicted == data.PID))
    right, most = np.sum(predicted == data.PID), data.PID.value_counts().max()
    assert ratios["count adjusted"] == pytest.approx((right - most) / (n - most))


def test_the_likelihood_ratio_of_all_columns_is_that_of_statsmodels() -> None:
    data = anes()
    theirs = MNLogit(data.PID, add_constant(data[COLUMNS])).fit(method="newton", disp=0, tol=1e-12)
    (found,) = fit(FORMULA, data).test("PID ~ 1", by="likelihood-ratio")
    assert found.statistic == pytest.approx(theirs.llr, rel=1e-7)
    assert found.degrees == 30
    assert found.p == pytest.approx(theirs.llr_pvalue, rel=1e-4)


def test_the_wald_test_of_statsmodels() -> None:
    data = anes()
    theirs = MNLogit(data.PID, add_constant(data[COLUMNS])).fit(method="newton", disp=0, tol=1e-12)
    unit = np.kron(np.eye(6), np.eye(6)[[3]])
    expected = theirs.wald_test(unit, scalar=True)
    (found,) = fit(FORMULA, data).test("age = 0", by="wald")
    assert found.statistic == pytest.approx(float(expected.statistic), rel=1e-6)
    assert found.p == pytest.approx(float(expected.pvalue), rel=1e-5)
    assert found.degrees == 6


def test_the_score_of_an_intercept_is_pearsons_chi_squared() -> None:
    """Of a saturated model of one category, the score test of no effect is Pearson's test of the table of counts."""
    data = table()
    regions = ("north", "south", "west")
    counts = np.array([[np.sum((data.y == a) & (data.region == region)) for region in regions] for a in "abc"])
    expected = stats.chi2_contingency(counts)
    (found,) = fit("y ~ C(region)", data).test("y ~ 1", by="score")
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-9)
    assert (found.degrees, found.p) == (expected.dof, pytest.approx(expected.pvalue))
    (ratio,) = fit("y ~ C(region)", data).test("y ~ 1", by="likelihood-ratio")
    assert ratio.statistic == pytest.approx(stats.chi2_contingency(counts, lambda_="log-likelihood").statistic)


def test_the_three_tests_agree_with_many_rows() -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(40_000, 2))
    y = (
        np.outer(X[:, 0], [0.0, 0.5, -0.5]) + 0.01 * X[:, [1]] * [0, 1, 2] + generator.gumbel(size=(40_000, 3))
    ).argmax(1)
    statistics = [test.statistic for test in fit_arrays(X, y).test("x2 = 0")]
    assert len(statistics) == 3
    assert max(statistics) / min(statistics) == pytest.approx(1.0, abs=2e-3)


def test_a_hypothesis_that_holds_is_rejected_as_often_as_it_says() -> None:
    found = []
    for seed in range(60):
        X, y = draws(rows=150, width=1, seed=seed)
        noise = np.random.default_rng(1000 + seed).normal(size=150)
        found.append([test.p for test in fit_arrays(np.column_stack([X, noise]), y).test("x2 = 0")])
    p = np.array(found, dtype=float)
    assert np.all(np.abs((p < 0.2).mean(0) - 0.2) < 0.155)  # three standard errors
    assert np.corrcoef(p.T).min() > 0.99


def test_another_way_to_write_a_smaller_model_is_the_same_test() -> None:
    data = table()
    result = fit("y ~ x + z", data)
    one, two = result.test("z = 0"), result.test("y ~ x")
    assert [test.statistic for test in one] == pytest.approx([test.statistic for test in two])
    # x and z in the span of sums: the same likelihood ratio and score, and no columns that a Wald test could leave out
    sums = result.test("y ~ I(x + z)")
    assert [test.name for test in sums] == ["likelihood ratio", "score"]
    wald = result.test("x = z")[0]
    assert sums[0].statistic == pytest.approx(wald.statistic, rel=0.3)


def test_a_term_is_all_of_its_columns() -> None:
    result = fit("y ~ x + C(region)", table())
    named = result.test("C(region)[T.south] = 0, C(region)[T.west] = 0")
    term = result.test("C(region) = 0")
    assert [test.degrees for test in term] == [4, 4, 4]
    assert [test.statistic for test in term] == pytest.approx([test.statistic for test in named])
    assert result.term_test("C(region)").statistic == pytest.approx(term[0].statistic)


def test_one_class_against_the_reference() -> None:
    result = fit("y ~ x", table(), reference="b")
    (found,) = result.test("c: x = 0")
    z = result.estimates.z[result.estimates.names.index(("c", "x"))]
    assert (found.statistic, found.degrees) == (pytest.approx(z**2), 1)
    assert found.p == pytest.approx(result.estimates.p_values[result.estimates.names.index(("c", "x"))])


def test_robust_errors_make_the_wald_test_robust() -> None:
    data = table()
    result = fit("y ~ x", data, errors="hc0")
    (found,) = result.test("x = 0.1", by="wald")
    picked = [at for at, (_, column) in enumerate(result.estimates.names) if column == "x"]
    distance = result.estimates.values[picked] - 0.1
    assert found.statistic == pytest.approx(
        distance @ np.linalg.inv(result.covariance[np.ix_(picked, picked)]) @ distance
    )


def test_confusion_counts_the_likeliest_class() -> None:
    X, y = draws()
    result = fit_arrays(X, y)
    predicted = result.probabilities().argmax(1)
    counts = [[int(np.sum((y == a) & (predicted == b))) for b in range(3)] for a in range(3)]
    assert [list(row[1:]) for row in result.confusion().rows] == counts


WORDS: dict[str, tuple[str, list[list[float]], list[float]]] = {
    "one": ("b = 0", [[0, 1, 0, 0]], [0]),
    "sum": ("a + 2 * b - c = 1.5", [[1, 2, -1, 0]], [1.5]),
    "both sides": ("a = b + 3", [[1, -1, 0, 0]], [3]),
    "negative": ("-a = -2", [[-1, 0, 0, 0]], [-2]),
    "several": ("a = 0, c = 1e-2", [[1, 0, 0, 0], [0, 0, 1, 0]], [0, 0.01]),
    "brackets": ("C(r, Treatment('u, v'))[T.w] = 0", [[0, 0, 0, 1]], [0]),
    "backticks": ("`b` = `a`", [[-1, 1, 0, 0]], [0]),
    "term": ("C(r, Treatment('u, v')) = 0", [[0, 0, 0, 1]], [0]),
}


@pytest.mark.parametrize("name", WORDS)
def test_hypotheses_in_words(name: str) -> None:
    text, rows, values = WORDS[name]
    columns = ["a", "b", "c", "C(r, Treatment('u, v'))[T.w]"]
    matrix, right = parse_hypothesis(text, columns, {"C(r, Treatment('u, v'))": (3,)})
    np.testing.assert_array_equal(matrix, rows)
    np.testing.assert_array_equal(right, values)


def test_names_within_names_are_told_apart() -> None:
    matrix, _ = parse_hypothesis("age = age2, I(age ** 2) = 0", ["age", "age2", "I(age ** 2)"], {})
    np.testing.assert_array_equal(matrix, [[1, -1, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x1", "expected one '='"),
        ("x1 = ", "expected something on both sides"),
        ("x1 = x1", "expected a column in it"),
        ("3 = 0", "expected a column in it"),
        ("y9 = 0", "no column 'y9'"),
        ("x1 x2 = 0", r"expected \+ or - before 'x2"),
        ("x1 = 0, x1 = 0", "must be of 4 independent equations. Got 2"),
        ("2: x1 = 0, x1 = 0", "must be of 2 independent equations. Got 1"),
        ("x1 = 0 = x2", "expected one '='"),
        ("", "expected one '='"),
        ("y ~ x1", "a fit of arrays has no formula"),
    ],
)
def test_hypotheses_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fitted().test(text)


@pytest.mark.parametrize(
    ("hypothesis", "by", "message"),
    [
        ("y ~ x + z + C(region)", None, "expected a model within 'y ~ x"),
        ("y ~ z", None, "expected a model within"),
        ("region ~ x", None, "expected 'y' on the left"),
        ("y ~ income", None, "no column 'income'"),
        ("x = 0.5", "score", "no score test of 'x = 0.5'"),
        ("x = 0", "lr", "Unknown 'by' 'lr'"),
        ("C(region) = 1", None, "has several columns, which can only all be 0"),
    ],
)
def test_hypotheses_that_this_fit_has_not(hypothesis: str, by: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit("y ~ x + C(region)", table()).test(hypothesis, by=by)


def test_sampling_weights_have_no_likelihood() -> None:
    data = table().assign(w=1.5)
    result = fit("y ~ x", data, weights="w", weights_are="sampling", errors="robust")
    assert [test.name for test in result.test("x = 0")] == ["Wald"]
    with pytest.raises(InputError, match=r"need a likelihood\. Got sampling weights"):
        result.test("y ~ 1")
    with pytest.raises(InputError, match="need a likelihood"):
        result.independence()


def test_the_score_has_mean_zero_at_the_maximum() -> None:
    result = fitted()
    total = solver.scores(result.X, result.codes, result.solution.coefficients).sum(0)
    np.testing.assert_allclose(total, 0.0, atol=1e-4)

"""Independence of irrelevant alternatives: R's printed test, invariances, data where it does not hold."""

import numpy as np
import pytest

from softplace.errors import InputError
from softplace.output.logit import fit, fit_arrays
from softplace.output.logit.independence import hausman, small_hsiao
from tests.output.logit import hsbdemo
from tests.output.logit.data import draws, fitted


def test_the_test_that_r_prints() -> None:
    found = fit(hsbdemo.FORMULA, hsbdemo.table()).independence()
    (test,) = [
        each for each in found if each.name == "Hausman-McFadden" and each.hypothesis.endswith("depend on vocation")
    ]
    statistic, degrees, p = hsbdemo.WITHOUT_VOCATION
    assert test.statistic == pytest.approx(statistic, abs=5e-4)
    assert test.degrees == degrees
    assert test.p == pytest.approx(p, abs=5e-4)


def test_every_class_is_left_out_in_each_test() -> None:
    found = fitted(classes=4).independence()
    assert [test.name for test in found] == ["Hausman-McFadden", "generalised Hausman"] * 4 + ["Small-Hsiao"] * 4
    assert {test.degrees for test in found} == {8}
    for k in range(4):
        assert sum(test.hypothesis == f"odds do not depend on {k}" for test in found) == 3


def test_the_reference_does_not_matter() -> None:
    X, y = draws()
    one = [test.statistic for test in fit_arrays(X, y).independence()]
    other = [test.statistic for test in fit_arrays(X, y, reference=2).independence()]
    assert one == pytest.approx(other)
    renamed = fit_arrays(X, (y + 1) % 3).independence()  # class 2 becomes the first
    moved = [test.statistic for test in renamed]
    expected = [one[at] for k in (2, 0, 1) for at in (2 * k, 2 * k + 1)]
    assert moved[:6] == pytest.approx(expected, rel=1e-4)


def test_counts_are_repeated_rows() -> None:
    X, y = draws()
    weighted = fit_arrays(X, y, sample_weight=np.full(400, 2.0)).independence()[:6]
    repeated = fit_arrays(np.repeat(X, 2, axis=0), np.repeat(y, 2)).independence()[:6]
    assert [test.statistic for test in weighted] == pytest.approx([test.statistic for test in repeated], rel=1e-5)


def test_a_negative_statistic_is_said_and_has_no_p() -> None:
    test = hausman(np.array([1.0, 0.0]), np.diag([-1.0, 1.0]), "h")
    assert (test.statistic, test.p) == (-1.0, None)
    assert test.note.startswith("negative")
    mixed = hausman(np.array([0.0, 2.0]), np.diag([-1.0, 1.0]), "h")
    assert mixed.statistic == pytest.approx(4.0)
    assert mixed.note == "the difference of the covariances is not positive definite"


def test_the_degrees_are_the_rank() -> None:
    test = hausman(np.array([1.0, 1.0]), np.ones((2, 2)), "h")
    assert (test.degrees, test.statistic) == (1, pytest.approx(1.0))


def test_tests_hold_where_odds_are_independent_and_reject_where_two_classes_are_one() -> None:
    """Red bus, blue bus: whoever would take either takes both alike, so that leaving one out changes the odds."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(4000, 1))
    car, train, bus = 0.0 * x, 1.0 * x, -1.0 * x
    independent = (np.hstack([car, train, bus]) + generator.gumbel(size=(4000, 3))).argmax(1)
    holds = {test.name: test.p for test in fit_arrays(x, independent).independence() if test.name != "Hausman-McFadden"}
    assert min(p for p in holds.values() if p is not None) > 0.01
    taste = generator.normal(size=(4000, 1)) * 3.0  # liked or disliked by both buses together
    scores = np.hstack([car, 1.5 * x + taste, -0.5 * x + taste + 0.3]) + generator.gumbel(size=(4000, 3))
    broken = fit_arrays(x, scores.argmax(1)).independence()
    assert min(test.p for test in broken if test.name == "generalised Hausman" and test.p is not None) < 1e-3


def test_the_statistic_of_small_and_hsiao_has_the_mean_of_its_degrees() -> None:
    shares = []
    for seed in range(20):
        X, y = draws(rows=300, width=1, seed=seed)
        design = np.column_stack([np.ones(300), X])
        shares += [test.statistic / test.degrees for test in small_hsiao(design, y, ("a", "b", "c"), seed=seed)]
    assert np.mean(shares) == pytest.approx(1.0, abs=0.55)  # three standard errors of 20 draws with 2 degrees


def test_seeds_halve_the_rows_otherwise() -> None:
    X, y = draws()
    one, same, other = (fit_arrays(X, y, seed=seed).independence()[-1].statistic for seed in (0, 0, 1))
    assert one == same != other


def test_halves_without_a_class_tell_nothing() -> None:
    X, y = draws(rows=200)
    y = np.where(y == 2, 1, y)
    y[7] = 2  # one row, in one half only
    found = fit_arrays(X[:, :1], y).independence()
    small = [test for test in found if test.name == "Small-Hsiao"]
    assert len(small) == 3
    assert all(test.p is None and "nothing can be told" in test.note for test in small)


def test_two_classes_have_no_others() -> None:
    with pytest.raises(InputError, match=r"needs three classes or more\. Got 2"):
        fitted(classes=2).independence()

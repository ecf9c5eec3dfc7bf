"""The bootstrap: refits are maxima, seeds repeat, failures are counted, the errors are those of theory."""

import numpy as np
import pytest

from softplace.output.logit import fit_arrays, solver
from softplace.output.logit.bootstrap import bootstrap
from tests.output.logit.data import draws, fitted


def test_a_refit_is_the_fit_to_the_rows_that_were_drawn() -> None:
    X, y = draws(rows=120)
    design = np.column_stack([np.ones(120), X])
    start = solver.solve(design, y, 3).coefficients
    found = bootstrap(design, y, start, resamples=3, seed=5)
    generator = np.random.default_rng(5)
    for drawn in found.draws:
        rows = generator.integers(120, size=120)
        refit = solver.solve(design[rows], y[rows], 3, tolerance=1e-8)
        np.testing.assert_allclose(drawn, refit.coefficients.ravel(), atol=3e-4)
    assert found.failed == 0


def test_errors_are_near_those_of_the_information() -> None:
    observed, resampled = fitted(), fitted(errors="bootstrap:200", seed=1)
    ratio = resampled.standard_errors / observed.standard_errors
    assert np.all((ratio > 0.8) & (ratio < 1.25))
    assert resampled.bootstrap is not None
    np.testing.assert_allclose(resampled.base_covariance, np.cov(resampled.bootstrap.draws.T), rtol=1e-12)
    low, high = resampled.bootstrap.conf_int(0.9).T
    assert np.mean((resampled.bootstrap.draws >= low) & (resampled.bootstrap.draws <= high)) == pytest.approx(0.9)


def test_a_seed_gives_the_same_errors_and_another_others() -> None:
    one, same, other = (fitted(errors="bootstrap:5", seed=seed).covariance for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_resamples_without_a_maximum_are_counted() -> None:
    X, y = np.random.default_rng(0).normal(size=(40, 1)), np.zeros(40, int)
    y[:20] = 1
    y[[0, 20]] = 2  # two rows: absent from one resample in seven
    result = fit_arrays(X, y, errors="bootstrap:100")
    assert result.bootstrap is not None
    assert 5 <= result.bootstrap.failed <= 40
    assert len(result.bootstrap.draws) == 100 - result.bootstrap.failed
    assert f"{result.bootstrap.failed} of which have no maximum" in result.summary()
    assert np.abs(result.bootstrap.draws).max() < 100


def test_separated_resamples_fail_rather_than_run_away() -> None:
    X = np.concatenate([np.linspace(-3, -1, 12), np.linspace(1, 3, 12), [1.5, -1.5]])[:, None]
    y = np.array([0] * 12 + [1] * 12 + [0, 1])  # two rows on the wrong side, which many resamples lack
    result = fit_arrays(X, y, errors="bootstrap:100")
    assert result.bootstrap is not None
    assert result.bootstrap.failed > 5
    assert np.abs(result.bootstrap.draws).max() < 50


@pytest.mark.parametrize("weights_are", ["counts", "sampling"])
def test_weights_of_one_are_no_weights_in_the_mean(weights_are: str) -> None:
    X, y = draws()
    plain = fit_arrays(X, y, errors="bootstrap:60").standard_errors
    weighted = fit_arrays(
        X, y, errors="bootstrap:60", sample_weight=np.full(400, 1.0), weights_are=weights_are
    ).standard_errors
    np.testing.assert_allclose(weighted, plain, rtol=0.35)


def test_counts_are_drawn_from_as_many_rows() -> None:
    X, y = draws()
    tripled = fit_arrays(X, y, errors="bootstrap:60", sample_weight=np.full(400, 3.0)).standard_errors
    plain = fit_arrays(X, y).standard_errors
    assert np.mean(tripled / plain) == pytest.approx(3**-0.5, rel=0.12)


def test_groups_are_drawn_whole() -> None:
    X, y = draws(rows=60)
    alone = fit_arrays(X, y, errors="bootstrap:10").standard_errors
    X, y, groups = np.tile(X, (10, 1)), np.tile(y, 10), np.tile(np.arange(60), 10)  # each row ten times
    grouped = fit_arrays(X, y, errors="bootstrap:10", groups=groups).standard_errors
    np.testing.assert_allclose(grouped, alone, rtol=1e-3)


def test_bad_numbers_of_resamples() -> None:
    X, y = draws()
    with pytest.raises(ValueError, match=r"'resamples' must be a whole number from 2\. Got 1"):
        bootstrap(X, y, np.zeros((2, 3)), resamples=1)
    with pytest.raises(ValueError, match="Unknown 'weights_are' 'frequency'"):
        bootstrap(X, y, np.zeros((2, 3)), resamples=5, weights_are="frequency")

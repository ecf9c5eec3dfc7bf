"""The statistics against scipy, numbers by hand, and simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from softplace.errors import InputError
from softplace.study import statistics
from softplace.study.statistics import contrast, contrasts, holm, mean_interval, sign_flip_p


def draw(n: int, seed: int = 0) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.random.default_rng(seed).normal(0.3, 1.0, n)


@pytest.mark.parametrize("n", [5, 10, 40])
def test_the_plain_interval_is_that_of_scipy(n: int) -> None:
    values = draw(n) ** 3
    ours = statistics._bca(values[None], 0.95, 9999, 7, expanded=False)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(7), vectorized=True
    ).confidence_interval
    assert [ours[0][0], ours[1][0]] == pytest.approx([theirs.low, theirs.high], rel=1e-3)


@pytest.mark.parametrize("n", [3, 6, 11])
def test_the_sign_flip_test_is_that_of_scipy(n: int) -> None:
    values = draw(n)
    theirs = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(values) == pytest.approx(theirs.pvalue, rel=1e-12)


def test_above_16_pairs_random_signs_come_close_to_all_of_them() -> None:
    values = draw(18, 3) * 1.5
    sums = np.abs([np.dot(signs, values) for signs in itertools.product((-1.0, 1.0), repeat=18)])
    exact = float((sums >= abs(values.sum()) - 1e-9).mean())
    assert sign_flip_p(values, resamples=99_999) == pytest.approx(exact, abs=4 * math.sqrt(exact / 99_999))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.02, 0.03, 0.5]).tolist() == pytest.approx([0.04, 0.06, 0.06, 0.5])
    assert holm([0.6, 0.6]).tolist() == [1.0, 1.0]


def test_other_numbers_by_hand_or_by_scipy() -> None:
    values = draw(13)
    assert statistics.interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))
    assert statistics.expected_best_of([1.0, 2.0, 3.0], 2).tolist() == pytest.approx([2.0, (1 + 2 * 3 + 3 * 5) / 9])
    exact = math.exp(math.lgamma(6) - math.lgamma(5.5)) / math.sqrt(6)
    assert statistics.effect_size(values) == pytest.approx(values.mean() / values.std(ddof=1) * exact)
    assert [statistics.minimum_pairs(m) for m in (1, 2, 13)] == [6, 7, 10]


def test_the_minimum_detectable_difference_is_found_as_often_as_it_says() -> None:
    difference = statistics.minimum_detectable_difference(2.0, 12, power=0.8)
    noncentrality = difference / 2.0 * math.sqrt(12)
    assert stats.nct.sf(stats.t.ppf(0.975, 11), 11, noncentrality) == pytest.approx(0.8, abs=1e-6)


def test_every_outcome_and_its_sentence() -> None:
    base = np.linspace(0.90, 0.92, 10)
    wobble = np.tile([0.001, -0.001], 5)
    scores = {
        "base": base,
        "worse": base - 0.05 + wobble,
        "better": base + 0.05 + wobble,
        "same": base + 0.1 * wobble,
        "unclear": base + 20 * wobble + 0.004,
    }
    family = contrasts(scores, [(name, "base") for name in scores if name != "base"], measure="accuracy", region=0.01)
    outcomes = {each.arm: each.outcome for each in family}
    expected = {"worse": "worse", "better": "better", "same": "practically the same", "unclear": "cannot tell"}
    assert outcomes == expected
    for each in family:
        assert each.sentence(scale=100).startswith(f"{each.arm} scores ")
        assert each.outcome in each.sentence()
        assert (each.more_seeds is not None) == (each.outcome == "cannot tell")
    few = contrast(base[:5] - 1, base[:5], arm="a", reference="b", measure="m", region=0.0)
    assert few.outcome == "cannot tell"


def test_swapping_arm_and_reference_turns_everything_round() -> None:
    a, b = draw(12, 1), draw(12, 2) - 1
    first = contrast(a, b, arm="a", reference="b", measure="m", region=0.1)
    second = contrast(b, a, arm="b", reference="a", measure="m", region=0.1, higher_is_better=False)
    assert first.estimate == pytest.approx(-second.estimate)
    assert first.p == second.p
    assert first.outcome == second.outcome == "better"


@pytest.mark.parametrize(("n", "m"), [(10, 5), (20, 3)])
def test_on_null_data_at_most_five_per_cent_of_families_find_something(n: int, m: int) -> None:
    generator = np.random.default_rng(0)
    trials, wrong = 400, 0
    for _ in range(trials):
        scores = {f"arm{k}": generator.normal(size=n) for k in range(m + 1)}
        pairs = [("arm0", f"arm{k}") for k in range(1, m + 1)]
        family = contrasts(scores, pairs, measure="x", region=0.0, resamples=499)
        wrong += any(each.outcome in ("better", "worse") for each in family)
    # 400 families of a true rate of 5 % stay below 32 in 99.7 % of cases.
    assert wrong <= 31


@pytest.mark.parametrize("n", [10, 20])
def test_the_interval_covers_at_its_nominal_rate(n: int) -> None:
    generator = np.random.default_rng(1)
    trials = 2000
    intervals = [mean_interval(generator.normal(size=n), resamples=999) for _ in range(trials)]
    covered = sum(low <= 0 <= high for low, high in intervals) / trials
    # A binomial standard deviation is 0.5 points. Plain BCa covers 90 % at n = 10, and fails.
    assert 0.925 <= covered <= 0.97


@pytest.mark.parametrize(
    ("values", "said"),
    [([1.0, math.nan], "nan"), ([1.0, math.inf], "inf"), ([1.0], "at least 2"), ([[1.0, 2.0]], "shape"), (["a"], "U1")],
)
def test_what_is_no_list_of_numbers_is_refused(values: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        mean_interval(values)  # type: ignore[arg-type]


def test_unusable_families_are_refused() -> None:
    scores = {"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0]}
    with pytest.raises(InputError, match="expected 2"):
        contrasts(scores, [("a", "b")], measure="x", region=0.0)
    with pytest.raises(InputError, match="Did you mean 'a'"):
        contrasts(scores, [("a", "aa")], measure="x", region=0.0)
    with pytest.raises(InputError, match="region"):
        contrasts(scores, [("a", "b")], measure="x", region=-1.0)

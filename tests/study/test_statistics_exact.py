"""The statistics once more: exact enumeration, scipy on numbers without rounding, edges of every rule, simulation."""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from softplace.errors import InputError
from softplace.study import statistics
from softplace.study.statistics import (
    Contrast,
    Interval,
    as_family,
    contrast,
    contrasts,
    holm,
    mean_interval,
    minimum_pairs,
    seeds_needed,
    sign_flip_p,
)


def eighths(n: int, seed: int, spread: int = 20) -> NDArray[np.float64]:
    """Multiples of 1/8, so that sums are exact in any order: scipy compares resampled means without a tolerance."""
    return np.random.default_rng(seed).integers(-spread, spread + 9, n) / 8


def exact_sign_flip(values: Sequence[float]) -> Fraction:
    """The definition, in rational numbers: no rounding, no tolerance."""
    parts = [Fraction(value).limit_denominator(10**6) for value in values]
    observed = abs(sum(parts))
    patterns = list(itertools.product((-1, 1), repeat=len(parts)))
    extreme = sum(abs(sum(s * d for s, d in zip(signs, parts, strict=True))) >= observed for signs in patterns)
    return Fraction(extreme, len(patterns))


def textbook_bca(values: NDArray[np.float64], quantile: float, resamples: int, seed: int) -> tuple[float, float]:
    """BCa by its formulas, a jackknife for the acceleration; `quantile` is the (upper) normal or expanded quantile."""
    n = values.size
    means = values[np.random.default_rng(seed).integers(0, n, (resamples, n))].mean(1)
    tolerance = 1e-12 * np.abs(values).max()
    below = ((means < values.mean() - tolerance).sum() + (means <= values.mean() + tolerance).sum()) / (2 * resamples)
    left_out = np.array([np.delete(values, index).mean() for index in range(n)])
    influence = left_out.mean() - left_out
    acceleration = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    shift = stats.norm.ppf(below)
    levels = [shift + (shift + z) / (1 - acceleration * (shift + z)) for z in (-quantile, quantile)]
    low, high = np.quantile(means, stats.norm.cdf(levels))
    return float(low), float(high)


def made(**changes: object) -> Contrast:
    """A contrast of one, with some fields set by hand."""
    base = contrast([1.0, 2.0] * 5, [0.0, 1.5] * 5, arm="a", reference="b", measure="m", region=0.0)
    return replace(base, **changes)  # type: ignore[arg-type]


# --- sign flips


@pytest.mark.parametrize("n", range(1, 11))
def test_sign_flips_equal_the_enumeration_in_rational_numbers(n: int) -> None:
    source = np.random.default_rng(n)
    for values in (source.normal(0.4, 1.0, n), source.integers(-3, 6, n) / 10, source.integers(0, 2, n) * 0.1):
        assert sign_flip_p(values) == float(exact_sign_flip(values.round(6).tolist()))


def test_sign_flips_count_sums_that_only_rounding_tells_apart() -> None:
    assert sign_flip_p([0.1, 0.2, -0.3]) == 1.0  # 0.1 + 0.2 - 0.3 is 5.6e-17
    assert sign_flip_p([0.1, 0.2, 0.3, -0.6, 0.7]) == float(exact_sign_flip([0.1, 0.2, 0.3, -0.6, 0.7]))
    assert sign_flip_p([0.0] * 9) == 1.0


@pytest.mark.parametrize("size", [100, 10_000])
@pytest.mark.parametrize("seed", range(8))
def test_differences_of_scores_are_compared_up_to_the_rounding_of_the_scores(size: int, seed: int) -> None:
    source = np.random.default_rng(seed)
    base, steps = source.integers(8 * size, 10 * size, 8) / 10, source.integers(-2, 5, 8) / 10
    judged = contrast(base + steps, base, arm="a", reference="b", measure="m", region=0.0)
    assert judged.p == float(exact_sign_flip(steps.tolist()))


@pytest.mark.parametrize("n", [2, 6, 10, 16])
def test_the_smallest_sign_flip_p_is_two_over_all_patterns(n: int) -> None:
    assert sign_flip_p(np.arange(1.0, n + 1)) == 2 / 2**n
    assert sign_flip_p(-np.arange(1.0, n + 1)) == 2 / 2**n


def test_up_to_16_pairs_no_seed_matters_and_above_p_is_never_zero() -> None:
    values = np.random.default_rng(5).normal(0.3, 1.0, 17)
    assert sign_flip_p(values[:16], seed=1) == sign_flip_p(values[:16], seed=2, resamples=100)
    assert sign_flip_p(values, seed=1) != sign_flip_p(values, seed=2)
    assert sign_flip_p(np.full(40, 0.5), resamples=999) == 1 / 1000
    assert sign_flip_p(np.zeros(40), resamples=999) == 1.0
    assert sign_flip_p(values, resamples=999) * 1000 == pytest.approx(round(sign_flip_p(values, resamples=999) * 1000))


@pytest.mark.parametrize("n", [8, 20])
def test_sign_flips_have_no_unit_no_direction_and_no_order(n: int) -> None:
    values = np.random.default_rng(n).normal(0.3, 1.0, n)
    for other in (-values, values * 1e-90, values * 1e90):
        assert sign_flip_p(other) == sign_flip_p(values)
    assert sign_flip_p(values[::-1][:8]) == sign_flip_p(np.sort(values[::-1][:8]))


@pytest.mark.parametrize(("n", "levels"), [(6, 1), (10, 25)])
def test_on_null_data_an_exact_p_is_uniform_on_its_steps(n: int, levels: int) -> None:
    """Without ties P(p <= 2 k / 2^n) = 2 k / 2^n exactly, at most 5 %."""
    rows = np.random.default_rng(n).standard_t(3, (6000, n))
    p = statistics._sign_flip(rows, np.zeros(len(rows)), 9999, 0)
    share, nominal = float((p <= 0.05).mean()), 2 * levels / 2**n
    assert nominal <= 0.05
    assert share == pytest.approx(nominal, abs=4 * math.sqrt(nominal / len(rows)))


# --- Holm


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    source = np.random.default_rng(0)
    for m in (1, 2, 5, 13):
        for _ in range(50):
            p = source.beta(0.3, 3.0, m).round(3)
            rejected = set()
            for step, index in enumerate(np.argsort(p, kind="stable")):
                if p[index] > 0.05 / (m - step):
                    break
                rejected.add(int(index))
            assert set(np.flatnonzero(holm(p) <= 0.05 * (1 + 1e-12)).tolist()) == rejected


def test_holm_keeps_the_order_never_lowers_and_stops_at_one() -> None:
    p = np.array([0.04, 0.001, 0.6, 0.001, 0.3])
    adjusted = holm(p)
    assert adjusted.tolist() == pytest.approx([0.12, 0.005, 0.6, 0.005, 0.6])
    assert (adjusted >= p).all()
    assert holm([0.9, 0.6, 0.7]).tolist() == [1.0, 1.0, 1.0]
    assert holm([]).tolist() == []
    assert holm([0.2]).tolist() == [0.2]
    with pytest.raises(InputError, match="from 0 to 1"):
        holm([0.5, 1.5])


# --- intervals


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 10, 16])
@pytest.mark.parametrize("seed", range(3))
def test_the_plain_interval_is_that_of_scipy_also_for_few_and_tied_numbers(n: int, seed: int) -> None:
    """scipy takes means that differ by rounding for different, so the numbers here have none."""
    for values in (eighths(n, seed), eighths(n, seed, 1) ** 3):
        if np.ptp(values) == 0:
            continue
        low, high = statistics._bca(values[None], 0.9, 2999, 5, expanded=False)
        theirs = stats.bootstrap(
            (values,), np.mean, n_resamples=2999, confidence_level=0.9, method="BCa", rng=np.random.default_rng(5)
        ).confidence_interval
        assert [low[0], high[0]] == pytest.approx([theirs.low, theirs.high], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("n", [2, 3, 6, 10, 25])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_is_bca_with_the_expanded_quantile(n: int, confidence: float) -> None:
    values = np.random.default_rng(n).gamma(0.7, 1.0, n) - 0.3
    expanded = math.sqrt(n / (n - 1)) * stats.t.ppf((1 + confidence) / 2, n - 1)
    measured = mean_interval(values, confidence=confidence, resamples=1999, seed=3)
    assert list(measured) == pytest.approx(list(textbook_bca(values, expanded, 1999, 3)), rel=1e-9, abs=1e-12)
    assert values.min() - 1e-12 <= measured.low <= values.mean() <= measured.high <= values.max() + 1e-12


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_beyond_the_pole_of_the_correction_the_end_is_that_of_the_resampled_means(sign: float) -> None:
    """For 3 numbers at 99.9 % the expanded quantile is 38.7: with a = 0.068 the formula's denominator is negative."""
    ends = mean_interval(sign * np.array([0.0, 0.0, 1.0]), confidence=0.999)
    assert sorted(abs(end) for end in ends) == pytest.approx([0.0, 1.0], abs=1e-12)


def test_the_interval_moves_with_unit_zero_and_sign() -> None:
    values = np.random.default_rng(8).gamma(0.7, 1.0, 9)
    low, high = mean_interval(values, resamples=999)
    assert list(mean_interval(3.0 * values + 5.0, resamples=999)) == pytest.approx([3 * low + 5, 3 * high + 5])
    assert list(mean_interval(-values, resamples=999)) == pytest.approx([-high, -low])
    for scale in (1e-90, 1e90):
        assert list(mean_interval(scale * values, resamples=999)) == pytest.approx([scale * low, scale * high])
    wider = mean_interval(values, resamples=999, confidence=0.99)
    assert wider.low < low
    assert high < wider.high
    assert (values.mean() - low) < (high - values.mean())  # BCa leans to the long tail


@pytest.mark.parametrize("n", [2, 5, 6, 20])
@pytest.mark.parametrize("value", [0.0, 0.03, -7.5])
def test_equal_differences_have_an_interval_without_width(n: int, value: float) -> None:
    assert mean_interval([value] * n, resamples=100) == (value, value)
    base = np.linspace(0.9, 0.95, n)
    judged = contrast(base + value, base, arm="a", reference="b", measure="m", region=0.01)
    assert judged.standard_deviation == 0.0  # 0.93 - 0.9 and 0.98 - 0.95 differ by rounding alone
    assert judged.interval.low == judged.interval.high == pytest.approx(value, abs=1e-15)
    sides = {0.0: "practically the same", 0.03: "better", -7.5: "worse"}
    assert judged.outcome == (sides[value] if n >= 6 else "cannot tell")


@pytest.mark.parametrize(("n", "least", "most"), [(6, 0.918, 0.942), (10, 0.930, 0.952), (32, 0.940, 0.960)])
def test_the_interval_covers_as_often_as_the_module_says(n: int, least: float, most: float) -> None:
    """93.0, 94.1 and 95.0 %; plain BCa covers 85, 90 and 93.6 %."""
    rows = np.random.default_rng(n).normal(size=(6000, n))
    low, high = statistics._bca(rows, 0.95, 999, 0, expanded=True)
    assert least <= float(((low <= 0) & (high >= 0)).mean()) <= most
    low, high = statistics._bca(rows, 0.95, 999, 0, expanded=False)
    assert float(((low <= 0) & (high >= 0)).mean()) < least


# --- other numbers


@pytest.mark.parametrize("n", range(1, 14))
def test_the_interquartile_mean_is_the_trimmed_mean_of_scipy_for_every_size(n: int) -> None:
    values = np.random.default_rng(n).standard_cauchy(n)
    assert statistics.interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25), rel=1e-12)


def test_probability_of_improvement_counts_ties_half_and_knows_which_way_is_better() -> None:
    a, b = [2.0, 2.0, 5.0, 1.0, 9.0], [1.0, 2.0, 5.0, 3.0, 8.0]  # two ahead, two ties, one behind
    assert statistics.probability_of_improvement(a, b) == pytest.approx(0.6)
    assert statistics.probability_of_improvement(a, b, higher_is_better=False) == pytest.approx(0.4)
    assert statistics.probability_of_improvement(b, a) == pytest.approx(0.4)
    assert statistics.probability_of_improvement([1.0, 2.0], [0.0, 3.0]) == 0.5  # pairs, not all four
    assert statistics.probability_of_improvement([3.0, 2.0], [0.0, 2.5]) == 0.5


def test_effect_sizes_by_hand() -> None:
    assert statistics.effect_size([0.0, 1.0, 2.0]) == pytest.approx(1 / math.sqrt(math.pi))  # J(2) = 1 / sqrt(pi)
    assert statistics.effect_size([0.0, -1.0, -2.0]) == pytest.approx(-1 / math.sqrt(math.pi))
    assert statistics.effect_size([0.0, 0.0]) == 0.0
    assert statistics.effect_size([0.3, 0.3, 0.3]) == math.inf
    assert statistics.effect_size([-0.3, -0.3, -0.3]) == -math.inf
    assert math.isnan(statistics.effect_size([0.0, 1.0]))


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.2])
@pytest.mark.parametrize("m", [1, 2, 6, 7, 13, 14])
def test_fewer_than_the_minimum_of_pairs_cannot_be_significant(m: int, alpha: float) -> None:
    n = minimum_pairs(m, alpha)
    smallest = [float(holm([sign_flip_p([1.0] * size)] + [1.0] * (m - 1))[0]) for size in (n - 1, n)]
    assert smallest[1] <= alpha < smallest[0]


def test_the_expected_best_is_the_mean_over_all_draws() -> None:
    values = [0.7, 0.1, 0.4, 0.4]
    for k, (high, low) in enumerate(
        zip(
            statistics.expected_best_of(values),
            statistics.expected_best_of(values, higher_is_better=False),
            strict=True,
        ),
        start=1,
    ):
        draws = list(itertools.product(values, repeat=k))
        assert high == pytest.approx(sum(map(max, draws)) / len(draws))
        assert low == pytest.approx(sum(map(min, draws)) / len(draws))


# --- how many seeds


def test_seeds_needed_by_hand() -> None:
    values = [0.4, -0.2, 0.1, 0.5, -0.1, 0.3]  # mean 1/6, sd 0.280476
    ratio = 0.28047578623950176 * 6
    z, power, within = 1.959963984540054, 0.8416212335729143, 1.2815515655446004
    total = ((z + power) * ratio) ** 2 + z * z / 2  # 24.15
    assert seeds_needed(values, region=0.0) == math.ceil(total) - 6 == 19
    # z of 1 - 0.05 / 26; Holm over 13 needs more.
    corrected = ((2.8911 + power) * ratio) ** 2 + 2.8911**2 / 2
    assert seeds_needed(values, region=0.0, contrasts=13) == math.ceil(corrected) - 6 == 38
    # A wide region is reached first: 0.5 - 1/6 is left on the nearer side.
    fit = ((z + within) * 0.28047578623950176 / (0.5 - 1 / 6)) ** 2 + z * z / 2
    assert seeds_needed(values, region=0.5) == math.ceil(fit) - 6 == 4


def test_seeds_needed_at_its_edges() -> None:
    assert seeds_needed([0.1, -0.1], region=0.0) is None  # no difference, and nothing is close enough
    assert seeds_needed([0.1, -0.1], region=0.1) is not None
    assert seeds_needed([0.0] * 8, region=0.0) is None
    assert seeds_needed([1.0, 1.0], region=0.0) == 4  # no spread: up to the 6 pairs that a test needs
    assert seeds_needed([1.0, 1.0], region=0.0, contrasts=13) == 8
    assert seeds_needed([1.0, 1.01] * 20, region=0.0) == 1  # decided by now; "more" is at least 1


@pytest.mark.parametrize("effect", [0.3, 0.5, 0.8, 1.0])
def test_seeds_needed_is_the_size_at_which_a_t_test_has_its_power(effect: float) -> None:
    values = effect + np.array([-1.0, 1.0]) / math.sqrt(2)  # mean `effect`, sd 1

    def power(n: int) -> float:
        critical = stats.t.ppf(0.975, n - 1)
        return float(stats.nct.sf(critical, n - 1, effect * math.sqrt(n)))

    exact = next(n for n in range(2, 500) if power(n) >= 0.8)
    needed = seeds_needed(values, region=0.0)
    assert needed is not None
    assert abs(needed + 2 - exact) <= 1


def test_a_region_is_left_room_for_as_often_as_seeds_needed_says() -> None:
    """With no true difference and the pairs that it asks for, the interval fits into the region in about 80 %."""
    needed = seeds_needed(np.array([-1.0, 1.0]) / math.sqrt(2), region=0.5)
    assert needed is not None
    rows = np.random.default_rng(0).normal(size=(3000, needed + 2))
    low, high = statistics._bca(rows, 0.95, 999, 0, expanded=True)
    assert float(((low > -0.5) & (high < 0.5)).mean()) == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize("n", [2, 5, 6, 10, 40])
def test_the_minimum_detectable_difference_has_its_power_and_is_out_of_reach_below_six(n: int) -> None:
    difference = statistics.minimum_detectable_difference(0.5, n, power=0.9)
    if n < 6:
        assert difference == math.inf
    else:
        found = stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, difference / 0.5 * math.sqrt(n))
        assert found == pytest.approx(0.9, abs=1e-6)
    with pytest.raises(InputError, match="power"):
        statistics.minimum_detectable_difference(0.5, 10, power=0.01)


# --- the rule


@pytest.mark.parametrize(
    ("low", "high", "p", "n", "higher", "lower"),
    [
        (0.02, 0.04, 0.05, 6, "better", "worse"),  # p at most alpha
        (-0.04, -0.02, 0.05, 6, "worse", "better"),
        (0.02, 0.04, 0.0500001, 6, "cannot tell", "cannot tell"),
        (0.02, 0.04, 0.001, 5, "cannot tell", "cannot tell"),  # too few pairs, whatever the numbers
        (-0.001, 0.001, 1.0, 5, "cannot tell", "cannot tell"),
        (0.0, 0.04, 0.001, 6, "cannot tell", "cannot tell"),  # the interval must exclude 0: both must agree
        (-0.04, 0.0, 0.001, 6, "cannot tell", "cannot tell"),
        (-0.005, 0.04, 0.001, 6, "cannot tell", "cannot tell"),
        (0.002, 0.009, 0.001, 6, "practically the same", "practically the same"),  # real, and too small to matter
        (-0.009, 0.009, 1.0, 6, "practically the same", "practically the same"),
        (0.002, 0.01, 0.001, 6, "better", "worse"),  # wholly inside, ends not included
        (-0.01, -0.002, 0.001, 6, "worse", "better"),
        (-0.01, 0.002, 1.0, 6, "cannot tell", "cannot tell"),
        (0.005, 0.02, 0.001, 6, "better", "worse"),  # it need not lie wholly outside
    ],
)
def test_the_rule_at_its_borders(low: float, high: float, p: float, n: int, higher: str, lower: str) -> None:
    assert statistics._outcome(Interval(low, high), p, n, 0.01, True, 0.05) == higher
    assert statistics._outcome(Interval(low, high), p, n, 0.01, False, 0.05) == lower


def test_without_a_region_nothing_is_practically_the_same() -> None:
    assert statistics._outcome(Interval(0.0, 0.0), 1.0, 20, 0.0, True, 0.05) == "cannot tell"


def test_a_family_is_judged_by_p_after_holm_over_all_of_it() -> None:
    source = np.random.default_rng(2)
    scores = {name: source.normal(shift, 1.0, 12) for name, shift in (("a", 0.0), ("b", 1.0), ("c", -1.5), ("d", 0.2))}
    pairs = [("a", "b"), ("a", "c"), ("a", "d")]
    family = contrasts(scores, pairs, measure="m", region=0.05)
    assert [(each.arm, each.reference) for each in family] == pairs
    assert [each.p_adjusted for each in family] == holm([each.p for each in family]).tolist()
    assert {each.family for each in family} == {3}
    for each in family:
        differences = scores["a"] - scores[each.reference]
        assert each.p == sign_flip_p(differences)
        assert each.interval == pytest.approx(mean_interval(differences))
        assert each.estimate == pytest.approx(differences.mean())
        assert each.standard_deviation == pytest.approx(differences.std(ddof=1))
        assert each.interquartile_mean == pytest.approx(stats.trim_mean(differences, 0.25))
        assert each.probability_of_improvement == pytest.approx((differences > 0).mean())
        expected = seeds_needed(differences, region=0.05, contrasts=3) if each.outcome == "cannot tell" else None
        assert each.more_seeds == expected


def test_a_larger_family_can_take_a_decision_back() -> None:
    alone = made(p=0.03, interval=Interval(0.1, 0.9), region=0.0)
    assert as_family([alone])[0].outcome == "better"
    two = as_family([alone, made(p=0.5, interval=Interval(-1.0, 1.0))])
    assert [each.outcome for each in two] == ["cannot tell", "cannot tell"]
    assert two[0].p_adjusted == pytest.approx(0.06)
    assert two[0].more_seeds is not None
    assert as_family([]) == ()
    with pytest.raises(InputError, match="alpha"):
        as_family([alone, made(alpha=0.01)])


def test_a_smaller_alpha_widens_the_interval_and_asks_for_more() -> None:
    values, zeros = np.random.default_rng(1).normal(0.75, 1.0, 12), np.zeros(12)
    usual = contrast(values, zeros, arm="a", reference="b", measure="m", region=0.0)
    strict = contrast(values, zeros, arm="a", reference="b", measure="m", region=0.0, alpha=0.001)
    assert strict.interval.low < usual.interval.low
    assert strict.p == usual.p
    assert strict.outcome == "cannot tell"


def test_too_few_resamples_for_the_family_are_refused() -> None:
    scores = {f"arm{k}": np.random.default_rng(k).normal(size=17) for k in range(14)}
    pairs = [("arm0", f"arm{k}") for k in range(1, 14)]
    with pytest.raises(InputError, match="at least 260"):
        contrasts(scores, pairs, measure="m", region=0.0, resamples=259)
    assert len(contrasts(scores, pairs, measure="m", region=0.0, resamples=260)) == 13
    with pytest.raises(InputError, match="twice"):
        contrasts(scores, [pairs[0], pairs[0]], measure="m", region=0.0)
    with pytest.raises(InputError, match="two different arms"):
        contrasts(scores, [("arm0", "arm0")], measure="m", region=0.0)
    assert contrasts(scores, [], measure="m", region=0.0) == ()


# --- sentences


def test_sentences_say_direction_size_interval_p_and_n() -> None:
    lower = made(estimate=-0.0149, interval=Interval(-0.02, -0.0104), p=0.002, p_adjusted=0.0254, family=13, n=10)
    text = replace(lower, outcome="worse", more_seeds=None).sentence(unit="points", scale=100.0, decimals=2)
    assert text == (
        "a scores 1.49 points lower than b (95 % interval 1.04 to 2.00, p = 0.025 after Holm, n = 10 pairs): worse."
    )
    across = made(estimate=0.004, interval=Interval(-0.002, 0.01), p_adjusted=0.25, outcome="cannot tell", more_seeds=1)
    assert across.sentence(unit="", decimals=3) == (
        "a scores 0.004 higher than b (95 % interval 0.002 lower to 0.010 higher, p = 0.250, n = 10 pairs): "
        "cannot tell: about 1 more judged seed needed."
    )
    same = replace(across, outcome="practically the same", region=0.01, more_seeds=None)
    assert same.sentence(scale=100.0, verb="has").endswith(": practically the same (within 1 points).")
    never = replace(across, more_seeds=None).sentence()
    assert never.endswith("cannot tell, and more seeds would not help.")
    assert replace(across, more_seeds=1200).sentence().endswith("about 1,200 more judged seeds needed.")


@pytest.mark.parametrize(
    ("p", "shown"),
    [(0.05, "p = 0.050"), (0.0504, "p = 0.0504"), (0.0496, "p = 0.050"), (0.00049, "p < 0.001"), (0.0005, "p = 0.001")],
)
def test_a_printed_p_stands_on_its_side_of_alpha(p: float, shown: str) -> None:
    text = made(p_adjusted=p).sentence()
    assert f", {shown}, n" in text
    printed = re.search(r"p [=<] ([0-9.]+)", text)
    assert printed is not None
    assert (float(printed[1]) <= 0.05) == (p <= 0.05)

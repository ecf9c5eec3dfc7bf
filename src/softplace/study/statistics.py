"""Is one arm better than another, by how much, how sure: paired statistics, and the words that a verdict uses.

An arm and a reference trained with the same seed (same initial draw, data order, split) are a *pair* and give one
difference of scores. A `Contrast` is what n pairs say; `contrasts` judges a family of them by a rule fixed before any
score is seen (`alpha` = 0.05 and the region of practical equivalence come with the contest):

1. fewer pairs than can ever reach `alpha` in this family (6 at 0.05 for one contrast, 10 for 13): *cannot tell*,
   whatever the numbers, so that no side can be concluded alone;
2. the interval of the mean difference lies wholly inside (-region, region): *practically the same*, also where the
   difference is significant (real, and too small to matter);
3. the sign-flip p-value after Holm is at most `alpha` **and** the interval excludes zero: *better* or *worse*;
4. else *cannot tell*, with about how many more seeds would decide.

Rule 1 is there since a bootstrap cannot leave the range of its data: with 2 pairs it would cover half of the time.
Holm guards *better* and *worse*; the intervals, and so *practically the same*, are not widened for the family.
Measured at n = 6, 10, 16, 32 (40,000 simulations: how often the 95 % interval covers, how often a true difference
of 0 is called better or worse): normal differences 93.0, 94.1, 94.6, 95.0 % and 3.3, 4.4, 4.4, 4.6 %; Student's t with
3 degrees of freedom 91.8, 91.9, 91.6, 91.8 % and 3.3, 4.5, 4.7, 4.9 %; exponential, whose skewness a sign-flip test
does not allow for, 90.1, 92.3, 93.3, 94.0 % and 6.7, 6.8, 5.6, 4.8 %.

Legend: m contrasts, n pairs. Units are those of the scores. Every function raises `InputError` for NaN, infinities, too
few numbers and options out of range. numpy and scipy only, no torch.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from softplace.errors import InputError, nearest

Outcome: TypeAlias = Literal["better", "worse", "practically the same", "cannot tell"]
Floats: TypeAlias = NDArray[np.float64]

EXACT_PAIRS = 16  # up to so many pairs the sign-flip test goes through all 2^n sign patterns
_BLOCK = 1 << 20  # numbers drawn at once, to bound memory; what is drawn does not depend on it
_EQUAL = 1e-12  # a spread below this share of the largest number is rounding
_LARGEST = 1e100  # squares and sums of what is below cannot overflow


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float


def mean_interval(
    differences: ArrayLike, *, confidence: float = 0.95, resamples: int = 9999, seed: int = 0
) -> Interval:
    """Bootstrap interval (BCa, expanded for small n) of the mean of n >= 2 paired differences, in their unit.

    The ends are the quantiles `Phi(z0 + (z0 + z) / (1 - a (z0 + z)))` of the resampled means, at z = -t' and t', with
    `z0 = Phi^-1(share of resampled means below the mean, ties half)`, `a = sum e^3 / (6 (sum e^2)^1.5)`, e = d - mean,
    `t' = sqrt(n / (n - 1)) * t(n - 1, (1 + confidence) / 2)`. Zero width where all differences are equal.

    Source: Efron 1987 (JASA 82, 171-185) for BCa; Hesterberg 2015 (arXiv:1411.5279), expanded percentile interval, for
    t'. Plain BCa (scipy) has a normal quantile there and is too narrow (10 normal differences: 89.9 % for 95 %).
    """
    _check("confidence", confidence, 0 < confidence < 1, "a number between 0 and 1")
    low, high = _bca(_numbers("differences", differences, 2)[None], confidence, resamples, seed, expanded=True)
    return Interval(float(low[0]), float(high[0]))


def sign_flip_p(differences: ArrayLike, *, resamples: int = 9999, seed: int = 0) -> float:
    """Two-sided sign-flip permutation p-value of the mean: how often random signs give a mean at least as far from 0.

    Exact up to 16 pairs: `#{s in {-1, 1}^n : |sum s d| >= |sum d|} / 2^n`. Above: `(b + 1) / (resamples + 1)`, b of
    `resamples` random sign patterns being at least as extreme. Sums equal up to rounding (1e-12 of `sum |d|`) count.
    It tests that a difference is as likely as its negative; differences of 0 stay in. Never below 2 / 2^n.

    Source: Fisher 1935, The Design of Experiments, section 21; the "+ 1": Phipson and Smyth 2010 (arXiv:1603.05766).

    >>> sign_flip_p([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    0.03125
    """
    values = _numbers("differences", differences, 1)[None]
    return float(_sign_flip(values, _EQUAL * np.abs(values).sum(-1), resamples, seed)[0])


def holm(p_values: ArrayLike) -> Floats:
    """p-values adjusted for their number m, in the order given: at most alpha where Holm rejects at family-wise alpha.

    `adjusted_(i) = max over j <= i of min(1, (m - j + 1) p_(j))`, `p_(1) <= ... <= p_(m)`; valid under any dependence.

    Source: Holm 1979 (Scandinavian Journal of Statistics 6, 65-70).

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    values = _numbers("p_values", p_values, 0)
    _check("p_values", values.tolist(), bool(((values >= 0) & (values <= 1)).all()), "numbers from 0 to 1")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(values.size, 0, -1)), 1.0)
    return adjusted


def interquartile_mean(values: ArrayLike) -> float:
    """Mean of the middle half: the `floor(n / 4)` smallest and as many largest values are left out.

    Source: rliable (Agarwal et al. 2021, arXiv:2108.13264), where it is scipy's `trim_mean(values, 0.25)`.

    >>> interquartile_mean([0.0, 10.0, 12.0, 100.0])
    11.0
    """
    numbers = np.sort(_numbers("values", values, 1))
    return float(numbers[numbers.size // 4 : numbers.size - numbers.size // 4].mean())


def probability_of_improvement(a: ArrayLike, b: ArrayLike, *, higher_is_better: bool = True) -> float:
    """Share of pairs (a_i, b_i) in which `a` is better; ties count half. 1: always, 0.5: even, 0: never.

    Source: Agarwal et al. 2021, section 4.3, there over all pairs of runs; ours are the n runs that share a seed, as in
    Bouthillier et al. 2021 (arXiv:2103.03098).

    >>> probability_of_improvement([3.0, 2.0, 1.0, 5.0], [1.0, 2.0, 3.0, 4.0])
    0.625
    """
    first, second = _numbers("a", a, 1), _numbers("b", b, 1)
    _check("b", f"{second.size} scores", first.size == second.size, f"{first.size}, one per score of a, paired by seed")
    ahead = float(np.sign(first - second).mean())
    return ((ahead if higher_is_better else -ahead) + 1) / 2


def effect_size(differences: ArrayLike) -> float:
    """Paired standardised mean difference: how many standard deviations of a difference the mean is away from 0.

    `J(n - 1) * mean / sd`, sd with divisor n - 1; `J(k) = Gamma(k / 2) / (sqrt(k / 2) Gamma((k - 1) / 2))` undoes the
    bias of small n. 0 where all differences are 0; +-inf where all are equal, not 0; NaN for 2 unequal ones (J(1) = 0).

    Source: Cohen 1988, section 2.3.5 (d_z); Hedges 1981 (Journal of Educational Statistics 6, 107-128) for J.

    >>> round(effect_size([1.0, 2.0, 3.0, 4.0]), 4)  # 2.5 / 1.2910 * 0.7236
    1.4012
    """
    values = _numbers("differences", differences, 2)
    mean, deviation = _moments(values)
    if deviation == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    if values.size == 2:
        return math.nan
    k = values.size - 1
    return float(mean / deviation * math.exp(math.lgamma(k / 2) - math.lgamma((k - 1) / 2)) / math.sqrt(k / 2))


def minimum_pairs(contrasts: int = 1, alpha: float = 0.05) -> int:
    """Fewest pairs with which the sign-flip test can reach `alpha` after Holm: smallest n with `m * 2 / 2^n <= alpha`.

    >>> minimum_pairs(), minimum_pairs(13)
    (6, 10)
    """
    _check("contrasts", contrasts, contrasts >= 1, "a whole number from 1")
    _check("alpha", alpha, 0 < alpha < 1, "a number between 0 and 1")
    return next(n for n in range(1, 2000) if contrasts * math.ldexp(1.0, 1 - n) <= alpha)


def minimum_detectable_difference(
    standard_deviation: float, n: int, *, power: float = 0.8, alpha: float = 0.05
) -> float:
    """The true mean difference that n >= 2 pairs find significant with probability `power` (above `alpha`).

    `lambda * sd / sqrt(n)`: Student's t with n - 1 degrees of freedom and noncentrality lambda exceeds the two-sided
    critical value with probability `power`. The t-test stands in for the sign-flip test, whose power is close from
    `minimum_pairs` on; with fewer nothing can be detected: inf. For a family of m give alpha / m.

    Source: Cohen 1988, section 2.3.5.

    >>> round(minimum_detectable_difference(1.0, 10), 3)
    0.996
    """
    _check("standard_deviation", standard_deviation, 0 <= standard_deviation < math.inf, "a finite number from 0")
    _check("n", n, n >= 2, "a whole number from 2")
    _check_power(power, alpha)
    if n < minimum_pairs(1, alpha):
        return math.inf
    noncentrality = special.nctdtrinc(n - 1, 1 - power, special.stdtrit(n - 1, 1 - alpha / 2))
    return float(noncentrality * standard_deviation / math.sqrt(n))


def seeds_needed(
    differences: ArrayLike, *, region: float, contrasts: int = 1, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """About how many more pairs an undecided contrast needs, if mean and spread are what they seem now; at least 1.

    The smaller of two sample sizes, at least `minimum_pairs(contrasts, alpha)`, less the n pairs at hand:

    - |mean| is found: `((z + z(power)) sd / |mean|)^2 + z^2 / 2`, `z = Phi^-1(1 - alpha / 2m)`;
    - if |mean| < region, the interval fits: `((z + z((1 + power) / 2)) sd / (region - |mean|))^2 + z^2 / 2`, m = 1.

    None where no number of pairs would do (mean and region both 0). A rough guide: the mean of few pairs is uncertain.

    Source: Guenther 1981 (The American Statistician 35, 243-244) for the normal formula with `z^2 / 2`.

    >>> seeds_needed([0.4, -0.2, 0.1, 0.5, -0.1, 0.3], region=0.01)
    19
    """
    values = _numbers("differences", differences, 2)
    _check("region", region, 0 <= region < math.inf, "a finite number from 0")
    _check_power(power, alpha)
    return _more_seeds(values.size, *_moments(values), region, contrasts, alpha, power)


def expected_best_of(values: ArrayLike, n: int | None = None, *, higher_is_better: bool = True) -> Floats:
    """Expected best score of k tuning trials for k = 1..n: what a budget of k trials buys. An array of length n.

    Draws **with** replacement from the N scores, v ascending (descending where lower is better):
    `E[best of k] = sum_i v_(i) ((i / N)^k - ((i - 1) / N)^k)`. n is at most N (the default): the data say no more.

    Source: Dodge et al. 2019 (arXiv:1909.03004), section 3, with replacement as there, which is a little low for k near
    N (Tang et al. 2020, arXiv:2004.13705). For a grid it is the best of k of its points drawn at random.

    >>> expected_best_of([0.0, 1.0], 2).tolist()
    [0.5, 0.75]
    """
    numbers = np.sort(_numbers("values", values, 1))
    budget = numbers.size if n is None else n
    allowed = range(1, numbers.size + 1)
    _check("n", budget, budget in allowed, f"a whole number from 1 to {numbers.size}, the number of values")
    below = (np.arange(numbers.size + 1) / numbers.size) ** np.arange(1, budget + 1)[:, None]
    return np.asarray(np.diff(below, axis=-1) @ (numbers if higher_is_better else numbers[::-1]))


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """What n pairs say of an arm against a reference. Made by `contrast` and `contrasts`, by the rule at the top.

    `estimate` (mean), `interval` (of confidence 1 - `alpha`), `interquartile_mean` and `standard_deviation` are of the
    differences arm - reference; `region` is the half-width of the region of practical equivalence. `p_adjusted` is
    after Holm over `family` contrasts. `probability_of_improvement` and `outcome` know which way is better.
    `more_seeds` is None once decided, and where no number of seeds would decide.
    """

    arm: str
    reference: str
    measure: str
    n: int
    estimate: float
    interval: Interval
    p: float
    p_adjusted: float
    family: int
    probability_of_improvement: float
    effect_size: float
    interquartile_mean: float
    standard_deviation: float
    region: float
    higher_is_better: bool
    alpha: float
    outcome: Outcome
    more_seeds: int | None

    def sentence(self, *, unit: str = "points", scale: float = 1.0, decimals: int = 1, verb: str = "scores") -> str:
        """The contrast in words. Numbers are multiplied by `scale` > 0 (100: shares to points), rounded to `decimals`.

        >>> scores = {"softmax": [90.0, 91.0, 89.5, 90.5, 91.0, 90.0], "ReLU": [93.0, 94.5, 93.0, 93.5, 94.0, 93.5]}
        >>> contrasts(scores, [("softmax", "ReLU")], measure="accuracy", region=0.5)[0].sentence()
        'softmax scores 3.2 points lower than ReLU (95 % interval 3.0 to 3.5, p = 0.031, n = 6 pairs): worse.'
        """
        _check("scale", scale, 0 < scale < math.inf, "a finite number above 0")
        _check("decimals", decimals, decimals >= 0, "a whole number from 0")
        unit = unit and f" {unit}"
        size, low, high = (f"{abs(scale * value):.{decimals}f}" for value in (self.estimate, *self.interval))
        side, left, right = ("lower" if value < 0 else "higher" for value in (self.estimate, *self.interval))
        what = f"{size}{unit} {side} than" if float(size) else f"within {0.5 * 10**-decimals:g}{unit} of"
        if not float(size) or self.interval.low < 0 < self.interval.high:
            reach = f"{low} {left} to {high} {right}"
        else:
            reach = f"{low} to {high}" if self.estimate > 0 else f"{high} to {low}"
        end = ""
        if self.outcome == "practically the same":
            end = f" (within {scale * self.region:g}{unit})"
        elif self.outcome == "cannot tell" and self.more_seeds is None:
            end = ", and more seeds would not help"
        elif self.more_seeds is not None:
            end = f": about {self.more_seeds:,} more judged seed{'s' * (self.more_seeds > 1)} needed"
        # As many decimals as keep the text on that side of alpha on which p is.
        p, alpha = self.p_adjusted, self.alpha
        digits = next((k for k in range(3, 17) if round(p, k) > 0 and (round(p, k) <= alpha) == (p <= alpha)), 17)
        value = "p < 0.001" if p < 0.0005 and alpha >= 0.001 else f"p = {p:.{digits}f}"
        return (
            f"{self.arm} {verb} {what} {self.reference} ({100 * (1 - alpha):g} % interval {reach}, {value}"
            f"{' after Holm' * (self.family > 1)}, n = {self.n:,} pairs): {self.outcome}{end}."
        )


def contrast(
    arm_scores: ArrayLike,
    reference_scores: ArrayLike,
    *,
    arm: str,
    reference: str,
    measure: str,
    region: float,
    higher_is_better: bool = True,
    alpha: float = 0.05,
    resamples: int = 9999,
    seed: int = 0,
) -> Contrast:
    """One arm against one reference: `contrasts` with a family of one. `as_family` corrects several of these.

    >>> contrast([1.0] * 6, [2.0] * 6, arm="a", reference="b", measure="loss", region=0, higher_is_better=False).outcome
    'better'
    """
    return contrasts(
        {arm: arm_scores, reference: reference_scores},
        [(arm, reference)],
        measure=measure,
        region=region,
        higher_is_better=higher_is_better,
        alpha=alpha,
        resamples=resamples,
        seed=seed,
    )[0]


def contrasts(
    scores: Mapping[str, ArrayLike],
    pairs: Iterable[tuple[str, str]],
    *,
    measure: str,
    region: float,
    higher_is_better: bool = True,
    alpha: float = 0.05,
    resamples: int = 9999,
    seed: int = 0,
) -> tuple[Contrast, ...]:
    """Judge a family of contrasts on one measure, Holm over all of them, by the rule at the top of this module.

    Args:
        scores: One score per seed for each arm, the same seeds in the same order. A run that diverged has the worst
            value of the measure (accuracy: 0), not NaN or an infinity: it must count, and it is not missing.
        pairs: (arm, reference) names; their number is the size of the family.
        measure: What the scores are, for the reader.
        region: Half-width of the region of practical equivalence, >= 0, in the unit of the scores: a difference below
            it does not matter. With 0 nothing is *practically the same*.
        higher_is_better: False for losses.
        alpha: Family-wise error rate of *better* and *worse*; the intervals have confidence 1 - alpha.
        resamples: Of the bootstrap, and of the sign-flip test above 16 pairs.
        seed: Of the resampling, shared by all contrasts.

    >>> scores = {"a": [3.0] * 10, "b": [2.0] * 10, "c": [2.0] * 10}
    >>> [(one.outcome, one.p_adjusted) for one in contrasts(scores, [("a", "b"), ("c", "b")], measure="x", region=0.1)]
    [('better', 0.00390625), ('practically the same', 1.0)]
    """
    names = list(pairs)
    for pair in names:
        for name in pair:
            if name not in scores:
                raise InputError(f"pairs: expected names of scores, got {name!r}. {nearest(name, list(scores))}")
        _check("pairs", pair, pair[0] != pair[1], "two different arms")
        _check("pairs", f"{pair} twice", names.count(pair) == 1, "each pair once")
    _check("region", region, 0 <= region < math.inf, "a finite number from 0")
    _check("alpha", alpha, 0 < alpha < 1, "a number between 0 and 1")
    if not names:
        return ()
    values = {name: _numbers(f"scores of {name}", scores[name], 2) for pair in names for name in pair}
    n = values[names[0][0]].size
    for name, numbers in values.items():
        _check(f"scores of {name}", numbers.size, numbers.size == n, f"{n}, as {names[0][0]} has, paired by seed")
    if n > EXACT_PAIRS:
        least = math.ceil(len(names) / alpha)
        _check("resamples", resamples, resamples >= least, f"at least {least}, or none of {len(names)} can reach alpha")
    first, second = (np.stack([values[pair[side]] for pair in names]) for side in (0, 1))
    differences = first - second
    ends = zip(*_bca(differences, 1 - alpha, resamples, seed, expanded=True), strict=True)
    # Scores are rounded before they are subtracted: sums of signed differences this close are ties.
    ties = 64 * np.finfo(np.float64).eps * (np.abs(first) + np.abs(second)).sum(-1)
    p_values = _sign_flip(differences, ties, resamples, seed).tolist()
    family = []
    for row, ((arm, reference), (low, high), p) in enumerate(zip(names, ends, p_values, strict=True)):
        mean, deviation = _moments(differences[row])
        family.append(
            Contrast(
                arm=arm,
                reference=reference,
                measure=measure,
                n=n,
                estimate=mean,
                interval=Interval(float(low), float(high)),
                p=p,
                p_adjusted=p,
                family=1,
                outcome="cannot tell",
                more_seeds=None,
                probability_of_improvement=probability_of_improvement(
                    first[row], second[row], higher_is_better=higher_is_better
                ),
                effect_size=effect_size(differences[row]),
                interquartile_mean=interquartile_mean(differences[row]),
                standard_deviation=deviation,
                region=float(region),
                higher_is_better=higher_is_better,
                alpha=float(alpha),
            )
        )
    return as_family(family)


def as_family(members: Iterable[Contrast]) -> tuple[Contrast, ...]:
    """The same contrasts judged as one family: Holm over their `p`, and `outcome` and `more_seeds` anew.

    For a family over measures, tasks or places: `as_family([*contrasts(...), *contrasts(...)])`; one `alpha` for all.
    """
    given, judged = list(members), []
    alphas = sorted({one.alpha for one in given})
    _check("alpha", alphas, len(alphas) <= 1, "the same in all contrasts of a family")
    for one, p in zip(given, holm([one.p for one in given]).tolist(), strict=True):
        outcome = _outcome(one.interval, p, one.n, one.region, one.higher_is_better, one.alpha, len(given))
        more = None
        if outcome == "cannot tell":
            more = _more_seeds(one.n, one.estimate, one.standard_deviation, one.region, len(given), one.alpha, 0.8)
        judged.append(replace(one, p_adjusted=p, family=len(given), outcome=outcome, more_seeds=more))
    return tuple(judged)


def _outcome(
    interval: Interval, p: float, n: int, region: float, higher_is_better: bool, alpha: float, family: int = 1
) -> Outcome:
    """The rule at the top of this module; `p` is after Holm over `family` contrasts."""
    if n < minimum_pairs(family, alpha):
        return "cannot tell"
    if -region < interval.low and interval.high < region:
        return "practically the same"
    if p <= alpha and (interval.low > 0 or interval.high < 0):
        return "better" if (interval.low > 0) == higher_is_better else "worse"
    return "cannot tell"


def _more_seeds(
    n: int, mean: float, deviation: float, region: float, contrasts: int, alpha: float, power: float
) -> int | None:
    least = max(minimum_pairs(contrasts, alpha), n + 1)
    to_find = (abs(mean), 1 - alpha / (2 * contrasts), power)
    to_fit = (region - abs(mean), 1 - alpha / 2, (1 + power) / 2)
    needed = []
    for distance, level, chance in (to_find, to_fit):
        if distance > deviation * 1e-9:
            z = float(special.ndtri(level))
            needed.append(((z + float(special.ndtri(chance))) * deviation / distance) ** 2 + z * z / 2)
    return max(math.ceil(min(needed)), least) - n if needed else None


def _bca(differences: Floats, confidence: float, resamples: int, seed: int, *, expanded: bool) -> tuple[Floats, Floats]:
    """(m, n) -> low (m), high (m). The same resamples serve all rows; not `expanded` it is scipy's `method="BCa"`."""
    _check("resamples", resamples, resamples >= 100, "a whole number from 100")
    n = differences.shape[-1]
    scale = np.abs(differences).max(-1, keepdims=True)
    shares = differences / np.where(scale > 0, scale, 1)  # at most 1, so that no power over- or underflows
    equal = np.ptp(shares, axis=-1) <= _EQUAL
    mean = shares.mean(-1, keepdims=True)
    centred = shares - mean
    sums = np.concatenate([_counts(index) @ centred.T for index in _draws(n, n, resamples, seed)]).T
    rounding = _EQUAL * np.abs(centred).sum(-1, keepdims=True)
    below = ((sums < -rounding).sum(-1) + (sums <= rounding).sum(-1)) / (2 * resamples)
    z0 = special.ndtri(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples))
    acceleration = (centred**3).sum(-1) / (6 * np.where(equal, 1, np.square(centred).sum(-1)) ** 1.5)
    tail = (1 + confidence) / 2
    z = math.sqrt(n / (n - 1)) * special.stdtrit(n - 1, tail) if expanded else special.ndtri(tail)
    sums.sort(axis=-1)
    ends = []
    for shifted in (z0 - z, z0 + z):
        stretch = 1 - acceleration * shifted
        # Beyond the pole of the correction (tiny n, high confidence) the end is that of the resampled means.
        corrected = np.where(stretch > 0, z0 + shifted / np.where(stretch > 0, stretch, 1), np.inf * np.sign(shifted))
        position = special.ndtr(corrected) * (resamples - 1)
        lower = np.floor(position).astype(np.intp)
        nearby = np.take_along_axis(sums, np.stack([lower, np.minimum(lower + 1, resamples - 1)], -1), -1)
        quantile = nearby[:, 0] + (position - lower) * (nearby[:, 1] - nearby[:, 0])
        ends.append(np.where(equal, differences[:, 0], (mean[:, 0] + quantile / n) * scale[:, 0]))
    return ends[0], ends[1]


def _sign_flip(differences: Floats, ties: Floats, resamples: int, seed: int) -> Floats:
    """(m, n), tolerance (m) -> p (m). The same sign patterns serve all rows."""
    _check("resamples", resamples, resamples >= 100, "a whole number from 100")
    m, n = differences.shape
    observed = np.abs(differences.sum(-1)) - ties
    extreme = np.zeros(m)
    for signs in _signs(n, resamples, seed):
        extreme += (np.abs(signs @ differences.T) >= observed).sum(0)
    return extreme / 2 ** (n - 1) if n <= EXACT_PAIRS else (extreme + 1) / (resamples + 1)


def _signs(n: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Sign patterns, (rows, n) at a time: random, or half of all (last sign fixed; the rest are their negatives)."""
    if n > EXACT_PAIRS:
        yield from (np.where(bits, 1.0, -1.0) for bits in _draws(2, n, resamples, seed))
    else:
        yield np.where((np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1, 1.0, -1.0)


def _draws(high: int, n: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """`resamples` rows of n numbers below `high`, some rows at a time; for high = n what scipy's `bootstrap` draws."""
    generator = np.random.default_rng(seed)
    step = max(1, _BLOCK // n)
    for start in range(0, resamples, step):
        yield generator.integers(0, high, (min(step, resamples - start), n))


def _counts(index: NDArray[np.int64]) -> Floats:
    """(rows, n) indices -> how often each of the n is drawn, so that all contrasts share one matrix product."""
    rows, n = index.shape
    flat = (index + n * np.arange(rows)[:, None]).ravel()
    return np.bincount(flat, minlength=rows * n).reshape(rows, n).astype(np.float64)


def _moments(values: Floats) -> tuple[float, float]:
    """Mean and standard deviation (divisor n - 1); the latter exactly 0 where the values are equal up to rounding."""
    scale = float(np.abs(values).max())
    if np.ptp(values) <= _EQUAL * scale:
        return float(values[0]), 0.0
    return float(values.mean()), float((values / scale).std(ddof=1) * scale)


def _numbers(name: str, values: ArrayLike, least: int) -> Floats:
    try:
        given: NDArray[Any] = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected a list of numbers, got {type(values).__name__}: {error}") from error
    what = f"{given.dtype} of shape {given.shape}"
    _check(
        name, what, given.ndim == 1 and given.dtype.kind in "biuf", "a list of numbers, one per seed and none missing"
    )
    _check(name, given.size, given.size >= least, f"at least {least} numbers (run more seeds)")
    numbers = given.astype(np.float64)
    if (bad := ~(np.abs(numbers) <= _LARGEST)).any():
        raise InputError(
            f"{name}: expected finite numbers up to {_LARGEST:g}, got {numbers[bad][0]} at position {bad.argmax()}; "
            "for a run that diverged give the worst value that the measure has (accuracy: 0)"
        )
    return numbers


def _check(name: str, got: object, holds: bool, expected: str) -> None:
    if not holds:
        raise InputError(f"{name}: expected {expected}, got {got}")


def _check_power(power: float, alpha: float) -> None:
    _check("alpha", alpha, 0 < alpha < 1, "a number between 0 and 1")
    _check("power", power, alpha < power < 1, f"a number between alpha = {alpha} and 1")

"""Conditional logit: published results on travel modes, statsmodels, the multinomial logit, bad tables."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.discrete.conditional_models import ConditionalLogit

from softplace.errors import InputError
from softplace.output.logit import fit, fit_conditional
from softplace.output.logit.choices import Choices, maximise
from softplace.output.logit.conditional_result import ConditionalResult
from tests.output.logit.data import draws, travel_modes

GREENE = {
    ("", "gc"): (-0.0155015067043374, 0.00440799307835216),
    ("", "ttme"): (-0.0961246217793847, 0.0104398465313473),
    ("air", "Intercept"): (5.20743292761953, 0.779055142508082),
    ("", "hinc_air"): (0.0132870137736127, 0.0102624069997369),
    ("train", "Intercept"): (3.86903570401292, 0.443126852001293),
    ("bus", "Intercept"): (3.16319033000995, 0.450265930527341),
}
"""Coefficient and error: Greene 2003, page 729, to the digits of R's mlogit (statsmodels' test results quote both)."""


@pytest.fixture(scope="module")
def travel() -> pd.DataFrame:
    return travel_modes()


def greene(data: pd.DataFrame, formula: str = "choice ~ gc + ttme + hinc_air", **given: Any) -> ConditionalResult:
    return fit_conditional(
        formula, data, **{"chooser": "individual", "alternative": "mode", "reference": "car"} | given
    )


def test_published_coefficients(travel: pd.DataFrame) -> None:
    result = greene(travel)
    for name, (value, error) in GREENE.items():
        at = result.data.names.index(name)
        assert result.coefficients[at] == pytest.approx(value, rel=1e-5)
        assert result.standard_errors[at] == pytest.approx(error, rel=1e-5)
    assert result.loglikelihood == pytest.approx(-199.1284, abs=5e-5)
    assert result.constants_alone == pytest.approx(-283.7588, abs=5e-5)
    assert result.fit_measures.aic == pytest.approx(410.2567, abs=5e-5)
    assert result.equal_shares == pytest.approx(-210 * np.log(4))


def test_the_published_test_of_independence(travel: pd.DataFrame) -> None:
    """R's mlogit prints chisq = 33.337, df = 4, p-value = 1.019e-06 where air is left out (Greene 2003, page 731)."""
    (test,) = [each for each in greene(travel).independence() if each.hypothesis.endswith("air")]
    assert test.statistic == pytest.approx(33.337, abs=5e-4)
    assert test.degrees == 4
    assert test.p == pytest.approx(1.019e-6, rel=1e-3)


def test_statsmodels_conditional_logit(travel: pd.DataFrame) -> None:
    result = greene(travel)
    constants = {f"is_{mode}": (travel["mode"] == mode).astype(float) for mode in ("air", "bus", "train")}
    X = travel.assign(**constants)[[*constants, "gc", "ttme", "hinc_air"]]
    theirs = ConditionalLogit(travel.choice, X, groups=travel.individual).fit(disp=0, method="bfgs", maxiter=500)
    np.testing.assert_allclose(result.coefficients, theirs.params, rtol=1e-4)
    np.testing.assert_allclose(result.standard_errors, theirs.bse, rtol=1e-4)


def test_columns_of_choosers_alone_are_the_multinomial_logit() -> None:
    X, y = draws(rows=150, width=2)
    wide = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": y, "who": np.arange(150)})
    long = wide.loc[wide.index.repeat(3)].assign(kind=np.tile([0, 1, 2], 150))
    long["chosen"] = (long.y == long.kind).astype(int)
    conditional = fit_conditional("chosen ~ 1 | a + b", long, chooser="who", alternative="kind")
    multinomial = fit("y ~ a + b", wide)
    flat = dict(zip(conditional.data.names, conditional.coefficients, strict=True))
    for at, name in enumerate(multinomial.estimates.names):
        assert flat[name] == pytest.approx(multinomial.estimates.values[at], abs=1e-7)
    assert conditional.loglikelihood == pytest.approx(multinomial.loglikelihood)
    assert conditional.fit_measures.pseudo_r2["McFadden"] == pytest.approx(
        multinomial.fit_measures.pseudo_r2["McFadden"]
    )
    for errors in ("hc0", "hc1"):
        one = fit_conditional("chosen ~ 1 | a + b", long, chooser="who", alternative="kind", errors=errors)
        other = dict(zip(multinomial.estimates.names, fit("y ~ a + b", wide, errors=errors).estimates.z, strict=True))
        for name, z in zip(one.data.names, one.estimates.z, strict=True):
            assert z == pytest.approx(other[name], rel=1e-6)
    here = [test.statistic for test in conditional.independence()]
    there = [test.statistic for test in multinomial.independence() if test.name == "Hausman-McFadden"]
    assert here == pytest.approx(there, rel=1e-5)


def reference_fit(data: Choices) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient, information and probabilities at b = 0.1, 0.2, ... by loops over choosers."""
    b = 0.1 * np.arange(1, data.Z.shape[1] + 1)
    gradient, information, shares = np.zeros(len(b)), np.zeros((len(b), len(b))), []
    ends = [*data.starts[1:], len(data.Z)]
    for start, end, chosen in zip(data.starts, ends, data.chosen, strict=True):
        Z = data.Z[start:end]
        p = np.exp(Z @ b) / np.exp(Z @ b).sum()
        gradient += data.Z[chosen] - p @ Z
        information += (Z.T * p) @ Z - np.outer(p @ Z, p @ Z)
        shares.append(p)
    return gradient, information, np.concatenate(shares)


def test_scores_and_information_by_loops_with_unequal_choices() -> None:
    generator = np.random.default_rng(0)
    sizes = generator.integers(1, 6, 30)
    starts = np.cumsum(sizes) - sizes
    data = Choices(
        Z=generator.normal(size=(sizes.sum(), 3)), starts=starts, chosen=starts + generator.integers(0, sizes)
    )
    b = np.array([0.1, 0.2, 0.3])
    gradient, information, shares = reference_fit(data)
    np.testing.assert_allclose(data.probabilities(b), shares, rtol=1e-12)
    np.testing.assert_allclose(data.scores(b).sum(0), gradient, atol=1e-12)
    np.testing.assert_allclose(data.information(b), information, atol=1e-11)
    step = 1e-6
    slopes = [(data.loglikelihood(b + step * e) - data.loglikelihood(b - step * e)) / (2 * step) for e in np.eye(3)]
    np.testing.assert_allclose(slopes, gradient, atol=1e-6)
    assert maximise(data).converged


def test_choosers_with_unequal_and_single_alternatives(travel: pd.DataFrame) -> None:
    gone = (travel["mode"] == "bus") & (travel.choice == 0) & (travel.individual % 3 == 0)
    fewer = travel[~gone]
    result = greene(fewer)
    assert result.data.choices.sizes.min() == 3
    single = pd.DataFrame(
        {"individual": [999.0], "mode": ["car"], "choice": [1.0], "gc": [5.0], "ttme": [1.0], "hinc_air": [0.0]}
    )
    more = greene(pd.concat([fewer, single], ignore_index=True))
    np.testing.assert_allclose(more.coefficients, result.coefficients, rtol=1e-6)
    assert more.loglikelihood == pytest.approx(result.loglikelihood)
    assert "choosers with one alternative, who tell nothing  1" in more.summary()


def test_the_order_of_rows_does_not_matter(travel: pd.DataFrame) -> None:
    shuffled = travel.sample(frac=1.0, random_state=3)
    np.testing.assert_allclose(greene(shuffled).coefficients, greene(travel).coefficients, rtol=1e-7)
    here, there = greene(shuffled).predict(), greene(travel).predict()
    merged = here.merge(there, on=["individual", "mode"])
    np.testing.assert_allclose(merged.probability_x, merged.probability_y, atol=1e-8)


def test_predictions_sum_to_one_and_follow_new_rows(travel: pd.DataFrame) -> None:
    result = greene(travel, "choice ~ gc + ttme | hinc | invt")
    found = result.predict(travel.drop(columns="choice"))
    np.testing.assert_allclose(found.probability, result.predict().probability, atol=1e-10)
    np.testing.assert_allclose(found.groupby("individual").probability.sum(), 1.0)
    mean = found.groupby("mode").probability.mean()
    share = travel[travel.choice == 1]["mode"].value_counts(normalize=True)
    np.testing.assert_allclose(mean.sort_index(), share.sort_index(), atol=1e-6)  # constants make them equal
    soon = travel.assign(ttme=travel.ttme - 5 * (travel["mode"] == "train"))
    assert result.predict(soon).groupby("mode").probability.mean()["train"] > mean["train"]


def test_parts_of_a_formula(travel: pd.DataFrame) -> None:
    names = greene(travel, "choice ~ gc | hinc | invt").data.names
    others = ("air", "bus", "train")
    assert names == (
        *((mode, "Intercept") for mode in others),
        ("", "gc"),
        *((mode, "hinc") for mode in others),
        *((mode, "invt") for mode in ("air", "bus", "car", "train")),
    )
    without = greene(travel, "choice ~ gc + ttme | 0")
    assert without.columns == ("gc", "ttme")
    by_hand = greene(travel, "choice ~ gc + ttme | hinc - 1").data.names
    assert ("air", "Intercept") not in by_hand
    assert ("air", "hinc") in by_hand


@pytest.mark.parametrize("elastic", [False, True])
def test_effects_are_differences_of_predictions(travel: pd.DataFrame, elastic: bool) -> None:
    result = greene(travel)
    table = result.elasticities("gc") if elastic else result.effects("gc")
    for changed, other in (("train", "train"), ("train", "bus"), ("car", "air")):
        own = travel["mode"] == changed
        step = 1e-5 * travel.gc * own if elastic else 1e-4 * own
        up, down = (
            result.predict(travel.assign(gc=travel.gc + step)),
            result.predict(travel.assign(gc=travel.gc - step)),
        )
        pick = up["mode"] == other
        if elastic:
            expected = np.mean((np.log(up.probability) - np.log(down.probability))[pick]) / 2e-5
        else:
            expected = np.mean((up.probability - down.probability)[pick]) / 2e-4
        found = {(row["gc of"], row["probability of"]): row for row in table.records()}[changed, other]
        assert found["elasticity" if elastic else "effect"] == pytest.approx(expected, rel=1e-5)
        assert 0 < found["error"] < abs(expected)


def test_tests_of_hypotheses(travel: pd.DataFrame) -> None:
    result = greene(travel)
    (wald,) = result.test("hinc_air = 0")
    at = result.columns.index("hinc_air")
    assert wald.statistic == pytest.approx(result.estimates.z[at] ** 2)
    ratio, score = result.test("choice ~ gc + ttme")
    smaller = greene(travel, "choice ~ gc + ttme")
    assert ratio.statistic == pytest.approx(2 * (result.loglikelihood - smaller.loglikelihood))
    assert score.statistic == pytest.approx(ratio.statistic, rel=0.05)
    assert (ratio.degrees, score.degrees) == (1, 1)
    (constants,) = result.test("Intercept = 0")
    assert constants.degrees == 3
    (equal,) = result.test("Intercept[bus] = Intercept[train]")
    assert equal.degrees == 1
    with pytest.raises(InputError, match="expected a model within"):
        result.test("choice ~ gc + invt")


def test_groups_and_resamples(travel: pd.DataFrame) -> None:
    alone = greene(travel, errors="cluster:individual").estimates.covariance
    np.testing.assert_allclose(alone, greene(travel, errors="hc0").estimates.covariance * 210 / 209, rtol=1e-7)
    resampled = greene(travel, errors="bootstrap:60", seed=1)
    ratio = resampled.standard_errors / greene(travel, errors="hc0").standard_errors
    assert np.all((ratio > 0.75) & (ratio < 1.6))


def test_counts_are_repeated_choosers(travel: pd.DataFrame) -> None:
    counts = travel.individual.astype(int) % 3
    weighted = greene(travel.assign(w=counts), weights="w")
    copies = [travel[counts > k].assign(individual=lambda frame, k=k: frame.individual + 1000 * k) for k in range(2)]
    repeated = greene(pd.concat(copies, ignore_index=True))
    np.testing.assert_allclose(weighted.coefficients, repeated.coefficients, rtol=1e-6)
    np.testing.assert_allclose(weighted.standard_errors, repeated.standard_errors, rtol=1e-6)
    assert weighted.fit_measures.bic == pytest.approx(repeated.fit_measures.bic)


def _twice(data: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([data, data.iloc[[2]]], ignore_index=True)


def _with(data: pd.DataFrame, row: int, column: str, value: Any) -> pd.DataFrame:
    changed = data.copy()
    changed.loc[row, column] = value
    return changed


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no choice": (
        lambda data: _with(data, 3, "choice", 0.0), {},
        r"expected one choice of every chooser\. Got 0 of individual '1\.0' \(1 of 210 choosers",
    ),
    "two choices": (lambda data: _with(data, 0, "choice", 1.0), {}, r"Got 2 of individual '1\.0'"),
    "marks": (lambda data: _with(data, 5, "choice", 2.0), {}, r"expected 1 for what was chosen.* Got 2 in row 5"),
    "twice": (_twice, {}, r"expected an alternative once for each chooser\. Got 'bus' again for individual '1\.0'"),
    "reference": (None, {"reference": "cars"}, "Unknown reference alternative 'cars'. Did you mean 'car'"),
    "chooser": (None, {"chooser": "person"}, "no column 'person' in the data"),
    "formula": (None, {"formula": "choice ~ gc + tme"}, "no column 'tme' in the data. Did you mean 'ttme'"),
    "still": (
        None, {"formula": "choice ~ gc + hinc"},
        r"column 'hinc': expected values that differ among a chooser's alternatives.*'\.\.\. \| hinc'",
    ),
    "varies": (
        None, {"formula": "choice ~ gc | ttme"},
        r"column 'ttme': expected one value for each chooser\. Got several.*before the first '\|'",
    ),
    "collinear": (
        lambda data: data.assign(twice=2 * data.gc), {"formula": "choice ~ gc + twice"},
        "collinear columns: twice follows from those before it",
    ),
    "own still": (None, {"formula": "choice ~ gc | 1 | ttme"}, "column 'ttme' of car: expected values that differ"),
    "missing": (
        lambda data: _with(data, 6, "gc", np.nan), {}, r"missing cells: row 6, column 'gc' is the first of 1 in 1"
    ),
    "never chosen": (
        lambda data: data[~data.individual.isin(data[(data["mode"] == "bus") & (data.choice == 1)].individual)], {},
        "alternative 'bus': expected one chooser or more. Got none",
    ),
    "weights": (lambda data: data.assign(w=-1.0), {"weights": "w"}, r"weights 'w': .* Got -1 in row 0"),
    "weights are": (None, {"weights_are": "count"}, "Unknown 'weights_are' 'count'. Did you mean 'counts'"),
    "sampling": (None, {"weights_are": "sampling", "errors": "hc0"}, "must be 'counts' without weights"),
    "weights vary": (lambda data: data.assign(w=data.ttme), {"weights": "w"}, "'w': expected one value for each"),
    "parts": (None, {"formula": "choice ~ gc | 1 | ttme | invt"}, "at most three parts"),
    "syntax": (None, {"formula": "choice ~ gc +* ttme"}, r"formula 'choice ~ gc \+\* ttme': Operator"),
    "nothing": (None, {"formula": "choice ~ 0 | 0"}, "expected a column or constants. Got none"),
    "one alternative": (lambda data: data.assign(mode="car"), {}, "expected two alternatives or more"),
    "separated": (
        lambda data: data.assign(hint=data.choice + 0.0), {"formula": "choice ~ hint | 0"},
        "the likelihood has no maximum: columns tell the chosen alternatives from the others without error.*hint",
    ),
    "separated partly": (
        lambda data: data.assign(hint=data.choice * (data["mode"] == "air")), {"formula": "choice ~ gc + hint"},
        "the likelihood has no maximum",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_one_line(name: str, travel: pd.DataFrame) -> None:
    change, given, message = BAD[name]
    data = travel if change is None else change(travel)
    with pytest.raises(InputError, match=message) as caught:
        greene(data, **given)
    assert "\n" not in str(caught.value)


def test_new_rows_that_cannot_be_used(travel: pd.DataFrame) -> None:
    result = greene(travel)
    with pytest.raises(InputError, match=r"column 'mode': expected air, bus, car, train\. Got 'ship' in row 0"):
        result.predict(_with(travel, 0, "mode", "ship"))
    with pytest.raises(InputError, match="no column 'ttme'"):
        result.predict(travel.drop(columns="ttme"))
    with pytest.raises(InputError, match="Unknown column 'cost' of alternatives"):
        result.effects("cost")

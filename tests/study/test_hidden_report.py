"""The verdicts on the hidden layer from scores that are known: direction, words, divergence, references."""

import itertools
import math
import re
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pytest

from softplace.report.records import PlaceReport, Verdict
from softplace.study.contest import Options
from softplace.study.contests import hidden
from softplace.study.contests._report import SOFTMAX, Claim, decide
from softplace.study.contests.hidden_claims import CANDIDATES, CLAIMS
from softplace.study.contests.hidden_references import REFERENCES
from softplace.study.contests.hidden_report import headline, report
from softplace.study.plan import Tuning
from softplace.study.results import Results
from softplace.study.store import MemberRecord

N = 12
SEEDS = tuple(range(1, 2 * N, 2))
CONTEST = hidden.contest(Options())
METRICS = {each.name: each for task in CONTEST.tasks for each in task.metrics}
Score = Callable[[str, str, int], float | None]


def results(score: Score, diverged: Callable[[str, int], bool] = lambda arm, seed: False) -> Results:
    """Results whose members have the scores `score(arm, metric, seed)`; None is no number."""
    members: dict[str, dict[str, list[MemberRecord]]] = {}
    for task in CONTEST.tasks:
        curve = {"step": [20, 40], task.validation.name: [0.5, 0.9]}
        groups = members[task.name] = {}
        for arm in CONTEST.arms:
            groups[arm.name] = [
                MemberRecord(
                    key=f"{task.name} {arm.name} {seed}",
                    place="hidden",
                    contest="hidden",
                    task=task.name,
                    arm=arm.name,
                    seed=seed,
                    learning_rate=0.01,
                    role="judge",
                    status="diverged" if diverged(arm.name, seed) else "done",
                    steps=40,
                    seconds=1.0,
                    metrics={each.name: score(arm.name, each.name, seed) for each in task.metrics},
                    curve=curve,
                    probes={},
                    provenance_id=1,
                )
                for seed in SEEDS
            ]
    tuning = {
        task.name: Tuning(
            grid=task.learning_rates,
            scores={arm.name: (0.5,) * 7 for arm in CONTEST.arms},
            best=dict.fromkeys((arm.name for arm in CONTEST.arms), task.learning_rates[3]),
        )
        for task in CONTEST.tasks
    }
    return Results(
        contest=CONTEST,
        seeds=SEEDS,
        tune_seeds=tuple(range(0, 2 * N, 2)),
        tunings=tuning,
        members=members,
        seconds=1.0,
    )


def noise(arm: str, seed: int) -> float:
    return float(np.random.default_rng([seed, *arm.encode()]).normal())


def verdicts(found: PlaceReport) -> Mapping[str, Verdict]:
    return {section.key: section.verdict for section in found.sections if section.verdict is not None}


def shifted(softmax: float, others: Mapping[str, float] | None = None, wobble: float = 0.01) -> Score:
    """Softmax is better by `softmax` regions than the arms, in every metric; an arm in `others` by so many."""
    region = {claim.metric: claim.region for claim in CLAIMS}

    def score(arm: str, metric: str, seed: int) -> float:
        by = softmax if arm == SOFTMAX else (others or {}).get(arm, 0.0)
        step = region.get(metric, 0.01)
        way = 1.0 if METRICS[metric].higher_is_better else -1.0
        return 0.5 + 10 * step + way * step * by + wobble * step * noise(arm, seed)

    return score


def test_the_word_of_every_mixture_of_outcomes() -> None:
    outcomes = ("worse", "better", "practically the same", "cannot tell")
    for several in itertools.product(outcomes, repeat=3):
        kinds = set(several)
        if kinds == {"worse"}:
            expected = "supported"
        elif kinds == {"better"}:
            expected = "opposite"
        elif kinds in ({"cannot tell"}, {"cannot tell", "worse"}):
            expected = "cannot tell"  # more seeds could still make all of them worse
        else:
            expected = "not supported"
        assert decide(several) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("softmax", "word"), [(-3.0, "supported"), (3.0, "opposite"), (-0.5, "not supported"), (0.0, "not supported")]
)
def test_every_claim_says_that_softmax_is_worse_in_its_measure(softmax: float, word: str) -> None:
    found = verdicts(report(results(shifted(softmax))))
    assert list(found) == [claim.key for claim in CLAIMS]
    for claim in CLAIMS:
        verdict = found[claim.key]
        assert verdict.verdict == word
        assert verdict.n == N
        better = 1.0 if METRICS[claim.metric].higher_is_better else -1.0
        assert verdict.estimate is not None
        assert verdict.interval is not None
        assert verdict.estimate == pytest.approx(better * softmax * claim.region, abs=0.05 * claim.region)
        assert verdict.interval[0] <= verdict.estimate <= verdict.interval[1]
        assert verdict.arms == (SOFTMAX, *claim.against)
        assert {each["reference"] for each in verdict.contrasts} == {arm.name for arm in CONTEST.arms} - {SOFTMAX}
        direction = "(lower|fewer) than" if better * softmax < 0 else "(higher|more) than"
        assert softmax == 0.0 or re.search(f"softmax .* {direction} ", verdict.sentence, re.IGNORECASE)
        assert set(verdict.references) <= set(REFERENCES)


def test_one_arm_that_softmax_is_not_worse_than_is_enough_against_a_claim() -> None:
    for arm in CANDIDATES:
        found = verdicts(report(results(shifted(-3.0, {arm: -3.0}))))
        assert found["accuracy"].verdict == "not supported"
        assert f"practically the same as {arm}" in found["accuracy"].sentence
        expected = "not supported" if arm == "ReLU + BatchNorm" else "supported"
        assert found["batchnorm-accuracy"].verdict == found["batchnorm-steps"].verdict == expected


def test_arms_that_do_not_decide_change_no_word_but_widen_the_family() -> None:
    found = verdicts(report(results(shifted(-3.0, {"identity": -9.0, "GELU": -9.0, "softmax + BatchNorm": 9.0}))))
    assert {verdict.verdict for verdict in found.values()} == {"supported"}
    smallest = 2 / 2**N * 13
    for verdict in found.values():
        assert [each["p_adjusted"] for each in verdict.contrasts] == pytest.approx([smallest] * 13)
        assert verdict.p == 2 / 2**N


def test_noise_decides_nothing() -> None:
    found = verdicts(report(results(shifted(0.0, wobble=20.0))))
    assert {verdict.verdict for verdict in found.values()} <= {"cannot tell", "not supported"}
    for verdict in found.values():
        for each in verdict.contrasts:
            assert each["outcome"] == "cannot tell"
            assert each["more_seeds"] is None or each["more_seeds"] >= 1  # type: ignore[operator]


def test_a_network_that_diverged_counts_with_the_worst_score_of_each_measure() -> None:
    score = shifted(0.0)
    kept = results(score)
    lost = results(score, lambda arm, seed: arm == SOFTMAX and seed == SEEDS[0])
    for claim in CLAIMS:
        task = headline(lost, claim.metric)
        assert task is not None
        before, after = kept.scores(task, claim.metric), lost.scores(task, claim.metric)
        assert before is not None
        assert after is not None
        assert after[SOFTMAX][0] == METRICS[claim.metric].worst or claim.metric == "steps_to_target"
        assert after[SOFTMAX][1:].tolist() == before[SOFTMAX][1:].tolist()
        assert after["ReLU"].tolist() == before["ReLU"].tolist()
    assert lost.diverged(CONTEST.tasks[0])[SOFTMAX] == 1


def test_a_measure_that_is_not_a_number_counts_as_the_worst() -> None:
    def score(arm: str, metric: str, seed: int) -> float | None:
        return None if arm == "ReLU" and metric == "correlation" else shifted(0.0)(arm, metric, seed)

    task = headline(results(score), "correlation")
    assert task is not None
    found = results(score).scores(task, "correlation")
    assert found is not None
    assert found["ReLU"].tolist() == [1.0] * N


def test_claims_are_judged_on_two_hidden_layers_of_the_first_data() -> None:
    found = results(shifted(0.0))
    labels = {claim.metric: headline(found, claim.metric) for claim in CLAIMS}
    assert {task.settings()["depth"] for task in labels.values() if task is not None} == {2}
    assert None not in labels.values()


def test_figures_of_publications_are_those_that_were_read() -> None:
    """Every number in a finding, by reference; look a new one up in the list of references first (level V)."""
    read = {
        "csordas2023": {"13.96", "12.77", "103"},
        "ioffe2015": {"14"},
        "bouthillier2021": {"51"},
        "nair2025": {"1", "2"},
        "yang2018": {"1"},
    }
    for key, reference in REFERENCES.items():
        assert reference.key == key
        assert set(re.findall(r"\d+(?:\.\d+)?", reference.finding)) <= read.get(key, set())
        assert reference.bibtex.startswith(f"@misc{{{key},")
    cited = {key for claim in CLAIMS for key in claim.references}
    assert cited <= set(REFERENCES)


@cache
def worse() -> Mapping[str, Verdict]:
    return verdicts(report(results(shifted(-3.0))))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.key)
def test_a_criterion_names_measure_arms_alpha_and_region(claim: Claim) -> None:
    text = worse()[claim.key].criterion
    assert METRICS[claim.metric].label in text
    assert f"n = {N} paired seeds" in text
    assert all(arm in text for arm in claim.against)
    assert "0.05 after Holm over 13 arms" in text
    assert f"within {claim.region * claim.scale:g}" in text
    assert ("softmax is lower than" in text) == METRICS[claim.metric].higher_is_better


def test_every_number_of_a_verdict_is_finite_or_null() -> None:
    found = verdicts(report(results(lambda arm, metric, seed: 0.5)))
    for verdict in found.values():
        numbers = [verdict.estimate, verdict.p, *(verdict.interval or ())]
        numbers += [each[name] for each in verdict.contrasts for name in each if isinstance(each[name], float)]  # type: ignore[misc]
        assert all(math.isfinite(value) for value in numbers if value is not None)
        assert verdict.verdict == "not supported"  # practically the same

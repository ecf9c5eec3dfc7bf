"""The verdicts on the latent place from scores that are known: direction, regions, references, figures."""

import re
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pytest

from softplace.report.page import render
from softplace.report.records import PlaceReport, Report, Verdict
from softplace.study.contest import Options
from softplace.study.contests import latent
from softplace.study.contests._report import SOFTMAX
from softplace.study.contests.latent_arms import ARMS, GAUSSIAN
from softplace.study.contests.latent_claims import CLAIMS
from softplace.study.contests.latent_references import REFERENCES
from softplace.study.contests.latent_report import report
from softplace.study.plan import Tuning
from softplace.study.results import Results
from softplace.study.store import JSON, MemberRecord

N = 12
SEEDS = tuple(range(1, 2 * N, 2))
CONTEST = latent.contest(Options())
(TASK,) = CONTEST.tasks
METRICS = {each.name: each for each in TASK.metrics}
NAMES = [arm.name for arm in ARMS]
REGION = {claim.metric: claim.region for claim in CLAIMS}
Score = Callable[[str, str, int], float]


def results(score: Score) -> Results:
    """Results whose members have the scores `score(arm, metric, seed)`."""
    groups: dict[str, list[MemberRecord]] = {}
    for arm in NAMES:
        without = {"perplexity", "bias", "deviation"} if arm == GAUSSIAN else set()
        probes: dict[str, JSON] = {} if arm == GAUSSIAN else {"codes": [[0.5] * 64, [0.25] * 64]}
        groups[arm] = [
            MemberRecord(
                key=f"{arm} {seed}",
                place="latent",
                contest="latent",
                task=TASK.name,
                arm=arm,
                seed=seed,
                learning_rate=0.01,
                role="judge",
                status="done",
                steps=400,
                seconds=1.0,
                metrics={name: score(arm, name, seed) for name in METRICS if name not in without},
                curve={"step": [40.0, 400.0], "loss": [30.0, 20.0]},
                probes=probes,
                provenance_id=1,
            )
            for seed in SEEDS
        ]
    tuning = Tuning(
        grid=TASK.learning_rates,
        scores=dict.fromkeys(NAMES, (0.5, 0.4, *(0.6 for _ in TASK.learning_rates[2:]))),
        best=dict.fromkeys(NAMES, TASK.learning_rates[1]),
    )
    return Results(
        contest=CONTEST,
        seeds=SEEDS,
        tune_seeds=tuple(range(0, 2 * N, 2)),
        tunings={TASK.name: tuning},
        members={TASK.name: groups},
        seconds=1.0,
    )


def shifted(softmax: float, others: Mapping[str, float] | None = None, wobble: float = 0.01) -> Score:
    """Softmax is better by so many regions than the arms, in every metric; an arm in `others` by so many."""

    def score(arm: str, metric: str, seed: int) -> float:
        by = softmax if arm == SOFTMAX else (others or {}).get(arm, 0.0)
        step = REGION.get(metric, 0.01)
        way = 1.0 if METRICS[metric].higher_is_better else -1.0
        noise = float(np.random.default_rng([seed, *arm.encode()]).normal())
        return (0.9 if metric == "solved" else 10 * step) + way * step * by + wobble * step * noise

    return score


def verdicts(found: PlaceReport) -> Mapping[str, Verdict]:
    return {section.key: section.verdict for section in found.sections if section.verdict is not None}


@pytest.mark.parametrize("softmax", [-3.0, 3.0, -0.5, 0.0])
def test_every_claim_goes_by_what_it_says(softmax: float) -> None:
    found = verdicts(report(results(shifted(softmax))))
    assert list(found) == [claim.key for claim in CLAIMS]
    for claim in CLAIMS:
        verdict = found[claim.key]
        if abs(softmax) < 1:
            assert verdict.verdict == "not supported"  # practically the same
        else:
            assert verdict.verdict == ("supported" if (softmax > 0) == (claim.says == "better") else "opposite")
        better = 1.0 if METRICS[claim.metric].higher_is_better else -1.0
        assert verdict.estimate == pytest.approx(better * softmax * claim.region, abs=0.05 * claim.region)
        assert verdict.arms == (SOFTMAX, *claim.against)
        assert verdict.n == N
        assert METRICS[claim.metric].label in verdict.criterion
        assert f"within {claim.region:g}" in verdict.criterion


def test_one_rival_as_good_is_enough_against_a_claim() -> None:
    found = verdicts(report(results(shifted(3.0, {"Gumbel-softmax": 3.0, "REBAR": 6.0}))))
    assert found["biased"].verdict == found["unbiased"].verdict == "not supported"
    assert "practically the same as Gumbel-softmax" in found["biased"].sentence
    assert "worse than REBAR" in found["unbiased"].sentence
    assert found["sampling"].verdict == found["sparse"].verdict == "supported"


def test_noise_decides_nothing() -> None:
    found = verdicts(report(results(shifted(0.0, wobble=30.0))))
    assert {verdict.verdict for verdict in found.values()} <= {"cannot tell", "not supported"}


@cache
def full() -> PlaceReport:
    return report(results(shifted(3.0)))


def test_figures_of_publications_are_those_that_were_read() -> None:
    """Every number in a finding, by reference; look a new one up in the publication first."""
    read = {"jang2017": {"1", "110.6", "128.8", "107.0", "110.9", "101.5", "107.8"}}
    for key, reference in REFERENCES.items():
        assert reference.key == key
        assert set(re.findall(r"\d+(?:\.\d+)?", reference.finding)) <= read.get(key, set())
        assert bool(reference.finding) == reference.verified
    assert {key for claim in CLAIMS for key in claim.references} <= set(REFERENCES)


def test_the_page_shows_every_figure() -> None:
    found = full()
    figures = {figure.key: figure for section in found.sections for figure in section.figures}
    assert {"vae-learning", "vae-bias", "vae-deviation", "codes"} <= set(figures)
    for figure in figures.values():
        assert figure.rows
        assert figure.caption
        columns = set(figure.rows[0])
        assert all(set(row) == columns for row in figure.rows)
        assert {figure.x.column, figure.y.column} <= columns
    assert {row["arm"] for row in figures["vae-bias"].rows} == set(NAMES) - {GAUSSIAN}
    assert {row["arm"] for row in figures["codes"].rows} == set(NAMES) - {GAUSSIAN}
    assert len(figures["codes"].rows) == (len(NAMES) - 1) * 2 * 8
    assert all(verdicts(found)[key].sentence in found.answer for key in ("sampling", "sparse"))
    page = render(Report(title="t", places=(found,), pending=(), command="c", provenance={"command": "c"}))
    assert "Does softmax belong inside a network where it models a choice?" in page

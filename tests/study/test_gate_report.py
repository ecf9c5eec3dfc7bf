"""The verdicts on the gate from scores that are known: direction, regions, references, figures."""

import re
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pytest

from softplace.report.page import render
from softplace.report.records import PlaceReport, Report, Verdict
from softplace.study.contest import Options
from softplace.study.contests import gate
from softplace.study.contests._report import SOFTMAX
from softplace.study.contests.gate_arms import AFTER, ARMS, BEFORE, SINKHORN, UNBALANCED
from softplace.study.contests.gate_claims import CLAIMS
from softplace.study.contests.gate_references import REFERENCES
from softplace.study.contests.gate_report import report
from softplace.study.contests.latent_references import REFERENCES as LATENT
from softplace.study.plan import Tuning
from softplace.study.results import Results
from softplace.study.store import JSON, MemberRecord

N = 12
SEEDS = tuple(range(1, 2 * N, 2))
CONTEST = gate.contest(Options())
(TASK,) = CONTEST.tasks
METRICS = {each.name: each for each in TASK.metrics}
NAMES = [arm.name for arm in ARMS]
REGION = {claim.metric: claim.region * (TASK.steps if claim.metric == "steps_to_learn" else 1) for claim in CLAIMS}
Score = Callable[[str, str, int], float]


def results(score: Score) -> Results:
    """Results whose members have the scores `score(arm, metric, seed)`."""
    groups: dict[str, list[MemberRecord]] = {}
    for arm in NAMES:
        probes: dict[str, JSON] = {"regions": [[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]}
        groups[arm] = [
            MemberRecord(
                key=f"{arm} {seed}",
                place="latent",
                contest="gate",
                task=TASK.name,
                arm=arm,
                seed=seed,
                learning_rate=0.01,
                role="judge",
                status="done",
                steps=250,
                seconds=1.0,
                metrics={name: score(arm, name, seed) for name in METRICS},
                curve={"step": [25.0, 250.0], "loss": [2.0, 0.5]},
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
        verdict, region = found[claim.key], REGION[claim.metric]
        if abs(softmax) < 1:
            assert verdict.verdict == "not supported"  # practically the same
        else:
            assert verdict.verdict == ("supported" if (softmax > 0) == (claim.says == "better") else "opposite")
        better = 1.0 if METRICS[claim.metric].higher_is_better else -1.0
        assert verdict.estimate == pytest.approx(better * softmax * region, abs=0.05 * region)
        assert verdict.arms == (SOFTMAX, *claim.against)
        assert verdict.n == N
        assert METRICS[claim.metric].label in verdict.criterion
        if claim.scale * region != 1.0:
            assert f"within {claim.scale * region:g}" in verdict.criterion


def test_one_rival_as_good_is_enough_against_a_claim() -> None:
    found = verdicts(report(results(shifted(3.0, {AFTER: 3.0, SINKHORN: 6.0}))))
    assert found["two"].verdict == found["steps"].verdict == found["dropped"].verdict == "not supported"
    assert f"practically the same as {AFTER}" in found["two"].sentence
    assert f"better than {BEFORE}" in found["two"].sentence
    assert f"worse than {SINKHORN}" in found["dropped"].sentence
    assert found["gate"].verdict == found["learned"].verdict == found["balance"].verdict == "supported"


def test_what_decides_nothing_is_said_beside() -> None:
    """After or before softmax, and balanced or not, with the sign of the difference."""
    found = report(results(shifted(3.0, {UNBALANCED: -4.0})))
    (section,) = [each for each in found.sections if each.key == "balance"]
    (said,) = [line for line in section.text if line.startswith(f"Beside it, {BEFORE}")]
    assert "0.40 lower" in said
    assert UNBALANCED in said
    (section,) = [each for each in found.sections if each.key == "two"]
    (said,) = [line for line in section.text if line.startswith(f"Beside it, {AFTER}")]
    assert "practically the same" in said


def test_noise_decides_nothing() -> None:
    found = verdicts(report(results(shifted(0.0, wobble=30.0))))
    assert {verdict.verdict for verdict in found.values()} <= {"cannot tell", "not supported"}


@cache
def full() -> PlaceReport:
    return report(results(shifted(3.0)))


def test_figures_of_publications_are_those_that_were_read() -> None:
    """Every number in a finding, by reference; look a new one up in the publication first."""
    read = {"shazeer2017": {"1000"}, "fedus2022": {"7", "5"}}
    own = {key: each for key, each in REFERENCES.items() if key not in LATENT}
    assert set(REFERENCES) - set(own) == {"goodfellow2016", "correia2020", "martins2016", "bouthillier2021"}
    for key, reference in own.items():
        assert reference.key == key
        assert set(re.findall(r"\d+(?:\.\d+)?", reference.finding)) <= read.get(key, set())
        assert bool(reference.finding) == reference.verified
    assert {key for claim in CLAIMS for key in claim.references} <= set(REFERENCES)


def test_rivals_are_arms() -> None:
    for claim in CLAIMS:
        assert {*claim.against, *claim.without, *(arm for pair in claim.beside for arm in pair)} <= set(NAMES)


def test_the_page_shows_every_figure() -> None:
    found = full()
    figures = {figure.key: figure for section in found.sections for figure in section.figures}
    measured = {f"mixture-{name}" for name in ("error", "entropy", "load", "capped", "information")}
    assert measured | {"mixture-learning", "mixture-rates", "regions"} <= set(figures)
    for figure in figures.values():
        assert figure.rows
        assert figure.caption
        columns = set(figure.rows[0])
        assert all(set(row) == columns for row in figure.rows)
        assert {figure.x.column, figure.y.column} <= columns
    for key in measured:
        assert {row["arm"] for row in figures[key].rows} == set(NAMES)
    assert len(figures["regions"].rows) == len(NAMES) * 2 * 3
    of_one = [row for row in figures["regions"].rows if row["arm"] == SOFTMAX]
    # Experts 1 and 2 see most of the first disguise, 3 of the second: in this order.
    assert [row["value"] for row in of_one] == [0.5, 0.5, 0.0, 0.25, 0.25, 0.5]
    assert all(verdicts(found)[key].sentence in found.answer for key in ("gate", "two"))
    page = render(Report(title="t", places=(found,), pending=(), command="c", provenance={"command": "c"}))
    assert "Does softmax belong in the gate of a mixture of experts?" in page

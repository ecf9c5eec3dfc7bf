"""The verdicts on the memory from scores that are known: direction, words, regions, references, figures."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from softplace.report.page import render
from softplace.report.records import PlaceReport, Report, Verdict
from softplace.study.contest import Options
from softplace.study.contests import memory
from softplace.study.contests._learning_report import claim_for, held
from softplace.study.contests._report import SOFTMAX, Claim, decide
from softplace.study.contests.memory_arms import LSTM
from softplace.study.contests.memory_claims import CLAIMS
from softplace.study.contests.memory_references import REFERENCES
from softplace.study.contests.memory_report import headline, report
from softplace.study.plan import Tuning
from softplace.study.results import Results
from softplace.study.store import JSON, MemberRecord

N = 12
SEEDS = tuple(range(1, 2 * N, 2))
WHOLE = memory.contest(Options())
CONTEST = replace(WHOLE, tasks=tuple(replace(task, steps=100) for task in WHOLE.tasks))  # short curves
COPY = CONTEST.tasks[0]
METRICS = {each.name: each for each in COPY.metrics}
ARMS = [arm.name for arm in CONTEST.arms]
Score = Callable[[str, str, int], float | None]


@cache
def trace(task: str, arm: str) -> JSON:
    """A trace as a member leaves one, of an untrained machine."""
    chosen = next(each for each in CONTEST.tasks if each.name == task)
    found = next(each for each in CONTEST.arms if each.name == arm)
    members = chosen.members(found, (1,), torch.device("cpu"))
    assert isinstance(members, memory.Machines)
    return members._addressing(0)[1]["trace"]


def results(
    score: Score, traced: tuple[str, ...] = (), diverged: Callable[[str, int], bool] = lambda arm, seed: False
) -> Results:
    """Results whose members have the scores `score(arm, metric, seed)`."""
    members: dict[str, dict[str, list[MemberRecord]]] = {}
    for task in CONTEST.tasks:
        groups = members[task.name] = {}
        for arm in ARMS:
            groups[arm] = []
            for place, seed in enumerate(SEEDS):
                curve = {"step": [20.0, 40.0], "bits": [5.0, 0.01]}
                probes: dict[str, JSON] = {"errors": [[2, 0.0], [8, 0.1], [16, 0.3]]}
                if arm != LSTM:
                    curve |= {"entropy": [3.0, 1.0], "sparsity": [0.0, 0.8]}
                    probes["entropy_steps"] = [[1.0, 2.0], [0.5, 0.1], [0.0, 0.0]]
                    if arm in traced and place < 2:
                        probes["trace"] = trace(task.name, arm)
                names = [each.name for each in task.metrics if arm != LSTM or each.name not in ("entropy", "sparsity")]
                groups[arm].append(
                    MemberRecord(
                        key=f"{task.name} {arm} {seed}",
                        place="memory",
                        contest="memory",
                        task=task.name,
                        arm=arm,
                        seed=seed,
                        learning_rate=0.01,
                        role="judge",
                        status="diverged" if diverged(arm, seed) else "reached",
                        steps=40,
                        seconds=1.0,
                        metrics={name: score(arm, name, seed) for name in names},
                        curve=curve,
                        probes=probes,
                        provenance_id=1,
                    )
                )
    tuning = {
        task.name: Tuning(
            grid=task.learning_rates,
            scores=dict.fromkeys(ARMS, (0.5, 0.4, *(0.6 for _ in task.learning_rates[2:]))),
            best=dict.fromkeys(ARMS, task.learning_rates[1]),
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


def shifted(softmax: float, others: Mapping[str, float] | None = None, wobble: float = 0.01) -> Score:
    """Softmax is better by `softmax` regions than the arms, in every metric; an arm in `others` by so many."""
    region = {claim.metric: region_of(claim) for claim in CLAIMS}

    def score(arm: str, metric: str, seed: int) -> float:
        by = softmax if arm == SOFTMAX else (others or {}).get(arm, 0.0)
        step = region.get(metric, 0.01)
        way = 1.0 if METRICS[metric].higher_is_better else -1.0
        noise = float(np.random.default_rng([seed, *arm.encode()]).normal())
        base = 0.9 if metric == "solved" else 10 * step  # most networks learn
        return base + way * step * by + wobble * step * noise

    return score


def region_of(claim: Claim) -> float:
    return claim_for(claim, COPY, 1.0).region  # both tasks have the same budget here


def verdicts(found: PlaceReport) -> Mapping[str, Verdict]:
    return {section.key: section.verdict for section in found.sections if section.verdict is not None}


def test_a_claim_that_softmax_is_better_reads_outcomes_the_other_way() -> None:
    assert decide(["better", "better"], "better") == "supported"
    assert decide(["worse", "worse"], "better") == "opposite"
    assert decide(["better", "cannot tell"], "better") == "cannot tell"
    assert decide(["worse", "cannot tell"], "better") == "not supported"
    assert decide(["better", "practically the same"], "better") == "not supported"
    assert decide(["worse", "worse"]) == "supported"


@pytest.mark.parametrize("softmax", [-3.0, 3.0, -0.5, 0.0])
def test_every_claim_goes_by_what_it_says(softmax: float) -> None:
    found = verdicts(report(results(shifted(softmax))))
    assert list(found) == [claim.key for claim in CLAIMS]
    for claim in CLAIMS:
        verdict, region = found[claim.key], region_of(claim)
        if abs(softmax) < 1:
            assert verdict.verdict == "not supported"  # practically the same
        else:
            assert verdict.verdict == ("supported" if (softmax > 0) == (claim.says == "better") else "opposite")
        better = 1.0 if METRICS[claim.metric].higher_is_better else -1.0
        assert verdict.estimate == pytest.approx(better * softmax * region, abs=0.05 * region)
        assert verdict.arms == (SOFTMAX, *claim.against)
        without = {SOFTMAX} | ({LSTM} if claim.metric == "entropy" else set())
        assert {each["reference"] for each in verdict.contrasts} == set(ARMS) - without
        assert set(verdict.references) <= set(REFERENCES)
        assert verdict.n == N


def test_one_rival_as_good_is_enough_against_a_claim() -> None:
    found = verdicts(report(results(shifted(3.0, {"entmax15": 3.0, "relu-normalised": 5.0}))))
    for kind in ("copy", "recall"):
        assert found[f"sparse-{kind}"].verdict == "not supported"
        assert "practically the same as entmax15" in found[f"sparse-{kind}"].sentence
        assert found[f"exponential-{kind}"].verdict == "not supported"
        assert "worse than relu-normalised" in found[f"exponential-{kind}"].sentence
        assert found[f"content-{kind}"].verdict == found[f"hard-{kind}"].verdict == "supported"
    assert found["addressing-copy"].verdict == "supported"


def test_noise_decides_nothing() -> None:
    found = verdicts(report(results(shifted(0.0, wobble=30.0))))
    assert {verdict.verdict for verdict in found.values()} <= {"cannot tell", "not supported"}


def test_a_network_that_diverged_counts_with_the_worst_score() -> None:
    lost = results(shifted(0.0), diverged=lambda arm, seed: arm == SOFTMAX and seed == SEEDS[0])
    for name, metric in METRICS.items():
        scores = lost.scores(COPY, name)
        assert scores is not None
        assert scores[SOFTMAX][0] == metric.worst
    assert report(lost).facts["judged networks that diverged"] == 2  # one per task


def test_regions_of_steps_are_a_share_of_the_budget() -> None:
    for claim in CLAIMS:
        if claim.metric == "steps_to_learn":
            assert claim_for(claim, replace(COPY, steps=700), 0.5).region == pytest.approx(35.0)
        else:
            assert claim_for(claim, COPY, 0.0) == claim


def test_what_softmax_rarely_learns_makes_nothing_practically_the_same() -> None:
    def score(arm: str, metric: str, seed: int) -> float:
        if metric == "solved":
            return float(seed == SEEDS[0])
        return float(COPY.steps) if metric == "steps_to_learn" else shifted(0.0)(arm, metric, seed)

    found = report(results(score))
    for section in found.sections:
        if section.verdict is not None and section.verdict.measure.startswith("steps to"):
            assert section.verdict.verdict == "cannot tell"
            assert "Nothing counts as practically the same." in section.verdict.criterion
            assert any("of the networks with softmax learned it in" in text for text in section.text)


@cache
def full() -> PlaceReport:
    return report(results(shifted(3.0), traced=(SOFTMAX, "sparsemax")))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.key)
def test_a_criterion_names_measure_arms_alpha_and_region(claim: Claim) -> None:
    text = verdicts(full())[claim.key].criterion
    assert METRICS[claim.metric].label in text
    assert all(arm in text for arm in claim.against)
    assert f"0.05 after Holm over {len(ARMS) - 1 - len(claim.without)} arms" in text
    assert f"within {region_of(claim) * claim.scale:g}" in text
    higher = METRICS[claim.metric].higher_is_better == (claim.says == "better")
    assert ("softmax is higher than" if higher else "softmax is lower than") in text
    assert f"opposite if it is {'worse' if claim.says == 'better' else 'better'} than each" in text


def test_figures_of_publications_are_those_that_were_read() -> None:
    """Every number in a finding, by reference; look a new one up in the publication first."""
    read = {"collier2018": {"2"}, "csordas2019": {"43"}, "bouthillier2021": {"51"}}
    for key, reference in REFERENCES.items():
        assert reference.key == key
        assert set(re.findall(r"\d+(?:\.\d+)?", reference.finding)) <= read.get(key, set())
        assert reference.bibtex.startswith(f"@misc{{{key},")
    assert {key for claim in CLAIMS for key in claim.references} <= set(REFERENCES)


def test_a_curve_that_stopped_early_goes_on_at_its_last_value() -> None:
    record = results(shifted(0.0)).members["copy"][SOFTMAX][0]
    assert held(record, "bits", [20.0, 40.0, 60.0, 80.0]) == [5.0, 0.01, 0.01, 0.01]


def test_the_page_shows_every_figure_of_the_issue() -> None:
    found = full()
    figures = {figure.key: figure for section in found.sections for figure in section.figures}
    for task in CONTEST.tasks:
        assert {f"{task.name}-learning", f"{task.name}-sizes", f"{task.name}-heads"} <= set(figures)
    assert {"solved", "copy-entropy", "copy-sparsity", "copy-read-steps", "copy-write-steps"} <= set(figures)
    for figure in figures.values():
        assert figure.rows
        assert figure.caption
        columns = set(figure.rows[0])
        assert all(set(row) == columns for row in figure.rows)
        assert {figure.x.column, figure.y.column} <= columns
        numbers = [value for row in figure.rows for value in row.values() if isinstance(value, float)]
        assert figure.kind == "steps" or all(math.isfinite(value) for value in numbers)  # no target: no number
    assert {row["arm"] for row in figures["copy-learning"].rows} == set(ARMS)
    assert {row["arm"] for row in figures["copy-entropy"].rows} == set(ARMS) - {LSTM}
    assert {row["arm"] for row in figures["copy-heads"].rows} == {SOFTMAX, "sparsemax"}
    last = [row for row in figures["copy-learning"].rows if row["arm"] == SOFTMAX][-1]
    assert last["step"] == COPY.steps
    assert last["bits"] == pytest.approx(0.01)
    page = render(Report(title="t", places=(found,), pending=(), command="c", provenance={"command": "c"}))
    assert "Is softmax the right map to address a memory?" in page


def test_the_answer_is_the_verdict_on_sparse_maps() -> None:
    assert all(verdicts(full())[f"sparse-{kind}"].sentence in full().answer for kind in ("copy", "recall"))


def test_claims_on_the_look_up_are_judged_on_both_tasks_and_titles_are_numbered() -> None:
    found = {claim.key: headline(results(shifted(0.0)), claim) for claim in CLAIMS}
    assert {key for key, task in found.items() if task is CONTEST.tasks[1]} == {
        f"{key}-recall" for key in ("content", "sparse", "hard", "exponential")
    }
    assert [claim.title.split(".")[0] for claim in CLAIMS] == [
        "1",
        *(f"{n}{ab}" for n in "2345" for ab in "ab"),
        "6",
        "7",
    ]
    for claim in CLAIMS:
        assert "{" not in claim.title + claim.text
        if claim.metric == "steps_to_learn":
            assert ("associative recall" in claim.text) == claim.key.endswith("-recall")

"""The verdicts on attention from scores that are known: direction, words, regions, references, figures."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from softplace.report.page import render
from softplace.report.records import PlaceReport, Report, Verdict
from softplace.study.contest import Options
from softplace.study.contests import attention
from softplace.study.contests._learning_report import claim_for
from softplace.study.contests._report import SOFTMAX, Claim
from softplace.study.contests.attention_arms import FIXED, UNIFORM
from softplace.study.contests.attention_claims import CLAIMS, NETS, kind_of
from softplace.study.contests.attention_references import REFERENCES
from softplace.study.contests.attention_report import headline, report
from softplace.study.plan import Tuning
from softplace.study.results import Results
from softplace.study.store import JSON, MemberRecord

N = 12
SEEDS = tuple(range(1, 2 * N, 2))
CONTEST = attention.contest(Options())
TASKS = CONTEST.tasks
METRICS = {each.name: each for each in TASKS[0].metrics}
ARMS = [arm.name for arm in CONTEST.arms]
OF_WEIGHTS = ("alignment_error", "entropy", "sparsity")
Score = Callable[[str, str, int], float | None]


def results(score: Score, diverged: Callable[[str, int], bool] = lambda arm, seed: False) -> Results:
    """Results whose members have the scores `score(arm, metric, seed)`."""
    members: dict[str, dict[str, list[MemberRecord]]] = {}
    for task in TASKS:
        assert isinstance(task, attention.Translate)
        source, target = task.shown()
        weights: JSON = [[round(1 / len(source), 3)] * len(source) for _ in target]
        groups = members[task.name] = {}
        for arm in ARMS:
            groups[arm] = []
            for seed in SEEDS:
                probes: dict[str, JSON] = {"wrong": [[1, 0.0], [2, 0.1], [3, 0.3]]}
                if arm != FIXED:
                    probes["weights"] = weights
                names = [each.name for each in task.metrics if arm != FIXED or each.name not in OF_WEIGHTS]
                groups[arm].append(
                    MemberRecord(
                        key=f"{task.name} {arm} {seed}",
                        place="attention",
                        contest="attention",
                        task=task.name,
                        arm=arm,
                        seed=seed,
                        learning_rate=0.01,
                        role="judge",
                        status="diverged" if diverged(arm, seed) else "reached",
                        steps=40,
                        seconds=1.0,
                        metrics={name: score(arm, name, seed) for name in names},
                        curve={"step": [20.0, 40.0], "loss": [3.0, 0.01], "exact": [0.0, 1.0]},
                        probes=probes,
                        provenance_id=1,
                    )
                )
    tuning = {
        task.name: Tuning(
            grid=task.learning_rates,
            scores=dict.fromkeys(ARMS, (0.5, 0.4, 0.6)),
            best=dict.fromkeys(ARMS, task.learning_rates[1]),
        )
        for task in TASKS
    }
    return Results(
        contest=CONTEST,
        seeds=SEEDS,
        tune_seeds=tuple(range(0, 2 * N, 2)),
        tunings=tuning,
        members=members,
        seconds=1.0,
    )


def region_of(claim: Claim) -> float:
    task = next(each for each in TASKS if each.name == kind_of(claim))
    return claim_for(claim, task, 1.0).region


def shifted(softmax: float, others: Mapping[str, float] | None = None, wobble: float = 0.01) -> Score:
    """Softmax is better by `softmax` regions than the arms, in every metric; an arm in `others` by so many."""
    region = {claim.metric: region_of(claim) for claim in CLAIMS if claim.key.endswith("rnnsearch")}

    def score(arm: str, metric: str, seed: int) -> float:
        by = softmax if arm == SOFTMAX else (others or {}).get(arm, 0.0)
        step = region.get(metric, 0.01)
        way = 1.0 if METRICS[metric].higher_is_better else -1.0
        noise = float(np.random.default_rng([seed, *arm.encode()]).normal())
        base = 0.9 if metric == "solved" else 10 * step  # most networks learn
        return base + way * step * by + wobble * step * noise

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
        assert verdict.arms == (SOFTMAX, *claim.against)
        assert {each["reference"] for each in verdict.contrasts} == set(ARMS) - {SOFTMAX} - set(claim.without)
        assert set(verdict.references) <= set(REFERENCES)
        assert verdict.n == N


def test_one_rival_as_good_is_enough_against_a_claim() -> None:
    found = verdicts(report(results(shifted(3.0, {"entmax15": 3.0, "sigmoid": 5.0}))))
    for kind in NETS:
        assert found[f"sparse-{kind}"].verdict == "not supported"
        assert "practically the same as entmax15" in found[f"sparse-{kind}"].sentence
        assert found[f"sum-{kind}"].verdict == "not supported"
        assert "worse than sigmoid" in found[f"sum-{kind}"].sentence
        assert found[f"needed-{kind}"].verdict == found[f"hard-{kind}"].verdict == "supported"


def test_noise_decides_nothing() -> None:
    found = verdicts(report(results(shifted(0.0, wobble=30.0))))
    assert {verdict.verdict for verdict in found.values()} <= {"cannot tell", "not supported"}


def test_a_network_that_diverged_counts_with_the_worst_score() -> None:
    lost = results(shifted(0.0), diverged=lambda arm, seed: arm == SOFTMAX and seed == SEEDS[0])
    for name, metric in METRICS.items():
        scores = lost.scores(TASKS[0], name)
        assert scores is not None
        assert scores[SOFTMAX][0] == metric.worst
    assert report(lost).facts["judged networks that diverged"] == 2  # one per task


def test_what_softmax_rarely_learns_makes_nothing_practically_the_same() -> None:
    def score(arm: str, metric: str, seed: int) -> float:
        if metric == "solved":
            return float(seed == SEEDS[0])
        return float(TASKS[0].steps) if metric == "steps_to_learn" else shifted(0.0)(arm, metric, seed)

    found = report(results(score))
    judged = [each for each in found.sections if each.verdict is not None and each.key.startswith("sparse")]
    assert len(judged) == 2
    for section in judged:
        assert section.verdict is not None
        assert section.verdict.verdict == "cannot tell"
        assert "Nothing counts as practically the same." in section.verdict.criterion
        assert any("of the networks with softmax learned it in" in text for text in section.text)


@cache
def full() -> PlaceReport:
    return report(results(shifted(3.0)))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.key)
def test_a_criterion_names_measure_arms_alpha_and_region(claim: Claim) -> None:
    text = verdicts(full())[claim.key].criterion
    assert METRICS[claim.metric].label in text
    assert all(arm in text for arm in claim.against)
    assert f"0.05 after Holm over {len(ARMS) - 1 - len(claim.without)} arms" in text
    assert f"within {region_of(claim) * claim.scale:g}" in text


def test_claims_are_of_each_net_and_their_titles_are_numbered() -> None:
    for claim in CLAIMS:
        task = headline(results(shifted(0.0)), claim)
        assert task is not None
        assert task.name == kind_of(claim)
        assert "{" not in claim.title + claim.text
        assert NETS[kind_of(claim)] in claim.text
    assert [claim.title.split(".")[0] for claim in CLAIMS] == [f"{n}{ab}" for n in "1234567" for ab in "ab"]
    assert {claim.against for claim in CLAIMS if claim.key.startswith(("needed", "beyond"))} == {(UNIFORM, FIXED)}


def test_figures_of_publications_are_those_that_were_read() -> None:
    """Every number in a finding, by reference; look a new one up in the publication first."""
    read = {"bouthillier2021": {"51"}}
    for key, reference in REFERENCES.items():
        assert reference.key == key
        assert set(re.findall(r"\d+(?:\.\d+)?", reference.finding)) <= read.get(key, set())
        assert reference.bibtex.startswith(f"@misc{{{key},")
    assert {key for claim in CLAIMS for key in claim.references} <= set(REFERENCES)


def test_the_page_shows_every_figure_of_the_issue() -> None:
    found = full()
    figures = {figure.key: figure for section in found.sections for figure in section.figures}
    for task in TASKS:
        assert {f"{task.name}-learning", f"{task.name}-lengths", f"{task.name}-weights"} <= set(figures)
    assert "solved" in figures
    for figure in figures.values():
        assert figure.rows
        assert figure.caption
        columns = set(figure.rows[0])
        assert all(set(row) == columns for row in figure.rows)
        assert {figure.x.column, figure.y.column} <= columns
        assert all(math.isfinite(value) for row in figure.rows for value in row.values() if isinstance(value, float))
    assert {row["arm"] for row in figures["rnnsearch-learning"].rows} == set(ARMS)
    assert {row["arm"] for row in figures["rnnsearch-weights"].rows} == set(ARMS) - {FIXED}
    wrong = [row for row in figures["rnnsearch-lengths"].rows if row["arm"] == SOFTMAX]
    assert [(row["size"], row["wrong"]) for row in wrong] == [(1, 0.0), (2, 10.0), (3, 30.0)]
    last = [row for row in figures["rnnsearch-learning"].rows if row["arm"] == SOFTMAX][-1]
    assert last["step"] == TASKS[0].steps
    assert last["loss"] == pytest.approx(0.01)
    page = render(Report(title="t", places=(found,), pending=(), command="c", provenance={"command": "c"}))
    assert "Is softmax the right map from scores to weights in attention?" in page


def test_the_answer_is_the_verdict_on_sparse_maps() -> None:
    assert all(verdicts(full())[f"sparse-{kind}"].sentence in full().answer for kind in NETS)


def test_what_cannot_be_measured_has_no_claim() -> None:
    """Where nobody knows the links, as in a person's own text."""

    def score(arm: str, metric: str, seed: int) -> float | None:
        return None if metric == "alignment_error" else shifted(3.0)(arm, metric, seed)

    found = results(score)
    for groups in found.members.values():
        for records in groups.values():
            records[:] = [
                replace(each, metrics={k: v for k, v in each.metrics.items() if v is not None}) for each in records
            ]
    keys = [section.key for section in report(found).sections]
    assert "sharpness-rnnsearch" in keys
    assert not {key for key in keys if key.startswith("alignment")}

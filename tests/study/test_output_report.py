"""The verdicts on the output from scores that are known: direction, regions, references, figures."""

import math
import re
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pytest

from softplace.report.page import render
from softplace.report.records import Figure, PlaceReport, Report, Verdict
from softplace.study.contest import Options
from softplace.study.contests import output
from softplace.study.contests._report import SOFTMAX
from softplace.study.contests.hidden_references import REFERENCES as HIDDEN
from softplace.study.contests.output_arms import ARMS, DOUBLE, ENTMAX, HINGE, LINEAR, SIGMOIDS, SPARSEMAX, SQUARED
from softplace.study.contests.output_claims import CLAIMS, OTHERS
from softplace.study.contests.output_references import REFERENCES
from softplace.study.contests.output_report import FEWEST, LEADS, headline, report, with_accuracy_lost
from softplace.study.plan import Tuning
from softplace.study.results import Results
from softplace.study.store import JSON, MemberRecord

N = 12
SEEDS = tuple(range(1, 2 * N, 2))
CONTEST = output.contest(Options())
CLEAN, NOISY = CONTEST.tasks
METRICS = {each.name: each for each in NOISY.metrics}
NAMES = [arm.name for arm in ARMS]
REGION = {claim.metric: claim.region for claim in CLAIMS}
Score = Callable[[str, str, int], float | None]


def probes(arm: str) -> dict[str, JSON]:
    """As a member leaves them: bins of 15, and two rows of three classes."""
    bins = [[0.0, 0.0, 0.0]] * 13 + [[1.0, 0.9, 1.0], [30.0, 29.5, 30.0 if arm == SOFTMAX else 15.0]]
    rows: JSON = [[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]
    return {"bins": bins, "labels": [0, 2], "scores": rows, "weights": rows, "gradient": rows}


def results(
    score: Score,
    lost: Score | None = None,
    diverged: Callable[[str, str, int], bool] = lambda task, arm, seed: False,
    contest: output.Contest = CONTEST,
) -> Results:
    """Results whose members have the scores `score(arm, metric, seed)`; `lost` is what wrong labels take away."""
    members: dict[str, dict[str, list[MemberRecord]]] = {}
    for task in contest.tasks:
        members[task.name] = {}
        for arm in contest.arms:
            records = members[task.name][arm.name] = []
            for seed in SEEDS:
                metrics = {each.name: score(arm.name, each.name, seed) for each in task.metrics}
                if "accuracy_lost" in metrics:
                    took, before = metrics.pop("accuracy_lost"), metrics["test_accuracy"]
                    assert took is not None
                    metrics["test_accuracy"] = None if before is None else before - took
                records.append(
                    MemberRecord(
                        key=f"{task.name} {arm.name} {seed}",
                        place="output",
                        contest="output",
                        task=task.name,
                        arm=arm.name,
                        seed=seed,
                        learning_rate=0.01,
                        role="judge",
                        status="diverged" if diverged(task.name, arm.name, seed) else "done",
                        steps=200,
                        seconds=1.0,
                        metrics=metrics,
                        curve={"step": [10.0, 200.0], "validation_accuracy": [0.5, 0.9]},
                        probes=probes(arm.name),
                        provenance_id=1,
                    )
                )
    names = [arm.name for arm in contest.arms]
    tuning = Tuning(
        grid=CLEAN.learning_rates,
        scores=dict.fromkeys(names, (0.5, 0.9, *(0.6 for _ in CLEAN.learning_rates[2:]))),
        best=dict.fromkeys(names, CLEAN.learning_rates[1]),
    )
    return Results(
        contest=contest,
        seeds=SEEDS,
        tune_seeds=tuple(range(0, 2 * N, 2)),
        tunings={task.name: tuning for task in contest.tasks},
        members=members,
        seconds=1.0,
    )


def shifted(softmax: float, others: Mapping[str, float] | None = None, wobble: float = 0.01) -> Score:
    """Softmax is better by so many regions than the arms, in every metric; an arm in `others` by so many."""

    def score(arm: str, metric: str, seed: int) -> float:
        by = softmax if arm == SOFTMAX else (others or {}).get(arm, 0.0)
        step = REGION.get(metric, 0.01)
        way = 1.0 if METRICS[metric].higher_is_better else -1.0
        noise = float(np.random.default_rng([seed, *arm.encode(), *metric.encode()]).normal())
        return 10 * step + way * step * by + wobble * step * noise

    return score


def verdicts(found: PlaceReport) -> Mapping[str, Verdict]:
    return {section.key: section.verdict for section in found.sections if section.verdict is not None}


def figures(found: PlaceReport) -> dict[str, Figure]:
    return {figure.key: figure for section in found.sections for figure in section.figures}


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
        assert set(verdict.arms[1:]) == set(claim.against)
        assert verdict.n == N
        assert METRICS[claim.metric].label in verdict.criterion
        assert f"within {claim.scale * claim.region:g}" in verdict.criterion
        assert "after Holm over 9 arms" in verdict.criterion


def test_one_rival_as_good_is_enough_against_a_claim() -> None:
    found = verdicts(report(results(shifted(3.0, {SQUARED: 3.0, ENTMAX: 6.0}))))
    assert found["squared"].verdict == found["calibration"].verdict == found["gradient"].verdict == "not supported"
    assert f"practically the same as {SQUARED}" in found["calibration"].sentence
    assert f"better than {LINEAR}" in found["calibration"].sentence
    assert f"worse than {ENTMAX}" in found["sparse"].sentence
    assert found["linear"].verdict == found["brier"].verdict == found["double-loss"].verdict == "supported"


def test_noise_decides_nothing() -> None:
    found = verdicts(report(results(shifted(0.0, wobble=30.0))))
    assert {verdict.verdict for verdict in found.values()} <= {"cannot tell", "not supported"}


def test_a_sentence_about_one_rival_agrees_with_its_verdict() -> None:
    """A p of 0.02 decides nothing after Holm over nine arms: then the sentence must not say "better"."""

    def score(arm: str, metric: str, seed: int) -> float:
        place = SEEDS.index(seed)
        gain = (3.0 if place != 0 else -3.0) + place / 100 if arm == SOFTMAX else 0.0
        return shifted(0.0)(arm, metric, seed) + (0.01 * gain if metric == "test_accuracy" else 0.0)

    found = verdicts(report(results(score)))["hinge"]
    (contrast,) = [each for each in found.contrasts if each["reference"] == HINGE]
    assert contrast["outcome"] in found.sentence
    assert "after Holm" in found.sentence


def test_accuracy_lost_is_that_of_the_same_seed() -> None:
    """Softmax loses one point more with every seed, its accuracy without wrong labels jumps about."""

    def score(arm: str, metric: str, seed: int) -> float:
        if metric == "accuracy_lost":
            return 0.01 * seed if arm == SOFTMAX else 0.05
        return 0.5 + 0.4 * ((7 * seed) % 5) / 5

    found = with_accuracy_lost(results(score))
    scores = found.scores(NOISY, "accuracy_lost")
    assert scores is not None
    assert scores[SOFTMAX].tolist() == pytest.approx([0.01 * seed for seed in SEEDS])
    assert scores[SIGMOIDS].tolist() == pytest.approx([0.05] * N)
    assert headline(found, "accuracy_lost") is NOISY
    assert headline(found, "test_accuracy") is CLEAN
    assert all("accuracy_lost" not in record.metrics for record in found.members[CLEAN.name][SOFTMAX])


@pytest.mark.parametrize("task", [CLEAN.name, NOISY.name])
def test_a_network_that_diverged_on_either_side_counts_with_the_worst_loss(task: str) -> None:
    made = results(shifted(0.0), diverged=lambda name, arm, seed: (name, arm, seed) == (task, SOFTMAX, SEEDS[2]))
    scores = with_accuracy_lost(made).scores(NOISY, "accuracy_lost")
    assert scores is not None
    assert scores[SOFTMAX][2] == 1.0
    assert max(scores[SOFTMAX][0], scores[SIGMOIDS][2]) < 0.2
    assert report(made).facts["judged networks that diverged"] == 1


def test_maps_of_a_person_have_claims_of_their_own() -> None:
    contest = output.contest(Options(maps=("sigsoftmax", "double softmax")))
    found = verdicts(report(results(shifted(3.0), contest=contest)))
    assert list(found) == [
        "double-steps",
        "double-accuracy",
        "double-loss",
        "gradient",
        *(claim.key for claim in OTHERS),
    ]
    for claim in OTHERS:
        assert found[claim.key].verdict == "supported"
        assert found[claim.key].arms == (SOFTMAX, "sigsoftmax")
    assert found["gradient"].arms == (SOFTMAX, DOUBLE)


@cache
def full() -> PlaceReport:
    return report(results(shifted(3.0)))


def test_figures_of_publications_are_those_that_were_read() -> None:
    """Every number in a finding, by reference; look a new one up in the publication first."""
    read = {"golik2013": {"30.9", "30.5", "22.7", "21.9"}, "debrebisson2016": {"10"}, "tang2013": {"2", "10"}}
    own = {key: each for key, each in REFERENCES.items() if key not in HIDDEN}
    assert set(REFERENCES) - set(own) == {"bouthillier2021"}
    for key, reference in own.items():
        assert reference.key == key
        assert set(re.findall(r"\d+(?:\.\d+)?", reference.finding)) <= read.get(key, set())
        assert bool(reference.finding) == reference.verified
    cited = {key for claim in CLAIMS for key in claim.references}
    assert cited | {"bouthillier2021"} == set(REFERENCES)


def test_rivals_are_arms() -> None:
    for claim in CLAIMS:
        assert set(claim.against) <= set(NAMES)
    assert {arm for claim in CLAIMS for arm in claim.against} == set(NAMES) - {SOFTMAX}


def test_the_page_shows_every_figure() -> None:
    found = full()
    drawn = figures(found)
    own = {"clean digits-rates", "clean digits-learning", "noisy digits-learning", "clean digits-reliability"}
    assert own | {"lead", "clean digits-zero_share", "examples"} <= set(drawn)
    for figure in drawn.values():
        assert figure.rows
        assert figure.caption
        columns = set(figure.rows[0])
        assert all(set(row) == columns for row in figure.rows)
        assert {figure.x.column, figure.y.column} <= columns
    assert all(verdicts(found)[key].sentence in found.answer for key in ("squared", "double-steps"))
    page = render(Report(title="t", places=(found,), pending=(), command="c", provenance={"command": "c"}))
    assert "Does softmax belong at the output?" in page
    assert "e / (e + 9) at most" in page
    assert "= 1.46 nats" in page  # ln(1 + 9 / e)


def test_gradients_by_the_lead_are_those_of_a_formula() -> None:
    figure = figures(full())["lead"]
    found = {(row["arm"], row["lead"]): row["gradient"] for row in figure.rows}
    assert {arm for arm, _ in found} == set(NAMES)
    for lead in LEADS:
        e = math.exp
        total = e(lead / 2) + e(-lead / 2) + 8
        right, wrong, rest = e(-lead / 2) / total, e(lead / 2) / total, 1 / total
        wanted = math.sqrt((right - 1) ** 2 + wrong**2 + 8 * rest**2)
        assert found[SOFTMAX, lead] == pytest.approx(wanted)
        assert found[LINEAR, lead] == pytest.approx(2 * math.sqrt((lead / 2 + 1) ** 2 + lead**2 / 4))
        assert found[HINGE, lead] == pytest.approx(math.sqrt(2))
        p = np.array([right, wrong, *[rest] * 8])
        y = np.eye(10)[0]
        assert found[SQUARED, lead] == pytest.approx(np.linalg.norm(2 * (np.diag(p) - np.outer(p, p)) @ (p - y)))
        again = np.exp(p) / np.exp(p).sum()
        assert found[DOUBLE, lead] == pytest.approx(np.linalg.norm((np.diag(p) - np.outer(p, p)) @ (again - y)))
    assert found[SPARSEMAX, 20.0] == pytest.approx(math.sqrt(2))


def test_reliability_and_examples_are_what_the_members_left() -> None:
    drawn = figures(full())
    rows = [row for row in drawn["clean digits-reliability"].rows if row["arm"] == SIGMOIDS]
    # The bin before the last has 12 rows of 12 seeds: fewer than FEWEST.
    assert N < FEWEST
    assert [(row["confidence"], row["accuracy"], row["rows"]) for row in rows] == [
        (pytest.approx(29.5 / 30), 0.5, 30 * N)
    ]
    gap = 100 * (29.5 + 0.9 - 16) / 31
    assert f"{SIGMOIDS} {gap:+.1f}" in drawn["clean digits-reliability"].caption
    examples = drawn["examples"].rows
    assert examples[0]["arm"] == DOUBLE  # what a reader sees first
    panels = [row for row in examples if row["arm"] == HINGE and row["panel"] == "the arm: gradient"]
    assert [row["value"] for row in panels] == [0.5, 0.25, 0.25, 0.0, 1.0, 0.0]
    label = [row["value"] for row in examples if row["arm"] == HINGE and row["panel"] == "the label"]
    assert label[:10] == [1.0, *[0.0] * 9]
    assert label[10:] == [0.0, 0.0, 1.0, *[0.0] * 7]

"""Curricula: what share of lessons they choose, and when they go on."""

import json
from collections.abc import Callable

import pytest
import torch
from scipy import stats

from softplace.errors import InputError
from softplace.memory.tasks import curriculum
from softplace.memory.tasks.curriculum import Advance, Curriculum, Linear, Mixed, Progress, Uniform


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chosen(kind: Curriculum, progress: Progress, count: int, draws: int = 4000) -> list[int]:
    generator = seeded()
    return torch.bincount(
        torch.tensor([kind.choose(progress, count, generator) for _ in range(draws)]), minlength=count
    ).tolist()


def test_uniform_is_the_task_itself() -> None:
    assert chosen(Uniform(), Progress(), 5, 20) == [0, 0, 0, 0, 20]
    assert Uniform().record(Progress(), 5, 4, 8, 0.0) == Progress(sequences=8)


def test_linear_gives_each_lesson_the_same_share() -> None:
    kind, progress, seen = Linear(over=120), Progress(), []
    for _ in range(20):
        lesson = kind.choose(progress, 4, seeded())
        assert lesson == progress.lesson
        seen.append(lesson)
        progress = kind.record(progress, 4, lesson, 10, 1.0)
    assert seen == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 11


def test_advance_mixes_in_a_tenth_of_earlier_lessons() -> None:
    counts = chosen(Advance(), Progress(lesson=3), 6)
    assert counts[4:] == [0, 0]
    assert stats.chisquare(counts[:4], [4000 / 30] * 3 + [3600]).pvalue > 1e-3
    assert chosen(Advance(), Progress(), 6, 50) == [50, 0, 0, 0, 0, 0]
    assert chosen(Advance(), Progress(lesson=9), 1, 50) == [50]


def test_advance_goes_on_when_the_error_of_its_own_lesson_is_low() -> None:
    kind = Advance(threshold=0.1, window=30)
    progress = Progress(lesson=1)
    progress = kind.record(progress, 4, 0, 100, 0.0)  # of an earlier lesson: not measured
    assert progress == Progress(lesson=1, sequences=100)
    progress = kind.record(progress, 4, 1, 20, 0.05)
    assert (progress.lesson, progress.measured) == (1, 20)
    progress = kind.record(progress, 4, 1, 10, 0.19)  # mean 0.0967
    assert progress == Progress(lesson=2, sequences=130)
    for error in (0.2, 0.1):  # a mean of exactly the threshold is not below it
        progress = kind.record(progress, 4, 2, 30, error)
        assert (progress.lesson, progress.measured, progress.error) == (2, 0, 0.0)
    for _ in range(5):
        progress = kind.record(progress, 4, progress.lesson, 30, 0.0)
    assert progress.lesson == 3


def test_mixed_draws_as_zaremba_and_sutskever() -> None:
    count, reached = 4, 1
    # C + e is 1 with chance 1/2, 2 with 1/4, 3 with 1/4 (the last takes the rest)
    hardest = {1: 0.5, 2: 0.25, 3: 0.25}
    expected = [0.1 / count] * count
    for lesson, chance in hardest.items():
        expected[lesson] += 0.65 * chance
        for below in range(lesson + 1):
            expected[below] += 0.25 * chance / (lesson + 1)
    counts = chosen(Mixed(), Progress(lesson=reached), count)
    assert stats.chisquare(counts, [4000 * each for each in expected]).pvalue > 1e-3


def test_mixed_is_judged_on_its_lesson_and_harder_ones() -> None:
    kind = Mixed(window=10, threshold=0.2)
    progress = kind.record(Progress(lesson=1), 3, 0, 10, 0.0)
    assert progress.lesson == 1
    assert kind.record(progress, 3, 2, 10, 0.19).lesson == 2
    assert kind.record(progress, 3, 1, 10, 0.2).lesson == 1


@pytest.mark.parametrize("name", curriculum.names())
def test_choices_are_lessons_and_depend_on_the_generator_alone(name: str) -> None:
    kind = curriculum.get(name)
    for count in (1, 2, 7):
        for progress in (Progress(), Progress(lesson=count - 1, sequences=10**9)):
            first, again = ([kind.choose(progress, count, g) for _ in range(30)] for g in (seeded(3), seeded(3)))
            assert first == again
            assert set(first) <= set(range(count))


@pytest.mark.parametrize("name", curriculum.names())
def test_progress_survives_json(name: str) -> None:
    kind = curriculum.get(name)
    progress = kind.record(Progress(), 3, kind.choose(Progress(), 3, seeded()), 7, 0.3)
    assert Progress(*json.loads(json.dumps(progress))) == progress


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: curriculum.get("advanced"), "Unknown curriculum 'advanced'. Did you mean 'advance'?"),
        (lambda: curriculum.get("advance", treshold=1), "Curriculum 'advance' has no option 'treshold'. Did you mean"),
        (lambda: Advance(threshold=2), "'threshold' must be a number from 0 to 1. Got 2"),
        (lambda: Advance(window=0), "'window' must be a whole number of at least 1"),
        (lambda: Linear(over=0), "'over' must be a whole number"),
        (lambda: Mixed(anywhere=0.6, below=0.6), "at most 1 together"),
    ],
)
def test_what_cannot_be_used_is_said(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()

"""Prediction sets: scores and ranks by hand, coverage against its exact distribution."""

import itertools
import math
import re

import pytest
import scipy.stats
import torch
from torch import Tensor

from softplace import output
from softplace.errors import InputError
from softplace.output.conformal import SCORES
from softplace.randomness import generator


def sample(*shape: int, seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Probabilities that are wrong (too sure), and labels: coverage needs no right ones."""
    source = generator(seed, "conformal", *shape)
    logits = torch.randn(*shape, generator=source, dtype=torch.float64)
    chance = torch.softmax(logits, -1).flatten(0, -2)
    labels = torch.multinomial(chance, 1, generator=source).view(shape[:-1])
    return torch.softmax(scale * logits, -1), labels


def test_scores_by_hand() -> None:
    p = torch.tensor([0.2, 0.5, 0.2, 0.1], dtype=torch.float64)
    u = torch.tensor([0.25], dtype=torch.float64)
    assert output.lac_score(p).tolist() == pytest.approx([0.8, 0.5, 0.8, 0.9])
    assert output.aps_score(p).tolist() == pytest.approx([0.5, 0.0, 0.7, 0.9])
    assert output.aps_score(p, u).tolist() == pytest.approx([0.55, 0.125, 0.75, 0.925])
    raps = output.RAPS(penalty=0.1, free=1)
    assert raps(p, u).tolist() == pytest.approx([0.65, 0.125, 0.95, 1.225])
    assert output.RAPS(penalty=0.1, free=3, randomised=False)(p, u).tolist() == pytest.approx([0.5, 0.0, 0.7, 1.0])


@pytest.mark.parametrize(
    ("rows", "alpha", "rank"),
    [(9, 0.1, 9), (10, 0.1, 10), (19, 0.1, 18), (99, 0.05, 95), (6, 0.3, 5), (999, 0.001, 999)],
)
def test_the_threshold_is_the_score_of_the_right_rank(rows: int, alpha: float, rank: int) -> None:
    top = torch.linspace(0.55, 0.95, rows, dtype=torch.float64)
    probabilities = torch.stack([top, 1 - top], -1)[torch.randperm(rows, generator=generator(0))]
    sets = output.fit_sets(probabilities, torch.zeros(rows, dtype=torch.long), alpha=alpha)
    assert sets.threshold.item() == pytest.approx((1 - top).sort().values[rank - 1].item(), abs=1e-15)
    assert sets.rows == (rows,)


@pytest.mark.parametrize("score", [*SCORES])
def test_coverage_has_the_beta_binomial_distribution(score: str) -> None:
    """Many calibrations of 39 rows, each with 20 new rows: the exact distribution of how many labels are covered."""
    probabilities, labels = sample(6000, 59, 4)
    sets = output.fit_sets(probabilities[:, :39], labels[:, :39], alpha=0.2, score=score, generator=generator(1))
    inside = sets(probabilities[:, 39:], generator=generator(2))
    counts = (output.coverage(inside, labels[:, 39:]) * 20).round().long()
    law = scipy.stats.betabinom(20, 39 + 1 - 8, 8)
    ends = [-1, *range(11, 21)]
    expected = [6000 * (law.cdf(high) - law.cdf(low)) for low, high in itertools.pairwise(ends)]
    observed = [int(((counts > low) & (counts <= high)).sum()) for low, high in itertools.pairwise(ends)]
    assert sum(observed) == 6000
    if score == "aps-fixed":  # of every label that is the likeliest class the score is 0: ties, and more coverage
        assert counts.double().mean() / 20 >= 0.8
    else:
        assert scipy.stats.chisquare(observed, expected).pvalue > 1e-4


def test_coverage_by_class_holds_for_every_class() -> None:
    source = generator(0, "by class")
    runs, wide = [], []
    for _ in range(300):
        logits = torch.randn(400, 3, generator=source, dtype=torch.float64)
        labels = torch.multinomial(torch.softmax(logits, -1), 1, generator=source)[:, 0]
        skewed = torch.softmax(logits + torch.tensor([2.0, 0.0, 0.0]), -1)  # the first class is favoured wrongly
        for by_class, found in ((True, runs), (False, wide)):
            sets = output.fit_sets(skewed[:200], labels[:200], alpha=0.2, by_class=by_class)(skewed[200:])
            found.append([output.coverage(sets[labels[200:] == c], labels[200:][labels[200:] == c]) for c in range(3)])
    covered, marginal = torch.tensor(runs), torch.tensor(wide)
    errors = covered.std(0) / math.sqrt(300)
    # Of n rows of the class the coverage is between 0.8 and 0.8 + 1 / (n + 1) in the mean; n is about 67.
    assert bool((covered.mean(0) > 0.8 - 4 * errors).all())
    assert bool((covered.mean(0) < 0.8 + 1 / 50 + 4 * errors).all())
    assert marginal.mean(0).max() > 0.9
    assert marginal.mean(0).min() < 0.75


def test_the_smallest_sets_are_those_of_lac_and_larger_where_it_is_harder_of_aps() -> None:
    probabilities, labels = sample(20_000, 8, scale=1.0)
    found = {
        name: output.fit_sets(probabilities[:10_000], labels[:10_000], score=name, generator=generator(0))(
            probabilities[10_000:], generator=generator(1)
        )
        for name in SCORES
    }
    sizes = {name: sets.sum(-1).double() for name, sets in found.items()}
    assert min(sizes, key=lambda name: sizes[name].mean()) == "lac"
    assert sizes["aps-fixed"].min() >= 1
    easy = probabilities[10_000:].max(-1).values > 0.7
    there = labels[10_000:]
    spread = {
        name: float(output.coverage(sets[easy], there[easy]) - output.coverage(sets[~easy], there[~easy]))
        for name, sets in found.items()
    }
    assert abs(spread["aps"]) < 0.03 < abs(spread["lac"])


def test_sets_are_batched_and_keep_unknown_rows_whole() -> None:
    probabilities, labels = sample(3, 50, 4)
    together = output.fit_sets(probabilities, labels)
    assert together.threshold.shape == (3, 1)
    alone = output.fit_sets(probabilities[1], labels[1])
    torch.testing.assert_close(together(probabilities)[1], alone(probabilities[1]))
    shared = output.fit_sets(probabilities, labels[0])
    assert output.coverage(shared(probabilities), labels[0]).shape == (3,)
    broken = probabilities[0].clone()
    broken[2, 1] = math.nan
    assert alone(broken)[2].all()
    torch.testing.assert_close(alone(broken)[3:], alone(probabilities[0])[3:])
    by_class = output.fit_sets(*sample(400, 3), by_class=True)
    assert by_class.threshold.shape == (3,)
    assert sum(by_class.rows) == 400
    float_sets = output.fit_sets(probabilities[0].float(), labels[0])(probabilities[0].float())
    assert float_sets.shape == (50, 4)


def test_a_score_of_ones_own() -> None:
    probabilities, labels = sample(100, 3)
    mine = output.fit_sets(probabilities, labels, score=lambda p, uniform: p.max(-1, keepdim=True).values - p)
    assert mine(probabilities).any(-1).all()  # the likeliest has a score of 0


def test_wrong_arguments_are_named() -> None:
    probabilities, labels = sample(50, 3)
    broken, late = probabilities.clone(), labels.clone()
    broken[7, 1], late[9] = math.nan, -1
    for given, options, says in (
        ((probabilities[:8], labels[:8]), {}, "must have 9 rows or more for alpha = 0.1. Got 8, of which only"),
        ((probabilities, labels * 0 + 1), {"by_class": True}, "must have 9 rows of class 0 or more .* Got 0"),
        ((probabilities, labels), {"alpha": 0}, "'alpha' of fit_sets must be between 0 and 1. Got 0"),
        ((probabilities, labels), {"alpha": 90}, "Got 90. Use 0.1 for a coverage of 90 %"),
        ((probabilities, labels), {"alpha": math.nan}, "Got nan"),
        ((probabilities, labels), {"score": "asp"}, "Got 'asp'. Did you mean 'aps'"),
        ((broken, labels), {}, "must be numbers. Got NaN in row 7"),
        ((probabilities, late), {}, "must be classes from 0 to 2. Got -1 in row 9"),
        ((probabilities, labels[:4]), {}, re.escape("must broadcast to (50,). Got (4,)")),
        ((probabilities * 2, labels), {}, "sum to 1 over the last axis. Got the sum 2 .* in row 0. Apply softmax"),
        ((probabilities.log(), labels), {}, "must be at least 0 and sum to 1"),
        ((probabilities[0], labels), {}, re.escape("must have the shape (..., N, C). Got (3,)")),
        ((probabilities[None], labels), {"by_class": True}, r"the shape \(N, C\) for thresholds by class"),
    ):
        with pytest.raises(InputError, match=says):
            output.fit_sets(*given, **options)
    with pytest.raises(TypeError, match=r"'probabilities' of fit_sets must be a floating-point tensor. Got list"):
        output.fit_sets(probabilities.tolist(), labels)
    with pytest.raises(TypeError, match=r"'labels' of fit_sets must be an integer tensor"):
        output.fit_sets(probabilities, labels.double())
    with pytest.raises(TypeError, match=r"'score' of fit_sets must be a callable or a name. Got int"):
        output.fit_sets(probabilities, labels, score=3)
    with pytest.raises(InputError, match=r"'penalty' and 'free' of RAPS must be finite and at least 0. Got -1 and 5"):
        output.RAPS(penalty=-1)
    with pytest.raises(InputError, match=r"Got 0\.01 and 1\.5\. Use"):
        output.RAPS(free=1.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"'sets' of coverage must be boolean"):
        output.coverage(probabilities, labels)
    sets = output.fit_sets(*sample(100, 3), by_class=True)
    with pytest.raises(InputError, match=r"must have 3 classes, as what it was fitted on"):
        sets(torch.full((2, 4), 0.25))

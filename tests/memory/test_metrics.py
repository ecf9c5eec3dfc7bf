"""The papers' measures against loops and numbers by hand.

Axes: T time, B batch, O outputs, V words.
"""

import math

import pytest
import torch
from scipy import stats

from softplace.errors import InputError
from softplace.memory.tasks import metrics
from softplace.memory.tasks.algorithmic import NGrams


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_bits_per_sequence_against_a_loop() -> None:
    outputs = torch.randn(6, 3, 4, generator=seeded(), dtype=torch.float64) * 3
    targets = torch.randint(0, 2, (6, 3, 4), generator=seeded(1)).double()
    mask = torch.rand(6, 3, generator=seeded(2)) < 0.5
    bits = metrics.bits_per_sequence(outputs, targets, mask)
    wrong = metrics.wrong_bits(outputs, targets, mask)
    for sequence in range(3):
        cost, mistakes = 0.0, 0
        for step in range(6):
            for channel in range(4):
                if mask[step, sequence]:
                    one = 1 / (1 + math.exp(-float(outputs[step, sequence, channel])))
                    target = bool(targets[step, sequence, channel])
                    cost -= math.log2(one if target else 1 - one)
                    mistakes += (one > 0.5) != target
        assert bits[sequence] == pytest.approx(cost, rel=1e-12)
        assert wrong[sequence] == mistakes
    assert metrics.counted_bits(targets, mask).tolist() == (4 * mask.sum(0)).tolist()


def test_what_does_not_count_has_no_gradient() -> None:
    outputs = torch.tensor([[[1.0]], [[float("inf")]]], requires_grad=True)
    metrics.bits_per_sequence(outputs, torch.ones(2, 1, 1), torch.tensor([[True], [False]])).sum().backward()
    assert outputs.grad is not None
    assert outputs.grad[0] == pytest.approx(-torch.sigmoid(torch.tensor(-1.0)).item() / math.log(2))
    assert outputs.grad[1] == 0


def test_the_cost_of_a_large_logit_is_exact() -> None:
    bits = metrics.bits_per_sequence(torch.tensor([[[-1000.0]]]), torch.ones(1, 1, 1), torch.ones(1, 1).bool())
    assert bits.item() == pytest.approx(1000 / math.log(2))


def test_contexts_have_the_latest_bit_lowest() -> None:
    bits = torch.tensor([[1], [1], [0], [1]])
    assert metrics.contexts(bits, 2).flatten().tolist() == [0, 1, 3, 2, 1]
    assert metrics.contexts(bits, 0).flatten().tolist() == [0] * 5


@pytest.mark.parametrize("context", [0, 1, 2, 5])
def test_the_optimum_against_a_loop_over_strings(context: int) -> None:
    bits = torch.randint(0, 2, (60, 4), generator=seeded(context))
    bits[:, 0] = 1
    best = metrics.ngram_optimum(bits.float(), context)
    assert best.dtype == torch.float64
    for sequence in range(4):
        text = "".join(map(str, bits[:, sequence].tolist()))
        cost = 0.0
        for step in range(60):
            if step < context:
                cost += 1.0
                continue
            past = text[step - context : step]
            followed = [text[i] for i in range(context, step) if text[i - context : i] == past]
            ones, zeros = followed.count("1"), followed.count("0")
            one = (ones + 0.5) / (ones + zeros + 1)
            cost -= math.log2(one if text[step] == "1" else 1 - one)
        assert best[sequence] == pytest.approx(cost, rel=1e-12)


def test_the_optimum_by_hand() -> None:
    # no context: 1, then (1 + 1/2) / 2, then 0 after two ones: 1 - (2 + 1/2) / 3
    bits = torch.tensor([[1.0], [1.0], [0.0]])
    estimates = metrics.ngram_estimates(bits, 0).flatten().tolist()
    assert estimates == pytest.approx([1 / 2, 3 / 4, 5 / 6])
    assert metrics.ngram_optimum(bits, 0).item() == pytest.approx(-math.log2(1 / 2 * 3 / 4 * 1 / 6))


def test_the_optimum_without_context_is_the_beta_binomial_likelihood() -> None:
    bits = torch.randint(0, 2, (40, 5), generator=seeded())
    for sequence, best in enumerate(metrics.ngram_optimum(bits.float(), 0).tolist()):
        ones = int(bits[:, sequence].sum())
        log_chance = stats.betabinom(40, 0.5, 0.5).logpmf(ones) - math.log(math.comb(40, ones))
        assert best == pytest.approx(-log_chance / math.log(2), rel=1e-10)


def test_the_mean_optimum_of_the_papers_setting_and_its_place_in_the_task() -> None:
    task = NGrams()
    episode = task.sample(1000, seeded())
    best = metrics.ngram_optimum(episode.targets[..., 0], 5)
    # 133.9 in 3,000 sequences of a separate simulation with NumPy; a sequence's standard deviation is 36
    assert abs(best.mean() - 133.9) < 4 * 36 / math.sqrt(1000)
    estimates = metrics.ngram_estimates(episode.targets[..., 0], 5)
    errors = task.errors(estimates.logit().unsqueeze(-1), episode)
    torch.testing.assert_close(errors["bits"], best)
    assert errors["above optimum"].abs().max() < 1e-9
    assert task.errors(torch.zeros(200, 1000, 1), episode)["above optimum"].mean() > 50


def test_word_bits_against_a_loop() -> None:
    outputs = torch.randn(5, 3, 7, generator=seeded(), dtype=torch.float64)
    targets = torch.randint(0, 7, (5, 3), generator=seeded(1))
    mask = torch.tensor([[1, 0, 0], [0, 0, 1], [1, 0, 1], [1, 0, 0], [0, 0, 1]]).bool()
    outputs.requires_grad_()
    bits = metrics.word_bits(outputs, targets, mask)
    for sequence in range(3):
        chances = outputs.detach()[:, sequence].softmax(-1)
        cost = sum(-math.log2(chances[t, targets[t, sequence]]) for t in range(5) if mask[t, sequence])
        assert bits[sequence].item() == pytest.approx(cost, rel=1e-12)
    (gradient,) = torch.autograd.grad(bits.sum(), outputs)
    assert torch.equal(gradient.abs().sum(-1) > 0, mask)
    uniform = metrics.word_bits(torch.zeros(5, 3, 8), targets, mask)
    torch.testing.assert_close(uniform, 3.0 * mask.sum(0))


def test_a_question_is_right_if_all_its_words_are() -> None:
    # runs: steps 0-1, step 3, steps 5-6
    mask = torch.tensor([1, 1, 0, 1, 0, 1, 1]).bool()
    targets = torch.tensor([1, 2, 0, 3, 0, 4, 5])
    answers = {(1, 2, 0, 3, 0, 4, 5): 0, (1, 2, 9, 3, 9, 4, 5): 0, (1, 0, 0, 3, 0, 4, 5): 1, (0, 0, 0, 3, 0, 4, 5): 1,
               (1, 2, 0, 0, 0, 0, 5): 2, (0, 2, 0, 0, 0, 4, 0): 3}  # fmt: skip
    said = torch.tensor(list(answers)).T
    outputs = torch.nn.functional.one_hot(said, 10).float()
    shape = (len(targets), len(answers))
    wrong, every = metrics.questions(
        outputs, targets.unsqueeze(1).expand(shape), mask.unsqueeze(1).expand(shape).contiguous()
    )
    assert wrong.tolist() == list(answers.values())
    assert every.tolist() == [3] * len(answers)


def test_questions_of_nothing() -> None:
    nothing = torch.zeros(4, 2, dtype=torch.bool)
    wrong, every = metrics.questions(torch.zeros(4, 2, 3), torch.zeros(4, 2).long(), nothing)
    assert wrong.tolist() == every.tolist() == [0, 0]
    wrong, every = metrics.questions(torch.zeros(0, 2, 3), torch.zeros(0, 2).long(), nothing[:0])
    assert wrong.tolist() == every.tolist() == [0, 0]


def test_figures_over_tasks() -> None:
    errors = {1: 0.0, 2: 0.05, 3: 0.0501, 19: 0.9}
    assert metrics.mean_error(errors) == pytest.approx(1.0001 / 4)
    assert metrics.failed_tasks(errors) == (3, 19)
    with pytest.raises(InputError, match="at least one task"):
        metrics.mean_error({})

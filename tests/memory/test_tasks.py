"""The algorithmic tasks against oracles that read a sequence's inputs and say what the answers are.

Axes: T time, B batch, I inputs, O outputs.
"""

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from softplace.errors import InputError
from softplace.memory import tasks
from softplace.memory.tasks import Episode
from softplace.memory.tasks.algorithmic import AssociativeRecall, BitTask, Copy, NGrams, PrioritySort, RepeatCopy
from softplace.memory.tasks.task import draw

Rows = list[list[float]]
BITS = ("copy", "repeat-copy", "associative-recall", "n-grams", "priority-sort")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def copy(rows: Rows) -> Rows:
    end = next(step for step, row in enumerate(rows) if row[9])
    assert rows[0] == [0.0] * 8 + [1.0, 0.0]
    assert rows[end] == [0.0] * 9 + [1.0]
    assert all(row[8:] == [0, 0] for row in rows[1:end])
    return [row[:8] for row in rows[1:end]]


def repeat_copy(rows: Rows) -> Rows:
    end = next(step for step, row in enumerate(rows) if row[9])
    assert rows[0] == [0.0] * 8 + [1.0, 0.0, 0.0]
    assert rows[end][:9] == [0.0] * 9
    times = round(rows[end][10] * math.sqrt(8.25) + 5.5)  # 1 .. 10 has mean 5.5 and variance 8.25
    assert abs((times - 5.5) / math.sqrt(8.25) - rows[end][10]) < 1e-6
    return [[*row[:8], 0.0] for row in rows[1:end]] * times + [[0.0] * 8 + [1.0]]


def recall(rows: Rows) -> Rows:
    items: list[Rows] = []
    query: Rows = []
    asked = 0
    for row in rows:
        if row[6]:
            assert row == [0.0] * 6 + [1.0, 0.0]
            items.append([])
        elif row[7]:
            assert row == [0.0] * 7 + [1.0]
            asked += 1
        elif asked == 1:
            query.append(row[:6])
        elif asked == 0:
            items[-1].append(row[:6])
    assert all(len(item) == 3 for item in [*items, query])
    assert sum(item == query for item in items) == 1
    return items[items.index(query) + 1]


def sort(rows: Rows) -> Rows:
    assert rows[0] == [0.0] * 9 + [1.0, 0.0]
    assert rows[21] == [0.0] * 10 + [1.0]
    shown = [(row[8], row[:8]) for row in rows[1:21]]
    assert all(-1 <= priority < 1 for priority, _ in shown)
    return [vector for _, vector in sorted(shown, key=lambda each: -each[0])][:16]


ORACLES: dict[str, Callable[[Rows], Rows]] = {
    "copy": copy,
    "repeat-copy": repeat_copy,
    "associative-recall": recall,
    "priority-sort": sort,
}


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("name", ORACLES)
def test_an_oracle_that_reads_the_inputs_says_the_targets(name: str, equal: bool) -> None:
    task = tasks.get(name, equal_lengths=equal)
    generator = seeded(1)
    for _ in range(8):
        episode = task.sample(16, generator)
        if equal:
            assert len(set(episode.lengths.tolist())) == 1
        assert episode.lengths.max() == len(episode.inputs)
        for number, length in enumerate(episode.lengths.tolist()):
            rows = episode.inputs[:length, number].tolist()
            counted = episode.mask[:, number]
            answers = ORACLES[name](rows)
            assert counted.nonzero().flatten().tolist() == list(range(length - len(answers), length))
            assert episode.targets[counted, number].tolist() == answers
            assert not episode.targets[~counted, number].any()
            assert not episode.inputs[length - len(answers) :, number].any()


def test_n_grams_show_the_bit_before() -> None:
    episode = NGrams().sample(7, seeded())
    assert episode.inputs.shape == episode.targets.shape == (200, 7, 1)
    assert torch.equal(episode.inputs[1:], episode.targets[:-1])
    assert not episode.inputs[0].any()
    assert episode.mask.all()
    assert set(episode.targets.unique().tolist()) == {0.0, 1.0}


def test_n_grams_have_a_table_of_the_arcsine_law_and_keep_to_it() -> None:
    shares = NGrams(order=1, length=2000).sample(800, seeded()).targets.mean((0, 2))
    assert stats.kstest(shares.numpy(), stats.beta(0.5, 0.5).cdf).pvalue > 1e-3
    bits = NGrams(order=3, length=6000).sample(20, seeded(2)).targets[..., 0].long()
    context = 2 * bits[:-2] + bits[1:-1]
    halves = [slice(0, 3000), slice(3000, None)]
    differences, expected = [], []
    for sequence in range(20):
        for value in range(4):
            seen = [bits[2:, sequence][half][context[half, sequence] == value].double() for half in halves]
            if min(map(len, seen)) > 50:
                differences.append(float(seen[0].mean() - seen[1].mean()))
                share = float(torch.cat(seen).mean())
                expected.append(share * (1 - share) * sum(1 / len(each) for each in seen))
    assert len(differences) > 40
    assert sum(each**2 for each in differences) < 2 * sum(expected)  # a table that changed would be far above
    assert bits.double().mean(0).std() > 0.1  # and the tables of sequences differ


def test_the_first_bits_of_n_grams_are_fair() -> None:
    bits = NGrams(length=5).sample(4000, seeded()).targets
    assert (bits.mean(1) - 0.5).abs().max() < 4 * 0.5 / math.sqrt(4000)


@pytest.mark.parametrize(
    ("task", "count"),
    [(Copy(), lambda t: t // 2 - 1), (AssociativeRecall(), lambda t: (t - 8) // 4)],
    ids=["copy", "recall"],
)
def test_lengths_are_uniform(task: BitTask, count: Callable[[Tensor], Tensor]) -> None:
    low, high = (1, 20) if task.name == "copy" else (2, 6)
    values = count(task.sample(4000, seeded(3)).lengths)
    frequencies = torch.bincount(values, minlength=high + 1)[low:]
    assert frequencies.sum() == 4000
    assert stats.chisquare(frequencies.numpy()).pvalue > 1e-3


def test_repeat_copy_draws_length_and_repeats_apart() -> None:
    episode = RepeatCopy().sample(4000, seeded())
    end = episode.inputs[..., 9].argmax(0)
    lengths = end - 1
    repeats = (episode.lengths - 3) // lengths - 1
    table = torch.zeros(10, 10).index_put_((lengths - 1, repeats - 1), torch.ones(4000), accumulate=True)
    assert stats.chisquare(table.flatten().numpy()).pvalue > 1e-3
    scaled = episode.inputs[end, torch.arange(4000), 10]
    assert abs(scaled.mean()) < 0.06
    assert abs(scaled.var() - 1) < 0.06


def test_queries_and_bits_are_uniform() -> None:
    episode = AssociativeRecall(items=5).sample(4000, seeded())
    shown = episode.inputs[:20].view(5, 4, 4000, 8)[:, 1:, :, :6]
    query = episode.inputs[21:24, :, :6]
    place = (shown == query).all(-1).all(1).float().argmax(0)
    assert place.max() == 3
    assert stats.chisquare(torch.bincount(place, minlength=4).numpy()).pvalue > 1e-3
    assert abs(shown.mean() - 0.5) < 4 * 0.5 / math.sqrt(shown.numel())


def test_items_differ_where_few_bits_make_them_collide() -> None:
    episode = AssociativeRecall(bits=2, vectors=2, items=4).sample(500, seeded())
    items = episode.inputs[:12].view(4, 3, 500, 4)[:, 1:, :, :2].permute(2, 0, 1, 3).flatten(2)
    assert all(len(each.unique(dim=0)) == 4 for each in items)
    with pytest.raises(InputError, match=r"distinct: 2 bits .* too few for 4 items. Use at least 4 bits"):
        AssociativeRecall(bits=1, vectors=2, items=4)


def test_equal_priorities_keep_the_order_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: torch.zeros(shape))
    episode = PrioritySort().sample(2, seeded())
    assert torch.equal(episode.targets[22:], episode.inputs[1:17, :, :8])


@pytest.mark.parametrize("name", BITS)
def test_perfect_logits_cost_nothing_and_zero_logits_one_bit_a_bit(name: str) -> None:
    task = tasks.get(name)
    episode = task.sample(6, seeded(5))
    counted = episode.mask.sum(0) * task.output_size
    zero = torch.zeros(*episode.mask.shape, task.output_size)
    torch.testing.assert_close(task.loss(zero, episode), counted.float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(task.loss(zero.double(), episode), counted.double(), rtol=1e-14, atol=0)
    perfect = 60 * episode.targets - 30
    perfect[~episode.mask] *= -1  # what does not count must not cost
    assert task.loss(perfect, episode).max() < 1e-9
    if name != "n-grams":
        assert not task.errors(perfect, episode)["wrong bits"].any()
        assert torch.equal(task.errors(-perfect, episode)["wrong bits"], counted.float())
        assert torch.equal(task.errors(-perfect, episode)["wrong share"], torch.ones(6))


def test_a_sequence_costs_the_same_alone_as_in_a_batch() -> None:
    task = Copy()
    episode = task.sample(5, seeded())
    outputs = torch.randn(*episode.targets.shape, generator=seeded(1), dtype=torch.float64)
    together = task.loss(outputs, episode)
    for number, length in enumerate(episode.lengths.tolist()):
        part = slice(number, number + 1)
        alone = Episode(
            episode.inputs[:length, part], episode.targets[:length, part], episode.mask[:length, part],
            episode.lengths[part],
        )  # fmt: skip
        torch.testing.assert_close(task.loss(outputs[:length, part], alone), together[part])


@pytest.mark.parametrize("name", BITS)
def test_equal_generators_draw_equal_episodes(name: str) -> None:
    task = tasks.get(name)
    first, again, other = (task.sample(4, seeded(seed)) for seed in (7, 7, 8))
    torch.manual_seed(1)  # the global generator has no part in it
    for each, same in zip(first, again, strict=True):
        assert torch.equal(each, same)
    assert first.inputs.shape != other.inputs.shape or not torch.equal(first.inputs, other.inputs)


@pytest.mark.parametrize("name", BITS)
def test_an_empty_batch(name: str) -> None:
    task = tasks.get(name)
    episode = task.sample(0, seeded())
    assert episode.inputs.shape[1:] == (0, task.input_size)
    outputs = torch.zeros(*episode.mask.shape, task.output_size)
    assert task.loss(outputs, episode).shape == (0,)
    assert all(each.shape == (0,) for each in task.errors(outputs, episode).values())


@pytest.mark.parametrize("name", BITS)
def test_every_level_and_what_is_longer_can_be_drawn_and_fits_the_net(name: str) -> None:
    task = tasks.get(name)
    for difficulty in (*task.levels, *task.longer.values()):
        episode = task.sample(2, seeded(), **difficulty)
        assert episode.inputs.shape[2] == task.input_size
        assert episode.targets.shape[2] == task.output_size
    assert task.harder(**task.levels[-1]) == task


def test_levels_are_harder_one_after_the_other() -> None:
    assert Copy(length=(2, 5)).levels == tuple({"length": (2, most)} for most in (2, 3, 4, 5))
    assert RepeatCopy(length=(1, 2), repeats=(1, 3)).levels == (
        {"length": (1, 1), "repeats": (1, 1)},
        {"length": (1, 2), "repeats": (1, 2)},
        {"length": (1, 2), "repeats": (1, 3)},
    )
    assert [each["highest"] for each in PrioritySort().levels] == [3, 6, 9, 12, 16]


def test_the_scale_of_repeats_does_not_depend_on_the_difficulty() -> None:
    task = RepeatCopy()
    episode = task.sample(1, seeded(), length=2, repeats=20)
    assert episode.inputs[3, 0, 10] == pytest.approx((20 - 5.5) / math.sqrt(8.25))
    one = RepeatCopy(repeats=1, scaled=1).sample(1, seeded(), length=1)
    assert one.inputs[2, 0].tolist() == [0.0] * 9 + [1.0, 0.0]


@pytest.mark.parametrize("name", BITS)
def test_presets_have_the_papers_sizes(name: str) -> None:
    task = tasks.get(name)
    ntm = task.preset("ntm")
    assert (ntm["slots"], ntm["width"], ntm["batch"], ntm["hidden_size"]) == (128, 20, 1, 100)
    assert task.preset("lstm")["layers"] == 3
    rates = {"n-grams": 3e-5, "priority-sort": 3e-5}
    assert ntm["learning_rate"] == rates.get(name, 1e-4)
    task.preset("ntm")["slots"] = 1
    assert task.preset("ntm")["slots"] == 128


def test_draw_covers_its_span_and_nothing_else() -> None:
    assert draw((3, 5), 200, seeded()).unique().tolist() == [3, 4, 5]
    assert draw((1, 100), 50, seeded(), equal=True).unique().numel() == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tasks.get("copi"), "Unknown task 'copi'. Did you mean 'copy'?"),
        (lambda: tasks.get("copy", lenght=3), "Task 'copy' has no option 'lenght'. Did you mean 'length'?"),
        (lambda: tasks.get("copy", length=0), "'length' must be a whole number of at least 1, or a pair"),
        (lambda: tasks.get("copy", length=(5, 2)), r"Got \(5, 2\)"),
        (lambda: tasks.get("copy", length=2.5), "Got 2.5"),
        (lambda: tasks.get("copy", bits=True), "'bits' must be a whole number of at least 1. Got True"),
        (lambda: tasks.get("copy").sample(-1, seeded()), "'batch' must be a whole number of at least 0"),
        (lambda: tasks.get("copy").sample(1, seeded(), bits=3), "Task 'copy' has no difficulty 'bits'"),
        (lambda: tasks.get("copy").preset("dmc"), "no preset for model 'dmc'. Did you mean 'dnc'?"),
        (lambda: tasks.get("associative-recall", items=1), "'items' must be a whole number of at least 2"),
        (lambda: tasks.get("n-grams", order=17), "'order' of task 'n-grams' must be at most 16"),
        (lambda: tasks.get("priority-sort", highest=21), r"'highest' .* at most 'vectors' \(20\). Got 21"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_outputs_of_another_shape_are_refused() -> None:
    task = Copy()
    episode = task.sample(2, seeded(), length=3)
    with pytest.raises(InputError, match=r"logits \(T, B, O\) = \(8, 2, 8\). Got \(2, 8, 8\).*time first"):
        task.loss(torch.zeros(2, 8, 8), episode)


def test_the_registry_knows_all() -> None:
    others = ("traversal", "shortest-path", "inference", "mini-shrdlu")
    assert {*BITS, *others, "babi"} == set(tasks.names())
    assert [tasks.get(each).name for each in (*BITS, *others)] == [*BITS, *others]


def test_a_pair_may_be_a_list_as_json_has_it() -> None:
    assert tasks.get("copy", length=[1, 5]) == Copy(length=(1, 5))
    assert hash(tasks.get("copy", length=[1, 5])) == hash(Copy(length=(1, 5)))

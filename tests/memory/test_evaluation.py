"""Evaluation: means, standard errors and difficulties, on sequences that depend on nothing but the seed."""

import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from softplace.errors import InputError
from softplace.memory.evaluation import RANGE, answer, evaluate, overall
from softplace.memory.models import MODELS, build, complete, preset
from softplace.memory.tasks import get
from softplace.memory.tasks.algorithmic import Copy
from softplace.memory.tasks.babi import Babi
from softplace.randomness import derive, generator


class Constant(nn.Module):
    """Says 1 to every bit, surely; remembers how it was called."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.calls: list[tuple[tuple[int, ...], Tensor | None, bool]] = []

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, None]:
        self.calls.append((tuple(inputs.shape), lengths, self.training))
        return inputs.new_full((*inputs.shape[:2], self.outputs), 30.0), None


def test_means_and_standard_errors_are_those_of_the_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Copy, "longer", property(lambda self: {"length 4": {"length": 4}}))
    task = get("copy", bits=3, length=2)
    net = Constant(3)
    short, long = evaluate(net, task, sequences=7, batch=3)
    assert (short.label, short.difficulty, short.longest) == (RANGE, {}, 6)
    assert (long.label, long.difficulty, long.longest) == ("length 4", {"length": 4}, 10)
    assert [shape[1] for shape, _, _ in net.calls] == [3, 3, 1] * 2
    zeros = []
    for first, batch in ((0, 3), (3, 3), (6, 1)):
        episode = task.sample(batch, generator(0, "evaluation", RANGE, first))
        zeros += [int(each) for each in ((1 - episode.targets) * episode.mask.unsqueeze(-1)).sum((0, 2))]
    mean = sum(zeros) / 7
    error = math.sqrt(sum((each - mean) ** 2 for each in zeros) / 6 / 7)
    measure = short.measures["wrong bits"]
    assert measure.mean == pytest.approx(mean)
    assert measure.standard_error == pytest.approx(error)
    assert short.measures["loss"].mean == pytest.approx(mean * 30 / math.log(2), rel=1e-5)


STORY = "1 Mary went to the hall.\n2 Where is Mary?\thall\t1\n3 John went to the hall.\n4 Where is John?\thall\t3\n"
SHORT = "1 Mary went to the attic.\n2 Where is Mary?\tattic\t1\n"


class Says(Constant):
    """Says one word whatever it is asked."""

    def __init__(self, words: tuple[str, ...], word: str) -> None:
        super().__init__(len(words))
        self.place = words.index(word)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, None]:
        outputs = torch.zeros(*inputs.shape[:2], self.outputs)
        outputs[..., self.place] = 9.0
        return outputs, None


def test_babi_is_tested_on_every_question_once(tmp_path: Path) -> None:
    for number, test in ((1, STORY + SHORT), (2, SHORT)):
        (tmp_path / f"qa{number}_a_train.txt").write_text((STORY + SHORT) * 10)
        (tmp_path / f"qa{number}_a_test.txt").write_text(test)
    task = get("babi", data=str(tmp_path))
    found = evaluate(Says(cast(Babi, task).vocabulary, "hall"), task, sequences=3)
    assert {each.label: each.sequences for each in found}["test, task 1"] == 2
    assert found[0].sequences == 3
    whole = overall(task, found)  # task 1: one of three questions is wrong (not a mean over stories: 1/2); task 2: all
    assert whole == {"mean error": pytest.approx((1 / 3 + 1) / 2), "failed tasks": 2}
    assert overall(get("copy"), found) == {}


def test_one_sequence_has_no_standard_error() -> None:
    task = get("copy", length=2)
    assert evaluate(Constant(8), task, sequences=1)[0].measures["bits"].standard_error is None


def test_the_net_is_evaluated_as_such_and_left_as_it_was() -> None:
    net = Constant(8)
    evaluate(net.train(), get("copy", length=1), sequences=1)
    assert not any(training for _, _, training in net.calls)
    assert net.training
    evaluate(net.eval(), get("copy", length=1), sequences=1)
    assert not net.training


def test_lengths_are_given_where_they_differ() -> None:
    net = Constant(8)
    same = get("copy", length=3).sample(4, generator(0, "x"))
    answer(net, same)
    other = get("copy", length=(1, 9)).sample(4, generator(0, "x"))
    answer(net, other)
    assert net.calls[0][1] is None
    assert net.calls[1][1] is other.lengths


@pytest.mark.parametrize("arguments", [{"sequences": 0}, {"batch": 0}])
def test_numbers_out_of_range(arguments: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"must be 1 or more\. Got 0\."):
        evaluate(Constant(8), get("copy"), **arguments)


def test_streams_of_random_numbers() -> None:
    assert derive(0, "a", 1) == derive(0, "a", 1)
    assert len({derive(seed, label, step) for seed in (0, 1) for label in "ab" for step in range(50)}) == 200
    assert 0 <= derive(2**63 - 1, "a") < 2**63
    assert torch.equal(torch.rand(3, generator=generator(1, "a")), torch.rand(3, generator=generator(1, "a")))


@pytest.mark.parametrize("model", MODELS)
def test_models_take_the_papers_sizes(model: str) -> None:
    task = get("copy")
    sizes = complete(model, task, {})
    paper = preset(model, task)
    assert all(sizes[name] == value for name, value in paper.items() if name not in ("learning_rate", "batch"))
    assert {"learning_rate", "batch", "hidden_size"} <= set(paper)
    assert "segments" not in sizes
    assert "kernel" not in sizes


@pytest.mark.parametrize(
    ("model", "task", "sizes"),
    [
        ("ntm", "copy", {"map": "sparsemax", "slots": 7}),
        ("ntm", "copy", {"controller": "feedforward"}),
        ("dnc", "traversal", {"slots": 9, "width": 6, "hidden_size": 5}),
        ("ntm", "traversal", {"slots": 9, "width": 6, "hidden_size": 5}),  # the paper has no NTM there
        ("dnc", "copy", {"controller": "feedforward", "hidden_size": 5}),
        ("lstm", "copy", {"hidden_size": 4}),
    ],
)
def test_built_nets_fit_their_tasks(model: str, task: str, sizes: dict[str, Any]) -> None:
    goal = get(task)
    episode = goal.sample(2, generator(0, "x"))
    outputs = answer(build(model, goal, **sizes), episode)
    assert outputs.shape == (*episode.mask.shape, goal.output_size)


def test_the_feedforward_ntm_has_its_own_settings() -> None:
    task = get("associative-recall")
    assert complete("ntm", task, {"controller": "feedforward"})["read_heads"] == 4
    assert complete("ntm", task, {})["read_heads"] == 1

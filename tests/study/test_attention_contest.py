"""The attention contest: its arms, pairs, members and measures, and a small study from end to end."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from softplace import Study, maps
from softplace.attention.text import BEGIN, END, PAD
from softplace.errors import InputError
from softplace.study.contest import Arm, Options
from softplace.study.contests._learning import check_arm, mean_over_budget
from softplace.study.contests.attention import NumberLists, ParallelText, Translate, contest
from softplace.study.contests.attention_arms import ARMS, FIXED, UNIFORM, chosen_arms, sigmoid_attention
from softplace.study.contests.attention_members import LastWord, Translators
from softplace.study.fleet import Fleet
from softplace.study.optimizer import Adam

CPU = torch.device("cpu")
ARM = {arm.name: arm for arm in ARMS}
SIZES: dict[str, Any] = {
    "count": (1, 2), "digits": (1, 2), "sizes": (1, 2, 3), "longest": 2, "beyond": 3, "learned": 0.1,
    "solved": 0.01, "width": 8, "pairs": 100, "batch": 3, "validated": 5,
    "tested": 6, "steps": 6, "evaluate_every": 2, "learning_rates": (0.01, 0.1), "optimizer": Adam(clip=1.0),
}  # fmt: skip
RNN = NumberLists(name="rnnsearch", label="RNNsearch", kind="rnnsearch", **SIZES)
TRANSFORMER = NumberLists(name="transformer", label="Transformer", kind="transformer", **SIZES)
BOTH = pytest.mark.parametrize("task", [RNN, TRANSFORMER], ids=lambda task: task.name)


def translators(task: Translate, arm: str, *seeds: int) -> Translators:
    found = task.members(ARM[arm], seeds, CPU)
    assert isinstance(found, Translators)
    return found


# Measures and arms


def test_sigmoids_are_shifted_by_the_keys_that_are_there() -> None:
    scores = torch.tensor([[1.0, -2.0, 0.5, -math.inf], [0.0, -math.inf, -math.inf, -math.inf]])
    found = sigmoid_attention(scores)
    expected = [[1 / (1 + 3 * math.exp(-s)) for s in (1.0, -2.0, 0.5)] + [0.0], [0.5, 0.0, 0.0, 0.0]]
    torch.testing.assert_close(found, torch.tensor(expected))
    assert torch.equal(sigmoid_attention(scores.T, 0).T, found)


def test_arms_are_found_by_name_and_by_map() -> None:
    def names(*chosen: Any) -> list[str]:
        return [arm.name for arm in chosen_arms(chosen)]

    assert chosen_arms(None) == ARMS
    assert names("sparsemax") == ["softmax", "sparsemax"]
    assert names("Relu-Normalised", "relu_normalised") == ["softmax", "relu-normalised"]
    assert names(UNIFORM, "no attention") == ["softmax", UNIFORM, FIXED]
    assert names("topk_softmax", "hardmax") == ["softmax", "hardmax", "topk_softmax"]
    with pytest.raises(
        InputError, match=r"Unknown map 'sparsemx' for the place 'attention'\. Did you mean 'sparsemax'"
    ):
        names("sparsemx")


def raises(scores: Tensor, dim: int = -1) -> Tensor:
    raise RuntimeError("no\nscores")


BAD: dict[str, tuple[Callable[..., object], str]] = {
    "raises": (raises, "RuntimeError: no scores"),
    "reads numbers": (lambda scores, dim: scores * float(scores.sum()), "torch.vmap and autograd"),
    "NaN": (lambda scores, dim: scores * math.nan, "NaN or infinite"),
    "shape": (lambda scores, dim: scores.sum(dim), "torch.vmap and autograd"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_map_that_cannot_attend_is_named(name: str) -> None:
    function, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        check_arm(RNN, Arm(name=name, map=function), "loss")  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"map {name!r}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*ARM, "topk_softmax", "entmax"])
@BOTH
def test_arms_pass_the_check(task: Translate, name: str) -> None:
    check_arm(task, ARM.get(name, Arm(name=name, map=name)), "loss")


# Pairs


@BOTH
def test_pairs_depend_on_seed_and_step_alone(task: Translate) -> None:
    first, second = translators(task, "softmax", 3, 5, 3), translators(task, FIXED, 5, 3)
    differ = 0
    for step in (0, 1, 63, 200):
        ours, theirs = first.batch(step), second.batch(step)
        for mine, other in zip(ours, theirs, strict=True):
            assert torch.equal(mine[[0, 1]], other[[1, 0]])
            assert torch.equal(mine[0], mine[2])
            assert mine.shape[1] == task.batch
        differ += not torch.equal(ours[0][0], ours[0][1])
    assert differ
    again = translators(task, "softmax", 3, 5, 3).select(torch.tensor([1]))
    assert torch.equal(again.batch(200)[0][0], first.batch(200)[0][1])


def test_what_is_given_is_what_is_wanted_a_word_late() -> None:
    for source, given, wanted in (translators(RNN, "softmax", 1).batch(step) for step in range(20)):
        assert (given[..., 0] == BEGIN).all()
        going = given[..., 1:] != PAD
        assert torch.equal(given[..., 1:][going], wanted[..., :-1][going])
        assert ((wanted == END).sum(-1) == 1).all()
        assert ((source == END).sum(-1) == 1).all()


def test_what_is_tested_is_not_trained_on() -> None:
    trained = {
        tuple(word for word in row if word != PAD)
        for bucket in RNN.buckets
        for row in bucket.source.flatten(0, 1).tolist()
    }
    assert len(trained) > 50
    for purpose, numbers in (("validation", 0), ("test", 2), ("test", 3)):
        held = RNN.held(purpose, 6, numbers)
        assert not trained & {tuple(word for word in row if word != PAD) for row in held.source.tolist()}
    comma = RNN.data.source_tokens.encode(",")[0]
    assert ((RNN.held("test", 6, 3).source == comma).sum(-1) == 2).all()


def test_known_links_are_those_of_the_grammar() -> None:
    pairs = RNN.held("test", 6, 2)
    for row, example in enumerate(RNN.data.held("test", 6, numbers=2)):
        found = {(i, j) for j, i in pairs.links[row].nonzero().tolist()}
        assert found == example.links


# Members


@pytest.mark.parametrize("arm", ARM)
@BOTH
def test_a_member_is_the_network_that_it_would_be_alone(task: Translate, arm: str) -> None:
    several = translators(task, arm, 3, 5)
    batch = several.batch(7)
    net = task.net(ARM[arm])
    net.load_state_dict({name: value[1] for name, value in several.parameters.items()}, strict=False)
    source, given, wanted = (each[1] for each in batch)
    logits = net(source, given, source != PAD)
    alone = cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=PAD)
    torch.testing.assert_close(several.losses(*batch)[1], alone)
    leaves = {name: value.requires_grad_() for name, value in several.parameters.items()}
    together = torch.autograd.grad(several.losses(*batch).sum(), list(leaves.values()), materialize_grads=True)
    own = dict(net.named_parameters())
    apart = torch.autograd.grad(alone, [own[name] for name in leaves], materialize_grads=True)
    for mine, other in zip(together, apart, strict=True):
        torch.testing.assert_close(mine[1], other, rtol=1e-4, atol=1e-6)


@BOTH
def test_all_arms_start_alike(task: Translate) -> None:
    first = translators(task, "softmax", 3, 5).parameters
    name = "source_embedding" if task is RNN else "source_embedding.weight"
    assert not torch.equal(first[name][0], first[name][1])
    for arm in ("sparsemax", "sigmoid", "hardmax", UNIFORM):
        other = translators(task, arm, 5, 3).parameters
        assert all(torch.equal(value[0], other[each][1]) for each, value in first.items())
    fixed = translators(task, FIXED, 5, 3).parameters
    prefix = "net." if task is TRANSFORMER else ""
    assert torch.equal(fixed[f"{prefix}{name}"][1], first[name][0])


def test_without_attention_one_vector_is_all_that_is_seen() -> None:
    """The decoder's gradient to what is encoded: at the end alone."""
    net = TRANSFORMER.net(ARM[FIXED])
    assert isinstance(net, LastWord)
    pairs = TRANSFORMER.held("test", 6, 2)
    seen = {}
    original = net.net.decode

    def spied(target: Tensor, state: Any) -> Any:
        seen["mask"] = state.source_mask
        return original(target, state)

    net.net.decode = spied  # type: ignore[method-assign]
    net(pairs.source, pairs.given, pairs.source != PAD)
    ends = (pairs.source == END).nonzero()
    assert seen["mask"].nonzero().tolist() == ends.tolist()


def test_the_mean_of_the_source_is_the_same_at_every_step() -> None:
    net = RNN.net(ARM[UNIFORM])
    pairs = RNN.held("test", 6, 2)
    weights = net.attention(pairs.source, pairs.given, pairs.source != PAD)
    lengths = (pairs.source != PAD).sum(-1)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(weights[row, :, :length], torch.full_like(weights[row, :, :length], 1 / length))
    members = translators(RNN, UNIFORM, 3)
    metrics = members._looks(0)[0]
    assert metrics["alignment_error"] == 1.0  # no weight is the largest
    words = (pairs.wanted != PAD).sum(-1)
    bits = float((lengths.log2() * words).sum() / words.sum())
    assert metrics["entropy"] == pytest.approx(bits)
    assert metrics["sparsity"] == 0.0


def test_exact_and_wrong_words_by_hand() -> None:
    """Of a network that always says the same: the share of words that are that one."""
    members = translators(RNN, "softmax", 3)
    pairs = RNN.held("test", 6, 2)
    favourite = int(pairs.wanted[0, 0])
    members.parameters = {name: torch.zeros_like(value) for name, value in members.parameters.items()}
    members.parameters["output_bias"][:, favourite] = 1.0
    loss, exact, wrong = members._run(pairs)
    real = pairs.wanted != PAD
    assert float(wrong) == pytest.approx(float((pairs.wanted[real] != favourite).double().mean()), abs=1e-6)
    assert float(exact) == 0.0
    total = math.log(math.e + len(RNN.data.target_tokens) - 1)
    expected = total - float((pairs.wanted[real] == favourite).double().mean())
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_a_member_stops_when_it_has_solved_the_task_twice() -> None:
    curves = [{"loss": loss} for loss in ([0.001], [0.001, 0.2], [0.2, 0.001], [3.0, RNN.solved, 0.001])]
    assert translators(RNN, "softmax", 3).reached(curves) == [False, False, False, True]


@pytest.mark.parametrize("arm", ["softmax", FIXED])
@BOTH
def test_a_member_ends_with_every_metric(task: Translate, arm: str) -> None:
    found = {}
    for role in ("tune", "judge"):
        fleet = Fleet(task, ARM[arm], role, [3, 5], [0.01, 0.1])  # type: ignore[arg-type]
        fleet.train()
        found[role] = fleet.outcomes
    assert all(set(outcome.measurement.metrics) == {"mean_loss"} for outcome in found["tune"])
    without = {"alignment_error", "entropy", "sparsity"} if arm == FIXED else set()
    for outcome in found["judge"]:
        metrics = outcome.measurement.metrics
        assert set(metrics) == {metric.name for metric in task.metrics} - without
        assert all(math.isfinite(value) for value in metrics.values())
        assert metrics["mean_loss"] == pytest.approx(mean_over_budget(outcome.curve, "loss", task.steps))
        assert metrics["solved"] == float(outcome.curve["loss"][-1] < task.learned)
        wrong = outcome.measurement.probes["wrong"]
        assert isinstance(wrong, list)
        assert wrong[2][1] == pytest.approx(metrics["error_beyond"], rel=1e-3)  # type: ignore[index]
        json.dumps(dict(outcome.measurement.probes), allow_nan=False)
    assert found["tune"][0].curve == found["judge"][0].curve


# The contest


def test_the_contest_is_the_issue() -> None:
    quick, full = contest(Options()), contest(Options(preset="full"))
    assert [task.name for task in quick.tasks] == [task.name for task in full.tasks] == ["rnnsearch", "transformer"]
    wanted = {"softmax", "softmax1", "sparsemax", "entmax15", "sigmoid", "relu-normalised", "hardmax", UNIFORM, FIXED}
    assert {arm.name for arm in quick.arms} == wanted
    for task in (*quick.tasks, *full.tasks):
        assert isinstance(task, Translate)
        assert {task.longest, task.beyond} <= set(task.sizes)
        assert task.steps % task.evaluate_every == 0
        json.dumps(dict(task.settings()))
    for arm in quick.arms:
        maps.get(arm.map)


def test_a_small_study_from_end_to_end(tmp_path: Any) -> None:
    study = Study("attention", maps=["sparsemax", UNIFORM], seeds=4, workers=1)
    study.contests = [replace(study.contests[0], tasks=(RNN, TRANSFORMER))]
    result = study.run()
    assert {row["arm"] for row in result.rows} == {"softmax", "sparsemax", UNIFORM}
    assert {verdict.place for verdict in result.verdicts} == {"attention"}
    assert len(result.verdicts) == 10  # of fourteen: those of the sum and of hardness have no rival here
    assert {verdict.verdict for verdict in result.verdicts} == {"cannot tell"}  # two pairs can decide nothing
    [place] = result.report.places
    figures = [figure for section in place.sections for figure in section.figures]
    assert {"interval", "curve", "heatmap"} <= {figure.kind for figure in figures}
    for key in ("rnnsearch-weights", "transformer-weights"):
        [drawn] = [figure for figure in figures if figure.key == key]
        assert {row["arm"] for row in drawn.rows} == {"softmax", "sparsemax", UNIFORM}
    page = result.page(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "What trained networks look at" in page


# Parallel text


NOUNS = ["dog", "cat", "man", "boy", "girl", "bird", "horse", "house", "tree", "car"]
VERBS = ["sees", "hears", "likes", "finds", "wants"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two files of 12,000 sentences of 3 to 30 words; the other language is the same with X before each word."""
    folder = tmp_path_factory.mktemp("text")
    draw = random.Random(0)
    lines = []
    for _ in range(12_000):
        clauses = (
            f"{draw.choice(NOUNS)} {draw.choice(VERBS)} {draw.choice(NOUNS)}" for _ in range(draw.randint(1, 10))
        )
        lines.append(" ".join(clauses))
    for name, prefix in (("a", ""), ("b", "x")):
        texts = (" ".join(prefix + word for word in line.split()) for line in lines)
        (folder / name).write_text("".join(f"{line}\n" for line in texts))
    return str(folder / "a"), str(folder / "b")


def parallel(text: tuple[str, str], **changed: Any) -> Translate:
    found = contest(Options(text=text)).tasks[changed.pop("number", 0)]
    assert isinstance(found, ParallelText)
    small: dict[str, Any] = {
        "words": 100, "pairs": 200, "batch": 4, "validated": 6, "tested": 8, "width": 8, "steps": 2,
    }  # fmt: skip
    return replace(found, evaluate_every=1, **small | changed)


def test_text_is_cut_by_its_own_lengths(text: tuple[str, str]) -> None:
    task = parallel(text)
    assert isinstance(task, ParallelText)
    assert (task.sizes, task.longest, task.beyond) == ((9, 18, 27, 36), 18, 27)
    trained = list(task.trained())
    assert len(trained) == 200
    assert max(len(each.source.split()) for each in trained) <= 18
    for size, least, most in ((9, 1, 9), (18, 10, 18), (27, 19, 27), (36, 28, 36), (0, 1, 18)):
        held = task.examples("test", 8, size)
        assert len(held) == 8
        assert all(least <= len(each.source.split()) <= most for each in held)
        assert not set(trained) & set(held)
    assert not set(task.examples("test", 99)) & set(task.examples("validation", 99))
    assert task.held("test", 8, 9).links is None


def test_text_is_known_by_its_lines_and_not_by_its_path(text: tuple[str, str], tmp_path: Any) -> None:
    other = tmp_path / "other"
    with open(text[0], encoding="utf-8") as file:
        other.write_text(file.read())
    one, two = parallel(text).settings(), parallel((str(other), text[1])).settings()
    assert one == two
    assert text[0] not in json.dumps(dict(one))
    other.write_text(other.read_text().replace("dog", "frog"))
    assert parallel((str(other), text[1])).settings() != one


def test_text_that_is_too_small_is_refused(tmp_path: Any) -> None:
    for lines in (["a b c d"] * 10, ["a"] * 5000):
        for name in "ab":
            (tmp_path / name).write_text("".join(f"{line} {number}\n" for number, line in enumerate(lines)))
        with pytest.raises(InputError, match="must be files of some thousand lines of sentences"):
            contest(Options(text=(str(tmp_path / "a"), str(tmp_path / "b"))))


def test_a_members_translations_are_scored(text: tuple[str, str]) -> None:
    """By the free-running search: of a network that says one word and the end, no sentence is exact."""
    for number, arm in ((0, "softmax"), (1, FIXED)):
        members = translators(parallel(text, number=number), arm, 3)
        found = members._quality(0)
        assert found["exact"] == 0.0
        assert 0.0 <= found["bleu"] < 20.0


def test_a_study_of_text_from_end_to_end(text: tuple[str, str], tmp_path: Any) -> None:
    study = Study("attention", maps=["sparsemax", FIXED], data=text[0], target=text[1], seeds=4, workers=1)
    tasks = tuple(parallel(text, number=number) for number in (0, 1))
    study.contests = [replace(study.contests[0], tasks=tasks)]
    result = study.run()
    assert {row["arm"] for row in result.rows} == {"softmax", "sparsemax", FIXED}
    judged = [row for row in result.rows if row["role"] == "judge"]
    assert all(isinstance(row["bleu"], float) for row in judged)
    assert all(row.get("alignment_error") is None for row in judged)
    keys = {section.key for section in result.report.places[0].sections}
    assert {"needed-rnnsearch", "sharpness-transformer"} <= keys
    assert not {key for key in keys if key.startswith("alignment")}
    assert "Transformer: BLEU with softmax, mean" in result.report.places[0].facts
    page = result.page(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "a parallel text (digest" in page
    assert text[0] not in page.replace(str(study.out), "")


def test_text_is_of_no_use_to_another_place(text: tuple[str, str], tmp_path: Any) -> None:
    with pytest.raises(InputError, match="'data' must be left out: hidden has no use for it"):
        Study("hidden", data=text[0], target=text[1])
    with pytest.raises(InputError, match="give the file of their translations as target too"):
        Study("attention", data=text[0], target=str(tmp_path / "nowhere"))
    (tmp_path / "short").write_text("a b\n")
    with pytest.raises(InputError, match="must have as many lines"):
        Study("attention", data=text[0], target=str(tmp_path / "short"))

"""The bAbI tasks: small files by hand, what is wrong with files, and the real archive where there is one.

Axes: T time, B batch, V words.
"""

import os
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from softplace.errors import InputError
from softplace.memory import tasks
from softplace.memory.tasks import Episode, metrics
from softplace.memory.tasks.babi import ENVIRONMENT, Babi

ONE = """1 Mary moved to the bathroom.
2 Where is Mary? \tbathroom\t1
3 John went to the office.
4 Where is John? \toffice\t3
1 John went to the bathroom.
2 Where is John?\tbathroom\t1
"""
TWO = """1 The Office is north of the hall.
2 How do you go to the hall? \ts,E\t1
"""
REAL = Path(os.environ.get(ENVIRONMENT) or Path(__file__).parents[3] / "shared" / "data" / "babi")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tasks; the second has several words in an answer."""
    for number, name, text in ((1, "one", ONE), (2, "two", TWO)):
        (tmp_path / f"qa{number}_{name}_train.txt").write_text(text * 10)
        (tmp_path / f"qa{number}_{name}_valid.txt").write_text(text)
        (tmp_path / f"qa{number}_{name}_test.txt").write_text(text * 2)
    return tmp_path


def perfect(episode: Episode, words: int) -> Tensor:
    return 50 * functional.one_hot(episode.targets, words).float()


def test_a_story_becomes_words_with_a_mark_for_each_word_of_an_answer(folder: Path) -> None:
    task = Babi(data=folder, tasks=2)
    words = [*"-.?", *"bathroom do e go hall how is john mary moved north of office s the to went where you".split()]  # noqa: SIM905
    assert list(task.vocabulary) == words
    assert task.input_size == task.output_size == len(words)
    episode = task.sample(1, seeded())
    assert task.text(episode) == "the office is north of the hall . how do you go to the hall ? -[s] -[e]"
    assert episode.inputs.shape == (18, 1, len(words))
    assert torch.equal(episode.inputs.sum(-1), torch.ones(18, 1))
    assert episode.mask[:, 0].nonzero().flatten().tolist() == [16, 17]
    assert episode.targets[16:, 0].tolist() == [words.index("s"), words.index("e")]
    assert not episode.targets[:16].any()
    assert episode.targets.dtype == episode.lengths.dtype == torch.long


def test_the_answer_is_not_shown(folder: Path) -> None:
    episodes = [episode for _, episode in Babi(data=folder, tasks=1).batches()]
    assert len(episodes) == 1
    task = Babi(data=folder)
    assert task.text(episodes[0], 19) == (
        "mary moved to the bathroom . where is mary ? -[bathroom] john went to the office . where is john ? -[office]"
    )
    assert task.text(episodes[0], 0) == "john went to the bathroom . where is john ? -[bathroom]"


def test_padding_neither_shows_nor_counts(folder: Path) -> None:
    task = Babi(data=folder, pool=1)
    episode = task.sample(12, seeded())
    assert len(set(episode.lengths.tolist())) > 1
    assert episode.lengths.max() == len(episode.inputs)
    for number, length in enumerate(episode.lengths.tolist()):
        assert torch.equal(episode.inputs[:, number].sum(-1), (torch.arange(len(episode.inputs)) < length).float())
        assert not episode.mask[length:, number].any()


def test_blanks_come_before_each_answer_and_add_no_question(folder: Path) -> None:
    task = Babi(data=folder, blanks=2)
    text = task.text(task.sample(1, seeded(), tasks=2))
    assert text.endswith("the hall ? _ _ -[s] -[e]")
    (_, episode), *_ = task.harder(tasks=1).batches()
    assert task.text(episode, 19).count("? _ _ -[") == 2
    _, asked = metrics.questions(perfect(episode, task.output_size), episode.targets, episode.mask)
    assert asked.tolist() == [1] * 10 + [2] * 10


def test_costs_and_errors(folder: Path) -> None:
    task = Babi(data=folder)
    episode = task.sample(6, seeded())
    count = len(task.vocabulary)
    zero = torch.zeros(*episode.mask.shape, count, dtype=torch.float64)
    expected = episode.mask.sum(0) * torch.tensor(count).double().log2()
    torch.testing.assert_close(task.loss(zero, episode), expected)
    right = perfect(episode, count)
    assert task.loss(right, episode).max() < 1e-12
    assert not task.errors(right, episode)["wrong share"].any()
    assert torch.equal(task.errors(-right, episode)["wrong share"], torch.ones(6))


def test_errors_by_task_over_a_split(folder: Path) -> None:
    task = Babi(data=folder, split="test")
    count = len(task.vocabulary)
    assert task.task_errors(lambda each: perfect(each, count), batch=3) == {1: 0.0, 2: 0.0}
    bathroom = task.vocabulary.index("bathroom")
    errors = task.task_errors(lambda each: torch.eye(count)[bathroom].expand(*each.mask.shape, count), batch=1)
    assert errors == {1: pytest.approx(1 / 3), 2: 1.0}
    assert metrics.failed_tasks(errors) == (1, 2)


def test_splits_are_read_from_their_files(folder: Path) -> None:
    task = Babi(data=folder)
    counts = {
        split: {number: len(each) for number, each in there.items()} for split, there in task.corpus.stories.items()
    }
    assert counts == {"train": {1: 20, 2: 10}, "valid": {1: 2, 2: 1}, "test": {1: 4, 2: 2}}
    assert task.corpus.stories["train"][1].questions() == 30
    assert set(task.longer) == {"validation", "test, task 1", "test, task 2"}
    for difficulty in task.longer.values():
        assert task.sample(2, seeded(), **difficulty).inputs.shape[2] == task.input_size
    assert task.notes == (f"Of the 20 bAbI tasks these are not there: {', '.join(map(str, range(3, 21)))}.",)


def test_without_a_file_for_validation_a_tenth_of_the_stories_is_held_out(folder: Path) -> None:
    for each in folder.glob("*_valid.txt"):
        each.unlink()
    stories = Babi(data=folder).corpus.stories
    assert [len(stories[split][1]) for split in ("train", "valid")] == [18, 2]
    assert [len(stories[split][2]) for split in ("train", "valid")] == [9, 1]


def test_without_a_file_for_training_that_for_validation_is_used_and_it_is_said(folder: Path) -> None:
    (folder / "qa1_one_valid.txt").write_text(ONE * 10)
    (folder / "qa1_one_train.txt").unlink()
    task = Babi(data=folder)
    assert [len(task.corpus.stories[split][1]) for split in ("train", "valid")] == [18, 2]
    assert task.notes[0] == (
        "bAbI task 1 has no file for training: of the 30 questions of its file for validation, "
        "27 are trained on and 3 validate."
    )


def test_a_task_with_a_test_alone_is_left_out_and_it_is_said(folder: Path) -> None:
    (folder / "qa7_counting_test.txt").write_text("1 Mary moved.\n2 How many? \tmary\t1\n")
    task = Babi(data=folder)
    assert task.chosen == (1, 2)
    assert task.notes[0] == "bAbI task 7 has no file for training and is left out."


def release(root: Path) -> Path:
    """A release: the files for validation are in a folder of their own, which may lack a file."""
    for name, files in {
        "en-10k": {
            "qa1_one_train": ONE * 20, "qa1_one_test": ONE, "qa2_two_train": TWO * 20, "qa2_two_test": TWO
        },
        "en-valid-10k": {"qa1_train": ONE * 18, "qa1_valid": ONE * 2, "qa1_test": ONE, "qa2_valid": TWO},
        "en": {"qa1_one_train": ONE * 2, "qa1_one_test": ONE},
        "hn-10k": {"qa1_one_train": "no line of a story"},
    }.items():  # fmt: skip
        (root / name).mkdir(parents=True)
        for file, text in files.items():
            (root / name / f"{file}.txt").write_text(text)
    (root / "README.txt").write_text("not a task")
    return root


def test_of_a_release_training_and_validation_are_of_one_folder(tmp_path: Path) -> None:
    task = Babi(data=release(tmp_path / "release"))
    stories = task.corpus.stories
    assert [len(stories[split][1]) for split in ("train", "valid", "test")] == [36, 4, 2]
    # the file for validation alone is a part of the file for training in the other folder: it is not used
    assert [len(stories[split][2]) for split in ("train", "valid", "test")] == [18, 2, 1]
    small = Babi(data=tmp_path / "release", size="1k")
    assert [len(small.corpus.stories[split][1]) for split in ("train", "valid", "test")] == [3, 1, 2]


@pytest.mark.parametrize("way", ["archive", "folder with the archive", "folder of the release"])
def test_folder_and_archive_are_the_same(tmp_path: Path, way: str) -> None:
    root = release(tmp_path / "release")
    path = tmp_path / "data" / "babi.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        archive.add(root, arcname=".")
    source = {"archive": path, "folder with the archive": path.parent, "folder of the release": root}[way]
    expected = Babi(data=root).corpus
    found = Babi(data=str(source)).corpus
    assert found.vocabulary == expected.vocabulary
    for split, stories in expected.stories.items():
        for number, each in stories.items():
            assert each.words.tolist() == found.stories[split][number].words.tolist()
            assert each.answers.tolist() == found.stories[split][number].answers.tolist()


def test_a_changed_file_is_read_again(folder: Path) -> None:
    assert len(Babi(data=folder).corpus.stories["train"][1]) == 20
    (folder / "qa1_one_train.txt").write_text(ONE * 11)
    assert len(Babi(data=folder).corpus.stories["train"][1]) == 22


def test_tasks_are_drawn_equally_often_or_as_their_stories_are(folder: Path) -> None:
    def share(task: Babi) -> float:
        """Of task 2, whose stories alone begin with `the`."""
        first = task.sample(3000, seeded()).inputs[0]
        return float(first[:, task.vocabulary.index("the")].mean())

    assert abs(share(Babi(data=folder, pool=1)) - 1 / 2) < 0.04
    assert abs(share(Babi(data=folder, pool=1, balanced=False)) - 1 / 3) < 0.04


def test_a_pool_makes_lengths_alike_and_leaves_every_story_as_likely(folder: Path) -> None:
    def lengths(pool: int) -> tuple[Counter[int], float]:
        task, generator = Babi(data=folder, pool=pool), seeded()
        episodes = [task.sample(4, generator) for _ in range(600)]
        filled = sum(float(each.lengths.float().mean() / len(each.inputs)) for each in episodes) / len(episodes)
        return Counter(int(each) for episode in episodes for each in episode.lengths), filled

    (alone, loose), (pooled, tight) = lengths(1), lengths(6)
    assert tight > loose + 0.05
    assert set(alone) == set(pooled) == {11, 18, 22}
    for length in alone:
        assert abs(alone[length] - pooled[length]) < 0.06 * 2400


def test_equal_generators_draw_equal_stories(folder: Path) -> None:
    task = Babi(data=folder, blanks=1)
    for each, same in zip(task.sample(8, seeded(4)), task.sample(8, seeded(4)), strict=True):
        assert torch.equal(each, same)


def test_the_longest_stories_can_be_left_out_of_training_alone(folder: Path) -> None:
    task = Babi(data=folder, longest=18, pool=1)
    assert set(task.sample(200, seeded()).lengths.tolist()) == {11, 18}
    assert 22 in task.sample(200, seeded(), split="test").lengths
    assert task.notes[-1] == "10 of 30 stories for training are longer than 18."
    with pytest.raises(InputError, match="'longest' must leave a story"):
        Babi(data=folder, longest=5).sample(1, seeded())


def test_an_empty_batch(folder: Path) -> None:
    task = Babi(data=folder)
    episode = task.sample(0, seeded())
    assert episode.inputs.shape == (0, 0, task.input_size)
    assert task.errors(torch.zeros(0, 0, task.output_size), episode)["bits"].shape == (0,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 A b.\nthen c.\n", "line 2: expected a line that begins with its number in the story. Got 'then c.'"),
        ("1 A b.\n3 C d? \te\t1\n", "line 2: expected line number 2 or 1 of a story. Got 3"),
        ("2 A b.\n", "line 1: expected a story that begins with 1. Got 2"),
        ("1 A b.\n2 C d? \te\t1\n\n1 A b.\n", "line 3: expected a line that begins with its number"),
        ("1 A b.\n2 C d.\n1 A b.\n2 C? \te\t1\n", "line 1: expected a story with a question. Got none"),
        ("1 A b.\n2 C? \te\t1\n1 A b.\n", "line 3: expected a story with a question. Got none"),
        ("", "line 1: expected a line that begins with its number"),
        ("1 A b.\n2 C? \t\t1\n", "line 2: expected an answer of words with commas between them. Got ''"),
        ("1 A b.\n2 C? \te,\t1\n", "line 2: expected an answer of words .* Got 'e,'"),
        ("1 A b.\n2 C? \te f\t1\n", "line 2: expected an answer of words .* Got 'e f'"),
        ("1 A b.\n2 C? \te\t1\t1\n", "line 2: expected question, answer and supporting lines. Got 4 fields"),
        ("1 A b.\n2 C? \te\t2\n", "line 2: expected supporting lines that come before in the story. Got '2'"),
        ("1 A b.\n2 C? \te\tx\n", "line 2: expected supporting lines"),
        ("1 A b.\n2  \te\t1\n", "line 2: expected a sentence. Got no word"),
        ("1 A - b.\n2 C? \te\t1\n", "line 1: expected no '-' among the words"),
        ("1 A b.\n2 C? \t-\t1\n", "line 2: expected an answer of words"),
        (b"1 A b.\n2 C\xff? \te\t1\n", "line 2: expected UTF-8. Got byte 0xff. Save it as UTF-8"),
        (b"\x80", "line 1: expected UTF-8. Got byte 0x80"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(folder: Path, text: str | bytes, message: str) -> None:
    (folder / "qa2_two_train.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=rf"qa2_two_train\.txt, {message}") as caught:
        Babi(data=folder)
    assert "\n" not in str(caught.value)


def test_lines_may_end_as_on_windows_and_a_last_line_without_end(folder: Path) -> None:
    expected = Babi(data=folder).corpus
    for each in folder.iterdir():
        each.write_bytes(b"\xef\xbb\xbf" + each.read_bytes().rstrip(b"\n").replace(b"\n", b"\r\n"))
    found = Babi(data=folder).corpus
    assert found.vocabulary == expected.vocabulary
    assert found.stories["train"][1].words.tolist() == expected.stories["train"][1].words.tolist()


def test_a_word_that_no_training_file_has_is_an_error_with_its_line(folder: Path) -> None:
    (folder / "qa2_two_test.txt").write_text(TWO + TWO.replace("Office", "cellar"))
    with pytest.raises(InputError, match=r"qa2_two_test.txt, line 3: .* Got 'cellar'. Add it to the training files"):
        Babi(data=folder)


def test_a_missing_test_is_said_when_it_is_asked_for(folder: Path) -> None:
    (folder / "qa2_two_test.txt").unlink()
    task = Babi(data=folder)
    assert "test, task 2" not in task.longer
    with pytest.raises(InputError, match=r"a file for test of bAbI task 2\. Got none"):
        task.harder(split="test")
    assert task.harder(split="test", tasks=1).sample(1, seeded()).inputs.shape[1] == 1


def test_what_is_no_data_is_said(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"no archive")
    other = tmp_path / "other"
    (other / "hn-10k").mkdir(parents=True)
    (other / "hn-10k" / "qa1_one_train.txt").write_text(ONE)
    cut = tmp_path / "cut.tar.gz"
    with tarfile.open(cut, "w:gz") as archive:
        archive.add(folder / "qa1_one_train.txt", arcname="qa1_one_train.txt")
    cut.write_bytes(cut.read_bytes()[:-30])
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "qa1_one_test.txt").write_text(ONE)
    single = tmp_path / "single"
    single.mkdir()
    (single / "qa1_one_train.txt").write_text("1 A.\n2 B? \tc\t1\n")
    twice = tmp_path / "twice"
    twice.mkdir()
    for name in ("qa1_train.txt", "qa1_one_train.txt"):
        (twice / name).write_text(ONE)
    for data, message in (
        (None, f"Got None. Give its path, or set {ENVIRONMENT}"),
        (3, "must be a folder or archive with the bAbI tasks. Got 3"),
        (tmp_path / "absent", "absent', which does not exist. Check the path"),
        (empty, "or one archive with such. Got neither"),
        (broken, "must be a whole tar archive. Got ReadError"),
        (cut, "must be a whole tar archive. Got EOFError"),
        (other, "in a folder en-10k or en-valid-10k .* Got such files in hn-10k"),
        (tests, "must have a file for training. Got files for tests alone"),
        (single, "must have at least 2 stories, so that one can validate. Got 1"),
        (twice, "must have one file for train of task 1. Got 'qa1_one_train.txt' and 'qa1_train.txt'"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            tasks.get("babi", data=data)
        assert "\n" not in str(caught.value)


def test_options_that_cannot_be_are_said(folder: Path) -> None:
    for options, message in (
        ({"tasks": 3}, "'tasks' must be numbers of tasks that are there. Got 3. There are 1, 2"),
        ({"tasks": ()}, r"Got \(\)"),
        ({"split": "tests"}, "Unknown 'split' 'tests'. Did you mean 'test'"),
        ({"size": "10K"}, "Unknown 'size' '10K'. Did you mean '10k'"),
        ({"blanks": -1}, "'blanks' must be a whole number of at least 0"),
        ({"pool": 0}, "'pool' must be a whole number of at least 1"),
        ({"longest": 0}, "'longest' must be a whole number of at least 1"),
    ):
        with pytest.raises(InputError, match=message):
            Babi(data=folder, **options)


def test_the_environment_says_where_the_tasks_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(folder))
    assert tasks.get("babi").input_size == Babi(data=folder).input_size


@pytest.mark.skipif(not REAL.exists(), reason=f"no bAbI data: set {ENVIRONMENT} to a folder or archive of release 1.2")
def test_the_real_tasks() -> None:
    task = Babi(data=REAL)
    assert task.chosen == tuple(range(1, 21))
    assert task.input_size == 159  # 156 words, two marks of punctuation, and the mark of an answer
    stories = task.corpus.stories
    for number in task.chosen:
        asked = [stories[split][number].questions() for split in ("train", "valid", "test")]
        assert asked[2] == 1000
        if number != 3:  # its file for training is not in every copy
            assert 9990 <= asked[0] + asked[1] <= 10010
            assert 990 <= asked[1] <= 1010
        for split in ("train", "valid", "test"):
            assert stories[split][number].words.min() >= 0
            assert stories[split][number].answers.max() < 159
    assert ("bAbI task 3 has no file for training" in " ".join(task.notes)) == (stories["train"][3].questions() < 5000)
    paths = task.harder(tasks=19, split="test")
    for _, episode in paths.batches(500):
        assert set(episode.mask.sum(0).tolist()) == {2}  # two directions, one question
        said = {task.vocabulary[each] for each in episode.targets[episode.mask].unique().tolist()}
        assert said == {"n", "s", "e", "w"}
    errors = task.harder(split="test", tasks=(1, 8, 20)).task_errors(lambda each: perfect(each, 159))
    assert errors == {1: 0.0, 8: 0.0, 20: 0.0}
    episode = task.sample(16, seeded())
    assert task.loss(torch.zeros(*episode.mask.shape, 159), episode).shape == (16,)

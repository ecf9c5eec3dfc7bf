"""Where pairs come from: files and number words, what is held out, batches."""

import gzip
from pathlib import Path
from typing import Any

import pytest
import torch

from softplace.attention import corpus
from softplace.attention.corpus import Corpus, FileData, NumberWordsData, batch_of, number_words
from softplace.attention.number_words import NumberWords
from softplace.attention.text import BEGIN, END, PAD
from softplace.errors import InputError

GERMAN = [f"Satz {number} ist hier ." for number in range(40)]
ENGLISH = [f"sentence {number} is here ." for number in range(40)]


def write(path: Path, lines: list[str]) -> Path:
    text = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def files(folder: Path, **options: Any) -> FileData:
    given: dict[str, Any] = {
        "valid_source": None, "valid_target": None, "kind": "words", "words": None, "lower": False, "shared": True,
        "longest": 50, "known": None,
    }  # fmt: skip
    source, target = write(folder / "train.de.gz", GERMAN), write(folder / "train.en", ENGLISH)
    return FileData(source, target, **given | options)


def test_a_batch_by_hand() -> None:
    batch = batch_of([([7, 8, END], [9, END]), ([5, END], [6, 7, END])])
    assert batch.source.tolist() == [[7, 8, END], [5, END, PAD]]
    assert batch.source_mask is not None
    assert batch.source_mask.tolist() == [[True] * 3, [True, True, False]]
    assert batch.given.tolist() == [[BEGIN, 9, PAD], [BEGIN, 6, 7]]
    assert batch.wanted.tolist() == [[9, END, PAD], [6, 7, END]]
    assert batch_of([([7, END], [9, END])]).source_mask is None


def test_pairs_in_a_file_are_those_in_memory(tmp_path: Path) -> None:
    pairs = [([1, 2, 3], [70_000]), ([4], [5, 6]), ([7], [8])]
    memory, file = Corpus.of(pairs), Corpus.streamed(iter(pairs), tmp_path)
    assert list(tmp_path.iterdir()) == []
    for made in (memory, file):
        assert len(made) == 3
        assert [made.pair(number) for number in range(3)] == pairs
        assert made.lengths.tolist() == [[3, 1], [1, 2], [1, 1]]
    assert len(Corpus.streamed(iter([]), tmp_path)) == 0


def test_files_are_cut_held_out_and_known_again(tmp_path: Path) -> None:
    data = files(tmp_path)
    data.prepare(tmp_path)
    assert data.notes == []
    trained = data.epoch(0)
    assert data.epoch(1) is trained
    assert (len(trained), len(data.validation)) == (38, 2)
    kept = {data.source_tokens.decode(trained.pair(number)[0]) for number in range(38)}
    held = {each.source for each in data.validation}
    assert not kept & held
    assert len(kept | held) == 40
    assert data.source_tokens is data.target_tokens
    assert "ist" in data.source_tokens.names(trained.pair(0)[0])
    assert data.record() == files(tmp_path).record()
    assert data.record() != files(tmp_path, lower=True).record()
    other = files(tmp_path, valid_source=tmp_path / "train.en", valid_target=tmp_path / "train.de.gz", shared=False)
    assert other.record()["digest"] != data.record()["digest"]
    assert len(other.validation) == 40
    assert other.source_tokens.record() != other.target_tokens.record()
    again = files(tmp_path, known=(other.source_tokens, other.target_tokens))
    assert again.source_tokens is other.source_tokens


def test_long_pairs_are_left_out_and_counted(tmp_path: Path) -> None:
    GERMAN_LONG = [*GERMAN[:-1], " ".join(["lang"] * 30)]
    source, target = write(tmp_path / "a", GERMAN_LONG), write(tmp_path / "b", ENGLISH)
    options: dict[str, Any] = {"valid_source": tmp_path / "a", "valid_target": tmp_path / "b", "kind": "words"}
    more: dict[str, Any] = {"words": None, "lower": False, "shared": True, "known": None}
    data = FileData(source, target, longest=10, **options, **more)
    data.prepare(tmp_path)
    assert (len(data.epoch(0)), len(data.validation)) == (39, 39)
    assert data.notes == [
        "1 pairs to validate on have more than 10 tokens and are left out.",
        "1 pairs of more than 10 tokens are left out.",
    ]
    with pytest.raises(InputError, match=r"'longest_pair' must leave a pair to validate on\. Got 2 tokens"):
        FileData(source, target, longest=2, **options, **more)
    short = write(tmp_path / "short", ["a"])
    options |= {"valid_source": short, "valid_target": short}
    with pytest.raises(InputError, match=r"'longest_pair' must leave a pair to train on\. Got 2 tokens"):
        FileData(source, target, longest=2, **options, **more).prepare(tmp_path)


def test_what_a_person_should_know_of_the_files_is_noted(tmp_path: Path) -> None:
    source, target = write(tmp_path / "a", [*GERMAN, "", "x"]), write(tmp_path / "b", [*ENGLISH, "y", ""])
    options: dict[str, Any] = {"kind": "words", "words": None, "lower": False, "shared": True, "known": None}
    options |= {"longest": 99, "valid_source": None, "valid_target": None}
    assert FileData(source, target, **options).notes == ["2 pairs of which a side is empty are left out."]
    assert FileData(source, source, **options).notes == [
        "1 pairs of which a side is empty are left out.",
        "41 of 41 targets equal their sources: a net learns to copy. Are these the right files?",
    ]


def test_bad_files(tmp_path: Path) -> None:
    source, empty = write(tmp_path / "a", ["eins", ""]), write(tmp_path / "b", ["", "two"])
    options: dict[str, Any] = {"kind": "words", "words": None, "lower": False, "shared": True, "known": None}
    options |= {"longest": 9, "valid_source": None, "valid_target": None}
    with pytest.raises(InputError, match=r"must have two pairs of lines or more that are not empty\. Got 0"):
        FileData(source, empty, **options)
    with pytest.raises(InputError, match="must come together"):
        FileData(source, source, **options | {"valid_source": source})
    with pytest.raises(InputError, match=r"must have lines that are not empty\. Got none"):
        files(tmp_path, valid_source=source, valid_target=empty)
    with pytest.raises(InputError, match="Cannot write the corpus"):
        Corpus.streamed(iter([]), tmp_path / "missing")


def test_number_words_hold_lists_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "EPOCH", 300)
    monkeypatch.setattr(corpus, "TESTED", 50)
    data = NumberWordsData(NumberWords(count=(1, 2), digits=(2, 3)), seed=0)
    held = {each.source for each in [*data.validation, *data.test(), *data.held("length", 20, numbers=2)]}
    epochs = [data.epoch(number) for number in range(3)]
    trained = [data.source_tokens.decode(epoch.pair(number)[0]) for epoch in epochs for number in range(300)]
    assert not held & set(trained)
    assert len(set(trained)) > 700
    assert {each.source.count(",") for each in data.held("length", 20, numbers=4)} == {3}
    validation, test = ([each.source for each in some] for some in (data.validation, data.test()))
    assert len({*validation, *test}) == len(validation) + len(test)  # all different
    assert not set(validation) & {each.source for each in data.held("length", 20, numbers=2)}
    pair = data.validation[0]
    assert pair.links
    assert max(i for i, _ in pair.links) < len(pair.source.split())
    assert data.epoch(0).lengths.tolist() != data.epoch(1).lengths.tolist()
    assert data.epoch(1).words.tolist() == NumberWordsData(data.grammar, seed=0).epoch(1).words.tolist()
    assert data.epoch(1).words.tolist() != NumberWordsData(data.grammar, seed=1).epoch(1).words.tolist()
    assert NumberWordsData(NumberWords(count=(1, 1), digits=(1, 1)), 0).validation  # too few to hold some out


def test_data_by_name() -> None:
    found = number_words("number-words:ja-fr", 0, {"count": [2, 2], "digits": (1, 1)})
    assert found.record() == {
        "kind": "number-words", "source": "ja", "target": "fr", "count": [2, 2], "digits": [1, 1],
    }  # fmt: skip
    assert torch.is_tensor(batch_of([found.epoch(0).pair(0)]).source)
    for text, options, message in (
        ("number-words:en", {}, "must be number-words:SOURCE-TARGET"),
        ("number-words:en-xx", {}, r"Known: en, de, fr, ja"),
        ("numbers:en-de", {}, "must be number-words:SOURCE-TARGET"),
        ("number-words:en-de", {"length": (1, 2)}, r"must be count=\[1,3\]"),
        ("number-words:en-de", {"count": 3}, r"must be count=\[1,3\]"),
        ("number-words:en-de", {"count": (3, 1)}, "two ascending whole numbers"),
        (
            "number-words:en-de",
            {"count": [1]},
            r"'count' must be two ascending whole numbers from 1 to 1000\. Got \(1,\)",
        ),
        ("number-words:en-de", {"count": [1, 2, 3]}, "two ascending whole numbers"),
        ("number-words:en-de", {"count": [1.0, 2.5]}, "two ascending whole numbers"),
        ("number-words:en-de", {"digits": [1, 10]}, "two ascending whole numbers from 1 to 9"),
    ):
        with pytest.raises(InputError, match=message):
            number_words(text, 0, options)

"""Text: files as people have them, vocabularies and batches."""

import gzip
from pathlib import Path
from typing import Any

import pytest
import torch

from softplace.attention.text import (
    BEGIN,
    END,
    PAD,
    SPECIAL,
    UNKNOWN,
    Vocabulary,
    batches,
    pad,
    read_lines,
    read_parallel,
)
from softplace.errors import InputError


def test_a_vocabulary_is_ordered_by_frequency_then_alphabet() -> None:
    sentences = [["b", "a", "c"], ["c", "a", "c", "<s>"], ["d"]]
    assert Vocabulary.of(sentences).words == ("c", "a", "b", "d")
    assert Vocabulary.of(sentences, most=2).words == ("c", "a")
    assert Vocabulary.of(sentences, least=2).words == ("c", "a")


def test_there_and_back() -> None:
    known = Vocabulary(("eins", "zwei"))
    assert len(known) == len(SPECIAL) + 2
    assert known.encode(["zwei", "drei", "eins"]) == [5, UNKNOWN, 4, END]
    assert known.encode([]) == [END]
    assert known.decode([BEGIN, 5, UNKNOWN, 4, END, 4, PAD]) == ["zwei", "<unk>", "eins"]


def test_padding_is_behind_and_the_mask_knows_it() -> None:
    numbers, mask = pad([[5, 2], [7, 8, 9, 2], []])
    assert numbers.tolist() == [[5, 2, PAD, PAD], [7, 8, 9, 2], [PAD] * 4]
    assert mask.tolist() == [[True, True, False, False], [True] * 4, [False] * 4]
    assert pad([])[0].shape == (0, 0)


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("room", [1, 30, 200, 10**6])
def test_batches_hold_every_pair_once_and_fit(seed: int | None, room: int) -> None:
    generator = torch.Generator().manual_seed(5)
    lengths = [tuple(pair) for pair in torch.randint(1, 40, (500, 2), generator=generator).tolist()]
    made = list(batches(lengths, room=room, generator=None if seed is None else torch.Generator().manual_seed(seed)))
    assert sorted(place for batch in made for place in batch) == list(range(500))
    for batch in made:
        assert len(batch) == 1 or len(batch) * max(max(lengths[place]) for place in batch) <= room


def test_batches_pad_little_and_are_shuffled() -> None:
    generator = torch.Generator().manual_seed(6)
    lengths = [(length, length) for length in torch.randint(1, 60, (4000,), generator=generator).tolist()]

    def draw(seed: int) -> list[list[int]]:
        return list(batches(lengths, room=1000, generator=torch.Generator().manual_seed(seed)))

    made = draw(0)
    padded = sum(len(batch) * max(lengths[place][0] for place in batch) for batch in made)
    assert sum(length for length, _ in lengths) / padded > 0.95
    assert made == draw(0)
    assert made != draw(1)
    firsts = [lengths[batch[0]][0] for batch in made]
    assert firsts != sorted(firsts)


def written(path: Path, data: bytes) -> Path:
    if path.suffix == ".gz":
        with gzip.open(path, "wb") as file:
            file.write(data)
    else:
        path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", [".de", ".gz"])
def test_lines_are_read_as_they_are(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"a{suffix}", "\ufeffGrüße \r\n\n  zwei\u2028drei\nlast".encode())
    assert list(read_lines(path)) == ["Grüße ", "", "  zwei\u2028drei", "last"]


def test_pairs_of_which_a_side_is_empty_are_left_out(tmp_path: Path) -> None:
    source = written(tmp_path / "a.en", b"one\n\nthree\nfour\n")
    target = written(tmp_path / "a.gz", b"eins\nzwei\n  \nvier\n")
    assert list(read_parallel(source, target)) == [("one", "eins"), ("four", "vier")]


@pytest.mark.parametrize(
    ("english", "german", "said"),
    [
        (b"a\nb\nc\n", b"a\n", "must have as many lines. Got only 1 in"),
        (b"a\n", b"a\nb\n", "must have as many lines. Got only 1 in"),
        (b"a\nb\xff\n", b"a\nb\n", "must be text in UTF-8. Got the byte 0xff in line 2"),
        (b"a\n" + b"x" * 100_000, b"a\nb\n", "Line 2 of"),
        (None, b"a\n", "must be a text file, plain or .gz. Got: No such file or directory"),
    ],
)
def test_bad_files_are_said_in_one_line(tmp_path: Path, english: bytes | None, german: bytes, said: str) -> None:
    source, target = tmp_path / "a.en", written(tmp_path / "a.de", german)
    if english is not None:
        written(source, english)
    with pytest.raises(InputError) as caught:
        list(read_parallel(source, target))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_archive_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gz", b"one\n" * 1000)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"must be a text file, plain or \.gz"):
        list(read_lines(path))
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"must be a text file, plain or \.gz"):
        list(read_lines(path))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Vocabulary(("a", "b", "a")), "Got 'a' twice"),
        (lambda: Vocabulary(("<s>",)), "Got '<s>' twice"),
        (lambda: list(batches([(1, 1)], room=0)), "'room' and 'pool' must be at least 1. Got 0 and 100"),
    ],
)
def test_what_cannot_be_used_is_said(call: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert said in str(caught.value)

"""Files of scores: what is read, and how each fault is named."""

import gzip
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from softplace.errors import InputError
from softplace.output.scores_file import Scores, read_scores


def csv(folder: Path, text: str, name: str = "scores.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


GOOD = "cat,dog,owl,label\n0.7,0.2,0.1,cat\n0.1,0.8,0.1,dog\n0.2,0.2,0.6,owl\n0.5,0.25,0.25,dog\n"


def test_probabilities_with_names_of_classes(tmp_path: Path) -> None:
    found = read_scores(csv(tmp_path, GOOD))
    assert found.classes == ("cat", "dog", "owl")
    assert found.labels.tolist() == [0, 1, 2, 1]
    assert found.kind == "probabilities"
    assert found.notes == ()
    torch.testing.assert_close(found.logits[0].exp(), torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64))
    numbered = (
        GOOD.replace("label", "truth").replace(",cat\n", ",0\n").replace(",dog\n", ",1\n").replace(",owl\n", ",2\n")
    )
    same = read_scores(csv(tmp_path, numbered), label="truth", classes=["cat", "dog", "owl"])
    assert same.labels.tolist() == [0, 1, 2, 1]


def test_logits_packed_and_in_any_order_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv.gz"
    path.write_bytes(gzip.compress("\ufeffid,Y,a,b\r\n1,b,-3,4e1\r\n2,a,0.5,-inf\r\n".encode()))
    found = read_scores(path, classes=["b", "a"])
    assert found.kind == "logits"
    assert found.logits.tolist() == [[40.0, -3.0], [-math.inf, 0.5]]
    assert found.labels.tolist() == [0, 1]


def test_names_that_are_numbers_count_before_positions(tmp_path: Path) -> None:
    found = read_scores(csv(tmp_path, "1,2,y\n3,-4,1\n-3,4,2\n"))
    assert found.labels.tolist() == [0, 1]
    found = read_scores(csv(tmp_path, "1,2,y\n3,-4,0\n-3,4,1.0\n"))
    assert found.labels.tolist() == [0, 1]


@pytest.mark.parametrize(("numbers", "kind"), [((0.25, 0.5), "probabilities"), ((-1.5, 2.0), "logits")])
def test_one_column_is_the_second_of_two_classes(tmp_path: Path, numbers: tuple[float, float], kind: str) -> None:
    found = read_scores(csv(tmp_path, f"p,label\n{numbers[0]},0\n{numbers[1]},1\n"))
    assert (found.kind, found.classes) == (kind, ("0", "1"))
    difference = found.logits[:, 1] - found.logits[:, 0]
    expected = [math.log(p / (1 - p)) for p in numbers] if kind == "probabilities" else list(numbers)
    assert difference.tolist() == pytest.approx(expected)


def test_rounded_probabilities_are_made_whole_and_zeros_said(tmp_path: Path) -> None:
    found = read_scores(csv(tmp_path, "a,b,c,label\n0.333,0.333,0.333,a\n1.0,0.0,0.0,b\n0.99,0.01,0.0,a\n"))
    assert found.logits.exp()[0].tolist() == pytest.approx([1 / 3] * 3)
    assert found.logits.isfinite().all()
    assert found.notes == (
        "3 probabilities of 0 count as 0.01, the smallest above 0",
        "1 of 3 classes have no rows: 'c'",
    )


@pytest.mark.parametrize("name", ["logits", "probabilities", "scores"])
def test_npz(tmp_path: Path, name: str) -> None:
    numbers = np.array([[0.5, 0.5], [0.25, 0.75]], np.float32)
    np.savez(tmp_path / "a.npz", **{name: numbers, "labels": np.array([1, 0])})
    found: Scores = read_scores(tmp_path / "a.npz")
    assert found.kind == ("logits" if name == "logits" else "probabilities")
    assert found.labels.tolist() == [1, 0]
    np.savez(tmp_path / "b.npz", probs=np.array([0.1, 0.9]), y=np.array([False, True]))
    assert read_scores(tmp_path / "b.npz").logits.shape == (2, 2)
    np.savez(tmp_path / "c.npz", logits=numbers, words=np.array(["1", "0"]))
    assert read_scores(tmp_path / "c.npz", label="words").labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected a header and rows, got an empty file"),
        ("a,b,label\n", "expected rows, got none"),
        ("a,a,label\n1,2,0\n", "expected different column names, got 'a' more than once"),
        ("a,b,c\n1,2,0\n", "expected one column named label, .* got none. Name it by --label; there are 'a', 'b', 'c'"),
        ("a,y,label\n1,2,0\n", "got 'y', 'label'. Name it by --label"),
        ("label\n0\n", "expected a column of scores beside 'label', got none"),
        ("a,b,label\n1,2,0\n1,,1\n", "row 3 (the header is row 1), column 'b': expected a number, got a missing cell"),
        ("a,b,label\n1,2,0\n1,x,1\n", "column 'b': expected a number, got 'x'"),
        ("a,b,label\n1,2,0\n1,nan,1\n", "row 3 (the header is row 1), column 'b': expected a number, got nan"),
        ("a,b,label\n1,inf,0\n", "expected a number, got inf"),
        ("a,b,label\n1,2\n", "row 2 (the header is row 1): expected 3 cells, got 2"),
        ("a,b,label\n3,4,0\n3,4,2\n", "expected a label that is a class ('a', 'b') or a number from 0 to 1, got '2'"),
        ("a,b,label\n3,4,0\n3,4,0.5\n", "got '0.5'"),
        ("a,b,label\n3,4,0\n3,4,\n", "row 3 .* got a missing cell"),
        ("a,b,label\n3,4,0\n4,3,0\n", "expected labels of two classes or more, got 'a' in every row"),
        ("a,b,label\n0.4,0.6,0\n0.4,0.5,1\n", "row 3 .* expected probabilities that sum to 1, got the sum 0.9"),
        ('a,b,label\n"3,4,0\n', "expected a CSV file in UTF-8, got"),
    ],
)  # fmt: skip
def test_a_fault_of_a_csv_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    pattern = ".*".join(re.escape(part) for part in says.split(".*"))
    with pytest.raises(InputError, match=pattern):
        read_scores(csv(tmp_path, text))


def test_other_faults_are_named(tmp_path: Path) -> None:
    good = csv(tmp_path, GOOD)
    logits = csv(tmp_path, "a,b,label\n3,-4,0\n3,4,1\n", "logits.csv")
    for path, options, says in (
        (tmp_path / "no.csv", {}, "expected a file of scores, got no file"),
        (tmp_path, {}, "got a folder"),
        (csv(tmp_path, GOOD, "scores.txt"), {}, "expected a name that ends in .csv, .csv.gz or .npz"),
        (good, {"kind": "probability"}, "Got 'probability'. Did you mean 'probabilities'"),
        (good, {"label": "lable"}, "expected a column 'lable', got none. Did you mean 'label'"),
        (good, {"classes": ["cat", "dgo"]}, "expected a column 'dgo', got none. Did you mean 'dog'"),
        (good, {"classes": ["cat", "label"]}, "expected scores in column 'label', got the labels"),
        (
            logits,
            {"kind": "probabilities"},
            "row 2 .*, column 'a': expected a probability from 0 to 1, got 3. Say --kind",
        ),
    ):
        with pytest.raises(InputError, match=says):
            read_scores(path, **options)
    (tmp_path / "bad.csv").write_bytes(b"a,b,label\n\xff,1,0\n")
    with pytest.raises(InputError, match="expected a CSV file in UTF-8"):
        read_scores(tmp_path / "bad.csv")
    (tmp_path / "bad.npz").write_bytes(b"PK no")
    with pytest.raises(InputError, match="expected an NPZ file of numbers"):
        read_scores(tmp_path / "bad.npz")
    numbers = np.zeros((3, 2))
    for number, (arrays, says) in enumerate((
        ({"labels": np.zeros(3, int)}, "expected one array of scores named .* got none"),
        ({"logits": numbers, "scores": numbers, "labels": np.zeros(3, int)}, "got 'logits', 'scores'"),
        ({"logits": numbers, "labels": np.zeros(4, int)}, r"expected 3 labels, got int64 of shape \(4,\)"),
        ({"logits": np.zeros((3, 2, 2)), "labels": np.zeros(3, int)}, r"expected numbers \(rows, classes\)"),
        ({"logits": numbers + np.nan, "labels": np.zeros(3, int)}, r"row 0 .*, column '0': .* got nan"),
        ({"logits": numbers, "labels": np.array([0, 1, 5])}, r"row 2 \(the first is row 0\): .* got '5'"),
        ({"logits": numbers[:0], "labels": np.zeros(0, int)}, "expected rows, got none"),
        ({"logits": numbers.astype(object), "labels": np.zeros(3, int)}, "expected an NPZ file of numbers"),
    )):  # fmt: skip
        np.savez(tmp_path / f"{number}.npz", **arrays)
        with pytest.raises(InputError, match=says):
            read_scores(tmp_path / f"{number}.npz")

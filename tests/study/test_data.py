"""Tables: what is read, what is refused and with which words, and how a table is cut into parts."""

import gzip
import io
import os
import re
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from softplace.errors import InputError
from softplace.study import data
from softplace.study.data import load, split, split_indices

Array = np.ndarray[Any, Any]


@pytest.fixture
def write(tmp_path: Path):
    def _write(content: str | bytes, name: str = "table.csv") -> Path:
        path = tmp_path / name
        raw = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return path

    return _write


def rows(*lines: str, times: int = 5) -> str:
    """Each line `times` times, so that every class has enough rows."""
    return "".join(f"{line}\n" for line in lines for _ in range(times))


def refusal(*arguments: Any, **named: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(*arguments, **named)
    text = str(caught.value)
    assert text.isprintable(), "an error is one line"
    assert len(text) < 900
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return text


def arrays(n: int = 10) -> tuple[Array, Array]:
    return np.arange(2.0 * n).reshape(n, 2), np.arange(n) % 2


# --- what is read ---


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("digits", (1797, 64), 10), ("wine", (178, 13), 3), ("breast_cancer", (569, 30), 2)],
)
def test_bundled(name: str, shape: tuple[int, int], classes: int) -> None:
    table = load(name)
    assert (table.name, table.features.shape, len(table.class_names)) == (name, shape, classes)
    assert (table.features.dtype, table.labels.dtype) == (np.float32, np.int64)
    assert len(table.feature_names) == shape[1]
    assert set(table.labels) == set(range(classes))
    assert len(table.fingerprint) == 64
    assert load(name).fingerprint == table.fingerprint


def test_digits_are_sklearns_and_name_their_constant_columns() -> None:
    table = load("digits")
    assert np.array_equal(table.features, load_digits().data)
    assert table.notes == (
        "3 of 64 columns have one value in every row, used as 0: 'pixel_0_0', 'pixel_4_0', 'pixel_4_7'",
    )


def test_csv_by_hand(write) -> None:
    path = write(
        "age, colour ,choice,income\n"
        + rows("30,red,yes,1.5", times=5)
        + rows("-4e1,blue, no,", times=3)
        + '41," blue ",no,2\n'
        + "41,NA,no,NA\n"
    )
    table = load(path, target="choice")
    assert table.name == "table.csv"
    assert table.feature_names == ("age", "colour=(missing)", "colour=blue", "colour=red", "income")
    assert table.class_names == ("no", "yes")
    assert table.labels.tolist() == [1] * 5 + [0] * 5
    nan = np.nan
    expected = [[30, 0, 0, 1, 1.5]] * 5 + [[-40, 0, 1, 0, nan]] * 3 + [[41, 0, 1, 0, 2]] + [[41, 1, 0, 0, nan]]
    assert np.array_equal(table.features, np.array(expected, np.float32), equal_nan=True)
    assert table.notes == (
        "column 'colour' holds words: one column of 0 and 1 for each of 3 ('(missing)', 'blue', 'red')",
        "1 of 10 rows have a missing value in column 'colour' (its level '(missing)')",
        "4 of 10 rows have a missing value in column 'income' (mean of the training part fills it)",
    )


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("name", ["t.csv", "t.CSV", "t.csv.gz"])
def test_the_same_table_in_every_dress(write, ends: str, start: str, name: str) -> None:
    text = start + "x,y\n" + rows("1,a", "2.5,b")
    table = load(str(write(text.replace("\n", ends), name)), target="y")
    assert table.features.tolist() == [[1.0]] * 5 + [[2.5]] * 5
    assert table.feature_names == ("x",)
    assert table.fingerprint == load((table.features, table.labels)).fingerprint


def test_blank_rows_are_skipped_but_counted(write) -> None:
    text = "x,y\n\n" + rows("1,a", "2,b") + "\n\n"
    assert len(load(write(text), target="y").labels) == 10
    assert "row 4 (the header is row 1)" in refusal(write(text.replace("1,a\n1,a", "1,a\noops,a", 1)), target="y")


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["b", "10", "9"], ("10", "9", "b")),
        (["True", "False"], ("False", "True")),
        (["1.0", "2.5"], ("1.0", "2.5")),
    ],
)
def test_classes_are_in_the_order_of_their_values_or_names(write, cells: list[str], names: tuple[str, ...]) -> None:
    table = load(write("x,y\n" + rows(*(f"{i},{cell}" for i, cell in enumerate(cells)))), target="y")
    assert table.class_names == names
    assert [table.class_names[label] for label in table.labels] == [cell for cell in cells for _ in range(5)]


@pytest.mark.parametrize(
    "name", ['say "hi"', "</script><script>alert(1)</script>", "🦄 größe", "two\nlines", "a,b", "{{ x }}", "x" * 5000]
)
def test_hostile_names_survive_and_keep_errors_on_one_line(write, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    table = load(write(f"{quoted},y\n" + rows("1,a", "2,b")), target="y")
    assert table.feature_names == (name,)
    bad = write(f"{quoted},y\n" + rows("1,a", "2,b") + "oops,a\n")
    assert "expected a number, got 'oops'" in refusal(bad, target="y")
    assert "Known: " in refusal(bad, target="z")
    assert load(write(f"x,{quoted}\n" + rows("1,a", "2,b")), target=name).class_names == ("a", "b")


def test_the_type_of_a_column_is_the_majority(write) -> None:
    words = load(write("x,y\n" + rows("1,a", "red,b")), target="y")
    assert words.feature_names == ("x=1", "x=red"), "half are numbers: words"
    text = refusal(write("x,y\n" + rows("1,a", "red,b") + "2,a\n"), target="y")
    assert text.startswith(
        "column 'x', row 7 (the header is row 1): expected a number, got 'red' (5 such cells in the "
    )
    assert text.endswith("Fix the cell, leave it empty (the mean fills it), or drop the column.")
    codes = load(write("x,y\n" + rows("1_2,a", "1_3,b")), target="y")
    assert codes.feature_names == ("x=1_2", "x=1_3"), "Python's float() would read 12"


def test_many_words_in_many_blocks(write) -> None:
    """The in-place expansion, over several blocks and steps, with the target between the columns."""
    draw = np.random.default_rng(0)
    n = 30_000
    a, c = draw.normal(size=n).round(3), draw.integers(0, 37, n)
    b, d, y = draw.integers(0, 3, n), draw.integers(0, 90, n), draw.integers(0, 4, n)
    lines = [f"w{i},{j},k{m},{v},v{k}" for i, j, m, v, k in zip(b, a, y, c, d, strict=True)]
    table = load(write("b,a,y,c,d\n" + "\n".join(lines)), target="y")
    levels = sorted(f"v{k}" for k in range(90))
    one_hot = np.array(levels) == np.array([f"v{k}" for k in d])[:, None]
    expected = np.column_stack([b[:, None] == np.arange(3), a, c, one_hot])
    assert np.array_equal(table.features, expected.astype(np.float32))
    assert table.feature_names[3:5] == ("a", "c")
    assert np.array_equal(table.labels, y)


def test_a_million_cells_are_read_in_bounded_memory(write) -> None:
    """1e5 rows x 10: the peak is below twice the float32 result (a list of the cells would be 15 times)."""
    draw = np.random.default_rng(1)
    block = "".join(
        ",".join(f"{v:.4f}" for v in row) + f",{i % 3}\n" for i, row in enumerate(draw.normal(size=(1000, 10)))
    )
    path = write(",".join([*(f"c{j}" for j in range(10)), "y"]) + "\n" + 100 * block)
    load(write("x,y\n" + rows("1,a", "2,b"), "small.csv"), target="y")
    tracemalloc.start()
    try:
        table = load(path, target="y")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert table.features.shape == (100_000, 10)
    assert np.array_equal(table.features[:1000], table.features[-1000:])
    # The codes of the classes (12 bytes a row) and one block of cells (3 MB) come on top of the growing buffer.
    assert peak < 1.25 * table.features.nbytes + 12 * 100_000 + 4e6, f"{peak / table.features.nbytes:.2f}"


def pandas_pair(x: Array, y: Array) -> tuple[Any, Any]:
    return pd.DataFrame(x, columns=["a", "b"]), pd.Series(y)


@pytest.mark.parametrize(
    "dress",
    [
        lambda x, y: (x, y),
        lambda x, y: (x.tolist(), y.tolist()),
        lambda x, y: (x.astype(np.int8), y.astype(np.float64)),
        lambda x, y: (np.asfortranarray(x), y.astype(np.uint8)),
        lambda x, y: (torch.tensor(x, requires_grad=True), torch.tensor(y)),
        pandas_pair,
        lambda x, y: (pd.DataFrame(x).astype("Int64"), pd.Series(y).astype("category")),
        lambda x, y: (pd.DataFrame(x).astype(object), y.astype(object)),
    ],
)
def test_pairs_of_every_kind_give_one_table(dress: Any) -> None:
    x, y = arrays()
    table, plain = load(dress(x, y)), load((x, y))
    assert table.fingerprint == plain.fingerprint
    assert table.class_names == ("0", "1")
    assert plain.feature_names == ("x0", "x1")
    assert table.features.flags.c_contiguous


def test_a_table_is_a_copy() -> None:
    x, y = np.zeros((10, 1), np.float32), np.arange(10) % 2
    table = load((x, y))
    x[:] = 7
    assert table.features.max() == 0


def test_a_frame_with_words() -> None:
    frame = pd.DataFrame({"size": [1, 2] * 5, "colour": ["red", "blue"] * 5, "ok": [True, False] * 5})
    table = load((frame, pd.Series(["n", "y"] * 5)))
    assert table.feature_names == ("size", "colour=blue", "colour=red", "ok")
    assert table.features[:2].tolist() == [[1, 0, 1, 1], [2, 1, 0, 0]]
    assert table.class_names == ("n", "y")


def test_labels_of_a_pair() -> None:
    x, y = arrays()
    assert load((x, y == 1)).class_names == ("False", "True")
    assert load((x, 10 - 8 * y)).class_names == ("2", "10")
    assert load((x, 10 - 8 * y)).labels.tolist() == [1, 0] * 5
    assert load((x, np.where(y, "b", "a"))).class_names == ("a", "b")


def test_npz(tmp_path: Path) -> None:
    x, y = arrays()
    np.savez(tmp_path / "a.npz", X=x, y=y, other=y)
    np.savez_compressed(tmp_path / "b.npz", pixels=x, digit=y)
    first, second = load(tmp_path / "a.npz"), load(tmp_path / "b.npz", target="digit")
    assert first.fingerprint == second.fingerprint == load((x, y)).fingerprint
    assert first.name == "a.npz"
    assert load(tmp_path / "a.npz", target="other").fingerprint == first.fingerprint
    images = np.arange(60, dtype=np.uint8).reshape(10, 2, 3)
    whole = {"x_train": images[:7], "y_train": y[:7], "x_test": images[7:], "y_test": y[7:]}
    np.savez(tmp_path / "mnist.npz", **whole)  # as copies of MNIST are
    third = load(tmp_path / "mnist.npz")
    assert third.features.tolist() == images.reshape(10, 6).tolist()
    assert third.labels.tolist() == first.labels.tolist()
    np.savez(tmp_path / "rows.npz", X=images, y=y)
    assert load(tmp_path / "rows.npz").fingerprint == third.fingerprint


def test_the_fingerprint_sees_features_labels_and_shape_only() -> None:
    x, y = np.zeros((10, 2)), np.arange(10) % 2
    same = load((pd.DataFrame(x, columns=["p", "q"]), np.where(y, "b", "a")))
    prints = [load(pair).fingerprint for pair in ((x, y), (x + 1, y), (x, 1 - y), (x[:, :1], y))]
    assert same.fingerprint == prints[0]
    assert len(set(prints)) == 4


def test_notes_on_constant_and_coarse_columns(write) -> None:
    text = "same,stamp,y\n" + rows("5,1700000000,a", "5,1700000001,b")
    constant, coarse = load(write(text), target="y").notes
    assert constant.startswith("2 of 2 columns have one value in every row, used as 0: 'same', 'stamp'")
    assert coarse == (
        "column 'stamp' reaches 1.7e+09, where float32 cannot tell its values apart: subtract a constant from it first"
    )
    numbered = load(write("0,1\n" + rows("1,2", "2,3")), target="1")
    assert numbered.notes == ("every column name is a number: is the first row of the file a header?",)


def test_notes_on_many_columns_are_cut(write) -> None:
    header = ",".join([*(f"n{j}" for j in range(30)), *(f"w{j}" for j in range(25)), "y"])
    line = ",".join(["1"] * 30 + ["u"] * 25)
    text = f"{header}\n" + rows(f"{line},a", f"{line.replace('1', '2')},b") + "," * 55 + "a\n"
    notes = load(write(text), target="y").notes
    assert len(notes) == 63
    assert notes[20] == "5 more columns hold words: one column of 0 and 1 for each word"
    assert notes[41] == "5 more columns of words have missing values (their level '(missing)')"
    assert notes[62] == "10 more columns have missing values (means of the training part fill them)"


def test_whole_numbers_above_2_to_the_53_are_classes(tmp_path: Path) -> None:
    x, _ = arrays(30)
    large = np.arange(30).astype(np.uint64) % np.uint64(3) + np.uint64(2**63)
    np.savez(tmp_path / "large.npz", X=x, y=large)
    table = load(tmp_path / "large.npz")
    assert table.class_names == ("9223372036854775808", "9223372036854775809", "9223372036854775810")
    assert np.array_equal(table.labels, np.arange(30) % 3)


# --- what is refused ---


def test_an_infinite_class_is_refused_in_a_file_as_in_arrays(write) -> None:
    assert "'inf'" in refusal(write("a,y\n" + rows("1,1", "2,inf")), target="y")
    assert "infinite" in refusal((np.ones((10, 1)), [1.0, np.inf] * 5))
    assert load(write("a,y\n" + rows("1,sup", "2,inf")), target="y").class_names == ("inf", "sup")


def test_an_archive_with_a_broken_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("X.npy", "y.npy"):
            archive.writestr(name, b"\x93NUMPY\x01\x00\x10\x00{'descr': ((((((\n")
    assert "an NPZ archive" in refusal(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n\n\n", "the names of the columns in row 1, got a blank row"),
        ("a,y\n1," + "c" * 200_000 + "\n", "field larger than field limit (131072). Shorten the cell"),
    ],
)
def test_a_csv_that_is_no_table_is_refused_for_the_right_reason(write, text: str, said: str) -> None:
    assert said in refusal(write(text), target="y")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "'data': expected a name or a path, got an empty text"),
        (
            "https://example.com/a.csv",
            "expected a local file, got the address 'https://example.com/a.csv'. Download it",
        ),
    ],
)
def test_what_is_no_path_is_refused(given: str, said: str) -> None:
    assert said in refusal(given, target="y")


@pytest.mark.parametrize("target", [4, b"y", ["y"]])
def test_a_target_that_is_no_text_is_refused(write, target: Any) -> None:
    assert "'target': expected a name (text), got" in refusal(write("4,y\n" + rows("1,a", "2,b")), target=target)


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        ("", r"table\.csv'?: expected a header and rows, got an empty file\. Give a file with data\."),
        ("x,y\n", r"expected rows below the header, got none\. Give a file with data\."),
        ("\n1,2\n", r"expected the names of the columns in row 1, got a blank row"),
        ("y\n1\n", r"got only 1 column\. No feature column is left: add one\."),
        ("x;y\n1;2\n", r"got only 1 column\. Is it separated by ';'\? Save it with commas\."),
        ("x\ty\n1\t2\n", r"Is it separated by '\\t'\? Save it with commas\."),
        (
            "x,x,y\n1,2,3\n",
            r"expected different column names, got 'x' 2 times\. Rename them \(or has the file no header",
        ),
        (
            ",x,y\n0,1,2\n",
            r"expected a name for every column, got none for column 1 of 3\. Name it or drop it .*index=F",
        ),
        ("x,y\n1,2\n3\n", r"row 3 \(the header is row 1\): expected 2 cells, got 1\. Fix the row; quote a cell"),
        ("x,y\n1,2,3\n", r"row 2 \(the header is row 1\): expected 2 cells, got 3\."),
        ("x,y\n" + rows("1,a"), r"the target: expected two classes or more, got one, 'a'\. Choose another target\."),
        (
            "x,y\n" + rows("1,a", "2,b") + "3,c\n3,c\n4,d\n",
            r"the target: expected 5 rows or more of every class .*, got 1 of 'd' \(2 of 4 have too few\)\. Join small",
        ),
        (
            "x,y\n" + rows("1,a", "2,b") + "1,\n1,NA\n",
            r"column 'y' \(the target\): expected a class in every row, got 2 missing cells, the first in row 12",
        ),
        (
            "x,y\n" + rows(*(f"1,{i / 7:.3f}" for i in range(30))),
            r"the target: expected few classes, got 30 different numbers in 150 rows, which looks like a mea",
        ),
        ("x,y\n" + rows(*(f"1,{i}" for i in range(30)), times=1), r"looks like a measurement, not a class\. Choose"),
        ("x,y\n" + rows("1,1", "1,1.0"), r"expected one spelling of a class, got '1' and '1\.0'\. Write them alike\."),
        (
            "x,y\n" + rows("1,a", ",b", "x,b", "3,a"),
            r"column 'x', row 12 .*: expected a number, got 'x' \(5 such cells",
        ),
        ("x,y\n" + rows("1,a", "nan,b"), r"column 'x', row 7 .*: expected a finite float32 number, got 'nan' \(5 such"),
        ("x,y\n" + rows("1,a", "-inf,b"), r"expected a finite float32 number, got '-inf' .*leave it empty"),
        ("x,y\n" + rows("1,a", "1e39,b"), r"expected a finite float32 number, got '1e39' .*or drop the column\."),
        (
            "x,y\n" + rows(",a", "NA,b"),
            r"column 'x': expected values, got 10 missing cells and no other\. Drop the col",
        ),
        (
            "x,y\n" + "".join(f"id{i},{i % 2}\n" for i in range(101)),
            r"column 'x': expected at most 100 different values, got more by row 102, e\.g\. 'id0', .*drop it",
        ),
        (
            "x,y\n" + "".join(f"1,{i}\n" for i in range(10_001)),
            r"column 'y': expected at most 10000 different values, got more .*measurement or an identifier",
        ),
        (
            'x,y\n1,"a\n2,b\n',
            r"line 3: expected cells in CSV form, got unexpected end of data\. Check that every quote",
        ),
        ('x,y\n1,"a"b\n', r"line 2: expected cells in CSV form, got .*Check that every quote"),
        ("x,y\n1," + "a" * 200_000 + "\n", r"line 2: expected cells in CSV form, got field larger than field limit"),
        (b"x,y\n1,\xe9t\xe9\n", r"expected text in UTF-8, got the byte 0xe9 at position 6\. Save it as CSV in UTF-8\."),
        (b"x,y\n" + 30_000 * b"1,aaaaaa\n" + b"1,\xc3", r"got the byte 0xc3 at position 270006\."),
        ("x,y\n1,2\n".encode("utf-16"), r"expected text in UTF-8, got the byte 0xff at position 0\."),
        ("x,y\n1,2\n".encode("utf-16-le"), r"expected text, got NUL bytes, as in a binary or UTF-16 file"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", r"expected text in UTF-8, got the byte 0x89 at position 0\."),
        (b"PK\x03\x04\x14\x00\x06\x00,\x00", r"expected text, got NUL bytes"),
        (gzip.compress(b"x,y\n1,2\n", mtime=0), r"expected text in UTF-8, got the byte 0x8b at position 1\."),
    ],
)
def test_csv_that_cannot_be_used(write, content: str | bytes, pattern: str) -> None:
    assert re.search(pattern, text := refusal(write(content), target="y")), text


def test_no_target_or_an_unknown_one(write) -> None:
    path = write("income,choice\n" + rows("1,a", "2,b"))
    none, wrong = refusal(path), refusal(path, target="chioce")
    assert (
        "expected a column, got none. Known: income, choice. Give target='...' (--target on the command line)." in none
    )
    assert "expected a column, got 'chioce'. Did you mean 'choice'? Known: income, choice. Give target=" in wrong
    wide = write(",".join(f"column{i}" for i in range(500)) + "\n", "wide.csv")
    text = refusal(wide, target="colum499")
    assert "Did you mean 'column499'?" in text
    assert text.count("column") < 30


@pytest.mark.parametrize("name", ["digits", "wine", "breast_cancer"])
def test_a_target_for_data_whose_classes_are_known(name: str) -> None:
    text = f"'target': expected none with {name}, whose classes are known, got 'y'. Leave it out."
    assert refusal(name, target="y") == text
    assert "none with a pair (X, y), whose classes are known, got 'y'" in refusal(arrays(), target="y")


def test_files_that_are_none(tmp_path: Path, write) -> None:
    assert refusal("digts") == (
        "Unknown data 'digts'. Did you mean 'digits'? Known: digits, wine, breast_cancer. "
        "Or give a .csv, .csv.gz or .npz file."
    )
    missing = refusal(tmp_path / "a.csv", target="y")
    assert missing.startswith("'data': expected a file that exists, got ")
    assert missing.endswith("which does not. Check the path.")
    assert "got the directory" in refusal(tmp_path)
    assert "expected a .csv, .csv.gz or .npz file, got" in refusal(write("x", "a.xlsx"))
    assert "expected a name (digits, wine, breast_cancer), a path or a pair (X, y), got list" in refusal([1, 2])
    assert "frame.drop(columns='choice')" in refusal(pd.DataFrame({"choice": [1]}))
    os.mkfifo(tmp_path / "pipe.csv")
    assert "expected a regular file (it may be read twice)" in refusal(tmp_path / "pipe.csv", target="y")
    assert refusal("no\nsuch\0file.csv", target="y").startswith("'data': expected a file that exists")
    assert "expected a file that exists" in refusal("a" * 500 + ".csv", target="y")[:60]


def test_gzip_that_is_cut_broken_or_none(tmp_path: Path) -> None:
    whole = gzip.compress(("x,y\n" + rows("1,a", "2,b", times=5000)).encode())
    for name, raw in {"cut": whole[:-20], "none": b"x,y\n1,2\n", "broken": whole[:60] + b"\0" * 9 + whole[69:]}.items():
        path = tmp_path / f"{name}.csv.gz"
        path.write_bytes(raw)
        text = refusal(path, target="y")
        assert "expected a whole file that can be read, got " in text
        assert text.endswith("Check that it may be read, or fetch it again.")


@pytest.mark.parametrize(
    ("x", "y", "pattern"),
    [
        (
            np.zeros((10, 2)),
            np.zeros(9),
            r"'X' and 'y': expected as many rows, got 10 and 9\. Drop what has no partner\.",
        ),
        (
            np.zeros(10),
            np.zeros(10),
            r"'X': expected the shape \(rows, columns\), got \(10,\)\. Use X\.reshape\(len\(X\), -1\)",
        ),
        (np.zeros((10, 8, 8)), np.zeros(10), r"'X': expected the shape .* got \(10, 8, 8\)\. Use X\.reshape"),
        (np.zeros((0, 2)), np.zeros(0), r"got \(0, 2\)\. Give at least one row and one column\."),
        (np.zeros((10, 0)), np.zeros(10), r"got \(10, 0\)\. Give at least one row and one column\."),
        (np.zeros((10, 2)), np.zeros((10, 1)), r"'y': expected the shape \(rows,\), got \(10, 1\)\. Use y\.ravel\(\)"),
        (np.full((10, 2), "a"), arrays()[1], r"'X': expected an array of numbers, got an array of <U1\. Use X\.astype"),
        (np.zeros((10, 2), complex), arrays()[1], r"got an array of complex128"),
        ([[1, 2], [3]], [0, 1], r"'X': expected an array of numbers, got list \(.*inhomogeneous.*Convert it"),
        (
            arrays()[0],
            [0.0, np.nan] * 5,
            r"'y': expected a value in every row, got 5 missing, .* in row 1 \(the first is row 0",
        ),
        (arrays()[0], [None, "a"] * 5, r"'y': expected a value in every row, got 5 missing"),
        (arrays()[0], pd.Series([pd.NA, 1] * 5, dtype="Int64"), r"'y': expected a value in every row, got 5 missing"),
        (
            arrays()[0],
            [1, "a"] * 5,
            r"'y': expected integers, strings or booleans .*, got object with values of type int, str",
        ),
        (arrays()[0], [[1], [1, 2]] * 5, r"'y': expected integers, strings or booleans .* type list\. Convert"),
        (arrays()[0], np.arange(10).astype("M8[D]"), r"'y': expected integers, .*got datetime64\[D\]"),
        (arrays()[0], np.arange(10) / 10, r"the target: expected 5 rows or more"),
        (np.zeros((40, 1)), np.arange(40) / 10, r"looks like a measurement, not a class"),
        (
            np.zeros((10_001, 1)),
            np.arange(10_001),
            r"'y': expected at most 10000 classes, got 10001 different values\. It lo",
        ),
        (np.ma.masked_equal(arrays()[0], 3), arrays()[1], r"'X': expected an array without a mask, got a masked array"),
        (torch.zeros(10, 2, dtype=torch.bfloat16), arrays()[1], r"'X': expected an array of numbers, got Tensor"),
    ],
)
def test_pairs_that_cannot_be_used(x: Any, y: Any, pattern: str) -> None:
    assert re.search(pattern, text := refusal((x, y))), text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_numbers_that_are_not_finite(value: float) -> None:
    x, y = arrays()
    x[[3, 4], 1] = value
    assert refusal((x, y)) == (
        f"column 'x1' of 'X': expected finite float32 numbers, got {value} in row 3 (the first is row 0) "
        "(2 such values in the column, 2 in all). Fill or drop them first."
    )
    x[7, 0] = value
    assert "(2 such values in the column, 3 in all). Fill" in refusal((x, y))
    assert "column 'a' of 'X': expected finite float32 numbers" in refusal((pd.DataFrame(x, columns=["a", "b"]), y))


def test_frames_that_cannot_be_used() -> None:
    y = arrays()[1]
    twice = pd.DataFrame(arrays()[0], columns=["a", "a"])
    assert "'X': expected different column names, got 'a' 2 times. Rename them." in refusal((twice, y))
    gaps = pd.DataFrame({"c": ["red", None] * 5})
    assert "column 'c' of 'X': expected a value in every row, got 5 missing" in refusal((gaps, y))
    integers = pd.DataFrame({"c": pd.array([1, None] * 5, dtype="Int64")})
    assert "column 'c' of 'X': expected finite float32 numbers, got nan in row 1" in refusal((integers, y))
    days = pd.DataFrame({"day": pd.date_range("2026-01-01", periods=10)})
    assert "column 'day' of 'X': expected numbers or words, got datetime64" in refusal((days, y))
    mixed = pd.DataFrame({"age": ["1"] * 9 + ["abc"]})
    assert "column 'age', row 9 (the first is row 0): expected a number, got 'abc'" in refusal((mixed, y))


def test_sparse_arrays_are_refused() -> None:
    from scipy.sparse import csr_array

    assert "'X': expected a dense array, got csr_array. Use X.toarray()." in refusal(
        (csr_array(arrays()[0]), arrays()[1])
    )


def test_npz_that_cannot_be_used(tmp_path: Path) -> None:
    x, y = arrays()
    path = tmp_path / "a.npz"
    np.savez(path, X=x, labels=y)
    text = refusal(path)
    assert (
        "expected the arrays 'X' and 'y'. Known: X, labels. Write it with numpy.savez(path, X=X, y=y), or name" in text
    )
    assert "expected the arrays 'X' and 'label'. Did you mean 'labels'?" in refusal(path, target="label")
    np.savez(path, X=x, y=y.astype(object))
    assert "expected an NPZ archive of arrays without objects, got Object arrays cannot be loaded" in refusal(path)
    np.savez(path)
    assert "expected the arrays 'X' and 'y'. none." in refusal(path)
    np.savez(path, X=x, y=y)
    whole = path.read_bytes()
    for raw in (b"", b"PK\x03\x04", whole[:-30], whole[:80] + b"\xff" * 40 + whole[120:], b"x,y\n1,2\n"):
        path.write_bytes(raw)
        assert "expected an NPZ archive of arrays without objects, got " in refusal(path)
    with open(path, "wb") as file:
        np.save(file, x)
    assert "expected an NPZ archive, got a single array. Write it with numpy.savez" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", b"no array")
        archive.writestr("y.npy", b"no array")
    refusal(path)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["f.csv", "f.csv.gz", "f.npz"]), st.integers(0, 2**32))
def test_garbage_ends_in_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, name: str, at: int
) -> None:
    """Whole junk, and a good file with junk written into it."""
    path = tmp_path_factory.getbasetemp() / name
    good = ("x,y\n" + rows("1,a", "2,b")).encode()
    if name.endswith("gz"):
        good = gzip.compress(good)
    elif name.endswith("npz"):
        np.savez(buffer := io.BytesIO(), X=arrays()[0], y=arrays()[1])
        good = buffer.getvalue()
    at %= len(good)
    for raw in (junk, good[:at] + junk + good[at + len(junk) :]):
        path.write_bytes(raw)
        text, infinite = "", False
        try:
            infinite = bool(np.isinf(load(path, target="y").features).any())
        except InputError as error:
            text = str(error)
        assert text.isprintable()
        assert not infinite


# --- parts ---


def test_split_by_hand() -> None:
    x = np.array([[0.0, 7.0]] * 5 + [[10.0, 7.0]] * 5)
    parts = split(load((x, np.arange(10) // 5)), 0)
    assert [len(part.labels) for part in (parts.train, parts.validation, parts.test)] == [6, 2, 2]
    for part in (parts.train, parts.validation, parts.test):
        assert np.array_equal(part.features, np.where(part.labels[:, None] == [1, 9], 1, [-1, 0]).astype(np.float32))
        assert np.array_equal(part.labels, part.rows // 5)
        assert (part.features.dtype, part.labels.dtype) == (np.float32, np.int64)


def test_split_standardises_like_sklearn_with_missing_values_as_the_mean() -> None:
    table = load("digits")
    parts = split(table, 3)
    scaler = StandardScaler().fit(table.features[parts.train.rows].astype(np.float64))
    live = scaler.var_ > 0
    for part in (parts.train, parts.validation, parts.test):
        expected = scaler.transform(table.features[part.rows].astype(np.float64))
        np.testing.assert_allclose(part.features[:, live], expected[:, live], rtol=1e-6, atol=1e-7)
        assert np.all(part.features[:, ~live] == 0)


def test_missing_values_are_filled_by_the_training_mean(write) -> None:
    draw = np.random.default_rng(4)
    cells = [f"{v:.3f}" if k % 3 else "" for k, v in enumerate(draw.normal(50, 9, 60))]
    table = load(write("x,z,y\n" + "".join(f"{c},{i},{i % 2}\n" for i, c in enumerate(cells))), target="y")
    parts = split(table, 9)
    train = table.features[parts.train.rows].astype(np.float64)
    mean, deviation = np.nanmean(train, axis=0), np.nanstd(train, axis=0)
    for part in (parts.train, parts.validation, parts.test):
        expected = np.nan_to_num((table.features[part.rows] - mean) / deviation)
        np.testing.assert_allclose(part.features, expected, rtol=1e-5, atol=1e-6)
        assert np.all(part.features[np.isnan(table.features[part.rows])] == 0)


def test_extreme_columns_stay_finite(write) -> None:
    """Only one row has a value; values far from 0; the ends of float32; the smallest differences."""
    lines = [f"{'5' if i == 0 else ''},{1e6 + i},{(-1) ** i * 3e38},{0.1},{1e-45 * (i % 3)},{i % 2}" for i in range(40)]
    table = load(write("one,far,ends,same,tiny,y\n" + "\n".join(lines)), target="y")
    for seed in range(5):
        parts = split(table, seed)
        for part in (parts.train, parts.validation, parts.test):
            assert np.isfinite(part.features).all()
            assert np.all(part.features[:, [0, 3]] == 0)
            assert np.abs(part.features).max() < 3
        np.testing.assert_allclose(parts.train.features.std(axis=0), [0, 1, 1, 0, 1], atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(5, 60), min_size=2, max_size=8),
    seed=st.integers(0, 2**63),
    fractions=st.sampled_from([(0.6, 0.2, 0.2), (0.7, 0.1, 0.2), (1 / 3, 1 / 3, 1 / 3), (0.5, 0.25, 0.25)]),
)
def test_parts_partition_stratify_and_have_one_size(counts: list[int], seed: int, fractions: data.Fractions) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    parts = split_indices(labels, seed, fractions)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    for k, n in enumerate(counts):
        got = [int((labels[part] == k).sum()) for part in parts]
        assert min(got) >= 1
        assert sum(got) == n
        assert all(abs(g - n * f) <= 1.01 for g, f in zip(got, fractions, strict=True))
    again, other = split_indices(labels, seed, fractions), split_indices(labels, seed ^ 1, fractions)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    assert [len(part) for part in other] == [len(part) for part in parts]


def test_parts_are_shuffled_and_their_sizes_are_the_same_for_every_seed() -> None:
    table = load("digits")
    sizes, first = set(), set()
    for seed in range(20):
        parts = split(table, seed)
        sizes.add(tuple(part.features.shape for part in (parts.train, parts.validation, parts.test)))
        first.add(tuple(parts.train.rows[:10]))
        assert np.abs(np.diff(parts.train.labels)).mean() > 2, "not sorted by class"
        assert all(np.any(np.diff(part.rows) < 0) for part in (parts.train, parts.validation, parts.test)), "nor by row"
    assert len(sizes) == 1
    assert len(first) == 20
    (train, validation, test) = (shape[0] for shape in sizes.pop())
    assert (train + validation + test, validation, test) == (1797, test, validation)
    assert abs(test - 0.2 * 1797) < 5


def test_every_row_is_as_likely_to_be_in_a_part() -> None:
    labels = np.repeat([0, 1], [50, 100])
    held = np.zeros(150)
    for seed in range(2000):
        held[split_indices(labels, seed)[2]] += 1
    # Binomial(2000, 0.2): standard deviation 17.9; 150 rows stay within 5 of these.
    assert np.abs(held - 400).max() < 90


def test_splitting_is_fast() -> None:
    table = load("digits")
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        for seed in range(20):
            split(table, seed)
        best = min(best, time.perf_counter() - start)
    assert best < 0.5, f"{best:.3f} s for 20 seeds (0.05 s on an idle core)"


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ((0, (0.5, 0.5)), r"'fractions': expected three positive numbers with sum 1, got \(0\.5, 0\.5\)\. Use e\.g\."),
        ((0, (0.8, 0.2, 0.0)), r"'fractions': expected three positive numbers"),
        ((0, (0.6, 0.2, 0.3)), r"'fractions': expected three positive numbers"),
        ((0, (np.nan, 0.2, 0.2)), r"'fractions': expected three positive numbers"),
        ((-1,), r"'seed': expected an integer from 0, got -1\. Use e\.g\. 0\."),
        ((0.5,), r"'seed': expected an integer from 0, got 0\.5"),
        ((0, (0.1, 0.3, 0.6)), r"'labels': expected rows of every class for every part, got \d+ rows of class \d"),
    ],
)
def test_splits_that_cannot_be_made(arguments: Any, pattern: str) -> None:
    with pytest.raises(InputError, match=pattern):
        split(load(arrays(10)), *arguments)

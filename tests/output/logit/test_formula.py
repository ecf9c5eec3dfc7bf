"""Formulas on tables: what they come to, new rows coded alike, and every table that cannot be used."""

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from softplace.errors import InputError
from softplace.output.logit import fit, fit_arrays
from softplace.output.logit.reading import require
from tests.output.logit.test_effects import table


def test_columns_by_hand() -> None:
    data = table()
    result = fit("y ~ x * z + C(region)", data)
    by_hand = np.column_stack(
        [np.ones(300), data.region == "south", data.region == "west", data.x, data.z, data.x * data.z]
    )
    order = ["Intercept", "C(region)[T.south]", "C(region)[T.west]", "x", "z", "x:z"]
    np.testing.assert_array_equal(result.X, by_hand[:, [order.index(column) for column in result.columns]])
    assert result.classes == ("a", "b", "c")
    arrays = fit_arrays(by_hand[:, 1:], data.y, columns=order[1:])
    place = [result.columns.index(column) for column in order]
    np.testing.assert_allclose(arrays.coefficients, result.coefficients[:, place], atol=1e-7)


def test_functions_and_no_intercept() -> None:
    data = table()
    result = fit("y ~ 0 + log(x) + scale(z)", data)
    assert result.columns == ("log(x)", "scale(z)")
    np.testing.assert_allclose(result.X[:, 0], np.log(data.x))
    dots = fit("y ~ .", data)
    assert set(dots.design.variables) == {"x", "z", "region"}


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".parquet"])
def test_files_are_the_table(suffix: str, tmp_path: Path) -> None:
    data, path = table(), tmp_path / f"table{suffix}"
    if suffix == ".parquet":
        data.to_parquet(path)
    else:
        text = data.to_csv(index=False, sep="\t" if suffix == ".tsv" else ",")
        path.write_bytes(gzip.compress(text.encode()) if suffix == ".csv.gz" else text.encode())
    here, there = fit("y ~ x + C(region)", data), fit("y ~ x + C(region)", path)
    np.testing.assert_allclose(here.coefficients, there.coefficients, atol=1e-9)
    assert fit("y ~ x", str(path)).classes == ("a", "b", "c")


def test_a_dict_of_columns_and_names_with_blanks() -> None:
    data = table()
    columns = {"the choice": data.y.tolist(), "some x": data.x.to_numpy()}
    result = fit("`the choice` ~ `some x`", columns)
    np.testing.assert_allclose(result.coefficients, fit("y ~ x", data).coefficients)
    assert [test.degrees for test in result.test("`some x` = 0")] == [2, 2, 2]
    assert result.marginal_effects().names == (("some x", "d/dx"),)


def test_classes_in_the_order_of_their_values() -> None:
    data = table()
    numbers = data.assign(y=data.y.map({"a": 10, "b": 9, "c": 100}))
    assert fit("y ~ x", numbers).classes == (9, 10, 100)
    assert fit("y ~ x", numbers.assign(y=numbers.y.astype(float))).classes == (9, 10, 100)
    ordered = pd.Categorical(data.y, categories=["c", "a", "b"])
    assert fit("y ~ x", data.assign(y=ordered)).classes == ("c", "a", "b")
    assert fit("y ~ x", data.assign(y=data.y == "a")).classes == (False, True)


def test_rows_with_missing_cells_are_left_out_when_asked() -> None:
    data = table()
    holes = data.copy()
    holes.loc[[3, 50], "x"] = np.nan
    holes.loc[7, "region"] = None
    holes.loc[8, "z"] = np.nan  # not in the formula
    with pytest.raises(InputError, match=r"row 3, column 'x' is the first of 3 in 3 of 300 rows.*--drop-missing"):
        fit("y ~ x + C(region)", holes)
    result = fit("y ~ x + C(region)", holes, drop_missing=True)
    assert (result.dropped, len(result.X)) == (3, 297)
    expected = fit("y ~ x + C(region)", data.drop([3, 50, 7]))
    np.testing.assert_allclose(result.coefficients, expected.coefficients)
    assert "rows left out for missing cells  3" in result.summary()


def test_new_rows_are_coded_as_those_that_were_fitted() -> None:
    data = table()
    result = fit("y ~ scale(x) + C(region)", data)
    some = data[data.region != "north"].iloc[:5]
    expected = result.predict().iloc[some.index]
    np.testing.assert_allclose(result.predict(some), expected, atol=1e-12)
    np.testing.assert_allclose(result.predict(some.drop(columns="y")).sum(axis=1), 1.0)
    with pytest.raises(InputError, match=r"column 'region': expected a level that was fitted. Got 'east' in row"):
        result.predict(some.assign(region="east"))
    with pytest.raises(InputError, match="new data: no column 'x' in the data"):
        result.predict(some.drop(columns="x"))
    with pytest.raises(InputError, match="missing cells"):
        result.predict(some.assign(x=[np.nan, 1, 1, 1, 1]))
    assert len(result.predict(some.assign(x=[np.nan, 1, 1, 1, 1]), drop_missing=True)) == 4


def test_new_rows_of_arrays() -> None:
    data = table()
    result = fit_arrays(data[["x", "z"]], data.y)
    np.testing.assert_allclose(result.predict(data[["x", "z"]].to_numpy()), result.predict())
    with pytest.raises(InputError, match=r"'data' must have 2 columns\. Got 3"):
        result.predict(np.ones((4, 3)))


def changed(**columns: Any) -> pd.DataFrame:
    return table().assign(**columns)


def cell(column: str, row: int, value: Any) -> pd.DataFrame:
    data = table().astype({column: object}) if isinstance(value, str) else table()
    data.loc[row, column] = value
    return data


BAD: dict[str, tuple[str, Any, dict[str, Any], str]] = {
    "unknown column": ("y ~ x + regoin", table, {}, r"no column 'regoin' in the data\. Did you mean 'region'"),
    "unknown class column": ("yy ~ x", table, {}, r"no column 'yy' in the data\. Did you mean 'y'"),
    "function": ("y ~ lg(x)", table, {}, r"formula: Unable to evaluate factor `lg\(x\)`.*'lg' is not defined"),
    "syntax": ("y ~ x +* z", table, {}, r"formula 'y ~ x \+\* z': Operator `\+\*` is incorrectly used"),
    "brackets": ("y ~ (x", table, {}, r"formula 'y ~ \(x':"),
    "no tilde": ("y + x", table, {}, r"expected a column, '~' and terms\. Write e\.g\."),
    "two tildes": ("y ~ x ~ z", table, {}, r"expected a column, '~' and terms"),
    "left side": ("log(x) ~ z", table, {}, r"expected one column on the left\. Got 'log\(x\)'"),
    "sum on the left": ("y + z ~ x", table, {}, r"expected one column on the left\. Got 'y \+ z'"),
    "parts": ("y ~ x | z", table, {}, r"Got 2 with '\|' between, as of a conditional"),
    "both sides": ("y ~ x + y", table, {}, "'y' stands on both sides"),
    "missing class": ("y ~ x", lambda: cell("y", 4, None), {}, r"missing cells: row 4, column 'y'"),
    "infinite": ("y ~ x", lambda: cell("x", 4, np.inf), {}, r"column 'x': expected finite numbers\. Got inf in row 4"),
    "logarithm": ("y ~ log(x)", lambda: cell("x", 9, -1.0), {}, r"column 'log\(x\)' is nan in row 9"),
    "one class": ("y ~ x", lambda: changed(y="a"), {}, r"expected two classes or more\. Got one, 'a'"),
    "measurement": ("x ~ z", table, {}, r"column 'x' \(the classes\): .* Got 300 different values"),
    "identifier": (
        "y ~ x", lambda: changed(y=[f"id{at}" for at in range(300)]), {}, r"expected few classes .* Got 300 different"
    ),
    "empty class": (
        "y ~ x", lambda: changed(y=pd.Categorical(table().y, categories=["a", "b", "c", "d"])), {},
        r"expected rows of every class\. Got none of 'd'.*remove_unused_categories",
    ),
    "slip": ("y ~ x", lambda: cell("x", 7, "1,5"), {}, r"column 'x': expected numbers, .* Got '1,5' in row 7.*C\(x\)"),
    "words": (
        "y ~ note", lambda: changed(note=[f"text {at}" for at in range(300)]), {},
        r"column 'note': expected few levels or numbers\. Got 300 different words",
    ),
    "collinear": (
        "y ~ x + w", lambda: changed(w=2 * table().x + 1), {}, r"collinear columns: .*'w' is made of 'x'\. Drop"
    ),
    "constant": ("y ~ x + w", lambda: changed(w=3.0), {}, "collinear columns: .*'w' is made of 'Intercept'"),
    "tiny": ("y ~ x", lambda: changed(x=table().x * 1e-200), {}, "column 'x': expected numbers whose squares"),
    "fewer rows than columns": ("y ~ x + C(r)", lambda: changed(r=range(300)).iloc[:30], {}, "collinear columns"),
    "separated": (
        "y ~ x + w", lambda: changed(w=(table().y == "b") * 1.0), {},
        r"separation: 'w' is 0 in all rows of class a.*infinite coefficients\. Leave these columns out",
    ),
    "negative weight": (
        "y ~ x", lambda: changed(w=1.0).assign(w=lambda data: -data.z * 1.0 + 0.5), {"weights": "w"},
        r"weights 'w': expected finite numbers of 0 or more\. Got -0\.5 in row",
    ),
    "weights of 0": ("y ~ x", lambda: changed(w=0), {"weights": "w"}, r"weights 'w': expected one above 0"),
    "no weight for a class": (
        "y ~ x", lambda: changed(w=(table().y != "c") * 1), {"weights": "w"}, r"class 'c': expected rows with a weight"
    ),
    "weights of words": ("y ~ x", table, {"weights": "region"}, r"column 'region': expected numbers\. Got"),
    "unknown weights": ("y ~ x", table, {"weights": "wt"}, r"weights or groups: no column 'wt' in the data"),
    "unknown cluster": ("y ~ x", table, {"errors": "cluster:vilage"}, "no column 'vilage'"),
    "reference": ("y ~ x", table, {"reference": "A"}, r"Unknown reference class 'A'\. Did you mean 'a'"),
    "type": ("y ~ x", lambda: [1, 2], {}, r"'data' must be a path, a pandas data frame or a dict"),
    "lengths": ("y ~ x", lambda: {"y": [1, 2], "x": [1]}, {}, r"expected columns of equal length"),
    "no rows": ("y ~ x", lambda: table().iloc[:0], {}, r"'data': expected rows\. Got none"),
    "twice": (
        "y ~ x", lambda: table().rename(columns={"z": "x"}), {}, r"different column names\. Got 'x' more than once"
    ),
    "all missing": (
        "y ~ x", lambda: changed(x=np.nan), {"drop_missing": True}, r"every row lacks one of 'y', 'x'"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_one_line(name: str) -> None:
    formula, data, given, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        fit(formula, data(), **given)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


FILES: dict[str, tuple[str, bytes | None, str]] = {
    "none": ("a.csv", None, r"expected a file\. Got none"),
    "suffix": ("a.xlsx", b"", r"ends in \.csv, \.csv\.gz, \.tsv or \.parquet\. Got \.xlsx"),
    "empty": ("a.csv", b"", r"expected a header and rows\. Got an empty file"),
    "header alone": ("a.csv", b"y,x\n", r"expected rows\. Got none"),
    "long row": ("a.csv", b"y,x\na,1\nb,2,3\n", "expected rows"),
    "longer rows": ("a.csv", b"y,x\na,1,5\nb,2,3\n", "expected rows as long as the header"),
    "bytes": ("a.csv", b"y,x\n\xff\xfe,1\n", "expected text in UTF-8"),
    "parquet": ("a.parquet", b"PAR1 not", "expected a Parquet file"),
    "gzip": ("a.csv.gz", b"not gzip", "expected rows of cells"),
    "row number": ("a.csv", b"y,x\na,1\nb,\n" + b"a,1\nb,2\n" * 9, r"row 3 \(the header is row 1\), column 'x'"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_cannot_be_used(name: str, tmp_path: Path) -> None:
    file, content, message = FILES[name]
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        fit("y ~ x", tmp_path / file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["pandas", "formulaic", "pyarrow"])
def test_a_missing_package_names_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"need {package}, which is not installed.*softplace\[logit\]"):
        require(package)


def test_arrays_that_cannot_be_used() -> None:
    X = np.ones((4, 1))
    for given, message in (
        ((X, [0, 1]), r"'y' must have the shape \(4,\)\. Got \(2,\)"),
        ((np.full((4, 1), np.nan), [0, 1, 0, 1]), r"'X' must be finite\. Got nan in row 0, column 0"),
        ((np.ones(4), [0, 1, 0, 1]), r"'X' must have the shape \(rows, columns\)\. Got \(4,\)"),
        (([["a"]] * 4, [0, 1, 0, 1]), "'X' must be numbers"),
        ((X, [0, 0, 0, 0]), "two classes or more. Got one"),
    ):
        with pytest.raises(InputError, match=message):
            fit_arrays(*given)

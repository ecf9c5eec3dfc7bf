"""Tables, names, numbers and options that no logit can use, or that once were used in silence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softplace.errors import InputError
from softplace.output import MultinomialLogit
from softplace.output.logit import fit, fit_arrays, fit_conditional
from softplace.output.logit._likelihood import Block, _ByFeatures, information, shares_of
from softplace.output.logit.estimator import CollinearityWarning
from tests.command import Command
from tests.output.logit.data import travel_modes
from tests.output.logit.test_effects import table


def written(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def test_a_column_that_a_file_has_twice(tmp_path: Path) -> None:
    path = written(tmp_path, "y,x,z,x\n" + "a,1,2,3\nb,2,1,4\n" * 9)
    with pytest.raises(InputError, match=r"expected different column names. Got 'x' more than once. Rename one"):
        fit("y ~ x", path)


def test_names_that_look_as_if_pandas_had_made_them(tmp_path: Path) -> None:
    path = written(tmp_path, "y,x,x.1\n" + "a,1,2\nb,2,1\na,2,3\nb,0,1\nb,1,2\na,0,0\n" * 3)
    assert fit("y ~ x + `x.1`", path).columns == ("Intercept", "x", "x.1")


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_marks_between_cells(mark: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"y{mark}x\n" + f"a{mark}1\nb{mark}2\n" * 9)
    with pytest.raises(InputError, match=r"expected names with ',' between. Got 'y.*x'. Save it with ',' between"):
        fit("y ~ x", path)


def test_a_folder_with_the_name_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=r"folder.csv': expected a file. Got a folder"):
        fit("y ~ x", tmp_path / "folder.csv")


def test_a_column_called_intercept() -> None:
    data = table().rename(columns={"x": "Intercept"})
    with pytest.raises(InputError, match=r"Got two called 'Intercept'. Rename that of the data"):
        fit("y ~ Intercept + z", data)
    assert fit("y ~ 0 + Intercept + z", data).columns == ("Intercept", "z")
    with pytest.raises(InputError, match=r"'columns' must not hold 'Intercept' beside the intercept"):
        fit_arrays(table()[["x", "z"]], table().y, columns=["Intercept", "z"])


def test_a_column_called_1_is_not_the_intercept() -> None:
    data = table().rename(columns={"x": "1"})
    with pytest.raises(InputError, match=r"expected names with a letter. Got '1', which is read as a number. Rename"):
        fit("y ~ `1` + z", data)


@pytest.mark.parametrize("term", ["same", "C(same)", "C(one)"])
def test_a_category_of_one_level_does_not_vanish(term: str) -> None:
    data = table().assign(same="u", one=1)
    with pytest.raises(InputError, match=r"expected two levels of .* or more. Got '(u|1)' in every row. Leave it out"):
        fit(f"y ~ {term} + x", data)


def test_complex_numbers_do_not_lose_a_part() -> None:
    with pytest.raises(InputError, match=r"column 'x': expected real numbers. Got complex ones"):
        fit("y ~ x", table().assign(x=table().x + 1j))


@pytest.mark.parametrize("seed", [-1, 2.5, True, "a"])
def test_seeds(seed: Any) -> None:
    with pytest.raises(InputError, match=r"'seed' must be a whole number from 0. Got"):
        fit("y ~ x", table(), seed=seed, errors="bootstrap:3")
    with pytest.raises(InputError, match=r"'seed' must be a whole number from 0. Got"):
        fit_arrays(table()[["x"]], table().y, seed=seed)


def test_the_command_names_the_seed(command: Command, tmp_path: Path) -> None:
    table().to_csv(tmp_path / "table.csv", index=False)
    assert "'seed' must be a whole number from 0. Got -1." in command.refused(
        "logit", "table.csv", "y ~ x", "--seed", "-1", "--iia"
    )


@pytest.mark.parametrize("size", [1e-300, 1e-120, 1e120, 1e300])
def test_weights_whose_sums_are_no_numbers(size: float) -> None:
    data = table().assign(w=size)
    with pytest.raises(InputError, match=r"weights 'w': expected numbers of a usual size. Got up to 1e[+-](3|1[23])"):
        fit("y ~ x", data, weights="w")
    with pytest.raises(ValueError, match=r"'sample_weight' must be of a usual size"):
        MultinomialLogit().fit(data[["x"]], data.y, sample_weight=data.w)


@pytest.mark.parametrize("size", [1e-90, 1e90])
def test_weights_of_any_usual_size_change_nothing(size: float) -> None:
    X, y = table()[["x", "z"]], table().y
    here, there = (MultinomialLogit().fit(X, y, sample_weight=np.full(len(y), each)) for each in (1.0, size))
    np.testing.assert_allclose(there.coef_, here.coef_, atol=1e-6)


def test_labels_and_weights_of_no_kind() -> None:
    X = table()[["x"]].to_numpy()
    with pytest.raises(InputError, match=r"'y' must hold labels of one kind, none missing"):
        fit_arrays(X, np.array(["a", None, 1] * 100, dtype=object))
    with pytest.raises(InputError, match=r"'groups' must hold labels of one kind, none missing"):
        fit_arrays(X, table().y, groups=["a", None] * 150, errors="cluster")
    with pytest.raises(InputError, match=r"'sample_weight' must be numbers"):
        fit_arrays(X, table().y, sample_weight=["q"] * 300)


def test_profiles_at_words_of_a_number() -> None:
    with pytest.raises(InputError, match=r"'points' of 'x' must be numbers. Got \['a'\]"):
        fit("y ~ x", table()).profile("x", ["a"])


def test_options_of_the_classifier() -> None:
    X, y = table()[["x", "z"]].to_numpy(), table().y.to_numpy()
    with pytest.raises(ValueError, match=r"'fit_intercept' must be true or false. Got 'x'"):
        MultinomialLogit(fit_intercept="x").fit(X, y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Got one class, 'a'"):
        MultinomialLogit().fit(X, ["a"] * 300)
    with (
        pytest.warns(CollinearityWarning, match=r"'column 0' is 0 in every row"),
        pytest.raises(ValueError, match=r"'X' must have a column that is not 0, or an intercept. Got neither"),
    ):
        MultinomialLogit(fit_intercept=False).fit(0 * X, y)


@pytest.mark.parametrize(("C", "unit"), [(1e-300, 1.0), (1.0, 1e-150)])
def test_a_penalty_beyond_all_bounds(C: float, unit: float) -> None:
    X, y = unit * table()[["x", "z"]].to_numpy(), table().y.to_numpy()
    with pytest.raises(ValueError, match=r"'penalty' must leave the columns a part. Got l2 = "):
        MultinomialLogit("l2", C=C).fit(X, y)


def test_conditional_numbers_too_large_to_square() -> None:
    data = travel_modes()
    with pytest.raises(
        InputError, match=r"column 'ttme': expected numbers whose squares a computer can hold. Got some"
    ):
        fit_conditional("choice ~ ttme", data.assign(ttme=1e300 * data.ttme), chooser="individual", alternative="mode")


def test_constants_are_left_out_after_the_bar_alone() -> None:
    data = travel_modes()
    for formula in ("choice ~ 0 + ttme", "choice ~ ttme - 1"):
        with pytest.raises(
            InputError, match=r"expected constants to be left out by '\| 0'. Got '0' \(or '- 1'\) without"
        ):
            fit_conditional(formula, data, chooser="individual", alternative="mode")
    assert fit_conditional("choice ~ ttme | 0", data, chooser="individual", alternative="mode").columns == ("ttme",)


def test_information_of_many_classes_by_parts_of_the_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(2500, 2, generator=generator, dtype=torch.float64)
    b = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    shares = shares_of(Block(X), b)[0]
    scores = (shares[:, None] * X.T).reshape(120, -1)
    expected = torch.block_diag(*((X.T * each) @ X for each in shares)) - scores @ scores.T
    torch.testing.assert_close(information([Block(X)], b), expected, rtol=1e-12, atol=1e-12)
    many = _ByFeatures(1000, 2)
    assert many.rows * len(many.pairs[0]) <= 1 << 24

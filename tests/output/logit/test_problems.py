"""What is wrong with rows is said in one line: which row, which column, which class."""

import re

import numpy as np
import pytest
import torch

from softplace.output.logit import _reference, problems, separation, solver
from tests.output.logit.choices import draw


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"X": [[np.nan, 1.0]] * 4},
            "Got NaN in row 0, column 0 (counted from 0), and 4 rows with missing (NaN) cells",
        ),
        ({"X": [[1.0, 1.0]] * 3 + [[1.0, -np.inf]]}, "Got an infinity in row 3, column 1"),
        ({"X": [[1.0, 1.0]] * 3 + [[1.0, 1e200]]}, "squares can be summed. Got 1e+200 in row 3, column 1"),
        ({"X": np.ones(4)}, "'X' must be a table (rows, columns) with at least one of each. Got shape (4,)"),
        ({"X": np.ones((0, 2)), "codes": []}, "Got shape (0, 2)"),
        ({"X": np.ones((4, 0))}, "Got shape (4, 0)"),
        ({"codes": [0, 1, 2]}, "'codes' must have shape (4,). Got (3,)"),
        ({"codes": [0, 1, 2, 3]}, "'codes' must be integers from 0 to 2. Got 3 in row 3"),
        ({"codes": [0, -1, 2, 1]}, "Got -1 in row 1"),
        ({"codes": [0, 1, 1, 0]}, "Got none of class 2. Leave the class out"),
        ({"classes": 1}, "'classes' must be an integer of 2 or more. Got 1"),
        ({"classes": True}, "Got True"),
        ({"sample_weight": [1, 1, -2, 1]}, "'sample_weight' must be finite and not negative. Got -2 in row 2"),
        ({"sample_weight": [1, np.nan, 1, 1]}, "Got nan in row 1"),
        ({"sample_weight": np.zeros(4)}, "'sample_weight' must have a positive weight. Got only zeros"),
        ({"sample_weight": [1, 1, 0, 1]}, "Every class must have a row of positive weight. Got none of class 2"),
        ({"sample_weight": [1, 1]}, "'sample_weight' must have shape (4,). Got (2,)"),
        ({"offset": np.zeros((4, 2))}, "'offset' must have shape (4, 3). Got (4, 2)"),
        ({"offset": np.full((4, 3), np.inf)}, "'offset' must be finite. Got inf in row 0, class 0"),
        ({"tolerance": 0.0}, "'tolerance' must be a positive number. Got 0.0"),
        ({"max_iterations": 0}, "'max_iterations' must be a positive integer. Got 0"),
        ({"penalty": solver.Penalty(l2=1.0, free=(2,))}, "'free' of Penalty must be columns from 0 to 1. Got 2"),
        ({"penalty": solver.Penalty(l2=-1.0)}, "'l2' of Penalty must be finite and not negative. Got -1"),
        ({"penalty": solver.Penalty(l1=np.nan)}, "'l1' of Penalty must be finite and not negative. Got nan"),
    ],
)
def test_values_that_cannot_be_used(change: dict, said: str) -> None:
    given = {"X": [[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 0.5]], "codes": [0, 1, 2, 1], "classes": 3} | change
    with pytest.raises(ValueError, match=r"'|Every class") as caught:
        solver.solve(**given)
    assert said in one_line(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"X": [["a", "b"]] * 4}, "'X' must hold numbers. Got an array of <U1"),
        ({"X": [[1.0, object()]] * 4}, "'X' must hold numbers. Got a value that is none"),
        ({"X": np.ones((4, 2), complex)}, "'X' must hold numbers. Got an array of complex128"),
        ({"codes": [0.0, 1.0, 2.0, 1.0]}, "'codes' must be integers from 0 to 2. Got an array of float64"),
        ({"sample_weight": ["a"] * 4}, "'sample_weight' must hold numbers"),
    ],
)
def test_types_that_cannot_be_used(change: dict, said: str) -> None:
    given = {"X": [[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 0.5]], "codes": [0, 1, 2, 1], "classes": 3} | change
    with pytest.raises(TypeError, match=r"must") as caught:
        solver.solve(**given)
    assert said in one_line(caught.value)


def test_columns_that_depend_on_others_are_named() -> None:
    X, y = draw(200, 4, 3)
    D = np.column_stack([X, X[:, 1] - 2 * X[:, 3] + 5, np.zeros(200), np.full(200, 7.0)])
    with pytest.raises(problems.CollinearError) as caught:
        solver.solve(D, y, 3)
    assert caught.value.columns == [4, 5, 6]
    assert "Got 3 that do: column 4 is made of column 0, column 1 and column 3; column 5 is 0 in every row; " in str(
        caught.value
    )
    assert "column 6 is made of column 0. Drop them, or use a penalty." in one_line(caught.value)
    names = ["one", "a", "b", "c", "d", "e", "f"]
    assert "'d' is made of 'one', 'a' and 'c'; 'e' is 0 in every row" in caught.value.describe(names)
    assert solver.solve(D, y, 3, penalty=solver.Penalty(l2=1.0)).converged


def test_all_levels_of_a_factor_beside_the_constant() -> None:
    X, y = draw(300, 2, 3)
    level = np.random.default_rng(0).integers(0, 3, 300)
    with pytest.raises(problems.CollinearError) as caught:
        solver.solve(np.column_stack([X, level[:, None] == np.arange(3)]), y, 3)
    assert caught.value.columns == [4]
    assert caught.value.partners == [[0, 2, 3]]


def test_fewer_rows_than_columns() -> None:
    X, y = draw(10, 20, 3)
    with pytest.raises(problems.CollinearError) as caught:
        solver.solve(X, y, 3)
    assert caught.value.columns == list(range(10, 20))


def test_nearly_dependent_columns_are_fitted() -> None:
    X, y = draw(300, 3, 3)
    D = np.column_stack([X, X[:, 1] + 1e-4 * np.random.default_rng(0).standard_normal(300)])
    found = solver.solve(D, y, 3, information=True)
    assert found.converged
    exact = _reference.newton(D, y, 3, steps=8)
    errors = np.sqrt(np.linalg.inv(found.information).diagonal()).reshape(exact.shape)
    assert (np.abs(found.coefficients - exact) / errors).max() < 1e-5


SEPARATED = {
    "a column from a limit on": (
        lambda X, y: (X[:, 1] > 0.2).astype(int),
        True,
        r"^Perfect separation: column 1 is at least 0\.\d+ in all rows of class 1 and at most that in all others\.",
    ),
    "a column in three classes": (
        lambda X, y: np.digitize(X[:, 1], [-0.5, 0.5]),
        True,
        r"column 1 is at most -0\.5\d* in all rows of class 0 .* column 1 is at least 0\.5\d* in all rows of class 2",
    ),
    "two columns together": (
        lambda X, y: (X[:, 1] + X[:, 2] > 0).astype(int),
        True,
        r"a combination of column [12] and column [12] tells class 1 apart",
    ),
    "a class that a column never meets": (
        lambda X, y: np.where((X[:, 3] == 1) & (y == 2), 0, y),
        False,
        r"^Quasi-complete separation: column 3 is 0 in all rows of class 2\. The largest likelihood is at infinite",
    ),
    "one class of three": (
        lambda X, y: np.where(X[:, 1] > 1, 2, y % 2),
        False,
        r"column 1 is at least 1\.\d+ in all rows of class 2 and at most that in all others",
    ),
}


@pytest.mark.parametrize("case", SEPARATED)
def test_separation_is_named(case: str) -> None:
    random = np.random.default_rng(0)
    X = np.column_stack([np.ones(300), random.standard_normal((300, 2)), random.random(300) < 0.1])
    choose, complete, said = SEPARATED[case]
    y = choose(X, random.integers(0, 3, 300))
    found = solver.solve(X, y, int(y.max()) + 1)
    assert not found.converged
    assert found.separation is not None
    assert found.separation.complete is complete
    assert re.search(said, found.separation.describe()), found.separation.describe()
    assert np.isfinite(found.coefficients).all()
    # The certificate holds: no row's class loses by the direction, and some gain.
    margins = separation.margins(torch.tensor(X), torch.tensor(y), torch.tensor(found.separation.direction))
    assert float(margins.min()) > -1e-6
    assert int(((margins > 1e-4) & margins.isfinite()).any(0).sum()) == found.separation.rows > 0


def test_coefficients_of_separated_rows_do_not_depend_on_how_they_are_given() -> None:
    random = np.random.default_rng(0)
    X = np.column_stack([np.ones(100), random.standard_normal((100, 2))])
    y = (X[:, 1] > 0).astype(int)
    times = random.integers(0, 3, 100)
    one = solver.solve(X, y, 2, sample_weight=times)
    other = solver.solve(np.repeat(X, times, 0)[::-1], np.repeat(y, times)[::-1], 2)
    np.testing.assert_allclose(one.coefficients, other.coefficients, rtol=1e-6)


def test_a_rare_column_among_many_rows() -> None:
    X, y = draw(100_000, 4, 3)
    rare = np.arange(100_000) % 40_000 == 0
    y[rare] = 1
    found = solver.solve(np.column_stack([X, rare]), y, 3)
    assert found.separation is not None
    assert found.separation.describe().startswith(
        "Quasi-complete separation: column 4 is 0 in all rows of class 0; column 4 is 0 in all rows of class 2. The"
    )


def test_sharp_rows_are_not_called_separated() -> None:
    X, y = draw(3000, 5, 4, spread=12.0)
    found = solver.solve(X, y, 4)
    assert found.converged
    assert found.separation is None


def test_names_and_labels_are_used() -> None:
    found = separation.Separation(
        complete=False,
        rows=3,
        columns=(2, 1),
        classes=(1, 2),
        direction=np.zeros((2, 3)),
        singles=(),
    )
    said = found.describe(["one", "age", "income"], ["red", "green", "blue"])
    assert "a combination of 'income' and 'age' tells class green and class blue apart" in said

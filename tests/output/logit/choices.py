"""Rows for tests: drawn from a multinomial logit, and anes96."""

import numpy as np
import statsmodels.api as sm
from numpy.typing import NDArray


def draw(
    rows: int, columns: int, classes: int, seed: int = 0, spread: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """X, whose first column is 1, and codes."""
    random = np.random.default_rng(seed)
    X = random.standard_normal((rows, columns))
    X[:, 0] = 1.0
    b = spread * random.standard_normal((classes - 1, columns)) / columns**0.5
    scores = np.column_stack([np.zeros(rows), X @ b.T]) + random.gumbel(size=(rows, classes))
    return X, scores.argmax(1)


def anes96() -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The American national election study 1996: party identification in 7 classes, 5 columns and a constant."""
    found = sm.datasets.anes96.load_pandas()
    return sm.add_constant(found.exog).to_numpy(np.float64), found.endog.to_numpy(np.intp)

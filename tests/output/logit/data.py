"""Data of the tests: the election study of statsmodels, and draws of a known multinomial logit."""

from typing import Any

import numpy as np
import pandas as pd

from softplace.output.logit import LogitResult, fit_arrays

COLUMNS = ["logpopul", "selfLR", "age", "educ", "income"]


def anes() -> pd.DataFrame:
    """The American national election study of 1996: PID has 7 classes."""
    from statsmodels.datasets import anes96

    data: pd.DataFrame = anes96.load_pandas().data
    return data


def draws(rows: int = 400, columns: int = 3, classes: int = 3, seed: int = 0) -> tuple[Any, Any]:
    """X, standard normal, and labels of a multinomial logit."""
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(rows, columns))
    scores = X @ generator.normal(size=(columns, classes)) * 0.7 + generator.normal(size=classes) * 0.3
    return X, (scores + generator.gumbel(size=scores.shape)).argmax(1)


def fitted(**given: Any) -> LogitResult:
    """A fit to such draws; `errors` and the like may be given."""
    X, y = draws(**{name: given.pop(name) for name in ("rows", "classes") if name in given})
    return fit_arrays(X, y, **given)

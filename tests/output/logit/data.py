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


def travel_modes() -> pd.DataFrame:
    """Greene's 210 travellers between Sydney, Canberra and Melbourne, a row for each of four modes."""
    from statsmodels.datasets import modechoice

    data: pd.DataFrame = modechoice.load_pandas().data
    data["mode"] = data["mode"].map({1.0: "air", 2.0: "train", 3.0: "bus", 4.0: "car"})
    return data.assign(hinc_air=data.hinc * (data["mode"] == "air"))


def draws(rows: int = 400, width: int = 3, classes: int = 3, seed: int = 0) -> tuple[Any, Any]:
    """X, standard normal, and labels of a multinomial logit."""
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(rows, width))
    scores = X @ generator.normal(size=(width, classes)) * 0.7 + generator.normal(size=classes) * 0.3
    return X, (scores + generator.gumbel(size=scores.shape)).argmax(1)


def fitted(**given: Any) -> LogitResult:
    """A fit to such draws; `errors` and the like may be given."""
    X, y = draws(**{name: given.pop(name) for name in ("rows", "classes", "width") if name in given})
    return fit_arrays(X, y, **given)

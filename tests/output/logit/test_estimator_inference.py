"""`MultinomialLogit.inference`: the statistics of what the classifier fitted."""

import numpy as np
import pandas as pd
import pytest

from softplace.output import MultinomialLogit
from softplace.output.logit import fit_arrays
from tests.output.logit.data import draws


@pytest.mark.parametrize("reference", [None, 2])
def test_coefficients_are_those_of_the_classifier(reference: int | None) -> None:
    X, y = draws()
    model = MultinomialLogit(reference=reference).fit(X, y)
    result = model.inference(X, y, errors="robust")
    kept = [k for k in range(3) if k != (reference or 0)]
    np.testing.assert_allclose(result.coefficients[:, 1:], model.coef_[kept], atol=1e-6)
    np.testing.assert_allclose(result.coefficients[:, 0], model.intercept_[kept], atol=1e-6)
    np.testing.assert_array_equal(
        result.standard_errors, fit_arrays(X, y, reference=reference, errors="robust").standard_errors
    )
    assert "robust sandwich, HC1" in result.summary()


def test_names_of_a_frame_are_kept() -> None:
    X, y = draws()
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    result = MultinomialLogit(fit_intercept=False).fit(frame, y).inference(frame, y)
    assert result.columns == ("a", "b", "c")


def test_a_penalty_and_other_rows_are_refused() -> None:
    X, y = draws()
    with pytest.raises(ValueError, match=r"'penalty' must be 'none' for standard errors\. Got 'l2'"):
        MultinomialLogit("l2").fit(X, y).inference(X, y)
    with pytest.raises(ValueError, match="must be the rows that were fitted"):
        MultinomialLogit().fit(X, y).inference(X[:200], y[:200])

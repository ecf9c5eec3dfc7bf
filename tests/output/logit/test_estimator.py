"""The scikit-learn classifier: scikit-learn's own checks, its numbers, what it warns of and refuses."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from softplace.output import MultinomialLogit
from softplace.output.logit import _elastic, problems, solver
from softplace.output.logit.estimator import CollinearityWarning
from tests.output.logit.choices import draw


@pytest.mark.parametrize(
    "options",
    [{}, {"penalty": "l2", "C": 0.5}, {"penalty": "elasticnet"}, {"fit_intercept": False}],
    ids=["plain", "l2", "elastic net", "no intercept"],
)
def test_scikit_learns_checks(options: dict) -> None:
    with warnings.catch_warnings():
        # Its data are often separated, and its columns alike.
        warnings.simplefilter("ignore")
        found = check_estimator(MultinomialLogit(**options), on_fail=None, on_skip=None)
    failed = {each["check_name"]: each["exception"] for each in found if each["status"] not in ("passed", "skipped")}
    assert failed == {}
    assert {each["check_name"] for each in found if each["status"] == "skipped"} <= {"check_array_api_input"}
    assert len(found) > 50


@pytest.mark.parametrize("data", ["iris", "wine", "two classes"])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.4, 1.0])
def test_penalised_coefficients_are_scikit_learns(data: str, l1_ratio: float) -> None:
    X, y = (load_iris if data != "wine" else load_wine)(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    if data == "two classes":
        y = (y > 0).astype(int)
    options = {"penalty": "l2"} if l1_ratio == 0 else {"penalty": "elasticnet", "l1_ratio": l1_ratio}
    ours = MultinomialLogit(C=0.3, **options).fit(X, y)
    solver_options = {"solver": "newton-cg"} if l1_ratio == 0 else {"solver": "saga"}
    theirs = LogisticRegression(C=0.3, l1_ratio=l1_ratio, tol=1e-10, max_iter=100_000, **solver_options).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-5)
    assert ((ours.coef_ == 0) == (theirs.coef_ == 0)).all()
    assert ours.coef_.shape == theirs.coef_.shape


def test_many_coefficients_with_an_l1_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = load_wine(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    newton = MultinomialLogit("elasticnet", C=0.3, l1_ratio=0.8).fit(X, y)
    monkeypatch.setattr(_elastic, "DENSE_LIMIT", 1)
    gradients = MultinomialLogit("elasticnet", C=0.3, l1_ratio=0.8, max_iter=3000).fit(X, y)
    assert gradients.n_iter_ > newton.n_iter_
    np.testing.assert_allclose(gradients.coef_, newton.coef_, atol=1e-5)


def test_many_coefficients_without_their_information(monkeypatch: pytest.MonkeyPatch) -> None:
    from softplace.output.logit import _ascent, _fit

    X, y = draw(5000, 8, 4)
    expected = [MultinomialLogit(penalty).fit(X[:, 1:], y).coef_ for penalty in ("none", "l2")]
    monkeypatch.setattr(_ascent, "DENSE_LIMIT", 1)
    monkeypatch.setattr(_fit, "DENSE_LIMIT", 1)
    found = [MultinomialLogit(penalty).fit(X[:, 1:], y).coef_ for penalty in ("none", "l2")]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_penalty_does_not_depend_on_the_reference() -> None:
    X, y = load_iris(return_X_y=True)
    labels = np.array(["red", "green", "blue"])[y]
    plain = MultinomialLogit("l2").fit(X, labels)
    np.testing.assert_allclose(plain.coef_.sum(0), 0, atol=1e-10)
    for reference in ("red", "blue"):
        other = MultinomialLogit("l2", reference=reference).fit(X, labels)
        np.testing.assert_allclose(other.predict_proba(X), plain.predict_proba(X), atol=1e-6)
        at = list(plain.classes_).index(reference)
        np.testing.assert_allclose(other.coef_, plain.coef_ - plain.coef_[at], atol=1e-5)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_reference_has_zeros_and_the_solution_its_order(classes: int) -> None:
    X, y = draw(2000, 4, classes)
    labels = np.array(["d", "a", "c", "b"])[y]
    plain = MultinomialLogit().fit(X[:, 1:], labels)
    model = MultinomialLogit(reference="d").fit(X[:, 1:], labels)
    np.testing.assert_allclose(model.predict_proba(X[:, 1:]), plain.predict_proba(X[:, 1:]), atol=1e-7)
    others = sorted(set(labels) - {"d"})
    assert list(model.solution_classes_) == ["d", *others]
    exact = solver.solve(X, np.array([["d", *others].index(label) for label in labels]), classes)
    np.testing.assert_allclose(model.solution_.coefficients, exact.coefficients, atol=1e-7)
    if classes == 2:
        # As scikit-learn: one row, of the second label ("d") against the first ("a").
        np.testing.assert_allclose(model.coef_, -exact.coefficients[:, 1:], atol=1e-7)
        np.testing.assert_allclose(model.coef_, plain.coef_, atol=1e-7)
    else:
        assert (model.coef_[3] == 0).all()
        assert (plain.coef_[0] == 0).all()
        np.testing.assert_allclose(model.coef_[:3], exact.coefficients[:, 1:], atol=1e-7)
    np.testing.assert_allclose(model.loglikelihood_, plain.loglikelihood_, rtol=1e-12)
    rows = model.predict_log_proba(X[:, 1:])[np.arange(2000), [list(model.classes_).index(each) for each in labels]]
    np.testing.assert_allclose(rows.sum(), model.loglikelihood_, rtol=1e-12)


def test_probabilities_too_small_for_a_number_have_logarithms() -> None:
    X, y = draw(500, 2, 3)
    model = MultinomialLogit().fit(X[:, 1:], y)
    found = model.predict_log_proba([[1e6]])
    assert np.isfinite(found).all()
    assert found.min() < -1e4
    assert model.predict_proba([[1e6]]).sum() == 1


def test_frames_names_pickles_and_pipelines() -> None:
    frame = load_iris(as_frame=True)
    model = MultinomialLogit("l2").fit(frame.data, frame.target)
    assert list(model.feature_names_in_) == list(frame.data.columns)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(frame.data), model.predict_proba(frame.data))
    assert len(pickle.dumps(model)) < 20_000  # the rows are not kept
    chain = make_pipeline(StandardScaler(), MultinomialLogit("l2"))
    assert cross_val_score(chain, frame.data, frame.target).mean() > 0.9
    search = GridSearchCV(MultinomialLogit("l2"), {"C": [0.1, 1.0]}).fit(frame.data, frame.target)
    assert search.best_score_ > 0.9


def test_a_cell_that_is_missing_is_named() -> None:
    frame = load_iris(as_frame=True)
    data = frame.data.copy()
    data.iloc[17, 2] = np.nan
    said = r"Got NaN in row 17, 'petal length \(cm\)' .*and 1 row with missing \(NaN\) cells in all"
    with pytest.raises(ValueError, match=said):
        MultinomialLogit().fit(data, frame.target)
    model = MultinomialLogit("l2").fit(frame.data, frame.target)
    with pytest.raises(ValueError, match=said):
        model.predict(data)


def test_separation_is_a_warning_with_names() -> None:
    frame = load_iris(as_frame=True)
    said = r"Quasi-complete separation: 'petal length \(cm\)' is at most 1\.9 in all rows of class 0 and at least that"
    with pytest.warns(problems.SeparationWarning, match=said):
        model = MultinomialLogit().fit(frame.data, frame.target)
    assert model.score(frame.data, frame.target) > 0.98
    assert model.solution_.separation is not None


def test_dependent_columns_are_a_warning_and_change_no_prediction() -> None:
    X, y = draw(1000, 4, 3)
    frame = pd.DataFrame(X[:, 1:], columns=["a", "b", "c"])
    plain = MultinomialLogit().fit(frame, y)
    frame["d"] = frame["a"] + frame["c"] - 1
    with pytest.warns(CollinearityWarning, match=r"Got 1 that does: 'd' is made of 'intercept', 'a' and 'c'"):
        model = MultinomialLogit().fit(frame, y)
    assert (model.coef_[:, 3] == 0).all()
    np.testing.assert_allclose(model.predict_proba(frame), plain.predict_proba(frame[["a", "b", "c"]]), atol=1e-8)


def test_a_dependent_column_and_separation_name_the_right_columns() -> None:
    X, _ = draw(200, 4, 3)
    frame = pd.DataFrame({"a": X[:, 1], "twice": 2 * X[:, 1], "b": X[:, 2]})
    y = (frame["b"] > 0.1).astype(int)
    with (
        pytest.warns(CollinearityWarning, match=r"'twice' is made of 'a'"),
        pytest.warns(problems.SeparationWarning, match=r"'b' is at least"),
    ):
        model = MultinomialLogit().fit(frame, y)
    assert (model.coef_[:, 1] == 0).all()


def test_too_few_passes_are_a_warning() -> None:
    X, y = draw(1000, 4, 3)
    with pytest.warns(ConvergenceWarning, match=r"'max_iter' must be large enough to converge. Got 2: after 2 passes"):
        MultinomialLogit(max_iter=2).fit(X[:, 1:], y)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"penalty": "l3"}, r"'penalty' must be one of \('none', 'l2', 'elasticnet'\). Got 'l3'"),
        ({"penalty": None}, r"Got None"),
        ({"penalty": "l2", "C": 0.0}, r"'C' must be a positive number. Got 0.0"),
        ({"C": 2.0}, r"'C' must be 1.0 with penalty='none'. Got 2.0"),
        ({"l1_ratio": 0.5}, r"'l1_ratio' must be None with penalty='none'"),
        ({"penalty": "l2", "l1_ratio": 0.5}, r"'l1_ratio' must be None with penalty='l2'"),
        ({"penalty": "elasticnet", "l1_ratio": 1.5}, r"'l1_ratio' must lie between 0 and 1. Got 1.5"),
        ({"reference": "virginca"}, r"'reference' must be a class of 'y'. Got 'virginca'. Did you mean 'virginica'"),
        ({"tol": -1.0}, r"'tol' must be a positive number. Got -1.0"),
        ({"max_iter": 0}, r"'max_iter' must be a positive integer. Got 0"),
    ],
)
def test_options_that_are_none(options: dict, said: str) -> None:
    data = load_iris()
    with pytest.raises(ValueError, match=said):
        MultinomialLogit(**options).fit(data.data, data.target_names[data.target])


def test_what_cannot_be_fitted() -> None:
    X, y = draw(100, 3, 3)
    with pytest.raises(ValueError, match=r"'y' must hold two classes or more. Got one class"):
        MultinomialLogit().fit(X, np.zeros(100, int))
    labels = np.array(["a", "b", "c"])[y]
    with pytest.raises(ValueError, match=r"Every class must have a row of positive weight. Got none of class b"):
        MultinomialLogit().fit(X, labels, sample_weight=labels != "b")
    with pytest.raises(ValueError, match=r"(?i)negative"):
        MultinomialLogit().fit(X, y, sample_weight=-np.ones(100))
    with pytest.raises(NotFittedError):
        MultinomialLogit().predict(X)

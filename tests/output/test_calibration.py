"""Calibrators against scikit-learn and scipy, by their gradients, and what they must keep."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import sklearn.calibration
import sklearn.linear_model
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from torch import Tensor
from torch.nn.functional import cross_entropy

from softplace import output
from softplace.errors import InputError
from softplace.output import _newton
from softplace.randomness import generator

FITS = [output.fit_temperature, output.fit_vector, output.fit_matrix, output.fit_dirichlet, output.fit_isotonic]
LINEAR = FITS[:4]


def sample(rows: int, classes: int, scale: float = 2.5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that are too sure by `scale`, and labels."""
    source = generator(seed, "calibration", rows, classes)
    logits = torch.randn(rows, classes, generator=source, dtype=torch.float64)
    labels = torch.multinomial(torch.softmax(logits, -1), 1, generator=source)[:, 0]
    return scale * logits, labels


def objective(fit: Callable[..., object], logits: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """The loss of flat parameters, as the papers write it, penalties of 0.01."""
    count = logits.shape[-1]

    def loss(parameters: Tensor) -> Tensor:
        if fit is output.fit_temperature:
            return cross_entropy(logits * parameters, labels)  # of 1 / t it is convex
        if fit is output.fit_vector:
            return cross_entropy(logits * parameters[:count] + parameters[count:], labels)
        matrix, bias = parameters[: count * count].view(count, count), parameters[count * count :]
        features = torch.log_softmax(logits, -1) if fit is output.fit_dirichlet else logits
        off = (matrix.square().sum() - matrix.diagonal().square().sum()) / (count * (count - 1))
        return cross_entropy(features @ matrix.T + bias, labels) + 0.01 * off + 0.01 * bias.square().mean()

    return loss


def flat(found: object) -> Tensor:
    if isinstance(found, output.TemperatureScaling):
        return torch.tensor([1 / found.temperature], dtype=torch.float64)
    assert isinstance(found, output.VectorScaling | output.MatrixScaling | output.DirichletScaling)
    return torch.cat([found.weight.flatten(), found.bias])


@pytest.mark.parametrize("fit", LINEAR)
@pytest.mark.parametrize(("rows", "classes", "scale"), [(60, 2, 2.5), (400, 3, 0.3), (2000, 6, 2.5)])
def test_a_fit_ends_where_the_gradient_is_zero_to_rounding(
    fit: Callable[..., output.Calibrator], rows: int, classes: int, scale: float
) -> None:
    logits, labels = sample(rows, classes, scale)
    found = fit(logits, labels)
    loss = objective(fit, logits, labels)
    parameters = flat(found).requires_grad_()
    value = loss(parameters)
    (gradient,) = torch.autograd.grad(value, parameters)
    assert float(gradient.abs().max()) < 3e-14 * max(1.0, scale)
    assert found.loss == pytest.approx(float(cross_entropy(found(logits), labels)), rel=1e-13)
    start = np.ones(1) if fit is output.fit_temperature else np.zeros(len(parameters))

    def numbers(at: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.from_numpy(at).requires_grad_()
        there = loss(point)
        return there.item(), torch.autograd.grad(there, point)[0].numpy()

    other = scipy.optimize.minimize(numbers, start, jac=True, method="L-BFGS-B")
    assert value.item() <= other.fun * (1 + 1e-14)
    assert value.item() == pytest.approx(other.fun, rel=1e-5)


@pytest.mark.parametrize("fit", [output.fit_matrix, output.fit_dirichlet])
def test_conjugate_gradients_end_where_the_factored_hessian_does(
    fit: Callable[..., output.MatrixScaling], monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, labels = sample(500, 5)
    direct = fit(logits, labels)
    monkeypatch.setattr(_newton, "_MOST_DIRECT", {"per_class": 0, "full": 0})
    products = fit(logits, labels)
    torch.testing.assert_close(products.weight, direct.weight, rtol=1e-7, atol=1e-9)
    monkeypatch.undo()
    vector = output.fit_vector(logits, labels)
    monkeypatch.setattr(_newton, "_MOST_DIRECT", {"per_class": 0, "full": 0})
    torch.testing.assert_close(output.fit_vector(logits, labels).bias, vector.bias, rtol=1e-7, atol=1e-9)


class Scores(ClassifierMixin, BaseEstimator):
    """What scikit-learn takes for a trained classifier: the columns of X are its logits."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Scores":
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return X[:, 1] - X[:, 0] if X.shape[1] == 2 else X

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X.argmax(-1)


class Probabilities(ClassifierMixin, BaseEstimator):
    """The same with probabilities."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Probabilities":
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return scipy.special.softmax(X, -1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X.argmax(-1)


def of_scikit_learn(
    model: BaseEstimator, method: str, logits: Tensor, labels: Tensor, weights: Tensor | None
) -> np.ndarray:
    numbers = logits.numpy()
    frozen = FrozenEstimator(model.fit(numbers, labels.numpy()))
    fitted = sklearn.calibration.CalibratedClassifierCV(frozen, method=method, ensemble=False)
    fitted.fit(numbers, labels.numpy(), sample_weight=None if weights is None else weights.numpy())
    return np.asarray(fitted.predict_proba(numbers))


FROZEN = pytest.mark.filterwarnings(
    "ignore:Since FrozenEstimator does not appear:UserWarning"
)  # it has no fit to weigh


@FROZEN
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_isotonic_equals_scikit_learn(classes: int, weighted: bool) -> None:
    logits, labels = sample(300, classes)
    weights = torch.rand(300, generator=generator(1), dtype=torch.float64) if weighted else None
    found = torch.softmax(output.fit_isotonic(logits, labels, weights=weights)(logits), -1)
    np.testing.assert_allclose(
        found.numpy(), of_scikit_learn(Probabilities(), "isotonic", logits, labels, weights), atol=2e-8
    )


@FROZEN
@pytest.mark.parametrize("weighted", [False, True])
def test_temperature_equals_scikit_learn(weighted: bool) -> None:
    pytest.importorskip("sklearn", minversion="1.8", reason="older releases scale no temperature")
    logits, labels = sample(300, 4)
    weights = torch.rand(300, generator=generator(1), dtype=torch.float64) if weighted else None
    found = torch.softmax(output.fit_temperature(logits, labels, weights=weights)(logits), -1)
    # Its bounded search over ln(1 / t) stops at a tolerance.
    np.testing.assert_allclose(
        found.numpy(), of_scikit_learn(Scores(), "temperature", logits, labels, weights), atol=2e-5
    )


def test_two_classes_are_platt_scaling() -> None:
    logits, labels = sample(300, 2)
    score = logits[:, 1] - logits[:, 0]
    found = output.fit_vector(torch.stack([torch.zeros_like(score), score], -1), labels)
    platt = sklearn.linear_model.LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000)
    platt.fit(score[:, None].numpy(), labels.numpy())
    assert found.weight[1].item() == pytest.approx(platt.coef_[0, 0], rel=1e-7)
    assert (found.bias[1] - found.bias[0]).item() == pytest.approx(platt.intercept_[0], rel=1e-6)


@pytest.mark.parametrize("fit", FITS)
def test_weights_are_repeated_rows(fit: Callable[..., output.Calibrator]) -> None:
    logits, labels = sample(200, 3)
    times = torch.arange(200) % 3
    repeated = fit(logits.repeat_interleave(times, 0), labels.repeat_interleave(times, 0))
    weighted = fit(logits, labels, weights=times.double())
    torch.testing.assert_close(weighted(logits), repeated(logits), rtol=1e-8, atol=1e-10)
    assert weighted.loss == pytest.approx(repeated.loss, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("fit", FITS)
def test_a_calibrator_keeps_dtype_shape_and_rows(fit: Callable[..., output.Calibrator], dtype: torch.dtype) -> None:
    logits, labels = sample(200, 3)
    found = fit(logits, labels)
    batch = logits[:12].view(2, 6, 3).to(dtype)
    mended = found(batch)
    assert (mended.dtype, mended.shape) == (dtype, (2, 6, 3))
    torch.testing.assert_close(mended[1, 2], found(batch[1, 2]))
    broken = batch.clone()
    broken[0, 0] = math.nan
    assert found(broken)[0, 0].isnan().all()
    torch.testing.assert_close(found(broken)[1], mended[1])


@pytest.mark.parametrize("fit", [output.fit_vector, output.fit_matrix, output.fit_dirichlet, output.fit_temperature])
def test_gradients_pass_through(fit: Callable[..., output.Calibrator]) -> None:
    logits, labels = sample(100, 3)
    found = fit(logits, labels)
    assert torch.autograd.gradcheck(found, (logits[:4].clone().requires_grad_(),))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(-5, 5), st.integers(2, 6))
def test_a_temperature_keeps_ranks_and_turns_with_the_scale(seed: int, exponent: float, classes: int) -> None:
    logits, labels = sample(80, classes, seed=seed)
    found = output.fit_temperature(logits, labels)
    assert found.temperature > 0
    assert bool((found(logits).argsort(-1) == logits.argsort(-1)).all())
    other = output.fit_temperature(10**exponent * logits + 7.0, labels)
    assert other.temperature == pytest.approx(10**exponent * found.temperature, rel=1e-5)
    doubled = output.fit_temperature(2.0**10 * logits, labels)
    assert doubled.temperature == pytest.approx(2.0**10 * found.temperature, rel=1e-13)


def test_a_right_scale_has_a_temperature_of_one() -> None:
    logits, labels = sample(40_000, 4, scale=1.0)
    assert output.fit_temperature(logits, labels).temperature == pytest.approx(1.0, abs=0.03)
    vector = output.fit_vector(logits, labels)
    torch.testing.assert_close(vector.weight, torch.ones(4, dtype=torch.float64), atol=0.06, rtol=0)
    matrix = output.fit_matrix(logits, labels, off_diagonal=0, intercept=0).weight
    torch.testing.assert_close(matrix - matrix.mean(0), torch.eye(4, dtype=torch.float64) - 0.25, atol=0.06, rtol=0)


def test_excluded_classes_stay_so() -> None:
    logits, labels = sample(200, 3)
    logits[labels != 2, 2] = -math.inf
    found = output.fit_temperature(logits, labels)
    assert math.isfinite(found.temperature)
    assert found(logits)[labels != 2, 2].max() == -math.inf
    finite = logits.clamp(min=-1e5)  # as good as excluded
    assert output.fit_temperature(finite, labels).temperature == pytest.approx(found.temperature, rel=1e-9)
    assert torch.softmax(output.fit_isotonic(logits, labels)(logits), -1).sum(-1).allclose(torch.ones(200).double())


def test_an_isotonic_row_without_any_chance_is_even() -> None:
    logits = torch.log(torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3]]))
    found = output.fit_isotonic(logits[:3], torch.tensor([0, 1, 2]))
    even = torch.log(
        torch.tensor([[0.1, 0.1, 0.1]])
    )  # not a distribution as it stands; softmax makes it one third each
    torch.testing.assert_close(torch.softmax(found(even), -1), torch.full((1, 3), 1 / 3))


def test_a_penalty_is_chosen_by_rows_left_out() -> None:
    logits, labels = sample(150, 8, scale=1.0)
    many = output.choose_penalty(output.fit_dirichlet, logits, labels, penalties=(0.001, 10.0), generator=generator(0))
    assert many == 10.0  # 72 numbers from 150 rows of calibrated logits: nothing to learn
    logits, labels = sample(3000, 3)
    mixed = logits @ torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 2.0], [2.0, 0.0, 1.0]], dtype=torch.float64)
    few = output.choose_penalty(output.fit_matrix, mixed, labels, penalties=(0.001, 10.0), generator=generator(0))
    assert few == 0.001


def test_what_has_no_best_is_said() -> None:
    logits, labels = sample(100, 3)
    right = logits.argmax(-1)
    for fit, given_, says in (
        (output.fit_temperature, (logits, right), r"100 rows that are all right, of which the temperature runs to 0"),
        (output.fit_temperature, (logits, logits.argmin(-1)), r"of which the temperature runs to infinity"),
        (output.fit_temperature, (torch.ones(5, 3), labels[:5]), r"must differ within a row. Got equal logits"),
        (output.fit_vector, (logits, right), r"must not separate the classes"),
        (output.fit_matrix, (logits, right), r"must not separate the classes"),
        (output.fit_dirichlet, (logits, right), r"must not separate the classes"),
        (output.fit_vector, (logits, labels % 2), r"must have rows of every class. Got none of class 2, whose bias"),
        (output.fit_dirichlet, (logits, labels * 0), r"Got none of class 1, 2, whose bias runs to -infinity"),
    ):
        with pytest.raises(InputError, match=says):
            fit(*given_)


def test_classes_that_are_separated_in_part_are_said() -> None:
    """Class 2 is told from the others by its own logit, without an error: its parameters alone run away."""
    logits, labels = sample(300, 3)
    logits[:, 2] = torch.where(labels == 2, 10.0, -10.0) + 0.1 * logits[:, 2]
    with pytest.raises(InputError, match="must not separate the classes"):
        output.fit_vector(logits, labels)
    with pytest.raises(InputError, match="must not separate the classes"):
        output.fit_matrix(logits, labels, off_diagonal=0, intercept=0)


@pytest.mark.parametrize("fit", FITS)
def test_wrong_arguments_are_named(fit: Callable[..., output.Calibrator]) -> None:
    logits, labels = sample(50, 3)
    name = fit.__name__
    broken, infinite, late = logits.clone(), logits.clone(), labels.clone()
    broken[7, 1], infinite[3, 0], late[9] = math.nan, math.inf, 3
    for given_, kind, says in (
        ((logits.tolist(), labels), TypeError, f"'logits' of {name} must be a floating-point tensor. Got list"),
        ((logits, labels.double()), TypeError, f"'labels' of {name} must be an integer tensor"),
        ((logits, labels > 0), TypeError, r"Got a tensor of torch.bool"),
        (
            (logits[:, 0], labels),
            InputError,
            r"must have the shape \(N, C\) .* Got \(50,\). Of one score per row, stack",
        ),
        ((logits[:0], labels[:0]), InputError, r"Got \(0, 3\)"),
        ((logits[:, :1], labels * 0), InputError, r"Got \(50, 1\)"),
        ((logits, labels[:3]), InputError, rf"'labels' of {name} must have the shape \(50,\). Got \(3,\)"),
        ((logits, late), InputError, r"must be classes from 0 to 2. Got 3 in row 9"),
        ((broken, labels), InputError, r"must be finite. Got nan in row 7, class 1"),
        ((infinite, labels), InputError, r"must be finite. Got inf in row 3, class 0"),
    ):
        with pytest.raises(kind, match=says):
            fit(*given_)
    for weights, kind, says in (
        (labels, TypeError, f"'weights' of {name} must be a floating-point tensor"),
        (torch.ones(3), InputError, r"'weights' of .* must have the shape \(50,\). Got \(3,\)"),
        (torch.zeros(50), InputError, r"must be finite, at least 0, and not all 0. Got numbers from 0 to 0"),
        (-torch.ones(50), InputError, r"Got numbers from -1 to -1"),
    ):
        with pytest.raises(kind, match=says):
            fit(logits, labels, weights=weights)
    if fit is not output.fit_temperature:
        with pytest.raises(InputError, match=r"must have 3 classes on the last axis, as what it was fitted on"):
            fit(logits, labels)(torch.zeros(4, 5))


def test_wrong_options_are_named() -> None:
    logits, labels = sample(50, 3)
    for options, says in (
        ({"off_diagonal": -1.0}, r"'off_diagonal' of fit_matrix must be a finite number of at least 0. Got -1.0"),
        ({"intercept": math.inf}, r"'intercept' of fit_matrix must be a finite number of at least 0. Got inf"),
    ):
        with pytest.raises(InputError, match=says):
            output.fit_matrix(logits, labels, **options)
    with pytest.raises(InputError, match=r"'penalties' and 'folds' of choose_penalty .* Got \[\] and 3"):
        output.choose_penalty(output.fit_matrix, logits, labels, penalties=[])
    shut = logits.clone()
    shut[0, labels[0]] = -math.inf
    with pytest.raises(InputError, match=r"must not exclude a label. Got -inf for the label \d of row 0"):
        output.fit_temperature(shut, labels)
    with pytest.raises(InputError, match=r"must be finite. Got -inf in row 0"):
        output.fit_vector(shut, labels)

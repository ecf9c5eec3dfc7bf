"""The solver: equal to statsmodels and to the definition, whatever the size, the units, the weights and the base."""

import numpy as np
import pytest
import statsmodels.api as sm
import torch

from softplace.output.logit import _fit, _likelihood, _reference, solver
from softplace.output.logit._ascent import Climb
from tests.output.logit.choices import anes96, draw


def errors_of(information: np.ndarray) -> np.ndarray:
    return np.sqrt(np.linalg.inv(information).diagonal())


@pytest.mark.parametrize("case", ["anes96", "drawn", "two classes", "sharp"])
def test_equal_to_statsmodels(case: str) -> None:
    X, y = {
        "anes96": anes96,
        "drawn": lambda: draw(3000, 6, 4),
        "two classes": lambda: draw(1000, 3, 2),
        "sharp": lambda: draw(2000, 4, 5, spread=6.0),
    }[case]()
    theirs = sm.MNLogit(y, X).fit(method="newton", disp=0, tol=1e-12, maxiter=100)
    ours = solver.solve(X, y, int(y.max()) + 1, information=True)
    assert ours.converged
    assert ours.separation is None
    np.testing.assert_allclose(ours.coefficients, theirs.params.T, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.loglikelihood, theirs.llf, rtol=1e-12)
    np.testing.assert_allclose(errors_of(ours.information), theirs.bse.T.ravel(), rtol=1e-6)
    assert ours.gradient_norm < 1e-6


def test_the_published_loglikelihood_of_anes96() -> None:
    # statsmodels' own tests hold it from Stata's mlogit.
    X, y = anes96()
    np.testing.assert_allclose(solver.solve(X, y, 7).loglikelihood, -1461.922747312, rtol=1e-10)


def test_in_float32_first_and_float64_last_it_is_as_right(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = draw(30_000, 5, 4)
    plain = solver.solve(X, y, 4, information=True, tolerance=1e-9)
    monkeypatch.setattr(_fit, "_SMALL", 0)
    fast = solver.solve(X, y, 4, information=True)
    assert fast.converged
    errors = errors_of(plain.information)
    far = (fast.coefficients - plain.coefficients).ravel() / errors
    assert np.abs(far).max() < 2e-6
    np.testing.assert_allclose(errors_of(fast.information), errors, rtol=1e-6)
    np.testing.assert_allclose(fast.loglikelihood, plain.loglikelihood, rtol=1e-13)


def test_sampling_first_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = draw(20_000, 4, 3)
    starts: list[int] = []
    start = _fit._start

    def noted(task: _fit.Task, rows: int) -> Climb:
        starts.append(rows)
        return start(task, rows)

    monkeypatch.setattr(_fit, "_start", noted)
    found = solver.solve(X, y, 3)
    assert starts[0] == 20_000
    assert len(starts) == 2
    theirs = sm.MNLogit(y, X).fit(method="newton", disp=0, tol=1e-12, maxiter=100)
    np.testing.assert_allclose(found.coefficients, theirs.params.T, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 5, 7])
def test_gradients_scores_and_information_are_the_definitions(classes: int) -> None:
    X, y = draw(200, 11, classes)
    random = np.random.default_rng(1)
    b = random.standard_normal((classes - 1, 11))
    weight, offset = random.random(200), random.standard_normal((200, classes))
    np.testing.assert_allclose(solver.scores(X, y, b, weight), _reference.scores(X, y, b, weight), atol=1e-13)
    np.testing.assert_allclose(
        solver.information(X, b, weight, offset), _reference.information(X, b, weight, offset), atol=1e-12
    )
    np.testing.assert_allclose(solver.probabilities(X, b, offset), _reference.probabilities(X, b, offset), atol=1e-15)
    rows = _reference.scores(X, y, b, weight)
    np.testing.assert_allclose(solver.score_products(X, y, b, weight), rows.T @ rows, atol=1e-12)
    groups = random.integers(0, 9, 200)
    sums = np.stack([rows[groups == group].sum(0) for group in range(9)])
    np.testing.assert_allclose(solver.score_products(X, y, b, weight, groups=groups), sums.T @ sums, atol=1e-12)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_blocks_of_any_size_give_the_same_sums(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = draw(150, 9, 6)
    whole = solver.solve(X, y, 6, information=True)
    for module in ("_rows", "_fit", "_likelihood"):
        monkeypatch.setattr(f"softplace.output.logit.{module}.BLOCK", block)
    parts = solver.solve(X, y, 6, information=True)
    np.testing.assert_allclose(parts.coefficients, whole.coefficients, atol=1e-7)
    np.testing.assert_allclose(parts.information, whole.information, atol=1e-5)


def test_scores_of_any_size_do_not_overflow() -> None:
    X, b = torch.tensor([[1.0], [-1.0]]).double(), torch.tensor([[1e4], [2e4]]).double()
    total, expected = _likelihood.expected_safely([_likelihood.Block(X)], b)
    assert total == 2e4
    assert expected.tolist() == [[0.0], [1.0]]
    assert np.isinf(_likelihood.expected([_likelihood.Block(X)], b)[0])
    # A step far too long on the way must not end the climb.
    X, y = draw(500, 2, 3)
    assert solver.solve(X, y, 3, offset=np.where(y[:, None] == np.arange(3), 0.0, 900.0)).loglikelihood < -1e5


def test_weights_are_repeated_rows() -> None:
    X, y = draw(400, 4, 3)
    times = np.random.default_rng(2).integers(0, 4, 400)
    weighted = solver.solve(X, y, 3, sample_weight=times, information=True)
    repeated = solver.solve(np.repeat(X, times, 0), np.repeat(y, times), 3, information=True)
    np.testing.assert_allclose(weighted.coefficients, repeated.coefficients, atol=1e-9)
    np.testing.assert_allclose(weighted.information, repeated.information, rtol=1e-8, atol=1e-7)
    np.testing.assert_allclose(weighted.loglikelihood, repeated.loglikelihood, rtol=1e-13)


def test_an_offset_moves_what_is_fitted() -> None:
    X, y = draw(500, 4, 3)
    shift = np.array([[0.0, 0.3, -0.2, 1.0], [0.0, 1.1, 0.4, -0.5], [0.0, 0.0, 0.0, 0.0]])
    plain, moved = solver.solve(X, y, 3), solver.solve(X, y, 3, offset=X @ shift.T)
    np.testing.assert_allclose(moved.coefficients, plain.coefficients - (shift[1:] - shift[0]), atol=1e-6)
    np.testing.assert_allclose(moved.loglikelihood, plain.loglikelihood, rtol=1e-12)


@pytest.mark.parametrize("base", range(4))
def test_the_base_and_the_order_of_classes_do_not_matter(base: int) -> None:
    X, y = draw(800, 5, 4)
    first = solver.solve(X, y, 4)
    order = np.roll(np.arange(4), -base)  # class order[k] is coded k
    other = solver.solve(X, np.argsort(order)[y], 4)
    rows = np.vstack([np.zeros(5), first.coefficients])[order]
    np.testing.assert_allclose(other.coefficients, rows[1:] - rows[0], atol=1e-6)
    np.testing.assert_allclose(other.loglikelihood, first.loglikelihood, rtol=1e-12)


def test_units_and_origins_of_columns_do_not_matter() -> None:
    X, y = draw(30_000, 4, 3)
    plain = solver.solve(X, y, 3, tolerance=1e-8)
    scale, origin = np.array([1.0, 1e6, 1e-5, 3.0]), np.array([0.0, 5e7, 0.2, 2000.0])
    moved = solver.solve(X * scale + origin, y, 3, tolerance=1e-8)
    assert moved.converged
    back = moved.coefficients * scale
    back[:, 0] = moved.coefficients @ origin + moved.coefficients[:, 0]
    np.testing.assert_allclose(back, plain.coefficients, atol=1e-7)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [np.float32, np.int64, bool, object])
def test_tables_of_any_type_and_layout(order: str, kind: type) -> None:
    X, y = draw(300, 4, 3)
    X = np.round(X) if kind is not bool else np.column_stack([np.ones(300), X[:, 1:] > 0])
    expected = solver.solve(X.astype(np.float64), y, 3).coefficients
    found = solver.solve(np.asarray(X.astype(kind), order=order), y.astype(np.int16), 3)
    np.testing.assert_allclose(found.coefficients, expected, atol=1e-7)


def test_rows_that_may_not_be_written_and_views() -> None:
    X, y = draw(300, 4, 3)
    expected = solver.solve(X, y, 3).coefficients
    X.flags.writeable = False
    np.testing.assert_allclose(solver.solve(X, y, 3).coefficients, expected, atol=1e-12)
    np.testing.assert_allclose(solver.solve(X[::-1], y[::-1], 3).coefficients, expected, atol=1e-6)
    np.testing.assert_allclose(solver.solve(X.astype(">f8"), y, 3).coefficients, expected, atol=1e-12)


def test_no_constant_column() -> None:
    X, y = draw(2000, 4, 3)
    X, y = X[:, 1:] + 0.3, y
    theirs = sm.MNLogit(y, X).fit(method="newton", disp=0, tol=1e-12, maxiter=100)
    np.testing.assert_allclose(solver.solve(X, y, 3).coefficients, theirs.params.T, atol=1e-6)


def test_only_a_constant_column() -> None:
    y = np.repeat([0, 1, 2], [5, 3, 2])
    found = solver.solve(np.full((10, 1), 2.0), y, 3)
    np.testing.assert_allclose(2 * found.coefficients.ravel(), np.log([3 / 5, 2 / 5]), atol=1e-12)


def test_a_column_that_only_begins_as_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = draw(300, 3, 3)
    expected = solver.solve(X, y, 3).coefficients
    order = np.argsort(X[:, 1] > 0, kind="stable")
    D = np.column_stack([X, X[:, 1] > 0])[order]
    monkeypatch.setattr("softplace.output.logit._rows.BLOCK", 50)
    found = solver.solve(D[:, ::-1], y[order], 3)
    theirs = sm.MNLogit(y[order], D).fit(method="newton", disp=0, tol=1e-12, maxiter=100)
    np.testing.assert_allclose(found.coefficients[:, ::-1], theirs.params.T, atol=1e-6)
    assert expected.shape == (2, 3)


def test_too_few_passes_are_said() -> None:
    X, y = draw(3000, 6, 4)
    found = solver.solve(X, y, 4, max_iterations=2)
    assert not found.converged
    assert found.iterations == 2
    assert found.gradient_norm > 0


@pytest.mark.parametrize("weighted", [False, True])
def test_a_stream_is_as_rows_in_memory(weighted: bool) -> None:
    X, y = draw(70_000, 5, 4)
    weight = np.random.default_rng(3).random(70_000) if weighted else None
    passes = []

    def batches():
        passes.append(0)
        for start in range(0, 70_000, 9_999):
            rows = slice(start, start + 9_999)
            yield X[rows], y[rows], None if weight is None else weight[rows]

    whole = solver.solve(X, y, 4, sample_weight=weight, information=True)
    found = solver.stream(batches, 4, information=True)
    np.testing.assert_allclose(found.coefficients, whole.coefficients, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.loglikelihood, whole.loglikelihood, rtol=1e-13)
    np.testing.assert_allclose(errors_of(found.information), errors_of(whole.information), rtol=1e-5)
    assert len(passes) <= found.iterations + 3


def test_streams_that_cannot_be_used() -> None:
    X, y = draw(100, 3, 3)
    with pytest.raises(TypeError, match=r"'batches' must give its rows again and again. Got an iterator"):
        solver.stream(iter([(X, y, None)]), 3)
    with pytest.raises(TypeError, match=r"'batches' must give \(X, codes, weight\)"):
        solver.stream([(X, y)], 3)
    with pytest.raises(ValueError, match=r"'batches' must give at least one row"):
        solver.stream([], 3)
    with pytest.raises(ValueError, match=r"'batches' must give X of 3 columns each time. Got 2"):
        solver.stream([(X, y, None), (X[:, :2], y, None)], 3)
    growing = []

    def more():
        growing.append((X, y, None))
        return growing

    with pytest.raises(
        ValueError, match=r"'batches' must give the same rows each time. Got 100 at first and 200 later"
    ):
        solver.stream(more, 3)
    wrong = X.copy()
    wrong[7, 2] = np.nan
    with pytest.raises(ValueError, match=r"Got NaN in row 107, column 2"):
        solver.stream([(X, y, None), (wrong, y, None)], 3)


def test_a_stream_forgets_all_but_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    from softplace.output.logit import _stream

    monkeypatch.setattr(_stream, "_SAMPLED", 500)
    monkeypatch.setattr(_stream, "_PER_COEFFICIENT", 1)
    rows = _stream.Stream([(np.full((100, 1), float(i)), np.zeros(100, int), None) for i in range(50)], 2)
    for _ in rows.first():
        assert sum(len(keys) for keys, _ in rows.kept) <= 1100
    kept = rows.sample(500).X[:, 0].numpy()
    assert len(kept) == 500
    # Each batch has as good a chance: a chi-squared number of 49 degrees of freedom.
    assert ((np.bincount(kept.astype(int), minlength=50) - 10) ** 2 / 10).sum() < 49 + 5 * 98**0.5
    assert len(rows.sample(30).X) == 30

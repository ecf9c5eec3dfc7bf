"""The diagnosis: numbers against direct computation, what it calls a bias, what it recommends, its table and page."""

import html
import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.latent import ESTIMATORS, Diagnosis, _measuring, diagnose, get, gumbel_softmax
from softplace.latent._measuring import Row
from softplace.latent.diagnosis import recommend
from softplace.randomness import generator
from tests.latent.problems import exact_gradient, make_loss, moments, normal

LOGITS, LOSS = normal(2, 3, label="logits"), make_loss("quadratic", 2, 3)


@pytest.fixture(scope="module")
def found() -> Diagnosis:
    return diagnose(LOGITS, LOSS, generator=generator(0, "latent", "diagnosis"))


def test_bias_is_called_so_where_theory_has_one(found: Diagnosis) -> None:
    assert [row.name for row in found.rows] == [name for name, each in ESTIMATORS.items() if each.map == "softmax"]
    for row in found.rows:
        assert row.biased is not row.unbiased, row
        assert row.bias >= 0
        assert row.seconds > 0


@pytest.mark.parametrize("name", ["reinforce", "disarm", "straight-through", "gumbel-softmax"])
def test_numbers_are_those_of_a_direct_computation(found: Diagnosis, name: str) -> None:
    (row,) = [row for row in found.rows if row.name == name]
    direct = moments(get(name).function, LOGITS, LOSS, repeats=2, label=name, samples=2)
    exact = exact_gradient(LOGITS, LOSS)
    assert row.variance == pytest.approx(float(direct.variance.sum()), rel=0.1)
    assert row.deviation == math.sqrt(row.variance)
    if row.biased:
        bias = float((direct.mean - exact).norm())
        assert abs(row.bias - bias) < 5 * row.bias_error
        assert row.relative_bias == pytest.approx(row.bias / float(exact.norm()), rel=1e-5)
        assert row.bias_error < 0.1 * bias
    assert row.evaluations == (4 if name == "disarm" else 2)
    at_budget = row.variance * row.evaluations / found.budget
    assert row.rmse == pytest.approx(math.sqrt(row.biased * row.bias**2 + at_budget))


def test_noise_is_seldom_called_a_bias() -> None:
    called = 0
    for seed in range(30):
        source = generator(seed, "latent", "noise")
        rows = diagnose(LOGITS, LOSS, estimators=["reinforce", "rebar", "disarm"], draws=500, generator=source).rows
        called += sum(row.biased for row in rows)
    assert called == 0


@pytest.mark.parametrize("components", [1, 2, 12])
def test_noise_is_called_a_bias_as_often_as_the_level_says(components: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_measuring, "LEVEL", 0.05)
    scale = torch.linspace(0.2, 1.0, components, dtype=torch.double)
    source = generator(0, "latent", "level", components)
    noise = scale * torch.randn(2000, _measuring.GROUPS, components, dtype=torch.double, generator=source)
    called = sum(_measuring._bias(each, 1.0, 1e-7)[2] for each in noise) / 2000
    assert called == pytest.approx(0.05, abs=0.02)
    found = [_measuring._bias(each + 0.7, 1.0, 1e-7) for each in noise[:300]]
    bias = 0.7 * math.sqrt(components)
    off = torch.tensor([(each[0] - bias) / each[1] for each in found])
    assert off.mean().abs() < 0.3
    assert off.std().item() == pytest.approx(1.0, abs=0.2)  # the error is the error
    assert all(each[2] for each in found)


def test_the_exact_one_is_exact(found: Diagnosis) -> None:
    row = found.rows[0]
    assert (row.name, row.variance, row.rmse, row.biased, row.evaluations) == ("marginalise", 0.0, 0.0, False, 9.0)
    assert row.cosine == pytest.approx(1.0)
    torch.testing.assert_close(found.exact.double(), exact_gradient(LOGITS, LOSS))


def test_it_recommends_by_the_numbers(found: Diagnosis) -> None:
    sampled = [row for row in found.rows if not row.enumerates]
    best = min(sampled, key=lambda row: row.rmse)
    assert found.recommendation.startswith(f"Use {best.name}: at {found.budget:g} losses")
    assert "marginalise is exact" in found.recommendation
    assert recommend(found.rows, 8, 8.0, 1.0).startswith("Use marginalise: it is exact, and takes 8 losses")
    fair = [row for row in sampled if not row.biased]
    assert recommend(fair, 9, 8.0, 1.0).startswith(f"Use {min(fair, key=lambda row: row.rmse).name}: ")
    assert best.biased
    # Where the two cross, both errors are equal.
    times = float(re.search(r"more than ([\d.]+) times", found.recommendation).group(1))
    other = min(fair, key=lambda row: row.rmse)

    def squared(row: Row) -> float:
        return row.biased * row.bias**2 + row.variance * row.evaluations / (found.budget * times)

    assert squared(best) == pytest.approx(squared(other), rel=0.05)


def test_options_of_ones_own() -> None:
    mine = replace(get("gumbel-softmax"), name="cold", function=partial(gumbel_softmax, temperature=0.1))
    rows = diagnose(LOGITS, LOSS, estimators=["gumbel-softmax", mine], draws=2000).rows
    assert [row.name for row in rows] == ["gumbel-softmax", "cold"]
    assert rows[1].bias < rows[0].bias
    assert rows[1].variance > rows[0].variance


def test_batches_and_parameters_and_a_gradient_of_zero() -> None:
    weight = torch.ones((), requires_grad=True)
    found = diagnose(normal(3, 1, 2, label="batch"), lambda sample: weight * sample[..., 0, 0], draws=500)
    assert found.exact.shape == (3, 1, 2)
    assert found.expected_loss.shape == (3,)
    assert weight.grad is None
    flat = diagnose(torch.zeros(1, 2), lambda sample: 3.0 * sample.sum((-2, -1)), draws=500, samples=1)
    assert "reinforce-leave-one-out" not in [row.name for row in flat.rows]
    assert all(row.relative_bias is None and row.cosine is None for row in flat.rows)
    assert "NaN" not in str(flat)
    assert "nan" not in str(flat).replace("none", "")


def test_the_table_and_the_page(found: Diagnosis, tmp_path: Path) -> None:
    text = str(found)
    for row in found.rows:
        assert re.search(rf"^{re.escape(row.name)} .* ms$", text, re.MULTILINE)
    assert text.endswith(found.recommendation)
    assert max(map(len, text.splitlines()[:-1])) <= 120
    found.page(tmp_path / "new" / "page.html")
    page = (tmp_path / "new" / "page.html").read_text()
    assert found.recommendation in html.unescape(page)
    assert "Bias against standard deviation" in page
    assert not re.search(r"""(src|href)=["']?https?:""", page)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write"):
        found.page(tmp_path / "file" / "page.html")


def test_wrong_arguments() -> None:
    def sums(sample: Tensor) -> Tensor:
        return sample.sum((-2, -1))

    for logits, options, says in (
        (torch.zeros(13, 2), {}, r"diagnose enumerates at most 4096 .* Got 2 classes \*\* 13 .* Use an estimator that"),
        (torch.zeros(2, 3), {"estimators": ["rebat"]}, "Unknown estimator 'rebat'. Did you mean 'rebar'"),
        (torch.zeros(2, 3), {"estimators": "rebar"}, r"must be a list. Got 'rebar'. Use \['rebar'\]"),
        (torch.zeros(2, 3), {"estimators": ["marginalise-sparsemax"]}, "under softmax. Got marginalise-sparsemax"),
        (torch.zeros(2, 3), {"draws": 10}, "'draws' of diagnose must be an integer of at least 100. Got 10"),
        (torch.zeros(2, 3), {"samples": 1, "estimators": ["reinforce-leave-one-out"]}, "must be at least 2 for"),
        (torch.zeros(0, 2, 3), {}, "'logits' of diagnose must not be empty"),
        (torch.full((1, 2), math.nan), {}, "must give a finite gradient"),
        (torch.zeros(3), {}, "'logits' of diagnose must be"),
    ):
        with pytest.raises(InputError, match=says):
            diagnose(logits, sums, **options)

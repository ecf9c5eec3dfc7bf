"""Maps of hidden layers against PyTorch's own functions, with masks, temperatures and every dim."""

import math
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from softplace import maps
from softplace.errors import InputError

# By hand, from the formula, in float64 and one number at a time.
FORMULAS = {
    "identity": lambda s: s,
    "sigmoid": lambda s: 1 / (1 + math.exp(-s)),
    "tanh": lambda s: (math.exp(s) - math.exp(-s)) / (math.exp(s) + math.exp(-s)),
    "relu": lambda s: max(s, 0.0),
    "gelu": lambda s: s * (1 + math.erf(s / math.sqrt(2))) / 2,
}
OWN = ("identity", "sigmoid", "tanh", "relu", "gelu", "solu")


def scores() -> Tensor:
    return 2 * torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", FORMULAS)
def test_elementwise_maps_follow_their_formula(name: str) -> None:
    expected = [FORMULAS[name](value / 0.7) for value in scores().flatten().tolist()]
    result = maps.get(name)(scores(), 1, temperature=0.7).flatten()  # type: ignore[call-arg]
    assert result.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_solu_is_the_scores_times_their_softmax(dim: int) -> None:
    expected = scores() * scores().exp() / scores().exp().sum(dim, keepdim=True)
    assert torch.allclose(maps.solu(scores(), dim), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", OWN)
def test_what_the_mask_leaves_out_is_zero_and_has_no_gradient(name: str) -> None:
    mask = torch.tensor([True, False, True, True, False])
    values = scores().requires_grad_()
    result = maps.get(name)(values, -1, mask=mask)  # type: ignore[call-arg]
    assert (result[..., ~mask] == 0).all()
    kept = maps.get(name)(scores()[..., mask], -1)
    assert torch.allclose(result[..., mask], kept, rtol=1e-12, atol=1e-15)
    (gradient,) = torch.autograd.grad(result.square().sum(), values)
    assert (gradient[..., ~mask] == 0).all()
    nothing = maps.get(name)(values, -1, mask=torch.zeros(5, dtype=torch.bool))  # type: ignore[call-arg]
    assert (nothing == 0).all()


@pytest.mark.parametrize("name", OWN)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    values = scores()[0].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: maps.get(name)(s, 0), values)


@pytest.mark.parametrize("name", OWN)
def test_vmap_equals_a_loop(name: str) -> None:
    loop = torch.stack([maps.get(name)(each, 0) for each in scores()])
    assert torch.allclose(torch.vmap(lambda each: maps.get(name)(each, 0))(scores()), loop, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype_is_kept_and_right_within_its_precision(name: str, dtype: torch.dtype) -> None:
    rounded = scores().to(dtype)
    result = maps.get(name)(rounded, -1)
    assert result.dtype == dtype
    error = (result.double() - maps.get(name)(rounded.double(), -1)).abs().max().item()
    assert error <= 4 * torch.finfo(dtype).eps * max(1.0, rounded.abs().max().item())


@pytest.mark.parametrize("name", OWN)
def test_nan_gives_nan_and_nothing_gives_nothing(name: str) -> None:
    values = scores()
    values[0, 0, 0] = math.nan
    assert maps.get(name)(values, -1)[0, 0, 0].isnan()
    assert maps.get(name)(torch.empty(2, 0), -1).shape == (2, 0)


@pytest.mark.parametrize("name", OWN)
def test_unusable_arguments_are_named(name: str) -> None:
    function = maps.get(name)
    with pytest.raises(TypeError, match="'scores'"):
        function(torch.ones(3, dtype=torch.long))
    with pytest.raises(TypeError, match="'mask'"):
        function(scores(), mask=torch.ones(5))  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="'temperature'"):
        function(scores(), temperature=0.0)  # type: ignore[call-arg]


# sigmoid's bias


def test_the_bias_of_sigmoid_is_added_after_the_temperature() -> None:
    expected = [1 / (1 + math.exp(-(value / 0.5 - 1.5))) for value in scores().flatten().tolist()]
    result = maps.sigmoid(scores(), temperature=0.5, bias=-1.5).flatten()
    assert result.tolist() == pytest.approx(expected, rel=1e-14)


def test_a_bias_of_minus_log_n_counts_what_takes_part() -> None:
    zeros = torch.zeros(2, 4)
    assert maps.sigmoid(zeros, bias="-log n").flatten().tolist() == pytest.approx([1 / 5] * 8)
    assert maps.sigmoid(zeros, 0, bias="-log n").flatten().tolist() == pytest.approx([1 / 3] * 8)
    mask = torch.tensor([[True, False, True, False], [False] * 4])
    weights = maps.sigmoid(zeros, mask=mask, bias="-log n")
    assert weights.tolist() == [pytest.approx([1 / 3, 0, 1 / 3, 0]), [0.0] * 4]
    assert maps.sigmoid(torch.tensor(0.0), bias="-log n").item() == 0.5
    assert maps.sigmoid(torch.zeros(0, 3), 0, bias="-log n").shape == (0, 3)
    values = scores().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: maps.sigmoid(s, mask=mask.any(0), bias="-log n")[..., :4], (values[..., :4],)
    )


@pytest.mark.parametrize(
    ("bias", "error", "text"),
    [
        ("log n", ValueError, r"'bias' of sigmoid must be finite or '-log n'\. Got 'log n'\. Use 0\.0"),
        (math.nan, ValueError, r"'bias' of sigmoid must be finite or '-log n'\. Got nan"),
        (math.inf, ValueError, r"must be finite or '-log n'\. Got inf"),
        (
            torch.tensor(1.0),
            TypeError,
            r"'bias' of sigmoid must be a number or '-log n'\. Got a tensor of torch\.float32",
        ),
        (True, TypeError, r"must be a number or '-log n'\. Got bool"),
        (None, TypeError, r"must be a number or '-log n'\. Got NoneType"),
    ],
)
def test_an_unusable_bias_is_named(bias: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        maps.sigmoid(scores(), bias=bias)


# gelu


def test_gelu_has_its_limits_and_derivatives_far_out() -> None:
    values = torch.tensor([-math.inf, -1e30, -50.0, 50.0, 1e30, math.inf], requires_grad=True)
    result = maps.gelu(values)
    assert result.tolist() == [0.0, 0.0, 0.0, *values[3:].tolist()]
    (first,) = torch.autograd.grad(result.sum(), values, create_graph=True)
    assert first.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    (second,) = torch.autograd.grad(first.sum(), values)
    assert second.tolist() == [0.0] * 6


@pytest.mark.parametrize("value", [-1e-3, -3.0, -6.0, -12.0])
def test_gelu_keeps_its_digits_below_0(value: float) -> None:
    exact = value * math.erfc(-value / math.sqrt(2)) / 2
    assert maps.gelu(torch.tensor(value, dtype=torch.float64)).item() == pytest.approx(exact, rel=1e-13)
    assert maps.gelu(torch.tensor(value)).item() == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("name", FORMULAS)
def test_infinite_scores_follow_the_limit(name: str) -> None:
    limits = {"identity": (-math.inf, math.inf), "sigmoid": (0, 1), "tanh": (-1, 1)}
    values = torch.tensor([-math.inf, math.inf], requires_grad=True)
    result = maps.get(name)(values)
    assert tuple(result.tolist()) == limits.get(name, (0, math.inf))
    (gradient,) = torch.autograd.grad(result, values, torch.ones(2))
    assert gradient.isfinite().all()


# The registry: maps of other packages


def test_the_registry_knows_names_and_callables() -> None:
    assert maps.names()[: len(maps.OWN)] == tuple(maps.OWN)
    assert maps.get("relu") is maps.relu
    assert maps.get(torch.relu) is torch.relu
    with pytest.raises(InputError, match="Did you mean 'softmax'"):
        maps.get("sofmax")
    with pytest.raises(InputError, match="Got int"):
        maps.get(3)  # type: ignore[arg-type]


def test_maps_of_other_packages_are_found_and_broken_ones_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[softplace.maps]\nsquare = other_maps:square\nnumber = other_maps:number\nlost = no_such_module:map\n"
        "relu = other_maps:square\n"
    )
    (tmp_path / "other_maps.py").write_text("number = 3\n\ndef square(scores, dim=-1):\n    return scores * scores\n")
    assert not [point for point in entry_points(group="softplace.maps") if point.name == "square"]
    monkeypatch.syspath_prepend(str(tmp_path))
    assert maps.names() == (*maps.OWN, "lost", "number", "square")
    assert maps.get("square")(torch.tensor([3.0])).item() == 9.0
    assert maps.get("relu") is maps.relu
    with pytest.raises(InputError, match=r"must be callable\. Got int"):
        maps.get("number")
    with pytest.raises(InputError, match="no_such_module"):
        maps.get("lost")

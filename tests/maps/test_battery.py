"""One battery for every map of `softplace.maps.OWN`, against the float64 loops of `_reference.py`.

A map that is added to OWN is tested by all of it without a line here, but for options of its own (`OPTIONS`). Axis
legend: unless a test says otherwise, rows lie along the last axis.

gumbel_softmax is random: `call` gives it a freshly seeded generator, so that what every map keeps to (shapes, dtypes,
layouts, gradients) is tested of it as of any other. Instead of its values, its law is tested, at the end.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from softplace import maps
from softplace.maps._reference import REFERENCE
from softplace.maps.registry import entry
from tests.study.test_fleet import needs_compiler

RANDOM = "gumbel_softmax"
NAMES = tuple(maps.OWN)
REPEATABLE = tuple(name for name in NAMES if name != RANDOM)
# Compared with the reference beside the defaults.
OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "softmax1": ({"sink": -1.5}, {"sink": 3.0}),
    "entmax": tuple({"alpha": alpha} for alpha in (1, 1.0001, 1.25, 1.75, 2.0, 2.5)),
    "normmax": ({"alpha": 1.5}, {"alpha": 5.0}),
    "topk_softmax": ({"k": 1}, {"k": 4}),
    "k_subset": ({"k": 1}, {"k": 4}),
    "taylor_softmax": ({"order": 4},),
    "sigmoid": ({"bias": -0.7}, {"bias": "-log n"}),
}
# The loop for sinkhorn cannot go on for ever: this many steps are compared, and the limit in a test of its own.
DEFAULTS = {"sinkhorn": {"iterations": 10}}
CASES = [(name, options) for name in REPEATABLE for options in (DEFAULTS.get(name, {}), *OPTIONS.get(name, ()))]
every_map = pytest.mark.parametrize("name", NAMES)
every_repeatable_map = pytest.mark.parametrize("name", REPEATABLE)
every_case = pytest.mark.parametrize(
    ("name", "options"),
    CASES,
    ids=["-".join([name, *(f"{key}={value}" for key, value in options.items())]) for name, options in CASES],
)

DOUBLE, SINGLE, HALVES = torch.float64, torch.float32, (torch.bfloat16, torch.float16)
# PyTorch's forward mode and compiler use parts of PyTorch that warn of their end.
forward_mode = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
every_dtype = pytest.mark.parametrize("dtype", [DOUBLE, SINGLE, *HALVES], ids=str)
SIZES = (1, 2, 3, 5, 10, 15, 16, 17, 31, 64, 65, 127, 128, 129, 1000)
INF, NAN = math.inf, math.nan
# Rows that hold what is no number, beside a good one that they must leave alone.
BAD_ROWS = [
    [0.5, 1.0, -0.7, 2.0, 0.1],
    [1.0, NAN, 2.0, -1.0, 0.3],
    [INF, 1.0, 2.0, -1.0, 0.3],
    [INF, 1.0, INF, -1.0, INF],
    [INF] * 5,
    [-INF, 1.0, 2.0, -1.0, 0.3],
    [-INF, -INF, -INF, -INF, 0.3],
    [-INF] * 5,
    [-INF, INF, 0.0, -1.0, 0.3],
    [NAN, INF, -INF, 0.0, 0.3],
    [NAN] * 5,
]


def normal(*shape: int, seed: int = 0, scale: float = 1.0, dtype: torch.dtype = DOUBLE) -> Tensor:
    return (scale * torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))).to(dtype)


def least(dtype: torch.dtype) -> float:
    """The smallest positive number, subnormal."""
    return torch.finfo(dtype).tiny * torch.finfo(dtype).eps


def call(name: str, scores: Tensor, dim: int = -1, **options: Any) -> Tensor:
    """The map, with what it needs beside its defaults to be called on any scores."""
    options = dict(options)
    if name == RANDOM and "generator" not in options:
        options["generator"] = torch.Generator().manual_seed(5)
    if name == "sinkhorn":  # its other axis: the last, or the one before
        options.setdefault("other_dim", -2 if dim % scores.dim() == scores.dim() - 1 else -1)
    if name in ("topk_softmax", "k_subset"):
        default = inspect.signature(maps.OWN[name]).parameters["k"].default
        options["k"] = min(options.get("k", default), scores.shape[dim] if scores.dim() else 1)
    return maps.OWN[name](scores, dim, **options)


def usual(name: str) -> Callable[[Tensor], Tensor]:
    return lambda scores: call(name, scores)


def exact(name: str, scores: Tensor, dim: int = -1, mask: Tensor | None = None, **options: Any) -> Tensor:
    """What the reference makes of these numbers, in float64."""
    part = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask.expand(scores.shape)
    axes = (-1,) if name != "sinkhorn" else (-2, -1)
    moved = (dim,) if name != "sinkhorn" else (-2 if dim % scores.dim() == scores.dim() - 1 else -1, dim)
    values, parts = scores.double().movedim(moved, axes), part.movedim(moved, axes)
    shape = values.shape
    rows, parts = (
        values.reshape(-1, *shape[len(shape) - len(axes) :]),
        parts.reshape(-1, *shape[len(shape) - len(axes) :]),
    )
    found = [
        REFERENCE[name](row.tolist(), mask=takes.tolist(), **options) for row, takes in zip(rows, parts, strict=True)
    ]
    return torch.tensor(found, dtype=DOUBLE).reshape(shape).movedim(axes, moved)


# What rounding cannot but do to a weight p is p (1 + |log p|) in units of the last place, as differences of scores are
# rounded before the exponential; and this beside it, where weights near 0 are differences of larger numbers.
ONE = dict.fromkeys(("log_softmax", "sparsemax", "entmax15", "entmax", "normmax", "k_subset"), 1.0)
OF_SCORE = {"gelu": 0.25, "solu": 1.0, "periodic": 1.0}
UNIT = {DOUBLE: 2e-14, SINGLE: 4 * 2.0**-23, torch.bfloat16: 1e-5, torch.float16: 4 * 2.0**-23}


def agree(
    name: str,
    got: Tensor,
    want: Tensor,
    scores: Tensor,
    temperature: float = 1.0,
    note: object = "",
    alpha: float = 1.5,
) -> None:
    """`got` is `want` within a few units in the last place; a half precision within one rounding of it."""
    size = want.abs()
    logarithm = torch.where((size > 0) & (size < INF), size, 1.0).log().abs()
    floor = ONE.get(name, 0.0) + OF_SCORE.get(name, 0.0) * scores.double().abs().clamp(max=1e6) / temperature
    if name in ("entmax", "normmax") and alpha > 2:  # a power below 1 is steep where its base is near 0
        floor = torch.maximum(size, torch.tensor(UNIT[got.dtype]) ** (1 / (alpha - 1))) ** (2 - alpha)
        if scores.dim():  # and what one weight gains the others of its row lose
            floor = torch.maximum(floor, torch.where(size > 0, floor, 0.0).amax(-1, keepdim=True))
    if name == "sinkhorn":  # every step rounds potentials, which are as large as the differences of the scores
        logarithm = logarithm + 4 * (scores.double().amax() - scores.double().amin()).clamp(max=1e6) / temperature
    if name == "periodic":  # few sines may all be small, and their sum is a divisor
        sines = (
            (scores.double() / temperature + math.pi / 4).sin().square().sum(-1 if scores.dim() else (), keepdim=True)
        )
        floor = (floor + 1.0) / sines.sqrt().clamp(max=1.0)
    bound = UNIT[got.dtype] * (size * (1 + logarithm) + floor)
    if got.dtype in HALVES:
        bound = bound + torch.finfo(got.dtype).eps / 2 * size
    # Below the normal numbers a result may become 0, but in float16, where those are not small.
    bound = bound + (least(got.dtype) / 2 if got.dtype == torch.float16 else torch.finfo(got.dtype).tiny)
    rounded, result = want.to(got.dtype).double(), got.double()
    fine = (result == rounded) | (result.isnan() & want.isnan()) | ((result - want).abs() <= bound)
    if not bool(fine.all()):
        at = tuple((~fine).nonzero()[0].tolist())
        raise AssertionError(
            f"{name} {note}: {int((~fine).sum())} of {fine.numel()} wrong, first at {at}: got {result[at].item()!r}, "
            f"expected {want[at].item()!r}, bound {bound.expand(want.shape)[at].item():.3g}"
        )


def alpha_of(options: dict[str, Any]) -> dict[str, float]:
    return {"alpha": options["alpha"]} if "alpha" in options else {}


def claims(name: str, word: str) -> bool:
    return bool(getattr(entry(name), word))


def sums_to_one(weights: Tensor, dim: int = -1) -> None:
    """Within what rounding each of the weights once can do to their sum."""
    number = torch.finfo(weights.dtype)
    slack = number.eps / 2 * 1.02 if weights.dtype in HALVES else 16 * number.eps
    slack += least(weights.dtype) / 2 * weights.shape[dim] if weights.dtype in HALVES else 0.0
    assert (weights.double().sum(dim) - 1).abs().max() <= slack
    assert (weights >= 0).all()
    assert (weights <= 1).all()


def test_every_map_has_a_reference() -> None:
    assert set(NAMES) <= set(REFERENCE)


# Values


@every_dtype
@every_case
def test_every_size(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    for size in SIZES:
        scores = normal(1 if size == 1000 else 3, size, seed=size, scale=2.0, dtype=dtype)
        fitted = {key: min(value, size) if key == "k" else value for key, value in options.items()}
        if name in ("topk_softmax", "k_subset"):
            fitted.setdefault("k", min(2, size))
        got = call(name, scores, **fitted)
        assert got.dtype == dtype
        agree(name, got, exact(name, scores, **fitted), scores, 1.0, f"size {size}", **alpha_of(options))
        if claims(name, "simplex"):
            sums_to_one(got)


@every_dtype
@every_case
def test_every_scale_and_temperature(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    for scale in (1e-5, 1e-2, 1.0, 10.0, 1e4):
        for temperature in (0.1, 1.0, 10.0):
            scores = normal(2, 17, seed=3, scale=scale, dtype=dtype)
            got = call(name, scores, temperature=temperature, **options)
            want = exact(name, scores, temperature=temperature, **options)
            agree(name, got, want, scores, temperature, f"scale {scale}, {temperature}", **alpha_of(options))


@pytest.mark.parametrize("offset", [1e4, -1e4])
@pytest.mark.parametrize("dtype", [DOUBLE, SINGLE], ids=str)
@every_case
def test_an_offset(name: str, options: dict[str, Any], dtype: torch.dtype, offset: float) -> None:
    scores = (normal(2, 17, seed=4) + offset).to(dtype)
    for temperature in (0.1, 1.0):
        got = call(name, scores, temperature=temperature, **options)
        want = exact(name, scores, temperature=temperature, **options)
        agree(name, got, want, scores, temperature, **alpha_of(options))


@pytest.mark.parametrize("dtype", [DOUBLE, SINGLE], ids=str)
@every_case
def test_every_dim_and_mask(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(7)
    for dim in (0, 1, 2, -1, -2, -3):
        scores = normal(5, 6, 7, seed=8, scale=2.0, dtype=dtype)
        got, want = call(name, scores, dim, **options), exact(name, scores, dim, **options)
        agree(name, got, want, scores, 1.0, dim, **alpha_of(options))
        mask = torch.rand(5, 6, 7, generator=generator) < 0.6
        mask.transpose(dim, 0)[:, 1] = False
        scores[~mask] = NAN  # what is left out may be anything
        scores.requires_grad_()
        got = call(name, scores, dim, mask=mask, temperature=0.7, **options)
        want = exact(name, scores.detach(), dim, mask, temperature=0.7, **options)
        agree(name, got.detach(), want, scores.detach().nan_to_num(), 0.7, f"masked, {dim}", **alpha_of(options))
        (gradient,) = torch.autograd.grad(got.nan_to_num(neginf=0.0), scores, normal(5, 6, 7, seed=9, dtype=dtype))
        assert gradient.isfinite().all()
        assert (gradient[~mask] == 0).all()


@every_map
def test_a_mask_broadcasts(name: str) -> None:
    scores, mask = normal(4, 3, 5), torch.tensor([True, True, False, True, False])
    whole = call(name, scores, mask=mask.expand(4, 3, 5).clone())
    for smaller in (mask, mask[None], mask[None, None]):
        assert torch.equal(call(name, scores, mask=smaller), whole)
    rows = torch.tensor([True, False, True])[:, None]
    outside = -INF if name == "log_softmax" else 0.0
    assert (call(name, scores, mask=rows)[:, 1] == outside).all()


# Bad numbers


@every_dtype
@every_case
def test_bad_numbers_follow_the_policy(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    for good in (False, True):  # a batch in which all is well takes another path than one in which something is not
        scores = torch.tensor(BAD_ROWS[:1] if good else BAD_ROWS, dtype=dtype)
        if name == "sinkhorn":  # each row its own matrix, with one more of finite scores
            scores = torch.stack([scores, torch.zeros_like(scores)], -2)
        got, want = call(name, scores, **options), exact(name, scores, **options)
        agree(name, got, want, scores.nan_to_num(), **alpha_of(options))
        part = torch.tensor([True, True, False, True, True])
        got, want = call(name, scores, mask=part, **options), exact(name, scores, mask=part, **options)
        agree(name, got, want, scores.nan_to_num(), 1.0, "masked", **alpha_of(options))


@pytest.mark.parametrize("dtype", [DOUBLE, SINGLE, torch.bfloat16], ids=str)
@every_map
def test_gradients_at_bad_numbers_follow_the_policy(name: str, dtype: torch.dtype) -> None:
    scores = torch.tensor([row for row in BAD_ROWS if not any(map(math.isnan, row))], dtype=dtype)
    if name == "sinkhorn":
        scores = torch.stack([scores, torch.zeros_like(scores)], -2)
    scores.requires_grad_()
    got = call(name, scores)
    chosen = torch.where(got.isfinite(), got, 0.0)
    (gradient,) = torch.autograd.grad(chosen, scores, normal(*scores.shape, dtype=dtype))
    assert gradient.isfinite().all()
    if claims(name, "simplex") or name == "log_softmax":
        assert (gradient[scores.isinf()] == 0).all()
        if name != "sinkhorn":
            assert (gradient[(scores == INF).any(-1)] == 0).all()


@every_repeatable_map
def test_a_score_of_minus_infinity_is_as_if_left_out(name: str) -> None:
    if not (claims(name, "simplex") or name == "log_softmax"):
        pytest.skip("a limit of its own, tested above")
    places = torch.tensor([0, 2, 3, 5])
    scores = normal(4, 6, seed=6)
    few, many = scores[:, places].clone().requires_grad_(), scores.clone()
    many[:, [1, 4]] = -INF
    many.requires_grad_()
    upstream = normal(4, 6, seed=7)
    upstream[:, [1, 4]] = 0.0
    (of_few,) = torch.autograd.grad(call(name, few), few, upstream[:, places])
    (of_many,) = torch.autograd.grad(call(name, many), many, upstream)
    torch.testing.assert_close(of_many[:, places], of_few, rtol=1e-12, atol=1e-14)
    assert (of_many[:, [1, 4]] == 0).all()


@every_dtype
@every_map
def test_empty_and_0_d(name: str, dtype: torch.dtype) -> None:
    for shape in ((2, 0), (0, 3), (0, 0), (2, 0, 3)):
        scores = torch.empty(shape, dtype=dtype, requires_grad=True)
        if name in ("topk_softmax", "k_subset") and shape[-1] == 0:
            continue  # no k fits; the next lines test that a mask cannot do this
        got = call(name, scores)
        assert got.shape == shape
        assert got.dtype == dtype
        got.sum().backward()
    if name == "sinkhorn":
        with pytest.raises(ValueError, match="sinkhorn"):
            maps.OWN[name](torch.tensor(1.0, dtype=dtype))
        return
    for value in (0.7, INF, -INF, NAN):
        scores = torch.tensor(value, dtype=dtype, requires_grad=True)
        for dim in (0, -1):
            got = call(name, scores, dim)
            assert got.shape == ()
            assert torch.equal(got.nan_to_num(7.0), call(name, scores[None])[0].nan_to_num(7.0))
            got.backward(retain_graph=True)
        nothing = call(name, scores, mask=torch.tensor(False))
        assert nothing.item() == (-INF if name == "log_softmax" else 0.0)


# Layouts, sizes, kernels


@pytest.mark.parametrize("dtype", [DOUBLE, SINGLE, torch.bfloat16], ids=str)
@every_map
def test_layouts_make_no_difference(name: str, dtype: torch.dtype) -> None:
    whole = normal(40, 48, 20, seed=11, dtype=dtype)
    layouts = [whole.transpose(0, 2), whole[::2, 1::3], whole[:, :, :1].expand(40, 48, 20), whole[0], whole.flip(0)[3]]
    for layout in layouts:
        for dim in (-1, 0):
            plain = layout.contiguous().clone()
            before = plain.clone()
            want = call(name, plain, dim)
            assert torch.equal(plain, before), "the scores were changed"
            got = call(name, layout, dim)
            tight = torch.finfo(dtype).eps * (1 if dtype in HALVES else 4)
            torch.testing.assert_close(got, want, rtol=tight, atol=tight)
            with_gradient = call(name, layout.detach().requires_grad_(), dim)
            assert with_gradient.requires_grad
            torch.testing.assert_close(with_gradient.detach(), want, rtol=tight, atol=tight)


# A derivative is this power of the weight times a difference of what comes in from above.
POWER = {"softmax": 1.0, "softmax1": 1.0, "topk_softmax": 1.0, "entmax15": 0.5, "entmax": 0.5}
LARGE = ((300, 1000), (5003, 10), (333, 64), (333, 65), (3, 30001), (9001, 2))


@pytest.mark.parametrize("dtype", [SINGLE, torch.bfloat16], ids=str)
@every_case
def test_large_inputs_forward_and_backward(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    """Above some size a kernel takes over. The plain path in float64, which the tests above judge, judges it."""
    for shape in LARGE:
        if name in ("topk_softmax", "k_subset") and options.get("k", 2) > shape[-1]:
            continue
        scores = normal(*shape, seed=13, scale=3.0, dtype=dtype)
        upstream = normal(*shape, seed=14, dtype=dtype)
        mask = torch.rand(shape, generator=torch.Generator().manual_seed(15)) < 0.7
        mask[1] = False
        for masked in (None, mask):
            single, double = scores.clone().requires_grad_(), scores.double().requires_grad_()
            got = call(name, single, mask=masked, temperature=1.3, **options)
            want = call(name, double, mask=masked, temperature=1.3, **options)
            agree(name, got.detach(), want.detach(), scores, 1.3, f"{shape} {masked is not None}", **alpha_of(options))
            slopes = [
                torch.autograd.grad(torch.where(torch.isfinite(each), each, 0.0), leaf, upstream.to(each.dtype))[0]
                for each, leaf in ((got, single), (want, double))
            ]
            error = (slopes[0].double() - slopes[1]).abs()
            reach = upstream.double().abs().amax(-1, keepdim=True)
            if name == "log_softmax":
                reach = reach + upstream.double().sum(-1, keepdim=True).abs()
            weights = want.detach().abs().clamp(max=1.0)
            alpha, rounding = options.get("alpha", 1.5), torch.finfo(dtype).eps * (1 if dtype in HALVES else 16)
            single = 16 * 2.0**-23 / rounding  # half precisions compute in float32
            power = 2 - alpha if name == "entmax" else POWER.get(name, 0.0)
            reach = reach * (weights ** max(power, 0.0) * (1 - weights.clamp(min=1e-30).log()) + (power < 1) * single)
            if name in ("entmax", "normmax") and alpha > 1.5 and alpha != 2:  # that power is steep itself near 0
                steep = torch.where(weights > 0, weights, 1.0) ** (3 - 2 * alpha)
                reach = reach + upstream.double().abs().amax(-1, keepdim=True) * steep.amax(-1, keepdim=True) * single
            if name in ("softpick", "periodic"):  # a sum of small terms is a divisor
                z = scores.double() / 1.3
                terms = z.expm1().abs() if name == "softpick" else (z + math.pi / 4).sin().square()
                terms = terms if masked is None else terms * masked
                reach = reach * (1 + 1 / terms.sum(-1, keepdim=True).clamp(min=1e-30))
            bound = rounding * (slopes[1].abs() + reach) + 1e-30
            assert (error <= bound).all(), f"{shape}: gradient {(error / bound).max():.3g} times the bound"


@pytest.mark.parametrize("dtype", [SINGLE, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [5, 300])
@every_case
def test_bad_numbers_in_large_inputs(name: str, options: dict[str, Any], width: int, dtype: torch.dtype) -> None:
    bad = torch.tensor(BAD_ROWS).repeat_interleave(2, 0)
    if width > 5:  # all -inf stays so: the rest is filled with it
        bad = torch.cat([bad, torch.full((len(bad), width - 5), -INF)], 1)
    scores = torch.cat([normal(30000 // width, width, scale=2.0, dtype=dtype), bad.to(dtype)])[:, torch.randperm(width)]
    if name == "sinkhorn":
        scores = torch.stack([scores, torch.zeros_like(scores)], -2)
    got, want = call(name, scores, **options)[-len(bad) :], exact(name, scores[-len(bad) :], **options)
    agree(name, got, want, scores[-len(bad) :].nan_to_num(), 1.0, f"width {width}", **alpha_of(options))


@every_map
def test_two_to_the_31_entries_have_a_shape(name: str) -> None:
    scores = torch.empty(2**29 + 3, 4, device="meta")
    assert maps.OWN[name](scores).shape == scores.shape


# Transforms


@forward_mode
@every_case
def test_derivatives_by_finite_differences(name: str, options: dict[str, Any]) -> None:
    # Random scores lie far from a kink beside the step of 1e-6.
    scores, mask = normal(2, 5, seed=21, scale=1.3), torch.tensor([[True] * 5, [True, False, True, True, True]])

    def function(each: Tensor) -> Tensor:
        found = call(name, each, mask=mask, temperature=0.7, **options)
        return torch.where(mask, found, 0.0) if name == "log_softmax" else found

    scores.requires_grad_()
    assert torch.autograd.gradcheck(
        function, scores, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )
    assert torch.autograd.gradgradcheck(function, scores, check_fwd_over_rev=True, check_batched_grad=True)


def derivative(value: Tensor, leaf: Tensor, along: Tensor) -> Tensor:
    """Zeros where the value is constant, such as a slope of relu."""
    if not value.requires_grad:
        return torch.zeros_like(leaf)
    (found,) = torch.autograd.grad((value * along).sum(), leaf, materialize_grads=True)
    return found


@forward_mode
@every_repeatable_map
@pytest.mark.parametrize("shape", [(3, 4), (40, 500)], ids=str)
def test_functional_transforms_equal_plain_autograd(name: str, shape: tuple[int, int]) -> None:
    dtype = DOUBLE if shape[0] == 3 else SINGLE  # large ones in float32, where a kernel may have taken over
    close = {"rtol": 1e-11, "atol": 1e-13} if dtype == DOUBLE else {"rtol": 1e-4, "atol": 1e-5}
    scores, along = normal(*shape, seed=22, dtype=dtype), normal(*shape, seed=23, dtype=dtype)
    # The limit of sinkhorn solves equations in as many unknowns as there are columns: few, or this takes a minute.
    few = DEFAULTS.get(name, {}) if dtype == SINGLE else {}

    def function(each: Tensor) -> Tensor:
        return call(name, each, **few)

    batch = scores if name != "sinkhorn" else torch.stack([scores, along], 1)
    loop = torch.stack([function(each) for each in batch])
    torch.testing.assert_close(torch.vmap(function)(batch), loop, **close)
    last = torch.vmap(function, in_dims=1, out_dims=1)(batch.transpose(0, 1).contiguous())
    torch.testing.assert_close(last, loop.transpose(0, 1), **close)
    leaf = scores.clone().requires_grad_()
    value = function(leaf)
    (gradient,) = torch.autograd.grad(value, leaf, along, create_graph=True)
    second = derivative(gradient, leaf, along)
    pulled, pull = torch.func.vjp(function, scores)
    torch.testing.assert_close(pulled, value.detach(), **close)
    torch.testing.assert_close(pull(along)[0], gradient.detach(), **close)
    wide = scores.double().requires_grad_()
    (of_wide,) = torch.autograd.grad(function(wide), wide, along.double(), create_graph=True)
    torch.testing.assert_close(gradient.detach().double(), of_wide.detach(), **close)
    torch.testing.assert_close(second.double(), derivative(of_wide, wide, along.double()), **close)
    pushed = torch.func.jvp(function, (scores,), (along,))
    exactly = torch.func.jvp(function, (scores.double(),), (along.double(),))
    torch.testing.assert_close(pushed[1].double(), exactly[1], **close)
    assert (pushed[1] * along).sum().item() == pytest.approx((gradient * along).sum().item(), rel=1e-3, abs=1e-5)
    if dtype == SINGLE:
        return
    jacobian = torch.autograd.functional.jacobian(function, scores)
    torch.testing.assert_close(torch.func.jacrev(function)(scores), jacobian, **close)
    torch.testing.assert_close(torch.func.jacfwd(function)(scores), jacobian, **close)

    def scalar(each: Tensor) -> Tensor:
        return (function(each) * along).sum()

    hessian = torch.autograd.functional.hessian(scalar, scores)
    torch.testing.assert_close(torch.func.hessian(scalar)(scores), hessian, **close)
    if name != "sinkhorn":
        each_row = torch.vmap(torch.func.jacrev(function))(scores)
        torch.testing.assert_close(each_row, torch.stack([jacobian[row, :, row] for row in range(3)]), **close)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@needs_compiler
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    ("name", "limit"),
    [(name, False) for name in NAMES]
    + [pytest.param(name, True, marks=pytest.mark.slow) for name in NAMES if name in DEFAULTS],  # half a minute
)
def test_compiled_in_one_graph_it_is_the_same(name: str, limit: bool) -> None:
    scores, mask = normal(3, 6, seed=24), normal(3, 6, seed=25) > -1.0

    def function(each: Tensor, part: Tensor | None) -> Tensor:
        # A generator is an argument that the compiler refuses: without one, only the sum is known.
        extra = {"generator": None} if name == RANDOM else {} if limit else DEFAULTS.get(name, {})
        return call(name, each, mask=part, temperature=0.7, **extra)

    backend = "inductor" if name in ("softmax", "sparsemax", "entmax15", "entmax") else "aot_eager"
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    leaves = [scores.clone().requires_grad_() for _ in range(2)]
    want, got = function(leaves[0], mask), compiled(leaves[1], mask)
    if name == RANDOM:
        sums_to_one(got.detach())
        assert (got[~mask] == 0).all()
        return
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)
    upstream = normal(3, 6, seed=26)
    slopes = [
        torch.autograd.grad(torch.where(mask, each, 0.0), leaf, upstream)[0]
        for each, leaf in zip((want, got), leaves, strict=True)
    ]
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-12, atol=1e-14)


class Layer(torch.nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, scores: Tensor) -> Tensor:
        extra = {"generator": None} if self.name == RANDOM else {}
        return call(self.name, scores, **extra)


@every_map
def test_it_can_be_exported(name: str) -> None:
    scores = normal(3, 6, seed=27, dtype=SINGLE)
    got = torch.export.export(Layer(name), (scores,)).module()(scores)
    if name == RANDOM:
        sums_to_one(got)
    else:
        torch.testing.assert_close(got, call(name, scores), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [SINGLE, *HALVES], ids=str)
@every_map
def test_autocast_changes_nothing(name: str, dtype: torch.dtype) -> None:
    scores = normal(3, 6, seed=28, dtype=dtype)
    want = call(name, scores)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = call(name, scores)
    assert torch.equal(got, want)
    assert got.dtype == dtype


# What the registry says of it, in both directions


def sample(name: str) -> Tensor:
    return torch.cat([normal(60, 6, seed=31, scale=scale) for scale in (0.3, 2.0, 8.0)])


@every_map
def test_the_properties_are_those_of_the_entry(name: str) -> None:
    scores, facts = sample(name), entry(name)
    weights = call(name, scores)
    off = (weights.sum(-1) - 1).abs().max() > 1e-9 or (weights < 0).any()
    assert bool(off) != facts.simplex
    shifted = call(name, scores + 0.77)
    assert ((shifted - weights).abs().max() < 1e-12) == facts.shift_invariant
    assert bool((weights[:120] == 0).any()) == facts.sparse  # of larger scores, some underflow
    gaps = (scores[:, :, None] - scores[:, None]).sign() * (weights[:, :, None] - weights[:, None])
    assert bool((gaps >= -1e-15).all()) == facts.order_preserving


@every_repeatable_map
def test_permuting_the_scores_permutes_the_weights(name: str) -> None:
    scores, order = sample(name), torch.randperm(6, generator=torch.Generator().manual_seed(32))
    torch.testing.assert_close(call(name, scores[:, order]), call(name, scores)[:, order], rtol=1e-12, atol=1e-14)


@forward_mode
@every_repeatable_map
def test_the_lipschitz_constant_bounds_the_jacobian(name: str) -> None:
    constant = entry(name).lipschitz
    if constant is None or name == "sinkhorn":
        pytest.skip("none is stated of a row alone")
    jacobians = torch.vmap(torch.func.jacrev(usual(name)))(
        torch.cat([sample(name), normal(60, 2, scale=0.1) @ normal(2, 6)])
    )
    assert torch.linalg.matrix_norm(jacobians, 2).max() <= constant * (1 + 1e-9)


NUMBERS = st.one_of(
    st.integers(-3, 3).map(float),  # ties
    st.floats(-3.0, 3.0, allow_subnormal=False),
    st.floats(-1e4, 1e4, allow_subnormal=False),
)
ROWS = st.lists(st.tuples(NUMBERS, st.sampled_from((True, True, True, False))), min_size=1, max_size=12)


@every_repeatable_map
@given(row=ROWS, temperature=st.sampled_from((0.1, 1.0, 3.0)))
@settings(max_examples=50, derandomize=True, deadline=None, database=None)
def test_no_row_is_found_that_differs_from_the_reference(
    name: str, row: list[tuple[float, bool]], temperature: float
) -> None:
    scores = torch.tensor([score for score, _ in row], dtype=DOUBLE)
    mask = torch.tensor([takes for _, takes in row])
    if name == "sinkhorn":
        scores, mask = torch.stack([scores, scores.flip(0)]), torch.stack([mask, mask])
    options: dict[str, Any] = dict(DEFAULTS.get(name, {}))
    if name in ("topk_softmax", "k_subset"):
        options["k"] = min(2, len(row))
    got = call(name, scores, mask=mask, temperature=temperature, **options)
    agree(name, got, exact(name, scores, mask=mask, temperature=temperature, **options), scores, temperature, row)
    if claims(name, "simplex") and bool(mask.any()):
        sums_to_one(got)


# Parameters of their own that may be learned


@pytest.mark.skipif("entmax" not in NAMES, reason="no entmax yet")
@pytest.mark.parametrize("alphas", [(1.2, 1.7), (1.5, 2.0), (1.0, 1.00001)], ids=str)
def test_entmax_has_derivatives_to_one_alpha_per_row(alphas: tuple[float, float]) -> None:
    alpha = torch.tensor(alphas, dtype=DOUBLE)[:, None]
    scores = normal(2, 5, seed=41)
    got = maps.OWN["entmax"](scores, alpha=alpha)
    want = torch.cat([exact("entmax", scores[row : row + 1], alpha=alphas[row]) for row in range(2)])
    agree("entmax", got, want, scores)
    step = 1e-4  # alpha below 1 is no argument, so differences are taken to the right, of second order
    values = [
        torch.cat([exact("entmax", scores[row : row + 1], alpha=alphas[row] + times * step) for row in range(2)])
        for times in (0, 1, 2)
    ]
    slope = (-3 * values[0] + 4 * values[1] - values[2]) / (2 * step)
    upstream = normal(2, 5, seed=42)
    alpha.requires_grad_()
    (gradient,) = torch.autograd.grad(maps.OWN["entmax"](scores, alpha=alpha), alpha, upstream)
    torch.testing.assert_close(gradient, (slope * upstream).sum(-1, keepdim=True), rtol=1e-5, atol=1e-6)


@forward_mode
@pytest.mark.skipif("softmax1" not in NAMES, reason="no softmax1 yet")
def test_softmax1_has_derivatives_to_its_sink() -> None:
    scores, sink = normal(3, 5, seed=43).requires_grad_(), normal(3, 1, seed=44).requires_grad_()
    for each in (sink, sink[0, 0].detach().requires_grad_()):
        assert torch.autograd.gradcheck(
            lambda s, k: maps.OWN["softmax1"](s, sink=k, temperature=0.7), (scores, each), check_forward_ad=True
        )


@pytest.mark.skipif("sinkhorn" not in NAMES, reason="no sinkhorn yet")
@forward_mode
@pytest.mark.parametrize("shape", [(2, 2), (5, 5), (3, 7), (7, 3)], ids=str)
def test_sinkhorn_goes_to_its_limit(shape: tuple[int, int]) -> None:
    for scale in (1e-3, 1.0, 3.0):
        scores = normal(2, *shape, seed=45, scale=scale)
        got = maps.OWN["sinkhorn"](scores)
        torch.testing.assert_close(got, exact("sinkhorn", scores, iterations=1000), rtol=1e-9, atol=1e-12)
        sums_to_one(got)
        torch.testing.assert_close(got.sum(-2), torch.full_like(got[:, 0], shape[0] / shape[1]), rtol=1e-11, atol=0)
    scores = normal(*shape, seed=46).requires_grad_()
    assert torch.autograd.gradcheck(maps.OWN["sinkhorn"], scores, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(maps.OWN["sinkhorn"], scores)


# gumbel_softmax: its law


@pytest.mark.skipif(RANDOM not in NAMES, reason="no gumbel_softmax yet")
@every_dtype
@pytest.mark.parametrize("shape", [(4000, 4), (400, 100)], ids=str)
def test_gumbel_softmax_draws_from_softmax(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    row = normal(shape[1], seed=51).to(dtype)
    scores = row.expand(shape)
    soft = call(RANDOM, scores, temperature=0.5)
    sums_to_one(soft)
    assert torch.equal(soft, call(RANDOM, scores, temperature=0.5)), "the generator decides"
    assert not torch.equal(soft, call(RANDOM, scores, temperature=0.5, generator=torch.Generator().manual_seed(6)))
    hard = call(RANDOM, scores, temperature=0.5, hard=True)
    assert ((hard == 0) | (hard == 1)).all()
    assert (hard.sum(-1) == 1).all()
    # The number of times that each is chosen, within 5 standard deviations of that of the multinomial law.
    chances = torch.softmax(row.double(), -1)
    spread = (shape[0] * chances * (1 - chances)).sqrt()
    assert ((hard.double().sum(0) - shape[0] * chances).abs() <= 5 * spread + 1).all()


@pytest.mark.skipif(RANDOM not in NAMES, reason="no gumbel_softmax yet")
def test_a_hard_gumbel_softmax_has_the_gradient_of_the_soft_one() -> None:
    scores, upstream = normal(50, 8, seed=52), normal(50, 8, seed=53)
    slopes = []
    for hard in (False, True):
        leaf = scores.clone().requires_grad_()
        slopes.append(torch.autograd.grad(call(RANDOM, leaf, hard=hard), leaf, upstream)[0])
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-12, atol=1e-14)
    drawn = torch.vmap(maps.OWN[RANDOM], randomness="different")(scores)
    sums_to_one(drawn)

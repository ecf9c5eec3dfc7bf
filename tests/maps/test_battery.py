"""One battery for every map of `softplace.maps.OWN`, against the float64 loops of `_reference.py`."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from softplace import maps
from softplace.maps._reference import REFERENCE
from softplace.maps.registry import entry
from tests.maps.battery import (
    BAD_ROWS,
    DEFAULTS,
    DOUBLE,
    HALVES,
    INF,
    NAMES,
    NAN,
    RANDOM,
    SINGLE,
    SIZES,
    agree,
    alpha_of,
    call,
    claims,
    every_case,
    every_dtype,
    every_map,
    every_repeatable_map,
    exact,
    forward_mode,
    normal,
    sums_to_one,
    usual,
)


def test_every_map_has_a_reference() -> None:
    assert set(NAMES) <= set(REFERENCE)


@pytest.mark.parametrize("alpha", [1 + 1e-6, 1.5, 2, 50, 1e4])
def test_the_reference_of_entmax_by_hand(alpha: float) -> None:
    assert REFERENCE["entmax"]([0.3] * 4, alpha=alpha) == pytest.approx([0.25] * 4, rel=1e-13)
    # Of two scores, their difference follows from the weights; of a large alpha it is too near to 0 to tell them apart.
    for q in (0.5, 0.45) if alpha <= 50 else (0.5,):
        gap = ((1 - q) ** (alpha - 1) - q ** (alpha - 1)) / (alpha - 1)
        assert REFERENCE["entmax"]([0.0, -gap], alpha=alpha) == pytest.approx([1 - q, q], rel=1e-6)


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
LARGE = ((40, 1000), (2003, 10), (133, 64), (133, 65), (3, 30001), (3001, 2))


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
def test_softmax1_has_derivatives_to_its_sink() -> None:
    scores, sink = normal(3, 5, seed=43).requires_grad_(), normal(3, 1, seed=44).requires_grad_()
    for each in (sink, sink[0, 0].detach().requires_grad_()):
        assert torch.autograd.gradcheck(
            lambda s, k: maps.OWN["softmax1"](s, sink=k, temperature=0.7), (scores, each), check_forward_ad=True
        )


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


def test_a_hard_gumbel_softmax_has_the_gradient_of_the_soft_one() -> None:
    scores, upstream = normal(50, 8, seed=52), normal(50, 8, seed=53)
    slopes = []
    for hard in (False, True):
        leaf = scores.clone().requires_grad_()
        slopes.append(torch.autograd.grad(call(RANDOM, leaf, hard=hard), leaf, upstream)[0])
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-12, atol=1e-14)
    drawn = torch.vmap(maps.OWN[RANDOM], randomness="different")(scores)
    sums_to_one(drawn)

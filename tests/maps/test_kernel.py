"""The compiled kernel: that it runs at all, agrees with the plain paths, and does without a compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from softplace import maps
from softplace.maps import _kernel, _operators, _search
from softplace.maps.activations import _solu
from softplace.maps.simplex import _log_softmax, _softmax, _softmax1
from softplace.maps.sparse import _entmax, _entmax15, _sparsemax

pytestmark = pytest.mark.skipif(_kernel.library() is None, reason="there is no C++ compiler here")

PLAIN = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "softmax1": _softmax1,
    "solu": _solu,
    "sparsemax": _sparsemax,
    "entmax15": _entmax15,
    "entmax": _entmax,
}


def extra_of(name: str, rows: int) -> torch.Tensor | None:
    if name == "softmax1":
        return torch.linspace(-1, 1, rows)[:, None]
    return torch.linspace(1, 2, rows)[:, None] if name == "entmax" else None


def bad_scores(rows: int, size: int, scale: float) -> torch.Tensor:
    scores = torch.randn(rows, size, generator=torch.Generator().manual_seed(size)) * scale
    scores[0, 0] = torch.inf
    scores[1] = -torch.inf
    scores[2, size // 2] = torch.nan
    scores[3, size // 3] = -torch.inf
    return scores


def compared(actual: torch.Tensor, expected: torch.Tensor, tolerance: float, relative: float = 0.0) -> None:
    torch.testing.assert_close(actual.double(), expected.double(), rtol=relative, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 25, 48, 63, 64, 65, 100, 129, 1000])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 30.0])
def test_the_kernel_agrees_with_the_plain_path_in_float64(name: str, size: int, scale: float) -> None:
    """Values and gradients, a row of +inf, one of -inf, one with NaN, a number of rows that fills no vector."""
    scores = bad_scores(37, size, scale)
    extra = extra_of(name, 37)
    weights = torch.randn(37, size, generator=torch.Generator().manual_seed(1))
    one, two = scores.clone().requires_grad_(), scores.double().requires_grad_()
    first = [one] if extra is None else [one, extra.clone().requires_grad_()]
    second = [two] if extra is None else [two, extra.double().requires_grad_()]
    actual = _kernel._apply(name, one, -1, 1.5, *(first[1:] or [None]), key=0, out=None)
    expected = PLAIN[name](two, -1, 1.5, *second[1:])
    relative = 1e-6 if name in ("log_softmax", "solu") else 0.0
    compared(actual.detach(), expected.detach(), 3e-7, relative)
    ours = torch.autograd.grad(actual, first, weights)
    theirs = torch.autograd.grad(expected, second, weights.double())
    # Near alpha = 2 the slope p^(2 - alpha) of a p close to 0 magnifies rounding: the first half has alpha <= 1.5.
    half = 19 if name == "entmax" else 37
    tolerance = 2e-6 * (scale if name == "solu" and scale > 1 else 1.0)
    compared(ours[0][:half], theirs[0][:half], tolerance, 1e-5)
    compared(ours[0], theirs[0], 2e-2 if name == "entmax" else tolerance, 1e-5)
    if extra is not None:
        compared(ours[1][4:half], theirs[1][4:half], 5e-6, 1e-5)


@pytest.mark.parametrize("name", PLAIN)
def test_second_derivatives_of_the_kernel(name: str) -> None:
    scores = torch.randn(40, 20, generator=torch.Generator().manual_seed(0))
    found = []
    for dtype in (torch.float32, torch.float64):
        inputs = [scores.to(dtype).requires_grad_()]
        if (extra := extra_of(name, 40)) is not None:
            inputs.append((extra * 0.9 + 0.15).to(dtype).requires_grad_())
        option = {} if extra is None else {"alpha" if name == "entmax" else "sink": inputs[1]}
        result = getattr(maps, name)(inputs[0], temperature=1.3, **option)
        first = torch.autograd.grad(result.square().sum(), inputs, create_graph=True)
        total = torch.stack([each.square().sum() for each in first]).sum()
        found.append([*first, *torch.autograd.grad(total, inputs)])
    for ours, theirs in zip(*found, strict=True):
        compared(ours.detach(), theirs.detach(), 2e-5, 1e-4)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of PyTorch's forward mode
def test_the_kernel_is_used_and_left() -> None:
    scores = torch.randn(64, 10)
    assert _kernel.fits("sparsemax", scores, -1)
    assert not _kernel.fits("sparsemax", scores.double(), -1)
    assert not _kernel.fits("softmax", scores[:1], -1)
    assert _kernel.fits("sparsemax", scores[:1], -1)
    assert not _kernel.fits("softmax", scores, 0)
    seen = []
    torch.func.vmap(lambda row: seen.append(_kernel.fits("sparsemax", row.expand(50, 10), -1)) or row)(scores)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(scores, scores)
        seen.append(_kernel.fits("sparsemax", dual, -1))
    assert seen == [False, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3000, 20), (30, 2000)])
def test_the_result_does_not_depend_on_the_number_of_threads(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            sample = maps.gumbel_softmax(scores, generator=torch.Generator().manual_seed(3))
            found.append(torch.stack([maps.sparsemax(scores), maps.entmax15(scores), maps.softmax(scores), sample]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def threefry(counter: tuple[int, int], key: int) -> tuple[int, int]:
    """Threefry-2x32-20 of Salmon et al. 2011, in plain Python."""
    word = 0xFFFFFFFF
    keys = [key & word, key >> 32]
    keys.append(keys[0] ^ keys[1] ^ 0x1BD11BDA)
    a, b = (counter[0] + keys[0]) & word, (counter[1] + keys[1]) & word
    for turn in range(20):
        bits = (13, 15, 26, 6, 17, 29, 16, 24)[turn % 8]
        a = (a + b) & word
        b = ((b << bits | b >> (32 - bits)) & word) ^ a
        if turn % 4 == 3:
            step = turn // 4 + 1
            a, b = (a + keys[step % 3]) & word, (b + keys[(step + 1) % 3] + step) & word
    return a, b


def test_threefry_has_its_known_answer() -> None:
    """The first vector of the authors' known answers (Random123, kat_vectors)."""
    assert threefry((0, 0), 0) == (0x6B200159, 0x99BA4EFE)


@pytest.mark.parametrize("size", [1, 6, 7, 24, 25, 40, 100])
def test_gumbel_noise_is_that_of_threefry(size: int) -> None:
    rows, key = 40, 0x123456789ABCDEF
    found = _kernel._apply("gumbel_softmax", torch.zeros(rows, size), -1, 1.0, None, key, None)
    half = (size + 1) // 2 if size <= 24 else (size + 31) // 32 * 16
    words = torch.tensor([[threefry((row, column), key) for column in range(half)] for row in range(rows)])
    words = words.movedim(-1, -2).reshape(rows, 2 * half)[:, :size].double()
    uniform = ((words + 0.5) * 2.0**-32).clamp(max=0.99999994)
    compared(found, torch.softmax(-torch.log(-torch.log1p(-uniform)), -1), 1e-6)


def test_gumbel_noise_is_gumbel_distributed() -> None:
    """log p_i - log p_j of one draw at temperature 1 is logistic; and the argmax is a sample of softmax."""
    draws = maps.gumbel_softmax(torch.zeros(200_000, 2), generator=torch.Generator().manual_seed(0)).double()
    difference = draws[:, 0].log() - draws[:, 1].log()
    assert stats.kstest(difference.numpy(), "logistic").pvalue > 1e-3
    scores = torch.tensor([1.0, 0.0, -1.0, 2.0, 0.5]).repeat(100_000, 1)
    hard = maps.gumbel_softmax(scores, hard=True, temperature=0.5, generator=torch.Generator().manual_seed(1))
    expected = torch.softmax(scores[0].double(), 0) * len(scores)
    assert stats.chisquare(hard.double().sum(0).numpy(), expected.numpy()).pvalue > 1e-3
    long = maps.gumbel_softmax(torch.zeros(300, 3000), generator=torch.Generator().manual_seed(2))
    places = long.argmax(-1).double() / 3000
    assert stats.kstest(places.numpy(), "uniform").pvalue > 1e-3


def test_out_takes_the_result() -> None:
    for name in ("softmax", "log_softmax", "softmax1", "sparsemax", "entmax15", "entmax"):
        function = getattr(maps, name)
        for scores in (torch.randn(50, 20), torch.randn(20, 50).T, torch.randn(50, 20).double(), torch.randn(2, 2)):
            for dim in (0, 1):
                out = torch.empty_like(scores)
                assert function(scores, dim, out=out) is out
                assert torch.equal(out, function(scores, dim))
    scores = torch.randn(50, 20)
    expected = maps.sparsemax(scores)
    maps.sparsemax(scores, out=scores)
    assert torch.equal(scores, expected)


def test_out_is_checked() -> None:
    scores = torch.randn(50, 20)
    with pytest.raises(ValueError, match=r"'out' of sparsemax must be like the scores: \(50, 20\), torch.float32"):
        maps.sparsemax(scores, out=torch.empty(50, 21))
    with pytest.raises(ValueError, match="must not be given where gradients are recorded"):
        maps.softmax(scores.requires_grad_(), out=torch.empty(50, 20))
    with torch.no_grad():
        maps.softmax(scores, out=torch.empty(50, 20))


def test_memory_that_is_not_plain() -> None:
    scores = torch.randn(64, 21, dtype=torch.complex64).imag  # lazily negated after conj
    for view in (
        scores,
        torch.randn(64, 21, dtype=torch.complex64).conj().imag,
        torch.randn(65 * 21)[1:1345].view(64, 21),
    ):
        compared(maps.entmax15(view), maps.entmax15(view.double()), 3e-7)
    assert maps.sparsemax(torch.randn(1, 21).expand(64, 21)).shape == (64, 21)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


PRINT = (
    "import torch; from softplace import maps; print(maps.sparsemax(torch.eye(8)).sum().item()); "
    "maps.softmax(torch.eye(8))"
)


@pytest.fixture
def copier(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A compiler for CXX that gives the kernel of this process, compiled already: a real one takes 15 s."""
    loaded = _kernel.library()
    assert loaded is not None
    script = tmp_path_factory.mktemp("compiler") / "copier"
    script.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\nexec cp {loaded._name} "$2"\n')
    script.chmod(0o755)
    return str(script)


def test_without_a_compiler_one_notice_and_the_plain_path(tmp_path: Path) -> None:
    done = run(PRINT, SOFTPLACE_CACHE=str(tmp_path / "none"), PATH=str(tmp_path), CXX="")
    assert done.stdout == "8.0\n", done.stderr
    assert done.stderr.count("no C++ compiler (g++ or clang++) was found") == 1
    assert run(PRINT, SOFTPLACE_KERNEL="0", PATH=str(tmp_path)).stderr == ""


def test_a_compiler_that_fails_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho cannot go on >&2\nexit 1\n")
    broken.chmod(0o755)
    done = run(PRINT, SOFTPLACE_CACHE=str(tmp_path / "cache"), CXX=str(broken))
    assert done.stdout == "8.0\n"
    assert "cannot go on" in done.stderr
    assert "CXX names 'nowhere', which was not found" in run(PRINT, CXX="nowhere -O2").stderr
    empty = run(PRINT, SOFTPLACE_CACHE=str(tmp_path / "cache"), CXX="true")
    assert "file too short" in empty.stderr
    assert empty.stdout == "8.0\n"
    assert list((tmp_path / "cache").iterdir()) == []  # no half a library is left


def test_the_kernel_is_compiled_once_for_all_processes(copier: str, tmp_path: Path) -> None:
    code = (
        "import torch; from softplace import maps; from softplace import _compiler; real = _compiler._compile\n"
        "def told(*arguments): print('compiles'); return real(*arguments)\n"
        "_compiler._compile = told\n"
    ) + PRINT
    assert run(code, SOFTPLACE_CACHE=str(tmp_path), CXX=copier).stdout == "compiles\n8.0\n"
    assert run(code, SOFTPLACE_CACHE=str(tmp_path), CXX=copier).stdout == "8.0\n"
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".sha256", ".so"]
    (library,) = tmp_path.glob("*.so")
    library.write_bytes(library.read_bytes()[:5000])  # loading half a library ends the process
    assert run(code, SOFTPLACE_CACHE=str(tmp_path), CXX=copier).stdout == "compiles\n8.0\n"


@pytest.mark.slow
def test_two_to_the_31_entries() -> None:
    scores = torch.zeros(2**21 + 1, 1024, dtype=torch.bfloat16)
    scores[-1, 5] = 1.0
    weights = maps.sparsemax(scores)
    assert weights[-1, 5].item() == 1.0
    assert weights[0, 0].item() == 2**-10


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["sparsemax", "entmax15", "entmax"])
def test_operators_keep_the_rules_of_pytorch(name: str, dtype: torch.dtype) -> None:
    """Strides, aliases, shapes and gradients are as promised to the compiler, of transposed scores too."""
    generator = torch.Generator().manual_seed(0)
    for scores in (
        torch.randn(3, 16, 24, dtype=torch.float64, generator=generator),
        torch.randn(3, 24, 16, dtype=torch.float64, generator=generator).mT,
        torch.randn(3, 1, 1, dtype=torch.float64, generator=generator),
    ):
        each = scores.to(dtype, copy=True).requires_grad_()
        alpha = torch.full(
            (3, scores.shape[1], 1), 1.3, dtype=torch.float64 if dtype == torch.float64 else torch.float32
        )
        extra = alpha if name == "entmax" else None
        torch.library.opcheck(_operators._weigh, (name, each, 1.5, extra))
        if dtype != torch.bfloat16:
            torch.library.opcheck(_search._searched, (name, each.detach(), -1, extra))
        weights, infinite = _operators._weigh(name, each.detach(), 1.5, extra)
        torch.library.opcheck(_operators._pull, (name, weights, scores.to(dtype), 1.5, extra, infinite))


def test_a_folder_that_cannot_be_written(copier: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(PRINT, SOFTPLACE_CACHE=str(tmp_path / "file"), TMPDIR=str(tmp_path), CXX=copier)
    assert done.stdout == "8.0\n"
    assert done.stderr.count("its cache folder cannot be written") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.07])
@pytest.mark.parametrize("name", PLAIN)
def test_long_rows_of_equal_scores_far_from_0(name: str, temperature: float, dtype: torch.dtype) -> None:
    """Where a threshold is added to a large maximum, rounding takes the weights."""
    for size, score in ((300, 131072.0), (100, 5000.0), (3000, 1000.0), (50257, 20.0), (64, -1e30)):
        scores = torch.full((1, size), score, dtype=dtype)
        options = (
            {"alpha": torch.tensor(1.75)}
            if name == "entmax"
            else {"sink": scores[0, 0].item()}
            if name == "softmax1"
            else {}
        )
        weights = getattr(maps, name)(scores, temperature=temperature, **options).double()
        expected = torch.tensor(1 / (size + (name == "softmax1")), dtype=torch.float64)
        if name == "log_softmax":
            expected = expected.log()
        if name == "solu":
            expected = expected * (score / temperature)
        torch.testing.assert_close(weights[0, 0], expected, rtol=torch.finfo(dtype).eps * 8, atol=0)


@pytest.mark.parametrize("alpha", [2.5, 3.0, 5.0, 10.0, 50.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_entmax_sums_to_one_however_large_alpha(alpha: float, dtype: torch.dtype) -> None:
    for scores in (torch.zeros(3, 4000), torch.zeros(40, 7), torch.randn(50, 64), 0.1 * torch.randn(64, 50)):
        weights = maps.entmax(scores.to(dtype), alpha=alpha)
        one_by_one = torch.func.vmap(lambda row: maps.entmax(row, alpha=alpha))(scores.to(dtype))
        for each in (weights, one_by_one):
            torch.testing.assert_close(each.sum(-1), torch.ones(len(scores), dtype=dtype), rtol=0, atol=2e-6)
        if not scores.any():
            assert torch.equal(weights, torch.full_like(weights, weights[0, 0].item()))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_whoever_looks_on_gets_the_plain_path() -> None:
    """Autograd's own vmap, and a tangent of alpha or of the sink alone."""
    scores = torch.randn(12, 6)
    jacobian = torch.autograd.functional.jacobian(maps.sparsemax, scores, vectorize=True)
    torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(maps.sparsemax, scores))
    for name, option in (("entmax", "alpha"), ("softmax1", "sink")):
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(torch.tensor(1.3), torch.tensor(1.0))
            result = getattr(maps, name)(scores, **{option: dual})
            tangent = torch.autograd.forward_ad.unpack_dual(result).tangent
        free = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
        total = getattr(maps, name)(scores.double(), **{option: free})
        upstream = torch.randn(12, 6, dtype=torch.float64)
        (expected,) = torch.autograd.grad(total, free, upstream)
        torch.testing.assert_close((tangent.double() * upstream).sum(), expected, rtol=1e-4, atol=1e-5)


def test_out_is_seen_by_autograd_and_may_overlap() -> None:
    factor, out = torch.ones(8, 8, requires_grad=True), torch.ones(8, 8)
    loss = (factor * out).sum()
    maps.sparsemax(torch.randn(8, 8), out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    both = torch.randn(9, 8)
    expected = maps.sparsemax(both[:8])
    maps.sparsemax(both[:8], out=both[1:])
    assert torch.equal(both[1:], expected)


def test_solu_of_large_scores() -> None:
    scores = torch.zeros(2, 40)
    scores[0, 0] = 1e8
    scores.requires_grad_()
    (gradient,) = torch.autograd.grad(maps.solu(scores)[0, 0], scores)
    assert gradient[0, 0].item() == 1.0


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(
    name=st.sampled_from(sorted(PLAIN)),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    size=st.integers(1, 200),
    scale=st.sampled_from([1e-3, 0.1, 1.0, 10.0, 1e3]),
    offset=st.sampled_from([0.0, -3.0, 1e3, -1e5, 1e8]),
    temperature=st.sampled_from([0.05, 0.7, 1.0, 20.0]),
    seed=st.integers(0, 10_000),
)
def test_no_scores_are_found_that_differ_from_float64(
    name: str, dtype: torch.dtype, size: int, scale: float, offset: float, temperature: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = (offset + scale * torch.randn(32 // size + 3, size, generator=generator)).to(dtype)
    if seed % 3 == 0:
        scores[0, seed % size] = (torch.inf, -torch.inf, torch.nan)[seed % 9 // 3]
    number = torch.tensor(1.0 + seed % 100 / 100 if name == "entmax" else float(scores[1, 0]))
    extra = () if extra_of(name, 1) is None else (number,)
    actual = _kernel._apply(name, scores, -1, temperature, *(extra or (None,)), key=0, out=None)
    expected = PLAIN[name](scores.double(), -1, temperature, *(each.double() for each in extra))
    rounding = torch.finfo(dtype).eps
    # A logarithm and a difference of scores are rounded before the exponential.
    logarithm = expected.clamp(min=1e-30).log().abs().nan_to_num(0.0, 0.0, 0.0)
    bound = 8 * rounding * (expected.abs() + 1e-3) if dtype == torch.bfloat16 else 4e-7 * (1 + logarithm)
    if name in ("log_softmax", "solu"):
        bound = 8 * rounding * (1 + expected.abs())
    fine = (actual.double() == expected) | (actual.isnan() & expected.isnan()) | ((actual - expected).abs() <= bound)
    assert bool(fine.all()), (actual[~fine], expected[~fine])

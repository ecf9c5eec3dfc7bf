"""The catalogue: what it says of every map is tried on random scores, and the pages made from it are up to date."""

import math
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from torch import Tensor

from softplace import maps
from softplace.errors import InputError
from softplace.maps import _catalogue, _pages, registry
from softplace.maps._catalogue import ENTRIES, Entry
from softplace.maps.registry import entry

# Forward mode loads decompositions that PyTorch itself still scripts.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

NAMES = [each.name for each in ENTRIES]
by_name = pytest.mark.parametrize("each", ENTRIES, ids=NAMES)


def apply(each: Entry, scores: Tensor) -> Tensor:
    """Along the last axis; the noise of a random map is the same at every call of the same shape."""
    if each.name == "gumbel_softmax":
        return maps.gumbel_softmax(scores, generator=torch.Generator().manual_seed(5))
    return each.function(scores, -1)


def samples() -> list[Tensor]:
    """Square, for `sinkhorn`; of all sizes and scales, some around 0, some all negative, some with many ties."""
    torch.manual_seed(0)
    found = []
    for size in (2, 3, 5, 16):
        for scale in (1e-3, 0.1, 1.0, 3.0, 10.0):
            noise = scale * torch.randn(8, size, size, dtype=torch.float64)
            found += [noise, noise - 3 * scale, noise.round()]
    return found


@by_name
def test_simplex(each: Entry) -> None:
    worst = 0.0
    for scores in samples():
        weights = apply(each, scores)
        worst = max(worst, (weights.sum(-1) - 1).abs().max().item(), -weights.min().item())
    assert (worst < 1e-9) == each.simplex


@by_name
def test_sparse(each: Entry) -> None:
    """An open set: at scores around it the zeros stay. Scores of at most 3, so that nothing underflows."""
    torch.manual_seed(0)
    scores = (3 * torch.randn(200, 5, 5, dtype=torch.float64)).clamp(-3, 3)
    zero = apply(each, scores) == 0
    for _ in range(5):
        zero &= apply(each, scores + 1e-6 * torch.randn_like(scores)) == 0
    assert bool(zero.any()) == each.sparse


@by_name
def test_shift_invariant(each: Entry) -> None:
    worst = 0.0
    for scores in samples():
        shift = torch.randn(*scores.shape[:-1], 1, dtype=scores.dtype)
        worst = max(worst, (apply(each, scores + shift) - apply(each, scores)).abs().max().item())
    assert (worst < 1e-6) == each.shift_invariant


@by_name
def test_order_preserving(each: Entry) -> None:
    worst = 0.0
    for scores in samples():
        weights = apply(each, scores)
        above = scores[..., :, None] > scores[..., None, :]
        fall = (weights[..., None, :] - weights[..., :, None])[above]
        worst = max(worst, fall.max().item() if fall.numel() else 0.0)
    assert (worst < 1e-9) == each.order_preserving


def rise(function: Callable[[Tensor], Tensor], scores: Tensor, steps: int = 12) -> float:
    """The largest singular value of the Jacobian, from below: power iteration, one Jacobian product at a time."""
    torch.manual_seed(0)
    direction = torch.randn_like(scores)
    largest = 0.0
    for _ in range(steps):
        scores = scores.detach().requires_grad_()
        _, image = torch.func.jvp(function, (scores,), (direction / direction.norm(),))
        before, largest = largest, max(largest, image.norm().item())
        (direction,) = torch.autograd.grad(function(scores), scores, image)
        if direction.norm() == 0 or largest - before < 1e-4 * largest:
            break
    return largest


@by_name
def test_no_jacobian_is_larger_than_the_lipschitz_constant(each: Entry) -> None:
    if each.lipschitz is None:
        pytest.skip("there is none: see the next test")
    whole = each.name == "sinkhorn"  # a map of matrices
    for scores in samples():
        for row in scores[:2]:
            row = row if whole else row[0]
            jacobian = torch.func.jacrev(lambda s: apply(each, s))(row).reshape(row.numel(), row.numel())
            assert torch.linalg.matrix_norm(jacobian, 2) <= each.lipschitz * (1 + 1e-6) + 1e-12


def spread(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def peak(count: int) -> Tensor:
    """Of `entmax15`: weights as |v|^(4 / 3) for v = (count, -1, -1, ...), the direction that they let rise the most."""
    weights = torch.ones(count + 1, dtype=torch.float64)
    weights[0] = count ** (4 / 3)
    return 2 * (weights / weights.sum()).sqrt()


REACHED = {
    "softmax": spread(0, 0),
    "softmax1": spread(20, 20),
    "gumbel_softmax": torch.zeros(2, dtype=torch.float64),  # see below: less its own noise
    "sparsemax": spread(0, 0.1, 0.2),
    "entmax15": peak(200_000),
    "entmax": peak(200_000),
    "uniform": spread(1, 2),
    "k_subset": spread(0, 0.1, 0.2),
    "sinkhorn": torch.zeros(2, 2, dtype=torch.float64),
    "sigsoftmax": spread(-20, -20),
    "sigmoid_normalised": spread(-20, -20),
    "taylor_softmax": spread(0, 0),
    "relu_normalised": spread(1),
    "identity": spread(0, 1),
    "sigmoid": spread(0, 1),
    "tanh": spread(0, 1),
    "relu": spread(0, 1),
    "gelu": spread(0, math.sqrt(2)),
}


@by_name
def test_the_lipschitz_constant_is_reached(each: Entry) -> None:
    if each.lipschitz is None:
        assert each.name not in REACHED
        return
    scores = REACHED[each.name]
    if each.name == "gumbel_softmax":  # the scores that undo the noise
        scores = scores - apply(each, scores).log()
    assert rise(lambda s: apply(each, s), scores) == pytest.approx(each.lipschitz, rel=0.03, abs=1e-12)


def near_corner(size: int) -> Tensor:
    """Of `normmax`: p / ||p|| for a point p of the simplex beside a corner gives p."""
    point = torch.full((size,), 1e-4 / size, dtype=torch.float64)
    point[0] = 1 - point[1:].sum()
    return point / point.norm()


GROWS = {
    "log_softmax": lambda size: torch.nn.functional.pad(spread(30), (0, size - 1)),
    "normmax": near_corner,
    "softpick": lambda size: spread(1 / size, -1 / size),
    "periodic": lambda size: spread(1 / size, 2 / size) - math.pi / 4,
    "solu": lambda size: spread(size, size),
}


@pytest.mark.parametrize("name", GROWS)
def test_where_there_is_no_lipschitz_constant_the_jacobian_grows(name: str) -> None:
    each = entry(name)
    assert each.lipschitz is None
    norms = [rise(lambda s: apply(each, s), GROWS[name](size)) for size in (10, 40, 160)]
    assert norms[1] > 1.8 * norms[0]
    assert norms[2] > 1.8 * norms[1]


@pytest.mark.parametrize(
    ("name", "low", "high"), [("hardmax", [0, 1e-9], [1e-9, 0]), ("topk_softmax", [0, 1e-9, 1], [1e-9, 0, 1])]
)
def test_where_a_map_jumps_there_is_no_lipschitz_constant(name: str, low: list[float], high: list[float]) -> None:
    each = entry(name)
    assert each.lipschitz is None
    assert (apply(each, spread(*low)) - apply(each, spread(*high))).norm() > 0.3


def test_every_constant_is_tried() -> None:
    assert {*REACHED, *GROWS, "hardmax", "topk_softmax"} == set(NAMES)


def diagonal_less(u: Tensor) -> Tensor:
    return torch.diag(u) - torch.outer(u, u) / u.sum().clamp(min=1e-300)


def softmax_jacobian(s: Tensor, p: Tensor) -> Tensor:
    return torch.diag(p) - torch.outer(p, p)


def normmax_jacobian(s: Tensor, p: Tensor) -> Tensor:
    inside = (p > 0).double()
    one, identity = torch.outer(inside, p), torch.diag(inside)
    return p.norm() * (identity - one - one.T + inside.sum() * torch.outer(p, p))


def softpick_jacobian(s: Tensor, p: Tensor) -> Tensor:
    return (torch.diag(s.exp() * (s > 0)) - torch.outer(p, s.sign() * s.exp())) / (s.exp() - 1).abs().sum()


def sinkhorn_jacobian(s: Tensor, p: Tensor) -> Tensor:
    rows, columns = s.shape
    sums = [torch.eye(rows).repeat_interleave(columns, 1), torch.eye(columns).repeat(1, rows)]
    a, d = torch.cat(sums).double(), torch.diag(p.flatten())
    return d - d @ a.T @ torch.linalg.pinv(a @ d @ a.T) @ a @ d


def taylor_jacobian(s: Tensor, p: Tensor) -> Tensor:
    return softmax_jacobian(s, p) * ((1 + s) / (1 + s + s * s / 2))


def periodic_jacobian(s: Tensor, p: Tensor) -> Tensor:
    slope = torch.cos(2 * s)
    return (torch.diag(slope) - torch.outer(p, slope)) / torch.sin(s + math.pi / 4).square().sum()


def solu_jacobian(s: Tensor, p: Tensor) -> Tensor:
    weights = torch.softmax(s, -1)
    return torch.diag(weights) + s[:, None] * softmax_jacobian(s, weights)


JACOBIANS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "softmax": softmax_jacobian,
    "log_softmax": lambda s, p: torch.eye(len(s)) - torch.softmax(s, -1),
    "softmax1": softmax_jacobian,
    "gumbel_softmax": softmax_jacobian,
    "sparsemax": lambda s, p: diagonal_less((p > 0).double()),
    "entmax15": lambda s, p: diagonal_less(p.sqrt()),
    "entmax": lambda s, p: diagonal_less(p.sqrt()),
    "normmax": normmax_jacobian,
    "topk_softmax": softmax_jacobian,
    "hardmax": lambda s, p: torch.zeros(len(s), len(s)),
    "uniform": lambda s, p: torch.zeros(len(s), len(s)),
    "k_subset": lambda s, p: diagonal_less(((p > 0) & (p < 1)).double()),
    "sinkhorn": sinkhorn_jacobian,
    "sigsoftmax": lambda s, p: softmax_jacobian(s, p) * (2 - torch.sigmoid(s)),
    "sigmoid_normalised": lambda s, p: softmax_jacobian(s, p) * (1 - torch.sigmoid(s)),
    "taylor_softmax": taylor_jacobian,
    "softpick": softpick_jacobian,
    "periodic": periodic_jacobian,
    "relu_normalised": lambda s, p: torch.diag((s > 0) / len(s)),
    "identity": lambda s, p: torch.eye(len(s)),
    "sigmoid": lambda s, p: torch.diag(p * (1 - p)),
    "tanh": lambda s, p: torch.diag(1 - p * p),
    "relu": lambda s, p: torch.diag((s > 0).double()),
    "gelu": lambda s, p: torch.diag(torch.special.ndtr(s) + s * (-s * s / 2).exp() / math.sqrt(2 * math.pi)),
    "solu": solu_jacobian,
}


@by_name
def test_the_gradient_is_as_its_formula_says(each: Entry) -> None:
    torch.manual_seed(1)
    for _ in range(10):
        scores = torch.randn(6, dtype=torch.float64) if each.name != "sinkhorn" else torch.randn(3, 3).double()
        jacobian = torch.func.jacrev(lambda s: apply(each, s))(scores).reshape(scores.numel(), scores.numel())
        expected = JACOBIANS[each.name](scores, apply(each, scores)).double()
        torch.testing.assert_close(jacobian, expected, rtol=1e-7, atol=1e-9)


def test_names_get_and_entry_agree() -> None:
    assert maps.names()[: len(NAMES)] == tuple(NAMES)
    for name in NAMES:
        assert maps.get(name) is entry(name).function is getattr(maps, name)


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(InputError, match=r"Unknown map 'sparsmax'\. Did you mean 'sparsemax'\? Known: softmax, "):
        entry("sparsmax")
    with pytest.raises(InputError, match=r"Unknown map 'sparsmax'\. Did you mean 'sparsemax'\?"):
        maps.get("sparsmax")


def test_a_map_of_another_package_has_no_entry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint("cube", "other_maps:cube", group)])
    with pytest.raises(InputError, match=r"Map 'cube' must be one of softplace itself\. Got one of another package"):
        entry("cube")
    _pages.show(None, as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == "Of other packages: cube"


def test_every_text_is_there_and_plain() -> None:
    for each in ENTRIES:
        for name in ("formula", "image", "gradient", "constant", "reference"):
            text = getattr(each, name)
            assert text
            assert text.isascii()
            assert text == text.strip(" .")
        assert each.facts().keys() >= {"name", "module", *_catalogue.PROPERTIES, "lipschitz"}


def test_the_page_in_docs_is_the_one_that_the_catalogue_makes() -> None:
    page = Path(__file__).parents[2] / "docs" / "maps.md"
    said = "run: python -m softplace.maps._pages > docs/maps.md"
    assert page.read_text(encoding="utf-8") == _pages.page(), said

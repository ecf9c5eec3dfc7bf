"""Precedence, links and directions: loops over the paper's equations, closed forms, and invariants in long runs."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from softplace.memory.links import (
    SparseLinks,
    directional,
    link,
    no_sparse_links,
    precedence,
    sharpen_direction,
    sparse_directional,
    sparse_link,
)

DTYPES = [torch.float32, torch.float64]
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-13}


def random_writes(*shape: int, dtype: torch.dtype = torch.float64, scale: float = 3.0) -> Tensor:
    """Weights with a sum between 0 and 1."""
    return torch.rand(*shape[:-1], 1, dtype=dtype) * torch.softmax(scale * torch.randn(*shape, dtype=dtype), -1)


def one_hot(slots: int, *writes: int) -> list[Tensor]:
    return list(torch.eye(slots, dtype=torch.float64)[list(writes)].unsqueeze(1))


def after(writes: list[Tensor], slots: int) -> tuple[Tensor, Tensor]:
    """Links (1, N, N) and precedence (1, N) after writes (1, N)."""
    links, order = torch.zeros(1, slots, slots, dtype=torch.float64), torch.zeros(1, slots, dtype=torch.float64)
    for write in writes:
        links, order = link(links, order, write), precedence(order, write)
    return links, order


def sparse_after(writes: list[Tensor], entries: int) -> tuple[SparseLinks, Tensor]:
    order = torch.zeros_like(writes[0])
    links = no_sparse_links(order, entries)
    for write in writes:
        links, order = sparse_link(links, order, write), precedence(order, write)
    return links, order


# Dense


def test_link_and_directions_are_those_of_the_loop() -> None:
    torch.manual_seed(0)
    slots = 5
    links, order, write = torch.rand(slots, slots), random_writes(slots), random_writes(slots)
    links, reads = links.double(), random_writes(2, slots)
    expected = torch.zeros(slots, slots, dtype=torch.float64)
    for i in range(slots):
        for j in range(slots):
            if i != j:
                expected[i, j] = (1 - write[i] - write[j]) * links[i, j] + write[i] * order[j]
    found = link(links[None], order[None], write[None])
    torch.testing.assert_close(found[0], expected, rtol=1e-14, atol=1e-15)
    steps = directional(found, reads)
    for head in range(2):
        for i in range(slots):
            forward = sum(expected[i, j] * reads[head, j] for j in range(slots))
            backward = sum(expected[j, i] * reads[head, j] for j in range(slots))
            torch.testing.assert_close(steps.forward[head, 0, i], forward)
            torch.testing.assert_close(steps.backward[head, 0, i], backward)


def test_written_one_after_another_they_are_the_successor_matrix() -> None:
    order = [3, 0, 4, 1]
    links, last = after(one_hot(5, *order), 5)
    expected = torch.zeros(5, 5, dtype=torch.float64)
    for before, behind in pairwise(order):
        expected[behind, before] = 1.0
    assert torch.equal(links[0], expected)
    assert torch.equal(last[0], torch.eye(5, dtype=torch.float64)[1])
    at = torch.eye(5, dtype=torch.float64)
    steps = directional(links, at)
    assert torch.equal(steps.forward[3, 0], at[0])  # after slot 3 comes slot 0
    assert torch.equal(steps.backward[4, 0], at[0])  # before slot 4 came slot 0
    assert (steps.forward[1] == 0).all()  # the last
    assert (steps.backward[3] == 0).all()  # the first


def test_a_second_write_removes_old_links() -> None:
    links, _ = after(one_hot(4, 0, 1, 2, 1), 4)
    expected = torch.zeros(4, 4, dtype=torch.float64)
    expected[1, 2] = 1.0  # neither 0 -> 1 nor 1 -> 2 are left
    assert torch.equal(links[0], expected)
    sparse, _ = sparse_after(one_hot(4, 0, 1, 2, 1), 2)
    assert torch.equal(sparse.dense()[0], expected)


def test_a_closed_gate_changes_nothing() -> None:
    torch.manual_seed(1)
    writes = [random_writes(2, 6) for _ in range(9)]
    nothing = torch.zeros(2, 6, dtype=torch.float64)
    links, order = torch.zeros(2, 6, 6, dtype=torch.float64), nothing
    for write in writes:
        links, order = link(links, order, write), precedence(order, write)
    assert torch.equal(link(links, order, nothing), links)
    assert torch.equal(precedence(order, nothing), order)
    sparse, order = sparse_after(writes, 3)
    assert torch.equal(sparse_link(sparse, order, nothing).dense(), sparse.dense())


def adversarial(dtype: torch.dtype) -> Tensor:
    """A pool of writes (500, 7, 6): of random sum, of sum 1, small, one-hot, to all slots, to two, mostly nothing."""
    pool, slots = 500, 6
    free = random_writes(3, pool, slots, dtype=dtype)
    whole = torch.softmax(torch.randn(pool, slots, dtype=dtype), -1)
    hot = torch.eye(slots, dtype=dtype)[torch.randint(slots, (pool,))]
    everything = torch.full((pool, slots), 1 / slots, dtype=dtype)
    two = (hot + hot.roll(1, -1)) / 2
    seldom = free[2] * (torch.rand(pool, 1) < 0.1)
    return torch.stack([free[0], whole, free[1] ** 4, hot, everything, two, seldom], dim=1)


@pytest.mark.parametrize("steps", [1_500, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_invariants_through_many_steps(kind: str, dtype: torch.dtype, steps: int) -> None:
    torch.manual_seed(2)
    pool, rounding = adversarial(dtype), ROUNDING[dtype]
    # What 1 - sum leaves after each write, in a precision in which it does not round.
    rest = (1 - pool.double().sum(-1)).clamp(min=0)
    order = torch.zeros(7, 6, dtype=dtype)
    links: Tensor | SparseLinks = torch.zeros(7, 6, 6, dtype=dtype) if kind == "dense" else no_sparse_links(order, 3)
    left = torch.ones(7, dtype=torch.float64)
    for time in range(steps):
        pick = int(torch.randint(len(pool), ()))
        weights = pool[pick]
        links = link(links, order, weights) if isinstance(links, Tensor) else sparse_link(links, order, weights)
        order = precedence(order, weights)
        left = left * rest[pick]
        if time % 97 and time < steps - 1:
            continue
        matrix = links if isinstance(links, Tensor) else links.dense()
        assert (matrix >= -rounding).all()
        assert (matrix.sum(-1) <= 1 + rounding).all()
        assert (matrix.sum(-2) <= 1 + rounding).all()
        assert (matrix.diagonal(dim1=-2, dim2=-1) == 0).all()
        assert (order >= 0).all()
        torch.testing.assert_close(order.double().sum(-1), 1 - left, rtol=0, atol=rounding)
        reads = torch.softmax(torch.randn(7, 2, 6, dtype=dtype), -1)[:, :, None]
        found = directional(links[:, None], reads[:, :, 0]) if isinstance(links, Tensor) else None
        for direction in found or sparse_directional(SparseLinks(*(each[:, None] for each in links)), reads[:, :, 0]):
            assert (direction >= -rounding).all()
            assert (direction.sum(-1) <= 1 + rounding).all()


def test_gradient_of_dense_links() -> None:
    torch.manual_seed(3)
    writes = [random_writes(2, 1, 4).requires_grad_() for _ in range(4)]
    reads = random_writes(2, 3, 4).requires_grad_()

    def run(reads: Tensor, *writes: Tensor) -> tuple[Tensor, Tensor]:
        links, order = reads.new_zeros(2, 1, 4, 4), reads.new_zeros(2, 1, 4)
        for write in writes:
            links, order = link(links, order, write), precedence(order, write)
        return tuple(directional(links, reads))  # type: ignore[return-value]

    assert torch.autograd.gradcheck(run, (reads, *writes))


# Sparse


@pytest.mark.parametrize("entries", [6, 7, 100])
def test_with_an_entry_for_every_slot_sparse_is_dense(entries: int) -> None:
    torch.manual_seed(4)
    writes = [random_writes(2, 2, 6).requires_grad_() for _ in range(12)]
    reads = random_writes(2, 3, 6).requires_grad_()
    links, order = torch.zeros(2, 2, 6, 6, dtype=torch.float64), torch.zeros(2, 2, 6, dtype=torch.float64)
    sparse = no_sparse_links(order, entries)
    for write in writes:
        links, sparse, order = link(links, order, write), sparse_link(sparse, order, write), precedence(order, write)
        torch.testing.assert_close(sparse.dense(), links, rtol=0, atol=1e-14)
    dense_steps, sparse_steps = directional(links, reads), sparse_directional(sparse, reads)
    weight = torch.randn(2, 3, 2, 6, dtype=torch.float64)
    gradients = []
    for steps in (dense_steps, sparse_steps):
        total = (weight * steps.forward + weight.flip(-1) * steps.backward).sum()
        gradients.append(torch.autograd.grad(total, [reads, *writes], retain_graph=True))
    for name, dense, other in zip(("forward", "backward"), dense_steps, sparse_steps, strict=True):
        torch.testing.assert_close(other, dense, rtol=0, atol=1e-14, msg=name)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-13)


def test_few_entries_suffice_where_writes_lie_on_few_slots() -> None:
    torch.manual_seed(5)
    order = torch.randperm(20).tolist()
    writes = one_hot(20, *order, *order[:7])
    dense, _ = after(writes, 20)
    assert torch.equal(sparse_after(writes, 1)[0].dense(), dense)
    # Two slots at a time, each row linked from at most the two of the step before.
    pairs = [(writes[time] + writes[time + 1]) / 2 for time in range(0, 20, 2)]
    dense, _ = after(pairs, 20)
    torch.testing.assert_close(sparse_after(pairs, 3)[0].dense(), dense, rtol=0, atol=1e-15)


def test_too_few_entries_leave_links_out() -> None:
    torch.manual_seed(6)
    writes = [random_writes(3, 10, scale=1.0) for _ in range(30)]
    links, _ = sparse_after(writes, 4)
    assert links.values.shape == links.indices.shape == (3, 10, 4)
    assert (links.indices.sort(-1).values.diff(dim=-1) > 0).all()  # every column once
    assert ((links.dense() > 0).sum(-1) <= 4).all()
    assert (links.dense().sum((-1, -2)) > 0.1).all()


def test_gradient_of_sparse_links() -> None:
    torch.manual_seed(7)
    writes = [random_writes(1, 5).requires_grad_() for _ in range(4)]
    reads = random_writes(2, 5).requires_grad_()

    def run(reads: Tensor, *writes: Tensor) -> tuple[Tensor, Tensor]:
        links, _ = sparse_after(list(writes), 2)
        return tuple(sparse_directional(links, reads))  # type: ignore[return-value]

    assert torch.autograd.gradcheck(run, (reads, *writes))


class Largest(TorchDispatchMode):
    """Notes the most numbers of a tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):  # type: ignore[no-untyped-def]
        made = function(*arguments, **(keywords or {}))
        for each in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(each, Tensor):
                self.numbers = max(self.numbers, each.untyped_storage().nbytes() // each.element_size())
        return made


def test_sparse_links_never_need_the_square_of_the_slots() -> None:
    slots, entries, reads, writes = 3000, 4, 2, 2
    order = torch.rand(1, writes, slots) / slots
    write = (torch.rand(1, writes, slots) / slots).requires_grad_()
    heads = torch.rand(1, reads, slots, requires_grad=True)
    with Largest() as largest:
        links = sparse_link(sparse_link(no_sparse_links(order, entries), order, write), order, write)
        steps = sparse_directional(links, heads)
        (steps.forward.sum() + steps.backward.square().sum()).backward()
    assert 0 < largest.numbers <= reads * writes * slots * entries


# Sharpened


def test_sharpened_direction() -> None:
    direction = torch.tensor([[0.2, 0.6, 0.0, 0.1]], dtype=torch.float64)
    for power in (1.0, 2.5, 40.0):
        shifted = direction + 1e-6
        expected = (shifted / shifted.max()) ** power
        found = sharpen_direction(direction, torch.tensor([power], dtype=torch.float64))
        torch.testing.assert_close(found, expected / expected.sum())
    assert sharpen_direction(direction, torch.tensor([1e4]).double()).tolist() == [[0.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_sharpened_nothing_is_uniform_with_a_finite_gradient(dtype: torch.dtype) -> None:
    direction, sharpness = torch.zeros(1, 4, dtype=dtype, requires_grad=True), torch.tensor([9.0], dtype=dtype)
    found = sharpen_direction(direction, sharpness)
    torch.testing.assert_close(found, torch.full_like(found, 0.25))
    (gradient,) = torch.autograd.grad(found.square().sum(), direction)
    assert gradient.isfinite().all()


def test_batched_is_one_by_one() -> None:
    torch.manual_seed(8)
    writes, before = random_writes(3, 2, 5), random_writes(3, 2, 5)
    reads, links = random_writes(3, 4, 5), torch.rand(3, 2, 5, 5, dtype=torch.float64)

    def sparse(writes: Tensor, before: Tensor, reads: Tensor) -> tuple[Tensor, Tensor]:
        made = sparse_link(no_sparse_links(before, 2), before, writes)
        return tuple(sparse_directional(made, reads))  # type: ignore[return-value]

    def dense(writes: Tensor, before: Tensor, reads: Tensor, links: Tensor) -> tuple[Tensor, Tensor]:
        return tuple(directional(link(links, before, writes), reads))  # type: ignore[return-value]

    for function, arguments in ((sparse, (writes, before, reads)), (dense, (writes, before, reads, links))):
        batched = torch.vmap(function)(*arguments)
        alone = zip(*(function(*each) for each in zip(*arguments, strict=True)), strict=True)
        for found, expected in zip(batched, alone, strict=True):
            torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-15)

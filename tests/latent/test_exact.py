"""Enumeration against loops, distributions of PyTorch and finite differences; sparse maps evaluate few."""

import itertools
import re

import pytest
import torch
from torch import Tensor

from softplace import maps
from softplace.errors import InputError
from softplace.latent import LIMIT, marginalise
from tests.latent.problems import LOSSES, make_loss, normal

MAPS = ("softmax", "sparsemax", "entmax15")
DOUBLE = torch.double


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize(("categoricals", "classes"), [(1, 4), (2, 3), (3, 2)])
def test_it_is_a_loop_over_configurations(categoricals: int, classes: int, name: str, kind: str) -> None:
    logits = normal(4, categoricals, classes, label="loop", dtype=DOUBLE).requires_grad_()
    loss = make_loss(kind, categoricals, classes, DOUBLE)
    weights = maps.get(name)(logits, -1)
    wanted = []
    for row in weights:
        total = torch.zeros((), dtype=DOUBLE)
        for chosen in itertools.product(range(classes), repeat=categoricals):
            weight = torch.ones((), dtype=DOUBLE)
            for number, each in enumerate(chosen):
                weight = weight * row[number, each]
            total = total + weight * loss(torch.eye(classes, dtype=DOUBLE)[list(chosen)])
        wanted.append(total)
    found = marginalise(logits, loss, map=name).surrogate
    torch.testing.assert_close(found, torch.stack(wanted))
    slopes = [torch.autograd.grad(each.sum(), logits, retain_graph=True)[0] for each in (found, torch.stack(wanted))]
    torch.testing.assert_close(*slopes)
    assert torch.autograd.gradcheck(lambda each: marginalise(each, loss, map=name).surrogate, logits)
    assert torch.autograd.gradgradcheck(lambda each: marginalise(each, loss, map=name).surrogate, logits)


def test_it_is_the_expectation_under_the_distribution_of_pytorch() -> None:
    logits, loss = normal(7, 1, 5, label="pytorch", dtype=DOUBLE), make_loss("table", 1, 5, DOUBLE)
    theirs = torch.distributions.OneHotCategorical(logits=logits)
    support = theirs.enumerate_support()  # (5, 7, 1, 5)
    wanted = (theirs.log_prob(support).exp().squeeze(-1) * loss(support)).sum(0)
    torch.testing.assert_close(marginalise(logits, loss).surrogate, wanted)


@pytest.mark.parametrize("name", ["sparsemax", "entmax15"])
def test_a_sparse_map_evaluates_what_has_weight_alone(name: str) -> None:
    logits, linear = 2.0 * normal(6, 2, 5, label="sparse"), make_loss("quadratic", 2, 5)
    seen = []

    def loss(sample: Tensor) -> Tensor:
        seen.append(tuple(sample.shape))
        return linear(sample)

    found = marginalise(logits, loss, map=name)
    weights = maps.get(name)(logits, -1)
    support = (weights > 0).sum(-1).prod(-1)
    assert seen == [(int(support.amax()), 6, 2, 5)]
    assert int(support.amax()) < 25
    of_each = (found.samples * weights).sum(-1).prod(-1)
    assert (of_each.diff(dim=0) <= 0).all()
    torch.testing.assert_close(of_each.sum(0), torch.ones(6))
    many = torch.vmap(lambda each: marginalise(each, linear, map=name).surrogate)(logits)
    torch.testing.assert_close(many, found.surrogate)


@pytest.mark.parametrize("name", MAPS)
def test_a_batch_may_share_its_samples(name: str) -> None:
    logits = 2.0 * normal(6, 2, 5, label="sparse", dtype=DOUBLE)
    loss, scale = make_loss("table", 2, 5, DOUBLE), normal(6, label="shared", dtype=DOUBLE)
    seen = []

    def shared(sample: Tensor) -> Tensor:
        seen.append(tuple(sample.shape))
        return loss(sample) * scale  # (S, 1) by (6,)

    slopes = []
    for given, options in ((lambda sample: loss(sample) * scale, {}), (shared, {"shared": True})):
        leaf = logits.clone().requires_grad_()
        found = marginalise(leaf, given, map=name, **options)
        slopes += [found.surrogate, torch.autograd.grad(found.surrogate.sum(), leaf)[0]]
    torch.testing.assert_close(slopes[:2], slopes[2:])
    held = (torch.einsum("bi,bj->bij", *maps.get(name)(logits, -1).unbind(1)) > 0).any(0)
    assert seen == [(int(held.sum()), 1, 2, 5)]
    assert found.samples.shape == (int(held.sum()), 6, 2, 5)
    assert found.losses.shape == (int(held.sum()), 6)
    with pytest.raises(InputError, match="one number per sample"):
        marginalise(logits, loss, map=name, shared=True)  # gives (S, 1)


def test_what_cannot_be_does_not_count() -> None:
    logits = torch.tensor([[0.0, -torch.inf, 1.0]], requires_grad=True)

    def loss(sample: Tensor) -> Tensor:
        return -(1.0 - sample[..., 0, 1]).log()  # infinite for the second class

    found = marginalise(logits, loss).surrogate
    (slope,) = torch.autograd.grad(found, logits)
    assert found.item() == 0.0
    assert slope.tolist() == [[0.0, 0.0, 0.0]]


def test_many_categoricals_of_one_class() -> None:
    found = marginalise(torch.zeros(2, 9000, 1), lambda sample: sample.sum((-2, -1)))
    assert found.surrogate.tolist() == [9000.0, 9000.0]
    assert found.samples.shape == (1, 2, 9000, 1)


@pytest.mark.parametrize("shape", [(13, 2), (1, LIMIT + 1), (10_000, 3)])
def test_too_many_configurations(shape: tuple[int, int]) -> None:
    says = f"enumerates at most {LIMIT} configurations. Got {shape[1]} classes ** {shape[0]} categoricals. Use"
    with pytest.raises(InputError, match=re.escape(says)):
        marginalise(torch.zeros(shape), lambda sample: sample.sum((-2, -1)))


def test_the_limit_itself_is_within_it() -> None:
    found = marginalise(torch.zeros(12, 2), lambda sample: sample[..., 0].sum(-1))
    assert found.surrogate.item() == pytest.approx(6.0)
    assert len(found.losses) == LIMIT

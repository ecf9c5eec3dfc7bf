"""The adaptive softmax against PyTorch's, with its weights."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softplace.errors import InputError
from softplace.output import Adaptive, AdaptiveSoftmax, Tail, adaptive_log_softmax, adaptive_softmax

N, E, V = 40, 12, 30


def both(bias: bool, cutoffs: tuple[int, ...] = (6, 14, 20)) -> tuple[AdaptiveSoftmax, nn.AdaptiveLogSoftmaxWithLoss]:
    torch.manual_seed(0)
    theirs = nn.AdaptiveLogSoftmaxWithLoss(E, V, cutoffs, div_value=2.0, head_bias=bias).double()
    return AdaptiveSoftmax.of(theirs), theirs


def data() -> tuple[Tensor, Tensor]:
    hidden = torch.randn(N, E, dtype=torch.float64, requires_grad=True)
    return hidden, torch.cat([torch.arange(V), torch.randint(V, (N - V,))])


@pytest.mark.parametrize("bias", [False, True])
def test_it_is_pytorchs(bias: bool) -> None:
    ours, theirs = both(bias)
    hidden, target = data()
    rows, loss = theirs(hidden, target)
    torch.testing.assert_close(-ours(hidden, target, reduction="none"), rows)
    torch.testing.assert_close(ours(hidden, target), loss)
    torch.testing.assert_close(ours.log_prob(hidden), theirs.log_prob(hidden))
    expected = torch.autograd.grad(loss, [hidden, *theirs.parameters()])
    found = torch.autograd.grad(ours(hidden, target), [hidden, *ours.parameters()])
    shapes = {}
    for one in expected:
        shapes.setdefault(one.shape, []).append(one)
    for one in found:  # parameters of equal shape come in the same order
        torch.testing.assert_close(one, shapes[one.shape].pop(0))


def test_probabilities_sum_to_one_and_are_those_of_the_loss() -> None:
    net = AdaptiveSoftmax(E, V, (5, 9), bias=True).double()
    hidden, target = data()
    logs = net.log_prob(hidden)
    torch.testing.assert_close(logs.exp().sum(-1), torch.ones(N, dtype=torch.float64))
    torch.testing.assert_close(net(hidden, target, reduction="none"), -logs.gather(-1, target[:, None])[:, 0])


def test_leading_axes_and_ignored_targets() -> None:
    net = AdaptiveSoftmax(E, V, (5, 9)).double()
    hidden, target = data()
    target[::3] = -1
    expected = net(hidden[target >= 0], target[target >= 0])
    shaped = hidden.reshape(4, 10, E), target.reshape(4, 10)
    torch.testing.assert_close(net(*shaped, ignore_index=-1), expected)
    small = target.clamp(min=0)
    torch.testing.assert_close(net(hidden, small.to(torch.uint8)), net(hidden, small))
    assert not net(*shaped, ignore_index=-1, reduction="none")[target.reshape(4, 10) < 0].any()
    nothing = net(hidden, torch.full_like(target, -1), ignore_index=-1)
    assert nothing == 0.0
    assert not torch.autograd.grad(nothing, hidden)[0].any()
    assert net(hidden[:0], target[:0]) == 0.0


def test_one_softmax_without_cutoffs() -> None:
    net = AdaptiveSoftmax(E, V, ()).double()
    hidden, target = data()
    expected = nn.functional.cross_entropy(net.head(hidden), target)
    torch.testing.assert_close(net(hidden, target), expected)


@pytest.mark.parametrize("cutoffs", [(0,), (V,), (5, 5), (9, 5), (2.5,), (True,)])
def test_bad_cutoffs(cutoffs: Any) -> None:
    with pytest.raises(InputError, match=r"'cutoffs' must be whole numbers that increase, from 1 to 29\. Got \["):
        AdaptiveSoftmax(E, V, cutoffs)


def test_bad_sizes() -> None:
    with pytest.raises(InputError, match=r"'width' must be a whole number from 1\. Got 0"):
        AdaptiveSoftmax(0, V, (5,))
    with pytest.raises(InputError, match=r"'divisor' must be at least 1\. Got 0\.5"):
        AdaptiveSoftmax(E, V, (5,), divisor=0.5)
    with pytest.raises(InputError, match=r"'divisor' must be at least 1\. Got 'four'"):
        AdaptiveSoftmax(E, V, (5,), divisor="four")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"'cutoffs' must be whole numbers that increase, .* Got 5\. Use"):
        AdaptiveSoftmax(E, V, 5)  # type: ignore[arg-type]


def test_bad_calls() -> None:
    hidden = torch.zeros(2, 4)
    parts = Adaptive(torch.zeros(3, 4), (Tail(torch.zeros(2, 4), torch.zeros(5, 2)),))
    with pytest.raises(ValueError, match=r"class indices in \[0, 6\]\. Got 7 at \(1,\)\. "):
        adaptive_softmax(hidden, torch.tensor([0, 7]), parts)
    with pytest.raises(TypeError, match=r"must be class indices .* Got a tensor of torch\.float32"):
        adaptive_softmax(hidden, torch.zeros(2), parts)
    with pytest.raises(TypeError, match=r"must be an Adaptive\. Got tuple"):
        adaptive_log_softmax(hidden, tuple(parts))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Tail 0 of adaptive_softmax must be \(D, 4\) and \(S, D\)\. Got \(2, 3\)"):
        adaptive_softmax(
            hidden, torch.tensor([0, 1]), parts._replace(tails=(Tail(torch.zeros(2, 3), torch.zeros(5, 2)),))
        )
    with pytest.raises(ValueError, match="must have a class of its own in the head"):
        adaptive_softmax(hidden, torch.tensor([0, 1]), parts._replace(head=torch.zeros(1, 4)))

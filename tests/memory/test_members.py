"""Nets that run together answer, and learn, as each alone."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import stack_module_state
from torch.nn.utils import parametrize

from softplace.memory import DNC, NTM, LSTMBaseline, _fused
from softplace.memory.members import together

S, T, B, I, O = 3, 7, 2, 5, 4  # noqa: E741 - the axes of the module
SIZES: dict[str, Any] = {"slots": 12, "width": 6, "hidden_size": 20}


def cube_normalised(scores: Tensor, dim: int) -> Tensor:
    """A map that the kernel does not know."""
    cubes = scores.abs() ** 3 + 1e-3
    return cubes / cubes.sum(dim, keepdim=True)


class Alpha(nn.Module):
    """A map that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.ones(()))

    def forward(self, scores: Tensor, dim: int) -> Tensor:
        return torch.softmax(scores * self.sharpness, dim)


class Doubled(nn.Module):
    """A parametrization."""

    def forward(self, weight: Tensor) -> Tensor:
        return 2.0 * weight


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (NTM, {}),
        (NTM, {"controller": "feedforward", "read_heads": 2, "initial_weights": "random"}),
        (NTM, {"initial_memory": "random"}),
        (NTM, {"initial_memory": "learned", "layers": 2, "order": "read-write"}),
        (NTM, {"kernel": False}),
        (NTM, {"map": cube_normalised}),
        (NTM, {"map": Alpha()}),
        (NTM, {"batch_first": True}),
        (DNC, {}),
        (DNC, {"initial_memory": "learned", "masked": True, "deallocate": True, "links": "none"}),
        (DNC, {"write_heads": 2}),
        (LSTMBaseline, {"layers": 2}),
    ],
)
def test_members_together_are_the_members_alone(
    kind: type[Any], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 20} if kind is LSTMBaseline else SIZES
    nets = [kind(I, O, **copy.deepcopy(sizes | options)) for _ in range(S)]
    for net in nets:
        for parameter in net.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    parameters, buffers = stack_module_state(nets)
    inputs = torch.randn(S, T, B, I)
    runs: list[int] = []
    run = _fused.run
    monkeypatch.setattr(_fused, "run", lambda *given: runs.append(given[2].dim()) or run(*given))
    outputs, state = together(nets[0], parameters | buffers, inputs)
    if (
        _fused.library() is not None
        and not {"kernel", "map", "write_heads", "batch_first"} & set(options)
        and kind is not LSTMBaseline
    ):
        assert runs == [4]  # one call for all, no vmap
    alone = [net(each) for net, each in zip(nets, inputs, strict=True)]
    torch.testing.assert_close(outputs, torch.stack([each[0] for each in alone]), rtol=0, atol=1e-5)
    for name in state._fields:
        of_each = torch.stack([getattr(each[1], name) for each in alone])
        torch.testing.assert_close(getattr(state, name), of_each, rtol=0, atol=1e-5)
    (outputs.square().sum() + state.hidden.sum()).backward()
    for each in alone:
        (each[0].square().sum() + each[1].hidden.sum()).backward()
    for name, value in parameters.items():
        own = [dict(net.named_parameters())[name].grad for net in nets]
        if own[0] is None:  # cells of the last step reach nothing
            assert value.grad is None or not bool(value.grad.any())
            continue
        torch.testing.assert_close(
            value.grad, torch.stack([each for each in own if each is not None]), rtol=1e-4, atol=1e-4
        )


def test_what_is_not_given_is_the_nets_own() -> None:
    torch.manual_seed(0)
    nets = [NTM(I, O, **SIZES) for _ in range(S)]
    parameters, _ = stack_module_state(nets)
    given = {name: value for name, value in parameters.items() if name != "initial_weights"}
    nets[0].initial_weights.data = torch.randn_like(nets[0].initial_weights)
    for net in nets[1:]:
        net.initial_weights.data = nets[0].initial_weights.data
    inputs = torch.randn(S, T, B, I)
    outputs, _ = together(nets[0], given, inputs)
    expected = torch.stack([net(each)[0] for net, each in zip(nets, inputs, strict=True)])
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-5)


def test_a_parametrization_is_gone_through() -> None:
    torch.manual_seed(0)
    nets = [NTM(I, O, **SIZES) for _ in range(S)]
    for net in nets:
        parametrize.register_parametrization(net, "interface_weight", Doubled())
    named = [dict(net.named_parameters()) for net in nets]
    parameters = {name: torch.stack([each[name] for each in named]).detach() for name in named[0]}
    inputs = torch.randn(S, T, B, I)
    outputs, _ = together(nets[0], parameters, inputs)
    expected = torch.stack([net(each)[0] for net, each in zip(nets, inputs, strict=True)])
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-5)

"""Stacked networks against the modules of PyTorch, one by one, in float64."""

import itertools

import pytest
import torch
from torch import nn

from softplace.hidden import Activation, forward, initialise
from softplace.maps import softmax, tanh

WIDTHS = (3, 5, 4, 2)
CHOICES = {
    "map": Activation(map=tanh),
    "width": Activation(map=softmax, scale="width"),
    "factor": Activation(map=softmax, scale=3.0),
    "layer norm": Activation(map=softmax, layer_norm=True),
    "batch norm": Activation(map=tanh, batch_norm=True),
    "all": Activation(map=softmax, scale="width", batch_norm=True, layer_norm=True),
}


def test_the_draw_depends_on_the_seed_alone() -> None:
    first, _ = initialise(WIDTHS, [7, 8])
    other, _ = initialise(WIDTHS, [1, 7, 2], batch_norm=True)
    for name, values in first.items():
        assert torch.equal(values[0], other[name][1])
        assert not torch.equal(values[0], values[1])
    for layer, fan_in in enumerate(WIDTHS[:-1]):
        bound = fan_in**-0.5
        largest = max(first[f"{kind}{layer}"].abs().max().item() for kind in ("weight", "bias"))
        assert 0.7 * bound < largest <= bound


@pytest.mark.parametrize("activation", CHOICES.values(), ids=CHOICES)
def test_members_equal_networks_of_modules_in_outputs_gradients_and_statistics(activation: Activation) -> None:
    seeds = [0, 1, 2]
    parameters, buffers = initialise(WIDTHS, seeds, batch_norm=activation.batch_norm)
    parameters = {name: value.double().requires_grad_() for name, value in parameters.items()}
    buffers = {name: value.double() for name, value in buffers.items()}
    source = torch.Generator().manual_seed(0)
    batches = [torch.randn(3, 3, 6, dtype=torch.float64, generator=source) for _ in range(3)]
    networks = [_modules(activation, {name: value[m].detach() for name, value in parameters.items()}) for m in range(3)]
    for inputs in batches:
        layers = forward(activation, parameters, buffers, inputs, training=True)
        plain = torch.stack([network(rows.T).T for network, rows in zip(networks, inputs, strict=True)])
        assert torch.allclose(layers.outputs, plain, rtol=1e-12, atol=1e-13)
        gradients = torch.autograd.grad(layers.outputs.square().sum(), list(parameters.values()))
        own = [torch.autograd.grad(plain[m].square().sum(), _ordered(networks[m], activation)) for m in range(3)]
        for place, gradient in enumerate(gradients):
            expected = torch.stack([each[place].reshape(gradient.shape[1:]) for each in own])
            assert torch.allclose(gradient, expected, rtol=1e-9, atol=1e-12)
    for network in networks:
        network.eval()
    layers = forward(activation, parameters, buffers, batches[0], training=False)
    plain = torch.stack([network(rows.T).T for network, rows in zip(networks, batches[0], strict=True)])
    assert torch.allclose(layers.outputs, plain, rtol=1e-12, atol=1e-13)
    assert [tuple(each.shape) for each in layers.activations] == [(3, 5, 6), (3, 4, 6)]


@pytest.mark.parametrize("activation", CHOICES.values(), ids=CHOICES)
def test_nan_in_one_member_stays_there(activation: Activation) -> None:
    parameters, buffers = initialise(WIDTHS, [0, 1, 2], batch_norm=activation.batch_norm)
    inputs = torch.randn(3, 3, 6, generator=torch.Generator().manual_seed(0))
    clean = forward(activation, parameters, {k: v.clone() for k, v in buffers.items()}, inputs, training=True).outputs
    parameters["weight0"][1] = torch.nan
    dirty = forward(activation, parameters, buffers, inputs, training=True).outputs
    assert dirty[1].isnan().all()
    assert torch.equal(dirty[[0, 2]], clean[[0, 2]])


class _Map(nn.Module):
    def __init__(self, activation: Activation, width: int) -> None:
        super().__init__()
        self.map = activation.map
        self.factor = width if activation.scale == "width" else activation.scale

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.map(values, -1) * self.factor


def _modules(activation: Activation, values: dict[str, torch.Tensor]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(WIDTHS)):
        hidden = layer < len(WIDTHS) - 2
        normalised = hidden and activation.batch_norm
        linear = nn.Linear(fan_in, fan_out, bias=not normalised, dtype=torch.float64)
        linear.weight.data = values[f"weight{layer}"].clone()
        layers.append(linear)
        if normalised:
            layers.append(nn.BatchNorm1d(fan_out, dtype=torch.float64))
        layers[-1].bias.data = values[f"bias{layer}"][:, 0].clone()  # type: ignore[union-attr]
        if hidden:
            layers.append(_Map(activation, fan_out))
            if activation.layer_norm:
                layers.append(nn.LayerNorm(fan_out, elementwise_affine=False))
    return nn.Sequential(*layers)


def _ordered(network: nn.Sequential, activation: Activation) -> list[torch.Tensor]:
    """Weight, bias, gain by layer, as `initialise` names them."""
    ordered: list[torch.Tensor] = []
    for module in network:
        if isinstance(module, nn.Linear):
            ordered += [module.weight] if module.bias is None else [module.weight, module.bias]
        elif isinstance(module, nn.BatchNorm1d):
            ordered += [module.bias, module.weight]
    return ordered

"""Multilayer perceptrons, many at once: every tensor carries a leading axis of members.

Axis legend: M members, B batch, I inputs, W width (units of a hidden layer), C outputs. Activations are kept with the
units before the batch, (M, W, B): a narrow output layer is then a fast matrix product, and batch normalisation of all
members is one call.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from softplace.maps import Map

Tensors = dict[str, Tensor]
EPSILON = 1e-5
MOMENTUM = 0.1


@dataclass(frozen=True, kw_only=True)
class Activation:
    """What stands between one layer's matrix product and the next: `layer_norm(scale * map(batch_norm(z)))`.

    Args:
        map: The map, along the units.
        scale: Factor behind the map; "width" is the number of units, so that softmax activations average 1.
        batch_norm: Batch normalisation before the map, where Ioffe and Szegedy 2015 (arXiv:1502.03167, section 3.2)
            put it; the layer's bias is its shift, and its gain is the only parameter that this adds.
        layer_norm: Layer normalisation behind the map (Ba et al. 2016, arXiv:1607.06450), without gain and shift: the
            next layer's weights and bias hold both.
    """

    map: Map
    scale: float | Literal["width"] = 1.0
    batch_norm: bool = False
    layer_norm: bool = False

    def after_normalisation(self, pre_activations: Tensor, dim: int) -> Tensor:
        """The part of the activation that treats every example alone: all but batch normalisation."""
        activations = self.map(pre_activations, dim)
        factor = float(pre_activations.shape[dim]) if self.scale == "width" else self.scale
        if factor != 1.0:
            activations = activations * factor
        if self.layer_norm:
            centred = activations - activations.mean(dim, keepdim=True)
            activations = centred * torch.rsqrt(centred.square().mean(dim, keepdim=True) + EPSILON)
        return activations


@dataclass(frozen=True, kw_only=True)
class Layers:
    """What a forward pass leaves: `pre_activations` are what each map received, both lists of (M, W, B)."""

    outputs: Tensor
    pre_activations: Sequence[Tensor]
    activations: Sequence[Tensor]


def initialise(widths: Sequence[int], seeds: Sequence[int], *, batch_norm: bool = False) -> tuple[Tensors, Tensors]:
    """Draw the parameters of one network per seed.

    Weights and biases are uniform on +-1 / sqrt(fan in), as `torch.nn.Linear` draws them. The draw depends on the seed
    and the widths only, so that the same seed starts every arm from the same numbers.

    Args:
        widths: Inputs, hidden widths, outputs.
        seeds: One per member.
        batch_norm: Add gains of 1 and running statistics to every hidden layer.

    Returns:
        Parameters `weight{l}` (M, out, in), `bias{l}` (M, out, 1), `gain{l}` (M, out, 1), and buffers
        `running_mean{l}`, `running_variance{l}` (M, out).
    """
    parameters: Tensors = {}
    buffers: Tensors = {}
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        bound = 1.0 / math.sqrt(fan_in)
        draws = [torch.rand(fan_out, fan_in + 1, generator=generator) for generator in generators]
        drawn = (torch.stack(draws) * 2.0 - 1.0) * bound
        parameters[f"weight{layer}"] = drawn[:, :, :fan_in].contiguous()
        parameters[f"bias{layer}"] = drawn[:, :, fan_in:].contiguous()
        if batch_norm and layer < len(widths) - 2:
            parameters[f"gain{layer}"] = torch.ones(len(seeds), fan_out, 1)
            buffers[f"running_mean{layer}"] = torch.zeros(len(seeds), fan_out)
            buffers[f"running_variance{layer}"] = torch.ones(len(seeds), fan_out)
    return parameters, buffers


def forward(
    activation: Activation, parameters: Mapping[str, Tensor], buffers: Tensors, inputs: Tensor, *, training: bool
) -> Layers:
    """Run every member's network on its own batch.

    Args:
        activation: The same at every hidden layer.
        parameters: As `initialise` returns them.
        buffers: As `initialise` returns them; the running statistics move in place when `training`.
        inputs: (M, I, B).
        training: Normalise by the batch (and move the running statistics) instead of by the running statistics.

    Returns:
        `Layers` with outputs (M, C, B).
    """
    depth = sum(name.startswith("weight") for name in parameters) - 1
    hidden = inputs
    pre_activations, activations = [], []
    for layer in range(depth):
        weight, bias = parameters[f"weight{layer}"], parameters[f"bias{layer}"]
        if activation.batch_norm:
            products = torch.bmm(weight, hidden)
            members, width, batch = products.shape
            # One "image" whose channels are all units of all members: a channel's statistics are one member's.
            before = functional.batch_norm(
                products.reshape(1, members * width, batch),
                buffers[f"running_mean{layer}"].view(-1),
                buffers[f"running_variance{layer}"].view(-1),
                parameters[f"gain{layer}"].reshape(-1),
                bias.reshape(-1),
                training,
                MOMENTUM,
                EPSILON,
            ).view(members, width, batch)
        else:
            before = torch.baddbmm(bias, weight, hidden)
        hidden = activation.after_normalisation(before, 1)
        pre_activations.append(before)
        activations.append(hidden)
    outputs = torch.baddbmm(parameters[f"bias{depth}"], parameters[f"weight{depth}"], hidden)
    return Layers(outputs=outputs, pre_activations=pre_activations, activations=activations)

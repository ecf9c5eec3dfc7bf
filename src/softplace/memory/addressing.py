"""Addressing of a Neural Turing Machine, and the content look-up of every machine: free functions, one per equation.

Axis legend: N slots, M width (of a slot), K heads, R read heads, W write heads, S shifts; `...` is any leading axes,
the same for all arguments of a call.

Source: Graves, Wayne and Danihelka 2014 (arXiv:1410.5401), section 3. Values are not looked at, so that everything
here goes through `torch.vmap` and `torch.compile`.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import threshold

from softplace import maps

EPSILON = 1e-6
"""Beside a squared norm under its root: an empty slot or key is similar to nothing, and its gradient stays finite."""
TINY = 1e-30
"""The smallest weight that sharpening takes for more than zero."""


class Content(NamedTuple):
    """The stages of a content look-up, each (..., K, N)."""

    similarity: Tensor
    scores: Tensor
    weights: Tensor


class Addressing(NamedTuple):
    """The stages of a head's addressing, each (..., K, N), in the order in which they come."""

    content: Content
    interpolated: Tensor
    shifted: Tensor
    weights: Tensor


def inverse_norms(values: Tensor) -> Tensor:
    """One over the norms along the last axis, `1 / sqrt(sum_i v_i^2 + EPSILON)`, (..., M) to (...)."""
    return ((values * values).sum(-1) + EPSILON).rsqrt()


def content(
    memory: Tensor,
    keys: Tensor,
    strengths: Tensor,
    *,
    map: str | maps.Map = "softmax",  # noqa: A002 - the word of the field
    masks: Tensor | None = None,
    memory_inverse_norms: Tensor | None = None,
) -> Content:
    """Look slots up by what is in them, `w = map(strength * similarity)`, `similarity(i) = k . M(i) / (|k| |M(i)|)`.

    Args:
        memory: (..., N, M).
        keys: (..., K, M).
        strengths: (..., K), beta in the paper.
        map: From scores to weights: a name of `softplace.maps`, or a callable.
        masks: (..., K, M), factors of the key and of every slot, by which a head leaves columns out (Csordas and
            Schmidhuber 2019, arXiv:1904.10278, eq. 6).
        memory_inverse_norms: `inverse_norms(memory)`, where they are known already; not used with masks.

    Source: eq. 5 and 6, and Graves et al. 2016 (Nature 538:471), Methods, "Content-based addressing". We differ in the
    norms, which are those of `inverse_norms`: the similarity to a vector much shorter than 0.001 is about 0, where that
    of the paper is of any size, or not defined.

    >>> memory = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> content(memory, torch.tensor([[0.0, 3.0]]), torch.tensor([50.0])).weights.round().tolist()
    [[0.0, 1.0]]
    """
    if masks is None:
        inverse = inverse_norms(memory) if memory_inverse_norms is None else memory_inverse_norms
        directions, inverse = keys * inverse_norms(keys).unsqueeze(-1), inverse.unsqueeze(-2)
    else:
        # A masked row is never made: the product takes the masks of both sides, and so do the squares in the norms.
        squares = masks.square()
        directions = keys * squares * inverse_norms(keys * masks).unsqueeze(-1)
        inverse = (_product(squares, (memory * memory).mT) + EPSILON).rsqrt()
    similarity = _product(directions, memory.mT) * inverse
    scores = similarity * strengths.unsqueeze(-1)
    chosen = maps.get(map)
    # Finite scores need none of the care of `maps.softmax`, which here costs three times the softmax.
    return Content(similarity, scores, torch.softmax(scores, -1) if chosen is maps.softmax else chosen(scores, -1))


def interpolate(content_weights: Tensor, previous: Tensor, gates: Tensor) -> Tensor:
    """Between where the look-up points and where the head was, `g w_content + (1 - g) w_previous`.

    Exact at both ends: gate 0 gives the previous weights bit for bit, gate 1 those of the look-up.

    Args:
        content_weights, previous: (..., K, N).
        gates: (..., K), from 0 to 1.

    Source: eq. 7.
    """
    return torch.lerp(previous, content_weights, gates.unsqueeze(-1))


def shift(weights: Tensor, shifts: Tensor) -> Tensor:
    """Move weights around the circle of slots, `w'(i) = sum_d s(d) w(i - d mod N)`, d from -k to k.

    Args:
        weights: (..., K, N).
        shifts: (..., K, S), S = 2k + 1: the share that moves by -k, ..., k slots; that at index k + 1 moves slot i to
            i + 1. Shifts beyond the number of slots go around.

    Source: eq. 8, whose indices are left open where there are fewer shifts than slots.

    >>> shift(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 0.0, 1.0]]))
    tensor([[3., 1., 2.]])
    """
    reach = shifts.shape[-1] // 2
    slots = weights.shape[-1]
    moved = [
        weights if (index - reach) % slots == 0 else weights.roll(index - reach, -1)
        for index in range(shifts.shape[-1])
    ]
    return moved[0] * shifts if len(moved) == 1 else (torch.stack(moved, -2) * shifts.unsqueeze(-1)).sum(-2)


def sharpen(weights: Tensor, sharpness: Tensor) -> Tensor:
    """Make large weights larger, `w'(i) = w(i)^g / sum_j w(j)^g`.

    Computed as a softmax of `g log w`, which stays on the simplex where the powers and their sum underflow. Weights
    below `TINY` become 0 with zero gradient; a row of zeros stays one. The largest weight of any other row must be far
    above `TINY`, as it is in a row that sums to 1. Half precisions are computed in float32.

    Args:
        weights: (..., K, N).
        sharpness: (..., K), at least 1 in the machine; gamma in the paper.

    Source: eq. 9.

    >>> sharpen(torch.tensor([[0.6, 0.3, 0.0]]), torch.tensor([2.0]))
    tensor([[0.8000, 0.2000, 0.0000]])
    """
    dtype = weights.dtype
    if dtype in (torch.bfloat16, torch.float16):
        return sharpen(weights.float(), sharpness.float()).to(dtype)
    powers = torch.softmax(threshold(weights, TINY, TINY).log() * sharpness.unsqueeze(-1), -1)
    return powers.masked_fill(weights <= TINY, 0.0)


def address(
    memory: Tensor,
    previous: Tensor,
    keys: Tensor,
    strengths: Tensor,
    gates: Tensor,
    shifts: Tensor,
    sharpness: Tensor,
    *,
    map: str | maps.Map = "softmax",  # noqa: A002 - the word of the field
    memory_inverse_norms: Tensor | None = None,
) -> Addressing:
    """Where heads point: look-up by content, interpolation with where they were, shift, sharpening.

    Args:
        memory: (..., N, M).
        previous: (..., K, N), the heads' weights of the step before.
        keys, strengths, map, memory_inverse_norms: as `content`.
        gates: (..., K), as `interpolate`.
        shifts: (..., K, S), as `shift`.
        sharpness: (..., K), as `sharpen`.

    Source: section 3.3, figure 2.
    """
    found = content(memory, keys, strengths, map=map, memory_inverse_norms=memory_inverse_norms)
    interpolated = interpolate(found.weights, previous, gates)
    shifted = shift(interpolated, shifts)
    return Addressing(found, interpolated, shifted, sharpen(shifted, sharpness))


def read(memory: Tensor, weights: Tensor) -> Tensor:
    """What heads read, `r = sum_i w(i) M(i)`: memory (..., N, M), weights (..., R, N), result (..., R, M).

    Source: eq. 2.
    """
    return _product(weights, memory)


def write(memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor) -> Tensor:
    """The memory after all heads erase, then all add, `M(i) prod_h (1 - w_h(i) e_h) + sum_h w_h(i) a_h`.

    A slot of weight 0 stays bit for bit.

    Args:
        memory: (..., N, M).
        weights: (..., W, N).
        erase: (..., W, M), from 0 to 1.
        add: (..., W, M).

    Source: eq. 3 and 4; the order of the heads does not matter.

    >>> write(torch.ones(2, 2), torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.5]]), torch.tensor([[7.0, 0.0]]))
    tensor([[1.0000, 1.0000],
            [7.0000, 0.5000]])
    """
    columns = weights.mT
    # One head, the usual, is spared the views, which cost as much as the arithmetic.
    heads = [(columns, erase)]
    if (count := weights.shape[-2]) != 1:
        heads = [(columns.narrow(-1, head, 1), erase.narrow(-2, head, 1)) for head in range(count)]
    kept = memory
    for column, row in heads:
        kept = kept * (1 - _product(column, row))
    return torch.baddbmm(kept, columns, add) if memory.dim() == 3 else kept + columns @ add


def _product(left: Tensor, right: Tensor) -> Tensor:
    """A matrix product; without the detours of `matmul` where there is one leading axis."""
    return torch.bmm(left, right) if left.dim() == 3 == right.dim() else left @ right

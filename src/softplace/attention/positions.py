"""Where a word is, as numbers: sinusoids that are added, angles that turn.

Axis legend: T words, E width, D width of a head.
"""

import math

import torch
from torch import Tensor


def sinusoids(length: int, width: int, *, like: Tensor) -> Tensor:
    """`PE(t, 2i) = sin(t / 10000^(2i/E))`, `PE(t, 2i+1) = cos(...)`: (T, E).

    Args:
        length: T.
        width: E, even.
        like: Its dtype and device.

    Source: Vaswani et al. 2017 (arXiv:1706.03762), section 3.5.
    """
    angles = _angles(length, width, 0, like)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2).to(like.dtype)


def rotated(x: Tensor, start: int = 0) -> Tensor:
    """Every pair (2i, 2i+1) of numbers turned by `t / 10000^(2i/D)`: a product of two is a matter of their distance.

    Args:
        x: (..., T, D), D even.
        start: t of the first.

    Source: Su et al. 2021 (arXiv:2104.09864), eq. 34.
    """
    angles = _angles(x.shape[-2], x.shape[-1], start, x)
    sine, cosine = angles.sin().to(x.dtype), angles.cos().to(x.dtype)
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1).flatten(-2)


def _angles(length: int, width: int, start: int, like: Tensor) -> Tensor:
    """(T, width / 2), in float32 at least."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    times = torch.arange(start, start + length, device=like.device, dtype=dtype)
    rates = torch.exp(torch.arange(0, width, 2, device=like.device, dtype=dtype) * (-math.log(1e4) / width))
    return torch.outer(times, rates)

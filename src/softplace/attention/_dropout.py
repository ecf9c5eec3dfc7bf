"""Dropout whose random numbers cost a quarter: drawing them is a sixth of a step of training a small Transformer.

No axes: every operation is element by element.
"""

import torch
from torch import Tensor
from torch.nn.functional import dropout

ONE = {torch.float32: (torch.bfloat16, 0x3F80), torch.bfloat16: (torch.bfloat16, 0x3F80)}
"""Of a dtype, another of two bytes that it is made from fast, and the bits of that dtype's 1."""


def drop(x: Tensor, share: float, training: bool = True) -> Tensor:
    """`x` with a share of its numbers set to zero, and the others grown by `1 / (1 - share)`.

    On a CPU in float32 and bfloat16 a number is 15 random bits of PyTorch's global generator, so that the share is
    rounded to a multiple of 2^-15. Elsewhere it is `torch.nn.functional.dropout`.
    """
    if not training or share == 0.0:
        return x
    if x.device.type != "cpu" or x.dtype not in ONE or torch._C._are_functorch_transforms_active():
        return dropout(x, share)
    kept = _kept(x.numel(), share, x.dtype).view(x.shape)
    return x * kept.mul_(1.0 / (1.0 - share))


def _kept(count: int, share: float, dtype: torch.dtype) -> Tensor:
    """Zeros and ones, by whole-number arithmetic: to compare and convert would take three times as long."""
    limit = round(share * 2**15)
    words = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[:count]
    near, one = ONE[dtype]
    bits.bitwise_and_(0x7FFF).sub_(limit).bitwise_right_shift_(15).bitwise_not_().bitwise_and_(one)
    return bits.view(near).to(dtype)

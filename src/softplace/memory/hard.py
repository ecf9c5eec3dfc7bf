"""A map that looks into one slot and still learns where.

Axis legend: the scores' axes are the caller's; `dim` is the one that is normalised.
"""

import torch
from torch import Tensor

from softplace import maps


def straight_through_hardmax(scores: Tensor, dim: int = -1) -> Tensor:
    """One for the best slot and 0 for the others, with the gradient of softmax (`softplace.maps.hardmax` has none).

    `p = hardmax(s)`, and backward as if `p = softmax(s)`; equal best slots share the weight equally.

    Source: Bengio, Leonard and Courville 2013 (arXiv:1308.3432) for the estimator, of softmax as in Jang, Gu and Poole
    2017 (arXiv:1611.01144, section 2.2), here without noise.
    """
    soft = torch.softmax(scores, dim)
    return maps.hardmax(scores, dim).detach() + (soft - soft.detach())

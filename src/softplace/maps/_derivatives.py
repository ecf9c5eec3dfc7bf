"""The gradients of the maps that have a kernel, in PyTorch: where the gradient itself is differentiated.

Each is written in the weights p that the map returned: `J v = q (v - sum(q v) / sum(q)) / t` with `q = p^(2 - alpha)`
(Peters et al. 2019, proposition 2, for every alpha).
"""

import torch
from torch import Tensor

from softplace.maps._arguments import wide_type


def pull_back(
    name: str, kept: Tensor, gradient: Tensor, temperature: float, extra: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Gradients to the scores and to the number per row.

    Args:
        kept: The weights; of `solu`, the scores.
        gradient: With respect to the result.
        extra: Sink or alpha per row.
    """
    dtype = wide_type(kept.dtype)
    p, v = kept.to(dtype), gradient.to(dtype)
    made = None
    if name == "log_softmax":
        pulled = torch.where(p == -torch.inf, 0.0, v - p.exp() * v.sum(-1, keepdim=True))
    elif name == "solu":
        pulled = _solu(p, v, temperature)
    elif name == "softmax1":
        along = (p * v).sum(-1, keepdim=True)
        pulled = p * (v - along)
        made = (p.sum(-1, keepdim=True) - 1.0) * along / temperature
    else:
        q = _slope(name, p, extra)
        total = q.sum(-1, keepdim=True)
        mean = (q * v).sum(-1, keepdim=True) / torch.where(total == 0.0, 1.0, total)
        pulled = q * (v - mean)
        if extra is not None:
            made = (_alpha_part(p, q, extra - 1.0) * (mean - v)).sum(-1, keepdim=True)
    return (pulled / temperature).to(kept.dtype), made


def _slope(name: str, p: Tensor, alpha: Tensor | None) -> Tensor:
    if name == "sparsemax":
        return torch.where(p.isnan(), p, p.sign())  # the sign of NaN would be 0
    if name == "entmax15" or alpha is not None:
        safe = torch.where(p > 0.0, p, 1.0)
        root = safe.sqrt() if alpha is None else safe ** (2.0 - alpha)
        return torch.where(p > 0.0, root, p)  # p there is 0 or NaN
    return p


def _alpha_part(p: Tensor, q: Tensor, d: Tensor) -> Tensor:
    """`-p d(log p)/d(alpha)` at a fixed threshold: `(q - p + d p log p) / d^2`, at d = 0 `p (log p)^2 / 2`."""
    safe = torch.where(p > 0.0, p, 1.0)
    logarithm = safe.log()
    u = -d * logarithm
    small = u < 0.5
    near = torch.where(small, u, 0.0)
    series = torch.ones_like(near)
    for power in range(17, 2, -1):  # 2 (e^u - 1 - u) / u^2
        series = 1.0 + near * series / power
    far = torch.where(small, 1.0, d)
    part = torch.where(small, 0.5 * safe * logarithm.square() * series, (q - p + d * p * logarithm) / far.square())
    return torch.where(p > 0.0, part, p)


def _solu(scores: Tensor, v: Tensor, temperature: float) -> Tensor:
    from softplace.maps.simplex import softmax

    p = softmax(scores, temperature=temperature)
    w = torch.where((p == 0.0) | (scores == torch.inf), 0.0, scores / temperature)
    return p * (v + (v * w - (v * w * p).sum(-1, keepdim=True)))

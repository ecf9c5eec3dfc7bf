"""Cross-entropy of a linear layer's logits, by blocks of words: the logits of a batch are never all in memory.

Axis legend: N words, E width of a feature, V words of the vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 512
"""Words at a time: their logits stay in the processor's cache."""


def linear_cross_entropy(
    features: Tensor, weight: Tensor, bias: Tensor, target: Tensor, *, smoothing: float = 0.0, ignored: int = -100
) -> tuple[Tensor, Tensor]:
    """Sums over words of the smoothed loss, and of the plain one, which has no gradient.

        s_n = weight h_n + bias, plain_n = log sum_v exp(s_nv) - s_n,y
        loss_n = (1 - e) plain_n + e / V sum_v (log sum_u exp(s_nu) - s_nv)

    which is `torch.nn.functional.cross_entropy(s, y, label_smoothing=e, reduction="sum")`. The gradient is computed
    with the loss, while a block's logits are there. Under autocast products are in its dtype; all else, and sums, are
    in float32 at least.

    Args:
        features: h, (N, E).
        weight: (V, E).
        bias: (V,).
        target: y, (N,).
        smoothing: e, in [0, 1].
        ignored: The target of words that do not count.
    """
    loss, plain = _Loss.apply(features, weight, bias, target, smoothing, ignored)  # type: ignore[no-untyped-call]
    return loss, plain


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, target: Tensor, smoothing: float, ignored: int
    ) -> tuple[Tensor, Tensor]:
        device = features.device.type
        narrow = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        wide = torch.promote_types(narrow, torch.float32)
        learns = any(ctx.needs_input_grad)
        with torch.autocast(device, enabled=False):
            words = (target != ignored).nonzero().squeeze(-1)
            matrix, row = weight.to(narrow), bias.to(narrow)
            given = features.new_zeros(features.shape)
            of_weight, of_bias = (torch.zeros_like(each, dtype=wide) for each in (weight, bias))
            loss, plain = (torch.zeros((), dtype=wide, device=features.device) for _ in range(2))
            for some in torch.split(words, BLOCK):
                seen, wanted = features[some].to(narrow), target[some].unsqueeze(-1)
                logits = torch.addmm(row, seen, matrix.mT).to(wide)
                total = logits.logsumexp(-1, keepdim=True)
                own = (total - logits.gather(-1, wanted)).sum()
                plain += own
                loss += (
                    own
                    if smoothing == 0.0
                    else (1.0 - smoothing) * own + smoothing * (total.sum() - logits.mean(-1).sum())
                )
                if learns:
                    shares = logits.sub_(total).exp_()
                    if smoothing:
                        shares -= smoothing / logits.shape[-1]
                    shares.scatter_add_(-1, wanted, shares.new_full(wanted.shape, smoothing - 1.0))
                    of_bias += shares.sum(0)
                    small = shares.to(narrow)
                    given[some] = (small @ matrix).to(given.dtype)
                    of_weight += small.mT @ seen
        if learns:
            ctx.save_for_backward(given, of_weight.to(weight.dtype), of_bias.to(bias.dtype))
        ctx.mark_non_differentiable(plain)
        return loss, plain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss: Tensor, plain: Tensor) -> tuple[Tensor | None, ...]:
        given, of_weight, of_bias = ctx.saved_tensors
        return given * loss, of_weight * loss, of_bias * loss, None, None, None

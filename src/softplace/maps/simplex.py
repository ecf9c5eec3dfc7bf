"""Dense maps onto the probability simplex: softmax and its kin.

Axis legend: `dim` is the axis of the scores; every other axis is a batch axis.
"""

import math

import torch
from torch import Tensor

from softplace.maps import _kernel
from softplace.maps._arguments import can_look, centred, kind, masked, per_row, prepare, wide_type


def softmax(
    scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0, out: Tensor | None = None
) -> Tensor:
    """Softmax, `p_i = exp(s_i / t) / sum_j exp(s_j / t)`.

    Args:
        scores: Real scores, any shape. +inf and -inf follow the limit; NaN makes its whole row NaN.
        dim: Axis whose entries sum to one.
        mask: Boolean, broadcastable to `scores`; `True` = take part. An entry that is left out gets weight zero; a row
            in which nothing takes part, or all scores are -inf, gets all-zero weights and zero gradient.
        temperature: Positive divisor of the scores.
        out: Where the weights are written, a tensor like `scores`, when no gradient is recorded: fresh memory of tens
            of megabytes can cost more than the arithmetic.

    Returns:
        Weights of the shape and dtype of `scores`. Half precisions are computed in float32.

    Raises:
        TypeError: `scores` is not a floating-point tensor, `mask` is not boolean, or `dim` or `temperature` no number.
        ValueError: `dim` is out of range, `temperature` is not positive and finite, `mask` does not broadcast to
            `scores` or lies on another device, or `out` is not like `scores`.

    Source: Bridle 1990, eq. 5. We add the mask and the temperature.

    >>> import torch
    >>> weights = softmax(torch.tensor([3.00, 2.0, 1.00, 0.10]))
    >>> [round(weight, 3) for weight in weights.tolist()], round(weights.sum().item(), 6)
    ([0.642, 0.236, 0.087, 0.035], 1.0)
    """
    scores, dim, mask = prepare("softmax", scores, dim, mask, temperature)
    return _kernel.run("softmax", _softmax, masked(scores, mask), dim, temperature, out=out)


def _softmax(scores: Tensor, dim: int, temperature: float) -> Tensor:
    if temperature == 1.0 and can_look(scores):
        weights = torch.softmax(scores, dim)
        if not bool(weights.narrow(dim, 0, 1).isnan().any() if weights.dim() else weights.isnan()):
            return weights.to(scores.dtype)
    z, alive = centred(scores, dim, temperature)
    weights = torch.softmax(z, dim)
    return (weights if alive is None else weights * alive).to(scores.dtype)


def log_softmax(
    scores: Tensor, dim: int = -1, *, mask: Tensor | None = None, temperature: float = 1.0, out: Tensor | None = None
) -> Tensor:
    """Logarithm of softmax, `l_i = s_i / t - log(sum_j exp(s_j / t))`, exact where the weight is too small for a float.

    Arguments and errors as `softmax`; where `softmax` gives weight 0 by a mask or by the limit, this gives -inf, with
    zero gradient.

    >>> import torch
    >>> [round(value, 4) for value in log_softmax(torch.tensor([0.0, -1000.0])).tolist()]
    [0.0, -1000.0]
    """
    scores, dim, mask = prepare("log_softmax", scores, dim, mask, temperature)
    return _kernel.run("log_softmax", _log_softmax, masked(scores, mask), dim, temperature, out=out)


def _log_softmax(scores: Tensor, dim: int, temperature: float) -> Tensor:
    z, alive = centred(scores, dim, temperature)
    # Where, not the -inf that comes by itself: no gradient shall pass there.
    left_out = z == -math.inf if alive is None else (z == -math.inf) | ~alive
    return torch.where(left_out, -math.inf, torch.log_softmax(z, dim)).to(scores.dtype)


def softmax1(
    scores: Tensor,
    dim: int = -1,
    *,
    sink: float | Tensor = 0.0,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    out: Tensor | None = None,
) -> Tensor:
    """Softmax with a sink, `p_i = exp(s_i / t) / (exp(k / t) + sum_j exp(s_j / t))`: weights may sum to less than one.

    Args:
        sink: Score k of one more entry that takes its share and gives nothing. 0 is the "off by one" softmax; a tensor
            (of one sink, or one per row or head: it broadcasts to the scores, with size 1 along `dim`) may be learned.
        scores, dim, mask, temperature, out: as `softmax`.

    Returns:
        Weights that sum to `1 - exp(k / t) / (...)`. A row in which nothing takes part gets zeros, as always.

    Raises:
        As `softmax`; and for a `sink` that is not a finite number, or a tensor of a wrong shape, dtype or device.

    Source: Miller 2023 ("Attention is off by one"), and, learned per head, Xiao et al. 2023 (arXiv:2309.17453).

    >>> import torch
    >>> [round(weight, 3) for weight in softmax1(torch.tensor([0.0, 0.0])).tolist()]
    [0.333, 0.333]
    """
    scores, dim, mask = prepare("softmax1", scores, dim, mask, temperature)
    sink = _checked_sink(sink, scores, dim)
    return _kernel.run("softmax1", _softmax1, masked(scores, mask), dim, temperature, sink, out=out)


def _softmax1(scores: Tensor, dim: int, temperature: float, sink: Tensor) -> Tensor:
    if scores.dim() == 0:
        return _softmax1(scores[None], -1, temperature, sink)[0]
    dtype, rows = wide_type(scores.dtype), list(scores.shape)
    rows[dim] = 1
    both = torch.cat([scores.to(dtype), sink.to(dtype).expand(rows)], dim)
    return _softmax(both, dim, temperature).narrow(dim, 0, scores.shape[dim]).to(scores.dtype)


def _checked_sink(sink: float | Tensor, scores: Tensor, dim: int) -> Tensor:
    if not isinstance(sink, Tensor):
        if not isinstance(sink, (int, float)) or isinstance(sink, bool):
            raise TypeError(f"'sink' of softmax1 must be a number or a tensor. Got {kind(sink)}. Use 0.0 for none.")
        if not -math.inf < sink < math.inf:
            raise ValueError(f"'sink' of softmax1 must be finite. Got {sink}. Use softmax for a sink of no weight.")
        return torch.tensor(float(sink), dtype=wide_type(scores.dtype), device=scores.device)
    if can_look(sink) and not bool(sink.isfinite().all()):
        wrong = sink.detach()[~sink.isfinite()].flatten()[0].item()
        raise ValueError(f"'sink' of softmax1 must be finite. Got {wrong}. Use softmax for a sink of no weight.")
    return per_row("sink", "softmax1", sink, scores, dim)


def gumbel_softmax(
    scores: Tensor,
    dim: int = -1,
    *,
    hard: bool = False,
    generator: torch.Generator | None = None,
    mask: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """A random point of the simplex, `p = softmax((s + g) / t)`, g independent standard Gumbel noise.

    As t falls it tends to a sample of the categorical distribution `softmax(s)`, one-hot.

    Args:
        hard: Straight through: returns the one-hot of the largest weight exactly, with the gradient of the weights.
        generator: Of the random numbers, on the scores' device; without, PyTorch's own.
        scores, dim, mask, temperature: as `softmax`.

    The noise is drawn in float32 (float64 for float64 scores), whatever the dtype: PyTorch's own draws in the dtype of
    the scores, which gives NaN in float16 and ties in bfloat16. The same seed gives the same numbers whatever the
    number of threads, but not the same in the kernel (Threefry-2x32-20 of Salmon et al. 2011) and on the plain path.

    Raises:
        ValueError: `generator` is on another device, or as `softmax`.

    Source: Jang, Gu and Poole 2017 (arXiv:1611.01144), eq. 2; Maddison, Mnih and Teh 2017 (arXiv:1611.00712), eq. 10.

    >>> import torch
    >>> gumbel_softmax(torch.zeros(4), hard=True, generator=torch.Generator().manual_seed(0)).sum().item()
    1.0
    """
    scores, dim, mask = prepare("gumbel_softmax", scores, dim, mask, temperature)
    if not isinstance(hard, bool):
        raise TypeError(f"'hard' of gumbel_softmax must be True or False. Got {kind(hard)}.")
    if generator is not None:
        if not isinstance(generator, torch.Generator):
            raise TypeError(
                f"'generator' of gumbel_softmax must be a torch.Generator. Got {kind(generator)}. "
                "Use torch.Generator(scores.device).manual_seed(0)."
            )
        if generator.device.type != scores.device.type:
            raise ValueError(
                f"'generator' of gumbel_softmax must be on the scores' device, {scores.device}. "
                f"Got {generator.device}. Use torch.Generator(scores.device)."
            )

    def plain(scores: Tensor, dim: int, temperature: float) -> Tensor:
        wide = scores.to(wide_type(scores.dtype))
        # Contiguous: the numbers shall not depend on how the scores lie in memory.
        noise = torch.empty_like(wide, memory_format=torch.contiguous_format).exponential_(generator=generator)
        noise = noise.clamp(min=torch.finfo(wide.dtype).tiny).log()
        return _softmax(wide - noise, dim, temperature).to(scores.dtype)

    def key() -> int:
        return int(torch.randint(2**63 - 1, (), dtype=torch.int64, generator=generator))

    weights = _kernel.run("gumbel_softmax", plain, masked(scores, mask), dim, temperature, key=key)
    if not hard or weights.numel() == 0:
        return weights
    fixed = weights.detach()
    largest = torch.zeros_like(fixed).scatter(dim, fixed.argmax(dim, keepdim=True), 1.0)
    # A row of zeros has no largest entry, and one with NaN stays what it is.
    one_hot = torch.where(fixed.amax(dim, keepdim=True) > 0.0, largest, fixed)
    return one_hot + (weights - fixed)

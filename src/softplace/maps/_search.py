"""The support and threshold of the sparse maps, found by Newton's method: weights without derivatives.

Axis legend: `dim` is the axis of the scores; every other axis is a batch axis. `z` are scores less their maximum.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from softplace.maps import _kernel
from softplace.maps._arguments import can_look


def search(name: str, z: Tensor, dim: int, alpha: Tensor | None = None) -> Tensor:
    """The weights of a sparse map, to rounding, through which no derivative passes."""
    z, alpha = z.detach(), None if alpha is None else alpha.detach()
    if z.is_cpu and not torch.compiler.is_exporting() and torch._C._get_tracing_state() is None:
        found: Tensor = _searched(name, z, dim, alpha)
        return found
    return _iterated(name, z, dim, alpha)


# One operator for `torch.compile`, which would unroll the loop, and for `vmap`, under which nobody may look whether it
# is done: in both the kernel serves.
@torch.library.custom_op("softplace::search", mutates_args=())
def _searched(name: str, z: Tensor, dim: int, alpha: Tensor | None) -> Tensor:
    if z.numel() == 0:
        return z.clone(memory_format=torch.contiguous_format)
    result: Tensor = _kernel.run(name, _plain(name), z, dim, 1.0, alpha)
    return result.contiguous()


@_searched.register_fake
def _(name: str, z: Tensor, dim: int, alpha: Tensor | None) -> Tensor:
    return torch.empty_like(z, memory_format=torch.contiguous_format)


@_searched.register_vmap
def _(
    info: object,
    in_dims: tuple[None, int | None, None, int | None],
    name: str,
    z: Tensor,
    dim: int,
    alpha: Tensor | None,
) -> tuple[Tensor, int]:
    members = info.batch_size  # type: ignore[attr-defined]
    z = z.expand(members, *z.shape) if in_dims[1] is None else z.movedim(in_dims[1], 0)
    single = z.dim() == 1  # 0-d scores: the axis of the members is not theirs
    z = z[:, None] if single else z
    if alpha is not None and in_dims[3] is not None:
        alpha = alpha.movedim(in_dims[3], 0)
        alpha = alpha.reshape(members, *(1,) * (z.dim() - alpha.dim()), *alpha.shape[1:])
    found = _searched(name, z, dim, alpha)
    return found[:, 0] if single else found, 0


def _plain(name: str) -> Callable[..., Tensor]:
    return lambda z, dim, _, *alpha: _iterated(name, z, dim, *alpha)


def _iterated(name: str, z: Tensor, dim: int, alpha: Tensor | None = None) -> Tensor:
    if alpha is not None:
        d = alpha - 1.0
        return power(z, _entmax_lead(z, d, dim), d)[0]
    if name == "sparsemax":
        return torch.relu(z - _threshold(z, dim))
    return torch.relu(0.5 * z - _threshold(0.5 * z, dim, squared=True)).square()


def _threshold(z: Tensor, dim: int, *, squared: bool = False) -> Tensor:
    """tau of `sum max(z - tau, 0) = 1`, or of `||max(z - tau, 0)||_2 = 1`: convex, and increasing from the left."""
    threshold = torch.full_like(z.amax(dim, keepdim=True), -1.0)
    for _ in range(_steps(z, dim)):
        excess = torch.relu(z - threshold)
        before = threshold
        if squared:
            mass = excess.square().sum(dim, keepdim=True)
            threshold = before + (mass - mass.sqrt()) / excess.sum(dim, keepdim=True)
        else:
            threshold = before + (excess.sum(dim, keepdim=True) - 1.0) / excess.sign().sum(dim, keepdim=True)
        if can_look(threshold) and torch.equal(before, threshold):
            break
    return threshold


def _entmax_lead(z: Tensor, d: Tensor, dim: int) -> Tensor:
    """The logarithm l of the largest weight, where `sum p = 1`.

    Newton's method on the norm `||.||_(1 / d)` in `e^(d l)`, convex for alpha <= 2; halving outside the bracket.
    """
    lead = torch.zeros_like(z.amax(dim, keepdim=True)) * (1.0 + d)
    low, high = torch.full_like(lead, -math.log(z.shape[dim] if z.dim() else 1) - 0.01), lead
    rounding = 4 * torch.finfo(z.dtype).eps
    for _ in range(2 * _steps(z, dim)):
        mass, slope = total(z, lead, d, dim)
        logarithm = mass.log()
        v = d * logarithm
        r = mass * logarithm * torch.where(v == 0.0, 1.0, -torch.expm1(-v) / v) / slope
        step = lead - r * log1p_ratio(-d * r)
        low, high = torch.where(mass > 1.0, low, lead), torch.where(mass > 1.0, lead, high)
        step = torch.where((step > low) & (step < high), step, 0.5 * (low + high))
        done = ((mass - 1.0).abs() <= rounding) | mass.isnan()
        lead = torch.where(done, lead, step)
        if can_look(lead) and bool(done.all()):
            break
    return lead


def _steps(z: Tensor, dim: int) -> int:
    """Steps of Newton's method after which only rounding is left.

    With slope g and value f, `f'/f + g'/g <= 1` from one step to the next, so f g falls at least four times per step.
    """
    size = z.shape[dim] if z.dim() else 1
    bits = 53 if z.dtype == torch.float64 else 24
    return math.ceil(math.log2(size) + bits / 2) if size > 1 else 0


def total(z: Tensor, lead: Tensor, d: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The sum of the weights, and its derivative in `lead`."""
    p, slope = power(z, lead, d)
    return p.sum(dim, keepdim=True), slope.sum(dim, keepdim=True)


def power(z: Tensor, lead: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """`p = e^l max(1 + d z e^(-d l), 0)^(1 / d)` and its derivative in the logarithm l of the largest weight.

    At d = 0 both are `exp(l + z)`. Nothing cancels, however small the weights and large d.
    """
    most = 0.9 * math.log(torch.finfo(z.dtype).max)
    w = z * (-d * lead).clamp(max=most).exp()
    u = d * w
    outside = u <= -1.0
    u, w = torch.where(outside, 0.0, u), torch.where(outside, 0.0, w)
    p = torch.where(outside, 0.0, (lead + w * log1p_ratio(u)).exp())
    return p, p / (1.0 + u)


def log1p_ratio(u: Tensor) -> Tensor:
    """`log(1 + u) / u`, smooth at 0."""
    small = u.abs() < 0.05
    series = torch.zeros_like(u)
    near = torch.where(small, u, 0.0)
    for order in range(13, 0, -1):  # 0.05^13 is rounding in float64
        series = 1.0 / order - near * series
    far = torch.where(small, 1.0, u)
    return torch.where(small, series, torch.log1p(far) / far)

"""REBAR and RELAX: the score function less a control variate that is a function of the noise, its mean put back.

With scores `z = log p + g`, g Gumbel noise, and `b` the one-hot of their argmax, both papers estimate

    (f(b) - c(z~)) d log p(b) + d c(z) - d c(z~),        z~ drawn given b, by noise v of its own.

We tie v to g, as the code of Tucker et al. does, so that z~ = z in value and only their derivatives differ: of the k-th
score they are 1 and `1 - exp(z_k - max z)`, with respect to log p_k. The difference of the two last terms is therefore
`c'(z)_k exp(z_k - max z)`, and one evaluation of the control with its gradient does for both.

Axis legend: S samples, *B batch, N categoricals, K classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from softplace import maps
from softplace.errors import InputError
from softplace.latent.estimators._parts import (
    FLOOR,
    Estimate,
    Loss,
    Source,
    attach,
    check,
    check_positive,
    evaluate,
    exponential,
    hot,
    mean,
    per_element,
    transformed,
    wide,
)
from softplace.maps._arguments import kind


def rebar(
    logits: Tensor,
    loss: Loss,
    *,
    samples: int = 1,
    generator: Source = None,
    temperature: float | Tensor = 0.5,
    eta: float | Tensor = 1.0,
) -> Estimate:
    """REBAR: REINFORCE whose control variate is the loss of a Gumbel-softmax sample, `c(z) = eta loss(softmax(z / t))`.

    Args:
        logits: (*B, N, K).
        loss: From samples (..., *B, N, K) to losses (..., *B); it must be defined and differentiable inside the
            simplex.
        samples: S.
        generator: Of the random numbers, on the logits' device; without, PyTorch's own.
        temperature: t, a number or a tensor that broadcasts to (*B).
        eta: Scale of the control, likewise; any number leaves the estimate unbiased.

    Returns:
        `variance`, where `temperature` or `eta` is a tensor: minimise it to learn them. Its gradient reaches these two
        alone (under transforms of `torch.func` and the compiler it reaches the loss's parameters too).

    Unbiased. Two losses per sample, in one call.

    Raises:
        InputError: A temperature that is not positive, or an argument that cannot be used.

    Source: Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein 2017 (arXiv:1703.07370); categorical as in
    Grathwohl et al. 2018.
    """
    check("rebar", logits, loss, samples, generator)
    return _rebar("rebar", logits, loss, samples, generator, temperature, eta)


def _rebar(
    name: str,
    logits: Tensor,
    loss: Loss,
    samples: int,
    generator: Source,
    temperature: float | Tensor,
    eta: float | Tensor,
) -> Estimate:
    check_positive(name, "temperature", temperature)
    scale = _spread(per_element(name, "temperature", temperature, logits))
    height = per_element(name, "eta", eta, logits)
    learned = [each for each in (temperature, eta) if isinstance(each, Tensor)]
    noisy = _Noisy(logits, samples, generator)

    def losses_of(scores: Tensor) -> Tensor:
        relaxed = maps.softmax(scores / scale, -1).to(logits.dtype)
        return evaluate(name, loss, torch.cat([noisy.one_hot, relaxed]))

    both, slope = _value_and_slope(losses_of, noisy.scores, samples, graph=bool(learned))
    losses, control = both[:samples], wide(both[samples:])
    direction = noisy.direction(wide(losses.detach()), height * control, _spread(height) * slope)
    surrogate = attach(mean(losses), logits, direction)
    variance = _variance_of(direction, learned) if learned else None
    return Estimate(surrogate, losses.detach(), noisy.one_hot, variance)


def relax(
    logits: Tensor,
    loss: Loss,
    *,
    samples: int = 1,
    generator: Source = None,
    control: Callable[[Tensor], Tensor] | None = None,
) -> Estimate:
    """RELAX: REINFORCE with a control variate that is any differentiable function c of the noisy scores z.

    Args:
        logits: (*B, N, K).
        loss: From samples (..., *B, N, K) to losses (..., *B); no gradient of it with respect to samples is needed.
        samples: S.
        generator: Of the random numbers, on the logits' device; without, PyTorch's own.
        control: c, from scores z = log softmax(logits) + Gumbel noise, (..., *B, N, K), to numbers (..., *B); scores
            below -10,000 (classes of no probability) are raised to that. A network that learns, for one.
            None: `loss(softmax(z))`, which makes it `rebar` with a temperature of 1.

    Returns:
        `variance`, where a control is given: minimise it to train the control. Its gradient reaches whatever the
        control depends on, and nothing else.

    Unbiased, whatever the control is. One loss and one control per sample; without a control, two losses in one call.

    Raises:
        InputError: A control that returns another shape, or an argument that cannot be used.

    Source: Grathwohl, Choi, Wu, Roeder and Duvenaud 2018 (arXiv:1711.00123).
    """
    check("relax", logits, loss, samples, generator)
    if control is not None and not callable(control):
        raise InputError(f"'control' of relax must be a function of scores (..., N, K). Got {kind(control)}. Use None.")
    if control is None:
        return _rebar("relax", logits, loss, samples, generator, 1.0, 1.0)
    noisy = _Noisy(logits, samples, generator)
    losses = evaluate("relax", loss, noisy.one_hot)

    def value_of(scores: Tensor) -> Tensor:
        found = control(scores.to(logits.dtype))
        if not isinstance(found, Tensor) or found.shape != scores.shape[:-2]:
            got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else kind(found)
            raise InputError(
                f"'control' of relax must return one number per sample, {tuple(scores.shape[:-2])}. Got {got}. "
                "Treat leading axes as batch."
            )
        return wide(found)

    value, slope = _value_and_slope(value_of, noisy.scores, 0, graph=True)
    direction = noisy.direction(wide(losses.detach()), value, slope)
    surrogate = attach(mean(losses), logits, direction)
    return Estimate(surrogate, losses.detach(), noisy.one_hot, direction.square().sum())


class _Noisy:
    """Samples by noisy scores, and the estimate that both estimators make of them; nothing here has a gradient."""

    def __init__(self, logits: Tensor, samples: int, generator: Source) -> None:
        log_weights = maps.log_softmax(wide(logits.detach()), -1)
        self.weights = log_weights.exp()
        scores = log_weights - exponential(samples, log_weights, generator).log()
        top, index = scores.max(-1, keepdim=True)
        self.one_hot = hot(index.squeeze(-1), logits, self.weights.sum(-1, keepdim=True))
        self.untied = (scores - top.masked_fill(top.isinf(), 0.0)).exp()
        """What the derivative of a score has more than that of a score drawn given the sample."""
        self.scores = scores.clamp(min=FLOOR)

    def direction(self, losses: Tensor, control: Tensor, slope: Tensor) -> Tensor:
        """(*B, N, K), by losses (S, *B), the control (S, *B) and its slope (S, *B, N, K)."""
        by_log = ((losses - control)[..., None, None] * self.one_hot + slope * self.untied).mean(0)
        return by_log - self.weights * by_log.sum(-1, keepdim=True)


def _value_and_slope(
    function: Callable[[Tensor], Tensor], at: Tensor, skip: int, *, graph: bool
) -> tuple[Tensor, Tensor]:
    """`function(at)`, and the gradient of the sum of all its values but the first `skip` along the first axis.

    Args:
        graph: Whether the gradient shall be differentiable with respect to what else the function depends on.
    """
    if transformed():
        values, pull = torch.func.vjp(function, at)[:2]
        along = torch.ones_like(values)
        if skip:
            along = torch.cat([torch.zeros_like(along[:skip]), along[skip:]])
        return values, pull(along)[0]
    wanted = torch.is_grad_enabled()
    with torch.enable_grad():
        leaf = at.detach().requires_grad_()
        values = function(leaf)
        if values.requires_grad:
            (slope,) = torch.autograd.grad(
                values[skip:].sum(), leaf, create_graph=graph and wanted, retain_graph=True, materialize_grads=True
            )
        else:
            slope = torch.zeros_like(at)
    return (values if wanted else values.detach()), slope


def _variance_of(direction: Tensor, learned: list[Tensor]) -> Tensor:
    """The squared length of the estimate, with a gradient for what is learned alone."""
    total = direction.square().sum()
    if transformed():
        return total
    leaves = [each for each in learned if each.requires_grad]
    variance = total.detach()
    if not leaves or not total.requires_grad:
        return variance
    slopes = torch.autograd.grad(total, leaves, retain_graph=True, materialize_grads=True)
    for leaf, slope in zip(leaves, slopes, strict=True):
        variance = variance + (slope.detach() * (leaf - leaf.detach())).sum()
    return variance


def _spread(value: float | Tensor) -> float | Tensor:
    """(*B) -> (*B, 1, 1)."""
    return value[..., None, None] if isinstance(value, Tensor) else value

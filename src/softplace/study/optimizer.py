"""Standard optimizers with a learning rate per member.

Axis legend: M members. Every parameter is (M, ...).

PyTorch's fused kernels take one learning rate for all. They are used exactly nevertheless: the kernel moves a shadow
that is zero by a learning rate of 1, and the shadow times the member's rate is added to the parameter. Weight decay,
which needs the parameter itself, is applied by hand. Inside `torch.compile` the formula is written out instead, for the
compiler to fuse. Gradients are clipped member by member.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adam import adam


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1), as `torch.optim.Adam`; `decoupled` makes it AdamW.

    Args:
        betas: Decay of the running averages of the gradient and of its square.
        epsilon: Added to the root of the second average.
        weight_decay: L2 penalty added to the gradient, or with `decoupled` the share of a parameter that each step
            takes away per unit of learning rate (Loshchilov and Hutter 2019, algorithm 2).
        decoupled: See `weight_decay`.
        clip: The largest norm of a member's gradient over all its parameters, see `clipped`; `None`: any.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False
    clip: float | None = None

    def start(self, parameters: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """The state before the first step: tensors like the parameters, by name."""
        return {name: [torch.zeros_like(p) for p in parameters] for name in ("average", "square")}

    @torch.no_grad()
    def step(
        self,
        parameters: Sequence[Tensor],
        gradients: Iterable[Tensor],
        state: dict[str, list[Tensor]],
        rates: Tensor,
        step: Tensor,
    ) -> None:
        """Move the parameters and the state in place.

        Args:
            rates: Learning rates, (M,).
            step: How many steps were made before, a float64 scalar.
        """
        gradients = list(gradients) if self.clip is None else clipped(gradients, self.clip)
        columns = [rates.view(-1, *(1,) * (p.ndim - 1)) for p in parameters]
        if self.weight_decay and self.decoupled:
            for parameter, rate in zip(parameters, columns, strict=True):
                parameter.mul_(1.0 - rate * self.weight_decay)
        elif self.weight_decay:
            gradients = [g.add(p, alpha=self.weight_decay) for g, p in zip(gradients, parameters, strict=True)]
        if torch.compiler.is_compiling():
            self._by_formula(parameters, gradients, state, columns, step)
            return
        shadows = [torch.zeros_like(p) for p in parameters]
        # The kernel goes through memory in order, whatever the strides; a gradient of `vmap` may lie transposed.
        gradients = [
            g if g.stride() == p.stride() else torch.empty_like(p).copy_(g)
            for g, p in zip(gradients, shadows, strict=True)
        ]
        adam(
            shadows,
            gradients,
            state["average"],
            state["square"],
            [],
            [step.float() for _ in gradients],
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=1.0,
            weight_decay=0.0,
            eps=self.epsilon,
            maximize=False,
        )
        for parameter, rate, shadow in zip(parameters, columns, shadows, strict=True):
            parameter.addcmul_(rate, shadow)

    def _by_formula(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        state: dict[str, list[Tensor]],
        columns: Sequence[Tensor],
        step: Tensor,
    ) -> None:
        first, second = self.betas
        correction, root_correction = 1.0 - first ** (step + 1.0), torch.sqrt(1.0 - second ** (step + 1.0))
        averages, squares = state["average"], state["square"]
        for parameter, gradient, rate, average, square in zip(
            parameters, gradients, columns, averages, squares, strict=True
        ):
            average.lerp_(gradient, 1.0 - first)
            square.mul_(second).addcmul_(gradient, gradient, value=1.0 - second)
            root = square.sqrt() / root_correction.to(square.dtype) + self.epsilon
            parameter.sub_(rate * (average / correction.to(average.dtype)) / root)


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Gradient descent with momentum, as `torch.optim.SGD` without damping: `b = momentum b + g`, `p = p - rate b`.

    Args:
        momentum: 0 for none.
        weight_decay: L2 penalty added to the gradient.
        clip: As in `Adam`.
    """

    momentum: float = 0.0
    weight_decay: float = 0.0
    clip: float | None = None

    def start(self, parameters: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """As `Adam.start`."""
        return {"velocity": [torch.zeros_like(p) for p in parameters]}

    @torch.no_grad()
    def step(
        self,
        parameters: Sequence[Tensor],
        gradients: Iterable[Tensor],
        state: dict[str, list[Tensor]],
        rates: Tensor,
        step: Tensor,
    ) -> None:
        """As `Adam.step`."""
        gradients = gradients if self.clip is None else clipped(gradients, self.clip)
        for parameter, gradient, velocity in zip(parameters, gradients, state["velocity"], strict=True):
            if self.weight_decay:
                gradient = gradient.add(parameter, alpha=self.weight_decay)
            velocity.mul_(self.momentum).add_(gradient)
            parameter.addcmul_(rates.view(-1, *(1,) * (parameter.ndim - 1)), velocity, value=-1.0)


Optimizer = Adam | SGD


def clipped(gradients: Iterable[Tensor], largest: float) -> list[Tensor]:
    """Scale every member's gradient down to a norm of `largest`, over all its parameters; a smaller one stays.

    `g min(1, largest / |g|)`, (M, ...) each, as `torch.nn.utils.clip_grad_norm_` but for its 1e-6 in the divisor. A
    gradient with an infinity or NaN becomes NaN, so that the member counts as diverged.

    Source: Pascanu, Mikolov and Bengio 2013 (arXiv:1211.5063), algorithm 1.
    """
    given = list(gradients)
    squares = torch.stack([each.flatten(1).square().sum(1) for each in given])
    norms = squares.sum(0).sqrt()
    factors = torch.where(norms > largest, largest / norms, 1.0)
    return [each * factors.view(-1, *(1,) * (each.ndim - 1)) for each in given]

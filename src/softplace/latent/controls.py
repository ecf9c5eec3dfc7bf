"""What an estimator learns beside the network: baselines and control variates.

Axis legend: B batch, D inputs, N variables, K classes.

`NAMES` are the estimators that have one here; all others need none.
"""

from typing import Any

import torch
from torch import Tensor, nn

from softplace.latent.estimators import Estimate, MovingAverage, SignalMoments

NAMES = ("reinforce", "nvil", "rebar", "relax")
_HIDDEN = 50


class Control(nn.Module):
    """The options of an estimator that change while it trains: `control.options(x)`, and afterwards `control.update`.

    - "reinforce": a moving average of the losses as the baseline.
    - "nvil": a network from the inputs to a baseline, and moments of the signal.
    - "rebar": the temperature and the scale of its control, learned by the variance.
    - "relax": a network of the noisy scores, learned by the variance.

    Moving numbers are buffers, so that a checkpoint has them.

    Args:
        estimator: One of `NAMES`.
        inputs: D, of "nvil".
        variables, classes: N and K, of "relax".
    """

    moments: Tensor
    average: Tensor
    baseline: nn.Module
    network: nn.Module

    def __init__(self, estimator: str, inputs: int, variables: int, classes: int) -> None:
        super().__init__()
        self.estimator = estimator
        if estimator == "nvil":
            self.baseline = nn.Sequential(nn.Linear(inputs, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, 1))
            moments = SignalMoments()
            self.register_buffer("moments", torch.tensor([moments.mean, moments.variance]))
        elif estimator == "reinforce":
            self.register_buffer("average", torch.tensor([0.0, 0.0]))  # value, updates
        elif estimator == "rebar":
            self.log_temperature = nn.Parameter(torch.tensor(0.5).log())
            self.eta = nn.Parameter(torch.tensor(1.0))
        elif estimator == "relax":
            self.network = nn.Sequential(nn.Linear(variables * classes, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, 1))

    def options(self, inputs: Tensor) -> dict[str, Any]:
        """What to give the estimator beside its fixed options."""
        if self.estimator == "nvil":
            moments = SignalMoments(mean=self.moments[0].clone(), variance=self.moments[1].clone())
            return {"baseline": self.baseline(inputs).squeeze(-1), "moments": moments}
        if self.estimator == "reinforce":
            return {"baseline": self.average[0].clone()}
        if self.estimator == "rebar":
            return {"temperature": self.log_temperature.exp(), "eta": self.eta}
        return {"control": lambda scores: self.network(torch.softmax(scores, -1).flatten(-2)).squeeze(-1)}

    @torch.no_grad()
    def update(self, estimate: Estimate, options: dict[str, Any]) -> None:
        """Move what moves, by the estimate that these options gave."""
        if self.estimator == "nvil":
            after = options["moments"].update(estimate.losses - options["baseline"])
            self.moments.copy_(torch.stack([torch.as_tensor(after.mean), torch.as_tensor(after.variance)]))
        elif self.estimator == "reinforce":
            value, updates = self.average.tolist()
            after = MovingAverage(value=value, updates=int(updates)).update(estimate.losses)
            self.average.copy_(torch.tensor([float(after.value), float(after.updates)]))


def control_for(estimator: str, inputs: int, variables: int, classes: int) -> Control | None:
    """The control of an estimator; None where it needs none."""
    return Control(estimator, inputs, variables, classes) if estimator in NAMES else None

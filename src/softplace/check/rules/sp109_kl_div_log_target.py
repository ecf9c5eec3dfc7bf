"""# SP109 kl-div-log-target

## What it finds
A target of `nn.KLDivLoss` or `F.kl_div` that does not fit its option `log_target`: log-probabilities without
`log_target=True`, or probabilities with it.

## Why it is wrong
Without `log_target` the loss takes the logarithm of the target: of log-probabilities, which are negative, that is NaN.
With it the loss takes the exponential of the target: of probabilities, that is between 1 and e, and no distribution.

## Wrong
```python
loss = F.kl_div(F.log_softmax(x, dim=1), F.log_softmax(t, dim=1), reduction="batchmean")
```

## Right
```python
loss = F.kl_div(F.log_softmax(x, dim=1), F.log_softmax(t, dim=1), reduction="batchmean", log_target=True)
```

## References
torch.nn.KLDivLoss, argument log_target.
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Rule
from softplace.check.losses import Family
from softplace.check.rules._context import MAKES, Context, certain, origin_of
from softplace.check.values import Constant, Kind


def _find(context: Context) -> Iterator[Finding]:
    for event in context.events.losses.values():
        if event.family != Family.DIVERGENCE or event.target is None or "**" in event.keywords:
            continue
        given = event.keywords.get("log_target")
        if given is not None and not isinstance(given, Constant):
            continue
        in_logs = isinstance(given, Constant) and bool(given.value)
        wrong = Kind.PROBABILITIES if in_logs else Kind.LOG_PROBABILITIES
        for tensor in certain(event.target, frozenset({wrong}))[:1]:
            option = "log_target=True" if in_logs else "no log_target=True"
            way_out = "Leave it out." if in_logs else "Add log_target=True, or give probabilities."
            yield RULE.finding(
                event.site,
                f"The target of {event.loss.name} are {MAKES[tensor.kind]} of {tensor.made_by}, with {option}. "
                f"{way_out}",
                place=context.place(tensor.origin),
                related=origin_of(tensor),
            )


RULE = Rule(code="SP109", name="kl-div-log-target", level=Level.ERROR, find=_find)

"""# SP104 softmax-into-kl-div

## What it finds
Probabilities as the first argument of `nn.KLDivLoss` or `F.kl_div`, which wants log-probabilities there.

## Why it is wrong
The loss computes `target * (log target - input)`. With probabilities as input it is not a divergence: it may be
negative and its least value is not where both are equal.

## Wrong
```python
loss = F.kl_div(F.softmax(student, dim=1), F.softmax(teacher, dim=1), reduction="batchmean")
```

## Right
```python
loss = F.kl_div(F.log_softmax(student, dim=1), F.softmax(teacher, dim=1), reduction="batchmean")
```

## References
torch.nn.KLDivLoss: "this loss expects the argument input in the log-space".
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Rule
from softplace.check.rules._context import Context, pairs


def _find(context: Context) -> Iterator[Finding]:
    yield from pairs(RULE, context, "Use log_softmax for the first argument.")


RULE = Rule(code="SP104", name="softmax-into-kl-div", level=Level.ERROR, find=_find)

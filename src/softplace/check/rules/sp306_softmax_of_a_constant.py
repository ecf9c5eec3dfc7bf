"""# SP306 softmax-of-a-constant

## What it finds
A softmax of a tensor that is a constant (`torch.zeros`, `torch.ones`, ...), and not a parameter.

## Why it is wrong
All weights are equal and nothing can change them: most often a `nn.Parameter` is missing.

## Wrong
```python
self.weights = torch.ones(4)
mixed = (F.softmax(self.weights, dim=0) * layers).sum(0)
```

## Right
```python
self.weights = nn.Parameter(torch.zeros(4))
```

## References
torch.nn.parameter.Parameter: only parameters are given to the optimizer.
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Rule
from softplace.check.names import SOFTMAX_NAMES
from softplace.check.rules._context import Context
from softplace.check.values import Kind, Site, Tensor


def _find(context: Context) -> Iterator[Finding]:
    seen: set[Site] = {
        event.site
        for event in context.events.normalised.values()
        if not (isinstance(event.given, Tensor) and event.given.kind == Kind.CONSTANT)
    }  # given a constant in one call alone, as by a path for errors, it is no mistake
    for event in context.events.normalised.values():
        given = event.given
        if event.operation not in SOFTMAX_NAMES or event.site in seen or not isinstance(given, Tensor):
            continue
        if given.kind == Kind.CONSTANT and "constant" in given.tags:
            seen.add(event.site)
            yield RULE.finding(
                event.site,
                f"{event.operation} of a constant: all weights are equal and stay so. Is a nn.Parameter missing?",
                place=context.place(event.result.origin),
            )


RULE = Rule(code="SP306", name="softmax-of-a-constant", level=Level.WARNING, find=_find)

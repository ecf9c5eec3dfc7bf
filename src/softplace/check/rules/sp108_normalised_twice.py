"""# SP108 normalised-twice

## What it finds
A softmax or sigmoid of what already is the output of one: softmax of softmax, sigmoid of softmax, sigmoid of sigmoid,
`Categorical(logits=...)` of probabilities. Over different dims (as in Sinkhorn's iteration) it is not reported.

## Why it is wrong
The second squeezes [0, 1] to nearly equal weights: of n classes none can get more than e / (e + n - 1). Probabilities
given as logits make a policy that is nearly uniform.

## Wrong
```python
self.net = nn.Sequential(nn.Linear(64, 10), nn.Softmax(dim=1))
probabilities = F.softmax(self.net(x), dim=1)
```

## Right
```python
self.net = nn.Linear(64, 10)
probabilities = F.softmax(self.net(x), dim=1)
```

## References
pytorch/pytorch#55902.
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Rule
from softplace.check.rules._context import MAKES, Context, certain, origin_of
from softplace.check.values import Kind, Site

_SQUEEZED = frozenset({Kind.PROBABILITIES, Kind.SIGMOID})
_NEEDLESS = frozenset({Kind.LOG_PROBABILITIES})
_SKIPPED = frozenset({"picked", "of maximum", "total", "averaged"})


def _find(context: Context) -> Iterator[Finding]:
    seen: set[tuple[Site, Site | None]] = set()
    for event in context.events.normalised.values():
        if event.operation == "gumbel_softmax":
            continue
        needless = event.operation == "log_softmax"
        for tensor in certain(event.given, _NEEDLESS if needless else _SQUEEZED) or (
            certain(event.given, _SQUEEZED) if needless else []
        ):
            dims = (event.dim, tensor.dim)
            over_another = None not in dims and dims[0] != dims[1] and -1 not in dims
            if tensor.tags & _SKIPPED or over_another or (event.site, tensor.origin) in seen:
                continue
            seen.add((event.site, tensor.origin))
            level = Level.NOTE if tensor.kind in _NEEDLESS else None
            what = f"{event.operation} is applied to {MAKES[tensor.kind]} of {tensor.made_by}."
            way_out = "It changes nothing: leave one out." if level else "Apply one of the two to the raw scores."
            yield RULE.finding(
                event.site,
                f"{what} {way_out}",
                place=context.place(tensor.origin),
                related=origin_of(tensor),
                level=level,
            )


RULE = Rule(code="SP108", name="normalised-twice", level=Level.WARNING, find=_find)

"""# SP303 softmax-over-size-one

## What it finds
A softmax over a dim of size 1, as that of `nn.Linear(n, 1)`.

## Why it is wrong
It is 1 everywhere, with a gradient of 0: the layers before it never learn. Two-class networks with one output want a
sigmoid.

## Wrong
```python
self.head = nn.Sequential(nn.Linear(64, 1), nn.Softmax(dim=-1))
```

## Right
```python
self.head = nn.Sequential(nn.Linear(64, 1), nn.Sigmoid())
```

## References
Keras warns at run time: "will always return the value 1".
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Rule
from softplace.check.names import SOFTMAX_NAMES
from softplace.check.rules._context import Context
from softplace.check.values import Site, Tensor


def _find(context: Context) -> Iterator[Finding]:
    seen: set[Site] = set()
    for event in context.events.normalised.values():
        given = event.given
        if event.operation not in SOFTMAX_NAMES or event.site in seen or not isinstance(given, Tensor):
            continue
        # Of three dims in all, as features of sequences have, 2 is the last one.
        last = given.rank is None and event.dim == 2
        if event.dim is not None and given.size(-1 if last else event.dim) == 1:
            seen.add(event.site)
            constant = "0" if event.operation == "log_softmax" else "1"
            yield RULE.finding(
                event.site,
                f"{event.operation} over dim {event.dim}, which has size 1: the result is always {constant}. Use "
                "a sigmoid.",
                place=context.place(event.result.origin),
            )


RULE = Rule(code="SP303", name="softmax-over-size-one", level=Level.ERROR, find=_find)

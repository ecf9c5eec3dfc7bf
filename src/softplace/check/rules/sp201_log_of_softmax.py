"""# SP201 log-of-softmax

## What it finds
`log(softmax(x))`, in one expression or far apart. It is a note with a small number added or a clamp, of entries that
were picked first (the largest, that of an action taken), and of a sigmoid.

## Why it is fragile
In float32 a softmax is exactly 0 from about 104 below the maximum on, and the logarithm of it is -inf, with NaN in the
gradient. Adding 1e-8 hides that: the loss is then bounded by 18.4, and the gradient is 0 where it is needed the most.
`log_softmax` subtracts the log of the sum instead, and is exact.

## Wrong
```python
loss = -torch.log(F.softmax(x, dim=1)).gather(1, y)
```

## Right
```python
loss = -F.log_softmax(x, dim=1).gather(1, y)
```

## References
torch.nn.functional.log_softmax: "While mathematically equivalent to log(softmax(x)), doing these two operations
separately is slower and numerically unstable." Blanchard, Higham and Higham 2021, "Accurately computing the log-sum-exp
and softmax functions", IMA Journal of Numerical Analysis 41(4).
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Rule
from softplace.check.rules._context import Context, certain, origin_of
from softplace.check.values import Kind, Site

_KINDS = frozenset({Kind.PROBABILITIES, Kind.SIGMOID})
_SKIPPED = frozenset({"total", "averaged", "masked after"})


def _find(context: Context) -> Iterator[Finding]:
    seen: set[tuple[Site, Site | None]] = set()
    for event in context.events.logs.values():
        for tensor in certain(event.given, _KINDS):
            if tensor.tags & _SKIPPED or (event.site, tensor.origin) in seen:
                continue
            seen.add((event.site, tensor.origin))
            guarded = "guarded" in tensor.tags
            picked = not tensor.tags.isdisjoint(("picked", "of maximum"))
            of_sigmoid = "sigmoid" in tensor.made_by or tensor.made_by == "expit"
            if of_sigmoid and guarded:
                continue  # of two classes only, and finite: a choice, not a mistake
            better = "logsigmoid" if of_sigmoid else "log_softmax"
            why = (
                "The guard bounds the loss and stops its gradient"
                if guarded
                else "It is -inf where the result rounds to 0"
            )
            yield RULE.finding(
                event.site,
                f"The logarithm of {tensor.made_by} is taken. {why}: use {better}.",
                place=context.place(tensor.origin),
                related=origin_of(tensor),
                level=Level.NOTE if guarded or picked or of_sigmoid else None,
            )


RULE = Rule(code="SP201", name="log-of-softmax", level=Level.WARNING, find=_find)

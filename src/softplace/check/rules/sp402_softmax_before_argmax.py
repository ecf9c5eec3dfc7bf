"""# SP402 softmax-before-argmax

## What it finds
A softmax of which only the place of the largest entry, or of the k largest, is used.

## Why it is needless
softmax keeps the order: argmax of the scores is the same.

## Wrong
```python
prediction = F.softmax(logits, dim=1).argmax(dim=1)
```

## Right
```python
prediction = logits.argmax(dim=1)
```

## References
The softmax is increasing in each score and adds the same constant to the logarithm of all.
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Related, Rule
from softplace.check.rules._context import Context


def _find(context: Context) -> Iterator[Finding]:
    for softmax in context.softmaxes.values():
        used = softmax.uses.get("argmax", softmax.uses.get("topk"))
        # Of topk, as of max, the values may be used: then that is a use of its own.
        if used is None or not softmax.uses.keys() <= {"argmax", "topk"} or softmax.operation == "gumbel_softmax":
            continue
        yield RULE.finding(
            softmax.site,
            f"Only the argmax of {softmax.operation} is used, which is that of the scores: leave it out.",
            place=softmax.place,
            related=(Related(site=used, message="the argmax is taken here"),),
        )


RULE = Rule(code="SP402", name="softmax-before-argmax", level=Level.NOTE, find=_find)

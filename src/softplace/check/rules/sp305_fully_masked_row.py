"""# SP305 fully-masked-row

## What it finds
Scores that a mask of unknown content sets to -inf before a softmax, with nothing that catches a row where the mask
leaves none (`nan_to_num`, a second mask to 0 after the softmax). Causal masks always leave one and are not reported.

## Why it is fragile
A row of -inf gives NaN, which spreads to everything in the backward pass. Padding masks reach that when a sequence of
the batch is empty.

## Wrong
```python
weights = F.softmax(scores.masked_fill(mask, float("-inf")), dim=-1)
```

## Right
```python
weights = F.softmax(scores.masked_fill(mask, float("-inf")), dim=-1).masked_fill(mask, 0.0)
weights = softplace.maps.softmax(scores, mask=~mask)  # zeros, with a gradient of zero
```

## References
pytorch/pytorch#103749, #133882.
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Rule
from softplace.check.names import SOFTMAX_NAMES
from softplace.check.rules._context import Context
from softplace.check.values import Site, tensors


def _find(context: Context) -> Iterator[Finding]:
    seen: set[Site] = set()
    for event in context.events.normalised.values():
        origin = event.result.origin
        if event.operation not in SOFTMAX_NAMES or event.site in seen or origin is None:
            continue
        softmax = context.softmaxes.get(origin)
        caught = softmax is None or "masked after" in softmax.uses or "repaired" in softmax.uses
        tags: frozenset[str] = frozenset().union(*(tensor.tags for tensor in tensors(event.given, 1)))
        if "masked infinite" in tags and "causal" not in tags and not caught:
            seen.add(event.site)
            yield RULE.finding(
                event.site,
                f"{event.operation} of scores masked with -inf: a row that is masked as a whole gives NaN. "
                "Set masked weights to 0 after it, or make sure that each row keeps one.",
                place=context.place(origin),
            )


RULE = Rule(code="SP305", name="fully-masked-row", level=Level.NOTE, find=_find)

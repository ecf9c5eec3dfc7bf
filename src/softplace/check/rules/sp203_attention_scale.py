"""# SP203 attention-scale

## What it finds
Attention in the form of the Transformer whose scores are not divided by the root of the size of a head: not scaled at
all (a note, where queries and keys are projections: Luong's dot attention has no scale), scaled after the softmax,
multiplied by the root, divided by the size itself, or by the root of all features though they are split into heads.
Over dim -2, where the queries compete as slots do, nothing is reported: their scale is a temperature.

## Why it is wrong
The product of two vectors of d independent entries has a standard deviation of the root of d. Without the scale the
softmax of a head of size 64 sees scores of the order of 8 and is nearly one-hot from the start, with gradients near 0.

## Wrong
```python
weights = F.softmax(query @ key.transpose(-2, -1), dim=-1) / math.sqrt(d)
```

## Right
```python
weights = F.softmax(query @ key.transpose(-2, -1) / math.sqrt(d), dim=-1)
```

## References
Vaswani et al. 2017, "Attention Is All You Need", equation 1 and footnote 4.
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Related, Rule
from softplace.check.rules._context import Context, merged
from softplace.check.values import Site


def _find(context: Context) -> Iterator[Finding]:
    seen: set[Site] = set()
    for event in context.events.normalised.values():
        given, origin = merged(event.given), event.result.origin
        if event.operation != "softmax" or event.site in seen or given is None or origin is None:
            continue
        softmax = context.softmaxes.get(origin)
        if softmax is None or softmax.place != "attention" or "product" not in given.tags:
            continue
        if event.dim == -2:
            continue  # the queries compete, as slots do: their scale is a temperature
        after = softmax.uses.get("scaled after")
        scaled = given.path[0] if given.path else event.site
        related = (Related(site=event.site, message="the softmax is here"),)
        if "scaled up" in given.tags:
            seen.add(event.site)
            yield RULE.finding(
                scaled,
                "Scores of attention are made larger by the root of a size: divide by the root.",
                place="attention",
                related=related,
            )
        elif "by size" in given.tags:
            seen.add(event.site)
            yield RULE.finding(
                scaled,
                "Scores of attention are divided by the size of a head: divide by its root.",
                place="attention",
                related=related,
            )
        elif "whole" in given.tags:
            seen.add(event.site)
            yield RULE.finding(
                scaled,
                "Scores of attention are scaled by the root of all features, but a head has only a part of them: "
                "use the size of a head.",
                place="attention",
                related=related,
            )
        elif after is not None and "scaled" not in given.tags:
            seen.add(event.site)
            yield RULE.finding(
                after,
                "The scale of attention is applied after the softmax: divide the scores before it.",
                place="attention",
                related=related,
            )
        elif "scaled" not in given.tags and "of projections" in given.tags and "product" in softmax.uses:
            seen.add(event.site)
            yield RULE.finding(
                event.site,
                "Scores of attention are not divided by the root of the size of a head.",
                place="attention",
                level=Level.NOTE,
            )


RULE = Rule(code="SP203", name="attention-scale", level=Level.WARNING, find=_find)

"""# SP403 gumbel-softmax-misuse

## What it finds
`F.gumbel_softmax` of probabilities (it wants scores or log-probabilities), and hard samples whose gradient is thrown
away (by argmax or detach), for which the relaxation is needless.

## Why it is wrong
Gumbel noise is added to log-probabilities (Jang et al. 2017, equation 1); added to probabilities, all of which lie
within [0, 1], the samples are nearly uniform.

## Wrong
```python
sample = F.gumbel_softmax(F.softmax(x, dim=-1), hard=True)
```

## Right
```python
sample = F.gumbel_softmax(x, hard=True)
```

## References
Jang, Gu and Poole 2017, "Categorical reparameterization with Gumbel-softmax", equation 1.
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Related, Rule
from softplace.check.rules._context import MAKES, Context, certain, origin_of
from softplace.check.values import Kind, Site

_KINDS = frozenset({Kind.PROBABILITIES, Kind.SIGMOID})


def _find(context: Context) -> Iterator[Finding]:
    seen: set[Site] = set()
    for event in context.events.normalised.values():
        if event.operation != "gumbel_softmax" or event.site in seen:
            continue
        for tensor in certain(event.given, _KINDS)[:1]:
            if "averaged" in tensor.tags:
                continue
            seen.add(event.site)
            yield RULE.finding(
                event.site,
                f"gumbel_softmax is given {MAKES[tensor.kind]} of {tensor.made_by}: its samples are nearly uniform. "
                "Give it the scores, or their log_softmax.",
                place="latent",
                related=origin_of(tensor),
            )
        softmax = context.softmaxes.get(event.result.origin or event.site)
        detached = None if softmax is None else softmax.uses.get("detached")
        if event.site not in seen and detached is not None:
            seen.add(event.site)
            yield RULE.finding(
                event.site,
                "The sample of gumbel_softmax is detached, so that no gradient passes it: draw from Categorical "
                "instead, or do not detach it.",
                place="latent",
                related=(Related(site=detached, message="it is detached here"),),
            )
        if event.site not in seen and softmax is not None and set(softmax.uses) == {"argmax"}:
            seen.add(event.site)
            yield RULE.finding(
                event.site,
                "Only the argmax of gumbel_softmax is used, through which no gradient passes: draw from "
                "Categorical instead.",
                place="latent",
                related=(Related(site=softmax.uses["argmax"], message="the argmax is taken here"),),
                level=Level.NOTE,
            )


RULE = Rule(code="SP403", name="gumbel-softmax-misuse", level=Level.WARNING, find=_find)

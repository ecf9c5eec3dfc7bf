"""# SP202 unshifted-exp

## What it finds
A softmax written by hand, `exp(x) / exp(x).sum()`, without the maximum subtracted first. Exponents that are bounded
(cosines, negative squares, what was clamped) or come from code that was not followed are not reported, nor is
Sinkhorn's iteration. A function that is a softmax by its name has to take any scores.

## Why it is fragile
exp overflows from 88.7 on in float32 (from 11.1 in float16), and inf / inf is NaN. Subtracting the maximum changes
nothing else.

## Wrong
```python
weights = np.exp(scores) / np.sum(np.exp(scores))
```

## Right
```python
weights = np.exp(scores - scores.max())
weights /= weights.sum()
weights = torch.softmax(scores, dim=-1)  # or this
```

## References
Blanchard, Higham and Higham 2021, "Accurately computing the log-sum-exp and softmax functions", IMA Journal of
Numerical Analysis 41(4).
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Rule
from softplace.check.rules._context import Context


def _find(context: Context) -> Iterator[Finding]:
    # A function that is a softmax by its name has to take any scores, whatever its callers give it.
    safe = {
        event.site
        for event in context.events.divisions.values()
        if event.shifted and "softmax" not in event.site.scope.lower()
    }
    for event in context.events.divisions.values():
        if "sinkhorn" in event.site.scope.lower():
            continue  # rows and columns are normalised in turn, from scores whose scale is chosen for it
        if not event.shifted and event.site not in safe:
            yield RULE.finding(
                event.site,
                "A softmax by hand does not subtract the maximum: exp overflows to inf, and the result is NaN. "
                "Use softmax, or subtract the maximum first.",
                place=context.place(event.site),
            )


RULE = Rule(code="SP202", name="unshifted-exp", level=Level.WARNING, find=_find)

"""# SP304 mask-after-softmax

## What it finds
Weights of a softmax that are multiplied by a mask (or set to 0 by one), when the scores were not masked before and the
weights are not made to sum to one again. A mask that is learned, or clamped to a ramp, is meant to scale and is not
reported. Weights (not their logarithms) that are set to minus infinity are an error.

## Why it is wrong
The masked entries have taken their share of the sum: what is left sums to less than one, by an amount that depends on
scores that should not count.

## Wrong
```python
weights = F.softmax(scores, dim=-1) * mask
```

## Right
```python
weights = F.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1)
```

## References
Vaswani et al. 2017, "Attention Is All You Need", section 3.2.3: masking "by ... setting to -inf ... the input of the
softmax".
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Related, Rule
from softplace.check.places import hints
from softplace.check.rules._context import Context
from softplace.check.values import tensors


def _find(context: Context) -> Iterator[Finding]:
    for softmax in context.softmaxes.values():
        infinite = softmax.uses.get("filled after")
        if infinite is not None:
            yield RULE.finding(
                infinite,
                f"Weights of {softmax.operation} are set to minus infinity after it: only scores, before it, are "
                "masked so.",
                place=softmax.place,
                related=(Related(site=softmax.site, message=f"{softmax.operation} is here"),),
                level=Level.ERROR,
            )
        used = softmax.uses.get("masked after")
        if used is None or "renormalised" in softmax.uses or softmax.place not in ("attention", "memory", "policy"):
            continue
        given = [tensor for call in softmax.calls for tensor in tensors(call.given)]
        of_product = any("product" in tensor.tags for tensor in given)
        if not of_product and softmax.place not in hints(softmax.site):
            continue
        if any("masked" in tensor.tags for tensor in given):
            continue
        yield RULE.finding(
            used,
            f"Weights of {softmax.operation} are masked after it: they no longer sum to one. Mask the scores "
            "before it.",
            place=softmax.place,
            related=(Related(site=softmax.site, message=f"{softmax.operation} is here"),),
        )


RULE = Rule(code="SP304", name="mask-after-softmax", level=Level.WARNING, find=_find)

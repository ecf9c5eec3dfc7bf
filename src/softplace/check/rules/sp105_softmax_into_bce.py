"""# SP105 softmax-into-bce

## What it finds
The output of a softmax over classes (or log-probabilities) that is given to `nn.BCELoss`, `F.binary_cross_entropy` or
Keras' binary cross-entropy, which treat each class on its own. One class picked from a softmax is a probability of its
own and is not reported.

## Why it is wrong
BCE is the likelihood of independent classes, softmax makes them compete: with several right labels the softmax cannot
give each of them 1, and with one right label the loss counts the wrong classes a second time. Log-probabilities lie
outside [0, 1] and raise an error.

## Wrong
```python
loss = F.binary_cross_entropy(F.softmax(x, dim=1), labels)
```

## Right
```python
loss = F.binary_cross_entropy_with_logits(x, labels)  # several labels may be right
loss = F.cross_entropy(x, label)  # one label is right
```

## References
torch.nn.BCELoss; torch.nn.BCEWithLogitsLoss.
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Rule
from softplace.check.rules._context import Context, pairs


def _find(context: Context) -> Iterator[Finding]:
    yield from pairs(
        RULE, context, "Use a sigmoid (better: BCEWithLogitsLoss on raw scores), or CrossEntropyLoss for one label."
    )


RULE = Rule(code="SP105", name="softmax-into-bce", level=Level.WARNING, find=_find)

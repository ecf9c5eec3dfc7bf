"""# SP107 sigmoid-into-cross-entropy

## What it finds
The output of a sigmoid that is given to a loss which takes the log-softmax itself.

## Why it is wrong
As with SP101 the scores are squeezed into [0, 1] before the loss' own softmax, so that no class can get more than
e / (e + n - 1) of n classes.

## Wrong
```python
loss = F.cross_entropy(torch.sigmoid(self.fc(x)), y)
```

## Right
```python
loss = F.cross_entropy(self.fc(x), y)
```

## References
torch.nn.CrossEntropyLoss: "The input is expected to contain the unnormalized logits for each class".
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Rule
from softplace.check.rules._context import Context, pairs


def _find(context: Context) -> Iterator[Finding]:
    yield from pairs(RULE, context, "Give it the raw scores.")


RULE = Rule(code="SP107", name="sigmoid-into-cross-entropy", level=Level.ERROR, find=_find)

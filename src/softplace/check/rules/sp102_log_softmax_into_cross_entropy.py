"""# SP102 log-softmax-into-cross-entropy

## What it finds
Log-probabilities that are given to a loss which takes the log-softmax itself.

## Why it is needless
log_softmax of log-probabilities changes nothing (they already sum to one), so the loss is right and only the work is
done twice. It also hides what the model returns: a reader who sees CrossEntropyLoss expects raw scores.

## Wrong
```python
loss = F.cross_entropy(F.log_softmax(x, dim=1), y)
```

## Right
```python
loss = F.cross_entropy(x, y)
loss = F.nll_loss(F.log_softmax(x, dim=1), y)  # or this
```

## References
torch.nn.CrossEntropyLoss: "equivalent to applying LogSoftmax on an input, followed by NLLLoss".
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Rule
from softplace.check.rules._context import Context, pairs


def _find(context: Context) -> Iterator[Finding]:
    yield from pairs(RULE, context, "Its own log-softmax changes nothing here: leave one out, or use NLLLoss.")


RULE = Rule(code="SP102", name="log-softmax-into-cross-entropy", level=Level.NOTE, find=_find)

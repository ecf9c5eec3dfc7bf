"""# SP103 softmax-into-nll

## What it finds
Probabilities (of softmax or sigmoid) that are given to `nn.NLLLoss` or `F.nll_loss`: the logarithm is missing.

## Why it is wrong
NLLLoss only picks and negates: with probabilities the loss is `-p`, between -1 and 0. It falls without bound on the
scores and its gradient is the weakest where the network is sure and wrong. A negative loss is the sign of it.

## Wrong
```python
loss = F.nll_loss(F.softmax(x, dim=1), y)
```

## Right
```python
loss = F.nll_loss(F.log_softmax(x, dim=1), y)
loss = F.cross_entropy(x, y)  # the same
```

## References
torch.nn.NLLLoss: "The input given through a forward call is expected to contain log-probabilities of each class".
skorch's NeuralNetClassifier takes the log itself, and is not reported.
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Rule
from softplace.check.rules._context import Context, pairs


def _find(context: Context) -> Iterator[Finding]:
    yield from pairs(RULE, context, "Use log_softmax, or give raw scores to CrossEntropyLoss.")


RULE = Rule(code="SP103", name="softmax-into-nll", level=Level.ERROR, find=_find)

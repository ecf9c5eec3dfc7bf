"""# SP106 probabilities-into-logit-loss

## What it finds
The output of a softmax or sigmoid that is given to a loss which takes the sigmoid itself: `nn.BCEWithLogitsLoss`,
`F.binary_cross_entropy_with_logits`, `nn.MultiLabelSoftMarginLoss`, `nn.SoftMarginLoss`, focal losses on logits,
`tf.nn.sigmoid_cross_entropy_with_logits`, `optax.sigmoid_binary_cross_entropy`.

## Why it is wrong
A second sigmoid maps [0, 1] to [0.5, 0.73]: nothing can be predicted to be absent, and the loss never falls below 0.31
(for a right label) or 0.69 (for an absent one).

## Wrong
```python
loss = nn.BCEWithLogitsLoss()(torch.sigmoid(x), y)
```

## Right
```python
loss = nn.BCEWithLogitsLoss()(x, y)
```

## References
torch.nn.BCEWithLogitsLoss: "This loss combines a Sigmoid layer and the BCELoss in one single class".
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Rule
from softplace.check.rules._context import Context, pairs


def _find(context: Context) -> Iterator[Finding]:
    yield from pairs(RULE, context, "Give it the raw scores.")


RULE = Rule(code="SP106", name="probabilities-into-logit-loss", level=Level.ERROR, find=_find)

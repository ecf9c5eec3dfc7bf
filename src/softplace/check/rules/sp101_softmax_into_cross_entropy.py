"""# SP101 softmax-into-cross-entropy

## What it finds
The output of a softmax that is given to a loss which takes the log-softmax itself: `nn.CrossEntropyLoss`,
`F.cross_entropy`, `tf.nn.softmax_cross_entropy_with_logits`, Keras losses with `from_logits=True`,
`optax.softmax_cross_entropy` and their kin. Model and loss may be in different files.

## Why it is wrong
The loss then is `-log softmax(softmax(x))`. Probabilities lie within [0, 1], so that the second softmax of n classes
can never give more than e / (e + n - 1) to one class: for 10 classes 0.23, and the loss never falls below 1.46.
Gradients pass two softmaxes and vanish where the net is sure and wrong. The network trains, slowly and to a worse end,
which is why the mistake stays unseen.

## Wrong
```python
logits = self.fc(x)
return F.softmax(logits, dim=1)  # in the model
loss = nn.CrossEntropyLoss()(model(x), y)  # in the training script
```

## Right
```python
return self.fc(x)
loss = nn.CrossEntropyLoss()(model(x), y)
probabilities = model(x).softmax(dim=1)  # only where they are wanted
```

## References
torch.nn.CrossEntropyLoss: "The input is expected to contain the unnormalized logits for each class".
pytorch/pytorch#55902 asks for a warning.
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Rule
from softplace.check.rules._context import Context, pairs


def _find(context: Context) -> Iterator[Finding]:
    yield from pairs(RULE, context, "Give it the raw scores, and apply softmax only where probabilities are read.")


RULE = Rule(code="SP101", name="softmax-into-cross-entropy", level=Level.ERROR, find=_find)

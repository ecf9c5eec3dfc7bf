"""# SP401 softmax-in-hidden-layer

## What it finds
A softmax whose result goes straight into a further linear or convolution layer: softmax as a hidden activation.
Attention, memories, gates and policies are other places, and are not reported.

## Why it is a note
It works, and learns worse. The units share one sum, so that raising one lowers the others; the outputs lie on a
simplex, one dim less than the layer has units; and the gradient through each layer is smaller by about the number of
units.
`softplace study hidden` measures each of these claims on data of your own, against sigmoid, tanh and ReLU.

## Wrong
```python
nn.Sequential(nn.Linear(64, 64), nn.Softmax(dim=1), nn.Linear(64, 10))
```

## Right
```python
nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
```

## References
Stack Overflow 37588632, "Why use softmax only in the output layer and not in hidden layers?"; Nair and Hinton 2010,
"Rectified linear units improve restricted Boltzmann machines".
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Related, Rule
from softplace.check.rules._context import Context


def _find(context: Context) -> Iterator[Finding]:
    for softmax in context.softmaxes.values():
        used = softmax.uses.get("linear")
        if softmax.place != "hidden" or used is None or "log" in softmax.operation:
            continue
        yield RULE.finding(
            softmax.site,
            f"{softmax.operation} is the activation of a hidden layer: its units compete for one sum and "
            "gradients shrink. "
            "ReLU or tanh learn faster; `softplace study hidden` measures it.",
            place="hidden",
            related=(Related(site=used, message="its result goes into a further layer here"),),
        )


RULE = Rule(code="SP401", name="softmax-in-hidden-layer", level=Level.NOTE, find=_find)

"""# SP302 softmax-over-batch

## What it finds
A softmax over the dim of the batch: dim 0 (given, or taken by torch's rule for 3 dims) of what a layer makes of a
batch or of what a loss of classes is given, dim 0 where the result is then picked from by row (`gather(1, ...)`,
`max(1)`), or a dim that a shape names as the batch (`x.view(steps, batch_size, -1)`).

## Why it is wrong
The weights of one class then sum to one over the examples of the batch: the result of one example depends on which
others are beside it, and a batch of one gives 1 everywhere.

## Wrong
```python
x = torch.flatten(x, 1)
return F.log_softmax(self.fc(x), dim=0)
```

## Right
```python
return F.log_softmax(self.fc(x), dim=1)
```

## References
torch.nn.functional, `_get_softmax_dim`.
"""

from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Related, Rule
from softplace.check.names import SOFTMAX_NAMES
from softplace.check.rules._context import Context, merged
from softplace.check.values import Kind, Site, Tensor


def _find(context: Context) -> Iterator[Finding]:
    seen: set[Site] = set()
    for event in context.events.normalised.values():
        given = merged(event.given) or Tensor(Kind.UNKNOWN)
        if event.operation not in SOFTMAX_NAMES or event.site in seen:
            continue
        rank = given.rank
        made = event.made if event.made != event.site else None
        related = () if made is None else (Related(site=made, message=f"{event.operation} is constructed here"),)
        dim = (0 if rank == 3 else None) if event.implicit else event.dim
        if dim is not None and rank and f"batch {dim % rank}" in given.tags:
            seen.add(event.site)
            yield RULE.finding(
                event.site,
                f"{event.operation} over dim {dim}: that is the batch, so that examples share one weight.",
                place=context.place(event.result.origin),
                related=related,
            )
            continue
        softmax = context.softmaxes.get(event.result.origin) if event.result.origin is not None else None
        of_classes = softmax is not None and "loss" in softmax.uses and softmax.place in ("output", "loss")
        scored = given.kind == Kind.RAW and dim == 0 and of_classes  # a loss of classes takes a batch of them
        # One entry is picked from each row: the rows are the examples.
        by_row = softmax is not None and softmax.place in ("output", "loss", "policy") and dim == 0
        by_row = by_row and "picked by row" in context.events.uses.get(event.site, ())
        if dim is None or not ("batched" in given.tags or scored or by_row) or (rank is not None and rank < 2):
            continue
        if given.size(-1) == 1 or given.size(1) == 1:
            continue  # one score for each row, or one channel: the rows compete
        if dim == 0 or (rank is not None and dim % rank == 0):
            seen.add(event.site)
            yield RULE.finding(
                event.site,
                f"{event.operation} over dim 0: that is the batch, so that examples share one weight. "
                f"Normalise over the classes (dim={'1' if rank in (2, 4) else '-1'}).",
                place=context.place(event.result.origin),
                related=related,
            )


RULE = Rule(code="SP302", name="softmax-over-batch", level=Level.WARNING, find=_find)

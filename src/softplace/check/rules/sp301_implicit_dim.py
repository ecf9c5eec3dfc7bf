"""# SP301 implicit-dim

## What it finds
`F.softmax(x)`, `nn.Softmax()`, `F.log_softmax(x)`, `nn.LogSoftmax()` and the like without `dim`.

## Why it is wrong
torch then takes a dim by an old rule: 0 for tensors of 0, 1 and 3 dims, else 1. A model that is right for (batch,
class) normalises over the batch once its input is (batch, time, class). The form is deprecated, and warns at run time.

## Wrong
```python
self.softmax = nn.Softmax()
```

## Right
```python
self.softmax = nn.Softmax(dim=1)
```

## References
torch.nn.functional, `_get_softmax_dim`; pytorch/pytorch#37399.
"""

from collections import defaultdict
from collections.abc import Iterator

from softplace.check.findings import Finding, Level, Related, Rule
from softplace.check.rules._context import Context
from softplace.check.values import Site


def _find(context: Context) -> Iterator[Finding]:
    seen: set[Site] = set()
    ranks: dict[Site, set[int | None]] = defaultdict(set)
    for event in context.events.normalised.values():
        ranks[event.made or event.site].add(event.result.rank)
    for event in context.events.normalised.values():
        site = event.made or event.site
        if not event.implicit or site in seen:
            continue
        seen.add(site)
        rank = event.result.rank
        if rank is None:
            rule = "torch takes dim 0 for 1 and 3 dims, else 1"
        else:
            rule = f"its input has {rank} dim{'' if rank == 1 else 's'}, so torch takes dim {implied_dim(rank)}"
        related = (
            () if event.made is None or event.made == event.site else (Related(site=event.site, message="called here"),)
        )
        yield RULE.finding(
            site,
            f"{event.operation} without dim: {rule}. Say which dim is meant.",
            place=context.place(site),
            related=related,
            rank=rank if len(ranks[site]) == 1 else None,
        )
    for made in context.events.constructed.values():
        if made.implicit and made.site not in seen:
            yield RULE.finding(
                made.site,
                f"{made.operation} without dim: torch takes dim 0 for 1 and 3 dims, else 1. Say which dim is meant.",
                place=context.place(made.site),
            )


def implied_dim(rank: int) -> int:
    """The dim that torch takes for a tensor of so many dims."""
    return 0 if rank in (0, 1, 3) else 1


RULE = Rule(code="SP301", name="implicit-dim", level=Level.WARNING, find=_find)

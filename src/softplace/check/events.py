"""What the interpreter saw, for the rules to judge. An event is kept once per place and per distinct values."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

from softplace.check.losses import Family, Loss
from softplace.check.values import Constant, Entries, Items, Method, Site, Tensor, Union, Unknown, Value, key


@dataclass(slots=True, eq=False)
class Normalised:
    """A softmax, log-softmax, sigmoid, ... was applied. `site` is the call, `made` where a layer was constructed."""

    site: Site
    operation: str
    given: Value
    dim: int | None
    dim_given: bool
    implicit: bool
    made: Site | None
    keywords: dict[str, Value]
    inference: bool
    result: Tensor


@dataclass(slots=True, eq=False)
class LossCalled:
    """A loss was called. `made` is where its criterion was constructed."""

    site: Site
    loss: Loss
    family: Family
    scores: Value
    target: Value | None
    keywords: dict[str, Value]
    made: Site | None
    chosen: bool


@dataclass(slots=True, eq=False)
class Logged:
    """A logarithm was taken."""

    site: Site
    given: Value
    nested: bool


@dataclass(slots=True, eq=False)
class Divided:
    """An exponential was divided by its sum: a softmax by hand."""

    site: Site
    shifted: bool


@dataclass(slots=True, eq=False)
class Used:
    """Something was done to a softmax's result."""

    site: Site
    origin: Site
    how: str


@dataclass(slots=True, eq=False)
class Constructed:
    """A softmax layer was constructed. `implicit`: without the dim that it needs."""

    site: Site
    operation: str
    implicit: bool


@dataclass(slots=True, eq=False)
class Gap:
    """Something that could not be resolved, and why."""

    site: Site
    reason: str


Event = Normalised | LossCalled | Logged | Divided | Used | Constructed | Gap


@dataclass(slots=True)
class Events:
    """All events of a run; equal ones are kept once."""

    normalised: dict[Any, Normalised] = field(default_factory=dict)
    losses: dict[Any, LossCalled] = field(default_factory=dict)
    logs: dict[Any, Logged] = field(default_factory=dict)
    divisions: dict[Any, Divided] = field(default_factory=dict)
    uses: dict[Site, dict[str, Site]] = field(default_factory=lambda: defaultdict(dict))
    constructed: dict[Site, Constructed] = field(default_factory=dict)
    gaps: dict[Any, Gap] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Keep an event."""
        if isinstance(event, Normalised):
            self.normalised.setdefault((event.site, event.made, key(event.given), event.dim), event)
        elif isinstance(event, LossCalled):
            where = (event.site, event.loss.name, event.family, key(event.scores), key(event.target))
            self.losses.setdefault(where, event)
        elif isinstance(event, Logged):
            self.logs.setdefault((event.site, key(event.given)), event)
        elif isinstance(event, Divided):
            self.divisions.setdefault((event.site, event.shifted), event)
        elif isinstance(event, Constructed):
            self.constructed.setdefault(event.site, event)
        elif isinstance(event, Used):
            self.uses[event.origin].setdefault(event.how, event.site)
        else:
            self.gaps.setdefault((event.site, event.reason), event)

    def slim(self) -> list[Event]:
        """All events, with only tensors and reasons left of the values: what another process can be given."""
        found: list[Event] = [*self.divisions.values(), *self.constructed.values(), *self.gaps.values()]
        for origin, uses in self.uses.items():
            found.extend(Used(site, origin, how) for how, site in uses.items())
        for made in self.normalised.values():
            found.append(replace(made, given=_slim(made.given), keywords={}))
        for loss in self.losses.values():
            target = None if loss.target is None else _slim(loss.target)
            settings = {name: value for name, value in loss.keywords.items() if name in ("log_target", "**")}
            settings = {name: _slim(value) for name, value in settings.items()}
            found.append(replace(loss, scores=_slim(loss.scores), target=target, keywords=settings))
        found.extend(replace(each, given=_slim(each.given)) for each in self.logs.values())
        return found

    def merge(self, events: list[Event]) -> None:
        """Add the events of another process."""
        for event in events:
            self.add(event)


_NO_TENSOR = Method(Unknown("a value that is no tensor"), "")
"""Something that is known not to be a tensor; an unknown value would count as one that could not be followed."""


def _slim(value: Value) -> Value:
    if isinstance(value, Tensor | Unknown | Constant):
        return value
    if isinstance(value, Union):
        return Union(tuple(map(_slim, value.options)), value.chosen)
    if isinstance(value, Items):
        rest = None if value.rest is None else _slim(value.rest)
        return Items(tuple(map(_slim, value.elements)), rest, value.mutable)
    if isinstance(value, Entries):
        rest = None if value.rest is None else _slim(value.rest)
        return Entries({name: _slim(each) for name, each in value.entries.items()}, rest)
    return _NO_TENSOR

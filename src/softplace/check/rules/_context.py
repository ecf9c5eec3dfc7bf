"""What rules are given: the events of a run, and the places of its softmaxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from softplace.check.events import Events, LossCalled
from softplace.check.findings import Finding, Level, Related, Rule
from softplace.check.losses import CODES, Family
from softplace.check.places import Softmax
from softplace.check.values import Constant, Kind, Site, Tensor, Union, Value, options

MAKES = {
    Kind.PROBABILITIES: "probabilities",
    Kind.LOG_PROBABILITIES: "log-probabilities",
    Kind.SIGMOID: "sigmoid probabilities",
    Kind.LOG_SIGMOID: "log-sigmoid values",
}


# Where one of several losses is called, what is given is judged by the loss that is of its kind: classes or yes and no.
_NEARER: dict[tuple[Kind, Family], tuple[Family, ...]] = {
    (Kind.PROBABILITIES, Family.BINARY_LOGITS): (Family.LOGITS, Family.LOG_PROBABILITIES),
    (Kind.PROBABILITIES, Family.PROBABILITY): (Family.LOGITS, Family.LOG_PROBABILITIES),
    (Kind.LOG_PROBABILITIES, Family.BINARY_LOGITS): (Family.LOGITS, Family.LOG_PROBABILITIES),
    (Kind.SIGMOID, Family.LOGITS): (Family.BINARY_LOGITS, Family.PROBABILITY),
}


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything that a run saw."""

    events: Events
    softmaxes: dict[Site, Softmax]

    def place(self, origin: Site | None) -> str:
        """The place of the softmax at a site."""
        found = self.softmaxes.get(origin) if origin is not None else None
        return "unknown" if found is None else found.place


def certain(value: Value, wrong: frozenset[Kind]) -> list[Tensor]:
    """The tensors of these kinds, when the value is one of these kinds on every path (or in a chosen part)."""
    found = [option for option in options(value) if not (isinstance(option, Constant) and option.value is None)]
    bad = [option for option in found if isinstance(option, Tensor) and option.kind in wrong]
    return bad if bad and len(bad) == len(found) else []


def merged(value: Value) -> Tensor | None:
    """The value as one tensor when it is one on every path: with the tags that all paths share."""
    found = [option for option in options(value) if isinstance(option, Tensor)]
    if not found or len(found) != sum(1 for _ in options(value)):
        return None
    return found[0].but(tags=frozenset.intersection(*(each.tags for each in found)))


def origin_of(tensor: Tensor) -> tuple[Related, ...]:
    """The sites that show where a tensor comes from."""
    if tensor.origin is None:
        return ()
    what = MAKES.get(tensor.kind, "values")
    made = Related(site=tensor.origin, message=f"{tensor.made_by} makes {what} here")
    return (made, *(Related(site=hop, message="passed on here") for hop in tensor.path))


def pairs(rule: Rule, context: Context, advice: str, level: Level | None = None) -> Iterator[Finding]:
    """Findings of a pair rule: losses that are given the wrong kind of numbers."""
    seen: set[tuple[Site, Site | None]] = set()
    fitting = _fitting(context)
    chosen = {(event.site, event.family) for event in context.events.losses.values() if event.chosen}
    for event in context.events.losses.values():
        codes = CODES[event.family]
        for tensor in _wrong(event, frozenset(codes)):
            if codes[tensor.kind] != rule.code or (event.site, tensor.origin) in seen:
                continue
            if any((event.site, family) in chosen for family in _NEARER.get((tensor.kind, event.family), ())):
                continue
            if (_chosen_in(event), tensor.origin, tensor.kind) in fitting and event.site.path != _path(tensor.origin):
                continue
            seen.add((event.site, tensor.origin))
            related = origin_of(tensor)
            if event.made is not None and event.made != event.site:
                related = (*related, Related(site=event.made, message=f"{event.loss.name} is constructed here"))
            message = (
                f"{event.loss.name} is given {MAKES[tensor.kind]} of {tensor.made_by}, but wants {event.family}. "
                f"{advice}"
            )
            yield rule.finding(event.site, message, place=context.place(tensor.origin), related=related, level=level)


def _fitting(context: Context) -> set[tuple[str, Site | None, Kind]]:
    """Files that make a loss which fits what a softmax gives: they choose the loss by what the model returns."""
    return {
        (_chosen_in(event), option.origin, option.kind)
        for event in context.events.losses.values()
        for option in options(event.scores)
        if isinstance(option, Tensor) and option.kind in MAKES and option.kind not in CODES[event.family]
    }


def _chosen_in(event: LossCalled) -> str:
    """The file in which a loss is chosen."""
    return event.site.path if event.made is None else event.made.path


def _path(site: Site | None) -> str:
    return "" if site is None else site.path


def _wrong(event: LossCalled, kinds: frozenset[Kind]) -> list[Tensor]:
    found = [option for option in options(event.scores) if not (isinstance(option, Constant) and option.value is None)]
    bad = [option for option in found if isinstance(option, Tensor) and option.kind in kinds]
    if len(bad) == len(found):
        return bad
    # Which model is a choice that some run makes; which state a tensor is in may be tied to the loss.
    return bad if isinstance(event.scores, Union) and event.scores.chosen and not event.chosen else []

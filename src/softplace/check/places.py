"""The place of every softmax: output, loss, hidden, attention, memory, latent, policy or unknown.

Data flow decides first (what made the scores, what is done with the weights); names decide between what it leaves open:
first those in the statement itself, then those of its function and class, last that of the file.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field

from softplace.check.events import Events, Normalised
from softplace.check.names import SOFTMAX_NAMES
from softplace.check.surroundings import Surroundings
from softplace.check.values import Kind, Site, tensors

PLACES = ("output", "loss", "hidden", "attention", "memory", "latent", "policy", "unknown")

# What the name of a function, class or file says.
_NAMES = (
    ("memory", r"memory|\bntm\b|\bdnc\b|addressing|address_|read_?head|write_?head|read_?weight|write_?weight"),
    (
        "attention",
        r"attention|attn|\batt\b|_att\b|\batt_|multi_?head|self_?att|non_?local|\bmha\b|\bgat(v2)?(_|conv|layer|\b)",
    ),
    (
        "latent",
        r"gumbel|gate\b|gated|gating|expert|\bmoe\b|router|routing|mixture|concrete|\bvq|codebook|assign|reparam|\bvae|"
        r"_vae|cluster|capsule|dynamic_conv|diff_?pool",
    ),
    ("policy", r"policy|actor|agent|action|reinforce|ppo|a2c|a3c|\bsac\b|\bpg\b"),
    ("loss", r"loss|criterion|distill|kl_?div|entropy|objective|discrepancy|dice|diverg"),
)
# What the names in its own statement say: the nearest evidence.
_STATEMENT = (
    ("loss", r"loss|teacher|student|distill|pseudo|soft_?(target|label)|kl_?div|entropy"),
    ("memory", r"memory|read_?w|write_?w|address"),
    ("latent", r"gumbel|gate|gating|expert|rout(e|ing)|assign|codebook|cluster|mixture|\bslot"),
    ("attention", r"att(n|ention|s?\b|_)|\b(\w+_)?alphas?\b|energy|affinit"),
    ("policy", r"policy|\baction|actor|\bpi\b"),
    ("output", r"prob|pred|logit|\bout(put)?s?\b|\bconf\b|y_hat|\bclass"),
)
_LEARNING_BY_REWARD = re.compile(r"reward|advantage|\bgae\b|env\.step|\bactions?\b|episode")
_READ = frozenset(
    ["argmax", "topk", "value", "returned", "multinomial", "read", "printed", "compared", "escaped", "stored"]
)
_OF_A_HELPER = frozenset(["returned", "masked after", "renormalised", "stored"])
_ENTERED = ("forward", "__call__", "call")
"""Methods that a network is called by."""


@dataclass(slots=True)
class Softmax:
    """One softmax of the program: where it stands, what it was given, what is done with it."""

    site: Site
    operation: str
    place: str = "unknown"
    calls: list[Normalised] = field(default_factory=list)
    uses: dict[str, Site] = field(default_factory=dict)


def softmaxes(events: Events, surroundings: Surroundings) -> dict[Site, Softmax]:
    """All softmax-like operations that were seen (not the sigmoids), with their places."""
    found: dict[Site, Softmax] = {}
    grouped: dict[Site, list[Normalised]] = defaultdict(list)
    for made in events.normalised.values():
        grouped[made.result.origin or made.site].append(made)
    for site, calls in grouped.items():
        operation = calls[0].operation
        if operation in SOFTMAX_NAMES:
            uses = dict(events.uses.get(site, {}))
            found[site] = Softmax(site, operation, place(site, calls, uses, surroundings), calls, uses)
    for layer in events.constructed.values():
        if layer.site not in found and layer.operation in SOFTMAX_NAMES:
            own = said(surroundings.of(layer.site).statement)
            near = [*hints(layer.site, file=False), *own, *hints(layer.site)]
            found[layer.site] = Softmax(layer.site, layer.operation, next(iter(near), "unknown"))
    for event in events.divisions.values():
        if event.site not in found:
            uses = dict(events.uses.get(event.site, {}))
            found[event.site] = Softmax(
                event.site, "exp / sum(exp)", place(event.site, [], uses, surroundings), [], uses
            )
    return found


def calls_of(softmax: Softmax, events: Events, surroundings: Surroundings) -> dict[Site, str]:
    """Where a layer is called, with the place of each call: one layer may serve several."""
    grouped: dict[Site, list[Normalised]] = defaultdict(list)
    for call in softmax.calls:
        if call.site[:3] != softmax.site[:3]:
            grouped[call.site].append(call)
    if len(grouped) == 1:
        return dict.fromkeys(grouped, softmax.place)
    return {site: place(site, calls, dict(events.uses.get(site, {})), surroundings) for site, calls in grouped.items()}


def hints(site: Site, *, file: bool = True) -> list[str]:
    """Places that the names of function, class and file suggest, the nearest name first."""
    words = list(reversed(site.scope.split(".")))
    if file:
        words.append(site.path.rsplit("/", 1)[-1])
    found: list[str] = []
    for word in words:
        found.extend(name for name in _matching(word, _NAMES) if name not in found)
    return found


def said(statement: str) -> list[str]:
    """Places that the names in a statement suggest."""
    return _matching(statement, _STATEMENT)


def _matching(text: str, patterns: tuple[tuple[str, str], ...]) -> list[str]:
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text).lower()
    return [name for name, pattern in patterns if re.search(pattern, text)]


def place(site: Site, calls: list[Normalised], uses: dict[str, Site], surroundings: Surroundings) -> str:
    """The place of one softmax."""
    called = calls[0].site if calls else site
    statement, function = surroundings.of(called)
    near, own = hints(called, file=False), said(statement)
    given = [tensor for call in calls for tensor in tensors(call.given)]
    of_product = any("product" in tensor.tags for tensor in given)
    entered = called.scope.endswith(_ENTERED)
    # A network says what it is by its name; in a training loop the words around tell.
    rewarded = "policy" in near or (not entered and _LEARNING_BY_REWARD.search(function) is not None)
    in_logs = any(call.operation == "log_softmax" for call in calls)
    if any(call.operation == "gumbel_softmax" for call in calls):
        return "latent"
    if "policy" in uses:
        return "latent" if "latent" in [*own, *near] and not rewarded else "policy"
    if "product" in uses or (
        of_product and uses.keys() & {"multiplied", "returned"} and "loss" not in uses and "loss" not in [*own, *near]
    ):
        return _weighing(near, own, of_product)
    if called.scope and "." not in called.scope and "softmax" in called.scope and uses.keys() <= _OF_A_HELPER:
        return "unknown"  # a function that is itself a softmax: its callers decide
    if "memory" in near:
        return "memory"
    if "multinomial" in uses:
        return "policy" if rewarded else "output"
    if uses.keys() & {"loss", "target", "log"} or any(
        call.operation == "log_softmax" and "loss" in near for call in calls
    ):
        if rewarded and "target" not in uses and "loss" not in uses:
            return "policy"
        return "output" if "returned" in uses and "loss" not in near else "loss"
    if "multiplied" in uses or "topk" in uses:
        found = _scaling(called, near, own, uses, rewarded=rewarded, entered=entered)
        if found:
            return found
        if "multiplied" in uses and "argmax" not in uses:
            return "attention" if any(tensor.kind == Kind.RAW for tensor in given) else "unknown"
    further = uses.get("linear") or uses.get("activation")
    if further is not None:
        named = next((name for name in ("attention", "latent") if name in [*own, *near]), "")
        # What a network gives, and another takes, is the output of the first.
        if named or "returned" not in uses or further.scope == called.scope:
            return named or "hidden"
    if "loss" in [*own[:1], *near]:
        return "loss"
    if (in_logs and "negated" in uses) or ("subtracted" in uses and not entered and not uses.keys() & _READ):
        return "loss"
    if (in_logs or own[:1] == ["output"]) and uses.keys() & _READ:
        return "policy" if "policy" in near else "output"
    for name in ("attention", "policy", "latent"):
        if name in (*own[:1], *near[:1]):
            return name
    if uses.keys() == {"returned"} and hints(site)[:1]:
        return hints(site)[0]
    if uses.keys() & _READ or any(call.inference for call in calls):
        return "output"
    return "output" if given and all(tensor.kind == Kind.RAW for tensor in given) else "unknown"


def _weighing(near: list[str], own: list[str], of_product: bool) -> str:
    """The place of weights that meet values in a matrix product."""
    if "memory" in [*own, *near]:
        return "memory"
    if own[:1] == ["latent"] or (near[:1] == ["latent"] and "attention" not in own):
        return "latent"
    if of_product or "attention" in [*own, *near]:
        return "attention"
    if "latent" in near:
        return "latent"
    return "output" if own[:1] == ["output"] else "attention"


def _scaling(
    called: Site, near: list[str], own: list[str], uses: dict[str, Site], *, rewarded: bool, entered: bool
) -> str:
    """The place of weights that scale something entry by entry; none when nothing tells."""
    for name in (*own, *near):
        if name == "loss" and rewarded:
            return "policy"
        if name in ("attention", "latent", "policy", "loss"):
            return name
    if own[:1] == ["output"] and not entered and "attention" not in near and not rewarded:
        return "output"
    if rewarded:
        return "policy"
    scaled = uses.get("multiplied")
    if scaled is not None and scaled.scope != called.scope:
        if "loss" in hints(scaled, file=False):
            return "loss"
        if "returned" in uses:
            return "output"
    if "argmax" not in uses:
        return next((name for name in hints(called) if name in ("attention", "latent", "policy", "loss")), "")
    return ""

"""The place of every softmax: output, loss, hidden, attention, memory, latent, policy or unknown.

Data flow decides first (what made the scores, what is done with the weights); the names of the function, class and file
around are weak evidence that only decides between what data flow leaves open.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field

from softplace.check.events import Events, Normalised
from softplace.check.names import SOFTMAX_NAMES
from softplace.check.values import Kind, Site, tensors

PLACES = ("output", "loss", "hidden", "attention", "memory", "latent", "policy", "unknown")

_WORDS = (
    ("memory", r"memory|\bntm\b|\bdnc\b|addressing|read_?head|write_?head|read_weight|write_weight"),
    ("attention", r"attention|attn|\batt\b|transformer|multi_?head|self_?att|non_?local"),
    (
        "latent",
        r"gumbel|gate|gating|expert|\bmoe\b|router|routing|mixture|concrete|vq|codebook|assign|reparam|vae|cluster|capsule|dynamic_conv",
    ),
    ("policy", r"policy|actor|agent|action|reinforce|ppo|a2c|a3c|sac\b|pg\b"),
    ("loss", r"loss|criterion|distill|kl_?div|entropy|objective"),
)


@dataclass(slots=True)
class Softmax:
    """One softmax of the program: where it stands, what it was given, what is done with it."""

    site: Site
    operation: str
    place: str = "unknown"
    calls: list[Normalised] = field(default_factory=list)
    uses: dict[str, Site] = field(default_factory=dict)


def softmaxes(events: Events) -> dict[Site, Softmax]:
    """All softmax-like operations that were seen (not the sigmoids), with their places."""
    found: dict[Site, Softmax] = {}
    grouped: dict[Site, list[Normalised]] = defaultdict(list)
    for made in events.normalised.values():
        grouped[made.result.origin or made.site].append(made)
    for site, calls in grouped.items():
        operation = calls[0].operation
        if operation in SOFTMAX_NAMES:
            uses = dict(events.uses.get(site, {}))
            found[site] = Softmax(site, operation, place(site, calls, uses), calls, uses)
    for layer in events.constructed.values():
        if layer.site not in found and layer.operation in SOFTMAX_NAMES:
            found[layer.site] = Softmax(layer.site, layer.operation, next(iter(hints(layer.site)), "unknown"))
    for event in events.divisions.values():
        if event.site not in found:
            uses = dict(events.uses.get(event.site, {}))
            found[event.site] = Softmax(event.site, "exp / sum(exp)", place(event.site, [], uses), [], uses)
    return found


def hints(site: Site) -> list[str]:
    """Places that the names around suggest, the nearest name first."""
    words = [*reversed(site.scope.split(".")), site.path.rsplit("/", 1)[-1]]
    found: list[str] = []
    for word in words:
        text = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word).lower()
        for name, pattern in _WORDS:
            if re.search(pattern, text) and name not in found:
                found.append(name)
    return found


def place(site: Site, calls: list[Normalised], uses: dict[str, Site]) -> str:
    """The place of one softmax."""
    near = hints(site)
    given = [tensor for call in calls for tensor in tensors(call.given)]
    of_product = any("product" in tensor.tags for tensor in given)
    if any(call.operation == "gumbel_softmax" for call in calls):
        return "latent"
    if "policy" in uses or ("multinomial" in uses and "policy" in near):
        return "policy"
    if "product" in uses or (of_product and ("multiplied" in uses or "returned" in uses) and "loss" not in uses):
        if "memory" in near:
            return "memory"
        if of_product or "attention" in near or "latent" not in near:
            return "attention"
        return "latent"
    if "memory" in near and uses.keys() & {"multiplied", "returned"} and "loss" not in uses:
        return "memory"
    if uses.keys() & {"loss", "target", "log"} or any(
        call.operation == "log_softmax" and "loss" in near for call in calls
    ):
        return "output" if "returned" in uses and "loss" not in near else "loss"
    if "multiplied" in uses or "topk" in uses:
        for name in ("attention", "latent", "policy"):
            if name in near:
                return name
        if "multiplied" in uses and "argmax" not in uses:
            return "loss" if "loss" in near else "attention" if any(t.kind == Kind.RAW for t in given) else "unknown"
    if "linear" in uses or "activation" in uses:
        return next((name for name in ("attention", "latent") if name in near), "hidden")
    if "loss" in near:
        return "loss"
    for name in ("attention", "policy", "latent"):
        if near[:1] == [name]:
            return name
    if uses.keys() & {
        "argmax",
        "topk",
        "value",
        "returned",
        "multinomial",
        "read",
        "printed",
        "compared",
        "escaped",
        "stored",
    }:
        return "output"
    return "output" if given and all(tensor.kind == Kind.RAW for tensor in given) else "unknown"

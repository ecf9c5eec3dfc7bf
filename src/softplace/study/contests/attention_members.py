"""The members of the attention contest: translators of one arm, stacked, and what is measured of them.

Axis legend: M members, B pairs, S source words and the end, T target words and the end.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from softplace.attention import Transformer
from softplace.attention.scoring import scores
from softplace.attention.search import greedy
from softplace.attention.text import BEGIN, END, PAD
from softplace.attention.transformer import DecoderState
from softplace.study.contest import Arm, Curve, Measurement, Members, derive, generator
from softplace.study.contests._learning import first_below, mean_over_budget
from softplace.study.contests.attention_arms import ARMS
from softplace.study.store import JSON, Role

if TYPE_CHECKING:
    from softplace.study.contests.attention import Translate

_SMALL = 1e-3  # a word with a smaller weight counts as left out


class Pairs(NamedTuple):
    """Pairs as numbers, with their known links."""

    source: Tensor
    """(B, S)"""
    given: Tensor
    """(B, T): begin, and the target's words."""
    wanted: Tensor
    """(B, T): the target's words, and the end; `PAD` after it."""
    links: Tensor | None = None
    """(B, T, S): which source word is which target word; None where nobody knows."""


class Translators(Members):
    """Networks of one arm, stacked, each with the stream of pairs of its seed."""

    def __init__(self, task: "Translate", arm: Arm, seeds: Sequence[int], device: torch.device) -> None:
        self.task, self.arm, self.device = task, arm, device
        self.net = task.net(arm).requires_grad_(False).to(device)
        drawn = [_parameters(task, arm, seed) for seed in seeds]
        self.parameters = {name: torch.stack([each[name] for each in drawn]).to(device) for name in drawn[0]}
        self.buffers = {}
        self.seeds = torch.tensor(seeds, device=device)

    def select(self, keep: Tensor) -> Self:
        chosen = super().select(keep)
        chosen.seeds = self.seeds[keep]
        return chosen

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Pairs of one bucket of lengths, the same for all members; which of its batches depends on the seed."""
        sizes = torch.tensor([len(each.source) for each in self.task.buckets], dtype=torch.float64)
        bucket = int(torch.multinomial(sizes, 1, generator=generator(0, "bucket", step)))
        pairs = self.task.buckets[bucket]
        places = [
            int(torch.randint(len(pairs.source), (), generator=generator(seed, "place", step)))
            for seed in self.seeds.tolist()
        ]
        return tuple(each[places].to(self.device) for each in pairs[:3])

    def losses(self, *batch: Tensor) -> Tensor:
        """Nats per target word of every member, (M,)."""

        def one(parameters: Mapping[str, Tensor], source: Tensor, given: Tensor, wanted: Tensor) -> Tensor:
            logits = functional_call(self.net, dict(parameters), (source, given, self._mask(source)))
            return cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=PAD)

        return torch.vmap(one)(self.parameters, *batch)

    def _mask(self, source: Tensor) -> Tensor:
        return source != PAD

    def _run(self, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        """Every member on the same pairs: nats per target word, shares of exact sentences and of wrong words, all (M,).

        A sentence is exact where the likeliest word is the right one after the right words before: then, and only
        then, the likeliest word at a time says the right sentence.
        """

        def one(parameters: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            logits = functional_call(self.net, dict(parameters), (pairs.source, pairs.given, self._mask(pairs.source)))
            loss = cross_entropy(logits.flatten(0, 1), pairs.wanted.flatten(), ignore_index=PAD)
            wrong = (logits.argmax(-1) != pairs.wanted) & (pairs.wanted != PAD)
            share = wrong.sum() / (pairs.wanted != PAD).sum()
            return loss, 1.0 - wrong.any(-1).to(loss.dtype).mean(), share

        loss, exact, share = torch.vmap(one)(self.parameters)
        return loss, exact, share

    def evaluate(self) -> dict[str, Tensor]:
        """Nats per word, at most those of a guess, and exact sentences, of pairs that are not trained on."""
        loss, exact, _ = self._run(self.task.held("validation", self.task.validated))
        return {"loss": loss.clamp(max=self.task.chance).where(loss.isfinite(), math.nan), "exact": exact}

    def reached(self, curves: Sequence[Curve]) -> list[bool]:
        return [len(curve["loss"]) > 1 and max(curve["loss"][-2:]) <= self.task.solved for curve in curves]

    def measure(self, role: Role, curves: Sequence[Curve]) -> list[Measurement]:
        budget = self.task.steps
        columns: dict[str, list[float]] = {"mean_loss": [mean_over_budget(curve, "loss", budget) for curve in curves]}
        figures: list[dict[str, JSON]] = [{} for _ in curves]
        if role == "judge":
            columns["steps_to_learn"] = [first_below(curve, "loss", self.task.learned, budget) for curve in curves]
            columns["solved"] = [float(curve["loss"][-1] < self.task.learned) for curve in curves]
            tested = {size: self._run(self.task.held("test", self.task.tested, size)) for size in self.task.sizes}
            columns["error_beyond"] = tested[self.task.beyond][2].tolist()
            for member, figure in enumerate(figures):
                figure["wrong"] = [[size, float(f"{found[2][member]:.4g}")] for size, found in tested.items()]
            if self.task.decoded:
                qualities = [self._quality(member) for member in range(len(curves))]
                columns |= {name: [each[name] for each in qualities] for name in qualities[0]}
            else:
                columns["exact"] = tested[self.task.longest][1].tolist()
            if not self.arm.options:
                found = [self._looks(member) for member in range(len(curves))]
                columns |= {name: [each[0][name] for each in found] for name in found[0][0]}
                figures = [figure | {"weights": each[1]} for figure, each in zip(figures, found, strict=True)]
        return [
            Measurement(metrics={name: values[member] for name, values in columns.items()}, probes=figures[member])
            for member in range(len(curves))
        ]

    def _alone(self, member: int) -> Any:
        net = self.task.net(self.arm)
        net.load_state_dict({name: value[member].cpu() for name, value in self.parameters.items()}, strict=False)
        return net.eval()

    def _quality(self, member: int) -> dict[str, float]:
        """Scores of one member's own translations, a word at a time."""
        examples = self.task.examples("test", self.task.tested)
        pairs, net = self.task.held("test", self.task.tested), self._alone(member)
        made = greedy(net, pairs.source, self._mask(pairs.source), begin=BEGIN, end=END)
        said = [self.task.target_tokens.decode(each.words) for each in made]
        meant = [self.task.target_tokens.decode(self.task.target_tokens.encode(each.target)[:-1]) for each in examples]
        found, _ = scores(said, meant)
        return {name: found[name] for name in ("exact", "bleu") if name in found}

    @torch.no_grad()
    def _looks(self, member: int) -> tuple[dict[str, float], JSON]:
        """What one member looks at, on pairs that are the same for all members; and the weights of the first pair."""
        pairs, net = self.task.held("test", self.task.tested, self.task.longest), self._alone(member)
        found = net.attention(pairs.source, pairs.given, self._mask(pairs.source))
        weights = (found if isinstance(found, Tensor) else torch.cat(found.source, 1).mean(1)).double()  # (B, T, S)
        words = pairs.wanted != PAD
        real = (pairs.source != PAD).unsqueeze(1)
        total = weights.sum(-1, keepdim=True)
        shares = torch.where(total > 0, weights / torch.where(total > 0, total, 1.0), real / real.sum(-1, keepdim=True))
        bits = torch.special.entr(shares).sum(-1) / math.log(2)
        left = ((weights < _SMALL) & real).sum(-1) / real.sum(-1)
        metrics = {"entropy": float(bits[words].mean()), "sparsity": float(left[words].mean())}
        if pairs.links is not None:
            known = pairs.links.any(-1)
            least = weights.masked_fill(~real, math.inf).amin(-1)
            hit = pairs.links.gather(-1, weights.argmax(-1, keepdim=True)).squeeze(-1)
            hit &= weights.amax(-1) > least  # or none is the largest
            metrics["alignment_error"] = float((known & ~hit).sum() / known.sum())
        first = weights[0, : int(words[0].sum()), : int(real[0].sum())]
        drawn = [[float(f"{value:.3g}") for value in row] for row in first.tolist()]
        return metrics, drawn


def _parameters(task: "Translate", arm: Arm, seed: int) -> dict[str, Tensor]:
    """The initial parameters of a seed: what a network has in common with that of softmax is drawn alike."""

    def drawn(arm: Arm) -> dict[str, Tensor]:
        torch.manual_seed(derive(seed, "parameters"))
        return {name: value.detach() for name, value in task.net(arm).named_parameters()}

    with torch.random.fork_rng(devices=[]):
        own, common = drawn(arm), drawn(ARMS[0])
    alike = {name: value for name, value in common.items() if name in own and own[name].shape == value.shape}
    return own | alike


class LastWord(nn.Module):
    """A Transformer whose decoder sees one vector of the source: what is encoded at its end."""

    def __init__(self, net: Transformer) -> None:
        super().__init__()
        self.net = net

    def forward(self, source: Tensor, target: Tensor, source_mask: Tensor) -> Tensor:
        """As `Transformer`."""
        return self.net.decode(target, self.start(source, source_mask))[0]

    def start(self, source: Tensor, source_mask: Tensor) -> DecoderState:
        """As `Transformer.start`: what is encoded, of which the end alone is seen."""
        later = torch.cat([source_mask[:, 1:], torch.zeros_like(source_mask[:, :1])], 1)
        return self.net.start(source, source_mask)._replace(source_mask=source_mask & ~later)

    def decode(self, target: Tensor, state: DecoderState) -> Any:
        """As `Transformer.decode`."""
        return self.net.decode(target, state)

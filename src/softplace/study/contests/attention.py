"""The attention place: the same translator with one map or another from scores to weights.

Axis legend: M members, K streams (seeds that differ), B pairs, S source words and the end, T target words and the end,
V words of a vocabulary, E batches of a bucket.

The task: lists of numbers in words, from English to German, whose words come in another order. Every translator has the
same architecture, initial draw and pairs per seed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from softplace.attention import RNNEncDec, RNNSearch, Transformer
from softplace.attention.corpus import NumberWordsData, batch_of
from softplace.attention.number_words import NumberWords
from softplace.attention.text import PAD, SPECIAL
from softplace.errors import InputError
from softplace.study.contest import (
    Arm,
    Contest,
    Curve,
    Measurement,
    Members,
    Metric,
    Options,
    Task,
    derive,
    generator,
)
from softplace.study.contests import attention_report
from softplace.study.contests.attention_arms import ARMS, chosen_arms
from softplace.study.optimizer import Adam
from softplace.study.store import JSON, Role

LEARNED = 0.1  # nats per target word: the loss at which the task counts as learned
SOLVED = 0.01  # nats at which a member needs no more steps, if it has them at two evaluations together
_SMALL = 1e-3  # a word with a smaller weight counts as left out


class Pairs(NamedTuple):
    """Pairs as numbers, with their known links."""

    source: Tensor
    """(B, S)"""
    given: Tensor
    """(B, T): begin, and the target's words."""
    wanted: Tensor
    """(B, T): the target's words, and the end; `PAD` after it."""
    links: Tensor
    """(B, T, S): which source word is which target word."""


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
        return [len(curve["loss"]) > 1 and max(curve["loss"][-2:]) <= SOLVED for curve in curves]

    def measure(self, role: Role, curves: Sequence[Curve]) -> list[Measurement]:
        budget = self.task.steps
        columns: dict[str, list[float]] = {"mean_loss": [mean_loss(curve, budget) for curve in curves]}
        figures: list[dict[str, JSON]] = [{} for _ in curves]
        if role == "judge":
            columns["steps_to_learn"] = [steps_to(curve, LEARNED, budget) for curve in curves]
            columns["solved"] = [float(curve["loss"][-1] < LEARNED) for curve in curves]
            tested = {count: self._run(self.task.held("test", self.task.tested, count)) for count in self.task.counts}
            longest = self.task.count[1]
            columns["exact"] = tested[longest][1].tolist()
            columns["error_beyond"] = tested[longest + 1][2].tolist()
            for member, figure in enumerate(figures):
                figure["wrong"] = [[count, float(f"{found[2][member]:.4g}")] for count, found in tested.items()]
            if not self.arm.options:
                found = [self._looks(member) for member in range(len(curves))]
                for name in ("alignment_error", "entropy", "sparsity"):
                    columns[name] = [each[0][name] for each in found]
                figures = [figure | {"weights": each[1]} for figure, each in zip(figures, found, strict=True)]
        return [
            Measurement(metrics={name: values[member] for name, values in columns.items()}, probes=figures[member])
            for member in range(len(curves))
        ]

    @torch.no_grad()
    def _looks(self, member: int) -> tuple[dict[str, float], JSON]:
        """What one member looks at, on pairs that are the same for all members; and the weights of the first pair."""
        pairs = self.task.held("test", self.task.tested, self.task.count[1])
        net = self.task.net(self.arm)
        net.load_state_dict({name: value[member].cpu() for name, value in self.parameters.items()}, strict=False)
        found = net.attention(pairs.source, pairs.given, self._mask(pairs.source))
        weights = (found if isinstance(found, Tensor) else torch.cat(found.source, 1).mean(1)).double()  # (B, T, S)
        words = pairs.wanted != PAD
        known = pairs.links.any(-1)
        best = weights.argmax(-1, keepdim=True)
        real = (pairs.source != PAD).unsqueeze(1)
        least = weights.masked_fill(~real, math.inf).amin(-1)
        hit = pairs.links.gather(-1, best).squeeze(-1) & (weights.amax(-1) > least)  # the largest is one, not all
        total = weights.sum(-1, keepdim=True)
        shares = torch.where(total > 0, weights / torch.where(total > 0, total, 1.0), 1.0 / weights.shape[-1])
        bits = torch.special.entr(shares).sum(-1) / math.log(2)
        left = ((weights < _SMALL) & real).sum(-1) / real.sum(-1)
        metrics = {
            "alignment_error": float((known & ~hit).sum() / known.sum()),
            "entropy": float(bits[words].mean()),
            "sparsity": float(left[words].mean()),
        }
        first = weights[0, : int(words[0].sum()), : int(real[0].sum())]
        drawn = [[float(f"{value:.3g}") for value in row] for row in first.tolist()]
        return metrics, drawn


def mean_loss(curve: Curve, budget: int) -> float:
    """The mean of the validation loss over the budget: a low one is learned fast and well.

    Every evaluation stands for the steps since the one before; a member that stopped early keeps its last value.
    """
    total, before = 0.0, 0.0
    for step, loss in zip(curve["step"], curve["loss"], strict=True):
        total += (step - before) * loss
        before = step
    return (total + (budget - before) * curve["loss"][-1]) / budget


def steps_to(curve: Curve, threshold: float, budget: int) -> float:
    """The first step at which the validation loss was below a threshold; the budget where it never was."""
    pairs = zip(curve["step"], curve["loss"], strict=True)
    return next((step for step, loss in pairs if loss < threshold), float(budget))


def _parameters(task: "Translate", arm: Arm, seed: int) -> dict[str, Tensor]:
    """The initial parameters of a seed: what a network has in common with that of softmax is drawn alike."""

    def drawn(arm: Arm) -> dict[str, Tensor]:
        torch.manual_seed(derive(seed, "parameters"))
        return {name: value.detach() for name, value in task.net(arm).named_parameters()}

    with torch.random.fork_rng(devices=[]):
        own, common = drawn(arm), drawn(ARMS[0])
    return {name: common[name] if name in common and common[name].shape == own[name].shape else own[name] for name in own}


class LastWord(nn.Module):
    """A Transformer whose decoder sees one vector of the source: what is encoded at its end."""

    def __init__(self, net: Transformer) -> None:
        super().__init__()
        self.net = net

    def forward(self, source: Tensor, target: Tensor, source_mask: Tensor) -> Tensor:
        """As `Transformer`."""
        state = self.net.start(source, source_mask)
        later = torch.cat([source_mask[:, 1:], torch.zeros_like(source_mask[:, :1])], 1)
        return self.net.decode(target, state._replace(source_mask=source_mask & ~later))[0]


@dataclass(frozen=True, kw_only=True)
class Translate(Task):
    """Learn to translate lists of numbers in words, from English to German.

    Args:
        kind: "rnnsearch" or "transformer".
        count: The fewest and the most numbers of a list.
        digits: The fewest and the most digits of a number.
        counts: The lengths of lists that are tested, `count[1]` and the next among them.
        width: Hidden units, embedding and maxout units; of a Transformer its width, of 2 heads and one layer a side.
        pairs: How many are trained on.
        batch: Pairs per step.
        validated, tested: Pairs to validate on, and to test on of each length.
    """

    kind: str
    count: tuple[int, int]
    digits: tuple[int, int]
    counts: tuple[int, ...]
    width: int
    pairs: int
    batch: int
    validated: int
    tested: int

    @cached_property
    def data(self) -> NumberWordsData:
        """The grammar, and which lists are held out."""
        return NumberWordsData(NumberWords(count=self.count, digits=self.digits), seed=0)

    @cached_property
    def buckets(self) -> tuple[Pairs, ...]:
        """What is trained on, in batches of like length: of each bucket (E, B, ...)."""
        found: dict[tuple[int, int], list[tuple[list[int], list[int]]]] = {}
        drawn = self.data.drawn(generator(0, "pairs"), self.pairs)
        encoded = [(self.data.source_tokens.encode(one), self.data.target_tokens.encode(two)) for one, two, _ in drawn]
        step = 2  # lengths in a bucket
        for pair in sorted(encoded, key=lambda each: (len(each[0]), len(each[1]))):
            found.setdefault((len(pair[0]) // step, 0), []).append(pair)
        made = []
        for some in found.values():
            whole = len(some) // self.batch * self.batch
            if whole:
                batch = batch_of(some[:whole])
                source, given, wanted = (
                    each.view(-1, self.batch, each.shape[-1]) for each in (batch.source, batch.given, batch.wanted)
                )
                made.append(Pairs(source, given, wanted, torch.empty(0)))
        return tuple(made)

    @cached_property
    def _held(self) -> dict[tuple[str, int, int], Pairs]:
        return {}

    def held(self, purpose: str, count: int, numbers: int = 0) -> Pairs:
        """Pairs that are not trained on, the same at every call; `numbers`: how long a list, 0 = as in training."""
        key = (purpose, count, numbers)
        if key not in self._held:
            examples = self.data.held(purpose, count, numbers=numbers or None)
            encoded = [
                (self.data.source_tokens.encode(each.source), self.data.target_tokens.encode(each.target))
                for each in examples
            ]
            batch = batch_of(encoded)
            links = torch.zeros(count, batch.wanted.shape[1], batch.source.shape[1], dtype=torch.bool)
            for row, each in enumerate(examples):
                for i, j in each.links or ():
                    links[row, j, i] = True
            self._held[key] = Pairs(batch.source, batch.given, batch.wanted, links)
        return self._held[key]

    def shown(self) -> tuple[list[str], list[str]]:
        """The pair that weights are drawn of: its words, numbered, and the end of each side."""
        pairs = self.held("test", self.tested, self.count[1])
        sides = (self.data.source_tokens, pairs.source[0]), (self.data.target_tokens, pairs.wanted[0])
        named = ([name for name in tokens.names(row.tolist()) if name != SPECIAL[PAD]] for tokens, row in sides)
        source, target = ([f"{number} {name}" for number, name in enumerate(names, 1)] for names in named)
        return source, target

    @property
    def chance(self) -> float:
        """Nats per word of a guess."""
        return math.log(len(self.data.target_tokens))

    @property
    def validation(self) -> Metric:
        label = "nats per target word on other lists, mean over the budget"
        return Metric(name="mean_loss", label=label, higher_is_better=False, worst=self.chance)

    @property
    def metrics(self) -> Sequence[Metric]:
        longest = self.count[1]
        steps = f"steps to {LEARNED:g} nats per target word"
        return (
            self.validation,
            Metric(name="steps_to_learn", label=steps, higher_is_better=False, worst=float(self.steps)),
            Metric(name="solved", label="share of networks that learn it", higher_is_better=True, worst=0.0),
            Metric(name="exact", label=f"exact lists of {longest} numbers", higher_is_better=True, worst=0.0),
            Metric(
                name="error_beyond",
                label=f"wrong words in lists of {longest + 1} numbers, beyond training",
                higher_is_better=False,
                worst=1.0,
            ),
            Metric(name="alignment_error", label="wrong largest weights", higher_is_better=False, worst=1.0),
            Metric(name="entropy", label="entropy of the weights (bits)", higher_is_better=False, worst=5.0),
            Metric(name="sparsity", label="source words left out", higher_is_better=True, worst=0.0),
        )

    def settings(self) -> Mapping[str, JSON]:
        of_task = {each.name for each in fields(Task)}
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in of_task}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in own.items()}

    def net(self, arm: Arm) -> Any:
        """A network of an arm: its parameters are drawn from PyTorch's global generator."""
        words: dict[str, Any] = {
            "source_words": len(self.data.source_tokens),
            "target_words": len(self.data.target_tokens),
        }
        last = arm.options.get("source") == "last"
        if self.kind == "rnnsearch":
            sizes: dict[str, Any] = {"hidden": self.width, "embedding": self.width, "maxout": self.width}
            if last:
                return RNNEncDec(**words, **sizes, initial="glorot")
            return RNNSearch(**words, **sizes, initial="glorot", map=arm.map)
        net = Transformer(
            **words,
            width=self.width,
            heads=2,
            encoder_layers=1,
            decoder_layers=1,
            inner=2 * self.width,
            map=arm.map,
            norm="pre",
            tied="none",
            dropout=0.0,
        )
        return LastWord(net) if last else net

    def members(self, arm: Arm, seeds: Sequence[int], device: torch.device) -> Members:
        return Translators(self, arm, seeds, device)


def check_arm(task: Translate, arm: Arm) -> None:
    """Raise `InputError` unless translators with the arm's map can be trained: one step of two of them, and weights.

    Raises:
        InputError: The map fails, or weights or gradients are no numbers.
    """
    try:
        members = task.members(arm, (0, 1), torch.device("cpu"))
        leaves = [value.requires_grad_() for value in members.parameters.values()]
        losses = members.losses(*members.batch(0))
        gradients = torch.autograd.grad(losses.sum(), leaves, materialize_grads=True)
        bad = not all(bool(each.isfinite().all()) for each in (losses, *gradients))
        with torch.no_grad():
            members.measure("judge", [{"step": [1.0], "loss": [1.0]}] * 2)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(
            f"map {arm.name!r}: expected a function map(scores, dim) for scores of any shape that torch.vmap and "
            f"autograd can go through, got {type(error).__name__}: {text}. Mend it, or leave it out with --maps."
        ) from error
    if bad:
        raise InputError(
            f"map {arm.name!r}: expected finite weights and gradients for finite scores, got NaN or infinite nats or "
            "gradients in the first step. Mend it, or leave it out with --maps."
        )


DATA: dict[str, dict[str, Any]] = {
    "quick": {
        "count": (1, 2), "digits": (1, 2), "counts": (1, 2, 3), "pairs": 4000, "batch": 16,
        "validated": 48, "tested": 64, "evaluate_every": 25,
    },
    "full": {
        "count": (1, 3), "digits": (1, 6), "counts": (1, 2, 3, 4, 5, 6), "pairs": 50_000, "batch": 64,
        "validated": 200, "tested": 200, "evaluate_every": 100,
    },
}  # fmt: skip
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {"rnnsearch": {"width": 16, "steps": 275}, "transformer": {"width": 24, "steps": 350}},
    "full": {"rnnsearch": {"width": 64, "steps": 3000}, "transformer": {"width": 64, "steps": 4000}},
}
RATES = {"rnnsearch": (0.00562, 0.01778, 0.05623), "transformer": (0.00178, 0.00562, 0.01778)}
"""By half decades, so placed that the best of most arms is within them."""
LABELS = {"rnnsearch": "RNNsearch", "transformer": "Transformer"}


def contest(options: Options) -> Contest:
    """The contest of the attention place."""
    arms = chosen_arms(options.maps)
    tasks = tuple(
        Translate(
            name=kind,
            label=LABELS[kind],
            kind=kind,
            learning_rates=RATES[kind],
            optimizer=Adam(clip=1.0),
            largest_fleet=60,  # a step costs a fleet about 10 ms before its members cost anything
            **sizes,
            **DATA[options.preset],
        )
        for kind, sizes in SIZES[options.preset].items()
    )
    for arm in arms:
        if arm not in ARMS:
            check_arm(tasks[0], arm)
    return Contest(
        place="attention",
        name="attention",
        arms=arms,
        tasks=tasks,
        report=attention_report.report,
        code=(
            "softplace.maps",
            "softplace.attention",
            "softplace.study.contests.attention",
            "softplace.study.contests.attention_arms",
        ),
        uses=("preset", "maps"),
    )

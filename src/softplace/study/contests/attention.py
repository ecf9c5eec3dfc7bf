"""The attention place: the same translator with one map or another from scores to weights.

Axis legend: E batches of a bucket, B pairs, S source words and the end, T target words and the end.

Tasks: lists of numbers in words, from English to German, whose words come in another order; or a person's own parallel
text. Every translator has the same architecture, initial draw and pairs per seed.
"""

import hashlib
import math
import statistics
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from typing import Any

import torch

from softplace.attention import RNNEncDec, RNNSearch, Transformer, tokens
from softplace.attention.corpus import Example, NumberWordsData, batch_of
from softplace.attention.number_words import NumberWords
from softplace.attention.text import PAD, SPECIAL, read_parallel
from softplace.attention.tokens import Tokens
from softplace.errors import InputError
from softplace.study.contest import Arm, Contest, Members, Metric, Options, Task, generator
from softplace.study.contests import attention_report
from softplace.study.contests._learning import check_arm, own_settings
from softplace.study.contests.attention_arms import ARMS, chosen_arms
from softplace.study.contests.attention_members import LastWord, Pairs, Translators
from softplace.study.optimizer import Adam
from softplace.study.store import JSON

_APART = 2  # lengths that share a bucket


@dataclass(frozen=True, kw_only=True)
class Translate(Task):
    """Learn to translate.

    Args:
        kind: "rnnsearch" or "transformer".
        width: Hidden units, embedding and maxout units; of a Transformer its width, of 2 heads and one layer a side.
        pairs: How many are trained on, at most.
        batch: Pairs per step.
        validated, tested: Pairs to validate on, and to test on of each size.
        sizes: How long sentences are that are tested, in `unit`.
        longest, beyond: Two of them: the longest of training, and the next.
        learned: Nats per target word at which the task counts as learned.
        solved: Nats at which a member needs no more steps, if it has them at two evaluations together.
    """

    kind: str
    width: int
    pairs: int
    batch: int
    validated: int
    tested: int
    sizes: tuple[int, ...]
    longest: int
    beyond: int
    learned: float
    solved: float

    unit = ""
    """What a size counts."""
    decoded = False
    """Whether translations are made and scored; if not, one is exact where each word is, after the right words."""

    caution = ""
    """What must be kept in mind of the findings."""

    @abstractmethod
    def about(self) -> str:
        """What is learned, for the page."""

    @property
    @abstractmethod
    def source_tokens(self) -> Tokens:
        """How a source is cut."""

    @property
    @abstractmethod
    def target_tokens(self) -> Tokens:
        """How a target is cut."""

    @abstractmethod
    def trained(self) -> Iterator[Example]:
        """What is trained on."""

    @abstractmethod
    def examples(self, purpose: str, count: int, size: int = 0) -> list[Example]:
        """So many pairs that are not trained on, the same at every call; `size`: how long, 0 = as in training."""

    @cached_property
    def buckets(self) -> tuple[Pairs, ...]:
        """What is trained on, in batches of like length: of each bucket (E, B, ...)."""
        found: dict[int, list[tuple[list[int], list[int]]]] = {}
        encoded = [self._encoded(each) for each in self.trained()]
        for pair in sorted(encoded, key=lambda each: (len(each[0]), len(each[1]))):
            found.setdefault(len(pair[0]) // _APART, []).append(pair)
        made = []
        for some in found.values():
            whole = len(some) // self.batch * self.batch
            if whole:
                batch = batch_of(some[:whole])
                sides = (batch.source, batch.given, batch.wanted)
                made.append(Pairs(*(each.view(-1, self.batch, each.shape[-1]) for each in sides)))
        return tuple(made)

    @cached_property
    def _held(self) -> dict[tuple[str, int, int], Pairs]:
        return {}

    def held(self, purpose: str, count: int, size: int = 0) -> Pairs:
        """The `examples` as one batch."""
        key = (purpose, count, size)
        if key not in self._held:
            examples = self.examples(purpose, count, size)
            batch = batch_of([self._encoded(each) for each in examples])
            links = None
            if all(each.links is not None for each in examples):
                links = torch.zeros(len(examples), batch.wanted.shape[1], batch.source.shape[1], dtype=torch.bool)
                for row, each in enumerate(examples):
                    for i, j in each.links or ():
                        links[row, j, i] = True
            self._held[key] = Pairs(batch.source, batch.given, batch.wanted, links)
        return self._held[key]

    def _encoded(self, example: Example) -> tuple[list[int], list[int]]:
        return self.source_tokens.encode(example.source), self.target_tokens.encode(example.target)

    def shown(self) -> tuple[list[str], list[str]]:
        """The pair that weights are drawn of: its words, numbered, and the end of each side."""
        pairs = self.held("test", self.tested, self.longest)
        sides = (self.source_tokens, pairs.source[0]), (self.target_tokens, pairs.wanted[0])
        named = ([name for name in tokens.names(row.tolist()) if name != SPECIAL[PAD]] for tokens, row in sides)
        source, target = ([f"{number} {name}" for number, name in enumerate(names, 1)] for names in named)
        return source, target

    @property
    def chance(self) -> float:
        """Nats per word of a guess."""
        return math.log(len(self.target_tokens))

    @property
    def validation(self) -> Metric:
        label = "nats per target word on other pairs, mean over the budget"
        return Metric(name="mean_loss", label=label, higher_is_better=False, worst=self.chance)

    @property
    def metrics(self) -> Sequence[Metric]:
        steps = f"steps to {self.learned:g} nats per target word"
        exact = "exact sentences" if self.decoded else f"exact sentences of {self.longest} {self.unit}"
        beyond = f"wrong words in sentences of {self.beyond} {self.unit}, beyond training"
        return (
            self.validation,
            Metric(name="steps_to_learn", label=steps, higher_is_better=False, worst=float(self.steps)),
            Metric(name="solved", label="share of networks that learn it", higher_is_better=True, worst=0.0),
            Metric(name="exact", label=exact, higher_is_better=True, worst=0.0),
            *([Metric(name="bleu", label="BLEU", higher_is_better=True, worst=0.0)] * self.decoded),
            Metric(name="error_beyond", label=beyond, higher_is_better=False, worst=1.0),
            Metric(name="alignment_error", label="wrong largest weights", higher_is_better=False, worst=1.0),
            Metric(name="entropy", label="entropy of the weights (bits)", higher_is_better=False, worst=5.0),
            Metric(name="sparsity", label="source words left out", higher_is_better=True, worst=0.0),
        )

    def settings(self) -> Mapping[str, JSON]:
        return own_settings(self)

    def net(self, arm: Arm) -> Any:
        """A network of an arm: its parameters are drawn from PyTorch's global generator."""
        words: dict[str, Any] = {
            "source_words": len(self.source_tokens),
            "target_words": len(self.target_tokens),
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


@dataclass(frozen=True, kw_only=True)
class NumberLists(Translate):
    """Lists of numbers in words, from English to German; a size is how many numbers.

    Args:
        count: The fewest and the most numbers of a list.
        digits: The fewest and the most digits of a number.
    """

    count: tuple[int, int]
    digits: tuple[int, int]

    unit = "numbers"
    caution = "Number words are a small, exact language: these are findings on it, not on translation at large."

    def about(self) -> str:
        return (
            "The task: lists of numbers in words, from English to German, which says units before tens. "
            f"Lists of {self.count[0]} to {self.count[1]} numbers of up to {self.digits[1]} digits, {self.pairs:,} of "
            "them to train on; one list in fifty is held out, but of single numbers of two digits, of which there are "
            "too few."
        )

    @cached_property
    def data(self) -> NumberWordsData:
        """The grammar, and which lists are held out."""
        return NumberWordsData(NumberWords(count=self.count, digits=self.digits), seed=0)

    @property
    def source_tokens(self) -> Tokens:
        return self.data.source_tokens

    @property
    def target_tokens(self) -> Tokens:
        return self.data.target_tokens

    def trained(self) -> Iterator[Example]:
        return self.data.drawn(generator(0, "pairs"), self.pairs)

    def examples(self, purpose: str, count: int, size: int = 0) -> list[Example]:
        return self.data.held(purpose, count, numbers=size or None)


@dataclass(frozen=True, kw_only=True)
class ParallelText(Translate):
    """Two files of as many lines; a size is the most source words, by spaces, and more than the size before.

    One pair in twenty is held out. Neither side of a pair that is trained on has more than `longest` words.

    Args:
        source, target: The files.
        digest: Of their lines.
        words: Tokens of the one vocabulary, of byte pairs of lower-cased text.
    """

    source: str
    target: str
    digest: str
    words: int

    unit = "words"
    decoded = True
    caution = "One text, small networks and a short training: what is found here is a finding on them."

    def about(self) -> str:
        return (
            f"The task: a parallel text (digest {self.digest}), in {len(self.source_tokens):,} tokens of lower-cased "
            f"byte pairs. Pairs of up to {self.longest} words a side are trained on, at most {self.pairs:,} of them; "
            "one pair in twenty is held out, half of them to validate."
        )

    @cached_property
    def _pairs(self) -> dict[str, list[Example]]:
        """What is trained on, and what is held out to validate and to test."""
        found: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
        for one, other in read_parallel(self.source, self.target):
            purpose = _purpose(one, other)
            if purpose != "train" or max(len(one.split()), len(other.split())) <= self.longest:
                found[purpose].append(Example(one, other))
        return found

    @cached_property
    def _tokens(self) -> Tokens:
        texts = (text for pair in self.trained() for text in pair[:2])
        return tokens.learn("bpe", texts, self.words, lower=True)

    @property
    def source_tokens(self) -> Tokens:
        return self._tokens

    @property
    def target_tokens(self) -> Tokens:
        return self._tokens

    def trained(self) -> Iterator[Example]:
        return islice(self._pairs["train"], self.pairs)

    def examples(self, purpose: str, count: int, size: int = 0) -> list[Example]:
        least = max((each for each in self.sizes if each < size), default=0)
        most = size or self.longest
        fitting = (each for each in self._pairs[purpose] if least < len(each.source.split()) <= most)
        return list(islice(fitting, count))

    def settings(self) -> Mapping[str, JSON]:
        return own_settings(self, without=("source", "target"))


def _purpose(one: str, other: str) -> str:
    """What a pair is for: one in twenty is held out, half of them to validate."""
    number = zlib.crc32(f"{one}\n{other}".encode()) % 40
    return {0: "validation", 1: "test"}.get(number, "train")


def of_text(source: str, target: str) -> dict[str, Any]:
    """The fields of a `ParallelText` that follow from its files: half of the pairs, the shorter, are trained on.

    Raises:
        InputError: The files cannot be used, or are too small.
    """
    digest = hashlib.blake2b(digest_size=16)
    lengths: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for one, other in read_parallel(source, target):
        digest.update(f"{one}\n{other}\n".encode())
        lengths[_purpose(one, other)].append(len(one.split()))
    longest = int(statistics.median(lengths["train"])) if lengths["train"] else 0
    sizes = (longest // 2, longest, longest + longest // 2, 2 * longest)
    held = [sum(low < each <= high for each in lengths["test"]) for low, high in pairwise((0, *sizes))]
    if longest < 4 or min(held) < 20 or len(lengths["validation"]) < 20:
        raise InputError(
            f"'data' and 'target' must be files of some thousand lines of sentences, of other lengths. Got "
            f"{sum(map(len, lengths.values())):,} lines of {longest} words in the middle, of which {min(held)} can be "
            "tested of some length. Give more text."
        )
    return {
        "source": source, "target": target, "digest": digest.hexdigest(), "sizes": sizes, "longest": longest,
        "beyond": sizes[2],
    }  # fmt: skip


NUMBERS: dict[str, dict[str, Any]] = {
    "quick": {
        "count": (1, 2), "digits": (1, 2), "sizes": (1, 2, 3), "longest": 2, "beyond": 3, "pairs": 4000, "batch": 16,
        "validated": 48, "tested": 64, "evaluate_every": 25,
    },
    "full": {
        "count": (1, 3), "digits": (1, 6), "sizes": (1, 2, 3, 4, 5, 6), "longest": 3, "beyond": 4, "pairs": 50_000,
        "batch": 64, "validated": 200, "tested": 200, "evaluate_every": 100,
    },
}  # fmt: skip
TEXT: dict[str, dict[str, Any]] = {
    "quick": {
        "pairs": 20_000, "batch": 32, "validated": 100, "tested": 100, "words": 2000, "evaluate_every": 50,
        "learned": 3.3, "solved": 0.0,
    },
    "full": {
        "pairs": 100_000, "batch": 32, "validated": 300, "tested": 300, "words": 3000, "evaluate_every": 200,
        "learned": 2.6, "solved": 0.0,
    },
}  # fmt: skip
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {"rnnsearch": {"width": 16, "steps": 275}, "transformer": {"width": 24, "steps": 350}},
    "full": {"rnnsearch": {"width": 64, "steps": 3000}, "transformer": {"width": 64, "steps": 4000}},
}
TEXT_SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {"rnnsearch": {"width": 32, "steps": 600}, "transformer": {"width": 32, "steps": 600}},
    "full": {"rnnsearch": {"width": 64, "steps": 2000}, "transformer": {"width": 64, "steps": 2600}},
}
RATES = {"rnnsearch": (0.00562, 0.01778, 0.05623), "transformer": (0.00178, 0.00562, 0.01778)}
"""By half decades, so placed that the best of most arms is within them."""
TEXT_RATES = {"rnnsearch": (0.00178, 0.00562, 0.01778), "transformer": (0.00178, 0.00562, 0.01778)}
LABELS = {"rnnsearch": "RNNsearch", "transformer": "Transformer"}


def contest(options: Options) -> Contest:
    """The contest of the attention place: number words, or a person's own parallel text."""
    arms, preset = chosen_arms(options.maps), options.preset
    given = None if options.text is None else of_text(*options.text)
    chosen: list[Translate] = []
    for kind, label in LABELS.items():
        about: dict[str, Any] = {"name": kind, "label": label, "kind": kind, "optimizer": Adam(clip=1.0)}
        if given is None:
            # A step costs a fleet about 10 ms before its members cost anything.
            about |= {"learning_rates": RATES[kind], "largest_fleet": 60, "learned": 0.1, "solved": 0.01}
            chosen.append(NumberLists(**about, **SIZES[preset][kind], **NUMBERS[preset]))
        else:
            about |= {"learning_rates": TEXT_RATES[kind], "largest_fleet": 8}  # of large vocabularies
            chosen.append(ParallelText(**about, **TEXT_SIZES[preset][kind], **TEXT[preset], **given))
    for arm in arms:
        if arm not in ARMS:
            for task in chosen:
                check_arm(task, arm, "loss")
    return Contest(
        place="attention",
        name="attention",
        arms=arms,
        tasks=tuple(chosen),
        report=attention_report.report,
        code=(
            "softplace.maps",
            "softplace.attention",
            "softplace.study.contests._learning",
            "softplace.study.contests.attention",
            "softplace.study.contests.attention_arms",
            "softplace.study.contests.attention_members",
        ),
        uses=("preset", "maps", "text"),
    )

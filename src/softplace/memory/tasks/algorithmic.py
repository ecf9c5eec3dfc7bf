"""The five tasks of the Neural Turing Machine's paper (Graves, Wayne and Danihelka 2014, section 4).

Axes: T time, B batch, I inputs, O outputs.

An input row has the data first and then the channels that the task names. Rows at which the net must answer are zero.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.memory.tasks import metrics
from softplace.memory.tasks.task import Episode, Setting, Span, Task, draw, span, whole

MOST_ORDER = 16


def settings(
    heads: int, feedforward_heads: int, feedforward_hidden: int, lstm_hidden: int, rates: tuple[float, float, float],
    layers: int = 1,
) -> dict[str, dict[str, Setting]]:  # fmt: skip
    """The rows of tables 1 to 3 of the paper: NTM with LSTM and feed-forward controller, and the LSTM alone.

    `rates` are the learning rates in the order feed-forward NTM, LSTM NTM, LSTM. A head of the paper is one read and
    one write head. The paper has no DNC: it gets the sizes and the rate of the NTM.
    """
    memory: dict[str, Setting] = {"slots": 128, "width": 20, "batch": 1}
    ntm = memory | {"hidden_size": 100, "layers": layers, "learning_rate": rates[1]}
    return {
        "ntm": ntm | {"controller": "lstm", "read_heads": heads, "write_heads": heads, "shift_range": 1},
        "ntm-feedforward": memory
        | {"hidden_size": feedforward_hidden, "layers": 1, "learning_rate": rates[0], "controller": "feedforward"}
        | {"read_heads": feedforward_heads, "write_heads": feedforward_heads, "shift_range": 1},
        "dnc": ntm | {"controller": "lstm", "read_heads": heads, "write_heads": 1},
        "lstm": {"hidden_size": lstm_hidden, "layers": 3, "learning_rate": rates[2], "batch": 1},
    }


@dataclass(frozen=True, kw_only=True)
class BitTask(Task):
    """A task whose answers are bits: cost and errors of all counted bits of a sequence.

    Args:
        equal_lengths: One draw of the lengths for the whole batch: no padding, and the same distribution of each
            sequence on its own. The paper has batches of one, where it makes no difference.
    """

    equal_lengths: bool = False

    def loss(self, outputs: Tensor, episode: Episode) -> Tensor:
        """Bits per sequence: see `metrics.bits_per_sequence`. A net that answers 1/2 pays one bit per bit."""
        self.check(outputs, episode)
        return metrics.bits_per_sequence(outputs, episode.targets, episode.mask)

    def errors(self, outputs: Tensor, episode: Episode) -> dict[str, Tensor]:
        """By name: "bits" (loss), "wrong bits" and "wrong share" (of the counted bits), (B,) each."""
        bits = self.loss(outputs, episode)
        wrong = metrics.wrong_bits(outputs, episode.targets, episode.mask)
        counted = metrics.counted_bits(episode.targets, episode.mask)
        return {"bits": bits, "wrong bits": wrong, "wrong share": wrong / counted.clamp(min=1)}

    def _spans(self, **least: int) -> None:
        """Check fields that are spans, and store them as pairs."""
        for name, value in least.items():
            object.__setattr__(self, name, span(name, getattr(self, name), value))  # the dataclass is frozen

    def _wholes(self, **least: int) -> None:
        """Check fields that are whole numbers."""
        for name, value in least.items():
            whole(name, getattr(self, name), value)


@dataclass(frozen=True, kw_only=True)
class Copy(BitTask):
    """Repeat a sequence of random bits after its end (section 4.1).

    A sequence of length L has T = 2 L + 2 steps: start flag, L vectors, end flag, L answers.
    Inputs: `bits` channels of data, start flag, end flag. Outputs: `bits`.
    The paper has a flag at the end alone; a start flag costs one step and makes no answer easier.

    Args:
        bits: Width of a vector.
        length: Vectors in a sequence.
    """

    bits: int = 8
    length: Span = (1, 20)

    name: ClassVar[str] = "copy"
    difficulty: ClassVar[tuple[str, ...]] = ("length",)
    presets: ClassVar[Mapping[str, Mapping[str, Setting]]] = settings(1, 1, 100, 256, (1e-4, 1e-4, 3e-5))

    def __post_init__(self) -> None:
        self._wholes(bits=1)
        self._spans(length=1)

    @property
    def input_size(self) -> int:
        return self.bits + 2

    @property
    def output_size(self) -> int:
        return self.bits

    @property
    def longer(self) -> Mapping[str, Mapping[str, Any]]:
        """Figure 4: lengths 30, 50 and 120 for a net trained up to 20."""
        return {f"length {each}": {"length": each} for each in (30, 50, 120)}

    @property
    def levels(self) -> tuple[Mapping[str, Any], ...]:
        """The longest length from its least to its most, one more each."""
        low, high = span("length", self.length, 1)
        return tuple({"length": (low, each)} for each in range(low, high + 1))

    def _draw(self, batch: int, generator: torch.Generator) -> Episode:
        lengths = draw(span("length", self.length, 1), batch, generator, equal=self.equal_lengths)
        longest = _most(lengths)
        data = _bits((longest, batch, self.bits), generator)
        data = data * _before(lengths, longest)
        inputs = data.new_zeros(2 * longest + 2, batch, self.input_size)
        targets = data.new_zeros(2 * longest + 2, batch, self.bits)
        inputs[0, :, self.bits] = 1
        inputs[1 : longest + 1, :, : self.bits] = data
        rows = torch.arange(batch, device=data.device)
        inputs[lengths + 1, rows, self.bits + 1] = 1
        steps = torch.arange(2 * longest + 2, device=data.device).unsqueeze(-1)
        mask = (steps >= lengths + 2) & (steps < 2 * lengths + 2)
        _scatter(targets, mask, data, _before(lengths, longest))
        return Episode(inputs, targets, mask, 2 * lengths + 2)


@dataclass(frozen=True, kw_only=True)
class AssociativeRecall(BitTask):
    """Shown items and then one of them again, give the item that followed it (section 4.3).

    With n items of V vectors a sequence has T = n (V + 1) + 2 V + 2 steps: before each item its flag, then the query
    between two query flags, then V answers. Inputs: `bits` channels of data, item flag, query flag. Outputs: `bits`.
    The query is uniform among all items but the last. The items of a sequence are distinct, so that the answer is a
    function of the inputs; the paper does not say so (two of six items of 18 bits are equal once in 17,000 sequences).

    Args:
        bits: Width of a vector.
        vectors: V, vectors in an item.
        items: n, items in a sequence.
    """

    bits: int = 6
    vectors: int = 3
    items: Span = (2, 6)

    name: ClassVar[str] = "associative-recall"
    difficulty: ClassVar[tuple[str, ...]] = ("items",)
    presets: ClassVar[Mapping[str, Mapping[str, Setting]]] = settings(1, 4, 256, 256, (1e-4, 1e-4, 1e-4))

    def __post_init__(self) -> None:
        self._wholes(bits=1, vectors=1)
        self._spans(items=2)
        most = span("items", self.items, 2)[1]
        if 2 ** (self.bits * self.vectors) < most**2:  # drawing again until all differ must end soon
            raise InputError(
                f"'items' of task {self.name!r} must be distinct: {self.bits * self.vectors} bits an item are too few "
                f"for {most} items. Use at least {(most**2 - 1).bit_length()} bits an item (bits * vectors)."
            )

    @property
    def input_size(self) -> int:
        return self.bits + 2

    @property
    def output_size(self) -> int:
        return self.bits

    @property
    def longer(self) -> Mapping[str, Mapping[str, Any]]:
        """Figure 11: up to 20 items for a net trained up to 6."""
        return {f"{each} items": {"items": each} for each in (8, 10, 12, 15, 20)}

    @property
    def levels(self) -> tuple[Mapping[str, Any], ...]:
        """The most items from the least to the most, one more each."""
        low, high = span("items", self.items, 2)
        return tuple({"items": (low, each)} for each in range(low, high + 1))

    def _draw(self, batch: int, generator: torch.Generator) -> Episode:
        counts = draw(span("items", self.items, 2), batch, generator, equal=self.equal_lengths)
        most, vectors, bits = _most(counts), self.vectors, self.bits
        items = _bits((batch, most, vectors * bits), generator)
        while batch and (again := _repeated(items)).any():
            items[again] = _bits((int(again.sum()), most, vectors * bits), generator)
        chosen = (torch.rand(batch, generator=generator, device=items.device) * (counts - 1)).long()
        rows = torch.arange(batch, device=items.device)
        shown = items.view(batch, most, vectors, bits).permute(1, 2, 0, 3)  # (items, V, B, bits)
        length = most * (vectors + 1) + 2 * vectors + 2
        inputs = items.new_zeros(length, batch, self.input_size)
        targets = items.new_zeros(length, batch, bits)
        listed = inputs[: most * (vectors + 1)].view(most, vectors + 1, batch, self.input_size)
        present = _before(counts, most).unsqueeze(1)
        listed[:, 1:, :, :bits] = shown * present
        listed[:, 0, :, bits] = present[:, 0, :, 0]
        query = counts * (vectors + 1)
        inputs[query, rows, bits + 1] = 1
        inputs[query + vectors + 1, rows, bits + 1] = 1
        for step in range(vectors):
            inputs[query + 1 + step, rows, :bits] = shown[chosen, step, rows]
            targets[query + vectors + 2 + step, rows] = shown[chosen + 1, step, rows]
        steps = torch.arange(length, device=items.device).unsqueeze(-1)
        lengths = query + 2 * vectors + 2
        mask = (steps >= lengths - vectors) & (steps < lengths)
        return Episode(inputs, targets, mask, lengths)


@dataclass(frozen=True, kw_only=True)
class RepeatCopy(BitTask):
    """Repeat a sequence of random bits as often as asked, then say that it is done (section 4.2).

    With L vectors and n repeats a sequence has T = L + 2 + L n + 1 steps: start flag, L vectors, end flag together
    with the scaled n, L n answers, the end marker.
    Inputs: `bits` channels of data, start flag, end flag, n. Outputs: `bits`, end marker, all of which count at every
    answer. n is scaled to mean 0 and variance 1 over the range `scaled`, whatever the difficulty is. The paper has no
    flags; with them the step of an n that is scaled to 0 differs from a vector of zeros.

    Args:
        bits: Width of a vector.
        length: L, vectors in a sequence.
        repeats: n.
        scaled: The range of n in training.
    """

    bits: int = 8
    length: Span = (1, 10)
    repeats: Span = (1, 10)
    scaled: Span = (1, 10)

    name: ClassVar[str] = "repeat-copy"
    difficulty: ClassVar[tuple[str, ...]] = ("length", "repeats")
    presets: ClassVar[Mapping[str, Mapping[str, Setting]]] = settings(1, 1, 100, 512, (1e-4, 1e-4, 3e-5))

    def __post_init__(self) -> None:
        self._wholes(bits=1)
        self._spans(length=1, repeats=1, scaled=1)

    @property
    def input_size(self) -> int:
        return self.bits + 3

    @property
    def output_size(self) -> int:
        return self.bits + 1

    @property
    def longer(self) -> Mapping[str, Mapping[str, Any]]:
        """Figure 8: twice the length, and twice the repeats, of a net trained up to 10 and 10."""
        return {
            "length 20, 10 repeats": {"length": 20, "repeats": 10},
            "length 10, 20 repeats": {"length": 10, "repeats": 20},
        }

    @property
    def levels(self) -> tuple[Mapping[str, Any], ...]:
        """The longest length and the most repeats, one more of each a lesson until both are at their most."""
        length, repeats = span("length", self.length, 1), span("repeats", self.repeats, 1)
        return tuple(
            {
                "length": (length[0], min(length[0] + more, length[1])),
                "repeats": (repeats[0], min(repeats[0] + more, repeats[1])),
            }
            for more in range(max(length[1] - length[0], repeats[1] - repeats[0]) + 1)
        )

    def _scale(self, repeats: Tensor) -> Tensor:
        low, high = span("scaled", self.scaled, 1)
        deviation = math.sqrt(((high - low + 1) ** 2 - 1) / 12)  # of a uniform whole number
        return (repeats - (low + high) / 2) / (deviation or 1.0)

    def _draw(self, batch: int, generator: torch.Generator) -> Episode:
        lengths = draw(span("length", self.length, 1), batch, generator, equal=self.equal_lengths)
        repeats = draw(span("repeats", self.repeats, 1), batch, generator, equal=self.equal_lengths)
        longest, ends = _most(lengths), lengths * (repeats + 1) + 3
        data = _bits((longest, batch, self.bits), generator) * _before(lengths, longest)
        total = max(_most(ends), 3)
        inputs = data.new_zeros(total, batch, self.input_size)
        rows = torch.arange(batch, device=data.device)
        inputs[0, :, self.bits] = 1
        inputs[1 : longest + 1, :, : self.bits] = data
        inputs[lengths + 1, rows, self.bits + 1] = 1
        inputs[lengths + 1, rows, self.bits + 2] = self._scale(repeats).to(inputs.dtype)
        steps = torch.arange(total, device=data.device).unsqueeze(-1)
        mask = (steps >= lengths + 2) & (steps < ends)
        last = steps == ends - 1
        source = 1 + (steps - lengths - 2) % lengths  # the step that showed what is to be said now
        answers = inputs[source, rows, : self.bits] * (mask & ~last).unsqueeze(-1)
        return Episode(inputs, torch.cat((answers, last.unsqueeze(-1).to(answers.dtype)), -1), mask, ends)


@dataclass(frozen=True, kw_only=True)
class NGrams(BitTask):
    """Predict the next bit of a random n-gram source, and learn which source it is on the way (section 4.4).

    A sequence has its own table of P(1 | last n - 1 bits), Beta(1/2, 1/2) each; its first n - 1 bits are fair.
    T = `length`: at each step the input is the bit before (0 at the first step) and the target the bit now, so all
    `length` bits count; with 200 bits of 6-grams the best cost is 134 bits on average.

    Args:
        order: n; the table has 2^(n - 1) entries.
        length: Bits in a sequence.
    """

    order: int = 6
    length: int = 200

    name: ClassVar[str] = "n-grams"
    difficulty: ClassVar[tuple[str, ...]] = ("length",)
    presets: ClassVar[Mapping[str, Mapping[str, Setting]]] = settings(1, 1, 100, 128, (3e-5, 3e-5, 1e-4))

    def __post_init__(self) -> None:
        self._wholes(order=1, length=1)
        if self.order > MOST_ORDER:
            raise InputError(
                f"'order' of task {self.name!r} must be at most {MOST_ORDER}: a sequence has a table of 2^(order - 1) "
                f"numbers. Got {self.order}. Use for instance 6."
            )

    @property
    def input_size(self) -> int:
        return 1

    @property
    def output_size(self) -> int:
        return 1

    def errors(self, outputs: Tensor, episode: Episode) -> dict[str, Tensor]:
        """By name: "bits" (loss), "optimum" (of the best estimator, eq. 10) and "above optimum", (B,) each."""
        bits = self.loss(outputs, episode)
        best = metrics.ngram_optimum(episode.targets[..., 0], self.order - 1).to(bits.dtype)
        return {"bits": bits, "optimum": best, "above optimum": bits - best}

    def _draw(self, batch: int, generator: torch.Generator) -> Episode:
        context = self.order - 1
        # P(1) by the inverse of the distribution function of Beta(1/2, 1/2), which is the arcsine law
        uniform = torch.rand(batch, 2**context, generator=generator, device=generator.device, dtype=torch.float64)
        table = torch.sin(uniform * (math.pi / 2)).square()
        chance = torch.rand(self.length, batch, generator=generator, device=generator.device, dtype=torch.float64)
        odds, chances = table.cpu().numpy(), chance.cpu().numpy()  # a step of NumPy costs a fifth of one of torch
        values = np.zeros((self.length, batch), dtype=np.int64)
        past, rows = np.zeros(batch, dtype=np.int64), np.arange(batch)
        for step in range(self.length):
            values[step] = chances[step] < (odds[rows, past] if step >= context else 0.5)
            past = (2 * past + values[step]) % 2**context
        bits = torch.from_numpy(values).to(generator.device)
        targets = bits.float().unsqueeze(-1)
        inputs = torch.cat((targets.new_zeros(1, batch, 1), targets[:-1]))
        mask = torch.ones(self.length, batch, dtype=torch.bool, device=generator.device)
        return Episode(inputs, targets, mask, torch.full((batch,), self.length, device=generator.device))


@dataclass(frozen=True, kw_only=True)
class PrioritySort(BitTask):
    """Give the vectors of highest priority, the highest first (section 4.5).

    T = `vectors` + 2 + `highest` steps: start flag, the vectors each with its priority, end flag, the answers.
    Inputs: `bits` channels of data, priority, start flag, end flag. Outputs: `bits`. Priorities are uniform on
    [-1, 1); of equal ones (two of a sequence are, once in 90,000) the vector shown first comes first.

    Args:
        bits: Width of a vector.
        vectors: Shown in a sequence.
        highest: How many of them to give.
    """

    bits: int = 8
    vectors: int = 20
    highest: int = 16

    name: ClassVar[str] = "priority-sort"
    difficulty: ClassVar[tuple[str, ...]] = ("vectors", "highest")
    presets: ClassVar[Mapping[str, Mapping[str, Setting]]] = settings(
        5, 8, 512, 128, (3e-5, 3e-5, 3e-5), layers=2
    )  # fmt: skip

    def __post_init__(self) -> None:
        self._wholes(bits=1, vectors=1, highest=1)
        if self.highest > self.vectors:
            raise InputError(
                f"'highest' of task {self.name!r} must be at most 'vectors' ({self.vectors}). Got {self.highest}. "
                f"Lower it, or show more vectors."
            )

    @property
    def input_size(self) -> int:
        return self.bits + 3

    @property
    def output_size(self) -> int:
        return self.bits

    @property
    def levels(self) -> tuple[Mapping[str, Any], ...]:
        """A fifth of the vectors more each lesson, the same share of them to give."""
        shown = sorted({math.ceil(self.vectors * part / 5) for part in range(1, 6)})
        return tuple({"vectors": each, "highest": max(1, each * self.highest // self.vectors)} for each in shown)

    def _draw(self, batch: int, generator: torch.Generator) -> Episode:
        count, answers, bits = self.vectors, self.highest, self.bits
        data = _bits((count, batch, bits), generator)
        priorities = torch.rand(count, batch, generator=generator, device=generator.device) * 2 - 1
        total = count + 2 + answers
        inputs = data.new_zeros(total, batch, self.input_size)
        inputs[0, :, bits + 1] = 1
        inputs[1 : count + 1, :, :bits] = data
        inputs[1 : count + 1, :, bits] = priorities
        inputs[count + 1, :, bits + 2] = 1
        order = priorities.sort(stable=True, dim=0, descending=True).indices[:answers]
        targets = data.new_zeros(total, batch, bits)
        targets[count + 2 :] = data[order, torch.arange(batch, device=data.device)]
        mask = torch.zeros(total, batch, dtype=torch.bool, device=data.device)
        mask[count + 2 :] = True
        return Episode(inputs, targets, mask, torch.full((batch,), total, device=data.device))


def _bits(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Fair random bits as floats."""
    return torch.randint(0, 2, shape, generator=generator, device=generator.device, dtype=torch.float32)


def _most(lengths: Tensor) -> int:
    """The longest of a batch; 0 for an empty batch."""
    return int(lengths.max()) if len(lengths) else 0


def _before(lengths: Tensor, longest: int) -> Tensor:
    """(longest, B, 1), True before the end of each sequence."""
    return (torch.arange(longest, device=lengths.device).unsqueeze(-1) < lengths).unsqueeze(-1)


def _scatter(targets: Tensor, mask: Tensor, data: Tensor, present: Tensor) -> None:
    """Put the present rows of `data`, sequence by sequence, at the steps where `mask` is True."""
    targets.transpose(0, 1)[mask.T] = data.transpose(0, 1)[present.squeeze(-1).T]


def _repeated(items: Tensor) -> Tensor:
    """(B, n, bits) -> (B,), True where two items of a sequence are equal."""
    same = (items.unsqueeze(1) == items.unsqueeze(2)).all(-1)
    return same.triu(1).flatten(1).any(-1)

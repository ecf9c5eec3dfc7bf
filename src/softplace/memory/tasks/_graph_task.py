"""What the graph tasks share: sequences written down step by step, a graph from a name, cost and errors of triples.

T time, B batch. The docstring of `softplace.memory.tasks.graphs` has the channels.
"""

import math
import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.memory.tasks._draws import Draws, bounded
from softplace.memory.tasks._graph import (
    BLANK,
    NUMBERS,
    TRIPLE,
    Graph,
    channels,
    decode,
    example,
    random_graph,
    read_graph,
)
from softplace.memory.tasks.task import Episode, Span, Task, whole

Triple = tuple[int, int, int]

NOTHING: Triple = (BLANK, BLANK, BLANK)
NEW_PHASE, ANSWER = TRIPLE, TRIPLE + 1
ATTEMPTS = 200


class Script:
    """One sequence as it is written down: the channels that are 1 at each step, and the answers by step."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []
        self.answers: dict[int, Triple] = {}

    def phase(self, shown: Sequence[Triple], answers: Sequence[Triple] = ()) -> None:
        """Append a phase: a triple is shown at each step; where there are answers, one for each step."""
        first = len(self.rows)
        self.rows += [channels(each) for each in shown]
        if first and shown:
            self.rows[first].append(NEW_PHASE)
        for step, answer in enumerate(answers, start=first):
            self.rows[step].append(ANSWER)
            self.answers[step] = answer


def assemble(scripts: Sequence[Script], device: torch.device) -> Episode:
    """A batch of scripts as tensors, the shorter ones padded at the end."""
    lengths = torch.tensor([len(script.rows) for script in scripts], dtype=torch.long)
    longest = int(lengths.max()) if scripts else 0
    inputs = torch.zeros(longest, len(scripts), TRIPLE + 2)
    targets = torch.zeros(longest, len(scripts), TRIPLE)
    mask = torch.zeros(longest, len(scripts), dtype=torch.bool)
    for member, script in enumerate(scripts):
        for step, ones in enumerate(script.rows):
            inputs[step, member, ones] = 1
        for step, answer in script.answers.items():
            targets[step, member, channels(answer)] = 1
            mask[step, member] = True
    return Episode(inputs, targets, mask, lengths).to(device)


@lru_cache(maxsize=4)
def _from_file(path: str, _stamp: tuple[int, int]) -> Graph:
    return read_graph(path)


def file_graph(path: str) -> Graph:
    """The graph of a file, read again only when the file has changed."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):  # no such file, or no such path at all: the reader says so
        return read_graph(path)
    return _from_file(path, (status.st_mtime_ns, status.st_size))


@dataclass(frozen=True, kw_only=True)
class GraphTask(Task):
    """What the three graph tasks share: graphs, triples as digits, cost and errors.

    Args:
        graph: "random", "example", or the path of a CSV file. `nodes` and `out_degree` matter for random graphs.
        nodes: Number of nodes.
        out_degree: Number of edges that leave a node; at most all other nodes.
        planning: Steps between query and answer.
    """

    graph: str = "random"
    nodes: Span = (10, 40)
    out_degree: Span = (2, 6)
    planning: int = 0

    kinds: ClassVar[tuple[str, ...]] = ("random", "example")

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", bounded("nodes", self.nodes, 2, NUMBERS))  # the dataclass is frozen
        object.__setattr__(self, "out_degree", bounded("out_degree", self.out_degree, 1, NUMBERS))
        whole("planning", self.planning, 0)
        if self.graph in self.kinds:
            return
        if not isinstance(self.graph, str) or not os.path.exists(self.graph):
            kinds = ", ".join(map(repr, self.kinds))
            raise InputError(
                f"'graph' of task {self.name!r} must be {kinds} or the path of a CSV file that exists. "
                f"Got {self.graph!r}. Check the path."
            )
        file_graph(self.graph)

    @property
    def input_size(self) -> int:
        return TRIPLE + 2

    @property
    def output_size(self) -> int:
        return TRIPLE

    @abstractmethod
    def _script(self, draws: Draws) -> Script:
        """One sequence."""

    def _draw(self, batch: int, generator: torch.Generator) -> Episode:
        draws = Draws(generator)
        return assemble([self._script(draws) for _ in range(batch)], generator.device)

    def _some_graph(self, draws: Draws) -> Graph:
        if self.graph == "random":
            size = draws.within(bounded("nodes", self.nodes, 2, NUMBERS))
            return random_graph(size, bounded("out_degree", self.out_degree, 1, NUMBERS), draws)
        return example() if self.graph == "example" else file_graph(self.graph)

    def _impossible(self, what: str) -> InputError:
        where = "the graph" if self.graph == "example" or self.graph not in self.kinds else f"{ATTEMPTS} graphs"
        return InputError(
            f"Task {self.name!r}: expected {what}, found none in {where} {self.graph!r}. "
            "Use shorter ones, or a larger graph."
        )

    def loss(self, outputs: Tensor, episode: Episode) -> Tensor:
        """Bits of the answers: minus log2 of the probability of each digit, summed over nine digits and all answers.

        The paper's cost in nats, divided by log 2. Returns (B,).
        """
        self.check(outputs, episode)
        scores = _by_digit(outputs).log_softmax(-1)
        nats = -torch.where(_by_digit(episode.targets) > 0.5, scores, 0.0).sum((-1, -2))
        return torch.where(episode.mask, nats, 0.0).sum(0) / math.log(2)

    def errors(self, outputs: Tensor, episode: Episode) -> dict[str, Tensor]:
        """ "bits" (the loss), "wrong triples" and "wrong sequence" (1 if any triple is wrong), (B,) each.

        A triple is right if the most likely of each ten digits is. The paper gives 1 - the mean of "wrong sequence".
        """
        bits = self.loss(outputs, episode)
        wrong = (decode(outputs) != decode(episode.targets)).any(-1) & episode.mask
        return measures(bits, wrong.sum(0), wrong.any(0))


def measures(bits: Tensor, triples: Tensor, sequence: Tensor) -> dict[str, Tensor]:
    """The dictionary of `errors`, in the dtype of the cost."""
    return {"bits": bits, "wrong triples": triples.to(bits.dtype), "wrong sequence": sequence.to(bits.dtype)}


def _by_digit(vectors: Tensor) -> Tensor:
    """(..., 90) -> (..., 9, 10)."""
    return vectors.reshape(*vectors.shape[:-1], 9, 10)

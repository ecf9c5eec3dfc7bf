"""The graph tasks of the paper of the DNC (Graves et al. 2016): traversal, shortest path, inference.

T time, B batch. Inputs have 92 channels: a triple (source, edge label, destination) as 90 (3 labels x 3 digits x 10
one-hot; zeros = not given), channel 90 = the first step of a phase (of each but the first), channel 91 = an answer is
wanted. Outputs have 90: nine softmaxes over the ten digits. Phases: the graph's triples in random order, then query,
planning (nothing is shown), answer.

From the paper (Methods; Extended Data Tables 2 to 5): all of this, the random graphs, queries, answers, curricula and
settings. Ours, as the paper does not say: which two channels the flags are, that the first is a pulse, that the pattern
which ends an answer is the triple 999 999 999 (one step, for traversal and shortest path), and what a task's docstring
names. The lessons are as transcribed: 10 and 11 of inference and of shortest path are equal.

The paper tests on the London Underground and on a family tree, neither of which was released. `graph="example"` is a
small tram network invented here, `graph="family"` (inference) a random family; any other text is the path of a CSV file
(`source,destination,label`), whose nodes get new numbers in every sequence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.memory.tasks._draws import Draws, bounded
from softplace.memory.tasks._graph import (
    BLANK,
    NUMBERS,
    TERMINATION,
    TRIPLE,
    Edge,
    Graph,
    channels,
    decode,
    distances,
    neighbours,
    random_family,
)
from softplace.memory.tasks._graph_task import (
    ANSWER,
    ATTEMPTS,
    NEW_PHASE,
    NOTHING,
    GraphTask,
    Script,
    Triple,
    file_graph,
    measures,
)
from softplace.memory.tasks.task import Episode, Setting, Span, span, whole

_SINGLE_LABELS = 10
_RELATIONS_PER_LENGTH = 100
_RELATION_LENGTHS = (2, 5)


def _settings(slots: int, layers: int, batch: int, rate: float) -> dict[str, dict[str, Setting]]:
    """Extended Data Table 2 for the DNC. The paper tunes an LSTM without saying how: it gets the DNC's controller."""
    lstm: dict[str, Setting] = {"hidden_size": 256, "layers": layers, "batch": batch, "learning_rate": rate}
    memory: dict[str, Setting] = {"slots": slots, "width": 50, "read_heads": 5, "write_heads": 1, "controller": "lstm"}
    return {"dnc": lstm | memory, "lstm": lstm}


def _numbering(graph: Graph, draws: Draws) -> Callable[[Edge], Triple]:
    """Fresh numbers 0 .. 999 for nodes and for labels, each kind without repetition."""
    nodes = draws.sample(range(NUMBERS), graph.size)
    labels = draws.sample(range(NUMBERS), graph.labels)
    return lambda edge: (nodes[edge.source], labels[edge.label], nodes[edge.destination])


@dataclass(frozen=True, kw_only=True)
class Traversal(GraphTask):
    """Follow edge labels from a node, and report each triple on the way (Methods, "Traversal").

    A walk of L edges: the query has L steps, (source, label, _) and then (_, label, _); the answer is the L complete
    triples and the end pattern, while nothing is shown. The walk is random: uniform start, uniform edge at each node
    (of those from which the rest of the walk exists, which in a random graph is every edge).

    Args:
        path_length: L.
    """

    path_length: Span = (1, 20)

    name: ClassVar[str] = "traversal"
    difficulty: ClassVar[tuple[str, ...]] = ("nodes", "out_degree", "path_length", "graph")
    presets: ClassVar[Mapping[str, Mapping[str, Setting]]] = _settings(256, 3, 2, 1e-5)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "path_length", span("path_length", self.path_length, 1))

    @property
    def longer(self) -> Mapping[str, Mapping[str, Any]]:
        """Walks of seven edges on another kind of graph, as on the London Underground in the paper, and longer ones."""
        if self.graph != "random":
            return {}
        return {"example, 7 edges": {"graph": "example", "path_length": 7}, "30 edges": {"path_length": 30}}

    @property
    def levels(self) -> tuple[Mapping[str, Any], ...]:
        """Extended Data Table 3. A lesson is done at 90 % right; 10 % of the sequences come from earlier lessons."""
        rows = (
            ((3, 10), 4, 1), ((3, 10), 4, 2), ((5, 10), 4, 3), ((5, 10), 4, 4), ((10, 15), 4, 4), ((10, 15), 4, 5),
            ((10, 20), 4, 5), ((10, 20), 4, 6), ((10, 30), 4, 6), ((10, 30), 4, 7), ((10, 30), 4, 8), ((10, 30), 4, 9),
            ((10, 40), 6, 10), ((10, 40), 6, 20),
        )  # fmt: skip
        if self.graph != "random":
            return ({},)
        return tuple({"nodes": n, "out_degree": (2, k), "path_length": (1, most)} for n, k, most in rows)

    def _script(self, draws: Draws) -> Script:
        graph = self._some_graph(draws)
        low, high = span("path_length", self.path_length, 1)
        leaving: list[list[Edge]] = [[] for _ in range(graph.size)]
        for edge in graph.edges:
            leaving[edge.source].append(edge)
        starts = [set(range(graph.size))]  # starts[l]: the nodes from which a walk of l edges exists
        for _ in range(high):
            starts.append({node for node in starts[-1] if any(e.destination in starts[-1] for e in leaving[node])})
        possible = [length for length in range(low, high + 1) if starts[length]]
        if not possible:
            raise self._impossible(f"a walk of {low} to {high} edges")
        length = draws.choice(possible)
        node, walk = draws.choice(sorted(starts[length])), list[Edge]()
        for left in range(length - 1, -1, -1):
            walk.append(draws.choice([edge for edge in leaving[node] if edge.destination in starts[left]]))
            node = walk[-1].destination
        numbered = _numbering(graph, draws)
        answer = [numbered(edge) for edge in walk]
        script = Script()
        script.phase([numbered(edge) for edge in draws.shuffled(graph.edges)])
        script.phase([(answer[0][0], answer[0][1], BLANK), *((BLANK, label, BLANK) for _, label, _ in answer[1:])])
        script.phase([NOTHING] * self.planning)
        script.phase([NOTHING] * (length + 1), [*answer, TERMINATION])
        return script


class Walk(NamedTuple):
    """What a net did that was shown its own moves.

    Fields:
        outputs: (T, B, 90) of the net; they carry gradients.
        episode: What it was shown, with the right answer from each node that it came to: fit for `loss`.
        moves: (B,) edges that it took to the destination, -1 where it did not come there.
        shortest: (B,) edges of a shortest path.
    """

    outputs: Tensor
    episode: Episode
    moves: Tensor
    shortest: Tensor


class _Question(NamedTuple):
    """A shortest-path sequence read back from its inputs."""

    leaving: dict[int, list[Triple]]
    """The edges by their source."""
    source: int
    destination: int
    left: dict[int, int]
    """Edges left to the destination, of each node that has a way to it."""
    start: int
    """The first step of the answer."""

    def right(self, node: int) -> list[Triple]:
        """The answers that are right at a node: edges of shortest paths, or the end pattern."""
        if node == self.destination:
            return [TERMINATION]
        left = self.left.get(node, 0) - 1
        return [each for each in self.leaving.get(node, []) if self.left.get(each[2]) == left]


def _questions(episode: Episode) -> list[_Question]:
    shown = decode(episode.inputs[..., :TRIPLE]).cpu()
    phases = episode.inputs[..., NEW_PHASE].cpu() > 0.5
    answers = episode.mask.cpu()
    result = []
    for member in range(answers.shape[1]):
        query = int(phases[:, member].nonzero()[0])
        leaving: dict[int, list[Triple]] = {}
        entering: dict[int, list[int]] = {}
        for source, label, destination in shown[:query, member].tolist():
            leaving.setdefault(source, []).append((source, label, destination))
            entering.setdefault(destination, []).append(source)
        source, _, destination = shown[query, member].tolist()
        left, frontier = {destination: 0}, [destination]
        for node in frontier:  # grows while it is walked: breadth first
            for before in entering.get(node, []):
                if before not in left:
                    left[before] = left[node] + 1
                    frontier.append(before)
        start = int(answers[:, member].nonzero()[0])
        result.append(_Question(leaving, source, destination, left, start))
    return result


@dataclass(frozen=True, kw_only=True)
class ShortestPath(GraphTask):
    """Given two nodes, report the edges of a shortest path between them (Methods, "Shortest path").

    The query is one step, (source, _, destination); the answer is a path of L edges and the end pattern. While it
    answers, the net is shown the edge taken at the step before.

    `sample` shows the edges of one shortest path drawn uniformly at each node (teacher forcing), and `loss` compares
    all nine digits. The paper trains otherwise, with DAGGER: the edge taken is the net's own with probability 0.2, the
    answer that is wanted is worked out anew at the node where that leads, and the probabilities are normalised over the
    edges of that node. `walk` runs a net in that way, for training (`teacher=0.8`; the cost stays that of the digits)
    and for the paper's measure (`teacher=0`): the share of sequences with `moves == shortest`.

    Args:
        path_length: L, the distance from source to destination. Uniform among those that the drawn graph has.
    """

    nodes: Span = (20, 25)
    out_degree: Span = (2, 6)
    planning: int = 10
    path_length: Span = (2, 5)

    name: ClassVar[str] = "shortest-path"
    difficulty: ClassVar[tuple[str, ...]] = ("nodes", "out_degree", "path_length", "graph")
    presets: ClassVar[Mapping[str, Mapping[str, Setting]]] = _settings(128, 2, 1, 3e-6)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "path_length", span("path_length", self.path_length, 1))

    @property
    def notes(self) -> tuple[str, ...]:
        return ("The net is shown the teacher's moves, in training and here; the paper shows it its own (`walk`).",)

    @property
    def longer(self) -> Mapping[str, Mapping[str, Any]]:
        """Paths of four edges on another kind of graph, as on the London Underground in the paper."""
        if self.graph != "random":
            return {}
        return {"example, 4 edges": {"graph": "example", "path_length": 4}}

    @property
    def levels(self) -> tuple[Mapping[str, Any], ...]:
        """Extended Data Table 5. Done when 80 % of the walks are shortest (Methods: at most one edge longer)."""
        rows = (
            ((5, 10), (1, 2), 2), ((5, 20), (1, 2), 2), ((10, 20), (1, 2), 2), ((10, 20), (1, 2), 3),
            ((10, 20), (1, 3), 3), ((10, 20), (2, 3), 3), ((10, 20), (2, 3), 4), ((10, 20), (2, 4), 4),
            ((10, 25), (2, 4), 4), ((10, 25), (2, 4), 5), ((10, 25), (2, 4), 5), ((15, 25), (2, 4), 5),
            ((15, 25), (2, 5), 5), ((20, 25), (2, 5), 5), ((20, 25), (2, 6), 5),
        )  # fmt: skip
        if self.graph != "random":
            return ({},)
        return tuple({"nodes": n, "out_degree": k, "path_length": (2, most)} for n, k, most in rows)

    def _script(self, draws: Draws) -> Script:
        low, high = span("path_length", self.path_length, 1)
        for _ in range(ATTEMPTS if self.graph == "random" else 1):
            graph = self._some_graph(draws)
            table = distances(graph)
            if possible := [length for length in range(low, high + 1) if (table == length).any()]:
                break
        else:
            raise self._impossible(f"two nodes {low} to {high} edges apart")
        node, end = draws.choice(np.argwhere(table == draws.choice(possible)).tolist())
        numbered = _numbering(graph, draws)
        path = list[Triple]()
        while node != end:
            closer = table[node, end] - 1
            edge = draws.choice([e for e in graph.edges if e.source == node and table[e.destination, end] == closer])
            path.append(numbered(edge))
            node = edge.destination
        script = Script()
        script.phase([numbered(edge) for edge in draws.shuffled(graph.edges)])
        script.phase([(path[0][0], BLANK, path[-1][2])])
        script.phase([NOTHING] * self.planning)
        script.phase([NOTHING, *path], [*path, TERMINATION])
        return script

    def errors(self, outputs: Tensor, episode: Episode) -> dict[str, Tensor]:
        """ "bits", "wrong triples" and "wrong sequence" (0 or 1), (B,) each; any shortest path is right.

        A triple is right if it is an edge of a shortest path from the node that the net was shown as its place, or at
        the destination the end pattern. A sequence is right if all its triples are, or if they are, taken by
        themselves, a shortest path of the graph (which the inputs describe) and the end pattern.
        """
        bits = self.loss(outputs, episode)
        answers = decode(outputs).cpu()
        shown = decode(episode.inputs[..., :TRIPLE]).cpu()
        mask = episode.mask.cpu()
        triples, sequences = [], []
        for member, question in enumerate(_questions(episode)):
            steps = mask[:, member].nonzero().flatten().tolist()
            given = [(a, b, c) for a, b, c in answers[steps, member].tolist()]
            places = [question.source, *shown[steps[1:], member, 2].tolist()]
            wrong = sum(answer not in question.right(node) for node, answer in zip(places, given, strict=True))
            own = [question.source, *(answer[2] for answer in given[:-1])]
            alone = all(answer in question.right(node) for node, answer in zip(own, given, strict=True))
            triples.append(wrong)
            sequences.append(wrong > 0 and not alone)
        return measures(bits, bits.new_tensor(triples), bits.new_tensor(sequences))

    def walk(
        self,
        net: Callable[[Tensor, Any], tuple[Tensor, Any]],
        episode: Episode,
        *,
        teacher: float = 0.0,
        extra: int = 1,
        generator: torch.Generator | None = None,
    ) -> Walk:
        """Let a net walk: at each node it takes the edge that it finds most likely among those that leave the node.

        Args:
            net: Time first: `outputs, state = net(inputs, state)`.
            episode: The questions; what it shows during the answers is not used.
            teacher: Probability (each move on its own) that a right edge is taken instead; the paper's beta.
            extra: Moves that it may make beyond the shortest path.
            generator: Draws the moves of the teacher; not needed at 0 and 1.

        Raises:
            InputError: `teacher` is no probability, or lacks a generator.
        """
        if not 0 <= teacher <= 1 or (0 < teacher < 1 and generator is None):
            raise InputError(
                f"'teacher' must be a probability, and 'generator' given unless it is 0 or 1. Got {teacher!r} and "
                f"{'no' if generator is None else 'a'} generator. Use e.g. teacher=0.8, generator=torch.Generator()."
            )
        whole("extra", extra, 0)
        draws = Draws(generator) if generator is not None and 0 < teacher < 1 else None
        questions = _questions(episode)
        if not questions:
            none = episode.lengths
            return Walk(episode.inputs.new_zeros(*episode.mask.shape, TRIPLE), episode, none, none)
        shortest = [question.left[question.source] for question in questions]
        last = max(each.start + length + extra + 1 for each, length in zip(questions, shortest, strict=True))
        first = min(question.start for question in questions)
        inputs = episode.inputs.new_zeros(last, *episode.inputs.shape[1:])
        targets = episode.targets.new_zeros(last, *episode.targets.shape[1:])
        mask = episode.mask.new_zeros(last, len(questions))
        for member, question in enumerate(questions):
            inputs[: question.start, member] = episode.inputs[: question.start, member]
            inputs[question.start, member, [NEW_PHASE, ANSWER]] = 1
        places = [question.source for question in questions]
        taken, moves = [0] * len(questions), [-1] * len(questions)
        lengths, going = [0] * len(questions), set(range(len(questions)))
        rows = list(inputs.unbind())
        outputs, state = net(inputs[:first].clone(), None)
        answers = [outputs]
        for step in range(first, last):
            outputs, state = net(rows[step].unsqueeze(0).clone(), state)  # backward needs a row as the net had it
            answers.append(outputs)
            scores = outputs[0].detach().reshape(-1, 9, 10).log_softmax(-1).flatten(1).cpu()
            for member in sorted(going):
                question, place = questions[member], places[member]
                if step < question.start:
                    continue
                lengths[member] = step + 1
                right = question.right(place)
                if right:
                    targets[step, member, channels(right[0])] = 1
                    mask[step, member] = True
                if place == question.destination:
                    moves[member] = taken[member]
                if not right or place == question.destination or taken[member] == shortest[member] + extra:
                    going.remove(member)  # no way on, there, or out of moves
                    continue
                move = right[0]
                if teacher == 0 or (draws is not None and draws.number() >= teacher):
                    move = _likeliest(question.leaving[place], scores[member])
                rows[step + 1][member, [*channels(move), ANSWER]] = 1
                places[member] = move[2]
                taken[member] += 1
        counts = episode.lengths.new_tensor
        walked = Episode(torch.stack(rows), targets, mask, counts(lengths))
        return Walk(torch.cat(answers), walked, counts(moves), counts(shortest))


def _likeliest(edges: list[Triple], scores: Tensor) -> Triple:
    """The edge whose nine digits have the largest log-probability, scores (90,) in all; the first of equal ones."""
    totals = [float(scores[channels(edge)].sum()) for edge in edges]
    return edges[totals.index(max(totals))]


@lru_cache(maxsize=8)
def relations(seed: int = 0) -> tuple[tuple[int, ...], ...]:
    """The 400 relations: sequences of single edge labels 0 .. 9; the label of the i-th is 10 + i.

    100 different ones of each length from 2 to 5, so all of length 2. The paper's own were never released; like there,
    they are fixed for all nets that are to be compared.
    """
    draws = Draws(torch.Generator().manual_seed(seed))
    result: list[tuple[int, ...]] = []
    for length in range(_RELATION_LENGTHS[0], _RELATION_LENGTHS[1] + 1):
        codes = draws.sample(range(_SINGLE_LABELS**length), _RELATIONS_PER_LENGTH)
        result += [tuple(code // _SINGLE_LABELS**place % _SINGLE_LABELS for place in range(length)) for code in codes]
    return tuple(result)


@dataclass(frozen=True, kw_only=True)
class Inference(GraphTask):
    """Name the node that a relation leads to; a relation is a hidden name of a sequence of edge labels ("Inference").

    Edge labels are 0 .. 9, relations 10 .. 409 (see `relations`; nothing shows what they stand for). Several queries on
    a graph: each is (start, relation, _), planning, and one answer (start, relation, end), without an end pattern.

    How the paper makes graphs on which a drawn relation exists is not said. Ours: nodes and edges as in the other
    tasks; for each query a relation (uniform length, then uniform) and a start, from which a random walk is labelled as
    the relation wants, consistently with the labels given before; then other edges get labels at random, those of a
    node all different. On a family or a file (at most 10 edge labels, numbered as they first occur), queries are drawn
    from the pairs of a start and a relation that exist there.

    Args:
        relation_length: Edges of a relation.
        queries: Queries on a graph.
        relation_seed: Which 400 relations.
    """

    nodes: Span = (20, 25)
    out_degree: Span = (2, 4)
    planning: int = 10
    relation_length: Span = (2, 5)
    queries: int = 3
    relation_seed: int = 0

    name: ClassVar[str] = "inference"
    kinds: ClassVar[tuple[str, ...]] = ("random", "family")
    difficulty: ClassVar[tuple[str, ...]] = ("nodes", "out_degree", "relation_length", "queries", "graph")
    presets: ClassVar[Mapping[str, Mapping[str, Setting]]] = _settings(128, 3, 32, 1e-5)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "out_degree", bounded("out_degree", self.out_degree, 1, _SINGLE_LABELS))
        lengths = bounded("relation_length", self.relation_length, *_RELATION_LENGTHS)
        object.__setattr__(self, "relation_length", lengths)
        whole("queries", self.queries, 1)
        whole("relation_seed", self.relation_seed, 0)
        if self.graph not in self.kinds and (count := file_graph(self.graph).labels) > _SINGLE_LABELS:
            raise InputError(
                f"Graph file {self.graph!r}: expected at most {_SINGLE_LABELS} labels for task {self.name!r}, got "
                f"{count}. Give a part of the graph."
            )

    @property
    def longer(self) -> Mapping[str, Mapping[str, Any]]:
        """Relations of four edges in families, as in the paper (there, one family)."""
        if self.graph != "random":
            return {}
        return {"family, 4 edges": {"graph": "family", "relation_length": 4}}

    @property
    def levels(self) -> tuple[Mapping[str, Any], ...]:
        """Extended Data Table 4. A lesson is done at 90 % right; 10 % of the sequences come from earlier lessons."""
        rows = (
            ((3, 3), 2, 2), ((3, 5), 2, 2), ((4, 6), 4, 2), ((4, 6), 4, 2), ((6, 12), 4, 2), ((12, 18), 4, 2),
            ((4, 6), 4, 3), ((6, 12), 4, 3), ((12, 18), 4, 3), ((4, 6), 4, 4), ((4, 6), 4, 4), ((6, 12), 4, 4),
            ((12, 18), 4, 4), ((4, 6), 4, 5), ((6, 12), 4, 5), ((12, 18), 4, 5), ((20, 25), 4, 5),
        )  # fmt: skip
        if self.graph != "random":
            return ({},)
        return tuple({"nodes": n, "out_degree": (2, k), "relation_length": (2, most)} for n, k, most in rows)

    def _candidates(self) -> dict[int, list[int]]:
        """The relations (their places in the list) by length."""
        low, high = bounded("relation_length", self.relation_length, *_RELATION_LENGTHS)
        found: dict[int, list[int]] = {length: [] for length in range(low, high + 1)}
        for place, sequence in enumerate(relations(self.relation_seed)):
            if len(sequence) in found:
                found[len(sequence)].append(place)
        return found

    def _script(self, draws: Draws) -> Script:
        for _ in range(1 if self.graph not in self.kinds else ATTEMPTS):
            graph, queries = self._planted(draws) if self.graph == "random" else self._found(draws)
            if len(queries) == self.queries:
                break
        else:
            raise self._impossible(f"{self.queries} relations")
        nodes = draws.sample(range(NUMBERS), graph.size)
        script = Script()
        script.phase([(nodes[e.source], e.label, nodes[e.destination]) for e in draws.shuffled(graph.edges)])
        for start, relation, end in queries:
            label = _SINGLE_LABELS + relation
            script.phase([(nodes[start], label, BLANK)])
            script.phase([NOTHING] * self.planning)
            script.phase([NOTHING], [(nodes[start], label, nodes[end])])
        return script

    def _planted(self, draws: Draws) -> tuple[Graph, list[Triple]]:
        """A random graph labelled so that its queries (start, relation, end) exist; fewer where no more would fit."""
        size = draws.within(bounded("nodes", self.nodes, 2, NUMBERS))
        near = neighbours(size, bounded("out_degree", self.out_degree, 1, _SINGLE_LABELS), draws)
        candidates = self._candidates()
        labelled: list[dict[int, int]] = [{} for _ in range(size)]  # of each node: label -> destination
        queries: list[Triple] = []
        for _ in range(self.queries * ATTEMPTS):
            if len(queries) == self.queries:
                break
            relation = draws.choice(candidates[draws.choice(tuple(candidates))])
            start = node = draws.below(size)
            added: list[tuple[int, int]] = []
            for label in relations(self.relation_seed)[relation]:
                if label not in labelled[node]:
                    free = [other for other in near[node] if other not in labelled[node].values()]
                    if not free:
                        break
                    labelled[node][label] = draws.choice(free)
                    added.append((node, label))
                node = labelled[node][label]
            else:
                queries.append((start, relation, node))
                continue
            for place, label in added:
                del labelled[place][label]
        for node, others in enumerate(near):
            free = [other for other in others if other not in labelled[node].values()]
            spare = [label for label in range(_SINGLE_LABELS) if label not in labelled[node]]
            labelled[node].update(zip(draws.sample(spare, len(free)), free, strict=True))
        edges = tuple(Edge(node, label, end) for node, each in enumerate(labelled) for label, end in each.items())
        return Graph(size, _SINGLE_LABELS, edges), queries

    def _found(self, draws: Draws) -> tuple[Graph, list[Triple]]:
        """A family or the file's graph, and queries that exist there."""
        if self.graph == "family":
            graph = random_family(draws.within(bounded("nodes", self.nodes, 2, NUMBERS)), draws)
        else:
            graph = file_graph(self.graph)
        table = {(edge.source, edge.label): edge.destination for edge in graph.edges}
        known: list[list[Triple]] = []
        for places in self._candidates().values():
            of_length: list[Triple] = []
            for place in places:
                for start in range(graph.size):
                    node: int | None = start
                    for label in relations(self.relation_seed)[place]:
                        node = None if node is None else table.get((node, label))
                    if node is not None:
                        of_length.append((start, place, node))
            if of_length:
                known.append(of_length)
        return graph, [draws.choice(draws.choice(known)) for _ in range(self.queries)] if known else []

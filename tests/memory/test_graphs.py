"""The graph tasks against oracles that read the inputs themselves; the generator neither decodes nor solves here."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path
from scipy.spatial import KDTree
from scipy.stats import chisquare

from softplace.errors import InputError
from softplace.memory import tasks
from softplace.memory.tasks._draws import Draws
from softplace.memory.tasks._graph import FAMILY_LABELS, example, neighbours, random_family, read_graph
from softplace.memory.tasks.graphs import Inference, ShortestPath, Traversal, relations

END = (999, 999, 999)
HEADER = "source,destination,label\n"
KINDS = (Traversal, ShortestPath, Inference)
LEVELS = [(kind, number) for kind in KINDS for number in range(len(kind().levels))]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def number(digits):
    """One label of 30 channels as its number; None where it is blank."""
    digits = digits.reshape(3, 10)
    if not digits.any():
        return None
    assert (digits.sum(1) == 1).all()
    assert ((digits == 0) | (digits == 1)).all()
    return int("".join(str(int(row.argmax())) for row in digits))


def triple(row):
    return tuple(number(row[first : first + 30]) for first in (0, 30, 60))


def logits(answer, scale=20.0):
    """Outputs that say a triple."""
    row = torch.zeros(90)
    for part, value in enumerate(answer):
        for place, digit in enumerate(f"{value:03d}"):
            row[30 * part + 10 * place + int(digit)] = scale
    return row


class Sequence(NamedTuple):
    """One sequence in phases, read from its channels."""

    graph: list
    rounds: list  # of (query triples, planning steps, shown while answering, answers)

    @property
    def edges(self):
        return {(source, label): end for source, label, end in self.graph}


def read(episode, member):
    inputs, targets = episode.inputs[:, member].numpy(), episode.targets[:, member].numpy()
    mask, length = episode.mask[:, member].numpy(), int(episode.lengths[member])
    assert not inputs[length:].any()
    assert not targets[length:].any()
    assert not mask[length:].any()
    assert (inputs[:, 91].astype(bool) == mask).all()
    assert (targets.any(1) == mask).all()
    starts = [0, *np.flatnonzero(inputs[:, 90]), length]
    phases = [[triple(inputs[step]) for step in range(*ends)] for ends in pairwise(starts)]
    answered = [mask[first] for first in starts[:-1]]
    assert all(mask[first:last].all() or not mask[first:last].any() for first, last in pairwise(starts))
    rounds, at = [], 1
    while at < len(phases):
        query, planning = phases[at], 0
        at += 1
        if not answered[at]:
            assert all(each == (None, None, None) for each in phases[at])
            planning, at = len(phases[at]), at + 1
        answers = [triple(targets[step]) for step in range(starts[at], starts[at + 1])]
        rounds.append((query, planning, phases[at], answers))
        at += 1
    return Sequence(phases[0], rounds)


def table(sequence):
    """Distances by scipy, and the index of each node."""
    nodes = sorted({edge[0] for edge in sequence.graph} | {edge[2] for edge in sequence.graph})
    place = {node: index for index, node in enumerate(nodes)}
    rows, columns = zip(*[(place[edge[0]], place[edge[2]]) for edge in sequence.graph], strict=True)
    matrix = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(nodes), len(nodes)))
    return shortest_path(matrix, unweighted=True), place


def check_answer(kind, sequence, setting):
    """Derive the answers from what is shown."""
    for query, planning, shown, answers in sequence.rounds:
        blank = (None, None, None)
        if kind is Traversal:
            assert planning == 0
            assert query[0][2] is None
            assert all(each[0] is None and each[2] is None for each in query[1:])
            low, high = setting["path_length"]
            assert low <= len(query) <= high
            node, expected = query[0][0], []
            for _, label, _ in query:
                expected.append((node, label, sequence.edges[node, label]))
                node = expected[-1][2]
            assert answers == [*expected, END]
            assert shown == [blank] * len(answers)
        elif kind is ShortestPath:
            assert planning == 10
            ((source, label, destination),) = query
            assert label is None
            distances, place = table(sequence)
            *path, end = answers
            assert end == END
            assert set(path) <= set(sequence.graph)
            assert [source, *(edge[2] for edge in path)] == [*(edge[0] for edge in path), destination]
            assert len(path) == distances[place[source], place[destination]]
            low, high = setting["path_length"]
            assert low <= len(path) <= high
            assert shown == [blank, *path]
        else:
            assert planning == 10
            ((start, relation, none),) = query
            assert none is None
            labels = relations()[relation - 10]
            low, high = setting["relation_length"]
            assert low <= len(labels) <= high
            node = start
            for label in labels:
                node = sequence.edges[node, label]
            assert answers == [(start, relation, node)]
            assert shown == [blank]


@pytest.mark.parametrize(("kind", "level"), LEVELS)
def test_every_lesson_is_what_it_says(kind, level):
    task = kind()
    setting = task.levels[level]
    episode = task.sample(6, seeded(level), **setting)
    assert episode.inputs.shape == (*episode.mask.shape, 92)
    assert episode.targets.shape == (*episode.mask.shape, 90)
    assert int(episode.lengths.max()) == len(episode.inputs)
    for member in range(6):
        sequence = read(episode, member)
        sources = [edge[0] for edge in sequence.graph]
        assert setting["nodes"][0] <= len(set(sources)) <= setting["nodes"][1]
        assert {edge[2] for edge in sequence.graph} <= set(sources)
        assert len(sequence.edges) == len(sequence.graph)
        assert all(edge[0] != edge[2] for edge in sequence.graph)
        for source in set(sources):
            ends = [edge[2] for edge in sequence.graph if edge[0] == source]
            assert len(set(ends)) == len(ends)
            low, high = setting["out_degree"]
            assert min(low, len(set(sources)) - 1) <= len(ends) <= high
        labels = {edge[1] for edge in sequence.graph}
        assert len(labels) <= (10 if kind is Inference else len(set(sources)))
        if kind is Inference:
            assert max(labels) < 10
            assert len(sequence.rounds) == 3
        else:
            assert len(sequence.rounds) == 1
        check_answer(kind, sequence, setting)


def test_the_lessons_end_with_the_task_itself():
    assert [len(kind().levels) for kind in KINDS] == [14, 15, 17]
    for kind in KINDS:
        task = kind()
        assert {name: getattr(task, name) for name in task.levels[-1]} == dict(task.levels[-1])
        assert kind(graph="family" if kind is Inference else "example").levels == ({},)


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_decides_everything(kind):
    task = kind()
    before = torch.random.get_rng_state()
    one, other = task.sample(3, seeded(5)), task.sample(3, seeded(5))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert torch.equal(before, torch.random.get_rng_state())
    different = task.sample(3, seeded(6))
    assert one.inputs.shape != different.inputs.shape or not torch.equal(one.inputs, different.inputs)
    generator = seeded(5)
    task.sample(3, generator)
    again = task.sample(3, generator)
    assert one.inputs.shape != again.inputs.shape or not torch.equal(one.inputs, again.inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_batch(kind):
    task = kind()
    episode = task.sample(0, seeded())
    assert episode.inputs.shape == (0, 0, 92)
    outputs = torch.zeros(0, 0, 90)
    assert task.loss(outputs, episode).shape == (0,)
    assert {name: value.shape for name, value in task.errors(outputs, episode).items()} == dict.fromkeys(
        ("bits", "wrong triples", "wrong sequence"), (0,)
    )


def test_edges_go_to_the_nearest_points():
    found = neighbours(30, (2, 6), Draws(seeded(3)))
    draws = Draws(seeded(3))
    points = [(draws.number(), draws.number()) for _ in range(30)]
    _, order = KDTree(points).query(points, k=7)
    for node, others in enumerate(found):
        assert others == order[node, 1 : len(others) + 1].tolist()
    assert {len(others) for others in found} == {2, 3, 4, 5, 6}
    assert [len(others) for others in neighbours(3, (4, 4), Draws(seeded()))] == [2, 2, 2]


def test_draws_are_uniform():
    draws = Draws(seeded(1))
    counts = np.bincount([draws.within((3, 9)) for _ in range(7000)], minlength=10)
    assert counts[:3].sum() == 0
    assert chisquare(counts[3:]).pvalue > 1e-4
    orders = np.bincount([int("".join(draws.shuffled("012")), 3) for _ in range(6000)], minlength=27)
    assert chisquare(orders[orders > 0]).pvalue > 1e-4
    assert (orders > 0).sum() == 6


def test_numbers_of_nodes_are_uniform_and_the_order_of_edges_is_random():
    episode = Traversal().sample(60, seeded(2))
    sequences = [read(episode, member) for member in range(60)]
    nodes = [node for each in sequences for node in {edge[0] for edge in each.graph}]
    assert chisquare(np.bincount(np.array(nodes) // 100, minlength=10)).pvalue > 1e-4
    firsts = [[edge[0] for edge in each.graph] for each in sequences]
    assert not any(first == sorted(first) for first in firsts)
    split = [sum(a != b for a, b in pairwise(first)) / len(first) for first in firsts]
    assert np.mean(split) > 0.8  # in the order of construction, an out-degree of 4 gives 0.25


def test_relations_are_a_hundred_of_each_length_and_fixed():
    all_of = relations()
    assert [len(each) for each in all_of] == [length for length in (2, 3, 4, 5) for _ in range(100)]
    assert len(set(all_of)) == 400
    assert set(all_of[:100]) == {(a, b) for a in range(10) for b in range(10)}
    assert relations(1) != all_of
    assert all_of == relations(0)


def test_any_planning_and_number_of_queries():
    episode = Inference(planning=0).sample(2, seeded(), queries=5, relation_length=(2, 2))
    for member in range(2):
        sequence = read(episode, member)
        assert [planning for _, planning, _, _ in sequence.rounds] == [0] * 5
    episode = Traversal(planning=4).sample(2, seeded(), path_length=3)
    assert [read(episode, member).rounds[0][1] for member in range(2)] == [4, 4]


def test_the_loss_is_bits_of_digits():
    task = Traversal()
    episode = task.sample(4, seeded(), path_length=(1, 5))
    answers = episode.mask.sum(0).double()
    uniform = torch.zeros(*episode.mask.shape, 90, dtype=torch.float64)
    torch.testing.assert_close(task.loss(uniform, episode), answers * 9 * math.log2(10))
    sure = episode.targets.double() * 100
    torch.testing.assert_close(task.loss(sure, episode), torch.zeros(4, dtype=torch.float64))
    noise = torch.randn(uniform.shape, dtype=torch.float64, generator=seeded())
    spoiled = torch.where(episode.mask.unsqueeze(-1), noise, float("nan"))
    torch.testing.assert_close(task.loss(spoiled, episode), task.loss(noise, episode))
    with pytest.raises(InputError, match=r"output_size=90"):
        task.loss(noise[..., :89], episode)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_count_triples_and_sequences(kind):
    task = kind()
    episode = task.sample(3, seeded(8))
    outputs = episode.targets * 20
    right = task.errors(outputs, episode)
    assert all(not value.any() for name, value in right.items() if name != "bits")
    step = int(episode.mask[:, 1].nonzero()[0])
    digit = outputs[step, 1, :10].clone()
    outputs[step, 1, :10] = digit.roll(1)  # another hundreds digit of the source
    wrong = task.errors(outputs, episode)
    assert wrong["wrong triples"].tolist() == [0, 1, 0]
    assert wrong["wrong sequence"].tolist() == [0, 1, 0]


@pytest.fixture
def diamond(tmp_path):
    """Two shortest paths from A to D, and a longer one."""
    path = tmp_path / "diamond.csv"
    rows = ["A,B,left", "B,D,left", "A,C,right", "C,D,right", "A,E,on", "E,F,on", "F,D,on"]
    path.write_text("source,destination,label\n" + "\n".join(rows) + "\n")
    return str(path)


def test_any_shortest_path_is_right(diamond):
    task = ShortestPath(graph=diamond, path_length=2)
    seen = set()
    for seed in range(40):
        episode = task.sample(1, seeded(seed))
        sequence = read(episode, 0)
        ((query,), _, _, answers) = sequence.rounds[0]
        source, _, destination = query
        ways = [
            [(source, first, middle), (middle, second, destination)]
            for (begin, first), middle in sequence.edges.items()
            for (again, second), end in sequence.edges.items()
            if begin == source and again == middle and end == destination
        ]
        assert answers[:-1] in ways
        if len(ways) < 2:
            continue
        start = int(episode.mask[:, 0].nonzero()[0])

        def judge(path, start=start, episode=episode):
            outputs = torch.zeros(*episode.mask.shape, 90)
            for step, answer in enumerate(path):
                outputs[start + step, 0] = logits(answer)
            found = task.errors(outputs, episode)
            return found["wrong triples"].item(), found["wrong sequence"].item()

        other = next(way for way in ways if way != answers[:-1])
        assert judge([*answers[:-1], END]) == (0, 0)
        assert judge([*other, END]) == (1, 0)  # its second edge does not start at the node that was shown
        assert judge([other[0], answers[1], END]) == (0, 0)  # right at each node that was shown
        assert judge([answers[0], other[1], END]) == (1, 1)
        assert judge([*other, other[1]]) == (2, 1)  # no end
        long = next((source, label, end) for (begin, label), end in sequence.edges.items()
                    if begin == source and end not in (ways[0][0][2], ways[1][0][2]))  # fmt: skip
        assert judge([long, answers[1], END]) == (1, 1)
        assert judge([(source, 998, destination), END, END]) == (2, 1)  # no such edge
        seen.add(tuple(answers))
    assert len(seen) > 1


@pytest.mark.parametrize("kind", [Traversal, ShortestPath])
def test_ways_are_drawn_uniformly_at_each_node(kind, tmp_path):
    path = tmp_path / "fork.csv"
    path.write_text(HEADER + "A,B,x\nA,C,y\nB,D,x\nC,D,x\nC,E,y\n")  # from A over B or over C, where two edges leave
    task = kind(graph=str(path), path_length=2)
    degrees, ends = [], []
    for member, episode in enumerate([task.sample(300, seeded(1))] * 300):
        sequence = read(episode, member)
        answers = sequence.rounds[0][3]
        degrees.append(sum(edge[0] == answers[1][0] for edge in sequence.graph))
        ends.append(sum(edge[2] == answers[1][2] for edge in sequence.graph))
    to_d = [degree for degree, end in zip(degrees, ends, strict=True) if end == 2]
    if kind is Traversal:
        assert chisquare([degrees.count(1), degrees.count(2)]).pvalue > 1e-4
        assert chisquare([to_d.count(1), 2 * to_d.count(2)]).pvalue > 1e-4
    else:
        assert chisquare([to_d.count(1), to_d.count(2)]).pvalue > 1e-4
        assert chisquare([ends.count(1), ends.count(2)]).pvalue > 1e-4  # the two pairs of nodes two edges apart


class Planner:
    """A net that solves the task from its inputs, or takes bad edges; its state is what it has been shown."""

    def __init__(self, good=True):
        self.good = good
        self.shown = []

    def __call__(self, inputs, state):
        history = inputs if state is None else torch.cat([state, inputs])
        outputs = torch.zeros(*inputs.shape[:2], 90)
        if state is not None:
            for member in range(inputs.shape[1]):
                if inputs[0, member, 91]:
                    outputs[0, member] = logits(self.answer(history[:, member].numpy()))
        return outputs, history

    def answer(self, rows):
        query = int(np.flatnonzero(rows[:, 90])[0])
        sequence = Sequence([triple(row) for row in rows[:query]], [])
        source, _, destination = triple(rows[query])
        shown = triple(rows[-1])
        node = source if shown == (None, None, None) else shown[2]
        if node == destination:
            return END
        distances, place = table(sequence)
        pick = min if self.good else max
        return pick(
            (edge for edge in sequence.graph if edge[0] == node),
            key=lambda edge: distances[place[edge[2]], place[destination]],
        )


def test_a_walk_of_a_net_that_plans():
    task = ShortestPath()
    episode = task.sample(5, seeded(4))
    walk = task.walk(Planner(), episode)
    assert torch.equal(walk.moves, walk.shortest)
    assert walk.outputs.shape == (*walk.episode.mask.shape, 90)
    found = task.errors(walk.outputs, walk.episode)
    assert not found["wrong triples"].any()
    assert not found["wrong sequence"].any()
    for member in range(5):
        check_answer_of_walk(read(walk.episode, member), moves=int(walk.moves[member]))


def check_answer_of_walk(sequence, moves):
    ((query,), _, shown, answers) = sequence.rounds[0]
    source, _, destination = query
    distances, place = table(sequence)
    nodes = [source, *(edge[2] for edge in shown[1:])]
    assert set(shown[1:]) <= set(sequence.graph)
    assert [edge[0] for edge in shown[1:]] == nodes[:-1]
    for node, answer in zip(nodes, answers, strict=True):
        if node == destination:
            assert answer == END
            continue
        assert answer in sequence.graph
        assert answer[0] == node
        left = distances[place[node], place[destination]]
        assert distances[place[answer[2]], place[destination]] == left - 1
    assert (moves == len(shown) - 1) if nodes[-1] == destination else moves == -1


def test_a_walk_of_a_net_that_strays_is_corrected_from_where_it_is():
    task = ShortestPath(nodes=(8, 10), path_length=(2, 3))
    episode = task.sample(8, seeded(4))
    walk = task.walk(Planner(good=False), episode, extra=3)
    assert (walk.moves != walk.shortest).any()
    for member in range(8):
        sequence = read(walk.episode, member)
        check_answer_of_walk(sequence, moves=int(walk.moves[member]))
        assert len(sequence.rounds[0][2]) - 1 <= int(walk.shortest[member]) + 3
    taught = task.walk(Planner(good=False), episode, teacher=1)
    assert torch.equal(taught.moves, taught.shortest)
    mixed = [task.walk(Planner(good=False), episode, teacher=0.8, generator=seeded(9)) for _ in range(2)]
    assert torch.equal(mixed[0].episode.inputs, mixed[1].episode.inputs)
    taken = [each.episode.inputs[: len(taught.episode.inputs)] for each in (mixed[0], walk, taught)]
    assert not torch.equal(taken[0], taken[1])
    assert not torch.equal(taken[0], taken[2])


class Recurrent(torch.nn.Module):
    """A net with the calls of the memories, as small as can be."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(92 + 8, 8)
        self.outer = torch.nn.Linear(8, 90)

    def forward(self, inputs, state=None):
        state = inputs.new_zeros(inputs.shape[1], 8) if state is None else state
        outputs = []
        for row in inputs:
            state = torch.tanh(self.inner(torch.cat([row, state], -1)))
            outputs.append(self.outer(state))
        return torch.stack(outputs), state


def test_a_walk_can_be_trained_on():
    torch.manual_seed(0)
    net, task = Recurrent(), ShortestPath(nodes=(5, 8), path_length=2)
    episode = task.sample(4, seeded(1))
    walk = task.walk(net, episode, teacher=0.8, generator=seeded(2))
    task.loss(walk.outputs, walk.episode).mean().backward()
    assert all(each.grad.abs().sum() > 0 for each in net.parameters())
    again, _ = net(walk.episode.inputs)  # what the net says is what it says of the episode that came out
    torch.testing.assert_close(again, walk.outputs)
    assert task.walk(net, task.sample(0, seeded())).moves.shape == (0,)


@pytest.mark.parametrize("options", [{"teacher": 0.5}, {"teacher": 1.5, "generator": seeded()}, {"extra": -1}])
def test_a_walk_refuses(options):
    task = ShortestPath()
    with pytest.raises(InputError):
        task.walk(Recurrent(), task.sample(1, seeded()), **options)


def test_the_example_is_a_network():
    graph = example()
    rows, columns = zip(*[(edge.source, edge.destination) for edge in graph.edges], strict=True)
    matrix = csr_array((np.ones(len(rows)), (rows, columns)), shape=(graph.size, graph.size))
    distances = shortest_path(matrix, unweighted=True)
    assert np.isfinite(distances).all()
    assert (distances == 4).any()
    assert len({(edge.source, edge.label) for edge in graph.edges}) == len(graph.edges)


@pytest.mark.parametrize(("kind", "options"), [(Traversal, {"path_length": 7}), (ShortestPath, {"path_length": 4})])
def test_tasks_on_the_example(kind, options):
    task = kind()
    assert {"graph": "example", **options} in task.longer.values()
    episode = task.sample(4, seeded(), graph="example", **options)
    for member in range(4):
        sequence = read(episode, member)
        assert len(sequence.graph) == len(example().edges)
        check_answer(kind, sequence, {"path_length": (options["path_length"],) * 2})


def test_a_family_is_one():
    for seed in range(10):
        graph = random_family(20 + seed, Draws(seeded(seed)))
        assert graph.label_names == FAMILY_LABELS
        of = {(edge.source, FAMILY_LABELS[edge.label]): edge.destination for edge in graph.edges}
        assert len(of) == len(graph.edges)
        assert {edge.source for edge in graph.edges} == set(range(graph.size))
        for (person, relation), other in of.items():
            assert person != other
            if relation == "spouse":
                assert of[other, "spouse"] == person
            if relation == "mother":
                assert of[other, "spouse"] == of[person, "father"]
                assert (person, "older sibling") in of or of[other, "eldest child"] == person
                assert (person, "younger sibling") in of or of[other, "youngest child"] == person
            if relation == "older sibling":
                assert of[other, "younger sibling"] == person
                assert of[other, "mother"] == of[person, "mother"]
        mothers = {other for (_, relation), other in of.items() if relation == "mother"}
        assert not mothers & {other for (_, relation), other in of.items() if relation == "father"}


def test_inference_in_families_and_files(tmp_path):
    task = Inference()
    episode = task.sample(4, seeded(), graph="family", relation_length=4)
    for member in range(4):
        check_answer(Inference, read(episode, member), {"relation_length": (4, 4)})
    path = tmp_path / "ring.csv"
    rows = [f"{i},{(i + 1) % 6},next\n{(i + 1) % 6},{i},back" for i in range(6)]
    path.write_text("source,destination,label\n" + "\n".join(rows))
    episode = Inference(graph=str(path), relation_length=2).sample(5, seeded())
    sequences = [read(episode, member) for member in range(5)]
    for sequence in sequences:
        assert {edge[1] for edge in sequence.graph} == {0, 1}
        check_answer(Inference, sequence, {"relation_length": (2, 2)})
    assert len({frozenset(edge[0] for edge in sequence.graph) for sequence in sequences}) == 5  # new numbers each time


def test_a_file_is_read(tmp_path):
    path = tmp_path / "g.csv"
    path.write_bytes('\ufeffSource, destination ,label\r\n"A, B",C,x\r\n\r\n C ,D,x\r\n'.encode())
    graph = read_graph(path)
    assert graph.names == ("A, B", "C", "D")
    assert [tuple(edge) for edge in graph.edges] == [(0, 0, 1), (1, 0, 2)]
    task = Traversal(graph=str(path), path_length=(1, 20))
    lengths = {len(read(task.sample(1, seeded(seed)), 0).rounds[0][0]) for seed in range(10)}
    assert lengths == {1, 2}  # no longer walk exists
    path.write_text("source,destination,label\nA,B,x\nB,C,y\nC,A,z\n")
    assert len(read(task.sample(1, seeded()), 0).graph) == 3  # a changed file is read again


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "at least one edge"),
        (HEADER, "at least one edge"),
        ("from,to,line\na,b,c\n", "expected the header"),
        (HEADER + "a,b\n", "line 2: expected 3 filled cells"),
        (HEADER + "a,b,c\na,,d\n", "line 3: expected 3 filled cells"),
        (HEADER + "a,b,c,d\n", "line 2: expected 3 filled cells"),
        (HEADER + "a,a,c\n", "to itself"),
        (HEADER + "a,b,c\n\na,d,c\n", r"line 4: expected one edge 'c' from 'a'.*line 2"),
        (HEADER + 'a,"b"x,c\n', "line 2: expected CSV"),
        (b"source,destination,label\na,\xff,c\n", "UTF-8"),
        (HEADER + "".join(f"n{i},n{i + 1},x\n" for i in range(1000)), "at most 1000 nodes, got 1001"),
        (HEADER + "".join(f"a,b,l{i}\n" for i in range(1001)), "at most 1000 labels, got 1001"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as caught:
        tasks.get("traversal", graph=str(path))
    assert "\n" not in str(caught.value)
    assert "bad.csv" in str(caught.value)


def test_no_file_is_one_clear_line(tmp_path):
    for graph in (str(tmp_path / "none.csv"), "", "a\0b", 5, None):
        with pytest.raises(InputError, match="'random', 'example' or the path") as caught:
            Traversal(graph=graph)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="readable CSV file"):
        Traversal(graph=str(tmp_path))
    with pytest.raises(InputError, match="expected a file that exists"):
        read_graph(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Traversal, {"nodes": 1}, "'nodes'"),
        (Traversal, {"nodes": (2, 1001)}, "at most 1000"),
        (Traversal, {"nodes": (5, 3)}, "'nodes'"),
        (Traversal, {"out_degree": 0}, "'out_degree'"),
        (Traversal, {"path_length": 0}, "'path_length'"),
        (ShortestPath, {"planning": -1}, "'planning'"),
        (ShortestPath, {"path_length": "long"}, "'path_length'"),
        (Inference, {"out_degree": 11}, "at most 10"),
        (Inference, {"relation_length": (2, 6)}, "at most 5"),
        (Inference, {"relation_length": 1}, "'relation_length'"),
        (Inference, {"queries": 0}, "'queries'"),
        (Inference, {"graph": "example"}, "'random', 'family' or the path"),
    ],
)
def test_bad_options(kind, options, message):
    with pytest.raises(InputError, match=message):
        kind(**options)


def test_what_cannot_be_drawn_says_so(tmp_path):
    with pytest.raises(InputError, match="two nodes 5 to 5 edges apart"):
        ShortestPath(nodes=3, path_length=5).sample(1, seeded())
    path = tmp_path / "g.csv"
    path.write_text(HEADER + "a,b,x\n")
    with pytest.raises(InputError, match="a walk of 2 to 4 edges"):
        Traversal(graph=str(path), path_length=(2, 4)).sample(1, seeded())
    with pytest.raises(InputError, match="3 relations"):
        Inference(graph=str(path)).sample(1, seeded())
    path.write_text(HEADER + "".join(f"a,b,l{i}\n" for i in range(11)))
    with pytest.raises(InputError, match="at most 10 labels"):
        Inference(graph=str(path))
    with pytest.raises(InputError, match="no difficulty 'length'"):
        Traversal().sample(1, seeded(), length=3)


@pytest.mark.parametrize("name", ["traversal", "shortest-path", "inference"])
def test_the_registry_and_the_settings_of_the_paper(name):
    task = tasks.get(name)
    assert (task.name, task.input_size, task.output_size) == (name, 92, 90)
    dnc = task.preset("dnc")
    expected = {"traversal": (256, 3, 2, 1e-5), "shortest-path": (128, 2, 1, 3e-6), "inference": (128, 3, 32, 1e-5)}
    assert tuple(dnc[key] for key in ("slots", "layers", "batch", "learning_rate")) == expected[name]
    assert (dnc["width"], dnc["read_heads"], dnc["hidden_size"]) == (50, 5, 256)
    assert "slots" not in task.preset("lstm")

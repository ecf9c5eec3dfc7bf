"""Graphs for the graph tasks: random ones, families, files; and their labels as vectors of digits.

T time, B batch. A triple is (source, edge label, destination): numbers 0 .. 999, or `BLANK` = not given. As a vector it
has 90 channels: 3 labels x 3 digits (hundreds first) x 10 one-hot; a blank label has zeros (Graves et al. 2016,
Methods, "Graph task descriptions").
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softplace.errors import InputError
from softplace.memory.tasks._draws import Draws

BLANK = -1
NUMBERS = 1000
TRIPLE = 90
TERMINATION = (999, 999, 999)
"""Ends an answer. No graph has an edge from a node to itself, so no triple of a graph looks like it."""

FAMILY_LABELS = ("mother", "father", "spouse", "eldest child", "youngest child", "older sibling", "younger sibling")
"""What the edge labels 0 .. 6 of a random family mean; an "older sibling" is the next older one."""

_HEADER = ("source", "destination", "label")


class Edge(NamedTuple):
    """Indices, not numbers: which node, which label, which node."""

    source: int
    label: int
    destination: int


class Graph(NamedTuple):
    """Nodes 0 .. size - 1 and directed edges; no two edges of a node share a label, and none ends where it starts."""

    size: int
    labels: int
    edges: tuple[Edge, ...]
    names: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()


def neighbours(size: int, out_degree: tuple[int, int], draws: Draws) -> list[list[int]]:
    """For each of `size` uniform points of the unit square, its K nearest; K uniform on `out_degree`, drawn per point.

    Methods, "Random graph generation". K is cut to size - 1: a graph of 3 nodes has no 4 neighbours.
    """
    points = [(draws.number(), draws.number()) for _ in range(size)]
    nearest = []
    for node, point in enumerate(points):
        others = [other for other in range(size) if other != node]
        others.sort(key=lambda other: math.dist(point, points[other]))
        nearest.append(others[: draws.within(out_degree)])
    return nearest


def random_graph(size: int, out_degree: tuple[int, int], draws: Draws) -> Graph:
    """A random graph with as many labels as nodes; the labels of a node's edges differ, and recur across the graph."""
    edges = []
    for node, others in enumerate(neighbours(size, out_degree, draws)):
        labels = draws.sample(range(size), len(others))
        edges += [Edge(node, label, other) for label, other in zip(labels, others, strict=True)]
    return Graph(size, size, tuple(edges))


def random_family(size: int, draws: Draws) -> Graph:
    """A family tree of `size` people, its labels `FAMILY_LABELS`. How it grows is ours; the paper's tree is not public.

    A couple has one to three children; seven in ten of them marry somebody from outside, whose parents are not told.
    """
    female = [True, False]
    edges = [Edge(0, 2, 1), Edge(1, 2, 0)]
    couples, single = [(0, 1)], list[int]()

    def marry(person: int) -> None:
        spouse = len(female)
        female.append(not female[person])
        edges.extend((Edge(person, 2, spouse), Edge(spouse, 2, person)))
        couples.append((person, spouse) if female[person] else (spouse, person))

    while len(female) < size:
        if not couples:
            marry(single.pop(0))
            continue
        parents = couples.pop(0)
        first = len(female)
        female += [draws.below(2) == 0 for _ in range(min(draws.within((1, 3)), size - first))]
        children = range(first, len(female))
        edges += [Edge(child, which, parents[which]) for child in children for which in (0, 1)]
        edges += [Edge(parent, 3, children[0]) for parent in parents]
        edges += [Edge(parent, 4, children[-1]) for parent in parents]
        for older, younger in pairwise(children):
            edges += [Edge(younger, 5, older), Edge(older, 6, younger)]
        for child in children:
            if len(female) < size and draws.number() < 0.7:
                marry(child)
            else:
                single.append(child)
    return Graph(size, len(FAMILY_LABELS), tuple(edges), (), FAMILY_LABELS)


@lru_cache(maxsize=2)
def distances(graph: Graph) -> NDArray[np.int64]:
    """Number of edges from each node to each, (size, size); -1 where there is no way. Breadth-first from every node."""
    adjacent = np.zeros((graph.size, graph.size), dtype=np.float32)
    for edge in graph.edges:
        adjacent[edge.source, edge.destination] = 1
    result = np.where(np.eye(graph.size, dtype=bool), 0, -1)
    frontier, step = result == 0, 0
    while frontier.any():
        step += 1
        frontier = (frontier.astype(np.float32) @ adjacent > 0) & (result < 0)
        result[frontier] = step
    return result


def example() -> Graph:
    """A small tram network, invented here: 14 stops, three lines and a ring; a label is a line and a direction."""
    lines = {
        "Red": "Harbour, Fish Market, Old Town, Castle, Station, Mill, Orchard",
        "Blue": "Airfield, Library, Old Town, University, Hospital, Lake",
        "Green": "Theatre, Library, Castle, Hospital, Stadium",
        "Ring": "Fish Market, University, Station, Theatre, Fish Market",
    }
    rows = []
    for line, text in lines.items():
        stops = text.split(", ")
        for here, there in pairwise(stops):
            rows += [(here, there, f"{line} out"), (there, here, f"{line} back")]
    return _named(rows)


def read_graph(path: str | Path) -> Graph:
    """A graph from a CSV file (UTF-8) with the header source,destination,label and one directed edge a row.

    Names are any text; spaces around a cell do not count, blank rows are skipped. A line that runs both ways is two
    rows whose labels name the direction, as the label must tell which edge leaves a node.

    Raises:
        InputError: The file cannot be read, or a row cannot be used; the message gives its line.
    """
    shown = repr(str(path))
    way = "Write a CSV file with the header source,destination,label and one edge a row."
    try:
        text = Path(path).read_text("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"Graph file {shown}: expected a file that exists, got none. Check the path.") from None
    except UnicodeDecodeError:
        raise InputError(f"Graph file {shown}: expected UTF-8, got other bytes. {way}") from None
    except (OSError, ValueError) as error:  # ValueError: a path that cannot be one
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise InputError(f"Graph file {shown}: expected a readable CSV file, got: {reason}. {way}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[str, str, str]] = []
    lines: list[int] = []
    header: tuple[str, ...] | None = None
    try:
        for cells in reader:
            row = tuple(cell.strip() for cell in cells)
            if not any(row):
                continue
            if header is None:
                header = tuple(cell.lower() for cell in row)
                if header != _HEADER:
                    raise InputError(
                        f"Graph file {shown}: expected the header source,destination,label, "
                        f"got {','.join(row)[:80]!r}. {way}"
                    )
                continue
            if len(row) != 3 or not all(row):
                raise InputError(
                    f"Graph file {shown}, line {reader.line_num}: expected 3 filled cells, got {','.join(row)[:80]!r}. "
                    "Quote a name that contains a comma."
                )
            rows.append((row[0], row[1], row[2]))
            lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"Graph file {shown}, line {reader.line_num}: expected CSV, got: {error}. {way}") from None
    if not rows:
        raise InputError(f"Graph file {shown}: expected at least one edge, got none. {way}")
    _check(rows, lines, shown)
    return _named(rows)


def _check(rows: Sequence[tuple[str, str, str]], lines: Sequence[int], shown: str) -> None:
    leaving: dict[tuple[str, str], int] = {}
    for (source, destination, label), line in zip(rows, lines, strict=True):
        if source == destination:
            raise InputError(
                f"Graph file {shown}, line {line}: expected an edge to another node, got {source!r} to itself. "
                "Drop the row."
            )
        if (source, label) in leaving:
            raise InputError(
                f"Graph file {shown}, line {line}: expected one edge {label!r} from {source!r}, got a second "
                f"(the first: line {leaving[source, label]}). Let the label say which, e.g. {label + ' east'!r}."
            )
        leaving[source, label] = line
    for what, count in (
        ("nodes", len({name for row in rows for name in row[:2]})),
        ("labels", len({row[2] for row in rows})),
    ):
        if count > NUMBERS:
            raise InputError(
                f"Graph file {shown}: expected at most {NUMBERS} {what}, got {count}. Give a part of the graph: "
                "a label has three digits."
            )


def _named(rows: Iterable[tuple[str, str, str]]) -> Graph:
    nodes: dict[str, int] = {}
    labels: dict[str, int] = {}
    edges = []
    for source, destination, label in rows:
        start = nodes.setdefault(source, len(nodes))
        end = nodes.setdefault(destination, len(nodes))
        edges.append(Edge(start, labels.setdefault(label, len(labels)), end))
    return Graph(len(nodes), len(labels), tuple(edges), tuple(nodes), tuple(labels))


def channels(triple: Sequence[int]) -> list[int]:
    """The channels of a triple's vector that are 1.

    >>> channels((7, BLANK, 120))
    [0, 10, 27, 61, 72, 80]
    """
    return [
        30 * part + 10 * place + number // power % 10
        for part, number in enumerate(triple)
        if number != BLANK
        for place, power in enumerate((100, 10, 1))
    ]


def decode(vectors: Tensor) -> Tensor:
    """Triples (..., 3) of vectors (..., 90): the largest of each ten; zeros are `BLANK`."""
    digits = vectors.reshape(*vectors.shape[:-1], 3, 3, 10)
    powers = torch.tensor((100, 10, 1), device=vectors.device)
    numbers = (digits.argmax(-1) * powers).sum(-1)
    return torch.where((digits == 0).flatten(-2).all(-1), BLANK, numbers)

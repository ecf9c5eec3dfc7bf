"""The board of Mini-SHRDLU (Graves et al. 2016, Methods): blocks, moves, constraints, and a solver.

P boards (all that the blocks can form), A moves, R relations, K blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, permutations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from softplace.errors import InputError, nearest
from softplace.memory.tasks._draws import Draws

SIDE = 3
MOST_BLOCKS = 6
RELATIONS = ("above", "below", "left of", "right of")
"""The paper gives the first place in the code to "above"; the order of the others is ours."""
ACTIONS = tuple((source, target) for source in range(SIDE) for target in range(SIDE) if source != target)
"""The six moves (from column, to column), numbered 0 .. 5. Action 6 passes."""
PASS = len(ACTIONS)

_OPPOSITE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}


class Constraint(NamedTuple):
    """Two neighbours on the board: "above" = directly on it, "left of" = in the next column at the same height."""

    first: int
    relation: str
    second: int

    @property
    def mirrored(self) -> "Constraint":
        """The same said the other way round."""
        return Constraint(self.second, _OPPOSITE[self.relation], self.first)


@dataclass(frozen=True)
class Board:
    """Three columns of at most three blocks, each given from its bottom; blocks are numbers from 1.

    Raises:
        InputError: Not three columns, a column too high, or blocks that are not 1 .. 6, each at most once.

    >>> Board(((1, 2), (), (3,))).moved(0).columns
    ((1,), (2,), (3,))
    """

    columns: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        columns = self.columns
        blocks = [block for column in columns for block in column]
        if len(columns) != SIDE or any(len(column) > SIDE for column in columns):
            raise InputError(
                f"A board must have {SIDE} columns of at most {SIDE} blocks. Got {columns!r}. "
                "Use for instance Board(((1, 2), (), (3,)))."
            )
        if len(set(blocks)) != len(blocks) or not all(1 <= block <= MOST_BLOCKS for block in blocks):
            raise InputError(
                f"The blocks of a board must be different numbers 1 .. {MOST_BLOCKS}. Got {blocks!r}. Number them anew."
            )

    @property
    def legal(self) -> tuple[int, ...]:
        """The actions that the board allows: moves from a column with a block to one with room, and always `PASS`."""
        heights = [len(column) for column in self.columns]
        moves = [a for a, (source, target) in enumerate(ACTIONS) if heights[source] and heights[target] < SIDE]
        return (*moves, PASS)

    def moved(self, action: int) -> "Board":
        """The board after the top block of a column was put on another column (or after a pass).

        Raises:
            InputError: The action is not legal here.
        """
        if action not in self.legal:
            known = ", ".join(map(str, self.legal))
            raise InputError(f"Action must be legal on {self.columns!r}. Got {action!r}. Legal: {known}.")
        if action == PASS:
            return self
        source, target = ACTIONS[action]
        columns = list(self.columns)
        columns[target] += columns[source][-1:]
        columns[source] = columns[source][:-1]
        return Board(tuple(columns))

    def constraints(self) -> frozenset[Constraint]:
        """All that is true of the board; each pair of neighbours gives two, one the mirror of the other."""
        found = set()
        for place, column in enumerate(self.columns):
            found |= {Constraint(high, "above", low) for low, high in pairwise(column)}
            if place + 1 < SIDE:
                beside = zip(column, self.columns[place + 1], strict=False)
                found |= {Constraint(left, "left of", right) for left, right in beside}
        return frozenset(found | {each.mirrored for each in found})

    def satisfies(self, goal: Sequence[Constraint]) -> bool:
        """Whether every constraint of a goal is true of the board.

        Raises:
            InputError: A relation or a block that does not exist.
        """
        _check(goal)
        return self.constraints().issuperset(goal)


def _check(goal: Sequence[Constraint]) -> None:
    for first, relation, second in goal:
        if relation not in RELATIONS:
            raise InputError(f"Unknown relation {relation!r}. {nearest(str(relation), RELATIONS)}")
        if not {first, second} <= set(range(1, MOST_BLOCKS + 1)):
            raise InputError(
                f"The blocks of a constraint must be numbers 1 .. {MOST_BLOCKS}. Got {first!r} and {second!r}. "
                "Use for instance Constraint(1, 'above', 2)."
            )


class Space(NamedTuple):
    """All boards of some blocks: what a solver walks on. At most 7,200 boards.

    Fields:
        boards: P of them.
        places: The place of each board in `boards`.
        following: (P, A) the place after each move; its own place where the move is not legal.
        true: (P, R, K, K) whether "first relation second" holds on a board; block b has index b - 1.
    """

    boards: tuple[Board, ...]
    places: dict[Board, int]
    following: NDArray[np.int64]
    true: NDArray[np.bool_]

    def satisfying(self, goal: Sequence[Constraint]) -> NDArray[np.bool_]:
        """(P,) which boards satisfy a goal; a constraint on a block that is not there holds nowhere.

        Raises:
            InputError: A relation or a block that does not exist.
        """
        _check(goal)
        result = np.ones(len(self.boards), dtype=bool)
        for first, relation, second in goal:
            result &= self.true[:, RELATIONS.index(relation), first - 1, second - 1]
        return result

    def distances(self, wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(P,) moves from each board to the nearest wanted one, -1 where none can be reached.

        Breadth-first from the wanted boards: a move can always be undone, so the way there is as long as the way back.
        """
        result = np.where(wanted, 0, -1)
        frontier, step = np.flatnonzero(wanted), 0
        while len(frontier):
            step += 1
            near = np.unique(self.following[frontier])
            frontier = near[result[near] < 0]
            result[frontier] = step
        return result


@lru_cache(maxsize=MOST_BLOCKS)
def space(blocks: int) -> Space:
    """All boards of the blocks 1 .. `blocks`, 1 to 6 of them. The first call for 6 takes some tenths of a second."""
    heights = [each for each in product(range(SIDE + 1), repeat=SIDE) if sum(each) == blocks]
    boards = []
    for order in permutations(range(1, blocks + 1)):
        for first, second, _ in heights:
            boards.append(Board((order[:first], order[first : first + second], order[first + second :])))
    places = {board: place for place, board in enumerate(boards)}
    following = np.repeat(np.arange(len(boards))[:, None], PASS, axis=1)
    true = np.zeros((len(boards), len(RELATIONS), MOST_BLOCKS, MOST_BLOCKS), dtype=bool)
    for place, board in enumerate(boards):
        for action in board.legal[:-1]:
            following[place, action] = places[board.moved(action)]
        for one, relation, other in board.constraints():
            true[place, RELATIONS.index(relation), one - 1, other - 1] = True
    return Space(tuple(boards), places, following, true)


class Problem(NamedTuple):
    """A goal and the way to it on all boards; for a sequence read back from its inputs, also the boards it shows.

    Fields:
        left: (P,) moves from each board to the goal.
        shown: The places of the boards at the counted steps.
    """

    space: Space
    goal: list[Constraint]
    left: NDArray[np.int64]
    shown: list[int]

    def right(self, place: int) -> NDArray[np.bool_]:
        """(A + 1,) which actions are right on a board: moves that shorten the way, or a pass where there is none."""
        return np.append(self.left[self.space.following[place]] == self.left[place] - 1, self.left[place] == 0)

    def after(self, place: int, action: int) -> int:
        """The place of the board after an action; an illegal one changes nothing."""
        return place if action == PASS else int(self.space.following[place, action])


def solve(board: Board, goal: Sequence[Constraint]) -> tuple[int, ...]:
    """A shortest sequence of moves after which the board satisfies a goal; of equal ones, the lowest action each time.

    Raises:
        InputError: The board's blocks are not 1 .. n, or no sequence of moves satisfies the goal.

    >>> solve(Board(((1, 2), (), ())), [Constraint(2, "left of", 1)])
    (0, 1)
    """
    blocks = sum(map(len, board.columns))
    here = space(blocks) if blocks else None
    if here is None or board not in here.places:
        raise InputError(f"A board to solve must hold the blocks 1 .. n. Got {board.columns!r}. Number them anew.")
    left, place = here.distances(here.satisfying(goal)), here.places[board]
    if left[place] < 0:
        raise InputError(f"A goal must be possible. Got {[tuple(each) for each in goal]}. Drop a constraint.")
    problem, moves = Problem(here, list(goal), left, [place]), list[int]()
    while left[place]:
        moves.append(int(problem.right(place).argmax()))
        place = problem.after(place, moves[-1])
    return tuple(moves)


def random_board(blocks: int, draws: Draws) -> Board:
    """Blocks 1 .. `blocks` in random order, each put on a random column that has room."""
    columns: list[tuple[int, ...]] = [()] * SIDE
    for block in draws.shuffled(range(1, blocks + 1)):
        column = draws.choice([place for place in range(SIDE) if len(columns[place]) < SIDE])
        columns[column] += (block,)
    return Board(tuple(columns))

"""Mini-SHRDLU, the block puzzle of the paper of the DNC (Graves et al. 2016), as a supervised task.

T time, B batch, A moves.

From the paper (Methods, "Mini-SHRDLU"; Extended Data Tables 2 and 6): the board, the moves, the constraints on adjacent
blocks, how goals are made, the inputs, the curriculum. **What differs: the paper trains two networks by actor-critic on
a reward; here a teacher shows a shortest sequence of moves, and the net is trained to name them** (`MiniShrdlu`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from softplace.errors import InputError
from softplace.memory.tasks._draws import Draws, bounded
from softplace.memory.tasks.board import (
    MOST_BLOCKS,
    PASS,
    RELATIONS,
    SIDE,
    Board,
    Constraint,
    Problem,
    random_board,
    solve,
    space,
)
from softplace.memory.tasks.task import Episode, Setting, Span, Task, whole

LETTERS = 26
MOST_MOVES = 7
"""The largest search depth of the paper's lessons."""
MOST_EXTRA = 6
"""Actions beyond the shortest solution that the paper allows."""

_FIRST, _RELATION, _SECOND = LETTERS, LETTERS + MOST_BLOCKS, LETTERS + MOST_BLOCKS + len(RELATIONS)
_GO = _SECOND + MOST_BLOCKS
_BOARD = _GO + 1
_INPUTS = _BOARD + SIDE * SIDE * MOST_BLOCKS
_ATTEMPTS = 200


class Play(NamedTuple):
    """What a net did that moved the blocks itself: (B,) each.

    Fields:
        moves: Moves until its goal was first satisfied (passes and illegal moves count), -1 if it never was.
        shortest: Moves of a shortest solution.
        share: Share of the goal's constraints that are satisfied at the end.
    """

    moves: Tensor
    shortest: Tensor
    share: Tensor


@dataclass(frozen=True, kw_only=True)
class MiniShrdlu(Task):
    """Shown goals, each a letter with its constraints, and then one letter: move the blocks to satisfy that goal.

    Inputs, 97 channels: letter (26), first block (6), relation (4), second block (6), go cue (1), board (9 squares x 6
    blocks, from the bottom row, left to right). The goals come one constraint a step; then one step with the letter of
    the chosen goal, at which the first action is due. The go cue is 1 at every step that wants an action.
    Outputs: 7 actions. Targets (T, B): the moves of `solve`, then one pass.

    Goals as in the paper: of the boards that are D moves (not fewer) from the start one is drawn, and some of what is
    true of it and not of the start, no pair of blocks twice. Its constraints may be met by fewer than D moves, as other
    boards may satisfy them. Where a board has too few constraints for the least number, another is drawn; where it
    has fewer than the number drawn, all are taken (one move makes at most three new pairs of neighbours).

    The paper trains by actor-critic: the net moves the blocks, is rewarded by the share of constraints that hold, and
    has six moves more than needed. Here it is shown the boards of the teacher's moves; `play` lets it move by itself,
    as the paper does when it measures. Ours too: the pass at the end as the only one, and `planning`.

    Args:
        goals: Number of goals.
        blocks: Number of blocks; they are numbered from 1.
        constraints: Constraints of a goal.
        depth: D, the search depth.
        planning: Steps from the chosen letter to the first action and the go cue; 0 in the paper.
    """

    goals: Span = (10, 10)
    blocks: Span = (6, 6)
    constraints: Span = (1, 6)
    depth: Span = (1, 7)
    planning: int = 0

    name: ClassVar[str] = "mini-shrdlu"
    difficulty: ClassVar[tuple[str, ...]] = ("goals", "blocks", "constraints", "depth")
    presets: ClassVar[Mapping[str, Mapping[str, Setting]]] = {
        "dnc": {"hidden_size": 250, "layers": 2, "slots": 32, "width": 100, "read_heads": 2, "write_heads": 1}
        | {"controller": "lstm", "batch": 32, "learning_rate": 3e-5},
        "lstm": {"hidden_size": 250, "layers": 2, "batch": 32, "learning_rate": 3e-5},
    }

    def __post_init__(self) -> None:
        for name, least, most in (
            ("goals", 1, LETTERS), ("blocks", 2, MOST_BLOCKS), ("constraints", 1, MOST_BLOCKS),
            ("depth", 1, MOST_MOVES),
        ):  # fmt: skip
            object.__setattr__(self, name, bounded(name, getattr(self, name), least, most))  # the dataclass is frozen
        whole("planning", self.planning, 0)

    @property
    def input_size(self) -> int:
        return _INPUTS

    @property
    def output_size(self) -> int:
        return PASS + 1

    @property
    def notes(self) -> tuple[str, ...]:
        return ("Trained on a teacher's moves; the paper trains by actor-critic.",)

    @property
    def levels(self) -> tuple[Mapping[str, Any], ...]:
        """Extended Data Table 6. A lesson is done when 85 % of the constraints are satisfied (`Play.share`).

        Lessons 21 and 22, and 23 and 24, are equal in the copy that was read.
        """
        rows = (
            ((2, 2), (3, 3), (1, 1), (1, 1)), ((2, 3), (3, 4), (1, 2), (1, 1)), ((3, 3), (4, 4), (1, 2), (1, 2)),
            ((3, 4), (4, 5), (2, 2), (1, 2)), ((4, 4), (5, 5), (2, 2), (2, 2)), ((4, 5), (5, 6), (2, 3), (2, 2)),
            ((5, 5), (6, 6), (2, 3), (2, 3)), ((5, 6), (6, 6), (3, 3), (2, 3)), ((6, 6), (6, 6), (3, 3), (3, 3)),
            ((6, 7), (6, 6), (3, 4), (3, 3)), ((7, 7), (6, 6), (3, 4), (3, 4)), ((7, 8), (6, 6), (4, 4), (3, 4)),
            ((8, 8), (6, 6), (4, 4), (4, 4)), ((8, 9), (6, 6), (4, 5), (4, 4)), ((9, 9), (6, 6), (4, 5), (4, 5)),
            ((9, 10), (6, 6), (5, 5), (4, 5)), ((10, 10), (6, 6), (5, 5), (5, 5)), ((10, 10), (6, 6), (5, 6), (5, 5)),
            ((10, 10), (6, 6), (5, 6), (5, 6)), ((10, 10), (6, 6), (6, 6), (5, 6)), ((10, 10), (6, 6), (6, 6), (6, 6)),
            ((10, 10), (6, 6), (6, 6), (6, 6)), ((10, 10), (6, 6), (6, 6), (6, 7)), ((10, 10), (6, 6), (6, 6), (6, 7)),
            ((10, 10), (6, 6), (6, 6), (7, 7)), ((10, 10), (6, 6), (1, 6), (1, 7)),
        )  # fmt: skip
        return tuple(dict(zip(self.difficulty, row, strict=True)) for row in rows)

    def _draw(self, batch: int, generator: torch.Generator) -> Episode:
        draws = Draws(generator)
        sequences = [self._sequence(draws) for _ in range(batch)]
        lengths = torch.tensor([len(rows) for rows, _ in sequences], dtype=torch.long)
        longest = int(lengths.max()) if sequences else 0
        inputs = torch.zeros(longest, batch, _INPUTS)
        targets = torch.zeros(longest, batch, dtype=torch.long)
        mask = torch.zeros(longest, batch, dtype=torch.bool)
        for member, (rows, actions) in enumerate(sequences):
            for step, ones in enumerate(rows):
                inputs[step, member, ones] = 1
            first = len(rows) - len(actions)
            targets[first : len(rows), member] = torch.tensor(actions)
            mask[first : len(rows), member] = True
        return Episode(inputs, targets, mask, lengths).to(generator.device)

    def _sequence(self, draws: Draws) -> tuple[list[list[int]], list[int]]:
        """The channels that are 1 at each step, and the actions at the last steps."""
        for _ in range(_ATTEMPTS):
            board = random_board(draws.within(bounded("blocks", self.blocks, 2, MOST_BLOCKS)), draws)
            goals = self._goals(board, draws)
            if goals is not None:
                break
        else:
            raise InputError(
                f"Task {self.name!r}: expected goals of {self.constraints} constraints {self.depth} moves away, found "
                f"none on {_ATTEMPTS} boards of {self.blocks} blocks. Use fewer constraints, or more blocks."
            )
        letters = draws.sample(range(LETTERS), len(goals))
        chosen = draws.below(len(goals))
        seen = _squares(board)
        rows = [
            [letter, _FIRST + first - 1, _RELATION + RELATIONS.index(relation), _SECOND + second - 1, *seen]
            for letter, goal in zip(letters, goals, strict=True)
            for first, relation, second in goal
        ]
        query = len(rows)
        rows += [list(seen) for _ in range(self.planning)]
        actions = [*solve(board, goals[chosen]), PASS]
        for action in actions:
            rows.append([_GO, *_squares(board)])
            board = board.moved(action)
        rows[query].append(letters[chosen])
        return rows, actions

    def _goals(self, board: Board, draws: Draws) -> list[list[Constraint]] | None:
        """Goals for a board, or None where the board has no other of that depth with enough that is new."""
        here = space(sum(map(len, board.columns)))
        start = here.places[board]
        away = here.distances(np.arange(len(here.boards)) == start)
        new = here.true & ~here.true[start]
        counts = new.sum((1, 2, 3)) // 2  # each pair of neighbours is there in both directions
        least, most = bounded("constraints", self.constraints, 1, MOST_BLOCKS)
        goals = []
        for _ in range(draws.within(bounded("goals", self.goals, 1, LETTERS))):
            depth = draws.within(bounded("depth", self.depth, 1, MOST_MOVES))
            places = np.flatnonzero((away == depth) & (counts >= least))
            if not len(places):
                return None
            wanted = here.boards[draws.choice(places.tolist())].constraints() - board.constraints()
            pairs = sorted(each for each in wanted if each.relation in ("above", "left of"))
            picked = draws.sample(pairs, min(draws.within((least, most)), len(pairs)))
            goals.append([each if draws.below(2) else each.mirrored for each in picked])
        return goals

    def loss(self, outputs: Tensor, episode: Episode) -> Tensor:
        """Bits of the teacher's actions: minus log2 of their probabilities, summed over the counted steps. (B,)."""
        self.check(outputs, episode)
        nats = functional.cross_entropy(outputs.flatten(0, 1), episode.targets.flatten(), reduction="none")
        return torch.where(episode.mask, nats.view(episode.mask.shape), 0.0).sum(0) / math.log(2)

    def errors(self, outputs: Tensor, episode: Episode) -> dict[str, Tensor]:
        """ "bits" (the loss), "wrong actions" and "wrong sequence" (0 or 1), (B,) each; any shortest solution is right.

        An action is right if it shortens the way from the board that the net was shown, or passes where the goal is
        satisfied. A sequence is right if all its actions are, or if they are when they are taken from the first board.
        """
        bits = self.loss(outputs, episode)
        answers = outputs.argmax(-1).cpu()
        mask = episode.mask.cpu()
        actions, sequences = [], []
        for member, problem in enumerate(_problems(episode)):
            given = answers[mask[:, member], member].tolist()
            wrong = sum(not problem.right(place)[each] for place, each in zip(problem.shown, given, strict=True))
            place, alone = problem.shown[0], True
            for each in given:
                alone = alone and bool(problem.right(place)[each])
                place = problem.after(place, each)
            actions.append(wrong)
            sequences.append(wrong > 0 and not alone)
        return {
            "bits": bits,
            "wrong actions": bits.new_tensor(actions),
            "wrong sequence": bits.new_tensor(sequences),
        }

    def play(
        self, net: Callable[[Tensor, Any], tuple[Tensor, Any]], episode: Episode, *, extra: int = MOST_EXTRA
    ) -> Play:
        """Let a net move the blocks: its most likely action at each step; an illegal one leaves the board as it is.

        Args:
            net: Time first: `outputs, state = net(inputs, state)`.
            episode: The problems; what it shows after the first board is not used.
            extra: Actions beyond the shortest solution; 6 in the paper.
        """
        whole("extra", extra, 0)
        problems = _problems(episode)
        starts = [int(step) for step in episode.mask.long().argmax(0)] if problems else []
        shortest = [int(problem.left[problem.shown[0]]) for problem in problems]
        places = [problem.shown[0] for problem in problems]
        moves = [-1] * len(problems)
        if problems:
            ends = [start + length + extra for start, length in zip(starts, shortest, strict=True)]
            first = min(starts)
            _, state = net(episode.inputs[:first], None)
            for step in range(first, max(ends)):
                row = episode.inputs.new_zeros(1, *episode.inputs.shape[1:])
                for member, problem in enumerate(problems):
                    if step <= starts[member]:
                        row[0, member] = episode.inputs[step, member]
                    else:
                        row[0, member, [_GO, *_squares(problem.space.boards[places[member]])]] = 1
                outputs, state = net(row, state)
                answers = outputs[0].argmax(-1).tolist()
                for member, problem in enumerate(problems):
                    if not starts[member] <= step < ends[member]:
                        continue
                    places[member] = problem.after(places[member], answers[member])
                    if moves[member] < 0 and problem.left[places[member]] == 0:
                        moves[member] = step + 1 - starts[member]
        share = [
            sum(problem.space.satisfying([each])[place] for each in problem.goal) / len(problem.goal)
            for problem, place in zip(problems, places, strict=True)
        ]
        count = episode.lengths.new_tensor
        return Play(count(moves), count(shortest), episode.inputs.new_tensor(share))


def _squares(board: Board) -> list[int]:
    """The channels of a board that are 1."""
    return [
        _BOARD + (height * SIDE + place) * MOST_BLOCKS + block - 1
        for place, column in enumerate(board.columns)
        for height, block in enumerate(column)
    ]


def _board(row: Tensor) -> Board:
    """The board that an input (I,) shows."""
    squares = row[_BOARD:].view(SIDE, SIDE, MOST_BLOCKS)
    columns: list[tuple[int, ...]] = [()] * SIDE
    for _, place, block in squares.nonzero().tolist():  # from the bottom row
        columns[place] += (block + 1,)
    return Board(tuple(columns))


def _problems(episode: Episode) -> list[Problem]:
    inputs, mask = episode.inputs.cpu(), episode.mask.cpu()
    result = []
    for member in range(mask.shape[1]):
        rows = inputs[:, member]
        lettered = rows[:, :LETTERS].any(-1).nonzero().flatten().tolist()
        letter = rows[lettered[-1], :LETTERS].argmax()
        goal = []
        for step in lettered[:-1]:
            if rows[step, letter] > 0:
                first, second = (int(rows[step, at : at + MOST_BLOCKS].argmax()) + 1 for at in (_FIRST, _SECOND))
                goal.append(Constraint(first, RELATIONS[int(rows[step, _RELATION:_SECOND].argmax())], second))
        boards = [_board(row) for row in rows[mask[:, member]]]
        here = space(sum(map(len, boards[0].columns)))
        left = here.distances(here.satisfying(goal))
        result.append(Problem(here, goal, left, [here.places[board] for board in boards]))
    return result

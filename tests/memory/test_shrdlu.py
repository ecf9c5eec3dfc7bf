"""Mini-SHRDLU against a second board: dictionaries of squares, and a search that knows neither tables nor symmetry."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from softplace.errors import InputError
from softplace.memory import tasks
from softplace.memory.tasks._draws import Draws
from softplace.memory.tasks.board import ACTIONS, PASS, RELATIONS, Board, Constraint, random_board, solve, space
from softplace.memory.tasks.shrdlu import MiniShrdlu

MOVES = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def squares(columns):
    """Block -> (column, height)."""
    return {block: (place, height) for place, column in enumerate(columns) for height, block in enumerate(column)}


def holds(at, constraint):
    first, relation, second = constraint
    if first not in at or second not in at:
        return False
    step = {"above": (0, -1), "below": (0, 1), "left of": (1, 0), "right of": (-1, 0)}[relation]
    return (at[first][0] + step[0], at[first][1] + step[1]) == at[second]


def after(columns, action):
    """The columns after an action, None where it cannot be done."""
    if action == 6:
        return columns
    source, target = MOVES[action]
    if not columns[source] or len(columns[target]) == 3:
        return None
    new = [list(column) for column in columns]
    new[target].append(new[source].pop())
    return tuple(map(tuple, new))


def search(columns, done, most=20):
    """The length of a shortest sequence of moves, by breadth-first search."""
    seen, frontier = {columns}, [columns]
    for depth in range(most):
        if any(done(each) for each in frontier):
            return depth
        frontier = [new for each in frontier for action in range(6) if (new := after(each, action)) is not None]
        frontier = [new for new in dict.fromkeys(frontier) if new not in seen]
        seen.update(frontier)
        if not frontier:
            break
    return None


def satisfied(columns, goal):
    at = squares(columns)
    return all(holds(at, each) for each in goal)


def brute_force(columns, goal):
    """The length of a shortest solution by trying every sequence of moves, the shortest first."""
    for length in range(6):
        for sequence in itertools.product(range(6), repeat=length):
            board = columns
            for action in sequence:
                board = after(board, action)
                if board is None:
                    break
            if board is not None and satisfied(board, goal):
                return length
    return None


@st.composite
def boards(draw, least=1, most=6):
    blocks = draw(st.permutations(range(1, draw(st.integers(least, most)) + 1)))
    columns = [[], [], []]
    for block in blocks:
        columns[draw(st.sampled_from([place for place in range(3) if len(columns[place]) < 3]))].append(block)
    return Board(tuple(map(tuple, columns)))


@given(boards())
@settings(max_examples=60, deadline=None)
def test_moves_and_constraints(board):
    assert list(ACTIONS) == MOVES
    assert PASS == 6
    assert list(board.legal) == [action for action in range(7) if after(board.columns, action) is not None]
    for action in range(7):
        if action in board.legal:
            assert board.moved(action).columns == after(board.columns, action)
        else:
            with pytest.raises(InputError, match="Action must be legal"):
                board.moved(action)
    at = squares(board.columns)
    every = [Constraint(a, relation, b) for a in range(1, 7) for b in range(1, 7) for relation in RELATIONS if a != b]
    assert board.constraints() == {each for each in every if holds(at, each)}
    assert all(each.mirrored.mirrored == each for each in every)
    assert {each.mirrored for each in board.constraints()} == board.constraints()
    assert board.satisfies([])
    assert board.satisfies(list(board.constraints()))


def test_a_board_by_hand():
    board = Board(((1, 2), (3,), ()))
    assert board.constraints() == {
        (2, "above", 1),
        (1, "below", 2),
        (1, "left of", 3),
        (3, "right of", 1),
    }
    assert board.moved(0).columns == ((1,), (3, 2), ())
    assert not board.satisfies([Constraint(2, "above", 1), Constraint(2, "left of", 3)])


@pytest.mark.parametrize(
    "columns", [((1,), (2,)), ((1, 2, 3, 4), (), ()), ((1, 1), (), ()), ((7,), (), ()), ((0,), (), ())]
)
def test_impossible_boards(columns):
    with pytest.raises(InputError) as caught:
        Board(columns)
    assert "\n" not in str(caught.value)


def test_the_number_of_boards():
    # heights of three columns of at most three that sum to 1, 2, ... 6: 3, 6, 10, 12, 12, 10 ways
    assert [len(space(blocks).boards) for blocks in range(1, 7)] == [
        math.factorial(blocks) * ways for blocks, ways in zip(range(1, 7), (3, 6, 10, 12, 12, 10), strict=True)
    ]
    for blocks in (2, 4):
        here = space(blocks)
        assert len(set(here.boards)) == len(here.boards)
        for place, board in enumerate(here.boards):
            for action in range(6):
                new = after(board.columns, action)
                assert here.boards[here.following[place, action]].columns == (board.columns if new is None else new)


@pytest.mark.parametrize("blocks", [2, 3])
def test_solutions_are_shortest_by_brute_force(blocks):
    draws = Draws(seeded(blocks))
    lengths = set()
    for _ in range(25):
        board, other = random_board(blocks, draws), random_board(blocks, draws)
        wanted = sorted(other.constraints())
        if not wanted:
            continue
        goal = draws.sample(wanted, 1 + draws.below(min(3, len(wanted))))
        expected = brute_force(board.columns, goal)
        if expected is None:
            continue
        moves = solve(board, goal)
        assert len(moves) == expected
        for action in moves:
            board = board.moved(action)
        assert satisfied(board.columns, goal)
        lengths.add(expected)
    assert len(lengths) >= 3


@pytest.mark.parametrize("blocks", [4, 6])
def test_solutions_are_shortest_by_search(blocks):
    draws = Draws(seeded(blocks))
    for _ in range(6):
        board = random_board(blocks, draws)
        wanted = sorted(random_board(blocks, draws).constraints())
        goal = draws.sample(wanted, min(3, len(wanted)))
        moves = solve(board, goal)
        assert len(moves) == search(board.columns, lambda columns, goal=goal: satisfied(columns, goal))
        for action in moves:
            board = board.moved(action)
        assert satisfied(board.columns, goal)


def test_solve_refuses():
    board = Board(((1, 2), (), ()))
    assert solve(board, []) == ()
    with pytest.raises(InputError, match="must be possible"):
        solve(board, [Constraint(1, "above", 2), Constraint(2, "above", 1)])
    with pytest.raises(InputError, match="must be possible"):
        solve(board, [Constraint(1, "above", 3)])
    with pytest.raises(InputError, match="Did you mean 'above'"):
        solve(board, [Constraint(1, "abov", 2)])
    with pytest.raises(InputError, match=r"numbers 1 .. 6"):
        board.satisfies([Constraint(1, "above", 7)])
    with pytest.raises(InputError, match=r"the blocks 1 .. n"):
        solve(Board(((1, 3), (), ())), [])
    with pytest.raises(InputError, match=r"the blocks 1 .. n"):
        solve(Board(((), (), ())), [])


class Read:
    """One sequence, read from its channels."""

    def __init__(self, episode, member):
        inputs = episode.inputs[:, member].numpy()
        self.length = int(episode.lengths[member])
        mask = episode.mask[:, member].numpy()
        assert not inputs[self.length :].any()
        assert (inputs[:, 42].astype(bool) == mask).all()
        self.steps = np.flatnonzero(mask)
        assert self.steps.tolist() == list(range(self.steps[0], self.length))
        self.actions = episode.targets[mask, member].tolist()
        self.goals, self.boards, self.queries = {}, [], []
        for step, row in enumerate(inputs[: self.length]):
            columns = [[], [], []]
            for square, block in np.argwhere(row[43:].reshape(9, 6)).tolist():
                assert len(columns[square % 3]) == square // 3  # no gap below
                columns[square % 3].append(block + 1)
            self.boards.append(tuple(map(tuple, columns)))
            parts = [np.flatnonzero(row[a:b]).tolist() for a, b in ((0, 26), (26, 32), (32, 36), (36, 42))]
            if parts[1]:
                (letter,), (first,), (relation,), (second,) = parts
                names = ("above", "below", "left of", "right of")
                self.goals.setdefault(letter, []).append((first + 1, names[relation], second + 1))
                self.shown_goals_until = step
            elif parts[0]:
                self.queries.append((step, parts[0][0]))


@pytest.mark.parametrize("level", range(26))
def test_every_lesson_is_what_it_says(level):
    task = MiniShrdlu()
    setting = task.levels[level]
    episode = task.sample(4, seeded(level), **setting)
    assert episode.inputs.shape == (*episode.mask.shape, 97)
    assert episode.targets.shape == episode.mask.shape
    assert episode.targets.dtype == torch.long
    for member in range(4):
        read = Read(episode, member)
        assert setting["goals"][0] <= len(read.goals) <= setting["goals"][1]
        ((step, letter),) = read.queries
        assert step == read.steps[0] == read.shown_goals_until + 1
        start = read.boards[0]
        assert all(board == start for board in read.boards[: step + 1])
        assert setting["blocks"][0] <= len(squares(start)) <= setting["blocks"][1]
        assert set(squares(start)) == set(range(1, len(squares(start)) + 1))
        for goal in read.goals.values():
            assert setting["constraints"][0] <= len(goal) <= setting["constraints"][1]
            assert not any(holds(squares(start), each) for each in goal)
            assert len({frozenset((first, second)) for first, _, second in goal}) == len(goal)
        goal = read.goals[letter]
        *moves, last = read.actions
        assert last == 6
        assert 1 <= len(moves) <= setting["depth"][1]
        if level < 6 or member == 0:
            assert len(moves) == search(start, lambda columns, goal=goal: satisfied(columns, goal))
        board = start
        for at, action in zip(read.steps, read.actions, strict=True):
            assert read.boards[at] == board
            board = after(board, action)
        assert satisfied(board, goal)


def test_goals_come_from_boards_of_the_depth():
    episode = MiniShrdlu().sample(3, seeded(3), blocks=3, goals=4, constraints=(1, 3), depth=3)
    for member in range(3):
        read = Read(episode, member)
        for goal in read.goals.values():
            depths = {
                search(read.boards[0], lambda columns, board=board: columns == board.columns)
                for board in space(3).boards
                if satisfied(board.columns, goal)
            }
            assert 3 in depths


def test_the_lessons_end_with_the_task_itself():
    task = MiniShrdlu()
    assert len(task.levels) == 26
    assert {name: getattr(task, name) for name in task.levels[-1]} == dict(task.levels[-1])


def test_the_generator_decides_everything():
    task = MiniShrdlu(goals=2)
    before = torch.random.get_rng_state()
    one, other = task.sample(3, seeded(5)), task.sample(3, seeded(5))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert torch.equal(before, torch.random.get_rng_state())
    different = task.sample(3, seeded(6))
    assert one.inputs.shape != different.inputs.shape or not torch.equal(one.inputs, different.inputs)


def test_planning_comes_between_letter_and_action():
    episode = MiniShrdlu(planning=3).sample(2, seeded(), **MiniShrdlu().levels[0])
    for member in range(2):
        read = Read(episode, member)
        ((step, _),) = read.queries
        assert read.steps[0] == step + 3
        assert not episode.inputs[step : step + 3, member, 42].any()
        assert all(board == read.boards[0] for board in read.boards[: step + 4])


def test_the_loss_is_bits_of_actions():
    task = MiniShrdlu()
    episode = task.sample(3, seeded(), **task.levels[1])
    uniform = torch.zeros(*episode.mask.shape, 7, dtype=torch.float64)
    torch.testing.assert_close(task.loss(uniform, episode), episode.mask.sum(0).double() * math.log2(7))
    sure = torch.nn.functional.one_hot(episode.targets, 7).double() * 100
    torch.testing.assert_close(task.loss(sure, episode), torch.zeros(3, dtype=torch.float64))
    with pytest.raises(InputError, match="output_size=7"):
        task.loss(uniform[..., :6], episode)


def test_any_shortest_solution_is_right():
    task = MiniShrdlu(goals=1, blocks=(3, 4), constraints=(1, 2), depth=(2, 3))
    alternatives = 0
    for seed in range(8):
        episode = task.sample(1, seeded(seed))
        read = Read(episode, 0)
        (goal,) = read.goals.values()
        start, count = read.boards[0], len(read.actions)

        def judge(actions, episode=episode, read=read):
            outputs = torch.zeros(*episode.mask.shape, 7)
            outputs[read.steps, 0, actions] = 5
            found = task.errors(outputs, episode)
            return found["wrong actions"].item(), found["wrong sequence"].item()

        for actions in itertools.product(range(7), repeat=count):
            board, solved = start, None
            for step, action in enumerate(actions):
                if satisfied(board, goal) and solved is None:
                    solved = step
                board = after(board, action)
                if board is None:
                    break
            alone = solved == count - 1 and board is not None and actions[-1] == 6
            shown = all(right(read.boards[at], goal, action) for at, action in zip(read.steps, actions, strict=True))
            wrong, sequence = judge(list(actions))
            assert (wrong == 0) == shown
            assert (sequence == 0) == (alone or shown)
            alternatives += alone and list(actions) != read.actions
            if count > 3:
                break  # 7^4 of them: one is enough
    assert alternatives > 0


def right(columns, goal, action):
    def left(board):
        return search(board, lambda each: satisfied(each, goal))

    now, then = left(columns), after(columns, action)
    return action == 6 if now == 0 else then is not None and left(then) == now - 1


class Player:
    """A net that solves the puzzle from what it was shown, or always says the same; its state is what it was shown."""

    def __init__(self, always=None):
        self.always = always

    def __call__(self, inputs, state):
        history = inputs if state is None else torch.cat([state, inputs])
        outputs = torch.zeros(*inputs.shape[:2], 7)
        for member in range(inputs.shape[1]):
            if inputs[-1, member, 42]:
                outputs[-1, member, self.action(history[:, member])] = 1
        return outputs, history

    def action(self, rows):
        if self.always is not None:
            return self.always
        steps = torch.tensor([len(rows)])
        mask = (rows[:, 42] > 0).unsqueeze(1)
        read = Read(tasks.Episode(rows.unsqueeze(1), torch.zeros_like(mask).long(), mask, steps), 0)
        goal = [Constraint(*each) for each in read.goals[read.queries[-1][1]]]
        moves = solve(Board(read.boards[-1]), goal)
        return moves[0] if moves else 6


def test_a_net_plays():
    task = MiniShrdlu()
    episode = task.sample(5, seeded(2), goals=(2, 4), blocks=(3, 5), constraints=(1, 2), depth=(1, 3))
    played = task.play(Player(), episode)
    assert torch.equal(played.moves, played.shortest)
    assert torch.equal(played.shortest, episode.mask.sum(0) - 1)
    assert played.share.tolist() == [1.0] * 5
    idle = task.play(Player(always=6), episode)
    assert idle.moves.tolist() == [-1] * 5
    assert idle.share.tolist() == [0.0] * 5
    stubborn = task.play(Player(always=0), episode, extra=2)
    for member in range(5):
        read = Read(episode, member)
        goal, board, first = read.goals[read.queries[0][1]], read.boards[0], -1
        for step in range(len(read.actions) - 1 + 2):
            board = after(board, 0) or board
            if first < 0 and satisfied(board, goal):
                first = step + 1
        assert stubborn.moves[member] == first
        at = squares(board)
        assert stubborn.share[member] == pytest.approx(sum(holds(at, each) for each in goal) / len(goal))


def test_an_empty_batch():
    task = MiniShrdlu()
    episode = task.sample(0, seeded())
    assert episode.inputs.shape == (0, 0, 97)
    outputs = torch.zeros(0, 0, 7)
    assert all(value.shape == (0,) for value in task.errors(outputs, episode).values())
    assert all(value.shape == (0,) for value in task.play(Player(), episode))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goals": 27}, "'goals' must be at most 26"),
        ({"blocks": 7}, "'blocks' must be at most 6"),
        ({"blocks": 1}, "'blocks'"),
        ({"constraints": 0}, "'constraints'"),
        ({"depth": (1, 8)}, "'depth' must be at most 7"),
        ({"planning": -1}, "'planning'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        MiniShrdlu(**options)


def test_what_cannot_be_drawn_says_so():
    with pytest.raises(InputError, match="Use fewer constraints, or more blocks") as caught:
        MiniShrdlu(blocks=2, constraints=3).sample(1, seeded())
    assert "\n" not in str(caught.value)


def test_the_registry_and_the_settings_of_the_paper():
    task = tasks.get("mini-shrdlu")
    assert (task.name, task.input_size, task.output_size) == ("mini-shrdlu", 97, 7)
    dnc = task.preset("dnc")
    assert [dnc[key] for key in ("slots", "width", "read_heads", "hidden_size", "layers", "batch")] == [
        32,
        100,
        2,
        250,
        2,
        32,
    ]
    assert dnc["learning_rate"] == 3e-5

"""Which members a study needs, in which order: tune every arm alike, then judge it with other seeds.

Every arm of a task is tuned over the same grid of learning rates with the first, third, ... seed. While the best rate
of any arm lies on an edge of the grid, the grid grows there for every arm, at most `EXTENSIONS` times at each end.
Then each arm trains at its own best rate with the second, fourth, ... seed, and only these are judged. So no seed both
chooses and judges, and a study with more seeds keeps all members of one with fewer.
"""

import functools
import hashlib
import importlib
import inspect
import math
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softplace.maps import Map
from softplace.study.contest import Arm, Contest, Task
from softplace.study.store import MemberRecord, Role, identity

EXTENSIONS = 2
_ENGINE = (
    "softplace.randomness",
    *(f"softplace.study.{name}" for name in ("fleet", "contest", "optimizer", "data")),
)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One network to train."""

    key: str
    task: Task
    arm: Arm
    role: Role
    seed: int
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Members that train as one fleet."""

    key: str
    members: tuple[Member, ...]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What the tuning of a task says: the grid, every arm's validation score at each rate, and the best rate."""

    grid: tuple[float, ...]
    scores: Mapping[str, tuple[float, ...]]
    best: Mapping[str, float]

    def on_edge(self) -> list[str]:
        """Arms whose best rate is the lowest or the highest of the grid: a better one may lie outside."""
        return [arm for arm, rate in self.best.items() if rate in (self.grid[0], self.grid[-1])]


class Plan:
    """The members of a contest for some seeds.

    Args:
        contest: What to train.
        seeds: At least two, all different.
        device_type: "cpu" or "cuda": part of a member's identity, as rounding differs.
    """

    def __init__(self, contest: Contest, seeds: Sequence[int], device_type: str) -> None:
        self.contest = contest
        self.tune_seeds, self.judge_seeds = tuple(seeds[::2]), tuple(seeds[1::2])
        self._circumstances = {"torch": torch.__version__, "device": device_type}
        self._keys: dict[tuple[object, ...], str] = {}

    @cached_property
    def _code(self) -> str:
        return code_version((*_ENGINE, *self.contest.code))

    @cached_property
    def _map_code(self) -> dict[str, str]:
        return {arm.name: map_code(arm.map) for arm in self.contest.arms}

    def member(self, task: Task, arm: Arm, role: Role, seed: int, rate: float) -> Member:
        """The member with its identity."""
        place = (task.name, arm.name, role, seed, rate)
        if place not in self._keys:
            self._keys[place] = identity(
                place=self.contest.place,
                contest=self.contest.name,
                code=self._code,
                task=task.name,
                settings=task.settings(),
                steps=task.steps,
                evaluate_every=task.evaluate_every,
                optimizer=task.optimizer,
                compiled=task.compiled,
                arm=arm.name,
                map=self._map_code[arm.name],
                options=arm.options,
                role=role,
                seed=seed,
                learning_rate=rate,
                **self._circumstances,
            )
        return Member(key=self._keys[place], task=task, arm=arm, role=role, seed=seed, learning_rate=rate)

    def tune(self, task: Task, grid: Sequence[float]) -> list[Member]:
        """All members that tuning over a grid needs, those of an arm and a seed together."""
        return [
            self.member(task, arm, "tune", seed, rate)
            for arm in self.contest.arms_of(task)
            for seed in self.tune_seeds
            for rate in grid
        ]

    def judge(self, task: Task, best: Mapping[str, float]) -> list[Member]:
        """All members that are judged."""
        arms = self.contest.arms_of(task)
        return [self.member(task, arm, "judge", seed, best[arm.name]) for arm in arms for seed in self.judge_seeds]

    def tuning(self, task: Task, known: Mapping[str, MemberRecord]) -> Tuning | None:
        """What the tuning of a task came to; `None` while members of it are missing."""
        grid, stage = self._reach(task, known)
        return None if stage else self._tuned(task, grid, known)

    def stage(self, task: Task, known: Mapping[str, MemberRecord]) -> list[Member]:
        """All members of the first stage of a task that is not complete; none when the task is."""
        _, stage = self._reach(task, known)
        if not stage:
            stage = self.judge(task, self._tuned(task, self._reach(task, known)[0], known).best)
        return stage if any(member.key not in known for member in stage) else []

    def members(self, task: Task, known: Mapping[str, MemberRecord]) -> list[Member]:
        """All members of a task as far as it is planned; who is judged is not known before the tuning ends."""
        grid, stage = self._reach(task, known)
        judged = [] if stage else self.judge(task, self._tuned(task, grid, known).best)
        return self.tune(task, grid) + judged

    def _reach(self, task: Task, known: Mapping[str, MemberRecord]) -> tuple[tuple[float, ...], list[Member]]:
        """The grid as far as it has grown, and all members of its newest rates if any of them is missing."""
        grid = new = task.learning_rates
        while True:
            stage = self.tune(task, new)
            if any(member.key not in known for member in stage):
                return grid, stage
            best = set(self._tuned(task, grid, known).best.values())
            longer = _extended(grid, task.learning_rates, best)
            if longer == grid:
                return grid, []
            grid, new = longer, tuple(rate for rate in longer if rate not in grid)

    def _tuned(self, task: Task, grid: tuple[float, ...], known: Mapping[str, MemberRecord]) -> Tuning:
        metric = task.validation
        scores, best = {}, {}
        middle = math.log(task.learning_rates[0] * task.learning_rates[-1]) / 2
        for arm in self.contest.arms_of(task):
            means = []
            for rate in grid:
                records = [known[self.member(task, arm, "tune", seed, rate).key] for seed in self.tune_seeds]
                values = [score(record, metric.name, metric.worst) for record in records]
                means.append(sum(values) / len(values))
            top = max(means) if metric.higher_is_better else min(means)
            # Of equally good rates (everything memorised) the one nearest the middle of the first grid.
            ties = [rate for rate, mean in zip(grid, means, strict=True) if mean == top]
            scores[arm.name] = tuple(means)
            best[arm.name] = min(ties, key=lambda rate: abs(math.log(rate) - middle))
        return Tuning(grid=grid, scores=scores, best=best)


def score(record: MemberRecord, metric: str, worst: float) -> float:
    """A member's metric; `worst` for one that diverged or whose metric is not a number."""
    value = None if record.status == "diverged" else record.metrics.get(metric)
    return worst if value is None else float(value)


def shards(stage: Sequence[Member], known: Mapping[str, MemberRecord], largest: int | None) -> list[Shard]:
    """Cut the members of a stage into fleets of one task, arm and role, equal in size, at most `largest` each.

    The cuts do not depend on what is known, so that a study that was stopped goes on with the same fleets. Known
    members are left out.
    """
    groups: dict[tuple[str, str, Role], list[Member]] = {}
    for member in stage:
        groups.setdefault((member.task.name, member.arm.name, member.role), []).append(member)
    cut = []
    for group in groups.values():
        count = 1 if largest is None else math.ceil(len(group) / largest)
        for part in range(count):
            whole = group[part * len(group) // count : (part + 1) * len(group) // count]
            if left := tuple(member for member in whole if member.key not in known):
                cut.append(Shard(key=identity(members=[member.key for member in left]), members=left))
    return cut


def _extended(grid: tuple[float, ...], first: tuple[float, ...], best: set[float]) -> tuple[float, ...]:
    ratio = first[-1] / first[-2]
    lower, upper = sum(rate < first[0] for rate in grid), sum(rate > first[-1] for rate in grid)
    if grid[0] in best and lower < EXTENSIONS:
        grid = (float(f"{grid[0] / ratio:.3g}"), *grid)
    if grid[-1] in best and upper < EXTENSIONS:
        grid = (*grid, float(f"{grid[-1] * ratio:.3g}"))
    return grid


_CODE = (".py", ".cpp", ".h")


def code_version(modules: Sequence[str]) -> str:
    """The SHA-256 of the source of modules; of a package, of all its files of Python and C++."""
    digest = hashlib.sha256()
    for name in modules:
        file = importlib.import_module(name).__file__
        if file is None:
            continue
        path = Path(file)
        files = (
            sorted(each for each in path.parent.rglob("*") if each.suffix in _CODE)
            if path.name == "__init__.py"
            else [path]
        )
        for each in files:
            digest.update(f"{name}/{each.name}\n".encode())
            digest.update(each.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def map_code(chosen: str | Map) -> str:
    """What tells a map from another, of the same name too.

    A map of this package: its name. Any other: the source of the function, the values that it holds (defaults,
    closure, attributes, arguments of `functools.partial`) and what it uses of its own module, to any depth.
    """
    from softplace import maps

    function = maps.get(chosen)
    if getattr(function, "__module__", "").startswith("softplace.maps") and inspect.isfunction(function):
        return function.__qualname__
    return "\n".join(_described(function, {}))


def _described(value: object, seen: dict[int, object]) -> Iterator[str]:
    if id(value) in seen:  # kept there, so that no other object gets its number
        return
    if isinstance(value, Tensor):
        yield f"tensor {value.dtype} {tuple(value.shape)}"
        yield from _described(value.detach().cpu().numpy(), seen)
    elif isinstance(value, np.ndarray):
        yield f"array {value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    elif value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        yield repr(value)
    elif isinstance(value, (list, tuple, set, frozenset, Mapping)):
        yield type(value).__name__
        seen[id(value)] = value
        entries: Iterable[object] = value.items() if isinstance(value, Mapping) else value
        for each in sorted(entries, key=repr) if isinstance(value, (set, frozenset)) else entries:
            yield from _described(each, seen)
    elif isinstance(value, types.ModuleType):
        yield value.__name__
    elif isinstance(value, functools.partial):
        yield from _described((value.func, value.args, value.keywords), seen)
    elif inspect.ismethod(value):
        yield from _described((value.__func__, value.__self__), seen)
    elif inspect.isfunction(value):
        seen[id(value)] = value
        yield _source(value)
        yield from _code(value.__code__)  # two lambdas of one line have one source
        cells = [cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()]
        used = [value.__globals__.get(name) for name in _names(value.__code__)]
        own = [each for each in used if _is_own(each, value.__module__)]
        yield from _described((value.__defaults__, value.__kwdefaults__, cells, own, vars(value)), seen)
    elif isinstance(value, type) or inspect.isbuiltin(value):
        yield _source(value)
    else:
        seen[id(value)] = value
        yield from _described(type(value), seen)
        yield from _described(getattr(value, "__dict__", None) or repr(value), seen)


def _code(code: types.CodeType) -> Iterator[str]:
    """What a function and the functions inside it do, without where they stand in their file."""
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames}"
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code(constant)
        else:
            yield from _described(constant, {})


def _names(code: types.CodeType) -> Iterator[str]:
    """The global names that a function and the functions inside it use."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _is_own(value: object, module: str) -> bool:
    """Whether a global is a plain value, or was made in this module."""
    plain = isinstance(value, (bool, int, float, complex, str, bytes, tuple, list, dict, Tensor, np.ndarray))
    return plain or getattr(value, "__module__", None) == module


def _source(value: Any) -> str:
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value)}"
    try:
        return f"{name}\n{inspect.getsource(value)}"
    except (OSError, TypeError):
        return name

"""The store: nothing that was finished is lost, nothing half done is seen, and no file of another is touched."""

import json
import math
import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softplace.errors import InputError
from softplace.study import store as module
from softplace.study.store import FILE, LOCK, MemberRecord, Store, identity

MEMBER: dict[str, Any] = {
    "key": "k",
    "place": "hidden",
    "contest": "four claims",
    "task": "digits",
    "arm": "softmax",
    "seed": 3,
    "learning_rate": 0.1,
    "role": "judge",
    "status": "done",
    "steps": 200,
    "seconds": 1.25,
    "metrics": {"accuracy": 0.9, "gap": None},
    "curve": {"step": [0, 100, 200], "loss": [2.3, 0.7, None]},
    "probes": {"rank": [1, 2], "coupling": {"mean": 0.5, "of": "layer 1"}},
    "provenance_id": 1,
}


def member(**changes: Any) -> MemberRecord:
    return MemberRecord(**(MEMBER | changes))


def child(source: str, *arguments: object, wait: bool = True) -> subprocess.Popen[str]:
    """Run Python source in a process of its own; what it prints is piped."""
    command = [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(source), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


PRELUDE = f"""
import os, sys, time
from pathlib import Path
from softplace.errors import InputError
from softplace.study.store import MemberRecord, Store
folder = Path(sys.argv[1])
MEMBER = {MEMBER!r}
def say(*words): print(*words, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose name means something to URLs, SQL and shells."""
    return tmp_path / "a study? #1 %41 'x' ü"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with Store.open(folder) as opened:
        opened.provenance({"command": "softplace study"})
        yield opened


def filled(folder: Path, count: int = 40) -> list[MemberRecord]:
    """A closed study of `count` members, with a checkpoint."""
    with Store.open(folder) as opened:
        opened.provenance({"command": "softplace study"})
        opened.finish("s", [member(key=f"key{i:03}", seed=i, metrics={"accuracy": i / 7}) for i in range(count)])
        opened.save_checkpoint("half", bytes(range(256)) * 40)
        return opened.members()


def sound(folder: Path) -> bool:
    with closing(sqlite3.connect(folder / FILE)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# Members


def test_a_member_comes_back_as_it_was(store: Store) -> None:
    records = [
        member(),
        member(key="other", arm="relu", status="diverged", role="tune", metrics={}, curve={}, probes={}),
    ]
    store.finish("s", records)
    assert store.members() == [records[1], records[0]]  # by arm
    assert store.members(place="output") == []


def test_members_are_in_one_order_whatever_the_order_of_writing(store: Store) -> None:
    records = [
        member(
            key=identity(place=place, arm=arm, rate=rate, seed=seed),
            place=place,
            arm=arm,
            learning_rate=rate,
            seed=seed,
        )
        for place in ("attention", "hidden")
        for arm in ("ReLU", "softmax", "Ω")
        for rate in (0.003, 0.01, 0.1)
        for seed in (0, 2, 10)
    ]
    shuffled = random.Random(0).sample(records, len(records))
    store.finish("a", shuffled[:20])
    store.finish("b", shuffled[20:])
    assert store.members() == records
    assert store.members(place="hidden") == records[27:]


def test_numpy_and_what_is_not_a_number_become_plain() -> None:
    record = member(
        seed=np.int64(3),
        learning_rate=np.float32(0.1),
        metrics={"a": np.float32(0.1), "b": math.nan, "c": np.float64("inf"), "d": 2, "e": np.bool_(True)},
        curve={"step": np.arange(3), "loss": np.array([1.0, np.nan, -np.inf], dtype=np.float32)},
        probes={"x": np.ones((2, 2)), "y": (1, math.nan), "z": np.bool_(False), "w": np.array(2.5), "p": Path("a/b")},
    )
    assert type(record.seed) is int
    assert type(record.learning_rate) is float
    assert record.learning_rate == float(np.float32(0.1))
    assert record.metrics == {"a": float(np.float32(0.1)), "b": None, "c": None, "d": 2, "e": 1}
    assert record.curve == {"step": [0, 1, 2], "loss": [1.0, None, None]}
    assert record.probes == {"x": [[1.0, 1.0], [1.0, 1.0]], "y": [1, None], "z": False, "w": 2.5, "p": str(Path("a/b"))}


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"role": "train"}, ValueError, "role: expected one of tune, judge, got 'train'"),
        ({"status": "ok"}, ValueError, "status: expected one of done, diverged, reached"),
        ({"seed": 2**63}, ValueError, "seed: expected a whole number of 64 bits"),
        ({"seed": 1.5}, ValueError, "seed: expected a whole number"),
        ({"steps": None}, ValueError, "steps: expected a whole number"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate: expected a finite number"),
        ({"seconds": "1"}, TypeError, "expected a real number or None, got '1' of type str"),
        ({"metrics": {"steps": 1.0}}, ValueError, "no column of the table has, got steps"),
        ({"metrics": {1: 1.0}}, TypeError, "expected str, got 1"),
        ({"metrics": {"a": "good"}}, TypeError, "expected a real number"),
        ({"metrics": {"a": 1j}}, TypeError, "expected a real number"),
        ({"curve": {"a": [1.0], "b": [1.0, 2.0]}}, ValueError, "columns of one length"),
        ({"probes": {"a": {1, 2}}}, TypeError, "expected a real number"),
        ({"arm": None}, TypeError, "expected str, got None"),
        (
            {"task": "donn\udce9es.csv"},
            InputError,
            r"member task: expected Unicode text, got 'donn\\udce9es.csv'; rename",
        ),
    ],
)
def test_what_cannot_be_stored_is_refused_when_made(
    changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        member(**changes)


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("shared")) as opened:
        yield opened


NAMES = st.text(st.characters(exclude_categories=["Cs"]))
FLOATS = st.one_of(st.none(), st.floats(), st.floats(width=32), st.integers())
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(
    name=NAMES,
    rate=FINITE,
    seed=st.integers(-(2**63) + 1, 2**63 - 1),
    metrics=st.dictionaries(st.text().map(lambda text: "m" + text), FLOATS, max_size=5),
    column=st.lists(FLOATS, max_size=20),
    probes=st.dictionaries(
        st.text(),
        st.recursive(FLOATS | st.text() | st.booleans(), lambda deep: st.lists(deep) | st.dictionaries(NAMES, deep)),
        max_size=3,
    ),
)  # fmt: skip
def test_every_number_and_name_comes_back_exactly(
    shared_store: Store,
    name: str,
    rate: float,
    seed: int,
    metrics: dict[str, Any],
    column: list[Any],
    probes: dict[str, Any],
) -> None:
    def bits(value: Any) -> Any:
        return struct.pack("d", value) if isinstance(value, float) else value

    record = member(
        key=name, arm=name, learning_rate=rate, seed=seed, metrics=metrics, curve={name: column}, probes=probes
    )
    store = shared_store
    store.clear()
    record = replace(record, provenance_id=store.provenance({name: name}))
    store.finish(name, [record])
    (found,) = store.members(place=record.place)
    assert store.provenances()[record.provenance_id] == {name: name}
    assert found == record
    assert found.learning_rate == rate
    expected = [None if isinstance(v, float) and not math.isfinite(v) else v for v in column]
    assert [bits(value) for value in found.curve[name]] == [bits(value) for value in expected]
    for key, value in metrics.items():
        got = found.metrics[key]
        assert bits(got) == bits(value) or (got is None and not math.isfinite(value))


HOSTILE = [
    "'; DROP TABLE members; --",
    'a"b',
    "%s {x} ?",
    "a\0b",
    "\n\r\t",
    "",
    " ",
    "日本",
    "🙂",
    "\u202eabc",
    "e\u0301",
    "é",
    "x" * 50_000,
]


def test_hostile_names_are_only_names(store: Store) -> None:
    records = [member(key=name, place=name, arm=name, metrics={"m" + name: 1.0}) for name in HOSTILE]
    for record in records:
        store.finish(record.key, [record])
        store.save_checkpoint(record.key, record.key.encode(), place=record.place)
    assert {record.key: record for record in store.members()} == {record.key: record for record in records}
    for name in HOSTILE:
        assert store.load_checkpoint(name) == name.encode()
        assert [record.key for record in store.members(place=name)] == [name]
    assert store.clear("a\0b") == 1
    assert {record.key for record in store.members()} == set(HOSTILE) - {"a\0b"}


def test_a_member_written_twice_is_one_and_never_another(store: Store) -> None:
    again = store.provenance({"command": "another"})
    store.finish("s", [member(), member()])
    store.finish("s", [member(seconds=9.0, provenance_id=again)])
    assert store.members() == [member()]
    store.save_checkpoint("s", b"half")
    with pytest.raises(
        InputError, match=r"(?s)member k \(.*seed 3\): .* got other steps, metrics; use --fresh"
    ) as caught:
        store.finish("s", [member(key="new"), member(steps=7, metrics={"accuracy": 0.1})])
    assert "\n" not in str(caught.value)
    assert store.members() == [member()]
    assert store.load_checkpoint("s") == b"half"
    with pytest.raises(InputError, match="got other arm"):
        store.finish("s", [member(key="n"), member(key="n", arm="relu")])
    with pytest.raises(ValueError, match=r"expected an id that provenance\(\) gave, got \[77\]"):
        store.finish("s", [member(key="n", provenance_id=77)])
    assert store.members() == [member()]


def test_provenance_with_the_same_content_has_the_same_id(folder: Path) -> None:
    with Store.open(folder) as opened:
        first = opened.provenance({"torch": "2.10", "time": 1.5, "files": ("a", "b")})
        assert opened.provenance({"files": ["a", "b"], "time": 1.5, "torch": "2.10"}) == first
        second = opened.provenance({"torch": "2.11"})
        assert second != first
    with Store.open(folder) as opened:
        assert opened.provenance({"torch": "2.11"}) == second
        assert opened.provenances() == {
            first: {"torch": "2.10", "time": 1.5, "files": ["a", "b"]},
            second: {"torch": "2.11"},
        }


def test_clear_forgets_a_place_or_all(store: Store) -> None:
    def fill() -> None:
        store.finish("s", [member(), member(key="o", place="output")])
        for shard, place in (("h", "hidden"), ("o", "output"), ("none", None)):
            store.save_checkpoint(shard, b"x", place=place)

    fill()
    assert store.clear("hidden") == 1
    assert [record.key for record in store.members()] == ["o"]
    assert [store.load_checkpoint(shard) for shard in ("h", "o", "none")] == [None, b"x", None]
    fill()
    assert store.clear() == 2
    assert store.members() == []
    assert [store.load_checkpoint(shard) for shard in ("h", "o", "none")] == [None, None, None]
    fill()  # the provenance is still there
    assert store.clear("attention") == 0


def test_twenty_thousand_members(folder: Path) -> None:
    curve = {"step": list(range(10)), "loss": [1 / (i + 1) for i in range(10)]}
    records = [member(key=f"{i:05}", seed=i, curve=curve) for i in range(20_000)]
    with Store.open(folder) as opened:
        opened.provenance({})
        opened.finish("s", records)
    with Store.read(folder) as opened:
        assert opened.members() == records


# Identity


@dataclass(frozen=True)
class Setting:
    width: int
    rates: tuple[float, ...] = (0.1, 1e-300)


@dataclass(frozen=True)
class Other:
    width: int
    rates: tuple[float, ...] = (0.1, 1e-300)


class Colour(Enum):
    RED = 1


def test_identity_is_the_same_in_every_process_and_version() -> None:
    value = identity(
        arm="softmax ü \udce9", rate=0.1, tiny=5e-324, seed=3, nothing=None, yes=True, path=PurePosixPath("a/b"),
        nested={"b": [1, (2.0, -0.0)], "a": math.nan}, setting=Setting(8),
    )  # fmt: skip
    # Written down once: a change here makes every stored study start again.
    assert value == "2df30ad6e1c28751c3561abcfb74917299596412fe645b6f71893f4ad75a9fff"
    source = "from softplace.study.store import identity; print(identity(a=0.1, b={'y': 1, 'x': [None, 'é']}))"
    printed = set()
    for hash_seed in ("0", "77"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True
        )
        printed.add(done.stdout.strip())
    assert printed == {identity(b={"x": (None, "é"), "y": 1}, a=0.1)}


def test_identity_tells_different_values_apart() -> None:
    values = [
        1, 1.0, True, "1", None, "null", [], {}, "", [[]], ["list", []], {"list": []}, 0.0, -0.0, math.nan,
        math.inf, 0.1, math.nextafter(0.1, 1), ["path", "a"], PurePosixPath("a"), "a", Setting(8), Other(8),
        Setting(8, (0.1,)), Setting(9), {"width": 8, "rates": [0.1, 1e-300]}, [1, 2], [12], ["1, 2"], {"a": 1},
        {"a": "1"}, [["a", 1]], 2**70, "é", "e\u0301",
    ]  # fmt: skip
    assert len({identity(value=value) for value in values}) == len(values)
    assert identity(a=1, b=2) != identity(a=2, b=1)
    assert identity() != identity(a=None)


def test_identity_takes_equal_things_as_equal() -> None:
    assert identity(a=(1, 2)) == identity(a=[1, 2])
    assert identity(a=np.float64(0.1), b=np.int32(2), c=np.bool_(True)) == identity(a=0.1, b=2, c=True)
    assert identity(a=PureWindowsPath("x\\y")) == identity(a=PurePosixPath("x/y"))
    assert identity(a={"x": 1, "y": 2}) == identity(a={"y": 2, "x": 1})


@pytest.mark.parametrize(
    "value", [{1, 2}, b"x", 1j, object(), np.ones(2), Colour.RED, {1: 2}, Setting, len, [{"a": {3}}]]
)
def test_identity_refuses_what_has_no_one_text(value: object) -> None:
    with pytest.raises(TypeError, match="identity: expected None, bool, int, float, str"):
        identity(value=value)


# Checkpoints


def test_a_checkpoint_lives_until_its_members_are_finished(store: Store) -> None:
    assert store.load_checkpoint("s") is None
    store.save_checkpoint("s", b"one")
    store.save_checkpoint("s", bytearray(b"two"))
    store.save_checkpoint("t", b"")
    assert store.load_checkpoint("s") == b"two"
    assert store.load_checkpoint("t") == b""
    store.finish("s", [member()])
    assert store.load_checkpoint("s") is None
    assert store.load_checkpoint("t") == b""


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 20, 95])
def test_a_checkpoint_of_several_parts(store: Store, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(module, "_PART", 10)
    data = random.Random(size).randbytes(size)
    store.save_checkpoint("s", bytes(200))
    store.save_checkpoint("s", data)
    assert store.load_checkpoint("s") == data


@pytest.mark.parametrize(
    "harm", ["data = x'00'", "data = substr(data, 2)", "data = 'text'", "part = part + 1, data = x''"]
)
def test_a_damaged_checkpoint_is_said_and_ignored(store: Store, harm: str) -> None:
    store.save_checkpoint("s", b"state of a shard")
    store._connection.execute(f"UPDATE checkpoint_parts SET {harm}")
    with pytest.warns(RuntimeWarning, match="the checkpoint of shard s is damaged; the shard starts again"):
        assert store.load_checkpoint("s") is None
    store.save_checkpoint("s", b"new")
    assert store.load_checkpoint("s") == b"new"


def test_the_space_of_checkpoints_is_given_back(folder: Path) -> None:
    with Store.open(folder) as opened:
        opened.save_checkpoint("s", random.Random(0).randbytes(5_000_000))
        opened.clear()
    assert (folder / FILE).stat().st_size < 200_000


# The file and the lock


def test_at_rest_the_folder_holds_one_file(folder: Path) -> None:
    opened = Store.open(folder)
    assert (folder / LOCK).read_text().split()[0] == str(os.getpid())
    opened.close()
    opened.close()
    assert os.listdir(folder) == [FILE]
    expected = filled(folder)
    assert os.listdir(folder) == [FILE]
    with Store.read(folder) as reader:
        assert reader.members() == expected
    assert os.listdir(folder) == [FILE]


def test_the_lock_is_free_after_an_error_in_the_body(folder: Path) -> None:
    def fail() -> None:
        with Store.open(folder) as opened:
            opened.provenance({"n": 1})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with Store.open(folder) as opened:
        assert opened.provenances() == {1: {"n": 1}}


def test_a_transaction_left_open_by_an_interrupt_does_not_stop_the_next(store: Store) -> None:
    store._connection.execute("BEGIN")
    store._connection.execute("INSERT INTO provenance (content) VALUES ('half')")
    known = store.provenance({"command": "softplace study"})
    assert store.provenances() == {known: {"command": "softplace study"}}


def test_a_second_open_says_who_has_the_folder(folder: Path) -> None:
    with Store.open(folder) as opened:
        with pytest.raises(InputError, match=f"study folder .* is in use by process {os.getpid()} on "):
            Store.open(folder)
        opened.provenance({"n": 1})
    holder = child("with Store.open(folder) as store: say('open'); sys.stdin.read()", folder)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    with pytest.raises(InputError, match=f"in use by process {holder.pid} on "):
        Store.open(folder)
    with Store.read(folder) as reader:
        assert reader.provenances() == {1: {"n": 1}}
    assert holder.communicate(timeout=30) == ("", "")
    with Store.open(folder):
        pass


def test_of_many_that_open_at_once_one_at_a_time_gets_in(folder: Path) -> None:
    source = """
        count = 0
        while count < 15:
            try:
                with Store.open(folder) as store:
                    inside = folder / "inside"
                    inside.touch(exist_ok=False)
                    store.provenance({"n": len(store.provenances())})
                    inside.unlink()
                    count += 1
            except InputError as error:
                assert "is in use by process" in str(error), error
                time.sleep(0.002)
    """
    children = [child(source, folder) for _ in range(3)]
    assert [process.communicate(timeout=60) for process in children] == [("", "")] * 3
    with Store.read(folder) as reader:
        assert len(reader.provenances()) == 45


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
def test_a_forked_worker_neither_writes_nor_keeps_the_lock(folder: Path) -> None:
    source = """
        store = Store.open(folder)
        store.provenance({"n": 1})
        worker = os.fork()
        if worker == 0:
            try:
                store.provenance({"n": 2})
            except RuntimeError as error:
                say(error)
            store.close()
            say("worker", os.getpid())
            time.sleep(60)
            os._exit(0)
        time.sleep(60)
    """
    parent = child(source, folder)
    assert parent.stdout is not None
    assert "only the process that opened the store may write" in parent.stdout.readline()
    worker = int(parent.stdout.readline().split()[1])
    try:
        parent.kill()
        parent.wait()
        with Store.open(folder) as opened:
            assert opened.provenances() == {1: {"n": 1}}
    finally:
        os.kill(worker, signal.SIGKILL)
        parent.communicate()


def test_a_reader_reads_while_a_writer_writes(store: Store, folder: Path) -> None:
    with Store.read(folder) as reader:
        assert reader.members() == []
        store.finish("s", [member()])
        assert reader.members() == [member()]
        for write in (lambda: reader.provenance({"n": 1}), lambda: reader.finish("s", []), lambda: reader.clear()):
            with pytest.raises(InputError, match=r"expected a store to write, got one from Store\.read"):
                write()


def test_a_reader_that_stays_does_not_harm_the_close(folder: Path) -> None:
    with Store.open(folder) as opened:
        reader = Store.read(folder)
        opened.provenance({})
        opened.finish("s", [member()])
    with reader:
        assert reader.members() == [member()]
        with Store.open(folder) as opened:
            assert opened.members() == [member()]
    with Store.open(folder) as opened:
        assert opened.members() == [member()]
    assert os.listdir(folder) == [FILE]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="only where there are pipes")
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("nowhere", path)])
def test_what_is_no_file_is_refused_and_left(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / FILE)
    before = os.lstat(tmp_path / FILE)
    for open_ in (Store.open, Store.read):
        with pytest.raises(InputError, match=r"study\.sqlite: expected a file, got a folder, pipe, device or dangling"):
            open_(tmp_path)
    assert os.listdir(tmp_path) == [FILE]
    assert os.path.samestat(before, os.lstat(tmp_path / FILE))


def test_reading_where_there_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected one with a study\.sqlite, got none"):
        Store.read(tmp_path)
    assert os.listdir(tmp_path) == []


# Killed


WRITER = """
store = Store.open(folder)
provenance = store.provenance({"command": "x"})
number = len(store.members())
say("open", number)
while True:
    shard = f"shard{number}"
    store.save_checkpoint(shard, os.urandom(20_000))
    say("checkpoint", shard)
    fields = [MEMBER | {"key": f"{number} {i}", "seed": number, "arm": str(i)} for i in range(5)]
    store.finish(shard, [MemberRecord(**f) for f in fields])
    say("finished", number)
    number += 5
    if number % 40 == 0:
        store.close()
        store = Store.open(folder)
"""


def test_a_killed_writer_loses_nothing_and_leaves_nothing_half_done(folder: Path) -> None:
    chance = random.Random()
    finished: list[int] = []
    states: set[frozenset[str]] = set()
    kills = 14
    for kill in range(kills):
        process = child(WRITER, folder)
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("open"), process.communicate()[1]
        said = "".join(process.stdout.readline() for _ in range(chance.randrange(40)))
        time.sleep(chance.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        said += process.stdout.read()  # communicate() would lose what is already buffered
        errors = process.communicate()[1]
        assert errors == ""
        assert process.returncode == -signal.SIGKILL
        whole = said[: said.rfind("\n") + 1].splitlines()
        finished += [int(line.split()[1]) for line in whole if line.startswith("finished")]
        states.add(frozenset(os.listdir(folder)))
        if kill % 2:
            continue  # let the next writer find what a kill left, too
        with Store.open(folder) as opened:
            members = opened.members()
            there = {record.key for record in members}
            assert len(there) == len(members)
            assert {f"{number} {i}" for number in finished for i in range(5)} <= there
            assert len(there) % 5 == 0  # whole shards only
            assert there == {f"{number} {i}" for number in range(0, len(there), 5) for i in range(5)}
            for record in members:
                assert record == member(key=record.key, seed=record.seed, arm=record.arm)
            done = [f"shard{number}" for number in range(0, len(there), 5)]
            assert all(opened.load_checkpoint(shard) is None for shard in done)
            if whole[-1:] == [f"checkpoint shard{len(there)}"]:
                assert len(opened.load_checkpoint(f"shard{len(there)}") or b"") == 20_000
        assert os.listdir(folder) == [FILE]
        assert sound(folder)
    assert len(finished) > kills, "the kills came too early to test anything"
    assert any(f"{FILE}-wal" in state for state in states)


def test_a_kill_while_the_folder_is_made_or_closed_is_repaired(folder: Path) -> None:
    source = """
        import shutil
        say("ready")
        for _ in range(1000):
            with Store.open(folder) as store:
                store.provenance({"n": 1})
            if len(sys.argv) > 2:
                shutil.rmtree(folder)
    """
    chance = random.Random()
    for kill in range(8):
        process = child(source, folder, *["remove"] * (kill % 2))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0, 0.08))
        process.send_signal(signal.SIGKILL)
        assert process.communicate()[1] == ""
        with Store.open(folder) as opened:
            assert opened.provenances() in ({}, {1: {"n": 1}})
        assert os.listdir(folder) == [FILE]


def test_a_journal_left_by_a_kill_is_rolled_back(folder: Path) -> None:
    """The window in which SQLite changes its journal is too short to hit: make what a kill there leaves."""
    expected = filled(folder)
    source = """
        import sqlite3
        connection = sqlite3.connect(folder / "study.sqlite", isolation_level=None)
        connection.execute("PRAGMA cache_size=1")
        connection.execute("PRAGMA cache_spill=1")
        connection.execute("BEGIN")
        connection.execute("UPDATE members SET metrics = '{}', curve = '[' || hex(randomblob(5000)) || ']'")
        connection.execute("DELETE FROM checkpoints")
        say("dirty")
        time.sleep(60)
    """
    process = child(source, folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "dirty\n"
    process.kill()
    process.communicate()
    assert sorted(os.listdir(folder)) == [FILE, f"{FILE}-journal"]
    with pytest.raises(InputError):
        Store.read(folder)
    with Store.open(folder) as opened:
        assert opened.members() == expected
        assert opened.load_checkpoint("half") is not None
    assert os.listdir(folder) == [FILE]


def test_a_log_without_its_file_is_not_replayed(folder: Path, tmp_path: Path) -> None:
    with Store.open(folder) as opened:
        opened.provenance({})
        opened.finish("s", [member()])
        shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / FILE).unlink()
    (tmp_path / "copy" / f"{FILE}.new").write_bytes(b"half")
    with Store.open(tmp_path / "copy") as opened:
        assert opened.members() == []
    assert os.listdir(tmp_path / "copy") == [FILE]


# Files that are not a healthy study


def refused(folder: Path, words: str) -> None:
    """Both ways to open say one line, and leave every byte where it was."""
    before = (folder / FILE).read_bytes()
    for way in (Store.open, Store.read):
        with pytest.raises(InputError, match=words) as caught:
            way(folder)
        text = str(caught.value)
        assert "\n" not in text
        assert ("expected" in text, "got" in text, "--out" in text) == (True, True, True), text
        assert (folder / FILE).read_bytes() == before
        assert not (folder / LOCK).exists()


def test_a_newer_schema_is_left_alone(folder: Path) -> None:
    filled(folder)
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.execute("PRAGMA user_version=99")
    refused(folder, "expected schema 1, got 99; upgrade softplace or use another --out")
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.execute("PRAGMA user_version=0")
    refused(folder, "expected schema 1, got 0; use the softplace that wrote it")


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_database_of_another_program_is_left_alone(folder: Path, mode: str) -> None:
    folder.mkdir()
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("CREATE TABLE cookies (a)")
        connection.commit()
        refused(folder, "expected a study of softplace, got another file")
    refused(folder, "expected a study of softplace, got another file")


@pytest.mark.parametrize(
    "content", [b"", b"x", b"not a database, but long enough to have a header" * 50, bytes(8192), b"SQLite format 3\0"]
)
def test_a_file_that_is_no_database_is_left_alone(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / FILE).write_bytes(content)
    refused(folder, r"expected a (study of softplace|healthy study), got (another|a damaged) file")
    (folder / f"{FILE}-journal").write_bytes(b"x")
    refused(folder, r"expected a ")
    assert (folder / f"{FILE}-journal").read_bytes() == b"x"


def test_other_tables_are_left_alone(folder: Path) -> None:
    filled(folder)
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.execute("ALTER TABLE notes ADD COLUMN more")
        connection.commit()
    refused(folder, "damaged file .other tables.")


def test_a_truncated_file_is_left_alone(folder: Path) -> None:
    filled(folder)
    whole = (folder / FILE).read_bytes()
    assert len(whole) > 8 * 4096
    lengths = {1, 50, 99, 100, 4095, 4096, 4097, len(whole) // 3, len(whole) // 2, len(whole) - 4096, len(whole) - 1}
    for length in sorted(lengths):
        (folder / FILE).write_bytes(whole[:length])
        refused(folder, r"expected a (healthy study|study of softplace), got (another|a damaged) file")


def test_any_damage_is_said_or_harmless(folder: Path) -> None:
    """Whatever byte is changed, the members are those that were written or an error says that they are not."""
    expected = filled(folder)
    whole = (folder / FILE).read_bytes()
    chance = random.Random()
    said: list[str] = []
    for _ in range(150):
        harmed = bytearray(whole)
        start = chance.randrange(len(whole))
        for i in range(start, min(start + chance.choice([1, 1, 8, 300]), len(whole))):
            harmed[i] = chance.randrange(256)
        (folder / FILE).write_bytes(harmed)
        try:
            with Store.read(folder) as reader:
                found = reader.members()
        except InputError as error:
            said.append(str(error))
        else:
            assert found == expected
    assert said
    assert not any("\n" in text for text in said)


# A disk that refuses


def test_a_full_disk_keeps_what_was_there(folder: Path) -> None:
    expected = filled(folder)
    with Store.open(folder) as opened:
        pages = opened._connection.execute("PRAGMA page_count").fetchone()[0]
        opened._connection.execute(f"PRAGMA max_page_count={pages + 3}")
        big = [member(key=f"new{i}", probes={"text": "x" * 5000}) for i in range(50)]
        writes = [
            lambda: opened.finish("half", big),
            lambda: opened.save_checkpoint("half", bytes(10**6)),
            lambda: opened.provenance({"a": "x" * 10**6}),
        ]
        for write in writes:
            with pytest.raises(
                InputError, match=r"room on the disk.*database or disk is full.*nothing stored is lost: free"
            ) as c:
                write()
            assert "\n" not in str(c.value)
            assert not opened._connection.in_transaction
        assert opened.members() == expected
        assert opened.load_checkpoint("half") == bytes(range(256)) * 40
        opened._connection.execute("PRAGMA max_page_count=1000000")
        opened.finish("half", big)
        assert len(opened.members()) == len(expected) + 50
    assert sound(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are of Unix")
@pytest.mark.parametrize("limit", [0, 100, 5000, 30_000, 100_000, 300_000])
def test_writes_that_the_system_refuses(folder: Path, limit: int) -> None:
    """A real failing write(2) at any depth: while the folder is made, the log written, the log folded in."""
    source = """
        import resource
        limit = int(sys.argv[2])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            with Store.open(folder) as store:
                store.provenance({})
                for number in range(1000):
                    store.finish("s", [MemberRecord(**MEMBER | {"key": str(number), "probes": {"x": "x" * 3000}})])
                    say("finished", number)
        except InputError as error:
            say(str(error).count(chr(10)), "InputError", error)
    """
    process = child(source, folder, limit)
    said, errors = process.communicate(timeout=60)
    assert errors == ""
    *finished, last = said.splitlines()
    assert last.startswith("0 InputError"), said
    with Store.open(folder) as opened:
        assert {record.key for record in opened.members()} >= {line.split()[1] for line in finished}
        assert len(opened.members()) <= len(finished) + 1
    assert sound(folder)


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="expected a folder that can be written, got"):
            Store.open(folder)
        with pytest.raises(InputError, match="expected"):
            Store.read(folder)
    assert (tmp_path / "file").read_text() == "mine"


@contextmanager
def unprivileged() -> Iterator[None]:
    """Permissions do not bind root: be nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of Unix")
def test_what_permissions_forbid() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "study"
        expected = filled(folder)
        os.chmod(temporary, 0o755)
        folder.chmod(0o555)
        (folder / FILE).chmod(0o444)
        before = (folder / FILE).read_bytes()
        with unprivileged():
            with pytest.raises(InputError, match="expected a folder that can be written, got 'Permission denied'"):
                Store.open(folder)
            with pytest.raises(InputError, match="Permission denied"):
                Store.open(Path(temporary) / "study" / "new")
            with Store.read(folder) as reader:  # a study on a read-only disk
                assert reader.members() == expected
        folder.chmod(0o777)  # now the file alone is read-only
        with (
            unprivileged(),
            pytest.raises(InputError, match="expected a file that can be written, got 'attempt to write"),
        ):
            Store.open(folder)
        assert os.listdir(folder) == [FILE]
        assert (folder / FILE).read_bytes() == before
        (folder / FILE).chmod(0o000)
        with unprivileged(), pytest.raises(InputError, match="expected a file that can be opened"):
            Store.read(folder)


def test_another_program_that_holds_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(folder) as opened:
        opened._connection.execute("PRAGMA busy_timeout=10")
        with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(InputError, match="no other program holds, got 'database is locked'"):
                opened.provenance({"n": 1})
        opened.provenance({"n": 1})


def test_a_closed_store_is_the_callers_mistake(folder: Path) -> None:
    opened = Store.open(folder)
    opened.close()
    with pytest.raises(sqlite3.ProgrammingError):
        opened.members()


def test_people_may_query_the_file(folder: Path) -> None:
    filled(folder)
    with closing(sqlite3.connect(folder / FILE)) as connection:
        rows = connection.execute(
            "SELECT arm, count(*), avg(metrics ->> 'accuracy') FROM members GROUP BY arm"
        ).fetchall()
    assert rows == [("softmax", 40, pytest.approx(sum(range(40)) / 40 / 7))]
    assert replace(member(), seed=4) == member(seed=4)
    assert json.dumps(member().probes)

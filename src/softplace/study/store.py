"""What a study has finished, in one SQLite file per study folder, so that a study killed at any moment loses nothing.

- *One writer.* `Store.open` takes a lock that the operating system drops when the process ends, however it ends; only
  the process that opened the store writes. `Store.read` takes no lock and sees whatever is committed.
- *All or nothing.* The members of a shard and the end of its checkpoint are one transaction, in a write-ahead log with
  `synchronous=FULL`. NORMAL would be enough for a killed process; FULL keeps what is finished through a power cut too,
  for one flush per shard. A write that fails (disk full) is rolled back and what was there stays.
- *At rest* the folder holds `study.sqlite` alone, in rollback mode, which can be read from a read-only disk.
- *A file that is not ours*, is damaged or has a newer schema is an `InputError`, found by a read-only connection.
- *Numbers.* A float comes back as the same 64 bits, but NaN and infinities become None: "no number" (see `status`).

SQLite's log needs shared memory between processes, so a study folder belongs on a local disk, not on a network share.
"""

import dataclasses
import hashlib
import json
import math
import numbers
import os
import platform
import sqlite3
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np

from softplace._locks import try_lock
from softplace.errors import InputError

JSON: TypeAlias = Any
"""None, bool, int, float, str, and lists and dicts (with str keys) of these."""
Role: TypeAlias = Literal["tune", "judge"]
Status: TypeAlias = Literal["done", "diverged", "reached"]

FILE = "study.sqlite"
LOCK = "study.lock"
APPLICATION = 0x736F6674  # "soft" in ASCII: SQLite's application_id, bytes 68 to 71 of the file
SCHEMA_VERSION = 1
_SCHEMA = (
    "CREATE TABLE provenance (id INTEGER PRIMARY KEY, content TEXT NOT NULL UNIQUE)",
    "CREATE TABLE members (key TEXT PRIMARY KEY, place TEXT NOT NULL, contest TEXT NOT NULL, task TEXT NOT NULL, "
    "arm TEXT NOT NULL, seed INTEGER NOT NULL, learning_rate REAL NOT NULL, role TEXT NOT NULL, status TEXT NOT NULL, "
    "steps INTEGER NOT NULL, seconds REAL NOT NULL, metrics TEXT NOT NULL, curve TEXT NOT NULL, probes TEXT NOT NULL, "
    "provenance_id INTEGER NOT NULL REFERENCES provenance (id), checksum TEXT NOT NULL)",
    "CREATE TABLE checkpoints (shard_key TEXT PRIMARY KEY, place TEXT, size INTEGER NOT NULL, checksum TEXT NOT NULL)",
    "CREATE TABLE checkpoint_parts (shard_key TEXT, part INTEGER, data BLOB NOT NULL, PRIMARY KEY (shard_key, part))",
    "CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
)
_PART = 1 << 26  # bytes: SQLite's longest value is 1e9 bytes, a checkpoint may be larger
_KEYS_PER_QUERY = 500  # SQLite before 3.32 takes at most 999 parameters


@dataclass(frozen=True, kw_only=True)
class MemberRecord:
    """One trained network: who it is, how it ended, what was measured.

    `key` is its `identity`; `metrics` has a number per name; `curve` has equally long columns (`step`, `loss`, ...);
    `probes` is free JSON. What is given is made plain at once, so that a record equals itself read back: numpy becomes
    Python, tuples in `probes` and columns of `curve` become lists, NaN and infinities become None.
    `TypeError` or `ValueError` for what cannot be stored; `InputError` for a name that is not Unicode text.
    """

    key: str
    place: str
    contest: str
    task: str
    arm: str
    seed: int
    learning_rate: float
    role: Role
    status: Status
    steps: int
    seconds: float
    metrics: Mapping[str, float | None]
    curve: Mapping[str, Sequence[float | None]]
    probes: Mapping[str, JSON]
    provenance_id: int

    def __post_init__(self) -> None:
        for name in ("key", "place", "contest", "task", "arm"):
            _text(f"member {name}", getattr(self, name))
        for name, choices in (("role", get_args(Role)), ("status", get_args(Status))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}")
        plain: dict[str, object] = {}
        for name in ("seed", "steps", "provenance_id"):
            whole = plain[name] = _number(getattr(self, name))
            if not isinstance(whole, int) or whole.bit_length() > 63:
                raise ValueError(f"{name}: expected a whole number of 64 bits, got {getattr(self, name)!r}")
        for name in ("learning_rate", "seconds"):
            if (number := _number(getattr(self, name))) is None:
                raise ValueError(f"{name}: expected a finite number, got {getattr(self, name)!r}")
            plain[name] = float(number) + 0.0  # SQLite has no -0.0 in a column of numbers
        if taken := sorted(set(_COLUMNS).intersection(self.metrics)):
            raise ValueError(f"metrics: expected names that no column of the table has, got {', '.join(taken)}; rename")
        plain["metrics"] = {_string(name): _number(value) for name, value in self.metrics.items()}
        curve = {_string(name): [_number(value) for value in column] for name, column in self.curve.items()}
        if len({len(column) for column in curve.values()}) > 1:
            lengths = {name: len(column) for name, column in curve.items()}
            raise ValueError(f"curve: expected columns of one length, got {lengths}")
        for name, value in (plain | {"curve": curve, "probes": _plain(self.probes)}).items():
            object.__setattr__(self, name, value)


_COLUMNS = tuple(field.name for field in dataclasses.fields(MemberRecord))
_JSON_COLUMNS = ("metrics", "curve", "probes")
_CIRCUMSTANCES = ("seconds", "provenance_id")


def identity(**fields: object) -> str:
    """The SHA-256, in hexadecimal, of everything that determines a member: equal fields, equal identity, anywhere.

    Fields are None, bool, int, float (by `repr`: 1 and 1.0 differ), str, paths (with forward slashes), numpy scalars,
    and lists or tuples (alike), mappings with str keys and dataclasses (by class name and fields) of these; the order
    of keys does not count. Anything else is a `TypeError`: a set or an array has no one text (give a list or a hash).

    >>> identity(arm="relu", width=8) == identity(width=8, arm="relu")
    True
    """
    return hashlib.sha256(json.dumps(_tagged(fields), separators=(",", ":")).encode("ascii")).hexdigest()


class Store:
    """The results of one study folder: `with Store.open(folder) as store:`, or `Store.read(folder)` to look only."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int | None) -> None:
        self.path = path
        self._connection = connection
        self._lock = lock
        self._process = os.getpid()
        self._closed = False

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The store of a folder, to read and write; the folder and the file are made where missing.

        `InputError` when another process has it open, when it cannot be written, or when `study.sqlite` is not a
        healthy study of this version (the file is then left as it is, byte for byte).
        """
        with _explained(Path(folder)):
            path = _path(folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = _lock(path.parent)
            connection = None
            try:
                if not path.exists():
                    _create(path)
                _examine(path, writable=True)
                connection = _connect(path, "rw")
                for pragma in (
                    "foreign_keys=ON",
                    "journal_mode=WAL",
                    "synchronous=FULL",
                    f"journal_size_limit={_PART}",
                ):
                    connection.execute(f"PRAGMA {pragma}")
                connection.execute("BEGIN IMMEDIATE")  # a file that cannot be written fails now, not after an hour
                connection.execute("ROLLBACK")
            except BaseException:
                if connection is not None:
                    connection.close()
                _unlock(path.parent, lock)
                raise
            return cls(path, connection, lock)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The store of a folder, to read only, also while a study writes it. `InputError` without a healthy study."""
        with _explained(Path(folder)):
            path = _path(folder)
            if not path.exists():
                raise InputError(f"study folder {folder}: expected one with a {FILE}, got none; check the path")
            _examine(path, writable=False)
            return cls(path, _connect(path, "ro"), None)

    def close(self) -> None:
        """Fold the log into `study.sqlite`, free the space of dropped checkpoints and the lock. May be called twice."""
        if self._closed or os.getpid() != self._process:
            return
        self._closed = True
        try:
            if self._lock is not None:
                # Housekeeping: where a reader or a full disk prevents it, the log stays and the next opening reads it.
                with suppress(sqlite3.Error):
                    self._connection.executescript("PRAGMA busy_timeout=500; PRAGMA incremental_vacuum")
                with suppress(sqlite3.Error):
                    self._connection.execute("PRAGMA journal_mode=DELETE")
        finally:
            self._connection.close()
            if self._lock is not None:
                _unlock(self.path.parent, self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def provenance(self, content: Mapping[str, JSON]) -> int:
        """The id of a record of versions, command, commit, hardware, time. Same content, same id, in any run."""
        text = _dump(_plain(content))
        with self._writing() as connection:
            connection.execute("INSERT OR IGNORE INTO provenance (content) VALUES (?)", (text,))
            return int(connection.execute("SELECT id FROM provenance WHERE content = ?", (text,)).fetchone()[0])

    def provenances(self) -> dict[int, dict[str, JSON]]:
        """Every provenance by its id."""
        rows = self._select("SELECT id, content FROM provenance ORDER BY id")
        return {row: self._parse(text) for row, text in rows}

    def finish(self, shard_key: str, records: Iterable[MemberRecord]) -> None:
        """Store the members of a shard and drop its checkpoint, both or neither.

        A member that is already there with the same content is left (its `seconds` and `provenance_id`, which differ
        between two runs of one thing, stay as first stored); with other content it is an `InputError`, and nothing is
        stored. `ValueError` for a `provenance_id` that `provenance` did not give.
        """
        records = list(records)
        with self._writing() as connection:
            if unknown := {record.provenance_id for record in records} - self.provenances().keys():
                raise ValueError(f"provenance_id: expected an id that provenance() gave, got {sorted(unknown)}")
            query = f"SELECT {', '.join(_COLUMNS)} FROM members"
            stored = {row[0]: row for row in self._by_keys(query, (record.key for record in records))}
            insert = f"INSERT INTO members VALUES ({', '.join('?' * (len(_COLUMNS) + 1))})"
            for record in records:
                row = _encode(record)
                if (there := stored.setdefault(record.key, row)) is row:
                    connection.execute(insert, (*row, _checksum(row)))
                    continue
                pairs = zip(_COLUMNS, there, row, strict=True)
                if other := [name for name, old, new in pairs if old != new and name not in _CIRCUMSTANCES]:
                    who = f"place {record.place!r}, arm {record.arm!r}, seed {record.seed}"
                    expected = f"expected the content that is stored, got other {', '.join(other)}"
                    raise InputError(
                        f"{self.path}: member {record.key} ({who}): {expected}; use --fresh or another --out"
                    )
            self._drop(shard_key)

    def save_checkpoint(self, shard_key: str, data: bytes, *, place: str | None = None) -> None:
        """Store the state of a half-trained shard in place of its last one. `clear(place)` drops it with its place."""
        view = memoryview(data).cast("B")
        row = (_text("shard_key", shard_key), place, len(view), hashlib.sha256(view).hexdigest())
        with self._writing() as connection:
            self._drop(shard_key)
            connection.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?)", row)
            for part, start in enumerate(range(0, len(view), _PART)):
                values = (shard_key, part, view[start : start + _PART])
                connection.execute("INSERT INTO checkpoint_parts VALUES (?, ?, ?)", values)

    def load_checkpoint(self, shard_key: str) -> bytes | None:
        """The last state of a shard, or None. A damaged one is None with a `RuntimeWarning`: the shard starts again."""
        found = self._select("SELECT size, checksum FROM checkpoints WHERE shard_key = ?", (shard_key,))
        if not found:
            return None
        query = "SELECT CAST(data AS BLOB) FROM checkpoint_parts WHERE shard_key = ? ORDER BY part"
        data = b"".join(row[0] for row in self._select(query, (shard_key,)))
        if (len(data), hashlib.sha256(data).hexdigest()) == found[0]:
            return data
        text = (
            f"{self.path}: the checkpoint of shard {shard_key} is damaged; the shard starts again from its first step"
        )
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        return None

    def members(self, place: str | None = None) -> list[MemberRecord]:
        """The finished members, all or those of a place, by place, contest, task, arm, rate, seed, role, key."""
        where, values = ("TRUE", ()) if place is None else ("place = ?", (place,))
        rows = self._select(f"SELECT {', '.join(_COLUMNS)}, checksum FROM members WHERE {where}", values)
        chosen = [self._decode(row) for row in rows]
        return sorted(chosen, key=lambda m: (m.place, m.contest, m.task, m.arm, m.learning_rate, m.seed, m.role, m.key))

    def clear(self, place: str | None = None, contest: str | None = None) -> int:
        """Forget the members and checkpoints of a place (and checkpoints without one), or all but the provenance.

        With a `contest`, the members of the place's other contests stay. Returns how many members were forgotten.
        """
        where, values = ("TRUE", ()) if place is None else ("place = ?", (place,))
        with self._writing() as connection:
            one, which = ("TRUE", ()) if contest is None else ("contest = ?", (contest,))
            count = connection.execute(f"DELETE FROM members WHERE {where} AND {one}", (*values, *which)).rowcount
            connection.execute(f"DELETE FROM checkpoints WHERE {where} OR place IS NULL", values)
            connection.execute(
                "DELETE FROM checkpoint_parts WHERE shard_key NOT IN (SELECT shard_key FROM checkpoints)"
            )
            if place is None:
                connection.execute("DELETE FROM notes")
        return count

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end, rolled back on any exception."""
        if os.getpid() != self._process:
            raise RuntimeError(f"{self.path}: only the process that opened the store may write")
        if self._lock is None:
            raise InputError(f"{self.path}: expected a store to write, got one from Store.read; use Store.open")
        with _explained(self.path):
            try:
                if self._connection.in_transaction:  # an interrupt fell between two statements of an earlier write
                    self._connection.execute("ROLLBACK")
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                raise

    def _select(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with _explained(self.path):
            return self._connection.execute(query, values).fetchall()

    def _by_keys(self, query: str, keys: Iterable[str]) -> list[tuple[Any, ...]]:
        unique = list(dict.fromkeys(keys))
        blocks = [unique[start : start + _KEYS_PER_QUERY] for start in range(0, len(unique), _KEYS_PER_QUERY)]
        return [row for b in blocks for row in self._select(f"{query} WHERE key IN ({','.join('?' * len(b))})", b)]

    def _drop(self, shard_key: str) -> None:
        for table in ("checkpoints", "checkpoint_parts"):
            self._connection.execute(f"DELETE FROM {table} WHERE shard_key = ?", (shard_key,))

    def _parse(self, text: str) -> JSON:
        try:
            return json.loads(text)
        except (ValueError, TypeError) as error:
            raise _damaged(self.path, f"no JSON: {text!r:.80}") from error

    def _decode(self, row: tuple[Any, ...]) -> MemberRecord:
        try:
            if _checksum(row[:-1]) != row[-1]:
                raise ValueError("checksum")
            pairs = zip(_COLUMNS, row, strict=False)
            return MemberRecord(**{name: json.loads(v) if name in _JSON_COLUMNS else v for name, v in pairs})
        except (ValueError, TypeError) as error:
            raise _damaged(self.path, f"member {row[0]!r:.80} fails its checksum") from error


def _encode(record: MemberRecord) -> tuple[Any, ...]:
    values = ((name, getattr(record, name)) for name in _COLUMNS)
    return tuple(_dump(value) if name in _JSON_COLUMNS else value for name, value in values)


def _checksum(row: Sequence[object]) -> str:
    return hashlib.sha256(_dump(row).encode("ascii")).hexdigest()


def _dump(value: JSON) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"name: expected str, got {value!r} of type {type(value).__name__}")
    return value


def _text(what: str, value: object) -> str:
    try:
        _string(value).encode()
    except UnicodeEncodeError:
        raise InputError(f"{what}: expected Unicode text, got {value!a}; rename it (or its file)") from None
    return _string(value)


def _number(value: object) -> float | int | None:
    """The same number as a Python float or int; None for None, NaN and infinities."""
    if value is None or type(value) is int:
        return value
    if isinstance(value, numbers.Integral | np.bool_):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    raise TypeError(f"number: expected a real number or None, got {value!r:.80} of type {type(value).__name__}")


def _plain(value: object) -> JSON:
    """The value as JSON has it: numpy made Python, tuples lists, paths text, NaN and infinities None."""
    if value is None or isinstance(value, str | bool | np.bool_):
        return bool(value) if isinstance(value, np.bool_) else value
    if isinstance(value, Mapping):
        return {_string(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, PurePath) else _number(value)


def _tagged(value: object) -> JSON:
    """The value as JSON in which two different values never look alike: every container carries its kind."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, bool | str | int | float):
        return value
    if isinstance(value, list | tuple):
        return ["list", [_tagged(item) for item in value]]
    if isinstance(value, PurePath):
        return ["path", value.as_posix()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return ["dataclass", type(value).__name__, _tagged(fields)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return ["mapping", [[key, _tagged(value[key])] for key in sorted(value)]]
    expected = "None, bool, int, float, str, a path, or a list, mapping (with str keys) or dataclass of these"
    raise TypeError(f"identity: expected {expected}, got {value!r:.80} of type {type(value).__name__}")


def _path(folder: Path) -> Path:
    """The file of a study folder: to open a pipe would wait for ever, and a dangling link would be replaced."""
    path = Path(folder).absolute() / FILE
    if os.path.lexists(path) and not path.is_file():
        raise InputError(f"{path}: expected a file, got a folder, pipe, device or dangling link; move it away")
    return path


def _connect(path: Path, mode: Literal["ro", "rw", "rwc"]) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None)


def _create(path: Path) -> None:
    """Make an empty study beside its name and move it there whole: a kill here leaves no half-made file."""
    new = path.with_name(f"{FILE}.new")
    # What an earlier kill left; and a log without its file, which would be replayed into the new one.
    for stale in (new, Path(f"{new}-journal"), Path(f"{path}-wal"), Path(f"{path}-shm"), Path(f"{path}-journal")):
        stale.unlink(missing_ok=True)
    try:
        with closing(_connect(new, "rwc")) as connection:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            header = (f"PRAGMA application_id={APPLICATION}", f"PRAGMA user_version={SCHEMA_VERSION}")
            for statement in ("BEGIN", *_SCHEMA, *header, "COMMIT"):
                connection.execute(statement)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _examine(path: Path, *, writable: bool) -> None:
    """Raise unless the file is a healthy study of this schema. Only what a kill of ours left half done is repaired."""
    repair = writable and Path(f"{path}-journal").exists() and _is_ours(path)
    with closing(_connect(path, "rw" if repair else "ro")) as connection:
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
            raise InputError(f"{path}: expected a study of softplace, got another file; move it or use another --out")
        if (version := connection.execute("PRAGMA user_version").fetchone()[0]) != SCHEMA_VERSION:
            way = "upgrade softplace" if version > SCHEMA_VERSION else "use the softplace that wrote it"
            raise InputError(f"{path}: expected schema {SCHEMA_VERSION}, got {version}; {way} or use another --out")
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        if path.stat().st_size % page_size and not Path(f"{path}-wal").exists():
            raise _damaged(path, "cut short")
        if (problem := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _damaged(path, problem)
        if {row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql > ''")} != set(_SCHEMA):
            raise _damaged(path, "other tables")


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(100)[68:72] == APPLICATION.to_bytes(4, "big")


def _damaged(path: Path, problem: str) -> InputError:
    got = f"a damaged file ({' '.join(problem.split())})"
    return InputError(f"{path}: expected a healthy study, got {got}; move it away or use another --out")


_REFUSALS = {
    sqlite3.SQLITE_FULL: ("room on the disk", "free some space and run the same command again"),
    sqlite3.SQLITE_IOERR: ("a disk that works and has room", "check it and run the same command again"),
    sqlite3.SQLITE_READONLY: ("a file that can be written", "change its permissions or use another --out"),
    sqlite3.SQLITE_CANTOPEN: ("a file that can be opened", "change the permissions of its folder or use another --out"),
    sqlite3.SQLITE_PERM: ("a file that can be opened", "change its permissions or use another --out"),
    sqlite3.SQLITE_BUSY: ("a file that no other program holds", "close that program and run the same command again"),
}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system refuse into one line that says the way out; mistakes in the code pass."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except UnicodeDecodeError as error:
        raise _damaged(path, "text that is not Unicode") from error
    except sqlite3.Error as error:
        # Only text that cannot be decoded comes without a code.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise _damaged(path, str(error)) from error
        if code not in _REFUSALS:
            raise
        expected, way = _REFUSALS[code]
        raise InputError(f"{path}: expected {expected}, got '{error}'; nothing stored is lost: {way}") from error
    except OSError as error:
        got = f"expected a folder that can be written, got '{error.strerror or error}'"
        raise InputError(f"{path}: {got}; free space, change its permissions or use another --out") from error


_held: set[int] = set()


def _lock(folder: Path) -> int:
    """Lock the folder and return the descriptor that holds the lock; the system drops it when the process ends."""
    path = folder / LOCK
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not try_lock(descriptor):
                holder = os.read(descriptor, 200).decode(errors="replace") or "(starting)"
                way = "wait for it, stop it, or use another --out"
                raise InputError(f"study folder {folder} is in use by process {holder}: expected a free one; {way}")
            # The last holder may have removed the file after we opened it: then this is a lock on a file without name.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                with suppress(OSError):  # a full disk: the text is for the message above only
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"{os.getpid()} on {platform.node()}".encode())
                _held.add(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _unlock(folder: Path, descriptor: int) -> None:
    _held.discard(descriptor)
    if sys.platform == "win32":  # an open file cannot be removed there
        os.close(descriptor)
    with suppress(OSError):
        (folder / LOCK).unlink()
    if sys.platform != "win32":
        os.close(descriptor)


if sys.platform != "win32":

    def _after_fork() -> None:
        """A forked worker that outlives a killed parent must not keep the folder locked."""
        while _held:
            os.close(_held.pop())

    os.register_at_fork(after_in_child=_after_fork)

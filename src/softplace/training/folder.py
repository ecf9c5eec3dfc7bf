"""The folder of a training: whose it is, who may write, and the learning curve in it.

`curve.jsonl` has a JSON object per line: `step`, `sequences`, means since the line before, `seconds` of training; when
a training diverges the last line says why. It is written to the end only, and cut back to where the checkpoint was
taken when a training goes on. Whoever trains holds a lock on it that the operating system drops with the process.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from softplace._locks import try_lock
from softplace.errors import InputError
from softplace.training import checkpoint
from softplace.training.checkpoint import CHECKPOINT, CONFIG, Settings

CURVE, EVALUATION, PAGE = "curve.jsonl", "evaluation.json", "page.html"
TOKENS, MODEL, SNAPSHOTS = "tokens.json", "model.safetensors", "snapshot-*.safetensors"
_ALL = (CONFIG, CHECKPOINT, CURVE, EVALUATION, PAGE, TOKENS, MODEL)


class TrainingFolder:
    """An open folder: `with TrainingFolder.open(path, config, fresh=False) as folder:`."""

    def __init__(self, path: Path, curve: IO[bytes]) -> None:
        self.path, self._curve = path, curve

    @classmethod
    @contextmanager
    def open(cls, path: Path, config: Settings, *, fresh: bool) -> Iterator["TrainingFolder"]:
        """Take the folder, made where missing, for a training. Nothing in it is touched before all is known to be well.

        Args:
            fresh: Forget the training that the folder has, whatever its settings.

        Raises:
            InputError: It is another program's, or another training's, or in use, or cannot be written.
        """
        _check_ours(path, config, fresh=fresh)
        try:
            path.mkdir(parents=True, exist_ok=True)
            curve = (path / CURVE).open("a+b")
        except OSError as error:
            raise checkpoint.unwritable(path, error) from error
        with curve:
            if not try_lock(curve.fileno()):
                raise InputError(
                    f"{str(path)!r}: expected a free folder. Got one that a training runs in. Wait for it."
                )
            if fresh:
                for each in (*(path / name for name in _ALL if name not in (CONFIG, CURVE)), *path.glob(SNAPSHOTS)):
                    each.unlink(missing_ok=True)
                curve.truncate(0)
            if fresh or not (path / CONFIG).exists():
                checkpoint.write_config(path, config)  # the last, so that a killed --fresh can be repeated
            yield cls(path, curve)

    def position(self) -> int:
        """How long the curve is, in bytes, once it is safely on the disk."""
        try:
            self._curve.flush()
            os.fsync(self._curve.fileno())
        except OSError as error:
            raise checkpoint.unwritable(self.path / CURVE, error) from error
        return os.fstat(self._curve.fileno()).st_size

    def cut(self, position: int) -> None:
        """Cut the curve back to a position.

        Raises:
            InputError: It is shorter.
        """
        if (got := os.fstat(self._curve.fileno()).st_size) < position:
            raise InputError(
                f"{str(self.path / CURVE)!r}: expected {position:,} bytes or more, as the checkpoint says. "
                f"Got {got:,}. Restore the file, or use --fresh to train anew."
            )
        self._curve.truncate(position)
        self.curve()  # a damaged one is refused before anything is written

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a line to the curve."""
        try:
            self._curve.write((json.dumps(row, allow_nan=False) + "\n").encode())
            self._curve.flush()
        except OSError as error:
            raise checkpoint.unwritable(self.path / CURVE, error) from error

    def curve(self) -> list[dict[str, Any]]:
        """The lines of the curve so far."""
        return read_curve(self.path)


def read_curve(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of the curve in a folder. A last line that a killed training left half written is left out.

    Raises:
        InputError: A line that is damaged.
    """
    lines = (Path(path) / CURVE).read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or not all(isinstance(value, float | int | str) for value in row.values()):
            raise InputError(
                f"{str(Path(path) / CURVE)!r}, line {number}: expected a JSON object of numbers. Got "
                f"{line[:60]!r}. Restore the file, or use --fresh to train anew."
            )
        rows.append(row)
    return rows


def _check_ours(path: Path, config: Settings, *, fresh: bool) -> None:
    if os.path.lexists(path) and not path.is_dir():
        raise InputError(f"'out' must be the path of a folder. Got {str(path)!r}, a file. Use another --out.")
    present = [name for name in _ALL if os.path.lexists(path / name)]
    for name in present:
        each = path / name
        if each.is_symlink() or not each.is_file():
            raise InputError(f"{str(each)!r}: expected a file that can be written. Got another thing. Move it away.")
        if not os.access(each, os.W_OK):
            raise InputError(
                f"{str(each)!r}: expected a file that can be written. Got a read-only one. Change its permissions."
            )
    if present and present != [CURVE] and CONFIG not in present:
        raise InputError(
            f"{str(path / present[0])!r}: expected a folder that a training made, or one without this file. "
            "Got a file that is not of a training. Use another --out."
        )
    there = checkpoint.read_config(path, type(config))
    if there is None and CURVE in present and (path / CURVE).stat().st_size:
        raise InputError(
            f"{str(path / CURVE)!r}: expected the settings of its training beside it, in {CONFIG}. Got none. "
            "Use another --out."
        )
    if there is not None and not fresh and (differences := _differences(there, config)):
        raise InputError(
            f"{str(path)!r}: expected a training of the same settings. Got another {', another '.join(differences)}. "
            "Use another --out, or --fresh to forget what is there."
        )


def _differences(there: Settings, here: Settings) -> Sequence[str]:
    old, new = there.flat(), here.flat()
    return [
        f"{name} ({old.get(name)!r} there, {new.get(name)!r} here)"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]

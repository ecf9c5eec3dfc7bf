"""C++ compiled on first use, kept for later processes."""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from functools import cache
from pathlib import Path

_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fPIC", "-shared", "-w")
_ONE_AT_A_TIME = threading.Lock()


def library(sources: tuple[Path, ...], slower: str) -> ctypes.CDLL | None:
    """The last of the sources compiled; `None`, with one warning, where it cannot be had: the plain paths serve then.

    `slower` says who then runs in plain PyTorch. The rest of the sources are what the last includes.

    The library is kept in the folder that the environment variable `SOFTPLACE_CACHE` names, or else in the user's cache
    folder, under a name made of its source, compiler and processor. `SOFTPLACE_KERNEL=0` does without it, silently.
    """
    with _ONE_AT_A_TIME:
        return _library(sources, slower)


@cache
def _library(sources: tuple[Path, ...], slower: str) -> ctypes.CDLL | None:
    if os.environ.get("SOFTPLACE_KERNEL", "").lower() in ("0", "no", "off", "false"):
        return None
    try:
        return _found(sources)
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        warnings.warn(
            f"softplace: its kernel could not be compiled, so {slower} run in plain PyTorch, slower: "
            f"{said.strip()[:500]} (Install a C++ compiler, name one in CXX, or set SOFTPLACE_KERNEL=0 to do without.)",
            RuntimeWarning,
            stacklevel=3,
        )
        return None


def _found(sources: tuple[Path, ...]) -> ctypes.CDLL:
    command = _compiler()
    folder = _folder()
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="softplace-") as own:  # nobody else can have put a file there
            return ctypes.CDLL(str(_compile(command, sources[-1], Path(own) / "kernel.so")))
    path = folder / f"{sources[-1].stem.strip('_')}-{_identity(command, sources)}.so"
    if _is_whole(path):
        return ctypes.CDLL(str(path))
    try:
        return ctypes.CDLL(str(_compile(command, sources[-1], path)))
    except (OSError, AttributeError):
        path.unlink(missing_ok=True)
        _checksum(path).unlink(missing_ok=True)
        raise


def _is_whole(path: Path) -> bool:
    """Whether the library is what the compiler wrote: to load a damaged one can end the process."""
    try:
        return _digest(path.read_bytes()) == _checksum(path).read_text()
    except (OSError, UnicodeDecodeError):
        return False


def _checksum(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _compiler() -> list[str]:
    if sys.platform == "win32":
        raise OSError("there is no kernel for Windows")
    named = shlex.split(os.environ.get("CXX", ""))
    for name, *options in [named] if named else [["g++"], ["clang++"], ["c++"]]:
        if found := shutil.which(name):
            return [found, *options]
    raise OSError(
        f"CXX names {named[0]!r}, which was not found" if named else "no C++ compiler (g++ or clang++) was found"
    )


def _threads() -> tuple[str, ...]:
    return () if sys.platform == "darwin" else ("-fopenmp",)  # Apple's compiler has no OpenMP


def _folder() -> Path | None:
    named = os.environ.get("SOFTPLACE_CACHE")
    try:
        folder = Path(named or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "" if named else "softplace")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # a read-only home, or none
        pass
    warnings.warn(
        "softplace: its kernel is compiled for this process alone, as its cache folder cannot be written. "
        "Name one that can in SOFTPLACE_CACHE.",
        RuntimeWarning,
        stacklevel=5,
    )
    return None


def _identity(command: list[str], sources: tuple[Path, ...]) -> str:
    about = Path(command[0]).resolve().stat()
    parts = [command, about.st_size, about.st_mtime, _FLAGS, _threads(), platform.machine(), _processor()]
    digest = hashlib.sha256(repr(parts).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:20]


def _processor() -> str:
    """What `-march=native` depends on: a cache folder may be shared by different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _compile(command: list[str], source: Path, path: Path) -> Path:
    # Under another name first: a process that was stopped, or runs beside this one, leaves no half a library.
    descriptor, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    os.close(descriptor)
    try:
        whole = [*command, *_FLAGS, *_threads(), str(source), "-o", partial]
        subprocess.run(whole, check=True, capture_output=True, text=True, timeout=300)
        os.chmod(partial, 0o755)  # other users of a shared folder may read it
        content = Path(partial).read_bytes()
        os.replace(partial, path)
        _checksum(path).write_text(_digest(content))
    finally:
        Path(partial).unlink(missing_ok=True)
    return path

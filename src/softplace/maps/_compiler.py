"""The kernel's C++ compiled on first use, kept for later processes."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path

_SOURCES = tuple(Path(__file__).with_name(name) for name in ("_vector.h", "_layout.h", "_kernel.cpp"))
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fPIC", "-shared", "-w")


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernel; `None`, with one warning, where it cannot be had: the plain paths serve then.

    It is kept in the folder that the environment variable `SOFTPLACE_CACHE` names, or else in the user's cache folder,
    under a name made of its source, compiler and processor. `SOFTPLACE_KERNEL=0` does without it, silently.
    """
    if os.environ.get("SOFTPLACE_KERNEL") == "0":
        return None
    try:
        return _load()
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        warnings.warn(
            f"softplace: its kernel could not be compiled, so maps run in plain PyTorch, slower: {said.strip()[:500]} "
            "(Install a C++ compiler, name one in CXX, or set SOFTPLACE_KERNEL=0 to do without.)",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def _load() -> ctypes.CDLL:
    compiler = _compiler()
    path = _folder() / f"kernel-{_identity(compiler)}.so"
    if not path.exists():
        _compile(compiler, path)
    loaded = ctypes.CDLL(str(path))
    pointer, number = ctypes.c_void_p, ctypes.c_int
    loaded.softplace_forward.argtypes = (number, number, pointer, pointer, pointer)
    loaded.softplace_backward.argtypes = (number, number, pointer, pointer, pointer, pointer)
    return loaded


def _compiler() -> str:
    if sys.platform == "win32":
        raise OSError("there is no kernel for Windows")
    for name in filter(None, (os.environ.get("CXX"), "g++", "clang++", "c++")):
        if found := shutil.which(name):
            return found
    raise OSError("no C++ compiler (g++ or clang++) was found")


def _threads() -> tuple[str, ...]:
    return () if sys.platform == "darwin" else ("-fopenmp",)  # Apple's compiler has no OpenMP


def _folder() -> Path:
    named = os.environ.get("SOFTPLACE_CACHE")
    folder = Path(named or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "" if named else "softplace")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:  # a read-only home
        pass
    return Path(tempfile.mkdtemp(prefix="softplace-"))  # of this process alone: nobody else can have put a file there


def _identity(compiler: str) -> str:
    about = Path(compiler).resolve().stat()
    parts = [compiler, about.st_size, about.st_mtime, _FLAGS, _threads(), platform.machine(), _processor()]
    digest = hashlib.sha256(repr(parts).encode())
    for source in _SOURCES:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:20]


def _processor() -> str:
    """What `-march=native` depends on: a cache folder may be shared by different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _compile(compiler: str, path: Path) -> None:
    # Under another name first: a process that was stopped, or runs beside this one, leaves no half a library.
    descriptor, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    os.close(descriptor)
    try:
        command = [compiler, *_FLAGS, *_threads(), str(_SOURCES[-1]), "-o", partial]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)

"""`softplace check`: files a second cold and warm, start-up, memory, and what ruff and torchfix take for the same.

The gate comes first: on the wrong and right code of tests/check/fixtures every finding is marked and every mark is
found; where not, no speed is printed and the exit code is 1. The folder is that of the installed torch unless
`--sources` names another. Rows:

- softplace: a process of its own each time, as a user starts it; cold without the cache, warm with it. Start-up is
  that of the help and of a file of one line.
- ruff: its default rules, without its cache, and with all rules; it has none on softmax.
- torchfix: when it is installed (it is no dependency); its rules for torch, none on softmax. It gets a minute.

Seconds are those of the clock, CPU those of all processes together, MiB the most that one process held.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.check.reading import blocks, found

from softplace.check.files import find

FIXTURES = Path(__file__).parent.parent / "tests" / "check" / "fixtures"


def main() -> int:
    """Print the table; 1 when the gate is shut."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks check", description=__doc__)
    parser.add_argument("--sources", help="Folder to check. The installed torch when not given.")
    parser.add_argument("--repeats", type=int, default=3, help="Runs of each, of which the best counts.")
    options = parser.parse_args()
    right, total = gate()
    print(f"fixtures: {right} of {total} blocks have exactly the findings that they mark")
    if right != total:
        return 1
    folder = options.sources or _torch()
    files = list(find([folder], (), {}))
    lines = sum(Path(path).read_bytes().count(b"\n") for path in files)
    print(f"{folder}: {len(files)} files, {lines} lines, {os.cpu_count()} cores\n")
    print(f"{'':34}{'seconds':>9}{'CPU':>9}{'files/s':>10}{'MiB':>7}  findings")
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"SOFTPLACE_CACHE": cache}
        command = [sys.executable, "-m", "softplace", "check"]
        small = Path(cache) / "small.py"
        small.write_text("import torch\n")
        _row("softplace, help", [*command, "--help"], 0, options.repeats, environment)
        _row("softplace, one file", [*command, str(small), "--no-cache"], 1, options.repeats, environment)
        check = [*command, folder, "--format", "concise"]
        for name, command in (
            ("softplace, cold, 1 process", [*check, "--no-cache", "--jobs", "1"]),
            ("softplace, cold", [*check, "--no-cache"]),
            ("softplace, first run", check),
            ("softplace, nothing changed", check),
        ):
            repeats = 1 if name == "softplace, first run" else options.repeats
            _row(name, command, len(files), repeats, environment)
    ruff, torchfix = shutil.which("ruff", path=_path()), shutil.which("torchfix", path=_path())
    if ruff is not None:
        base = [ruff, "check", "--isolated", "--no-cache", "--output-format", "concise", folder]
        _row("ruff, default rules", base, len(files), options.repeats, dict(os.environ))
        _row("ruff, all rules", [*base, "--select", "ALL"], len(files), options.repeats, dict(os.environ))
    if torchfix is not None:
        _row("torchfix", [torchfix, "--select", "ALL", folder], len(files), 1, dict(os.environ), most=60)
    return 0


def gate() -> tuple[int, int]:
    """How many blocks of the fixtures are right, of how many."""
    every = [block for path in sorted(FIXTURES.glob("*.md")) for block in blocks(path)]
    right = 0
    for block in every:
        with tempfile.TemporaryDirectory() as folder:
            right += found(block.checked(Path(folder)), Path(folder)) == block.expected()
    return right, len(every)


def _row(
    name: str, command: list[str], files: int, repeats: int, environment: dict[str, str], most: float | None = None
) -> None:
    """Time a command. `most`: the seconds after which it is ended."""
    runs = [_timed(command, environment, most) for _ in range(repeats)]
    seconds, used = min(run[0] for run in runs), min(run[1] for run in runs)
    if most is not None and seconds >= most:
        print(f"{name:34}more than {most:.0f} s")
        return
    memory, found_lines = max(run[2] for run in runs), runs[-1][3]
    print(f"{name:34}{seconds:9.2f}{used:9.2f}{files / seconds:10.0f}{memory:7.0f}  {found_lines}")


def _timed(command: list[str], environment: dict[str, str], most: float | None) -> tuple[float, float, float, int]:
    """Seconds, CPU seconds and MiB of a command, and how many lines name a place."""
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        ending = threading.Timer(most or threading.TIMEOUT_MAX, os.killpg, (process.pid, signal.SIGKILL))
        ending.daemon = True
        ending.start()
        _, _, usage = os.wait4(process.pid, 0)
        ending.cancel()
        seconds = time.perf_counter() - start
        process.returncode = 0  # it was waited for
        out.seek(0)
        places = sum(line.count(b":") > 1 for line in out)
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, places


def _torch() -> str:
    import importlib.util

    spec = importlib.util.find_spec("torch")
    return str(Path(str(spec.origin if spec else ".")).parent)


def _path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


if __name__ == "__main__":
    sys.exit(main())

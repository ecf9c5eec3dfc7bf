"""How much memory a call adds to its process at most."""

import threading
import time
from collections.abc import Callable

import psutil


def peak_of(call: Callable[[], object]) -> tuple[int, float]:
    """Bytes that were added at the peak, looked at every millisecond, and seconds."""
    process, watching, highest = psutil.Process(), threading.Event(), [0]

    def watch() -> None:
        while not watching.wait(0.001):
            highest[0] = max(highest[0], process.memory_info().rss)

    before = process.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    watching.set()
    watcher.join()
    return max(highest[0], process.memory_info().rss) - before, seconds

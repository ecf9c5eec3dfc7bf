"""The page of a translator: how it learned, how good it is by length, and what it looks at.

Axis legend: H heads, T target tokens and the end, S source tokens and the end.
"""

from pathlib import Path
from typing import Any


def write_translation_page(path: Path, translator: Any, config: Any, **measured: Any) -> None:
    """Later."""
    path.write_text("")

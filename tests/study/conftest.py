"""A real browser for the pages: Chromium of the distribution, offline."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

REQUIRED = "SOFTPLACE_REQUIRE_BROWSER"
EXECUTABLES = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome")


def _missing(reason: str) -> None:
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{REQUIRED}=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def chromium_path() -> Path:
    """Where Chromium is: $SOFTPLACE_CHROMIUM, else the distribution's."""
    named = os.environ.get("SOFTPLACE_CHROMIUM")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, EXECUTABLES)), None)
    if found is None:
        _missing("no Chromium was found: apt-get install chromium, or set SOFTPLACE_CHROMIUM to one")
    return Path(str(found))


@pytest.fixture(scope="session")
def browser(chromium_path: Path) -> Iterator[object]:
    """One headless browser for all tests of a worker."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed: pip install 'softplace[test]'")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=chromium_path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield launched
        launched.close()

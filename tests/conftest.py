"""A real browser for the pages: Chromium of the distribution, offline, and axe-core. And Ctrl-C for the tests of it."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tests.command import Command

REQUIRED = "SOFTPLACE_REQUIRE_BROWSER"
EXECUTABLES = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome")

Open = Callable[..., Any]
"""Opens a page: `open_page(width=1200, scheme="light", script=True, path=page_file, **options of a context)`."""


# Two workers with as many threads as there are cores each would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what runs in its background deaf to Ctrl-C, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _missing(reason: str) -> None:
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{REQUIRED}=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """The command line, in an empty folder."""
    return Command(monkeypatch, capsys, tmp_path)


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


@pytest.fixture
def open_page(browser: Any, page_file: Path) -> Iterator[Open]:
    """Opens the module's `page_file` offline; fails where the browser complained or asked for anything but the file."""
    contexts, complaints, asked, files = [], [], set(), set()

    def opened(
        width: int = 1200, scheme: str = "light", script: bool = True, path: Path = page_file, **options: Any
    ) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            reduced_motion="reduce",
            java_script_enabled=script,
            **options,
        )
        context.set_offline(True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: asked.add(request.url.split("#")[0]))
        if script:
            page.add_init_script(
                "addEventListener('securitypolicyviolation', (event) => console.error(event.violatedDirective))"
            )
        files.add(path.as_uri())
        page.goto(path.as_uri())
        if script:
            page.wait_for_selector("html[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url for url in asked if not url.startswith(("data:", "blob:"))} == files


def expect(locator: Any) -> Any:
    """Playwright's waiting assertions; imported here, as most tests of a page need no playwright."""
    from playwright.sync_api import expect as playwright_expect

    return playwright_expect(locator)


SHORTEN = """() => {
  const more = ["tbody tr:nth-child(n + 4)", ".matrix tr > :nth-child(n + 6)", ".chart svg rect:nth-child(n + 4)"];
  for (const one of document.querySelectorAll(more.join())) one.remove();
}"""  # rows, columns and cells that are like those before them, and many


def axe(page: Any, *rules: str) -> list[str]:
    """What axe-core finds (by some of its rules, or all) on a page that was opened with `bypass_csp` and shortened."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(SHORTEN)
        script = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
        page.evaluate(script + "\n;0")
    options = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    found = page.evaluate("(options) => axe.run(document, options)", options)["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"][:5]]

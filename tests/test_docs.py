"""What README and docs say is true: their examples are run, their files exist."""

import doctest
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_examples_of_the_readme_give_what_they_show() -> None:
    failures, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert tried >= 14
    assert failures == 0


def test_examples_of_the_docs_give_what_they_show() -> None:
    found = {path.name: doctest.testfile(str(path), module_relative=False) for path in (ROOT / "docs").glob("*.md")}
    assert found["latent.md"].attempted >= 6
    assert {name: result.failed for name, result in found.items() if result.failed} == {}


def test_files_that_the_readme_links_to_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) >= 3
    assert [link for link in links if not (ROOT / link).is_file()] == []

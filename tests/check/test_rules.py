"""Every rule on wrong and right code: the Markdown files in fixtures/."""

from __future__ import annotations

from pathlib import Path

import pytest

from softplace.check.rules import rules
from tests.check.reading import Block, blocks, found

FIXTURES = Path(__file__).parent / "fixtures"
BLOCKS = [block for path in sorted(FIXTURES.glob("*.md")) for block in blocks(path)]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_a_block_has_the_findings_that_it_marks(block: Block, tmp_path: Path) -> None:
    report = block.checked(tmp_path)
    assert report.troubles == {}
    assert found(report, tmp_path) == block.expected()


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.code)
def test_every_rule_has_wrong_and_right_code(rule: object) -> None:
    code = rule.code  # type: ignore[attr-defined]
    of_rule = blocks(FIXTURES / f"{code}.md")
    assert any(code in {each for _, _, each in block.expected()} for block in of_rule)
    assert any(not block.expected() for block in of_rule)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.code)
def test_a_page_shows_wrong_and_right_code_and_sources(rule: object) -> None:
    page = rule.page  # type: ignore[attr-defined]
    assert page.startswith(f"# {rule.code} {rule.name}\n")  # type: ignore[attr-defined]
    for heading in ("## What it finds", "## Why it is", "## Wrong", "## Right", "## References"):
        assert heading in page


def test_codes_are_unique_and_in_order() -> None:
    codes = [rule.code for rule in rules()]
    assert codes == sorted(set(codes))

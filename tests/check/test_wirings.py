"""Programs that wire a network to a loss are silent when the network gives raw scores: the softmax is the fault."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from softplace.check.engine import check
from softplace.check.project import Project
from tests.check.reading import Block, blocks, found

WIRINGS = blocks(Path(__file__).parent / "fixtures" / "wirings.md")
RAW = (
    (r"(?:\b(?:F|torch)\.|(?<=\())softmax\((.*?), (?:dim=)?-?\d\)", r"\1"),
    (r"\b((?:nn|mods)\.)?Softmax\((?:dim=)?-?\d\)", "nn.Identity()"),
    (r"layers\.Softmax\(\)", "layers.Dropout(0.1)"),
    (r"(?<=[(=])(?:\"softmax\"|tf\.nn\.softmax)", '"linear"'),
    (r"(?<= )nn\.softmax\(x\)", "x"),
)
"""What stands for a softmax in these programs, and what stands for none."""


@pytest.mark.parametrize("block", WIRINGS, ids=lambda block: block.name)
def test_a_wiring_is_silent_when_the_network_gives_raw_scores(block: Block, tmp_path: Path) -> None:
    files = dict(block.files)
    for name, text in block.files.items():
        for softmax, scores in RAW:
            text = re.sub(softmax, scores, text)
        files[name] = text
    assert files != block.files
    report = replace(block, files=files).checked(tmp_path)
    assert report.troubles == {}
    assert found(report, tmp_path) == set()


def test_a_cell_that_ends_early_does_not_end_those_after_it(tmp_path: Path) -> None:
    cells = ["import torch", "raise ValueError", "def f(x):\n    y = x\nreturn y", "p = torch.softmax(x, 1).argmax(1)"]
    source = {"cells": [{"cell_type": "code", "source": cell} for cell in cells]}
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(source), encoding="utf-8")
    report = check(Project([str(path)]))
    assert [finding.code for finding in report.findings] == ["SP402"]

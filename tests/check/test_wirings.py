"""Programs that wire a network to a loss are silent when the network gives raw scores: the softmax is the fault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.check.reading import Block, blocks, found

WIRINGS = blocks(Path(__file__).parent / "fixtures" / "wirings.md")
RAW = {
    "F.softmax(self.fc(x), dim=1)": "self.fc(x)",
    "self.softmax(self.fc(x))": "self.fc(x)",
    "F.softmax(x, dim=1)": "x",
    "nn.softmax(x)": "x",
    ", nn.Softmax(dim=1)": "",
    "self.softmax(self.output(x))": "self.output(x)",
    'activation="softmax"': 'activation="linear"',
    "activation=tf.nn.softmax": 'activation="linear"',
}


@pytest.mark.parametrize("block", WIRINGS, ids=lambda block: block.name)
def test_a_wiring_is_silent_when_the_network_gives_raw_scores(block: Block, tmp_path: Path) -> None:
    files = dict(block.files)
    for name, text in block.files.items():
        for softmax, scores in RAW.items():
            text = text.replace(softmax, scores)
        files[name] = text
    assert files != block.files
    report = replace(block, files=files).checked(tmp_path)
    assert report.troubles == {}
    assert found(report, tmp_path) == set()

"""What the machines learn from fixed seeds, by the papers' settings. Minutes each, with the kernel."""

from pathlib import Path

import pytest

from softplace.memory import train

pytestmark = pytest.mark.slow


def test_an_ntm_copies_far_beyond_its_training_length(tmp_path: Path) -> None:
    """The settings of Graves et al. 2014: 8 bits, lengths 1 to 20. About a minute with the kernel."""
    result = train("ntm", "copy", out=tmp_path, sequences=40_000, seed=0, device="cpu")
    bits = {each.label: each.measures["bits"].mean for each in result.evaluations}
    assert bits["training range"] < 0.01
    assert bits["length 50"] < 1.0
    assert bits["length 120"] < 1.0


def test_a_dnc_copies_beyond_its_training_length(tmp_path: Path) -> None:
    result = train(
        "dnc", "copy", out=tmp_path, sequences=64_000, batch=16, optimizer="adam", learning_rate=1e-3, device="cpu"
    )
    bits = {each.label: each.measures["bits"].mean for each in result.evaluations}
    assert bits["training range"] < 0.01
    assert bits["length 50"] < 1.0

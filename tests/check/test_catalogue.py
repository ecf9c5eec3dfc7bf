"""The catalogue of softmaxes is complete: also of code that no path leads to."""

from __future__ import annotations

from pathlib import Path

from tests.check.test_engine import HEAD, codes, report


def test_softmaxes_that_no_path_leads_to_are_listed(tmp_path: Path) -> None:
    text = (
        "def f(x):\n    if False:\n        return F.softmax(x, dim=1), nn.LogSoftmax()\n    return x.softmax(1)\n"
        "    return x.log_softmax(dim=-1), self.softmax(x)\n"
    )
    assert codes(tmp_path, text) == [(3, "SP301")]
    found = [(each.site.line - HEAD.count("\n"), each.operation) for each in report(tmp_path).softmaxes]
    assert found == [(3, "softmax"), (3, "log_softmax"), (4, "softmax"), (5, "log_softmax")]


def test_a_layer_is_listed_once_with_its_calls(tmp_path: Path) -> None:
    text = (
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.s = nn.Softmax(dim=1)\n    def forward(self, x):\n        return self.s(x), self.s(x + 1)\n"
    )
    codes(tmp_path, text)
    (placed,) = report(tmp_path).softmaxes
    assert placed.site.line - HEAD.count("\n") == 4
    assert [call.site.line - HEAD.count("\n") for call in placed.calls] == [6, 6]

"""Under autocast the memories compute in the dtype of their parameters."""

from typing import Any

import pytest
import torch
from torch import nn

from softplace.memory import DNC, NTM, LSTMBaseline


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("kind", [NTM, DNC, LSTMBaseline])
def test_autocast_changes_no_number(kind: type[Any], kernel: bool) -> None:
    torch.manual_seed(0)
    net = LSTMBaseline(5, 4) if kind is LSTMBaseline else kind(5, 4, slots=8, width=4, kernel=kernel)
    inputs = torch.randn(6, 2, 5).bfloat16()
    expected, after = net(inputs.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, state = net(inputs)  # such as a layer before gives under autocast
        again, _ = nn.Linear(4, 4)(outputs), net(inputs, state)
        again.sum().backward()
    torch.testing.assert_close(outputs, expected, rtol=0, atol=0)
    torch.testing.assert_close(tuple(state), tuple(after), rtol=0, atol=0)
    assert all(bool(each.grad.isfinite().all()) for each in net.parameters() if each.grad is not None)
    if kind is not LSTMBaseline:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            trace = net.trace(inputs)
        torch.testing.assert_close(trace.outputs, expected, rtol=0, atol=1e-6)


def test_outside_of_autocast_another_dtype_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'inputs' must be torch\.float32"):
        NTM(5, 4, slots=8, width=4)(torch.randn(6, 2, 5).bfloat16())

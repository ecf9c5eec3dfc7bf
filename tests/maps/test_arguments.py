"""Wrong arguments end in an error that says name, expected, got and the way out, and change nothing."""

# ruff: noqa: E501 - tables of texts, one row a line

import re
from typing import Any

import pytest
import torch

from softplace import maps

SCORES = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
every_map = pytest.mark.parametrize("name", list(maps.OWN))

WRONG_FOR_ALL: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("int", {"scores": torch.ones(3, 4, dtype=torch.int64)}, TypeError, "'scores' of {} must be a floating-point tensor. Got a tensor of torch.int64. Convert it, e.g. scores.float()."),
    ("complex", {"scores": torch.ones(3, 4, dtype=torch.complex64)}, TypeError, "Got a tensor of torch.complex64"),
    ("bool", {"scores": torch.ones(3, 4, dtype=torch.bool)}, TypeError, "Got a tensor of torch.bool"),
    ("list", {"scores": [1.0, 2.0]}, TypeError, "'scores' of {} must be a floating-point tensor. Got list."),
    ("high", {"dim": 2}, ValueError, "'dim' of {} must lie in [-2, 1]. Got 2. Use -1 for the last axis."),
    ("low", {"dim": -3}, ValueError, "'dim' of {} must lie in [-2, 1]. Got -3."),
    ("float dim", {"dim": 1.0}, TypeError, "'dim' of {} must be an integer. Got float."),
    ("bool dim", {"dim": True}, TypeError, "'dim' of {} must be an integer. Got bool."),
    ("float mask", {"mask": torch.ones(3, 4)}, TypeError, "'mask' of {} must be a boolean tensor (True = take part). Got a tensor of torch.float32. Use mask.bool()."),
    ("list mask", {"mask": [True] * 4}, TypeError, "'mask' of {} must be a boolean tensor (True = take part). Got list."),
    ("wide mask", {"mask": torch.ones(3, 5, dtype=torch.bool)}, ValueError, "'mask' of {} must broadcast to the scores' shape (3, 4). Got (3, 5). Add axes of size 1 with mask.unsqueeze(dim)."),
    ("large mask", {"mask": torch.ones(2, 3, 4, dtype=torch.bool)}, ValueError, "'mask' of {} must broadcast to the scores' shape (3, 4). Got (2, 3, 4)."),
    ("far mask", {"mask": torch.ones(3, 4, dtype=torch.bool, device="meta")}, ValueError, "'mask' of {} must be on the scores' device, cpu. Got meta. Use mask.to(scores.device)."),
    ("zero", {"temperature": 0}, ValueError, "'temperature' of {} must be positive and finite. Got 0. Use 1.0 for none."),
    ("negative", {"temperature": -1.0}, ValueError, "'temperature' of {} must be positive and finite. Got -1.0."),
    ("nan", {"temperature": float("nan")}, ValueError, "'temperature' of {} must be positive and finite. Got nan."),
    ("inf", {"temperature": float("inf")}, ValueError, "'temperature' of {} must be positive and finite. Got inf."),
    ("tiny", {"temperature": 1e-40}, ValueError, "'temperature' of {} must lie in [1.18e-38, 8.51e+37] to divide torch.float32. Got 1e-40. Convert the scores, e.g. scores.double()."),
    ("tensor", {"temperature": torch.tensor(2.0)}, TypeError, "'temperature' of {} must be a number. Got a tensor of torch.float32. Divide the scores by a tensor before, e.g. scores / temperature."),
    ("true", {"temperature": True}, TypeError, "'temperature' of {} must be a number. Got bool."),
]  # fmt: skip


@every_map
@pytest.mark.parametrize(("arguments", "error", "text"), [row[1:] for row in WRONG_FOR_ALL], ids=[r[0] for r in WRONG_FOR_ALL])  # fmt: skip
def test_what_no_map_takes(name: str, arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    scores = SCORES.clone()
    with pytest.raises(error, match=re.escape(text.format(name))):
        maps.OWN[name](**{"scores": scores, **arguments})
    assert torch.equal(scores, SCORES)


@pytest.mark.parametrize(
    ("name", "options", "error", "text"),
    [
        ("entmax", {"alpha": 0.5}, ValueError, "'alpha' of entmax must be finite and at least 1 (softmax). Got 0.5. Use e.g. 1.5."),
        ("entmax", {"alpha": float("nan")}, ValueError, "'alpha' of entmax must be finite and at least 1 (softmax). Got nan."),
        ("entmax", {"alpha": float("inf")}, ValueError, "'alpha' of entmax must be finite and at least 1 (softmax). Got inf."),
        ("entmax", {"alpha": "1.5"}, TypeError, "'alpha' of entmax must be a number or a tensor. Got str. Use e.g. 1.5."),
        ("entmax", {"alpha": True}, TypeError, "'alpha' of entmax must be a number or a tensor. Got bool."),
        ("entmax", {"alpha": torch.tensor([[1.5], [0.9], [2.0]])}, ValueError, "'alpha' of entmax must be finite and at least 1 (softmax) everywhere. Got 0.8999"),
        ("entmax", {"alpha": torch.full((3, 1), torch.nan)}, ValueError, "everywhere. Got nan. Learn it as e.g. 1 + torch.nn.functional.softplus(free)."),
        ("entmax", {"alpha": torch.tensor(2)}, TypeError, "'alpha' of entmax must be a floating-point tensor. Got a tensor of torch.int64. Use alpha.float()."),
        ("entmax", {"alpha": torch.full((3,), 1.5)}, ValueError, "'alpha' of entmax must broadcast to one per row, (3, 1). Got (3,). Add axes of size 1 with alpha.unsqueeze(dim)."),
        ("entmax", {"alpha": torch.full((3, 4), 1.5)}, ValueError, "'alpha' of entmax must broadcast to one per row, (3, 1). Got (3, 4)."),
        ("entmax", {"alpha": torch.tensor(1.5, device="meta")}, ValueError, "'alpha' of entmax must be on the scores' device, cpu. Got meta."),
        ("softmax1", {"sink": "0"}, TypeError, "'sink' of softmax1 must be a number or a tensor. Got str."),
        ("softmax1", {"sink": float("inf")}, ValueError, "'sink' of softmax1 must be finite. Got inf."),
        ("softmax1", {"sink": torch.zeros(4)}, ValueError, "'sink' of softmax1 must broadcast to one per row, (3, 1). Got (4,)."),
        ("gumbel_softmax", {"generator": 3}, TypeError, "'generator' of gumbel_softmax must be a torch.Generator. Got int."),
        ("gumbel_softmax", {"hard": 1}, TypeError, "'hard' of gumbel_softmax must be True or False. Got int."),
    ],
)  # fmt: skip
def test_options(name: str, options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        maps.OWN[name](SCORES, **options)


def test_a_generator_of_another_device() -> None:
    with pytest.raises(ValueError, match=r"device, meta\. Got cpu"):
        maps.gumbel_softmax(torch.empty(3, 4, device="meta"), generator=torch.Generator())

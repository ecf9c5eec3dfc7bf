"""One file per rule; the docstring of each is its page. This is the one table of them."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import cache

from softplace.check.findings import Rule

_FILES = (
    "sp101_softmax_into_cross_entropy",
    "sp102_log_softmax_into_cross_entropy",
    "sp103_softmax_into_nll",
    "sp104_softmax_into_kl_div",
    "sp105_softmax_into_bce",
    "sp106_probabilities_into_logit_loss",
    "sp107_sigmoid_into_cross_entropy",
    "sp108_normalised_twice",
    "sp109_kl_div_log_target",
    "sp201_log_of_softmax",
    "sp202_unshifted_exp",
    "sp203_attention_scale",
    "sp301_implicit_dim",
    "sp302_softmax_over_batch",
    "sp303_softmax_over_size_one",
    "sp304_mask_after_softmax",
    "sp305_fully_masked_row",
    "sp306_softmax_of_a_constant",
    "sp401_softmax_in_hidden_layer",
    "sp402_softmax_before_argmax",
    "sp403_gumbel_softmax_misuse",
)


@cache
def rules() -> tuple[Rule, ...]:
    """All rules, by code."""
    modules = [importlib.import_module(f"softplace.check.rules.{name}") for name in _FILES]
    return tuple(replace(module.RULE, page=(module.__doc__ or "").strip()) for module in modules)

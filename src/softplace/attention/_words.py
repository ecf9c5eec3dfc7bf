"""Checks of what the nets are given: words as numbers, and masks.

Axis legend: B sentences, S words.
"""

import torch
from torch import Tensor

from softplace.errors import InputError
from softplace.maps._arguments import can_look


def check_words(name: str, words: Tensor, known: int) -> None:
    """Raise `InputError` unless these are numbers of `known` words, (B, S) with S of 1 or more."""
    if not isinstance(words, Tensor) or words.dim() != 2 or words.dtype not in (torch.int64, torch.int32):
        got = f"{words.dtype} of shape {tuple(words.shape)}" if isinstance(words, Tensor) else type(words).__name__
        raise InputError(
            f"{name!r} must be whole numbers of words, (B, S). Got {got}. Use e.g. torch.tensor([[3, 4]])."
        )
    if not words.shape[1]:
        raise InputError(f"{name!r} must have a word or more. Got shape {tuple(words.shape)}. Leave the sentence out.")
    if words.numel() and can_look(words):
        low, high = words.aminmax()
        if int(low) < 0 or int(high) >= known:
            raise InputError(
                f"{name!r} must be numbers from 0 to {known - 1}, as many as there are words. "
                f"Got {int(low) if int(low) < 0 else int(high)}. Use the vocabulary of this net."
            )


def check_mask(source: Tensor, mask: Tensor | None) -> None:
    """Raise `InputError` unless the mask is one of bool for these words."""
    if mask is not None and (not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != source.shape):
        got = f"{mask.dtype} of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(
            f"'source_mask' must be bool of shape {tuple(source.shape)}, True = a word. Got {got}. "
            "Use e.g. source != 0."
        )

"""The trace of a machine that copies without a fault, written by hand: nothing of it has to be trained.

Axes: T time, B batch, I inputs, O outputs, N slots, M width, K heads (the read head first).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from softplace.memory.tasks.task import Episode


class MachineTrace(NamedTuple):
    """What the figures need of an `NTMTrace`."""

    weights: Tensor
    gates: Tensor
    erase: Tensor
    memory: Tensor
    outputs: Tensor


def copying(items: int = 4, slots: int = 16, *, bits: int = 6, blur: float = 0.0) -> tuple[Episode, MachineTrace]:
    """An episode of two sequences, the second one shorter, and a machine that keeps item i in slot i + 1.

    `blur` is the share of a head's weight that is spread over all slots.
    """
    generator = torch.Generator().manual_seed(0)
    length = 2 * items + 2
    episode = Episode(
        inputs=torch.zeros(length, 2, bits + 2),
        targets=torch.zeros(length, 2, bits),
        mask=torch.zeros(length, 2, dtype=torch.bool),
        lengths=torch.tensor([length, length - 2]),
    )
    memory = torch.zeros(length, 2, slots, bits)
    weights = torch.zeros(length, 2, 2, slots)
    for item, count in enumerate((items, items - 1)):
        words = torch.randint(0, 2, (count, bits), generator=generator).float()
        episode.inputs[0, item, bits] = 1
        episode.inputs[1 : count + 1, item, :bits] = words
        episode.inputs[count + 1, item, bits + 1] = 1
        episode.targets[count + 2 : 2 * count + 2, item] = words
        episode.mask[count + 2 : 2 * count + 2, item] = True
        for step in range(length):
            written = min(max(step, 0), count)
            held = min(written, slots - 1)
            memory[step, item, 1 : held + 1] = 4 * words[:held] - 2
            weights[step, item, 1, written % slots if step <= count else 0] = 1
            weights[step, item, 0, max(0, min(step - count - 1, count)) % slots] = 1
    return episode, MachineTrace(
        weights=(1 - blur) * weights + blur / slots,
        gates=torch.linspace(0, 1, 4 * length).reshape(length, 2, 2),
        erase=torch.ones(length, 2, 1, bits),
        memory=memory,
        outputs=20 * (episode.targets - 0.5),
    )

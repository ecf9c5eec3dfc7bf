"""A task that tests train on: say a sentence of four words backwards."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

WORDS, BEGIN = 4, 0


def learn(net: Any, *, words: int, steps: int, rate: float) -> tuple[float, Tensor]:
    """The last loss, and the last sentences (32, 4) of words 1 .. `words` - 1."""
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    loss, source = torch.zeros(()), torch.zeros(0)
    for _ in range(steps):
        source = torch.randint(1, words, (32, WORDS))
        wanted = source.flip(1)
        given = torch.cat([torch.full((32, 1), BEGIN), wanted[:, :-1]], 1)
        loss = cross_entropy(net(source, given).flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach()), source

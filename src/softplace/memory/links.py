"""In which order slots were written: precedence, links and directional reading of the Differentiable Neural Computer.

Axis legend: N slots, R read heads, W write heads, K entries kept of each row of sparse links; `...` any leading axes,
the same in all arguments. Row i, column j of the links says how much slot i was written right after slot j.

Source: Graves et al. 2016 (Nature 538:471), Methods, "Temporal memory linkage" and "Sparse link matrix"; one set of
links for each write head as in the program that its authors published (deepmind/dnc).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from softplace import maps

OFFSET = 1e-6
"""Added to a direction before its logarithm is sharpened."""


class Directions(NamedTuple):
    """Where the heads stand after a step along the links (..., R, W, N)."""

    forward: Tensor
    backward: Tensor


class SparseLinks(NamedTuple):
    """The K largest entries of each row of the links, and their columns, all different (..., W, N, K)."""

    values: Tensor
    indices: Tensor

    def dense(self) -> Tensor:
        """The whole matrices (..., W, N, N), for a look: nothing of the network makes them."""
        slots = self.values.shape[-2]
        empty = self.values.new_zeros(*self.values.shape[:-1], slots)
        return empty.scatter(-1, self.indices, self.values)


def precedence(previous: Tensor, write_weights: Tensor) -> Tensor:
    """How much each slot was the last one written, `p_t = (1 - sum_i w[i]) p + w`.

    The sum is at most 1: `sum p_t = 1 - prod_tau (1 - sum w_tau)`.

    Args:
        previous: p (..., W, N) of the step before.
        write_weights: w (..., W, N) of this step, sum at most 1.
    """
    # A sum that rounding took above 1 must not turn weights negative.
    return (1 - write_weights.sum(-1, keepdim=True)).clamp(min=0) * previous + write_weights


def link(links: Tensor, previous_precedence: Tensor, write_weights: Tensor) -> Tensor:
    """Links after a write, `L_t[i, j] = (1 - w[i] - w[j]) L[i, j] + w[i] p[j]` for i != j, `L_t[i, i] = 0`.

    Rows and columns sum to at most 1; a write to a slot removes what linked it before.

    Args:
        links: L (..., W, N, N) of the step before.
        previous_precedence: p (..., W, N) of the step before, not of this one.
        write_weights: w (..., W, N) of this step, sum at most 1.

    Returns:
        (..., W, N, N). An entry can be negative by a rounding error of 1, where w[i] + w[j] rounds above 1.
    """
    to = write_weights.unsqueeze(-1)
    kept = (1 - to) - write_weights.unsqueeze(-2)
    diagonal = torch.eye(write_weights.shape[-1], dtype=torch.bool, device=write_weights.device)
    return torch.addcmul(kept * links, to, previous_precedence.unsqueeze(-2)).masked_fill(diagonal, 0.0)


def directional(links: Tensor, read_weights: Tensor) -> Directions:
    """One step along the links, `f = L w` to the slots written next, `b = L^T w` to those written before.

    Args:
        links: L (..., W, N, N) of this step.
        read_weights: w (..., R, N) of the step before.
    """
    heads = read_weights.unsqueeze(-3)
    return Directions(
        forward=(heads @ links.mT).transpose(-3, -2),
        backward=(heads @ links).transpose(-3, -2),
    )


def no_sparse_links(like: Tensor, entries: int) -> SparseLinks:
    """Sparse links of a memory in which nothing was written yet.

    Args:
        like: A tensor (..., W, N), for shape, dtype and device.
        entries: K, how many entries each row keeps; more than N are N.
    """
    slots = like.shape[-1]
    entries = min(entries, slots)
    columns = torch.arange(entries, device=like.device).expand(*like.shape, entries)
    return SparseLinks(like.new_zeros(*like.shape, entries), columns.contiguous())


def sparse_link(links: SparseLinks, previous_precedence: Tensor, write_weights: Tensor) -> SparseLinks:
    """`link` with the K largest of w and of p, then the K largest entries of each row: O(N K) work and memory.

    Args and Returns: as `link`, the links sparse.

    How we differ from the paper, which scales the K largest of w and of p to sum to one, and drops every entry of the
    links below 1/K so that a row and a column hold at most K. We leave the largest as they are, since a closed write
    gate must not change the links; and keep the K largest entries of each row however small, since columns need no
    bound (`sparse_directional` adds up what points to a slot). So with K >= N these are the dense links, and with a
    smaller K they are those links with entries left out, as long as writes and precedence lie on at most K slots and
    each row has at most K entries. Which entries are kept is a constant of the gradient.
    """
    entries = links.values.shape[-1]
    largest = write_weights.topk(entries, dim=-1)
    before = previous_precedence.topk(entries, dim=-1)
    write = torch.zeros_like(write_weights).scatter(-1, largest.indices, largest.values)

    at_column = write.gather(-1, links.indices.flatten(-2)).reshape(links.indices.shape)
    values = ((1 - write.unsqueeze(-1)) - at_column) * links.values

    # Only the K rows that were written get entries. A column that the row holds already takes its part there.
    rows = largest.indices.unsqueeze(-1)
    place = rows.expand(*largest.indices.shape, entries)
    old_columns = links.indices.gather(-2, place)
    new_columns = before.indices.unsqueeze(-2).expand_as(old_columns)
    new = largest.values.unsqueeze(-1) * before.values.unsqueeze(-2)
    new = new.masked_fill(new_columns == rows, 0.0)
    same = old_columns.unsqueeze(-1) == new_columns.unsqueeze(-2)
    old = values.gather(-2, place) + new.unsqueeze(-2).masked_fill(~same, 0.0).sum(-1)
    alone = new.masked_fill(same.any(-2), -torch.inf)
    merged = torch.cat([old, alone], dim=-1).topk(entries, dim=-1)
    columns = torch.cat([old_columns, new_columns], dim=-1).gather(-1, merged.indices)
    return SparseLinks(values.scatter(-2, place, merged.values), links.indices.scatter(-2, place, columns))


def sparse_directional(links: SparseLinks, read_weights: Tensor) -> Directions:
    """`directional` along sparse links, O(R W N K): forward gathers at the columns, backward adds up at them.

    Args and Returns: as `directional`, the links sparse.
    """
    slots, entries = links.values.shape[-2:]
    heads = read_weights.unsqueeze(-2)  # (..., R, 1, N), beside (..., 1, W, N, K) of the links
    values, indices = links.values.unsqueeze(-4), links.indices.flatten(-2).unsqueeze(-3)
    writers = indices.shape[-2]
    every = heads.expand(*heads.shape[:-2], writers, slots)
    columns = indices.expand(*every.shape[:-1], slots * entries)
    forward = (values * every.gather(-1, columns).reshape(*every.shape, entries)).sum(-1)
    pushed = (values * heads.unsqueeze(-1)).flatten(-2)
    return Directions(forward, torch.zeros_like(every).scatter_add(-1, columns, pushed))


def sharpen_direction(direction: Tensor, sharpness: Tensor) -> Tensor:
    """A direction to a power, normalised, `(d + o)^s / sum (d + o)^s` as `softmax(s log(d + o))`, o = 1e-6.

    Args:
        direction: d (..., N), of a sum at most 1.
        sharpness: s (...), at least 1.

    Returns:
        (..., N), sum 1: a direction of zeros becomes uniform.

    Source: Csordas and Schmidhuber 2019 (arXiv:1904.10278), the sharpened links.
    """
    return maps.softmax(sharpness.unsqueeze(-1) * (direction + OFFSET).log(), -1)

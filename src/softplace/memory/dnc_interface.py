"""What a DNC is, and what its controller says to the memory in a step.

Axis legend: B batch, M width (of a slot), R read heads, W write heads, P interface.

Source: Graves et al. 2016 (Nature 538:471), Methods, "Interface parameters".
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from softplace import maps
from softplace.errors import InputError
from softplace.memory.controller import CONTROLLERS, check_choice, check_sizes

SORTED = "sorted"
LINKS = ("dense", "sparse", "none")
LEAST_MASK = 0.1
"""What a mask lets through of every column of the memory at least."""


@dataclass(frozen=True, kw_only=True)
class DNCConfig:
    """What a DNC computes, but for its parameters. `DNC` documents the fields."""

    slots: int = 128
    width: int = 20
    read_heads: int = 1
    write_heads: int = 1
    hidden_size: int = 100
    layers: int = 1
    controller: str = "lstm"
    map: str | maps.Map = "softmax"
    links: str = "dense"
    sparse_links: int = 8
    allocation: str | maps.Map = SORTED
    masked: bool = False
    deallocate: bool = False
    sharpened: bool = False
    detach_usage: bool = False

    def __post_init__(self) -> None:
        check_sizes("DNC", slots=self.slots, width=self.width, read_heads=self.read_heads, layers=self.layers)
        check_sizes("DNC", write_heads=self.write_heads, hidden_size=self.hidden_size, sparse_links=self.sparse_links)
        check_choice("DNC", "controller", self.controller, CONTROLLERS)
        check_choice("DNC", "links", self.links, LINKS)
        if self.sharpened and self.links == "none":
            raise InputError("'sharpened' must be False with links 'none'. Got True. Use links='dense' or 'sparse'.")
        # Another package's map is looked up once; ours keep their names, by which the fused path knows them.
        for name in ("map", "allocation"):
            chosen = getattr(self, name)
            if chosen != SORTED or name == "map":
                object.__setattr__(self, name, chosen if chosen in maps.OWN else maps.get(chosen))

    @property
    def modes(self) -> int:
        """Read modes of a head: backward for each write head, content, forward for each write head."""
        return 1 if self.links == "none" else 1 + 2 * self.write_heads

    def columns(self) -> dict[str, tuple[int, int]]:
        """The parts of the interface in their order: heads, and columns of a head."""
        reads, writes, width = self.read_heads, self.write_heads, self.width
        parts = {
            "read_keys": (reads, width),
            "read_strengths": (reads, 1),
            "write_keys": (writes, width),
            "write_strengths": (writes, 1),
            "erase": (writes, width),
            "write_vectors": (writes, width),
            "free_gates": (reads, 1),
            "allocation_gates": (writes, 1),
            "write_gates": (writes, 1),
        }
        if self.links != "none":
            parts["read_modes"] = (reads, self.modes)
        if self.masked:
            parts |= {"read_masks": (reads, width), "write_masks": (writes, width)}
        if self.sharpened:
            parts |= {"forward_sharpness": (reads, writes), "backward_sharpness": (reads, writes)}
        return parts

    @property
    def interface_size(self) -> int:
        """P."""
        return sum(heads * size for heads, size in self.columns().values())


class Interface(NamedTuple):
    """What the controller says to the memory in one step, after the squashing functions."""

    read_keys: Tensor  # (B, R, M)
    read_strengths: Tensor  # (B, R)
    write_keys: Tensor  # (B, W, M)
    write_strengths: Tensor  # (B, W)
    erase: Tensor  # (B, W, M)
    write_vectors: Tensor  # (B, W, M)
    free_gates: Tensor  # (B, R)
    allocation_gates: Tensor  # (B, W)
    write_gates: Tensor  # (B, W)
    read_modes: Tensor  # (B, R, 1 + 2W), or (B, R, 1) of ones with links "none"
    read_masks: Tensor | None = None  # (B, R, M)
    write_masks: Tensor | None = None  # (B, W, M)
    forward_sharpness: Tensor | None = None  # (B, R, W)
    backward_sharpness: Tensor | None = None  # (B, R, W)


def squashed(raw: Tensor, config: DNCConfig) -> Interface:
    """The parts of (B, P), squashed."""
    columns = config.columns()
    pieces = torch.split(raw, [heads * size for heads, size in columns.values()], dim=-1)
    parts = {
        name: piece.reshape(*piece.shape[:-1], heads, size)
        for (name, (heads, size)), piece in zip(columns.items(), pieces, strict=True)
    }
    for name in ("read_strengths", "write_strengths", "forward_sharpness", "backward_sharpness"):
        if name in parts:
            parts[name] = 1 + softplus(parts[name])  # "oneplus" in the paper
    for name in ("erase", "free_gates", "allocation_gates", "write_gates"):
        parts[name] = torch.sigmoid(parts[name])
    for name in ("read_masks", "write_masks"):
        if name in parts:
            parts[name] = LEAST_MASK + (1 - LEAST_MASK) * torch.sigmoid(parts[name])
    for name in ("read_strengths", "write_strengths", "free_gates", "allocation_gates", "write_gates"):
        parts[name] = parts[name].squeeze(-1)
    modes = parts.pop("read_modes", None)
    modes = raw.new_ones(*raw.shape[:-1], config.read_heads, 1) if modes is None else torch.softmax(modes, -1)
    return Interface(**parts, read_modes=modes)

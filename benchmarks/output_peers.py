"""The loss of a linear head by ours and by others, and what nobody can be quicker than."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional

from softplace import maps
from softplace.output import linear_cross_entropy

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From hidden states (N, E), weight (V, E) and targets (N,)."""

OURS = "softplace"
GPU_PEERS = {"Liger": "liger_kernel", "cut-cross-entropy": "cut_cross_entropy"}


def eager(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """As most programs have it."""
    return functional.cross_entropy(functional.linear(hidden, weight), target)


def eager_wide(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """Logits of a half precision are converted for the loss."""
    return functional.cross_entropy(functional.linear(hidden, weight).float(), target)


def chunked(rows: int | None) -> Loss:
    """PyTorch's own, by blocks: of its choice, or of so many rows."""

    def loss(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
        options = torch.nn.LinearCrossEntropyOptions(**({} if rows is None else {"batch_chunk_size": rows}))
        return functional.linear_cross_entropy(hidden, weight, target, options=options)

    return loss


def liger(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """Liger's kernel."""
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    return liger_fused_linear_cross_entropy(hidden, weight, target)


def cut(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """Apple's kernel."""
    from cut_cross_entropy import linear_cross_entropy as theirs

    return theirs(hidden, weight, target)


def sparse(name: str) -> Loss:
    """A sparse map's loss by blocks."""

    def loss(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
        return linear_cross_entropy(hidden, weight, target, map=name)

    return loss


def sparse_eager(name: str) -> Loss:
    """A sparse map's loss of all logits."""
    of_logits = {"sparsemax": maps.sparsemax_loss, "entmax15": maps.entmax15_loss}[name]

    def loss(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
        return of_logits(functional.linear(hidden, weight), target)

    return loss


def losses(dtype: torch.dtype, device: str, compiled: bool) -> dict[str, Loss]:
    """By name, ours first; of softmax."""
    found: dict[str, Loss] = {OURS: linear_cross_entropy, "eager": eager}
    if dtype != torch.float32:
        found["eager, float32 loss"] = eager_wide
    if compiled:
        found["compiled"] = torch.compile(eager)
        if dtype != torch.float32:
            found["compiled, float32 loss"] = torch.compile(eager_wide)
    if hasattr(torch.nn, "LinearCrossEntropyOptions"):
        found |= {"torch, options=None": functional.linear_cross_entropy, "torch, chunked": chunked(None)}
        found["torch, chunks of 256"] = chunked(256)
    if device == "cuda":
        found |= {
            name: {"Liger": liger, "cut-cross-entropy": cut}[name] for name in GPU_PEERS if not absent(name, device)
        }
    return found


def absent(name: str, device: str) -> str:
    """Why a peer for GPUs is not measured; empty where it is."""
    if device != "cuda":
        return f"{name} is not measured: it needs a GPU, and this is a CPU."
    return (
        "" if find_spec(GPU_PEERS[name]) else f"{name} is not measured: the package {GPU_PEERS[name]} is not installed."
    )


def floor(hidden: Tensor, weight: Tensor) -> Callable[[], None]:
    """The three matrix products of loss and gradients, into memory that is there."""
    size, step = weight.shape[0], 8192
    logits = hidden.new_empty(hidden.shape[0], step)
    of_hidden, of_weight = torch.empty_like(hidden), weight.new_empty(step, weight.shape[1])

    def products() -> None:
        for start in range(0, size, step):
            some = weight[start : start + step]
            block = logits[:, : some.shape[0]]
            torch.mm(hidden, some.mT, out=block)
            torch.mm(block, some, out=of_hidden)
            torch.mm(block.mT, hidden, out=of_weight[: some.shape[0]])

    return products


def exact(hidden: Tensor, weight: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss and its gradients in float64, from the values as they are, by PyTorch and some rows at a time."""
    wide, matrix = hidden.double(), weight.double()
    loss, of_hidden, of_weight = torch.zeros((), dtype=torch.float64), torch.empty_like(wide), torch.zeros_like(matrix)
    for some in torch.arange(len(target)).split(64):
        logits = wide[some] @ matrix.mT
        logits.requires_grad_()
        part = functional.cross_entropy(logits, target[some], reduction="sum") / len(target)
        (given,) = torch.autograd.grad(part, logits)
        loss += part.detach()
        of_hidden[some] = given @ matrix
        of_weight += given.mT @ wide[some]
    return loss, of_hidden, of_weight

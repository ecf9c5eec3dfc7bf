"""What one process of `test_parallel` does: `python -m tests.output.vocabulary_process RANK PROCESSES FOLDER`."""

import itertools
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import linear

from softplace.output import (
    vocabulary_parallel_cross_entropy,
    vocabulary_parallel_linear_cross_entropy,
    vocabulary_part,
)

N, E, V = 14, 5, 11
CASES = list(itertools.product((0.0, 0.1), (0.0, 0.01), (None, 2.0), ("mean", "sum", "none")))


def parts(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, generator=draw).to(dtype) for shape in ((2, N // 2, E), (V, E), (V,))
    )
    target = torch.randint(V, (2, N // 2), generator=draw)
    target[0, ::3] = -100
    return hidden, weight, bias, target


def graded(loss: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    upstream = torch.arange(1.0, loss.numel() + 1, dtype=loss.dtype).reshape(loss.shape)
    return [loss.detach(), *torch.autograd.grad(loss, leaves, upstream)]


def computed(rank: int, processes: int) -> dict[str, Any]:
    """Losses and gradients of this process, by case."""
    mine = vocabulary_part(V, processes, rank)
    some = slice(mine.start, mine.stop)
    hidden, weight, bias, target = parts()
    found: dict[str, Any] = {}
    for smoothing, z_loss, cap, reduction in CASES:
        options: dict[str, Any] = {"label_smoothing": smoothing, "z_loss": z_loss, "reduction": reduction}
        leaves = [each.clone().requires_grad_() for each in (hidden, weight[some], bias[some])]
        loss = vocabulary_parallel_linear_cross_entropy(*leaves[:2], target, leaves[2], soft_cap=cap, **options)
        found[f"head {options} {cap}"] = graded(loss, leaves)
        if cap is None:
            scores = linear(hidden, weight, bias)[..., some].clone().requires_grad_()
            found[f"scores {options}"] = graded(vocabulary_parallel_cross_entropy(scores, target, **options), [scores])
    narrow = [
        each.clone().requires_grad_() for each in (lambda h, w, b, _: (h, w[some], b[some]))(*parts(torch.bfloat16))
    ]
    found["bfloat16"] = graded(vocabulary_parallel_linear_cross_entropy(*narrow[:2], target, narrow[2]), narrow)
    leaves = [each.clone().requires_grad_() for each in (hidden, weight[some], bias[some])]
    for name, wanted, given in (
        ("ignored", torch.full_like(target, -100), leaves[0]),
        ("empty", target[:0], leaves[0][:0]),
    ):
        found[name] = graded(vocabulary_parallel_linear_cross_entropy(given, leaves[1], wanted, leaves[2]), leaves)
        scores = linear(given, leaves[1], leaves[2])
        found[f"{name} scores"] = graded(vocabulary_parallel_cross_entropy(scores, wanted), leaves)
    banned = bias.clone()
    banned[0] = -torch.inf
    spoilt = hidden.clone()
    spoilt[1, 1] = torch.nan
    found["bad numbers"] = [
        vocabulary_parallel_linear_cross_entropy(spoilt, weight[some], target, banned[some], reduction="none"),
        vocabulary_parallel_cross_entropy(linear(spoilt, weight, banned)[..., some], target, reduction="none"),
    ]
    hopeless = target.clone()
    hopeless[1, 0] = 0
    leaves = [hidden.clone().requires_grad_(), weight[some].clone().requires_grad_()]
    found["infinite"] = graded(vocabulary_parallel_linear_cross_entropy(*leaves, hopeless, banned[some]), leaves)
    scores = linear(hidden, weight, banned)[..., some].clone().requires_grad_()
    found["scores infinite"] = graded(vocabulary_parallel_cross_entropy(scores, hopeless), [scores])
    wrong: list[tuple[str, Any]] = [
        ("range", lambda: vocabulary_parallel_linear_cross_entropy(hidden, weight[some], target + V, bias[some])),
        ("range of scores", lambda: vocabulary_parallel_cross_entropy(scores_of(hidden, weight[some]), target + V)),
        ("soft", lambda: vocabulary_parallel_cross_entropy(scores_of(hidden, weight[some]), hidden[..., :1])),
        (
            "no class",
            lambda: vocabulary_parallel_linear_cross_entropy(hidden, weight if rank == 0 else weight[:0], target),
        ),
        ("shape", lambda: vocabulary_parallel_linear_cross_entropy(hidden, weight[some], target[0])),
    ]
    for name, call in wrong:
        try:
            call()
        except (ValueError, TypeError) as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def scores_of(hidden: Tensor, weight: Tensor) -> Tensor:
    return linear(hidden, weight)


def main() -> None:
    rank, processes, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    store = dist.FileStore(str(folder / "store"), processes)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=processes)
    torch.save(computed(rank, processes), folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

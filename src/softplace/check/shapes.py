"""The same numbers in another shape: what stays known of a tensor that is reshaped or indexed."""

from __future__ import annotations

from softplace.check.state import State
from softplace.check.values import (
    NORMALISED,
    UNKNOWN,
    Items,
    Kind,
    Slice,
    Tensor,
    Union,
    Value,
    constant,
    integer,
    options,
    tensors,
)

# Facts about scores that go on through shifts, scales and shape changes.
SCORE_TAGS = frozenset(
    {
        "product",
        "scaled",
        "masked",
        "masked infinite",
        "parameter",
        "batched",
        "causal",
        "scaled up",
        "by size",
        "whole",
        "projected",
        "of projections",
        "norm",
        "unit",
    }
)


class Shapes(State):
    """Tensors as one, reshaped, indexed."""

    def tensor(self, value: Value | None) -> Tensor:
        """The value as one tensor; what differs between its options is unknown."""
        found = list(tensors(value, 1))
        if len(found) == 1 and not isinstance(value, Union):
            return found[0]
        if found and len(found) == sum(1 for _ in options(value)) and len({each.kind for each in found}) == 1:
            common = frozenset.intersection(*(each.tags for each in found))
            return found[0].but(tags=common)
        return Tensor(Kind.UNKNOWN)

    def reshaped(self, name: str, given: Tensor, arguments: list[Value], keywords: dict[str, Value]) -> Tensor:
        """The same numbers in another shape."""
        rank: int | None = None
        given = given.but(tags=frozenset(tag for tag in given.tags if not tag.startswith("batch ")))
        sizes: tuple[tuple[int, int], ...] = ()
        tags = given.tags
        rest = arguments[1:]
        dim = given.dim
        if name in ("view", "reshape"):
            shape = (
                list(rest[0].elements) if len(rest) == 1 and isinstance(rest[0], Items) and not rest[0].rest else rest
            )
            if len(shape) > 1 or (shape and integer(shape[0]) is not None):
                rank = len(shape)
                sizes = tuple((at, size) for at, each in enumerate(shape) if (size := integer(each) or 0) > 0)
                last = integer(shape[-1])
                tags = tags - {"batched"} if rank < 3 else tags  # which dim is the batch is said by the shape
                if rank == 2 and (integer(shape[0]) == -1 or last == -1) and given.kind != Kind.PROBABILITIES:
                    tags = tags | {"batched"}
        elif name == "flatten":
            start = integer(rest[0]) if rest else integer(keywords.get("start_dim"))
            rank = 2 if start == 1 else 1 if start is None and not rest and "start_dim" not in keywords else None
            tags = tags | {"batched"} if start == 1 else tags
        elif name == "unsqueeze":
            rank = None if given.rank is None else given.rank + 1
            sizes = ((-1, 1),) if rest and integer(rest[0]) == -1 else ()
        elif name in ("permute", "transpose", "swapaxes", "t", "flip", "roll"):
            rank = given.rank
            tags = tags - {"batched"}
            dim = None
        elif name in ("mean", "reduce_mean", "nanmean") and given.kind in NORMALISED:
            tags = (tags | {"averaged"}) - {"batched"}
        elif name == "mean" and given.rank is not None and rest:
            rank = given.rank - 1 if integer(rest[0]) is not None and "keepdim" not in keywords else None
            sizes = tuple(pair for pair in given.sizes if pair[0] == 1 and integer(rest[0]) not in (0, 1))
            tags = tags if integer(rest[0]) not in (0, None) else tags - {"batched"}
        elif (name == "squeeze" and given.rank is not None and rest) or name == "mean":
            tags = tags - {"batched"}
        elif name in ("gather", "take", "index_select", "select", "take_along_axis"):
            tags = tags | {"picked"}
        return given.but(rank=rank, sizes=sizes, tags=tags, dim=dim if rank == given.rank or dim == -1 else None)

    def indexed(self, given: Tensor, index: Value) -> Value:
        """tensor[index]: some rows, or one class."""
        parts = list(index.elements) if isinstance(index, Items) else [index]
        last = parts[-1] if parts else UNKNOWN
        takes_class = (
            len(parts) > 1
            and integer(last) is not None
            and given.dim in (None, len(parts) - 1, -1)
            and not (len(parts) == 2 and integer(last) == -1)
            and not (len(parts) == 2 and given.dim == -1 and given.rank not in (None, 2))
        )
        rank = None if given.rank is None else given.rank - sum(integer(part) is not None for part in parts)
        if given.kind in NORMALISED:
            if takes_class and all(isinstance(part, Slice) or constant(part) is Ellipsis for part in parts[:-1]):
                picked = Kind.SIGMOID if given.kind in (Kind.PROBABILITIES, Kind.SIGMOID) else Kind.LOG_SIGMOID
                return given.but(kind=picked, rank=rank, sizes=(), dim=None, tags=given.tags | {"picked"})
            if len(parts) > 1 and isinstance(last, Slice) and not last.full and given.dim in (None, len(parts) - 1):
                return Tensor(Kind.UNKNOWN, given.origin, tags=frozenset({"total"}))
            if len(parts) > 1 and not isinstance(last, Slice):
                return given.but(rank=None, sizes=(), dim=None, tags=given.tags | {"picked"})
            return given.but(rank=rank, sizes=(), tags=given.tags - {"batched"}, dim=None)
        kind = given.kind if given.kind not in NORMALISED else Kind.UNKNOWN
        return Tensor(kind, rank=rank, tags=given.tags & (SCORE_TAGS - {"batched", "parameter"}))

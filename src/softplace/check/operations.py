"""What operations do to tensors: kinds, shapes as far as known, and the events that rules ask for."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from typing import Any

from softplace.check.events import Divided, Logged, Normalised
from softplace.check.folding import beginning, folded
from softplace.check.names import (
    ACTIVATIONS,
    COMPARISONS,
    CONSTANTS,
    INDEX_MAKERS,
    MIXING,
    NORMALISERS,
    POSITIVE_KEEPING,
    PRODUCTS,
    RESHAPED,
    SAME,
    SPLITTING,
)
from softplace.check.shapes import SCORE_TAGS, Shapes
from softplace.check.values import (
    NO_TAGS,
    NORMALISED,
    UNKNOWN,
    Constant,
    Entries,
    Items,
    Kind,
    Site,
    Tensor,
    Union,
    Unknown,
    Value,
    constant,
    integer,
    is_parameter,
    is_query,
    join,
    options,
    row,
    tensors,
)
from softplace.check.words import is_head_size, words_of

_ARITHMETIC: dict[str, type[ast.operator]] = {
    "mul": ast.Mult,
    "multiply": ast.Mult,
    "div": ast.Div,
    "divide": ast.Div,
    "true_divide": ast.Div,
    "add": ast.Add,
    "sub": ast.Sub,
    "subtract": ast.Sub,
    "pow": ast.Pow,
}
SMALL = 1e-2


class Operations(Shapes):
    """Operations on tensors."""

    def normalise(
        self,
        operation: str,
        given: Value,
        dim: Value | None,
        site: Site,
        made: Site | None = None,
        keywords: dict[str, Value] | None = None,
        *,
        implicit: bool = False,
    ) -> Tensor:
        """A softmax, sigmoid, ... of a value."""
        info = NORMALISERS[operation]
        axis = integer(dim) if dim is not None else info.default_dim
        is_given = (dim is not None and constant(dim) is None and not (isinstance(dim, Constant))) or axis is not None
        source = self.tensor(given)
        tags = {tag for tag in source.tags if tag in ("batched", "masked", "masked infinite")}
        kind = info.kind
        if operation == "softmax" and source.kind == Kind.CONSTANT:
            tags.add("of a constant")
        path = (site,) if made is not None and made != site else ()
        result = Tensor(kind, made or site, operation, axis, source.rank, source.sizes, frozenset(tags), path)
        self.use(given, f"into {operation}", site)
        self.events.add(
            Normalised(
                site,
                operation,
                given,
                axis,
                is_given,
                implicit and not is_given,
                made,
                keywords or {},
                self.inference > 0,
                result,
            )
        )
        return result

    def operate(
        self, name: str, arguments: list[Value], keywords: dict[str, Value], site: Site, package: str = "torch"
    ) -> Value:
        """An operation by its last word, on its first argument."""
        given = arguments[0] if arguments else _first(keywords)
        if name in NORMALISERS:
            return self.normaliser(name, given, arguments, keywords, site, package)
        if name in _ARITHMETIC and len(arguments) > 1:
            return self.combine(_ARITHMETIC[name], arguments[0], arguments[1], site, None, None)
        if name in PRODUCTS:
            return self.product(arguments, site)
        if name in ("cat", "concat", "concatenate", "stack", "hstack", "vstack", "pad_sequence"):
            found = self.joined(given, keywords, site)
            across = integer(keywords.get("dim", arguments[1] if len(arguments) > 1 else Constant(0)))
            if name not in ("cat", "concat", "concatenate") and isinstance(found, Tensor):
                found = found.but(rank=None)
            return self.stacked(found, given) if name == "stack" and across == 0 else found
        if name in ("masked_fill", "where", "masked_scatter"):
            return self.masked(name, arguments, keywords, site)
        if name in SPLITTING:
            rest = self.tensor(given)
            if integer(keywords.get("dim", arguments[2] if len(arguments) > 2 else Constant(0))) == 0:
                rest = rest.but(tags=rest.tags - {"batched"})
            return Items((), rest.but(sizes=(), rank=None) if name != "chunk" else rest.but(sizes=()))
        if isinstance(given, Union):
            rest_arguments = arguments[1:]
            return join(
                [self.operate(name, [option, *rest_arguments], keywords, site, package) for option in given.options],
                chosen=given.chosen,
            )
        if name in CONSTANTS and package == "torch":
            return Tensor(Kind.CONSTANT, tags=frozenset({"constant"}))
        if name in ("empty", "new_zeros", "new_ones", "new_empty", "new_full"):
            return Tensor(Kind.CONSTANT)  # to be filled
        if isinstance(given, Tensor) and given.dim == 0 and name in _BY_ROW:
            across = integer(keywords.get("dim", keywords.get("axis", arguments[1] if len(arguments) > 1 else None)))
            if across in (1, -1) and given.kind in NORMALISED:
                self.use(given, "picked by row", site)
        method = _OPERATIONS.get(name)
        if method is not None:
            return method(self, given, arguments, keywords, site)
        if isinstance(given, Items) and name in ("array", "tensor", "asarray", "as_tensor"):
            return self.joined(given, keywords, site) if any(True for _ in tensors(given)) else Tensor(Kind.UNKNOWN)
        if not isinstance(given, Tensor):
            if name in RESHAPED or name in SAME:
                return self.reshaped(name, Tensor(Kind.UNKNOWN), arguments, keywords) if name in RESHAPED else given
            if name in _BOUNDING:
                return Tensor(Kind.RAW, tags=frozenset({_BOUNDING[name]}))
            if name in MIXING or name in ACTIVATIONS:
                return Tensor(Kind.RAW)
            return Tensor(Kind.INDICES) if name in INDEX_MAKERS else UNKNOWN
        if name in SAME:
            if name == "nan_to_num":
                self.use(given, "repaired", site)
            if name.startswith("cl") and name not in ("clone",):
                return given.tagged("guarded")
            return given.tagged("array") if name == "numpy" else given
        if name in RESHAPED:
            return self.reshaped(name, given, arguments, keywords)
        if name in MIXING:
            self.use(given, "linear", site)
            return Tensor(Kind.RAW, rank=given.rank, tags=given.tags & {"batched"})
        if name in ACTIVATIONS:
            return self.activated(name, given, site)
        if name in _BOUNDING:
            return Tensor(Kind.UNKNOWN, tags=frozenset({_BOUNDING[name]}))
        if name in INDEX_MAKERS:
            self.use(given, "argmax" if name.startswith("arg") else "other", site)
            return Tensor(Kind.INDICES)
        if name in COMPARISONS:
            self.use(given, "compared", site)
            return Tensor(Kind.UNKNOWN, tags=frozenset({"mask"}) | (given.tags & {"causal"}))
        self.use(given, "other", site)
        for argument in arguments[1:]:
            self.use(argument, "other", site)
        return Tensor(Kind.UNKNOWN)

    def normaliser(
        self,
        name: str,
        given: Value,
        arguments: list[Value],
        keywords: dict[str, Value],
        site: Site,
        package: str,
    ) -> Value:
        """A call of softmax and its kin."""
        info = NORMALISERS[name]
        dim = keywords.get("dim", keywords.get("axis"))
        position = info.dim_position
        if package not in ("torch", "tensor") and position is not None:
            position = None if package in ("scipy", "torch_geometric") else 1
        if dim is None and position is not None and position < len(arguments):
            dim = arguments[position]
        if dim is None and package in ("jax", "tensorflow", "keras", "flax"):
            dim = Constant(-1)
        unsure = "**" in keywords or package != "torch"
        result = self.normalise(name, given, dim, site, None, keywords, implicit=info.implicit and not unsure)
        return result.tagged("array") if package in _ARRAYS else result

    def activated(self, name: str, given: Tensor, site: Site) -> Tensor:
        """An elementwise activation."""
        if given.kind in NORMALISED and name in POSITIVE_KEEPING and given.kind in (Kind.PROBABILITIES, Kind.SIGMOID):
            return given
        self.use(given, "activation", site)
        tags = given.tags & SCORE_TAGS | ({_BOUNDING[name]} if name in _BOUNDING else set())
        return Tensor(Kind.RAW, rank=given.rank, sizes=given.sizes, tags=frozenset(tags))

    def logarithm(self, given: Value, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        self.events.add(Logged(site, given, False))
        self.use(given, "log", site)
        if isinstance(given, Tensor):
            kinds = {Kind.PROBABILITIES: Kind.LOG_PROBABILITIES, Kind.SIGMOID: Kind.LOG_SIGMOID}
            if given.kind in kinds:
                return given.but(kind=kinds[given.kind], made_by=f"log({given.made_by})")
            if given.kind == Kind.EXPONENTIAL_SUM:
                return Tensor(Kind.UNKNOWN, tags=frozenset({"logsumexp"}))
        return Tensor(Kind.UNKNOWN)

    def exponential(self, given: Value, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        if isinstance(given, Tensor):
            if given.kind == Kind.LOG_PROBABILITIES:
                return given.but(kind=Kind.PROBABILITIES, made_by=f"exp({given.made_by})")
            if given.kind == Kind.LOG_SIGMOID:
                return given.but(kind=Kind.SIGMOID)
            safe = given.tags & {"shifted", "negative", "guarded", "logsumexp", "bounded"}
            return Tensor(Kind.EXPONENTIAL, rank=given.rank, tags=frozenset({"shifted"}) if safe else NO_TAGS)
        # What a function gave that was not followed may be shifted.
        given_away = isinstance(given, Unknown) and not is_parameter(given)
        return Tensor(Kind.EXPONENTIAL, tags=frozenset({"shifted"}) if given_away else NO_TAGS)

    def total(self, given: Value, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        if isinstance(given, Items | Entries):
            parts = list(tensors(given, 1))
            by_hand = bool(parts) and all(each.kind == Kind.EXPONENTIAL for each in parts)
            return Tensor(Kind.EXPONENTIAL_SUM, tags=parts[0].tags) if by_hand else Tensor(Kind.UNKNOWN)
        if not isinstance(given, Tensor):
            return given if is_parameter(given) else UNKNOWN
        if given.kind == Kind.EXPONENTIAL:
            return Tensor(Kind.EXPONENTIAL_SUM, tags=given.tags)
        if given.kind in NORMALISED:
            return Tensor(Kind.UNKNOWN, origin=given.origin, tags=frozenset({"total"}))
        self.use(given, "other", site)
        return Tensor(given.kind if given.kind == Kind.RAW else Kind.UNKNOWN, tags=given.tags & {"product"})

    def maximum(self, given: Value, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        source = given if isinstance(given, Tensor) else Tensor(Kind.UNKNOWN)
        dims = [each for each in arguments[1:] if integer(each) is not None]
        if (dims or "dim" in keywords or ("axis" in keywords and source.origin)) and "array" not in source.tags:
            self.use(given, "argmax", site)
            picked = source.tagged("of maximum") if source.origin is not None else Tensor(Kind.MAXIMUM)
            return Items((picked, Tensor(Kind.INDICES)))
        self.use(given, "value", site)
        return Tensor(Kind.MAXIMUM)

    def negated(self, given: Value, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        self.use(given, "negated", site)
        tags = given.tags if isinstance(given, Tensor) else NO_TAGS
        return Tensor(Kind.UNKNOWN, tags=tags | {"negative"})

    def largest(self, given: Value, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        self.use(given, "value", site)
        return Tensor(Kind.MAXIMUM)

    def top(self, given: Value, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        self.use(given, "topk", site)
        if isinstance(given, Tensor):
            return Items((given.tagged("of maximum"), Tensor(Kind.INDICES)))
        return UNKNOWN

    def sampled(self, given: Value, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        self.use(given, "multinomial", site)
        return Tensor(Kind.INDICES)

    def log_sum(self, given: Value, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        return Tensor(Kind.UNKNOWN, tags=frozenset({"logsumexp"}))

    def filled(self, given: Value, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        tags = frozenset({"causal"})
        return given.but(tags=given.tags | tags) if isinstance(given, Tensor) else Tensor(Kind.UNKNOWN, tags=tags)

    def number(self, given: Value, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        return Unknown("a property of a tensor")

    def product(self, arguments: list[Value], site: Site) -> Value:
        """A matrix product; the weights of attention meet their values here."""
        parts = [each for each in arguments if not isinstance(each, Constant)]
        flat: list[Value] = []
        for part in parts:
            flat.extend(part.elements if isinstance(part, Items) else [part])
        weights = [each for each in flat for tensor in tensors(each, 1) if tensor.kind in NORMALISED]
        for each in flat:
            self.use(each, "product", site)
        tags = {"product"} if not weights and len(flat) > 1 else {"weighted"} if weights else set()
        if any("scaled" in tensor.tags for each in flat for tensor in tensors(each, 1)):
            tags.add("scaled")
        if any("whole" in tensor.tags for each in flat for tensor in tensors(each, 1)):
            tags.add("whole")
        for fact in ("norm", "unit"):
            if flat and all(fact in self.tensor(each).tags for each in flat):
                tags.add("norm" if fact == "norm" else "bounded")  # a product of units is a cosine
        projected = all("projected" in self.tensor(each).tags for each in flat)
        if tags & {"product"} and (projected or any(map(is_query, flat))):
            tags.add("of projections")
        path = next((t.path for each in flat for t in tensors(each, 1) if "whole" in t.tags), ())
        return Tensor(Kind.RAW, tags=frozenset(tags), path=path)

    def joined(self, given: Value, keywords: dict[str, Value], site: Site) -> Value:
        """Tensors put side by side keep their kind when all have the same."""
        if isinstance(given, Items):
            parts = [*given.elements, *([] if given.rest is None else [given.rest])]
            found = [self.tensor(part) for part in parts]
            kinds, ranks = {each.kind for each in found}, {each.rank for each in found}
            rank = found[0].rank if len(ranks) == 1 else None
            for part in parts if len(kinds) > 1 else ():
                self.use(part, "joined", site)
            if len(kinds) == 1 and found:
                tags = frozenset(tag for tag in found[0].tags if not tag.startswith("batch"))
                return found[0].but(rank=rank, sizes=(), dim=None, tags=tags)
            return Tensor(Kind.UNKNOWN, rank=rank)
        if isinstance(given, Union):
            return join([self.joined(option, keywords, site) for option in given.options], chosen=given.chosen)
        return given if isinstance(given, Tensor) else UNKNOWN

    def stacked(self, found: Value, given: Value) -> Value:
        """Tensors stacked at dim 0: each of their dims is one further on."""
        first = next(tensors(given), None)
        if not isinstance(found, Tensor) or first is None or first.rank is None:
            return found
        batches = [int(tag.split()[1]) for tag in first.tags if tag.startswith("batch ")]
        return found.but(rank=first.rank + 1).tagged(*(f"batch {at + 1}" for at in batches))

    def masked(self, name: str, arguments: list[Value], keywords: dict[str, Value], site: Site) -> Value:
        """Entries set by a mask: before a softmax to minus infinity, after it to zero."""
        if name == "where":
            if len(arguments) < 3:
                return Tensor(Kind.INDICES)
            kept, filler = arguments[1], arguments[2]
            if not isinstance(kept, Tensor) and isinstance(filler, Tensor):
                kept, filler = filler, kept
            mask = arguments[0]
        else:
            kept = arguments[0] if arguments else UNKNOWN
            mask = arguments[1] if len(arguments) > 1 else keywords.get("mask", UNKNOWN)
            filler = arguments[2] if len(arguments) > 2 else keywords.get("value", UNKNOWN)
        source = self.tensor(kept)
        number = constant(filler)
        causal = any("causal" in tensor.tags for tensor in tensors(mask, 1))
        if source.kind in NORMALISED:
            in_logs = source.kind == Kind.LOG_PROBABILITIES  # of which minus infinity is a zero
            if isinstance(number, int | float) and (number == 0 or number < -1e3) and not in_logs:
                self.use(kept, "masked after" if number == 0 else "filled after", site)
                return source
            self.use(kept, "other", site)
            return source if in_logs else Tensor(Kind.UNKNOWN)
        if isinstance(number, int | float) and number < -1e3:
            tags = (
                {"masked"} | ({"masked infinite"} if number == -math.inf else set()) | ({"causal"} if causal else set())
            )
            return source.but(tags=source.tags | tags)
        if isinstance(number, int | float):
            return source.but(tags=source.tags)
        return source.but(tags=source.tags | {"masked"})

    def combine(
        self,
        kind: type[ast.operator],
        left: Value,
        right: Value,
        site: Site,
        left_node: ast.expr | None,
        right_node: ast.expr | None,
    ) -> Value:
        """A binary operation."""
        if isinstance(left, Constant) and isinstance(right, Constant):
            return folded(kind, left.value, right.value)
        if kind in (ast.Add, ast.Mod) and (begins := beginning(left)):
            self.use(right, "printed", site)
            return Unknown("a text", begins.split("%")[0] if kind is ast.Mod else begins)
        if isinstance(left, Items) and isinstance(right, Items) and kind is ast.Add:
            middle = () if left.rest is None else (left.rest,)  # any number of elements, counted as one
            return row((*left.elements, *middle, *right.elements), right.rest, left.mutable)
        if isinstance(left, Items) and kind is ast.Mult:
            times = integer(right)
            if times is not None and 0 <= times <= 16:
                return row(left.elements * times, left.rest, left.mutable)
            return Items((), join([*left.elements, *([left.rest] if left.rest else [])] or [UNKNOWN]), left.mutable)
        if isinstance(left, Union) or isinstance(right, Union):
            found = [
                self.combine(kind, one, other, site, left_node, right_node)
                for one in list(options(left))[:4]
                for other in list(options(right))[:4]
            ]
            return join(found)
        if kind is ast.MatMult:
            return self.product([left, right], site)
        return self.arithmetic(kind, left, right, site, left_node, right_node)

    def arithmetic(
        self,
        kind: type[ast.operator],
        left: Value,
        right: Value,
        site: Site,
        left_node: ast.expr | None,
        right_node: ast.expr | None,
    ) -> Value:
        """+, -, *, / and ** with a tensor."""
        one = left if isinstance(left, Tensor) else None
        other = right if isinstance(right, Tensor) else None
        if one is None and other is None:
            if kind is ast.Sub and isinstance(right, Items) and right.elements and not isinstance(left, Items):
                return Tensor(Kind.UNKNOWN, tags=frozenset({"shifted"}))  # x - x.max(1) of numpy
            if kind in (ast.Mult, ast.Div):
                return Tensor(Kind.UNKNOWN, tags=frozenset({"scaled"}))
            return UNKNOWN
        if kind is ast.Div and one is not None and other is not None and "inverse root" in other.tags:
            return one.but(tags=one.tags | {"scaled", "scaled up"}, path=(site,))
        if kind in (ast.Div, ast.Mult) and other is not None and other.tags & {"root", "inverse root"}:
            base = one if one is not None else Tensor(Kind.UNKNOWN)
            if base.kind == Kind.PROBABILITIES:
                self.use(base, "scaled after", site)
                return base
            if kind is ast.Mult and "product" in base.tags and "root" in other.tags:
                return base.but(tags=base.tags | {"scaled", "scaled up"}, path=(site,))
            if base.kind not in NORMALISED:
                whole = {"whole"} if "whole root" in other.tags else set()
                return base.but(tags=base.tags | {"scaled"} | whole, path=(site,) if whole else base.path)
        if kind is ast.Div and one is not None and "product" in one.tags and is_head_size(right_node):
            return one.but(tags=one.tags | {"scaled", "by size"}, path=(site,))
        if kind is ast.Div and one is not None and other is not None and "norm" in other.tags:
            return one.but(tags=one.tags | {"scaled", "unit", "bounded"}) if one.kind not in NORMALISED else one
        if kind is ast.Div and one is not None:
            if one.kind == Kind.EXPONENTIAL and other is not None and other.kind == Kind.EXPONENTIAL_SUM:
                self.events.add(Divided(site, "shifted" in one.tags or "shifted" in other.tags))
                return Tensor(Kind.PROBABILITIES, site, "exp / sum(exp)", rank=one.rank)
            if one.kind in NORMALISED and other is not None and "total" in other.tags:
                self.use(one, "renormalised", site)
                return one
        if kind is ast.Sub:
            if isinstance(right, Items) and right.elements:  # numpy's max over an axis
                other = next(tensors(right.elements[0], 1), None)
                other = Tensor(Kind.MAXIMUM) if other is not None and "of maximum" in other.tags else other
            if other is not None and other.kind == Kind.MAXIMUM:
                base = one or Tensor(Kind.UNKNOWN)
                return base.but(tags=base.tags | {"shifted"}) if base.kind not in NORMALISED else Tensor(Kind.UNKNOWN)
            if other is not None and "logsumexp" in other.tags:
                return Tensor(Kind.LOG_PROBABILITIES, site, "x - logsumexp(x)")
            if other is not None and other.kind == Kind.SIGMOID and constant(left) in (1, 1.0):
                return other
        if kind is ast.Add and constant(right if one is not None else left) is not None:
            number = constant(right if one is not None else left)
            either = one if one is not None else other
            if either is not None and isinstance(number, int | float) and abs(number) <= SMALL:
                return either.tagged("guarded") if number else either
        if kind is ast.Add:
            for each in (one, other):
                if each is not None and "total" in each.tags:
                    return each
        for value, node in ((one, right_node), (other, left_node)):
            if value is not None and value.kind in NORMALISED:
                partner = other if value is one else one
                named_mask = "mask" in words_of(node) or (partner is not None and "mask" in partner.tags)
                # A mask that is learned, or clamped, as a ramp is, is soft: it is meant to scale.
                soft = partner is not None and not partner.tags.isdisjoint(("parameter", "guarded"))
                if kind is ast.Mult and named_mask and not soft and value.kind == Kind.PROBABILITIES:
                    # A mask of one entry per row keeps or drops whole rows, which sum to one or zero.
                    by_row = partner is not None and partner.size(-1) == 1
                    self.use(value, "masked rows" if by_row else "masked after", site)
                    return value
        for operand in (left, right):
            self.use(operand, _USES.get(kind, "other"), site)
        if kind is ast.Div and one is not None and one.kind == Kind.PROBABILITIES and other is None:
            self.use(one, "scaled after", site)
            return one
        if kind is ast.Div and one is not None and one.kind in NORMALISED and constant(right) in (1, 1.0):
            return one
        kept = _weighed(kind, one, other, left, right)
        if kept is not None:
            return kept
        result = self.scored(kind, one, other, right, left_node if one is None else right_node)
        factor = constant(left if one is None else right)
        is_factor = kind in (ast.Mult, ast.Div) and isinstance(factor, int | float)
        if kind is ast.Mult and is_factor and 0 < factor < _SMALL and "mask" in (one or other or result).tags:
            return result.tagged("tiny")  # (probabilities == 0) * 1e-8
        return result.tagged("negative") if is_factor and factor < 0 else result

    def scored(
        self, kind: type[ast.operator], one: Tensor | None, other: Tensor | None, right: Value, node: ast.expr | None
    ) -> Tensor:
        """Raw scores stay raw scores under arithmetic; products and masks are remembered."""
        tags = ((one.tags if one is not None else NO_TAGS) | (other.tags if other is not None else NO_TAGS)) & (
            SCORE_TAGS | {"logsumexp", "negative"}
        )
        present = [each for each in (one, other) if each is not None]
        kinds = {each.kind for each in present}
        if Kind.EXPONENTIAL in kinds and kind is ast.Mult:
            # Masked or scaled it is still that of a softmax by hand; times anything else it is not.
            found = next(each for each in present if each.kind == Kind.EXPONENTIAL)
            kept = "mask" in words_of(node) or any("mask" in each.tags for each in present)
            kept = kept or isinstance(right, Constant)
            return Tensor(Kind.EXPONENTIAL if kept else Kind.UNKNOWN, tags=found.tags)
        if kinds == {Kind.EXPONENTIAL_SUM} and kind is ast.Add and len(present) == 1:
            return present[0]  # a guard, or an option of its own with score 0
        if kind in (ast.Div, ast.Mult) and tags & {"product", "projected"}:
            tags = tags | {"scaled"}
        if kind in (ast.Div, ast.Mult) and len(present) == 1:
            tags = tags | {"scaled"}
        if kind in (ast.Add, ast.Sub) and "mask" in words_of(node):
            tags = tags | {"masked"}
        if kind is ast.Pow:
            tags = tags | {"positive"}
        if kind not in (ast.Mult, ast.Div):
            tags = tags - {"negative"}
        elif one is not None:
            tags = tags | (one.tags & {"shifted", "bounded"})
        raw = Kind.RAW in kinds and not kinds & NORMALISED and Kind.EXPONENTIAL not in kinds
        constants = kinds == {Kind.CONSTANT} and len(present) == 2
        first = present[0]
        result = Kind.RAW if raw else Kind.CONSTANT if constants else Kind.UNKNOWN
        sizes = first.sizes if len(present) == 1 else ()
        path = next((each.path for each in present if each.tags & {"whole", "scaled up"}), ())
        return Tensor(result, rank=first.rank, sizes=sizes, tags=frozenset(tags), path=path)


def _weighed(
    kind: type[ast.operator], one: Tensor | None, other: Tensor | None, left: Value, right: Value
) -> Tensor | None:
    """A sum of probabilities, or a share of one, as of several networks: their kind stays, their sum may not."""
    if kind is ast.Add and one is not None and other is not None:
        if one.kind in NORMALISED and "tiny" in other.tags:
            return one.tagged("guarded")
        both = one.kind == other.kind == Kind.PROBABILITIES
        return one.but(tags=one.tags | {"averaged"}) if both else None
    given, factor = (one, constant(right)) if one is not None else (other, constant(left))
    share = isinstance(factor, int | float) and 0 < factor <= 1 and kind is ast.Mult
    if given is not None and given.kind == Kind.PROBABILITIES and share:
        return given.but(tags=given.tags | {"averaged"})
    return None


def _first(keywords: dict[str, Value]) -> Value:
    for name in ("input", "x", "logits", "tensors", "tensor", "inputs", "a", "src", "self"):
        if name in keywords:
            return keywords[name]
    return UNKNOWN


# What is known of the size of results: the entries of a cosine are at most one, as are those of units.
_BOUNDING = {
    "cosine_similarity": "bounded",
    "tanh": "bounded",
    "norm": "norm",
    "vector_norm": "norm",
    "normalize": "unit",
}
_ARRAYS = frozenset(["scipy", "jax", "flax"])
"""Their `max` gives no positions."""
_SMALL = 1e-3
"""Less, added where probabilities are zero, is a guard."""
_BY_ROW = frozenset(["gather", "max", "argmax", "topk"])
"""Take one or some of each row, when told so."""
_USES: dict[type[ast.operator], str] = {
    ast.Mult: "multiplied",
    ast.Add: "added",
    ast.Sub: "subtracted",
    ast.Div: "divided",
}
_OPERATIONS: dict[str, Callable[[Any, Value, list[Value], dict[str, Value], Site], Value]] = {
    "log": Operations.logarithm,
    "log2": Operations.logarithm,
    "log10": Operations.logarithm,
    "exp": Operations.exponential,
    "sum": Operations.total,
    "reduce_sum": Operations.total,
    "scatter_add": Operations.total,
    "scatter_sum": Operations.total,
    "segment_sum": Operations.total,
    "max": Operations.maximum,
    "amax": Operations.largest,
    "reduce_max": Operations.largest,
    "topk": Operations.top,
    "top_k": Operations.top,
    "sort": Operations.top,
    "multinomial": Operations.sampled,
    "logsumexp": Operations.log_sum,
    "reduce_logsumexp": Operations.log_sum,
    "tril": Operations.filled,
    "triu": Operations.filled,
    "neg": Operations.negated,
    "negative": Operations.negated,
    "size": Operations.number,
    "dim": Operations.number,
    "numel": Operations.number,
}

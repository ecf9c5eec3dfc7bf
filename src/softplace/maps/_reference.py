"""The truth for values in tests: every map as plain Python loops over one row of float64 numbers.

Each function takes a list of scores, and by keyword `mask` (list of booleans, True = take part), `temperature` and the
map's own options, and returns a list of weights. Nothing here is fast, batched or clever; formulas are those of the
public functions' docstrings, and so are the sources. `REFERENCE` gives them by name.
"""

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

Row = list[float]
INFINITY = math.inf


def _full(row: Row, mask: Sequence[bool] | None) -> list[bool]:
    return [True] * len(row) if mask is None else list(mask)


def _bisect(falling: Callable[[float], float], low: float, high: float) -> float:
    """The root of a decreasing function between `low` and `high`, to the last bit."""
    while low < (middle := (low + high) / 2) < high:
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return high


def _simplex(formula: Callable[..., Row], shift: bool = True, outside: float = 0.0) -> Callable[..., Row]:
    """The policy for bad numbers around `formula`, which sees only finite scores that take part.

    Where the map does not change when all scores are shifted (`shift`), the maximum is made 0 and the temperature 1: a
    difference of two close numbers is exact, that of their quotients is not. Another formula gets the temperature.
    """

    @wraps(formula)
    def reference(row: Row, *, mask: Sequence[bool] | None = None, temperature: float = 1.0, **options: Any) -> Row:
        part = _full(row, mask)
        if any(math.isnan(score) for score, takes in zip(row, part, strict=True) if takes):
            return [math.nan] * len(row)
        places = [place for place, takes in enumerate(part) if takes and row[place] != -INFINITY]
        weights = [outside] * len(row)
        if not places:
            return weights
        top = max(row[place] for place in places)
        if top == INFINITY:  # the limit: those at infinity are alone, and equal
            places = [place for place in places if row[place] == INFINITY]
            scaled = [0.0] * len(places)
        elif shift:
            scaled = [(row[place] - top) / temperature for place in places]
        else:
            scaled, options = [row[place] for place in places], options | {"temperature": temperature}
        for place, weight in zip(places, formula(scaled, **options), strict=True):
            weights[place] = weight
        return weights

    return reference


def _softmax(row: Row) -> Row:
    top = max(row)
    return _shares([math.exp(score - top) for score in row])


def _log_softmax(row: Row) -> Row:
    top = max(row)
    total = math.log(math.fsum(math.exp(score - top) for score in row))
    return [score - top - total for score in row]


def _sparsemax(row: Row) -> Row:
    """Martins and Astudillo 2016, algorithm 1."""
    ordered, threshold = sorted(row, reverse=True), 0.0
    for count in range(1, len(row) + 1):
        candidate = (math.fsum(ordered[:count]) - 1) / count
        if ordered[count - 1] > candidate:
            threshold = candidate
    return [max(score - threshold, 0.0) for score in row]


def _entmax15(row: Row) -> Row:
    """Peters, Niculae and Martins 2019, algorithm 2: sum over the support of (s / 2 - tau)^2 is 1."""
    ordered, threshold = sorted((score / 2 for score in row), reverse=True), 0.0
    for count in range(1, len(row) + 1):
        mean = math.fsum(ordered[:count]) / count
        spread = math.fsum((score - mean) ** 2 for score in ordered[:count])
        if spread > 1:
            break
        candidate = mean - math.sqrt((1 - spread) / count)
        if ordered[count - 1] > candidate:
            threshold = candidate
    return [max(score / 2 - threshold, 0.0) ** 2 for score in row]


def _entmax(row: Row, alpha: float = 1.5) -> Row:
    """p = e^l [1 + d z e^(-d l)]_+^(1 / d), d = alpha - 1, z = s - max: l is the logarithm of the largest weight."""
    if alpha == 1:
        return _softmax(row)
    top, d = max(row), alpha - 1

    def weights(lead: float) -> Row:
        bases = [d * (score - top) * math.exp(min(-d * lead, 700.0)) for score in row]
        return [math.exp(lead + math.log1p(base) / d) if base > -1 else 0.0 for base in bases]

    return weights(_bisect(lambda lead: 1 - math.fsum(weights(lead)), -math.log(len(row)), 0.0))


def _normmax(row: Row, alpha: float = 2.0) -> Row:
    """p = u / sum u, where u = [s - tau]_+^(1 / (alpha - 1)) has an alpha-norm of 1."""
    top = max(row)

    def norm(threshold: float) -> float:
        return math.fsum(max(score - top - threshold, 0.0) ** (alpha / (alpha - 1)) for score in row)

    threshold = _bisect(lambda each: norm(each) - 1, -1.0, 0.0)
    return _shares([max(score - top - threshold, 0.0) ** (1 / (alpha - 1)) for score in row])


def _hardmax(row: Row) -> Row:
    return [1.0 / row.count(max(row)) if score == max(row) else 0.0 for score in row]


def _uniform(row: Row) -> Row:
    return [1.0 / len(row)] * len(row)


def _topk_softmax(row: Row, k: int = 2, temperature: float = 1.0) -> Row:
    """Softmax of the k largest; of equal scores the earlier goes first."""
    chosen = sorted(sorted(range(len(row)), key=lambda place: -row[place])[:k])
    weights = dict(zip(chosen, softmax([row[place] for place in chosen], temperature=temperature), strict=True))
    return [weights.get(place, 0.0) for place in range(len(row))]


def _sigsoftmax(row: Row, temperature: float = 1.0) -> Row:
    """log(exp(z) sigmoid(z)) = z + min(z, 0) - log(1 + exp(-|z|)), less what it is about at the maximum."""
    top = max(row)
    return _softmax(
        [
            (score - top) / temperature
            + (min(score, 0.0) - min(top, 0.0)) / temperature
            - math.log1p(math.exp(-abs(score / temperature)))
            for score in row
        ]
    )


def _sigmoid_normalised(row: Row, temperature: float = 1.0) -> Row:
    """log sigmoid(z) = min(z, 0) - log(1 + exp(-|z|)), the first less what it is at the maximum."""
    top = max(row)
    return _softmax(
        [
            (min(score, 0.0) - min(top, 0.0)) / temperature - math.log1p(math.exp(-abs(score / temperature)))
            for score in row
        ]
    )


def _taylor_softmax(row: Row, order: int = 2, temperature: float = 1.0) -> Row:
    return _shares(
        [math.fsum((score / temperature) ** n / math.factorial(n) for n in range(order + 1)) for score in row]
    )


def _shares(powers: Row) -> Row:
    total = math.fsum(powers)
    return [power / total for power in powers]


def _gumbel_softmax(row: Row, noise: Sequence[float] | None = None) -> Row:
    return _softmax(row if noise is None else [score + extra for score, extra in zip(row, noise, strict=True)])


def _periodic(row: Row, temperature: float = 1.0) -> Row:
    return _shares([math.sin(score / temperature + math.pi / 4) ** 2 for score in row])


def _k_subset(row: Row, k: int = 2, temperature: float = 1.0) -> Row:
    if len(row) <= k:
        return [1.0] * len(row)
    middle = sorted(row, reverse=True)[k - 1]  # the threshold lies at most 1 below it: near it no digit may be lost
    scaled = [(score - middle) / temperature for score in row]

    def weights(threshold: float) -> Row:
        return [min(max(score - threshold, 0.0), 1.0) for score in scaled]

    return weights(_bisect(lambda threshold: math.fsum(weights(threshold)) - k, -1.0, 0.0))


softmax = _simplex(_softmax)
log_softmax = _simplex(_log_softmax, outside=-INFINITY)
sparsemax = _simplex(_sparsemax)
entmax15 = _simplex(_entmax15)
entmax = _simplex(_entmax)
normmax = _simplex(_normmax)
hardmax = _simplex(_hardmax)
uniform = _simplex(_uniform)
taylor_softmax = _simplex(_taylor_softmax, shift=False)
topk_softmax = _simplex(_topk_softmax, shift=False)
sigsoftmax = _simplex(_sigsoftmax, shift=False)
sigmoid_normalised = _simplex(_sigmoid_normalised, shift=False)
periodic = _simplex(_periodic, shift=False)
gumbel_softmax = _simplex(_gumbel_softmax)


def softmax1(row: Row, *, mask: Sequence[bool] | None = None, temperature: float = 1.0, sink: float = 0.0) -> Row:
    """Softmax with one more score, whose weight is not returned."""
    return softmax([*row, sink], mask=[*_full(row, mask), True], temperature=temperature)[:-1]


def solu(row: Row, *, mask: Sequence[bool] | None = None, temperature: float = 1.0) -> Row:
    weights = softmax(row, mask=mask, temperature=temperature)
    return [0.0 if weight == 0 else score / temperature * weight for score, weight in zip(row, weights, strict=True)]


def k_subset(row: Row, *, mask: Sequence[bool] | None = None, temperature: float = 1.0, k: int = 2) -> Row:
    """clip(s / t - tau, 0, 1) with sum k; all ones where no more than k take part."""
    part = _full(row, mask)
    endless = [takes and score == INFINITY for score, takes in zip(row, part, strict=True)]
    if 0 < sum(endless) < k and not any(math.isnan(score) for score, takes in zip(row, part, strict=True) if takes):
        others = [takes and not fixed for takes, fixed in zip(part, endless, strict=True)]
        rest = k_subset(row, mask=others, temperature=temperature, k=k - sum(endless))
        return [1.0 if fixed else weight for fixed, weight in zip(endless, rest, strict=True)]
    return _simplex(_k_subset, shift=False)(row, mask=part, temperature=temperature, k=k)


def sinkhorn(
    matrix: list[Row], *, mask: list[list[bool]] | None = None, temperature: float = 1.0, iterations: int = 1000
) -> list[Row]:
    """exp(s / t) divided by its column sums and then by its row sums, `iterations` times."""
    # The limit of a row with +inf has only these; what takes no part is -inf.
    logs = [log_softmax(row, mask=mask and mask[place], temperature=temperature) for place, row in enumerate(matrix)]
    if any(math.isnan(value) for row in logs for value in row):
        return [[math.nan] * len(row) for row in matrix]
    pairs = [pair for row, values in zip(matrix, logs, strict=True) for pair in zip(row, values, strict=True)]
    top = max([score for score, value in pairs if value > -INFINITY and score < INFINITY], default=0.0)
    for row, values in zip(matrix, logs, strict=True):
        for place, value in enumerate(values):
            if value > -INFINITY:  # what is infinite counts as the largest
                values[place] = (min(row[place], top) - top) / temperature
    for _ in range(iterations):
        columns = [log_softmax(list(column)) for column in zip(*logs, strict=True)]
        logs = [log_softmax(list(row)) for row in zip(*columns, strict=True)]
    return [[math.exp(value) for value in row] for row in logs]


def softpick(row: Row, *, mask: Sequence[bool] | None = None, temperature: float = 1.0) -> Row:
    """Zuhri et al. 2025: relu(e^s - 1) / sum |e^s - 1|; a score of -inf takes part, and adds 1 to the sum."""
    part = _full(row, mask)
    scores = [score for score, takes in zip(row, part, strict=True) if takes]
    if any(math.isnan(score) for score in scores):
        return [math.nan] * len(row)
    top = max([0.0, *scores])
    if top == INFINITY:
        return softmax(row, mask=mask)
    # (e^z - 1) / e^top = e^(max(z, 0) - top) (1 - e^-|z|), with the sign of z
    powers = [
        math.copysign(math.exp((max(score, 0.0) - top) / temperature) * -math.expm1(-abs(score) / temperature), score)
        for score in scores
    ]
    total = math.fsum(abs(power) for power in powers)
    weights = iter([max(power, 0.0) / total if total else 0.0 for power in powers])
    return [next(weights) if takes else 0.0 for takes in part]


def _elementwise(formula: Callable[..., float]) -> Callable[..., Row]:
    """`formula` of each entry that takes part, divided by the temperature, and of how many do; 0 elsewhere."""

    def reference(row: Row, *, mask: Sequence[bool] | None = None, temperature: float = 1.0, **options: Any) -> Row:
        part = _full(row, mask)
        return [
            (math.nan if math.isnan(score) else formula(score / temperature, sum(part), **options)) if takes else 0.0
            for score, takes in zip(row, part, strict=True)
        ]

    return reference


def _logistic(score: float, count: int, bias: float | str = 0.0) -> float:
    shifted = score + (-math.log(count) if isinstance(bias, str) else bias)
    return 1 / (1 + math.exp(-shifted)) if shifted > 0 else math.exp(shifted) / (1 + math.exp(shifted))


def _gelu(score: float, count: int) -> float:
    return 0.0 if score == -INFINITY else score * math.erfc(-score / math.sqrt(2)) / 2


identity = _elementwise(lambda score, count: score)
sigmoid = _elementwise(_logistic)
tanh = _elementwise(lambda score, count: math.tanh(score))
relu = _elementwise(lambda score, count: max(score, 0.0))
gelu = _elementwise(_gelu)
relu_normalised = _elementwise(lambda score, count: max(score, 0.0) / count)


def _by_segment(reference: Callable[..., Row]) -> Callable[..., Row]:
    def segmented(
        row: Row, segments: Sequence[int], *, mask: Sequence[bool] | None = None, temperature: float = 1.0
    ) -> Row:
        part, weights = _full(row, mask), [0.0] * len(row)
        for segment in set(segments):
            places = [place for place, each in enumerate(segments) if each == segment]
            found = reference(
                [row[place] for place in places], mask=[part[place] for place in places], temperature=temperature
            )
            for place, weight in zip(places, found, strict=True):
                weights[place] = weight
        return weights

    return segmented


segment_softmax = _by_segment(softmax)
segment_sparsemax = _by_segment(sparsemax)

_NAMES = """
softmax log_softmax softmax1 gumbel_softmax sparsemax entmax15 entmax normmax topk_softmax k_subset hardmax uniform
sinkhorn sigsoftmax taylor_softmax periodic softpick sigmoid_normalised relu_normalised identity sigmoid tanh relu gelu
solu segment_softmax segment_sparsemax
"""
REFERENCE: dict[str, Callable[..., Any]] = {name: globals()[name] for name in _NAMES.split()}

"""Numbers as JSON can hold them.

No axes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def finite(value: Any) -> Any:
    """A value with null for every NaN and infinity, which JSON has not: in mappings and sequences at any depth.

    >>> finite({"mean": float("nan"), "values": (1.0, float("inf"))})
    {'mean': None, 'values': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

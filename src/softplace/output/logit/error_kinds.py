"""How standard errors are estimated: what a person writes, and the covariance that it asks for.

Axis legend: N rows, P columns, K classes, Q = (K-1)P parameters.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy import intp
from numpy.typing import NDArray

from softplace.errors import InputError, nearest
from softplace.output.logit._centred import Centred
from softplace.output.logit.bootstrap import Bootstrap, bootstrap
from softplace.output.logit.inference import Array, covariance
from softplace.output.logit.reading import quoted

ERRORS = ("observed", "robust", "hc0", "hc1", "cluster:COLUMN", "bootstrap:N")


@dataclass(frozen=True, kw_only=True)
class Errors:
    """How standard errors are estimated.

    Args:
        kind: "observed", "hc0", "hc1", "cluster" or "bootstrap".
        column: Of the groups, for "cluster".
        resamples: For "bootstrap".
    """

    kind: str
    column: str | None = None
    resamples: int = 0

    @property
    def words(self) -> str:
        """In words."""
        return {
            "observed": "observed information",
            "hc0": "robust sandwich, HC0",
            "hc1": "robust sandwich, HC1",
            "cluster": f"sandwich clustered by {self.column}" if self.column else "clustered sandwich",
            "bootstrap": f"bootstrap of {self.resamples:,} resamples",
        }[self.kind]


def parse_errors(text: str) -> Errors:
    """What "observed", "robust" (HC1), "hc0", "hc1", "cluster:COLUMN" or "bootstrap:N" says.

    Raises:
        InputError: It is none of these.

    >>> parse_errors("robust").kind, parse_errors("cluster:village").column, parse_errors("bootstrap:200").resamples
    ('hc1', 'village', 200)
    """
    kind, _, rest = str(text).partition(":")
    if kind == "bootstrap" and rest.isdecimal() and 2 <= int(rest) <= 1_000_000:
        return Errors(kind="bootstrap", resamples=int(rest))
    if kind == "bootstrap":
        raise InputError(f"'errors' must name 2 to 1,000,000 resamples. Got {quoted(text)}. Use e.g. bootstrap:500.")
    if kind == "cluster" and rest:
        return Errors(kind="cluster", column=rest)
    if kind == "cluster":
        raise InputError(f"'errors' must name the column of the groups. Got {quoted(text)}. Use e.g. cluster:village.")
    if text in ("observed", "hc0", "hc1", "robust"):
        return Errors(kind="hc1" if text == "robust" else text)
    raise InputError(f"Unknown 'errors' {quoted(text)}. {nearest(str(text), ERRORS)}")


def check_seed(seed: int) -> None:
    """That a seed is a whole number from 0 on.

    Raises:
        InputError: It is none.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"'seed' must be a whole number from 0. Got {seed!r}. Use e.g. 0.")


def estimated_covariance(
    centred: Centred,
    codes: NDArray[intp],
    coefficients: Array,
    errors: Errors,
    weight: Array | None,
    weights_are: str,
    groups: NDArray[intp] | None,
    seed: int,
    information: Array | None = None,
) -> tuple[Array, Bootstrap | None]:
    """The covariance of the coefficients against class 0, (Q, Q), and the bootstrap where it is of one.

    Args:
        centred: The columns.
        codes: (N,).
        coefficients: (K-1, P), of the centred columns.
        errors: How it is estimated.
        weight, weights_are, groups, seed: As of the fit.
        information: Of the centred columns, where it is known.

    Raises:
        InputError: It cannot be estimated so.
    """
    try:
        if errors.kind == "bootstrap":
            resampled = bootstrap(
                centred.X, codes, coefficients, resamples=errors.resamples, seed=seed,
                sample_weight=weight, weights_are=weights_are, groups=groups,
            )  # fmt: skip
            resampled = replace(resampled, draws=centred.draws(resampled.draws))
            return resampled.covariance, resampled
        spread = covariance(
            centred.X, codes, coefficients, kind=errors.kind, sample_weight=weight, weights_are=weights_are,
            groups=groups if errors.kind == "cluster" else None, information=information,
        )  # fmt: skip
        return centred.covariance(spread), None
    except ValueError as error:
        raise InputError(str(error)) from None

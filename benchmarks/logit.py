"""Multinomial logits: seconds to the same log-likelihood, beside statsmodels and scikit-learn; memory of streams.

Columns are drawn at random (the first is constant), choices from a multinomial logit whose scores have the spread 1.
The gate comes first: log-likelihoods within 1e-8 (relative) of the largest, standard errors within 1e-5 (relative) of
statsmodels'; where not, the exit code is 1. One thread; the processor's time, which other programs disturb little; all
take turns, the best of each counts. Rows:

- softplace: `solve` with its default tolerance, 1e-6 standard errors; and with 1e-2, which is still within the gate.
- statsmodels: `MNLogit(...).fit(method="newton")`, with standard errors as always.
- scikit-learn: `LogisticRegression(C=inf, tol=1e-6)`, lbfgs, without standard errors.

The last table fits a stream of rows that are drawn again in each pass, and prints the memory that this adds.
"""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.peak import peak_of
from softplace.output.logit.solver import solve, stream

Array = NDArray[np.float64]
CASES = {"A": (100_000, 50, 10, 20.0), "B": (1_000_000, 20, 5, 9.0)}
"""Rows, columns, classes; how many times as fast as statsmodels is aimed at, with standard errors."""
AIM_SCIKIT = 2.0
BLOCK = 100_000


@dataclass(frozen=True)
class Ended:
    """A fit: log-likelihood and standard errors (L, P), if any."""

    loglikelihood: float
    errors: Array | None


def draw(rows: int, columns: int, classes: int, seed: int) -> tuple[Array, NDArray[np.intp]]:
    """X and the choices; the coefficients are the same for each seed."""
    b = np.random.default_rng(0).standard_normal((classes - 1, columns)) / columns**0.5
    random = np.random.default_rng([1, seed])
    X = random.standard_normal((rows, columns))
    X[:, 0] = 1.0
    scores = np.column_stack([np.zeros(rows), X @ b.T]) + random.gumbel(size=(rows, classes))
    return X, scores.argmax(1)


def ours(X: Array, y: NDArray[np.intp], classes: int, *, errors: bool, tolerance: float = 1e-6) -> Ended:
    """softplace."""
    found = solve(X, y, classes, information=errors, tolerance=tolerance)
    if found.information is None:
        return Ended(found.loglikelihood, None)
    covariance = np.linalg.inv(found.information)
    return Ended(found.loglikelihood, np.sqrt(covariance.diagonal()).reshape(found.coefficients.shape))


def statsmodels_newton(X: Array, y: NDArray[np.intp], classes: int) -> Ended:
    """statsmodels."""
    import statsmodels.api as sm

    found = sm.MNLogit(y, X).fit(method="newton", disp=0, maxiter=100)
    return Ended(float(found.llf), np.asarray(found.bse).T)


def scikit_learn(X: Array, y: NDArray[np.intp], classes: int) -> Ended:
    """scikit-learn."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=np.inf, tol=1e-6, max_iter=1000, fit_intercept=False).fit(X, y)
    logarithms = model.predict_log_proba(X)
    return Ended(float(logarithms[np.arange(len(y)), y].sum()), None)


def table(name: str, arguments: argparse.Namespace) -> bool:
    """Print it, and say whether the gate held."""
    rows, columns, classes, aim = CASES[name]
    rows //= 10 if arguments.quick else 1
    X, y = draw(rows, columns, classes, 0)
    print(f"\n{name}: n = {rows:,}, p = {columns}, K = {classes}; seconds of the processor, one thread")
    calls: dict[str, Callable[[], Ended]] = {
        "softplace, errors": lambda: ours(X, y, classes, errors=True),
        "statsmodels, errors": lambda: statsmodels_newton(X, y, classes),
        "softplace": lambda: ours(X, y, classes, errors=False),
        "softplace, tolerance 1e-2": lambda: ours(X, y, classes, errors=False, tolerance=1e-2),
        "scikit-learn": lambda: scikit_learn(X, y, classes),
    }
    best = dict.fromkeys(calls, np.inf)
    ended: dict[str, Ended] = {}
    for turn in range(arguments.repeat):
        for label, call in calls.items():
            if label.startswith("statsmodels") and turn >= arguments.slow:
                continue
            start = time.process_time()
            ended[label] = call()
            spent = time.process_time() - start
            # What scikit-learn's log-likelihood costs here is not part of its fit, and is small beside it.
            best[label] = min(best[label], spent)
    top = max(each.loglikelihood for each in ended.values())
    held = True
    print(f"{'':28}{'seconds':>9}{'gap':>10}{'errors differ by':>18}")
    theirs = ended["statsmodels, errors"].errors
    for label, each in ended.items():
        gap = (top - each.loglikelihood) / abs(top)
        off = np.nan if each.errors is None or theirs is None else float(np.abs(each.errors / theirs - 1).max())
        held &= gap <= 1e-8 and not off > 1e-5
        print(f"{label:28}{best[label]:9.2f}{gap:10.1e}{'' if np.isnan(off) else f'{off:18.1e}'}", flush=True)
    for one, other, least in (
        ("softplace, errors", "statsmodels, errors", aim),
        ("softplace", "scikit-learn", AIM_SCIKIT),
        ("softplace, tolerance 1e-2", "scikit-learn", AIM_SCIKIT),
    ):
        ratio = best[other] / best[one]
        print(f"aim: {one} {least:g} times {other}: {ratio:.1f}, {'reached' if ratio >= least else 'not reached'}")
    if not held:
        print("FAILED: a log-likelihood or standard errors differ by more than the gate allows")
    return held


def stream_table(rows: int) -> bool:
    """Print it, and say whether the stream's coefficients are near those that it was drawn from."""
    columns, classes = 20, 5

    def batches() -> Iterator[tuple[Array, NDArray[np.intp], None]]:
        for seed in range(rows // BLOCK):
            yield (*draw(BLOCK, columns, classes, seed), None)

    spent = 0.0
    for _ in batches():
        pass
    start = time.thread_time()
    for _ in batches():
        pass
    drawing = time.thread_time() - start
    kept = {}

    def call() -> None:
        nonlocal spent
        start = time.thread_time()
        # Of this thread: another one watches the memory.
        kept["found"] = stream(batches, classes, information=True)
        spent = time.thread_time() - start

    peak, _ = peak_of(call)
    found = kept["found"]
    truth = np.random.default_rng(0).standard_normal((classes - 1, columns)) / columns**0.5
    errors = np.sqrt(np.linalg.inv(found.information).diagonal()).reshape(truth.shape)
    passes = found.iterations + 2
    far = float(np.sqrt(np.mean(((found.coefficients - truth) / errors) ** 2)))
    print(f"\nstream: n = {rows:,}, p = {columns}, K = {classes}, in batches of {BLOCK:,}")
    print(f"{spent - passes * drawing:.1f} s and {passes * drawing:.1f} s of drawing in {passes} passes, with errors")
    print(
        f"memory added at the peak: {peak / 2**20:,.0f} MiB, where all rows are {rows * columns * 8 / 2**20:,.0f} MiB"
    )
    print(f"distance to the coefficients drawn from: {far:.2f} standard errors (root mean square; expected 1)")
    return bool(found.converged and 0.7 < far < 1.3)


def main() -> int:
    """1 where a gate failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--repeat", type=int, default=3, help="turns of each; the best counts")
    parser.add_argument("--slow", type=int, default=1, help="turns of statsmodels")
    parser.add_argument("--cases", nargs="+", choices=[*CASES, "stream"], default=[*CASES, "stream"])
    arguments = parser.parse_args()
    try:
        import statsmodels.api  # noqa: F401
    except ImportError:
        print("statsmodels is not installed: pip install 'softplace[bench]'", file=sys.stderr)
        return 1
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"{load:.1f} other processes were running in the last minute: times vary.")
    before, held = torch.get_num_threads(), True
    torch.set_num_threads(1)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in arguments.cases:
            if name == "stream":
                held &= stream_table(1_000_000 if arguments.quick else 10_000_000)
            else:
                held &= table(name, arguments)
    torch.set_num_threads(before)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())

"""Statistics of multinomial and conditional logits beside statsmodels: seconds, and the largest difference.

A row for each task, with the same data (and the same resamples) and the same answer: the gate is a relative difference
of at most 1e-4 of values and errors (1e-3 of the conditional logit, where theirs stops earlier); where it is not met,
the exit code is 1. One thread; the processor's time, the best of two.

- fit with errors: ours `fit_arrays`, theirs `MNLogit(...).fit(method="newton")`.
- marginal effects: averaged over the rows, with delta-method errors; theirs `get_margeff(at="overall")`.
- bootstrap: so many refits; theirs a loop of `MNLogit` fits that start at the fit.
- conditional logit: ours with formula and checks, theirs `ConditionalLogit` on a ready matrix.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from softplace.output.logit import fit_arrays, fit_conditional

Array = NDArray[np.float64]


def draw(rows: int, columns: int, classes: int) -> tuple[Array, NDArray[np.intp]]:
    """X and choices of a multinomial logit."""
    random = np.random.default_rng(0)
    X = random.standard_normal((rows, columns))
    scores = X @ random.standard_normal((columns, classes)) / columns**0.5 + random.gumbel(size=(rows, classes))
    return X, scores.argmax(1)


def choosers(count: int) -> pd.DataFrame:
    """A table of choosers among four alternatives with two columns each."""
    random = np.random.default_rng(1)
    cost, duration = random.uniform(1, 5, (count, 4)), random.uniform(1, 5, (count, 4))
    best = (-0.5 * cost - 0.3 * duration + random.gumbel(size=(count, 4))).argmax(1)
    return pd.DataFrame(
        {
            "who": np.repeat(np.arange(count), 4),
            "mode": np.tile(np.arange(4), count),
            "cost": cost.ravel(),
            "duration": duration.ravel(),
            "choice": (best[:, None] == np.arange(4)).ravel().astype(int),
        }
    )


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the processor, the best of two, and what it gave."""
    best, found = np.inf, None
    for _ in range(2):
        start = time.process_time()
        found = call()
        best = min(best, time.process_time() - start)
    return best, found


def gap(ours: Array, theirs: Array) -> float:
    """The largest difference, relative to the largest of theirs."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def main() -> int:
    """Print the table; the exit code."""
    from statsmodels.discrete.conditional_models import ConditionalLogit
    from statsmodels.discrete.discrete_model import MNLogit

    parser = argparse.ArgumentParser(prog=sys.argv[0], description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--resamples", type=int, default=10)
    parser.add_argument("--choosers", type=int, default=1000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    bad = False
    print(f"{'task':42}{'softplace s':>12}{'statsmodels s':>15}{'times':>8}{'difference':>12}")

    def row(task: str, ours: float, theirs: float, difference: float, most: float = 1e-4) -> None:
        nonlocal bad
        bad |= not difference <= most
        print(f"{task:42}{ours:12.3f}{theirs:15.3f}{theirs / ours:8.1f}{difference:12.1e}", flush=True)

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        X, y = draw(given.rows, 10, 5)
        design = np.column_stack([np.ones(len(X)), X])
        seconds, ours = timed(lambda: fit_arrays(X, y))
        other, theirs = timed(lambda: MNLogit(y, design).fit(method="newton", disp=0))
        difference = max(gap(ours.coefficients, theirs.params.T), gap(ours.standard_errors, theirs.bse.T))
        row(f"fit with errors, N={given.rows:,} P=11 K=5", seconds, other, difference)
        seconds, effects = timed(ours.marginal_effects)
        other, margins = timed(lambda: theirs.get_margeff(at="overall"))
        difference = max(gap(effects.values, margins.margeff), gap(effects.standard_errors, margins.margeff_se))
        row("average marginal effects with errors", seconds, other, difference)

        def resampled() -> Array:
            random = np.random.default_rng(0)
            found = []
            for _ in range(given.resamples):
                picked = random.integers(len(y), size=len(y))
                fit = MNLogit(y[picked], design[picked]).fit(theirs.params.ravel("F"), method="newton", disp=0)
                found.append(fit.params.T.ravel())
            return np.std(found, axis=0, ddof=1)

        seconds, again = timed(lambda: ours.with_errors(f"bootstrap:{given.resamples}").standard_errors)
        other, spread = timed(resampled)
        row(f"bootstrap of {given.resamples} resamples", seconds, other, gap(again.ravel(), spread))
        table = choosers(given.choosers)
        seconds, one = timed(
            lambda: fit_conditional("choice ~ cost + duration | 0", table, chooser="who", alternative="mode")
        )
        columns = table[["cost", "duration"]].to_numpy()
        other, two = timed(lambda: ConditionalLogit(table.choice, columns, groups=table.who).fit(disp=0))
        difference = max(gap(one.coefficients, two.params), gap(one.standard_errors, two.bse))
        row(f"conditional logit, {given.choosers:,} choosers of 4", seconds, other, difference, 1e-3)
    if bad:
        print("A difference is larger than allowed.", file=sys.stderr)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())

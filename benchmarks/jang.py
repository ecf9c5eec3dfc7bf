"""`python -m benchmarks.jang --data mnist.npz`: Table 1 of Jang et al. 2017 again, with the intervals that it lacks.

Two networks, 20 variables of 10 classes, fixed binarisation: the predictor of the lower half of an image (two layers of
variables; negative log-likelihood by 1,000 samples), and the autoencoder (200 hidden units each way; negative ELBO).
Every run is `softplace.latent.train` in a folder of its own, so that a run that was stopped goes on, and one that is
done is only read. Mean and 95 % t-interval over seeds, beside the figures that were printed for one run each of MNIST;
on other images there are none. Learning rates are chosen by `--learning-rate`, alike for all.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from scipy.stats import t

from softplace.errors import InputError
from softplace.latent import train

# How we call it; and what was printed: of the predictor, of the autoencoder. DARN and MuProp are not among ours.
PRINTED: dict[str, tuple[float, float] | None] = {
    "nvil": (73.1, 110.6),  # "SF": the score function with variance normalisation and a learned baseline
    "straight-through": (61.8, 110.9),
    "gumbel-softmax": (59.0, 101.5),
    "straight-through-gumbel": (59.7, 107.8),
    "reinforce-leave-one-out": None,
    "disarm": None,
}
MODELS = {"predictor": "1000", "vae": "1"}
"""The samples of the bound that each is measured by."""


def measured(model: str, estimator: str, seed: int, given: argparse.Namespace) -> float:
    """Nats of the test images, less is better."""
    annealed: dict[str, Any] = {"anneal_rate": 1e-4} if "gumbel" in estimator else {}
    result = train(
        model,
        estimator=estimator,
        data=given.data,
        out=given.out / f"{model}-{estimator}-{seed}",
        steps=given.steps,
        learning_rate=given.learning_rate,
        validate_steps=max(1, given.steps // 10),
        seed=seed,
        **annealed,
    )
    return -float(result.evaluation["bounds"][MODELS[model]])


def shown(values: list[float]) -> str:
    """Mean and half-width of the 95 % interval."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.2f}"
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.2f} ± {half:.2f}"


def main() -> int:
    """2 where something given cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="an .npz file of images; digits when not given")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--estimators", nargs="+", choices=tuple(PRINTED), default=tuple(PRINTED))
    parser.add_argument("--out", type=Path, default=Path("trainings/jang"))
    given = parser.parse_args()
    mnist = "mnist" in Path(given.data).name.lower()
    print(f"{given.data}, {given.steps:,} steps, {given.seeds} seeds; nats, mean ± 95 % interval")
    print(f"{'':25}{'predictor':>18}{'printed':>9}{'autoencoder':>18}{'printed':>9}")
    try:
        for estimator in given.estimators:
            line = f"{estimator:25}"
            for place, model in enumerate(MODELS):
                values = [measured(model, estimator, seed, given) for seed in range(given.seeds)]
                known = PRINTED[estimator]
                line += f"{shown(values):>18}{known[place] if known and mnist else '':>9}"
            print(line, flush=True)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

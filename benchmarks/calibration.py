"""Calibrators, calibration errors and prediction sets against scikit-learn, LBFGS loops and the packages of the papers.

Every line has what it reached beside its time: of a calibrator the loss above the best that any reached (in nats) and
the largest entry of the gradient; of an error its value; of sets coverage and mean size. Peers that are not installed
are left out: pip install torchmetrics mapie uncertainty-calibration.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import scipy.optimize
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from torch import Tensor
from torch.nn.functional import cross_entropy

from softplace import output, probes

OFF, INTERCEPT = 0.01, 0.01
Loss = Callable[[Tensor], Tensor]


class Scores(ClassifierMixin, BaseEstimator):
    """A classifier whose scores are the columns."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Scores":
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return X[:, 1] - X[:, 0] if X.shape[1] == 2 else X

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X.argmax(-1)


class Probabilities(ClassifierMixin, BaseEstimator):
    """A classifier whose probabilities are softmax of the columns."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Probabilities":
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return torch.softmax(torch.from_numpy(X), -1).numpy()

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X.argmax(-1)


def sample(rows: int, classes: int, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Logits that are too sure, with a bias per class, and labels."""
    source = torch.Generator().manual_seed(rows + classes)
    logits = 2 * torch.randn(rows, classes, generator=source, dtype=torch.float64)
    labels = torch.multinomial(torch.softmax(logits, -1), 1, generator=source)[:, 0]
    return scale * logits + 0.5 * torch.randn(classes, generator=source, dtype=torch.float64), labels


def timed(run: Callable[[], Any], repeat: int) -> tuple[Any, float]:
    """What it gives, and the least CPU seconds."""
    best, found = float("inf"), None
    for _ in range(repeat):
        start = time.process_time()
        found = run()
        best = min(best, time.process_time() - start)
    return found, best


def losses(logits: Tensor, labels: Tensor) -> dict[str, tuple[Loss, int]]:
    """The losses of flat parameters, and how many there are; of a temperature, of its inverse."""
    count = logits.shape[-1]
    logarithms = torch.log_softmax(logits, -1)

    def dirichlet(p: Tensor) -> Tensor:
        matrix, bias = p[: count * count].view(count, count), p[count * count :]
        off = (matrix.square().sum() - matrix.diagonal().square().sum()) / (count * (count - 1))
        penalty = OFF * off + INTERCEPT * bias.square().mean()
        return cross_entropy(logarithms @ matrix.T + bias, labels) + penalty

    return {
        "temperature": (lambda p: cross_entropy(logits * p, labels), 1),
        "vector": (lambda p: cross_entropy(logits * p[:count] + p[count:], labels), 2 * count),
        "dirichlet": (dirichlet, count * count + count),
    }


def start_of(kind: str, count: int, classes: int) -> Tensor:
    """Where the loops start: what changes nothing."""
    first = torch.zeros(count, dtype=torch.float64)
    if kind == "dirichlet":
        first[: classes * classes].view(classes, classes).fill_diagonal_(1.0)
    else:
        first[: classes if kind == "vector" else 1] = 1.0
    return first


def torch_loop(loss: Loss, start: Tensor) -> Tensor:
    """torch's LBFGS with the rate (0.01) and the steps (50) of the code beside Guo et al. 2017."""
    parameters = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([parameters], lr=0.01, max_iter=50)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(parameters)
        value.backward()
        return value

    optimizer.step(closure)
    return parameters.detach()


def scipy_loop(loss: Loss, start: Tensor) -> Tensor:
    """scipy's L-BFGS-B with exact gradients, as tight as it goes within 1,000 steps."""

    def numbers(at: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.from_numpy(at).requires_grad_()
        value = loss(point)
        return value.item(), torch.autograd.grad(value, point)[0].numpy()

    options = {"ftol": 0.0, "gtol": 1e-10, "maxiter": 1000, "maxfun": 2000}
    found = scipy.optimize.minimize(numbers, start.numpy(), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(found.x)


def sklearn_temperature(logits: Tensor, labels: Tensor) -> Tensor:
    frozen = FrozenEstimator(Scores().fit(logits.numpy(), labels.numpy()))
    fitted = CalibratedClassifierCV(frozen, method="temperature", ensemble=False).fit(logits.numpy(), labels.numpy())
    return torch.tensor([float(fitted.calibrated_classifiers_[0].calibrators[0].beta_)], dtype=torch.float64)


def flat(found: Any) -> Tensor:
    if isinstance(found, output.TemperatureScaling):
        return torch.tensor([1 / found.temperature], dtype=torch.float64)
    return torch.cat([found.weight.flatten(), found.bias])


def calibrators(rows: int, classes: int, repeat: int) -> bool:
    """A table of fits; whether ours is the best of all, to rounding."""
    logits, labels = sample(rows, classes)
    print(f"\n{rows:,} rows, {classes} classes{'':18}{'CPU s':>9}{'loss above best':>17}{'gradient':>11}")
    held = True
    ours = {
        "temperature": lambda: output.fit_temperature(logits, labels),
        "vector": lambda: output.fit_vector(logits, labels),
        "dirichlet": lambda: output.fit_dirichlet(logits, labels, off_diagonal=OFF, intercept=INTERCEPT),
    }
    for kind, (loss, count) in losses(logits, labels).items():
        first = start_of(kind, count, classes)
        runs: dict[str, Callable[[], Tensor]] = {
            "softplace": lambda kind=kind: flat(ours[kind]()),
            "torch LBFGS (50 steps)": lambda loss=loss, first=first: torch_loop(loss, first),
            "scipy L-BFGS-B": lambda loss=loss, first=first: scipy_loop(loss, first),
        }
        if kind == "temperature":
            runs["scikit-learn"] = lambda: sklearn_temperature(logits, labels)
        found = {name: timed(run, repeat) for name, run in runs.items()}
        values = {name: float(loss(parameters)) for name, (parameters, _) in found.items()}
        best = min(values.values())
        for name, (parameters, seconds) in found.items():
            point = parameters.clone().requires_grad_()
            gradient = float(torch.autograd.grad(loss(point), point)[0].abs().max())
            print(f"{kind:12}{name:28}{seconds:9.4f}{values[name] - best:17.1e}{gradient:11.1e}", flush=True)
        held &= values["softplace"] - best <= 1e-13
    return held


def errors(rows: int, classes: int, repeat: int) -> bool:
    """A table of calibration errors and isotonic fits; whether values agree."""
    logits, labels = sample(rows, classes)
    chance = torch.softmax(logits, -1)
    print(f"\n{rows:,} rows, {classes} classes{'':31}{'CPU s':>9}{'value':>11}")
    runs: dict[str, dict[str, Callable[[], float]]] = {
        "ECE, 15 bins": {"softplace": lambda: float(probes.expected_calibration_error(chance, labels))},
        "debiased squared, 10 bins": {
            "softplace": lambda: float(probes.squared_calibration_error(chance, labels, bins=10))
        },
    }
    if find_spec("torchmetrics"):
        from torchmetrics.functional.classification import multiclass_calibration_error

        runs["ECE, 15 bins"]["torchmetrics"] = lambda: float(
            multiclass_calibration_error(chance, labels, num_classes=classes, n_bins=15, norm="l1")
        )
    if find_spec("calibration"):
        import calibration.utils as kumar

        numbers, answers = chance.numpy(), labels.numpy()
        runs["ECE, 15 bins"]["uncertainty-calibration"] = lambda: float(kumar.get_ece(numbers, answers))
        right = numbers.argmax(-1) == answers
        runs["debiased squared, 10 bins"]["uncertainty-calibration"] = lambda: float(
            kumar.unbiased_square_ce(kumar.equal_bin(list(zip(numbers.max(-1), right, strict=True)), 10))
        )
    held = True
    for what, contestants in runs.items():
        found = {name: timed(run, repeat) for name, run in contestants.items()}
        for name, (value, seconds) in found.items():
            print(f"{what:27}{name:28}{seconds:9.4f}{value:11.6f}", flush=True)
        # In float64 no probability is on an edge; torchmetrics finds bins in float32.
        held &= all(abs(value - found["softplace"][0]) < 1e-6 for value, _ in found.values())
    mine, seconds = timed(lambda: torch.softmax(output.fit_isotonic(logits, labels)(logits), -1), repeat)

    def theirs() -> np.ndarray:
        frozen = FrozenEstimator(Probabilities().fit(logits.numpy(), labels.numpy()))
        fitted = CalibratedClassifierCV(frozen, method="isotonic", ensemble=False).fit(logits.numpy(), labels.numpy())
        return np.asarray(fitted.predict_proba(logits.numpy()))

    other, other_seconds = timed(theirs, repeat)
    apart = float(np.abs(mine.numpy() - other).max())
    print(f"{'isotonic, fit and apply':27}{'softplace':28}{seconds:9.4f}")
    print(f"{'':27}{'scikit-learn':28}{other_seconds:9.4f}   largest difference {apart:.1e}", flush=True)
    return held and apart < 1e-6


def sets(rows: int, classes: int, repeat: int) -> bool:
    """A table of prediction sets at 90 %; whether ours cover."""
    logits, labels = sample(2 * rows, classes, scale=1.0)
    chance = torch.softmax(logits, -1)
    print(f"\n{rows:,} rows, {classes} classes, 90 %{'':25}{'CPU s':>9}{'coverage':>10}{'size':>9}")
    held = True
    for name in ("lac", "aps", "raps"):

        def ours(name: str = name) -> Tensor:
            source = torch.Generator().manual_seed(0)
            found = output.fit_sets(chance[:rows], labels[:rows], score=name, generator=source)
            return found(chance[rows:], generator=source)

        found: dict[str, tuple[Any, float]] = {"softplace": timed(ours, repeat)}
        if find_spec("mapie") and name != "raps":  # its RAPS keeps rows back to choose the penalty
            found["MAPIE"] = timed(lambda name=name: mapie_sets(logits, labels, rows, name), repeat)
        for who, (inside, seconds) in found.items():
            covered = float(output.coverage(inside, labels[rows:]))
            size = float(inside.sum(-1).double().mean())
            print(f"{name:27}{who:28}{seconds:9.4f}{covered:10.4f}{size:9.3f}", flush=True)
        # 4 standard deviations: of the threshold and of the new rows
        held &= abs(float(output.coverage(found["softplace"][0], labels[rows:])) - 0.9) < 4 * (2 * 0.09 / rows) ** 0.5
    return held


def mapie_sets(logits: Tensor, labels: Tensor, rows: int, name: str) -> Tensor:
    from mapie.classification import SplitConformalClassifier

    numbers, answers = logits.numpy(), labels.numpy()
    model = Probabilities().fit(numbers[:rows], answers[:rows])
    split = SplitConformalClassifier(model, confidence_level=0.9, conformity_score=name, prefit=True, random_state=0)
    split.conformalize(numbers[:rows], answers[:rows])
    return torch.from_numpy(split.predict_set(numbers[rows:])[1][..., 0])


def main() -> int:
    """1 where a value is wrong, or another fit is better."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    parser.add_argument("--repeat", type=int, default=3, help="turns of each; the best counts")
    arguments = parser.parse_args()
    before, few = torch.get_num_threads(), arguments.quick
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Since FrozenEstimator does not appear")
    print(f"one thread, torch {torch.__version__}, float64")
    held = True
    for rows, classes in ((5_000, 10),) if few else ((10_000, 10), (50_000, 10), (5_000, 100)):
        held &= calibrators(rows, classes, arguments.repeat)
    held &= errors(5_000 if few else 50_000, 10, arguments.repeat)
    held &= sets(2_000 if few else 20_000, 10, arguments.repeat)
    torch.set_num_threads(before)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())

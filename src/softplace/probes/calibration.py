"""Are predicted probabilities right? Calibration error, Brier score, likelihood, accuracy, entropy.

Axis legend: `...` leading axes (members of a fleet, ...), N examples, C classes.
Everything is computed in float64 and carries no gradient; NaN in gives NaN for that leading index alone.
Labels may lack leading axes: (N,) serves all members of logits (M, N, C).
"""

import torch
from torch import Tensor

from softplace.probes._tensors import prepare


@torch.no_grad()
def expected_calibration_error(probabilities: Tensor, labels: Tensor, *, bins: int = 15) -> Tensor:
    """Expected calibration error of the predicted class: the mean gap between confidence and accuracy.

    `sum_m |B_m| / N * |accuracy(B_m) - confidence(B_m)|`, B_m the examples whose largest probability lies in
    `((m - 1) / bins, m / bins]`.

    Args:
        probabilities: (..., N, C), each row sums to one.
        labels: Classes, integer, (..., N) or broadcastable to it.
        bins: Number of bins of equal width, closed on the right.

    Returns:
        (...) in float64, between 0 and 1.

    Raises:
        TypeError: `probabilities` is not a floating-point tensor, or `labels` is not an integer one.
        ValueError: a tensor is empty or has the wrong shape; a label is not in 0..C-1; a row is not a distribution;
            `bins` is not a positive integer.

    Source: Guo et al. 2017 (arXiv:1706.04599), eq. 3; 15 bins as in their table 1. We find the bin in the dtype of
    `probabilities`, so that a float32 probability of 0.2 is not above 3/15, and compute the rest in float64.
    The estimate has a positive bias for few examples per bin: compare it at equal N.

    >>> import torch
    >>> probabilities = torch.tensor([[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [0.5, 0.5]])
    >>> expected_calibration_error(probabilities, torch.tensor([0, 0, 1, 1])).item()
    0.3125
    """
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ValueError(f"'bins' of expected_calibration_error must be a positive integer. Got {bins!r}. Use e.g. 15.")
    values = _distributions("expected_calibration_error", "probabilities", probabilities)
    classes = _classes("expected_calibration_error", labels, values)
    confidence, predicted = values.max(-1)
    edges = torch.arange(1, bins, dtype=torch.float64, device=values.device) / bins
    index = torch.bucketize(confidence, edges.to(probabilities.dtype).double())
    # |B_m| / N * |accuracy - confidence| is the absolute value of the summed differences, over N.
    difference = (predicted == classes).double() - confidence
    sums = torch.zeros(*confidence.shape[:-1], bins, dtype=torch.float64, device=values.device)
    return sums.scatter_add(-1, index, difference).abs().sum(-1) / confidence.shape[-1]


@torch.no_grad()
def brier_score(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Brier score of all classes: the mean squared distance to the one-hot label.

    `mean_n sum_c (p_nc - [c = y_n])^2`.

    Args, Raises: as `expected_calibration_error`.

    Returns:
        (...) in float64, between 0 (certain and right) and 2 (certain and wrong).

    Source: Brier 1950, eq. 2, the original form with the sum over classes; for two classes it is twice the
    one-probability form that many packages give.

    >>> import torch
    >>> brier_score(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([0, 1])).item()
    1.25
    """
    values = _distributions("brier_score", "probabilities", probabilities)
    classes = _classes("brier_score", labels, values)
    truth = classes[..., None] == torch.arange(values.shape[-1], device=values.device)
    return (values - truth.double()).square().sum(-1).mean(-1)


@torch.no_grad()
def negative_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of the labels under softmax.

    `mean_n (ln sum_c exp(l_nc) - l_{n, y_n})`.

    Args:
        logits: (..., N, C). A logit of -inf excludes a class; +inf gives NaN.
        labels: Classes, integer, (..., N) or broadcastable to it.

    Returns:
        (...) in float64, in nats.

    Raises:
        TypeError: `logits` is not a floating-point tensor, or `labels` is not an integer one.
        ValueError: a tensor is empty or has the wrong shape; a label is not in 0..C-1.

    >>> import torch
    >>> round(negative_log_likelihood(torch.zeros(5, 4), torch.tensor([0, 1, 2, 3, 0])).item(), 6)
    1.386294
    """
    values = prepare("negative_log_likelihood", "logits", logits, "N, C")
    classes = _classes("negative_log_likelihood", labels, values)
    return -torch.log_softmax(values, -1).gather(-1, classes[..., None]).squeeze(-1).mean(-1)


@torch.no_grad()
def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of examples whose largest logit (or probability) is the label's.

    `mean_n [argmax_c l_nc = y_n]`; of equal logits the first counts.

    Args, Raises: as `negative_log_likelihood`.

    Returns:
        (...) in float64, between 0 and 1; NaN where the logits hold a NaN.

    >>> import torch
    >>> accuracy(torch.tensor([[0.0, 1.0], [2.0, 1.0]]), torch.tensor([1, 1])).item()
    0.5
    """
    values = prepare("accuracy", "logits", logits, "N, C")
    classes = _classes("accuracy", labels, values)
    right = (values.argmax(-1) == classes).double().mean(-1)
    return torch.where(values.isnan().any(-1).any(-1), torch.nan, right)


@torch.no_grad()
def entropy(weights: Tensor, dim: int = -1) -> Tensor:
    """Shannon entropy of weights, `-sum_i w_i ln w_i`, with `0 ln 0 = 0`.

    Args:
        weights: Weights between 0 and 1, any shape. They need not sum to one: a masked row of zeros has entropy 0.
        dim: The axis to sum over.

    Returns:
        The shape of `weights` without `dim`, in float64, in nats: between 0 and ln n for weights that sum to one.

    Raises:
        TypeError: `weights` is not a floating-point tensor.
        ValueError: it is empty or has no axes, or holds a number below 0 or above 1; `dim` does not exist.

    Source: Shannon 1948, section 6. We use natural logarithms.

    >>> import torch
    >>> [round(value, 6) for value in entropy(torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.0, 1.0, 0.0, 0.0]])).tolist()]
    [1.386294, 0.0]
    """
    values = prepare("entropy", "weights", weights, "N")
    if not -values.ndim <= dim < values.ndim:
        raise ValueError(
            f"'dim' of entropy must be in {-values.ndim}..{values.ndim - 1} for weights of shape "
            f"{tuple(values.shape)}. Got {dim}. Use -1 for the last axis."
        )
    _check_range("entropy", "weights", values)
    # Rounding can leave a weight of 1 slightly above it, where -w ln w would be below zero.
    terms: Tensor = torch.special.entr(values.clamp(max=1.0))
    return terms.sum(dim)


def _check_range(probe: str, name: str, values: Tensor) -> None:
    """Refuse numbers that are no probabilities; NaN passes, and 1e-2 allows for the rounding of bfloat16."""
    if ((values < 0) | (values > 1.01)).any():
        numbers = values[~values.isnan()]
        smallest, largest = numbers.min().item(), numbers.max().item()
        raise ValueError(
            f"'{name}' of {probe} must lie between 0 and 1. Got numbers from {smallest:g} to {largest:g}. "
            "Apply softmax if these are logits."
        )


def _distributions(probe: str, name: str, probabilities: Tensor) -> Tensor:
    values = prepare(probe, name, probabilities, "N, C")
    _check_range(probe, name, values)
    error = (values.sum(-1) - 1).abs()
    if (error > 0.01).any():
        worst = values.sum(-1).flatten()[error.flatten().nan_to_num(0.0).argmax()].item()
        raise ValueError(
            f"'{name}' of {probe} must sum to 1 over the last axis. Got a row with the sum {worst:g}. "
            "Divide by the sum, or check which axis holds the classes."
        )
    return values


def _classes(probe: str, labels: Tensor, values: Tensor) -> Tensor:
    """Check the labels and broadcast them to the leading axes of `values` (..., N, C)."""
    integer = isinstance(labels, Tensor) and not (
        labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool
    )
    if not integer:
        got = f"a tensor of {labels.dtype}" if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"'labels' of {probe} must be an integer tensor. Got {got}. Use labels.long().")
    try:
        classes = labels.long().expand(values.shape[:-1])
    except RuntimeError:
        raise ValueError(
            f"'labels' of {probe} must broadcast to {tuple(values.shape[:-1])}. Got {tuple(labels.shape)}. "
            "Give one class per example."
        ) from None
    count = values.shape[-1]
    if ((classes < 0) | (classes >= count)).any():
        raise ValueError(
            f"'labels' of {probe} must be classes from 0 to {count - 1}. Got labels from {int(classes.min())} to "
            f"{int(classes.max())}. Leave out the examples to ignore."
        )
    return classes

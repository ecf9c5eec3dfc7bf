"""Are predicted probabilities good? Brier score, likelihood, accuracy, entropy.

Axis legend: `...` leading axes (members of a fleet, ...), N examples, C classes.
Everything is computed in float64 and carries no gradient; NaN in gives NaN for that leading index alone.
Labels may lack leading axes: (N,) serves all members of logits (M, N, C).
"""

import torch
from torch import Tensor

from softplace.probes._distributions import check_range, classes_of, distributions
from softplace.probes._tensors import prepare


@torch.no_grad()
def brier_score(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Brier score of all classes: the mean squared distance to the one-hot label.

    `mean_n sum_c (p_nc - [c = y_n])^2`.

    Args:
        probabilities: (..., N, C), each row sums to one.
        labels: Classes, integer, (..., N) or broadcastable to it.

    Returns:
        (...) in float64, between 0 (certain and right) and 2 (certain and wrong).

    Raises:
        TypeError: `probabilities` is not a floating-point tensor, or `labels` is not an integer one.
        ValueError: a tensor is empty or has the wrong shape; a label is not in 0..C-1; a row is not a distribution.

    Source: Brier 1950, eq. 2, the original form with the sum over classes; for two classes it is twice the
    one-probability form that many packages give.

    >>> import torch
    >>> brier_score(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([0, 1])).item()
    1.25
    """
    values = distributions("brier_score", "probabilities", probabilities)
    classes = classes_of("brier_score", labels, values)
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
    classes = classes_of("negative_log_likelihood", labels, values)
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
    classes = classes_of("accuracy", labels, values)
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
    check_range("entropy", "weights", values)
    # Rounding can leave a weight of 1 slightly above it, where -w ln w would be below zero.
    terms: Tensor = torch.special.entr(values.clamp(max=1.0))
    return terms.sum(dim)

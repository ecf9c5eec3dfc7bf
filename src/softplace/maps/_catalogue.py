"""What is known of every map, as data: the table of `softplace maps` and docs/maps.md are made from it.

All properties are those of the map with its options as they come and a temperature of 1. Each is tried on random scores
by tests/maps/test_registry.py, and so is each constant.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from softplace.maps.activations import gelu, identity, relu, sigmoid, solu, tanh
from softplace.maps.alternatives import (
    periodic,
    relu_normalised,
    sigmoid_normalised,
    sigsoftmax,
    softpick,
    taylor_softmax,
)
from softplace.maps.doubly_stochastic import sinkhorn
from softplace.maps.selection import hardmax, k_subset, normmax, topk_softmax, uniform
from softplace.maps.simplex import gumbel_softmax, log_softmax, softmax, softmax1
from softplace.maps.sparse import entmax, entmax15, sparsemax


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of one map.

    Attributes:
        function: The map.
        formula: One weight at temperature 1, `s` the scores of a row and `n` their number.
        image: The weights that some finite scores give.
        gradient: The Jacobian `J_ij = dp_i / ds_j`, or the derivative of a map that acts on each entry alone.
        simplex: No weight is negative, and the weights of a row sum to 1.
        sparse: Some open set of finite scores gives exact zeros (rounding aside: a softmax may underflow).
        shift_invariant: A constant added to a row changes nothing.
        order_preserving: `s_i > s_j` implies `p_i >= p_j`, for all scores.
        lipschitz: The smallest L with `||p(s) - p(s')|| <= L ||s - s'||` in the 2-norm, for rows of every size, or
            `None` where there is none.
        constant: Where L is reached, or why there is none.
        reference: Where it is from.
    """

    function: Callable[..., Tensor]
    formula: str
    image: str
    gradient: str
    simplex: bool
    sparse: bool
    shift_invariant: bool
    order_preserving: bool
    lipschitz: float | None
    constant: str
    reference: str

    @property
    def name(self) -> str:
        """The name in the registry."""
        return self.function.__name__

    @property
    def module(self) -> str:
        """The class of `softplace.maps.modules` that holds its options."""
        return "".join(part[0].upper() + part[1:] for part in self.name.split("_"))

    def facts(self) -> dict[str, str | bool | float | None]:
        """Everything but the function, in the order of a page."""
        kept = ("formula", "image", "gradient", *PROPERTIES, "lipschitz", "constant", "reference")
        return {"name": self.name, "module": self.module} | {each: getattr(self, each) for each in kept}


PROPERTIES = {
    "simplex": "simplex",
    "sparse": "sparse",
    "shift_invariant": "shift",
    "order_preserving": "order",
}
"""The fields that are true or false, and the head of their column."""

ENTRIES = (
    Entry(
        function=softmax,
        formula="p_i = exp(s_i) / sum_j exp(s_j)",
        image="the interior of the simplex",
        gradient="diag(p) - p p^T",
        simplex=True,
        sparse=False,
        shift_invariant=True,
        order_preserving=True,
        lipschitz=0.5,
        constant="where two entries have weight 1/2 each (Nair 2025, arXiv:2510.23012)",
        reference="Bridle 1990",
    ),
    Entry(
        function=log_softmax,
        formula="p_i = s_i - log sum_j exp(s_j)",
        image="the logarithms of the interior of the simplex",
        gradient="I - 1 softmax(s)^T",
        simplex=False,
        sparse=False,
        shift_invariant=True,
        order_preserving=True,
        lipschitz=None,
        constant="sqrt(n) ||softmax(s)||, which tends to sqrt(n) as one weight tends to 1",
        reference="Bridle 1990",
    ),
    Entry(
        function=softmax1,
        formula="p_i = exp(s_i) / (1 + sum_j exp(s_j)); 1 = exp(sink) of a sink of 0",
        image="positive weights that sum to less than 1",
        gradient="diag(p) - p p^T",
        simplex=False,
        sparse=False,
        shift_invariant=False,
        order_preserving=True,
        lipschitz=0.5,
        constant="the limit where two entries share all the weight and both grow",
        reference="Miller 2023 (Attention Is Off By One); Xiao et al. 2023, arXiv:2309.17453",
    ),
    Entry(
        function=gumbel_softmax,
        formula="p = softmax(s + g), g_i independent and of the standard Gumbel distribution",
        image="the interior of the simplex; its corners where hard",
        gradient="diag(p) - p p^T; that of the soft weights where hard",
        simplex=True,
        sparse=False,
        shift_invariant=True,
        order_preserving=False,
        lipschitz=0.5,
        constant="for the same noise: where two entries have weight 1/2 each; none where hard",
        reference="Jang, Gu and Poole 2017, arXiv:1611.01144; Maddison, Mnih and Teh 2017, arXiv:1611.00712",
    ),
    Entry(
        function=sparsemax,
        formula="p_i = max(s_i - tau, 0), tau such that sum_i p_i = 1",
        image="the simplex",
        gradient="diag(u) - u u^T / sum_i u_i, u_i = 1 where p_i > 0, else 0",
        simplex=True,
        sparse=True,
        shift_invariant=True,
        order_preserving=True,
        lipschitz=1.0,
        constant="wherever two or more weights are positive: it is a projection",
        reference="Martins and Astudillo 2016, arXiv:1602.02068",
    ),
    Entry(
        function=entmax15,
        formula="p_i = max(s_i / 2 - tau, 0)^2, tau such that sum_i p_i = 1",
        image="the simplex",
        gradient="diag(u) - u u^T / sum_i u_i, u_i = sqrt(p_i)",
        simplex=True,
        sparse=True,
        shift_invariant=True,
        order_preserving=True,
        lipschitz=1.0,
        constant="the limit of long rows, one weight near 1 beside very many small ones; 0.71 for two entries",
        reference="Peters, Niculae and Martins 2019, arXiv:1905.05702",
    ),
    Entry(
        function=entmax,
        formula="p_i = max((alpha - 1) s_i - tau, 0)^(1 / (alpha - 1)), tau such that sum_i p_i = 1; alpha = 1.5",
        image="the simplex (its interior for alpha = 1)",
        gradient="diag(u) - u u^T / sum_i u_i, u_i = p_i^(2 - alpha) where p_i > 0, else 0",
        simplex=True,
        sparse=True,
        shift_invariant=True,
        order_preserving=True,
        lipschitz=1.0,
        constant="for 1 < alpha <= 2, as entmax15; 1/2 for alpha = 1; none above 2",
        reference="Peters, Niculae and Martins 2019, arXiv:1905.05702; "
        "Correia, Niculae and Martins 2019, arXiv:1909.00015 (learned alpha)",
    ),
    Entry(
        function=normmax,
        formula="p = argmax over the simplex of p . s - ||p||_alpha; alpha = 2",
        image="the simplex",
        gradient="||p|| (I - 1 p^T - p 1^T + m p p^T) on the m positive weights, else 0; alpha = 2",
        simplex=True,
        sparse=True,
        shift_invariant=True,
        order_preserving=True,
        lipschitz=None,
        constant="about n where n weights are positive and one is near 1",
        reference="Blondel, Martins and Niculae 2020, arXiv:1901.02324; Santos et al. 2024, arXiv:2402.13725",
    ),
    Entry(
        function=topk_softmax,
        formula="p_i = exp(s_i) / sum over the k largest of exp(s_j) where s_i is one of them, else 0; k = 2",
        image="the points of the simplex with k positive weights",
        gradient="diag(p) - p p^T",
        simplex=True,
        sparse=True,
        shift_invariant=True,
        order_preserving=True,
        lipschitz=None,
        constant="it jumps where the k-th largest score changes",
        reference="Shazeer et al. 2017, arXiv:1701.06538",
    ),
    Entry(
        function=hardmax,
        formula="p_i = 1 / m for the m entries at the maximum, else 0",
        image="the middle points of the faces of the simplex",
        gradient="0",
        simplex=True,
        sparse=True,
        shift_invariant=True,
        order_preserving=True,
        lipschitz=None,
        constant="it jumps where the largest score changes",
        reference="Merrill, Sabharwal and Smith 2022, arXiv:2106.16213 (saturated attention)",
    ),
    Entry(
        function=uniform,
        formula="p_i = 1 / n",
        image="the middle point of the simplex",
        gradient="0",
        simplex=True,
        sparse=False,
        shift_invariant=True,
        order_preserving=True,
        lipschitz=0.0,
        constant="everywhere",
        reference="the mean, as a control",
    ),
    Entry(
        function=k_subset,
        formula="p_i = min(max(s_i - tau, 0), 1), tau such that sum_i p_i = k; k = 2",
        image="weights in [0, 1] that sum to k",
        gradient="diag(u) - u u^T / sum_i u_i, u_i = 1 where 0 < p_i < 1, else 0",
        simplex=False,
        sparse=True,
        shift_invariant=True,
        order_preserving=True,
        lipschitz=1.0,
        constant="wherever two or more weights lie between 0 and 1: it is a projection",
        reference="Santos et al. 2024, arXiv:2402.13725",
    ),
    Entry(
        function=sinkhorn,
        formula="p_ij = exp(s_ij + u_i + v_j), u and v such that rows sum to 1, columns to rows / columns",
        image="the positive matrices with such sums: of a square one, the doubly stochastic ones",
        gradient="D - D A^T (A D A^T)^+ A D, D = diag(p), A the sums of rows and columns",
        simplex=True,
        sparse=False,
        shift_invariant=True,
        order_preserving=False,
        lipschitz=0.5,
        constant="of the whole matrix: where two rows share two columns with weights of 1/2",
        reference="Sinkhorn 1964; Mena et al. 2018, arXiv:1802.08665; Sander et al. 2022, arXiv:2110.11773",
    ),
    Entry(
        function=sigsoftmax,
        formula="p_i = exp(s_i) sigmoid(s_i) / sum_j exp(s_j) sigmoid(s_j)",
        image="the interior of the simplex",
        gradient="(diag(p) - p p^T) diag(2 - sigmoid(s))",
        simplex=True,
        sparse=False,
        shift_invariant=False,
        order_preserving=True,
        lipschitz=1.0,
        constant="the limit where two entries have weight 1/2 each and all scores fall",
        reference="Kanai et al. 2018, arXiv:1805.10829",
    ),
    Entry(
        function=taylor_softmax,
        formula="p_i = f(s_i) / sum_j f(s_j), f(x) = 1 + x + x^2 / 2 (up to x^order / order!; order = 2)",
        image="the interior of the simplex",
        gradient="(diag(p) - p p^T) diag(f'(s) / f(s))",
        simplex=True,
        sparse=False,
        shift_invariant=False,
        order_preserving=False,
        lipschitz=0.5,
        constant="order 2: where two entries are 0 and have weight 1/2 each (two entries in all)",
        reference="de Brebisson and Vincent 2016, arXiv:1511.05042",
    ),
    Entry(
        function=softpick,
        formula="p_i = max(exp(s_i) - 1, 0) / sum_j |exp(s_j) - 1|",
        image="weights that are not negative and sum to at most 1",
        gradient="(diag(u) - p v^T) / sum_j |exp(s_j) - 1|, u = exp(s) where s > 0, else 0, v = sign(s) exp(s)",
        simplex=False,
        sparse=True,
        shift_invariant=False,
        order_preserving=True,
        lipschitz=None,
        constant="grows like 1 / ||s|| towards scores of 0",
        reference="Zuhri, Fuadi and Aji 2025, arXiv:2504.20966",
    ),
    Entry(
        function=periodic,
        formula="p_i = sin(s_i + pi / 4)^2 / sum_j sin(s_j + pi / 4)^2",
        image="the simplex",
        gradient="(diag(f'(s)) - p f'(s)^T) / sum_j f(s_j), f(x) = sin(x + pi / 4)^2, f'(x) = cos(2 x)",
        simplex=True,
        sparse=False,
        shift_invariant=False,
        order_preserving=False,
        lipschitz=None,
        constant="grows without limit where every f(s_j) is near 0",
        reference="Wang, Liu and Liu 2021, arXiv:2108.07153",
    ),
    Entry(
        function=sigmoid_normalised,
        formula="p_i = sigmoid(s_i) / sum_j sigmoid(s_j)",
        image="the interior of the simplex",
        gradient="(diag(p) - p p^T) diag(1 - sigmoid(s))",
        simplex=True,
        sparse=False,
        shift_invariant=False,
        order_preserving=True,
        lipschitz=0.5,
        constant="the limit where two entries have weight 1/2 each and all scores fall",
        reference="DeepSeek-AI 2024, arXiv:2412.19437 (over selected experts)",
    ),
    Entry(
        function=relu_normalised,
        formula="p_i = max(s_i, 0) / n",
        image="weights that are not negative",
        gradient="1 / n where s_i > 0, else 0",
        simplex=False,
        sparse=True,
        shift_invariant=False,
        order_preserving=True,
        lipschitz=1.0,
        constant="1 / n for rows of n, so 1 for rows of one entry",
        reference="Wortsman et al. 2023, arXiv:2309.08586",
    ),
    Entry(
        function=identity,
        formula="a_i = s_i",
        image="all numbers",
        gradient="1",
        simplex=False,
        sparse=False,
        shift_invariant=False,
        order_preserving=True,
        lipschitz=1.0,
        constant="everywhere",
        reference="no activation, as a control",
    ),
    Entry(
        function=sigmoid,
        formula="a_i = 1 / (1 + exp(-s_i - bias)); bias = 0",
        image="(0, 1)",
        gradient="a_i (1 - a_i)",
        simplex=False,
        sparse=False,
        shift_invariant=False,
        order_preserving=True,
        lipschitz=0.25,
        constant="where s_i = -bias",
        reference="Ramapuram et al. 2024, arXiv:2409.04431 (in attention, with bias -log n)",
    ),
    Entry(
        function=tanh,
        formula="a_i = tanh(s_i)",
        image="(-1, 1)",
        gradient="1 - a_i^2",
        simplex=False,
        sparse=False,
        shift_invariant=False,
        order_preserving=True,
        lipschitz=1.0,
        constant="where s_i = 0",
        reference="LeCun et al. 1998 (Efficient BackProp)",
    ),
    Entry(
        function=relu,
        formula="a_i = max(s_i, 0)",
        image="[0, infinity)",
        gradient="1 where s_i > 0, else 0",
        simplex=False,
        sparse=True,
        shift_invariant=False,
        order_preserving=True,
        lipschitz=1.0,
        constant="where s_i > 0",
        reference="Nair and Hinton 2010",
    ),
    Entry(
        function=gelu,
        formula="a_i = s_i Phi(s_i), Phi the standard normal distribution function",
        image="[-0.170, infinity)",
        gradient="Phi(s_i) + s_i phi(s_i), phi the density",
        simplex=False,
        sparse=False,
        shift_invariant=False,
        order_preserving=False,
        lipschitz=1.1289042345421212,
        constant="where s_i = sqrt(2)",
        reference="Hendrycks and Gimpel 2016, arXiv:1606.08415",
    ),
    Entry(
        function=solu,
        formula="a_i = s_i exp(s_i) / sum_j exp(s_j)",
        image="vectors that are a point of the interior of the simplex times the scores",
        gradient="diag(p) + diag(s) (diag(p) - p p^T), p = softmax(s)",
        simplex=False,
        sparse=False,
        shift_invariant=False,
        order_preserving=False,
        lipschitz=None,
        constant="about |s| / 2 where two entries are equal and large",
        reference="Elhage et al. 2022 (Softmax Linear Units)",
    ),
)

"""Networks with categorical latent variables: an autoencoder, and a predictor of one half of an image from the other.

Axis legend: S samples, B batch, D pixels, N variables, K classes.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from softplace.errors import InputError
from softplace.latent import bounds
from softplace.latent.estimators import Estimate, get
from softplace.latent.estimators._parts import draw

ENUMERABLE = 2**20  # configurations times rows that `log_likelihood` looks at together
_ROOM = 2**24  # numbers of a decoder's output at a time


class LatentLoss(NamedTuple):
    """What a step trains on, per row.

    `surrogate` (B,): its mean is the loss to call `backward` on. `bound` (B,), detached: the ELBO (of a predictor: the
    mean of log p(y | z)), in nats. `divergence` (B,), detached: the exact KL. `estimate`: of the estimator.
    """

    surrogate: Tensor
    bound: Tensor
    divergence: Tensor
    estimate: Estimate


def network(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    sizes = (inputs, *hidden, outputs)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def configurations(variables: int, classes: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """All K**N ways of N one-hot variables, the last changing fastest: (K**N, N, K)."""
    numbers = torch.cartesian_prod(*[torch.arange(classes)] * variables).reshape(-1, variables)
    return one_hot(numbers, classes).to(dtype)


class CategoricalVAE(nn.Module):
    """A variational autoencoder with N latent variables of K classes each, and Bernoulli pixels.

    `q(z | x) = prod_n map(encoder(x))_n`, `p(z) = prod_n 1/K` (or learned), `p(x | z) = Bernoulli(decoder(z))`, and

    `log p(x) >= E_q[log p(x | z)] - KL(q(z | x) || p(z))` (Kingma and Welling 2014, equation 3; Jang et al. 2017).

    The divergence is exact, as of a categorical, also where samples are relaxed: then the bound is that of Jang et al.,
    which holds of samples of zero temperature only. `bound` and `log_likelihood` always draw one-hot samples.

    Args:
        pixels: D.
        variables, classes: N and K.
        hidden: Units of the layers between pixels and latent variables, of the encoder; the decoder has them backwards.
        learned_prior: `p(z)` has logits (N, K) that are learned.
        map: From logits to the weights of `q`: a name of `softplace.maps`. With another than softmax the estimator must
            be exact (`marginalise`).

    Raises:
        InputError: A size below 1, or an unknown map.
    """

    def __init__(
        self,
        pixels: int,
        *,
        variables: int = 20,
        classes: int = 10,
        hidden: tuple[int, ...] = (200,),
        learned_prior: bool = False,
        map: str = "softmax",  # noqa: A002 - the word of the field
    ) -> None:
        super().__init__()
        bounds.check_choice(map)
        self.map = map
        sizes = {"pixels": pixels, "variables": variables, "classes": classes} | _named(hidden)
        _check_sizes(sizes)
        self.pixels, self.variables, self.classes = pixels, variables, classes
        self.encoder = network(pixels, tuple(hidden), variables * classes)
        self.decoder = network(variables * classes, tuple(reversed(hidden)), pixels)
        self.prior = nn.Parameter(torch.zeros(variables, classes)) if learned_prior else None

    def encode(self, pixels: Tensor) -> Tensor:
        """Logits of the latent variables: (B, D) -> (B, N, K)."""
        _check_pixels(pixels, self.pixels, "pixels")
        logits: Tensor = self.encoder(pixels)
        return logits.view(*logits.shape[:-1], self.variables, self.classes)

    def decode(self, sample: Tensor) -> Tensor:
        """Logits of the pixels: (..., N, K) -> (..., D)."""
        logits: Tensor = self.decoder(sample.flatten(-2))
        return logits

    def loss(
        self, pixels: Tensor, estimator: str = "gumbel-softmax", *, free_bits: float = 0.0, **options: Any
    ) -> LatentLoss:
        """The negative ELBO with the estimator's gradient: `net.loss(x, "reinforce-loo", samples=4).surrogate.mean()`.

        Args:
            pixels: (B, D), from 0 to 1.
            estimator: A name of `softplace.latent.estimators`.
            free_bits: See `bounds.categorical_kl`.
            options: Of the estimator: `samples`, `temperature`, `generator`, ...

        Raises:
            InputError: Pixels beyond 0 and 1, or of another width; an unknown estimator, or one that cannot be used.
        """
        logits = self.encode(pixels)

        def cost(sample: Tensor) -> Tensor:
            return -bounds.bernoulli_log_prob(pixels, self.decode(sample))

        known = get(estimator)
        if known.needs_enumeration:
            options = {"map": self.map, "shared": True} | options
        elif self.map != "softmax":
            raise InputError(
                f"'estimator' must be exact for a posterior by {self.map}. Got {estimator}, which draws by softmax. "
                "Use marginalise."
            )
        found = known.function(logits, cost, **options)
        divergence = bounds.categorical_kl(logits, self.prior, map=self.map, free_bits=free_bits)
        surrogate = found.surrogate + divergence
        return LatentLoss(surrogate, -surrogate.detach(), divergence.detach(), found)

    @torch.no_grad()
    def bound(self, pixels: Tensor, *, samples: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """IWAE with so many one-hot samples (see `bounds.iwae`), (B,), in nats; with one, a sample of the ELBO."""
        if samples < 1:
            raise InputError(f"'samples' must be 1 or more. Got {samples}.")
        weights, posterior = bounds.weights_of(self.encode(pixels), self.map)
        prior = self._prior(posterior)
        parts = []
        for first in range(0, samples, most := max(1, _ROOM // max(1, pixels.numel()))):
            drawn = draw(weights, min(most, samples - first), generator, weights.dtype)
            likelihood = bounds.bernoulli_log_prob(pixels, self.decode(drawn))
            parts.append(likelihood + bounds.log_prob(drawn, prior) - bounds.log_prob(drawn, posterior))
        return bounds.iwae(torch.cat(parts))

    @torch.no_grad()
    def elbo(self, pixels: Tensor, *, samples: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """The ELBO with the exact divergence and the mean over one-hot samples, (B,), in nats."""
        logits = self.encode(pixels)
        drawn = draw(bounds.weights_of(logits, self.map)[0], samples, generator, logits.dtype)
        likelihood = bounds.bernoulli_log_prob(pixels, self.decode(drawn)).mean(0)
        return likelihood - bounds.categorical_kl(logits, self.prior, map=self.map)

    @torch.no_grad()
    def log_likelihood(self, pixels: Tensor) -> Tensor:
        """`log p(x) = log sum_z p(z) p(x | z)` over all K**N configurations, (B,), in nats.

        Raises:
            InputError: There are too many of them; `bound` with many samples comes near.
        """
        _check_pixels(pixels, self.pixels, "pixels")
        if self.classes**self.variables > ENUMERABLE:
            raise InputError(
                f"'log_likelihood' needs at most {ENUMERABLE:,} configurations. Got {self.classes}**{self.variables}. "
                "Use bound(pixels, samples=1000), which is a lower bound."
            )
        total = pixels.new_full(pixels.shape[:1], -math.inf)
        weight = next(self.parameters())
        ways = configurations(self.variables, self.classes, dtype=weight.dtype).to(weight.device)
        for part in torch.split(ways, max(1, _ROOM // max(1, pixels.numel()))):
            likelihood = bounds.bernoulli_log_prob(pixels, self.decode(part).unsqueeze(1))  # (S, B), decoded once
            chances = bounds.log_prob(part, self._prior(part)).unsqueeze(-1)
            total = torch.logaddexp(total, torch.logsumexp(likelihood + chances, 0))
        return total

    @torch.no_grad()
    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Means of the pixels of so many latent draws of the prior: (count, D), from 0 to 1."""
        weight = next(self.parameters())
        return torch.sigmoid(self.decode(draw(self._prior(weight).exp(), count, generator, weight.dtype)))

    def _prior(self, like: Tensor) -> Tensor:
        """Logarithms of the prior's weights, (N, K)."""
        logits = like.new_zeros(self.variables, self.classes) if self.prior is None else self.prior
        return torch.log_softmax(logits, -1)


class CategoricalPredictor(nn.Module):
    """A stochastic network: outputs from inputs by way of layers of categorical variables.

    `p(y | x) = sum_z p(y | z_L) p(z_L | z_{L-1}) ... p(z_1 | x)`, trained by `E log p(y | z_L)`, a bound on
    log p(y | x): the structured prediction of Jang et al. 2017, section 4.1.

    Args:
        inputs, outputs: Numbers of each, as the upper and the lower half of an image.
        variables, classes: N and K, of every layer.
        layers: L, of latent variables.

    Raises:
        InputError: A size below 1.
    """

    def __init__(self, inputs: int, outputs: int, *, variables: int = 20, classes: int = 10, layers: int = 2) -> None:
        super().__init__()
        _check_sizes(
            {"inputs": inputs, "outputs": outputs, "variables": variables, "classes": classes, "layers": layers}
        )
        self.inputs, self.outputs, self.variables, self.classes = inputs, outputs, variables, classes
        width = variables * classes
        self.layers = nn.ModuleList([nn.Linear(inputs if place == 0 else width, width) for place in range(layers)])
        self.readout = nn.Linear(width, outputs)

    def logits(self, layer: int, before: Tensor) -> Tensor:
        """Of a layer, from the inputs or the flat sample of the layer before: (..., inputs) -> (..., N, K)."""
        found: Tensor = self.layers[layer](before)
        return found.view(*found.shape[:-1], self.variables, self.classes)

    def loss(self, inputs: Tensor, targets: Tensor, estimator: str = "gumbel-softmax", **options: Any) -> LatentLoss:
        """`-E log p(y | z)` with the estimator's gradient; every layer's loss is the surrogate of the next.

        Args:
            inputs: (B, inputs).
            targets: (B, outputs), from 0 to 1.
            estimator, options: As of `CategoricalVAE.loss`.
        """
        _check_width(inputs, self.inputs, "inputs")
        _check_pixels(targets, self.outputs, "targets")
        found = self._estimate(0, inputs, targets, estimator, options)
        bound = -found.surrogate.detach()
        return LatentLoss(found.surrogate, bound, torch.zeros_like(bound), found)

    def _estimate(
        self, layer: int, before: Tensor, targets: Tensor, estimator: str, options: Mapping[str, Any]
    ) -> Estimate:
        def cost(sample: Tensor) -> Tensor:
            flat = sample.flatten(-2)
            if layer + 1 == len(self.layers):
                return -bounds.bernoulli_log_prob(targets, self.readout(flat))
            return self._estimate(layer + 1, flat, targets, estimator, options).surrogate

        return get(estimator).function(self.logits(layer, before), cost, **options)

    @torch.no_grad()
    def bound(
        self, inputs: Tensor, targets: Tensor, *, samples: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """`log 1/S sum_s p(y | z_s)`, z_s of p(z | x), (B,), in nats: in the mean at most log p(y | x)."""
        _check_width(inputs, self.inputs, "inputs")
        _check_pixels(targets, self.outputs, "targets")
        parts = []
        for first in range(0, samples, most := max(1, _ROOM // max(1, targets.numel()))):
            flat = inputs.expand(min(most, samples - first), *inputs.shape)
            for layer in range(len(self.layers)):
                weights = torch.softmax(self.logits(layer, flat), -1)
                flat = draw(weights, 1, generator, weights.dtype)[0].flatten(-2)
            parts.append(bounds.bernoulli_log_prob(targets, self.readout(flat)))
        return bounds.iwae(torch.cat(parts))


def perplexity(weights: Tensor) -> Tensor:
    """How many classes a variable uses over a batch: `exp H(mean_b q_bn)`, from 1 to K: (B, N, K) -> (N,).

    The code perplexity of van den Oord et al. 2017: 1 is a variable that always says the same.
    """
    shares = weights.double().mean(0)
    entropy: Tensor = torch.special.entr(shares).sum(-1)
    return entropy.exp()


def _named(hidden: tuple[int, ...]) -> dict[str, int]:
    return {f"hidden[{place}]": each for place, each in enumerate(hidden)}


def _check_sizes(sizes: Mapping[str, int]) -> None:
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name!r} must be a whole number of 1 or more. Got {value!r}.")


def _check_width(values: Tensor, width: int, name: str) -> None:
    if values.ndim < 2 or values.shape[-1] != width:
        raise InputError(f"{name!r} must be (B, {width}). Got shape {tuple(values.shape)}.")


def _check_pixels(pixels: Tensor, width: int, name: str) -> None:
    """Numbers from 0 to 1, as a Bernoulli decoder needs. NaN is let through to where it is seen: the loss."""
    _check_width(pixels, width, name)
    if torch.compiler.is_compiling() or not pixels.numel():
        return
    low, high = torch.stack(torch.aminmax(pixels)).tolist()
    if low < 0 or high > 1:
        raise InputError(
            f"{name!r} must be from 0 to 1, as Bernoulli pixels are. Got from {low:g} to {high:g}. "
            "Divide by the largest, or binarise: (pixels > threshold).float()."
        )

"""What the latent contest claims of softmax: measure, rivals and region of each, fixed before any score is seen."""

from softplace.study.contests._report import Claim
from softplace.study.contests.latent_arms import BIASED, DETERMINISTIC, GAUSSIAN, UNBIASED

SPARSE = ("sparsemax", "entmax15")
HIGHLIGHT = ("softmax", "Gumbel-softmax", "DisARM", DETERMINISTIC)
REGION = 0.2
"""Nats an image: means that are apart by less are practically the same."""

CLAIMS = (
    Claim(
        key="sampling",
        title="1. Sampling: is a sample of the weights needed, or do the weights do?",
        text="Softmax inside the network models a choice: trained with the weights themselves instead of samples of "
        "them, the bound of the choice is worse.",
        metric="loss",
        region=REGION,
        references=("goodfellow2016", "jang2017"),
        against=(DETERMINISTIC,),
        says="better",
        unit="nats",
        verb="has a negative ELBO",
    ),
    Claim(
        key="unbiased",
        title="2. Unbiased estimates: does the exact gradient of softmax train better?",
        text="The exact gradient trains softmax better than unbiased estimates of it.",
        metric="loss",
        region=REGION,
        references=("williams1992", "mnih2014", "tucker2017", "grathwohl2018", "yin2019", "dong2021"),
        against=UNBIASED,
        says="better",
        unit="nats",
        verb="has a negative ELBO",
    ),
    Claim(
        key="biased",
        title="3. Biased estimates: does the exact gradient of softmax train better?",
        text="The exact gradient trains softmax better than biased estimates of it.",
        metric="loss",
        region=REGION,
        references=("jang2017", "maddison2017", "bengio2013", "paulus2021"),
        against=BIASED,
        says="better",
        unit="nats",
        verb="has a negative ELBO",
    ),
    Claim(
        key="sparse",
        title="4. Sparsity: is softmax needed, or does a sparse map do?",
        text="Softmax is needed: with a sparse map, by its exact gradient, the bound is worse.",
        metric="loss",
        region=REGION,
        references=("correia2020", "martins2016"),
        against=SPARSE,
        says="better",
        unit="nats",
        verb="has a negative ELBO",
    ),
    Claim(
        key="codes",
        title="5. Codes: does softmax use more classes than a sparse map?",
        text="Softmax uses more of its classes than a sparse map.",
        metric="perplexity",
        region=0.1,
        references=("correia2020",),
        against=SPARSE,
        says="better",
        unit="classes",
        verb="uses",
        without=(GAUSSIAN,),
    ),
    Claim(
        key="gaussian",
        title="6. Continuity: does a normal latent variable do better?",
        text="Three choices of four say less of an image than six normal numbers: with these the likelihood is better.",
        metric="nll",
        region=REGION,
        references=("kingma2014",),
        against=(GAUSSIAN,),
        says="worse",
        unit="nats",
        verb="has a negative log-likelihood",
    ),
)

BEATEN = ("NVIL", "straight-through", "straight-through Gumbel")
"""What Gumbel-softmax is better than in Table 1 of Jang et al. 2017; of DARN and MuProp there are none here."""
PRINTED = {
    "autoencoder": {
        "NVIL": 110.6,
        "straight-through": 110.9,
        "Gumbel-softmax": 101.5,
        "straight-through Gumbel": 107.8,
    },
    "predictor": {
        "NVIL": 73.1,
        "straight-through": 61.8,
        "Gumbel-softmax": 59.0,
        "straight-through Gumbel": 59.7,
    },
}
"""By task: nats that Table 1 prints for MNIST, of one run each; "SF" there is NVIL."""


def _table(key: str, number: int, network: str, metric: str, verb: str) -> Claim:
    return Claim(
        key=key,
        title=f"{number}. Table 1 of Jang et al. 2017, the {network}: does Gumbel-softmax do best?",
        text=f"With 20 variables of 10 classes Gumbel-softmax trains the {network} better than NVIL and "
        "straight-through estimators do.",
        metric=metric,
        region=0.5,
        references=("jang2017", "mnih2014", "bengio2013"),
        subject="Gumbel-softmax",
        against=BEATEN,
        says="better",
        unit="nats",
        verb=verb,
    )


TABLE = {
    "autoencoder": _table("table-autoencoder", 7, "autoencoder", "loss", "has a negative ELBO"),
    "predictor": _table("table-predictor", 8, "predictor", "nll", "has a negative log-likelihood"),
}
"""By task, of the full preset."""

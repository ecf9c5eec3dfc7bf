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

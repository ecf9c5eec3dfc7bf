"""What was published on categorical latent variables. A finding is printed only where its text or abstract was read."""

from dataclasses import replace

from softplace.report.records import Reference
from softplace.study.contests._report import arxiv, reference


def unread(key: str, authors: str, title: str, year: int, where: str, url: str | None) -> Reference:
    """A publication of which neither was read: no finding is printed."""
    return replace(reference(key, authors, title, year, where, "", url), verified=False)


REFERENCES = {
    each.key: each
    for each in (
        reference(
            "goodfellow2016",
            "Goodfellow, Bengio, Courville",
            "Deep Learning",
            2016,
            "MIT Press, section 6.2.2.3",
            "Softmax is most often an output; inside a model it serves where the model itself is to choose one of n "
            "options for an internal variable.",
            "https://www.deeplearningbook.org",
        ),
        reference(
            "jang2017",
            "Jang, Gu, Poole",
            "Categorical Reparameterization with Gumbel-Softmax",
            2017,
            "ICLR, arXiv:1611.01144",
            "Table 1, MNIST, one run each and no interval, negative ELBO of a categorical autoencoder: score function "
            "110.6, DARN 128.8, MuProp 107.0, straight-through 110.9, Gumbel-softmax 101.5, straight-through Gumbel "
            "107.8.",
            arxiv("1611.01144"),
        ),
        reference(
            "correia2020",
            "Correia, Niculae, Aziz, Martins",
            "Efficient Marginalization of Discrete and Structured Latent Variables via Sparsity",
            2020,
            "NeurIPS, arXiv:2007.01919",
            "Sparse maps leave few configurations, so that the sum over them is exact and cheap; good results in three "
            "tasks without any sampling.",
            arxiv("2007.01919"),
        ),
        reference(
            "dong2021",
            "Dong, Mnih, Tucker",
            "Coupled Gradient Estimators for Discrete Latent Variables",
            2021,
            "NeurIPS, arXiv:2106.08056",
            "Categorical variables as sequences of binary ones, in antithetic pairs, give the best unbiased gradients "
            "in their experiments; earlier ones (ARSM) are behind REINFORCE with a leave-one-out baseline.",
            arxiv("2106.08056"),
        ),
        reference(
            "yin2019",
            "Yin, Yue, Zhou",
            "ARSM: Augment-REINFORCE-Swap-Merge Estimator for Gradient Backpropagation Through Categorical Variables",
            2019,
            "ICML, arXiv:1905.01413",
            "An unbiased estimate of low variance, by swapped variables that share their random numbers.",
            arxiv("1905.01413"),
        ),
        unread(
            "williams1992",
            "Williams",
            "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning",
            1992,
            "Machine Learning 8",
            "https://doi.org/10.1007/BF00992696",
        ),
        unread(
            "mnih2014",
            "Mnih, Gregor",
            "Neural Variational Inference and Learning in Belief Networks",
            2014,
            "ICML, arXiv:1402.0030",
            arxiv("1402.0030"),
        ),
        unread(
            "tucker2017",
            "Tucker et al.",
            "REBAR: Low-variance, unbiased gradient estimates for discrete latent variable models",
            2017,
            "NIPS, arXiv:1703.07370",
            arxiv("1703.07370"),
        ),
        unread(
            "grathwohl2018",
            "Grathwohl et al.",
            "Backpropagation through the Void: Optimizing control variates for black-box gradient estimation",
            2018,
            "ICLR, arXiv:1711.00123",
            arxiv("1711.00123"),
        ),
        unread(
            "maddison2017",
            "Maddison, Mnih, Teh",
            "The Concrete Distribution: A Continuous Relaxation of Discrete Random Variables",
            2017,
            "ICLR, arXiv:1611.00712",
            arxiv("1611.00712"),
        ),
        unread(
            "bengio2013",
            "Bengio, Léonard, Courville",
            "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation",
            2013,
            "arXiv:1308.3432",
            arxiv("1308.3432"),
        ),
        unread(
            "paulus2021",
            "Paulus, Maddison, Krause",
            "Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient Estimator",
            2021,
            "ICLR, arXiv:2010.04838",
            arxiv("2010.04838"),
        ),
        unread(
            "martins2016",
            "Martins, Astudillo",
            "From Softmax to Sparsemax: A Sparse Model of Attention and Multi-Label Classification",
            2016,
            "ICML, arXiv:1602.02068",
            arxiv("1602.02068"),
        ),
        unread(
            "kingma2014",
            "Kingma, Welling",
            "Auto-Encoding Variational Bayes",
            2014,
            "ICLR, arXiv:1312.6114",
            arxiv("1312.6114"),
        ),
        unread(
            "bouthillier2021",
            "Bouthillier et al.",
            "Accounting for Variance in Machine Learning Benchmarks",
            2021,
            "MLSys, arXiv:2103.03098",
            arxiv("2103.03098"),
        ),
    )
}

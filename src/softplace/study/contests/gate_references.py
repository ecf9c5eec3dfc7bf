"""What was published on gates of mixtures. A finding is printed only where its text or abstract was read."""

from softplace.study.contests._report import arxiv, reference
from softplace.study.contests.latent_references import REFERENCES as _LATENT
from softplace.study.contests.latent_references import unread

REFERENCES = {key: _LATENT[key] for key in ("goodfellow2016", "correia2020", "martins2016", "bouthillier2021")} | {
    each.key: each
    for each in (
        reference(
            "jacobs1991",
            "Jacobs, Jordan, Nowlan, Hinton",
            "Adaptive Mixtures of Local Experts",
            1991,
            "Neural Computation 3(1)",
            "The procedure divides a vowel discrimination task into subtasks, each of which a very simple expert "
            "network can solve.",
            "https://doi.org/10.1162/neco.1991.3.1.79",
        ),
        reference(
            "shazeer2017",
            "Shazeer, Mirhoseini, Maziarz, Davis, Le, Hinton, Dean",
            "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer",
            2017,
            "ICLR, arXiv:1701.06538",
            "A gate that chooses few of thousands of experts gives more than 1000 times the capacity with minor losses "
            "in efficiency, and better language models and translations at lower cost.",
            arxiv("1701.06538"),
        ),
        reference(
            "fedus2022",
            "Fedus, Zoph, Shazeer",
            "Switch Transformers: Scaling to Trillion Parameter Models with Simple and Efficient Sparsity",
            2022,
            "JMLR 23, arXiv:2101.03961",
            "Complexity, communication and unstable training hinder mixtures; a simpler routing pre-trains up to 7 "
            "times as fast as T5 with the same resources.",
            arxiv("2101.03961"),
        ),
        reference(
            "roller2021",
            "Roller, Sukhbaatar, Szlam, Weston",
            "Hash Layers For Large Sparse Models",
            2021,
            "NeurIPS, arXiv:2106.04426",
            "A hash of the token, which learns nothing and needs no balance loss, chooses experts as well as learned "
            "gates or better.",
            arxiv("2106.04426"),
        ),
        reference(
            "puigcerver2024",
            "Puigcerver, Riquelme, Mustafa, Houlsby",
            "From Sparse to Soft Mixtures of Experts",
            2024,
            "ICLR, arXiv:2308.00951",
            "Sparse mixtures suffer from unstable training and dropped tokens; a soft, differentiable assignment "
            "greatly outperforms them in vision.",
            arxiv("2308.00951"),
        ),
        reference(
            "panda2025",
            "Panda et al.",
            "Dense Backpropagation Improves Training for Sparse Mixture-of-Experts",
            2025,
            "arXiv:2504.12463",
            "A sparse backward pass makes training unstable and worse; a gradient of all experts for the gate, while "
            "few are computed, outperforms top-k routing.",
            arxiv("2504.12463"),
        ),
        reference(
            "nie2021",
            "Nie et al.",
            "EvoMoE: An Evolutional Mixture-of-Experts Training Framework via Dense-To-Sparse Gate",
            2021,
            "arXiv:2112.14397",
            "Immature experts and an unstable sparse gate harm convergence; a gate that starts with all experts and "
            "becomes sparse does better.",
            arxiv("2112.14397"),
        ),
        reference(
            "nguyen2024",
            "Nguyen, Ho, Rinaldo",
            "Sigmoid Gating is More Sample Efficient than Softmax Gating in Mixture of Experts",
            2024,
            "NeurIPS, arXiv:2405.13997",
            "Softmax makes experts compete without need; with sigmoid fewer samples give the same error of the experts "
            "(theory, regression).",
            arxiv("2405.13997"),
        ),
        reference(
            "wang2024",
            "Wang, Gao, Zhao, Sun, Dai",
            "Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts",
            2024,
            "arXiv:2408.15664",
            "Unbalanced load makes routing collapse; a large balance loss interferes with training, so a bias of the "
            "scores balances instead.",
            arxiv("2408.15664"),
        ),
        reference(
            "clark2022",
            "Clark et al.",
            "Unified Scaling Laws for Routed Language Models",
            2022,
            "ICML, arXiv:2202.01169",
            "Parameters and computation of routed networks scale along two axes, each of which improves them, with all "
            "of three ways to route.",
            arxiv("2202.01169"),
        ),
        unread(
            "lepikhin2020",
            "Lepikhin et al.",
            "GShard: Scaling Giant Models with Conditional Computation and Automatic Sharding",
            2020,
            "arXiv:2006.16668",
            arxiv("2006.16668"),
        ),
    )
}

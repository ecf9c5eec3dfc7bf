"""What was published on addressing a memory. A finding is printed only where its text or abstract was read."""

from softplace.study.contests._report import arxiv, reference

REFERENCES = {
    each.key: each
    for each in (
        reference(
            "graves2014",
            "Graves, Wayne, Danihelka",
            "Neural Turing Machines",
            2014,
            "arXiv:1410.5401",
            "A network that addresses a memory by softmax of similarities, and by shifts, is differentiable from end "
            "to end and infers copying, sorting and associative recall from examples.",
            arxiv("1410.5401"),
        ),
        reference(
            "graves2016",
            "Graves et al.",
            "Hybrid computing using a neural network with dynamic external memory",
            2016,
            "Nature 538",
            "The Differentiable Neural Computer solves structured tasks that are out of reach for networks without an "
            "external memory.",
            "https://doi.org/10.1038/nature20101",
        ),
        reference(
            "collier2018",
            "Collier, Beel",
            "Implementing Neural Turing Machines",
            2018,
            "ICANN, arXiv:1807.08518",
            "How the memory starts is crucial: from small constant values training converges on average 2 times faster "
            "than from the next best start.",
            arxiv("1807.08518"),
        ),
        reference(
            "csordas2019",
            "Csordás, Schmidhuber",
            "Improving Differentiable Neural Computers Through Memory Masking, De-allocation, and Link Distribution "
            "Sharpness Control",
            2019,
            "ICLR, arXiv:1904.10278",
            "Weights that come from a look-up by content are noisy and flat, as the value influences the score; three "
            "repairs lower the mean error on bAbI by 43 %.",
            arxiv("1904.10278"),
        ),
        reference(
            "martins2016",
            "Martins, Astudillo",
            "From Softmax to Sparsemax: A Sparse Model of Attention and Multi-Label Classification",
            2016,
            "ICML, arXiv:1602.02068",
            "In attention, sparsemax performs similarly to softmax, with a selective, more compact focus.",
            arxiv("1602.02068"),
        ),
        reference(
            "peters2019",
            "Peters, Niculae, Martins",
            "Sparse Sequence-to-Sequence Models",
            2019,
            "ACL, arXiv:1905.05702",
            "Sparse alignments by entmax bring consistent gains over dense ones in translation and inflection.",
            arxiv("1905.05702"),
        ),
        reference(
            "rae2016",
            "Rae et al.",
            "Scaling Memory-Augmented Neural Networks with Sparse Reads and Writes",
            2016,
            "NIPS, arXiv:1610.09027",
            "Reads and writes of a few slots learn from about as many examples as dense ones, at a fraction of the "
            "time and space.",
            arxiv("1610.09027"),
        ),
        reference(
            "zaremba2015",
            "Zaremba, Sutskever",
            "Reinforcement Learning Neural Turing Machines",
            2015,
            "arXiv:1505.00521",
            "With addresses that are one slot, trained by Reinforce, the tasks that were solved are simpler than those "
            "of the fully differentiable machine.",
            arxiv("1505.00521"),
        ),
        reference(
            "gulcehre2018",
            "Gulcehre, Chandar, Cho, Bengio",
            "Dynamic Neural Turing Machine with Continuous and Discrete Addressing Schemes",
            2018,
            "Neural Computation 30, arXiv:1607.00036",
            "Compares continuous and discrete reads and writes of one machine, on copy and associative recall too.",
            arxiv("1607.00036"),
        ),
        reference(
            "bouthillier2021",
            "Bouthillier et al.",
            "Accounting for Variance in Machine Learning Benchmarks",
            2021,
            "MLSys, arXiv:2103.03098",
            "Randomising split, draw and order at once approaches the ideal estimate at 51 times less compute.",
            arxiv("2103.03098"),
        ),
    )
}

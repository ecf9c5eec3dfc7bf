"""What was published on softmax in hidden layers. A finding is printed only where its text or abstract was read."""

from softplace.study.report import Reference


def _reference(key: str, authors: str, title: str, year: int, where: str, finding: str, url: str | None) -> Reference:
    fields = {"author": authors.replace(", ", " and "), "title": title, "year": str(year), "howpublished": where}
    if url is not None:
        fields["url"] = url
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return Reference(
        key=key,
        authors=authors,
        title=title,
        year=year,
        where=where,
        finding=finding,
        verified=True,
        bibtex=f"@misc{{{key},\n{lines}}}",
        url=url,
    )


def _arxiv(number: str) -> str:
    return f"https://arxiv.org/abs/{number}"


REFERENCES = {
    reference.key: reference
    for reference in (
        _reference(
            "mozejko2016",
            "Możejko",
            "Answer to “Why use softmax only in the output layer and not in hidden layers?”",
            2016,
            "Stack Overflow 37588632",
            "Gives the four reasons that this study measures, and says that no publication was found.",
            "https://stackoverflow.com/q/37588632",
        ),
        _reference(
            "shen2023",
            "Shen, Guo, Tan, Tang, Wang, Bian",
            "A Study on ReLU and Softmax in Transformer",
            2023,
            "arXiv:2302.06461",
            "Softmax in place of ReLU in the feed-forward layer is made equal by a LayerNorm behind it; ReLU is better "
            "where the layer is wide.",
            _arxiv("2302.06461"),
        ),
        _reference(
            "csordas2023",
            "Csordás, Irie, Schmidhuber",
            "Approximating Two-Layer Feedforward Networks for Efficient Transformers",
            2023,
            "Findings of EMNLP, arXiv:2310.10837",
            "Product-key memory as feed-forward layer: perplexity 13.96 with softmax, 12.77 with ReLU (WikiText-103).",
            _arxiv("2310.10837"),
        ),
        _reference(
            "shorten1994",
            "Shorten, Murray-Smith",
            "On Normalising Radial Basis Function Networks",
            1994,
            "Irish Neural Networks Conference",
            "Normalised hidden units: maxima shift from their centres, and units reappear far away.",
            None,
        ),
        _reference(
            "bugmann1998",
            "Bugmann",
            "Normalized Gaussian Radial Basis Function Networks",
            1998,
            "Neurocomputing 20",
            "The case for: normalised hidden units generalise better and are insensitive to their width.",
            None,
        ),
        _reference(
            "elhage2022",
            "Elhage et al.",
            "Softmax Linear Units",
            2022,
            "Transformer Circuits Thread",
            "x softmax(x) with LayerNorm in hidden layers makes more neurons interpretable at little loss.",
            "https://transformer-circuits.pub/2022/solu/index.html",
        ),
        _reference(
            "gu2024",
            "Gu, Li, Liang, Shi, Song, Zhou",
            "Exploring the Frontiers of Softmax: Provable Optimization, Applications in Diffusion Model, and Beyond",
            2024,
            "arXiv:2405.03251",
            "A two-layer softmax network trains provably in the neural tangent kernel regime.",
            _arxiv("2405.03251"),
        ),
        _reference(
            "lavoie2023",
            "Lavoie et al.",
            "Simplicial Embeddings in Self-Supervised Learning and Downstream Classification",
            2023,
            "ICLR, arXiv:2204.00616",
            "Softmax over groups of hidden units constrains expressivity and improves generalisation.",
            _arxiv("2204.00616"),
        ),
        _reference(
            "sukhbaatar2019",
            "Sukhbaatar et al.",
            "Augmenting Self-attention with Persistent Memory",
            2019,
            "arXiv:1907.01470",
            "The feed-forward layer is replaced by vectors under the attention's softmax at equal quality.",
            _arxiv("1907.01470"),
        ),
        _reference(
            "yang2018",
            "Yang, Dai, Salakhutdinov, Cohen",
            "Breaking the Softmax Bottleneck: A High-Rank RNN Language Model",
            2018,
            "ICLR, arXiv:1711.03953",
            "The rank of the log-probability matrix of a softmax output is at most d + 1.",
            _arxiv("1711.03953"),
        ),
        _reference(
            "nair2025",
            "Nair",
            "Softmax is 1/2-Lipschitz: A tight bound across all lp norms",
            2025,
            "arXiv:2510.23012",
            "The Jacobian's norm is at most 1/2; at equal weights it is 1/n.",
            _arxiv("2510.23012"),
        ),
        _reference(
            "wang2021",
            "Wang, Liu, Liu",
            "Escaping the Gradient Vanishing: Periodic Alternatives of Softmax in Attention Mechanism",
            2021,
            "IEEE Access, arXiv:2108.07153",
            "Attention scores often leave the range in which softmax passes a gradient.",
            _arxiv("2108.07153"),
        ),
        _reference(
            "ioffe2015",
            "Ioffe, Szegedy",
            "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
            2015,
            "ICML, arXiv:1502.03167",
            "The same accuracy with 14 times fewer steps.",
            _arxiv("1502.03167"),
        ),
        _reference(
            "bouthillier2021",
            "Bouthillier et al.",
            "Accounting for Variance in Machine Learning Benchmarks",
            2021,
            "MLSys, arXiv:2103.03098",
            "Randomising split, draw and order at once approaches the ideal estimate at 51 times less compute.",
            _arxiv("2103.03098"),
        ),
    )
}

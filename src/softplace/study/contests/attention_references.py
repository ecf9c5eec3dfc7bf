"""What was published on attention. A finding is printed only where its text or abstract was read."""

from dataclasses import replace

from softplace.study.contests._report import arxiv, reference
from softplace.study.contests.memory_references import REFERENCES as OF_MEMORY

REFERENCES = {
    each.key: each
    for each in (
        reference(
            "bahdanau2015",
            "Bahdanau, Cho, Bengio",
            "Neural Machine Translation by Jointly Learning to Align and Translate",
            2015,
            "ICLR, arXiv:1409.0473",
            "A vector of fixed length is a bottleneck; searching softly for the relevant parts of the source, without "
            "forming them as hard segments, translates as well as a phrase-based system, with alignments that agree "
            "with intuition.",
            arxiv("1409.0473"),
        ),
        replace(
            reference(
                "vaswani2017",
                "Vaswani et al.",
                "Attention Is All You Need",
                2017,
                "NIPS, arXiv:1706.03762",
                "",
                arxiv("1706.03762"),
            ),
            verified=False,
        ),
        OF_MEMORY["martins2016"],
        OF_MEMORY["peters2019"],
        reference(
            "correia2019",
            "Correia, Niculae, Martins",
            "Adaptively Sparse Transformers",
            2019,
            "EMNLP, arXiv:1909.00015",
            "With entmax in its heads a Transformer translates as well as with softmax; heads of different layers "
            "learn different sparsity, and are more diverse.",
            arxiv("1909.00015"),
        ),
        reference(
            "ramapuram2024",
            "Ramapuram et al.",
            "Theory, Analysis, and Best Practices for Sigmoid Self-Attention",
            2025,
            "ICLR, arXiv:2409.04431",
            "Sigmoid attention, properly normalised, matches softmax attention across language, vision and speech, "
            "where earlier attempts did not.",
            arxiv("2409.04431"),
        ),
        OF_MEMORY["bouthillier2021"],
    )
}

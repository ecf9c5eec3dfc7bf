"""What was published on losses and maps at the output. A finding is printed only where text or abstract was read."""

from softplace.study.contests._report import arxiv, reference
from softplace.study.contests.hidden_references import REFERENCES as HIDDEN
from softplace.study.contests.latent_references import unread

REFERENCES = {
    each.key: each
    for each in (
        reference(
            "golik2013",
            "Golik, Doetsch, Ney",
            "Cross-entropy vs. squared error training: a theoretical and experimental comparison",
            2013,
            "Interspeech, 1756-1760",
            "From random weights, squared error does not lead to a good local optimum; after training by "
            "cross-entropy, some iterations of it lower the word error rate from 30.9 to 30.5 % (speech) and from 22.7 "
            "to 21.9 % (handwriting).",
            "https://doi.org/10.21437/Interspeech.2013-436",
        ),
        reference(
            "goodfellow2016",
            "Goodfellow, Bengio, Courville",
            "Deep Learning",
            2016,
            "MIT Press, section 6.2.2.3",
            "A loss without a logarithm does not undo the exponential of softmax: its gradient vanishes where a score "
            "is very negative. So squared error may fail to change a network that is wrong and sure of it.",
            "https://www.deeplearningbook.org",
        ),
        reference(
            "hui2021",
            "Hui, Belkin",
            "Evaluation of Neural Architectures Trained with Square Loss vs Cross-Entropy in Classification Tasks",
            2021,
            "ICLR, arXiv:2006.07322",
            "With the settings that were published for cross-entropy, squared error does as well or better in most "
            "tasks of language and speech; cross-entropy has a slight edge in vision.",
            arxiv("2006.07322"),
        ),
        reference(
            "hu2021",
            "Hu, Wang, Wang, Li",
            "Understanding Square Loss in Training Overparametrized Neural Network Classifiers",
            2021,
            "arXiv:2112.03657",
            "Squared error generalises about as well as cross-entropy, and is more robust and better calibrated.",
            arxiv("2112.03657"),
        ),
        reference(
            "guo2017",
            "Guo, Pleiss, Sun, Weinberger",
            "On Calibration of Modern Neural Networks",
            2017,
            "ICML, arXiv:1706.04599",
            "Modern networks are poorly calibrated; depth, width, weight decay and batch normalisation matter; one "
            "temperature on the scores mends most of it.",
            arxiv("1706.04599"),
        ),
        reference(
            "pytorch2025",
            "PyTorch contributors",
            "torch.nn.CrossEntropyLoss",
            2025,
            "documentation",
            "The input is expected to be unnormalised scores: the loss has the logarithm of softmax inside.",
            "https://pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html",
        ),
        reference(
            "bridle1990",
            "Bridle",
            "Probabilistic Interpretation of Feedforward Classification Network Outputs, with Relationships to "
            "Statistical Pattern Recognition",
            1990,
            "Neurocomputing, NATO ASI Series F68",
            "To read outputs as probabilities of alternatives, two changes are proposed: the normalised exponential "
            "(softmax), and probability scoring in the place of squared error.",
            None,
        ),
        unread(
            "beyer2020",
            "Beyer, Hénaff, Kolesnikov, Zhai, van den Oord",
            "Are we done with ImageNet?",
            2020,
            "arXiv:2006.07159",
            arxiv("2006.07159"),
        ),
        reference(
            "kornblith2021",
            "Kornblith, Chen, Lee, Norouzi",
            "Why Do Better Loss Functions Lead to Less Transferable Features?",
            2021,
            "NeurIPS, arXiv:2010.16402",
            "Many losses, of which sigmoid cross-entropy is one, are more accurate on ImageNet than softmax "
            "cross-entropy; their features transfer worse.",
            arxiv("2010.16402"),
        ),
        reference(
            "martins2016",
            "Martins, Astudillo",
            "From Softmax to Sparsemax: A Sparse Model of Attention and Multi-Label Classification",
            2016,
            "ICML, arXiv:1602.02068",
            "A map whose probabilities may be zero, and a convex loss for it, which is akin to the Huber loss; "
            "promising in multi-label classification.",
            arxiv("1602.02068"),
        ),
        reference(
            "peters2019",
            "Peters, Niculae, Martins",
            "Sparse Sequence-to-Sequence Models",
            2019,
            "ACL, arXiv:1905.05702",
            "Entmax leaves a short list of outputs with a probability above zero; consistent gains over dense models "
            "in morphological inflection and machine translation.",
            arxiv("1905.05702"),
        ),
        reference(
            "blondel2020",
            "Blondel, Martins, Niculae",
            "Learning with Fenchel-Young Losses",
            2020,
            "JMLR 21, arXiv:1901.02324",
            "Every map of a wide class has a convex loss of its own; sparsity, entropy and margin go together.",
            arxiv("1901.02324"),
        ),
        reference(
            "debrebisson2016",
            "de Brébisson, Vincent",
            "An Exploration of Softmax Alternatives Belonging to the Spherical Loss Family",
            2016,
            "ICLR, arXiv:1511.05042",
            "Log-Taylor and log-spherical softmax are better than log-softmax on MNIST and CIFAR-10, and worse in two "
            "tasks of language modelling.",
            arxiv("1511.05042"),
        ),
        reference(
            "tang2013",
            "Tang",
            "Deep Learning using Linear Support Vector Machines",
            2013,
            "arXiv:1306.0239",
            "A small and consistent gain where a linear SVM (L2-SVM) takes the place of softmax: MNIST, "
            "CIFAR-10, facial expressions.",
            arxiv("1306.0239"),
        ),
        reference(
            "crammer2001",
            "Crammer, Singer",
            "On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines",
            2001,
            "JMLR 2, 265-292",
            "A margin for several classes at once, and a direct method to train by it.",
            "https://www.jmlr.org/papers/v2/crammer01a.html",
        ),
        reference(
            "ghosh2017",
            "Ghosh, Kumar, Sastry",
            "Robust Loss Functions under Label Noise for Deep Neural Networks",
            2017,
            "AAAI, arXiv:1712.09482",
            "Conditions under which a loss tolerates wrong labels; the mean absolute error meets them.",
            arxiv("1712.09482"),
        ),
        HIDDEN["bouthillier2021"],
    )
}

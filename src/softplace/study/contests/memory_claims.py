"""What the memory contest claims of softmax: measure, rivals and region of each, fixed before any score is seen."""

from softplace.study.contests._report import Claim
from softplace.study.contests.memory_arms import LOCATION, LSTM, NOWHERE

SPARSE = ("sparsemax", "entmax15")
HIGHLIGHT = ("softmax", "sparsemax", NOWHERE, LSTM)
NO_WEIGHTS = (LSTM,)
REGION = 0.05
"""Means that are apart by less than this share of the budget are practically the same."""


COPY, RECALL = "copy", "associative-recall"
PURPOSES = {COPY: "to copy", RECALL: "for associative recall"}


def _steps(
    key: str, title: str, text: str, against: tuple[str, ...], references: tuple[str, ...], kinds: tuple[str, ...]
) -> list[Claim]:
    """A claim that softmax learns faster than others, for each kind of task that it is judged on.

    `title` and `text` have a place for what is learned; the title is numbered, with a letter where there are several.
    """
    number, question = title.split(". ")
    return [
        Claim(
            key=f"{key}-{kind.split('-')[-1]}",
            title=f"{number}{'ab'[place] * (len(kinds) > 1)}. {question.format(PURPOSES[kind])}",
            text=text.format(PURPOSES[kind]),
            metric="steps_to_learn",
            region=REGION,  # of the budget, which the task knows: see `claim_for`
            references=references,
            against=against,
            says="better",
            unit="steps",
            decimals=0,
            verb="needs",
        )
        for place, kind in enumerate(kinds)
    ]


# Copying needs an order of slots and, in principle, no content; associative recall needs both. So what is asked of the
# look-up by content is asked twice, and the answers may differ.
CLAIMS = (
    *_steps(
        "addressing",
        "1. Addressing: is a memory that is addressed needed {}?",
        "A memory that is addressed is needed {}: without an address, or without a memory, it is learned later.",
        (NOWHERE, LSTM),
        ("graves2014", "graves2016"),
        (COPY,),
    ),
    *_steps(
        "content",
        "2. Content: is the look-up by content needed {}?",
        "The look-up by content is needed {}: with heads that only stay or shift, it is learned later.",
        (LOCATION,),
        ("graves2014", "csordas2019"),
        (COPY, RECALL),
    ),
    *_steps(
        "sparse",
        "3. Sparsity: is softmax needed {}, or does a sparse map do?",
        "Softmax is needed {}: with a sparse map in the look-up, it is learned later.",
        SPARSE,
        ("martins2016", "peters2019", "rae2016"),
        (COPY, RECALL),
    ),
    *_steps(
        "hard",
        "4. Hardness: does a choice of one slot train worse {}?",
        "A soft look-up is needed {}: with a choice of one slot, trained straight through, it is learned later.",
        ("hardmax",),
        ("zaremba2015", "gulcehre2018"),
        (COPY, RECALL),
    ),
    *_steps(
        "exponential",
        "5. Exponential: does another normalisation do as well {}?",
        "The exponential is needed {}: with normalised sigmoids or rectified scores, it is learned later.",
        ("sigmoid-normalised", "relu-normalised"),
        ("graves2014",),
        (COPY, RECALL),
    ),
    Claim(
        key="beyond",
        title="6. Beyond training: does softmax err more on longer sequences?",
        text="Softmax, which leaves no slot out, errs more beyond the training length than a sparse map.",
        metric="error_beyond",
        region=0.01,
        references=("graves2014", "csordas2019"),
        against=SPARSE,
        scale=100.0,
        unit="points",
        verb="has a share of wrong bits",
    ),
    Claim(
        key="sharpness",
        title="7. Sharpness: does softmax spread its reads over more slots?",
        text="Softmax spreads its reads over more slots than a sparse map.",
        metric="entropy",
        region=0.1,
        references=("csordas2019", "martins2016"),
        against=SPARSE,
        unit="bits",
        verb="has an entropy",
        without=NO_WEIGHTS,
    ),
)


def kind_of(claim: Claim) -> str:
    """The kind of task that a claim is judged on."""
    return RECALL if claim.key.endswith("-recall") else COPY

"""What the attention contest claims of softmax: measure, rivals and region of each, fixed before any score is seen."""

from dataclasses import replace

from softplace.study.contests._report import Claim
from softplace.study.contests.attention_arms import FIXED, UNIFORM

SPARSE = ("sparsemax", "entmax15")
HIGHLIGHT = ("softmax", "sparsemax", UNIFORM, FIXED)
NO_WEIGHTS = (FIXED,)
REGION = 0.05
"""Means that are apart by less than this share of the budget are practically the same."""

RNN, TRANSFORMER = "rnnsearch", "transformer"
NETS = {RNN: "in RNNsearch", TRANSFORMER: "in a Transformer"}


def _both(claim: Claim) -> list[Claim]:
    """A claim of each net; title and text have a place for which."""
    number, question = claim.title.split(". ", 1)
    return [
        replace(
            claim,
            key=f"{claim.key}-{kind}",
            title=f"{number}{'ab'[place]}. {question.format(net)}",
            text=claim.text.format(net),
        )
        for place, (kind, net) in enumerate(NETS.items())
    ]


def _steps(key: str, title: str, text: str, against: tuple[str, ...], references: tuple[str, ...]) -> list[Claim]:
    """A claim that softmax learns faster than others, of each net."""
    return _both(
        Claim(
            key=key,
            title=title,
            text=text,
            metric="steps_to_learn",
            region=REGION,  # of the budget, which the task knows: see `claim_for`
            references=references,
            against=against,
            says="better",
            unit="steps",
            decimals=0,
            verb="needs",
        )
    )


CLAIMS = (
    *_steps(
        "needed",
        "1. Attention: is it needed {}?",
        "Attention is needed {}: with the mean of the source, or one vector of it, translation is learned later.",
        (UNIFORM, FIXED),
        ("bahdanau2015", "vaswani2017"),
    ),
    *_both(
        Claim(
            key="beyond",
            title="2. Length: does attention hold better beyond training {}?",
            text="Attention holds better {} on longer sentences than were trained on than the mean of the source, or "
            "one vector of it.",
            metric="error_beyond",
            region=0.01,
            references=("bahdanau2015",),
            against=(UNIFORM, FIXED),
            says="better",
            scale=100.0,
            unit="points",
            verb="has a share of wrong words",
        )
    ),
    *_steps(
        "sparse",
        "3. Sparsity: is softmax needed {}, or does a sparse map do?",
        "Softmax is needed {}: with a sparse map, translation is learned later.",
        SPARSE,
        ("martins2016", "peters2019", "correia2019"),
    ),
    *_steps(
        "sum",
        "4. Sum: must weights sum to one {}?",
        "Weights must sum to one {}: with softmax off by one, sigmoids or rectified scores, translation is learned "
        "later.",
        ("softmax1", "sigmoid", "relu-normalised"),
        ("ramapuram2024",),
    ),
    *_steps(
        "hard",
        "5. Hardness: does a choice of one word train worse {}?",
        "A soft choice is needed {}: with a choice of one word, trained straight through, translation is learned "
        "later.",
        ("hardmax",),
        ("bahdanau2015",),
    ),
    *_both(
        Claim(
            key="alignment",
            title="6. Alignment: does softmax align worse than a sparse map {}?",
            text="The largest weight of softmax is {} more often on another word than the right one than that of a "
            "sparse map.",
            metric="alignment_error",
            region=0.02,
            references=("martins2016", "peters2019"),
            against=SPARSE,
            scale=100.0,
            unit="points",
            verb="has an alignment error",
            without=NO_WEIGHTS,
        )
    ),
    *_both(
        Claim(
            key="sharpness",
            title="7. Sharpness: does softmax spread its weights over more words {}?",
            text="Softmax spreads its weights over more words {} than a sparse map.",
            metric="entropy",
            region=0.1,
            references=("martins2016", "correia2019"),
            against=SPARSE,
            unit="bits",
            verb="has an entropy",
            without=NO_WEIGHTS,
        )
    ),
)


def kind_of(claim: Claim) -> str:
    """The net that a claim is judged on."""
    return claim.key.rsplit("-", 1)[-1]

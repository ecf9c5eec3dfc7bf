"""What the output contest claims of softmax: measure, rivals and region of each, fixed before any score is seen."""

from functools import partial

from softplace.study.contests._report import Claim
from softplace.study.contests.output_arms import (
    DOUBLE,
    ENTMAX,
    HINGE,
    LINEAR,
    SIGMOIDS,
    SPARSEMAX,
    SPHERICAL,
    SQUARED,
    TAYLOR,
)

HIGHLIGHT = ("softmax", DOUBLE, SQUARED, SIGMOIDS)

_accuracy = partial(Claim, metric="test_accuracy", region=0.01, scale=100.0, unit="points", verb="scores")
_likelihood = partial(Claim, metric="test_nll", region=0.02, unit="nats", decimals=3, verb="has a test NLL")

CLAIMS = (
    _accuracy(
        key="squared",
        title="1a. Squared error: does it cost accuracy behind softmax?",
        text="Softmax is more accurate with cross-entropy than with squared error.",
        references=("golik2013", "goodfellow2016"),
        against=(SQUARED,),
        says="better",
    ),
    _accuracy(
        key="linear",
        title="1b. Squared error: does it cost accuracy without softmax?",
        text="Softmax with cross-entropy is more accurate than linear outputs with squared error.",
        references=("hui2021", "hu2021"),
        against=(LINEAR,),
        says="better",
    ),
    Claim(
        key="calibration",
        title="1c. Calibration: does squared error know worse how often it is right?",
        text="Softmax with cross-entropy is better calibrated than squared error, with softmax or without.",
        metric="calibration_error",
        region=0.01,
        decimals=3,
        verb="has a calibration error",
        references=("hu2021", "guo2017"),
        against=(SQUARED, LINEAR),
        says="better",
    ),
    Claim(
        key="double-steps",
        title="2a. Double softmax: does it learn more slowly?",
        text="Softmax needs fewer steps to a target accuracy than a double softmax.",
        metric="steps_to_target",
        region=10.0,
        unit="steps",
        decimals=0,
        verb="needs",
        references=("pytorch2025",),
        against=(DOUBLE,),
        says="better",
    ),
    _accuracy(
        key="double-accuracy",
        title="2b. Double softmax: does it end less accurate?",
        text="Softmax is more accurate than a double softmax.",
        references=("pytorch2025",),
        against=(DOUBLE,),
        says="better",
    ),
    _likelihood(
        key="double-loss",
        title="2c. Double softmax: are its probabilities worse?",
        text="The test likelihood of softmax is better than that of a double softmax.",
        references=("pytorch2025",),
        against=(DOUBLE,),
        says="better",
    ),
    Claim(
        key="gradient",
        title="3. Gradients: do they vanish where the network is wrong and sure of it?",
        text="Where the network is wrong and sure of it, the gradient of cross-entropy stays; that of squared error "
        "behind softmax, and that of a double softmax, vanishes.",
        metric="wrong_gradient",
        region=0.3,
        unit="decades",
        verb="has a gradient where confidently wrong / at the start",
        references=("goodfellow2016", "bridle1990", "golik2013"),
        against=(SQUARED, DOUBLE),
        says="better",
    ),
    _accuracy(
        key="sigmoids",
        title="4. Sigmoids: is softmax more accurate than one for each class?",
        text="Softmax is more accurate than independent sigmoids.",
        references=("beyer2020", "kornblith2021"),
        against=(SIGMOIDS,),
        says="better",
    ),
    _likelihood(
        key="sparse",
        title="5. Sparsity: do probabilities of zero cost likelihood?",
        text="The test likelihood of softmax is better than that of sparse maps, which give some classes no "
        "probability.",
        references=("martins2016", "peters2019", "blondel2020"),
        against=(SPARSEMAX, ENTMAX),
        says="better",
    ),
    _accuracy(
        key="spherical",
        title="6. Exponential: is another function as good?",
        text="Softmax is less accurate than the maps of the spherical family.",
        references=("debrebisson2016",),
        against=(SPHERICAL, TAYLOR),
        says="worse",
    ),
    _accuracy(
        key="hinge",
        title="7a. Margin: is a hinge more accurate?",
        text="Softmax with cross-entropy is less accurate than a hinge.",
        references=("tang2013", "crammer2001"),
        against=(HINGE,),
        says="worse",
    ),
    Claim(
        key="brier",
        title="7b. Probabilities: are those of losses worse that are made for none?",
        text="The probabilities of softmax are better than those that are made from the scores of a hinge or of linear "
        "outputs with squared error.",
        metric="brier",
        region=0.01,
        decimals=3,
        verb="has a Brier score",
        references=("crammer2001", "hui2021"),
        against=(HINGE, LINEAR),
        says="better",
    ),
    Claim(
        key="noise",
        title="8. Wrong labels: does cross-entropy lose more to them?",
        text="Softmax with cross-entropy loses more accuracy to wrong training labels than with squared error, which "
        "is bounded.",
        metric="accuracy_lost",
        region=0.01,
        scale=100.0,
        unit="points",
        verb="has an accuracy loss",
        references=("ghosh2017", "hu2021"),
        against=(SQUARED,),
        says="worse",
    ),
)

OTHERS = (
    _accuracy(
        key="others-accuracy",
        title="9a. Other maps: is softmax more accurate?",
        text="Softmax is more accurate than the maps that this study was asked for beside its own.",
        references=(),
        against=(),
        says="better",
    ),
    _likelihood(
        key="others-loss",
        title="9b. Other maps: is softmax more likely?",
        text="The test likelihood of softmax is better than that of the maps that this study was asked for beside its "
        "own.",
        references=(),
        against=(),
        says="better",
    ),
)
"""Claims against the arms that are not the contest's; there may be none."""

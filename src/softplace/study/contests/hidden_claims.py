"""What the hidden contest claims of softmax: measure, rivals and region of each, fixed before any score is seen."""

from dataclasses import dataclass

SOFTMAX = "softmax"
CANDIDATES = ("sigmoid", "tanh", "ReLU", "sigmoid + BatchNorm", "tanh + BatchNorm", "ReLU + BatchNorm")
HIGHLIGHT = ("softmax", "softmax + BatchNorm", "ReLU", "ReLU + BatchNorm")
# The next layer's weights can undo the factor, so softmax x width expresses the same functions as softmax.
CONTROLS = (("softmax × width", SOFTMAX), ("softmax + LayerNorm", SOFTMAX))
BATCH_NORM = (
    (SOFTMAX, "softmax + BatchNorm"),
    ("softmax + BatchNorm", "ReLU + BatchNorm"),
    ("ReLU", "ReLU + BatchNorm"),
)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence about softmax, and the measure in which it says that softmax is worse.

    `against` are the arms it must be worse than (of those that the study has); `region` is the half-width of practical
    equivalence; `scale`, `unit` and `decimals` are for the reader. `beside` are contrasts that do not decide, but say
    what the difference is made of: a control arm, or batch normalisation alone.
    """

    key: str
    title: str
    text: str
    metric: str
    region: float
    references: tuple[str, ...]
    against: tuple[str, ...] = CANDIDATES
    scale: float = 1.0
    unit: str = ""
    decimals: int = 2
    verb: str = "has"
    beside: tuple[tuple[str, str], ...] = ()


CLAIMS = (
    Claim(
        key="accuracy",
        title="Accuracy: does a hidden softmax cost test accuracy?",
        text="A network with softmax in its hidden layers is less accurate.",
        metric="test_accuracy",
        region=0.01,
        scale=100.0,
        unit="points",
        verb="scores",
        references=("mozejko2016", "shen2023", "csordas2023", "sukhbaatar2019"),
    ),
    Claim(
        key="loss",
        title="Loss: does a hidden softmax cost test likelihood?",
        text="A network with softmax in its hidden layers has a higher test loss.",
        metric="test_nll",
        region=0.02,
        unit="nats",
        decimals=3,
        verb="has a test NLL",
        references=("mozejko2016", "shen2023", "csordas2023"),
        beside=CONTROLS,
    ),
    Claim(
        key="rank",
        title="1a. Linear dependence: do softmax units lose a dimension?",
        text="Softmax makes the hidden units linearly dependent: their centred activations lose dimensions exactly.",
        metric="rank_deficiency",
        region=0.5,
        unit="dimensions",
        verb="lacks",
        references=("mozejko2016", "yang2018"),
    ),
    Claim(
        key="dependence",
        title="1b. Effective rank: do softmax units use fewer dimensions?",
        text="Softmax makes the hidden units nearly dependent: they use a smaller share of their dimensions.",
        metric="effective_rank",
        region=0.02,
        decimals=3,
        verb="has an effective rank / width",
        references=("mozejko2016", "yang2018"),
    ),
    Claim(
        key="correlation",
        title="1c. Correlation: are softmax units more correlated?",
        text="Softmax makes the hidden units more correlated with one another.",
        metric="correlation",
        region=0.02,
        decimals=3,
        verb="has a mean |correlation|",
        references=("mozejko2016", "shorten1994"),
    ),
    Claim(
        key="sparsity",
        title="1d. Sparsity: are softmax activations less sparse?",
        text="Softmax makes the hidden activations less sparse.",
        metric="sparsity",
        region=0.02,
        decimals=3,
        verb="has a Hoyer sparsity",
        references=("mozejko2016", "elhage2022"),
    ),
    Claim(
        key="generalisation",
        title="1e. Generalisation: is the gap to the training data wider?",
        text="A hidden softmax generalises worse: its gap between training and test accuracy is wider.",
        metric="gap",
        region=0.01,
        scale=100.0,
        unit="points",
        verb="has a gap",
        references=("mozejko2016", "bugmann1998", "lavoie2023"),
    ),
    Claim(
        key="coupling",
        title="2a. Coupling: does a unit depend on the others' pre-activations?",
        text="Softmax couples the hidden units: a larger share of the map's Jacobian is off its diagonal.",
        metric="off_diagonal",
        region=0.02,
        decimals=3,
        verb="has an off-diagonal share of its Jacobian",
        references=("mozejko2016", "shorten1994"),
    ),
    Claim(
        key="push-down",
        title="2b. Push-down: does lowering one unit raise the others?",
        text="Lowering one pre-activation of a softmax layer raises the other units.",
        metric="share_rising",
        region=0.02,
        scale=100.0,
        unit="points",
        decimals=1,
        verb="has a share of other units that rise",
        references=("mozejko2016",),
    ),
    Claim(
        key="push-loss",
        title="2c. Push-down: does lowering one unit change the loss more?",
        text="Lowering one pre-activation of a softmax layer changes the loss more.",
        metric="push_loss_change",
        region=0.001,
        unit="nats",
        decimals=4,
        verb="has an absolute change of the loss",
        references=("mozejko2016",),
    ),
    Claim(
        key="gradient",
        title="2d. Gradients: does a hidden softmax shrink them?",
        text="A hidden softmax passes back a smaller gradient.",
        metric="gradient_gain",
        region=0.1,
        unit="decades",
        verb="has a gradient gain per layer",
        references=("nair2025", "wang2021"),
        beside=CONTROLS,
    ),
    Claim(
        key="memorise",
        title="3a. Memorising: does softmax hold fewer facts?",
        text="Softmax memorises fewer random labels in the same number of steps.",
        metric="memorised",
        region=0.01,
        scale=100.0,
        unit="points",
        verb="memorises",
        references=("mozejko2016", "csordas2023", "gu2024"),
        beside=CONTROLS,
    ),
    Claim(
        key="functions",
        title="3b. Fitting functions: does softmax fit them worse?",
        text="Softmax fits functions worse in the same number of steps.",
        metric="error",
        region=0.01,
        decimals=3,
        verb="has an error (1 = constant)",
        references=("mozejko2016", "shorten1994", "bugmann1998"),
        beside=CONTROLS,
    ),
    Claim(
        key="image",
        title="3c. Image: does a softmax layer reach fewer dimensions?",
        text="The image of a softmax layer has fewer dimensions.",
        metric="image_dimension",
        region=0.5,
        unit="dimensions",
        verb="has an image of",
        references=("mozejko2016", "yang2018"),
    ),
    Claim(
        key="batchnorm-accuracy",
        title="4a. BatchNorm, accuracy: is ReLU with it more accurate?",
        text="ReLU with batch normalisation is more accurate than softmax.",
        metric="test_accuracy",
        region=0.01,
        scale=100.0,
        unit="points",
        verb="scores",
        against=("ReLU + BatchNorm",),
        references=("mozejko2016", "ioffe2015"),
        beside=BATCH_NORM,
    ),
    Claim(
        key="batchnorm-steps",
        title="4b. BatchNorm, speed: does ReLU with it learn faster?",
        text="ReLU with batch normalisation needs fewer steps to a target accuracy than softmax.",
        metric="steps_to_target",
        region=20.0,
        unit="steps",
        decimals=0,
        verb="needs",
        against=("ReLU + BatchNorm",),
        references=("mozejko2016", "ioffe2015"),
        beside=BATCH_NORM,
    ),
)

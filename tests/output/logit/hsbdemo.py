"""Programme choice of 200 pupils, and what R prints of it.

The rows are the columns `prog`, `ses` and `write` of hsbdemo, the sample of the High School and Beyond survey (National
Center for Education Statistics) that UCLA's pages on multinomial logistic regression use. The tables are those that
these pages print of `nnet::multinom(prog2 ~ ses + write)` with `academic` as the reference, and the test of
`mlogit::hmftest` of the same model with and without `vocation`.
"""

_WRITING = {
    ("academic", "high"): (
        "33 38 41 41 42 49 52 52 52 52 52 54 54 54 57 59 59 59 59 59 60 60 61 61 61 62 62 62 62 62 62 63 "
        "63 63 65 65 65 65 65 67 67 67"
    ),
    ("academic", "low"): ("37 40 41 43 44 46 46 50 55 57 57 59 60 62 62 65 65 65 65"),
    ("academic", "middle"): (
        "40 41 46 46 47 49 49 50 52 52 52 52 54 54 54 54 54 54 55 57 57 59 59 59 59 59 59 59 59 59 59 59 "
        "59 61 62 62 62 62 65 65 65 65 67 67"
    ),
    ("general", "high"): ("33 36 54 57 59 59 65 65 67"),
    ("general", "low"): ("41 44 44 44 46 49 49 49 52 54 54 54 57 59 62 65"),
    ("general", "middle"): ("31 33 39 39 41 44 44 44 49 52 53 54 54 57 57 59 59 59 62 62"),
    ("vocation", "high"): ("39 40 44 49 49 52 67"),
    ("vocation", "low"): ("31 35 35 37 39 44 44 47 49 54 60 62"),
    ("vocation", "middle"): (
        "31 31 33 36 37 39 41 41 41 41 42 44 44 45 46 46 46 46 49 52 52 52 54 55 57 57 57 59 62 62 63"
    ),
}


def table() -> dict[str, list[object]]:
    """The columns prog, ses and write."""
    rows = [(prog, ses, int(score)) for (prog, ses), scores in _WRITING.items() for score in scores.split()]
    return {name: list(column) for name, column in zip(("prog", "ses", "write"), zip(*rows, strict=True), strict=True)}


FORMULA = "prog ~ C(ses, Treatment('low')) + write"
COLUMNS = ("Intercept", "C(ses, Treatment('low'))[T.middle]", "C(ses, Treatment('low'))[T.high]", "write")
COEFFICIENTS = {
    "general": (2.852198, -0.5332810, -1.1628226, -0.0579287),
    "vocation": (5.218260, 0.2913859, -0.9826649, -0.1136037),
}
ERRORS = {
    "general": (1.166441, 0.4437323, 0.5142196, 0.02141097),
    "vocation": (1.163552, 0.4763739, 0.5955665, 0.02221996),
}
RATIOS = {
    "general": (17.32582, 0.5866769, 0.3126026, 0.9437172),
    "vocation": (184.61262, 1.3382809, 0.3743123, 0.8926116),
}
P_VALUES = {
    "general": (0.0144766100, 0.2294379, 0.02373856, 6.818902e-03),
    "vocation": (0.0000072993, 0.5407530, 0.09894976, 3.176045e-07),
}
DEVIANCE, AIC = 359.9635, 375.9635
AT_MEAN_WRITING = {
    "low": (0.4396845, 0.3581917, 0.2021238),
    "middle": (0.4777488, 0.2283353, 0.2939159),
    "high": (0.7009007, 0.1784939, 0.1206054),
}
"""Probabilities of academic, general and vocation where `write` is at its mean."""
WITHOUT_VOCATION = (0.5438, 4, 0.9691)
"""chisq, df and p of hmftest."""

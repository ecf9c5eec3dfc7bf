"""The output: heads and losses, the multinomial logit, calibration and prediction sets.

Each name is imported when it is first used, so that losses do not wait for scikit-learn.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softplace.maps.linear import linear_cross_entropy as linear_cross_entropy
    from softplace.output.adaptive import Adaptive as Adaptive
    from softplace.output.adaptive import AdaptiveSoftmax as AdaptiveSoftmax
    from softplace.output.adaptive import Tail as Tail
    from softplace.output.adaptive import adaptive_log_softmax as adaptive_log_softmax
    from softplace.output.adaptive import adaptive_softmax as adaptive_softmax
    from softplace.output.calibration import Calibrator as Calibrator
    from softplace.output.calibration import DirichletScaling as DirichletScaling
    from softplace.output.calibration import MatrixScaling as MatrixScaling
    from softplace.output.calibration import TemperatureScaling as TemperatureScaling
    from softplace.output.calibration import VectorScaling as VectorScaling
    from softplace.output.calibration import fit_dirichlet as fit_dirichlet
    from softplace.output.calibration import fit_matrix as fit_matrix
    from softplace.output.calibration import fit_temperature as fit_temperature
    from softplace.output.calibration import fit_vector as fit_vector
    from softplace.output.choosing import Choices as Choices
    from softplace.output.choosing import Draw as Draw
    from softplace.output.choosing import sample as sample
    from softplace.output.choosing import top_k as top_k
    from softplace.output.conformal import RAPS as RAPS
    from softplace.output.conformal import PredictionSets as PredictionSets
    from softplace.output.conformal import aps_score as aps_score
    from softplace.output.conformal import coverage as coverage
    from softplace.output.conformal import fit_sets as fit_sets
    from softplace.output.conformal import lac_score as lac_score
    from softplace.output.groups import GroupedSoftmax as GroupedSoftmax
    from softplace.output.groups import Groups as Groups
    from softplace.output.groups import frequency_groups as frequency_groups
    from softplace.output.groups import grouped as grouped
    from softplace.output.groups import grouped_log_softmax as grouped_log_softmax
    from softplace.output.groups import grouped_softmax as grouped_softmax
    from softplace.output.hierarchical import HierarchicalSoftmax as HierarchicalSoftmax
    from softplace.output.hierarchical import Tree as Tree
    from softplace.output.hierarchical import balanced_tree as balanced_tree
    from softplace.output.hierarchical import hierarchical_log_softmax as hierarchical_log_softmax
    from softplace.output.hierarchical import hierarchical_softmax as hierarchical_softmax
    from softplace.output.hierarchical import huffman_tree as huffman_tree
    from softplace.output.isotonic import IsotonicScaling as IsotonicScaling
    from softplace.output.isotonic import choose_penalty as choose_penalty
    from softplace.output.isotonic import fit_isotonic as fit_isotonic
    from softplace.output.logit.estimator import MultinomialLogit as MultinomialLogit
    from softplace.output.parallel import vocabulary_parallel_cross_entropy as vocabulary_parallel_cross_entropy
    from softplace.output.parallel import (
        vocabulary_parallel_linear_cross_entropy as vocabulary_parallel_linear_cross_entropy,
    )
    from softplace.output.parallel import vocabulary_part as vocabulary_part
    from softplace.output.sampled import SampledSoftmax as SampledSoftmax
    from softplace.output.sampled import candidate_softmax as candidate_softmax
    from softplace.output.sampled import nce as nce
    from softplace.output.sampled import sampled_softmax as sampled_softmax
    from softplace.output.samplers import LogUniform as LogUniform
    from softplace.output.samplers import Sampler as Sampler
    from softplace.output.samplers import Uniform as Uniform
    from softplace.output.samplers import Unigram as Unigram

_LAZY = {
    "Adaptive": "softplace.output.adaptive",
    "AdaptiveSoftmax": "softplace.output.adaptive",
    "Calibrator": "softplace.output.calibration",
    "Choices": "softplace.output.choosing",
    "DirichletScaling": "softplace.output.calibration",
    "Draw": "softplace.output.choosing",
    "GroupedSoftmax": "softplace.output.groups",
    "Groups": "softplace.output.groups",
    "HierarchicalSoftmax": "softplace.output.hierarchical",
    "IsotonicScaling": "softplace.output.isotonic",
    "LogUniform": "softplace.output.samplers",
    "MatrixScaling": "softplace.output.calibration",
    "MultinomialLogit": "softplace.output.logit.estimator",
    "PredictionSets": "softplace.output.conformal",
    "RAPS": "softplace.output.conformal",
    "SampledSoftmax": "softplace.output.sampled",
    "Sampler": "softplace.output.samplers",
    "Tail": "softplace.output.adaptive",
    "TemperatureScaling": "softplace.output.calibration",
    "Tree": "softplace.output.hierarchical",
    "Uniform": "softplace.output.samplers",
    "Unigram": "softplace.output.samplers",
    "VectorScaling": "softplace.output.calibration",
    "adaptive_log_softmax": "softplace.output.adaptive",
    "adaptive_softmax": "softplace.output.adaptive",
    "aps_score": "softplace.output.conformal",
    "balanced_tree": "softplace.output.hierarchical",
    "candidate_softmax": "softplace.output.sampled",
    "choose_penalty": "softplace.output.isotonic",
    "coverage": "softplace.output.conformal",
    "fit_dirichlet": "softplace.output.calibration",
    "fit_isotonic": "softplace.output.isotonic",
    "fit_matrix": "softplace.output.calibration",
    "fit_sets": "softplace.output.conformal",
    "fit_temperature": "softplace.output.calibration",
    "fit_vector": "softplace.output.calibration",
    "frequency_groups": "softplace.output.groups",
    "grouped": "softplace.output.groups",
    "grouped_log_softmax": "softplace.output.groups",
    "grouped_softmax": "softplace.output.groups",
    "hierarchical_log_softmax": "softplace.output.hierarchical",
    "hierarchical_softmax": "softplace.output.hierarchical",
    "huffman_tree": "softplace.output.hierarchical",
    "lac_score": "softplace.output.conformal",
    "linear_cross_entropy": "softplace.maps.linear",
    "nce": "softplace.output.sampled",
    "sample": "softplace.output.choosing",
    "sampled_softmax": "softplace.output.sampled",
    "top_k": "softplace.output.choosing",
    "vocabulary_parallel_cross_entropy": "softplace.output.parallel",
    "vocabulary_parallel_linear_cross_entropy": "softplace.output.parallel",
    "vocabulary_part": "softplace.output.parallel",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'softplace.output' has no attribute {name!r}; it has {', '.join(_LAZY)}")


def __dir__() -> list[str]:
    return sorted(_LAZY)

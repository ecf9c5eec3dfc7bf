"""The output: heads and losses, the multinomial logit, calibration and prediction sets."""

from typing import Any

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

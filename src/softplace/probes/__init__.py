"""Probes: measurements on a trained network at a place. Pure functions, tensors in, tensors out, in float64.

Every probe is batched over all leading axes, so one call measures all members of a fleet.
"""

from softplace.probes.calibration import expected_calibration_error as expected_calibration_error
from softplace.probes.calibration import maximum_calibration_error as maximum_calibration_error
from softplace.probes.calibration import squared_calibration_error as squared_calibration_error
from softplace.probes.calibration import sweep_calibration_error as sweep_calibration_error
from softplace.probes.coupling import PushDown as PushDown
from softplace.probes.coupling import jacobian as jacobian
from softplace.probes.coupling import off_diagonal_share as off_diagonal_share
from softplace.probes.coupling import push_down as push_down
from softplace.probes.gradients import gradient_gain as gradient_gain
from softplace.probes.gradients import spectral_norm as spectral_norm
from softplace.probes.rank import correlation_matrix as correlation_matrix
from softplace.probes.rank import effective_rank as effective_rank
from softplace.probes.rank import hoyer_sparsity as hoyer_sparsity
from softplace.probes.rank import image_dimension as image_dimension
from softplace.probes.rank import pairwise_correlation as pairwise_correlation
from softplace.probes.rank import rank_deficiency as rank_deficiency
from softplace.probes.rank import singular_values as singular_values
from softplace.probes.reliability import BrierDecomposition as BrierDecomposition
from softplace.probes.reliability import CalibrationTest as CalibrationTest
from softplace.probes.reliability import ReliabilityDiagram as ReliabilityDiagram
from softplace.probes.reliability import brier_decomposition as brier_decomposition
from softplace.probes.reliability import calibration_test as calibration_test
from softplace.probes.reliability import reliability_diagram as reliability_diagram
from softplace.probes.reliability import wilson_interval as wilson_interval
from softplace.probes.scores import accuracy as accuracy
from softplace.probes.scores import brier_score as brier_score
from softplace.probes.scores import entropy as entropy
from softplace.probes.scores import negative_log_likelihood as negative_log_likelihood

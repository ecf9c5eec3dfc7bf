"""The output: heads and losses, the multinomial logit, calibration and prediction sets."""

from softplace.maps.linear import linear_cross_entropy as linear_cross_entropy
from softplace.output.calibration import Calibrator as Calibrator
from softplace.output.calibration import DirichletScaling as DirichletScaling
from softplace.output.calibration import MatrixScaling as MatrixScaling
from softplace.output.calibration import TemperatureScaling as TemperatureScaling
from softplace.output.calibration import VectorScaling as VectorScaling
from softplace.output.calibration import fit_dirichlet as fit_dirichlet
from softplace.output.calibration import fit_matrix as fit_matrix
from softplace.output.calibration import fit_temperature as fit_temperature
from softplace.output.calibration import fit_vector as fit_vector
from softplace.output.conformal import RAPS as RAPS
from softplace.output.conformal import PredictionSets as PredictionSets
from softplace.output.conformal import aps_score as aps_score
from softplace.output.conformal import coverage as coverage
from softplace.output.conformal import fit_sets as fit_sets
from softplace.output.conformal import lac_score as lac_score
from softplace.output.isotonic import IsotonicScaling as IsotonicScaling
from softplace.output.isotonic import choose_penalty as choose_penalty
from softplace.output.isotonic import fit_isotonic as fit_isotonic

"""Maps: functions from scores to weights, or, in a hidden layer, from pre-activations to activations."""

from softplace.maps.simplex import softmax as softmax
from softplace.maps.simplex import sparsemax as sparsemax

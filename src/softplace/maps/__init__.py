"""Maps: functions from scores to weights, or, in a hidden layer, from pre-activations to activations."""

from softplace.maps.activations import gelu as gelu
from softplace.maps.activations import identity as identity
from softplace.maps.activations import relu as relu
from softplace.maps.activations import sigmoid as sigmoid
from softplace.maps.activations import solu as solu
from softplace.maps.activations import tanh as tanh
from softplace.maps.registry import OWN as OWN
from softplace.maps.registry import Map as Map
from softplace.maps.registry import get as get
from softplace.maps.registry import names as names
from softplace.maps.simplex import softmax as softmax
from softplace.maps.simplex import sparsemax as sparsemax

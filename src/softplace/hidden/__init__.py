"""The hidden place: maps between the layers of a network, and normalisation beside them."""

from softplace.hidden.mlp import Activation as Activation
from softplace.hidden.mlp import Layers as Layers
from softplace.hidden.mlp import forward as forward
from softplace.hidden.mlp import initialise as initialise

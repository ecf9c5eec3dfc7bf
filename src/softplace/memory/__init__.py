"""Memories that a network addresses by a map: Neural Turing Machine and Differentiable Neural Computer."""

from softplace.memory.checkpoint import load as load
from softplace.memory.dnc import DNC as DNC
from softplace.memory.dnc import DNCState as DNCState
from softplace.memory.dnc import DNCTrace as DNCTrace
from softplace.memory.dnc_interface import DNCConfig as DNCConfig
from softplace.memory.lstm import LSTMBaseline as LSTMBaseline
from softplace.memory.models import build as build
from softplace.memory.ntm import NTM as NTM
from softplace.memory.ntm import NTMConfig as NTMConfig
from softplace.memory.ntm import NTMState as NTMState
from softplace.memory.ntm import NTMTrace as NTMTrace
from softplace.memory.training import train as train

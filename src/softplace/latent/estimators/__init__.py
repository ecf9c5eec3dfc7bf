"""Gradient estimators for categorical latent variables: `name(logits, loss, *, samples, generator) -> Estimate`."""

from softplace.latent.estimators._parts import Estimate as Estimate
from softplace.latent.estimators._parts import Loss as Loss
from softplace.latent.estimators._parts import Source as Source
from softplace.latent.estimators.control import rebar as rebar
from softplace.latent.estimators.control import relax as relax
from softplace.latent.estimators.coupled import arsm as arsm
from softplace.latent.estimators.coupled import disarm as disarm
from softplace.latent.estimators.exact import LIMIT as LIMIT
from softplace.latent.estimators.exact import marginalise as marginalise
from softplace.latent.estimators.registry import ESTIMATORS as ESTIMATORS
from softplace.latent.estimators.registry import Estimator as Estimator
from softplace.latent.estimators.registry import get as get
from softplace.latent.estimators.relaxed import anneal as anneal
from softplace.latent.estimators.relaxed import gapped_straight_through as gapped_straight_through
from softplace.latent.estimators.relaxed import gumbel_softmax as gumbel_softmax
from softplace.latent.estimators.relaxed import gumbel_softmax_log_prob as gumbel_softmax_log_prob
from softplace.latent.estimators.relaxed import rao_blackwell_gumbel as rao_blackwell_gumbel
from softplace.latent.estimators.relaxed import straight_through as straight_through
from softplace.latent.estimators.score_function import MovingAverage as MovingAverage
from softplace.latent.estimators.score_function import SignalMoments as SignalMoments
from softplace.latent.estimators.score_function import nvil as nvil
from softplace.latent.estimators.score_function import reinforce as reinforce

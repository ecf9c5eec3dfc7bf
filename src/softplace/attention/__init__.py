"""Attention with any map: functions and modules, translators, alignments."""

from softplace.attention.alignment import aligned as aligned
from softplace.attention.alignment import alignment_error_rate as alignment_error_rate
from softplace.attention.alignment import pharaoh as pharaoh
from softplace.attention.alignment import read_pharaoh as read_pharaoh
from softplace.attention.functions import Projections as Projections
from softplace.attention.functions import additive_attention as additive_attention
from softplace.attention.functions import dot_product_attention as dot_product_attention
from softplace.attention.functions import multi_head_attention as multi_head_attention
from softplace.attention.modules import AdditiveAttention as AdditiveAttention
from softplace.attention.modules import MultiHeadAttention as MultiHeadAttention
from softplace.attention.rnnsearch import RNNEncDec as RNNEncDec
from softplace.attention.rnnsearch import RNNSearch as RNNSearch
from softplace.attention.search import Hypothesis as Hypothesis
from softplace.attention.search import beam_search as beam_search
from softplace.attention.search import greedy as greedy
from softplace.attention.search import sample as sample
from softplace.attention.transformer import Transformer as Transformer

"""A prompt computed once for its two completions, in one row without padding: `[P C R | P C R ...]`.

P: the prompt's tokens, C: the chosen's, R: the rejected's. layout.py says where they stand, attention.py and varlen.py
what each token sees, head.py how log-probs are computed, probe.py whether a model computes all this exactly.
"""

from drift.training.shared_prefix.attention import NAME as ATTENTION
from drift.training.shared_prefix.head import HeadChoice
from drift.training.shared_prefix.layout import PackedRow, packed_logps
from drift.training.shared_prefix.probe import Packing, base_model, choose_packing

__all__ = ["ATTENTION", "HeadChoice", "PackedRow", "Packing", "base_model", "choose_packing", "packed_logps"]

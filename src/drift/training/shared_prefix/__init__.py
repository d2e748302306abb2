"""A prompt computed once for its two completions, in one row without padding: `[P C R | P C R ...]`."""

from drift.training.shared_prefix.attention import NAME as ATTENTION
from drift.training.shared_prefix.head import Head
from drift.training.shared_prefix.layout import PackedRow, packed_logps
from drift.training.shared_prefix.probe import Packing, base_model, choose_packing

__all__ = ["ATTENTION", "Head", "PackedRow", "Packing", "base_model", "choose_packing", "packed_logps"]

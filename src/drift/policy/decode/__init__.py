"""Prompt ids in, completions out, each from its own random stream (`decode_batch`)."""

from drift.policy.decode.durable import Generated, make_durably
from drift.policy.decode.loop import decode_batch, pick, plan_batches

__all__ = ["Generated", "decode_batch", "make_durably", "pick", "plan_batches"]

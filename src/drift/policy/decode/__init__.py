"""Prompt ids in, completions out, each from its own random stream (`generate`)."""

from drift.policy.decode.durable import Generated, make_durably
from drift.policy.decode.loop import decode_batch, generate, pick, plan_batches

__all__ = ["Generated", "decode_batch", "generate", "make_durably", "pick", "plan_batches"]

"""Prompt ids in, completions out, each from a random stream of its own: `generate`."""

from drift.policy.decode.durable import Generated, make_durably
from drift.policy.decode.loop import decode_batch, generate
from drift.policy.decode.pick import pick
from drift.policy.decode.plan import plan_batches

__all__ = ["Generated", "decode_batch", "generate", "make_durably", "pick", "plan_batches"]

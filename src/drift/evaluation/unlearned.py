"""Unlearned pairs: disliked replies that the policy no longer gives. Pushing them further only does harm.

DEVIATION: the paper trains on every pair in every iteration. With a fixed y- the gradient never vanishes, so here (with
`recipe.retire_below: c`) a pair retires once log pi_k(y-|x) - log pi_0(y-|x) < -c, where pi_0 is the warm start.
"""

from pathlib import Path

from drift.config import PolicySettings
from drift.policy.logps import ReplyLogps, reply_logps
from drift.policy.spread import policy_for_pieces
from drift.records import ChatMessage, Counts, Finish, PromptItem, read_jsonl, write_jsonl


def find_unlearned(
    out: Path,
    policy: Path | str,
    warm: Path | str,
    prompts: Path,
    retire_below: float,
    policy_settings: PolicySettings,
    max_length: int,
) -> Counts:
    """Write the prompt_ids of the items whose disliked reply lost more than `retire_below` nats, one per line."""
    items = [item for item in read_jsonl(prompts, PromptItem) if item.rejected is not None]
    requests, tools = [item.prompt for item in items], [item.tools for item in items]
    rejected: list[tuple[ChatMessage, Finish]] = [
        (item.rejected, item.rejected_finish) for item in items if item.rejected
    ]

    def measured(source: Path | str) -> list[ReplyLogps | None]:
        """The block ends the workers, so that none of them holds both policies."""
        with policy_for_pieces(source, policy_settings) as loaded:
            return reply_logps(loaded, requests, rejected, max_length, tools)

    now, before = measured(policy), measured(warm)
    unlearned = [
        item.prompt_id
        for item, after, start in zip(items, now, before, strict=True)
        if after and start and after.total - start.total < -retire_below
    ]
    return {"unlearned": write_jsonl(out, unlearned), "of": len(items)}

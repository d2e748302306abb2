"""Which prompts are decoded together: like lengths, within a budget of tokens."""

from collections.abc import Sequence

from drift.config import SamplingSettings


def plan_batches(lengths: Sequence[int], groups: Sequence[str], sampling: SamplingSettings) -> list[list[int]]:
    """Rows to batches, longest prompts first, so that memory that runs out does so at once.

    Rows of a group (a conversation) stay side by side: what they have in common is computed, or found in a server's
    cache, while it is warm. A batch's rows times (longest prompt + new tokens) stay within `batch_tokens`.
    """
    longest_of: dict[str, int] = {}
    for length, group in zip(lengths, groups, strict=True):
        longest_of[group] = max(length, longest_of.get(group, 0))
    order = sorted(range(len(lengths)), key=lambda row: (-longest_of[groups[row]], groups[row], -lengths[row], row))
    batches: list[list[int]] = []
    width = 0
    for row in order:
        width = max(width, lengths[row] + sampling.max_new_tokens)
        if batches and (len(batches[-1]) + 1) * width <= sampling.batch_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
            width = lengths[row] + sampling.max_new_tokens
    return batches

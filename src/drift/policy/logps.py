"""Log-probs of given replies to given prompts, for measuring a policy; training has its own exact pass over pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from drift.policy.chat import encode_completion, encode_prompt
from drift.policy.model import Policy
from drift.records import ChatMessage, Finish

BATCH_TOKENS = 16384


@dataclass(frozen=True, slots=True)
class ReplyLogps:
    """`total`: summed log-prob of a reply, nats; `tokens`: how many tokens it has, its end included."""

    total: float
    tokens: int

    @property
    def per_token(self) -> float:
        return self.total / self.tokens


def reply_logps(
    policy: Policy,
    conversations: Sequence[Sequence[ChatMessage]],
    replies: Sequence[tuple[str, Finish]],
    max_length: int,
) -> list[ReplyLogps | None]:
    """In the order given; None where prompt and reply do not fit into `max_length` tokens together.

    Only a reply that came to its end (`stop`) is scored with its end token.
    """
    found: list[ReplyLogps | None] = [None] * len(replies)
    rows: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for row, (messages, (reply, finish)) in enumerate(zip(conversations, replies, strict=True)):
        completion = encode_completion(policy.tokenizer, reply, finish)
        prompt = encode_prompt(policy.tokenizer, messages, max_length - len(completion))
        if prompt is not None:
            rows[row] = (prompt.ids, completion)
    for batch in _batches({row: len(prompt) + len(completion) for row, (prompt, completion) in rows.items()}):
        totals = _sums(policy, [rows[row] for row in batch])
        for row, total in zip(batch, totals, strict=True):
            found[row] = ReplyLogps(total, len(rows[row][1]))
    return found


def _batches(lengths: dict[int, int]) -> list[list[int]]:
    """Rows of like length together, longest first, each batch within BATCH_TOKENS."""
    batches: list[list[int]] = []
    for row in sorted(lengths, key=lambda row: -lengths[row]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= BATCH_TOKENS:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


@torch.inference_mode()
def _sums(policy: Policy, rows: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[float]:
    """Right-padded, log-softmax in float32, head only from the first completion on."""
    width = max(len(prompt) + len(completion) for prompt, completion in rows)
    first = min(len(prompt) for prompt, _ in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    wanted = torch.zeros((len(rows), width), dtype=torch.bool)
    for row, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[row, :end] = torch.tensor([*prompt, *completion])
        mask[row, :end] = 1
        wanted[row, len(prompt) : end] = True
    ids, mask, wanted = (tensor.to(policy.device) for tensor in (ids, mask, wanted))
    logits = policy.model.eval()(
        input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=width - first + 1
    ).logits[:, :-1]
    logps = logits.float().log_softmax(-1).gather(-1, ids[:, first:, None]).squeeze(-1)
    return (logps * wanted[:, first:]).sum(-1).tolist()

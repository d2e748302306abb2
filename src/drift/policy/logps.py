"""Log-probs of fixed replies to fixed prompts, for measuring a policy."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from drift.policy.chat import encode_completion, encode_prompt
from drift.policy.model import Policy, memory_for
from drift.policy.padded import PaddedRows, padded_logps
from drift.policy.spread import AnyPolicy, each_on
from drift.progress import report_progress
from drift.records import ChatMessage, Finish, Reason

BATCH_TOKENS = 16384
"""Rows of a batch times the length of its longest row, at most."""
LOGIT_BYTES = 2**31
"""Of the logits in float32 that are computed at once. A vocabulary of 150,000 tokens has 10 GB in a whole batch."""


@dataclass(frozen=True, slots=True)
class ReplyLogps:
    """`total`: summed log-prob of a reply, nats; `tokens`: its number of tokens, the end token included."""

    total: float
    tokens: int

    @property
    def per_token(self) -> float:
        return self.total / self.tokens


def reply_logps(
    policy: AnyPolicy,
    conversations: Sequence[Sequence[ChatMessage]],
    replies: Sequence[tuple[ChatMessage, Finish]],
    max_length: int,
    tools: Sequence[str | None] = (),
) -> list[ReplyLogps | None]:
    """The log-probs of each reply after its conversation, in order. `tools`: the schemas of each conversation.

    None: the reply has no token, does not fit into `max_length` tokens or the model's positions with its prompt, or is
    nothing that the chat template shows. Only a complete reply (`stop`) is scored with its end token.
    """
    max_length = min(max_length, policy.facts.context_length)
    scored: list[ReplyLogps | None] = [None] * len(replies)
    rows: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    schemas = tools or [None] * len(replies)
    for row, (messages, (reply, finish), own) in enumerate(zip(conversations, replies, schemas, strict=True)):
        completion = encode_completion(policy.chat, messages, reply, finish, own)
        if isinstance(completion, Reason) or not completion:
            continue
        prompt = encode_prompt(policy.chat, messages, max_length - len(completion), tools=own)
        if not isinstance(prompt, Reason):
            rows[row] = (prompt.ids, completion)
    for row, logps in zip(rows, logps_of_ids(policy, list(rows.values())), strict=True):
        scored[row] = logps
    return scored


PromptedRows = Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
"""The ids of prompts, each with those of a completion."""


def logps_of_ids(policy: AnyPolicy, rows: PromptedRows) -> list[ReplyLogps]:
    """The log-probs of each completion's ids after its prompt's, in order. Every completion has at least one token."""
    batches = _batches({row: len(prompt) + len(completion) for row, (prompt, completion) in enumerate(rows)})
    pieces = [RowsPiece(f"batch {n} of log-probs", [rows[row] for row in batch]) for n, batch in enumerate(batches)]
    scored: dict[int, ReplyLogps] = {}
    for number, totals in each_on(policy, _sums, pieces):
        batch = batches[number]
        scored |= {row: ReplyLogps(total, len(rows[row][1])) for row, total in zip(batch, totals, strict=True)}
        report_progress(len(scored), len(rows))
    return [scored[row] for row in range(len(rows))]


@dataclass(frozen=True, slots=True)
class RowsPiece:
    """A batch."""

    name: str
    rows: PromptedRows


def _batches(lengths: dict[int, int]) -> list[list[int]]:
    """Rows of similar length together, longest first, each batch within BATCH_TOKENS."""
    batches: list[list[int]] = []
    for row in sorted(lengths, key=lambda row: -lengths[row]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= BATCH_TOKENS:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


@torch.inference_mode()
def _sums(policy: Policy, piece: RowsPiece) -> list[float]:
    """Log-probs summed over each completion, nats. The forward pass computes in the type of the weights."""
    width = max(len(prompt) + len(completion) for prompt, completion in piece.rows)
    at_once = max(1, LOGIT_BYTES // (4 * policy.model.config.get_text_config().vocab_size * width))
    sums: list[float] = []
    for start in range(0, len(piece.rows), at_once):
        part = piece.rows[start : start + at_once]
        rows = PaddedRows.of(part, pad_token_id=0)
        with memory_for(
            "log-probs",
            f"a batch of {len(part)} replies and {rows.padded_tokens} tokens",
            "give this process more memory, or lower evaluation.max_length if a single reply is that long",
        ):
            logps = padded_logps(policy.model.eval(), rows.to(policy.device), torch.float32)  # [T]
        sums += [float(own.sum()) for own in logps.split([len(completion) for _, completion in part])]
    return sums

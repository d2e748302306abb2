"""Perplexity and KL on ordinary conversations: held-out ones of the store that nobody complained about.

They show how far NEW moved.

perplexity: the log-prob of the logged reply, which is a good one or at least not a disliked one. It should not fall.
kl: KL(OLD || NEW) between the next-token distributions, averaged over the tokens of the reply. It should stay small.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from drift.disk import DurableJsonl
from drift.errors import DataError
from drift.evals.pairwise.heldout import trained_in
from drift.policy.chat import encode_completion, encode_prompt
from drift.policy.model import Policy, tokenizer_id
from drift.policy.padded import PaddedRows
from drift.progress import report_note, report_progress
from drift.records import ChatMessage, Finish, Reason, Split, stable_hash
from drift.statistics import units_in_words, units_of
from drift.store import Store
from drift.turns import prompt_of

UNTRAINED_SPLITS: tuple[Split, ...] = ("test", "validation", "stop")
"""Splits that no policy was trained on."""

FEWEST, FEWEST_UNITS = 20, 6
"""With fewer ordinary replies, or replies of fewer users (of one user: chats), the guard says nothing: each user counts
once, and five decide nothing."""

POSITIONS = 256
"""Token positions whose full distributions are in memory at once."""


@dataclass(frozen=True, slots=True)
class OrdinaryReply:
    """A logged reply, one of each conversation. `user`, `chat`: whose it is, as `Conversation` says."""

    item_id: str
    conversation_id: str
    user: str
    chat: str
    prompt: tuple[ChatMessage, ...]
    reply: ChatMessage
    finish: Finish
    tools: str | None


@dataclass(frozen=True, slots=True)
class OrdinaryMeasure:
    """`old_logp`, `new_logp`: of the whole reply, nats. `tokens`: of the reply in OLD's tokens. `kl`: mean over these,
    nats; None if the models have different vocabularies."""

    item_id: str
    old_logp: float
    new_logp: float
    tokens: int
    kl: float | None


def ordinary_replies(store: Store, count: int, others: Sequence[Store] = ()) -> list[OrdinaryReply]:
    """At most `count`, drawn by hash. `others`: the same store as other runs split it: what these were trained on is
    left out too. Raises DataError if there are too few of them, or of the users or chats that the guards count."""
    store.require_conversations()
    trained = trained_in(others)
    held_out = (reply for split in UNTRAINED_SPLITS for reply in _replies(store, split))
    replies = [reply for reply in held_out if reply.conversation_id not in trained]
    units = len(set(units_of(replies)))
    if len(replies) < FEWEST or units < FEWEST_UNITS:
        whose = "" if units == len(replies) else f", of {units_in_words(replies)}"
        raise DataError(
            f"{store.path}: only {len(replies)} held-out conversations without a complaint{whose}, and perplexity and "
            f"kl need {FEWEST}, of {FEWEST_UNITS} users or chats. Ingest and label more logs, or leave these guards "
            "out: --without perplexity --without kl."
        )
    return sorted(replies, key=lambda reply: stable_hash("ordinary", reply.item_id))[:count]


def _replies(store: Store, split: Split) -> Iterator[OrdinaryReply]:
    for conversation, labels in store.labelled(split):
        if any(label.label == "DSAT" for label in labels):
            continue
        usable = []
        for i, message in enumerate(conversation.messages):
            if message.role == "assistant" and message.content.strip() and not message.tool_calls:
                prompt = prompt_of(conversation.messages, i)
                if not isinstance(prompt, Reason) and not conversation.has_media(*range(i)):
                    usable.append((i, prompt, message.chat()))
        if usable:
            i, prompt, reply = min(usable, key=lambda row: stable_hash(conversation.conversation_id, row[0]))
            item_id = stable_hash(conversation.conversation_id, i)
            finish = conversation.finish_of(i)
            ids = conversation.conversation_id, conversation.user, conversation.chat
            yield OrdinaryReply(item_id, *ids, prompt, reply, finish, conversation.tools)


Encoded = tuple[tuple[int, ...], tuple[int, ...]]
"""The ids of a prompt and of the reply."""


def measure_ordinary(
    old: Policy, new: Policy, replies: Sequence[OrdinaryReply], max_length: int, folder: Path
) -> dict[str, OrdinaryMeasure | None]:
    """By item; None: only OLD can read it. What does not fit into `max_length` tokens for OLD either, or what its
    template does not show, is missing, and a note counts it: NEW did not cause that.

    Measures are kept in `folder`: the same models are not asked twice.
    """
    same = tokenizer_id(old.tokenizer) == tokenizer_id(new.tokenizer)
    path = folder / f"ordinary-{old.answers_id}-{new.answers_id}-{max_length}.jsonl"
    with DurableJsonl(path, OrdinaryMeasure) as file:
        measured: dict[str, OrdinaryMeasure | None] = {row.item_id: row for row in file.rows()}
        for number, reply in enumerate(replies, 1):
            of_old = None if reply.item_id in measured else _encoded(old, reply, max_length)
            if of_old is not None:
                of_new = _encoded(new, reply, max_length)
                measured[reply.item_id] = row = of_new and _measure((old, of_old), (new, of_new), reply.item_id, same)
                if row is not None:
                    file.append(row)
            report_progress(number, len(replies))
    read = {reply.item_id: measured[reply.item_id] for reply in replies if reply.item_id in measured}
    if len(read) < len(replies):
        report_note(
            f"{len(replies) - len(read)} of {len(replies)} ordinary replies are left out: with their request they have "
            f"more than {max_length} tokens, or the chat template does not show them"
        )
    return read


def _measure(
    old: tuple[Policy, Encoded], new: tuple[Policy, Encoded], item_id: str, same_tokens: bool
) -> OrdinaryMeasure:
    logits, totals, counts = [], [], []
    for policy, ids in (old, new):
        of_policy, targets = _reply_logits(policy, *ids)
        logits.append(of_policy)
        parts = zip(of_policy.split(POSITIONS), targets.split(POSITIONS), strict=True)
        totals.append(sum(float(torch.nn.functional.cross_entropy(a.float(), b, reduction="sum")) for a, b in parts))
        counts.append(len(targets))
    comparable = same_tokens and logits[0].shape == logits[1].shape
    kl = kl_per_token(logits[0], logits[1].to(logits[0].device)) if comparable else None
    return OrdinaryMeasure(item_id, -totals[0], -totals[1], counts[0], kl)


def _encoded(policy: Policy, reply: OrdinaryReply, max_length: int) -> Encoded | None:
    """The ids of the prompt and of the reply."""
    completion = encode_completion(policy.chat, reply.prompt, reply.reply, reply.finish, reply.tools)
    if isinstance(completion, Reason) or not completion:
        return None
    room = min(max_length, policy.context_length) - len(completion)
    prompt = encode_prompt(policy.chat, reply.prompt, room, tools=reply.tools) if room > 0 else Reason.PROMPT_TOO_LONG
    return None if isinstance(prompt, Reason) else (prompt.ids, completion)


@torch.inference_mode()
def _reply_logits(
    policy: Policy, prompt: tuple[int, ...], completion: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits [T, V] that predict the reply's tokens, and these tokens: int64 [T]."""
    row = PaddedRows.of([(prompt, completion)], pad_token_id=0).to(policy.device)
    count = len(completion)
    output = policy.model.eval()(
        input_ids=row.input_ids, attention_mask=row.attention_mask, use_cache=False, logits_to_keep=count + 1
    )
    return output.logits[0, -count - 1 : -1], row.input_ids[0, -count:]


@torch.inference_mode()
def kl_per_token(old: torch.Tensor, new: torch.Tensor) -> float:
    """KL(old || new) in nats, the mean over positions. logits of any float type [T, V]; computed in float32."""
    total = 0.0
    for old_part, new_part in zip(old.split(POSITIONS), new.split(POSITIONS), strict=True):
        old_logp, new_logp = old_part.float().log_softmax(-1), new_part.float().log_softmax(-1)
        total += float((old_logp.exp() * (old_logp - new_logp)).sum())
    return total / len(old)
